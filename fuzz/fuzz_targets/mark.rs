//! `SMARTCACHE.MARK` as a primary or an AOF sends it: a command a line, words between spaces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::testing::{TestNode, token_of};
use smartcache_fuzz::{THEN, words};

fuzz_target!(|text: &[u8]| {
    let mut primary = TestNode::at(THEN);
    let mut replica = TestNode::replica_at(THEN);
    for line in text.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = [&[&b"SMARTCACHE.MARK"[..]], &words(line)[..]].concat();
        for node in [&mut primary, &mut replica] {
            let refused = node.call_words(&words);
            assert!(refused.starts_with("(error)"), "a client must not: {refused}");
            node.obey(&words);
            node.state.invalidations.validate();
        }
    }
    primary.call("SMARTCACHE.SET k v TAGS 1 t");
    let token = primary.call("SMARTCACHE.GETLOCK page:1");
    primary.call(&format!("SMARTCACHE.SET page:1 v TOKEN {}", token_of(&token).unwrap_or("none")));

    // What a rewritten AOF would say of the marks is understood, and comes to the same.
    let said = replica.marks_as_words();
    let mut reader = TestNode::replica_at(THEN);
    for (db, words) in &said {
        reader.select(*db);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        assert_eq!(reader.obey(&[&[&b"SMARTCACHE.MARK"[..]], &words[..]].concat()), "OK");
    }
    let (mut said, mut again) = (said, reader.marks_as_words());
    said.sort();
    again.sort();
    assert_eq!(said, again);

    for node in [&mut primary, &mut replica] {
        node.sweep();
        node.advance(1 << 40);
        node.sweep();
        node.cron();
        node.state.invalidations.validate();
        node.state.tags.validate();
    }
});
