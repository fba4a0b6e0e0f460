//! How reads, leases and waits end: each in exactly one way, by which it is counted.

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Its fill was stored.
    Filled,
    /// Its fill was answered `STALE`.
    FilledStale,
    /// Its fill was answered `LOST`.
    FilledLost,
    /// Its fill was an error, or it was given back with `BACKOFF`.
    Failed,
    /// `UNLOCK`.
    Released,
    /// Its load is not trusted or wanted any more: `DEL`, `STALE`, a plain `SET`, a flush, a change of role; or the
    /// waiter it was granted to has left.
    Voided,
    /// Its deadline passed.
    Expired,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// It was answered with an entry.
    Served,
    /// It got the next lease.
    Promoted,
    /// Its `WAIT` was over.
    TimedOut,
    /// Before that: the caller left, or nothing was left to wait for.
    Dropped,
}

/// The first element of a `GETLOCK` reply: what the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyState {
    /// A fresh value.
    Hit,
    /// A stale value, inside a window.
    Stale,
    /// A fresh absent entry.
    Absent,
    /// Nothing: the caller is to load the key.
    Miss,
    /// Nothing: another caller loads the key.
    Busy,
}

impl ReplyState {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ReplyState::Hit => "HIT",
            ReplyState::Stale => "STALE",
            ReplyState::Absent => "ABSENT",
            ReplyState::Miss => "MISS",
            ReplyState::Busy => "BUSY",
        }
    }

    /// Whether the caller got what is in the cache.
    pub fn is_served(self) -> bool {
        matches!(self, ReplyState::Hit | ReplyState::Stale | ReplyState::Absent)
    }
}
