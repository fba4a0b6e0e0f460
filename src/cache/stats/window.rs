//! The counters of a rule, since start and over the last minute, five minutes or hour.
//!
//! Counters only grow, so a window is the difference of two moments. Two rings keep what the counters were at the end
//! of each second and of each minute:
//!
//! ```text
//!  seconds   … 41 42 43    46 47     the counters at the end of that second; idle seconds leave no slot
//!  minutes   … 12 13 14 15           the same by minutes
//!  now       48                      the counters themselves
//!
//!  the last minute = now − (what it was 61 seconds ago)
//! ```
//!
//! No timer is needed: the first count in a new second stores the slot of the old one, which is exact because nothing
//! was counted in between. Times are those of the monotonic clock, so setting the wall clock changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::Counters;
use super::histogram::Histogram;
use crate::cache::clock::Now;

/// How many slots a window can reach back. One older slot is kept as the baseline.
const SLOTS: u64 = 60;

/// How far back to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last minute, to the second.
    Minute,
    /// The last five minutes, to the minute.
    FiveMinutes,
    /// The last hour, to the minute.
    Hour,
}

/// Every window, by its name in commands.
pub const WINDOWS: &[(&str, Window)] = &[("1m", Window::Minute), ("5m", Window::FiveMinutes), ("1h", Window::Hour)];

impl Window {
    /// When it begins, in milliseconds of the monotonic clock: at the start of a slot, so it reaches back up to one
    /// slot farther than its name says.
    pub fn begins_ms(self, now: Now) -> u64 {
        let (slots, slot_ms) = match self {
            Window::Minute => (60, 1_000),
            Window::FiveMinutes => (5, 60_000),
            Window::Hour => (60, 60_000),
        };
        (now.mono_ms() / slot_ms).saturating_sub(slots) * slot_ms
    }
}

/// The counters at one moment.
#[derive(Clone, Debug, Default)]
pub(in crate::cache) struct Counted {
    /// The counters.
    pub(in crate::cache) count: Counters,
    /// How long callers waited. Shared between the moments at which it was the same.
    pub(in crate::cache) waits: Arc<Histogram>,
}

impl Counted {
    /// What was counted after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let waits = if Arc::ptr_eq(&self.waits, &earlier.waits) {
            Arc::default()
        } else {
            Arc::new(self.waits.since(&earlier.waits))
        };
        Counted { count: self.count.with(&earlier.count, u64::wrapping_sub), waits }
    }

    /// The sum of both.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Counted {
            count: self.count.with(&other.count, u64::wrapping_add),
            waits: Arc::new(self.waits.plus(&other.waits)),
        }
    }
}

/// The counters of one rule, with their past.
#[derive(Debug)]
pub(super) struct Row {
    /// The counters now.
    pub(super) current: Counted,
    /// When the second of the last count ends, in milliseconds of the monotonic clock.
    pub(super) ends_ms: u64,
    /// When the rule was set: the node's [eligible](Counters::eligible) keys, and the moment. `None`: before the
    /// counters were zero.
    pub(super) rule_set_at: Option<(u64, u64)>,
    seconds: Ring,
    minutes: Ring,
}

impl Row {
    /// All counters at zero.
    pub(super) fn new(now: Now) -> Self {
        let ends_ms = (now.mono_ms() / 1_000 + 1) * 1_000;
        Row {
            current: Counted::default(),
            ends_ms,
            rule_set_at: None,
            seconds: Ring::default(),
            minutes: Ring::default(),
        }
    }

    /// Begins a new second, and stores the slot of the old one. (The clock never goes back.)
    #[cold]
    pub(super) fn rotate(&mut self, now: Now) {
        let (old, new) = (self.second(), now.mono_ms() / 1_000);
        self.seconds.push(old, &self.current, new);
        if old / 60 != new / 60 {
            self.minutes.push(old / 60, &self.current, new / 60);
        }
        self.ends_ms = (new + 1) * 1_000;
    }

    fn second(&self) -> u64 {
        self.ends_ms / 1_000 - 1
    }

    /// What was counted in a window, or since the counters were zero.
    pub(super) fn over(&self, window: Option<Window>, now: Now) -> Counted {
        let Some(window) = window else { return self.current.clone() };
        match self.baseline(window, now) {
            Baseline::Everything => Counted::default(),
            Baseline::Nothing => self.current.clone(),
            Baseline::Some(before) => self.current.since(before),
        }
    }

    /// The same without the waits, which are most of the work.
    pub(super) fn count_over(&self, window: Window, now: Now) -> Counters {
        match self.baseline(window, now) {
            Baseline::Everything => Counters::default(),
            Baseline::Nothing => self.current.count,
            Baseline::Some(before) => self.current.count.with(&before.count, u64::wrapping_sub),
        }
    }

    fn baseline(&self, window: Window, now: Now) -> Baseline<'_> {
        let begins = window.begins_ms(now) / 1_000;
        if self.second() < begins {
            return Baseline::Everything;
        }
        let before = match window {
            Window::Minute => self.seconds.before(begins),
            Window::FiveMinutes | Window::Hour => self.minutes.before(begins / 60),
        };
        before.map_or(Baseline::Nothing, Baseline::Some)
    }

    /// Adds the counters and the past of another row to this one.
    pub(super) fn absorb(&mut self, mut other: Row) {
        let now = Now::new(0, self.ends_ms.max(other.ends_ms) - 1);
        for row in [&mut *self, &mut other] {
            if row.ends_ms <= now.mono_ms() {
                row.rotate(now);
            }
        }
        self.seconds = self.seconds.plus(&other.seconds);
        self.minutes = self.minutes.plus(&other.minutes);
        self.current = self.current.plus(&other.current);
    }
}

/// How much of a row was counted before a window.
enum Baseline<'r> {
    Nothing,
    Some(&'r Counted),
    Everything,
}

/// The counters at the end of seconds, or of minutes, in rising order.
#[derive(Debug, Default)]
struct Ring(VecDeque<(u64, Counted)>);

impl Ring {
    /// Adds a slot, and removes those that no window reaches from slot `now` on.
    fn push(&mut self, slot: u64, current: &Counted, now: u64) {
        let reach = now.saturating_sub(SLOTS);
        while self.0.get(1).is_some_and(|(at, _)| *at < reach) {
            self.0.pop_front();
        }
        self.0.push_back((slot, current.clone()));
    }

    /// The counters when this slot began; `None` if nothing had been counted.
    fn before(&self, slot: u64) -> Option<&Counted> {
        let known = self.0.partition_point(|(at, _)| *at < slot);
        Some(&self.0.get(known.checked_sub(1)?)?.1)
    }

    /// The sum of both, slot by slot.
    fn plus(&self, other: &Self) -> Self {
        let mut slots: Vec<u64> = self.0.iter().chain(&other.0).map(|(at, _)| *at).collect();
        slots.sort_unstable();
        slots.dedup();
        let nothing = Counted::default();
        let at_end = |ring: &Self, slot: u64| ring.before(slot + 1).unwrap_or(&nothing).clone();
        Ring(slots.into_iter().map(|slot| (slot, at_end(self, slot).plus(&at_end(other, slot)))).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Window; 3] = [Window::Minute, Window::FiveMinutes, Window::Hour];

    fn at(ms: u64) -> Now {
        Now::new(77, ms)
    }

    fn hit(row: &mut Row, ms: u64) {
        if ms >= row.ends_ms {
            row.rotate(at(ms));
        }
        row.current.count.hits += 1;
        Arc::make_mut(&mut row.current.waits).record(3);
    }

    fn hits(row: &Row, ms: u64) -> [u64; 3] {
        ALL.map(|window| {
            let counted = row.over(Some(window), at(ms));
            assert_eq!(counted.waits.percentile(50), if counted.count.hits > 0 { 3 } else { 0 });
            assert_eq!(row.count_over(window, at(ms)), counted.count);
            counted.count.hits
        })
    }

    #[test]
    fn a_window_counts_what_happened_in_it_and_nothing_older() {
        let mut row = Row::new(at(0));
        hit(&mut row, 500);
        assert_eq!(hits(&row, 900), [1, 1, 1]);
        hit(&mut row, 30_000);
        assert_eq!(hits(&row, 60_000), [2, 2, 2], "a minute and up to a second");
        assert_eq!(hits(&row, 61_000), [1, 2, 2]);
        hit(&mut row, 91_000);
        assert_eq!(hits(&row, 91_999), [1, 3, 3]);
        assert_eq!(hits(&row, 359_999), [0, 3, 3], "five minutes and up to one more");
        assert_eq!(hits(&row, 360_000), [0, 1, 3]);
        assert_eq!(hits(&row, 3_659_999), [0, 0, 3]);
        assert_eq!(hits(&row, 3_660_000), [0, 0, 1]);
        assert_eq!(hits(&row, u64::MAX), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn windows_agree_with_a_list_of_moments(gaps in proptest::collection::vec((0..2_u8, 0..100_000_u64), 1..300)) {
            let (mut rows, mut moments, mut now) = ([Row::new(at(0)), Row::new(at(0))], Vec::new(), 0);
            for (which, gap) in gaps {
                now += if gap > 70_000 { gap * 10 } else { gap / 20 };
                hit(&mut rows[usize::from(which)], now);
                moments.push(now);
                for window in ALL {
                    let wanted = moments.iter().filter(|ms| **ms >= window.begins_ms(at(now))).count() as u64;
                    let found: u64 = rows.iter().map(|row| row.over(Some(window), at(now)).count.hits).sum();
                    prop_assert_eq!(found, wanted);
                }
                prop_assert!(rows.iter().all(|row| row.seconds.0.len() <= 62 && row.minutes.0.len() <= 62));
            }
            let [mut one, other] = rows;
            one.absorb(other);
            for later in [0, 500, 20_000, 100_000, 1_000_000] {
                for window in ALL {
                    let wanted = moments.iter().filter(|ms| **ms >= window.begins_ms(at(now + later))).count() as u64;
                    prop_assert_eq!(one.over(Some(window), at(now + later)).count.hits, wanted);
                }
            }
        }
    }
}
