//! `none` stores a value as it is.

use std::ops::RangeInclusive;

use super::interface::{Codec, CodecError, Context};

/// The codec `none`.
pub(super) struct None;

impl Codec for None {
    fn levels(&self) -> RangeInclusive<i32> {
        0..=0
    }

    fn max_stored_len(&self, raw_len: usize) -> usize {
        raw_len
    }

    fn max_raw_len(&self, stored_len: usize) -> usize {
        stored_len
    }

    fn declared_len(&self, stored: &[u8]) -> Result<u64, CodecError> {
        Ok(stored.len() as u64)
    }

    fn context(&self) -> Option<Box<dyn Context>> {
        Option::None
    }
}

#[cfg(test)]
mod tests {
    codec_tests!(None);
}
