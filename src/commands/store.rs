//! `SMARTCACHE.STORE`: how entries reach replicas and come back from an AOF. Internal.

use super::args::{Args, is};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::codec::CodecId;
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::EntryMut;
use crate::cache::entry::format::{self, Expiry, Header};
use crate::cache::error::Error;
use crate::cache::node::import::Source;
use crate::cache::{Caller, Cx, Key};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.STORE",
    summary: "Stores an entry of another node (internal)",
    since: "0.1.0",
    complexity: "O(n) for n bytes",
    arity: -3,
    flags: &[Flag::Write, Flag::DenyOom, Flag::Internal],
    keys: Keys::One(Access::Overwrite),
    args: &[
        Arg::key(),
        Arg::new("header", Kind::Text),
        Arg::block("bytes", &[Arg::new("stored", Kind::Text), Arg::new("codec", Kind::Text).or_none()]).or_none(),
    ],
    details: "\
SmartCache writes it into the replication stream and the AOF; docs/format.md describes the header. Without bytes only the header of the existing entry changes. The codec is the one that a worker compresses the bytes with.
From a client it is treated as RESTORE is: every byte is checked, and the stamp is lowered to this node's clock.",
    replies: "OK",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let header = format::decode(args.word()?).map_err(malformed)?;
    let stored = args.option();
    let pack = match args.option() {
        None => None,
        Some(name) => Some(CodecId::from_name(name).filter(|_| !is(name, "none")).ok_or_else(|| Error::syntax(name))?),
    };
    args.finish()?;
    match stored {
        Some(stored) => store(cx, key, &header, stored, pack)?,
        None => restamp(cx, key, &header),
    }
    cx.reply.simple("OK");
    Ok(())
}

fn malformed(why: format::Malformed) -> Error {
    Error::Refused(format!("not an entry of SmartCache: {why}"))
}

/// A whole entry.
fn store<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    header: &Header<'_>,
    stored: &[u8],
    pack: Option<CodecId>,
) -> Result<(), Error> {
    let state = &mut *cx.state;
    let source = match cx.caller {
        Caller { importing: true, .. } => Source::Relayed,
        Caller { trusted: true, .. } => Source::Home,
        _ => Source::Elsewhere,
    };
    // What a client sends stays as it is: how its values are stored is its own affair.
    let pack = pack.filter(|_| source == Source::Home);
    let entry =
        state.import_entry(header, (cx.caller.db, Some(key.name)), stored, source, cx.now).map_err(malformed)?;
    let e = entry.as_ref();
    let event = if e.absent() { Event::Absent } else { Event::Set };
    let job = pack.filter(|_| e.codec() == Some(CodecId::None)).and_then(|codec| {
        let (level, min_savings) = (state.settings.compression_level as i32, state.settings.min_savings);
        state.offload.admit(cx.caller.db, key.name, e.stamp().0, codec, level, stored, min_savings)
    });
    let expire_at = match header.expiry {
        Expiry::AsItIs | Expiry::None => None, // the server writes an expiry after it, if there is one
        Expiry::At(at) => Some(at),
    };
    cx.keys.set(key, entry, expire_at);
    let replicate = if source == Source::Home {
        Effect::ReplicateVerbatim
    } else {
        Effect::ReplicateEntry { key, expire_at, pack: None }
    };
    cx.effects.changed(key, replicate, event);
    // Whatever its stamp, it is written now: loads in flight are older.
    cx.node().overwritten(key);
    if let Some(job) = job {
        cx.effects.push(Effect::Compress(Box::new(job)));
    }
    Ok(())
}

/// Replaces the header of an existing entry.
///
/// A header from our primary or our AOF applies to the entry we hold even if the stamps differ: after a `RESTORE` each
/// node lowers the stamp to its own clock, and a node that loads its AOF does not. A client's header applies only to
/// the entry with the same stamp.
fn restamp<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, header: &Header<'_>) {
    let trusted = cx.caller.trusted;
    let applies = |entry: &EntryMut<'_>| trusted || entry.as_ref().stamp() == header.stamp;
    let Some(mut entry) = cx.keys.edit(key).filter(applies) else { return };
    let (marks, db) = (cx.state.invalidations.clone(), cx.caller.db);
    marks.unindex_entry(db, key.name, entry.as_ref()); // counted again by `index_entry`, under the new header
    entry.set_header(header.stamp, header.fresh_until, header.stale());
    if trusted && !cx.state.clock.follow(header.stamp, cx.now) {
        entry.kill(); // its stamp is too far ahead to be trusted
    }
    marks.index_entry(db, key.name, &mut entry);
    match header.expiry {
        Expiry::AsItIs => {}
        Expiry::None => cx.keys.set_expire_at(key, None),
        Expiry::At(at) => cx.keys.set_expire_at(key, Some(at)),
    }
    let event = if header.stale() { Event::Stale } else { Event::Expire };
    cx.effects.changed(key, Effect::ReplicateVerbatim, event);
}

#[cfg(test)]
mod tests;
