//! Which of the server's own commands are served under NATIVE rules, and how: made from the server's own table
//! (`COMMAND`), so that a later server's commands are in it by themselves.

use std::collections::HashMap;

/// How a command is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `GET`.
    Get,
    /// `MGET`.
    Mget,
    /// Any other command that only reads: on plain strings that stand in for the entries while it runs.
    Read,
    /// A command that writes: likewise, and what it leaves under a key becomes an entry.
    Write,
    /// The same for one that needs memory: refused with `OOM` over `maxmemory`.
    Store,
    /// `SCAN` with a `TYPE`.
    Scan,
    /// `FLUSHDB`, `FLUSHALL`: runs as it is; the loads of the connection itself are not held against it.
    Flush,
}

/// Which words of a command are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWords {
    /// Those from `first` to `last`, counted from the end if negative, `step` apart.
    Range {
        /// The index of the first.
        first: usize,
        /// The index of the last.
        last: i64,
        /// Their distance.
        step: usize,
    },
    /// The server has to be asked.
    Movable,
}

/// One row of the server's table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The name, in any case.
    pub name: Vec<u8>,
    /// The number of words; negative: at least that many.
    pub arity: i64,
    /// Its flags, such as `write`.
    pub flags: Vec<Vec<u8>>,
    /// The index of the first key; 0 for none.
    pub first: i64,
    /// The index of the last key.
    pub last: i64,
    /// The distance of keys.
    pub step: i64,
    /// Its ACL categories, such as `@string`.
    pub categories: Vec<Vec<u8>>,
    /// Whether it has subcommands.
    pub has_subcommands: bool,
}

/// A command that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// How.
    pub way: Way,
    /// The number of words; negative: at least that many.
    pub arity: i64,
    /// Its keys.
    pub keys: KeyWords,
    /// Whether all that it leaves under its keys are strings, if they held nothing else before.
    pub makes_strings: bool,
}

/// Commands that stay as they are: they see the entry itself, or carry it elsewhere as it is, or their keys are those
/// of scripts, whose own commands are served one by one.
const UNTOUCHED: [&str; 11] = [
    "dump",
    "restore",
    "restore-asking",
    "migrate",
    "watch",
    "eval",
    "evalsha",
    "eval_ro",
    "evalsha_ro",
    "fcall",
    "fcall_ro",
];

/// The table of the commands that are served.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    served: HashMap<Box<[u8]>, Served>,
}

impl Commands {
    /// The table of a server with these commands.
    pub fn of(rows: impl Iterator<Item = Row>) -> Self {
        let served = rows.filter_map(|row| {
            let served = Served::of(&row)?;
            Some((row.name.to_ascii_lowercase().into(), served))
        });
        Commands { served: served.collect() }
    }

    /// How the command of this name is served, if it is.
    pub fn get(&self, name: &[u8]) -> Option<Served> {
        let mut lower = [0; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.served.get(&*lower).copied()
    }

    /// Each name, and how it is served.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Served)> {
        self.served.iter().map(|(name, served)| (&**name, *served))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.served.is_empty()
    }
}

impl Served {
    fn of(row: &Row) -> Option<Self> {
        let has = |flag: &str| row.flags.iter().any(|own| own.eq_ignore_ascii_case(flag.as_bytes()));
        let is_in = |category: &str| row.categories.iter().any(|own| own.eq_ignore_ascii_case(category.as_bytes()));
        let name = row.name.to_ascii_lowercase();
        let is = |other: &str| name == other.as_bytes();
        let (reads, writes) = (has("readonly"), has("write"));
        let way = if is("scan") {
            Way::Scan
        } else if is("flushdb") || is("flushall") {
            Way::Flush
        } else if row.first == 0 && !has("movablekeys")
            || !(reads || writes)
            || row.has_subcommands
            || has("blocking")
            || has("module")
            || is_in("@pubsub")
            || UNTOUCHED.iter().any(|other| is(other))
        {
            return None;
        } else if is("get") {
            Way::Get
        } else if is("mget") {
            Way::Mget
        } else if reads {
            Way::Read
        } else if has("denyoom") {
            Way::Store
        } else {
            Way::Write
        };
        let keys = match (usize::try_from(row.first), usize::try_from(row.step)) {
            (Ok(first), Ok(step)) if first > 0 && step > 0 && !has("movablekeys") => {
                KeyWords::Range { first, last: row.last, step }
            }
            _ => KeyWords::Movable,
        };
        let makes_strings = ["@string", "@bitmap", "@hyperloglog", "@keyspace"].iter().any(|of| is_in(of));
        Some(Served { way, arity: row.arity, keys, makes_strings })
    }

    /// Whether so many words, the name's included, fit its arity.
    pub fn accepts(&self, words: usize) -> bool {
        let words = words as i64;
        if self.arity >= 0 { words == self.arity } else { words >= -self.arity }
    }
}

impl KeyWords {
    /// The indexes of the keys among so many words; `None` where the server has to be asked.
    pub fn places(self, words: usize) -> Option<impl Iterator<Item = usize>> {
        let KeyWords::Range { first, last, step } = self else { return None };
        let last = if last < 0 { words as i64 + last } else { last.min(words as i64 - 1) };
        Some((first..usize::try_from(last + 1).unwrap_or(0)).step_by(step))
    }
}
