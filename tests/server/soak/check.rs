//! Walks a recorded history and finds what must not be in it. Knows nothing of how the module works: only the words of
//! the command reference, and when they were said and answered.
//!
//! All that is known of a command is that it was carried out between being sent and being answered. So each rule complains
//! only of what is **certain**: *A came before B* means that A had been answered before B was sent. What a lost connection
//! had asked for may have been carried out, or not.
//!
//! Commands are read in the place (database and key) that they concern. Two kinds of intervals of a lease are used:
//!
//! ```text
//!  GETLOCK sent      token received                     lease_ms after sent        lease_ms after received
//!      │                   │                                   │                         │
//!      │                   ├── certainly out ──────────────────┤                         │
//!      ├── possibly out ───┼───────────────────────────────────┼─────────────────────────┤
//!                          │     … until the first command that may end it was sent
//!                                … until the first command that must end it was answered
//! ```
//!
//! A caller that waits too long is told from a machine that stands still by *ticks*: a connection that asks `PING` every
//! few milliseconds. Where many of them were answered in time, server and test were both awake.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Step, ms};
use super::origin::is_absent;

const MS: u64 = 1_000_000;
/// How far the server's clocks may lag behind ours, at most.
const LAG: u64 = 200 * MS;
/// How much too early a lease may seem to end: servers without a finer clock reckon in steps of 4 ms or 10 ms.
const COARSE: u64 = 10 * MS;
/// A tick that took no longer was prompt.
const PROMPT: u64 = 20 * MS;
/// How long an answer may be on its way, in time and in ticks, until we say that it was not sent.
const ON_ITS_WAY: (u64, usize) = (150 * MS, 20);
/// What a lease lasts whose length nobody has told us.
const UNKNOWN_LOCK: u64 = 10_000 * MS;

/// A rule was broken: by which steps, in plain words.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
    pub(crate) steps: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Nothing whose load began before an invalidation that means it is served as fresh (`judge.rs`).
    EndedIsNotFresh,
    /// Nothing is served that was invalidated hard; what was so softly only within its windows (`judge.rs`).
    EndedIsNotServed,
    /// Nothing invalidated is served as fresh, nothing deleted is served at all.
    InvalidatedIsNotServed,
    /// What is served was stored, is this key's, and was not refused.
    ServedWasStored,
    /// What is served is within its lifetime and windows.
    ServedIsInTime,
    /// Each request gets one answer, unless its connection is gone, and no error but those that were asked for.
    OneAnswerEach,
    /// Answers come in time: at once, or when `WAIT` is over.
    AnswersComeInTime,
    /// No two live leases on one key.
    OneLease,
    /// A load begun before an invalidation is not stored as fresh after it.
    DistrustedLoads,
    /// A fill never replaces one that was granted or written later.
    OvertakenLoads,
    /// The same fill sent again is answered the same.
    RetriedFills,
    /// Tokens of another key, or made up, are `LOST`.
    ForeignTokens,
    /// A fill is stored if nothing happened to its key, in time or late.
    GoodFillsAreStored,
    /// `BUSY` only while somebody loads, or has failed to.
    BusyHasACause,
    /// Nobody is parked while nobody loads.
    NobodyIsForgotten,
    /// An ended lease goes to the first who waits, before any new reader.
    FirstInLine,
    /// A store answers all who wait.
    AStoreAnswersAll,
    /// What the server counts adds up, and is what the clients have seen.
    CountersAddUp,
}

/// What a step asked for.
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

/// What came back of a read: its state, what it served, and the token with the length of its lease.
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

/// `a1@17#482`: the key, the version, and the value itself, which no two stores share.
fn version_of(value: &str) -> Option<(&str, u64)> {
    let (key, rest) = value.split_once('@')?;
    Some((key, rest.split_once('#')?.0.parse().ok()?))
}

/// Something that says that what was loaded before is not to be trusted: with the origin's version of that moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: usize,
    sent: u64,
    /// `u64::MAX` when nobody knows whether it was carried out.
    ended: u64,
    version: u64,
    hard: bool,
    /// A flush, or databases that change places: what stands under the key is not what matters.
    sweeping: bool,
}

/// A token that somebody got.
#[derive(Clone, Copy, Debug)]
struct Grant<'h> {
    at: usize,
    token: &'h str,
    sent: u64,
    ended: u64,
    lease: u64,
    early: bool,
    waited: bool,
    again: bool,
}

/// A read of a place.
#[derive(Clone, Copy)]
struct Read<'h> {
    at: usize,
    parsed: ParsedAnswer<'h>,
}

/// All that concerns one key of one database, in the order in which it was sent.
#[derive(Default)]
struct Place<'h> {
    marks: Vec<Mark>,
    swaps: Vec<usize>,
    reads: Vec<Read<'h>>,
    /// `GETLOCK`s, answered or not.
    asks: Vec<usize>,
    grants: Vec<Grant<'h>>,
    stores: Vec<(usize, Stored<'h>)>,
    unlocks: Vec<(usize, &'h str, Option<u64>)>,
    extends: Vec<(usize, &'h str, u64)>,
    /// The server's own commands that change something about the key.
    touches: Vec<usize>,
    reloads: Vec<usize>,
    /// What was done to the key of the same name in other databases: (sent, ended). Late loads may be refused for it.
    namesakes: Vec<(u64, u64)>,
}

type Where<'h> = (u8, &'h str);

/// The history, read once.
struct Book<'h> {
    steps: &'h [Step],
    acts: Vec<Act<'h>>,
    places: BTreeMap<Where<'h>, Place<'h>>,
    /// The origin: of each key its versions, and when each was begun and done.
    writes: HashMap<&'h str, Vec<(u64, u64, u64)>>,
    /// By value: every step that stored it.
    values: HashMap<&'h str, Vec<(usize, Stored<'h>)>>,
    stamps: HashMap<&'h str, usize>,
    /// Prompt ticks, in order.
    ticks: Vec<(u64, u64)>,
    /// When leases were refused for lack of room.
    narrow: Vec<(u64, u64)>,
    /// Loads that came late and were refused without a cause, by place.
    late_refusals: Vec<Vec<(String, Vec<usize>)>>,
    found: Vec<Violation>,
}

/// Walks the history, which must be in the order in which the steps were sent.
pub(crate) fn check(steps: &[Step]) -> Vec<Violation> {
    let mut book = Book::read(steps);
    book.one_answer_each();
    book.answers_come_in_time();
    let places = std::mem::take(&mut book.places);
    for ((db, key), place) in &places {
        let mut view = View { book: &mut book, db: *db, key, place };
        view.invalidated_is_not_served();
        view.served_was_stored_and_is_in_time();
        view.one_lease();
        view.fills();
        view.waiting();
    }
    book.places = places;
    book.late_fills_are_stored();
    book.counters_add_up();
    book.found.sort_by_key(|violation| violation.rule);
    book.found
}

impl<'h> Book<'h> {
    fn read(steps: &'h [Step]) -> Self {
        let acts: Vec<Act<'h>> = steps.iter().map(|step| Act::of(&step.words)).collect();
        let mut book = Book {
            steps,
            acts,
            places: BTreeMap::new(),
            writes: HashMap::new(),
            values: HashMap::new(),
            stamps: HashMap::new(),
            ticks: Vec::new(),
            narrow: Vec::new(),
            late_refusals: Vec::new(),
            found: Vec::new(),
        };
        book.find_places();
        book.fill_places();
        book.introduce_namesakes();
        book
    }

    /// Which keys there are, and what the origin had when.
    fn find_places(&mut self) {
        let steps = self.steps;
        for (step, act) in steps.iter().zip(&self.acts) {
            let keys: Vec<&'h str> = match act {
                Act::GetLock { key, .. } | Act::Get { key, .. } => vec![*key],
                Act::Store(stored) => stored.iter().map(|one| one.key).collect(),
                _ => vec![],
            };
            for key in keys {
                self.places.entry((step.db, key)).or_default();
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
                    self.narrow.push((step.sent, u64::MAX));
                }
                Act::Setting { usual: true, name } if name.ends_with("max-leases") => {
                    if let Some(last) = self.narrow.last_mut() {
                        last.1 = step.ended;
                    }
                }
                _ => {}
            }
        }
    }

    fn fill_places(&mut self) {
        let steps = self.steps;
        let mut seen: HashMap<Where<'h>, BTreeSet<&'h str>> = HashMap::new();
        for (at, step) in steps.iter().enumerate() {
            // Where the server's own commands are watched, nobody can tell in which database they delete or write.
            if let Some(name @ ("DEL" | "UNLINK" | "SET" | "RENAME" | "PEXPIRE")) = step.words.split(' ').next() {
                let key = step.words[name.len()..].trim_start().split(' ').next().unwrap_or_default();
                self.places.iter_mut().filter(|((_, of), _)| *of == key).for_each(|(_, place)| place.touches.push(at));
            }
            let mark = |version, hard, sweeping| Mark {
                at,
                sent: step.sent,
                ended: if step.is_answered() && !step.answer.starts_with("error") { step.ended } else { u64::MAX },
                version,
                hard,
                sweeping,
            };
            match &self.acts[at] {
                Act::GetLock { key, wait, .. } => {
                    let place = self.places.entry((step.db, key)).or_default();
                    place.asks.push(at);
                    let Some(parsed) = ParsedAnswer::of(&step.answer) else { continue };
                    place.reads.push(Read { at, parsed });
                    if let Some(token) = parsed.token {
                        place.grants.push(Grant {
                            at,
                            token,
                            sent: step.sent,
                            ended: step.ended,
                            lease: parsed.lease,
                            early: matches!(parsed.state, "HIT" | "ABSENT"),
                            waited: *wait > 0,
                            again: !seen.entry((step.db, key)).or_default().insert(token),
                        });
                    }
                }
                Act::Get { key, stale, state } => {
                    let parsed = match (state, &*step.answer) {
                        (true, answer) => ParsedAnswer::of(answer),
                        (false, "nil" | "gone" | "left" | "silence") => None,
                        (false, answer) if answer.starts_with("error") => None,
                        // With STALE nobody tells which of the two it is: at least it must be servable at all.
                        (false, value) => {
                            let state = if *stale { "STALE" } else { "HIT" };
                            Some(ParsedAnswer { state, value: Some(value), token: None, lease: 0 })
                        }
                    };
                    if let Some(parsed) = parsed {
                        self.places.entry((step.db, key)).or_default().reads.push(Read { at, parsed });
                    }
                }
                Act::Store(all) => {
                    for stored in all.clone() {
                        if let Some(value) = stored.value {
                            self.values.entry(value).or_default().push((at, stored));
                        }
                        let version = self.version_before(stored.key, step.sent);
                        let place = self.places.entry((step.db, stored.key)).or_default();
                        place.stores.push((at, stored));
                        if stored.claim == Claim::None {
                            place.marks.push(mark(version, true, false));
                        }
                    }
                }
                Act::Unlock { key, token, backoff } => {
                    self.places.entry((step.db, key)).or_default().unlocks.push((at, token, *backoff));
                }
                Act::Extend { key, token, by } => {
                    self.places.entry((step.db, key)).or_default().extends.push((at, token, *by));
                }
                Act::Stamp => drop(self.stamps.insert(&step.answer, at)),
                Act::Invalidate { keys, hard } => {
                    for key in keys.clone() {
                        let version = self.version_before(key, step.sent);
                        self.places.entry((step.db, key)).or_default().marks.push(mark(version, *hard, false));
                    }
                }
                Act::Flush { all } => {
                    let all = *all;
                    let places: Vec<_> = self.places.keys().filter(|(db, _)| all || *db == step.db).copied().collect();
                    for place in places {
                        let version = self.version_before(place.1, step.sent);
                        self.places.entry(place).or_default().marks.push(mark(version, true, true));
                    }
                }
                Act::Swap(a, b) => {
                    for (_, place) in self.places.iter_mut().filter(|((db, _), _)| db == a || db == b) {
                        // It distrusts loads, but says nothing of the origin.
                        place.marks.push(mark(0, true, true));
                        place.swaps.push(at);
                    }
                }
                Act::Reload => self.places.values_mut().for_each(|place| place.reloads.push(at)),
                _ => {}
            }
        }
    }

    fn introduce_namesakes(&mut self) {
        let steps = self.steps;
        let done: Vec<(Where<'h>, Vec<(u64, u64)>)> = (self.places.iter())
            .map(|(at, place)| {
                let marks = place.marks.iter().map(|mark| mark.at);
                let all = marks.chain(place.stores.iter().map(|(at, _)| *at));
                let until = |step: &Step| if step.is_answered() { step.ended } else { u64::MAX };
                (*at, all.map(|at| (steps[at].sent, until(&steps[at]))).collect())
            })
            .collect();
        for ((db, key), times) in done {
            for (_, place) in self.places.iter_mut().filter(|((other, name), _)| *name == key && *other != db) {
                place.namesakes.extend(&times);
            }
        }
    }

    /// The newest version of the origin that was there before this moment.
    fn version_before(&self, key: &str, moment: u64) -> u64 {
        let Some(writes) = self.writes.get(key) else { return 1 };
        let count = writes.partition_point(|(_, done, _)| *done < moment);
        if count == 0 { 1 } else { writes[count - 1].2 }
    }

    /// The newest version of the origin that could be loaded until this moment.
    fn version_until(&self, key: &str, moment: u64) -> u64 {
        let Some(writes) = self.writes.get(key) else { return 1 };
        let count = writes.partition_point(|(begun, _, _)| *begun <= moment);
        if count == 0 { 1 } else { writes[count - 1].2 }
    }

    /// How many prompt ticks lie wholly between two moments.
    fn ticks_between(&self, from: u64, to: u64) -> usize {
        let first = self.ticks.partition_point(|(sent, _)| *sent < from);
        let last = self.ticks.partition_point(|(_, ended)| *ended <= to);
        last.saturating_sub(first)
    }

    /// Whether so much time lies between two moments, and server and test were awake, that an answer must have come.
    fn too_long(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) >= ON_ITS_WAY.0 && self.ticks_between(from, to) >= ON_ITS_WAY.1
    }

    fn complain(&mut self, rule: Rule, what: String, steps: &[usize]) {
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
                ("gone", _) if !killed.contains(&step.conn) => {
                    "the connection was closed, and nobody had asked for that".to_owned()
                }
                ("gone" | "left", _) => continue,
                (answer, Act::Echo(word)) if answer != *word => {
                    "this is not the answer to that: one came too many or too few before it".to_owned()
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
                    "an error that nobody has to expect".to_owned()
                }
                (answer, Act::GetLock { .. }) => match ParsedAnswer::of(answer) {
                    Some(parsed) if is_as_promised(&parsed) => continue,
                    _ => "an answer that the reference does not know".to_owned(),
                },
                _ => continue,
            };
            self.complain(Rule::OneAnswerEach, what, &[at]);
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
                let what = format!("the answer came {late:.0} ms after it was due, while others were answered");
                self.complain(Rule::AnswersComeInTime, what, &[at]);
            }
        }
    }

    // ---- late fills ----

    /// Two keys may share a slot of the table of deletes, and then each has its late loads refused for the other's sake: one
    /// run in a thousand. So it takes three keys.
    fn late_fills_are_stored(&mut self) {
        let late = std::mem::take(&mut self.late_refusals);
        if late.len() < 3 {
            return;
        }
        for (what, steps) in late.into_iter().flatten() {
            self.complain(Rule::GoodFillsAreStored, what, &steps);
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
                wrong.push(format!("{name} is {}, but the clients have seen {least} to {most}", of(name)));
            }
        }
        for what in wrong {
            self.complain(Rule::CountersAddUp, what, &[at]);
        }
    }

    /// What the counters must be at least and at most, by what the clients were told.
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
        let granted: BTreeSet<(Where<'h>, &str)> = self
            .places
            .iter()
            .flat_map(|(at, place)| place.grants.iter().map(move |grant| (*at, grant.token)))
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
        for place in self.places.values() {
            for grant in place.grants.iter().filter(|grant| !grant.again) {
                count("leases_granted", true);
                if grant.early {
                    count("leases_early", true);
                }
            }
        }
        seen
    }
}

/// Whether state, value and token go together as the table of the reference says.
fn is_as_promised(parsed: &ParsedAnswer<'_>) -> bool {
    match parsed.state {
        "HIT" | "STALE" => parsed.value.is_some(),
        "ABSENT" => parsed.value.is_none(),
        "MISS" => parsed.value.is_none() && parsed.token.is_some() && parsed.lease > 0,
        "BUSY" => parsed.value.is_none() && parsed.token.is_none() && parsed.lease > 0,
        _ => false,
    }
}

/// One place, and the book it stands in.
struct View<'v, 'h> {
    book: &'v mut Book<'h>,
    db: u8,
    key: &'h str,
    place: &'v Place<'h>,
}

/// For a list of steps by the moment they ended: of all that ended after (or before) a moment, the one that was sent
/// first (or last).
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

impl<'h> View<'_, 'h> {
    fn step(&self, at: usize) -> &'h Step {
        &self.book.steps[at]
    }

    fn name(&self) -> String {
        format!("'{}' of database {}", self.key, self.db)
    }

    // ---- what is served ----

    fn invalidated_is_not_served(&mut self) {
        enum Event {
            Swap,
            Mark(Mark),
            Read(usize),
        }
        let swaps: Vec<(u64, u64)> =
            self.place.swaps.iter().map(|at| (self.step(*at).sent, self.step(*at).ended)).collect();
        let swap_within = |from: u64, to: u64| swaps.iter().any(|(sent, ended)| *sent < to && *ended > from);
        let mut events: Vec<(u64, Event)> = Vec::new();
        events.extend(swaps.iter().map(|(_, ended)| (*ended, Event::Swap)));
        events.extend(self.place.marks.iter().filter(|m| m.ended < u64::MAX).map(|m| (m.ended, Event::Mark(*m))));
        events.extend(self.place.reads.iter().enumerate().map(|(n, read)| (self.step(read.at).sent, Event::Read(n))));
        events.sort_by_key(|(moment, _)| *moment);

        // The newest version that each kind of mark speaks of, and the step.
        let (mut any, mut hard) = ((0, 0), (0, 0));
        let mut found = Vec::new();
        for (_, event) in events {
            match event {
                // What was in the other database may have been invalidated less hard.
                Event::Swap => hard = (0, 0),
                Event::Mark(mark) => {
                    let seen = (mark.version, mark.at);
                    any = any.max(seen);
                    if mark.hard && !swap_within(mark.sent, mark.ended) {
                        hard = hard.max(seen);
                    }
                }
                Event::Read(n) => {
                    let Read { at, parsed } = self.place.reads[n];
                    let step = self.step(at);
                    if parsed.state == "ABSENT" {
                        let latest = self.book.version_until(self.key, step.ended);
                        if !(any.0..=latest).any(is_absent) {
                            let what = format!(
                                "{} was ABSENT, but since version {} was told of, the origin has always had something",
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
                    let plain = self.book.values.get(value).is_some_and(|all| all.iter().any(|(_, one)| one.plain));
                    let limit = match parsed.state {
                        "HIT" if !plain => any,
                        // Only what is hard reaches what is stale already, or a string; and only where it was.
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
                            .book
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
            self.book.complain(Rule::InvalidatedIsNotServed, what, &steps);
        }
    }

    fn served_was_stored_and_is_in_time(&mut self) {
        for read in &self.place.reads {
            let (at, parsed) = (read.at, read.parsed);
            let Some(value) = parsed.value else { continue };
            let step = self.step(at);
            let stored = self.book.values.get(value).cloned().unwrap_or_default();
            let mut steps: Vec<usize> = stored.iter().map(|(at, _)| *at).collect();
            steps.push(at);
            let right_key = version_of(value).is_some_and(|(key, version)| {
                key == self.key && version <= self.book.version_until(self.key, step.ended)
            });
            // Whether it may have been stored at all, and may have been fresh then.
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
                format!("{name} was served with what is not its value")
            } else if !may_be {
                format!("{name} was served with a value that was never stored")
            } else if parsed.state == "HIT" && !may_be_fresh {
                format!("{name} was served as fresh with a value whose store was not answered OK")
            } else {
                String::new()
            };
            if !what.is_empty() {
                self.book.complain(Rule::ServedWasStored, what, &steps);
                continue;
            }
            let until = latest + length.0 + if parsed.state == "STALE" { length.1 } else { 0 };
            if step.sent > until + LAG {
                let late = ms(step.sent - until);
                let what = format!("{name} was served as {} {late:.0} ms after that time was over", parsed.state);
                self.book.complain(Rule::ServedIsInTime, what, &steps);
            }
        }
    }

    // ---- leases ----

    /// What may end whichever lease is out, by the moment it ended.
    fn enders(&self) -> ByEnd {
        let place = self.place;
        let sent_ended = |at: &usize| (self.step(*at).sent, self.end_of(*at), *at);
        let mut all: Vec<_> = place.marks.iter().map(|mark| (mark.sent, mark.ended, mark.at)).collect();
        all.extend(place.touches.iter().chain(&place.reloads).map(sent_ended));
        let stores = place.stores.iter().map(|(at, _)| at).filter(|at| &*self.step(**at).answer != "LOST");
        all.extend(stores.map(sent_ended));
        ByEnd::new(all)
    }

    /// When it was certainly over: never, if it was not answered.
    fn end_of(&self, at: usize) -> u64 {
        let step = self.step(at);
        if step.is_answered() { step.ended } else { u64::MAX }
    }

    /// Steps that name this token: fills, `UNLOCK`, `EXTEND`.
    fn uses(&self) -> HashMap<&'h str, Vec<usize>> {
        let mut uses: HashMap<&'h str, Vec<usize>> = HashMap::new();
        for (at, stored) in &self.place.stores {
            if let Claim::Token(token) = stored.claim {
                uses.entry(token).or_default().push(*at);
            }
        }
        for (at, token, _) in &self.place.unlocks {
            uses.entry(token).or_default().push(*at);
        }
        for (at, token, _) in &self.place.extends {
            uses.entry(token).or_default().push(*at);
        }
        uses
    }

    /// When leases were certainly out: (from, until, token, the step that says so).
    fn certainly_out(&self) -> Vec<(u64, u64, &'h str, usize)> {
        let enders = self.enders();
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
        for grant in self.place.grants.iter().filter(|grant| !grant.early) {
            add((grant.sent, grant.ended, grant.at), grant.lease, grant.token);
        }
        let granted: BTreeSet<&str> = self.place.grants.iter().filter(|g| !g.early).map(|g| g.token).collect();
        for (at, token, by) in &self.place.extends {
            if &*self.step(*at).answer == "1" && granted.contains(token) {
                add((self.step(*at).sent, self.step(*at).ended, *at), *by, token);
            }
        }
        out.sort_unstable();
        out
    }

    fn one_lease(&mut self) {
        let mut latest: Option<(u64, u64, &str, usize)> = None;
        for now in self.certainly_out() {
            if let Some(before) = latest
                && before.1 > now.0
                && before.2 != now.2
            {
                let what = format!(
                    "{} was leased twice at once: the first lease was out until {:.3} at least, the second from {:.3}",
                    self.name(),
                    ms(before.1),
                    ms(now.0)
                );
                self.book.complain(Rule::OneLease, what, &[before.3, now.3]);
            }
            if latest.is_none_or(|before| before.1 < now.1) {
                latest = Some(now);
            }
        }
    }

    // ---- fills ----

    fn fills(&mut self) {
        /// A load that came home: when it began, the step of its first attempt.
        struct Fill<'h> {
            begun: (u64, u64, usize),
            at: usize,
            claim: Claim<'h>,
        }
        let mut firsts: HashMap<&str, usize> = HashMap::new();
        let mut fills: Vec<Fill<'h>> = Vec::new();
        let granted: HashMap<&str, &Grant<'h>> = self.place.grants.iter().rev().map(|g| (g.token, g)).collect();
        let (mut found, mut late) = (Vec::new(), Vec::new());
        for (at, stored) in &self.place.stores {
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
                Claim::Since(stamp) => match self.book.stamps.get(stamp) {
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
        for (at, token, answer) in (self.place.unlocks.iter().map(|(at, token, _)| (at, token)))
            .chain(self.place.extends.iter().map(|(at, token, _)| (at, token)))
            .map(|(at, token)| (*at, *token, &*self.step(*at).answer))
        {
            if answer == "1" && !granted.contains_key(token) {
                found.push((
                    Rule::ForeignTokens,
                    format!("{} knew a token that is not its own", self.name()),
                    vec![at],
                ));
            }
        }

        let answered_marks = self.place.marks.iter().filter(|mark| mark.ended < u64::MAX);
        let marks = ByEnd::new(answered_marks.clone().map(|mark| (mark.sent, mark.ended, mark.at)).collect());
        let is_ok = |at: usize| {
            let step = self.step(at);
            let count = step.words.split(' ').nth(1).filter(|_| step.words.contains("MSET"));
            &*step.answer == "OK" || count == Some(&*step.answer)
        };
        // By the moment they were answered: when the loads that were stored had begun to be asked for.
        let oks = ByEnd::new(
            fills.iter().filter(|f| is_ok(f.at)).map(|f| (f.begun.0, self.step(f.at).ended, f.at)).collect(),
        );
        let sweeps = |from: u64, to: u64| {
            let marks = self.place.marks.iter().any(|mark| mark.sweeping && mark.sent < to && mark.ended > from);
            marks || self.place.reloads.iter().any(|at| self.step(*at).sent < to && self.end_of(*at) > from)
        };
        let causes = self.causes();
        for fill in &fills {
            let step = self.step(fill.at);
            let (asked, got, begun_at) = fill.begun;
            if let Some((sent, mark)) = marks.last_sent_of_those_ended_before(step.sent)
                && sent > got
                && is_ok(fill.at)
            {
                let what = format!(
                    "a load of {} was stored as fresh, though between its beginning and its end the key was invalidated or written",
                    self.name()
                );
                found.push((Rule::DistrustedLoads, what, vec![begun_at, mark, fill.at]));
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
                let given_back = self.place.unlocks.iter().any(|(at, of, _)| *of == token && *at < fill.at);
                let in_time = !given_back && step.ended < asked + granted[token].lease.saturating_sub(COARSE);
                if !in_time && self.place.namesakes.iter().any(|(sent, ended)| *sent < step.ended && *ended > asked) {
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
            self.book.complain(rule, what, &steps);
        }
        if !late.is_empty() {
            self.book.late_refusals.push(late);
        }
    }

    /// What may be a reason not to trust a load: (sent, ended, claim).
    fn causes(&self) -> Vec<(u64, u64, Claim<'h>)> {
        let place = self.place;
        let mut causes: Vec<_> = place.marks.iter().map(|m| (m.sent, m.ended, Claim::None)).collect();
        causes.extend(place.stores.iter().map(|(at, one)| (self.step(*at).sent, self.end_of(*at), one.claim)));
        causes.extend(
            place.touches.iter().chain(&place.reloads).map(|at| (self.step(*at).sent, self.end_of(*at), Claim::None)),
        );
        causes
    }

    // ---- waiting ----

    /// When somebody may have been loading, or have failed to: (from, until, step). `tight`: the answer to one who waited
    /// was not long on its way, so its lease began shortly before.
    fn possibly_out(&self, tight: bool) -> Vec<(u64, u64, usize)> {
        let place = self.place;
        let mut out = Vec::new();
        // What certainly ends whichever lease is out, by when it was sent.
        let mut ends: Vec<(u64, u64)> =
            place.marks.iter().filter(|mark| mark.ended < u64::MAX).map(|mark| (mark.sent, mark.ended)).collect();
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
        for grant in &place.grants {
            let sent = match tight && grant.waited {
                true => grant.sent.max(grant.ended.saturating_sub(ON_ITS_WAY.0)),
                false => grant.sent,
            };
            let (from, until) = close(sent, grant.ended + grant.lease + LAG / 2, grant.ended, grant.token);
            out.push((from, until, grant.at));
        }
        for (at, token, by) in &place.extends {
            let step = self.step(*at);
            if &*step.answer != "0" {
                let (from, until) = close(step.sent, step.ended + by + LAG / 2, step.ended, token);
                out.push((from, until, *at));
            }
        }
        for (at, _, backoff) in &place.unlocks {
            if let Some(backoff) = backoff {
                out.push((self.step(*at).sent, self.step(*at).ended + backoff + LAG / 2, *at));
            }
        }
        for at in &place.asks {
            let step = self.step(*at);
            if !step.is_answered() || step.answer.starts_with("error") {
                let Act::GetLock { lock, .. } = self.book.acts[*at] else { continue };
                let from = if tight { step.sent.max(step.ended.saturating_sub(ON_ITS_WAY.0)) } else { step.sent };
                out.push((from, step.ended + lock.unwrap_or(UNKNOWN_LOCK) + LAG, *at));
            }
        }
        out.sort_unstable();
        out
    }

    fn waiting(&mut self) {
        let mut found = Vec::new();
        let out = self.possibly_out(false);
        let tight = self.possibly_out(true);
        let longest = |out: &[(u64, u64, usize)]| out.iter().map(|(from, until, _)| until - from).max().unwrap_or(0);
        let (longest_out, longest_tight) = (longest(&out), longest(&tight));
        // Those that touch this stretch of time.
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

        for at in &self.place.asks {
            let step = self.step(*at);
            let narrow = || self.book.narrow.iter().any(|(from, to)| *from < step.ended && *to > step.sent);
            if step.answer.starts_with("BUSY")
                && touching(&out, longest_out, step.sent, step.ended).next().is_none()
                && !narrow()
            {
                let what = format!("{} was BUSY, though nobody can have been loading it", self.name());
                found.push((Rule::BusyHasACause, what, vec![*at]));
            }

            let Act::GetLock { wait, .. } = self.book.acts[*at] else { continue };
            if wait == 0 {
                continue;
            }
            let mut free_from = step.sent;
            let mut gaps = Vec::new();
            for (from, until, own) in touching(&tight, longest_tight, step.sent, step.ended) {
                if *own == *at && *from < step.ended.saturating_sub(ON_ITS_WAY.0) {
                    continue; // of what it got itself only the end counts
                }
                if *from > free_from {
                    gaps.push((free_from, *from));
                }
                free_from = free_from.max(*until);
            }
            if step.ended > free_from {
                gaps.push((free_from, step.ended));
            }
            if let Some((from, to)) = gaps.into_iter().find(|(from, to)| self.book.too_long(*from, *to)) {
                let what = format!(
                    "a caller was parked for {} from {:.3} to {:.3} while nobody can have been loading it",
                    self.name(),
                    ms(from),
                    ms(to)
                );
                found.push((Rule::NobodyIsForgotten, what, vec![*at]));
            }
        }
        self.first_in_line(&mut found);
        for (rule, what, steps) in found {
            self.book.complain(rule, what, &steps);
        }
    }

    fn first_in_line(&self, found: &mut Vec<(Rule, String, Vec<usize>)>) {
        // A few ticks: by then the server has read what was sent before.
        let before = |a: u64, b: u64| self.book.ticks_between(a, b) >= 3;
        let parked: Vec<usize> = (self.place.asks.iter().copied())
            .filter(|at| matches!(self.book.acts[*at], Act::GetLock { wait, .. } if wait > 0))
            .collect();
        let longest = parked.iter().map(|at| self.step(*at).ended - self.step(*at).sent).max().unwrap_or(0);
        let waiting_at = |moment: u64| {
            let first = parked.partition_point(|at| self.step(*at).sent < moment.saturating_sub(longest));
            parked[first..].iter().copied().take_while(move |at| self.step(*at).sent < moment)
        };
        // Whoever says its name may be given again what was granted to a connection that is lost.
        let first = |grant: &&Grant<'_>| !grant.again && !grant.early && !self.step(grant.at).words.contains(" OWNER ");
        for grant in self.place.grants.iter().filter(first) {
            let overtaken = waiting_at(grant.sent).find(|at| {
                let waiter = self.step(*at);
                // It was still parked when the other was answered: so much longer that no answer can have been on its way,
                // or it was given what was only stored after that.
                let served = ParsedAnswer::of(&waiter.answer).and_then(|parsed| self.book.values.get(parsed.value?));
                let stored_since =
                    served.is_some_and(|all| all.iter().all(|(at, _)| self.step(*at).sent > grant.ended));
                before(waiter.sent, grant.sent)
                    && waiter.ended > grant.ended
                    && (stored_since || self.book.too_long(grant.ended, waiter.ended))
            });
            if let Some(at) = overtaken {
                let what = format!("a caller got the lease of {} before one who waited longer", self.name());
                found.push((Rule::FirstInLine, what, vec![at, grant.at]));
            }
        }
        for (at, stored) in &self.place.stores {
            let step = self.step(*at);
            if &*step.answer != "OK" || stored.plain {
                continue;
            }
            let left = waiting_at(step.sent).find(|at| {
                let waiter = self.step(*at);
                before(waiter.sent, step.sent)
                    && waiter.ended > step.ended
                    && self.book.too_long(step.ended, waiter.ended)
            });
            if let Some(waiter) = left {
                // A retry stores nothing.
                let first = |token| self.place.stores.iter().find(|(_, s)| s.claim == Claim::Token(token)).map(|s| s.0);
                if let Claim::Token(token) = stored.claim
                    && first(token) != Some(*at)
                {
                    continue;
                }
                let what = format!("a caller waited on for {} after it had been stored", self.name());
                found.push((Rule::AStoreAnswersAll, what, vec![waiter, *at]));
            }
        }
    }
}
