//! `SMARTCACHE.DEL`: removes entries.

use smallvec::SmallVec;

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::Freshness;
use crate::cache::error::Error;
use crate::cache::{Cx, Key, Slot};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.DEL",
    summary: "Removes entries",
    since: "0.1.0",
    complexity: "O(k) for k keys; large values are freed in the background",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::All(Access::Delete),
    args: &[Arg::key().repeated()],
    details: "\
Removes entries and plain strings. A key of another type answers WRONGTYPE, and then nothing is removed.
Entries whose time is over are removed, too, but not counted.",
    replies: "How many were there: fresh, stale and absent entries, and plain strings.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut keys: SmallVec<[Key<'w>; 8]> = SmallVec::new();
    while args.left() > 0 {
        let key = args.key()?;
        if let Slot::Other = cx.keys.peek(key) {
            return Err(Error::WrongType);
        }
        keys.push(key);
    }
    let mut there = 0;
    for key in keys {
        there += i64::from(match cx.keys.peek(key) {
            Slot::Entry(entry) => entry.freshness(cx.now) != Freshness::Dead,
            Slot::Text(_) => true,
            Slot::Empty | Slot::Other => continue, // also a key named twice
        });
        cx.keys.remove(key);
        cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
    }
    cx.reply.int(there);
    Ok(())
}
