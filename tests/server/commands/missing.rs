//! `SMARTCACHE.MISSING key [key …]`

use crate::support::{Server, wait_until};

#[test]
fn keys_without_a_fresh_entry_are_returned_in_order() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET fresh v");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("SET plain v");
    s.ok("SMARTCACHE.SET stale v PX 1 SWR 100");
    wait_until("one turns stale", || s.state("stale") == "stale");
    s.play(
        r#"
        > SMARTCACHE.MISSING z fresh stale absent plain a
        1) "z"
        2) "stale"
        3) "a"
        > SMARTCACHE.MISSING fresh absent plain
        (empty array)
        "#,
    );
}

#[test]
fn it_counts_no_request() {
    // "Only SMARTCACHE reads count: GET MGET GETLOCK."
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.MISSING k nothing");
    assert_eq!(s.stat("requests"), 0);
}

#[test]
fn a_key_of_another_type_is_refused() {
    let s = Server::start();
    s.ok("LPUSH list a");
    assert!(s.call("SMARTCACHE.MISSING list").error().starts_with("WRONGTYPE"));
}
