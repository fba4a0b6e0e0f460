use proptest::prelude::*;

use super::window::Window;
use super::{Counters, FIELDS, Number, Scope};
use crate::cache::ids::RuleId;
use crate::testing::TestNode;

#[test]
fn field_names_are_unique_and_definitions_are_sentences() {
    let mut names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FIELDS.len());
    assert!(FIELDS.iter().all(|field| field.means.ends_with('.')));
}

#[test]
fn numbers_of_an_idle_node_are_finite() {
    let mut node = TestNode::at(0);
    let now = node.now();
    let snapshot = node.state.snapshot(Scope::Node, None, now);
    for field in FIELDS {
        if let Number::Fraction(x) = (field.read)(&snapshot) {
            assert!(x.is_finite(), "{}", field.name);
        }
    }
}

const DAY_MS: u64 = 86_400_000;

/// A random history of the commands that are counted, with several callers, keys under three rules, and a wall clock
/// that jumps.
fn histories() -> impl Strategy<Value = Vec<(u8, u8, u16)>> {
    proptest::collection::vec((0..20_u8, 0..6_u8, 0..3_000_u16), 1..120)
}

fn take(node: &mut TestNode, tokens: &mut Vec<(String, String)>, (what, which, ms): (u8, u8, u16)) {
    let key = format!("{}:{}", ["a", "b", "none"][usize::from(which) % 3], which / 3);
    let client = u64::from(ms % 5) + 1;
    // A connection that waits sends nothing.
    if node.is_waiting(client) {
        return node.advance(ms.into());
    }
    let fill = |tokens: &mut Vec<(String, String)>| {
        if tokens.is_empty() {
            return ("none:9".into(), "bogus".into());
        }
        tokens.swap_remove(usize::from(ms) % tokens.len())
    };
    let line = match what {
        0 => format!("GET {key}"),
        1 => format!("GET {key} STALE"),
        2 => format!("MGET {key} a:0 list"),
        3..=6 => format!("GETLOCK {key} LOCK 700ms"),
        7..=9 => format!("GETLOCK {key} LOCK 900ms WAIT 500ms"),
        10 => format!("SET {key} v PX 900 SWR 1 SIE 2"),
        11..=13 => {
            let (key, token) = fill(tokens);
            format!("SET {key} v PX 900 SWR 1 TOKEN {token}")
        }
        14 => {
            let (key, token) = fill(tokens);
            format!("UNLOCK {key} {token}{}", if ms % 2 == 0 { " BACKOFF 300ms" } else { "" })
        }
        15 => format!("DEL {key}"),
        16 => format!("STALE {key}"),
        17 => ["RULE SET b MATCH b:* FILLS 1", "RULE DEL b", "ABSENT a:1 PX 500", "SET a:0 v NX"][usize::from(ms) % 4]
            .into(),
        18 => {
            node.disconnect(client);
            return node.evict(&key);
        }
        19 if ms % 5 == 0 => {
            let wall_ms = node.now().us() / 1_000;
            return node.set_clock(if ms % 2 == 0 { wall_ms + DAY_MS } else { wall_ms.saturating_sub(DAY_MS) });
        }
        _ => return node.advance(u64::from(ms) * if ms % 7 == 0 { 30 } else { 1 }),
    };
    let answer = node.call_as(client, &line);
    let found = answer.split('"').find(|word| word.len() == crate::cache::lease::token::LEN).map(str::to_owned);
    tokens.extend(found.filter(|_| line.starts_with("GETLOCK")).map(|token| (key, token)));
}

proptest! {
    #[test]
    fn counters_add_up(steps in histories()) {
        let mut node = TestNode::at(3 * DAY_MS);
        node.plain_list("list");
        node.call("RULE SET a MATCH a:* LOCK 400ms");
        let mut tokens = Vec::new();
        for step in steps {
            take(&mut node, &mut tokens, step);
            let now = node.now();
            let ids: Vec<_> = node.state.policies.iter().map(|rule| rule.id()).chain([RuleId::NONE]).collect();
            for window in [None, Some(Window::Minute), Some(Window::Hour)] {
                let whole = node.state.snapshot(Scope::Node, window, now);
                let rows: Vec<_> =
                    ids.iter().map(|id| node.state.snapshot(Scope::Rule(*id), window, now)).collect();
                let sum = rows.iter().fold(Counters::default(), |sum, row| sum.with(&row.count, |a, b| a + b));
                prop_assert_eq!(sum, whole.count);
                prop_assert_eq!(rows.iter().map(|row| row.totals.entries).sum::<u64>(), whole.totals.entries);
                prop_assert_eq!(rows.iter().map(|row| row.leases).sum::<u64>(), whole.leases);
            }
            for id in ids.into_iter().map(Scope::Rule).chain([Scope::Node]) {
                let row = node.state.snapshot(id, None, now);
                let c = row.count;
                prop_assert_eq!(c.requests(), c.hits + c.stale_hits + c.absent_hits + c.misses() + c.busy);
                prop_assert_eq!(c.waits, c.waits_served + c.waits_promoted + c.waits_timed_out + c.waits_dropped);
            }
            let whole = node.state.snapshot(Scope::Node, None, now);
            let c = whole.count;
            let ended = c.fills + c.fills_stale + c.fills_lost + c.fills_failed + c.leases_released + c.leases_voided + c.leases_expired;
            prop_assert_eq!(c.leases_granted, ended + whole.leases, "each lease ends in one way");
        }
    }
}
