//! Replication of entries and invalidations, in the words of our internal commands.

use std::ffi::{CStr, CString};

use super::ffi::{Ctx, OwnedStr, Str};
use super::keyspace::ServerKeys;
use super::panic::try_run;
use crate::cache::codec::CodecId;
use crate::cache::entry::format::{self, Expiry};
use crate::cache::{Key, Keyspace, Slot, State};
use crate::commands::spec::Command;

/// The internal command that carries entries (`commands/store.rs`).
pub(super) const STORE: &CStr = c"SMARTCACHE.STORE";
/// The internal command that carries invalidations (`commands/mark.rs`).
const MARK: &CStr = c"SMARTCACHE.MARK";
const UNLINK: &CStr = c"UNLINK";

/// How much of an entry is replicated.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// Header and bytes, and what to compress the bytes with.
    Entry(Option<CodecId>),
    /// The header alone.
    Header,
}

/// The entry under `key` as it is now; nothing when there is none.
pub(super) fn entry(
    ctx: Ctx<'_>,
    keys: &mut ServerKeys<'_>,
    state: &mut State,
    key: Key<'_>,
    expire_at: Option<u64>,
    part: Part,
) {
    let names = keys.names();
    let Slot::Entry(entry) = keys.peek(key) else { return };
    let mut header = std::mem::take(&mut state.header);
    header.clear();
    format::encode(entry, &state.tags, expire_at.map_or(Expiry::None, Expiry::At), &mut header);
    names.with_name(key, |name| match part {
        Part::Header => ctx.replicate(STORE, name, &[&header]),
        Part::Entry(None) => ctx.replicate(STORE, name, &[&header, entry.stored()]),
        Part::Entry(Some(codec)) => ctx.replicate(STORE, name, &[&header, entry.stored(), codec.name().as_bytes()]),
    });
    state.header = header;
}

/// The key is gone.
pub(super) fn unlink(ctx: Ctx<'_>, name: Str<'_>) {
    ctx.replicate(UNLINK, name, &[]);
}

/// A command with these words, of which the first is its name, or that of its container.
pub(super) fn command(ctx: Ctx<'_>, command: &Command, words: &[Str<'_>]) {
    let name = command.name.split(' ').next().and_then(|name| CString::new(name).ok());
    ctx.replicate_words(&name.expect("our names hold no zero byte"), &words[1..]);
}

/// An invalidation of the selected database.
pub(super) fn mark(ctx: Ctx<'_>, words: &[Vec<u8>]) {
    let words: Vec<_> = words.iter().map(|word| OwnedStr::new(word)).collect();
    ctx.replicate_words(MARK, &words.iter().map(OwnedStr::borrow).collect::<Vec<_>>());
}

/// The value under `key` as it is now, after a panic that may have left replicas without it; and signals the key.
///
/// What the server itself can hold there (a string, a list) was not changed by us. An entry that cannot be encoded
/// is removed here and there: a cache may lose an entry, but replicas may not differ.
pub(super) fn resync(ctx: Ctx<'_>, keys: &mut ServerKeys<'_>, state: &mut State, key: Key<'_>) {
    let expire_at = keys.expire_at(key);
    let exists = match keys.peek(key) {
        Slot::Text(_) | Slot::Other => return,
        Slot::Entry(_) => {
            let replicated = try_run("the replication of a key after a panic", || {
                entry(ctx, keys, state, key, expire_at, Part::Entry(None));
            });
            if replicated.is_none() {
                keys.remove(key);
            }
            replicated.is_some()
        }
        Slot::Empty => false,
    };
    keys.names().with_name(key, |name| {
        if !exists {
            unlink(ctx, name);
        }
        ctx.signal(name);
    });
}
