//! One caller of the key, and the record of a run.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::support::server::Result;

/// What the callers of a run read and load.
#[derive(Clone)]
pub(crate) struct Workload {
    /// The record in the origin.
    pub(crate) record: Vec<u8>,
    pub(crate) load: Duration,
    /// Whole seconds, as memcached requires.
    pub(crate) ttl: u64,
    /// A run ends after this time even if callers still wait.
    pub(crate) limit: Duration,
}

/// The record of a run; `callers.py` prints the same as JSON. Times are seconds since the start of the run.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When each load began.
    pub(crate) loads: Vec<f64>,
    /// When each store was sent; unknown for the libraries.
    #[serde(default)]
    pub(crate) stores: Vec<f64>,
    pub(crate) answers: Vec<Answer>,
    /// Callers that had no answer when the run ended.
    pub(crate) unanswered: usize,
    /// The first error of a caller.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// CPU seconds of the clients, where these are other processes.
    #[serde(default)]
    pub(crate) client_seconds: Option<f64>,
}

impl Run {
    /// Adds the record of other callers in the same run.
    pub(crate) fn add(&mut self, other: Run) {
        self.loads.extend(other.loads);
        self.stores.extend(other.stores);
        self.answers.extend(other.answers);
        self.unanswered += other.unanswered;
        self.error = self.error.take().or(other.error);
        self.client_seconds = Some(self.client_seconds.unwrap_or(0.0) + other.client_seconds.unwrap_or(0.0));
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// When it arrived.
    pub(crate) at: f64,
    /// How long the caller had waited for it.
    pub(crate) micros: u64,
    pub(crate) outcome: Outcome,
}

/// A caller during one read.
pub(crate) struct Caller {
    state: Rc<RunState>,
    asked: Instant,
    answered: bool,
}

pub(crate) struct RunState {
    pub(crate) workload: Workload,
    pub(crate) began: Cell<Instant>,
    pub(crate) run: RefCell<Run>,
}

impl RunState {
    fn elapsed(&self) -> f64 {
        self.began.get().elapsed().as_secs_f64()
    }
}

impl Caller {
    pub(crate) fn new(state: &Rc<RunState>, asked: Instant) -> Caller {
        Caller { state: state.clone(), asked, answered: false }
    }

    /// Loads the record from the origin.
    pub(crate) async fn load(&self) -> Vec<u8> {
        let at = self.state.elapsed();
        self.state.run.borrow_mut().loads.push(at);
        sleep(self.state.workload.load).await;
        self.state.workload.record.clone()
    }

    /// Records that the caller has a value. Only the first answer of a read counts.
    pub(crate) fn record_answer(&mut self, value: Vec<u8>, outcome: Outcome) -> Result<()> {
        if value != self.state.workload.record {
            return Err("a value does not read back as it was stored".into());
        }
        if !self.answered {
            self.answered = true;
            let micros = self.asked.elapsed().as_micros() as u64;
            let at = self.state.elapsed();
            self.state.run.borrow_mut().answers.push(Answer { at, micros, outcome });
        }
        Ok(())
    }

    /// Records that the caller is about to store.
    pub(crate) fn record_store(&self) {
        let at = self.state.elapsed();
        self.state.run.borrow_mut().stores.push(at);
    }

    pub(crate) fn ttl(&self) -> String {
        self.state.workload.ttl.to_string()
    }

    pub(crate) fn waited(&self) -> Duration {
        self.asked.elapsed()
    }

    /// A unique token for a lock.
    pub(crate) fn token(&self) -> Vec<u8> {
        format!("{:032x}", rand::rng().random::<u128>()).into_bytes()
    }
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Fresh,
    Stale,
    /// The caller loaded, and had no value before.
    Loaded,
}
