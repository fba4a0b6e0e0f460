//! Reads the sample of real records in this folder (see its `README.md`).
//!
//! Not a test itself: the demo, the benches and tests include it with `#[path]`.

#![allow(dead_code)] // each user needs a part

use std::io::{BufRead, BufReader};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

/// One record as a service would cache it.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    /// The key of a cache-aside service, such as `airport:KJFK`.
    pub(crate) key: String,
    /// The record in its database.
    pub(crate) value: Value,
}

impl Record {
    /// The bytes to cache: compact JSON, members in the order of the source.
    pub(crate) fn json(&self) -> Vec<u8> {
        self.value.to_string().into_bytes()
    }
}

/// All records: the airports, then the browser features, each in the order of their keys.
///
/// The files are compiled in, so whatever includes this runs from any folder.
pub(crate) fn records() -> Vec<Record> {
    let files: [&[u8]; 2] = [include_bytes!("airports.jsonl.gz"), include_bytes!("features.jsonl.gz")];
    let lines = files.into_iter().flat_map(|file| BufReader::new(GzDecoder::new(file)).lines());
    lines
        .map(|line| {
            let line = line.expect("the sample is whole gzip");
            serde_json::from_str(&line).expect("each line of the sample is a record")
        })
        .collect()
}
