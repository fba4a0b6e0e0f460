//! A codec is how a value's bytes are stored: as they are, or compressed by gzip, zstd or lz4.
//!
//! ```text
//!   write   value ── Codecs::compress ──▶ compressed ── worth_keeping? ──▶ stored with its CodecId, or as it is
//!   read    stored ── check: do both lengths agree, can it be true? ──▶ Codecs::decompress ──▶ value
//! ```
//!
//! **A codec is one file and one row of [`CODECS`].** To add one:
//!
//! 1. give [`CodecId`] a new number, never one that was used before: it is in everybody's files;
//! 2. write its file: a [`Codec`] (facts and checks) and a [`Context`] (the memory it works in), and at the bottom
//!    `codec_tests!(name)`, the questions that every codec must answer;
//! 3. add its row to [`CODECS`], and a stored sample to `tests/golden/codec`.
//!
//! **Stored bytes are not trusted.** They may come from a damaged file, or from a `RESTORE` payload that somebody wrote
//! by hand. Their length before compression is known twice, once from the entry and once from the stored bytes
//! themselves, and before any memory is taken for it, [`check`] asks that both agree and that so few bytes *can* hold so
//! many. A decompressor is then given a slice of exactly that length, and has to fill it.
//!
//! **What is read costs no allocation.** Contexts are expensive to make and cheap to use again, and so is the buffer for
//! the result: [`Codecs`] keeps both, made when they are first needed.

pub mod accept;
mod adaptive;
pub mod offload;
#[cfg(test)]
#[macro_use]
mod suite;

mod gzip;
mod lz4;
mod none;
mod zstd;

use std::fmt;
use std::ops::RangeInclusive;

pub use adaptive::Adaptive;

/// Every codec, at the place of its id.
pub static CODECS: [&dyn Codec; 4] = [&none::None, &gzip::Gzip, &zstd::Zstd, &lz4::Lz4];

/// The number under which an entry remembers its codec. It is in files and on the wire, so none is ever used again for
/// something else.
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
    /// The codec stored under this number; none for a number that this version does not know.
    pub fn from_id(id: u8) -> Option<Self> {
        // On every read: not asked of the table, whose rows a test holds to these places.
        [Self::None, Self::Gzip, Self::Zstd, Self::Lz4].get(usize::from(id)).copied()
    }

    /// The codec of this name, as in `CODEC name`, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        CODECS.iter().find(|codec| name.eq_ignore_ascii_case(codec.name().as_bytes())).map(|codec| codec.id())
    }

    /// The codec that a client of `ACCEPT` calls so, in any case.
    pub fn from_encoding(encoding: &[u8]) -> Option<Self> {
        CODECS.iter().find(|codec| encoding.eq_ignore_ascii_case(codec.encoding().as_bytes())).map(|codec| codec.id())
    }

    /// Its name in commands, settings and replies.
    pub fn name(self) -> &'static str {
        self.codec().name()
    }

    /// Its name for a client that reads stored bytes itself (`ACCEPT`).
    pub fn encoding(self) -> &'static str {
        self.codec().encoding()
    }

    /// Its row of the table.
    pub fn codec(self) -> &'static dyn Codec {
        CODECS[self as usize]
    }
}

/// What a setting, a rule or a `SET` says about compression: one codec, or that we choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Choice {
    /// The best codec that we know for caches: [`CodecId::Zstd`].
    Auto,
    /// This one.
    Only(CodecId),
}

impl Choice {
    /// Every word that [`Choice::parse`] takes, for error texts and docs.
    pub const WORDS: &'static str = "auto none gzip zstd lz4";

    /// Reads `auto` or a codec's name, in any case.
    pub fn parse(word: &[u8]) -> Option<Self> {
        if word.eq_ignore_ascii_case(b"auto") {
            return Some(Self::Auto);
        }
        CodecId::from_name(word).map(Self::Only)
    }

    /// The word that says this.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(id) => id.name(),
        }
    }

    /// The codec to try. zstd saves as much as gzip for about half the time, reading and writing; lz4 is faster still but
    /// saves far less.
    pub fn codec(self) -> CodecId {
        match self {
            Self::Auto => CodecId::Zstd,
            Self::Only(id) => id,
        }
    }
}

/// A codec as a row of [`CODECS`]: its names, its bounds, and what its stored bytes say about themselves. It holds nothing;
/// whatever needs memory is in its [`Context`].
pub trait Codec: Sync {
    /// The number it is stored under.
    fn id(&self) -> CodecId;

    /// Its name in commands, settings and replies.
    fn name(&self) -> &'static str;

    /// Its name as an encoding that clients ask for: HTTP's content coding, where there is one.
    fn encoding(&self) -> &'static str;

    /// The levels it knows, from fast to small. A level outside is held to the nearest.
    fn levels(&self) -> RangeInclusive<i32>;

    /// The most bytes that compressing so many can give.
    fn max_stored_len(&self, raw_len: usize) -> usize;

    /// The most bytes that so many stored ones can hold, by the format's own arithmetic.
    fn max_raw_len(&self, stored_len: usize) -> usize;

    /// How many bytes the stored ones say they hold, provided they look like one whole value: the right magic number,
    /// nothing missing and nothing behind it, as far as can be seen without decompressing.
    fn declared_len(&self, stored: &[u8]) -> Result<u64, CodecError>;

    /// A new context to work with, or nothing for a codec whose stored bytes are the value itself. Cheap: what is big
    /// inside is made at first use.
    fn context(&self) -> Option<Box<dyn Context>>;
}

/// The memory a codec works in, kept from one value to the next. Whatever one call was given, even damaged bytes, the next
/// one starts afresh.
pub trait Context: Send {
    /// Compresses `raw` to the beginning of `out`, which is at least [`Codec::max_stored_len`] long, and says how many
    /// bytes that made.
    fn compress(&mut self, raw: &[u8], level: i32, out: &mut [u8]) -> Result<usize, CodecError>;

    /// Decompresses `stored`, which passed [`check`] for `out.len()`, and fills `out` to the last byte, else fails. What
    /// `out` held before must not matter.
    fn decompress(&mut self, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError>;

    /// Gives back memory that only unusual values needed.
    fn trim(&mut self) {}
}

/// Can these stored bytes be a value of `raw_len` bytes? Takes no memory, and time only for the headers, so it is also the
/// right question for whoever loads an entry from outside.
///
/// It does not find every damage; decompressing does.
pub fn check(id: CodecId, stored: &[u8], raw_len: usize) -> Result<(), CodecError> {
    let codec = id.codec();
    if raw_len > codec.max_raw_len(stored.len()) {
        return Err(CodecError::Implausible { codec: id, raw_len, stored_len: stored.len() });
    }
    let declared = codec.declared_len(stored)?;
    if declared != raw_len as u64 {
        return Err(CodecError::Length { codec: id, declared, raw_len });
    }
    Ok(())
}

/// One set of contexts and the buffer for results, used again for every value. The main thread has one, each worker its own.
#[derive(Default)]
pub struct Codecs {
    contexts: [Option<Box<dyn Context>>; CODECS.len()],
    buffer: Buffer,
}

impl Codecs {
    /// An empty set: what is needed is made when it is first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses a value. The result stands in this set's buffer until the next call; with [`CodecId::None`] it is `raw`
    /// itself. The level is held to the codec's own range.
    pub fn compress<'a>(&'a mut self, id: CodecId, level: i32, raw: &'a [u8]) -> Result<&'a [u8], CodecError> {
        let codec = id.codec();
        let Some(context) = context(&mut self.contexts, id) else { return Ok(raw) };
        let levels = codec.levels();
        let out = self.buffer.room(codec.max_stored_len(raw.len()));
        let stored_len = context.compress(raw, level.clamp(*levels.start(), *levels.end()), out)?;
        Ok(&out[..stored_len])
    }

    /// Brings a value back: exactly `raw_len` bytes, or an error, whatever the stored bytes are. The result stands in this
    /// set's buffer until the next call; with [`CodecId::None`] it is `stored` itself.
    pub fn decompress<'a>(&'a mut self, id: CodecId, stored: &'a [u8], raw_len: usize) -> Result<&'a [u8], CodecError> {
        check(id, stored, raw_len)?;
        let Some(context) = context(&mut self.contexts, id) else { return Ok(stored) };
        let out = self.buffer.room(raw_len);
        context.decompress(stored, out)?;
        Ok(out)
    }

    /// Gives back memory that only unusual values needed. Under traffic that happens by itself; this is for whoever
    /// may stay idle after a big value: a timer, or a worker between two jobs.
    pub fn trim(&mut self) {
        self.buffer.trim();
        self.contexts.iter_mut().flatten().for_each(|context| context.trim());
    }

    /// The bytes that the buffer holds just now.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.bytes.len()
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codecs").field("buffer_bytes", &self.buffer_bytes()).finish_non_exhaustive()
    }
}

/// The codec's context, made if it is not there yet. (A function of the array alone, so that the buffer stays free to be
/// borrowed beside it.)
fn context(contexts: &mut [Option<Box<dyn Context>>; CODECS.len()], id: CodecId) -> Option<&mut dyn Context> {
    let slot = &mut contexts[id as usize];
    if slot.is_none() {
        *slot = id.codec().context();
    }
    Some(slot.as_mut()?.as_mut())
}

/// A buffer that is used again.
///
/// Its bytes are always initialised and only ever handed out as a slice, so that making room costs nothing, not even
/// zeroing, once it has its size. What it grew to beyond [`Buffer::KEPT`] is given back when it was more than four times
/// too big for [`Buffer::PATIENCE`] uses in a row.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Uses in a row for which it was far too big.
    small_uses: u32,
}

impl Buffer {
    /// Bytes that are kept for good.
    const KEPT: usize = 1 << 20;
    /// Uses in a row for which a buffer may be far too big.
    const PATIENCE: u32 = 64;

    /// A slice of this length, with anything in it.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if len >= self.bytes.len() / 4 {
            self.small_uses = 0;
        } else if self.bytes.len() > Self::KEPT {
            self.small_uses += 1;
            if self.small_uses >= Self::PATIENCE {
                self.trim();
            }
        }
        if self.bytes.len() < len {
            // Nothing in it is wanted any more, so give it back first instead of having it copied.
            self.bytes = Vec::new();
            let rounded = if len < Self::KEPT { len.next_power_of_two() } else { len };
            self.bytes = vec![0; rounded];
        }
        &mut self.bytes[..len]
    }

    /// Gives back a buffer that is bigger than what is kept for good.
    fn trim(&mut self) {
        if self.bytes.len() > Self::KEPT {
            *self = Self::default();
        }
    }
}

/// Is the compressed form worth keeping? It is when it saves at least this fraction of the value's bytes, and at least one
/// byte: reading it costs time for ever.
pub fn worth_keeping(raw_len: usize, stored_len: usize, min_savings: f64) -> bool {
    stored_len < raw_len && (raw_len - stored_len) as f64 >= raw_len as f64 * min_savings
}

/// Why a value could not be compressed or brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecError {
    /// The stored bytes are not one whole value of this codec: cut short, changed, or with something behind them. The value
    /// is lost; in a cache that is a miss.
    Corrupt(CodecId),
    /// The entry and its stored bytes disagree about the value's length: damage, or forgery.
    Length {
        /// The codec of the stored bytes.
        codec: CodecId,
        /// What the stored bytes say.
        declared: u64,
        /// What the entry says.
        raw_len: usize,
    },
    /// The entry claims a length that so few stored bytes can not hold: forgery. No memory was taken for it.
    Implausible {
        /// The codec of the stored bytes.
        codec: CodecId,
        /// What the entry says.
        raw_len: usize,
        /// How many bytes are stored.
        stored_len: usize,
    },
    /// The codec's format has no room for a value of this length. It can be stored as it is.
    TooLarge(CodecId),
    /// The library could not do its work, for want of memory. The value can be stored as it is; what is stored is not
    /// damaged.
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
    fn each_codec_stands_at_the_place_of_its_id() {
        for (place, codec) in CODECS.iter().enumerate() {
            assert_eq!(codec.id() as usize, place);
            assert_eq!(CodecId::from_id(place as u8), Some(codec.id()));
        }
        assert_eq!(CodecId::from_id(CODECS.len() as u8), None);
        assert_eq!(CodecId::from_id(u8::MAX), None);
    }

    #[test]
    fn stored_ids_never_change() {
        let ids = CODECS.map(|codec| (codec.id() as u8, codec.name(), codec.encoding()));
        assert_eq!(ids, [(0, "none", "identity"), (1, "gzip", "gzip"), (2, "zstd", "zstd"), (3, "lz4", "lz4")]);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for codec in CODECS {
            assert_eq!(CodecId::from_name(codec.name().to_ascii_uppercase().as_bytes()), Some(codec.id()));
            assert_eq!(CodecId::from_encoding(codec.encoding().to_ascii_uppercase().as_bytes()), Some(codec.id()));
            assert_eq!(Choice::parse(codec.name().as_bytes()), Some(Choice::Only(codec.id())));
        }
        assert_eq!(Choice::parse(b"AUTO"), Some(Choice::Auto));
        for unknown in [&b""[..], b"brotli", b"gzip ", b"identity", b"\xff"] {
            assert_eq!(Choice::parse(unknown), None);
        }
    }

    #[test]
    fn the_words_of_a_choice_are_all_there_are() {
        let words: Vec<_> = Choice::WORDS.split(' ').collect();
        assert_eq!(words.len(), CODECS.len() + 1);
        assert!(words.iter().all(|word| Choice::parse(word.as_bytes()).unwrap().name() == *word));
    }

    #[test]
    fn auto_means_zstd() {
        assert_eq!(Choice::Auto.codec(), CodecId::Zstd);
        assert_eq!(Choice::Only(CodecId::Lz4).codec(), CodecId::Lz4);
    }

    #[test]
    fn a_form_is_kept_if_it_saves_enough() {
        assert!(worth_keeping(100, 80, 0.2));
        assert!(!worth_keeping(100, 81, 0.2));
        assert!(worth_keeping(100, 99, 0.0));
        assert!(!worth_keeping(100, 100, 0.0), "the same size saves nothing and costs time");
        assert!(!worth_keeping(100, 101, 0.0));
        assert!(!worth_keeping(0, 0, 0.0));
        assert!(!worth_keeping(100, 1, 1.0));
        assert!(!worth_keeping(100, 1, f64::NAN));
    }

    #[test]
    fn the_plain_codec_hands_out_what_it_was_given() {
        let mut codecs = Codecs::new();
        let value = b"plain".to_vec();
        assert_eq!(codecs.compress(CodecId::None, 3, &value).unwrap().as_ptr(), value.as_ptr());
        assert_eq!(codecs.decompress(CodecId::None, &value, 5).unwrap().as_ptr(), value.as_ptr());
        assert_eq!(codecs.buffer_bytes(), 0);
    }

    #[test]
    fn a_buffer_that_a_big_value_needed_is_given_back_after_a_while() {
        let mut buffer = Buffer::default();
        buffer.room(5 << 20);
        for _ in 1..Buffer::PATIENCE {
            buffer.room(100);
            assert_eq!(buffer.bytes.len(), 5 << 20);
        }
        buffer.room(100);
        assert_eq!(buffer.bytes.len(), 128);
    }

    #[test]
    fn a_huge_buffer_is_not_kept_for_values_that_are_merely_big() {
        let mut buffer = Buffer::default();
        buffer.room(50 << 20);
        for _ in 0..Buffer::PATIENCE {
            buffer.room(2 << 20);
        }
        assert_eq!(buffer.bytes.len(), 2 << 20);
    }

    #[test]
    fn a_buffer_stays_big_while_big_values_come() {
        let mut buffer = Buffer::default();
        let start = buffer.room(5 << 20).as_ptr();
        for turn in 0..10 * Buffer::PATIENCE {
            let len = if turn % 50 == 0 { 4 << 20 } else { 100 };
            assert_eq!(buffer.room(len).as_ptr(), start);
        }
    }

    #[test]
    fn trimming_gives_back_only_what_is_unusual() {
        let mut buffer = Buffer::default();
        buffer.room(Buffer::KEPT);
        buffer.trim();
        assert_eq!(buffer.bytes.len(), Buffer::KEPT);
        buffer.room(Buffer::KEPT + 1);
        buffer.trim();
        assert_eq!(buffer.bytes.len(), 0);
    }

    #[test]
    fn errors_say_what_is_wrong() {
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
}
