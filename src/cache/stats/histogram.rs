//! Durations in constant memory: a histogram whose buckets grow with the durations that they count.
//!
//! ```text
//!  ms       0 1 2 … 7 │ 8 9 … 15 │ 16 18 … 30 │ 32 36 … 60 │ …  up to 70 minutes
//!  width        1     │     1    │      2     │      4     │ …
//! ```
//!
//! Below 16 ms a bucket is one millisecond wide; above, each doubling has eight buckets. So a percentile is off by at
//! most a sixteenth, and small ones are exact. (The idea is that of Gil Tene's HdrHistogram.)

/// Buckets per doubling.
const STEPS: u64 = 8;
/// The last bucket begins at 2²² − 2¹⁸ ms, and takes everything longer.
const BUCKETS: usize = 160;

/// How often each duration occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cache) struct Histogram([u32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; BUCKETS])
    }
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn record(&mut self, ms: u64) {
        let count = &mut self.0[bucket(ms)];
        *count = count.wrapping_add(1);
    }

    /// What was counted after `earlier`, a former copy of this histogram.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u32::wrapping_sub)
    }

    /// The sum of both.
    pub(super) fn plus(&self, other: &Self) -> Self {
        self.with(other, u32::wrapping_add)
    }

    fn with(&self, other: &Self, f: fn(u32, u32) -> u32) -> Self {
        Histogram(std::array::from_fn(|at| f(self.0[at], other.0[at])))
    }

    /// The duration that this share of all does not exceed, as the middle of its bucket; 0 when nothing was counted.
    pub(super) fn percentile(&self, percent: u64) -> u64 {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += u64::from(*count);
            seen >= wanted
        };
        self.0.iter().position(reached).map_or(0, |at| {
            let (from, next) = (start(at), start(at + 1));
            from + (next - from) / 2
        })
    }
}

fn bucket(ms: u64) -> usize {
    if ms < STEPS {
        return ms as usize;
    }
    let octave = u64::from(ms.ilog2() - STEPS.ilog2());
    let at = (octave + 1) * STEPS + (ms >> octave) - STEPS;
    (at as usize).min(BUCKETS - 1)
}

/// The shortest duration of a bucket.
fn start(at: usize) -> u64 {
    let at = at as u64;
    if at < STEPS { at } else { (STEPS + at % STEPS) << (at / STEPS - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_duration_falls_between_the_start_of_its_bucket_and_the_next() {
        for ms in (0..5_000).chain((12..22).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1])) {
            let at = bucket(ms);
            assert!(start(at) <= ms && (ms < start(at + 1) || at == BUCKETS - 1), "{ms} is in {at}");
        }
        assert_eq!((bucket(u64::MAX), start(BUCKETS - 1)), (BUCKETS - 1, (1 << 22) - (1 << 18)));
    }

    #[test]
    fn percentiles_of_nothing_are_zero_and_of_one_duration_that_duration() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50), histogram.percentile(99)), (0, 0));
        histogram.record(5);
        assert_eq!((histogram.percentile(50), histogram.percentile(99)), (5, 5));
    }

    #[test]
    fn later_durations_are_separated_from_earlier_ones() {
        let mut histogram = Histogram::default();
        (0..100).for_each(|_| histogram.record(1));
        let before = histogram.clone();
        (0..10).for_each(|_| histogram.record(9));
        assert_eq!((histogram.percentile(50), histogram.since(&before).percentile(50)), (1, 9));
        assert_eq!(histogram.since(&before).plus(&before), histogram);
    }

    proptest! {
        #[test]
        fn percentiles_are_off_by_at_most_a_sixteenth(mut all in proptest::collection::vec(0..4_000_000_u64, 1..200)) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|ms| histogram.record(*ms));
            all.sort_unstable();
            for percent in [1, 50, 99, 100] {
                let exact = all[(all.len() * percent).div_ceil(100).max(1) - 1];
                let found = histogram.percentile(percent as u64);
                prop_assert!(found.abs_diff(exact) <= exact / 16, "{percent}: {found} for {exact}");
            }
        }
    }
}
