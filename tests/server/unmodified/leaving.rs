//! NATIVE given and taken away under load: no key is unreadable at any moment, and nothing is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Conn, Server, args, wait_until};

const KEYS: usize = 2_000;

fn value(n: usize) -> String {
    format!("value {n} {}", "that shrinks ".repeat(20))
}

/// Stores many strings in two databases.
fn fill(s: &Server) {
    for db in [0, 3] {
        let mut conn = s.connect();
        conn.call(&format!("SELECT {db}"));
        for n in 0..KEYS {
            assert_eq!(conn.call_args(args!["SET", format!("page:{n}"), value(n), "EX", "10000"]).text(), "OK");
        }
    }
}

/// Reads all keys of a database and returns how many are not what they were.
fn wrong(conn: &mut Conn) -> usize {
    (0..KEYS)
        .filter(|n| {
            let reply = conn.call_args(args!["GET", format!("page:{n}")]);
            reply.is_error() || reply.is_nil() || reply.text() != value(*n)
        })
        .count()
}

/// Whether no entry is left, in any database.
fn all_plain(s: &Server) -> bool {
    s.stat("entries") == 0
}

#[test]
fn when_native_is_taken_away_every_key_is_readable_at_every_moment() {
    for take_away in ["SMARTCACHE.RULE DEL pages", "SMARTCACHE.RULE SET pages MATCH page:*"] {
        let s = Server::start();
        s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
        fill(&s);
        assert_eq!(s.stat("entries"), 2 * KEYS as i64);
        let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for db in [0, 3] {
                let mut conn = s.connect();
                conn.call(&format!("SELECT {db}"));
                let (stop, reads) = (&stop, &reads);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let wrong = wrong(&mut conn);
                        if wrong > 0 {
                            stop.store(true, Ordering::Relaxed);
                            panic!("{wrong} keys of database {db} could not be read");
                        }
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            wait_until("both read", || reads.load(Ordering::Relaxed) >= 2 || stop.load(Ordering::Relaxed));
            s.ok(take_away);
            wait_until("all are plain strings", || all_plain(&s) || stop.load(Ordering::Relaxed));
            let seen = reads.load(Ordering::Relaxed);
            wait_until("both read", || reads.load(Ordering::Relaxed) >= seen + 3 || stop.load(Ordering::Relaxed));
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(s.call("OBJECT ENCODING page:1").text(), "raw", "{take_away}");
        assert_eq!(s.call("DBSIZE").int(), KEYS as i64);
        crate::support::assert_within!(s.pttl("page:1"), 5_000_000..=10_000_000);
        wait_until("nothing is left of the rule", || {
            s.call("SMARTCACHE.RULE GET pages").is_nil() == take_away.contains("DEL")
        });
    }
}

#[test]
fn a_restart_in_the_middle_goes_on_from_there() {
    for conf in ["appendonly yes\nappendfsync always\naof-use-rdb-preamble no", ""] {
        let mut s = Server::with(&format!("smartcache.sweep-effort 0\n{conf}"));
        s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
        fill(&s);
        s.ok("SMARTCACHE.RULE DEL pages");
        let mut conn = s.connect();
        assert_eq!(wrong(&mut conn), 0, "the sweep does not move, and all can be read");
        if conf.is_empty() {
            s.ok("SAVE");
        }
        s.restart();
        let mut conn = s.connect();
        assert_eq!(wrong(&mut conn), 0, "and so after a restart");
        s.ok("CONFIG SET smartcache.sweep-effort 100%");
        wait_until("all are plain strings", || all_plain(&s));
        assert_eq!(wrong(&mut conn), 0);
    }
}

#[test]
fn a_replica_follows() {
    let s = Server::setup().tcp().start();
    let replica = Server::replica_of(&s, "");
    s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
    fill(&s);
    s.ok("SMARTCACHE.RULE DEL pages");
    wait_until("all are plain strings", || all_plain(&s));
    wait_until("on the replica too", || all_plain(&replica));
    assert_eq!(wrong(&mut replica.connect()), 0);
    assert_eq!(replica.digest(), s.digest());
}

#[test]
fn strings_from_before_the_rule_are_served_and_become_entries_when_written() {
    let s = Server::start();
    s.ok("SET page:1 v EX 1000");
    s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
    for line in ["GET page:1", "GETRANGE page:1 0 -1"] {
        assert_eq!(s.call(line).text(), "v");
    }
    assert_eq!(s.call("OBJECT ENCODING page:1").text(), "embstr");
    s.ok("SET page:1 w");
    assert_eq!(s.inspect("page:1", "rule").text(), "pages");
    assert_eq!(s.call("GET page:1").text(), "w");
}

#[test]
fn native_again_while_it_is_being_taken_away() {
    let s = Server::with("smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
    fill(&s);
    for _ in 0..3 {
        s.ok("SMARTCACHE.RULE DEL pages");
        s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
        assert_eq!(wrong(&mut s.connect()), 0);
    }
    s.ok("CONFIG SET smartcache.sweep-effort 100%");
    std::thread::sleep(Duration::from_millis(300)); // a sweep that should not run would run now
    assert_eq!(wrong(&mut s.connect()), 0);
}

#[test]
fn plain_takes_single_keys_out() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
    s.ok("MSET page:1 1 page:2 2");
    assert_eq!(s.call("SMARTCACHE.PLAIN page:1 page:2").int(), 2);
    assert_eq!(s.call("OBJECT ENCODING page:1").text(), "embstr");
    assert_eq!(s.call("MGET page:1 page:2").texts(), ["1", "2"]);
}
