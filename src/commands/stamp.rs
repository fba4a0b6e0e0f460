//! `SMARTCACHE.STAMP`: the moment before a load, for `SINCE`.

use super::args::Args;
use super::spec::{Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::token::{Of, Token};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.STAMP",
    summary: "Returns the moment to store loads without a lease since",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "\
Take it before a load, of a batch for example, and give it with SINCE: what was deleted, made stale or written meanwhile is noticed then. Good for any number of keys, in any database, on this node, until it restarts or its role changes.
On a replica: READONLY, since stores are its primary's.",
    replies: "An opaque text.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    if cx.server.is_replica() {
        return Err(Error::ReadOnly);
    }
    let state = &mut *cx.state;
    let token = Token::begun(state.clock.stamp(cx.now), cx.now);
    state.doubts.load_begins(None, cx.now);
    cx.reply.bulk(&state.secret.seal(Of::Anything, token));
    Ok(())
}
