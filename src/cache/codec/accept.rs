//! Which encodings a caller can decompress for itself.

use crate::cache::codec::CodecId;

/// Which encodings a caller can read beside the plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept(u8);

impl Accept {
    /// From a list such as `gzip,zstd`, as in HTTP's `Accept-Encoding`; names that are not ours are passed over.
    pub fn parse(list: &[u8]) -> Self {
        let ids = list.split(|byte| *byte == b',').filter_map(|name| CodecId::from_encoding(name.trim_ascii()));
        Accept(ids.fold(0, |bits, id| bits | 1 << id as u8))
    }

    /// Every encoding: whoever does not look at the value spares its decompression.
    pub fn all() -> Self {
        Accept(u8::MAX)
    }

    /// Whether the caller accepts a codec's bytes.
    pub fn has(self, id: CodecId) -> bool {
        self.0 & (1 << id as u8) != 0
    }
}
