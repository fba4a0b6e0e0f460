//! Damaged dumps, files and payloads: each is refused or read, and none breaks the server.

use crate::support::{Reply, Server, args, wait_until};

const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_REDIS);

/// Length of version and checksum at the end of a dump.
const FOOTER: usize = 2 + 8;

/// Length of the type at the start of a dump. A dump with a native type would be read by the server, not by the module.
const TYPE: usize = 1;

/// A damaged dump with a correct checksum, so that it reaches the module's parser.
fn resealed(value_and_version: &[u8]) -> Vec<u8> {
    [value_and_version, &CRC.checksum(value_and_version).to_le_bytes()].concat()
}

/// Dumps of small entries of all kinds.
fn dumps(s: &Server) -> Vec<(&'static str, Vec<u8>)> {
    let value = "a value that shrinks ".repeat(20);
    s.ok("SMARTCACHE.SET bare v PERSIST CODEC none");
    s.ok("SMARTCACHE.ABSENT absent TTL 1000");
    s.ok("SMARTCACHE.RULE SET r MATCH ruled* SWR 50 SIE 70");
    s.ok("SMARTCACHE.SET ruled v TTL 1000 TAGS 2 one two");
    for codec in ["gzip", "zstd", "lz4"] {
        s.call_args(args!["SMARTCACHE.SET", codec, value, "CODEC", codec, "TAGS", "1", "t"]);
    }
    ["bare", "absent", "ruled", "gzip", "zstd", "lz4"]
        .map(|key| {
            let dump = s.ok(&format!("DUMP {key}")).bytes().to_vec();
            let body = &dump[..dump.len() - 8];
            assert_eq!(resealed(body), dump, "the checksum is the server's");
            (key, dump)
        })
        .into()
}

/// Restores a damaged dump. If that succeeds, every command on the key must be answered.
fn try_restore(s: &Server, dump: &[u8]) -> bool {
    let reply = s.call_args(args!["RESTORE", "victim", "0", dump, "REPLACE"]);
    if reply.is_error() {
        return false;
    }
    for line in [
        "SMARTCACHE.GET victim",
        "SMARTCACHE.GET victim STALE STATE",
        "SMARTCACHE.GET victim STALE ACCEPT gzip,zstd",
        "SMARTCACHE.INSPECT victim",
        "SMARTCACHE.MGET victim",
        "SMARTCACHE.STALE victim",
        "SMARTCACHE.TOUCH victim",
        "MEMORY USAGE victim",
        "DUMP victim",
        "COPY victim victim2 REPLACE",
        "DEBUG DIGEST-VALUE victim",
        "DEL victim victim2",
    ] {
        s.call(line);
    }
    true
}

#[test]
fn a_dump_cut_at_any_byte_is_refused() {
    let s = Server::start();
    for (key, dump) in dumps(&s) {
        let before = s.digest();
        // With a wrong checksum, for the server.
        for len in 0..dump.len() {
            assert!(!try_restore(&s, &dump[..len]), "{key} cut at {len}");
        }
        // With a correct one, for the module.
        let (value, version) = (&dump[..dump.len() - FOOTER], &dump[dump.len() - FOOTER..dump.len() - 8]);
        // (The footer may happen to replace the last few bytes; then the dump may be accepted.)
        for len in TYPE..value.len() {
            let cut = resealed(&[&value[..len], version].concat());
            assert!(!try_restore(&s, &cut) || len + FOOTER >= value.len(), "{key} cut at {len}");
        }
        assert_eq!(s.digest(), before);
        assert!(try_restore(&s, &dump), "{key} as it was");
    }
}

#[test]
fn every_bit_of_a_small_dump_can_be_flipped() {
    let s = Server::start();
    for (key, dump) in dumps(&s) {
        let body = &dump[..dump.len() - 8];
        for bit in TYPE * 8..(dump.len() - FOOTER) * 8 {
            let mut flipped = body.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            try_restore(&s, &resealed(&flipped));
        }
        // The checksum lets the server itself refuse the flip.
        for bit in 0..dump.len() * 8 {
            let mut flipped = dump.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!try_restore(&s, &flipped), "{key}, bit {bit}");
        }
    }
    assert_eq!(s.stat("panics"), 0);
    s.play(
        r#"
        > SMARTCACHE.SET after v
        OK
        > SMARTCACHE.GET after
        "v"
        "#,
    );
}

#[test]
fn every_byte_of_a_small_dump_can_be_anything() {
    let s = Server::start();
    for (_, dump) in dumps(&s) {
        let body = &dump[..dump.len() - 8];
        for at in TYPE..dump.len() - FOOTER {
            for byte in [0, 1, 0x7f, 0x80, 0xc0, 0xfe, 0xff] {
                let mut changed = body.to_vec();
                changed[at] = byte;
                try_restore(&s, &resealed(&changed));
            }
            // Eight equal bytes: lengths, times and stamps at their extremes.
            for byte in [0, 0x7f, 0xff] {
                let mut changed = body.to_vec();
                let end = (at + 8).min(dump.len() - FOOTER);
                changed[at..end].fill(byte);
                try_restore(&s, &resealed(&changed));
            }
        }
    }
    assert_eq!(s.stat("panics"), 0);
}

#[test]
fn bytes_put_in_or_left_out_are_refused_or_read() {
    let s = Server::start();
    for (_, dump) in dumps(&s) {
        let body = &dump[..dump.len() - 8];
        for at in TYPE..dump.len() - FOOTER {
            let without = [&body[..at], &body[at + 1..]].concat();
            try_restore(&s, &resealed(&without));
            for byte in [0, 0x40, 0xff] {
                let with = [&body[..at], &[byte], &body[at..]].concat();
                try_restore(&s, &resealed(&with));
            }
        }
    }
    assert_eq!(s.stat("panics"), 0);
}

#[test]
fn a_forged_size_takes_no_memory() {
    let s = Server::start();
    let dumps = dumps(&s);
    let before = s.info_number("used_memory_peak");
    for (_, dump) in &dumps {
        let body = &dump[..dump.len() - 8];
        for at in TYPE..dump.len() - FOOTER {
            // Sizes of gigabytes and more, in either byte order and as varints.
            for forged in [
                &[0xff_u8, 0xff, 0xff, 0xff][..],
                &[0xff, 0xff, 0xff, 0x7f],
                &[0x7f, 0xff, 0xff, 0xff],
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                &[0, 0, 0, 0, 2, 0, 0, 0],
                &[0, 0, 0, 2, 0, 0, 0, 0],
            ] {
                if at + forged.len() <= dump.len() - FOOTER {
                    let mut changed = body.to_vec();
                    changed[at..at + forged.len()].copy_from_slice(forged);
                    try_restore(&s, &resealed(&changed));
                }
            }
        }
    }
    let after = s.info_number("used_memory_peak");
    assert!(after < before + 64_000_000, "the peak went from {before} to {after}");
}

#[test]
fn a_bomb_is_not_unpacked_beyond_max_value() {
    // Stored with a large max-value, restored with a small one: 64 MB of zeros in a few kilobytes.
    let (source, target) = (Server::start(), Server::with("smartcache.max-value 1mb"));
    for codec in ["gzip", "zstd", "lz4"] {
        let zeros = vec![0_u8; 64_000_000];
        source.call_args(args!["SMARTCACHE.SET", "k", zeros, "CODEC", codec]);
        wait_until("it is compressed", || source.inspect("k", "codec").text() == codec);
        let dump = source.ok("DUMP k");
        assert!(dump.bytes().len() < 2_000_000);
        let before = target.info_number("used_memory_peak");
        target.call_args(args!["RESTORE", "k", "0", dump.bytes(), "REPLACE"]);
        let got = target.call("SMARTCACHE.GET k");
        // Refused, a miss, or an error, but never the value.
        assert!(got.is_nil() || got.is_error(), "{codec}: {} bytes came back", got.bytes().len());
        let after = target.info_number("used_memory_peak");
        assert!(after < before + 20_000_000, "{codec}: the peak went from {before} to {after}");
    }
}

/// The internal commands in the AOF: `SMARTCACHE.STORE key header stored`.
fn stores(s: &Server) -> Vec<Vec<Vec<u8>>> {
    dumps(s);
    let commands = crate::aof::commands(s);
    commands.into_iter().filter(|c| c[0].eq_ignore_ascii_case(b"SMARTCACHE.STORE")).collect()
}

fn call(s: &Server, words: &[Vec<u8>]) -> Reply {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    s.call_args(&words)
}

#[test]
fn a_damaged_payload_of_the_internal_command_is_refused_or_read() {
    let s = Server::with("appendonly yes\nappendfsync no");
    let stores = stores(&s);
    assert!(stores.len() >= 6);
    for store in stores {
        let key = String::from_utf8_lossy(&store[1]).into_owned();
        let before = s.portrait(&key);
        for len in 0..store[2].len() {
            let mut cut = store.clone();
            cut[2].truncate(len);
            let reply = call(&s, &cut);
            assert!(reply.is_error() && reply.error().starts_with("ERR"), "{key}, header cut at {len}: {reply}");
        }
        assert_eq!(s.portrait(&key), before);
        let mut damaged = Vec::new();
        for word in 2..store.len() {
            for bit in 0..store[word].len() * 8 {
                let mut flipped = store.clone();
                flipped[word][bit / 8] ^= 1 << (bit % 8);
                damaged.push(flipped);
            }
        }
        for len in 0..store[3].len() {
            let mut cut = store.clone();
            cut[3].truncate(len);
            damaged.push(cut);
        }
        for mut words in damaged {
            words[1] = b"victim".to_vec();
            if !call(&s, &words).is_error() {
                s.call("SMARTCACHE.GET victim STALE STATE");
                s.call("SMARTCACHE.INSPECT victim");
                s.call("DUMP victim");
            }
            s.call("DEL victim");
        }
    }
    assert_eq!(s.stat("panics"), 0);
}

#[test]
fn the_internal_command_takes_its_own_bytes_back() {
    let s = Server::with("appendonly yes\nappendfsync no");
    for store in stores(&s) {
        let key = String::from_utf8_lossy(&store[1]).into_owned();
        let before = s.portrait(&key);
        s.ok(&format!("DEL {key}"));
        let reply = call(&s, &store);
        assert!(!reply.is_error(), "{key}: {reply}");
        assert_eq!(s.portrait(&key), before, "{key}");
    }
}

/// A small file without a checksum, so that damage reaches the parsers.
fn small_rdb() -> (Vec<u8>, std::ops::Range<usize>) {
    let s = Server::with("rdbchecksum no");
    s.ok("SMARTCACHE.RULE SET r MATCH k* SWR 5");
    s.ok("SMARTCACHE.SET key:one value-of-one TTL 1000 TAGS 2 one two");
    s.ok("SAVE");
    let file = s.read_file("dump.rdb");
    let key = b"key:one";
    let start = file.windows(key.len()).position(|w| w == key).expect("the key is in the file") + key.len();
    let end = file.len() - 9; // the end mark and eight bytes of checksum
    (file, start..end)
}

#[track_caller]
fn load(file: &[u8]) {
    match Server::setup().file("dump.rdb", file).try_start() {
        Ok(s) => {
            s.call("SMARTCACHE.GET key:one STALE STATE");
            s.call("SMARTCACHE.INSPECT key:one");
            s.call("SMARTCACHE.RULE LIST");
            s.ok("SMARTCACHE.SET after v");
            assert_eq!(s.stat("panics"), 0);
        }
        Err(gone) => gone.assert_refused(),
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_and_not_crashed_over() {
    let (file, ours) = small_rdb();
    for len in (9..file.len()).filter(|len| ours.contains(len) || len % 16 == 0) {
        load(&file[..len]);
    }
}

#[test]
fn a_file_with_a_flipped_bit_is_refused_or_loaded_and_not_crashed_over() {
    let (file, ours) = small_rdb();
    // Every bit would take a thousand servers: one bit of every byte of the entry, two for the aux data.
    for at in ours.clone() {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        load(&flipped);
    }
    // The aux section, if any, is before the keys: from the rule's name on.
    if let Some(rule) = file[..ours.start].windows(2).position(|w| w == b"k*") {
        for at in rule.saturating_sub(24)..(rule + 24).min(ours.start - 16) {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << (at % 8);
            load(&flipped);
        }
    }
}
