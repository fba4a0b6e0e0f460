//! `SMARTCACHE.INSPECT key`

use crate::support::{Server, args, assert_within, wait_until};

const FIELDS: [&str; 16] = [
    "kind",
    "state",
    "codec",
    "dictionary",
    "raw_bytes",
    "stored_bytes",
    "memory_bytes",
    "age_ms",
    "fresh_ms",
    "swr_ms",
    "sie_ms",
    "load_ms",
    "rule",
    "tags",
    "lease",
    "waiters",
];

#[test]
fn it_shows_everything_about_a_value() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(100);
    s.ok("SMARTCACHE.RULE SET r MATCH k*");
    s.call_args(args!["SMARTCACHE.SET", "k", value, "TTL", "100", "SWR", "20", "SIE", "30", "TAGS", "1", "t"]);
    let map = s.call("SMARTCACHE.INSPECT k");
    assert_eq!(map.pairs().iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), FIELDS);
    assert_eq!(map.field("kind").text(), "value");
    assert_eq!(map.field("state").text(), "fresh");
    assert_eq!(map.field("codec").text(), "zstd");
    assert_eq!(map.field("raw_bytes").int(), value.len() as i64);
    let stored = map.field("stored_bytes").int();
    assert_within!(stored, 1..=500);
    assert_within!(map.field("memory_bytes").int(), stored + 1..=stored + 1_000);
    assert_within!(map.field("age_ms").int(), 0..=30_000);
    assert_within!(map.field("fresh_ms").int(), 70_000..=100_000);
    assert_eq!(map.field("swr_ms").int(), 20_000);
    assert_eq!(map.field("sie_ms").int(), 30_000);
    assert_eq!(map.field("rule").text(), "r");
    assert_eq!(map.field("tags").texts(), ["t"]);
    assert_eq!(map.field("lease").text(), "none");
    assert_eq!(map.field("waiters").int(), 0);
}

#[test]
fn a_missing_key_is_nil() {
    assert!(Server::start().call("SMARTCACHE.INSPECT nothing").is_nil());
}

#[test]
fn every_kind_and_state_has_its_name() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET fresh v");
    s.ok("SMARTCACHE.SET stale v SWR 100");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("SET plain v");
    for (key, kind, state) in [
        ("fresh", "value", "fresh"),
        ("stale", "value", "stale"),
        ("absent", "absent", "fresh"),
        ("plain", "string", "fresh"),
    ] {
        assert_eq!(s.inspect(key, "kind").text(), kind);
        assert_eq!(s.inspect(key, "state").text(), state);
    }
    assert_eq!(s.fresh_ms("plain"), -1);
    assert_eq!(s.inspect("plain", "raw_bytes").int(), 1);
    s.ok("PEXPIRE plain 100000");
    assert_within!(s.fresh_ms("plain"), 70_000..=100_000);
}

#[test]
fn an_entry_past_its_ttl_is_shown_as_stale() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PX 1 SIE 100");
    wait_until("it turns stale", || s.state("k") == "stale");
    assert_eq!(s.fresh_ms("k"), 0);
}

#[test]
fn memory_is_what_memory_usage_says() {
    // Not in the reference; the two should differ only by the key and the server's own structures.
    let s = Server::start();
    s.call_args(args!["SMARTCACHE.SET", "k", "v".repeat(10_000), "CODEC", "none"]);
    let usage = s.ok("MEMORY USAGE k").int();
    assert_within!(s.inspect("k", "memory_bytes").int(), 10_000..=usage);
}

#[test]
fn it_counts_no_hit_and_touches_nothing() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let digest = s.digest();
    s.ok("SMARTCACHE.INSPECT k");
    s.ok("SMARTCACHE.INSPECT nothing");
    assert_eq!(s.stat("requests"), 0);
    assert_eq!(s.digest(), digest);
}

#[test]
fn a_key_of_another_type_is_refused() {
    let s = Server::start();
    s.ok("LPUSH k a");
    assert!(s.call("SMARTCACHE.INSPECT k").error().starts_with("WRONGTYPE"));
}
