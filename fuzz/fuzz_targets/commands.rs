//! Every command's grammar, and what the node becomes of it: a step a line.
//!
//! ```text
//! words            a command of a client, words between spaces
//! 2words           the same of another connection, by its digit
//! >words           from our primary, or an AOF
//! &words           passed on by another primary
//! =name value      a setting
//! +ms              time passes
//! !                the sweep and the cron run, and the workers
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::testing::TestNode;
use smartcache_fuzz::{THEN, words};

/// Runs a command of a connection; one that is kept waiting sends nothing.
fn call_as(node: &mut TestNode, client: u64, line: &[u8]) -> String {
    if node.is_waiting(client) {
        return String::new();
    }
    node.server.client = client;
    node.call_words(&words(line))
}

fuzz_target!(|text: &[u8]| {
    let mut node = TestNode::at(THEN);
    for line in text.split(|byte| *byte == b'\n').take(64) {
        let Some((first, rest)) = line.split_first() else { continue };
        let answer = match first {
            b'>' if !rest.starts_with(b"SELECT") => node.obey(&words(rest)),
            b'&' => std::str::from_utf8(rest).map_or_else(|_| String::new(), |line| node.receive(line)),
            b'=' => {
                let setting = std::str::from_utf8(rest).ok().and_then(|line| line.split_once(' '));
                let _ = setting.map(|(name, value)| node.config(name, value));
                continue;
            }
            b'+' => {
                let ms = std::str::from_utf8(rest).ok().and_then(|ms| ms.parse::<u32>().ok());
                node.advance(ms.unwrap_or(1).into());
                continue;
            }
            b'!' => {
                node.sweep();
                node.cron();
                node.run_workers();
                node.state.invalidations.validate();
                node.state.tags.validate();
                continue;
            }
            client @ b'2'..=b'9' => call_as(&mut node, u64::from(client - b'0'), rest),
            _ => call_as(&mut node, 1, line),
        };
        if answer.starts_with("(error)") {
            assert!(node.effects.is_empty(), "{answer}, and yet {:?}", node.effects);
        }
    }
    node.advance(100_000_000);
    node.sweep();
    node.cron();
    node.state.invalidations.validate();
    node.state.tags.validate();
});
