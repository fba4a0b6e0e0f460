//! The internal commands that stand for the server's own under NATIVE rules. The host's command filter puts them in
//! front of what a client has sent.

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::node::{unmodified, unmodified_get};

/// `GET` of an unmodified client.
pub(super) const GET: Command = Command {
    name: "SMARTCACHE.NATIVE-GET",
    summary: "The server's GET under a NATIVE rule",
    since: "0.2.0",
    complexity: "O(1), plus O(n) for n bytes to decompress",
    arity: 2,
    flags: &[Flag::ReadOnly, Flag::Fast, Flag::Internal],
    keys: Keys::One(Access::Read),
    args: &[Arg::key()],
    details: "Stands for GET in MONITOR, SLOWLOG and INFO commandstats.",
    replies: "The value, or nil.",
    run: Some(Run::Plain(get)),
};

/// `MGET` of an unmodified client.
pub(super) const MGET: Command = Command {
    name: "SMARTCACHE.NATIVE-MGET",
    summary: "The server's MGET under a NATIVE rule",
    since: "0.2.0",
    complexity: "O(k) for k keys, plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast, Flag::Internal],
    keys: Keys::All(Access::Read),
    args: &[Arg::key().repeated()],
    details: "Stands for MGET in MONITOR, SLOWLOG and INFO commandstats.",
    replies: "An array of values, nil for what is not there.",
    run: Some(Run::Plain(mget)),
};

/// A command that reads.
pub(super) const READ: Command = Command {
    name: "SMARTCACHE.NATIVE-READ",
    summary: "One of the server's commands that read, under a NATIVE rule",
    since: "0.2.0",
    complexity: "As the command, plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Internal],
    keys: Keys::OfNative(Access::Read),
    args: &[Arg::new("command", Kind::Text), Arg::new("word", Kind::Text).or_none().repeated()],
    details: "Stands for the command that follows in MONITOR, SLOWLOG and INFO commandstats.",
    replies: "What the command replies.",
    run: Some(Run::Plain(run)),
};

/// A command that writes, also when memory is short.
pub(super) const WRITE: Command = Command {
    name: "SMARTCACHE.NATIVE-WRITE",
    summary: "One of the server's commands that write, under a NATIVE rule",
    flags: &[Flag::Write, Flag::Internal],
    keys: Keys::OfNative(Access::Update),
    ..READ
};

/// A command that writes, and needs memory.
pub(super) const STORE: Command = Command {
    name: "SMARTCACHE.NATIVE-STORE",
    summary: "One of the server's commands that need memory, under a NATIVE rule",
    flags: &[Flag::Write, Flag::DenyOom, Flag::Internal],
    ..WRITE
};

fn get<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    unmodified_get::get(cx, key)
}

fn mget<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut keys = Vec::with_capacity(args.left());
    while args.left() > 0 {
        keys.push(args.key()?);
    }
    unmodified_get::mget(cx, &keys)
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    unmodified::run(cx, args.position(), args.rest())
}
