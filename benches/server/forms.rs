//! What is compared: the forms in which a value is stored, and the requests of a sample.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use crate::support::{server::Result, wire::Script};

/// How a value is stored: one row of the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A native string.
    Native,
    /// An entry of the module, with this codec requested.
    Entry(&'static str),
    /// A native string, gzipped by the client.
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

    /// The command that stores `value`, which is already in this form.
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

    /// The bytes that a client sends to store `value`.
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

/// What the client repeats during one sample.
pub(crate) enum Work {
    /// Prepared requests with replies of known length.
    Script(Script),
    /// Reads; each reply is gunzipped.
    Gunzip(Script),
    /// Writes of these keys and values; each value is gzipped first.
    Gzip(Vec<(Vec<u8>, Vec<u8>)>),
}
