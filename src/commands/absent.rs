//! `SMARTCACHE.ABSENT`: remembers that the origin has nothing.

use super::args::Args;
use super::options::{self, LIFETIME, TAGS, Takes};
use super::set;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::store::{self, Content};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.ABSENT",
    summary: "Remembers that the origin has nothing under a key",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: -2,
    flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
    keys: Keys::One(Access::Overwrite),
    args: &[Arg::key(), LIFETIME, TAGS],
    details: "\
Without a lifetime: the rule's NEGATIVE, then smartcache.negative-ttl. The rule's SCALE, MIN and MAX do not apply, its JITTER does.
It has no windows: when it is not fresh it is a miss.",
    replies: "OK",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let options = options::parse(args, Takes::Tags)?;
    let outcome = store::store(cx, key, Content::Absent, &options)?;
    set::answer(cx.reply, outcome);
    Ok(())
}
