//! The server's view of our commands: flags, arity, keys, docs.

use super::commands::COMMANDS;
use crate::support::{Reply, Server};

fn flags(s: &Server, name: &str) -> Vec<String> {
    let info = s.ok(&format!("COMMAND INFO {name}"));
    info.array()[0].array()[2].texts()
}

#[test]
fn reads_are_readonly_and_writes_are_write() {
    let s = Server::start();
    for (name, kind, fast) in [
        ("get", "readonly", true),
        ("mget", "readonly", true),
        ("missing", "readonly", false),
        ("inspect", "readonly", false),
        ("stats", "readonly", false),
        ("set", "write", true),
        ("mset", "write", false),
        ("absent", "write", false),
        ("touch", "write", true),
        ("del", "write", false),
        ("stale", "write", false),
    ] {
        let flags = flags(&s, &format!("smartcache.{name}"));
        let other = if kind == "write" { "readonly" } else { "write" };
        assert!(flags.iter().any(|f| f == kind), "{name} is not {kind}: {flags:?}");
        assert!(!flags.iter().any(|f| f == other), "{name} is {other}: {flags:?}");
        assert!(!fast || flags.iter().any(|f| f == "fast"), "{name} is not fast: {flags:?}");
    }
    // Leases change no data: they must work under MISCONF, NOREPLICAS, CLIENT PAUSE WRITE and OOM.
    for name in ["getlock", "unlock", "extend"] {
        let flags = flags(&s, &format!("smartcache.{name}"));
        assert!(!flags.iter().any(|f| ["readonly", "write", "denyoom"].contains(&f.as_str())), "{name}: {flags:?}");
        assert_eq!(flags.iter().any(|f| f == "blocking"), name == "getlock");
    }
    assert!(flags(&s, "smartcache.mset").iter().any(|f| f == "denyoom"), "MSET allocates");
    for name in ["set", "absent"] {
        let flags = flags(&s, &format!("smartcache.{name}"));
        assert!(
            !flags.iter().any(|f| f == "denyoom"),
            "{name} checks memory itself, because a token must be spent even then"
        );
    }
}

#[test]
fn every_command_exists_and_test_commands_do_not() {
    let s = Server::start();
    for name in COMMANDS {
        assert!(!s.ok(&format!("COMMAND INFO {name}")).array()[0].is_nil(), "{name} does not exist");
    }
    assert!(s.ok("COMMAND INFO SMARTCACHE.PANIC").array()[0].is_nil());
    assert!(s.call("SMARTCACHE.PANIC").error().starts_with("ERR unknown command"));
}

#[test]
fn docs_have_a_summary_and_arguments() {
    let s = Server::start();
    for name in COMMANDS {
        let docs = s.ok(&format!("COMMAND DOCS {name}"));
        let docs = docs.field(&name.to_lowercase());
        assert!(!docs.field("summary").text().is_empty(), "{name} has no summary");
        assert!(!docs.field("since").text().is_empty(), "{name} has no since");
        assert!(!docs.field("complexity").text().is_empty() || name.ends_with("RULE"), "{name} has no complexity");
    }
    let getlock = s.ok("COMMAND DOCS smartcache.getlock").to_string();
    for word in ["LOCK", "WAIT", "OWNER", "BETA", "ACCEPT"] {
        assert!(getlock.contains(&format!("\"{word}\"")), "{word} is not in the docs of GETLOCK:\n{getlock}");
    }
    let set = s.ok("COMMAND DOCS smartcache.set").to_string();
    for word in
        ["TTL", "EX", "PX", "EXAT", "PXAT", "PERSIST", "SWR", "SIE", "NX", "XX", "TAGS", "CODEC", "TOKEN", "SINCE"]
    {
        assert!(set.contains(&format!("\"{word}\"")), "{word} is not in the docs of SET:\n{set}");
    }
}

#[test]
fn keys_are_found() {
    let s = Server::start();
    for (line, keys) in [
        ("SMARTCACHE.GET k STALE STATE", &["k"][..]),
        ("SMARTCACHE.MGET a b c", &["a", "b", "c"]),
        ("SMARTCACHE.SET k v TAGS 2 a b TTL 5", &["k"]),
        ("SMARTCACHE.MSET 2 a v b w TAGS 1 t", &["a", "b"]),
        ("SMARTCACHE.ABSENT k TTL 5", &["k"]),
        ("SMARTCACHE.TOUCH k TTL 5", &["k"]),
        ("SMARTCACHE.DEL a b", &["a", "b"]),
        ("SMARTCACHE.STALE a b", &["a", "b"]),
        ("SMARTCACHE.MISSING a b", &["a", "b"]),
        ("SMARTCACHE.INSPECT k", &["k"]),
        ("SMARTCACHE.GETLOCK k LOCK 5 WAIT 5 OWNER me", &["k"]),
        ("SMARTCACHE.UNLOCK k token BACKOFF 5", &["k"]),
        ("SMARTCACHE.EXTEND k token 5", &["k"]),
        ("SMARTCACHE.SET k v TOKEN t", &["k"]),
    ] {
        assert_eq!(s.ok(&format!("COMMAND GETKEYS {line}")).texts(), keys, "{line}");
    }
}

#[test]
fn the_access_to_keys_is_declared() {
    let s = Server::start();
    for (line, wanted, never) in [
        ("SMARTCACHE.GET k", "RO", "RW"),
        ("SMARTCACHE.MGET k", "RO", "RW"),
        ("SMARTCACHE.INSPECT k", "RO", "RW"),
        ("SMARTCACHE.MISSING k", "RO", "RW"),
        ("SMARTCACHE.SET k v", "update", "access"),
        ("SMARTCACHE.MSET 1 k v", "update", "access"),
        ("SMARTCACHE.ABSENT k", "update", "access"),
        ("SMARTCACHE.DEL k", "delete", "access"),
        ("SMARTCACHE.GETLOCK k", "access", "RO"),
        ("SMARTCACHE.GETLOCK k", "update", "OW"),
        ("SMARTCACHE.UNLOCK k t", "RW", "RO"),
        ("SMARTCACHE.EXTEND k t 5", "RW", "RO"),
    ] {
        let reply = s.ok(&format!("COMMAND GETKEYSANDFLAGS {line}"));
        let flags = reply.array()[0].array()[1].texts();
        // A store over an old value may be declared OW or RW: both are writes without access.
        let declared = |f: &str| flags.iter().any(|x| x.eq_ignore_ascii_case(f));
        let fits = declared(wanted) || (wanted == "update" && declared("OW"));
        assert!(fits && !declared(never), "{line}: {flags:?}");
    }
}

#[test]
fn a_wrong_number_of_arguments_is_refused_for_each_command() {
    let s = Server::start();
    for line in [
        "GET",
        "MGET",
        "SET",
        "SET k",
        "MSET",
        "MSET 1",
        "MSET 1 k",
        "ABSENT",
        "TOUCH",
        "DEL",
        "STALE",
        "MISSING",
        "INSPECT",
        "INSPECT a b",
        "GETLOCK",
        "UNLOCK",
        "UNLOCK k",
        "EXTEND",
        "EXTEND k t",
        "EXTEND k t 5 x",
        "STAMP x",
        "RESETSTAT x",
        "RULE",
        "RULE GET",
        "RULE GET a b",
        "RULE DEL",
        "RULE LIST x",
        "RULE EXPLAIN",
        "RULE SET",
        "RULE SET r",
    ] {
        let reply = s.call(&format!("SMARTCACHE.{line}"));
        let error = reply.error();
        let name = line.split(' ').next().unwrap_or_default().to_lowercase();
        assert!(error.starts_with("ERR wrong number of arguments for 'smartcache."), "{line}\n{reply}");
        assert!(error.contains(&name), "{line}\n{reply}");
    }
}

#[test]
fn the_server_lists_the_module_and_its_commands() {
    let s = Server::start();
    let modules = s.ok("MODULE LIST");
    let ours = modules.array().iter().find(|module| module.field("name").text() == "smartcache").expect("it is listed");
    let version = env!("CARGO_PKG_VERSION");
    let number = version.split('.').fold(0, |number, part| 100 * number + part.parse::<i64>().expect("a number"));
    assert_eq!(ours.field("ver").int(), number);
    assert_eq!(s.info("smartcache_version"), version);
    let names = s.ok("COMMAND LIST FILTERBY MODULE smartcache").texts();
    for command in COMMANDS {
        assert!(names.contains(&command.to_lowercase()), "{command} is not in {names:?}");
    }
}

#[test]
fn an_unknown_subcommand_is_refused() {
    let reply = Server::start().call("SMARTCACHE.RULE BOGUS");
    assert!(reply.error().to_lowercase().contains("bogus"), "{reply}");
}

#[test]
fn subcommands_are_true_subcommands() {
    let s = Server::start();
    for name in ["set", "del", "get", "list", "explain"] {
        let info = s.ok(&format!("COMMAND INFO smartcache.rule|{name}"));
        assert_ne!(info.array()[0], Reply::Nil, "smartcache.rule|{name}");
    }
}
