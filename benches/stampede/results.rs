//! The results.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use crate::{
    approaches::Approach,
    caller::Run,
    support::{report, text::thousands, watch::Stalls},
};

/// All results, and what could not be measured.
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
    /// Seconds after which a waiting caller counts as unanswered.
    pub(crate) limit: u64,
}

/// What could not be measured, and why.
pub(crate) struct NotRun {
    pub(crate) approach: Approach,
    /// `None`: at expiry.
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

/// The result of one run.
pub(crate) struct Measured {
    pub(crate) run: Run,
    /// As counted by the server.
    pub(crate) commands: BTreeMap<String, u64>,
    pub(crate) server_ms: f64,
    pub(crate) client_ms: f64,
    pub(crate) seconds: f64,
    /// At expiry: for how long readers read.
    pub(crate) window: f64,
}

pub(crate) const WATCHED_CALLERS: usize = 1_000;

/// One round of the closely monitored scenario.
pub(crate) struct Watched {
    pub(crate) loads: u64,
    pub(crate) getlocks: u64,
    pub(crate) sets: u64,
    pub(crate) unanswered: usize,
    /// From sending the store until the last caller had its answer.
    pub(crate) last_after_store_ms: f64,
    /// Of the idle server.
    pub(crate) rest: Stalls,
    /// While all requests arrive. One event loop iteration handles all of them, so it grows with their number.
    pub(crate) asked: Stalls,
    /// While the value is stored and all callers are answered.
    pub(crate) answered: Stalls,
    /// While as many plain `GET` arrive, for comparison.
    pub(crate) gets: Stalls,
}
