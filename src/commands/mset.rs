//! `SMARTCACHE.MSET`: stores several values at once.

use smallvec::SmallVec;

use super::args::Args;
use super::options::{self, CODEC, CONDITION, LIFETIME, SIE, SWR, TAGS, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind};
use crate::cache::error::Error;
use crate::cache::store::{self, Content, Outcome};
use crate::cache::{Cx, Key};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.MSET",
    summary: "Stores several values, each under the policy of its key",
    since: "0.1.0",
    complexity: "O(k) for k keys, each as SET",
    arity: -4,
    flags: &[Flag::Write, Flag::DenyOom],
    keys: Keys::CountedPairs(Access::Overwrite),
    args: &[
        Arg::new("numkeys", Kind::Integer),
        Arg::block("data", &[Arg::key(), Arg::new("value", Kind::Text)]).repeated(),
        LIFETIME,
        SWR,
        SIE,
        CONDITION,
        TAGS,
        CODEC,
    ],
    details: "\
The options are those of SET and hold for every key; each key gets its own rule and its own jitter.
On an error nothing is stored.",
    replies: "How many were stored and are fresh.",
    run: Some(run),
};

/// More keys than a command can carry.
const MOST_KEYS: u64 = 1 << 30;

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let said = args.positive("numkeys", b"numkeys", MOST_KEYS)?;
    if said * 2 > args.left() as u64 {
        return Err(Error::Count { what: "numkeys", said, found: args.left() / 2 });
    }
    let mut pairs: SmallVec<[(Key<'w>, &'w [u8]); 8]> = SmallVec::new();
    for _ in 0..said {
        pairs.push((args.key()?, args.word()?));
    }
    let options = options::parse(args, Takes::All)?;
    for (_, value) in &pairs {
        store::check_size(&cx.state.settings, value).inspect_err(|_| cx.state.stats.count.sets_refused += said)?;
    }
    let mut fresh = 0;
    for (key, value) in pairs {
        fresh += i64::from(store::store(cx, key, Content::Value(value), &options)? == Outcome::Fresh);
    }
    cx.reply.int(fresh);
    Ok(())
}
