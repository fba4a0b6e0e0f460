//! Tokens that prove themselves: when a load began, and for which key, sealed with this node's secret.
//!
//! ```text
//!  base64url of 24 bytes: 32 letters, opaque to clients
//!  ┌───────────────┬─────────────────┬──────────────────────────────────────────────────────────────┐
//!  │ stamp, u64    │ mono_ms, u64    │ SipHash-2-4(secret, kind · database · key · stamp · mono_ms) │
//!  └───────────────┴─────────────────┴──────────────────────────────────────────────────────────────┘
//! ```
//!
//! So a fill that comes late needs no record of its lease: the token says when it was granted, and nobody can make one
//! up, use it for another key, or use one from before a restart or a change of role (the secret is
//! drawn anew then). `SMARTCACHE.STAMP` gives the same without a key. SipHash: Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF", 2012.

use std::hash::Hasher;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;

use crate::cache::clock::{Now, Stamp};

/// The letters of a token.
pub const LEN: usize = 32;
/// The bytes in it.
const BYTES: usize = 24;

/// When a load began: as a stamp, and on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it loads is stored with this stamp.
    pub stamp: Stamp,
    /// Milliseconds of the monotonic clock, for load times and guards.
    pub mono_ms: u64,
}

/// What a token is valid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'k> {
    /// One key of one database (`TOKEN`).
    Key(i32, &'k [u8]),
    /// Any key (`SINCE`).
    Anything,
}

/// The secret that seals tokens: drawn at random, never shown.
pub struct Secret([u8; 16]);

impl Token {
    /// A load that begins now, with this stamp.
    pub fn begun(stamp: Stamp, now: Now) -> Self {
        Token { stamp, mono_ms: now.mono_ms() }
    }

    /// How long ago it began, in milliseconds.
    pub fn age_ms(self, now: Now) -> u64 {
        now.mono_ms().saturating_sub(self.mono_ms)
    }
}

impl Secret {
    /// From random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Secret(bytes)
    }

    /// Seals a token, as text for clients.
    pub fn seal(&self, of: Of<'_>, token: Token) -> [u8; LEN] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&token.stamp.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&token.mono_ms.to_le_bytes());
        bytes[16..].copy_from_slice(&self.proof(of, token).to_le_bytes());
        let mut text = [0; LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(LEN));
        text
    }

    /// Opens a client's word; `None` for one that this node has not sealed, or not for this use.
    pub fn open(&self, of: Of<'_>, text: &[u8]) -> Option<Token> {
        let mut bytes = [0; BYTES];
        if text.len() != LEN || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(BYTES) {
            return None;
        }
        let number = |at: usize| {
            let mut wide = [0; 8];
            wide.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(wide)
        };
        let token = Token { stamp: Stamp(number(0)), mono_ms: number(8) };
        (self.proof(of, token) == number(16)).then_some(token)
    }

    fn proof(&self, of: Of<'_>, token: Token) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        match of {
            Of::Key(db, name) => {
                hasher.write(b"k");
                hasher.write(&db.to_le_bytes());
                hasher.write(name);
            }
            Of::Anything => hasher.write(b"a"),
        }
        // Of fixed length, and last: no other key can make the same bytes.
        hasher.write(&token.stamp.0.to_le_bytes());
        hasher.write(&token.mono_ms.to_le_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Of<'_> = Of::Key(3, b"user:42");

    fn secret() -> Secret {
        Secret::new(*b"0123456789abcdef")
    }

    fn token() -> Token {
        Token { stamp: Stamp(1_700_000_000_000_000), mono_ms: 12_345 }
    }

    #[test]
    fn a_token_is_good_for_its_own_key_and_database_only() {
        let text = secret().seal(KEY, token());
        assert_eq!(secret().open(KEY, &text), Some(token()));
        for other in [Of::Key(4, b"user:42"), Of::Key(3, b"user:43"), Of::Key(3, b""), Of::Anything] {
            assert_eq!(secret().open(other, &text), None, "{other:?}");
        }
        let stamp = secret().seal(Of::Anything, token());
        assert_eq!(secret().open(Of::Anything, &stamp), Some(token()));
        assert_eq!(secret().open(KEY, &stamp), None);
    }

    #[test]
    fn a_token_of_a_former_life_is_no_token() {
        let text = secret().seal(KEY, token());
        assert_eq!(Secret::new(*b"another sixteen.").open(KEY, &text), None);
    }

    #[test]
    fn a_change_of_any_letter_is_noticed() {
        let text = secret().seal(KEY, token());
        for at in 0..LEN {
            for letter in [b'A', b'z', b'-', b'=', b' ', 0, 0xff] {
                let mut other = text;
                other[at] = letter;
                assert!(other == text || secret().open(KEY, &other).is_none());
            }
        }
    }

    proptest! {
        #[test]
        fn no_other_word_is_a_token(word: Vec<u8>) {
            prop_assert_eq!(secret().open(KEY, &word), None);
        }

        #[test]
        fn what_is_sealed_opens(db: i32, key: Vec<u8>, stamp: u64, mono_ms: u64) {
            let token = Token { stamp: Stamp(stamp), mono_ms };
            let text = secret().seal(Of::Key(db, &key), token);
            prop_assert_eq!(secret().open(Of::Key(db, &key), &text), Some(token));
        }
    }
}
