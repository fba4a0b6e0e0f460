//! What a diagnosis rests on, and its result.

use super::backlog::Growth;
use super::reasons::Reason;
use crate::cache::ports::ServerInfo;
use crate::cache::rules::{Origin, Policy, Rule};
use crate::cache::stats::Counters;
use crate::cache::stats::window::Window;
use crate::config::Settings;

/// Over which everything is judged that happens.
pub const HEALTH_WINDOW: Window = Window::FiveMinutes;

/// How things are.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is wrong; nothing when all is well.
    pub reasons: Vec<Reason>,
    /// Percent of requests answered without a load, over five minutes; 0 for no requests.
    pub hit_rate: f64,
    /// Percent of our commands answered with an error, over five minutes.
    pub error_rate: f64,
    /// Keys evicted a second, over the last minute.
    pub evicted_per_sec: f64,
    /// Since the module was loaded.
    pub uptime_ms: u64,
    /// The server.
    pub server_info: ServerInfo,
}

impl Health {
    /// In one word.
    pub fn status(&self) -> &'static str {
        if self.reasons.is_empty() { "ok" } else { "warn" }
    }

    /// Whether this reason is among those that are given.
    pub fn has_reason(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

/// What a judgement rests on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The server.
    pub server_info: &'a ServerInfo,
    /// This node is a replica.
    pub replica: bool,
    /// The settings.
    pub settings: &'a Settings,
    /// What the node has counted over five minutes.
    pub recent: Counters,
    /// The same rule by rule.
    pub rules: Vec<RuleFacts<'a>>,
    /// Panics since start or reset.
    pub panics: u64,
    /// How the backlog of the sweep grows, when it only grows.
    pub backlog: Option<Growth>,
    /// Since the module was loaded.
    pub uptime_ms: u64,
}

/// What is known of a rule, or of the keys without one.
#[derive(Debug)]
pub struct RuleFacts<'a> {
    /// Which; `None` for the keys without.
    pub rule: Option<&'a Rule>,
    /// What it decides.
    pub policy: &'a Policy,
    /// What it has counted over five minutes.
    pub recent: Counters,
    /// How many keys it could have matched of which it matched none, and in how many milliseconds.
    pub unmatched: Option<(u64, u64)>,
    /// Its values never shrink, and it has stored some recent.
    pub incompressible: bool,
}

impl RuleFacts<'_> {
    /// At the head of a sentence.
    pub(super) fn title(&self) -> String {
        self.rule.map_or_else(|| "Keys without a rule".into(), |rule| format!("Rule '{}'", rule.name()))
    }

    /// Inside of one.
    pub(super) fn name(&self) -> String {
        self.rule.map_or_else(|| "keys without a rule".into(), |rule| format!("rule '{}'", rule.name()))
    }

    /// How long the loads took that came home in time, on average.
    pub(super) fn load_ms(&self) -> Option<u64> {
        self.recent.origin_ms.checked_div(self.recent.fills + self.recent.fills_stale + self.recent.fills_lost)
    }

    /// How to have it otherwise. RULE SET replaces the rule whole: the dots stand for its other words.
    pub(super) fn remedy(&self, word: &str, value: &str, setting: &str) -> String {
        match self.rule.map(|rule| (rule, rule.origin())) {
            Some((rule, Origin::Commanded)) => format!("SMARTCACHE.RULE SET {} ... {word} {value}", rule.name()),
            Some((_, Origin::Configured)) => format!("{word} {value} for it in smartcache.rules"),
            None => format!("CONFIG SET smartcache.{setting} {value}"),
        }
    }
}
