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
use super::forgotten::Forgotten;
use super::mark::{InvalidationMark, MarkTarget, Verdict};
use super::record::{self, Record};
use super::tag_index::TagIndex;
use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::{EntryMut, EntryRef};
use crate::cache::glob::{Glob, Prefilter};
use crate::cache::ids::TagId;
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;

/// How much one database keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Marks of patterns: beyond it the oldest becomes a mark of the whole database.
    pub patterns: usize,
    /// Marks of prefixes, likewise.
    pub prefixes: usize,
    /// Postings of the tag index (`max-members`).
    pub postings: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { patterns: 1_024, prefixes: 100_000, postings: u64::MAX }
    }
}

#[derive(Default)]
pub(super) struct Database {
    pub(super) all: Record,
    /// The newest stamp of each tag's record, by id: most reads need no more.
    newest_by_tag: Chunked<u64>,
    pub(super) tags: HashMap<TagId, Record>,
    pub(super) prefixes: BTreeMap<Box<[u8]>, Record>,
    pub(super) patterns: Vec<(Glob, Record)>,
    /// The newest stamp among prefixes and patterns.
    newest_by_name: u64,
    /// The stamp at which the last complete sweep began.
    pub(super) swept: u64,
    pub(super) forgotten: Forgotten,
    pub(super) tag_index: TagIndex,
    /// The newest stamp of an indexed entry.
    newest_entry: u64,
    /// Entries with a later stamp than this are counted: every older one has been hit by `ALL`.
    pub(super) counted_since: u64,
    entries: u64,
    /// Counted entries that a tag has hit.
    hit_entries: u64,
}

impl Database {
    /// What marks make of an entry for which the summary was not enough.
    #[inline]
    pub(super) fn verdict(&self, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        // An entry that `RENAME` or `MOVE` brought may be older than a forgotten mark of its new name.
        if entry.stamp().0 <= self.forgotten.by_name && !entry.is_indexed() {
            return Verdict::Dead;
        }
        self.verdict_by_tags(name, entry, now).or_stricter(self.verdict_by_name(name, entry.stamp().0, now))
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
            if stamp <= self.newest_mark(tag)
                && let Some(record) = self.tags.get(&tag)
            {
                verdict = verdict.or_stricter(record.verdict(stamp, name, now));
            }
        }
        verdict
    }

    /// The part of prefixes and patterns.
    #[inline]
    pub(super) fn verdict_by_name(&self, name: &[u8], stamp: u64, now: Now) -> Verdict {
        let mut verdict = Verdict::Untouched;
        if stamp <= self.newest_by_name {
            self.for_each_match(name, |record| verdict = verdict.or_stricter(record.verdict(stamp, name, now)));
        }
        verdict
    }

    #[inline]
    fn newest_mark(&self, tag: TagId) -> u64 {
        self.newest_by_tag.get(tag.0 as usize).copied().unwrap_or(0)
    }

    /// Why a load of an entry with these tags, to be stored under `name`, is not trusted, if it is not.
    pub(super) fn conflict(
        &self,
        name: &[u8],
        tags: impl Iterator<Item = TagId>,
        token: Token,
        now: Now,
    ) -> Option<LoadConflict> {
        let mut conflict = self.all.conflict(name, token, now);
        let mut add = |record: &Record| {
            conflict = match (conflict, record.conflict(name, token, now)) {
                (Some(LoadConflict::Dead), _) | (_, Some(LoadConflict::Dead)) => Some(LoadConflict::Dead),
                (Some(LoadConflict::Stale(a)), Some(LoadConflict::Stale(b))) => Some(LoadConflict::Stale(a.min(b))),
                (one, other) => one.or(other),
            }
        };
        tags.filter_map(|tag| self.tags.get(&tag)).for_each(&mut add);
        self.for_each_match(name, &mut add);
        conflict
    }

    /// Visits the records of the prefixes and patterns that match a name.
    fn for_each_match(&self, name: &[u8], mut visit: impl FnMut(&Record)) {
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
                visit(record);
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
            self.patterns.iter().filter(|(glob, _)| fits(glob)).for_each(|(_, record)| visit(record));
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
                let record = self.tags.entry(tag).or_default();
                record.add(mark);
                *self.newest_by_tag.get_or_create(tag.0 as usize) = record.newest();
                if is_latest {
                    self.tag_index.restart_count(tag, stamp);
                }
            }
            MarkTarget::Prefix(prefix) => match self.prefixes.get_mut(prefix) {
                Some(record) => record.add(mark),
                None => _ = self.prefixes.insert(prefix.into(), Record::new(mark)),
            },
            MarkTarget::Pattern(pattern) => {
                match self.patterns.iter_mut().find(|(glob, _)| glob.pattern() == pattern) {
                    Some((_, record)) => record.add(mark),
                    None => self.patterns.push((Glob::new(pattern), Record::new(mark))),
                }
            }
        }
        if matches!(target, MarkTarget::Prefix(_) | MarkTarget::Pattern(_)) {
            self.newest_by_name = self.newest_by_name.max(stamp);
            self.enforce_limits(limits);
        }
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

    /// The database is empty now. Gives the tag index, to be freed later.
    pub(super) fn flush(&mut self) -> TagIndex {
        (self.entries, self.hit_entries, self.newest_entry) = (0, 0, 0);
        self.swept = self.swept.max(self.newest_by_name);
        std::mem::take(&mut self.tag_index)
    }

    /// Forgets the record of a tag that no entry carries any more.
    pub(super) fn forget_tag(&mut self, tag: TagId, name: &[u8]) -> Option<Record> {
        let record = self.tags.remove(&tag)?;
        self.forgotten.add_tag(name, record.newest());
        *self.newest_by_tag.get_or_create(tag.0 as usize) = 0;
        if self.tags.is_empty() {
            self.tags = HashMap::new();
        }
        Some(record)
    }

    /// Forgets the prefixes and patterns up to a stamp that are forgettable. Gives their newest stamp and last guard.
    pub(super) fn forget_by_name(
        &mut self,
        until: u64,
        is_forgettable: impl Fn(&Record) -> bool,
    ) -> Option<(Stamp, u64)> {
        if self.newest_by_name == 0 {
            return None;
        }
        let (mut newest, mut guard) = (0, 0);
        let mut stays = |record: &Record| {
            let goes = record.newest() <= until && is_forgettable(record);
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
        self.forgotten.add(newest, 0);
        let left = self.prefixes.values().chain(self.patterns.iter().map(|(_, record)| record));
        self.newest_by_name = left.map(Record::newest).max().unwrap_or(0);
        Some((Stamp(newest), guard))
    }

    /// The newest mark that is no tag's.
    pub(super) fn newest_but_tags(&self) -> u64 {
        self.newest_by_name.max(self.all.newest())
    }

    /// The newest mark of any kind, also of those that are forgotten.
    pub(super) fn newest(&self) -> u64 {
        let of_tags = self.tags.values().map(Record::newest).max().unwrap_or(0);
        let forgotten = self.forgotten.by_name.max(self.forgotten.newest_of_tags());
        self.newest_but_tags().max(of_tags).max(forgotten)
    }

    /// The end of the last guard.
    pub(super) fn guard(&self) -> u64 {
        let patterns = self.patterns.iter().map(|(_, record)| record);
        let but_all = self.tags.values().chain(self.prefixes.values()).chain(patterns);
        but_all.map(Record::guard).fold(self.all.guard(), u64::max)
    }

    /// Whether no load can need a mark any more. Tags, prefixes and patterns are forgotten first, each by itself.
    pub(super) fn is_forgettable(&self, now: Now, oldest_lease: impl Fn() -> Option<Token>) -> bool {
        let by_itself = self.tags.is_empty() && self.prefixes.is_empty() && self.patterns.is_empty();
        by_itself && self.all.is_forgettable(now, oldest_lease) && record::is_old_enough(self.newest(), now)
    }

    /// Frees the room of tag ids from this one on, none of which is in use.
    pub(super) fn trim(&mut self, id_bound: usize) {
        self.newest_by_tag.truncate(id_bound);
        self.tag_index.trim(id_bound);
    }

    /// Stamps restart at this one.
    pub(super) fn start_epoch(&mut self, stamp: u64) {
        let patterns = self.patterns.iter_mut().map(|(_, record)| record);
        let but_tags = self.prefixes.values_mut().chain(patterns).chain([&mut self.all]);
        but_tags.for_each(|record| record.clamp_stamps(stamp));
        for (tag, record) in &mut self.tags {
            record.clamp_stamps(stamp);
            *self.newest_by_tag.get_or_create(tag.0 as usize) = record.newest();
        }
        self.newest_by_name = self.newest_by_name.min(stamp);
        self.swept = 0;
        self.tag_index.restart_counts(stamp);
        (self.newest_entry, self.counted_since, self.entries, self.hit_entries) = (0, stamp, 0, 0);
        self.forgotten.clamp_stamps(stamp);
    }

    /// The bytes of marks and tag index, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        let records = self.tags.capacity() * (size_of::<TagId>() + size_of::<Record>());
        let prefixes: usize = self.prefixes.keys().map(|prefix| prefix.len()).sum();
        let patterns: usize = self.patterns.iter().map(|(glob, _)| 2 * glob.pattern().len()).sum();
        let by_name = (self.prefixes.len() + self.patterns.len()) * (size_of::<Record>() + size_of::<Glob>());
        records + prefixes + patterns + by_name + self.tag_index.bytes() + self.newest_by_tag.bytes()
    }

    /// While there are too many patterns or prefixes, merges the oldest into the record of `ALL`: hard stays hard.
    fn enforce_limits(&mut self, limits: Limits) {
        while self.patterns.len() > limits.patterns {
            let oldest = self.patterns.iter().enumerate().min_by_key(|(_, (_, record))| record.newest());
            let Some((at, _)) = oldest else { break };
            let (_, record) = self.patterns.remove(at);
            self.merge_into_all(&record);
        }
        if self.prefixes.len() > limits.prefixes {
            // A tenth at once, since each search for the oldest looks at all of them.
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
            old.iter().for_each(|record| self.merge_into_all(record));
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
            database.for_each_match(&name, |record| found.push(record.newest()));
            found.sort_unstable();
            let expected: Vec<u64> =
                (1..).zip(&prefixes).filter(|(_, prefix)| name.starts_with(prefix)).map(|(stamp, _)| stamp).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
