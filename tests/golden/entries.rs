//! Entries as they are on disk and on the wire: each in three files, the header, the stored bytes, and the decoded
//! meaning as text.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use smartcache::cache::clock::Stamp;
use smartcache::cache::codec::{CodecId, Codecs};
use smartcache::cache::entry::format::{self, Expiry};
use smartcache::cache::entry::{Entry, EntryRef, LAST_MOMENT, Parts};
use smartcache::cache::ids::RuleId;
use smartcache::cache::invalidation::tags::Tags;
use smartcache::cache::stats::live::Live;
use smartcache::testing::TestNode;

use super::{assert_golden, golden, path};

const FOLDER: &str = "entry/v1";
/// 2026-11-22 19:34:13 UTC, in milliseconds.
const THEN: u64 = 1_795_376_053_113;

fn tags() -> Tags {
    Tags::new(Arc::new(Live::default()))
}

/// Entries of each kind, by name. None may be changed, because their files never change.
fn samples(tags: &mut Tags) -> Vec<(String, Entry, Expiry)> {
    let plain = Parts {
        stamp: Stamp(THEN * 1_000 + 777),
        fresh_until: Some(THEN + 100_000),
        absent: false,
        stale: false,
        swr: 0,
        sie: 0,
        load_ms: None,
        codec: CodecId::None as u8,
        raw_len: 5,
        rule: RuleId(0),
        tags: &[],
        stored: b"value",
    };
    let nothing = Parts { raw_len: 0, stored: b"", ..plain };
    let two = [tags.intern(b"user:42").unwrap(), tags.intern(b"\x00\xff\r\n").unwrap()];
    let most: Vec<_> =
        (0..64).map(|n| tags.intern(format!("{n:0>width$}", width = n * 4 + 2).as_bytes()).unwrap()).collect();
    let every: Vec<u8> = (0..=255).collect();
    let at = Expiry::At(THEN + 100_000);
    let mut samples = vec![
        ("plain", Entry::new(plain), at),
        ("plain-in-rdb", Entry::new(plain), Expiry::AsItIs),
        ("no-end", Entry::new(Parts { fresh_until: None, ..plain }), Expiry::None),
        ("empty", Entry::new(nothing), at),
        ("every-byte", Entry::new(Parts { stored: &every, raw_len: 256, ..plain }), at),
        ("absent", Entry::new(Parts { absent: true, tags: &two, ..nothing }), at),
        ("windows", Entry::new(Parts { swr: 30_000, sie: 60_000, ..plain }), Expiry::At(THEN + 160_000)),
        ("only-sie", Entry::new(Parts { sie: 1, ..plain }), Expiry::At(THEN + 100_001)),
        ("stale", Entry::new(Parts { stale: true, swr: 30_000, ..plain }), Expiry::At(THEN + 130_000)),
        ("load-time", Entry::new(Parts { load_ms: Some(120), ..plain }), at),
        ("two-tags", Entry::new(Parts { tags: &two, ..plain }), at),
        ("64-tags", Entry::new(Parts { tags: &most, ..plain }), at),
        ("last-moment", Entry::new(Parts { fresh_until: Some(LAST_MOMENT), ..plain }), Expiry::At(LAST_MOMENT)),
    ]
    .into_iter()
    .map(|(name, entry, expiry)| (name.to_owned(), entry, expiry))
    .collect::<Vec<_>>();
    let record = br#"{"id":42,"name":"Ada Lovelace","langs":["en","fr"],"langs_spoken":["en","fr"],"name_shown":"Ada Lovelace"}"#;
    let mut codecs = Codecs::new();
    for codec in [CodecId::Gzip, CodecId::Zstd, CodecId::Lz4] {
        let stored = codecs.compress(codec, 3, record).unwrap();
        let packed = Parts { codec: codec as u8, raw_len: record.len() as u32, stored, ..plain };
        samples.push((codec.name().into(), Entry::new(packed), at));
    }
    let stored = codecs.compress(CodecId::Zstd, 3, record).unwrap();
    let all = Parts {
        stale: true,
        swr: 30_000,
        sie: 60_000,
        load_ms: Some(u32::MAX),
        codec: CodecId::Zstd as u8,
        raw_len: record.len() as u32,
        tags: &two,
        stored,
        ..plain
    };
    samples.push(("everything".into(), Entry::new(all), Expiry::At(THEN + 160_000)));
    let later = Parts { codec: 200, raw_len: 1_000, stored: b"a codec of a later version", ..plain };
    samples.push(("unknown-codec".into(), Entry::new(later), at));
    samples
}

/// The meaning of an entry, one fact per line.
fn meaning(entry: EntryRef<'_>, expiry: Expiry, tags: &Tags) -> String {
    let moment = |at: Option<u64>| at.map_or("never".into(), |ms| ms.to_string());
    let (swr, sie) = entry.windows();
    let expiry = match expiry {
        Expiry::AsItIs => "as it is".into(),
        Expiry::None => "none".into(),
        Expiry::At(ms) => ms.to_string(),
    };
    let value = entry.codec().map(|codec| {
        let mut codecs = Codecs::new();
        codecs.decompress(codec, entry.stored(), entry.raw_len()).unwrap().escape_ascii().to_string()
    });
    let mut text = format!(
        "kind: {}\nstamp: {}\nfresh until: {}\nstale by command: {}\nswr, sie: {swr} {sie}\nload time: {}\ncodec: {}\n\
         raw length: {}\nkey expires: {expiry}\nvalue: {}\ntags: {}\n",
        if entry.absent() { "absent" } else { "value" },
        entry.stamp(),
        moment(entry.fresh_until()),
        if entry.stale() { "yes" } else { "no" },
        entry.load_ms().map_or("unknown".into(), |ms| ms.to_string()),
        entry.codec_number(),
        entry.raw_len(),
        value.unwrap_or_else(|| "cannot be read".into()),
        entry.tags().len(),
    );
    entry.tags().for_each(|tag| writeln!(text, "  {}", tags.name(tag).escape_ascii()).unwrap());
    text
}

#[test]
fn entries_of_every_version_are_readable() {
    let mut writer = tags();
    for (name, entry, expiry) in samples(&mut writer) {
        let mut written = Vec::new();
        format::encode(entry.as_ref(), &writer, expiry, &mut written);
        let header = golden(&format!("{FOLDER}/{name}.header.bin"), &written);
        let stored = golden(&format!("{FOLDER}/{name}.stored.bin"), entry.as_ref().stored());

        let mut reader = tags();
        reader.intern(b"another node numbers its tags differently").unwrap();
        let read = format::decode(&header).unwrap();
        let back = read.to_entry(|name| reader.intern(name), RuleId(0), &stored).unwrap();
        assert_golden(&format!("{FOLDER}/{name}.txt"), &meaning(back.as_ref(), read.expiry, &reader));
        if written[0] == header[0] {
            assert_eq!(written, header, "{name}: the bytes of a version never change");
        }
    }
}

#[test]
fn every_file_belongs_to_a_sample() {
    let expected: BTreeSet<_> = samples(&mut tags())
        .into_iter()
        .flat_map(|(name, _, _)| ["header.bin", "stored.bin", "txt"].map(|kind| format!("{name}.{kind}")))
        .collect();
    let Ok(files) = fs::read_dir(path(FOLDER)) else { return }; // the test above fails then
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(expected.contains(&name), "{FOLDER}/{name} is not read by any test");
    }
}

#[test]
fn a_node_serves_entries_of_an_old_replication_stream() {
    for (name, served) in [
        ("plain", "\"value\"".to_owned()),
        ("no-end", "\"value\"".into()),
        ("empty", "\"\"".into()),
        ("absent", "(nil)".into()),
        ("stale", "(nil)".into()),
        ("64-tags", "\"value\"".into()),
        ("unknown-codec", "(nil)".into()),
    ] {
        let file = |kind: &str| fs::read(path(&format!("{FOLDER}/{name}.{kind}.bin"))).unwrap_or_default();
        let (header, stored) = (file("header"), file("stored"));
        if header.is_empty() {
            continue; // the test above fails then
        }
        let mut node = TestNode::at(THEN);
        assert_eq!(node.obey(&[b"SMARTCACHE.STORE", b"k", &header, &stored]), "OK", "{name}");
        assert_eq!(node.call("SMARTCACHE.GET k"), served, "{name}");
    }
}
