//! An array that grows by chunks, so that growing copies no elements: with ten million of them that would block the
//! server for tens of milliseconds.

/// Elements in a chunk.
pub(super) const CHUNK: usize = 256;

/// Elements by index. Each exists from the start with its default; a chunk is allocated when it is first written to.
#[derive(Debug)]
pub(super) struct Chunked<T>(Vec<Option<Box<[T]>>>);

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked(Vec::new())
    }
}

impl<T: Default> Chunked<T> {
    /// The element, if its chunk is allocated.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at / CHUNK)?.as_ref().map(|chunk| &chunk[at % CHUNK])
    }

    /// The element to change, if its chunk is allocated.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at / CHUNK)?.as_mut().map(|chunk| &mut chunk[at % CHUNK])
    }

    /// The element to change. Allocates its chunk.
    pub(super) fn get_or_create(&mut self, at: usize) -> &mut T {
        if self.0.len() <= at / CHUNK {
            self.0.resize_with(at / CHUNK + 1, || None);
        }
        let chunk = self.0[at / CHUNK].get_or_insert_with(|| (0..CHUNK).map(|_| T::default()).collect());
        &mut chunk[at % CHUNK]
    }

    /// All elements of allocated chunks, with their indexes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let chunks = self.0.iter().enumerate().filter_map(|(at, chunk)| Some((at, chunk.as_ref()?)));
        chunks.flat_map(|(at, chunk)| chunk.iter().enumerate().map(move |(i, one)| (at * CHUNK + i, one)))
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten().flat_map(|chunk| chunk.iter_mut())
    }

    /// Removes the last chunk, which is empty if it was never allocated; `None` when there is none.
    pub(super) fn pop_chunk(&mut self) -> Option<Box<[T]>> {
        Some(self.0.pop()?.unwrap_or_default())
    }

    /// Frees the chunks that begin at this index or after it.
    pub(super) fn truncate(&mut self, from: usize) {
        self.0.truncate(from.div_ceil(CHUNK));
        if self.0.capacity() > 4 * self.0.len() {
            self.0.shrink_to_fit();
        }
    }

    /// The bytes of the chunks, without what the elements point to.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().flatten().count() * CHUNK * size_of::<T>() + self.0.capacity() * size_of::<Option<Box<[T]>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_where_they_are_put_and_chunks_between_take_no_memory() {
        let mut array = Chunked::<u64>::default();
        assert_eq!((array.get(5), array.bytes()), (None, 0));
        *array.get_or_create(3 * CHUNK + 1) = 7;
        *array.get_or_create(5) = 6;
        assert_eq!(
            (array.get(5), array.get(6), array.get(CHUNK), array.get(3 * CHUNK + 1)),
            (Some(&6), Some(&0), None, Some(&7))
        );
        assert_eq!(
            array.iter().filter(|(_, n)| **n > 0).map(|(at, n)| (at, *n)).collect::<Vec<_>>(),
            [(5, 6), (3 * CHUNK + 1, 7)]
        );
        assert!(array.bytes() < 3 * CHUNK * 8);
        while array.pop_chunk().is_some() {}
        assert_eq!(array.get(5), None);
    }
}
