//! Selectors: what an invalidation names, as it is written and as it is matched against entries.

use smallvec::SmallVec;

use crate::cache::entry::EntryRef;
use crate::cache::glob::Glob;
use crate::cache::ids::TagId;

/// What is named.
#[derive(Clone, Debug)]
pub enum Selector<'w> {
    /// These tags.
    Tags(SmallVec<[&'w [u8]; 8]>),
    /// Keys that begin so.
    Prefixes(SmallVec<[&'w [u8]; 8]>),
    /// Keys that match.
    Patterns(SmallVec<[&'w [u8]; 8]>),
    /// The whole database.
    All,
}

/// Which keys are meant.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All.
    All,
    /// What holds one of these tags.
    Tags(Vec<TagId>),
    /// What begins with one of these.
    Prefixes(Vec<Box<[u8]>>),
    /// What matches one of these.
    Patterns(Vec<Glob>),
}

impl Selector<'_> {
    pub(super) fn words(&self) -> (&'static str, &[&[u8]]) {
        match self {
            Selector::Tags(names) => ("TAGS", names),
            Selector::Prefixes(names) => ("PREFIXES", names),
            Selector::Patterns(names) => ("PATTERNS", names),
            Selector::All => ("ALL", &[]),
        }
    }
}

impl Scope {
    /// Whether it means the entry under `name`.
    pub fn matches(&self, name: &[u8], entry: EntryRef<'_>) -> bool {
        match self {
            Scope::All => true,
            Scope::Tags(tags) => entry.tags().any(|tag| tags.contains(&tag)),
            Scope::Prefixes(prefixes) => prefixes.iter().any(|prefix| name.starts_with(prefix)),
            Scope::Patterns(globs) => globs.iter().any(|glob| glob.matches(name)),
        }
    }
}
