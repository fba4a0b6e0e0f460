//! What is compared: how a value is kept, and the requests of a sample.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use crate::support::{server::Result, wire::Script};

/// How a value is kept: one row of the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A string of the server's own.
    Native,
    /// An entry of ours, with this codec asked for.
    Entry(&'static str),
    /// A string of the server's own, gzipped by the client.
    GzipInClient,
}

impl Form {
    pub(crate) const ALL: [Form; 6] = [
        Form::Native,
        Form::Entry("none"),
        Form::Entry("gzip"),
        Form::Entry("zstd"),
        Form::Entry("lz4"),
        Form::GzipInClient,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Native => "native",
            Form::Entry("none") => "plain",
            Form::Entry(codec) => codec,
            Form::GzipInClient => "gzip in client",
        }
    }

    /// Keys of all forms are equally long, so that their names cost the same.
    pub(crate) fn key(self, op: Op, n: usize) -> Vec<u8> {
        let letter = match self {
            Form::Native => 'n',
            Form::Entry("none") => 'p',
            Form::Entry(codec) => codec.chars().next().unwrap_or('?'),
            Form::GzipInClient => 'c',
        };
        let op = if op == Op::Get { "get" } else { "set" };
        format!("bench:{letter}:{op}:{n:06}").into_bytes()
    }

    /// The words that store `value`, as the server gets it.
    pub(crate) fn set<'a>(self, key: &'a [u8], value: &'a [u8]) -> Vec<&'a [u8]> {
        match self {
            Form::Entry(codec) => {
                vec![b"SMARTCACHE.SET", key, value, b"TTL", b"3600", b"CODEC", codec.as_bytes()]
            }
            _ => vec![b"SET", key, value, b"EX", b"3600"],
        }
    }

    pub(crate) fn get(self, key: &[u8]) -> [&[u8]; 2] {
        match self {
            Form::Entry(_) => [b"SMARTCACHE.GET", key],
            _ => [b"GET", key],
        }
    }

    /// What reaches the server when `value` is to be kept.
    pub(crate) fn sent(self, value: Vec<u8>) -> Result<Vec<u8>> {
        if self == Form::GzipInClient { gzip(&value) } else { Ok(value) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Set,
}

pub(crate) fn gzip(value: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(value)?;
    Ok(encoder.finish()?)
}

/// What the client does in one sample, over and over.
pub(crate) enum Work {
    /// Requests laid out beforehand, replies of known length.
    Script(Script),
    /// Reads, each reply gunzipped.
    Gunzip(Script),
    /// Writes, each value gzipped first: keys and values.
    Gzip(Vec<(Vec<u8>, Vec<u8>)>),
}
