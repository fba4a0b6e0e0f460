//! RDB: a restart restores exactly what was saved.

use crate::support::{Server, args, assert_within, skip, wait_until};

/// Stores one entry of each kind; returns their keys.
pub(crate) fn fill(s: &Server) -> Vec<String> {
    let value = "a value that shrinks ".repeat(50);
    let mut keys = Vec::new();
    for codec in ["none", "gzip", "zstd", "lz4", "auto"] {
        let key = format!("codec:{codec}");
        s.call_args(args![
            "SMARTCACHE.SET",
            key,
            value,
            "CODEC",
            codec,
            "EX",
            "1000",
            "SWR",
            "50",
            "SIE",
            "70",
            "TAGS",
            "2",
            "a",
            "b\0"
        ]);
        keys.push(key);
    }
    for (key, line) in [
        ("empty", "SET empty \"\" PERSIST"),
        ("plain", "SET plain v TTL 1000"),
        ("windows", "SET windows v TTL 1000 SWR 1h"),
        ("stale", "SET stale v TTL 1000 SWR 1000"),
        ("absent", "ABSENT absent TTL 1000 TAGS 1 t"),
        ("\"\\xff\\x00\"", "SET \"\\xff\\x00\" \"\\x00\\xff\" TAGS 1 \"\\xfe\""),
    ] {
        s.ok(&format!("SMARTCACHE.{line}"));
        if !key.starts_with('"') {
            keys.push(key.to_owned());
        }
    }
    s.ok("SMARTCACHE.STALE stale");
    let large: Vec<u8> = value.bytes().cycle().take(300_000).collect();
    s.call_args(args!["SMARTCACHE.SET", "large", large]);
    wait_until("the large one is compressed", || s.inspect("large", "codec").text() == "zstd");
    keys.push("large".to_owned());
    s.ok("SET string v");
    s.ok("LPUSH list a b");
    s.ok("SELECT 5");
    s.ok("SMARTCACHE.SET elsewhere v PERSIST TAGS 1 a");
    s.ok("SELECT 0");
    keys
}

/// Everything that must survive: digest, `INSPECT`, expiry.
pub(crate) fn picture(s: &Server, keys: &[String]) -> String {
    let mut text = s.digest();
    for key in keys {
        if key == "large" && s.ok("EXISTS large").int() == 1 {
            // Its compression may run after loading.
            wait_until("the large one is compressed", || s.inspect("large", "codec").text() == "zstd");
        }
        text += &format!("\n{key}: {}{key}: ends {}", s.portrait(key), s.ok(&format!("PEXPIRETIME {key}")));
    }
    text
}

/// Asserts the same picture, and shows the lines that differ.
#[track_caller]
pub(crate) fn assert_unchanged(s: &Server, keys: &[String], before: &str) {
    let after = picture(s, keys);
    let (mut lost, mut new) = (Vec::new(), Vec::new());
    lost.extend(before.lines().filter(|l| !after.lines().any(|a| a == *l)));
    new.extend(after.lines().filter(|l| !before.lines().any(|b| b == *l)));
    assert!(after == before, "was:\n{}\nis:\n{}", lost.join("\n"), new.join("\n"));
}

#[test]
fn a_saved_server_comes_back_as_it_was() {
    let mut s = Server::start();
    let keys = fill(&s);
    let before = picture(&s, &keys);
    let fresh = s.fresh_ms("windows");
    s.ok("SAVE");
    s.restart();
    assert_unchanged(&s, &keys, &before);
    assert_within!(s.fresh_ms("windows"), fresh - 60_000..=fresh);
    assert_eq!(s.call("SMARTCACHE.GET stale STALE").text(), "v");
    assert!(s.call("SMARTCACHE.GET stale").is_nil());
    assert_eq!(s.call("SMARTCACHE.GET \"\\xff\\x00\"").bytes(), b"\0\xff");
}

/// Keys, members of tags, and what an invalidation of the tag says.
fn counts(s: &Server) -> (i64, i64, i64) {
    (s.ok("DBSIZE").int(), s.stat("tag_members"), s.ok("SMARTCACHE.INVALIDATE TAGS 1 t").int())
}

#[test]
fn what_is_restored_too_late_or_refused_is_not_counted() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET kept v TAGS 1 t");
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    let dump = s.ok("DUMP k").bytes().to_vec();
    s.ok("DEL k");
    let restore =
        |key: &str, ttl: &str, dump: &[u8]| s.call_args(args!["RESTORE", key, ttl, dump, "ABSTTL", "REPLACE"]);
    for i in 0..1_000 {
        assert_eq!(restore(&format!("k{i}"), "1", &dump).text(), "OK");
    }
    // Behind the second string comes the end of the value.
    let body = dump.len() - 10;
    let mut broken = dump[..dump.len() - 8].to_vec();
    broken[body - 1] ^= 1;
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&broken);
    broken.extend(crc.to_le_bytes());
    for i in 0..10 {
        assert!(restore(&format!("k{i}"), "0", &broken).is_error());
    }
    assert_eq!(s.stat("tag_members"), 1);
    for _ in 0..2 {
        // Over what is there: it goes, and the new one does not come.
        assert_eq!(restore("there", "0", &dump).text(), "OK");
        assert_eq!(s.stat("tag_members"), 2);
        assert_eq!(restore("there", "1", &dump).text(), "OK");
        assert_eq!(s.stat("tag_members"), 1);
    }
    assert_eq!(restore("last", "0", &dump).text(), "OK");
    s.ok("FLUSHALL SYNC");
    assert_eq!(restore("last", "0", &dump).text(), "OK");
    s.ok("DEBUG RELOAD");
    assert_eq!(counts(&s), (1, 1, 1));
}

#[test]
fn what_has_expired_when_it_is_loaded_is_not_counted() {
    let mut s = Server::with("save \"\"");
    for i in 0..1_000 {
        s.ok(&format!("SMARTCACHE.SET k{i} v TTL 1000 TAGS 1 t"));
    }
    s.ok("SMARTCACHE.SET kept v TTL 1000 TAGS 1 t");
    s.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    for i in 0..1_000 {
        s.ok(&format!("PEXPIRE k{i} 1"));
    }
    s.ok("SAVE");
    s.restart();
    assert_eq!(counts(&s), (1, 1, 1));
}

#[test]
fn a_background_save_saves_everything() {
    let mut s = Server::start();
    let keys = fill(&s);
    let before = picture(&s, &keys);
    s.ok("BGSAVE");
    wait_until("the child is done", || s.info("rdb_bgsave_in_progress") == "0");
    assert_eq!(s.info("rdb_last_bgsave_status"), "ok");
    s.restart();
    assert_unchanged(&s, &keys, &before);
}

#[test]
fn writes_during_a_background_save_are_not_in_it_and_break_nothing() {
    let mut s = Server::start();
    for i in 0..2_000 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), format!("old {i} ").repeat(50)]);
    }
    s.ok("BGSAVE");
    for i in 0..2_000 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), "new"]);
    }
    wait_until("the child is done", || s.info("rdb_bgsave_in_progress") == "0");
    s.restart();
    for i in (0..2_000).step_by(97) {
        assert_eq!(s.call(&format!("SMARTCACHE.GET k{i}")).text(), format!("old {i} ").repeat(50));
    }
}

#[test]
fn rules_made_by_command_are_saved_in_their_order() {
    let mut s = Server::start();
    s.ok("SMARTCACHE.RULE SET second MATCH a* TTL 100 TAG t:{1}");
    s.ok("SMARTCACHE.RULE SET third MATCH a* SCALE 2 SWR 5");
    s.ok(
        "SMARTCACHE.RULE SET first MATCH b* PRIORITY 5 CODEC lz4 JITTER 10% NEGATIVE 5 MIN 1 MAX 1d MINSIZE 7 FILLS 3",
    );
    s.ok("SMARTCACHE.RULE SET gone MATCH c*");
    s.ok("SMARTCACHE.RULE DEL gone");
    let before = s.ok("SMARTCACHE.RULE LIST").to_string();
    s.ok("SAVE");
    s.restart();
    assert_eq!(s.ok("SMARTCACHE.RULE LIST").to_string(), before);
    s.ok("SMARTCACHE.SET abc v");
    assert_eq!(s.inspect("abc", "rule").text(), "second");
    assert_eq!(s.inspect("abc", "tags").texts(), ["t:bc"]);
}

#[test]
fn an_entry_remembers_its_rule() {
    let mut s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH *");
    s.ok("SMARTCACHE.SET k v");
    s.ok("SAVE");
    s.restart();
    assert_eq!(s.inspect("k", "rule").text(), "r");
}

#[test]
fn configured_rules_are_not_saved() {
    let mut s = Server::start();
    s.call_args(args!["CONFIG", "SET", "smartcache.rules", r#"[{"name":"r","match":["*"]}]"#]);
    s.ok("SMARTCACHE.SET k v");
    s.ok("SAVE");
    s.restart();
    assert!(s.ok("SMARTCACHE.RULE LIST").array().is_empty());
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}

#[test]
fn what_expires_while_the_server_is_down_is_gone() {
    let mut s = Server::start();
    s.ok("SMARTCACHE.SET short v PX 300");
    s.ok("SMARTCACHE.SET stale v PX 300 SWR 1000");
    s.ok("SMARTCACHE.SET long v");
    let both_over = s.ok("PEXPIRETIME stale").int() - 1_000_000; // the window follows, a thousand seconds
    s.ok("SAVE");
    s.kill();
    wait_until("both lifetimes are over", || {
        std::time::UNIX_EPOCH.elapsed().is_ok_and(|now| now.as_millis() as i64 > both_over)
    });
    s.restart();
    assert!(s.call("SMARTCACHE.GET short STALE").is_nil());
    assert!(s.call("SMARTCACHE.GET stale").is_nil());
    assert_eq!(s.call("SMARTCACHE.GET stale STALE").text(), "v");
    assert_eq!(s.call("SMARTCACHE.GET long").text(), "v");
}

#[test]
fn a_file_with_nothing_of_ours_loads_without_the_module() {
    let s = Server::start();
    if !s.since((7, 2), (7, 2)) {
        skip!(s, "it writes a module's aux section even if it is empty (7.2 and later do not)");
    }
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.DEL k");
    s.ok("SMARTCACHE.RULE SET r MATCH *");
    s.ok("SMARTCACHE.RULE DEL r");
    s.ok("SET plain v");
    s.ok("SAVE");
    let bare = Server::setup().without_module().file("dump.rdb", &s.read_file("dump.rdb")).start();
    assert_eq!(bare.call("GET plain").text(), "v");
}

#[test]
fn a_file_from_a_server_without_the_module_loads() {
    let bare = Server::setup().without_module().start();
    bare.ok("SET plain v");
    bare.ok("SAVE");
    let s = Server::setup().file("dump.rdb", &bare.read_file("dump.rdb")).start();
    assert_eq!(s.call("SMARTCACHE.GET plain").text(), "v");
}

#[test]
fn entries_without_end_or_with_a_far_end_survive() {
    let mut s = Server::with("smartcache.default-ttl 0");
    s.ok("SMARTCACHE.SET forever v");
    s.ok("SMARTCACHE.SET windows v SWR 10 SIE 20");
    s.ok("SMARTCACHE.SET far v PXAT 99999999999999");
    s.ok("SAVE");
    s.restart();
    assert_eq!(s.pttl("forever"), -1);
    assert_eq!(s.fresh_ms("forever"), -1);
    assert_eq!(s.fresh_ms("windows"), -1);
    assert_eq!(s.ok("PEXPIRETIME far").int(), 99_999_999_999_999);
}

#[test]
fn many_entries_survive() {
    let mut s = Server::start();
    for i in 0..5_000_usize {
        s.call_args(args![
            "SMARTCACHE.SET",
            format!("k{i}"),
            format!("{i} ").repeat(i % 100),
            "EX",
            "9999",
            "TAGS",
            "1",
            format!("t{}", i % 50)
        ]);
    }
    let digest = s.digest();
    s.ok("SAVE");
    s.restart();
    assert_eq!(s.digest(), digest);
    assert_eq!(s.stat("entries"), 5_000);
    assert_eq!(s.inspect("k77", "tags").texts(), ["t27"]);
}

/// Files of the first version remain readable. They were written by Redis 7.0.15, whose format every server reads.
#[test]
fn a_file_of_the_first_version_is_read_for_ever() {
    let rdb = include_bytes!("../golden/rdb/v1/redis-7.0.rdb");
    holds_the_golden_entries(&Server::setup().file("dump.rdb", rdb).start());
}

/// A file of commands only, as with `aof-use-rdb-preamble no`; servers upgrade a file of that name.
#[test]
fn an_aof_of_the_first_version_is_read_for_ever() {
    let aof = include_bytes!("../golden/aof/v1/redis-7.0.aof");
    holds_the_golden_entries(&Server::setup().conf("appendonly yes").file("appendonly.aof", aof).start());
}

/// The entries in both golden files.
#[track_caller]
fn holds_the_golden_entries(s: &Server) {
    let license = &include_str!("../golden/rdb/v1/text.txt").repeat(2);
    for (key, value, codec) in [
        ("plain", "a plain value", "none"),
        ("empty", "", "none"),
        ("gzip", license, "gzip"),
        ("zstd", license, "zstd"),
        ("lz4", license, "lz4"),
    ] {
        assert_eq!(s.call(&format!("SMARTCACHE.GET {key}")).text(), value, "{key}");
        assert_eq!(s.inspect(key, "codec").text(), codec, "{key}");
        assert_eq!(s.ok(&format!("PTTL {key}")).int(), -1, "{key}");
    }
    assert_eq!(s.inspect("tagged", "tags").texts(), ["user:42", "team seven"]);
    assert_eq!((s.inspect("windows", "swr_ms").int(), s.inspect("windows", "sie_ms").int()), (3_600_000, 7_200_000));
    assert_eq!(s.ok("PEXPIRETIME windows").int(), 99_999_999_999_999 + 7_200_000);
    assert_eq!(s.inspect("golden:1", "tags").texts(), ["g:1"]);
    assert_eq!(s.inspect("golden:1", "rule").text(), "golden");
    assert_eq!(
        (s.inspect("absent", "kind").text(), s.inspect("absent", "tags").texts()),
        ("absent".into(), vec!["gone".into()])
    );
    assert!(s.call("SMARTCACHE.GET stale").is_nil());
    assert_eq!(s.call("SMARTCACHE.GET stale STALE").text(), "v");
    assert_eq!(s.ok("SMARTCACHE.RULE LIST").array().len(), 1);
    assert_eq!(s.call("SMARTCACHE.GET string").text(), "s");
    s.ok("SELECT 1");
    assert_eq!(s.call("SMARTCACHE.GET elsewhere").text(), "v");
}

#[test]
fn invalidated_entries_stay_invalidated() {
    let mut s = Server::with("save 1000 1");
    s.ok("CONFIG SET smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.MSET 2 a v b v TAGS 1 t SWR 100");
    s.ok("SMARTCACHE.SET c v TAGS 1 u");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t SOFT");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 u");
    s.ok("SMARTCACHE.SET b w TAGS 1 t");
    let reads = ["SMARTCACHE.MGET a b c", "SMARTCACHE.GET a STALE", "SMARTCACHE.GET c STALE"];
    let expected = reads.map(|line| s.call(line).to_string());
    s.ok("SAVE");
    s.restart();
    assert_eq!(reads.map(|line| s.call(line).to_string()), expected);
    assert_eq!(s.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 1, "loaded entries are counted");
    wait_until("what was dead in the file is swept", || s.call("DBSIZE").int() == 0);
}
