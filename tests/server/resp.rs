//! The shape of replies in RESP2 and RESP3.

use crate::support::{Reply, Server};

#[test]
fn maps_are_maps_in_resp3_and_flat_arrays_in_resp2() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.RULE SET r MATCH *");
    let mut three = s.connect3();
    for line in ["SMARTCACHE.INSPECT k", "SMARTCACHE.STATS", "SMARTCACHE.RULE GET r", "SMARTCACHE.RULE EXPLAIN k"] {
        let (two, three) = (s.ok(line), three.call(line));
        assert!(matches!(two, Reply::Array(_)), "{line} in RESP2\n{two}");
        assert!(matches!(three, Reply::Map(_)), "{line} in RESP3\n{three}");
        let names = |r: &Reply| r.pairs().into_iter().map(|(k, _)| k).collect::<Vec<_>>();
        assert_eq!(names(&two), names(&three), "{line}");
    }
    assert!(matches!(three.call("SMARTCACHE.RULE LIST").array(), [Reply::Map(_)]));
}

#[test]
fn numbers_with_a_fraction_are_doubles_in_resp3_and_bulk_strings_in_resp2() {
    let s = Server::start();
    let rate = |r: Reply| r.field("hit_rate");
    assert!(matches!(rate(s.ok("SMARTCACHE.STATS")), Reply::Bulk(_)));
    assert!(matches!(rate(s.connect3().call("SMARTCACHE.STATS")), Reply::Double(_)));
}

#[test]
fn nil_is_null_in_resp3() {
    let s = Server::start();
    let mut three = s.connect3();
    for line in ["SMARTCACHE.GET k", "SMARTCACHE.INSPECT k", "SMARTCACHE.RULE GET r", "SMARTCACHE.SET k v XX"] {
        assert_eq!(three.call(line), Reply::Nil, "{line}");
        assert_eq!(s.call(line), Reply::Nil, "{line}");
    }
}

#[test]
fn state_is_the_same_array_in_both() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PERSIST");
    let expected = Reply::Array(vec![
        Reply::Simple("HIT".into()),
        Reply::Bulk(b"v".to_vec()),
        Reply::Nil,
        Reply::Int(-1),
        Reply::Int(0),
    ]);
    assert_eq!(s.call("SMARTCACHE.GET k STATE"), expected);
    assert_eq!(s.connect3().call("SMARTCACHE.GET k STATE"), expected);
}

#[test]
fn ok_is_a_simple_string_and_values_are_bulk_strings() {
    let s = Server::start();
    let mut three = s.connect3();
    assert_eq!(three.call("SMARTCACHE.SET k OK"), Reply::Simple("OK".into()));
    assert_eq!(three.call("SMARTCACHE.GET k"), Reply::Bulk(b"OK".to_vec()));
    assert_eq!(three.call("SMARTCACHE.RESETSTAT"), Reply::Simple("OK".into()));
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let s = Server::start();
    let mut conn = s.connect();
    let mut bytes = Vec::new();
    for i in 0..500 {
        let (key, value) = (format!("k{i}"), format!("v{i}"));
        let set: [&[u8]; 3] = [b"SMARTCACHE.SET", key.as_bytes(), value.as_bytes()];
        let get: [&[u8]; 2] = [b"SMARTCACHE.GET", key.as_bytes()];
        bytes.extend(crate::support::resp::encode(&set));
        bytes.extend(crate::support::resp::encode(&get));
    }
    conn.send_raw(&bytes).expect("it is sent");
    for i in 0..500 {
        assert_eq!(conn.receive().expect("a reply"), Reply::Simple("OK".into()));
        assert_eq!(conn.receive().expect("a reply").text(), format!("v{i}"));
    }
}
