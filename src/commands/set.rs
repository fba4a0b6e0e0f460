//! `SMARTCACHE.SET`: stores a value under the key's policy.

use super::args::{Args, is};
use super::options::{self, CODEC, CONDITION, LIFETIME, PROVENANCE, SIE, SWR, TAGS, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::error::Error;
use crate::cache::lease::fill::Provenance;
use crate::cache::node::store::{self, Content, Options, Outcome};
use crate::cache::{Cx, Key};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.SET",
    summary: "Stores a value under the policy of its key",
    since: "0.1.0",
    complexity: "O(n) for n bytes to compress, O(r) for r rules",
    arity: -3,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::One(Access::Overwrite),
    args: &[Arg::key(), Arg::new("value", Kind::Text), LIFETIME, SWR, SIE, CONDITION, TAGS, CODEC, PROVENANCE],
    details: "\
TTL is a base: the key's rule scales, bounds and jitters it. EX, PX, EXAT and PXAT are taken as they are, bounded only by the rule's MAX and smartcache.max-ttl; a time in the past deletes the key. PERSIST: no end. The default is the rule's TTL, then smartcache.default-ttl, as a base.
SWR and SIE (stale-while-revalidate, stale-if-error) are how long the value may be served after its freshness has ended; 0 turns a window off. The defaults are the rule's, then the settings'.
NX stores only if nothing fresh is there (an absent entry counts as nothing), XX only if something fresh or stale is there. The server's own SET NX, SETNX and EXISTS see entries of any state: also stale, dead and absent ones.
TAGS names 1 to 64 tags of 1 to 255 bytes. CODEC overrides the rule's: auto, none, gzip, zstd, lz4; the compressed form is kept only if it saves enough (smartcache.min-savings).
TOKEN stores what was loaded under a lease of GETLOCK, SINCE what was loaded since a SMARTCACHE.STAMP. Such a fill is stored only if it can be trusted: see the replies. TOKEN excludes NX and XX. The same SET sent again gets the same reply.
A SET with neither counts as loaded now and ends the lease of the key. Every store serves the waiters of the key.
Out of memory the reply is OOM and nothing is stored; with TOKEN the waiters get the value all the same. Every error of a SET with a TOKEN ends the lease, as UNLOCK does, also when the words are not understood.
Overwrites any type, as the server's SET does. With NX or XX a key of another type is left alone; with TOKEN or SINCE the reply is then LOST.",
    replies: "OK, or nil when NX or XX did not hold. With TOKEN or SINCE: OK; STALE when the key was deleted, made stale, invalidated or flushed after the load began (the value is kept as a stale copy for what is left of its windows, or dropped); LOST when something newer was written, or when the token is of another key or from before a restart or role change (nothing is stored).",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let words = args.rest();
    let value = args.word()?;
    let options = options::parse(args, Takes::Value).inspect_err(|_| malformed(cx, key, words))?;
    fill(cx, key, Content::Value(value), &options)
}

/// The words after a fill's key are not understood: its lease ends all the same, since the caller takes the error for
/// the end of the load. What follows any `TOKEN` is tried: no other word passes for the token of the key.
pub(super) fn malformed(cx: &mut Cx<'_, '_>, key: Key<'_>, words: &[&[u8]]) {
    let tokens = words.windows(2).filter(|two| is(two[0], "TOKEN")).map(|two| Provenance::Token(two[1]));
    let mut node = cx.node();
    if let Some(token) = { tokens }.find(|token| node.holds(key, *token)) {
        node.failed(key, Some(token));
    }
}

/// Stores and replies. An error ends the lease of the fill's token.
pub(super) fn fill<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'w>,
    options: &Options<'w>,
) -> Result<(), Error> {
    let checked = store::check(cx, key, content, options);
    if checked.is_err() {
        store::count_refused(cx, key);
    }
    let stored = checked.and_then(|()| store::store(cx, key, content, options));
    if stored.is_err() {
        cx.node().failed(key, options.provenance);
    }
    match stored? {
        Outcome::Fresh | Outcome::Over => cx.reply.simple("OK"),
        Outcome::Stale => cx.reply.bulk(b"STALE"),
        Outcome::Lost => cx.reply.bulk(b"LOST"),
        Outcome::Refused => cx.reply.nil(),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
