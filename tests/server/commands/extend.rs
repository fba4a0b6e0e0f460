//! `SMARTCACHE.EXTEND key token d`

use crate::support::{Server, args, assert_within, wait_until};

#[test]
fn a_held_lease_gets_a_new_end() {
    let s = Server::start();
    let token = s.call("SMARTCACHE.GETLOCK k LOCK 5 OWNER me").array()[2].text();
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "100"]).int(), 1);
    assert_within!(s.call("SMARTCACHE.GETLOCK k OWNER me").array()[4].int(), 60_000..=100_000);
    assert_eq!(s.call("SMARTCACHE.EXTEND k nonsense 100").int(), 0);
}

#[test]
fn a_lease_that_has_ended_is_not_revived_but_its_fill_may_still_come() {
    let s = Server::start();
    let token = s.getlock("k LOCK 1ms").token().to_owned();
    wait_until("it has run out", || s.stat("leases") == 0);
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "100"]).int(), 0);
    assert_eq!(s.stat("leases"), 0);
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "100"]).int(), 0);
    assert_eq!((s.stat("leases_expired"), s.stat("fills_late")), (1, 1));
}

#[test]
fn waiters_wait_for_the_new_end() {
    let s = Server::start();
    let token = s.getlock("k LOCK 100").token().to_owned();
    let mut conns = s.park(2, |_| "k WAIT 60 LOCK 100".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "20ms"]).int(), 1, "sooner, too");
    let next = conns[0].got();
    assert_eq!(next.brief(), "MISS +");
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "100"]).int(), 0);
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", next.token(), "50"]).int(), 1);
    assert_eq!(s.fill("k", "v", next.token()), "OK");
    assert_eq!(conns[1].got().brief(), "HIT v");
}
