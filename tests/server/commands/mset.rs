//! `SMARTCACHE.MSET numkeys key value [key value …] [lifetime, SWR, SIE, NX | XX, TAGS, CODEC as SET]`

use crate::support::{Server, args, assert_within};

#[test]
fn it_answers_how_many_were_stored() {
    Server::start().play(
        r#"
        > SMARTCACHE.MSET 3 a 1 b 2 c 3
        (integer) 3
        > SMARTCACHE.MGET a b c
        1) "1"
        2) "2"
        3) "3"
        > SMARTCACHE.MSET 1 a 4
        (integer) 1
        > SMARTCACHE.GET a
        "4"
        "#,
    );
}

#[test]
fn options_apply_to_every_key() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(100);
    s.call_args(args![
        "SMARTCACHE.MSET",
        "2",
        "a",
        value,
        "b",
        value,
        "EX",
        "100",
        "SWR",
        "50",
        "TAGS",
        "2",
        "x",
        "y",
        "CODEC",
        "lz4"
    ]);
    for key in ["a", "b"] {
        assert_within!(s.fresh_ms(key), 70_000..=100_000);
        assert_eq!(s.inspect(key, "swr_ms").int(), 50_000);
        assert_eq!(s.inspect(key, "tags").array().len(), 2);
        assert_eq!(s.inspect(key, "codec").text(), "lz4");
    }
}

#[test]
fn numkeys_separates_pairs_from_options() {
    let s = Server::start();
    // A key and a value with names of options.
    s.play(
        r#"
        > SMARTCACHE.MSET 2 TTL 5 NX EX PERSIST
        (integer) 2
        > SMARTCACHE.MGET TTL NX
        1) "5"
        2) "EX"
        > PTTL NX
        (integer) -1
        "#,
    );
}

#[test]
fn nx_and_xx_are_decided_for_each_key() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET a old
        OK
        > SMARTCACHE.MSET 2 a new b new NX
        (integer) 1
        > SMARTCACHE.MGET a b
        1) "old"
        2) "new"
        > SMARTCACHE.MSET 3 a newer b newer c newer XX
        (integer) 2
        > SMARTCACHE.MGET a b c
        1) "newer"
        2) "newer"
        3) (nil)
        "#,
    );
}

#[test]
fn each_key_draws_its_own_jitter() {
    let s = Server::with("smartcache.jitter 50%");
    let keys: Vec<String> = (0..40).map(|i| format!("k{i}")).collect();
    let mut words: Vec<&[u8]> = vec![b"SMARTCACHE.MSET", b"40"];
    for key in &keys {
        words.extend([key.as_bytes(), b"v"]);
    }
    words.extend([&b"TTL"[..], b"1000"]);
    assert_eq!(s.call_args(&words).int(), 40);
    let ends: Vec<i64> = keys.iter().map(|k| s.fresh_ms(k)).collect();
    let spread = ends.iter().max().unwrap_or(&0) - ends.iter().min().unwrap_or(&0);
    assert_within!(spread, 200_000..=1_030_000);
}

#[test]
fn each_key_gets_its_own_rule() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET twice MATCH user:* SCALE 2");
    s.ok("SMARTCACHE.MSET 2 user:1 v other v TTL 100");
    assert_within!(s.fresh_ms("user:1"), 170_000..=200_000);
    assert_within!(s.fresh_ms("other"), 70_000..=100_000);
    assert_eq!(s.inspect("user:1", "rule").text(), "twice");
    assert!(s.inspect("other", "rule").is_nil());
}

#[test]
fn a_moment_already_past_stores_nothing_fresh() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET a v
        OK
        > SMARTCACHE.MSET 2 a v b v EXAT 1
        (integer) 0
        > EXISTS a b
        (integer) 0
        "#,
    );
}

#[test]
fn a_repeated_key_gets_the_last_value() {
    // Not in the reference: like MSET.
    let s = Server::start();
    s.ok("SMARTCACHE.MSET 2 k one k two");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "two");
}

#[test]
fn nothing_is_stored_on_an_error() {
    let s = Server::with("smartcache.max-value 1kb");
    s.ok("SMARTCACHE.SET a old");
    let before = s.digest();
    assert!(s.call("SMARTCACHE.MSET 2 a new b new BOGUS").is_error());
    assert!(s.call("SMARTCACHE.MSET 2 a new b new TTL 0").is_error());
    let large = s.call_args(args!["SMARTCACHE.MSET", "2", "a", "new", "b", "x".repeat(1_025)]);
    assert!(large.error().starts_with("ERR value "), "{large}");
    assert_eq!(s.digest(), before);
}
