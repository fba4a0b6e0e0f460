//! The numbers of the node, or of one rule, at one moment.

use std::sync::Arc;

use super::counters::Counters;
use super::histogram::Histogram;
use super::live::Totals;
use crate::cache::ids::RuleId;

/// Scope numbers to report.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    /// Those of the node.
    Node,
    /// Those of one rule; with [`RuleId::NONE`] those of the keys without a rule.
    Rule(RuleId),
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// A number with a fraction.
    Fraction(f64),
}

/// Everything that a report reads from.
#[derive(Debug)]
pub struct Snapshot {
    pub(in crate::cache) count: Counters,
    pub(in crate::cache) waits: Arc<Histogram>,
    pub(in crate::cache) totals: Totals,
    pub(in crate::cache) leases: u64,
    pub(in crate::cache) waiters: u64,
    pub(in crate::cache) sweep_backlog: u64,
    pub(in crate::cache) index: IndexTotals,
    pub(in crate::cache) uptime_ms: u64,
    pub(in crate::cache) counting_ms: u64,
}

/// The sizes of what serves invalidation.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cache) struct IndexTotals {
    pub(in crate::cache) tags: u64,
    pub(in crate::cache) members: u64,
    pub(in crate::cache) prefixes: u64,
    pub(in crate::cache) patterns: u64,
    pub(in crate::cache) bytes: u64,
    pub(in crate::cache) mark_bytes: u64,
    pub(in crate::cache) mark_limit_bytes: u64,
}
