//! What a codec is: its number and names, the two traits it implements, and how it fails.

use std::fmt;
use std::ops::RangeInclusive;

/// The number under which an entry records its codec. It is in files and on the wire: none is ever reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum CodecId {
    /// The bytes as they are.
    None = 0,
    /// One gzip member (RFC 1952).
    Gzip = 1,
    /// One Zstandard frame (RFC 8878).
    Zstd = 2,
    /// The length in four bytes, then one LZ4 block.
    Lz4 = 3,
}

impl CodecId {
    /// Every codec, at the place of its number.
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Zstd, Self::Lz4];

    /// The codec stored under this number; none for a number that this version does not know.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The codec of this name, as in `CODEC name`, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| name.eq_ignore_ascii_case(codec.name().as_bytes()))
    }

    /// The codec of this encoding, as in `ACCEPT encoding`, in any case.
    pub fn from_encoding(encoding: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| encoding.eq_ignore_ascii_case(codec.encoding().as_bytes()))
    }

    /// Its name in commands, settings and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// Its name for clients that read stored bytes themselves (`ACCEPT`): HTTP's content coding, where there is one.
    pub fn encoding(self) -> &'static str {
        match self {
            Self::None => "identity", // HTTP's word for "not encoded"
            other => other.name(),
        }
    }
}

/// A codec: its bounds, and what can be read from stored bytes without decompressing. What needs memory is in its
/// [`Context`].
pub(super) trait Codec: Sync {
    /// Its levels, from fast to small. A level outside the range becomes the nearest.
    fn levels(&self) -> RangeInclusive<i32>;

    /// The most bytes that `raw_len` bytes can become.
    fn max_stored_len(&self, raw_len: usize) -> usize;

    /// The most bytes that `stored_len` bytes can hold, by the arithmetic of the format.
    fn max_raw_len(&self, stored_len: usize) -> usize;

    /// The length that the stored bytes declare, if they look like one whole value: the right magic number, nothing
    /// missing and nothing after it, as far as that shows without decompressing.
    fn declared_len(&self, stored: &[u8]) -> Result<u64, CodecError>;

    /// A new context, or `None` for a codec whose stored bytes are the value itself. Cheap: large parts are created at
    /// first use.
    fn context(&self) -> Option<Box<dyn Context>>;
}

/// The memory a codec works in, kept from one value to the next. No call affects the next, not even one with damaged
/// bytes.
pub(super) trait Context: Send {
    /// Compresses `raw` to the start of `out`, which is at least [`Codec::max_stored_len`] long, and returns the
    /// length.
    fn compress(&mut self, raw: &[u8], level: i32, out: &mut [u8]) -> Result<usize, CodecError>;

    /// Decompresses `stored`, which passed `check` for `out.len()`, and fills `out` to the last byte, else fails. What
    /// `out` held before must not matter.
    fn decompress(&mut self, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError>;

    /// Frees memory that only unusual values need.
    fn trim(&mut self) {}
}

/// Why a value was not compressed or decompressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecError {
    /// The stored bytes are not one whole value of this codec: cut short, changed, or followed by more. The value is
    /// lost, which a cache treats as a miss.
    Corrupt(CodecId),
    /// The entry and its stored bytes disagree about the value's length: damage or forgery.
    Length {
        /// The codec of the stored bytes.
        codec: CodecId,
        /// The length that the stored bytes declare.
        declared: u64,
        /// The length that the entry declares.
        raw_len: usize,
    },
    /// The entry declares a length that so few stored bytes cannot hold: forgery. No memory was allocated for it.
    Implausible {
        /// The codec of the stored bytes.
        codec: CodecId,
        /// The length that the entry declares.
        raw_len: usize,
        /// How many bytes are stored.
        stored_len: usize,
    },
    /// The codec's format cannot hold a value of this length. It can be stored as it is.
    TooLarge(CodecId),
    /// The library ran out of memory. A value to store can be stored as it is; a stored one is not damaged.
    Failed(CodecId),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Corrupt(codec) => write!(f, "the stored bytes are not one whole {} value", codec.name()),
            Self::Length { codec, declared, raw_len } => {
                write!(f, "the stored {} value says it has {declared} bytes, its entry says {raw_len}", codec.name())
            }
            Self::Implausible { codec, raw_len, stored_len } => {
                write!(f, "{stored_len} stored bytes can not hold a {} value of {raw_len}", codec.name())
            }
            Self::TooLarge(codec) => write!(f, "the value is too large for {}", codec.name()),
            Self::Failed(codec) => write!(f, "{} ran out of memory", codec.name()),
        }
    }
}

impl std::error::Error for CodecError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_describe_what_is_wrong() {
        let codec = CodecId::Gzip;
        let texts = [
            (CodecError::Corrupt(codec), "the stored bytes are not one whole gzip value"),
            (
                CodecError::Length { codec, declared: 5, raw_len: 7 },
                "the stored gzip value says it has 5 bytes, its entry says 7",
            ),
            (
                CodecError::Implausible { codec, raw_len: 9_000, stored_len: 20 },
                "20 stored bytes can not hold a gzip value of 9000",
            ),
            (CodecError::TooLarge(codec), "the value is too large for gzip"),
            (CodecError::Failed(codec), "gzip ran out of memory"),
        ];
        for (error, text) in texts {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn stored_ids_never_change() {
        let ids = CodecId::ALL.map(|codec| (codec as u8, codec.name(), codec.encoding()));
        assert_eq!(ids, [(0, "none", "identity"), (1, "gzip", "gzip"), (2, "zstd", "zstd"), (3, "lz4", "lz4")]);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for codec in CodecId::ALL {
            assert_eq!(CodecId::from_name(codec.name().to_ascii_uppercase().as_bytes()), Some(codec));
            assert_eq!(CodecId::from_encoding(codec.encoding().to_ascii_uppercase().as_bytes()), Some(codec));
        }
        for unknown in [&b""[..], b"auto", b"brotli", b"gzip ", b"identity", b"\xff"] {
            assert_eq!(CodecId::from_name(unknown), None);
        }
    }
}
