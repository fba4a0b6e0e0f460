//! 1,000 callers of a cold key with `GETLOCK … WAIT`, watched closely: who waited how long after the store, and did
//! the server stop for anybody else?

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use redis::{Connection, cmd};

use crate::{
    approaches::Approach,
    callers::{Ready, Run, Scenario, Terms},
    runs::{Lab, commands},
    support::{
        lab::{connect, info},
        machine,
        server::Result,
    },
};

pub(crate) const CALLERS: usize = 1_000;

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

/// How long the server did nothing for others.
pub(crate) struct Stops {
    /// Its own longest event loop, where it says so.
    pub(crate) event_loop_ms: Option<f64>,
    /// The longest wait of a client that pings.
    pub(crate) ping_ms: f64,
    /// The longest time its main thread was on a CPU without a break, at most.
    pub(crate) turn_ms: f64,
    commands: BTreeMap<String, u64>,
}

impl Lab {
    pub(crate) fn watch(&mut self, terms: &Terms, files: u64) -> Result<Watched> {
        if files < CALLERS as u64 + 600 {
            return Err("1,000 callers need more open files than are allowed (ulimit -Hn)".into());
        }
        let (_, [_, gets, _]) = self.watch_one(Approach::Unprotected, terms)?;
        let (run, [rest, asked, answered]) = self.watch_one(Approach::Getlock, terms)?;
        let count = |name: &str| [&asked, &answered].iter().filter_map(|stops| stops.commands.get(name)).sum();
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

    /// The server at rest, then while all ask, then from the middle of the load to the end.
    fn watch_one(&mut self, approach: Approach, terms: &Terms) -> Result<(Run, [Stops; 3])> {
        let scenario = Scenario::Cold { callers: CALLERS };
        let module = self.module().ok_or("the promises need the module")?;
        let server = self.start(Some(&module), CALLERS)?;
        let ready = Ready::new(scenario, &server.socket())?;
        let lookout = Lookout::new(connect(&server)?, &server.socket())?;
        let pid = lookout.pid;

        let (rest, lookout) = lookout.watch(|| thread::sleep(terms.load))?;
        let (begun, begins) = mpsc::channel();
        let half = terms.load / 2;
        let over = AtomicBool::new(false);
        let (run, asked, answered) = thread::scope(|scope| {
            let over = &over;
            let watching = scope.spawn(move || {
                let watch = || -> Result<_> {
                    let (asked, lookout) = lookout.watch(move || {
                        let _ = begun.send(());
                        thread::sleep(half);
                    })?;
                    let (answered, _) = lookout.watch(|| {
                        while !over.load(Ordering::Relaxed) {
                            thread::sleep(Duration::from_millis(1));
                        }
                    })?;
                    Ok((asked, answered))
                };
                watch().map_err(|error| error.to_string())
            });
            let _ = begins.recv(); // an error, too, is an end of waiting
            let run = ready.run(approach, scenario, terms);
            over.store(true, Ordering::Relaxed);
            let (asked, answered) = watching.join().map_err(|_| "the watching thread panicked")??;
            Ok::<_, Box<dyn std::error::Error>>((run?, asked, answered))
        })?;
        let [ran, waited, _] = machine::schedstat(&format!("/proc/{pid}/schedstat"))?;
        (self.ran, self.waited) = (self.ran + ran, self.waited + waited);
        Ok((run, [rest, asked, answered]))
    }
}

/// Two threads that watch the server, and the connection on which it is asked afterwards.
struct Lookout {
    con: Connection,
    pid: u32,
    socket: PathBuf,
}

impl Lookout {
    fn new(mut con: Connection, socket: &Path) -> Result<Lookout> {
        let pid = info(&mut con, "server", "process_id").parse()?;
        Ok(Lookout { con, pid, socket: socket.to_owned() })
    }

    /// Watches as long as `wait` takes.
    fn watch(mut self, wait: impl FnOnce()) -> Result<(Stops, Lookout)> {
        cmd("CONFIG").arg("RESETSTAT").exec(&mut self.con)?;
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (over, pid) = (AtomicBool::new(false), self.pid);
        let (ping_ms, turn_ms) = thread::scope(|scope| {
            let pings = scope.spawn(|| longest_ping(stream, &over));
            let turns = scope.spawn(|| longest_turn(pid, &over));
            wait();
            over.store(true, Ordering::Relaxed);
            (pings.join(), turns.join())
        });
        let micros = info(&mut self.con, "debug", "eventloop_duration_max").parse::<f64>();
        let stops = Stops {
            event_loop_ms: micros.ok().map(|micros| micros / 1e3),
            ping_ms: ping_ms.map_err(|_| "the pinging thread panicked")??,
            turn_ms: turn_ms.map_err(|_| "the watching thread panicked")?,
            commands: commands(&mut self.con)?,
        };
        Ok((stops, self))
    }
}

/// Pings, with a breath between two so that it takes no core for itself; the longest wait in milliseconds.
fn longest_ping(mut stream: UnixStream, over: &AtomicBool) -> io::Result<f64> {
    const PONG: usize = b"+PONG\r\n".len();
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0; PONG])?;
        longest = longest.max(asked.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    Ok(longest.as_secs_f64() * 1e3)
}

/// Looks every millisecond; the kernel counts by ticks, of 4 ms on many machines. A turn begins when the thread is put on a CPU; what it had run since the last look may
/// belong to the turn before, and is counted here, so this is at most too long.
fn longest_turn(pid: u32, over: &AtomicBool) -> f64 {
    let path = format!("/proc/{pid}/task/{pid}/schedstat");
    let (mut longest, mut turn) = (0, 0);
    let mut last: Option<[u64; 3]> = None;
    while !over.load(Ordering::Relaxed) {
        if let Ok([ran, waited, turns]) = machine::schedstat(&path) {
            if let Some([ran_before, _, turns_before]) = last {
                let more = ran.saturating_sub(ran_before);
                turn = if turns == turns_before { turn + more } else { more };
                longest = longest.max(turn);
            }
            last = Some([ran, waited, turns]);
        }
        thread::sleep(Duration::from_millis(1));
    }
    longest as f64 / 1e6
}
