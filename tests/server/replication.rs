//! Replication of effects: a replica holds what its primary decided, and serves it.

use crate::aof::expire_late;
use crate::rdb::{assert_unchanged, fill, picture};
use crate::support::{Server, args, assert_within, wait_until};

/// Waits until the replica has applied all writes of the primary.
#[track_caller]
fn in_step(primary: &Server, replica: &Server) {
    wait_until("the replica is in step", || {
        replica.info("master_link_status") == "up"
            && primary.info("master_repl_offset") == replica.info("slave_repl_offset")
    });
}

fn pair(conf: &str) -> (Server, Server) {
    let primary = Server::setup().tcp().conf(conf).start();
    let replica = Server::replica_of(&primary, conf);
    (primary, replica)
}

/// `DUMP` contains every byte of an entry: stamp, times, windows, tags, stored bytes.
#[track_caller]
fn assert_same(primary: &Server, replica: &Server, keys: &[String]) {
    in_step(primary, replica);
    if keys.iter().any(|key| key == "large") {
        // Each node compresses it by itself.
        wait_until("the large one is compressed", || replica.inspect("large", "codec").text() == "zstd");
    }
    for key in keys {
        assert_eq!(primary.portrait(key), replica.portrait(key), "{key}");
        assert_eq!(
            primary.ok(&format!("PEXPIRETIME {key}")),
            replica.ok(&format!("PEXPIRETIME {key}")),
            "{key} expires at another time"
        );
        assert_eq!(primary.ok(&format!("DUMP {key}")), replica.ok(&format!("DUMP {key}")), "{key}");
    }
    assert_eq!(primary.digest(), replica.digest());
}

#[test]
fn a_new_replica_gets_everything() {
    let primary = Server::setup().tcp().start();
    let keys = fill(&primary);
    primary.ok("SMARTCACHE.RULE SET r MATCH r* TTL 100");
    let replica = Server::replica_of(&primary, "");
    assert_same(&primary, &replica, &keys);
    assert_eq!(primary.ok("SMARTCACHE.RULE LIST"), replica.ok("SMARTCACHE.RULE LIST"));
}

#[test]
fn a_disk_based_sync_transfers_everything() {
    let primary = Server::setup().tcp().conf("repl-diskless-sync no").start();
    let keys = fill(&primary);
    let replica = Server::replica_of(&primary, "repl-diskless-load disabled");
    assert_same(&primary, &replica, &keys);
}

#[test]
fn a_diskless_load_transfers_everything() {
    let primary = Server::setup().tcp().conf("repl-diskless-sync yes").start();
    let keys = fill(&primary);
    primary.ok("SMARTCACHE.RULE SET r MATCH r*");
    let replica = Server::setup().tcp().conf("repl-diskless-load swapdb").start();
    replica.ok("SMARTCACHE.SET old v");
    replica.ok("SMARTCACHE.RULE SET old MATCH *");
    replica.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.call("CONFIG GET port").field("port").text()));
    assert_same(&primary, &replica, &keys);
    assert_eq!(primary.ok("SMARTCACHE.RULE LIST"), replica.ok("SMARTCACHE.RULE LIST"));
    assert!(replica.call("SMARTCACHE.GET old").is_nil());
    let log = replica.log();
    assert!(log.contains("to parser") && log.contains("Swapping active DB"), "it loads disklessly:\n{log}");
}

#[test]
fn digests_are_equal_while_invalidations_stand() {
    let primary = Server::setup().tcp().conf("smartcache.sweep-effort 0").start();
    let ends = ["TAGS 1 t", "PREFIXES 1 k", "PATTERNS 1 k*", "ALL"];
    for soft in ["SOFT", "", "SOFT OVER 80000"] {
        for end in ends {
            primary.ok("FLUSHALL");
            primary.ok("SMARTCACHE.MSET 3 k 1 k:2 2 other 3 SWR 900 EX 9000 TAGS 1 t");
            primary.ok(&format!("SMARTCACHE.INVALIDATE {end} {soft}"));
            let replica = Server::replica_of(&primary, "");
            in_step(&primary, &replica);
            assert_eq!(primary.digest(), replica.digest(), "{end} {soft}");
            for key in ["k", "other"] {
                assert_eq!(primary.portrait(key), replica.portrait(key), "{end} {soft}");
            }
        }
    }
}

/// What clients see of a data set: entries, rules, marks, tags and counts.
fn seen(s: &Server) -> String {
    let mut seen = String::new();
    for key in ["k", "dead", "soft", "later", "other"] {
        seen += &format!("{key}: {}", s.portrait(key));
        seen += &s.ok(&format!("SMARTCACHE.GET {key} STALE")).to_string();
    }
    for line in ["SMARTCACHE.RULE LIST", "SMARTCACHE.RULE EXPLAIN k", "DBSIZE"] {
        seen += &s.ok(line).to_string();
    }
    for field in ["entries", "stored_bytes", "tag_members", "prefixes_invalidated"] {
        seen += &format!(" {field}: {}", s.stat(field));
    }
    seen
}

/// The replica serves its data set while another is loaded beside it, over a link that breaks off, and then another
/// that does not.
#[test]
fn the_old_data_set_is_served_until_the_new_one_takes_its_place() {
    let primary =
        Server::setup().tcp().conf("repl-diskless-sync yes\nrepl-backlog-size 16kb\nrdbcompression no").start();
    primary.ok("CONFIG SET smartcache.sweep-effort 0");
    let fill = |value: &str, size: usize| {
        primary.ok(&format!("SMARTCACHE.RULE SET {value} MATCH k* SWR 100"));
        primary.ok(&format!("SMARTCACHE.MSET 4 k {value} dead {value} soft {value} other {value} SWR 900 TAGS 1 t"));
        primary.ok("SMARTCACHE.INVALIDATE PREFIXES 1 de");
        primary.ok("SMARTCACHE.INVALIDATE PREFIXES 1 so SOFT");
        primary.ok(&format!("SMARTCACHE.SET later {value} TAGS 1 u"));
        let large = "x".repeat(size);
        for n in 0..1_000 {
            let key = format!("large:{n}");
            primary.call_args(args!["SMARTCACHE.SET", key, large, "CODEC", "none", "TAGS", "1", "u"]);
        }
    };
    fill("old", 10);
    let replica = Server::replica_of(&primary, "repl-diskless-load swapdb\nloading-process-events-interval-bytes 1024");
    in_step(&primary, &replica);
    let old = seen(&replica);

    // The replica misses so much that it needs the whole data set, which is of the same history.
    replica.ok("CONFIG SET key-load-delay 5000");
    replica.pause();
    primary.ok("CLIENT KILL TYPE replica");
    primary.ok("SMARTCACHE.RULE DEL old");
    fill("new", 30_000);
    replica.resume();
    let loads = |replica: &Server| replica.info("async_loading") == "1";
    for _ in 0..2 {
        wait_until("it loads", || loads(&replica));
        assert_eq!(seen(&replica), old);
        assert!(replica.call("SMARTCACHE.SET k v").is_error());
        primary.ok("CLIENT KILL TYPE replica");
        wait_until("the load has broken off", || replica.log().contains("Discarding temporary DB"));
        wait_until("what it had loaded is freed", || seen(&replica) == old);
    }
    wait_until("it loads", || loads(&replica));
    assert_eq!(seen(&replica), old);
    replica.ok("CONFIG SET key-load-delay 0");
    in_step(&primary, &replica);
    wait_until("the old data set is freed", || replica.stat("entries") == primary.stat("entries"));
    // (The entry that is dead when it is loaded is on no list of members.)
    let seen_but_counts = |s: &Server| seen(s).split(" entries: ").next().map(str::to_owned);
    assert_eq!(seen_but_counts(&replica), seen_but_counts(&primary));
    for tag in ["t", "u"] {
        let preview = format!("SMARTCACHE.PREVIEW TAGS 1 {tag}");
        assert_eq!(replica.ok(&preview).field("entries"), primary.ok(&preview).field("entries"));
    }
    primary.ok("SMARTCACHE.INVALIDATE TAGS 1 u");
    in_step(&primary, &replica);
    assert_eq!(seen_but_counts(&replica), seen_but_counts(&primary));
    assert!(replica.log().contains("Swapping active DB"));
}

#[test]
fn writes_arrive_as_they_were_decided() {
    let (primary, replica) = pair("smartcache.jitter 50%");
    primary.ok("SMARTCACHE.RULE SET r MATCH r:* JITTER 30% SWR 20 SIE 30 TAG t:{1} CODEC gzip");
    let value = "a value that shrinks ".repeat(50);
    let mut keys = Vec::new();
    for i in 0..20 {
        for key in [format!("k{i}"), format!("r:{i}")] {
            primary.call_args(args!["SMARTCACHE.SET", key, value, "TTL", "1000", "TAGS", "1", "own"]);
            keys.push(key);
        }
    }
    primary.ok("SMARTCACHE.MSET 2 m1 v m2 v");
    primary.ok("SMARTCACHE.ABSENT absent");
    primary.ok("SMARTCACHE.TOUCH k3 TTL 5000");
    primary.ok("SMARTCACHE.STALE r:4");
    primary.ok("SMARTCACHE.SET stale v SWR 100");
    primary.ok("SMARTCACHE.STALE stale");
    primary.ok("SMARTCACHE.DEL k5");
    primary.ok("SMARTCACHE.SET k6 v PXAT 1");
    primary.ok("EXPIRE k7 50");
    primary.ok("PERSIST k8");
    primary.ok("COPY k9 copied");
    primary.ok("RENAME k10 renamed");
    primary.ok("SELECT 4");
    primary.ok("SMARTCACHE.SET elsewhere v");
    primary.ok("SELECT 0");
    keys.extend(["m1", "m2", "absent", "stale", "copied", "renamed"].map(str::to_owned));
    assert_same(&primary, &replica, &keys);
    assert_eq!(replica.call("EXISTS k5 k6 k10").int(), 0);
}

#[test]
fn the_replicas_own_settings_and_rules_do_not_matter() {
    let primary = Server::setup().tcp().start();
    let replica = Server::replica_of(
        &primary,
        "smartcache.default-ttl 5\nsmartcache.max-ttl 9\nsmartcache.swr 77\nsmartcache.max-value 1kb\n\
         smartcache.codec none\nsmartcache.rules '[{\"name\":\"other\",\"match\":[\"*\"],\"scale\":9}]'",
    );
    primary.call_args(args!["SMARTCACHE.SET", "k", "a value that shrinks ".repeat(500)]);
    primary.ok("SMARTCACHE.ABSENT absent");
    in_step(&primary, &replica);
    for key in ["k", "absent"] {
        let dump = |s: &Server| (s.ok(&format!("DUMP {key}")), s.ok(&format!("PEXPIRETIME {key}")));
        assert_eq!(dump(&primary), dump(&replica));
    }
}

#[test]
fn a_large_value_that_is_compressed_later_reads_the_same_on_both() {
    let (primary, replica) = pair("");
    let value = "a value that shrinks ".repeat(20_000);
    primary.call_args(args!["SMARTCACHE.SET", "k", value]);
    wait_until("it is compressed", || primary.inspect("k", "codec").text() == "zstd");
    in_step(&primary, &replica);
    assert!(replica.call("SMARTCACHE.GET k").text() == value);
    assert_eq!(primary.digest(), replica.digest());
}

#[test]
fn a_replica_serves_reads_and_refuses_writes() {
    let (primary, replica) = pair("");
    primary.ok("SMARTCACHE.SET k v TTL 100 SWR 100");
    primary.ok("SMARTCACHE.SET stale v TTL 100 SWR 100");
    primary.ok("SMARTCACHE.STALE stale");
    in_step(&primary, &replica);
    replica.play(
        r#"
        > SMARTCACHE.GET k
        "v"
        > SMARTCACHE.GET stale
        (nil)
        > SMARTCACHE.GET stale STALE
        "v"
        > SMARTCACHE.MGET k nothing
        1) "v"
        2) (nil)
        > SMARTCACHE.MISSING k nothing
        1) "nothing"
        > SMARTCACHE.SET k w
        (error) READONLY …
        > SMARTCACHE.MSET 1 k w
        (error) READONLY …
        > SMARTCACHE.ABSENT k
        (error) READONLY …
        > SMARTCACHE.TOUCH k
        (error) READONLY …
        > SMARTCACHE.DEL k
        (error) READONLY …
        > SMARTCACHE.STALE k
        (error) READONLY …
        > SMARTCACHE.RULE SET r MATCH *
        (error) READONLY …
        > SMARTCACHE.RULE DEL r
        (error) READONLY …
        > SMARTCACHE.STORE k x
        (error) READONLY …
        > SMARTCACHE.GET k
        "v"
        "#,
    );
    // Reading on the replica counts there.
    assert_eq!(replica.stat("requests"), 6);
    assert_eq!(primary.stat("requests"), 0);
}

#[test]
fn what_expires_on_the_primary_is_not_served_by_the_replica() {
    let (primary, replica) = pair("");
    primary.ok("SMARTCACHE.SET k v PX 100");
    primary.ok("SMARTCACHE.SET stale v PX 100 SWR 1000");
    in_step(&primary, &replica);
    wait_until("it ends on the replica", || replica.call("SMARTCACHE.GET k STALE").is_nil());
    wait_until("it turns stale on the replica", || replica.call("SMARTCACHE.GET stale").is_nil());
    assert_eq!(replica.call("SMARTCACHE.GET stale STALE").text(), "v");
}

#[test]
fn a_promoted_replica_carries_on() {
    let (mut primary, replica) = pair("");
    let keys = fill(&primary);
    primary.ok("SMARTCACHE.RULE SET r MATCH r* SCALE 2");
    in_step(&primary, &replica);
    let before = picture(&primary, &keys);
    primary.kill();
    replica.ok("REPLICAOF NO ONE");
    assert_unchanged(&replica, &keys, &before);
    replica.ok("SMARTCACHE.SET r1 v TTL 100");
    assert_within!(replica.fresh_ms("r1"), 170_000..=200_000);
    for key in &keys {
        replica.ok(&format!("SMARTCACHE.SET {key} new"));
        assert_eq!(replica.call(&format!("SMARTCACHE.GET {key}")).text(), "new");
    }
    assert_eq!(replica.ok("SMARTCACHE.STALE plain empty").int(), 2);
}

#[test]
fn a_replica_of_a_replica_gets_the_same() {
    let (primary, middle) = pair("");
    let last = Server::replica_of(&middle, "");
    let keys = fill(&primary);
    in_step(&primary, &middle);
    assert_same(&middle, &last, &keys);
    assert_same(&primary, &last, &keys);
}

#[test]
fn keys_that_expire_in_the_far_future_stay_the_same() {
    let (primary, replica) = pair("propagation-error-behavior panic");
    let keys = expire_late(&primary);
    assert_same(&primary, &replica, &keys);
    assert_eq!(replica.state("STALE:0"), "stale");
}

#[test]
fn a_replica_writes_its_own_aof() {
    let primary = Server::setup().tcp().start();
    let mut replica = Server::replica_of(&primary, "appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    // After a sync the server writes a new base file in the background.
    wait_until("the AOF is complete", || {
        replica.info("aof_rewrite_in_progress") == "0" && replica.info("aof_rewrite_scheduled") == "0"
    });
    let keys = fill(&primary);
    assert_same(&primary, &replica, &keys);
    let before = picture(&replica, &keys);
    drop(primary);
    replica.restart();
    assert_unchanged(&replica, &keys, &before);
}

#[test]
fn transactions_and_scripts_arrive_whole() {
    let (primary, replica) = pair("");
    primary.ok("MULTI");
    primary.ok("SMARTCACHE.SET a v");
    primary.ok("SMARTCACHE.STALE a");
    primary.ok("SMARTCACHE.MSET 2 b v c v");
    primary.ok("EXEC");
    primary.ok("EVAL \"redis.call('SMARTCACHE.SET', KEYS[1], 'v') redis.call('SMARTCACHE.DEL', KEYS[2])\" 2 d c");
    assert_same(&primary, &replica, &["b".to_owned(), "d".to_owned()]);
    assert_eq!(replica.call("EXISTS c").int(), 0);
}

#[test]
fn eviction_and_flush_arrive() {
    let (primary, replica) = pair("");
    primary.ok("CONFIG SET maxmemory-policy allkeys-random");
    let limit = primary.info_number("used_memory") + 3_000_000;
    primary.ok(&format!("CONFIG SET maxmemory {limit}"));
    for i in 0..600 {
        primary.call_args(args!["SMARTCACHE.SET", format!("k{i}"), vec![b'v'; 10_000], "CODEC", "none"]);
    }
    in_step(&primary, &replica);
    assert!(primary.info_number("evicted_keys") > 0);
    assert_eq!(primary.digest(), replica.digest());
    primary.ok("CONFIG SET maxmemory 0");
    primary.ok("SMARTCACHE.RULE SET r MATCH *");
    primary.ok("FLUSHALL");
    in_step(&primary, &replica);
    assert_eq!(replica.ok("DBSIZE").int(), 0);
    assert_eq!(replica.ok("SMARTCACHE.RULE LIST").array().len(), 1);
}

#[test]
fn writing_during_a_pause_waits_and_then_arrives() {
    let (primary, replica) = pair("");
    primary.ok("SMARTCACHE.SET k v");
    let value = "a value that shrinks ".repeat(20_000);
    primary.call_args(args!["SMARTCACHE.SET", "large", value]); // it may be compressed during the pause
    primary.ok("CLIENT PAUSE 300 WRITE");
    let mut writer = primary.connect();
    writer.send(args!["SMARTCACHE.SET", "k", "w"]).expect("it is sent");
    assert_eq!(primary.call("SMARTCACHE.GET k").text(), "v"); // a read is served meanwhile
    assert_eq!(writer.receive().expect("the pause ends").text(), "OK");
    in_step(&primary, &replica);
    assert_eq!(replica.call("SMARTCACHE.GET k").text(), "w");
}

#[test]
fn wait_counts_our_writes() {
    let (primary, _replica) = pair("");
    primary.ok("SMARTCACHE.SET k v");
    assert_eq!(primary.ok("WAIT 1 20000").int(), 1);
}

#[test]
fn a_server_that_becomes_a_replica_drops_its_own_rules() {
    let primary = Server::setup().tcp().start();
    primary.ok("SMARTCACHE.SET k v");
    let replica = Server::setup().tcp().start();
    replica.ok("SMARTCACHE.RULE SET mine MATCH * TTL 5");
    replica.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.call("CONFIG GET port").field("port").text()));
    in_step(&primary, &replica);
    assert!(replica.ok("SMARTCACHE.RULE LIST").array().is_empty());
    assert_eq!(replica.call("SMARTCACHE.GET k").text(), "v");
}

/// A fresh value, an absence, and a value inside its windows.
fn three_states(primary: &Server) {
    primary.ok("SMARTCACHE.SET fresh v TTL 1000");
    primary.ok("SMARTCACHE.ABSENT absent TTL 1000");
    primary.ok("SMARTCACHE.SET stale v TTL 1000 SWR 1000");
    primary.ok("SMARTCACHE.STALE stale");
    primary.ok("SET plain v");
}

#[test]
fn a_replica_serves_what_needs_no_token_and_grants_none() {
    let (primary, replica) = pair("");
    three_states(&primary);
    let token = primary.getlock("loading LOCK 100").token().to_owned();
    in_step(&primary, &replica);
    for (key, brief) in [("fresh", "HIT v"), ("absent", "ABSENT"), ("plain", "HIT v")] {
        assert_eq!(replica.getlock(&format!("{key} WAIT 60 LOCK 5 BETA 1000")).brief(), brief, "{key}");
    }
    for key in ["stale", "nothing", "loading"] {
        for words in ["", "WAIT 60", "OWNER me"] {
            let reply = replica.call(&format!("SMARTCACHE.GETLOCK {key} {words}"));
            assert!(reply.is_error() && reply.error().starts_with("READONLY"), "{key} {words}\n{reply}");
        }
    }
    // Stamps are for stores, which only the primary accepts.
    assert!(replica.call("SMARTCACHE.STAMP").error().starts_with("READONLY"));
    // A replica holds no leases: UNLOCK and EXTEND have no effect.
    for line in ["UNLOCK loading {}", "UNLOCK loading {} BACKOFF 100", "EXTEND loading {} 100", "UNLOCK loading x"] {
        assert_eq!(replica.ok(&format!("SMARTCACHE.{}", line.replace("{}", &token))).int(), 0, "{line}");
    }
    assert_eq!(replica.inspect("fresh", "lease").text(), "none");
    assert!(replica.call_args(args!["SMARTCACHE.SET", "loading", "v", "TOKEN", token]).is_error());
    assert_eq!((replica.stat("leases"), replica.stat("waiters"), replica.stat("leases_granted")), (0, 0, 0));
    assert_eq!(primary.fill("loading", "v", &token), "OK");
    in_step(&primary, &replica);
    assert_eq!(replica.getlock("loading").brief(), "HIT v");
}

#[test]
fn fills_arrive_with_the_stamp_of_their_load() {
    let (primary, replica) = pair("smartcache.swr 1000");
    let tokens: Vec<String> =
        ["k", "absent", "late", "staled"].iter().map(|key| primary.getlock(key).token().to_owned()).collect();
    let stamp = primary.call("SMARTCACHE.STAMP").text();
    assert_eq!(primary.fill("k", "v", &tokens[0]), "OK");
    assert_eq!(primary.call_args(args!["SMARTCACHE.ABSENT", "absent", "TOKEN", tokens[1]]).text(), "OK");
    assert_eq!(primary.ok("SMARTCACHE.UNLOCK late x").int(), 0);
    assert_eq!(primary.call_args(args!["SMARTCACHE.UNLOCK", "late", tokens[2]]).int(), 1);
    assert_eq!(primary.fill("late", "v", &tokens[2]), "OK");
    primary.ok("SMARTCACHE.STALE staled");
    assert_eq!(primary.fill("staled", "v", &tokens[3]), "STALE");
    assert_eq!(primary.call_args(args!["SMARTCACHE.MSET", "2", "a", "v", "b", "v", "SINCE", stamp]).int(), 2);
    let keys = ["k", "absent", "late", "staled", "a", "b"].map(str::to_owned);
    assert_same(&primary, &replica, &keys);
    assert_eq!(replica.call("SMARTCACHE.GET staled STALE").text(), "v");
    assert_eq!(replica.state("staled"), "stale");
    assert!(!replica.inspect("k", "load_ms").is_nil());
}

#[test]
fn after_a_failover_tokens_of_the_old_primary_are_lost_and_the_next_reader_loads() {
    let (mut primary, replica) = pair("");
    three_states(&primary);
    let token = primary.getlock("k LOCK 100").token().to_owned();
    let stamp = primary.call("SMARTCACHE.STAMP").text();
    in_step(&primary, &replica);
    primary.kill();
    replica.ok("REPLICAOF NO ONE");
    assert_eq!(replica.getlock("fresh").brief(), "HIT v");
    assert_eq!(replica.getlock("stale").brief(), "STALE v +");
    let new = replica.getlock("k LOCK 100");
    assert_eq!(new.brief(), "MISS +");
    let mut waiters = replica.park(2, |_| "k WAIT 60".to_owned());
    assert_eq!(replica.fill("k", "older", &token), "LOST");
    assert_eq!(replica.call_args(args!["SMARTCACHE.SET", "other", "v", "SINCE", stamp]).text(), "LOST");
    assert_eq!(replica.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "100"]).int(), 0);
    assert_eq!(replica.stat("waiters"), 2, "a foreign token affects no waiter");
    assert_eq!(replica.fill("k", "v", new.token()), "OK");
    for waiter in &mut waiters {
        assert_eq!(waiter.got().brief(), "HIT v");
    }
}

#[test]
fn a_demoted_primary_rejects_waiters_and_forgets_its_tokens() {
    let other = Server::setup().tcp().start();
    let s = Server::setup().tcp().start();
    let port = other.call("CONFIG GET port").field("port").text();
    for round in 0..2 {
        let token = s.getlock("k LOCK 100").token().to_owned();
        let stamp = s.call("SMARTCACHE.STAMP").text();
        let mut conns = s.park(150, |_| "k WAIT 60".to_owned());
        s.ok(&format!("REPLICAOF 127.0.0.1 {port}"));
        for conn in &mut conns {
            // All versions so far answer this themselves before they notify the module, and close the connection.
            let reply = conn.receive().expect("an answer");
            assert!(reply.error().starts_with("UNBLOCKED"), "{reply}");
            assert!(conn.receive().is_err(), "the connection is closed");
        }
        in_step(&other, &s);
        s.assert_quiet();
        assert!(s.call("SMARTCACHE.GETLOCK k").error().starts_with("READONLY"), "round {round}");
        s.ok("REPLICAOF NO ONE");
        assert_eq!(s.fill("k", "v", &token), "LOST", "loaded before the change");
        assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "SINCE", stamp]).text(), "LOST");
        let new = s.getlock("k");
        assert_eq!(new.brief(), "MISS +");
        assert_eq!(s.fill("k", "v", new.token()), "OK");
        s.ok("SMARTCACHE.DEL k");
        s.assert_quiet();
    }
}

#[test]
fn leases_work_without_enough_replicas() {
    let s = Server::with("min-replicas-to-write 1");
    assert!(s.call("SET k v").error().starts_with("NOREPLICAS"));
    let token = s.getlock("k LOCK 100").token().to_owned();
    assert_eq!(s.getlock("k").brief(), "BUSY");
    let mut waiters = s.park(2, |_| "k WAIT 60".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "50"]).int(), 1);
    // The server refuses the store before the module sees it.
    assert!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]).error().starts_with("NOREPLICAS"));
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 1);
    let next = waiters[0].got();
    assert_eq!(next.brief(), "MISS +");
    s.ok("CONFIG SET min-replicas-to-write 0");
    assert_eq!(s.fill("k", "v", next.token()), "OK");
    assert_eq!(waiters[1].got().brief(), "HIT v");
    s.assert_quiet();
}

#[test]
fn an_invalidation_is_replicated_and_survives_a_promotion() {
    let (primary, replica) = pair("");
    primary.ok("CONFIG SET smartcache.sweep-effort 0");
    primary.ok("SMARTCACHE.MSET 2 a v b v TAGS 1 t SWR 100");
    primary.ok("SMARTCACHE.SET c v TAGS 1 u");
    primary.ok("SMARTCACHE.INVALIDATE TAGS 1 t SOFT");
    primary.ok("SMARTCACHE.SET b w TAGS 1 t");
    primary.ok("SMARTCACHE.INVALIDATE TAGS 1 u");
    in_step(&primary, &replica);
    let reads = ["SMARTCACHE.MGET a b c", "SMARTCACHE.GET a STALE", "SMARTCACHE.GET c STALE"];
    let expected = reads.map(|line| primary.call(line).to_string());
    assert_eq!(reads.map(|line| replica.call(line).to_string()), expected);
    assert_eq!(replica.call("DBSIZE").int(), 3, "a replica sweeps nothing");
    let second = Server::replica_of(&primary, "");
    in_step(&primary, &second);
    assert_eq!(reads.map(|line| second.call(line).to_string()), expected, "also on a later replica");
    replica.ok("REPLICAOF NO ONE");
    assert_eq!(reads.map(|line| replica.call(line).to_string()), expected);
    wait_until("what is dead is swept now", || replica.call("DBSIZE").int() == 2);
}
