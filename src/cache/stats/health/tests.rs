use super::diagnose::{RULES_NAMED, diagnose, suggested_lock_ms};
use super::phrases::{size, span};
use super::{Backlog, Facts, Growth, Guarded, REASONS, RuleFacts};
use crate::cache::ports::ServerInfo;
use crate::cache::rules::Policies;
use crate::cache::stats::Counters;
use crate::config::Settings;
use crate::testing::TestNode;

const MB: u64 = 1 << 20;

/// A node that has run for an hour.
fn node() -> TestNode {
    let mut node = TestNode::at(1_000_000);
    node.advance(3_600_000);
    node
}

fn reasons(node: &mut TestNode) -> Vec<(&'static str, String)> {
    let now = node.now();
    let health = node.state.health(&node.server, now);
    assert_eq!(health.status(), if health.reasons.is_empty() { "ok" } else { "warn" });
    assert!(health.reasons.iter().all(|reason| reason.text.is_ascii()), "redis-cli escapes everything else");
    health.reasons.into_iter().map(|reason| (reason.code, reason.text)).collect()
}

fn codes(node: &mut TestNode) -> Vec<&'static str> {
    reasons(node).into_iter().map(|(code, _)| code).collect()
}

/// The only reason.
fn reason(node: &mut TestNode) -> (&'static str, String) {
    let mut all = reasons(node);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn times(node: &mut TestNode, count: usize, line: &str) {
    (0..count).for_each(|i| drop(node.call(&line.replace('#', &i.to_string()))));
}

/// Loads that take this long, under leases of these options.
fn loads(node: &mut TestNode, count: usize, words: &str, took_ms: u64) {
    for i in 0..count {
        let key = format!("a:{}:{i}", node.now().mono_ms());
        let token = node.token(format!("GETLOCK {key} {words}").trim_end());
        node.advance(took_ms);
        node.call(&format!("SET {key} v TOKEN {token}"));
    }
}

#[test]
fn codes_are_unique_and_their_texts_are_sentences() {
    let mut codes: Vec<_> = REASONS.iter().map(|(code, ..)| *code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), REASONS.len());
    for (code, when, what) in REASONS {
        assert!(when.ends_with('.') && what.ends_with('.'), "{code}");
    }
}

#[test]
fn an_idle_server_is_healthy() {
    for mut node in [TestNode::at(0), node(), TestNode::replica_at(5)] {
        let now = node.now();
        let health = node.state.health(&node.server, now);
        assert_eq!((health.status(), health.reasons), ("ok", vec![]));
        assert_eq!((health.hit_rate, health.error_rate, health.evicted_per_sec), (0.0, 0.0, 0.0));
    }
}

#[test]
fn a_hit_rate_is_judged_by_the_last_five_minutes_and_by_enough_requests() {
    let mut node = node();
    node.call("SET k v EX 9999");
    times(&mut node, 49, "GET k");
    times(&mut node, 50, "GET cold#");
    assert!(codes(&mut node).is_empty(), "99 are too few");
    node.call("GET k");
    assert!(codes(&mut node).is_empty(), "half of them is not below half");
    node.call("GET cold");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "hit_rate");
    assert_eq!(
        text,
        "The hit rate over the last 5 minutes is 49.5% of 101 requests, below smartcache.health-hit-rate \
         (50%). Of the 51 others, 51 were cold misses: keys that were never stored, or were deleted. Store popular \
         keys in advance, and find out what deletes them. SMARTCACHE.STATS RULES WINDOW 5m shows the numbers."
    );
    node.config("health-hit-rate", "45%").unwrap();
    assert!(codes(&mut node).is_empty());
    node.config("health-hit-rate", "100%").unwrap();
    assert_eq!(codes(&mut node), ["hit_rate"]);
    node.config("health-hit-rate", "0").unwrap();
    assert!(codes(&mut node).is_empty());
    node.config("health-hit-rate", "50%").unwrap();
    node.set_clock(0); // health does not use the wall clock
    assert_eq!(codes(&mut node), ["hit_rate"]);
    node.advance(360_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_low_hit_rate_names_the_most_frequent_cause_and_the_worst_rule() {
    let mut node = node();
    node.call("RULE SET user MATCH u* TTL 1");
    times(&mut node, 80, "SET u# v");
    node.advance(2_000);
    times(&mut node, 80, "GET u#");
    times(&mut node, 30, "GET other#");
    let (_, text) = reason(&mut node);
    assert!(text.contains("Of the 110 others, 80 were misses of expired entries: raise their TTL"), "{text}");
    assert!(text.contains(" 80 of the 110 concern rule 'user', with a hit rate of 0%."), "{text}");
}

#[test]
fn a_low_hit_rate_right_after_the_start_mentions_that_the_cache_may_be_filling() {
    let mut node = TestNode::at(1_000_000);
    node.advance(14_200);
    times(&mut node, 100, "GET cold#");
    let (_, text) = reason(&mut node);
    assert!(text.ends_with("(The server started 14.2 s ago: the cache may still be filling.)"), "{text}");
}

#[test]
fn evictions_of_fresh_entries_are_reported_with_their_rule_and_the_misses_they_caused() {
    let mut node = node();
    node.server.server_info.memory_max_bytes = 100 * MB;
    node.call("RULE SET page MATCH p*");
    times(&mut node, 20, "SET p# v");
    times(&mut node, 20, "SET s# v EX 1 SWR 9999");
    node.advance(2_000);
    (0..20).for_each(|i| node.evict(&format!("s{i}")));
    (0..9).for_each(|i| node.evict(&format!("p{i}")));
    node.plain_set("string", "v", None);
    node.evict("string");
    assert!(codes(&mut node).is_empty(), "stale entries do not count");
    node.evict("p9");
    node.call("GET p9");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "evictions");
    assert_eq!(
        text,
        "The server evicted 10 fresh entries in the last 5 minutes, 10 of them of rule 'page'; 1 request \
         missed because of evictions. The data does not fit into memory: raise maxmemory (now 100 MB), or \
         shorten the lifetimes (TTL, SWR, SIE) of what is requested least."
    );
    assert_eq!((node.stat("entries_evicted"), node.stat("keys_evicted")), ("10".into(), "31".into()));
    node.call("RESETSTAT");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn evictions_per_second_are_of_the_last_minute_or_since_the_start() {
    let mut node = TestNode::at(1_000_000);
    let rate = |node: &mut TestNode| {
        let now = node.now();
        node.state.health(&node.server, now).evicted_per_sec
    };
    (0..30).for_each(|_| node.evict("k"));
    assert_eq!(rate(&mut node), 30.0, "over at least one second");
    node.advance(20_000);
    assert_eq!(rate(&mut node), 1.5);
    node.advance(40_000);
    assert_eq!(rate(&mut node), 0.5);
    node.advance(1_000_000);
    assert_eq!(rate(&mut node), 0.0);
}

#[test]
fn memory_close_to_its_limit_is_reported_with_what_happens_there() {
    let mut node = node();
    let mut text_at = |used, uncounted, policy: &str| {
        node.server.server_info = ServerInfo {
            memory_used_bytes: used,
            memory_uncounted_bytes: uncounted,
            memory_max_bytes: 1_000 * MB,
            memory_policy: policy.into(),
            ..ServerInfo::default()
        };
        reasons(&mut node).pop().map(|(code, text)| {
            assert_eq!(code, "memory");
            text
        })
    };
    assert_eq!(text_at(900 * MB - 1, 0, "noeviction"), None);
    assert_eq!(text_at(1_000 * MB, 101 * MB, "noeviction"), None);
    assert_eq!(
        text_at(900 * MB, 0, "noeviction").unwrap(),
        "Memory is at 90% of maxmemory: 900 MB of 1000 MB. At the limit stores answer OOM. Raise maxmemory, \
         or CONFIG SET maxmemory-policy allkeys-lfu."
    );
    assert!(
        text_at(1_024 * MB, 0, "volatile-ttl").unwrap().contains("1 GB of 1000 MB. At the limit keys with an expiry")
    );
    assert!(
        text_at(999 * MB, 0, "allkeys-lru")
            .unwrap()
            .contains("keys are evicted, fresh ones too (maxmemory-policy allkeys-lru)")
    );
    node.evict("k");
    assert!(codes(&mut node).is_empty(), "an evicting cache normally runs at its limit");
    node.server.server_info.memory_policy = "noeviction".into();
    assert_eq!(codes(&mut node), ["memory"]);
    node.server.server_info.memory_max_bytes = 0;
    assert!(codes(&mut node).is_empty());
}

#[test]
fn expired_leases_are_reported_with_the_rule_and_the_measured_load_time() {
    let mut node = node();
    node.call("RULE SET slow MATCH a:* LOCK 2");
    loads(&mut node, 3, "", 1_900);
    assert!(codes(&mut node).is_empty());
    loads(&mut node, 2, "", 14_200);
    let (code, text) = reason(&mut node);
    assert_eq!(code, "leases_expired");
    assert_eq!(
        text,
        "Rule 'slow': 2 of 5 leases ran out in the last 5 minutes; each lets one more caller load. 2 fills \
         arrived late, after 14.2 s on average; LOCK is 2s. Raise LOCK: SMARTCACHE.RULE SET slow ... LOCK \
         29s; or let loaders call SMARTCACHE.EXTEND."
    );
    node.advance(400_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn the_advice_for_expired_leases_names_where_their_length_comes_from() {
    let mut node = node();
    loads(&mut node, 1, "LOCK 100ms", 300);
    let (_, text) = reason(&mut node);
    assert!(text.starts_with("Keys without a rule: 1 of 1 lease ran out"), "{text}");
    assert!(text.contains("LOCK is 10s, so callers of GETLOCK set a shorter one: use LOCK 600ms there"), "{text}");
    let mut node = self::node();
    loads(&mut node, 1, "", 20_000);
    assert!(reason(&mut node).1.contains("CONFIG SET smartcache.lock 40s"));
    let mut node = self::node();
    node.config("rules", r#"[{"name":"c","match":"a:*","lock":1}]"#).unwrap();
    loads(&mut node, 1, "", 5_000);
    assert!(reason(&mut node).1.contains("LOCK 10s for this rule in smartcache.rules"));
}

#[test]
fn three_expired_leases_without_a_late_fill_are_reported() {
    let mut node = node();
    loads(&mut node, 1, "", 500);
    times(&mut node, 2, "GETLOCK dead#");
    node.advance(11_000);
    assert!(codes(&mut node).is_empty());
    node.call("GETLOCK dead");
    node.advance(11_000);
    let (code, text) = reason(&mut node);
    assert_eq!(code, "leases_expired");
    assert!(text.contains("3 of 4 leases ran out"), "{text}");
    assert!(text.contains("No fill arrived late (loads that ended in time took 500 ms on average)"), "{text}");
}

#[test]
fn a_fill_that_is_late_because_its_lease_was_voided_is_not_a_sign_of_an_expired_lease() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    node.call("STALE k");
    node.advance(20_000);
    node.call(&format!("SET k v TOKEN {token}"));
    assert_eq!(node.stat("fills_late"), "1");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn refused_leases_are_reported_with_the_limit() {
    let mut node = node();
    node.call("RULE SET tight MATCH t* FILLS 1");
    node.call("GETLOCK t");
    times(&mut node, 4, "GETLOCK t#");
    assert!(codes(&mut node).is_empty());
    node.call("GETLOCK t4");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "leases_refused");
    assert!(text.starts_with("Rule 'tight': 5 leases were refused in the last 5 minutes, because FILLS (1) or"));
    assert!(text.contains("SMARTCACHE.RULE SET tight ... FILLS 2"), "{text}");
    assert_eq!(node.stat("leases_refused"), "5");
    let mut node = self::node();
    node.config("max-leases", "0").unwrap();
    times(&mut node, 5, "GETLOCK t#");
    assert!(reason(&mut node).1.contains("because smartcache.max-leases (0) was reached"));
}

#[test]
fn refused_fills_are_reported_with_their_replies() {
    let mut node = node();
    node.config("max-value", "5").unwrap();
    times(&mut node, 2, "SET k v TOKEN bogus#");
    for i in 0..3 {
        let token = node.token(&format!("GETLOCK s{i}"));
        node.call(&format!("DEL s{i}"));
        node.call(&format!("SET s{i} v TOKEN {token}"));
    }
    let token = node.token("GETLOCK large");
    node.call(&format!("SET large 123456 TOKEN {token}"));
    let (code, text) = reason(&mut node);
    assert_eq!(code, "fills_refused");
    assert_eq!(
        text,
        "Keys without a rule: 6 fills were not stored as fresh in the last 5 minutes: 3 got STALE (the key was \
         deleted, invalidated or flushed during the load); 2 got LOST (something newer was written, or the token is \
         not valid here); 1 got an error (over smartcache.max-value, or out of memory). 2 tokens were not issued by \
         this server for that key since its last start or change of role: does a client write to another server \
         than it reads from?"
    );
    assert_eq!(node.stat("fills_refused"), "6");
    loads(&mut node, 60, "", 1);
    assert!(codes(&mut node).is_empty(), "less than a tenth");
}

#[test]
fn a_guard_that_refuses_fills_is_named_until_it_is_over_or_taken_back() {
    for (what, back) in [("TAGS 1 t", true), ("ALL", true), ("PREFIXES 1 a:", false), ("PATTERNS 1 a:*", true)] {
        let mut node = node();
        loads(&mut node, 60, "", 1);
        node.call(&format!("INVALIDATE {what} GUARD 1h"));
        node.call("INVALIDATE TAGS 1 other GUARD 2h");
        for n in 0..5 {
            assert!(codes(&mut node).is_empty());
            let token = node.token(&format!("GETLOCK a:{n}"));
            assert_eq!(node.call(&format!("SET a:{n} v TOKEN {token} TAGS 1 t")), "\"STALE\"");
        }
        let (code, text) = reason(&mut node);
        assert_eq!(code, "guarded");
        assert_eq!(
            text,
            format!(
                "5 fills were refused in the last 5 minutes because their loads began within a guard. The last one is \
                 that of INVALIDATE {what} in database 0; it stands for another 60 min. If the origin's replicas do \
                 not lag that long, take it back: SMARTCACHE.INVALIDATE {what} GUARD 0 (it invalidates once more)."
            )
        );
        assert_eq!((node.stat("fills_guarded"), node.stat("fills_refused")), ("5".into(), "5".into()));
        match back {
            true => {
                assert_eq!(node.call(&format!("INVALIDATE {what} GUARD 0")), "0")
            }
            false => node.flush(false),
        }
        assert!(codes(&mut node).is_empty(), "{what}");
    }
}

#[test]
fn marks_that_near_their_limit_are_reported() {
    let mut node = node();
    node.config("index-memory", "10kb").unwrap();
    for n in 0..32 {
        node.call(&format!("INVALIDATE TAGS 1 t{n} GUARD 1h"));
    }
    let (code, text) = reason(&mut node);
    assert_eq!(code, "index_memory");
    assert!(text.contains("of 10 KB (smartcache.index-memory 10kb)"), "{text}");
    node.config("index-memory", "0").unwrap();
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_user_that_is_refused_more_than_its_share_is_named() {
    let mut node = node();
    node.config("max-leases", "2").unwrap();
    node.call("GETLOCK a");
    assert!(codes(&mut node).is_empty());
    node.call("GETLOCK b");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "user_share");
    assert_eq!(
        text,
        "A lease or a wait was refused once in the last 5 minutes, because a user held its share \
         (smartcache.user-share, 50%) of smartcache.max-leases or smartcache.max-waiters; the last one was 'ada'. If \
         nobody else uses this server: CONFIG SET smartcache.user-share 100%. Otherwise find out what that user does \
         with them, or raise those limits."
    );
    node.advance(400_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_rule_that_never_matches_is_reported_after_a_thousand_keys() {
    let mut node = node();
    times(&mut node, 1_000, "SET k v");
    node.call("RULE SET dead MATCH nosuch:* MATCH other");
    node.call("RULE SET kept MATCH keep");
    node.call("SET keep v EX 99999");
    node.call("RULE SET late MATCH x*");
    assert!(codes(&mut node).is_empty(), "keys before the rule was set do not count");
    times(&mut node, 499, "SET k v");
    times(&mut node, 499, "GET k");
    assert!(codes(&mut node).is_empty());
    node.call("RULE SET late MATCH y*");
    node.advance(180_000);
    node.call("GET k");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "rule_unmatched");
    assert_eq!(
        text,
        "Rule 'dead' (MATCH 'nosuch:*' and 1 more) has matched none of 1000 keys that were requested or \
         stored in 3 min. The pattern has a mistake, or another rule comes first: run SMARTCACHE.RULE EXPLAIN \
         with a key that should match. If the rule is no longer needed, SMARTCACHE.RULE DEL dead."
    );
    node.call("RESETSTAT");
    assert!(codes(&mut node).is_empty());
    times(&mut node, 1_000, "GET k");
    let unmatched: Vec<_> = reasons(&mut node).into_iter().map(|(_, text)| text).collect();
    assert_eq!(unmatched.len(), 2, "one has an entry: {unmatched:#?}");
    node.call("GET nosuch:1");
    node.call("RULE DEL late");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_configured_rule_that_matches_nothing_is_no_fault() {
    let mut node = node();
    node.config("rules", r#"[{"name":"c","match":"c:*"},{"name":"hidden","match":"h:*"}]"#).unwrap();
    node.call("RULE SET hidden MATCH h:*");
    node.call("RULE SET own MATCH \x01*");
    node.call("SET k v");
    times(&mut node, 1_000, "GET k");
    let (_, text) = reason(&mut node);
    assert!(text.starts_with(r"Rule 'own' (MATCH '\x01*') has"), "{text}");
}

#[test]
fn of_many_rules_the_worst_are_named_and_the_others_counted() {
    let mut node = node();
    (0..9).for_each(|i| drop(node.call(&format!("RULE SET r{i} MATCH nosuch{i}"))));
    node.call("SET k v");
    times(&mut node, 1_000, "GET k");
    let all = reasons(&mut node);
    assert_eq!(all.len(), RULES_NAMED + 1);
    assert!(all.iter().all(|(code, _)| *code == "rule_unmatched"));
    assert!(all[0].1.starts_with("Rule 'r0'"));
    assert_eq!(
        all[RULES_NAMED].1,
        "The same holds for 4 more rules: SMARTCACHE.STATS RULES shows their counters at 0."
    );
}

#[test]
fn a_rule_whose_values_never_shrink_is_reported_while_it_stores() {
    let mut node = node();
    let noise: Vec<u8> = (0..200_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let store = |node: &mut TestNode, count| {
        (0..count).for_each(|_| drop(node.call_words(&[b"SET", b"img:1", &noise, b"EX", b"99999"])));
    };
    node.call("RULE SET img MATCH img:*");
    store(&mut node, 31);
    assert!(codes(&mut node).is_empty());
    store(&mut node, 300);
    let (code, text) = reason(&mut node);
    assert_eq!(code, "rule_incompressible");
    assert!(text.contains("smartcache.min-savings (20%)"), "{text}");
    assert!(text.ends_with("turn compression off: SMARTCACHE.RULE SET img ... CODEC none."), "{text}");
    node.call("RULE SET img MATCH img:* CODEC none");
    assert!(codes(&mut node).is_empty());
    node.call("RULE SET img MATCH img:* CODEC zstd");
    assert_eq!(codes(&mut node), ["rule_incompressible"]);
    node.advance(3_700_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn panics_are_reported_until_the_counters_are_reset() {
    let mut node = node();
    let now = node.now();
    node.state.stats.at(now).node().panics += 1;
    node.advance(100_000_000);
    let (code, text) = reason(&mut node);
    assert_eq!(code, "panics");
    assert!(text.starts_with("A panic was caught since start or RESETSTAT: a bug in SmartCache."), "{text}");
    node.call("RESETSTAT");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_backlog_that_only_grows_for_five_minutes_is_reported() {
    let mut node = node();
    let see = |node: &mut TestNode, waiting: &[u64]| {
        for waiting in waiting {
            node.advance(30_000);
            let now = node.now();
            node.state.backlog.record(*waiting, now);
        }
        codes(node)
    };
    assert!(see(&mut node, &[0; 20]).is_empty());
    assert!(see(&mut node, &[9_000; 4]).is_empty(), "it has only begun");
    assert!(
        see(&mut node, &[9_000, 9_000, 9_000, 9_900, 9_900, 9_900, 9_950, 9_950]).is_empty(),
        "it grew by less than 1000"
    );
    assert_eq!(see(&mut node, &[12_000, 12_000, 12_000]), ["sweep_backlog"]);
    let (_, text) = reason(&mut node);
    assert!(text.contains("12000 keys wait to be checked, 3000 more than 5 minutes ago"), "{text}");
    assert!(see(&mut node, &[11_000, 13_000, 14_000, 15_000]).is_empty(), "it was smaller for a moment");
    assert!(see(&mut node, &[20_000; 20]).is_empty(), "it does not grow");
    node.state.backlog = Backlog::default();
    assert!(see(&mut node, &[1, 1, 2_000, 2_000]).is_empty());
    node.advance(3_600_000);
    assert!(see(&mut node, &[9_000]).is_empty(), "it was not sampled for an hour");
}

#[test]
fn a_sweep_that_gets_no_time_is_reported_and_a_deferred_one_is_not() {
    let mut node = node();
    let minute = |node: &mut TestNode, from: usize| {
        (from..from + 500).for_each(|i| drop(node.call(&format!("SET k{i} v EX 99999"))));
        node.advance(60_000);
        let now = node.now();
        node.state.sample_backlog(now);
    };
    node.call("INVALIDATE PREFIXES 1 x SOFT OVER 1h");
    node.sweep(); // walks once now, and once more in an hour
    (0..7).for_each(|i| minute(&mut node, i * 500));
    assert_eq!(reasons(&mut node), []);
    node.call("INVALIDATE PREFIXES 1 y");
    (7..14).for_each(|i| minute(&mut node, i * 500));
    assert_eq!(codes(&mut node), ["sweep_backlog"]);
    node.sweep();
    node.advance(5_000);
    let now = node.now();
    node.state.sample_backlog(now);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn durations_and_sizes_are_rounded_for_people() {
    let spans = [0, 999, 1_000, 14_249, 119_000, 120_000, 7_200_000, 86_400_000 * 3].map(span);
    assert_eq!(spans, ["0 ms", "999 ms", "1 s", "14.2 s", "119 s", "2 min", "2 h", "3 d"]);
    assert_eq!([0, 1_023, 1_024, MB * 3 / 2, 5 << 30].map(size), ["0 bytes", "1023 bytes", "1 KB", "1.5 MB", "5 GB"]);
    assert_eq!([0, 30, 250, 600, 14_200].map(suggested_lock_ms), [100, 100, 500, 2_000, 29_000]);
}

#[test]
fn nothing_overflows() {
    let settings = Settings::default();
    let policies = Policies::new(settings.policy(), &settings.rules);
    let most = Counters::default().with(&Counters::default(), |_, _| u64::from(u32::MAX));
    let server_info = ServerInfo { memory_used_bytes: u64::MAX, memory_max_bytes: u64::MAX, ..ServerInfo::default() };
    let of_rule = RuleFacts {
        rule: None,
        policy: policies.policy(None),
        recent: most,
        unmatched: Some((u64::MAX, u64::MAX)),
        incompressible: true,
    };
    let reasons = diagnose(&Facts {
        server_info: &server_info,
        replica: true,
        settings: &settings,
        recent: most,
        rules: vec![of_rule],
        refused_user: None,
        panics: u64::MAX,
        backlog: Some(Growth { by: u64::MAX, to: u64::MAX }),
        guarded: Some(&Guarded { what: String::new(), db: i32::MAX, until_ms: u64::MAX }),
        mark_bytes: (u64::MAX, u64::MAX),
        mono_ms: u64::MAX,
        uptime_ms: u64::MAX,
    });
    assert!(reasons.len() >= 5, "{reasons:#?}");
}
