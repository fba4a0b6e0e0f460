//! `zstd` stores a value as one Zstandard frame (RFC 8878). It is what `auto` chooses.
//!
//! The frame holds the value's length, which readers need, and **no checksum**. That would cost four bytes an entry and
//! time on every read (measured: 6 % at 1 KB, 20 to 30 % from 64 KB on), and detect little: files and dumps are under
//! the server's own CRC-64, and damage in memory would hit uncompressed values just as well.

use std::ops::RangeInclusive;

use zstd_safe::{CCtx, CParameter, DCtx};

use super::interface::{Codec, CodecError, CodecId, Context};

/// The codec `zstd`.
pub(super) struct Zstd;

/// The start of a frame; the format's other magic numbers mark frames to skip.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

impl Codec for Zstd {
    /// Without the negative levels, which lz4 does better, and those above 19, which need hundreds of megabytes.
    fn levels(&self) -> RangeInclusive<i32> {
        1..=19
    }

    fn max_stored_len(&self, raw_len: usize) -> usize {
        zstd_safe::compress_bound(raw_len)
    }

    /// RFC 8878, 3.1.1: a frame is a header of at least six bytes (magic number, descriptor, window or length) and then
    /// blocks. 3.1.1.2: a block holds at most 128 KB (Block_Maximum_Size) and begins with a header of three bytes. The
    /// shortest one that can hold as much is an RLE_Block, with one byte behind its header: four bytes for 128 KB.
    fn max_raw_len(&self, stored_len: usize) -> usize {
        (stored_len.saturating_sub(6) / 4).saturating_mul(128 << 10)
    }

    fn declared_len(&self, stored: &[u8]) -> Result<u64, CodecError> {
        let corrupt = CodecError::Corrupt(CodecId::Zstd);
        if !stored.starts_with(&MAGIC) {
            return Err(corrupt);
        }
        // Walks from block header to block header: one for each 128 KB.
        if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
            return Err(corrupt);
        }
        match zstd_safe::get_frame_content_size(stored) {
            Ok(Some(len)) => Ok(len),
            Ok(None) | Err(_) => Err(corrupt),
        }
    }

    fn context(&self) -> Option<Box<dyn Context>> {
        Some(Box::new(ZstdContext { compress: None, decompress: None }))
    }
}

/// Each half is created at first use: 96 KB for reading; for writing 27 KB to 1.3 MB at level 3, depending on the
/// value's size, and up to 85 MB at level 19 (zstd 1.5.7, measured).
struct ZstdContext {
    /// With its present level.
    compress: Option<(CCtx<'static>, i32)>,
    decompress: Option<DCtx<'static>>,
}

/// A compression context of up to this size is never freed: more than the usual levels take.
const KEPT: usize = 4 << 20;

impl Context for ZstdContext {
    fn compress(&mut self, raw: &[u8], level: i32, out: &mut [u8]) -> Result<usize, CodecError> {
        let failed = CodecError::Failed(CodecId::Zstd);
        let (context, current) = match &mut self.compress {
            Some(both) => both,
            none => none.insert((CCtx::try_create().ok_or(failed)?, zstd_safe::CLEVEL_DEFAULT)),
        };
        if *current != level {
            context.set_parameter(CParameter::CompressionLevel(level)).map_err(|_| failed)?;
            *current = level;
        }
        context.compress2(out, raw).map_err(|_| failed)
    }

    fn decompress(&mut self, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let context = match &mut self.decompress {
            Some(context) => context,
            none => none.insert(DCtx::try_create().ok_or(CodecError::Failed(CodecId::Zstd))?),
        };
        match context.decompress(out, stored) {
            Ok(len) if len == out.len() => Ok(()),
            _ => Err(CodecError::Corrupt(CodecId::Zstd)),
        }
    }

    /// (While it is in use, zstd itself frees a workspace that was three times too large 128 times in a row.)
    fn trim(&mut self) {
        if self.compress.as_ref().is_some_and(|(context, _)| context.sizeof() > KEPT) {
            self.compress = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Codecs, check, suite};
    use super::*;

    codec_tests!(Zstd);

    /// A frame built by hand: header with the length in eight bytes, then blocks that each repeat one byte 128 Ki
    /// times.
    fn rle_bomb(declared: u64, blocks: usize) -> Vec<u8> {
        let mut frame = MAGIC.to_vec();
        frame.push(0b1110_0000); // length in 8 bytes, single segment, no checksum, no dictionary
        frame.extend(declared.to_le_bytes());
        for block in 1..=blocks {
            let header = (128_u32 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(b'x');
        }
        frame
    }

    #[test]
    fn the_bound_is_as_tight_as_the_format() {
        let len = 5 * (128 << 10);
        let frame = rle_bomb(len as u64, 5);
        let value = Codecs::new().decompress(CodecId::Zstd, &frame, len).map(<[u8]>::to_vec).unwrap();
        assert!(value.len() == len && value.iter().all(|&byte| byte == b'x'));
        // Six bytes is the shortest header; this one has thirteen, which is room for one block more.
        assert_eq!(Zstd.max_raw_len(frame.len()), len + (128 << 10));
    }

    #[test]
    fn a_frame_that_declares_more_than_its_blocks_can_hold_is_refused() {
        let frame = rle_bomb(4 << 30, 9);
        let refused = CodecError::Implausible { codec: CodecId::Zstd, raw_len: 4 << 30, stored_len: frame.len() };
        assert_eq!(check(CodecId::Zstd, &frame, 4 << 30), Err(refused));
    }

    #[test]
    fn frames_to_skip_are_not_values() {
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0];
        let mut codecs = Codecs::new();
        assert!(codecs.decompress(CodecId::Zstd, &skippable, 0).is_err());
        let mut stored = codecs.compress(CodecId::Zstd, 3, b"value").unwrap().to_vec();
        stored.extend(skippable);
        assert!(codecs.decompress(CodecId::Zstd, &stored, 5).is_err());
    }

    #[test]
    fn a_frame_without_a_length_is_refused() {
        // Magic number, an empty descriptor, a window of 1 KB, one empty last block.
        let frame = [&MAGIC[..], &[0, 0, 1, 0, 0]].concat();
        assert!(matches!(zstd_safe::get_frame_content_size(&frame), Ok(None)));
        assert_eq!(check(CodecId::Zstd, &frame, 0), Err(CodecError::Corrupt(CodecId::Zstd)));
    }

    #[test]
    fn a_large_compression_context_is_freed() {
        let mut context = ZstdContext { compress: None, decompress: None };
        let raw = suite::json(300_000);
        let mut out = vec![0; Zstd.max_stored_len(raw.len())];
        context.compress(&raw, 3, &mut out).unwrap();
        context.trim();
        assert!(context.compress.is_some(), "level 3 is usual");
        context.compress(&raw, 19, &mut out).unwrap();
        context.trim();
        assert!(context.compress.is_none());
    }
}
