//! `kill -9`, and back from what was on disk.

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
fn killed_while_it_writes_it_comes_back_with_all_that_was_answered() {
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
        // Killed in the middle of the pipeline: some answers have come, some never will.
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
fn from_an_rdb_it_comes_back_as_of_the_last_save() {
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
fn killed_during_a_background_save_the_old_file_is_whole() {
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
    // The clock never goes back: what is stored now can be made stale and replaced as ever.
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
    wait_until("it is down", || s.log().contains("bye bye"));
    s.restart();
    for i in 0..8 {
        assert!(s.call(&format!("SMARTCACHE.GET k{i}")).text() == value);
    }
}
