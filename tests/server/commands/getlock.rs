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

/// A load under way, and what its fill is answered after these commands of another client.
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
