//! `SMARTCACHE.RESETSTAT`: counts from zero again.

use super::args::Args;
use super::spec::{Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.RESETSTAT",
    summary: "Sets the counters to zero",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "What is counted starts from zero. What is measured, such as entries and bytes, stays.",
    replies: "OK",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    cx.state.stats.reset(cx.now);
    cx.reply.simple("OK");
    Ok(())
}
