//! Why a key is gone: evicted, expired, or invalidated before it left, remembered in constant memory.
//!
//! The server reports which keys it evicts and which expire; an entry that leaves its key can be checked for being
//! invalidated, as those that the sweep frees are. A few bits of a keyed hash of the key's name go into one table of
//! 2¹⁷ slots (512 KB):
//!
//! ```text
//!  slot = hash mod 2¹⁷ ─▶ │ 30 other bits of the hash │ 0: evicted, 1: expired, 2: invalidated │
//! ```
//!
//! A miss looks up its reason here. One key is taken for another once in a billion look-ups. A later key may
//! overwrite the slot: after *n* more keys a reason is still known with probability `exp(−n/2¹⁷)` (after 10,000: 93
//! %; after 100,000: 47 %); otherwise the miss counts as cold. An entry that leaves its key in any other way clears
//! the key's old reason, so stores have nothing to do here. Databases are not distinguished.
//!
//! Beside the table stands the entry that left its key last, with its rule and whether it was fresh: the server first
//! removes an evicted entry, and reports the eviction right after.
//!
//! The host provides the table in memory that the server does not count: half a megabyte more at the first eviction
//! would evict another fifty entries, and stores would be refused meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use crate::cache::ids::RuleId;

/// Why a read found nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// The key is gone for no known reason.
    Cold,
    /// The key is gone; [`MissReasons::reason`] may know why.
    Gone,
    /// Its entry expired, or cannot be read.
    Expired,
    /// Its entry was invalidated; it may have left since.
    Invalidated,
    /// The server evicted it.
    Evicted,
}

/// Slots of the table.
pub const SLOTS: usize = 1 << 17;
const EVICTED: u32 = 0;
const EXPIRED: u32 = 1;
const INVALIDATED: u32 = 2;
/// The bits that hold the reason.
const HOW: u32 = 3;
/// The bits of a hash that are kept beside a rule and one flag.
const HASH_BITS: u64 = !0 << 17;

/// Why keys are gone. Written by the host's callbacks, which run on the main thread while a command may hold the state:
/// hence atomics, which never contend.
pub struct MissReasons {
    key: [u8; 16],
    room: Room,
    used: AtomicBool,
    /// The entry that left its key last: bits of the name's hash, the rule, and whether it was fresh.
    last: AtomicU64,
}

/// The memory of the table.
enum Room {
    Given(&'static [AtomicU32; SLOTS]),
    /// Allocated with the first key.
    Own(OnceLock<Box<[AtomicU32]>>),
}

impl std::fmt::Debug for MissReasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MissReasons").finish_non_exhaustive()
    }
}

impl MissReasons {
    /// An empty table, allocated when it is first used. The key keeps clients from choosing which keys share a slot.
    pub fn new(key: [u8; 16]) -> Self {
        MissReasons { key, room: Room::Own(OnceLock::new()), used: AtomicBool::new(false), last: AtomicU64::new(0) }
    }

    /// An empty table in this memory, which is all zeroes.
    pub fn within(room: &'static [AtomicU32; SLOTS], key: [u8; 16]) -> Self {
        MissReasons { room: Room::Given(room), ..MissReasons::new(key) }
    }

    /// Whether nothing was ever remembered.
    pub fn is_empty(&self) -> bool {
        !self.used.load(Relaxed)
    }

    /// The server let a key expire.
    pub fn expired(&self, name: &[u8]) {
        self.remember(name, EXPIRED);
    }

    /// The server evicted a key. Returns the rule of its entry if that was fresh: the server removes an entry before it
    /// reports why.
    pub fn evicted(&self, name: &[u8]) -> Option<RuleId> {
        self.remember(name, EVICTED);
        let last = self.last.swap(0, Relaxed);
        let was_fresh = last & 1 != 0 && last & HASH_BITS == self.hash(name) & HASH_BITS;
        was_fresh.then_some(RuleId((last >> 1) as u16))
    }

    /// An entry left its key: the reason remembered for the key is out of date.
    pub fn left(&self, name: &[u8], rule: RuleId, fresh: bool) {
        self.last.store(self.hash(name) & HASH_BITS | u64::from(rule.0) << 1 | u64::from(fresh), Relaxed);
        let Some(table) = self.table() else { return };
        let (slot, bits) = self.locate(name);
        if table[slot].load(Relaxed) & !HOW == bits {
            table[slot].store(0, Relaxed);
        }
    }

    /// The entry that has just [left](Self::left) its key had been invalidated.
    pub fn invalidated(&self, name: &[u8]) {
        self.remember(name, INVALIDATED);
    }

    /// All keys were removed by command.
    pub fn flushed(&self) {
        self.table().into_iter().flatten().for_each(|slot| slot.store(0, Relaxed));
    }

    /// Why a key is gone, as far as known.
    pub fn reason(&self, name: &[u8]) -> MissReason {
        let Some(table) = self.table() else { return MissReason::Cold };
        let (slot, bits) = self.locate(name);
        match table[slot].load(Relaxed) {
            remembered if remembered & !HOW != bits => MissReason::Cold,
            remembered => match remembered & HOW {
                EVICTED => MissReason::Evicted,
                EXPIRED => MissReason::Expired,
                _ => MissReason::Invalidated,
            },
        }
    }

    /// The table, unless it is empty.
    fn table(&self) -> Option<&[AtomicU32]> {
        match &self.room {
            _ if self.is_empty() => None,
            Room::Given(room) => Some(&room[..]),
            Room::Own(room) => room.get().map(|room| &room[..]),
        }
    }

    fn remember(&self, name: &[u8], how: u32) {
        let table = match &self.room {
            Room::Given(room) => &room[..],
            Room::Own(room) => room.get_or_init(|| (0..SLOTS).map(|_| AtomicU32::new(0)).collect()),
        };
        self.used.store(true, Relaxed);
        let (slot, bits) = self.locate(name);
        table[slot].store(bits | how, Relaxed);
    }

    /// The slot of a name, and the bits that distinguish it from other names there: never zero.
    fn locate(&self, name: &[u8]) -> (usize, u32) {
        let hash = self.hash(name);
        let bits = (hash >> 32) as u32 & !HOW;
        (hash as usize % SLOTS, if bits == 0 { HOW + 1 } else { bits })
    }

    fn hash(&self, name: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.key).hash(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_counts_and_an_entry_that_leaves_clears_it() {
        let miss_reasons = MissReasons::new([3; 16]);
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Cold);
        miss_reasons.evicted(b"k");
        assert_eq!((miss_reasons.reason(b"k"), miss_reasons.reason(b"other")), (MissReason::Evicted, MissReason::Cold));
        miss_reasons.expired(b"k");
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Expired);
        miss_reasons.left(b"other", RuleId(7), true);
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Expired);
        miss_reasons.left(b"k", RuleId(7), true);
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Cold);
        miss_reasons.invalidated(b"k");
        assert_eq!(
            (miss_reasons.reason(b"k"), miss_reasons.reason(b"other")),
            (MissReason::Invalidated, MissReason::Cold)
        );
        miss_reasons.left(b"k", RuleId(7), true);
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Cold, "it had been stored again");
        assert_eq!(miss_reasons.evicted(b"k"), Some(RuleId(7)));
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Evicted);
        miss_reasons.flushed();
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Cold);
    }

    #[test]
    fn an_eviction_is_matched_with_the_entry_that_left_just_before() {
        let miss_reasons = MissReasons::new([3; 16]);
        assert_eq!(miss_reasons.evicted(b"string"), None);
        miss_reasons.left(b"k", RuleId(65_535), true);
        assert_eq!(miss_reasons.evicted(b"string"), None);
        assert_eq!(miss_reasons.evicted(b"k"), None, "another key was evicted in between");
        miss_reasons.left(b"k", RuleId(65_535), true);
        assert_eq!((miss_reasons.evicted(b"k"), miss_reasons.evicted(b"k")), (Some(RuleId(65_535)), None), "once");
        miss_reasons.left(b"k", RuleId(65_535), false);
        assert_eq!(miss_reasons.evicted(b"k"), None, "it was not fresh");
    }

    #[test]
    fn reasons_are_forgotten_as_documented_and_never_taken_for_those_of_another_key() {
        let miss_reasons = MissReasons::new([3; 16]);
        let name = |i: usize| format!("key:{i}").into_bytes();
        (0..20_000).for_each(|i| {
            miss_reasons.evicted(&name(i));
        });
        let known = |from: usize| {
            (from..from + 1_000).filter(|i| miss_reasons.reason(&name(*i)) == MissReason::Evicted).count()
        };
        assert!((830..=900).contains(&known(0)), "exp(−0.15) are left: {}", known(0));
        assert!(known(19_000) > 980);
        assert_eq!(known(1_000_000), 0);
    }
}
