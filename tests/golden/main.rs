//! Texts and bytes of earlier versions remain valid: error texts, and the content of files and replication streams.
//!
//! | file | content | read by |
//! |---|---|---|
//! | `errors.txt` | an example of every error | clients |
//! | `entry/v1/` | entries of format 1: header, stored bytes, meaning | RDB, `DUMP`, AOF, replicas |
//! | `aux-v1/`, `aux-v2/` | aux data of formats 1 and 2 | RDB |
//! | `mark/v1/`, `mark/v2/` | invalidations, as words of `SMARTCACHE.MARK` | AOF, replicas |
//! | `bus/v1/` | commands that primaries pass on | the other nodes of a cluster |
//! | `codec/` | values in each codec (tested beside the codecs) | all of these, and clients with `ACCEPT` |
//!
//! Files are added, never changed: a new format gets a new folder, and the old ones remain readable. With
//! `GOLDEN=write` the tests write *missing* files; existing files are never overwritten. To change a text, delete its
//! file first, so that the commit shows it.

mod aux_data;
mod bus;
mod entries;
mod errors;
mod marks;

use std::fs;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The content of a golden file. A missing file is created from `made` if `GOLDEN=write`.
fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = path(name);
    if !path.exists() {
        let may_write = std::env::var("GOLDEN").is_ok_and(|word| word == "write");
        assert!(may_write, "tests/golden/{name} is missing: GOLDEN=write cargo test --test golden makes it");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    fs::read(&path).unwrap()
}

/// Compares with a golden text; a failure shows the first line that differs.
fn assert_golden(name: &str, text: &str) {
    let kept = String::from_utf8(golden(name, text.as_bytes())).unwrap();
    for (number, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(kept, now, "tests/golden/{name}, line {}", number + 1);
    }
    assert_eq!(kept, text, "tests/golden/{name}");
}
