//! Which encodings a caller decompresses itself (`ACCEPT`).

use crate::cache::codec::CodecId;

/// The encodings that a caller reads, beside the plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept(u8);

impl Accept {
    /// From a list such as `gzip,zstd`, as in HTTP's `Accept-Encoding`. Unknown names are ignored.
    pub fn parse(list: &[u8]) -> Self {
        let ids = list.split(|byte| *byte == b',').filter_map(|name| CodecId::from_encoding(name.trim_ascii()));
        Accept(ids.fold(0, |bits, id| bits | 1 << id as u8))
    }

    /// Every encoding: for readers that do not look at the value.
    pub fn all() -> Self {
        Accept(u8::MAX)
    }

    /// Whether the caller accepts bytes of this codec.
    pub fn has(self, id: CodecId) -> bool {
        self.0 & (1 << id as u8) != 0
    }
}
