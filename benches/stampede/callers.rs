//! The callers: thousands of tasks on one thread, each with a connection of its own, and what became of each read.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinHandle, LocalSet, spawn_local},
    time::{sleep, sleep_until, timeout},
};

use crate::{
    approaches::{Approach, KEY},
    caller::{Caller, Run, Terms, World},
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
