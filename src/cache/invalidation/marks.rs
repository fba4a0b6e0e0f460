//! Invalidation marks: what invalidations leave behind, and what they make of an entry.
//!
//! ```text
//!  database ─▶ newest stamp of any mark        an entry with a later one: nothing concerns it, one comparison
//!           ─▶ summary: the same by some bits of a tag's id, and of all that is no tag's; most others pass here
//!           ─▶ floor     (INVALIDATE ALL)  ┐
//!           ─▶ tag 0     (by its id)       │
//!           ─▶ tag 1 …                     ├─ each: hard stamp │ soft stamps, their times and ramps │ guards
//!           ─▶ prefixes  (sorted)          │
//!           ─▶ patterns  (a short list)    ┘
//! ```
//!
//! Invalidating is writing one stamp, whatever it hits. An entry is *dead* when one of the marks that concern it has a hard
//! stamp no earlier than its own, *stale* when only a soft one; with `OVER` from a moment of its own on. An entry carries
//! the stamp at which its load began: so the same comparison judges what was being loaded meanwhile, also by tags that only
//! the fill names.
//!
//! Hard and soft stamps stand apart, since neither undoes the other, and each only moves forward. Several soft ones are
//! kept: an entry is stale since the first that concerns it. Guards (loads that begin within them are not trusted either)
//! are kept on the monotonic clock, ramps on the wall clock; only order is judged by stamps.
//!
//! Tag ids are server-wide, since entries move between databases, and marks are per database. A tag's mark is forgotten
//! with its id ([`Invalidations::forget_tag`]), which nothing holds by then; those of prefixes and patterns when a sweep that began
//! after them has been everywhere ([`Invalidations::finish_sweep`]); the floor never. What is loaded or arrives later and is older than a
//! forgotten mark is not trusted: more is invalidated, never less.
//!
//! Shared with the host's callbacks, which run on the main thread while a command of ours may hold the state: hence the
//! cells. No method calls out.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::database::{Database, Limits};
use super::forgotten::Forgotten;
use super::mark::{InvalidationMark, MarkTarget, Verdict};
use super::record::Record;
use super::summary::{SUMMARY_SLOTS, StampSummary};
use super::tag_index::TagIndex;
use crate::cache::clock::{self, Now, Stamp};
use crate::cache::entry::{EntryMut, EntryRef, Freshness};
use crate::cache::glob::Glob;
use crate::cache::ids::TagId;
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;

/// Databases whose newest marks are known apart. Those beyond share a number with one of these: more entries are looked at.
const DATABASES: usize = 1024;

/// The marks of one node, and the members of its tags.
pub struct Invalidations {
    newest: Box<[Cell<u64>]>,
    /// Of the databases below the same number, once one has a mark.
    summaries: Box<[OnceCell<Box<StampSummary>>]>,
    limits: Cell<Limits>,
    /// Stamps have begun anew in this life: there may be entries with later ones than will be made for long.
    stamps_restarted: Cell<bool>,
    databases: RefCell<BTreeMap<i32, Box<Database>>>,
    /// Lists of databases that were flushed, and the room of many names, to be freed little by little.
    deferred_frees: RefCell<Vec<TagIndex>>,
    /// Databases to which something has come that was dead on arrival: no walk has been asked for that finds it.
    dead_on_arrival: RefCell<BTreeSet<i32>>,
}

impl std::fmt::Debug for Invalidations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invalidations").finish_non_exhaustive()
    }
}

impl Default for Invalidations {
    fn default() -> Self {
        Invalidations {
            newest: (0..DATABASES).map(|_| Cell::new(0)).collect(),
            summaries: (0..DATABASES).map(|_| OnceCell::new()).collect(),
            limits: Cell::default(),
            stamps_restarted: Cell::default(),
            databases: RefCell::default(),
            deferred_frees: RefCell::default(),
            dead_on_arrival: RefCell::default(),
        }
    }
}

impl Invalidations {
    /// What the entry under `name` is good for at `now`, marks considered.
    #[inline]
    pub fn freshness(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Freshness {
        if entry.stamp().0 > self.newest[index(db)].get() {
            return entry.freshness(now);
        }
        self.freshness_by_marks(db, name, entry, now)
    }

    #[inline(never)]
    fn freshness_by_marks(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Freshness {
        if self.is_unaffected(db, entry) {
            return entry.freshness(now);
        }
        match self.verdict_by_records(db, name, entry, now) {
            Verdict::Untouched => entry.freshness(now),
            Verdict::Later(at) => entry.freshness(now).until(at, now),
            Verdict::Stale(since) => entry.freshness_stale_since(since, now),
            Verdict::Dead => Freshness::Dead,
        }
    }

    /// What the marks of a database make of the entry under `name`.
    pub fn verdict(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        if entry.stamp().0 > self.newest[index(db)].get() || self.is_unaffected(db, entry) {
            return Verdict::Untouched;
        }
        self.verdict_by_records(db, name, entry, now)
    }

    /// The same of an entry for which a few words were not enough.
    fn verdict_by_records(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        if self.stamps_restarted.get() && !clock::is_believable(entry.stamp(), now) {
            return Verdict::Dead;
        }
        self.read(db, Verdict::Untouched, |marks| {
            // What `RENAME`, `MOVE` or `COPY` brought may be older than a mark of its name that is forgotten.
            if entry.stamp().0 <= marks.forgotten.by_name && !entry.is_indexed() {
                return Verdict::Dead;
            }
            marks.verdict_by_tags(name, entry, now).or_stricter(marks.verdict_by_name(name, entry.stamp().0, now))
        })
    }

    /// The same of prefixes and patterns alone, which are forgotten one day: a sweep writes it down.
    pub fn verdict_by_name(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        self.read(db, Verdict::Untouched, |marks| marks.verdict_by_name(name, entry.stamp().0, now))
    }

    /// Writes the verdict into an entry that leaves the reach of these marks.
    pub fn apply_verdict(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>, now: Now) {
        let verdict = self.verdict(db, name, entry.as_ref(), now);
        verdict.apply_to(entry);
    }

    /// Why a load of something with these tags, to be stored under `name`, is not to be trusted, if it is not.
    pub fn conflict(
        &self,
        db: i32,
        name: &[u8],
        tags: impl Iterator<Item = TagId>,
        token: Token,
        now: Now,
    ) -> Option<LoadConflict> {
        self.read(db, None, |marks| {
            let mut conflict = marks.all.conflict(name, token, now);
            let mut add = |record: &Record| {
                conflict = match (conflict, record.conflict(name, token, now)) {
                    (Some(LoadConflict::Dead), _) | (_, Some(LoadConflict::Dead)) => Some(LoadConflict::Dead),
                    (Some(LoadConflict::Stale(a)), Some(LoadConflict::Stale(b))) => Some(LoadConflict::Stale(a.min(b))),
                    (one, other) => one.or(other),
                }
            };
            tags.filter_map(|tag| marks.tags.get(&tag)).for_each(&mut add);
            marks.for_each_match(name, &mut add);
            conflict
        })
    }

    /// Takes an invalidation. (How many entries it hits is to be asked before.)
    pub fn add(&self, db: i32, target: MarkTarget<'_>, mark: InvalidationMark) {
        let limits = self.limits.get();
        self.update(db, |marks| {
            let stamp = mark.stamp.0;
            let is_latest = marks.is_latest(stamp);
            match target {
                MarkTarget::All => {
                    marks.all.add(mark);
                    if is_latest {
                        (marks.counted_since, marks.entries, marks.hit_entries) =
                            (stamp.max(marks.counted_since), 0, 0);
                    }
                }
                MarkTarget::Tag(tag) => {
                    let record = marks.tags.entry(tag).or_default();
                    record.add(mark);
                    *marks.newest_by_tag.get_or_create(tag.0 as usize) = record.newest();
                    if is_latest {
                        marks.tag_index.restart_count(tag, stamp);
                    }
                }
                MarkTarget::Prefix(prefix) => match marks.prefixes.get_mut(prefix) {
                    Some(record) => record.add(mark),
                    None => {
                        marks.prefixes.insert(prefix.into(), Record::new(mark));
                    }
                },
                MarkTarget::Pattern(pattern) => {
                    match marks.patterns.iter_mut().find(|(glob, _)| glob.pattern() == pattern) {
                        Some((_, record)) => record.add(mark),
                        None => marks.patterns.push((Glob::new(pattern), Record::new(mark))),
                    }
                }
            }
            if matches!(target, MarkTarget::Prefix(_) | MarkTarget::Pattern(_)) {
                marks.newest_by_name = marks.newest_by_name.max(mark.stamp.0);
                marks.enforce_limits(limits);
            }
        });
        raise(&self.newest[index(db)], mark.stamp.0);
        if let Some(summary) = self.make_summary(db) {
            let tag = |tag: TagId| &summary.tags[tag.0 as usize % SUMMARY_SLOTS];
            raise(if let MarkTarget::Tag(id) = target { tag(id) } else { &summary.others }, mark.stamp.0);
        }
    }

    /// Whether a few words are enough to know that no mark concerns an entry, wherever it stands.
    #[inline]
    fn is_unaffected(&self, db: i32, entry: EntryRef<'_>) -> bool {
        let Some(summary) = self.summary(db).filter(|_| !self.stamps_restarted.get()) else { return false };
        let stamp = entry.stamp().0;
        let is_older = |tag: TagId| stamp > summary.tags[tag.0 as usize % SUMMARY_SLOTS].get();
        // What came unannounced is to be compared with forgotten marks, too.
        stamp > summary.others.get() && entry.is_indexed() && entry.tags().all(is_older)
    }

    fn summary(&self, db: i32) -> Option<&StampSummary> {
        self.summaries.get(db as usize)?.get().map(|summary| &**summary)
    }

    fn make_summary(&self, db: i32) -> Option<&StampSummary> {
        Some(self.summaries.get(db as usize)?.get_or_init(Box::default))
    }

    /// An entry has come to stand under `name` in a database.
    pub fn index_entry(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>) {
        let most = self.limits.get().members;
        self.update(db, |marks| {
            let (stamp, floor) = (entry.as_ref().counted_stamp(), marks.counted_since);
            let latest = |tag: TagId| marks.newest_by_tag.get(tag.0 as usize).copied().unwrap_or(0);
            let hit = marks.tag_index.add(name, entry, most, latest, floor);
            if stamp > floor {
                marks.entries += 1;
                marks.hit_entries += u64::from(hit);
            }
            marks.newest_entry = marks.newest_entry.max(stamp);
            entry.set_indexed();
        });
    }

    /// A copy has come to stand under `name` in a database: the marks of that name may be forgotten before a sweep comes by,
    /// so it is to say itself what they make of it.
    pub fn index_copy(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>, now: Now) {
        self.apply_verdict(db, name, entry, now);
        if entry.as_ref().freshness(now) == Freshness::Dead {
            self.dead_on_arrival.borrow_mut().insert(db);
        }
        self.index_entry(db, name, entry);
    }

    /// An entry stands under `name` in a database no more.
    pub fn unindex_entry(&self, db: i32, name: &[u8], entry: EntryRef<'_>) {
        if !entry.is_indexed() {
            return;
        }
        self.update(db, |marks| {
            let (stamp, floor) = (entry.counted_stamp(), marks.counted_since);
            let hit = marks.tag_index.remove(name, entry, floor);
            self.deferred_frees.borrow_mut().extend(marks.tag_index.take_deferred_frees());
            if stamp > floor {
                marks.entries = marks.entries.saturating_sub(1);
                marks.hit_entries = marks.hit_entries.saturating_sub(u64::from(hit)).min(marks.entries);
            }
        });
    }

    /// Databases to which something dead has come since this was asked last.
    pub fn take_dead_on_arrival(&self) -> BTreeSet<i32> {
        self.dead_on_arrival.take()
    }

    /// Whether a mark of this stamp is later than every entry that has come: one that is said once more is not, and what it
    /// hits is not counted.
    pub fn is_latest(&self, db: i32, stamp: Stamp) -> bool {
        self.read(db, true, |marks| marks.is_latest(stamp.0))
    }

    /// How many entries `ALL` would hit that nothing has hit yet.
    pub fn count_hits_of_all(&self, db: i32) -> u64 {
        self.read(db, 0, |marks| marks.entries.saturating_sub(marks.hit_entries))
    }

    /// How many entries a tag would hit that neither it nor `ALL` has hit yet.
    pub fn count_hits_of_tag(&self, db: i32, tag: TagId) -> u64 {
        self.update(db, |marks| marks.tag_index.count_hits(tag, marks.counted_since))
    }

    /// Whether an entry is among those that [`count_hits_of_all`](Self::count_hits_of_all) counts.
    pub fn is_counted(&self, db: i32, entry: EntryRef<'_>) -> bool {
        let is_counted =
            |marks: &Database| entry.counted_stamp() > marks.counted_since && !marks.tag_index.is_hit(entry);
        entry.is_indexed() && self.read(db, false, is_counted)
    }

    /// Tags have hit so many entries that nothing had hit.
    pub fn add_hits(&self, db: i32, entries: u64) {
        self.update(db, |marks| marks.hit_entries = (marks.hit_entries + entries).min(marks.entries));
    }

    /// Asks about the members of a database's tags.
    pub fn with_tag_index<R>(&self, db: i32, read: impl FnOnce(&TagIndex) -> R) -> Option<R> {
        self.read(db, None, |marks| Some(read(&marks.tag_index)))
    }

    /// How many members of a tag are listed, in all databases.
    pub fn count_listed(&self, tag: TagId) -> u64 {
        self.databases.borrow().values().map(|marks| marks.tag_index.count_listed(tag)).sum()
    }

    /// A database, or all, was flushed: there is nothing to hit, and nothing left to sweep. What is being loaded is the
    /// concern of the flush epochs.
    pub fn flushed(&self, db: Option<i32>) {
        for (at, marks) in self.databases.borrow_mut().iter_mut() {
            if db.is_none_or(|db| db == *at) {
                self.deferred_frees.borrow_mut().push(std::mem::take(&mut marks.tag_index));
                (marks.entries, marks.hit_entries, marks.newest_entry) = (0, 0, 0);
                marks.swept = marks.swept.max(marks.newest_by_name);
            }
        }
    }

    /// Whether anything is left to be freed by [`free_some`](Self::free_some).
    pub fn has_deferred_frees(&self) -> bool {
        !self.deferred_frees.borrow().is_empty()
    }

    /// Frees a part of what a flush, or the last of many members, has left; false when nothing is.
    pub fn free_some(&self) -> bool {
        let mut deferred_frees = self.deferred_frees.borrow_mut();
        if deferred_frees.last_mut().is_some_and(|members| !members.free_some()) {
            deferred_frees.pop();
        }
        !deferred_frees.is_empty()
    }

    /// Two databases have exchanged their keys: their marks go with them.
    pub fn swap(&self, a: i32, b: i32) {
        let (newest_a, newest_b) = (&self.newest[index(a)], &self.newest[index(b)]);
        let newest = newest_a.get().max(newest_b.get()); // of both: others may share the numbers
        newest_a.set(newest);
        newest_b.set(newest);
        match (self.make_summary(a), self.make_summary(b)) {
            (Some(a), Some(b)) => a.cells().zip(b.cells()).for_each(|(a, b)| a.swap(b)),
            (one, other) => {
                one.into_iter().chain(other).flat_map(StampSummary::cells).for_each(|cell| cell.set(newest))
            }
        }
        let mut databases = self.databases.borrow_mut();
        let (of_a, of_b) = (databases.remove(&a), databases.remove(&b));
        databases.extend(of_a.map(|marks| (b, marks)).into_iter().chain(of_b.map(|marks| (a, marks))));
    }

    /// A sweep that began at this stamp has been everywhere in a database: prefixes and patterns until then have done their
    /// work on what is stored.
    pub fn finish_sweep(&self, db: i32, began: Stamp) {
        self.update(db, |marks| marks.swept = marks.swept.max(began.0));
    }

    /// Forgets the marks of a tag that no entry holds, if that is allowed by now: a while after the last, with no guard
    /// and no ramp standing and no lease out that is older. Of each database that had one, `floor` is known the stamp
    /// and the end of the guard before which loads are not trusted from now on. False when it is too soon.
    pub fn forget_tag(
        &self,
        tag: TagId,
        name: &[u8],
        now: Now,
        oldest_lease: impl Fn() -> Option<Token>,
        mut raise_flush_epoch: impl FnMut(i32, Stamp, u64),
    ) -> bool {
        let mut databases = self.databases.borrow_mut();
        let is_forgettable =
            |marks: &Database| marks.tags.get(&tag).is_none_or(|record| record.is_forgettable(now, &oldest_lease));
        if !databases.values().all(|marks| is_forgettable(marks)) {
            return false;
        }
        for (db, marks) in databases.iter_mut() {
            marks.tag_index.forget(tag);
            self.deferred_frees.borrow_mut().extend(marks.tag_index.take_deferred_frees());
            if let Some(record) = marks.tags.remove(&tag) {
                raise_flush_epoch(*db, Stamp(record.newest()), record.guard());
                marks.forgotten.add_tag(name, record.newest());
                *marks.newest_by_tag.get_or_create(tag.0 as usize) = 0;
                if marks.tags.is_empty() {
                    marks.tags = HashMap::new();
                }
            }
        }
        true
    }

    /// Forgets prefixes and patterns whose work is done, as [`forget_tag`](Self::forget_tag) does tags.
    pub fn forget_swept(
        &self,
        now: Now,
        oldest_lease: impl Fn() -> Option<Token>,
        mut raise_flush_epoch: impl FnMut(i32, Stamp, u64),
    ) {
        for (db, marks) in self.databases.borrow_mut().iter_mut() {
            let swept = marks.swept;
            if let Some((stamp, guard)) =
                marks.forget_by_name(swept, |record| record.is_forgettable(now, &oldest_lease))
            {
                raise_flush_epoch(*db, stamp, guard);
                self.lower_summary(*db, marks);
            }
        }
    }

    /// Our primary has forgotten prefixes and patterns up to this stamp, but for those whose guards and ramps still stand.
    pub fn forget_until(&self, db: i32, stamp: Stamp, now: Now, raise_flush_epoch: impl FnOnce(Stamp, u64)) {
        let forgotten = self.update(db, |marks| {
            let forgotten = marks.forget_by_name(stamp.0, |record| record.is_past_guard_and_ramp(now));
            self.lower_summary(db, marks);
            forgotten
        });
        if let Some((stamp, guard)) = forgotten {
            raise_flush_epoch(stamp, guard);
        }
    }

    /// Marks that are no tag's have become fewer.
    fn lower_summary(&self, db: i32, marks: &Database) {
        if let Some(summary) = self.summary(db) {
            summary.others.set(marks.newest_by_name.max(marks.all.newest()));
        }
    }

    /// Whether what arrives from elsewhere with these tags may have been hit by a mark that is forgotten.
    pub fn is_older_than_forgotten<'n>(&self, db: i32, stamp: Stamp, tags: impl Iterator<Item = &'n [u8]>) -> bool {
        self.read(db, false, |marks| marks.forgotten.is_older(stamp.0, tags))
    }

    /// A tag was invalidated at this stamp that no entry holds, and nothing more is to be known of it: a guard is one of
    /// the whole database.
    pub fn add_forgotten_tag(&self, db: i32, name: &[u8], stamp: Stamp, guard_ms: u64) {
        self.update(db, |marks| {
            marks.forgotten.add_tag(name, stamp.0);
            marks.all.extend_guard(guard_ms);
        });
    }

    /// Marks up to these stamps are forgotten by whoever saved this: of names, and of tags.
    pub fn add_forgotten(&self, db: i32, by_name: Stamp, of_tags: Stamp) {
        self.update(db, |marks| {
            marks.forgotten.by_name = marks.forgotten.by_name.max(by_name.0);
            marks.forgotten.any_tag = marks.forgotten.any_tag.max(of_tags.0);
        });
        raise(&self.newest[index(db)], by_name.0); // what has come unannounced is to be looked at
    }

    /// The newest forgotten marks of each database, of names and of tags, where there are any.
    pub fn forgotten_stamps(&self) -> Vec<(i32, Stamp, Stamp)> {
        let databases = self.databases.borrow();
        let stamps = databases.iter().filter_map(|(db, marks)| {
            let forgotten = &marks.forgotten;
            let of_tags = forgotten.tags.iter().copied().max().unwrap_or(0).max(forgotten.any_tag);
            (forgotten.by_name.max(of_tags) > 0).then_some((*db, Stamp(forgotten.by_name), Stamp(of_tags)))
        });
        stamps.collect()
    }

    /// Frees the room of tags from this id on, of which there are none any more.
    pub fn trim(&self, tags: usize) {
        for marks in self.databases.borrow_mut().values_mut() {
            marks.newest_by_tag.truncate(tags);
            marks.tag_index.trim(tags);
        }
    }

    /// Stamps begin anew with this one: marks of later ones are of this moment, and entries of later ones are dead. Gives
    /// the databases that have any.
    pub fn start_epoch(&self, stamp: Stamp) -> Vec<i32> {
        self.stamps_restarted.set(true);
        self.newest.iter().for_each(|newest| newest.set(u64::MAX)); // each entry is looked at from now on
        let mut databases = self.databases.borrow_mut();
        let mut dbs = Vec::new();
        for (db, marks) in databases.iter_mut() {
            dbs.push(*db);
            let patterns = marks.patterns.iter_mut().map(|(_, record)| record);
            let by_name = marks.prefixes.values_mut().chain(patterns).chain([&mut marks.all]);
            by_name.for_each(|record| record.clamp_stamps(stamp.0));
            for (tag, record) in &mut marks.tags {
                record.clamp_stamps(stamp.0);
                *marks.newest_by_tag.get_or_create(tag.0 as usize) = record.newest();
            }
            marks.newest_by_name = marks.newest_by_name.min(stamp.0);
            marks.swept = 0;
            marks.tag_index.restart_counts(stamp.0);
            (marks.newest_entry, marks.counted_since, marks.entries, marks.hit_entries) = (0, stamp.0, 0, 0);
            let Forgotten { by_name, tags, any_tag } = &mut marks.forgotten;
            tags.iter_mut().chain([by_name, any_tag]).for_each(|moment| *moment = stamp.0.min(*moment));
        }
        dbs
    }

    /// Forgets everything: what is loaded next replaces it.
    pub fn clear(&self) {
        let summaries = self.summaries.iter().filter_map(OnceCell::get).flat_map(|summary| summary.cells());
        self.newest.iter().chain(summaries).for_each(|newest| newest.set(0));
        self.stamps_restarted.set(false); // what is loaded and not believable is dead by itself
        let old = std::mem::take(&mut *self.databases.borrow_mut());
        self.deferred_frees.borrow_mut().extend(old.into_values().map(|marks| marks.tag_index));
    }

    /// Tells every mark: a hard one and soft ones of the same name are several.
    pub fn for_each_mark(&self, mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        self.for_each_mark_but_tags(&mut visit);
        for (db, marks) in self.databases.borrow().iter() {
            let mut all =
                |tag: TagId, record: &Record| record.marks().for_each(|mark| visit(*db, MarkTarget::Tag(tag), mark));
            marks.tags.iter().for_each(|(tag, record)| all(*tag, record));
        }
    }

    /// The same of all that is no tag's, of which there is never very much.
    pub fn for_each_mark_but_tags(&self, mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        for (db, marks) in self.databases.borrow().iter() {
            let mut all =
                |target: MarkTarget<'_>, record: &Record| record.marks().for_each(|mark| visit(*db, target, mark));
            all(MarkTarget::All, &marks.all);
            marks.prefixes.iter().for_each(|(prefix, record)| all(MarkTarget::Prefix(prefix), record));
            marks.patterns.iter().for_each(|(glob, record)| all(MarkTarget::Pattern(glob.pattern()), record));
        }
    }

    /// The same of one tag.
    pub fn for_each_mark_of_tag(&self, tag: TagId, mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        for (db, marks) in self.databases.borrow().iter() {
            let marks = marks.tags.get(&tag).into_iter().flat_map(Record::marks);
            marks.for_each(|mark| visit(*db, MarkTarget::Tag(tag), mark));
        }
    }

    /// Whether there is any mark, or anything that was forgotten.
    pub fn is_empty(&self) -> bool {
        self.newest.iter().all(|newest| newest.get() == 0)
    }

    /// Sets how many there may be.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// How many prefixes and patterns stand, how many tags are marked, how many members are listed, and the bytes all of it
    /// takes.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for marks in self.databases.borrow().values() {
            totals.prefixes += marks.prefixes.len() as u64;
            totals.patterns += marks.patterns.len() as u64;
            totals.members += marks.tag_index.postings();
            let records = marks.tags.capacity() * (size_of::<TagId>() + size_of::<Record>());
            let prefixes: usize = marks.prefixes.keys().map(|prefix| prefix.len()).sum();
            let patterns: usize = marks.patterns.iter().map(|(glob, _)| 2 * glob.pattern().len()).sum();
            let by_name = (marks.prefixes.len() + marks.patterns.len()) * (size_of::<Record>() + size_of::<Glob>());
            let lists = marks.tag_index.bytes() + marks.newest_by_tag.bytes();
            totals.bytes += (records + prefixes + patterns + by_name + lists) as u64;
        }
        totals
    }

    /// Checks the lists of members against themselves; for tests.
    pub fn validate(&self) {
        self.databases.borrow().values().for_each(|marks| marks.tag_index.validate());
    }

    fn read<R>(&self, db: i32, default: R, read: impl FnOnce(&Database) -> R) -> R {
        match self.databases.borrow().get(&db) {
            Some(marks) => read(marks),
            None => default,
        }
    }

    fn update<R>(&self, db: i32, update: impl FnOnce(&mut Database) -> R) -> R {
        update(self.databases.borrow_mut().entry(db).or_default())
    }
}

/// What [`Invalidations`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prefixes that have not been forgotten.
    pub prefixes: u64,
    /// Patterns that have not been forgotten.
    pub patterns: u64,
    /// Entries and tags that are listed with each other.
    pub members: u64,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// Where a database's newest mark is looked for. (A negative one, which no server has, is as good as any.)
#[inline]
fn index(db: i32) -> usize {
    db as usize % DATABASES
}

fn raise(cell: &Cell<u64>, stamp: u64) {
    cell.set(cell.get().max(stamp));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use super::super::mark::Hardness;

    fn mark(stamp: u64, hardness: Hardness) -> InvalidationMark {
        InvalidationMark { stamp: Stamp(stamp), at_ms: stamp, hardness, guard_ms: 0 }
    }

    fn names(marks: &Invalidations, name: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        marks.read(0, (), |marks| marks.for_each_match(name, |record| found.push(record.newest())));
        found.sort_unstable();
        found
    }

    proptest! {
        /// Against a look at each of them.
        #[test]
        fn the_prefixes_of_a_name_are_found(
            prefixes in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 1..6), 0..40),
            name in proptest::collection::vec(0u8..3, 0..8),
        ) {
            let marks = Invalidations::default();
            for (at, prefix) in prefixes.iter().enumerate() {
                marks.add(0, MarkTarget::Prefix(prefix), mark(at as u64 + 1, Hardness::Hard));
            }
            let expected: Vec<u64> =
                (1..).zip(&prefixes).filter(|(_, prefix)| name.starts_with(prefix)).map(|(at, _)| at).collect();
            prop_assert_eq!(names(&marks, &name), expected);
        }
    }

    #[test]
    fn what_is_forgotten_of_a_tag_concerns_its_name_and_of_names_everything_older() {
        let marks = Invalidations::default();
        marks.add_forgotten_tag(0, b"t", Stamp(50), 0);
        let arrives =
            |stamp, tags: &[&'static [u8]]| marks.is_older_than_forgotten(0, Stamp(stamp), tags.iter().copied());
        assert!(arrives(50, &[b"other", b"t"]) && !arrives(51, &[b"t"]) && !arrives(50, &[b"other"]));
        marks.add_forgotten(0, Stamp(10), Stamp(20));
        assert!(arrives(10, &[]) && !arrives(11, &[]) && arrives(20, &[b"other"]) && !arrives(21, &[b"other"]));
        assert_eq!(marks.forgotten_stamps(), [(0, Stamp(10), Stamp(50))]);
    }
}
