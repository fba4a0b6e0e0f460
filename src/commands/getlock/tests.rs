use crate::testing::TestNode;

/// The key is fresh for 5 s, then 2 s inside SWR, then 3 s more inside SIE.
const LIFE: &str = "EX 5 SWR 2 SIE 5";

fn node() -> TestNode {
    TestNode::at(1_000_000)
}

/// A node where `k` holds a value whose load took a second.
fn loaded(life: &str) -> TestNode {
    let mut node = node();
    let token = node.token("GETLOCK k");
    node.advance(1_000);
    assert_eq!(node.call(&format!("SET k v {life} TOKEN {token}")), "OK");
    node
}

/// The same, `ms` milliseconds later.
fn aged(life: &str, ms: u64) -> TestNode {
    let mut node = loaded(life);
    node.advance(ms);
    node
}

// ---------------------------------------------------------------- states

#[test]
fn a_fresh_value_is_a_hit_without_a_token() {
    let mut node = node();
    node.call("SET k v EX 5");
    assert_eq!(node.getlock(1, "k"), r#"["HIT", "v", (nil), 5000, 0]"#);
    node.call("SET k v PERSIST");
    assert_eq!(node.getlock(1, "k"), r#"["HIT", "v", (nil), -1, 0]"#);
    node.plain_set("text", "t", Some(1_003_000));
    assert_eq!(node.getlock(1, "text OWNER me"), r#"["HIT", "t", (nil), 3000, 0]"#);
    assert_eq!(node.stat("leases_granted"), "0");
}

#[test]
fn the_first_miss_loads_and_the_others_get_a_time_to_ask_again() {
    let mut node = node();
    assert_eq!(node.getlock(1, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    node.advance(3_000);
    assert_eq!(node.getlock(3, "k"), r#"["BUSY", (nil), (nil), 0, 3000]"#, "as long as the load has lasted");
    node.advance(6_000);
    assert_eq!(node.getlock(3, "k"), r#"["BUSY", (nil), (nil), 0, 1000]"#, "but no longer than the lease");
    node.advance(1_000);
    assert_eq!(node.getlock(3, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
}

#[test]
fn inside_swr_one_caller_refreshes_and_all_get_the_stale_value_at_once() {
    let mut node = aged(LIFE, 5_000);
    assert_eq!(node.getlock(1, "k WAIT 5"), r#"["STALE", "v", "T", 0, 10000]"#);
    assert_eq!(node.getlock(2, "k WAIT 5"), r#"["STALE", "v", (nil), 0, 20]"#);
}

#[test]
fn past_swr_the_stale_value_is_served_only_instead_of_busy() {
    let mut node = aged(LIFE, 7_000);
    assert_eq!(node.getlock(1, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
    assert_eq!(node.getlock(2, "k"), r#"["STALE", "v", (nil), 0, 20]"#);
    assert_eq!(node.getlock(3, "k WAIT 1"), "(waiting)");
    node.advance(1_000);
    assert_eq!(node.late(), [(3, r#"["STALE", "v", (nil), 0, 1000]"#.into())]);
    node.advance(2_000);
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 3000]"#, "SIE is over");
}

#[test]
fn an_absent_entry_is_absent_and_has_no_windows() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    node.advance(1_000);
    assert_eq!(node.call(&format!("ABSENT k EX 4 TOKEN {token}")), "OK");
    assert_eq!(node.getlock(1, "k"), r#"["ABSENT", (nil), (nil), 4000, 0]"#);
    node.advance(3_999);
    assert_eq!(node.getlock(1, "k BETA 1000000"), r#"["ABSENT", (nil), "T", 1, 3000]"#);
    node.advance(1);
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 20]"#);
}

#[test]
fn a_key_of_another_type_is_an_error_and_grants_no_lease() {
    let mut node = node();
    node.plain_list("list");
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(node.refusal("GETLOCK list WAIT 5 OWNER me"), wrong);
    assert_eq!((node.stat("requests"), node.stat("leases_granted")), ("0".into(), "0".into()));
}

#[test]
fn the_length_of_a_lease_comes_from_the_command_the_rule_or_the_setting() {
    let mut node = node();
    node.call("RULE SET r MATCH r* LOCK 3");
    node.config("lock", "7").unwrap();
    for (key, ms) in [("k", "7000"), ("r", "3000"), ("r2 LOCK 250ms", "250")] {
        assert_eq!(node.getlock(1, key), format!(r#"["MISS", (nil), "T", 0, {ms}]"#));
    }
    assert_eq!(node.getlock(1, "long LOCK 10m"), r#"["MISS", (nil), "T", 0, 600000]"#);
    node.config("max-lock", "36500d").unwrap();
    assert_eq!(node.getlock(1, "longest LOCK 36500d"), r#"["MISS", (nil), "T", 0, 3153600000000]"#);
}

#[test]
fn what_a_lock_of_rules_and_settings_may_be_is_bounded_and_what_was_accepted_before_is_cut_down() {
    let mut node = node();
    let error = "ERR rule 'r': LOCK '601s' is too long: at most 10m (smartcache.max-lock)";
    assert_eq!(node.refusal("RULE SET r MATCH r* LOCK 601"), error);
    let error = "smartcache.lock: '601' is too long: at most 10m (smartcache.max-lock)";
    assert_eq!(node.config("lock", "601").unwrap_err(), error);
    let rules = r#"[{"name":"c","match":"c*","lock":"601s"}]"#;
    let error = "smartcache.rules: rule 'c': LOCK '601s' is too long: at most 10m (smartcache.max-lock)";
    assert_eq!(node.config("rules", rules).unwrap_err(), error);
    assert_eq!(node.getlock(1, "k"), r#"["MISS", (nil), "T", 0, 10000]"#, "nothing has changed");
    node.config("max-lock", "1h").unwrap();
    node.config("lock", "20m").unwrap();
    node.config("rules", rules).unwrap();
    node.call("RULE SET r MATCH r* LOCK 30m");
    node.config("max-lock", "15s").unwrap();
    for key in ["other", "c", "r"] {
        assert_eq!(node.getlock(1, key), r#"["MISS", (nil), "T", 0, 15000]"#, "{key}");
    }
    assert!(node.call("RULE EXPLAIN r").contains("\"lock_ms\": 15000"));
    node.state.load_setting(b"lock", b"1d").unwrap();
    assert_eq!(
        node.getlock(1, "file"),
        r#"["MISS", (nil), "T", 0, 15000]"#,
        "a file of an earlier version is no error"
    );
}

#[test]
fn an_error_names_the_word_and_grants_no_lease() {
    let mut node = node();
    let duration = "is not a duration: say seconds (30, 0.5) or a unit (250ms, 30s, 5m, 2h, 7d)";
    let too_long = "is too long: a duration is at most 36500d";
    for (options, error) in [
        ("LOCK -1", format!("invalid LOCK '-1': {duration}")),
        ("LOCK 0", "invalid LOCK '0': must be more than 0".into()),
        ("LOCK 36501d", format!("invalid LOCK '36501d': {too_long}")),
        ("LOCK 601", "invalid LOCK '601': is too long: at most 10m (smartcache.max-lock)".into()),
        ("WAIT 60001ms", "invalid WAIT '60001ms': is too long: at most 1m (smartcache.max-wait)".into()),
        ("WAIT -1", format!("invalid WAIT '-1': {duration}")),
        ("WAIT 99999999999999999999", format!("invalid WAIT '99999999999999999999': {too_long}")),
        ("BETA -1", "invalid BETA '-1': is not a number: say 2 or 0.75".into()),
        ("BETA nan", "invalid BETA 'nan': is not a number: say 2 or 0.75".into()),
        ("BETA 1000001", "invalid BETA '1000001': is too large: a number is at most 1000000".into()),
        ("OWNER ", "invalid OWNER '': a name of 1 to 255 bytes is wanted".into()),
        ("LOCK", "syntax error near 'LOCK'".into()),
        ("LOCK 1 LOCK 1", "syntax error near 'LOCK'".into()),
        ("WAIT 1 wait 1", "syntax error near 'wait'".into()),
        ("OWNER a OWNER a", "syntax error near 'OWNER'".into()),
        ("STALE", "syntax error near 'STALE'".into()),
    ] {
        assert_eq!(node.refusal(&format!("GETLOCK k {options}")), format!("ERR {error}"));
    }
    let long = format!("GETLOCK k OWNER {}", "x".repeat(256));
    assert!(node.refusal(&long).ends_with("a name of 1 to 255 bytes is wanted"));
    assert_eq!(node.refusal("GETLOCK"), "ERR wrong number of arguments for 'smartcache.getlock' command");
}

#[test]
fn a_replica_serves_what_needs_no_token_and_refuses_the_rest() {
    let mut primary = loaded(LIFE);
    let (header, stored) = primary.written(b"k").unwrap();
    let mut node = TestNode::replica_at(1_001_000);
    node.obey(&[b"STORE", b"k", &header, &stored]);
    assert_eq!(node.getlock(1, "k BETA 1000000 OWNER me"), r#"["HIT", "v", (nil), 5000, 0]"#);
    node.advance(4_999);
    assert_eq!(node.getlock(1, "k BETA 1000000"), r#"["HIT", "v", (nil), 1, 0]"#, "a replica grants no early refresh");
    node.advance(1);
    for line in ["GETLOCK k", "GETLOCK nothing WAIT 5"] {
        assert_eq!(node.refusal(line), "READONLY You can't write against a read only replica.");
    }
}

#[test]
fn a_damaged_value_is_loaded_by_the_holder_of_the_token() {
    let damaged = |ms| {
        let mut node = node();
        let token = node.token("GETLOCK z");
        node.advance(1_000);
        let long = "0123456789".repeat(100);
        node.call(&format!("SET z {long} EX 5 SWR 5 CODEC zstd TOKEN {token}"));
        let (header, mut stored) = node.written(b"z").unwrap();
        stored.truncate(8);
        node.obey(&[b"STORE", b"z", &header, &stored]);
        node.advance(ms);
        node
    };
    for (ms, beta) in [(4_999, "0"), (4_999, "1000000"), (6_000, "0")] {
        let mut node = damaged(ms);
        let answer = node.getlock(1, &format!("z BETA {beta}"));
        assert!(answer.starts_with(r#"["MISS", (nil), "T", 0, "#), "after {ms} ms, beta {beta}: {answer}");
        assert_eq!(node.getlock(2, "z"), r#"["BUSY", (nil), (nil), 0, 20]"#);
        assert_eq!(node.getlock(3, "z WAIT 30"), "(waiting)");
        assert_eq!(node.getlock(4, "z WAIT 30"), "(waiting)");
        node.advance(10_000);
        assert_eq!(node.late(), [(3, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
    }
}

// ---------------------------------------------------------------- waiting

#[test]
fn a_store_serves_all_waiters() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    for client in 2..5 {
        assert_eq!(node.getlock(client, "k WAIT 5"), "(waiting)");
    }
    node.advance(500);
    node.call(&format!("SET k v EX 9 TOKEN {token}"));
    let hit = |client| (client, r#"["HIT", "v", (nil), 9000, 0]"#.to_owned());
    assert_eq!(node.late(), [hit(2), hit(3), hit(4)]);
    assert_eq!((node.stat("waits_served"), node.stat("waiters")), ("3".into(), "0".into()));
    let token = node.token("GETLOCK none");
    assert_eq!(node.getlock(2, "none WAIT 5"), "(waiting)");
    node.call(&format!("ABSENT none EX 9 TOKEN {token}"));
    assert_eq!(node.late(), [(2, r#"["ABSENT", (nil), (nil), 9000, 0]"#.into())]);
}

#[test]
fn each_waiter_gets_the_encoding_it_accepts() {
    let mut node = node();
    let token = node.token("GETLOCK z");
    for (client, accept) in [(2, ""), (3, " ACCEPT zstd"), (4, " ACCEPT gzip"), (5, " ACCEPT zstd")] {
        assert_eq!(node.getlock(client, &format!("z WAIT 5{accept}")), "(waiting)");
    }
    let long = "0123456789".repeat(100);
    node.call(&format!("SET z {long} EX 9 CODEC zstd TOKEN {token}"));
    let packed = format!("[\"zstd\", \"{}\"]", node.stored("z").unwrap().escape_ascii());
    let (plain, identity) = (format!("\"{long}\""), format!("[\"identity\", \"{long}\"]"));
    let answers = [(2, &plain), (3, &packed), (4, &identity), (5, &packed)]
        .map(|(client, value)| (client, format!(r#"["HIT", {value}, (nil), 9000, 0]"#)));
    assert_eq!(node.late(), answers);
}

#[test]
fn a_waiter_gets_busy_after_its_wait() {
    let mut node = node();
    node.call("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 1.5"), "(waiting)");
    node.advance(1_499);
    assert!(node.late().is_empty());
    node.advance(1);
    assert_eq!(node.late(), [(2, r#"["BUSY", (nil), (nil), 0, 1500]"#.into())]);
    assert_eq!((node.stat("waits_timed_out"), node.stat("busy")), ("1".into(), "1".into()));
}

#[test]
fn an_expired_lease_goes_to_the_first_waiter_before_any_new_reader() {
    let mut node = node();
    node.call("GETLOCK k LOCK 1");
    assert_eq!(node.getlock(2, "k WAIT 9 LOCK 2"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 9 LOCK 3"), "(waiting)");
    node.advance(1_000);
    assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 2000]"#.into())], "with its own LOCK");
    assert_eq!(node.getlock(4, "k"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    node.advance(2_000);
    assert_eq!(node.late(), [(3, r#"["MISS", (nil), "T", 0, 3000]"#.into())]);
    assert_eq!((node.stat("waits_promoted"), node.stat("leases_expired")), ("2".into(), "2".into()));
}

#[test]
fn a_reader_does_not_overtake_waiters_when_the_timer_is_late() {
    let mut node = node();
    node.call("GETLOCK k LOCK 1");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    node.advance_clocks(1_500); // the timer has not run
    assert_eq!(node.getlock(3, "k"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
}

#[test]
fn no_waiter_gets_busy_for_an_expired_lease_when_the_timer_is_late() {
    let mut node = node();
    node.call("GETLOCK k LOCK 5");
    assert_eq!(node.getlock(2, "k WAIT 6"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 3"), "(waiting)");
    node.advance_clocks(6_000); // the timer has not run
    node.tick();
    let answers = [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into()), (3, r#"["BUSY", (nil), (nil), 0, 20]"#.into())];
    assert_eq!(node.late(), answers);
}

#[test]
fn a_waiter_that_disconnects_is_passed_over() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    node.disconnect(2);
    node.call(&format!("UNLOCK k {token}"));
    assert_eq!(node.late(), [(3, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
    assert_eq!((node.stat("waits_dropped"), node.stat("waits")), ("1".into(), "2".into()));
}

#[test]
fn a_holder_that_disconnects_keeps_its_lease_since_connections_are_pooled() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    node.disconnect(1);
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    assert_eq!(node.call_as(3, &format!("SET k v TOKEN {token}")), "OK");
}

#[test]
fn a_waiter_woken_after_the_value_is_gone_again_is_answered_as_a_new_request() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    assert_eq!(node.call(&format!("SET k v EXAT 5 TOKEN {token}")), "OK", "its lifetime is already over");
    assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())], "no waiter stays parked without a load");
    node.plain_list("k");
    node.advance(8_999);
    assert!(node.late().is_empty());
    node.call("DEL other"); // changes nothing for the waiters
    node.advance(1);
    assert_eq!(node.late(), [(3, r#"["BUSY", (nil), (nil), 0, 20]"#.into())], "asking again, it gets WRONGTYPE");
    assert_eq!(node.getlock(3, "k"), "(error) WRONGTYPE Operation against a key holding the wrong kind of value");
}

#[test]
fn no_waiter_gets_a_token_for_a_key_that_became_a_list() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    node.plain_list("k");
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), r#""LOST""#);
    assert_eq!(node.late(), [(2, r#"["BUSY", (nil), (nil), 0, 20]"#.into())]);
    assert_eq!((node.stat("leases_granted"), node.stat("waits_dropped")), ("1".into(), "1".into()));
}

#[test]
fn in_multi_and_scripts_nothing_waits() {
    let mut node = node();
    node.call("GETLOCK k");
    node.server.may_wait = false;
    assert_eq!(node.getlock(2, "k WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    let mut node = aged(LIFE, 7_000);
    node.call("GETLOCK k");
    node.server.may_wait = false;
    assert_eq!(node.getlock(2, "k WAIT 9"), r#"["STALE", "v", (nil), 0, 20]"#);
}

#[test]
fn no_more_callers_are_parked_than_max_waiters_allows() {
    let mut node = node();
    node.config("max-waiters", "1").unwrap();
    node.call("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 1"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 1"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    node.advance(1_000);
    assert_eq!(node.getlock(3, "k WAIT 1"), "(waiting)");
}

#[test]
fn connections_never_wait_for_each_other_in_a_circle() {
    let mut node = node();
    node.call_as(1, "GETLOCK a");
    assert_eq!(
        node.getlock(1, "a WAIT 9"),
        r#"["BUSY", (nil), (nil), 0, 20]"#,
        "a circle of one: several callers share a connection"
    );
    node.call_as(2, "GETLOCK b");
    assert_eq!(node.getlock(1, "b WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(2, "a WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#, "a circle of two");
    node.call_as(3, "GETLOCK c");
    assert_eq!(node.getlock(2, "c WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "a WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#, "a circle of three");
    assert_eq!(node.getlock(3, "b WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    assert_eq!(node.getlock(4, "a WAIT 9"), "(waiting)", "a connection without a lease may wait for any key");
}

#[test]
fn a_circle_that_no_longer_exists_blocks_no_wait() {
    let mut node = node();
    node.call_as(1, "GETLOCK a");
    node.call_as(2, "GETLOCK b LOCK 1");
    assert_eq!(node.getlock(1, "b WAIT 9"), "(waiting)");
    node.advance(1_000);
    assert_eq!(node.late(), [(1, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
    assert_eq!(node.getlock(2, "a WAIT 9"), "(waiting)");
}

// ---------------------------------------------------------------- OWNER

#[test]
fn an_owner_gets_its_token_again_and_no_other_caller_does() {
    let mut node = node();
    let token = node.token("GETLOCK k LOCK 10 OWNER me");
    node.advance(4_000);
    assert_eq!(node.token("GETLOCK k LOCK 99 WAIT 5 OWNER me"), token, "whatever LOCK it gives now");
    assert_eq!(node.getlock(2, "k LOCK 99 OWNER me"), r#"["MISS", (nil), "T", 0, 6000]"#);
    assert_eq!(node.getlock(3, "k OWNER you"), r#"["BUSY", (nil), (nil), 0, 4000]"#);
    assert_eq!(node.getlock(3, "k"), r#"["BUSY", (nil), (nil), 0, 4000]"#);
    node.advance(6_000);
    assert_ne!(node.token("GETLOCK k OWNER me"), token, "its lease has ended");
    assert_eq!(node.stat("leases_granted"), "2");
}

#[test]
fn an_owner_gets_its_early_token_again_even_when_the_value_is_stale_by_then() {
    let mut node = aged(LIFE, 4_999);
    let token = node.token("GETLOCK k BETA 1000000 OWNER me");
    assert_eq!(node.token("GETLOCK k BETA 0 OWNER me"), token);
    node.advance(1);
    assert_eq!(node.getlock(2, "k OWNER me"), r#"["STALE", "v", "T", 0, 2999]"#);
    assert_eq!(node.stat("leases_granted"), "2");
}

#[test]
fn an_owner_that_reconnects_holds_the_lease_on_the_new_connection() {
    let mut node = node();
    node.call_as(1, "GETLOCK a OWNER me");
    assert_eq!(node.getlock(2, "a OWNER me"), r#"["MISS", (nil), "T", 0, 10000]"#);
    node.call_as(3, "GETLOCK b");
    assert_eq!(node.getlock(2, "b WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "a WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#, "it would close a circle");
}

// ---------------------------------------------------------------- early refresh

/// How many of `n` readers refresh early, `left_ms` before the end of a lifetime of `life_ms`.
fn should_refresh_early(life_ms: u64, left_ms: u64, beta: &str, n: u32) -> u32 {
    let mut node = aged(&format!("PX {life_ms}"), life_ms - left_ms);
    let line = format!("GETLOCK k{beta}");
    let mut refreshed = 0;
    for _ in 0..n {
        if node.call(&line).contains("(nil)") {
            continue;
        }
        refreshed += 1;
        let node = node.as_node();
        let mut tally = node.state.stats.at(node.now);
        node.state.leases.end(0, b"k", crate::cache::lease::outcomes::LeaseEnd::Released, &mut tally);
    }
    refreshed
}

#[test]
fn early_refresh_has_the_probability_of_xfetch() {
    // A load took a second: e^(−r / (β · 1 s)), of 4,000 readers.
    for (left_ms, beta, probability) in [
        (1_000, "", 0.3679),
        (500, "", 0.6065),
        (3_000, "", 0.0498),
        (1_000, " BETA 2", 0.6065),
        (1_000, " BETA 0.5", 0.1353),
    ] {
        let (n, refreshed) = (4_000.0_f64, f64::from(should_refresh_early(10_000, left_ms, beta, 4_000)));
        let spread = 4.0 * (n * probability * (1.0 - probability)).sqrt();
        assert!((refreshed - n * probability).abs() < spread, "{left_ms} ms left{beta}: {refreshed} of {n}");
    }
}

#[test]
fn there_is_no_early_refresh_in_the_first_half_of_a_lifetime_or_without_beta() {
    assert_eq!(should_refresh_early(10_000, 5_001, " BETA 1000000", 500), 0);
    assert!(should_refresh_early(10_000, 5_000, " BETA 1000000", 500) > 490);
    assert_eq!(should_refresh_early(10_000, 1, " BETA 0", 500), 0);
    let mut node = aged("PX 5000", 4_999);
    node.config("beta", "0").unwrap();
    assert_eq!(node.getlock(1, "k"), r#"["HIT", "v", (nil), 1, 0]"#);
    node.call("RULE SET r MATCH k BETA 1000000");
    assert_eq!(node.getlock(1, "k"), r#"["HIT", "v", "T", 1, 3000]"#, "the rule's beta comes before the setting's");
}

#[test]
fn without_a_measured_load_there_is_no_early_refresh() {
    let late = |node: &mut TestNode| {
        let token = node.token("GETLOCK k LOCK 1");
        node.advance(2_000);
        format!("SET k v PX 5000 TOKEN {token}")
    };
    let since = |node: &mut TestNode| format!("SET k v PX 5000 SINCE {}", node.call("STAMP").trim_matches('"'));
    let plain = |_: &mut TestNode| "SET k v PX 5000".to_owned();
    for store in [late as fn(&mut TestNode) -> String, since, plain] {
        let mut node = node();
        let line = store(&mut node);
        assert_eq!(node.call(&line), "OK");
        node.advance(4_999);
        assert_eq!(node.getlock(1, "k BETA 1000000"), r#"["HIT", "v", (nil), 1, 0]"#, "{line}");
    }
}

#[test]
fn one_caller_at_a_time_refreshes_early_under_a_short_lease() {
    let mut node = aged(LIFE, 4_000);
    assert_eq!(node.getlock(1, "k LOCK 60 BETA 1000000"), r#"["HIT", "v", "T", 1000, 3000]"#, "three load times");
    assert_eq!(node.inspect("k", "lease"), "\"early\"");
    assert_eq!(node.getlock(2, "k BETA 1000000"), r#"["HIT", "v", (nil), 1000, 0]"#);
    let mut node = aged(LIFE, 4_000);
    assert_eq!(node.getlock(1, "k LOCK 0.2 BETA 1000000"), r#"["HIT", "v", "T", 1000, 200]"#, "never longer than LOCK");
    let mut quick = TestNode::at(1_000_000);
    let token = quick.token("GETLOCK k");
    quick.call(&format!("SET k v PX 5000 TOKEN {token}"));
    quick.advance(4_999);
    assert_eq!(quick.getlock(1, "k BETA 1000000"), r#"["HIT", "v", "T", 1, 1000]"#, "at least a second");
}

#[test]
fn an_early_lease_that_outlasts_freshness_is_the_lease_of_the_key() {
    let mut node = aged("EX 5", 4_000);
    let token = node.token("GETLOCK k BETA 1000000");
    node.advance(1_000);
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 1000]"#, "or two callers would load at once");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    node.advance(2_000);
    let next = [(3, r#"["MISS", (nil), "T", 0, 10000]"#.into())];
    assert_eq!(node.late(), next, "a client that ignores its token delays no waiter for long");
    assert_eq!(node.call(&format!("SET k w EX 5 TOKEN {token}")), "OK", "a load that outlives its lease is stored");
    assert_eq!((node.stat("leases_early"), node.stat("fills_late")), ("1".into(), "1".into()));
}

// ---------------------------------------------------------------- limits

#[test]
fn fills_caps_the_loads_of_a_rule_and_a_refused_caller_does_not_wait() {
    let mut node = node();
    node.call("RULE SET r MATCH r* FILLS 2");
    node.call("SET r3 v EX 1 SWR 1 SIE 5");
    node.advance(3_000);
    let first = node.token("GETLOCK r1");
    node.call("GETLOCK r2");
    assert_eq!(node.getlock(3, "r3 WAIT 9"), r#"["STALE", "v", (nil), 0, 20]"#);
    assert_eq!(node.getlock(3, "r4 WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#, "no load to wait for");
    assert_eq!(node.getlock(3, "k"), r#"["MISS", (nil), "T", 0, 10000]"#, "other keys are not affected");
    node.call(&format!("SET r1 v TOKEN {first}"));
    assert_eq!(node.getlock(3, "r4"), r#"["MISS", (nil), "T", 0, 10000]"#);
}

#[test]
fn waiters_are_answered_when_a_limit_forbids_the_next_lease() {
    let mut node = node();
    node.config("user-share", "100%").unwrap();
    node.call("RULE SET r MATCH r* FILLS 1");
    let token = node.token("GETLOCK r1");
    assert_eq!(node.getlock(2, "r1 WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "r1 WAIT 9"), "(waiting)");
    node.config("max-leases", "1").unwrap();
    node.call("RULE SET r MATCH r* FILLS 1");
    node.call_as(9, "GETLOCK k"); // refused: the one lease is held
    node.config("max-leases", "2").unwrap();
    node.call_as(9, "GETLOCK k");
    node.config("max-leases", "1").unwrap();
    node.call(&format!("UNLOCK r1 {token}"));
    let busy = |client| (client, r#"["BUSY", (nil), (nil), 0, 20]"#.to_owned());
    assert_eq!(node.late(), [busy(2), busy(3)]);
    assert_eq!(node.stat("waits_dropped"), "2");
}

#[test]
fn max_leases_counts_live_leases_only() {
    let mut node = node();
    node.config("max-leases", "2").unwrap();
    node.config("user-share", "100%").unwrap();
    node.call("GETLOCK a LOCK 1");
    node.call("GETLOCK b LOCK 5");
    assert_eq!(node.getlock(1, "c WAIT 5"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    node.advance(1_000);
    assert_eq!(node.getlock(1, "c"), r#"["MISS", (nil), "T", 0, 10000]"#, "expired leases do not count");
}

#[test]
fn no_user_holds_more_than_its_share_of_the_leases() {
    let mut node = node();
    node.config("max-leases", "6").unwrap();
    let mut tokens: Vec<_> = (0..3).map(|i| node.token(&format!("GETLOCK a{i} LOCK 9"))).collect();
    assert_eq!(node.getlock(2, "a3 WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#, "over another connection, too");
    node.server.user = "default at 10.0.0.7";
    for i in 0..3 {
        assert_eq!(node.getlock(1, &format!("b{i}")), r#"["MISS", (nil), "T", 0, 10000]"#, "the others have the rest");
    }
    assert_eq!((node.stat("user_share_refused"), node.stat("leases_refused")), ("1".into(), "0".into()));
    node.server.user = "ada";
    let ends = ["SET a0 v TOKEN $", "UNLOCK a1 $", "DEL a2"];
    for (i, how) in ends.into_iter().enumerate() {
        node.call(&how.replace('$', &tokens.remove(0)));
        assert_eq!(node.getlock(1, &format!("c{i} LOCK 1")), r#"["MISS", (nil), "T", 0, 1000]"#, "{how}");
        assert_eq!(node.getlock(1, "d"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    }
    node.advance(1_000);
    assert_eq!(node.getlock(1, "d"), r#"["MISS", (nil), "T", 0, 10000]"#, "leases that ran out do not count");
    node.config("user-share", "100%").unwrap();
    assert_eq!(node.getlock(1, "e"), r#"["MISS", (nil), "T", 0, 10000]"#);
}

#[test]
fn no_user_holds_more_than_its_share_of_the_places_of_waiters() {
    let mut node = node();
    node.config("max-waiters", "4").unwrap();
    node.call("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 1"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(4, "k WAIT 9"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    node.server.user = "bob";
    assert_eq!(node.getlock(5, "k WAIT 9"), "(waiting)");
    node.server.user = "ada";
    node.advance(1_000);
    assert_eq!(node.late(), [(2, r#"["BUSY", (nil), (nil), 0, 1000]"#.into())]);
    assert_eq!(node.getlock(4, "k WAIT 9"), "(waiting)", "its share is free again");
    node.disconnect(3);
    assert_eq!(node.getlock(6, "k WAIT 9"), "(waiting)");
    assert_eq!(node.stat("user_share_refused"), "1");
}

#[test]
fn a_waiter_whose_user_holds_its_share_of_leases_gives_the_lease_to_the_next() {
    let mut node = node();
    node.config("max-leases", "2").unwrap();
    node.server.user = "bob";
    let token = node.token("GETLOCK k");
    node.server.user = "ada";
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    node.call_as(3, "GETLOCK other");
    node.server.user = "cy";
    assert_eq!(node.getlock(4, "k WAIT 9"), "(waiting)");
    node.call(&format!("UNLOCK k {token}"));
    let busy = r#"["BUSY", (nil), (nil), 0, 20]"#;
    assert_eq!(node.late(), [(2, busy.into()), (4, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
}

#[test]
fn there_is_no_early_refresh_beyond_the_limits() {
    let mut node = aged(LIFE, 4_999);
    node.config("max-leases", "1").unwrap();
    node.call("GETLOCK other");
    assert_eq!(node.getlock(1, "k BETA 1000000"), r#"["HIT", "v", (nil), 1, 0]"#);
}

// ---------------------------------------------------------------- flushes, roles, clocks, counters

#[test]
fn after_a_flush_the_first_waiter_loads_and_older_loads_are_stale() {
    let mut node = node();
    let old = node.token("GETLOCK k");
    let stamp = node.call("STAMP");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    let now = node.now();
    node.state.flushed(Some(0), now);
    node.tick();
    assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
    assert_eq!(node.call(&format!("SET k v TOKEN {old}")), r#""STALE""#);
    assert_eq!(node.call(&format!("SET k2 v SINCE {}", stamp.trim_matches('"'))), r#""STALE""#);
    assert_eq!((node.dbsize(), node.stat("leases_voided")), (0, "1".into()));
    assert!(node.late().is_empty(), "the new load goes on");
}

#[test]
fn a_flush_of_another_database_changes_nothing() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    let now = node.now();
    node.state.flushed(Some(1), now);
    assert_eq!(node.state.leases.live(), 1);
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK");
}

#[test]
fn a_change_of_role_ends_leases_and_back_offs_and_answers_all_waiters() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    let stamp = node.call("STAMP").trim_matches('"').to_owned();
    let failed = node.token("GETLOCK failed");
    node.call(&format!("UNLOCK failed {failed} BACKOFF 60"));
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    let now = node.now();
    node.state.reset_leases([9; 16], now);
    node.tick();
    let busy = |client| (client, r#"["BUSY", (nil), (nil), 0, 1]"#.to_owned());
    assert_eq!(node.late(), [busy(2), busy(3)]);
    for line in [
        format!("SET k v TOKEN {token}"),
        format!("SET k v SINCE {stamp}"),
        format!("ABSENT k TOKEN {token}"),
        format!("SET failed v TOKEN {failed}"),
    ] {
        assert_eq!(node.call(&line), r#""LOST""#, "{line}");
    }
    assert_eq!(node.call(&format!("UNLOCK k {token} BACKOFF 9")), "0");
    assert_eq!(node.call(&format!("EXTEND k {token} 9")), "0");
    assert!(node.state.leases.is_idle());
    assert_eq!(node.getlock(4, "failed"), r#"["MISS", (nil), "T", 0, 10000]"#, "the next reader loads");
    assert_eq!((node.stat("waits_dropped"), node.stat("fills_unknown")), ("2".into(), "3".into()));
}

#[test]
fn a_wall_clock_that_is_set_moves_no_lease_and_no_wait() {
    for wall in [500_000, 9_000_000] {
        let mut node = node();
        let token = node.token("GETLOCK k LOCK 3");
        assert_eq!(node.getlock(2, "k WAIT 2"), "(waiting)");
        node.set_clock(wall);
        node.tick();
        assert!(node.late().is_empty());
        node.advance(1_999);
        assert!(node.late().is_empty());
        node.advance(1);
        assert_eq!(node.late(), [(2, r#"["BUSY", (nil), (nil), 0, 1000]"#.into())]);
        assert_eq!(node.call(&format!("SET k v EX 5 TOKEN {token}")), "OK");
        assert_eq!(node.getlock(3, "k"), r#"["HIT", "v", (nil), 5000, 0]"#);
        assert_eq!(node.stat("origin_ms"), "2000");
    }
}

#[test]
fn every_request_lease_and_wait_is_counted_exactly_once() {
    let mut node = loaded("EX 5 SWR 2");
    let token = |node: &mut TestNode, key: &str| node.token(&format!("GETLOCK {key}"));
    let t = token(&mut node, "stale");
    node.call("DEL stale");
    node.call(&format!("SET stale v TOKEN {t}"));
    let t = token(&mut node, "text");
    node.plain_set("text", "t", None);
    node.call(&format!("SET text v TOKEN {t}"));
    let t = token(&mut node, "failed");
    node.call_as(2, "GETLOCK failed WAIT 5");
    node.call(&format!("UNLOCK failed {t} BACKOFF 1"));
    let t = token(&mut node, "back");
    for client in 3..6 {
        node.call_as(client, "GETLOCK back WAIT 5");
    }
    node.call(&format!("UNLOCK back {t}"));
    node.disconnect(4);
    node.call("SET back v");
    node.call("GETLOCK slow LOCK 1");
    node.call_as(6, "GETLOCK slow WAIT 0.5");
    node.call("SET k v TOKEN nonsense");
    node.call("MGET k nothing text");
    node.call("ABSENT none");
    node.call("GETLOCK none");
    node.advance(5_500);
    node.call("GETLOCK k");
    node.call("GETLOCK k");
    node.call("GETLOCK out");
    let sum = |node: &mut TestNode, names: &[&str]| -> u64 {
        names.iter().map(|name| node.stat(name).parse::<u64>().unwrap()).sum()
    };
    let ends = [
        "fills",
        "fills_stale",
        "fills_lost",
        "fills_failed",
        "leases_released",
        "leases_voided",
        "leases_expired",
        "leases",
    ];
    assert_eq!(sum(&mut node, &["leases_granted"]), sum(&mut node, &ends));
    let waits = ["waits_served", "waits_promoted", "waits_timed_out", "waits_dropped"];
    assert_eq!(sum(&mut node, &["waits"]), sum(&mut node, &waits));
    let requests = ["hits", "stale_hits", "absent_hits", "misses", "busy"];
    assert_eq!(sum(&mut node, &["requests"]), sum(&mut node, &requests));
    let misses = ["misses_cold", "misses_expired", "misses_invalidated", "misses_evicted"];
    assert_eq!(sum(&mut node, &["misses"]), sum(&mut node, &misses));
    for (name, count) in [
        ("fills", "1"),
        ("fills_lost", "1"),
        ("fills_failed", "1"),
        ("fills_late", "1"),
        ("fills_unknown", "1"),
        ("leases_released", "1"),
        ("leases_voided", "2"),
        ("leases_expired", "1"),
        ("leases", "2"),
        ("waits_served", "1"),
        ("waits_promoted", "1"),
        ("waits_timed_out", "1"),
        ("waits_dropped", "2"),
        ("stale_hits", "2"),
        ("origin_ms", "1000"),
    ] {
        assert_eq!(node.stat(name), count, "{name}");
    }
}

#[test]
fn a_waiter_that_gets_a_token_is_a_miss_with_its_present_reason() {
    for (line, reason) in [
        ("DEL nothing", "misses_cold"),
        ("SET k v EX 1", "misses_expired"),
        ("SET k v EX 60 SIE 60", "misses_invalidated"),
    ] {
        let mut node = node();
        node.call(line);
        node.pexpireat("k", 9_000_000);
        node.advance(1_000);
        node.call("STALE k");
        node.call("GETLOCK k LOCK 1");
        assert_eq!(node.getlock(2, "k WAIT 5"), "(waiting)");
        node.advance(1_000);
        assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
        assert_eq!(node.stat(reason), "2", "{line}");
    }
}

/// A lease of 300 ms, waiter 2 for 400 ms, waiter 3 for 8 s; then the server is held up for 1.5 s.
fn held_up() -> (TestNode, String) {
    let mut node = node();
    let token = node.token("GETLOCK k LOCK 300ms");
    assert_eq!(node.getlock(2, "k WAIT 400ms"), "(waiting)");
    assert_eq!(node.getlock(3, "k WAIT 8"), "(waiting)");
    node.advance_clocks(1_500);
    (node, token)
}

#[test]
fn after_a_stall_waiters_that_timed_out_get_no_lease() {
    let busy = || (2, r#"["BUSY", (nil), (nil), 0, 20]"#.to_owned());
    let (mut node, _) = held_up();
    node.tick();
    assert_eq!(node.late(), [busy(), (3, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
    assert_eq!((node.stat("waits_timed_out"), node.stat("waits_promoted")), ("1".into(), "1".into()));
    for line in ["GETLOCK k", "UNLOCK k {}", "EXTEND k {} 5", "DEL k", "SET k v TTL 0 TOKEN {}"] {
        let (mut node, token) = held_up();
        node.call(&line.replace("{}", &token));
        assert_eq!(
            node.late()[..2],
            [busy(), (3, r#"["MISS", (nil), "T", 0, 10000]"#.into())],
            "before the timers: {line}"
        );
    }
    let (mut node, _) = held_up();
    node.call("SET k v EX 5");
    let served = r#"["HIT", "v", (nil), 5000, 0]"#.to_owned();
    assert_eq!(node.late(), [(2, served.clone()), (3, served)], "what is there is served all the same");
}

#[test]
fn after_a_stall_in_which_all_waiters_timed_out_the_next_reader_gets_the_lease() {
    let mut node = loaded("EX 5 SWR 0 SIE 50");
    node.advance(5_000);
    node.token("GETLOCK k LOCK 300ms");
    assert_eq!(node.getlock(2, "k WAIT 400ms OWNER me"), "(waiting)");
    node.advance_clocks(1_500);
    node.tick();
    assert_eq!(node.late(), [(2, r#"["STALE", "v", (nil), 0, 20]"#.to_owned())]);
    assert_eq!((node.stat("leases"), node.stat("leases_refused")), ("0".into(), "0".into()));
    assert_eq!(node.getlock(3, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
}
