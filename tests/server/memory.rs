//! Memory: eviction, out of memory, lazy freeing, active defragmentation.

use crate::support::{Server, args, assert_within, skip, wait_until};

/// Sets `maxmemory` to what is used now, plus some.
fn limit(s: &Server, headroom: u64) -> u64 {
    let limit = s.info_number("used_memory") + headroom;
    s.ok(&format!("CONFIG SET maxmemory {limit}"));
    limit
}

#[test]
fn entries_are_evicted_when_memory_is_full() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl", "volatile-lru"] {
        let s = Server::start();
        s.ok(&format!("CONFIG SET maxmemory-policy {policy}"));
        let limit = limit(&s, 3_000_000);
        let value = vec![b'v'; 10_000];
        for i in 0..1_000 {
            let reply = s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), value, "CODEC", "none"]);
            assert_eq!(reply.text(), "OK", "{policy}");
        }
        assert!(s.info_number("evicted_keys") > 500, "{policy}");
        assert!(s.info_number("used_memory") < limit + 1_000_000, "{policy}");
        s.ok("CONFIG SET maxmemory 0"); // so that the next command does not evict
        assert_eq!(s.stat("entries"), s.ok("DBSIZE").int(), "{policy}");
    }
}

#[test]
fn what_is_read_often_is_kept_by_lfu() {
    let s = Server::with("maxmemory-policy allkeys-lfu\nmaxmemory-samples 64\nlfu-log-factor 0");
    s.ok("SMARTCACHE.SET dear v");
    for _ in 0..100 {
        s.ok("SMARTCACHE.GET dear");
    }
    limit(&s, 1_000_000);
    let value = vec![b'v'; 10_000];
    for i in 0..500 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), value, "CODEC", "none"]);
    }
    assert!(s.info_number("evicted_keys") > 300);
    assert_eq!(s.call("SMARTCACHE.GET dear").text(), "v");
}

#[test]
fn without_eviction_a_store_answers_oom_and_the_old_entry_is_intact() {
    let s = Server::with("maxmemory-policy noeviction");
    s.ok("SMARTCACHE.SET k v EX 1000 SWR 1000 TAGS 1 t");
    let (digest, portrait) = (s.digest(), s.portrait("k"));
    s.ok("CONFIG SET maxmemory 1");
    for line in
        ["SET k other", "SET new v", "MSET 2 k a new b", "ABSENT k", "SET k v PXAT 1", "ABSENT new TTL 5 TAGS 1 t"]
    {
        let reply = s.call(&format!("SMARTCACHE.{line}"));
        assert!(reply.is_error() && reply.error().starts_with("OOM"), "{line}\n{reply}");
    }
    assert_eq!((s.digest(), s.portrait("k")), (digest, portrait));
    // Reads and deletes still work.
    s.play(
        r#"
        > SMARTCACHE.GET k
        "v"
        > SMARTCACHE.MGET k new
        1) "v"
        2) (nil)
        > SMARTCACHE.STALE k
        (integer) 1
        > SMARTCACHE.DEL k
        (integer) 1
        "#,
    );
    s.ok("CONFIG SET maxmemory 0");
    s.ok("SMARTCACHE.SET k back");
}

#[test]
fn a_flush_in_the_background_frees_all_memory() {
    let s = Server::start();
    let fill = || {
        for i in 0..2_000 {
            let value = format!("{i} ").repeat(200);
            s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), value, "TAGS", "1", format!("t{}", i % 10)]);
        }
    };
    fill();
    s.ok("FLUSHALL ASYNC");
    wait_until("all is freed", || s.stat("entries") == 0);
    let before = s.info_number("used_memory");
    fill();
    s.ok("FLUSHALL ASYNC");
    wait_until("all is freed", || s.stat("entries") == 0);
    wait_until("memory is freed", || s.info_number("used_memory") < before + 500_000);
}

#[test]
fn lazy_freeing_of_every_kind_is_safe() {
    let s = Server::with(
        "lazyfree-lazy-expire yes\nlazyfree-lazy-server-del yes\nlazyfree-lazy-user-del yes\nlazyfree-lazy-eviction yes",
    );
    let value = vec![b'v'; 200_000];
    for i in 0..50 {
        for codec in ["none", "zstd"] {
            s.call_args(args!["SMARTCACHE.SET", format!("{codec}{i}"), value, "CODEC", codec, "PX", "100"]);
        }
        s.ok(&format!("SMARTCACHE.SET none{i} short"));
        s.ok(&format!("DEL none{i}"));
    }
    wait_until("the others expire", || s.ok("DBSIZE").int() == 0);
    wait_until("all is freed", || s.stat("entries") == 0 && s.stat("stored_bytes") == 0);
}

#[test]
fn overwriting_one_key_leaks_nothing() {
    let s = Server::start();
    let churn = || {
        for i in 0..3_000_usize {
            let value = format!("{i} ").repeat(1 + i % 300);
            s.call_args(args!["SMARTCACHE.SET", "k", value, "TAGS", "2", "a", "b"]);
            s.ok("SMARTCACHE.GET k");
        }
        s.ok("SMARTCACHE.DEL k");
        s.info_number("used_memory")
    };
    churn();
    let before = churn();
    let after = churn();
    assert!(after < before + 100_000, "used_memory grew from {before} to {after}");
}

#[test]
fn active_defragmentation_moves_entries_and_keeps_them_whole() {
    let s = Server::start();
    let refused = s.call("CONFIG SET activedefrag yes");
    if refused.is_error() {
        skip!(s, "it was built without active defragmentation: {refused}");
    }
    s.ok("CONFIG SET activedefrag no");
    let value = |i: usize| format!("{i} ").repeat(20 + i % 60);
    for i in 0..40_000 {
        s.call_args(args![
            "SMARTCACHE.SET",
            format!("k{i}"),
            value(i),
            "CODEC",
            "none",
            "EX",
            "100000",
            "TAGS",
            "1",
            format!("t{}", i % 7)
        ]);
    }
    for i in (0..40_000).filter(|i| i % 4 != 0) {
        s.ok(&format!("DEL k{i}"));
    }
    let digest = s.digest();
    s.ok("CONFIG SET active-defrag-ignore-bytes 1 active-defrag-threshold-lower 1 active-defrag-threshold-upper 2");
    s.ok("CONFIG SET active-defrag-cycle-min 60 active-defrag-cycle-max 90 activedefrag yes");
    wait_until("something was moved", || s.info_number("active_defrag_hits") > 1_000);
    for i in (0..40_000).step_by(4) {
        assert_eq!(s.call(&format!("SMARTCACHE.GET k{i}")).text(), value(i));
    }
    assert_eq!(s.digest(), digest);
}

#[test]
fn memory_reports_are_about_right() {
    let s = Server::start();
    let before = s.info_number("used_memory");
    for i in 0..1_000 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), vec![b'v'; 5_000], "CODEC", "none"]);
    }
    let used = s.info_number("used_memory") - before;
    assert_within!(used, 5_000_000..=7_000_000);
    let reported: i64 = (0..1_000).map(|i| s.ok(&format!("MEMORY USAGE k{i}")).int()).sum();
    assert_within!(reported as u64, used * 8 / 10..=used * 12 / 10);
}

#[test]
fn when_out_of_memory_leases_work_and_waiters_get_the_value() {
    let s = Server::with("maxmemory-policy noeviction\nsmartcache.max-waiters 100");
    s.ok("SMARTCACHE.SET there v");
    let value = "a value that shrinks ".repeat(30);
    for store in ["SET", "ABSENT"] {
        s.ok("CONFIG SET maxmemory 1");
        assert_eq!(s.getlock("there").brief(), "HIT v");
        let first = s.getlock("k LOCK 100");
        assert_eq!(first.brief(), "MISS +");
        let mut conns = s.park(5, |i| format!("k WAIT 60{}", if i == 4 { " ACCEPT gzip" } else { "" }));
        let reply = match store {
            "SET" => s.call_args(args!["SMARTCACHE.SET", "k", value, "TOKEN", first.token()]),
            _ => s.call_args(args!["SMARTCACHE.ABSENT", "k", "TOKEN", first.token()]),
        };
        let expected = if store == "SET" { format!("HIT {value}") } else { "ABSENT".to_owned() };
        assert!(reply.is_error() && reply.error().starts_with("OOM"), "{reply}");
        for (i, conn) in conns.iter_mut().enumerate() {
            let mut got = conn.got();
            if i == 4 && !got.value.is_nil() {
                assert_eq!(got.value.array()[0].text(), "identity");
                got.value = got.value.array()[1].clone();
            }
            assert_eq!((got.brief(), got.fresh_ms), (expected.clone(), 0), "waiter {i}");
        }
        assert_eq!(s.call("EXISTS k").int(), 0);
        // The lease has ended: the next caller loads.
        let next = s.getlock("k");
        assert_eq!(next.brief(), "MISS +");
        s.ok("CONFIG SET maxmemory 0");
        assert_eq!(s.fill("k", "v", next.token()), "OK");
        s.ok("SMARTCACHE.DEL k");
        s.assert_quiet();
    }
    assert_eq!(s.stat("fills_failed"), 2);
}

#[test]
fn waiters_do_not_cause_evictions() {
    let s = Server::with("maxmemory-policy allkeys-lru\nmaxclients 5000");
    // Allocates the tables for leases before memory is measured.
    let token = s.getlock("k LOCK 100").token().to_owned();
    s.ok("SMARTCACHE.DEL k");
    assert_eq!(s.fill("k", "v", &token), "STALE");
    for i in 0..2_000 {
        s.call_args(args!["SMARTCACHE.SET", format!("k{i}"), vec![b'v'; 10_000], "CODEC", "none"]);
    }
    let mut conns: Vec<_> = (0..200).map(|_| s.connect()).collect();
    for conn in &mut conns {
        conn.call("PING");
    }
    let limit = limit(&s, 4_000_000);
    let token = s.getlock("k LOCK 100").token().to_owned();
    for conn in &mut conns {
        conn.send_getlock("k WAIT 60");
    }
    wait_until("all have asked", || s.stat("waiters") + s.stat("busy") == 200);
    assert_within!(s.stat("waiters"), 10..=limit as i64 / 20 / 36 / 1024);
    assert_eq!((s.info_number("evicted_keys"), s.ok("DBSIZE").int()), (0, 2_000));
    assert_eq!(s.fill("k", "v", &token), "OK");
    for conn in &mut conns {
        assert!(["BUSY", "HIT v"].contains(&conn.got().brief().as_str()));
    }
    assert_eq!((s.info_number("evicted_keys"), s.ok("DBSIZE").int()), (0, 2_001));
    s.assert_quiet();
}

#[test]
fn waiting_leaks_nothing_however_it_ends() {
    let s = Server::with("smartcache.max-waiters 1000");
    let mut used = Vec::new();
    for cycle in 0..260 {
        let token = s.getlock("k LOCK 100").token().to_owned();
        let mut conns = s.park(8, |_| "k WAIT 60".to_owned());
        // Some waits are short and may have ended by the time that a few callers leave.
        for _ in 0..4 {
            let mut conn = s.connect();
            conn.send_getlock("k WAIT 5ms");
            conns.push(conn);
        }
        drop(conns.drain(6..10));
        match cycle % 3 {
            0 => assert_eq!(s.fill("k", &"a value ".repeat(2_000), &token), "OK"),
            1 => assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "10"]).int(), 1),
            _ => {
                s.ok("FLUSHALL");
                s.ok("SMARTCACHE.SET k v");
            }
        }
        for conn in &mut conns {
            conn.got();
        }
        drop(conns);
        s.ok("SMARTCACHE.DEL k");
        s.ok("FLUSHALL");
        wait_until("the connections are closed", || s.info("connected_clients") == "1");
        s.assert_quiet();
        if cycle == 9 || cycle == 259 {
            used.push(s.info_number("used_memory"));
        }
    }
    // 3,000 callers have waited in between. (The server keeps some 36 KB for each of a dozen concurrent ones.)
    assert!(used[1] < used[0] + 600_000, "used_memory grew from {} to {}", used[0], used[1]);
}
