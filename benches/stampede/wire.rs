//! A minimal asynchronous connection: one request, one reply, over RESP or memcached's protocol.
//!
//! The cost of a client library would dominate the measurement at 5,000 callers.

use std::path::Path;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::support::server::Result;

/// One reply, of either protocol.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Number(i64),
    /// A simple string, or a line of memcached.
    Word(String),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
}

impl Reply {
    /// The bytes of a bulk string.
    pub(crate) fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A simple or bulk string as text.
    pub(crate) fn word(self) -> Option<String> {
        match self {
            Reply::Word(word) => Some(word),
            Reply::Bulk(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> i64 {
        if let Reply::Number(n) = self { *n } else { 0 }
    }
}

/// One connection.
pub(crate) struct Con {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Con {
    /// Connects; blocks while the server's backlog is full.
    pub(crate) fn open(socket: &Path) -> Result<Con> {
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        Ok(Con { stream: UnixStream::from_std(stream)?, buffer: Vec::with_capacity(2_048) })
    }

    /// Sends a Redis command; an error reply is an error.
    pub(crate) async fn call(&mut self, words: &[&[u8]]) -> Result<Reply> {
        let mut request = redis::Cmd::with_capacity(words.len(), 0);
        words.iter().for_each(|&word| {
            request.arg(word);
        });
        self.exchange(&request.get_packed_command(), resp).await
    }

    /// Sends a memcached request; returns the reply's line and its value.
    pub(crate) async fn meta(&mut self, request: &[u8]) -> Result<(String, Vec<u8>)> {
        match self.exchange(request, memcached).await? {
            Reply::Array(both) => {
                let mut both = both.into_iter();
                let line = both.next().and_then(Reply::word).unwrap_or_default();
                Ok((line, both.next().and_then(Reply::bytes).unwrap_or_default()))
            }
            line => Ok((line.word().unwrap_or_default(), Vec::new())),
        }
    }

    async fn exchange(&mut self, request: &[u8], parse: Parse) -> Result<Reply> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some((reply, _)) = parse(&self.buffer)? {
                return Ok(reply);
            }
        }
    }
}

/// Parses the first reply and its length; `None` while it is incomplete.
type Parse = fn(&[u8]) -> Result<Option<(Reply, usize)>>;

/// Replies of Redis.
fn resp(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some((line, mut at)) = line(bytes) else { return Ok(None) };
    let rest = line.get(1..).unwrap_or_default();
    let reply = match bytes[0] {
        b'+' => Reply::Word(rest.to_owned()),
        b':' => Reply::Number(rest.parse()?),
        b'$' | b'*' if rest == "-1" => Reply::Nil,
        b'$' => {
            let len: usize = rest.parse()?;
            let Some(value) = bytes.get(at..at + len + 2) else { return Ok(None) };
            at += len + 2;
            Reply::Bulk(value[..len].to_vec())
        }
        b'*' => {
            let mut items = Vec::new();
            for _ in 0..rest.parse()? {
                let Some((item, len)) = resp(&bytes[at..])? else { return Ok(None) };
                items.push(item);
                at += len;
            }
            Reply::Array(items)
        }
        _ => return Err(format!("the server replied {line}").into()),
    };
    Ok(Some((reply, at)))
}

/// Replies of memcached: `VA size flags` with a value, or a line.
fn memcached(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some((line, at)) = line(bytes) else { return Ok(None) };
    if line.contains("ERROR") {
        return Err(format!("memcached replied {line}").into());
    }
    let word = Reply::Word(line.to_owned());
    let Some(size) = line.strip_prefix("VA ") else { return Ok(Some((word, at))) };
    let size: usize = size.split(' ').next().unwrap_or_default().parse()?;
    let Some(value) = bytes.get(at..at + size + 2) else { return Ok(None) };
    Ok(Some((Reply::Array(vec![word, Reply::Bulk(value[..size].to_vec())]), at + size + 2)))
}

/// The first line, and where the next begins.
fn line(bytes: &[u8]) -> Option<(&str, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, end + 2))
}
