//! The numbers that are reported: one row each, with its definition.

use super::snapshot::Number::{self, Fraction, Whole};
use super::snapshot::Snapshot;

/// What sort of number a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; counted for each rule.
    Count,
    /// Measured now, or computed from other fields; for each rule.
    Gauge,
    /// Only grows; counted for the node only.
    NodeCount,
    /// Measured now; for the node only.
    NodeGauge,
}

impl Kind {
    /// Whether it only grows, until `RESETSTAT`.
    pub fn grows(self) -> bool {
        matches!(self, Kind::Count | Kind::NodeCount)
    }

    /// Whether it is reported for the node only.
    pub fn is_of_node(self) -> bool {
        matches!(self, Kind::NodeCount | Kind::NodeGauge)
    }
}

/// A number of the report: its name, what it means, and how it is read. A name with `_ms` is in milliseconds, one with
/// `_bytes` in bytes.
pub struct Field {
    /// Its name in `STATS`; in `INFO` with `smartcache_` before it.
    pub name: &'static str,
    /// What sort of number it is.
    pub kind: Kind,
    /// Its definition, with its unit: text of the documentation.
    pub means: &'static str,
    /// Its value.
    pub read: fn(&Snapshot) -> Number,
}

/// The percentage that `part` is of `whole`; 0 when `whole` is 0.
pub(in crate::cache) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) }
}

/// Rounded to two digits after the point: enough to read, and short in `INFO`.
pub(in crate::cache) fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// Every number, in the order of the report.
pub static FIELDS: &[Field] = &[
    Field {
        name: "requests",
        kind: Kind::Count,
        means: "Keys requested by GET, MGET and GETLOCK: hits of all kinds, misses and busy. A caller that waited counts once, by its final reply.",
        read: |s| Whole(s.count.requests()),
    },
    Field {
        name: "hits",
        kind: Kind::Count,
        means: "Requests answered with a fresh value.",
        read: |s| Whole(s.count.hits),
    },
    Field {
        name: "stale_hits",
        kind: Kind::Count,
        means: "Requests answered with a stale value, inside its SWR or SIE window.",
        read: |s| Whole(s.count.stale_hits),
    },
    Field {
        name: "absent_hits",
        kind: Kind::Count,
        means: "Requests answered from an absent entry: the origin has nothing under the key.",
        read: |s| Whole(s.count.absent_hits),
    },
    Field {
        name: "misses",
        kind: Kind::Count,
        means: "Requests that found nothing to serve: the sum of misses_cold, misses_expired, misses_invalidated and misses_evicted.",
        read: |s| Whole(s.count.misses()),
    },
    Field {
        name: "busy",
        kind: Kind::Count,
        means: "Requests answered BUSY: another caller loads the key, or no lease may be granted now.",
        read: |s| Whole(s.count.busy),
    },
    Field {
        name: "hit_rate",
        kind: Kind::Gauge,
        means: "Percentage of requests answered without a load: hits, stale_hits and absent_hits; 0 without requests.",
        read: |s| Fraction(percent(s.count.served(), s.count.requests())),
    },
    Field {
        name: "misses_cold",
        kind: Kind::Count,
        means: "Misses without a known reason: the key was never stored, was deleted, or left so long ago that the reason is forgotten.",
        read: |s| Whole(s.count.misses_cold),
    },
    Field {
        name: "misses_expired",
        kind: Kind::Count,
        means: "Misses of expired entries: still in memory, or gone and still remembered. Also of entries that cannot be read.",
        read: |s| Whole(s.count.misses_expired),
    },
    Field {
        name: "misses_invalidated",
        kind: Kind::Count,
        means: "Misses of entries ended by INVALIDATE or STALE: still in memory, or gone and still remembered.",
        read: |s| Whole(s.count.misses_invalidated),
    },
    Field {
        name: "misses_evicted",
        kind: Kind::Count,
        means: "Misses of keys that the server evicted and that are still remembered.",
        read: |s| Whole(s.count.misses_evicted),
    },
    Field { name: "sets", kind: Kind::Count, means: "Values stored, one per key.", read: |s| Whole(s.count.sets) },
    Field { name: "absents", kind: Kind::Count, means: "Absent entries stored.", read: |s| Whole(s.count.absents) },
    Field {
        name: "sets_refused",
        kind: Kind::Count,
        means: "Values and absent entries not stored: over a limit, or NX or XX was not met.",
        read: |s| Whole(s.count.sets_refused),
    },
    Field {
        name: "leases_granted",
        kind: Kind::Count,
        means: "Leases granted by GETLOCK. Each ends in exactly one of seven ways: fills, fills_stale, fills_lost, fills_failed, leases_released, leases_voided, leases_expired.",
        read: |s| Whole(s.count.leases_granted),
    },
    Field {
        name: "leases_early",
        kind: Kind::Count,
        means: "Leases granted for an early refresh, while the value was still fresh; part of leases_granted.",
        read: |s| Whole(s.count.leases_early),
    },
    Field {
        name: "fills",
        kind: Kind::Count,
        means: "Leases that ended with a fill answered OK.",
        read: |s| Whole(s.count.fills),
    },
    Field {
        name: "fills_stale",
        kind: Kind::Count,
        means: "Leases that ended with a fill answered STALE: the key was deleted, made stale or flushed during the load.",
        read: |s| Whole(s.count.fills_stale),
    },
    Field {
        name: "fills_lost",
        kind: Kind::Count,
        means: "Leases that ended with a fill answered LOST: something newer had been written.",
        read: |s| Whole(s.count.fills_lost),
    },
    Field {
        name: "fills_failed",
        kind: Kind::Count,
        means: "Leases that ended with a fill answered with an error, or with UNLOCK … BACKOFF.",
        read: |s| Whole(s.count.fills_failed),
    },
    Field {
        name: "leases_released",
        kind: Kind::Count,
        means: "Leases released by UNLOCK without BACKOFF.",
        read: |s| Whole(s.count.leases_released),
    },
    Field {
        name: "leases_voided",
        kind: Kind::Count,
        means: "Leases that ended because their load was no longer wanted (DEL, STALE, a SET without TOKEN, a flush, a change of role) or because the caller had left before it got the token.",
        read: |s| Whole(s.count.leases_voided),
    },
    Field {
        name: "leases_expired",
        kind: Kind::Count,
        means: "Leases that ran out before a fill arrived: the load took longer than LOCK, or the loader died.",
        read: |s| Whole(s.count.leases_expired),
    },
    Field {
        name: "fills_late",
        kind: Kind::Count,
        means: "Fills that arrived after their lease had ended, whatever their reply.",
        read: |s| Whole(s.count.fills_late),
    },
    Field {
        name: "fills_unknown",
        kind: Kind::Count,
        means: "Fills whose token this node did not issue, or issued for another key, or before its last start or change of role.",
        read: |s| Whole(s.count.fills_unknown),
    },
    Field {
        name: "fills_refused",
        kind: Kind::Count,
        means: "Values and absent entries sent with TOKEN or SINCE that were not stored as fresh: answered STALE, LOST or an error.",
        read: |s| Whole(s.count.fills_refused()),
    },
    Field {
        name: "fills_guarded",
        kind: Kind::Count,
        means: "Those of fills_refused that were answered STALE because the load began within the GUARD of an invalidation.",
        read: |s| Whole(s.count.refused_guarded),
    },
    Field {
        name: "leases_refused",
        kind: Kind::Count,
        means: "Leases not granted because FILLS or max-leases was reached: the caller got a stale copy or BUSY.",
        read: |s| Whole(s.count.leases_refused),
    },
    Field {
        name: "user_share_refused",
        kind: Kind::Count,
        means: "Leases not granted, and callers not parked, because their user held its share (user-share) of max-leases or max-waiters: the caller got a stale copy or BUSY.",
        read: |s| Whole(s.count.user_share_refused),
    },
    Field { name: "leases", kind: Kind::Gauge, means: "Leases that callers hold now.", read: |s| Whole(s.leases) },
    Field {
        name: "waits",
        kind: Kind::Count,
        means: "Waits of parked callers that have ended, each in exactly one of the four ways that follow.",
        read: |s| Whole(s.count.waits),
    },
    Field {
        name: "waits_served",
        kind: Kind::Count,
        means: "Waits that ended with a value, or with the reply that the origin has none.",
        read: |s| Whole(s.count.waits_served),
    },
    Field {
        name: "waits_promoted",
        kind: Kind::Count,
        means: "Waits that ended with a token: the waiter is the next to load.",
        read: |s| Whole(s.count.waits_promoted),
    },
    Field {
        name: "waits_timed_out",
        kind: Kind::Count,
        means: "Waits that ended when the time given with WAIT was over.",
        read: |s| Whole(s.count.waits_timed_out),
    },
    Field {
        name: "waits_dropped",
        kind: Kind::Count,
        means: "Waits that ended early without a value: the caller left, a load failed, or the node's role changed.",
        read: |s| Whole(s.count.waits_dropped),
    },
    Field {
        name: "wait_ms_p50",
        kind: Kind::Gauge,
        means: "Milliseconds that 50% of the waits did not exceed, to within a sixteenth; 0 without waits.",
        read: |s| Whole(s.waits.percentile(50)),
    },
    Field {
        name: "wait_ms_p99",
        kind: Kind::Gauge,
        means: "Milliseconds that 99% of the waits did not exceed, to within a sixteenth; 0 without waits.",
        read: |s| Whole(s.waits.percentile(99)),
    },
    Field { name: "waiters", kind: Kind::NodeGauge, means: "Callers parked now.", read: |s| Whole(s.waiters) },
    Field {
        name: "origin_ms",
        kind: Kind::Count,
        means: "Milliseconds that lease holders spent loading, from grant to fill.",
        read: |s| Whole(s.count.origin_ms),
    },
    Field {
        name: "origin_ms_saved",
        kind: Kind::Count,
        means: "Milliseconds of loading that hits of all kinds avoided: each hit adds the measured load time of its entry. Only entries loaded under a lease have one.",
        read: |s| Whole(s.count.origin_ms_saved),
    },
    Field {
        name: "invalidations",
        kind: Kind::NodeCount,
        means: "INVALIDATE commands executed.",
        read: |s| Whole(s.count.invalidations),
    },
    Field {
        name: "entries_invalidated",
        kind: Kind::NodeCount,
        means: "Entries that they invalidated: the sum of the replies of INVALIDATE.",
        read: |s| Whole(s.count.entries_invalidated),
    },
    Field {
        name: "entries_reclaimed",
        kind: Kind::NodeCount,
        means: "Dead entries freed by the sweep.",
        read: |s| Whole(s.count.entries_reclaimed),
    },
    Field {
        name: "sweep_backlog",
        kind: Kind::NodeGauge,
        means: "Keys and posting-list members that the sweep has yet to check; 0 when nothing is being swept, and on a replica.",
        read: |s| Whole(s.sweep_backlog),
    },
    Field {
        name: "tags",
        kind: Kind::NodeGauge,
        means: "Tag names known: those that entries carry, and those invalidated lately.",
        read: |s| Whole(s.index.tags),
    },
    Field {
        name: "tag_members",
        kind: Kind::NodeGauge,
        means: "Members of all posting lists: each entry counts once for each of its tags.",
        read: |s| Whole(s.index.members),
    },
    Field {
        name: "prefixes_invalidated",
        kind: Kind::NodeGauge,
        means: "Invalidated prefixes that reads still check.",
        read: |s| Whole(s.index.prefixes),
    },
    Field {
        name: "patterns_invalidated",
        kind: Kind::NodeGauge,
        means: "Invalidated patterns that reads still check.",
        read: |s| Whole(s.index.patterns),
    },
    Field {
        name: "index_bytes",
        kind: Kind::NodeGauge,
        means: "Bytes used for invalidation: tag names, posting lists and invalidation marks, without the allocator's overhead.",
        read: |s| Whole(s.index.bytes),
    },
    Field {
        name: "marks_bytes",
        kind: Kind::NodeGauge,
        means: "Those of index_bytes that no entry accounts for: marks of prefixes and patterns, and of tags that no entry carries but a GUARD or an OVER keeps, with the allocator's overhead.",
        read: |s| Whole(s.index.mark_bytes),
    },
    Field {
        name: "marks_limit_bytes",
        kind: Kind::NodeGauge,
        means: "How many of these there may be (smartcache.index-memory); 0: no limit.",
        read: |s| Whole(s.index.mark_limit_bytes),
    },
    Field {
        name: "entries_evicted",
        kind: Kind::Count,
        means: "Entries that the server evicted while they were fresh.",
        read: |s| Whole(s.count.entries_evicted),
    },
    Field {
        name: "keys_evicted",
        kind: Kind::NodeCount,
        means: "Keys of any type that the server evicted.",
        read: |s| Whole(s.count.keys_evicted),
    },
    Field {
        name: "entries",
        kind: Kind::Gauge,
        means: "Entries in memory, in all databases: also stale ones, and dead ones that are not yet freed.",
        read: |s| Whole(s.totals.entries),
    },
    Field {
        name: "raw_bytes",
        kind: Kind::Gauge,
        means: "Bytes of their values as clients sent them.",
        read: |s| Whole(s.totals.raw_bytes),
    },
    Field {
        name: "stored_bytes",
        kind: Kind::Gauge,
        means: "Bytes of their values as stored.",
        read: |s| Whole(s.totals.stored_bytes),
    },
    Field {
        name: "overhead_bytes",
        kind: Kind::Gauge,
        means: "Bytes of entries besides their stored values: headers, windows, tag ids.",
        read: |s| Whole(s.totals.allocated_bytes.saturating_sub(s.totals.stored_bytes)),
    },
    Field {
        name: "compression_ratio",
        kind: Kind::Gauge,
        means: "raw_bytes divided by stored_bytes; 1 when nothing is stored.",
        read: |s| {
            let (raw, stored) = (s.totals.raw_bytes, s.totals.stored_bytes);
            Fraction(if stored == 0 { 1.0 } else { round(raw as f64 / stored as f64) })
        },
    },
    Field {
        name: "saved_bytes",
        kind: Kind::Gauge,
        means: "Bytes that compression saves now: raw_bytes minus stored_bytes.",
        read: |s| Whole(s.totals.raw_bytes.saturating_sub(s.totals.stored_bytes)),
    },
    Field {
        name: "errors",
        kind: Kind::NodeCount,
        means: "SMARTCACHE commands answered with an error.",
        read: |s| Whole(s.count.errors),
    },
    Field {
        name: "error_rate",
        kind: Kind::NodeGauge,
        means: "Percentage of SMARTCACHE commands answered with an error.",
        read: |s| Fraction(percent(s.count.errors, s.count.calls)),
    },
    Field {
        name: "panics",
        kind: Kind::NodeCount,
        means: "Panics caught: bugs in SmartCache. The server's log has the details.",
        read: |s| Whole(s.count.panics),
    },
    Field {
        name: "bus_sent",
        kind: Kind::NodeCount,
        means: "In a cluster: messages sent to pass commands on to the other primaries.",
        read: |s| Whole(s.count.bus_sent),
    },
    Field {
        name: "bus_received",
        kind: Kind::NodeCount,
        means: "In a cluster: commands received from other primaries and run.",
        read: |s| Whole(s.count.bus_received),
    },
    Field {
        name: "bus_lost",
        kind: Kind::NodeCount,
        means: "In a cluster: commands that could not be passed on, and messages that were received and not run: refused, not understood, or too many while writes are paused. The server's log says why.",
        read: |s| Whole(s.count.bus_lost),
    },
    Field {
        name: "requests_per_sec",
        kind: Kind::Gauge,
        means: "Average requests per second since start or RESETSTAT, or over the window.",
        read: |s| {
            let seconds = s.counting_ms as f64 / 1_000.0;
            Fraction(if seconds == 0.0 { 0.0 } else { round(s.count.requests() as f64 / seconds) })
        },
    },
    Field {
        name: "uptime_ms",
        kind: Kind::NodeGauge,
        means: "Milliseconds since the module was loaded.",
        read: |s| Whole(s.uptime_ms),
    },
    Field {
        name: "counting_ms",
        kind: Kind::NodeGauge,
        means: "Milliseconds that the counters cover: since start or RESETSTAT, or back to the start of the window.",
        read: |s| Whole(s.counting_ms),
    },
];
