//! The numbers that are reported: one row each, with its definition.

use crate::cache::stats::Snapshot;
use crate::cache::stats::snapshot::Number::{self, Fraction, Whole};

/// What sort of number a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows with what happens, for each rule.
    Count,
    /// As of now, or follows from others, for each rule.
    Gauge,
    /// Grows with what happens; told of the node only.
    NodeCount,
    /// As of now; told of the node only.
    NodeGauge,
}

impl Kind {
    /// Whether it only grows, until `RESETSTAT`.
    pub fn grows(self) -> bool {
        matches!(self, Kind::Count | Kind::NodeCount)
    }

    /// Whether it is told of the node only.
    pub fn is_of_node(self) -> bool {
        matches!(self, Kind::NodeCount | Kind::NodeGauge)
    }
}

/// A number of the report: its name, what it means, and how it is read. A name with `_ms` is in milliseconds, one with
/// `_bytes` in bytes.
pub struct Field {
    /// Its name, in `STATS` as in `INFO` (there with `smartcache_` before it).
    pub name: &'static str,
    /// What sort of number it is.
    pub kind: Kind,
    /// What exactly it counts, with its unit.
    pub means: &'static str,
    /// Its value.
    pub read: fn(&Snapshot) -> Number,
}

/// So many of a hundred; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) }
}

/// Two digits after the point: what a person reads, and what keeps `INFO` short.
pub fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// Every number, in the order of the report.
pub static FIELDS: &[Field] = &[
    Field {
        name: "requests",
        kind: Kind::Count,
        means: "Keys asked for by GET, MGET and GETLOCK: the sum of the hits of all kinds, the misses and busy. A caller that waited counts once, by its answer.",
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
        means: "Requests answered with a stale value, inside a window.",
        read: |s| Whole(s.count.stale_hits),
    },
    Field {
        name: "absent_hits",
        kind: Kind::Count,
        means: "Requests answered by the knowledge that the origin has nothing.",
        read: |s| Whole(s.count.absent_hits),
    },
    Field {
        name: "misses",
        kind: Kind::Count,
        means: "Requests that found nothing to serve.",
        read: |s| Whole(s.count.misses()),
    },
    Field {
        name: "busy",
        kind: Kind::Count,
        means: "Requests told to ask again: somebody else loads, or nobody may.",
        read: |s| Whole(s.count.busy),
    },
    Field {
        name: "hit_rate",
        kind: Kind::Gauge,
        means: "Percent of requests answered without a load: hits, stale hits and absent hits; 0 for no requests.",
        read: |s| Fraction(percent(s.count.served(), s.count.requests())),
    },
    Field {
        name: "misses_cold",
        kind: Kind::Count,
        means: "Misses of keys that are not there, for no reason that is remembered: never stored, deleted, or gone long ago.",
        read: |s| Whole(s.count.misses_cold),
    },
    Field {
        name: "misses_expired",
        kind: Kind::Count,
        means: "Misses of entries whose time is over: still in memory, or expired and gone and still remembered.",
        read: |s| Whole(s.count.misses_expired),
    },
    Field {
        name: "misses_invalidated",
        kind: Kind::Count,
        means: "Misses of entries whose freshness was ended by command: still in memory, or freed since and still remembered.",
        read: |s| Whole(s.count.misses_invalidated),
    },
    Field {
        name: "misses_evicted",
        kind: Kind::Count,
        means: "Misses of keys that the server has evicted to make room, and that are still remembered.",
        read: |s| Whole(s.count.misses_evicted),
    },
    Field { name: "sets", kind: Kind::Count, means: "Values stored, one a key.", read: |s| Whole(s.count.sets) },
    Field { name: "absents", kind: Kind::Count, means: "Absences stored.", read: |s| Whole(s.count.absents) },
    Field {
        name: "sets_refused",
        kind: Kind::Count,
        means: "Values and absences not stored: over a limit, or NX or XX did not hold.",
        read: |s| Whole(s.count.sets_refused),
    },
    Field {
        name: "leases_granted",
        kind: Kind::Count,
        means: "Leases granted by GETLOCK. Each ends in exactly one of the seven ways that follow.",
        read: |s| Whole(s.count.leases_granted),
    },
    Field {
        name: "leases_early",
        kind: Kind::Count,
        means: "Those of them that were granted while the value was still fresh.",
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
        means: "Leases that ended with a fill answered STALE: the key was deleted, made stale or flushed meanwhile.",
        read: |s| Whole(s.count.fills_stale),
    },
    Field {
        name: "fills_lost",
        kind: Kind::Count,
        means: "Leases that ended with a fill answered LOST: something newer was written.",
        read: |s| Whole(s.count.fills_lost),
    },
    Field {
        name: "fills_failed",
        kind: Kind::Count,
        means: "Leases that ended with a fill that was an error, or with UNLOCK … BACKOFF.",
        read: |s| Whole(s.count.fills_failed),
    },
    Field {
        name: "leases_released",
        kind: Kind::Count,
        means: "Leases given back by UNLOCK.",
        read: |s| Whole(s.count.leases_released),
    },
    Field {
        name: "leases_voided",
        kind: Kind::Count,
        means: "Leases ended because their load was not wanted any more: DEL, STALE, a SET without token, a flush, a change of role; or who waited for it had left.",
        read: |s| Whole(s.count.leases_voided),
    },
    Field {
        name: "leases_expired",
        kind: Kind::Count,
        means: "Leases whose time was over before anything came: loads longer than LOCK, or loaders that died.",
        read: |s| Whole(s.count.leases_expired),
    },
    Field {
        name: "fills_late",
        kind: Kind::Count,
        means: "Fills that came after their lease had ended, whatever they were answered.",
        read: |s| Whole(s.count.fills_late),
    },
    Field {
        name: "fills_unknown",
        kind: Kind::Count,
        means: "Fills with a token that this node has not given, or not for this key, or in a former life.",
        read: |s| Whole(s.count.fills_unknown),
    },
    Field {
        name: "fills_refused",
        kind: Kind::Count,
        means: "Values and absences brought with TOKEN or SINCE that were not stored as fresh: answered STALE, LOST or an error.",
        read: |s| Whole(s.count.fills_refused()),
    },
    Field {
        name: "leases_refused",
        kind: Kind::Count,
        means: "Leases that GETLOCK would have granted, had not FILLS or max-leases been reached: stale copy or BUSY instead.",
        read: |s| Whole(s.count.leases_refused),
    },
    Field {
        name: "leases",
        kind: Kind::Gauge,
        means: "Leases that are out at this moment.",
        read: |s| Whole(s.leases),
    },
    Field {
        name: "waits",
        kind: Kind::Count,
        means: "Callers that were parked, and are no more. Each ended in exactly one of the four ways that follow.",
        read: |s| Whole(s.count.waits),
    },
    Field {
        name: "waits_served",
        kind: Kind::Count,
        means: "Waits that ended with something to use.",
        read: |s| Whole(s.count.waits_served),
    },
    Field {
        name: "waits_promoted",
        kind: Kind::Count,
        means: "Waits that ended with a token: the next to load.",
        read: |s| Whole(s.count.waits_promoted),
    },
    Field {
        name: "waits_timed_out",
        kind: Kind::Count,
        means: "Waits that ended after WAIT.",
        read: |s| Whole(s.count.waits_timed_out),
    },
    Field {
        name: "waits_dropped",
        kind: Kind::Count,
        means: "Waits that ended before their time: the caller left, a load failed, or the node's role changed.",
        read: |s| Whole(s.count.waits_dropped),
    },
    Field {
        name: "wait_ms_p50",
        kind: Kind::Gauge,
        means: "Milliseconds that half of the waits did not exceed, to a sixteenth; 0 for no waits.",
        read: |s| Whole(s.waits.percentile(50)),
    },
    Field {
        name: "wait_ms_p99",
        kind: Kind::Gauge,
        means: "Milliseconds that 99 of 100 waits did not exceed, to a sixteenth; 0 for no waits.",
        read: |s| Whole(s.waits.percentile(99)),
    },
    Field {
        name: "waiters",
        kind: Kind::NodeGauge,
        means: "Callers that are parked at this moment.",
        read: |s| Whole(s.waiters),
    },
    Field {
        name: "origin_ms",
        kind: Kind::Count,
        means: "Milliseconds spent loading, from grant to fill, by holders of leases.",
        read: |s| Whole(s.count.origin_ms),
    },
    Field {
        name: "origin_ms_saved",
        kind: Kind::Count,
        means: "Milliseconds of loading that hits of all kinds avoided: for each hit the measured load time of its entry, as far as it was loaded under a lease.",
        read: |s| Whole(s.count.origin_ms_saved),
    },
    Field {
        name: "invalidations",
        kind: Kind::NodeCount,
        means: "INVALIDATE commands that were carried out.",
        read: |s| Whole(s.count.invalidations),
    },
    Field {
        name: "entries_invalidated",
        kind: Kind::NodeCount,
        means: "Entries they have hit: the sum of their replies.",
        read: |s| Whole(s.count.entries_invalidated),
    },
    Field {
        name: "entries_reclaimed",
        kind: Kind::NodeCount,
        means: "Entries that the sweep has freed.",
        read: |s| Whole(s.count.entries_reclaimed),
    },
    Field {
        name: "sweep_backlog",
        kind: Kind::NodeGauge,
        means: "Keys and members of tags that the sweep has yet to look at; 0 when nothing is being swept, and on a replica.",
        read: |s| Whole(s.sweep_backlog),
    },
    Field {
        name: "tags",
        kind: Kind::NodeGauge,
        means: "Names of tags that are known: those that entries have, and those invalidated lately.",
        read: |s| Whole(s.index.tags),
    },
    Field {
        name: "tag_members",
        kind: Kind::NodeGauge,
        means: "Entries that are listed under a tag, each once for each of its tags.",
        read: |s| Whole(s.index.members),
    },
    Field {
        name: "prefixes_invalidated",
        kind: Kind::NodeGauge,
        means: "Invalidated prefixes that reads still ask about.",
        read: |s| Whole(s.index.prefixes),
    },
    Field {
        name: "patterns_invalidated",
        kind: Kind::NodeGauge,
        means: "Invalidated patterns that reads still ask about.",
        read: |s| Whole(s.index.patterns),
    },
    Field {
        name: "index_bytes",
        kind: Kind::NodeGauge,
        means: "Bytes of all that serves invalidation: names of tags, lists of their members, and what has been invalidated (without what the allocator adds).",
        read: |s| Whole(s.index.bytes),
    },
    Field {
        name: "entries_evicted",
        kind: Kind::Count,
        means: "Entries that the server has evicted to make room while they were fresh.",
        read: |s| Whole(s.count.entries_evicted),
    },
    Field {
        name: "keys_evicted",
        kind: Kind::NodeCount,
        means: "Keys that the server has evicted to make room, whatever they held.",
        read: |s| Whole(s.count.keys_evicted),
    },
    Field {
        name: "entries",
        kind: Kind::Gauge,
        means: "Entries in memory, in all databases, those included that are stale or dead but not yet freed.",
        read: |s| Whole(s.totals.entries),
    },
    Field {
        name: "raw_bytes",
        kind: Kind::Gauge,
        means: "Bytes of their values as clients gave them.",
        read: |s| Whole(s.totals.raw_bytes),
    },
    Field {
        name: "stored_bytes",
        kind: Kind::Gauge,
        means: "Bytes of their values as they are stored.",
        read: |s| Whole(s.totals.stored_bytes),
    },
    Field {
        name: "overhead_bytes",
        kind: Kind::Gauge,
        means: "Bytes of SmartCache's own beside the stored values: headers, windows, tag ids.",
        read: |s| Whole(s.totals.allocated_bytes.saturating_sub(s.totals.stored_bytes)),
    },
    Field {
        name: "compression_ratio",
        kind: Kind::Gauge,
        means: "Raw bytes for each stored byte; 1 when nothing is stored.",
        read: |s| {
            let (raw, stored) = (s.totals.raw_bytes, s.totals.stored_bytes);
            Fraction(if stored == 0 { 1.0 } else { round(raw as f64 / stored as f64) })
        },
    },
    Field {
        name: "saved_bytes",
        kind: Kind::Gauge,
        means: "Bytes that compression saves at this moment: raw_bytes less stored_bytes.",
        read: |s| Whole(s.totals.raw_bytes.saturating_sub(s.totals.stored_bytes)),
    },
    Field {
        name: "errors",
        kind: Kind::NodeCount,
        means: "Commands answered with an error by us.",
        read: |s| Whole(s.count.errors),
    },
    Field {
        name: "error_rate",
        kind: Kind::NodeGauge,
        means: "Percent of our commands answered with an error.",
        read: |s| Fraction(percent(s.count.errors, s.count.calls)),
    },
    Field {
        name: "panics",
        kind: Kind::NodeCount,
        means: "Panics caught: bugs of ours; the server's log has the details.",
        read: |s| Whole(s.count.panics),
    },
    Field {
        name: "bus_sent",
        kind: Kind::NodeCount,
        means: "In a cluster, messages with which commands were passed on to the other primaries.",
        read: |s| Whole(s.count.bus_sent),
    },
    Field {
        name: "bus_received",
        kind: Kind::NodeCount,
        means: "In a cluster, commands that other primaries passed on and that were run here.",
        read: |s| Whole(s.count.bus_received),
    },
    Field {
        name: "bus_lost",
        kind: Kind::NodeCount,
        means: "In a cluster, commands that could not be passed on, and messages that came and were not run: refused, not understood, or too many at a time when nothing may be written; the server's log says why.",
        read: |s| Whole(s.count.bus_lost),
    },
    Field {
        name: "requests_per_sec",
        kind: Kind::Gauge,
        means: "Requests a second, on average since start or reset, or over the window.",
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
        means: "Milliseconds over which the counters count: since start or RESETSTAT, or as far back as the window reaches.",
        read: |s| Whole(s.counting_ms),
    },
];
