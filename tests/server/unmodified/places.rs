//! Replicas, files, clusters, users.

use crate::aof;
use crate::cluster::cluster_of_two;
use crate::support::{Conn, Server, args, assert_within, skip, wait_until};

/// Strings of every kind, written as an unmodified client writes them.
fn fill(s: &Server) {
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE TAG all");
    s.ok("SET text hello EX 1000");
    s.call_args(args!["SET", "large", "a value that shrinks ".repeat(100)]);
    s.ok("MSET a 1 b 2");
    s.ok("INCRBY counter 41");
    s.ok("INCR counter");
    s.ok("APPEND text !");
    s.ok("SETRANGE ranged 3 x");
    s.ok("SETBIT bits 100 1");
    s.ok("PFADD hll a b c");
    s.ok("BITOP NOT notbits bits");
    s.ok("SET moved v");
    s.ok("RENAME moved renamed");
    s.ok("COPY renamed copied");
    s.ok("SET deleted v");
    s.ok("GETDEL deleted");
    s.ok("SET late v PXAT 9223372036854775000");
    s.ok("SET persisted v EX 1000");
    s.ok("PERSIST persisted");
    s.ok("SET renewed v");
    s.ok("EXPIRE renewed 5000");
    s.ok("GETEX renewed EX 9000");
    s.ok("EVAL \"redis.call('SET', 'scripted', 'v', 'EX', 1000) redis.call('INCR', 'counted')\" 0");
    s.ok("RPUSH list a b");
    let mut conn = s.connect();
    for line in ["MULTI", "SET atomic 1", "INCR atomic", "EXEC"] {
        assert!(!conn.call(line).is_error());
    }
}

/// What a client sees of all keys: values and expiry.
fn seen(s: &Server) -> String {
    let mut keys = s.ok("KEYS *").texts();
    keys.sort();
    let look = |key: &String| {
        let kind = s.call(&format!("TYPE {key}")).text();
        let value =
            if kind == "string" { s.call(&format!("GET {key}")) } else { s.call(&format!("LRANGE {key} 0 -1")) };
        format!("{key} {kind} {} {value}\n", s.call(&format!("PEXPIRETIME {key}")))
    };
    keys.iter().map(look).collect()
}

#[track_caller]
fn in_step(primary: &Server, replica: &Server) {
    wait_until("the replica is in step", || {
        replica.info("master_link_status") == "up"
            && primary.info("master_repl_offset") == replica.info("slave_repl_offset")
    });
}

#[test]
fn a_replica_holds_the_same_and_serves_reads() {
    let primary = Server::setup().tcp().start();
    let replica = Server::replica_of(&primary, "");
    fill(&primary);
    in_step(&primary, &replica);
    assert_eq!(seen(&replica), seen(&primary));
    assert_eq!(replica.digest(), primary.digest());
    for line in ["SET text v", "INCR counter", "DEL text", "EXPIRE text 5", "GETEX text PERSIST"] {
        assert!(replica.call(line).error().starts_with("READONLY"), "{line}");
    }
    // A second one, from a snapshot.
    let late = Server::replica_of(&primary, "");
    in_step(&primary, &late);
    assert_eq!(seen(&late), seen(&primary));
    // What a read sees on the primary, it sees on a replica.
    primary.ok("SMARTCACHE.INVALIDATE TAGS 1 all");
    in_step(&primary, &replica);
    for line in ["GET text", "EXISTS text", "TYPE text", "TTL text", "MGET text a", "STRLEN text", "BITCOUNT bits"] {
        assert_eq!(replica.call(line), primary.call(line), "{line}");
    }
}

#[test]
fn a_promoted_replica_goes_on() {
    let mut primary = Server::setup().tcp().start();
    let replica = Server::replica_of(&primary, "");
    fill(&primary);
    in_step(&primary, &replica);
    let before = seen(&primary);
    primary.kill();
    replica.ok("REPLICAOF NO ONE");
    assert_eq!(seen(&replica), before);
    assert_eq!(replica.call("INCR counter").int(), 43);
    replica.ok("SET text w");
    assert_eq!(replica.inspect("text", "rule").text(), "all", "it serves NATIVE rules itself now");
}

#[test]
fn a_restart_finds_every_string_as_it_was() {
    for conf in [
        "appendonly yes\nappendfsync always\naof-use-rdb-preamble no",
        "appendonly yes\nappendfsync always\naof-use-rdb-preamble yes",
    ] {
        let mut s = Server::with(conf);
        fill(&s);
        let before = seen(&s);
        s.restart();
        assert_eq!(seen(&s), before, "from the AOF, {conf}");
        s.ok("BGREWRITEAOF");
        wait_until("it is rewritten", || {
            s.info("aof_rewrite_in_progress") == "0" && s.info("aof_rewrite_scheduled") == "0"
        });
        s.restart();
        assert_eq!(seen(&s), before, "from the rewritten AOF, {conf}");
        assert_eq!(s.call("INCR counter").int(), 43);
    }
    let mut s = Server::start();
    fill(&s);
    let before = seen(&s);
    s.ok("SAVE");
    s.restart();
    assert_eq!(seen(&s), before, "from the RDB");
}

#[test]
fn files_and_replicas_get_effects_and_no_internal_commands() {
    let s = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    fill(&s);
    for words in aof::commands(&s) {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        assert!(!name.starts_with("SMARTCACHE.NATIVE"), "{name}");
        assert!(!["INCR", "APPEND", "GETDEL", "SETRANGE"].contains(&&*name), "{name}");
    }
}

#[test]
fn a_transaction_stays_one_in_the_file() {
    let s = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    let mut conn = s.connect();
    for line in ["MULTI", "SET a 1", "SET b 2", "EXEC"] {
        assert!(!conn.call(line).is_error());
    }
    let names: Vec<_> =
        aof::commands(&s).iter().map(|words| String::from_utf8_lossy(&words[0]).to_ascii_uppercase()).collect();
    let (begin, end) = (names.iter().rposition(|n| n == "MULTI"), names.iter().rposition(|n| n == "EXEC"));
    let (begin, end) = (begin.expect("MULTI"), end.expect("EXEC"));
    assert_eq!(end - begin, 3, "{names:?}");
}

#[test]
fn a_cluster_routes_and_refuses_as_always() {
    let (a, b) = cluster_of_two();
    a.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    wait_until("the rule is on both", || !b.call("SMARTCACHE.RULE GET all").is_nil());
    a.ok("SET k v");
    assert_eq!(a.call("GET k").text(), "v");
    for line in ["GET k", "SET k w", "INCR k", "EXISTS k", "TTL k", "MGET {k}1 {k}2", "EXPIRE k 5", "SORT k GET *"] {
        let reply = b.call(line);
        assert!(reply.error().starts_with("MOVED ") || line.starts_with("SORT"), "{line}\n{reply}");
    }
    for line in ["MGET a b", "MSET a 1 b 2", "MSETNX a 1 b 2", "DEL a b", "EXISTS a b", "RENAME a b", "BITOP NOT a b"] {
        let reply = a.call(line);
        assert!(reply.error().starts_with("CROSSSLOT "), "{line}\n{reply}");
    }
    assert_eq!(a.call("MSET {u}a 1 {u}b 2").text(), "OK");
    assert_eq!(a.call("MGET {u}a {u}b").texts(), ["1", "2"]);
}

// ---- users ----

#[track_caller]
fn login(s: &Server, rules: &str) -> Conn {
    s.ok(&format!("ACL SETUSER ada reset on nopass {rules}"));
    let mut conn = s.connect();
    assert_eq!(conn.call("AUTH ada x").text(), "OK");
    conn
}

#[track_caller]
fn refused(conn: &mut Conn, line: &str) {
    let reply = conn.call(line);
    assert!(reply.is_error() && reply.error().starts_with("NOPERM"), "{line} should be refused\n{reply}");
}

#[test]
fn a_user_gains_no_command_by_a_rule() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    s.ok("MSET k 1 k2 2");
    let before = s.digest();
    let mut ada = login(&s, "~* +@all -get -set -mget -incr -append -strlen -getdel");
    let lines = ["GET k", "SET k v", "MGET k k2", "INCR k", "APPEND k v", "STRLEN k", "GETDEL k"];
    for line in lines {
        refused(&mut ada, line);
        // The internal commands are no way round.
        let reply = ada.call(&format!("SMARTCACHE.NATIVE-STORE {line}"));
        assert!(reply.is_error(), "{line}\n{reply}");
        let words: Vec<_> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let reply = ada.call(&format!("EVAL \"return redis.call({})\" 0", words.join(",")));
        assert!(reply.is_error(), "{line} in a script\n{reply}");
    }
    assert!(ada.call("SMARTCACHE.NATIVE-GET k").is_error());
    assert!(ada.call("SMARTCACHE.NATIVE-MGET k").is_error());
    assert_eq!(ada.call("GETRANGE k 0 -1").text(), "1");
    assert_eq!(s.digest(), before);
}

#[test]
fn rights_to_keys_are_those_of_the_command() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    s.ok("MSET app:1 1 other 2");
    let mut reader = login(&s, "+@all %R~app:*");
    assert_eq!(reader.call("GET app:1").text(), "1");
    assert_eq!(reader.call("MGET app:1").texts(), ["1"]);
    assert_eq!(reader.call("STRLEN app:1").int(), 1);
    assert_eq!(reader.call("TYPE app:1").text(), "string");
    for line in
        ["SET app:1 v", "INCR app:1", "DEL app:1", "EXPIRE app:1 5", "GETDEL app:1", "GET other", "MGET app:1 other"]
    {
        refused(&mut reader, line);
    }
    let mut writer = login(&s, "+@all %W~app:*");
    assert_eq!(writer.call("SET app:1 v").text(), "OK");
    for line in
        ["GET app:1", "GETDEL app:1", "SET app:1 v GET", "SET other v", "MSET app:1 1 other 2", "COPY app:1 app:2"]
    {
        refused(&mut writer, line);
    }
}

#[test]
fn a_user_with_single_commands_needs_the_internal_ones_too() {
    let s = Server::start();
    s.ok("SET k v");
    let mut ada = login(&s, "~* +get +set");
    assert_eq!(ada.call("GET k").text(), "v");
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    let reply = ada.call("GET k");
    assert!(reply.error().contains("smartcache.native-get"), "the error names what is missing\n{reply}");
    let mut ada = login(
        &s,
        "~* +get +set +smartcache.native-get +smartcache.native-mget +smartcache.native-read \
         +smartcache.native-write +smartcache.native-store",
    );
    assert_eq!(ada.call("GET k").text(), "v");
    assert_eq!(ada.call("SET k w").text(), "OK");
    refused(&mut ada, "DEL k");
    assert_eq!(ada.call("GET k").text(), "w");
}

#[test]
fn read_and_write_categories_grant_the_internal_commands() {
    let s = Server::start();
    if !s.since((7, 2), (7, 2)) {
        skip!(s, "modules have no ACL categories there (7.2 and later have)");
    }
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    s.ok("SET k 1");
    let mut ada = login(&s, "~* +@read");
    assert_eq!(ada.call("GET k").text(), "1");
    assert_eq!(ada.call("STRLEN k").int(), 1);
    refused(&mut ada, "SET k v");
    let mut ada = login(&s, "~* +@write");
    assert_eq!(ada.call("INCR k").int(), 2);
    refused(&mut ada, "GET k");
}

// ---- memory ----

#[test]
fn when_memory_is_short_stores_are_refused_and_nothing_is_lost() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    s.ok("MSET k 1 text hello");
    s.ok("CONFIG SET maxmemory 1");
    for line in ["SET k v", "INCR k", "APPEND text x", "SETRANGE text 9 x", "MSET a 1", "PFADD h a", "BITOP NOT b k"] {
        let reply = s.call(line);
        assert!(reply.error().starts_with("OOM "), "{line}\n{reply}");
    }
    assert_eq!(s.call("MGET k text").texts(), ["1", "hello"]);
    assert_eq!(s.call("STRLEN text").int(), 5);
    assert_eq!(s.call("EXPIRE k 1000").int(), 1);
    assert_eq!(s.call("DEL text").int(), 1);
    assert_within!(s.pttl("k"), 600_000..=1_000_000);
}

#[test]
fn without_enough_replicas_writes_are_refused_and_reads_answered() {
    let s = Server::setup().tcp().conf("min-replicas-to-write 1").start();
    s.ok("CONFIG SET min-replicas-to-write 0");
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    s.ok("SET k 1");
    s.ok("CONFIG SET min-replicas-to-write 1");
    for line in ["SET k v", "INCR k", "DEL k", "EXPIRE k 5"] {
        assert!(s.call(line).error().starts_with("NOREPLICAS "), "{line}");
    }
    assert_eq!(s.call("GET k").text(), "1");
    assert_eq!(s.call("STRLEN k").int(), 1);
    assert_eq!(s.call("BITCOUNT k").int(), 3);
}
