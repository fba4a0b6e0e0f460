//! Callers parked in the server (`GETLOCK … WAIT`): however they are answered or leave, none hangs and nothing leaks.

use crate::support::lease::crowd;
use crate::support::{Conn, Got, Reply, Server, args, assert_within, wait_until};

/// A server that accepts any number of waiters.
fn roomy(conf: &str) -> Server {
    Server::with(&format!("maxclients 8000\nsmartcache.max-waiters 8000\nsmartcache.user-share 100%\n{conf}"))
}

/// Incompressible bytes, deterministic for a seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The answer of each in short form.
#[track_caller]
fn briefs(conns: &mut [Conn]) -> Vec<String> {
    conns.iter_mut().map(|conn| conn.got().brief()).collect()
}

// ---- answers ----

#[test]
fn thousands_wait_for_one_key_and_one_store_answers_them_all() {
    let count = crowd(2_400);
    let s = roomy("");
    let value = "a value that shrinks ".repeat(150);
    let token = s.getlock("k LOCK 100").token().to_owned();
    let mut conns: Vec<Conn> = (0..count).map(|_| s.connect()).collect();
    for (i, conn) in conns.iter_mut().enumerate() {
        if i % 3 == 1 {
            conn.send(args!["HELLO", "3"]).expect("it is sent");
        }
        let accept = if i % 4 == 3 { " ACCEPT gzip" } else { "" };
        conn.send_getlock(&format!("k WAIT {}{accept}", 40 + i % 20));
    }
    s.wait_for_waiters(count as i64);
    assert_eq!(s.inspect("k", "waiters").int(), count as i64);
    assert_eq!(s.inspect("k", "lease").text(), "held");
    s.ok("CONFIG SET smartcache.codec gzip");
    assert_eq!(s.fill("k", &value, &token), "OK");

    let gzipped = s.call("SMARTCACHE.GET k ACCEPT gzip");
    assert_eq!(gzipped.array()[0].text(), "gzip");
    for (i, conn) in conns.iter_mut().enumerate() {
        if i % 3 == 1 {
            assert!(!conn.receive().expect("the answer to HELLO").is_error());
        }
        let got = conn.got();
        let expected = if i % 4 == 3 { gzipped.clone() } else { Reply::Bulk(value.clone().into_bytes()) };
        assert!(got.value == expected, "waiter {i} got {} with other bytes", got.state);
        assert_eq!((got.state.as_str(), got.token, got.lease_ms), ("HIT", None, 0), "waiter {i}");
        assert_within!(got.fresh_ms, 3_000_000..=3_600_000);
    }
    s.assert_quiet();
    assert_eq!((s.stat("waits"), s.stat("waits_served")), (count as i64, count as i64));
    // One load; a waiter counts once, by its answer.
    assert_eq!((s.stat("leases_granted"), s.stat("misses"), s.stat("hits")), (1, 1, count as i64 + 1));
    for conn in conns.iter_mut().step_by(97) {
        assert_eq!(conn.getlock("k").state, "HIT");
    }
}

#[test]
fn large_values_reach_every_waiter_whole() {
    let s = roomy("");
    let shrinks: Vec<u8> = b"a value that shrinks ".iter().copied().cycle().take(100_000).collect();
    for value in [noise(7, 100_000), shrinks] {
        let token = s.getlock("k").token().to_owned();
        let mut conns = s.park(200, |_| "k WAIT 60".to_owned());
        assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", value, "TOKEN", token]).text(), "OK");
        for conn in &mut conns {
            let got = conn.got();
            assert!(got.state == "HIT" && got.value.bytes() == value, "other bytes");
        }
        s.assert_quiet();
        s.ok("SMARTCACHE.DEL k");
    }
}

#[test]
fn commands_pipelined_after_a_wait_are_answered_after_it() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut conn = s.connect();
    conn.send_getlock("k WAIT 60");
    conn.send(args!["ECHO", "one"]).expect("it is sent");
    conn.send_getlock("k");
    conn.send(args!["ECHO", "two"]).expect("it is sent");
    s.wait_for_waiters(1);
    s.fill("k", "v", &token);
    assert_eq!(conn.got().brief(), "HIT v");
    assert_eq!(conn.receive().expect("a reply").text(), "one");
    assert_eq!(conn.got().brief(), "HIT v");
    assert_eq!(conn.receive().expect("a reply").text(), "two");
}

#[test]
fn an_absence_answers_all_waiters_and_so_does_a_store_without_token() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut conns = s.park(3, |_| "k WAIT 60".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.ABSENT", "k", "TOKEN", token]).text(), "OK");
    assert_eq!(briefs(&mut conns), ["ABSENT"; 3]);
    s.ok("SMARTCACHE.DEL k");
    for store in ["SMARTCACHE.SET k v", "SMARTCACHE.MSET 2 other v k v"] {
        let token = s.getlock("k").token().to_owned();
        let mut conns = s.park(3, |_| "k WAIT 60".to_owned());
        s.ok(store);
        assert_eq!(briefs(&mut conns), ["HIT v"; 3], "{store}");
        assert_eq!(s.fill("k", "older", &token), "LOST", "{store}");
        s.ok("SMARTCACHE.DEL k");
    }
    s.assert_quiet();
}

#[test]
fn when_a_lease_ends_without_a_value_the_first_waiter_loads() {
    let s = Server::start();
    for how in ["UNLOCK", "DEL", "STALE", "PXAT", "native DEL", "deadline"] {
        let lock = if how == "deadline" { "LOCK 300ms" } else { "" };
        let token = s.getlock(&format!("k {lock}")).token().to_owned();
        let mut conns = s.park(4, |i| format!("k WAIT 60 LOCK {}", 20 + i));
        match how {
            "UNLOCK" => assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 1),
            "DEL" => assert_eq!(s.ok("SMARTCACHE.DEL k").int(), 0),
            "STALE" => assert_eq!(s.ok("SMARTCACHE.STALE k").int(), 0),
            // Stored with an end in the past: nothing is stored and no lease is held.
            "PXAT" => {
                assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "PXAT", "1", "TOKEN", token]).text(), "OK");
            }
            "native DEL" => assert_eq!(s.ok("DEL k").int(), 0),
            _ => {}
        }
        let first = conns[0].got();
        assert_eq!(first.brief(), "MISS +", "{how}");
        assert_within!(first.lease_ms, 15_000..=20_000);
        assert_eq!(s.stat("waiters"), 3, "{how}: one gets the lease, the others still wait");
        assert_eq!(s.getlock("k").brief(), "BUSY", "{how}: a new reader does not overtake");
        assert_eq!(s.fill("k", "v", first.token()), "OK", "{how}");
        assert_eq!(briefs(&mut conns[1..]), ["HIT v"; 3], "{how}");
        s.ok("SMARTCACHE.DEL k");
        s.assert_quiet();
    }
}

#[test]
fn a_failed_load_answers_all_waiters_at_once() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut conns = s.park(5, |_| "k WAIT 60".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "50"]).int(), 1);
    for conn in &mut conns {
        let got = conn.got();
        assert_eq!(got.brief(), "BUSY");
        assert_within!(got.lease_ms, 20_000..=50_000);
    }
    assert_eq!(s.inspect("k", "lease").text(), "backoff");
    // Inside the windows they get the stale value instead.
    s.ok("SMARTCACHE.SET k old SIE 1000");
    s.ok("SMARTCACHE.STALE k");
    let token = s.getlock("k").token().to_owned();
    let mut conns = s.park(5, |_| "k WAIT 60".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "50"]).int(), 1);
    assert_eq!(briefs(&mut conns), ["STALE old"; 5]);
    s.assert_quiet();
}

#[test]
fn each_waiter_gets_busy_when_its_own_wait_ends() {
    let s = roomy("");
    let token = s.getlock("k LOCK 100").token().to_owned();
    let words = |i: usize| match i % 3 {
        0 => format!("k WAIT {}ms", 100 + i),
        1 => "k WAIT 0.2".to_owned(),
        _ => "k WAIT 60".to_owned(),
    };
    let mut conns: Vec<Conn> = (0..600).map(|_| s.connect()).collect();
    for (i, conn) in conns.iter_mut().enumerate() {
        conn.send_getlock(&words(i));
    }
    for (i, conn) in conns.iter_mut().enumerate().filter(|(i, _)| i % 3 != 2) {
        let got = conn.got();
        assert_eq!(got.brief(), "BUSY", "waiter {i}");
        assert_within!(got.lease_ms, 1..=100_000);
    }
    assert_eq!((s.stat("waiters"), s.stat("waits_timed_out")), (200, 400));
    assert_eq!(s.fill("k", "v", &token), "OK");
    for (_, conn) in conns.iter_mut().enumerate().filter(|(i, _)| i % 3 == 2) {
        assert_eq!(conn.got().brief(), "HIT v");
    }
    s.assert_quiet();
}

#[test]
fn past_swr_but_inside_sie_one_waits_and_gets_the_stale_copy_instead_of_busy() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k old SIE 1000");
    s.ok("SMARTCACHE.STALE k");
    let token = s.getlock("k LOCK 100").token().to_owned();
    assert_eq!(s.getlock("k").brief(), "STALE old");
    let mut conns = s.park(2, |i| format!("k WAIT {}", if i == 0 { "200ms" } else { "60" }));
    assert_eq!(conns[0].got().brief(), "STALE old");
    assert_eq!(s.fill("k", "new", &token), "OK");
    assert_eq!(conns[1].got().brief(), "HIT new");
    s.assert_quiet();
}

#[test]
fn inside_swr_wait_does_not_block() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k old SWR 1000");
    s.ok("SMARTCACHE.STALE k");
    assert_eq!(s.getlock("k WAIT 60").brief(), "STALE old +");
    assert_eq!(s.getlock("k WAIT 60").brief(), "STALE old");
    assert_eq!(s.stat("waits"), 0);
}

#[test]
fn an_owner_gets_its_token_again_and_becomes_the_holder() {
    let s = Server::start();
    let token = s.connect().getlock("k OWNER me").token().to_owned();
    // The connection and the reply are lost: another connection retries.
    let mut again = s.connect();
    assert_eq!(again.getlock("k OWNER me WAIT 60").token(), token);
    assert_eq!(again.getlock("k OWNER you").brief(), "BUSY");
    // Now this connection holds the lease: another read multiplexed over it must not wait for itself.
    assert_eq!(again.getlock("k WAIT 60").brief(), "BUSY");
    // A promoted waiter has its owner.
    let mut conns = s.park(2, |i| format!("k WAIT 60 OWNER w{i}"));
    assert_eq!(again.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 1);
    let promoted = conns[0].got();
    assert_eq!(s.getlock("k OWNER w0").token, promoted.token);
    assert_eq!(s.fill("k", "v", promoted.token()), "OK");
    assert_eq!(conns[1].got().brief(), "HIT v");
    s.assert_quiet();
}

// ---- leaving ----

#[test]
fn disconnected_waiters_are_dropped_and_the_others_are_answered() {
    let s = roomy("");
    let token = s.getlock("k LOCK 100").token().to_owned();
    let mut conns = s.park(300, |_| "k WAIT 60".to_owned());
    let mut i = 0;
    conns.retain(|_| {
        i += 1;
        i % 3 == 0
    });
    s.wait_for_waiters(100);
    assert_eq!(s.inspect("k", "waiters").int(), 100);
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert!(briefs(&mut conns).iter().all(|brief| brief == "HIT v"));
    s.assert_quiet();
    assert_eq!((s.stat("waits_dropped"), s.stat("waits_served")), (200, 100));
}

#[test]
fn a_killed_waiter_is_dropped() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut victim = s.connect();
    let id = victim.id();
    victim.send_getlock("k WAIT 60");
    s.wait_for_waiters(1);
    let mut other = s.park(1, |_| "k WAIT 60".to_owned());
    assert_eq!(s.ok(&format!("CLIENT KILL ID {id}")).int(), 1);
    s.wait_for_waiters(1);
    assert!(victim.receive().is_err(), "the connection is closed");
    assert_eq!(s.fill("k", "v", &token), "OK");
    assert_eq!(other[0].got().brief(), "HIT v");
    s.assert_quiet();
}

#[test]
fn client_unblock_ends_a_wait_like_a_timeout_or_with_an_error() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET copy old SIE 1000");
    s.ok("SMARTCACHE.STALE copy");
    let (k, copy) = (s.getlock("k").token().to_owned(), s.getlock("copy").token().to_owned());
    let mut conn = s.connect();
    let id = conn.id();
    for (key, how, expected) in
        [("k", "", "BUSY"), ("k", " TIMEOUT", "BUSY"), ("copy", "", "STALE old"), ("k", " ERROR", "UNBLOCKED")]
    {
        conn.send_getlock(&format!("{key} WAIT 60"));
        s.wait_for_waiters(1);
        assert_eq!(s.ok(&format!("CLIENT UNBLOCK {id}{how}")).int(), 1, "{how}");
        let reply = conn.receive().expect("an answer");
        match expected {
            "UNBLOCKED" => assert!(reply.error().starts_with("UNBLOCKED"), "{reply}"),
            _ => assert_eq!(Got::of(&reply).brief(), expected, "{how}"),
        }
        assert_eq!(s.stat("waiters"), 0);
        assert_eq!(s.ok(&format!("CLIENT UNBLOCK {id}{how}")).int(), 0, "it no longer waits");
        assert_eq!(conn.call("PING").text(), "PONG", "the connection still works");
    }
    assert_eq!((s.fill("k", "v", &k), s.fill("copy", "v", &copy)), ("OK".into(), "OK".into()));
    assert_eq!(conn.getlock("k").brief(), "HIT v");
    s.assert_quiet();
}

/// The store and the disconnects arrive in one pipeline: the first waiters are unblocked but not yet answered, and the
/// answers of the last are still queued.
#[test]
fn leaving_while_the_answer_is_on_its_way_is_harmless() {
    let s = roomy("");
    for round in 0..4 {
        let token = s.getlock("k").token().to_owned();
        let mut conns: Vec<Conn> = (0..300).map(|_| s.connect()).collect();
        let ids: Vec<i64> = conns.iter_mut().map(Conn::id).collect();
        for (i, conn) in conns.iter_mut().enumerate() {
            conn.send_getlock("k WAIT 60");
            if i < 8 {
                s.wait_for_waiters(i as i64 + 1);
            }
        }
        s.wait_for_waiters(300);
        // Some of the first and some of the last; the others are not disturbed.
        let touched = |i: usize| !(4..296).contains(&i);
        let mut pipeline = crate::support::resp::encode(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]);
        for id in ids.iter().enumerate().filter(|(i, _)| touched(*i)).map(|(_, id)| id.to_string()) {
            pipeline.extend(match round {
                0 => crate::support::resp::encode(args!["CLIENT", "KILL", "ID", id]),
                1 => crate::support::resp::encode(args!["CLIENT", "UNBLOCK", id, "ERROR"]),
                2 => crate::support::resp::encode(args!["CLIENT", "UNBLOCK", id, "TIMEOUT"]),
                _ => crate::support::resp::encode(args!["PING"]),
            });
        }
        let mut teller = s.connect();
        teller.send_raw(&pipeline).expect("it is sent");
        assert_eq!(teller.receive().expect("a reply").text(), "OK");
        if round == 3 {
            drop(conns.drain(..4));
            drop(conns.drain(292..));
        }
        for (i, conn) in conns.iter_mut().enumerate() {
            let reply = conn.receive();
            if round == 3 || !touched(i) {
                assert_eq!(Got::of(&reply.expect("an answer")).brief(), "HIT v", "round {round}, waiter {i}");
                continue;
            }
            match round {
                0 => {} // closed before or after the answer
                1 => {
                    let reply = reply.expect("an answer, or an error");
                    assert!(reply.is_error() || Got::of(&reply).brief() == "HIT v", "waiter {i}: {reply}");
                }
                _ => assert_eq!(Got::of(&reply.expect("an answer")).brief(), "HIT v", "waiter {i}"),
            }
            if round > 0 {
                assert_eq!(conn.call("PING").text(), "PONG", "round {round}, waiter {i} is answered once");
            }
        }
        drop(conns);
        s.ok("SMARTCACHE.DEL k");
        s.assert_quiet();
    }
}

#[test]
fn a_waiter_killed_at_its_promotion_does_not_keep_the_lease() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut victim = s.connect();
    let id = victim.id();
    victim.send_getlock("k WAIT 60 LOCK 600");
    s.wait_for_waiters(1);
    let mut others = s.park(2, |_| "k WAIT 60".to_owned());
    let mut pipeline = crate::support::resp::encode(args!["SMARTCACHE.UNLOCK", "k", token]);
    pipeline.extend(crate::support::resp::encode(args!["CLIENT", "KILL", "ID", id.to_string()]));
    let mut teller = s.connect();
    teller.send_raw(&pipeline).expect("it is sent");
    assert_eq!(teller.receive().expect("a reply").int(), 1);
    let next = others[0].got();
    assert_eq!(next.brief(), "MISS +");
    assert_eq!(s.fill("k", "v", next.token()), "OK");
    assert_eq!(others[1].got().brief(), "HIT v");
    s.assert_quiet();
}

// ---- other events ----

#[test]
fn a_flush_frees_the_lease_and_the_first_in_line_loads() {
    let s = Server::start();
    for flush in ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHALL SYNC", "FLUSHDB", "FLUSHDB ASYNC"] {
        let token = s.getlock("k").token().to_owned();
        let mut conns = s.park(3, |_| "k WAIT 60".to_owned());
        s.ok(flush);
        let first = conns[0].got();
        assert_eq!(first.brief(), "MISS +", "{flush}");
        assert_eq!(s.fill("k", "older", &token), "STALE", "{flush}: loaded before it");
        assert_eq!(s.stat("waiters"), 2, "{flush}");
        assert_eq!(s.fill("k", "v", first.token()), "OK", "{flush}");
        assert_eq!(briefs(&mut conns[1..]), ["HIT v"; 2], "{flush}");
        s.ok("SMARTCACHE.DEL k");
        s.assert_quiet();
    }
}

#[test]
fn each_database_has_its_own_leases_and_a_flush_concerns_its_own() {
    let s = Server::start();
    let mut three = s.connect();
    three.call("SELECT 3");
    let here = s.getlock("k").token().to_owned();
    let there = three.getlock("k").token().to_owned();
    let mut zero = s.park(2, |_| "k WAIT 60".to_owned());
    let mut others: Vec<Conn> = (0..2).map(|_| s.connect()).collect();
    for (i, conn) in others.iter_mut().enumerate() {
        conn.call("SELECT 3");
        conn.send_getlock("k WAIT 60");
        s.wait_for_waiters(3 + i as i64);
    }
    assert_eq!(s.fill("k", "v", &there), "LOST", "a token is valid in one database");
    assert_eq!(s.stat("waiters"), 4);

    s.ok("SELECT 5");
    s.ok("FLUSHDB");
    s.ok("SELECT 0");
    assert_eq!(s.stat("waiters"), 4);
    three.call("FLUSHDB");
    let promoted = others[0].got();
    assert_eq!(promoted.brief(), "MISS +");
    assert_eq!(s.stat("waiters"), 3);
    assert_eq!(s.fill("k", "zero", &here), "OK");
    assert_eq!(briefs(&mut zero), ["HIT zero"; 2]);
    assert_eq!(s.stat("waiters"), 1);
    assert_eq!(three.call_args(args!["SMARTCACHE.SET", "k", "three", "TOKEN", promoted.token()]).text(), "OK");
    assert_eq!(others[1].got().brief(), "HIT three");
    s.assert_quiet();
}

#[test]
fn swapdb_serves_waiters_that_find_their_key_and_lets_one_load_elsewhere() {
    let s = Server::start();
    let mut one = s.connect();
    one.call("SELECT 1");
    one.call("SMARTCACHE.SET k one");
    let k = s.getlock("k").token().to_owned();
    let other = s.getlock("other").token().to_owned();
    let mut for_k = s.park(3, |_| "k WAIT 60".to_owned());
    let mut for_other = s.park(3, |_| "other WAIT 60".to_owned());
    s.ok("SWAPDB 0 1");
    assert_eq!(briefs(&mut for_k), ["HIT one"; 3]);
    let next = for_other[0].got();
    assert_eq!(next.brief(), "MISS +");
    assert_eq!(s.fill("other", "v", next.token()), "OK");
    assert_eq!(briefs(&mut for_other[1..]), ["HIT v"; 2]);
    assert_eq!(s.fill("k", "older", &k), "STALE", "loaded for another set of keys");
    assert_eq!(s.fill("other", "older", &other), "LOST");
    s.assert_quiet();
    // Unrelated databases.
    let token = s.getlock("new").token().to_owned();
    let mut conns = s.park(1, |_| "new WAIT 60".to_owned());
    s.ok("SWAPDB 2 3");
    assert_eq!(s.stat("waiters"), 1);
    assert_eq!(s.fill("new", "v", &token), "OK");
    assert_eq!(conns[0].got().brief(), "HIT v");
}

#[test]
fn native_writes_serve_the_waiters_of_the_key() {
    let s = Server::start();
    for (line, expected) in [
        ("SET k v", "HIT v"),
        ("RENAME source k", "HIT v"),
        ("RENAME string k", "HIT s"),
        ("COPY source k", "HIT v"),
        ("COPY source k REPLACE", "HIT v"),
        ("COPY string k", "HIT s"),
        ("SETEX k 100 v", "HIT v"),
        ("MSET a b k v", "HIT v"),
        ("APPEND k v", "HIT v"),
    ] {
        s.ok("SMARTCACHE.SET source v");
        s.ok("SET string s");
        let token = s.getlock("k LOCK 100").token().to_owned();
        let mut conns = s.park(3, |_| "k WAIT 60".to_owned());
        s.ok(line);
        assert_eq!(briefs(&mut conns), [expected; 3], "{line}");
        // Written after the load began.
        assert_eq!(s.fill("k", "older", &token), "LOST", "{line}");
        s.assert_quiet();
        s.ok("FLUSHALL");
    }
}

#[test]
fn native_deletes_let_the_next_waiter_load() {
    let s = Server::start();
    for line in ["UNLINK k", "MOVE k 1", "RENAME k other", "GETDEL k", "PEXPIRE k -1", "EXPIREAT k 1"] {
        // A stale value exists, so that there is something to delete.
        s.ok("SMARTCACHE.SET k old SIE 1000");
        s.ok("SMARTCACHE.STALE k");
        let token = s.getlock("k LOCK 100").token().to_owned();
        let mut conns = s.park(2, |_| "k WAIT 60".to_owned());
        let reply = s.call(line);
        if line.starts_with("GETDEL") {
            // It fails on an entry, but counts as a delete all the same: at worst one load too many.
            assert!(reply.is_error(), "{reply}");
        } else {
            assert!(!reply.is_error(), "{line}: {reply}");
        }
        let first = conns[0].got();
        assert_eq!(first.brief(), "MISS +", "{line}");
        assert_ne!(s.fill("k", "older", &token), "OK", "{line}");
        assert_eq!(s.fill("k", "v", first.token()), "OK", "{line}");
        assert_eq!(conns[1].got().brief(), "HIT v", "{line}");
        s.assert_quiet();
        s.ok("FLUSHALL");
    }
}

#[test]
fn a_list_written_meanwhile_is_not_served() {
    let s = Server::start();
    let token = s.getlock("k LOCK 300").token().to_owned();
    let mut conns = s.park(2, |_| "k WAIT 60".to_owned());
    s.ok("LPUSH k a");
    assert!(s.call("SMARTCACHE.GETLOCK k").error().starts_with("WRONGTYPE"));
    assert_eq!(s.fill("k", "older", &token), "LOST");
    // No waiter loads what could not be stored; a retry gets the error.
    for conn in &mut conns {
        assert_eq!(conn.got().brief(), "BUSY");
    }
    assert_eq!(s.ok("TYPE k").text(), "list");
    s.assert_quiet();
}

#[test]
fn saving_and_rewriting_work_while_callers_wait() {
    let s = Server::with("appendonly yes\nappendfsync no\nrdb-key-save-delay 2000");
    for i in 0..200 {
        s.ok(&format!("SMARTCACHE.SET k{i} v"));
    }
    for (start, running) in [("BGSAVE", "rdb_bgsave_in_progress"), ("BGREWRITEAOF", "aof_rewrite_in_progress")] {
        let token = s.getlock("k LOCK 100").token().to_owned();
        let mut conns = s.park(10, |i| format!("k WAIT {}", if i == 9 { "100ms" } else { "60" }));
        s.ok(start);
        assert_eq!(conns[9].got().brief(), "BUSY");
        assert_eq!(s.fill("k", "v", &token), "OK");
        assert_eq!(briefs(&mut conns[..9]), ["HIT v"; 9], "{start}");
        let mut conns = {
            s.getlock("next LOCK 100");
            s.park(2, |_| "next WAIT 60".to_owned())
        };
        s.ok("CONFIG SET rdb-key-save-delay 0");
        wait_until("the child is done", || s.info(running) == "0");
        s.ok("SMARTCACHE.SET next v");
        assert_eq!(briefs(&mut conns), ["HIT v"; 2], "{start}");
        s.ok("FLUSHALL");
        s.ok("CONFIG SET rdb-key-save-delay 2000");
        for i in 0..200 {
            s.ok(&format!("SMARTCACHE.SET k{i} v"));
        }
        s.assert_quiet();
    }
}

#[test]
fn debug_reload_leaves_nobody_hanging() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET other v");
    let token = s.getlock("k LOCK 100").token().to_owned();
    let mut conns = s.park(3, |_| "k WAIT 60".to_owned());
    s.ok("DEBUG RELOAD");
    // For the module this is a flush followed by a load.
    let first = conns[0].got();
    assert_eq!(first.brief(), "MISS +");
    assert_eq!(s.fill("k", "older", &token), "STALE");
    assert_eq!(s.fill("k", "v", first.token()), "OK");
    assert_eq!(briefs(&mut conns[1..]), ["HIT v"; 2]);
    assert_eq!(s.call("SMARTCACHE.GET other").text(), "v");
    s.assert_quiet();
}

#[test]
fn a_shutdown_does_not_wait_for_waiters() {
    let mut s = roomy("appendonly yes\nappendfsync always");
    for how in ["SHUTDOWN NOSAVE", "SHUTDOWN SAVE", "SHUTDOWN NOW NOSAVE FORCE"] {
        let ends = s.log().matches("bye bye").count();
        let token = s.getlock("k LOCK 100").token().to_owned();
        let mut conns = s.park(100, |_| "k WAIT 60".to_owned());
        let line = crate::support::resp::split(how);
        let line: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
        let _ = s.connect().try_call(&line);
        wait_until("it is down", || s.log().matches("bye bye").count() > ends);
        for conn in &mut conns {
            assert!(conn.receive().is_err(), "{how}: the connection is closed");
        }
        s.wait_for_end();
        s.restart();
        assert_eq!(s.fill("k", "v", &token), "LOST", "{how}: a token from before the restart");
        s.assert_quiet();
    }
}

#[test]
fn leases_work_while_writes_are_paused() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let held = s.getlock("held LOCK 100").token().to_owned();
    let mut conns = s.park(2, |i| format!("held WAIT {}", if i == 0 { "100ms" } else { "60" }));
    s.ok("CLIENT PAUSE 60000 WRITE");
    assert_eq!(s.getlock("k").brief(), "HIT v");
    let new = s.getlock("new LOCK 100").token().to_owned();
    assert_eq!(s.getlock("new").brief(), "BUSY");
    assert_eq!(conns[0].got().brief(), "BUSY", "time-outs still run");
    let mut late = s.park(1, |_| "new WAIT 60".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "held", held, "50"]).int(), 1);
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "new", new]).int(), 1);
    assert_eq!(late[0].got().brief(), "MISS +");
    let mut filler = s.connect();
    filler.send(args!["SMARTCACHE.SET", "held", "v", "TOKEN", held]).expect("it is sent");
    s.ok("CLIENT UNPAUSE");
    assert_eq!(filler.receive().expect("a reply").text(), "OK");
    assert_eq!(conns[1].got().brief(), "HIT v");
}

// ---- deadlocks ----

#[test]
fn nobody_waits_for_its_own_connection() {
    let s = Server::start();
    // Several callers multiplexed over one connection: the second would wait for the first, whose fill could never
    // come.
    let mut conn = s.connect();
    for _ in 0..3 {
        conn.send_getlock("k WAIT 60");
    }
    let token = conn.got().token().to_owned();
    assert_eq!(briefs_of(&mut conn, 2), ["BUSY"; 2]);
    assert_eq!(conn.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]).text(), "OK");
    // A promoted waiter holds its lease too.
    let token = s.getlock("other").token().to_owned();
    conn.send_getlock("other WAIT 60");
    s.wait_for_waiters(1);
    conn.send_getlock("other WAIT 60");
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "other", token]).int(), 1);
    assert_eq!(briefs_of(&mut conn, 2), ["MISS +", "BUSY"]);
}

#[track_caller]
fn briefs_of(conn: &mut Conn, count: usize) -> Vec<String> {
    (0..count).map(|_| conn.got().brief()).collect()
}

#[test]
fn connections_that_would_wait_for_each_other_do_not() {
    let s = Server::start();
    for ring in [2, 3, 7] {
        let mut conns: Vec<Conn> = (0..ring).map(|_| s.connect()).collect();
        let tokens: Vec<String> = (0..ring).map(|i| conns[i].getlock(&format!("k{i}")).token().to_owned()).collect();
        for (i, conn) in conns.iter_mut().enumerate() {
            conn.send_getlock(&format!("k{} WAIT 60", (i + 1) % ring));
            if i + 1 < ring {
                s.wait_for_waiters(i as i64 + 1);
            }
        }
        // The last would close the ring.
        assert_eq!(conns[ring - 1].got().brief(), "BUSY", "a ring of {ring}");
        assert_eq!(s.stat("waiters"), ring as i64 - 1);
        // All continue, one after the other.
        for i in (0..ring).rev() {
            let reply = conns[i].call_args(args!["SMARTCACHE.SET", format!("k{i}"), "v", "TOKEN", tokens[i]]);
            assert_eq!(reply.text(), "OK");
            if i > 0 {
                assert_eq!(conns[i - 1].got().brief(), "HIT v");
            }
        }
        s.ok("FLUSHALL");
        s.assert_quiet();
    }
}

#[test]
fn a_chain_is_no_deadlock() {
    let s = Server::start();
    let mut conns: Vec<Conn> = (0..5).map(|_| s.connect()).collect();
    let tokens: Vec<String> = (0..5).map(|i| conns[i].getlock(&format!("k{i}")).token().to_owned()).collect();
    for (i, conn) in (1..).zip(&mut conns[..4]) {
        conn.send_getlock(&format!("k{i} WAIT 60"));
        s.wait_for_waiters(i);
    }
    // A connection outside the chain may wait for any of them; a key of another database is another key.
    let mut outside = s.park(1, |_| "k0 WAIT 60".to_owned());
    for i in (0..5).rev() {
        conns[i].call_args(args!["SMARTCACHE.SET", format!("k{i}"), "v", "TOKEN", tokens[i]]);
        if i > 0 {
            assert_eq!(conns[i - 1].got().brief(), "HIT v");
        }
    }
    assert_eq!(outside[0].got().brief(), "HIT v");
    s.assert_quiet();
}

// ---- limits ----

/// The number of parked callers out of `count`; the others get `BUSY`.
#[track_caller]
fn parked_of(s: &Server, count: usize) -> i64 {
    let token = s.getlock("limit LOCK 100").token().to_owned();
    let mut conns: Vec<Conn> = (0..count).map(|_| s.connect()).collect();
    let mut busy = 0;
    for conn in &mut conns {
        conn.send_getlock("limit WAIT 60");
    }
    wait_until("all have asked", || {
        let (waiters, asked) = (s.stat("waiters"), s.stat("waiters") + s.stat("busy"));
        busy = asked - waiters;
        asked >= count as i64
    });
    let waiters = s.stat("waiters");
    s.fill("limit", "v", &token);
    let answers = briefs(&mut conns);
    assert_eq!(answers.iter().filter(|brief| *brief == "HIT v").count() as i64, waiters);
    assert_eq!(answers.iter().filter(|brief| *brief == "BUSY").count() as i64, count as i64 - waiters);
    s.ok("SMARTCACHE.DEL limit");
    s.assert_quiet();
    s.ok("SMARTCACHE.RESETSTAT");
    waiters
}

#[test]
fn the_limit_of_waiters_follows_from_connections_and_memory_unless_set() {
    let s = Server::with("maxclients 300\nsmartcache.user-share 100%");
    assert_eq!(parked_of(&s, 40), 30, "a tenth of maxclients");
    s.ok("CONFIG SET maxclients 200");
    assert_eq!(parked_of(&s, 40), 20);
    // 5 % of maxmemory at 36 KB each.
    s.ok(&format!("CONFIG SET maxmemory-policy allkeys-lru maxmemory {}", 36 * 1024 * 20 * 18));
    assert_eq!(parked_of(&s, 40), 18);
    s.ok("CONFIG SET smartcache.max-waiters 33");
    assert_eq!(parked_of(&s, 40), 33, "the setting wins");
    s.ok("CONFIG SET smartcache.max-waiters 0");
    assert_eq!(parked_of(&s, 40), 18);
    s.ok("CONFIG SET maxmemory 0");
    assert_eq!(parked_of(&s, 40), 20);
}

#[test]
fn max_leases_bounds_leases_and_nobody_waits_for_a_free_one() {
    let s = Server::with("smartcache.max-leases 2\nsmartcache.user-share 100%");
    s.ok("SMARTCACHE.SET stale old SWR 1000 SIE 1000");
    s.ok("SMARTCACHE.STALE stale");
    let a = s.getlock("a").token().to_owned();
    assert_eq!(s.getlock("b LOCK 300ms").brief(), "MISS +");
    for (key, brief) in [("c", "BUSY"), ("stale", "STALE old")] {
        let got = s.getlock(&format!("{key} WAIT 60"));
        assert_eq!(got.brief(), brief);
        assert_within!(got.lease_ms, 1..=10_000);
    }
    assert_eq!(s.stat("waits"), 0);
    // Waiting for a held lease is still possible.
    let mut conns = s.park(1, |_| "a WAIT 60".to_owned());
    assert_eq!(s.fill("a", "v", &a), "OK");
    assert_eq!(conns[0].got().brief(), "HIT v");
    assert_eq!(s.getlock("c").brief(), "MISS +");
    wait_until("an expired lease does not count", || s.getlock("d").brief() == "MISS +");
    s.ok("CONFIG SET smartcache.max-leases 100");
    assert_eq!(s.getlock("e").brief(), "MISS +");
    s.ok("FLUSHALL");
    s.assert_quiet();
}

#[test]
fn a_rule_caps_the_loads_of_its_keys() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH r:* FILLS 2");
    let first = s.getlock("r:1").token().to_owned();
    s.getlock("r:2");
    assert_eq!(s.getlock("r:3 WAIT 60").brief(), "BUSY");
    assert_eq!(s.getlock("other").brief(), "MISS +");
    assert_eq!(s.fill("r:1", "v", &first), "OK");
    assert_eq!(s.getlock("r:3 WAIT 60").brief(), "MISS +");
    assert_eq!(s.getlock("r:4 WAIT 60").brief(), "BUSY");
    assert_eq!(s.stat("waits"), 0);
}

// ---- everything at once ----

#[test]
fn under_mixed_load_counters_add_up_and_all_are_answered() {
    let s = roomy("");
    s.ok("SMARTCACHE.RULE SET r MATCH *3 FILLS 1 SWR 1000");
    let mut seed = 12_345_u64;
    let mut draw = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut idle: Vec<Conn> = (0..60).map(|_| s.connect()).collect();
    let mut asking: Vec<(String, Conn)> = Vec::new();
    let mut tokens: Vec<(String, String)> = Vec::new();
    for _ in 0..3_000 {
        let key = format!("k{}", draw(6));
        match draw(12) {
            0..=5 => match idle.pop() {
                Some(mut conn) => {
                    conn.send_getlock(&format!("{key} WAIT {}ms LOCK {}ms", draw(120), 1 + draw(80)));
                    asking.push((key, conn));
                }
                None => {
                    let at = draw(asking.len() as u64) as usize;
                    let (key, mut conn) = asking.swap_remove(at);
                    let got = conn.got();
                    tokens.extend(got.token.map(|token| (key, token)));
                    idle.push(conn);
                }
            },
            6 if !asking.is_empty() => {
                let at = draw(asking.len() as u64) as usize;
                asking.swap_remove(at); // it disconnects, waiting or answered
                idle.push(s.connect());
            }
            7 | 8 if !tokens.is_empty() => {
                let (key, token) = tokens.swap_remove(draw(tokens.len() as u64) as usize);
                let reply = s.call_args(args!["SMARTCACHE.SET", key, "v", "PX", "30", "TOKEN", token]);
                assert!(["OK", "STALE", "LOST"].contains(&reply.text().as_str()), "{reply}");
            }
            9 if !tokens.is_empty() => {
                let (key, token) = tokens.swap_remove(draw(tokens.len() as u64) as usize);
                let words: &[&[u8]] = args!["SMARTCACHE.UNLOCK", key, token, "BACKOFF", "10ms"];
                let len = if draw(2) == 0 { 3 } else { 5 };
                assert!(s.call_args(&words[..len]).int() <= 1);
            }
            10 => {
                let line = match draw(8) {
                    0 => "FLUSHALL".to_owned(),
                    1 => format!("SET {key} plain PX 30"),
                    2 => format!("DEL {key}"),
                    3 => format!("SMARTCACHE.SET {key} v PX 30"),
                    4 => format!("SMARTCACHE.STALE {key}"),
                    5 => format!("SMARTCACHE.GET {key}"),
                    _ => format!("SMARTCACHE.DEL {key}"),
                };
                s.ok(&line);
            }
            _ => s.assert_counts_add_up(),
        }
    }
    for (key, mut conn) in asking {
        // Tokens granted here are unlocked, so that the next round does not wait for them.
        if let Some(token) = conn.got().token {
            s.call_args(args!["SMARTCACHE.UNLOCK", key, token]);
        }
    }
    s.assert_quiet();
}
