//! A panic never kills the server and leaves every connection in step: tested with a command of test builds that
//! panics, or makes another command panic at a given place in the code.

use std::path::PathBuf;

use crate::support::{Conn, Server, Setup, args, skip, wait_until};

/// A setup with the module built with the feature `test-commands`; when there is none, the test is skipped.
macro_rules! setup_that_can_panic {
    () => {{
        let Some(path) = std::env::var_os("SMARTCACHE_TEST_MODULE") else {
            skip!(Server::start(), "SMARTCACHE_TEST_MODULE names no module built with `--features test-commands`");
        };
        Server::setup().module(PathBuf::from(path))
    }};
}

fn start(setup: Setup) -> Server {
    let s = setup.start();
    s.expect_panics();
    s
}

/// Has the module panic when it passes a place for the n-th time.
#[track_caller]
fn panic_at(s: &Server, place: &str, pass: u64) {
    let passes = pass.to_string();
    assert_eq!(s.call_args(args!["SMARTCACHE.PANIC", "AT", place, passes]).text(), "OK");
}

/// Takes that back: the reply to this may be what panics.
#[track_caller]
fn disarm(s: &Server) {
    wait_until("nothing is armed", || !s.call("SMARTCACHE.PANIC AT nowhere 1").is_error());
}

const PLACES: [&str; 3] = ["a write to the keyspace", "an effect", "an element of a reply"];

/// Commands that write, and what they need to be there.
const WRITES: [&str; 16] = [
    "SMARTCACHE.SET new v EX 100 TAGS 1 t",
    "SMARTCACHE.SET old v EX 100",
    "SMARTCACHE.SET text v",
    "SMARTCACHE.MSET 4 new1 a old b new2 c old2 d",
    "SMARTCACHE.ABSENT new",
    "SMARTCACHE.ABSENT old TTL 5",
    "SMARTCACHE.DEL old",
    "SMARTCACHE.DEL new old nosuch old2 old3",
    "SMARTCACHE.TOUCH 77 old old2 old3",
    "SMARTCACHE.STALE old old2",
    "SMARTCACHE.INVALIDATE TAGS 1 t",
    "SMARTCACHE.INVALIDATE ALL SOFT",
    "SMARTCACHE.INVALIDATE PREFIXES 1 o",
    "SMARTCACHE.RULE SET r MATCH r* TTL 9",
    "SMARTCACHE.RULE DEL there",
    "SMARTCACHE.GETLOCK old",
];

fn prepare(s: &Server) {
    s.ok("FLUSHALL");
    s.ok("SMARTCACHE.MSET 4 old 1 old2 2 old3 3 tagged 4 EX 1000 TAGS 1 t");
    s.ok("SET text words");
    s.ok("SMARTCACHE.RULE SET there MATCH there* TTL 9");
}

/// Everything that replicas and the AOF must agree on.
fn portrait(s: &Server) -> String {
    let mut all = vec![s.digest(), s.ok("SMARTCACHE.RULE LIST").to_string()];
    for key in ["new", "new1", "new2", "old", "old2", "old3", "tagged", "text"] {
        all.push(format!(
            "{key}: {} {}",
            s.call(&format!("PEXPIRETIME {key}")),
            s.call(&format!("SMARTCACHE.GET {key}"))
        ));
        all.push(s.portrait(key).lines().filter(|line| !line.starts_with("lease")).collect::<Vec<_>>().join("\n"));
    }
    all.join("\n")
}

#[track_caller]
fn assert_in_step(conn: &mut Conn) {
    assert_eq!(conn.call("ECHO in-step").text(), "in-step");
}

#[test]
fn a_panic_is_an_error_to_the_caller_and_counted() {
    let s = start(setup_that_can_panic!());
    s.ok("SMARTCACHE.SET k v");
    for count in 1..=3 {
        assert!(s.call("SMARTCACHE.PANIC").error().starts_with("ERR"));
        assert_eq!(s.stat("panics"), count);
        assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
    }
    s.ok("SMARTCACHE.SET k w");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "w");
}

#[test]
fn a_panic_in_a_transaction_or_script_is_an_error_there() {
    let s = start(setup_that_can_panic!());
    s.play(
        r#"
        > MULTI
        OK
        > SMARTCACHE.SET k v
        QUEUED
        > SMARTCACHE.PANIC
        QUEUED
        > SMARTCACHE.GET k
        QUEUED
        > EXEC
        1) OK
        2) (error) ERR …
        3) "v"
        "#,
    );
    assert!(s.call("EVAL \"return redis.call('SMARTCACHE.PANIC')\" 0").is_error());
    assert_eq!(s.stat("panics"), 2);
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}

#[test]
fn the_log_says_where_it_panicked() {
    let s = start(setup_that_can_panic!());
    assert!(s.call("SMARTCACHE.PANIC").is_error());
    let log = s.log();
    assert!(log.contains("panic") && log.contains(".rs:"), "{log}");
}

// ---- replies ----

#[test]
fn a_reply_that_a_panic_cuts_off_is_completed_in_both_protocols() {
    let s = start(setup_that_can_panic!());
    let (mut two, mut three) = (s.connect(), s.connect3());
    for conn in [&mut two, &mut three] {
        let array = conn.call("SMARTCACHE.PANIC ARRAY");
        assert_eq!(array.array().len(), 5);
        assert_eq!(array.array()[0].int(), 1);
        assert!(array.array()[1..4].iter().all(|element| element.is_nil()));
        assert!(array.array()[4].error().starts_with("ERR internal error"), "{array}");
        assert_in_step(conn);
        // A reply that is complete stays as it is.
        assert_eq!(conn.call("SMARTCACHE.PANIC DONE").text(), "DONE");
        assert_in_step(conn);
    }
    let map = two.call("SMARTCACHE.PANIC MAP").to_string();
    assert_in_step(&mut two);
    assert!(map.contains("first") && map.contains("inner") && map.contains("ERR internal error"), "{map}");
    let map = three.call("SMARTCACHE.PANIC MAP");
    assert_in_step(&mut three);
    let map = map.to_string();
    assert!(map.contains("first") && map.contains("inner"), "{map}");
    assert!(map.trim_end().ends_with("see the server's log"), "the last element is a value: {map}");
    assert_eq!(s.stat("panics"), 6);
}

#[test]
fn a_reply_cut_off_in_a_transaction_or_script_shifts_nothing() {
    let s = start(setup_that_can_panic!());
    for mut conn in [s.connect(), s.connect3()] {
        for how in ["ARRAY", "MAP", "DONE", ""] {
            for line in ["MULTI".to_owned(), "ECHO 1".into(), format!("SMARTCACHE.PANIC {how}"), "ECHO 2".into()] {
                assert!(!conn.call(line.trim()).is_error());
            }
            let exec = conn.call("EXEC");
            assert_eq!(
                (exec.array().len(), exec.array()[0].text(), exec.array()[2].text()),
                (3, "1".into(), "2".into())
            );
            assert_in_step(&mut conn);
            let call = format!(
                "redis.pcall('SMARTCACHE.PANIC'{})",
                if how.is_empty() { String::new() } else { format!(",'{how}'") }
            );
            let script = format!("{call}; return redis.call('ECHO','after')");
            assert_eq!(conn.call_args(args!["EVAL", script, "0"]).text(), "after", "{how}");
            assert_in_step(&mut conn);
        }
    }
}

#[test]
fn whichever_element_a_panic_comes_at_the_connection_stays_in_step() {
    let s = start(setup_that_can_panic!());
    prepare(&s);
    let lines = [
        "SMARTCACHE.GET old",
        "SMARTCACHE.GET old ACCEPT gzip",
        "SMARTCACHE.MGET old nosuch text old2",
        "SMARTCACHE.GETLOCK old",
        "SMARTCACHE.INSPECT old",
        "SMARTCACHE.MISSING old nosuch",
        "SMARTCACHE.STATS",
        "SMARTCACHE.HEALTH",
        "SMARTCACHE.HOTKEYS",
        "SMARTCACHE.RULE LIST",
        "SMARTCACHE.RULE EXPLAIN old",
        "SMARTCACHE.HELP",
        "SMARTCACHE.PREVIEW ALL",
    ];
    for mut conn in [s.connect(), s.connect3()] {
        for line in lines {
            for pass in [1, 2, 3, 5, 8, 13, 40] {
                panic_at(&s, "an element of a reply", pass);
                conn.call(line);
                assert_in_step(&mut conn);
                disarm(&s);
            }
        }
    }
    assert!(s.stat("panics") > 50);
}

// ---- what was done ----

#[test]
fn whatever_a_command_has_done_before_it_panicked_is_on_the_replica_and_in_the_aof() {
    let conf = "appendonly yes\nappendfsync always";
    let mut primary = start(setup_that_can_panic!().tcp().conf(conf));
    let replica = Server::replica_of(&primary, "");
    let mut conn = primary.connect();
    let mut panics = 0;
    for line in WRITES {
        for place in PLACES {
            for pass in 1..=4 {
                prepare(&primary);
                panic_at(&primary, place, pass);
                conn.call(line);
                assert_in_step(&mut conn);
                disarm(&primary);
                let what = format!("{line}, {place}, {pass}");
                panics = panics.max(primary.stat("panics"));
                wait_until(&what, || portrait(&primary) == portrait(&replica));
            }
        }
    }
    assert!(panics > 60, "{panics}");
    prepare(&primary);
    panic_at(&primary, "a write to the keyspace", 2);
    assert!(primary.call("SMARTCACHE.MSET 4 new1 a old b new2 c old2 d").is_error());
    panic_at(&primary, "a write to the keyspace", 1);
    assert!(primary.call("SMARTCACHE.DEL old3").is_error());
    let before = portrait(&primary);
    assert!(before.contains("new1: ") && primary.call("SMARTCACHE.GET old3").is_nil());
    primary.restart();
    assert_eq!(portrait(&primary), before);
}

#[test]
fn a_panic_between_store_and_effect_is_signalled_to_who_tracks_the_key() {
    let s = start(setup_that_can_panic!());
    s.ok("SMARTCACHE.SET k v");
    let mut conn = s.connect3();
    assert!(!conn.call("CLIENT TRACKING ON").is_error());
    assert_eq!(conn.call("SMARTCACHE.GET k").text(), "v");
    panic_at(&s, "a write to the keyspace", 1);
    assert!(s.call("SMARTCACHE.SET k w").is_error());
    let push = conn.message().to_string();
    assert!(push.contains("invalidate") && push.contains('k'), "{push}");
    assert_eq!(conn.call("SMARTCACHE.GET k").text(), "w");
}

#[test]
fn a_panic_inside_a_script_or_transaction_leaves_the_replica_equal() {
    let primary = start(setup_that_can_panic!().tcp());
    let replica = Server::replica_of(&primary, "");
    for (at, place) in PLACES.into_iter().enumerate() {
        for pass in 1..=3 {
            prepare(&primary);
            panic_at(&primary, place, pass);
            if at % 2 == pass as usize % 2 {
                primary.call(
                    "EVAL \"redis.pcall('SMARTCACHE.SET','new','v'); redis.pcall('SMARTCACHE.DEL','old')\" 2 new old",
                );
            } else {
                for line in ["MULTI", "SMARTCACHE.SET new v", "SMARTCACHE.DEL old", "EXEC"] {
                    primary.call(line);
                }
            }
            disarm(&primary);
            wait_until(place, || portrait(&primary) == portrait(&replica));
        }
    }
    assert!(primary.stat("panics") > 3);
}

#[test]
fn a_sweep_that_panics_goes_on_and_the_replica_is_equal() {
    let primary = start(setup_that_can_panic!().tcp().conf("smartcache.sweep-effort 0"));
    let replica = Server::replica_of(&primary, "");
    for place in ["a write to the keyspace", "an effect", "the sweep", "the sweep of a key"] {
        for i in 0..100 {
            primary.ok(&format!("SMARTCACHE.SET k{i} v TAGS 1 t"));
        }
        primary.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
        let panics = primary.stat("panics");
        panic_at(&primary, place, if place == "the sweep" { 1 } else { 3 });
        primary.ok("CONFIG SET smartcache.sweep-effort 50%");
        wait_until(place, || primary.call("DBSIZE").int() == i64::from(place == "the sweep of a key"));
        wait_until("it has panicked", || primary.stat("panics") > panics);
        wait_until("the replica is equal", || replica.call("DBSIZE").int() == primary.call("DBSIZE").int());
        assert_eq!(replica.digest(), primary.digest());
        primary.ok("CONFIG SET smartcache.sweep-effort 0");
        primary.ok("FLUSHALL");
    }
}

// ---- callbacks ----

#[test]
fn a_panic_in_a_waiters_reply_is_its_error_and_the_next_one_loads() {
    let s = start(setup_that_can_panic!());
    for (place, pass) in [("a waiter for a lease", 1), ("an element of a reply", 2), ("an element of a reply", 5)] {
        let token = s.getlock("k").token().to_owned();
        let mut conns = s.park(2, |_| "k WAIT 60".to_owned());
        panic_at(&s, place, pass + u64::from(place.contains("element"))); // DEL has a reply, too
        s.ok("SMARTCACHE.DEL k");
        assert_eq!(s.fill("k", "late", &token), "STALE");
        let first = conns[0].receive().expect("a reply");
        assert!(first.to_string().contains("ERR internal error"), "{first}");
        assert_in_step(&mut conns[0]);
        // The first was to load, and has not learned it for sure.
        let second = conns[1].got();
        assert_eq!(second.state, "MISS", "{place}");
        assert_eq!(s.fill("k", "v", second.token()), "OK");
        s.ok("SMARTCACHE.DEL k");
        s.assert_quiet();
    }
}

#[test]
fn a_command_that_panics_when_it_should_wait_does_not_wait() {
    let s = start(setup_that_can_panic!());
    let token = s.getlock("k").token().to_owned();
    let mut conn = s.connect();
    panic_at(&s, "an effect", 1);
    assert!(conn.call("SMARTCACHE.GETLOCK k WAIT 60").is_error());
    assert_in_step(&mut conn);
    assert_eq!(s.fill("k", "v", &token), "OK");
    s.assert_quiet();
    assert_in_step(&mut conn);
}

#[test]
fn a_timer_that_panics_comes_again() {
    let s = start(setup_that_can_panic!());
    let _token = s.getlock("k LOCK 200ms").token().to_owned();
    let mut conns = s.park(3, |_| "k WAIT 60 LOCK 200ms".to_owned());
    panic_at(&s, "the timer of leases", 1);
    for conn in &mut conns {
        assert_eq!(conn.got().state, "MISS");
    }
    assert_eq!(s.stat("panics"), 1);
    s.assert_quiet();
}

#[test]
fn a_waiter_who_leaves_during_a_panic_is_forgotten_all_the_same() {
    let s = start(setup_that_can_panic!());
    let token = s.getlock("k").token().to_owned();
    let conns = s.park(1, |_| "k WAIT 60".to_owned());
    panic_at(&s, "a waiter for a lease", 1);
    drop(conns);
    wait_until("it has panicked", || s.stat("panics") == 1);
    assert_eq!(s.info("blocked_clients"), "0");
    assert_eq!(s.fill("k", "v", &token), "OK");
    s.assert_quiet();
}

#[test]
fn every_callback_survives_a_panic() {
    let s = start(setup_that_can_panic!().conf("smartcache.offload-size 1kb\nappendonly yes"));
    let long = "a value that shrinks ".repeat(500);
    let places: [(&str, &[&str]); 16] = [
        ("the cron event", &[]),
        ("the command filter", &["SMARTCACHE.GETLOCK load", "SET other v"]),
        ("unlink", &["SMARTCACHE.SET k v", "DEL k"]),
        ("free", &["SMARTCACHE.SET k v", "DEL k"]),
        ("free_effort", &["SMARTCACHE.SET k v", "UNLINK k"]),
        ("copy", &["SMARTCACHE.SET k v", "COPY k copied"]),
        ("digest", &["SMARTCACHE.SET k v", "DEBUG DIGEST"]),
        ("mem_usage", &["SMARTCACHE.SET k v", "MEMORY USAGE k"]),
        ("CONFIG GET", &["CONFIG GET smartcache.codec"]),
        ("CONFIG SET", &["CONFIG SET smartcache.guard 1s"]),
        ("INFO", &["INFO smartcache"]),
        ("the flush event", &["FLUSHALL"]),
        ("the swapdb event", &["SWAPDB 0 1"]),
        ("the config event", &["CONFIG SET maxclients 100"]),
        ("rdb_save", &["SMARTCACHE.SET k v", "DUMP k"]),
        ("the event of a key", &["SMARTCACHE.SET k v PX 1", "DEBUG SLEEP 0.01", "GET k", "GET k"]),
    ];
    for (count, (place, lines)) in places.into_iter().enumerate() {
        panic_at(&s, place, 1);
        for line in lines {
            s.call(line);
            assert_eq!(s.call("PING").text(), "PONG", "{place}");
        }
        wait_until(place, || s.stat("panics") == count as i64 + 1);
    }
    for place in ["the timer of the workers", "the swap of a value", "the notice of a worker"] {
        panic_at(&s, place, 1);
        let panics = s.stat("panics");
        for key in ["a", "b"] {
            assert_eq!(s.call_args(args!["SMARTCACHE.SET", key, long]).text(), "OK");
        }
        wait_until(place, || s.stat("panics") > panics);
        assert_eq!(s.call("SMARTCACHE.GET a").text(), long, "{place}");
    }
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}
