//! Checks the history of the storm: nothing may be served that had been invalidated before the read. Uses only the
//! commands, their answers and the times; it knows nothing of the implementation.
//!
//! Each value is stored once and contains its name. So it is known when its load had certainly begun: when the lease or
//! the stamp had been received, or else when the store was answered. A value is *ended* by an invalidation that was
//! sent after that (or within whose `GUARD` it began) and that names it:
//!
//! ```text
//!  as it is read: by key, tags (of the store and of the rule), prefix, pattern, or with the whole
//!                 database, whenever it arrived there
//!  as it was stored: under that key, in that database, if it can have moved only later
//! ```
//!
//! Only what is *certain* counts: an invalidation that was answered before the read was sent, and whose `OVER` has
//! passed. Databases are followed through all swaps. For reads from a replica, or from one that replaced a killed
//! primary, only invalidations confirmed by `WAIT` count.

use std::collections::{BTreeMap, HashMap};

use super::check::{ParsedAnswer, Rule, Violation, duration};
use super::history::{Step, ms};

const MS: u64 = 1_000_000;
/// Maximum lag of the servers' clocks behind the test's clock, or behind each other.
const LAG: u64 = 200 * MS;
/// How much too early a guard may seem to end: some servers have clock steps of 4 ms or 10 ms.
const COARSE: u64 = 15 * MS;

/// The selector of an invalidation.
#[derive(Clone, Debug)]
enum Selector<'h> {
    Tags(Vec<&'h str>),
    Prefixes(Vec<&'h str>),
    Patterns(Vec<&'h str>),
    Key(&'h str),
    All,
    /// `FLUSHDB`: only the keys that are never moved, since others may come back from the other database.
    Unmoved,
}

/// An event that ends the values that it names.
#[derive(Clone, Debug)]
struct End<'h> {
    at: usize,
    database: usize,
    sent: u64,
    ended: u64,
    names: Selector<'h>,
    hard: bool,
    over: u64,
    guard: u64,
    /// When `WAIT` confirmed it.
    confirmed: Option<u64>,
}

/// A stored value.
#[derive(Clone, Debug)]
struct Stored<'h> {
    key: &'h str,
    /// The database where it was stored, if that is certain.
    database: Option<usize>,
    /// All attempts.
    steps: Vec<usize>,
    /// When its load had certainly begun, and the step.
    begun: (u64, usize),
    claimed: bool,
    tags: Vec<&'h str>,
    windows: u64,
}

struct Judge<'h> {
    steps: &'h [Step],
    words: Vec<Vec<&'h str>>,
    /// When the databases were swapped.
    swaps: Vec<(u64, u64)>,
    /// When a primary was killed for a failover.
    losses: Vec<(u64, u64)>,
    ends: Vec<End<'h>>,
    values: HashMap<&'h str, Stored<'h>>,
    /// Stores of absent entries, by database and key.
    absences: HashMap<(usize, &'h str), Vec<Stored<'h>>>,
    /// When commands that may have moved or copied a key were sent.
    departures: HashMap<&'h str, Vec<u64>>,
    longest_guard: u64,
    /// When flushes had ended, of any database: databases may be swapped.
    flushes: Vec<u64>,
    found: Vec<Violation>,
}

/// Checks the history, whose steps must be in the order in which they were sent.
pub(crate) fn judge(steps: &[Step]) -> Vec<Violation> {
    let mut judge = Judge::read(steps);
    judge.reads();
    judge.fills();
    judge.errors();
    judge.found.sort_by_key(|violation| violation.rule);
    judge.found
}

/// The number of reads, and of those served as fresh, as stale and as absent.
pub(crate) fn served(steps: &[Step]) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    for step in steps {
        for (_, _, state, _) in reads_of(step) {
            *count
                .entry(match state {
                    "HIT" => "HIT",
                    "STALE" => "STALE",
                    "ABSENT" => "ABSENT",
                    _ => "other",
                })
                .or_default() += 1;
        }
    }
    count
}

/// The reads of a step: (from the replica, key, state, value).
fn reads_of(step: &Step) -> Vec<(bool, &str, &str, Option<&str>)> {
    let words: Vec<&str> = step.words.split(' ').collect();
    let (of_replica, words) = match words.split_first() {
        Some((&"REPLICA", rest)) => (true, rest),
        _ => (false, &words[..]),
    };
    if !step.is_answered() || step.answer.starts_with("error") {
        return Vec::new();
    }
    let some = |word: &'_ str| word != "nil";
    match words {
        ["SMARTCACHE.GETLOCK", key, ..] => ParsedAnswer::of(&step.answer)
            .map(|parsed| (of_replica, *key, parsed.state, parsed.value))
            .into_iter()
            .collect(),
        ["SMARTCACHE.GET", key, rest @ ..] if rest.contains(&"STATE") => ParsedAnswer::of(&step.answer)
            .map(|parsed| (of_replica, *key, parsed.state, parsed.value))
            .into_iter()
            .collect(),
        ["SMARTCACHE.GET", key, rest @ ..] => {
            // With STALE the answer does not show the state: the entry must at least be servable.
            let state = if !some(&step.answer) {
                "MISS"
            } else if rest.contains(&"STALE") {
                "STALE"
            } else {
                "HIT"
            };
            vec![(of_replica, *key, state, Some(&*step.answer).filter(|value| some(value)))]
        }
        ["SMARTCACHE.MGET", keys @ ..] => keys
            .iter()
            .zip(step.answer.split(' '))
            .map(|(key, value)| {
                (of_replica, *key, if some(value) { "HIT" } else { "MISS" }, Some(value).filter(|value| some(value)))
            })
            .collect(),
        _ => Vec::new(),
    }
}

impl<'h> Judge<'h> {
    fn read(steps: &'h [Step]) -> Self {
        let words: Vec<Vec<&str>> = steps.iter().map(|step| step.words.split(' ').collect()).collect();
        let when = |what: &str| {
            steps.iter().filter(|step| step.words.starts_with(what)).map(|step| (step.sent, step.ended)).collect()
        };
        let mut judge = Judge {
            steps,
            words,
            swaps: when("SWAPDB"),
            losses: when("FAILOVER"),
            ends: Vec::new(),
            values: HashMap::new(),
            absences: HashMap::new(),
            departures: HashMap::new(),
            longest_guard: 0,
            flushes: Vec::new(),
            found: Vec::new(),
        };
        judge.find_ends();
        judge.find_values();
        judge
    }

    /// Which of the two databases this is, unless they were swapped meanwhile.
    fn database(&self, step: &Step) -> Option<usize> {
        let swapped = self.swaps.partition_point(|(_, ended)| *ended <= step.sent);
        let meanwhile = self.swaps.get(swapped).is_some_and(|(sent, _)| *sent < step.ended);
        (!meanwhile).then_some((usize::from(step.db) + swapped) % 2)
    }

    fn find_ends(&mut self) {
        let mut latest: HashMap<u64, usize> = HashMap::new();
        for (at, step) in self.steps.iter().enumerate() {
            let words = &self.words[at];
            if matches!(words[0], "FLUSHDB" | "FLUSHALL") {
                self.flushes.push(if step.is_answered() { step.ended } else { u64::MAX });
            }
            if !step.is_answered() || step.answer.starts_with("error") {
                continue;
            }
            // By the same connection, without a command in between.
            if words[..] != ["WAIT", "1", "500"] {
                if words[0] != "SMARTCACHE.INVALIDATE" {
                    latest.remove(&step.conn);
                }
            } else if &*step.answer != "0"
                && let Some(end) = latest.get(&step.conn)
            {
                self.ends[*end].confirmed = Some(step.ended);
            }
            let after = |name: &str| words.iter().position(|word| *word == name).map(|at| duration(words[at + 1]));
            let names = |from: usize| {
                let count = words[from].parse::<usize>().unwrap_or(0);
                words[from + 1..][..count].to_vec()
            };
            let (names, hard) = match words[..] {
                ["SMARTCACHE.INVALIDATE", "TAGS", ..] => (Selector::Tags(names(2)), !words.contains(&"SOFT")),
                ["SMARTCACHE.INVALIDATE", "PREFIXES", ..] => (Selector::Prefixes(names(2)), !words.contains(&"SOFT")),
                ["SMARTCACHE.INVALIDATE", "PATTERNS", ..] => (Selector::Patterns(names(2)), !words.contains(&"SOFT")),
                ["SMARTCACHE.INVALIDATE", ..] => (Selector::All, !words.contains(&"SOFT")),
                ["SMARTCACHE.DEL", key] => (Selector::Key(key), true),
                ["SMARTCACHE.STALE", key] => (Selector::Key(key), false),
                ["FLUSHDB", ..] => (Selector::Unmoved, true),
                _ => continue,
            };
            let Some(database) = self.database(step) else { continue };
            let (over, guard) = (after("OVER").unwrap_or(0), after("GUARD").unwrap_or(0));
            self.longest_guard = self.longest_guard.max(guard);
            latest.insert(step.conn, self.ends.len());
            let (sent, ended) = (step.sent, step.ended);
            self.ends.push(End { at, database, sent, ended, names, hard, over, guard, confirmed: None });
        }
    }

    fn find_values(&mut self) {
        let mut claims: HashMap<&str, (u64, usize)> = HashMap::new();
        for (at, step) in self.steps.iter().enumerate() {
            let words = self.words[at].clone();
            match words[..] {
                ["SMARTCACHE.GETLOCK", ..] => {
                    if let Some(token) = ParsedAnswer::of(&step.answer).and_then(|parsed| parsed.token) {
                        claims.entry(token).or_insert((step.ended, at));
                    }
                }
                ["SMARTCACHE.STAMP"] if step.is_answered() => drop(claims.insert(&step.answer, (step.ended, at))),
                ["RENAME" | "COPY" | "MOVE" | "DUMP", key, ..] => {
                    self.departures.entry(key).or_default().push(step.sent);
                }
                ["SMARTCACHE.SET", key, value, ..] => self.stored(at, key, Some(value), &claims),
                ["SMARTCACHE.ABSENT", key, ..] => self.stored(at, key, None, &claims),
                ["SMARTCACHE.MSET", count, ..] => {
                    let count = count.parse().unwrap_or(0);
                    for pair in words[2..].chunks(2).take(count) {
                        self.stored(at, pair[0], Some(pair[1]), &claims);
                    }
                }
                _ => {}
            }
        }
    }

    fn stored(&mut self, at: usize, key: &'h str, value: Option<&'h str>, claims: &HashMap<&str, (u64, usize)>) {
        let step = &self.steps[at];
        let words = &self.words[at];
        let after = |name: &str| words.iter().position(|word| *word == name).map(|at| words[at + 1]);
        let claim = after("TOKEN").or_else(|| after("SINCE"));
        let answered = if step.is_answered() { step.ended } else { u64::MAX };
        let begun = match claim {
            Some(claim) => claims.get(claim).copied().unwrap_or((u64::MAX, at)),
            None => (answered, at),
        };
        let count = after("TAGS").and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
        let from = words.iter().position(|word| *word == "TAGS").map_or(0, |at| at + 2);
        let mut tags = words[from..][..count].to_vec();
        if let Some(number) = key.strip_prefix("u:") {
            tags.push(OF_RULE[number.parse::<usize>().unwrap_or(0).min(6)]);
        }
        let windows = ["SWR", "SIE"].iter().filter_map(|name| after(name)).map(duration).max().unwrap_or(0);
        let new = Stored {
            key,
            database: self.database(step),
            steps: vec![at],
            begun,
            claimed: claim.is_some(),
            tags,
            windows,
        };
        match value {
            Some(value) => {
                let known = self.values.entry(value).or_insert(new);
                if known.steps != [at] {
                    known.steps.push(at);
                    // Without a claim a repeated store counts as a new load.
                    known.begun = known.begun.max(begun);
                }
            }
            None => {
                for database in 0..2 {
                    if new.database.is_none_or(|own| own == database) {
                        let all = self.absences.entry((database, key)).or_default();
                        // A repeated fill gets the same answer.
                        let same =
                            |known: &&mut Stored<'_>| claim.is_some() && self.steps[known.steps[0]].words == step.words;
                        match all.iter_mut().rev().take(20).find(same) {
                            Some(known) => known.steps.push(at),
                            None => all.push(new.clone()),
                        }
                    }
                }
            }
        }
    }

    /// Whether an answered invalidation must be known to the server that this step read from.
    fn is_known(&self, end: &End<'_>, step: &Step, of_replica: bool) -> bool {
        let lost = |(sent, ended): &(u64, u64)| {
            *sent < step.ended && end.sent < *ended && end.confirmed.is_none_or(|at| at >= *sent)
        };
        if of_replica && end.confirmed.is_none_or(|at| at >= step.sent) {
            return false;
        }
        end.ended < step.sent && !self.losses.iter().any(lost)
    }

    /// Whether it ends the value as it is read under this key, in this database.
    fn ends(&self, end: &End<'_>, stored: &Stored<'_>, key: &str, database: usize) -> bool {
        let ended_where_read = end.database == database && Self::names(end, stored, key);
        // Ended under the key for which it was loaded, wherever it moved since.
        let ended_where_stored = || Some(end.database) == stored.database && Self::names(end, stored, stored.key);
        if stored.begun.0 < end.sent {
            return ended_where_read || (ended_where_stored() && !self.may_have_moved(stored, end.ended));
        }
        // A guard applies to loads of what it names, not to moved entries, until a flush takes it back.
        let taken_back = self.flushes.iter().any(|flush| *flush >= end.sent);
        stored.claimed
            && stored.begun.0 < end.sent + end.guard.saturating_sub(COARSE)
            && !taken_back
            && ended_where_stored()
    }

    fn names(end: &End<'_>, stored: &Stored<'_>, key: &str) -> bool {
        match &end.names {
            Selector::All => true,
            Selector::Tags(tags) => tags.iter().any(|tag| stored.tags.contains(tag)),
            Selector::Prefixes(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
            Selector::Patterns(patterns) => patterns.iter().any(|pattern| matches(pattern.as_bytes(), key.as_bytes())),
            Selector::Key(name) => *name == key,
            Selector::Unmoved => key.starts_with('w'),
        }
    }

    /// Whether the value may have moved, until this time, from where it was stored.
    fn may_have_moved(&self, stored: &Stored<'_>, until: u64) -> bool {
        let since = stored.steps.iter().map(|at| self.steps[*at].sent).min().unwrap_or(0);
        let left = |sent: &u64| (since..=until).contains(sent);
        self.departures.get(stored.key).is_some_and(|all| all.iter().any(left))
    }

    /// The invalidation that has certainly ended the value, so that this step must not serve it in this state.
    fn ended(&self, stored: &Stored<'_>, key: &str, state: &str, step: &Step, of_replica: bool) -> Option<&End<'h>> {
        let database = self.database(step)?;
        let until = self.ends.partition_point(|end| end.sent < step.sent);
        self.ends[..until].iter().rev().take_while(|end| end.sent + self.longest_guard >= stored.begun.0).find(|end| {
            let now_fresh = !end.hard && end.over > 0 && step.sent < end.ended + end.over + LAG;
            let may_be = match state {
                "HIT" | "ABSENT" => now_fresh,
                // Within its windows, from the time at which it ended.
                _ => !end.hard && step.sent < end.ended + end.over + stored.windows + LAG,
            };
            !may_be && self.is_known(end, step, of_replica) && self.ends(end, stored, key, database)
        })
    }

    fn reads(&mut self) {
        let mut found = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            for (of_replica, key, state, value) in reads_of(step) {
                match (state, value) {
                    ("HIT" | "STALE", Some(value)) => {
                        let Some(stored) = self.values.get(value) else {
                            let what = format!("'{key}' was served with {value}, which was never stored");
                            found.push((Rule::ServedWasStored, what, vec![at]));
                            continue;
                        };
                        if let Some(end) = self.ended(stored, key, state, step, of_replica) {
                            let rule = if state == "HIT" { Rule::EndedIsNotFresh } else { Rule::EndedIsNotServed };
                            let what = format!(
                                "'{key}' was served as {state} with {value}, whose load had begun at {:.3}, though {} was \
                                 answered before that was asked",
                                ms(stored.begun.0),
                                self.steps[end.at].words,
                            );
                            let mut steps = vec![stored.begun.1];
                            steps.extend(&stored.steps);
                            steps.extend([end.at, at]);
                            found.push((rule, what, steps));
                        }
                    }
                    ("ABSENT", _) => {
                        let Some(database) = self.database(step) else { continue };
                        let all = self.absences.get(&(database, key)).map_or(&[][..], Vec::as_slice);
                        let before = all.partition_point(|stored| self.steps[stored.steps[0]].sent < step.ended);
                        let is_alive = |stored: &Stored<'_>| {
                            !matches!(&*self.steps[stored.steps[0]].answer, "LOST" | "STALE")
                                && self.ended(stored, key, state, step, of_replica).is_none()
                        };
                        if !all[..before].iter().rev().any(is_alive) {
                            let what = format!("'{key}' was ABSENT, though the absence had been invalidated");
                            found.push((Rule::EndedIsNotFresh, what, vec![at]));
                        }
                    }
                    _ => {}
                }
            }
        }
        self.report(found);
    }

    /// A load that was invalidated meanwhile is not stored as fresh.
    fn fills(&mut self) {
        let mut found = Vec::new();
        let all = self.values.values().chain(self.absences.values().flatten());
        for stored in all.filter(|stored| stored.claimed && stored.database.is_some()) {
            let at = stored.steps[0];
            let step = &self.steps[at];
            let all_of_them = self.words[at].get(1).filter(|_| self.words[at][0] == "SMARTCACHE.MSET");
            if &*step.answer != "OK" && all_of_them != Some(&&*step.answer) {
                continue;
            }
            if let Some(end) = self.ended(stored, stored.key, "HIT", step, false) {
                let what = format!("a load of '{}' was stored as fresh, though it had been invalidated", stored.key);
                found.push((Rule::DistrustedLoads, what, vec![stored.begun.1, end.at, at]));
            }
        }
        found.sort_by_key(|(_, _, steps)| steps[2]);
        found.dedup_by_key(|(_, _, steps)| steps[2]);
        self.report(found);
    }

    fn errors(&mut self) {
        let expected = [
            "READONLY",
            "LOADING",
            "MASTERDOWN",
            "OOM",
            "UNBLOCKED",
            "NOREPLICAS",
            "ERR no such key",
            "ERR No such client",
            "ERR source and destination objects are the same",
            "ERR Background",
            "ERR Another child process",
            "ERR Can't BGSAVE",
            "ERR An AOF log rewriting",
            "ERR REPLICAOF",
            "ERR Bad data format",
            "REDIRECT",
        ];
        let mut found = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            if let Some(error) = step.answer.strip_prefix("error ")
                && !expected.iter().any(|start| error.starts_with(start))
            {
                found.push((Rule::OneAnswerEach, "an unexpected error".to_owned(), vec![at]));
            } else if &*step.answer == "silence" {
                found.push((Rule::OneAnswerEach, "no answer came".to_owned(), vec![at]));
            }
        }
        self.report(found);
    }

    fn report(&mut self, found: Vec<(Rule, String, Vec<usize>)>) {
        self.found.extend(found.into_iter().map(|(rule, what, steps)| Violation { rule, what, steps }));
    }
}

/// The tags that the rule `u:*` with `TAG of:{1}` adds.
const OF_RULE: [&str; 7] = ["", "of:1", "of:2", "of:3", "of:4", "of:5", "of:6"];

/// Whether a pattern (`*`, `?`, `[ab]`) matches a key.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    match pattern {
        [] => key.is_empty(),
        [b'*', rest @ ..] => (0..=key.len()).any(|skipped| matches(rest, &key[skipped..])),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b']').unwrap_or(rest.len());
            key.first().is_some_and(|b| rest[..end].contains(b))
                && matches(&rest[(end + 1).min(rest.len())..], &key[1..])
        }
        [first, rest @ ..] => key.first().is_some_and(|b| *first == b'?' || first == b) && matches(rest, &key[1..]),
    }
}

#[test]
fn patterns_match_as_documented() {
    for (pattern, key, expected) in [
        ("u:*", "u:1", true),
        ("*4", "w:4", true),
        ("*4", "w:41", false),
        ("[vw]:*", "v:1", true),
        ("[vw]:*", "u:1", false),
        ("?:2", "u:2", true),
        ("?:2", "uu:2", false),
        ("*:[13]", "u:3", true),
    ] {
        assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), expected, "{pattern} {key}");
    }
}
