//! `SMARTCACHE.EXTEND`: moves the end of a lease.

use super::args::{Args, Zero};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::fill::Claim;

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.EXTEND",
    summary: "Makes a lease that is out end later, or sooner",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 4,
    flags: &[Flag::Fast],
    keys: Keys::One(Access::ReadUpdate),
    args: &[Arg::key(), Arg::new("token", Kind::Text), Arg::new("duration", Kind::Duration)],
    details: "\
The lease ends that long from now. A lease that has ended is not revived, but its fill may still come.
A token that is unknown, of another key or of a former life is no error: 0.",
    replies: "1, or 0 when the lease has ended.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let claim = Claim::Token(args.word()?);
    let ms = args.duration("duration", b"duration", Zero::Refused)?;
    args.finish()?;
    let (db, until_ms) = (cx.caller.db, cx.now.mono_ms().saturating_add(ms));
    let mut node = cx.node();
    node.lapse(key);
    let held = node.holds(key, claim);
    if held {
        node.state.leases.extend(db, key.name, until_ms);
    }
    cx.reply.int(held.into());
    Ok(())
}
