//! `SMARTCACHE.TOUCH key [lifetime]`

use crate::support::{Server, assert_within, wait_until};

#[test]
fn it_restarts_the_lifetime_of_a_fresh_entry() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v EX 100");
    for (lifetime, ms) in [("TTL 200", 200_000), ("EX 300", 300_000), ("PX 50000", 50_000), ("", 3_600_000)] {
        assert_eq!(s.call(&format!("SMARTCACHE.TOUCH k {lifetime}")).int(), 1);
        assert_within!(s.fresh_ms("k"), ms - 30_000..=ms);
        assert_within!(s.pttl("k"), ms - 30_000..=ms);
    }
    s.play(
        r#"
        > SMARTCACHE.TOUCH k PERSIST
        (integer) 1
        > PTTL k
        (integer) -1
        > SMARTCACHE.GET k
        "v"
        "#,
    );
}

#[test]
fn what_is_not_fresh_is_not_touched() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET stale v SWR 100");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.SET ended v PX 1 SIE 100");
    wait_until("it ends", || s.state("ended") == "stale");
    for key in ["nothing", "stale", "ended"] {
        let (portrait, pttl) = (s.portrait(key), s.pttl(key));
        assert_eq!(s.call(&format!("SMARTCACHE.TOUCH {key} TTL 1000")).int(), 0, "{key}");
        assert_eq!(s.portrait(key), portrait);
        assert!(s.pttl(key) <= pttl, "{key} lives longer");
    }
}

#[test]
fn windows_and_tags_stay() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 50 SIE 70 TAGS 1 t");
    let portrait = s.portrait("k");
    s.ok("SMARTCACHE.TOUCH k TTL 200");
    assert_eq!(s.portrait("k"), portrait);
    assert_within!(s.pttl("k"), 240_000..=270_000);
}

#[test]
fn it_does_not_make_an_entry_younger() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100");
    wait_until("it has an age", || s.inspect("k", "age_ms").int() >= 20);
    s.ok("SMARTCACHE.TOUCH k TTL 100");
    assert_within!(s.inspect("k", "age_ms").int(), 20..=90_000);
}

#[test]
fn the_rule_applies_to_a_base_as_in_set() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH * SCALE 2 MAX 500");
    s.ok("SMARTCACHE.SET k v EX 50");
    s.ok("SMARTCACHE.TOUCH k TTL 100");
    assert_within!(s.fresh_ms("k"), 170_000..=200_000);
    s.ok("SMARTCACHE.TOUCH k EX 100");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    s.ok("SMARTCACHE.TOUCH k EX 1000");
    assert_within!(s.fresh_ms("k"), 470_000..=500_000);
}

#[test]
fn a_moment_already_past_ends_the_entry() {
    // Not in the reference: like EXPIRE with a time in the past.
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.TOUCH k EXAT 1");
    assert!(s.call("SMARTCACHE.GET k").is_nil());
    assert_eq!(s.call("EXISTS k").int(), 0);
}

#[test]
fn a_key_of_another_type_is_refused() {
    let s = Server::start();
    s.ok("LPUSH k a");
    assert!(s.call("SMARTCACHE.TOUCH k TTL 1").error().starts_with("WRONGTYPE"));
    assert_eq!(s.pttl("k"), -1);
}
