//! Locks under a NATIVE rule stay locks: the recipes that clients use.

use crate::support::{Server, args, assert_within, wait_until};

/// redis-py's and everybody's: deletes the lock if it is ours.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/// redis-py's `extend`.
const EXTEND: &str = "
local token = redis.call('get', KEYS[1])
if not token or token ~= ARGV[1] then return 0 end
local expiration = redis.call('pttl', KEYS[1])
if not expiration then expiration = 0 end
if expiration < 0 then return 0 end
redis.call('pexpire', KEYS[1], expiration + ARGV[2])
return 1";

/// The rule that was meant for pages, and covers a lock as well.
fn covered() -> Server {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE SWR 1h");
    s
}

#[test]
fn a_lock_has_one_holder_until_it_is_released() {
    let s = covered();
    let (mut one, mut two) = (s.connect(), s.connect());
    assert_eq!(one.call("SET lock one NX PX 100000").text(), "OK");
    assert!(two.call("SET lock two NX PX 100000").is_nil());
    let release =
        |conn: &mut crate::support::Conn, token: &str| conn.call_args(args!["EVAL", RELEASE, "1", "lock", token]).int();
    assert_eq!(release(&mut two, "two"), 0, "it is not his");
    assert_eq!(release(&mut one, "one"), 1);
    assert_eq!(two.call("SET lock two NX PX 100000").text(), "OK");
    assert!(one.call("SET lock one NX PX 100000").is_nil());
    assert_eq!(release(&mut two, "two"), 1);
}

#[test]
fn a_lock_that_has_expired_is_free_even_inside_a_window() {
    let s = covered();
    let (mut one, mut two) = (s.connect(), s.connect());
    assert_eq!(one.call("SET lock one NX PX 100").text(), "OK");
    wait_until("it expires", || !two.call("SET lock two NX PX 100000").is_nil());
    assert_eq!(one.call("GET lock").text(), "two");
    assert_eq!(one.call_args(args!["EVAL", RELEASE, "1", "lock", "one"]).int(), 0, "it is not his any more");
}

#[test]
fn an_extended_lock_is_held_for_the_longer_time() {
    let s = covered();
    let mut one = s.connect();
    assert_eq!(one.call("SET lock one NX PX 20000").text(), "OK");
    assert_eq!(one.call_args(args!["EVAL", EXTEND, "1", "lock", "one", "1000000"]).int(), 1);
    assert_within!(s.pttl("lock"), 600_000..=1_020_000);
    assert_within!(s.fresh_ms("lock"), 600_000..=1_020_000);
    assert_eq!(one.call("PEXPIRE lock 2000000").int(), 1);
    assert_within!(s.pttl("lock"), 1_200_000..=2_000_000);
    assert!(s.call("SET lock two NX PX 100").is_nil());
}

#[test]
fn many_contenders_never_hold_it_together() {
    let s = covered();
    const ROUNDS: usize = 100;
    std::thread::scope(|scope| {
        for holder in 0..4 {
            let mut conn = s.connect();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let token = format!("{holder}:{round}");
                    wait_until("the lock is free", || {
                        !conn.call_args(args!["SET", "lock", token, "NX", "PX", "60000"]).is_nil()
                    });
                    // Not atomic but for the lock.
                    let count: usize = match conn.call("GET count") {
                        nothing if nothing.is_nil() => 0,
                        count => count.text().parse().expect("a number"),
                    };
                    assert_eq!(conn.call_args(args!["SET", "count", (count + 1).to_string()]).text(), "OK");
                    assert_eq!(conn.call_args(args!["EVAL", RELEASE, "1", "lock", token]).int(), 1);
                }
            });
        }
    });
    assert_eq!(s.call("GET count").text(), (4 * ROUNDS).to_string());
}

#[test]
fn setnx_with_a_deadline_as_value_works() {
    // The older recipe: SETNX, and GETSET of a deadline that has passed.
    let s = covered();
    assert_eq!(s.call("SETNX lock 1").int(), 1);
    assert_eq!(s.call("SETNX lock 2").int(), 0);
    assert_eq!(s.call("GETSET lock 2").text(), "1");
    assert_eq!(s.call("DEL lock").int(), 1);
    assert_eq!(s.call("SETNX lock 3").int(), 1);
}
