//! A raw connection in RESP2 or RESP3, and replies printed as by `redis-cli`.
//!
//! A client library would hide what these tests check: the exact reply type, the raw error text, pushes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longer than any command takes on a busy machine: a test must fail, not hang.
const NO_REPLY: Duration = Duration::from_secs(60);

/// A reply. RESP2's two nils and RESP3's `_` are one `Nil`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Double(f64),
    Bool(bool),
    Simple(String),
    Bulk(Vec<u8>),
    Verbatim(Vec<u8>),
    Error(String),
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
}

impl Reply {
    pub(crate) fn is_nil(&self) -> bool {
        *self == Reply::Nil
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    #[track_caller]
    pub(crate) fn int(&self) -> i64 {
        match self {
            Reply::Int(n) => *n,
            _ => panic!("an integer was expected, not {self}"),
        }
    }

    /// A number with a fraction: a double in RESP3, a string in RESP2.
    #[track_caller]
    pub(crate) fn float(&self) -> f64 {
        match self {
            Reply::Double(x) => *x,
            Reply::Bulk(b) => {
                String::from_utf8_lossy(b).parse().unwrap_or_else(|_| panic!("a number was expected, not {self}"))
            }
            _ => panic!("a double was expected, not {self}"),
        }
    }

    #[track_caller]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Reply::Bulk(b) | Reply::Verbatim(b) => b,
            _ => panic!("a bulk string was expected, not {self}"),
        }
    }

    /// A simple or bulk string as text.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        match self {
            Reply::Simple(s) => s.clone(),
            _ => String::from_utf8_lossy(self.bytes()).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        match self {
            Reply::Error(e) => e,
            _ => panic!("an error was expected, not {self}"),
        }
    }

    #[track_caller]
    pub(crate) fn array(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            _ => panic!("an array was expected, not {self}"),
        }
    }

    #[track_caller]
    pub(crate) fn texts(&self) -> Vec<String> {
        self.array().iter().map(Reply::text).collect()
    }

    /// The pairs of a map: a map in RESP3, a flat array in RESP2.
    #[track_caller]
    pub(crate) fn pairs(&self) -> Vec<(String, Reply)> {
        match self {
            Reply::Map(pairs) => pairs.iter().map(|(k, v)| (k.text(), v.clone())).collect(),
            Reply::Array(flat) if flat.len() % 2 == 0 => {
                flat.chunks(2).map(|kv| (kv[0].text(), kv[1].clone())).collect()
            }
            _ => panic!("a map was expected, not {self}"),
        }
    }

    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Reply {
        let pairs = self.pairs();
        match pairs.into_iter().find(|(k, _)| k == name) {
            Some((_, v)) => v,
            None => panic!("there is no field '{name}' in\n{self}"),
        }
    }
}

/// As printed by `redis-cli`: `OK`, `"bulk"`, `(integer) 1`, `(nil)`, `(error) ERR …`, `1) …`, `1# "k" => v`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Nil => write!(f, "(nil)"),
            Reply::Int(n) => write!(f, "(integer) {n}"),
            Reply::Double(x) => write!(f, "(double) {x}"),
            Reply::Bool(b) => write!(f, "({b})"),
            Reply::Simple(s) => write!(f, "{s}"),
            Reply::Error(e) => write!(f, "(error) {e}"),
            Reply::Bulk(b) | Reply::Verbatim(b) => write!(f, "\"{}\"", b.escape_ascii()),
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) if items.is_empty() => {
                write!(f, "(empty array)")
            }
            Reply::Map(pairs) if pairs.is_empty() => write!(f, "(empty hash)"),
            Reply::Array(items) => list(f, ')', items.iter().map(Reply::to_string)),
            Reply::Set(items) => list(f, '~', items.iter().map(Reply::to_string)),
            Reply::Push(items) => list(f, '>', items.iter().map(Reply::to_string)),
            Reply::Map(pairs) => list(f, '#', pairs.iter().map(|(k, v)| format!("{k} => {v}"))),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, mark: char, items: impl ExactSizeIterator<Item = String>) -> fmt::Result {
    let width = items.len().to_string().len();
    let indent = " ".repeat(width + 2);
    for (i, item) in items.enumerate() {
        if i > 0 {
            writeln!(f)?;
        }
        write!(f, "{:>width$}{mark} {}", i + 1, item.replace('\n', &format!("\n{indent}")))?;
    }
    Ok(())
}

/// A connection over the server's unix socket.
pub(crate) struct Conn {
    wire: BufReader<UnixStream>,
    pushes: VecDeque<Reply>,
}

impl Conn {
    pub(crate) fn open(socket: &Path) -> std::io::Result<Conn> {
        Conn::open_for(socket, NO_REPLY)
    }

    /// A connection with this time-out for replies.
    pub(crate) fn open_for(socket: &Path, timeout: Duration) -> std::io::Result<Conn> {
        Conn::over(UnixStream::connect(socket)?, timeout)
    }

    /// A connection to a loopback port.
    pub(crate) fn open_tcp(port: u16) -> std::io::Result<Conn> {
        // Both kinds of sockets are read and written alike.
        Conn::over(OwnedFd::from(TcpStream::connect(("127.0.0.1", port))?).into(), NO_REPLY)
    }

    fn over(wire: UnixStream, timeout: Duration) -> std::io::Result<Conn> {
        wire.set_read_timeout(Some(timeout))?;
        wire.set_write_timeout(Some(timeout))?;
        Ok(Conn { wire: BufReader::new(wire), pushes: VecDeque::new() })
    }

    /// Sends a command line, quoted as in `redis-cli`.
    #[track_caller]
    pub(crate) fn call(&mut self, line: &str) -> Reply {
        let words = split(line);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.call_args(&words)
    }

    /// Sends arguments of any bytes.
    #[track_caller]
    pub(crate) fn call_args(&mut self, words: &[&[u8]]) -> Reply {
        self.try_call(words).unwrap_or_else(|e| {
            let words: Vec<String> = words.iter().map(|w| w[..w.len().min(64)].escape_ascii().to_string()).collect();
            panic!("no reply to {}: {e}", words.join(" "))
        })
    }

    pub(crate) fn try_call(&mut self, words: &[&[u8]]) -> std::io::Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Sends without waiting for the reply: for pipelines, and for commands that block.
    pub(crate) fn send(&mut self, words: &[&[u8]]) -> std::io::Result<()> {
        self.wire.get_mut().write_all(&encode(words))
    }

    /// Sends encoded commands.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.get_mut().write_all(bytes)
    }

    /// The next reply. Pushes that come before it are kept for [`Conn::pushes`].
    pub(crate) fn receive(&mut self) -> std::io::Result<Reply> {
        loop {
            match self.read()? {
                push @ Reply::Push(_) => self.pushes.push_back(push),
                reply => return Ok(reply),
            }
        }
    }

    /// The next reply within this time, which remains the connection's time-out.
    pub(crate) fn receive_within(&mut self, timeout: Duration) -> std::io::Result<Reply> {
        self.wire.get_ref().set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        self.receive()
    }

    /// The pushes received so far. A round trip makes it exact: what the server queued for this client before the
    /// `PING` arrives before the `PONG`.
    #[track_caller]
    pub(crate) fn pushes(&mut self) -> Vec<Reply> {
        self.call("PING");
        self.pushes.drain(..).collect()
    }

    /// The next message of a subscription in RESP2, where it is a plain array.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Reply {
        self.read().expect("a message")
    }

    fn read(&mut self) -> std::io::Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| broken(&line));
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "_" => Reply::Nil,
            "#" => Reply::Bool(rest == "t"),
            "," => Reply::Double(rest.parse().map_err(|_| broken(&line))?),
            "(" => Reply::Simple(rest.to_owned()),
            "$" | "*" if number()? < 0 => Reply::Nil,
            "$" => Reply::Bulk(self.body(number()?)?),
            "!" => Reply::Error(String::from_utf8_lossy(&self.body(number()?)?).into_owned()),
            "=" => Reply::Verbatim(self.body(number()?)?.split_off(4)), // "txt:" or "mkd:" before the text
            "*" => Reply::Array(self.items(number()?)?),
            "~" => Reply::Set(self.items(number()?)?),
            ">" => Reply::Push(self.items(number()?)?),
            "%" => {
                let flat = self.items(2 * number()?)?;
                Reply::Map(flat.chunks(2).map(|kv| (kv[0].clone(), kv[1].clone())).collect())
            }
            _ => return Err(broken(&line)),
        })
    }

    fn items(&mut self, count: i64) -> std::io::Result<Vec<Reply>> {
        (0..count).map(|_| self.read()).collect()
    }

    fn body(&mut self, len: i64) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize + 2];
        self.wire.read_exact(&mut bytes)?;
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        self.wire.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") || line.len() < 3 {
            return Err(std::io::Error::other("the server closed the connection"));
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn broken(line: &str) -> std::io::Error {
    std::io::Error::other(format!("not RESP: {line:?}"))
}

/// An encoded command, as on the wire and in the AOF.
pub(crate) fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Decodes commands in RESP, such as an AOF file.
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    fn number(bytes: &mut &[u8], kind: u8) -> Option<usize> {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
        *bytes = rest;
        let line = line.strip_prefix(&[kind])?;
        std::str::from_utf8(line).ok()?.parse().ok()
    }
    fn command(bytes: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
        let count = number(bytes, b'*')?;
        let mut words = Vec::with_capacity(count);
        for _ in 0..count {
            let len = number(bytes, b'$')?;
            words.push(bytes.get(..len)?.to_vec());
            *bytes = bytes.get(len + 2..)?;
        }
        Some(words)
    }
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        if bytes[0] == b'#' {
            // An annotation of the AOF (`#TS:…`).
            let end = bytes.windows(2).position(|w| w == b"\r\n").expect("a whole annotation");
            bytes = &bytes[end + 2..];
            continue;
        }
        commands.push(command(&mut bytes).expect("a whole command"));
    }
    commands
}

/// Splits a line into arguments at blanks; `"…"` quotes, with the escapes `\n \r \t \xNN`, and `'…'` is literal.
pub(crate) fn split(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.bytes().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        let mut word = Vec::new();
        while let Some(b) = rest.next_if(|b| !b.is_ascii_whitespace()) {
            match b {
                b'\'' => word.extend(rest.by_ref().take_while(|b| *b != b'\'')),
                b'"' => {
                    while let Some(b) = rest.next() {
                        match b {
                            b'"' => break,
                            b'\\' => word.push(match rest.next() {
                                Some(b'n') => b'\n',
                                Some(b'r') => b'\r',
                                Some(b't') => b'\t',
                                Some(b'x') => {
                                    let mut digit = || rest.next().and_then(|b| (b as char).to_digit(16));
                                    match (digit(), digit()) {
                                        (Some(high), Some(low)) => (high * 16 + low) as u8,
                                        _ => panic!("\\x wants two hex digits: {line}"),
                                    }
                                }
                                Some(other) => other,
                                None => panic!("the line ends with a backslash: {line}"),
                            }),
                            other => word.push(other),
                        }
                    }
                }
                other => word.push(other),
            }
        }
        words.push(word);
    }
}

#[test]
fn lines_are_split_as_redis_cli_does() {
    assert_eq!(split(r#" SET  k "a b\x00\"" '' 'x "y' "#), [&b"SET"[..], b"k", b"a b\0\"", b"", b"x \"y"]);
}

#[test]
fn replies_are_printed_as_redis_cli_does() {
    let nested = Reply::Array(vec![
        Reply::Int(1),
        Reply::Array(vec![Reply::Bulk(b"a\0".to_vec()), Reply::Nil]),
        Reply::Map(vec![(Reply::Simple("k".into()), Reply::Double(0.5))]),
    ]);
    assert_eq!(nested.to_string(), "1) (integer) 1\n2) 1) \"a\\x00\"\n   2) (nil)\n3) 1# k => (double) 0.5");
}
