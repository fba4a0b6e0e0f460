//! Tags: names shared by entries that are invalidated together, and the ids that entries hold.
//!
//! An entry holds four bytes a tag, whatever the name's length. Ids are server-wide, since entries move between
//! databases; on the wire and on disk tags travel by name. An id is given to another name only when an exact
//! count says that no entry holds it any more (`live.rs`), lowered when an entry is really freed: else, after
//! `FLUSHALL ASYNC`, it would mean one tag here and another there.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::cache::ids::TagId;
use crate::cache::invalidation::chunked::Chunked;
use crate::cache::stats::live::{Live, MAX_TAG_IDS};

/// The longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 255;

/// Parts of the table of names.
const PARTS: usize = 1024;
/// The bytes of a name, roughly: counts and bytes of a short one.
const NAME: usize = 40;

/// Names and ids.
#[derive(Debug)]
pub struct Tags {
    /// In parts, so that no growing of one holds up the server.
    ids: Box<[HashMap<Arc<[u8]>, TagId>]>,
    hasher: RandomState,
    names: Chunked<Option<Arc<[u8]>>>,
    /// Ids so far: those from here on are not in use.
    made: usize,
    vacant: Vec<TagId>,
    named: usize,
    most: usize,
    reaped_up_to: usize,
    live: Arc<Live>,
}

impl Tags {
    /// None yet; `live` counts the entries that hold each.
    pub fn new(live: Arc<Live>) -> Self {
        let hasher = RandomState::new();
        Tags {
            ids: (0..PARTS).map(|_| HashMap::with_hasher(hasher.clone())).collect(),
            hasher,
            names: Chunked::default(),
            made: 0,
            vacant: Vec::new(),
            named: 0,
            most: MAX_TAG_IDS,
            reaped_up_to: 0,
            live,
        }
    }

    /// Sets how many names there may be.
    pub fn set_limit(&mut self, most: usize) {
        self.most = most.min(MAX_TAG_IDS);
    }

    /// The id of a name, made if there is none; `None` when as many names are alive as there may be.
    pub fn id(&mut self, name: &[u8]) -> Option<TagId> {
        self.id_among(name, self.most)
    }

    /// The same, whatever limit is set: our primary and our own files are obeyed.
    pub fn intern_unlimited(&mut self, name: &[u8]) -> Option<TagId> {
        self.id_among(name, MAX_TAG_IDS)
    }

    fn id_among(&mut self, name: &[u8], most: usize) -> Option<TagId> {
        let part = self.part(name);
        if let Some(id) = self.ids[part].get(name) {
            return Some(*id);
        }
        if self.named >= most {
            return None;
        }
        let id = self.vacant_id();
        let name: Arc<[u8]> = name.into();
        *self.names.make(id.0 as usize) = Some(name.clone());
        self.ids[part].insert(name, id);
        self.named += 1;
        Some(id)
    }

    fn vacant_id(&mut self) -> TagId {
        while let Some(id) = self.vacant.pop() {
            if (id.0 as usize) < self.made {
                return id;
            }
        }
        self.made += 1;
        TagId(self.made as u32 - 1)
    }

    /// The id of a name, if it has one.
    pub fn known(&self, name: &[u8]) -> Option<TagId> {
        self.ids[self.part(name)].get(name).copied()
    }

    /// The name of an id that an entry holds.
    pub fn name(&self, id: TagId) -> &[u8] {
        self.names.get(id.0 as usize).and_then(|name| name.as_deref()).unwrap_or_default()
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.named
    }

    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.named == 0
    }

    /// All ids in use are below this.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Forgets names that no entry holds and `is_forgettable` lets go, looking at no more than `effort` of them; goes on where it
    /// stopped.
    pub fn reap(&mut self, effort: usize, mut is_forgettable: impl FnMut(TagId, &[u8]) -> bool) {
        for _ in 0..effort.min(self.made) {
            let at = self.reaped_up_to;
            self.reaped_up_to = if at + 1 < self.made { at + 1 } else { 0 };
            let id = TagId(at as u32);
            if self.live.holders(id) > 0 {
                continue;
            }
            let Some(slot) = self.names.get_mut(at) else { continue };
            if let Some(name) = slot.take_if(|name| is_forgettable(id, name)) {
                self.named -= 1;
                self.vacant.push(id);
                let part = self.part(&name);
                let ids = &mut self.ids[part];
                ids.remove(&name);
                if ids.len() * 8 < ids.capacity() {
                    ids.shrink_to_fit();
                }
            }
        }
        // Vacant ids at the end are given up, with their room. That is quicker than forgetting, and by far.
        for _ in 0..effort.saturating_mul(16) {
            match self.made.checked_sub(1) {
                Some(last) if self.names.get(last).is_none_or(Option::is_none) => self.made = last,
                _ => break,
            }
        }
        self.names.truncate(self.made);
        self.live.trim(self.made);
        if self.made == 0 {
            self.vacant = Vec::new();
        }
    }

    /// The bytes of names and ids, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let parts = self.ids.iter().map(HashMap::capacity).sum::<usize>() * (size_of::<(Arc<[u8]>, TagId)>() + 1);
        parts + self.names.bytes() + self.live.bytes() + self.vacant.capacity() * size_of::<TagId>() + self.named * NAME
    }

    fn part(&self, name: &[u8]) -> usize {
        (self.hasher.hash_one(name) >> 32) as usize % PARTS
    }

    /// Checks the table against itself; for tests.
    pub fn validate(&self) {
        let named = self.names.iter().filter(|(_, name)| name.is_some()).count();
        assert_eq!(named, self.ids.iter().map(HashMap::len).sum::<usize>(), "each name has one id");
        assert_eq!(named, self.named, "names");
        let vacant = self.vacant.iter().filter(|id| (id.0 as usize) < self.made).count();
        assert_eq!(named + vacant, self.made, "an id is named or vacant");
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
    fn a_name_keeps_its_id_while_an_entry_holds_it_and_loses_it_afterwards() {
        let live = Arc::new(Live::default());
        let mut tags = Tags::new(live.clone());
        let user = tags.id(b"user:42").unwrap();
        let entry = holding(1, &[user]);
        live.on_alloc(entry.as_ref());
        tags.reap(10, |_, _| true);
        assert_eq!(tags.name(user), b"user:42");
        assert_eq!(tags.id(b"user:42"), Some(user));

        live.on_free(entry.as_ref());
        tags.reap(10, |_, _| true);
        assert!(tags.is_empty());
        assert_eq!(tags.id(b"another"), Some(user), "a vacant id is used again");
        tags.validate();
    }

    #[test]
    fn a_million_one_off_tags_leave_nothing_behind() {
        let live = Arc::new(Live::default());
        let mut tags = Tags::new(live.clone());
        for n in 0..1_000_000u32 {
            let id = tags.id(&n.to_be_bytes()).unwrap();
            let entry = holding(1, &[id]);
            live.on_alloc(entry.as_ref());
            live.on_free(entry.as_ref());
            tags.reap(2, |_, _| true);
        }
        assert!(tags.made < 10, "{} ids", tags.made);
        tags.validate();
    }
}
