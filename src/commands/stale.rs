//! `SMARTCACHE.STALE`: ends freshness, keeps the windows.

use smallvec::SmallVec;

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::Freshness;
use crate::cache::error::Error;
use crate::cache::{Cx, Key, Slot};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.STALE",
    summary: "Ends the freshness of entries, but keeps their windows",
    since: "0.1.0",
    complexity: "O(k) for k keys",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::All(Access::Update),
    args: &[Arg::key().repeated()],
    details: "\
From now on the entries are served only inside SWR and SIE, which count from now. An entry without windows, or an absent one, is a miss from now on.
Plain strings carry no freshness and are not touched. A key of another type answers WRONGTYPE, and then nothing is changed.",
    replies: "How many were fresh.",
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
    let mut were_fresh = 0;
    for key in keys {
        let Some(mut entry) = cx.keys.edit(key) else { continue };
        if !matches!(entry.as_ref().freshness(cx.now), Freshness::Fresh { .. }) {
            continue;
        }
        entry.make_stale(cx.now);
        were_fresh += 1;
        cx.effects.changed(key, Effect::ReplicateHeader(key), Event::Stale);
    }
    cx.reply.int(were_fresh);
    Ok(())
}
