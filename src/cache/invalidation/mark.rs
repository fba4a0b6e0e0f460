//! One invalidation mark, and the verdict of marks on an entry.

use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::EntryMut;
use crate::cache::ids::TagId;

/// What a mark affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkTarget<'w> {
    /// Every entry of the database.
    All,
    /// Entries that carry the tag.
    Tag(TagId),
    /// Keys with the prefix.
    Prefix(&'w [u8]),
    /// Keys that match the pattern.
    Pattern(&'w [u8]),
}

/// The mark of one invalidation: it affects entries whose stamp is not later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidationMark {
    /// When it happened, in the order of events.
    pub stamp: Stamp,
    /// The same in milliseconds of Unix time: windows of stale entries count from then.
    pub at_ms: u64,
    /// Whether it makes entries dead or stale.
    pub hardness: Hardness,
    /// The end of the guard, in milliseconds of the monotonic clock; 0 without one.
    pub guard_ms: u64,
}

/// What an invalidation makes of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardness {
    /// Dead.
    Hard,
    /// Stale.
    Soft {
        /// The length of the ramp (`OVER`); 0: at once.
        over_ms: u64,
    },
}

impl Hardness {
    /// The end of the ramp that began at `at_ms`, in milliseconds of the monotonic clock; `None` when it has passed or
    /// there is no ramp.
    pub fn ramp_ends(self, at_ms: u64, now: Now) -> Option<u64> {
        let Hardness::Soft { over_ms } = self else { return None };
        let left_ms = at_ms.saturating_add(over_ms).saturating_sub(now.ms()).min(over_ms);
        (left_ms > 0).then(|| now.mono_ms().saturating_add(left_ms))
    }
}

/// What marks make of an entry. Moments are in milliseconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No mark affects it.
    Untouched,
    /// On a ramp: it becomes stale then.
    Later(u64),
    /// Stale since then.
    Stale(u64),
    /// Dead.
    Dead,
}

impl Verdict {
    /// The stricter of two verdicts; of two alike, the earlier.
    #[must_use]
    pub(super) fn or_stricter(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Dead, _) | (_, Verdict::Dead) => Verdict::Dead,
            (Verdict::Stale(a), Verdict::Stale(b)) => Verdict::Stale(a.min(b)),
            (Verdict::Stale(at), _) | (_, Verdict::Stale(at)) => Verdict::Stale(at),
            (Verdict::Later(a), Verdict::Later(b)) => Verdict::Later(a.min(b)),
            (Verdict::Later(at), _) | (_, Verdict::Later(at)) => Verdict::Later(at),
            (Verdict::Untouched, Verdict::Untouched) => Verdict::Untouched,
        }
    }

    /// Writes the verdict into the entry's header.
    pub fn apply_to(self, entry: &mut EntryMut<'_>) {
        match self {
            Verdict::Untouched => {}
            Verdict::Later(at) => entry.end_by(at),
            Verdict::Stale(since) => entry.make_stale_since(since),
            Verdict::Dead => entry.kill(),
        }
    }
}
