//! `SMARTCACHE.HELP [command]`

use crate::support::Server;

/// The commands of this version of the module.
pub(crate) const COMMANDS: [&str; 21] = [
    "SMARTCACHE.GET",
    "SMARTCACHE.MGET",
    "SMARTCACHE.GETLOCK",
    "SMARTCACHE.SET",
    "SMARTCACHE.MSET",
    "SMARTCACHE.ABSENT",
    "SMARTCACHE.TOUCH",
    "SMARTCACHE.DEL",
    "SMARTCACHE.STALE",
    "SMARTCACHE.INVALIDATE",
    "SMARTCACHE.PREVIEW",
    "SMARTCACHE.UNLOCK",
    "SMARTCACHE.EXTEND",
    "SMARTCACHE.STAMP",
    "SMARTCACHE.MISSING",
    "SMARTCACHE.INSPECT",
    "SMARTCACHE.RULE",
    "SMARTCACHE.STATS",
    "SMARTCACHE.RESETSTAT",
    "SMARTCACHE.HOTKEYS",
    "SMARTCACHE.HEALTH",
];

#[test]
fn it_names_every_command() {
    let help = Server::start().ok("SMARTCACHE.HELP").texts().join("\n").to_uppercase();
    for command in COMMANDS.iter().chain(&["SMARTCACHE.HELP"]) {
        assert!(help.contains(command), "{command} is not in\n{help}");
    }
}

#[test]
fn it_explains_one_command_and_each_of_its_options() {
    let s = Server::start();
    for name in ["SET", "set", "SMARTCACHE.SET"] {
        let help = s.ok(&format!("SMARTCACHE.HELP {name}")).texts().join("\n").to_uppercase();
        for word in ["SMARTCACHE.SET", "TTL", "EX", "PXAT", "PERSIST", "SWR", "SIE", "NX", "XX", "TAGS", "CODEC"] {
            assert!(help.contains(word), "{word} is not in\n{help}");
        }
    }
}

#[test]
fn every_command_can_be_explained() {
    let s = Server::start();
    for command in COMMANDS {
        assert!(!s.ok(&format!("SMARTCACHE.HELP {command}")).array().is_empty());
    }
}

#[test]
fn an_unknown_command_is_named() {
    let reply = Server::start().call("SMARTCACHE.HELP nonsense");
    assert!(reply.error().starts_with("ERR") && reply.error().contains("nonsense"), "{reply}");
}
