//! Hashes, lists, sets, sorted sets and streams under NATIVE rules: the server stores them, the rule bounds them.
//!
//! After a write, in the same command: a structure without expiry gets the rule's lifetime, with `SLIDING` it starts
//! anew at each write, an expiry beyond `MAX` is cut, and `CAP` keeps so many elements.

use crate::cache::node::context::Cx;
use crate::cache::rules::Lifetime;
use crate::cache::{Caller, Key};

/// Applies the rule to what a command has left under a key; `until` is its expiry.
pub(super) fn settle<'w>(cx: &mut Cx<'_, 'w>, words: &[&'w [u8]], key: Key<'w>, until: Option<u64>) {
    let Some(rule) = cx.state.policies.native_rule(key.name) else { return };
    let (cap, sliding, has_ttl) = (rule.cap(), rule.is_sliding(), rule.has_ttl());
    let policy = rule.policy();
    let now_ms = cx.now.ms();
    let elements = cx.state.commands.get(words[0]).is_some_and(|served| !served.makes_strings);
    let wanted = match until {
        // What the client itself asks for, `PERSIST` too, is only bounded.
        Some(at) if !(elements && sliding && has_ttl) => Lifetime::At(at),
        None if !(elements && has_ttl) => Lifetime::Forever,
        _ => Lifetime::Default,
    };
    let random = if wanted == Lifetime::Default { cx.state.random.unit() } else { 0.0 };
    let ends = policy.deadline(wanted, now_ms, random);
    if ends != until
        && let Some(at) = ends
    {
        let at = at.to_string();
        run(cx, &[Key::named(b"PEXPIREAT"), key, Key::named(at.as_bytes())]);
    }
    if let Some((most, lowest)) = cap {
        trim(cx, words, key, most, lowest);
    }
}

/// Keeps the highest or lowest elements of a sorted set, or those of a list at the end that was pushed to.
fn trim(cx: &mut Cx<'_, '_>, words: &[&[u8]], key: Key<'_>, most: u32, lowest: bool) {
    let is = |names: &[&str]| names.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()));
    let word_is = |at: usize, name: &str| words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let (first, last) = (most.to_string(), (-i64::from(most) - 1).to_string());
    let (zero, end) = (Key::named(b"0"), Key::named(b"-1"));
    if is(&["LPUSH", "LPUSHX", "RPOPLPUSH"]) || is(&["LMOVE"]) && word_is(4, "LEFT") {
        let last = (i64::from(most) - 1).to_string();
        run(cx, &[Key::named(b"LTRIM"), key, zero, Key::named(last.as_bytes())]);
    } else if is(&["RPUSH", "RPUSHX", "LMOVE"]) {
        let first = (-i64::from(most)).to_string();
        run(cx, &[Key::named(b"LTRIM"), key, Key::named(first.as_bytes()), end]);
    } else if words[0].first().is_some_and(|letter| letter.eq_ignore_ascii_case(&b'Z')) {
        let (from, to) = if lowest { (Key::named(first.as_bytes()), end) } else { (zero, Key::named(last.as_bytes())) };
        run(cx, &[Key::named(b"ZREMRANGEBYRANK"), key, from, to]);
    }
}

/// Runs a command of the server's for the rule, not for the caller. It does nothing to a key of another type.
fn run(cx: &mut Cx<'_, '_>, words: &[Key<'_>]) {
    let by_rule = Caller { trusted: true, ..cx.caller };
    cx.keys.run_native(words, &by_rule, true);
}
