//! The callers: thousands of tasks on one thread, each with a connection of its own, and what became of each read.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinHandle, LocalSet, spawn_local},
    time::{sleep, sleep_until, timeout},
};

use crate::{
    approaches::{Approach, Got, KEY},
    support::server::{self, Result},
    wire::Con,
};

/// What is done to one fresh server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scenario {
    /// So many callers ask for a key that is not there, at once.
    Cold { callers: usize },
    /// So many readers, each once a second, evenly apart, for so long; the key is there at first.
    Expiry { readers: usize, seconds: f64 },
}

impl Scenario {
    pub(crate) fn callers(self) -> usize {
        match self {
            Scenario::Cold { callers: n } | Scenario::Expiry { readers: n, .. } => n,
        }
    }
}

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

struct World {
    terms: Terms,
    began: Cell<Instant>,
    run: RefCell<Run>,
}

impl World {
    fn moment(&self) -> f64 {
        self.began.get().elapsed().as_secs_f64()
    }
}

impl Caller {
    fn new(world: &Rc<World>, asked: Instant) -> Caller {
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

/// A scenario made ready: all connections are open, and nothing was asked yet.
pub(crate) struct Ready {
    runtime: Runtime,
    cons: Vec<Con>,
    socket: std::path::PathBuf,
}

impl Ready {
    pub(crate) fn new(scenario: Scenario, socket: &Path) -> Result<Ready> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let cons = {
            let _inside = runtime.enter();
            (0..scenario.callers()).map(|_| Con::open(socket)).collect::<Result<_>>()?
        };
        Ok(Ready { runtime, cons, socket: socket.to_owned() })
    }

    /// Fills the key, as a first reader would: with a load as long as the others, for a server may remember how long.
    pub(crate) fn fill(&mut self, approach: Approach, terms: &Terms) -> Result<()> {
        let world = Rc::new(World { terms: terms.clone(), began: Cell::new(Instant::now()), run: RefCell::default() });
        let con = self.cons.last_mut().ok_or("no connection")?;
        self.runtime.block_on(approach.read(con, &mut Caller::new(&world, Instant::now())))
    }

    pub(crate) fn run(self, approach: Approach, scenario: Scenario, terms: &Terms) -> Result<Run> {
        let began = Cell::new(Instant::now());
        let world = Rc::new(World { terms: terms.clone(), began, run: RefCell::default() });
        let (cons, socket) = (self.cons, self.socket);
        let limit = match scenario {
            Scenario::Cold { .. } => terms.limit,
            Scenario::Expiry { seconds, .. } => terms.limit + Duration::from_secs_f64(seconds),
        };
        let left = self.runtime.block_on(LocalSet::new().run_until(async {
            world.began.set(Instant::now());
            let tasks: Vec<JoinHandle<Result<usize>>> = match scenario {
                Scenario::Cold { .. } => {
                    cons.into_iter().map(|con| spawn_local(ask_once(approach, con, world.clone()))).collect()
                }
                Scenario::Expiry { readers, seconds } => {
                    if approach == Approach::MemcachedStale {
                        spawn_local(age(Con::open(&socket)?, terms.ttl));
                    }
                    let each = |(n, con)| spawn_local(ask_often(approach, con, world.clone(), n, readers, seconds));
                    cons.into_iter().enumerate().map(each).collect()
                }
            };
            finish(tasks, limit, &world).await
        }))?;
        let mut run = world.run.take();
        run.unanswered = left;
        Ok(run)
    }
}

/// Waits for all callers, but not for ever; how many reads have no answer.
async fn finish(tasks: Vec<JoinHandle<Result<usize>>>, limit: Duration, world: &World) -> Result<usize> {
    let mut left = 0;
    for mut task in tasks {
        let patience = limit.saturating_sub(world.began.get().elapsed());
        // In slices, so that Ctrl-C is heard.
        let mut waited = Duration::ZERO;
        loop {
            if server::interrupted() {
                return Err("interrupted".into());
            }
            match timeout(Duration::from_millis(100), &mut task).await {
                Ok(ended) => {
                    left += ended?.unwrap_or_else(|error| {
                        world.run.borrow_mut().error.get_or_insert(error.to_string());
                        1
                    });
                    break;
                }
                Err(_) if waited >= patience => {
                    task.abort();
                    left += 1;
                    break;
                }
                Err(_) => waited += Duration::from_millis(100),
            }
        }
    }
    Ok(left)
}

async fn ask_once(approach: Approach, mut con: Con, world: Rc<World>) -> Result<usize> {
    approach.read(&mut con, &mut Caller::new(&world, Instant::now())).await?;
    Ok(0)
}

/// Asks once a second, at this reader's place in the second. Who is late because the last answer was counts from when
/// it should have asked.
async fn ask_often(
    approach: Approach,
    mut con: Con,
    world: Rc<World>,
    place: usize,
    readers: usize,
    seconds: f64,
) -> Result<usize> {
    let began = world.began.get();
    let mut at = place as f64 / readers as f64;
    while at < seconds {
        let due = began + Duration::from_secs_f64(at);
        let late = Instant::now() > due;
        if !late {
            sleep_until(due.into()).await;
        }
        let asked = if late { due } else { Instant::now() };
        approach.read(&mut con, &mut Caller::new(&world, asked)).await?;
        at += 1.0;
    }
    Ok(0)
}

/// Makes the key stale once a lifetime, as an invalidation does.
async fn age(mut con: Con, ttl: u64) -> Result<()> {
    loop {
        sleep(Duration::from_secs(ttl)).await;
        con.meta(format!("md {} I T30\r\n", String::from_utf8_lossy(KEY)).as_bytes()).await?;
    }
}
