//! Effects: what a command asks its host to do afterwards. The host carries them out in order.
//!
//! Replication is by *effect*: what depends on a rule, a random number or a setting is decided once, on the primary,
//! and replicated as absolute times and stored bytes (`entry/format.rs`).

use std::ffi::CStr;

use smallvec::SmallVec;

use super::Key;
use super::cluster::bus::PassOn;
use super::codec::offload::Job;
use super::invalidation::sweep::SweepWaiterId;
use super::lease::table::WaiterId;

/// One thing for the host to do.
#[derive(Debug)]
pub enum Effect<'w> {
    /// Replicate the whole entry under the key.
    ReplicateEntry {
        /// The key.
        key: Key<'w>,
        /// When the server deletes it, in milliseconds of Unix time.
        expire_at: Option<u64>,
        /// What a worker is to do with its value, here and on the replica. A later store of the same command may have
        /// replaced the value before this is carried out: then the replica does nothing with what it gets.
        pack: Option<Box<Job>>,
    },
    /// Replicate the header and expiry of the entry under the key; its stored bytes have not changed.
    ReplicateHeader(Key<'w>),
    /// Replicate the deletion of the key.
    ReplicateUnlink(Key<'w>),
    /// Replicate the plain string under the key, with its expiry.
    ReplicateText(Key<'w>),
    /// Replicate the command as it is.
    ReplicateVerbatim,
    /// Replicate an invalidation: the words of `SMARTCACHE.MARK`.
    ReplicateMark(Vec<Vec<u8>>),
    /// In a cluster, let the other primaries run the command too ([`Cx::pass_on`](super::Cx::pass_on)).
    PassOn(PassOn),
    /// Send a keyspace event.
    Notify(Event, Key<'w>),
    /// Signal the change of the key to `WATCH` and `CLIENT TRACKING`.
    Signal(Key<'w>),
    /// The same for a name that is no word of the command: a member of a tag, or the pseudo-key of one.
    SignalName(Box<[u8]>),
    /// Park the caller: its reply comes later.
    Park(WaiterId),
    /// Park the caller until walks of the sweep are done: its reply comes later.
    Wait(SweepWaiterId),
    /// Compress a copy of a large value on a worker.
    Compress(Box<Job>),
}

/// The keyspace events (`notify-keyspace-events`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A value was stored: `smartcache.set`, module class (`d`).
    Set,
    /// An absence was stored: `smartcache.absent`, module class.
    Absent,
    /// Freshness was ended by command: `smartcache.stale`, module class.
    Stale,
    /// A lifetime was restarted: `expire`, generic class, as by `EXPIRE`.
    Expire,
    /// The key was deleted: `del`, generic class (`g`).
    Del,
}

impl Event {
    /// The event's name.
    pub fn name(self) -> &'static CStr {
        match self {
            Event::Set => c"smartcache.set",
            Event::Absent => c"smartcache.absent",
            Event::Stale => c"smartcache.stale",
            Event::Expire => c"expire",
            Event::Del => c"del",
        }
    }
}

/// The effects of one command. The few of a usual command need no allocation.
#[derive(Debug, Default)]
pub struct Effects<'w> {
    list: SmallVec<[Effect<'w>; 4]>,
}

impl<'w> Effects<'w> {
    /// No effects.
    pub fn new() -> Self {
        Effects { list: SmallVec::new() }
    }

    /// Adds an effect.
    pub fn push(&mut self, effect: Effect<'w>) {
        self.list.push(effect);
    }

    /// Adds what follows every store or deletion of `key`: replication, signal and event.
    pub fn changed(&mut self, key: Key<'w>, replicate: Effect<'w>, event: Event) {
        self.push(replicate);
        self.push(Effect::Signal(key));
        self.push(Effect::Notify(event, key));
    }

    /// Replicates the command as it is, in place of all that its parts would replicate.
    pub fn replicate_verbatim(&mut self) {
        self.list.retain(|effect| {
            !matches!(
                effect,
                Effect::ReplicateEntry { .. }
                    | Effect::ReplicateHeader(_)
                    | Effect::ReplicateUnlink(_)
                    | Effect::ReplicateMark(_)
                    | Effect::ReplicateVerbatim
            )
        });
        self.list.insert(0, Effect::ReplicateVerbatim);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes the effects, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<'w>> + '_ {
        self.list.drain(..)
    }
}
