//! The facts that a diagnosis needs, and its result.

use super::backlog::Growth;
use super::reasons::Reason;
use crate::cache::ports::ServerInfo;
use crate::cache::rules::{Origin, Policy, Rule};
use crate::cache::stats::Counters;
use crate::cache::stats::window::Window;
use crate::config::Settings;

/// The time over which everything that is counted is judged.
pub const HEALTH_WINDOW: Window = Window::FiveMinutes;

/// The health of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is wrong; empty when all is well.
    pub reasons: Vec<Reason>,
    /// Percentage of requests answered without a load, over five minutes; 0 without requests.
    pub hit_rate: f64,
    /// Percentage of SmartCache commands answered with an error, over five minutes.
    pub error_rate: f64,
    /// Evicted keys per second, over the last minute.
    pub evicted_per_sec: f64,
    /// Milliseconds since the module was loaded.
    pub uptime_ms: u64,
    /// What the server reports about itself.
    pub server_info: ServerInfo,
}

impl Health {
    /// `ok` or `warn`.
    pub fn status(&self) -> &'static str {
        if self.reasons.is_empty() { "ok" } else { "warn" }
    }

    /// Whether this code is among the reasons.
    pub fn has_reason(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

/// Everything that a diagnosis needs.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What the server reports about itself.
    pub server_info: &'a ServerInfo,
    /// Whether this node is a replica.
    pub replica: bool,
    /// The settings.
    pub settings: &'a Settings,
    /// The counters of the node over [`HEALTH_WINDOW`].
    pub recent: Counters,
    /// The facts of each rule, and of the keys without one.
    pub rules: Vec<RuleFacts<'a>>,
    /// The last user to whom a lease or a wait was refused because of its share.
    pub refused_user: Option<&'a str>,
    /// Panics since start or `RESETSTAT`.
    pub panics: u64,
    /// How much the sweep's backlog grew, if it only grew.
    pub backlog: Option<Growth>,
    /// The guard that refused a fill last, if it still stands.
    pub guarded: Option<&'a Guarded>,
    /// The bytes of marks that no entry accounts for, and their limit; 0 without one.
    pub mark_bytes: (u64, u64),
    /// The time, in milliseconds of the monotonic clock.
    pub mono_ms: u64,
    /// Milliseconds since the module was loaded.
    pub uptime_ms: u64,
}

/// A guard that refused a fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// What it is of, in the words of `INVALIDATE`.
    pub what: String,
    /// The database.
    pub db: i32,
    /// Its end, in milliseconds of the monotonic clock.
    pub until_ms: u64,
}

/// The facts of one rule, or of the keys without one.
#[derive(Debug)]
pub struct RuleFacts<'a> {
    /// The rule; `None` for the keys without one.
    pub rule: Option<&'a Rule>,
    /// The policy that follows from it.
    pub policy: &'a Policy,
    /// Its counters over [`HEALTH_WINDOW`].
    pub recent: Counters,
    /// If it matched no key: how many keys it could have matched, and in how many milliseconds.
    pub unmatched: Option<(u64, u64)>,
    /// Whether its values never shrink, and it has stored some lately.
    pub incompressible: bool,
}

impl RuleFacts<'_> {
    /// Its name at the start of a sentence.
    pub(super) fn title(&self) -> String {
        self.rule.map_or_else(|| "Keys without a rule".into(), |rule| format!("Rule '{}'", rule.name()))
    }

    /// Its name inside a sentence.
    pub(super) fn name(&self) -> String {
        self.rule.map_or_else(|| "keys without a rule".into(), |rule| format!("rule '{}'", rule.name()))
    }

    /// The average time of loads whose fill arrived in time.
    pub(super) fn load_ms(&self) -> Option<u64> {
        self.recent.origin_ms.checked_div(self.recent.fills + self.recent.fills_stale + self.recent.fills_lost)
    }

    /// The command or setting that changes an option. `RULE SET` replaces the whole rule: the dots stand for its other
    /// options.
    pub(super) fn remedy(&self, option: &str, value: &str, setting: &str) -> String {
        match self.rule.map(|rule| (rule, rule.origin())) {
            Some((rule, Origin::Commanded)) => format!("SMARTCACHE.RULE SET {} ... {option} {value}", rule.name()),
            Some((_, Origin::Configured)) => format!("{option} {value} for this rule in smartcache.rules"),
            None => format!("CONFIG SET smartcache.{setting} {value}"),
        }
    }
}
