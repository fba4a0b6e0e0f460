//! A node to try commands on without a server: an in-memory keyspace, answers as text, a clock turned by hand.
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

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use crate::cache::clock::Now;
use crate::cache::codec::offload::{self, Job};
use crate::cache::effects::{Effect, Effects};
use crate::cache::entry::format::{self, Expiry};
use crate::cache::entry::{Entry, EntryMut};
use crate::cache::error::Error;
use crate::cache::invalidation::marks::Invalidations;
use crate::cache::invalidation::sweep::{SweepWaiterId, Walk};
use crate::cache::invalidation::tag_index::TagIndex;
use crate::cache::lease::native_commands::Sender;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::lease::table::{Deadline, WaiterId};
use crate::cache::lease::tombstones::Tombstones;
use crate::cache::node::acquire::Values;
use crate::cache::node::aux;
use crate::cache::node::context::Node;
use crate::cache::ports::ServerInfo;
use crate::cache::stats::live::Live;
use crate::cache::stats::miss_reasons::MissReasons;
use crate::cache::{Caller, Cx, Judge, Key, Keyspace, Reply, Right, Server, Slot, State};
use crate::commands::args::Args;
use crate::commands::spec::Flag;
use crate::commands::{self, getlock, preview};

/// What the in-memory keyspace holds under a key.
#[derive(Debug)]
enum Value {
    Entry(Entry),
    Text(Vec<u8>),
    List,
}

/// The keys of one database, and when the server deletes them.
type Keys = BTreeMap<Vec<u8>, (Value, Option<u64>)>;

/// An in-memory keyspace that expires the keys of the selected database as the server does.
#[derive(Debug)]
struct Memory {
    db: i32,
    keys: Keys,
    others: BTreeMap<i32, Keys>,
    now: Now,
    live: Arc<Live>,
    tombstones: Arc<Tombstones>,
    miss_reasons: Arc<MissReasons>,
    invalidations: Rc<Invalidations>,
    /// We are a replica, or obey: nothing expires until our primary says so.
    obeying: bool,
    /// Keys whose expiry is still to be told to replicas.
    expired: Vec<Vec<u8>>,
}

/// A node without a server: state, keyspace and clock.
pub struct TestNode {
    /// What the node knows.
    pub state: State,
    /// What the last command wanted done, one line each.
    pub effects: Vec<String>,
    /// The words of what the last command replicated, and of the keys that had expired before it.
    pub replicated: Vec<Vec<Vec<u8>>>,
    /// What the last command passed on to the other primaries of a cluster, one line each.
    pub passed_on: Vec<String>,
    /// What waits for a worker.
    pub jobs: Vec<Job>,
    /// Answers that came later, to callers who were kept waiting: the connection, and what it was told.
    pub answers: Vec<(u64, String)>,
    /// What the server says when it is asked.
    pub server: ScriptedServer,
    parked: BTreeMap<WaiterId, u64>,
    sweep_waiters: BTreeMap<SweepWaiterId, u64>,
    /// Where walks over all keys are, by their numbers.
    cursors: BTreeMap<u64, Vec<u8>>,
    memory: Memory,
    now: Now,
    replica: bool,
}

/// An entry as files have it: header and stored bytes.
pub type Dump = (Vec<u8>, Vec<u8>);

/// What is in the files of a node.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What is saved beside the keys, if anything.
    pub aux: Option<Vec<Vec<u8>>>,
    /// The marks of it, with their databases, as they are said behind the keys of an AOF without preamble.
    pub marks: Vec<(i32, Vec<Vec<u8>>)>,
    /// Databases, keys, and what stands under them.
    pub entries: Vec<(i32, Vec<u8>, Dump)>,
}

/// What the server of a node says when it is asked.
#[derive(Clone, Debug)]
pub struct ScriptedServer {
    /// The connection that calls.
    pub client: u64,
    /// Whether callers may be kept waiting.
    pub may_wait: bool,
    /// Whether memory has run out.
    pub out_of_memory: bool,
    /// Keys that begin so are not the caller's to write; with an empty text all are.
    pub may_not_write: &'static str,
    /// Its user may not read what begins so.
    pub may_not_read: &'static str,
    /// The server can tell who may write what begins so.
    pub tells_prefixes: bool,
    /// Its account of itself.
    pub server_info: ServerInfo,
    replica: bool,
}

impl ScriptedServer {
    fn may_not(&self, right: Right) -> &'static str {
        match right {
            Right::Read => self.may_not_read,
            Right::Write => self.may_not_write,
        }
    }
}

impl Server for ScriptedServer {
    fn client(&self) -> u64 {
        self.client
    }
    fn may_wait(&self) -> bool {
        self.may_wait
    }
    fn is_replica(&self) -> bool {
        self.replica
    }
    fn out_of_memory(&self) -> bool {
        self.out_of_memory
    }
    fn may(&self, right: Right, key: &[u8]) -> bool {
        self.may_all(right) || !key.starts_with(self.may_not(right).as_bytes())
    }
    fn may_prefix(&self, right: Right, prefix: &[u8]) -> Option<bool> {
        let own = self.may_not(right).as_bytes();
        self.tells_prefixes.then(|| own.is_empty() || !own.starts_with(prefix) && !prefix.starts_with(own))
    }
    fn may_all(&self, right: Right) -> bool {
        self.may_not(right).is_empty()
    }
    fn server_info(&self) -> ServerInfo {
        self.server_info.clone()
    }
}

impl TestNode {
    /// A node whose clock shows so many milliseconds of Unix time.
    pub fn at(ms: u64) -> Self {
        // A million small tables are made sooner than a thousand of those that a server has.
        Self::with_tombstones(ms, Tombstones::with_slots([1; 16], 1 << 12))
    }

    /// The same, where all keys are mistaken for each other when loads are conflicting.
    pub fn colliding_at(ms: u64) -> Self {
        Self::with_tombstones(ms, Tombstones::with_slots([1; 16], 1))
    }

    fn with_tombstones(ms: u64, tombstones: Tombstones) -> Self {
        let now = Now::from_us(ms * 1_000);
        let live = Arc::new(Live::default());
        let tombstones = Arc::new(tombstones);
        let miss_reasons = Arc::new(MissReasons::new([1; 16]));
        let invalidations = Rc::new(Invalidations::default());
        TestNode {
            state: State::new(
                now,
                [1; 16],
                live.clone(),
                tombstones.clone(),
                miss_reasons.clone(),
                invalidations.clone(),
            ),
            answers: Vec::new(),
            server: ScriptedServer {
                client: 1,
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

    /// A replica: it lets nothing expire until its primary says so.
    pub fn replica_at(ms: u64) -> Self {
        let mut node = Self::at(ms);
        (node.replica, node.memory.obeying, node.server.replica) = (true, true, true);
        node
    }

    /// Turns the clocks on. What comes due on the way is dealt with when it does.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.mono_ms() + ms;
        while let Some(at) = self.state.leases.next_due().filter(|at| *at <= end) {
            self.turn_on(at.saturating_sub(self.now.mono_ms()));
            self.tick();
        }
        self.turn_on(end - self.now.mono_ms());
        self.tick();
    }

    /// Turns the clocks on, and nobody deals with what comes due: a timer may be late.
    pub fn turn_on(&mut self, ms: u64) {
        self.now = Now::new(self.now.us() + ms * 1_000, self.now.mono_ms() + ms);
        self.memory.now = self.now;
    }

    /// Sets the wall clock, also back: the other one goes on as it was.
    pub fn set_clock(&mut self, ms: u64) {
        self.now = Now::new(ms * 1_000, self.now.mono_ms());
        self.memory.now = self.now;
    }

    /// The database as the host's callbacks see it.
    pub fn as_node(&mut self) -> Node<'_> {
        Node { state: &mut self.state, db: self.memory.db, keys: &mut self.memory, now: self.now }
    }

    /// Selects a database, as `SELECT` does.
    pub fn select(&mut self, db: i32) {
        self.memory.select(db);
    }

    /// Does what the host's timer does: what is due, then the answers on their way.
    pub fn tick(&mut self) {
        while let Some(due) = self.state.leases.due_now(self.now) {
            let selected = self.memory.db;
            self.memory.select(match &due {
                Deadline::Key(db, _) => *db,
                Deadline::Waiter(id) => self.state.leases.waiter(*id).map_or(selected, |waiter| waiter.db),
            });
            self.as_node().deal_with(&due, &mut Values::default());
            self.memory.select(selected);
        }
        while let Some((id, answer)) = self.state.leases.next_answer() {
            let mut reply = Transcript::default();
            getlock::write_deferred_reply(&mut reply, &answer);
            let client = self.parked.remove(&id).expect("nobody is answered twice");
            self.answers.push((client, reply.text()));
        }
        self.state.leases.validate();
    }

    /// Runs a command of another connection.
    pub fn call_as(&mut self, client: u64, line: &str) -> String {
        let before = std::mem::replace(&mut self.server.client, client);
        let answer = self.call(line);
        self.server.client = before;
        answer
    }

    /// The answers that have come since the last look, in order.
    pub fn late_answers(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.answers)
    }

    /// A connection that is kept waiting goes away.
    pub fn disconnect(&mut self, client: u64) {
        let ids: Vec<_> = self.parked.iter().filter(|(_, c)| **c == client).map(|(id, _)| *id).collect();
        for id in ids {
            self.parked.remove(&id);
            let State { leases, stats, .. } = &mut self.state;
            let mut tally = stats.at(self.now);
            if !leases.leave(id, WaitOutcome::Dropped, &mut tally)
                && let Some(answer) = leases.take_answer(id)
            {
                leases.undelivered(answer, &mut tally);
            }
        }
        self.tick();
    }

    /// Whether a connection is kept waiting.
    pub fn is_waiting(&self, client: u64) -> bool {
        self.parked.values().any(|other| *other == client)
    }

    /// The token in the answer of a `GETLOCK`.
    pub fn token(&mut self, line: &str) -> String {
        let answer = self.call(line);
        let token = answer.rsplit(", ").nth(2).filter(|word| word.len() == crate::cache::lease::token::LEN);
        token.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The answers that have come since the last look, with [`T`](masked) for tokens.
    pub fn late(&mut self) -> Vec<(u64, String)> {
        self.late_answers().into_iter().map(|(client, answer)| (client, masked(&answer))).collect()
    }

    /// Runs a `GETLOCK` (of which the line is the rest) of a connection, and shows its answer with [`T`](masked) for a token.
    pub fn getlock(&mut self, client: u64, line: &str) -> String {
        masked(&self.call_as(client, &format!("SMARTCACHE.GETLOCK {line}")))
    }

    /// The server is about to run a command that is not ours.
    pub fn observe_native(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.state.observe_native(&words, Sender::Unknown, self.now);
        self.tick();
    }

    /// Does what the sweep of the host does, to its end. What it deletes is in `replicated`, what it tells in `effects`.
    pub fn sweep(&mut self) {
        self.sweep_some(usize::MAX);
    }

    /// The same for so many places and keys: the walks go on there the next time.
    pub fn sweep_some(&mut self, mut most: usize) {
        (self.effects, self.replicated) = Default::default();
        let selected = self.memory.db;
        self.state.sweep_arrivals();
        while most > 0
            && let Some(job) = self.state.sweep.next(!self.replica, self.now)
        {
            self.select_for_sweep(job.db);
            if job.began.is_none() {
                self.cursors.remove(&job.id);
            }
            let job = self.state.begin(job, self.now);
            let name = match job.walk {
                Walk::Keys => self.next_key(job.id),
                Walk::Members(tag) => {
                    let at = job.passed as usize;
                    let next = |index: &TagIndex| {
                        (at < index.slots(tag)).then(|| index.at(tag, at).map_or_else(Vec::new, Vec::from))
                    };
                    self.state.invalidations.tag_index(job.db, next).flatten()
                }
            };
            let Some(name) = name else {
                if let Some(words) = self.state.swept(job) {
                    self.replicated.push([vec![b"SMARTCACHE.MARK".to_vec()], words].concat());
                }
                continue;
            };
            most -= 1;
            self.state.sweep.passed(job, job.passed + 1);
            let Slot::Entry(entry) = self.memory.peek(Key::named(&name)) else { continue };
            if self.state.is_for_sweep(job, &name, entry, self.now) {
                let mut effects = Effects::new();
                self.state.sweep_key(&mut self.memory, job, Key::named(&name), &mut effects, self.now);
                self.deliver(effects, &[]);
            }
        }
        self.select_for_sweep(selected);
        self.answer_sweep_waiters();
    }

    /// Does what the server's cron has us do. What replicas are to know is in `replicated`.
    pub fn cron(&mut self) {
        (self.effects, self.replicated) = Default::default();
        if self.replica {
            return self.state.reap_tags(usize::MAX, self.now);
        }
        let selected = self.memory.db;
        for (db, words) in self.state.reap(usize::MAX, self.now) {
            self.select_for_sweep(db);
            self.replicated.push([vec![b"SMARTCACHE.MARK".to_vec()], words].concat());
        }
        self.select_for_sweep(selected);
    }

    fn next_key(&mut self, job: u64) -> Option<Vec<u8>> {
        let from = self.cursors.get(&job).map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        let name = self.memory.keys.range((from, Bound::Unbounded)).next()?.0.clone();
        self.cursors.insert(job, name.clone());
        Some(name)
    }

    /// Selects a database, of which replicas are told.
    fn select_for_sweep(&mut self, db: i32) {
        if self.memory.db != db {
            self.memory.select(db);
            self.replicated.push(vec![b"SELECT".to_vec(), db.to_string().into_bytes()]);
        }
    }

    /// Answers whoever has waited for the sweep, in `answers`.
    pub fn answer_sweep_waiters(&mut self) {
        self.state.sweep.give_up(self.now);
        while let Some((id, late)) = self.state.sweep.next_answer() {
            let Some(client) = self.sweep_waiters.remove(&id) else { continue };
            let mut reply = Transcript::default();
            preview::write_deferred_reply(&mut reply, &late);
            self.answers.push((client, reply.text()));
        }
    }

    /// A key is now called otherwise, as after `RENAME`.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.memory.expire();
        if from != to {
            self.relocate(from, to, self.memory.db, true);
        }
    }

    /// A key goes to another database, unless there is one of that name, as with `MOVE`.
    pub fn move_to(&mut self, key: &str, db: i32) {
        self.memory.expire();
        let taken = self.memory.others.get(&db).is_some_and(|keys| keys.contains_key(key.as_bytes()));
        if db != self.memory.db && !taken {
            self.relocate(key, key, db, true);
        }
    }

    /// A key is there a second time, as after `COPY … REPLACE`.
    pub fn copy(&mut self, from: &str, to: &str, db: i32) {
        self.memory.expire();
        if (from, self.memory.db) != (to, db) {
            self.relocate(from, to, db, false);
        }
    }

    fn relocate(&mut self, from: &str, to: &str, db: i32, leaves: bool) {
        let Some(mut entry) = self.told(from.as_bytes()) else { return };
        let (expire_at, home) = (self.memory.expire_at(Key::named(from.as_bytes())), self.memory.db);
        if leaves {
            self.memory.forget(from.as_bytes());
        }
        self.memory.select(db);
        self.memory.forget(to.as_bytes());
        self.memory.live.on_alloc(entry.as_ref());
        if !leaves {
            self.state.invalidations.copied(db, to.as_bytes(), &mut entry.as_mut(), self.now);
        }
        self.memory.keys.insert(to.into(), (Value::Entry(entry), expire_at));
        self.memory.select(home);
    }

    /// The selected database, or all, is emptied.
    pub fn flush(&mut self, all: bool) {
        let mut dbs = vec![std::mem::take(&mut self.memory.keys)];
        if all {
            dbs.extend(std::mem::take(&mut self.memory.others).into_values());
        }
        for (value, _) in dbs.iter().flat_map(Keys::values) {
            if let Value::Entry(entry) = value {
                self.memory.live.on_free(entry.as_ref()); // of which nothing else is told
            }
        }
        let waited_for = self.state.flushed((!all).then_some(self.memory.db), self.now);
        self.wake_waiters(waited_for);
    }

    /// Two databases exchange their keys.
    pub fn swap(&mut self, a: i32, b: i32) {
        let selected = self.memory.db;
        self.memory.select(a);
        let of_b = self.memory.others.remove(&b).unwrap_or_default();
        let of_a = std::mem::replace(&mut self.memory.keys, of_b);
        self.memory.others.insert(b, of_a);
        self.memory.select(selected);
        self.state.swapped(a, b);
        for db in [a, b] {
            let waited_for = self.state.void_all_loads(Some(db), self.now);
            self.wake_waiters(waited_for);
        }
    }

    fn wake_waiters(&mut self, waited_for: Vec<(i32, Arc<[u8]>)>) {
        let selected = self.memory.db;
        for (db, name) in waited_for {
            self.memory.select(db);
            self.as_node().wake_waiters(Key::named(&name));
        }
        self.memory.select(selected);
        self.tick();
    }

    /// A replica becomes a primary.
    pub fn promote(&mut self, secret: [u8; 16]) {
        (self.replica, self.memory.obeying, self.server.replica) = (false, false, false);
        self.state.reset_leases(secret, self.now);
        self.state.sweep_all(self.now);
        self.tick();
    }

    /// What is in its files: what is saved beside the keys, and keys with what stands under them.
    pub fn saved(&mut self) -> Saved {
        let mut strings = Vec::new();
        let aux = aux::save(&self.state, self.now, &mut |string| strings.push(string.to_vec())).then_some(strings);
        let marks = self.marks_as_words();
        let selected = self.memory.db;
        let mut entries = Vec::new();
        for db in [selected].into_iter().chain(self.memory.others.keys().copied()).collect::<Vec<_>>() {
            self.memory.select(db);
            let names: Vec<_> = self.memory.keys.keys().cloned().collect();
            for name in names {
                entries.extend(self.dump(&name).map(|dump| (db, name, dump)));
            }
        }
        self.memory.select(selected);
        Saved { aux, marks, entries }
    }

    /// What is said after an AOF was rewritten, with its databases: in parts, as on a server.
    pub fn marks_as_words(&self) -> Vec<(i32, Vec<Vec<u8>>)> {
        let mut said = Vec::new();
        self.state.each_mark_but_tags(self.now, &mut |db, words| said.push((db, words)));
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.state.each_mark_of_tags(from, 2, self.now, &mut |db, words| said.push((db, words)));
        }
        said
    }

    /// Loads an RDB: what is saved beside the keys comes before them.
    pub fn load_rdb(&mut self, saved: &Saved, secret: [u8; 16]) {
        self.state.invalidations.clear();
        let mut strings = saved.aux.iter().flatten().cloned();
        if saved.aux.is_some() {
            aux::load(&mut self.state, self.now, || strings.next()).expect("what was saved can be loaded");
        }
        self.load_entries(saved);
        self.state.reset_leases(secret, self.now);
    }

    /// Loads a rewritten AOF without preamble: marks are said behind the keys. (Rules are not.)
    pub fn load_aof(&mut self, saved: &Saved, secret: [u8; 16]) {
        self.state.invalidations.clear();
        self.load_entries(saved);
        let selected = self.memory.db;
        for (db, words) in &saved.marks {
            self.memory.select(*db);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            assert_eq!(self.obey(&[&[&b"SMARTCACHE.MARK"[..]], &words[..]].concat()), "OK");
        }
        self.memory.select(selected);
        self.state.reset_leases(secret, self.now);
    }

    fn load_entries(&mut self, saved: &Saved) {
        let selected = self.memory.db;
        for (db, name, (header, stored)) in &saved.entries {
            self.memory.select(*db);
            assert_eq!(self.obey(&[b"SMARTCACHE.STORE", name, header, stored]), "OK");
        }
        self.memory.select(selected);
    }

    /// The entry under a key as `DUMP` and files have it: what marks make of it is written into it.
    pub fn dump(&mut self, key: &[u8]) -> Option<Dump> {
        let expiry = self.memory.expire_at(Key::named(key)).map_or(Expiry::None, Expiry::At);
        let told = self.told(key)?;
        let mut header = Vec::new();
        format::encode(told.as_ref(), &self.state.tags, expiry, &mut header);
        Some((header, told.as_ref().stored().to_vec()))
    }

    /// The entry under a key, with what marks make of it written into it.
    fn told(&mut self, key: &[u8]) -> Option<Entry> {
        let db = self.memory.db;
        let Slot::Entry(entry) = self.memory.peek(Key::named(key)) else { return None };
        let mut told = entry.to_entry();
        self.state.invalidations.verdict(db, key, entry, self.now).write(&mut told.as_mut());
        Some(told)
    }

    /// Removes a key as the server does on expiry or a command of its own.
    pub fn plain_del(&mut self, key: &str) {
        self.memory.forget(key.as_bytes());
    }

    /// Removes a key as the server does when memory is short.
    pub fn evict(&mut self, key: &str) {
        self.memory.forget(key.as_bytes());
        let fresh = self.memory.miss_reasons.evicted(key.as_bytes());
        self.state.evicted(fresh, self.now);
    }

    /// The time it shows.
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

    /// Runs a command as our primary would have us: one of ours, or the server's `UNLINK`.
    pub fn obey(&mut self, words: &[&[u8]]) -> String {
        match words {
            [b"UNLINK", key] => {
                self.memory.forget(key);
                return "1".into();
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
        *self.state.stats.at(self.now).node() = count; // looking does not count
        picture
    }

    /// Puts a plain string under a key.
    pub fn plain_set(&mut self, key: &str, value: &str, expire_at: Option<u64>) {
        self.memory.put(key.as_bytes(), Value::Text(value.into()), expire_at);
    }

    /// Puts a list under a key.
    pub fn plain_list(&mut self, key: &str) {
        self.memory.put(key.as_bytes(), Value::List, None);
    }

    /// Sets a setting, as `CONFIG SET smartcache.NAME` does.
    pub fn config(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.state.set_setting(name.as_bytes(), value.as_bytes(), self.now)
    }

    /// How many keys there are, the server's expired ones not counted.
    pub fn dbsize(&mut self) -> usize {
        self.memory.expire();
        self.memory.keys.len()
    }

    /// When the server deletes a key.
    pub fn expire_at(&mut self, key: &str) -> Option<u64> {
        self.memory.expire_at(Key::named(key.as_bytes()))
    }

    /// Sets when the server deletes a key, as `PEXPIREAT` does.
    pub fn pexpireat(&mut self, key: &str, at: u64) {
        self.memory.set_expire_at(Key::named(key.as_bytes()), Some(at));
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

    /// Does the workers' work, and swaps in what is still wanted, as `host/workers.rs` does.
    pub fn run_workers(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            let done = offload::run(job, &mut crate::cache::codec::Codecs::new());
            let key = Key::named(&done.key);
            let packed = match (self.memory.peek(key), &done.stored) {
                (Slot::Entry(entry), Some(stored))
                    if entry.stamp().0 == done.stamp && entry.raw_len() == done.raw_len =>
                {
                    Some(entry.repacked(done.codec, done.raw_len, stored))
                }
                _ => None,
            };
            let swapped = packed.is_some();
            if let Some(packed) = packed {
                let at = self.memory.expire_at(key);
                self.memory.set(key, packed, at);
            }
            self.state.offloaded(&done, swapped);
        }
    }

    fn run(&mut self, words: &[&[u8]], caller: Caller) -> String {
        let mut reply = Transcript::default();
        let mut effects = Effects::new();
        self.memory.obeying = self.replica || caller.trusted;
        self.state.stats.calls += 1;
        let outcome = match commands::find(words[0], words.get(1).copied()) {
            None => Err(Error::Refused(format!("unknown command '{}'", words[0].escape_ascii()))),
            Some(command) => match command.run.filter(|_| command.accepts(words.len())) {
                None => Err(Error::Arity(command.name)),
                Some(run) => run(
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

    /// Carries out what a command wanted done; whether its caller is kept waiting.
    fn deliver(&mut self, mut effects: Effects<'_>, words: &[&[u8]]) -> bool {
        let mut waits = false;
        self.passed_on.clear();
        for effect in effects.drain() {
            let shown = match effect {
                Effect::ReplicateEntry { key, pack, .. } => {
                    if let Some(mut store) = self.header_of(key) {
                        if let Slot::Entry(entry) = self.memory.peek(key) {
                            store.push(entry.stored().to_vec());
                        }
                        store.extend(pack.map(|codec| codec.name().into()));
                        self.replicated.push(store);
                    }
                    format!("replicate entry {}", key.name.escape_ascii())
                }
                Effect::ReplicateHeader(key) => {
                    let store = self.header_of(key);
                    self.replicated.extend(store);
                    format!("replicate header {}", key.name.escape_ascii())
                }
                Effect::ReplicateUnlink(key) => {
                    self.replicated.push(vec![b"UNLINK".to_vec(), key.name.to_vec()]);
                    format!("replicate unlink {}", key.name.escape_ascii())
                }
                Effect::ReplicateVerbatim => {
                    self.replicated.push(words.iter().map(|word| word.to_vec()).collect());
                    "replicate verbatim".into()
                }
                Effect::ReplicateMark(words) => {
                    self.replicated.push([vec![b"SMARTCACHE.MARK".to_vec()], words].concat());
                    "replicate mark".into()
                }
                Effect::SignalTag(key) => format!("signal {}", key.escape_ascii()),
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
                    self.parked.insert(id, self.server.client);
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
        self.replicate_expired();
        waits
    }

    fn replicate_expired(&mut self) {
        let gone = self.memory.expired.drain(..);
        self.replicated.extend(gone.map(|key| vec![b"UNLINK".to_vec(), key]));
    }

    /// The words that tell a key's header; `None` when it holds no entry (any more).
    fn header_of(&mut self, key: Key<'_>) -> Option<Vec<Vec<u8>>> {
        let expiry = self.memory.expire_at(key).map_or(Expiry::None, Expiry::At);
        let mut header = Vec::new();
        let Slot::Entry(entry) = self.memory.peek(key) else { return None };
        format::encode(entry, &self.state.tags, expiry, &mut header);
        Some(vec![b"SMARTCACHE.STORE".to_vec(), key.name.to_vec(), header])
    }
}

/// An answer of `GETLOCK` with `T` for its token.
pub fn masked(answer: &str) -> String {
    let token = answer.rsplit(", ").nth(2).filter(|word| word.len() == crate::cache::lease::token::LEN);
    token.map_or_else(|| answer.into(), |token| answer.replace(token, "T"))
}

/// The value of a field in a map as answers show it. (No value holds `, "` or `]` but the tags.)
pub fn field_of(map: &str, field: &str) -> String {
    let Some((_, rest)) = map.split_once(&format!("\"{field}\": ")) else { return String::new() };
    let end = match rest.strip_prefix('[') {
        Some(list) => list.find(']').map(|at| at + 2),
        None => rest.find(", \"").or_else(|| rest.find('}')),
    };
    rest[..end.unwrap_or(rest.len())].to_owned()
}

impl Memory {
    fn select(&mut self, db: i32) {
        if db != self.db {
            let keys = self.others.remove(&db).unwrap_or_default();
            self.others.insert(self.db, std::mem::replace(&mut self.keys, keys));
            self.db = db;
        }
    }

    fn expire_at(&mut self, key: Key<'_>) -> Option<u64> {
        self.expire();
        self.keys.get(key.name).and_then(|(_, at)| *at)
    }

    fn expire(&mut self) {
        if self.obeying {
            return;
        }
        let now = self.now.ms();
        let gone: Vec<_> = self
            .keys
            .iter()
            .filter(|(_, (_, at))| at.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.forget(key);
            self.miss_reasons.expired(key);
        }
        self.expired.extend(gone);
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some((Value::Entry(entry), _)) = self.keys.remove(key) {
            self.tombstones.gone(key, entry.as_ref().stamp()); // the server calls `unlink` then
            let fresh = Judge::new(&self.invalidations, self.db, key, self.now).is_fresh(entry.as_ref());
            self.miss_reasons.left(key, entry.as_ref().rule(), fresh);
            self.invalidations.left(self.db, key, entry.as_ref());
            self.live.on_free(entry.as_ref());
        }
    }

    fn put(&mut self, key: &[u8], mut value: Value, expire_at: Option<u64>) {
        match &value {
            // An entry is replaced in place.
            Value::Entry(_) => {
                if let Some((Value::Entry(old), _)) = self.keys.remove(key) {
                    self.invalidations.left(self.db, key, old.as_ref());
                    self.live.on_free(old.as_ref());
                }
            }
            Value::Text(_) | Value::List => self.forget(key),
        }
        if let Value::Entry(entry) = &mut value {
            self.live.on_alloc(entry.as_ref());
            self.invalidations.joined(self.db, key, &mut entry.as_mut());
        }
        self.keys.insert(key.to_vec(), (value, expire_at));
    }
}

impl Keyspace for Memory {
    fn look(&mut self, key: Key<'_>) -> Slot<'_> {
        self.peek(key)
    }

    fn peek(&mut self, key: Key<'_>) -> Slot<'_> {
        self.expire();
        match self.keys.get(key.name) {
            None => Slot::Empty,
            Some((Value::Entry(entry), _)) => Slot::Entry(entry.as_ref()),
            Some((Value::Text(bytes), _)) => Slot::Text(bytes.len()),
            Some((Value::List, _)) => Slot::Other,
        }
    }

    fn text(&mut self, key: Key<'_>) -> Option<&[u8]> {
        self.expire();
        match self.keys.get(key.name) {
            Some((Value::Text(bytes), _)) => Some(bytes),
            _ => None,
        }
    }

    fn left_ms(&mut self, key: Key<'_>) -> Option<u64> {
        self.expire_at(key).map(|at| at.saturating_sub(self.now.ms()))
    }

    fn memory_bytes(&mut self, key: Key<'_>) -> u64 {
        match self.peek(key) {
            Slot::Entry(entry) => entry.allocation().len() as u64,
            Slot::Text(len) => len as u64,
            Slot::Empty | Slot::Other => 0,
        }
    }

    fn set(&mut self, key: Key<'_>, entry: Entry, expire_at: Option<u64>) {
        self.put(key.name, Value::Entry(entry), expire_at);
    }

    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>> {
        self.expire();
        match self.keys.get_mut(key.name) {
            Some((Value::Entry(entry), _)) => Some(entry.as_mut()),
            _ => None,
        }
    }

    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>) {
        if let Some((_, expiry)) = self.keys.get_mut(key.name) {
            *expiry = at;
        }
    }

    fn remove(&mut self, key: Key<'_>) -> bool {
        self.expire();
        let there = self.keys.contains_key(key.name);
        self.forget(key.name);
        there
    }
}

/// Answers as one line of text: `[1, "two", (nil)]`, `{"name": 3}`.
#[derive(Debug, Default)]
struct Transcript {
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    Leaf(String),
    Array(usize),
    Map(usize),
}

impl Transcript {
    fn text(self) -> String {
        let mut items = self.items.into_iter();
        let mut out = String::new();
        Self::write(&mut items, &mut out);
        assert!(items.next().is_none(), "one answer, one element: {out}");
        out
    }

    fn write(items: &mut impl Iterator<Item = Item>, out: &mut String) {
        let (open, close, len, pairs) = match items.next().expect("a container's elements follow it") {
            Item::Leaf(text) => return out.push_str(&text),
            Item::Array(len) => ('[', ']', len, false),
            Item::Map(len) => ('{', '}', len, true),
        };
        out.push(open);
        for at in 0..len {
            if at > 0 {
                out.push_str(", ");
            }
            Self::write(items, out);
            if pairs {
                out.push_str(": ");
                Self::write(items, out);
            }
        }
        out.push(close);
    }

    fn leaf(&mut self, text: String) {
        self.items.push(Item::Leaf(text));
    }
}

impl Reply for Transcript {
    fn simple(&mut self, text: &str) {
        self.leaf(text.into());
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.leaf(format!("\"{}\"", bytes.escape_ascii()));
    }
    fn nil(&mut self) {
        self.leaf("(nil)".into());
    }
    fn int(&mut self, n: i64) {
        self.leaf(n.to_string());
    }
    fn double(&mut self, x: f64) {
        let mut text = String::new();
        let _ = write!(text, "{x}");
        self.leaf(text);
    }
    fn array(&mut self, len: usize) {
        self.items.push(Item::Array(len));
    }
    fn map(&mut self, len: usize) {
        self.items.push(Item::Map(len));
    }
}
