//! Invalidation on real servers: what survives, the sweep on a running server, and callers that wait for it.

use crate::support::{Conn, Reply, Server, args, resp, wait_until};

/// Disables the sweep, so that dead entries can be inspected.
const UNSWEPT: &str = "smartcache.sweep-effort 0";

/// Stores `count` keys with this prefix, in few commands.
fn store_many(conn: &mut Conn, prefix: &str, count: usize, rest: &str) {
    for from in (0..count).step_by(1_000) {
        let to = count.min(from + 1_000);
        let mut words: Vec<Vec<u8>> = vec![b"SMARTCACHE.MSET".to_vec(), (to - from).to_string().into_bytes()];
        for n in from..to {
            words.extend([format!("{prefix}{n}").into_bytes(), b"value".to_vec()]);
        }
        words.extend(rest.split_whitespace().map(|word| word.as_bytes().to_vec()));
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        assert_eq!(conn.call_args(&words).int(), (to - from) as i64);
    }
}

/// Sends a command without waiting for the answer.
#[track_caller]
fn send(conn: &mut Conn, line: &str) {
    let words = resp::split(line);
    conn.send(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("it is sent");
}

fn sweep(s: &Server) {
    s.ok("CONFIG SET smartcache.sweep-effort 100%");
}

/// A connection with this database selected.
fn at(s: &Server, db: usize) -> Conn {
    let mut conn = s.connect();
    assert_eq!(conn.call(&format!("SELECT {db}")).text(), "OK");
    conn
}

#[track_caller]
fn in_step(primary: &Server, replica: &Server) {
    wait_until("the replica is in step", || {
        replica.info("master_link_status") == "up"
            && primary.info("master_repl_offset") == replica.info("slave_repl_offset")
    });
}

// ---- what survives ----

/// Selectors with a name to fill in, and modes.
const NAMED: [&str; 3] = ["TAGS 1 {}", "PREFIXES 1 {}:", "PATTERNS 1 {}:*"];
const ENDED: [&str; 4] = ["", "SOFT", "SOFT OVER 80000", "SOFT OVER 1ms"];

/// For each selector and mode: a name, the invalidation, and two keys.
fn ways() -> Vec<(String, String, [String; 2])> {
    let mut all = Vec::new();
    for (i, named) in NAMED.iter().enumerate() {
        for (j, ended) in ENDED.iter().enumerate() {
            let name = format!("way{i}{j}");
            let words = format!("SMARTCACHE.INVALIDATE {} {ended}", named.replace("{}", &name));
            all.push((name.clone(), words, [format!("{name}:old"), format!("{name}:new")]));
        }
    }
    all
}

/// Database 0: an entry invalidated in every way, and a newer one under each name. Database 1: everything is stale.
/// Database 2: everything is dead, and there are guards.
fn end_in_every_way(s: &Server) {
    for (name, invalidate, [old, new]) in ways() {
        s.ok(&format!("SMARTCACHE.SET {old} v TTL 9000 SWR 9000 TAGS 1 {name}"));
        s.ok(&invalidate);
        s.ok(&format!("SMARTCACHE.SET {new} v TTL 9000 SWR 9000 TAGS 1 {name}"));
    }
    let mut one = at(s, 1);
    one.call("SMARTCACHE.SET all v TTL 9000 SWR 9000");
    one.call("SMARTCACHE.INVALIDATE ALL SOFT");
    let mut two = at(s, 2);
    two.call("SMARTCACHE.SET all v TTL 9000 SWR 9000 TAGS 1 t");
    two.call("SMARTCACHE.INVALIDATE ALL");
    two.call("SMARTCACHE.INVALIDATE TAGS 1 guarded GUARD 10000");
    two.call("SMARTCACHE.INVALIDATE PREFIXES 1 guarded: GUARD 10000");
    two.call("SMARTCACHE.INVALIDATE PATTERNS 1 *:guarded SOFT GUARD 10000");
}

/// All entries have their expected states.
#[track_caller]
fn assert_ended(s: &Server, when: &str) {
    for (_, invalidate, [old, new]) in ways() {
        let state = if invalidate.ends_with("OVER 80000") {
            let left = s.fresh_ms(&old);
            // Its own TTL is 9,000 s, and a ramp of 80,000 s may end later.
            assert!(left <= 9_000_000, "{when}: {invalidate}: {old} is fresh for {left} ms");
            "fresh"
        } else if invalidate.contains("SOFT") {
            "stale"
        } else {
            "dead"
        };
        // A rewritten AOF does not contain dead entries.
        let held = if s.state(&old) == "nothing" { "dead".to_owned() } else { s.state(&old) };
        assert_eq!(held, state, "{when}: {invalidate}: {old}");
        assert_eq!(s.call(&format!("SMARTCACHE.GET {old}")).is_nil(), state != "fresh", "{when}: {old}");
        assert_eq!(s.call(&format!("SMARTCACHE.GET {old} STALE")).is_nil(), state == "dead", "{when}: {old}");
        assert_eq!(s.call(&format!("SMARTCACHE.GET {new}")).text(), "v", "{when}: {new}");
    }
    let (mut one, mut two) = (at(s, 1), at(s, 2));
    assert!(one.call("SMARTCACHE.GET all").is_nil(), "{when}");
    assert_eq!(one.call("SMARTCACHE.GET all STALE").text(), "v", "{when}");
    assert!(two.call("SMARTCACHE.GET all STALE").is_nil(), "{when}");
}

/// The guards of database 2 apply; on a primary.
#[track_caller]
fn assert_guarded(s: &Server, when: &str) {
    let mut two = at(s, 2);
    for (key, rest) in [("some", "TAGS 1 guarded"), ("guarded:k", ""), ("k:guarded", ""), ("free", "")] {
        let token = two.getlock(key).token().to_owned();
        let answer = two.call(&format!("SMARTCACHE.SET {key} v {rest} TOKEN {token}")).text();
        assert_eq!(answer, if key == "free" { "OK" } else { "STALE" }, "{when}: {key}");
        two.call(&format!("SMARTCACHE.DEL {key}"));
    }
}

/// Dead entries are swept, and nothing else.
#[track_caller]
fn assert_swept(s: &Server, when: &str) {
    sweep(s);
    let dead = ways().iter().filter(|(_, words, _)| !words.contains("SOFT")).count();
    let left = 2 * ways().len() - dead;
    wait_until(&format!("{when}: dead entries are swept"), || s.call("DBSIZE").int() == left as i64);
    wait_until("the sweep has ended", || s.stat("sweep_backlog") == 0);
    assert_eq!(at(s, 1).call("DBSIZE").int(), 1, "{when}");
    wait_until("there, too", || at(s, 2).call("DBSIZE").int() == 0);
    for (_, invalidate, [old, _]) in ways() {
        let state = s.state(&old);
        assert_eq!(state == "nothing", !invalidate.contains("SOFT"), "{when}: {invalidate}: {state}");
        assert_eq!(state == "fresh", invalidate.ends_with("OVER 80000"), "{when}: {invalidate}: {state}");
    }
}

#[track_caller]
fn assert_survived(s: &Server, when: &str) {
    assert_ended(s, when);
    assert_guarded(s, when);
    assert_swept(s, when);
}

#[test]
fn every_kind_survives_a_restart_from_an_rdb_file() {
    let mut s = Server::with(UNSWEPT);
    end_in_every_way(&s);
    assert_ended(&s, "at once");
    for when in ["saved", "saved again by what was loaded"] {
        s.ok("SAVE");
        s.restart();
        assert_ended(&s, when);
    }
    assert_survived(&s, "in the end");
}

#[test]
fn every_kind_survives_debug_reload() {
    let s = Server::with(UNSWEPT);
    end_in_every_way(&s);
    s.ok("DEBUG RELOAD");
    assert_survived(&s, "reloaded");
}

#[test]
fn every_kind_survives_a_restart_from_an_aof_and_from_a_rewritten_one() {
    for preamble in ["yes", "no"] {
        let conf = format!("appendonly yes\nappendfsync always\naof-use-rdb-preamble {preamble}\n{UNSWEPT}");
        let mut s = Server::with(&conf);
        end_in_every_way(&s);
        s.restart();
        assert_ended(&s, "from the AOF");
        for _ in 0..2 {
            s.ok("BGREWRITEAOF");
            wait_until("the AOF is rewritten", || {
                s.info("aof_rewrite_in_progress") == "0" && s.info("aof_rewrite_scheduled") == "0"
            });
            s.restart();
            assert_ended(&s, &format!("rewritten, preamble {preamble}"));
        }
        assert_survived(&s, &format!("in the end, preamble {preamble}"));
        s.restart();
        assert_swept(&s, "swept and restarted");
    }
}

#[test]
fn every_kind_reaches_replicas_new_ones_and_replicas_of_replicas() {
    let primary = Server::setup().tcp().conf(UNSWEPT).start();
    let early = Server::replica_of(&primary, UNSWEPT);
    let below = Server::replica_of(&early, UNSWEPT);
    end_in_every_way(&primary);
    let late = Server::replica_of(&primary, UNSWEPT);
    in_step(&primary, &early);
    in_step(&primary, &late);
    wait_until("the last is in step", || primary.info("master_repl_offset") == below.info("slave_repl_offset"));
    for (name, replica) in [("early", &early), ("late", &late), ("below", &below)] {
        assert_ended(replica, name);
        sweep(replica); // no effect on a replica
    }
    assert!(late.call("SMARTCACHE.INVALIDATE ALL").error().starts_with("READONLY"));
    // A full resync of a replica that was in sync.
    early.ok("REPLICAOF NO ONE");
    early.ok("CONFIG SET smartcache.sweep-effort 0");
    early.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    in_step(&primary, &early);
    assert_eq!(late.call("DBSIZE").int(), 2 * ways().len() as i64, "a replica sweeps nothing");
    drop(primary);
    for (name, replica) in [("early", &early), ("late", &late), ("below", &below)] {
        replica.ok("REPLICAOF NO ONE");
        replica.ok("CONFIG SET smartcache.sweep-effort 0");
        if name != "late" && name != "below" {
            assert_ended(replica, name); // the others may have been swept by now
        }
        assert_guarded(replica, name);
        assert_swept(replica, name);
    }
}

#[test]
fn a_migrated_key_stays_invalidated() {
    let (a, b) = crate::cluster::cluster_of_two();
    for node in [&a, &b] {
        node.ok("CONFIG SET smartcache.sweep-effort 0");
        // The other node receives the invalidations too: without this the arriving entries would count as newer.
        node.ok("CONFIG SET smartcache.skew 1ms");
    }
    let longer_than_the_skew = std::time::Duration::from_millis(20);
    for (round, (key, how)) in [("dead", ""), ("stale", "SOFT"), ("ramp", "SOFT OVER 1ms")].into_iter().enumerate() {
        wait_until("the other node has received them", || b.stat("bus_received") == 4 * round as i64);
        std::thread::sleep(longer_than_the_skew);
        for (n, what) in ["TAGS 1 t", "PREFIXES 1 {x}", "PATTERNS 1 {x}*", "ALL"].iter().enumerate() {
            let key = format!("{{x}}{key}{n}");
            a.ok(&format!("SMARTCACHE.SET {key} v TTL 9000 SWR 9000 TAGS 1 t"));
            a.ok(&format!("SMARTCACHE.INVALIDATE {what} {how}"));
        }
    }
    wait_until("the other node has received them", || b.stat("bus_received") == 12);
    std::thread::sleep(longer_than_the_skew);
    a.ok("SMARTCACHE.SET {x}fresh v TTL 9000 TAGS 1 t");
    let slot = a.ok("CLUSTER KEYSLOT {x}").int();
    let (of_a, of_b) = (a.ok("CLUSTER MYID").text(), b.ok("CLUSTER MYID").text());
    b.ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {of_a}"));
    a.ok(&format!("CLUSTER SETSLOT {slot} MIGRATING {of_b}"));
    let keys = a.ok(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).texts();
    assert_eq!(keys.len(), 13);
    for key in &keys {
        let port = b.port().to_string();
        a.call_args(args!["MIGRATE", "127.0.0.1", port, key, "0", "10000"]);
    }
    for node in [&b, &a] {
        node.ok(&format!("CLUSTER SETSLOT {slot} NODE {of_b}"));
    }
    for key in keys {
        let expected =
            match &*key {
                "{x}fresh" => "fresh",
                // Killed by a later invalidation.
                key if key.contains("dead") || key.contains("stale") || key.contains("ramp") => {
                    if key.contains("dead") { "dead" } else { "stale" }
                }
                _ => panic!("{key}"),
            };
        let state = b.state(&key);
        // Dead entries need not arrive.
        assert!(state == expected || (expected == "dead" && state == "nothing"), "{key} is {state}, not {expected}");
    }
}

// ---- the wire ----

#[test]
fn every_form_is_answered_alike_in_both_protocols() {
    let s = Server::with(UNSWEPT);
    for resp3 in [false, true] {
        let mut conn = if resp3 { s.connect3() } else { s.connect() };
        for (line, count) in [
            ("TAGS 2 t u", 20),
            ("TAGS 1 t SOFT", 0),
            ("PREFIXES 2 k: nothing", 0),
            ("PATTERNS 1 k:* SOFT OVER 5 GUARD 50ms", 0),
            ("ALL SOFT", 0),
            ("ALL", 0),
            ("all soft guard 0 over 250ms", 0),
        ] {
            if count > 0 {
                store_many(&mut conn, "k:", 10, "TAGS 2 t u");
            }
            assert_eq!(conn.call(&format!("SMARTCACHE.INVALIDATE {line}")), Reply::Int(count), "{line}");
        }
        for line in ["MULTI", "SMARTCACHE.INVALIDATE PREFIXES 1 k: WAIT 60", "SMARTCACHE.INVALIDATE ALL WAIT 60"] {
            assert!(!conn.call(line).is_error());
        }
        assert_eq!(conn.call("EXEC"), Reply::Array(vec![Reply::Int(0), Reply::Int(0)]), "WAIT does not block in MULTI");
    }
    let lua = "return redis.call('SMARTCACHE.INVALIDATE', 'PATTERNS', '1', 'k:*', 'WAIT', '60')";
    assert_eq!(s.call_args(args!["EVAL", lua, "0"]).int(), 0, "WAIT does not block in a script");
    s.assert_quiet();
}

// ---- waiting for the sweep ----

#[test]
fn wait_returns_what_the_sweep_has_found() {
    let s = Server::start();
    let mut conn = s.connect();
    for (what, rest) in
        [("PREFIXES 1 a:", "SWR 100"), ("PATTERNS 1 a:*", "SWR 100"), ("TAGS 1 t", "TAGS 1 t"), ("ALL", "")]
    {
        for how in ["", "SOFT"] {
            s.ok("FLUSHALL");
            store_many(&mut conn, "a:", 3_000, rest);
            store_many(&mut conn, "b:", 1_000, "");
            let all = if what == "ALL" { 4_000 } else { 3_000 };
            assert_eq!(s.ok(&format!("SMARTCACHE.INVALIDATE {what} {how} WAIT 60")).int(), all, "{what} {how}");
            if how.is_empty() {
                assert_eq!(s.call("DBSIZE").int(), 4_000 - all, "{what}: all of it is swept by then");
            }
        }
    }
    s.assert_quiet();
}

/// A server whose sweep is disabled, and a caller that waits for it.
fn waiting(line: &str) -> (Server, Conn, i64) {
    let s = Server::with(UNSWEPT);
    let mut conn = s.connect();
    let id = conn.id();
    store_many(&mut conn, "k:", 2_000, "TAGS 1 t");
    send(&mut conn, line);
    wait_until("the caller waits", || s.info("blocked_clients") == "1");
    (s, conn, id)
}

#[test]
fn a_waiting_caller_can_be_unblocked_or_disconnect_and_the_sweep_continues() {
    for what in ["PREFIXES 1 k:", "TAGS 1 t", "ALL"] {
        let line = format!("SMARTCACHE.INVALIDATE {what} WAIT 60");
        let known = if what.starts_with("PREFIXES") { 0 } else { 2_000 };
        let (s, mut conn, id) = waiting(&line);
        assert_eq!(s.ok(&format!("CLIENT UNBLOCK {id}")).int(), 1);
        assert_eq!(conn.receive().expect("an answer").int(), known, "{what}: like a time-out");
        assert_eq!(conn.call("PING").text(), "PONG", "exactly one answer");

        send(&mut conn, &line);
        wait_until("it waits again", || s.info("blocked_clients") == "1");
        assert_eq!(s.ok(&format!("CLIENT UNBLOCK {id} ERROR")).int(), 1);
        assert!(conn.receive().expect("an answer").error().starts_with("UNBLOCKED"));

        let mut other = s.connect();
        send(&mut other, &line);
        wait_until("another waits", || s.info("blocked_clients") == "1");
        drop(other);
        wait_until("it is dropped", || s.info("blocked_clients") == "0");
        sweep(&s);
        wait_until("all is swept", || s.call("DBSIZE").int() == 0);
        s.assert_quiet();
    }
}

#[test]
fn a_previewing_caller_can_disconnect_or_be_unblocked() {
    let s = Server::with(UNSWEPT);
    let mut conn = s.connect();
    store_many(&mut conn, "k:", 50_000, "");
    for round in 0..10 {
        let mut caller = s.connect();
        let id = caller.id();
        send(&mut caller, "SMARTCACHE.PREVIEW PATTERNS 1 *9*");
        match round % 3 {
            0 => drop(caller),
            1 => {
                s.ok(&format!("CLIENT UNBLOCK {id}"));
                let answer = caller.receive().expect("an answer");
                assert!(answer.field("entries").int() <= 50_000);
                assert_eq!(caller.call("PING").text(), "PONG");
            }
            _ => drop(s.ok(&format!("CLIENT KILL ID {id}"))),
        }
    }
    wait_until("nobody waits", || s.info("blocked_clients") == "0");
    assert_eq!(s.call("DBSIZE").int(), 50_000, "nothing was freed");
    assert_eq!(s.call("SMARTCACHE.PREVIEW ALL").field("entries").int(), 50_000);
}

// ---- the sweep ----

/// Waits until some of the keys are swept but not all; false when all are.
fn in_the_middle(conn: &mut Conn, of: i64) -> bool {
    loop {
        match conn.call("DBSIZE").int() {
            0 => return false,
            left if left < of => return true,
            _ => {}
        }
    }
}

#[test]
fn the_sweep_deletes_twenty_thousand_keys_like_a_client() {
    let primary = Server::setup().tcp().conf(UNSWEPT).conf("notify-keyspace-events Kg").start();
    let replica = Server::replica_of(&primary, "");
    let mut conn = primary.connect();
    for (what, rest) in [("TAGS 1 t", "TAGS 1 t"), ("PREFIXES 1 k", ""), ("PATTERNS 1 k:*", ""), ("ALL", "")] {
        store_many(&mut conn, "k:", 20_000, rest);
        let mut tracker = primary.connect3();
        tracker.call("CLIENT TRACKING ON");
        for n in 0..3 {
            tracker.call(&format!("SMARTCACHE.GET k:{n}"));
        }
        let mut listener = primary.connect();
        listener.call("SUBSCRIBE __keyspace@0__:k:77");
        primary.ok(&format!("SMARTCACHE.INVALIDATE {what}"));
        assert!(replica.call("SMARTCACHE.GET nothing").is_nil());
        sweep(&primary);
        wait_until("all is swept", || primary.call("DBSIZE").int() == 0);
        wait_until("there, too", || replica.call("DBSIZE").int() == 0);
        let event = listener.message();
        assert_eq!(event.array()[2].text(), "del", "{what}");
        let mut notified: Vec<String> = Vec::new();
        for push in tracker.pushes() {
            notified.extend(push.array()[1].texts());
        }
        notified.sort();
        assert_eq!(notified, ["k:0", "k:1", "k:2"], "{what}");
        wait_until("the sweep has ended", || primary.stat("sweep_backlog") == 0);
        primary.ok("CONFIG SET smartcache.sweep-effort 0");
        assert_eq!(primary.stat("entries"), 0);
        in_step(&primary, &replica);
        assert_eq!(replica.stat("entries"), 0);
    }
    assert_eq!(primary.info("cmdstat_unlink"), "", "no client sent UNLINK");
    assert_ne!(replica.info("cmdstat_unlink"), "");
}

#[test]
fn while_writes_are_paused_nothing_is_deleted() {
    let primary = Server::setup().tcp().conf(UNSWEPT).start();
    let _replica = Server::replica_of(&primary, "");
    let mut conn = primary.connect();
    for what in ["TAGS 1 t", "PREFIXES 1 k"] {
        primary.ok("CONFIG SET smartcache.sweep-effort 0");
        store_many(&mut conn, "k:", 20_000, "TAGS 1 t");
        primary.ok(&format!("SMARTCACHE.INVALIDATE {what}"));
        primary.ok("CONFIG SET smartcache.sweep-effort 1%");
        in_the_middle(&mut conn, 20_000);
        primary.ok("CLIENT PAUSE 100000 WRITE");
        let left = primary.call("DBSIZE").int();
        primary.ok("CONFIG SET smartcache.sweep-effort 100%");
        // Other commands are served meanwhile, and a preview, which walks like the sweep, continues.
        assert_eq!(primary.call("SMARTCACHE.PREVIEW ALL").field("entries").int(), 0);
        assert_eq!(primary.call("DBSIZE").int(), left, "{what}");
        primary.ok("CLIENT UNPAUSE");
        wait_until("all is swept", || primary.call("DBSIZE").int() == 0);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_sweep_does_not_end_it() {
    for conf in ["appendonly yes\nappendfsync always", "appendonly yes\nappendfsync always\naof-use-rdb-preamble no"] {
        let mut s = Server::with(&format!("{conf}\nsmartcache.sweep-effort 1%"));
        let mut conn = s.connect();
        store_many(&mut conn, "go:", 20_000, "TAGS 1 t");
        store_many(&mut conn, "stay:", 100, "TAGS 1 u");
        for what in ["TAGS 1 t", "PREFIXES 1 go:"] {
            s.ok(&format!("SMARTCACHE.INVALIDATE {what}"));
            in_the_middle(&mut s.connect(), 20_100);
            if conf.contains("no") {
                s.ok("BGREWRITEAOF");
            }
            s.restart();
            assert!(s.call("SMARTCACHE.GET go:19999").is_nil());
            wait_until("all is swept", || s.call("DBSIZE").int() == 100);
            let mut conn = s.connect();
            store_many(&mut conn, "go:", 20_000, "TAGS 1 t");
        }
    }
}

#[test]
fn databases_swapped_in_the_middle_of_a_sweep_are_swept_to_the_end() {
    let s = Server::with(UNSWEPT);
    let (mut zero, mut one) = (s.connect(), at(&s, 1));
    for what in ["TAGS 1 t", "PREFIXES 1 go:", "ALL"] {
        s.ok("FLUSHALL");
        store_many(&mut zero, "go:", 20_000, "TAGS 1 t");
        store_many(&mut one, "go:", 300, "TAGS 1 t");
        zero.call(&format!("SMARTCACHE.INVALIDATE {what}"));
        s.ok("CONFIG SET smartcache.sweep-effort 1%");
        in_the_middle(&mut zero, 20_000);
        zero.call("SWAPDB 0 1");
        assert!(one.call("SMARTCACHE.GET go:19999").is_nil(), "{what}");
        assert_eq!(zero.call("SMARTCACHE.GET go:299").text(), "value", "{what}");
        sweep(&s);
        wait_until("all is swept where it is now", || one.call("DBSIZE").int() == 0);
        assert_eq!(zero.call("DBSIZE").int(), 300, "{what}");
        wait_until("the sweep has ended", || s.stat("sweep_backlog") == 0);
        s.ok("CONFIG SET smartcache.sweep-effort 0");
    }
}

#[test]
fn a_flush_in_the_middle_of_a_sweep_ends_it() {
    let s = Server::with(UNSWEPT);
    let mut conn = s.connect();
    for (flush, what) in [("FLUSHALL ASYNC", "TAGS 1 t"), ("FLUSHDB ASYNC", "PATTERNS 1 k*"), ("FLUSHALL SYNC", "ALL")]
    {
        store_many(&mut conn, "k:", 20_000, "TAGS 1 t");
        let mut waits = s.connect();
        send(&mut waits, "SMARTCACHE.PREVIEW ALL");
        s.ok(&format!("SMARTCACHE.INVALIDATE {what}"));
        s.ok("CONFIG SET smartcache.sweep-effort 1%");
        in_the_middle(&mut conn, 20_000);
        conn.call(flush);
        store_many(&mut conn, "k:", 500, "TAGS 1 t");
        assert!(!waits.receive().expect("an answer").is_error());
        sweep(&s);
        wait_until("the sweep has ended", || s.stat("sweep_backlog") == 0);
        assert_eq!(conn.call("DBSIZE").int(), 500, "{flush}: later entries stay");
        assert_eq!(conn.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 500, "{flush}");
        wait_until("all is swept", || s.call("DBSIZE").int() == 0);
        s.ok("CONFIG SET smartcache.sweep-effort 0");
    }
}

// ---- bounds ----

#[test]
fn adversarial_patterns_match_a_key_of_a_megabyte_in_bounded_time() {
    let s = Server::start();
    let key = "a".repeat(1_000_000);
    s.call_args(args!["SMARTCACHE.SET", key, "v"]);
    let began = std::time::Instant::now();
    for pattern in ["*a*a*a*a*a*a*a*a*b", "*a*a*a*a*a*a*a*ab*", "a?a*a?a*a?a*[b-z]", "*[^a]*[^a]*[^a]*"] {
        assert_eq!(s.call_args(args!["SMARTCACHE.INVALIDATE", "PATTERNS", "1", pattern]).int(), 0);
        assert_eq!(s.call_args(args!["SMARTCACHE.GET", key]).text(), "v", "{pattern} does not match");
    }
    // Bounded: thousands of reads finish; exponential or cubic time would not.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    s.call_args(args!["SMARTCACHE.INVALIDATE", "PATTERNS", "1", "*a*a*a*a*a*a*a*a*a"]);
    assert!(s.call_args(args!["SMARTCACHE.GET", key]).is_nil());
    wait_until("it is swept", || s.call("DBSIZE").int() == 0);
}

/// `SMARTCACHE_ONE_OFF_TAGS=10000000` sets their number.
#[test]
fn a_hundred_thousand_tags_used_once_leave_nothing_behind() {
    let many = std::env::var("SMARTCACHE_ONE_OFF_TAGS").map_or(100_000, |many| many.parse().expect("a number of tags"));
    let s = Server::start();
    let mut conn = s.connect();
    let used = || s.info("used_memory").parse::<u64>().expect("a number of bytes");
    let before = (s.stat("tags"), s.stat("index_bytes"), used());
    for from in (0..many / 2).step_by(1_000) {
        let mut all = Vec::new();
        for n in from..from + 1_000 {
            let (tag, other) = (format!("one-off:{n}"), format!("another:{n}"));
            all.extend(resp::encode(args!["SMARTCACHE.SET", "k", "v", "TAGS", "2", tag, other]));
        }
        conn.send_raw(&all).expect("it is sent");
        for _ in 0..1_000 {
            assert_eq!(conn.receive().expect("an answer").text(), "OK");
        }
    }
    s.ok("SMARTCACHE.DEL k");
    let mut left = s.stat("tags");
    while left > before.0 {
        wait_until("more of the tags are removed", || s.stat("tags") < left);
        left = s.stat("tags");
    }
    wait_until("and their memory is freed", || s.stat("index_bytes") <= before.1 + 10_000);
    drop(conn);
    wait_until("and the server's memory too", || used() <= before.2 + 1_000_000);
}
