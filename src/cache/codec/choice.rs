//! How an operator or a caller chooses a codec.

use super::interface::CodecId;

/// What a setting, a rule or a `SET` chooses: one codec, or the best one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Choice {
    /// The best codec that we know for caches: [`CodecId::Zstd`].
    #[default]
    Auto,
    /// This one.
    Only(CodecId),
}

impl Choice {
    /// Every word that [`Choice::parse`] reads, for error texts and docs.
    pub const WORDS: &'static str = "auto none gzip zstd lz4";

    /// Reads `auto` or a codec's name, in any case.
    pub fn parse(word: &[u8]) -> Option<Self> {
        if word.eq_ignore_ascii_case(b"auto") {
            return Some(Self::Auto);
        }
        CodecId::from_name(word).map(Self::Only)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(id) => id.name(),
        }
    }

    /// The codec to try. zstd saves as much as gzip in about half the time, reading and writing; lz4 is faster but
    /// saves far less.
    pub fn codec(self) -> CodecId {
        match self {
            Self::Auto => CodecId::Zstd,
            Self::Only(id) => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_choice_is_listed() {
        let words: Vec<_> = Choice::WORDS.split(' ').collect();
        assert_eq!(words.len(), CodecId::ALL.len() + 1);
        assert!(words.iter().all(|word| Choice::parse(word.as_bytes()).unwrap().name() == *word));
    }

    #[test]
    fn names_are_read_in_any_case() {
        for codec in CodecId::ALL {
            assert_eq!(Choice::parse(codec.name().to_ascii_uppercase().as_bytes()), Some(Choice::Only(codec)));
        }
        assert_eq!(Choice::parse(b"AUTO"), Some(Choice::Auto));
        assert_eq!(Choice::parse(b"brotli"), None);
    }

    #[test]
    fn auto_means_zstd() {
        assert_eq!(Choice::Auto.codec(), CodecId::Zstd);
        assert_eq!(Choice::Only(CodecId::Lz4).codec(), CodecId::Lz4);
    }
}
