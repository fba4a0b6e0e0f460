//! The marks of one tag, prefix or pattern, or of a whole database (`ALL`), merged.
//!
//! ```text
//!  entry's stamp ≤ hard                      dead
//!                ≤ softs[i].stamp            stale since the earliest of those, each key at its own offset of the ramp
//!                later than all              unaffected
//!
//!  load's begin  < hard_guard │ soft_guard   dead │ stale, whatever its stamp
//! ```
//!
//! Hard and soft marks are kept apart, since neither undoes the other. Of hard marks the newest covers all older ones.
//! Soft marks differ in when they make entries stale, so several are kept; beyond eight the two closest in time become
//! one. Stamps and guards only move forward, so marks may be added twice and in any order: a replayed AOF does both.

use smallvec::SmallVec;

use super::hash::hash;
use super::mark::{Hardness, InvalidationMark, Verdict};
use crate::cache::clock::{Now, Stamp};
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;

/// How long a mark is kept at least: loads that are older are unlikely.
const KEPT_MS: u64 = 60_000;
/// Soft marks kept in one record.
const MAX_SOFTS: usize = 8;

/// What a mark of a prefix takes beside its text: its record, and its share of the sorted map and of the allocator.
const PREFIX_BYTES: usize = 136;

/// The bytes that a mark of a prefix takes.
pub(super) fn bytes_of_prefix(prefix: &[u8]) -> usize {
    PREFIX_BYTES + prefix.len()
}

#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    hard: u64,
    hard_guard: u64,
    /// Sorted by stamp; each is later than `hard`.
    softs: SmallVec<[Soft; 1]>,
    soft_guard: u64,
}

#[derive(Clone, Copy, Debug)]
struct Soft {
    stamp: u64,
    at_ms: u64,
    over_ms: u64,
}

impl Record {
    pub(super) fn new(mark: InvalidationMark) -> Self {
        let mut record = Record::default();
        record.add(mark);
        record
    }

    /// A hard mark with this stamp, without a guard.
    pub(super) fn hard(stamp: u64) -> Self {
        Record { hard: stamp, ..Record::default() }
    }

    /// The stamp of the hard mark, and the end of the guard of hard marks.
    pub(super) fn hardest(&self) -> (u64, u64) {
        (self.hard, self.hard_guard)
    }

    /// The stamp of the newest soft mark, and the end of the guard of soft marks.
    pub(super) fn softest(&self) -> (u64, u64) {
        (self.softs.last().map_or(0, |soft| soft.stamp), self.soft_guard)
    }

    pub(super) fn newest(&self) -> u64 {
        self.softs.last().map_or(0, |soft| soft.stamp).max(self.hard)
    }

    /// The end of the later guard.
    pub(super) fn guard(&self) -> u64 {
        self.hard_guard.max(self.soft_guard)
    }

    /// Takes the guards back; false when there were none.
    pub(super) fn take_back_guards(&mut self) -> bool {
        let had = self.guard() > 0;
        (self.hard_guard, self.soft_guard) = (0, 0);
        had
    }

    pub(super) fn add(&mut self, mark: InvalidationMark) {
        let stamp = mark.stamp.0;
        match mark.hardness {
            Hardness::Hard => {
                self.hard = self.hard.max(stamp);
                self.hard_guard = self.hard_guard.max(mark.guard_ms);
                self.softs.retain(|soft| soft.stamp > stamp);
            }
            Hardness::Soft { over_ms } => {
                self.soft_guard = self.soft_guard.max(mark.guard_ms);
                let at = self.softs.partition_point(|soft| soft.stamp < stamp);
                if stamp > self.hard && self.softs.get(at).is_none_or(|soft| soft.stamp != stamp) {
                    self.softs.insert(at, Soft { stamp, at_ms: mark.at_ms, over_ms });
                    self.merge_closest_softs();
                }
            }
        }
    }

    /// When there are too many soft marks, merges the two that are closest in time: from the earlier moment, without
    /// ramp.
    fn merge_closest_softs(&mut self) {
        if self.softs.len() > MAX_SOFTS {
            let gap = |at: &usize| self.softs[*at].at_ms.abs_diff(self.softs[at + 1].at_ms);
            if let Some(at) = (0..self.softs.len() - 1).min_by_key(gap) {
                let earlier = self.softs.remove(at);
                let later = &mut self.softs[at];
                (later.at_ms, later.over_ms) = (later.at_ms.min(earlier.at_ms), 0);
            }
        }
    }

    /// Whether it is as strict as another record, for every entry and every load.
    pub(super) fn covers(&self, other: &Record) -> bool {
        let covers_soft = |soft: &Soft| {
            soft.stamp <= self.hard
                || self.softs.iter().any(|own| own.over_ms == 0 && own.at_ms <= soft.at_ms && soft.stamp <= own.stamp)
        };
        other.hard <= self.hard
            && other.softs.iter().all(covers_soft)
            && other.hard_guard <= self.hard_guard
            && other.soft_guard <= self.guard()
    }

    pub(super) fn verdict(&self, stamp: u64, name: &[u8], now: Now) -> Verdict {
        if stamp <= self.hard {
            return Verdict::Dead;
        }
        let affecting = self.softs.iter().filter(|soft| stamp <= soft.stamp);
        affecting.fold(Verdict::Untouched, |verdict, soft| verdict.or_stricter(soft.verdict(name, now)))
    }

    /// Why a load that began with this token is not trusted, if it is not.
    pub(super) fn conflict(&self, name: &[u8], token: Token, now: Now) -> Option<LoadConflict> {
        if token.mono_ms < self.hard_guard {
            return Some(LoadConflict::Dead);
        }
        match self.verdict(token.stamp.0, name, now) {
            Verdict::Dead => Some(LoadConflict::Dead),
            Verdict::Stale(since) => Some(LoadConflict::stale_since(since)),
            Verdict::Untouched | Verdict::Later(_) if token.mono_ms < self.soft_guard => {
                Some(LoadConflict::stale_since(self.softs.last().map_or(now.ms(), |soft| soft.at_ms)))
            }
            Verdict::Untouched | Verdict::Later(_) => None,
        }
    }

    /// Lowers stamps that are later than this one to it.
    pub(super) fn clamp_stamps(&mut self, stamp: u64) {
        self.hard = self.hard.min(stamp);
        self.softs.iter_mut().for_each(|soft| soft.stamp = soft.stamp.min(stamp));
        self.softs.dedup_by(|later, earlier| {
            let same = later.stamp == earlier.stamp;
            if same {
                (earlier.at_ms, earlier.over_ms) = (earlier.at_ms.min(later.at_ms), 0);
            }
            same
        });
    }

    /// Whether no load can need the record any more. (Entries may.)
    pub(super) fn is_forgettable(&self, now: Now, oldest_lease: impl Fn() -> Option<Token>) -> bool {
        let (newest, guard) = (self.newest(), self.guard());
        is_old_enough(newest, now)
            && (guard == 0 || guard.saturating_add(KEPT_MS) <= now.mono_ms())
            && self.is_past_guard_and_ramp(now)
            && oldest_lease().is_none_or(|lease| lease.stamp.0 > newest && lease.mono_ms >= guard)
    }

    pub(super) fn is_past_guard_and_ramp(&self, now: Now) -> bool {
        self.guard() <= now.mono_ms()
            && self.softs.iter().all(|soft| soft.at_ms.saturating_add(soft.over_ms) <= now.ms())
    }

    /// Marks that make the same record.
    pub(super) fn marks(&self) -> impl Iterator<Item = InvalidationMark> + '_ {
        let hard =
            InvalidationMark { stamp: Stamp(self.hard), at_ms: 0, hardness: Hardness::Hard, guard_ms: self.hard_guard };
        let soft = |soft: &Soft| InvalidationMark {
            stamp: Stamp(soft.stamp),
            at_ms: soft.at_ms,
            hardness: Hardness::Soft { over_ms: soft.over_ms },
            guard_ms: self.soft_guard,
        };
        // A hard mark removes older soft ones, but not their guard.
        let guard = Soft { stamp: self.hard, at_ms: 0, over_ms: 0 };
        let guard = (self.softs.is_empty() && self.soft_guard > 0).then(|| soft(&guard));
        (self.hard.max(self.hard_guard) > 0).then_some(hard).into_iter().chain(guard).chain(self.softs.iter().map(soft))
    }
}

/// Whether a mark with this stamp has been kept long enough.
pub(super) fn is_old_enough(stamp: u64, now: Now) -> bool {
    Stamp(stamp).ms().saturating_add(KEPT_MS) <= now.ms()
}

impl Soft {
    fn verdict(&self, name: &[u8], now: Now) -> Verdict {
        if self.over_ms == 0 {
            return Verdict::Stale(self.at_ms); // also where the wall clock lags behind the mark
        }
        let at = self.at_ms.saturating_add(ramp_offset(name, self.over_ms));
        if at <= now.ms() { Verdict::Stale(at) } else { Verdict::Later(at) }
    }
}

/// When within a ramp of `over_ms` milliseconds (above 0) a key becomes stale: the same offset on every node.
fn ramp_offset(name: &[u8], over_ms: u64) -> u64 {
    hash(name) % over_ms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn at(ms: u64) -> Now {
        Now::from_us(ms * 1_000)
    }

    fn mark(stamp: u64, hardness: Hardness) -> InvalidationMark {
        InvalidationMark { stamp: Stamp(stamp), at_ms: stamp, hardness, guard_ms: 0 }
    }

    proptest! {
        /// Compared with all marks that were added: never less strict, and equal as long as none were merged.
        #[test]
        fn a_record_is_as_strict_as_all_marks_added_to_it(
            marks in proptest::collection::vec((1u64..60, prop_oneof![
                1 => Just(Hardness::Hard),
                4 => Just(Hardness::Soft { over_ms: 0 }),
                3 => (1u64..40).prop_map(|over_ms| Hardness::Soft { over_ms }),
            ], 0u64..100), 0..25),
            stamp in 1u64..60,
            now in 0u64..120,
        ) {
            let mut record = Record::default();
            let mut all = Verdict::Untouched;
            let (mut softs, mut guard) = (Vec::new(), 0);
            for (at, hardness, guard_ms) in &marks {
                record.add(InvalidationMark { guard_ms: *guard_ms, ..mark(*at, *hardness) });
                guard = guard.max(*guard_ms);
                if stamp <= *at {
                    all = all.or_stricter(match hardness {
                        Hardness::Hard => Verdict::Dead,
                        Hardness::Soft { over_ms } => Soft { stamp: *at, at_ms: *at, over_ms: *over_ms }.verdict(b"k", self::at(now)),
                    });
                }
                if matches!(hardness, Hardness::Soft { .. }) {
                    softs.push(*at);
                }
            }
            softs.sort_unstable();
            // Two marks never have the same stamp.
            prop_assume!(softs.windows(2).all(|two| two[0] != two[1]));
            let verdict = record.verdict(stamp, b"k", self::at(now));
            prop_assert_eq!(verdict.or_stricter(all), verdict, "never less strict than {:?}", all);
            if softs.len() <= MAX_SOFTS {
                prop_assert_eq!(verdict, all);
            }
            prop_assert_eq!(record.guard(), guard);
            prop_assert!(record.softs.is_sorted_by_key(|soft| soft.stamp) && record.softs.len() <= MAX_SOFTS);

            let mut again = Record::default();
            record.marks().for_each(|mark| again.add(mark));
            prop_assert_eq!(again.verdict(stamp, b"k", self::at(now)), verdict, "as it is saved");
            prop_assert_eq!(again.guard(), guard);
        }
    }

    #[test]
    fn a_record_is_forgettable_a_minute_after_mark_guard_and_ramp_when_no_older_load_is_under_way() {
        let token = |stamp: u64, mono_ms: u64| Some(Token { stamp: Stamp(stamp), mono_ms });
        let stamp = NOW * 1_000;
        let plain = Record::new(mark(stamp, Hardness::Hard));
        assert!(
            !plain.is_forgettable(at(NOW + KEPT_MS - 1), || None) && plain.is_forgettable(at(NOW + KEPT_MS), || None)
        );
        assert!(!plain.is_forgettable(at(NOW + KEPT_MS), || token(stamp, 0)), "an older load is under way");
        assert!(plain.is_forgettable(at(NOW + KEPT_MS), || token(stamp + 1, 0)));
        let guarded = Record::new(InvalidationMark { guard_ms: NOW + 500_000, ..mark(stamp, Hardness::Hard) });
        assert!(!guarded.is_forgettable(at(NOW + 500_000 + KEPT_MS - 1), || None));
        let later = at(NOW + 500_000 + KEPT_MS);
        assert!(
            guarded.is_forgettable(later, || None) && guarded.is_forgettable(later, || token(stamp + 9, NOW + 500_000))
        );
        assert!(
            !guarded.is_forgettable(later, || token(stamp + 9, NOW + 499_999)),
            "a load that began inside the guard"
        );
        let ramp = Record::new(InvalidationMark { at_ms: NOW, ..mark(stamp, Hardness::Soft { over_ms: 500_000 }) });
        assert!(!ramp.is_forgettable(at(NOW + 499_999), || None) && ramp.is_forgettable(at(NOW + 500_000), || None));
    }
}
