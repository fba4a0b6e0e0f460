//! How leases and waits end: each exactly once, and counted by how.

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
