//! The numbers that entries hold instead of the names of rules and tags. They mean nothing on another node.

/// A rule's number on this node, as entries hold it. A name keeps it while a rule of that name exists, and it is reused
/// as late as possible (after 65,535 others). It means nothing after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuleId(pub u16);

impl RuleId {
    /// The id of no rule.
    pub const NONE: RuleId = RuleId(0);
}

/// A tag's number on this node, as entries hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub u32);
