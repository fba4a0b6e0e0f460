//! The text of every error: clients match on it.

use std::fmt::Write;

use smartcache::cache::error::Error;
use smartcache::testing::TestNode;

use super::assert_golden;

/// Commands that are refused; `\xNN` is a byte. The node has the list `list`, a `max-value` of 10 bytes, and the
/// configured rule `here`.
const COMMANDS: &[&str] = &[
    "SMARTCACHE.GET",
    "SMARTCACHE.GET k FRESH",
    "SMARTCACHE.GET k STALE STALE",
    "SMARTCACHE.GET k ACCEPT",
    "SMARTCACHE.GET k \\x0d\\x0a\\xff",
    "SMARTCACHE.GET k aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "SMARTCACHE.GET list",
    "SMARTCACHE.SET k 12345678901",
    "SMARTCACHE.SET k v NX XX",
    "SMARTCACHE.SET k v TTL x",
    "SMARTCACHE.SET k v TTL 0",
    "SMARTCACHE.SET k v TTL 36501d",
    "SMARTCACHE.SET k v EX 0",
    "SMARTCACHE.SET k v PX x",
    "SMARTCACHE.SET k v EXAT -1",
    "SMARTCACHE.SET k v PXAT 1e3",
    "SMARTCACHE.SET k v SWR -1",
    "SMARTCACHE.SET k v CODEC brotli",
    "SMARTCACHE.SET k v TAGS 65 t",
    "SMARTCACHE.SET k v TAGS 2 t",
    "SMARTCACHE.SET k v TAGS 2  t",
    "SMARTCACHE.MSET 0 k v",
    "SMARTCACHE.MSET 2 k v",
    "SMARTCACHE.MSET 2 k v l 12345678901",
    "SMARTCACHE.ABSENT k NX",
    "SMARTCACHE.TOUCH list",
    "SMARTCACHE.DEL k list",
    "SMARTCACHE.STALE list",
    "SMARTCACHE.INSPECT list",
    "SMARTCACHE.INVALIDATE SOFT",
    "SMARTCACHE.INVALIDATE ALL ALL",
    "SMARTCACHE.INVALIDATE TAGS 2 t",
    "SMARTCACHE.INVALIDATE TAGS 10001 t",
    "SMARTCACHE.MARK 5 5 0 HARD t",
    "SMARTCACHE.EFFECTS 2 GONE k",
    "SMARTCACHE.EFFECTS 2 SUNG k",
    "SMARTCACHE.RULE SET r MATCH",
    "SMARTCACHE.RULE SET r MATCH * SPEED 5",
    "SMARTCACHE.RULE SET r/x MATCH *",
    "SMARTCACHE.RULE SET r TTL 5",
    "SMARTCACHE.RULE SET r MATCH * TTL x",
    "SMARTCACHE.RULE SET r MATCH * TTL 0",
    "SMARTCACHE.RULE SET r MATCH * SCALE 1000001",
    "SMARTCACHE.RULE SET r MATCH * JITTER 1.1",
    "SMARTCACHE.RULE SET r MATCH * JITTER x",
    "SMARTCACHE.RULE SET r MATCH * PRIORITY x",
    "SMARTCACHE.RULE SET r MATCH * FILLS 0",
    "SMARTCACHE.RULE SET r MATCH * MINSIZE x",
    "SMARTCACHE.RULE SET r MATCH * MINSIZE 3gb",
    "SMARTCACHE.RULE SET r MATCH * CODEC brotli",
    "SMARTCACHE.RULE SET r MATCH * MIN 2 MAX 1",
    "SMARTCACHE.RULE SET r MATCH a* TAG {x}",
    "SMARTCACHE.RULE SET r MATCH a* TAG {2}",
    "SMARTCACHE.RULE DEL here",
    "SMARTCACHE.RULE EXPLAIN k SWR 5",
    "SMARTCACHE.STATS RULE nosuch",
    "SMARTCACHE.STATS WINDOW 10m",
    "SMARTCACHE.STATS JSON PROMETHEUS",
    "SMARTCACHE.HOTKEYS COUNT 101",
    "SMARTCACHE.HEALTH x",
    "SMARTCACHE.HELP nosuch",
    "SMARTCACHE.STORE k \\x01 v",
    "SMARTCACHE.STORE k \\x09 v",
    "SMARTCACHE.STORE k \\x01\\x80 v",
    "SMARTCACHE.STORE k \\x01\\x00\\x00\\x09 v",
];

fn words(line: &str) -> Vec<Vec<u8>> {
    let unescape = |word: &str| {
        let mut parts = word.split("\\x");
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend(&part.as_bytes()[2..]);
        }
        bytes
    };
    line.split(' ').map(unescape).collect()
}

/// An example of each variant. (A new variant does not compile here: add an example, and to `COMMANDS` a command that
/// provokes it.)
fn variants() -> Vec<Error> {
    let all = vec![
        Error::Arity("SMARTCACHE.RULE SET"),
        Error::syntax(b"WORD"),
        Error::invalid("TTL", b"x", "what would be right"),
        Error::Count { what: "TAGS", count: 3, found: 2 },
        Error::TooLarge { bytes: 11, limit: 10 },
        Error::WrongType,
        Error::OutOfMemory,
        Error::ReadOnly,
        Error::NoPermission("write permission on all keys".into()),
        Error::Refused("a whole sentence".into()),
        Error::Internal,
    ];
    for error in &all {
        match error {
            Error::Arity(_) | Error::Syntax { .. } | Error::Invalid { .. } | Error::Count { .. } => {}
            Error::TooLarge { .. } | Error::WrongType | Error::Refused(_) | Error::Internal => {}
            Error::OutOfMemory | Error::ReadOnly | Error::NoPermission(_) => {}
        }
    }
    all
}

#[test]
fn error_texts_do_not_change() {
    let mut node = TestNode::at(1_000_000);
    node.plain_list("list");
    node.config("max-value", "10").unwrap();
    node.config("rules", r#"[{"name":"here","match":"x"}]"#).unwrap();
    let mut text = String::from("# Each kind of error\n\n");
    variants().iter().for_each(|error| writeln!(text, "{error}").unwrap());
    text += "\n# Commands, and how they are refused\n";
    for line in COMMANDS {
        let words = words(line);
        let error = node.full_refusal(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        write!(text, "\n{line}\n    {error}\n").unwrap();
    }
    assert_golden("errors.txt", &text);
}

#[test]
fn every_error_begins_with_a_code_and_is_one_line() {
    for error in variants() {
        let text = error.to_string();
        let code = text.split(' ').next().unwrap();
        assert!(["ERR", "WRONGTYPE", "OOM", "READONLY", "NOPERM"].contains(&code), "{text}");
        assert!(!text.contains(['\r', '\n']));
    }
}
