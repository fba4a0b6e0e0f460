//! `SMARTCACHE.GET key [STALE] [STATE] [PEEK] [ACCEPT encodings]`

use std::io::Read;

use crate::support::{Reply, Server, args, assert_within, wait_until};

/// Text that every codec shrinks, and larger than `min-size`.
fn compressible() -> Vec<u8> {
    (0..200).flat_map(|i| format!("{{\"id\":{i},\"name\":\"name of {i}\"}},").into_bytes()).collect()
}

#[test]
fn a_fresh_value_is_served() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v TTL 10
        OK
        > SMARTCACHE.GET k
        "v"
        > smartcache.get k
        "v"
        "#,
    );
}

#[test]
fn a_missing_key_is_nil() {
    Server::start().play(
        r#"
        > SMARTCACHE.GET k
        (nil)
        > SMARTCACHE.GET k STALE
        (nil)
        > SMARTCACHE.GET k ACCEPT gzip
        (nil)
        "#,
    );
}

#[test]
fn a_fresh_value_is_served_until_its_ttl_ends() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET long v TTL 100");
    s.ok("SMARTCACHE.SET short v PX 50");
    wait_until("the short one ends", || s.call("SMARTCACHE.GET short").is_nil());
    s.play(
        r#"
        > SMARTCACHE.GET short STALE
        (nil)
        > SMARTCACHE.GET long
        "v"
        "#,
    );
}

#[test]
fn inside_a_window_only_reads_with_stale_are_served() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET swr v PX 1 SWR 100");
    s.ok("SMARTCACHE.SET sie v PX 1 SIE 100");
    for key in ["swr", "sie"] {
        wait_until("it turns stale", || s.state(key) == "stale");
        assert!(s.call(&format!("SMARTCACHE.GET {key}")).is_nil());
        assert_eq!(s.call(&format!("SMARTCACHE.GET {key} STALE")).bytes(), b"v");
    }
}

#[test]
fn past_its_windows_nothing_is_served() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PX 1 SWR 30ms SIE 60ms");
    wait_until("the windows end", || s.call("SMARTCACHE.GET k STALE").is_nil());
    wait_until("the server removes it", || s.call("EXISTS k").int() == 0);
}

#[test]
fn an_absent_entry_answers_nil() {
    Server::start().play(
        r#"
        > SMARTCACHE.ABSENT k
        OK
        > SMARTCACHE.GET k
        (nil)
        > SMARTCACHE.GET k STALE
        (nil)
        > SMARTCACHE.GET k ACCEPT gzip
        (nil)
        "#,
    );
}

#[test]
fn a_plain_string_is_read_as_a_fresh_entry() {
    let s = Server::start();
    s.play(
        r#"
        > SET plain v
        OK
        > SET number 12
        OK
        > SMARTCACHE.GET plain
        "v"
        > SMARTCACHE.GET plain STALE
        "v"
        > SMARTCACHE.GET number
        "12"
        > SMARTCACHE.GET plain STATE
        1) "HIT"
        2) "v"
        3) (nil)
        4) (integer) -1
        5) (integer) 0
        > SMARTCACHE.GET plain ACCEPT gzip
        1) "identity"
        2) "v"
        > PEXPIRE plain 100000
        (integer) 1
        "#,
    );
    assert_within!(s.call("SMARTCACHE.GET plain STATE").array()[3].int(), 50_000..=100_000);
}

#[test]
fn a_key_of_another_type_is_refused() {
    let s = Server::start();
    for make in ["LPUSH k a", "HSET k a b", "SADD k a", "ZADD k 1 a", "XADD k * a b"] {
        s.ok("DEL k");
        s.ok(make);
        s.play(
            r#"
            > SMARTCACHE.GET k
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            > SMARTCACHE.GET k STATE
            (error) WRONGTYPE …
            "#,
        );
    }
}

#[test]
fn state_shows_a_hit_with_the_time_left() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 50");
    s.play(
        r#"
        > SMARTCACHE.GET k STATE
        1) "HIT"
        2) "v"
        3) (nil)
        4) (integer) …
        5) (integer) 0
        "#,
    );
    assert_within!(s.call("SMARTCACHE.GET k STATE").array()[3].int(), 50_000..=100_000);
}

#[test]
fn state_shows_stale_and_the_value_only_with_stale() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 100");
    s.ok("SMARTCACHE.STALE k");
    s.play(
        r#"
        > SMARTCACHE.GET k STATE STALE
        1) "STALE"
        2) "v"
        3) (nil)
        4) (integer) 0
        5) (integer) …
        > SMARTCACHE.GET k STATE
        1) "MISS"
        2) (nil)
        3) (nil)
        4) (integer) 0
        5) (integer) …
        "#,
    );
}

#[test]
fn state_distinguishes_absent_from_miss() {
    let s = Server::start();
    s.ok("SMARTCACHE.ABSENT k TTL 100");
    s.play(
        r#"
        > SMARTCACHE.GET k STATE
        1) "ABSENT"
        2) (nil)
        3) (nil)
        4) (integer) …
        5) (integer) 0
        > SMARTCACHE.GET nothing STATE
        1) "MISS"
        2) (nil)
        3) (nil)
        4) (integer) 0
        5) (integer) 0
        "#,
    );
    assert_within!(s.call("SMARTCACHE.GET k STATE").array()[3].int(), 50_000..=100_000);
}

#[test]
fn an_entry_without_end_has_minus_one_ms_left() {
    // The reference has this for plain strings only; it should agree with PTTL.
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PERSIST");
    assert_eq!(s.call("SMARTCACHE.GET k STATE").array()[3].int(), -1);
}

#[test]
fn accept_hands_out_the_stored_bytes_untouched() {
    let s = Server::start();
    let value = compressible();
    s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", "gzip"]);
    let reply = s.call("SMARTCACHE.GET k ACCEPT gzip");
    assert_eq!(reply.array()[0], Reply::Bulk(b"gzip".to_vec()));
    let stored = reply.array()[1].bytes();
    assert_eq!(stored.len() as i64, s.inspect("k", "stored_bytes").int());
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(stored).read_to_end(&mut plain).expect("a gzip stream, fit for Content-Encoding");
    assert_eq!(plain, value);
}

#[test]
fn accept_takes_a_list_and_falls_back_to_identity() {
    let s = Server::start();
    let value = compressible();
    for (codec, accept, encoding) in [
        ("gzip", "gzip,zstd", "gzip"),
        ("gzip", "zstd,gzip", "gzip"),
        ("gzip", "GZIP", "gzip"),
        ("zstd", "gzip,zstd", "zstd"),
        ("zstd", "gzip", "identity"),
        ("lz4", "gzip,zstd", "identity"),
        ("none", "gzip,zstd", "identity"),
    ] {
        s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", codec]);
        let reply = s.call(&format!("SMARTCACHE.GET k ACCEPT {accept}"));
        let [got, bytes] = reply.array() else { panic!("{codec}, {accept}: {reply}") };
        assert_eq!(got.bytes(), encoding.as_bytes(), "{codec} stored, {accept} accepted");
        if encoding == "identity" {
            assert_eq!(bytes.bytes(), value, "{codec} stored, {accept} accepted");
        } else {
            assert!(bytes.bytes().len() < value.len() / 2);
        }
    }
}

#[test]
fn accept_and_state_and_stale_go_together_in_any_order() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 100");
    for line in ["GET k ACCEPT gzip STATE STALE", "GET k STALE STATE ACCEPT gzip", "GET k state accept gzip stale"] {
        s.play(&format!(
            r#"
            > SMARTCACHE.{line}
            1) "HIT"
            2) 1) "identity"
               2) "v"
            3) (nil)
            4) (integer) …
            5) (integer) 0
            "#
        ));
    }
}

#[test]
fn keys_and_values_may_be_any_bytes() {
    let s = Server::start();
    let all: Vec<u8> = (0..=255).collect();
    for key in [&b""[..], b"\0", b"\xff\xfe\0x", b"{}", b"a b\r\n", &all] {
        for value in [&b""[..], b"\0", b"\r\n", b"%s%n", &all] {
            assert_eq!(s.call_args(args!["SMARTCACHE.SET", key, value]), Reply::Simple("OK".into()));
            assert_eq!(s.call_args(args!["SMARTCACHE.GET", key]).bytes(), value);
        }
    }
}

#[test]
fn values_of_every_size_come_back_as_they_were() {
    let s = Server::start();
    for size in [0, 1, 63, 64, 65, 1_000, 4_096, 65_535, 65_536, 65_537, 1_000_000, 5_000_000] {
        let easy = compressible().into_iter().cycle().take(size).collect::<Vec<u8>>();
        let mut seed = 88_172_645_463_325_252_u64;
        let noise = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        });
        let hard: Vec<u8> = noise.take(size).collect();
        for codec in ["auto", "none", "gzip", "zstd", "lz4"] {
            for value in [&easy, &hard] {
                s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", codec]);
                let got = s.call("SMARTCACHE.GET k");
                assert!(got.bytes() == value, "{size} bytes by {codec} did not come back");
            }
        }
    }
}

#[test]
fn a_large_value_is_compressed_a_moment_later_and_reads_the_same() {
    let s = Server::start();
    let value: Vec<u8> = compressible().into_iter().cycle().take(1_000_000).collect();
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    let digest = s.digest();
    wait_until("it is compressed", || s.inspect("k", "codec").text() == "zstd");
    assert!(s.call("SMARTCACHE.GET k").bytes() == value);
    assert_within!(s.inspect("k", "stored_bytes").int(), 1..=500_000);
    assert_eq!(s.inspect("k", "raw_bytes").int(), 1_000_000);
    // Only the representation changes: for everything else nothing was written.
    assert_eq!(s.digest(), digest);
}

#[test]
fn reading_does_not_extend_the_lifetime() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100");
    let before = s.ok("PEXPIRETIME k").int();
    s.ok("SMARTCACHE.GET k");
    s.ok("SMARTCACHE.GET k STALE STATE");
    assert_eq!(s.ok("PEXPIRETIME k").int(), before);
}

#[test]
fn the_servers_own_get_does_not_read_entries() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    assert!(s.call("GET k").error().starts_with("WRONGTYPE"));
}

#[test]
fn each_database_has_its_own_keys() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k zero
        OK
        > SELECT 1
        OK
        > SMARTCACHE.GET k
        (nil)
        > SMARTCACHE.SET k one
        OK
        > SELECT 0
        OK
        > SMARTCACHE.GET k
        "zero"
        "#,
    );
}
