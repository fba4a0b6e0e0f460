//! `SMARTCACHE.INVALIDATE TAGS n tag … | ALL [SOFT] [GUARD d]`

use crate::support::{Server, wait_until};

/// A server without a sweep, so that dead entries can be inspected.
fn unswept() -> Server {
    let s = Server::start();
    s.ok("CONFIG SET smartcache.sweep-effort 0");
    s
}

#[test]
fn tagged_entries_are_not_served_from_then_on() {
    let s = unswept();
    s.play(
        r#"
        > SMARTCACHE.SET a 1 TAGS 2 t u SWR 100
        OK
        > SMARTCACHE.SET b 1 TAGS 1 u
        OK
        > SMARTCACHE.INVALIDATE TAGS 1 t
        (integer) 1
        > SMARTCACHE.MGET a b
        1) (nil)
        2) "1"
        > SMARTCACHE.GET a STALE
        (nil)
        > SMARTCACHE.INVALIDATE TAGS 1 t
        (integer) 0
        > SMARTCACHE.INVALIDATE ALL
        (integer) 1
        > SMARTCACHE.MGET a b
        1) (nil)
        2) (nil)
        "#,
    );
    assert_eq!((s.state("a"), s.state("b")), ("dead".into(), "dead".into()));
}

#[test]
fn soft_leaves_the_windows() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v SWR 100 TAGS 1 t");
    assert_eq!(s.call("SMARTCACHE.INVALIDATE TAGS 1 t SOFT").int(), 1);
    assert!(s.call("SMARTCACHE.GET k").is_nil());
    assert_eq!(s.call("SMARTCACHE.GET k STALE").text(), "v");
    assert_eq!(s.getlock("k").brief(), "STALE v +");
}

#[test]
fn a_load_begun_before_is_stale_and_one_begun_later_is_not() {
    let s = Server::start();
    let lease = s.getlock("k");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    assert_eq!(s.call(&format!("SMARTCACHE.SET k v TOKEN {} TAGS 1 t", lease.token())).text(), "STALE");
    let lease = s.getlock("k");
    assert_eq!(s.call(&format!("SMARTCACHE.SET k v TOKEN {} TAGS 1 t", lease.token())).text(), "OK");
    let lease = s.getlock("other");
    s.ok("SMARTCACHE.INVALIDATE ALL");
    assert_eq!(s.fill("other", "v", lease.token()), "STALE");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t GUARD 100");
    let lease = s.getlock("k");
    assert_eq!(s.call(&format!("SMARTCACHE.SET k v TOKEN {} TAGS 1 t", lease.token())).text(), "STALE");
}

#[test]
fn the_sweep_gives_the_memory_back_and_leaves_the_rest() {
    let s = Server::start();
    let pad = "x".repeat(500);
    for n in 0..3_000 {
        let tag = if n % 3 == 0 { "keep" } else { "go" };
        s.ok(&format!("SMARTCACHE.SET k{n} {pad}{n} CODEC none TAGS 1 {tag}"));
    }
    let before = s.info_number("used_memory");
    assert_eq!(s.call("SMARTCACHE.INVALIDATE TAGS 1 go").int(), 2_000);
    wait_until("the keys are gone", || s.call("DBSIZE").int() == 1_000);
    assert!(s.info_number("used_memory") + 1_000_000 < before);
    wait_until("the sweep has ended", || s.stat("sweep_backlog") == 0);
    assert_eq!((s.stat("invalidations"), s.stat("entries_invalidated")), (1, 2_000));
    assert_eq!((s.stat("entries_reclaimed"), s.stat("entries")), (2_000, 1_000));
    assert!(!s.call("SMARTCACHE.GET k0").is_nil());
}

#[test]
fn the_sweep_frees_nothing_that_was_stored_meanwhile() {
    let s = unswept();
    for n in 0..500 {
        s.ok(&format!("SMARTCACHE.SET k{n} old TAGS 1 t"));
    }
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    for n in 0..250 {
        s.ok(&format!("SMARTCACHE.SET k{n} new TAGS 1 t"));
    }
    s.ok("CONFIG SET smartcache.sweep-effort 100%");
    wait_until("the old ones are gone", || s.call("DBSIZE").int() == 250);
    assert_eq!(s.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 250);
}

#[test]
fn each_database_is_invalidated_by_itself() {
    let s = Server::start();
    let (mut zero, mut one) = (s.connect(), s.connect());
    one.call("SELECT 1");
    for conn in [&mut zero, &mut one] {
        conn.call("SMARTCACHE.SET k v TAGS 1 t");
    }
    assert_eq!(zero.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 1);
    assert!(zero.call("SMARTCACHE.GET k").is_nil());
    assert_eq!(one.call("SMARTCACHE.GET k").text(), "v");
    zero.call("SWAPDB 0 1");
    assert_eq!(zero.call("SMARTCACHE.GET k").text(), "v", "marks move with their database");
    assert!(one.call("SMARTCACHE.GET k").is_nil());
    wait_until("the dead entry is swept where it is now", || one.call("DBSIZE").int() == 0);
    assert_eq!(zero.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 1);
}

#[test]
fn a_moved_entry_stays_invalidated() {
    let s = unswept();
    let dead = |s: &Server, key: &str| {
        s.ok(&format!("SMARTCACHE.SET {key} v TAGS 1 t"));
        s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    };
    let mut one = s.connect();
    one.call("SELECT 1");
    dead(&s, "moved");
    s.ok("MOVE moved 1");
    dead(&s, "copied");
    s.ok("COPY copied copied DB 1");
    dead(&s, "restored");
    let mut dump = s.call_args(&[b"DUMP", b"restored"]).bytes().to_vec();
    one.call_args(&[b"RESTORE", b"restored", b"0", &std::mem::take(&mut dump)]);
    dead(&s, "renamed");
    s.ok("RENAME renamed again");
    assert!(s.call("SMARTCACHE.GET again").is_nil());
    for key in ["moved", "copied", "restored"] {
        assert!(one.call(&format!("SMARTCACHE.GET {key}")).is_nil(), "{key} is served again");
    }
}

#[test]
fn a_moved_entry_is_counted_where_it_is() {
    let s = unswept();
    let mut one = s.connect();
    one.call("SELECT 1");
    s.ok("SMARTCACHE.MSET 4 a v b v c v d v TAGS 1 t");
    s.ok("RENAME a e");
    s.ok("MOVE b 1");
    s.ok("COPY c b");
    s.ok("DEL d");
    assert_eq!(
        s.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(),
        2,
        "c and the copy: the server does not notify where e and b went"
    );
    assert!(s.call("SMARTCACHE.GET e").is_nil(), "it is hit all the same");
    assert_eq!(one.call("SMARTCACHE.INVALIDATE ALL").int(), 0);
    assert!(one.call("SMARTCACHE.GET b").is_nil(), "it is hit all the same");
    s.ok("SMARTCACHE.MSET 2 a v b v TAGS 1 t");
    s.ok("FLUSHALL");
    s.ok("SMARTCACHE.SET a v TAGS 1 t");
    assert_eq!(s.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 1);
}

#[test]
fn trackers_are_notified_of_the_tag_at_once_and_of_each_swept_key() {
    let s = unswept();
    let (mut tags, mut keys) = (s.connect3(), s.connect3());
    tags.call("CLIENT TRACKING ON BCAST PREFIX smartcache:tag:");
    keys.call("CLIENT TRACKING ON");
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    keys.call("SMARTCACHE.GET k");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    let message = tags.message();
    assert_eq!(message.array()[1].texts(), ["smartcache:tag:t"]);
    s.ok("CONFIG SET smartcache.sweep-effort 5%");
    let message = keys.message();
    assert_eq!(message.array()[1].texts(), ["k"]);
}

#[test]
fn it_works_in_transactions_and_scripts() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    s.play(
        r#"
        > MULTI
        OK
        > SMARTCACHE.INVALIDATE TAGS 1 t
        QUEUED
        > SMARTCACHE.SET k w TAGS 1 t
        QUEUED
        > EXEC
        1) (integer) 1
        2) OK
        > SMARTCACHE.GET k
        "w"
        "#,
    );
    let script = "return redis.call('SMARTCACHE.INVALIDATE', 'ALL')";
    assert_eq!(s.call_args(&[b"EVAL", script.as_bytes(), b"0"]).int(), 1);
}

#[test]
fn a_pause_does_not_crash_the_server_and_the_sweep_continues_afterwards() {
    let primary = Server::setup().tcp().start();
    let replica = Server::replica_of(&primary, "");
    wait_until("the replica is up", || replica.info("master_link_status") == "up");
    primary.ok("CONFIG SET smartcache.sweep-effort 0");
    for n in 0..200 {
        primary.ok(&format!("SMARTCACHE.SET k{n} v TAGS 1 t"));
    }
    primary.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    primary.ok("CLIENT PAUSE 300 WRITE");
    primary.ok("CONFIG SET smartcache.sweep-effort 100%");
    wait_until("all is swept", || primary.call("DBSIZE").int() == 0);
    wait_until("the replica too", || replica.call("DBSIZE").int() == 0);
}

#[test]
fn with_sweep_effort_0_nothing_is_freed_even_with_wait() {
    let s = unswept();
    for n in 0..100 {
        s.ok(&format!("SMARTCACHE.SET k{n} v TAGS 1 t"));
    }
    assert_eq!(s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 k WAIT 300ms").int(), 0, "nothing was freed");
    assert_eq!(s.ok("SMARTCACHE.INVALIDATE TAGS 1 t WAIT 100ms").int(), 0);
    assert_eq!(s.ok("SMARTCACHE.PREVIEW ALL").field("entries").int(), 0, "PREVIEW frees nothing");
    assert_eq!(s.call("DBSIZE").int(), 100);
}

#[test]
fn what_a_ramp_ends_is_freed_also_after_a_restart_and_by_a_promoted_replica() {
    let fill = |s: &Server| {
        for what in ["TAGS 1 t", "PREFIXES 1 k", "ALL"] {
            for n in 0..20 {
                s.ok(&format!("SMARTCACHE.SET k{n} v PERSIST TAGS 1 t"));
            }
            s.ok(&format!("SMARTCACHE.INVALIDATE {what} SOFT OVER 2"));
        }
    };
    for (conf, save) in [("", "SAVE"), ("appendonly yes\nappendfsync always", "PING")] {
        let mut s = Server::with(conf);
        fill(&s);
        s.ok(save);
        s.restart();
        wait_until("what has ended is freed", || s.call("DBSIZE").int() == 0);
    }
    let primary = Server::setup().tcp().start();
    let replica = Server::replica_of(&primary, "");
    fill(&primary);
    wait_until("the replica is in step", || primary.info("master_repl_offset") == replica.info("slave_repl_offset"));
    drop(primary);
    replica.ok("REPLICAOF NO ONE");
    wait_until("what has ended is freed", || replica.call("DBSIZE").int() == 0);
}
