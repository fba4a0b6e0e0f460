//! `WATCH`, `MULTI`, scripts and functions.

use crate::support::{Got, Server, args};

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
fn an_invalidation_by_tag_is_noticed_before_the_sweep_comes_by() {
    let s = Server::with("smartcache.sweep-effort 0");
    for (members, invalidation, notices) in [
        (1, "TAGS 1 t", true),
        (1, "TAGS 2 other t SOFT", true),
        (1, "TAGS 1 t SOFT OVER 60", true),
        (1, "TAGS 1 other", false),
        (1_000, "TAGS 1 t", true),
        (1_001, "TAGS 1 t", false),
        (1, "PREFIXES 1 k", false),
    ] {
        s.ok("FLUSHALL");
        s.ok("SMARTCACHE.SET k v SWR 100 TAGS 1 t");
        let mut conn = s.connect();
        for n in 1..members {
            conn.call(&format!("SMARTCACHE.SET k:{n} v TAGS 1 t"));
        }
        let mut watcher = s.connect();
        watcher.call("WATCH k");
        s.ok(&format!("SMARTCACHE.INVALIDATE {invalidation}"));
        watcher.call("MULTI");
        watcher.call("PING");
        assert_eq!(watcher.call("EXEC").is_nil(), notices, "{members} members, {invalidation}");
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
        > SMARTCACHE.GET k BOGUS
        QUEUED
        > SMARTCACHE.DEL k
        QUEUED
        > SMARTCACHE.GET k
        QUEUED
        > EXEC
        1) OK
        2) "v"
        3) (error) ERR syntax error near 'BOGUS': say SMARTCACHE.GET key [STALE] [STATE] [PEEK] [ACCEPT encodings]
        4) (integer) 1
        5) (nil)
        "#,
    );
}

#[test]
fn a_wrong_number_of_arguments_aborts_the_transaction() {
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
        > EVAL "return redis.call('SMARTCACHE.GET', KEYS[1], 'STATE')[1]" 1 k
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
fn a_script_in_resp3_gets_maps() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v");
    let script = "redis.setresp(3) return redis.call('SMARTCACHE.INSPECT', KEYS[1])['map']['kind']";
    assert_eq!(s.call_args(crate::support::args!["EVAL", script, "1", "k"]).text(), "value");
}

/// A server whose key `k` is being loaded, and the token.
fn busy() -> (Server, String) {
    let s = Server::start();
    let token = s.getlock("k LOCK 100").token().to_owned();
    (s, token)
}

#[test]
fn in_a_transaction_nothing_waits() {
    let (s, token) = busy();
    let mut conn = s.connect();
    conn.call("MULTI");
    for line in ["GETLOCK k WAIT 60", "GETLOCK other WAIT 60", "GETLOCK other WAIT 60", "GETLOCK k"] {
        assert_eq!(conn.call(&format!("SMARTCACHE.{line}")).text(), "QUEUED");
    }
    let answers = conn.call("EXEC");
    let briefs: Vec<String> = answers.array().iter().map(|reply| Got::of(reply).brief()).collect();
    assert_eq!(briefs, ["BUSY", "MISS +", "BUSY", "BUSY"]);
    assert_eq!(s.stat("waits"), 0);
    // Commands in a transaction answer waiters.
    let mut waiters = s.park(2, |_| "k WAIT 60".to_owned());
    conn.call("MULTI");
    conn.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]);
    conn.call("SMARTCACHE.DEL k");
    conn.call("EXEC");
    for waiter in &mut waiters {
        assert_eq!(waiter.got().brief(), "HIT v", "as of the store");
    }
}

#[test]
fn in_scripts_and_functions_nothing_waits() {
    let (s, token) = busy();
    s.ok("FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('ask', function(keys, args) \
         return redis.call('SMARTCACHE.GETLOCK', keys[1], 'WAIT', '60')[1] end)\"");
    let script = "return redis.call('SMARTCACHE.GETLOCK', KEYS[1], 'WAIT', '60')[1]";
    for key in ["k", "other"] {
        let first = if key == "k" { "BUSY" } else { "MISS" };
        assert_eq!(s.call_args(args!["EVAL", script, "1", key]).text(), first);
        assert_eq!(s.call_args(args!["EVAL", script, "1", key]).text(), "BUSY");
        assert_eq!(s.call_args(args!["FCALL", "ask", "1", key]).text(), "BUSY");
    }
    assert_eq!(s.stat("waits"), 0);
    // A script loads and fills like any client, and waiters are answered.
    let mut waiters = s.park(2, |_| "k WAIT 60".to_owned());
    let fill = "return redis.call('SMARTCACHE.SET', KEYS[1], 'v', 'TOKEN', ARGV[1])";
    assert_eq!(s.call_args(args!["EVAL", fill, "1", "k", token]).text(), "OK");
    for waiter in &mut waiters {
        assert_eq!(waiter.got().brief(), "HIT v");
    }
    let whole = "local got = redis.call('SMARTCACHE.GETLOCK', KEYS[1]) \
                 redis.call('SMARTCACHE.SET', KEYS[1], 'v', 'TOKEN', got[3]) \
                 return redis.call('SMARTCACHE.GETLOCK', KEYS[1])[2]";
    assert_eq!(s.call_args(args!["EVAL", whole, "1", "new"]).text(), "v");
}

#[test]
fn leases_change_no_watched_key_and_a_fill_does() {
    let s = Server::start();
    let mut conn = s.connect();
    let mut watched = |line: &str, fails: bool| {
        conn.call("WATCH k");
        let reply = s.ok(line);
        conn.call("MULTI");
        conn.call("PING");
        assert_eq!(conn.call("EXEC").is_nil(), fails, "{line}");
        reply
    };
    let token = Got::of(&watched("SMARTCACHE.GETLOCK k OWNER me", false)).token().to_owned();
    watched("SMARTCACHE.GETLOCK k", false);
    watched("SMARTCACHE.GETLOCK k OWNER me", false);
    watched(&format!("SMARTCACHE.EXTEND k {token} 50"), false);
    watched(&format!("SMARTCACHE.SET k v TOKEN {token}"), true);
    watched(&format!("SMARTCACHE.SET k v TOKEN {token}"), false); // a retry writes nothing
    watched("SMARTCACHE.GETLOCK k", false);
    s.ok("SMARTCACHE.DEL k");
    let token = s.getlock("k").token().to_owned();
    watched(&format!("SMARTCACHE.UNLOCK k {token} BACKOFF 1ms"), false);
    watched(&format!("SMARTCACHE.SET k v TOKEN {}", "x".repeat(32)), false);
    // A watching connection may call GETLOCK itself.
    let mut own = s.connect();
    own.call("WATCH other");
    let token = own.getlock("other").token().to_owned();
    own.call("MULTI");
    own.call_args(args!["SMARTCACHE.SET", "other", "v", "TOKEN", token]);
    assert_eq!(own.call("EXEC").array()[0].text(), "OK");
}
