//! `SMARTCACHE.PLAIN`: turns entries into plain strings, the way out.

use super::args::{self, Args};
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::error::Error;
use crate::cache::{Cx, Slot};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.PLAIN",
    summary: "Turns entries into plain strings",
    since: "0.2.0",
    complexity: "O(k) for k keys, plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::Write, Flag::DenyOom],
    keys: Keys::All(Access::Update),
    args: &[Arg::key().repeated()],
    details: "\
Each entry becomes a plain string with the same value and deadline: without windows, tags, rule and compression, and readable without this module.
What is not fresh is deleted: stale, dead and absent entries. Plain strings stay as they are.
With a key of any other type nothing is changed, and the reply is WRONGTYPE.",
    replies: "How many entries have become plain strings.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut count = 0;
    for key in args::checked_keys(cx, args)? {
        if matches!(cx.keys.peek(key), Slot::Entry(_)) {
            let mut effects = std::mem::take(cx.effects);
            count += i64::from(cx.node().make_plain(key, &mut effects));
            *cx.effects = effects;
        }
    }
    cx.reply.int(count);
    Ok(())
}
