//! `SMARTCACHE.MISSING`: which keys have nothing fresh.

use smallvec::SmallVec;

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::error::Error;
use crate::cache::{Cx, read};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.MISSING",
    summary: "Returns those of the keys that have no fresh entry",
    since: "0.1.0",
    complexity: "O(k) for k keys",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::All(Access::Read),
    args: &[Arg::key().repeated()],
    details: "\
For warming a cache without loading what is there. An absent entry is an entry, and so is a plain string; a key of another type is missing, as it is nil in MGET.
Counts no requests.",
    replies: "An array of keys, in the order given.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut missing: SmallVec<[&[u8]; 16]> = SmallVec::new();
    while args.left() > 0 {
        let key = args.key()?;
        if !read::is_fresh(cx.keys.peek(key), cx.now) {
            missing.push(key.name);
        }
    }
    cx.reply.array(missing.len());
    missing.iter().for_each(|name| cx.reply.bulk(name));
    Ok(())
}
