//! A hash of names that is the same on every node and in every life of it: SipHash-1-3 with a key of zeros.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

pub(super) fn hash(name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name);
    hasher.finish()
}
