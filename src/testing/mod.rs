//! A node to try commands on without a server: an in-memory keyspace, answers as text, a clock that the test sets.
//!
//! ```
//! use smartcache::testing::TestNode;
//!
//! let mut node = TestNode::at(1_000);
//! assert_eq!(node.call("SMARTCACHE.SET k v TTL 5"), "OK");
//! node.advance(4_999);
//! assert_eq!(node.call("SMARTCACHE.GET k"), "\"v\"");
//! node.advance(1);
//! assert_eq!(node.call("SMARTCACHE.GET k"), "(nil)");
//! ```

mod files;
mod keyspace;
mod native;
mod server;
mod server_commands;
mod time;
mod transcript;
mod values;

pub use files::{Dump, Loaded, Saved};
pub use server::ScriptedServer;
pub use transcript::{field_of, masked, token_of};

use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use crate::cache::clock::Now;
use crate::cache::codec::offload::Job;
use crate::cache::effects::{Effect, Effects};
use crate::cache::entry::format::{self, Expiry};
use crate::cache::error::Error;
use crate::cache::invalidation::marks::Invalidations;
use crate::cache::invalidation::sweep::SweepWaiterId;
use crate::cache::lease::table::WaiterId;
use crate::cache::lease::tombstones::Tombstones;
use crate::cache::node::context::Node;
use crate::cache::outbox::{Message, Outbox};
use crate::cache::ports::ServerInfo;
use crate::cache::stats::live::Live;
use crate::cache::stats::miss_reasons::MissReasons;
use crate::cache::{Caller, Cx, Key, Keyspace, Slot, State};
use crate::commands::args::Args;
use crate::commands::spec::Flag;
use crate::commands::{self};
use crate::testing::keyspace::{Keys, Memory};
use crate::testing::transcript::Transcript;

const STORE: &str = "SMARTCACHE.STORE";
const MARK: &str = "SMARTCACHE.MARK";

/// A node without a server: state, keyspace and clock.
pub struct TestNode {
    /// What the node knows.
    pub state: State,
    /// The effects of the last command, one line each.
    pub effects: Vec<String>,
    /// The words of what the last command replicated, and of the keys that had expired before it.
    pub replicated: Vec<Vec<Vec<u8>>>,
    /// The commands that the last command passed on to the other primaries of a cluster, one line each.
    pub passed_on: Vec<String>,
    /// Jobs that wait for the worker.
    pub jobs: Vec<Job>,
    /// Deferred replies to parked callers: the connection, and its reply.
    pub answers: Vec<(u64, String)>,
    /// The server's answers.
    pub server: ScriptedServer,
    /// The connection, and whether it is an unmodified client.
    parked: BTreeMap<WaiterId, (u64, bool)>,
    sweep_waiters: BTreeMap<SweepWaiterId, u64>,
    /// The positions of walks over all keys, by their numbers.
    cursors: BTreeMap<u64, Vec<u8>>,
    memory: Memory,
    now: Now,
    replica: bool,
}

impl TestNode {
    /// A node whose clock shows so many milliseconds of Unix time.
    pub fn at(ms: u64) -> Self {
        // Small tables: a test makes thousands of nodes.
        Self::with_tombstones(ms, Tombstones::with_slots([1; 16], 1 << 12))
    }

    /// The same, where all keys share one slot of the tombstones.
    pub fn colliding_at(ms: u64) -> Self {
        Self::with_tombstones(ms, Tombstones::with_slots([1; 16], 1))
    }

    fn with_tombstones(ms: u64, tombstones: Tombstones) -> Self {
        let now = Now::from_us(ms * 1_000);
        let live = Arc::new(Live::default());
        let tombstones = Arc::new(tombstones);
        let miss_reasons = Arc::new(MissReasons::new([1; 16]));
        let invalidations = Rc::new(Invalidations::new([1; 16]));
        let mut state =
            State::new(now, [1; 16], live.clone(), tombstones.clone(), miss_reasons.clone(), invalidations.clone());
        state.commands = server_commands::table();
        TestNode {
            state,
            answers: Vec::new(),
            server: ScriptedServer {
                client: 1,
                user: "ada",
                may_wait: true,
                out_of_memory: false,
                may_not_write: "",
                may_not_read: "",
                tells_prefixes: true,
                server_info: ServerInfo::default(),
                replica: false,
            },
            parked: BTreeMap::new(),
            sweep_waiters: BTreeMap::new(),
            cursors: BTreeMap::new(),
            effects: Vec::new(),
            replicated: Vec::new(),
            passed_on: Vec::new(),
            jobs: Vec::new(),
            memory: Memory {
                db: 0,
                keys: Keys::new(),
                others: BTreeMap::new(),
                now,
                live,
                tombstones,
                miss_reasons,
                invalidations,
                obeying: false,
                expired: Vec::new(),
            },
            now,
            replica: false,
        }
    }

    /// A replica: its keys expire when the primary deletes them.
    pub fn replica_at(ms: u64) -> Self {
        let mut node = Self::at(ms);
        (node.replica, node.memory.obeying, node.server.replica) = (true, true, true);
        node
    }

    /// The database as the host's callbacks see it.
    pub fn as_node(&mut self) -> Node<'_> {
        Node { state: &mut self.state, db: self.memory.db, keys: &mut self.memory, now: self.now }
    }

    /// Selects a database, as `SELECT` does.
    pub fn select(&mut self, db: i32) {
        self.memory.select(db);
    }

    /// Runs a command of another connection.
    pub fn call_as(&mut self, client: u64, line: &str) -> String {
        let before = std::mem::replace(&mut self.server.client, client);
        let answer = self.call(line);
        self.server.client = before;
        answer
    }

    /// The token in the answer of a `GETLOCK`.
    pub fn token(&mut self, line: &str) -> String {
        let answer = self.call(line);
        let token = token_of(&answer);
        token.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Runs a `GETLOCK`, of which the line is the rest, and shows its reply with [`T`](masked) for a token.
    pub fn getlock(&mut self, client: u64, line: &str) -> String {
        masked(&self.call_as(client, &format!("SMARTCACHE.GETLOCK {line}")))
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Runs a command given as words between spaces and shows its answer as `redis-cli` would, on one line.
    pub fn call(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call_words(&words)
    }

    /// Runs a command given as words.
    pub fn call_words(&mut self, words: &[&[u8]]) -> String {
        self.run(words, Caller { db: self.memory.db, ..Caller::default() })
    }

    /// Runs a replicated command: one of ours, or the server's `UNLINK`.
    pub fn obey(&mut self, words: &[&[u8]]) -> String {
        match words {
            [b"UNLINK", keys @ ..] => {
                keys.iter().for_each(|key| self.memory.forget(key));
                return keys.len().to_string();
            }
            [b"SELECT", db] => {
                let db = std::str::from_utf8(db).ok().and_then(|db| db.parse().ok());
                self.memory.select(db.expect("the number of a database"));
                return "OK".into();
            }
            _ => {}
        }
        self.run(words, Caller { db: self.memory.db, trusted: true, ..Caller::default() })
    }

    /// Runs a command that another primary of a cluster has passed on.
    pub fn receive(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run(&words, Caller { db: self.memory.db, passed_on: true, ..Caller::default() })
    }

    /// Runs a command, given as words between spaces, that must be refused, and checks that it has changed nothing at
    /// all. Answers with the error.
    pub fn refusal(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.refusal_words(&words)
    }

    /// The same for a command given as words.
    pub fn refusal_words(&mut self, words: &[&[u8]]) -> String {
        let mut error = self.full_refusal(words);
        if let Some(end) = error.find(": say SMARTCACHE.") {
            error.truncate(end);
        }
        error
    }

    /// The same with the grammar that ends a syntax error.
    pub fn full_refusal(&mut self, words: &[&[u8]]) -> String {
        let before = self.picture();
        let answer = self.call_words(words);
        let effects = std::mem::take(&mut self.effects);
        let error = answer.strip_prefix("(error) ").unwrap_or_else(|| panic!("not refused, but answered {answer}"));
        assert_eq!((effects, self.picture()), (Vec::new(), before), "{error}");
        assert!(self.passed_on.is_empty(), "{error}");
        error.into()
    }

    /// Everything that a command could change, as text.
    pub fn picture(&mut self) -> String {
        let count = *self.state.stats.at(self.now).node();
        self.memory.expire();
        let names: Vec<_> = self.memory.keys.keys().cloned().collect();
        let mut picture = format!("{:?} {:?} {:?}\n", self.state.live.totals(), self.state.clock, self.state.leases);
        for name in names {
            let (shown, at) = (self.call_words(&[b"INSPECT", &name]), self.memory.expire_at(Key::named(&name)));
            let (header, stored) = self.written(&name).unwrap_or_default();
            let (header, stored) = (header.escape_ascii(), stored.escape_ascii());
            let _ = writeln!(picture, "{} {shown} {at:?} {header} {stored}", name.escape_ascii());
        }
        picture += &self.call("RULE LIST");
        *self.state.stats.at(self.now).node() = count; // looking counts nothing
        picture
    }

    /// Sets a setting, as `CONFIG SET smartcache.NAME` does.
    pub fn config(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.state.set_setting(name.as_bytes(), value.as_bytes())
    }

    /// How many keys there are, the server's expired ones not counted.
    pub fn dbsize(&mut self) -> usize {
        self.memory.expire();
        self.memory.keys.len()
    }

    /// The bytes that are stored under a key, as they are.
    pub fn stored(&mut self, key: &str) -> Option<Vec<u8>> {
        match self.memory.peek(Key::named(key.as_bytes())) {
            Slot::Entry(entry) => Some(entry.stored().to_vec()),
            _ => None,
        }
    }

    /// The entry under a key as files and replicas have it: header, with the key's expiry, and stored bytes.
    pub fn written(&mut self, key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut words = self.header_of(Key::named(key))?;
        let Slot::Entry(entry) = self.memory.peek(Key::named(key)) else { return None };
        Some((words.pop()?, entry.stored().to_vec()))
    }

    /// One field of `INSPECT`, as it is shown; empty when there is nothing to inspect.
    pub fn inspect(&mut self, key: &str, field: &str) -> String {
        let map = self.call_words(&[b"INSPECT", key.as_bytes()]);
        field_of(&map, field)
    }

    /// One number of `STATS`, as it is shown.
    pub fn stat(&mut self, name: &str) -> String {
        let map = self.call("STATS");
        field_of(&map, name)
    }

    fn run(&mut self, words: &[&[u8]], caller: Caller) -> String {
        let is_help = words.iter().any(|word| word.to_ascii_uppercase().ends_with(b"HELP"));
        let mut reply = Transcript::default();
        reply.help = is_help;
        let mut effects = Effects::new();
        self.memory.obeying = self.replica || caller.trusted;
        self.state.stats.calls += 1;
        let outcome = match commands::find(words[0], words.get(1).copied()) {
            None => Err(Error::Refused(format!("unknown command '{}'", words[0].escape_ascii()))),
            Some(command) => match command.run.filter(|_| command.accepts(words.len())) {
                None => Err(Error::Arity(command.name)),
                Some(run) => run.call(
                    &mut Cx {
                        now: self.now,
                        caller,
                        state: &mut self.state,
                        keys: &mut self.memory,
                        reply: &mut reply,
                        server: &self.server,
                        effects: &mut effects,
                    },
                    &mut Args::new(command.name, words, command.name_words()),
                    commands::COMMANDS,
                ),
            },
        };
        self.effects.clear();
        self.replicated.clear();
        self.replicate_expired();
        let waits = self.deliver(effects, words);
        self.memory.obeying = self.replica;
        self.tick();
        match outcome {
            Ok(()) if waits => "(waiting)".into(),
            Ok(()) => reply.text(),
            Err(error) => {
                self.state.stats.at(self.now).node().errors += 1;
                format!("(error) {error}")
            }
        }
    }

    /// Carries out the effects of a command; whether its caller was parked.
    fn deliver(&mut self, mut effects: Effects<'_>, words: &[&[u8]]) -> bool {
        let mut outbox = Outbox::default();
        let waits = self.deliver_into(&mut outbox, &mut effects, words);
        self.send(outbox);
        self.replicate_expired();
        waits
    }

    /// The same, where more than these effects is replicated with them.
    fn deliver_into(&mut self, outbox: &mut Outbox<Vec<u8>>, effects: &mut Effects<'_>, words: &[&[u8]]) -> bool {
        let mut waits = false;
        self.passed_on.clear();
        for effect in effects.drain() {
            let shown = match effect {
                Effect::ReplicateEntry { key, pack, .. } => {
                    if let Some(mut store) = self.header_of(key) {
                        if let Slot::Entry(entry) = self.memory.peek(key) {
                            store.push(entry.stored().to_vec());
                            let codec = pack.as_deref().filter(|job| job.is_of(entry)).map(|job| job.codec);
                            store.extend(codec.map(|codec| codec.name().into()));
                        }
                        outbox.push(Message::Command(STORE, store.into()));
                    }
                    if let Some(job) = pack {
                        self.effects.push(format!("compress {}", job.key.escape_ascii()));
                        self.jobs.push(*job);
                    }
                    format!("replicate entry {}", key.name.escape_ascii())
                }
                Effect::ReplicateHeader(key) => {
                    if let Some(store) = self.header_of(key) {
                        outbox.push(Message::Command(STORE, store.into()));
                    }
                    format!("replicate header {}", key.name.escape_ascii())
                }
                Effect::ReplicateText(key) => {
                    let text = self.memory.text(key).unwrap_or_default().to_vec();
                    self.replicated.push(vec![b"SET".to_vec(), key.name.to_vec(), text]);
                    format!("replicate text {}", key.name.escape_ascii())
                }
                Effect::ReplicateUnlink(key) => {
                    outbox.push(Message::Gone(key.name.to_vec()));
                    format!("replicate unlink {}", key.name.escape_ascii())
                }
                Effect::ReplicateVerbatim => {
                    let command = commands::find(words[0], words.get(1).copied()).expect("it has run");
                    let name = command.parent().map_or(command.name, |(container, _)| container);
                    outbox.push(Message::Command(name, words[1..].iter().map(|word| word.to_vec()).collect()));
                    "replicate verbatim".into()
                }
                Effect::ReplicateMark(words) => {
                    outbox.push(Message::Command(MARK, words.into()));
                    "replicate mark".into()
                }
                Effect::SignalName(key) => format!("signal {}", key.escape_ascii()),
                Effect::Notify(event, key) => {
                    format!("notify {} {}", event.name().to_string_lossy(), key.name.escape_ascii())
                }
                Effect::PassOn(how) => {
                    let command = commands::find(words[0], words.get(1).copied()).expect("it has run");
                    assert!(command.has(Flag::PassedOn), "{} is passed on, and does not say so", command.name);
                    let parts = how.commands(command.name, words).expect("each grammar has its limits");
                    self.passed_on.extend(parts.iter().map(|words| words.join(&b' ').escape_ascii().to_string()));
                    continue;
                }
                Effect::Signal(key) => format!("signal {}", key.name.escape_ascii()),
                Effect::Park(id) => {
                    waits = true;
                    let native = self.state.leases.waiter(id).is_some_and(|waiter| waiter.options.native);
                    self.parked.insert(id, (self.server.client, native));
                    continue;
                }
                Effect::Wait(id) => {
                    waits = true;
                    self.sweep_waiters.insert(id, self.server.client);
                    continue;
                }
                Effect::Compress(job) => {
                    let shown = format!("compress {}", job.key.escape_ascii());
                    self.jobs.push(*job);
                    shown
                }
            };
            self.effects.push(shown);
        }
        waits
    }

    /// Replicates, as one command.
    fn send(&mut self, mut outbox: Outbox<Vec<u8>>) {
        let gone = outbox.gone().map(|keys| [&b"UNLINK"[..]].into_iter().map(Vec::from).chain(keys.cloned()).collect());
        let word = |text: &str| text.as_bytes().to_vec();
        let one = || outbox.take(word).map(|(name, words)| [word(name)].into_iter().chain(words).collect());
        self.replicated.extend(gone.or_else(one));
    }

    fn replicate_expired(&mut self) {
        let gone = self.memory.expired.drain(..);
        self.replicated.extend(gone.map(|key| vec![b"UNLINK".to_vec(), key]));
    }

    /// The words of the `STORE` that replicates a key's header; `None` when it holds no entry.
    fn header_of(&mut self, key: Key<'_>) -> Option<Vec<Vec<u8>>> {
        let expiry = self.memory.expire_at(key).map_or(Expiry::None, Expiry::At);
        let mut header = Vec::new();
        let Slot::Entry(entry) = self.memory.peek(key) else { return None };
        format::encode(entry, &self.state.tags, expiry, &mut header);
        Some(vec![key.name.to_vec(), header])
    }
}
