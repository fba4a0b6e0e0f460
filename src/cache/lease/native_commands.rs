//! The server's own commands that delete or write a key: what `guard-native` watches for.
//!
//! They leave no trace that a fill could be checked against: a `DEL` of a key that is not there changes nothing at all.
//! So while loads may be in flight the host looks at every command before it runs, and takes the loads of the keys that
//! these delete or write for untrusted. Nothing comes in between, so that is the right moment; except in `MULTI`, where
//! commands are seen when they are queued: their keys count again at `EXEC`.
//!
//! What a command filter cannot know counts for the worse: the selected database (the key is distrusted in all),
//! whether a `SETNX` or `RENAMENX` did anything, and the commands of a transaction whose `MULTI` was not seen (all
//! loads in flight are distrusted then).

use std::collections::HashMap;

use crate::cache::clock::Now;
use crate::cache::units;

/// What a command does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is gone afterwards.
    Deletes,
    /// It holds something else afterwards.
    Writes,
}

/// Which words of a command are keys, and what is done to them.
#[derive(Clone, Copy)]
pub enum Keys {
    /// All words.
    All(Touch),
    /// The first word.
    First(Touch),
    /// Every other word, from the first on.
    Pairs,
    /// The first is deleted, the second written.
    Renames,
    /// The second word.
    Second,
    /// The first is deleted, and written in another database.
    Moves,
    /// The first, when the second is not more than 0.
    Expires,
    /// The first, when the second, a time of this many milliseconds each, is past.
    ExpiresAt(u64),
    /// The word behind `STORE`.
    BehindStore,
}

/// The commands, by length and then by name.
const COMMANDS: &[(&str, Keys)] = &[
    ("DEL", Keys::All(Touch::Deletes)),
    ("SET", Keys::First(Touch::Writes)),
    ("COPY", Keys::Second),
    ("DECR", Keys::First(Touch::Writes)),
    ("INCR", Keys::First(Touch::Writes)),
    ("MOVE", Keys::Moves),
    ("MSET", Keys::Pairs),
    ("SORT", Keys::BehindStore),
    ("BITOP", Keys::Second),
    ("SETEX", Keys::First(Touch::Writes)),
    ("SETNX", Keys::First(Touch::Writes)),
    ("APPEND", Keys::First(Touch::Writes)),
    ("DECRBY", Keys::First(Touch::Writes)),
    ("EXPIRE", Keys::Expires),
    ("GETDEL", Keys::First(Touch::Deletes)),
    ("GETSET", Keys::First(Touch::Writes)),
    ("INCRBY", Keys::First(Touch::Writes)),
    ("MSETNX", Keys::Pairs),
    ("PSETEX", Keys::First(Touch::Writes)),
    ("RENAME", Keys::Renames),
    ("SETBIT", Keys::First(Touch::Writes)),
    ("UNLINK", Keys::All(Touch::Deletes)),
    ("PEXPIRE", Keys::Expires),
    ("RESTORE", Keys::First(Touch::Writes)),
    ("EXPIREAT", Keys::ExpiresAt(1_000)),
    ("RENAMENX", Keys::Renames),
    ("SETRANGE", Keys::First(Touch::Writes)),
    ("PEXPIREAT", Keys::ExpiresAt(1)),
    ("INCRBYFLOAT", Keys::First(Touch::Writes)),
    ("RESTORE-ASKING", Keys::First(Touch::Writes)),
];

/// The commands that begin and end transactions.
const TRANSACTIONS: &[&str] = &["MULTI", "EXEC", "DISCARD", "RESET"];

/// The longest of these names.
const LONGEST: usize = 14;

/// For each length the first and the second letters of the names to watch, which rule out most commands.
const LETTERS: [(u32, u32); LONGEST + 1] = {
    let mut letters = [(0, 0); LONGEST + 1];
    let mut at = 0;
    while at < COMMANDS.len() + TRANSACTIONS.len() {
        let name = if at < COMMANDS.len() { COMMANDS[at].0 } else { TRANSACTIONS[at - COMMANDS.len()] }.as_bytes();
        letters[name.len()].0 |= 1 << (name[0] & 31);
        letters[name.len()].1 |= 1 << (name[1] & 31);
        at += 1;
    }
    letters
};

/// Whether a command of this name may have to be looked at. Asked for every command of the server.
pub fn is_watched(name: &[u8]) -> bool {
    match (name, LETTERS.get(name.len())) {
        ([first, second, ..], Some(letters)) => {
            letters.0 & 1 << (first & 31) != 0 && letters.1 & 1 << (second & 31) != 0
        }
        _ => false,
    }
}

/// The bytes of keys that are kept while transactions are open.
const MOST_QUEUED: usize = 1 << 20;
/// For how long an open transaction is kept where the server does not identify clients, in milliseconds: that of a
/// client that has disconnected would never end.
const FORGOTTEN_MS: u64 = 60_000;

/// The sender of a command, as far as the server identifies it to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Not identified (servers before 7.2).
    Unknown,
    /// This connection, and whether it is inside `MULTI`.
    Client(u64, bool),
}

/// Open transactions, by connection; all together under 0 where the server does not identify clients.
#[derive(Debug, Default)]
pub struct Transactions {
    open: HashMap<u64, Transaction>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Transaction {
    /// How many are open: more than one only where the server does not identify clients.
    begun: u64,
    last_ms: u64,
    queued: HashMap<Box<[u8]>, Touch>,
}

impl Transactions {
    /// `MULTI`.
    pub fn begin(&mut self, sender: Sender, now: Now) {
        let id = match sender {
            Sender::Unknown => 0,
            Sender::Client(_, true) => return, // an error: MULTI calls can not be nested
            Sender::Client(id, false) => id,
        };
        if id == 0 && self.open.get(&0).is_some_and(|open| now.mono_ms() > open.last_ms + FORGOTTEN_MS) {
            self.forget(0);
        }
        if id != 0 {
            self.forget(id);
        }
        let open = self.open.entry(id).or_default();
        open.begun += 1;
        open.last_ms = now.mono_ms();
        self.bytes += size_of::<Transaction>();
        self.bound();
    }

    /// A command of a transaction that touches a key.
    pub fn queue(&mut self, id: u64, key: &[u8], touch: Touch) {
        let Some(open) = self.open.get_mut(&id) else { return };
        // Deleted and written: the later one would count, but either way the load is not fresh.
        if open.queued.insert(key.into(), touch).is_none() {
            self.bytes += key.len() + size_of::<Box<[u8]>>();
        }
        self.bound();
    }

    /// `DISCARD`.
    pub fn end(&mut self, id: u64) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.begun -= 1;
        if open.begun == 0 {
            self.forget(id);
        }
    }

    /// `EXEC`: what was queued, to be given back to [`finish`](Self::finish); `None` when its beginning was not seen.
    pub fn take_queued(&mut self, id: u64) -> Option<HashMap<Box<[u8]>, Touch>> {
        self.open.get_mut(&id).map(|transaction| std::mem::take(&mut transaction.queued))
    }

    /// The transaction has been executed.
    pub fn finish(&mut self, id: u64, queued: HashMap<Box<[u8]>, Touch>) {
        if let Some(transaction) = self.open.get_mut(&id) {
            transaction.queued = queued;
        }
        self.end(id);
    }

    fn forget(&mut self, id: u64) {
        let Some(gone) = self.open.remove(&id) else { return };
        let keys: usize = gone.queued.keys().map(|key| key.len() + size_of::<Box<[u8]>>()).sum();
        self.bytes = self.bytes.saturating_sub(keys + size_of::<Transaction>());
    }

    /// Forgets all transactions when their keys take too much memory: then their `EXEC` counts as one whose `MULTI` was
    /// not seen.
    fn bound(&mut self) {
        if self.bytes > MOST_QUEUED {
            *self = Transactions::default();
        }
    }
}

impl Keys {
    /// Where the keys of a command are, by its name in any case; `None` for one that is not watched.
    pub fn of(name: &[u8]) -> Option<Self> {
        COMMANDS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, keys)| *keys)
    }

    /// Calls `touch` for each key among the words.
    pub fn each(self, words: &[&[u8]], now: Now, mut touch: impl FnMut(&[u8], Touch)) {
        let number = |at: usize| words.get(at).and_then(|word| units::parse_int(word).ok());
        let mut at = |place: usize, how| {
            if let Some(key) = words.get(place) {
                touch(key, how);
            }
        };
        match self {
            Keys::All(how) => (0..words.len()).for_each(|place| at(place, how)),
            Keys::First(how) => at(0, how),
            Keys::Pairs => (0..words.len()).step_by(2).for_each(|place| at(place, Touch::Writes)),
            Keys::Renames => {
                at(0, Touch::Deletes);
                at(1, Touch::Writes);
            }
            Keys::Second => at(1, Touch::Writes),
            Keys::Moves => at(0, Touch::Writes),
            Keys::Expires => {
                if number(1).is_some_and(|n| n <= 0) {
                    at(0, Touch::Deletes);
                }
            }
            Keys::ExpiresAt(unit_ms) => {
                let past = |n: i64| u64::try_from(n).map_or(true, |n| n.saturating_mul(unit_ms) <= now.ms());
                if number(1).is_some_and(past) {
                    at(0, Touch::Deletes);
                }
            }
            Keys::BehindStore => {
                let store = words.iter().rposition(|word| word.eq_ignore_ascii_case(b"STORE"));
                store.into_iter().for_each(|place| at(place + 1, Touch::Writes));
            }
        }
    }
}

#[cfg(test)]
mod tests;
