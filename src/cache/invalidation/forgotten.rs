//! Upper bounds for the stamps of forgotten marks, so that an entry which arrives late cannot escape them.
//!
//! A mark is forgotten when no entry in the database can be older than it. An entry that arrives afterwards (by
//! `RESTORE` or from a primary), or an entry that `RENAME` or `MOVE` brought, may be: it is dead when its stamp is not
//! later than the bound of its tags, or of all prefixes and patterns. Tags share a bound by a hash of their names, as
//! their ids are reused: more is invalidated, never less.

use super::hash::hash;

/// Bounds for tags: 32 KB, allocated with the first.
const TAG_SLOTS: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// The newest forgotten mark of a prefix or pattern.
    pub(super) by_name: u64,
    /// The newest of the tags whose names share a slot.
    tags: Box<[u64]>,
    /// The newest of any tag, as loaded from a file or received from the primary, which keep only this.
    any_tag: u64,
}

impl Forgotten {
    pub(super) fn add_tag(&mut self, name: &[u8], stamp: u64) {
        if self.tags.is_empty() {
            self.tags = vec![0; TAG_SLOTS].into();
        }
        let slot = &mut self.tags[hash(name) as usize % TAG_SLOTS];
        *slot = stamp.max(*slot);
    }

    pub(super) fn add(&mut self, by_name: u64, any_tag: u64) {
        self.by_name = self.by_name.max(by_name);
        self.any_tag = self.any_tag.max(any_tag);
    }

    /// Whether a forgotten mark may have hit an entry with this stamp and these tags.
    pub(super) fn may_have_hit<'n>(&self, stamp: u64, mut tags: impl Iterator<Item = &'n [u8]>) -> bool {
        let of = |name: &[u8]| self.tags.get(hash(name) as usize % TAG_SLOTS).copied().unwrap_or(0);
        stamp <= self.by_name || tags.any(|name| stamp <= of(name).max(self.any_tag))
    }

    /// The newest forgotten mark of any tag.
    pub(super) fn newest_of_tags(&self) -> u64 {
        self.tags.iter().copied().max().unwrap_or(0).max(self.any_tag)
    }

    /// Lowers what is later than this stamp to it.
    pub(super) fn clamp_stamps(&mut self, stamp: u64) {
        let Forgotten { by_name, tags, any_tag } = self;
        tags.iter_mut().chain([by_name, any_tag]).for_each(|bound| *bound = stamp.min(*bound));
    }
}
