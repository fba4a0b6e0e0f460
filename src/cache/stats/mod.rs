//! What the cache has done, counted on the main thread: plain numbers, no atomics, no allocation on a hit.
//!
//! Each rule has a row of counters, and the keys without a rule have one; the node's numbers are their sum. A row
//! keeps its own past (`window.rs`), so windows cost a hit nothing. The caller passes the time and the rule:
//! `stats.at(now).of(rule).hits += 1`. A hit counts for the rule that its entry was stored under, which the entry
//! records; a miss counts for the rule that the key matches now.
//!
//! Each number is declared once, in [`FIELDS`], with its kind and its definition: `SMARTCACHE.STATS` as map, JSON and
//! Prometheus text, `INFO smartcache` and the documentation follow from that row.

mod counters;
mod fields;
pub mod health;
mod histogram;
mod hot_keys;
pub mod live;
pub mod miss_reasons;
pub mod report;
mod snapshot;
mod tally;
pub mod window;

pub use counters::Counters;
pub use fields::{FIELDS, Field, Kind};
pub(in crate::cache) use fields::{percent, round};
pub(in crate::cache) use snapshot::IndexTotals;
pub use snapshot::{Number, Scope, Snapshot};
pub use tally::{Stats, Tally};

#[cfg(test)]
mod tests;
