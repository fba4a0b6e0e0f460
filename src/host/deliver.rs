//! Carries out what a command asked for, in order: replication, signals, events, work for the workers.

use std::cell::RefMut;
use std::ffi::{CStr, CString, c_int};

use redis_module::raw;
use smallvec::SmallVec;

use super::ffi::{Ctx, OwnedStr, Str};
use super::keyspace::ServerKeys;
use super::{blocked, bus, sweep, sweep_waiters, workers};
use crate::cache::codec::CodecId;
use crate::cache::effects::{Effect, Effects, Event};
use crate::cache::entry::format::{self, Expiry};
use crate::cache::{Key, Keyspace, Slot, State};
use crate::commands::spec::Command;

/// The internal command that carries entries to replicas and AOF (`commands/store.rs`).
pub(super) const STORE: &CStr = c"SMARTCACHE.STORE";
pub(super) const UNLINK: &CStr = c"UNLINK";

/// The internal command that carries invalidations (`commands/mark.rs`).
pub(super) const MARK: &CStr = c"SMARTCACHE.MARK";

/// Who has done something.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// A command that the server has called us with.
    Command(&'static Command),
    /// One that came over the cluster's bus: the server knows nothing of it, nor of its words.
    PassedOn(&'static Command),
    /// Nobody: it came due.
    Ourselves,
}

/// Delivers; the state is given back before anybody else may be called.
pub(super) fn deliver(
    ctx: Ctx,
    by: By,
    mut effects: Effects<'_>,
    mut keys: ServerKeys<'_>,
    mut state: RefMut<'_, State>,
) {
    let names = keys.names();
    let mut events = SmallVec::<[(Event, Key<'_>); 2]>::new();
    for effect in effects.drain() {
        match effect {
            Effect::ReplicateEntry { key, expire_at, pack } => {
                replicate_entry(ctx, &mut keys, &mut state, key, expire_at, Whole::Entry(pack));
            }
            Effect::ReplicateHeader(key) => {
                let expire_at = keys.expire_at(key);
                replicate_entry(ctx, &mut keys, &mut state, key, expire_at, Whole::Header);
            }
            Effect::ReplicateUnlink(key) => names.with_name(key, |name| ctx.replicate(UNLINK, name, &[])),
            Effect::ReplicateVerbatim => match by {
                By::Command(_) => ctx.replicate_verbatim(),
                By::PassedOn(command) => replicate_words(ctx, command, names.words()),
                By::Ourselves => {}
            },
            Effect::PassOn(how) => {
                if let By::Command(command) = by {
                    let words: Vec<_> = names.words().iter().map(|word| word.bytes()).collect();
                    bus::pass_on(ctx, &mut state, command, &words, &how);
                }
            }
            Effect::ReplicateMark(words) => replicate_mark(ctx, &words),
            Effect::SignalTag(key) => ctx.signal(OwnedStr::new(&key).borrow()),
            Effect::Signal(key) => names.with_name(key, |name| ctx.signal(name)),
            Effect::Notify(event, key) => events.push((event, key)),
            Effect::Park(id) => blocked::park(ctx, &mut state, id),
            Effect::Wait(id) => sweep_waiters::wait(ctx, &mut state, id),
            Effect::Compress(job) => workers::submit(&mut state, *job),
        }
    }
    // A subscriber to these events (another module) may call us: by then nothing of ours is open or borrowed.
    drop(keys);
    sweep::refresh(&mut state);
    blocked::after_command(state);
    for (event, key) in events {
        names.with_name(key, |name| ctx.notify(class(event), event.name(), name));
    }
}

/// Tells replicas and AOF a command with these words, of which the first is its name, or that of its container.
fn replicate_words(ctx: Ctx, command: &Command, words: &[Str<'_>]) {
    let name = command.name.split(' ').next().and_then(|name| CString::new(name).ok());
    ctx.replicate_words(&name.expect("our names hold no zero byte"), &words[1..]);
}

/// Says to replicas and AOF what was invalidated in the selected database.
pub(super) fn replicate_mark(ctx: Ctx, words: &[Vec<u8>]) {
    let words: Vec<_> = words.iter().map(|word| OwnedStr::new(word)).collect();
    ctx.replicate_words(MARK, &words.iter().map(OwnedStr::borrow).collect::<Vec<_>>());
}

/// How much of an entry is told.
#[derive(Clone, Copy)]
enum Whole {
    /// Header and bytes, and what to compress them with.
    Entry(Option<CodecId>),
    /// The header alone.
    Header,
}

/// Says to replicas and AOF what stands under `key` now.
fn replicate_entry(
    ctx: Ctx,
    keys: &mut ServerKeys<'_>,
    state: &mut State,
    key: Key<'_>,
    expire_at: Option<u64>,
    whole: Whole,
) {
    let names = keys.names();
    let Slot::Entry(entry) = keys.peek(key) else { return };
    let mut header = std::mem::take(&mut state.header);
    header.clear();
    format::encode(entry, &state.tags, expire_at.map_or(Expiry::None, Expiry::At), &mut header);
    names.with_name(key, |name| match whole {
        Whole::Header => ctx.replicate(STORE, name, &[&header]),
        Whole::Entry(None) => ctx.replicate(STORE, name, &[&header, entry.stored()]),
        Whole::Entry(Some(codec)) => ctx.replicate(STORE, name, &[&header, entry.stored(), codec.name().as_bytes()]),
    });
    state.header = header;
}

fn class(event: Event) -> c_int {
    match event {
        Event::Set | Event::Absent | Event::Stale => raw::REDISMODULE_NOTIFY_MODULE,
        Event::Expire | Event::Del => raw::REDISMODULE_NOTIFY_GENERIC,
    }
}
