//! The numbers of the node, or of a rule, at one moment.

use crate::cache::ids::RuleId;
use crate::cache::stats::Counters;
use crate::cache::stats::histogram::Histogram;
use crate::cache::stats::live::Totals;
use std::sync::Arc;

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
    pub(crate) count: Counters,
    pub(crate) waits: Arc<Histogram>,
    pub(crate) totals: Totals,
    pub(crate) leases: u64,
    pub(crate) waiters: u64,
    pub(crate) sweep_backlog: u64,
    pub(crate) index: IndexTotals,
    pub(crate) uptime_ms: u64,
    pub(crate) counting_ms: u64,
}

/// What serves invalidation, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IndexTotals {
    pub(crate) tags: u64,
    pub(crate) members: u64,
    pub(crate) prefixes: u64,
    pub(crate) patterns: u64,
    pub(crate) bytes: u64,
}
