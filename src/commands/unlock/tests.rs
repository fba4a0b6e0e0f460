use crate::testing::TestNode;

/// A node where `k` is being loaded, and the load's token.
fn loading() -> (TestNode, String) {
    let mut node = TestNode::at(1_000_000);
    let token = node.token("GETLOCK k");
    (node, token)
}

#[test]
fn the_first_waiter_gets_the_next_lease_and_the_others_wait_on() {
    let (mut node, token) = loading();
    for client in 2..4 {
        assert_eq!(node.getlock(client, "k WAIT 9"), "(waiting)");
    }
    assert_eq!(node.call(&format!("SMARTCACHE.UNLOCK k {token}")), "1");
    assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
    assert_eq!((node.stat("leases_released"), node.stat("waiters")), ("1".into(), "1".into()));
}

#[test]
fn a_second_time_it_is_not_held_and_the_successor_keeps_its_lease() {
    let (mut node, token) = loading();
    node.call(&format!("UNLOCK k {token}"));
    node.call_as(2, "GETLOCK k");
    assert_eq!(node.call(&format!("SMARTCACHE.UNLOCK k {token}")), "0");
    assert_eq!(node.getlock(3, "k"), r#"["BUSY", (nil), (nil), 0, 20]"#);
    assert_eq!(node.stat("leases_released"), "1");
}

#[test]
fn a_token_that_is_unknown_or_of_another_key_is_no_error_and_changes_nothing() {
    let (mut node, token) = loading();
    let other = node.token("GETLOCK other");
    let stamp = node.call("STAMP").trim_matches('"').to_owned();
    for word in ["x", "", &other, &stamp, &"A".repeat(32), &token[1..], &format!("{token}A")] {
        for backoff in ["", " BACKOFF 60"] {
            assert_eq!(node.call(&format!("SMARTCACHE.UNLOCK k {word}{backoff}")), "0", "{word}");
        }
    }
    assert_eq!((node.inspect("k", "lease"), node.inspect("other", "lease")), ("\"held\"".into(), "\"held\"".into()));
    assert_eq!(node.call(&format!("UNLOCK k {token}")), "1");
    assert_eq!(
        node.call(&format!("UNLOCK k {token} BACKOFF 60")),
        "0",
        "the lease is not held, but the failure counts"
    );
    assert_eq!(node.inspect("k", "lease"), "\"backoff\"");
}

#[test]
fn after_a_failed_load_no_lease_is_granted_and_callers_get_the_stale_copy() {
    // Fresh for a second, then stale for four; the load fails after two, for six seconds.
    for (windows, answers) in [
        ("", [r#"["BUSY", (nil), (nil), 0, 6000]"#, r#"["BUSY", (nil), (nil), 0, 2000]"#]),
        ("SWR 4", [r#"["STALE", "v", (nil), 0, 6000]"#, r#"["BUSY", (nil), (nil), 0, 2000]"#]),
        ("SIE 4", [r#"["STALE", "v", (nil), 0, 6000]"#, r#"["BUSY", (nil), (nil), 0, 2000]"#]),
        ("SWR 1 SIE 9", [r#"["STALE", "v", (nil), 0, 6000]"#, r#"["STALE", "v", (nil), 0, 2000]"#]),
        ("SWR 9 SIE 1", [r#"["STALE", "v", (nil), 0, 6000]"#, r#"["STALE", "v", (nil), 0, 2000]"#]),
    ] {
        let mut node = TestNode::at(1_000_000);
        node.call(&format!("SET k v EX 1 {windows}"));
        node.advance(2_000);
        let token = node.token("GETLOCK k");
        assert_eq!(node.call(&format!("SMARTCACHE.UNLOCK k {token} BACKOFF 6")), "1");
        assert_eq!(node.inspect("k", "lease"), "\"backoff\"");
        assert_eq!(node.getlock(2, "k WAIT 9 BETA 1000000"), answers[0], "{windows}");
        node.advance(4_000);
        assert_eq!(node.getlock(2, "k WAIT 9"), answers[1], "{windows}");
        node.advance(2_000);
        assert!(node.getlock(2, "k").contains(r#" "T","#), "{windows}: a new lease is granted");
        assert_eq!(node.stat("fills_failed"), "1");
    }
}

#[test]
fn a_back_off_answers_all_waiters_and_grants_no_lease() {
    let (mut node, token) = loading();
    for client in 2..5 {
        assert_eq!(node.getlock(client, "k WAIT 9"), "(waiting)");
    }
    node.call(&format!("UNLOCK k {token} BACKOFF 5"));
    let busy = |client| (client, r#"["BUSY", (nil), (nil), 0, 5000]"#.to_owned());
    assert_eq!(node.late(), [busy(2), busy(3), busy(4)]);
    assert_eq!((node.stat("leases"), node.stat("waits_dropped")), ("0".into(), "3".into()));
    let mut node = TestNode::at(1_000_000);
    node.call("SET k v EX 1 SIE 60");
    node.advance(1_000);
    let token = node.token("GETLOCK k");
    assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
    node.call(&format!("UNLOCK k {token} BACKOFF 5"));
    assert_eq!(node.late(), [(2, r#"["STALE", "v", (nil), 0, 5000]"#.into())]);
    assert_eq!(node.stat("waits_served"), "1");
}

#[test]
fn a_failure_after_the_lease_backs_off_unless_something_newer_was_stored() {
    let late = || {
        let (mut node, token) = loading();
        node.advance(10_000);
        (node, format!("SMARTCACHE.UNLOCK k {token} BACKOFF 5"))
    };
    let (mut node, unlock) = late();
    assert_eq!(node.call(&unlock), "0");
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 5000]"#);
    let (mut node, unlock) = late();
    node.call("SET k newer EX 1");
    assert_eq!(node.call(&unlock), "0");
    node.advance(1_000);
    assert_eq!(node.getlock(2, "k"), r#"["MISS", (nil), "T", 0, 10000]"#, "even when the value is gone again");
    let (mut node, unlock) = late();
    node.call_as(2, "GETLOCK k");
    assert_eq!(node.getlock(3, "k WAIT 9"), "(waiting)");
    assert_eq!(node.call(&unlock), "0");
    assert_eq!(node.late(), [(3, r#"["BUSY", (nil), (nil), 0, 5000]"#.into())]);
    assert_eq!(node.inspect("k", "lease"), "\"held\"", "the next load goes on");
}

#[test]
fn a_load_that_was_filled_has_not_failed() {
    let (mut node, token) = loading();
    node.call(&format!("SET k v EX 1 TOKEN {token}"));
    assert_eq!(node.call(&format!("SMARTCACHE.UNLOCK k {token} BACKOFF 60")), "0");
    node.advance(1_000);
    assert_eq!(node.getlock(2, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
}

#[test]
fn any_store_of_the_key_and_del_end_a_back_off() {
    for line in ["SET k v EX 1", "ABSENT k EX 1", "SET k v EX 1 SINCE {}", "MSET 1 k v EX 1", "DEL k"] {
        let mut node = TestNode::at(1_000_000);
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        let token = node.token("GETLOCK k");
        node.call(&format!("UNLOCK k {token} BACKOFF 60"));
        node.call(&line.replace("{}", &stamp));
        node.advance(1_000);
        assert_eq!(node.getlock(2, "k"), r#"["MISS", (nil), "T", 0, 10000]"#, "{line}");
    }
    let (mut node, token) = loading();
    node.call(&format!("UNLOCK k {token} BACKOFF 60"));
    node.call("STALE k");
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 60000]"#, "STALE does not");
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), r#""STALE""#);
    assert_eq!(node.getlock(2, "k"), r#"["BUSY", (nil), (nil), 0, 60000]"#, "nor does a load that is dropped");
}

#[test]
fn an_error_names_the_word_and_keeps_the_lease() {
    let (mut node, token) = loading();
    for (words, error) in [
        ("BACKOFF 0", "invalid BACKOFF '0': must be more than 0"),
        (
            "BACKOFF -1",
            "invalid BACKOFF '-1': is not a duration: say seconds (30, 0.5) or a unit (250ms, 30s, 5m, 2h, 7d)",
        ),
        ("BACKOFF 36501d", "invalid BACKOFF '36501d': is too long: a duration is at most 36500d"),
        ("BACKOFF", "syntax error near 'BACKOFF'"),
        ("BACKOFF 5 BACKOFF 5", "syntax error near 'BACKOFF'"),
        ("5", "syntax error near '5'"),
    ] {
        assert_eq!(node.refusal(&format!("UNLOCK k {token} {words}")), format!("ERR {error}"));
    }
    assert_eq!(node.refusal("UNLOCK k"), "ERR wrong number of arguments for 'smartcache.unlock' command");
}
