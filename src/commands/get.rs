//! `SMARTCACHE.GET`: the value if fresh.

use super::args::{Args, is, once};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::codec::accept::Accept;
use crate::cache::error::Error;
use crate::cache::lease::outcomes::ReplyState;
use crate::cache::node::read::{self, Found, Value};
use crate::cache::{Cx, Judge, Key, Reply};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.GET",
    summary: "Returns the value of a key if it is fresh",
    since: "0.1.0",
    complexity: "O(1), plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::One(Access::Read),
    args: &[
        Arg::key(),
        Arg::flag("stale", "STALE"),
        Arg::flag("state", "STATE"),
        Arg::flag("peek", "PEEK"),
        Arg::option("encodings", "ACCEPT", Kind::Text),
    ],
    details: "\
Returns the value if it is fresh; with STALE also inside SWR or SIE. For an absent entry the reply is nil.
STATE makes the reply an array of five: state (HIT, STALE, ABSENT, MISS), value, token (always nil here), fresh_ms (milliseconds of freshness left; -1: no end), lease_ms (always 0 here).
PEEK is for people and tools that look: no request is counted, and for eviction (LRU, LFU) the key is as idle as before.
ACCEPT gzip,zstd lets a client decompress values itself: the value becomes an array of encoding and bytes. The bytes are those stored when their encoding is in the list, else decompressed, with the encoding identity. Encodings: gzip, zstd, and lz4 (a block, preceded by the value's length in four bytes, little-endian).
A plain string is read as a fresh entry. For any other type the reply is WRONGTYPE.",
    replies: "The value, or nil. With STATE: an array of five. With ACCEPT: an array of encoding and bytes in place of the value.",
    run: Some(Run::Plain(run)),
};

/// `GET key [STALE] [STATE] [PEEK] [ACCEPT encodings]`
struct Get<'w> {
    key: Key<'w>,
    stale: bool,
    state: bool,
    peek: bool,
    accept: Option<Accept>,
}

impl<'w> Get<'w> {
    fn parse(args: &mut Args<'w>) -> Result<Self, Error> {
        let key = args.key()?;
        let (mut stale, mut state, mut peek, mut accept) = (None, None, None, None);
        while let Some(word) = args.option() {
            if is(word, "STALE") {
                once(&mut stale, (), word)?;
            } else if is(word, "STATE") {
                once(&mut state, (), word)?;
            } else if is(word, "PEEK") {
                once(&mut peek, (), word)?;
            } else if is(word, "ACCEPT") {
                once(&mut accept, Accept::parse(args.value_of(word)?), word)?;
            } else {
                return Err(Error::syntax(word));
            }
        }
        Ok(Get { key, stale: stale.is_some(), state: state.is_some(), peek: peek.is_some(), accept })
    }
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let get = Get::parse(args)?;
    let left_ms = if get.state { fresh_ms(cx, &get) } else { 0 };
    let slot = if get.peek { cx.keys.peek(get.key) } else { cx.keys.look(get.key) };
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, get.key.name, cx.now);
    let found = read::find(slot, &mut cx.state.codecs, judge, get.stale, get.accept)?;
    if !get.peek {
        found.count(get.key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
    }
    let (state, value, fresh_ms) = match found {
        Found::Hit { value, .. } => (ReplyState::Hit, Some(value), left_ms),
        Found::Plain => match cx.keys.text(get.key) {
            Some(text) => (ReplyState::Hit, Some(Value::plain(text)), left_ms),
            None => (ReplyState::Miss, None, 0), // the server's GET, which reads it, was renamed (rename-command)
        },
        Found::Stale { value } => (ReplyState::Stale, Some(value), 0),
        Found::Absent { .. } => (ReplyState::Absent, None, left_ms),
        Found::Miss(_) => (ReplyState::Miss, None, 0), // also a damaged value, which only decompression reveals
    };
    if get.state {
        cx.reply.array(5);
        cx.reply.bulk(state.name().as_bytes());
    }
    answer(cx.reply, value, get.accept.is_some());
    if get.state {
        cx.reply.nil();
        cx.reply.int(fresh_ms);
        cx.reply.int(0);
    }
    Ok(())
}

/// The freshness left, in milliseconds. Read before the value is borrowed, since one key is open at a time.
fn fresh_ms(cx: &mut Cx<'_, '_>, get: &Get<'_>) -> i64 {
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, get.key.name, cx.now);
    let slot = if get.peek { cx.keys.peek(get.key) } else { cx.keys.look(get.key) };
    let left_ms = match read::find(slot, &mut cx.state.codecs, judge, false, Some(Accept::all())) {
        Ok(Found::Hit { left_ms, .. } | Found::Absent { left_ms }) => left_ms,
        Ok(Found::Plain) => None,
        _ => return 0,
    };
    read::fresh_ms(cx.keys, get.key, left_ms)
}

/// Writes a value; after `ACCEPT` with its encoding.
pub(super) fn answer(reply: &mut dyn Reply, value: Option<Value<'_>>, with_encoding: bool) {
    match value {
        None => reply.nil(),
        Some(value) if with_encoding => {
            reply.array(2);
            reply.bulk(value.encoding.as_bytes());
            reply.bulk(value.bytes);
        }
        Some(value) => reply.bulk(value.bytes),
    }
}

#[cfg(test)]
mod tests;
