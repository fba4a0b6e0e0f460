//! `SMARTCACHE.RULE SET | DEL | GET | LIST | EXPLAIN`, and the rules of `smartcache.rules`

use crate::support::{Server, args, assert_within};

/// The names of the rules in matching order.
fn order(s: &Server) -> Vec<String> {
    s.ok("SMARTCACHE.RULE LIST").array().iter().map(|rule| rule.field("name").text()).collect()
}

/// The rule of a key by `RULE EXPLAIN`, checked against that of a stored entry.
fn rule_of(s: &Server, key: &str) -> String {
    let name = |r: &crate::support::Reply| if r.is_nil() { "-".to_owned() } else { r.text() };
    let explained = name(&s.call_args(args!["SMARTCACHE.RULE", "EXPLAIN", key]).field("rule"));
    s.call_args(args!["SMARTCACHE.SET", key, "v"]);
    assert_eq!(name(&s.inspect(key, "rule")), explained, "EXPLAIN and the entry differ for {key}");
    explained
}

#[test]
fn a_rule_is_set_shown_and_deleted() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.RULE GET r
        (nil)
        > SMARTCACHE.RULE LIST
        (empty array)
        > SMARTCACHE.RULE SET r MATCH user:* TTL 100
        OK
        "#,
    );
    let rule = s.ok("SMARTCACHE.RULE GET r");
    assert_eq!(rule.field("name").text(), "r");
    assert_eq!(rule.field("match").texts(), ["user:*"]);
    assert_eq!(s.ok("SMARTCACHE.RULE LIST").array(), [rule]);
    s.play(
        r#"
        > SMARTCACHE.RULE DEL r
        (integer) 1
        > SMARTCACHE.RULE DEL r
        (integer) 0
        > SMARTCACHE.RULE GET r
        (nil)
        > smartcache.rule set r match * ttl 5
        OK
        > smartcache.rule del r
        (integer) 1
        "#,
    );
}

#[test]
fn every_option_is_taken_and_shown() {
    let s = Server::start();
    s.ok(
        "SMARTCACHE.RULE SET r MATCH a:* MATCH b:* PRIORITY 7 TTL 10m SCALE 1.5 MIN 1s MAX 1d JITTER 10% SWR 30s SIE 1h \
         NEGATIVE 5s LOCK 3s BETA 0.5 CODEC gzip MINSIZE 100 FILLS 4 TAG all TAG part:{1}",
    );
    let rule = s.ok("SMARTCACHE.RULE GET r");
    assert_eq!(rule.field("match").texts(), ["a:*", "b:*"]);
    let shown = rule.to_string();
    for what in ["priority", "scale", "jitter", "beta", "codec", "gzip", "part:{1}", "all"] {
        assert!(shown.contains(what), "{what} is not in\n{shown}");
    }
}

#[test]
fn setting_it_again_replaces_it_whole() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH a* TTL 100 SWR 50 TAG t");
    s.ok("SMARTCACHE.RULE SET r MATCH b*");
    s.ok("SMARTCACHE.MSET 2 a v b v");
    assert!(s.inspect("a", "rule").is_nil());
    assert_eq!(s.inspect("b", "rule").text(), "r");
    assert_eq!(s.inspect("b", "swr_ms").int(), 0);
    assert!(s.inspect("b", "tags").array().is_empty());
    assert_within!(s.fresh_ms("b"), 3_570_000..=3_600_000);
    assert_eq!(s.ok("SMARTCACHE.RULE LIST").array().len(), 1);
}

#[test]
fn the_lifetime_is_base_times_scale_within_min_and_max() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * TTL 200 SCALE 2 MIN 100 MAX 1000");
    for (lifetime, seconds) in [
        ("TTL 150", 300),   // the command's base × scale
        ("", 400),          // the rule's base × scale
        ("TTL 10", 100),    // not below MIN
        ("TTL 5000", 1000), // not above MAX
        ("EX 60", 60),      // exact: no scale, no MIN …
        ("EX 5000", 1000),  // … but MAX
        ("PX 60000", 60),
    ] {
        s.ok(&format!("SMARTCACHE.SET k v {lifetime}"));
        assert_within!(s.fresh_ms("k"), seconds * 1000 - 30_000..=seconds * 1000);
    }
}

#[test]
fn the_rules_ttl_comes_before_the_default() {
    let s = Server::with("smartcache.default-ttl 100");
    s.ok("SMARTCACHE.RULE SET r MATCH ruled* TTL 1000");
    s.ok("SMARTCACHE.MSET 2 ruled v other v");
    assert_within!(s.fresh_ms("ruled"), 970_000..=1_000_000);
    assert_within!(s.fresh_ms("other"), 70_000..=100_000);
    // A scale without a TTL scales the default.
    s.ok("SMARTCACHE.RULE SET r MATCH ruled* SCALE 3");
    s.ok("SMARTCACHE.SET ruled v");
    assert_within!(s.fresh_ms("ruled"), 270_000..=300_000);
}

#[test]
fn jitter_is_drawn_within_its_fraction_and_held_inside_min_and_max() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * JITTER 0.5 MIN 900 MAX 1200");
    let ends: Vec<i64> = (0..60)
        .map(|i| {
            s.ok(&format!("SMARTCACHE.SET k{i} v TTL 1000"));
            s.fresh_ms(&format!("k{i}"))
        })
        .collect();
    let (least, most) = (*ends.iter().min().unwrap_or(&0), *ends.iter().max().unwrap_or(&0));
    assert_within!(least, 870_000..=900_000);
    assert_within!(most, 1_160_000..=1_200_000);
}

#[test]
fn windows_come_from_the_rule_unless_the_command_sets_them() {
    let s = Server::with("smartcache.swr 5\nsmartcache.sie 5");
    s.ok("SMARTCACHE.RULE SET r MATCH * SWR 20 SIE 30");
    s.ok("SMARTCACHE.SET k v");
    assert_eq!((s.inspect("k", "swr_ms").int(), s.inspect("k", "sie_ms").int()), (20_000, 30_000));
    s.ok("SMARTCACHE.SET k v SWR 0 SIE 40");
    assert_eq!((s.inspect("k", "swr_ms").int(), s.inspect("k", "sie_ms").int()), (0, 40_000));
    // A rule that turns a window off wins over the setting.
    s.ok("SMARTCACHE.RULE SET r MATCH * SWR 0");
    s.ok("SMARTCACHE.SET k v");
    assert_eq!((s.inspect("k", "swr_ms").int(), s.inspect("k", "sie_ms").int()), (0, 5_000));
}

#[test]
fn codec_and_minsize_come_from_the_rule_unless_the_command_sets_them() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(20);
    s.ok("SMARTCACHE.RULE SET r MATCH * CODEC gzip MINSIZE 100");
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "gzip");
    s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", "none"]);
    assert_eq!(s.inspect("k", "codec").text(), "none");
    s.call_args(args!["SMARTCACHE.SET", "k", "a".repeat(99)]);
    assert_eq!(s.inspect("k", "codec").text(), "none");
    s.call_args(args!["SMARTCACHE.SET", "k", "a".repeat(100)]);
    assert_eq!(s.inspect("k", "codec").text(), "gzip");
}

#[test]
fn templates_make_tags_from_the_key() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH app:*:user:* TAG tenant:{1} TAG user:{2} TAG fixed");
    s.ok("SMARTCACHE.SET app:acme:user:42 v TAGS 1 own");
    let mut tags = s.inspect("app:acme:user:42", "tags").texts();
    tags.sort();
    assert_eq!(tags, ["fixed", "own", "tenant:acme", "user:42"]);
    // Absent entries match too: every matching entry gets the tag.
    s.ok("SMARTCACHE.ABSENT app:x:user:");
    assert!(s.inspect("app:x:user:", "tags").texts().contains(&"tenant:x".to_owned()));
}

#[test]
fn a_template_and_a_tag_that_are_the_same_are_one_tag() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * TAG t");
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    assert_eq!(s.inspect("k", "tags").texts(), ["t"]);
}

#[test]
fn patterns_match_as_in_keys() {
    let s = Server::start();
    for (pattern, hits, misses) in [
        ("user:*", &["user:", "user:1"][..], &["user", "xuser:1", "User:1"][..]),
        ("*:profile", &[":profile", "a:b:profile"], &["profile", "a:profile:b"]),
        ("*:profile:*", &["a:profile:b", ":profile:"], &["a:profile", "profile:a"]),
        ("h?llo", &["hello", "h?llo"], &["hllo", "heello"]),
        ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
        ("h[^e]llo", &["hallo", "hbllo"], &["hello"]),
        ("h[a-c]llo", &["hallo", "hcllo"], &["hdllo"]),
        (r"h\*llo", &["h*llo"], &["hello", "hllo"]),
        ("*", &["", "anything"], &[]),
        ("exact", &["exact"], &["exact1", "exac"]),
        ("a**b", &["ab", "axb"], &["a", "b"]),
    ] {
        s.call_args(args!["SMARTCACHE.RULE", "SET", "r", "MATCH", pattern]);
        for key in hits {
            assert_eq!(rule_of(&s, key), "r", "{pattern} should match '{key}'");
        }
        for key in misses {
            assert_eq!(rule_of(&s, key), "-", "{pattern} should not match '{key}'");
        }
    }
}

#[test]
fn one_matching_pattern_suffices() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET profile MATCH *:profile MATCH *:profile:* SCALE 2");
    for key in ["user:1:profile", "user:1:profile:small"] {
        assert_eq!(rule_of(&s, key), "profile");
    }
    assert_eq!(rule_of(&s, "user:1:profiles"), "-");
}

#[test]
fn the_first_match_wins_by_priority_then_age() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET old MATCH *");
    s.ok("SMARTCACHE.RULE SET young MATCH *");
    s.ok("SMARTCACHE.RULE SET high MATCH high* PRIORITY 10");
    s.ok("SMARTCACHE.RULE SET low MATCH * PRIORITY -10");
    assert_eq!(order(&s), ["high", "old", "young", "low"]);
    assert_eq!(rule_of(&s, "high1"), "high");
    assert_eq!(rule_of(&s, "other"), "old");
    s.ok("SMARTCACHE.RULE DEL old");
    assert_eq!(rule_of(&s, "other"), "young");
}

#[test]
fn no_pattern_takes_exponential_time() {
    let s = Server::start();
    s.ok(&format!("SMARTCACHE.RULE SET r MATCH {}b", "*a".repeat(30)));
    let key = "a".repeat(5_000);
    // A naive matcher would take exponential time; the connection times out after a minute.
    assert_eq!(rule_of(&s, &key), "-");
}

#[test]
fn explain_shows_every_resulting_value() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH k* TTL 100 SCALE 2 JITTER 10% SWR 20 SIE 30 NEGATIVE 7 CODEC lz4 TAG t:{1}");
    let map = s.ok("SMARTCACHE.RULE EXPLAIN key");
    assert_eq!(map.field("rule").text(), "r");
    let shown = map.to_string();
    // The ranges of 200 s and of 7 s ± 10 %, in milliseconds.
    for what in ["180000", "220000", "20000", "30000", "6300", "7700", "lz4", "t:ey"] {
        assert!(shown.contains(what), "{what} is not in\n{shown}");
    }
    let shown = s.ok("SMARTCACHE.RULE EXPLAIN key TTL 50").to_string();
    for what in ["90000", "110000"] {
        assert!(shown.contains(what), "{what} is not in\n{shown}");
    }
    let map = s.ok("SMARTCACHE.RULE EXPLAIN other");
    assert!(map.field("rule").is_nil());
    assert!(map.to_string().contains("3600000"), "the default is not in\n{map}");
}

#[test]
fn explain_stores_and_counts_nothing() {
    let s = Server::start();
    let digest = s.digest();
    s.ok("SMARTCACHE.RULE EXPLAIN k TTL 10");
    assert_eq!(s.digest(), digest);
    assert_eq!(s.stat("requests"), 0);
}

#[test]
fn entries_keep_the_policy_they_were_stored_with() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * TTL 100 SWR 50");
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.RULE SET r MATCH * TTL 9000 SWR 0");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    assert_eq!(s.inspect("k", "swr_ms").int(), 50_000);
    s.ok("SMARTCACHE.RULE DEL r");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}

#[test]
fn flushall_keeps_rules() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH *");
    s.ok("SMARTCACHE.SET k v");
    s.ok("FLUSHALL");
    assert_eq!(order(&s), ["r"]);
    s.ok("FLUSHALL ASYNC");
    s.ok("FLUSHDB");
    assert_eq!(rule_of(&s, "k"), "r");
}

#[test]
fn rules_are_shared_by_all_databases() {
    let s = Server::start();
    s.ok("SELECT 3");
    s.ok("SMARTCACHE.RULE SET r MATCH *");
    s.ok("SELECT 0");
    assert_eq!(rule_of(&s, "k"), "r");
}

#[test]
fn hundreds_of_rules_find_the_right_one() {
    let s = Server::start();
    for i in 0..300 {
        s.ok(&format!("SMARTCACHE.RULE SET r{i} MATCH k{i}:*"));
    }
    assert_eq!(s.ok("SMARTCACHE.RULE LIST").array().len(), 300);
    for i in [0, 1, 17, 299] {
        assert_eq!(rule_of(&s, &format!("k{i}:x")), format!("r{i}"));
    }
}

#[test]
fn rules_can_be_configured() {
    let s = Server::with(r#"smartcache.rules '[{"name":"profile","match":["*:profile","*:profile:*"],"scale":2}]'"#);
    assert_eq!(order(&s), ["profile"]);
    s.ok("SMARTCACHE.SET a:profile v TTL 100");
    assert_within!(s.fresh_ms("a:profile"), 170_000..=200_000);
}

#[test]
fn configured_rules_take_the_same_options() {
    let s = Server::start();
    let json = r#"[{"name":"r","match":["k*"],"priority":3,"ttl":"10m","scale":0.5,"min":1,"max":"1d","jitter":"10%",
        "swr":"30s","sie":60,"negative":"5s","lock":"3s","beta":0.5,"codec":"gzip","minsize":100,"fills":4,
        "tag":["t:{1}"]}]"#;
    assert!(!s.call_args(args!["CONFIG", "SET", "smartcache.rules", json]).is_error());
    s.ok("SMARTCACHE.SET k1 v");
    assert_eq!(s.inspect("k1", "swr_ms").int(), 30_000);
    assert_eq!(s.inspect("k1", "sie_ms").int(), 60_000);
    assert_eq!(s.inspect("k1", "tags").texts(), ["t:1"]);
    assert_within!(s.fresh_ms("k1"), 240_000..=330_000);
}

#[test]
fn a_configured_rule_wins_over_a_commanded_one_and_cannot_be_deleted_by_command() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * TTL 100");
    s.call_args(args!["CONFIG", "SET", "smartcache.rules", r#"[{"name":"r","match":["*"],"ttl":1000}]"#]);
    assert_eq!(order(&s), ["r"]);
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 970_000..=1_000_000);
    let refused = s.call("SMARTCACHE.RULE DEL r");
    assert!(refused.error().contains("smartcache.rules"), "{refused}");
    // Removed from the configuration, the rule set by command applies again.
    s.call_args(args!["CONFIG", "SET", "smartcache.rules", ""]);
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    assert_eq!(s.ok("SMARTCACHE.RULE DEL r").int(), 1);
}

#[test]
fn names_and_patterns_may_be_any_bytes() {
    let s = Server::start();
    let (name, pattern, key) = (&b"\xff\0name"[..], &b"\xfe\r\n*"[..], &b"\xfe\r\nkey"[..]);
    let reply = s.call_args(args!["SMARTCACHE.RULE", "SET", name, "MATCH", pattern]);
    // Names are written to JSON and logs, so they may be refused, with an error.
    if reply.is_error() {
        assert!(reply.error().starts_with("ERR"), "{reply}");
        return;
    }
    s.call_args(args!["SMARTCACHE.SET", key, "v"]);
    assert_eq!(s.call_args(args!["SMARTCACHE.INSPECT", key]).field("rule").bytes(), name);
}
