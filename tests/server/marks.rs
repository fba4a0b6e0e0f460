//! What marks of invalidations cost: memory, and what one user can do to others with them.

use crate::support::{Conn, Reply, Server, args, skip, wait_until};

/// A user that may write the keys of one application, and invalidate.
fn login(s: &Server) -> Conn {
    s.ok("ACL SETUSER eve reset on nopass ~app:* ~smartcache:tag:app:* +smartcache.invalidate +smartcache.set");
    let mut conn = s.connect();
    assert_eq!(conn.call("AUTH eve x").text(), "OK");
    conn
}

/// `INVALIDATE` of so many names from `first` on, with words behind them.
fn invalidate(conn: &mut Conn, kind: &str, names: std::ops::Range<usize>, stem: &str, words: &[&str]) -> Reply {
    let head = ["SMARTCACHE.INVALIDATE".to_owned(), kind.to_owned(), names.len().to_string()];
    let all = head.into_iter().chain(names.map(|n| format!("{stem}{n}")));
    let all: Vec<String> = all.chain(words.iter().map(|word| (*word).to_owned())).collect();
    conn.call_args(&all.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// The reply to a fill of a new load.
fn fill(conn: &mut Conn, key: &str) -> String {
    fill_with(conn, key, "")
}

fn fill_with(conn: &mut Conn, key: &str, words: &str) -> String {
    let got = conn.getlock(key);
    conn.call(format!("SMARTCACHE.SET {key} v TOKEN {} {words}", got.token()).trim_end()).text()
}

#[test]
fn a_user_with_rights_on_some_keys_ends_and_guards_no_others() {
    let mut s = Server::with("appendonly yes\nsmartcache.sweep-effort 0");
    s.ok("SMARTCACHE.MSET 2 app:old v other:old v");
    let mut eve = login(&s);
    if invalidate(&mut eve, "PREFIXES", 0..1, "app:", &[]).is_error() {
        skip!(s, "the server cannot check a permission on a prefix (Redis 8.0, Valkey 9.1 and later can)");
    }
    for first in (0..110_000).step_by(1_000) {
        let words: &[&str] = if first < 2_000 { &["GUARD", "1d"] } else { &[] };
        let reply = invalidate(&mut eve, "PREFIXES", first..first + 1_000, "app:", words);
        assert_eq!(reply.int(), 0, "{reply}");
    }
    assert!(s.stat("prefixes_invalidated") <= 51_000);
    assert!(invalidate(&mut eve, "PREFIXES", 0..1, "other:", &[]).error().starts_with("NOPERM"));
    for round in 0..3 {
        let mut admin = s.connect();
        if round == 0 {
            assert_eq!(s.call("SMARTCACHE.GET other:old").text(), "v", "what eve may not write is alive");
            assert_eq!(fill(&mut admin, "app:1"), "STALE", "her own keys are guarded");
        }
        assert_eq!(fill(&mut admin, &format!("other:{round}")), "OK", "nobody else's are");
        match round {
            0 => s.restart(),
            1 => _ = s.ok("FLUSHALL"),
            _ => assert_eq!(fill(&mut admin, "app:1"), "OK", "a flush takes guards back"),
        }
    }
}

#[test]
fn invalidating_a_million_tags_that_no_entry_carries_costs_nothing() {
    let s = Server::with("maxmemory-policy allkeys-lru");
    let mut conn = s.connect();
    for n in 0..2_000 {
        conn.call(&format!("SMARTCACHE.SET k{n} v TAGS 1 t{n}"));
    }
    invalidate(&mut conn, "TAGS", 0..1, "first", &[]); // the table
    let before = s.info_number("used_memory");
    s.ok(&format!("CONFIG SET maxmemory {}", before + 2_000_000));
    for first in (0..1_000_000).step_by(10_000) {
        assert_eq!(invalidate(&mut conn, "TAGS", first..first + 10_000, "row:", &[]).int(), 0);
    }
    assert_eq!((s.info_number("evicted_keys"), s.ok("DBSIZE").int(), s.stat("tags")), (0, 2_000, 2_000));
    assert!(s.info_number("used_memory") < before + 2_000_000);
    assert_eq!(fill(&mut conn, "new"), "OK");
}

#[test]
fn guards_of_tags_and_long_prefixes_keep_within_index_memory_and_a_flush_frees_them() {
    let s = Server::with("maxmemory 60mb\nmaxmemory-policy noeviction\nsmartcache.sweep-effort 0");
    let mut conn = s.connect();
    let before = s.info_number("used_memory");
    let refused = (0..100)
        .filter(|n| invalidate(&mut conn, "TAGS", n * 10_000..(n + 1) * 10_000, "row:", &["GUARD", "1d"]).is_error());
    assert!(refused.count() > 90);
    let long = "x".repeat(20_000);
    for n in 0..4_000 {
        let name = format!("app:{n}{long}");
        let reply = conn.call_args(args!["SMARTCACHE.INVALIDATE", "PREFIXES", "1", name]);
        assert!(!reply.is_error() || reply.error().contains("smartcache.index-memory"), "{reply}");
    }
    assert!(s.info_number("used_memory") < before + 9_000_000, "{} bytes", s.info_number("used_memory") - before);
    assert!(s.stat("marks_bytes") <= s.stat("marks_limit_bytes"));
    assert_eq!(s.stat("marks_limit_bytes"), 6 << 20);
    assert_eq!(s.call("SMARTCACHE.SET k v TAGS 1 new").text(), "OK");
    s.ok("FLUSHALL");
    wait_until("a flush frees them", || s.stat("tags") == 0 && s.info_number("used_memory") < before + 3_000_000);
    assert_eq!(invalidate(&mut conn, "TAGS", 0..9, "row:", &["GUARD", "1d"]).int(), 0);
}

#[test]
fn a_guard_is_taken_back_on_the_primary_its_replica_and_in_its_files() {
    for (what, back) in [("TAGS 1 t", "ALL"), ("PREFIXES 1 key:", "PREFIXES 1 key"), ("ALL", "ALL")] {
        let mut s = Server::setup().tcp().conf("appendonly yes").start();
        s.ok(&format!("SMARTCACHE.INVALIDATE {what} GUARD 1d"));
        let replica = Server::replica_of(&s, "");
        let fill = |conn: &mut Conn| fill_with(conn, "key:1", "TAGS 1 t");
        assert_eq!(fill(&mut s.connect()), "STALE", "{what}");
        s.ok(&format!("SMARTCACHE.INVALIDATE {back} GUARD 0"));
        assert_eq!(s.ok("WAIT 1 10000").int(), 1);
        replica.ok("REPLICAOF NO ONE");
        assert_eq!(fill(&mut replica.connect()), "OK", "{what}, on a promoted replica");
        s.restart();
        assert_eq!(fill(&mut s.connect()), "OK", "{what}, after a restart");
    }
}

#[test]
fn on_a_small_server_the_first_loads_find_room_for_the_tables() {
    for megabytes in [10, 20] {
        let s = Server::with(&format!("maxmemory {megabytes}mb\nmaxmemory-policy allkeys-lru"));
        let (mut conn, value) = (s.connect(), vec![b'v'; 400]);
        let mut n = 0;
        while s.info_number("evicted_keys") == 0 {
            for _ in 0..100 {
                conn.call_args(args!["SMARTCACHE.SET", format!("k{n}"), value, "CODEC", "none", "TAGS", "1", "t"]);
                n += 1;
            }
        }
        let before = (s.ok("DBSIZE").int(), s.info_number("used_memory"));
        for n in 0..100 {
            assert_eq!(fill(&mut conn, &format!("load{n}")), "OK", "{megabytes} MB");
            assert_eq!(conn.call("SMARTCACHE.INVALIDATE TAGS 1 nobodys").int(), 0);
            conn.call(&format!("SMARTCACHE.DEL load{n}"));
        }
        let after = s.ok("DBSIZE").int();
        assert!(after * 100 > before.0 * 85, "{megabytes} MB: {after} of {} entries are left", before.0);
    }
}
