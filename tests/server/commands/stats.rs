//! `SMARTCACHE.STATS` and `INFO smartcache`

use crate::support::{Server, args, assert_within, wait_until};

/// Two hits, one stale hit, one absent hit, two misses.
pub(super) fn six_requests(s: &Server) {
    s.ok("SMARTCACHE.SET fresh v SWR 100");
    s.ok("SMARTCACHE.SET stale v SWR 100");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("SMARTCACHE.GET fresh");
    s.ok("SMARTCACHE.MGET fresh nothing");
    s.ok("SMARTCACHE.GET stale STALE");
    s.ok("SMARTCACHE.GET stale");
    s.ok("SMARTCACHE.GET absent");
}

#[test]
fn every_read_of_a_key_is_one_request() {
    let s = Server::start();
    six_requests(&s);
    let stats = s.ok("SMARTCACHE.STATS");
    for (field, count) in [("requests", 6), ("hits", 2), ("stale_hits", 1), ("absent_hits", 1), ("misses", 2)] {
        assert_eq!(stats.field(field).int(), count, "{field}");
    }
    // "The percentage answered without a load or a wait."
    let rate = stats.field("hit_rate").float();
    assert!((rate - 66.67).abs() < 0.1, "hit_rate is {rate}");
}

#[test]
fn the_kinds_of_misses_add_up() {
    let s = Server::start();
    six_requests(&s);
    s.ok("SMARTCACHE.SET short v PX 1");
    wait_until("it ends", || s.call("SMARTCACHE.GET short").is_nil());
    let stats = s.ok("SMARTCACHE.STATS");
    let kinds = ["misses_cold", "misses_expired", "misses_invalidated", "misses_evicted"];
    // Those that do not exist yet are left out.
    let pairs = stats.pairs();
    let sum: i64 = pairs.iter().filter(|(k, _)| kinds.contains(&k.as_str())).map(|(_, v)| v.int()).sum();
    assert_eq!(sum, stats.field("misses").int(), "{stats}");
}

#[test]
fn before_the_first_request_the_rate_is_zero() {
    let s = Server::start();
    assert_eq!(s.ok("SMARTCACHE.STATS").field("hit_rate").float(), 0.0);
    assert_eq!(s.stat("requests"), 0);
}

#[test]
fn hits_on_plain_strings_count_and_the_servers_own_reads_do_not() {
    let s = Server::start();
    s.ok("SET plain v");
    s.ok("GET plain");
    s.ok("SMARTCACHE.GET plain");
    assert_eq!((s.stat("requests"), s.stat("hits")), (1, 1));
}

#[test]
fn stores_are_counted() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET a v");
    s.ok("SMARTCACHE.MSET 2 b v c v");
    s.ok("SMARTCACHE.ABSENT d");
    assert_eq!((s.stat("sets"), s.stat("absents")), (3, 1));
}

#[test]
fn entries_and_bytes_follow_what_is_stored() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(100);
    for i in 0..10 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), value]);
    }
    assert_eq!(s.stat("entries"), 10);
    assert_eq!(s.stat("raw_bytes"), 10 * value.len() as i64);
    assert_eq!(s.stat("stored_bytes"), 10 * s.inspect("k0", "stored_bytes").int());
    assert_within!(s.stat("overhead_bytes"), 1..=10_000);
    let ratio = s.ok("SMARTCACHE.STATS").field("compression_ratio").float();
    assert!(ratio > 2.0, "compression_ratio is {ratio}");

    s.ok("SMARTCACHE.DEL k0 k1");
    s.ok("DEL k2");
    s.ok("SMARTCACHE.SET k3 short");
    s.ok("SET k4 plain");
    wait_until("six are left", || s.stat("entries") == 6);
    s.ok("COPY k5 copy");
    s.ok("RENAME k5 renamed");
    wait_until("seven now", || s.stat("entries") == 7);
    s.ok("FLUSHALL ASYNC");
    wait_until("all are freed", || s.stat("entries") == 0);
    assert_eq!((s.stat("raw_bytes"), s.stat("stored_bytes"), s.stat("overhead_bytes")), (0, 0, 0));
}

#[test]
fn entries_that_expire_are_no_longer_counted() {
    let s = Server::start();
    for i in 0..50 {
        s.ok(&format!("SMARTCACHE.SET k{i} v PX 30"));
    }
    wait_until("they are freed", || s.stat("entries") == 0);
}

#[test]
fn info_has_the_same_numbers() {
    let s = Server::start();
    six_requests(&s);
    let info = s.ok("INFO smartcache").text();
    // The server puts the module's name before each field.
    for line in ["smartcache_requests:6", "smartcache_hits:2", "smartcache_misses:2", "smartcache_entries:3"] {
        assert!(info.lines().any(|l| l == line), "{line} is not in\n{info}");
    }
    for (field, value) in s.ok("SMARTCACHE.STATS").pairs() {
        let line = info.lines().find_map(|l| l.strip_prefix(&format!("smartcache_{field}:")));
        let line = line.unwrap_or_else(|| panic!("{field} is not in\n{info}"));
        if !matches!(field.as_str(), "uptime_ms" | "requests_per_sec") {
            let value = match &value {
                crate::support::Reply::Int(n) => n.to_string(),
                other => other.text(),
            };
            assert_eq!(line, value, "{field}");
        }
    }
}

#[test]
fn errors_are_counted() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    assert!(s.call("SMARTCACHE.SET k v BOGUS").is_error());
    assert!(s.stat("errors") >= 1);
    assert_eq!(s.stat("panics"), 0);
}

#[test]
fn uptime_grows() {
    let s = Server::start();
    wait_until("time passes", || s.stat("uptime_ms") > 0);
}

#[test]
fn what_is_read_in_a_script_or_transaction_counts_once() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("EVAL \"return redis.call('SMARTCACHE.GET', KEYS[1])\" 1 k");
    s.ok("MULTI");
    s.ok("SMARTCACHE.GET k");
    s.ok("EXEC");
    assert_eq!(s.stat("hits"), 2);
}
