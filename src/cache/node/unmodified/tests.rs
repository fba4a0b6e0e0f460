use crate::testing::TestNode;

const START: u64 = 1_000_000;

fn node(rule: &str) -> TestNode {
    let mut node = TestNode::at(START);
    assert_eq!(node.call(format!("RULE SET r MATCH * NATIVE {rule}").trim_end()), "OK");
    node
}

#[test]
fn a_string_of_an_unmodified_client_is_an_entry_and_reads_as_the_string() {
    let mut node = node("TAG t");
    assert_eq!(node.native("SET k v PX 5000"), "OK");
    assert_eq!(node.effects, ["replicate entry k", "signal k"], "the server has sent the event");
    assert_eq!((node.inspect("k", "kind"), node.inspect("k", "tags")), (r#""value""#.into(), r#"["t"]"#.into()));
    assert_eq!(node.native("GET k"), r#""v""#);
    assert_eq!((node.native("PTTL k"), node.native("STRLEN k")), ("5000".into(), "1".into()));
    assert_eq!(node.native("MGET k nothing"), r#"["v", (nil)]"#);
    node.advance(5_000);
    assert_eq!((node.native("GET k"), node.native("PTTL k")), ("(nil)".into(), "-2".into()));
}

#[test]
fn a_command_that_only_reads_leaves_the_entry_as_it_was() {
    let mut node = node("");
    node.native("SET k v");
    let before = node.call("INSPECT k");
    for (line, answer) in [("STRLEN k", "1"), ("EXISTS k k", "2"), ("PTTL k", "-1")] {
        assert_eq!(node.native(line), answer);
        assert!(node.effects.is_empty() && node.replicated.is_empty(), "{line}: {:?}", node.effects);
    }
    assert_eq!(node.call("INSPECT k"), before);
}

#[test]
fn an_error_and_a_refusal_leave_the_entry_as_it_was() {
    let mut node = node("");
    node.native("SET k v");
    let before = node.call("INSPECT k");
    for (line, answer) in
        [("INCR k", "ERR value is not an integer or out of range"), ("SET k w NX", "(nil)"), ("PERSIST k", "0")]
    {
        assert_eq!(node.native(line), answer);
        assert!(node.effects.is_empty(), "{line}: {:?}", node.effects);
    }
    assert_eq!(node.call("INSPECT k"), before);
}

#[test]
fn what_is_not_fresh_is_gone_for_commands_and_comes_back_if_they_do_nothing() {
    for (make, end) in [
        ("SET k v PX 1000", "advance"),
        ("SET k v", "SMARTCACHE.STALE k"),
        ("SET k v", "SMARTCACHE.INVALIDATE ALL SOFT"),
        ("SET k v", "SMARTCACHE.ABSENT k"),
    ] {
        let ended = || {
            let mut node = node("SWR 60");
            node.native(make);
            if end == "advance" {
                node.advance(1_000)
            } else {
                drop(node.call(end))
            }
            node
        };
        for (line, answer) in [("EXISTS k", "0"), ("PTTL k", "-2"), ("SET k w XX", "(nil)"), ("PEXPIRE k 9", "0")] {
            let mut node = ended();
            let before = node.inspect("k", "state");
            assert_eq!(node.native(line), answer, "{end}");
            assert_eq!(node.inspect("k", "state"), before, "{end} {line}");
        }
        let mut taken = ended();
        assert_eq!((taken.native("SET k w NX"), taken.native("GET k")), ("OK".into(), r#""w""#.into()), "{end}");
        let mut counted = ended();
        assert_eq!((counted.native("INCR k"), counted.native("GET k")), ("1".into(), r#""1""#.into()), "{end}");
        let mut deleted = ended();
        assert_eq!(deleted.native("DEL k"), "0", "{end}");
        assert_eq!((deleted.effects[0].clone(), deleted.dbsize()), ("replicate unlink k".into(), 0), "{end}");
    }
}

#[test]
fn a_lifetime_is_what_the_client_asked_for_within_the_rule() {
    let mut node = node("TTL 100 MAX 50");
    for (line, left) in [("SET k v", "50000"), ("SET k v PX 7000", "7000"), ("SET k v PX 70000", "50000")] {
        node.native(line);
        assert_eq!(node.native("PTTL k"), left, "{line}");
    }
    node.native("SET n 1 PX 7000");
    node.advance(1_000);
    node.native("INCR n");
    assert_eq!(node.native("PTTL n"), "6000", "a change in place keeps the lifetime");
    assert_eq!(
        (node.native("PEXPIRE n 9000"), node.native("PTTL n")),
        ("1".into(), "9000".into()),
        "also a longer one"
    );
    assert_eq!((node.native("PERSIST n"), node.native("PTTL n")), ("1".into(), "50000".into()));
}

#[test]
fn a_key_without_expiry_gets_the_rules_ttl_and_not_the_default() {
    let mut without = node("");
    without.native("SET k v");
    assert_eq!(without.native("PTTL k"), "-1");
    let mut with = node("TTL 100 SCALE 0.5");
    with.native("SET k v");
    assert_eq!(with.native("PTTL k"), "50000");
    assert_eq!((with.native("PERSIST k"), with.native("PTTL k")), ("1".into(), "-1".into()));
    assert_eq!((with.native("INCR c"), with.native("PTTL c")), ("1".into(), "50000".into()));
    with.advance(10_000);
    assert_eq!((with.native("INCR c"), with.native("PTTL c")), ("2".into(), "40000".into()));
}

#[test]
fn jitter_only_shortens_what_a_client_asked_for() {
    let mut node = node("JITTER 0.25");
    for _ in 0..50 {
        node.native("SET k v PX 1000");
        let left: u64 = node.native("PTTL k").parse().unwrap();
        assert!((500..=1_000).contains(&left), "{left}");
    }
}

#[test]
fn with_sliding_a_lifetime_starts_anew_at_each_change() {
    let mut node = node("TTL 100 SLIDING");
    node.native("INCR c");
    node.advance(40_000);
    node.native("INCR c");
    assert_eq!(node.native("PTTL c"), "100000");
}

#[test]
fn a_renewed_entry_gets_no_younger() {
    let mut node = node("TAG t");
    node.native("SET k v PX 5000");
    node.advance(1_000);
    node.native("PEXPIRE k 60000");
    assert_eq!(node.effects, ["replicate header k", "signal k"]);
    assert_eq!(node.inspect("k", "age_ms"), "1000");
}

#[test]
fn a_plain_string_becomes_an_entry_when_it_is_written() {
    let mut node = node("");
    node.plain_set("n", "41", Some(START + 5_000));
    assert_eq!((node.native("GET n"), node.inspect("n", "kind")), (r#""41""#.into(), r#""string""#.into()));
    assert_eq!((node.native("INCR n"), node.inspect("n", "kind")), ("42".into(), r#""value""#.into()));
    assert_eq!(node.native("PTTL n"), "5000");
}

#[test]
fn a_key_that_leaves_its_native_name_is_a_plain_string_there() {
    let mut node = TestNode::at(START);
    node.call("RULE SET r MATCH n:* NATIVE");
    node.native("SET n:a v PX 5000");
    assert_eq!(node.native("RENAME n:a other"), "OK");
    assert_eq!(node.effects, ["replicate unlink n:a", "signal n:a", "replicate text other", "signal other"]);
    assert_eq!((node.inspect("other", "kind"), node.expire_at("other")), (r#""string""#.into(), Some(START + 5_000)));
    assert_eq!(node.inspect("n:a", "kind"), "");
}

#[test]
fn of_many_readers_after_freshness_one_is_told_nil_and_the_others_get_the_stale_value() {
    let mut node = node("SWR 60");
    node.native("SET k old PX 1000");
    node.advance(1_000);
    assert_eq!(node.native_as(1, "GET k"), "(nil)");
    for client in 2..20 {
        assert_eq!(node.native_as(client, "GET k"), r#""old""#);
    }
    assert_eq!(node.native_as(1, "GET k"), "(nil)", "it has asked again, and loads still");
    assert_eq!(node.native_as(9, "MGET k"), r#"["old"]"#, "while somebody loads");
    node.advance(250);
    assert_eq!(node.native_as(1, "SET k new PX 1000"), "OK");
    assert_eq!(node.native_as(5, "GET k"), r#""new""#);
    assert_eq!((node.inspect("k", "load_ms"), node.stat("fills")), ("250".into(), "1".into()));
    assert_eq!((node.stat("stale_hits"), node.stat("misses_expired")), ("19".into(), "2".into()));
}

#[test]
fn readers_of_a_cold_key_wait_for_the_one_who_was_told_nil() {
    let mut node = node("WAIT 5");
    assert_eq!(node.native_as(1, "GET k"), "(nil)");
    assert_eq!(node.native_as(2, "GET k"), "(waiting)");
    assert_eq!(node.native_as(3, "GET k"), "(waiting)");
    node.native_as(1, "SET k v");
    assert_eq!(node.late_answers(), [(2, r#""v""#.into()), (3, r#""v""#.into())]);
    node.native_as(1, "DEL k");
    assert_eq!(node.native_as(1, "GET k"), "(nil)");
    assert_eq!(node.native_as(2, "GET k"), "(waiting)");
    node.advance(5_000);
    node.tick();
    assert_eq!(node.late_answers(), [(2, "(nil)".into())], "it loads itself");
}

#[test]
fn a_late_fill_is_fresh_only_if_nobody_else_has_ended_the_key_meanwhile() {
    for (end, by, fresh) in [
        ("DEL k", 2, false),
        ("SMARTCACHE.DEL k", 2, false),
        ("SMARTCACHE.INVALIDATE TAGS 1 t", 2, false),
        ("SMARTCACHE.INVALIDATE ALL", 2, false),
        ("DEL k", 1, true),
        ("GET other", 2, true),
    ] {
        let mut node = node("TAG t WAIT 1");
        assert_eq!(node.native_as(1, "GET k"), "(nil)");
        if end.starts_with("SMARTCACHE") {
            drop(node.call_as(by, end))
        } else {
            drop(node.native_as(by, end))
        }
        assert_eq!(node.native_as(1, "SET k v"), "OK", "{end}");
        assert_eq!(node.native_as(3, "GET k") == r#""v""#, fresh, "{end} by {by}");
    }
}

#[test]
fn under_a_bare_rule_only_invalidations_count_against_a_late_fill() {
    for (end, fresh) in [("DEL k", true), ("FLUSHDB", true), ("SMARTCACHE.INVALIDATE TAGS 1 t", false)] {
        let mut node = node("TAG t");
        assert_eq!(node.native_as(1, "GET k"), "(nil)");
        if end.starts_with("SMARTCACHE") {
            drop(node.call_as(2, end))
        } else {
            drop(node.native_as(2, end))
        }
        node.native_as(1, "SET k v");
        assert_eq!(node.native_as(3, "GET k") == r#""v""#, fresh, "{end}");
    }
}

#[test]
fn a_set_after_somebody_elses_set_wins_as_on_any_server() {
    let mut node = node("");
    assert_eq!((node.native_as(1, "GET k"), node.native_as(2, "GET k")), ("(nil)".into(), "(nil)".into()));
    node.native_as(2, "SET k second");
    node.native_as(1, "SET k first");
    assert_eq!(node.native_as(3, "GET k"), r#""first""#);
}

#[test]
fn a_replica_grants_nothing_and_serves_what_is_fresh() {
    let mut node = TestNode::replica_at(START);
    node.obey(&[b"SMARTCACHE.RULE", b"SET", b"r", b"MATCH", b"*", b"NATIVE", b"SWR", b"60"]);
    assert_eq!(node.native("GET k"), "(nil)");
    assert_eq!(node.stat("leases_granted"), "0");
}

#[test]
fn a_fresh_value_is_never_told_nil_unless_the_rule_says_beta() {
    let mut node = node("SWR 60");
    node.native_as(1, "GET k");
    node.advance(5_000);
    node.native_as(1, "SET k v PX 6000");
    for _ in 0..200 {
        assert_eq!(node.native_as(2, "GET k"), r#""v""#);
        node.advance(25);
    }
}

#[test]
fn after_native_is_taken_away_the_sweep_makes_plain_strings_and_keys_are_served_until_then() {
    let mut node = node("");
    node.native("SET a 1 PX 60000");
    node.native("SET b 2");
    node.call("STALE b");
    node.call("RULE DEL r");
    assert!(node.state.policies.serves_native(b"a"));
    assert_eq!(node.native("GET a"), r#""1""#);
    node.cron();
    node.sweep();
    assert_eq!((node.inspect("a", "kind"), node.inspect("b", "kind")), (r#""string""#.into(), "".into()));
    assert_eq!(node.expire_at("a"), Some(START + 60_000));
    node.cron();
    assert!(!node.state.policies.has_native());
    assert_eq!(node.replicated.len(), 1, "replicas forget it, too");
    assert_eq!(node.replicated[0][..2], [b"SMARTCACHE.RULE".to_vec(), b"DEL".to_vec()]);
}
