//! Two servers, one plain, one with the module and a rule that makes every key NATIVE, are told the same random
//! histories of the server's own commands. They must answer the same, byte for byte.
//!
//! `SMARTCACHE_DIFFERENTIAL_STEPS` and `SMARTCACHE_DIFFERENTIAL_SEED` choose other histories. What differs is shown
//! with the shortest history that shows it.

mod calls;
mod sides;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::calls::{Call, Calls};
use self::sides::{Frame, Side, Step, is_key};
use crate::support::Server;

const RULE: &str = r#"smartcache.rules '[{"name":"all","match":["*"],"native":true}]'"#;

/// Steps before the servers begin empty again: short, so that what differs is found in a short history.
const STEPS_OF_A_HISTORY: usize = 60;

/// More would only repeat.
const MOST_DIFFERENCES: usize = 25;

#[test]
fn a_native_key_answers_as_the_plain_string_it_seems_to_be() {
    let s = Server::with(RULE);
    s.ok("SET k v");
    assert_eq!(s.state("k"), "fresh", "with the rule a string is an entry");
    compare(Server::setup().conf(RULE), number("SMARTCACHE_DIFFERENTIAL_STEPS", 4_000));
}

/// What the test above compares is the module's doing, not the moment's.
#[test]
fn two_plain_servers_answer_alike() {
    compare(Server::setup().without_module(), number("SMARTCACHE_DIFFERENTIAL_STEPS", 4_000) / 8);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn compare(other: crate::support::Setup, steps: u64) {
    // A value of a megabyte is large enough, and a comparison of two long strings (LCS) is refused.
    let conf = "proto-max-bulk-len 1mb\nnotify-keyspace-events EA";
    let mut pair = Pair {
        plain: Side::new(Server::setup().without_module().conf(conf).start()),
        other: Side::new(other.conf(conf).start()),
        answered: BTreeMap::new(),
        history: Vec::new(),
    };
    let commands = calls::commands(&mut pair.plain.server.connect3());

    let seed = number("SMARTCACHE_DIFFERENTIAL_SEED", 1);
    println!("{}, {steps} steps, SMARTCACHE_DIFFERENTIAL_SEED={seed}", pair.plain.server.name());
    let mut calls = Calls {
        commands: &commands,
        rng: StdRng::seed_from_u64(seed),
        now: unix_time(),
        keys: &calls::KEYS,
        at: calls::KEYS[0],
    };
    let mut found = BTreeSet::new();
    let mut done = 0;
    while done < steps && found.len() < MOST_DIFFERENCES {
        let resp3 = calls.rng.random_bool(0.5);
        pair.begin(resp3);
        let mut history = Vec::new();
        for _ in 0..STEPS_OF_A_HISTORY {
            done += 1;
            let step = draw(&mut calls);
            history.push(step);
            if let Some(difference) = pair.step(history.last().expect("it is pushed above")) {
                let excused = EXCUSED.iter().any(|(kind, _)| difference.kind.starts_with(kind));
                if !excused && !found.contains(&difference.kind) {
                    let protocol = if resp3 { "RESP3" } else { "RESP2" };
                    let report = pair.shortest(history, resp3, &difference.kind);
                    println!("---- {} ({protocol})\n{report}", difference.kind);
                    found.insert(difference.kind);
                }
                break;
            }
        }
    }
    if std::env::var_os("SMARTCACHE_DIFFERENTIAL_COUNTS").is_some() {
        println!("answered/refused: {:?}", pair.answered);
    }
    // Errors are alike easily.
    let (answers, refusals) = pair.answered.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    assert!(answers > refusals, "{answers} answers and {refusals} errors: the calls make too little sense");
    assert!(found.is_empty(), "{} kinds of difference in {done} steps: see above", found.len());
}

fn unix_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs() as i64
}

fn draw(calls: &mut Calls) -> Step {
    match calls.rng.random_range(0..100) {
        0..10 => {
            let ways = ["EVAL", "EVAL", "EVAL pcall", "EVAL resp3", "EVAL_RO", "FCALL", "FCALL_RO"];
            let enter = ways[calls.rng.random_range(0..ways.len())];
            Step::Script { enter, declares: calls.chance(60), call: calls.call(true) }
        }
        10..16 => {
            let calls_inside = (0..calls.rng.random_range(1..5)).map(|_| calls.call(true)).collect();
            Step::Transaction { calls: calls_inside, discards: calls.chance(10) }
        }
        16..19 => Step::Watch { key: calls.key(), elsewhere: calls.call(false), calls: vec![calls.call(true)] },
        19..21 => {
            let ttl = if calls.chance(50) { b"0".to_vec() } else { b"5000000".to_vec() };
            Step::Restore { from: calls.key(), to: calls.key(), ttl }
        }
        21..33 => Step::Elsewhere(calls.call(false)),
        _ => Step::Call(calls.call(false)),
    }
}

/// Replies in no order, by the tip of the command or by nature.
const UNORDERED: [&str; 12] = [
    "KEYS",
    "SCAN",
    "SMEMBERS",
    "SUNION",
    "SINTER",
    "SDIFF",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "SORT",
    "SORT_RO",
    "GEOSEARCH",
];

/// Differences that are right, by how their kind begins, each with its reason. The history ends there all the same.
const EXCUSED: [(&str, &str); 4] = [
    ("PTTL after RESTORE", "DUMP shows the entry as it is, and the entry knows when it ends"),
    ("GET after PFCOUNT", "the server keeps the count in the value; here a read changes nothing"),
    ("reply to PFCOUNT in EVAL_RO", "it is refused since it may write the count; here it only reads"),
    ("reply to PFCOUNT in FCALL_RO", "as in EVAL_RO"),
];

struct Difference {
    /// What differs, without the words of this one case.
    kind: String,
    text: String,
}

struct Pair {
    plain: Side,
    other: Side,
    /// By command, how many calls were answered, and with an error.
    answered: BTreeMap<String, (u64, u64)>,
    /// Shown when a server does not answer.
    history: Vec<String>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- the last steps:\n  {}", self.history.join("\n  "));
        }
    }
}

impl Pair {
    fn begin(&mut self, resp3: bool) {
        self.history.clear();
        self.plain.begin(resp3);
        self.other.begin(resp3);
    }

    /// One step on both servers, and what then differs.
    fn step(&mut self, step: &Step) -> Option<Difference> {
        self.history.push(step.to_string());
        let (plain, other) = (self.plain.run(step), self.other.run(step));
        let named = |name: &str| step.calls().iter().any(|call| call[0].eq_ignore_ascii_case(name.as_bytes()));
        let unordered = UNORDERED.iter().any(|name| named(name));
        let name = kind_of(step);
        if let Step::Call(call) = step {
            let of = self.answered.entry(String::from_utf8_lossy(&call[0]).to_uppercase()).or_default();
            if plain[0].is_error() { of.1 += 1 } else { of.0 += 1 }
        }
        let last = plain.len() - 1;
        for (at, (a, b)) in plain.into_iter().zip(other).enumerate() {
            let exec = at == last && matches!(step, Step::Transaction { .. } | Step::Watch { .. });
            let (a, b) = if unordered { (a.sorted(exec), b.sorted(exec)) } else { (a, b) };
            let alike = if about_time(step) { a.resembles(&b) } else { a == b };
            if !alike {
                return Some(Difference {
                    kind: format!("reply to {}", differs_at(step, at, &a, &b).unwrap_or(name)),
                    text: format!("    plain:  {a}\n    native: {b}"),
                });
            }
        }

        let ((events, tracked), (our_events, our_tracked)) = (self.plain.notices(), self.other.notices());
        if events != our_events && !unordered {
            return Some(Difference {
                kind: format!("key events of {name}"),
                text: format!("    plain:  {events:?}\n    native: {our_events:?}"),
            });
        }
        if tracked != our_tracked {
            return Some(Difference {
                // One is as bad as all.
                kind: "invalidations for CLIENT TRACKING".to_owned(),
                text: format!("    plain:  {tracked:?}\n    native: {our_tracked:?}"),
            });
        }

        self.wait_for_ends();
        for ((asked, a), (_, b)) in self.plain.look().into_iter().zip(self.other.look()) {
            let alike = if asked.starts_with("PTTL") { a.resembles(&b) } else { a == b };
            if !alike {
                let question = asked.split(' ').next().unwrap_or_default();
                return Some(Difference {
                    kind: format!("{question} after {name}"),
                    text: format!("    {asked}\n    plain:  {a}\n    native: {b}"),
                });
            }
        }
        // What only looking has caused, such as the deletion of expired keys, is no difference.
        self.plain.notices();
        self.other.notices();
        None
    }

    /// Keys that end soon are waited for, so that no step sees one server before and the other one after the end.
    fn wait_for_ends(&mut self) {
        let soon =
            |ends: Vec<(Vec<u8>, i64)>| ends.into_iter().map(|(_, left)| left).filter(|left| *left < 5_000).max();
        if let Some(left) = soon(self.plain.ends()).max(soon(self.other.ends())) {
            std::thread::sleep(Duration::from_millis(left.clamp(0, 5_000) as u64 + 3));
        }
    }

    /// The shortest history that shows this kind of difference: steps are left out, one after the other, for as long as
    /// it still shows.
    fn shortest(&mut self, mut history: Vec<Step>, resp3: bool, kind: &str) -> String {
        let mut shown = self.replay(&history, resp3, kind);
        if shown.is_none() {
            let steps: Vec<String> = history.iter().map(|step| format!("  {step}")).collect();
            return format!("(not the second time)\n{}", steps.join("\n"));
        }
        let mut at = history.len() - 1;
        while at > 0 {
            at -= 1;
            let mut less = history.clone();
            less.remove(at);
            if let Some(text) = self.replay(&less, resp3, kind) {
                (history, shown) = (less, Some(text));
            }
        }
        // And calls out of transactions.
        for at in 0..history.len() {
            let mut inner = history[at].transaction().map_or(0, |calls| calls.len());
            while inner > 0 {
                inner -= 1;
                let mut less = history.clone();
                let calls = less[at].transaction().expect("it is one");
                if calls.len() == 1 {
                    break;
                }
                calls.remove(inner);
                if let Some(text) = self.replay(&less, resp3, kind) {
                    (history, shown) = (less, Some(text));
                }
            }
        }
        let steps: Vec<String> = history.iter().map(|step| format!("  {step}")).collect();
        format!("{}\n{}", steps.join("\n"), shown.unwrap_or_default())
    }

    /// Plays a history anew; what differs after its last step, if it is of this kind.
    fn replay(&mut self, history: &[Step], resp3: bool, kind: &str) -> Option<String> {
        self.begin(resp3);
        for (at, step) in history.iter().enumerate() {
            if let Some(difference) = self.step(step) {
                return (at + 1 == history.len() && difference.kind == kind).then_some(difference.text);
            }
        }
        None
    }
}

/// The command of a transaction whose reply differs: as it is queued, or in the array of `EXEC`.
fn differs_at(step: &Step, at: usize, a: &Frame, b: &Frame) -> Option<String> {
    let (calls, before) = match step {
        Step::Transaction { calls, .. } => (calls, 1),
        Step::Watch { calls, .. } => (calls, 3),
        _ => return None,
    };
    let at = at.checked_sub(before)?;
    let at = if at < calls.len() { at } else { a.items.iter().zip(&b.items).position(|(a, b)| a != b)? };
    Some(format!("{} in MULTI", kind_of(&Step::Call(calls.get(at)?.clone()))))
}

/// The names of the commands of a step, and how they are called.
fn kind_of(step: &Step) -> String {
    let name = |call: &Call| String::from_utf8_lossy(&call[0]).to_uppercase();
    match step {
        Step::Call(call) => {
            let options = call[1..].iter().filter(|word| !is_key(word));
            let options = options.map(|word| String::from_utf8_lossy(word).to_uppercase());
            let options = options.filter(|word| OPTIONS.contains(&word.as_str()));
            std::iter::once(name(call)).chain(options).collect::<Vec<_>>().join(" ")
        }
        Step::Elsewhere(call) => format!("{} elsewhere", name(call)),
        Step::Script { enter, call, .. } => format!("{} in {enter}", name(call)),
        Step::Transaction { calls, .. } => {
            format!("MULTI {}", calls.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        Step::Watch { .. } => "WATCH".to_owned(),
        Step::Restore { .. } => "RESTORE".to_owned(),
    }
}

const OPTIONS: [&str; 14] =
    ["NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "GT", "LT", "PERSIST", "LEN", "IDX", "STORE"];

/// Do the numbers in the reply tell when something ends?
fn about_time(step: &Step) -> bool {
    let names = ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"];
    step.calls().iter().any(|call| names.iter().any(|name| call[0].eq_ignore_ascii_case(name.as_bytes())))
}
