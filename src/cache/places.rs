//! A list of numbers that is small when it is short, and is never copied when it is long: most tags have few members, and
//! some have millions.

use super::chunked::{CHUNK, Chunked};

/// So many take no memory of their own.
const FEW: usize = 3;
/// Beyond so many the list grows in pieces: until then growing copies no more than this.
const MANY: usize = 1024;

/// Numbers in the order in which they were added.
#[derive(Debug)]
pub enum Places {
    /// No more than three, and how many.
    Few([u32; FEW], u32),
    /// No more than a thousand, and little room to spare.
    Several(Vec<u32>),
    /// More.
    Many(Box<Pieces>),
}

/// A long list.
#[derive(Debug)]
pub struct Pieces {
    places: Chunked<u32>,
    len: usize,
}

impl Default for Places {
    fn default() -> Self {
        Places::Few([0; FEW], 0)
    }
}

impl Places {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Places::Few(_, len) => *len as usize,
            Places::Several(places) => places.len(),
            Places::Many(pieces) => pieces.len,
        }
    }

    /// The number at a place.
    pub fn get(&self, at: usize) -> Option<u32> {
        match self {
            Places::Few(places, len) => places[..*len as usize].get(at).copied(),
            Places::Several(places) => places.get(at).copied(),
            Places::Many(pieces) => pieces.places.get(at).copied().filter(|_| at < pieces.len),
        }
    }

    /// Puts another one there, if there is such a place, and answers what it was.
    pub fn replace(&mut self, at: usize, with: u32) -> Option<u32> {
        let place = match self {
            Places::Few(places, len) => places[..*len as usize].get_mut(at),
            Places::Several(places) => places.get_mut(at),
            Places::Many(pieces) => pieces.places.get_mut(at).filter(|_| at < pieces.len),
        };
        place.map(|place| std::mem::replace(place, with))
    }

    /// Adds one, and answers its place.
    pub fn push(&mut self, number: u32) -> usize {
        let at = self.count();
        match self {
            Places::Few(places, len) if at < FEW => {
                places[at] = number;
                *len += 1;
            }
            Places::Few(places, _) => {
                let mut more = Vec::with_capacity(2 * FEW + 2);
                more.extend_from_slice(places);
                more.push(number);
                *self = Places::Several(more);
            }
            Places::Several(places) if at < MANY => {
                if at == places.capacity() {
                    places.reserve_exact(at / 4);
                }
                places.push(number);
            }
            Places::Several(places) => {
                let mut pieces = Pieces { places: Chunked::default(), len: 0 };
                places.iter().for_each(|place| pieces.push(*place));
                pieces.push(number);
                *self = Places::Many(Box::new(pieces));
            }
            Places::Many(pieces) => pieces.push(number),
        }
        at
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.count()).filter_map(|at| self.get(at))
    }

    /// The memory of a long list, to be freed little by little.
    pub fn into_pieces(self) -> Option<Pieces> {
        if let Places::Many(pieces) = self { Some(*pieces) } else { None }
    }

    /// The bytes that it has allocated.
    pub fn bytes(&self) -> usize {
        match self {
            Places::Few(..) => 0,
            Places::Several(places) => places.capacity() * size_of::<u32>(),
            Places::Many(pieces) => pieces.bytes(),
        }
    }
}

impl Pieces {
    fn push(&mut self, number: u32) {
        *self.places.make(self.len) = number;
        self.len += 1;
    }

    /// At once: [`Chunked::bytes`] counts them.
    fn bytes(&self) -> usize {
        self.len.div_ceil(CHUNK) * (CHUNK * size_of::<u32>() + size_of::<Box<[u32]>>()) + size_of::<Self>()
    }

    /// Frees a part of it; false when nothing is left.
    pub fn free_some(&mut self) -> bool {
        self.places.pop_chunk().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_takes_no_more_room_than_a_vector_by_itself() {
        assert_eq!(size_of::<Places>(), size_of::<Vec<u32>>());
    }

    #[test]
    fn few_allocate_nothing_and_many_have_little_room_to_spare() {
        let mut places = Places::default();
        for n in 0..100_000_u32 {
            let at = places.push(n);
            assert_eq!(at, n as usize);
            let needed = if n < FEW as u32 { 0 } else { 4 * places.count() };
            let spare = places.bytes().saturating_sub(needed);
            let allowed = if n < FEW as u32 { 0 } else { needed / 4 + 128 };
            assert!(spare <= allowed, "{spare} bytes to spare with {} places", places.count());
        }
    }

    #[test]
    fn what_is_long_is_freed_in_parts() {
        let mut places = Places::default();
        (0..10_000).for_each(|n| _ = places.push(n));
        let mut pieces = places.into_pieces().expect("it is long");
        let parts = std::iter::from_fn(|| pieces.free_some().then_some(())).count();
        assert!(parts >= 30, "{parts}");
        assert!(Places::default().into_pieces().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_holds_what_a_vector_holds(steps in proptest::collection::vec((0..2_500_usize, any::<u32>(), any::<bool>()), 0..2_500)) {
            let (mut places, mut vector) = (Places::default(), Vec::new());
            for (at, number, add) in steps {
                if add {
                    prop_assert_eq!(places.push(number), vector.len());
                    vector.push(number);
                } else {
                    let was = vector.get_mut(at).map(|place| std::mem::replace(place, number));
                    prop_assert_eq!(places.replace(at, number), was);
                }
                prop_assert_eq!(places.get(at), vector.get(at).copied());
            }
            prop_assert_eq!(places.iter().collect::<Vec<_>>(), vector);
        }
    }
}
