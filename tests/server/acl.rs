//! Access control: key permissions, true subcommands, categories.

use crate::support::{Conn, Server, skip, wait_until};

/// A connection authenticated as a user with these rules.
#[track_caller]
fn login(s: &Server, rules: &str) -> Conn {
    s.ok(&format!("ACL SETUSER ada reset on nopass {rules}"));
    let mut conn = s.connect();
    assert_eq!(conn.call("AUTH ada x").text(), "OK");
    conn
}

#[track_caller]
fn allowed(conn: &mut Conn, line: &str) {
    let reply = conn.call(line);
    assert!(!reply.is_error(), "{line}\n{reply}");
}

#[track_caller]
fn refused(conn: &mut Conn, line: &str) {
    let reply = conn.call(line);
    assert!(reply.is_error() && reply.error().starts_with("NOPERM"), "{line} should be refused\n{reply}");
}

#[test]
fn a_reader_may_read_its_keys_and_nothing_else() {
    let s = Server::start();
    s.ok("SMARTCACHE.MSET 2 app:1 v other v");
    let mut ada = login(&s, "+@all %R~app:*");
    for line in [
        "SMARTCACHE.GET app:1",
        "SMARTCACHE.GET app:1 STALE STATE ACCEPT gzip",
        "SMARTCACHE.MGET app:1 app:2",
        "SMARTCACHE.MISSING app:1 app:2",
        "SMARTCACHE.INSPECT app:1",
    ] {
        allowed(&mut ada, line);
    }
    for line in [
        "SMARTCACHE.SET app:1 w",
        "SMARTCACHE.MSET 1 app:1 w",
        "SMARTCACHE.ABSENT app:1",
        "SMARTCACHE.TOUCH app:1",
        "SMARTCACHE.DEL app:1",
        "SMARTCACHE.STALE app:1",
        "SMARTCACHE.GET other",
        "SMARTCACHE.MGET app:1 other",
        "SMARTCACHE.MISSING app:1 other",
        "SMARTCACHE.INSPECT other",
        "SMARTCACHE.SET other w",
    ] {
        refused(&mut ada, line);
    }
    assert_eq!(s.call("SMARTCACHE.GET app:1").text(), "v");
}

#[test]
fn a_writer_may_write_its_keys_and_not_read_them() {
    let s = Server::start();
    let mut ada = login(&s, "+@all %W~app:*");
    for line in [
        "SMARTCACHE.SET app:1 v",
        "SMARTCACHE.MSET 2 app:1 v app:2 v TTL 10",
        "SMARTCACHE.ABSENT app:2",
        "SMARTCACHE.DEL app:2",
        "SMARTCACHE.STALE app:2",
    ] {
        allowed(&mut ada, line);
    }
    for line in [
        "SMARTCACHE.GET app:1",
        "SMARTCACHE.INSPECT app:1",
        "SMARTCACHE.MISSING app:1",
        "SMARTCACHE.SET other v",
        "SMARTCACHE.MSET 2 app:1 v other v",
        "SMARTCACHE.DEL app:1 other",
    ] {
        refused(&mut ada, line);
    }
}

#[test]
fn values_and_tags_are_not_taken_for_keys() {
    let s = Server::start();
    let mut ada = login(&s, "+@all ~app:*");
    allowed(&mut ada, "SMARTCACHE.SET app:1 other TAGS 2 other more TTL 10");
    allowed(&mut ada, "SMARTCACHE.MSET 2 app:1 other app:2 other TAGS 1 other");
}

#[test]
fn subcommands_are_granted_one_by_one() {
    let s = Server::start();
    let mut ada = login(&s, "~* +smartcache.rule|list +smartcache.rule|explain");
    allowed(&mut ada, "SMARTCACHE.RULE LIST");
    allowed(&mut ada, "SMARTCACHE.RULE EXPLAIN k");
    refused(&mut ada, "SMARTCACHE.RULE SET r MATCH *");
    refused(&mut ada, "SMARTCACHE.RULE DEL r");
    refused(&mut ada, "SMARTCACHE.GET k");

    let mut ada = login(&s, "~* +smartcache.rule -smartcache.rule|set");
    allowed(&mut ada, "SMARTCACHE.RULE GET r");
    allowed(&mut ada, "SMARTCACHE.RULE DEL r");
    refused(&mut ada, "SMARTCACHE.RULE SET r MATCH *");
}

#[test]
fn a_command_is_granted_by_name() {
    let s = Server::start();
    let mut ada = login(&s, "~* +smartcache.get +smartcache.set");
    allowed(&mut ada, "SMARTCACHE.SET k v");
    allowed(&mut ada, "SMARTCACHE.GET k");
    refused(&mut ada, "SMARTCACHE.DEL k");
}

#[test]
fn a_script_has_the_rights_of_its_user() {
    let s = Server::start();
    s.ok("SMARTCACHE.MSET 2 app:1 v other v");
    let mut ada = login(&s, "+@all %R~app:*");
    allowed(&mut ada, "EVAL_RO \"return redis.call('SMARTCACHE.GET', KEYS[1])\" 1 app:1");
    let reply = ada.call("EVAL_RO \"return redis.call('SMARTCACHE.GET', 'other')\" 1 app:1");
    assert!(reply.is_error(), "{reply}");
}

/// From `COMMAND INFO`, because `ACL CAT` omits modules on some servers.
fn categories(s: &Server, command: &str) -> Vec<String> {
    s.ok(&format!("COMMAND INFO {command}")).array()[0].array()[6].texts()
}

#[test]
fn reads_and_writes_are_in_the_servers_categories() {
    let s = Server::start();
    if !s.since((7, 2), (7, 2)) {
        skip!(s, "modules have no ACL categories there (7.2 and later have)");
    }
    for name in ["get", "mget", "missing", "inspect"] {
        let categories = categories(&s, &format!("smartcache.{name}"));
        assert!(categories.iter().any(|c| c == "@read"), "{name}: {categories:?}");
        assert!(!categories.iter().any(|c| c == "@write"), "{name}: {categories:?}");
    }
    for name in ["set", "mset", "absent", "touch", "del", "stale"] {
        let categories = categories(&s, &format!("smartcache.{name}"));
        assert!(categories.iter().any(|c| c == "@write"), "{name}: {categories:?}");
        assert!(!categories.iter().any(|c| c == "@read"), "{name}: {categories:?}");
    }
    s.ok("SMARTCACHE.SET k v");
    let mut ada = login(&s, "~* +@read");
    allowed(&mut ada, "SMARTCACHE.GET k");
    refused(&mut ada, "SMARTCACHE.SET k v");
}

#[test]
fn all_commands_are_in_a_category_of_their_own() {
    let s = Server::start();
    if !s.since((7, 4), (8, 0)) {
        skip!(s, "a module cannot add a category there (Redis 7.4, Valkey 8.0 and later can)");
    }
    for command in super::commands::COMMANDS {
        let categories = categories(&s, command);
        assert!(categories.iter().any(|c| c == "@smartcache"), "{command}: {categories:?}");
    }
    let mut ada = login(&s, "~* +@smartcache");
    allowed(&mut ada, "SMARTCACHE.SET k v");
    refused(&mut ada, "GET k");
}

#[test]
fn the_internal_command_needs_write_permission_too() {
    let s = Server::start();
    let mut ada = login(&s, "+@all %R~app:*");
    let reply = ada.call("SMARTCACHE.STORE app:1 x");
    assert!(reply.is_error(), "{reply}");
    let mut ada = login(&s, "+@all ~app:*");
    let reply = ada.call("SMARTCACHE.STORE other x");
    assert!(reply.is_error(), "{reply}");
}

#[test]
fn leases_need_read_and_write_permission_on_the_key() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET app:1 v");
    for keys in ["%R~app:*", "%W~app:*", "~other:*", "%R~app:* %W~other:*"] {
        let mut ada = login(&s, &format!("+@all {keys}"));
        for line in [
            "SMARTCACHE.GETLOCK app:1",
            "SMARTCACHE.GETLOCK app:2 WAIT 5",
            "SMARTCACHE.UNLOCK app:1 x",
            "SMARTCACHE.UNLOCK app:1 x BACKOFF 5",
            "SMARTCACHE.EXTEND app:1 x 5",
        ] {
            refused(&mut ada, line);
        }
        allowed(&mut ada, "SMARTCACHE.STAMP");
    }
    for keys in ["~app:*", "%RW~app:*", "%R~app:* %W~app:*"] {
        let mut ada = login(&s, &format!("+@all {keys}"));
        if keys == "%R~app:* %W~app:*" && ada.call("SMARTCACHE.GETLOCK app:1").is_error() {
            continue; // some servers require one pattern that grants both
        }
        allowed(&mut ada, "SMARTCACHE.GETLOCK app:1");
        allowed(&mut ada, "SMARTCACHE.UNLOCK app:1 x");
        allowed(&mut ada, "SMARTCACHE.EXTEND app:1 x 5");
        refused(&mut ada, "SMARTCACHE.GETLOCK other");
    }
    assert_eq!(s.stat("leases"), 0, "a refused caller gets no lease");
}

#[test]
fn a_lease_is_granted_and_filled_with_the_rights_for_just_that() {
    let s = Server::start();
    let mut ada = login(&s, "~app:* -@all +smartcache.getlock +smartcache.set +smartcache.unlock");
    let token = ada.getlock("app:1").token().to_owned();
    allowed(&mut ada, &format!("SMARTCACHE.SET app:1 v TOKEN {token}"));
    assert_eq!(ada.getlock("app:1").brief(), "HIT v");
    refused(&mut ada, "SMARTCACHE.STAMP");
    refused(&mut ada, "SMARTCACHE.EXTEND app:1 x 5");
}

#[test]
fn leases_are_in_the_category_of_writing_and_not_of_reading() {
    let s = Server::start();
    if !s.since((7, 2), (7, 2)) {
        skip!(s, "modules have no ACL categories there (7.2 and later have)");
    }
    for name in ["getlock", "unlock", "extend"] {
        let categories = categories(&s, &format!("smartcache.{name}"));
        assert!(categories.iter().any(|c| c == "@write"), "{name}: {categories:?}");
        assert!(!categories.iter().any(|c| c == "@read"), "{name}: {categories:?}");
    }
    assert!(categories(&s, "smartcache.stamp").iter().any(|c| c == "@read"));
    for rules in ["~* +@all -@write", "~* +@read"] {
        let mut ada = login(&s, rules);
        for line in ["SMARTCACHE.GETLOCK k", "SMARTCACHE.UNLOCK k x", "SMARTCACHE.EXTEND k x 5"] {
            refused(&mut ada, line);
        }
    }
    let mut ada = login(&s, "~* +@read +@write");
    allowed(&mut ada, "SMARTCACHE.GETLOCK k");
    allowed(&mut ada, "SMARTCACHE.STAMP");
}

#[test]
fn who_may_only_read_takes_no_lease() {
    let s = Server::start();
    for rules in ["~* -@all +@read", "~* +@all -@write -smartcache.getlock", "%R~* +@all", "%R~* +@read"] {
        let mut ada = login(&s, rules);
        for line in ["SMARTCACHE.GETLOCK k", "SMARTCACHE.GETLOCK k LOCK 10m WAIT 1m"] {
            refused(&mut ada, line);
            let script = format!("EVAL \"return redis.call('{}')\" 0", line.replace(' ', "', '"));
            let reply = ada.call(&script);
            assert!(reply.is_error(), "{script}\n{reply}");
        }
    }
    assert_eq!((s.stat("leases"), s.stat("leases_granted")), (0, 0));
}

#[test]
fn no_user_takes_more_than_its_share_of_leases_and_of_waiters() {
    let s = Server::setup().tcp().conf("smartcache.max-leases 8\nsmartcache.max-waiters 4").start();
    let mut ada = login(&s, "~* +@all");
    let last = |s: &Server| {
        let reasons = s.ok("SMARTCACHE.HEALTH").field("reasons").clone();
        let text = reasons.array().iter().find(|reason| reason.field("code").text() == "user_share");
        text.map(|reason| reason.field("text").text()).unwrap_or_default()
    };
    let refused_to = |s: &Server, name: &str| assert!(last(s).contains(&format!("was '{name}'.")), "{}", last(s));
    for i in 0..4 {
        assert_eq!(ada.getlock(&format!("a{i}")).brief(), "MISS +");
    }
    assert_eq!((s.stat("user_share_refused"), last(&s)), (0, String::new()));
    assert_eq!(ada.getlock("a4").brief(), "BUSY");
    refused_to(&s, "ada");
    let mut other = s.connect();
    assert_eq!(other.call("AUTH ada x").text(), "OK");
    assert_eq!(other.getlock("a4").brief(), "BUSY", "whatever the connection");
    let script = "EVAL \"return redis.call('SMARTCACHE.GETLOCK', KEYS[1])\" 1 a4";
    assert_eq!(ada.call(script).array()[0].text(), "BUSY", "in scripts too");

    // The default user counts by address, for which the unix socket is one.
    for i in 0..2 {
        assert_eq!(s.getlock(&format!("b{i}")).brief(), "MISS +");
        assert_eq!(s.connect_tcp().getlock(&format!("c{i}")).brief(), "MISS +", "the address, whatever the port");
    }
    let mut waiters = s.park(2, |_| "a0 WAIT 60".to_owned());
    assert_eq!(s.getlock("a0 WAIT 60").brief(), "BUSY");
    refused_to(&s, "default at the unix socket");
    let mut far: Vec<_> = (0..2).map(|_| s.connect_tcp()).collect();
    far.iter_mut().for_each(|conn| conn.send_getlock("a0 WAIT 60"));
    s.wait_for_waiters(4);
    s.ok("CONFIG SET smartcache.max-waiters 5");
    assert_eq!(s.connect_tcp().getlock("a0 WAIT 60").brief(), "BUSY");
    refused_to(&s, "default at 127.0.0.1");
    s.ok("SMARTCACHE.SET a0 v");
    for conn in waiters.iter_mut().chain(&mut far) {
        assert_eq!(conn.got().brief(), "HIT v");
    }
    assert_eq!(ada.getlock("a4").brief(), "MISS +", "a lease of ada's has ended");
    assert_eq!(s.stat("user_share_refused"), 5);
    s.ok("FLUSHALL");
    s.assert_quiet();
}

#[test]
fn a_waiter_whose_permission_is_taken_away_gets_neither_value_nor_lease() {
    let s = Server::start();
    let revoked = ["resetkeys", "resetkeys %R~k", "-smartcache.getlock", "-@all", "resetkeys ~other"];
    for (nth, rules) in revoked.into_iter().enumerate() {
        for end in ["SET", "UNLOCK"] {
            let token = s.getlock("k").token().to_owned();
            let mut ada = login(&s, "~* +@all");
            ada.send_getlock("k WAIT 60");
            s.wait_for_waiters(1);
            let mut other = s.connect();
            other.send_getlock("k WAIT 60");
            s.wait_for_waiters(2);
            s.ok(&format!("ACL SETUSER ada {rules}"));
            s.ok(&format!("SMARTCACHE.{end} k {}", if end == "SET" { format!("v TOKEN {token}") } else { token }));
            let reply = ada.receive().expect("a reply");
            assert!(reply.is_error() && reply.error().starts_with("NOPERM"), "{rules}, {end}\n{reply}");
            refused(&mut ada, "SMARTCACHE.GETLOCK k");
            assert_eq!(other.got().brief(), if end == "SET" { "HIT v" } else { "MISS +" }, "{rules}");
            s.ok("SMARTCACHE.DEL k");
            assert_eq!(s.stat("leases_voided") as usize, 2 * nth + if end == "SET" { 0 } else { 2 }, "{rules}, {end}");
        }
    }
    s.assert_quiet();
}

#[test]
fn who_waits_for_the_sweep_is_told_nothing_when_its_permission_is_taken_away() {
    let s = Server::with("smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    for (line, rules) in [
        ("SMARTCACHE.INVALIDATE TAGS 1 t WAIT 1", "resetkeys"),
        ("SMARTCACHE.INVALIDATE TAGS 1 t WAIT 1", "resetkeys %R~*"),
        ("SMARTCACHE.INVALIDATE SOFT WAIT 1 ALL", "resetkeys ~k"),
        ("SMARTCACHE.INVALIDATE TAGS 1 t WAIT 1", "-smartcache.invalidate"),
    ] {
        let mut ada = login(&s, "~* +@all");
        let line: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        ada.send(&line).expect("it is sent");
        wait_until("it waits", || s.info("blocked_clients") == "1");
        s.ok(&format!("ACL SETUSER ada {rules}"));
        let reply = ada.receive().expect("a reply");
        assert!(reply.is_error() && reply.error().starts_with("NOPERM"), "{rules}\n{reply}");
    }
}

#[test]
fn a_user_deleted_while_waiting_is_disconnected() {
    let s = Server::start();
    let token = s.getlock("k").token().to_owned();
    let mut ada = login(&s, "~* +@all");
    ada.send_getlock("k WAIT 60");
    s.wait_for_waiters(1);
    s.ok("ACL DELUSER ada");
    assert!(ada.receive().is_err(), "the connection is closed");
    s.wait_for_waiters(0);
    assert_eq!(s.fill("k", "v", &token), "OK");
    s.assert_quiet();
}

#[test]
fn invalidating_a_tag_needs_write_permission_on_its_pseudo_key_and_all_on_all_keys() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v TAGS 2 app:1 other");
    let mut ada = login(&s, "+@all ~app:* %W~smartcache:tag:app:*");
    allowed(&mut ada, "SMARTCACHE.INVALIDATE TAGS 1 app:2");
    refused(&mut ada, "SMARTCACHE.INVALIDATE TAGS 2 app:1 other");
    refused(&mut ada, "SMARTCACHE.INVALIDATE ALL");
    let error = ada.call("SMARTCACHE.INVALIDATE TAGS 1 other");
    assert!(error.error().contains("smartcache:tag:other"), "{error}");
    let script = ada.call_args(&[b"EVAL", b"return redis.call('SMARTCACHE.INVALIDATE', 'ALL')", b"0"]);
    assert!(script.is_error(), "{script}");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
    let mut reader = login(&s, "+@all %R~*");
    refused(&mut reader, "SMARTCACHE.INVALIDATE TAGS 1 other");
    refused(&mut reader, "SMARTCACHE.INVALIDATE ALL");
    let mut writer = login(&s, "+@all %W~*");
    allowed(&mut writer, "SMARTCACHE.INVALIDATE ALL");
}

#[test]
fn invalidating_a_prefix_needs_permission_on_its_keys_and_a_pattern_on_all_keys() {
    let s = Server::start();
    // Servers that cannot check all keys under a prefix require permission on all keys.
    let prefix_permissions = s.since((8, 0), (9, 1));
    for rules in ["+@all ~app:*", "+@all %W~app:*", "+@all ~a* %R~*", "+@all ~other:* ~app:*"] {
        let mut ada = login(&s, rules);
        for what in ["PREFIXES 1 app:", "PREFIXES 2 app:1 app:2"] {
            match prefix_permissions {
                true => allowed(&mut ada, &format!("SMARTCACHE.INVALIDATE {what}")),
                false => refused(&mut ada, &format!("SMARTCACHE.INVALIDATE {what}")),
            }
        }
        for what in ["PREFIXES 1 b", "PREFIXES 2 app:1 b:", "PATTERNS 1 app:*", "PATTERNS 1 app:1", "ALL"] {
            refused(&mut ada, &format!("SMARTCACHE.INVALIDATE {what}"));
            refused(&mut ada, &format!("SMARTCACHE.INVALIDATE {what} SOFT OVER 5 WAIT 1"));
        }
    }
    for rules in ["+@all %R~*", "+@all", "+@all ~app:1"] {
        let mut ada = login(&s, rules);
        for what in ["PREFIXES 1 app:", "PATTERNS 1 *", "ALL"] {
            refused(&mut ada, &format!("SMARTCACHE.INVALIDATE {what}"));
        }
    }
    for rules in ["+@all ~*", "+@all %W~*", "+@all ~a ~* "] {
        let mut ada = login(&s, rules.trim());
        for what in ["PREFIXES 1 app:", "PATTERNS 1 *", "ALL", "TAGS 1 any"] {
            allowed(&mut ada, &format!("SMARTCACHE.INVALIDATE {what}"));
        }
    }
    let mut ada = login(&s, "~app:* +@all");
    let error = ada.call("SMARTCACHE.INVALIDATE PREFIXES 1 other:");
    let wanted = if prefix_permissions { "begin with" } else { "all keys" };
    assert!(error.error().contains(wanted), "{error}");
    let error = ada.call("SMARTCACHE.INVALIDATE PATTERNS 1 app:*");
    assert!(error.error().contains("all keys"), "{error}");
}

#[test]
fn blocking_commands_are_in_the_blocking_category_and_do_not_block_in_scripts() {
    let s = Server::start();
    s.ok("MULTI");
    s.ok("SMARTCACHE.INVALIDATE ALL WAIT 60");
    assert_eq!(s.call("EXEC").array()[0].int(), 0);
    let script = s.call_args(&[b"EVAL", b"return redis.call('SMARTCACHE.INVALIDATE', 'ALL', 'WAIT', '60')", b"0"]);
    assert_eq!(script.int(), 0);
    if !s.since((7, 2), (7, 2)) {
        skip!(s, "modules have no ACL categories there (7.2 and later have)");
    }
    let mut ada = login(&s, "~* +@all -@blocking");
    for line in ["XREAD STREAMS k 0", "SMARTCACHE.INVALIDATE ALL", "SMARTCACHE.GETLOCK k", "SMARTCACHE.PREVIEW ALL"] {
        refused(&mut ada, line);
    }
    let mut ada = login(&s, "~* +@all -@blocking +smartcache.invalidate");
    allowed(&mut ada, "SMARTCACHE.INVALIDATE ALL");
}

#[test]
fn preview_needs_read_permission_on_what_it_names() {
    let s = Server::start();
    s.ok("SMARTCACHE.MSET 2 app:1 v other:1 v TAGS 1 app:t");
    let mut ada = login(&s, "+@all ~app:* %R~smartcache:tag:app:*");
    allowed(&mut ada, "SMARTCACHE.PREVIEW TAGS 1 app:t");
    for (what, missing) in [
        ("TAGS 2 app:t other", "read permission on the key smartcache:tag:other"),
        ("PATTERNS 1 app:*", "read permission on all keys"),
        ("ALL", "read permission on all keys"),
    ] {
        let error = ada.call(&format!("SMARTCACHE.PREVIEW {what}"));
        assert_eq!(error.error(), format!("NOPERM this user has no {missing}"));
    }
    let prefix_permissions = s.since((8, 0), (9, 1));
    for rules in ["+@all ~app:*", "+@all %R~app:*", "+@all ~other:* %R~a*", "+@all %W~* %R~app:*"] {
        let mut ada = login(&s, rules);
        match prefix_permissions {
            true => allowed(&mut ada, "SMARTCACHE.PREVIEW PREFIXES 1 app:"),
            false => refused(&mut ada, "SMARTCACHE.PREVIEW PREFIXES 1 app:"),
        }
        refused(&mut ada, "SMARTCACHE.PREVIEW PREFIXES 2 app: b");
    }
    for rules in ["+@all", "+@all %W~*", "+@all %W~smartcache:tag:*"] {
        let mut ada = login(&s, rules);
        for what in ["TAGS 1 app:t", "PREFIXES 1 app:", "PATTERNS 1 *", "ALL"] {
            refused(&mut ada, &format!("SMARTCACHE.PREVIEW {what}"));
        }
    }
    for rules in ["+@all ~*", "+@all %R~*", "+@all %RW~*"] {
        let mut ada = login(&s, rules);
        for what in ["TAGS 1 app:t", "PREFIXES 1 app:", "PATTERNS 1 *", "ALL"] {
            allowed(&mut ada, &format!("SMARTCACHE.PREVIEW {what}"));
        }
    }
    s.assert_quiet();
}

#[test]
fn readers_may_preview_and_users_denied_the_command_may_not_invalidate() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET app:1 v TAGS 1 t");
    let mut ada = login(&s, "~* +@all -smartcache.invalidate");
    refused(&mut ada, "SMARTCACHE.INVALIDATE ALL");
    allowed(&mut ada, "SMARTCACHE.PREVIEW ALL");
    if s.since((7, 2), (7, 2)) {
        let mut ada = login(&s, "~* +@read");
        allowed(&mut ada, "SMARTCACHE.PREVIEW TAGS 1 t");
        refused(&mut ada, "SMARTCACHE.INVALIDATE TAGS 1 t");
        let mut ada = login(&s, "~* +@write");
        allowed(&mut ada, "SMARTCACHE.INVALIDATE TAGS 1 t");
    }
    let mut internal = login(&s, "~* +@all");
    let error = internal.call("SMARTCACHE.MARK 5 5 0 HARD 0 ALL");
    assert!(error.is_error(), "{error}");
}
