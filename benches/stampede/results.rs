//! What was measured.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use crate::{
    approaches::Approach,
    caller::Run,
    support::{report, text::thousands, watch::Stops},
};

/// Everything that was measured, or not.
#[derive(Default)]
pub(crate) struct All {
    pub(crate) cold: Vec<Row>,
    pub(crate) expiry: Vec<Row>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) not_run: Vec<NotRun>,
}

/// Where and how it was measured.
pub(crate) struct Facts {
    pub(crate) common: report::Facts,
    pub(crate) memcached: String,
    pub(crate) python: String,
    /// Seconds, at expiry.
    pub(crate) ttl: u64,
    /// Seconds, after which whoever waits is unanswered.
    pub(crate) limit: u64,
}

/// What could not be measured, and why.
pub(crate) struct NotRun {
    pub(crate) approach: Approach,
    /// Of a cold key; `None`: at expiry.
    pub(crate) callers: Option<usize>,
    pub(crate) why: String,
}

impl Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = self.approach.name();
        match self.callers {
            Some(callers) => write!(f, "{name}, {} callers of a cold key: {}", thousands(callers), self.why),
            None => write!(f, "{name}, at expiry: {}", self.why),
        }
    }
}

/// All rounds of one approach in one scenario.
pub(crate) struct Row {
    pub(crate) approach: Approach,
    pub(crate) callers: usize,
    pub(crate) rounds: Vec<Measured>,
}

/// What a run took.
pub(crate) struct Measured {
    pub(crate) run: Run,
    /// By the server's own count.
    pub(crate) commands: BTreeMap<String, u64>,
    pub(crate) server_ms: f64,
    pub(crate) client_ms: f64,
    pub(crate) seconds: f64,
    /// For how long readers asked, at expiry.
    pub(crate) window: f64,
}

pub(crate) const WATCHED_CALLERS: usize = 1_000;

/// One round.
pub(crate) struct Watched {
    pub(crate) loads: u64,
    pub(crate) getlocks: u64,
    pub(crate) sets: u64,
    pub(crate) unanswered: usize,
    /// From the moment the store was sent until the last caller had its answer.
    pub(crate) last_after_store_ms: f64,
    /// The server at rest.
    pub(crate) rest: Stops,
    /// While all ask. One event loop takes all that has arrived, so this grows with the callers whatever they ask.
    pub(crate) asked: Stops,
    /// While it is stored and all are answered.
    pub(crate) answered: Stops,
    /// While as many ask with a plain `GET`, for comparison.
    pub(crate) gets: Stops,
}
