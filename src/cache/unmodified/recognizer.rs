//! Which commands of the server may concern keys of NATIVE rules: asked before every command, so most of them are ruled
//! out by their name, or by the first bytes of their key.

use super::commands::{Commands, KeyWords, Way};

/// Slots of the table of names: a power of two, several times the number of commands.
const SLOTS: usize = 1_024;
/// What is known of a command by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognized {
    /// It concerns no key of a NATIVE rule.
    No,
    /// It may.
    Perhaps,
    /// It may change what users may do, or who a connection's user is.
    Users,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    name: u128,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    /// Its only key is this word.
    OneKey(u8),
    /// Its keys are these words.
    Keys(KeyWords),
    Other,
    Users,
}

/// Commands that change users, or what they may do; `EXEC` may run such commands.
const CHANGE_USERS: [&str; 6] = ["acl", "auth", "hello", "reset", "exec", "config"];

/// A table of commands and of the beginnings of keys.
#[derive(Debug)]
pub struct Recognizer {
    slots: Box<[Slot]>,
    /// The literal prefixes of the patterns; none when one of them has none.
    prefixes: Vec<Vec<u8>>,
    /// Which bytes they begin with.
    first_bytes: [bool; 256],
    any_key: bool,
}

impl Recognizer {
    /// For these commands, and keys that match one of these patterns.
    pub fn new<'p>(commands: &Commands, patterns: impl Iterator<Item = &'p [u8]>) -> Self {
        let mut made = Recognizer {
            slots: vec![Slot { name: 0, kind: Kind::Free }; SLOTS].into(),
            prefixes: Vec::new(),
            first_bytes: [false; 256],
            any_key: false,
        };
        for (name, served) in commands.iter() {
            let kind = match served.keys {
                _ if matches!(served.way, Way::Flush | Way::Scan) => Kind::Other,
                KeyWords::Range { first, last, .. } if last == first as i64 => {
                    u8::try_from(first).map_or(Kind::Other, Kind::OneKey)
                }
                keys @ KeyWords::Range { .. } => Kind::Keys(keys),
                KeyWords::Movable => Kind::Other,
            };
            made.insert(name, kind);
        }
        CHANGE_USERS.iter().for_each(|name| made.insert(name.as_bytes(), Kind::Users));
        for pattern in patterns {
            let special = pattern.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.len());
            let prefix = &pattern[..special];
            made.any_key |= prefix.is_empty();
            prefix.first().into_iter().for_each(|first| made.first_bytes[usize::from(*first)] = true);
            made.prefixes.push(prefix.to_vec());
        }
        made
    }

    fn insert(&mut self, name: &[u8], kind: Kind) {
        let name = folded(name);
        let mut at = slot_of(name);
        while self.slots[at].kind != Kind::Free && self.slots[at].name != name {
            at = (at + 1) % SLOTS;
        }
        // Two long names with the same ends share a slot.
        let shared = self.slots[at].kind != Kind::Free && self.slots[at].kind != kind;
        self.slots[at] = Slot { name, kind: if shared { Kind::Other } else { kind } };
    }

    /// Whether the command of this name may concern a key; `count` gives the number of its words, `word` one of them.
    #[inline]
    pub fn recognize<'w>(
        &self,
        name: &[u8],
        count: impl FnOnce() -> usize,
        word: impl Fn(usize) -> Option<&'w [u8]>,
    ) -> Recognized {
        let name = folded(name);
        let mut at = slot_of(name);
        loop {
            let slot = &self.slots[at];
            match slot.kind {
                Kind::Free => return Recognized::No,
                _ if slot.name != name => at = (at + 1) % SLOTS,
                Kind::OneKey(key) => {
                    let concerns = word(usize::from(key)).is_some_and(|key| self.may_match(key));
                    return if concerns { Recognized::Perhaps } else { Recognized::No };
                }
                Kind::Keys(keys) => {
                    let concerns = |at| word(at).is_some_and(|key| self.may_match(key));
                    let concerns = keys.places(count()).is_none_or(|mut places| places.any(concerns));
                    return if concerns { Recognized::Perhaps } else { Recognized::No };
                }
                Kind::Other => return Recognized::Perhaps,
                Kind::Users => return Recognized::Users,
            }
        }
    }

    /// Whether a key may match one of the patterns.
    #[inline]
    pub fn may_match(&self, key: &[u8]) -> bool {
        self.any_key
            || key.first().is_some_and(|first| self.first_bytes[usize::from(*first)])
                && self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }
}

/// The first and the last letters of a name, in one case, and its length: letters differ by one bit, and other bytes of
/// names stay distinct. Without a loop or a copy, since every command pays for it.
#[inline]
fn folded(name: &[u8]) -> u128 {
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
            _ => match name {
                [] => (0, 0),
                [one] => (u64::from(*one), 0),
                [first, .., last] => (u64::from(*first) << 8 | u64::from(name[1]), u64::from(*last)),
            },
        },
    };
    let letters = u128::from(first) | u128::from(last) << 64;
    (letters | 0x2020_2020_2020_2020_2020_2020_2020_2020) ^ (name.len() as u128) << 120
}

#[inline]
fn slot_of(name: u128) -> usize {
    let mixed = (name as u64 ^ ((name >> 64) as u64).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 54) as usize // the upper ten bits, which depend on all others
}

#[cfg(test)]
mod tests {
    use super::super::commands::Row;
    use super::*;

    fn commands() -> Commands {
        let row = |name: &str, flag: &str, last: i64, step: i64| Row {
            name: name.into(),
            arity: -2,
            flags: vec![flag.into()],
            first: 1,
            last,
            step,
            ..Row::default()
        };
        Commands::of(
            [
                row("get", "readonly", 1, 1),
                row("hget", "readonly", 1, 1),
                row("mset", "write", -1, 2),
                row("georadiusbymember", "write", 1, 1),
                row("flushdb", "write", 0, 0),
                row("georadiusbymember_ro", "readonly", 1, 1),
            ]
            .into_iter(),
        )
    }

    fn recognize(recognizer: &Recognizer, name: &str, key: &'static str) -> Recognized {
        recognizer.recognize(name.as_bytes(), || 3, |at| (at == 1).then_some(key.as_bytes()))
    }

    #[test]
    fn a_command_is_ruled_out_by_its_name_or_by_its_one_key() {
        let recognizer = Recognizer::new(&commands(), [&b"page:*"[..], b"img[0-9]"].into_iter());
        for (name, key, found) in [
            ("GET", "page:1", Recognized::Perhaps),
            ("gEt", "img7", Recognized::Perhaps),
            ("GET", "pages", Recognized::No),
            ("GET", "", Recognized::No),
            ("hget", "other", Recognized::No),
            ("MSET", "other", Recognized::No),
            ("MSET", "page:2", Recognized::Perhaps),
            ("PING", "page:1", Recognized::No),
            ("GETX", "page:1", Recognized::No),
            ("", "page:1", Recognized::No),
            ("georadiusbymember_ro", "page:1", Recognized::Perhaps),
            ("auth", "x", Recognized::Users),
        ] {
            assert_eq!(recognize(&recognizer, name, key), found, "{name} {key}");
        }
    }

    #[test]
    fn a_pattern_without_a_literal_prefix_may_match_any_key() {
        let recognizer = Recognizer::new(&commands(), [&b"page:*"[..], b"*:profile"].into_iter());
        assert_eq!(recognize(&recognizer, "get", "x"), Recognized::Perhaps);
        assert_eq!(recognize(&recognizer, "get", ""), Recognized::Perhaps);
    }
}
