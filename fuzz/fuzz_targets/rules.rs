//! The setting `smartcache.rules`: rules as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::cache::rules::RuleList;
use smartcache::testing::TestNode;
use smartcache_fuzz::THEN;

fuzz_target!(|json: &[u8]| {
    let Ok(rules) = RuleList::parse(json) else { return };
    let written = rules.to_json();
    assert_eq!(RuleList::parse(written.as_bytes()).as_ref(), Ok(&rules), "{written}");

    let mut node = TestNode::at(THEN);
    node.config("rules", &written).expect("rules that were taken once are taken again");
    for key in ["user:1:profile", "a", ""] {
        node.call(&format!("SMARTCACHE.RULE EXPLAIN {key} TTL 10"));
        node.call(&format!("SMARTCACHE.SET {key} value"));
        node.call(&format!("SMARTCACHE.GETLOCK {key}"));
    }
    node.call("SMARTCACHE.RULE LIST");
    node.call("SMARTCACHE.STATS RULES");
    node.advance(1 << 40);
});
