//! The marks of one database.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::chunked::Chunked;
use super::forgotten::Forgotten;
use super::mark::Verdict;
use super::record::Record;
use super::tag_index::TagIndex;
use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::EntryRef;
use crate::cache::glob::{Glob, Prefilter};
use crate::cache::ids::TagId;

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

#[derive(Default)]
pub(super) struct Database {
    pub(super) all: Record,
    /// The newest stamp of each tag's record, by id: what a read asks first.
    pub(super) newest_by_tag: Chunked<u64>,
    pub(super) tags: HashMap<TagId, Record>,
    pub(super) prefixes: BTreeMap<Box<[u8]>, Record>,
    pub(super) patterns: Vec<(Glob, Record)>,
    /// The newest stamp among prefixes and patterns.
    pub(super) newest_by_name: u64,
    /// A sweep that began at this stamp has been everywhere.
    pub(super) swept: u64,
    pub(super) forgotten: Forgotten,
    pub(super) tag_index: TagIndex,
    /// The newest stamp of an entry that has come.
    pub(super) newest_entry: u64,
    /// All entries were hit at this stamp; what is older is not counted.
    pub(super) counted_since: u64,
    /// Entries with a later stamp than that.
    pub(super) entries: u64,
    /// Those of them that tags have hit.
    pub(super) hit_entries: u64,
}

impl Database {
    pub(super) fn is_latest(&self, stamp: u64) -> bool {
        stamp >= self.newest_entry
    }

    /// Asks what each read of an older entry asks: a look at a number for each tag.
    #[inline]
    pub(super) fn verdict_by_tags(&self, name: &[u8], entry: EntryRef<'_>, now: Now) -> Verdict {
        let stamp = entry.stamp().0;
        let mut verdict = Verdict::Untouched;
        if stamp <= self.all.newest() {
            verdict = self.all.verdict(stamp, name, now);
        }
        for tag in entry.tags() {
            if stamp <= self.newest_by_tag.get(tag.0 as usize).copied().unwrap_or(0)
                && let Some(record) = self.tags.get(&tag)
            {
                verdict = verdict.or_stricter(record.verdict(stamp, name, now));
            }
        }
        verdict
    }

    #[inline]
    pub(super) fn verdict_by_name(&self, name: &[u8], stamp: u64, now: Now) -> Verdict {
        let mut verdict = Verdict::Untouched;
        if stamp <= self.newest_by_name {
            self.for_each_match(name, |record| verdict = verdict.or_stricter(record.verdict(stamp, name, now)));
        }
        verdict
    }

    /// Tells the records of prefixes and patterns that concern a name.
    pub(super) fn for_each_match(&self, name: &[u8], mut visit: impl FnMut(&Record)) {
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

    /// Forgets those prefixes and patterns up to a stamp that may go. Gives the newest stamp and the last guard of them.
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
        self.forgotten.by_name = self.forgotten.by_name.max(newest);
        let left = self.prefixes.values().chain(self.patterns.iter().map(|(_, record)| record));
        self.newest_by_name = left.map(Record::newest).max().unwrap_or(0);
        Some((Stamp(newest), guard))
    }

    /// Makes the oldest patterns and prefixes one of the whole database, of the same kind, while there are too many.
    pub(super) fn enforce_limits(&mut self, limits: Limits) {
        while self.patterns.len() > limits.patterns {
            let oldest = self.patterns.iter().enumerate().min_by_key(|(_, (_, record))| record.newest());
            let Some((at, _)) = oldest else { break };
            let (_, record) = self.patterns.remove(at);
            self.merge_into_all(&record);
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
            old.iter().for_each(|record| self.merge_into_all(record));
        }
    }

    /// (What it hits counts as it did: until its memory is freed.)
    fn merge_into_all(&mut self, record: &Record) {
        record.marks().for_each(|mark| self.all.add(mark));
    }
}
