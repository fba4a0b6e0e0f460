//! What the keys of a test node hold.

use std::collections::BTreeMap;

use crate::cache::entry::Entry;

/// The value of a key.
#[derive(Debug)]
pub(super) enum Value {
    Entry(Entry),
    Text(Vec<u8>),
    List,
}

/// The keys of one database, with their expiry.
pub(super) type Keys = BTreeMap<Vec<u8>, (Value, Option<u64>)>;
