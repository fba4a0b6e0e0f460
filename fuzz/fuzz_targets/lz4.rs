//! Stored bytes of the codec lz4.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::cache::codec::CodecId;

fuzz_target!(|stored: &[u8]| smartcache_fuzz::decompress(CodecId::Lz4, stored));
