//! Did the server stop for others? Seen in three ways: by its own longest event loop, where it says so (`INFO debug`,
//! Redis 7.2 and later and Valkey 8 and later), by a client that pings all the time, and by how long its main thread was
//! on a CPU without a break.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use redis::{Connection, cmd};

use super::{
    lab::{commands, connect, info},
    machine,
    server::{Result, Server},
};

/// The longest wait for a pong that is told apart from a longer one: ten minutes, where reading gives up too.
const LONGEST: Duration = Duration::from_secs(600);

/// How long the server did nothing for others.
pub(crate) struct Stops {
    /// Its own longest event loop, where it says so.
    pub(crate) event_loop_ms: Option<f64>,
    /// The longest wait of a client that pings.
    pub(crate) ping_ms: f64,
    /// What one in a thousand waits for at least, of clients that ask at any time: a long wait counts as often as it was
    /// long.
    pub(crate) ping_p999_ms: f64,
    /// The longest time its main thread was on a CPU without a break, at most.
    pub(crate) turn_ms: f64,
    /// What it was asked for, by its own count.
    pub(crate) commands: BTreeMap<String, u64>,
}

/// Two threads that watch the server, and the connection on which it is asked afterwards.
pub(crate) struct Lookout {
    con: Connection,
    pub(crate) pid: u32,
    socket: PathBuf,
}

impl Lookout {
    pub(crate) fn new(server: &Server) -> Result<Lookout> {
        let mut con = connect(server)?;
        let pid = info(&mut con, "server", "process_id").parse()?;
        Ok(Lookout { con, pid, socket: server.socket() })
    }

    /// Watches as long as `work` takes; and what came of that.
    pub(crate) fn watch<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, Stops)> {
        cmd("CONFIG").arg("RESETSTAT").exec(&mut self.con)?;
        let stream = connected(&self.socket)?;
        let (over, pid) = (AtomicBool::new(false), self.pid);
        let (done, pings, turn_ms) = thread::scope(|scope| {
            let pings = scope.spawn(|| pings(stream, &over));
            let turns = scope.spawn(|| longest_turn(pid, &over));
            let done = work();
            over.store(true, Ordering::Relaxed);
            (done, pings.join(), turns.join())
        });
        let micros = info(&mut self.con, "debug", "eventloop_duration_max").parse::<f64>();
        let (pings, longest) = pings.map_err(|_| "the pinging thread panicked")??;
        let stops = Stops {
            event_loop_ms: micros.ok().map(|micros| micros / 1e3),
            ping_ms: longest.as_secs_f64() * 1e3,
            ping_p999_ms: pings.value_at_quantile(0.999) as f64 / 1e6,
            turn_ms: turn_ms.map_err(|_| "the watching thread panicked")?,
            commands: commands(&mut self.con)?,
        };
        Ok((done, stops))
    }
}

fn connected(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LONGEST))?;
    Ok(stream)
}

/// Pings, with a breath between two so that it takes no core for itself; all waits in nanoseconds, and the longest.
fn pings(mut stream: UnixStream, over: &AtomicBool) -> io::Result<(Histogram<u64>, Duration)> {
    const PONG: usize = b"+PONG\r\n".len();
    let mut waits = Histogram::new_with_max(LONGEST.as_nanos() as u64, 3).map_err(io::Error::other)?;
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0; PONG])?;
        let wait = asked.elapsed();
        let _ = waits.record_correct(wait.as_nanos() as u64, BREATH.as_nanos() as u64);
        longest = longest.max(wait);
        thread::sleep(BREATH);
    }
    Ok((waits, longest))
}

/// Between two pings.
const BREATH: Duration = Duration::from_micros(200);

/// Looks every millisecond; the kernel counts by ticks, of 4 ms on many machines. A turn begins when the thread is put
/// on a CPU; what it had run since the last look may belong to the turn before, and is counted here, so this is at most
/// too long.
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
