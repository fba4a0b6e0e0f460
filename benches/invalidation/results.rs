//! The results.

use crate::{
    approaches::Approach,
    support::{report, text::thousands, watch::Stalls},
};

/// All results, and what could not be measured.
#[derive(Default)]
pub(crate) struct All {
    pub(crate) rows: Vec<Row>,
    pub(crate) reads: Vec<Reads>,
    pub(crate) tags: Vec<Tags>,
    pub(crate) not_run: Vec<NotRun>,
}

/// Where and how it was measured.
pub(crate) struct Facts {
    pub(crate) common: report::Facts,
    pub(crate) share: f64,
    /// Bytes.
    pub(crate) value: usize,
    pub(crate) settings: Vec<String>,
}

/// What could not be measured, and why.
pub(crate) struct NotRun {
    pub(crate) approach: Approach,
    pub(crate) keys: usize,
    /// True for every number of keys.
    pub(crate) always: bool,
    pub(crate) why: String,
}

impl NotRun {
    /// Also reports it on standard error at once.
    pub(crate) fn report(approach: Approach, keys: usize, always: bool, why: String) -> NotRun {
        let not_run = NotRun { approach, keys, always, why };
        eprintln!("bench: NOT RUN: {}", not_run.text());
        not_run
    }

    pub(crate) fn text(&self) -> String {
        let name = self.approach.name();
        match self.always {
            true => format!("{name}: the loaded module does not support it: {}", self.why),
            false => format!("{name}, {} keys: {}", thousands(self.keys), self.why),
        }
    }
}

/// All rounds of one approach with this number of keys.
pub(crate) struct Row {
    pub(crate) approach: Approach,
    pub(crate) keys: usize,
    pub(crate) rounds: Vec<Measured>,
}

/// The result of one run. Times count from sending the first command.
pub(crate) struct Measured {
    pub(crate) reply_ms: f64,
    pub(crate) effective_ms: f64,
    /// Probes sent after the reply that found a fresh key.
    pub(crate) late: usize,
    /// `None`: `used_memory` still changed when the time limit was reached.
    pub(crate) freed_ms: Option<f64>,
    /// The freed memory as a share of what the group had occupied.
    pub(crate) freed_share: f64,
    pub(crate) memory_per_key: f64,
    pub(crate) commands: u64,
    pub(crate) sent: u64,
    /// With all keys stored, before the invalidation.
    pub(crate) rest: Stalls,
    pub(crate) stalls: Stalls,
}

/// `GET` of entries with four tags, compared with entries without.
pub(crate) struct Reads {
    pub(crate) pipeline: usize,
    /// Whether another tag was invalidated after the entries were stored.
    pub(crate) after: bool,
    /// CPU microseconds of the server's main thread per command.
    pub(crate) without: Vec<f64>,
    pub(crate) with: Vec<f64>,
    /// Each sample with tags, divided by the mean of the samples without tags around it.
    pub(crate) ratios: Vec<f64>,
}

/// `INVALIDATE TAGS` of one tag with this number of members.
pub(crate) struct Tags {
    pub(crate) keys: usize,
    pub(crate) reply_ms: Vec<f64>,
    /// By number of tags per entry: bytes per (entry, tag) beyond the key's length.
    pub(crate) memory: Vec<(usize, f64)>,
}
