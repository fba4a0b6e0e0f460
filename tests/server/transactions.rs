//! `WATCH`, `MULTI`, scripts and functions.

use crate::support::Server;

#[test]
fn a_watched_key_that_is_written_fails_the_transaction() {
    let s = Server::start();
    for write in [
        "SMARTCACHE.SET k w SWR 100",
        "SMARTCACHE.MSET 1 k w",
        "SMARTCACHE.ABSENT k",
        "SMARTCACHE.STALE k",
        "SMARTCACHE.TOUCH k TTL 5",
        "SMARTCACHE.DEL k",
        "SMARTCACHE.SET k v EXAT 1",
        "DEL k",
        "EXPIRE k 50",
        "RENAME k other",
    ] {
        s.ok("SMARTCACHE.SET k v SWR 100");
        let mut watcher = s.connect();
        watcher.call("WATCH k");
        s.ok(write);
        watcher.call("MULTI");
        watcher.call("PING");
        assert!(watcher.call("EXEC").is_nil(), "after {write} the transaction should fail");
    }
}

#[test]
fn a_watched_key_that_is_only_read_does_not() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let mut watcher = s.connect();
    for line in [
        "SMARTCACHE.GET k STALE STATE",
        "SMARTCACHE.MGET k",
        "SMARTCACHE.INSPECT k",
        "SMARTCACHE.MISSING k",
        "SMARTCACHE.SET k w NX",
        "SMARTCACHE.SET other w",
        "SMARTCACHE.RULE SET r MATCH *",
    ] {
        watcher.call("WATCH k");
        s.ok(line);
        watcher.call("MULTI");
        watcher.call("PING");
        assert!(!watcher.call("EXEC").is_nil(), "{line} should not fail the transaction");
    }
    watcher.call("WATCH k");
    assert!(s.call("SMARTCACHE.SET k v BOGUS").is_error());
    watcher.call("MULTI");
    watcher.call("PING");
    assert!(!watcher.call("EXEC").is_nil());
}

#[test]
fn commands_in_a_transaction_answer_together() {
    Server::start().play(
        r#"
        > MULTI
        OK
        > SMARTCACHE.SET k v
        QUEUED
        > SMARTCACHE.GET k
        QUEUED
        > SMARTCACHE.SET k w BOGUS
        QUEUED
        > SMARTCACHE.DEL k
        QUEUED
        > SMARTCACHE.GET k
        QUEUED
        > EXEC
        1) OK
        2) "v"
        3) (error) ERR syntax error near 'BOGUS'
        4) (integer) 1
        5) (nil)
        "#,
    );
}

#[test]
fn a_wrong_number_of_words_spoils_the_transaction_as_always() {
    let s = Server::start();
    s.ok("MULTI");
    assert!(s.call("SMARTCACHE.SET k").is_error());
    s.ok("SMARTCACHE.SET k v");
    assert!(s.call("EXEC").error().starts_with("EXECABORT"));
    assert_eq!(s.call("EXISTS k").int(), 0);
}

#[test]
fn scripts_read_and_write() {
    Server::start().play(
        r#"
        > EVAL "return redis.call('SMARTCACHE.SET', KEYS[1], ARGV[1], 'TTL', '10')" 1 k v
        OK
        > EVAL "return redis.call('SMARTCACHE.GET', KEYS[1])" 1 k
        "v"
        > EVAL "return redis.call('SMARTCACHE.GET', KEYS[1])" 1 nothing
        (nil)
        > EVAL "return redis.call('SMARTCACHE.GET', KEYS[1], 'STATE')[1]['ok']" 1 k
        "HIT"
        > EVAL "return redis.call('SMARTCACHE.MGET', unpack(KEYS))" 2 k nothing
        1) "v"
        2) (nil)
        > EVAL "return redis.call('SMARTCACHE.MSET', '2', KEYS[1], 'x', KEYS[2], 'y')" 2 a b
        (integer) 2
        "#,
    );
}

#[test]
fn an_error_in_a_script_can_be_caught_and_leaves_no_trace() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let digest = s.digest();
    let caught =
        s.ok("EVAL \"local r = redis.pcall('SMARTCACHE.SET', KEYS[1], 'w', 'BOGUS') return r['err']\" 1 k").text();
    assert!(caught.contains("syntax error near 'BOGUS'"), "{caught}");
    assert_eq!(s.digest(), digest);
}

#[test]
fn read_only_scripts_may_read_and_not_write() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.ok("EVAL_RO \"return redis.call('SMARTCACHE.GET', KEYS[1])\" 1 k").text(), "v");
    let reply = s.call("EVAL_RO \"return redis.call('SMARTCACHE.SET', KEYS[1], 'w')\" 1 k");
    assert!(reply.is_error(), "{reply}");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}

#[test]
fn functions_read_and_write() {
    let s = Server::start();
    s.ok("FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('put', function(keys, args) \
         redis.call('SMARTCACHE.SET', keys[1], args[1]) return redis.call('SMARTCACHE.GET', keys[1]) end)\"");
    assert_eq!(s.ok("FCALL put 1 k v").text(), "v");
}

#[test]
fn a_script_that_speaks_resp3_gets_maps() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let script = "redis.setresp(3) return redis.call('SMARTCACHE.INSPECT', KEYS[1])['map']['kind']";
    assert_eq!(s.call_args(crate::support::args!["EVAL", script, "1", "k"]).text(), "value");
}
