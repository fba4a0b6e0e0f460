//! What is left of marks whose names are forgotten: their newest stamps, in constant memory.
//!
//! A tag that no entry carries, and a prefix that the sweep has applied, need no record. But a load that began before
//! the mark may still come home, and an older entry may arrive (by `RESTORE`, from a primary, by `RENAME` or `MOVE`).
//! So stamps and guards go into tables of fixed size, by a keyed hash of database and name, as those of deleted keys do
//! (`lease/tombstones.rs`):
//!
//! ```text
//!  slot = SipHash(database, name) mod n ─▶ hard: stamp, guard │ soft: stamp, guard        one set for tags,
//!                                                                                          one for prefixes
//! ```
//!
//! Names that share a slot share its moments: a load is distrusted too often, never too seldom. A key is compared with
//! as many slots as there are lengths of forgotten prefixes, and that only for what is older than the newest of them.
//!
//! Files keep no table, but the newest stamp of each database ([`Bounds`]): no load of an earlier life is trusted, and
//! entries that arrive are compared with that.

use std::collections::BTreeSet;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::mark::Verdict;
use super::record::Record;
use crate::cache::clock::Stamp;
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;
use crate::cache::tables::slots_for;

/// The tables of one node.
pub(super) struct Forgotten {
    /// Keeps clients from choosing which names share a slot.
    key: [u8; 16],
    /// Of a table that is allocated from now on.
    slots: usize,
    tags: Names,
    prefixes: Names,
    prefix_lengths: BTreeSet<usize>,
}

/// Under which numbers a database is in the tables: they move with it (`SWAPDB`), and a new number leaves what was
/// there behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stamps: u64,
    pub(super) guards: u64,
}

/// The newest forgotten marks of one database.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// Of patterns: what arrives is compared with it, whatever its name. From files also that of prefixes.
    pub(super) by_name: u64,
    /// Of prefixes that are in the table.
    pub(super) prefixes: u64,
    /// Of tags that are in the table.
    pub(super) tags: u64,
    /// Of tags, from files: what arrives with tags is compared with it, whatever they are.
    pub(super) any_tag: u64,
}

impl Bounds {
    /// Lowers what is later than this stamp to it.
    pub(super) fn clamp_stamps(&mut self, stamp: u64) {
        let Bounds { by_name, prefixes, tags, any_tag } = self;
        [by_name, prefixes, tags, any_tag].into_iter().for_each(|bound| *bound = stamp.min(*bound));
    }
}

#[derive(Default)]
struct Names {
    hard: Moments,
    soft: Moments,
    newest: u64,
    last_guard: u64,
}

/// Moments by slot; 0 is never. A table is allocated with its first moment.
#[derive(Default)]
struct Moments {
    stamps: Box<[u64]>,
    /// In milliseconds of the monotonic clock.
    guards: Box<[u64]>,
}

impl Forgotten {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Forgotten {
            key,
            slots: slots_for(0),
            tags: Names::default(),
            prefixes: Names::default(),
            prefix_lengths: BTreeSet::new(),
        }
    }

    pub(super) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    pub(super) fn add_tag(&mut self, place: Place, name: &[u8], record: &Record) {
        let (stamps, guards) = (self.hash(place.stamps, name), self.hash(place.guards, name));
        self.tags.add(stamps, guards, self.slots, record);
    }

    pub(super) fn add_prefix(&mut self, place: Place, prefix: &[u8], record: &Record) {
        let (stamps, guards) = (self.hash(place.stamps, prefix), self.hash(place.guards, prefix));
        self.prefixes.add(stamps, guards, self.slots, record);
        self.prefix_lengths.insert(prefix.len());
    }

    /// Why a load of an entry with this tag is not trusted, if it is not.
    pub(super) fn conflict_of_tag(&self, place: Place, name: &[u8], token: Token) -> Option<LoadConflict> {
        if !self.tags.matters(token) {
            return None;
        }
        self.tags.conflict(self.hash(place.stamps, name), self.hash(place.guards, name), token)
    }

    /// The same for the prefixes of a key.
    pub(super) fn conflict_of_key(&self, place: Place, key: &[u8], token: Token) -> Option<LoadConflict> {
        if !self.prefixes.matters(token) {
            return None;
        }
        let each = self.prefixes_of(place.stamps, key).zip(self.prefixes_of(place.guards, key));
        each.fold(None, |conflict, (stamps, guards)| {
            LoadConflict::stricter(conflict, self.prefixes.conflict(stamps, guards, token))
        })
    }

    /// What the mark of a tag may have made of an entry with this stamp.
    pub(super) fn verdict_of_tag(&self, place: Place, name: &[u8], stamp: u64) -> Verdict {
        if stamp > self.tags.newest {
            return Verdict::Untouched;
        }
        self.tags.verdict(self.hash(place.stamps, name), stamp)
    }

    /// The same for the prefixes of a key.
    pub(super) fn verdict_of_key(&self, place: Place, key: &[u8], stamp: u64) -> Verdict {
        if stamp > self.prefixes.newest {
            return Verdict::Untouched;
        }
        let each = self.prefixes_of(place.stamps, key).map(|hash| self.prefixes.verdict(hash, stamp));
        each.fold(Verdict::Untouched, Verdict::or_stricter)
    }

    /// Tables like these, with nothing in them.
    pub(super) fn empty(&self) -> Self {
        Forgotten { slots: self.slots, ..Forgotten::new(self.key) }
    }

    /// Lowers what is later than this stamp to it.
    pub(super) fn clamp_stamps(&mut self, stamp: u64) {
        for names in [&mut self.tags, &mut self.prefixes] {
            let tables = names.hard.stamps.iter_mut().chain(names.soft.stamps.iter_mut());
            tables.chain([&mut names.newest]).for_each(|moment| *moment = stamp.min(*moment));
        }
    }

    pub(super) fn clear(&mut self) {
        *self = self.empty();
    }

    pub(super) fn bytes(&self) -> usize {
        let tables = |moments: &Moments| moments.stamps.len() + moments.guards.len();
        let names = |names: &Names| tables(&names.hard) + tables(&names.soft);
        (names(&self.tags) + names(&self.prefixes)) * size_of::<u64>()
    }

    fn hash(&self, database: u64, name: &[u8]) -> u64 {
        let mut hasher = self.hasher(database);
        hasher.write(name);
        hasher.finish()
    }

    fn hasher(&self, database: u64) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64(database);
        hasher
    }

    /// The hashes of the key's prefixes that are as long as a forgotten one: the key is read once.
    fn prefixes_of<'k>(&'k self, database: u64, key: &'k [u8]) -> impl Iterator<Item = u64> + 'k {
        let mut hasher = self.hasher(database);
        let mut hashed = 0;
        self.prefix_lengths.range(..=key.len()).map(move |len| {
            hasher.write(&key[hashed..*len]);
            hashed = *len;
            hasher.finish()
        })
    }
}

impl Names {
    fn add(&mut self, stamps: u64, guards: u64, slots: usize, record: &Record) {
        for (moments, (stamp, guard)) in [(&mut self.hard, record.hardest()), (&mut self.soft, record.softest())] {
            raise(&mut moments.stamps, stamps, stamp, slots);
            raise(&mut moments.guards, guards, guard, slots);
        }
        self.newest = self.newest.max(record.newest());
        self.last_guard = self.last_guard.max(record.guard());
    }

    /// Whether any name can concern a load.
    fn matters(&self, token: Token) -> bool {
        token.stamp.0 <= self.newest || token.mono_ms < self.last_guard
    }

    fn conflict(&self, stamps: u64, guards: u64, token: Token) -> Option<LoadConflict> {
        let hits = |moments: &Moments| {
            token.stamp.0 <= read(&moments.stamps, stamps) || token.mono_ms < read(&moments.guards, guards)
        };
        match () {
            () if hits(&self.hard) => Some(LoadConflict::Dead),
            () if hits(&self.soft) => {
                let newest = read(&self.hard.stamps, stamps).max(read(&self.soft.stamps, stamps));
                Some(LoadConflict::Stale(Stamp(newest)))
            }
            () => None,
        }
    }

    fn verdict(&self, hash: u64, stamp: u64) -> Verdict {
        let soft = read(&self.soft.stamps, hash);
        match () {
            () if stamp <= read(&self.hard.stamps, hash) => Verdict::Dead,
            () if stamp <= soft => Verdict::Stale(Stamp(soft).ms()),
            () => Verdict::Untouched,
        }
    }
}

fn read(table: &[u64], hash: u64) -> u64 {
    if table.is_empty() { 0 } else { table[hash as usize % table.len()] }
}

fn raise(table: &mut Box<[u64]>, hash: u64, moment: u64, slots: usize) {
    if moment == 0 {
        return;
    }
    if table.is_empty() {
        *table = vec![0; slots].into();
    }
    let slot = &mut table[hash as usize % table.len()];
    *slot = moment.max(*slot);
}
