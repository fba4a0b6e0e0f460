//! Stamp summaries: a few words a database that let most reads skip the marks.
//!
//! ```text
//!  newest     the newest mark of the database                  an entry is unaffected when its stamp is
//!  others     the newest mark that is no tag's                 later than `newest`, or later than `others`
//!  tags[n]    the newest mark of the tags that share slot n    and the slots of all its tags
//! ```
//!
//! Like a Bloom filter with one hash function, but with stamps for bits: tags that share a slot, and databases that
//! share a number, cost a closer look and never a wrong verdict. After one tag was invalidated, nearly every entry with
//! other tags passes the second comparison. A database's summary is 2 KB, which stays in the processor's nearest cache.

use std::cell::{Cell, OnceCell};

use super::mark::MarkTarget;
use crate::cache::clock::Stamp;
use crate::cache::entry::EntryRef;
use crate::cache::ids::TagId;

/// Databases with a newest stamp and a summary of their own. Those beyond share the stamp and have no summary.
const DATABASES: usize = 1024;
/// Slots for tags in a summary, by the low bits of their ids.
const TAG_SLOTS: usize = 256;

pub(super) struct StampSummaries {
    newest: Box<[Cell<u64>]>,
    /// Allocated with the first mark of a database.
    summaries: Box<[OnceCell<Box<StampSummary>>]>,
}

struct StampSummary {
    others: Cell<u64>,
    tags: [Cell<u64>; TAG_SLOTS],
}

impl Default for StampSummaries {
    fn default() -> Self {
        StampSummaries {
            newest: (0..DATABASES).map(|_| Cell::new(0)).collect(),
            summaries: (0..DATABASES).map(|_| OnceCell::new()).collect(),
        }
    }
}

impl StampSummaries {
    /// Whether an entry with this stamp is newer than every mark of the database.
    #[inline]
    pub(super) fn is_newer_than_marks(&self, db: i32, stamp: Stamp) -> bool {
        stamp.0 > self.newest[index(db)].get()
    }

    /// Whether the summary shows that no mark affects an entry. False when that is uncertain.
    #[inline]
    pub(super) fn is_unaffected(&self, db: i32, entry: EntryRef<'_>) -> bool {
        let Some(summary) = self.get(db) else { return false };
        let stamp = entry.stamp().0;
        // An entry that is not indexed is to be compared with forgotten marks, too.
        stamp > summary.others.get() && entry.is_indexed() && entry.tags().all(|tag| stamp > summary.tag(tag).get())
    }

    pub(super) fn add(&self, db: i32, target: MarkTarget<'_>, stamp: Stamp) {
        self.raise_newest(db, stamp);
        if let Some(summary) = self.get_or_create(db) {
            raise(if let MarkTarget::Tag(tag) = target { summary.tag(tag) } else { &summary.others }, stamp);
        }
    }

    pub(super) fn raise_newest(&self, db: i32, stamp: Stamp) {
        raise(&self.newest[index(db)], stamp);
    }

    /// Marks that are no tag's were forgotten: the newest of those that are left.
    pub(super) fn lower_others(&self, db: i32, newest: u64) {
        if let Some(summary) = self.get(db) {
            summary.others.set(newest);
        }
    }

    pub(super) fn swap(&self, a: i32, b: i32) {
        let (newest_a, newest_b) = (&self.newest[index(a)], &self.newest[index(b)]);
        let newest = newest_a.get().max(newest_b.get()); // of both: other databases may share the numbers
        newest_a.set(newest);
        newest_b.set(newest);
        match (self.get_or_create(a), self.get_or_create(b)) {
            (Some(a), Some(b)) => a.cells().zip(b.cells()).for_each(|(a, b)| a.swap(b)),
            (one, other) => {
                one.into_iter().chain(other).flat_map(StampSummary::cells).for_each(|cell| cell.set(newest))
            }
        }
    }

    /// Takes the stamps of another in place of its own.
    pub(super) fn copy_from(&self, other: &StampSummaries) {
        self.clear();
        for (own, newest) in self.newest.iter().zip(&other.newest) {
            own.set(newest.get());
        }
        for (own, summary) in self.summaries.iter().zip(&other.summaries) {
            if let Some(summary) = summary.get() {
                own.get_or_init(Box::default).cells().zip(summary.cells()).for_each(|(own, cell)| own.set(cell.get()));
            }
        }
    }

    /// From now on no entry is newer than every mark.
    pub(super) fn exempt_nothing(&self) {
        self.newest.iter().for_each(|newest| newest.set(u64::MAX));
    }

    pub(super) fn clear(&self) {
        let summaries = self.summaries.iter().filter_map(OnceCell::get).flat_map(|summary| summary.cells());
        self.newest.iter().chain(summaries).for_each(|cell| cell.set(0));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.iter().all(|newest| newest.get() == 0)
    }

    fn get(&self, db: i32) -> Option<&StampSummary> {
        self.summaries.get(db as usize)?.get().map(|summary| &**summary)
    }

    fn get_or_create(&self, db: i32) -> Option<&StampSummary> {
        Some(self.summaries.get(db as usize)?.get_or_init(Box::default))
    }
}

impl Default for StampSummary {
    fn default() -> Self {
        StampSummary { others: Cell::default(), tags: [const { Cell::new(0) }; TAG_SLOTS] }
    }
}

impl StampSummary {
    #[inline]
    fn tag(&self, tag: TagId) -> &Cell<u64> {
        &self.tags[tag.0 as usize % TAG_SLOTS]
    }

    fn cells(&self) -> impl Iterator<Item = &Cell<u64>> {
        self.tags.iter().chain([&self.others])
    }
}

/// (A negative number, which no server has, is as good as any.)
#[inline]
fn index(db: i32) -> usize {
    db as usize % DATABASES
}

fn raise(cell: &Cell<u64>, stamp: Stamp) {
    cell.set(cell.get().max(stamp.0));
}
