//! AOF, with and without RDB preamble: every effect is in it, and replay decides nothing again.

use crate::rdb::{assert_unchanged, fill, picture};
use crate::support::skip::note;
use crate::support::{Server, args, resp, wait_until};

const BOTH: [&str; 2] = [
    "appendonly yes\nappendfsync always\naof-use-rdb-preamble no",
    "appendonly yes\nappendfsync always\naof-use-rdb-preamble yes",
];

/// The commands of the incremental AOF.
pub(crate) fn commands(s: &Server) -> Vec<Vec<Vec<u8>>> {
    let dir = s.path("appendonlydir");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the server has an AOF")
        .map(|f| f.expect("an entry of the directory").path())
        .filter(|p| p.to_string_lossy().ends_with(".incr.aof"))
        .collect();
    files.sort();
    files.iter().flat_map(|f| resp::decode(&std::fs::read(f).expect("the file can be read"))).collect()
}

#[track_caller]
fn rewrite(s: &Server) {
    let base = |s: &Server| s.info("aof_base_size").parse::<u64>().unwrap_or(0);
    base(s);
    s.ok("BGREWRITEAOF");
    wait_until("the AOF is rewritten", || {
        s.info("aof_rewrite_in_progress") == "0" && s.info("aof_rewrite_scheduled") == "0"
    });
    assert_eq!(s.info("aof_last_bgrewrite_status"), "ok");
}

#[test]
fn a_restart_finds_everything() {
    for conf in BOTH {
        let mut s = Server::with(conf);
        let keys = fill(&s);
        let before = picture(&s, &keys);
        s.restart();
        assert_unchanged(&s, &keys, &before);
    }
}

#[test]
fn a_rewritten_file_finds_everything() {
    for conf in BOTH {
        let mut s = Server::with(conf);
        let keys = fill(&s);
        s.ok("SMARTCACHE.RULE SET r MATCH r* TTL 100 TAG t");
        let (before, rules) = (picture(&s, &keys), s.ok("SMARTCACHE.RULE LIST").to_string());
        rewrite(&s);
        s.restart();
        assert_unchanged(&s, &keys, &before);
        assert_eq!(s.ok("SMARTCACHE.RULE LIST").to_string(), rules, "{conf}");
        s.ok("SMARTCACHE.SET after v");
        rewrite(&s);
        s.restart();
        assert_eq!(s.call("SMARTCACHE.GET after").text(), "v");
    }
}

/// What stands between `MULTI` and `EXEC` in the AOF.
fn in_transactions(s: &Server) -> Vec<Vec<Vec<u8>>> {
    let mut inside = false;
    let mut found = Vec::new();
    for words in commands(s) {
        match &words[0].to_ascii_uppercase()[..] {
            b"MULTI" => inside = true,
            b"EXEC" => inside = false,
            _ if inside => found.push(words),
            _ => {}
        }
    }
    found
}

/// A user without these may change nothing, and yet be asked by tests.
const MAY_NOT_WRITE: &str = "user default on nopass ~* &* +@all -@write -del -unlink -smartcache.store -smartcache.mark \
     -smartcache.effects -smartcache.rule|set -smartcache.rule|del";

/// Servers before Redis 8.4 and Valkey 9 refuse `EXEC` while they load, for what the default user may not do.
#[test]
fn a_default_user_without_permissions_loses_nothing_on_load() {
    for conf in BOTH {
        let mut s = Server::with(&format!("{conf}\nsmartcache.sweep-effort 100%"));
        s.ok("SMARTCACHE.MSET 6 a 1 b 2 c 3 d 4 e 5 f 6 SWR 1000");
        s.ok("SMARTCACHE.MSET 3 p:1 1 p:2 2 p:3 3 TAGS 1 t");
        s.ok("SMARTCACHE.MSET 2 q:1 1 q:2 2 SWR 1000");
        s.ok("SMARTCACHE.SET g 7 SWR 1000 TAGS 2 early before");
        s.ok("SMARTCACHE.RULE SET one MATCH one:*");
        s.ok("SMARTCACHE.RULE SET two MATCH two:*");
        if conf == BOTH[0] {
            // Rules and marks come behind the keys.
            s.ok("SMARTCACHE.INVALIDATE PREFIXES 2 early: before:");
            s.ok("SMARTCACHE.INVALIDATE TAGS 2 early before SOFT");
            rewrite(&s);
            wait_until("the marks are written", || commands(&s).iter().flatten().any(|word| word == b"before"));
        }
        s.ok("SMARTCACHE.DEL a b");
        s.ok("SMARTCACHE.STALE c d");
        s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 p:");
        s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 q: SOFT");
        s.ok("SMARTCACHE.SET e x");
        wait_until("the sweep has passed", || s.call("DBSIZE").int() == 7 && s.stat("sweep_backlog") == 0);
        let keys: Vec<String> = ["a", "b", "c", "d", "e", "f", "g", "p:1", "q:1", "q:2"].map(str::to_owned).into();
        let rules = s.ok("SMARTCACHE.RULE LIST").to_string();
        // Before 7.2 what lets marks be forgotten is in one: not obeyed where deletes of the sweep may be lost.
        let keys_in = in_transactions(&s).iter().flatten().any(|word| {
            matches!(&word[..], b"UNLINK" | b"GONE" | b"STORE" | b"SMARTCACHE.STORE" | b"RULE" | b"HARD" | b"SOFT")
        });
        assert!(!keys_in, "{conf}: {:?}", in_transactions(&s));
        let before = picture(&s, &keys);
        let file = s.path("server.conf");
        let with_user = std::fs::read_to_string(&file).expect("the configuration") + MAY_NOT_WRITE + "\n";
        std::fs::write(&file, with_user).expect("the configuration is written");
        s.restart();
        assert_unchanged(&s, &keys, &before);
        assert_eq!(s.ok("SMARTCACHE.RULE LIST").to_string(), rules, "{conf}");
    }
}

#[test]
fn a_key_that_expires_as_a_command_comes_to_it_takes_nothing_else_with_it() {
    let s = Server::with(BOTH[1]);
    if !s.since((7, 2), (7, 2)) {
        return note(&s, "a look at an expired key deletes it, which is replicated beside what the command does");
    }
    s.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    s.ok("SMARTCACHE.MSET 3 b 1 c 2 d 3 SWR 1000");
    s.ok("SMARTCACHE.SET a 1 PX 1");
    s.ok("SMARTCACHE.SET p:1 1 PX 1");
    s.ok("SMARTCACHE.SET p:2 1");
    std::thread::sleep(std::time::Duration::from_millis(2));
    s.ok("SMARTCACHE.DEL a b");
    s.ok("SMARTCACHE.STALE a c");
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 p: WAIT 60");
    assert_eq!(s.call("EXISTS b p:2").int(), 0);
    assert!(in_transactions(&s).is_empty(), "{:?}", in_transactions(&s));
}

#[test]
fn commands_of_the_server_that_are_renamed_are_not_missed() {
    let conf = "rename-command UNLINK \"\"\nrename-command GET plain-get\nrename-command ACL \"\"";
    let mut s = Server::setup().tcp().conf(conf).conf(BOTH[1]).start();
    let replica = Server::replica_of(&s, conf);
    for line in ["MSET 5 a 1 b 2 c 3 d 4 e 5 TAGS 1 t", "DEL a", "DEL b c", "INVALIDATE TAGS 1 t"] {
        s.ok(&format!("SMARTCACHE.{line}"));
    }
    wait_until("the sweep has passed", || s.call("DBSIZE").int() == 0);
    wait_until("the replica is in step", || replica.call("DBSIZE").int() == 0);
    s.ok("SMARTCACHE.SET gone v");
    s.ok("SMARTCACHE.DEL gone");
    s.ok("SET text words");
    s.ok("SET number 12");
    for key in ["text", "number"] {
        let value = s.call(&format!("plain-get {key}"));
        assert_eq!(s.call(&format!("SMARTCACHE.GET {key}")), value);
        assert_eq!(s.call(&format!("SMARTCACHE.MGET {key}")).array(), std::slice::from_ref(&value));
        assert_eq!(s.call(&format!("SMARTCACHE.GETLOCK {key}")).array()[1], value);
    }
    assert!(s.log().contains("ACL is renamed"));
    s.restart();
    assert_eq!(s.call("DBSIZE").int(), 2);
}

#[test]
fn the_effect_of_every_write_is_in_it() {
    for conf in BOTH {
        let mut s = Server::with(conf);
        for line in [
            "SET overwritten v EX 1000",
            "SET overwritten w EX 2000 SWR 5",
            "MSET 3 a 1 b 2 c 3 EX 1000 SWR 1000 TAGS 1 t",
            "DEL a",
            "STALE b",
            "ABSENT absent EX 500",
            "SET touched v EX 100",
            "TOUCH touched EX 3000",
            "SET past v",
            "SET past v PXAT 1",
            "SET refused v",
            "SET refused w NX",
            "ABSENT replaced",
            "SET replaced v PERSIST",
        ] {
            s.ok(&format!("SMARTCACHE.{line}"));
        }
        s.ok("SMARTCACHE.SET expire v EX 1000");
        s.ok("EXPIRE expire 77");
        s.ok("SMARTCACHE.SET persist v EX 1000");
        s.ok("PERSIST persist");
        s.ok("SMARTCACHE.SET renamed v EX 1000");
        s.ok("RENAME renamed name");
        s.ok("COPY name copied");
        let keys: Vec<String> =
            "overwritten a b c absent touched past refused replaced expire persist renamed name copied"
                .split(' ')
                .map(str::to_owned)
                .collect();
        let before = picture(&s, &keys);
        s.restart();
        assert_unchanged(&s, &keys, &before);
    }
}

/// Expires keys at moments later than any entry holds, changes them in every way, and returns their names.
pub(crate) fn expire_late(s: &Server) -> Vec<String> {
    let mut keys = Vec::new();
    for (n, line) in ["EXPIREAT KEY 1796091600000", "PEXPIREAT KEY 9223372036854775807", "RESTORE"].iter().enumerate() {
        for change in ["none", "STALE", "TOUCH", "COPY", "RENAME", "PERSIST"] {
            let key = format!("{change}:{n}");
            s.ok(&format!("SMARTCACHE.SET {key} v EX 1000 SWR 1000 TAGS 1 {change}"));
            if *line == "RESTORE" {
                let dump = s.ok(&format!("DUMP {key}"));
                s.call_args(args!["RESTORE", key, "9223372036854775806", dump.bytes(), "ABSTTL", "REPLACE"]);
            } else {
                s.ok(&line.replace("KEY", &key));
            }
            match change {
                "STALE" => assert_eq!(s.ok(&format!("SMARTCACHE.STALE {key}")).int(), 1),
                "TOUCH" => {
                    assert_eq!(s.ok(&format!("SMARTCACHE.TOUCH {key} PXAT 253402300799999")).int(), 1);
                    s.ok(&format!("PEXPIREAT {key} 9223372036854775807"));
                }
                "COPY" => {
                    s.ok(&format!("COPY {key} {key}:copy"));
                    s.ok(&format!("SMARTCACHE.STALE {key}:copy"));
                    keys.push(format!("{key}:copy"));
                }
                "RENAME" => {
                    s.ok(&format!("RENAME {key} {key}:new"));
                    s.ok(&format!("SMARTCACHE.STALE {key}:new"));
                    keys.push(format!("{key}:new"));
                }
                _ => {}
            }
            keys.push(key);
        }
    }
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 PERSIST SOFT");
    s.ok("SMARTCACHE.SET far v EX 9999999999");
    s.ok("SMARTCACHE.SET farthest v PX 9223372036854775807 SWR 100d");
    keys.extend(["far".to_owned(), "farthest".to_owned()]);
    keys
}

#[test]
fn keys_that_expire_in_the_far_future_are_in_it() {
    for conf in BOTH {
        let mut s = Server::with(&format!("{conf}\npropagation-error-behavior panic"));
        let keys = expire_late(&s);
        assert_eq!(s.state("STALE:0"), "stale");
        // Not the digest: a node that loads its AOF does not lower the stamps of what was restored.
        let look = |s: &Server| picture(s, &keys).lines().skip(1).collect::<Vec<_>>().join("\n");
        let before = look(&s);
        s.restart();
        assert_eq!(look(&s), before, "{conf}: the file of commands");
        rewrite(&s);
        s.restart();
        assert_eq!(look(&s), before, "{conf}: the rewritten file");
        s.ok("DEBUG RELOAD");
        assert_eq!(look(&s), before, "{conf}: an RDB file");
    }
}

#[test]
fn jitter_is_drawn_once() {
    let mut s = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no\nsmartcache.jitter 50%");
    s.ok("SMARTCACHE.RULE SET r MATCH r* JITTER 40% TTL 5000");
    let keys: Vec<String> = (0..10).flat_map(|i| [format!("k{i}"), format!("r{i}")]).collect();
    for key in &keys {
        s.ok(&format!("SMARTCACHE.SET {key} v SWR 10"));
    }
    let before = picture(&s, &keys);
    s.restart();
    assert_unchanged(&s, &keys, &before);
}

#[test]
fn current_settings_and_rules_do_not_change_stored_entries() {
    let mut s = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    let before = picture(&s, &["k".to_owned()]);
    s.ok("CONFIG SET smartcache.default-ttl 5 smartcache.max-ttl 10 smartcache.swr 100 smartcache.max-value 1b");
    s.ok("CONFIG REWRITE");
    s.restart();
    assert_unchanged(&s, &["k".to_owned()], &before);
}

#[test]
fn effects_are_written_as_one_internal_command() {
    let s = Server::with("appendonly yes\nappendfsync always");
    let value = "a value that shrinks ".repeat(100);
    s.call_args(args!["SMARTCACHE.SET", "k", value, "TTL", "100"]);
    let commands = commands(&s);
    let stores: Vec<_> = commands.iter().filter(|c| c[0].eq_ignore_ascii_case(b"SMARTCACHE.STORE")).collect();
    assert_eq!(stores.len(), 1);
    assert_eq!(stores[0][1], b"k");
    // Compressed: smaller than the client's own command.
    assert!(stores[0][2..].iter().map(Vec::len).sum::<usize>() < value.len() / 2);
    assert!(!commands.iter().any(|c| c[0].eq_ignore_ascii_case(b"SMARTCACHE.SET")));
}

#[test]
fn reads_and_refusals_write_nothing() {
    let s = Server::with("appendonly yes\nappendfsync always");
    s.ok("SMARTCACHE.SET k v");
    s.ok("SET plain v");
    let before = commands(&s).len();
    for line in [
        "GET k",
        "GET k STALE STATE",
        "GET plain",
        "MGET k nothing",
        "MISSING k nothing",
        "INSPECT k",
        "SET k w NX",
        "SET nothing v XX",
        "DEL nothing",
        "STALE nothing",
        "TOUCH nothing",
        "RULE DEL nothing",
        "RULE LIST",
        "STATS",
        "RESETSTAT",
        "HELP",
    ] {
        s.ok(&format!("SMARTCACHE.{line}"));
        assert_eq!(commands(&s).len(), before, "{line} wrote {:?}", commands(&s).last());
    }
}

#[test]
fn a_transaction_is_one_in_the_file() {
    let mut s = Server::with("appendonly yes\nappendfsync always");
    s.ok("MULTI");
    s.ok("SMARTCACHE.SET a v");
    s.ok("SMARTCACHE.SET b v");
    s.ok("EXEC");
    let commands = commands(&s);
    let names = commands.iter().map(|c| String::from_utf8_lossy(&c[0]).to_uppercase());
    let names: Vec<String> = names.filter(|n| n != "SELECT").collect(); // it may be before or inside the transaction
    let multi = names.iter().position(|n| n == "MULTI").expect("it is a transaction");
    assert_eq!(names[multi..], ["MULTI", "SMARTCACHE.STORE", "SMARTCACHE.STORE", "EXEC"]);
    s.restart();
    assert_eq!(s.ok("EXISTS a b").int(), 2);
}

#[test]
fn rules_are_in_it() {
    for conf in BOTH {
        let mut s = Server::with(conf);
        s.ok("SMARTCACHE.RULE SET b MATCH b* TTL 5");
        s.ok("SMARTCACHE.RULE SET a MATCH a* TTL 5 SWR 7 TAG \"x y\"");
        s.ok("SMARTCACHE.RULE SET gone MATCH *");
        s.ok("SMARTCACHE.RULE DEL gone");
        s.ok("FLUSHALL");
        let before = s.ok("SMARTCACHE.RULE LIST").to_string();
        s.restart();
        assert_eq!(s.ok("SMARTCACHE.RULE LIST").to_string(), before, "{conf}");
    }
}

#[test]
fn debug_loadaof_changes_nothing() {
    let s = Server::with(BOTH[0]);
    let keys = fill(&s);
    let before = picture(&s, &keys);
    s.ok("DEBUG LOADAOF");
    assert_unchanged(&s, &keys, &before);
}

#[test]
fn a_file_that_ends_in_the_middle_of_a_command_is_loaded_up_to_there() {
    let mut s = Server::with(BOTH[0]);
    s.ok("SMARTCACHE.SET a v");
    s.ok("SMARTCACHE.SET b v");
    s.kill();
    let incr = std::fs::read_dir(s.path("appendonlydir"))
        .expect("the directory is there")
        .map(|f| f.expect("an entry of the directory").path())
        .find(|p| p.to_string_lossy().ends_with(".incr.aof"))
        .expect("the incremental file is there");
    let bytes = std::fs::read(&incr).expect("it can be read");
    std::fs::write(&incr, &bytes[..bytes.len() - 5]).expect("it can be cut");
    s.restart();
    assert_eq!(s.call("SMARTCACHE.GET a").text(), "v");
    assert!(s.call("SMARTCACHE.GET b").is_nil());
}

#[test]
fn stores_of_scripts_are_in_it() {
    let mut s = Server::with(BOTH[0]);
    s.ok("EVAL \"redis.call('SMARTCACHE.SET', KEYS[1], 'v') redis.call('SMARTCACHE.ABSENT', KEYS[2])\" 2 a b");
    let keys = ["a".to_owned(), "b".to_owned()];
    let before = picture(&s, &keys);
    s.restart();
    assert_unchanged(&s, &keys, &before);
}

#[test]
fn invalidated_entries_stay_invalidated() {
    for conf in BOTH {
        for rewritten in [false, true] {
            let mut s = Server::with(conf);
            s.ok("CONFIG SET smartcache.sweep-effort 0");
            s.ok("SMARTCACHE.MSET 2 a v b v TAGS 1 t SWR 100");
            s.ok("SMARTCACHE.SET c v TAGS 1 u");
            let mut one = s.connect();
            one.call("SELECT 1");
            one.call("SMARTCACHE.SET d v");
            one.call("SMARTCACHE.INVALIDATE ALL GUARD 1000");
            s.ok("SMARTCACHE.INVALIDATE TAGS 1 t SOFT");
            s.ok("SMARTCACHE.INVALIDATE TAGS 1 u");
            s.ok("SMARTCACHE.SET b w TAGS 1 t");
            let reads = ["SMARTCACHE.MGET a b c", "SMARTCACHE.GET a STALE", "SMARTCACHE.GET c STALE"];
            let expected = reads.map(|line| s.call(line).to_string());
            if rewritten {
                rewrite(&s);
                let has_marks = || commands(&s).iter().any(|words| words[0] == b"SMARTCACHE.MARK");
                if conf.contains("preamble no") {
                    wait_until("the marks are emitted again", has_marks);
                } else {
                    s.ok("SMARTCACHE.SET e v");
                    assert!(!has_marks(), "they are in the preamble");
                }
            }
            s.restart();
            assert_eq!(reads.map(|line| s.call(line).to_string()), expected, "{conf}, rewritten: {rewritten}");
            let mut one = s.connect();
            one.call("SELECT 1");
            assert!(one.call("SMARTCACHE.GET d").is_nil());
            let token = one.getlock("d").token().to_owned();
            assert_eq!(
                one.call(&format!("SMARTCACHE.SET d v TOKEN {token}")).text(),
                "STALE",
                "the guard still applies"
            );
        }
    }
}

/// `docs/operations.md`, "Taking it out".
#[test]
fn once_the_cache_is_empty_its_files_load_without_the_module() {
    // Invalidations of two minutes ago. (That they are kept for a minute the core's tests show.)
    let then = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970").as_micros() - 120_000_000;
    let mut aged = resp::encode(args!["SELECT", "0"]);
    for (kind, what) in [("HARD", vec!["TAGS", "t"]), ("SOFT", vec!["PREFIXES", "k"]), ("HARD", vec!["ALL"])] {
        let head = ["SMARTCACHE.MARK", &then.to_string(), &(then / 1_000).to_string(), "0", kind, "0"];
        let words = head.into_iter().chain(what).collect::<Vec<_>>();
        aged.extend(resp::encode(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()));
    }
    for conf in BOTH {
        let s = Server::setup().conf(conf).file("appendonly.aof", &aged).start();
        let leaves_nothing = s.since((7, 2), (7, 2)) || conf.ends_with("no"); // 7.0 writes a section in any case
        s.ok("SET plain v");
        s.ok("SMARTCACHE.SET k v TAGS 1 t");
        s.ok("SMARTCACHE.RULE SET r MATCH *");
        s.ok("SMARTCACHE.DEL k");
        s.ok("SMARTCACHE.RULE DEL r");
        let holds = |file: &str| s.read_file(file).windows(10).any(|part| part.eq_ignore_ascii_case(b"smartcache"));
        if s.since((7, 2), (7, 2)) {
            wait_until("everything is forgotten", || {
                s.ok("SAVE");
                !holds("dump.rdb")
            });
            let bare = Server::setup().without_module().file("dump.rdb", &s.read_file("dump.rdb")).start();
            assert_eq!(bare.call("GET plain").text(), "v");
        } else {
            std::thread::sleep(std::time::Duration::from_secs(1)); // ten turns of the cron
        }
        if !leaves_nothing {
            continue;
        }
        rewrite(&s);
        s.ok("SET later v");
        let mut files = Server::setup().conf(conf).without_module();
        for file in std::fs::read_dir(s.path("appendonlydir")).expect("the server has an AOF") {
            let name = file.expect("an entry of the directory").file_name().into_string().expect("a plain name");
            let path = format!("appendonlydir/{name}");
            assert!(!holds(&path), "{conf}: {path}");
            files = files.file(&path, &s.read_file(&path));
        }
        let bare = files.start();
        assert_eq!((bare.call("GET plain").text(), bare.call("GET later").text()), ("v".into(), "v".into()), "{conf}");
    }
}

#[test]
fn thousands_of_marks_are_emitted_in_batches_after_a_rewrite() {
    const TAGS: usize = 3_000;
    let mut s = Server::with(&format!("{}\nsmartcache.sweep-effort 0", BOTH[0].replace("always", "no")));
    let mut conn = s.connect();
    let keys: Vec<_> = (0..TAGS).map(|n| format!("k:{n}")).collect();
    let mut all = Vec::new();
    for key in &keys {
        all.extend(resp::encode(args!["SMARTCACHE.SET", key, "v", "SWR", "9000", "TAGS", "1", key]));
        all.extend(resp::encode(args!["SMARTCACHE.INVALIDATE", "TAGS", "1", key]));
    }
    conn.send_raw(&all).expect("it is sent");
    (0..2 * TAGS).for_each(|_| assert!(!conn.receive().expect("an answer").is_error()));
    rewrite(&s);
    let marks = || commands(&s).iter().flatten().filter(|word| word.ends_with(b"MARK")).count();
    wait_until("each mark is emitted again", || marks() >= TAGS);
    s.restart();
    let mut conn = s.connect();
    for key in keys {
        assert!(conn.call(&format!("SMARTCACHE.GET {key} STALE")).is_nil(), "{key}");
    }
}

#[test]
fn entries_that_were_dead_at_a_rewrite_can_be_renamed_later() {
    for conf in BOTH {
        let mut s = Server::with(&format!("{conf}\nsmartcache.sweep-effort 0"));
        s.ok("SMARTCACHE.MSET 3 a v b v c v TAGS 1 t SWR 100");
        s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
        s.ok("SMARTCACHE.MSET 3 renamed v copied v moved v");
        rewrite(&s);
        s.ok("RENAME a renamed");
        s.ok("COPY b copied REPLACE");
        s.ok("MOVE c 1");
        s.restart();
        assert!(!s.log().contains("CRITICAL"), "{conf}: a command of the file failed");
        assert!(s.call("SMARTCACHE.GET renamed STALE").is_nil(), "{conf}");
        assert!(s.call("SMARTCACHE.GET copied STALE").is_nil(), "{conf}");
        s.ok("SELECT 1");
        assert!(s.call("SMARTCACHE.GET c STALE").is_nil(), "{conf}");
    }
}
