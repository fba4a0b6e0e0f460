//! Carries out the effects that concern everyone: replication, signals, events.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redis_module::raw;
use smallvec::SmallVec;

use super::ffi::{Ctx, OwnedStr, Str};
use super::keyspace::{Names, ServerKeys};
use super::panic::caught;
use super::replicate::{self, Outgoing, Part};
use crate::cache::codec::offload::Job;
use crate::cache::effects::{Effect, Effects, Event};
use crate::cache::{Key, Keyspace, Slot, State};

/// Keyspace events that are yet to be sent: a subscriber (another module) may call us, so nothing of ours may be open
/// or borrowed then.
pub(super) struct Events<'w> {
    list: SmallVec<[(Event, Key<'w>); 2]>,
}

/// Delivers in order; effects that only concern the caller go to `for_caller`. After a panic in one effect the others
/// are still delivered: the result then is `Err`, and replicas may lack what that effect should have replicated.
pub(super) fn deliver<'w>(
    ctx: Ctx<'_>,
    effects: &mut Effects<'w>,
    keys: &mut ServerKeys<'_>,
    state: &mut State,
    outgoing: &mut Outgoing<'_>,
    mut for_caller: impl FnMut(&mut State, &mut Outgoing<'_>, Effect<'w>),
) -> (Events<'w>, Result<(), ()>) {
    let names = keys.names();
    let mut events = Events { list: SmallVec::new() };
    let mut outcome = Ok(());
    let mut effects = effects.drain();
    let mut deliver_rest = || {
        for effect in effects.by_ref() {
            #[cfg(feature = "test-commands")]
            crate::commands::panic::point("an effect");
            match effect {
                Effect::ReplicateEntry { key, expire_at, pack } => {
                    let mut is_of = |job: &Job| matches!(keys.peek(key), Slot::Entry(entry) if job.is_of(entry));
                    let codec = pack.as_deref().filter(|job| is_of(job)).map(|job| job.codec);
                    if let Some(job) = pack {
                        for_caller(state, outgoing, Effect::Compress(job)); // first: the queue keeps room for it
                    }
                    outgoing.entry(keys, state, key, expire_at, Part::Entry(codec));
                }
                Effect::ReplicateHeader(key) => {
                    let expire_at = keys.expire_at(key);
                    outgoing.entry(keys, state, key, expire_at, Part::Header);
                }
                Effect::ReplicateUnlink(key) => names.with_name(key, |name| outgoing.gone(name)),
                Effect::ReplicateText(key) => replicate::plain_string(ctx, keys, key),
                Effect::ReplicateMark(words) => outgoing.mark(&words),
                Effect::SignalName(key) => ctx.signal(OwnedStr::new(&key).borrow()),
                Effect::Signal(key) => names.with_name(key, |name| ctx.signal(name)),
                Effect::Notify(event, key) => events.list.push((event, key)),
                Effect::ReplicateVerbatim
                | Effect::PassOn(_)
                | Effect::Park(_)
                | Effect::Wait(_)
                | Effect::Compress(_) => for_caller(state, outgoing, effect),
            }
        }
    };
    // Each turn after a panic takes at least the effect that panicked.
    while catch_unwind(AssertUnwindSafe(&mut deliver_rest)).is_err() {
        caught("the delivery of an effect");
        outcome = Err(());
    }
    (events, outcome)
}

impl Events<'_> {
    /// Sends them.
    pub(super) fn send(self, ctx: Ctx<'_>, names: Names<'_>) {
        for (event, key) in self.list {
            names.with_name(key, |name| notify(ctx, event, name));
        }
    }

    /// The events and the names of their keys, to be sent later.
    pub(super) fn owned(self, names: Names<'_>) -> impl Iterator<Item = (Event, OwnedStr)> {
        self.list.into_iter().map(move |(event, key)| (event, names.with_name(key, OwnedStr::hold)))
    }
}

/// Sends one event.
pub(super) fn notify(ctx: Ctx<'_>, event: Event, name: Str<'_>) {
    ctx.notify(class(event), event.name(), name);
}

fn class(event: Event) -> c_int {
    match event {
        Event::Set | Event::Absent | Event::Stale => raw::REDISMODULE_NOTIFY_MODULE,
        Event::Expire | Event::Del => raw::REDISMODULE_NOTIFY_GENERIC,
    }
}
