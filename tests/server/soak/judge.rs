//! Walks the record of the storm and finds what was served though it had been invalidated before that was asked. Knows
//! nothing of how the module works: only the words of the command reference, and when they were said and answered.
//!
//! Each value is stored once and says its name, so for each it is known when its load had certainly begun: when the lease
//! or the stamp had been received, or else when the store was answered. It is *ended* by an invalidation that was sent after
//! that (or within whose `GUARD` it began) and that means it:
//!
//! ```text
//!  as it is read: by key, tags (those of the store, and of the rule), prefix, pattern, or with all of the database,
//!                 whenever it came there
//!  as it was stored: under that key, in that database, if it can have left only later
//! ```
//!
//! *Certain* only: an invalidation counts when it was answered before the read was sent; with `OVER` when that is past,
//! too. Databases are told apart by what they hold, through all swaps. Of a replica, and of a replica that has taken over
//! from a primary that was killed, only that is expected which `WAIT` had confirmed.

use std::collections::{BTreeMap, HashMap};

use super::check::{ParsedAnswer, Rule, Violation, duration};
use super::history::{Step, ms};

const MS: u64 = 1_000_000;
/// How far the server's clocks may lag behind ours, or behind each other.
const LAG: u64 = 200 * MS;
/// How much too early a guard may seem to end: servers without a finer clock reckon in steps of 4 ms or 10 ms.
const COARSE: u64 = 15 * MS;

/// What an invalidation names.
#[derive(Clone, Debug)]
enum Names<'h> {
    Tags(Vec<&'h str>),
    Prefixes(Vec<&'h str>),
    Patterns(Vec<&'h str>),
    Key(&'h str),
    All,
    /// All there is: what moves about may come back from elsewhere.
    Settled,
}

/// Something that ends what it names.
#[derive(Clone, Debug)]
struct End<'h> {
    at: usize,
    place: usize,
    sent: u64,
    ended: u64,
    names: Names<'h>,
    hard: bool,
    over: u64,
    guard: u64,
    /// When `WAIT` had confirmed it.
    confirmed: Option<u64>,
}

/// A value, by its name.
#[derive(Clone, Debug)]
struct Stored<'h> {
    key: &'h str,
    /// Where it was stored, if that is certain.
    place: Option<usize>,
    /// All attempts.
    steps: Vec<usize>,
    /// When its load had certainly begun; and the step.
    begun: (u64, usize),
    claimed: bool,
    tags: Vec<&'h str>,
    windows: u64,
}

struct Judge<'h> {
    steps: &'h [Step],
    words: Vec<Vec<&'h str>>,
    /// When the databases changed places.
    swaps: Vec<(u64, u64)>,
    /// When a primary was killed for good.
    losses: Vec<(u64, u64)>,
    ends: Vec<End<'h>>,
    values: HashMap<&'h str, Stored<'h>>,
    /// Stores of an absence, by place and key.
    absences: HashMap<(usize, &'h str), Vec<Stored<'h>>>,
    /// When what may have brought elsewhere what stands under a key was sent.
    leavings: HashMap<&'h str, Vec<u64>>,
    longest_guard: u64,
    found: Vec<Violation>,
}

/// Walks the history, which must be in the order in which the steps were sent.
pub(crate) fn judge(steps: &[Step]) -> Vec<Violation> {
    let mut judge = Judge::read(steps);
    judge.reads();
    judge.fills();
    judge.errors();
    judge.found.sort_by_key(|violation| violation.rule);
    judge.found
}

/// How many keys were read, and how many of them were served as fresh, as stale, and as absent.
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

/// What a step has read: from the replica, key, state, value.
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
            // With STALE nobody tells which of the two it is: at least it must be servable at all.
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
            leavings: HashMap::new(),
            longest_guard: 0,
            found: Vec::new(),
        };
        judge.find_ends();
        judge.find_values();
        judge
    }

    /// Which of the two databases this is, if they did not change places meanwhile.
    fn place(&self, step: &Step) -> Option<usize> {
        let swapped = self.swaps.partition_point(|(_, ended)| *ended <= step.sent);
        let meanwhile = self.swaps.get(swapped).is_some_and(|(sent, _)| *sent < step.ended);
        (!meanwhile).then_some((usize::from(step.db) + swapped) % 2)
    }

    fn find_ends(&mut self) {
        let mut latest: HashMap<u64, usize> = HashMap::new();
        for (at, step) in self.steps.iter().enumerate() {
            let words = &self.words[at];
            if !step.is_answered() || step.answer.starts_with("error") {
                continue;
            }
            // By the same connection, which had asked for nothing else since.
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
                ["SMARTCACHE.INVALIDATE", "TAGS", ..] => (Names::Tags(names(2)), !words.contains(&"SOFT")),
                ["SMARTCACHE.INVALIDATE", "PREFIXES", ..] => (Names::Prefixes(names(2)), !words.contains(&"SOFT")),
                ["SMARTCACHE.INVALIDATE", "PATTERNS", ..] => (Names::Patterns(names(2)), !words.contains(&"SOFT")),
                ["SMARTCACHE.INVALIDATE", ..] => (Names::All, !words.contains(&"SOFT")),
                ["SMARTCACHE.DEL", key] => (Names::Key(key), true),
                ["SMARTCACHE.STALE", key] => (Names::Key(key), false),
                ["FLUSHDB", ..] => (Names::Settled, true),
                _ => continue,
            };
            let Some(place) = self.place(step) else { continue };
            let (over, guard) = (after("OVER").unwrap_or(0), after("GUARD").unwrap_or(0));
            self.longest_guard = self.longest_guard.max(guard);
            latest.insert(step.conn, self.ends.len());
            let (sent, ended) = (step.sent, step.ended);
            self.ends.push(End { at, place, sent, ended, names, hard, over, guard, confirmed: None });
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
                    self.leavings.entry(key).or_default().push(step.sent);
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
        let new =
            Stored { key, place: self.place(step), steps: vec![at], begun, claimed: claim.is_some(), tags, windows };
        match value {
            Some(value) => {
                let known = self.values.entry(value).or_insert(new);
                if known.steps != [at] {
                    known.steps.push(at);
                    // Sent again without a claim it counts as loaded again.
                    known.begun = known.begun.max(begun);
                }
            }
            None => {
                for place in 0..2 {
                    if new.place.is_none_or(|own| own == place) {
                        let all = self.absences.entry((place, key)).or_default();
                        // A fill that is sent again is answered as it was.
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

    /// Whether an invalidation that was answered at all is known to whoever was asked by this step.
    fn is_known(&self, end: &End<'_>, step: &Step, of_replica: bool) -> bool {
        let lost = |(sent, ended): &(u64, u64)| {
            *sent < step.ended && end.sent < *ended && end.confirmed.is_none_or(|moment| moment >= *sent)
        };
        if of_replica && end.confirmed.is_none_or(|moment| moment >= step.sent) {
            return false;
        }
        end.ended < step.sent && !self.losses.iter().any(lost)
    }

    /// Whether it ends the value as it is read under this key, in this place.
    fn ends(&self, end: &End<'_>, stored: &Stored<'_>, key: &str, place: usize) -> bool {
        let here = end.place == place && Self::names(end, stored, key);
        // Under the key for which it was loaded: then it was ended there, wherever it went since.
        let there = || Some(end.place) == stored.place && Self::names(end, stored, stored.key);
        if stored.begun.0 < end.sent {
            return here || (there() && !self.may_have_left(stored, end.ended));
        }
        // A guard distrusts loads for what it names, and not what comes from elsewhere.
        stored.claimed && stored.begun.0 < end.sent + end.guard.saturating_sub(COARSE) && there()
    }

    fn names(end: &End<'_>, stored: &Stored<'_>, key: &str) -> bool {
        match &end.names {
            Names::All => true,
            Names::Tags(tags) => tags.iter().any(|tag| stored.tags.contains(tag)),
            Names::Prefixes(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
            Names::Patterns(patterns) => patterns.iter().any(|pattern| fits(pattern.as_bytes(), key.as_bytes())),
            Names::Key(name) => *name == key,
            Names::Settled => key.starts_with('w'),
        }
    }

    /// Whether the value may have gone elsewhere, until this moment, from where it was stored.
    fn may_have_left(&self, stored: &Stored<'_>, until: u64) -> bool {
        let since = stored.steps.iter().map(|at| self.steps[*at].sent).min().unwrap_or(0);
        let left = |sent: &u64| (since..=until).contains(sent);
        self.leavings.get(stored.key).is_some_and(|all| all.iter().any(left))
    }

    /// The invalidation that has certainly ended the value, by what this step may serve of it.
    fn ended(&self, stored: &Stored<'_>, key: &str, state: &str, step: &Step, of_replica: bool) -> Option<&End<'h>> {
        let place = self.place(step)?;
        let until = self.ends.partition_point(|end| end.sent < step.sent);
        self.ends[..until].iter().rev().take_while(|end| end.sent + self.longest_guard >= stored.begun.0).find(|end| {
            let now_fresh = !end.hard && end.over > 0 && step.sent < end.ended + end.over + LAG;
            let may_be = match state {
                "HIT" | "ABSENT" => now_fresh,
                // Within its windows, from the moment on at which it ended.
                _ => !end.hard && step.sent < end.ended + end.over + stored.windows + LAG,
            };
            !may_be && self.is_known(end, step, of_replica) && self.ends(end, stored, key, place)
        })
    }

    fn reads(&mut self) {
        let mut found = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            for (of_replica, key, state, value) in reads_of(step) {
                match (state, value) {
                    ("HIT" | "STALE", Some(value)) => {
                        let Some(stored) = self.values.get(value) else {
                            let what = format!("'{key}' was served with {value}, which nobody has stored");
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
                        let Some(place) = self.place(step) else { continue };
                        let all = self.absences.get(&(place, key)).map_or(&[][..], Vec::as_slice);
                        let before = all.partition_point(|stored| self.steps[stored.steps[0]].sent < step.ended);
                        let stands = |stored: &Stored<'_>| {
                            !matches!(&*self.steps[stored.steps[0]].answer, "LOST" | "STALE")
                                && self.ended(stored, key, state, step, of_replica).is_none()
                        };
                        if !all[..before].iter().rev().any(stands) {
                            let what = format!("'{key}' was ABSENT, though whatever said so had been invalidated");
                            found.push((Rule::EndedIsNotFresh, what, vec![at]));
                        }
                    }
                    _ => {}
                }
            }
        }
        self.complain(found);
    }

    /// A load that was invalidated meanwhile is not stored as fresh.
    fn fills(&mut self) {
        let mut found = Vec::new();
        let all = self.values.values().chain(self.absences.values().flatten());
        for stored in all.filter(|stored| stored.claimed && stored.place.is_some()) {
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
        self.complain(found);
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
                found.push((Rule::OneAnswerEach, "an error that nobody has to expect".to_owned(), vec![at]));
            } else if &*step.answer == "silence" {
                found.push((Rule::OneAnswerEach, "no answer came".to_owned(), vec![at]));
            }
        }
        self.complain(found);
    }

    fn complain(&mut self, found: Vec<(Rule, String, Vec<usize>)>) {
        self.found.extend(found.into_iter().map(|(rule, what, steps)| Violation { rule, what, steps }));
    }
}

/// What the rule `u:*` with `TAG of:{1}` adds.
const OF_RULE: [&str; 7] = ["", "of:1", "of:2", "of:3", "of:4", "of:5", "of:6"];

/// Whether a pattern (`*`, `?`, `[ab]`) means a key.
fn fits(pattern: &[u8], key: &[u8]) -> bool {
    match pattern {
        [] => key.is_empty(),
        [b'*', rest @ ..] => (0..=key.len()).any(|skipped| fits(rest, &key[skipped..])),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b']').unwrap_or(rest.len());
            key.first().is_some_and(|b| rest[..end].contains(b)) && fits(&rest[(end + 1).min(rest.len())..], &key[1..])
        }
        [first, rest @ ..] => key.first().is_some_and(|b| *first == b'?' || first == b) && fits(rest, &key[1..]),
    }
}

#[test]
fn patterns_mean_what_they_say() {
    for (pattern, key, means) in [
        ("u:*", "u:1", true),
        ("*4", "w:4", true),
        ("*4", "w:41", false),
        ("[vw]:*", "v:1", true),
        ("[vw]:*", "u:1", false),
        ("?:2", "u:2", true),
        ("?:2", "uu:2", false),
        ("*:[13]", "u:3", true),
    ] {
        assert_eq!(fits(pattern.as_bytes(), key.as_bytes()), means, "{pattern} {key}");
    }
}
