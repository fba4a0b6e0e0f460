//! The aux data of an RDB file: a list of strings; in the golden file each follows its length (4 bytes, little-endian).

use smartcache::cache::node::aux_data;
use smartcache::testing::TestNode;

use super::{assert_golden, golden};

/// The aux data of a node whose rules use every option, and bytes that are not UTF-8.
fn saved() -> Vec<Vec<u8>> {
    let mut node = TestNode::at(1_795_376_053_113);
    node.call(
        "SMARTCACHE.RULE SET full MATCH user:*:* MATCH u:*:* PRIORITY -3 TTL 5m SCALE 0.5 MIN 250ms MAX 7d JITTER 10% SWR 0 \
         SIE 1h NEGATIVE 1.5 LOCK 2s BETA 0.25 CODEC lz4 MINSIZE 1kb FILLS 4 TAG user:{1} TAG all",
    );
    node.call("SMARTCACHE.RULE SET short MATCH *");
    node.call_words(&[b"SMARTCACHE.RULE", b"SET", b"bytes", b"MATCH", b"\x00\xff*\r\n", b"TAG", b"\x00{1}"]);
    node.call("SMARTCACHE.SET k v");
    let mut strings = Vec::new();
    assert!(aux_data::save(&node.state, node.now(), &mut |string| strings.push(string.to_vec())));
    strings
}

fn packed(strings: &[Vec<u8>]) -> Vec<u8> {
    strings.iter().flat_map(|string| [&(string.len() as u32).to_le_bytes()[..], string].concat()).collect()
}

fn unpacked(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut strings = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (string, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        strings.push(string.to_vec());
        bytes = rest;
    }
    strings
}

#[test]
fn aux_data_of_every_version_is_readable() {
    let strings = unpacked(&golden("aux-v1/rules.bin", &packed(&saved())));
    let mut node = TestNode::at(1_000_000);
    node.set_clock(1_795_376_000_000); // a minute slow
    let now = node.now();
    let mut next = strings.iter().cloned();
    aux_data::load(&mut node.state, now, || next.next()).unwrap();
    let list = node.call("SMARTCACHE.RULE LIST").replace("}, {", "},\n{");
    assert_golden("aux-v1/rules.txt", &format!("clock: {}\n{list}\n", node.state.clock.last()));
    if saved()[0] == strings[0] {
        assert_eq!(saved(), strings, "the strings of a version never change");
    }
}

/// Stores an entry with the tags that are invalidated: their marks would be forgotten, and without any entry all marks.
fn keep_marks(node: &mut TestNode) {
    let words: [&[u8]; 9] =
        [b"SMARTCACHE.SET", b"stays", b"v", b"PERSIST", b"TAGS", b"3", b"team:7", b"user:42", b"\x00\xff\r\n"];
    node.call_words(&words);
}

/// A node with a rule and with marks of every kind: hard and soft, of each selector, in two databases; and with one
/// that was forgotten.
fn saved_with_marks() -> Vec<Vec<u8>> {
    let mut node = TestNode::at(1_795_376_053_113);
    node.call("SMARTCACHE.RULE SET short MATCH *");
    node.call("SMARTCACHE.INVALIDATE PREFIXES 1 gone:");
    keep_marks(&mut node);
    node.sweep();
    node.advance(3_600_000);
    node.cron();
    node.call("SMARTCACHE.INVALIDATE TAGS 2 team:7 user:42");
    node.call_words(&[b"SMARTCACHE.INVALIDATE", b"TAGS", b"1", b"\x00\xff\r\n", b"SOFT", b"GUARD", b"5000"]);
    node.call("SMARTCACHE.INVALIDATE PREFIXES 1 page: SOFT OVER 30000");
    node.select(3);
    node.call("SMARTCACHE.INVALIDATE PATTERNS 1 *:profile");
    node.call("SMARTCACHE.INVALIDATE ALL GUARD 60000");
    let mut strings = Vec::new();
    assert!(aux_data::save(&node.state, node.now(), &mut |string| strings.push(string.to_vec())));
    strings
}

#[test]
fn marks_are_read_for_ever() {
    let strings = unpacked(&golden("aux-v2/marks.bin", &packed(&saved_with_marks())));
    let mut node = TestNode::at(1_000_000);
    node.set_clock(1_795_379_600_000); // a minute slow
    keep_marks(&mut node);
    let now = node.now();
    let mut next = strings.iter().cloned();
    aux_data::load(&mut node.state, now, || next.next()).unwrap();
    let mut text = format!("clock: {}\n{}\n", node.state.clock.last(), node.call("SMARTCACHE.RULE LIST"));
    for (db, words) in node.marks_as_words() {
        let words: Vec<String> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        text += &format!("{db} {}\n", words.join(" "));
    }
    assert_golden("aux-v2/marks.txt", &text);
    if saved_with_marks()[0] == strings[0] {
        assert_eq!(saved_with_marks(), strings, "a version's words do not change");
    }
}
