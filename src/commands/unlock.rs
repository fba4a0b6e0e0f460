//! `SMARTCACHE.UNLOCK`: ends a lease without a value.

use super::args::{Args, Zero, is, once};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::error::Error;
use crate::cache::lease::fill::{FillVerdict, Provenance};
use crate::cache::lease::outcomes::LeaseEnd;
use crate::cache::node::read;
use crate::cache::{Cx, Judge};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.UNLOCK",
    summary: "Ends a lease without a value",
    since: "0.1.0",
    complexity: "O(1), plus O(w) for w waiters when the load failed",
    arity: -3,
    flags: &[Flag::Fast],
    keys: Keys::One(Access::ReadUpdate),
    args: &[Arg::key(), Arg::new("token", Kind::Text), Arg::option("backoff", "BACKOFF", Kind::Duration)],
    details: "\
The first waiter of the key gets the next lease.
BACKOFF reports that the load failed: for that long no lease is granted; callers, and those who wait now, get the stale copy while the longer of SWR and SIE lasts, else BUSY with the time left. It also applies when the lease has run out, if the key was not stored, deleted or made stale since (the reply is then 0). Any store of the key, and SMARTCACHE.DEL, ends the back-off.
A token that is unknown, of another key, or from before a restart or role change is no error: the reply is 0.",
    replies: "1, or 0 when the lease was not held.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let provenance = Provenance::Token(args.word()?);
    let mut backoff = None;
    while let Some(word) = args.option() {
        if !is(word, "BACKOFF") {
            return Err(Error::syntax(word));
        }
        once(&mut backoff, args.duration("BACKOFF", word, Zero::Refused)?, word)?;
    }
    let (db, until_ms) = (cx.caller.db, backoff.map(|ms| cx.now.mono_ms().saturating_add(ms)));
    let mut node = cx.node();
    node.expire_lease(key);
    let held = node.holds(key, provenance);
    if held {
        let how = if backoff.is_some() { LeaseEnd::Failed } else { LeaseEnd::Released };
        node.state.leases.end(db, key.name, how, &mut node.state.stats.at(node.now));
    }
    // A late failure does not concern a key that was deleted, stored or loaded since.
    let mut still_counts = || {
        let fresh =
            read::is_fresh(node.keys.peek(key), Judge::new(&node.state.invalidations, node.db, key.name, node.now));
        !fresh && matches!(node.check_fill(key, provenance), FillVerdict::Trusted(_))
    };
    if let Some(until_ms) = until_ms
        && (held || still_counts())
    {
        node.state.leases.back_off(db, key.name, until_ms);
    }
    node.wake_waiters(key);
    cx.reply.int(held.into());
    Ok(())
}

#[cfg(test)]
mod tests;
