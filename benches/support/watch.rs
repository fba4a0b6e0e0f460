//! Measures stalls of the server for other clients in three ways: its own longest event loop, where it reports it
//! (`INFO debug`, Redis 7.2 and Valkey 8 and later), the waits of a client that pings all the time, and the longest
//! time its main thread ran on a CPU without a break.

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

/// The upper end of the histogram of ping waits; also the read time-out.
const LONGEST: Duration = Duration::from_secs(600);

/// How long the server did not serve other clients.
pub(crate) struct Stalls {
    /// Its own longest event loop, where it reports it.
    pub(crate) event_loop_ms: Option<f64>,
    /// The longest wait of a client that pings.
    pub(crate) ping_ms: f64,
    /// The 99.9th percentile of the waits of clients that ask at random moments: waits are weighted by their length
    /// (corrected for coordinated omission).
    pub(crate) ping_p999_ms: f64,
    /// An upper bound of the longest time its main thread ran on a CPU without a break.
    pub(crate) burst_ms: f64,
    /// The commands it has executed, by its own count.
    pub(crate) commands: BTreeMap<String, u64>,
}

/// Measures stalls with two threads, and reads `INFO` afterwards over `con`.
pub(crate) struct Watcher {
    con: Connection,
    pub(crate) pid: u32,
    socket: PathBuf,
}

impl Watcher {
    pub(crate) fn new(server: &Server) -> Result<Watcher> {
        let mut con = connect(server)?;
        let pid = info(&mut con, "server", "process_id").parse()?;
        Ok(Watcher { con, pid, socket: server.socket() })
    }

    /// Measures while `work` runs. Returns the result of `work` too.
    pub(crate) fn watch<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, Stalls)> {
        cmd("CONFIG").arg("RESETSTAT").exec(&mut self.con)?;
        let stream = connected(&self.socket)?;
        let (over, pid) = (AtomicBool::new(false), self.pid);
        let (done, pings, burst_ms) = thread::scope(|scope| {
            let pings = scope.spawn(|| pings(stream, &over));
            let bursts = scope.spawn(|| longest_burst(pid, &over));
            let done = work();
            over.store(true, Ordering::Relaxed);
            (done, pings.join(), bursts.join())
        });
        let micros = info(&mut self.con, "debug", "eventloop_duration_max").parse::<f64>();
        let (pings, longest) = pings.map_err(|_| "the pinging thread panicked")??;
        let stalls = Stalls {
            event_loop_ms: micros.ok().map(|micros| micros / 1e3),
            ping_ms: longest.as_secs_f64() * 1e3,
            ping_p999_ms: pings.value_at_quantile(0.999) as f64 / 1e6,
            burst_ms: burst_ms.map_err(|_| "the sampling thread panicked")?,
            commands: commands(&mut self.con)?,
        };
        Ok((done, stalls))
    }
}

fn connected(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LONGEST))?;
    Ok(stream)
}

/// Pings with a pause in between, so that it does not occupy a core. Returns all waits in nanoseconds, and the longest.
fn pings(mut stream: UnixStream, over: &AtomicBool) -> io::Result<(Histogram<u64>, Duration)> {
    const PONG: usize = b"+PONG\r\n".len();
    let mut waits = Histogram::new_with_max(LONGEST.as_nanos() as u64, 3).map_err(io::Error::other)?;
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0; PONG])?;
        let wait = sent.elapsed();
        let _ = waits.record_correct(wait.as_nanos() as u64, PING_INTERVAL.as_nanos() as u64);
        longest = longest.max(wait);
        thread::sleep(PING_INTERVAL);
    }
    Ok((waits, longest))
}

/// Time between two pings.
const PING_INTERVAL: Duration = Duration::from_micros(200);

/// Samples schedstat every millisecond; the kernel updates it by ticks, of 4 ms on many machines. A burst begins when
/// the thread is scheduled. Time since the last sample may belong to the burst before but is added to the new one, so
/// the result is an upper bound.
fn longest_burst(pid: u32, over: &AtomicBool) -> f64 {
    let path = format!("/proc/{pid}/task/{pid}/schedstat");
    let (mut longest, mut burst) = (0, 0);
    let mut last: Option<[u64; 3]> = None;
    while !over.load(Ordering::Relaxed) {
        if let Ok([ran, waited, timeslices]) = machine::schedstat(&path) {
            if let Some([ran_before, _, timeslices_before]) = last {
                let more = ran.saturating_sub(ran_before);
                burst = if timeslices == timeslices_before { burst + more } else { more };
                longest = longest.max(burst);
            }
            last = Some([ran, waited, timeslices]);
        }
        thread::sleep(Duration::from_millis(1));
    }
    longest as f64 / 1e6
}
