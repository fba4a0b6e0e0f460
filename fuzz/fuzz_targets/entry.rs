//! The header of an entry, as it comes with `RESTORE`, in an RDB, in an AOF, or from a primary.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use smartcache::cache::entry::format;
use smartcache::cache::ids::RuleId;
use smartcache::cache::invalidation::tags::Tags;
use smartcache::cache::stats::live::Live;
use smartcache::testing::TestNode;
use smartcache_fuzz::THEN;

fuzz_target!(|header: &[u8]| {
    let Ok(decoded) = format::decode(header) else { return };
    // The stored bytes are the end of the header, a tag as a rule: so they are whatever the fuzzer wants, too.
    let stored = &header[header.len() - usize::from(header[header.len() - 1]).min(header.len())..];

    // What was read is written the same way, up to what can be said in two ways.
    let mut tags = Tags::new(Arc::new(Live::default()));
    if let Ok(entry) = decoded.to_entry(|name| tags.intern(name), RuleId(0), stored) {
        let mut written = Vec::new();
        format::encode(entry.as_ref(), &tags, decoded.expiry, &mut written);
        let again = format::decode(&written).expect("what is written can be read");
        let mut rewritten = Vec::new();
        let entry = again.to_entry(|name| tags.intern(name), RuleId(0), stored).expect("as it could be before");
        format::encode(entry.as_ref(), &tags, again.expiry, &mut rewritten);
        assert_eq!(written, rewritten);
    }

    // A node serves it, from a client and from a primary, now and later.
    for trusted in [false, true] {
        let mut node = TestNode::at(THEN);
        let words: [&[u8]; 4] = [b"SMARTCACHE.STORE", b"k", header, stored];
        let answer = if trusted { node.obey(&words) } else { node.call_words(&words) };
        for ms in [0, 1_000, 1 << 40] {
            node.advance(ms);
            for line in ["GET k STALE STATE ACCEPT gzip", "GETLOCK k", "INSPECT k", "STALE k", "TOUCH k", "STATS"] {
                node.call(&format!("SMARTCACHE.{line}"));
            }
            if answer == "OK" {
                node.dump(b"k");
            }
        }
        node.sweep();
        node.state.invalidations.validate();
        node.state.tags.validate();
    }
});
