use super::*;
use crate::cache::node::acquire::Values;
use crate::testing::TestNode;

fn touched(line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut seen = Vec::new();
    if is_watched(words[0])
        && let Some((_, keys)) = COMMANDS.iter().find(|(name, _)| words[0].eq_ignore_ascii_case(name.as_bytes()))
    {
        keys.each(&words[1..], Now::from_us(50_000_000), |key, touch| {
            seen.push(format!("{touch:?} {}", key.escape_ascii()));
        });
    }
    seen.join(", ")
}

#[test]
fn the_keys_that_the_servers_own_commands_delete_or_write_are_known() {
    for (line, keys) in [
        ("DEL a b", "Deletes a, Deletes b"),
        ("unlink a", "Deletes a"),
        ("GETDEL a", "Deletes a"),
        ("SET a v EX 5", "Writes a"),
        ("setex a 5 v", "Writes a"),
        ("INCRBYFLOAT a 5", "Writes a"),
        ("MSET a 1 b 2", "Writes a, Writes b"),
        ("RENAME a b", "Deletes a, Writes b"),
        ("COPY a b DB 1", "Writes b"),
        ("MOVE a 1", "Writes a"),
        ("BITOP AND a b c", "Writes a"),
        ("SORT a BY x STORE b", "Writes b"),
        ("SORT a", ""),
        ("EXPIRE a 5", ""),
        ("EXPIRE a -1", "Deletes a"),
        ("PEXPIRE a 0", "Deletes a"),
        ("EXPIREAT a 50", "Deletes a"),
        ("EXPIREAT a 51", ""),
        ("PEXPIREAT a 50001", ""),
        ("PEXPIREAT a -1", "Deletes a"),
        ("RESTORE a 0 x", "Writes a"),
        ("GET a", ""),
        ("MGET a b", ""),
        ("HSET a f v", ""),
        ("DEL", ""),
        ("RENAME a", "Deletes a"),
        ("", ""),
    ] {
        assert_eq!(touched(line), keys, "{line}");
    }
}

#[test]
fn the_names_stand_in_order_and_most_commands_are_told_by_length_and_first_letter() {
    assert!(COMMANDS.is_sorted_by_key(|(name, _)| (name.len(), *name)));
    for name in ["GET", "MGET", "HGETALL", "PING", "ZADD", "SMARTCACHE.GET", "ZRANGE", "TTL", "LPUSH", ""] {
        assert!(!is_watched(name.as_bytes()), "{name}");
    }
    for name in ["multi", "EXEC", "Discard", "RESET"] {
        assert!(is_watched(name.as_bytes()), "{name}");
    }
}

/// A load of `k` under way, and what its fill is answered after the server has seen these commands.
fn fill_after(lines: &[&str]) -> String {
    let mut node = TestNode::at(1_000_000);
    let token = node.token("GETLOCK k");
    for line in lines {
        node.advance(1);
        node.observe_native(line);
    }
    node.advance(1);
    node.call(&format!("SET k v TOKEN {token}"))
}

#[test]
fn a_native_delete_distrusts_a_load_in_flight_and_a_native_set_overtakes_it() {
    assert_eq!(fill_after(&[]), "OK");
    assert_eq!(fill_after(&["DEL other"]), "OK");
    assert_eq!(fill_after(&["DEL k"]), r#""STALE""#);
    assert_eq!(fill_after(&["SET k x PX 1"]), r#""LOST""#);
    assert_eq!(fill_after(&["RENAME k other"]), r#""STALE""#);
    assert_eq!(fill_after(&["RENAME other k"]), r#""LOST""#);
    assert_eq!(fill_after(&["DEL k", "SET k x"]), r#""LOST""#);
}

#[test]
fn a_delete_in_a_transaction_counts_when_it_is_executed() {
    let mut node = TestNode::at(1_000_000);
    node.call("GETLOCK other"); // a load is in flight: the host watches
    node.observe_native("MULTI");
    node.observe_native("DEL k");
    node.advance(1);
    let token = node.token("GETLOCK k");
    node.advance(1);
    node.observe_native("EXEC");
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), r#""STALE""#);
}

#[test]
fn a_transaction_whose_beginning_was_not_seen_distrusts_all_loads() {
    assert_eq!(fill_after(&["MULTI", "DEL other", "EXEC"]), "OK");
    assert_eq!(fill_after(&["MULTI", "DEL k", "DISCARD"]), r#""STALE""#, "it was seen when it was queued");
    assert_eq!(fill_after(&["EXEC"]), r#""STALE""#);
}

#[test]
fn an_exec_outside_a_transaction_is_nothing_where_the_server_says_so() {
    let mut node = TestNode::at(1_000_000);
    let token = node.token("GETLOCK k");
    let now = node.now();
    node.state.observe_native(&[b"EXEC"], Sender::Client(7, false), now);
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK");
}

#[test]
fn transactions_that_are_never_executed_leave_little_behind_and_concern_nobody_else() {
    let mut node = TestNode::at(1_000_000);
    let now = node.now();
    node.state.observe_native(&[b"MULTI"], Sender::Client(7, false), now);
    node.state.observe_native(&[b"DEL", b"k"], Sender::Client(7, true), now); // and the client goes away
    let token = node.token("GETLOCK k");
    for _ in 0..3 {
        for words in [&[&b"MULTI"[..]][..], &[b"SET", b"z", b"1"], &[b"EXEC"]] {
            let in_transaction = words[0] != b"MULTI";
            node.state.observe_native(words, Sender::Client(8, in_transaction), now);
        }
    }
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK");
    for i in 0..300_000 {
        node.state.observe_native(&[b"DEL", format!("{i}").as_bytes()], Sender::Client(7, true), now);
    }
    assert!(node.state.transactions.bytes <= MOST_QUEUED);
}

#[test]
fn where_clients_cannot_be_told_apart_a_transaction_is_remembered_for_a_minute() {
    let mut node = TestNode::at(1_000_000);
    node.observe_native("MULTI");
    node.observe_native("DEL k"); // and the client goes away
    node.advance(FORGOTTEN_MS + 1);
    let token = node.token("GETLOCK k");
    for line in ["MULTI", "SET z 1", "EXEC"] {
        node.observe_native(line);
    }
    assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK");
    assert!(node.state.transactions.open.is_empty() && node.state.transactions.bytes == 0);
}

#[test]
fn whoever_waits_for_a_key_that_was_deleted_is_the_next_to_load() {
    let mut node = TestNode::at(1_000_000);
    node.call("GETLOCK k");
    assert_eq!(node.call_as(2, "GETLOCK k WAIT 5"), "(waiting)");
    node.observe_native("DEL k");
    let answers = node.late_answers();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].1.starts_with("[\"MISS\""), "{answers:?}");
}

#[test]
fn who_gives_up_waiting_does_not_overtake_who_waits_longer() {
    for ends in ["native", "expiry"] {
        let mut node = TestNode::at(1_000_000);
        node.call("GETLOCK k LOCK 1");
        assert_eq!(node.call_as(2, "GETLOCK k WAIT 5"), "(waiting)");
        assert_eq!(node.call_as(3, "GETLOCK k WAIT 5"), "(waiting)");
        let last = node.state.leases.all_waiters()[1];
        let mut core = node.as_node();
        if ends == "native" {
            core.state.leases.void_key(b"k", &mut core.state.stats.at(core.now));
        } else {
            core.now = Now::new(core.now.us() + 1_000_000, core.now.mono_ms() + 1_000);
        }
        core.give_up(last, &mut Values::default()); // CLIENT UNBLOCK, before the timer runs
        node.tick();
        let answers = node.late_answers();
        assert!(answers[0].0 == 2 && answers[0].1.starts_with("[\"MISS\""), "{ends}: {answers:?}");
        assert!(answers[1].0 == 3 && answers[1].1.starts_with("[\"BUSY\""), "{ends}: {answers:?}");
    }
}
