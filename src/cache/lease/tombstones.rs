//! Tombstones: which loads in flight are not to be trusted any more, in constant memory.
//!
//! During a load its key may be deleted, made stale, or stored and deleted again: then the key holds nothing that a
//! fill could be compared with. So the *last* such moment is kept in tables of fixed size, by a keyed hash of the key's
//! name:
//!
//! ```text
//!  slot = SipHash(key) mod n      n by the server's memory, at most 2¹⁸: 2 MB a table
//!
//!  deleted[slot]   the last SMARTCACHE.DEL, a native DEL …     a load begun before: STALE, dropped
//!  staled[slot]    the last SMARTCACHE.STALE                    a load begun before: STALE, kept as a stale copy
//!  gone[slot]      the newest entry that is no longer there     a load begun before it: LOST
//!  begun[slot]     the last lease                               the server's own commands concern only such keys
//! ```
//!
//! Two keys that share a slot, or one name in two databases, share its moments: a load is distrusted too often, never
//! too seldom. That concerns fills that come late or without a lease. A fill whose lease is still out needs no
//! tombstone, since whatever deletes or overwrites a key ends its lease. `gone` holds the stamp at which the vanished
//! entry's own load began, which is nearly always older than any load in flight: there a collision costs next to
//! nothing. A guard also distrusts loads that begin within it; its end is kept on the monotonic clock, since stamps may
//! run ahead of the wall clock.
//!
//! A table is allocated with its first tombstone, and none is recorded before the first token or stamp is given out.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use crate::cache::clock::{Now, Stamp};
use crate::cache::lease::token::Token;
use crate::cache::tables::slots_for;

/// Moments by slot; 0 is never.
type Table = OnceLock<Box<[AtomicU64]>>;

/// The tombstones of one node. Shared with the host's callbacks, which run on the main thread while a command may hold
/// the state: hence atomics, which never contend.
pub struct Tombstones {
    key: [u8; 16],
    /// Of a table that is allocated from now on: a power of two.
    slots: AtomicUsize,
    loads_began: AtomicBool,
    /// A load has begun since [`no_news`](Self::no_news).
    news: AtomicBool,
    deleted: Moments,
    staled: Moments,
    gone: Table,
    /// When the last lease of each slot was granted, in milliseconds of the monotonic clock.
    begun: Table,
    /// When the last stamp for loads of any key was given out; and the last token or stamp.
    stamped_ms: AtomicU64,
    last_ms: AtomicU64,
}

impl std::fmt::Debug for Tombstones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tombstones").finish_non_exhaustive()
    }
}

/// The last tombstone of each slot.
#[derive(Default)]
struct Moments {
    stamps: Table,
    /// Until when loads that begin are distrusted too, in milliseconds of the monotonic clock.
    guards: Table,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TombstoneKind {
    /// It was deleted: a load in flight is dropped.
    Deleted,
    /// It was made stale: a load in flight becomes a stale copy.
    Staled,
}

/// What a tombstone, or an invalidation mark, makes of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadConflict {
    /// The key was deleted since: the value is dead.
    Dead,
    /// The key was made stale at this stamp: the value is a stale copy.
    Stale(Stamp),
}

impl LoadConflict {
    /// The stricter of two; of two alike, the earlier.
    pub fn stricter(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(LoadConflict::Dead), _) | (_, Some(LoadConflict::Dead)) => Some(LoadConflict::Dead),
            (Some(LoadConflict::Stale(a)), Some(LoadConflict::Stale(b))) => Some(LoadConflict::Stale(a.min(b))),
            (one, other) => one.or(other),
        }
    }

    /// The value has been a stale copy since then, in milliseconds of Unix time.
    pub fn stale_since(ms: u64) -> Self {
        LoadConflict::Stale(Stamp(ms.saturating_mul(1_000)))
    }
}

impl Tombstones {
    /// Empty. The secret key of the hash keeps clients from choosing which keys share a slot.
    pub fn new(key: [u8; 16]) -> Self {
        Self::with_slots(key, slots_for(0))
    }

    /// The same with tables of another size, a power of two.
    pub fn with_slots(key: [u8; 16], slots: usize) -> Self {
        assert!(slots.is_power_of_two());
        Tombstones {
            key,
            slots: AtomicUsize::new(slots),
            loads_began: AtomicBool::new(false),
            news: AtomicBool::new(false),
            deleted: Moments::default(),
            staled: Moments::default(),
            gone: Table::new(),
            begun: Table::new(),
            stamped_ms: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
        }
    }

    /// Sets the size of tables that are allocated from now on, a power of two.
    pub fn set_slots(&self, slots: usize) {
        self.slots.store(slots, Relaxed);
    }

    /// A token for a key is given out, or a stamp for any (`None`): from now on loads may be in flight.
    pub fn load_begins(&self, key: Option<&[u8]>, now: Now) {
        self.loads_began.store(true, Relaxed);
        self.news.store(true, Relaxed);
        self.last_ms.store(now.mono_ms(), Relaxed);
        match key {
            Some(key) => self.raise(&self.begun, self.hash(key), now.mono_ms()),
            None => self.stamped_ms.store(now.mono_ms(), Relaxed),
        }
    }

    /// Whether a load has begun since [`no_news`](Self::no_news).
    pub fn has_news(&self) -> bool {
        self.news.load(Relaxed)
    }

    /// Resets [`has_news`](Self::has_news).
    pub fn no_news(&self) {
        self.news.store(false, Relaxed);
    }

    /// Whether any load that began within the last `within_ms` may be in flight.
    pub fn awaits_any(&self, now: Now, within_ms: u64) -> bool {
        self.matter() && now.mono_ms().saturating_sub(self.last_ms.load(Relaxed)) <= within_ms
    }

    /// Whether a load of the key that began within the last `within_ms` may be in flight.
    pub fn awaits(&self, key: &[u8], now: Now, within_ms: u64) -> bool {
        let lately = |at: u64| at > 0 && now.mono_ms().saturating_sub(at) <= within_ms;
        self.matter() && (lately(self.stamped_ms.load(Relaxed)) || lately(read(&self.begun, self.hash(key))))
    }

    /// Whether loads may be in flight, so that tombstones are needed.
    pub fn matter(&self) -> bool {
        self.loads_began.load(Relaxed)
    }

    /// Records a tombstone: loads of the key that began before `stamp`, or begin within `guard_ms` from now, are not
    /// trusted.
    pub fn record(&self, kind: TombstoneKind, key: &[u8], stamp: Stamp, guard_ms: u64, now: Now) {
        let (hash, moments) = (self.hash(key), self.moments(kind));
        self.raise(&moments.stamps, hash, stamp.0);
        if guard_ms > 0 {
            self.raise(&moments.guards, hash, now.mono_ms().saturating_add(guard_ms));
        }
    }

    /// An entry with this stamp has left its key, for whatever reason: what was loaded before it must not be stored.
    pub fn gone(&self, key: &[u8], stamp: Stamp) {
        if self.matter() {
            self.raise(&self.gone, self.hash(key), stamp.0);
        }
    }

    /// The stamp of the newest entry that has left this key, or one that shares its slot.
    pub fn newest_gone(&self, key: &[u8]) -> Stamp {
        Stamp(read(&self.gone, self.hash(key)))
    }

    /// Everything was flushed: loads that begin now are trusted, whatever was deleted before.
    pub fn take_back_guards(&self) {
        for guards in [&self.deleted.guards, &self.staled.guards].into_iter().filter_map(|table| table.get()) {
            guards.iter().for_each(|guard| guard.store(0, Relaxed));
        }
    }

    /// Earlier stamps have lost their meaning; the flush epoch distrusts all earlier loads.
    pub fn reset(&self) {
        for table in [&self.deleted.stamps, &self.staled.stamps, &self.gone].into_iter().filter_map(|table| table.get())
        {
            table.iter().for_each(|moment| moment.store(0, Relaxed));
        }
    }

    /// Why this load of the key is not to be trusted; `None` when it is. With its lease still out (`leased`) only
    /// guards count: whatever deletes or overwrites a key ends its lease.
    pub fn of(&self, token: Token, key: &[u8], leased: bool) -> Option<LoadConflict> {
        let hash = self.hash(key);
        let marked = |moments: &Moments| {
            let stamp = read(&moments.stamps, hash);
            let since = !leased && token.stamp.0 <= stamp;
            (since || token.mono_ms < read(&moments.guards, hash)).then_some(Stamp(stamp))
        };
        match marked(&self.deleted) {
            Some(_) => Some(LoadConflict::Dead),
            None => marked(&self.staled).map(LoadConflict::Stale),
        }
    }

    fn moments(&self, kind: TombstoneKind) -> &Moments {
        match kind {
            TombstoneKind::Deleted => &self.deleted,
            TombstoneKind::Staled => &self.staled,
        }
    }

    /// A keyed hash of a key's name.
    pub fn hash(&self, key: &[u8]) -> usize {
        SipHasher13::new_with_key(&self.key).hash(key) as usize
    }

    /// Moments only move forward.
    fn raise(&self, table: &Table, hash: usize, moment: u64) {
        let slots = || (0..self.slots.load(Relaxed)).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>();
        let table = table.get_or_init(slots);
        table[hash & (table.len() - 1)].fetch_max(moment, Relaxed);
    }
}

fn read(table: &Table, hash: usize) -> u64 {
    table.get().map_or(0, |table| table[hash & (table.len() - 1)].load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn tombstones() -> Tombstones {
        let tombstones = Tombstones::new([7; 16]);
        tombstones.load_begins(None, at(0));
        tombstones
    }

    fn load(at_ms: u64) -> Token {
        Token { stamp: Stamp(at_ms * MS), mono_ms: at_ms }
    }

    fn at(ms: u64) -> Now {
        Now::from_us(ms * MS)
    }

    #[test]
    fn a_load_is_distrusted_when_its_key_was_marked_after_it_began() {
        let tombstones = tombstones();
        tombstones.record(TombstoneKind::Staled, b"k", Stamp(20 * MS), 0, at(20));
        assert_eq!(tombstones.of(load(19), b"k", false), Some(LoadConflict::Stale(Stamp(20 * MS))));
        assert_eq!(tombstones.of(load(21), b"k", false), None);
        assert_eq!((tombstones.of(load(19), b"k", true), tombstones.of(load(19), b"other", false)), (None, None));
        tombstones.record(TombstoneKind::Deleted, b"k", Stamp(18 * MS), 0, at(18));
        assert_eq!(
            tombstones.of(load(17), b"k", false),
            Some(LoadConflict::Dead),
            "what is dead is not served stale either"
        );
        assert_eq!(
            tombstones.of(load(19), b"k", false),
            Some(LoadConflict::Stale(Stamp(20 * MS))),
            "neither overwrites the other"
        );
    }

    #[test]
    fn a_mark_never_goes_back() {
        let tombstones = tombstones();
        tombstones.record(TombstoneKind::Deleted, b"k", Stamp(20 * MS), 0, at(20));
        tombstones.record(TombstoneKind::Deleted, b"k", Stamp(10 * MS), 0, at(10));
        assert_eq!(tombstones.of(load(15), b"k", false), Some(LoadConflict::Dead));
    }

    #[test]
    fn a_guard_counts_on_the_monotonic_clock_so_a_wall_clock_set_back_does_not_prolong_it() {
        let tombstones = tombstones();
        tombstones.record(TombstoneKind::Deleted, b"k", Stamp(1_000_000 * MS), 5_000, Now::new(1_000_000 * MS, 20_000));
        // The wall clock is set back by an hour: stamps go on from the last one.
        let begun = |mono_ms, nth| Token { stamp: Stamp(1_000_000 * MS + nth), mono_ms };
        assert_eq!(tombstones.of(begun(24_999, 1), b"k", false), Some(LoadConflict::Dead));
        assert_eq!(tombstones.of(begun(25_000, 2), b"k", false), None);
    }

    #[test]
    fn nothing_is_written_down_before_the_first_load() {
        let tombstones = Tombstones::new([7; 16]);
        tombstones.gone(b"k", Stamp(9));
        assert!(!tombstones.matter() && tombstones.gone.get().is_none());
        tombstones.load_begins(None, at(0));
        tombstones.gone(b"k", Stamp(10));
        assert_eq!(tombstones.newest_gone(b"k"), Stamp(10));
    }
}
