//! Hashes, lists, sorted sets: lifetimes and caps of the rule, in the same command.

use crate::support::{Server, assert_within};

fn ruled(rule: &str) -> Server {
    let s = Server::start();
    s.ok(&format!("SMARTCACHE.RULE SET r MATCH k* NATIVE {rule}"));
    s
}

/// A first write of each type.
const WRITES: [&str; 9] = [
    "HSET k f v",
    "HINCRBY k n 1",
    "SADD k a",
    "ZADD k 1 a",
    "ZINCRBY k 1 a",
    "RPUSH k a",
    "LPUSH k a",
    "XADD k * f v",
    "GEOADD k 13.4 52.5 berlin",
];

#[test]
fn a_structure_without_expiry_gets_that_of_its_rule_when_it_is_made() {
    let s = ruled("TTL 1000");
    for write in WRITES {
        s.ok("DEL k");
        s.ok(write);
        assert_within!(s.pttl("k"), 600_000..=1_000_000);
        s.ok("EXPIRE k 100");
        s.ok(write);
        assert_within!(s.pttl("k"), 40_000..=100_000);
    }
    s.ok("HSET other f v");
    assert_eq!(s.pttl("other"), -1);
}

#[test]
fn with_sliding_it_starts_anew_at_each_write() {
    let s = ruled("TTL 1000 SLIDING");
    for write in WRITES {
        s.ok("DEL k");
        s.ok(write);
        s.ok("PEXPIRE k 100000");
        assert_within!(s.pttl("k"), 40_000..=100_000);
        s.ok(write);
        assert_within!(s.pttl("k"), 600_000..=1_000_000);
    }
}

#[test]
fn an_expiry_beyond_the_greatest_is_cut() {
    let s = ruled("MAX 1h");
    s.ok("HSET k f v");
    s.ok("EXPIRE k 100000");
    assert_within!(s.pttl("k"), 1_800_000..=3_600_000);
    s.ok("EXPIRE k 50");
    assert_within!(s.pttl("k"), 20_000..=50_000);
}

#[test]
fn a_capped_sorted_set_keeps_its_highest() {
    let s = ruled("CAP 3");
    for n in 1..=6 {
        s.ok(&format!("ZADD k {n} m{n}"));
    }
    assert_eq!(s.ok("ZRANGE k 0 -1").texts(), ["m4", "m5", "m6"]);
    s.ok("ZINCRBY k 10 m1");
    assert_eq!(s.ok("ZRANGE k 0 -1").texts(), ["m5", "m6", "m1"]);
    assert_eq!(s.call("ZADD k 1 low").int(), 1, "the reply is the command's own");
    assert_eq!(s.call("ZCARD k").int(), 3);
    s.ok("ZADD other 1 a 2 b 3 c 4 d");
    s.ok("ZUNIONSTORE k2 1 other");
    assert_eq!(s.call("ZCARD k2").int(), 3);
}

#[test]
fn or_its_lowest() {
    let s = ruled("CAP 3 LOWEST");
    s.ok("ZADD k 1 m1 2 m2 3 m3 4 m4 5 m5");
    assert_eq!(s.ok("ZRANGE k 0 -1").texts(), ["m1", "m2", "m3"]);
}

#[test]
fn a_capped_list_keeps_what_was_pushed_last() {
    let s = ruled("CAP 3");
    s.ok("LPUSH k 1 2 3 4 5");
    assert_eq!(s.ok("LRANGE k 0 -1").texts(), ["5", "4", "3"]);
    s.ok("DEL k");
    s.ok("RPUSH k 1 2 3 4 5");
    assert_eq!(s.ok("LRANGE k 0 -1").texts(), ["3", "4", "5"]);
    s.ok("RPUSH other a b");
    s.ok("LMOVE other k LEFT LEFT");
    assert_eq!(s.ok("LRANGE k 0 -1").texts(), ["a", "3", "4"]);
}

#[test]
fn hashes_and_sets_have_no_cap() {
    let s = ruled("CAP 1");
    s.ok("HSET k f v g w");
    s.ok("SADD k2 a b c");
    assert_eq!((s.call("HLEN k").int(), s.call("SCARD k2").int()), (2, 3));
}

#[test]
fn one_leaderboard_command_adds_caps_and_expires_atomically() {
    let s = Server::setup().tcp().conf("appendonly yes\nappendfsync always\naof-use-rdb-preamble no").start();
    let replica = Server::replica_of(&s, "");
    s.ok("SMARTCACHE.RULE SET boards MATCH leaderboard:* NATIVE TTL 1d CAP 2");
    for (score, name) in [(512, "ada"), (300, "bob"), (700, "cy")] {
        s.ok(&format!("ZADD leaderboard:eu {score} {name}"));
    }
    assert_eq!(s.ok("ZREVRANGE leaderboard:eu 0 -1").texts(), ["cy", "ada"]);
    assert_within!(s.pttl("leaderboard:eu"), 40_000_000..=90_000_000);
    crate::support::wait_until("the replica has it", || {
        s.info("master_repl_offset") == replica.info("slave_repl_offset")
    });
    assert_eq!(replica.digest(), s.digest());
    assert_eq!(replica.call("PEXPIRETIME leaderboard:eu"), s.call("PEXPIRETIME leaderboard:eu"));
    let mut s = s;
    let (before, ends) = (s.digest(), s.call("PEXPIRETIME leaderboard:eu"));
    s.restart();
    assert_eq!((s.digest(), s.call("PEXPIRETIME leaderboard:eu")), (before, ends));
}

#[test]
fn reads_and_refused_writes_change_no_lifetime() {
    let s = ruled("TTL 1000 SLIDING");
    s.ok("HSET k f v");
    s.ok("PEXPIRE k 100000");
    for line in ["HGET k f", "HGETALL k", "HLEN k", "TYPE k", "EXISTS k"] {
        s.ok(line);
    }
    assert!(s.call("ZADD k 1 a").error().starts_with("WRONGTYPE"));
    assert_within!(s.pttl("k"), 40_000..=100_000);
}
