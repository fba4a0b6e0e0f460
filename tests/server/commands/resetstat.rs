//! `SMARTCACHE.RESETSTAT`

use super::stats::six_requests;
use crate::support::{Server, resp, wait_until};

#[test]
fn resetstat_zeroes_counters_and_leaves_entries() {
    let s = Server::start();
    six_requests(&s);
    s.play(
        r#"
        > SMARTCACHE.RESETSTAT
        OK
        "#,
    );
    let stats = s.ok("SMARTCACHE.STATS");
    for field in ["requests", "hits", "stale_hits", "absent_hits", "misses", "sets", "absents", "misses_cold"] {
        assert_eq!(stats.field(field).int(), 0, "{field}");
    }
    assert_eq!(stats.field("entries").int(), 3);
}

#[test]
fn loads_and_waits_in_progress_count_when_they_end() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut waiting = s.park(1, |_| "k WAIT 60".into());
    wait_until("time passes", || s.stat("counting_ms") > 0);
    s.ok("SMARTCACHE.RESETSTAT");
    let stats = s.ok("SMARTCACHE.STATS");
    let now = ["requests", "leases_granted", "waits", "leases", "waiters"];
    assert_eq!(now.map(|field| stats.field(field).int()), [0, 0, 0, 1, 1]);
    assert!(stats.field("counting_ms").int() <= stats.field("uptime_ms").int());
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert_eq!(waiting[0].got().brief(), "HIT v");
    let stats = s.ok("SMARTCACHE.STATS");
    let then = ["requests", "hits", "leases_granted", "fills", "waits", "waits_served", "leases", "waiters"];
    assert_eq!(then.map(|field| stats.field(field).int()), [1, 1, 0, 1, 1, 1, 0, 0]);
}

#[test]
fn under_load_nothing_is_counted_twice_or_half() {
    const READS: usize = 2_000;
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH r*");
    s.ok("SMARTCACHE.SET r1 v");
    let mut readers: Vec<_> = (0..4).map(|_| s.connect()).collect();
    let reads: Vec<u8> = (0..READS).flat_map(|_| resp::encode(&[b"SMARTCACHE.MGET", b"r1", b"r2", b"other"])).collect();
    readers.iter_mut().for_each(|conn| conn.send_raw(&reads).unwrap());
    for _ in 0..20 {
        s.ok("SMARTCACHE.RESETSTAT");
        s.assert_counts_add_up();
    }
    readers.iter_mut().for_each(|conn| (0..READS).for_each(|_| drop(conn.receive().unwrap())));
    // A command counts whole or not at all: a third of its keys each.
    let stats = s.ok("SMARTCACHE.STATS RULES");
    let count = |rule: &str, field: &str| stats.field(rule).field(field).int();
    let others = count("(none)", "misses");
    assert_eq!((count("r", "hits"), count("r", "misses"), count("(none)", "hits")), (others, others, 0));
    s.ok("SMARTCACHE.RESETSTAT");
    s.ok("SMARTCACHE.GET r1");
    assert_eq!((s.stat("requests"), s.stat("hits")), (1, 1));
}
