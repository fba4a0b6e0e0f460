//! One caller: what it may do in a run, and what becomes of each of its reads.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::support::server::Result;

/// What all runs of a bench have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    /// The record that the origin has.
    pub(crate) record: Vec<u8>,
    pub(crate) load: Duration,
    /// Whole seconds: memcached knows no others.
    pub(crate) ttl: u64,
    /// After this a run is over, whoever still waits.
    pub(crate) limit: Duration,
}

/// What came of a run; `callers.py` prints the same as JSON. Moments are seconds since the run's start.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When each load began.
    pub(crate) loads: Vec<f64>,
    /// When each store was sent (our own client knows; a library does not say).
    #[serde(default)]
    pub(crate) stores: Vec<f64>,
    pub(crate) answers: Vec<Answer>,
    /// Callers that had no answer when the run ended.
    pub(crate) unanswered: usize,
    /// The first complaint of those that failed.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// CPU time of the clients, in seconds, where they are a process of their own.
    #[serde(default)]
    pub(crate) client_seconds: Option<f64>,
}

impl Run {
    /// Adds what came of other callers in the same run.
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
    /// When it came.
    pub(crate) at: f64,
    /// How long the caller had waited for it.
    pub(crate) micros: u64,
    pub(crate) got: Got,
}

/// One read, from the caller's side.
pub(crate) struct Caller {
    world: Rc<World>,
    asked: Instant,
    answered: bool,
}

pub(crate) struct World {
    pub(crate) terms: Terms,
    pub(crate) began: Cell<Instant>,
    pub(crate) run: RefCell<Run>,
}

impl World {
    fn moment(&self) -> f64 {
        self.began.get().elapsed().as_secs_f64()
    }
}

impl Caller {
    pub(crate) fn new(world: &Rc<World>, asked: Instant) -> Caller {
        Caller { world: world.clone(), asked, answered: false }
    }

    /// The origin: slow, and the same for all.
    pub(crate) async fn load(&self) -> Vec<u8> {
        let moment = self.world.moment();
        self.world.run.borrow_mut().loads.push(moment);
        sleep(self.world.terms.load).await;
        self.world.terms.record.clone()
    }

    /// The caller has something to go on with. Only the first answer counts.
    pub(crate) fn answer(&mut self, value: Vec<u8>, got: Got) -> Result<()> {
        if value != self.world.terms.record {
            return Err("a value does not read back as it was stored".into());
        }
        if !self.answered {
            self.answered = true;
            let micros = self.asked.elapsed().as_micros() as u64;
            let at = self.world.moment();
            self.world.run.borrow_mut().answers.push(Answer { at, micros, got });
        }
        Ok(())
    }

    /// The caller is about to send what it loaded.
    pub(crate) fn stores(&self) {
        let moment = self.world.moment();
        self.world.run.borrow_mut().stores.push(moment);
    }

    pub(crate) fn ttl(&self) -> String {
        self.world.terms.ttl.to_string()
    }

    pub(crate) fn waited(&self) -> Duration {
        self.asked.elapsed()
    }

    /// A name for a lock that nobody else has.
    pub(crate) fn token(&self) -> Vec<u8> {
        format!("{:032x}", rand::rng().random::<u128>()).into_bytes()
    }
}

/// What a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Got {
    Fresh,
    Stale,
    /// It loaded, and had nothing before it had done so.
    Loaded,
}
