//! `SMARTCACHE.SET`: stores a value under the key's policy.

use super::args::Args;
use super::options::{self, CODEC, CONDITION, LIFETIME, SIE, SWR, TAGS, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind};
use crate::cache::error::Error;
use crate::cache::store::{self, Content, Outcome};
use crate::cache::{Cx, Reply};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.SET",
    summary: "Stores a value under the policy of its key",
    since: "0.1.0",
    complexity: "O(n) for n bytes to compress, O(r) for r rules",
    arity: -3,
    flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
    keys: Keys::One(Access::Overwrite),
    args: &[Arg::key(), Arg::new("value", Kind::Text), LIFETIME, SWR, SIE, CONDITION, TAGS, CODEC],
    details: "\
TTL is a base: the key's rule scales, bounds and jitters it. EX, PX, EXAT and PXAT are taken as they are, bounded only by the rule's MAX and max-ttl; a moment already past deletes the key. PERSIST: no end. With none of them: the rule's TTL, then smartcache.default-ttl, as a base.
SWR and SIE (stale-while-revalidate, stale-if-error) are how long it may be served after its freshness has ended; 0 turns them off. Without them: the rule's, then the settings'.
NX stores only where nothing fresh is (an absent entry counts as nothing), XX only where something fresh or stale is.
TAGS names 1 to 64 tags of 1 to 255 bytes. CODEC overrides the rule's: auto, none, gzip, zstd, lz4; the compressed form is kept only if it saves enough.
Overwrites any type, as SET does.",
    replies: "OK, or nil when NX or XX did not hold.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let value = args.word()?;
    let options = options::parse(args, Takes::All)?;
    store::check_size(&cx.state.settings, value).inspect_err(|_| cx.state.stats.count.sets_refused += 1)?;
    let outcome = store::store(cx, key, Content::Value(value), &options)?;
    answer(cx.reply, outcome);
    Ok(())
}

/// `OK`, or nil for what was refused.
pub fn answer(reply: &mut dyn Reply, outcome: Outcome) {
    match outcome {
        Outcome::Fresh | Outcome::Over => reply.simple("OK"),
        Outcome::Refused => reply.nil(),
    }
}
