use super::diagnose::{RULES_NAMED, diagnose, suggested_lock_ms};
use super::phrases::{size, span};
use super::{Backlog, Facts, Growth, REASONS, RuleFacts};
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
    assert!(health.reasons.iter().all(|reason| reason.text.is_ascii()), "or redis-cli would show it in numbers");
    health.reasons.into_iter().map(|reason| (reason.code, reason.text)).collect()
}

fn codes(node: &mut TestNode) -> Vec<&'static str> {
    reasons(node).into_iter().map(|(code, _)| code).collect()
}

/// The only reason there is.
fn reason(node: &mut TestNode) -> (&'static str, String) {
    let mut all = reasons(node);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn times(node: &mut TestNode, count: usize, line: &str) {
    (0..count).for_each(|i| drop(node.call(&line.replace('#', &i.to_string()))));
}

/// Loads that take so long under a LOCK.
fn loads(node: &mut TestNode, count: usize, words: &str, took_ms: u64) {
    for i in 0..count {
        let key = format!("a:{}:{i}", node.now().mono_ms());
        let token = node.token(format!("GETLOCK {key} {words}").trim_end());
        node.advance(took_ms);
        node.call(&format!("SET {key} v TOKEN {token}"));
    }
}

#[test]
fn codes_are_unique_and_what_is_said_of_them_are_sentences() {
    let mut codes: Vec<_> = REASONS.iter().map(|(code, ..)| *code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), REASONS.len());
    for (code, when, what) in REASONS {
        assert!(when.ends_with('.') && what.ends_with('.'), "{code}");
    }
}

#[test]
fn an_idle_server_is_well() {
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
         (50%). Of the 51 others 51 were cold: keys that were never stored, or were deleted. Load what is \
         known to be asked for, and see what deletes it. SMARTCACHE.STATS RULES WINDOW 5m has the numbers."
    );
    node.config("health-hit-rate", "45%").unwrap();
    assert!(codes(&mut node).is_empty());
    node.config("health-hit-rate", "100%").unwrap();
    assert_eq!(codes(&mut node), ["hit_rate"]);
    node.config("health-hit-rate", "0").unwrap();
    assert!(codes(&mut node).is_empty());
    node.config("health-hit-rate", "50%").unwrap();
    node.set_clock(0); // which is not asked
    assert_eq!(codes(&mut node), ["hit_rate"]);
    node.advance(360_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn of_a_low_hit_rate_the_commonest_cause_and_the_worst_rule_are_named() {
    let mut node = node();
    node.call("RULE SET user MATCH u* TTL 1");
    times(&mut node, 80, "SET u# v");
    node.advance(2_000);
    times(&mut node, 80, "GET u#");
    times(&mut node, 30, "GET other#");
    let (_, text) = reason(&mut node);
    assert!(text.contains("Of the 110 others 80 were of keys whose time was over: raise their TTL"), "{text}");
    assert!(text.contains(" Most are of rule 'user': 80, with a hit rate of 0%."), "{text}");
}

#[test]
fn a_server_that_has_just_started_says_that_it_may_be_filling() {
    let mut node = TestNode::at(1_000_000);
    node.advance(14_200);
    times(&mut node, 100, "GET cold#");
    let (_, text) = reason(&mut node);
    assert!(text.ends_with("(The server started 14.2 s ago: the cache may still be filling.)"), "{text}");
}

#[test]
fn fresh_entries_that_are_evicted_are_told_with_their_rule_and_what_they_cost() {
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
    assert!(codes(&mut node).is_empty(), "what is stale may go");
    node.evict("p9");
    node.call("GET p9");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "evictions");
    assert_eq!(
        text,
        "The server evicted 10 fresh entries in the last 5 minutes, 10 of them of rule 'page'; 1 request \
         missed because of evictions. MarkTarget is to be kept does not fit: raise maxmemory (now 100 MB), or \
         shorten lifetimes (TTL, SWR, SIE) of what is asked for least."
    );
    assert_eq!((node.stat("entries_evicted"), node.stat("keys_evicted")), ("10".into(), "31".into()));
    node.call("RESETSTAT");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn evictions_a_second_are_of_the_last_minute_or_since_the_start() {
    let mut node = TestNode::at(1_000_000);
    let rate = |node: &mut TestNode| {
        let now = node.now();
        node.state.health(&node.server, now).evicted_per_sec
    };
    (0..30).for_each(|_| node.evict("k"));
    assert_eq!(rate(&mut node), 30.0, "at the least of a second");
    node.advance(20_000);
    assert_eq!(rate(&mut node), 1.5);
    node.advance(40_000);
    assert_eq!(rate(&mut node), 0.5);
    node.advance(1_000_000);
    assert_eq!(rate(&mut node), 0.0);
}

#[test]
fn memory_close_to_its_limit_is_told_with_what_happens_there() {
    let mut node = node();
    let mut said = |used, uncounted, policy: &str| {
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
    assert_eq!(said(900 * MB - 1, 0, "noeviction"), None);
    assert_eq!(said(1_000 * MB, 101 * MB, "noeviction"), None);
    assert_eq!(
        said(900 * MB, 0, "noeviction").unwrap(),
        "Memory is at 90% of maxmemory, 900 MB of 1000 MB: at the limit stores answer OOM. Raise maxmemory, \
         or CONFIG SET maxmemory-policy allkeys-lfu."
    );
    assert!(said(1_024 * MB, 0, "volatile-ttl").unwrap().contains("1 GB of 1000 MB: at the limit keys with an expiry"));
    assert!(said(999 * MB, 0, "allkeys-lru").unwrap().contains("keys are evicted (maxmemory-policy allkeys-lru)"));
    node.evict("k");
    assert!(codes(&mut node).is_empty(), "where it evicts, that is how it lives");
    node.server.server_info.memory_policy = "noeviction".into();
    assert_eq!(codes(&mut node), ["memory"]);
    node.server.server_info.memory_max_bytes = 0;
    assert!(codes(&mut node).is_empty());
}

#[test]
fn leases_that_run_out_are_told_with_the_rule_and_the_measured_load_time() {
    let mut node = node();
    node.call("RULE SET slow MATCH a:* LOCK 2");
    loads(&mut node, 3, "", 1_900);
    assert!(codes(&mut node).is_empty());
    loads(&mut node, 2, "", 14_200);
    let (code, text) = reason(&mut node);
    assert_eq!(code, "leases_expired");
    assert_eq!(
        text,
        "Rule 'slow': 2 of 5 leases ran out in the last 5 minutes, each lets one more caller load; 2 loads \
         came home later, after 14.2 s on average; LOCK is 2s. Set it above that: SMARTCACHE.RULE SET slow \
         ... LOCK 29s; or let loaders call SMARTCACHE.EXTEND."
    );
    node.advance(400_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_lease_that_runs_out_is_told_where_its_length_comes_from() {
    let mut node = node();
    loads(&mut node, 1, "LOCK 100ms", 300);
    let (_, text) = reason(&mut node);
    assert!(text.starts_with("Keys without a rule: 1 of 1 lease ran out"), "{text}");
    assert!(
        text.contains("LOCK is 10s, so the callers of GETLOCK give a shorter one: let them say LOCK 600ms"),
        "{text}"
    );
    let mut node = self::node();
    loads(&mut node, 1, "", 20_000);
    assert!(reason(&mut node).1.contains("CONFIG SET smartcache.lock 40s"));
    let mut node = self::node();
    node.config("rules", r#"[{"name":"c","match":"a:*","lock":1}]"#).unwrap();
    loads(&mut node, 1, "", 5_000);
    assert!(reason(&mut node).1.contains("LOCK 10s for it in smartcache.rules"));
}

#[test]
fn loads_that_never_come_home_are_told_after_three() {
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
    assert!(
        text.contains("none of their loads came home later (those that came in time took 500 ms on average)"),
        "{text}"
    );
}

#[test]
fn a_load_that_is_late_because_its_lease_was_ended_is_not_one_that_ran_out() {
    let mut node = node();
    let token = node.token("GETLOCK k");
    node.call("STALE k");
    node.advance(20_000);
    node.call(&format!("SET k v TOKEN {token}"));
    assert_eq!(node.stat("fills_late"), "1");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn leases_that_are_refused_are_told_with_the_limit() {
    let mut node = node();
    node.call("RULE SET tight MATCH t* FILLS 1");
    node.call("GETLOCK t");
    times(&mut node, 4, "GETLOCK t#");
    assert!(codes(&mut node).is_empty());
    node.call("GETLOCK t4");
    let (code, text) = reason(&mut node);
    assert_eq!(code, "leases_refused");
    assert!(
        text.starts_with(
            "Rule 'tight': 5 requests for a lease were refused in the last 5 minutes, because FILLS (1) or"
        )
    );
    assert!(text.contains("SMARTCACHE.RULE SET tight ... FILLS 2"), "{text}");
    assert_eq!(node.stat("leases_refused"), "5");
    let mut node = self::node();
    node.config("max-leases", "0").unwrap();
    times(&mut node, 5, "GETLOCK t#");
    assert!(reason(&mut node).1.contains("because smartcache.max-leases (0) was reached"));
}

#[test]
fn fills_that_are_refused_are_told_with_what_they_were_answered() {
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
        "Keys without a rule: 6 loads that came home in the last 5 minutes were not stored as fresh: 3 \
         STALE, because the key was deleted, invalidated or flushed while it was loaded; 2 LOST, because \
         something newer was written or the token was not this server's; 1 an error, over \
         smartcache.max-value or out of memory. 2 of the tokens were never given by this server in this \
         life: does a client write elsewhere than it reads?"
    );
    assert_eq!(node.stat("fills_refused"), "6");
    loads(&mut node, 60, "", 1);
    assert!(codes(&mut node).is_empty(), "less than a tenth");
}

#[test]
fn a_rule_that_never_matches_is_told_once_there_was_enough_to_match() {
    let mut node = node();
    times(&mut node, 1_000, "SET k v");
    node.call("RULE SET dead MATCH nosuch:* MATCH other");
    node.call("RULE SET kept MATCH keep");
    node.call("SET keep v EX 99999");
    node.call("RULE SET late MATCH x*");
    assert!(codes(&mut node).is_empty(), "what came before it was made does not count");
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
        "Rule 'dead' (MATCH 'nosuch:*' and 1 more) has matched none of 1000 keys that were asked for or \
         stored in 3 min. A slip in the pattern, or another rule comes first: SMARTCACHE.RULE EXPLAIN with \
         a key that it is meant for. If it is of no use, SMARTCACHE.RULE DEL dead."
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
fn rules_of_the_configuration_are_met_when_they_are_configured() {
    let mut node = node();
    node.call("SET k v");
    times(&mut node, 1_000, "GET k");
    node.config("rules", r#"[{"name":"c","match":"\u0001\"\n*"}]"#).unwrap();
    assert!(codes(&mut node).is_empty());
    node.config("jitter", "1%").unwrap();
    times(&mut node, 1_000, "GET k");
    let (_, text) = reason(&mut node);
    assert!(text.starts_with(r#"Rule 'c' (MATCH '\x01\"\n*') has"#), "{text}");
    assert!(text.ends_with("If it is of no use, take it out of smartcache.rules."));
}

#[test]
fn of_many_rules_the_worst_are_told_and_the_others_counted() {
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
        "The same holds for 4 more rules: SMARTCACHE.STATS RULES shows them with zeros only."
    );
}

#[test]
fn a_rule_whose_values_never_shrink_is_told_while_it_stores() {
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
    assert!(text.ends_with("say so: SMARTCACHE.RULE SET img ... CODEC none."), "{text}");
    node.call("RULE SET img MATCH img:* CODEC none");
    assert!(codes(&mut node).is_empty());
    node.call("RULE SET img MATCH img:* CODEC zstd");
    assert_eq!(codes(&mut node), ["rule_incompressible"]);
    node.advance(3_700_000);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn panics_are_told_until_the_counters_are_reset() {
    let mut node = node();
    let now = node.now();
    node.state.stats.at(now).node().panics += 1;
    node.advance(100_000_000);
    let (code, text) = reason(&mut node);
    assert_eq!(code, "panics");
    assert!(text.starts_with("A panic was caught since start or RESETSTAT: a bug of SmartCache."), "{text}");
    node.call("RESETSTAT");
    assert!(codes(&mut node).is_empty());
}

#[test]
fn a_backlog_that_only_grows_for_five_minutes_is_told() {
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
    assert!(see(&mut node, &[9_000; 4]).is_empty(), "it has just begun");
    assert!(see(&mut node, &[9_000, 9_000, 9_000, 9_900, 9_900, 9_900, 9_950, 9_950]).is_empty(), "that is nothing");
    assert_eq!(see(&mut node, &[12_000, 12_000, 12_000]), ["sweep_backlog"]);
    let (_, text) = reason(&mut node);
    assert!(text.contains("12000 keys wait to be looked at, 3000 more than 5 minutes ago"), "{text}");
    assert!(see(&mut node, &[11_000, 13_000, 14_000, 15_000]).is_empty(), "it was less for a moment");
    assert!(see(&mut node, &[20_000; 20]).is_empty(), "it does not grow");
    node.state.backlog = Backlog::default();
    assert!(see(&mut node, &[1, 1, 2_000, 2_000]).is_empty());
    node.advance(3_600_000);
    assert!(see(&mut node, &[9_000]).is_empty(), "nobody has looked");
}

#[test]
fn a_sweep_that_gets_no_time_is_told_and_one_that_is_put_off_is_not() {
    let mut node = node();
    let minute = |node: &mut TestNode, from: usize| {
        (from..from + 500).for_each(|i| drop(node.call(&format!("SET k{i} v EX 99999"))));
        node.advance(60_000);
        let now = node.now();
        node.state.watch(now);
    };
    node.call("INVALIDATE PREFIXES 1 x SOFT OVER 1h");
    node.sweep(); // it looks once at once, and again in an hour
    (0..7).for_each(|i| minute(&mut node, i * 500));
    assert_eq!(reasons(&mut node), []);
    node.call("INVALIDATE PREFIXES 1 y");
    (7..14).for_each(|i| minute(&mut node, i * 500));
    assert_eq!(codes(&mut node), ["sweep_backlog"]);
    node.sweep();
    node.advance(5_000);
    let now = node.now();
    node.state.watch(now);
    assert!(codes(&mut node).is_empty());
}

#[test]
fn spans_and_sizes_are_said_as_people_say_them() {
    let spans = [0, 999, 1_000, 14_249, 119_000, 120_000, 7_200_000, 86_400_000 * 3].map(span);
    assert_eq!(spans, ["0 ms", "999 ms", "1 s", "14.2 s", "119 s", "2 min", "2 h", "3 d"]);
    assert_eq!([0, 1_023, 1_024, MB * 3 / 2, 5 << 30].map(size), ["0 bytes", "1023 bytes", "1 KB", "1.5 MB", "5 GB"]);
    assert_eq!([0, 30, 250, 600, 14_200].map(suggested_lock_ms), [100, 100, 500, 2_000, 29_000]);
}

#[test]
fn nothing_overflows() {
    let settings = Settings::default();
    let policies = Policies::new(&settings);
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
        panics: u64::MAX,
        backlog: Some(Growth { by: u64::MAX, to: u64::MAX }),
        uptime_ms: u64::MAX,
    });
    assert!(reasons.len() >= 5, "{reasons:#?}");
}
