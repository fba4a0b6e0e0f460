//! Messages that the primaries of a cluster send each other. While a cluster is upgraded, nodes of two versions read
//! each other's.

use smartcache::cache::cluster::bus::Message;

use super::golden;

/// A message by the name of its file.
struct Sample {
    name: &'static str,
    life: u64,
    number: u64,
    db: i32,
    words: Vec<Vec<u8>>,
}

fn samples() -> [Sample; 3] {
    let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
    let every: Vec<u8> = (0..=255).collect();
    let tags = (0..300).map(|n| format!("tag:{n}").into_bytes());
    let many = words(&[b"SMARTCACHE.INVALIDATE", b"TAGS", b"300"]).into_iter().chain(tags).collect();
    [
        Sample {
            name: "invalidate",
            life: 0x0123_4567_89ab_cdef,
            number: 7,
            db: 0,
            words: words(&[b"SMARTCACHE.INVALIDATE", b"TAGS", b"1", b"team:7"]),
        },
        Sample {
            name: "bytes",
            life: u64::MAX,
            number: u64::MAX - 1,
            db: 15,
            words: words(&[b"SMARTCACHE.INVALIDATE", b"PREFIXES", b"2", b"", &every]),
        },
        Sample { name: "many", life: 1, number: 1, db: i32::MAX, words: many },
    ]
}

#[test]
fn messages_are_read_for_ever() {
    for Sample { name, life, number, db, words } in samples() {
        let encoded = Message::encode(life, number, db, &words);
        let kept = golden(&format!("bus/v1/{name}.bin"), &encoded);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        assert_eq!(Message::decode(&kept), Ok(Message { incarnation: life, number, db, words }), "{name}");
        if kept[4] == encoded[4] {
            assert_eq!(kept, encoded, "{name}: the bytes of a version do not change");
        }
    }
}
