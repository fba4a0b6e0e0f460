//! `gzip` stores a value as one gzip member (RFC 1952), which can be sent to browsers as `Content-Encoding: gzip`.
//!
//! ```text
//!   1f 8b 08 00 | 00 00 00 00 | 00 | ff |  deflate …  | crc32 | isize
//!   magic, CM,     MTIME: none  XFL  OS:               of the  raw length mod 2³²,
//!   FLG: no extras                   unknown           value   both little-endian
//! ```
//!
//! The ten bytes before and the eight after are written here and not by flate2: its gzip mode creates its state anew
//! for every value, while the raw deflate between them can be reset in place.

use std::ops::RangeInclusive;

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::interface::{Codec, CodecError, CodecId, Context};

/// The codec `gzip`.
pub(super) struct Gzip;

/// Magic number, deflate, no optional fields, no time, no hint, unknown system: equal on every machine.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const TRAILER_LEN: usize = 8;

impl Codec for Gzip {
    fn levels(&self) -> RangeInclusive<i32> {
        1..=9
    }

    /// zlib's conservative bound (`deflateBound`): nine bits for each literal, and the blocks' own overhead.
    fn max_stored_len(&self, raw_len: usize) -> usize {
        HEADER.len() + raw_len + raw_len.div_ceil(8) + raw_len.div_ceil(64) + 16 + TRAILER_LEN
    }

    /// Deflate's longest match, 258 bytes, takes at least two bits, one for its length and one for its distance: a byte
    /// holds at most 4 × 258.
    fn max_raw_len(&self, stored_len: usize) -> usize {
        stored_len.saturating_sub(HEADER.len() + TRAILER_LEN).saturating_mul(4 * 258)
    }

    fn declared_len(&self, stored: &[u8]) -> Result<u64, CodecError> {
        let (_, _, len) = parts(stored)?;
        Ok(u64::from(len))
    }

    fn context(&self) -> Option<Box<dyn Context>> {
        Some(Box::new(GzipContext { deflate: None, inflate: None }))
    }
}

/// The deflate body of a member, and the value's CRC-32 and length from its trailer.
fn parts(stored: &[u8]) -> Result<(&[u8], u32, u32), CodecError> {
    let corrupt = CodecError::Corrupt(CodecId::Gzip);
    // Time, hint and system do not matter; a member with optional fields is not one of ours.
    if !stored.starts_with(&HEADER[..4]) {
        return Err(corrupt);
    }
    let rest = stored.get(HEADER.len()..).ok_or(corrupt)?;
    let (rest, len) = rest.split_last_chunk::<4>().ok_or(corrupt)?;
    let (body, crc) = rest.split_last_chunk::<4>().ok_or(corrupt)?;
    Ok((body, u32::from_le_bytes(*crc), u32::from_le_bytes(*len)))
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Each half is created at first use: a replica that only reads never pays for the compressor, which is the larger one.
struct GzipContext {
    /// With its present level.
    deflate: Option<(Compress, i32)>,
    inflate: Option<Decompress>,
}

impl Context for GzipContext {
    fn compress(&mut self, raw: &[u8], level: i32, out: &mut [u8]) -> Result<usize, CodecError> {
        let len = u32::try_from(raw.len()).map_err(|_| CodecError::TooLarge(CodecId::Gzip))?;
        let failed = CodecError::Failed(CodecId::Gzip);

        let wanted = Compression::new(level.unsigned_abs());
        let (deflate, current) = self.deflate.get_or_insert_with(|| (Compress::new(wanted, false), level));
        deflate.reset();
        if *current != level {
            deflate.set_level(wanted).map_err(|_| failed)?;
            *current = level;
        }

        let (header, body) = out.split_at_mut(HEADER.len());
        header.copy_from_slice(&HEADER);
        let Ok(Status::StreamEnd) = deflate.compress(raw, body, FlushCompress::Finish) else { return Err(failed) };
        let end = HEADER.len() + deflate.total_out() as usize;
        out[end..end + 4].copy_from_slice(&crc32(raw).to_le_bytes());
        out[end + 4..end + 8].copy_from_slice(&len.to_le_bytes());
        Ok(end + TRAILER_LEN)
    }

    fn decompress(&mut self, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let corrupt = CodecError::Corrupt(CodecId::Gzip);
        let (body, crc, _) = parts(stored)?;

        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        inflate.reset(false);
        let Ok(Status::StreamEnd) = inflate.decompress(body, out, FlushDecompress::Finish) else {
            return Err(corrupt);
        };
        let whole = inflate.total_in() == body.len() as u64 && inflate.total_out() == out.len() as u64;
        if !whole || crc32(out) != crc {
            return Err(corrupt);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::read::{GzDecoder, MultiGzDecoder};
    use flate2::write::GzEncoder;

    use super::super::{Codecs, suite};
    use super::*;

    codec_tests!(Gzip);

    #[test]
    fn any_gunzip_reads_what_is_stored() {
        let mut codecs = Codecs::new();
        for raw in suite::values() {
            for level in [1, 6, 9] {
                let stored = codecs.compress(CodecId::Gzip, level, &raw).unwrap();
                let (mut one, mut all) = (Vec::new(), Vec::new());
                GzDecoder::new(stored).read_to_end(&mut one).unwrap();
                MultiGzDecoder::new(stored).read_to_end(&mut all).unwrap();
                assert!(one == raw && all == raw, "{} bytes at level {level}", raw.len());
            }
        }
    }

    #[test]
    fn what_another_gzip_wrote_is_read() {
        let raw = suite::json(3_000);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&raw).unwrap();
        let stored = encoder.finish().unwrap();
        assert_eq!(Codecs::new().decompress(CodecId::Gzip, &stored, raw.len()).unwrap(), raw);
    }

    #[test]
    fn every_changed_bit_after_the_header_is_found() {
        let mut codecs = Codecs::new();
        let raw = suite::json(200);
        let stored = codecs.compress(CodecId::Gzip, 6, &raw).unwrap().to_vec();
        for bit in HEADER.len() * 8..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Only a bit of the padding after the last block means nothing.
            if let Ok(value) = codecs.decompress(CodecId::Gzip, &damaged, raw.len()) {
                assert_eq!(value, raw, "bit {bit}");
            }
        }
    }
}
