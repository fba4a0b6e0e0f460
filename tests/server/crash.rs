//! `kill -9`, and recovery from disk.

use crate::rdb::{assert_unchanged, fill, picture};
use crate::support::{Server, args, wait_until};

#[test]
fn with_appendfsync_always_nothing_that_was_answered_is_lost() {
    for preamble in ["yes", "no"] {
        let mut s = Server::with(&format!("appendonly yes\nappendfsync always\naof-use-rdb-preamble {preamble}"));
        let keys = fill(&s);
        let before = picture(&s, &keys);
        for _ in 0..3 {
            s.restart();
            assert_unchanged(&s, &keys, &before);
        }
        for i in 0..200 {
            s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), format!("{i} ").repeat(30), "EX", "1000"]);
        }
        s.restart();
        for i in 0..200 {
            assert_eq!(s.call(&format!("SMARTCACHE.GET k{i}")).text(), format!("{i} ").repeat(30));
        }
    }
}

#[test]
fn a_kill_during_a_pipeline_loses_nothing_that_was_answered() {
    let mut s = Server::with("appendonly yes\nappendfsync always");
    let mut answered = 0;
    for round in 0..3 {
        let mut conn = s.connect();
        let value = "a value that shrinks ".repeat(100);
        for i in 0..300 {
            let key = format!("k{i}");
            let value = format!("{round} {value}");
            conn.send(args!["SMARTCACHE.SET", key, value]).expect("it is sent");
        }
        // Killed in the middle of the pipeline: only some answers have arrived.
        for _ in 0..100 * (round + 1) {
            assert_eq!(conn.receive().expect("a reply").text(), "OK");
            answered += 1;
        }
        s.restart();
        for i in 0..100 * (round + 1) {
            assert!(s.call(&format!("SMARTCACHE.GET k{i}")).text().starts_with(&format!("{round} a value")));
        }
        s.digest();
    }
    assert_eq!(answered, 600);
}

#[test]
fn a_restart_from_an_rdb_has_the_state_of_the_last_save() {
    let mut s = Server::start();
    let keys = fill(&s);
    let before = picture(&s, &keys);
    s.ok("SAVE");
    s.ok("SMARTCACHE.SET later v");
    s.ok("SMARTCACHE.SET plain changed");
    s.ok("SMARTCACHE.DEL empty");
    s.restart();
    assert_unchanged(&s, &keys, &before);
    assert_eq!(s.call("EXISTS later").int(), 0);
}

#[test]
fn a_kill_during_a_background_save_keeps_the_old_file() {
    let mut s = Server::with("rdb-key-save-delay 1000");
    for i in 0..500 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), "v"]);
    }
    s.ok("CONFIG SET rdb-key-save-delay 0");
    s.ok("SAVE");
    let before = s.digest();
    s.ok("CONFIG SET rdb-key-save-delay 5000");
    s.ok("SMARTCACHE.SET new v");
    s.ok("BGSAVE");
    s.restart();
    assert_eq!(s.digest(), before);
}

#[test]
fn after_a_restart_new_entries_are_newer_than_old_ones() {
    // The clock never goes back: new entries can be made stale and replaced.
    let mut s = Server::with("appendonly yes\nappendfsync always");
    s.ok("SMARTCACHE.SET k v SWR 1000");
    s.restart();
    assert_eq!(s.ok("SMARTCACHE.STALE k").int(), 1);
    s.ok("SMARTCACHE.SET k w SWR 1000");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "w");
    s.restart();
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "w");
}

#[test]
fn a_clean_shutdown_in_the_middle_of_compressing_is_clean() {
    let mut s = Server::with("appendonly yes\nappendfsync always");
    let value = "a value that shrinks ".repeat(100_000);
    for i in 0..8 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), value]);
    }
    let _ = s.connect().try_call(args!["SHUTDOWN", "NOSAVE"]);
    s.wait_for_end();
    assert!(s.log().contains("bye bye"), "{}", s.log());
    s.restart();
    for i in 0..8 {
        assert!(s.call(&format!("SMARTCACHE.GET k{i}")).text() == value);
    }
}

#[test]
fn filled_values_survive_and_leases_do_not() {
    for conf in [
        "appendonly yes\nappendfsync always\naof-use-rdb-preamble no",
        "appendonly yes\nappendfsync always",
        "save 3600 1", // by RDB
    ] {
        let mut s = Server::with(conf);
        s.ok("CONFIG SET smartcache.swr 1000");
        let tokens: Vec<String> = ["k", "absent", "staled", "out"]
            .iter()
            .map(|key| s.getlock(&format!("{key} LOCK 100")).token().to_owned())
            .collect();
        let began = std::time::Instant::now();
        wait_until("the load takes a while", || began.elapsed().as_millis() > 30);
        let stamp = s.call("SMARTCACHE.STAMP").text();
        assert_eq!(s.fill("k", "v", &tokens[0]), "OK");
        assert_eq!(s.call_args(args!["SMARTCACHE.ABSENT", "absent", "TOKEN", tokens[1]]).text(), "OK");
        s.ok("SMARTCACHE.STALE staled");
        assert_eq!(s.fill("staled", "v", &tokens[2]), "STALE");
        assert!(s.inspect("k", "load_ms").int() >= 20);
        let keys = ["k", "absent", "staled"].map(str::to_owned);
        let mut waiters = s.park(20, |_| "out WAIT 60".to_owned());
        let before = picture(&s, &keys);
        for round in 0..2 {
            if conf.starts_with("save") {
                s.ok("SAVE");
            } else if round == 1 {
                s.ok("BGREWRITEAOF");
                wait_until("the AOF is rewritten", || {
                    s.info("aof_rewrite_in_progress") == "0" && s.info("aof_rewrite_scheduled") == "0"
                });
            }
            s.restart();
            let unleased = |text: &str| {
                let lines = text.lines().filter(|line| !line.contains("lease: ") && !line.contains("waiters: "));
                lines.map(|line| format!("{line}\n")).collect::<String>()
            };
            assert_eq!(unleased(&picture(&s, &keys)), unleased(&before), "{conf}, round {round}");
            for waiter in &mut waiters {
                assert!(waiter.receive().is_err());
            }
            waiters.clear();
            // Tokens and stamps from before the restart are not trusted, and the key is free.
            for (key, token) in ["k", "absent", "staled", "out"].iter().zip(&tokens) {
                assert_eq!(s.fill(key, "w", token), "LOST", "{key}");
                assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", key, token, "BACKOFF", "9"]).int(), 0);
                assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", key, token, "9"]).int(), 0);
            }
            assert_eq!(s.call_args(args!["SMARTCACHE.SET", "new", "v", "SINCE", stamp]).text(), "LOST");
            assert_eq!(s.getlock("k").brief(), "HIT v");
            assert_eq!(s.getlock("absent").brief(), "ABSENT");
            let stale = s.getlock("staled");
            assert_eq!(stale.brief(), "STALE v +");
            s.call_args(args!["SMARTCACHE.UNLOCK", "staled", stale.token()]);
            let out = s.getlock("out");
            assert_eq!(out.brief(), "MISS +");
            s.call_args(args!["SMARTCACHE.UNLOCK", "out", out.token()]);
        }
    }
}

#[test]
fn leases_work_while_saving_fails() {
    let s = Server::with("save 3600 1000000");
    // The file that the server wants to write is a directory.
    std::fs::create_dir(s.path("dump.rdb")).expect("a directory");
    s.ok("SET x v");
    s.ok("BGSAVE");
    wait_until("saving has failed", || s.info("rdb_last_bgsave_status") == "err");
    assert!(s.call("SET k v").error().starts_with("MISCONF"));
    let token = s.getlock("k LOCK 100").token().to_owned();
    let mut waiters = s.park(2, |_| "k WAIT 60".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "50"]).int(), 1);
    // The server refuses the store before the module sees it.
    assert!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]).error().starts_with("MISCONF"));
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 1);
    let next = waiters[0].got();
    assert_eq!(next.brief(), "MISS +");
    s.ok("CONFIG SET stop-writes-on-bgsave-error no");
    assert_eq!(s.fill("k", "v", next.token()), "OK");
    assert_eq!(waiters[1].got().brief(), "HIT v");
    s.assert_quiet();
}
