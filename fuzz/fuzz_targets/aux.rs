//! What an RDB holds beside the keys: rules and marks, as a list of strings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::cache::node::aux_data;
use smartcache::testing::TestNode;
use smartcache_fuzz::{THEN, strings};

fn load(strings: &[Vec<u8>]) -> Result<TestNode, String> {
    let mut node = TestNode::at(THEN);
    let now = node.now();
    let mut next = strings.iter().cloned();
    aux_data::load(&mut node.state, now, || next.next()).map(|()| node)
}

fn save(node: &TestNode) -> Vec<Vec<u8>> {
    let mut strings = Vec::new();
    aux_data::save(&node.state, node.now(), &mut |string| strings.push(string.to_vec()));
    strings
}

fuzz_target!(|bytes: &[u8]| {
    let given: Vec<Vec<u8>> = strings(bytes).into_iter().map(<[u8]>::to_vec).collect();
    let Ok(mut node) = load(&given) else { return };
    node.state.invalidations.validate();
    node.state.tags.validate();
    // What was loaded is saved so that it can be loaded, and says the same then.
    let saved = save(&node);
    if !saved.is_empty() {
        let again = load(&saved).expect("what is saved can be loaded");
        assert_eq!(save(&again)[2..], saved[2..]);
    }
    node.call("SMARTCACHE.RULE LIST");
    node.call("SMARTCACHE.SET k v TAGS 1 t");
    node.call("SMARTCACHE.RULE EXPLAIN user:1:profile TTL 10");
    node.sweep();
    node.advance(1 << 40);
    node.sweep();
    node.cron();
    node.state.invalidations.validate();
});
