//! Tags: names shared by entries that are invalidated together, interned as ids.
//!
//! An entry holds four bytes a tag, whatever the name's length. Ids are server-wide, since entries move between
//! databases; on the wire and on disk tags travel by name. An id is reused for another name only when an exact count
//! (`Live`), lowered when an entry is really freed, shows that no entry holds it. Otherwise, after `FLUSHALL ASYNC`,
//! entries that still wait to be freed would carry the new name.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::cache::ids::TagId;
use crate::cache::invalidation::chunked::Chunked;
use crate::cache::stats::live::{Live, MAX_TAG_IDS};

/// The longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 255;

/// Shards of the table of names.
const SHARDS: usize = 1024;
/// The bytes of a short name with its reference counts, roughly.
const BYTES_PER_NAME: usize = 40;

/// Names and ids.
#[derive(Debug)]
pub struct Tags {
    /// In shards, since rehashing one large table would block the server.
    ids: Box<[HashMap<Arc<[u8]>, TagId>]>,
    hasher: RandomState,
    names: Chunked<Option<Arc<[u8]>>>,
    /// Ids from here on are not in use.
    id_bound: usize,
    vacant: Vec<TagId>,
    named: usize,
    limit: usize,
    reap_cursor: usize,
    live: Arc<Live>,
}

impl Tags {
    /// No tags. `live` counts the entries that hold each id.
    pub fn new(live: Arc<Live>) -> Self {
        let hasher = RandomState::new();
        Tags {
            ids: (0..SHARDS).map(|_| HashMap::with_hasher(hasher.clone())).collect(),
            hasher,
            names: Chunked::default(),
            id_bound: 0,
            vacant: Vec::new(),
            named: 0,
            limit: MAX_TAG_IDS,
            reap_cursor: 0,
            live,
        }
    }

    /// Sets how many names there may be.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_TAG_IDS);
    }

    /// The id of a name, new if it has none; `None` when the limit is reached.
    pub fn intern(&mut self, name: &[u8]) -> Option<TagId> {
        self.intern_within(name, self.limit)
    }

    /// The same without the limit, for names from the primary or our own files.
    pub fn intern_unlimited(&mut self, name: &[u8]) -> Option<TagId> {
        self.intern_within(name, MAX_TAG_IDS)
    }

    fn intern_within(&mut self, name: &[u8], limit: usize) -> Option<TagId> {
        let shard = self.shard(name);
        if let Some(id) = self.ids[shard].get(name) {
            return Some(*id);
        }
        if self.named >= limit {
            return None;
        }
        let id = self.vacant_id();
        let name: Arc<[u8]> = name.into();
        *self.names.get_or_create(id.0 as usize) = Some(name.clone());
        self.ids[shard].insert(name, id);
        self.named += 1;
        Some(id)
    }

    fn vacant_id(&mut self) -> TagId {
        while let Some(id) = self.vacant.pop() {
            if (id.0 as usize) < self.id_bound {
                return id;
            }
        }
        self.id_bound += 1;
        TagId(self.id_bound as u32 - 1)
    }

    /// The id of a name, if it has one.
    pub fn known(&self, name: &[u8]) -> Option<TagId> {
        self.ids[self.shard(name)].get(name).copied()
    }

    /// The name of an id that an entry holds.
    pub fn name(&self, id: TagId) -> &[u8] {
        self.names.get(id.0 as usize).and_then(|name| name.as_deref()).unwrap_or_default()
    }

    /// How many names have an id.
    pub fn len(&self) -> usize {
        self.named
    }

    /// Whether no name has an id.
    pub fn is_empty(&self) -> bool {
        self.named == 0
    }

    /// All ids in use are below this.
    pub fn id_bound(&self) -> usize {
        self.id_bound
    }

    /// Forgets names that no entry holds and that `is_forgettable` confirms. Looks at no more than `effort` ids, and
    /// goes on where it stopped.
    pub fn reap(&mut self, effort: usize, mut is_forgettable: impl FnMut(TagId, &[u8]) -> bool) {
        for _ in 0..effort.min(self.id_bound) {
            let at = self.reap_cursor;
            self.reap_cursor = if at + 1 < self.id_bound { at + 1 } else { 0 };
            let id = TagId(at as u32);
            if self.live.holders(id) > 0 {
                continue;
            }
            let Some(slot) = self.names.get_mut(at) else { continue };
            if let Some(name) = slot.take_if(|name| is_forgettable(id, name)) {
                self.named -= 1;
                self.vacant.push(id);
                let shard = self.shard(&name);
                let ids = &mut self.ids[shard];
                ids.remove(&name);
                if ids.len() * 8 < ids.capacity() {
                    ids.shrink_to_fit();
                }
            }
        }
        // Vacant ids at the end are dropped, with their room: far quicker than to forget as many.
        for _ in 0..effort.saturating_mul(16) {
            match self.id_bound.checked_sub(1) {
                Some(last) if self.names.get(last).is_none_or(Option::is_none) => self.id_bound = last,
                _ => break,
            }
        }
        self.names.truncate(self.id_bound);
        self.live.trim(self.id_bound);
        if self.id_bound == 0 {
            self.vacant = Vec::new();
        }
    }

    /// The bytes of names and ids, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let parts = self.ids.iter().map(HashMap::capacity).sum::<usize>() * (size_of::<(Arc<[u8]>, TagId)>() + 1);
        parts
            + self.names.bytes()
            + self.live.bytes()
            + self.vacant.capacity() * size_of::<TagId>()
            + self.named * BYTES_PER_NAME
    }

    fn shard(&self, name: &[u8]) -> usize {
        (self.hasher.hash_one(name) >> 32) as usize % SHARDS
    }

    /// Checks the table against itself; for tests.
    pub fn validate(&self) {
        let named = self.names.iter().filter(|(_, name)| name.is_some()).count();
        assert_eq!(named, self.ids.iter().map(HashMap::len).sum::<usize>(), "each name has one id");
        assert_eq!(named, self.named, "names");
        let vacant = self.vacant.iter().filter(|id| (id.0 as usize) < self.id_bound).count();
        assert_eq!(named + vacant, self.id_bound, "an id is named or vacant");
        for (name, id) in self.ids.iter().flatten() {
            assert_eq!(self.name(*id), &name[..], "id and name agree");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::holding;

    #[test]
    fn a_name_keeps_its_id_while_an_entry_holds_it() {
        let live = Arc::new(Live::default());
        let mut tags = Tags::new(live.clone());
        let user = tags.intern(b"user:42").unwrap();
        let entry = holding(1, &[user]);
        live.on_alloc(entry.as_ref());
        tags.reap(10, |_, _| true);
        assert_eq!(tags.name(user), b"user:42");
        assert_eq!(tags.intern(b"user:42"), Some(user));

        live.on_free(entry.as_ref());
        tags.reap(10, |_, _| true);
        assert!(tags.is_empty());
        assert_eq!(tags.intern(b"another"), Some(user), "a vacant id is used again");
        tags.validate();
    }

    #[test]
    fn a_hundred_thousand_one_off_tags_leave_nothing_behind() {
        let live = Arc::new(Live::default());
        let mut tags = Tags::new(live.clone());
        for n in 0..100_000u32 {
            let id = tags.intern(&n.to_be_bytes()).unwrap();
            let entry = holding(1, &[id]);
            live.on_alloc(entry.as_ref());
            live.on_free(entry.as_ref());
            tags.reap(2, |_, _| true);
        }
        assert!(tags.id_bound < 10, "{} ids", tags.id_bound);
        tags.validate();
    }
}
