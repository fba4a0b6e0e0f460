//! `CLIENT TRACKING`: keys read by `GET` and `MGET` are tracked, and their changes notified.

use crate::support::{Conn, Reply, Server, wait_until};

/// A RESP3 connection that tracks what it reads.
fn tracking(s: &Server) -> Conn {
    let mut conn = s.connect3();
    assert_eq!(conn.call("CLIENT TRACKING ON").text(), "OK");
    conn
}

/// The keys in invalidation messages since the last call.
#[track_caller]
fn invalidated(conn: &mut Conn) -> Vec<String> {
    let mut keys = Vec::new();
    for push in conn.pushes() {
        assert_eq!(push.array()[0].text(), "invalidate", "{push}");
        match &push.array()[1] {
            Reply::Nil => keys.push("(all)".to_owned()),
            list => keys.extend(list.texts()),
        }
    }
    keys.sort();
    keys
}

#[test]
fn every_write_notifies_readers_of_the_key() {
    let s = Server::start();
    let mut reader = tracking(&s);
    for write in [
        "SMARTCACHE.SET k w SWR 100",
        "SMARTCACHE.MSET 1 k w SWR 100",
        "SMARTCACHE.ABSENT k",
        "SMARTCACHE.STALE k",
        "SMARTCACHE.DEL k",
        "SMARTCACHE.SET k v PXAT 1",
        "DEL k",
        "PEXPIRE k 1000",
        "RENAME k other",
        "SET k plain",
        "FLUSHDB",
    ] {
        s.ok("SMARTCACHE.SET k v SWR 100");
        assert_eq!(reader.call("SMARTCACHE.GET k").text(), "v");
        assert!(invalidated(&mut reader).is_empty(), "before {write}");
        s.ok(write);
        let notified = invalidated(&mut reader);
        let expected = if write == "FLUSHDB" { "(all)" } else { "k" };
        assert_eq!(notified, [expected], "after {write}");
    }
}

#[test]
fn mget_tracks_every_key() {
    let s = Server::start();
    s.ok("SMARTCACHE.MSET 3 a 1 b 2 c 3");
    let mut reader = tracking(&s);
    reader.call("SMARTCACHE.MGET a b nothing");
    s.ok("SMARTCACHE.MSET 4 a 1 b 2 c 3 nothing 4");
    assert_eq!(invalidated(&mut reader), ["a", "b", "nothing"]);
    // Notified once: a client must read again to be notified again.
    s.ok("SMARTCACHE.SET a 2");
    assert!(invalidated(&mut reader).is_empty());
}

#[test]
fn a_miss_is_tracked_too() {
    let s = Server::start();
    let mut reader = tracking(&s);
    assert!(reader.call("SMARTCACHE.GET k").is_nil());
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(invalidated(&mut reader), ["k"]);
}

#[test]
fn reads_with_options_are_tracked() {
    let s = Server::start();
    let mut reader = tracking(&s);
    for line in ["SMARTCACHE.GET k STALE", "SMARTCACHE.GET k STATE", "SMARTCACHE.GET k ACCEPT gzip,zstd STATE STALE"] {
        s.ok("SMARTCACHE.SET k v");
        reader.call(line);
        s.ok("SMARTCACHE.SET k w");
        assert_eq!(invalidated(&mut reader), ["k"], "{line}");
    }
}

#[test]
fn commands_without_effect_notify_nobody() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let mut reader = tracking(&s);
    reader.call("SMARTCACHE.GET k");
    assert!(s.call("SMARTCACHE.SET k w NX").is_nil());
    assert!(s.call("SMARTCACHE.SET k w BOGUS").is_error());
    s.ok("SMARTCACHE.GET k");
    s.ok("SMARTCACHE.INSPECT k");
    s.ok("SMARTCACHE.SET other w");
    assert!(invalidated(&mut reader).is_empty());
}

#[test]
fn expiry_is_notified() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PX 1000");
    let mut reader = tracking(&s);
    reader.call("SMARTCACHE.GET k");
    wait_until("the key expires and the reader is notified", || invalidated(&mut reader) == ["k"]);
}

#[test]
fn background_compression_notifies_nobody() {
    let s = Server::start();
    let mut reader = tracking(&s);
    let value = "a value that shrinks ".repeat(50_000);
    s.call_args(crate::support::args!["SMARTCACHE.SET", "k", value]);
    reader.call("SMARTCACHE.GET k");
    wait_until("it is compressed", || s.inspect("k", "codec").text() == "zstd");
    assert!(invalidated(&mut reader).is_empty());
}

#[test]
fn broadcast_mode_notifies_of_every_key_with_the_prefix() {
    let s = Server::start();
    let mut listener = s.connect3();
    listener.call("CLIENT TRACKING ON BCAST PREFIX app:");
    s.ok("SMARTCACHE.MSET 2 app:1 v other v");
    assert_eq!(invalidated(&mut listener), ["app:1"]);
}

#[test]
fn a_fill_notifies_readers_of_the_key_and_a_lease_does_not() {
    let s = Server::start();
    let mut reader = tracking(&s);
    let track = |reader: &mut Conn| reader.call("SMARTCACHE.GET k");
    track(&mut reader);
    let token = s.getlock("k").token().to_owned();
    s.ok("SMARTCACHE.GETLOCK k");
    s.ok(&format!("SMARTCACHE.EXTEND k {token} 50"));
    assert!(invalidated(&mut reader).is_empty());
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert_eq!(invalidated(&mut reader), ["k"]);
    track(&mut reader);
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert_eq!(s.fill("k", "v", "nonsense"), "LOST");
    assert!(invalidated(&mut reader).is_empty(), "a retry writes nothing");
    s.ok("SMARTCACHE.DEL k");
    assert_eq!(invalidated(&mut reader), ["k"]);
    track(&mut reader);
    let token = s.getlock("k").token().to_owned();
    assert_eq!(s.call_args(crate::support::args!["SMARTCACHE.ABSENT", "k", "TOKEN", token]).text(), "OK");
    assert_eq!(invalidated(&mut reader), ["k"]);
}

#[test]
fn a_connection_that_tracks_may_wait() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut reader = tracking(&s);
    reader.call("SMARTCACHE.GET k");
    reader.send_getlock("k WAIT 60");
    s.wait_for_waiters(1);
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert_eq!(reader.got().brief(), "HIT v");
    assert_eq!(invalidated(&mut reader), ["k"], "pushes come beside the answer, not inside it");
}
