//! One mark: what an invalidation leaves behind, and what marks make of an entry.

use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::EntryMut;
use crate::cache::ids::TagId;

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
    pub hardness: Hardness,
    /// Until when loads that begin are not trusted either, in milliseconds of the monotonic clock; 0: they are.
    pub guard_ms: u64,
}

/// How an invalidation ends what it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardness {
    /// It is dead.
    Hard,
    /// It is stale.
    Soft {
        /// Each key ends at an offset of its own within so many milliseconds (`OVER`).
        over_ms: u64,
    },
}

impl Hardness {
    /// When the last key of a ramp that began at `at_ms` ends, in milliseconds of the monotonic clock;
    /// `None` when that is over, or there is none.
    pub fn ramp_ends(self, at_ms: u64, now: Now) -> Option<u64> {
        let Hardness::Soft { over_ms } = self else { return None };
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

impl Verdict {
    /// The stricter of two, and of two alike the earlier.
    #[must_use]
    pub fn or_stricter(self, other: Verdict) -> Verdict {
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
    pub fn apply_to(self, entry: &mut EntryMut<'_>) {
        match self {
            Verdict::Untouched => {}
            Verdict::Later(at) => entry.end_by(at),
            Verdict::Stale(since) => entry.make_stale_since(since),
            Verdict::Dead => entry.kill(),
        }
    }
}
