//! Entries as bytes, in RDB files, `DUMP` payloads, the AOF and the replication stream. `docs/format.md` draws them.
//!
//! An entry is sent as two strings, so that a large value is never copied just to join it to its header: the *header*
//! described here, and the *stored* bytes of the value. Tags are sent by name, times are absolute, and the rule is
//! found again by key. All numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version of the header: 1 |
//! | 1 | 1 | flags: 1 absent, 2 stale by command, 4 windows follow, 8 load time follows, 16 compressed |
//! | 2 | 1 | expiry of the key: 0 as it is, 1 none, 2 follows |
//! | 3 | 1 | codec: 0 none, 1 gzip, 2 zstd, 3 lz4 (0 exactly when the flag *compressed* is not set) |
//! | 4 | 1 | number of tags, at most 64 |
//! | 5 | 8 | stamp, µs |
//! | 13 | 8 | fresh until, ms of Unix time; all ones: without end |
//! | 21 | 8 | expiry, ms of Unix time, at most 2⁶³ − 1 — when byte 2 is 2 |
//! | … | 16 | SWR, SIE, ms each — with flag 4 |
//! | … | 4 | load time, ms — with flag 8 |
//! | … | 4 | raw length — with flag 16 |
//! | … | 1 + n | each tag: its length (1 to 255), its name |
//!
//! The reader treats every byte as hostile: lengths are checked before they are used, an unknown version or flag is
//! refused. An unknown *codec* is not refused: the entry is kept, and reads of it miss.

use std::fmt;

use smallvec::SmallVec;

use crate::cache::clock::Stamp;
use crate::cache::codec::CodecId;
use crate::cache::entry::{Entry, EntryRef, LAST_MOMENT, MAX_LEN, MAX_TAGS, Parts, flag};
use crate::cache::ids::{RuleId, TagId};
use crate::cache::invalidation::tags::Tags;

/// The version written.
const VERSION: u8 = 1;
/// `fresh_until` of an entry without end.
const NO_END: u64 = u64::MAX;
/// The latest expiry of a key: the server's moments are signed.
const LAST_EXPIRY: u64 = i64::MAX as u64;

/// The expiry of the key, in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Not in the header: the server keeps it beside the value (RDB), or it does not change.
    AsItIs,
    /// The key has none.
    None,
    /// The server deletes the key then, in milliseconds of Unix time.
    At(u64),
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The header ends before it should.
    Short,
    /// The header has bytes after its end.
    Long,
    /// A version that this code does not know.
    Version(u8),
    /// A flag, number or length that no writer writes.
    Field(&'static str),
    /// 16.7 million tags are alive.
    TooManyTags,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Short => f.write_str("the header is cut short"),
            Malformed::Long => f.write_str("the header has bytes after its end"),
            Malformed::Version(v) => write!(f, "version {v} is not known"),
            Malformed::Field(name) => write!(f, "the {name} cannot be right"),
            Malformed::TooManyTags => f.write_str("too many tags are alive"),
        }
    }
}

/// A header that has been read and checked. Its tags are still names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    flags: u8,
    codec: u8,
    swr: u64,
    sie: u64,
    load_ms: Option<u32>,
    raw_len: u32,
    tags: SmallVec<[&'a [u8]; 8]>,
    /// When its load began.
    pub stamp: Stamp,
    /// Fresh until then; `None`: without end.
    pub fresh_until: Option<u64>,
    /// When the server deletes the key.
    pub expiry: Expiry,
}

/// Appends the header of `entry` to `out`.
pub fn encode(entry: EntryRef<'_>, tags: &Tags, expiry: Expiry, out: &mut Vec<u8>) {
    let (swr, sie) = entry.windows();
    let windows = swr > 0 || sie > 0;
    let packed = entry.codec_number() != CodecId::None as u8;
    let flags = (if entry.absent() { flag::ABSENT } else { 0 })
        | (if entry.stale() { flag::STALE } else { 0 })
        | (if windows { flag::WINDOWS } else { 0 })
        | (if entry.load_ms().is_some() { flag::LOADED } else { 0 })
        | (if packed { flag::PACKED } else { 0 });
    let expiry_code = match expiry {
        Expiry::AsItIs => 0,
        Expiry::None => 1,
        Expiry::At(_) => 2,
    };
    out.extend_from_slice(&[VERSION, flags, expiry_code, entry.codec_number(), entry.tags().len() as u8]);
    out.extend_from_slice(&entry.stamp().0.to_le_bytes());
    out.extend_from_slice(&entry.fresh_until().unwrap_or(NO_END).to_le_bytes());
    if let Expiry::At(at) = expiry {
        out.extend_from_slice(&at.to_le_bytes());
    }
    if windows {
        out.extend_from_slice(&swr.to_le_bytes());
        out.extend_from_slice(&sie.to_le_bytes());
    }
    if let Some(ms) = entry.load_ms() {
        out.extend_from_slice(&ms.to_le_bytes());
    }
    if packed {
        out.extend_from_slice(&(entry.raw_len() as u32).to_le_bytes());
    }
    for tag in entry.tags() {
        let name = tags.name(tag);
        out.push(name.len() as u8);
        out.extend_from_slice(name);
    }
}

/// Reads bytes, never past their end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|b| b[0])
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A moment or duration in milliseconds.
    fn ms(&mut self, name: &'static str) -> Result<u64, Malformed> {
        self.u64().and_then(|ms| if ms <= LAST_MOMENT { Ok(ms) } else { Err(Malformed::Field(name)) })
    }

    fn expiry(&mut self, code: u8) -> Result<Expiry, Malformed> {
        match code {
            0 => Ok(Expiry::AsItIs),
            1 => Ok(Expiry::None),
            // Any that the server takes: a client may have set one that no end of freshness can be.
            2 => match self.u64()? {
                at if at <= LAST_EXPIRY => Ok(Expiry::At(at)),
                _ => Err(Malformed::Field("expiry")),
            },
            _ => Err(Malformed::Field("expiry")),
        }
    }

    fn tags(&mut self, count: usize) -> Result<SmallVec<[&'a [u8]; 8]>, Malformed> {
        let mut tags = SmallVec::new();
        for _ in 0..count {
            let len = usize::from(self.u8()?);
            if len == 0 {
                return Err(Malformed::Field("length of a tag"));
            }
            tags.push(self.bytes(len)?);
        }
        Ok(tags)
    }
}

/// Reads a header. It allocates no more than the bytes fill.
pub fn decode(bytes: &[u8]) -> Result<Header<'_>, Malformed> {
    let mut from = Cursor(bytes);
    match from.u8()? {
        VERSION => {}
        other => return Err(Malformed::Version(other)),
    }
    let flags = from.u8()?;
    if flags & !flag::KNOWN != 0 {
        return Err(Malformed::Field("flags"));
    }
    let expiry_code = from.u8()?;
    let codec = from.u8()?;
    if (codec != CodecId::None as u8) != (flags & flag::PACKED != 0) {
        return Err(Malformed::Field("codec"));
    }
    if flags & flag::ABSENT != 0 && flags & flag::PACKED != 0 {
        return Err(Malformed::Field("codec")); // an absence has no value, so no raw length may be counted
    }
    let count = usize::from(from.u8()?);
    if count > MAX_TAGS {
        return Err(Malformed::Field("number of tags"));
    }
    let stamp = Stamp(from.u64()?);
    let fresh_until = match from.u64()? {
        NO_END => None,
        at if at <= LAST_MOMENT => Some(at),
        _ => return Err(Malformed::Field("end of freshness")),
    };
    let expiry = from.expiry(expiry_code)?;
    let (swr, sie) = if flags & flag::WINDOWS != 0 { (from.ms("SWR")?, from.ms("SIE")?) } else { (0, 0) };
    let load_ms = if flags & flag::LOADED != 0 { Some(from.u32()?) } else { None };
    let raw_len = if flags & flag::PACKED != 0 { from.u32()? } else { 0 };
    let tags = from.tags(count)?;
    if !from.0.is_empty() {
        return Err(Malformed::Long);
    }
    Ok(Header { flags, codec, swr, sie, load_ms, raw_len, tags, stamp, fresh_until, expiry })
}

impl Header<'_> {
    /// Whether freshness was ended by command.
    pub fn stale(&self) -> bool {
        self.flags & flag::STALE != 0
    }

    /// The number of its codec.
    pub fn codec_number(&self) -> u8 {
        self.codec
    }

    /// The length before compression of the value that is stored as these bytes.
    pub fn raw_len(&self, stored: &[u8]) -> usize {
        if self.flags & flag::PACKED != 0 { self.raw_len as usize } else { stored.len() }
    }

    /// The entry of this header and its stored bytes; `tag` gives the ids of names.
    pub fn to_entry(
        &self,
        mut tag: impl FnMut(&[u8]) -> Option<TagId>,
        rule: RuleId,
        stored: &[u8],
    ) -> Result<Entry, Malformed> {
        let absent = self.flags & flag::ABSENT != 0;
        if stored.len() > MAX_LEN || (absent && !stored.is_empty()) {
            return Err(Malformed::Field("length of the value"));
        }
        let mut ids: SmallVec<[TagId; 8]> = SmallVec::new();
        for name in &self.tags {
            ids.push(tag(name).ok_or(Malformed::TooManyTags)?);
        }
        Ok(Entry::new(Parts {
            stamp: self.stamp,
            fresh_until: self.fresh_until,
            absent,
            stale: self.stale(),
            swr: self.swr,
            sie: self.sie,
            load_ms: self.load_ms,
            codec: self.codec,
            raw_len: self.raw_len,
            rule,
            tags: &ids,
            stored,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::stats::live::Live;

    fn tags() -> Tags {
        Tags::new(Arc::new(Live::default()))
    }

    fn sample(tags: &mut Tags) -> Entry {
        let ids = [tags.intern(b"user:42").unwrap(), tags.intern(b"\x00\xff").unwrap()];
        Entry::new(Parts {
            stamp: Stamp(1_795_376_053_113_777),
            fresh_until: Some(1_795_376_153_113),
            absent: false,
            stale: true,
            swr: 30_000,
            sie: 60_000,
            load_ms: Some(120),
            codec: 2,
            raw_len: 1_000,
            rule: RuleId(9),
            tags: &ids,
            stored: b"not really zstd",
        })
    }

    #[test]
    fn an_entry_comes_back_on_a_node_that_numbers_its_tags_differently() {
        let mut here = tags();
        let entry = sample(&mut here);
        let mut header = Vec::new();
        encode(entry.as_ref(), &here, Expiry::At(1_795_376_213_113), &mut header);

        let mut there = tags();
        there.intern(b"something else").unwrap();
        let read = decode(&header).unwrap();
        assert_eq!(read.expiry, Expiry::At(1_795_376_213_113));
        let copy = read.to_entry(|name| there.intern(name), RuleId(9), entry.as_ref().stored()).unwrap();
        let mut again = Vec::new();
        encode(copy.as_ref(), &there, Expiry::At(1_795_376_213_113), &mut again);
        assert_eq!(again, header);
        let names: Vec<_> = copy.as_ref().tags().map(|id| there.name(id).to_vec()).collect();
        assert_eq!(names, [b"user:42".to_vec(), b"\x00\xff".to_vec()]);
    }

    #[test]
    fn every_expiry_that_the_server_takes_comes_back() {
        let mut table = tags();
        let entry = sample(&mut table);
        for at in [0, 1, LAST_MOMENT, LAST_MOMENT + 1, 1_796_091_600_000_000, LAST_EXPIRY] {
            let mut header = Vec::new();
            encode(entry.as_ref(), &table, Expiry::At(at), &mut header);
            assert_eq!(decode(&header).map(|header| header.expiry), Ok(Expiry::At(at)));
        }
        let mut header = Vec::new();
        encode(entry.as_ref(), &table, Expiry::At(LAST_EXPIRY + 1), &mut header);
        assert_eq!(decode(&header), Err(Malformed::Field("expiry")));
    }

    #[test]
    fn a_header_cut_at_any_byte_is_refused() {
        let mut table = tags();
        let entry = sample(&mut table);
        let mut header = Vec::new();
        encode(entry.as_ref(), &table, Expiry::None, &mut header);
        for len in 0..header.len() {
            assert!(decode(&header[..len]).is_err(), "cut at {len}");
        }
        header.push(0);
        assert_eq!(decode(&header), Err(Malformed::Long));
    }

    #[test]
    fn an_absence_with_bytes_is_refused() {
        let mut header = vec![VERSION, flag::ABSENT, 0, 0, 0];
        header.extend_from_slice(&[0; 16]);
        let read = decode(&header).unwrap();
        assert!(read.to_entry(|name| tags().intern(name), RuleId(0), b"").is_ok());
        assert!(read.to_entry(|name| tags().intern(name), RuleId(0), b"x").is_err());
    }

    #[test]
    fn a_codec_of_a_later_version_is_kept() {
        let mut header = vec![VERSION, flag::PACKED, 0, 200, 0];
        header.extend_from_slice(&[0; 20]);
        let entry = decode(&header).unwrap().to_entry(|name| tags().intern(name), RuleId(0), b"?").unwrap();
        assert_eq!(entry.as_ref().codec(), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_make_an_entry_that_writes_the_same_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80), version in prop::bool::weighted(0.9),
        ) {
            if version && !bytes.is_empty() {
                bytes[0] = VERSION;
            }
            let mut table = tags();
            if let Ok(header) = decode(&bytes)
                && let Ok(entry) = header.to_entry(|name| table.intern(name), RuleId(0), b"")
            {
                let mut again = Vec::new();
                encode(entry.as_ref(), &table, header.expiry, &mut again);
                let same_meaning = decode(&again).unwrap().to_entry(|name| table.intern(name), RuleId(0), b"").unwrap();
                prop_assert_eq!(same_meaning, entry);
            }
        }

        #[test]
        fn a_flipped_bit_never_panics(at in 0usize..64, bit in 0u8..8) {
            let mut table = tags();
            let entry = sample(&mut table);
            let mut header = Vec::new();
            encode(entry.as_ref(), &table, Expiry::AsItIs, &mut header);
            let at = at % header.len();
            header[at] ^= 1 << bit;
            if let Ok(read) = decode(&header) {
                let _ = read.to_entry(|name| table.intern(name), RuleId(0), entry.as_ref().stored());
            }
        }
    }
}
