//! `lz4` stores a value as its length in four bytes, little-endian, and then one LZ4 block: the fastest to read.
//!
//! `lz4.block.decompress` in Python and `decompress_size_prepended` in Rust read it, so a client of `ACCEPT lz4` needs
//! nothing else. (The LZ4 *frame* format, that of the `lz4` tool, would add fifteen bytes to every entry.)

use std::ops::RangeInclusive;

use lz4_flex::block;

use super::interface::{Codec, CodecError, CodecId, Context};

/// The codec `lz4`.
pub(super) struct Lz4;

const PREFIX_LEN: usize = 4;

/// The longest value that the reference implementation reads (`LZ4_MAX_INPUT_SIZE`): 2,113,929,216 bytes.
const MAX_INPUT: usize = 0x7E00_0000;

impl Codec for Lz4 {
    /// There is only one level.
    fn levels(&self) -> RangeInclusive<i32> {
        0..=0
    }

    fn max_stored_len(&self, raw_len: usize) -> usize {
        PREFIX_LEN + block::get_maximum_output_size(raw_len)
    }

    /// The LZ4 block format: a length continues with bytes that add at most 255 each, and a sequence's other bytes
    /// (token, offset) add less than that.
    fn max_raw_len(&self, stored_len: usize) -> usize {
        stored_len.saturating_sub(PREFIX_LEN).saturating_mul(255)
    }

    fn declared_len(&self, stored: &[u8]) -> Result<u64, CodecError> {
        let (len, _) = stored.split_first_chunk::<PREFIX_LEN>().ok_or(CodecError::Corrupt(CodecId::Lz4))?;
        Ok(u64::from(u32::from_le_bytes(*len)))
    }

    fn context(&self) -> Option<Box<dyn Context>> {
        Some(Box::new(Lz4Context))
    }
}

/// Nothing is kept. Reading needs no memory beside the result; writing needs a table of 8 or 16 KB, which lz4_flex
/// creates for each block.
struct Lz4Context;

impl Context for Lz4Context {
    fn compress(&mut self, raw: &[u8], _level: i32, out: &mut [u8]) -> Result<usize, CodecError> {
        if raw.len() > MAX_INPUT {
            return Err(CodecError::TooLarge(CodecId::Lz4));
        }
        let (prefix, body) = out.split_at_mut(PREFIX_LEN);
        prefix.copy_from_slice(&(raw.len() as u32).to_le_bytes());
        let len = block::compress_into(raw, body).map_err(|_| CodecError::Failed(CodecId::Lz4))?;
        Ok(PREFIX_LEN + len)
    }

    fn decompress(&mut self, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let body = stored.get(PREFIX_LEN..).unwrap_or_default();
        match block::decompress_into(body, out) {
            Ok(len) if len == out.len() => Ok(()),
            _ => Err(CodecError::Corrupt(CodecId::Lz4)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Codecs, suite};
    use super::*;

    codec_tests!(Lz4);

    #[test]
    fn clients_read_stored_bytes_with_the_usual_library() {
        let mut codecs = Codecs::new();
        for raw in suite::values() {
            let stored = codecs.compress(CodecId::Lz4, 0, &raw).unwrap();
            assert!(block::decompress_size_prepended(stored).unwrap() == raw, "{} bytes", raw.len());
        }
    }

    #[test]
    fn one_repeated_byte_comes_near_the_bound() {
        let mut codecs = Codecs::new();
        let raw = vec![7; 1 << 20];
        let stored = codecs.compress(CodecId::Lz4, 0, &raw).unwrap();
        assert!(raw.len() > 250 * stored.len());
        assert!(raw.len() <= Lz4.max_raw_len(stored.len()));
    }
}
