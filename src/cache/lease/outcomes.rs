//! What reads are answered, and how leases and waits end: each exactly once, and counted by how.

/// How a lease ended: each in exactly one way.
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
    /// It was given back.
    Released,
    /// Its load was not wanted any more: `DEL`, `STALE`, a plain `SET`, a flush, a change of role. Or whoever waited for it
    /// has left.
    Voided,
    /// Its time was over.
    Expired,
}

/// How a wait ended: each in exactly one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// With something to use.
    Served,
    /// By becoming the one who loads.
    Promoted,
    /// In vain: its time was over.
    TimedOut,
    /// Before its time: the caller left, or there was nothing left to wait for.
    Dropped,
}

/// The first element of a `GETLOCK` reply: what the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyState {
    /// A fresh value.
    Hit,
    /// A stale value, inside a window.
    Stale,
    /// The fresh knowledge that the origin has nothing.
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
