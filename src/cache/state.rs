//! The state of a node beside its keys: one field per subject.

use std::rc::Rc;
use std::sync::Arc;

use super::clock::{Clock, Now};
use super::cluster::bus::Bus;
use super::codec::offload::Offload;
use super::codec::{Adaptive, Codecs};
use super::invalidation::marks::Invalidations;
use super::invalidation::sweep::Sweep;
use super::invalidation::tags::Tags;
use super::lease::fill::{Answered, FlushEpochs};
use super::lease::native_commands::Transactions;
use super::lease::slots::Slots;
use super::lease::table::Leases;
use super::lease::token::Secret;
use super::lease::tombstones::Tombstones;
use super::random::Random;
use super::rules::Policies;
use super::stats::Stats;
use super::stats::health::{Backlog, Guarded};
use super::stats::live::Live;
use super::stats::miss_reasons::MissReasons;
use super::unmodified::Retiring;
use super::unmodified::commands::Commands;
use super::unmodified::loads::NilLoads;
use crate::config::Settings;

/// The state of a node beside its keys: one per server process, used on its main thread only.
pub struct State {
    /// The settings (`CONFIG SET smartcache.*`).
    pub settings: Settings,
    /// The rules, and the policies that follow from rules and settings.
    pub policies: Policies,
    /// The source of stamps.
    pub clock: Clock,
    /// Names and ids of tags.
    pub tags: Tags,
    /// The counters.
    pub stats: Stats,
    /// Contexts and buffers for compression on the main thread.
    pub codecs: Codecs,
    /// Values that wait to be compressed by the workers.
    pub offload: Offload,
    /// How well values compress, by rule id; 0 is no rule.
    pub adaptive: Vec<Adaptive>,
    /// A buffer for replicated headers, reused.
    pub header: Vec<u8>,
    /// The source of jitter.
    pub random: Random,
    /// Counts of the entries in memory, updated where entries are allocated and freed.
    pub live: Arc<Live>,
    /// Leases and waiters.
    pub leases: Leases,
    /// Loads in flight that are not trusted, by key.
    pub tombstones: Arc<Tombstones>,
    /// Loads in flight that are not trusted, by database.
    pub flush_epochs: FlushEpochs,
    /// Invalidation marks and the tag index.
    pub invalidations: Rc<Invalidations>,
    /// The pending walks that free dead entries.
    pub sweep: Sweep,
    /// The hash slots of this node, in a cluster.
    pub slots: Option<Slots>,
    /// The latest replies to fills, so that a repeated fill gets the same one.
    pub answered: Answered,
    /// Native commands queued in the server's transactions.
    pub transactions: Transactions,
    /// The start or the last change of role, in milliseconds of the monotonic clock: loads before it are not trusted.
    pub began_ms: u64,
    /// The key that seals tokens.
    pub secret: Secret,
    /// Limits from the server's settings.
    pub limits: Limits,
    /// Commands passed on between the primaries of a cluster.
    pub bus: Bus,
    /// The course of the sweep's backlog.
    pub backlog: Backlog,
    /// The server's own commands, as they are served under NATIVE rules.
    pub commands: Commands,
    /// Loads of unmodified clients.
    pub nil_loads: NilLoads,
    /// The walks that turn the entries of former NATIVE rules into plain strings.
    pub retiring: Retiring,
    /// What is loaded beside all this, to take its place.
    pub beside: Option<Box<Beside>>,
    /// The guard that refused a fill last.
    pub guarded: Option<Guarded>,
}

/// What belongs to a data set that is loaded beside the one that is served ([`State::begin_load_beside`]).
#[derive(Debug)]
pub struct Beside {
    /// Its rules.
    pub policies: Policies,
    /// Its marks and tag index.
    pub invalidations: Rc<Invalidations>,
    /// Counts of its entries, which [`State::live`] counts, too.
    pub live: Arc<Live>,
}

/// Limits from the server's own settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `maxclients`; 0 when unknown.
    pub clients: u64,
    /// `maxmemory` in bytes; 0 without a limit.
    pub memory: u64,
}

impl State {
    /// The state of a node that starts at `now`, with default settings. The random bytes must be new at every start.
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
            policies: Policies::new(settings.policy(), &settings.rules),
            settings,
            clock: Clock::default(),
            tags: Tags::new(live.clone()),
            stats: Stats::new(now, (seed >> 32) as u64, miss_reasons),
            codecs: Codecs::new(),
            offload: Offload::default(),
            adaptive: Vec::new(),
            header: Vec::new(),
            random: Random::new((seed ^ seed >> 64) as u64),
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
            commands: Commands::default(),
            nil_loads: NilLoads::default(),
            retiring: Retiring::default(),
            beside: None,
            guarded: None,
        }
    }
}
