//! A cursor over the words of a command. Parsing validates and has no effects.

use smallvec::SmallVec;

use crate::cache::error::Error;
use crate::cache::units::{self, Limit};
use crate::cache::{Cx, Key, Slot};

/// The words after the command's name, read from left to right.
#[derive(Debug)]
pub struct Args<'w> {
    command: &'static str,
    words: &'w [&'w [u8]],
    at: usize,
}

impl<'w> Args<'w> {
    /// A cursor over the words of `command`, past the first `named`, which are its name.
    pub fn new(command: &'static str, words: &'w [&'w [u8]], named: usize) -> Self {
        Args { command, words, at: named }
    }

    /// The name of the command.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// The index of the next word among all words of the command.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.words.len().saturating_sub(self.at)
    }

    /// The words that are left.
    pub fn rest(&self) -> &'w [&'w [u8]] {
        self.words.get(self.at..).unwrap_or_default()
    }

    /// A cursor over the next `count` words, past which this one goes on; `None` when there are not so many.
    pub fn part(&mut self, count: usize) -> Option<Args<'w>> {
        let end = self.at.checked_add(count)?;
        let part = Args { command: self.command, words: self.words.get(..end)?, at: self.at };
        self.at = end;
        Some(part)
    }

    /// The next word; an arity error when there is none.
    pub fn word(&mut self) -> Result<&'w [u8], Error> {
        self.option().ok_or(Error::Arity(self.command))
    }

    /// The next word as a key.
    pub fn key(&mut self) -> Result<Key<'w>, Error> {
        let arg = u16::try_from(self.at).ok();
        self.word().map(|name| Key { name, arg })
    }

    /// The next word, if there is one.
    pub fn option(&mut self) -> Option<&'w [u8]> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// The value that follows `option`; a syntax error when there is none.
    pub fn value_of(&mut self, option: &[u8]) -> Result<&'w [u8], Error> {
        self.option().ok_or_else(|| Error::syntax(option))
    }

    /// The duration that follows `option`, in milliseconds. Errors call it `what`.
    pub fn duration(&mut self, what: &'static str, option: &[u8], zero: Zero) -> Result<u64, Error> {
        let word = self.value_of(option)?;
        match units::parse_duration(word) {
            Ok(0) if zero == Zero::Refused => Err(Error::invalid(what, word, "must be more than 0")),
            Ok(ms) => Ok(ms),
            Err(why) => Err(Error::invalid(what, word, why)),
        }
    }

    /// The same, bounded by a setting.
    pub fn duration_within(
        &mut self,
        what: &'static str,
        option: &[u8],
        zero: Zero,
        limit: Limit,
    ) -> Result<u64, Error> {
        let word = self.words.get(self.at).copied().unwrap_or_default();
        let ms = self.duration(what, option, zero)?;
        limit.refusal(ms).map_or(Ok(ms), |why| Err(Error::invalid(what, word, why)))
    }

    /// The integer from 1 to `max` that follows `option`. Errors call it `what`.
    pub fn positive(&mut self, what: &'static str, option: &[u8], max: u64) -> Result<u64, Error> {
        let word = self.value_of(option)?;
        match units::parse_int(word) {
            Ok(n) if n >= 1 && n as u64 <= max => Ok(n as u64),
            _ => Err(Error::invalid(what, word, format_args!("a whole number from 1 to {max} is wanted"))),
        }
    }

    /// The words of the `n word …` that follows `option`, at most `max` of them. Errors call them `what`.
    pub fn counted(
        &mut self,
        what: &'static str,
        option: &[u8],
        max: u64,
    ) -> Result<impl Iterator<Item = &'w [u8]> + use<'w>, Error> {
        let count = self.positive(what, option, max)?;
        let found = self.left();
        if count > found as u64 {
            return Err(Error::Count { what, count, found });
        }
        let words = &self.words[self.at..self.at + count as usize];
        self.at += count as usize;
        Ok(words.iter().copied())
    }

    /// A syntax error when a word is left.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.option() {
            Some(word) => Err(Error::syntax(word)),
            None => Ok(()),
        }
    }
}

/// The rest of the words as keys; `WRONGTYPE` when one holds a type that is neither an entry nor a plain string.
pub(crate) fn checked_keys<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<SmallVec<[Key<'w>; 8]>, Error> {
    let mut keys = SmallVec::new();
    while args.left() > 0 {
        let key = args.key()?;
        if let Slot::Other = cx.keys.peek(key) {
            return Err(Error::WrongType);
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Whether a duration may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// Whether `word` is `name`, in any case.
pub(crate) fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// Sets `slot`, which an option may set once; a syntax error near `word` the second time.
pub(crate) fn once<T>(slot: &mut Option<T>, value: T, word: &[u8]) -> Result<(), Error> {
    if slot.is_some() {
        return Err(Error::syntax(word));
    }
    *slot = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_larger_than_what_follows_is_an_error() {
        let words: [&[u8]; 5] = [b"C", b"TAGS", b"3", b"a", b"b"];
        let mut args = Args::new("C", &words, 1);
        let option = args.option().unwrap();
        let error = args.counted("TAGS", option, 64).err().unwrap();
        assert_eq!(error.to_string(), "ERR TAGS says 3, but 2 follow: give the count of what follows");
    }

    #[test]
    fn a_key_knows_its_index_among_the_words() {
        let words: [&[u8]; 2] = [b"C", b"k"];
        assert_eq!(Args::new("C", &words, 1).key().unwrap(), Key { name: b"k", arg: Some(1) });
    }
}
