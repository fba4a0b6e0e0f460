//! Checks a recorded history against the command reference. Uses only the commands, their answers and the times; it
//! knows nothing of the implementation.
//!
//! A command runs at some time between being sent and being answered. So each rule reports only what is **certain**: *A
//! happened before B* means that A was answered before B was sent. A command of a lost connection may have run or not.
//!
//! Commands are grouped by key and database. Two kinds of intervals of a lease are used:
//!
//! ```text
//!  GETLOCK sent      token received                     lease_ms after sent        lease_ms after received
//!      │                   │                                   │                         │
//!      │                   ├── certainly held ─────────────────┤                         │
//!      ├── possibly held ──┼───────────────────────────────────┼─────────────────────────┤
//!                          │     … until the first command that may end it was sent
//!                                … until the first command that must end it was answered
//! ```
//!
//! *Ticks*, a connection that sends `PING` every few milliseconds, distinguish a caller that waits too long from a
//! stalled machine: where many of them were answered in time, server and test were both running.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Step, ms};
use super::origin::is_absent;

const MS: u64 = 1_000_000;
/// Maximum lag of the server's clocks behind the test's clock.
const LAG: u64 = 200 * MS;
/// How much too early a lease may seem to end: some servers have clock steps of 4 ms or 10 ms.
const COARSE: u64 = 10 * MS;
/// Maximum duration of a prompt tick.
const PROMPT: u64 = 20 * MS;
/// How long an answer may take, in time and in ticks, before it counts as not sent.
const ON_ITS_WAY: (u64, usize) = (150 * MS, 20);
/// The assumed duration of a lease whose `LOCK` is unknown.
const UNKNOWN_LOCK: u64 = 10_000 * MS;

/// A violated rule: a description, and the steps.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
    pub(crate) steps: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Nothing is served as fresh whose load began before an invalidation that names it (`judge.rs`).
    EndedIsNotFresh,
    /// After a hard invalidation nothing is served, after a soft one only within the windows (`judge.rs`).
    EndedIsNotServed,
    /// Nothing invalidated is served as fresh, nothing deleted is served at all.
    InvalidatedIsNotServed,
    /// What is served was stored, is this key's, and was not refused.
    ServedWasStored,
    /// What is served is within its lifetime and windows.
    ServedIsInTime,
    /// Each request gets one answer, unless its connection is closed, and only expected errors.
    OneAnswerEach,
    /// Answers come in time: at once, or when `WAIT` is over.
    AnswersComeInTime,
    /// No two live leases on one key.
    OneLease,
    /// A load that began before an invalidation is not stored as fresh after it.
    DistrustedLoads,
    /// A fill never replaces one that was granted or written later.
    OvertakenLoads,
    /// The same fill sent retried is answered the same.
    RetriedFills,
    /// Tokens of other keys and invalid tokens are `LOST`.
    ForeignTokens,
    /// A fill, in time or late, is stored if nothing happened to its key.
    GoodFillsAreStored,
    /// `BUSY` only during a lease or a back-off.
    BusyHasACause,
    /// No caller is parked without a lease.
    NobodyIsForgotten,
    /// An ended lease goes to the first waiter, before any new reader.
    FirstInLine,
    /// A store answers all waiters.
    AStoreAnswersAll,
    /// The server's counters add up, and agree with the clients' answers.
    CountersAddUp,
}

/// A parsed command.
#[derive(Debug)]
enum Act<'h> {
    GetLock {
        key: &'h str,
        lock: Option<u64>,
        wait: u64,
    },
    Get {
        key: &'h str,
        stale: bool,
        state: bool,
    },
    Store(Vec<Stored<'h>>),
    Unlock {
        key: &'h str,
        token: &'h str,
        backoff: Option<u64>,
    },
    Extend {
        key: &'h str,
        token: &'h str,
        by: u64,
    },
    Stamp,
    Invalidate {
        keys: Vec<&'h str>,
        hard: bool,
    },
    Flush {
        all: bool,
    },
    Swap(u8, u8),
    Reload,
    /// The origin has a new version.
    Write {
        key: &'h str,
        version: u64,
    },
    Kill(u64),
    Unblock(u64),
    Setting {
        name: &'h str,
        usual: bool,
    },
    Tick,
    Echo(&'h str),
    Stats,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Claim<'h> {
    Token(&'h str),
    Since(&'h str),
    None,
}

/// A value on its way into the cache.
#[derive(Clone, Copy, Debug)]
struct Stored<'h> {
    key: &'h str,
    value: Option<&'h str>,
    claim: Claim<'h>,
    life: Option<u64>,
    windows: u64,
    /// A plain string, which soft invalidation does not reach.
    plain: bool,
}

pub(super) fn duration(word: &str) -> u64 {
    match word.strip_suffix("ms") {
        Some(number) => number.parse::<u64>().unwrap_or(0) * MS,
        None => word.trim_end_matches('s').parse::<u64>().unwrap_or(0) * 1_000 * MS,
    }
}

impl<'h> Act<'h> {
    fn of(words: &'h str) -> Act<'h> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
        let ms = |name: &str| after(name).map(duration);
        let life = || after("PX").map(|n| n.parse::<u64>().unwrap_or(0) * MS);
        let claim = || match (after("TOKEN"), after("SINCE")) {
            (Some(token), _) => Claim::Token(token),
            (None, Some(stamp)) => Claim::Since(stamp),
            (None, None) => Claim::None,
        };
        let windows = || ms("SWR").unwrap_or(0).max(ms("SIE").unwrap_or(0));
        let stored = |key, value, plain| Stored { key, value, claim: claim(), life: life(), windows: windows(), plain };
        match words[..] {
            ["SMARTCACHE.GETLOCK", key, ..] => Act::GetLock { key, lock: ms("LOCK"), wait: ms("WAIT").unwrap_or(0) },
            ["SMARTCACHE.GET", key, ..] => {
                Act::Get { key, stale: words.contains(&"STALE"), state: words.contains(&"STATE") }
            }
            ["SMARTCACHE.SET", key, value, ..] => Act::Store(vec![stored(key, Some(value), false)]),
            ["SMARTCACHE.ABSENT", key, ..] => Act::Store(vec![stored(key, None, false)]),
            ["SET", key, value, ..] => Act::Store(vec![stored(key, Some(value), true)]),
            ["SMARTCACHE.MSET", count, ..] => {
                let count = count.parse().unwrap_or(0);
                let pairs = words[2..].chunks(2).take(count);
                Act::Store(pairs.map(|pair| stored(pair[0], pair.get(1).copied(), false)).collect())
            }
            ["SMARTCACHE.UNLOCK", key, token, ..] => Act::Unlock { key, token, backoff: ms("BACKOFF") },
            ["SMARTCACHE.EXTEND", key, token, by] => Act::Extend { key, token, by: duration(by) },
            ["SMARTCACHE.STAMP"] => Act::Stamp,
            ["SMARTCACHE.DEL" | "DEL" | "UNLINK", ..] => Act::Invalidate { keys: words[1..].to_vec(), hard: true },
            ["SMARTCACHE.STALE", ..] => Act::Invalidate { keys: words[1..].to_vec(), hard: false },
            ["FLUSHDB", ..] => Act::Flush { all: false },
            ["FLUSHALL", ..] => Act::Flush { all: true },
            ["SWAPDB", a, b] => Act::Swap(a.parse().unwrap_or(0), b.parse().unwrap_or(0)),
            ["DEBUG", "RELOAD"] => Act::Reload,
            ["WRITE", key, version] => Act::Write { key, version: version.parse().unwrap_or(0) },
            ["CLIENT", "KILL", "ID", id] => Act::Kill(id.parse().unwrap_or(0)),
            ["CLIENT", "UNBLOCK", id, ..] => Act::Unblock(id.parse().unwrap_or(0)),
            ["CONFIG", "SET", name, to] => Act::Setting { name, usual: matches!(to, "0" | "100000" | "300ms") },
            ["PING"] => Act::Tick,
            ["ECHO", word] => Act::Echo(word),
            ["SMARTCACHE.STATS"] => Act::Stats,
            _ => Act::Other,
        }
    }
}

/// A parsed answer of a read: state, value, token and `lease_ms`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParsedAnswer<'h> {
    pub(super) state: &'h str,
    pub(super) value: Option<&'h str>,
    pub(super) token: Option<&'h str>,
    lease: u64,
}

impl<'h> ParsedAnswer<'h> {
    pub(super) fn of(answer: &'h str) -> Option<ParsedAnswer<'h>> {
        let [state, value, token, _, lease] = answer.split(' ').collect::<Vec<_>>()[..] else { return None };
        let some = |word: &'h str| (word != "nil").then_some(word);
        let lease = lease.parse::<u64>().ok()? * MS;
        Some(ParsedAnswer { state, value: some(value), token: some(token), lease })
    }
}

/// `a1@17#482`: key, version, and a number unique to the store.
fn version_of(value: &str) -> Option<(&str, u64)> {
    let (key, rest) = value.split_once('@')?;
    Some((key, rest.split_once('#')?.0.parse().ok()?))
}

/// An event after which earlier loads are not trusted, with the origin's version at that time.
#[derive(Clone, Copy, Debug)]
struct Invalidation {
    at: usize,
    sent: u64,
    /// `u64::MAX` if it is unknown whether it ran.
    ended: u64,
    version: u64,
    hard: bool,
    /// A flush or `SWAPDB`, which concerns the key whatever it holds.
    whole_db: bool,
}

/// A granted token.
#[derive(Clone, Copy, Debug)]
struct Grant<'h> {
    at: usize,
    token: &'h str,
    sent: u64,
    ended: u64,
    lease: u64,
    early: bool,
    waited: bool,
    retried: bool,
}

/// A read of a key.
#[derive(Clone, Copy)]
struct Read<'h> {
    at: usize,
    parsed: ParsedAnswer<'h>,
}

/// All steps that concern one key of one database, in the order in which they were sent.
#[derive(Default)]
struct KeyHistory<'h> {
    invalidations: Vec<Invalidation>,
    swaps: Vec<usize>,
    reads: Vec<Read<'h>>,
    /// `GETLOCK`s, answered or not.
    getlocks: Vec<usize>,
    grants: Vec<Grant<'h>>,
    stores: Vec<(usize, Stored<'h>)>,
    unlocks: Vec<(usize, &'h str, Option<u64>)>,
    extends: Vec<(usize, &'h str, u64)>,
    /// Native commands that change the key.
    native_writes: Vec<usize>,
    reloads: Vec<usize>,
    /// Events of the same key in other databases: (sent, ended). Late loads may be refused because of them.
    namesakes: Vec<(u64, u64)>,
}

type Location<'h> = (u8, &'h str);

/// The parsed history.
struct ParsedHistory<'h> {
    steps: &'h [Step],
    acts: Vec<Act<'h>>,
    keys_by_db: BTreeMap<Location<'h>, KeyHistory<'h>>,
    /// The origin's versions of each key, with the begin and end of each write.
    writes: HashMap<&'h str, Vec<(u64, u64, u64)>>,
    /// By value: every step that stored it.
    values: HashMap<&'h str, Vec<(usize, Stored<'h>)>>,
    stamps: HashMap<&'h str, usize>,
    /// Prompt ticks, in order.
    ticks: Vec<(u64, u64)>,
    /// When leases were refused by a limit.
    lease_refusals: Vec<(u64, u64)>,
    /// Late fills that were refused without a cause, by key.
    late_refusals: Vec<Vec<(String, Vec<usize>)>>,
    found: Vec<Violation>,
}

/// Checks the history, whose steps must be in the order in which they were sent.
pub(crate) fn check(steps: &[Step]) -> Vec<Violation> {
    let mut history = ParsedHistory::read(steps);
    history.one_answer_each();
    history.answers_come_in_time();
    let keys_by_db = std::mem::take(&mut history.keys_by_db);
    for ((db, key), records) in &keys_by_db {
        let mut view = KeyView { history: &mut history, db: *db, key, records };
        view.invalidated_is_not_served();
        view.served_was_stored_and_is_in_time();
        view.one_lease();
        view.fills();
        view.waiting();
    }
    history.keys_by_db = keys_by_db;
    history.late_fills_are_stored();
    history.counters_add_up();
    history.found.sort_by_key(|violation| violation.rule);
    history.found
}

impl<'h> ParsedHistory<'h> {
    fn read(steps: &'h [Step]) -> Self {
        let acts: Vec<Act<'h>> = steps.iter().map(|step| Act::of(&step.words)).collect();
        let mut history = ParsedHistory {
            steps,
            acts,
            keys_by_db: BTreeMap::new(),
            writes: HashMap::new(),
            values: HashMap::new(),
            stamps: HashMap::new(),
            ticks: Vec::new(),
            lease_refusals: Vec::new(),
            late_refusals: Vec::new(),
            found: Vec::new(),
        };
        history.find_keys();
        history.assign_steps();
        history.link_namesakes();
        history
    }

    /// Finds the keys, and the versions of the origin.
    fn find_keys(&mut self) {
        let steps = self.steps;
        for (step, act) in steps.iter().zip(&self.acts) {
            let keys: Vec<&'h str> = match act {
                Act::GetLock { key, .. } | Act::Get { key, .. } => vec![*key],
                Act::Store(stored) => stored.iter().map(|one| one.key).collect(),
                _ => vec![],
            };
            for key in keys {
                self.keys_by_db.entry((step.db, key)).or_default();
            }
            match act {
                Act::Write { key, version } => {
                    self.writes.entry(key).or_default().push((step.sent, step.ended, *version));
                }
                Act::Stamp if step.is_answered() => drop(self.stamps.insert(&step.answer, 0)),
                Act::Tick if step.is_answered() && step.ended - step.sent <= PROMPT => {
                    self.ticks.push((step.sent, step.ended));
                }
                Act::Setting { usual: false, name } if name.ends_with("max-leases") => {
                    self.lease_refusals.push((step.sent, u64::MAX));
                }
                Act::Setting { usual: true, name } if name.ends_with("max-leases") => {
                    if let Some(last) = self.lease_refusals.last_mut() {
                        last.1 = step.ended;
                    }
                }
                _ => {}
            }
        }
    }

    fn assign_steps(&mut self) {
        let steps = self.steps;
        let mut seen: HashMap<Location<'h>, BTreeSet<&'h str>> = HashMap::new();
        for (at, step) in steps.iter().enumerate() {
            // Native commands are observed without their database.
            if let Some(name @ ("DEL" | "UNLINK" | "SET" | "RENAME" | "PEXPIRE")) = step.words.split(' ').next() {
                let key = step.words[name.len()..].trim_start().split(' ').next().unwrap_or_default();
                self.keys_by_db
                    .iter_mut()
                    .filter(|((_, of), _)| *of == key)
                    .for_each(|(_, records)| records.native_writes.push(at));
            }
            let invalidation = |version, hard, whole_db| Invalidation {
                at,
                sent: step.sent,
                ended: if step.is_answered() && !step.answer.starts_with("error") { step.ended } else { u64::MAX },
                version,
                hard,
                whole_db,
            };
            match &self.acts[at] {
                Act::GetLock { key, wait, .. } => {
                    let records = self.keys_by_db.entry((step.db, key)).or_default();
                    records.getlocks.push(at);
                    let Some(parsed) = ParsedAnswer::of(&step.answer) else { continue };
                    records.reads.push(Read { at, parsed });
                    if let Some(token) = parsed.token {
                        records.grants.push(Grant {
                            at,
                            token,
                            sent: step.sent,
                            ended: step.ended,
                            lease: parsed.lease,
                            early: matches!(parsed.state, "HIT" | "ABSENT"),
                            waited: *wait > 0,
                            retried: !seen.entry((step.db, key)).or_default().insert(token),
                        });
                    }
                }
                Act::Get { key, stale, state } => {
                    let parsed = match (state, &*step.answer) {
                        (true, answer) => ParsedAnswer::of(answer),
                        (false, "nil" | "gone" | "left" | "silence") => None,
                        (false, answer) if answer.starts_with("error") => None,
                        // With STALE the answer does not show the state: the entry must at least be servable.
                        (false, value) => {
                            let state = if *stale { "STALE" } else { "HIT" };
                            Some(ParsedAnswer { state, value: Some(value), token: None, lease: 0 })
                        }
                    };
                    if let Some(parsed) = parsed {
                        self.keys_by_db.entry((step.db, key)).or_default().reads.push(Read { at, parsed });
                    }
                }
                Act::Store(all) => {
                    for stored in all.clone() {
                        if let Some(value) = stored.value {
                            self.values.entry(value).or_default().push((at, stored));
                        }
                        let version = self.version_before(stored.key, step.sent);
                        let records = self.keys_by_db.entry((step.db, stored.key)).or_default();
                        records.stores.push((at, stored));
                        if stored.claim == Claim::None {
                            records.invalidations.push(invalidation(version, true, false));
                        }
                    }
                }
                Act::Unlock { key, token, backoff } => {
                    self.keys_by_db.entry((step.db, key)).or_default().unlocks.push((at, token, *backoff));
                }
                Act::Extend { key, token, by } => {
                    self.keys_by_db.entry((step.db, key)).or_default().extends.push((at, token, *by));
                }
                Act::Stamp => drop(self.stamps.insert(&step.answer, at)),
                Act::Invalidate { keys, hard } => {
                    for key in keys.clone() {
                        let version = self.version_before(key, step.sent);
                        self.keys_by_db
                            .entry((step.db, key))
                            .or_default()
                            .invalidations
                            .push(invalidation(version, *hard, false));
                    }
                }
                Act::Flush { all } => {
                    let all = *all;
                    let locations: Vec<_> =
                        self.keys_by_db.keys().filter(|(db, _)| all || *db == step.db).copied().collect();
                    for location in locations {
                        let version = self.version_before(location.1, step.sent);
                        self.keys_by_db
                            .entry(location)
                            .or_default()
                            .invalidations
                            .push(invalidation(version, true, true));
                    }
                }
                Act::Swap(a, b) => {
                    for (_, records) in self.keys_by_db.iter_mut().filter(|((db, _), _)| db == a || db == b) {
                        // It makes loads distrusted, but is no write of the origin.
                        records.invalidations.push(invalidation(0, true, true));
                        records.swaps.push(at);
                    }
                }
                Act::Reload => self.keys_by_db.values_mut().for_each(|records| records.reloads.push(at)),
                _ => {}
            }
        }
    }

    fn link_namesakes(&mut self) {
        let steps = self.steps;
        let done: Vec<(Location<'h>, Vec<(u64, u64)>)> = (self.keys_by_db.iter())
            .map(|(at, records)| {
                let invalidations = records.invalidations.iter().map(|invalidation| invalidation.at);
                let all = invalidations.chain(records.stores.iter().map(|(at, _)| *at));
                let until = |step: &Step| if step.is_answered() { step.ended } else { u64::MAX };
                (*at, all.map(|at| (steps[at].sent, until(&steps[at]))).collect())
            })
            .collect();
        for ((db, key), times) in done {
            for (_, records) in self.keys_by_db.iter_mut().filter(|((other, name), _)| *name == key && *other != db) {
                records.namesakes.extend(&times);
            }
        }
    }

    /// The newest version of the origin before this time.
    fn version_before(&self, key: &str, moment: u64) -> u64 {
        let Some(writes) = self.writes.get(key) else { return 1 };
        let count = writes.partition_point(|(_, done, _)| *done < moment);
        if count == 0 { 1 } else { writes[count - 1].2 }
    }

    /// The newest version of the origin that could be loaded until this time.
    fn version_until(&self, key: &str, moment: u64) -> u64 {
        let Some(writes) = self.writes.get(key) else { return 1 };
        let count = writes.partition_point(|(begun, _, _)| *begun <= moment);
        if count == 0 { 1 } else { writes[count - 1].2 }
    }

    /// The number of prompt ticks entirely between two times.
    fn ticks_between(&self, from: u64, to: u64) -> usize {
        let first = self.ticks.partition_point(|(sent, _)| *sent < from);
        let last = self.ticks.partition_point(|(_, ended)| *ended <= to);
        last.saturating_sub(first)
    }

    /// Whether an answer must have arrived between two times, since server and test were running.
    fn too_long(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) >= ON_ITS_WAY.0 && self.ticks_between(from, to) >= ON_ITS_WAY.1
    }

    fn report(&mut self, rule: Rule, what: String, steps: &[usize]) {
        self.found.push(Violation { rule, what, steps: steps.to_vec() });
    }

    // ---- answers ----

    fn one_answer_each(&mut self) {
        let mut killed = BTreeSet::new();
        let mut unblocked = BTreeSet::new();
        for act in &self.acts {
            match act {
                Act::Kill(id) => drop(killed.insert(*id)),
                Act::Unblock(id) => drop(unblocked.insert(*id)),
                _ => {}
            }
        }
        for at in 0..self.steps.len() {
            let step = &self.steps[at];
            let what = match (&*step.answer, &self.acts[at]) {
                ("silence", _) => "no answer came".to_owned(),
                ("gone", _) if !killed.contains(&step.conn) => "the connection was closed without a cause".to_owned(),
                ("gone" | "left", _) => continue,
                (answer, Act::Echo(word)) if answer != *word => {
                    "not the answer to this command: an earlier answer is missing or superfluous".to_owned()
                }
                (answer, _) if answer.starts_with("error") => {
                    let asked_for = answer.starts_with("error UNBLOCKED") && unblocked.contains(&step.conn)
                        || answer.starts_with("error LOADING")
                        || answer.starts_with("error ERR no such key")
                        || answer.starts_with("error ERR No such client")
                        || answer.starts_with("error ERR Background save already");
                    if asked_for {
                        continue;
                    }
                    "an unexpected error".to_owned()
                }
                (answer, Act::GetLock { .. }) => match ParsedAnswer::of(answer) {
                    Some(parsed) if is_documented(&parsed) => continue,
                    _ => "an answer that is not in the reference".to_owned(),
                },
                _ => continue,
            };
            self.report(Rule::OneAnswerEach, what, &[at]);
        }
    }

    fn answers_come_in_time(&mut self) {
        for at in 0..self.steps.len() {
            let step = &self.steps[at];
            let wait = match &self.acts[at] {
                Act::GetLock { wait, .. } => *wait,
                Act::Get { .. } | Act::Store(_) | Act::Invalidate { .. } | Act::Unlock { .. } => 0,
                _ => continue,
            };
            let due = step.sent + wait;
            if &*step.answer != "left" && step.ended > due && self.too_long(due, step.ended) {
                let late = ms(step.ended - due);
                let what = format!("the answer came {late:.0} ms after it was due, while other commands were answered");
                self.report(Rule::AnswersComeInTime, what, &[at]);
            }
        }
    }

    // ---- late fills ----

    /// Two keys may share a slot of the tombstone table, and then late fills of one are refused because of the other:
    /// one run in a thousand. So it takes three keys.
    fn late_fills_are_stored(&mut self) {
        let late = std::mem::take(&mut self.late_refusals);
        if late.len() < 3 {
            return;
        }
        for (what, steps) in late.into_iter().flatten() {
            self.report(Rule::GoodFillsAreStored, what, &steps);
        }
    }

    // ---- counters ----

    fn counters_add_up(&mut self) {
        let Some(at) = self.acts.iter().rposition(|act| matches!(act, Act::Stats)) else { return };
        let stats: HashMap<&str, u64> = self.steps[at]
            .answer
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
            .collect();
        let of = |name: &str| stats.get(name).copied().unwrap_or(0);
        let mut wrong = Vec::new();
        for (whole, parts) in [
            ("requests", &["hits", "stale_hits", "absent_hits", "misses", "busy"][..]),
            ("misses", &["misses_cold", "misses_expired", "misses_invalidated", "misses_evicted"]),
            (
                "leases_granted",
                &[
                    "fills",
                    "fills_stale",
                    "fills_lost",
                    "fills_failed",
                    "leases_released",
                    "leases_voided",
                    "leases_expired",
                ],
            ),
            ("waits", &["waits_served", "waits_promoted", "waits_timed_out", "waits_dropped"]),
            ("leases", &[]),
            ("waiters", &[]),
            ("panics", &[]),
        ] {
            let sum: u64 = parts.iter().map(|part| of(part)).sum();
            if of(whole) != sum {
                wrong.push(format!("{whole} is {}, but should be {sum} ({})", of(whole), parts.join(" + ")));
            }
        }
        for (name, (least, most)) in self.seen_by_clients() {
            if !(least..=most).contains(&of(name)) {
                wrong.push(format!("{name} is {}, but the clients' answers imply {least} to {most}", of(name)));
            }
        }
        for what in wrong {
            self.report(Rule::CountersAddUp, what, &[at]);
        }
    }

    /// The range of each counter that follows from the clients' answers.
    fn seen_by_clients(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let states = ["hits", "stale_hits", "absent_hits", "misses", "busy"];
        let others = ["requests", "leases_granted", "leases_early", "leases_released", "fills_failed", "fills_unknown"];
        let mut seen: BTreeMap<&'static str, (u64, u64)> =
            states.iter().chain(&others).map(|name| (*name, (0, 0))).collect();
        let mut count = |name: &'static str, certain: bool| {
            let (least, most) = seen.entry(name).or_default();
            *least += u64::from(certain);
            *most += 1;
        };
        let granted: BTreeSet<(Location<'h>, &str)> = self
            .keys_by_db
            .iter()
            .flat_map(|(at, records)| records.grants.iter().map(move |grant| (*at, grant.token)))
            .collect();
        for (at, step) in self.steps.iter().enumerate() {
            let answered = step.is_answered() && !step.answer.starts_with("error");
            match &self.acts[at] {
                Act::GetLock { .. } | Act::Get { .. } => {
                    let plain = matches!(&self.acts[at], Act::Get { state: false, .. });
                    let stale = matches!(&self.acts[at], Act::Get { stale: true, .. });
                    count("requests", answered);
                    let certain = match ParsedAnswer::of(&step.answer) {
                        Some(parsed) => Some(match parsed.state {
                            "HIT" => "hits",
                            "STALE" => "stale_hits",
                            "ABSENT" => "absent_hits",
                            "MISS" => "misses",
                            _ => "busy",
                        }),
                        None if plain && answered && &*step.answer != "nil" && !stale => Some("hits"),
                        None => None,
                    };
                    match certain {
                        Some(name) => count(name, true),
                        None => states.iter().for_each(|name| count(name, false)),
                    }
                    if matches!(&self.acts[at], Act::GetLock { .. }) && !answered {
                        count("leases_granted", false);
                        count("leases_early", false);
                    }
                }
                Act::Unlock { backoff, .. } => {
                    let name = if backoff.is_some() { "fills_failed" } else { "leases_released" };
                    match &*step.answer {
                        "0" => {}
                        _ => count(name, answered),
                    }
                }
                Act::Store(all) => {
                    for one in all {
                        if let Claim::Token(token) = one.claim
                            && !granted.contains(&((step.db, one.key), token))
                        {
                            count("fills_unknown", answered);
                        }
                    }
                }
                _ => {}
            }
        }
        for records in self.keys_by_db.values() {
            for grant in records.grants.iter().filter(|grant| !grant.retried) {
                count("leases_granted", true);
                if grant.early {
                    count("leases_early", true);
                }
            }
        }
        seen
    }
}

/// Whether the combination of state, value and token is in the table of the reference.
fn is_documented(parsed: &ParsedAnswer<'_>) -> bool {
    match parsed.state {
        "HIT" | "STALE" => parsed.value.is_some(),
        "ABSENT" => parsed.value.is_none(),
        "MISS" => parsed.value.is_none() && parsed.token.is_some() && parsed.lease > 0,
        "BUSY" => parsed.value.is_none() && parsed.token.is_none() && parsed.lease > 0,
        _ => false,
    }
}

/// One key of the history.
struct KeyView<'v, 'h> {
    history: &'v mut ParsedHistory<'h>,
    db: u8,
    key: &'h str,
    records: &'v KeyHistory<'h>,
}

/// Steps sorted by their end: finds, of all that ended after (or before) a time, the one that was sent first (or last).
struct ByEnd {
    ends: Vec<u64>,
    first_sent_from: Vec<(u64, usize)>,
    last_sent_until: Vec<(u64, usize)>,
}

impl ByEnd {
    /// Of (sent, ended, step).
    fn new(mut steps: Vec<(u64, u64, usize)>) -> Self {
        steps.sort_by_key(|(_, ended, _)| *ended);
        let mut first: Vec<_> = steps.iter().map(|(sent, _, at)| (*sent, *at)).collect();
        let mut last = first.clone();
        for n in 1..last.len() {
            last[n] = last[n].max(last[n - 1]);
        }
        for n in (1..first.len()).rev() {
            first[n - 1] = first[n - 1].min(first[n]);
        }
        ByEnd {
            ends: steps.iter().map(|(_, ended, _)| *ended).collect(),
            first_sent_from: first,
            last_sent_until: last,
        }
    }

    fn first_sent_of_those_ended_after(&self, moment: u64) -> Option<(u64, usize)> {
        self.first_sent_from.get(self.ends.partition_point(|ended| *ended <= moment)).copied()
    }

    fn last_sent_of_those_ended_before(&self, moment: u64) -> Option<(u64, usize)> {
        let count = self.ends.partition_point(|ended| *ended < moment);
        count.checked_sub(1).map(|last| self.last_sent_until[last])
    }
}

impl<'h> KeyView<'_, 'h> {
    fn step(&self, at: usize) -> &'h Step {
        &self.history.steps[at]
    }

    fn name(&self) -> String {
        format!("'{}' of database {}", self.key, self.db)
    }

    // ---- what is served ----

    fn invalidated_is_not_served(&mut self) {
        enum Event {
            Swap,
            Invalidation(Invalidation),
            Read(usize),
        }
        let swaps: Vec<(u64, u64)> =
            self.records.swaps.iter().map(|at| (self.step(*at).sent, self.step(*at).ended)).collect();
        let swap_within = |from: u64, to: u64| swaps.iter().any(|(sent, ended)| *sent < to && *ended > from);
        let mut events: Vec<(u64, Event)> = Vec::new();
        events.extend(swaps.iter().map(|(_, ended)| (*ended, Event::Swap)));
        events.extend(
            self.records
                .invalidations
                .iter()
                .filter(|m| m.ended < u64::MAX)
                .map(|m| (m.ended, Event::Invalidation(*m))),
        );
        events.extend(self.records.reads.iter().enumerate().map(|(n, read)| (self.step(read.at).sent, Event::Read(n))));
        events.sort_by_key(|(moment, _)| *moment);

        // The newest version of each kind of event, and the step.
        let (mut any, mut hard) = ((0, 0), (0, 0));
        let mut found = Vec::new();
        for (_, event) in events {
            match event {
                // The entry in the other database may only have been made stale.
                Event::Swap => hard = (0, 0),
                Event::Invalidation(invalidation) => {
                    let seen = (invalidation.version, invalidation.at);
                    any = any.max(seen);
                    if invalidation.hard && !swap_within(invalidation.sent, invalidation.ended) {
                        hard = hard.max(seen);
                    }
                }
                Event::Read(n) => {
                    let Read { at, parsed } = self.records.reads[n];
                    let step = self.step(at);
                    if parsed.state == "ABSENT" {
                        let latest = self.history.version_until(self.key, step.ended);
                        if !(any.0..=latest).any(is_absent) {
                            let what = format!(
                                "{} was ABSENT, but the origin has always had a value since version {}, of which the cache was notified",
                                self.name(),
                                any.0
                            );
                            found.push((what, vec![any.1, at]));
                        }
                        continue;
                    }
                    let Some((value, (_, version))) = parsed.value.and_then(|v| Some((v, version_of(v)?))) else {
                        continue;
                    };
                    let plain = self.history.values.get(value).is_some_and(|all| all.iter().any(|(_, one)| one.plain));
                    let limit = match parsed.state {
                        "HIT" if !plain => any,
                        // Only a hard invalidation affects stale entries and strings, and only in their database.
                        "HIT" | "STALE" if swap_within(step.sent, step.ended) => continue,
                        "HIT" | "STALE" => hard,
                        _ => continue,
                    };
                    if version < limit.0 {
                        let what = format!(
                            "{} was served as {} with version {version}, though version {} had been written and the cache \
                             parsed of it before that was asked",
                            self.name(),
                            parsed.state,
                            limit.0
                        );
                        let mut steps: Vec<usize> = self
                            .history
                            .values
                            .get(value)
                            .map(|all| all.iter().map(|(at, _)| *at).collect())
                            .unwrap_or_default();
                        steps.extend([limit.1, at]);
                        found.push((what, steps));
                    }
                }
            }
        }
        for (what, steps) in found {
            self.history.report(Rule::InvalidatedIsNotServed, what, &steps);
        }
    }

    fn served_was_stored_and_is_in_time(&mut self) {
        for read in &self.records.reads {
            let (at, parsed) = (read.at, read.parsed);
            let Some(value) = parsed.value else { continue };
            let step = self.step(at);
            let stored = self.history.values.get(value).cloned().unwrap_or_default();
            let mut steps: Vec<usize> = stored.iter().map(|(at, _)| *at).collect();
            steps.push(at);
            let right_key = version_of(value).is_some_and(|(key, version)| {
                key == self.key && version <= self.history.version_until(self.key, step.ended)
            });
            // Whether it may have been stored at all, and stored as fresh.
            let (mut may_be, mut may_be_fresh, mut latest) = (false, false, 0);
            let mut length = (0, 0);
            for (store, one) in &stored {
                let store = self.step(*store);
                if store.sent > step.ended {
                    continue;
                }
                let count = store.words.split(' ').nth(1).filter(|_| store.words.contains("MSET"));
                let fresh = &*store.answer == "OK" || count == Some(&*store.answer);
                let unknown = !store.is_answered() || (count.is_some() && &*store.answer != "0");
                may_be_fresh |= fresh || unknown;
                may_be |= fresh || unknown || &*store.answer == "STALE";
                if fresh || unknown || &*store.answer == "STALE" {
                    latest = latest.max(store.ended);
                    length = (one.life.unwrap_or(u64::MAX / 4), one.windows);
                }
            }
            let name = self.name();
            let what = if !right_key {
                format!("{name} was served with a value that cannot be its own")
            } else if !may_be {
                format!("{name} was served with a value that was never stored")
            } else if parsed.state == "HIT" && !may_be_fresh {
                format!("{name} was served as fresh with a value whose store was not answered OK")
            } else {
                String::new()
            };
            if !what.is_empty() {
                self.history.report(Rule::ServedWasStored, what, &steps);
                continue;
            }
            let until = latest + length.0 + if parsed.state == "STALE" { length.1 } else { 0 };
            if step.sent > until + LAG {
                let late = ms(step.sent - until);
                let what = format!("{name} was served as {} {late:.0} ms after the end of that time", parsed.state);
                self.history.report(Rule::ServedIsInTime, what, &steps);
            }
        }
    }

    // ---- leases ----

    /// Steps that may end a lease, by their end.
    fn lease_enders(&self) -> ByEnd {
        let records = self.records;
        let sent_ended = |at: &usize| (self.step(*at).sent, self.end_of(*at), *at);
        let mut all: Vec<_> = records
            .invalidations
            .iter()
            .map(|invalidation| (invalidation.sent, invalidation.ended, invalidation.at))
            .collect();
        all.extend(records.native_writes.iter().chain(&records.reloads).map(sent_ended));
        let stores = records.stores.iter().map(|(at, _)| at).filter(|at| &*self.step(**at).answer != "LOST");
        all.extend(stores.map(sent_ended));
        ByEnd::new(all)
    }

    /// When the step had certainly run: never, if it was not answered.
    fn end_of(&self, at: usize) -> u64 {
        let step = self.step(at);
        if step.is_answered() { step.ended } else { u64::MAX }
    }

    /// Steps that name this token: fills, `UNLOCK`, `EXTEND`.
    fn uses(&self) -> HashMap<&'h str, Vec<usize>> {
        let mut uses: HashMap<&'h str, Vec<usize>> = HashMap::new();
        for (at, stored) in &self.records.stores {
            if let Claim::Token(token) = stored.claim {
                uses.entry(token).or_default().push(*at);
            }
        }
        for (at, token, _) in &self.records.unlocks {
            uses.entry(token).or_default().push(*at);
        }
        for (at, token, _) in &self.records.extends {
            uses.entry(token).or_default().push(*at);
        }
        uses
    }

    /// When leases were certainly held: (from, until, token, step).
    fn certainly_held(&self) -> Vec<(u64, u64, &'h str, usize)> {
        let enders = self.lease_enders();
        let uses = self.uses();
        let mut out = Vec::new();
        let mut add = |from: (u64, u64, usize), lease: u64, token: &'h str| {
            let (sent, ended, at) = from;
            let mut until = sent + lease.saturating_sub(COARSE);
            if let Some((first, _)) = enders.first_sent_of_those_ended_after(sent) {
                until = until.min(first);
            }
            let own = uses.get(token).into_iter().flatten().filter(|own| **own != at && self.end_of(**own) > sent);
            until = own.map(|own| self.step(*own).sent).fold(until, u64::min);
            if until > ended {
                out.push((ended, until, token, at));
            }
        };
        for grant in self.records.grants.iter().filter(|grant| !grant.early) {
            add((grant.sent, grant.ended, grant.at), grant.lease, grant.token);
        }
        let granted: BTreeSet<&str> = self.records.grants.iter().filter(|g| !g.early).map(|g| g.token).collect();
        for (at, token, by) in &self.records.extends {
            if &*self.step(*at).answer == "1" && granted.contains(token) {
                add((self.step(*at).sent, self.step(*at).ended, *at), *by, token);
            }
        }
        out.sort_unstable();
        out
    }

    fn one_lease(&mut self) {
        let mut latest: Option<(u64, u64, &str, usize)> = None;
        for now in self.certainly_held() {
            if let Some(before) = latest
                && before.1 > now.0
                && before.2 != now.2
            {
                let what = format!(
                    "{} was leased twice at once: the first lease was held until {:.3} at least, the second from {:.3}",
                    self.name(),
                    ms(before.1),
                    ms(now.0)
                );
                self.history.report(Rule::OneLease, what, &[before.3, now.3]);
            }
            if latest.is_none_or(|before| before.1 < now.1) {
                latest = Some(now);
            }
        }
    }

    // ---- fills ----

    fn fills(&mut self) {
        /// A fill: when its load began, and the step of its first attempt.
        struct Fill<'h> {
            begun: (u64, u64, usize),
            at: usize,
            claim: Claim<'h>,
        }
        let mut firsts: HashMap<&str, usize> = HashMap::new();
        let mut fills: Vec<Fill<'h>> = Vec::new();
        let granted: HashMap<&str, &Grant<'h>> = self.records.grants.iter().rev().map(|g| (g.token, g)).collect();
        let (mut found, mut late) = (Vec::new(), Vec::new());
        for (at, stored) in &self.records.stores {
            let step = self.step(*at);
            let begun = match stored.claim {
                Claim::Token(token) => match granted.get(token) {
                    Some(grant) => (grant.sent, grant.ended, grant.at),
                    None => {
                        if step.is_answered() && !matches!(&*step.answer, "LOST") && !step.answer.starts_with("error") {
                            let what = format!("{} took a token that was not granted for it", self.name());
                            found.push((Rule::ForeignTokens, what, vec![*at]));
                        }
                        continue;
                    }
                },
                Claim::Since(stamp) => match self.history.stamps.get(stamp) {
                    Some(at) => (self.step(*at).sent, self.step(*at).ended, *at),
                    None => continue,
                },
                Claim::None => continue,
            };
            if let Claim::Token(token) = stored.claim {
                if let Some(first) = firsts.get(token) {
                    let earlier = self.step(*first);
                    let same = earlier.words == step.words && earlier.is_answered() && step.is_answered();
                    if same && earlier.ended <= step.sent && earlier.answer != step.answer {
                        let what = format!("the same fill of {} was answered differently", self.name());
                        found.push((Rule::RetriedFills, what, vec![*first, *at]));
                    }
                    continue;
                }
                firsts.insert(token, *at);
            }
            fills.push(Fill { begun, at: *at, claim: stored.claim });
        }
        for (at, token, answer) in (self.records.unlocks.iter().map(|(at, token, _)| (at, token)))
            .chain(self.records.extends.iter().map(|(at, token, _)| (at, token)))
            .map(|(at, token)| (*at, *token, &*self.step(*at).answer))
        {
            if answer == "1" && !granted.contains_key(token) {
                found.push((Rule::ForeignTokens, format!("{} accepted a token of another key", self.name()), vec![at]));
            }
        }

        let answered_invalidations =
            self.records.invalidations.iter().filter(|invalidation| invalidation.ended < u64::MAX);
        let invalidations = ByEnd::new(
            answered_invalidations
                .clone()
                .map(|invalidation| (invalidation.sent, invalidation.ended, invalidation.at))
                .collect(),
        );
        let is_ok = |at: usize| {
            let step = self.step(at);
            let count = step.words.split(' ').nth(1).filter(|_| step.words.contains("MSET"));
            &*step.answer == "OK" || count == Some(&*step.answer)
        };
        // By the time of the answer: when the loads that were stored had been requested.
        let oks = ByEnd::new(
            fills.iter().filter(|f| is_ok(f.at)).map(|f| (f.begun.0, self.step(f.at).ended, f.at)).collect(),
        );
        let sweeps = |from: u64, to: u64| {
            let invalidations = self
                .records
                .invalidations
                .iter()
                .any(|invalidation| invalidation.whole_db && invalidation.sent < to && invalidation.ended > from);
            invalidations || self.records.reloads.iter().any(|at| self.step(*at).sent < to && self.end_of(*at) > from)
        };
        let causes = self.causes();
        for fill in &fills {
            let step = self.step(fill.at);
            let (asked, got, begun_at) = fill.begun;
            if let Some((sent, invalidation)) = invalidations.last_sent_of_those_ended_before(step.sent)
                && sent > got
                && is_ok(fill.at)
            {
                let what = format!(
                    "a load of {} was stored as fresh, though between its beginning and its end the key was invalidated or written",
                    self.name()
                );
                found.push((Rule::DistrustedLoads, what, vec![begun_at, invalidation, fill.at]));
            }
            if let Some((sent, other)) = oks.last_sent_of_those_ended_before(step.sent)
                && sent > got
                && (is_ok(fill.at) || (&*step.answer == "STALE" && !sweeps(asked, step.ended)))
            {
                let what = format!(
                    "a load of {} was answered {}, and not LOST, though one that began later had been stored",
                    self.name(),
                    step.answer
                );
                found.push((Rule::OvertakenLoads, what, vec![begun_at, other, fill.at]));
            }
            if let Claim::Token(token) = fill.claim
                && matches!(&*step.answer, "LOST" | "STALE")
                && !causes
                    .iter()
                    .any(|(sent, ended, claim)| *claim != fill.claim && *sent < step.ended && *ended > asked)
            {
                let unlocked = self.records.unlocks.iter().any(|(at, of, _)| *of == token && *at < fill.at);
                let in_time = !unlocked && step.ended < asked + granted[token].lease.saturating_sub(COARSE);
                if !in_time && self.records.namesakes.iter().any(|(sent, ended)| *sent < step.ended && *ended > asked) {
                    continue;
                }
                let when = if in_time { "in time" } else { "late" };
                let what = format!(
                    "a load of {} came {when} and was answered {}, though nothing had happened",
                    self.name(),
                    step.answer
                );
                match in_time {
                    true => found.push((Rule::GoodFillsAreStored, what, vec![begun_at, fill.at])),
                    false => late.push((what, vec![begun_at, fill.at])),
                }
            }
        }
        for (rule, what, steps) in found {
            self.history.report(rule, what, &steps);
        }
        if !late.is_empty() {
            self.history.late_refusals.push(late);
        }
    }

    /// Possible causes not to trust a load: (sent, ended, claim).
    fn causes(&self) -> Vec<(u64, u64, Claim<'h>)> {
        let records = self.records;
        let mut causes: Vec<_> = records.invalidations.iter().map(|m| (m.sent, m.ended, Claim::None)).collect();
        causes.extend(records.stores.iter().map(|(at, one)| (self.step(*at).sent, self.end_of(*at), one.claim)));
        causes.extend(
            records
                .native_writes
                .iter()
                .chain(&records.reloads)
                .map(|at| (self.step(*at).sent, self.end_of(*at), Claim::None)),
        );
        causes
    }

    // ---- waiting ----

    /// When a lease or a back-off may have existed: (from, until, step). `tight`: the answer to a waiter did not take
    /// long, so its lease began shortly before.
    fn possibly_held(&self, tight: bool) -> Vec<(u64, u64, usize)> {
        let records = self.records;
        let mut out = Vec::new();
        // Steps that certainly end a lease, by when they were sent.
        let mut ends: Vec<(u64, u64)> = records
            .invalidations
            .iter()
            .filter(|invalidation| invalidation.ended < u64::MAX)
            .map(|invalidation| (invalidation.sent, invalidation.ended))
            .collect();
        ends.sort_unstable();
        let uses = self.uses();
        let close = |from: u64, until: u64, known_at: u64, token: &str| {
            let after = ends.partition_point(|(sent, _)| *sent < known_at);
            let mut until =
                ends[after..].iter().take_while(|(sent, _)| *sent < until).map(|e| e.1).fold(until, u64::min);
            for at in uses.get(token).into_iter().flatten() {
                let step = self.step(*at);
                let spends = !step.words.starts_with("SMARTCACHE.EXTEND") && step.is_answered();
                if spends && step.sent >= known_at {
                    until = until.min(step.ended);
                }
            }
            (from, until)
        };
        for grant in &records.grants {
            let sent = match tight && grant.waited {
                true => grant.sent.max(grant.ended.saturating_sub(ON_ITS_WAY.0)),
                false => grant.sent,
            };
            let (from, until) = close(sent, grant.ended + grant.lease + LAG / 2, grant.ended, grant.token);
            out.push((from, until, grant.at));
        }
        for (at, token, by) in &records.extends {
            let step = self.step(*at);
            if &*step.answer != "0" {
                let (from, until) = close(step.sent, step.ended + by + LAG / 2, step.ended, token);
                out.push((from, until, *at));
            }
        }
        for (at, _, backoff) in &records.unlocks {
            if let Some(backoff) = backoff {
                out.push((self.step(*at).sent, self.step(*at).ended + backoff + LAG / 2, *at));
            }
        }
        for at in &records.getlocks {
            let step = self.step(*at);
            if !step.is_answered() || step.answer.starts_with("error") {
                let Act::GetLock { lock, .. } = self.history.acts[*at] else { continue };
                let from = if tight { step.sent.max(step.ended.saturating_sub(ON_ITS_WAY.0)) } else { step.sent };
                out.push((from, step.ended + lock.unwrap_or(UNKNOWN_LOCK) + LAG, *at));
            }
        }
        out.sort_unstable();
        out
    }

    fn waiting(&mut self) {
        let mut found = Vec::new();
        let out = self.possibly_held(false);
        let tight = self.possibly_held(true);
        let longest = |out: &[(u64, u64, usize)]| out.iter().map(|(from, until, _)| until - from).max().unwrap_or(0);
        let (longest_out, longest_tight) = (longest(&out), longest(&tight));
        // The intervals that overlap this one.
        fn touching(
            out: &[(u64, u64, usize)],
            longest: u64,
            from: u64,
            to: u64,
        ) -> impl Iterator<Item = &(u64, u64, usize)> {
            let first = out.partition_point(|(begin, _, _)| *begin < from.saturating_sub(longest));
            out[first..]
                .iter()
                .take_while(move |(begin, _, _)| *begin <= to)
                .filter(move |(_, until, _)| *until >= from)
        }

        for at in &self.records.getlocks {
            let step = self.step(*at);
            let lease_refusals =
                || self.history.lease_refusals.iter().any(|(from, to)| *from < step.ended && *to > step.sent);
            if step.answer.starts_with("BUSY")
                && touching(&out, longest_out, step.sent, step.ended).next().is_none()
                && !lease_refusals()
            {
                let what = format!("{} was BUSY without a possible lease or back-off", self.name());
                found.push((Rule::BusyHasACause, what, vec![*at]));
            }

            let Act::GetLock { wait, .. } = self.history.acts[*at] else { continue };
            if wait == 0 {
                continue;
            }
            let mut free_from = step.sent;
            let mut gaps = Vec::new();
            for (from, until, own) in touching(&tight, longest_tight, step.sent, step.ended) {
                if *own == *at && *from < step.ended.saturating_sub(ON_ITS_WAY.0) {
                    continue; // its own lease counts only from its end
                }
                if *from > free_from {
                    gaps.push((free_from, *from));
                }
                free_from = free_from.max(*until);
            }
            if step.ended > free_from {
                gaps.push((free_from, step.ended));
            }
            if let Some((from, to)) = gaps.into_iter().find(|(from, to)| self.history.too_long(*from, *to)) {
                let what = format!(
                    "a caller was parked for {} from {:.3} to {:.3} without a possible lease",
                    self.name(),
                    ms(from),
                    ms(to)
                );
                found.push((Rule::NobodyIsForgotten, what, vec![*at]));
            }
        }
        self.first_in_line(&mut found);
        for (rule, what, steps) in found {
            self.history.report(rule, what, &steps);
        }
    }

    fn first_in_line(&self, found: &mut Vec<(Rule, String, Vec<usize>)>) {
        // After a few ticks the server has read what was sent before.
        let before = |a: u64, b: u64| self.history.ticks_between(a, b) >= 3;
        let parked: Vec<usize> = (self.records.getlocks.iter().copied())
            .filter(|at| matches!(self.history.acts[*at], Act::GetLock { wait, .. } if wait > 0))
            .collect();
        let longest = parked.iter().map(|at| self.step(*at).ended - self.step(*at).sent).max().unwrap_or(0);
        let waiting_at = |moment: u64| {
            let first = parked.partition_point(|at| self.step(*at).sent < moment.saturating_sub(longest));
            parked[first..].iter().copied().take_while(move |at| self.step(*at).sent < moment)
        };
        // With OWNER a caller may get retried a lease that was granted to a lost connection.
        let first =
            |grant: &&Grant<'_>| !grant.retried && !grant.early && !self.step(grant.at).words.contains(" OWNER ");
        for grant in self.records.grants.iter().filter(first) {
            let overtaken = waiting_at(grant.sent).find(|at| {
                let waiter = self.step(*at);
                // It was still parked when the other was answered: for so long that no answer can have been on its way,
                // or it got a value that was stored only later.
                let served = ParsedAnswer::of(&waiter.answer).and_then(|parsed| self.history.values.get(parsed.value?));
                let stored_since =
                    served.is_some_and(|all| all.iter().all(|(at, _)| self.step(*at).sent > grant.ended));
                before(waiter.sent, grant.sent)
                    && waiter.ended > grant.ended
                    && (stored_since || self.history.too_long(grant.ended, waiter.ended))
            });
            if let Some(at) = overtaken {
                let what = format!("a caller got the lease of {} before one that had waited longer", self.name());
                found.push((Rule::FirstInLine, what, vec![at, grant.at]));
            }
        }
        for (at, stored) in &self.records.stores {
            let step = self.step(*at);
            if &*step.answer != "OK" || stored.plain {
                continue;
            }
            let left = waiting_at(step.sent).find(|at| {
                let waiter = self.step(*at);
                before(waiter.sent, step.sent)
                    && waiter.ended > step.ended
                    && self.history.too_long(step.ended, waiter.ended)
            });
            if let Some(waiter) = left {
                // A retry stores nothing.
                let first =
                    |token| self.records.stores.iter().find(|(_, s)| s.claim == Claim::Token(token)).map(|s| s.0);
                if let Claim::Token(token) = stored.claim
                    && first(token) != Some(*at)
                {
                    continue;
                }
                let what = format!("a caller still waited for {} after it had been stored", self.name());
                found.push((Rule::AStoreAnswersAll, what, vec![waiter, *at]));
            }
        }
    }
}
