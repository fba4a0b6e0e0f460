//! `SMARTCACHE.MGET key [key …]`

use crate::support::{Server, args, wait_until};

#[test]
fn values_are_returned_in_order_with_nil_for_missing_keys() {
    Server::start().play(
        r#"
        > SMARTCACHE.MSET 2 a 1 b 2
        (integer) 2
        > SMARTCACHE.MGET b nothing a b
        1) "2"
        2) (nil)
        3) "1"
        4) "2"
        > SMARTCACHE.MGET nothing
        1) (nil)
        "#,
    );
}

#[test]
fn only_fresh_values_are_served() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET fresh v SWR 100");
    s.ok("SMARTCACHE.SET stale v PX 1 SWR 100");
    s.ok("SMARTCACHE.ABSENT absent");
    wait_until("one turns stale", || s.state("stale") == "stale");
    s.play(
        r#"
        > SMARTCACHE.MGET fresh stale absent
        1) "v"
        2) (nil)
        3) (nil)
        "#,
    );
}

#[test]
fn plain_strings_are_read_and_other_types_are_nil() {
    Server::start().play(
        r#"
        > SET plain v
        OK
        > LPUSH list a
        (integer) 1
        > SMARTCACHE.SET entry e
        OK
        > SMARTCACHE.MGET list plain entry
        1) (nil)
        2) "v"
        3) "e"
        "#,
    );
}

#[test]
fn compressed_values_come_plain() {
    let s = Server::start();
    let (one, two) = ("one ".repeat(200), "two ".repeat(200));
    s.call_args(args!["SMARTCACHE.SET", "gzip", one, "CODEC", "gzip"]);
    s.call_args(args!["SMARTCACHE.SET", "zstd", two, "CODEC", "zstd"]);
    let got = s.call("SMARTCACHE.MGET gzip zstd gzip");
    assert_eq!(got.texts(), [one.clone(), two, one]);
}

#[test]
fn hundreds_of_keys_are_read_at_once() {
    let s = Server::start();
    let keys: Vec<String> = (0..1_000).map(|i| format!("k{i}")).collect();
    for key in keys.iter().step_by(2) {
        s.call_args(args!["SMARTCACHE.SET", key, key]);
    }
    let mut words: Vec<&[u8]> = vec![b"SMARTCACHE.MGET"];
    words.extend(keys.iter().map(String::as_bytes));
    let got = s.call_args(&words);
    for (i, (reply, key)) in got.array().iter().zip(&keys).enumerate() {
        if i % 2 == 0 { assert_eq!(reply.text(), *key) } else { assert!(reply.is_nil()) }
    }
    assert_eq!(got.array().len(), keys.len());
}
