//! What one node knows beside its keys: one field a subject.

use std::rc::Rc;
use std::sync::Arc;

use super::clock::{Clock, Now};
use super::cluster::bus::Bus;
use super::codec;
use super::invalidation::marks::Invalidations;
use super::invalidation::sweep::Sweep;
use super::invalidation::tags;
use super::lease::fill::{Answered, FlushEpochs};
use super::lease::native_commands::Transactions;
use super::lease::slots::Slots;
use super::lease::table::Leases;
use super::lease::token::Secret;
use super::lease::tombstones::Tombstones;
use super::random;
use super::rules::Policies;
use super::stats;
use super::stats::health::Backlog;
use super::stats::live::Live;
use super::stats::miss_reasons::MissReasons;
use crate::config::Settings;

/// What one node knows beside its keys: one per server process, used on its main thread only.
pub struct State {
    /// The settings (`CONFIG SET smartcache.*`).
    pub settings: Settings,
    /// The rules, and the policies that follow from rules and settings.
    pub policies: Policies,
    /// The source of stamps.
    pub clock: Clock,
    /// Names and ids of tags.
    pub tags: tags::Tags,
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

impl State {
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
            tags: tags::Tags::new(live.clone()),
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
