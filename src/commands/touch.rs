//! `SMARTCACHE.TOUCH`: starts a lifetime anew.

use super::args::Args;
use super::options::{self, LIFETIME, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::Freshness;
use crate::cache::error::Error;
use crate::cache::{Cx, Slot};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.TOUCH",
    summary: "Starts the lifetime of a fresh entry anew",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::One(Access::Update),
    args: &[Arg::key(), LIFETIME],
    details: "\
For sliding expiry. The lifetime is worked out as SET would now; an absent entry's as ABSENT would. Windows and tags stay.
It does not become younger: what was invalidated stays so. Entries that are not fresh, and plain strings, are left alone.",
    replies: "1, or 0 when there is no fresh entry. A key of another type answers WRONGTYPE.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let options = options::parse(args, Takes::Lifetime)?;
    let absent = match cx.keys.peek(key) {
        Slot::Other => return Err(Error::WrongType),
        Slot::Entry(entry) if matches!(entry.freshness(cx.now), Freshness::Fresh { .. }) => entry.absent(),
        Slot::Entry(_) | Slot::Text(_) | Slot::Empty => {
            cx.reply.int(0);
            return Ok(());
        }
    };
    let random = cx.state.random.unit();
    let policy = cx.state.policies.policy(cx.state.policies.find(key.name));
    let fresh_until = if absent {
        policy.absent_deadline(options.lifetime, cx.now.ms(), random)
    } else {
        policy.deadline(options.lifetime, cx.now.ms(), random)
    };
    if fresh_until.is_some_and(|at| at <= cx.now.ms()) {
        cx.keys.remove(key);
        cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
    } else if let Some(mut entry) = cx.keys.edit(key) {
        entry.set_fresh_until(fresh_until);
        let gone_at = entry.as_ref().gone_at();
        cx.keys.set_expire_at(key, gone_at);
        cx.effects.changed(key, Effect::ReplicateHeader(key), Event::Expire);
    }
    cx.reply.int(1);
    Ok(())
}
