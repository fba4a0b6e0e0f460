//! `SMARTCACHE.STALE key [key …]`

use crate::support::{Server, wait_until};

#[test]
fn freshness_ends_and_the_windows_stay() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.SET k v TTL 100 SWR 100
        OK
        > SMARTCACHE.STALE k
        (integer) 1
        > SMARTCACHE.GET k
        (nil)
        > SMARTCACHE.GET k STALE
        "v"
        "#,
    );
    assert_eq!(s.state("k"), "stale");
    assert_eq!(s.fresh_ms("k"), 0);
    // "After a soft invalidation PTTL is an upper bound."
    assert!(s.pttl("k") <= 200_000);
}

#[test]
fn the_windows_count_from_now() {
    // "Both counted from the moment an entry turns stale": a long TTL does not keep it longer.
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 1000 SWR 50ms");
    s.ok("SMARTCACHE.STALE k");
    wait_until("the window ends", || s.call("SMARTCACHE.GET k STALE").is_nil());
}

#[test]
fn without_windows_nothing_is_left_to_serve() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.SET k v TTL 100
        OK
        > SMARTCACHE.ABSENT gone TTL 100
        OK
        > SMARTCACHE.STALE k gone
        (integer) 2
        > SMARTCACHE.GET k STALE
        (nil)
        > SMARTCACHE.GET gone STATE STALE
        1) "MISS"
        2) (nil)
        3) (nil)
        4) (integer) 0
        5) (integer) …
        > SMARTCACHE.MISSING k gone
        1) "k"
        2) "gone"
        "#,
    );
}

#[test]
fn only_what_was_fresh_is_counted() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET ended v PX 1 SWR 100");
    wait_until("it ends", || s.state("ended") == "stale");
    s.play(
        r#"
        > SMARTCACHE.SET a v SWR 100
        OK
        > SMARTCACHE.SET b v SWR 100
        OK
        > SMARTCACHE.STALE a b ended nothing
        (integer) 2
        > SMARTCACHE.STALE a b ended nothing
        (integer) 0
        "#,
    );
}

#[test]
fn plain_strings_are_not_affected() {
    Server::start().play(
        r#"
        > SET plain v
        OK
        > SMARTCACHE.STALE plain
        (integer) 0
        > SMARTCACHE.GET plain
        "v"
        "#,
    );
}

#[test]
fn an_entry_without_end_gets_one() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PERSIST SWR 50ms");
    s.ok("SMARTCACHE.STALE k");
    wait_until("it is gone for good", || s.call("SMARTCACHE.GET k STALE").is_nil());
}

#[test]
fn a_new_value_is_fresh_again() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v SWR 100
        OK
        > SMARTCACHE.STALE k
        (integer) 1
        > SMARTCACHE.SET k w
        OK
        > SMARTCACHE.GET k
        "w"
        "#,
    );
}

#[test]
fn a_key_of_another_type_is_refused() {
    let s = Server::start();
    s.ok("LPUSH k a");
    assert!(s.call("SMARTCACHE.STALE k").error().starts_with("WRONGTYPE"));
}
