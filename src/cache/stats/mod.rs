//! What the cache has done, counted on the main thread: plain numbers, no atomics, no allocation on a hit.
//!
//! There is a row of counters for each rule, and one for keys without; the whole is their sum. A row knows its own past
//! (`window.rs`), so all of this costs a hit two additions. Whoever counts says when, and for which rule:
//! `stats.at(now).of(rule).hits += 1`. A hit counts for the rule that its entry was stored under, which is written in the
//! entry; a miss for the one that the key matches.
//!
//! Each number is declared once, in [`FIELDS`], with its kind and its definition: `SMARTCACHE.STATS` as map, JSON and
//! Prometheus text, `INFO smartcache` and the documentation follow from that row.

pub mod health;
pub mod histogram;
pub mod hot_keys;
pub mod live;
pub mod miss_reasons;
pub mod report;
pub mod window;

use std::sync::Arc;

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::entry::EntryRef;
use crate::cache::lease::table::WaitOutcome;
use crate::cache::node::read::MissReason;
use crate::cache::rules::{Policies, RuleId};
use crate::cache::stats::histogram::Histogram;
use crate::cache::stats::hot_keys::HotKeys;
use crate::cache::stats::live::Totals;
use crate::cache::stats::miss_reasons::MissReasons;
use crate::cache::stats::window::{Counted, Row, Window};

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

/// The counters of this node, and since when they count.
#[derive(Debug)]
pub struct Stats {
    /// The first is for keys without a rule, and for what concerns no key.
    rows: Vec<Row>,
    /// The rule of each row.
    rules: Vec<RuleId>,
    /// The row of each rule, by id.
    row_of: Vec<u16>,
    /// The keys that are asked for most.
    pub hot: HotKeys,
    /// Why keys are not there.
    pub miss_reasons: Arc<MissReasons>,
    /// Commands of ours that ran and are still to be counted: cheaper than to do so at each.
    pub calls: u64,
    since_ms: u64,
    started_ms: u64,
}

/// No row yet.
const NOWHERE: u16 = u16::MAX;

/// The counters at one moment: what is counted now.
#[derive(Debug)]
pub struct Tally<'a> {
    stats: &'a mut Stats,
    now: Now,
}

/// Whose numbers to report.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// All.
    Node,
    /// Those of one rule, or with [`RuleId::NONE`] of the keys without.
    Rule(RuleId),
}

/// One number that is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// A number with a fraction.
    Fraction(f64),
}

/// What a report reads from.
#[derive(Debug)]
pub struct Snapshot {
    count: Counters,
    waits: Arc<Histogram>,
    totals: Totals,
    leases: u64,
    waiters: u64,
    sweep_backlog: u64,
    index: Index,
    uptime_ms: u64,
    counting_ms: u64,
}

/// What serves invalidation, counted.
#[derive(Clone, Copy, Debug, Default)]
struct Index {
    tags: u64,
    members: u64,
    prefixes: u64,
    patterns: u64,
    bytes: u64,
}

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

use Number::{Fraction, Whole};

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

impl Stats {
    /// Zero, as of `now`. The seed keeps clients from choosing which keys share a cell.
    pub fn new(now: Now, seed: u64, miss_reasons: Arc<MissReasons>) -> Self {
        Stats {
            rows: vec![Row::new(now)],
            rules: vec![RuleId::NONE],
            row_of: vec![0],
            hot: HotKeys::new(seed, now),
            miss_reasons,
            calls: 0,
            since_ms: now.mono_ms(),
            started_ms: now.mono_ms(),
        }
    }

    /// What all rows together have counted since start or reset.
    pub fn all(&self) -> Counters {
        self.rows.iter().fold(Counters::default(), |all, row| all.with(&row.current.count, u64::wrapping_add))
    }

    /// To count what happens at `now`.
    #[inline(always)]
    pub fn at(&mut self, now: Now) -> Tally<'_> {
        Tally { stats: self, now }
    }

    /// What all rows together have counted in a window.
    pub fn lately(&self, window: Window, now: Now) -> Counters {
        self.rows.iter().fold(Counters::default(), |all, row| all.with(&row.count_over(window, now), u64::wrapping_add))
    }

    /// What a rule has counted in a window, or with [`RuleId::NONE`] the keys without.
    pub fn lately_of(&self, rule: RuleId, window: Window, now: Now) -> Counters {
        self.row(rule).map(|row| row.count_over(window, now)).unwrap_or_default()
    }

    /// How long a window is that does not reach back behind the start or the reset, in milliseconds.
    pub fn reach_ms(&self, window: Window, now: Now) -> u64 {
        now.mono_ms().saturating_sub(window.begins_ms(now).max(self.since_ms))
    }

    /// Milliseconds since the module was loaded.
    pub fn uptime_ms(&self, now: Now) -> u64 {
        now.mono_ms().saturating_sub(self.started_ms)
    }

    /// A rule was made, or made anew, when the node had [eligible](Counters::eligible) so many keys: from here on it may match.
    pub fn meet(&mut self, rule: RuleId, eligible: u64, now: Now) {
        let known = self.row_of.get(usize::from(rule.0)).filter(|at| **at != NOWHERE).map(|at| usize::from(*at));
        let at = known.unwrap_or_else(|| self.admit(rule, now));
        self.rows[at].before = Some((eligible, now.mono_ms()));
    }

    /// How many keys a rule could have matched of which it matched none, and in how many milliseconds, when the node has
    /// [eligible](Counters::eligible) so many; `None` when the rule has counted anything.
    pub fn unmatched(&self, rule: RuleId, eligible: u64, now: Now) -> Option<(u64, u64)> {
        let row = self.row(rule);
        if row.is_some_and(|row| row.current.count != Counters::default()) {
            return None;
        }
        let (before, since_ms) = row.and_then(|row| row.before).unwrap_or((0, self.since_ms));
        Some((eligible.saturating_sub(before), now.mono_ms().saturating_sub(since_ms)))
    }

    /// `RESETSTAT`.
    pub fn reset(&mut self, now: Now) {
        self.rows = vec![Row::new(now)];
        self.rules.truncate(1);
        self.row_of.truncate(1);
        self.hot.reset(now);
        self.calls = 0;
        self.since_ms = now.mono_ms();
    }

    /// Adds what was counted for rules that are gone to the keys without a rule, and the commands that ran to what they are
    /// counted in. To be called now and then, so that there are never many more rows than rules.
    pub fn remove_if_idle(&mut self, policies: &Policies, now: Now) {
        self.at(now).node();
        if self.rows.len() > policies.iter().len() + 1 {
            self.absorb_gone(policies);
        }
    }

    /// The same at once: before numbers are told.
    pub fn wake_waiters(&mut self, policies: &Policies, now: Now) {
        self.at(now).node();
        self.absorb_gone(policies);
    }

    fn absorb_gone(&mut self, policies: &Policies) {
        let mut at = 1;
        while at < self.rows.len() {
            if policies.rule(self.rules[at]).is_some() {
                at += 1;
                continue;
            }
            let gone = self.rows.swap_remove(at);
            self.row_of[usize::from(self.rules.swap_remove(at).0)] = NOWHERE;
            if let Some(moved) = self.rules.get(at) {
                self.row_of[usize::from(moved.0)] = at as u16;
            }
            self.rows[0].absorb(gone);
        }
    }

    /// A row for a rule that has none.
    #[cold]
    fn admit(&mut self, rule: RuleId, now: Now) -> usize {
        let id = usize::from(rule.0);
        if self.row_of.len() <= id {
            self.row_of.resize(id + 1, NOWHERE);
        }
        let at = self.rows.len();
        self.row_of[id] = at as u16; // at most one for each of the 65,535 ids
        self.rows.push(Row::new(now));
        self.rules.push(rule);
        at
    }

    fn row(&self, rule: RuleId) -> Option<&Row> {
        let at = *self.row_of.get(usize::from(rule.0))?;
        self.rows.get(usize::from(at))
    }
}

impl Tally<'_> {
    /// The counters of a rule.
    #[inline(always)]
    pub fn of(&mut self, rule: RuleId) -> &mut Counters {
        &mut self.current(rule).count
    }

    /// The counters for what concerns no key.
    pub fn node(&mut self) -> &mut Counters {
        let calls = std::mem::take(&mut self.stats.calls);
        let count = self.of(RuleId::NONE);
        count.calls += calls;
        count
    }

    #[inline(always)]
    fn current(&mut self, rule: RuleId) -> &mut Counted {
        let stats = &mut *self.stats;
        let at = match stats.row_of.get(usize::from(rule.0)) {
            Some(at) if *at != NOWHERE => usize::from(*at),
            _ => stats.admit(rule, self.now),
        };
        let row = &mut stats.rows[at];
        if self.now.mono_ms() >= row.ends_ms {
            row.rotate(self.now);
        }
        &mut row.current
    }

    /// The counters for an entry that is served: it spares a load.
    #[inline(always)] // with what follows: part of what a hit costs
    pub fn served(&mut self, entry: EntryRef<'_>) -> &mut Counters {
        let count = self.of(entry.rule());
        if let Some(load_ms) = entry.load_ms() {
            count.origin_ms_saved += u64::from(load_ms);
        }
        count
    }

    /// A request for `key` is answered; `served` when with something to use.
    #[inline(always)]
    pub fn asked(&mut self, key: &[u8], served: bool) {
        self.stats.hot.see(key, served, self.now);
    }

    /// A wait has ended.
    pub fn waited(&mut self, rule: RuleId, how: WaitOutcome, since_ms: u64) {
        let waited_ms = self.now.mono_ms().saturating_sub(since_ms);
        let current = self.current(rule);
        Arc::make_mut(&mut current.waits).record(waited_ms);
        let count = &mut current.count;
        count.waits += 1;
        *match how {
            WaitOutcome::Served => &mut count.waits_served,
            WaitOutcome::Promoted => &mut count.waits_promoted,
            WaitOutcome::TimedOut => &mut count.waits_timed_out,
            WaitOutcome::Dropped => &mut count.waits_dropped,
        } += 1;
    }

    /// Why `name` is not there.
    pub fn miss_reason(&self, reason: MissReason, name: &[u8]) -> MissReason {
        if reason == MissReason::Gone { self.stats.miss_reasons.reason(name) } else { reason }
    }
}

impl State {
    /// The server has evicted a key; it held a fresh entry of that rule, or none.
    pub fn evicted(&mut self, fresh: Option<RuleId>, now: Now) {
        let mut tally = self.stats.at(now);
        tally.node().keys_evicted += 1;
        if let Some(rule) = fresh {
            tally.of(rule).entries_evicted += 1;
        }
    }

    fn index(&self) -> Index {
        let totals = self.invalidations.totals();
        Index {
            tags: self.tags.len() as u64,
            members: totals.members,
            prefixes: totals.prefixes,
            patterns: totals.patterns,
            bytes: totals.bytes + self.tags.bytes() as u64,
        }
    }

    /// The numbers at `now`, since start or reset or over a window.
    pub fn snapshot(&mut self, whose: Whose, window: Option<Window>, now: Now) -> Snapshot {
        let (sweep_backlog, index) = (self.sweep_backlog(), self.index());
        let State { stats, policies, live, leases, .. } = self;
        stats.wake_waiters(policies, now);
        let mut counted = Counted::default();
        let rows = match whose {
            Whose::Node => stats.rows.iter(),
            Whose::Rule(rule) => stats.row(rule).map_or(&[][..], std::slice::from_ref).iter(),
        };
        rows.for_each(|row| counted = counted.and(&row.over(window, now)));
        let all = (live.totals(), leases.live());
        let of = |rule: RuleId| (live.of_rule(rule), leases.of_rule(rule));
        let (totals, out) = match whose {
            Whose::Node => all,
            // Also those of rules that are gone.
            Whose::Rule(RuleId::NONE) => {
                policies.iter().map(|rule| of(rule.id())).fold(all, |all, one| (all.0.without(one.0), all.1 - one.1))
            }
            Whose::Rule(rule) => of(rule),
        };
        let begins_ms = window.map_or(0, |window| window.begins_ms(now)).max(stats.since_ms);
        Snapshot {
            count: counted.count,
            waits: counted.waits,
            totals,
            leases: out,
            waiters: leases.waiting() as u64,
            sweep_backlog,
            index,
            uptime_ms: now.mono_ms().saturating_sub(stats.started_ms),
            counting_ms: now.mono_ms().saturating_sub(begins_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestNode;

    #[test]
    fn field_names_are_unique_and_definitions_are_sentences() {
        let mut names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
        assert!(FIELDS.iter().all(|field| field.means.ends_with('.')));
    }

    #[test]
    fn no_requests_give_a_hit_rate_of_zero_and_not_nan() {
        let mut node = TestNode::at(0);
        let now = node.now();
        let snapshot = node.state.snapshot(Whose::Node, None, now);
        for field in FIELDS {
            if let Fraction(x) = (field.read)(&snapshot) {
                assert!(x.is_finite(), "{}", field.name);
            }
        }
    }

    const DAY_MS: u64 = 86_400_000;

    /// A random history of those commands that count something, with several callers and keys of three rules, and a wall
    /// clock that jumps.
    fn histories() -> impl Strategy<Value = Vec<(u8, u8, u16)>> {
        proptest::collection::vec((0..20_u8, 0..6_u8, 0..3_000_u16), 1..120)
    }

    fn take(node: &mut TestNode, tokens: &mut Vec<(String, String)>, (what, which, ms): (u8, u8, u16)) {
        let key = format!("{}:{}", ["a", "b", "none"][usize::from(which) % 3], which / 3);
        let client = u64::from(ms % 5) + 1;
        // A connection that waits says nothing meanwhile.
        if node.is_waiting(client) {
            return node.advance(ms.into());
        }
        let fill = |tokens: &mut Vec<(String, String)>| {
            if tokens.is_empty() {
                return ("none:9".into(), "bogus".into());
            }
            tokens.swap_remove(usize::from(ms) % tokens.len())
        };
        let line = match what {
            0 => format!("GET {key}"),
            1 => format!("GET {key} STALE"),
            2 => format!("MGET {key} a:0 list"),
            3..=6 => format!("GETLOCK {key} LOCK 700ms"),
            7..=9 => format!("GETLOCK {key} LOCK 900ms WAIT 500ms"),
            10 => format!("SET {key} v PX 900 SWR 1 SIE 2"),
            11..=13 => {
                let (key, token) = fill(tokens);
                format!("SET {key} v PX 900 SWR 1 TOKEN {token}")
            }
            14 => {
                let (key, token) = fill(tokens);
                format!("UNLOCK {key} {token}{}", if ms % 2 == 0 { " BACKOFF 300ms" } else { "" })
            }
            15 => format!("DEL {key}"),
            16 => format!("STALE {key}"),
            17 => ["RULE SET b MATCH b:* FILLS 1", "RULE DEL b", "ABSENT a:1 PX 500", "SET a:0 v NX"]
                [usize::from(ms) % 4]
                .into(),
            18 => {
                node.disconnect(client);
                return node.evict(&key);
            }
            19 if ms % 5 == 0 => {
                let wall_ms = node.now().us() / 1_000;
                return node.set_clock(if ms % 2 == 0 { wall_ms + DAY_MS } else { wall_ms.saturating_sub(DAY_MS) });
            }
            _ => return node.advance(u64::from(ms) * if ms % 7 == 0 { 30 } else { 1 }),
        };
        let answer = node.call_as(client, &line);
        let found = answer.split('"').find(|word| word.len() == crate::cache::lease::token::LEN).map(str::to_owned);
        tokens.extend(found.filter(|_| line.starts_with("GETLOCK")).map(|token| (key, token)));
    }

    proptest! {
        #[test]
        fn all_that_is_counted_adds_up(steps in histories()) {
            let mut node = TestNode::at(3 * DAY_MS);
            node.plain_list("list");
            node.call("RULE SET a MATCH a:* LOCK 400ms");
            let mut tokens = Vec::new();
            for step in steps {
                take(&mut node, &mut tokens, step);
                let now = node.now();
                let ids: Vec<_> = node.state.policies.iter().map(|rule| rule.id()).chain([RuleId::NONE]).collect();
                for window in [None, Some(Window::Minute), Some(Window::Hour)] {
                    let whole = node.state.snapshot(Whose::Node, window, now);
                    let rows: Vec<_> =
                        ids.iter().map(|id| node.state.snapshot(Whose::Rule(*id), window, now)).collect();
                    let sum = rows.iter().fold(Counters::default(), |sum, row| sum.with(&row.count, |a, b| a + b));
                    prop_assert_eq!(sum, whole.count);
                    prop_assert_eq!(rows.iter().map(|row| row.totals.entries).sum::<u64>(), whole.totals.entries);
                    prop_assert_eq!(rows.iter().map(|row| row.leases).sum::<u64>(), whole.leases);
                }
                for id in ids.into_iter().map(Whose::Rule).chain([Whose::Node]) {
                    let row = node.state.snapshot(id, None, now);
                    let c = row.count;
                    prop_assert_eq!(c.requests(), c.hits + c.stale_hits + c.absent_hits + c.misses() + c.busy);
                    prop_assert_eq!(c.waits, c.waits_served + c.waits_promoted + c.waits_timed_out + c.waits_dropped);
                }
                let whole = node.state.snapshot(Whose::Node, None, now);
                let c = whole.count;
                let ended = c.fills + c.fills_stale + c.fills_lost + c.fills_failed + c.leases_released + c.leases_voided + c.leases_expired;
                prop_assert_eq!(c.leases_granted, ended + whole.leases, "each lease ends in one way");
            }
        }
    }
}
