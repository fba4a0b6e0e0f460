//! How new the marks were that have been forgotten.

use super::hash::hash;

/// Stamps of forgotten tags, by a hash of the tag's name.
const FORGOTTEN_SLOTS: usize = 4096;

/// The newest marks that were forgotten.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// Of prefixes and patterns.
    pub(super) by_name: u64,
    /// Of tags, by a hash of the name.
    pub(super) tags: Box<[u64]>,
    /// Of all tags, as saved.
    pub(super) any_tag: u64,
}

impl Forgotten {
    pub(super) fn add_tag(&mut self, name: &[u8], stamp: u64) {
        if self.tags.is_empty() {
            self.tags = vec![0; FORGOTTEN_SLOTS].into();
        }
        let slot = &mut self.tags[hash(name) as usize % FORGOTTEN_SLOTS];
        *slot = stamp.max(*slot);
    }

    pub(super) fn is_older<'n>(&self, stamp: u64, mut tags: impl Iterator<Item = &'n [u8]>) -> bool {
        let of = |name: &[u8]| self.tags.get(hash(name) as usize % FORGOTTEN_SLOTS).copied().unwrap_or(0);
        stamp <= self.by_name || tags.any(|name| stamp <= of(name).max(self.any_tag))
    }
}
