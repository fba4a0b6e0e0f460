//! The client of the measurement: it writes prepared requests and counts the bytes of the replies.
//!
//! A client library builds each request and parses each reply; with a pipeline of 64 commands that costs several times
//! the server's own time, and the server would idle. So all requests of a run are encoded into one buffer before the
//! clock starts, a batch is one `write` of a slice of it, and reading only counts bytes, since the length of every
//! reply is known. The content of the replies is checked beforehand, with a library.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::server::Result;

/// Encoded commands in a row, with the lengths of their replies.
#[derive(Default)]
pub(crate) struct Script {
    bytes: Vec<u8>,
    /// Start of each command, and the end of the last.
    starts: Vec<usize>,
    /// Total reply bytes before each command, and of all commands.
    replies: Vec<usize>,
}

impl Script {
    /// Adds a command whose reply has `reply` bytes.
    pub(crate) fn push(&mut self, words: &[&[u8]], reply: usize) {
        if self.starts.is_empty() {
            (self.starts, self.replies) = (vec![0], vec![0]);
        }
        push_command(&mut self.bytes, words);
        self.starts.push(self.bytes.len());
        self.replies.push(self.replies[self.replies.len() - 1] + reply);
    }

    /// How many commands there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The requests of commands `from..to`, and the number of bytes in their replies.
    pub(crate) fn batch(&self, from: usize, to: usize) -> (&[u8], usize) {
        (&self.bytes[self.starts[from]..self.starts[to]], self.replies[to] - self.replies[from])
    }
}

/// Appends one command: an array of bulk strings.
pub(crate) fn push_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    write!(out, "*{}\r\n", words.len()).expect("writing to a Vec does not fail");
    for word in words {
        write!(out, "${}\r\n", word.len()).expect("writing to a Vec does not fail");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The length of the reply `$len\r\n…\r\n`.
pub(crate) fn bulk_reply(len: usize) -> usize {
    1 + len.to_string().len() + 2 + len + 2
}

/// The length of `+OK\r\n`.
pub(crate) const OK_REPLY: usize = 5;

/// One connection.
pub(crate) struct Wire {
    stream: UnixStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Wire {
    pub(crate) fn connect(socket: &Path) -> Result<Wire> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Wire { stream, buffer: vec![0; 256 * 1024], filled: 0 })
    }

    /// Sends `requests` and reads the `expected` bytes of their replies; checks only whether the first is an error.
    pub(crate) fn exchange(&mut self, requests: &[u8], expected: usize) -> Result<()> {
        self.stream.write_all(requests)?;
        let mut left = expected;
        while left > 0 {
            let most = left.min(self.buffer.len());
            let n = read(&mut self.stream, &mut self.buffer[..most])?;
            if left == expected && self.buffer[0] == b'-' {
                return Err(format!("the server replied {}", String::from_utf8_lossy(&self.buffer[..n])).into());
            }
            left -= n;
        }
        Ok(())
    }

    /// Sends `requests` and hands each of the `count` bulk replies to `take`, whatever their lengths.
    pub(crate) fn exchange_bulks(
        &mut self,
        requests: &[u8],
        count: usize,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.stream.write_all(requests)?;
        self.filled = 0;
        let mut at = 0;
        for _ in 0..count {
            let line_end = loop {
                match self.buffer[at..self.filled].iter().position(|&b| b == b'\n') {
                    Some(n) => break at + n,
                    None => self.fill()?,
                }
            };
            let line = &self.buffer[at..line_end];
            let len: usize = match line.strip_prefix(b"$").and_then(|rest| std::str::from_utf8(rest).ok()) {
                Some(len) => len.trim_end().parse()?,
                None => return Err(format!("the server replied {}", String::from_utf8_lossy(line)).into()),
            };
            let from = line_end + 1;
            while self.filled < from + len + 2 {
                self.fill()?;
            }
            take(&self.buffer[from..from + len])?;
            at = from + len + 2;
        }
        Ok(())
    }

    /// Appends what has arrived to the buffer.
    fn fill(&mut self) -> Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        self.filled += read(&mut self.stream, &mut self.buffer[self.filled..])?;
        Ok(())
    }
}

/// One `read`, of at least a byte.
fn read(stream: &mut UnixStream, into: &mut [u8]) -> Result<usize> {
    loop {
        return match stream.read(into) {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(n) => Ok(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue, // checked between samples
            Err(error) => Err(format!("no reply: {error}").into()),
        };
    }
}
