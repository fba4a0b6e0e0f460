//! `SMARTCACHE.SET key value [lifetime] [SWR d] [SIE d] [NX | XX] [TAGS n tag …] [CODEC name]`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Server, args, assert_within, wait_until};

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

#[test]
fn it_answers_ok_and_the_value_can_be_read() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.GET k
        "v"
        > SMARTCACHE.SET k other
        OK
        > SMARTCACHE.GET k
        "other"
        > TYPE k
        smrtcache
        "#,
    );
}

#[test]
fn every_unit_of_a_duration_is_understood() {
    let s = Server::start();
    for (duration, ms) in [
        ("90", 90_000),
        ("90s", 90_000),
        ("90.5", 90_500),
        ("60.5s", 60_500),
        ("90000ms", 90_000),
        ("5m", 300_000),
        ("1.5m", 90_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
    ] {
        s.ok(&format!("SMARTCACHE.SET k v TTL {duration}"));
        assert_within!(s.fresh_ms("k"), ms - 30_000..=ms);
        assert_within!(s.pttl("k"), ms - 30_000..=ms);
    }
    s.ok("SMARTCACHE.SET k v TTL 0.05");
    wait_until("fifty milliseconds end", || s.call("SMARTCACHE.GET k").is_nil());
}

#[test]
fn each_lifetime_option_works() {
    let s = Server::start();
    let now = unix_ms();
    for lifetime in [
        "TTL 100".to_owned(),
        "EX 100".to_owned(),
        "PX 100000".to_owned(),
        format!("EXAT {}", now / 1000 + 100),
        format!("PXAT {}", now + 100_000),
        "ttl 100".to_owned(),
    ] {
        s.ok(&format!("SMARTCACHE.SET k v {lifetime}"));
        assert_within!(s.fresh_ms("k"), 60_000..=100_000);
        assert_within!(s.pttl("k"), 60_000..=100_000);
    }
}

#[test]
fn an_absolute_moment_is_kept_to_the_millisecond() {
    let s = Server::start();
    let at = unix_ms() + 100_000;
    s.ok(&format!("SMARTCACHE.SET k v PXAT {at}"));
    assert_eq!(s.ok("PEXPIRETIME k").int(), at);
    s.ok(&format!("SMARTCACHE.SET k v EXAT {}", at / 1000));
    assert_eq!(s.ok("PEXPIRETIME k").int(), at / 1000 * 1000);
}

#[test]
fn a_moment_already_past_deletes_the_key() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.SET k v EXAT 1
        OK
        > EXISTS k
        (integer) 0
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.SET k v PXAT 1000
        OK
        > EXISTS k
        (integer) 0
        > SMARTCACHE.SET nothing v PXAT 1000
        OK
        > EXISTS nothing
        (integer) 0
        "#,
    );
}

#[test]
fn persist_has_no_end() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v EX 100
        OK
        > SMARTCACHE.SET k v PERSIST
        OK
        > PTTL k
        (integer) -1
        > SMARTCACHE.GET k
        "v"
        "#,
    );
}

#[test]
fn with_no_lifetime_the_default_is_taken() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 3_570_000..=3_600_000);
    s.ok("CONFIG SET smartcache.default-ttl 100");
    s.ok("SMARTCACHE.SET k v");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    s.ok("CONFIG SET smartcache.default-ttl 0");
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.pttl("k"), -1);
}

#[test]
fn a_new_value_does_not_inherit_the_old_lifetime() {
    let s = Server::with("smartcache.default-ttl 0");
    s.ok("SMARTCACHE.SET k v EX 100 SWR 100 TAGS 1 t");
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.pttl("k"), -1);
    assert_eq!(s.inspect("k", "swr_ms").int(), 0);
    assert!(s.inspect("k", "tags").array().is_empty());
}

#[test]
fn max_ttl_bounds_every_lifetime_option() {
    let s = Server::with("smartcache.max-ttl 100");
    let late = unix_ms() + 100_000_000;
    for lifetime in ["", "TTL 1h", "EX 3600", "PX 3600000", &format!("EXAT {}", late / 1000), &format!("PXAT {late}")] {
        s.ok(&format!("SMARTCACHE.SET k v {lifetime}"));
        assert_within!(s.fresh_ms("k"), 60_000..=100_000);
    }
    s.ok("SMARTCACHE.SET k v EX 50");
    assert_within!(s.fresh_ms("k"), 20_000..=50_000);
}

#[test]
fn jitter_spreads_a_base_and_leaves_exact_lifetimes_alone() {
    let s = Server::with("smartcache.jitter 0.5");
    let mut seen = Vec::new();
    for i in 0..40 {
        s.ok(&format!("SMARTCACHE.SET k{i} v TTL 1000"));
        let ms = s.fresh_ms(&format!("k{i}"));
        assert_within!(ms, 470_000..=1_500_000);
        seen.push(ms);
    }
    let spread = seen.iter().max().unwrap_or(&0) - seen.iter().min().unwrap_or(&0);
    assert_within!(spread, 200_000..=1_030_000);

    s.ok("SMARTCACHE.SET k v EX 1000");
    assert_within!(s.fresh_ms("k"), 970_000..=1_000_000);
    s.ok("SMARTCACHE.SET k v PX 1000000");
    assert_within!(s.fresh_ms("k"), 970_000..=1_000_000);
}

#[test]
fn the_key_lives_for_its_lifetime_plus_the_longer_window() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 50 SIE 200");
    assert_within!(s.pttl("k"), 270_000..=300_000);
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    assert_eq!(s.inspect("k", "swr_ms").int(), 50_000);
    assert_eq!(s.inspect("k", "sie_ms").int(), 200_000);
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 5m");
    assert_within!(s.pttl("k"), 370_000..=400_000);
}

#[test]
fn windows_come_from_the_settings_and_zero_turns_them_off() {
    let s = Server::with("smartcache.swr 50\nsmartcache.sie 2m");
    s.ok("SMARTCACHE.SET k v TTL 100");
    assert_eq!(s.inspect("k", "swr_ms").int(), 50_000);
    assert_eq!(s.inspect("k", "sie_ms").int(), 120_000);
    s.ok("SMARTCACHE.SET k v TTL 100 SWR 0 SIE 0");
    assert_eq!(s.inspect("k", "swr_ms").int(), 0);
    assert_eq!(s.inspect("k", "sie_ms").int(), 0);
    assert_within!(s.pttl("k"), 70_000..=100_000);
}

#[test]
fn nx_stores_only_where_nothing_fresh_is() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.SET k one NX SWR 100
        OK
        > SMARTCACHE.SET k two NX
        (nil)
        > SMARTCACHE.GET k
        "one"
        > SMARTCACHE.STALE k
        (integer) 1
        > SMARTCACHE.SET k three NX
        OK
        > SMARTCACHE.GET k
        "three"
        > SMARTCACHE.ABSENT gone
        OK
        > SMARTCACHE.SET gone back NX
        OK
        > SMARTCACHE.GET gone
        "back"
        > SET plain v
        OK
        > SMARTCACHE.SET plain w NX
        (nil)
        > GET plain
        "v"
        "#,
    );
}

#[test]
fn xx_stores_only_where_something_fresh_or_stale_is() {
    let s = Server::start();
    s.play(
        r#"
        > SMARTCACHE.SET k one XX
        (nil)
        > EXISTS k
        (integer) 0
        > SMARTCACHE.SET k one SWR 100
        OK
        > SMARTCACHE.SET k two XX SWR 100
        OK
        > SMARTCACHE.STALE k
        (integer) 1
        > SMARTCACHE.SET k three XX
        OK
        > SMARTCACHE.GET k
        "three"
        > SET plain v
        OK
        > SMARTCACHE.SET plain w XX
        OK
        > SMARTCACHE.GET plain
        "w"
        "#,
    );
}

#[test]
fn nothing_changes_when_nx_or_xx_refuses() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v EX 100 TAGS 1 t");
    let (digest, portrait, end) = (s.digest(), s.portrait("k"), s.ok("PEXPIRETIME k"));
    assert!(s.call("SMARTCACHE.SET k other EX 7 NX").is_nil());
    assert!(s.call("SMARTCACHE.SET nothing v XX").is_nil());
    assert!(s.call("SMARTCACHE.SET k other PXAT 1 NX").is_nil());
    assert_eq!((digest, portrait, end), (s.digest(), s.portrait("k"), s.ok("PEXPIRETIME k")));
}

#[test]
fn any_type_is_overwritten() {
    let s = Server::start();
    for make in ["SET k v", "LPUSH k a", "HSET k a b", "SADD k a", "ZADD k 1 a", "XADD k * a b"] {
        s.ok("DEL k");
        s.ok(make);
        s.ok("PEXPIRE k 50000");
        s.play(
            r#"
            > SMARTCACHE.SET k v PERSIST
            OK
            > TYPE k
            smrtcache
            > PTTL k
            (integer) -1
            "#,
        );
    }
}

#[test]
fn the_servers_set_overwrites_an_entry() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SET k w
        OK
        > TYPE k
        string
        "#,
    );
}

#[test]
fn a_tag_may_have_the_name_of_an_option() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TAGS 3 TTL NX 5 TTL 100");
    let mut tags = s.inspect("k", "tags").texts();
    tags.sort();
    assert_eq!(tags, ["5", "NX", "TTL"]);
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
}

#[test]
fn sixty_four_tags_of_255_bytes_are_stored() {
    let s = Server::start();
    let tags: Vec<Vec<u8>> = (0..64_u8).map(|i| [vec![i], vec![0xff; 254]].concat()).collect();
    let mut words: Vec<&[u8]> = vec![b"SMARTCACHE.SET", b"k", b"v", b"TAGS", b"64"];
    words.extend(tags.iter().map(Vec::as_slice));
    assert!(!s.call_args(&words).is_error());
    let reply = s.inspect("k", "tags");
    let mut got: Vec<Vec<u8>> = reply.array().iter().map(|t| t.bytes().to_vec()).collect();
    got.sort();
    assert_eq!(got, tags);
}

#[test]
fn a_repeated_tag_is_one_tag() {
    // Not in the reference: an entry has a tag or not.
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TAGS 3 a b a");
    let mut tags = s.inspect("k", "tags").texts();
    tags.sort();
    assert_eq!(tags, ["a", "b"]);
}

#[test]
fn the_codec_can_be_chosen() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(100);
    for codec in ["none", "gzip", "zstd", "lz4", "LZ4"] {
        s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", codec]);
        assert_eq!(s.inspect("k", "codec").text(), codec.to_lowercase());
        assert_eq!(s.inspect("k", "raw_bytes").int(), value.len() as i64);
        let stored = s.inspect("k", "stored_bytes").int();
        if codec == "none" {
            assert_eq!(stored, value.len() as i64);
        } else {
            assert_within!(stored, 1..=value.len() as i64 / 2);
        }
        assert_eq!(s.call("SMARTCACHE.GET k").text(), value);
    }
    s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", "auto"]);
    assert_eq!(s.inspect("k", "codec").text(), "zstd");
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "zstd");
}

#[test]
fn small_values_and_those_that_do_not_shrink_are_stored_as_they_are() {
    let s = Server::start();
    s.call_args(args!["SMARTCACHE.SET", "k", "a".repeat(63)]);
    assert_eq!(s.inspect("k", "codec").text(), "none");
    s.call_args(args!["SMARTCACHE.SET", "k", "a".repeat(64)]);
    assert_eq!(s.inspect("k", "codec").text(), "zstd");

    let random: Vec<u8> =
        (0..2_000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) >> 13) as u8).collect();
    s.call_args(args!["SMARTCACHE.SET", "k", random]);
    let stored = s.inspect("k", "stored_bytes").int();
    assert_within!(stored, 1..=2_000);
    assert_eq!(s.call("SMARTCACHE.GET k").bytes(), random);
}

#[test]
fn min_size_and_min_savings_decide_what_is_kept_compressed() {
    let s = Server::start();
    let value = "a value that shrinks ".repeat(20);
    s.ok("CONFIG SET smartcache.min-size 1000");
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "none");
    s.ok("CONFIG SET smartcache.min-size 0");
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "zstd");
    s.ok("CONFIG SET smartcache.min-savings 99%");
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "none");
}

#[test]
fn the_codec_setting_is_the_default_and_the_option_wins() {
    let s = Server::with("smartcache.codec gzip");
    let value = "a value that shrinks ".repeat(100);
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "gzip");
    s.call_args(args!["SMARTCACHE.SET", "k", value, "CODEC", "lz4"]);
    assert_eq!(s.inspect("k", "codec").text(), "lz4");
    s.ok("CONFIG SET smartcache.codec none");
    s.call_args(args!["SMARTCACHE.SET", "k", value]);
    assert_eq!(s.inspect("k", "codec").text(), "none");
}

#[test]
fn options_come_in_any_order_and_case() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v codec NONE tags 1 t sie 3 swr 2 nx ttl 100");
    s.ok("smartcache.set k v TAGS 2 a b XX PERSIST CODEC gzip SIE 1m SWR 500ms");
    assert_eq!(s.pttl("k"), -1);
}

#[test]
fn a_value_as_large_as_max_value_is_stored_and_one_byte_more_is_not() {
    let s = Server::with("smartcache.max-value 100kb");
    assert!(!s.call_args(args!["SMARTCACHE.SET", "k", vec![b'a'; 102_400]]).is_error());
    let reply = s.call_args(args!["SMARTCACHE.SET", "k", vec![b'a'; 102_401]]);
    assert!(reply.error().starts_with("ERR value "), "{reply}");
    assert_eq!(s.inspect("k", "raw_bytes").int(), 102_400);
}
