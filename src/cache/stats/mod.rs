//! What the cache has done, counted on the main thread: plain numbers, no atomics, no allocation on a hit.
//!
//! There is a row of counters for each rule, and one for keys without; the whole is their sum. A row knows its own past
//! (`window.rs`), so all of this costs a hit two additions. Whoever counts says when, and for which rule:
//! `stats.at(now).of(rule).hits += 1`. A hit counts for the rule that its entry was stored under, which is written in the
//! entry; a miss for the one that the key matches.
//!
//! Each number is declared once, in [`FIELDS`], with its kind and its definition: `SMARTCACHE.STATS` as map, JSON and
//! Prometheus text, `INFO smartcache` and the documentation follow from that row.

pub mod counters;
pub mod fields;
pub mod health;
pub mod histogram;
pub mod hot_keys;
pub mod live;
pub mod miss_reasons;
pub mod report;
pub mod snapshot;
pub mod tally;
pub mod window;

pub use counters::Counters;
pub use fields::{FIELDS, Field, Kind, percent, round};
pub use snapshot::{Number, Snapshot, Whose};
pub use tally::{Stats, Tally};

#[cfg(test)]
mod tests;
