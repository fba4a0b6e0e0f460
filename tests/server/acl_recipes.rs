//! The users of `docs/operations.md`: each `ACL SETUSER` line of the page is applied as it stands there, and the user
//! may do what it is for, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::{Conn, Server};

/// What each user of the page may do, and what not.
const USERS: &[(&str, &[&str], &[&str])] = &[
    (
        "reader",
        &[
            "SMARTCACHE.GET app:1",
            "SMARTCACHE.MGET app:1 app:2",
            "SMARTCACHE.MISSING app:1",
            "SMARTCACHE.INSPECT app:1",
        ],
        &["SMARTCACHE.GET other", "SMARTCACHE.SET app:1 w", "SMARTCACHE.GETLOCK app:1", "SMARTCACHE.DEL app:1"],
    ),
    (
        "application",
        &[
            "SMARTCACHE.GETLOCK app:7 WAIT 1",
            "SMARTCACHE.SET app:1 v TAGS 1 app:t",
            "SMARTCACHE.MSET 1 app:1 v SINCE x",
            "SMARTCACHE.ABSENT app:2",
            "SMARTCACHE.TOUCH app:1",
            "SMARTCACHE.GET app:1",
            "SMARTCACHE.MGET app:1 app:2",
            "SMARTCACHE.MISSING app:1 app:2",
            "SMARTCACHE.INSPECT app:1",
            "SMARTCACHE.STAMP",
            "SMARTCACHE.UNLOCK app:7 x",
            "SMARTCACHE.EXTEND app:7 x 1s",
            "SMARTCACHE.STALE app:1",
            "SMARTCACHE.DEL app:1",
        ],
        &[
            "SMARTCACHE.GETLOCK other",
            "SMARTCACHE.SET other v",
            "SMARTCACHE.DEL app:1 other",
            "SMARTCACHE.INVALIDATE TAGS 1 app:t",
            "SMARTCACHE.PREVIEW TAGS 1 app:t",
            "SMARTCACHE.RULE LIST",
            "SMARTCACHE.STATS",
            "SMARTCACHE.HOTKEYS",
            "GET app:1",
        ],
    ),
    (
        "worker",
        &[
            "SMARTCACHE.MISSING app:1 app:2",
            "SMARTCACHE.STAMP",
            "SMARTCACHE.MSET 2 app:1 v app:2 v SINCE x",
            "SMARTCACHE.GETLOCK app:7",
            "SMARTCACHE.SET app:1 v",
            "SMARTCACHE.ABSENT app:2",
            "SMARTCACHE.UNLOCK app:7 x BACKOFF 1s",
            "SMARTCACHE.EXTEND app:7 x 1s",
        ],
        &[
            "SMARTCACHE.DEL app:1",
            "SMARTCACHE.STALE app:1",
            "SMARTCACHE.TOUCH app:1",
            "SMARTCACHE.SET other v",
            "SMARTCACHE.INVALIDATE TAGS 1 app:t",
            "SMARTCACHE.STATS",
        ],
    ),
    (
        "filler",
        &["SMARTCACHE.SET app:1 v", "SMARTCACHE.ABSENT app:2", "SMARTCACHE.DEL app:2"],
        &["SMARTCACHE.GET app:1", "SMARTCACHE.INSPECT app:1", "SMARTCACHE.SET other v"],
    ),
    (
        "invalidator",
        &["SMARTCACHE.INVALIDATE TAGS 1 app:t", "SMARTCACHE.INVALIDATE TAGS 2 app:t app:u SOFT OVER 1m"],
        &[
            "SMARTCACHE.INVALIDATE TAGS 1 other",
            "SMARTCACHE.INVALIDATE TAGS 2 app:t other",
            "SMARTCACHE.INVALIDATE PREFIXES 1 app:",
            "SMARTCACHE.INVALIDATE PATTERNS 1 app:*",
            "SMARTCACHE.INVALIDATE ALL",
            "SMARTCACHE.PREVIEW TAGS 1 app:t",
            "SMARTCACHE.GET app:1",
            "SMARTCACHE.DEL app:1",
        ],
    ),
    (
        "previewer",
        &["SMARTCACHE.PREVIEW TAGS 1 app:t"],
        &["SMARTCACHE.PREVIEW TAGS 1 other", "SMARTCACHE.PREVIEW ALL", "SMARTCACHE.INVALIDATE TAGS 1 app:t"],
    ),
    (
        "viewer",
        &[
            "SMARTCACHE.STATS RULES",
            "SMARTCACHE.HEALTH",
            "SMARTCACHE.HELP",
            "SMARTCACHE.RULE LIST",
            "SMARTCACHE.RULE GET r",
            "SMARTCACHE.RULE EXPLAIN app:1",
            "SMARTCACHE.HOTKEYS",
            "INFO smartcache",
        ],
        &[
            "SMARTCACHE.RULE SET r MATCH *",
            "SMARTCACHE.RULE DEL r",
            "SMARTCACHE.RESETSTAT",
            "SMARTCACHE.GET app:1",
            "SMARTCACHE.INVALIDATE ALL",
            "CONFIG GET smartcache.*",
        ],
    ),
    (
        "operator",
        &[
            "SMARTCACHE.RULE SET r2 MATCH x:*",
            "SMARTCACHE.RULE DEL r2",
            "SMARTCACHE.RULE LIST",
            "SMARTCACHE.STATS",
            "SMARTCACHE.HEALTH",
            "SMARTCACHE.RESETSTAT",
            "CONFIG GET smartcache.*",
            "CONFIG SET smartcache.beta 1",
            "INFO",
        ],
        &["SMARTCACHE.GET app:1", "SMARTCACHE.SET app:1 v", "SMARTCACHE.INVALIDATE ALL", "CONFIG REWRITE", "SHUTDOWN"],
    ),
    (
        "exporter",
        &["INFO", "CONFIG GET maxmemory", "SLOWLOG LEN", "LATENCY LATEST", "SMARTCACHE.STATS RULES PROMETHEUS"],
        &[
            "SMARTCACHE.HOTKEYS",
            "SMARTCACHE.RESETSTAT",
            "SMARTCACHE.RULE LIST",
            "SMARTCACHE.GET app:1",
            "CONFIG SET maxmemory 0",
        ],
    ),
    (
        "by-category",
        &[
            "SMARTCACHE.GETLOCK app:8",
            "SMARTCACHE.SET app:1 v",
            "SMARTCACHE.GET app:1",
            "SMARTCACHE.STATS",
            "GET app:9",
        ],
        &[
            "SMARTCACHE.SET other v",
            "SMARTCACHE.RULE SET r MATCH *",
            "SMARTCACHE.HOTKEYS",
            "SMARTCACHE.INVALIDATE ALL",
            "SCAN 0",
            "RANDOMKEY",
            "KEYS *",
        ],
    ),
];

/// What clients send when they connect, and the tools' pings, beside `HELLO` and `AUTH`, which everybody may.
const CONNECTING: &[&str] = &["PING", "CLIENT SETNAME x", "CLIENT SETINFO LIB-NAME x", "SELECT 0"];

/// The lines of the page, by user.
fn lines() -> BTreeMap<String, String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).expect("the page");
    let lines = page.lines().filter_map(|line| {
        let name = line.strip_prefix("ACL SETUSER ")?.split(' ').next()?;
        Some((name.to_owned(), line.to_owned()))
    });
    lines.collect()
}

fn server() -> Server {
    let s = Server::start();
    s.ok("SMARTCACHE.SET app:1 v TAGS 1 app:t");
    s.ok("SMARTCACHE.SET other v TAGS 1 app:t");
    s.ok("SMARTCACHE.RULE SET r MATCH r:*");
    s
}

/// The line that makes this user, for this server.
pub(crate) fn line(s: &Server, name: &str) -> String {
    let line = lines().remove(name).unwrap_or_else(|| panic!("the page has no user {name}"));
    // The page says to leave it out there.
    if s.since((7, 2), (7, 2)) { line } else { line.replace(" +client|setinfo", "") }
}

#[track_caller]
fn login(s: &Server, name: &str) -> Conn {
    s.ok(&line(s, name));
    let mut conn = s.connect();
    assert_eq!(conn.call(&format!("AUTH {name} password")).text(), "OK");
    conn
}

#[test]
fn every_user_of_the_page_may_do_what_it_is_for_and_nothing_else() {
    let s = server();
    let lines = lines();
    let mut tried: Vec<_> = USERS.iter().map(|(name, ..)| *name).collect();
    tried.sort_unstable();
    assert!(lines.keys().eq(tried.iter()), "{:?}", lines.keys());
    for (name, may, may_not) in USERS {
        if *name == "by-category" && !s.since((7, 2), (7, 2)) {
            continue;
        }
        let mut conn = login(&s, name);
        for line in CONNECTING {
            let reply = conn.call(line);
            let unknown_there = line.contains("SETINFO") && !s.since((7, 2), (7, 2));
            assert!(!reply.is_error() || unknown_there || *name == "exporter", "{name}: {line}\n{reply}");
        }
        for line in *may {
            let reply = conn.call(line);
            // Made-up tokens and stamps are errors of their own, or 0.
            assert!(!reply.is_error() || !reply.error().starts_with("NOPERM"), "{name}: {line}\n{reply}");
        }
        for line in *may_not {
            let reply = conn.call(line);
            assert!(reply.is_error() && reply.error().starts_with("NOPERM"), "{name}: {line}\n{reply}");
        }
    }
}

#[test]
fn names_are_shown_only_to_those_who_may_read_the_keys() {
    let s = server();
    for key in ["app:1", "other", "other", "other"] {
        s.ok(&format!("SMARTCACHE.GET {key}"));
    }
    let hot = |rules: &str| -> Vec<String> {
        s.ok(&format!("ACL SETUSER ada reset on nopass {rules} +smartcache.hotkeys"));
        let mut ada = s.connect();
        ada.call("AUTH ada x");
        ada.call("SMARTCACHE.HOTKEYS COUNT 1").array().iter().map(|key| key.field("key").text()).collect()
    };
    assert_eq!(hot("~*"), ["other"]);
    assert_eq!(hot("%R~app:*"), ["app:1"], "what is left out does not count");
    assert!(hot("%W~*").is_empty() && hot("").is_empty(), "to write is not to read");
    let script = s.call_args(&[b"EVAL", b"return #redis.call('SMARTCACHE.HOTKEYS')", b"0"]);
    assert_eq!(script.int(), 2);

    let sample = |keys: &str| -> Vec<String> {
        s.ok(&format!("ACL SETUSER eve reset on nopass %R~smartcache:tag:* {keys} +smartcache.preview"));
        let mut eve = s.connect();
        eve.call("AUTH eve x");
        let preview = eve.call("SMARTCACHE.PREVIEW TAGS 1 app:t");
        assert_eq!(preview.field("entries").int(), 2);
        preview.field("sample").array().iter().map(|key| key.text()).collect()
    };
    assert!(sample("").is_empty());
    assert_eq!(sample("%R~app:*"), ["app:1"]);
    assert_eq!(sample("~*").len(), 2);
}
