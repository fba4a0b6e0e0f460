//! What the primaries of a cluster tell each other: commands that concern all of them, as messages on the cluster's bus.
//!
//! The node that a client gives such a command to runs it, then passes it on. The others run it as their own, with a
//! stamp of their own, and pass it on no further. The bus is best effort: nothing is answered, and what is sent while a
//! link is down is lost ([docs/cluster.md](../../../docs/cluster.md)).
//!
//! ```text
//!  client ── INVALIDATE ──▶ primary A ──▶ its replicas, its AOF
//!                               │ bus
//!                               ├──────▶ primary B ──▶ its replicas, its AOF
//!                               └──────▶ replicas of B: nothing, they have it from B
//! ```
//!
//! A message, all numbers little-endian:
//!
//! ```text
//!  0        4         5         13       21        25        29
//!  ┌────────┬─────────┬─────────┬────────┬─────────┬─────────┬─────────────────────────────┐
//!  │ "SmCa" │ version │ life    │ number │ database│ words   │ for each: length (4), bytes │
//!  └────────┴─────────┴─────────┴────────┴─────────┴─────────┴─────────────────────────────┘
//! ```
//!
//! *Life* is drawn when the sender starts, *number* counts its messages: so one that comes twice is run once. The server
//! tells modules apart by names of nine letters only, so what arrives may be another module's: hence the first four bytes.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;

const MAGIC: [u8; 4] = *b"SmCa";
const VERSION: u8 = 1;
const HEAD: usize = 29;
/// What comes before the bytes of a word.
const LENGTH: usize = 4;

/// The most bytes of a message. Any rule fits. The bus would take more, but a message goes over the same connection as the
/// pings by which nodes are found to be alive, and is received in one go on the other's main thread: 256 KB take it 0.2
/// milliseconds (measured; a small one takes 5 microseconds), before anything is run.
pub const MAX_BYTES: usize = 256 * 1024;
/// The most words of a message.
pub const MAX_WORDS: usize = 16_384;

/// Messages that wait because the server may not write just now: beyond so many, or so many bytes, they are lost.
const MAX_WAITING: usize = 10_000;
const MAX_WAITING_BYTES: usize = 16 << 20;

/// Nodes whose last messages are remembered. (The server recommends no more than a thousand to a cluster.)
const MAX_SENDERS: usize = 2_048;

/// The name of a node.
pub type NodeId = [u8; 40];

/// How a command is passed on: as it was said, but for this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassOn {
    /// The words that concern nobody but the caller, by their places: left out.
    pub without: Range<usize>,
    /// The words that may be told in several messages, by their places. Before them stands their count.
    pub counted: Range<usize>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The sender's life.
    pub life: u64,
    /// The message's number in it.
    pub number: u64,
    /// The database that was selected.
    pub db: i32,
    /// The command.
    pub words: Vec<&'a [u8]>,
}

/// Why bytes are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Another module's.
    Foreign,
    /// Of a version to come.
    Newer(u8),
    /// Not what we send.
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

/// A command that does not fit into a message, though split as far as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What a node knows of messages.
#[derive(Debug)]
pub struct Bus {
    life: u64,
    sent: u64,
    received: HashMap<NodeId, Received>,
    /// Counts what is heard, to tell who was heard of last.
    receptions: u64,
    queue: VecDeque<Box<[u8]>>,
    queue_bytes: usize,
}

/// The last messages of a node.
#[derive(Debug)]
struct Received {
    life: u64,
    newest: u64,
    /// Which of the 64 numbers up to the newest have come; the lowest bit is the newest.
    seen: u64,
    at: u64,
}

impl Message<'_> {
    /// As bytes.
    pub fn encode<W: AsRef<[u8]>>(life: u64, number: u64, db: i32, words: &[W]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + words.iter().map(|word| LENGTH + word.as_ref().len()).sum::<usize>());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&life.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&db.to_le_bytes());
        bytes.extend_from_slice(&(words.len() as u32).to_le_bytes());
        for word in words {
            bytes.extend_from_slice(&(word.as_ref().len() as u32).to_le_bytes());
            bytes.extend_from_slice(word.as_ref());
        }
        bytes
    }

    /// From bytes, which may be anybody's.
    pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
        let Some((&MAGIC, mut rest)) = bytes.split_first_chunk() else { return Err(DecodeError::Foreign) };
        match take::<1>(&mut rest)? {
            [VERSION] => {}
            [0] => return Err(DecodeError::Damaged("its version is 0")),
            [later] => return Err(DecodeError::Newer(later)),
        }
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::Damaged("it is too long"));
        }
        let (life, number) = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
        let (db, count) = (i32::from_le_bytes(take(&mut rest)?), u32::from_le_bytes(take(&mut rest)?) as usize);
        if db < 0 {
            return Err(DecodeError::Damaged("there is no such database"));
        }
        if count == 0 || count > MAX_WORDS || count > rest.len() / LENGTH {
            return Err(DecodeError::Damaged("so many words cannot be"));
        }
        let mut words = Vec::with_capacity(count);
        for _ in 0..count {
            let len = u32::from_le_bytes(take(&mut rest)?) as usize;
            let Some((word, after)) = rest.split_at_checked(len) else {
                return Err(DecodeError::Damaged("it is cut off"));
            };
            words.push(word);
            rest = after;
        }
        if rest.is_empty() {
            Ok(Message { life, number, db, words })
        } else {
            Err(DecodeError::Damaged("something follows its last word"))
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, after) = rest.split_first_chunk().ok_or(DecodeError::Damaged("it is cut off"))?;
    *rest = after;
    Ok(*taken)
}

impl PassOn {
    /// The commands to pass on, each of which fits into a message: `words`, of which the first are `name`.
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
        let kept = |places: Range<usize>| {
            places.filter(|at| !self.without.contains(at)).map(|at| Cow::Borrowed(words[at])).collect::<Vec<_>>()
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
    /// Of a node whose life has this number, which no other life has.
    pub fn new(life: u64) -> Self {
        Bus { life, sent: 0, received: HashMap::new(), receptions: 0, queue: VecDeque::new(), queue_bytes: 0 }
    }

    /// The next message to send.
    pub fn message<W: AsRef<[u8]>>(&mut self, db: i32, words: &[W]) -> Vec<u8> {
        self.sent += 1;
        Message::encode(self.life, self.sent, db, words)
    }

    /// Whether a message has not come before. Where that cannot be known any more it counts as new: what is run twice does
    /// less harm than what is not run.
    pub fn is_new(&mut self, sender: &NodeId, life: u64, number: u64) -> bool {
        self.receptions += 1;
        let at = self.receptions;
        match self.received.get_mut(sender) {
            Some(received) if received.life == life => {
                received.at = at;
                if let Some(ahead) = number.checked_sub(received.newest).filter(|ahead| *ahead > 0) {
                    received.seen = if ahead < 64 { received.seen << ahead } else { 0 } | 1;
                    received.newest = number;
                    return true;
                }
                let behind = received.newest - number;
                if behind >= 64 {
                    return false; // links keep the order: so late comes only what has come before
                }
                let bit = 1 << behind;
                let new = received.seen & bit == 0;
                received.seen |= bit;
                new
            }
            _ => {
                if self.received.len() >= MAX_SENDERS && !self.received.contains_key(sender) {
                    let oldest = self.received.iter().min_by_key(|(_, received)| received.at).map(|(id, _)| *id);
                    oldest.map(|id| self.received.remove(&id));
                }
                self.received.insert(*sender, Received { life, newest: number, seen: 1, at });
                true
            }
        }
    }

    /// Keeps a message until the server may write; false when there is no room for it.
    pub fn enqueue(&mut self, bytes: &[u8]) -> bool {
        if self.queue.len() >= MAX_WAITING || self.queue_bytes + bytes.len() > MAX_WAITING_BYTES {
            return false;
        }
        self.queue_bytes += bytes.len();
        self.queue.push_back(bytes.into());
        true
    }

    /// The first message that is kept.
    pub fn dequeue(&mut self) -> Option<Box<[u8]>> {
        let first = self.queue.pop_front()?;
        self.queue_bytes -= first.len();
        Some(first)
    }

    /// Whether messages are kept.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Forgets what is kept, as for a node that has become a replica; how many there were.
    pub fn drop_queued(&mut self) -> usize {
        self.queue_bytes = 0;
        let n = self.queue.len();
        self.queue = VecDeque::new();
        n
    }
}

#[cfg(test)]
mod tests;
