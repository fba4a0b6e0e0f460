//! Numbers that entries carry instead of names: of rules and tags. They mean nothing on another node.

/// A rule's number on this node, which entries carry: a name keeps it while a rule of that name lives, and it is used
/// again as late as possible (after 65,535 others). Means nothing on another node or after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuleId(pub u16);

impl RuleId {
    /// The id of no rule.
    pub const NONE: RuleId = RuleId(0);
}

/// A tag, as entries hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub u32);
