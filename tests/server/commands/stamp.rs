//! `SMARTCACHE.STAMP`

use crate::support::{Server, args};

#[test]
fn what_was_loaded_before_a_delete_is_not_stored_after_it() {
    let s = Server::start();
    let stamp = s.call("SMARTCACHE.STAMP").text();
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "a", "v", "SINCE", stamp]).text(), "OK");
    s.ok("SMARTCACHE.DEL b");
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "b", "v", "SINCE", stamp]).text(), "STALE");
    assert_eq!(s.call_args(args!["SMARTCACHE.MSET", "2", "b", "v", "c", "v", "SINCE", stamp]).int(), 1);
    assert_eq!(s.call("SMARTCACHE.MISSING a b c").texts(), ["b"]);
}

#[test]
fn a_stamp_is_good_for_any_key_and_database_and_any_number_of_times() {
    let s = Server::start();
    let stamp = s.call("SMARTCACHE.STAMP").text();
    for db in ["0", "5"] {
        s.ok(&format!("SELECT {db}"));
        for key in ["a", "b", "a"] {
            let reply = s.call_args(args!["SMARTCACHE.SET", key, "v", "SINCE", stamp]);
            assert_eq!(reply.text(), "OK", "{key} in {db}");
        }
    }
    // A later write of any client is not replaced by an earlier load.
    s.ok("SMARTCACHE.SET a new");
    s.ok("SET b new");
    for key in ["a", "b"] {
        assert_eq!(s.call_args(args!["SMARTCACHE.SET", key, "older", "SINCE", stamp]).text(), "LOST");
        assert_eq!(s.call(&format!("SMARTCACHE.GET {key}")).text(), "new");
    }
    let later = s.call("SMARTCACHE.STAMP").text();
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "a", "newer", "SINCE", later]).text(), "OK");
}

#[test]
fn a_store_since_a_stamp_answers_waiters() {
    let s = Server::start();
    let token = s.getlock("k LOCK 100").token().to_owned();
    let mut conns = s.park(2, |_| "k WAIT 60".to_owned());
    let stamp = s.call("SMARTCACHE.STAMP").text();
    assert_eq!(s.call_args(args!["SMARTCACHE.MSET", "1", "k", "v", "SINCE", stamp]).int(), 1);
    for conn in &mut conns {
        assert_eq!(conn.got().brief(), "HIT v");
    }
    assert_eq!(s.fill("k", "older", &token), "LOST");
    s.assert_quiet();
}
