//! The tag index of a database: an inverted index from tags to keys, so that what the invalidation of a tag made dead
//! is found without a walk over all keys.
//!
//! ```text
//!  entry of k ── tag 7 · slot 2 ─┐      posting list of 7    names
//!            └─ tag 9 · slot 0 ─┐│      ┌───┬───┬───┐       ┌──────────┐
//!                                │└─────▶│   │   │ 5 │──────▶│ 5: "k"   │
//!                                │       └───┴───┴───┘       └──────────┘
//!                                └──────▶ posting list of 9 ─▶ 5   ▲
//! ```
//!
//! Search engines append to posting lists and rewrite them later (Zobel and Moffat, "Inverted files for text search
//! engines", 2006). Entries of a cache come and go all the time: so an entry knows its slot in each list and is removed
//! in constant time, and vacant slots form a linked list and are used again. A name is kept once for all tags of an
//! entry. A posting costs 4 bytes in the entry, 4 in the list, and a share of the name.
//!
//! The index serves the sweep, `PREVIEW`, and the count that `INVALIDATE TAGS` replies with. Correctness depends
//! on the stamps (`marks.rs`) and not on it. Entries that it does not *list* are swept by a walk over all keys.
//! They are those above `max-members`, and those that `RENAME` or `MOVE` brought, of which servers report only where
//! they left. (A keyspace event reports the arrival, but subscribing to it would have every `SET … EX` and `DEL` of the
//! server call us, and Valkey 8.1 leaves a client that runs `MOVE` in the other database.) A walk that meets such an
//! entry lists it.
//!
//! Each list counts its entries with a stamp later than `counted_since`: what the next mark of the tag will hit. A mark
//! later than all of them restarts the count at its stamp; an entry is added to the count and removed from it by the
//! same comparison.

use crate::cache::entry::{EntryMut, EntryRef, UNLISTED};
use crate::cache::ids::TagId;
use crate::cache::invalidation::chunked::Chunked;
use crate::cache::invalidation::posting_list::{ChunkedPostings, PostingList};

/// This bit marks a vacant slot; the others number the next vacant one.
const VACANT: u32 = 1 << 31;
/// The end of the vacant slots.
const NONE: u32 = VACANT - 1;
/// The most name slots that are freed at once: 64 KB.
const FREED_AT_ONCE: u32 = 4096;

/// The tag index of one database.
#[derive(Debug, Default)]
pub struct TagIndex {
    names: Chunked<NameSlot>,
    /// Name slots from here on were never used.
    name_ids: u32,
    vacant_name: Option<u32>,
    named: u32,
    lists: Chunked<TagPostings>,
    postings: u64,
    name_bytes: usize,
    list_bytes: usize,
    /// Long posting lists that are out of use.
    deferred_frees: Vec<ChunkedPostings>,
}

#[derive(Debug)]
enum NameSlot {
    /// The next vacant one.
    Vacant(Option<u32>),
    Held(Box<[u8]>),
}

impl Default for NameSlot {
    fn default() -> Self {
        NameSlot::Vacant(None)
    }
}

/// The entries that carry one tag.
#[derive(Debug)]
struct TagPostings {
    slots: PostingList,
    vacant: u32,
    live: u32,
    /// Entries that are not listed, since the index is full.
    unlisted: u32,
    /// Entries with a later stamp than `counted_since`: those that the next mark of the tag will hit.
    hits: u32,
    counted_since: u64,
}

impl Default for TagPostings {
    fn default() -> Self {
        TagPostings { slots: PostingList::default(), vacant: NONE, live: 0, unlisted: 0, hits: 0, counted_since: 0 }
    }
}

impl TagIndex {
    /// Adds an entry that is now stored under `name` to the posting lists of its tags, unless that makes more than
    /// `limit` postings. `newest_mark` gives the stamp of a tag's newest mark, `counted_since` is that of `ALL`. True
    /// when one of its tags has hit it already.
    pub(super) fn add(
        &mut self,
        name: &[u8],
        entry: &mut EntryMut<'_>,
        limit: u64,
        newest_mark: impl Fn(TagId) -> u64,
        counted_since: u64,
    ) -> bool {
        let count = entry.as_ref().tags().len();
        if count == 0 {
            return false;
        }
        let stamp = entry.as_ref().counted_stamp();
        let mut hit = false;
        let id = if self.postings + count as u64 <= limit { self.add_name(name) } else { None };
        for at in 0..count {
            let Some(tag) = entry.as_ref().tags().nth(at) else { break };
            let list = self.lists.get_or_create(tag.0 as usize);
            if list.live + list.unlisted == 0 {
                (list.counted_since, list.hits) = (newest_mark(tag), 0);
            }
            list.count_since(counted_since);
            hit |= stamp <= list.counted_since;
            list.hits += u32::from(stamp > list.counted_since);
            list.unlisted += u32::from(id.is_none());
            let slot = id.map_or(UNLISTED, |id| {
                self.postings += 1;
                let bytes = list.slots.bytes();
                let slot = list.add(id);
                self.list_bytes += list.slots.bytes() - bytes;
                slot
            });
            entry.set_slot(at, slot);
        }
        hit
    }

    /// Restarts the count of a tag at the stamp of its mark, which is no earlier than that of any entry.
    pub(super) fn restart_count(&mut self, tag: TagId, stamp: u64) {
        if let Some(list) = self.lists.get_mut(tag.0 as usize) {
            list.count_since(stamp);
        }
    }

    /// Reverses [`add`](Self::add). True when one of its tags had hit the entry.
    pub(super) fn remove(&mut self, name: &[u8], entry: EntryRef<'_>, counted_since: u64) -> bool {
        let stamp = entry.counted_stamp();
        let mut hit = false;
        let id = self.id_of(name, entry);
        for (tag, slot) in entry.tags().zip(entry.slots()) {
            let Some(list) = self.lists.get_mut(tag.0 as usize) else { continue };
            list.count_since(counted_since);
            if stamp > list.counted_since {
                list.hits = list.hits.saturating_sub(1);
            } else {
                hit = true;
            }
            if slot == UNLISTED {
                list.unlisted = list.unlisted.saturating_sub(1);
            } else if let Some(id) = id
                && list.slots.get(slot as usize) == Some(id)
            {
                self.postings -= 1;
                let bytes = list.slots.bytes();
                self.deferred_frees.extend(list.remove(slot));
                self.list_bytes -= bytes - list.slots.bytes();
            }
        }
        if let Some(id) = id {
            self.release_name(id);
        }
        hit
    }

    /// The number of the name under which an entry is listed; `None` when it is not listed, or under another name.
    fn id_of(&self, name: &[u8], entry: EntryRef<'_>) -> Option<u32> {
        let (tag, slot) = entry.tags().zip(entry.slots()).next()?;
        let id = self.lists.get(tag.0 as usize)?.slots.get(slot as usize)?;
        matches!(self.names.get(id as usize), Some(NameSlot::Held(held)) if **held == *name).then_some(id)
    }

    /// How many entries a mark of the tag would hit; `counted_since` as in [`add`](Self::add).
    pub(super) fn count_hits(&mut self, tag: TagId, counted_since: u64) -> u64 {
        self.lists.get_mut(tag.0 as usize).map_or(0, |list| {
            list.count_since(counted_since);
            u64::from(list.hits)
        })
    }

    /// Whether one of its tags has hit an entry that was added.
    pub(super) fn is_hit(&self, entry: EntryRef<'_>) -> bool {
        let stamp = entry.counted_stamp();
        entry.tags().any(|tag| self.lists.get(tag.0 as usize).is_some_and(|list| stamp <= list.counted_since))
    }

    /// Whether all entries with a tag that were added are listed.
    pub fn lists_every_entry(&self, tag: TagId) -> bool {
        self.lists.get(tag.0 as usize).is_none_or(|list| list.unlisted == 0)
    }

    /// Stamps restart at this one.
    pub(super) fn restart_counts(&mut self, stamp: u64) {
        let tags: Vec<usize> = self.lists.iter().map(|(tag, _)| tag).collect();
        for tag in tags {
            let list = self.lists.get_or_create(tag);
            (list.counted_since, list.hits) = (stamp, 0);
        }
    }

    /// How many entries a tag lists.
    pub(super) fn count_listed(&self, tag: TagId) -> u64 {
        self.lists.get(tag.0 as usize).map_or(0, |list| u64::from(list.live))
    }

    /// How many slots the posting list of a tag has, vacant ones included.
    pub fn slot_count(&self, tag: TagId) -> usize {
        self.lists.get(tag.0 as usize).map_or(0, |list| list.slots.count())
    }

    /// The key in a slot of a tag's posting list, if the slot is not vacant.
    pub fn key_at(&self, tag: TagId, slot: usize) -> Option<&[u8]> {
        let id = self.lists.get(tag.0 as usize)?.slots.get(slot)?;
        match self.names.get(id as usize)? {
            NameSlot::Held(name) if id & VACANT == 0 => Some(name),
            _ => None,
        }
    }

    /// How many postings there are.
    pub(super) fn postings(&self) -> u64 {
        self.postings
    }

    /// The bytes of posting lists and names, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        self.names.bytes() + self.name_bytes + self.lists.bytes() + self.list_bytes
    }

    /// Drops the posting list of a tag that no entry carries any more. What it still lists was freed unannounced, as
    /// after a failed load of an RDB file.
    pub(super) fn forget(&mut self, tag: TagId) {
        let Some(list) = self.lists.get_mut(tag.0 as usize) else { return };
        let list = std::mem::take(list);
        self.list_bytes -= list.slots.bytes();
        self.postings -= u64::from(list.live);
        for id in list.slots.iter().filter(|id| id & VACANT == 0) {
            self.drop_name(id);
        }
        self.deferred_frees.extend(list.slots.into_chunked());
        self.reset_if_empty();
    }

    /// Frees the room of tag ids from this one on, none of which is in use.
    pub(super) fn trim(&mut self, id_bound: usize) {
        self.lists.truncate(id_bound);
    }

    /// Frees a small part of an index that is out of use; false when nothing is left.
    pub(super) fn free_some(&mut self) -> bool {
        if let Some(postings) = self.deferred_frees.last_mut() {
            if !postings.free_some() {
                self.deferred_frees.pop();
            }
            return true;
        }
        if self.names.pop_chunk().is_some() {
            return true;
        }
        let Some(lists) = self.lists.pop_chunk() else { return false };
        self.deferred_frees.extend(lists.into_iter().filter_map(|list| list.slots.into_chunked()));
        true
    }

    fn add_name(&mut self, name: &[u8]) -> Option<u32> {
        let id = match self.vacant_name {
            Some(id) => id,
            None if self.name_ids < NONE => {
                self.name_ids += 1;
                self.name_ids - 1
            }
            None => return None,
        };
        let slot = self.names.get_or_create(id as usize);
        if let NameSlot::Vacant(next) = *slot {
            if self.vacant_name.is_some() {
                self.vacant_name = next;
            }
            *slot = NameSlot::Held(name.into());
        }
        self.named += 1;
        self.name_bytes += name.len();
        Some(id)
    }

    fn release_name(&mut self, id: u32) {
        if self.drop_name(id) {
            if let Some(slot) = self.names.get_mut(id as usize) {
                *slot = NameSlot::Vacant(self.vacant_name);
            }
            self.vacant_name = Some(id);
        }
        self.reset_if_empty();
    }

    /// Drops a name, but not its number, which other posting lists may still hold. False when it was dropped before.
    fn drop_name(&mut self, id: u32) -> bool {
        let Some(slot @ NameSlot::Held(_)) = self.names.get_mut(id as usize) else { return false };
        if let NameSlot::Held(name) = std::mem::take(slot) {
            self.named -= 1;
            self.name_bytes -= name.len();
        }
        true
    }

    /// Without postings all numbers are free again. The room of many is left to
    /// [`take_deferred_frees`](Self::take_deferred_frees).
    fn reset_if_empty(&mut self) {
        if self.named == 0 && self.postings == 0 && self.name_ids <= FREED_AT_ONCE {
            (self.names, self.name_ids, self.vacant_name) = (Chunked::default(), 0, None);
        }
    }

    /// Takes what is out of use, to be freed in parts: long posting lists that are empty, and the slots of many names
    /// when none is left. Freeing ten million at once would block the server for thirty milliseconds.
    pub(super) fn take_deferred_frees(&mut self) -> Option<TagIndex> {
        let names_unused = self.named == 0 && self.postings == 0 && self.name_ids > FREED_AT_ONCE;
        if self.deferred_frees.is_empty() && !names_unused {
            return None;
        }
        let mut left = TagIndex { deferred_frees: std::mem::take(&mut self.deferred_frees), ..TagIndex::default() };
        if names_unused {
            (left.names, self.name_ids, self.vacant_name) = (std::mem::take(&mut self.names), 0, None);
        }
        Some(left)
    }

    /// Checks it against itself; for tests.
    pub(super) fn validate(&self) {
        let held = self.names.iter().filter(|(_, name)| matches!(name, NameSlot::Held(_))).count();
        assert_eq!(held, self.named as usize, "names");
        let (mut postings, mut list_bytes) = (0, 0);
        for (tag, list) in self.lists.iter() {
            let listed = list.slots.iter().filter(|id| *id & VACANT == 0);
            assert_eq!(listed.count(), list.live as usize, "listed entries of tag {tag}");
            list_bytes += list.slots.bytes();
            postings += u64::from(list.live);
        }
        assert_eq!((postings, list_bytes), (self.postings, self.list_bytes), "postings and bytes");
    }
}

impl TagPostings {
    /// Restarts the count at a later stamp: all that was counted has been hit.
    fn count_since(&mut self, stamp: u64) {
        if self.counted_since < stamp {
            (self.counted_since, self.hits) = (stamp, 0);
        }
    }

    fn add(&mut self, id: u32) -> u32 {
        self.live += 1;
        if self.vacant == NONE {
            return self.slots.push(id) as u32;
        }
        let slot = self.vacant;
        self.vacant = self.slots.replace(slot as usize, id).map_or(NONE, |vacant| vacant & !VACANT);
        slot
    }

    /// Vacates a slot. Returns the memory of a long list when that was its last entry.
    fn remove(&mut self, slot: u32) -> Option<ChunkedPostings> {
        self.live -= 1;
        self.slots.replace(slot as usize, VACANT | self.vacant);
        self.vacant = slot;
        if self.live > 0 {
            return None;
        }
        self.vacant = NONE;
        std::mem::take(&mut self.slots).into_chunked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::Entry;
    use crate::cache::entry::tests::holding;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(stamp: u64, tags: &[u32]) -> Entry {
        holding(stamp, &tags.iter().map(|id| TagId(*id)).collect::<Vec<_>>())
    }

    fn names(index: &TagIndex, tag: u32) -> Vec<Vec<u8>> {
        let mut names: Vec<_> = (0..index.slot_count(TagId(tag)))
            .filter_map(|slot| index.key_at(TagId(tag), slot))
            .map(Vec::from)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_costs_its_bytes_and_sixteen() {
        assert_eq!(size_of::<NameSlot>(), 16);
    }

    #[test]
    fn a_tag_costs_48_bytes() {
        assert_eq!(size_of::<TagPostings>(), 48);
    }

    #[test]
    fn entries_above_the_limit_are_counted_and_not_listed() {
        let mut index = TagIndex::default();
        let (mut a, mut b) = (entry(5, &[1, 2]), entry(5, &[1]));
        index.add(b"a", &mut a.as_mut(), 2, |_| 0, 0);
        index.add(b"b", &mut b.as_mut(), 2, |_| 0, 0);
        assert_eq!((names(&index, 1), index.count_hits(TagId(1), 0)), (vec![b"a".to_vec()], 2));
        index.remove(b"b", b.as_ref(), 0);
        index.remove(b"a", a.as_ref(), 0);
        assert_eq!((index.count_hits(TagId(1), 0), index.postings()), (0, 0));
        index.validate();
    }

    #[test]
    fn removing_an_entry_under_another_name_leaves_the_posting_list_alone() {
        let mut index = TagIndex::default();
        let mut a = entry(5, &[1]);
        index.add(b"a", &mut a.as_mut(), 9, |_| 0, 0);
        index.remove(b"renamed", a.as_ref(), 0);
        assert_eq!(names(&index, 1), [b"a".to_vec()]);
        index.forget(TagId(1));
        assert_eq!((names(&index, 1).len(), index.postings()), (0, 0));
        index.validate();
    }

    #[test]
    fn many_names_and_their_posting_list_are_freed_in_parts() {
        let mut index = TagIndex::default();
        let name = |n: u32| n.to_be_bytes();
        let mut all: Vec<_> = (0..=FREED_AT_ONCE).map(|_| entry(5, &[1])).collect();
        for (n, entry) in (0..).zip(&mut all) {
            index.add(&name(n), &mut entry.as_mut(), 9_999, |_| 0, 0);
        }
        for (n, entry) in (0..).zip(&all) {
            assert!(index.take_deferred_frees().is_none(), "some names are in use");
            index.remove(&name(n), entry.as_ref(), 0);
        }
        let left = index.take_deferred_frees().expect("no name is in use");
        assert!(index.take_deferred_frees().is_none());
        let free_some =
            |mut left: TagIndex| std::iter::repeat_with(|| left.free_some()).take_while(|more| *more).count();
        assert!(free_some(left) >= 34, "seventeen chunks of names, and of slots");
        let mut again = entry(6, &[1]);
        index.add(b"again", &mut again.as_mut(), 9, |_| 0, 0);
        assert_eq!(names(&index, 1), [b"again"]);
        index.validate();

        for (n, entry) in (0..).zip(&mut all) {
            index.add(&name(n), &mut entry.as_mut(), 9_999, |_| 0, 0);
        }
        assert!(free_some(index) >= 34, "also when a whole index is dropped, as by FLUSHALL");
    }

    #[test]
    fn an_entry_that_was_freed_unannounced_takes_no_name_from_later_ones() {
        let mut index = TagIndex::default();
        let mut lost = entry(5, &[1, 2]); // as after a failed load: it is never removed
        index.add(b"lost", &mut lost.as_mut(), 9, |_| 0, 0);
        let mut other = entry(5, &[3]);
        index.add(b"other", &mut other.as_mut(), 9, |_| 0, 0);
        index.forget(TagId(1));
        let mut new = entry(6, &[3]);
        index.add(b"new", &mut new.as_mut(), 9, |_| 0, 0);
        index.forget(TagId(2));
        assert_eq!(names(&index, 3), [b"new".to_vec(), b"other".to_vec()]);
        index.validate();
        index.remove(b"new", new.as_ref(), 0);
        index.remove(b"other", other.as_ref(), 0);
        assert_eq!((index.named, index.name_ids, index.postings()), (0, 0, 0));
    }

    proptest! {
        /// Compared with a map of names.
        #[test]
        fn posting_lists_hold_exactly_the_entries_with_the_tag(steps in proptest::collection::vec((0u8..20, proptest::collection::btree_set(0u32..4, 0..4), any::<bool>()), 0..200)) {
            let mut index = TagIndex::default();
            let mut there: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
            for (stamp, (key, tags, stays)) in steps.into_iter().enumerate() {
                let name = format!("key-{key}").into_bytes();
                if let Some(old) = there.remove(&name) {
                    index.remove(&name, old.as_ref(), 0);
                }
                if stays {
                    let mut new = entry(stamp as u64 + 1, &tags.into_iter().collect::<Vec<_>>());
                    index.add(&name, &mut new.as_mut(), u64::MAX, |_| 0, 0);
                    there.insert(name, new);
                }
                index.validate();
                for tag in 0..4 {
                    let expected: Vec<_> =
                        there.iter().filter(|(_, e)| e.as_ref().tags().any(|t| t.0 == tag)).map(|(k, _)| k.clone()).collect();
                    prop_assert_eq!(index.count_hits(TagId(tag), 0), expected.len() as u64);
                    let mut expected = expected;
                    expected.sort();
                    prop_assert_eq!(names(&index, tag), expected);
                }
            }
            let gone: Vec<_> = std::mem::take(&mut there).into_iter().collect();
            for (name, e) in &gone {
                index.remove(name, e.as_ref(), 0);
            }
            prop_assert_eq!((index.named, index.name_bytes, index.list_bytes), (0, 0, 0));
        }
    }
}
