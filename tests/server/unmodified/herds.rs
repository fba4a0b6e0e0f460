//! Herds of callers that only know `GET` and `SET`; late fills; lifetimes and statistics by rule.

use std::time::Duration;

use crate::support::lease::crowd;
use crate::support::{Conn, Server, args, assert_within, wait_until};

/// A server whose keys `k…` have this rule.
fn ruled(rule: &str) -> Server {
    let s = Server::with("maxclients 8000\nsmartcache.max-waiters 8000\nsmartcache.sweep-effort 0");
    s.ok(&format!("SMARTCACHE.RULE SET r MATCH k* NATIVE {rule}"));
    s
}

/// Stores `v` under `k` and lets its freshness end.
fn stale(s: &Server) {
    s.ok("SET k v EX 1000");
    s.ok("SMARTCACHE.STALE k");
}

fn rule_stat(s: &Server, field: &str) -> i64 {
    s.ok("SMARTCACHE.STATS RULE r").field(field).int()
}

#[test]
fn one_caller_is_told_nil_and_loads_and_all_others_get_the_stale_value() {
    let s = ruled("SWR 1h");
    stale(&s);
    let mut callers: Vec<Conn> = (0..crowd(1_000)).map(|_| s.connect()).collect();
    for conn in &mut callers {
        conn.send(args!["GET", "k"]).expect("it is sent");
    }
    let answers: Vec<_> = callers.iter_mut().map(|conn| conn.receive().expect("an answer")).collect();
    let mut loader = None;
    for (at, answer) in answers.iter().enumerate() {
        match answer.is_nil() {
            true => assert!(loader.replace(at).is_none(), "a second one is told nil"),
            false => assert_eq!(answer.text(), "v"),
        }
    }
    let loader = loader.expect("one is told nil");
    assert_eq!(s.info("blocked_clients"), "0", "nobody waits");
    assert_eq!(callers[loader].call("SET k w EX 1000").text(), "OK");
    callers.iter_mut().for_each(|conn| assert_eq!(conn.call("GET k").text(), "w"));
    assert_eq!(rule_stat(&s, "misses_expired") + rule_stat(&s, "misses_invalidated"), 1);
    assert_eq!(rule_stat(&s, "stale_hits"), callers.len() as i64 - 1);
    s.assert_quiet();
}

#[test]
fn who_asks_again_while_it_loads_is_told_nil_again() {
    let s = ruled("SWR 1h");
    stale(&s);
    let (mut one, mut other) = (s.connect(), s.connect());
    assert!(one.call("GET k").is_nil());
    assert!(one.call("GET k").is_nil());
    assert_eq!(other.call("GET k").text(), "v");
    assert_eq!(other.call("MGET k").texts(), ["v"], "somebody loads");
    // Its connection ends: the next one loads.
    drop(one);
    wait_until("the lease has ended", || s.stat("leases") == 0 || other.call("GET k").is_nil());
}

#[test]
fn mget_grants_nothing_and_serves_stale_values_only_while_somebody_loads() {
    let s = ruled("SWR 1h");
    stale(&s);
    assert!(s.call("MGET k").array()[0].is_nil());
    let mut loader = s.connect();
    assert!(loader.call("GET k").is_nil(), "MGET has not taken the lease");
    assert_eq!(s.call("MGET k").texts(), ["v"]);
}

#[test]
fn without_a_window_or_wait_everybody_is_told_nil() {
    let s = ruled("");
    let mut callers: Vec<Conn> = (0..20).map(|_| s.connect()).collect();
    callers.iter_mut().for_each(|conn| assert!(conn.call("GET k").is_nil()));
    // As on any server the last SET wins.
    for (at, conn) in callers.iter_mut().enumerate() {
        assert_eq!(conn.call_args(args!["SET", "k", at.to_string()]).text(), "OK");
    }
    assert_eq!(s.call("GET k").text(), "19");
}

#[test]
fn with_wait_one_caller_loads_a_cold_key_and_the_others_wait_for_it() {
    let s = ruled("WAIT 50");
    let mut loader = s.connect();
    assert!(loader.call("GET k").is_nil());
    let mut callers: Vec<Conn> = (0..crowd(1_000)).map(|_| s.connect()).collect();
    for conn in &mut callers {
        conn.send(args!["GET", "k"]).expect("it is sent");
    }
    s.wait_for_waiters(callers.len() as i64);
    assert_eq!(loader.call("SET k v EX 1000").text(), "OK");
    callers.iter_mut().for_each(|conn| assert_eq!(conn.receive().expect("an answer").text(), "v"));
    s.assert_quiet();
}

#[test]
fn who_waits_in_vain_is_told_nil() {
    let s = ruled("WAIT 50ms");
    let mut loader = s.connect();
    assert!(loader.call("GET k").is_nil());
    assert!(s.call("GET k").is_nil(), "nobody has stored anything");
    assert_eq!(s.call("SET k v").text(), "OK");
}

#[test]
fn when_the_loader_leaves_the_next_waiter_loads() {
    let s = ruled("WAIT 50");
    let mut loader = s.connect();
    assert!(loader.call("GET k").is_nil());
    let mut waiters: Vec<Conn> = (0..2).map(|_| s.connect()).collect();
    for (at, conn) in waiters.iter_mut().enumerate() {
        conn.send(args!["GET", "k"]).expect("it is sent");
        s.wait_for_waiters(at as i64 + 1);
    }
    drop(loader);
    assert!(waiters[0].receive().expect("an answer").is_nil());
    assert_eq!(waiters[0].call("SET k v").text(), "OK");
    assert_eq!(waiters[1].receive().expect("an answer").text(), "v");
}

#[test]
fn nobody_waits_in_a_transaction_or_a_script() {
    let s = ruled("WAIT 50");
    let mut loader = s.connect();
    assert!(loader.call("GET k").is_nil());
    let mut conn = s.connect();
    for line in ["MULTI", "GET k"] {
        conn.call(line);
    }
    assert!(conn.call("EXEC").array()[0].is_nil());
    assert!(conn.call("EVAL \"return redis.call('GET', 'k')\" 0").is_nil());
    assert_eq!(s.info("blocked_clients"), "0");
}

#[test]
fn a_client_that_holds_another_lease_does_not_wait() {
    let s = ruled("WAIT 50");
    let (mut one, mut two) = (s.connect(), s.connect());
    assert!(one.call("GET k1").is_nil());
    assert!(two.call("GET k2").is_nil());
    assert!(one.call("GET k2").is_nil(), "else both would wait for each other");
    assert!(two.call("GET k1").is_nil());
}

// ---- late fills ----

#[test]
fn what_somebody_else_ended_meanwhile_is_not_filled() {
    for (end, answer) in [
        ("DEL k", "(nil)"),
        ("UNLINK k", "(nil)"),
        ("GETDEL k", "(nil)"),
        ("SMARTCACHE.DEL k", "(nil)"),
        ("SMARTCACHE.INVALIDATE TAGS 1 t", "(nil)"),
        ("SMARTCACHE.INVALIDATE PREFIXES 1 k", "(nil)"),
        ("SMARTCACHE.INVALIDATE ALL", "(nil)"),
        ("FLUSHDB", "(nil)"),
        ("FLUSHALL", "(nil)"),
        // As on any server the last SET wins.
        ("SET k other", "\"late\""),
        ("GET k", "\"late\""),
        ("EXISTS k", "\"late\""),
    ] {
        for fill in ["SET k late", "SET k late EX 1000", "SETEX k 1000 late", "PSETEX k 1000000 late", "MSET k late"] {
            let s = ruled("TAG t BETA 1");
            let mut loader = s.connect();
            assert!(loader.call("GET k").is_nil());
            let ended = s.call(end);
            assert!(!ended.is_error(), "{end}");
            assert_eq!(loader.call(fill).text(), "OK", "{end}, {fill}");
            assert_eq!(s.call("GET k").to_string(), answer, "{end}, {fill}");
        }
    }
}

#[test]
fn what_the_connection_ends_itself_does_not_count_against_it() {
    for end in ["DEL k", "UNLINK k", "FLUSHDB", "FLUSHALL", "GETDEL k", "EXPIRE k 0", "SMARTCACHE.DEL k"] {
        let s = ruled("TAG t");
        s.ok("SMARTCACHE.ABSENT k");
        let mut conn = s.connect();
        assert!(conn.call("GET k").is_nil());
        assert!(!conn.call(end).is_error());
        assert_eq!(conn.call("SET k v").text(), "OK");
        assert_eq!(conn.call("GET k").text(), "v", "{end}");
    }
}

#[test]
fn a_store_over_another_connection_is_a_write_through() {
    let s = ruled("");
    let (mut loader, mut writer) = (s.connect(), s.connect());
    assert!(loader.call("GET k").is_nil());
    s.ok("DEL k");
    assert_eq!(writer.call("SET k v").text(), "OK");
    assert_eq!(s.call("GET k").text(), "v");
}

#[test]
fn a_lock_is_no_fill() {
    for take in ["SET k token NX", "SET k token NX PX 30000", "SETNX k token"] {
        let s = ruled("SWR 1h");
        let mut conn = s.connect();
        assert!(conn.call("GET k").is_nil());
        s.ok("DEL k");
        assert!(!conn.call(take).is_nil());
        assert_eq!(s.call("GET k").text(), "token", "{take}");
    }
}

// ---- lifetimes ----

#[test]
fn what_the_client_asks_for_is_only_ever_made_shorter() {
    let s = ruled("TTL 10m JITTER 20% MAX 1h");
    let mut least = i64::MAX;
    for n in 0..40 {
        s.ok(&format!("SET k{n} v EX 1000"));
        let left = s.pttl(&format!("k{n}"));
        assert_within!(left, 500_000..=1_000_000);
        least = least.min(left);
    }
    assert!(least < 990_000, "no jitter: {least}");
    s.ok("SET k v EX 100000");
    assert_within!(s.pttl("k"), 1_800_000..=3_600_000);
    s.ok("EXPIRE k 200000");
    assert_within!(s.pttl("k"), 1_800_000..=3_600_000);
}

#[test]
fn a_key_without_expiry_gets_that_of_its_rule() {
    let s = ruled("TTL 1000");
    for line in ["SET k v", "SETNX k v", "MSET k v", "MSETNX k v", "GETSET k v", "INCR k", "APPEND k v", "SETBIT k 1 1"]
    {
        s.ok("DEL k");
        s.ok(line);
        assert_within!(s.pttl("k"), 600_000..=1_000_000);
    }
    s.ok("SET k v");
    s.ok("PERSIST k");
    assert_eq!(s.pttl("k"), -1, "who says PERSIST means it");
    let s = Server::with("smartcache.default-ttl 1000");
    s.ok("SMARTCACHE.RULE SET r MATCH k* NATIVE");
    s.ok("SET k v");
    s.ok("INCR k2");
    assert_eq!((s.pttl("k"), s.pttl("k2")), (-1, -1), "the server's default is not for locks and counters");
}

#[test]
fn a_counter_keeps_its_expiry() {
    let s = ruled("TTL 1000");
    s.ok("SET k 1 EX 100");
    for _ in 0..3 {
        s.ok("INCR k");
    }
    assert_within!(s.pttl("k"), 40_000..=100_000);
    let s = ruled("TTL 1000 SLIDING");
    s.ok("SET k 1 EX 100");
    s.ok("INCR k");
    assert_within!(s.pttl("k"), 600_000..=1_000_000);
}

// ---- statistics ----

#[test]
fn requests_are_counted_by_rule_with_the_reason_of_each_miss() {
    let s = ruled("SWR 0 TAG t");
    s.ok("GET k"); // cold
    s.ok("SET k v");
    s.ok("GET k"); // hit
    s.ok("MGET k k2"); // hit, cold
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    s.ok("GET k"); // invalidated
    s.ok("SET k v PX 1");
    wait_until("it expires", || s.call("EXISTS k").int() == 0);
    s.ok("GET k"); // expired
    for (field, count) in [
        ("requests", 6),
        ("hits", 2),
        ("misses", 4),
        ("misses_cold", 2),
        ("misses_invalidated", 1),
        ("misses_expired", 1),
    ] {
        assert_eq!(rule_stat(&s, field), count, "{field}\n{}", s.ok("SMARTCACHE.STATS RULE r"));
    }
}

#[test]
fn the_time_from_nil_to_set_is_the_time_of_the_load() {
    let s = ruled("");
    let mut conn = s.connect();
    assert!(conn.call("GET k").is_nil());
    std::thread::sleep(Duration::from_millis(30)); // the load
    assert_eq!(conn.call("SET k v").text(), "OK");
    let took = rule_stat(&s, "origin_ms");
    assert_within!(took, 25..=30_000);
    s.ok("GET k");
    assert_eq!(rule_stat(&s, "origin_ms_saved"), took);
}

#[test]
fn a_bare_rule_never_refreshes_early() {
    let s = Server::with("smartcache.beta 1000000");
    s.ok("SMARTCACHE.RULE SET r MATCH k* NATIVE");
    let mut conn = s.connect();
    assert!(conn.call("GET k").is_nil());
    std::thread::sleep(Duration::from_millis(5)); // the load
    conn.call("SET k v EX 1000");
    (0..200).for_each(|_| assert_eq!(s.call("GET k").text(), "v"));
}
