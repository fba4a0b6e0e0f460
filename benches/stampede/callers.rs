//! The callers: thousands of tasks on one thread, each with its own connection.

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
    caller::{Caller, Run, RunState, Workload},
    support::server::{self, Result},
    wire::Con,
};

/// What happens to one new server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scenario {
    /// All callers request a missing key at once.
    Cold { callers: usize },
    /// Readers that each read once a second, evenly spaced; the key is stored at first.
    Expiry { readers: usize, seconds: f64 },
}

impl Scenario {
    pub(crate) fn callers(self) -> usize {
        match self {
            Scenario::Cold { callers: n } | Scenario::Expiry { readers: n, .. } => n,
        }
    }
}

/// A scenario with all connections open and no request sent.
pub(crate) struct PreparedRun {
    runtime: Runtime,
    cons: Vec<Con>,
    socket: std::path::PathBuf,
}

impl PreparedRun {
    pub(crate) fn new(scenario: Scenario, socket: &Path) -> Result<PreparedRun> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let cons = {
            let _inside = runtime.enter();
            (0..scenario.callers()).map(|_| Con::open(socket)).collect::<Result<_>>()?
        };
        Ok(PreparedRun { runtime, cons, socket: socket.to_owned() })
    }

    /// Stores the key as a first reader does: with a load of the usual duration, which a server may measure.
    pub(crate) fn fill(&mut self, approach: Approach, workload: &Workload) -> Result<()> {
        let state =
            Rc::new(RunState { workload: workload.clone(), began: Cell::new(Instant::now()), run: RefCell::default() });
        let con = self.cons.last_mut().ok_or("no connection")?;
        self.runtime.block_on(approach.read(con, &mut Caller::new(&state, Instant::now())))
    }

    pub(crate) fn run(self, approach: Approach, scenario: Scenario, workload: &Workload) -> Result<Run> {
        let began = Cell::new(Instant::now());
        let state = Rc::new(RunState { workload: workload.clone(), began, run: RefCell::default() });
        let (cons, socket) = (self.cons, self.socket);
        let limit = match scenario {
            Scenario::Cold { .. } => workload.limit,
            Scenario::Expiry { seconds, .. } => workload.limit + Duration::from_secs_f64(seconds),
        };
        let left = self.runtime.block_on(LocalSet::new().run_until(async {
            state.began.set(Instant::now());
            let tasks: Vec<JoinHandle<Result<usize>>> = match scenario {
                Scenario::Cold { .. } => {
                    cons.into_iter().map(|con| spawn_local(read_once(approach, con, state.clone()))).collect()
                }
                Scenario::Expiry { readers, seconds } => {
                    if approach == Approach::MemcachedStale {
                        spawn_local(mark_stale_periodically(Con::open(&socket)?, workload.ttl));
                    }
                    let each =
                        |(n, con)| spawn_local(read_repeatedly(approach, con, state.clone(), n, readers, seconds));
                    cons.into_iter().enumerate().map(each).collect()
                }
            };
            finish(tasks, limit, &state).await
        }))?;
        let mut run = state.run.take();
        run.unanswered = left;
        Ok(run)
    }
}

/// Waits for all callers, at most for `limit`. Returns the number of reads without an answer.
async fn finish(tasks: Vec<JoinHandle<Result<usize>>>, limit: Duration, state: &RunState) -> Result<usize> {
    let mut left = 0;
    for mut task in tasks {
        let time_left = limit.saturating_sub(state.began.get().elapsed());
        // In slices, so that Ctrl-C has an effect.
        let mut waited = Duration::ZERO;
        loop {
            if server::interrupted() {
                return Err("interrupted".into());
            }
            match timeout(Duration::from_millis(100), &mut task).await {
                Ok(ended) => {
                    left += ended?.unwrap_or_else(|error| {
                        state.run.borrow_mut().error.get_or_insert(error.to_string());
                        1
                    });
                    break;
                }
                Err(_) if waited >= time_left => {
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

async fn read_once(approach: Approach, mut con: Con, state: Rc<RunState>) -> Result<usize> {
    approach.read(&mut con, &mut Caller::new(&state, Instant::now())).await?;
    Ok(0)
}

/// Reads once a second, at this reader's offset in the second. A read that is late because the last answer was late
/// counts from when it was due.
async fn read_repeatedly(
    approach: Approach,
    mut con: Con,
    state: Rc<RunState>,
    index: usize,
    readers: usize,
    seconds: f64,
) -> Result<usize> {
    let began = state.began.get();
    let mut at = index as f64 / readers as f64;
    while at < seconds {
        let due = began + Duration::from_secs_f64(at);
        let late = Instant::now() > due;
        if !late {
            sleep_until(due.into()).await;
        }
        let asked = if late { due } else { Instant::now() };
        approach.read(&mut con, &mut Caller::new(&state, asked)).await?;
        at += 1.0;
    }
    Ok(0)
}

/// Makes the key stale once per TTL, as an invalidation does.
async fn mark_stale_periodically(mut con: Con, ttl: u64) -> Result<()> {
    loop {
        sleep(Duration::from_secs(ttl)).await;
        con.meta(format!("md {} I T30\r\n", String::from_utf8_lossy(KEY)).as_bytes()).await?;
    }
}
