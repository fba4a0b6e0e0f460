//! `SMARTCACHE.HEALTH`

use std::path::PathBuf;

use crate::support::{Reply, Server, args, assert_within, skip, wait_until};

const FIELDS: [&str; 10] = [
    "status",
    "reasons",
    "hit_rate",
    "error_rate",
    "memory_used_bytes",
    "memory_max_bytes",
    "connected_clients",
    "ops_per_sec",
    "evicted_per_sec",
    "uptime_ms",
];

/// The texts of the reasons with this code.
fn texts(s: &Server, code: &str) -> Vec<String> {
    let health = s.ok("SMARTCACHE.HEALTH");
    let reasons = health.field("reasons");
    assert_eq!(health.field("status").text(), if reasons.array().is_empty() { "ok" } else { "warn" });
    let of_code = reasons.array().iter().filter(|reason| reason.field("code").text() == code);
    of_code.map(|reason| reason.field("text").text()).collect()
}

fn is_ok(s: &Server) -> bool {
    s.ok("SMARTCACHE.HEALTH").field("status").text() == "ok"
}

fn repeat(s: &Server, count: usize, words: impl Fn(usize) -> String) {
    let mut conn = s.connect();
    (0..count).for_each(|i| drop(conn.call(&words(i))));
}

#[test]
fn an_idle_server_is_ok_in_both_protocols() {
    let s = Server::start();
    for mut conn in [s.connect(), s.connect3()] {
        let health = conn.call("SMARTCACHE.HEALTH");
        let names: Vec<_> = health.pairs().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, FIELDS);
        assert_eq!(health.field("status").text(), "ok");
        assert!(health.field("reasons").array().is_empty());
        assert_eq!((health.field("hit_rate").float(), health.field("error_rate").float()), (0.0, 0.0));
        assert_eq!((health.field("memory_max_bytes").int(), health.field("evicted_per_sec").float()), (0, 0.0));
        assert_within!(health.field("memory_used_bytes").int(), 100_000..=1_000_000_000);
        assert_within!(health.field("connected_clients").int(), 1..=10);
        assert!(health.field("ops_per_sec").float() >= 0.0 && health.field("uptime_ms").int() >= 0);
    }
    let health = s.connect3().call("SMARTCACHE.HEALTH");
    for rate in ["hit_rate", "error_rate", "ops_per_sec", "evicted_per_sec"] {
        assert!(matches!(health.field(rate), Reply::Double(_)), "{rate}: {health}");
    }
    assert_eq!((s.info("smartcache_health"), s.info("smartcache_health_reasons")), ("ok".into(), "0".into()));
}

#[test]
fn a_low_hit_rate_is_reported_with_numbers_and_its_setting() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    repeat(&s, 10, |_| "SMARTCACHE.GET k".into());
    repeat(&s, 89, |i| format!("SMARTCACHE.GET cold{i}"));
    assert!(is_ok(&s), "too few requests to judge");
    s.ok("SMARTCACHE.GET cold");
    let text = texts(&s, "hit_rate").remove(0);
    assert!(text.contains("10% of 100 requests, below smartcache.health-hit-rate (50%)"), "{text}");
    assert_eq!(s.ok("SMARTCACHE.HEALTH").field("hit_rate").float(), 10.0);
    assert_eq!((s.info("smartcache_health"), s.info("smartcache_health_reasons")), ("warn".into(), "1".into()));
    s.ok("CONFIG SET smartcache.health-hit-rate 10%");
    assert!(is_ok(&s));
    s.ok("CONFIG SET smartcache.health-hit-rate 0.5");
    s.ok("SMARTCACHE.RESETSTAT");
    assert!(is_ok(&s));
}

#[test]
fn loads_longer_than_their_lock_are_reported_with_rule_and_time() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET slow MATCH slow:* LOCK 20ms");
    for (key, count) in [("slow:1", 1), ("slow:2", 2)] {
        let token = s.ok(&format!("SMARTCACHE.GETLOCK {key}")).array()[2].text();
        wait_until("the lease expires", || s.stat("leases_expired") == count);
        assert_eq!(s.ok(&format!("SMARTCACHE.SET {key} v TOKEN {token}")).text(), "OK");
    }
    let text = texts(&s, "leases_expired").remove(0);
    assert!(text.starts_with("Rule 'slow': 2 of 2 leases ran out"), "{text}");
    assert!(text.contains("2 fills arrived late, after ") && text.contains("LOCK is 20ms"), "{text}");
    assert!(text.contains("SMARTCACHE.RULE SET slow ... LOCK "), "{text}");
}

#[test]
fn refused_leases_and_fills_are_reported() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET tight MATCH t:* FILLS 1");
    repeat(&s, 6, |i| format!("SMARTCACHE.GETLOCK t:{i}"));
    let text = texts(&s, "leases_refused").remove(0);
    assert!(text.starts_with("Rule 'tight': 5 leases were refused"), "{text}");
    repeat(&s, 5, |i| format!("SMARTCACHE.SET k{i} v TOKEN bogus"));
    let text = texts(&s, "fills_refused").remove(0);
    assert!(text.contains("5 got LOST") && text.contains("5 tokens were not issued by this server"), "{text}");
}

#[test]
fn memory_close_to_its_limit_and_evictions_are_reported() {
    let s = Server::with("maxmemory-policy noeviction");
    s.ok("SMARTCACHE.RULE SET page MATCH k*");
    for i in 0..200 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), vec![b'v'; 10_000], "CODEC", "none"]);
    }
    let used = s.info_number("used_memory");
    s.ok(&format!("CONFIG SET maxmemory {}", used + used / 20));
    let text = texts(&s, "memory").remove(0);
    assert!(text.contains("of maxmemory") && text.contains("stores answer OOM"), "{text}");
    s.ok("CONFIG SET maxmemory-policy allkeys-random");
    let text = texts(&s, "memory").remove(0);
    assert!(text.contains("(maxmemory-policy allkeys-random)"), "{text}");
    let health = s.ok("SMARTCACHE.HEALTH");
    assert_eq!(health.field("memory_max_bytes").int() as u64, used + used / 20);

    s.ok(&format!("CONFIG SET maxmemory {}", used - 500_000));
    wait_until("some are evicted", || {
        s.call("PING");
        s.info_number("evicted_keys") >= 20
    });
    s.ok("CONFIG SET maxmemory 0");
    let evicted = s.info_number("evicted_keys");
    assert_eq!((s.stat("keys_evicted") as u64, s.stat("entries_evicted") as u64), (evicted, evicted));
    let text = texts(&s, "evictions").remove(0);
    assert!(text.starts_with(&format!("The server evicted {evicted} fresh entries")), "{text}");
    assert!(text.contains(&format!("{evicted} of them of rule 'page'")), "{text}");
    assert!(s.ok("SMARTCACHE.HEALTH").field("evicted_per_sec").float() > 0.0);
    assert!(texts(&s, "memory").is_empty());
}

#[test]
fn evicting_stale_entries_or_plain_strings_is_not_reported() {
    let s = Server::with("maxmemory-policy allkeys-random");
    for i in 0..100 {
        let value = vec![b'v'; 10_000];
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), value, "PX", "1", "SWR", "9999", "CODEC", "none"]);
        s.call_args(args!["SET", format!("plain{i}"), value]);
    }
    wait_until("they are stale", || (0..100).all(|i| s.state(&format!("k{i}")) == "stale"));
    s.ok(&format!("CONFIG SET maxmemory {}", s.info_number("used_memory") - 500_000));
    wait_until("some are evicted", || {
        s.call("PING");
        s.info_number("evicted_keys") >= 20
    });
    s.ok("CONFIG SET maxmemory 0");
    assert_eq!(s.stat("keys_evicted") as u64, s.info_number("evicted_keys"));
    assert_eq!(s.stat("entries_evicted"), 0);
    assert!(is_ok(&s));
}

#[test]
fn rules_that_never_match_or_never_compress_are_reported() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET dead MATCH nosuch:*");
    s.ok("SMARTCACHE.RULE SET img MATCH img:*");
    let noise: Vec<u8> = (0..300_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut conn = s.connect();
    (0..50).for_each(|_| drop(conn.call_args(args!["SMARTCACHE.SET", "img:1", noise])));
    repeat(&s, 1_000, |_| "SMARTCACHE.GET img:1".into());
    let [unmatched] = &texts(&s, "rule_unmatched")[..] else { panic!("{}", s.ok("SMARTCACHE.HEALTH")) };
    assert!(unmatched.starts_with("Rule 'dead' (MATCH 'nosuch:*') has matched none of 1050 keys"), "{unmatched}");
    let [shrinks] = &texts(&s, "rule_incompressible")[..] else { panic!("{}", s.ok("SMARTCACHE.HEALTH")) };
    assert!(shrinks.starts_with("Rule 'img': compression does not shrink its values"), "{shrinks}");
}

#[test]
fn a_rule_loaded_from_a_file_counts_keys_from_then_on() {
    let mut s = Server::with("appendonly yes\nappendfsync always");
    s.ok("SMARTCACHE.RULE SET kept MATCH k*");
    s.ok("SMARTCACHE.RULE SET dead MATCH nosuch:*");
    s.ok("SMARTCACHE.SET k v");
    s.restart();
    repeat(&s, 1_000, |_| "SMARTCACHE.GET other".into());
    let all = texts(&s, "rule_unmatched");
    assert!(all.len() == 1 && all[0].starts_with("Rule 'dead'"), "{all:?}");
}

#[test]
fn a_panic_is_reported_until_resetstat() {
    let Some(path) = std::env::var_os("SMARTCACHE_TEST_MODULE") else {
        skip!(Server::start(), "SMARTCACHE_TEST_MODULE names no module built with `--features test-commands`");
    };
    let s = Server::setup().module(PathBuf::from(path)).start();
    s.expect_panics();
    assert!(s.call("SMARTCACHE.PANIC").is_error());
    assert!(texts(&s, "panics")[0].starts_with("A panic was caught since start or RESETSTAT"));
    s.ok("SMARTCACHE.RESETSTAT");
    assert!(is_ok(&s));
}

#[test]
fn a_replica_reports_its_own_health_and_a_restart_starts_over() {
    let mut s = Server::setup().tcp().start();
    repeat(&s, 150, |i| format!("SMARTCACHE.GET cold{i}"));
    let replica = Server::replica_of(&s, "");
    assert!(is_ok(&replica) && !is_ok(&s));
    repeat(&replica, 150, |i| format!("SMARTCACHE.GET cold{i}"));
    assert_eq!(texts(&replica, "hit_rate").len(), 1);
    drop(replica);
    s.restart();
    assert!(is_ok(&s));
}

#[test]
fn it_answers_in_transactions_and_scripts_and_takes_no_words() {
    let s = Server::start();
    let health = s.ok("EVAL \"return redis.call('SMARTCACHE.HEALTH')\" 0");
    assert_eq!(health.field("status").text(), "ok");
    s.ok("MULTI");
    s.ok("SMARTCACHE.HEALTH");
    assert_eq!(s.ok("EXEC").array()[0].field("status").text(), "ok");
    assert!(s.call("SMARTCACHE.HEALTH x").error().starts_with("ERR wrong number of arguments"));
}

#[test]
fn info_everything_does_not_recurse() {
    let s = Server::start();
    for line in ["INFO everything", "INFO modules", "INFO all"] {
        assert!(s.ok(line).text().contains("redis_version") || line == "INFO modules");
    }
    assert!(s.ok("INFO everything").text().contains("smartcache_health:ok"));
}
