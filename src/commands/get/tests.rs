use crate::testing::TestNode;

/// At second 1,000, with values of every state: 5 seconds fresh, then 2 of SWR, then 3 more of SIE.
fn node() -> TestNode {
    let mut node = TestNode::at(1_000_000);
    node.call("SMARTCACHE.SET k v EX 5 SWR 2 SIE 5");
    node.call("SMARTCACHE.ABSENT none EX 5");
    node
}

fn long() -> String {
    "0123456789".repeat(100)
}

/// Puts the entry of `key` back with its header or its stored bytes changed, as a damaged file would have them.
fn damage(node: &mut TestNode, key: &str, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
    let (mut header, mut stored) = node.written(key.as_bytes()).unwrap();
    change(&mut header, &mut stored);
    assert_eq!(node.obey(&[b"SMARTCACHE.STORE", key.as_bytes(), &header, &stored]), "OK");
}

#[test]
fn a_value_is_served_while_it_is_fresh() {
    let mut node = node();
    node.advance(4_999);
    assert_eq!(node.call("SMARTCACHE.GET k"), "\"v\"");
    node.advance(1);
    assert_eq!(node.call("SMARTCACHE.GET k"), "(nil)");
    assert_eq!(node.call("SMARTCACHE.GET nothing"), "(nil)");
}

#[test]
fn stale_also_serves_inside_the_longer_window() {
    let mut node = node();
    assert_eq!(node.call("SMARTCACHE.GET k STALE"), "\"v\"");
    for ms in [5_000, 1_999, 1, 2_999] {
        node.advance(ms);
        assert_eq!(node.call("SMARTCACHE.GET k STALE"), "\"v\"", "at {}", node.now().ms());
        assert_eq!(node.call("SMARTCACHE.GET k"), "(nil)");
    }
    node.advance(1);
    assert_eq!(node.call("SMARTCACHE.GET k STALE"), "(nil)");
}

#[test]
fn an_absent_entry_is_nil_and_is_never_served_stale() {
    let mut node = node();
    assert_eq!(node.call("SMARTCACHE.GET none"), "(nil)");
    node.pexpireat("none", 2_000_000);
    node.advance(5_000);
    assert_eq!(node.call("SMARTCACHE.GET none STALE STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
}

#[test]
fn state_replies_as_getlock_but_never_with_a_token() {
    let mut node = node();
    assert_eq!(node.call("SMARTCACHE.GET k STATE"), r#"["HIT", "v", (nil), 5000, 0]"#);
    assert_eq!(node.call("SMARTCACHE.GET none STATE"), r#"["ABSENT", (nil), (nil), 5000, 0]"#);
    assert_eq!(node.call("SMARTCACHE.GET nothing STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    node.advance(5_000);
    assert_eq!(node.call("SMARTCACHE.GET k STATE STALE"), r#"["STALE", "v", (nil), 0, 0]"#);
    assert_eq!(node.call("SMARTCACHE.GET k STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    node.call("SMARTCACHE.SET k v PERSIST");
    assert_eq!(node.call("smartcache.get k state"), r#"["HIT", "v", (nil), -1, 0]"#);
}

#[test]
fn expire_can_shorten_freshness_and_never_lengthen_it() {
    let mut node = node();
    node.pexpireat("k", 1_001_500);
    assert_eq!(node.call("SMARTCACHE.GET k STATE"), r#"["HIT", "v", (nil), 1500, 0]"#);
    node.pexpireat("k", 9_000_000);
    assert_eq!(node.call("SMARTCACHE.GET k STATE"), r#"["HIT", "v", (nil), 5000, 0]"#);
    node.advance(10_000);
    assert_eq!(node.call("SMARTCACHE.GET k STALE"), "(nil)", "it exists, but is dead");
    assert_eq!(node.dbsize(), 1);
    node.call("SMARTCACHE.SET endless v PERSIST");
    node.pexpireat("endless", 1_017_000);
    assert_eq!(node.call("SMARTCACHE.GET endless STATE"), r#"["HIT", "v", (nil), 7000, 0]"#);
}

#[test]
fn a_plain_string_is_a_fresh_entry_without_windows() {
    let mut node = node();
    node.plain_set("text", "t", None);
    node.plain_set("expiring", "e", Some(1_003_000));
    assert_eq!(node.call("SMARTCACHE.GET text"), "\"t\"");
    assert_eq!(node.call("SMARTCACHE.GET text STATE"), r#"["HIT", "t", (nil), -1, 0]"#);
    assert_eq!(node.call("SMARTCACHE.GET expiring STATE ACCEPT zstd"), r#"["HIT", ["identity", "e"], (nil), 3000, 0]"#);
}

#[test]
fn a_key_of_another_type_is_an_error_and_no_request() {
    let mut node = node();
    node.plain_list("list");
    for line in ["SMARTCACHE.GET list", "SMARTCACHE.GET list STATE STALE ACCEPT gzip"] {
        assert_eq!(node.refusal(line), "WRONGTYPE Operation against a key holding the wrong kind of value");
    }
    assert_eq!((node.stat("requests"), node.stat("errors")), ("0".into(), "2".into()));
}

#[test]
fn accepted_encodings_are_served_as_they_are_stored() {
    for codec in ["gzip", "zstd", "lz4"] {
        let mut node = node();
        node.call(&format!("SMARTCACHE.SET z {} CODEC {codec}", long()));
        assert_eq!(node.inspect("z", "codec"), format!("\"{codec}\""));
        let stored = node.stored("z").unwrap();
        let packed = format!("[\"{codec}\", \"{}\"]", stored.escape_ascii());
        let plain = format!("[\"identity\", \"{}\"]", long());
        for list in [codec.to_string(), codec.to_uppercase(), format!("br,{codec}"), "gzip,zstd,lz4".into()] {
            assert_eq!(node.call(&format!("SMARTCACHE.GET z ACCEPT {list}")), packed);
        }
        let listed = node.call_words(&[b"GET", b"z", b"ACCEPT", format!("br, {codec} ,x").as_bytes()]);
        assert_eq!(listed, packed, "as HTTP writes lists");
        for list in ["br", "identity", ",", "gzi"] {
            assert_eq!(node.call(&format!("SMARTCACHE.GET z ACCEPT {list}")), plain);
        }
        assert_eq!(node.call_words(&[b"GET", b"z", b"ACCEPT", b""]), plain);
        assert_eq!(node.call("SMARTCACHE.GET z"), format!("\"{}\"", long()));
        let state = node.call(&format!("SMARTCACHE.GET z ACCEPT {codec} STATE"));
        assert_eq!(state, format!(r#"["HIT", {packed}, (nil), 3600000, 0]"#));
    }
}

#[test]
fn accept_replies_nil_where_there_is_no_value() {
    let mut node = node();
    assert_eq!(node.call("SMARTCACHE.GET none ACCEPT gzip"), "(nil)");
    assert_eq!(node.call("SMARTCACHE.GET nothing ACCEPT gzip STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    assert_eq!(node.call("SMARTCACHE.GET k ACCEPT gzip"), r#"["identity", "v"]"#);
}

#[test]
fn a_codec_of_a_later_version_is_a_miss_everywhere() {
    let mut node = node();
    node.call(&format!("SMARTCACHE.SET z {} CODEC zstd EX 5 SWR 5", long()));
    damage(&mut node, "z", |header, _| header[3] = 200);
    for line in ["GET z", "GET z STALE", "GET z ACCEPT zstd", "MGET z"] {
        assert!(matches!(&node.call(line)[..], "(nil)" | "[(nil)]"), "{line}");
    }
    assert_eq!(node.call("GET z STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    assert_eq!(node.call("MISSING z"), r#"["z"]"#, "warming loads it");
    assert_eq!((node.inspect("z", "codec"), node.inspect("z", "state")), ("\"unknown\"".into(), "\"dead\"".into()));
    assert_eq!(node.call("TOUCH z"), "0");
    assert_eq!(node.call("SET z new XX"), "(nil)");
    assert_eq!(node.call("SET z new NX"), "OK");
}

#[test]
fn a_damaged_value_is_a_miss_without_time_left() {
    let mut node = node();
    node.call(&format!("SMARTCACHE.SET z {} CODEC zstd EX 5 SWR 5", long()));
    damage(&mut node, "z", |_, stored| stored.truncate(8));
    assert_eq!(node.call("SMARTCACHE.GET z"), "(nil)");
    assert_eq!(node.call("SMARTCACHE.GET z STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    node.advance(6_000);
    assert_eq!(node.call("SMARTCACHE.GET z STALE STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    assert_eq!(node.stat("misses_expired"), "3");
}

#[test]
fn a_clock_that_steps_back_lengthens_freshness_but_does_not_undo_stale() {
    let mut node = node();
    node.advance(6_000);
    assert_eq!(node.call("SMARTCACHE.GET k"), "(nil)");
    node.set_clock(1_000_000);
    assert_eq!(node.call("SMARTCACHE.GET k"), "\"v\"");
    node.call("SMARTCACHE.STALE k");
    node.set_clock(900_000);
    assert_eq!(node.call("SMARTCACHE.GET k"), "(nil)");
    assert_eq!(node.call("SMARTCACHE.GET k STALE STATE"), r#"["STALE", "v", (nil), 0, 0]"#);
}

#[test]
fn keys_and_values_may_hold_any_byte_and_be_empty() {
    let mut node = node();
    let every: Vec<u8> = (0..=255).collect();
    for (key, value) in [(&every[..], &b""[..]), (b"", &every), (b"\r\n", b"\0")] {
        node.call_words(&[b"SMARTCACHE.SET", key, value]);
        assert_eq!(node.call_words(&[b"SMARTCACHE.GET", key]), format!("\"{}\"", value.escape_ascii()));
    }
}

#[test]
fn each_kind_of_reply_has_its_counter() {
    let mut node = node();
    node.call("SMARTCACHE.SET s v EX 9 SWR 9");
    node.call("SMARTCACHE.STALE s");
    for line in ["GET k", "GET none STATE", "GET nothing", "GET s STALE", "GET s", "GET s STATE"] {
        node.call(line);
    }
    node.advance(5_000);
    node.call("GET k");
    for (name, count) in [
        ("requests", "7"),
        ("hits", "1"),
        ("absent_hits", "1"),
        ("stale_hits", "1"),
        ("misses", "4"),
        ("misses_cold", "1"),
        ("misses_invalidated", "2"),
        ("misses_expired", "1"),
        ("hit_rate", "42.86"),
    ] {
        assert_eq!(node.stat(name), count, "{name}");
    }
}

#[test]
fn reading_has_no_effects() {
    let mut node = node();
    let before = node.picture();
    for line in ["GET k", "GET none STATE", "GET nothing STALE", "GET k ACCEPT zstd"] {
        node.call(line);
        assert!(node.effects.is_empty() && node.replicated.is_empty());
    }
    assert_eq!(node.picture(), before);
}

#[test]
fn an_unknown_or_repeated_option_is_an_error_that_names_it() {
    let mut node = node();
    for (line, near) in [
        ("GET k FRESH", "FRESH"),
        ("GET k STALE stale", "stale"),
        ("GET k STATE STATE", "STATE"),
        ("GET k ACCEPT", "ACCEPT"),
        ("GET k ACCEPT gzip accept gzip", "accept"),
        ("GET k ", ""),
    ] {
        assert_eq!(node.refusal(line), format!("ERR syntax error near '{near}'"));
    }
    assert_eq!(node.refusal("GET"), "ERR wrong number of arguments for 'smartcache.get' command");
    assert_eq!(node.stat("requests"), "0");
}

#[test]
fn peek_serves_the_same_and_counts_nothing() {
    let mut node = node();
    node.plain_set("text", "t", None);
    node.plain_list("list");
    node.call("SMARTCACHE.RESETSTAT");
    for ms in [0, 5_000, 2_000, 3_000] {
        node.advance(ms);
        for line in ["k", "k STALE", "k STATE STALE", "none STATE", "nothing STATE", "text STATE", "k ACCEPT gzip"] {
            let peeked = node.call(&format!("SMARTCACHE.GET {line} PEEK"));
            assert!(node.effects.is_empty());
            assert_eq!((node.stat("requests"), node.call("HOTKEYS")), ("0".into(), "[]".into()), "{line}");
            let read = node.call(&format!("SMARTCACHE.GET {line}"));
            assert_eq!(peeked, read, "{line}");
            node.call("SMARTCACHE.RESETSTAT");
        }
    }
    assert!(node.refusal("SMARTCACHE.GET list PEEK").starts_with("WRONGTYPE"));
    assert_eq!(node.refusal("SMARTCACHE.GET k PEEK peek"), "ERR syntax error near 'peek'");
}
