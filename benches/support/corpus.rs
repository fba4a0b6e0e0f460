//! Values made of real records. Requires `tests/data` as the crate's module `data`.

use crate::data;

/// Real records, and values of any size made of them.
pub(crate) struct Corpus(Vec<Vec<u8>>);

impl Corpus {
    pub(crate) fn new() -> Corpus {
        Corpus(data::records().iter().map(data::Record::json).collect())
    }

    /// Value number `n`: records from an offset in the sample that depends on `n`, cut to exactly `size` bytes.
    pub(crate) fn value(&self, n: usize, size: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(size + 10_000);
        let first = n.wrapping_mul(2_654_435_761) % self.0.len(); // scatters consecutive numbers
        for record in self.0.iter().cycle().skip(first) {
            if value.len() >= size {
                break;
            }
            value.extend_from_slice(record);
        }
        value.truncate(size);
        value
    }
}
