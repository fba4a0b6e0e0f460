//! `SMARTCACHE.PLAIN key [key …]`

use crate::support::{Server, args, assert_within};

#[test]
fn entries_become_plain_strings_with_the_same_value_and_deadline() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(100);
    s.call_args(args!["SMARTCACHE.SET", "a", value, "EX", "1000", "SWR", "1000", "TAGS", "1", "t"]);
    s.ok("SMARTCACHE.SET b v PERSIST");
    assert_eq!(s.call("SMARTCACHE.PLAIN a b").int(), 2);
    assert_eq!(s.call("GET a").text(), value);
    assert_within!(s.pttl("a"), 600_000..=1_000_000);
    assert_eq!(s.call("GET b").text(), "v");
    assert_eq!(s.pttl("b"), -1);
    assert_eq!(s.call("TYPE a").text(), "string");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    assert_eq!(s.call("GET a").text(), value, "it has no tags any more");
}

#[test]
fn what_is_not_fresh_is_deleted_and_plain_strings_stay() {
    let s = Server::with("smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.SET stale v SWR 1000");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.SET dead v TAGS 1 t");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("SET plain v EX 1000");
    assert_eq!(s.call("SMARTCACHE.PLAIN stale dead absent plain nothing").int(), 0);
    assert_eq!(s.call("DBSIZE").int(), 1);
    assert_eq!(s.call("GET plain").text(), "v");
    assert_within!(s.pttl("plain"), 600_000..=1_000_000);
}

#[test]
fn with_a_key_of_another_type_nothing_changes() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("RPUSH list a");
    let before = s.digest();
    assert!(s.call("SMARTCACHE.PLAIN k list").error().starts_with("WRONGTYPE"));
    assert_eq!(s.digest(), before);
}

#[test]
fn a_restart_without_the_module_reads_what_was_made_plain() {
    let with = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    with.ok("SMARTCACHE.SET k v EX 1000");
    assert_eq!(with.call("SMARTCACHE.PLAIN k").int(), 1);
    let effects = crate::aof::commands(&with);
    let last = effects.iter().rev().find(|words| words.iter().any(|word| word == b"k")).expect("it is in the file");
    assert!(!last[0].to_ascii_uppercase().starts_with(b"SMARTCACHE"), "{last:?}");
}
