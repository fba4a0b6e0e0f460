//! Invalidation marks: an invalidation stores one stamp, however many entries it ends.
//!
//! Entries are not touched. Each carries the stamp at which its load began, and a read compares that with the marks
//! that affect the entry. Loads are judged by the same comparison when they come home, also by tags that only the fill
//! names. Varnish does the same with *bans*, and its *ban lurker*, like our sweep (`sweep.rs`), finds the objects that
//! bans have ended and then drops the bans. Varnish tests an object against every newer ban in turn; here the mark of a
//! tag or prefix is looked up.
//!
//! ```text
//!  an entry's stamp ─▶ is it later than the newest mark of the database?      ┐ summary.rs: most reads
//!                   ─▶ later than the summary of its tags, and of all others? ┘ end here
//!                   ─▶ ALL       ┐
//!                      tag 0     │
//!                      tag 1 …   ├─ each: hard stamp │ soft stamps and ramps │ guards    (record.rs)
//!                      prefixes  │
//!                      patterns  ┘
//! ```
//!
//! An entry is *dead* when a hard mark that affects it has a stamp no earlier than its own, and *stale* when only a
//! soft mark has. Stamps decide the order. Ramps count on the wall clock, as windows do; guards on the monotonic clock.
//!
//! Tag ids are server-wide, since entries move between databases; marks are kept per database. A tag's mark is
//! forgotten with its id, when no entry carries the tag ([`Invalidations::forget_tag`]), and a tag that none carries
//! from the start gets no id; marks of prefixes and patterns are forgotten after a complete sweep that began later
//! ([`Invalidations::forget_prefixes`], [`Invalidations::forget_patterns`]); the mark of `ALL` with everything else,
//! when there are no entries at all ([`Invalidations::forget_all`]). Older loads that a forgotten mark concerns are not
//! trusted, and neither are entries that arrive later (`forgotten.rs`). Patterns and `ALL` concern every load: whoever
//! invalidates by them may write all keys. Once everything is forgotten, files hold nothing of us, so that a server
//! without the module can load them.
//!
//! The host's callbacks share this with commands that hold the state, all on the main thread: hence the cells. No
//! method calls back into the host.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::database::{Database, Limits};
use super::fold::{Fold, Lack, Room};
use super::forgotten::{Forgotten, Place};
use super::mark::{InvalidationMark, MarkTarget, Verdict};
use super::record::Record;
use super::summary::StampSummaries;
use super::tag_index::TagIndex;
use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::{EntryMut, EntryRef, Freshness};
use crate::cache::glob::Glob;
use crate::cache::ids::TagId;
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;

/// How far marks were visited ([`Invalidations::for_some_marks_but_tags`]).
#[derive(Debug, Default)]
pub struct MarkCursor {
    db: i32,
    began: bool,
    prefix: Option<Box<[u8]>>,
    prefixes_done: bool,
    pattern: Option<Box<[u8]>>,
}

/// What a tag takes beside its name that got an id only to have a mark, with the allocator's part.
const BYTES_WITHOUT_ENTRY: usize = 300;

/// The invalidation marks and tag indexes of one node.
pub struct Invalidations {
    summaries: StampSummaries,
    limits: Cell<Limits>,
    /// What is left of forgotten names, of all databases.
    forgotten: RefCell<Forgotten>,
    /// The last number that a database has there.
    last_place: Cell<u64>,
    /// Tags that got an id only to have a mark, and their bytes.
    without_entry: RefCell<HashMap<TagId, usize>>,
    without_entry_bytes: Cell<usize>,
    /// Stamps have restarted in this life: an entry may have a later stamp than the clock will reach for long.
    stamps_restarted: Cell<bool>,
    databases: RefCell<BTreeMap<i32, Box<Database>>>,
    /// Tag indexes of flushed databases, and parts of others that are out of use.
    deferred_frees: RefCell<Vec<TagIndex>>,
    /// Databases in which an entry has arrived dead: no walk has been requested that will find it.
    dead_on_arrival: RefCell<BTreeSet<i32>>,
}

impl Invalidations {
    /// Nothing is invalidated. The secret key keeps clients from choosing which forgotten names are mistaken for each
    /// other.
    pub fn new(key: [u8; 16]) -> Self {
        Invalidations {
            summaries: StampSummaries::default(),
            limits: Cell::default(),
            forgotten: RefCell::new(Forgotten::new(key)),
            last_place: Cell::new(0),
            without_entry: RefCell::default(),
            without_entry_bytes: Cell::new(0),
            stamps_restarted: Cell::new(false),
            databases: RefCell::default(),
            deferred_frees: RefCell::default(),
            dead_on_arrival: RefCell::default(),
        }
    }
}

impl std::fmt::Debug for Invalidations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invalidations").finish_non_exhaustive()
    }
}

/// What the marks make of an entry.
impl Invalidations {
    /// Whether the entry under `name` is fresh, stale or dead at `now`.
    #[inline]
    pub fn freshness(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Freshness {
        if self.summaries.is_newer_than_marks(db, entry.stamp()) {
            return entry.freshness(now);
        }
        self.freshness_by_marks(db, name, entry, now)
    }

    /// The cold path of [`freshness`](Self::freshness), outlined.
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
        if self.summaries.is_newer_than_marks(db, entry.stamp()) || self.is_unaffected(db, entry) {
            return Verdict::Untouched;
        }
        self.verdict_by_records(db, name, entry, now)
    }

    #[inline]
    fn is_unaffected(&self, db: i32, entry: EntryRef<'_>) -> bool {
        !self.stamps_restarted.get() && self.summaries.is_unaffected(db, entry)
    }

    fn verdict_by_records(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        let forgotten = self.forgotten.borrow();
        self.read(db, Verdict::Untouched, |database| database.verdict(name, entry, now, &forgotten))
    }

    /// The part of prefixes and patterns. Their marks are forgotten after a sweep, which writes this into the entry.
    pub fn verdict_by_name(&self, db: i32, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        self.read(db, Verdict::Untouched, |database| database.verdict_by_name(name, entry.stamp().0, now))
    }

    /// Writes the verdict into the header of an entry that leaves the reach of these marks.
    pub fn apply_verdict(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>, now: Now) {
        let verdict = self.verdict(db, name, entry.as_ref(), now);
        verdict.apply_to(entry);
    }

    /// Why a load of an entry with these tags, to be stored under `name`, is not trusted, if it is not. A tag comes
    /// with its id, if it has one.
    pub fn conflict<T: AsRef<[u8]>>(
        &self,
        db: i32,
        name: &[u8],
        tags: impl Iterator<Item = (T, Option<TagId>)>,
        token: Token,
        now: Now,
    ) -> Option<LoadConflict> {
        let forgotten = self.forgotten.borrow();
        self.read(db, None, |database| database.conflict(name, tags, token, now, &forgotten))
    }
}

/// Marks.
impl Invalidations {
    /// Adds a mark. (Count its hits before.)
    pub fn add(&self, db: i32, target: MarkTarget<'_>, mark: InvalidationMark) {
        let limits = self.limits.get();
        self.update(db, |database| database.add(target, mark, limits));
        self.summaries.add(db, target, mark.stamp);
    }

    /// Takes the guards of a target back, and of all that it covers: loads that begin, or have begun, are trusted again
    /// unless they are older than a mark. False when there were none.
    pub fn take_back_guards(&self, db: i32, target: MarkTarget<'_>) -> bool {
        let guards = self.next_place();
        self.update(db, |database| database.take_back_guards(target, guards))
    }

    /// The longest guard within which a load began: what it is of, in the words of `INVALIDATE`, and its end in
    /// milliseconds of the monotonic clock.
    pub fn guard_over<'n>(
        &self,
        db: i32,
        name: &[u8],
        tags: impl Iterator<Item = (&'n [u8], Option<TagId>)>,
        token: Token,
    ) -> Option<(String, u64)> {
        self.read(db, None, |database| database.guard_over(name, tags, token))
    }

    /// Visits every mark. A record of several marks is visited once for each.
    pub fn for_each_mark(&self, mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        self.for_each_mark_but_tags(&mut visit);
        for (db, database) in self.databases.borrow().iter() {
            for tag in database.marked_tags() {
                let record = database.record_of_tag(tag).unwrap_or_default();
                record.marks().for_each(|mark| visit(*db, MarkTarget::Tag(tag), mark));
            }
        }
    }

    /// The same without tags: a limited number of marks.
    pub fn for_each_mark_but_tags(&self, mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        for (db, database) in self.databases.borrow().iter() {
            let mut each = |target: MarkTarget<'_>, record: &Record| {
                record.marks().for_each(|mark| visit(*db, target, mark));
            };
            each(MarkTarget::All, &database.all);
            database.prefixes.iter().for_each(|(prefix, record)| each(MarkTarget::Prefix(prefix), record));
            database.patterns.iter().for_each(|(glob, record)| each(MarkTarget::Pattern(glob.pattern()), record));
        }
    }

    /// The same, no more than `most` of them: the others are visited when it is called again. False at the end. A mark
    /// that is made meanwhile may be left out, one that stays is not.
    pub fn for_some_marks_but_tags(
        &self,
        cursor: &mut MarkCursor,
        mut most: usize,
        mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark),
    ) -> bool {
        let databases = self.databases.borrow();
        while let Some((db, database)) = databases.range(cursor.db..).next() {
            if *db != cursor.db {
                *cursor = MarkCursor { db: *db, ..MarkCursor::default() };
            }
            let mut each = |target: MarkTarget<'_>, record: &Record| {
                record.marks().for_each(|mark| visit(*db, target, mark));
            };
            if !std::mem::replace(&mut cursor.began, true) {
                each(MarkTarget::All, &database.all);
            }
            if !cursor.prefixes_done {
                let from = cursor.prefix.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let mut prefixes = database.prefixes.range::<[u8], _>((from, Bound::Unbounded));
                let mut last = None;
                for (prefix, record) in prefixes.by_ref().take(most) {
                    most -= 1;
                    each(MarkTarget::Prefix(prefix), record);
                    last = Some(prefix.clone());
                }
                cursor.prefix = last.or(cursor.prefix.take());
                cursor.prefixes_done = prefixes.next().is_none();
                if !cursor.prefixes_done {
                    return true;
                }
            }
            // If the last that was visited is gone, all are visited once more: a mark may be replicated twice.
            let is_last = |glob: &Glob| cursor.pattern.as_deref() == Some(glob.pattern());
            let from = database.patterns.iter().position(|(glob, _)| is_last(glob)).map_or(0, |at| at + 1);
            let patterns = &database.patterns[from..];
            for (glob, record) in patterns.iter().take(most) {
                each(MarkTarget::Pattern(glob.pattern()), record);
                cursor.pattern = Some(glob.pattern().into());
            }
            if patterns.len() > most {
                return true;
            }
            most -= patterns.len();
            let Some(next) = db.checked_add(1) else { break };
            *cursor = MarkCursor { db: next, ..MarkCursor::default() };
        }
        false
    }

    /// The same for one tag.
    pub fn for_each_mark_of_tag(&self, tag: TagId, mut visit: impl FnMut(i32, MarkTarget<'_>, InvalidationMark)) {
        for (db, database) in self.databases.borrow().iter() {
            let record = database.record_of_tag(tag).unwrap_or_default();
            record.marks().for_each(|mark| visit(*db, MarkTarget::Tag(tag), mark));
        }
    }

    /// The last database that has, or had, entries or marks.
    pub fn last_db(&self) -> i32 {
        self.databases.borrow().keys().next_back().copied().unwrap_or(0)
    }

    /// Whether there is no mark and nothing was forgotten.
    pub fn is_empty(&self) -> bool {
        self.summaries.is_empty() && self.forgotten_stamps().is_empty()
    }

    /// Forgets the marks of a tag that no entry carries; false when it is too soon for that: during a guard or ramp.
    pub fn forget_tag(&self, tag: TagId, name: &[u8], now: Now) -> bool {
        let mut databases = self.databases.borrow_mut();
        let mut records = databases.values().filter_map(|database| database.record_of_tag(tag));
        if !records.all(|record| record.is_past_guard_and_ramp(now)) {
            return false;
        }
        let mut forgotten = self.forgotten.borrow_mut();
        for database in databases.values_mut() {
            database.tag_index.forget(tag);
            self.defer_frees(database);
            database.forget_tag(tag, name, &mut forgotten);
        }
        let freed = self.without_entry.borrow_mut().remove(&tag).unwrap_or(0);
        self.without_entry_bytes.set(self.without_entry_bytes.get() - freed);
        true
    }

    /// Records that a tag has got an id only to have a mark: no entry carries it.
    pub fn add_tag_without_entry(&self, tag: TagId, name: &[u8]) {
        let bytes = Self::bytes_without_entry(name);
        if self.without_entry.borrow_mut().insert(tag, bytes).is_none() {
            self.without_entry_bytes.set(self.without_entry_bytes.get() + bytes);
        }
    }

    /// The bytes that such a tag takes: its name and id, the mark, and its place here.
    pub fn bytes_without_entry(name: &[u8]) -> usize {
        BYTES_WITHOUT_ENTRY + name.len()
    }

    /// The bytes of marks that no entry accounts for.
    pub fn mark_bytes(&self) -> u64 {
        let by_name: usize = self.databases.borrow().values().map(|database| database.mark_bytes()).sum();
        (by_name + self.without_entry_bytes.get()) as u64
    }

    /// The folds that make room for marks of these prefixes, of which there may be `count` in the database, and
    /// `bytes` with all that [`mark_bytes`](Self::mark_bytes) counts. `may` says whether the caller may invalidate a
    /// prefix. An error says what is lacking where that makes no room.
    pub fn plan_folds(
        &self,
        db: i32,
        names: &[&[u8]],
        mark: InvalidationMark,
        (count, bytes): (usize, Option<u64>),
        may: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Fold>, Lack> {
        let all = self.mark_bytes();
        self.update(db, |database| {
            let others = all - database.prefix_bytes as u64;
            let bytes = bytes.map_or(usize::MAX, |bytes| bytes.saturating_sub(others) as usize);
            database.plan_folds(names, mark, Room { count, bytes }, may)
        })
    }

    /// Removes the marks that the one of a prefix replaces.
    pub fn absorb(&self, db: i32, prefix: &[u8]) {
        self.update(db, |database| database.absorb_folded(prefix));
    }

    /// The mark of a tag that no entry carries, and that gets no id: it is forgotten at once.
    pub fn add_forgotten_tag(&self, db: i32, name: &[u8], mark: InvalidationMark) {
        let mut forgotten = self.forgotten.borrow_mut();
        self.update(db, |database| database.add_forgotten_tag(name, &Record::new(mark), &mut forgotten));
    }

    /// Forgets, under the same conditions, prefixes whose entries a sweep has dealt with. Looks at no more than
    /// `effort` in each database, and goes on where it stopped. `each` gets the database and the newest stamp.
    pub fn forget_prefixes(&self, effort: usize, now: Now, mut each: impl FnMut(i32, Stamp)) {
        for (db, database) in self.databases.borrow_mut().iter_mut() {
            let (swept, mut forgotten) = (database.swept, self.forgotten.borrow_mut());
            let is_forgettable = |record: &Record| record.is_past_guard_and_ramp(now);
            let newest = database.forget_prefixes(swept, effort, is_forgettable, &mut forgotten);
            if let Some(stamp) = newest {
                each(*db, stamp);
                self.summaries.lower_others(*db, database.newest_but_tags());
            }
        }
    }

    /// The same for patterns, when no load can need their marks any more: a minute after the last at the soonest, and
    /// while no older lease is held. `each` also gets the end of the last guard.
    pub fn forget_patterns(
        &self,
        now: Now,
        oldest_lease: impl Fn() -> Option<Token>,
        mut each: impl FnMut(i32, Stamp, u64),
    ) {
        for (db, database) in self.databases.borrow_mut().iter_mut() {
            let is_forgettable = |record: &Record| record.is_forgettable(now, &oldest_lease);
            if let Some((stamp, guard)) = database.forget_patterns(database.swept, is_forgettable) {
                each(*db, stamp, guard);
                self.summaries.lower_others(*db, database.newest_but_tags());
            }
        }
    }

    /// Forgets prefixes up to this stamp, as the primary has, except those with a guard or ramp that this node still
    /// sees.
    pub fn forget_prefixes_until(&self, db: i32, stamp: Stamp, now: Now) {
        let mut forgotten = self.forgotten.borrow_mut();
        self.update(db, |database| {
            database.forget_prefixes(stamp.0, usize::MAX, |record| record.is_past_guard_and_ramp(now), &mut forgotten);
            self.summaries.lower_others(db, database.newest_but_tags());
        });
    }

    /// The same for patterns. Gives the newest stamp, and the end of the last guard.
    pub fn forget_patterns_until(&self, db: i32, stamp: Stamp, now: Now) -> Option<(Stamp, u64)> {
        self.update(db, |database| {
            let newest = database.forget_patterns(stamp.0, |record| record.is_past_guard_and_ramp(now));
            self.summaries.lower_others(db, database.newest_but_tags());
            newest
        })
    }

    /// Forgets everything when no load can need it any more, and no entry, since there are none. Gives the stamp of the
    /// newest mark, if there was one; `kept_ms` must have passed since. `each` gets the same as that of
    /// [`forget_patterns`](Self::forget_patterns), for patterns and `ALL`.
    pub fn forget_all(
        &self,
        kept_ms: u64,
        now: Now,
        oldest_lease: impl Fn() -> Option<Token>,
        each: impl FnMut(i32, Stamp, u64),
    ) -> Option<Stamp> {
        let is_forgettable = |database: &Database| {
            let kept_until = Stamp(database.newest()).ms().saturating_add(kept_ms);
            kept_until <= now.ms() && database.is_forgettable(now, &oldest_lease)
        };
        if self.databases.borrow().values().all(|database| is_forgettable(database)) {
            self.clear_after(|_| Vec::new(), each)
        } else {
            None
        }
    }

    /// Forgets everything, as the primary has, unless there is a mark with a later stamp than this. `names` gives the
    /// names of tags.
    pub fn forget_all_until(&self, stamp: Stamp, names: impl Fn(TagId) -> Vec<u8>, each: impl FnMut(i32, Stamp, u64)) {
        if self.databases.borrow().values().all(|database| database.newest() <= stamp.0) {
            self.clear_after(names, each);
        }
    }

    /// Clears all but the tables of what is forgotten, unless nothing was ever invalidated. Gives the stamp of the
    /// newest mark.
    fn clear_after(&self, names: impl Fn(TagId) -> Vec<u8>, mut each: impl FnMut(i32, Stamp, u64)) -> Option<Stamp> {
        let newest = self.databases.borrow().values().map(|database| Stamp(database.newest())).max()?;
        if newest.0 == 0 {
            return None;
        }
        let places: Vec<_> = self
            .databases
            .borrow_mut()
            .iter_mut()
            .map(|(db, database)| {
                let (stamp, guard) = database.forget_all(&names, &mut self.forgotten.borrow_mut());
                each(*db, stamp, guard);
                (*db, database.place)
            })
            .collect();
        self.clear_databases();
        for (db, place) in places {
            self.update(db, |database| database.place = place);
        }
        Some(newest)
    }

    /// What forgotten marks may have made of an entry that arrives under `name` with this stamp and these tags.
    pub fn forgotten_verdict<'n>(
        &self,
        db: i32,
        name: &[u8],
        stamp: Stamp,
        tags: impl Iterator<Item = &'n [u8]>,
    ) -> Verdict {
        let forgotten = self.forgotten.borrow();
        self.read(db, Verdict::Untouched, |database| {
            let by_tags = database.forgotten_verdict_by_tags(tags, stamp.0, &forgotten);
            by_tags.or_stricter(database.forgotten_verdict_by_name(name, stamp.0, &forgotten))
        })
    }

    /// Records that marks up to these stamps were forgotten: of prefixes and patterns, and of tags.
    pub fn add_forgotten(&self, db: i32, by_name: Stamp, of_tags: Stamp) {
        self.update(db, |database| {
            let bounds = &mut database.forgotten;
            (bounds.by_name, bounds.any_tag) = (bounds.by_name.max(by_name.0), bounds.any_tag.max(of_tags.0));
        });
        self.summaries.raise_newest(db, by_name); // entries that are not indexed are compared with it
    }

    /// The newest forgotten marks of each database that has any: of prefixes and patterns, and of tags.
    pub fn forgotten_stamps(&self) -> Vec<(i32, Stamp, Stamp)> {
        let databases = self.databases.borrow();
        let stamps = databases.iter().map(|(db, database)| {
            let forgotten = &database.forgotten;
            (*db, Stamp(forgotten.by_name.max(forgotten.prefixes)), Stamp(forgotten.any_tag.max(forgotten.tags)))
        });
        stamps.filter(|(_, by_name, of_tags)| by_name.max(of_tags).0 > 0).collect()
    }
}

/// Entries.
impl Invalidations {
    /// Indexes an entry that is now stored under `name`: its tags list it, and the counts include it.
    pub fn index_entry(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>) {
        let limits = self.limits.get();
        self.update(db, |database| database.index_entry(name, entry, limits));
    }

    /// Indexes a copy. The marks of its new name may be forgotten before a sweep finds it, so their verdict is written
    /// into it.
    pub fn index_copy(&self, db: i32, name: &[u8], entry: &mut EntryMut<'_>, now: Now) {
        self.apply_verdict(db, name, entry, now);
        if entry.as_ref().freshness(now) == Freshness::Dead {
            self.dead_on_arrival.borrow_mut().insert(db);
        }
        self.index_entry(db, name, entry);
    }

    /// Reverses [`index_entry`](Self::index_entry) for an entry that is no longer stored under `name`.
    pub fn unindex_entry(&self, db: i32, name: &[u8], entry: EntryRef<'_>) {
        if entry.is_indexed() {
            self.update(db, |database| {
                database.unindex_entry(name, entry);
                self.defer_frees(database);
            });
        }
    }

    /// Takes the databases in which an entry has arrived dead.
    pub fn take_dead_on_arrival(&self) -> BTreeSet<i32> {
        self.dead_on_arrival.take()
    }

    /// Whether a mark with this stamp is later than every indexed entry. A mark that is replayed is not, and its hits
    /// are not counted.
    pub fn is_latest(&self, db: i32, stamp: Stamp) -> bool {
        self.read(db, true, |database| database.is_latest(stamp))
    }

    /// How many entries `ALL` would hit that no mark has hit yet.
    pub fn count_hits_of_all(&self, db: i32) -> u64 {
        self.read(db, 0, Database::count_hits_of_all)
    }

    /// How many entries a tag would hit that neither it nor `ALL` has hit yet.
    pub fn count_hits_of_tag(&self, db: i32, tag: TagId) -> u64 {
        self.update(db, |database| database.tag_index.count_hits(tag, database.counted_since))
    }

    /// Whether [`count_hits_of_all`](Self::count_hits_of_all) counts an entry.
    pub fn is_counted(&self, db: i32, entry: EntryRef<'_>) -> bool {
        entry.is_indexed() && self.read(db, false, |database| database.is_counted(entry))
    }

    /// Records that tags have hit so many entries that no mark had hit.
    pub fn add_hits(&self, db: i32, entries: u64) {
        self.update(db, |database| database.add_hits(entries));
    }

    /// Reads the tag index of a database, if it has one.
    pub fn with_tag_index<R>(&self, db: i32, read: impl FnOnce(&TagIndex) -> R) -> Option<R> {
        self.read(db, None, |database| Some(read(&database.tag_index)))
    }

    /// How many entries the posting lists of a tag hold, in all databases.
    pub fn count_listed(&self, tag: TagId) -> u64 {
        self.databases.borrow().values().map(|database| database.tag_index.count_listed(tag)).sum()
    }
}

/// Events of the node, limits and memory.
impl Invalidations {
    /// Records that a walk over all keys of a database has ended, which began at this stamp.
    pub fn finish_sweep(&self, db: i32, began: Stamp) {
        self.update(db, |database| {
            database.swept = database.swept.max(began.0);
            database.astray = None; // walks that began before are started again with an epoch
        });
    }

    /// Empties the tag index and counts of a database, or of all, after a flush, and takes guards back. Marks stay, for
    /// entries that arrive.
    pub fn flushed(&self, db: Option<i32>) {
        for (at, database) in self.databases.borrow_mut().iter_mut() {
            if db.is_none_or(|db| db == *at) {
                self.deferred_frees.borrow_mut().push(database.flush(self.next_place()));
            }
        }
    }

    /// Exchanges two databases (`SWAPDB`): marks and indexes go with the keys.
    pub fn swap(&self, a: i32, b: i32) {
        self.summaries.swap(a, b);
        let mut databases = self.databases.borrow_mut();
        let (of_a, of_b) = (databases.remove(&a), databases.remove(&b));
        databases.extend(of_a.map(|database| (b, database)).into_iter().chain(of_b.map(|database| (a, database))));
    }

    /// Restarts stamps at this one. Marks with later stamps get this one. Entries with stamps later than `after` and up
    /// to `until`, which no later invalidation could reach, are dead whatever the clock shows from now on: that is not
    /// asked of the clock again, which may be set ahead once more. Returns the databases that have marks or entries.
    pub fn start_epoch(&self, stamp: Stamp, after: Stamp, until: Stamp) -> Vec<i32> {
        self.stamps_restarted.set(true);
        self.summaries.exempt_nothing();
        let mut databases = self.databases.borrow_mut();
        databases.values_mut().for_each(|database| database.start_epoch(stamp.0, after.0, until.0));
        self.forgotten.borrow_mut().clamp_stamps(stamp.0);
        databases.keys().copied().collect()
    }

    /// Forgets everything, before a data set is loaded that replaces this one.
    pub fn clear(&self) {
        self.clear_databases();
        self.forgotten.borrow_mut().clear();
    }

    fn clear_databases(&self) {
        self.summaries.clear();
        self.without_entry.take();
        self.without_entry_bytes.set(0);
        self.stamps_restarted.set(false); // loading makes entries dead whose stamps are not believable
        let old = std::mem::take(&mut *self.databases.borrow_mut());
        self.deferred_frees.borrow_mut().extend(old.into_values().map(|database| database.tag_index));
    }

    /// Takes the marks and indexes of another in place of its own: those of a data set that was loaded beside this one.
    pub fn replace_by(&self, loaded: &Invalidations) {
        self.clear();
        self.summaries.copy_from(&loaded.summaries);
        self.databases.swap(&loaded.databases);
        self.forgotten.swap(&loaded.forgotten);
        self.last_place.set(loaded.last_place.get());
        self.without_entry.swap(&loaded.without_entry);
        self.without_entry_bytes.set(loaded.without_entry_bytes.get());
        self.dead_on_arrival.swap(&loaded.dead_on_arrival);
        self.stamps_restarted.set(loaded.stamps_restarted.get());
        self.deferred_frees.borrow_mut().append(&mut loaded.deferred_frees.borrow_mut());
    }

    /// Frees later what a load has left that was given up.
    pub fn free_later(&self, loaded: &Invalidations) {
        loaded.clear();
        self.deferred_frees.borrow_mut().append(&mut loaded.deferred_frees.borrow_mut());
    }

    /// One with nothing in it, and the same limits.
    pub fn empty(&self) -> Self {
        let forgotten = self.forgotten.borrow().empty();
        let key = [0; 16]; // not used
        Invalidations { limits: self.limits.clone(), forgotten: RefCell::new(forgotten), ..Self::new(key) }
    }

    /// Sets how much is kept.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// Sets the size of tables that are allocated from now on.
    pub fn set_table_slots(&self, slots: usize) {
        self.forgotten.borrow_mut().set_slots(slots);
    }

    /// Frees the room of tag ids from this one on, none of which is in use.
    pub fn trim(&self, id_bound: usize) {
        self.databases.borrow_mut().values_mut().for_each(|database| database.trim(id_bound));
    }

    fn defer_frees(&self, database: &mut Database) {
        self.deferred_frees.borrow_mut().extend(database.tag_index.take_deferred_frees());
    }

    /// Whether there are deferred frees.
    pub fn has_deferred_frees(&self) -> bool {
        !self.deferred_frees.borrow().is_empty()
    }

    /// Does a small part of the deferred frees; false when there are none left.
    pub fn free_some(&self) -> bool {
        let mut deferred_frees = self.deferred_frees.borrow_mut();
        if deferred_frees.last_mut().is_some_and(|index| !index.free_some()) {
            deferred_frees.pop();
        }
        !deferred_frees.is_empty()
    }

    /// What is kept, in numbers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for database in self.databases.borrow().values() {
            totals.prefixes += database.prefixes.len() as u64;
            totals.patterns += database.patterns.len() as u64;
            totals.postings += database.tag_index.postings();
            totals.bytes += database.bytes() as u64;
        }
        totals.bytes += self.forgotten.borrow().bytes() as u64;
        totals
    }

    /// Checks the tag indexes against themselves; for tests.
    pub fn validate(&self) {
        self.databases.borrow().values().for_each(|database| database.tag_index.validate());
    }

    fn read<R>(&self, db: i32, default: R, read: impl FnOnce(&Database) -> R) -> R {
        match self.databases.borrow().get(&db) {
            Some(database) => read(database),
            None => default,
        }
    }

    /// A number for a database in the tables of what is forgotten.
    fn next_place(&self) -> u64 {
        self.last_place.set(self.last_place.get() + 1);
        self.last_place.get()
    }

    fn update<R>(&self, db: i32, update: impl FnOnce(&mut Database) -> R) -> R {
        let new = || {
            let number = self.next_place();
            Box::new(Database::new(Place { stamps: number, guards: number }))
        };
        update(self.databases.borrow_mut().entry(db).or_insert_with(new))
    }
}

/// What [`Invalidations`] keeps, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Marks of prefixes.
    pub prefixes: u64,
    /// Marks of patterns.
    pub patterns: u64,
    /// Postings: an entry is counted once for each tag that lists it.
    pub postings: u64,
    /// The bytes of marks and tag indexes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::invalidation::mark::Hardness;

    #[test]
    fn a_forgotten_tag_condemns_older_entries_with_it_and_a_forgotten_prefix_older_entries_under_it() {
        let marks = Invalidations::new([1; 16]);
        let mark = |stamp, hardness| InvalidationMark { stamp: Stamp(stamp), at_ms: 0, hardness, guard_ms: 0 };
        let may_be_hit = |name: &[u8], stamp, tags: &[&'static [u8]]| {
            marks.forgotten_verdict(0, name, Stamp(stamp), tags.iter().copied()) == Verdict::Dead
        };
        marks.add_forgotten_tag(0, b"t", mark(50, Hardness::Hard));
        assert!(may_be_hit(b"k", 50, &[b"other", b"t"]) && !may_be_hit(b"k", 51, &[b"t"]));
        assert!(!may_be_hit(b"k", 50, &[b"other"]));
        marks.add(0, MarkTarget::Prefix(b"user:"), mark(60, Hardness::Hard));
        marks.add(0, MarkTarget::Prefix(b"us"), mark(70_000, Hardness::Soft { over_ms: 0 }));
        marks.finish_sweep(0, Stamp(70_001));
        marks.forget_prefixes(9, Now::from_us(0), |_, stamp| assert_eq!(stamp, Stamp(70_000)));
        assert!(may_be_hit(b"user:42", 60, &[]) && !may_be_hit(b"user:42", 61, &[]) && !may_be_hit(b"user", 60, &[]));
        let soft = marks.forgotten_verdict(0, b"user:42", Stamp(61), std::iter::empty());
        assert_eq!(soft, Verdict::Stale(70));
        marks.swap(0, 1);
        assert!(!may_be_hit(b"user:42", 60, &[b"t"]), "what is forgotten goes with the keys");
        marks.swap(1, 0);
        assert_eq!(marks.forgotten_stamps(), [(0, Stamp(70_000), Stamp(50))]);
        marks.add_forgotten(0, Stamp(10), Stamp(20));
        assert!(may_be_hit(b"k", 10, &[]) && !may_be_hit(b"k", 11, &[]));
        assert!(may_be_hit(b"k", 20, &[b"other"]) && !may_be_hit(b"k", 21, &[b"other"]));
    }

    #[test]
    fn marks_are_visited_a_few_at_a_time() {
        let marks = Invalidations::new([1; 16]);
        let mark = |stamp| InvalidationMark { stamp: Stamp(stamp), at_ms: 0, hardness: Hardness::Hard, guard_ms: 0 };
        for db in [0, 3, 9] {
            marks.add(db, MarkTarget::All, mark(1));
            for n in 0..7 {
                marks.add(db, MarkTarget::Prefix(format!("p{n}").as_bytes()), mark(2));
                marks.add(db, MarkTarget::Pattern(format!("*{n}").as_bytes()), mark(3));
            }
        }
        let told = |db: i32, target: MarkTarget<'_>| format!("{db} {target:?}");
        let mut all = Vec::new();
        marks.for_each_mark_but_tags(|db, target, _| all.push(told(db, target)));
        for most in 1..40 {
            let (mut cursor, mut visited, mut more) = (MarkCursor::default(), Vec::new(), true);
            while more {
                let before = visited.len();
                more = marks.for_some_marks_but_tags(&mut cursor, most, |db, target, _| visited.push(told(db, target)));
                assert!(visited.len() - before <= most + 3, "and the three of whole databases");
            }
            visited.sort();
            let mut all = all.clone();
            all.sort();
            assert_eq!(visited, all, "{most} at a time");
        }
    }
}
