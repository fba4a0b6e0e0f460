//! An entry: what SmartCache stores under a key, in one allocation.
//!
//! ```text
//!  0        8            14    15    16    17    18    20         24
//!  ┌────────┬────────────┬─────┬─────┬─────┬─────┬─────┬──────────┬─────────┬────────┬────────┬─────────┬────────┐
//!  │ stamp  │ fresh_until│codec│tags │flags│indx │rule │stored_len│swr │ sie│load_ms │raw_len │ids,     │stored… │
//!  │ u64    │ u48, ms    │ u8  │count│ u8  │     │u16  │ u32      │u48 │ u48│u32     │u32     │slots of │        │
//!  └────────┴────────────┴─────┴─────┴─────┴─────┴─────┴──────────┴─────────┴────────┴────────┴─────────┴────────┘
//!   always: 24 bytes                                                WINDOWS   LOADED   PACKED   tags: u32 each
//! ```
//!
//! What follows the first 24 bytes is there only when its flag is set, because allocator size classes decide what an
//! entry costs: with a 40-byte header it cost 53 bytes more on average than a native string of the same bytes, with 24
//! it costs
//! 36. The whole length follows from the first 24 bytes ([`allocation_len`]), so that the host can keep a thin pointer.
//! Numbers are little-endian.
//!
//! A read never writes into an entry: while a child process saves, every touched page would be copied.

pub mod format;

use smallvec::SmallVec;

use crate::cache::clock::{Now, Stamp};
use crate::cache::codec::CodecId;
use crate::cache::ids::{RuleId, TagId};

/// The bytes before the optional parts.
pub const HEADER: usize = 24;
/// The most bytes a value can have, stored or raw: a length is 32 bits.
pub const MAX_LEN: usize = u32::MAX as usize;
/// The most tags an entry can have.
pub const MAX_TAGS: usize = 64;

/// The slot of an entry that is not in its tag's posting list (`tag_index.rs`).
pub const UNLISTED: u32 = u32::MAX;

/// `fresh_until` of an entry without end.
const NO_END: u64 = (1 << 48) - 1;
/// The latest moment that can be stored, in milliseconds of Unix time (the year 10,889).
pub const LAST_MOMENT: u64 = NO_END - 1;

const AT_FRESH: usize = 8;
const AT_CODEC: usize = 14;
const AT_TAGS: usize = 15;
const AT_FLAGS: usize = 16;
const AT_INDEXED: usize = 17;
const AT_RULE: usize = 18;
const AT_STORED_LEN: usize = 20;

/// The flags. `format.rs` uses the same values: never reuse one.
pub mod flag {
    /// The origin has nothing under this key.
    pub const ABSENT: u8 = 1;
    /// Freshness was ended by command. A flag, not a time, so that a clock that steps back does not undo it.
    pub const STALE: u8 = 1 << 1;
    /// SWR and SIE follow.
    pub const WINDOWS: u8 = 1 << 2;
    /// The measured load time follows.
    pub const LOADED: u8 = 1 << 3;
    /// The value is compressed; its raw length follows.
    pub const PACKED: u8 = 1 << 4;
    /// All of the above.
    pub const KNOWN: u8 = (1 << 5) - 1;
}

/// The parts of a new entry.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// When its load began.
    pub stamp: Stamp,
    /// Fresh until then, in milliseconds of Unix time; `None`: without end.
    pub fresh_until: Option<u64>,
    /// The origin has nothing: no bytes are stored.
    pub absent: bool,
    /// Freshness was ended by command.
    pub stale: bool,
    /// How long it may be served after it turned stale, in milliseconds, while one caller refreshes it.
    pub swr: u64,
    /// How long it may be served after it turned stale, in milliseconds, when loading fails.
    pub sie: u64,
    /// How long its load took, in milliseconds, if that was measured.
    pub load_ms: Option<u32>,
    /// The id of the codec of `stored` (a number: it may be one of a later version).
    pub codec: u8,
    /// The value's length before compression.
    pub raw_len: u32,
    /// The rule it was stored under.
    pub rule: RuleId,
    /// Its tags.
    pub tags: &'a [TagId],
    /// The stored bytes.
    pub stored: &'a [u8],
}

/// An owned entry: one allocation of exactly its length.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry(Box<[u8]>);

/// An entry to read.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a>(&'a [u8]);

/// An entry whose header can be changed in place.
#[derive(Debug)]
pub struct EntryMut<'a>(&'a mut [u8]);

/// Whether an entry may be served at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// May be served. `left_ms` is `None` for an entry without end.
    Fresh {
        /// How long it stays fresh.
        left_ms: Option<u64>,
    },
    /// May be served while one caller refreshes it (inside SWR) or when loading fails (inside SIE).
    Stale {
        /// Still inside SWR.
        in_swr: bool,
    },
    /// May never be served again.
    Dead,
}

impl Freshness {
    /// The same, if freshness ends at `at` at the latest, which is later than `now`.
    #[must_use]
    pub fn until(self, at: u64, now: Now) -> Self {
        match self {
            Freshness::Fresh { left_ms } => {
                let left = at.saturating_sub(now.ms());
                Freshness::Fresh { left_ms: Some(left_ms.map_or(left, |own| own.min(left))) }
            }
            other => other,
        }
    }
}

/// The length of the whole allocation, from its first 24 bytes.
pub fn allocation_len(header: &[u8; HEADER]) -> usize {
    let flags = header[AT_FLAGS];
    let stored = u32::from_le_bytes([header[20], header[21], header[22], header[23]]) as usize;
    stored_at(flags, header[AT_TAGS]) + stored
}

fn tags_at(flags: u8) -> usize {
    let windows = if flags & flag::WINDOWS != 0 { 12 } else { 0 };
    let loaded = if flags & flag::LOADED != 0 { 4 } else { 0 };
    let packed = if flags & flag::PACKED != 0 { 4 } else { 0 };
    HEADER + windows + loaded + packed
}

fn stored_at(flags: u8, tags: u8) -> usize {
    tags_at(flags) + 8 * tags as usize
}

fn u48(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..6].copy_from_slice(&bytes[at..at + 6]);
    u64::from_le_bytes(wide)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_u48(to: &mut [u8], at: usize, value: u64) {
    to[at..at + 6].copy_from_slice(&value.min(NO_END).to_le_bytes()[..6]);
}

fn fresh_code(fresh_until: Option<u64>) -> u64 {
    fresh_until.map_or(NO_END, |at| at.min(LAST_MOMENT))
}

impl Entry {
    /// A dead entry without anything, to take the place of another.
    pub fn nothing() -> Self {
        Entry::new(Parts {
            stamp: Stamp(0),
            fresh_until: Some(0),
            absent: false,
            stale: true,
            swr: 0,
            sie: 0,
            load_ms: None,
            codec: CodecId::None as u8,
            raw_len: 0,
            rule: RuleId::NONE,
            tags: &[],
            stored: b"",
        })
    }

    /// An entry of these parts.
    ///
    /// # Panics
    /// With more than [`MAX_TAGS`] tags or [`MAX_LEN`] bytes: callers have checked both.
    pub fn new(parts: Parts<'_>) -> Self {
        assert!(parts.tags.len() <= MAX_TAGS && parts.stored.len() <= MAX_LEN);
        let windows = parts.swr > 0 || parts.sie > 0;
        let packed = parts.codec != CodecId::None as u8;
        let flags = (if parts.absent { flag::ABSENT } else { 0 })
            | (if parts.stale { flag::STALE } else { 0 })
            | (if windows { flag::WINDOWS } else { 0 })
            | (if parts.load_ms.is_some() { flag::LOADED } else { 0 })
            | (if packed { flag::PACKED } else { 0 });
        let count = parts.tags.len() as u8;
        let mut bytes = Vec::with_capacity(stored_at(flags, count) + parts.stored.len());
        bytes.extend_from_slice(&parts.stamp.0.to_le_bytes());
        bytes.extend_from_slice(&fresh_code(parts.fresh_until).to_le_bytes()[..6]);
        bytes.extend_from_slice(&[parts.codec, count, flags, 0]);
        bytes.extend_from_slice(&parts.rule.0.to_le_bytes());
        bytes.extend_from_slice(&(parts.stored.len() as u32).to_le_bytes());
        if windows {
            bytes.extend_from_slice(&parts.swr.min(LAST_MOMENT).to_le_bytes()[..6]);
            bytes.extend_from_slice(&parts.sie.min(LAST_MOMENT).to_le_bytes()[..6]);
        }
        if let Some(ms) = parts.load_ms {
            bytes.extend_from_slice(&ms.to_le_bytes());
        }
        if packed {
            bytes.extend_from_slice(&parts.raw_len.to_le_bytes());
        }
        for tag in parts.tags {
            bytes.extend_from_slice(&tag.0.to_le_bytes());
        }
        bytes.resize(bytes.len() + 4 * parts.tags.len(), 0xff); // not listed yet
        bytes.extend_from_slice(parts.stored);
        Entry(bytes.into_boxed_slice())
    }

    /// The entry to read.
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef(&self.0)
    }

    /// The entry to change.
    pub fn as_mut(&mut self) -> EntryMut<'_> {
        EntryMut(&mut self.0)
    }

    /// The allocation, for the host to keep behind a thin pointer.
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }

    /// The entry in an allocation from [`into_bytes`](Self::into_bytes).
    pub fn from_bytes(bytes: Box<[u8]>) -> Self {
        Entry(bytes)
    }
}

impl<'a> EntryRef<'a> {
    /// The entry in the bytes of an [`Entry`].
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        EntryRef(bytes)
    }

    fn has(self, flag: u8) -> bool {
        self.0[AT_FLAGS] & flag != 0
    }

    /// When its load began.
    pub fn stamp(self) -> Stamp {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        Stamp(u64::from_le_bytes(bytes))
    }

    /// Fresh until then, in milliseconds of Unix time; `None`: without end.
    pub fn fresh_until(self) -> Option<u64> {
        let at = u48(self.0, AT_FRESH);
        (at != NO_END).then_some(at)
    }

    /// Whether the origin has nothing under the key.
    pub fn absent(self) -> bool {
        self.has(flag::ABSENT)
    }

    /// Whether its freshness was ended by command.
    pub fn stale(self) -> bool {
        self.has(flag::STALE)
    }

    /// The windows SWR and SIE, in milliseconds.
    pub fn windows(self) -> (u64, u64) {
        if !self.has(flag::WINDOWS) {
            return (0, 0);
        }
        (u48(self.0, HEADER), u48(self.0, HEADER + 6))
    }

    /// How long its load took, in milliseconds, if that was measured.
    #[inline]
    pub fn load_ms(self) -> Option<u32> {
        self.has(flag::LOADED).then(|| u32_at(self.0, tags_at(self.0[AT_FLAGS] & flag::WINDOWS)))
    }

    /// The number of its codec; see [`codec`](Self::codec).
    pub fn codec_number(self) -> u8 {
        self.0[AT_CODEC]
    }

    /// Its codec; `None` for one of a later version, whose value cannot be read and is a miss.
    pub fn codec(self) -> Option<CodecId> {
        CodecId::from_id(self.0[AT_CODEC])
    }

    /// The value's length before compression.
    pub fn raw_len(self) -> usize {
        if !self.has(flag::PACKED) {
            return self.stored().len();
        }
        u32_at(self.0, tags_at(self.0[AT_FLAGS]) - 4) as usize
    }

    /// The rule it was stored under.
    pub fn rule(self) -> RuleId {
        RuleId(u16::from_le_bytes([self.0[AT_RULE], self.0[AT_RULE + 1]]))
    }

    /// Its tags.
    pub fn tags(self) -> impl ExactSizeIterator<Item = TagId> + 'a {
        self.numbers(0).map(TagId)
    }

    /// Its slot in the posting list of each of its tags, in their order.
    pub fn slots(self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.numbers(1)
    }

    /// The ids of its tags (0), or the slots that follow them (1).
    fn numbers(self, which: usize) -> impl ExactSizeIterator<Item = u32> + 'a {
        let len = 4 * usize::from(self.0[AT_TAGS]);
        let start = tags_at(self.0[AT_FLAGS]) + which * len;
        self.0[start..start + len].chunks_exact(4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]))
    }

    /// Whether `Invalidations` has indexed it, and is to remove it when it is freed.
    pub fn is_indexed(self) -> bool {
        self.0[AT_INDEXED] != 0
    }

    /// The stored bytes.
    pub fn stored(self) -> &'a [u8] {
        &self.0[stored_at(self.0[AT_FLAGS], self.0[AT_TAGS])..]
    }

    /// The bytes of its allocation.
    pub fn allocation(self) -> &'a [u8] {
        self.0
    }

    /// A second entry like this one, listed nowhere.
    pub fn to_entry(self) -> Entry {
        let mut entry = Entry(self.0.into());
        entry.as_mut().unlist();
        entry
    }

    /// The same entry with its value stored otherwise.
    pub fn repacked(self, codec: CodecId, raw_len: usize, stored: &[u8]) -> Entry {
        let tags: SmallVec<[TagId; 8]> = self.tags().collect();
        let (swr, sie) = self.windows();
        Entry::new(Parts {
            stamp: self.stamp(),
            fresh_until: self.fresh_until(),
            absent: self.absent(),
            stale: self.stale(),
            swr,
            sie,
            load_ms: self.load_ms(),
            codec: codec as u8,
            raw_len: raw_len as u32,
            rule: self.rule(),
            tags: &tags,
            stored,
        })
    }

    /// Whether it was ended for good ([`EntryMut::kill`]).
    pub fn killed(self) -> bool {
        self.stale() && u48(self.0, AT_FRESH) == 0
    }

    /// The stamp by which invalidations count it: 0 once it was ended for good.
    pub fn counted_stamp(self) -> u64 {
        if self.killed() { 0 } else { self.stamp().0 }
    }

    /// Whether it was ended for good, or has a codec of a later version.
    fn useless(self) -> bool {
        self.killed() || self.codec().is_none()
    }

    /// Whether it may be served at `now`.
    pub fn freshness(self, now: Now) -> Freshness {
        let fresh_until = u48(self.0, AT_FRESH);
        if self.useless() {
            return Freshness::Dead;
        }
        if !self.stale() && now.ms() < fresh_until {
            return Freshness::Fresh { left_ms: (fresh_until != NO_END).then(|| fresh_until - now.ms()) };
        }
        if self.absent() {
            return Freshness::Dead; // an absence has no windows
        }
        let (swr, sie) = self.windows();
        let window = swr.max(sie);
        // Without a window it is never stale, not even by a clock that lags behind the one that ended it.
        if window > 0 && now.ms() < fresh_until.saturating_add(window) {
            return Freshness::Stale { in_swr: now.ms() < fresh_until.saturating_add(swr) };
        }
        Freshness::Dead
    }

    /// Whether it may be served at `now`, if an invalidation has made it stale at `since`.
    pub fn freshness_stale_since(self, since: u64, now: Now) -> Freshness {
        if self.useless() || self.absent() {
            return Freshness::Dead;
        }
        let (swr, sie) = self.windows();
        let (end, window) = (u48(self.0, AT_FRESH).min(since), swr.max(sie));
        if window > 0 && now.ms() < end.saturating_add(window) {
            return Freshness::Stale { in_swr: now.ms() < end.saturating_add(swr) };
        }
        Freshness::Dead
    }

    /// When it may be deleted: the end of its freshness plus the longer window.
    pub fn gone_at(self) -> Option<u64> {
        let (swr, sie) = self.windows();
        let window = if self.absent() { 0 } else { swr.max(sie) };
        self.fresh_until().map(|at| at.saturating_add(window).min(LAST_MOMENT))
    }

    /// How long ago it was stored: its load began at the stamp and took `load_ms`.
    pub fn age_ms(self, now: Now) -> u64 {
        now.ms().saturating_sub(self.stamp().ms() + u64::from(self.load_ms().unwrap_or(0)))
    }
}

impl<'a> EntryMut<'a> {
    /// The entry in the bytes of an [`Entry`].
    pub fn from_bytes(bytes: &'a mut [u8]) -> Self {
        EntryMut(bytes)
    }

    /// The entry to read.
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef(self.0)
    }

    /// Ends its freshness at `now`, for good. Its windows begin now, unless they have begun already.
    pub fn make_stale(&mut self, now: Now) {
        self.make_stale_since(now.ms());
    }

    /// The same for a moment in milliseconds of Unix time.
    pub fn make_stale_since(&mut self, since: u64) {
        let since = u48(self.0, AT_FRESH).min(since);
        put_u48(self.0, AT_FRESH, since);
        self.0[AT_FLAGS] |= flag::STALE;
    }

    /// Makes its freshness end at a moment, unless it ends earlier.
    pub fn end_by(&mut self, at: u64) {
        let at = u48(self.0, AT_FRESH).min(at);
        put_u48(self.0, AT_FRESH, at);
    }

    /// Sets its slot in the posting list of its tag number `at`.
    pub fn set_slot(&mut self, at: usize, slot: u32) {
        let start = tags_at(self.0[AT_FLAGS]) + 4 * (usize::from(self.0[AT_TAGS]) + at);
        self.0[start..start + 4].copy_from_slice(&slot.to_le_bytes());
    }

    /// Marks it as indexed.
    pub fn set_indexed(&mut self) {
        self.0[AT_INDEXED] = 1;
    }

    /// Marks it as neither indexed nor listed.
    pub fn unlist(&mut self) {
        self.0[AT_INDEXED] = 0;
        let (flags, count) = (self.0[AT_FLAGS], self.0[AT_TAGS]);
        self.0[tags_at(flags) + 4 * usize::from(count)..stored_at(flags, count)].fill(0xff);
    }

    /// Ends it for good: neither fresh nor inside a window, at any time.
    pub fn kill(&mut self) {
        put_u48(self.0, AT_FRESH, 0);
        self.0[AT_FLAGS] |= flag::STALE;
    }

    /// Makes it fresh until then, without changing its stamp.
    pub fn set_fresh_until(&mut self, fresh_until: Option<u64>) {
        put_u48(self.0, AT_FRESH, fresh_code(fresh_until));
    }

    /// Sets stamp, freshness and the stale flag from the header of another node or of a file.
    pub fn set_header(&mut self, stamp: Stamp, fresh_until: Option<u64>, stale: bool) {
        self.0[..8].copy_from_slice(&stamp.0.to_le_bytes());
        self.set_fresh_until(fresh_until);
        self.0[AT_FLAGS] = self.0[AT_FLAGS] & !flag::STALE | if stale { flag::STALE } else { 0 };
    }

    /// Sets the rule it belongs to.
    pub fn set_rule(&mut self, rule: RuleId) {
        self.0[AT_RULE..AT_STORED_LEN].copy_from_slice(&rule.0.to_le_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests;
