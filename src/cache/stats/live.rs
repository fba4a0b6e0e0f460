//! Counts of the entries in memory, exact although entries are freed on any thread.
//!
//! The allocation of an entry calls [`Live::on_alloc`] and its free calls [`Live::on_free`]: in the host where the
//! server takes and frees values, in the test keyspace likewise. Counting is a few atomic additions. Counters of
//! removed tags are freed while no other thread counts: the main thread never waits for that, other threads only
//! while it frees.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

use crate::cache::entry::EntryRef;
use crate::cache::ids::{RuleId, TagId};

/// Tags per block of counters.
const BLOCK: usize = 4096;
/// Blocks: room for 16.7 million tags.
const BLOCKS: usize = 4096;
/// The most tag ids that can be in use at once.
pub const MAX_TAG_IDS: usize = BLOCK * BLOCKS;

/// Blocks that one call frees at most.
const TRIMMED_AT_ONCE: usize = 16;

/// Rules per block of counters.
const RULES: usize = 64;

/// The counts of one process.
#[derive(Debug)]
pub struct Live {
    rules: Box<[OnceLock<Box<[Counts]>>]>,
    /// Locked for reading to count, for writing to free blocks.
    holders: RwLock<Blocks>,
    /// No block from this index on is allocated.
    blocks: AtomicUsize,
}

/// How many entries hold each tag.
type Blocks = Box<[OnceLock<Box<[AtomicU32]>>]>;

/// The counters of one rule's entries.
#[derive(Debug, Default)]
struct Counts {
    entries: AtomicI64,
    raw_bytes: AtomicI64,
    stored_bytes: AtomicI64,
    allocated_bytes: AtomicI64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries, including dead ones that are not yet freed.
    pub entries: u64,
    /// Bytes of their values as clients sent them.
    pub raw_bytes: u64,
    /// Bytes of their values as stored.
    pub stored_bytes: u64,
    /// Bytes of their allocations: header, tags and stored value.
    pub allocated_bytes: u64,
}

impl Totals {
    /// These totals minus those of some of the entries.
    pub fn without(self, some: Totals) -> Totals {
        self.with(some, u64::saturating_sub)
    }

    fn with(self, other: Totals, f: fn(u64, u64) -> u64) -> Totals {
        Totals {
            entries: f(self.entries, other.entries),
            raw_bytes: f(self.raw_bytes, other.raw_bytes),
            stored_bytes: f(self.stored_bytes, other.stored_bytes),
            allocated_bytes: f(self.allocated_bytes, other.allocated_bytes),
        }
    }
}

impl Counts {
    fn totals(&self) -> Totals {
        let read = |n: &AtomicI64| n.load(Relaxed).max(0) as u64;
        Totals {
            entries: read(&self.entries),
            raw_bytes: read(&self.raw_bytes),
            stored_bytes: read(&self.stored_bytes),
            allocated_bytes: read(&self.allocated_bytes),
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        let holders = (0..BLOCKS).map(|_| OnceLock::new()).collect();
        let rules = (0..=usize::from(u16::MAX) / RULES).map(|_| OnceLock::new()).collect();
        Live { rules, holders: RwLock::new(holders), blocks: AtomicUsize::new(0) }
    }
}

impl Live {
    /// Counts an entry that was allocated.
    pub fn on_alloc(&self, entry: EntryRef<'_>) {
        self.count(entry, 1);
        if entry.tags().len() > 0 {
            let holders = self.read_holders();
            for tag in entry.tags() {
                self.holders_of(&holders, tag).fetch_add(1, Relaxed);
            }
        }
    }

    /// Uncounts an entry that is about to be freed.
    pub fn on_free(&self, entry: EntryRef<'_>) {
        self.count(entry, -1);
        if entry.tags().len() > 0 {
            let holders = self.read_holders();
            for tag in entry.tags() {
                self.holders_of(&holders, tag).fetch_sub(1, Relaxed);
            }
        }
    }

    /// How many entries hold a tag: exact once background frees have ended.
    pub fn holders(&self, tag: TagId) -> u32 {
        self.holders_of(&self.read_holders(), tag).load(Relaxed)
    }

    /// Frees counters of tags with ids from `made` on, which no entry holds and no entry gets meanwhile. Frees a few
    /// blocks per call, and none while another thread counts.
    pub fn trim(&self, made: usize) {
        let last = made.div_ceil(BLOCK);
        if self.blocks.load(Relaxed) <= last {
            return;
        }
        let Ok(mut holders) = self.holders.try_write() else { return };
        for _ in 0..TRIMMED_AT_ONCE {
            let blocks = self.blocks.load(Relaxed);
            if blocks <= last {
                break;
            }
            holders[blocks - 1].take();
            self.blocks.store(blocks - 1, Relaxed);
        }
    }

    /// The bytes that counters of tags take.
    pub fn bytes(&self) -> usize {
        let made =
            self.read_holders().iter().take(self.blocks.load(Relaxed)).filter(|block| block.get().is_some()).count();
        made * BLOCK * size_of::<AtomicU32>()
    }

    /// The totals of all entries.
    pub fn totals(&self) -> Totals {
        let blocks = self.rules.iter().filter_map(OnceLock::get);
        blocks.flatten().map(Counts::totals).fold(Totals::default(), |all, one| all.with(one, u64::wrapping_add))
    }

    /// The totals of the entries that were stored under a rule.
    pub fn of_rule(&self, rule: RuleId) -> Totals {
        let block = self.rules[usize::from(rule.0) / RULES].get();
        block.map_or_else(Totals::default, |counts| counts[usize::from(rule.0) % RULES].totals())
    }

    fn count(&self, entry: EntryRef<'_>, sign: i64) {
        let rule = usize::from(entry.rule().0);
        let block = self.rules[rule / RULES].get_or_init(|| (0..RULES).map(|_| Counts::default()).collect());
        let counts = &block[rule % RULES];
        counts.entries.fetch_add(sign, Relaxed);
        counts.raw_bytes.fetch_add(sign * entry.raw_len() as i64, Relaxed);
        counts.stored_bytes.fetch_add(sign * entry.stored().len() as i64, Relaxed);
        counts.allocated_bytes.fetch_add(sign * entry.allocation().len() as i64, Relaxed);
    }

    fn read_holders(&self) -> RwLockReadGuard<'_, Blocks> {
        self.holders.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn holders_of<'b>(&self, holders: &'b Blocks, tag: TagId) -> &'b AtomicU32 {
        let (block, at) = (tag.0 as usize / BLOCK, tag.0 as usize % BLOCK);
        let counters = holders[block].get_or_init(|| {
            self.blocks.fetch_max(block + 1, Relaxed);
            (0..BLOCK).map(|_| AtomicU32::new(0)).collect()
        });
        &counters[at]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::cache::entry::tests::holding;

    #[test]
    fn counters_of_removed_tags_are_freed_while_other_threads_count() {
        let live = Arc::new(Live::default());
        let (first, last) = (TagId(0), TagId(20 * BLOCK as u32 - 1));
        let gone = holding(1, &[first, last]);
        live.on_alloc(gone.as_ref());
        assert_eq!(live.bytes(), 2 * BLOCK * 4);
        let counting = || {
            let live = live.clone();
            thread::spawn(move || {
                let entry = holding(1, &[first]);
                for _ in 0..10_000 {
                    live.on_alloc(entry.as_ref());
                    live.on_free(entry.as_ref());
                }
            })
        };
        let others = [counting(), counting()];
        live.on_free(gone.as_ref());
        while live.bytes() > BLOCK * 4 {
            live.trim(1);
        }
        for other in others {
            other.join().unwrap();
        }
        assert_eq!((live.holders(first), live.totals().entries), (0, 0));
        live.trim(0);
        assert_eq!(live.bytes(), 0);
        assert_eq!(live.holders(last), 0, "a freed counter starts at zero");
    }
}
