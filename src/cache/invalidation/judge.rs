//! The judge: the one place that decides whether an entry is fresh, stale or dead.

use crate::cache::clock::Now;
use crate::cache::entry::{EntryRef, Freshness};
use crate::cache::invalidation::mark::Verdict;
use crate::cache::invalidation::marks::Invalidations;

/// Judges the entry under one key at one moment, by its header and by the invalidation marks. Nothing else decides what
/// is fresh.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    invalidations: &'a Invalidations,
    db: i32,
    name: &'a [u8],
    now: Now,
}

impl<'a> Judge<'a> {
    /// A judge of the key `name` at `now`.
    pub fn new(invalidations: &'a Invalidations, db: i32, name: &'a [u8], now: Now) -> Self {
        Judge { invalidations, db, name, now }
    }

    /// The moment at which it judges.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether an entry is fresh, stale or dead.
    #[inline]
    pub fn freshness(&self, entry: EntryRef<'_>) -> Freshness {
        self.invalidations.freshness(self.db, self.name, entry, self.now)
    }

    /// Whether an entry is fresh.
    pub fn is_fresh(&self, entry: EntryRef<'_>) -> bool {
        matches!(self.freshness(entry), Freshness::Fresh { .. })
    }

    /// Whether an entry was invalidated, and not only expired.
    pub fn was_invalidated(&self, entry: EntryRef<'_>) -> bool {
        entry.stale()
            || matches!(
                self.invalidations.verdict(self.db, self.name, entry, self.now),
                Verdict::Stale(_) | Verdict::Dead
            )
    }
}
