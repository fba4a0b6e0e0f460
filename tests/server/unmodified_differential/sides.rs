//! Two servers that are told the same, and what they say.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::calls::{Call, KEYS};
use crate::support::Server;
use crate::support::resp::encode;

/// A reply as it came over the wire: every byte of it, by lines.
#[derive(Clone, PartialEq)]
pub(super) struct Frame {
    head: Vec<u8>,
    body: Vec<u8>,
    pub(super) items: Vec<Frame>,
}

impl Frame {
    pub(super) fn is_error(&self) -> bool {
        self.head.starts_with(b"-")
    }

    pub(super) fn number(&self) -> Option<i64> {
        std::str::from_utf8(self.head.strip_prefix(b":")?).ok()?.parse().ok()
    }

    pub(super) fn bulk(&self) -> Option<&[u8]> {
        self.head.starts_with(b"$").then_some(&self.body)
    }

    /// Sorts what has no order: all arrays, but for the replies in that of `EXEC` themselves.
    pub(super) fn sorted(mut self, exec: bool) -> Frame {
        self.items = self.items.into_iter().map(|item| item.sorted(false)).collect();
        if !exec {
            self.items.sort_by_key(Frame::to_string);
        }
        self
    }

    /// Equal, but for moments: both servers answer, one after the other.
    pub(super) fn resembles(&self, other: &Frame) -> bool {
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return a == b || (a > 0 && b > 0 && a.abs_diff(b) <= if a > 900_000 { 3_000 } else { 3 });
        }
        self.head == other.head
            && self.body == other.body
            && self.items.len() == other.items.len()
            && self.items.iter().zip(&other.items).all(|(a, b)| a.resembles(b))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.head.escape_ascii())?;
        if self.head.starts_with(b"$") || self.head.starts_with(b"=") {
            let shown = &self.body[..self.body.len().min(80)];
            write!(f, " \"{}\"", shown.escape_ascii())?;
        }
        if !self.items.is_empty() {
            let items: Vec<String> = self.items.iter().map(Frame::to_string).collect();
            write!(f, " [{}]", items.join(", "))?;
        }
        Ok(())
    }
}

/// A connection that keeps every byte.
struct Wire {
    stream: BufReader<UnixStream>,
    pushes: Vec<Frame>,
}

impl Wire {
    fn open(server: &Server) -> Wire {
        let stream = UnixStream::connect(server.path("s")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out can be set");
        Wire { stream: BufReader::new(stream), pushes: Vec::new() }
    }

    /// One write, so that no other connection's commands come between.
    fn call_all(&mut self, calls: &[Call]) -> Vec<Frame> {
        let bytes: Vec<u8> = calls.iter().flat_map(|call| encode(&words(call))).collect();
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
        calls.iter().map(|_| self.reply()).collect()
    }

    fn call(&mut self, line: &str) -> Frame {
        self.call_all(&[line.split(' ').map(|word| word.as_bytes().to_vec()).collect()]).remove(0)
    }

    /// In RESP3, where the answer is a push.
    fn subscribe(&mut self, pattern: &str) {
        let bytes = encode(&[b"PSUBSCRIBE", pattern.as_bytes()]);
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
        self.call("PING");
        self.pushes.clear();
    }

    fn reply(&mut self) -> Frame {
        loop {
            let frame = self.frame();
            if !frame.head.starts_with(b">") {
                return frame;
            }
            self.pushes.push(frame);
        }
    }

    fn frame(&mut self) -> Frame {
        let mut head = Vec::new();
        self.stream.read_until(b'\n', &mut head).expect("the server answers");
        assert!(head.ends_with(b"\r\n"), "the server closed the connection");
        head.truncate(head.len() - 2);
        let count: i64 = std::str::from_utf8(&head[1..]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (mut body, mut items) = (Vec::new(), Vec::new());
        match head[0] {
            b'$' | b'=' | b'!' if count >= 0 => {
                body = vec![0; count as usize + 2];
                self.stream.read_exact(&mut body).expect("the server answers");
                body.truncate(count as usize);
            }
            b'*' | b'~' | b'>' => items = (0..count).map(|_| self.frame()).collect(),
            b'%' => items = (0..2 * count).map(|_| self.frame()).collect(),
            _ => {}
        }
        Frame { head, body, items }
    }
}

fn words(call: &Call) -> Vec<&[u8]> {
    call.iter().map(Vec::as_slice).collect()
}

fn call(line: &[&[u8]]) -> Call {
    line.iter().map(|word| word.to_vec()).collect()
}

/// What a history is made of.
#[derive(Clone)]
pub(super) enum Step {
    Call(Call),
    /// A call by the other connection.
    Elsewhere(Call),
    /// `EVAL` or another way into a script that makes the call.
    Script {
        enter: &'static str,
        declares: bool,
        call: Call,
    },
    Transaction {
        calls: Vec<Call>,
        discards: bool,
    },
    /// `WATCH`, then another connection's call, then a transaction.
    Watch {
        key: Vec<u8>,
        elsewhere: Call,
        calls: Vec<Call>,
    },
    /// `DUMP`, and `RESTORE` of each server's own bytes.
    Restore {
        from: Vec<u8>,
        to: Vec<u8>,
        ttl: Vec<u8>,
    },
}

impl Step {
    pub(super) fn calls(&self) -> Vec<&Call> {
        match self {
            Step::Call(call) | Step::Elsewhere(call) | Step::Script { call, .. } => vec![call],
            Step::Transaction { calls, .. } => calls.iter().collect(),
            Step::Watch { elsewhere, calls, .. } => std::iter::once(elsewhere).chain(calls).collect(),
            Step::Restore { .. } => Vec::new(),
        }
    }
}

impl Step {
    pub(super) fn transaction(&mut self) -> Option<&mut Vec<Call>> {
        match self {
            Step::Transaction { calls, .. } | Step::Watch { calls, .. } => Some(calls),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |call: &Call| {
            let word = |word: &Vec<u8>| match word.len() {
                0 => "\"\"".to_owned(),
                1..=80 if word.iter().all(u8::is_ascii_graphic) => String::from_utf8_lossy(word).into_owned(),
                1..=80 => format!("\"{}\"", word.escape_ascii()),
                len => format!("\"{}…\" ({len} bytes)", word[..24].escape_ascii()),
            };
            call.iter().map(word).collect::<Vec<_>>().join(" ")
        };
        match self {
            Step::Call(call) => write!(f, "{}", line(call)),
            Step::Elsewhere(call) => write!(f, "elsewhere: {}", line(call)),
            Step::Script { enter, declares, call } => {
                let keys = if *declares { "KEYS declared" } else { "no keys declared" };
                write!(f, "{enter} ({keys}): {}", line(call))
            }
            Step::Transaction { calls, discards } => {
                let end = if *discards { "DISCARD" } else { "EXEC" };
                write!(f, "MULTI; {}; {end}", calls.iter().map(line).collect::<Vec<_>>().join("; "))
            }
            Step::Watch { key, elsewhere, calls } => {
                let calls = calls.iter().map(line).collect::<Vec<_>>().join("; ");
                write!(f, "WATCH {}; elsewhere: {}; MULTI; {calls}; EXEC", key.escape_ascii(), line(elsewhere))
            }
            Step::Restore { from, to, ttl } => {
                let (from, to, ttl) = (from.escape_ascii(), to.escape_ascii(), ttl.escape_ascii());
                write!(f, "DUMP {from}; RESTORE {to} {ttl} … REPLACE")
            }
        }
    }
}

/// One server, and what is connected to it.
pub(super) struct Side {
    pub(super) server: Server,
    wire: Wire,
    other: Wire,
    looks: Wire,
    events: Wire,
}

impl Side {
    pub(super) fn new(server: Server) -> Side {
        let [mut wire, other, looks, mut events] = [(); 4].map(|()| Wire::open(&server));
        let library = "#!lua name=run\n\
            redis.register_function('run', function(keys, args) return redis.call(unpack(args)) end)\n\
            redis.register_function{function_name='look', flags={'no-writes'}, \
                callback=function(keys, args) return redis.call(unpack(args)) end}";
        let loaded = wire.call_all(&[call(&[b"FUNCTION", b"LOAD", library.as_bytes()])]);
        assert!(!loaded[0].is_error(), "{}", loaded[0]);
        events.call("HELLO 3");
        events.subscribe("__keyevent@0__:*");
        Side { server, wire, other, looks, events }
    }

    /// An empty server, and connections that speak this protocol; in RESP3 what is read is tracked.
    pub(super) fn begin(&mut self, resp3: bool) {
        self.wire = Wire::open(&self.server);
        self.other = Wire::open(&self.server);
        self.looks = Wire::open(&self.server);
        self.wire.call("FLUSHALL");
        if resp3 {
            self.wire.call("HELLO 3");
            self.wire.call("CLIENT TRACKING ON");
        }
        self.notices();
        self.wire.pushes.clear();
    }

    pub(super) fn run(&mut self, step: &Step) -> Vec<Frame> {
        match step {
            Step::Call(call) => self.wire.call_all(std::slice::from_ref(call)),
            Step::Elsewhere(call) => self.other.call_all(std::slice::from_ref(call)),
            Step::Script { enter, declares, call: inner } => {
                let keys: Vec<&[u8]> = inner.iter().map(Vec::as_slice).filter(|word| is_key(word)).collect();
                let keys = if *declares { keys } else { Vec::new() };
                let count = keys.len().to_string();
                let body: &[u8] = match *enter {
                    "EVAL pcall" => b"return redis.pcall(unpack(ARGV))",
                    "EVAL resp3" => b"redis.setresp(3); return redis.call(unpack(ARGV))",
                    "FCALL" => b"run",
                    "FCALL_RO" => b"look",
                    _ => b"return redis.call(unpack(ARGV))",
                };
                let name = enter.split(' ').next().expect("a word").as_bytes();
                let mut words = call(&[name, body, count.as_bytes()]);
                words.extend(keys.iter().map(|key| key.to_vec()));
                words.extend(inner.iter().cloned());
                self.wire.call_all(&[words])
            }
            Step::Transaction { calls, discards } => {
                let mut all = vec![call(&[b"MULTI"])];
                all.extend(calls.iter().cloned());
                all.push(call(&[if *discards { b"DISCARD" } else { b"EXEC" }]));
                self.wire.call_all(&all)
            }
            Step::Watch { key, elsewhere, calls } => {
                let mut frames = self.wire.call_all(&[call(&[b"WATCH", key])]);
                frames.extend(self.other.call_all(std::slice::from_ref(elsewhere)));
                frames.extend(self.run(&Step::Transaction { calls: calls.clone(), discards: false }));
                frames
            }
            Step::Restore { from, to, ttl } => {
                let dumped = self.wire.call_all(&[call(&[b"DUMP", from])]).remove(0);
                match dumped.bulk() {
                    Some(bytes) if !dumped.head.starts_with(b"$-1") => {
                        let bytes = bytes.to_vec();
                        self.wire.call_all(&[call(&[b"RESTORE", to, ttl, &bytes, b"REPLACE"])])
                    }
                    _ => vec![dumped],
                }
            }
        }
    }

    /// What a connection of its own sees of every key: its type, its value, when it ends; and how many there are.
    pub(super) fn look(&mut self) -> Vec<(String, Frame)> {
        let mut calls = Vec::new();
        for key in KEYS {
            for name in ["TYPE", "GET", "STRLEN", "PTTL"] {
                calls.push(call(&[name.as_bytes(), key.as_bytes()]));
            }
        }
        calls.push(call(&[b"DBSIZE"]));
        let frames = self.looks.call_all(&calls);
        calls.iter().map(|call| Step::Call(call.clone()).to_string()).zip(frames).collect()
    }

    /// Milliseconds until each of the keys ends that end.
    pub(super) fn ends(&mut self) -> Vec<(Vec<u8>, i64)> {
        let calls: Vec<Call> = KEYS.iter().map(|key| call(&[b"PTTL", key.as_bytes()])).collect();
        let ends = self.looks.call_all(&calls).into_iter().map(|frame| frame.number().unwrap_or(-1));
        KEYS.iter().map(|key| key.as_bytes().to_vec()).zip(ends).filter(|(_, left)| *left >= 0).collect()
    }

    /// The key events and invalidations since the last call, without what depends on when an expired key is found.
    pub(super) fn notices(&mut self) -> (Vec<String>, Vec<String>) {
        self.events.call("PING");
        let text = |frame: &Frame| String::from_utf8_lossy(&frame.body).into_owned();
        let events = self.events.pushes.drain(..).filter(|push| push.items.len() == 4);
        let events = events.map(|push| {
            let event = text(&push.items[2]).replace("__keyevent@0__:", "");
            format!("{event} {}", text(&push.items[3]).escape_debug())
        });
        let events = events.filter(|event| !event.starts_with("expired ") && !event.starts_with("smartcache."));
        let events = events.collect();
        self.wire.call("PING");
        let mut invalidated: Vec<String> = self.wire.pushes.drain(..).map(|push| push.to_string()).collect();
        invalidated.sort();
        (events, invalidated)
    }
}

pub(super) fn is_key(word: &[u8]) -> bool {
    KEYS.iter().any(|key| key.as_bytes() == word)
}
