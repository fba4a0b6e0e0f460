//! The shape of replies in RESP2 and RESP3.

use crate::support::{Got, Reply, Server, args};

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
        Reply::Bulk(b"HIT".to_vec()),
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

/// A fill that was not stored as fresh must not look like an `OK` to clients that turn simple strings into `true`, and
/// to Lua, which makes tables of them.
#[test]
fn stale_and_lost_are_bulk_strings_for_clients_and_lua() {
    let s = Server::start();
    for mut conn in [s.connect(), s.connect3()] {
        for (change, store, answer) in [
            ("DEL", "SMARTCACHE.SET k v", "STALE"),
            ("DEL", "SMARTCACHE.ABSENT k", "STALE"),
            ("SET", "SMARTCACHE.SET k v", "LOST"),
            ("SET", "SMARTCACHE.ABSENT k", "LOST"),
        ] {
            for claim in ["TOKEN", "SINCE"] {
                let claimed = match claim {
                    "TOKEN" => s.getlock("k").token().to_owned(),
                    _ => s.ok("SMARTCACHE.STAMP").text(),
                };
                s.ok(&format!("SMARTCACHE.{change} k{}", if change == "SET" { " newer" } else { "" }));
                let reply = conn.call(&format!("{store} {claim} {claimed}"));
                assert_eq!(reply, Reply::Bulk(answer.into()), "{change}, then {store} {claim}");
                s.ok("SMARTCACHE.DEL k");
            }
        }
    }
    let script = "local got = redis.call('SMARTCACHE.GETLOCK', KEYS[1]) \
                  redis.call('SMARTCACHE.DEL', KEYS[1]) \
                  local fill = redis.call('SMARTCACHE.SET', KEYS[1], 'v', 'TOKEN', got[3]) \
                  return {type(got[1]), type(got[3]), got[1] .. ' ' .. fill}";
    assert_eq!(s.call_args(args!["EVAL", script, "1", "lua"]).texts(), ["string", "string", "MISS STALE"]);
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

/// All strings are bulk strings, since phpredis turns simple ones into `true`; for immediate and for deferred replies.
#[test]
fn getlock_has_one_shape_in_both_protocols_and_for_waiters() {
    let s = Server::start();
    for protocol in [2, 3] {
        let mut conn = if protocol == 3 { s.connect3() } else { s.connect() };
        let miss = conn.call("SMARTCACHE.GETLOCK k");
        let [Reply::Bulk(state), Reply::Nil, Reply::Bulk(token), Reply::Int(0), Reply::Int(1..=10_000)] = miss.array()
        else {
            panic!("in RESP{protocol}\n{miss}");
        };
        assert_eq!(state, b"MISS");
        let busy = s.call("SMARTCACHE.GETLOCK k");
        assert!(
            matches!(busy.array(), [Reply::Bulk(_), Reply::Nil, Reply::Nil, Reply::Int(0), Reply::Int(1..)]),
            "{busy}"
        );
        let mut waiter = if protocol == 3 { s.connect3() } else { s.connect() };
        waiter.send_getlock("k WAIT 60");
        let mut packed = if protocol == 3 { s.connect3() } else { s.connect() };
        packed.send_getlock("k WAIT 60 ACCEPT gzip");
        s.wait_for_waiters(2);
        let set = conn.call_args(args!["SMARTCACHE.SET", "k", "v", "PERSIST", "TOKEN", token]);
        assert_eq!(set, Reply::Simple("OK".into()));
        let hit =
            |value| Reply::Array(vec![Reply::Bulk(b"HIT".to_vec()), value, Reply::Nil, Reply::Int(-1), Reply::Int(0)]);
        let pair = || Reply::Array(vec![Reply::Bulk(b"identity".to_vec()), Reply::Bulk(b"v".to_vec())]);
        assert_eq!(waiter.receive().expect("an answer"), hit(Reply::Bulk(b"v".to_vec())));
        assert_eq!(packed.receive().expect("an answer"), hit(pair()));
        assert_eq!(conn.call("SMARTCACHE.GETLOCK k"), hit(Reply::Bulk(b"v".to_vec())));
        assert_eq!(conn.call("SMARTCACHE.GETLOCK k ACCEPT zstd"), hit(pair()));
        assert_eq!(conn.call("SMARTCACHE.GET k STATE"), conn.call("SMARTCACHE.GETLOCK k"), "the array of GETLOCK");
        s.ok("SMARTCACHE.DEL k");

        let token = Got::of(&conn.call("SMARTCACHE.GETLOCK k")).token().to_owned();
        for (line, one) in [("EXTEND k {} 5", 1), ("UNLOCK k {}", 1), ("UNLOCK k {}", 0)] {
            let line = format!("SMARTCACHE.{}", line.replace("{}", &token));
            assert_eq!(conn.call(&line), Reply::Int(one), "{line}");
        }
        assert!(matches!(conn.call("SMARTCACHE.STAMP"), Reply::Bulk(_)));
    }
}
