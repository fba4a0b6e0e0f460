//! Messages on the cluster's bus: commands that concern every primary, passed on by the node that ran them.
//!
//! The other primaries run such a command as their own, with a stamp of their own, and do not pass it on. The bus is
//! best effort: nothing is acknowledged, and what is sent while a link is down is lost
//! ([docs/cluster.md](../../../docs/cluster.md)).
//!
//! ```text
//!  client ── INVALIDATE ──▶ primary A ──▶ its replicas, its AOF
//!                               │ bus
//!                               ├──────▶ primary B ──▶ its replicas, its AOF
//!                               └──────▶ replicas of B: they ignore it and get it from B
//! ```
//!
//! A message, all numbers little-endian:
//!
//! ```text
//!  0        4         5             13       21         25        29
//!  ┌────────┬─────────┬─────────────┬────────┬──────────┬─────────┬─────────────────────────────┐
//!  │ "SmCa" │ version │ incarnation │ number │ database │ words   │ for each: length (4), bytes │
//!  └────────┴─────────┴─────────────┴────────┴──────────┴─────────┴─────────────────────────────┘
//! ```
//!
//! The *incarnation* is drawn when the sender starts, *number* counts its messages. With them the receiver runs each
//! message once: a window of the last 64 numbers of each sender detects duplicates, as IPsec detects replays (RFC 4303,
//! 3.4.3). The server distinguishes modules only by names of nine letters, so a message may be another module's: hence
//! the first four bytes.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;

const MAGIC: [u8; 4] = *b"SmCa";
const VERSION: u8 = 1;
const HEAD: usize = 29;
/// The bytes of a word's length, before the word.
const LENGTH: usize = 4;

/// The most bytes of a message. Any rule fits. The bus accepts more, but a message shares its connection with the pings
/// by which nodes detect failures, and the receiver reads it in one go on its main thread: 256 KB take 0.2 milliseconds
/// (measured; a small message takes 5 microseconds), before anything is run.
pub const MAX_BYTES: usize = 256 * 1024;
/// The most words of a message.
pub const MAX_WORDS: usize = 16_384;

/// The most messages, and their bytes, that are queued while the server may not write. More are lost.
const MAX_QUEUED: usize = 10_000;
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// The most nodes whose last messages are remembered. (The server recommends at most a thousand in a cluster.)
const MAX_SENDERS: usize = 2_048;

/// The name of a node.
pub type NodeId = [u8; 40];

/// How a command is passed on: the words that the client sent, with two exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassOn {
    /// The positions of words that concern only the caller: they are left out.
    pub without: Range<usize>,
    /// The positions of names that may be split over several messages. The word before them is their count.
    pub counted: Range<usize>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The sender's incarnation.
    pub incarnation: u64,
    /// The message's number, counted from the start of the incarnation.
    pub number: u64,
    /// The database that was selected.
    pub db: i32,
    /// The command.
    pub words: Vec<&'a [u8]>,
}

/// Why bytes cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The message is another module's.
    Foreign,
    /// Its version is newer than this node's.
    Newer(u8),
    /// It is not well-formed.
    Damaged(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Foreign => f.write_str("not a message of SmartCache"),
            DecodeError::Newer(version) => write!(f, "its version is {version}, and this node reads {VERSION}"),
            DecodeError::Damaged(why) => f.write_str(why),
        }
    }
}

/// A command does not fit into messages, even when it is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The messages that a node has sent, received and queued.
#[derive(Debug)]
pub struct Bus {
    incarnation: u64,
    sent: u64,
    senders: HashMap<NodeId, ReplayWindow>,
    /// Counts messages received, to find the sender that was silent longest.
    receptions: u64,
    queue: VecDeque<Box<[u8]>>,
    queue_bytes: usize,
}

/// Which of a node's last messages were received.
#[derive(Debug)]
struct ReplayWindow {
    incarnation: u64,
    newest: u64,
    /// The 64 numbers up to the newest: a bit is set when the message was received. The lowest bit is the newest.
    seen: u64,
    received_at: u64,
}

impl Message<'_> {
    /// Encodes a message.
    pub fn encode<W: AsRef<[u8]>>(incarnation: u64, number: u64, db: i32, words: &[W]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + words.iter().map(|word| LENGTH + word.as_ref().len()).sum::<usize>());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&incarnation.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&db.to_le_bytes());
        bytes.extend_from_slice(&(words.len() as u32).to_le_bytes());
        for word in words {
            bytes.extend_from_slice(&(word.as_ref().len() as u32).to_le_bytes());
            bytes.extend_from_slice(word.as_ref());
        }
        bytes
    }

    /// Decodes a message. The bytes may be another module's.
    pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
        let Some((&MAGIC, mut rest)) = bytes.split_first_chunk() else { return Err(DecodeError::Foreign) };
        match read::<1>(&mut rest)? {
            [VERSION] => {}
            [0] => return Err(DecodeError::Damaged("its version is 0")),
            [later] => return Err(DecodeError::Newer(later)),
        }
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::Damaged("it is too long"));
        }
        let (incarnation, number) = (u64::from_le_bytes(read(&mut rest)?), u64::from_le_bytes(read(&mut rest)?));
        let (db, count) = (i32::from_le_bytes(read(&mut rest)?), u32::from_le_bytes(read(&mut rest)?) as usize);
        if db < 0 {
            return Err(DecodeError::Damaged("there is no such database"));
        }
        if count == 0 || count > MAX_WORDS || count > rest.len() / LENGTH {
            return Err(DecodeError::Damaged("so many words cannot be"));
        }
        let mut words = Vec::with_capacity(count);
        for _ in 0..count {
            let len = u32::from_le_bytes(read(&mut rest)?) as usize;
            let Some((word, after)) = rest.split_at_checked(len) else {
                return Err(DecodeError::Damaged("it is cut off"));
            };
            words.push(word);
            rest = after;
        }
        if rest.is_empty() {
            Ok(Message { incarnation, number, db, words })
        } else {
            Err(DecodeError::Damaged("something follows its last word"))
        }
    }
}

fn read<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, after) = rest.split_first_chunk().ok_or(DecodeError::Damaged("it is cut off"))?;
    *rest = after;
    Ok(*taken)
}

impl PassOn {
    /// The commands to pass on, each of which fits into a message. `words` are the client's, of which the first are
    /// `name`.
    pub fn commands<'w>(&self, name: &'static str, words: &[&'w [u8]]) -> Result<Vec<Vec<Cow<'w, [u8]>>>, TooLong> {
        self.commands_within(name, words, MAX_BYTES - HEAD, MAX_WORDS)
    }

    fn commands_within<'w>(
        &self,
        name: &'static str,
        words: &[&'w [u8]],
        bytes: usize,
        most: usize,
    ) -> Result<Vec<Vec<Cow<'w, [u8]>>>, TooLong> {
        let name = name.split(' ').map(|word| Cow::Borrowed(word.as_bytes()));
        let named = name.clone().count();
        let kept = |positions: Range<usize>| {
            positions.filter(|at| !self.without.contains(at)).map(|at| Cow::Borrowed(words[at])).collect::<Vec<_>>()
        };
        let size = |words: &[Cow<'_, [u8]>]| words.iter().map(|word| LENGTH + word.len()).sum::<usize>();

        if self.counted.is_empty() {
            let command: Vec<_> = name.chain(kept(named..words.len())).collect();
            let fits = size(&command) <= bytes && command.len() <= most;
            return if fits { Ok(vec![command]) } else { Err(TooLong) };
        }
        let head: Vec<_> = name.chain(kept(named..self.counted.start - 1)).collect();
        let tail = kept(self.counted.end..words.len());
        let digits = LENGTH + most.to_string().len(); // of the count
        let bytes = bytes.checked_sub(size(&head) + size(&tail) + digits).ok_or(TooLong)?;
        let most = most.checked_sub(head.len() + tail.len() + 1).ok_or(TooLong)?;

        let (mut commands, mut at) = (Vec::new(), self.counted.start);
        while at < self.counted.end {
            let (first, mut left) = (at, bytes);
            while at < self.counted.end
                && at - first < most
                && let Some(rest) = left.checked_sub(LENGTH + words[at].len())
            {
                (left, at) = (rest, at + 1);
            }
            if at == first {
                return Err(TooLong);
            }
            let count = Cow::Owned((at - first).to_string().into_bytes());
            let part = words[first..at].iter().map(|word| Cow::Borrowed(*word));
            commands.push(head.iter().cloned().chain([count]).chain(part).chain(tail.iter().cloned()).collect());
        }
        Ok(commands)
    }
}

impl Bus {
    /// The bus of a node that starts. The number of its incarnation must be unique.
    pub fn new(incarnation: u64) -> Self {
        Bus { incarnation, sent: 0, senders: HashMap::new(), receptions: 0, queue: VecDeque::new(), queue_bytes: 0 }
    }

    /// Encodes the next message to send.
    pub fn message<W: AsRef<[u8]>>(&mut self, db: i32, words: &[W]) -> Vec<u8> {
        self.sent += 1;
        Message::encode(self.incarnation, self.sent, db, words)
    }

    /// Whether a message is not a duplicate. A sender that is not remembered counts as new: to run a command twice does
    /// less harm than not to run it.
    pub fn is_new(&mut self, sender: &NodeId, incarnation: u64, number: u64) -> bool {
        self.receptions += 1;
        let received_at = self.receptions;
        match self.senders.get_mut(sender) {
            Some(window) if window.incarnation == incarnation => {
                window.received_at = received_at;
                if let Some(ahead) = number.checked_sub(window.newest).filter(|ahead| *ahead > 0) {
                    window.seen = if ahead < 64 { window.seen << ahead } else { 0 } | 1;
                    window.newest = number;
                    return true;
                }
                let behind = window.newest - number;
                if behind >= 64 {
                    return false; // links preserve order, so what is this late is a duplicate
                }
                let bit = 1 << behind;
                let is_new = window.seen & bit == 0;
                window.seen |= bit;
                is_new
            }
            _ => {
                if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(sender) {
                    let oldest = self.senders.iter().min_by_key(|(_, window)| window.received_at).map(|(id, _)| *id);
                    oldest.map(|id| self.senders.remove(&id));
                }
                self.senders.insert(*sender, ReplayWindow { incarnation, newest: number, seen: 1, received_at });
                true
            }
        }
    }

    /// Queues a message until the server may write; false when the queue is full.
    pub fn enqueue(&mut self, bytes: &[u8]) -> bool {
        if self.queue.len() >= MAX_QUEUED || self.queue_bytes + bytes.len() > MAX_QUEUED_BYTES {
            return false;
        }
        self.queue_bytes += bytes.len();
        self.queue.push_back(bytes.into());
        true
    }

    /// Takes the first queued message.
    pub fn dequeue(&mut self) -> Option<Box<[u8]>> {
        let first = self.queue.pop_front()?;
        self.queue_bytes -= first.len();
        Some(first)
    }

    /// Whether messages are queued.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Drops the queued messages, as on a node that has become a replica, and returns how many there were.
    pub fn drop_queued(&mut self) -> usize {
        self.queue_bytes = 0;
        let n = self.queue.len();
        self.queue = VecDeque::new();
        n
    }
}

#[cfg(test)]
mod tests;
