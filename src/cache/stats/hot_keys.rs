//! The keys that are requested most, lately, in constant memory and a few nanoseconds per request.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k elements in data streams",
//! ICDT 2005) in a table of 128 sets with 8 cells each:
//!
//! ```text
//!  hash(key) ─▶ set ─▶ a cell with these bits? yes: count it
//!                       no: the key takes over the cell with the lowest count;
//!                           it continues from that count, and remembers it as inherited
//! ```
//!
//! A key that is requested often soon has a cell and keeps it, because there is always a cell with a lower count. The
//! report shows a key's count since it got its cell: never too much, and too little only by the requests before that.
//!
//! **Sampling:** the first 1,000 requests of every second are counted; of the others two of five, at random
//! distances, each as two and a half. **Decay:** every minute all counts lose a quarter, so half of a count is gone
//! after two and a half minutes. **Memory:** 28 KB for the table, plus the names, of 64 bytes at first and 1,024 at
//! most (longer keys count in the total, but have no cell): about 120 KB, never more than 1.2 MB.

use crate::cache::clock::Now;

const SETS: usize = 128;
const WAYS: usize = 8;
/// Longer keys get no cell.
const MAX_NAME: usize = 1_024;
/// Bytes allocated for each name in advance.
const NAME_CAPACITY: usize = 64;
/// Requests of each second that are counted one by one.
const UNSAMPLED: u32 = 1_000;
/// Counts are in parts of a request, so that small counts survive the decay for a while.
const UNIT: u64 = 16;
/// The weight of a sampled request: one of the next four is drawn, so it stands for 2.5 on average.
const SAMPLED_WEIGHT: u64 = UNIT * 5 / 2;
/// How often counts lose a quarter, in milliseconds.
const DECAY_MS: u64 = 60_000;

/// Eight cells. A cell whose bits are zero is free.
#[derive(Clone, Debug, Default)]
struct Set {
    bits: [u32; WAYS],
    count: [u64; WAYS],
    /// The cell's count when its key took it over.
    inherited: [u64; WAYS],
    served: [u64; WAYS],
}

/// The keys that are requested most.
pub struct HotKeys {
    sets: Vec<Set>,
    names: Vec<Vec<u8>>,
    /// All requests; decays like the counts of keys.
    total: u64,
    /// How many requests remain up to the next one that is counted.
    skip: u32,
    /// The weight of that request.
    weight: u64,
    /// When this second ends, in milliseconds of the monotonic clock.
    ends_ms: u64,
    /// How many more requests of this second are counted one by one.
    unsampled: u32,
    /// Up to when counts have decayed, in milliseconds of the monotonic clock.
    decayed_ms: u64,
    /// A linear congruential generator: good enough to choose by its highest bits.
    random: u64,
    seed: u64,
}

impl std::fmt::Debug for HotKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HotKeys").finish_non_exhaustive()
    }
}

/// A key that is requested often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HotKey<'h> {
    /// Its name.
    pub name: &'h [u8],
    /// How often it was requested, lately.
    pub requests: u64,
    /// How many of these requests were hits, of any kind.
    pub hits: u64,
    /// Its share of all requests, from 0 to 1.
    pub share: f64,
}

impl HotKeys {
    /// An empty table. The seed keeps clients from choosing which keys share a set.
    pub(super) fn new(seed: u64, now: Now) -> Self {
        HotKeys {
            sets: vec![Set::default(); SETS],
            names: (0..SETS * WAYS).map(|_| Vec::with_capacity(NAME_CAPACITY)).collect(),
            total: 0,
            skip: 1,
            weight: UNIT,
            ends_ms: 0,
            unsampled: 0,
            decayed_ms: now.mono_ms(),
            random: seed,
            seed,
        }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self, now: Now) {
        self.sets.fill(Set::default());
        (self.total, self.decayed_ms) = (0, now.mono_ms());
    }

    /// Records a request for a key; `served` if it was a hit of any kind.
    #[inline(always)]
    pub(super) fn record(&mut self, name: &[u8], served: bool, now: Now) {
        self.skip -= 1; // at least 1 before
        if self.skip == 0 {
            self.count(name, served, now);
        }
    }

    fn count(&mut self, name: &[u8], served: bool, now: Now) {
        if now.mono_ms() >= self.ends_ms {
            self.rotate(now);
        }
        let weight = self.weight;
        self.draw_next();
        self.total += weight;
        if name.len() > MAX_NAME {
            return;
        }
        let hash = hash(self.seed, name);
        let (at, bits) = (hash as usize % SETS, (hash >> 32) as u32 | 1);
        let set = &mut self.sets[at];
        let way = match set.bits.iter().position(|other| *other == bits) {
            Some(way) => way,
            None => {
                let way = set.take_coldest(bits);
                let own = &mut self.names[at * WAYS + way];
                own.clear();
                own.extend_from_slice(name);
                way
            }
        };
        set.count[way] += weight;
        set.served[way] += if served { weight } else { 0 };
    }

    /// Begins a new second.
    #[cold]
    fn rotate(&mut self, now: Now) {
        self.ends_ms = (now.mono_ms() / 1_000 + 1) * 1_000;
        self.unsampled = UNSAMPLED;
        self.decay(now);
    }

    /// Draws which request is counted next, and its weight.
    fn draw_next(&mut self) {
        if self.unsampled > 0 {
            self.unsampled -= 1;
            (self.skip, self.weight) = (1, UNIT);
        } else {
            self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (self.skip, self.weight) = ((self.random >> 62) as u32 + 1, SAMPLED_WEIGHT);
        }
    }

    /// Applies the decay of the minutes that have passed.
    fn decay(&mut self, now: Now) {
        let times = now.mono_ms().saturating_sub(self.decayed_ms) / DECAY_MS;
        self.decayed_ms += times * DECAY_MS;
        let left = |count: u64| (0..times.min(100)).fold(count, |count, _| count - count.div_ceil(4));
        self.total = left(self.total);
        for (set, names) in self.sets.iter_mut().zip(self.names.chunks_mut(WAYS)) {
            for (way, name) in names.iter_mut().enumerate() {
                for count in [&mut set.count[way], &mut set.inherited[way], &mut set.served[way]] {
                    *count = left(*count);
                }
                if set.count[way] - set.inherited[way] < UNIT {
                    (set.bits[way], set.count[way], set.inherited[way]) = (0, 0, 0);
                    name.clear();
                    name.shrink_to(NAME_CAPACITY);
                }
            }
        }
    }

    /// The `count` keys with the most requests, of those that are wanted, in falling order. Whether a key is wanted may
    /// cost something: it is asked until there are enough.
    pub fn top(&mut self, count: usize, wanted: impl Fn(&[u8]) -> bool, now: Now) -> Vec<HotKey<'_>> {
        self.decay(now);
        let total = self.total;
        let cells = self
            .sets
            .iter()
            .flat_map(|set| (0..WAYS).map(|way| (set.bits[way], set.count[way] - set.inherited[way], set.served[way])));
        let mut keys: Vec<_> = cells
            .zip(&self.names)
            .filter(|((bits, count, _), _)| *bits != 0 && *count > 0)
            .map(|((_, count, served), name)| HotKey {
                name,
                requests: count.div_ceil(UNIT),
                hits: served.div_ceil(UNIT),
                share: count as f64 / total as f64,
            })
            .collect();
        keys.sort_unstable_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.name.cmp(b.name)));
        keys.into_iter().filter(|key| wanted(key.name)).take(count).collect()
    }
}

impl Set {
    /// Gives the cell with the lowest count to a new key.
    #[cold]
    fn take_coldest(&mut self, bits: u32) -> usize {
        let way = (1..WAYS).fold(0, |coldest, way| if self.count[way] < self.count[coldest] { way } else { coldest });
        self.bits[way] = bits;
        (self.inherited[way], self.served[way]) = (self.count[way], 0);
        way
    }
}

/// A fast seeded hash: eight bytes per step, each a wide multiplication folded in half.
fn hash(seed: u64, name: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |a: u64, b: u64| {
        let wide = u128::from(a ^ seed) * u128::from(b ^ ODD);
        wide as u64 ^ (wide >> 64) as u64
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| mix(hash.rotate_left(29), u64::from_le_bytes(*word)));
    // The last eight bytes, overlapping the step before, instead of a padded word.
    let last = match (name.last_chunk::<8>(), rest) {
        (_, []) => 0,
        (Some(last), _) => u64::from_le_bytes(*last),
        (None, rest) => match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        },
    };
    mix(mix(hash.rotate_left(29), last), seed.rotate_left(32))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{Rng, SeedableRng};
    use rand_distr::Zipf;

    use super::*;

    fn at(ms: u64) -> Now {
        Now::new(5, ms)
    }

    /// How many of the true top 20 keys are named, and the largest relative error of their shares.
    fn against_exact(hot: &mut HotKeys, exact: &HashMap<u64, u64>, now: Now) -> (usize, f64) {
        let all: u64 = exact.values().sum();
        let mut truth: Vec<_> = exact.iter().map(|(key, count)| (*count, *key)).collect();
        truth.sort_unstable_by(|a, b| b.cmp(a));
        let named_shares: HashMap<Vec<u8>, f64> =
            hot.top(20, |_| true, now).iter().map(|key| (key.name.to_vec(), key.share)).collect();
        let (mut named, mut worst) = (0, 0.0_f64);
        for (count, key) in &truth[..20] {
            if let Some(share) = named_shares.get(format!("user:{key}:profile").as_bytes()) {
                named += 1;
                let exact = *count as f64 / all as f64;
                worst = worst.max((share - exact).abs() / exact);
            }
        }
        (named, worst)
    }

    #[test]
    fn of_the_true_top_20_of_a_zipf_stream_18_are_named_and_their_shares_are_within_a_tenth() {
        for (exponent, a_second, seed) in [(1.0, 20_000, 1), (1.0, 500_000, 2), (0.9, 500_000, 3), (1.2, 5_000, 4)] {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let zipf = Zipf::new(100_000.0, exponent).unwrap();
            let (mut hot, mut exact) = (HotKeys::new(seed, at(0)), HashMap::new());
            for i in 0..1_000_000_u64 {
                let key = random.sample(zipf) as u64;
                *exact.entry(key).or_default() += 1;
                hot.record(format!("user:{key}:profile").as_bytes(), true, at(i * 1_000 / a_second));
            }
            // The run is so short that its top keys are still those of the whole stream.
            assert!(1_000_000 / a_second <= 200);
            let (named, worst) = against_exact(&mut hot, &exact, at(1_000_000_000 / a_second));
            assert!(named >= 18, "{named} of 20 for {exponent}");
            assert!(worst <= 0.1 || 1_000_000 / a_second > 60, "a share is off by {worst} for {exponent}");
        }
    }

    #[test]
    fn a_key_that_was_hot_is_forgotten_and_one_that_is_hot_now_is_reported() {
        let mut hot = HotKeys::new(9, at(0));
        (0..900_u64).for_each(|i| hot.record(b"old", true, at(i)));
        assert_eq!(hot.top(9, |_| true, at(900))[0], HotKey { name: b"old", requests: 900, hits: 900, share: 1.0 });
        for i in 0..900_u64 {
            hot.record(b"new", i % 3 == 0, at(300_000 + i));
        }
        let keys: Vec<_> =
            hot.top(9, |_| true, at(301_000)).iter().map(|key| (key.name.to_vec(), key.requests)).collect();
        assert_eq!(keys[0], (b"new".to_vec(), 900));
        assert!(keys[1].1 < 220, "{keys:?}");
        assert!(hot.top(9, |_| true, at(90_000_000)).is_empty());
    }

    #[test]
    fn unwanted_names_are_left_out_and_long_ones_only_count_in_the_total() {
        let mut hot = HotKeys::new(9, at(0));
        let long = vec![b'x'; MAX_NAME + 1];
        for name in [&b"a:1"[..], b"a:1", b"b:1", &long, b""] {
            hot.record(name, true, at(1));
        }
        let names = |hot: &mut HotKeys, count| -> Vec<_> {
            hot.top(count, |name| name != b"b:1", at(1)).iter().map(|key| (key.name.to_vec(), key.share)).collect()
        };
        assert_eq!(names(&mut hot, 9), [(b"a:1".to_vec(), 0.4), (b"".to_vec(), 0.2)]);
        assert_eq!(names(&mut hot, 1).len(), 1);
        hot.reset(at(2));
        assert!(names(&mut hot, 9).is_empty());
    }

    #[test]
    fn names_that_differ_in_one_byte_fall_into_different_sets() {
        let mut seen = HashMap::<u64, u32>::new();
        for i in 0..12_800 {
            *seen.entry(hash(7, format!("key:{i}").as_bytes()) % SETS as u64).or_default() += 1;
        }
        assert!(seen.len() == SETS && seen.values().all(|count| (50..170).contains(count)), "{seen:?}");
        let padded: std::collections::HashSet<_> = (0..20).map(|len| hash(7, &vec![0; len])).collect();
        assert_eq!(padded.len(), 20, "the number of zero bytes matters");
    }
}
