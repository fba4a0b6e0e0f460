use crate::cache::random::Random;
use crate::testing::TestNode;

fn node() -> TestNode {
    TestNode::at(1_000_000)
}

/// How long a value stays fresh after this command, in milliseconds.
fn lives(node: &mut TestNode, line: &str) -> String {
    assert_eq!(node.call(line), "OK", "{line}");
    node.inspect(line.split(' ').nth(1).unwrap(), "fresh_ms")
}

/// A node with `k` in one of the states that `NX` and `XX` distinguish.
fn with(state: &str) -> TestNode {
    let mut node = node();
    match state {
        "nothing" => {}
        "fresh" => drop(node.call("SET k old EX 9")),
        "stale" => drop(node.call("SET k old EX 5 SWR 60")),
        "made stale" => drop((node.call("SET k old EX 90 SWR 60"), node.call("STALE k"))),
        "dead" => drop((node.call("SET k old EX 5"), node.pexpireat("k", 9_000_000))),
        "absent" => drop(node.call("ABSENT k")),
        "absent and over" => drop((node.call("ABSENT k EX 5"), node.pexpireat("k", 9_000_000))),
        "string" => node.plain_set("k", "old", None),
        "list" => node.plain_list("k"),
        other => panic!("{other}"),
    }
    node.advance(5_000);
    node
}

/// Bytes that no codec can compress.
fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    (0..len).map(|_| random.bits() as u8).collect()
}

#[test]
fn a_value_is_stored_replicated_signalled_and_notified() {
    let mut node = node();
    assert_eq!(node.call("SMARTCACHE.SET k v"), "OK");
    assert_eq!(node.effects, ["replicate entry k", "signal k", "notify smartcache.set k"]);
    let (header, stored) = node.written(b"k").unwrap();
    let sent: [&[u8]; 4] = [b"SMARTCACHE.STORE", b"k", &header, &stored];
    node.call("SMARTCACHE.SET k v");
    assert_eq!(node.replicated.len(), 1);
    assert_eq!(node.replicated[0][..2], sent[..2], "not the client's command");
    assert_eq!(node.call("SMARTCACHE.GET k"), "\"v\"");
}

#[test]
fn a_base_is_scaled_and_bounded_by_the_rule_and_an_exact_lifetime_only_bounded() {
    let mut node = node();
    node.call("RULE SET r MATCH r* TTL 10 SCALE 2 MIN 15 MAX 60");
    for (line, ms) in [
        ("SET r v", "20000"),
        ("SET r v TTL 20", "40000"),
        ("SET r v TTL 1", "15000"),
        ("SET r v TTL 40", "60000"),
        ("SET r v EX 5", "5000"),
        ("SET r v PX 1", "1"),
        ("SET r v EX 70", "60000"),
        ("SET r v EXAT 1030", "30000"),
        ("SET r v PXAT 1000001", "1"),
        ("SET r v EXAT 2000", "60000"),
        ("SET r v PERSIST", "60000"),
        ("SET k v", "3600000"),
        ("SET k v TTL 250ms", "250"),
        ("SET k v ttl 0.5", "500"),
        ("SET k v TTL 2h", "7200000"),
        ("SET k v EX 3153600000", "3153600000000"),
        ("SET k v EX 9999999999", "9999999999000"),
        ("SET k v PXAT 253402300799999", "253402299799999"),
        ("SET k v EX 9223372036854775", "281474975710654"),
        ("SET k v PX 9223372036854775807", "281474975710654"),
        ("SET k v EXAT 9223372036854775", "281474975710654"),
        ("SET k v PXAT 9223372036854775807", "281474975710654"),
        ("SET k v PERSIST", "-1"),
    ] {
        assert_eq!(lives(&mut node, line), ms, "{line}");
    }
    assert_eq!(node.expire_at("k"), None);
}

#[test]
fn settings_apply_where_neither_command_nor_rule_gives_a_lifetime() {
    let mut node = node();
    node.config("default-ttl", "7").unwrap();
    assert_eq!(lives(&mut node, "SET k v"), "7000");
    node.config("max-ttl", "5").unwrap();
    for line in ["SET k v", "SET k v TTL 6", "SET k v EX 6", "SET k v EXAT 1006", "SET k v PERSIST"] {
        assert_eq!(lives(&mut node, line), "5000", "{line}");
    }
    node.config("max-ttl", "0").unwrap();
    node.config("default-ttl", "0").unwrap();
    assert_eq!(lives(&mut node, "SET k v"), "-1");
}

#[test]
fn jitter_is_drawn_once_and_travels_as_an_absolute_time() {
    let mut node = node();
    node.config("jitter", "10%").unwrap();
    let lifetimes: Vec<u64> = (0..200).map(|_| lives(&mut node, "SET k v TTL 100").parse().unwrap()).collect();
    assert!(lifetimes.iter().all(|ms| (90_000..=110_000).contains(ms)));
    assert!(lifetimes.iter().any(|ms| *ms < 92_000) && lifetimes.iter().any(|ms| *ms > 108_000));
    node.call("SET k v TTL 100");
    let sent = node.replicated[0].clone();
    let mut replica = TestNode::at(1_000_000);
    replica.config("jitter", "100%").unwrap();
    assert_eq!(replica.obey(&sent.iter().map(Vec::as_slice).collect::<Vec<_>>()), "OK");
    assert_eq!(replica.inspect("k", "fresh_ms"), node.inspect("k", "fresh_ms"));
    assert_eq!(lives(&mut node, "SET k v EX 100"), "100000", "an exact lifetime has no jitter");
}

#[test]
fn a_lifetime_that_ends_in_the_past_deletes_the_key_and_replies_ok() {
    for past in ["EXAT 1", "EXAT 1000", "PXAT 999999", "PXAT 1000000"] {
        let mut node = node();
        node.call("SET k old");
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {past}")), "OK");
        assert_eq!(node.effects, ["replicate unlink k", "signal k", "notify del k"]);
        assert_eq!((node.dbsize(), node.stat("sets")), (0, "1".into()), "{past}");
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {past}")), "OK");
        assert!(node.effects.is_empty(), "there was nothing");
        node.plain_list("k");
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {past}")), "OK");
        assert_eq!(node.dbsize(), 0);
    }
}

#[test]
fn windows_come_from_the_command_then_the_rule_then_the_settings() {
    let mut node = node();
    let mut windows = |line: &str| {
        node.call(line);
        (node.inspect("k", "swr_ms"), node.inspect("k", "sie_ms"), node.expire_at("k").map(|at| at - 1_000_000))
    };
    let are = |swr: &str, sie: &str, gone: u64| (swr.to_string(), sie.to_string(), Some(gone));
    assert_eq!(windows("SET k v EX 10"), are("0", "0", 10_000));
    assert_eq!(windows("SET k v EX 10 SWR 2 SIE 1.5"), are("2000", "1500", 12_000));
    assert_eq!(windows("SET k v EX 10 SIE 1h"), are("0", "3600000", 3_610_000));
    node.config("swr", "3").unwrap();
    node.config("sie", "4").unwrap();
    let mut windows = |line: &str| {
        node.call(line);
        (node.inspect("k", "swr_ms"), node.inspect("k", "sie_ms"), node.expire_at("k").map(|at| at - 1_000_000))
    };
    assert_eq!(windows("SET k v EX 10"), are("3000", "4000", 14_000));
    assert_eq!(windows("SET k v EX 10 SWR 0 SIE 0"), are("0", "0", 10_000));
    windows("RULE SET r MATCH * SWR 5");
    assert_eq!(windows("SET k v EX 10"), are("5000", "4000", 15_000));
    assert_eq!(windows("SET k v EX 10 SWR 1 SIE 2"), are("1000", "2000", 12_000));
    windows("RULE SET r MATCH * SWR 0 SIE 0");
    assert_eq!(windows("SET k v EX 10"), are("0", "0", 10_000), "a rule's 0 counts as given");
    assert_eq!(windows("SET k v PERSIST SWR 5"), ("5000".into(), "0".into(), None));
}

#[test]
fn nx_stores_only_where_nothing_fresh_is_and_xx_only_where_something_fresh_or_stale_is() {
    for (state, nx, xx) in [
        ("nothing", true, false),
        ("fresh", false, true),
        ("stale", true, true),
        ("made stale", true, true),
        ("dead", true, false),
        ("absent", true, false),
        ("absent and over", true, false),
        ("string", false, true),
        ("list", false, false),
    ] {
        for (word, stores) in [("NX", nx), ("XX", xx), ("nx", nx)] {
            let mut node = with(state);
            let before = node.picture();
            let answer = node.call(&format!("SMARTCACHE.SET k new {word}"));
            let effects = node.effects.len();
            assert_eq!(answer, if stores { "OK" } else { "(nil)" }, "{word}, {state}");
            assert_eq!(node.stat("sets_refused"), if stores { "0" } else { "1" });
            if stores {
                assert_eq!(node.call("GET k"), "\"new\"");
            } else {
                assert_eq!((node.picture(), effects), (before, 0), "{word}, {state}");
            }
        }
        assert_eq!(with(state).call("SMARTCACHE.SET k new"), "OK", "without a condition any type is overwritten");
    }
}

#[test]
fn a_clock_that_steps_back_still_makes_later_stamps() {
    let mut node = node();
    node.call("SET k v EX 5");
    let first = node.state.clock.last();
    node.set_clock(500_000);
    node.call("SET k w EX 5");
    assert!(node.state.clock.last() > first);
    assert_eq!((node.inspect("k", "age_ms"), node.inspect("k", "fresh_ms")), ("0".into(), "5000".into()));
    node.advance(5_000);
    assert_eq!(node.call("GET k"), "(nil)", "lifetimes follow the wall clock");
}

#[test]
fn tags_are_kept_once_each_before_those_of_the_rule() {
    let mut node = node();
    node.call("RULE SET r MATCH user:* TAG u:{1} TAG b");
    node.call("SET user:1 v TAGS 4 b a b \x01");
    assert_eq!(node.inspect("user:1", "tags"), r#"["b", "a", "\x01", "u:1"]"#);
    node.call("SET user:1 v");
    assert_eq!(node.inspect("user:1", "tags"), r#"["u:1", "b"]"#, "the new entry has only its new tags");
    node.call("SET k v TAGS 1 NX NX");
    assert_eq!(node.inspect("k", "tags"), r#"["NX"]"#, "a counted word is never an option");
}

#[test]
fn an_entry_takes_64_tags_of_255_bytes_those_of_its_rule_included() {
    let mut node = node();
    node.call("RULE SET r MATCH * TAG one TAG two");
    let tags: Vec<String> = (0..62).map(|n| format!("{n:0255}")).collect();
    node.call(&format!("SET k v TAGS 62 {}", tags.join(" ")));
    let shown = node.inspect("k", "tags");
    assert!(shown.ends_with("\"two\"]") && shown.matches(", ").count() == 63, "{shown}");
    let error = "ERR too many tags: 63 of its own and those of rule 'r' are over 64";
    assert_eq!(node.refusal(&format!("SET k v TAGS 63 {} last", tags.join(" "))), error);
    assert_eq!(node.refusal(&format!("MSET 2 a v k v TAGS 63 {} last", tags.join(" "))), error);
    node.call(&format!("SET k v TAGS 63 {} one", tags.join(" "))); // the rule's tag, named again
    assert!(node.inspect("k", "tags").ends_with("\"one\", \"two\"]"));
}

#[test]
fn a_codec_is_taken_from_the_command_then_the_rule_then_the_setting() {
    let long = "0123456789".repeat(100);
    let mut node = node();
    let mut codec = |line: &str| {
        node.call(line);
        node.inspect("k", "codec")
    };
    assert_eq!(codec(&format!("SET k {long}")), "\"zstd\"", "auto");
    for name in ["none", "gzip", "zstd", "lz4"] {
        assert_eq!(codec(&format!("SET k {long} CODEC {name}")), format!("\"{name}\""));
    }
    assert_eq!(codec(&format!("SET k {long} CODEC AUTO")), "\"zstd\"");
    codec("RULE SET r MATCH * CODEC gzip");
    assert_eq!(codec(&format!("SET k {long}")), "\"gzip\"");
    assert_eq!(codec(&format!("SET k {long} CODEC lz4")), "\"lz4\"");
    codec("RULE DEL r");
    node.config("codec", "none").unwrap();
    node.call(&format!("SET k {long}"));
    assert_eq!(node.inspect("k", "codec"), "\"none\"");
}

#[test]
fn a_value_that_is_small_or_does_not_shrink_is_stored_as_it_is() {
    let mut node = node();
    let mut codec = |value: &[u8]| {
        assert_eq!(node.call_words(&[b"SET", b"k", value, b"CODEC", b"zstd"]), "OK");
        assert_eq!(node.call("GET k"), format!("\"{}\"", value.escape_ascii()));
        node.inspect("k", "codec")
    };
    assert_eq!(codec(&[b'x'; 63]), "\"none\"");
    assert_eq!(codec(&[b'x'; 64]), "\"zstd\"");
    assert_eq!(codec(&noise(5_000)), "\"none\"");
    assert_eq!(codec(b""), "\"none\"");
    node.config("min-size", "1").unwrap();
    node.config("min-savings", "100%").unwrap();
    node.call(&format!("SET k {}", "x".repeat(1_000)));
    assert_eq!(node.inspect("k", "codec"), "\"none\"", "no codec saves 100 %");
}

#[test]
fn a_large_value_is_compressed_by_a_worker_after_the_reply() {
    let mut node = node();
    node.config("offload-size", "1000").unwrap();
    let (at, over) = ("x".repeat(1_000), "x".repeat(1_001));
    node.call(&format!("SET at {at}"));
    assert!(node.jobs.is_empty());
    node.call(&format!("SET k {over} EX 5 SWR 5 TAGS 1 t"));
    let effects = ["compress k", "replicate entry k", "signal k", "notify smartcache.set k"];
    assert_eq!(node.effects, effects);
    assert_eq!(node.replicated[0].last().unwrap(), b"zstd", "a replica compresses for itself");
    assert_eq!((node.inspect("k", "codec"), node.inspect("k", "raw_bytes")), ("\"none\"".into(), "1001".into()));
    node.call("STALE k");
    node.run_workers();
    assert_eq!(node.inspect("k", "codec"), "\"zstd\"");
    assert_eq!(
        node.call("GET k STALE STATE"),
        format!(r#"["STALE", "{over}", (nil), 0, 0]"#),
        "it became stale meanwhile"
    );
    assert_eq!((node.inspect("k", "tags"), node.expire_at("k")), ("[\"t\"]".into(), Some(1_010_000)));
    assert_eq!(node.state.offload.counters.swapped, 1);
    assert_eq!(node.state.offload.queued_bytes(), 0);
}

#[test]
fn a_workers_result_for_a_value_that_was_replaced_or_deleted_is_dropped() {
    let mut node = node();
    node.config("offload-size", "1000").unwrap();
    let (old, new) = ("x".repeat(2_000), "y".repeat(2_000));
    node.call(&format!("SET k {old}"));
    node.call(&format!("SET k {new}"));
    node.call(&format!("SET gone {old}"));
    node.call("DEL gone");
    node.call(&format!("SET text {old}"));
    node.plain_set("text", "t", None);
    node.run_workers();
    assert_eq!(node.call("MGET k gone text"), format!("[\"{new}\", (nil), \"t\"]"));
    let counters = node.state.offload.counters;
    assert_eq!((counters.admitted, counters.swapped, counters.dropped), (4, 1, 3));
    assert_eq!(node.state.offload.queued_bytes(), 0);
}

#[test]
fn a_workers_result_replaces_only_the_bytes_it_was_made_from() {
    let (mut node, mut replica) = (node(), TestNode::replica_at(1_000_000));
    node.config("offload-size", "1000").unwrap();
    let (first, second, short) = ("x".repeat(2_000), "xy".repeat(1_000), "x".repeat(22));
    let since = node.call("STAMP").trim_matches('"').to_owned();
    let fill = |value: &str| format!("SET filled {value} CODEC zstd SINCE {since}");
    // What MSET stores twice a replica gets twice, as it is in the end. Two fills of one load have one stamp.
    for (lines, last) in [
        (vec![format!("MSET 2 k {first} k {short} CODEC zstd")], &short),
        (vec![format!("MSET 2 k {short} k {first} CODEC zstd")], &first),
        (vec![format!("MSET 2 k {first} k {second} CODEC zstd")], &second),
        (vec![fill(&first), fill(&second)], &second),
    ] {
        for line in &lines {
            assert_ne!(node.call(line), "\"LOST\"", "{line}");
            for words in &node.replicated {
                replica.obey(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
        }
        node.run_workers();
        replica.run_workers();
        let key = if lines.len() == 1 { "k" } else { "filled" };
        assert_eq!(node.call(&format!("GET {key}")), format!("\"{last}\""));
        assert_eq!(replica.written(key.as_bytes()), node.written(key.as_bytes()), "{lines:?}");
    }
    assert_eq!(node.state.offload.queued_bytes(), 0);
}

#[test]
fn a_value_over_the_limit_is_refused_and_the_old_one_stays() {
    let mut node = node();
    node.config("max-value", "10").unwrap();
    assert_eq!(node.call("SET k 0123456789"), "OK");
    let error = node.refusal("SMARTCACHE.SET k 0123456789a");
    assert_eq!(error, "ERR value of 11 bytes is over the limit of 10: store less, or raise smartcache.max-value");
    assert_eq!((node.stat("sets"), node.stat("sets_refused")), ("1".into(), "1".into()));
}

#[test]
fn an_error_names_the_word_and_changes_nothing() {
    let mut node = node();
    node.call("SET k old EX 9 SWR 9 TAGS 1 t");
    let duration = "is not a duration: say seconds (30, 0.5) or a unit (250ms, 30s, 5m, 2h, 7d)";
    let whole = |most: u64| format!("a whole number from 1 to {most} is wanted");
    for (options, error) in [
        ("FOO", "syntax error near 'FOO'".into()),
        ("TTL", "syntax error near 'TTL'".into()),
        ("TTL 5 TTL 5", "syntax error near 'TTL'".into()),
        ("TTL 5 ex 5", "syntax error near 'ex'".into()),
        ("PERSIST PXAT 5", "syntax error near 'PXAT'".into()),
        ("PERSIST PERSIST", "syntax error near 'PERSIST'".into()),
        ("NX XX", "syntax error near 'XX'".into()),
        ("NX nx", "syntax error near 'nx'".into()),
        ("SWR 1 SWR 1", "syntax error near 'SWR'".into()),
        ("SIE 1 SIE 1", "syntax error near 'SIE'".into()),
        ("CODEC none CODEC none", "syntax error near 'CODEC'".into()),
        ("CODEC", "syntax error near 'CODEC'".into()),
        ("TAGS 1 a TAGS 1 b", "syntax error near 'TAGS'".into()),
        ("TAGS", "syntax error near 'TAGS'".into()),
        ("TOKEN", "syntax error near 'TOKEN'".into()),
        ("TOKEN t TOKEN t", "syntax error near 'TOKEN'".into()),
        ("TOKEN t SINCE s", "syntax error near 'SINCE'".into()),
        ("SINCE s TOKEN t", "syntax error near 'TOKEN'".into()),
        ("TOKEN t NX", "syntax error near 'NX'".into()),
        ("XX TOKEN t", "syntax error near 'TOKEN'".into()),
        ("5", "syntax error near '5'".into()),
        ("", "syntax error near ''".into()),
        ("TTL 0", "invalid TTL '0': must be more than 0".into()),
        ("TTL -1", format!("invalid TTL '-1': {duration}")),
        ("TTL x", format!("invalid TTL 'x': {duration}")),
        ("TTL 1e3", format!("invalid TTL '1e3': {duration}")),
        ("TTL inf", format!("invalid TTL 'inf': {duration}")),
        ("TTL 5w", format!("invalid TTL '5w': {duration}")),
        ("TTL 36501d", "invalid TTL '36501d': is too long: a duration is at most 36500d".into()),
        (
            "TTL 99999999999999999999999",
            "invalid TTL '99999999999999999999999': is too long: a duration is at most 36500d".into(),
        ),
        ("SWR -1", format!("invalid SWR '-1': {duration}")),
        ("SIE 5x", format!("invalid SIE '5x': {duration}")),
        ("EX 0", format!("invalid EX '0': {}", whole(9_223_372_036_854_775))),
        ("EX -5", format!("invalid EX '-5': {}", whole(9_223_372_036_854_775))),
        ("EX 1.5", format!("invalid EX '1.5': {}", whole(9_223_372_036_854_775))),
        ("EX 9223372036854776", format!("invalid EX '9223372036854776': {}", whole(9_223_372_036_854_775))),
        ("PX 0", format!("invalid PX '0': {}", whole(9_223_372_036_854_775_807))),
        ("PX 9223372036854775808", format!("invalid PX '9223372036854775808': {}", whole(9_223_372_036_854_775_807))),
        ("EXAT 0", format!("invalid EXAT '0': {}", whole(9_223_372_036_854_775))),
        ("EXAT -1", format!("invalid EXAT '-1': {}", whole(9_223_372_036_854_775))),
        (
            "PXAT 9223372036854775808",
            format!("invalid PXAT '9223372036854775808': {}", whole(9_223_372_036_854_775_807)),
        ),
        ("CODEC brotli", "invalid CODEC 'brotli': one of auto none gzip zstd lz4 is wanted".into()),
        ("TAGS 0", format!("invalid TAGS '0': {}", whole(64))),
        ("TAGS -1 a", format!("invalid TAGS '-1': {}", whole(64))),
        ("TAGS a", format!("invalid TAGS 'a': {}", whole(64))),
        ("TAGS 65 a", format!("invalid TAGS '65': {}", whole(64))),
        ("TAGS 3 a b", "TAGS says 3, but 2 follow: give the count of what follows".into()),
        ("TAGS 1 a b", "syntax error near 'b'".into()),
        ("TAGS 2 a ", "invalid tag '': a tag has 1 to 255 bytes".into()),
    ] {
        assert_eq!(node.refusal(&format!("SMARTCACHE.SET k v {options}")), format!("ERR {error}"), "{options}");
    }
    let tag = format!("SET k v TAGS 1 {}", "x".repeat(256));
    assert_eq!(node.refusal(&tag), format!("ERR invalid tag '{}...': a tag has 1 to 255 bytes", "x".repeat(64)));
    for line in ["SMARTCACHE.SET", "SMARTCACHE.SET k"] {
        assert_eq!(node.refusal(line), "ERR wrong number of arguments for 'smartcache.set' command");
    }
    assert_eq!((node.stat("sets"), node.state.tags.len()), ("1".into(), 1));
}

#[test]
fn a_word_of_any_bytes_makes_a_one_line_error() {
    let mut node = node();
    let error = node.refusal_words(&[b"SET", b"k", b"v", b"a\r\nb\0\xff'"]);
    assert_eq!(error, r"ERR syntax error near 'a\r\nb\x00\xff''");
}

// ---------------------------------------------------------------- fills

/// A node where one caller loads `k` and two others wait, and the token option of its fill.
fn loading() -> (TestNode, String) {
    let mut node = node();
    let token = node.token("GETLOCK k LOCK 5");
    for client in 2..4 {
        assert_eq!(node.getlock(client, "k WAIT 60"), "(waiting)");
    }
    node.advance(1_000);
    (node, format!("TOKEN {token}"))
}

/// The late reply when the first waiter gets the next lease.
fn next() -> [(u64, String); 1] {
    [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]
}

#[test]
fn a_fill_is_stored_fresh_and_its_lease_is_spent() {
    let (mut node, token) = loading();
    assert_eq!(node.call(&format!("SMARTCACHE.SET k v EX 9 {token}")), "OK");
    assert_eq!(node.effects, ["replicate entry k", "signal k", "notify smartcache.set k"]);
    assert_eq!(node.late().len(), 2);
    assert_eq!((node.inspect("k", "load_ms"), node.inspect("k", "age_ms")), ("1000".into(), "0".into()));
    assert_eq!(node.inspect("k", "fresh_ms"), "9000", "lifetimes count from the store");
    assert_eq!(
        (node.stat("fills"), node.stat("leases"), node.stat("origin_ms")),
        ("1".into(), "0".into(), "1000".into())
    );
}

#[test]
fn a_load_that_outlives_its_lease_is_stored() {
    let mut node = node();
    let first = node.token("GETLOCK k LOCK 1");
    node.advance(1_000);
    let second = node.token("GETLOCK k LOCK 5");
    assert_eq!(node.getlock(3, "k WAIT 60"), "(waiting)");
    node.advance(1_000);
    assert_eq!(node.call(&format!("SMARTCACHE.SET k slow EX 9 TOKEN {first}")), "OK");
    assert_eq!(node.late(), [(3, r#"["HIT", "slow", (nil), 9000, 0]"#.into())]);
    assert_eq!(
        (node.inspect("k", "load_ms"), node.stat("fills_late")),
        ("(nil)".into(), "1".into()),
        "the load time of a late fill is not measured"
    );
    assert_eq!(node.call(&format!("SMARTCACHE.SET k second TOKEN {second}")), "OK", "the next lease was granted later");
    assert_eq!(node.call("GET k"), "\"second\"");
}

#[test]
fn a_fill_never_replaces_one_that_was_granted_later() {
    let mut node = node();
    let first = node.token("GETLOCK k LOCK 1");
    node.advance(1_000);
    let second = node.token("GETLOCK k");
    assert_eq!(node.call(&format!("SMARTCACHE.SET k second EX 1 TOKEN {second}")), "OK");
    assert_eq!(node.call(&format!("SMARTCACHE.SET k first TOKEN {first}")), r#""LOST""#);
    assert_eq!(node.call("GET k"), "\"second\"");
}

#[test]
fn an_older_load_is_lost_even_when_the_newer_value_is_gone_again() {
    let vanish: [fn(&mut TestNode); 5] = [
        |node| node.advance(1_000),
        |node| node.plain_del("k"),
        |node| node.plain_set("k", "t", Some(1_001_500)),
        |node| drop(node.call("DEL k")), // LOST comes before STALE
        |node| drop(node.call("SET k v EXAT 5")),
    ];
    for (nth, vanish) in vanish.into_iter().enumerate() {
        for newer in ["SET k newer EX 1", "ABSENT k EX 1", "SET k newer PXAT 1000001"] {
            let mut node = node();
            let token = node.token("GETLOCK k LOCK 1");
            node.advance(1_000);
            node.call(newer);
            vanish(&mut node);
            node.advance(1_000);
            assert_eq!(node.call(&format!("SMARTCACHE.SET k older TOKEN {token}")), r#""LOST""#, "{nth}, {newer}");
            assert_eq!(node.dbsize(), 0);
        }
    }
}

#[test]
fn a_set_without_a_token_ends_the_lease_of_the_key() {
    for line in ["SET k w EX 9", "MSET 2 other x k w EX 9", "SET k w EX 9 NX"] {
        let (mut node, token) = loading();
        node.call(line);
        let hit = |client| (client, r#"["HIT", "w", (nil), 9000, 0]"#.to_owned());
        assert_eq!(node.late(), [hit(2), hit(3)], "{line}");
        assert_eq!((node.stat("leases"), node.stat("leases_voided")), ("0".into(), "1".into()));
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {token}")), r#""LOST""#);
        assert_eq!((node.call("GET k"), node.stat("fills_late")), ("\"w\"".into(), "1".into()));
    }
    let (mut node, token) = loading();
    assert_eq!(node.call("SET k w XX"), "(nil)");
    assert_eq!(node.call(&format!("SET k v {token}")), "OK", "a fill that is not stored ends no lease");
}

#[test]
fn an_entry_from_another_node_counts_as_written_now_whatever_its_stamp() {
    let mut other = node();
    other.call("SET k theirs EX 60");
    let (header, stored) = other.written(b"k").unwrap();
    let (mut node, token) = loading();
    assert_eq!(node.call_words(&[b"STORE", b"k", &header, &stored]), "OK");
    assert_eq!(node.late().len(), 2);
    assert_eq!(node.call(&format!("SMARTCACHE.SET k v {token}")), r#""LOST""#);
    assert_eq!(node.call("GET k"), "\"theirs\"");
    node.call("DEL k");
    let token = node.token("GETLOCK k");
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK");
}

#[test]
fn a_native_write_is_not_overwritten_by_an_older_load() {
    for list in [false, true] {
        for line in ["SET k v", "ABSENT k"] {
            let (mut node, token) = loading();
            if list {
                node.plain_list("k")
            } else {
                node.plain_set("k", "t", None)
            }
            assert_eq!(node.call(&format!("SMARTCACHE.{line} {token}")), r#""LOST""#);
            assert_eq!(node.stat("fills_lost"), "1");
            let state = if list { "BUSY" } else { "HIT" };
            assert!(node.late().iter().all(|(_, answer)| answer.starts_with(&format!("[\"{state}\", "))));
            assert_eq!(node.stat("waiters"), "0");
        }
    }
}

#[test]
fn a_load_whose_key_was_deleted_is_dropped_and_the_first_waiter_loads() {
    let (mut node, token) = loading();
    node.call("SET k old EX 9 SWR 9");
    node.late();
    let early = node.token("GETLOCK other");
    node.call("DEL k other");
    assert_eq!(node.call(&format!("SMARTCACHE.SET k v SWR 60 SIE 60 {token}")), r#""LOST""#, "overtaken, then deleted");
    assert_eq!(node.call(&format!("SMARTCACHE.SET other v SWR 60 SIE 60 TOKEN {early}")), r#""STALE""#);
    assert_eq!(node.dbsize(), 0, "a dead value is not kept, whatever its windows");
    assert!(node.effects.is_empty());
}

#[test]
fn a_load_whose_key_was_made_stale_is_kept_for_what_is_left_of_its_windows() {
    let (mut node, token) = loading();
    node.call("STALE k");
    assert_eq!(node.late(), next(), "the lease of a distrusted load has ended");
    node.advance(1_000);
    assert_eq!(node.call(&format!("SMARTCACHE.SET k v EX 60 SWR 3 {token}")), r#""STALE""#);
    assert_eq!(node.late(), [(3, r#"["STALE", "v", (nil), 0, 1000]"#.into())]);
    assert_eq!((node.call("GET k"), node.call("GET k STALE")), ("(nil)".into(), "\"v\"".into()));
    assert_eq!((node.expire_at("k"), node.stat("fills_late")), (Some(1_004_000), "1".into()));
    node.set_clock(500_000);
    assert_eq!(node.call("GET k"), "(nil)", "staleness is a state of the entry");
    node.set_clock(1_003_999);
    assert_eq!(node.call("GET k STALE"), "\"v\"");
    node.advance(1);
    assert_eq!(node.call("GET k STALE"), "(nil)");
}

#[test]
fn a_stale_load_without_a_window_left_is_dropped() {
    for life in ["EX 60", "EX 60 SWR 1", "EXAT 5 SIE 60", "PERSIST SWR 0 SIE 0"] {
        let (mut node, token) = loading();
        node.call("STALE k");
        node.advance(1_000);
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {life} {token}")), r#""STALE""#, "{life}");
        assert_eq!(node.dbsize(), 0);
    }
    let (mut node, token) = loading();
    node.call("STALE k");
    assert_eq!(node.call(&format!("ABSENT k {token}")), r#""STALE""#);
    assert_eq!(node.dbsize(), 0, "an absent entry has no windows");
}

#[test]
fn a_load_inside_a_guard_is_stale_even_under_a_lease() {
    for (line, kept) in [("DEL k", false), ("STALE k", true)] {
        let mut node = node();
        node.config("guard", "3").unwrap();
        node.advance(3_000); // nothing is trusted so soon after a start
        node.call(line);
        node.advance(2_999);
        let inside = node.token("GETLOCK k LOCK 60");
        assert_eq!(node.getlock(2, "k WAIT 60"), "(waiting)");
        node.set_clock(500_000); // the guard does not get longer
        node.advance(1);
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v SWR 60 TOKEN {inside}")), r#""STALE""#, "{line}");
        let answer = if kept { r#"["STALE", "v", "T", 0, 10000]"# } else { r#"["MISS", (nil), "T", 0, 10000]"# };
        assert_eq!(node.late(), [(2, answer.into())]);
        assert_eq!(node.stat("fills_stale"), "1");
        node.call("SET k w EX 1");
        node.advance(1_000);
        let after = node.token("GETLOCK k");
        assert_eq!(node.call(&format!("SMARTCACHE.SET k x TOKEN {after}")), "OK");
    }
}

#[test]
fn a_stale_copy_does_not_replace_what_is_fresh() {
    let mut node = node();
    node.config("guard", "60").unwrap();
    node.advance(60_000); // nothing is trusted so soon after a start
    node.call("STALE k");
    node.call("SET k written EX 9"); // a write-through is trusted inside a guard
    let stamp = node.call("STAMP").trim_matches('"').to_owned();
    assert_eq!(node.call(&format!("SMARTCACHE.SET k lagging SWR 99 SINCE {stamp}")), r#""STALE""#);
    assert_eq!(node.call("GET k"), "\"written\"");
}

#[test]
fn a_load_that_began_longer_ago_than_max_load_is_not_trusted() {
    for (ms, answer) in [(60_000, "OK"), (60_001, r#""STALE""#)] {
        let mut node = node();
        node.config("max-load", "60").unwrap();
        let token = node.token("GETLOCK k");
        node.advance(ms);
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v TOKEN {token}")), answer);
        assert_eq!(node.dbsize(), usize::from(answer == "OK"));
    }
}

#[test]
fn a_fill_sent_again_gets_the_same_reply_whatever_came_after() {
    let after: [fn(&mut TestNode); 5] = [
        |_| {},
        |node| drop(node.call("SET k newer")),
        |node| drop(node.call("DEL k")),
        |node| drop(node.call("STALE k")),
        |node| node.advance(100_000),
    ];
    for before in ["", "STALE k", "SET k newest"] {
        for (nth, after) in after.iter().enumerate() {
            let (mut node, token) = loading();
            if !before.is_empty() {
                node.call(before);
            }
            let fill = format!("SMARTCACHE.SET k v EX 60 SWR 60 {token}");
            let answer = node.call(&fill);
            after(&mut node);
            let (picture, late) = (node.picture(), node.stat("fills_late"));
            assert_eq!(node.call(&fill), answer, "{before}, {nth}");
            assert_eq!(node.call(&format!("ABSENT k {token}")), answer, "{before}, {nth}");
            assert!(node.effects.is_empty());
            assert_eq!((node.picture(), node.stat("fills_late")), (picture, late), "and changes nothing");
        }
    }
}

#[test]
fn an_unknown_token_stores_nothing_and_is_no_error() {
    let (mut node, token) = loading();
    let other = node.token("GETLOCK other");
    for word in ["x", "", &other, &"A".repeat(32), "OK", &token[7..], &token[6..].to_lowercase()] {
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v TOKEN {word}")), r#""LOST""#, "{word}");
        assert_eq!(node.call(&format!("SMARTCACHE.ABSENT k TOKEN {word}")), r#""LOST""#, "{word}");
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v SINCE {word}")), r#""LOST""#, "{word}");
    }
    assert_eq!(
        (node.dbsize(), node.inspect("k", "lease"), node.inspect("k", "waiters")),
        (0, "\"held\"".into(), "2".into())
    );
    assert_eq!(node.stat("fills_unknown"), "14");
}

#[test]
fn out_of_memory_the_waiters_get_the_value() {
    let (mut node, token) = loading();
    node.server.out_of_memory = true;
    let oom = "(error) OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(node.call(&format!("SMARTCACHE.SET k v {token}")), oom);
    let hit = |client| (client, r#"["HIT", "v", (nil), 0, 0]"#.to_owned());
    assert_eq!(node.late(), [hit(2), hit(3)]);
    assert_eq!((node.dbsize(), node.stat("leases"), node.stat("fills_failed")), (0, "0".into(), "1".into()));
    assert_eq!(node.stat("waits_served"), "2");
    let (mut node, token) = loading();
    node.server.out_of_memory = true;
    assert_eq!(node.call(&format!("SMARTCACHE.ABSENT k {token}")), oom);
    assert_eq!(node.late()[1], (3, r#"["ABSENT", (nil), (nil), 0, 0]"#.into()));
}

#[test]
fn out_of_memory_no_waiter_gets_a_value_that_would_not_be_fresh() {
    let ways: [fn(&mut TestNode); 3] = [
        |node| node.plain_list("k"),
        |node| node.plain_set("k", "t", None),
        |node| {
            node.config("max-load", "10").unwrap();
            node.advance(3_000);
            node.config("max-load", "1").unwrap();
        },
    ];
    for void_loads in ways {
        let (mut node, token) = loading();
        void_loads(&mut node);
        node.server.out_of_memory = true;
        assert!(node.call(&format!("SMARTCACHE.SET k v {token}")).starts_with("(error) OOM"));
        let answers = node.late();
        assert!(!answers.is_empty() && answers.iter().all(|(_, answer)| !answer.contains("\"v\"")), "{answers:?}");
        assert_eq!(node.stat("fills_failed"), "1");
    }
    let mut node = node();
    node.config("guard", "60").unwrap();
    node.advance(60_000);
    node.call("DEL k");
    let token = node.token("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    node.server.out_of_memory = true;
    node.call(&format!("SMARTCACHE.SET k lagging TOKEN {token}"));
    assert_eq!(node.late(), next(), "nor a value that a guard distrusts");
}

#[test]
fn out_of_memory_only_the_lease_holder_serves_the_waiters() {
    for line in ["SET k v", "SET k v SINCE {stamp}", "SET k v TOKEN x", "ABSENT k", "SET k v TOKEN {late}"] {
        let mut node = node();
        let late = node.token("GETLOCK k LOCK 1");
        node.advance(1_000);
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        node.call("GETLOCK k");
        assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
        node.server.out_of_memory = true;
        let line = line.replace("{stamp}", &stamp).replace("{late}", &late);
        assert!(node.call(&line).starts_with("(error) OOM"), "{line}");
        assert!(node.late().is_empty() && node.inspect("k", "lease") == "\"held\"");
    }
}

#[test]
fn a_fill_that_is_too_large_or_has_too_many_tags_ends_its_lease() {
    let tags = (0..64).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    for value in ["four".into(), format!("v TAGS 64 {tags}")] {
        let (mut node, token) = loading();
        node.call("RULE SET r MATCH * TAG of-the-rule");
        node.config("max-value", "3").unwrap();
        assert!(node.call(&format!("SMARTCACHE.SET k {value} {token}")).starts_with("(error) ERR "));
        assert_eq!(node.late(), next());
        assert_eq!((node.stat("fills_failed"), node.stat("sets_refused")), ("1".into(), "1".into()));
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {token}")), "OK", "a smaller one is stored");
    }
}

#[test]
fn a_fill_that_is_not_understood_ends_its_lease() {
    let long = "x".repeat(256);
    let many = (0..65).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    for line in [
        format!("SET k v TAGS 1 {long} {{}}"),
        format!("SET k v TAGS 65 {many} {{}}"),
        "SET k v TTL 5min {}".into(),
        "SET k v {} TTL 0".into(),
        "SET k v {} CODEC brotli".into(),
        "SET k v {} NONSENSE".into(),
        "SET k v NX {}".into(),
        "SET k v TAGS 9 a {}".into(),
        "SET k v TOKEN {}".into(),
        "SET k v SINCE now {}".into(),
        "SET k {}".into(),
        "ABSENT k {} SWR 5".into(),
        "ABSENT k TTL soon {}".into(),
    ] {
        let (mut node, token) = loading();
        assert!(node.call(&line.replace("{}", &token)).starts_with("(error) ERR "), "{line}");
        assert_eq!(node.late(), next(), "{line}");
        assert_eq!((node.stat("fills_failed"), node.dbsize()), ("1".into(), 0), "{line}");
        assert_eq!(node.call(&format!("SMARTCACHE.SET k v {token}")), "OK", "the load may still come: {line}");
    }
    let (mut node, token) = loading();
    let other = node.token("GETLOCK other");
    for line in [format!("SET k v NX TOKEN {other}"), format!("SET other v {token} NX"), "SET k v NX TOKEN".into()] {
        assert!(node.call(&line).starts_with("(error) ERR "), "{line}");
        assert!(node.late().is_empty() && node.inspect("k", "lease") == "\"held\"", "{line}: not its token");
    }
    assert_eq!(node.stat("leases"), "2");
}

#[test]
fn an_absent_entry_is_filled_like_a_value() {
    let (mut node, token) = loading();
    assert_eq!(node.call(&format!("SMARTCACHE.ABSENT k {token}")), "OK");
    let absent = |client| (client, r#"["ABSENT", (nil), (nil), 60000, 0]"#.to_owned());
    assert_eq!(node.late(), [absent(2), absent(3)]);
    assert_eq!((node.stat("fills"), node.stat("absents")), ("1".into(), "1".into()));
}

#[test]
fn a_wall_clock_that_is_set_changes_neither_the_order_of_loads_nor_of_invalidations() {
    for wall in [500_000, 2_000_000] {
        for (line, answer) in [("STALE k", r#""STALE""#), ("DEL k", r#""STALE""#), ("SET k newer EX 1", r#""LOST""#)] {
            let mut node = node();
            let token = node.token("GETLOCK k");
            node.set_clock(wall);
            node.call(line);
            node.set_clock(1_000_000);
            node.advance(2_000);
            assert_eq!(node.call(&format!("SMARTCACHE.SET k older TOKEN {token}")), answer, "{line}, {wall}");
            let token = node.token("GETLOCK other");
            node.set_clock(wall);
            assert_eq!(node.call(&format!("SMARTCACHE.SET other v EX 9 TOKEN {token}")), "OK");
            assert_eq!(node.inspect("other", "fresh_ms"), "9000");
        }
    }
}
