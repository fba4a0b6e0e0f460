//! Why a key is not there: which ones the server has evicted or let expire, and which were invalidated before they went,
//! remembered in constant memory.
//!
//! The server says which keys it evicts and which expire; an entry that leaves its key can be asked whether it was
//! invalidated, as those are that the sweep frees. A few bits of a keyed hash of their names go into one table of 2¹⁷ slots
//! (512 KB):
//!
//! ```text
//!  slot = hash mod 2¹⁷ ─▶ │ 30 other bits of the hash │ 0: evicted, 1: expired, 2: invalidated │
//! ```
//!
//! A miss looks here for its reason. One name is taken for another once in a billion looks. What is written later into
//! the same slot replaces what was there: after *n* more keys a reason is still known with the probability `exp(−n/2¹⁷)`
//! (after 10,000: 93 %; after 100,000: 47 %), else the miss counts as cold. An entry that leaves its key in any other way
//! takes the key's old reason with it, so nothing needs to be done when something is stored. Databases are not told
//! apart.
//!
//! Beside the table it remembers the one entry that left last, its rule and whether it was fresh: the server lets an entry
//! leave its key, and says right after it that it has evicted the key.
//!
//! The host gives the room, as memory that the server does not count: half a megabyte more with the first eviction would
//! have it evict another fifty entries, and refuse what is stored meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use crate::cache::ids::RuleId;

/// Why a read found nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// The key is not there, and nobody knows why.
    Cold,
    /// The key is not there.
    Gone,
    /// Its time is over, or it cannot be read.
    Expired,
    /// Its freshness was ended by command, maybe before it went.
    Invalidated,
    /// The server has evicted it.
    Evicted,
}

/// How many keys there is room for.
pub const SLOTS: usize = 1 << 17;
const EVICTED: u32 = 0;
const EXPIRED: u32 = 1;
const INVALIDATED: u32 = 2;
/// The bits that say how a key went.
const HOW: u32 = 3;
/// What is kept of a hash beside a rule and a bit.
const HASH_BITS: u64 = !0 << 17;

/// Keys that went without a command. Written to by the host's callbacks, which run on the main thread while a command of
/// ours may hold the state: hence atomics, which never contend.
pub struct MissReasons {
    key: [u8; 16],
    room: Room,
    used: AtomicBool,
    /// The entry that left its key last: bits of its name's hash, its rule, and whether it was fresh.
    last: AtomicU64,
}

/// Where it is written down.
enum Room {
    Given(&'static [AtomicU32; SLOTS]),
    /// Made with the first key.
    Own(OnceLock<Box<[AtomicU32]>>),
}

impl std::fmt::Debug for MissReasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MissReasons").finish_non_exhaustive()
    }
}

impl MissReasons {
    /// Nothing has gone. The key keeps clients from choosing which keys share a slot.
    pub fn new(key: [u8; 16]) -> Self {
        MissReasons { key, room: Room::Own(OnceLock::new()), used: AtomicBool::new(false), last: AtomicU64::new(0) }
    }

    /// The same in this room, which is all zeroes.
    pub fn within(room: &'static [AtomicU32; SLOTS], key: [u8; 16]) -> Self {
        MissReasons { room: Room::Given(room), ..MissReasons::new(key) }
    }

    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        !self.used.load(Relaxed)
    }

    /// The server has let a key expire.
    pub fn expired(&self, name: &[u8]) {
        self.remember(name, EXPIRED);
    }

    /// The server has evicted a key. The rule of the entry that it held and that was fresh, if it did: the server lets an
    /// entry leave its key before it says why.
    pub fn evicted(&self, name: &[u8]) -> Option<RuleId> {
        self.remember(name, EVICTED);
        let last = self.last.swap(0, Relaxed);
        let was_fresh = last & 1 != 0 && last & HASH_BITS == self.hash(name) & HASH_BITS;
        was_fresh.then_some(RuleId((last >> 1) as u16))
    }

    /// An entry has left its key: whatever was remembered of the key is of the past.
    pub fn left(&self, name: &[u8], rule: RuleId, fresh: bool) {
        self.last.store(self.hash(name) & HASH_BITS | u64::from(rule.0) << 1 | u64::from(fresh), Relaxed);
        let Some(table) = self.table() else { return };
        let (slot, bits) = self.locate(name);
        if table[slot].load(Relaxed) & !HOW == bits {
            table[slot].store(0, Relaxed);
        }
    }

    /// The entry that has just [left](Self::left) its key could not be served as fresh any more, by command.
    pub fn invalidated(&self, name: &[u8]) {
        self.remember(name, INVALIDATED);
    }

    /// All keys have gone by command.
    pub fn flushed(&self) {
        self.table().into_iter().flatten().for_each(|slot| slot.store(0, Relaxed));
    }

    /// Why a key is not there, as far as it is known.
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

    /// The table, unless there is nothing in it.
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

    /// The slot of a name, and the bits that tell it from others there: never zero.
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
    fn the_last_reason_counts_and_an_entry_that_leaves_takes_it_along() {
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
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Cold, "it was stored anew meanwhile");
        assert_eq!(miss_reasons.evicted(b"k"), Some(RuleId(7)));
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Evicted);
        miss_reasons.flushed();
        assert_eq!(miss_reasons.reason(b"k"), MissReason::Cold);
    }

    #[test]
    fn what_is_evicted_is_known_by_the_entry_that_left_just_before() {
        let miss_reasons = MissReasons::new([3; 16]);
        assert_eq!(miss_reasons.evicted(b"string"), None);
        miss_reasons.left(b"k", RuleId(65_535), true);
        assert_eq!(miss_reasons.evicted(b"string"), None);
        assert_eq!(miss_reasons.evicted(b"k"), None, "it had left for another reason");
        miss_reasons.left(b"k", RuleId(65_535), true);
        assert_eq!((miss_reasons.evicted(b"k"), miss_reasons.evicted(b"k")), (Some(RuleId(65_535)), None), "once");
        miss_reasons.left(b"k", RuleId(65_535), false);
        assert_eq!(miss_reasons.evicted(b"k"), None, "it was not fresh");
    }

    #[test]
    fn as_much_is_forgotten_as_the_header_says_and_never_taken_for_another() {
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
