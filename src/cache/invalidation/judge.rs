//! The judge: the one place that decides whether an entry is fresh, stale or dead.

use crate::cache::clock::Now;
use crate::cache::entry::{EntryRef, Freshness};
use crate::cache::invalidation::mark::Verdict;
use crate::cache::invalidation::marks::Invalidations;

/// Judges the entry under one key at one moment, by what it says itself and by what was invalidated. Nothing else may say
/// what is fresh.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    invalidations: &'a Invalidations,
    db: i32,
    name: &'a [u8],
    now: Now,
}

impl<'a> Judge<'a> {
    /// By these marks.
    pub fn new(invalidations: &'a Invalidations, db: i32, name: &'a [u8], now: Now) -> Self {
        Judge { invalidations, db, name, now }
    }

    /// The moment at which it judges.
    pub fn now(&self) -> Now {
        self.now
    }

    /// What an entry is good for.
    #[inline]
    pub fn freshness(&self, entry: EntryRef<'_>) -> Freshness {
        self.invalidations.freshness(self.db, self.name, entry, self.now)
    }

    /// Whether an entry is fresh.
    pub fn is_fresh(&self, entry: EntryRef<'_>) -> bool {
        matches!(self.freshness(entry), Freshness::Fresh { .. })
    }

    /// Whether its freshness was ended by somebody, and not by time.
    pub fn was_invalidated(&self, entry: EntryRef<'_>) -> bool {
        entry.stale()
            || matches!(
                self.invalidations.verdict(self.db, self.name, entry, self.now),
                Verdict::Stale(_) | Verdict::Dead
            )
    }
}
