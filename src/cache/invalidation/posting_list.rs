//! A posting list: the numbers of the entries that carry one tag, compact when it is short and never copied when it is
//! long. Most tags are on few entries, some on millions.
//!
//! ```text
//!  Inline       up to 3        in the list itself
//!  Contiguous   up to 1,024    one allocation, with a quarter to spare at most
//!  Chunked      more           chunks of 256, freed one by one
//! ```

use crate::cache::invalidation::chunked::{CHUNK, Chunked};

/// The most numbers without an allocation.
const MAX_INLINE: usize = 3;
/// The most numbers in one allocation: growing never copies more.
const MAX_CONTIGUOUS: usize = 1024;

/// Numbers by slot, in the order in which they were added.
#[derive(Debug)]
pub(super) enum PostingList {
    /// The numbers, and how many there are.
    Inline([u32; MAX_INLINE], u32),
    /// One allocation.
    Contiguous(Vec<u32>),
    /// Chunks.
    Chunked(Box<ChunkedPostings>),
}

/// A long list.
#[derive(Debug)]
pub(super) struct ChunkedPostings {
    slots: Chunked<u32>,
    len: usize,
}

impl Default for PostingList {
    fn default() -> Self {
        PostingList::Inline([0; MAX_INLINE], 0)
    }
}

impl PostingList {
    /// How many slots there are.
    pub(super) fn count(&self) -> usize {
        match self {
            PostingList::Inline(_, len) => *len as usize,
            PostingList::Contiguous(slots) => slots.len(),
            PostingList::Chunked(long) => long.len,
        }
    }

    /// The number in a slot.
    pub(super) fn get(&self, at: usize) -> Option<u32> {
        match self {
            PostingList::Inline(slots, len) => slots[..*len as usize].get(at).copied(),
            PostingList::Contiguous(slots) => slots.get(at).copied(),
            PostingList::Chunked(long) => long.slots.get(at).copied().filter(|_| at < long.len),
        }
    }

    /// Replaces the number in a slot and returns the old one; `None` when there is no such slot.
    pub(super) fn replace(&mut self, at: usize, with: u32) -> Option<u32> {
        let slot = match self {
            PostingList::Inline(slots, len) => slots[..*len as usize].get_mut(at),
            PostingList::Contiguous(slots) => slots.get_mut(at),
            PostingList::Chunked(long) => long.slots.get_mut(at).filter(|_| at < long.len),
        };
        slot.map(|slot| std::mem::replace(slot, with))
    }

    /// Adds a number and returns its slot.
    pub(super) fn push(&mut self, number: u32) -> usize {
        let at = self.count();
        match self {
            PostingList::Inline(slots, len) if at < MAX_INLINE => {
                slots[at] = number;
                *len += 1;
            }
            PostingList::Inline(slots, _) => {
                let mut more = Vec::with_capacity(2 * MAX_INLINE + 2);
                more.extend_from_slice(slots);
                more.push(number);
                *self = PostingList::Contiguous(more);
            }
            PostingList::Contiguous(slots) if at < MAX_CONTIGUOUS => {
                if at == slots.capacity() {
                    slots.reserve_exact(at / 4);
                }
                slots.push(number);
            }
            PostingList::Contiguous(slots) => {
                let mut long = ChunkedPostings { slots: Chunked::default(), len: 0 };
                slots.iter().for_each(|slot| long.push(*slot));
                long.push(number);
                *self = PostingList::Chunked(Box::new(long));
            }
            PostingList::Chunked(long) => long.push(number),
        }
        at
    }

    /// All numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.count()).filter_map(|at| self.get(at))
    }

    /// The memory of a long list, to be freed in parts.
    pub(super) fn into_chunked(self) -> Option<ChunkedPostings> {
        if let PostingList::Chunked(long) = self { Some(*long) } else { None }
    }

    /// The bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        match self {
            PostingList::Inline(..) => 0,
            PostingList::Contiguous(slots) => slots.capacity() * size_of::<u32>(),
            PostingList::Chunked(long) => long.bytes(),
        }
    }
}

impl ChunkedPostings {
    fn push(&mut self, number: u32) {
        *self.slots.get_or_create(self.len) = number;
        self.len += 1;
    }

    /// In constant time, while [`Chunked::bytes`] counts the chunks.
    fn bytes(&self) -> usize {
        self.len.div_ceil(CHUNK) * (CHUNK * size_of::<u32>() + size_of::<Box<[u32]>>()) + size_of::<Self>()
    }

    /// Frees one chunk; false when there is none left.
    pub(super) fn free_some(&mut self) -> bool {
        self.slots.pop_chunk().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_posting_list_takes_no_more_room_than_a_vector_by_itself() {
        assert_eq!(size_of::<PostingList>(), size_of::<Vec<u32>>());
    }

    #[test]
    fn a_short_list_allocates_nothing_and_a_long_one_has_little_room_to_spare() {
        let mut slots = PostingList::default();
        for n in 0..100_000_u32 {
            let at = slots.push(n);
            assert_eq!(at, n as usize);
            let needed = if n < MAX_INLINE as u32 { 0 } else { 4 * slots.count() };
            let spare = slots.bytes().saturating_sub(needed);
            let allowed = if n < MAX_INLINE as u32 { 0 } else { needed / 4 + 128 };
            assert!(spare <= allowed, "{spare} bytes to spare with {} slots", slots.count());
        }
    }

    #[test]
    fn a_long_list_is_freed_in_parts() {
        let mut slots = PostingList::default();
        (0..10_000).for_each(|n| _ = slots.push(n));
        let mut long = slots.into_chunked().expect("it is long");
        let parts = std::iter::from_fn(|| long.free_some().then_some(())).count();
        assert!(parts >= 30, "{parts}");
        assert!(PostingList::default().into_chunked().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_posting_list_holds_what_a_vector_holds(steps in proptest::collection::vec((0..2_500_usize, any::<u32>(), any::<bool>()), 0..2_500)) {
            let (mut slots, mut vector) = (PostingList::default(), Vec::new());
            for (at, number, add) in steps {
                if add {
                    prop_assert_eq!(slots.push(number), vector.len());
                    vector.push(number);
                } else {
                    let was = vector.get_mut(at).map(|slot| std::mem::replace(slot, number));
                    prop_assert_eq!(slots.replace(at, number), was);
                }
                prop_assert_eq!(slots.get(at), vector.get(at).copied());
            }
            prop_assert_eq!(slots.iter().collect::<Vec<_>>(), vector);
        }
    }
}
