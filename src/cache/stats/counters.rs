//! What is counted, for each rule.

use crate::cache::lease::outcomes::ReplyState;
use crate::cache::stats::miss_reasons::MissReason;

/// The struct of counters as it stands, with arithmetic over all of them.
macro_rules! counters {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$means:meta])* pub $field:ident: u64,)* }) => {
        $(#[$about])* pub struct $name { $($(#[$means])* pub $field: u64,)* }

        impl $name {
            /// Each counter with the same one of `other`.
            pub fn with(&self, other: &Self, f: fn(u64, u64) -> u64) -> Self {
                $name { $($field: f(self.$field, other.$field),)* }
            }
        }
    };
}

counters! {
/// What only ever grows, until `RESETSTAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads answered with a fresh value.
    pub hits: u64,
    /// Reads answered with a stale value.
    pub stale_hits: u64,
    /// Reads answered by the knowledge that there is none.
    pub absent_hits: u64,
    /// Reads of keys that were not there.
    pub misses_cold: u64,
    /// Reads of entries whose time was over.
    pub misses_expired: u64,
    /// Reads of entries whose freshness was ended by command, also of those that went afterwards.
    pub misses_invalidated: u64,
    /// Reads of keys that the server has evicted.
    pub misses_evicted: u64,
    /// Reads told to ask again.
    pub busy: u64,
    /// Values stored.
    pub sets: u64,
    /// Absences stored.
    pub absents: u64,
    /// Values not stored: an error, or `NX`/`XX` did not hold.
    pub sets_refused: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Those of them granted while the value was still fresh.
    pub leases_early: u64,
    /// Leases that ended with a fill answered `OK`.
    pub fills: u64,
    /// Leases that ended with a fill answered `STALE`.
    pub fills_stale: u64,
    /// Leases that ended with a fill answered `LOST`.
    pub fills_lost: u64,
    /// Leases that ended with a fill that was an error, or with a back-off.
    pub fills_failed: u64,
    /// Leases given back.
    pub leases_released: u64,
    /// Leases whose load was not wanted any more.
    pub leases_voided: u64,
    /// Leases whose time was over.
    pub leases_expired: u64,
    /// Leases wanted and not granted.
    pub leases_refused: u64,
    /// Fills that came after their lease had ended.
    pub fills_late: u64,
    /// Fills with a token that is not ours.
    pub fills_unknown: u64,
    /// Loads that came home and were answered `STALE`.
    pub refused_stale: u64,
    /// Those answered `LOST`.
    pub refused_lost: u64,
    /// Those answered with an error.
    pub refused_error: u64,
    /// Fills that came after their lease had run out.
    pub overdue: u64,
    /// Time from grant to fill of those, in milliseconds.
    pub overdue_ms: u64,
    /// Callers that were parked and are no more.
    pub waits: u64,
    /// Those answered with something to use.
    pub waits_served: u64,
    /// Those that became the one who loads.
    pub waits_promoted: u64,
    /// Those that waited in vain.
    pub waits_timed_out: u64,
    /// Those that left, or had nothing left to wait for.
    pub waits_dropped: u64,
    /// Time from grant to fill, in milliseconds.
    pub origin_ms: u64,
    /// Load times of what was served, in milliseconds.
    pub origin_ms_saved: u64,
    /// Invalidations.
    pub invalidations: u64,
    /// Entries they hit.
    pub entries_invalidated: u64,
    /// Invalidated entries whose memory was freed.
    pub entries_reclaimed: u64,
    /// Entries that were evicted while they were fresh.
    pub entries_evicted: u64,
    /// Keys of any kind that were evicted.
    pub keys_evicted: u64,
    /// Commands of ours that ran, each of them once.
    pub calls: u64,
    /// Commands of ours answered with an error.
    pub errors: u64,
    /// Panics caught.
    pub panics: u64,
    /// Messages sent to the other nodes of the cluster.
    pub bus_sent: u64,
    /// Commands run that other primaries of the cluster passed on.
    pub bus_received: u64,
    /// Those that were not run.
    pub bus_lost: u64,
}
}

impl Counters {
    /// Reads that found nothing to serve.
    pub fn misses(&self) -> u64 {
        self.misses_cold + self.misses_expired + self.misses_invalidated + self.misses_evicted
    }

    /// Reads answered with something to use.
    pub fn served(&self) -> u64 {
        self.hits + self.stale_hits + self.absent_hits
    }

    /// Reads.
    pub fn requests(&self) -> u64 {
        self.served() + self.misses() + self.busy
    }

    /// Keys that were asked for or stored: each had its chance to match a rule.
    pub fn eligible(&self) -> u64 {
        self.requests() + self.sets + self.absents
    }

    /// Leases that ended, in whatever way.
    pub fn leases_ended(&self) -> u64 {
        let home = self.fills + self.fills_stale + self.fills_lost + self.fills_failed;
        home + self.leases_released + self.leases_voided + self.leases_expired
    }

    /// Loads that came home and were not stored as fresh.
    pub fn fills_refused(&self) -> u64 {
        self.refused_stale + self.refused_lost + self.refused_error
    }

    /// The counter of reads that got this answer; a miss is counted by its reason.
    pub fn read(&mut self, state: ReplyState, reason: MissReason) -> &mut u64 {
        match state {
            ReplyState::Hit => &mut self.hits,
            ReplyState::Absent => &mut self.absent_hits,
            ReplyState::Stale => &mut self.stale_hits,
            ReplyState::Miss => self.miss(reason),
            ReplyState::Busy => &mut self.busy,
        }
    }

    /// Where a miss is counted.
    pub fn miss(&mut self, reason: MissReason) -> &mut u64 {
        match reason {
            MissReason::Cold | MissReason::Gone => &mut self.misses_cold,
            MissReason::Expired => &mut self.misses_expired,
            MissReason::Invalidated => &mut self.misses_invalidated,
            MissReason::Evicted => &mut self.misses_evicted,
        }
    }
}
