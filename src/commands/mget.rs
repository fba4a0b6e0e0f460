//! `SMARTCACHE.MGET`: the fresh values of several keys.

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::read::{self, Found, Why};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.MGET",
    summary: "Returns the values of several keys, those that are fresh",
    since: "0.1.0",
    complexity: "O(k) for k keys, plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::All(Access::Read),
    args: &[Arg::key().repeated()],
    details: "Each key counts as one request. A key of another type is nil, as in MGET. Grants no leases.",
    replies: "An array: for each key in order its value when fresh, else nil.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    cx.reply.array(args.left());
    while args.left() > 0 {
        let key = args.key()?;
        let found =
            read::find(cx.keys.look(key), &mut cx.state.codecs, cx.now, false, None).unwrap_or(Found::Miss(Why::Cold));
        found.count(&mut cx.state.stats.count);
        match found {
            Found::Hit { value, .. } => cx.reply.bulk(value.bytes),
            Found::Plain => cx.reply.bulk(cx.keys.text(key).unwrap_or_default()),
            _ => cx.reply.nil(),
        }
    }
    Ok(())
}
