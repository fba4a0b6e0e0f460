//! What the commands mean. No server, no clock, no randomness, no threads and no `unsafe` in here.
//!
//! A command receives a [`Cx`]: the time, the [`State`] of this node, and two ports to the outside, the
//! [`Keyspace`] it asks and the [`Reply`] it answers through. What should happen afterwards (replication,
//! keyspace events, compression on a worker) it leaves in the [`effects`] for the host to carry out.
//! The host has one implementation of the ports (`host/keyspace.rs`, `host/reply.rs`), the tests another
//! (`testing.rs`).
#![forbid(unsafe_code)]

pub mod clock;
pub mod cluster;
pub mod codec;
pub mod effects;
pub mod entry;
pub mod error;
pub mod glob;
pub mod invalidation;
pub mod lease;
pub mod node;
pub mod random;
pub mod rules;
pub mod stats;
pub mod units;

use std::rc::Rc;
use std::sync::Arc;

use crate::config::Settings;
use clock::{Clock, Now};
use cluster::bus::{Bus, PassOn};
use effects::{Effect, Effects};
use entry::{Entry, EntryMut, EntryRef, Freshness};
use invalidation::marks::Invalidations;
use invalidation::sweep::Sweep;
use lease::acquire::Node;
use lease::fill::{Answered, FlushEpochs};
use lease::native_commands::Transactions;
use lease::slots::Slots;
use lease::table::Leases;
use lease::token::Secret;
use lease::tombstones::Tombstones;
use rules::Policies;
use stats::health::{Backlog, ServerInfo};
use stats::live::Live;
use stats::miss_reasons::MissReasons;

/// A key, and which word of the command it was: the host then uses the server's own string instead of making one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'w> {
    /// The key's bytes.
    pub name: &'w [u8],
    /// Its place among the command's words (0 is the command's name), or `None` when it is not one of them.
    pub arg: Option<u16>,
}

impl<'w> Key<'w> {
    /// A key that is not a word of the command.
    pub fn named(name: &'w [u8]) -> Self {
        Key { name, arg: None }
    }
}

/// What stands under a key.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'k> {
    /// Nothing, or something the server has let expire.
    Empty,
    /// One of our entries, whatever its state.
    Entry(EntryRef<'k>),
    /// A plain string of the server's own, of so many bytes: read as a fresh entry without windows.
    Text(usize),
    /// Anything else, such as a list: `WRONGTYPE`.
    Other,
}

/// The keyspace of one database, as a command sees it.
///
/// Methods take `&mut self` because the server's lookup may expire a key, and because at most one key is
/// held open at a time: what `look` returns lives until the next call.
pub trait Keyspace {
    /// What stands under `key`, for serving it: counts as an access (LRU, `keyspace_hits`).
    fn look(&mut self, key: Key<'_>) -> Slot<'_>;

    /// What stands under `key`, for looking at it: counts as no access where the server allows that.
    fn peek(&mut self, key: Key<'_>) -> Slot<'_>;

    /// The bytes of the plain string under `key`, without changing how the server keeps it; `None` when there is none.
    fn text(&mut self, key: Key<'_>) -> Option<&[u8]>;

    /// How many milliseconds are left until the server deletes `key`; `None` without expiry or key.
    fn left_ms(&mut self, key: Key<'_>) -> Option<u64>;

    /// The bytes of memory that the server counts for the key's value; 0 when it cannot tell.
    fn memory_bytes(&mut self, key: Key<'_>) -> u64;

    /// Puts `entry` under `key`, whatever was there, to be deleted by the server at `expire_at`.
    fn set(&mut self, key: Key<'_>, entry: Entry, expire_at: Option<u64>);

    /// The entry under `key`, to change its header in place; `None` when there is none.
    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>>;

    /// Sets when the server deletes `key` (`None`: never).
    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>);

    /// Removes `key`, whatever it holds; whether there was something.
    fn remove(&mut self, key: Key<'_>) -> bool;
}

/// Where a command's answer goes. Each call writes one element; containers announce their length first.
pub trait Reply {
    /// A simple string, such as `OK`.
    fn simple(&mut self, text: &str);
    /// A bulk string.
    fn bulk(&mut self, bytes: &[u8]);
    /// Nothing: `nil`.
    fn nil(&mut self);
    /// A whole number.
    fn int(&mut self, n: i64);
    /// A number with a fraction: a double in RESP3, a bulk string in RESP2.
    fn double(&mut self, x: f64);
    /// The head of an array of `len` elements.
    fn array(&mut self, len: usize);
    /// The head of a map of `len` pairs (a flat array in RESP2).
    fn map(&mut self, len: usize);
}

/// Who is calling, as far as a command may have to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The selected database.
    pub db: i32,
    /// The command comes from our primary, from an AOF or from another trusted source: obey, do not judge.
    pub trusted: bool,
    /// The command brings a slot from another node: obey, but its clock is another's.
    pub importing: bool,
    /// Another primary of the cluster passes on what its caller was allowed to say: do not ask for permission, but run it
    /// as a command of this node's own, with a stamp of its own, replicated.
    pub passed_on: bool,
}

impl Caller {
    /// Whether it may say whatever it says: it has been asked elsewhere.
    pub fn has_leave(&self) -> bool {
        self.trusted || self.passed_on
    }
}

/// What a user may do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See what it holds: `%R`.
    Read,
    /// Change or remove it: `%W`.
    Write,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Right::Read => "read",
            Right::Write => "write",
        })
    }
}

/// What is asked of the server only where it matters, since asking costs.
pub trait Server {
    /// The number of the caller's connection.
    fn client(&self) -> u64;
    /// Whether the caller may be kept waiting: not in `MULTI`, scripts and functions.
    fn may_wait(&self) -> bool;
    /// Whether this node is a replica: it grants no leases.
    fn is_replica(&self) -> bool;
    /// Whether a command that needs memory is to be refused.
    fn out_of_memory(&self) -> bool;
    /// Whether the caller's user may do this with the key, which its command does not name as one.
    fn may(&self, right: Right, key: &[u8]) -> bool;
    /// Whether the caller's user may do this with every key that begins so; `None` where the server cannot tell.
    fn may_prefix(&self, right: Right, prefix: &[u8]) -> Option<bool>;
    /// Whether the caller's user may do this with every key.
    fn may_all(&self, right: Right) -> bool;
    /// The server by its own account.
    fn server_info(&self) -> ServerInfo;
}

/// Everything a command works with.
pub struct Cx<'a, 'w> {
    /// The time of this command.
    pub now: Now,
    /// Who calls.
    pub caller: Caller,
    /// What this node knows.
    pub state: &'a mut State,
    /// The keys of the selected database.
    pub keys: &'a mut dyn Keyspace,
    /// Where the answer goes.
    pub reply: &'a mut dyn Reply,
    /// Who serves.
    pub server: &'a dyn Server,
    /// What the host is to do afterwards.
    pub effects: &'a mut Effects<'w>,
}

impl Cx<'_, '_> {
    /// The selected database, without the caller.
    pub fn node(&mut self) -> Node<'_> {
        Node { state: self.state, keys: self.keys, db: self.caller.db, now: self.now }
    }

    /// In a cluster, has the other primaries run this command as well. Only what a client says goes round: not what comes
    /// from a primary or an AOF, and not what was passed on already.
    pub fn pass_on(&mut self, how: PassOn) {
        let Caller { trusted, importing, passed_on, .. } = self.caller;
        if !(trusted || importing || passed_on) {
            self.effects.push(Effect::PassOn(how));
        }
    }
}

/// Judges the entry under one key at one moment, by what it says itself and by what was invalidated. Nothing else may say
/// what is fresh.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    invalidations: &'a Invalidations,
    db: i32,
    name: &'a [u8],
    now: Now,
}

impl<'a> Judge<'a> {
    /// By these marks.
    pub fn new(invalidations: &'a Invalidations, db: i32, name: &'a [u8], now: Now) -> Self {
        Judge { invalidations, db, name, now }
    }

    /// What an entry is good for.
    #[inline]
    pub fn freshness(&self, entry: EntryRef<'_>) -> Freshness {
        self.invalidations.freshness(self.db, self.name, entry, self.now)
    }

    /// Whether an entry is fresh.
    pub fn is_fresh(&self, entry: EntryRef<'_>) -> bool {
        matches!(self.freshness(entry), Freshness::Fresh { .. })
    }

    /// Whether its freshness was ended by somebody, and not by time.
    pub fn was_invalidated(&self, entry: EntryRef<'_>) -> bool {
        entry.stale()
            || matches!(
                self.invalidations.verdict(self.db, self.name, entry, self.now),
                invalidation::marks::Verdict::Stale(_) | invalidation::marks::Verdict::Dead
            )
    }
}

/// What one node knows beside its keys: one per server process, used on its main thread only.
pub struct State {
    /// The settings (`CONFIG SET smartcache.*`).
    pub settings: Settings,
    /// The rules, and the policies that follow from rules and settings.
    pub policies: Policies,
    /// The source of stamps.
    pub clock: Clock,
    /// Names and ids of tags.
    pub tags: invalidation::tags::Tags,
    /// Counters.
    pub stats: stats::Stats,
    /// Contexts and buffers for compression on the main thread.
    pub codecs: codec::Codecs,
    /// What is waiting to be compressed by the workers.
    pub offload: codec::offload::Offload,
    /// How well values compress, rule by rule (by id; 0 is no rule).
    pub adaptive: Vec<codec::Adaptive>,
    /// A buffer for headers that are replicated, used again.
    pub header: Vec<u8>,
    /// The source of jitter.
    pub random: random::Random,
    /// Counts of what is alive, kept by whoever makes and frees entries.
    pub live: Arc<Live>,
    /// Who loads what, and who waits for it.
    pub leases: Leases,
    /// Which loads in flight are not to be trusted, by key.
    pub tombstones: Arc<Tombstones>,
    /// The same by database.
    pub flush_epochs: FlushEpochs,
    /// What has been invalidated, and how.
    pub invalidations: Rc<Invalidations>,
    /// What is to be walked over to free what was invalidated.
    pub sweep: Sweep,
    /// The hash slots of this node, in a cluster.
    pub slots: Option<Slots>,
    /// What fills were answered lately.
    pub answered: Answered,
    /// What the server's own transactions hold that have not been executed.
    pub transactions: Transactions,
    /// When this life began, in milliseconds of the monotonic clock: at start, or with the last change of role.
    pub began_ms: u64,
    /// What seals tokens.
    pub secret: Secret,
    /// What the server allows.
    pub limits: Limits,
    /// What goes round in a cluster.
    pub bus: Bus,
    /// How the sweep has kept up lately.
    pub backlog: Backlog,
}

/// What the server's own settings allow, as far as it concerns us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `maxclients`
    pub clients: u64,
    /// `maxmemory` in bytes; 0 without limit.
    pub memory: u64,
}

/// What a parked client costs the server, at most: measured as 35 KB of `used_memory`.
const WAITER_BYTES: u64 = 36 * 1024;

impl State {
    /// How many callers may be parked: `max-waiters`, or what connections and memory allow.
    pub fn max_waiters(&self) -> u64 {
        if self.settings.max_waiters > 0 {
            return self.settings.max_waiters as u64;
        }
        let of_clients = if self.limits.clients == 0 { u64::MAX } else { self.limits.clients / 10 };
        let of_memory = if self.limits.memory == 0 { u64::MAX } else { self.limits.memory / 20 / WAITER_BYTES };
        of_clients.min(of_memory).min(1_000)
    }

    /// A database (or all, without one) was flushed: all leases of it end, and loads in flight are not trusted. Gives the
    /// keys that somebody waits for: they are to be settled.
    pub fn flushed(&mut self, db: Option<i32>, now: Now) -> Vec<(i32, Arc<[u8]>)> {
        self.invalidations.flushed(db);
        self.sweep.flushed(db);
        self.void_all_loads(db, now)
    }

    /// The keys of a database (or of all) are not those that loads in flight were begun for: all leases of it end, and
    /// those loads are not trusted. Gives the keys that somebody waits for: they are to be settled.
    pub fn void_all_loads(&mut self, db: Option<i32>, now: Now) -> Vec<(i32, Arc<[u8]>)> {
        let stamp = self.clock.stamp(now);
        self.flush_epochs.raise(db, stamp);
        self.stats.miss_reasons.flushed();
        self.leases.void(db, &mut self.stats.at(now))
    }

    /// Two databases have exchanged their keys, and with them what is to be swept.
    pub fn swapped(&mut self, a: i32, b: i32) {
        self.invalidations.swap(a, b);
        self.sweep.swapped(a, b);
    }

    /// The role has changed, or another reason why nothing that is in flight may be trusted: all leases end, whoever waits
    /// is told to ask again, and tokens given so far are worth nothing.
    pub fn reset_leases(&mut self, secret: [u8; 16], now: Now) {
        self.secret = Secret::new(secret);
        self.began_ms = now.mono_ms();
        self.answered = Answered::default();
        let mut tally = self.stats.at(now);
        self.leases.void(None, &mut tally);
        for id in self.leases.all_waiters() {
            self.leases.reject_waiter(id, &mut tally);
        }
    }
}

impl State {
    /// The wall clock was more than a day ahead for a while and has been put right: stamps begin anew. What was stored
    /// meanwhile is dead, since no invalidation to come could reach it; what had been invalidated stays so; loads in flight
    /// are not trusted.
    pub fn start_epoch(&mut self, secret: [u8; 16], now: Now) {
        self.clock.start_epoch(now);
        let stamp = self.clock.stamp(now);
        self.reset_leases(secret, now);
        self.flush_epochs.reset(stamp);
        self.tombstones.reset();
        if let Some(slots) = &mut self.slots {
            slots.reset(stamp);
        }
        for db in self.invalidations.start_epoch(stamp) {
            self.sweep.ask(db, invalidation::sweep::Walk::Keys, 0);
        }
    }

    /// The state of a node that starts at `now`, with default settings. The random bytes must be new for each life.
    pub fn new(
        now: Now,
        random: [u8; 16],
        live: Arc<Live>,
        tombstones: Arc<Tombstones>,
        miss_reasons: Arc<MissReasons>,
        invalidations: Rc<Invalidations>,
    ) -> Self {
        let settings = Settings::default();
        let seed = u128::from_le_bytes(random);
        State {
            policies: Policies::new(&settings),
            settings,
            clock: Clock::default(),
            tags: invalidation::tags::Tags::new(live.clone()),
            stats: stats::Stats::new(now, (seed >> 32) as u64, miss_reasons),
            codecs: codec::Codecs::new(),
            offload: codec::offload::Offload::default(),
            adaptive: Vec::new(),
            header: Vec::new(),
            random: random::Random::new((seed ^ seed >> 64) as u64),
            live,
            leases: Leases::default(),
            tombstones,
            flush_epochs: FlushEpochs::default(),
            invalidations,
            sweep: Sweep::default(),
            slots: None,
            answered: Answered::default(),
            transactions: Transactions::default(),
            began_ms: now.mono_ms(),
            secret: Secret::new(random),
            limits: Limits::default(),
            bus: Bus::new((seed >> 64) as u64),
            backlog: Backlog::default(),
        }
    }
}
