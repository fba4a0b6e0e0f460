//! What the fuzz targets share. Each target, in `fuzz_targets/`, is one kind of bytes that may come from a stranger.
//!
//! `make fuzz` runs them all (`scripts/fuzz`). A target fails by a panic, an overflow, a bad access to memory, more
//! than 2 GB, or more than 10 seconds for one input; beside that, by its own assertions.

use smartcache::cache::codec::{self, CodecId, Codecs};

/// 2026-11-22 19:34:13 UTC, in milliseconds: what the clocks of the nodes show.
pub const THEN: u64 = 1_795_376_053_113;
/// The longest value that is decompressed.
const MOST_BYTES: usize = 1 << 20;

/// Decompresses `stored`, for the length that it says it has and for another one. What can be decompressed can be
/// compressed again, and comes back the same.
pub fn decompress(codec: CodecId, stored: &[u8]) {
    let mut codecs = Codecs::new();
    let declared = codec::declared_len(codec, stored).ok().and_then(|len| usize::try_from(len).ok());
    if let Some(len) = declared.filter(|len| *len <= MOST_BYTES) {
        if let Ok(raw) = codecs.decompress(codec, stored, len).map(<[u8]>::to_vec) {
            assert_eq!(raw.len(), len);
            let again = codecs.compress(codec, 1, &raw).expect("a value of this size can be compressed").to_vec();
            assert_eq!(codecs.decompress(codec, &again, len).as_deref(), Ok(&raw[..]));
        }
        assert!(codecs.decompress(codec, stored, len + 1).is_err());
    }
}

/// Words of a text: between spaces.
pub fn words(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == b' ').collect()
}

/// Strings, each behind its length in four bytes, as in `tests/golden/aux-v1`; the last one may be cut off.
pub fn strings(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut strings = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (string, rest) = rest.split_at((u32::from_le_bytes(*len) as usize).min(rest.len()));
        strings.push(string);
        bytes = rest;
    }
    strings
}
