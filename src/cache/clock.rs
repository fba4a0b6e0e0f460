//! Stamps: a clock that never steps back, never repeats, and follows the primary's.
//!
//! A stamp is a point in a node's order of events: when something was loaded or invalidated. Two stamps are compared,
//! never subtracted. The clock is a hybrid logical clock: `stamp = max(last + 1, wall clock in µs)` (Kulkarni et al.,
//! "Logical Physical Clocks", OPODIS 2014, with the microsecond as the counter). How *long* something lasts is measured
//! with wall time beside the stamp, since stamps may run ahead.

use std::fmt;

/// The time of one command, as the host read it: of the wall clock, which may be set, and of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    us: u64,
    mono_ms: u64,
}

impl Now {
    /// From microseconds of Unix time, and milliseconds of the monotonic clock.
    pub fn new(us: u64, mono_ms: u64) -> Self {
        Now { us, mono_ms }
    }

    /// From microseconds of Unix time, with a wall clock that was never set.
    pub fn from_us(us: u64) -> Self {
        Now { us, mono_ms: us / 1_000 }
    }

    /// Milliseconds of the monotonic clock, which measures leases and waiting.
    pub fn mono_ms(self) -> u64 {
        self.mono_ms
    }

    /// Milliseconds of Unix time.
    pub fn ms(self) -> u64 {
        self.us / 1_000
    }

    /// Microseconds of Unix time.
    pub fn us(self) -> u64 {
        self.us
    }
}

/// A point in the order of events: microseconds of the node's hybrid clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Its wall time in milliseconds (later than the real one if the clock ran ahead).
    pub fn ms(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far ahead of the wall clock a stamp is believed. Without this bound, one damaged byte would freeze the clock for
/// centuries.
const BELIEVABLE_US: u64 = 24 * 3600 * 1_000_000;

/// Whether a stamp is at most a day ahead.
pub fn is_believable(stamp: Stamp, now: Now) -> bool {
    stamp <= last_believable(now)
}

/// The latest stamp that is believed.
pub fn last_believable(now: Now) -> Stamp {
    Stamp(now.us().saturating_add(BELIEVABLE_US))
}

/// The source of a node's stamps.
#[derive(Debug, Default)]
pub struct Clock {
    last: u64,
}

impl Clock {
    /// A stamp later than all that this clock has made or seen.
    pub fn stamp(&mut self, now: Now) -> Stamp {
        self.last = now.us().max(self.last + 1);
        Stamp(self.last)
    }

    /// Whether the wall clock was more than a day ahead for a while and has been corrected: no other node would believe
    /// a stamp of this clock ([`follow`](Self::follow)). Then a new epoch starts, for the clock and for whatever holds
    /// stamps ([`State::start_epoch`](super::State::start_epoch)).
    pub fn is_astray(&self, now: Now) -> bool {
        !is_believable(Stamp(self.last), now)
    }

    /// Starts a new epoch now: earlier stamps cannot be compared with later ones.
    pub fn start_epoch(&mut self, now: Now) {
        self.last = now.us();
    }

    /// Skips one stamp, to be used as "just after the last one".
    pub fn leave_one(&mut self) {
        self.last += 1;
    }

    /// Moves past a stamp from our primary or our own files. False when it is more than a day ahead: then the clock
    /// does not move, and an entry with this stamp is dead.
    pub fn follow(&mut self, stamp: Stamp, now: Now) -> bool {
        if !is_believable(stamp, now) {
            return false;
        }
        self.last = self.last.max(stamp.0);
        true
    }

    /// The stamp for something from elsewhere (`RESTORE`, slot import), whose clock may differ from ours by `skew_ms`:
    /// at most this node's now, and then older by the skew, so that our invalidations always reach it. The clock moves
    /// past it.
    pub fn arrival(&mut self, stamp: Stamp, now: Now, skew_ms: u64) -> Stamp {
        let cut = stamp.0.min(now.us().max(self.last));
        self.last = self.last.max(cut);
        Stamp(cut.saturating_sub(skew_ms.saturating_mul(1_000)))
    }

    /// The latest stamp made or seen.
    pub fn last(&self) -> Stamp {
        Stamp(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_neither_repeat_nor_step_back_with_the_wall_clock() {
        let mut clock = Clock::default();
        let first = clock.stamp(Now::from_us(1_000));
        let same_microsecond = clock.stamp(Now::from_us(1_000));
        let clock_stepped_back = clock.stamp(Now::from_us(10));
        assert!(first < same_microsecond && same_microsecond < clock_stepped_back);
    }

    #[test]
    fn a_promoted_replica_continues_after_its_primarys_last_stamp() {
        let mut clock = Clock::default();
        assert!(clock.follow(Stamp(5_000_000), Now::from_us(1_000)));
        assert_eq!(clock.stamp(Now::from_us(1_000)), Stamp(5_000_001));
    }

    #[test]
    fn one_damaged_byte_does_not_freeze_the_clock() {
        let mut clock = Clock::default();
        assert!(!clock.follow(Stamp(u64::MAX), Now::from_us(1_000)));
        assert_eq!(clock.stamp(Now::from_us(2_000)), Stamp(2_000));
    }

    #[test]
    fn after_a_wall_clock_that_was_days_ahead_is_corrected_other_nodes_believe_new_stamps() {
        let mut clock = Clock::default();
        clock.stamp(Now::from_us(3 * BELIEVABLE_US));
        let right = Now::from_us(BELIEVABLE_US);
        assert!(clock.is_astray(right));
        clock.start_epoch(right);
        let after = clock.stamp(right);
        assert!(!clock.is_astray(right) && after == Stamp(BELIEVABLE_US + 1));
        assert!(Clock::default().follow(after, Now::from_us(BELIEVABLE_US)), "a replica follows it");
    }

    #[test]
    fn an_import_from_a_node_whose_clock_is_ahead_is_older_than_our_next_stamp() {
        let mut clock = Clock::default();
        let arrived = clock.arrival(Stamp(99_000_000), Now::from_us(70_000_000), 60_000);
        assert_eq!(arrived, Stamp(10_000_000));
        assert!(arrived < clock.stamp(Now::from_us(70_000_000)));
    }
}
