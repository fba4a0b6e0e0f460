use proptest::prelude::*;

use crate::testing::TestNode;

const SECOND: u64 = 1_000;

/// A node with an entry, and what it replicated of it.
fn primary(line: &str) -> (TestNode, Vec<Vec<u8>>) {
    let mut node = TestNode::at(1_000 * SECOND);
    node.config("offload-size", "500").unwrap();
    assert_eq!(node.call(line), "OK");
    let sent = node.replicated[0].clone();
    (node, sent)
}

fn slices(words: &[Vec<u8>]) -> Vec<&[u8]> {
    words.iter().map(Vec::as_slice).collect()
}

fn stamp_of(node: &mut TestNode) -> u64 {
    let (header, _) = node.written(b"k").unwrap();
    u64::from_le_bytes(header[5..13].try_into().unwrap())
}

#[test]
fn what_a_primary_sends_is_stored_as_it_is() {
    for line in [
        "SET k v",
        "SET k v EX 9 SWR 5 SIE 50 TAGS 2 a b",
        "SET k v PERSIST",
        "ABSENT k TAGS 1 t",
        "SET k aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa CODEC lz4",
    ] {
        let (mut node, sent) = primary(line);
        let mut replica = TestNode::at(400 * SECOND); // ten minutes slow
        replica.state.tags.intern(b"numbers its tags differently").unwrap();
        assert_eq!(replica.obey(&slices(&sent)), "OK");
        assert_eq!(replica.written(b"k"), node.written(b"k"), "{line}");
        assert_eq!(replica.replicated, [sent], "passed on to its own replicas unchanged");
        let event = if line.starts_with("ABSENT") { "notify smartcache.absent k" } else { "notify smartcache.set k" };
        assert_eq!(replica.effects, ["replicate verbatim", "signal k", event]);
        assert!(replica.state.clock.last() >= node.state.clock.last(), "its clock follows");
        replica.set_clock(node.now().ms());
        assert_eq!(replica.call("INSPECT k"), node.call("INSPECT k"));
    }
}

#[test]
fn an_expiry_later_than_any_entry_holds_is_replicated_as_it_is() {
    for at in [1_796_091_600_000_000, 1 << 48, i64::MAX as u64] {
        for change in ["STALE k", "TOUCH k EX 100", "TOUCH k PERSIST", "TOUCH k PXAT 9223372036854775807"] {
            let (mut node, sent) = primary("SET k v EX 50 SWR 60 TAGS 1 t");
            let mut replica = TestNode::at(1_000 * SECOND);
            replica.obey(&slices(&sent));
            for server in [&mut node, &mut replica] {
                server.pexpireat("k", at);
            }
            node.call(change);
            assert_eq!(node.replicated.len(), 1, "{change}");
            let sent = node.replicated[0].clone();
            assert_eq!(replica.obey(&slices(&sent)), "OK", "{change}");
            assert_eq!((replica.written(b"k"), replica.expire_at("k")), (node.written(b"k"), node.expire_at("k")));
            assert_eq!(replica.call("INSPECT k"), node.call("INSPECT k"), "{change}");
            // As a file has it.
            let mut again = TestNode::at(1_000 * SECOND);
            let (header, stored) = node.dump(b"k").unwrap();
            assert_eq!(again.obey(&[b"SMARTCACHE.STORE", b"k", &header, &stored]), "OK", "{change}");
            assert_eq!(again.expire_at("k"), node.expire_at("k"), "{change}");
        }
    }
}

#[test]
fn a_rule_is_found_again_by_key() {
    let (_, sent) = primary("SET k v");
    let mut replica = TestNode::at(1_000 * SECOND);
    replica.call("RULE SET other MATCH x");
    replica.call("RULE SET mine MATCH k TAG t SCALE 5");
    replica.obey(&slices(&sent));
    assert_eq!((replica.inspect("k", "rule"), replica.inspect("k", "tags")), ("\"mine\"".into(), "[]".into()));
    assert_eq!(replica.inspect("k", "fresh_ms"), "3600000", "the replica does not apply its own rule to the lifetime");
}

#[test]
fn a_header_without_bytes_changes_the_existing_entry() {
    let (mut node, sent) = primary("SET k v EX 9 SWR 5 TAGS 1 t");
    let mut replica = TestNode::at(1_000 * SECOND);
    replica.obey(&slices(&sent));
    for line in ["TOUCH k EX 100", "TOUCH k PERSIST", "TOUCH k EX 50", "STALE k"] {
        node.call(line);
        let sent = node.replicated[0].clone();
        assert_eq!(replica.obey(&slices(&sent)), "OK");
        assert_eq!(replica.written(b"k"), node.written(b"k"), "{line}");
        let event = if line == "STALE k" { "notify smartcache.stale k" } else { "notify expire k" };
        assert_eq!(replica.effects, ["replicate verbatim", "signal k", event]);
    }
    assert_eq!(replica.call("GET k STALE STATE"), r#"["STALE", "v", (nil), 0, 0]"#);
}

#[test]
fn a_clients_header_with_another_stamp_or_without_an_entry_changes_nothing() {
    let (mut node, _) = primary("SET k v EX 9");
    node.call("STALE k");
    let stale = node.replicated[0].clone();
    let mut other = TestNode::at(1_001 * SECOND);
    other.call("SET k newer");
    let mut text = TestNode::at(1_000 * SECOND);
    text.plain_set("k", "t", None);
    for mut node in [other, text, TestNode::at(1_000 * SECOND)] {
        let before = node.picture();
        assert_eq!((node.call_words(&slices(&stale)), node.effects.len()), ("OK".into(), 0));
        assert_eq!(node.picture(), before);
    }
}

#[test]
fn a_primarys_header_applies_although_a_restore_left_another_stamp_here() {
    let (_, sent) = primary("SET k v EX 90 SWR 90");
    let mut primary = TestNode::at(1_010 * SECOND);
    let mut replica = TestNode::at(990 * SECOND);
    for node in [&mut primary, &mut replica] {
        node.call_words(&slices(&sent)); // like RESTORE, which the server replicates as it came
    }
    assert_ne!(stamp_of(&mut primary), stamp_of(&mut replica));
    primary.call("STALE k");
    let stale = primary.replicated[0].clone();
    replica.obey(&slices(&stale));
    assert_eq!(replica.written(b"k"), primary.written(b"k"));
    assert!(replica.state.clock.last().0 >= stamp_of(&mut primary), "after a promotion its stamps are later");
    assert_eq!(replica.inspect("k", "state"), "\"stale\"");
}

#[test]
fn a_primarys_header_without_an_entry_changes_nothing() {
    let (mut node, _) = primary("SET k v EX 9");
    node.call("STALE k");
    let stale = node.replicated[0].clone();
    let mut text = TestNode::at(1_000 * SECOND);
    text.plain_set("k", "t", None);
    for mut node in [text, TestNode::at(1_000 * SECOND)] {
        let before = node.picture();
        assert_eq!((node.obey(&slices(&stale)), node.effects.len()), ("OK".into(), 0));
        assert_eq!(node.picture(), before);
    }
}

#[test]
fn a_clients_stamp_is_lowered_to_this_nodes_clock_and_by_the_skew() {
    let (mut node, sent) = primary("SET k v EX 5000");
    let stamp = stamp_of(&mut node);
    let mut behind = TestNode::at(500 * SECOND);
    assert_eq!(behind.call_words(&slices(&sent)), "OK");
    assert_eq!(behind.effects, ["replicate entry k", "signal k", "notify smartcache.set k"]);
    assert_eq!(stamp_of(&mut behind), (500 - 60) * 1_000_000);
    let mut ahead = TestNode::at(2_000 * SECOND);
    ahead.config("skew", "5").unwrap();
    ahead.call_words(&slices(&sent));
    assert_eq!(stamp_of(&mut ahead), stamp - 5_000_000);
    let sent = ahead.replicated[0].clone();
    let mut replica = TestNode::at(2_000 * SECOND);
    replica.obey(&slices(&sent));
    assert_eq!(replica.written(b"k"), ahead.written(b"k"), "its own replicas get the entry as it stored it");
    assert_eq!(behind.call("GET k"), "\"v\"");
}

#[test]
fn an_entry_with_a_stamp_of_next_week_is_dead_and_does_not_move_the_clock() {
    let (_, mut sent) = primary("SET k v PERSIST SWR 36500d");
    sent[2][5..13].copy_from_slice(&((1_000 + 7 * 86_400) * 1_000_000_u64).to_le_bytes());
    let mut replica = TestNode::at(1_000 * SECOND);
    assert_eq!(replica.obey(&slices(&sent)), "OK");
    assert_eq!(replica.inspect("k", "state"), "\"dead\"");
    assert_eq!(replica.call("GET k STALE"), "(nil)");
    assert_eq!(replica.state.clock.last().0, 0);
    sent.truncate(3);
    assert_eq!(replica.obey(&slices(&sent)), "OK", "the header alone, as TOUCH replicates it");
    assert_eq!(replica.inspect("k", "state"), "\"dead\"");
}

#[test]
fn on_a_replica_an_entry_past_its_end_waits_for_the_primary() {
    let (mut node, sent) = primary("SET k v EX 5");
    let mut replica = TestNode::at(1_010 * SECOND); // ten seconds fast
    replica.obey(&slices(&sent));
    node.advance(4 * SECOND);
    node.call("TOUCH k EX 100");
    let sent = node.replicated[0].clone();
    assert_eq!(replica.obey(&slices(&sent)), "OK");
    assert_eq!(replica.call("GET k"), "\"v\"");
    node.advance(200 * SECOND);
    node.call("GET k");
    assert_eq!(node.replicated, [[b"UNLINK".to_vec(), b"k".to_vec()]]);
}

#[test]
fn a_replica_compresses_what_its_primary_compresses() {
    let value = "x".repeat(501);
    let (mut node, sent) = primary(&format!("SET k {value}"));
    assert_eq!(sent[4], b"zstd");
    let mut replica = TestNode::at(1_000 * SECOND);
    assert_eq!(replica.obey(&slices(&sent)), "OK");
    assert_eq!(replica.effects.last().unwrap(), "compress k");
    node.run_workers();
    replica.run_workers();
    assert_eq!(replica.written(b"k"), node.written(b"k"));
    assert_eq!(replica.inspect("k", "codec"), "\"zstd\"");
    assert_eq!(replica.call("GET k"), format!("\"{value}\""));
}

#[test]
fn malformed_bytes_are_an_error_with_the_reason() {
    let (mut node, sent) = primary("SET k v TAGS 1 t");
    let good = &sent[2];
    let changed = |at: usize, byte: u8| {
        let mut header = good.clone();
        header[at] = byte;
        header
    };
    let long = [&good[..], b"x"].concat();
    for (header, why) in [
        (b"".to_vec(), "the header is cut short"),
        (good[..good.len() - 1].to_vec(), "the header is cut short"),
        (long, "the header has bytes after its end"),
        (changed(0, 2), "version 2 is not known"),
        (changed(1, 0x80), "the flags cannot be right"),
        (changed(1, 1), "the length of the value cannot be right"),
        (changed(1, 16), "the codec cannot be right"),
        (changed(2, 9), "the expiry cannot be right"),
        (changed(3, 2), "the codec cannot be right"),
        (changed(4, 65), "the number of tags cannot be right"),
        (changed(20, 9), "the end of freshness cannot be right"),
        (changed(29, 0), "the length of a tag cannot be right"),
    ] {
        let error = format!("ERR not an entry of SmartCache: {why}");
        assert_eq!(node.refusal_words(&[b"STORE", b"k", &header, b"v"]), error);
        assert_eq!(node.obey(&[b"STORE", b"k", &header, b"v"]), format!("(error) {error}"));
    }
    for len in 0..good.len() {
        node.refusal_words(&[b"STORE", b"k", &good[..len], b"v"]);
    }
    for codec in [&b"none"[..], b"auto", b"brotli", b""] {
        let error = format!("ERR syntax error near '{}'", codec.escape_ascii());
        assert_eq!(node.refusal_words(&[b"STORE", b"k", good, b"v", codec]), error);
    }
    assert_eq!(node.refusal_words(&[b"STORE", b"k", good, b"v", b"zstd", b"x"]), "ERR syntax error near 'x'");
    assert_eq!(node.refusal("STORE k"), "ERR wrong number of arguments for 'smartcache.store' command");
}

#[test]
fn a_forged_length_takes_no_memory_and_reads_as_a_miss() {
    let (mut node, mut sent) = primary(&format!("SET k {} CODEC zstd", "x".repeat(400)));
    let at = sent[2].len() - 4;
    sent[2][at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(node.refusal_words(&slices(&sent)).starts_with("ERR not an entry of SmartCache"), "from a client");
    // In our own file it must not prevent the rest from being loaded.
    assert_eq!(node.obey(&slices(&sent)), "OK");
    assert_eq!(node.call("GET k STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
    assert!(node.state.codecs.buffer_bytes() < 1 << 20);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_nor_upset_the_totals(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
        raw in prop::collection::vec(any::<u8>(), 0..60),
        which in 0..4u8,
        trusted: bool,
    ) {
        let (mut node, mut words) = primary(&format!("SET k {} EX 9 SWR 5 TAGS 2 a b CODEC zstd", "x".repeat(400)));
        match which {
            0 => words[2] = raw,
            1 => words[3] = raw,
            2 => words.truncate(3), // the header alone
            _ => {}
        }
        for (at, bit) in flips {
            let word = if which % 2 == 0 { &mut words[2] } else { words.last_mut().unwrap() };
            if !word.is_empty() {
                let at = at.index(word.len());
                word[at] ^= 1 << bit;
            }
        }
        let words = slices(&words);
        let answer = if trusted { node.obey(&words) } else { node.call_words(&words) };
        prop_assert!(answer == "OK" || answer.starts_with("(error) ERR not an entry of SmartCache: "), "{}", answer);
        for line in ["GET k", "GET k STALE STATE", "GET k ACCEPT zstd", "INSPECT k", "TOUCH k", "STALE k", "SET k x XX"] {
            node.call(line);
        }
        node.state.tags.validate();
        node.call("DEL k");
        prop_assert_eq!(node.state.live.totals(), Default::default());
    }
}
