//! What the cache has done, counted on the main thread: plain numbers, no atomics, no allocation on a hit.
//!
//! Each number is declared once, in [`FIELDS`], with its kind and its definition: `SMARTCACHE.STATS`,
//! `INFO smartcache` and the documentation follow from that row.

use super::clock::Now;
use super::lease::Leases;
use super::live::{Live, Totals};

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
    /// Reads of entries whose freshness was ended by command.
    pub misses_invalidated: u64,
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
    /// Fills that came after their lease had ended.
    pub fills_late: u64,
    /// Fills with a token that is not ours.
    pub fills_unknown: u64,
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
    /// How long all of them waited, in milliseconds.
    pub wait_ms: u64,
    /// Time from grant to fill, in milliseconds.
    pub origin_ms: u64,
    /// Commands of ours that ran, each of them once.
    pub calls: u64,
    /// Commands of ours answered with an error.
    pub errors: u64,
    /// Panics caught.
    pub panics: u64,
}

impl Counters {
    fn misses(&self) -> u64 {
        self.misses_cold + self.misses_expired + self.misses_invalidated
    }

    fn requests(&self) -> u64 {
        self.hits + self.stale_hits + self.absent_hits + self.misses() + self.busy
    }
}

/// The counters of this node, and since when they count.
#[derive(Debug)]
pub struct Stats {
    /// The counters.
    pub count: Counters,
    since: Now,
    started: Now,
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
    totals: Totals,
    leases: u64,
    waiters: u64,
    uptime_ms: u64,
    counting_ms: u64,
}

/// A number of the report: its name, what it means, and how it is read.
pub struct Field {
    /// Its name, in `STATS` as in `INFO` (there with `smartcache_` before it).
    pub name: &'static str,
    /// What exactly it counts, with its unit.
    pub means: &'static str,
    /// Its value.
    pub read: fn(&Snapshot) -> Number,
}

use Number::{Fraction, Whole};

fn percent(part: u64, whole: u64) -> Number {
    Fraction(if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) })
}

/// Two digits after the point: what a person reads, and what keeps `INFO` short.
fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// Every number, in the order of the report.
pub static FIELDS: &[Field] = &[
    Field {
        name: "requests",
        means: "Keys asked for by GET, MGET and GETLOCK: the sum of the hits of all kinds, the misses and busy. A caller that waited counts once, by its answer.",
        read: |s| Whole(s.count.requests()),
    },
    Field { name: "hits", means: "Requests answered with a fresh value.", read: |s| Whole(s.count.hits) },
    Field {
        name: "stale_hits",
        means: "Requests answered with a stale value, inside a window.",
        read: |s| Whole(s.count.stale_hits),
    },
    Field {
        name: "absent_hits",
        means: "Requests answered by the knowledge that the origin has nothing.",
        read: |s| Whole(s.count.absent_hits),
    },
    Field { name: "misses", means: "Requests that found nothing to serve.", read: |s| Whole(s.count.misses()) },
    Field {
        name: "busy",
        means: "Requests told to ask again: somebody else loads, or nobody may.",
        read: |s| Whole(s.count.busy),
    },
    Field {
        name: "hit_rate",
        means: "Percent of requests answered without a load: hits, stale hits and absent hits; 0 for no requests.",
        read: |s| percent(s.count.hits + s.count.stale_hits + s.count.absent_hits, s.count.requests()),
    },
    Field {
        name: "misses_cold",
        means: "Misses of keys that are not there: never stored, deleted, evicted, or expired and gone.",
        read: |s| Whole(s.count.misses_cold),
    },
    Field {
        name: "misses_expired",
        means: "Misses of entries that are still in memory, but whose time is over.",
        read: |s| Whole(s.count.misses_expired),
    },
    Field {
        name: "misses_invalidated",
        means: "Misses of entries that are still in memory, but whose freshness was ended by command.",
        read: |s| Whole(s.count.misses_invalidated),
    },
    Field { name: "sets", means: "Values stored, one a key.", read: |s| Whole(s.count.sets) },
    Field { name: "absents", means: "Absences stored.", read: |s| Whole(s.count.absents) },
    Field {
        name: "sets_refused",
        means: "Values and absences not stored: over a limit, or NX or XX did not hold.",
        read: |s| Whole(s.count.sets_refused),
    },
    Field {
        name: "leases_granted",
        means: "Leases granted by GETLOCK. Each ends in exactly one of the seven ways that follow.",
        read: |s| Whole(s.count.leases_granted),
    },
    Field {
        name: "leases_early",
        means: "Those of them that were granted while the value was still fresh.",
        read: |s| Whole(s.count.leases_early),
    },
    Field { name: "fills", means: "Leases that ended with a fill answered OK.", read: |s| Whole(s.count.fills) },
    Field {
        name: "fills_stale",
        means: "Leases that ended with a fill answered STALE: the key was deleted, made stale or flushed meanwhile.",
        read: |s| Whole(s.count.fills_stale),
    },
    Field {
        name: "fills_lost",
        means: "Leases that ended with a fill answered LOST: something newer was written.",
        read: |s| Whole(s.count.fills_lost),
    },
    Field {
        name: "fills_failed",
        means: "Leases that ended with a fill that was an error, or with UNLOCK … BACKOFF.",
        read: |s| Whole(s.count.fills_failed),
    },
    Field { name: "leases_released", means: "Leases given back by UNLOCK.", read: |s| Whole(s.count.leases_released) },
    Field {
        name: "leases_voided",
        means: "Leases ended because their load was not wanted any more: DEL, STALE, a SET without token, a flush, a change of role.",
        read: |s| Whole(s.count.leases_voided),
    },
    Field {
        name: "leases_expired",
        means: "Leases whose time was over before anything came: loads longer than LOCK, or loaders that died.",
        read: |s| Whole(s.count.leases_expired),
    },
    Field {
        name: "fills_late",
        means: "Fills that came after their lease had ended, whatever they were answered.",
        read: |s| Whole(s.count.fills_late),
    },
    Field {
        name: "fills_unknown",
        means: "Fills with a token that this node has not given, or not for this key, or in a former life.",
        read: |s| Whole(s.count.fills_unknown),
    },
    Field { name: "leases", means: "Leases that are out at this moment.", read: |s| Whole(s.leases) },
    Field {
        name: "waits",
        means: "Callers that were parked, and are no more. Each ended in exactly one of the four ways that follow.",
        read: |s| Whole(s.count.waits),
    },
    Field {
        name: "waits_served",
        means: "Waits that ended with something to use.",
        read: |s| Whole(s.count.waits_served),
    },
    Field {
        name: "waits_promoted",
        means: "Waits that ended with a token: the next to load.",
        read: |s| Whole(s.count.waits_promoted),
    },
    Field { name: "waits_timed_out", means: "Waits that ended after WAIT.", read: |s| Whole(s.count.waits_timed_out) },
    Field {
        name: "waits_dropped",
        means: "Waits that ended before their time: the caller left, a load failed, or the node's role changed.",
        read: |s| Whole(s.count.waits_dropped),
    },
    Field { name: "waiters", means: "Callers that are parked at this moment.", read: |s| Whole(s.waiters) },
    Field {
        name: "origin_ms",
        means: "Milliseconds spent loading, from grant to fill, by holders of leases.",
        read: |s| Whole(s.count.origin_ms),
    },
    Field {
        name: "entries",
        means: "Entries in memory, in all databases, those included that are stale or dead but not yet freed.",
        read: |s| Whole(s.totals.entries),
    },
    Field {
        name: "raw_bytes",
        means: "Bytes of their values as clients gave them.",
        read: |s| Whole(s.totals.raw_bytes),
    },
    Field {
        name: "stored_bytes",
        means: "Bytes of their values as they are stored.",
        read: |s| Whole(s.totals.stored_bytes),
    },
    Field {
        name: "overhead_bytes",
        means: "Bytes of SmartCache's own beside the stored values: headers, windows, tag ids.",
        read: |s| Whole(s.totals.allocated_bytes.saturating_sub(s.totals.stored_bytes)),
    },
    Field {
        name: "compression_ratio",
        means: "Raw bytes for each stored byte; 1 when nothing is stored.",
        read: |s| {
            let (raw, stored) = (s.totals.raw_bytes, s.totals.stored_bytes);
            Fraction(if stored == 0 { 1.0 } else { round(raw as f64 / stored as f64) })
        },
    },
    Field { name: "errors", means: "Commands answered with an error by us.", read: |s| Whole(s.count.errors) },
    Field {
        name: "error_rate",
        means: "Percent of our commands answered with an error.",
        read: |s| percent(s.count.errors, s.count.calls),
    },
    Field {
        name: "panics",
        means: "Panics caught: bugs of ours; the server's log has the details.",
        read: |s| Whole(s.count.panics),
    },
    Field {
        name: "requests_per_sec",
        means: "Requests a second, on average since start or reset.",
        read: |s| {
            let seconds = s.counting_ms as f64 / 1_000.0;
            Fraction(if seconds == 0.0 { 0.0 } else { round(s.count.requests() as f64 / seconds) })
        },
    },
    Field { name: "uptime_ms", means: "Milliseconds since the module was loaded.", read: |s| Whole(s.uptime_ms) },
];

impl Stats {
    /// Zero, as of `now`.
    pub fn new(now: Now) -> Self {
        Stats { count: Counters::default(), since: now, started: now }
    }

    /// `RESETSTAT`.
    pub fn reset(&mut self, now: Now) {
        self.count = Counters::default();
        self.since = now;
    }

    /// The numbers at `now`.
    pub fn snapshot(&self, live: &Live, leases: &Leases, now: Now) -> Snapshot {
        Snapshot {
            count: self.count,
            totals: live.totals(),
            leases: leases.live(),
            waiters: leases.waiting() as u64,
            uptime_ms: now.ms().saturating_sub(self.started.ms()),
            counting_ms: now.ms().saturating_sub(self.since.ms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let stats = Stats::new(Now::from_us(0));
        let snapshot = stats.snapshot(&Live::default(), &Leases::default(), Now::from_us(0));
        for field in FIELDS {
            if let Fraction(x) = (field.read)(&snapshot) {
                assert!(x.is_finite(), "{}", field.name);
            }
        }
    }
}
