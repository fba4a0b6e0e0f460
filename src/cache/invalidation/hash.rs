//! A hash of names that every node computes alike.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The same on every node.
pub(super) fn hash(name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name);
    hasher.finish()
}
