//! A stampede: what many callers of one missing or expiring key cause, and what each remedy makes of it.
//!
//! ```text
//! make bench-stampede                                  all of it, about half an hour
//! make bench-stampede ARGS="--only promises"           what the design promises, about a minute
//! make bench-stampede ARGS="--quick"                   does it run? (figures mean nothing)
//! make bench-stampede ARGS="--redraw --svg docs/stampede.svg"      the picture, from the figures of the last run
//! ```
//!
//! # What is compared
//!
//! | approach | reads with | and when the key is missing |
//! |---|---|---|
//! | no protection | `GET` | everybody loads |
//! | SET NX, look again | `GET` | `SET lock NX EX`; the loser sleeps 0.1 s, looks again, and loads if it must |
//! | polling lock | `GET` | the same, but the loser begins again until it has a value or the lock (10 s at most) |
//! | dogpile.cache | `region.get_or_create` | its Redis lock, `distributed_lock=True`, all else as it ships |
//! | cashews | `@cache(ttl, lock=True, protected=False)` | its lock, which it takes for every read |
//! | cashews, 10 processes | `@cache(ttl, lock=True)` | the same as it ships: in a process, one goes for all |
//! | memcached | `mg key s v t c N10` | the winner (`W`) loads, the others (`Z`) look again every 0.1 s |
//! | memcached, R | `mg … N10 R2` | one reader is sent to load in the last two seconds |
//! | memcached, md I | as memcached | does not expire: `md key I` makes it stale, and a stale value (`X`) is used |
//! | GETLOCK | `SMARTCACHE.GETLOCK key WAIT 30 BETA 0` | who gets the token loads, the others wait in the server |
//! | GETLOCK, SWR | the same, with `SMARTCACHE.SET … SWR 60` | the stale value is used, one reader refreshes behind it |
//! | GETLOCK, BETA 1 | `GETLOCK key WAIT 30 BETA 1` | one reader is picked to refresh before the end |
//!
//! The two libraries run in Python (`callers.py`): dogpile.cache with a thread for each caller, cashews with a task for
//! each. Each caller stands for a process of a fleet, though they share one; so what cashews does inside a process is
//! switched off, and both get a connection for each caller. The ten processes are the other end: cashews as it
//! ships, with few that meet at the server. Python is slower than what else asks here, so look at what a library made
//! the *server* do, and at waits of tenths of seconds; smaller ones are Python's own. `client` says how busy the
//! callers' side was; where Python had its core busy and left callers without an answer, or did not get them to ask in
//! time, it is Python that was measured, and the run counts as not run.
//!
//! # How
//!
//! - **A load** is a sleep of half a second in the caller, then the store of a real record (`tests/data`, about 1 KB).
//! - **Cold:** 1 to 5,000 callers ask for a key that is not there, all at once, each over a connection of its own.
//! - **Expiry:** 1,000 readers, each once a second, evenly apart; the key is there at first and runs out, several times.
//!   A *cycle* is a load with all that begin before it is done. Early refresh has shorter cycles, for it begins before
//!   the end; what that costs stands in loads a minute.
//! - **Each run on a fresh process:** the server as it comes, with the module only where it is used, a unix socket, the
//!   server on the first core, the callers on the second; connections are opened before the clock starts. Rounds go
//!   through everything in turn. Printed are medians of the rounds, and quartiles where they matter.
//! - **Commands** are the server's own count (`INFO commandstats`, memcached's `stats`); those that a script calls count
//!   too, setting up connections does not.
//! - **Server CPU** is user and system time of the whole server process, from before the first request until it rests.
//! - **Fresh, stale, waited, loaded:** a reader that was answered within 20 ms got a fresh or a stale value, one that
//!   was answered later waited, and one that had to load by itself is counted there alone.
//!
//! # The promises
//!
//! 1,000 callers of a cold key with `GETLOCK … WAIT` are watched more closely: how long after the store the last one was
//! answered, and whether the server stopped for anybody else (`support/watch.rs` says how that is seen), beside the same
//! server at rest. Machines stumble: a ping may wait for milliseconds with no caller about.
//!
//! What is promised is the answering. All that has arrived is done in one event loop, in any server; so a thousand
//! requests that come at the same moment make a long one, whatever they ask: as many plain `GET` stand beside it.

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
use caller::Terms;
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
                    all.measure(&mut lab, approach, scenario, &terms(args, 60), files)?;
                }
            }
        }
        if wanted(Part::Expiry) {
            let ttl = if args.common.quick { 2 } else { args.ttl };
            let cycles = if args.common.quick { 1 } else { args.cycles };
            // As long as so many lifetimes with a load each, and a little, so that the last load is seen to its end.
            let seconds = f64::from(cycles) * (ttl as f64 + LOAD.as_secs_f64()) + 1.0;
            for approach in chosen(args, &Approach::EXPIRY) {
                progress(&format!("round {round} of {rounds}: at expiry, {}", approach.name()));
                let scenario = Scenario::Expiry { readers: READERS, seconds };
                all.measure(&mut lab, approach, scenario, &terms(args, ttl), files)?;
            }
        }
        if wanted(Part::Promises) && chosen(args, &Approach::COLD).contains(&Approach::Getlock) {
            progress(&format!("round {round} of {rounds}: the promises"));
            all.watched.push(lab.watch(&terms(args, 60), files)?);
        }
    }

    let facts = lab.facts(args);
    report::print(&facts, &all);
    save(&args.common, &report::json(&facts, &all))?;
    if args.svg.is_some() { draw(args) } else { Ok(()) }
}

impl All {
    /// One more round, unless it could not be done before.
    fn measure(
        &mut self,
        lab: &mut Lab,
        approach: Approach,
        scenario: Scenario,
        terms: &Terms,
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
        let measured = lab.measure(approach, scenario, terms, files);
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

fn terms(args: &Args, ttl: u64) -> Terms {
    let records = data::records();
    let distance = |record: &Vec<u8>| record.len().abs_diff(1_024);
    let record = records.iter().map(data::Record::json).min_by_key(distance).expect("the sample has records");
    Terms { record, load: LOAD, ttl, limit: limit(args) }
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

/// Allows ourselves, and the servers that we start, as many open files as may be; how many.
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
