//! Settings: `CONFIG GET`, `SET` and `REWRITE`, the configuration file, module arguments.

use std::fs;

use crate::support::{Server, args, assert_within, module, skip};

/// Names and defaults, as in docs/config.md.
const DEFAULTS: [(&str, &str); 22] = [
    ("default-ttl", "3600"),
    ("max-ttl", "0"),
    ("jitter", "0"),
    ("swr", "0"),
    ("sie", "0"),
    ("negative-ttl", "60"),
    ("lock", "10"),
    ("beta", "1"),
    ("guard", "0"),
    ("guard-native", "yes"),
    ("skew", "60"),
    ("max-load", "3600"),
    ("max-waiters", "0"),
    ("max-leases", "100000"),
    ("user-share", "50%"),
    ("codec", "auto"),
    ("compression-level", "3"),
    ("min-size", "64"),
    ("min-savings", "20%"),
    ("offload-size", "64kb"),
    ("max-value", "512mb"),
    ("rules", ""),
];

#[track_caller]
fn get(s: &Server, name: &str) -> String {
    s.ok(&format!("CONFIG GET smartcache.{name}")).field(&format!("smartcache.{name}")).text()
}

#[test]
fn every_setting_has_its_documented_default() {
    let s = Server::start();
    for (name, default) in DEFAULTS {
        assert_eq!(get(&s, name), default, "smartcache.{name}");
    }
}

#[test]
fn every_default_can_be_set_again() {
    let s = Server::start();
    for (name, default) in DEFAULTS {
        let reply = s.call_args(args!["CONFIG", "SET", format!("smartcache.{name}"), default]);
        assert!(!reply.is_error(), "{name} {default}: {reply}");
        assert_eq!(get(&s, name), default, "smartcache.{name}");
    }
}

#[test]
fn durations_fractions_and_sizes_take_their_units() {
    let s = Server::start();
    for (name, value) in [
        ("default-ttl", "2h"),
        ("default-ttl", "0.5"),
        ("max-ttl", "7d"),
        ("jitter", "10%"),
        ("jitter", "0.1"),
        ("swr", "250ms"),
        ("sie", "1h"),
        ("negative-ttl", "5m"),
        ("codec", "lz4"),
        ("codec", "GZIP"),
        ("min-size", "1kb"),
        ("min-size", "0"),
        ("min-savings", "0.5"),
        ("offload-size", "1mb"),
        ("lock", "250ms"),
        ("guard", "1.5"),
        ("max-load", "2h"),
        ("beta", "0"),
        ("beta", "2.5"),
        ("guard-native", "NO"),
        ("max-waiters", "1000000"),
        ("max-leases", "1"),
        ("max-value", "1048576"),
    ] {
        let reply = s.call_args(args!["CONFIG", "SET", format!("smartcache.{name}"), value]);
        assert!(!reply.is_error(), "smartcache.{name} {value}: {reply}");
    }
    s.ok("CONFIG SET smartcache.default-ttl 2h");
    s.ok("CONFIG SET smartcache.max-ttl 0");
    s.ok("CONFIG SET smartcache.jitter 0");
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 7_170_000..=7_200_000);
}

#[test]
fn a_wrong_value_is_refused_and_the_old_one_stays() {
    let s = Server::with("smartcache.default-ttl 100\nsmartcache.jitter 0.1");
    for (name, value) in [
        ("default-ttl", "-1"),
        ("default-ttl", "soon"),
        ("default-ttl", "99999999999999999999"),
        ("default-ttl", ""),
        ("default-ttl", "nan"),
        ("default-ttl", "inf"),
        ("jitter", "-0.1"),
        ("jitter", "1.5"),
        ("jitter", "150%"),
        ("jitter", "x"),
        ("codec", "brotli"),
        ("compression-level", "x"),
        ("min-size", "-1"),
        ("min-size", "12parsecs"),
        ("max-value", "-1"),
        ("min-savings", "200%"),
        ("lock", "0"),
        ("lock", "-1"),
        ("lock", "9999999999d"),
        ("beta", "-1"),
        ("beta", "nan"),
        ("beta", "much"),
        ("guard", "-1"),
        ("guard", "a while"),
        ("guard-native", "maybe"),
        ("guard-native", ""),
        ("max-load", "0"),
        ("max-load", "-5"),
        ("max-waiters", "-1"),
        ("max-waiters", "many"),
        ("max-waiters", "1.5"),
        ("max-waiters", "99999999999999999999"),
        ("max-leases", "-1"),
        ("max-leases", "1e3"),
        ("max-leases", ""),
        ("rules", "{"),
        ("rules", "[1]"),
        ("rules", r#"[{"name":"r"}]"#),
        ("rules", r#"[{"name":"r","match":["*"],"bogus":1}]"#),
        ("rules", r#"[{"name":"r","match":["*"],"ttl":-5}]"#),
        ("rules", r#"[{"name":"r","match":["*"]},{"name":"r","match":["a"]}]"#),
    ] {
        let before = get(&s, name);
        let reply = s.call_args(args!["CONFIG", "SET", format!("smartcache.{name}"), value]);
        assert!(reply.is_error(), "smartcache.{name} {value} should be refused");
        assert!(reply.error().contains(name), "the error does not name the setting: {reply}");
        assert_eq!(get(&s, name), before, "after {value}");
    }
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 60_000..=110_000);
}

#[test]
fn an_unknown_setting_is_refused() {
    assert!(Server::start().call("CONFIG SET smartcache.bogus 1").is_error());
}

#[test]
fn a_setting_can_stand_in_the_configuration_file() {
    let s = Server::with("smartcache.default-ttl 100\nsmartcache.swr 30s");
    assert_eq!(get(&s, "default-ttl"), "100");
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.pttl("k"), 100_000..=130_000);
}

#[test]
fn a_wrong_value_in_the_file_prevents_the_start_and_is_logged() {
    let gone = Server::setup().conf("smartcache.default-ttl soon").try_start().err().expect("it must not start");
    gone.assert_refused();
    assert!(gone.log.contains("default-ttl"), "the log does not name the setting:\n{}", gone.log);
}

#[test]
fn settings_can_be_module_arguments() {
    let s = Server::setup().module_args("default-ttl 100 codec gzip").start();
    assert_eq!(get(&s, "default-ttl"), "100");
    assert_eq!(get(&s, "codec"), "gzip");
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
}

#[test]
fn a_line_in_the_file_wins_over_a_module_argument() {
    let s = Server::setup().module_args("default-ttl 100 swr 5").conf("smartcache.default-ttl 1000").start();
    assert_eq!(get(&s, "default-ttl"), "1000");
    assert_eq!(get(&s, "swr"), "5");
}

#[test]
fn a_wrong_module_argument_prevents_the_start_and_is_named() {
    for (args, word) in
        [("bogus 1", "bogus"), ("default-ttl", "default-ttl"), ("default-ttl soon", "soon"), ("codec brotli", "brotli")]
    {
        let gone = Server::setup().module_args(args).try_start().err().unwrap_or_else(|| panic!("it started: {args}"));
        gone.assert_refused();
        assert!(gone.log.contains(word), "{word} is not in the log:\n{}", gone.log);
    }
}

#[test]
fn config_rewrite_writes_what_was_set() {
    let mut s = Server::start();
    s.ok("CONFIG SET smartcache.default-ttl 100");
    s.ok("CONFIG SET smartcache.codec gzip");
    s.ok("CONFIG REWRITE");
    let text = fs::read_to_string(s.path("server.conf")).expect("the file is there");
    assert!(text.contains("smartcache.default-ttl"), "{text}");
    s.restart();
    assert_eq!(get(&s, "default-ttl"), "100");
    assert_eq!(get(&s, "codec"), "gzip");
    assert_eq!(get(&s, "swr"), "0");
}

#[test]
fn a_module_that_is_named_twice_stops_the_start_with_the_reason() {
    let twice = format!("loadmodule {}", module().display());
    let Err(gone) = Server::setup().conf(&twice).try_start() else { panic!("it started") };
    gone.assert_refused();
    assert!(gone.log.contains("a module called smartcache is loaded already"), "{}", gone.log);

    let s = Server::with("enable-module-command yes");
    assert!(s.call(&format!("MODULE LOAD {}", module().display())).is_error());
    assert!(s.log().contains("a module called smartcache is loaded already"), "{}", s.log());
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.ok("SMARTCACHE.GET k").text(), "v", "the first one goes on");
}

#[test]
fn config_rewrite_writes_rules_whatever_is_in_them() {
    let mut s = Server::start();
    let rules = r#"[{"name":"r","match":["x\"*","\\\\y"],"ttl":"5m"}]"#;
    assert_eq!(s.call_args(args!["CONFIG", "SET", "smartcache.rules", rules]).text(), "OK");
    s.call_args(args!["CONFIG", "SET", "proc-title-template", r#"{title} "x""#]);
    s.ok("CONFIG REWRITE");
    let text = fs::read_to_string(s.path("server.conf")).expect("the file is there");
    if text.contains(r#"proc-title-template "{title} "x"""#) {
        skip!(s, "CONFIG REWRITE escapes no quotes there, in its own settings neither");
    }
    s.restart();
    assert_eq!(s.ok("SMARTCACHE.RULE LIST").array().len(), 1);
    for key in ["x\"1", "\\y"] {
        s.call_args(args!["SMARTCACHE.SET", key, "v"]);
        assert_within!(s.fresh_ms(key), 270_000..=300_000);
    }
}

#[test]
fn several_settings_are_set_at_once_or_not_at_all() {
    let s = Server::start();
    s.ok("CONFIG SET smartcache.swr 5 smartcache.sie 6 maxmemory-policy allkeys-lru");
    assert_eq!((get(&s, "swr"), get(&s, "sie")), ("5".to_owned(), "6".to_owned()));
    assert!(s.call("CONFIG SET smartcache.swr 7 smartcache.sie bogus").is_error());
    assert_eq!((get(&s, "swr"), get(&s, "sie")), ("5".to_owned(), "6".to_owned()));
}

#[test]
fn new_settings_are_for_new_entries() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let (portrait, end) = (s.portrait("k"), s.ok("PEXPIRETIME k"));
    s.ok("CONFIG SET smartcache.default-ttl 5 smartcache.swr 9 smartcache.codec none");
    assert_eq!((s.portrait("k"), s.ok("PEXPIRETIME k")), (portrait, end));
}

#[test]
fn the_length_of_a_lease_comes_from_the_command_then_the_rule_then_the_setting() {
    let s = Server::with("smartcache.lock 100");
    assert_within!(s.getlock("a").lease_ms, 70_000..=100_000);
    s.ok("SMARTCACHE.RULE SET r MATCH r:* LOCK 50");
    assert_within!(s.getlock("r:a").lease_ms, 30_000..=50_000);
    assert_within!(s.getlock("r:b LOCK 20").lease_ms, 10_000..=20_000);
    s.ok("CONFIG SET smartcache.lock 5m");
    assert_within!(s.getlock("b").lease_ms, 250_000..=300_000);
}

#[test]
fn a_load_that_began_longer_ago_than_max_load_is_not_trusted() {
    let s = Server::with("smartcache.max-load 100ms");
    let (token, stamp) = (s.getlock("k LOCK 100").token().to_owned(), s.call("SMARTCACHE.STAMP").text());
    let began = std::time::Instant::now();
    crate::support::wait_until("max-load has passed", || began.elapsed().as_millis() > 150);
    assert_eq!(s.fill("k", "v", &token), "STALE");
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "SINCE", stamp]).text(), "STALE");
    assert_eq!(s.call("EXISTS k").int(), 0);
    s.ok("CONFIG SET smartcache.max-load 1h");
    assert_eq!(s.getlock("k").brief(), "MISS +");
}

#[test]
fn a_guard_also_distrusts_loads_that_begin_within_it() {
    let s = Server::with("smartcache.guard 1s");
    // In a script, so that a stall of the test cannot outlast the guard.
    let script = "if ARGV[1] ~= '' then redis.call(ARGV[1], KEYS[1]) end \
                  local token = redis.call('SMARTCACHE.GETLOCK', KEYS[1])[3] \
                  return redis.call('SMARTCACHE.SET', KEYS[1], 'v', 'TOKEN', token)";
    let load_after = |line: &str, key: &str| s.call_args(args!["EVAL", script, "1", key, line]).text();
    // Invalidations before the start are unknown: so the server starts with a guard.
    let mut tried = 0;
    crate::support::wait_until("the guard of the start is over", || {
        tried += 1;
        load_after("", &format!("new{tried}")) == "OK"
    });
    assert_eq!(load_after("SMARTCACHE.DEL", "deleted"), "STALE");
    assert_eq!(load_after("SMARTCACHE.STALE", "staled"), "STALE");
    assert_eq!(load_after("", "another"), "OK");
    // A write-through is current.
    s.ok("SMARTCACHE.SET deleted v");
    assert_eq!(s.getlock("deleted").brief(), "HIT v");
}
