//! A list of numbers that is small when it is short, and is never copied when it is long: most tags have few members, and
//! some have millions.

use crate::cache::invalidation::chunked::{CHUNK, Chunked};

/// So many take no memory of their own.
const FEW: usize = 3;
/// Beyond so many the list grows in chunked_list: until then growing copies no more than this.
const MANY: usize = 1024;

/// Numbers in the order in which they were added.
#[derive(Debug)]
pub enum PostingList {
    /// No more than three, and how many.
    Few([u32; FEW], u32),
    /// No more than a thousand, and little room to spare.
    Several(Vec<u32>),
    /// More.
    Many(Box<ChunkedPostings>),
}

/// A long list.
#[derive(Debug)]
pub struct ChunkedPostings {
    slots: Chunked<u32>,
    len: usize,
}

impl Default for PostingList {
    fn default() -> Self {
        PostingList::Few([0; FEW], 0)
    }
}

impl PostingList {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            PostingList::Few(_, len) => *len as usize,
            PostingList::Several(slots) => slots.len(),
            PostingList::Many(chunked_list) => chunked_list.len,
        }
    }

    /// The number at a slot.
    pub fn get(&self, at: usize) -> Option<u32> {
        match self {
            PostingList::Few(slots, len) => slots[..*len as usize].get(at).copied(),
            PostingList::Several(slots) => slots.get(at).copied(),
            PostingList::Many(chunked_list) => chunked_list.slots.get(at).copied().filter(|_| at < chunked_list.len),
        }
    }

    /// Puts another one there, if there is such a slot, and answers what it was.
    pub fn replace(&mut self, at: usize, with: u32) -> Option<u32> {
        let slot = match self {
            PostingList::Few(slots, len) => slots[..*len as usize].get_mut(at),
            PostingList::Several(slots) => slots.get_mut(at),
            PostingList::Many(chunked_list) => chunked_list.slots.get_mut(at).filter(|_| at < chunked_list.len),
        };
        slot.map(|slot| std::mem::replace(slot, with))
    }

    /// Adds one, and answers its slot.
    pub fn push(&mut self, number: u32) -> usize {
        let at = self.count();
        match self {
            PostingList::Few(slots, len) if at < FEW => {
                slots[at] = number;
                *len += 1;
            }
            PostingList::Few(slots, _) => {
                let mut more = Vec::with_capacity(2 * FEW + 2);
                more.extend_from_slice(slots);
                more.push(number);
                *self = PostingList::Several(more);
            }
            PostingList::Several(slots) if at < MANY => {
                if at == slots.capacity() {
                    slots.reserve_exact(at / 4);
                }
                slots.push(number);
            }
            PostingList::Several(slots) => {
                let mut chunked_list = ChunkedPostings { slots: Chunked::default(), len: 0 };
                slots.iter().for_each(|slot| chunked_list.push(*slot));
                chunked_list.push(number);
                *self = PostingList::Many(Box::new(chunked_list));
            }
            PostingList::Many(chunked_list) => chunked_list.push(number),
        }
        at
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.count()).filter_map(|at| self.get(at))
    }

    /// The memory of a long list, to be freed little by little.
    pub fn into_chunked(self) -> Option<ChunkedPostings> {
        if let PostingList::Many(chunked_list) = self { Some(*chunked_list) } else { None }
    }

    /// The bytes that it has allocated.
    pub fn bytes(&self) -> usize {
        match self {
            PostingList::Few(..) => 0,
            PostingList::Several(slots) => slots.capacity() * size_of::<u32>(),
            PostingList::Many(chunked_list) => chunked_list.bytes(),
        }
    }
}

impl ChunkedPostings {
    fn push(&mut self, number: u32) {
        *self.slots.make(self.len) = number;
        self.len += 1;
    }

    /// At once: [`Chunked::bytes`] counts them.
    fn bytes(&self) -> usize {
        self.len.div_ceil(CHUNK) * (CHUNK * size_of::<u32>() + size_of::<Box<[u32]>>()) + size_of::<Self>()
    }

    /// Frees a part of it; false when nothing is left.
    pub fn free_some(&mut self) -> bool {
        self.slots.pop_chunk().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_takes_no_more_room_than_a_vector_by_itself() {
        assert_eq!(size_of::<PostingList>(), size_of::<Vec<u32>>());
    }

    #[test]
    fn few_allocate_nothing_and_many_have_little_room_to_spare() {
        let mut slots = PostingList::default();
        for n in 0..100_000_u32 {
            let at = slots.push(n);
            assert_eq!(at, n as usize);
            let needed = if n < FEW as u32 { 0 } else { 4 * slots.count() };
            let spare = slots.bytes().saturating_sub(needed);
            let allowed = if n < FEW as u32 { 0 } else { needed / 4 + 128 };
            assert!(spare <= allowed, "{spare} bytes to spare with {} slots", slots.count());
        }
    }

    #[test]
    fn what_is_long_is_freed_in_parts() {
        let mut slots = PostingList::default();
        (0..10_000).for_each(|n| _ = slots.push(n));
        let mut chunked_list = slots.into_chunked().expect("it is long");
        let parts = std::iter::from_fn(|| chunked_list.free_some().then_some(())).count();
        assert!(parts >= 30, "{parts}");
        assert!(PostingList::default().into_chunked().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_holds_what_a_vector_holds(steps in proptest::collection::vec((0..2_500_usize, any::<u32>(), any::<bool>()), 0..2_500)) {
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
