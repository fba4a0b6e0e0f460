//! The soak: dozens of clients, a few keys, and all kinds of failures at once; afterwards a checker verifies the
//! recorded history.
//!
//! ```text
//!  origin.rs   the origin: keys with versions                client.rs   readers, writers, operators, and a ticker
//!  history.rs  commands, answers and times                   check.rs    the rules, certain cases only
//!  storm.rs    invalidations, crashes and failovers          judge.rs    the rules of invalidations
//!  hostile.rs  a user with narrow rights does its worst, and an application must not notice
//! ```
//!
//! Clients die with a lease or parked; loads fail, outlive their lease, or are stored twice or with foreign tokens;
//! meanwhile keys are written, deleted, made stale, renamed and flushed, databases are swapped, connections are killed,
//! and settings change. `make soak` runs it for two minutes, `make test` for ten seconds.
//!
//! | variable | meaning |
//! |---|---|
//! | `SMARTCACHE_SOAK_SECONDS` | duration; default 10 |
//! | `SMARTCACHE_SOAK_SEED` | seed of the clients' decisions (not of their timing); default random, and printed |
//! | `SMARTCACHE_SOAK_HISTORY` | the history of an earlier run: it is checked again, nothing is run |

mod check;
mod check_tests;
mod client;
mod history;
mod hostile;
mod judge;
mod judge_tests;
mod origin;
mod storm;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use check::Violation;
use client::Client;
use history::Step;
use origin::World;

use crate::support::{SOON, Server};

/// Many clients per key: there are 18 keys in their databases.
const CLIENTS: u64 = 40;
/// Steps shown around a violation.
const SHOWN: usize = 30;

/// Checks the history of an earlier run if one is named. Returns whether it did.
fn checked_again(check: fn(&[Step]) -> Vec<Violation>) -> bool {
    let Ok(file) = std::env::var("SMARTCACHE_SOAK_HISTORY") else { return false };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let steps: Vec<Step> = text.lines().filter_map(Step::parse).collect();
    let found = check(&steps);
    assert!(found.is_empty(), "{}", report(&steps, &found, PathBuf::from(file)));
    true
}

/// Duration, and seed of the decisions.
fn length_and_seed() -> (Duration, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("SMARTCACHE_SOAK_SECONDS").unwrap_or(10);
    let seed = number("SMARTCACHE_SOAK_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("soak: SMARTCACHE_SOAK_SEED={seed} SMARTCACHE_SOAK_SECONDS={seconds}");
    (Duration::from_secs(seconds), seed)
}

#[test]
fn nothing_invalidated_is_served_through_crashes_and_failovers() {
    if checked_again(judge::judge) {
        return;
    }
    let (lasts, seed) = length_and_seed();
    let mut pair = storm::Pair::start();
    let mut world = World::new(pair.primary.path("s"), false);
    world.moves = pair.primary.moves_onto_expired_keys();
    let world = Arc::new(world);
    pair.publish(&world);
    let start = |n: u64, mortal: bool, role: fn(Client) -> Vec<Step>| {
        let client = Client::new(world.clone(), seed.wrapping_mul(1_000).wrapping_add(n), mortal);
        thread::spawn(move || role(client))
    };
    let mut all = vec![start(0, false, Client::run_operator)];
    all.extend((1..17).map(|n| start(n, true, Client::run_loader)));
    all.extend((17..20).map(|n| start(n, true, Client::run_invalidator)));
    all.extend((20..22).map(|n| start(n, true, Client::run_mover)));
    all.extend((22..24).map(|n| start(n, false, Client::run_replica_reader)));
    let mut steps = pair.live(&world, seed, lasts);
    world.over.store(true, SeqCst);
    steps.extend(all.into_iter().flat_map(|one| one.join().expect("a client that did not panic")));
    steps.sort_by_key(|step| (step.sent, step.ended));

    let served = judge::served(&steps);
    println!("soak: {}: {} served {served:?}", pair.primary.name(), summary(&steps));
    let found = judge::judge(&steps);
    assert!(found.is_empty(), "{}", report(&steps, &found, keep(&steps, seed)));
    let reads: usize = served.values().sum();
    assert!(20 * served["HIT"] > reads, "too few fresh reads to prove anything: {served:?}");
}

#[test]
fn nothing_stale_is_fresh_nobody_waits_forever_and_counters_add_up() {
    if checked_again(check::check) {
        return;
    }
    let (lasts, seed) = length_and_seed();

    let s = Server::start();
    s.ok("CONFIG SET smartcache.lock 300ms");
    // In half of the runs native deletes and writes are observed too.
    let guards_native = seed % 2 == 0;
    s.ok(&format!("CONFIG SET smartcache.guard-native {}", if guards_native { "yes" } else { "no" }));
    let steps = run(&s, guards_native, seed, lasts);
    println!("soak: {}: {}", s.name(), summary(&steps));
    let found = check::check(&steps);
    assert!(found.is_empty(), "{}", report(&steps, &found, keep(&steps, seed)));
}

/// Runs all clients. Returns the steps in the order in which they were sent.
fn run(s: &Server, guards_native: bool, seed: u64, lasts: Duration) -> Vec<Step> {
    let world = Arc::new(World::new(s.path("s"), guards_native));
    let start = |n: u64, mortal: bool, role: fn(Client) -> Vec<Step>| {
        let client = Client::new(world.clone(), seed.wrapping_mul(1_000).wrapping_add(n), mortal);
        thread::spawn(move || role(client))
    };
    let mut all = vec![start(0, false, Client::operate), start(1, false, Client::tick)];
    all.extend((2..CLIENTS + 2).map(|n| start(n, true, Client::live)));
    thread::sleep(lasts);
    world.over.store(true, SeqCst);
    let mut steps: Vec<Step> =
        all.into_iter().flat_map(|one| one.join().expect("a client that did not panic")).collect();

    // Abandoned leases expire; otherwise the checker reports it.
    let deadline = Instant::now() + SOON;
    while (s.stat("leases") > 0 || s.stat("waiters") > 0) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let sent = world.now();
    let stats = s.ok("SMARTCACHE.STATS").pairs();
    let stats: Vec<String> = stats.iter().map(|(name, number)| format!("{name}={}", client::text(number))).collect();
    let (words, answer) = ("SMARTCACHE.STATS".into(), stats.join(" ").into());
    steps.push(Step { sent, ended: world.now(), conn: 0, db: 0, words, answer });
    steps.sort_by_key(|step| (step.sent, step.ended));
    steps
}

/// A summary of the steps in one line.
fn summary(steps: &[Step]) -> String {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for step in steps {
        let mut words = step.words.split(' ');
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = step.answer.split(' ').next().unwrap_or_default();
        let kind = match first {
            "SMARTCACHE.GETLOCK" => format!("GETLOCK {answer}"),
            "SMARTCACHE.SET" | "SMARTCACHE.ABSENT" if step.words.contains(" TOKEN ") => format!("fill {answer}"),
            "CLIENT" | "CONFIG" => format!("{first} {second}"),
            "PING" | "ECHO" | "SELECT" => continue,
            _ => first.trim_start_matches("SMARTCACHE.").to_owned(),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!("{} steps checked ({})", steps.len(), kinds.join(", "))
}

/// Saves the history to a file that is kept.
fn keep(steps: &[Step], seed: u64) -> PathBuf {
    let file = tempfile::Builder::new().prefix(&format!("smartcache-soak-{seed}-")).suffix(".history").tempfile();
    let (mut file, path) = file.expect("a file for the history").keep().expect("it is kept");
    let text: String = steps.iter().map(|step| format!("{step}\n")).collect();
    file.write_all(text.as_bytes()).expect("the history is written");
    path
}

/// The violated rules; for each the shortest case, with the steps around that key.
fn report(steps: &[Step], found: &[Violation], file: PathBuf) -> String {
    let mut out = format!("{} violations; the whole history is in {}\n", found.len(), file.display());
    let span = |v: &Violation| {
        let sent = v.steps.iter().map(|at| steps[*at].sent).min().unwrap_or(0);
        let ended = v.steps.iter().map(|at| steps[*at].ended).max().unwrap_or(0);
        (sent, ended)
    };
    let mut shortest: BTreeMap<_, (&Violation, usize)> = BTreeMap::new();
    for violation in found {
        let best = shortest.entry(violation.rule).or_insert((violation, 0));
        best.1 += 1;
        let length = |v: &Violation| span(v).1 - span(v).0;
        if length(violation) < length(best.0) {
            best.0 = violation;
        }
    }
    for (rule, (violation, times)) in shortest {
        out += &format!("\n{rule:?} ({times} times): {}\n", violation.what);
        let (from, to) = span(violation);
        // Steps that name the key, or all keys.
        let key = violation.steps.last().and_then(|at| steps[*at].words.split(' ').nth(1)).unwrap_or_default();
        let concerned = |step: &Step| {
            let mut words = step.words.split(' ');
            let everywhere = ["FLUSHDB", "FLUSHALL", "SWAPDB", "DEBUG"].iter().any(|word| step.words.starts_with(word));
            step.sent <= to && step.ended >= from && (everywhere || (!key.is_empty() && words.any(|word| word == key)))
        };
        let around: Vec<usize> = (0..steps.len()).filter(|at| concerned(&steps[*at])).collect();
        let far = around.len().saturating_sub(SHOWN);
        if far > 0 {
            out += &format!("    … {far} steps of this key are omitted …\n");
        }
        let shown = around[far..].iter().chain(&violation.steps).collect::<std::collections::BTreeSet<_>>();
        for at in shown {
            let mark = if violation.steps.contains(at) { "==>" } else { "   " };
            out += &format!("{mark} {}\n", steps[*at]);
        }
    }
    out
}
