//! The marks of a database in few words.

use std::cell::Cell;

/// Places for tags in a summary: 2 KB.
pub(super) const SUMMARY_SLOTS: usize = 256;

/// The marks of a database in few words, which stay in the processor's nearest cache: what is newer than these stamps needs
/// no closer look. After a tag was invalidated that is nearly every entry with other tags.
pub(super) struct StampSummary {
    /// The newest mark that is no tag's.
    pub(super) others: Cell<u64>,
    /// The newest mark of the tags that share a place, by id.
    pub(super) tags: [Cell<u64>; SUMMARY_SLOTS],
}

impl Default for StampSummary {
    fn default() -> Self {
        StampSummary { others: Cell::default(), tags: [const { Cell::new(0) }; SUMMARY_SLOTS] }
    }
}

impl StampSummary {
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell<u64>> {
        self.tags.iter().chain([&self.others])
    }
}
