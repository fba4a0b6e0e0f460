//! Random histories of invalidations: which entries may be served as fresh or stale, and the replies to fills.
//!
//! The real node is compared with a model that keeps every invalidation in order and judges an entry by all of them,
//! under its key and under every key it had before. The model has no stamps, no merged or dropped marks, no posting
//! lists and no sweep. A replica applies what is replicated, and may be promoted.
//!
//! What must hold after every step:
//!
//! 1. Nothing that was invalidated after its load began is served as fresh; nothing that was invalidated *hard* is
//!    served at all; also after `RENAME`, `COPY`, `MOVE`, `RESTORE`, `SWAPDB`, a restart, a failover, on the replica,
//!    and when the clock is set. What is not served is not served again later.
//! 2. What no invalidation has hit is served. (Not required of restored entries, or where limits have folded marks:
//!    there more may be invalidated, never less.)
//! 3. The reply to a fill is `OK` if and only if nothing that names it, its own tags included, was invalidated since
//!    its load began.
//! 4. `INVALIDATE TAGS` and `ALL` return the number of entries that they hit.
//! 5. A sweep leaves no dead entry; once all keys are deleted, every mark, tag and posting list goes within minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hasher;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use siphasher::sip::SipHasher13;
use smartcache::testing::{Saved, TestNode, token_of};

const KEYS: [&str; 5] = ["a1", "a2", "ab", "b1", "c"];
const TAGS: [&str; 5] = ["x", "y", "of:1", "of:b", "unused"];
const START: u64 = 1_000_000_000;
const MINUTE: u64 = 60_000;

fn config() -> ProptestConfig {
    let config = super::config();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 1_000 };
    ProptestConfig { cases, max_shrink_iters: 20_000, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_invalidated_stays_invalidated_and_nothing_else_is(history in vec(step(), 1..50).prop_map(History)) {
        run(&history, Limits::None);
    }

    #[test]
    fn at_limits_more_is_invalidated_and_never_less(
        history in vec(step(), 1..50).prop_map(History),
        limits in select(vec![Limits::Names, Limits::Members, Limits::Tags]),
    ) {
        run(&history, limits);
    }
}

fn run(history: &History, limits: Limits) {
    let mut model = Model::new(limits);
    history.0.iter().for_each(|step| model.apply(step));
    model.end();
}

/// The limit that a history reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limits {
    None,
    Names,
    Members,
    Tags,
}

#[derive(Clone, Debug)]
enum Step {
    Set(&'static str, Life, Vec<&'static str>),
    Absent(&'static str, Vec<&'static str>),
    Mset(Vec<&'static str>, Life, Vec<&'static str>),
    /// `GETLOCK` with this `LOCK`.
    GetLock(&'static str, u64),
    /// A fill with the token of a recent load.
    Fill(usize, Life, Vec<&'static str>),
    Stamp,
    Since(usize, &'static str, Life, Vec<&'static str>),
    Stale(&'static str),
    Del(&'static str),
    Touch(&'static str, Option<u64>),
    Invalidate(Selector, Mode, u64),
    Sweep,
    /// A part of the sweep: this many slots and keys.
    SweepSome(usize),
    /// The work of the server's cron, on the primary or the replica.
    Cron,
    CronOfReplica,
    Advance(u64),
    /// The wall clock is set.
    SetClock(i64),
    Select(i32),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str, i32),
    Move(&'static str),
    Dump(&'static str),
    Restore(usize, &'static str),
    Flush(bool),
    Swap,
    /// The AOF is rewritten: marks are emitted again, also to the replica.
    ReemitMarks,
    Promote,
    /// From an RDB, or from a rewritten AOF.
    Restart(bool),
}

#[derive(Clone, Debug)]
enum Selector {
    Tags(Vec<&'static str>),
    Prefixes(Vec<&'static str>),
    Patterns(Vec<&'static str>),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Hard,
    /// Over this many milliseconds; 0: at once.
    Soft(u64),
}

/// Lifetime of an entry in milliseconds; `None`: no end.
#[derive(Clone, Copy, Debug)]
struct Life {
    fresh: Option<u64>,
    window: u64,
}

/// Steps, printed one per line.
struct History(Vec<Step>);

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "\n  {step:?}"))
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = || select(&KEYS[..]);
    let tags = || vec(select(&TAGS[..3]), 0..3);
    let life = || {
        (select(vec![None, None, Some(20_000), Some(1_000_000)]), select(vec![0, 0, 30_000, 3_000_000]))
            .prop_map(|(fresh, window)| Life { fresh, window })
    };
    let what = prop_oneof![
        4 => vec(select(&TAGS[..]), 1..3).prop_map(Selector::Tags),
        2 => vec(select(vec!["a", "a1", "ab", "b", "bb"]), 1..3).prop_map(Selector::Prefixes),
        2 => vec(select(vec!["a*", "*1", "?b", "[bc]*"]), 1..3).prop_map(Selector::Patterns),
        1 => Just(Selector::All),
    ];
    let how = prop_oneof![
        3 => Just(Mode::Hard),
        2 => Just(Mode::Soft(0)),
        2 => select(vec![10_000, 100_000]).prop_map(Mode::Soft),
    ];
    let guard = prop_oneof![3 => Just(0), 1 => select(vec![5_000, 90_000])];
    let ms = || prop_oneof![4 => 1..8_000_u64, 2 => Just(20_000), 2 => Just(MINUTE + 1), 1 => Just(2 * MINUTE)];
    let db = || 0..2_i32;
    prop_oneof![
        12 => (key(), life(), tags()).prop_map(|(key, life, tags)| Step::Set(key, life, tags)),
        1 => (key(), tags()).prop_map(|(key, tags)| Step::Absent(key, tags)),
        1 => (vec(key(), 1..3), life(), tags()).prop_map(|(keys, life, tags)| Step::Mset(keys, life, tags)),
        6 => (key(), select(vec![5_000, 200_000])).prop_map(|(key, ms)| Step::GetLock(key, ms)),
        6 => (0..4_usize, life(), tags()).prop_map(|(nth, life, tags)| Step::Fill(nth, life, tags)),
        1 => Just(Step::Stamp),
        2 => (0..3_usize, key(), life(), tags()).prop_map(|(nth, key, life, tags)| Step::Since(nth, key, life, tags)),
        1 => key().prop_map(Step::Stale),
        1 => key().prop_map(Step::Del),
        2 => (key(), select(vec![None, Some(500_000)])).prop_map(|(key, ms)| Step::Touch(key, ms)),
        14 => (what, how, guard).prop_map(|(what, how, guard)| Step::Invalidate(what, how, guard)),
        3 => Just(Step::Sweep),
        5 => (1..4_usize).prop_map(Step::SweepSome),
        5 => Just(Step::Cron),
        2 => Just(Step::CronOfReplica),
        9 => ms().prop_map(Step::Advance),
        1 => (-30_000..30_000_i64).prop_map(Step::SetClock),
        1 => db().prop_map(Step::Select),
        4 => (key(), key()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (key(), key(), db()).prop_map(|(from, to, db)| Step::Copy(from, to, db)),
        1 => key().prop_map(Step::Move),
        2 => key().prop_map(Step::Dump),
        3 => (0..3_usize, key()).prop_map(|(nth, key)| Step::Restore(nth, key)),
        1 => any::<bool>().prop_map(Step::Flush),
        1 => Just(Step::Swap),
        1 => Just(Step::ReemitMarks),
        1 => Just(Step::Promote),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// An invalidation, as it happened.
struct Invalidation {
    at: u64,
    wall: u64,
    what: Selector,
    how: Mode,
    /// End of the guard on the monotonic clock.
    guard: u64,
}

/// The entry under a key, served or not.
#[derive(Clone, Debug)]
struct Held {
    /// `None`: an absent entry.
    value: Option<String>,
    /// When its load began, in the order of events.
    began: u64,
    /// When it arrived under its current key. (Whether an invalidation by name affects an entry that arrives later
    /// depends on whether the mark still exists; once it does, it stays so.)
    arrived: u64,
    tags: Vec<String>,
    fresh_until: u64,
    window: u64,
    /// Made stale by command, or by an invalidation under an earlier key.
    ended: bool,
    dead: bool,
    /// When the server deletes it.
    expire_at: u64,
    /// Its freshness is known exactly; otherwise the real node may judge it worse.
    exact: bool,
    /// Whether hits are known to be counted for it.
    counts: bool,
    /// It arrived by `RENAME` or `MOVE`, of which the server does not notify modules.
    unannounced: bool,
    /// Upper bounds: the freshness last observed on the primary and on the replica. The replica may know more, since
    /// what arrives by a full sync is announced; replication may raise its bound to that of the primary.
    best: [Freshness; 2],
}

const NEVER: u64 = u64::MAX / 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Untouched,
    Later(u64),
    Stale(u64),
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Freshness {
    Nothing,
    Stale,
    Fresh,
}

/// The keys of a database and all its invalidations, which `SWAPDB` swaps with it.
#[derive(Default)]
struct Database {
    keys: BTreeMap<&'static str, Held>,
    invalidations: Vec<Invalidation>,
}

#[derive(Clone)]
struct Load {
    /// `None`: a stamp, for any key.
    key: Option<(i32, &'static str)>,
    token: String,
    began: u64,
    mono: u64,
    epoch: u8,
    filled: bool,
    /// No event since then makes the real node distrust more than necessary.
    exact: bool,
}

struct Model {
    node: TestNode,
    replica: TestNode,
    limits: Limits,
    db: i32,
    databases: [Database; 2],
    time: u64,
    wall: u64,
    mono: u64,
    values: u64,
    /// Changes with each restart and promotion.
    epoch: u8,
    loads: Vec<Load>,
    stamps: Vec<Load>,
    dumps: Vec<(Held, Vec<u8>, Vec<u8>)>,
    /// When something was last stored under a key, or left it, in any database.
    touched: BTreeMap<&'static str, u64>,
    /// When loads of a key, or of a whole database, were last distrusted.
    distrusted: BTreeMap<(i32, &'static str), u64>,
    distrusted_all: [u64; 2],
}

impl Selector {
    fn means(&self, key: &str, tags: &[String]) -> bool {
        match self {
            Selector::All => true,
            Selector::Tags(named) => named.iter().any(|name| tags.iter().any(|tag| tag == name)),
            Selector::Prefixes(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
            Selector::Patterns(patterns) => patterns.iter().any(|pattern| match *pattern {
                "a*" => key.starts_with('a'),
                "*1" => key.ends_with('1'),
                "?b" => key.len() == 2 && key.ends_with('b'),
                "[bc]*" => key.starts_with(['b', 'c']),
                other => unreachable!("{other}"),
            }),
        }
    }

    fn words(&self) -> String {
        let format = |word: &str, names: &[&str]| format!("{word} {} {}", names.len(), names.join(" "));
        match self {
            Selector::All => "ALL".into(),
            Selector::Tags(names) => format("TAGS", names),
            Selector::Prefixes(names) => format("PREFIXES", names),
            Selector::Patterns(names) => format("PATTERNS", names),
        }
    }
}

impl Database {
    /// The effect of all invalidations since then on an entry under this key.
    fn verdict(&self, key: &str, tags: &[String], since: u64, wall: u64) -> Verdict {
        let (mut dead, mut stale, mut later) = (false, None, None);
        let earlier = |time: &mut Option<u64>, at: u64| *time = Some(time.map_or(at, |time| time.min(at)));
        for one in self.invalidations.iter().filter(|one| one.at > since && one.what.means(key, tags)) {
            match one.how {
                Mode::Hard => dead = true,
                Mode::Soft(0) => earlier(&mut stale, one.wall),
                Mode::Soft(over) => match one.wall + ramp_offset(key) % over {
                    at if at <= wall => earlier(&mut stale, at),
                    at => earlier(&mut later, at),
                },
            }
        }
        match (stale, later) {
            _ if dead => Verdict::Dead,
            (Some(at), _) => Verdict::Stale(at),
            (None, Some(at)) => Verdict::Later(at),
            (None, None) => Verdict::Untouched,
        }
    }

    fn freshness(&self, key: &str, held: &Held, wall: u64) -> Freshness {
        self.with_invalidations(key, held, wall).own_freshness(wall).min(held.best[0])
    }

    /// The entry with the effect of this database's invalidations applied.
    fn with_invalidations(&self, key: &str, held: &Held, wall: u64) -> Held {
        let mut entry = held.clone();
        match self.verdict(key, &held.tags, held.since(), wall) {
            Verdict::Untouched => {}
            Verdict::Later(at) => entry.fresh_until = entry.fresh_until.min(at),
            Verdict::Stale(since) => (entry.fresh_until, entry.ended) = (entry.fresh_until.min(since), true),
            Verdict::Dead => entry.dead = true,
        }
        entry
    }

    /// Such marks may be dropped, which then invalidates entries that arrived unannounced, whatever their key is.
    fn names_were_invalidated_since(&self, time: u64) -> bool {
        let by_name = |one: &&Invalidation| matches!(one.what, Selector::Prefixes(_) | Selector::Patterns(_));
        self.invalidations.iter().filter(by_name).any(|one| one.at > time)
    }

    /// Whether a tag or `ALL` has hit it.
    fn is_hit_by_tags(&self, held: &Held) -> bool {
        let by_tags = |one: &&Invalidation| matches!(one.what, Selector::Tags(_) | Selector::All);
        self.invalidations.iter().filter(by_tags).any(|one| one.at > held.began && one.what.means("", &held.tags))
    }
}

impl Held {
    fn since(&self) -> u64 {
        self.began.max(self.arrived)
    }

    fn own_freshness(&self, wall: u64) -> Freshness {
        match () {
            () if self.dead => Freshness::Nothing,
            () if !self.ended && wall < self.fresh_until => Freshness::Fresh,
            () if self.value.is_some() && self.window > 0 && wall < self.fresh_until + self.window => Freshness::Stale,
            () => Freshness::Nothing,
        }
    }
}

/// The offset of a key within a ramp: the same on every node and in every version.
fn ramp_offset(key: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// The freshness in a reply of `GET … STATE STALE`.
fn freshness_of(answer: &str) -> Freshness {
    match answer.split(',').next() {
        Some("[\"HIT\"" | "[\"ABSENT\"") => Freshness::Fresh,
        Some("[\"STALE\"") => Freshness::Stale,
        _ => Freshness::Nothing,
    }
}

fn slices(words: &[Vec<u8>]) -> Vec<&[u8]> {
    words.iter().map(Vec::as_slice).collect()
}

impl Model {
    fn new(limits: Limits) -> Self {
        let mut model = Model {
            node: TestNode::at(START),
            replica: TestNode::replica_at(START),
            limits,
            db: 0,
            databases: Default::default(),
            time: 0,
            wall: START,
            mono: START,
            values: 0,
            epoch: 1,
            loads: Vec::new(),
            stamps: Vec::new(),
            dumps: Vec::new(),
            touched: BTreeMap::new(),
            distrusted: BTreeMap::new(),
            distrusted_all: [0; 2],
        };
        model.configure();
        model
    }

    fn configure(&mut self) {
        for node in [&mut self.node, &mut self.replica] {
            let (name, value) = match self.limits {
                Limits::None => ("max-tags", "1000"),
                Limits::Names => ("max-patterns", "1"),
                Limits::Members => ("max-members", "3"),
                Limits::Tags => ("max-tags", "3"),
            };
            node.config(name, value).unwrap();
            if self.limits == Limits::Names {
                node.config("max-prefixes", "1").unwrap();
            }
        }
        self.call("RULE SET r MATCH a* TAG of:{1}");
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Set(key, life, tags) => {
                let value = self.value();
                let answer = self.call(&format!("SET {key} {value}{}", options(*life, tags, "")));
                self.store(key, &answer, Some(value), *life, tags);
            }
            Step::Absent(key, tags) => {
                let life = Life { fresh: Some(1_000_000), window: 0 };
                let answer = self.call(&format!("ABSENT {key} PX 1000000{}", tag_options(tags)));
                self.store(key, &answer, None, life, tags);
            }
            Step::Mset(keys, life, tags) => {
                let values: Vec<_> = keys.iter().map(|key| (*key, self.value())).collect();
                let pairs: Vec<_> = values.iter().map(|(key, value)| format!("{key} {value}")).collect();
                let answer =
                    self.call(&format!("MSET {} {}{}", pairs.len(), pairs.join(" "), options(*life, tags, "")));
                for (key, value) in values {
                    // With too many tags the first ones may have been stored.
                    if !answer.starts_with("(error)") || self.node_has(key, &value) {
                        self.store(key, "OK", Some(value), *life, tags);
                    }
                }
            }
            Step::GetLock(key, lock) => {
                let answer = self.call(&format!("GETLOCK {key} LOCK {lock}ms"));
                if let Some(token) = token_of(&answer) {
                    let load = self.load(Some((self.db, key)), token.to_owned());
                    self.loads.push(load);
                }
            }
            Step::Fill(nth, life, tags) => {
                let Some(at) = self.loads.len().checked_sub(1 + nth) else { return };
                let load = self.loads[at].clone();
                if let Some((_, key)) = load.key.filter(|(db, _)| *db == self.db && !load.filled) {
                    self.loads[at].filled = self.fill(key, &load, "TOKEN", *life, tags);
                }
            }
            Step::Stamp => {
                let token = self.call("STAMP").trim_matches('"').to_owned();
                let load = self.load(None, token);
                self.stamps.push(load);
            }
            Step::Since(nth, key, life, tags) => {
                let Some(at) = self.stamps.len().checked_sub(1 + nth) else { return };
                let load = self.stamps[at].clone();
                self.fill(key, &load, "SINCE", *life, tags);
            }
            Step::Stale(key) => {
                self.call(&format!("STALE {key}"));
                let (wall, at) = (self.wall, self.next_time());
                self.distrusted.insert((self.db, key), at);
                let database = &mut self.databases[self.db as usize];
                if let Some(held) = database.keys.get(key)
                    && database.freshness(key, held, wall) == Freshness::Fresh
                {
                    let held = database.keys.get_mut(key).unwrap();
                    (held.fresh_until, held.ended) = (held.fresh_until.min(wall), true);
                }
            }
            Step::Del(key) => {
                self.call(&format!("DEL {key}"));
                let at = self.next_time();
                self.distrusted.insert((self.db, key), at);
                self.databases[self.db as usize].keys.remove(key);
                self.record_touch(key);
            }
            Step::Touch(key, ms) => self.touch_entry(key, *ms),
            Step::Invalidate(what, how, guard) => self.invalidate(what, *how, *guard),
            Step::Sweep => {
                self.node.sweep();
                self.replicate();
                assert_eq!(self.node.stat("sweep_backlog"), "0");
                self.assert_all_dead_are_swept();
            }
            Step::SweepSome(most) => {
                self.node.sweep_some(*most);
                self.replicate();
            }
            Step::Cron => {
                self.node.cron();
                if self.node.state.invalidations.is_empty() {
                    self.dumps.clear(); // without entries all marks are forgotten: nothing is left to judge dumps by
                }
                self.replicate();
            }
            Step::CronOfReplica => self.replica.cron(),
            Step::Advance(ms) => {
                self.wall += ms;
                self.mono += ms;
                self.both(|node| node.advance(*ms));
            }
            Step::SetClock(by) => {
                let wall = self.wall.saturating_add_signed(*by);
                self.wall = wall;
                self.both(|node| node.set_clock(wall));
                self.freshness_may_improve();
                self.loads_in_flight_are_inexact();
            }
            Step::Select(db) => self.select(*db),
            Step::Rename(from, to) => {
                if from != to {
                    self.both(|node| node.rename(from, to));
                    self.transfer(from, to, self.db, true);
                }
            }
            Step::Copy(from, to, db) => {
                if (from, self.db) != (to, *db) {
                    self.both(|node| node.copy(from, to, *db));
                    self.transfer(from, to, *db, false);
                }
            }
            Step::Move(key) => {
                let db = 1 - self.db;
                if !self.databases[db as usize].keys.contains_key(key) {
                    self.both(|node| node.move_to(key, db));
                    self.transfer(key, key, db, true);
                }
            }
            Step::Dump(key) => {
                if let Some((header, stored)) = self.node.dump(key.as_bytes()) {
                    let database = &self.databases[self.db as usize];
                    let entry = database.with_invalidations(key, &database.keys[key], self.wall);
                    self.dumps.push((entry, header, stored));
                }
            }
            Step::Restore(nth, key) => {
                let Some(at) = self.dumps.len().checked_sub(1 + nth) else { return };
                let (held, header, stored) = self.dumps[at].clone();
                let answer = self.node.call_words(&[b"STORE", key.as_bytes(), &header, &stored]);
                self.replicate();
                if answer == "OK" {
                    let held = Held { exact: false, counts: false, best: [Freshness::Fresh; 2], ..held };
                    self.databases[self.db as usize].keys.insert(key, held);
                    self.record_touch(key);
                } else {
                    assert_eq!(self.limits, Limits::Tags, "{answer}");
                }
            }
            Step::Flush(all) => {
                self.both(|node| node.flush(*all));
                for (db, database) in self.databases.iter_mut().enumerate() {
                    if *all || db as i32 == self.db {
                        database.keys.clear();
                        database.invalidations.iter_mut().for_each(|one| one.guard = 0); // a flush takes guards back
                    }
                }
                self.distrust_all(if *all { None } else { Some(self.db) });
            }
            Step::Swap => {
                self.both(|node| node.swap(0, 1));
                self.databases.swap(0, 1);
                self.distrust_all(None);
            }
            Step::ReemitMarks => {
                for (db, words) in self.node.marks_as_words() {
                    self.replica.select(db);
                    let words = [&[&b"SMARTCACHE.MARK"[..]], &slices(&words)[..]].concat();
                    assert_eq!(self.replica.obey(&words), "OK");
                }
                self.replica.select(self.db);
            }
            Step::Promote => {
                self.epoch += 1;
                self.replica.promote([self.epoch; 16]);
                self.node = std::mem::replace(&mut self.replica, TestNode::replica_at(self.mono));
                self.freshness_may_improve();
                self.sync();
            }
            Step::Restart(as_aof) => {
                self.epoch += 1;
                let saved = self.node.saved();
                self.node = TestNode::at(self.mono);
                self.node.set_clock(self.wall);
                self.replica = TestNode::replica_at(self.mono);
                self.configure();
                if *as_aof {
                    self.node.load_aof(&saved, [self.epoch; 16]);
                    self.databases
                        .iter_mut()
                        .flat_map(|database| database.keys.values_mut())
                        .for_each(|held| held.counts = false);
                } else {
                    self.node.load_rdb(&saved, [self.epoch; 16]);
                }
                self.sync();
            }
        }
        self.compare();
    }

    // ------------------------------------------------------------------ steps

    fn store(&mut self, key: &'static str, answer: &str, value: Option<String>, life: Life, tags: &[&'static str]) {
        if answer.starts_with("(error) ERR too many tags") && self.limits == Limits::Tags {
            return;
        }
        assert_eq!(answer, "OK");
        let began = self.next_time();
        self.put(key, value, life, tags, began);
    }

    fn put(&mut self, key: &'static str, value: Option<String>, life: Life, tags: &[&'static str], began: u64) {
        let fresh_until = life.fresh.map_or(NEVER, |ms| self.wall + ms);
        let held = Held {
            value,
            began,
            arrived: 0,
            tags: all_tags(key, tags),
            fresh_until,
            window: life.window,
            ended: false,
            dead: false,
            expire_at: fresh_until + life.window,
            exact: true,
            counts: true,
            unannounced: false,
            best: [Freshness::Fresh; 2],
        };
        self.databases[self.db as usize].keys.insert(key, held);
        self.record_touch(key);
    }

    fn load(&mut self, key: Option<(i32, &'static str)>, token: String) -> Load {
        let began = self.next_time();
        // A folded mark guards all keys.
        let guards =
            self.databases.iter().flat_map(|database| &database.invalidations).any(|one| one.guard > self.mono);
        let exact = !(guards && matches!(self.limits, Limits::Names | Limits::Tags));
        Load { key, token, began, mono: self.mono, epoch: self.epoch, filled: false, exact }
    }

    /// Stores the result of a load; false when it is refused with an error.
    fn fill(&mut self, key: &'static str, load: &Load, claim: &str, life: Life, tags: &[&'static str]) -> bool {
        let value = self.value();
        let tagged = all_tags(key, tags);
        let database = &self.databases[self.db as usize];
        let verdict = database.verdict(key, &tagged, load.began, self.wall);
        let guarded = database.invalidations.iter().any(|one| load.mono < one.guard && one.what.means(key, &tagged));
        let last = self.distrusted.get(&(self.db, key)).copied().unwrap_or(0);
        let distrusted = self.distrusted_all[self.db as usize].max(last) > load.began;
        let overtaken = database.keys.get(key).is_some_and(|held| held.began > load.began);
        let good = matches!(verdict, Verdict::Untouched | Verdict::Later(_)) && !guarded && !distrusted && !overtaken;
        // A load in time whose key was not touched must be accepted.
        let untouched = self.touched.get(key).is_none_or(|at| *at < load.began)
            && !self.distrusted.iter().any(|((_, other), at)| *other == key && *at > load.began);
        let in_time = self.mono - load.mono < MINUTE && load.epoch == self.epoch;
        let must = good && load.exact && untouched && in_time;

        let claim = format!(" {claim} {}", load.token);
        let answer = self.call(&format!("SET {key} {value}{}", options(life, tags, &claim)));
        match answer.as_str() {
            "OK" => {
                assert!(load.epoch == self.epoch, "{value}: a load of an earlier epoch");
                assert!(good, "{value}: {verdict:?}, guarded {guarded}, distrusted {distrusted}, late {overtaken}");
                let before = self.databases[self.db as usize].keys.get(key).map(|held| held.began);
                if before == Some(load.began) && !self.node_has(key, &value) {
                    return true; // a retry
                }
                self.put(key, Some(value), life, tags, load.began);
                let held = self.databases[self.db as usize].keys.get_mut(key).unwrap();
                (held.exact, held.counts) = (load.exact, load.exact);
            }
            r#""STALE""# => {
                assert!(!must, "{value} is STALE, but nothing has hit it");
                if self.node_has(key, &value) {
                    self.put(key, Some(value), life, tags, load.began);
                    let (db, wall) = (self.db as usize, self.wall);
                    let held = self.databases[db].keys.get_mut(key).unwrap();
                    (held.ended, held.exact) = (true, false);
                    held.fresh_until = held.fresh_until.min(wall);
                }
            }
            r#""LOST""# => assert!(!must, "{value} is LOST, but nothing was stored later"),
            other => {
                assert!(other.starts_with("(error) ERR too many tags") && self.limits == Limits::Tags, "{other}");
                return false;
            }
        }
        true
    }

    fn touch_entry(&mut self, key: &'static str, ms: Option<u64>) {
        let answer = self.call(&match ms {
            Some(ms) => format!("TOUCH {key} PX {ms}"),
            None => format!("TOUCH {key} PERSIST"),
        });
        let wall = self.wall;
        let database = &mut self.databases[self.db as usize];
        let Some(held) = database.keys.get(key) else { return assert_eq!(answer, "0") };
        let fresh = database.freshness(key, held, wall) == Freshness::Fresh;
        assert!(answer == "0" || fresh, "{key} is touched but not fresh");
        if held.exact {
            assert_eq!(answer == "1", fresh, "TOUCH {key}");
        }
        if answer == "1" {
            let mut end = ms.map_or(NEVER, |ms| wall + ms);
            if let Verdict::Later(at) = database.verdict(key, &held.tags, held.since(), wall) {
                end = end.min(at);
            }
            let held = database.keys.get_mut(key).unwrap();
            (held.fresh_until, held.expire_at) = (end, end + held.window);
        }
    }

    fn invalidate(&mut self, what: &Selector, how: Mode, guard: u64) {
        let wall = self.wall;
        let (least, most) = self.hits(what, how);
        let words = match how {
            Mode::Hard => String::new(),
            Mode::Soft(0) => " SOFT".into(),
            Mode::Soft(over) => format!(" SOFT OVER {over}ms"),
        };
        let guarded = if guard > 0 { format!(" GUARD {guard}ms") } else { String::new() };
        let answer = self.call(&format!("INVALIDATE {}{words}{guarded}", what.words()));
        let hits: usize = answer.parse().unwrap_or_else(|_| panic!("{answer}"));
        assert!((least..=most).contains(&hits), "{hits} entries are hit instead of {least} to {most}");
        let (at, guard) = (self.next_time(), if guard > 0 { self.mono + guard } else { 0 });
        let database = &mut self.databases[self.db as usize];
        database.invalidations.push(Invalidation { at, wall, what: what.clone(), how, guard });
        // More soft marks of one name are folded.
        let many_softs = database.invalidations.iter().filter(|one| one.how != Mode::Hard).count() > 8;
        let folds = self.limits == Limits::Names && matches!(what, Selector::Prefixes(_) | Selector::Patterns(_));
        if matches!(what, Selector::Prefixes(_) | Selector::Patterns(_)) {
            database.keys.values_mut().filter(|held| held.unannounced).for_each(|held| held.exact = false);
        }
        if folds || many_softs {
            database.keys.values_mut().for_each(|held| (held.exact, held.counts) = (false, false));
        }
        if folds || many_softs || self.limits == Limits::Tags {
            self.loads_in_flight_are_inexact();
        }
    }

    /// The minimum and maximum of the reply.
    fn hits(&self, what: &Selector, how: Mode) -> (usize, usize) {
        let database = &self.databases[self.db as usize];
        let (mut least, mut most) = (0, 0);
        let mut count = |held: &Held, perhaps: bool, surely: bool| {
            let exact = held.exact && held.counts;
            least += usize::from(surely && exact);
            most += usize::from(perhaps || !exact);
        };
        for (key, held) in &database.keys {
            let untouched = database.verdict(key, &held.tags, held.since(), self.wall) == Verdict::Untouched;
            let freshness = database.freshness(key, held, self.wall);
            let alive = if how == Mode::Hard { freshness > Freshness::Nothing } else { freshness == Freshness::Fresh };
            match what {
                Selector::Tags(tags) => {
                    let tags: BTreeSet<_> = tags.iter().filter(|tag| held.tags.iter().any(|own| own == *tag)).collect();
                    for tag in tags {
                        let by_tag = |one: &Invalidation| match &one.what {
                            Selector::Tags(named) => named.contains(tag),
                            what => matches!(what, Selector::All),
                        };
                        let hit_before = database.invalidations.iter().any(|one| one.at > held.began && by_tag(one));
                        // If not all members are listed, the reply is the lists' own count. And what a mark by name has
                        // made stale counts like what expired, once the mark is dropped.
                        let unhit = untouched || !database.is_hit_by_tags(held);
                        let perhaps = if self.limits == Limits::Members { !hit_before } else { unhit && alive };
                        count(held, perhaps, untouched && alive);
                    }
                }
                Selector::All => {
                    let surely = untouched && freshness > Freshness::Nothing && self.limits != Limits::Members;
                    count(held, !database.is_hit_by_tags(held), surely);
                }
                Selector::Prefixes(_) | Selector::Patterns(_) => {}
            }
        }
        (least, most)
    }

    /// Moves or copies an entry to another key.
    fn transfer(&mut self, from: &'static str, to: &'static str, db: i32, moves: bool) {
        let source = &mut self.databases[self.db as usize];
        let Some(held) = source.keys.get(from) else { return };
        let entry = source.with_invalidations(from, held, self.wall);
        if moves {
            source.keys.remove(from);
            self.record_touch(from);
        }
        let arrived = self.next_time();
        let target = &mut self.databases[db as usize];
        let exact = entry.exact
            && self.limits != Limits::Names
            && target.verdict(to, &entry.tags, entry.began, self.wall) == Verdict::Untouched
            && !target.names_were_invalidated_since(entry.began);
        let counts = entry.counts && exact && !moves;
        target.keys.insert(to, Held { arrived, exact, counts, unannounced: moves, ..entry });
        self.record_touch(to);
    }

    /// A new replica does a full sync.
    fn sync(&mut self) {
        let saved: Saved = self.node.saved();
        self.replica = TestNode::replica_at(self.mono);
        self.configure();
        self.replica.set_clock(self.wall);
        self.replica.load_rdb(&saved, [self.epoch; 16]);
        self.databases
            .iter_mut()
            .flat_map(|database| database.keys.values_mut())
            .for_each(|held| held.best[1] = held.best[0]);
        self.select(self.db);
    }

    fn assert_all_dead_are_swept(&mut self) {
        let selected = self.db;
        for db in 0..2 {
            self.select(db);
            for key in KEYS {
                let database = &self.databases[db as usize];
                let Some(held) = database.keys.get(key).filter(|held| !held.dead && held.exact) else { continue };
                if database.verdict(key, &held.tags, held.since(), self.wall) == Verdict::Dead {
                    assert!(self.node.written(key.as_bytes()).is_none(), "{key} is dead but not swept");
                }
            }
        }
        self.select(selected);
    }

    // ------------------------------------------------------------------ comparing

    fn compare(&mut self) {
        let selected = self.db;
        for db in 0..2 {
            self.select(db);
            for key in KEYS {
                self.compare_key(db, key);
            }
        }
        self.select(selected);
        for node in [&self.node, &self.replica] {
            node.state.invalidations.validate();
            node.state.tags.validate();
        }
    }

    fn compare_key(&mut self, db: i32, key: &'static str) {
        let line = format!("GET {key} STATE STALE");
        let answer = self.call(&line);
        let of_replica = self.replica.call(&line);
        let wall = self.wall;
        if self.node.written(key.as_bytes()).is_none() {
            assert!(answer.starts_with("[\"MISS\""), "{answer}");
            // It was swept or has expired.
            if let Some(held) = self.databases[db as usize].keys.remove(key) {
                let freshness = self.databases[db as usize].freshness(key, &held, wall);
                let expected = !held.exact || freshness == Freshness::Nothing || held.expire_at <= wall;
                assert!(expected, "{key} is gone, but was {freshness:?}: {held:?}");
                self.record_touch(key);
            }
            assert!(of_replica.starts_with("[\"MISS\""), "the replica still has {of_replica}");
            return;
        }
        let database = &self.databases[db as usize];
        let held = database.keys.get(key).unwrap_or_else(|| panic!("{key} exists, but should not: {answer}"));
        let freshness = database.freshness(key, held, wall);
        let on_replica = database
            .with_invalidations(key, held, wall)
            .own_freshness(wall)
            .min(held.best[1].max(freshness_of(&answer)));
        for (whose, answer, freshness) in [("node", &answer, freshness), ("the replica", &of_replica, on_replica)] {
            let reported = freshness_of(answer);
            assert!(reported <= freshness, "{whose}: {key} is reported as {answer}, but is {freshness:?}: {held:?}");
            assert!(
                !held.exact || reported == freshness,
                "{whose}: {key} is reported as {answer}, but is {freshness:?}: {held:?}"
            );
            if reported > Freshness::Nothing {
                let value = held.value.as_ref().map_or("(nil)".into(), |value| format!("\"{value}\""));
                assert!(answer.contains(&value), "{whose}: {answer} is not {value}");
            }
        }
        if !held.exact {
            self.databases[db as usize].keys.get_mut(key).unwrap().best =
                [freshness_of(&answer), freshness_of(&of_replica)];
        } else if freshness == Freshness::Fresh {
            let end = database.with_invalidations(key, held, wall).fresh_until;
            let left =
                if end >= NEVER { "-1".into() } else { end.min(held.expire_at).saturating_sub(wall).to_string() };
            assert_eq!(answer.rsplit(", ").nth(1), Some(left.as_str()), "{answer}");
        }
    }

    /// Once everything is deleted and time has passed, nothing is left.
    fn end(&mut self) {
        for db in 0..2 {
            self.select(db);
            self.call(&format!("DEL {}", KEYS.join(" ")));
        }
        self.node.sweep();
        self.replicate();
        self.both(|node| node.advance(60 * MINUTE));
        self.node.sweep(); // ramps that have ended
        self.replicate();
        self.node.cron();
        self.replicate();
        self.replica.cron();
        for node in [&mut self.node, &mut self.replica] {
            let totals = node.state.invalidations.totals();
            assert_eq!((totals.prefixes, totals.patterns, totals.postings), (0, 0, 0));
            assert_eq!((node.state.tags.len(), node.state.live.totals()), (0, Default::default()));
            while node.state.invalidations.free_some() {}
        }
        assert_eq!(self.node.stat("sweep_backlog"), "0");
        for db in 0..2 {
            self.select(db);
            assert_eq!(self.call("INVALIDATE ALL"), "0", "the database is empty");
        }
    }

    // ------------------------------------------------------------------ helpers

    fn call(&mut self, line: &str) -> String {
        let answer = self.node.call(line);
        self.replicate();
        answer
    }

    fn replicate(&mut self) {
        for words in std::mem::take(&mut self.node.replicated) {
            let answer = self.replica.obey(&slices(&words));
            assert!(!answer.starts_with("(error)"), "the replica replied {answer}");
        }
    }

    fn both(&mut self, run: impl Fn(&mut TestNode)) {
        run(&mut self.node);
        run(&mut self.replica);
    }

    fn select(&mut self, db: i32) {
        self.db = db;
        self.both(|node| node.select(db));
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}.", self.values)
    }

    fn node_has(&mut self, key: &str, value: &str) -> bool {
        self.node.stored(key).is_some_and(|stored| stored == value.as_bytes())
    }

    fn next_time(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn record_touch(&mut self, key: &'static str) {
        let at = self.next_time();
        self.touched.insert(key, at);
    }

    /// Distrusts all loads of a database, or of both.
    fn distrust_all(&mut self, of: Option<i32>) {
        let at = self.next_time();
        for db in (0..2).filter(|db| of.is_none_or(|of| of == *db)) {
            self.distrusted_all[db as usize] = at;
        }
    }

    /// The wall clock has changed: an entry that a ramp had ended may be fresh again.
    fn freshness_may_improve(&mut self) {
        for database in &mut self.databases {
            for (key, held) in &mut database.keys {
                let ramp = |one: &Invalidation| matches!(one.how, Mode::Soft(over) if over > 0);
                let ramped = database.invalidations.iter().any(|one| ramp(one) && one.what.means(key, &held.tags));
                held.exact &= !ramped;
                held.best = [Freshness::Fresh; 2];
            }
        }
    }

    fn loads_in_flight_are_inexact(&mut self) {
        self.loads.iter_mut().chain(&mut self.stamps).for_each(|load| load.exact = false);
    }
}

fn options(life: Life, tags: &[&str], claim: &str) -> String {
    let lifetime = life.fresh.map_or("PERSIST".into(), |ms| format!("PX {ms}"));
    format!(" {lifetime} SWR {}ms{}{claim}", life.window, tag_options(tags))
}

fn tag_options(tags: &[&str]) -> String {
    if tags.is_empty() { String::new() } else { format!(" TAGS {} {}", tags.len(), tags.join(" ")) }
}

/// The command's tags, and that of the rule.
fn all_tags(key: &str, own: &[&str]) -> Vec<String> {
    let of_rule = key.strip_prefix('a').map(|rest| format!("of:{rest}"));
    own.iter().map(|tag| (*tag).to_owned()).chain(of_rule).collect()
}
