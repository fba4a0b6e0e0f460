//! A codec is how the bytes of a value are stored: as they are, or compressed by gzip, zstd or lz4.
//!
//! ```text
//!   write   value ── Codecs::compress ──▶ compressed ── worth_keeping? ──▶ stored with its CodecId, or as it is
//!   read    stored ── check: do both lengths agree, are they possible? ──▶ Codecs::decompress ──▶ value
//! ```
//!
//! To add a codec:
//!
//! 1. give [`CodecId`] a number and a name; never a number that was used before, because it is in files;
//! 2. write its file: a `Codec` (facts and checks), a `Context` (the memory it works in), and at the bottom
//!    `codec_tests!(Name)`, the tests that every codec must pass;
//! 3. add it to `codec`, and a stored sample to `tests/golden/codec`.
//!
//! **Stored bytes are not trusted.** They may come from a damaged file or a `RESTORE` payload written by hand. The
//! length before compression is recorded twice, in the entry and in the stored bytes. Before any memory is allocated
//! for it, [`check`] requires that both agree and that so few bytes can hold so many. A decompressor is then given a
//! slice of exactly that length, and must fill it.
//!
//! **A read allocates nothing.** Contexts, and the buffer for the result, are expensive to create and cheap to reuse:
//! [`Codecs`] keeps both, created at first use.

pub mod accept;
mod adaptive;
mod choice;
mod codecs;
mod interface;
pub mod offload;
#[cfg(test)]
#[macro_use]
mod suite;

mod gzip;
mod lz4;
mod none;
mod zstd;

pub use adaptive::Adaptive;
pub use choice::Choice;
pub use codecs::{Codecs, check, declared_len, worth_keeping};
use interface::Codec;
pub use interface::{CodecError, CodecId};

/// The implementation of a codec.
fn codec(id: CodecId) -> &'static dyn Codec {
    match id {
        CodecId::None => &none::None,
        CodecId::Gzip => &gzip::Gzip,
        CodecId::Zstd => &zstd::Zstd,
        CodecId::Lz4 => &lz4::Lz4,
    }
}
