//! `SMARTCACHE.STATS`: what the cache has done.

use super::args::Args;
use super::spec::{Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::stats::{FIELDS, Number};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.STATS",
    summary: "Returns what the cache has done since start or reset",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "\
Only reads by SMARTCACHE commands count: GET and MGET, one request a key. The same numbers are in INFO smartcache, with smartcache_ before the name.",
    replies: "A map from name to number.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    let snapshot = cx.state.stats.snapshot(&cx.state.live, cx.now);
    cx.reply.map(FIELDS.len());
    for field in FIELDS {
        cx.reply.bulk(field.name.as_bytes());
        match (field.read)(&snapshot) {
            Number::Whole(n) => cx.reply.int(n as i64),
            Number::Fraction(x) => cx.reply.double(x),
        }
    }
    Ok(())
}
