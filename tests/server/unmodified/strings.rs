//! The promise: for a client a key behaves as the plain string that it believes it to be.

use super::{Twins, alike};
use crate::support::{Conn, Reply, Server, args, wait_until};

/// What may be under a key: how it comes there with the module, and what a server without it has then.
const STATES: [(&str, &[&str], &[&str]); 12] = [
    ("nothing", &[], &[]),
    ("a number", &["SET k 10"], &["SET k 10"]),
    ("a text with an expiry", &["SET k Hello EX 1000"], &["SET k Hello EX 1000"]),
    ("an empty value", &["SET k \"\""], &["SET k \"\""]),
    ("an entry of our own", &["SMARTCACHE.SET k 7 EX 1000 TAGS 1 t"], &["SET k 7 EX 1000"]),
    (
        "a compressed entry",
        &[
            "EVAL \"return redis.call('SMARTCACHE.SET', 'k', string.rep('shrinks ', 500), 'PERSIST', 'CODEC', 'zstd')\" 0",
        ],
        &["EVAL \"return redis.call('SET', 'k', string.rep('shrinks ', 500))\" 0"],
    ),
    ("a stale entry", &["SMARTCACHE.SET k 10 EX 1000 SWR 1000", "SMARTCACHE.STALE k"], &[]),
    ("a dead entry", &["SMARTCACHE.SET k 10 EX 1000 SWR 1000 TAGS 1 t", "SMARTCACHE.INVALIDATE TAGS 1 t"], &[]),
    ("an absent entry", &["SMARTCACHE.ABSENT k TTL 1000"], &[]),
    ("a plain string", &["SET k 10 EX 1000", "SMARTCACHE.PLAIN k"], &["SET k 10 EX 1000"]),
    ("a list", &["RPUSH k 3 1 2"], &["RPUSH k 3 1 2"]),
    ("a sorted set", &["ZADD k 1 a 2 b"], &["ZADD k 1 a 2 b"]),
];

/// Plays each command on a key in each state, and compares the answer and what is there afterwards.
#[track_caller]
fn same_in_every_state(commands: &str) {
    let mut twins = Twins::start();
    let mut differ = Vec::new();
    for protocol in [2, 3] {
        twins.reconnect(protocol);
        for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            for (state, native, plain) in STATES {
                twins.answers("FLUSHALL");
                // Over connections of their own: what follows is no fill of a load.
                for line in native {
                    assert!(!twins.native.ok(line).is_nil(), "{line}");
                }
                plain.iter().for_each(|line| drop(twins.plain.ok(line)));
                let looks = ["TYPE k", "EXISTS k k", "PTTL k", "GET k", "TYPE k2", "PTTL k2", "GET k2", "STRLEN k"];
                for line in std::iter::once(command).chain(looks) {
                    let [native, plain] = twins.answers(line);
                    if !alike(line, &native, &plain) {
                        differ.push(format!(
                            "RESP{protocol}, {state}, {command} > {line}\nplain:  {plain}\nnative: {native}"
                        ));
                    }
                }
            }
        }
    }
    assert!(differ.is_empty(), "on {} {} answers differ:\n{}", twins.native.name(), differ.len(), differ.join("\n"));
}

#[test]
fn reads_answer_as_for_a_plain_string() {
    same_in_every_state(
        "GET k
        MGET k k2 k
        STRLEN k
        GETRANGE k 1 3
        SUBSTR k 0 -1
        LCS k k2
        LCS k k LEN
        GETBIT k 3
        BITCOUNT k
        BITCOUNT k 0 1 BIT
        BITPOS k 1
        BITFIELD_RO k GET u8 0
        EXISTS k
        EXISTS k k2 k
        TYPE k
        TTL k
        PTTL k
        EXPIRETIME k
        PEXPIRETIME k
        SORT k ALPHA
        SORT_RO k ALPHA
        PFCOUNT k
        TOUCH k
        LLEN k
        HGET k f
        SMEMBERS k
        ZCARD k",
    );
}

#[test]
fn stores_answer_as_for_a_plain_string() {
    same_in_every_state(
        "SET k v
        SET k v EX 100
        SET k v PX 100000
        SET k v EXAT 99999999999
        SET k v PXAT 99999999999000
        SET k v PXAT 1
        SET k v NX
        SET k v XX
        SET k v NX EX 100
        SET k v XX PX 100000
        SET k v GET
        SET k v GET EX 100
        SET k v NX GET
        SET k v XX GET
        SET k v KEEPTTL
        SET k v KEEPTTL GET
        SETEX k 100 v
        PSETEX k 100000 v
        SETNX k v
        GETSET k v
        GETDEL k
        GETEX k
        GETEX k EX 100
        GETEX k PX 100000
        GETEX k EXAT 99999999999
        GETEX k PERSIST
        MSET k v k2 w
        MSET k v k w
        MSETNX k v k2 w
        MSETNX k2 w k v
        DEL k
        DEL k k2 k
        UNLINK k
        RENAME k k2
        RENAMENX k k2
        RENAME k k
        COPY k k2
        COPY k k2 REPLACE
        MOVE k 3",
    );
}

#[test]
fn changes_in_place_answer_as_for_a_plain_string() {
    same_in_every_state(
        "INCR k
        DECR k
        INCRBY k 5
        DECRBY k 9
        INCRBY k 9223372036854775807
        INCRBYFLOAT k 0.5
        APPEND k xyz
        SETRANGE k 2 xyz
        SETRANGE k 0 \"\"
        SETBIT k 7 1
        BITFIELD k INCRBY u8 0 1 OVERFLOW SAT SET i4 8 3
        BITOP NOT k2 k
        BITOP AND k k k2
        BITOP OR k2 k k
        PFADD k a b
        PFMERGE k2 k
        PFMERGE k k2
        EXPIRE k 100
        EXPIRE k 100 NX
        EXPIRE k 100 XX
        EXPIRE k 100 GT
        EXPIRE k 5000 GT
        EXPIRE k 100 LT
        EXPIRE k 5000 LT
        EXPIRE k 0
        EXPIRE k -5
        PEXPIRE k 100000
        EXPIREAT k 99999999999
        PEXPIREAT k 99999999999000
        PERSIST k
        RPUSH k a
        SADD k a
        HSET k f v
        ZADD k 5 a
        LPOP k
        SPOP k",
    );
}

#[test]
fn errors_have_the_servers_own_words() {
    same_in_every_state(
        "GET
        GET k k
        SET k
        SET k v EX
        SET k v EX 0
        SET k v EX -1
        SET k v EX abc
        SET k v PX 9223372036854775807
        SET k v EX 9223372036854775807
        SET k v NX XX
        SET k v BOGUS
        SET k v EX 5 KEEPTTL
        SETEX k 0 v
        SETEX k -1 v
        SETEX k abc v
        PSETEX k 0 v
        PSETEX k 9223372036854775807 v
        GETEX k EX 0
        GETEX k BOGUS
        MSET k
        MSET k v k2
        MSETNX k v k2
        INCRBY k abc
        INCRBYFLOAT k abc
        SETRANGE k -1 v
        SETRANGE k 999999999999 v
        SETBIT k -1 1
        SETBIT k 0 2
        BITFIELD k GET u99 0
        BITOP XYZ k2 k
        EXPIRE k abc
        EXPIRE k 9223372036854775807
        PEXPIRE k 9223372036854775807
        EXPIRE k 10 NX XX
        EXPIRE k 10 BOGUS
        COPY k k2 DB 99
        GETRANGE k a b
        LCS k k2 LEN IDX
        EXPIRE k
        INCR k 5
        TYPE
        BITCOUNT k 1",
    );
}

#[test]
fn deadlines_as_far_away_as_the_servers_own_are_kept() {
    let mut twins = Twins::start();
    twins.same(
        "SET k v PXAT 9223372036854775807
        PEXPIRETIME k
        GET k
        SET k v PXAT 9223372036854775806
        PEXPIRETIME k
        TYPE k
        APPEND k w
        PEXPIRETIME k
        GET k
        SET k 1
        PEXPIREAT k 9223372036854775000
        PEXPIRETIME k
        INCR k
        PEXPIRETIME k
        PERSIST k
        PTTL k
        SET k v EXAT 9223372036854775
        EXPIRETIME k
        GETEX k PXAT 9223372036854775807
        PEXPIRETIME k
        EXISTS k
        COPY k k2
        PEXPIRETIME k2
        RENAME k k3
        PEXPIRETIME k3
        GET k3",
    );
}

#[test]
fn transactions_answer_the_same() {
    let mut twins = Twins::start();
    twins.same(
        "MULTI
        SET k 1
        INCR k
        GET k
        APPEND k x
        INCR k
        MGET k nothing
        GETDEL k
        EXISTS k
        EXEC
        SET k 1
        WATCH k
        GET k
        STRLEN k
        TTL k
        MULTI
        SET k 2
        EXEC
        WATCH k
        1> SET k 3
        MULTI
        SET k 4
        EXEC
        GET k
        WATCH k
        1> GET k
        1> GETRANGE k 0 -1
        1> EXISTS k
        1> TYPE k
        1> SETNX k x
        1> GETEX k
        MULTI
        INCR k
        EXEC
        WATCH k
        1> INCR k
        MULTI
        PING
        EXEC
        WATCH k
        1> EXPIRE k 1000
        MULTI
        PING
        EXEC
        WATCH k
        1> PERSIST k
        MULTI
        PING
        EXEC
        WATCH k
        1> DEL k
        MULTI
        PING
        EXEC
        WATCH k
        1> SET k v XX
        MULTI
        PING
        EXEC
        MULTI
        SET k v EX
        SET k
        EXEC
        MULTI
        SET k v
        DISCARD
        GET k",
    );
}

#[test]
fn scripts_and_functions_answer_the_same() {
    let mut twins = Twins::start();
    twins.same(
        r##"EVAL "return redis.call('SET', KEYS[1], ARGV[1], 'EX', 1000)" 1 k v
        EVAL "return redis.call('GET', KEYS[1])" 1 k
        EVAL "return redis.call('GET', 'k')" 0
        EVAL "return {redis.call('MGET', 'k', 'none', 'k')[1], redis.call('TYPE', 'k').ok, redis.call('EXISTS', 'k')}" 0
        EVAL "return redis.call('INCR', 'n')" 0
        EVAL "redis.call('INCR', 'n') redis.call('APPEND', 'n', '5') return redis.call('GET', 'n')" 0
        EVAL "return redis.call('INCR', 'k')" 0
        EVAL "return redis.pcall('INCR', 'k')" 0
        EVAL "return redis.pcall('SET', 'k', 'v', 'EX', '0').err" 0
        EVAL "return redis.call('SET', 'k')" 0
        EVAL "return redis.status_reply(redis.call('SET', 'k', 'v').ok)" 0
        EVAL "return redis.call('SET', 'k', 'v', 'NX')" 0
        EVAL "if redis.call('SET', 'k', 'v', 'NX') then return 1 else return 0 end" 0
        EVAL "if redis.call('GET', 'none') == false then return 'false' end return 'other'" 0
        EVAL_RO "return redis.call('GET', KEYS[1])" 1 k
        EVAL_RO "return redis.call('STRLEN', KEYS[1])" 1 k
        EVAL_RO "return redis.call('EXISTS', KEYS[1])" 1 k
        EVAL_RO "return redis.call('BITCOUNT', KEYS[1])" 1 k
        EVAL_RO "return redis.call('SET', KEYS[1], 'w')" 1 k
        EVAL "#!lua flags=no-writes\nreturn redis.call('GETRANGE', KEYS[1], 0, 1)" 1 k
        EVAL "#!lua\nreturn redis.call('GET', KEYS[1])" 1 k
        EVAL "redis.setresp(3) return redis.call('GET', 'k')" 0
        EVAL "redis.setresp(3) return redis.call('GET', 'none')" 0
        EVAL "redis.setresp(3) return redis.call('INCRBYFLOAT', 'f', '1.5')" 0
        FUNCTION LOAD REPLACE "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)\nredis.register_function{function_name='take', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}"
        FCALL put 1 k w
        FCALL_RO take 1 k
        FCALL take 1 none
        FCALL_RO put 1 k w"##,
    );
}

#[test]
fn in_a_script_the_clock_stands_still_for_expiry() {
    let mut twins = Twins::start();
    twins.same(
        r#"EVAL "redis.call('SET', 'k', 'v', 'PX', 1) for i = 1, 3000000 do end return {redis.call('GET', 'k'), redis.call('EXISTS', 'k'), redis.call('STRLEN', 'k')}" 0"#,
    );
}

#[test]
fn sort_with_patterns_reads_strings_under_other_keys() {
    let mut twins = Twins::start();
    twins.same(
        "RPUSH list 3 1 2
        MSET w1 30 w2 20 w3 10 name1 one name2 two name3 three
        SORT list BY w*
        SORT list BY w* GET name* GET #
        SORT list BY nosort GET name*
        SORT_RO list BY w* GET name* DESC
        SORT list BY w* GET name* STORE out
        LRANGE out 0 -1
        SADD set 1 2 3
        SORT set BY w* GET name*
        ZADD zset 1 1 2 2 3 3
        SORT zset BY w* GET name* LIMIT 0 2
        SORT list GET nothing*
        SORT list BY w* GET h*->f",
    );
}

#[test]
fn scan_with_type_finds_what_is_there() {
    let s = Server::with("smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    s.ok("MSET a 1 b 2");
    s.ok("SMARTCACHE.SET stale v SWR 1000");
    s.ok("SMARTCACHE.STALE stale");
    s.ok("SMARTCACHE.SET dead v TAGS 1 t");
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    s.ok("SMARTCACHE.ABSENT absent");
    s.ok("RPUSH list a");
    s.ok("SET plain v");
    s.ok("SMARTCACHE.PLAIN plain");
    let scan = |words: &str| {
        let reply = s.ok(&format!("SCAN 0 COUNT 100 {words}"));
        let mut names = reply.array()[1].texts();
        names.sort();
        names.join(" ")
    };
    assert_eq!(scan("TYPE string"), "a b plain");
    assert_eq!(scan("TYPE STRING MATCH [ab]"), "a b");
    assert_eq!(scan("TYPE list"), "list");
    assert_eq!(scan("TYPE smrtcache"), "");
    for gone in ["stale", "dead", "absent"] {
        assert_eq!(s.call(&format!("EXISTS {gone}")).int(), 0, "{gone}");
        assert_eq!(s.call(&format!("TYPE {gone}")).text(), "none", "{gone}");
        assert_eq!(s.call(&format!("PTTL {gone}")).int(), -2, "{gone}");
        assert_eq!(s.call(&format!("EXPIRE {gone} 100")).int(), 0, "{gone}");
        assert_eq!(s.call(&format!("SETNX {gone} v")).int(), 1, "{gone}");
    }
}

// ---- who is notified ----

/// The keys in the invalidation messages since the last call.
#[track_caller]
fn invalidated(conn: &mut Conn) -> String {
    let mut keys = Vec::new();
    for push in conn.pushes() {
        match &push.array()[1] {
            Reply::Nil => keys.push("(all)".to_owned()),
            list => keys.extend(list.texts()),
        }
    }
    keys.sort();
    keys.join(" ")
}

#[test]
fn client_tracking_notifies_the_same() {
    for mode in ["ON", "ON NOLOOP", "ON BCAST", "ON BCAST NOLOOP", "ON BCAST PREFIX k"] {
        let mut twins = Twins::start();
        twins.reconnect(3);
        twins.answers(&format!("CLIENT TRACKING {mode}"));
        let mut differ = Vec::new();
        for line in [
            "SET k 1",
            "GET k",
            "1> GET k",
            "1> SET k 2",
            "GET k",
            "GET k",
            "1> EXPIRE k 1000",
            "MGET k k2",
            "1> INCR k",
            "STRLEN k",
            "1> APPEND k 5",
            "GETRANGE k 0 1",
            "1> DEL k",
            "GET k",
            "1> SETNX k 5",
            "EXISTS k",
            "1> MSET k 1 k2 2",
            "TTL k",
            "1> GETDEL k",
            "INCR k",
            "GET k",
            "INCR k",
            "GET k",
            "1> GETEX k PERSIST",
            "BITCOUNT k",
            "1> GETEX k EX 100",
            "GET k",
            "1> RENAME k k2",
            "GET k2",
            "1> FLUSHALL",
            "SET k2 v",
            "GET k2",
            "DEL k2",
            "GET k2",
            "1> SET k2 v XX",
            "1> SET k2 v",
        ] {
            twins.answers(line);
            let [native, plain] = twins.connection(0).each_mut().map(invalidated);
            if native != plain {
                differ.push(format!("{line}: plain notifies of [{plain}], native of [{native}]"));
            }
        }
        assert!(differ.is_empty(), "CLIENT TRACKING {mode}:\n{}", differ.join("\n"));
    }
}

#[test]
fn key_events_are_the_servers_own() {
    let mut twins = Twins::with("notify-keyspace-events KEA", "MATCH *");
    let mut listeners = [&twins.native, &twins.plain].map(|s| {
        let mut conn = s.connect();
        conn.call("PSUBSCRIBE __keyevent@*");
        conn
    });
    let mut differ = Vec::new();
    for line in [
        "SET k 1",
        "SET k 1 EX 1000",
        "SET k 1 NX",
        "SETEX k 1000 1",
        "GET k",
        "GETEX k EX 100",
        "GETEX k PERSIST",
        "INCR k",
        "INCRBYFLOAT k 1",
        "APPEND k 5",
        "SETRANGE k 0 x",
        "SETBIT k 0 1",
        "EXPIRE k 100",
        "PERSIST k",
        "RENAME k k2",
        "COPY k2 k",
        "MSET k 1 k2 2",
        "GETSET k 3",
        "GETDEL k",
        "DEL k k2",
        "SETNX k 1",
        "SETNX k 1",
        "EXPIRE k -1",
        "BITOP NOT k2 k",
        "SET k 1",
        "BITOP NOT k2 k",
        "PFADD h a",
        "UNLINK k",
        "SET k v XX",
        "RPUSH list a",
        "DEL list",
    ] {
        twins.answers(line);
        let events = listeners.each_mut().map(|conn| {
            // The answer to PING comes after all events.
            conn.send(args!["PING"]).expect("it is sent");
            let mut events = Vec::new();
            loop {
                let message = conn.message();
                match message.texts().as_slice() {
                    [kind, _, channel, key] if kind == "pmessage" => events.push(format!("{channel} {key}")),
                    _ => break,
                }
            }
            events.retain(|event| !event.contains(":smartcache."));
            events
        });
        if events[0] != events[1] {
            differ.push(format!("{line}: plain {:?}, native {:?}", events[1], events[0]));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn the_end_of_a_key_is_an_expired_event() {
    let s = Server::with("notify-keyspace-events Ex");
    s.ok("SMARTCACHE.RULE SET all MATCH * NATIVE");
    let mut listener = s.connect();
    listener.call("SUBSCRIBE __keyevent@0__:expired");
    s.ok("SET k v PX 1");
    wait_until("it expires", || s.call("GET k").is_nil() && s.call("EXISTS k").int() == 0);
    assert_eq!(listener.message().texts(), ["message", "__keyevent@0__:expired", "k"]);
}

#[test]
fn large_binary_values_come_back_as_they_were() {
    let mut twins = Twins::start();
    let text = "a value that shrinks ".repeat(50_000);
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for value in [text.as_bytes(), &noise, b"\0\xff\r\n", b""] {
        for conn in twins.connection(0) {
            assert_eq!(conn.call_args(args!["SET", "k", value]).text(), "OK");
            assert_eq!(conn.call_args(args!["GET", "k"]).bytes(), value);
            assert_eq!(conn.call_args(args!["STRLEN", "k"]).int(), value.len() as i64);
            assert_eq!(conn.call_args(args!["APPEND", "k", value]).int(), 2 * value.len() as i64);
            assert_eq!(conn.call_args(args!["GETDEL", "k"]).bytes(), [value, value].concat());
        }
    }
    twins.native.call_args(args!["SET", "k", text]);
    wait_until("it is compressed", || twins.native.inspect("k", "codec").text() == "zstd");
    assert_eq!(twins.native.call("GET k").text(), text);
}

#[test]
fn keys_without_a_native_rule_are_untouched() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET pages MATCH page:* NATIVE");
    s.ok("SET other v");
    s.ok("SET page:1 v");
    assert_eq!(s.call("OBJECT ENCODING other").text(), "embstr");
    assert!(!s.inspect("page:1", "state").is_nil());
    assert_eq!(s.call("MGET other page:1 page:2").to_string(), "1) \"v\"\n2) \"v\"\n3) (nil)");
    s.ok("SMARTCACHE.SET other v");
    assert!(s.call("GET other").error().starts_with("WRONGTYPE"), "an entry without a NATIVE rule is what it is");
}
