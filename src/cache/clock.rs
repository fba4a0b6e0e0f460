//! Stamps: a clock that never goes back, never repeats, and follows the primary's.
//!
//! A stamp says *when in the order of things* something was loaded or invalidated; two stamps are compared,
//! never subtracted. It is a hybrid logical clock: `stamp = max(last + 1, wall clock in µs)` (Kulkarni et al.,
//! "Logical Physical Clocks", OPODIS 2014, without the separate counter: a microsecond is the counter).
//! How *long* something lasts is judged by wall time kept beside the stamp, since stamps may run ahead.

use std::fmt;

/// The time of one command, as the host took it: on the wall, which may be set, and on a clock that only goes on.
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

    /// From microseconds of Unix time, on a wall clock that was never set.
    pub fn from_us(us: u64) -> Self {
        Now { us, mono_ms: us / 1_000 }
    }

    /// Milliseconds of the monotonic clock: what leases and waiting are measured with.
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

/// A moment in the order of things: microseconds of the node's hybrid clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The wall time it was made at, in milliseconds (later, when the clock ran ahead).
    pub fn ms(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stamp that arrives more than this ahead of the wall clock is not believed: one damaged byte would
/// otherwise freeze the clock for centuries.
const BELIEVABLE_US: u64 = 24 * 3600 * 1_000_000;

/// Whether a stamp may be true: it lies no more than a day ahead.
pub fn is_believable(stamp: Stamp, now: Now) -> bool {
    stamp.0 <= now.us().saturating_add(BELIEVABLE_US)
}

/// The source of a node's stamps.
#[derive(Debug, Default)]
pub struct Clock {
    last: u64,
}

impl Clock {
    /// A stamp later than every one made or seen before.
    pub fn stamp(&mut self, now: Now) -> Stamp {
        self.last = now.us().max(self.last + 1);
        Stamp(self.last)
    }

    /// Whether the wall clock was more than a day ahead for a while, and has been put right: nobody else would believe a
    /// stamp of this clock ([`follow`](Self::follow)). Then it begins anew, and so must whatever holds stamps
    /// ([`State::start_epoch`](super::State::start_epoch)).
    pub fn is_astray(&self, now: Now) -> bool {
        !is_believable(Stamp(self.last), now)
    }

    /// Begins anew, as of now: the stamps of before are no order any more.
    pub fn start_epoch(&mut self, now: Now) {
        self.last = now.us();
    }

    /// Leaves the stamp after the last one to nobody: for "just after that one", which must not be another's.
    pub fn leave_one(&mut self) {
        self.last += 1;
    }

    /// Moves past a stamp that comes from our primary or from our own files. False when it lies more than a
    /// day ahead and is not to be believed: then the clock does not move, and what carries it is dead.
    pub fn follow(&mut self, stamp: Stamp, now: Now) -> bool {
        if !is_believable(stamp, now) {
            return false;
        }
        self.last = self.last.max(stamp.0);
        true
    }

    /// The stamp for something that arrives from elsewhere (`RESTORE`, slot import), whose clock may differ
    /// from ours by `skew_ms`: cut down to this node's now, and then made older by the skew, so that what
    /// arrives is never immune to an invalidation of ours. The clock moves past it.
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
    fn stamps_never_repeat_and_never_go_back_when_the_wall_clock_does() {
        let mut clock = Clock::default();
        let first = clock.stamp(Now::from_us(1_000));
        let same_microsecond = clock.stamp(Now::from_us(1_000));
        let clock_stepped_back = clock.stamp(Now::from_us(10));
        assert!(first < same_microsecond && same_microsecond < clock_stepped_back);
    }

    #[test]
    fn a_promoted_replica_goes_on_after_its_primarys_last_stamp() {
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
    fn a_wall_clock_that_was_days_ahead_and_is_put_right_leaves_no_stamps_that_nobody_believes() {
        let mut clock = Clock::default();
        clock.stamp(Now::from_us(3 * BELIEVABLE_US));
        let right = Now::from_us(BELIEVABLE_US);
        assert!(clock.is_astray(right));
        clock.start_epoch(right);
        let after = clock.stamp(right);
        assert!(!clock.is_astray(right) && after == Stamp(BELIEVABLE_US + 1));
        assert!(Clock::default().follow(after, Now::from_us(BELIEVABLE_US)), "a replica takes it");
    }

    #[test]
    fn what_arrives_from_a_node_whose_clock_is_ahead_is_older_than_our_next_stamp() {
        let mut clock = Clock::default();
        let arrived = clock.arrival(Stamp(99_000_000), Now::from_us(70_000_000), 60_000);
        assert_eq!(arrived, Stamp(10_000_000));
        assert!(arrived < clock.stamp(Now::from_us(70_000_000)));
    }
}
