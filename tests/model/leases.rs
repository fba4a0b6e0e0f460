//! Random histories of leases: who is told to load, who waits, and what their loads are worth when they come home.
//!
//! Beside ours stands a node that is obviously right because it forgets nothing: it keeps every load ever begun, every
//! write and every invalidation of each key in the order in which they happened, and judges by walking through all of
//! them. There are no stamps in it, no hashed tables, no tokens that prove themselves.
//!
//! What must hold after every step, beside every answer being the one it expects:
//!
//! 1. One live lease a key: none is granted where one is out.
//! 2. A waiter is answered exactly once; and nobody waits where nobody loads.
//! 3. What is served is the latest that was ever stored under the key: no load replaces one that began later.
//! 4. Nothing whose load began before an invalidation is fresh after it, and nothing dead is served at all.
//! 5. Each lease has ended in one way or is out, each wait has ended in one way, each request was counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use smartcache::cache::Key;
use smartcache::cache::lease::native_commands::Sender;
use smartcache::testing::TestNode;

/// The first two share a rule that allows them one lease together (in some histories).
const KEYS: [&str; 3] = ["a1", "a2", "b"];
const START: u64 = 1_000_000_000;
/// Whoever never waits.
const OPERATOR: u64 = 99;
/// Milliseconds of a moment that is past.
const PAST: u64 = 0;

fn config() -> ProptestConfig {
    let config = super::config();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 4_000 };
    ProptestConfig { cases, max_shrink_iters: 20_000, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_loads_and_no_late_write_looks_fresh(fills: bool, guard: bool, history in history()) {
        let mut world = World::new(fills);
        if guard {
            world.take(&Step::Config("guard", "2"));
        }
        history.0.iter().for_each(|step| world.take(step));
        world.end();
    }
}

#[derive(Clone, Debug)]
enum Step {
    LeaseRequest(LeaseRequest),
    /// The fill of one of the last loads; `false`: memory has run out.
    Fill(usize, Life, bool),
    Stamp,
    /// A fill with one of the last stamps.
    Since(usize, &'static str, Life),
    Unlock(usize, Option<u64>),
    Extend(usize, u64),
    Set(&'static str, Life),
    Del(&'static str),
    Stale(&'static str),
    /// The server's own `SET`, with a `PX` or without.
    NativeSet(&'static str, Option<u64>),
    NativeDel(&'static str),
    Evict(&'static str),
    Advance(u64),
    /// The wall clock is set.
    Turn(i64),
    Disconnect(u64),
    Flush,
    ChangeOfRole,
    Config(&'static str, &'static str),
}

/// A `GETLOCK`.
#[derive(Clone, Debug)]
struct LeaseRequest {
    client: u64,
    key: &'static str,
    lock: u64,
    wait: u64,
    owner: Option<&'static str>,
    /// Picked for early refresh wherever that may be.
    eager: bool,
}

/// How long a value lives, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Life {
    absent: bool,
    fresh: u64,
    swr: u64,
    sie: u64,
}

impl Life {
    /// How long it may be served stale.
    fn window(self) -> u64 {
        if self.absent { 0 } else { self.swr.max(self.sie) }
    }
}

/// Steps, shown one a line.
struct History(Vec<Step>);

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "\n  {step:?}"))
    }
}

fn history() -> impl Strategy<Value = History> {
    vec(step(), 1..50).prop_map(History)
}

fn step() -> impl Strategy<Value = Step> {
    let ms = || prop_oneof![1..6_000_u64, select(vec![1_000, 2_000, 3_000])];
    let life = || {
        let fresh = prop_oneof![1 => Just(PAST), 9 => ms()];
        let window = || select(vec![0, 0, 1_000, 4_000]);
        (prop::bool::weighted(0.1), fresh, window(), window()).prop_map(|(absent, fresh, swr, sie)| Life {
            absent,
            fresh,
            swr,
            sie,
        })
    };
    let wait = prop_oneof![2 => Just(0), 3 => ms()];
    let owner = option::weighted(0.2, select(vec!["x", "y"]));
    let request =
        (1..6_u64, key(), ms(), wait, owner, any::<bool>()).prop_map(|(client, key, lock, wait, owner, eager)| {
            Step::LeaseRequest(LeaseRequest { client, key, lock, wait, owner, eager })
        });
    let nth = || 0..5_usize;
    let config = select(vec![
        ("guard", "0"),
        ("guard", "2"),
        ("max-leases", "1"),
        ("max-leases", "9"),
        ("max-waiters", "2"),
        ("max-waiters", "9"),
    ]);
    prop_oneof![
        14 => request,
        9 => (nth(), life(), prop::bool::weighted(0.9)).prop_map(|(n, life, room)| Step::Fill(n, life, room)),
        1 => Just(Step::Stamp),
        2 => (nth(), key(), life()).prop_map(|(n, key, life)| Step::Since(n, key, life)),
        4 => (nth(), option::of(ms())).prop_map(|(n, backoff)| Step::Unlock(n, backoff)),
        1 => (nth(), ms()).prop_map(|(n, ms)| Step::Extend(n, ms)),
        2 => (key(), life()).prop_map(|(key, life)| Step::Set(key, life)),
        2 => key().prop_map(Step::Del),
        3 => key().prop_map(Step::Stale),
        1 => (key(), option::of(ms())).prop_map(|(key, px)| Step::NativeSet(key, px)),
        1 => key().prop_map(Step::NativeDel),
        1 => key().prop_map(Step::Evict),
        8 => ms().prop_map(Step::Advance),
        1 => (-5_000..5_000_i64).prop_map(Step::Turn),
        1 => (1..6_u64).prop_map(Step::Disconnect),
        1 => Just(Step::Flush),
        1 => Just(Step::ChangeOfRole),
        1 => config.prop_map(|(name, value)| Step::Config(name, value)),
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    select(&KEYS[..])
}

/// A load that was ever begun, under a lease or with a stamp.
#[derive(Clone)]
struct Load {
    key: &'static str,
    token: String,
    /// When, in the order of things, and by the clock.
    began: u64,
    mono: u64,
    /// The change of role before it.
    role: u8,
    answered: Option<&'static str>,
}

/// What was ever stored, by its text.
struct Value {
    key: &'static str,
    began: u64,
    /// When its load began by the clock; `None` for what was written through, and trusted.
    loaded: Option<u64>,
}

/// What ends the trust in loads begun before.
struct Mark {
    at: u64,
    /// Loads begun until then are not trusted either.
    guard: u64,
    wall: u64,
    /// What was stale by itself then, and what the mark did not reach.
    spared: Option<String>,
}

struct Lease {
    load: usize,
    until: u64,
    nth: u64,
    client: u64,
    owner: Option<&'static str>,
}

struct Waiter {
    request: LeaseRequest,
    until: u64,
    nth: u64,
}

#[derive(Clone)]
enum Held {
    Nothing,
    /// The server's own, until then.
    Text(Option<u64>),
    Entry(Entry),
}

#[derive(Clone)]
struct Entry {
    /// `None`: the origin has nothing.
    value: Option<String>,
    fresh_until: u64,
    ended: bool,
    life: Life,
    /// How long its load took, when it came home under its lease; and when it was stored.
    load_ms: Option<u64>,
    stored: u64,
    /// When the server deletes it: `STALE` does not change that.
    expire_at: u64,
}

#[derive(PartialEq)]
enum State {
    Fresh,
    Swr,
    Sie,
    Dead,
}

impl Entry {
    fn state(&self, now: u64) -> State {
        let window = self.life.window();
        match now {
            _ if !self.ended && now < self.fresh_until => State::Fresh,
            _ if window == 0 || now >= self.fresh_until + window => State::Dead,
            _ if now < self.fresh_until + self.life.swr => State::Swr,
            _ => State::Sie,
        }
    }
}

/// A key, what is going on around it, and everything that ever happened to it.
struct Spot {
    held: Held,
    lease: Option<Lease>,
    backoff: Option<(u64, u64)>,
    queue: Vec<Waiter>,
    /// When what was ever stored under it began to be loaded, or was written.
    written: Vec<u64>,
    deleted: Vec<Mark>,
    staled: Vec<Mark>,
    ever_leased: bool,
}

/// What a caller is to be told.
#[derive(Debug)]
struct Expected {
    state: &'static str,
    value: Option<String>,
    /// The number of the load.
    token: Option<usize>,
    fresh_ms: i64,
    /// `None`: when to ask again.
    lease_ms: Option<u64>,
}

enum Decision {
    Now(Expected),
    Wait,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Good,
    /// A stale copy, since then.
    Stale(u64),
    Dead,
    Lost,
}

struct World {
    ours: TestNode,
    wall: u64,
    mono: u64,
    wall_was_set: bool,
    /// The order of things.
    moment: u64,
    nth: u64,
    role: u8,
    role_since: u64,
    spots: BTreeMap<&'static str, Spot>,
    loads: Vec<Load>,
    stamps: Vec<Load>,
    values: BTreeMap<String, Value>,
    flushed: Vec<u64>,
    late: BTreeMap<u64, Expected>,
    count: BTreeMap<&'static str, u64>,
    requests: u64,
    one_lease_for_a: bool,
    guard: u64,
    max_leases: usize,
    max_waiters: usize,
}

impl World {
    fn new(one_lease_for_a: bool) -> Self {
        let mut ours = TestNode::at(START);
        ours.config("max-waiters", "9").unwrap();
        if one_lease_for_a {
            ours.call("RULE SET r MATCH a* FILLS 1");
        }
        let spot = || Spot {
            held: Held::Nothing,
            lease: None,
            backoff: None,
            queue: Vec::new(),
            written: Vec::new(),
            deleted: Vec::new(),
            staled: Vec::new(),
            ever_leased: false,
        };
        World {
            ours,
            wall: START,
            mono: START,
            wall_was_set: false,
            moment: 0,
            nth: 0,
            role: 0,
            role_since: START,
            spots: KEYS.into_iter().map(|key| (key, spot())).collect(),
            loads: Vec::new(),
            stamps: Vec::new(),
            values: BTreeMap::new(),
            flushed: Vec::new(),
            late: BTreeMap::new(),
            count: BTreeMap::new(),
            requests: 0,
            one_lease_for_a,
            guard: 0,
            max_leases: 100_000,
            max_waiters: 9,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::LeaseRequest(request) => self.ask(request),
            Step::Fill(nth, life, room) => self.fill(*nth, *life, *room),
            Step::Stamp => {
                let began = self.next_moment();
                let token = self.ours.call("STAMP").trim_matches('"').to_owned();
                let (mono, role) = (self.mono, self.role);
                self.stamps.push(Load { key: "", token, began, mono, role, answered: None });
            }
            Step::Since(nth, key, life) => self.fill_since(*nth, key, *life),
            Step::Unlock(nth, backoff) => self.unlock(*nth, *backoff),
            Step::Extend(nth, ms) => {
                let Some(at) = self.recent(*nth) else { return };
                let key = self.loads[at].key;
                let held = self.holds(at);
                let said = format!("EXTEND {key} {} {ms}ms", self.loads[at].token);
                assert_eq!(self.say(&said), u8::from(held).to_string());
                if held {
                    let until = self.mono + ms;
                    self.spot(key).lease.as_mut().unwrap().until = until;
                }
            }
            Step::Set(key, life) => {
                let began = self.next_moment();
                let value = self.value(key, began, None);
                let said = self.set_line(key, &value, *life, "");
                assert_eq!(self.say(&said), "OK");
                self.put(key, value, *life, false, None, began);
                self.stored(key, began);
            }
            Step::Del(key) => {
                self.say(&format!("DEL {key}"));
                self.spot(key).held = Held::Nothing;
                let mark = self.mark(self.guard);
                self.spot(key).deleted.push(mark);
                self.spot(key).backoff = None;
                self.end_lease(key, "leases_voided");
                self.wake_waiters(key);
            }
            Step::Stale(key) => {
                let wall = self.wall;
                self.say(&format!("STALE {key}"));
                let mut mark = self.mark(self.guard);
                if let Held::Entry(entry) = &mut self.spot(key).held {
                    if entry.state(wall) == State::Fresh {
                        (entry.ended, entry.fresh_until) = (true, entry.fresh_until.min(wall));
                    } else if !entry.ended {
                        mark.spared = entry.value.clone();
                    }
                }
                self.spot(key).staled.push(mark);
                self.end_lease(key, "leases_voided");
                self.wake_waiters(key);
            }
            Step::NativeSet(key, px) => {
                let (at, now) = (self.next_moment(), self.ours.now());
                let until = px.map(|px| self.wall + px);
                self.ours.state.observe_native(&[b"SET", key.as_bytes()], Sender::Unknown, now);
                self.ours.plain_set(key, "plain", until);
                self.ours.tick();
                self.spot(key).written.push(at);
                self.spot(key).held = Held::Text(until);
                self.touched(key);
            }
            Step::NativeDel(key) => {
                // Before the first load nobody watches.
                let watched = self.spot(key).ever_leased || !self.stamps.is_empty();
                let (mark, now) = (self.mark(if watched { self.guard } else { 0 }), self.ours.now());
                self.ours.state.observe_native(&[b"DEL", key.as_bytes()], Sender::Unknown, now);
                self.ours.plain_del(key);
                self.ours.tick();
                self.spot(key).deleted.push(mark);
                self.spot(key).held = Held::Nothing;
                self.touched(key);
            }
            Step::Evict(key) => {
                self.ours.plain_del(key);
                self.spot(key).held = Held::Nothing;
            }
            Step::Advance(ms) => return self.advance(*ms),
            Step::Turn(ms) => {
                self.wall = self.wall.checked_add_signed(*ms).unwrap();
                self.wall_was_set |= *ms != 0;
                self.ours.set_clock(self.wall);
            }
            Step::Disconnect(client) => {
                self.ours.disconnect(*client);
                let mut left = 0;
                for spot in self.spots.values_mut() {
                    let before = spot.queue.len();
                    spot.queue.retain(|waiter| waiter.request.client != *client);
                    left += (before - spot.queue.len()) as u64;
                }
                self.add("waits_dropped", left);
            }
            Step::Flush => {
                let at = self.next_moment();
                self.flushed.push(at);
                KEYS.iter().for_each(|key| self.ours.plain_del(key));
                let now = self.ours.now();
                for (_, key) in self.ours.state.flushed(None, now) {
                    self.ours.as_node().wake_waiters(Key::named(&key));
                }
                self.ours.tick();
                for key in KEYS {
                    let spot = self.spot(key);
                    (spot.held, spot.backoff) = (Held::Nothing, None);
                    self.end_lease(key, "leases_voided");
                }
                self.settle_in_any_order();
            }
            Step::ChangeOfRole => {
                (self.role, self.role_since) = (self.role + 1, self.mono);
                let now = self.ours.now();
                self.ours.state.reset_leases([100 + self.role; 16], now);
                self.ours.tick();
                for key in KEYS {
                    self.spot(key).backoff = None;
                    self.end_lease(key, "leases_voided");
                    for waiter in std::mem::take(&mut self.spot(key).queue) {
                        self.answer(waiter.request.client, "waits_dropped", busy());
                    }
                }
            }
            Step::Config(name, value) => {
                self.ours.config(name, value).unwrap();
                let value: u64 = value.parse().unwrap();
                match *name {
                    "guard" => self.guard = value * 1_000,
                    "max-leases" => self.max_leases = value as usize,
                    _ => self.max_waiters = value as usize,
                }
            }
        }
        self.compare();
    }

    /// After the last step: whoever waits is answered, and nothing is left behind.
    fn end(&mut self) {
        self.advance(100_000);
        assert!(self.spots.values().all(|spot| spot.queue.is_empty() && spot.lease.is_none()));
        assert!(self.ours.state.leases.is_idle(), "nothing is left of leases and waits");
    }

    // ------------------------------------------------------------------ what clients do

    fn ask(&mut self, request: &LeaseRequest) {
        if self.is_parked(request.client) {
            return; // it cannot speak
        }
        let LeaseRequest { client, key, lock, wait, owner, eager } = request;
        let owns = owner.map_or(String::new(), |owner| format!(" OWNER {owner}"));
        let beta = if *eager { 1_000_000 } else { 0 };
        let said = format!("GETLOCK {key} LOCK {lock}ms WAIT {wait}ms BETA {beta}{owns}");
        let answer = self.ours.call_as(*client, &said);
        let waiting: usize = self.spots.values().map(|spot| spot.queue.len()).sum();
        let decision = match self.decide(request, *wait > 0 && waiting < self.max_waiters) {
            Decision::Wait => {
                assert_eq!(answer, "(waiting)", "{request:?}");
                self.nth += 1;
                let (until, nth) = (self.mono + wait, self.nth);
                self.spot(key).queue.push(Waiter { request: request.clone(), until, nth });
                return;
            }
            Decision::Now(decision) => decision,
        };
        let decision = self.should_refresh_early(request, &answer, decision);
        self.requests += 1;
        self.match_answer(key, &answer, &decision);
    }

    /// Whoever reads a fresh value may be picked to load it anew; but only where that is allowed.
    fn should_refresh_early(&mut self, request: &LeaseRequest, answer: &str, decision: Expected) -> Expected {
        let given = Answer::parse(answer).token.is_some();
        if !given || decision.token.is_some() || !matches!(decision.state, "HIT" | "ABSENT") {
            return decision;
        }
        let (wall, set) = (self.wall, self.wall_was_set);
        let spot = self.spot(request.key);
        assert!(spot.lease.is_none() && spot.backoff.is_none(), "an early lease where one loads, or nobody may");
        let Held::Entry(entry) = &spot.held else { panic!("an early lease of a plain string") };
        let load_ms = entry.load_ms.expect("an early lease before a load was measured");
        let left = entry.fresh_until - wall;
        assert!(
            request.eager && (set || left <= wall - entry.stored + 1),
            "an early lease in the first half of its life"
        );
        self.add("leases_early", 1);
        let lock = request.lock.min((3 * load_ms).max(1_000));
        let token = self.grant(request, lock);
        Expected { token: Some(token), lease_ms: Some(lock), ..decision }
    }

    fn fill(&mut self, nth: usize, life: Life, room: bool) {
        let Some(at) = self.recent(nth) else { return };
        let load = self.loads[at].clone();
        let key = load.key;
        let value = self.value(key, load.began, Some(load.mono));
        let said = self.set_line(key, &value, life, &format!(" TOKEN {}", load.token));
        self.ours.server.out_of_memory = !room;
        let answer = self.say(&said);
        self.ours.server.out_of_memory = false;
        let ours = load.role == self.role;
        let verdict = if ours { self.judge(key, &load) } else { Verdict::Lost };
        if !room {
            assert!(answer.starts_with("(error) OOM"), "{answer}");
            if self.holds(at) {
                if verdict == Verdict::Good {
                    self.serve_waiters(key, &value, life);
                }
                self.end_lease(key, "fills_failed");
                self.wake_waiters(key);
            }
            return;
        }
        if let Some(before) = load.answered.filter(|_| ours) {
            assert_eq!(answer, before, "the same again");
            return;
        }
        let load_ms = self.holds(at).then(|| self.mono - load.mono);
        let (expected, stored) = self.bring_home(key, value, life, verdict, load_ms, load.began);
        assert_eq!(answer, expected);
        if !ours {
            self.add("fills_unknown", 1);
        } else {
            self.loads[at].answered = Some(expected);
            if self.holds(at) {
                let how = match expected {
                    "OK" => "fills",
                    "STALE" => "fills_stale",
                    _ => "fills_lost",
                };
                self.end_lease(key, how);
            } else {
                self.add("fills_late", 1);
            }
        }
        if stored { self.stored(key, load.began) } else { self.wake_waiters(key) }
    }

    fn fill_since(&mut self, nth: usize, key: &'static str, life: Life) {
        let Some(load) = self.stamps.iter().rev().nth(nth % self.stamps.len().max(1)).cloned() else { return };
        let value = self.value(key, load.began, Some(load.mono));
        let said = self.set_line(key, &value, life, &format!(" SINCE {}", load.token));
        let answer = self.say(&said);
        let verdict = if load.role == self.role { self.judge(key, &load) } else { Verdict::Lost };
        let (expected, stored) = self.bring_home(key, value, life, verdict, None, load.began);
        assert_eq!(answer, expected);
        if stored { self.stored(key, load.began) } else { self.wake_waiters(key) }
    }

    /// What a load is answered that comes home; whether it was stored.
    fn bring_home(
        &mut self,
        key: &'static str,
        value: String,
        life: Life,
        verdict: Verdict,
        load_ms: Option<u64>,
        began: u64,
    ) -> (&'static str, bool) {
        let fresh_there = self.is_fresh(key);
        let since = match verdict {
            Verdict::Lost => return ("LOST", false),
            Verdict::Dead => return ("STALE", false),
            Verdict::Stale(_) if fresh_there => return ("STALE", false),
            Verdict::Stale(since) => since.min(self.wall),
            Verdict::Good => {
                self.put(key, value, life, false, load_ms, began);
                return ("OK", true);
            }
        };
        let window = life.window();
        let mut end = since.min(if life.fresh == PAST { 1 } else { self.wall + life.fresh });
        if self.wall_was_set && window > 0 {
            // Stamps may be ahead of a wall clock that was set back: only ours knows by how much.
            let text = self.ours.call(&format!("GET {key} STALE"));
            self.requests += 1;
            if text != format!("\"{value}\"") {
                return ("STALE", false);
            }
            end = self.ours.expire_at(key).unwrap() - window;
            assert!(end <= self.wall, "its windows count from when it was made stale, or from now");
        }
        if end + window <= self.wall {
            return ("STALE", false);
        }
        self.put(key, value, Life { fresh: 1, ..life }, true, load_ms, began);
        let Held::Entry(entry) = &mut self.spot(key).held else { unreachable!() };
        (entry.fresh_until, entry.expire_at) = (end, end + window);
        ("STALE", true)
    }

    fn unlock(&mut self, nth: usize, backoff: Option<u64>) {
        let Some(at) = self.recent(nth) else { return };
        let load = self.loads[at].clone();
        let key = load.key;
        let failed = backoff.map_or(String::new(), |ms| format!(" BACKOFF {ms}ms"));
        let answer = self.say(&format!("UNLOCK {key} {}{failed}", load.token));
        let held = self.holds(at);
        assert_eq!(answer, u8::from(held).to_string());
        if held {
            self.end_lease(key, if backoff.is_some() { "fills_failed" } else { "leases_released" });
        }
        let verdict = self.judge(key, &load);
        let fresh_there = self.is_fresh(key);
        let counts = load.role == self.role && load.answered.is_none() && verdict == Verdict::Good && !fresh_there;
        if let Some(ms) = backoff.filter(|_| held || counts) {
            self.nth += 1;
            let (until, nth) = (self.mono + ms, self.nth);
            self.spot(key).backoff = Some((until, nth));
        }
        self.wake_waiters(key);
    }

    // ------------------------------------------------------------------ what it amounts to

    /// What this caller is told at this moment.
    fn decide(&mut self, request: &LeaseRequest, waits: bool) -> Decision {
        self.expire();
        let (wall, mono) = (self.wall, self.mono);
        let circle = self.would_deadlock(request.key, request.client);
        let spot = self.spots.get_mut(request.key).unwrap();
        let (state, value, fresh_ms) = match &spot.held {
            Held::Text(until) => {
                let fresh_ms = until.map_or(-1, |until| (until - wall) as i64);
                return now("HIT", Some("plain".into()), None, fresh_ms, Some(0));
            }
            Held::Nothing => (State::Dead, None, 0),
            Held::Entry(entry) => {
                (entry.state(wall), entry.value.clone(), entry.fresh_until.saturating_sub(wall) as i64)
            }
        };
        let again =
            spot.lease.as_mut().filter(|lease| request.owner.is_some() && lease.owner == request.owner).map(|lease| {
                lease.client = request.client;
                (lease.load, lease.until - mono)
            });
        let (backoff, leased) = (spot.backoff.is_some(), spot.lease.is_some());
        let stale = matches!(state, State::Swr | State::Sie);
        let without = || if stale { now("STALE", value.clone(), None, 0, None) } else { Decision::Now(busy()) };
        let with = |load: usize, left: u64| match state {
            State::Swr => now("STALE", value.clone(), Some(load), 0, Some(left)),
            _ => now("MISS", None, Some(load), 0, Some(left)),
        };
        match again {
            _ if state == State::Fresh => {
                let (load, left) = again.unzip();
                let state = if value.is_some() { "HIT" } else { "ABSENT" };
                now(state, value, load, fresh_ms, Some(left.unwrap_or(0)))
            }
            Some((load, left)) => with(load, left),
            None if backoff => without(),
            None if leased && state == State::Swr => without(),
            None if leased && waits && !circle => Decision::Wait,
            None if leased || !self.may_grant(request.key) => without(),
            None => with(self.grant(request, request.lock), request.lock),
        }
    }

    fn may_grant(&self, key: &str) -> bool {
        let leases = || self.spots.iter().filter(|(_, spot)| spot.lease.is_some());
        let rule_is_full =
            self.one_lease_for_a && key.starts_with('a') && leases().any(|(other, _)| other.starts_with('a'));
        leases().count() < self.max_leases && !rule_is_full
    }

    fn grant(&mut self, request: &LeaseRequest, lock: u64) -> usize {
        let began = self.next_moment();
        self.nth += 1;
        let (until, nth, load) = (self.mono + lock, self.nth, self.loads.len());
        let (mono, role) = (self.mono, self.role);
        self.loads.push(Load { key: request.key, token: String::new(), began, mono, role, answered: None });
        let spot = self.spots.get_mut(request.key).unwrap();
        assert!(spot.lease.is_none(), "one live lease a key");
        spot.ever_leased = true;
        spot.lease = Some(Lease { load, until, nth, client: request.client, owner: request.owner });
        self.add("leases_granted", 1);
        load
    }

    /// Whether a connection would wait for itself, over any number of others.
    fn would_deadlock(&self, key: &str, client: u64) -> bool {
        let (mut key, mut seen) = (key, BTreeSet::new());
        while let Some(lease) = &self.spots[key].lease {
            if lease.client == client {
                return true;
            }
            let waits = |spot: &Spot| spot.queue.iter().any(|waiter| waiter.request.client == lease.client);
            match self.spots.iter().find(|(_, spot)| waits(spot)) {
                Some((next, _)) if seen.insert(*next) => key = next,
                Some(_) => panic!("a circle of connections that wait for each other"),
                None => return false,
            }
        }
        false
    }

    /// What a load that began then is worth, by everything that has happened since.
    fn judge(&mut self, key: &'static str, load: &Load) -> Verdict {
        self.expire();
        let spot = &self.spots[key];
        let conflicting = |mark: &&Mark| mark.at > load.began || load.mono < mark.guard;
        if matches!(spot.held, Held::Text(_)) || spot.written.iter().any(|at| *at > load.began) {
            Verdict::Lost
        } else if self.flushed.iter().any(|at| *at > load.began)
            || spot.deleted.iter().any(|mark| conflicting(&mark))
            || load.mono < self.role_since + self.guard
        {
            Verdict::Dead
        } else if spot.staled.iter().any(|mark| conflicting(&mark)) {
            Verdict::Stale(spot.staled.last().unwrap().wall)
        } else {
            Verdict::Good
        }
    }

    fn is_fresh(&self, key: &str) -> bool {
        match &self.spots[key].held {
            Held::Entry(entry) => entry.state(self.wall) == State::Fresh,
            Held::Text(_) => true,
            Held::Nothing => false,
        }
    }

    fn put(&mut self, key: &'static str, value: String, life: Life, ended: bool, load_ms: Option<u64>, began: u64) {
        let (fresh_until, stored) = (self.wall + life.fresh, self.wall);
        let expire_at = fresh_until + life.window();
        let value = (!life.absent).then_some(value);
        let spot = self.spot(key);
        assert!(spot.written.iter().all(|at| *at <= began), "a load replaces one that began later");
        spot.written.push(began);
        spot.held = match life.fresh {
            PAST => Held::Nothing,
            _ => Held::Entry(Entry { value, fresh_until, ended, life, load_ms, stored, expire_at }),
        };
    }

    /// Something was stored that began then.
    fn stored(&mut self, key: &'static str, began: u64) {
        self.spot(key).backoff = None;
        let lease = self.spot(key).lease.as_ref().map(|lease| lease.load);
        if lease.is_some_and(|load| self.loads[load].began < began) {
            self.end_lease(key, "leases_voided");
        }
        self.wake_waiters(key);
    }

    /// A command of the server's own has deleted or written the key.
    fn touched(&mut self, key: &'static str) {
        self.spot(key).backoff = None;
        self.end_lease(key, "leases_voided");
        self.wake_waiters(key);
    }

    fn end_lease(&mut self, key: &'static str, how: &'static str) {
        if self.spot(key).lease.take().is_some() {
            self.add(how, 1);
        }
    }

    /// Those who wait are told what they would be told now, until one of them would wait.
    fn wake_waiters(&mut self, key: &'static str) {
        while let Some(waiter) = self.spots[key].queue.first() {
            let request = waiter.request.clone();
            let waiter = self.spot(key).queue.remove(0);
            match self.decide(&request, true) {
                Decision::Wait => return self.spot(key).queue.insert(0, waiter),
                Decision::Now(decision) => self.answer_waiter(&request, decision, "waits_dropped"),
            }
        }
    }

    /// After a flush the keys are settled in an order that nobody promises; it decides only whom limits refuse.
    fn settle_in_any_order(&mut self) {
        let answers: BTreeMap<u64, String> = std::mem::take(&mut self.ours.answers).into_iter().collect();
        let was_granted = |spot: &Spot| {
            let first = spot.queue.first().and_then(|waiter| answers.get(&waiter.request.client));
            first.is_some_and(|answer| Answer::parse(answer).token.is_some())
        };
        let (first, then): (Vec<_>, Vec<_>) = KEYS.into_iter().partition(|key| was_granted(&self.spots[key]));
        first.into_iter().chain(then).for_each(|key| self.wake_waiters(key));
        self.ours.answers = answers.into_iter().collect();
    }

    fn answer_waiter(&mut self, request: &LeaseRequest, decision: Expected, in_vain: &'static str) {
        let how = match decision.state {
            "BUSY" => in_vain,
            "MISS" => "waits_promoted",
            "STALE" if decision.token.is_some() => "waits_promoted",
            _ => "waits_served",
        };
        self.answer(request.client, how, decision);
    }

    fn answer(&mut self, client: u64, how: &'static str, decision: Expected) {
        self.add(how, 1);
        self.requests += 1;
        assert!(self.late.insert(client, decision).is_none(), "a waiter is answered once");
    }

    fn serve_waiters(&mut self, key: &'static str, value: &str, life: Life) {
        for waiter in std::mem::take(&mut self.spot(key).queue) {
            let (state, value) = if life.absent { ("ABSENT", None) } else { ("HIT", Some(value.to_owned())) };
            let decision = Expected { state, value, token: None, fresh_ms: 0, lease_ms: Some(0) };
            self.answer(waiter.request.client, "waits_served", decision);
        }
    }

    // ------------------------------------------------------------------ time

    fn advance(&mut self, ms: u64) {
        let end = self.mono + ms;
        while let Some(until) = self.next_due().map(|(until, ..)| until).filter(|until| *until <= end) {
            self.advance_clocks(until - self.mono);
            while let Some((_, _, key, what)) = self.next_due().filter(|due| due.0 <= self.mono) {
                match what {
                    Due::Lease => {
                        self.end_lease(key, "leases_expired");
                        self.wake_waiters(key);
                    }
                    Due::Backoff => self.spot(key).backoff = None,
                    // Whose lease ends at the same moment: it may be the next to load.
                    Due::Waiter(_) if self.spots[key].lease.as_ref().is_some_and(|lease| lease.until <= self.mono) => {
                        self.end_lease(key, "leases_expired");
                        self.wake_waiters(key);
                    }
                    Due::Waiter(at) => {
                        let waiter = self.spot(key).queue.remove(at);
                        let Decision::Now(decision) = self.decide(&waiter.request, false) else { unreachable!() };
                        self.answer_waiter(&waiter.request, decision, "waits_timed_out");
                    }
                }
            }
            self.compare();
        }
        self.advance_clocks(end - self.mono);
        self.compare();
    }

    fn advance_clocks(&mut self, ms: u64) {
        self.ours.advance(ms);
        self.mono += ms;
        self.wall += ms;
    }

    fn next_due(&self) -> Option<(u64, u64, &'static str, Due)> {
        let mut due = Vec::new();
        for (key, spot) in &self.spots {
            due.extend(spot.lease.iter().map(|lease| (lease.until, lease.nth, *key, Due::Lease)));
            due.extend(spot.backoff.iter().map(|(until, nth)| (*until, *nth, *key, Due::Backoff)));
            let waiters = spot.queue.iter().enumerate();
            due.extend(waiters.map(|(at, waiter)| (waiter.until, waiter.nth, *key, Due::Waiter(at))));
        }
        due.into_iter().min_by_key(|(until, nth, ..)| (*until, *nth))
    }

    /// What the server does by itself.
    fn expire(&mut self) {
        for spot in self.spots.values_mut() {
            let gone_at = match &spot.held {
                Held::Nothing | Held::Text(None) => continue,
                Held::Text(Some(until)) => *until,
                Held::Entry(entry) => entry.expire_at,
            };
            if gone_at <= self.wall {
                spot.held = Held::Nothing;
            }
        }
    }

    // ------------------------------------------------------------------ comparing

    fn compare(&mut self) {
        self.compare_late_answers();
        self.expire();
        for key in KEYS {
            let answer = self.say(&format!("GET {key} STATE STALE"));
            self.requests += 1;
            let decision = match &self.spots[key].held {
                Held::Text(_) => ("HIT", Some("plain".to_owned())),
                Held::Nothing => ("MISS", None),
                Held::Entry(entry) => match entry.state(self.wall) {
                    State::Fresh if entry.value.is_none() => ("ABSENT", None),
                    State::Fresh => ("HIT", entry.value.clone()),
                    State::Swr | State::Sie => ("STALE", entry.value.clone()),
                    State::Dead => ("MISS", None),
                },
            };
            let answer = Answer::parse(&answer);
            assert_eq!((answer.state, answer.value.clone()), decision, "GET {key}");
            self.may_be_served(key, answer.state, answer.value.as_deref());
            self.compare_lease(key);
        }
        self.compare_counters();
    }

    fn compare_late_answers(&mut self) {
        let mut expected = std::mem::take(&mut self.late);
        for (client, answer) in self.ours.late_answers() {
            let decision =
                expected.remove(&client).unwrap_or_else(|| panic!("{client} is told {answer}, and should wait"));
            let key = decision.token.map_or("", |load| self.loads[load].key);
            self.match_answer(key, &answer, &decision);
        }
        assert!(expected.is_empty(), "these still wait: {expected:?}");
    }

    fn match_answer(&mut self, key: &'static str, answer: &str, decision: &Expected) {
        let given = Answer::parse(answer);
        assert_eq!(
            (given.state, &given.value, given.fresh_ms),
            (decision.state, &decision.value, decision.fresh_ms),
            "{answer}"
        );
        match decision.lease_ms {
            Some(ms) => assert_eq!(given.lease_ms, ms, "{answer}"),
            None => assert!(given.lease_ms > 0, "{answer}: when to ask again"),
        }
        match (given.token, decision.token) {
            (None, None) => {}
            (Some(token), Some(load)) if self.loads[load].token.is_empty() => {
                assert!(self.loads.iter().all(|other| other.token != token), "no two tokens are the same");
                self.loads[load].token = token;
            }
            (Some(token), Some(load)) => assert_eq!(token, self.loads[load].token, "its owner gets the same again"),
            (given, expected) => panic!("{answer}: token {given:?}, expected {expected:?}"),
        }
        if let Some(value) = &given.value {
            let key = self.values.get(value).map_or(key, |value| value.key);
            self.may_be_served(key, given.state, Some(value));
        }
    }

    /// By what has happened to the key alone: may this be served at this moment?
    fn may_be_served(&self, key: &str, state: &str, text: Option<&str>) {
        let Some(value) = text.and_then(|text| self.values.get(text)) else { return };
        assert_eq!(value.key, key);
        let spot = &self.spots[key];
        assert!(spot.written.iter().all(|at| *at <= value.began), "{text:?}: something later was stored");
        let older = |mark: &Mark| mark.at > value.began || value.loaded.is_some_and(|at| at < mark.guard);
        assert!(!spot.deleted.iter().any(older), "{text:?} is served though it was deleted");
        assert!(self.flushed.iter().all(|at| *at < value.began), "{text:?} is served though it was flushed");
        if state == "HIT" {
            let reached = |mark: &Mark| older(mark) && mark.spared.as_deref() != text;
            assert!(!spot.staled.iter().any(reached), "{text:?} is fresh though it was made stale");
        }
    }

    fn compare_lease(&self, key: &'static str) {
        let (spot, leases) = (&self.spots[key], &self.ours.state.leases);
        let until = |lease: Option<(u64, u64)>| lease.filter(|(until, _)| *until > self.mono);
        let lease = leases.lease(0, key.as_bytes()).map(|lease| (lease.until_ms, lease.client));
        assert_eq!(until(lease), spot.lease.as_ref().map(|lease| (lease.until, lease.client)), "the lease of {key}");
        let backoff = leases.backoff_ms(0, key.as_bytes(), self.ours.now());
        assert_eq!(backoff, spot.backoff.map(|(until, _)| until - self.mono), "the back-off of {key}");
        assert_eq!(leases.waiters_of(0, key.as_bytes()), spot.queue.len(), "who waits for {key}");
        assert!(spot.queue.is_empty() || spot.lease.is_some(), "nobody waits where nobody loads");
    }

    fn compare_counters(&self) {
        let ours = self.ours.state.stats.all();
        let ends = [
            ("fills", ours.fills),
            ("fills_stale", ours.fills_stale),
            ("fills_lost", ours.fills_lost),
            ("fills_failed", ours.fills_failed),
            ("leases_released", ours.leases_released),
            ("leases_voided", ours.leases_voided),
            ("leases_expired", ours.leases_expired),
        ];
        let waits = [
            ("waits_served", ours.waits_served),
            ("waits_promoted", ours.waits_promoted),
            ("waits_timed_out", ours.waits_timed_out),
            ("waits_dropped", ours.waits_dropped),
        ];
        let others = [
            ("leases_granted", ours.leases_granted),
            ("leases_early", ours.leases_early),
            ("fills_late", ours.fills_late),
            ("fills_unknown", ours.fills_unknown),
        ];
        for (name, count) in ends.iter().chain(&waits).chain(&others) {
            assert_eq!(*count, self.count.get(name).copied().unwrap_or(0), "{name}");
        }
        let sum = |counts: &[(&str, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(ours.leases_granted, sum(&ends) + self.ours.state.leases.live(), "each lease has one end");
        assert_eq!(ours.waits, sum(&waits), "each wait has one end");
        let misses = ours.misses_cold + ours.misses_expired + ours.misses_invalidated + ours.misses_evicted;
        let requests = ours.hits + ours.stale_hits + ours.absent_hits + misses + ours.busy;
        assert_eq!(requests, self.requests, "each request counts once");
    }

    // ------------------------------------------------------------------ small things

    fn spot(&mut self, key: &'static str) -> &mut Spot {
        self.spots.get_mut(key).unwrap()
    }

    fn say(&mut self, line: &str) -> String {
        self.ours.call_as(OPERATOR, line)
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// One of the last loads.
    fn recent(&self, nth: usize) -> Option<usize> {
        let least = self.loads.len().saturating_sub(5);
        (!self.loads.is_empty()).then(|| self.loads.len() - 1 - nth % (self.loads.len() - least))
    }

    fn holds(&self, load: usize) -> bool {
        let Load { key, role, .. } = self.loads[load];
        role == self.role && self.spots[key].lease.as_ref().is_some_and(|lease| lease.load == load)
    }

    fn is_parked(&self, client: u64) -> bool {
        self.spots.values().any(|spot| spot.queue.iter().any(|waiter| waiter.request.client == client))
    }

    fn mark(&mut self, guard: u64) -> Mark {
        let guard = if guard > 0 { self.mono + guard } else { 0 };
        Mark { at: self.next_moment(), guard, wall: self.wall, spared: None }
    }

    /// A text that tells whose it is.
    fn value(&mut self, key: &'static str, began: u64, loaded: Option<u64>) -> String {
        let text = format!("v{}", self.values.len());
        self.values.insert(text.clone(), Value { key, began, loaded });
        text
    }

    fn set_line(&self, key: &str, value: &str, life: Life, claim: &str) -> String {
        let Life { absent, fresh, swr, sie } = life;
        let lifetime = if fresh == PAST { "PXAT 1".into() } else { format!("PX {fresh}") };
        match absent {
            true => format!("ABSENT {key} {lifetime}{claim}"),
            false => format!("SET {key} {value} {lifetime} SWR {swr}ms SIE {sie}ms{claim}"),
        }
    }

    fn add(&mut self, name: &'static str, n: u64) {
        *self.count.entry(name).or_default() += n;
    }
}

#[derive(Clone, Copy)]
enum Due {
    Lease,
    Backoff,
    Waiter(usize),
}

fn busy() -> Expected {
    Expected { state: "BUSY", value: None, token: None, fresh_ms: 0, lease_ms: None }
}

fn now(
    state: &'static str,
    value: Option<String>,
    token: Option<usize>,
    fresh_ms: i64,
    lease_ms: Option<u64>,
) -> Decision {
    Decision::Now(Expected { state, value, token, fresh_ms, lease_ms })
}

/// An answer of `GETLOCK`, or of `GET` with `STATE`, taken apart.
struct Answer<'a> {
    state: &'a str,
    value: Option<String>,
    token: Option<String>,
    fresh_ms: i64,
    lease_ms: u64,
}

impl<'a> Answer<'a> {
    fn parse(text: &'a str) -> Self {
        let parts: Vec<_> = text.trim_matches(['[', ']']).split(", ").collect();
        let [state, value, token, fresh_ms, lease_ms] = parts[..] else { panic!("an answer of five: {text}") };
        let word = |part: &str| (part != "(nil)").then(|| part.trim_matches('"').to_owned());
        let (fresh_ms, lease_ms) = (fresh_ms.parse().unwrap(), lease_ms.parse().unwrap());
        Answer { state, value: word(value), token: word(token), fresh_ms, lease_ms }
    }
}
