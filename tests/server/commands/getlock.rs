//! `SMARTCACHE.GETLOCK key [LOCK d] [WAIT d] [OWNER id] [BETA f] [ACCEPT encodings]`

use crate::support::{Server, args, wait_until};

#[test]
fn one_caller_loads_and_the_others_wait_in_the_server() {
    let s = Server::start();
    let first = s.call("SMARTCACHE.GETLOCK k");
    assert_eq!(first.array()[0].text(), "MISS");
    let token = first.array()[2].text();
    let mut waiter = s.connect();
    waiter.send(args!["SMARTCACHE.GETLOCK", "k", "WAIT", "20"]).expect("sent");
    wait_until("the caller is parked", || s.inspect("k", "waiters").int() == 1);
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]).text(), "OK");
    let answer = waiter.receive().expect("an answer");
    assert_eq!((answer.array()[0].text(), answer.array()[1].text()), ("HIT".into(), "v".into()));
}

/// The answer to a fill after these commands of another client during the load.
fn fill_after(s: &Server, lines: &[&str]) -> String {
    let token = s.call("SMARTCACHE.GETLOCK k").array()[2].text();
    let mut other = s.connect();
    for line in lines {
        other.call(line);
    }
    let answer = s.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]).text();
    s.ok("SMARTCACHE.DEL k");
    answer
}

#[test]
fn the_servers_own_deletes_and_writes_count_for_loads_in_flight() {
    let s = Server::start();
    for (lines, answer) in [
        (&["DEL other"][..], "OK"),
        (&["GET k"], "OK"),
        (&["DEL k"], "STALE"),
        (&["UNLINK a k"], "STALE"),
        (&["SET k x", "DEL k"], "LOST"),
        (&["SET k x PX 1"], "LOST"),
        (&["MULTI", "DEL k", "EXEC"], "STALE"),
        (&["EVAL \"return redis.call('del','k')\" 0"], "STALE"),
        (&["SET a x", "RENAME a k"], "LOST"),
        (&["SELECT 1", "DEL k"], "STALE"),
        (&["FLUSHALL"], "STALE"),
        (&["FLUSHDB"], "STALE"),
        (&["SELECT 1", "FLUSHDB"], "OK"),
        (&["SWAPDB 0 1"], "STALE"),
        (&["SWAPDB 1 2"], "OK"),
    ] {
        assert_eq!(fill_after(&s, lines), answer, "{lines:?}");
    }
    s.ok("CONFIG SET smartcache.guard-native no");
    assert_eq!(fill_after(&s, &["DEL k"]), "OK", "the documented limit");
    s.ok("CONFIG SET smartcache.guard-native yes");
    assert_eq!(fill_after(&s, &["DEL k"]), "STALE");
}

#[test]
fn each_state_is_answered_as_the_reference_says() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET fresh v");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("SMARTCACHE.SET swr v SWR 1000");
    s.ok("SMARTCACHE.SET sie v SIE 1000");
    s.ok("SMARTCACHE.STALE swr sie");
    for (key, first, then) in [
        ("fresh", "HIT v", "HIT v"),
        ("absent", "ABSENT", "ABSENT"),
        ("swr", "STALE v +", "STALE v"),
        ("sie", "MISS +", "STALE v"),
        ("nothing", "MISS +", "BUSY"),
    ] {
        assert_eq!((s.getlock(key).brief(), s.getlock(key).brief()), (first.to_owned(), then.to_owned()), "{key}");
    }
    s.assert_counts_add_up();
}

#[test]
fn inspect_shows_the_lease_and_the_waiters() {
    let s = Server::start();
    let leases =
        |key: &str| (s.inspect(key, "lease").text(), s.inspect(key, "waiters").int(), s.inspect(key, "kind").text());
    assert!(s.call("SMARTCACHE.INSPECT k").is_nil());
    let token = s.getlock("k LOCK 100").token().to_owned();
    assert_eq!(leases("k"), ("held".into(), 0, "none".into()));
    let mut conns = s.park(3, |_| "k WAIT 60".to_owned());
    assert_eq!(leases("k"), ("held".into(), 3, "none".into()));
    let requests = s.stat("requests");
    s.call("SMARTCACHE.INSPECT k");
    assert_eq!(s.stat("requests"), requests, "it counts no hit");
    assert_eq!(s.fill("k", "v", &token), "OK");
    for conn in &mut conns {
        conn.got();
    }
    assert_eq!(leases("k"), ("none".into(), 0, "value".into()));
    assert!(s.inspect("k", "load_ms").int() >= 0);
}

#[test]
fn the_same_fill_sent_again_is_answered_the_same() {
    let s = Server::start();
    let tokens: Vec<String> = ["ok", "stale", "lost"].iter().map(|key| s.getlock(key).token().to_owned()).collect();
    s.ok("SMARTCACHE.DEL stale");
    s.ok("SMARTCACHE.SET lost newer");
    for _ in 0..3 {
        assert_eq!(s.fill("ok", "v", &tokens[0]), "OK");
        assert_eq!(s.fill("stale", "v", &tokens[1]), "STALE");
        assert_eq!(s.fill("lost", "v", &tokens[2]), "LOST");
    }
    assert_eq!(s.stat("sets"), 2);
    s.assert_quiet();
}

#[test]
fn a_load_that_outlives_its_lease_is_stored_unless_a_later_one_was() {
    let s = Server::start();
    let slow = s.getlock("k LOCK 1ms").token().to_owned();
    wait_until("its lease has expired", || s.stat("leases") == 0);
    let next = s.getlock("k").token().to_owned();
    assert_eq!(s.fill("k", "slow", &slow), "OK");
    assert_eq!(s.fill("k", "next", &next), "OK", "granted later");
    let slow = s.getlock("other LOCK 1ms").token().to_owned();
    wait_until("its lease has expired", || s.stat("leases") == 0);
    let next = s.getlock("other").token().to_owned();
    assert_eq!(s.fill("other", "next", &next), "OK");
    assert_eq!(s.fill("other", "slow", &slow), "LOST");
    assert_eq!(
        (s.call("SMARTCACHE.GET k").text(), s.call("SMARTCACHE.GET other").text()),
        ("next".into(), "next".into())
    );
}

#[test]
fn a_high_beta_refreshes_a_fresh_value_early() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "PX", "2000", "TOKEN", token]).text(), "OK");
    assert_eq!(s.getlock("k BETA 1000000").brief(), "HIT v", "not in the first half of its life");
    let mut early = None;
    wait_until("an early refresh is granted", || {
        let got = s.getlock("k BETA 1000000");
        early = Some(got.clone());
        got.token.is_some()
    });
    let early = early.expect("an early refresh");
    if early.state != "HIT" {
        return; // the machine stalled for a second: the entry has expired
    }
    assert_eq!(s.inspect("k", "lease").text(), "early");
    assert_eq!(s.getlock("k BETA 1000000").brief(), "HIT v", "one at a time");
    assert_eq!(s.fill("k", "w", early.token()), "OK");
    assert_eq!(s.getlock("k BETA 0").brief(), "HIT w");
    assert_eq!(s.stat("leases_early"), 1);
}
