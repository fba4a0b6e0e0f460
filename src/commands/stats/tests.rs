use crate::cache::stats::FIELDS;
use crate::cache::stats::health::REASONS;
use crate::testing::{TestNode, field_of};

#[test]
fn every_number_is_in_the_order_of_the_table() {
    let map = TestNode::at(1_000).call("SMARTCACHE.STATS");
    let mut rest = &map[..];
    for field in FIELDS {
        let at = rest.find(&format!("\"{}\": ", field.name)).unwrap_or_else(|| panic!("{} in {map}", field.name));
        rest = &rest[at..];
    }
    assert_eq!(map.matches(": ").count(), FIELDS.len());
}

#[test]
fn sizes_follow_the_entries() {
    let mut node = TestNode::at(1_000);
    let mut are = |line: &str| {
        node.call(line);
        ["entries", "raw_bytes", "stored_bytes", "overhead_bytes", "compression_ratio"].map(|name| node.stat(name))
    };
    assert_eq!(are("GET k"), ["0", "0", "0", "0", "1"]);
    assert_eq!(are("SET k 12345"), ["1", "5", "5", "24", "1"]);
    assert_eq!(are("SET k 123 SWR 5 TAGS 2 a b"), ["1", "3", "3", "52", "1"]);
    assert_eq!(are("ABSENT none"), ["2", "3", "3", "76", "1"]);
    let long = format!("SET long {}", "x".repeat(1_000));
    let [entries, raw, stored, _, ratio] = are(&long);
    assert_eq!((&entries[..], &raw[..]), ("3", "1003"));
    let ratio_of = 1_003.0 / stored.parse::<f64>().unwrap();
    assert!((ratio.parse::<f64>().unwrap() - ratio_of).abs() < 0.006, "{ratio} {ratio_of}");
    assert_eq!(are("DEL k none long"), ["0", "0", "0", "0", "1"]);
    node.call(&long);
    let saved = node.stat("saved_bytes").parse::<u64>().unwrap();
    assert_eq!(saved, 1_003 - stored.parse::<u64>().unwrap(), "what did not shrink saves nothing");
}

#[test]
fn rates_are_over_the_time_since_the_reset() {
    let mut node = TestNode::at(1_000);
    node.call("SET k v");
    node.advance(4_000);
    (0..10).for_each(|_| drop(node.call("GET k")));
    assert_eq!((node.stat("requests_per_sec"), node.stat("uptime_ms")), ("2.5".into(), "4000".into()));
    node.call("GET");
    assert_eq!(node.stat("errors"), "1");
    let rate: f64 = node.stat("error_rate").parse().unwrap();
    assert!((5.0..8.0).contains(&rate), "one of about 16 calls: {rate}");
    for day in [0, 200_000_000] {
        node.set_clock(day); // set back, and far ahead: the wall clock does not matter
        assert_eq!((node.stat("requests_per_sec"), node.stat("uptime_ms")), ("2.5".into(), "4000".into()));
    }
}

#[test]
fn it_has_no_effects() {
    let mut node = TestNode::at(1_000);
    node.call("STATS RULES WINDOW 5m JSON");
    assert!(node.effects.is_empty());
    assert_eq!(node.stat("requests"), "0");
}

#[test]
fn each_key_counts_for_its_rule_and_the_rows_sum_to_the_whole() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET user MATCH user:*");
    node.call("RULE SET idle MATCH idle:*");
    node.call("MSET 2 user:1 v other v");
    node.call("MGET user:1 user:1 user:2 other");
    node.call("GETLOCK user:3 LOCK 5");
    node.call("GETLOCK user:3");
    let sections = |node: &mut TestNode, of: &str| {
        let map = node.call(&format!("STATS{of}"));
        ["requests", "hits", "misses", "busy", "sets", "leases", "entries"].map(|name| field_of(&map, name))
    };
    assert_eq!(sections(&mut node, " RULE user"), ["5", "2", "2", "1", "1", "1", "1"]);
    assert_eq!(sections(&mut node, " RULE idle"), ["0"; 7]);
    assert_eq!(sections(&mut node, " RULE (none)"), ["1", "1", "0", "0", "1", "0", "1"]);
    assert_eq!(sections(&mut node, ""), ["6", "3", "2", "1", "2", "1", "2"]);
    let rules = node.call("STATS RULES");
    assert!(rules.starts_with("{\"user\": {\"requests\": 5, \"hits\": 2,"), "{rules}");
    assert_eq!(rules.matches("\"requests\": ").count(), 3);
    assert!(rules.find("\"idle\"").unwrap() < rules.find("\"(none)\"").unwrap());
    for name in ["errors", "panics", "uptime_ms", "counting_ms", "waiters"] {
        assert!(!rules.contains(&format!("\"{name}\"")), "{name} belongs to no rule");
    }
}

#[test]
fn the_counts_of_a_deleted_rule_are_added_to_none() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET r MATCH *");
    node.call("SET k v");
    node.call("GET k");
    node.advance(30_000);
    node.call("GET k");
    node.call("RULE DEL r");
    node.call("GET k");
    let of = |node: &mut TestNode, words: &str| field_of(&node.call(&format!("STATS {words}")), "requests");
    assert_eq!(of(&mut node, "RULE (none)"), "3");
    node.advance(40_000);
    assert_eq!((of(&mut node, "WINDOW 1m"), of(&mut node, "RULE (none) WINDOW 1m")), ("2".into(), "2".into()));
    node.call("RULE SET r MATCH *");
    node.call("GET k"); // its entry was stored under the deleted rule
    assert_eq!((of(&mut node, "RULE r"), of(&mut node, "RULE (none)")), ("0".into(), "4".into()));
}

#[test]
fn a_window_covers_what_was_counted_lately_whatever_the_wall_clock_does() {
    const DAY: u64 = 86_400_000;
    for moved in [0, DAY, 3 * DAY] {
        let mut node = TestNode::at(2 * DAY);
        node.call("GET k");
        node.set_clock(moved);
        node.advance(50_000);
        node.call("MGET k k");
        let requests = |node: &mut TestNode| {
            ["1m", "5M", "1h"].map(|w| field_of(&node.call(&format!("STATS WINDOW {w}")), "requests"))
        };
        assert_eq!(requests(&mut node), ["3", "3", "3"]);
        node.advance(20_000);
        assert_eq!(requests(&mut node), ["2", "3", "3"]);
        node.advance(400_000);
        assert_eq!(requests(&mut node), ["0", "0", "3"]);
        node.advance(3_700_000);
        assert_eq!(requests(&mut node), ["0", "0", "0"]);
        assert_eq!((node.stat("requests"), node.stat("uptime_ms")), ("3".into(), "4170000".into()));
    }
}

#[test]
fn counting_ms_is_the_time_that_the_counters_cover() {
    let mut node = TestNode::at(1_000);
    let sections = |node: &mut TestNode| {
        ["", " WINDOW 1m", " WINDOW 1h"]
            .map(|words| node.call(&format!("STATS{words}")))
            .map(|map| (field_of(&map, "counting_ms"), field_of(&map, "uptime_ms")))
            .map(|(counting, uptime)| (counting.parse::<u64>().unwrap(), uptime.parse::<u64>().unwrap()))
    };
    node.advance(7_200_000);
    let [whole, minute, hour] = sections(&mut node);
    assert_eq!(whole, (7_200_000, 7_200_000));
    assert!((60_000..61_000).contains(&minute.0) && (3_600_000..3_660_000).contains(&hour.0), "{minute:?} {hour:?}");
    node.call("RESETSTAT");
    node.advance(90_000);
    let [whole, minute, hour] = sections(&mut node);
    assert_eq!((whole, hour), ((90_000, 7_290_000), (90_000, 7_290_000)));
    assert!((60_000..61_000).contains(&minute.0), "{minute:?}");
}

#[test]
fn a_wall_clock_that_jumps_a_day_either_way_changes_no_number() {
    const DAY: u64 = 86_400_000;
    let sections = |by_ms: fn(u64) -> u64| {
        let mut node = TestNode::at(3 * DAY);
        let jump = |node: &mut TestNode| node.set_clock(by_ms(node.now().us() / 1_000));
        node.call("RULE SET r MATCH r* LOCK 2");
        node.call("SET kept v PERSIST");
        let token = node.token("GETLOCK r1");
        node.call_as(2, "GETLOCK r1 WAIT 9");
        node.call("GETLOCK r2 LOCK 1");
        node.advance(300);
        jump(&mut node);
        node.call("MGET kept kept nothing");
        node.advance(400);
        node.call(&format!("SET r1 v PERSIST TOKEN {token}"));
        node.call("GET r1");
        let late = node.token("GETLOCK r3");
        node.advance(1_000);
        jump(&mut node);
        node.advance(5_000);
        node.call(&format!("SET r3 v PERSIST TOKEN {late}"));
        node.call("GET r3");
        let mut all = vec![node.call("HOTKEYS"), node.call("HEALTH")];
        for words in ["", "RULES", "WINDOW 1m", "RULES WINDOW 5m", "WINDOW 1h"] {
            all.push(node.call(format!("STATS {words}").trim_end()));
        }
        node.advance(70_000);
        jump(&mut node);
        all.push(node.call("STATS WINDOW 1m"));
        all
    };
    let still = sections(|ms| ms);
    let names = ["hits", "misses", "leases_expired", "fills", "origin_ms", "waits_served", "wait_ms_p50"];
    assert_eq!(names.map(|name| field_of(&still[2], name)), ["5", "4", "2", "1", "700", "1", "672"]);
    assert_eq!(sections(|ms| ms + DAY), still);
    assert_eq!(sections(|ms| ms - DAY), still);
}

#[test]
fn a_hit_saves_the_load_time_of_its_entry() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET r MATCH k*");
    let token = node.token("GETLOCK k BETA 0");
    node.advance(700);
    node.call(&format!("SET k v EX 5 SWR 5 TOKEN {token}"));
    for line in ["GET k", "MGET k k", "GETLOCK k BETA 0"] {
        node.call(line);
    }
    node.call("STALE k");
    node.call("GET k STALE");
    node.call("GET k"); // a miss saves nothing
    node.call("SET k2 v");
    node.call("GET k2"); // its load time was not measured
    let worth = |map: &str| ["origin_ms", "origin_ms_saved", "hits", "stale_hits"].map(|name| field_of(map, name));
    assert_eq!(worth(&node.call("STATS RULE r")), ["700", "3500", "5", "1"]);
    assert_eq!(worth(&node.call("STATS")), ["700", "3500", "5", "1"]);
}

#[test]
fn a_miss_has_its_reason() {
    let mut node = TestNode::at(1_000);
    let why = |node: &mut TestNode| {
        ["misses_cold", "misses_expired", "misses_invalidated", "misses_evicted"].map(|name| node.stat(name))
    };
    node.call("MSET 4 a v b v c v d v EX 5");
    node.evict("a");
    node.call("MGET a a never");
    assert_eq!(why(&mut node), ["1", "0", "0", "2"]);
    node.call("DEL b");
    node.call("STALE c");
    node.call("MGET b c");
    assert_eq!(why(&mut node), ["2", "0", "1", "2"]);
    node.advance(5_000);
    node.call("GET d");
    assert_eq!(why(&mut node), ["2", "1", "1", "2"], "the server has expired it");
    node.call("SET a v");
    node.call("DEL a");
    node.call("GET a");
    assert_eq!(why(&mut node), ["3", "1", "1", "2"], "evicted once, but then stored and deleted");
    node.evict("b");
    node.call("GETLOCK b");
    assert_eq!(why(&mut node), ["3", "1", "1", "3"]);
    node.plain_del("c");
    node.state.stats.miss_reasons.invalidated(b"c"); // as the host reports entries that the sweep has freed
    node.call("MGET c never");
    assert_eq!(why(&mut node), ["4", "1", "2", "3"]);
}

#[test]
fn waits_have_percentiles() {
    let mut node = TestNode::at(1_000);
    let waits = |node: &mut TestNode, of: &str| {
        let map = node.call(&format!("STATS {of}"));
        ["waits", "wait_ms_p50", "wait_ms_p99"].map(|name| field_of(&map, name))
    };
    assert_eq!(waits(&mut node, "RULES"), ["0", "0", "0"]);
    let token = node.token("GETLOCK k");
    for client in 10..20 {
        node.call_as(client, "GETLOCK k WAIT 9");
        node.advance(if client == 10 { 600 } else { 1 });
    }
    node.call(&format!("SET k v TOKEN {token}"));
    assert_eq!(waits(&mut node, "RULE (none)"), ["10", "5", "608"], "to a sixteenth");
    node.advance(100_000);
    assert_eq!(waits(&mut node, "WINDOW 1m"), ["0", "0", "0"]);
    assert_eq!(waits(&mut node, "WINDOW 5m"), ["10", "5", "608"]);
}

#[test]
fn unknown_words_are_errors_that_name_the_known_ones() {
    let mut node = TestNode::at(1_000);
    for (line, wanted) in [
        ("STATS x", "ERR syntax error near 'x'"),
        ("STATS RULE", "ERR syntax error near 'RULE'"),
        ("STATS RULE a RULES", "ERR syntax error near 'RULES'"),
        ("STATS JSON PROMETHEUS", "ERR syntax error near 'PROMETHEUS'"),
        ("STATS WINDOW", "ERR syntax error near 'WINDOW'"),
        ("STATS WINDOW 2m", "ERR invalid WINDOW '2m': say 1m, 5m or 1h"),
        ("STATS WINDOW 1m WINDOW 1m", "ERR syntax error near 'WINDOW'"),
        ("STATS RULE nosuch", "ERR there is no rule 'nosuch': SMARTCACHE.RULE LIST names those there are"),
        (
            "STATS RULE a\"\r\n\u{1}",
            "ERR there is no rule 'a\\\"\\r\\n\\x01': SMARTCACHE.RULE LIST names those there are",
        ),
    ] {
        assert_eq!(node.refusal(line), wanted, "{line}");
    }
}

#[test]
fn json_and_prometheus_have_the_numbers_of_the_map() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET a.b:c_d-e MATCH k*");
    node.call("MGET k k2 other");
    let text = |node: &mut TestNode, line: &str| {
        let answer = node.call(line);
        answer.trim_matches('"').replace("\\\"", "\"").replace("\\n", "\n")
    };
    let json: serde_json::Value = serde_json::from_str(&text(&mut node, "STATS JSON")).unwrap();
    assert_eq!(json["requests"], 3);
    let json: serde_json::Value = serde_json::from_str(&text(&mut node, "stats rules json window 1H")).unwrap();
    assert_eq!((&json["a.b:c_d-e"]["misses"], &json["(none)"]["misses"]), (&2.into(), &1.into()));
    let json: serde_json::Value = serde_json::from_str(&text(&mut node, "STATS RULE (none) JSON")).unwrap();
    assert_eq!(json["misses_cold"], 1);
    let scrape = text(&mut node, "STATS RULES PROMETHEUS");
    for line in [
        "smartcache_misses_total{rule=\"a.b:c_d-e\"} 2",
        "smartcache_misses_total{rule=\"(none)\"} 1",
        "smartcache_errors_total 0",
        "# TYPE smartcache_hit_rate gauge",
    ] {
        assert!(scrape.lines().any(|other| other == line), "{line}\n{scrape}");
    }
    assert!(
        !scrape.lines().any(|line| line.starts_with("smartcache_misses_total ")),
        "or a sum over the rows would count twice"
    );
    assert!(text(&mut node, "STATS PROMETHEUS WINDOW 1m").contains("\nsmartcache_misses{window=\"1m\"} 3\n"));
}

#[test]
fn the_reasons_of_health_are_in_every_scrape_of_the_node() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET r MATCH r*");
    // The number of reasons shown, and those with the value 1.
    let sections = |node: &mut TestNode, words: &str| {
        let text = node.call(format!("STATS PROMETHEUS {words}").trim_end()).replace("\\\"", "'").replace("\\n", "\n");
        let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("smartcache_health{reason='")).collect();
        let given = lines.iter().filter_map(|line| line.strip_suffix("'} 1")).map(str::to_owned);
        (lines.len(), given.collect::<Vec<_>>())
    };
    for words in ["", "RULES"] {
        assert_eq!(sections(&mut node, words), (REASONS.len(), vec![]));
    }
    (0..5).for_each(|i| drop(node.call(&format!("SET k{i} v TOKEN bogus"))));
    for words in ["", "RULES"] {
        assert_eq!(sections(&mut node, words), (REASONS.len(), vec!["fills_refused".to_owned()]));
    }
    node.advance(400_000);
    assert_eq!(sections(&mut node, "RULES"), (REASONS.len(), vec![]), "its end is visible");
    for words in ["RULE r", "RULE (none)", "WINDOW 5m", "RULES WINDOW 1m"] {
        assert_eq!(sections(&mut node, words), (0, vec![]), "{words}");
    }
}
