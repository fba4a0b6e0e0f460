//! What is decided for a caller of `GETLOCK`: from what the key holds, who loads it, and whether this caller may.
//!
//! ```text
//!                     │ a lease is out           │ back-off             │ nobody loads
//!  ───────────────────┼──────────────────────────┼──────────────────────┼──────────────────────────────
//!   fresh             │ HIT                      │ HIT                  │ HIT, at times with a token
//!   inside SWR        │ STALE                    │ STALE                │ STALE with a token
//!   inside SIE        │ wait, or STALE           │ STALE                │ MISS with a token, else STALE
//!   nothing to serve  │ wait, or BUSY            │ BUSY                 │ MISS with a token, else BUSY
//! ```
//!
//! "Else" is for callers to whom `FILLS`, `max-leases` or `user-share` refuses a lease. An absent entry is answered
//! `ABSENT`; it has no windows. A caller that names the `OWNER` of the lease that is out gets its token again.
//!
//! A waiter is decided for by the same table when it is woken: so a store answers all waiters, and whatever else ends a
//! lease grants the next one to the first waiter, before any new reader. `node/acquire.rs` grants and wakes.

use crate::cache::entry::Freshness;
use crate::cache::lease::outcomes::{ReplyState, WaitOutcome};
use crate::cache::lease::token::Token;
use crate::cache::lease::users::UserName;
use crate::cache::{Judge, Server, Slot};

/// What a caller asks for.
#[derive(Clone, Copy)]
pub struct LeaseRequest<'a> {
    /// The connection.
    pub client: u64,
    /// The user whose share (`user-share`) the lease or the wait counts for.
    pub user: User<'a>,
    /// `LOCK`, in milliseconds; else the policy's.
    pub lock_ms: Option<u64>,
    /// `OWNER`.
    pub owner: Option<&'a [u8]>,
    /// It may be parked until another caller has loaded the key.
    pub waits: bool,
    /// It may be granted a lease: not a waiter whose time was over before it was woken, since nobody may be there to
    /// load.
    pub loads: bool,
}

/// The user of a caller.
#[derive(Clone, Copy)]
pub enum User<'a> {
    /// The one who calls: the server is asked only if need be.
    Calls(&'a dyn Server),
    /// A waiter's, who has its place.
    Waits(&'a UserName),
}

impl User<'_> {
    /// The user's name.
    pub fn name(&self) -> UserName {
        match self {
            User::Calls(server) => server.user(),
            User::Waits(user) => (*user).clone(),
        }
    }
}

/// What a key holds, as far as a decision depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyState {
    /// A fresh entry, value or absence.
    Fresh {
        /// Until its freshness ends; `None` without end.
        left_ms: Option<u64>,
        /// How long its load took, when that was measured.
        load_ms: Option<u32>,
        /// How long it lives in all.
        life_ms: Option<u64>,
    },
    /// A plain string: fresh, and never loaded by us.
    Plain,
    /// A value inside SWR.
    Swr,
    /// A value past SWR, but inside SIE.
    Sie,
    /// Nothing that could be served.
    Nothing,
}

/// What is decided for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve the fresh entry; with a lease, the caller is to refresh it early.
    Fresh(Option<Grant>),
    /// Serve the stale value; with a lease, the caller is to refresh it, else it may ask again after so many
    /// milliseconds.
    Stale(Result<Grant, u64>),
    /// Load the key.
    Load(Grant),
    /// Ask again after so many milliseconds.
    Busy(u64),
    /// Wait: the caller is parked.
    Wait,
}

/// A token, and how long its lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The token.
    pub token: Token,
    /// What is left of the lease, in milliseconds.
    pub left_ms: u64,
}

impl KeyState {
    /// The state of the key whose slot this is.
    pub fn of(slot: Slot<'_>, judge: Judge<'_>) -> Self {
        let entry = match slot {
            Slot::Entry(entry) => entry,
            Slot::Text(_) => return KeyState::Plain,
            Slot::Empty | Slot::Other => return KeyState::Nothing,
        };
        match judge.freshness(entry) {
            Freshness::Fresh { left_ms } => KeyState::Fresh {
                left_ms,
                load_ms: entry.load_ms(),
                life_ms: left_ms.map(|left| left + entry.age_ms(judge.now())),
            },
            Freshness::Stale { in_swr: true } => KeyState::Swr,
            Freshness::Stale { in_swr: false } => KeyState::Sie,
            Freshness::Dead => KeyState::Nothing,
        }
    }
}

impl Decision {
    /// The lease that the caller gets.
    pub fn grant(&self) -> Option<Grant> {
        match self {
            Decision::Fresh(grant) => *grant,
            Decision::Stale(Ok(grant)) | Decision::Load(grant) => Some(*grant),
            Decision::Stale(Err(_)) | Decision::Busy(_) | Decision::Wait => None,
        }
    }

    /// What is left of the lease, or when to ask again, in milliseconds.
    pub fn lease_ms(&self) -> u64 {
        match self {
            Decision::Stale(Err(retry_ms)) | Decision::Busy(retry_ms) => *retry_ms,
            _ => self.grant().map_or(0, |grant| grant.left_ms),
        }
    }

    /// Whether the caller gets what the key holds.
    pub fn serves(&self) -> bool {
        matches!(self, Decision::Fresh(_) | Decision::Stale(_))
    }

    /// The first element of the reply; `absent` tells whether what is served is an absent entry.
    pub fn reply_state(&self, absent: bool) -> ReplyState {
        match self {
            Decision::Fresh(_) if absent => ReplyState::Absent,
            Decision::Fresh(_) => ReplyState::Hit,
            Decision::Stale(_) => ReplyState::Stale,
            Decision::Load(_) => ReplyState::Miss,
            Decision::Busy(_) | Decision::Wait => ReplyState::Busy,
        }
    }

    /// How the wait of a parked caller ends with this decision; `may_wait` tells whether it could have waited longer.
    pub fn wait_outcome(&self, may_wait: bool) -> WaitOutcome {
        match self {
            Decision::Load(_) | Decision::Stale(Ok(_)) => WaitOutcome::Promoted,
            Decision::Fresh(_) | Decision::Stale(Err(_)) => WaitOutcome::Served,
            Decision::Busy(_) | Decision::Wait if may_wait => WaitOutcome::Dropped,
            Decision::Busy(_) | Decision::Wait => WaitOutcome::TimedOut,
        }
    }
}
