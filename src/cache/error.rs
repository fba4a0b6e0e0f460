//! The errors that commands reply: what is wrong, and how to correct it.
//!
//! The `Display` of an [`Error`] *is* the wire text, code first; `tests/golden/errors.txt` pins it. Words from the
//! client are shortened, and everything unprintable in them is escaped, because an error is one line.

use std::fmt;

/// A refusal. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Too few or too many words.
    Arity(&'static str),
    /// A word that is unknown, repeated, in conflict with another, or lacks what must follow it.
    Syntax {
        /// The word.
        word: Word,
        /// What is right: the grammar of the command, once it is known.
        grammar: Option<String>,
    },
    /// A value that the option does not accept: option, word, what would be right.
    Invalid {
        /// The option, such as `TTL`.
        what: &'static str,
        /// The word.
        word: Word,
        /// What is accepted.
        want: String,
    },
    /// A count that does not fit what follows it.
    Count {
        /// The option, such as `TAGS`.
        what: &'static str,
        /// The count.
        count: u64,
        /// How many words there are.
        found: usize,
    },
    /// A value over `smartcache.max-value`.
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: u64,
    },
    /// The key holds something that is neither an entry nor a plain string.
    WrongType,
    /// The server has no memory left for a store.
    OutOfMemory,
    /// This node is a replica, and only its primary can do this.
    ReadOnly,
    /// The permission that the user lacks.
    NoPermission(String),
    /// Another refusal: the whole sentence.
    Refused(String),
    /// A panic was caught: a bug in this module.
    Internal,
}

/// A word from the client, to show in an error: one line, printable, short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

/// How many bytes of a word an error shows.
const SHOWN: usize = 64;

impl From<&[u8]> for Word {
    fn from(bytes: &[u8]) -> Self {
        let shown =
            bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
        Word(if bytes.len() > SHOWN { format!("{shown}...") } else { shown })
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl Word {
    /// A word that is escaped already.
    pub fn escaped(shown: &str) -> Self {
        Word(shown.to_owned())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error {
    /// A syntax error near `word`.
    pub fn syntax(word: &[u8]) -> Self {
        Error::Syntax { word: word.into(), grammar: None }
    }

    /// Of a syntax error: the grammar of the command.
    #[must_use]
    pub fn with_grammar(self, grammar: impl FnOnce() -> Option<String>) -> Self {
        match self {
            Error::Syntax { word, grammar: None } => Error::Syntax { word, grammar: grammar() },
            other => other,
        }
    }

    /// `word` is not a proper value for `what`.
    pub fn invalid(what: &'static str, word: &[u8], want: impl fmt::Display) -> Self {
        Error::Invalid { what, word: word.into(), want: want.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Arity(command) => {
                // The server's own form of subcommands.
                let name = command.to_ascii_lowercase().replace(' ', "|");
                write!(f, "ERR wrong number of arguments for '{name}' command")
            }
            Error::Syntax { word, grammar: None } => write!(f, "ERR syntax error near '{word}'"),
            Error::Syntax { word, grammar: Some(grammar) } => {
                write!(f, "ERR syntax error near '{word}': say {}", grammar.replace('…', "..."))
            }
            Error::Invalid { what, word, want } => write!(f, "ERR invalid {what} '{word}': {want}"),
            Error::Count { what, count, found } => {
                write!(f, "ERR {what} says {count}, but {found} follow: give the count of what follows")
            }
            Error::TooLarge { bytes, limit } => write!(
                f,
                "ERR value of {bytes} bytes is over the limit of {limit}: store less, or raise smartcache.max-value"
            ),
            Error::OutOfMemory => f.write_str("OOM command not allowed when used memory > 'maxmemory'."),
            Error::ReadOnly => f.write_str("READONLY You can't write against a read only replica."),
            Error::WrongType => f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value"),
            Error::NoPermission(what) => write!(f, "NOPERM this user has no {what}"),
            Error::Refused(sentence) => write!(f, "ERR {sentence}"),
            Error::Internal => f.write_str("ERR internal error: a panic was caught, see the server's log"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_line_breaks_or_of_a_megabyte_becomes_one_short_line() {
        assert_eq!(Error::syntax(b"a\r\n-ERR b\0").to_string(), r"ERR syntax error near 'a\r\n-ERR b\x00'");
        assert!(Error::syntax(&[b'x'; 1 << 20]).to_string().len() < 100);
    }
}
