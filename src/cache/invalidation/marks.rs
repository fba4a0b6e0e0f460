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
//! with its id ([`Invalidations::forget`]), which nothing holds by then; those of prefixes and patterns when a sweep that began
//! after them has been everywhere ([`Invalidations::swept`]); the floor never. What is loaded or arrives later and is older than a
//! forgotten mark is not trusted: more is invalidated, never less.
//!
//! Shared with the host's callbacks, which run on the main thread while a command of ours may hold the state: hence the
//! cells. No method calls out.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hasher;
use std::ops::Bound;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::cache::clock::{self, Now, Stamp};
use crate::cache::entry::{EntryMut, EntryRef, Freshness};
use crate::cache::glob::{Glob, Prefilter};
use crate::cache::ids::TagId;
use crate::cache::invalidation::chunked::Chunked;
use crate::cache::invalidation::tag_index::TagIndex;
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;

/// Databases whose newest marks are told apart. Those beyond share a number with one of these: more entries are looked at.
const DATABASES: usize = 1024;
/// For how long a mark is kept at least: no load that is older is likely to be out.
const KEPT_MS: u64 = 60_000;
/// Places for tags in a summary: 2 KB.
const SUMMARY_SLOTS: usize = 256;
/// Soft marks that are kept of one name.
const SOFTS: usize = 8;
/// Stamps of forgotten tags, by a hash of the tag's name.
const FORGOTTEN: usize = 4096;

/// What is invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkTarget<'w> {
    /// Everything in the database.
    All,
    /// What holds the tag.
    Tag(TagId),
    /// Keys that begin so.
    Prefix(&'w [u8]),
    /// Keys that match.
    Pattern(&'w [u8]),
}

/// What an invalidation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidationMark {
    /// Its place in the order of things.
    pub stamp: Stamp,
    /// When it happened, in milliseconds of Unix time: windows count from then.
    pub at_ms: u64,
    /// Dead, or stale.
    pub how: How,
    /// Until when loads that begin are not trusted either, in milliseconds of the monotonic clock; 0: they are.
    pub guard_ms: u64,
}

/// How an invalidation ends what it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is dead.
    Hard,
    /// It is stale.
    Soft {
        /// Each key ends at an offset of its own within so many milliseconds (`OVER`).
        over_ms: u64,
    },
}

impl How {
    /// When the last key of a ramp that began at `at_ms` ends, in milliseconds of the monotonic clock;
    /// `None` when that is over, or there is none.
    pub fn ramp_ends(self, at_ms: u64, now: Now) -> Option<u64> {
        let How::Soft { over_ms } = self else { return None };
        let left_ms = at_ms.saturating_add(over_ms).saturating_sub(now.ms()).min(over_ms);
        (left_ms > 0).then(|| now.mono_ms().saturating_add(left_ms))
    }
}

/// What marks make of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Untouched,
    /// Stale from then on, in milliseconds of Unix time, and not yet.
    Later(u64),
    /// Stale since then, in milliseconds of Unix time.
    Stale(u64),
    /// Dead.
    Dead,
}

/// How many marks of a kind one database keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Patterns; beyond it the oldest is made one of the whole database.
    pub patterns: usize,
    /// Prefixes, likewise.
    pub prefixes: usize,
    /// Entries and tags that are listed with each other, in one database (`tag_index.rs`).
    pub members: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { patterns: 1_024, prefixes: 100_000, members: u64::MAX }
    }
}

/// The marks of one node, and the members of its tags.
pub struct Invalidations {
    newest: Box<[Cell<u64>]>,
    /// Of the databases below the same number, once one has a mark.
    summaries: Box<[OnceCell<Box<StampSummary>>]>,
    limits: Cell<Limits>,
    /// Stamps have begun anew in this life: there may be entries with later ones than will be made for long.
    anew: Cell<bool>,
    databases: RefCell<BTreeMap<i32, Box<Database>>>,
    /// Lists of databases that were flushed, and the room of many names, to be freed little by little.
    deferred_frees: RefCell<Vec<TagIndex>>,
    /// Databases to which something has come that was dead on arrival: no walk has been asked for that finds it.
    dead_on_arrival: RefCell<BTreeSet<i32>>,
}

/// The marks of a database in few words, which stay in the processor's nearest cache: what is newer than these stamps needs
/// no closer look. After a tag was invalidated that is nearly every entry with other tags.
struct StampSummary {
    /// The newest mark that is no tag's.
    others: Cell<u64>,
    /// The newest mark of the tags that share a place, by id.
    tags: [Cell<u64>; SUMMARY_SLOTS],
}

#[derive(Default)]
struct Database {
    floor: Record,
    /// The newest stamp of each tag's record, by id: what a read asks first.
    latest: Chunked<u64>,
    tags: HashMap<TagId, Record>,
    prefixes: BTreeMap<Box<[u8]>, Record>,
    patterns: Vec<(Glob, Record)>,
    /// The newest stamp among prefixes and patterns.
    newest_by_name: u64,
    /// A sweep that began at this stamp has been everywhere.
    swept: u64,
    forgotten: Forgotten,
    tag_index: TagIndex,
    /// The newest stamp of an entry that has come.
    newest_here: u64,
    /// All entries were hit at this stamp; what is older is not counted.
    counted_since: u64,
    /// Entries with a later stamp than that.
    entries: u64,
    /// Those of them that tags have hit.
    hit: u64,
}

/// What is known of the floor, or of one name.
#[derive(Clone, Debug, Default)]
struct Record {
    hard: u64,
    hard_guard: u64,
    /// In order; none is older than `hard`.
    softs: SmallVec<[Soft; 1]>,
    soft_guard: u64,
}

#[derive(Clone, Copy, Debug)]
struct Soft {
    stamp: u64,
    at_ms: u64,
    over_ms: u64,
}

/// The newest marks that were forgotten.
#[derive(Debug, Default)]
struct Forgotten {
    /// Of prefixes and patterns.
    by_name: u64,
    /// Of tags, by a hash of the name.
    tags: Box<[u64]>,
    /// Of all tags, as saved.
    any_tag: u64,
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
            anew: Cell::default(),
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
        self.judged(db, name, entry, now)
    }

    #[inline(never)]
    fn judged(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Freshness {
        if self.is_unaffected(db, entry) {
            return entry.freshness(now);
        }
        match self.looked_up(db, name, entry, now) {
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
        self.looked_up(db, name, entry, now)
    }

    /// The same of an entry for which a few words were not enough.
    fn looked_up(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        if self.anew.get() && !clock::is_believable(entry.stamp(), now) {
            return Verdict::Dead;
        }
        self.with(db, Verdict::Untouched, |marks| {
            // What `RENAME`, `MOVE` or `COPY` brought may be older than a mark of its name that is forgotten.
            if entry.stamp().0 <= marks.forgotten.by_name && !entry.is_indexed() {
                return Verdict::Dead;
            }
            marks.verdict_by_tags(name, entry, now).and(marks.verdict_by_name(name, entry.stamp().0, now))
        })
    }

    /// The same of prefixes and patterns alone, which are forgotten one day: a sweep writes it down.
    pub fn verdict_by_name(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        self.with(db, Verdict::Untouched, |marks| marks.verdict_by_name(name, entry.stamp().0, now))
    }

    /// Writes the verdict into an entry that leaves the reach of these marks.
    pub fn write_verdict(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>, now: Now) {
        let verdict = self.verdict(db, name, entry.as_ref(), now);
        verdict.write(entry);
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
        self.with(db, None, |marks| {
            let mut conflict = marks.floor.conflict(name, token, now);
            let mut add = |record: &Record| {
                conflict = match (conflict, record.conflict(name, token, now)) {
                    (Some(LoadConflict::Dead), _) | (_, Some(LoadConflict::Dead)) => Some(LoadConflict::Dead),
                    (Some(LoadConflict::Stale(a)), Some(LoadConflict::Stale(b))) => Some(LoadConflict::Stale(a.min(b))),
                    (one, other) => one.or(other),
                }
            };
            tags.filter_map(|tag| marks.tags.get(&tag)).for_each(&mut add);
            marks.by_name(name, &mut add);
            conflict
        })
    }

    /// Takes an invalidation. (How many entries it hits is to be asked before.)
    pub fn mark(&self, db: i32, what: MarkTarget<'_>, mark: InvalidationMark) {
        let limits = self.limits.get();
        self.change(db, |marks| {
            let stamp = mark.stamp.0;
            let hits_all_members = marks.hits_all(stamp);
            match what {
                MarkTarget::All => {
                    marks.floor.take(mark);
                    if hits_all_members {
                        (marks.counted_since, marks.entries, marks.hit) = (stamp.max(marks.counted_since), 0, 0);
                    }
                }
                MarkTarget::Tag(tag) => {
                    let record = marks.tags.entry(tag).or_default();
                    record.take(mark);
                    *marks.latest.make(tag.0 as usize) = record.newest();
                    if hits_all_members {
                        marks.tag_index.hit(tag, stamp);
                    }
                }
                MarkTarget::Prefix(prefix) => match marks.prefixes.get_mut(prefix) {
                    Some(record) => record.take(mark),
                    None => {
                        marks.prefixes.insert(prefix.into(), Record::of(mark));
                    }
                },
                MarkTarget::Pattern(pattern) => {
                    match marks.patterns.iter_mut().find(|(glob, _)| glob.pattern() == pattern) {
                        Some((_, record)) => record.take(mark),
                        None => marks.patterns.push((Glob::new(pattern), Record::of(mark))),
                    }
                }
            }
            if matches!(what, MarkTarget::Prefix(_) | MarkTarget::Pattern(_)) {
                marks.newest_by_name = marks.newest_by_name.max(mark.stamp.0);
                marks.fold(limits);
            }
        });
        raise(&self.newest[index(db)], mark.stamp.0);
        if let Some(summary) = self.make_summary(db) {
            let tag = |tag: TagId| &summary.tags[tag.0 as usize % SUMMARY_SLOTS];
            raise(if let MarkTarget::Tag(id) = what { tag(id) } else { &summary.others }, mark.stamp.0);
        }
    }

    /// Whether a few words are enough to know that no mark concerns an entry, wherever it stands.
    #[inline]
    fn is_unaffected(&self, db: i32, entry: EntryRef<'_>) -> bool {
        let Some(summary) = self.summary(db).filter(|_| !self.anew.get()) else { return false };
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
    pub fn joined(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>) {
        let most = self.limits.get().members;
        self.change(db, |marks| {
            let (stamp, floor) = (entry.as_ref().counted_stamp(), marks.counted_since);
            let latest = |tag: TagId| marks.latest.get(tag.0 as usize).copied().unwrap_or(0);
            let hit = marks.tag_index.join(name, entry, most, latest, floor);
            if stamp > floor {
                marks.entries += 1;
                marks.hit += u64::from(hit);
            }
            marks.newest_here = marks.newest_here.max(stamp);
            entry.set_indexed();
        });
    }

    /// A copy has come to stand under `name` in a database: the marks of that name may be forgotten before a sweep comes by,
    /// so it is to say itself what they make of it.
    pub fn copied(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>, now: Now) {
        self.write_verdict(db, name, entry, now);
        if entry.as_ref().freshness(now) == Freshness::Dead {
            self.dead_on_arrival.borrow_mut().insert(db);
        }
        self.joined(db, name, entry);
    }

    /// An entry stands under `name` in a database no more.
    pub fn left(&self, db: i32, name: &[u8], entry: EntryRef<'_>) {
        if !entry.is_indexed() {
            return;
        }
        self.change(db, |marks| {
            let (stamp, floor) = (entry.counted_stamp(), marks.counted_since);
            let hit = marks.tag_index.leave(name, entry, floor);
            self.deferred_frees.borrow_mut().extend(marks.tag_index.take_deferred_frees());
            if stamp > floor {
                marks.entries = marks.entries.saturating_sub(1);
                marks.hit = marks.hit.saturating_sub(u64::from(hit)).min(marks.entries);
            }
        });
    }

    /// Databases to which something dead has come since this was asked last.
    pub fn take_dead_on_arrival(&self) -> BTreeSet<i32> {
        self.dead_on_arrival.take()
    }

    /// Whether a mark of this stamp is later than every entry that has come: one that is said once more is not, and what it
    /// hits is not counted.
    pub fn hits_all(&self, db: i32, stamp: Stamp) -> bool {
        self.with(db, true, |marks| marks.hits_all(stamp.0))
    }

    /// How many entries `ALL` would hit that nothing has hit yet.
    pub fn hits_of_all(&self, db: i32) -> u64 {
        self.with(db, 0, |marks| marks.entries.saturating_sub(marks.hit))
    }

    /// How many entries a tag would hit that neither it nor `ALL` has hit yet.
    pub fn hits_of(&self, db: i32, tag: TagId) -> u64 {
        self.change(db, |marks| marks.tag_index.hits(tag, marks.counted_since))
    }

    /// Whether an entry is among those that [`hits_of_all`](Self::hits_of_all) counts.
    pub fn counts(&self, db: i32, entry: EntryRef<'_>) -> bool {
        let counts = |marks: &Database| entry.counted_stamp() > marks.counted_since && !marks.tag_index.is_hit(entry);
        entry.is_indexed() && self.with(db, false, counts)
    }

    /// Tags have hit so many entries that nothing had hit.
    pub fn hit(&self, db: i32, entries: u64) {
        self.change(db, |marks| marks.hit = (marks.hit + entries).min(marks.entries));
    }

    /// Asks about the members of a database's tags.
    pub fn tag_index<R>(&self, db: i32, ask: impl FnOnce(&TagIndex) -> R) -> Option<R> {
        self.with(db, None, |marks| Some(ask(&marks.tag_index)))
    }

    /// How many members of a tag are listed, in all databases.
    pub fn listed(&self, tag: TagId) -> u64 {
        self.databases.borrow().values().map(|marks| marks.tag_index.len(tag)).sum()
    }

    /// A database, or all, was flushed: there is nothing to hit, and nothing left to sweep. What is being loaded is the
    /// concern of the flush epochs.
    pub fn flushed(&self, db: Option<i32>) {
        for (at, marks) in self.databases.borrow_mut().iter_mut() {
            if db.is_none_or(|db| db == *at) {
                self.deferred_frees.borrow_mut().push(std::mem::take(&mut marks.tag_index));
                (marks.entries, marks.hit, marks.newest_here) = (0, 0, 0);
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
    pub fn swept(&self, db: i32, began: Stamp) {
        self.change(db, |marks| marks.swept = marks.swept.max(began.0));
    }

    /// Whether a sweep of the whole database is still wanted.
    pub fn wants_sweep(&self, db: i32) -> bool {
        self.with(db, false, |marks| marks.newest_by_name.max(marks.floor.newest()) > marks.swept)
    }

    /// Forgets the marks of a tag that no entry holds, if that is allowed by now: a while after the last, with no guard
    /// and no ramp standing and no lease out that is older. Of each database that had one, `floor` is told the stamp
    /// and the end of the guard before which loads are not trusted from now on. False when it is too soon.
    pub fn forget(
        &self,
        tag: TagId,
        name: &[u8],
        now: Now,
        oldest_lease: impl Fn() -> Option<Token>,
        mut floor: impl FnMut(i32, Stamp, u64),
    ) -> bool {
        let mut databases = self.databases.borrow_mut();
        let may_go = |marks: &Database| marks.tags.get(&tag).is_none_or(|record| record.may_go(now, &oldest_lease));
        if !databases.values().all(|marks| may_go(marks)) {
            return false;
        }
        for (db, marks) in databases.iter_mut() {
            marks.tag_index.forget(tag);
            self.deferred_frees.borrow_mut().extend(marks.tag_index.take_deferred_frees());
            if let Some(record) = marks.tags.remove(&tag) {
                floor(*db, Stamp(record.newest()), record.guard());
                marks.forgotten.tag(name, record.newest());
                *marks.latest.make(tag.0 as usize) = 0;
                if marks.tags.is_empty() {
                    marks.tags = HashMap::new();
                }
            }
        }
        true
    }

    /// Forgets prefixes and patterns whose work is done, as [`forget`](Self::forget) does tags.
    pub fn forget_swept(
        &self,
        now: Now,
        oldest_lease: impl Fn() -> Option<Token>,
        mut floor: impl FnMut(i32, Stamp, u64),
    ) {
        for (db, marks) in self.databases.borrow_mut().iter_mut() {
            let swept = marks.swept;
            if let Some((stamp, guard)) = marks.forget_by_name(swept, |record| record.may_go(now, &oldest_lease)) {
                floor(*db, stamp, guard);
                self.shorten(*db, marks);
            }
        }
    }

    /// Our primary has forgotten prefixes and patterns up to this stamp, but for those whose guards and ramps still stand.
    pub fn forget_until(&self, db: i32, stamp: Stamp, now: Now, floor: impl FnOnce(Stamp, u64)) {
        let forgotten = self.change(db, |marks| {
            let forgotten = marks.forget_by_name(stamp.0, |record| record.is_over(now));
            self.shorten(db, marks);
            forgotten
        });
        if let Some((stamp, guard)) = forgotten {
            floor(stamp, guard);
        }
    }

    /// Marks that are no tag's have become fewer.
    fn shorten(&self, db: i32, marks: &Database) {
        if let Some(summary) = self.summary(db) {
            summary.others.set(marks.newest_by_name.max(marks.floor.newest()));
        }
    }

    /// Whether what arrives from elsewhere with these tags may have been hit by a mark that is forgotten.
    pub fn forgot<'n>(&self, db: i32, stamp: Stamp, tags: impl Iterator<Item = &'n [u8]>) -> bool {
        self.with(db, false, |marks| marks.forgotten.after(stamp.0, tags))
    }

    /// A tag was invalidated at this stamp that no entry holds, and nothing more is to be known of it: a guard is one of
    /// the whole database.
    pub fn forgot_tag(&self, db: i32, name: &[u8], stamp: Stamp, guard_ms: u64) {
        self.change(db, |marks| {
            marks.forgotten.tag(name, stamp.0);
            marks.floor.hard_guard = marks.floor.hard_guard.max(guard_ms);
        });
    }

    /// Marks up to these stamps are forgotten by whoever saved this: of names, and of tags.
    pub fn set_forgotten(&self, db: i32, by_name: Stamp, of_tags: Stamp) {
        self.change(db, |marks| {
            marks.forgotten.by_name = marks.forgotten.by_name.max(by_name.0);
            marks.forgotten.any_tag = marks.forgotten.any_tag.max(of_tags.0);
        });
        raise(&self.newest[index(db)], by_name.0); // what has come unannounced is to be looked at
    }

    /// The newest forgotten marks of each database, of names and of tags, where there are any.
    pub fn forgotten(&self) -> Vec<(i32, Stamp, Stamp)> {
        let databases = self.databases.borrow();
        let told = databases.iter().filter_map(|(db, marks)| {
            let forgotten = &marks.forgotten;
            let of_tags = forgotten.tags.iter().copied().max().unwrap_or(0).max(forgotten.any_tag);
            (forgotten.by_name.max(of_tags) > 0).then_some((*db, Stamp(forgotten.by_name), Stamp(of_tags)))
        });
        told.collect()
    }

    /// Frees the room of tags from this id on, of which there are none any more.
    pub fn trim(&self, tags: usize) {
        for marks in self.databases.borrow_mut().values_mut() {
            marks.latest.truncate(tags);
            marks.tag_index.trim(tags);
        }
    }

    /// Stamps begin anew with this one: marks of later ones are of this moment, and entries of later ones are dead. Gives
    /// the databases that have any.
    pub fn start_epoch(&self, stamp: Stamp) -> Vec<i32> {
        self.anew.set(true);
        self.newest.iter().for_each(|newest| newest.set(u64::MAX)); // each entry is looked at from now on
        let mut databases = self.databases.borrow_mut();
        let mut dbs = Vec::new();
        for (db, marks) in databases.iter_mut() {
            dbs.push(*db);
            let patterns = marks.patterns.iter_mut().map(|(_, record)| record);
            let by_name = marks.prefixes.values_mut().chain(patterns).chain([&mut marks.floor]);
            by_name.for_each(|record| record.cut(stamp.0));
            for (tag, record) in &mut marks.tags {
                record.cut(stamp.0);
                *marks.latest.make(tag.0 as usize) = record.newest();
            }
            marks.newest_by_name = marks.newest_by_name.min(stamp.0);
            marks.swept = 0;
            marks.tag_index.start_epoch(stamp.0);
            (marks.newest_here, marks.counted_since, marks.entries, marks.hit) = (0, stamp.0, 0, 0);
            let Forgotten { by_name, tags, any_tag } = &mut marks.forgotten;
            tags.iter_mut().chain([by_name, any_tag]).for_each(|moment| *moment = stamp.0.min(*moment));
        }
        dbs
    }

    /// Forgets everything: what is loaded next replaces it.
    pub fn clear(&self) {
        let summaries = self.summaries.iter().filter_map(OnceCell::get).flat_map(|summary| summary.cells());
        self.newest.iter().chain(summaries).for_each(|newest| newest.set(0));
        self.anew.set(false); // what is loaded and not believable is dead by itself
        let old = std::mem::take(&mut *self.databases.borrow_mut());
        self.deferred_frees.borrow_mut().extend(old.into_values().map(|marks| marks.tag_index));
    }

    /// Tells every mark: a hard one and soft ones of the same name are several.
    pub fn each(&self, mut tell: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        self.each_but_tags(&mut tell);
        for (db, marks) in self.databases.borrow().iter() {
            let mut all =
                |tag: TagId, record: &Record| record.marks().for_each(|mark| tell(*db, MarkTarget::Tag(tag), mark));
            marks.tags.iter().for_each(|(tag, record)| all(*tag, record));
        }
    }

    /// The same of all that is no tag's, of which there is never very much.
    pub fn each_but_tags(&self, mut tell: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        for (db, marks) in self.databases.borrow().iter() {
            let mut all = |what: MarkTarget<'_>, record: &Record| record.marks().for_each(|mark| tell(*db, what, mark));
            all(MarkTarget::All, &marks.floor);
            marks.prefixes.iter().for_each(|(prefix, record)| all(MarkTarget::Prefix(prefix), record));
            marks.patterns.iter().for_each(|(glob, record)| all(MarkTarget::Pattern(glob.pattern()), record));
        }
    }

    /// The same of one tag.
    pub fn each_of_tag(&self, tag: TagId, mut tell: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        for (db, marks) in self.databases.borrow().iter() {
            let marks = marks.tags.get(&tag).into_iter().flat_map(Record::marks);
            marks.for_each(|mark| tell(*db, MarkTarget::Tag(tag), mark));
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
            totals.members += marks.tag_index.memberships();
            let records = marks.tags.capacity() * (size_of::<TagId>() + size_of::<Record>());
            let prefixes: usize = marks.prefixes.keys().map(|prefix| prefix.len()).sum();
            let patterns: usize = marks.patterns.iter().map(|(glob, _)| 2 * glob.pattern().len()).sum();
            let by_name = (marks.prefixes.len() + marks.patterns.len()) * (size_of::<Record>() + size_of::<Glob>());
            let lists = marks.tag_index.bytes() + marks.latest.bytes();
            totals.bytes += (records + prefixes + patterns + by_name + lists) as u64;
        }
        totals
    }

    /// Checks the lists of members against themselves; for tests.
    pub fn validate(&self) {
        self.databases.borrow().values().for_each(|marks| marks.tag_index.validate());
    }

    fn with<R>(&self, db: i32, otherwise: R, ask: impl FnOnce(&Database) -> R) -> R {
        match self.databases.borrow().get(&db) {
            Some(marks) => ask(marks),
            None => otherwise,
        }
    }

    fn change<R>(&self, db: i32, change: impl FnOnce(&mut Database) -> R) -> R {
        change(self.databases.borrow_mut().entry(db).or_default())
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

impl Default for StampSummary {
    fn default() -> Self {
        StampSummary { others: Cell::default(), tags: [const { Cell::new(0) }; SUMMARY_SLOTS] }
    }
}

impl StampSummary {
    fn cells(&self) -> impl Iterator<Item = &Cell<u64>> {
        self.tags.iter().chain([&self.others])
    }
}

impl Database {
    fn hits_all(&self, stamp: u64) -> bool {
        stamp >= self.newest_here
    }

    /// Asks what each read of an older entry asks: a look at a number for each tag.
    #[inline]
    fn verdict_by_tags(&self, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        let stamp = entry.stamp().0;
        let mut verdict = Verdict::Untouched;
        if stamp <= self.floor.newest() {
            verdict = self.floor.verdict(stamp, name, now);
        }
        for tag in entry.tags() {
            if stamp <= self.latest.get(tag.0 as usize).copied().unwrap_or(0)
                && let Some(record) = self.tags.get(&tag)
            {
                verdict = verdict.and(record.verdict(stamp, name, now));
            }
        }
        verdict
    }

    #[inline]
    fn verdict_by_name(&self, name: &[u8], stamp: u64, now: Now) -> Verdict {
        let mut verdict = Verdict::Untouched;
        if stamp <= self.newest_by_name {
            self.by_name(name, |record| verdict = verdict.and(record.verdict(stamp, name, now)));
        }
        verdict
    }

    /// Tells the records of prefixes and patterns that concern a name.
    fn by_name(&self, name: &[u8], mut tell: impl FnMut(&Record)) {
        // The longest prefix that sorts before the name; then, since no longer one can be right, among those of what the
        // two have in common.
        let mut rest = name;
        while !self.prefixes.is_empty() {
            let Some((prefix, record)) =
                self.prefixes.range::<[u8], _>((Bound::Unbounded, Bound::Included(rest))).next_back()
            else {
                break;
            };
            let common = prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common == prefix.len() {
                tell(record);
                match common.checked_sub(1) {
                    Some(shorter) => rest = &rest[..shorter],
                    None => break,
                }
            } else {
                rest = &rest[..common];
            }
        }
        if !self.patterns.is_empty() {
            let prefilter = Prefilter::of(name);
            let fits = |glob: &Glob| prefilter.has(glob.needs()) && glob.matches(name);
            self.patterns.iter().filter(|(glob, _)| fits(glob)).for_each(|(_, record)| tell(record));
        }
    }

    /// Forgets those prefixes and patterns up to a stamp that may go. Gives the newest stamp and the last guard of them.
    fn forget_by_name(&mut self, until: u64, may_go: impl Fn(&Record) -> bool) -> Option<(Stamp, u64)> {
        if self.newest_by_name == 0 {
            return None;
        }
        let (mut newest, mut guard) = (0, 0);
        let mut stays = |record: &Record| {
            let goes = record.newest() <= until && may_go(record);
            if goes {
                (newest, guard) = (newest.max(record.newest()), guard.max(record.guard()));
            }
            !goes
        };
        self.prefixes.retain(|_, record| stays(record));
        self.patterns.retain(|(_, record)| stays(record));
        if newest == 0 {
            return None;
        }
        self.forgotten.by_name = self.forgotten.by_name.max(newest);
        let left = self.prefixes.values().chain(self.patterns.iter().map(|(_, record)| record));
        self.newest_by_name = left.map(Record::newest).max().unwrap_or(0);
        Some((Stamp(newest), guard))
    }

    /// Makes the oldest patterns and prefixes one of the whole database, of the same kind, while there are too many.
    fn fold(&mut self, limits: Limits) {
        while self.patterns.len() > limits.patterns {
            let oldest = self.patterns.iter().enumerate().min_by_key(|(_, (_, record))| record.newest());
            let Some((at, _)) = oldest else { break };
            let (_, record) = self.patterns.remove(at);
            self.take_in(&record);
        }
        if self.prefixes.len() > limits.prefixes {
            // A tenth at once: looking for the oldest of so many each time would take long.
            let mut stamps: Vec<u64> = self.prefixes.values().map(Record::newest).collect();
            let nth = stamps.len() - 1 - limits.prefixes + limits.prefixes / 10;
            let (_, bound, _) = stamps.select_nth_unstable(nth);
            let bound = *bound;
            let mut old = Vec::new();
            self.prefixes.retain(|_, record| {
                let stays = record.newest() > bound;
                if !stays {
                    old.push(std::mem::take(record));
                }
                stays
            });
            old.iter().for_each(|record| self.take_in(record));
        }
    }

    /// (What it hits counts as it did: until its memory is freed.)
    fn take_in(&mut self, record: &Record) {
        record.marks().for_each(|mark| self.floor.take(mark));
    }
}

impl Record {
    fn of(mark: InvalidationMark) -> Self {
        let mut record = Record::default();
        record.take(mark);
        record
    }

    fn newest(&self) -> u64 {
        self.softs.last().map_or(0, |soft| soft.stamp).max(self.hard)
    }

    /// Until when loads that begin are not trusted.
    fn guard(&self) -> u64 {
        self.hard_guard.max(self.soft_guard)
    }

    /// Takes a mark. A replayed or overtaken one moves nothing back.
    fn take(&mut self, mark: InvalidationMark) {
        let stamp = mark.stamp.0;
        match mark.how {
            How::Hard => {
                self.hard = self.hard.max(stamp);
                self.hard_guard = self.hard_guard.max(mark.guard_ms);
                self.softs.retain(|soft| soft.stamp > stamp);
            }
            How::Soft { over_ms } => {
                self.soft_guard = self.soft_guard.max(mark.guard_ms);
                let at = self.softs.partition_point(|soft| soft.stamp < stamp);
                if stamp > self.hard && self.softs.get(at).is_none_or(|soft| soft.stamp != stamp) {
                    self.softs.insert(at, Soft { stamp, at_ms: mark.at_ms, over_ms });
                    self.merge();
                }
            }
        }
    }

    /// Makes the two soft marks one that are nearest to each other in time, when there are too many: both end with the
    /// earlier one, at once.
    fn merge(&mut self) {
        if self.softs.len() > SOFTS {
            let gap = |at: &usize| self.softs[*at].at_ms.abs_diff(self.softs[at + 1].at_ms);
            if let Some(at) = (0..self.softs.len() - 1).min_by_key(gap) {
                let earlier = self.softs.remove(at);
                let later = &mut self.softs[at];
                (later.at_ms, later.over_ms) = (later.at_ms.min(earlier.at_ms), 0);
            }
        }
    }

    fn verdict(&self, stamp: u64, name: &[u8], now: Now) -> Verdict {
        if stamp <= self.hard {
            return Verdict::Dead;
        }
        let concerned = self.softs.iter().filter(|soft| stamp <= soft.stamp);
        concerned.fold(Verdict::Untouched, |verdict, soft| verdict.and(soft.verdict(name, now)))
    }

    fn conflict(&self, name: &[u8], token: Token, now: Now) -> Option<LoadConflict> {
        if token.mono_ms < self.hard_guard {
            return Some(LoadConflict::Dead);
        }
        match self.verdict(token.stamp.0, name, now) {
            Verdict::Dead => Some(LoadConflict::Dead),
            Verdict::Stale(since) => Some(LoadConflict::stale_since(since)),
            Verdict::Untouched | Verdict::Later(_) if token.mono_ms < self.soft_guard => {
                Some(LoadConflict::stale_since(self.softs.last().map_or(now.ms(), |soft| soft.at_ms)))
            }
            Verdict::Untouched | Verdict::Later(_) => None,
        }
    }

    /// What is later than this stamp is of this moment.
    fn cut(&mut self, stamp: u64) {
        self.hard = self.hard.min(stamp);
        self.softs.iter_mut().for_each(|soft| soft.stamp = soft.stamp.min(stamp));
        self.softs.dedup_by(|later, earlier| {
            let same = later.stamp == earlier.stamp;
            if same {
                (earlier.at_ms, earlier.over_ms) = (earlier.at_ms.min(later.at_ms), 0);
            }
            same
        });
    }

    /// Whether it may be forgotten, as far as loads are concerned.
    fn may_go(&self, now: Now, oldest_lease: impl Fn() -> Option<Token>) -> bool {
        let (newest, guard) = (self.newest(), self.guard());
        Stamp(newest).ms().saturating_add(KEPT_MS) <= now.ms()
            && (guard == 0 || guard.saturating_add(KEPT_MS) <= now.mono_ms())
            && self.is_over(now)
            && oldest_lease().is_none_or(|lease| lease.stamp.0 > newest && lease.mono_ms >= guard)
    }

    /// Whether neither a guard nor a ramp of it stands.
    fn is_over(&self, now: Now) -> bool {
        self.guard() <= now.mono_ms()
            && self.softs.iter().all(|soft| soft.at_ms.saturating_add(soft.over_ms) <= now.ms())
    }

    fn marks(&self) -> impl Iterator<Item = InvalidationMark> + '_ {
        let hard = InvalidationMark { stamp: Stamp(self.hard), at_ms: 0, how: How::Hard, guard_ms: self.hard_guard };
        let soft = |soft: &Soft| InvalidationMark {
            stamp: Stamp(soft.stamp),
            at_ms: soft.at_ms,
            how: How::Soft { over_ms: soft.over_ms },
            guard_ms: self.soft_guard,
        };
        // The guard of a soft one outlives it, when a hard one has come after it.
        let guard = Soft { stamp: self.hard, at_ms: 0, over_ms: 0 };
        let guard = (self.softs.is_empty() && self.soft_guard > 0).then(|| soft(&guard));
        (self.hard.max(self.hard_guard) > 0).then_some(hard).into_iter().chain(guard).chain(self.softs.iter().map(soft))
    }
}

impl Soft {
    fn verdict(&self, name: &[u8], now: Now) -> Verdict {
        if self.over_ms == 0 {
            return Verdict::Stale(self.at_ms); // a state: also where the clock lags behind it
        }
        let at = self.at_ms.saturating_add(ramp_offset(name, self.over_ms));
        if at <= now.ms() { Verdict::Stale(at) } else { Verdict::Later(at) }
    }
}

/// When within a ramp of `over_ms` milliseconds (above 0) a key ends: the same offset on every node.
fn ramp_offset(name: &[u8], over_ms: u64) -> u64 {
    hash(name) % over_ms
}

/// The same on every node.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name);
    hasher.finish()
}

impl Verdict {
    /// The stricter of two, and of two alike the earlier.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Dead, _) | (_, Verdict::Dead) => Verdict::Dead,
            (Verdict::Stale(a), Verdict::Stale(b)) => Verdict::Stale(a.min(b)),
            (Verdict::Stale(at), _) | (_, Verdict::Stale(at)) => Verdict::Stale(at),
            (Verdict::Later(a), Verdict::Later(b)) => Verdict::Later(a.min(b)),
            (Verdict::Later(at), _) | (_, Verdict::Later(at)) => Verdict::Later(at),
            (Verdict::Untouched, Verdict::Untouched) => Verdict::Untouched,
        }
    }

    /// Writes it into an entry.
    pub fn write(self, entry: &mut EntryMut<'_>) {
        match self {
            Verdict::Untouched => {}
            Verdict::Later(at) => entry.end_by(at),
            Verdict::Stale(since) => entry.make_stale_since(since),
            Verdict::Dead => entry.kill(),
        }
    }
}

impl Forgotten {
    fn tag(&mut self, name: &[u8], stamp: u64) {
        if self.tags.is_empty() {
            self.tags = vec![0; FORGOTTEN].into();
        }
        let slot = &mut self.tags[hash(name) as usize % FORGOTTEN];
        *slot = stamp.max(*slot);
    }

    fn after<'n>(&self, stamp: u64, mut tags: impl Iterator<Item = &'n [u8]>) -> bool {
        let of = |name: &[u8]| self.tags.get(hash(name) as usize % FORGOTTEN).copied().unwrap_or(0);
        stamp <= self.by_name || tags.any(|name| stamp <= of(name).max(self.any_tag))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn at(ms: u64) -> Now {
        Now::from_us(ms * 1_000)
    }

    fn mark(stamp: u64, how: How) -> InvalidationMark {
        InvalidationMark { stamp: Stamp(stamp), at_ms: stamp, how, guard_ms: 0 }
    }

    fn names(marks: &Invalidations, name: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        marks.with(0, (), |marks| marks.by_name(name, |record| found.push(record.newest())));
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
                marks.mark(0, MarkTarget::Prefix(prefix), mark(at as u64 + 1, How::Hard));
            }
            let expected: Vec<u64> =
                (1..).zip(&prefixes).filter(|(_, prefix)| name.starts_with(prefix)).map(|(at, _)| at).collect();
            prop_assert_eq!(names(&marks, &name), expected);
        }

        /// Against all marks that were ever taken: never less, and the same as long as none had to be made one.
        #[test]
        fn a_record_is_worth_all_marks_that_it_has_taken(
            taken in proptest::collection::vec((1u64..60, prop_oneof![
                1 => Just(How::Hard),
                4 => Just(How::Soft { over_ms: 0 }),
                3 => (1u64..40).prop_map(|over_ms| How::Soft { over_ms }),
            ], 0u64..100), 0..25),
            stamp in 1u64..60,
            now in 0u64..120,
        ) {
            let mut record = Record::default();
            let mut all = Verdict::Untouched;
            let (mut softs, mut guard) = (Vec::new(), 0);
            for (at, how, guard_ms) in &taken {
                record.take(InvalidationMark { guard_ms: *guard_ms, ..mark(*at, *how) });
                guard = guard.max(*guard_ms);
                if stamp <= *at {
                    all = all.and(match how {
                        How::Hard => Verdict::Dead,
                        How::Soft { over_ms } => Soft { stamp: *at, at_ms: *at, over_ms: *over_ms }.verdict(b"k", self::at(now)),
                    });
                }
                if matches!(how, How::Soft { .. }) {
                    softs.push(*at);
                }
            }
            softs.sort_unstable();
            // Of two with the same stamp, which do not happen, the first counts.
            prop_assume!(softs.windows(2).all(|two| two[0] != two[1]));
            let told = record.verdict(stamp, b"k", self::at(now));
            prop_assert_eq!(told.and(all), told, "never less than {:?}", all);
            if softs.len() <= SOFTS {
                prop_assert_eq!(told, all);
            }
            prop_assert_eq!(record.guard(), guard);
            prop_assert!(record.softs.is_sorted_by_key(|soft| soft.stamp) && record.softs.len() <= SOFTS);

            let mut again = Record::default();
            record.marks().for_each(|mark| again.take(mark));
            prop_assert_eq!(again.verdict(stamp, b"k", self::at(now)), told, "as it is saved");
            prop_assert_eq!(again.guard(), guard);
        }
    }

    #[test]
    fn a_mark_is_forgotten_a_minute_after_it_its_guard_and_its_slope_and_with_no_older_load_out() {
        let token = |stamp: u64, mono_ms: u64| Some(Token { stamp: Stamp(stamp), mono_ms });
        let stamp = NOW * 1_000;
        let plain = Record::of(mark(stamp, How::Hard));
        assert!(!plain.may_go(at(NOW + KEPT_MS - 1), || None) && plain.may_go(at(NOW + KEPT_MS), || None));
        assert!(!plain.may_go(at(NOW + KEPT_MS), || token(stamp, 0)), "a load that is older");
        assert!(plain.may_go(at(NOW + KEPT_MS), || token(stamp + 1, 0)));
        let guarded = Record::of(InvalidationMark { guard_ms: NOW + 500_000, ..mark(stamp, How::Hard) });
        assert!(!guarded.may_go(at(NOW + 500_000 + KEPT_MS - 1), || None));
        let later = at(NOW + 500_000 + KEPT_MS);
        assert!(guarded.may_go(later, || None) && guarded.may_go(later, || token(stamp + 9, NOW + 500_000)));
        assert!(!guarded.may_go(later, || token(stamp + 9, NOW + 499_999)), "a load that began inside the guard");
        let ramp = Record::of(InvalidationMark { at_ms: NOW, ..mark(stamp, How::Soft { over_ms: 500_000 }) });
        assert!(!ramp.may_go(at(NOW + 499_999), || None) && ramp.may_go(at(NOW + 500_000), || None));
    }

    #[test]
    fn what_is_forgotten_of_a_tag_concerns_its_name_and_of_names_everything_older() {
        let marks = Invalidations::default();
        marks.forgot_tag(0, b"t", Stamp(50), 0);
        let arrives = |stamp, tags: &[&'static [u8]]| marks.forgot(0, Stamp(stamp), tags.iter().copied());
        assert!(arrives(50, &[b"other", b"t"]) && !arrives(51, &[b"t"]) && !arrives(50, &[b"other"]));
        marks.set_forgotten(0, Stamp(10), Stamp(20));
        assert!(arrives(10, &[]) && !arrives(11, &[]) && arrives(20, &[b"other"]) && !arrives(21, &[b"other"]));
        assert_eq!(marks.forgotten(), [(0, Stamp(10), Stamp(50))]);
    }
}
