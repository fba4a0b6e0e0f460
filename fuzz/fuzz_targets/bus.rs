//! What comes over the cluster's bus: a message of ours, or of another module.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::cache::cluster::bus::{Bus, Message};
use smartcache::testing::TestNode;
use smartcache_fuzz::THEN;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(bytes) else { return };
    assert_eq!(Message::encode(message.incarnation, message.number, message.db, &message.words), bytes);

    // A message that comes twice is new once.
    let mut bus = Bus::new(1);
    assert!(bus.is_new(&[b'a'; 40], message.incarnation, message.number));
    assert!(!bus.is_new(&[b'a'; 40], message.incarnation, message.number));
    assert!(bus.enqueue(bytes));
    assert_eq!(bus.dequeue().as_deref(), Some(bytes));

    // It holds any command: a client may say all that it can.
    TestNode::at(THEN).call_words(&message.words);
});
