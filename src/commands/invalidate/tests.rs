use crate::testing::TestNode;

fn node() -> TestNode {
    TestNode::at(1_000_000)
}

fn slices(words: &[Vec<u8>]) -> Vec<&[u8]> {
    words.iter().map(Vec::as_slice).collect()
}

fn obey(primary: &mut TestNode, replica: &mut TestNode) {
    for words in std::mem::take(&mut primary.replicated) {
        replica.obey(&slices(&words));
    }
}

/// Advances the clock by a minute and drops the marks that may be dropped.
fn forget(node: &mut TestNode) {
    node.advance(61_000);
    node.cron();
}

fn load(node: &mut TestNode, token: &str, rest: &str) -> String {
    node.call(format!("SET k late TOKEN {token} {rest}").trim_end())
}

#[test]
fn entries_with_the_tag_are_dead_at_once_and_others_stay() {
    let mut node = node();
    node.call("SET a 1 SWR 100 TAGS 2 t u");
    node.call("SET b 1 TAGS 1 u");
    node.call("ABSENT c TAGS 1 t");
    assert_eq!(node.call("SMARTCACHE.INVALIDATE TAGS 1 t"), "2");
    assert_eq!(node.effects, ["signal a", "signal c", "replicate mark", "signal smartcache:tag:t"]);
    assert_eq!(node.call("MGET a b c"), r#"[(nil), "1", (nil)]"#);
    assert_eq!(node.call("GET a STALE"), "(nil)", "not even inside a window");
    assert_eq!(node.call("GET c STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    assert_eq!(node.call("MISSING a b c"), r#"["a", "c"]"#);
    assert_eq!((node.inspect("a", "state"), node.stat("misses_invalidated")), ("\"dead\"".into(), "4".into()));
    assert_eq!((node.call("TOUCH a"), node.call("STALE a"), node.call("DEL a")), ("0".into(), "0".into(), "0".into()));
    assert_eq!(node.call("SET c 2 NX"), "OK", "nothing fresh is there");
    assert_eq!(node.call("SET a 2 TAGS 1 t"), "OK");
    assert_eq!(node.call("MGET a c"), r#"["2", "2"]"#, "an entry stored later is not affected");
}

#[test]
fn it_is_passed_on_without_wait() {
    for (words, passed_on) in [
        ("TAGS 2 t u", "TAGS 2 t u"),
        ("wait 5 soft Tags 2 t u over 10 guard 1", "soft Tags 2 t u over 10 guard 1"),
        ("PREFIXES 1 WAIT WAIT 5", "PREFIXES 1 WAIT"),
        ("PATTERNS 2 a* *b SOFT WAIT 0", "PATTERNS 2 a* *b SOFT"),
        ("ALL WAIT 5", "ALL"),
        ("SOFT ALL", "SOFT ALL"),
    ] {
        let mut node = node();
        node.call(&format!("INVALIDATE {words}"));
        assert_eq!(node.passed_on, [format!("SMARTCACHE.INVALIDATE {passed_on}")]);
    }
    let mut node = node();
    let tags = vec!["t".repeat(255); 2_000].join(" ");
    node.call(&format!("INVALIDATE TAGS 2000 {tags} SOFT"));
    assert_eq!(node.passed_on.len(), 2, "in several messages");
    assert!(node.passed_on.iter().all(|message| message.ends_with(" SOFT")));
    node.server.may_wait = false;
    node.call("INVALIDATE ALL WAIT 5");
    assert_eq!(node.passed_on, ["SMARTCACHE.INVALIDATE ALL"]);
}

#[test]
fn an_invalidation_passed_on_runs_with_this_nodes_stamp_and_without_a_permission_check() {
    let mut node = node();
    node.call("SET k v SWR 100 TAGS 1 t");
    let token = node.token("GETLOCK other");
    node.server.may_not_write = "smartcache:tag:t";
    assert!(node.refusal("INVALIDATE TAGS 1 t").starts_with("NOPERM"));
    assert_eq!(
        node.receive("SMARTCACHE.INVALIDATE TAGS 1 t"),
        "1",
        "the permission was checked on the node that got the command"
    );
    assert_eq!(node.effects, ["signal k", "replicate mark", "signal smartcache:tag:t"]);
    assert!(node.passed_on.is_empty(), "it is not passed on again");
    assert_eq!(node.call("GET k STALE"), "(nil)");
    assert_eq!(node.call(&format!("SET other late TOKEN {token} TAGS 1 t")), r#""STALE""#);
    node.receive("SMARTCACHE.INVALIDATE ALL");
    let sent = node.replicated[0].clone();
    node.obey(&sent.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert!(node.passed_on.is_empty(), "nor is a mark from our primary");
}

#[test]
fn what_another_primary_passes_on_never_waits() {
    let mut node = node();
    node.call("SET q1 v");
    for words in ["PREFIXES 1 q WAIT 5", "ALL wait 0", "WAIT 5 TAGS 1 t SOFT", "PATTERNS 1 q* SOFT OVER 5 WAIT 5"] {
        let answer = node.receive(&format!("SMARTCACHE.INVALIDATE {words}"));
        assert!(answer.starts_with("(error) ERR "), "{words}: {answer}");
        assert!(node.effects.is_empty(), "{words}");
    }
    assert_eq!(node.call("GET q1"), "\"v\"");
    assert_eq!(node.receive("SMARTCACHE.INVALIDATE PREFIXES 1 WAIT"), "0", "a prefix with that name");
}

#[test]
fn all_invalidates_every_entry_and_no_plain_key() {
    let mut node = node();
    node.call("SET a 1 TAGS 1 t");
    node.call("SET b 1");
    node.plain_set("text", "t", None);
    assert_eq!(node.call("SMARTCACHE.INVALIDATE ALL"), "2");
    assert_eq!(node.effects, ["replicate mark"]);
    assert_eq!(node.call("MGET a b text"), r#"[(nil), (nil), "t"]"#);
    assert_eq!(node.call("INVALIDATE ALL"), "0", "invalidated before");
    assert_eq!(node.call("INVALIDATE TAGS 1 t"), "0", "invalidated before");
    node.call("SET a 2 TAGS 1 t");
    assert_eq!((node.call("INVALIDATE TAGS 1 t"), node.call("GET b")), ("1".into(), "(nil)".into()));
}

#[test]
fn soft_keeps_the_windows_which_count_from_then() {
    let mut node = node();
    node.call("SET k v EX 100 SWR 5 SIE 9 TAGS 1 t");
    node.call("SET bare v TAGS 1 t");
    node.advance(10_000);
    assert_eq!(node.call("INVALIDATE TAGS 1 t SOFT"), "2");
    assert_eq!((node.call("GET k"), node.call("GET k STALE")), ("(nil)".into(), "\"v\"".into()));
    assert_eq!(node.call("GET bare STALE"), "(nil)");
    assert!(node.call("GETLOCK k").starts_with(r#"["STALE", "v", "#));
    node.advance(5_000);
    assert_eq!(node.inspect("k", "state"), "\"stale\"", "inside SIE");
    node.advance(4_000);
    assert_eq!(node.inspect("k", "state"), "\"dead\"");
}

#[test]
fn an_entry_stale_before_does_not_get_new_windows() {
    let mut node = node();
    node.call("SET k v EX 5 SWR 10 TAGS 1 t");
    node.pexpireat("k", 2_000_000);
    node.advance(12_000);
    node.call("INVALIDATE TAGS 1 t SOFT");
    node.advance(3_000);
    assert_eq!(node.inspect("k", "state"), "\"dead\"");
}

#[test]
fn a_soft_invalidation_does_not_undo_a_hard_one() {
    for what in ["TAGS 1 t", "ALL"] {
        let mut node = node();
        node.call("SET k v SWR 100 TAGS 1 t");
        node.call(&format!("INVALIDATE {what}"));
        node.call(&format!("INVALIDATE {what} SOFT"));
        assert_eq!(node.call("GET k STALE"), "(nil)");
        node.call("SET k v SWR 100 TAGS 1 t");
        node.call(&format!("INVALIDATE {what} SOFT"));
        node.call(&format!("INVALIDATE {what}"));
        assert_eq!(node.call("GET k STALE"), "(nil)");
    }
}

#[test]
fn a_clock_that_steps_back_does_not_undo_a_soft_invalidation() {
    let mut node = node();
    node.call("SET k v SWR 100 TAGS 1 t");
    node.call("INVALIDATE TAGS 1 t SOFT");
    node.set_clock(900_000);
    assert_eq!((node.call("GET k"), node.call("GET k STALE")), ("(nil)".into(), "\"v\"".into()));
    node.call("SET k new TAGS 1 t");
    assert_eq!(node.call("GET k"), "\"new\"", "stamps give the order, and do not step back");
}

#[test]
fn a_load_begun_before_is_stale_even_when_only_the_fill_names_the_tag() {
    for (how, kept) in [("", "(nil)"), (" SOFT", "\"late\"")] {
        let mut node = node();
        let token = node.token("GETLOCK k");
        assert_eq!(node.call(&format!("INVALIDATE TAGS 1 nobodys{how}")), "0");
        assert_eq!(load(&mut node, &token, "SWR 100 TAGS 1 nobodys"), r#""STALE""#);
        assert_eq!((node.call("GET k"), node.call("GET k STALE")), ("(nil)".into(), kept.into()));
        let token = node.token("GETLOCK k");
        assert_eq!(load(&mut node, &token, "TAGS 1 nobodys"), "OK", "a load begun afterwards is trusted");
    }
}

#[test]
fn a_load_begun_before_is_stale_by_a_tag_of_its_rule() {
    let mut node = node();
    node.call("RULE SET r MATCH k* TAG of-rule");
    let token = node.token("GETLOCK k");
    node.call("INVALIDATE TAGS 1 of-rule");
    assert_eq!(load(&mut node, &token, ""), r#""STALE""#);
}

#[test]
fn a_batch_with_since_is_checked_as_well() {
    let mut node = node();
    let since = node.call("STAMP").replace('"', "");
    node.call("INVALIDATE TAGS 1 t");
    assert_eq!(node.call(&format!("SET k v SINCE {since} TAGS 1 t")), r#""STALE""#);
    assert_eq!(node.call(&format!("SET other v SINCE {since}")), "OK");
    node.call("INVALIDATE ALL");
    assert_eq!(node.call(&format!("SET third v SINCE {since}")), r#""STALE""#);
}

#[test]
fn all_ends_the_leases_and_the_first_waiter_loads_next() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    assert_eq!(node.call_as(2, "GETLOCK k WAIT 5"), "(waiting)");
    node.call("INVALIDATE ALL");
    let answers = node.late_answers();
    assert!(answers.len() == 1 && answers[0].1.starts_with(r#"["MISS", "#), "{answers:?}");
    assert_eq!(load(&mut node, &token, ""), r#""STALE""#, "unless the new lease has been filled");
}

#[test]
fn a_stale_fill_wakes_the_first_waiter() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    assert_eq!(node.call_as(2, "GETLOCK k WAIT 5"), "(waiting)");
    node.call("INVALIDATE TAGS 1 t");
    assert!(node.late_answers().is_empty(), "the waiter waits until the holder's fill");
    assert_eq!(load(&mut node, &token, "TAGS 1 t"), r#""STALE""#);
    assert!(node.late_answers()[0].1.starts_with(r#"["MISS", "#));
}

#[test]
fn a_load_begun_inside_a_guard_is_not_trusted() {
    for what in ["TAGS 1 t", "ALL"] {
        let mut node = node();
        node.call(&format!("INVALIDATE {what} GUARD 5"));
        node.call(&format!("INVALIDATE {what}")); // a second one does not shorten the guard
        node.advance(4_999);
        let token = node.token("GETLOCK k");
        assert_eq!(load(&mut node, &token, "TAGS 1 t"), r#""STALE""#);
        node.advance(1);
        let token = node.token("GETLOCK k");
        assert_eq!(load(&mut node, &token, "TAGS 1 t"), "OK");
    }
}

#[test]
fn a_guard_is_taken_back_by_guard_0_of_what_covers_it_and_by_a_flush() {
    let guards = [("TAGS 1 t", "TAGS 1 t"), ("PREFIXES 1 k", "PREFIXES 1 k"), ("PATTERNS 1 k*", "PATTERNS 1 k*")];
    let covered =
        [("TAGS 1 t", "ALL"), ("PREFIXES 1 kk", "PREFIXES 1 k"), ("PATTERNS 1 k*", "ALL"), ("ALL SOFT", "ALL")];
    let others = [("TAGS 1 t", "TAGS 1 u"), ("ALL", "PREFIXES 1 k"), ("PREFIXES 1 k", "PREFIXES 1 kk")];
    let all = guards.into_iter().chain(covered).map(|pair| (pair, "OK"));
    for ((guarded, back), answer) in all.chain(others.map(|pair| (pair, r#""STALE""#))) {
        for flush in [false, true] {
            let (mut node, mut replica) = (node(), TestNode::replica_at(1_000_000));
            both(&mut node, &mut replica, &format!("INVALIDATE {guarded} GUARD 1h"));
            if flush {
                both(&mut node, &mut replica, "INVALIDATE TAGS 1 t GUARD 1h");
                node.flush(answer == "OK");
                replica.flush(answer == "OK");
            } else {
                both(&mut node, &mut replica, &format!("INVALIDATE {back} GUARD 0"));
            }
            let answer = if flush { "OK" } else { answer };
            let (rdb, aof) = (node.saved(), node.saved());
            let [mut from_rdb, mut from_aof] = [(); 2].map(|()| TestNode::at(1_000_000));
            from_rdb.load_rdb(&rdb, [2; 16]);
            from_aof.load_aof(&aof, [2; 16]);
            for (how, mut node) in [("primary", node), ("replica", replica), ("RDB", from_rdb), ("AOF", from_aof)] {
                node.promote([3; 16]);
                node.advance(1);
                let token = node.token("GETLOCK kk");
                let fill = node.call(&format!("SET kk v TOKEN {token} TAGS 1 t"));
                assert_eq!(fill, answer, "{guarded}, then {back} or a flush ({flush}), on {how}");
            }
        }
    }
}

#[test]
fn the_guard_defaults_to_the_setting() {
    let mut node = node();
    node.advance(10_000);
    node.config("guard", "2").unwrap();
    for (words, answer) in [("", r#""STALE""#), (" GUARD 0", "OK")] {
        node.call(&format!("INVALIDATE TAGS 1 t{words}"));
        let token = node.token("GETLOCK k");
        assert_eq!(load(&mut node, &token, "TAGS 1 t"), answer);
        node.advance(3_000);
    }
}

#[test]
fn a_guard_runs_on_the_monotonic_clock() {
    let mut node = node();
    node.call("INVALIDATE TAGS 1 t GUARD 5");
    node.set_clock(500_000);
    node.advance(5_000);
    let token = node.token("GETLOCK k");
    assert_eq!(load(&mut node, &token, "TAGS 1 t"), "OK", "a clock set back does not prolong it");
}

#[test]
fn a_tag_that_no_entry_carries_costs_nothing_and_loads_that_began_before_are_not_trusted() {
    for (how, kept) in [("", "(nil)"), (" SOFT", "\"late\"")] {
        let mut node = node();
        let (token, other) = (node.token("GETLOCK k LOCK 5"), node.token("GETLOCK other"));
        let since = node.call("STAMP").trim_matches('"').to_owned();
        node.call(&format!("INVALIDATE TAGS 1 t{how}"));
        assert_eq!((node.stat("tags"), node.marks_as_words().len()), ("0".into(), 1), "only that there was one");
        assert_eq!(node.call(&format!("SET other v TOKEN {other} TAGS 1 u")), "OK", "another tag");
        assert_eq!(node.call(&format!("SET since v SINCE {since} TAGS 1 t")), r#""STALE""#);
        assert_eq!(load(&mut node, &token, "SWR 50 TAGS 1 t"), r#""STALE""#);
        assert_eq!(node.call("GET k STALE"), kept);
        let token = node.token("GETLOCK new");
        assert_eq!(node.call(&format!("SET new v TOKEN {token} TAGS 1 t")), "OK", "a load that began later");
    }
}

#[test]
fn the_mark_of_a_tag_goes_with_its_last_entry_and_loads_of_others_are_still_trusted() {
    let mut node = node();
    let (token, other) = (node.token("GETLOCK k"), node.token("GETLOCK other"));
    let since = node.call("STAMP").trim_matches('"').to_owned();
    node.call("SET a v TAGS 1 t");
    node.call("INVALIDATE TAGS 1 t");
    node.sweep();
    node.cron();
    assert!(node.state.tags.known(b"t").is_none(), "unused tags leave nothing behind");
    node.advance(4_000);
    assert_eq!(load(&mut node, &token, "TAGS 1 t"), r#""STALE""#);
    assert_eq!(node.call(&format!("SET other v TOKEN {other} TAGS 1 u")), "OK");
    node.advance(600_000);
    node.cron();
    assert_eq!(node.call(&format!("SET b v SINCE {since} TAGS 1 t")), r#""STALE""#);
    assert_eq!(node.call(&format!("SET b v SINCE {since}")), "OK", "however long it has taken");
}

#[test]
fn a_prefix_that_was_swept_is_forgotten_and_loads_of_other_keys_are_still_trusted() {
    for (how, kept) in [("", "(nil)"), (" SOFT", "\"v\"")] {
        let mut node = node();
        let since = node.call("STAMP").trim_matches('"').to_owned();
        let token = node.token("GETLOCK app:1 LOCK 600");
        node.call(&format!("INVALIDATE PREFIXES 2 app: q{how}"));
        node.sweep();
        node.cron();
        assert_eq!(node.stat("prefixes_invalidated"), "0");
        node.advance(300_000);
        assert_eq!(node.call(&format!("SET app:1 v SWR 600 TOKEN {token}")), r#""STALE""#, "{how}");
        assert_eq!(node.call("GET app:1 STALE"), kept);
        for (key, answer) in [("app:", r#""STALE""#), ("quite", r#""STALE""#), ("app", "OK"), ("other", "OK")] {
            assert_eq!(node.call(&format!("SET {key} v SINCE {since}")), answer, "{key}{how}");
        }
    }
}

#[test]
fn a_mark_with_a_guard_is_kept_while_that_lasts() {
    let mut node = node();
    node.call("INVALIDATE TAGS 1 guarded GUARD 5m");
    node.call("INVALIDATE TAGS 1 slow SOFT OVER 5m");
    node.advance(299_999);
    node.cron();
    assert!(node.state.tags.known(b"guarded").is_some() && node.state.tags.known(b"slow").is_some());
    node.advance(1);
    node.cron();
    assert!(node.state.tags.known(b"guarded").is_none() && node.state.tags.known(b"slow").is_none());
}

#[test]
fn a_reused_tag_id_does_not_inherit_marks() {
    let mut node = node();
    node.call("INVALIDATE TAGS 1 old GUARD 1");
    node.advance(62_000);
    let now = node.now();
    node.state.reap(100, now);
    node.call("SET k v TAGS 1 new");
    assert_eq!((node.call("GET k"), node.call("INVALIDATE TAGS 1 new")), ("\"v\"".into(), "1".into()));
}

#[test]
fn an_entry_counts_once_for_each_tag_and_not_twice_for_the_same_tag() {
    let mut node = node();
    node.call("SET a v TAGS 2 t u");
    node.call("SET b v TAGS 1 t");
    assert_eq!(node.call("INVALIDATE TAGS 3 t u t"), "3", "a tag named twice counts once");
    assert_eq!(node.call("INVALIDATE TAGS 2 t u SOFT"), "0");
    node.call("SET a v TAGS 1 t");
    node.call("SET a w TAGS 1 t");
    node.call("SET c v TAGS 1 t");
    node.call("DEL c");
    assert_eq!(node.call("INVALIDATE TAGS 1 t"), "1", "replaced and deleted entries do not count");
}

#[test]
fn the_sweep_frees_dead_entries_and_keeps_stale_ones() {
    let mut node = node();
    node.call("SET a v TAGS 1 t");
    node.call("SET b v SWR 100 TAGS 1 u");
    node.call("SET c v");
    node.call("INVALIDATE TAGS 1 t");
    node.call("INVALIDATE TAGS 1 u SOFT");
    assert_eq!((node.dbsize(), node.stat("sweep_backlog")), (3, "2".into()));
    node.sweep();
    assert_eq!(
        (node.dbsize(), node.stat("sweep_backlog"), node.stat("entries_reclaimed")),
        (2, "0".into(), "1".into())
    );
    assert_eq!(node.call("GET b STALE"), "\"v\"");
    assert_eq!((node.stat("invalidations"), node.stat("entries_invalidated")), ("2".into(), "2".into()));
}

#[test]
fn beyond_max_tags_a_tag_that_no_entry_carries_is_invalidated_all_the_same() {
    let mut node = node();
    node.call("SET a v TAGS 1 t");
    node.config("max-tags", "1").unwrap();
    let before = node.token("GETLOCK k");
    let since = node.call("STAMP").trim_matches('"').to_owned();
    node.call("INVALIDATE TAGS 1 another GUARD 5");
    let inside = node.token("GETLOCK inside");
    assert_eq!(node.call("GET a"), "\"v\"", "an entry without the tag is not affected");
    assert_eq!(load(&mut node, &before, ""), "OK", "nor is a load without it");
    for provenance in [format!("SINCE {since}"), format!("TOKEN {inside}")] {
        assert_eq!(node.call(&format!("SET inside v {provenance} TAGS 1 another")), r#""STALE""#);
    }
    node.advance(5_000);
    let after = node.token("GETLOCK inside");
    assert_eq!(node.call(&format!("SET inside v TOKEN {after}")), "OK");
}

#[test]
fn a_replica_stores_its_primarys_entries_even_beyond_max_tags() {
    let (mut primary, mut replica) = (node(), TestNode::replica_at(1_000_000));
    replica.config("max-tags", "1").unwrap();
    primary.call("SET a v TAGS 2 t u");
    for words in primary.replicated.clone() {
        assert_eq!(replica.obey(&slices(&words)), "OK");
    }
    assert_eq!(replica.call("GET a"), "\"v\"");
}

#[test]
fn a_replica_gets_the_stamp_and_judges_the_same() {
    let (mut primary, mut replica) = (node(), TestNode::replica_at(900_000)); // its clock is slow
    let mut both = |primary: &mut TestNode, line: &str| {
        primary.call(line);
        for words in primary.replicated.clone() {
            replica.obey(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        replica.call("MGET a b")
    };
    both(&mut primary, "SET a 1 SWR 500 TAGS 1 t");
    assert_eq!(both(&mut primary, "SET b 1 TAGS 1 u"), r#"["1", "1"]"#);
    assert_eq!(both(&mut primary, "INVALIDATE TAGS 1 t SOFT"), r#"[(nil), "1"]"#);
    assert_eq!(both(&mut primary, "SET a 2 TAGS 1 t"), r#"["2", "1"]"#);
    assert_eq!(both(&mut primary, "INVALIDATE ALL"), "[(nil), (nil)]");
    assert_eq!(both(&mut primary, "SET b 3"), r#"[(nil), "3"]"#, "what its primary stores next is not killed");
}

#[test]
fn the_saved_auxiliary_data_restores_the_same_marks() {
    let mut node = node();
    node.call("INVALIDATE TAGS 1 hard");
    node.call("INVALIDATE TAGS 1 soft SOFT GUARD 7");
    node.call("INVALIDATE ALL");
    let mut saved = Vec::new();
    assert!(crate::cache::node::aux_data::save(&node.state, node.now(), &mut |string| saved.push(string.to_vec())));
    let mut other = TestNode::at(2_000_000);
    let now = other.now();
    let mut strings = saved.iter().cloned();
    crate::cache::node::aux_data::load(&mut other.state, now, || strings.next()).unwrap();
    let marks = |node: &TestNode| {
        let mut marks = node.marks_as_words();
        marks.sort(); // tags are in the order of their ids
        marks
    };
    assert_eq!((marks(&other), marks(&other).len()), (marks(&node), 3));
    for len in 0..saved.len() {
        let mut strings = saved[..len].iter().cloned();
        assert!(crate::cache::node::aux_data::load(&mut other.state, now, || strings.next()).is_err(), "cut at {len}");
    }
}

#[test]
fn invalidating_needs_write_permission() {
    let mut node = node();
    node.server.may_not_write = "smartcache:tag:b";
    assert_eq!(node.call("INVALIDATE TAGS 1 a"), "0");
    let error = "NOPERM this user has no write permission on the key smartcache:tag:bad";
    assert_eq!(node.refusal("INVALIDATE TAGS 2 a bad"), error);
    assert_eq!(node.refusal("INVALIDATE ALL"), "NOPERM this user has no write permission on all keys");
}

#[test]
fn a_load_begun_inside_a_guard_is_not_trusted_after_its_mark_is_dropped() {
    for what in ["TAGS 1 t", "PREFIXES 1 k", "PATTERNS 1 k*"] {
        let mut node = node();
        node.call(&format!("INVALIDATE {what} GUARD 100"));
        node.sweep();
        node.advance(99_000);
        let token = node.token("GETLOCK k LOCK 1");
        node.advance(600_000);
        let now = node.now();
        node.state.reap(100, now);
        assert_eq!(node.stat("prefixes_invalidated"), "0");
        assert_eq!(load(&mut node, &token, "TAGS 1 t"), r#""STALE""#, "{what}");
    }
}

#[test]
fn an_entry_on_a_ramp_ends_at_its_offset_whatever_is_done_to_it() {
    let mut node = node();
    node.call("SET k v EX 1000");
    let token = node.token("GETLOCK late");
    node.call("INVALIDATE PATTERNS 1 * SOFT OVER 100");
    let ends: Vec<i64> = ["k", "late"]
        .iter()
        .map(|key| {
            if *key == "late" {
                assert_eq!(load_key(&mut node, "late", &token), "OK", "it is fresh until its offset");
            } else {
                node.call("TOUCH k EX 5000");
            }
            node.inspect(key, "fresh_ms").parse().unwrap()
        })
        .collect();
    assert!(ends.iter().all(|end| *end <= 100_000), "{ends:?}");
    node.sweep();
    node.advance(200_000);
    let now = node.now();
    node.state.reap(100, now);
    assert_eq!(node.stat("patterns_invalidated"), "0", "forgotten");
    assert_eq!(node.call("MGET k late"), "[(nil), (nil)]");
}

fn load_key(node: &mut TestNode, key: &str, token: &str) -> String {
    node.call(&format!("SET {key} late TOKEN {token} EX 1000"))
}

#[test]
fn after_a_wall_clock_days_ahead_is_corrected_every_entry_can_be_invalidated() {
    const DAY: u64 = 86_400_000;
    let mut node = TestNode::at(10 * DAY);
    node.call("SET before v PERSIST TAGS 1 t");
    node.call("SET hit v PERSIST TAGS 1 u");
    node.set_clock(12 * DAY);
    node.call("INVALIDATE TAGS 1 u");
    node.call("SET meanwhile v PERSIST TAGS 1 t");
    let token = node.token("GETLOCK k");
    node.set_clock(10 * DAY);
    let now = node.now();
    assert!(node.state.clock.is_astray(now));
    node.state.start_epoch([2; 16], now);
    assert_eq!(node.call("MGET before hit meanwhile"), r#"["v", (nil), (nil)]"#);
    assert_eq!(load(&mut node, &token, ""), r#""LOST""#);
    node.call("SET after v TAGS 2 t u");
    assert_eq!(node.call("GET after"), "\"v\"");
    let token = node.token("GETLOCK k");
    assert_eq!(load(&mut node, &token, "TAGS 1 u"), "OK");
    node.call("INVALIDATE TAGS 1 t");
    assert_eq!(node.call("MGET before after k"), r#"[(nil), (nil), "late"]"#);
    node.sweep();
    assert_eq!(node.dbsize(), 1);
}

#[test]
fn what_a_clock_days_ahead_has_left_stays_dead_when_the_clock_is_ahead_again() {
    const DAY: u64 = 86_400_000;
    let mut node = TestNode::at(10 * DAY);
    node.set_clock(13 * DAY);
    node.call("MSET 2 hit v other v PERSIST TAGS 1 t");
    node.call("INVALIDATE TAGS 1 t");
    node.set_clock(10 * DAY);
    let now = node.now();
    node.state.start_epoch([2; 16], now);
    assert_eq!(node.call("MGET hit other"), "[(nil), (nil)]");
    node.advance(5_000);
    node.set_clock(13 * DAY + 5_000);
    assert_eq!(node.call("MGET hit other"), "[(nil), (nil)]");
    node.call("SET new v PERSIST TAGS 1 t");
    assert_eq!(node.call("GET new"), "\"v\"");
    node.advance(9 * DAY);
    assert_eq!(node.call("MGET hit other"), "[(nil), (nil)]", "nor when time has passed");
    node.sweep();
    assert_eq!(node.dbsize(), 1);
    assert_eq!(node.call("SET hit w"), "OK");
    assert_eq!(node.call("GET hit"), "\"w\"");
}

#[test]
fn a_walk_that_began_before_the_clock_was_corrected_starts_over() {
    const DAY: u64 = 86_400_000;
    let mut node = TestNode::at(13 * DAY);
    node.call("MSET 3 a v b v c v PERSIST");
    node.call("INVALIDATE PREFIXES 1 c");
    node.sweep_some(2);
    node.set_clock(10 * DAY);
    let now = node.now();
    node.state.start_epoch([2; 16], now);
    node.sweep();
    assert_eq!(node.dbsize(), 0);
}

// ---------------------------------------------------------------- prefixes and patterns

#[test]
fn prefixes_and_patterns_hit_matching_keys_until_they_are_stored_again() {
    for (what, dead) in [
        ("PREFIXES 1 user:", "[(nil), (nil), \"3\"]"),
        ("PREFIXES 2 user:1 x", "[(nil), \"2\", \"3\"]"),
        ("PATTERNS 1 *:2", "[\"1\", (nil), \"3\"]"),
        ("PATTERNS 2 use[r]:? *", "[(nil), (nil), (nil)]"),
    ] {
        let mut node = node();
        node.call("MSET 3 user:1 1 user:2 2 other 3 SWR 50");
        assert_eq!(node.call(&format!("INVALIDATE {what}")), "0", "no sweep has seen it");
        assert_eq!(node.call("MGET user:1 user:2 other"), dead, "{what}");
        assert!(!node.call("GET user:1 STALE").contains("\"1\"") || what.contains("*:2"));
        node.call("MSET 3 user:1 1 user:2 2 other 3");
        forget(&mut node);
        assert_eq!(node.call("MGET user:1 user:2 other"), "[\"1\", \"2\", \"3\"]");
    }
}

#[test]
fn a_prefix_or_pattern_is_dropped_only_after_a_sweep_that_began_after_it() {
    for what in ["PREFIXES 1 a", "PATTERNS 1 a*"] {
        let mut node = node();
        node.call("MSET 2 a v b v PERSIST");
        node.call("INVALIDATE PREFIXES 1 nobodys");
        node.sweep_some(1); // past `a`
        node.call(&format!("INVALIDATE {what}"));
        node.sweep_some(1); // past `b`
        forget(&mut node);
        assert_eq!(node.call("GET a"), "(nil)", "{what}");
        node.sweep();
        forget(&mut node);
        assert_eq!((node.call("GET a"), node.dbsize()), ("(nil)".into(), 1), "{what}");
        assert_eq!((node.stat("prefixes_invalidated"), node.stat("patterns_invalidated")), ("0".into(), "0".into()));
    }
}

#[test]
fn a_sweep_writes_staleness_into_the_entry_before_the_mark_is_dropped() {
    for what in ["PREFIXES 1 a", "PATTERNS 1 a*"] {
        let mut node = node();
        node.call("SET a v PERSIST SWR 1000");
        node.call(&format!("INVALIDATE {what} SOFT"));
        node.sweep();
        assert_eq!(node.effects, ["replicate header a", "signal a", "notify smartcache.stale a"]);
        forget(&mut node);
        assert_eq!((node.call("GET a"), node.call("GET a STALE")), ("(nil)".into(), "\"v\"".into()), "{what}");
        node.set_clock(900_000);
        assert_eq!(node.call("GET a"), "(nil)", "staleness is a state that the clock does not undo");
    }
}

#[test]
fn too_many_patterns_become_a_mark_of_the_database_of_the_same_kind_and_guard() {
    for (how, kept) in [("", "(nil)"), (" SOFT", "\"v\"")] {
        let mut node = node();
        node.config("max-patterns", "1").unwrap();
        node.call("SET k v SWR 100");
        node.call(&format!("INVALIDATE PATTERNS 1 first{how} GUARD 5"));
        assert_eq!(node.call("GET k"), "\"v\"");
        node.call("INVALIDATE PATTERNS 1 second");
        assert_eq!((node.call("GET k"), node.call("GET k STALE")), ("(nil)".into(), kept.into()), "{how}");
        let token = node.token("GETLOCK new");
        assert_eq!(node.call(&format!("SET new v TOKEN {token}")), r#""STALE""#);
        node.call("SET k w");
        assert_eq!(node.call("GET k"), "\"w\"", "an entry stored later is not affected");
    }
}

/// A primary and its replica, with one key of each of two applications and the limit of prefixes.
fn two_applications(limit: &str) -> [TestNode; 2] {
    let (mut primary, mut replica) = (node(), TestNode::replica_at(1_000_000));
    primary.config("max-prefixes", limit).unwrap();
    both(&mut primary, &mut replica, "MSET 4 app:a v app:z v other:a v a v SWR 1000");
    [primary, replica]
}

fn both(primary: &mut TestNode, replica: &mut TestNode, line: &str) -> String {
    let answer = primary.call(line);
    for words in &primary.replicated {
        assert_eq!(replica.obey(&slices(words)), "OK");
    }
    answer
}

#[test]
fn too_many_prefixes_become_a_shorter_one_within_what_their_author_may_invalidate() {
    for (how, kept) in [("", "(nil)"), (" SOFT", "\"v\"")] {
        let [mut primary, mut replica] = two_applications("100");
        (primary.server.may_not_write, replica.server.may_not_write) = ("other:", "other:");
        for n in 0..1_000 {
            let answer = both(&mut primary, &mut replica, &format!("INVALIDATE PREFIXES 1 app:{n:04}{how}"));
            assert_eq!(answer, "0");
        }
        for node in [&mut primary, &mut replica] {
            node.server.may_not_write = "";
            assert!(node.stat("prefixes_invalidated").parse::<usize>().unwrap() <= 52, "{how}");
            let read = node.call("MGET app:a app:z other:a a");
            assert_eq!(read, r#"["v", "v", "v", "v"]"#, "the shorter prefixes name what was named, and little else");
        }
        let older = primary.token("GETLOCK app:0500x");
        both(&mut primary, &mut replica, &format!("INVALIDATE PREFIXES 2 app: app:0{how}"));
        for node in [&mut primary, &mut replica] {
            assert_eq!(node.call("MGET app:a app:z other:a a"), r#"[(nil), (nil), "v", "v"]"#);
            assert_eq!(node.call("GET app:a STALE"), kept);
        }
        assert_eq!(primary.call(&format!("SET app:0500x v TOKEN {older}")), r#""STALE""#);
    }
}

#[test]
fn prefixes_that_find_no_room_are_refused_where_they_would_end_what_others_own() {
    let mut node = node();
    node.config("max-prefixes", "4").unwrap();
    node.call("MSET 2 b v other:a v");
    node.call("INVALIDATE PREFIXES 2 c d");
    node.server.may_not_write = "other:"; // nor the empty prefix, which is all that they have in common
    node.call("INVALIDATE PREFIXES 2 e f");
    let error = node.refusal("INVALIDATE PREFIXES 2 g h");
    assert_eq!(
        error,
        "ERR no room for more prefixes, and this user may invalidate none that is shorter than 'g' and would take the \
         place of many: let the sweep catch up, or raise smartcache.max-prefixes"
    );
    assert_eq!(node.call("INVALIDATE PREFIXES 1 c"), "0", "one that has a mark needs no room");
    assert_eq!(node.call("MGET b other:a"), r#"["v", "v"]"#);
    node.sweep();
    node.cron();
    assert_eq!(node.call("INVALIDATE PREFIXES 1 g"), "0", "the sweep has made room");
    node.server.may_not_write = "";
    node.call("INVALIDATE PREFIXES 3 h i j");
    assert_eq!(node.call("MGET b other:a"), "[(nil), (nil)]", "of all keys, by a user who may write all");
    assert_eq!(node.stat("prefixes_invalidated"), "1");
}

#[test]
fn a_prefix_that_takes_the_place_of_others_has_their_hardness_and_longest_guard() {
    let [mut primary, mut replica] = two_applications("4");
    primary.server.may_not_write = "other:";
    both(&mut primary, &mut replica, "INVALIDATE PREFIXES 2 app:1 app:2 SOFT GUARD 5");
    both(&mut primary, &mut replica, "INVALIDATE PREFIXES 1 app:3 GUARD 3");
    both(&mut primary, &mut replica, "INVALIDATE PREFIXES 1 app:4 SOFT");
    for node in [&mut primary, &mut replica] {
        node.server.may_not_write = "";
        assert_eq!((node.call("GET app:a STALE"), node.call("GET a")), ("(nil)".into(), "\"v\"".into()), "it is hard");
        assert_eq!(node.stat("prefixes_invalidated"), "2", "app: and app:4");
    }
    for (advance, answer) in [(4_999, r#""STALE""#), (1, "OK")] {
        primary.advance(advance);
        let [token, other] = ["app:9", "b"].map(|key| primary.token(&format!("GETLOCK {key}{advance}")));
        assert_eq!(primary.call(&format!("SET app:9{advance} v SWR 50 TOKEN {token}")), answer);
        assert_eq!(primary.call(&format!("SET b{advance} v TOKEN {other}")), "OK", "another's load");
    }
}

#[test]
fn a_hard_mark_of_a_prefix_takes_the_place_of_those_beneath_it_that_guard_no_longer() {
    let mut node = node();
    node.call("INVALIDATE PREFIXES 3 a:1 a:2 b:1");
    node.call("INVALIDATE PREFIXES 1 a:3 GUARD 100");
    node.call("INVALIDATE PREFIXES 1 a:4 SOFT");
    node.call("INVALIDATE PREFIXES 1 a:");
    assert_eq!(node.stat("prefixes_invalidated"), "3", "a:, b:1, and the guard of a:3, which is not that of a:");
    node.advance(2);
    let token = node.token("GETLOCK a:5");
    assert_eq!(node.call(&format!("SET a:5 v TOKEN {token}")), "OK");
    node.call("INVALIDATE PREFIXES 1 a: SOFT");
    node.call("INVALIDATE PREFIXES 1 a:6");
    assert_eq!(node.stat("prefixes_invalidated"), "4", "a later one beneath stays");
}

#[test]
fn marks_take_no_more_memory_than_index_memory_and_never_that_of_others() {
    let mut node = node();
    node.config("index-memory", "1mb").unwrap();
    node.call("MSET 2 app:a v other:a v");
    node.server.may_not_write = "other:";
    let long = "x".repeat(20_000);
    for n in 0..4_000 {
        assert_eq!(node.call(&format!("INVALIDATE PREFIXES 1 app:{n:04}{long}")), "0");
    }
    node.server.may_not_write = "";
    assert!(node.stat("index_bytes").parse::<usize>().unwrap() < 1 << 20);
    assert_eq!(node.call("MGET app:a other:a"), r#"["v", "v"]"#);
    let pattern = format!("{long}*");
    let refused = (0..100).find(|n| node.call(&format!("INVALIDATE PATTERNS 1 {n}{pattern}")) != "0").unwrap();
    assert!((10..40).contains(&refused), "{refused}");
    assert_eq!(
        node.refusal(&format!("INVALIDATE PATTERNS 1 z{pattern}")),
        "ERR no room for more patterns: let the sweep catch up, or raise smartcache.index-memory"
    );
    node.config("index-memory", "10%").unwrap();
    assert_eq!(node.call(&format!("INVALIDATE PATTERNS 1 z{pattern}")), "0", "10% of no maxmemory is no limit");
}

#[test]
fn tags_that_no_entry_carries_are_kept_for_their_guard_within_index_memory() {
    let (mut node, mut replica) = (node(), TestNode::replica_at(1_000_000));
    for node in [&mut node, &mut replica] {
        node.config("index-memory", "100kb").unwrap();
    }
    let most = (0..10_000)
        .find(|n| both(&mut node, &mut replica, &format!("INVALIDATE TAGS 1 t{n} GUARD 1h")).starts_with("(error)"));
    assert!(most.is_some_and(|most| (100..500).contains(&most)), "{most:?}");
    assert_eq!(
        node.refusal("INVALIDATE TAGS 2 new t1 GUARD 1h"),
        "ERR no room for the GUARD of tags that no entry carries: say a shorter GUARD, or raise smartcache.index-memory"
    );
    for line in [
        "INVALIDATE TAGS 1 new",
        "INVALIDATE TAGS 1 t1 GUARD 1h",
        "SET k v TAGS 1 new",
        "INVALIDATE TAGS 1 new GUARD 1h",
    ] {
        assert!(!node.call(line).starts_with("(error)"), "{line}");
    }
    replica.obey(&slices(&["INVALIDATE", "TAGS", "1", "another", "GUARD", "1h"].map(|word| word.as_bytes().to_vec())));
    assert!(replica.state.tags.known(b"another").is_some(), "a replica obeys");
    node.flush(true);
    node.cron();
    assert_eq!(node.stat("tags"), "0");
    assert!(node.call("INVALIDATE TAGS 1 new GUARD 1h") == "0");
}

#[test]
fn a_flush_leaves_no_prefix_that_is_never_dropped() {
    let mut node = node();
    node.call("SET a v");
    node.call("INVALIDATE PREFIXES 1 a");
    node.call("INVALIDATE PATTERNS 1 a*");
    node.flush(true);
    forget(&mut node);
    assert_eq!((node.stat("prefixes_invalidated"), node.stat("patterns_invalidated")), ("0".into(), "0".into()));
}

#[test]
fn a_flush_distrusts_loads_in_flight_and_keeps_the_clock() {
    for all in [false, true] {
        let mut node = node();
        let token = node.token("GETLOCK k");
        let before = node.state.clock.last();
        node.set_clock(1);
        node.flush(all);
        assert_eq!(load(&mut node, &token, "SWR 50"), r#""STALE""#);
        assert_eq!((node.dbsize(), node.state.clock.last() > before), (0, true));
    }
}

// ---------------------------------------------------------------- ramps

#[test]
fn on_a_ramp_each_key_is_fresh_until_its_own_offset_and_fresh_ms_ends_there() {
    let mut node = node();
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    keys.iter().for_each(|key| drop(node.call(&format!("SET {key} v PERSIST SWR 500"))));
    node.call("INVALIDATE ALL SOFT OVER 100");
    let ends: Vec<u64> = keys.iter().map(|key| node.inspect(key, "fresh_ms").parse().unwrap()).collect();
    assert!(ends.iter().all(|end| *end <= 100_000));
    assert!(ends.iter().max().unwrap() - ends.iter().min().unwrap() > 50_000, "the ends are spread: {ends:?}");
    node.advance(50_000);
    for (key, end) in keys.iter().zip(&ends) {
        let (fresh, stale) = (node.call(&format!("GET {key}")), node.call(&format!("GET {key} STALE")));
        assert_eq!((fresh == "\"v\"", stale.as_str()), (*end > 50_000, "\"v\""), "{key} {end}");
    }
    node.advance(50_000);
    assert!(keys.iter().all(|key| node.call(&format!("GET {key}")) == "(nil)"));
}

#[test]
fn a_second_ramp_makes_no_entry_fresh_again_and_a_hard_invalidation_ends_all() {
    for what in ["TAGS 1 t", "PREFIXES 1 k", "PATTERNS 1 k", "ALL"] {
        let mut node = node();
        node.call("SET k v PERSIST SWR 5000 TAGS 1 t");
        node.call(&format!("INVALIDATE {what} SOFT OVER 60"));
        node.advance(60_000);
        assert_eq!(node.call("GET k"), "(nil)");
        node.call(&format!("INVALIDATE {what} SOFT OVER 60"));
        assert_eq!(node.call("GET k"), "(nil)", "{what}: its ramp is over");
        node.call(&format!("INVALIDATE {what}"));
        node.call(&format!("INVALIDATE {what} SOFT OVER 60"));
        assert_eq!(node.call("GET k STALE"), "(nil)", "{what}");
    }
}

// ---------------------------------------------------------------- renamed and moved entries

#[test]
fn a_key_renamed_behind_a_sweep_stays_invalidated_by_the_mark_of_its_new_name() {
    for (how, kept) in [("", "(nil)"), (" SOFT", "\"v\"")] {
        for by in ["rename", "copy", "restore"] {
            let mut node = node();
            node.config("skew", "1ms").unwrap();
            node.call("MSET 2 b v c v PERSIST SWR 1000");
            let (header, stored) = node.dump(b"b").unwrap();
            node.call(&format!("INVALIDATE PREFIXES 1 a{how}"));
            node.sweep_some(1);
            match by {
                "rename" => node.rename("b", "a"),
                "copy" => node.copy("b", "a", 0),
                _ => assert_eq!(node.call_words(&[b"STORE", b"a", &header, &stored]), "OK"),
            }
            assert_eq!((node.call("GET a"), node.call("GET a STALE")), ("(nil)".into(), kept.into()), "{by}{how}");
            node.sweep_some(1); // the walk ends
            forget(&mut node);
            assert_eq!((node.call("GET a"), node.call("GET a STALE")), ("(nil)".into(), kept.into()), "{by}{how}");
        }
    }
}

#[test]
fn a_key_that_moves_keeps_the_state_that_its_old_marks_gave_it() {
    for what in ["TAGS 1 t", "PREFIXES 1 k", "ALL"] {
        for (how, kept) in [("", "(nil)"), (" SOFT", "\"v\"")] {
            let mut node = node();
            node.call("SET k v PERSIST SWR 1000 TAGS 1 t");
            node.call(&format!("INVALIDATE {what}{how}"));
            let (header, stored) = node.dump(b"k").unwrap();
            node.copy("k", "copy", 1);
            node.move_to("k", 1);
            node.select(1);
            node.rename("k", "renamed");
            let mut other = TestNode::at(1_000_000);
            other.call_words(&[b"STORE", b"k", &header, &stored]);
            let values = |node: &mut TestNode, key: &str| {
                (node.call(&format!("GET {key}")), node.call(&format!("GET {key} STALE")))
            };
            let all = [values(&mut node, "copy"), values(&mut node, "renamed"), values(&mut other, "k")];
            assert_eq!(all, [(); 3].map(|()| ("(nil)".into(), kept.into())), "{what}{how}");
        }
    }
}

#[test]
fn an_entry_that_is_dead_under_its_new_name_is_swept_there() {
    let mut node = node();
    node.call("SET k v PERSIST TAGS 1 t");
    node.select(1);
    node.call("INVALIDATE TAGS 1 t");
    node.sweep();
    node.select(0);
    node.copy("k", "k", 1);
    node.select(1);
    assert_eq!((node.call("GET k"), node.dbsize()), ("(nil)".into(), 1));
    node.sweep();
    assert_eq!(node.dbsize(), 0);
}

#[test]
fn a_mark_applies_to_its_database_and_moves_with_swapdb() {
    for (other, swapped) in [(1, true), (1_024, false), (5_000, false)] {
        let mut node = node();
        node.call("SET k here SWR 50 TAGS 1 t");
        node.select(other);
        node.call("SET k there SWR 50 TAGS 1 t");
        for what in ["TAGS 1 t", "PREFIXES 1 k", "ALL"] {
            node.call(&format!("INVALIDATE {what}"));
            assert_eq!(node.call("GET k"), "(nil)");
        }
        node.select(0);
        assert_eq!(node.call("GET k"), "\"here\"", "{other}");
        if swapped {
            node.swap(0, other);
            assert_eq!(node.call("GET k STALE"), "(nil)");
            node.select(other);
            assert_eq!(node.call("GET k"), "\"here\"");
        }
    }
}

#[test]
fn a_replica_drops_marks_when_its_primary_sends_forget() {
    let (mut primary, mut replica) = (node(), TestNode::replica_at(1_000_000));
    primary.call("SET b v PERSIST");
    obey(&mut primary, &mut replica);
    primary.call("INVALIDATE PREFIXES 1 a");
    obey(&mut primary, &mut replica);
    primary.sweep();
    obey(&mut primary, &mut replica);
    replica.advance(600_000);
    replica.cron();
    replica.rename("b", "a");
    assert_eq!(replica.call("GET a"), "(nil)", "its primary may still apply the mark");
    primary.advance(600_000);
    primary.cron();
    obey(&mut primary, &mut replica);
    assert_eq!((replica.state.invalidations.totals().prefixes, primary.state.invalidations.totals().prefixes), (0, 0));
    assert_eq!(replica.call("GET a"), "(nil)");
}

#[test]
fn after_a_restart_and_a_promotion_invalidated_entries_stay_invalidated() {
    for how in ["", " SOFT", " SOFT OVER 30"] {
        let mut node = node();
        node.call("MSET 3 a v b v c v PERSIST SWR 9000 TAGS 1 t");
        node.call(&format!("INVALIDATE TAGS 1 t{how}"));
        node.advance(30_000);
        let values = node.call("MGET a b c");
        assert_eq!(values, "[(nil), (nil), (nil)]");
        let saved = node.saved();
        let nodes: [fn(&mut TestNode, &crate::testing::Saved); 3] = [
            |loaded, saved| loaded.load_rdb(saved, [2; 16]),
            |loaded, saved| loaded.load_aof(saved, [2; 16]),
            |loaded, saved| {
                *loaded = TestNode::replica_at(1_030_000);
                loaded.load_rdb(saved, [2; 16]);
                loaded.promote([3; 16]);
            },
        ];
        for load in nodes {
            let mut loaded = TestNode::at(1_030_000);
            load(&mut loaded, &saved);
            assert_eq!(loaded.call("MGET a b c"), values, "{how}");
            assert_eq!(loaded.call("GET a STALE"), node.call("GET a STALE"), "{how}");
            loaded.sweep();
            forget(&mut loaded);
            assert_eq!(loaded.call("MGET a b c"), values, "{how}");
        }
    }
}

#[test]
fn a_renamed_entry_is_served_by_replicas_as_long_as_by_their_primary() {
    let mut primary = node();
    let mut replica = TestNode::replica_at(1_000_000);
    primary.call("SET b v PERSIST");
    obey(&mut primary, &mut replica);
    primary.rename("b", "a");
    replica.rename("b", "a");
    primary.call("INVALIDATE PREFIXES 1 c");
    primary.sweep();
    primary.advance(600_000);
    primary.cron();
    assert_eq!(primary.state.invalidations.totals().prefixes, 0, "the mark is dropped");
    obey(&mut primary, &mut replica);
    assert_eq!((primary.call("GET a"), replica.call("GET a")), ("\"v\"".into(), "\"v\"".into()));
}

#[test]
fn a_promoted_replica_with_a_slow_clock_invalidates_with_a_stamp_after_the_last_sweep() {
    let mut primary = node();
    let mut replica = TestNode::replica_at(1_000_000);
    primary.set_clock(1_020_000);
    primary.call("INVALIDATE PREFIXES 1 b");
    primary.sweep();
    obey(&mut primary, &mut replica);
    replica.promote([3; 16]);
    replica.call("SET a v");
    replica.call("INVALIDATE PREFIXES 1 a");
    replica.advance(600_000);
    replica.cron();
    assert_eq!(replica.call("GET a"), "(nil)", "the primary's last sweep was before it");
    assert_eq!(replica.stat("prefixes_invalidated"), "1");
}

// ---------------------------------------------------------------- counts and WAIT

#[test]
fn a_renamed_or_moved_entry_is_hit_and_counts_after_the_next_walk_over_all_keys() {
    let mut node = node();
    node.call("MSET 3 a v b v c v SWR 50 TAGS 1 t");
    node.rename("a", "renamed");
    node.move_to("b", 1);
    assert_eq!(node.call("INVALIDATE TAGS 1 t SOFT"), "1");
    assert_eq!(node.call("MGET renamed c"), "[(nil), (nil)]");
    node.call("MSET 2 a v c v TAGS 1 t");
    node.rename("a", "again");
    node.call("INVALIDATE PREFIXES 1 nobodys");
    node.sweep();
    assert_eq!(node.call("INVALIDATE TAGS 1 t"), "2", "again and c");
    node.select(1);
    node.call("INVALIDATE PREFIXES 1 nobodys");
    node.sweep();
    node.call("DEL b");
    assert_eq!(node.call("INVALIDATE ALL"), "0", "a deleted entry is counted once");
}

#[test]
fn a_renamed_entry_does_not_come_back_when_the_mark_of_its_name_is_dropped() {
    for swept in [false, true] {
        let mut node = node();
        node.call("SET k v PERSIST");
        node.call("SET dead v PERSIST");
        node.call("INVALIDATE PREFIXES 1 new:");
        node.sweep();
        node.rename("k", "kept");
        node.rename("dead", "new:");
        if swept {
            node.call("INVALIDATE PREFIXES 1 other");
            node.sweep();
        }
        assert_eq!(node.call("MGET kept new:"), "[\"v\", (nil)]");
        node.advance(3_600_000);
        node.cron();
        assert_eq!(node.stat("prefixes_invalidated"), "0", "all marks are dropped");
        assert_eq!(node.call("MGET kept new:"), "[\"v\", (nil)]", "no entry becomes fresh again, and no other ends");
    }
}

#[test]
fn entries_hit_by_a_prefix_or_pattern_leave_the_count_of_all_exact() {
    let mut node = node();
    node.call("MSET 2 a1 v b v TAGS 1 t");
    node.call("INVALIDATE PREFIXES 1 a");
    assert_eq!(node.call("INVALIDATE TAGS 1 t"), "1");
    node.call("DEL a1");
    assert_eq!(node.call("INVALIDATE ALL"), "0");
    node.call("SET a1 v TAGS 1 t");
    node.call("INVALIDATE PREFIXES 1 a");
    node.rename("a1", "dead");
    node.call("SET new v");
    node.call("INVALIDATE TAGS 1 t");
    assert_eq!(node.call("INVALIDATE ALL"), "1", "an entry that was renamed dead does not count");
}

#[test]
fn an_arriving_entry_older_than_a_dropped_mark_that_may_have_hit_it_is_dead() {
    for (what, other) in [("TAGS 1 t", "\"v\""), ("PREFIXES 1 k", "\"v\""), ("PATTERNS 1 nobodys", "(nil)")] {
        let mut node = node();
        node.config("skew", "1ms").unwrap();
        node.call("SET stays v PERSIST"); // with no entry at all everything would be forgotten
        node.call("SET k v PERSIST TAGS 1 t");
        node.call("SET other v PERSIST TAGS 1 u");
        let dumps = [b"k".as_slice(), b"other"].map(|key| (key, node.dump(key).unwrap()));
        node.call("DEL k other");
        node.call(&format!("INVALIDATE {what}"));
        node.sweep();
        forget(&mut node);
        assert!(node.state.tags.known(b"t").is_none());
        for (key, (header, stored)) in &dumps {
            node.call_words(&[b"STORE", key, header, stored]);
        }
        assert_eq!((node.call("GET k"), node.call("GET other")), ("(nil)".into(), other.into()), "{what}");
        node.sweep();
        assert_eq!(node.stat("sweep_backlog"), "0");
        assert_eq!(node.dbsize(), 1 + usize::from(other != "(nil)"), "an entry that arrives dead is swept");
    }
}

#[test]
fn a_stale_copy_stored_after_its_tag_was_invalidated_leaves_the_counts_exact() {
    let mut node = node();
    node.call("SET b v TAGS 1 t");
    let token = node.token("GETLOCK k");
    node.call("INVALIDATE TAGS 1 t SOFT");
    assert_eq!(load(&mut node, &token, "SWR 100 TAGS 1 t"), r#""STALE""#);
    node.call("DEL k");
    assert_eq!(node.call("INVALIDATE ALL"), "0", "b was invalidated before, k is deleted");
}

#[test]
fn marks_that_arrive_again_change_no_count() {
    for what in ["TAGS 1 t", "ALL", "PREFIXES 1 a"] {
        let mut node = node();
        node.call("INVALIDATE TAGS 1 t");
        node.call(&format!("INVALIDATE {what}"));
        node.call("MSET 3 a v b v c v TAGS 1 t");
        for (_, words) in node.marks_as_words() {
            node.obey(&[&[&b"SMARTCACHE.MARK"[..]], &slices(&words)[..]].concat());
        }
        assert_eq!(node.call("MGET a b c"), r#"["v", "v", "v"]"#);
        let mut other = TestNode::at(1_000_000);
        other.load_aof(&node.saved(), [2; 16]);
        for mut node in [node, other] {
            assert_eq!(node.call("INVALIDATE TAGS 1 t"), "3", "{what}");
            node.call("SET d v");
            assert_eq!(node.call("INVALIDATE ALL"), "1", "{what}");
        }
    }
}

#[test]
fn members_beyond_the_tag_index_are_counted_and_swept() {
    let mut node = node();
    node.config("max-members", "2").unwrap();
    node.call("MSET 4 a v b v c v d v TAGS 1 t");
    assert_eq!(node.call("INVALIDATE TAGS 1 t"), "4");
    node.sweep();
    assert_eq!((node.dbsize(), node.call("INVALIDATE ALL")), (0, "0".into()));
}

#[test]
fn many_members_are_counted_by_posting_list_and_the_counts_stay_exact() {
    let mut node = node();
    for n in 0..1_500 {
        node.call(&format!("SET k{n} v TAGS 2 t u"));
    }
    assert_eq!(node.call("INVALIDATE TAGS 2 t u"), "3000");
    node.sweep();
    node.call("SET new v");
    assert_eq!(node.call("INVALIDATE ALL"), "1");
}

#[test]
fn a_caller_with_wait_is_answered_after_the_sweep_or_when_the_time_is_over() {
    for (what, hits) in [("PREFIXES 1 a", "2"), ("PATTERNS 1 *", "3"), ("TAGS 1 t", "1"), ("ALL", "3")] {
        let mut node = node();
        node.call("MSET 2 a1 v a2 v");
        node.call("SET b v TAGS 1 t");
        assert_eq!(node.call(&format!("INVALIDATE {what} WAIT 5")), "(waiting)");
        node.sweep();
        assert_eq!(node.late_answers(), [(1, hits.into())], "{what}");
    }
    let mut node = node();
    node.call("MSET 2 a1 v a2 v");
    node.call("INVALIDATE PREFIXES 1 a WAIT 5");
    node.sweep_some(1);
    assert!(node.late_answers().is_empty());
    node.advance(5_000);
    node.answer_sweep_waiters();
    assert_eq!(node.late_answers(), [(1, "1".into())], "the number found so far");
    node.server.may_wait = false;
    assert_eq!(node.call("INVALIDATE PREFIXES 1 a WAIT 5"), "0");
}

#[test]
fn an_error_changes_nothing() {
    let mut node = node();
    node.call("SET k v TAGS 1 t");
    for (line, error) in [
        ("SOFT", "syntax error: say what: TAGS, PREFIXES, PATTERNS or ALL"),
        ("ALL OVER 5", "syntax error near 'OVER'"),
        ("PREFIXES 1 ", "invalid prefix '': the empty prefix matches every key: use ALL"),
        ("PREFIXES 1 a PATTERNS 1 b", "syntax error near 'PATTERNS'"),
        ("ALL TAGS 1 t", "syntax error near 'TAGS'"),
        ("TAGS 1 t ALL", "syntax error near 'ALL'"),
        ("ALL ALL", "syntax error near 'ALL'"),
        ("ALL SOFT SOFT", "syntax error near 'SOFT'"),
        ("ALL GUARD", "syntax error near 'GUARD'"),
        ("ALL GUARD 1 GUARD 1", "syntax error near 'GUARD'"),
        ("TAGS", "syntax error near 'TAGS'"),
        ("TAGS 0", "invalid TAGS '0': a whole number from 1 to 10000 is wanted"),
        ("TAGS 2 t", "TAGS says 2, but 1 follow: give the count of what follows"),
        ("TAGS 1 ", "invalid tag '': a tag has 1 to 255 bytes"),
        ("TAGS 1 t u", "syntax error near 'u'"),
        ("t", "syntax error near 't'"),
        ("ALL GUARD 86401", "invalid GUARD '86401': is too long: at most 1d (smartcache.max-guard)"),
        ("ALL SOFT OVER 2d", "invalid OVER '2d': is too long: at most 1d (smartcache.max-over)"),
    ] {
        assert_eq!(node.refusal(&format!("INVALIDATE {line}")), format!("ERR {error}"), "{line}");
    }
    let long = node.refusal(&format!("INVALIDATE TAGS 2 t {}", "x".repeat(256)));
    assert!(long.starts_with("ERR invalid tag 'xxx") && long.ends_with("': a tag has 1 to 255 bytes"), "{long}");
    assert_eq!(node.refusal("INVALIDATE"), "ERR wrong number of arguments for 'smartcache.invalidate' command");
}

#[test]
fn guards_and_ramps_that_a_file_or_another_node_holds_are_bounded_and_never_refused() {
    let mark = |kind: &str, guard: &str, over: &str| {
        let words = ["SMARTCACHE.MARK", "5", "5", guard, kind, over, "PREFIXES", "k"];
        words.map(|word| word.as_bytes().to_vec()).to_vec()
    };
    let hundred_years = "3153600000000";
    let guarded = mark("HARD", hundred_years, "0");
    let ramp = mark("SOFT", "0", hundred_years);
    let held = |node: &TestNode| node.marks_as_words().iter().map(|(_, words)| words.clone()).collect::<Vec<_>>();
    let shown = |node: &TestNode, at: usize| String::from_utf8(held(node)[0][at].clone()).unwrap();
    let (mut primary, mut replica) = (node(), TestNode::replica_at(1_000_000));
    for node in [&mut primary, &mut replica] {
        node.obey(&slices(&guarded));
        assert_eq!(shown(node, 2), "86400000", "a guard counts on a primary alone");
    }
    let (mut primary, mut replica) = (node(), TestNode::replica_at(1_000_000));
    primary.obey(&slices(&ramp));
    replica.obey(&slices(&ramp));
    assert_eq!((shown(&primary, 4), shown(&replica, 4)), ("86400000".into(), hundred_years.into()));
    let now = primary.now();
    let mut saved = Vec::new();
    primary.config("max-guard", "36500d").unwrap();
    primary.call("INVALIDATE ALL GUARD 3000d");
    assert!(crate::cache::node::aux_data::save(&primary.state, now, &mut |string| saved.push(string.to_vec())));
    let (mut loaded, mut strings) = (node(), saved.into_iter());
    crate::cache::node::aux_data::load(&mut loaded.state, now, || strings.next()).unwrap();
    let token = loaded.token("GETLOCK k");
    assert_eq!(load(&mut loaded, &token, ""), "\"STALE\"");
    loaded.advance(86_400_000);
    let token = loaded.token("GETLOCK k");
    assert_eq!(load(&mut loaded, &token, ""), "OK");
}

#[test]
fn the_guard_of_the_setting_is_bounded_too() {
    let mut node = node();
    let error = "smartcache.guard: '172800' is too long: at most 1d (smartcache.max-guard)";
    assert_eq!(node.config("guard", "2d").unwrap_err(), error);
    node.config("guard", "10s").unwrap();
    node.config("max-guard", "2s").unwrap();
    node.call("INVALIDATE ALL");
    node.call("DEL k");
    node.advance(1_999);
    let token = node.token("GETLOCK k");
    assert_eq!(load(&mut node, &token, ""), "\"STALE\"");
    node.advance(1);
    let token = node.token("GETLOCK k");
    assert_eq!(load(&mut node, &token, ""), "OK");
}
