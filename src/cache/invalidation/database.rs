//! The marks of one database, its tag index, and the counts that `INVALIDATE` replies with.
//!
//! What a read costs depends on the entry and not on how many marks there are: the record of a tag is found by its id,
//! that of a prefix in a sorted map. Only patterns are tried one by one, each behind a filter of the bytes that it
//! needs. *By name* means by the key's name: prefixes and patterns.
//!
//! Counts look ahead: `entries` counts what the next `ALL` would hit, and a posting list what the next mark of its tag
//! would. A mark that is later than every entry restarts the count at its stamp. An entry is counted while its stamp is
//! later than that, so it is added and removed by the same comparison.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::chunked::Chunked;
use super::forgotten::{Bounds, Forgotten, Place};
use super::mark::{Hardness, InvalidationMark, MarkTarget, Verdict};
use super::record::{self, Record, bytes_of_prefix};
use super::tag_index::TagIndex;
use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::{EntryMut, EntryRef};
use crate::cache::error::Word;
use crate::cache::glob::{Glob, Prefilter};
use crate::cache::ids::TagId;
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;

/// How much one database keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Marks of patterns: beyond it the oldest becomes a mark of the whole database.
    pub patterns: usize,
    /// Postings of the tag index (`max-members`).
    pub postings: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { patterns: 1_024, postings: u64::MAX }
    }
}

#[derive(Default)]
pub(super) struct Database {
    pub(super) all: Record,
    /// The newest stamp of each tag, by id: most reads need no more. Without a record it is that of a hard mark.
    newest_by_tag: Chunked<u64>,
    /// How many tags have a mark, and the newest there ever was.
    tag_marks: usize,
    newest_of_tags: u64,
    /// The records of tags that have soft marks or guards.
    tags: HashMap<TagId, Record>,
    pub(super) prefixes: BTreeMap<Box<[u8]>, Record>,
    pub(super) prefix_bytes: usize,
    pub(super) patterns: Vec<(Glob, Record)>,
    /// The newest stamp among prefixes and patterns.
    newest_by_name: u64,
    /// The stamp at which the last complete sweep began.
    pub(super) swept: u64,
    /// Where it is in the tables of what is forgotten.
    pub(super) place: Place,
    pub(super) forgotten: Bounds,
    /// Up to which prefix those that may be forgotten were looked for, and the newest stamp of those that were left.
    looked_up_to: Box<[u8]>,
    newest_looked_at: u64,
    pub(super) tag_index: TagIndex,
    /// The newest stamp of an indexed entry.
    newest_entry: u64,
    /// Entries with a later stamp than this are counted: every older one has been hit by `ALL`.
    pub(super) counted_since: u64,
    /// Entries with a later stamp than the first, up to the second, are dead: stored while the wall clock was days
    /// ahead. The sweep deletes them.
    pub(super) astray: Option<(u64, u64)>,
    entries: u64,
    /// Counted entries that a tag has hit.
    hit_entries: u64,
}

impl Database {
    pub(super) fn new(place: Place) -> Self {
        Database { place, ..Database::default() }
    }

    /// What marks make of an entry for which the summary was not enough.
    #[inline]
    pub(super) fn verdict(&self, name: &[u8], entry: EntryRef<'_>, now: Now, forgotten: &Forgotten) -> Verdict {
        // An entry that `RENAME` or `MOVE` brought may be older than a forgotten mark of its new name.
        let stamp = entry.stamp().0;
        if self.astray.is_some_and(|(after, until)| after < stamp && stamp <= until) {
            return Verdict::Dead;
        }
        let of_forgotten = match entry.is_indexed() {
            true => Verdict::Untouched,
            false => self.forgotten_verdict_by_name(name, stamp, forgotten),
        };
        let verdict = self.verdict_by_tags(name, entry, now).or_stricter(self.verdict_by_name(name, stamp, now));
        verdict.or_stricter(of_forgotten)
    }

    /// The part of `ALL` and of tags.
    #[inline]
    fn verdict_by_tags(&self, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        let stamp = entry.stamp().0;
        let mut verdict = Verdict::Untouched;
        if stamp <= self.all.newest() {
            verdict = self.all.verdict(stamp, name, now);
        }
        for tag in entry.tags() {
            if stamp <= self.newest_mark(tag) {
                verdict = verdict.or_stricter(match self.tags.get(&tag) {
                    Some(record) => record.verdict(stamp, name, now),
                    None => Verdict::Dead,
                });
            }
        }
        verdict
    }

    /// The part of prefixes and patterns.
    #[inline]
    pub(super) fn verdict_by_name(&self, name: &[u8], stamp: u64, now: Now) -> Verdict {
        let mut verdict = Verdict::Untouched;
        if stamp <= self.newest_by_name {
            self.for_each_match(name, |_, record| verdict = verdict.or_stricter(record.verdict(stamp, name, now)));
        }
        verdict
    }

    #[inline]
    fn newest_mark(&self, tag: TagId) -> u64 {
        self.newest_by_tag.get(tag.0 as usize).copied().unwrap_or(0)
    }

    /// The marks of a tag, if it has any.
    pub(super) fn record_of_tag(&self, tag: TagId) -> Option<Record> {
        let newest = self.newest_mark(tag);
        (newest > 0).then(|| self.tags.get(&tag).cloned().unwrap_or_else(|| Record::hard(newest)))
    }

    /// The tags that have marks.
    pub(super) fn marked_tags(&self) -> impl Iterator<Item = TagId> + '_ {
        self.newest_by_tag.iter().filter(|(_, newest)| **newest > 0).map(|(id, _)| TagId(id as u32))
    }

    /// Why a load of an entry with these tags, to be stored under `name`, is not trusted, if it is not. A tag without
    /// an id is known by its name alone.
    pub(super) fn conflict<T: AsRef<[u8]>>(
        &self,
        name: &[u8],
        tags: impl Iterator<Item = (T, Option<TagId>)>,
        token: Token,
        now: Now,
        forgotten: &Forgotten,
    ) -> Option<LoadConflict> {
        let mut conflict = self.all.conflict(name, token, now);
        let mut add = |other: Option<LoadConflict>| conflict = LoadConflict::stricter(conflict, other);
        for (tag, id) in tags {
            if let Some(record) = id.and_then(|id| self.record_of_tag(id)) {
                add(record.conflict(name, token, now));
            }
            add(forgotten.conflict_of_tag(self.place, tag.as_ref(), token));
        }
        self.for_each_match(name, |_, record| add(record.conflict(name, token, now)));
        add(forgotten.conflict_of_key(self.place, name, token));
        conflict
    }

    /// What forgotten marks may have made of an entry that arrives under `name` with this stamp.
    pub(super) fn forgotten_verdict_by_name(&self, name: &[u8], stamp: u64, forgotten: &Forgotten) -> Verdict {
        match () {
            () if stamp <= self.forgotten.by_name => Verdict::Dead,
            () if stamp <= self.forgotten.prefixes => forgotten.verdict_of_key(self.place, name, stamp),
            () => Verdict::Untouched,
        }
    }

    /// The same for an entry that arrives with one of these tags.
    pub(super) fn forgotten_verdict_by_tags<'n>(
        &self,
        mut tags: impl Iterator<Item = &'n [u8]>,
        stamp: u64,
        forgotten: &Forgotten,
    ) -> Verdict {
        match () {
            () if stamp <= self.forgotten.any_tag => tags.next().map_or(Verdict::Untouched, |_| Verdict::Dead),
            () if stamp <= self.forgotten.tags => {
                let each = tags.map(|tag| forgotten.verdict_of_tag(self.place, tag, stamp));
                each.fold(Verdict::Untouched, Verdict::or_stricter)
            }
            () => Verdict::Untouched,
        }
    }

    /// Visits the records of the prefixes and patterns that match a name.
    fn for_each_match(&self, name: &[u8], mut visit: impl FnMut(MarkTarget<'_>, &Record)) {
        // A search for the predecessor finds the last prefix that sorts before the name. Every other match is no longer
        // than what the two have in common, so the search goes on with that.
        let mut rest = name;
        while !self.prefixes.is_empty() {
            let Some((prefix, record)) =
                self.prefixes.range::<[u8], _>((Bound::Unbounded, Bound::Included(rest))).next_back()
            else {
                break;
            };
            let common = prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common == prefix.len() {
                visit(MarkTarget::Prefix(prefix), record);
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
            let matching = self.patterns.iter().filter(|(glob, _)| fits(glob));
            matching.for_each(|(glob, record)| visit(MarkTarget::Pattern(glob.pattern()), record));
        }
    }

    pub(super) fn add(&mut self, target: MarkTarget<'_>, mark: InvalidationMark, limits: Limits) {
        let stamp = mark.stamp.0;
        let is_latest = self.is_latest(mark.stamp);
        match target {
            MarkTarget::All => {
                self.all.add(mark);
                if is_latest {
                    (self.counted_since, self.entries, self.hit_entries) = (stamp.max(self.counted_since), 0, 0);
                }
            }
            MarkTarget::Tag(tag) => {
                self.add_to_tag(tag, mark);
                if is_latest {
                    self.tag_index.restart_count(tag, stamp);
                }
            }
            MarkTarget::Prefix(prefix) => {
                match self.prefixes.get_mut(prefix) {
                    Some(record) => record.add(mark),
                    None => {
                        self.prefixes.insert(prefix.into(), Record::new(mark));
                        self.prefix_bytes += bytes_of_prefix(prefix);
                    }
                }
                self.absorb_some(prefix);
            }
            MarkTarget::Pattern(pattern) => {
                match self.patterns.iter_mut().find(|(glob, _)| glob.pattern() == pattern) {
                    Some((_, record)) => record.add(mark),
                    None => self.patterns.push((Glob::new(pattern), Record::new(mark))),
                }
                self.enforce_limits(limits);
            }
        }
        if matches!(target, MarkTarget::Prefix(_) | MarkTarget::Pattern(_)) {
            self.newest_by_name = self.newest_by_name.max(stamp);
            self.newest_looked_at = self.newest_looked_at.max(stamp);
        }
    }

    /// Most marks are hard and without a guard: then the stamp is all there is to keep.
    fn add_to_tag(&mut self, tag: TagId, mark: InvalidationMark) {
        let newest = self.newest_by_tag.get_or_create(tag.0 as usize);
        self.tag_marks += usize::from(*newest == 0);
        let plain = mark.hardness == Hardness::Hard && mark.guard_ms == 0;
        if plain && (self.tags.is_empty() || !self.tags.contains_key(&tag)) {
            *newest = mark.stamp.0.max(*newest);
        } else {
            let record = self.tags.entry(tag).or_insert_with(|| Record::hard(*newest));
            record.add(mark);
            *newest = record.newest();
        }
        self.newest_of_tags = self.newest_of_tags.max(*newest);
    }

    /// Takes the guards of a target back, and of all that it covers; false when there were none. `guards` is the number
    /// of this database among the guards of forgotten names from now on, if all are taken back.
    pub(super) fn take_back_guards(&mut self, target: MarkTarget<'_>, guards: u64) -> bool {
        let each = |had: bool, record: &mut Record| record.take_back_guards() || had;
        match target {
            MarkTarget::All => {
                self.place.guards = guards;
                let patterns = self.patterns.iter_mut().map(|(_, record)| record);
                let but_all = self.tags.values_mut().chain(self.prefixes.values_mut()).chain(patterns);
                but_all.fold(self.all.take_back_guards(), each)
            }
            MarkTarget::Tag(tag) => self.tags.get_mut(&tag).is_some_and(Record::take_back_guards),
            MarkTarget::Prefix(prefix) => {
                let range = self.prefixes.range_mut::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
                let beneath = range.take_while(|(other, _)| other.starts_with(prefix));
                beneath.map(|(_, record)| record).fold(false, each)
            }
            MarkTarget::Pattern(pattern) => {
                let same = self.patterns.iter_mut().filter(|(glob, _)| glob.pattern() == pattern);
                same.map(|(_, record)| record).fold(false, each)
            }
        }
    }

    /// The longest guard within which a load began, of an entry with these tags, to be stored under `name`: what it is
    /// of, and its end in milliseconds of the monotonic clock.
    pub(super) fn guard_over<'n>(
        &self,
        name: &[u8],
        tags: impl Iterator<Item = (&'n [u8], Option<TagId>)>,
        token: Token,
    ) -> Option<(String, u64)> {
        let mut longest = (String::new(), token.mono_ms);
        let mut add = |what: &dyn Fn() -> String, record: &Record| {
            if record.guard() > longest.1 {
                longest = (what(), record.guard());
            }
        };
        add(&|| "ALL".into(), &self.all);
        for (tag, id) in tags {
            if let Some(record) = id.and_then(|id| self.tags.get(&id)) {
                add(&|| format!("TAGS 1 {}", Word::from(tag)), record);
            }
        }
        self.for_each_match(name, |target, record| match target {
            MarkTarget::Prefix(prefix) => add(&|| format!("PREFIXES 1 {}", Word::from(prefix)), record),
            MarkTarget::Pattern(pattern) => add(&|| format!("PATTERNS 1 {}", Word::from(pattern)), record),
            MarkTarget::All | MarkTarget::Tag(_) => {}
        });
        (!longest.0.is_empty()).then_some(longest)
    }

    pub(super) fn index_entry(&mut self, name: &[u8], entry: &mut EntryMut<'_>, limits: Limits) {
        let (stamp, counted_since) = (entry.as_ref().counted_stamp(), self.counted_since);
        let newest_mark = |tag: TagId| self.newest_by_tag.get(tag.0 as usize).copied().unwrap_or(0);
        let hit = self.tag_index.add(name, entry, limits.postings, newest_mark, counted_since);
        if stamp > counted_since {
            self.entries += 1;
            self.hit_entries += u64::from(hit);
        }
        self.newest_entry = self.newest_entry.max(stamp);
        entry.set_indexed();
    }

    pub(super) fn unindex_entry(&mut self, name: &[u8], entry: EntryRef<'_>) {
        let (stamp, counted_since) = (entry.counted_stamp(), self.counted_since);
        let hit = self.tag_index.remove(name, entry, counted_since);
        if stamp > counted_since {
            self.entries = self.entries.saturating_sub(1);
            self.hit_entries = self.hit_entries.saturating_sub(u64::from(hit)).min(self.entries);
        }
    }

    pub(super) fn is_latest(&self, stamp: Stamp) -> bool {
        stamp.0 >= self.newest_entry
    }

    pub(super) fn count_hits_of_all(&self) -> u64 {
        self.entries.saturating_sub(self.hit_entries)
    }

    pub(super) fn is_counted(&self, entry: EntryRef<'_>) -> bool {
        entry.counted_stamp() > self.counted_since && !self.tag_index.is_hit(entry)
    }

    pub(super) fn add_hits(&mut self, entries: u64) {
        self.hit_entries = (self.hit_entries + entries).min(self.entries);
    }

    /// The database is empty now, and guards are taken back. Gives the tag index, to be freed later.
    pub(super) fn flush(&mut self, guards: u64) -> TagIndex {
        self.take_back_guards(MarkTarget::All, guards);
        (self.entries, self.hit_entries, self.newest_entry) = (0, 0, 0);
        self.swept = self.swept.max(self.newest_by_name);
        self.astray = None;
        std::mem::take(&mut self.tag_index)
    }

    /// Forgets the marks of a tag that no entry carries: what is left of them goes into the table.
    pub(super) fn forget_tag(&mut self, tag: TagId, name: &[u8], forgotten: &mut Forgotten) {
        let Some(record) = self.record_of_tag(tag) else { return };
        self.add_forgotten_tag(name, &record, forgotten);
        *self.newest_by_tag.get_or_create(tag.0 as usize) = 0;
        self.tag_marks -= 1;
        if self.tags.remove(&tag).is_some() && self.tags.is_empty() {
            self.tags = HashMap::new();
        }
    }

    pub(super) fn add_forgotten_tag(&mut self, name: &[u8], record: &Record, forgotten: &mut Forgotten) {
        forgotten.add_tag(self.place, name, record);
        self.forgotten.tags = self.forgotten.tags.max(record.newest());
    }

    /// Forgets the prefixes up to a stamp that are forgettable, likewise. Looks at no more than `effort`, and goes on
    /// where it stopped. Gives the newest stamp.
    pub(super) fn forget_prefixes(
        &mut self,
        until: u64,
        effort: usize,
        is_forgettable: impl Fn(&Record) -> bool,
        forgotten: &mut Forgotten,
    ) -> Option<Stamp> {
        let from = std::mem::take(&mut self.looked_up_to);
        let from = if effort == usize::MAX { Box::default() } else { from };
        let from = (Bound::Included(from), Bound::Unbounded);
        let (mut goes, mut passed) = (Vec::new(), 0);
        for (prefix, record) in self.prefixes.range::<Box<[u8]>, _>(from) {
            if passed == effort {
                self.looked_up_to = prefix.clone();
                break;
            }
            passed += 1;
            if record.newest() <= until && is_forgettable(record) {
                goes.push(prefix.clone());
            } else {
                self.newest_looked_at = self.newest_looked_at.max(record.newest());
            }
        }
        let mut newest = 0;
        for prefix in goes {
            let Some(record) = self.prefixes.remove(&prefix) else { continue };
            self.prefix_bytes -= bytes_of_prefix(&prefix);
            forgotten.add_prefix(self.place, &prefix, &record);
            newest = newest.max(record.newest());
        }
        if self.looked_up_to.is_empty() {
            let patterns = self.patterns.iter().map(|(_, record)| record.newest());
            self.newest_by_name = patterns.fold(std::mem::take(&mut self.newest_looked_at), u64::max);
        }
        self.forgotten.prefixes = self.forgotten.prefixes.max(newest);
        (newest > 0).then_some(Stamp(newest))
    }

    /// Forgets the patterns up to a stamp that are forgettable. Gives their newest stamp and last guard.
    pub(super) fn forget_patterns(
        &mut self,
        until: u64,
        is_forgettable: impl Fn(&Record) -> bool,
    ) -> Option<(Stamp, u64)> {
        let (mut newest, mut guard) = (0, 0);
        self.patterns.retain(|(_, record)| {
            let goes = record.newest() <= until && is_forgettable(record);
            if goes {
                (newest, guard) = (newest.max(record.newest()), guard.max(record.guard()));
            }
            !goes
        });
        self.forgotten.by_name = self.forgotten.by_name.max(newest);
        (newest > 0).then_some((Stamp(newest), guard))
    }

    /// Forgets everything. What concerns tags and prefixes is left in the tables; gives the newest of the other marks,
    /// and the end of their last guard.
    pub(super) fn forget_all(&mut self, names: impl Fn(TagId) -> Vec<u8>, forgotten: &mut Forgotten) -> (Stamp, u64) {
        for tag in self.marked_tags().collect::<Vec<_>>() {
            self.forget_tag(tag, &names(tag), forgotten);
        }
        self.forget_prefixes(u64::MAX, usize::MAX, |_| true, forgotten);
        let (newest, guard) = self.forget_patterns(u64::MAX, |_| true).unwrap_or_default();
        let newest = newest.0.max(self.forgotten.by_name).max(self.all.newest());
        (Stamp(newest), guard.max(self.all.guard()))
    }

    /// The newest mark that is no tag's.
    pub(super) fn newest_but_tags(&self) -> u64 {
        self.newest_by_name.max(self.all.newest())
    }

    /// The newest mark of any kind, also of those that are forgotten.
    pub(super) fn newest(&self) -> u64 {
        let Bounds { by_name, prefixes, tags, any_tag } = self.forgotten;
        let forgotten = by_name.max(prefixes).max(tags).max(any_tag);
        self.newest_but_tags().max(self.newest_of_tags).max(forgotten)
    }

    /// Whether no load can need a mark any more. Tags, prefixes and patterns are forgotten first, each by itself.
    pub(super) fn is_forgettable(&self, now: Now, oldest_lease: impl Fn() -> Option<Token>) -> bool {
        let by_itself = self.tag_marks == 0 && self.prefixes.is_empty() && self.patterns.is_empty();
        by_itself && self.all.is_forgettable(now, oldest_lease) && record::is_old_enough(self.newest(), now)
    }

    /// Frees the room of tag ids from this one on, none of which is in use.
    pub(super) fn trim(&mut self, id_bound: usize) {
        self.newest_by_tag.truncate(id_bound);
        self.tag_index.trim(id_bound);
    }

    /// Stamps restart at this one.
    /// Stamps restart at this one; entries later than `after` were stored before, the last of them at `until`.
    pub(super) fn start_epoch(&mut self, stamp: u64, after: u64, until: u64) {
        let (was_after, was_until) = self.astray.unwrap_or((after, until));
        self.astray = Some((after.min(was_after), until.max(was_until)));
        let patterns = self.patterns.iter_mut().map(|(_, record)| record);
        let but_tags = self.prefixes.values_mut().chain(patterns).chain([&mut self.all]);
        but_tags.for_each(|record| record.clamp_stamps(stamp));
        self.newest_by_tag.iter_mut().for_each(|newest| *newest = stamp.min(*newest));
        for (tag, record) in &mut self.tags {
            record.clamp_stamps(stamp);
            *self.newest_by_tag.get_or_create(tag.0 as usize) = record.newest();
        }
        for newest in [&mut self.newest_by_name, &mut self.newest_looked_at, &mut self.newest_of_tags] {
            *newest = stamp.min(*newest);
        }
        self.swept = 0;
        self.tag_index.restart_counts(stamp);
        (self.newest_entry, self.counted_since, self.entries, self.hit_entries) = (0, stamp, 0, 0);
        self.forgotten.clamp_stamps(stamp);
    }

    /// The bytes of marks and tag index, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        let records = self.tags.capacity() * (size_of::<TagId>() + size_of::<Record>());
        records + self.mark_bytes() + self.tag_index.bytes() + self.newest_by_tag.bytes()
    }

    /// The bytes of prefixes and patterns.
    pub(super) fn mark_bytes(&self) -> usize {
        let patterns: usize = self.patterns.iter().map(|(glob, _)| glob.bytes()).sum();
        self.prefix_bytes + patterns + self.patterns.len() * size_of::<(Glob, Record)>()
    }

    /// While there are too many patterns, merges the oldest into the record of `ALL`: hard stays hard. (Whoever
    /// invalidates by pattern may write all keys.)
    fn enforce_limits(&mut self, limits: Limits) {
        while self.patterns.len() > limits.patterns {
            let oldest = self.patterns.iter().enumerate().min_by_key(|(_, (_, record))| record.newest());
            let Some((at, _)) = oldest else { break };
            let (_, record) = self.patterns.remove(at);
            self.merge_into_all(&record);
        }
    }

    fn merge_into_all(&mut self, record: &Record) {
        record.marks().for_each(|mark| self.all.add(mark));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mark::Hardness;
    use super::*;

    proptest! {
        /// Compared with a look at every prefix.
        #[test]
        fn all_prefixes_of_a_name_are_found(
            prefixes in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 1..6), 0..40),
            name in proptest::collection::vec(0u8..3, 0..8),
        ) {
            let mut database = Database::default();
            for (stamp, prefix) in (1..).zip(&prefixes) {
                let mark = InvalidationMark { stamp: Stamp(stamp), at_ms: stamp, hardness: Hardness::Hard, guard_ms: 0 };
                database.add(MarkTarget::Prefix(prefix), mark, Limits::default());
            }
            let mut found = Vec::new();
            database.for_each_match(&name, |_, record| found.push(record.newest()));
            found.sort_unstable();
            let expected: Vec<u64> =
                (1..).zip(&prefixes).filter(|(_, prefix)| name.starts_with(prefix)).map(|(stamp, _)| stamp).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
