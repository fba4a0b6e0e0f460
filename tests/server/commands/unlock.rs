//! `SMARTCACHE.UNLOCK key token [BACKOFF d]`

use crate::support::{Server, args, assert_within, wait_until};

#[test]
fn an_unlocked_lease_is_free_and_cannot_be_unlocked_again() {
    let s = Server::start();
    let token = s.call("SMARTCACHE.GETLOCK k").array()[2].text();
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 1);
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 0);
    assert_eq!(s.call("SMARTCACHE.GETLOCK k").array()[0].text(), "MISS");
}

#[test]
fn a_load_that_failed_backs_off_until_something_is_stored_or_deleted() {
    let s = Server::start();
    for end in ["SMARTCACHE.SET k v", "SMARTCACHE.DEL k", "SMARTCACHE.ABSENT k"] {
        let token = s.getlock("k").token().to_owned();
        assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "50"]).int(), 1);
        let got = s.getlock("k WAIT 60");
        assert_eq!(got.brief(), "BUSY", "no lease is granted, and nobody waits");
        assert_within!(got.lease_ms, 20_000..=50_000);
        assert_eq!(s.inspect("k", "lease").text(), "backoff");
        s.ok(end);
        assert_ne!(s.getlock("k").brief(), "BUSY", "{end}");
        s.ok("SMARTCACHE.DEL k");
    }
}

#[test]
fn a_back_off_applies_also_after_the_lease_expired() {
    let s = Server::start();
    let token = s.getlock("k LOCK 1ms").token().to_owned();
    wait_until("it has expired", || s.call("SMARTCACHE.INSPECT k").is_nil());
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "50"]).int(), 0);
    assert_eq!(s.getlock("k").brief(), "BUSY");
}

#[test]
fn a_back_off_ends_by_itself() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "50ms"]).int(), 1);
    wait_until("a load is allowed again", || s.getlock("k").brief() == "MISS +");
}
