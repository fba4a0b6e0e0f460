//! 1,000 callers of a cold key with `GETLOCK … WAIT`, closely monitored: the time from the store to the last answer,
//! and the longest stall for other clients.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{
    approaches::Approach,
    caller::{Run, Workload},
    callers::{PreparedRun, Scenario},
    results::{WATCHED_CALLERS, Watched},
    runs::Lab,
    support::{
        machine,
        server::Result,
        watch::{Stalls, Watcher},
    },
};

impl Lab {
    pub(crate) fn watch(&mut self, workload: &Workload, files: u64) -> Result<Watched> {
        if files < WATCHED_CALLERS as u64 + 600 {
            return Err("1,000 callers need more open files than allowed (ulimit -Hn)".into());
        }
        let (_, [_, gets, _]) = self.watch_one(Approach::Unprotected, workload)?;
        let (run, [rest, asked, answered]) = self.watch_one(Approach::Getlock, workload)?;
        let count = |name: &str| [&asked, &answered].iter().filter_map(|stalls| stalls.commands.get(name)).sum();
        let last = run.answers.iter().map(|answer| answer.at).fold(0.0, f64::max);
        let store = run.stores.first().copied().unwrap_or(f64::NAN);
        Ok(Watched {
            loads: run.loads.len() as u64,
            getlocks: count("SMARTCACHE.GETLOCK"),
            sets: count("SMARTCACHE.SET"),
            unanswered: run.unanswered,
            last_after_store_ms: 1e3 * (last - store),
            rest,
            asked,
            answered,
            gets,
        })
    }

    /// Monitors the idle server, then the arrival of all requests, then the time from the middle of the load to the
    /// end.
    fn watch_one(&mut self, approach: Approach, workload: &Workload) -> Result<(Run, [Stalls; 3])> {
        let scenario = Scenario::Cold { callers: WATCHED_CALLERS };
        let module = self.module().ok_or("the promises need the module")?;
        let server = self.start(Some(&module), WATCHED_CALLERS)?;
        let prepared = PreparedRun::new(scenario, &server.socket())?;
        let mut watcher = Watcher::new(&server)?;
        let pid = watcher.pid;

        let ((), rest) = watcher.watch(|| thread::sleep(workload.load))?;
        let (begun, begins) = mpsc::channel();
        let half = workload.load / 2;
        let over = AtomicBool::new(false);
        let (run, asked, answered) = thread::scope(|scope| {
            let over = &over;
            let watching = scope.spawn(move || {
                let watch = || -> Result<_> {
                    let ((), asked) = watcher.watch(move || {
                        let _ = begun.send(());
                        thread::sleep(half);
                    })?;
                    let ((), answered) = watcher.watch(|| {
                        while !over.load(Ordering::Relaxed) {
                            thread::sleep(Duration::from_millis(1));
                        }
                    })?;
                    Ok((asked, answered))
                };
                watch().map_err(|error| error.to_string())
            });
            let _ = begins.recv(); // also returns when the monitor fails
            let run = prepared.run(approach, scenario, workload);
            over.store(true, Ordering::Relaxed);
            let (asked, answered) = watching.join().map_err(|_| "the monitoring thread panicked")??;
            Ok::<_, Box<dyn std::error::Error>>((run?, asked, answered))
        })?;
        let [ran, waited, _] = machine::schedstat(&format!("/proc/{pid}/schedstat"))?;
        (self.ran, self.waited) = (self.ran + ran, self.waited + waited);
        Ok((run, [rest, asked, answered]))
    }
}
