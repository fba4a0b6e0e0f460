//! `SMARTCACHE.ABSENT key [lifetime] [TAGS n tag …]`

use crate::support::{Server, assert_within, wait_until};

#[test]
fn what_is_known_not_to_exist_is_an_entry_without_a_value() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.ABSENT k
        OK
        > EXISTS k
        (integer) 1
        > SMARTCACHE.GET k
        (nil)
        > TYPE k
        smrtcache
        "#,
    );
    assert_eq!(s.inspect("k", "kind").text(), "absent");
    assert_eq!(s.inspect("k", "state").text(), "fresh");
}

#[test]
fn it_is_fresh_for_a_minute_by_default() {
    let s = Server::start();
    s.ok("SMARTCACHE.ABSENT k");
    assert_within!(s.fresh_ms("k"), 30_000..=60_000);
    s.ok("SMARTCACHE.ABSENT k TTL 10m");
    assert_within!(s.fresh_ms("k"), 570_000..=600_000);
    s.ok("SMARTCACHE.ABSENT k PX 200000");
    assert_within!(s.fresh_ms("k"), 170_000..=200_000);
    s.ok("SMARTCACHE.ABSENT k PERSIST");
    assert_eq!(s.pttl("k"), -1);
    s.ok("CONFIG SET smartcache.negative-ttl 5m");
    s.ok("SMARTCACHE.ABSENT k");
    assert_within!(s.fresh_ms("k"), 270_000..=300_000);
}

#[test]
fn a_rule_has_its_own_negative_ttl_and_only_jitter_applies() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * NEGATIVE 100 SCALE 5 MIN 1h MAX 2h SWR 1h SIE 1h");
    s.ok("SMARTCACHE.ABSENT k");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    // No windows, whatever the rule has.
    assert_within!(s.pttl("k"), 70_000..=100_000);

    s.ok("SMARTCACHE.RULE SET r MATCH * NEGATIVE 1000 JITTER 50%");
    let mut ends = Vec::new();
    for i in 0..40 {
        s.ok(&format!("SMARTCACHE.ABSENT k{i}"));
        ends.push(s.fresh_ms(&format!("k{i}")));
    }
    assert_within!(*ends.iter().min().unwrap_or(&0), 470_000..=1_000_000);
    assert_within!(ends.iter().max().unwrap_or(&0) - ends.iter().min().unwrap_or(&0), 200_000..=1_030_000);
}

#[test]
fn when_it_is_not_fresh_it_is_a_miss() {
    let s = Server::with("smartcache.swr 100\nsmartcache.sie 100");
    s.ok("SMARTCACHE.ABSENT k PX 30");
    wait_until("it is a miss", || s.call("SMARTCACHE.GET k STATE STALE").array()[0].text() == "MISS");
}

#[test]
fn it_replaces_a_value_and_a_value_replaces_it() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.ABSENT k
        OK
        > SMARTCACHE.GET k
        (nil)
        > SMARTCACHE.SET k w
        OK
        > SMARTCACHE.GET k
        "w"
        "#,
    );
}

#[test]
fn it_carries_tags() {
    let s = Server::start();
    s.ok("SMARTCACHE.ABSENT k TAGS 2 a b TTL 100");
    let mut tags = s.inspect("k", "tags").texts();
    tags.sort();
    assert_eq!(tags, ["a", "b"]);
}

#[test]
fn a_moment_already_past_deletes_the_key() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.ABSENT k EXAT 1
        OK
        > EXISTS k
        (integer) 0
        "#,
    );
}
