//! Native commands on our entries, and the events that our commands raise.

use crate::support::{Conn, Server, args, assert_within, wait_until};

/// Listens to all events of database 0, module class included.
fn listener(s: &Server) -> Conn {
    s.ok("CONFIG SET notify-keyspace-events KEA"); // "A" includes the module class but not key misses
    let mut conn = s.connect();
    conn.call("PSUBSCRIBE __keyevent@0__:*");
    conn
}

/// The events that `line` raises: `event key`, in order.
#[track_caller]
fn events(s: &Server, conn: &mut Conn, line: &str) -> Vec<String> {
    s.ok(line);
    s.ok("SET the:end x");
    let mut seen = Vec::new();
    loop {
        let message = conn.message();
        let (channel, key) = (message.array()[2].text(), message.array()[3].text());
        let event = channel.trim_start_matches("__keyevent@0__:").to_owned();
        if key == "the:end" {
            if event == "set" {
                return seen;
            }
            continue; // "new" on servers that raise it
        }
        if event != "new" && event != "overwritten" && event != "type_changed" {
            seen.push(format!("{event} {key}"));
        }
    }
}

#[test]
fn our_commands_raise_their_events() {
    let s = Server::start();
    let mut conn = listener(&s);
    for (line, expected) in [
        ("SMARTCACHE.SET k v SWR 100", &["smartcache.set k"][..]),
        ("SMARTCACHE.SET k w NX", &[]),
        ("SMARTCACHE.GET k", &[]),
        ("SMARTCACHE.STALE k", &["smartcache.stale k"]),
        ("SMARTCACHE.STALE k nothing", &[]),
        ("SMARTCACHE.ABSENT k", &["smartcache.absent k"]),
        ("SMARTCACHE.MSET 2 a v b v", &["smartcache.set a", "smartcache.set b"]),
        ("SMARTCACHE.DEL a b nothing", &["del a", "del b"]),
        ("SMARTCACHE.SET k v PXAT 1", &["del k"]),
        ("SMARTCACHE.INSPECT k", &[]),
        ("SMARTCACHE.MISSING k", &[]),
    ] {
        assert_eq!(events(&s, &mut conn, line), expected, "{line}");
    }
}

#[test]
fn leases_raise_no_events_and_fills_raise_those_of_a_store() {
    let s = Server::start();
    let mut conn = listener(&s);
    let held = s.getlock("k").token().to_owned();
    for (line, expected) in [
        ("SMARTCACHE.GETLOCK k", &[][..]),
        ("SMARTCACHE.GETLOCK other OWNER me", &[]),
        ("SMARTCACHE.EXTEND k {} 50", &[]),
        ("SMARTCACHE.SET k v TOKEN {}", &["smartcache.set k"]),
        ("SMARTCACHE.SET k v TOKEN {}", &[]),
        ("SMARTCACHE.SET k v TOKEN nonsense", &[]),
        ("SMARTCACHE.GETLOCK k", &[]),
        ("SMARTCACHE.UNLOCK k {}", &[]),
        ("SMARTCACHE.STAMP", &[]),
    ] {
        let line = line.replace("{}", &held);
        assert_eq!(events(&s, &mut conn, &line), expected, "{line}");
    }
    for (before, fill, expected) in [
        ("PING", "ABSENT new TOKEN {}", &["smartcache.absent new"][..]),
        ("SMARTCACHE.DEL new", "SET new v TOKEN {}", &[]),
        ("SMARTCACHE.STALE new", "SET new v SWR 100 TOKEN {}", &["smartcache.set new"]),
        ("PING", "SET new v PX 1 TOKEN {}", &["smartcache.set new"]),
    ] {
        s.ok("SMARTCACHE.DEL new");
        let mut conn = listener(&s);
        let token = s.getlock("new").token().to_owned();
        s.ok(before);
        let line = format!("SMARTCACHE.{}", fill.replace("{}", &token));
        let seen: Vec<String> =
            events(&s, &mut conn, &line).into_iter().filter(|event| !event.starts_with("expired")).collect();
        assert_eq!(seen, expected, "after {before}: {line}");
    }
}

#[test]
fn our_events_are_in_the_module_class_and_deletes_in_the_generic_one() {
    let s = Server::start();
    let mut conn = listener(&s);
    s.ok("CONFIG SET notify-keyspace-events Ed$"); // "$" for the marker
    assert_eq!(events(&s, &mut conn, "SMARTCACHE.SET k v"), ["smartcache.set k"]);
    assert!(events(&s, &mut conn, "SMARTCACHE.DEL k").is_empty());
    s.ok("CONFIG SET notify-keyspace-events Eg$");
    assert!(events(&s, &mut conn, "SMARTCACHE.SET k v").is_empty());
    assert_eq!(events(&s, &mut conn, "SMARTCACHE.DEL k"), ["del k"]);
}

#[test]
fn expiry_raises_the_servers_event() {
    let s = Server::start();
    let mut conn = listener(&s);
    s.ok("SMARTCACHE.SET k v PX 30");
    loop {
        let message = conn.message();
        if message.array()[2].text().ends_with(":expired") {
            assert_eq!(message.array()[3].text(), "k");
            return;
        }
    }
}

/// An entry with every property.
fn rich(s: &Server, key: &str) {
    let value = "a value that shrinks ".repeat(50);
    let reply = s.call_args(args![
        "SMARTCACHE.SET",
        key,
        value,
        "EX",
        "1000",
        "SWR",
        "50",
        "SIE",
        "70",
        "TAGS",
        "2",
        "a",
        "b\x00"
    ]);
    assert!(!reply.is_error(), "{reply}");
}

#[test]
fn rename_keeps_everything() {
    let s = Server::start();
    rich(&s, "k");
    let (portrait, end) = (s.portrait("k"), s.ok("PEXPIRETIME k"));
    s.ok("RENAME k other");
    assert_eq!((s.portrait("other"), s.ok("PEXPIRETIME other")), (portrait, end));
    assert_eq!(s.portrait("k"), "(nil)");
}

#[test]
fn an_entry_moved_to_an_invalidated_name_is_dead_and_freed_by_the_next_walk() {
    let s = Server::start();
    for key in ["renamed", "copied", "moved", "alive"] {
        s.ok(&format!("SMARTCACHE.SET {key} v PERSIST TAGS 1 t"));
    }
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 old: WAIT 5");
    s.ok("SELECT 1");
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 moved WAIT 5");
    s.ok("SELECT 0");
    s.ok("RENAME renamed old:renamed");
    s.ok("COPY copied old:copied");
    s.ok("MOVE moved 1");
    s.ok("RENAME alive alive:too");
    for (db, key) in [(0, "old:renamed"), (0, "old:copied"), (1, "moved")] {
        s.ok(&format!("SELECT {db}"));
        assert_eq!(s.ok(&format!("SMARTCACHE.GET {key}")).to_string(), "(nil)");
    }
    s.ok("SELECT 0");
    wait_until("a copy is swept without a read", || s.ok("EXISTS old:copied").int() == 0);
    assert_eq!(s.ok("SMARTCACHE.GET alive:too").text(), "v");
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 nobodys WAIT 5");
    assert_eq!(s.ok("EXISTS old:renamed").int(), 0, "the next walk over all keys has freed it");
    assert_eq!(s.ok("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 2, "copied, alive:too");
}

#[test]
fn copy_makes_an_equal_and_independent_entry() {
    let s = Server::start();
    rich(&s, "k");
    s.ok("COPY k twin");
    s.ok("COPY k k DB 3");
    assert_eq!(s.portrait("twin"), s.portrait("k"));
    assert_eq!(s.ok("PEXPIRETIME twin"), s.ok("PEXPIRETIME k"));
    assert_eq!(s.ok("DEBUG DIGEST-VALUE twin").texts(), s.ok("DEBUG DIGEST-VALUE k").texts());
    let portrait = s.portrait("k");
    s.ok("SMARTCACHE.DEL k");
    assert_eq!(s.portrait("twin"), portrait);
    s.ok("SELECT 3");
    assert_eq!(s.portrait("k"), portrait);
}

#[test]
fn move_takes_an_entry_to_another_database() {
    let s = Server::start();
    rich(&s, "k");
    let portrait = s.portrait("k");
    assert_eq!(s.ok("MOVE k 2").int(), 1);
    assert_eq!(s.portrait("k"), "(nil)");
    s.ok("SELECT 2");
    assert_eq!(s.portrait("k"), portrait);
}

#[test]
fn swapdb_swaps_entries() {
    let s = Server::start();
    rich(&s, "k");
    let portrait = s.portrait("k");
    s.ok("SWAPDB 0 1");
    assert_eq!(s.portrait("k"), "(nil)");
    s.ok("SELECT 1");
    assert_eq!(s.portrait("k"), portrait);
}

#[test]
fn dump_and_restore_are_a_round_trip() {
    let s = Server::start();
    rich(&s, "k");
    s.ok("SMARTCACHE.SET stale v SWR 1000");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.ABSENT absent TTL 1000 TAGS 1 t");
    s.ok("SMARTCACHE.SET empty \"\" PERSIST");
    for key in ["k", "stale", "absent", "empty"] {
        let (portrait, end) = (s.portrait(key), s.ok(&format!("PEXPIRETIME {key}")).int().max(0));
        let dump = s.ok(&format!("DUMP {key}"));
        s.ok(&format!("DEL {key}"));
        let reply = s.call_args(args!["RESTORE", key, end.to_string(), dump.bytes(), "ABSTTL"]);
        assert_eq!(reply.text(), "OK", "{key}");
        assert_eq!(s.portrait(key), portrait);
        assert_eq!(s.ok(&format!("PEXPIRETIME {key}")).int().max(0), end);
    }
    assert!(s.call("SMARTCACHE.GET stale").is_nil());
    assert_eq!(s.call("SMARTCACHE.GET stale STALE").text(), "v");
}

#[test]
fn a_dump_goes_to_another_server() {
    let (source, target) = (Server::start(), Server::start());
    rich(&source, "k");
    let dump = source.ok("DUMP k");
    assert_eq!(target.call_args(args!["RESTORE", "k", "100000", dump.bytes()]).text(), "OK");
    let value = source.call("SMARTCACHE.GET k");
    assert_eq!(target.call("SMARTCACHE.GET k"), value);
    let mut tags = target.inspect("k", "tags").texts();
    tags.sort();
    assert_eq!(tags, ["a", "b\0"]);
}

#[test]
fn a_restored_entry_that_had_expired_stays_expired() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PX 500");
    let dump = s.ok("DUMP k");
    wait_until("it has expired", || s.call("EXISTS k").int() == 0);
    // Restored without a TTL: the entry's own field still has it.
    s.call_args(args!["RESTORE", "k", "0", dump.bytes()]);
    assert!(s.call("SMARTCACHE.GET k STALE").is_nil());
}

#[test]
fn expire_can_shorten_freshness_and_never_lengthen_it() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v EX 100 SWR 100");
    s.ok("EXPIRE k 1000");
    assert_within!(s.fresh_ms("k"), 70_000..=100_000);
    assert_within!(s.pttl("k"), 900_000..=1_000_000);
    s.ok("EXPIRE k 50");
    assert_within!(s.fresh_ms("k"), 20_000..=50_000);
    assert_within!(s.call("SMARTCACHE.GET k STATE").array()[3].int(), 20_000..=50_000);
    s.ok("PEXPIRE k 30");
    wait_until("it expires", || s.call("SMARTCACHE.GET k STALE").is_nil());
}

#[test]
fn persist_does_not_make_an_entry_fresh_for_ever() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PX 60 SWR 1000");
    assert_eq!(s.ok("PERSIST k").int(), 1);
    assert_eq!(s.pttl("k"), -1);
    wait_until("freshness ends", || s.call("SMARTCACHE.GET k").is_nil());
    assert_eq!(s.call("SMARTCACHE.GET k STALE").text(), "v");
}

#[test]
fn the_type_has_a_name_that_scan_accepts() {
    let s = Server::start();
    s.ok("SMARTCACHE.MSET 2 a v b v");
    s.ok("SET plain v");
    s.play(
        r#"
        > TYPE a
        smrtcache
        > EXISTS a b nothing
        (integer) 2
        > DBSIZE
        (integer) 3
        > RANDOMKEY
        "…"
        "#,
    );
    let mut found = s.ok("SCAN 0 COUNT 1000 TYPE smrtcache").array()[1].texts();
    found.sort();
    assert_eq!(found, ["a", "b"]);
    let mut found = s.ok("KEYS ?").texts();
    found.sort();
    assert_eq!(found, ["a", "b"]);
}

#[test]
fn object_works_on_our_entries() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.ok("OBJECT REFCOUNT k").int(), 1);
    assert_within!(s.ok("OBJECT IDLETIME k").int(), 0..=60);
    assert!(!s.ok("OBJECT ENCODING k").text().is_empty());
    s.ok("CONFIG SET maxmemory-policy allkeys-lfu lfu-log-factor 0");
    s.ok("SMARTCACHE.SET k v");
    for _ in 0..50 {
        s.ok("SMARTCACHE.GET k");
    }
    assert_within!(s.ok("OBJECT FREQ k").int(), 20..=255);
}

#[test]
fn reads_keep_an_entry_from_looking_idle() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    s.ok("SMARTCACHE.SET other v");
    wait_until("two seconds of idleness", || s.ok("OBJECT IDLETIME k").int() >= 2);
    s.ok("SMARTCACHE.GET k");
    assert_within!(s.ok("OBJECT IDLETIME k").int(), 0..=1);
    s.ok("SMARTCACHE.INSPECT other");
    assert_within!(s.ok("OBJECT IDLETIME other").int(), 2..=60);
}

#[test]
fn a_peek_leaves_entries_and_plain_strings_as_idle_and_as_rare_as_they_were() {
    let s = Server::start();
    let peek = |key: &str| {
        for words in ["PEEK", "PEEK STATE STALE"] {
            assert!(!s.call(&format!("SMARTCACHE.GET {key} {words}")).is_nil(), "{key}");
        }
    };
    s.ok("CONFIG SET maxmemory 1gb maxmemory-policy allkeys-lru"); // or small numbers would be shared objects
    s.ok("SMARTCACHE.SET entry v");
    s.ok("SET text v");
    s.ok("SET number 7");
    let keys = ["entry", "text", "number"];
    wait_until("idleness", || keys.iter().all(|key| s.ok(&format!("OBJECT IDLETIME {key}")).int() >= 2));
    for key in keys {
        peek(key);
        assert_within!(s.ok(&format!("OBJECT IDLETIME {key}")).int(), 2..=60);
    }
    assert_eq!(s.ok("OBJECT ENCODING number").text(), "int");
    s.ok("CONFIG SET maxmemory-policy allkeys-lfu lfu-log-factor 0");
    s.ok("SMARTCACHE.SET entry v");
    s.ok("SET text v");
    s.ok("SET number 7");
    for key in keys {
        let before = s.ok(&format!("OBJECT FREQ {key}")).int();
        (0..20).for_each(|_| peek(key));
        assert_within!(s.ok(&format!("OBJECT FREQ {key}")).int(), 0..=before);
    }
    assert_eq!(s.stat("requests"), 0);
}

#[test]
fn memory_usage_follows_the_stored_bytes() {
    let s = Server::start();
    let usage = |len: usize, codec: &str| {
        s.call_args(args!["SMARTCACHE.SET", "k", "v".repeat(len), "CODEC", codec]);
        s.ok("MEMORY USAGE k").int()
    };
    let small = usage(10, "none");
    assert_within!(small, 50..=300);
    assert_within!(usage(50_000, "none"), 50_000..=70_000);
    assert_within!(usage(50_000, "zstd"), 50..=5_000);
    // Tags are part of it.
    s.ok("SMARTCACHE.SET k vvvvvvvvvv CODEC none TAGS 8 a b c d e f g h");
    assert!(s.ok("MEMORY USAGE k").int() > small);
}

#[test]
fn a_small_entry_costs_little_more_than_a_native_string() {
    // The budget: at most 48 bytes more, averaged over sizes 0 to 2,000.
    let s = Server::start();
    let cost = |s: &Server, ours: bool| {
        s.ok("FLUSHALL SYNC"); // some servers free in the background, which would lower `used_memory` later
        let before = s.info_number("used_memory") as i64;
        for i in 0..2_000_usize {
            let (key, value) = (format!("key:{i:08}"), vec![b'v'; i]);
            if ours {
                s.call_args(args!["SMARTCACHE.SET", key, value, "EX", "1000", "CODEC", "none"]);
            } else {
                s.call_args(args!["SET", key, value, "EX", "1000"]);
            }
        }
        (s.info_number("used_memory") as i64 - before) / 2_000
    };
    cost(&s, true); // allocations that happen once
    let (native, ours) = (cost(&s, false), cost(&s, true));
    assert!(ours <= native + 48, "an entry costs {ours} bytes, a native string {native}");
}

#[test]
fn the_digest_is_equal_for_equal_entries_and_differs_for_others() {
    let s = Server::start();
    let digest = |key: &str| s.ok(&format!("DEBUG DIGEST-VALUE {key}")).texts().remove(0);
    s.ok("SMARTCACHE.SET k v PXAT 99999999999999 TAGS 1 a");
    s.ok("COPY k twin");
    assert_eq!(digest("k"), digest("twin"));
    for different in [
        "SMARTCACHE.SET other w PXAT 99999999999999 TAGS 1 a",
        "SMARTCACHE.SET other v PXAT 99999999999999 TAGS 1 b",
        "SMARTCACHE.SET other v PXAT 99999999999998 TAGS 1 a",
        "SMARTCACHE.SET other v PXAT 99999999999999 TAGS 1 a SWR 5",
        "SMARTCACHE.ABSENT other PXAT 99999999999999 TAGS 1 a",
    ] {
        s.ok(different);
        assert_ne!(digest("k"), digest("other"), "{different}");
    }
    let before = digest("k");
    s.ok("SMARTCACHE.SET k v PXAT 99999999999999 TAGS 1 a SWR 5");
    let fresh = digest("k");
    assert_ne!(fresh, before);
    s.ok("SMARTCACHE.STALE k");
    assert_ne!(digest("k"), fresh, "a stale entry is not the same as a fresh one");
}

#[test]
fn debug_reload_changes_nothing() {
    let s = Server::start();
    rich(&s, "k");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("SET plain v");
    let (digest, portrait) = (s.digest(), s.portrait("k"));
    s.ok("DEBUG RELOAD");
    assert_eq!((s.digest(), s.portrait("k")), (digest, portrait));
}

#[test]
fn other_commands_cope_with_our_type() {
    let s = Server::start();
    rich(&s, "k");
    s.ok("DEBUG OBJECT k");
    s.ok("OBJECT HELP");
    s.ok("MEMORY DOCTOR");
    s.ok("SORT nothing");
    assert!(s.call("APPEND k x").error().starts_with("WRONGTYPE"));
    assert!(s.call("SORT k").error().starts_with("WRONGTYPE"));
}

/// `docs/storing.md`: what is served and what the server's own commands see are two things.
#[test]
fn the_servers_own_commands_see_entries_of_any_state() {
    let s = Server::with("smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.SET stale v SWR 1h");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.SET dead:1 v");
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 dead:");
    s.ok("SMARTCACHE.ABSENT absent");
    for (key, kind, state) in [("stale", "value", "stale"), ("dead:1", "value", "dead"), ("absent", "absent", "fresh")]
    {
        assert!(s.ok(&format!("SMARTCACHE.GET {key}")).is_nil(), "{key}");
        assert_eq!(s.ok(&format!("EXISTS {key}")).int(), 1, "{key}");
        assert!(s.ok(&format!("SET {key} w NX")).is_nil(), "{key}");
        assert_eq!(s.ok(&format!("SETNX {key} w")).int(), 0, "{key}");
        assert_eq!((s.inspect(key, "kind").text(), s.inspect(key, "state").text()), (kind.into(), state.into()));
        assert_eq!(s.ok(&format!("SMARTCACHE.SET {key} w NX")).text(), "OK", "{key}");
        s.ok(&format!("SET {key} plain"));
        assert_eq!(s.inspect(key, "kind").text(), "string");
    }
}
