//! Random histories of invalidations: what may be served fresh, what stale, what not at all, and what a fill is answered.
//!
//! Beside ours stands a node that forgets nothing: it keeps every invalidation there ever was, in the order in which they
//! happened, and judges an entry by walking through all of them, by the name under which it stands and by every name under
//! which it stood. It knows no stamps, no records that are merged or forgotten, no lists of members and no sweep. A replica
//! obeys, and may be promoted.
//!
//! What must hold after every step:
//!
//! 1. Nothing that was invalidated after its load began is served fresh; nothing that was so *hard* is served at all; also
//!    after `RENAME`, `COPY`, `MOVE`, `RESTORE`, `SWAPDB`, a restart, a failover, on the replica, and when the clock is set.
//!    What is not served is not served again later.
//! 2. What nothing has hit is served. (Not asked of what came by `RESTORE`, or where limits have folded marks: there more
//!    may be invalidated, never less.)
//! 3. A fill is `OK` only when nothing that concerns it, its own tags included, was invalidated since it began; and it is
//!    when nothing was.
//! 4. `INVALIDATE TAGS` and `ALL` count what they hit.
//! 5. A sweep leaves nothing dead; when all is deleted, every mark, tag and list goes within minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hasher;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use siphasher::sip::SipHasher13;
use smartcache::testing::{Saved, TestNode};

const KEYS: [&str; 5] = ["a1", "a2", "ab", "b1", "c"];
const TAGS: [&str; 5] = ["x", "y", "of:1", "of:b", "nobodys"];
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
    fn what_was_invalidated_stays_so_and_nothing_else_is(history in vec(step(), 1..50).prop_map(History)) {
        run(&history, Limits::None);
    }

    #[test]
    fn where_limits_are_reached_more_is_invalidated_and_never_less(
        history in vec(step(), 1..50).prop_map(History),
        limits in select(vec![Limits::Names, Limits::Members, Limits::Tags]),
    ) {
        run(&history, limits);
    }
}

fn run(history: &History, limits: Limits) {
    let mut world = World::new(limits);
    history.0.iter().for_each(|step| world.take(step));
    world.end();
}

/// What there is little room for.
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
    /// `GETLOCK` with a lease of so long.
    Ask(&'static str, u64),
    /// A fill with the token of one of the last loads.
    Fill(usize, Life, Vec<&'static str>),
    Stamp,
    Since(usize, &'static str, Life, Vec<&'static str>),
    Stale(&'static str),
    Del(&'static str),
    Touch(&'static str, Option<u64>),
    Invalidate(What, How, u64),
    Sweep,
    /// So many places and keys of the walks that are asked for.
    SweepSome(usize),
    /// What the server's cron has us do, here or on the replica.
    Cron,
    CronOfReplica,
    Advance(u64),
    /// The wall clock is set.
    Turn(i64),
    Select(i32),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str, i32),
    Move(&'static str),
    Dump(&'static str),
    Restore(usize, &'static str),
    Flush(bool),
    Swap,
    /// The AOF is rewritten: marks are said once more, also to the replica.
    SayAgain,
    Promote,
    /// From an RDB, or from a rewritten AOF.
    Restart(bool),
}

#[derive(Clone, Debug)]
enum What {
    Tags(Vec<&'static str>),
    Prefixes(Vec<&'static str>),
    Patterns(Vec<&'static str>),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Hard,
    /// Over so many milliseconds.
    Soft(u64),
}

/// How long a value lives, in milliseconds: `None` without end.
#[derive(Clone, Copy, Debug)]
struct Life {
    fresh: Option<u64>,
    window: u64,
}

/// Steps, shown one a line.
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
        4 => vec(select(&TAGS[..]), 1..3).prop_map(What::Tags),
        2 => vec(select(vec!["a", "a1", "ab", "b", "bb"]), 1..3).prop_map(What::Prefixes),
        2 => vec(select(vec!["a*", "*1", "?b", "[bc]*"]), 1..3).prop_map(What::Patterns),
        1 => Just(What::All),
    ];
    let how = prop_oneof![
        3 => Just(How::Hard),
        2 => Just(How::Soft(0)),
        2 => select(vec![10_000, 100_000]).prop_map(How::Soft),
    ];
    let guard = prop_oneof![3 => Just(0), 1 => select(vec![5_000, 90_000])];
    let ms = || prop_oneof![4 => 1..8_000_u64, 2 => Just(20_000), 2 => Just(MINUTE + 1), 1 => Just(2 * MINUTE)];
    let db = || 0..2_i32;
    prop_oneof![
        12 => (key(), life(), tags()).prop_map(|(key, life, tags)| Step::Set(key, life, tags)),
        1 => (key(), tags()).prop_map(|(key, tags)| Step::Absent(key, tags)),
        1 => (vec(key(), 1..3), life(), tags()).prop_map(|(keys, life, tags)| Step::Mset(keys, life, tags)),
        6 => (key(), select(vec![5_000, 200_000])).prop_map(|(key, ms)| Step::Ask(key, ms)),
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
        1 => (-30_000..30_000_i64).prop_map(Step::Turn),
        1 => db().prop_map(Step::Select),
        4 => (key(), key()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (key(), key(), db()).prop_map(|(from, to, db)| Step::Copy(from, to, db)),
        1 => key().prop_map(Step::Move),
        2 => key().prop_map(Step::Dump),
        3 => (0..3_usize, key()).prop_map(|(nth, key)| Step::Restore(nth, key)),
        1 => any::<bool>().prop_map(Step::Flush),
        1 => Just(Step::Swap),
        1 => Just(Step::SayAgain),
        1 => Just(Step::Promote),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// An invalidation, as it happened.
struct Invalidation {
    at: u64,
    wall: u64,
    what: What,
    how: How,
    /// Loads that begin until then are not trusted either, on the monotonic clock.
    guard: u64,
}

/// What stands under a key, whatever it is worth.
#[derive(Clone, Debug)]
struct Held {
    /// `None`: the origin has nothing.
    value: Option<String>,
    /// When its load began, in the order of things.
    began: u64,
    /// When it came to stand where it stands. (Whether what was invalidated under a name reaches what is brought there
    /// later depends on whether that is still remembered; but once it does, it stays so.)
    arrived: u64,
    tags: Vec<String>,
    fresh_until: u64,
    window: u64,
    /// Its freshness was ended, or it was, under a name that it had.
    ended: bool,
    dead: bool,
    /// When the server deletes it.
    expire_at: u64,
    /// What it is worth is known exactly; else it may be worth less.
    exact: bool,
    /// Likewise whether it is counted.
    counts: bool,
    /// It came by `RENAME` or `MOVE`, of which the server tells nothing.
    unannounced: bool,
    /// No more than that, by what was told of it last here and on the replica, which may know more: what came to it in a
    /// full sync did not come unannounced. When its primary says so, it may become as good as there.
    best: [Worth; 2],
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
enum Worth {
    Nothing,
    Stale,
    Fresh,
}

/// The keys of a database, and all that was invalidated in it; databases are exchanged with all of it.
#[derive(Default)]
struct Room {
    keys: BTreeMap<&'static str, Held>,
    invalidations: Vec<Invalidation>,
}

#[derive(Clone)]
struct Load {
    /// `None`: of any.
    key: Option<(i32, &'static str)>,
    token: String,
    began: u64,
    mono: u64,
    life: u8,
    filled: bool,
    /// Nothing has happened since that makes ours distrust more than it must.
    exact: bool,
}

struct World {
    ours: TestNode,
    replica: TestNode,
    limits: Limits,
    db: i32,
    rooms: [Room; 2],
    moment: u64,
    wall: u64,
    mono: u64,
    values: u64,
    /// Changes with each restart and promotion.
    life: u8,
    loads: Vec<Load>,
    stamps: Vec<Load>,
    dumps: Vec<(Held, Vec<u8>, Vec<u8>)>,
    /// When something was last stored under a name, or left it, in any database.
    touched: BTreeMap<&'static str, u64>,
    /// When loads of a key were last distrusted, or all of a database.
    distrusted: BTreeMap<(i32, &'static str), u64>,
    distrusted_all: [u64; 2],
}

impl What {
    fn means(&self, key: &str, tags: &[String]) -> bool {
        match self {
            What::All => true,
            What::Tags(named) => named.iter().any(|name| tags.iter().any(|tag| tag == name)),
            What::Prefixes(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
            What::Patterns(patterns) => patterns.iter().any(|pattern| match *pattern {
                "a*" => key.starts_with('a'),
                "*1" => key.ends_with('1'),
                "?b" => key.len() == 2 && key.ends_with('b'),
                "[bc]*" => key.starts_with(['b', 'c']),
                other => unreachable!("{other}"),
            }),
        }
    }

    fn words(&self) -> String {
        let say = |word: &str, names: &[&str]| format!("{word} {} {}", names.len(), names.join(" "));
        match self {
            What::All => "ALL".into(),
            What::Tags(names) => say("TAGS", names),
            What::Prefixes(names) => say("PREFIXES", names),
            What::Patterns(names) => say("PATTERNS", names),
        }
    }
}

impl Room {
    /// What all invalidations since then make of something under this name.
    fn verdict(&self, key: &str, tags: &[String], since: u64, wall: u64) -> Verdict {
        let (mut dead, mut stale, mut later) = (false, None, None);
        let earlier = |moment: &mut Option<u64>, at: u64| *moment = Some(moment.map_or(at, |moment| moment.min(at)));
        for one in self.invalidations.iter().filter(|one| one.at > since && one.what.means(key, tags)) {
            match one.how {
                How::Hard => dead = true,
                How::Soft(0) => earlier(&mut stale, one.wall),
                How::Soft(over) => match one.wall + ramp_offset(key) % over {
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

    fn worth(&self, key: &str, held: &Held, wall: u64) -> Worth {
        self.told(key, held, wall).worth_by_itself(wall).min(held.best[0])
    }

    /// The same entry, with what this room makes of it written into it.
    fn told(&self, key: &str, held: &Held, wall: u64) -> Held {
        let mut told = held.clone();
        match self.verdict(key, &held.tags, held.since(), wall) {
            Verdict::Untouched => {}
            Verdict::Later(at) => told.fresh_until = told.fresh_until.min(at),
            Verdict::Stale(since) => (told.fresh_until, told.ended) = (told.fresh_until.min(since), true),
            Verdict::Dead => told.dead = true,
        }
        told
    }

    /// Which may be forgotten, and then ends what has come without being announced, whatever its name is.
    fn names_were_invalidated_since(&self, moment: u64) -> bool {
        let by_name = |one: &&Invalidation| matches!(one.what, What::Prefixes(_) | What::Patterns(_));
        self.invalidations.iter().filter(by_name).any(|one| one.at > moment)
    }

    /// Whether ours has it among those that a tag or `ALL` has hit.
    fn is_hit_by_tags(&self, held: &Held) -> bool {
        let by_tags = |one: &&Invalidation| matches!(one.what, What::Tags(_) | What::All);
        self.invalidations.iter().filter(by_tags).any(|one| one.at > held.began && one.what.means("", &held.tags))
    }
}

impl Held {
    fn since(&self) -> u64 {
        self.began.max(self.arrived)
    }

    fn worth_by_itself(&self, wall: u64) -> Worth {
        match () {
            () if self.dead => Worth::Nothing,
            () if !self.ended && wall < self.fresh_until => Worth::Fresh,
            () if self.value.is_some() && self.window > 0 && wall < self.fresh_until + self.window => Worth::Stale,
            () => Worth::Nothing,
        }
    }
}

/// Where in an `OVER` the moment of a key is: the same on every node, and in every version.
fn ramp_offset(key: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// What an answer of `GET … STATE STALE` says it is worth.
fn worth_of(answer: &str) -> Worth {
    match answer.split(',').next() {
        Some("[HIT" | "[ABSENT") => Worth::Fresh,
        Some("[STALE") => Worth::Stale,
        _ => Worth::Nothing,
    }
}

fn slices(words: &[Vec<u8>]) -> Vec<&[u8]> {
    words.iter().map(Vec::as_slice).collect()
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut world = World {
            ours: TestNode::at(START),
            replica: TestNode::replica_at(START),
            limits,
            db: 0,
            rooms: Default::default(),
            moment: 0,
            wall: START,
            mono: START,
            values: 0,
            life: 1,
            loads: Vec::new(),
            stamps: Vec::new(),
            dumps: Vec::new(),
            touched: BTreeMap::new(),
            distrusted: BTreeMap::new(),
            distrusted_all: [0; 2],
        };
        world.configure();
        world
    }

    fn configure(&mut self) {
        for node in [&mut self.ours, &mut self.replica] {
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
        self.say("RULE SET r MATCH a* TAG of:{1}");
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Set(key, life, tags) => {
                let value = self.value();
                let answer = self.say(&format!("SET {key} {value}{}", said(*life, tags, "")));
                self.store(key, &answer, Some(value), *life, tags);
            }
            Step::Absent(key, tags) => {
                let life = Life { fresh: Some(1_000_000), window: 0 };
                let answer = self.say(&format!("ABSENT {key} PX 1000000{}", words_of(tags)));
                self.store(key, &answer, None, life, tags);
            }
            Step::Mset(keys, life, tags) => {
                let values: Vec<_> = keys.iter().map(|key| (*key, self.value())).collect();
                let pairs: Vec<_> = values.iter().map(|(key, value)| format!("{key} {value}")).collect();
                let answer = self.say(&format!("MSET {} {}{}", pairs.len(), pairs.join(" "), said(*life, tags, "")));
                for (key, value) in values {
                    // With too many tags the first may have been stored.
                    if !answer.starts_with("(error)") || self.ours_has(key, &value) {
                        self.store(key, "OK", Some(value), *life, tags);
                    }
                }
            }
            Step::Ask(key, lock) => {
                let answer = self.say(&format!("GETLOCK {key} LOCK {lock}ms"));
                let token =
                    answer.rsplit(", ").nth(2).filter(|word| word.len() == smartcache::cache::lease::token::LEN);
                if let Some(token) = token {
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
                let token = self.say("STAMP").trim_matches('"').to_owned();
                let load = self.load(None, token);
                self.stamps.push(load);
            }
            Step::Since(nth, key, life, tags) => {
                let Some(at) = self.stamps.len().checked_sub(1 + nth) else { return };
                let load = self.stamps[at].clone();
                self.fill(key, &load, "SINCE", *life, tags);
            }
            Step::Stale(key) => {
                self.say(&format!("STALE {key}"));
                let (wall, at) = (self.wall, self.next_moment());
                self.distrusted.insert((self.db, key), at);
                let room = &mut self.rooms[self.db as usize];
                if let Some(held) = room.keys.get(key)
                    && room.worth(key, held, wall) == Worth::Fresh
                {
                    let held = room.keys.get_mut(key).unwrap();
                    (held.fresh_until, held.ended) = (held.fresh_until.min(wall), true);
                }
            }
            Step::Del(key) => {
                self.say(&format!("DEL {key}"));
                let at = self.next_moment();
                self.distrusted.insert((self.db, key), at);
                self.rooms[self.db as usize].keys.remove(key);
                self.touch(key);
            }
            Step::Touch(key, ms) => self.start_anew(key, *ms),
            Step::Invalidate(what, how, guard) => self.invalidate(what, *how, *guard),
            Step::Sweep => {
                self.ours.sweep();
                self.obey();
                assert_eq!(self.ours.stat("sweep_backlog"), "0");
                self.nothing_dead_is_left();
            }
            Step::SweepSome(most) => {
                self.ours.sweep_some(*most);
                self.obey();
            }
            Step::Cron => {
                self.ours.cron();
                self.obey();
            }
            Step::CronOfReplica => self.replica.cron(),
            Step::Advance(ms) => {
                self.wall += ms;
                self.mono += ms;
                self.both(|node| node.advance(*ms));
            }
            Step::Turn(by) => {
                let wall = self.wall.saturating_add_signed(*by);
                self.wall = wall;
                self.both(|node| node.set_clock(wall));
                self.anything_may_be_better();
                self.nothing_in_flight_is_exact();
            }
            Step::Select(db) => self.select(*db),
            Step::Rename(from, to) => {
                if from != to {
                    self.both(|node| node.rename(from, to));
                    self.bring(from, to, self.db, true);
                }
            }
            Step::Copy(from, to, db) => {
                if (from, self.db) != (to, *db) {
                    self.both(|node| node.copy(from, to, *db));
                    self.bring(from, to, *db, false);
                }
            }
            Step::Move(key) => {
                let db = 1 - self.db;
                if !self.rooms[db as usize].keys.contains_key(key) {
                    self.both(|node| node.move_to(key, db));
                    self.bring(key, key, db, true);
                }
            }
            Step::Dump(key) => {
                if let Some((header, stored)) = self.ours.dump(key.as_bytes()) {
                    let room = &self.rooms[self.db as usize];
                    let told = room.told(key, &room.keys[key], self.wall);
                    self.dumps.push((told, header, stored));
                }
            }
            Step::Restore(nth, key) => {
                let Some(at) = self.dumps.len().checked_sub(1 + nth) else { return };
                let (held, header, stored) = self.dumps[at].clone();
                let answer = self.ours.call_words(&[b"STORE", key.as_bytes(), &header, &stored]);
                self.obey();
                if answer == "OK" {
                    let held = Held { exact: false, counts: false, best: [Worth::Fresh; 2], ..held };
                    self.rooms[self.db as usize].keys.insert(key, held);
                    self.touch(key);
                } else {
                    assert_eq!(self.limits, Limits::Tags, "{answer}");
                }
            }
            Step::Flush(all) => {
                self.both(|node| node.flush(*all));
                for (db, room) in self.rooms.iter_mut().enumerate() {
                    if *all || db as i32 == self.db {
                        room.keys.clear();
                    }
                }
                self.distrust_all(if *all { None } else { Some(self.db) });
            }
            Step::Swap => {
                self.both(|node| node.swap(0, 1));
                self.rooms.swap(0, 1);
                self.distrust_all(None);
            }
            Step::SayAgain => {
                for (db, words) in self.ours.marks_as_words() {
                    self.replica.select(db);
                    let words = [&[&b"SMARTCACHE.MARK"[..]], &slices(&words)[..]].concat();
                    assert_eq!(self.replica.obey(&words), "OK");
                }
                self.replica.select(self.db);
            }
            Step::Promote => {
                self.life += 1;
                self.replica.promote([self.life; 16]);
                self.ours = std::mem::replace(&mut self.replica, TestNode::replica_at(self.mono));
                self.anything_may_be_better();
                self.sync();
            }
            Step::Restart(as_aof) => {
                self.life += 1;
                let saved = self.ours.saved();
                self.ours = TestNode::at(self.mono);
                self.ours.set_clock(self.wall);
                self.replica = TestNode::replica_at(self.mono);
                self.configure();
                if *as_aof {
                    self.ours.load_aof(&saved, [self.life; 16]);
                    self.rooms.iter_mut().flat_map(|room| room.keys.values_mut()).for_each(|held| held.counts = false);
                } else {
                    self.ours.load_rdb(&saved, [self.life; 16]);
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
        let began = self.next_moment();
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
            best: [Worth::Fresh; 2],
        };
        self.rooms[self.db as usize].keys.insert(key, held);
        self.touch(key);
    }

    fn load(&mut self, key: Option<(i32, &'static str)>, token: String) -> Load {
        let began = self.next_moment();
        // What is folded guards all keys.
        let guards = self.rooms.iter().flat_map(|room| &room.invalidations).any(|one| one.guard > self.mono);
        let exact = !(guards && matches!(self.limits, Limits::Names | Limits::Tags));
        Load { key, token, began, mono: self.mono, life: self.life, filled: false, exact }
    }

    /// A load comes home; false when it was refused with an error.
    fn fill(&mut self, key: &'static str, load: &Load, claim: &str, life: Life, tags: &[&'static str]) -> bool {
        let value = self.value();
        let tagged = all_tags(key, tags);
        let room = &self.rooms[self.db as usize];
        let verdict = room.verdict(key, &tagged, load.began, self.wall);
        let guarded = room.invalidations.iter().any(|one| load.mono < one.guard && one.what.means(key, &tagged));
        let last = self.distrusted.get(&(self.db, key)).copied().unwrap_or(0);
        let distrusted = self.distrusted_all[self.db as usize].max(last) > load.began;
        let overtaken = room.keys.get(key).is_some_and(|held| held.began > load.began);
        let good = matches!(verdict, Verdict::Untouched | Verdict::Later(_)) && !guarded && !distrusted && !overtaken;
        // What nothing at all has happened to, and in time, is to be accepted.
        let untouched = self.touched.get(key).is_none_or(|at| *at < load.began)
            && !self.distrusted.iter().any(|((_, other), at)| *other == key && *at > load.began);
        let in_time = self.mono - load.mono < MINUTE && load.life == self.life;
        let must = good && load.exact && untouched && in_time;

        let claim = format!(" {claim} {}", load.token);
        let answer = self.say(&format!("SET {key} {value}{}", said(life, tags, &claim)));
        match answer.as_str() {
            "OK" => {
                assert!(load.life == self.life, "{value}: a load of a former life");
                assert!(good, "{value}: {verdict:?}, guarded {guarded}, distrusted {distrusted}, late {overtaken}");
                let before = self.rooms[self.db as usize].keys.get(key).map(|held| held.began);
                if before == Some(load.began) && !self.ours_has(key, &value) {
                    return true; // sent again
                }
                self.put(key, Some(value), life, tags, load.began);
                let held = self.rooms[self.db as usize].keys.get_mut(key).unwrap();
                (held.exact, held.counts) = (load.exact, load.exact);
            }
            "STALE" => {
                assert!(!must, "{value} is STALE, and nothing has hit it");
                if self.ours_has(key, &value) {
                    self.put(key, Some(value), life, tags, load.began);
                    let (db, wall) = (self.db as usize, self.wall);
                    let held = self.rooms[db].keys.get_mut(key).unwrap();
                    (held.ended, held.exact) = (true, false);
                    held.fresh_until = held.fresh_until.min(wall);
                }
            }
            "LOST" => assert!(!must, "{value} is LOST, and nothing was stored later"),
            other => {
                assert!(other.starts_with("(error) ERR too many tags") && self.limits == Limits::Tags, "{other}");
                return false;
            }
        }
        true
    }

    fn start_anew(&mut self, key: &'static str, ms: Option<u64>) {
        let answer = self.say(&match ms {
            Some(ms) => format!("TOUCH {key} PX {ms}"),
            None => format!("TOUCH {key} PERSIST"),
        });
        let wall = self.wall;
        let room = &mut self.rooms[self.db as usize];
        let Some(held) = room.keys.get(key) else { return assert_eq!(answer, "0") };
        let fresh = room.worth(key, held, wall) == Worth::Fresh;
        assert!(answer == "0" || fresh, "{key} is touched though it is not fresh");
        if held.exact {
            assert_eq!(answer == "1", fresh, "TOUCH {key}");
        }
        if answer == "1" {
            let mut end = ms.map_or(NEVER, |ms| wall + ms);
            if let Verdict::Later(at) = room.verdict(key, &held.tags, held.since(), wall) {
                end = end.min(at);
            }
            let held = room.keys.get_mut(key).unwrap();
            (held.fresh_until, held.expire_at) = (end, end + held.window);
        }
    }

    fn invalidate(&mut self, what: &What, how: How, guard: u64) {
        let wall = self.wall;
        let (least, most) = self.hits(what, how);
        let words = match how {
            How::Hard => String::new(),
            How::Soft(0) => " SOFT".into(),
            How::Soft(over) => format!(" SOFT OVER {over}ms"),
        };
        let guarded = if guard > 0 { format!(" GUARD {guard}ms") } else { String::new() };
        let answer = self.say(&format!("INVALIDATE {}{words}{guarded}", what.words()));
        let hits: usize = answer.parse().unwrap_or_else(|_| panic!("{answer}"));
        assert!((least..=most).contains(&hits), "{hits} are hit, and not {least} to {most}");
        let (at, guard) = (self.next_moment(), if guard > 0 { self.mono + guard } else { 0 });
        let room = &mut self.rooms[self.db as usize];
        room.invalidations.push(Invalidation { at, wall, what: what.clone(), how, guard });
        // Of one name so many soft ones are kept, then some are made one.
        let many_softs = room.invalidations.iter().filter(|one| one.how != How::Hard).count() > 8;
        let folds = self.limits == Limits::Names && matches!(what, What::Prefixes(_) | What::Patterns(_));
        if matches!(what, What::Prefixes(_) | What::Patterns(_)) {
            room.keys.values_mut().filter(|held| held.unannounced).for_each(|held| held.exact = false);
        }
        if folds || many_softs {
            room.keys.values_mut().for_each(|held| (held.exact, held.counts) = (false, false));
        }
        if folds || many_softs || self.limits == Limits::Tags {
            self.nothing_in_flight_is_exact();
        }
    }

    /// What is to be answered: from so many to so many.
    fn hits(&self, what: &What, how: How) -> (usize, usize) {
        let room = &self.rooms[self.db as usize];
        let (mut least, mut most) = (0, 0);
        let mut count = |held: &Held, perhaps: bool, surely: bool| {
            let exact = held.exact && held.counts;
            least += usize::from(surely && exact);
            most += usize::from(perhaps || !exact);
        };
        for (key, held) in &room.keys {
            let untouched = room.verdict(key, &held.tags, held.since(), self.wall) == Verdict::Untouched;
            let worth = room.worth(key, held, self.wall);
            let alive = if how == How::Hard { worth > Worth::Nothing } else { worth == Worth::Fresh };
            match what {
                What::Tags(tags) => {
                    let tags: BTreeSet<_> = tags.iter().filter(|tag| held.tags.iter().any(|own| own == *tag)).collect();
                    for tag in tags {
                        let by_tag = |one: &Invalidation| match &one.what {
                            What::Tags(named) => named.contains(tag),
                            what => matches!(what, What::All),
                        };
                        let hit_before = room.invalidations.iter().any(|one| one.at > held.began && by_tag(one));
                        // Where not all are listed, the lists' own counts are answered. And what names have made stale
                        // counts like what is stale by itself once these are forgotten.
                        let unhit = untouched || !room.is_hit_by_tags(held);
                        let perhaps = if self.limits == Limits::Members { !hit_before } else { unhit && alive };
                        count(held, perhaps, untouched && alive);
                    }
                }
                What::All => {
                    let surely = untouched && worth > Worth::Nothing && self.limits != Limits::Members;
                    count(held, !room.is_hit_by_tags(held), surely);
                }
                What::Prefixes(_) | What::Patterns(_) => {}
            }
        }
        (least, most)
    }

    /// What stood there stands here now (also).
    fn bring(&mut self, from: &'static str, to: &'static str, db: i32, leaves: bool) {
        let here = &mut self.rooms[self.db as usize];
        let Some(held) = here.keys.get(from) else { return };
        let told = here.told(from, held, self.wall);
        if leaves {
            here.keys.remove(from);
            self.touch(from);
        }
        let arrived = self.next_moment();
        let there = &mut self.rooms[db as usize];
        let exact = told.exact
            && self.limits != Limits::Names
            && there.verdict(to, &told.tags, told.began, self.wall) == Verdict::Untouched
            && !there.names_were_invalidated_since(told.began);
        let counts = told.counts && exact && !leaves;
        there.keys.insert(to, Held { arrived, exact, counts, unannounced: leaves, ..told });
        self.touch(to);
    }

    /// A new replica takes all over.
    fn sync(&mut self) {
        let saved: Saved = self.ours.saved();
        self.replica = TestNode::replica_at(self.mono);
        self.configure();
        self.replica.set_clock(self.wall);
        self.replica.load_rdb(&saved, [self.life; 16]);
        self.rooms.iter_mut().flat_map(|room| room.keys.values_mut()).for_each(|held| held.best[1] = held.best[0]);
        self.select(self.db);
    }

    fn nothing_dead_is_left(&mut self) {
        let selected = self.db;
        for db in 0..2 {
            self.select(db);
            for key in KEYS {
                let room = &self.rooms[db as usize];
                let Some(held) = room.keys.get(key).filter(|held| !held.dead && held.exact) else { continue };
                if room.verdict(key, &held.tags, held.since(), self.wall) == Verdict::Dead {
                    assert!(self.ours.written(key.as_bytes()).is_none(), "{key} is dead and was not swept");
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
        for node in [&self.ours, &self.replica] {
            node.state.invalidations.validate();
            node.state.tags.validate();
        }
    }

    fn compare_key(&mut self, db: i32, key: &'static str) {
        let line = format!("GET {key} STATE STALE");
        let answer = self.say(&line);
        let there = self.replica.call(&line);
        let wall = self.wall;
        if self.ours.written(key.as_bytes()).is_none() {
            assert!(answer.starts_with("[MISS"), "{answer}");
            // It was swept, or it has expired.
            if let Some(held) = self.rooms[db as usize].keys.remove(key) {
                let worth = self.rooms[db as usize].worth(key, &held, wall);
                let expected = !held.exact || worth == Worth::Nothing || held.expire_at <= wall;
                assert!(expected, "{key} is gone, and was {worth:?}: {held:?}");
                self.touch(key);
            }
            assert!(there.starts_with("[MISS"), "the replica still has {there}");
            return;
        }
        let room = &self.rooms[db as usize];
        let held = room.keys.get(key).unwrap_or_else(|| panic!("{key} is there, and should not be: {answer}"));
        let worth = room.worth(key, held, wall);
        let on_replica = room.told(key, held, wall).worth_by_itself(wall).min(held.best[1].max(worth_of(&answer)));
        for (whose, answer, worth) in [("ours", &answer, worth), ("the replica", &there, on_replica)] {
            let told = worth_of(answer);
            assert!(told <= worth, "{whose}: {key} is told as {answer}, and is {worth:?}: {held:?}");
            assert!(!held.exact || told == worth, "{whose}: {key} is told as {answer}, and is {worth:?}: {held:?}");
            if told > Worth::Nothing {
                let value = held.value.as_ref().map_or("(nil)".into(), |value| format!("\"{value}\""));
                assert!(answer.contains(&value), "{whose}: {answer} is not {value}");
            }
        }
        if !held.exact {
            self.rooms[db as usize].keys.get_mut(key).unwrap().best = [worth_of(&answer), worth_of(&there)];
        } else if worth == Worth::Fresh {
            let end = room.told(key, held, wall).fresh_until;
            let left =
                if end >= NEVER { "-1".into() } else { end.min(held.expire_at).saturating_sub(wall).to_string() };
            assert_eq!(answer.rsplit(", ").nth(1), Some(left.as_str()), "{answer}");
        }
    }

    /// Everything is deleted, and time passes: nothing is left of it.
    fn end(&mut self) {
        for db in 0..2 {
            self.select(db);
            self.say(&format!("DEL {}", KEYS.join(" ")));
        }
        self.ours.sweep();
        self.obey();
        self.both(|node| node.advance(60 * MINUTE));
        self.ours.sweep(); // what was due later
        self.obey();
        self.ours.cron();
        self.obey();
        self.replica.cron();
        for node in [&mut self.ours, &mut self.replica] {
            let totals = node.state.invalidations.totals();
            assert_eq!((totals.prefixes, totals.patterns, totals.members), (0, 0, 0));
            assert_eq!((node.state.tags.len(), node.state.live.totals()), (0, Default::default()));
            while node.state.invalidations.free_some() {}
        }
        assert_eq!(self.ours.stat("sweep_backlog"), "0");
        for db in 0..2 {
            self.select(db);
            assert_eq!(self.say("INVALIDATE ALL"), "0", "nothing is there");
        }
    }

    // ------------------------------------------------------------------ small things

    fn say(&mut self, line: &str) -> String {
        let answer = self.ours.call(line);
        self.obey();
        answer
    }

    fn obey(&mut self) {
        for words in std::mem::take(&mut self.ours.replicated) {
            let answer = self.replica.obey(&slices(&words));
            assert!(!answer.starts_with("(error)"), "the replica says {answer}");
        }
    }

    fn both(&mut self, run: impl Fn(&mut TestNode)) {
        run(&mut self.ours);
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

    fn ours_has(&mut self, key: &str, value: &str) -> bool {
        self.ours.stored(key).is_some_and(|stored| stored == value.as_bytes())
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn touch(&mut self, key: &'static str) {
        let at = self.next_moment();
        self.touched.insert(key, at);
    }

    /// All loads of a database, or of both.
    fn distrust_all(&mut self, of: Option<i32>) {
        let at = self.next_moment();
        for db in (0..2).filter(|db| of.is_none_or(|of| of == *db)) {
            self.distrusted_all[db as usize] = at;
        }
    }

    /// Another clock tells the time: what has ended over a ramp may have ended for good, or be fresh again.
    fn anything_may_be_better(&mut self) {
        for room in &mut self.rooms {
            for (key, held) in &mut room.keys {
                let ramp = |one: &Invalidation| matches!(one.how, How::Soft(over) if over > 0);
                let ramped = room.invalidations.iter().any(|one| ramp(one) && one.what.means(key, &held.tags));
                held.exact &= !ramped;
                held.best = [Worth::Fresh; 2];
            }
        }
    }

    fn nothing_in_flight_is_exact(&mut self) {
        self.loads.iter_mut().chain(&mut self.stamps).for_each(|load| load.exact = false);
    }
}

fn said(life: Life, tags: &[&str], claim: &str) -> String {
    let lifetime = life.fresh.map_or("PERSIST".into(), |ms| format!("PX {ms}"));
    format!(" {lifetime} SWR {}ms{}{claim}", life.window, words_of(tags))
}

fn words_of(tags: &[&str]) -> String {
    if tags.is_empty() { String::new() } else { format!(" TAGS {} {}", tags.len(), tags.join(" ")) }
}

/// Its own, and that of its rule.
fn all_tags(key: &str, own: &[&str]) -> Vec<String> {
    let of_rule = key.strip_prefix('a').map(|rest| format!("of:{rest}"));
    own.iter().map(|tag| (*tag).to_owned()).chain(of_rule).collect()
}
