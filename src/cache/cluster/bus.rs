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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn told(commands: Vec<Vec<Cow<'_, [u8]>>>) -> Vec<String> {
        let line =
            |words: Vec<Cow<'_, [u8]>>| words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>().join(" ");
        commands.into_iter().map(line).collect()
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut bus = Bus::new(7);
        let bytes = bus.message(3, &[&b"SMARTCACHE.RULE"[..], b"DEL", b"\0\xff", b""]);
        assert_eq!(
            Message::decode(&bytes),
            Ok(Message { life: 7, number: 1, db: 3, words: vec![b"SMARTCACHE.RULE", b"DEL", b"\0\xff", b""] })
        );
        assert_eq!(Message::decode(&bus.message(0, &["x"])).unwrap().number, 2);
    }

    #[test]
    fn version_1_is_these_bytes() {
        let bytes = Message::encode(0x0102_0304_0506_0708, 9, 1, &["AB", ""]);
        assert_eq!(
            bytes,
            b"SmCa\x01\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x02\0\0\0AB\0\0\0\0"
        );
    }

    #[test]
    fn what_is_not_ours_or_of_a_later_version_is_told_apart_from_what_is_damaged() {
        let good = Message::encode(1, 1, 0, &["SMARTCACHE.RULE", "DEL", "r"]);
        assert_eq!(Message::decode(b""), Err(DecodeError::Foreign));
        assert_eq!(Message::decode(b"SmC"), Err(DecodeError::Foreign));
        assert_eq!(Message::decode(b"hello, other module"), Err(DecodeError::Foreign));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(Message::decode(&with(4, 2)), Err(DecodeError::Newer(2)));
        assert_eq!(Message::decode(b"SmCa\xffwhatever"), Err(DecodeError::Newer(255)), "whatever it looks like");
        for bytes in
            [with(4, 0), with(24, 0x80), with(25, 0), with(25, 4), with(28, 0x7f), with(29, 200), with(32, 0xff)]
        {
            assert!(matches!(Message::decode(&bytes), Err(DecodeError::Damaged(_))), "{bytes:?}");
        }
        for len in 4..good.len() {
            assert!(matches!(Message::decode(&good[..len]), Err(DecodeError::Damaged(_))), "{len}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(matches!(Message::decode(&longer), Err(DecodeError::Damaged(_))));
        let empty = vec![""; MAX_WORDS + 1];
        assert!(matches!(Message::decode(&Message::encode(1, 1, 0, &empty)), Err(DecodeError::Damaged(_))));
        assert!(Message::decode(&Message::encode(1, 1, 0, &empty[1..])).is_ok());
        let fits = vec![0; MAX_BYTES - HEAD - LENGTH];
        assert!(Message::decode(&Message::encode(1, 1, 0, &[&fits[..]])).is_ok());
        assert!(Message::decode(&Message::encode(1, 1, 0, &[&fits[..], b""])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, ours: bool) {
            if ours {
                bytes.splice(0..0, *b"SmCa\x01");
            }
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(Message::encode(message.life, message.number, message.db, &message.words), bytes);
            }
        }

        #[test]
        fn parts_hold_every_word_once_and_each_fits(
            lens in proptest::collection::vec(0..40_usize, 1..60), bytes in 110..300_usize, most in 8..20_usize,
        ) {
            let listed: Vec<_> = lens.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
            let count = listed.len().to_string();
            let mut words = vec![&b"C"[..], b"SOFT", b"TAGS", count.as_bytes()];
            words.extend(listed.iter().map(Vec::as_slice));
            words.extend([&b"WAIT"[..], b"5", b"GUARD", b"1"]);
            let pass = PassOn { without: words.len() - 4..words.len() - 2, counted: 4..words.len() - 4 };
            let mut found = Vec::new();
            for command in pass.commands_within("C", &words, bytes, most).unwrap() {
                let n = command.len();
                prop_assert!(n <= most && command.iter().map(|word| LENGTH + word.len()).sum::<usize>() <= bytes);
                prop_assert_eq!(&command[..3], &[&b"C"[..], b"SOFT", b"TAGS"]);
                prop_assert_eq!(String::from_utf8_lossy(&command[3]), (n - 6).to_string());
                prop_assert_eq!(&command[n - 2..], &[&b"GUARD"[..], b"1"]);
                found.extend(command[4..n - 2].iter().map(|word| word.to_vec()));
            }
            prop_assert_eq!(found, listed);
        }

        #[test]
        fn each_number_is_new_once(numbers in proptest::collection::vec(100..160_u64, 0..200)) {
            let (mut bus, mut came) = (Bus::new(1), std::collections::HashSet::new());
            for number in numbers {
                prop_assert_eq!(bus.is_new(&[b'a'; 40], 5, number), came.insert(number), "{}", number);
            }
        }
    }

    #[test]
    fn a_command_is_passed_on_under_its_own_name_as_it_was_said() {
        let said = words("smartcache.rule set r MATCH * TTL 5");
        let commands = PassOn::default().commands("SMARTCACHE.RULE SET", &said).unwrap();
        assert_eq!(told(commands), ["SMARTCACHE.RULE SET r MATCH * TTL 5"]);
    }

    #[test]
    fn what_concerns_the_caller_alone_is_left_out() {
        let said = words("I WAIT 5 TAGS 2 a b SOFT");
        let commands = |without: Range<usize>| {
            told(PassOn { without, counted: 5..7 }.commands("SMARTCACHE.INVALIDATE", &said).unwrap())
        };
        assert_eq!(commands(1..3), ["SMARTCACHE.INVALIDATE TAGS 2 a b SOFT"]);
        assert_eq!(commands(7..8), ["SMARTCACHE.INVALIDATE WAIT 5 TAGS 2 a b"]);
        let all = words("I ALL WAIT 5");
        let commands = PassOn { without: 2..4, counted: 0..0 }.commands("SMARTCACHE.INVALIDATE", &all);
        assert_eq!(told(commands.unwrap()), ["SMARTCACHE.INVALIDATE ALL"]);
    }

    #[test]
    fn a_long_list_goes_in_several_messages() {
        let said = words("I TAGS 5 a bb ccc dddd e SOFT");
        let pass = PassOn { without: 0..0, counted: 3..8 };
        let parts = |bytes, most| pass.commands_within("I", &said, bytes, most).map(told);
        assert_eq!(parts(1_000, 100).unwrap(), ["I TAGS 5 a bb ccc dddd e SOFT"]);
        assert_eq!(parts(1_000, 6).unwrap(), ["I TAGS 2 a bb SOFT", "I TAGS 2 ccc dddd SOFT", "I TAGS 1 e SOFT"]);
        let around = 5 + 8 + 8 + LENGTH + 1;
        assert_eq!(parts(around + 5 + 6, 9).unwrap()[..2], ["I TAGS 2 a bb SOFT", "I TAGS 1 ccc SOFT"]);
        assert_eq!(parts(around + 7, 9), Err(TooLong), "dddd alone is too long");
        assert_eq!((parts(10, 9), parts(1_000, 3)), (Err(TooLong), Err(TooLong)));
    }

    #[test]
    fn the_most_tags_that_a_command_names_go_in_a_few_messages() {
        let tags: Vec<_> = (0..10_000).map(|n| format!("{n:0>255}")).collect();
        let mut said = words("SMARTCACHE.INVALIDATE TAGS 10000");
        said.extend(tags.iter().map(String::as_bytes));
        let pass = PassOn { without: 0..0, counted: 3..said.len() };
        let commands = pass.commands("SMARTCACHE.INVALIDATE", &said).unwrap();
        assert_eq!(commands.len(), 10);
        for command in &commands {
            assert!(Message::decode(&Message::encode(1, 1, 0, command)).is_ok());
        }
    }

    #[test]
    fn what_comes_twice_is_new_once_and_a_new_life_starts_afresh() {
        let (a, b) = ([b'a'; 40], [b'b'; 40]);
        let mut bus = Bus::new(1);
        assert!(bus.is_new(&a, 5, 1) && !bus.is_new(&a, 5, 1));
        assert!(bus.is_new(&b, 5, 1), "another sender");
        assert!(bus.is_new(&a, 5, 3) && bus.is_new(&a, 5, 2) && !bus.is_new(&a, 5, 2), "one that overtook");
        assert!(bus.is_new(&a, 5, 1_000) && !bus.is_new(&a, 5, 3), "too late to be new");
        assert!(bus.is_new(&a, 5, 937) && !bus.is_new(&a, 5, 936));
        assert!(bus.is_new(&a, 6, 1) && !bus.is_new(&a, 6, 1), "it has started again");
        assert!(bus.is_new(&a, 6, u64::MAX) && !bus.is_new(&a, 6, 0) && !bus.is_new(&a, 6, u64::MAX));
    }

    #[test]
    fn no_more_senders_are_remembered_than_clusters_have_nodes() {
        let sender = |n: usize| <NodeId>::try_from(format!("{n:0>40}").as_bytes()).unwrap();
        let mut bus = Bus::new(1);
        for n in 0..MAX_SENDERS {
            assert!(bus.is_new(&sender(n), 1, 1));
        }
        assert!(!bus.is_new(&sender(0), 1, 1), "heard of again");
        assert!(bus.is_new(&sender(MAX_SENDERS), 1, 1));
        assert_eq!(bus.received.len(), MAX_SENDERS);
        assert!(
            !bus.is_new(&sender(0), 1, 1) && bus.is_new(&sender(1), 1, 1),
            "the one that was silent longest is forgotten"
        );
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut bus = Bus::new(1);
        assert!(bus.enqueue(b"first") && bus.enqueue(b"second"));
        assert_eq!(
            (bus.dequeue().as_deref(), bus.dequeue().as_deref(), bus.dequeue()),
            (Some(&b"first"[..]), Some(&b"second"[..]), None)
        );
        let big = vec![0; MAX_BYTES];
        let kept = (0..100).filter(|_| bus.enqueue(&big)).count();
        assert_eq!(kept, MAX_WAITING_BYTES / MAX_BYTES);
        assert_eq!((bus.drop_queued(), bus.has_queued(), bus.queue_bytes), (kept, false, 0));
        assert_eq!((0..=MAX_WAITING).filter(|_| bus.enqueue(b"x")).count(), MAX_WAITING);
    }
}
