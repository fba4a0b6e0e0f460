//! `SMARTCACHE.INSPECT`: everything about one key, counting no hit.

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::clock::Now;
use crate::cache::entry::{EntryRef, Freshness};
use crate::cache::error::Error;
use crate::cache::{Cx, Key, Slot, read};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.INSPECT",
    summary: "Returns everything that is known about a key",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::One(Access::Read),
    args: &[Arg::key()],
    details: "\
kind (value, absent, string), state (fresh, stale, dead), codec (none, gzip, zstd, lz4, or unknown), dictionary (nil), raw_bytes, stored_bytes, memory_bytes, age_ms (since the store), fresh_ms (what is left, -1 without end), swr_ms and sie_ms (the windows' lengths), load_ms (nil when no load was measured), rule (nil without one), tags, lease, waiters.
Counts no request and touches neither LRU nor LFU.",
    replies: "A map, or nil when there is nothing. A key of another type answers WRONGTYPE.",
    run: Some(run),
};

/// What is said of a key, taken before anything is answered.
struct Facts {
    kind: &'static str,
    state: &'static str,
    codec: &'static str,
    raw: usize,
    stored: usize,
    age_ms: u64,
    left_ms: Option<u64>,
    windows: (u64, u64),
    load_ms: Option<u32>,
    rule: Option<String>,
    tags: Vec<Vec<u8>>,
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    args.finish()?;
    let Some(facts) = facts(cx, key)? else {
        cx.reply.nil();
        return Ok(());
    };
    let memory = cx.keys.memory_bytes(key);
    let fresh_ms = if facts.state == "fresh" { read::fresh_ms(cx.keys, key, facts.left_ms, cx.now) } else { 0 };
    let reply = &mut *cx.reply;
    reply.map(16);
    for (name, word) in [("kind", facts.kind), ("state", facts.state), ("codec", facts.codec)] {
        reply.bulk(name.as_bytes());
        reply.bulk(word.as_bytes());
    }
    reply.bulk(b"dictionary");
    reply.nil();
    for (name, n) in [
        ("raw_bytes", facts.raw as i64),
        ("stored_bytes", facts.stored as i64),
        ("memory_bytes", memory as i64),
        ("age_ms", facts.age_ms as i64),
        ("fresh_ms", fresh_ms),
        ("swr_ms", facts.windows.0 as i64),
        ("sie_ms", facts.windows.1 as i64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(n);
    }
    reply.bulk(b"load_ms");
    match facts.load_ms {
        Some(ms) => reply.int(ms.into()),
        None => reply.nil(),
    }
    reply.bulk(b"rule");
    match &facts.rule {
        Some(name) => reply.bulk(name.as_bytes()),
        None => reply.nil(),
    }
    reply.bulk(b"tags");
    reply.array(facts.tags.len());
    facts.tags.iter().for_each(|tag| reply.bulk(tag));
    reply.bulk(b"lease");
    reply.bulk(b"none");
    reply.bulk(b"waiters");
    reply.int(0);
    Ok(())
}

fn facts(cx: &mut Cx<'_, '_>, key: Key<'_>) -> Result<Option<Facts>, Error> {
    Ok(Some(match cx.keys.peek(key) {
        Slot::Empty => return Ok(None),
        Slot::Other => return Err(Error::WrongType),
        Slot::Text(len) => Facts {
            kind: "string",
            state: "fresh",
            codec: "none",
            raw: len,
            stored: len,
            age_ms: 0,
            left_ms: None,
            windows: (0, 0),
            load_ms: None,
            rule: None,
            tags: Vec::new(),
        },
        Slot::Entry(entry) => Facts {
            kind: if entry.absent() { "absent" } else { "value" },
            state: state(entry, cx.now),
            codec: entry.codec().map_or("unknown", |codec| codec.name()),
            raw: entry.raw_len(),
            stored: entry.stored().len(),
            age_ms: entry.age_ms(cx.now),
            left_ms: entry.fresh_until().map(|at| at.saturating_sub(cx.now.ms())),
            windows: entry.windows(),
            load_ms: entry.load_ms(),
            rule: cx.state.policies.rule(entry.rule()).map(|rule| rule.name().to_owned()),
            tags: entry.tags().map(|tag| cx.state.tags.name(tag).to_vec()).collect(),
        },
    }))
}

fn state(entry: EntryRef<'_>, now: Now) -> &'static str {
    match entry.freshness(now) {
        Freshness::Fresh { .. } => "fresh",
        Freshness::Stale { .. } => "stale",
        Freshness::Dead => "dead",
    }
}
