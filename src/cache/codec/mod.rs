//! How a value's bytes are stored: so far only the names of the codecs, which settings and rules need.

/// A codec, by the number that is stored with each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CodecId {
    /// The bytes as they are.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Zstandard.
    Zstd = 2,
    /// LZ4 blocks.
    Lz4 = 3,
}

/// Which codec a rule or a setting asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Whatever is best for the value.
    Auto,
    /// This one.
    Only(CodecId),
}

impl Choice {
    const ALL: [Choice; 5] = [
        Choice::Auto,
        Choice::Only(CodecId::None),
        Choice::Only(CodecId::Gzip),
        Choice::Only(CodecId::Zstd),
        Choice::Only(CodecId::Lz4),
    ];

    /// The choice of that name, in any case.
    pub fn parse(name: &[u8]) -> Option<Choice> {
        Choice::ALL.into_iter().find(|choice| choice.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Only(CodecId::None) => "none",
            Choice::Only(CodecId::Gzip) => "gzip",
            Choice::Only(CodecId::Zstd) => "zstd",
            Choice::Only(CodecId::Lz4) => "lz4",
        }
    }
}
