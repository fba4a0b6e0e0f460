//! Yesterday's words and bytes still hold: what clients may match on, and what files and replication streams carry.
//!
//! | what | is | read by |
//! |---|---|---|
//! | `errors.txt` | an example of every error, as it is on the wire | clients |
//! | `entry/v1/` | entries as the first format writes them: header, stored bytes, and what they mean | RDB, `DUMP`, AOF, replicas |
//! | `aux-v1/` | what is saved beside the keys | RDB |
//! | `codec/` | values in each codec (tested where the codecs are) | all of those, and clients with `ACCEPT` |
//!
//! Files are added, never changed: a new format gets a new folder, and the old one stays and is read for ever. With
//! `GOLDEN=write` the tests write the files that are *missing*; one that is there is never overwritten. Where a text has to
//! change, delete the file first, so that the commit shows it.

mod aux;
mod entries;
mod errors;

use std::fs;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What the golden file of this name holds. One that is missing is made from `made`, if that was asked for.
fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = path(name);
    if !path.exists() {
        let asked = std::env::var("GOLDEN").is_ok_and(|word| word == "write");
        assert!(asked, "tests/golden/{name} is missing: GOLDEN=write cargo test --test golden makes it");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    fs::read(&path).unwrap()
}

/// Compares with a golden text, and shows the first line that differs.
fn assert_golden(name: &str, text: &str) {
    let kept = String::from_utf8(golden(name, text.as_bytes())).unwrap();
    for (number, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(kept, now, "tests/golden/{name}, line {}", number + 1);
    }
    assert_eq!(kept, text, "tests/golden/{name}");
}
