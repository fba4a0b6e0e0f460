//! Selectors: which entries an invalidation names, as written and as matched. (`commands/invalidate.rs` parses them.)

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::cache::entry::EntryRef;
use crate::cache::glob::Glob;
use crate::cache::ids::TagId;

/// A selector as written.
#[derive(Clone, Debug)]
pub enum Selector<'w> {
    /// `TAGS`: entries that carry one of these.
    Tags(SmallVec<[&'w [u8]; 8]>),
    /// `PREFIXES`: keys that begin with one of these.
    Prefixes(SmallVec<[&'w [u8]; 8]>),
    /// `PATTERNS`: keys that match one of these.
    Patterns(SmallVec<[&'w [u8]; 8]>),
    /// `ALL`: the whole database.
    All,
}

/// The same with tag ids and compiled patterns, to be matched against entries.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Every entry.
    All,
    /// Entries that carry one of these tags, of which there may be thousands.
    Tags(BTreeSet<TagId>),
    /// Keys that begin with one of these.
    Prefixes(Vec<Box<[u8]>>),
    /// Keys that match one of these.
    Patterns(Vec<Glob>),
}

impl Selector<'_> {
    /// The keyword, and the names after it.
    pub(super) fn to_words(&self) -> (&'static str, &[&[u8]]) {
        match self {
            Selector::Tags(names) => ("TAGS", names),
            Selector::Prefixes(names) => ("PREFIXES", names),
            Selector::Patterns(names) => ("PATTERNS", names),
            Selector::All => ("ALL", &[]),
        }
    }
}

impl Scope {
    /// Whether the entry under `name` is selected.
    pub fn matches(&self, name: &[u8], entry: EntryRef<'_>) -> bool {
        match self {
            Scope::All => true,
            Scope::Tags(tags) => entry.tags().any(|tag| tags.contains(&tag)),
            Scope::Prefixes(prefixes) => prefixes.iter().any(|prefix| name.starts_with(prefix)),
            Scope::Patterns(globs) => globs.iter().any(|glob| glob.matches(name)),
        }
    }
}
