//! A stampede: what many callers of one missing or expiring key cause, and the effect of each remedy.
//!
//! ```text
//! make bench-stampede                                  everything, about half an hour
//! make bench-stampede ARGS="--only budgets"            the budgets, about a minute
//! make bench-stampede ARGS="--quick"                   a smoke run: the figures mean nothing
//! make bench-stampede ARGS="--redraw --svg docs/stampede.svg"      the picture of docs/numbers.md, last run
//! ```
//!
//! # What is compared
//!
//! | approach | reads with | when the key is missing |
//! |---|---|---|
//! | no protection | `GET` | every caller loads |
//! | SET NX, look again | `GET` | `SET lock NX EX`; without the lock: sleep 0.1 s, read again, else load |
//! | polling lock | `GET` | the same, but retry until there is a value or the lock (at most 10 s) |
//! | dogpile.cache | `region.get_or_create` | its Redis lock, `distributed_lock=True`, else defaults |
//! | cashews | `@cache(ttl, lock=True, protected=False)` | its lock, which it takes for every read |
//! | cashews, 10 processes | `@cache(ttl, lock=True)` | the same by default: one caller per process locks |
//! | memcached | `mg key s v t c N10` | the winner (`W`) loads, the others (`Z`) read again every 0.1 s |
//! | memcached, R | `mg … N10 R2` | one reader loads in the last two seconds |
//! | memcached, md I | as memcached | `md key I` makes it stale instead of expiry; stale values (`X`) are used |
//! | GETLOCK | `SMARTCACHE.GETLOCK key WAIT 30 BETA 0` | who gets the token loads, the others wait in the server |
//! | GETLOCK, SWR | the same, with `SMARTCACHE.SET … SWR 60` | the stale value is used, one reader refreshes it |
//! | GETLOCK, BETA 1 | `GETLOCK key WAIT 30 BETA 1` | one reader refreshes the value before it expires |
//! | GET under NATIVE WAIT | `GET`, rule `NATIVE WAIT 30` | one is told nil and loads, the others wait |
//! | GET under NATIVE SWR | `GET`, rule `NATIVE SWR 60` | one is told nil and loads, the others get a stale value |
//!
//! The two libraries run in Python (`callers.py`): dogpile.cache with a thread per caller, cashews with a task per
//! caller. Each caller stands for a process of a fleet, though they share one; so cashews' coordination within a
//! process is switched off, and both libraries get a connection per caller. The ten processes are the other extreme:
//! cashews with its defaults, and few callers that meet at the server. Python is slower than the other clients here, so
//! only the load on the *server* and waits of tenths of a second say something about a library. `client` is how busy
//! the callers' core was. A run in which Python kept its core busy and left callers without an answer, or sent their
//! requests too late, measured Python, and counts as not run.
//!
//! # Method
//!
//! - **A load** is a sleep of half a second in the caller, then the store of a real record (`tests/data`, about 1 KB).
//! - **Cold:** 1 to 5,000 callers request a missing key at the same moment, each over its own connection.
//! - **Expiry:** 1,000 readers, each once a second, evenly spaced; the key is stored at first and expires several
//!   times. A *cycle* is a load with all loads that begin before it ends. Early refresh has shorter cycles because it
//!   begins before the expiry; the loads per minute show its price.
//! - **Each run on a new process:** the server with default settings, with the module only where it is used, and a unix
//!   socket; the server on the first core, the callers on the second; connections are opened before the clock starts.
//!   Rounds go through all rows. The tables show medians over the rounds, and quartiles where they matter.
//! - **Commands** are the server's own count (`INFO commandstats`, memcached's `stats`), with commands called by
//!   scripts and without those that set up connections.
//! - **Server CPU** is user and system time of the whole server process, from before the first request until it is
//!   idle.
//! - **Fresh, stale, waited, loaded:** a reader answered within 20 ms got a fresh or a stale value, one answered later
//!   waited, and one that had to load counts only there.
//!
//! # Budgets
//!
//! 1,000 callers of a cold key with `GETLOCK … WAIT` are monitored more closely: the time from the store to the last
//! answer, and the longest stall for other clients (`support/watch.rs`), compared with the same server at rest. The
//! machine itself stalls too: a ping may wait for milliseconds without any caller.
//!
//! The budget is for the answers. Every server handles all requests that have arrived in one event loop iteration; so a
//! thousand simultaneous requests make a long one whatever they request: the report shows as many plain `GET` beside
//! it.

mod approaches;
mod args;
mod caller;
mod callers;
#[path = "../../tests/data/mod.rs"]
mod data;
mod picture;
mod report;
mod results;
mod runs;
#[path = "../support/mod.rs"]
mod support;
mod watch;
mod wire;

use std::process::ExitCode;

use approaches::Approach;
use args::{Args, LOAD, Part, READERS, limit};
use caller::Workload;
use callers::Scenario;
use results::{All, NotRun, Row};
use runs::Lab;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    lab::progress,
    options,
    report::{redraw, save},
    server::{self, Result},
    text::thousands,
};

const CALLERS: [usize; 5] = [1, 10, 100, 1_000, 5_000];

fn main() -> ExitCode {
    let args = options::parse::<Args>("3", "bench-results/stampede.json");
    match if args.redraw { draw(&args) } else { bench(&args) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<()> {
    server::catch_interrupts()?;
    let files = allow_files()?;
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let rounds = args.common.rounds();
    let mut lab = Lab::open(args)?;
    let mut all = All::default();

    for round in 1..=rounds {
        if wanted(Part::Cold) {
            for callers in counts(args) {
                progress(&format!("round {round} of {rounds}: a cold key and {} callers", thousands(callers)));
                for approach in chosen(args, &Approach::COLD) {
                    let scenario = Scenario::Cold { callers };
                    all.measure(&mut lab, approach, scenario, &workload(args, 60), files)?;
                }
            }
        }
        if wanted(Part::Expiry) {
            let ttl = if args.common.quick { 2 } else { args.ttl };
            let cycles = if args.common.quick { 1 } else { args.cycles };
            // The lifetimes with a load each, and a second more to see the end of the last load.
            let seconds = f64::from(cycles) * (ttl as f64 + LOAD.as_secs_f64()) + 1.0;
            for approach in chosen(args, &Approach::EXPIRY) {
                progress(&format!("round {round} of {rounds}: at expiry, {}", approach.name()));
                let scenario = Scenario::Expiry { readers: READERS, seconds };
                all.measure(&mut lab, approach, scenario, &workload(args, ttl), files)?;
            }
        }
        if wanted(Part::Budgets) && chosen(args, &Approach::COLD).contains(&Approach::Getlock) {
            progress(&format!("round {round} of {rounds}: budgets"));
            all.watched.push(lab.watch(&workload(args, 60), files)?);
        }
    }

    let facts = lab.facts(args);
    report::print(&facts, &all);
    save(&args.common, &report::json(&facts, &all))?;
    if args.svg.is_some() { draw(args) } else { Ok(()) }
}

impl All {
    /// Measures one more round, unless an earlier one failed.
    fn measure(
        &mut self,
        lab: &mut Lab,
        approach: Approach,
        scenario: Scenario,
        workload: &Workload,
        files: u64,
    ) -> Result<()> {
        let callers = scenario.callers();
        let (rows, cold) = match scenario {
            Scenario::Cold { .. } => (&mut self.cold, Some(callers)),
            Scenario::Expiry { .. } => (&mut self.expiry, None),
        };
        if self.not_run.iter().any(|what| (what.approach, what.callers) == (approach, cold)) {
            return Ok(());
        }
        let measured = lab.measure(approach, scenario, workload, files);
        if server::interrupted() {
            return Err("interrupted".into());
        }
        match measured {
            Ok(measured) => match rows.iter_mut().find(|row| row.approach == approach && row.callers == callers) {
                Some(row) => row.rounds.push(measured),
                None => rows.push(Row { approach, callers, rounds: vec![measured] }),
            },
            Err(why) => {
                let not_run = NotRun { approach, callers: cold, why: why.to_string() };
                eprintln!("bench: not run: {not_run}");
                self.not_run.push(not_run);
            }
        }
        Ok(())
    }
}

fn workload(args: &Args, ttl: u64) -> Workload {
    let records = data::records();
    let distance = |record: &Vec<u8>| record.len().abs_diff(1_024);
    let record = records.iter().map(data::Record::json).min_by_key(distance).expect("the sample has records");
    Workload { record, load: LOAD, ttl, limit: limit(args) }
}

fn counts(args: &Args) -> Vec<usize> {
    match (args.callers.is_empty(), args.common.quick) {
        (false, _) => args.callers.iter().map(|&n| n as usize).collect(),
        (true, true) => CALLERS[..3].to_vec(),
        (true, false) => CALLERS.to_vec(),
    }
}

fn chosen(args: &Args, of: &[Approach]) -> Vec<Approach> {
    of.iter().copied().filter(|approach| args.approach.is_empty() || args.approach.contains(approach)).collect()
}

/// Raises the limit of open files of this process and its children to the maximum. Returns it.
fn allow_files() -> Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

fn draw(args: &Args) -> Result<()> {
    args.svg.as_ref().map_or(Ok(()), |svg| redraw(&args.common, svg, picture::draw))
}
