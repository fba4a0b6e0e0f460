//! `SMARTCACHE.STATS` and `INFO smartcache`

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use smartcache::cache::stats::Scope;
use smartcache::cache::stats::report::{self, Section};
use smartcache::testing::TestNode;

use crate::support::{Server, args, assert_within, skip, wait_until};

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
    let sum: i64 = kinds.iter().map(|kind| stats.field(kind).int()).sum();
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
    assert_eq!(s.stat("saved_bytes"), s.stat("raw_bytes") - s.stat("stored_bytes"));

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
        if !matches!(field.as_str(), "uptime_ms" | "counting_ms" | "requests_per_sec") {
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
fn reads_in_scripts_and_transactions_count_once() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("EVAL \"return redis.call('SMARTCACHE.GET', KEYS[1])\" 1 k");
    s.ok("MULTI");
    s.ok("SMARTCACHE.GET k");
    s.ok("EXEC");
    assert_eq!(s.stat("hits"), 2);
}

/// Runs a program that reads `text`. Returns success and output; `None` if there is no such program.
fn parsed_by(program: &str, args: &[&str], text: &str) -> Option<(bool, String)> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    // It may exit without reading everything.
    let _ = child.stdin.take().expect("it is piped").write_all(text.as_bytes());
    let out = child.wait_with_output().expect("it ends");
    Some((out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()))
}

/// No rule can have this name; still it must not break the formats.
const STRANGE: &str = "a\"b\\c\nd\re\u{1}\u{7f}é{}# '";

/// The output with a rule of that name, written by the same function of the core.
fn strange(format: &str) -> String {
    let mut node = TestNode::at(1_000);
    let now = node.now();
    let numbers = node.state.snapshot(Scope::Node, None, now);
    let sections = [Section { rule: Some(STRANGE), numbers }];
    if format == "JSON" { report::json(&sections, true) } else { report::prometheus(&sections, None, None) }
}

/// Every form of the command, with its answer.
fn texts(s: &Server, format: &str) -> Vec<String> {
    s.ok("SMARTCACHE.RULE SET strange.name:_-1 MATCH f*");
    six_requests(s);
    ["", "WINDOW 1m", "RULES", "RULES WINDOW 1h", "RULE strange.name:_-1", "RULE (none) WINDOW 5m"]
        .map(|words| s.ok(&format!("SMARTCACHE.STATS {words} {format}")).text())
        .into_iter()
        .chain([strange(format)])
        .collect()
}

#[test]
fn another_parser_accepts_the_json() {
    let s = Server::start();
    for text in texts(&s, "JSON") {
        let Some((ok, output)) = parsed_by("python3", &["-m", "json.tool"], &text) else {
            skip!(s, "python3 is missing");
        };
        assert!(ok && output.contains("\"requests\""), "{output}\n{text}");
    }
    let name = "import json, sys; assert list(json.load(sys.stdin)) == [sys.argv[1]]";
    let (ok, output) = parsed_by("python3", &["-c", name, STRANGE], &strange("JSON")).expect("python3 exists");
    assert!(ok, "{output}");
}

#[test]
fn another_parser_accepts_the_prometheus_text() {
    const PARSE: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families as parse
metrics = list(parse(sys.stdin.read()))
assert metrics and all(m.samples and m.documentation and m.type in ('counter', 'gauge') for m in metrics)
";
    let s = Server::start();
    let client = parsed_by("python3", &["-c", "import prometheus_client"], "").is_some_and(|(found, _)| found);
    let promtool = parsed_by("promtool", &["--version"], "").is_some();
    if !client && !promtool {
        skip!(s, "promtool (Debian: prometheus) and Python's prometheus_client are missing");
    }
    for text in texts(&s, "PROMETHEUS") {
        if client {
            let (ok, output) = parsed_by("python3", &["-c", PARSE], &text).expect("python3 exists");
            assert!(ok, "{output}\n{text}");
        }
        if promtool {
            let (ok, output) = parsed_by("promtool", &["check", "metrics"], &text).expect("promtool exists");
            assert!(ok, "{output}\n{text}");
        }
    }
}

#[test]
fn rows_by_rule_sum_to_the_whole_in_both_protocols() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET f MATCH f*");
    s.ok("SMARTCACHE.RULE SET idle MATCH idle");
    six_requests(&s);
    for mut conn in [s.connect(), s.connect3()] {
        let whole = conn.call("SMARTCACHE.STATS");
        let rules = conn.call("SMARTCACHE.STATS RULES");
        let names: Vec<_> = rules.pairs().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["f", "idle", "(none)"]);
        for field in ["requests", "hits", "stale_hits", "absent_hits", "misses", "sets", "entries", "stored_bytes"] {
            let sum: i64 = rules.pairs().iter().map(|(_, row)| row.field(field).int()).sum();
            assert_eq!(sum, whole.field(field).int(), "{field}");
        }
        assert_eq!(conn.call("SMARTCACHE.STATS RULE f").field("hits").int(), 2);
    }
}

#[test]
fn unknown_rules_and_windows_are_refused() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.STATS RULE nosuch
        (error) ERR there is no rule 'nosuch': SMARTCACHE.RULE LIST names those there are
        > SMARTCACHE.STATS WINDOW 10m
        (error) ERR invalid WINDOW '10m': say 1m, 5m or 1h
        > SMARTCACHE.STATS XML
        (error) ERR syntax error near 'XML': say SMARTCACHE.STATS [RULE name | RULES] [WINDOW window] [JSON | PROMETHEUS]
        "#,
    );
    let strange = s.call_args(args!["SMARTCACHE.STATS", "RULE", "a\"b\r\n\u{1}"]);
    assert_eq!(strange.error().lines().count(), 1, "{strange}");
}

#[test]
fn misses_of_evicted_and_expired_keys_are_not_cold() {
    let s = Server::with("maxmemory-policy allkeys-random");
    s.ok("SMARTCACHE.SET short v PX 20");
    wait_until("it has expired", || s.ok("EXISTS short").int() == 0);
    s.ok("SMARTCACHE.GET short");
    assert_eq!((s.stat("misses_expired"), s.stat("misses_cold")), (1, 0));
    for i in 0..200 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), vec![b'v'; 10_000], "CODEC", "none"]);
    }
    s.ok(&format!("CONFIG SET maxmemory {}", s.info_number("used_memory") - 500_000));
    wait_until("some are evicted", || {
        s.call("PING");
        s.info_number("evicted_keys") >= 20
    });
    s.ok("CONFIG SET maxmemory 0");
    let gone: Vec<_> = (0..200).filter(|i| s.ok(&format!("EXISTS k{i}")).int() == 0).collect();
    assert!(gone.len() >= 20);
    for i in &gone {
        s.ok(&format!("SMARTCACHE.GET k{i}"));
    }
    s.ok("SMARTCACHE.GET never");
    assert_eq!((s.stat("misses_evicted"), s.stat("misses_cold")), (gone.len() as i64, 1));
    s.ok("FLUSHALL");
    s.ok(&format!("SMARTCACHE.GET k{}", gone[0]));
    assert_eq!(s.stat("misses_cold"), 2);
}

#[test]
fn misses_of_invalidated_keys_are_not_cold_even_once_freed() {
    let s = Server::setup().tcp().start();
    let replica = Server::replica_of(&s, "");
    let kinds = |s: &Server| ["misses_invalidated", "misses_cold"].map(|kind| s.stat(kind));
    let all = "SMARTCACHE.MGET tagged user:1 page:1 deleted never";
    for round in 1..=2 {
        s.ok("SMARTCACHE.SET tagged v TAGS 1 t");
        s.ok("SMARTCACHE.MSET 3 user:1 v page:1 v deleted v");
        for what in ["TAGS 1 t", "PREFIXES 1 user:", "PATTERNS 1 *ge:1"] {
            s.ok(&format!("SMARTCACHE.INVALIDATE {what} WAIT 60"));
        }
        s.ok("SMARTCACHE.DEL deleted");
        let gone = |s: &Server| s.ok("EXISTS tagged user:1 page:1 deleted").int() == 0;
        wait_until("they are freed", || gone(&s));
        assert_eq!(s.ok("WAIT 1 10000").int(), 1);
        assert!(gone(&replica));
        for node in [&s, &replica] {
            node.ok(all);
            assert_eq!(kinds(node), [3 * round, 2 * round]);
            node.assert_counts_add_up();
        }
    }
    // A key that is stored again and deleted no longer counts as invalidated.
    s.ok("SMARTCACHE.SET tagged v");
    s.ok("SMARTCACHE.DEL tagged");
    s.ok("SMARTCACHE.GET tagged");
    assert_eq!(kinds(&s), [6, 5]);
    s.ok("FLUSHALL");
    s.ok(all);
    assert_eq!(kinds(&s), [6, 10]);
}

#[test]
fn waits_have_percentiles_and_hits_save_load_time() {
    let s = Server::start();
    let token = s.ok("SMARTCACHE.GETLOCK k").array()[2].text();
    let mut waiter = s.connect();
    waiter.send(args!["SMARTCACHE.GETLOCK", "k", "WAIT", "20"]).unwrap();
    wait_until("it waits", || s.stat("waiters") == 1);
    wait_until("some time passes", || {
        s.ok("SMARTCACHE.INSPECT k").field("lease").text() == "held" && s.stat("uptime_ms") > 100
    });
    s.ok(&format!("SMARTCACHE.SET k v TOKEN {token}"));
    assert_eq!(waiter.receive().unwrap().array()[0].text(), "HIT");
    s.ok("SMARTCACHE.GET k");
    let stats = s.ok("SMARTCACHE.STATS RULE (none)");
    let number = |field: &str| stats.field(field).int();
    assert_eq!((number("waits"), number("waits_served"), number("hits")), (1, 1, 2));
    assert_eq!(number("wait_ms_p50"), number("wait_ms_p99"));
    assert_within!(number("wait_ms_p50"), 0..=number("origin_ms") * 17 / 16);
    assert_eq!(number("origin_ms_saved"), 2 * number("origin_ms"));
}

#[test]
fn a_replica_counts_its_own_reads_and_a_restart_starts_at_zero() {
    let mut s = Server::setup().tcp().start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.GET k");
    let replica = Server::replica_of(&s, "");
    wait_until("it has the key", || replica.ok("EXISTS k").int() == 1);
    replica.ok("SMARTCACHE.GET k");
    replica.ok("SMARTCACHE.GET k");
    assert_eq!((s.stat("hits"), replica.stat("hits")), (1, 2));
    let hottest = replica.ok("SMARTCACHE.HOTKEYS");
    assert_eq!(hottest.array()[0].field("requests").int(), 2);
    replica.ok("SMARTCACHE.RESETSTAT");
    assert_eq!((s.stat("hits"), replica.stat("hits")), (1, 0), "each resets its own");
    drop(replica);
    let restarted = Instant::now();
    s.restart();
    let stats = s.ok("SMARTCACHE.STATS");
    let at_most = restarted.elapsed().as_millis() as i64;
    assert_eq!((stats.field("requests").int(), stats.field("sets").int()), (0, 0));
    for since in ["uptime_ms", "counting_ms"] {
        assert_within!(stats.field(since).int(), 0..=at_most);
    }
}
