//! What a command asks the host to do once it has run: the host carries the effects out in order.
//!
//! Replication is by *effect*: what a rule, a random number or a setting decided is decided once, on the
//! primary, and travels as absolute times and stored bytes (`format.rs`).

use std::ffi::CStr;

use smallvec::SmallVec;

use super::Key;
use super::cluster::bus::PassOn;
use super::codec::CodecId;
use super::codec::offload::Job;
use super::invalidation::sweep::SweepWaiterId;
use super::lease::table::WaiterId;

/// One thing for the host to do.
#[derive(Debug)]
pub enum Effect<'w> {
    /// Tell replicas and AOF what stands under the key now: the whole entry.
    ReplicateEntry {
        /// The key.
        key: Key<'w>,
        /// When the server deletes it, in milliseconds of Unix time.
        expire_at: Option<u64>,
        /// What its value is being compressed with on a worker here, and should be there.
        pack: Option<CodecId>,
    },
    /// Tell replicas and AOF the key's new header and expiry; its bytes are what they were.
    ReplicateHeader(Key<'w>),
    /// Tell replicas and AOF that the key is gone.
    ReplicateUnlink(Key<'w>),
    /// Tell replicas and AOF the command as it was said.
    ReplicateVerbatim,
    /// Tell replicas and AOF of an invalidation: the words of `SMARTCACHE.MARK`.
    ReplicateMark(Vec<Vec<u8>>),
    /// Tell client-side caches that follow this pseudo-key.
    SignalTag(Vec<u8>),
    /// In a cluster, have the other primaries run the command as well: [`Cx::pass_on`](super::Cx::pass_on) leaves it.
    PassOn(PassOn),
    /// A keyspace event.
    Notify(Event, Key<'w>),
    /// The key has changed: `WATCH` and `CLIENT TRACKING` want to know.
    Signal(Key<'w>),
    /// Keep the caller waiting: its answer comes later.
    Park(WaiterId),
    /// Keep the caller waiting for walks of the sweep: its answer comes later.
    Wait(SweepWaiterId),
    /// Compress a copy of a large value on a worker.
    Compress(Box<Job>),
}

/// The keyspace events of ours (`notify-keyspace-events`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A value was stored: `smartcache.set`, module class (`d`).
    Set,
    /// An absence was stored: `smartcache.absent`, module class.
    Absent,
    /// Freshness was ended by command: `smartcache.stale`, module class.
    Stale,
    /// A lifetime was started anew: `expire`, generic class, as `EXPIRE` does.
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

/// The outbox of one command. Nothing is allocated for the few effects of a usual command.
#[derive(Debug, Default)]
pub struct Effects<'w> {
    list: SmallVec<[Effect<'w>; 4]>,
}

impl<'w> Effects<'w> {
    /// An empty outbox.
    pub fn new() -> Self {
        Effects { list: SmallVec::new() }
    }

    /// Adds one.
    pub fn push(&mut self, effect: Effect<'w>) {
        self.list.push(effect);
    }

    /// A store or deletion of `key`, told to everyone who wants to know.
    pub fn changed(&mut self, key: Key<'w>, replicate: Effect<'w>, event: Event) {
        self.push(replicate);
        self.push(Effect::Signal(key));
        self.push(Effect::Notify(event, key));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is to be done, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<'w>> + '_ {
        self.list.drain(..)
    }
}
