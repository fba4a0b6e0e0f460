//! A few of the server's own commands on strings, for tests of what is done around them.

use std::any::Any;

use smallvec::{SmallVec, smallvec};

use super::values::{Keys, Value};
use crate::cache::ports::NativeReply;
use crate::cache::unmodified::commands::{Commands, Row};

/// What one of them has replied.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Replied {
    Ok,
    Nil,
    Int(i64),
    Text(Vec<u8>),
    Error(String),
}

impl NativeReply for Replied {
    fn is_error(&self) -> bool {
        matches!(self, Replied::Error(_))
    }

    fn text(&self) -> Option<&[u8]> {
        if let Replied::Text(text) = self { Some(text) } else { None }
    }

    fn texts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn scanned(&self) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Which of its words are keys.
pub(super) fn keys_of(words: &[&[u8]]) -> SmallVec<[usize; 8]> {
    match words[0].to_ascii_uppercase().as_slice() {
        b"DEL" | b"EXISTS" => (1..words.len()).collect(),
        b"MSET" => (1..words.len()).step_by(2).collect(),
        b"RENAME" => smallvec![1, 2],
        b"FLUSHDB" => smallvec![],
        _ => smallvec![1],
    }
}

/// The server's table of them.
pub(super) fn table() -> Commands {
    let row = |name: &str, arity, flags: &[&str], (first, last, step), category: &str| Row {
        name: name.into(),
        arity,
        flags: flags.iter().map(|flag| flag.as_bytes().to_vec()).collect(),
        first,
        last,
        step,
        categories: vec![category.into()],
        has_subcommands: false,
    };
    let (reads, writes, stores): (&[&str], &[&str], &[&str]) = (&["readonly"], &["write"], &["write", "denyoom"]);
    Commands::of(
        [
            row("get", 2, reads, (1, 1, 1), "@string"),
            row("mget", -2, reads, (1, -1, 1), "@string"),
            row("strlen", 2, reads, (1, 1, 1), "@string"),
            row("exists", -2, reads, (1, -1, 1), "@keyspace"),
            row("pttl", 2, reads, (1, 1, 1), "@keyspace"),
            row("set", -3, stores, (1, 1, 1), "@string"),
            row("mset", -3, stores, (1, -1, 2), "@string"),
            row("incr", 2, stores, (1, 1, 1), "@string"),
            row("getdel", 2, writes, (1, 1, 1), "@string"),
            row("pexpire", -3, writes, (1, 1, 1), "@keyspace"),
            row("persist", 2, writes, (1, 1, 1), "@keyspace"),
            row("rename", 3, writes, (1, 2, 1), "@keyspace"),
            row("del", -2, writes, (1, -1, 1), "@keyspace"),
            row("flushdb", -1, writes, (0, 0, 0), "@keyspace"),
            row("blpop", -3, &["write", "blocking"], (1, -2, 1), "@list"),
            row("restore", -4, stores, (1, 1, 1), "@keyspace"),
            row("object", -2, &[], (0, 0, 0), "@keyspace"),
        ]
        .into_iter(),
    )
}

/// Runs one.
pub(super) fn run(keys: &mut Keys, now: u64, words: &[&[u8]]) -> Replied {
    let key = words.get(1).map(|key| key.to_vec()).unwrap_or_default();
    let old = keys.get(&key).and_then(|(value, at)| match value {
        Value::Text(text) => Some((text.clone(), *at)),
        _ => None,
    });
    let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|text| text.parse::<i64>().ok());
    let has = |word: &str| words.iter().skip(3).any(|other| other.eq_ignore_ascii_case(word.as_bytes()));
    match words[0].to_ascii_uppercase().as_slice() {
        b"SET" => {
            if has("NX") && old.is_some() || has("XX") && old.is_none() {
                return Replied::Nil;
            }
            let px = words.iter().position(|word| word.eq_ignore_ascii_case(b"PX"));
            let until = px.and_then(|at| number(words[at + 1])).map(|ms| now + ms as u64);
            keys.insert(key, (Value::Text(words[2].to_vec()), until));
            Replied::Ok
        }
        b"MSET" => {
            for pair in words[1..].chunks(2) {
                keys.insert(pair[0].to_vec(), (Value::Text(pair[1].to_vec()), None));
            }
            Replied::Ok
        }
        b"INCR" => {
            let (text, until) = old.unwrap_or((b"0".to_vec(), None));
            let Some(value) = number(&text) else {
                return Replied::Error("ERR value is not an integer or out of range".into());
            };
            keys.insert(key, (Value::Text((value + 1).to_string().into_bytes()), until));
            Replied::Int(value + 1)
        }
        b"PEXPIRE" => match (old, number(words[2])) {
            (Some((text, _)), Some(ms)) => {
                keys.insert(key, (Value::Text(text), Some(now + ms as u64)));
                Replied::Int(1)
            }
            _ => Replied::Int(0),
        },
        b"PERSIST" => match old {
            Some((text, Some(_))) => {
                keys.insert(key, (Value::Text(text), None));
                Replied::Int(1)
            }
            _ => Replied::Int(0),
        },
        b"GETDEL" => match old {
            Some((text, _)) => {
                keys.remove(&key);
                Replied::Text(text)
            }
            None => Replied::Nil,
        },
        b"RENAME" => match keys.remove(&key) {
            Some(value) => {
                keys.insert(words[2].to_vec(), value);
                Replied::Ok
            }
            None => Replied::Error("ERR no such key".into()),
        },
        b"FLUSHDB" => {
            keys.clear();
            Replied::Ok
        }
        b"PTTL" => Replied::Int(old.map_or(-2, |(_, at)| at.map_or(-1, |at| (at - now) as i64))),
        b"STRLEN" => Replied::Int(old.map_or(0, |(text, _)| text.len() as i64)),
        b"EXISTS" => Replied::Int(words[1..].iter().filter(|key| keys.contains_key(**key)).count() as i64),
        b"DEL" => Replied::Int(words[1..].iter().filter(|key| keys.remove(**key).is_some()).count() as i64),
        _ => Replied::Error("ERR unknown command".into()),
    }
}
