//! The tests that every codec must pass: `codec_tests!(Name)` in each codec's file runs them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{CodecError, CodecId, Codecs, check, codec};

/// The same tests for each codec, run through [`Codecs`].
macro_rules! codec_tests {
    ($codec:ident) => {
        mod every_codec {
            use super::super::super::suite;
            use super::super::super::CodecId;

            codec_tests! { @ $codec
                values_come_back_as_they_were
                levels_outside_the_range_become_the_nearest
                any_value_comes_back
                a_value_cut_short_is_an_error
                a_changed_bit_never_panics
                arbitrary_bytes_never_panic
                bytes_after_the_value_are_an_error
                two_values_are_not_one
                a_length_that_is_not_declared_is_an_error
                a_forged_length_allocates_nothing
                the_context_survives_damage
                reading_allocates_only_its_first_buffer
                stored_bytes_of_every_version_are_read
            }
        }
    };
    (@ $codec:ident $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                suite::$test(CodecId::$codec);
            }
        )*
    };
}

/// So many bytes that look like the JSON of a real record.
pub(super) fn json(len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 200);
    let mut noise = Noise(1);
    while text.len() < len {
        let (id, score) = (noise.next() % 100_000, noise.next() % 1_000);
        let record = format!(
            r#"{{"id":{id},"name":"user {id}","email":"user{id}@example.com","score":{score},"tags":["a","b"]}},"#
        );
        text.extend(record.as_bytes());
    }
    text.truncate(len);
    text
}

/// Bytes that no codec makes shorter.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut noise = Noise(2);
    (0..len).map(|_| noise.next() as u8).collect()
}

/// Values of every relevant kind and size.
pub(super) fn values() -> Vec<Vec<u8>> {
    let mut values = vec![vec![], vec![0], b"x".to_vec(), vec![0; 100_000], json(1 << 20), noise(1 << 20)];
    for len in [2, 12, 13, 100, 1_000, 65_535, 65_536, 200_000] {
        values.push(json(len));
        values.push(noise(len));
    }
    values
}

/// A xorshift generator: the same bytes on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

fn stored(id: CodecId, raw: &[u8]) -> Vec<u8> {
    Codecs::new().compress(id, 3, raw).unwrap().to_vec()
}

pub(super) fn values_come_back_as_they_were(id: CodecId) {
    let mut codecs = Codecs::new();
    for raw in values() {
        for level in [*codec(id).levels().start(), 3] {
            let stored = codecs.compress(id, level, &raw).unwrap().to_vec();
            assert!(stored.len() <= codec(id).max_stored_len(raw.len()));
            assert_eq!(check(id, &stored, raw.len()), Ok(()));
            let value = codecs.decompress(id, &stored, raw.len()).unwrap();
            assert!(value == raw, "{} bytes at level {level}", raw.len());
        }
    }
}

pub(super) fn levels_outside_the_range_become_the_nearest(id: CodecId) {
    let mut codecs = Codecs::new();
    let raw = json(2_000);
    let (low, high) = (*codec(id).levels().start(), *codec(id).levels().end());
    for (wild, tame) in [(i32::MIN, low), (-1, low), (100, high), (i32::MAX, high)] {
        let expected = codecs.compress(id, tame, &raw).unwrap().to_vec();
        assert_eq!(codecs.compress(id, wild, &raw).unwrap(), expected);
    }
    for level in low..=high {
        let stored = codecs.compress(id, level, &raw).unwrap().to_vec();
        assert_eq!(codecs.decompress(id, &stored, raw.len()).unwrap(), raw);
    }
}

pub(super) fn any_value_comes_back(id: CodecId) {
    // Few different bytes make long matches, all of them make none.
    let bytes = prop_oneof![vec(any::<u8>(), 0..2_000), vec(0u8..3, 0..20_000)];
    proptest!(|(raw in bytes, level in -2..25)| {
        let mut codecs = Codecs::new();
        let stored = codecs.compress(id, level, &raw).unwrap().to_vec();
        prop_assert_eq!(codecs.decompress(id, &stored, raw.len()).unwrap(), &raw[..]);
    });
}

pub(super) fn a_value_cut_short_is_an_error(id: CodecId) {
    let mut codecs = Codecs::new();
    for raw in [json(300), vec![0; 5_000], noise(100)] {
        let stored = stored(id, &raw);
        for len in 0..stored.len() {
            assert!(codecs.decompress(id, &stored[..len], raw.len()).is_err(), "{len} of {}", stored.len());
            assert!(codecs.decompress(id, &stored[stored.len() - len..], raw.len()).is_err());
        }
    }
}

pub(super) fn a_changed_bit_never_panics(id: CodecId) {
    let mut codecs = Codecs::new();
    for raw in [json(300), vec![0; 5_000], noise(100), vec![]] {
        let stored = stored(id, &raw);
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(value) = codecs.decompress(id, &damaged, raw.len()) {
                assert_eq!(value.len(), raw.len(), "bit {bit}");
            }
        }
    }
}

pub(super) fn arbitrary_bytes_never_panic(id: CodecId) {
    let genuine = stored(id, &json(500));
    // Genuine beginnings get further than noise does.
    proptest!(|(head in 0..genuine.len(), tail in vec(any::<u8>(), 0..200), len in 0usize..5_000)| {
        let bytes = [&genuine[..head], &tail].concat();
        let mut codecs = Codecs::new();
        let declared = codec(id).declared_len(&bytes).unwrap_or(0).min(1 << 20) as usize;
        for raw_len in [len, declared] {
            if let Ok(value) = codecs.decompress(id, &bytes, raw_len) {
                prop_assert_eq!(value.len(), raw_len);
            }
        }
    });
}

pub(super) fn bytes_after_the_value_are_an_error(id: CodecId) {
    let mut codecs = Codecs::new();
    for raw in [json(300), vec![0; 5_000], noise(100), vec![]] {
        let stored = stored(id, &raw);
        for byte in 0..=u8::MAX {
            for count in 1..=9 {
                let longer = [&stored[..], &[byte; 9][..count]].concat();
                assert!(codecs.decompress(id, &longer, raw.len()).is_err(), "{count} times {byte}");
            }
        }
    }
}

pub(super) fn two_values_are_not_one(id: CodecId) {
    let mut codecs = Codecs::new();
    for (first, second) in [(json(300), json(300)), (json(300), vec![]), (vec![], json(300))] {
        let both = [stored(id, &first), stored(id, &second)].concat();
        for len in [first.len(), second.len(), first.len() + second.len()] {
            // The plain codec cannot tell where a value ends.
            if both.len() != len {
                assert!(codecs.decompress(id, &both, len).is_err());
            }
        }
    }
}

pub(super) fn a_length_that_is_not_declared_is_an_error(id: CodecId) {
    let mut codecs = Codecs::new();
    for raw in [json(300), vec![]] {
        let stored = stored(id, &raw);
        for lie in [0, 1, 299, 301, 5_000, u32::MAX as usize, 1 << 32, (1 << 32) + raw.len(), usize::MAX] {
            if lie != raw.len() {
                assert!(codecs.decompress(id, &stored, lie).is_err(), "{lie} bytes");
            }
        }
    }
}

pub(super) fn a_forged_length_allocates_nothing(id: CodecId) {
    // Fifty bytes whose length field declares four gigabytes, and an entry that declares the same.
    let raw_len = u32::MAX as usize;
    let mut forged = stored(id, &noise(20));
    forged.resize(50, 0);
    match id.name() {
        "none" => {}
        "gzip" => forged[46..].copy_from_slice(&u32::MAX.to_le_bytes()),
        // The same header with a length of four bytes instead of one.
        "zstd" => forged.splice(4..6, [0b1010_0000, 0xff, 0xff, 0xff, 0xff]).for_each(drop),
        "lz4" => forged[..4].copy_from_slice(&u32::MAX.to_le_bytes()),
        other => panic!("how would one forge a length in {other}?"),
    }
    let mut codecs = Codecs::new();
    let refused = CodecError::Implausible { codec: id, raw_len, stored_len: forged.len() };
    assert_eq!(codecs.decompress(id, &forged, raw_len), Err(refused));
    assert_eq!(codecs.buffer_bytes(), 0);
    assert!(codecs.contexts.iter().all(Option::is_none));
}

pub(super) fn the_context_survives_damage(id: CodecId) {
    let mut codecs = Codecs::new();
    let raw = json(3_000);
    let stored = stored(id, &raw);
    for place in (0..stored.len()).step_by(7) {
        let mut damaged = stored.clone();
        damaged[place] ^= 0x55;
        let _ = codecs.decompress(id, &damaged, raw.len());
        assert_eq!(codecs.decompress(id, &stored, raw.len()).unwrap(), raw);
    }
}

pub(super) fn reading_allocates_only_its_first_buffer(id: CodecId) {
    let mut codecs = Codecs::new();
    let values: Vec<_> = [9_000, 10, 1_000, 9_000, 0, 300].map(|len| (json(len), stored(id, &json(len)))).into();
    let mut places = vec![];
    for (raw, stored) in &values {
        let value = codecs.decompress(id, stored, raw.len()).unwrap();
        assert_eq!(value, raw);
        // What is not in the buffer is where it was stored.
        places.push(if value.as_ptr() == stored.as_ptr() { std::ptr::null() } else { value.as_ptr() });
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
}

/// The bytes of the first release, and of every later change, stay in `tests/golden/codec`: a new version of a library
/// may write other bytes, but must read these.
pub(super) fn stored_bytes_of_every_version_are_read(id: CodecId) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/codec");
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut codecs = Codecs::new();
    for value in ["record.json", "empty.txt", "list.json"] {
        let raw = read(value);
        let stored = read(&format!("{value}.{}.bin", id.name()));
        assert!(codecs.decompress(id, &stored, raw.len()).unwrap() == raw, "{value}");
    }
}
