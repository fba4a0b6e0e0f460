//! `SMARTCACHE.SET`: stores a value under the key's policy.

use super::args::Args;
use super::options::{self, CLAIM, CODEC, CONDITION, LIFETIME, SIE, SWR, TAGS, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::error::Error;
use crate::cache::node::store::{self, Content, Options, Outcome};
use crate::cache::{Cx, Key};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.SET",
    summary: "Stores a value under the policy of its key",
    since: "0.1.0",
    complexity: "O(n) for n bytes to compress, O(r) for r rules",
    arity: -3,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::One(Access::Overwrite),
    args: &[Arg::key(), Arg::new("value", Kind::Text), LIFETIME, SWR, SIE, CONDITION, TAGS, CODEC, CLAIM],
    details: "\
TTL is a base: the key's rule scales, bounds and jitters it. EX, PX, EXAT and PXAT are taken as they are, bounded only by the rule's MAX and max-ttl; a moment already past deletes the key. PERSIST: no end. With none of them: the rule's TTL, then smartcache.default-ttl, as a base.
SWR and SIE (stale-while-revalidate, stale-if-error) are how long it may be served after its freshness has ended; 0 turns them off. Without them: the rule's, then the settings'.
NX stores only where nothing fresh is (an absent entry counts as nothing), XX only where something fresh or stale is.
TAGS names 1 to 64 tags of 1 to 255 bytes. CODEC overrides the rule's: auto, none, gzip, zstd, lz4; the compressed form is kept only if it saves enough.
TOKEN brings home what was loaded under a lease of GETLOCK; SINCE what was loaded since a SMARTCACHE.STAMP. Then the value is stored only as far as it can be trusted: see the replies. NX and XX do not go with TOKEN. The same SET sent again is answered the same.
Without either it counts as loaded now, and ends the lease that is out for the key. Any store answers those who wait for the key.
Out of memory: OOM, and nothing is stored; with TOKEN those who wait are handed the value all the same. Any error ends the lease, as UNLOCK does, unless it is a syntax error.
Overwrites any type, as SET does; with NX or XX a key of another type is left alone, and with TOKEN or SINCE it answers LOST.",
    replies: "OK, or nil when NX or XX did not hold. With TOKEN or SINCE: OK; STALE when the key was deleted, made stale or flushed after the load began (kept as a stale copy for what is left of its windows, or dropped); LOST when something newer was written, or the token is not of this server's present life or this key: nothing is stored then.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let value = args.word()?;
    let options = options::parse(args, Takes::Value)?;
    fill(cx, key, Content::Value(value), &options)
}

/// Stores and answers. Where that cannot be, a lease that was taken for it is given back.
pub fn fill<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, content: Content<'w>, options: &Options<'w>) -> Result<(), Error> {
    let checked = store::check(cx, key, content, options);
    if checked.is_err() {
        store::refused(cx, key);
    }
    let stored = checked.and_then(|()| store::store(cx, key, content, options));
    if stored.is_err() {
        cx.node().failed(key, options.provenance);
    }
    match stored? {
        Outcome::Fresh | Outcome::Over => cx.reply.simple("OK"),
        Outcome::Stale => cx.reply.simple("STALE"),
        Outcome::Lost => cx.reply.simple("LOST"),
        Outcome::Refused => cx.reply.nil(),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
