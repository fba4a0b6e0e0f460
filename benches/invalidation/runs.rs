//! One run: a new server, its keys, and the invalidation of the group.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use redis::{Connection, Value, cmd};

use crate::{
    approaches::{Approach, Client, Group},
    args::Args,
    results::{Facts, Measured},
    support::{
        self,
        corpus::Corpus,
        lab::{self, connect, used_memory, used_memory_at_rest},
        machine,
        server::{self, Result, Server},
        watch::Watcher,
        wire::{Script, Wire},
    },
};

/// Keys that are probed.
const PROBES: usize = 128;
/// Time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_micros(200);
/// `used_memory` is final when it has not changed for this time.
const REST: Duration = Duration::from_secs(1);

/// Starts servers and fills them.
pub(crate) struct Lab {
    program: String,
    module: Option<PathBuf>,
    settings: Vec<String>,
    pub(crate) corpus: Corpus,
    pub(crate) value: usize,
    share: f64,
    patience: Duration,
    pinned: bool,
    name: String,
    /// Nanoseconds that the servers' main threads have run, and have waited for a core.
    ran: u64,
    waited: u64,
}

impl Lab {
    pub(crate) fn open(args: &Args) -> Result<Lab> {
        let ours = args.approach.is_empty() || args.approach.iter().any(|one| one.is_ours());
        let mut lab = Lab {
            program: args.common.server(),
            module: if ours { Some(args.common.module()?) } else { None },
            settings: args
                .setting
                .iter()
                .map(|setting| format!("smartcache.{}", setting.replacen('=', " ", 1)))
                .collect(),
            corpus: Corpus::new(),
            value: args.value as usize,
            share: args.share,
            patience: Duration::from_secs(args.patience),
            pinned: false,
            name: String::new(),
            ran: 0,
            waited: 0,
        };
        let server = lab.start(false)?;
        lab.name = support::report::server(&mut connect(&server)?);
        Ok(lab)
    }

    /// Starts a server on the first core and pins this thread to the second.
    pub(crate) fn start(&mut self, ours: bool) -> Result<Server> {
        if server::interrupted() {
            return Err("interrupted".into());
        }
        let module = self.module.as_deref().filter(|_| ours);
        let mut settings = vec!["maxmemory 0", "hz 10"];
        if ours {
            settings.extend(self.settings.iter().map(String::as_str));
        }
        let pinned = lab::pin(0);
        let server = Server::start(&self.program, module, &settings);
        self.pinned = pinned && lab::pin(1);
        server
    }

    /// The module's error for this approach, if it does not support it.
    pub(crate) fn unsupported_reason(&mut self, approach: Approach, group: Group) -> Result<Option<String>> {
        if !approach.is_ours() {
            return Ok(None);
        }
        let server = self.start(true)?;
        self.fill(&server, approach, Group { keys: 1, ..group })?;
        Ok(approach.invalidate(&mut Client::new(connect(&server)?)).err().map(|error| error.to_string()))
    }

    /// Stores all keys with `approach`.
    fn fill(&self, server: &Server, approach: Approach, group: Group) -> Result<()> {
        self.store(server, group.keys, |n, value, put| approach.store(&group.key(n), value, group.has(n), put))
    }

    /// Sends the commands that `store` passes on for each of `count` values, a thousand values at a time.
    pub(crate) fn store(
        &self,
        server: &Server,
        count: usize,
        store: impl Fn(usize, &[u8], &mut dyn FnMut(&[&[u8]], usize)),
    ) -> Result<()> {
        let mut wire = Wire::connect(&server.socket())?;
        for first in (0..count).step_by(1_000) {
            if server::interrupted() {
                return Err("interrupted".into());
            }
            let mut script = Script::default();
            for n in first..count.min(first + 1_000) {
                store(n, &self.corpus.value(n, self.value), &mut |words, reply| script.push(words, reply));
            }
            let (requests, replies) = script.batch(0, script.len());
            wire.exchange(requests, replies)?;
        }
        Ok(())
    }

    pub(crate) fn measure(&mut self, approach: Approach, group: Group) -> Result<Measured> {
        let server = self.start(approach.is_ours())?;
        let mut con = connect(&server)?;
        let empty = used_memory_at_rest(&mut con)?;
        self.fill(&server, approach, group)?;
        let full = used_memory_at_rest(&mut con)?;

        let members: Vec<usize> = group.members().collect();
        let probes: Vec<Vec<u8>> = spread(&members).map(|n| group.key(n)).collect();
        let others: Vec<usize> = (0..group.keys).filter(|&n| !group.has(n)).collect();
        let others: Vec<Vec<u8>> = spread(&others).map(|n| group.key(n)).collect();
        let all_fresh = |con: &mut Connection, keys: &[Vec<u8>]| -> Result<bool> {
            Ok(keys.is_empty() || approach.fresh(con, keys)?.into_iter().all(|fresh| fresh))
        };
        if !all_fresh(&mut con, &probes)? || !all_fresh(&mut con, &others)? {
            return Err("not all keys are stored and fresh".into());
        }

        let mut watcher = Watcher::new(&server)?;
        let ((), rest) = watcher.watch(|| thread::sleep(REST))?;
        let mut client = Client::new(connect(&server)?);
        let (ran, stalls) = watcher.watch(|| self.run(approach, &server, &mut con, &mut client, &probes))?;
        let ran = ran?;
        let [main, waited, _] = machine::schedstat(&format!("/proc/{}/schedstat", watcher.pid))?;
        (self.ran, self.waited) = (self.ran + main, self.waited + waited);

        let revived = approach.fresh(&mut con, &probes)?;
        if revived.contains(&true) {
            return Err("an invalidated key is fresh again".into());
        }
        if !approach.invalidates_all() && !all_fresh(&mut con, &others)? {
            return Err("it invalidated keys outside the group".into());
        }
        let took = if approach.invalidates_all() {
            full - empty
        } else {
            (full - empty) * members.len() as f64 / group.keys as f64
        };
        Ok(Measured {
            reply_ms: ran.reply.as_secs_f64() * 1e3,
            effective_ms: ran.gone.as_secs_f64() * 1e3,
            late: ran.late,
            freed_ms: ran.memory.freed().map(|freed| freed.as_secs_f64() * 1e3),
            freed_share: (ran.memory.before - ran.memory.last()) / took,
            memory_per_key: (full - empty) / group.keys as f64,
            commands: client.commands,
            sent: client.sent,
            rest,
            stalls,
        })
    }

    fn run(
        &self,
        approach: Approach,
        server: &Server,
        con: &mut Connection,
        client: &mut Client,
        probes: &[Vec<u8>],
    ) -> Result<Ran> {
        let (ready, is_ready) = mpsc::channel();
        let over = AtomicBool::new(false);
        let probing = connect(server)?;
        let (before, started, replied, seen) = thread::scope(|scope| {
            let over = &over;
            let prober = scope.spawn(move || {
                let probed = probe(approach, probing, probes, &ready, over);
                probed.map_err(|error| error.to_string())
            });
            let _ = is_ready.recv(); // also returns when the prober fails
            // All connections are open now and count in both measurements.
            let before = used_memory(con);
            let started = Instant::now();
            let replied = approach.invalidate(client).map(|()| Instant::now());
            if replied.is_err() {
                over.store(true, Ordering::Relaxed);
            }
            let seen = prober.join().map_err(|_| "the probing thread panicked")?;
            Ok::<_, Box<dyn std::error::Error>>((before?, started, replied?, seen?))
        })?;
        // The old connection's buffers would count as memory that is not freed.
        client.con = connect(server)?;
        let memory = self.follow(con, approach, before, started)?;
        Ok(Ran {
            reply: replied - started,
            gone: seen.gone - started,
            late: seen.fresh.iter().filter(|&&at| at > replied).count(),
            memory,
        })
    }

    /// Records `used_memory` until it is final or the time limit is reached.
    fn follow(&self, con: &mut Connection, approach: Approach, before: f64, started: Instant) -> Result<Memory> {
        let mut memory = Memory { before, seen: Vec::new(), is_final: false };
        let mut unchanged_since = Instant::now();
        while started.elapsed() < self.patience {
            if server::interrupted() {
                return Err("interrupted".into());
            }
            let now = used_memory(con)?;
            let backlog = if approach.is_ours() { backlog(con)? } else { 0 };
            // Buffers vary by a few hundred bytes.
            if backlog > 0 || memory.seen.last().is_some_and(|&(_, last)| (last - now).abs() > 4_096.0) {
                unchanged_since = Instant::now();
            }
            memory.seen.push((started.elapsed(), now));
            if unchanged_since.elapsed() > REST {
                memory.is_final = true;
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(memory)
    }

    pub(crate) fn facts(&self, args: &Args) -> Facts {
        let (name, waited) = (self.name.clone(), (self.ran, self.waited));
        Facts {
            common: support::report::Facts::new(&args.common, name, self.module.as_deref(), self.pinned, waited),
            share: self.share,
            value: self.value,
            settings: args.setting.clone(),
        }
    }
}

/// The numbers to probe: evenly spread, the first and the last included.
fn spread(numbers: &[usize]) -> impl Iterator<Item = usize> {
    let count = PROBES.min(numbers.len());
    (0..count).map(move |n| numbers[n * (numbers.len() - 1) / (count - 1).max(1)])
}

struct Ran {
    reply: Duration,
    gone: Duration,
    late: usize,
    memory: Memory,
}

/// `used_memory` over time.
struct Memory {
    before: f64,
    seen: Vec<(Duration, f64)>,
    is_final: bool,
}

impl Memory {
    fn last(&self) -> f64 {
        self.seen.last().map_or(f64::NAN, |seen| seen.1)
    }

    /// When it came to stay within 1 % of its final value.
    fn freed(&self) -> Option<Duration> {
        let enough = self.last() + 0.01 * (self.before - self.last());
        let after = self.seen.iter().rposition(|&(_, used)| used > enough).map_or(0, |n| n + 1);
        self.is_final.then(|| self.seen.get(after).map(|seen| seen.0)).flatten()
    }
}

/// What the probes found.
struct Probed {
    /// When probes were sent that found a fresh key.
    fresh: Vec<Instant>,
    gone: Instant,
}

/// Probes one fresh key until it is not served, then all others, until none is fresh. Signals `ready` after the first.
fn probe(
    approach: Approach,
    mut con: Connection,
    probes: &[Vec<u8>],
    ready: &mpsc::Sender<()>,
    over: &AtomicBool,
) -> Result<Probed> {
    let mut left = probes.to_vec();
    let mut fresh = Vec::new();
    while !left.is_empty() {
        if over.load(Ordering::Relaxed) || server::interrupted() {
            return Err("interrupted".into());
        }
        let sent = Instant::now();
        if approach.fresh(&mut con, &left[..1])?[0] {
            fresh.push(sent);
            let _ = ready.send(());
            thread::sleep(PROBE_INTERVAL);
        } else {
            let sent = Instant::now();
            let found = approach.fresh(&mut con, &left)?;
            left = left.into_iter().zip(found).filter(|(_, fresh)| *fresh).map(|(key, _)| key).collect();
            if !left.is_empty() {
                fresh.push(sent);
            }
        }
    }
    Ok(Probed { fresh, gone: Instant::now() })
}

/// The backlog of the sweep.
fn backlog(con: &mut Connection) -> Result<u64> {
    let stats: BTreeMap<String, Value> = cmd("SMARTCACHE.STATS").query(con)?;
    let backlog = stats.get("sweep_backlog").ok_or("STATS has no sweep_backlog")?;
    Ok(redis::from_redis_value(backlog.clone())?)
}
