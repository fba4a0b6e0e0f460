//! What was measured.

use crate::{
    approaches::Approach,
    support::{report, text::thousands, watch::Stops},
};

/// Everything that was measured, or not.
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
    /// With any number of keys.
    pub(crate) always: bool,
    pub(crate) why: String,
}

impl NotRun {
    /// Says so at once, too.
    pub(crate) fn said(approach: Approach, keys: usize, always: bool, why: String) -> NotRun {
        let not_run = NotRun { approach, keys, always, why };
        eprintln!("bench: NOT RUN: {}", not_run.text());
        not_run
    }

    pub(crate) fn text(&self) -> String {
        let name = self.approach.name();
        match self.always {
            true => format!("{name}: the loaded module cannot do it: {}", self.why),
            false => format!("{name}, {} keys: {}", thousands(self.keys), self.why),
        }
    }
}

/// All rounds of one approach with so many keys.
pub(crate) struct Row {
    pub(crate) approach: Approach,
    pub(crate) keys: usize,
    pub(crate) rounds: Vec<Measured>,
}

/// What a run took. Times are from sending the first command.
pub(crate) struct Measured {
    pub(crate) reply_ms: f64,
    pub(crate) gone_ms: f64,
    /// Looks that began after the reply and found something fresh.
    pub(crate) late: usize,
    /// `None`: it did not come to rest while we looked.
    pub(crate) back_ms: Option<f64>,
    /// What went, as a part of what the group had taken.
    pub(crate) given_back: f64,
    pub(crate) memory_per_key: f64,
    pub(crate) commands: u64,
    pub(crate) sent: u64,
    /// The server with its keys, before.
    pub(crate) rest: Stops,
    pub(crate) stops: Stops,
}

/// `GET` of entries with four tags, beside entries without.
pub(crate) struct Reads {
    pub(crate) pipeline: usize,
    /// Whether another tag was invalidated after they were stored.
    pub(crate) after: bool,
    /// Microseconds of the server's main thread a command, without tags and with.
    pub(crate) without: Vec<f64>,
    pub(crate) with: Vec<f64>,
    /// Each sample with tags, beside the mean of the samples without around it.
    pub(crate) ratios: Vec<f64>,
}

/// `INVALIDATE TAGS` of one tag with so many members.
pub(crate) struct Tags {
    pub(crate) keys: usize,
    pub(crate) reply_ms: Vec<f64>,
    /// Bytes a (entry, tag) beyond the key's length, for entries with so many tags each.
    pub(crate) memory: Vec<(usize, f64)>,
}
