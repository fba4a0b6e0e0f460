//! The counters of one rule.

use super::miss_reasons::MissReason;
use crate::cache::lease::outcomes::ReplyState;

/// Declares the struct of counters, with arithmetic over all of them.
macro_rules! counters {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$means:meta])* pub $field:ident: u64,)* }) => {
        $(#[$about])* pub struct $name { $($(#[$means])* pub $field: u64,)* }

        impl $name {
            /// Combines each counter with the same counter of `other`.
            pub fn with(&self, other: &Self, f: fn(u64, u64) -> u64) -> Self {
                $name { $($field: f(self.$field, other.$field),)* }
            }
        }
    };
}

counters! {
/// Numbers that only grow, until `RESETSTAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads answered with a fresh value.
    pub hits: u64,
    /// Reads answered with a stale value.
    pub stale_hits: u64,
    /// Reads answered from an absent entry.
    pub absent_hits: u64,
    /// Reads of keys that are gone without a known reason.
    pub misses_cold: u64,
    /// Reads of expired entries, also of those that are gone.
    pub misses_expired: u64,
    /// Reads of invalidated entries, also of those that are gone.
    pub misses_invalidated: u64,
    /// Reads of keys that the server evicted.
    pub misses_evicted: u64,
    /// Reads answered `BUSY`.
    pub busy: u64,
    /// Values stored.
    pub sets: u64,
    /// Absent entries stored.
    pub absents: u64,
    /// Values and absent entries not stored: an error, or `NX` or `XX` was not met.
    pub sets_refused: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases granted while the value was still fresh.
    pub leases_early: u64,
    /// Leases that ended with a fill answered `OK`.
    pub fills: u64,
    /// Leases that ended with a fill answered `STALE`.
    pub fills_stale: u64,
    /// Leases that ended with a fill answered `LOST`.
    pub fills_lost: u64,
    /// Leases that ended with a fill answered with an error, or with a back-off.
    pub fills_failed: u64,
    /// Leases released by their holder.
    pub leases_released: u64,
    /// Leases whose load was no longer wanted.
    pub leases_voided: u64,
    /// Leases that ran out.
    pub leases_expired: u64,
    /// Leases that a limit did not allow.
    pub leases_refused: u64,
    /// Leases and waits that a user's share did not allow.
    pub user_share_refused: u64,
    /// Fills that arrived after their lease had ended.
    pub fills_late: u64,
    /// Fills whose token is not valid here.
    pub fills_unknown: u64,
    /// Fills, with `TOKEN` or `SINCE`, answered `STALE`.
    pub refused_stale: u64,
    /// Those of them that began within the guard of an invalidation.
    pub refused_guarded: u64,
    /// Fills, with `TOKEN` or `SINCE`, answered `LOST`.
    pub refused_lost: u64,
    /// Fills, with `TOKEN` or `SINCE`, answered with an error.
    pub refused_error: u64,
    /// Fills that arrived after their lease had run out.
    pub overdue: u64,
    /// Milliseconds from grant to fill of overdue fills.
    pub overdue_ms: u64,
    /// Waits that have ended.
    pub waits: u64,
    /// Waits that ended with a value or an absent entry.
    pub waits_served: u64,
    /// Waits that ended with a token.
    pub waits_promoted: u64,
    /// Waits that timed out.
    pub waits_timed_out: u64,
    /// Waits whose caller left, or had nothing left to wait for.
    pub waits_dropped: u64,
    /// Milliseconds from grant to fill of loads that ended in time.
    pub origin_ms: u64,
    /// Milliseconds of loading that hits avoided.
    pub origin_ms_saved: u64,
    /// `INVALIDATE` commands.
    pub invalidations: u64,
    /// Entries that they invalidated.
    pub entries_invalidated: u64,
    /// Dead entries freed by the sweep.
    pub entries_reclaimed: u64,
    /// Entries evicted while they were fresh.
    pub entries_evicted: u64,
    /// Keys of any type evicted.
    pub keys_evicted: u64,
    /// SmartCache commands that ran.
    pub calls: u64,
    /// SmartCache commands answered with an error.
    pub errors: u64,
    /// Panics caught.
    pub panics: u64,
    /// Messages sent to the other nodes of the cluster.
    pub bus_sent: u64,
    /// Commands from other primaries that ran here.
    pub bus_received: u64,
    /// Commands not passed on, and messages from other primaries that did not run.
    pub bus_lost: u64,
}
}

impl Counters {
    /// Reads that found nothing to serve.
    pub fn misses(&self) -> u64 {
        self.misses_cold + self.misses_expired + self.misses_invalidated + self.misses_evicted
    }

    /// Reads answered with a value or an absent entry.
    pub fn served(&self) -> u64 {
        self.hits + self.stale_hits + self.absent_hits
    }

    /// All reads.
    pub fn requests(&self) -> u64 {
        self.served() + self.misses() + self.busy
    }

    /// Keys requested or stored: each could have matched a rule.
    pub fn eligible(&self) -> u64 {
        self.requests() + self.sets + self.absents
    }

    /// Leases that have ended, in any way.
    pub fn leases_ended(&self) -> u64 {
        let filled = self.fills + self.fills_stale + self.fills_lost + self.fills_failed;
        filled + self.leases_released + self.leases_voided + self.leases_expired
    }

    /// Fills that were not stored as fresh.
    pub fn fills_refused(&self) -> u64 {
        self.refused_stale + self.refused_lost + self.refused_error
    }

    /// The counter of reads with this reply; misses are counted by reason.
    pub fn read(&mut self, state: ReplyState, reason: MissReason) -> &mut u64 {
        match state {
            ReplyState::Hit => &mut self.hits,
            ReplyState::Absent => &mut self.absent_hits,
            ReplyState::Stale => &mut self.stale_hits,
            ReplyState::Miss => self.miss(reason),
            ReplyState::Busy => &mut self.busy,
        }
    }

    /// The counter of misses with this reason.
    pub fn miss(&mut self, reason: MissReason) -> &mut u64 {
        match reason {
            MissReason::Cold | MissReason::Gone => &mut self.misses_cold,
            MissReason::Expired => &mut self.misses_expired,
            MissReason::Invalidated => &mut self.misses_invalidated,
            MissReason::Evicted => &mut self.misses_evicted,
        }
    }
}
