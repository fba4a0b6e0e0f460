//! Random histories of leases: who loads, who waits, and the replies to fills.
//!
//! The real node is compared with a model that is obviously right because it keeps everything: every load, write and
//! invalidation of each key in order, and judges by all of them. It has no stamps, no hashed tables, no signed tokens.
//!
//! What must hold after every step, in addition to every reply being the expected one:
//!
//! 1. One live lease per key: none is granted while one is held.
//! 2. A waiter is answered exactly once, and waits only while a lease is held.
//! 3. What is served is the latest value ever stored under the key: no load replaces one that began later.
//! 4. Nothing whose load began before an invalidation is fresh after it, and nothing dead is served.
//! 5. Each lease is held or has ended in one way, each wait has ended in one way, each request is counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use smartcache::cache::lease::native_commands::Sender;
use smartcache::testing::TestNode;

/// In some histories the first two share a rule that allows one lease for both.
const KEYS: [&str; 3] = ["a1", "a2", "b"];
const START: u64 = 1_000_000_000;
/// A client that never waits.
const OPERATOR: u64 = 99;
/// A lifetime that has ended already.
const PAST: u64 = 0;
/// Replies to fills, as the node shows bulk strings.
const STALE: &str = r#""STALE""#;
const LOST: &str = r#""LOST""#;

fn config() -> ProptestConfig {
    let config = super::config();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 4_000 };
    ProptestConfig { cases, max_shrink_iters: 20_000, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_caller_loads_and_no_late_fill_is_fresh(fills: bool, guard: bool, history in history()) {
        let mut model = Model::new(fills);
        if guard {
            model.apply(&Step::Config("guard", "2"));
        }
        history.0.iter().for_each(|step| model.apply(step));
        model.end();
    }
}

#[derive(Clone, Debug)]
enum Step {
    LeaseRequest(LeaseRequest),
    /// The fill of a recent load; `false`: out of memory.
    Fill(usize, Life, bool),
    Stamp,
    /// A fill with a recent stamp.
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
    /// With a `BETA` that refreshes early whenever that is allowed.
    eager: bool,
}

/// Lifetime of an entry in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Life {
    absent: bool,
    fresh: u64,
    swr: u64,
    sie: u64,
}

impl Life {
    /// The longer of the two windows.
    fn window(self) -> u64 {
        if self.absent { 0 } else { self.swr.max(self.sie) }
    }
}

/// Steps, printed one per line.
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

/// A load, under a lease or with a stamp.
#[derive(Clone)]
struct Load {
    key: &'static str,
    token: String,
    /// When it began: in the order of events, and by the monotonic clock.
    began: u64,
    mono: u64,
    /// The number of role changes before it.
    role: u8,
    answered: Option<&'static str>,
}

/// A value that was stored at some time.
struct Value {
    key: &'static str,
    began: u64,
    /// When its load began by the clock; `None` for a write-through.
    loaded: Option<u64>,
}

/// A delete or an invalidation: loads that began before it are not trusted.
struct Tombstone {
    at: u64,
    /// End of the guard.
    guard: u64,
    wall: u64,
    /// The value that was already stale then, which it does not affect.
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
    /// A native string, until then.
    Text(Option<u64>),
    Entry(Entry),
}

#[derive(Clone)]
struct Entry {
    /// `None`: an absent entry.
    value: Option<String>,
    fresh_until: u64,
    ended: bool,
    life: Life,
    /// How long its load took, if it ended under its lease.
    load_ms: Option<u64>,
    /// When it was stored.
    stored: u64,
    /// When the server deletes it; `STALE` does not change this.
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

/// The state and the history of a key.
struct KeyRecord {
    held: Held,
    lease: Option<Lease>,
    backoff: Option<(u64, u64)>,
    queue: Vec<Waiter>,
    /// When the loads of all stored values began; of writes, when they happened.
    written: Vec<u64>,
    deleted: Vec<Tombstone>,
    staled: Vec<Tombstone>,
    ever_leased: bool,
}

/// The expected reply.
#[derive(Debug)]
struct Expected {
    state: &'static str,
    value: Option<String>,
    /// The number of the load.
    token: Option<usize>,
    fresh_ms: i64,
    /// `None`: a retry delay.
    lease_ms: Option<u64>,
}

enum Decision {
    Now(Expected),
    Wait,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Good,
    /// Stale since then.
    Stale(u64),
    Dead,
    Lost,
}

struct Model {
    node: TestNode,
    wall: u64,
    mono: u64,
    wall_was_set: bool,
    /// The order of events.
    time: u64,
    nth: u64,
    role: u8,
    role_since: u64,
    records: BTreeMap<&'static str, KeyRecord>,
    loads: Vec<Load>,
    stamps: Vec<Load>,
    values: BTreeMap<String, Value>,
    flushed: Vec<u64>,
    deferred: BTreeMap<u64, Expected>,
    count: BTreeMap<&'static str, u64>,
    requests: u64,
    one_lease_for_a: bool,
    guard: u64,
    max_leases: usize,
    max_waiters: usize,
}

impl Model {
    fn new(one_lease_for_a: bool) -> Self {
        let mut node = TestNode::at(START);
        node.config("max-waiters", "9").unwrap();
        node.config("user-share", "100%").unwrap(); // all are one user
        if one_lease_for_a {
            node.call("RULE SET r MATCH a* FILLS 1");
        }
        let record = || KeyRecord {
            held: Held::Nothing,
            lease: None,
            backoff: None,
            queue: Vec::new(),
            written: Vec::new(),
            deleted: Vec::new(),
            staled: Vec::new(),
            ever_leased: false,
        };
        Model {
            node,
            wall: START,
            mono: START,
            wall_was_set: false,
            time: 0,
            nth: 0,
            role: 0,
            role_since: START,
            records: KEYS.into_iter().map(|key| (key, record())).collect(),
            loads: Vec::new(),
            stamps: Vec::new(),
            values: BTreeMap::new(),
            flushed: Vec::new(),
            deferred: BTreeMap::new(),
            count: BTreeMap::new(),
            requests: 0,
            one_lease_for_a,
            guard: 0,
            max_leases: 100_000,
            max_waiters: 9,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::LeaseRequest(request) => self.request_lease(request),
            Step::Fill(nth, life, room) => self.fill(*nth, *life, *room),
            Step::Stamp => {
                let began = self.next_time();
                let token = self.node.call("STAMP").trim_matches('"').to_owned();
                let (mono, role) = (self.mono, self.role);
                self.stamps.push(Load { key: "", token, began, mono, role, answered: None });
            }
            Step::Since(nth, key, life) => self.fill_since(*nth, key, *life),
            Step::Unlock(nth, backoff) => self.unlock(*nth, *backoff),
            Step::Extend(nth, ms) => {
                let Some(at) = self.recent(*nth) else { return };
                let key = self.loads[at].key;
                let held = self.holds(at);
                let line = format!("EXTEND {key} {} {ms}ms", self.loads[at].token);
                assert_eq!(self.call(&line), u8::from(held).to_string());
                if held {
                    let until = self.mono + ms;
                    self.record(key).lease.as_mut().unwrap().until = until;
                }
            }
            Step::Set(key, life) => {
                let began = self.next_time();
                let value = self.value(key, began, None);
                let line = self.set_line(key, &value, *life, "");
                assert_eq!(self.call(&line), "OK");
                self.put(key, value, *life, false, None, began);
                self.on_stored(key, began);
            }
            Step::Del(key) => {
                self.call(&format!("DEL {key}"));
                self.record(key).held = Held::Nothing;
                let tombstone = self.tombstone(self.guard);
                self.record(key).deleted.push(tombstone);
                self.record(key).backoff = None;
                self.end_lease(key, "leases_voided");
                self.wake_waiters(key);
            }
            Step::Stale(key) => {
                let wall = self.wall;
                self.call(&format!("STALE {key}"));
                let mut tombstone = self.tombstone(self.guard);
                if let Held::Entry(entry) = &mut self.record(key).held {
                    if entry.state(wall) == State::Fresh {
                        (entry.ended, entry.fresh_until) = (true, entry.fresh_until.min(wall));
                    } else if !entry.ended {
                        tombstone.spared = entry.value.clone();
                    }
                }
                self.record(key).staled.push(tombstone);
                self.end_lease(key, "leases_voided");
                self.wake_waiters(key);
            }
            Step::NativeSet(key, px) => {
                let (at, now) = (self.next_time(), self.node.now());
                let until = px.map(|px| self.wall + px);
                self.node.state.observe_native(&[b"SET", key.as_bytes()], Sender::Unknown, now);
                self.node.plain_set(key, "plain", until);
                self.node.tick();
                self.record(key).written.push(at);
                self.record(key).held = Held::Text(until);
                self.on_native_command(key);
            }
            Step::NativeDel(key) => {
                // Native commands are observed only from the first load on.
                let watched = self.record(key).ever_leased || !self.stamps.is_empty();
                let (tombstone, now) = (self.tombstone(if watched { self.guard } else { 0 }), self.node.now());
                self.node.state.observe_native(&[b"DEL", key.as_bytes()], Sender::Unknown, now);
                self.node.plain_del(key);
                self.node.tick();
                self.record(key).deleted.push(tombstone);
                self.record(key).held = Held::Nothing;
                self.on_native_command(key);
            }
            Step::Evict(key) => {
                self.node.plain_del(key);
                self.record(key).held = Held::Nothing;
            }
            Step::Advance(ms) => return self.advance(*ms),
            Step::Turn(ms) => {
                self.wall = self.wall.checked_add_signed(*ms).unwrap();
                self.wall_was_set |= *ms != 0;
                self.node.set_clock(self.wall);
            }
            Step::Disconnect(client) => {
                self.node.disconnect(*client);
                let mut dropped = 0;
                for record in self.records.values_mut() {
                    let before = record.queue.len();
                    record.queue.retain(|waiter| waiter.request.client != *client);
                    dropped += (before - record.queue.len()) as u64;
                }
                self.add("waits_dropped", dropped);
            }
            Step::Flush => {
                let at = self.next_time();
                self.flushed.push(at);
                KEYS.iter().for_each(|key| self.node.plain_del(key));
                let now = self.node.now();
                self.node.state.flushed(None, now);
                self.node.tick();
                for key in KEYS {
                    let record = self.record(key);
                    (record.held, record.backoff) = (Held::Nothing, None);
                    // A flush takes guards back.
                    record.deleted.iter_mut().chain(&mut record.staled).for_each(|tombstone| tombstone.guard = 0);
                    self.end_lease(key, "leases_voided");
                }
                self.wake_waiters_in_any_order();
            }
            Step::ChangeOfRole => {
                (self.role, self.role_since) = (self.role + 1, self.mono);
                let now = self.node.now();
                self.node.state.reset_leases([100 + self.role; 16], now);
                self.node.tick();
                for key in KEYS {
                    self.record(key).backoff = None;
                    self.end_lease(key, "leases_voided");
                    for waiter in std::mem::take(&mut self.record(key).queue) {
                        self.answer(waiter.request.client, "waits_dropped", busy());
                    }
                }
            }
            Step::Config(name, value) => {
                self.node.config(name, value).unwrap();
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

    /// After the last step: all waiters are answered, and nothing is left.
    fn end(&mut self) {
        self.advance(100_000);
        assert!(self.records.values().all(|record| record.queue.is_empty() && record.lease.is_none()));
        assert!(self.node.state.leases.is_idle(), "leases or waiters are left");
    }

    // ------------------------------------------------------------------ commands of clients

    fn request_lease(&mut self, request: &LeaseRequest) {
        if self.is_parked(request.client) {
            return; // a blocked client sends nothing
        }
        let LeaseRequest { client, key, lock, wait, owner, eager } = request;
        let owner_option = owner.map_or(String::new(), |owner| format!(" OWNER {owner}"));
        let beta = if *eager { 1_000_000 } else { 0 };
        let line = format!("GETLOCK {key} LOCK {lock}ms WAIT {wait}ms BETA {beta}{owner_option}");
        let answer = self.node.call_as(*client, &line);
        let waiting: usize = self.records.values().map(|record| record.queue.len()).sum();
        let decision = match self.decide(request, *wait > 0 && waiting < self.max_waiters) {
            Decision::Wait => {
                assert_eq!(answer, "(waiting)", "{request:?}");
                self.nth += 1;
                let (until, nth) = (self.mono + wait, self.nth);
                self.record(key).queue.push(Waiter { request: request.clone(), until, nth });
                return;
            }
            Decision::Now(decision) => decision,
        };
        let decision = self.should_refresh_early(request, &answer, decision);
        self.requests += 1;
        self.match_answer(key, &answer, &decision);
    }

    /// A reader of a fresh value may be granted an early refresh, but only where that is allowed.
    fn should_refresh_early(&mut self, request: &LeaseRequest, answer: &str, decision: Expected) -> Expected {
        let given = Answer::parse(answer).token.is_some();
        if !given || decision.token.is_some() || !matches!(decision.state, "HIT" | "ABSENT") {
            return decision;
        }
        let (wall, set) = (self.wall, self.wall_was_set);
        let record = self.record(request.key);
        assert!(record.lease.is_none() && record.backoff.is_none(), "an early lease during a lease or a back-off");
        let Held::Entry(entry) = &record.held else { panic!("an early lease of a plain string") };
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
        let line = self.set_line(key, &value, life, &format!(" TOKEN {}", load.token));
        self.node.server.out_of_memory = !room;
        let answer = self.call(&line);
        self.node.server.out_of_memory = false;
        let same_role = load.role == self.role;
        let verdict = if same_role { self.check_fill(key, &load) } else { Verdict::Lost };
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
        if let Some(before) = load.answered.filter(|_| same_role) {
            assert_eq!(answer, before, "a retry gets the same reply");
            return;
        }
        let load_ms = self.holds(at).then(|| self.mono - load.mono);
        let (expected, stored) = self.fill_reply(key, value, life, verdict, load_ms, load.began);
        assert_eq!(answer, expected);
        if !same_role {
            self.add("fills_unknown", 1);
        } else {
            self.loads[at].answered = Some(expected);
            if self.holds(at) {
                let how = match expected {
                    "OK" => "fills",
                    STALE => "fills_stale",
                    _ => "fills_lost",
                };
                self.end_lease(key, how);
            } else {
                self.add("fills_late", 1);
            }
        }
        if stored { self.on_stored(key, load.began) } else { self.wake_waiters(key) }
    }

    fn fill_since(&mut self, nth: usize, key: &'static str, life: Life) {
        let Some(load) = self.stamps.iter().rev().nth(nth % self.stamps.len().max(1)).cloned() else { return };
        let value = self.value(key, load.began, Some(load.mono));
        let line = self.set_line(key, &value, life, &format!(" SINCE {}", load.token));
        let answer = self.call(&line);
        let verdict = if load.role == self.role { self.check_fill(key, &load) } else { Verdict::Lost };
        let (expected, stored) = self.fill_reply(key, value, life, verdict, None, load.began);
        assert_eq!(answer, expected);
        if stored { self.on_stored(key, load.began) } else { self.wake_waiters(key) }
    }

    /// The reply to a fill, and whether it is stored.
    fn fill_reply(
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
            Verdict::Lost => return (LOST, false),
            Verdict::Dead => return (STALE, false),
            Verdict::Stale(_) if fresh_there => return (STALE, false),
            Verdict::Stale(since) => since.min(self.wall),
            Verdict::Good => {
                self.put(key, value, life, false, load_ms, began);
                return ("OK", true);
            }
        };
        let window = life.window();
        let mut end = since.min(if life.fresh == PAST { 1 } else { self.wall + life.fresh });
        if self.wall_was_set && window > 0 {
            // Stamps may be ahead of a wall clock that was set back; only the real node knows by how much.
            let text = self.node.call(&format!("GET {key} STALE"));
            self.requests += 1;
            if text != format!("\"{value}\"") {
                return (STALE, false);
            }
            end = self.node.expire_at(key).unwrap() - window;
            assert!(end <= self.wall, "its windows start when it was made stale, or now");
        }
        if end + window <= self.wall {
            return (STALE, false);
        }
        self.put(key, value, Life { fresh: 1, ..life }, true, load_ms, began);
        let Held::Entry(entry) = &mut self.record(key).held else { unreachable!() };
        (entry.fresh_until, entry.expire_at) = (end, end + window);
        (STALE, true)
    }

    fn unlock(&mut self, nth: usize, backoff: Option<u64>) {
        let Some(at) = self.recent(nth) else { return };
        let load = self.loads[at].clone();
        let key = load.key;
        let failed = backoff.map_or(String::new(), |ms| format!(" BACKOFF {ms}ms"));
        let answer = self.call(&format!("UNLOCK {key} {}{failed}", load.token));
        let held = self.holds(at);
        assert_eq!(answer, u8::from(held).to_string());
        if held {
            self.end_lease(key, if backoff.is_some() { "fills_failed" } else { "leases_released" });
        }
        let verdict = self.check_fill(key, &load);
        let fresh_there = self.is_fresh(key);
        let counts = load.role == self.role && load.answered.is_none() && verdict == Verdict::Good && !fresh_there;
        if let Some(ms) = backoff.filter(|_| held || counts) {
            self.nth += 1;
            let (until, nth) = (self.mono + ms, self.nth);
            self.record(key).backoff = Some((until, nth));
        }
        self.wake_waiters(key);
    }

    // ------------------------------------------------------------------ the model

    /// What this caller gets now.
    fn decide(&mut self, request: &LeaseRequest, waits: bool) -> Decision {
        self.expire();
        let (wall, mono) = (self.wall, self.mono);
        let deadlock = self.would_deadlock(request.key, request.client);
        let record = self.records.get_mut(request.key).unwrap();
        let (state, value, fresh_ms) = match &record.held {
            Held::Text(until) => {
                let fresh_ms = until.map_or(-1, |until| (until - wall) as i64);
                return now("HIT", Some("plain".into()), None, fresh_ms, Some(0));
            }
            Held::Nothing => (State::Dead, None, 0),
            Held::Entry(entry) => {
                (entry.state(wall), entry.value.clone(), entry.fresh_until.saturating_sub(wall) as i64)
            }
        };
        let own_lease =
            record.lease.as_mut().filter(|lease| request.owner.is_some() && lease.owner == request.owner).map(
                |lease| {
                    lease.client = request.client;
                    (lease.load, lease.until - mono)
                },
            );
        let (backoff, leased) = (record.backoff.is_some(), record.lease.is_some());
        let stale = matches!(state, State::Swr | State::Sie);
        let without = || if stale { now("STALE", value.clone(), None, 0, None) } else { Decision::Now(busy()) };
        let with = |load: usize, left: u64| match state {
            State::Swr => now("STALE", value.clone(), Some(load), 0, Some(left)),
            _ => now("MISS", None, Some(load), 0, Some(left)),
        };
        match own_lease {
            _ if state == State::Fresh => {
                let (load, left) = own_lease.unzip();
                let state = if value.is_some() { "HIT" } else { "ABSENT" };
                now(state, value, load, fresh_ms, Some(left.unwrap_or(0)))
            }
            Some((load, left)) => with(load, left),
            None if backoff => without(),
            None if leased && state == State::Swr => without(),
            None if leased && waits && !deadlock => Decision::Wait,
            None if leased || !self.may_grant(request.key) => without(),
            None => with(self.grant(request, request.lock), request.lock),
        }
    }

    fn may_grant(&self, key: &str) -> bool {
        let leases = || self.records.iter().filter(|(_, record)| record.lease.is_some());
        let rule_is_full =
            self.one_lease_for_a && key.starts_with('a') && leases().any(|(other, _)| other.starts_with('a'));
        leases().count() < self.max_leases && !rule_is_full
    }

    fn grant(&mut self, request: &LeaseRequest, lock: u64) -> usize {
        let began = self.next_time();
        self.nth += 1;
        let (until, nth, load) = (self.mono + lock, self.nth, self.loads.len());
        let (mono, role) = (self.mono, self.role);
        self.loads.push(Load { key: request.key, token: String::new(), began, mono, role, answered: None });
        let record = self.records.get_mut(request.key).unwrap();
        assert!(record.lease.is_none(), "one live lease per key");
        record.ever_leased = true;
        record.lease = Some(Lease { load, until, nth, client: request.client, owner: request.owner });
        self.add("leases_granted", 1);
        load
    }

    /// Whether a connection would wait for itself, through any number of others.
    fn would_deadlock(&self, key: &str, client: u64) -> bool {
        let (mut key, mut seen) = (key, BTreeSet::new());
        while let Some(lease) = &self.records[key].lease {
            if lease.client == client {
                return true;
            }
            let waits = |record: &KeyRecord| record.queue.iter().any(|waiter| waiter.request.client == lease.client);
            match self.records.iter().find(|(_, record)| waits(record)) {
                Some((next, _)) if seen.insert(*next) => key = next,
                Some(_) => panic!("a deadlock of connections that wait for each other"),
                None => return false,
            }
        }
        false
    }

    /// The verdict on a fill, by all events since its load began.
    fn check_fill(&mut self, key: &'static str, load: &Load) -> Verdict {
        self.expire();
        let record = &self.records[key];
        let conflicting = |tombstone: &&Tombstone| tombstone.at > load.began || load.mono < tombstone.guard;
        if matches!(record.held, Held::Text(_)) || record.written.iter().any(|at| *at > load.began) {
            Verdict::Lost
        } else if self.flushed.iter().any(|at| *at > load.began)
            || record.deleted.iter().any(|tombstone| conflicting(&tombstone))
            || load.mono < self.role_since + self.guard
        {
            Verdict::Dead
        } else if record.staled.iter().any(|tombstone| conflicting(&tombstone)) {
            Verdict::Stale(record.staled.last().unwrap().wall)
        } else {
            Verdict::Good
        }
    }

    fn is_fresh(&self, key: &str) -> bool {
        match &self.records[key].held {
            Held::Entry(entry) => entry.state(self.wall) == State::Fresh,
            Held::Text(_) => true,
            Held::Nothing => false,
        }
    }

    fn put(&mut self, key: &'static str, value: String, life: Life, ended: bool, load_ms: Option<u64>, began: u64) {
        let (fresh_until, stored) = (self.wall + life.fresh, self.wall);
        let expire_at = fresh_until + life.window();
        let value = (!life.absent).then_some(value);
        let record = self.record(key);
        assert!(record.written.iter().all(|at| *at <= began), "a load replaces one that began later");
        record.written.push(began);
        record.held = match life.fresh {
            PAST => Held::Nothing,
            _ => Held::Entry(Entry { value, fresh_until, ended, life, load_ms, stored, expire_at }),
        };
    }

    /// After a store whose load began then.
    fn on_stored(&mut self, key: &'static str, began: u64) {
        self.record(key).backoff = None;
        let lease = self.record(key).lease.as_ref().map(|lease| lease.load);
        if lease.is_some_and(|load| self.loads[load].began < began) {
            self.end_lease(key, "leases_voided");
        }
        self.wake_waiters(key);
    }

    /// After a native command has deleted or written the key.
    fn on_native_command(&mut self, key: &'static str) {
        self.record(key).backoff = None;
        self.end_lease(key, "leases_voided");
        self.wake_waiters(key);
    }

    fn end_lease(&mut self, key: &'static str, how: &'static str) {
        if self.record(key).lease.take().is_some() {
            self.add(how, 1);
        }
    }

    /// Answers waiters as if they asked now, until one of them would wait.
    fn wake_waiters(&mut self, key: &'static str) {
        while let Some(waiter) = self.records[key].queue.first() {
            let request = waiter.request.clone();
            let waiter = self.record(key).queue.remove(0);
            match self.decide(&request, true) {
                Decision::Wait => return self.record(key).queue.insert(0, waiter),
                Decision::Now(decision) => self.answer_waiter(&request, decision, "waits_dropped"),
            }
        }
    }

    /// After a flush waiters are woken in no particular order of keys, which decides whom the limits refuse.
    fn wake_waiters_in_any_order(&mut self) {
        let answers: BTreeMap<u64, String> = std::mem::take(&mut self.node.answers).into_iter().collect();
        let was_granted = |record: &KeyRecord| {
            let first = record.queue.first().and_then(|waiter| answers.get(&waiter.request.client));
            first.is_some_and(|answer| Answer::parse(answer).token.is_some())
        };
        let (first, then): (Vec<_>, Vec<_>) = KEYS.into_iter().partition(|key| was_granted(&self.records[key]));
        first.into_iter().chain(then).for_each(|key| self.wake_waiters(key));
        self.node.answers = answers.into_iter().collect();
    }

    fn answer_waiter(&mut self, request: &LeaseRequest, decision: Expected, when_busy: &'static str) {
        let how = match decision.state {
            "BUSY" => when_busy,
            "MISS" => "waits_promoted",
            "STALE" if decision.token.is_some() => "waits_promoted",
            _ => "waits_served",
        };
        self.answer(request.client, how, decision);
    }

    fn answer(&mut self, client: u64, how: &'static str, decision: Expected) {
        self.add(how, 1);
        self.requests += 1;
        assert!(self.deferred.insert(client, decision).is_none(), "a waiter is answered once");
    }

    fn serve_waiters(&mut self, key: &'static str, value: &str, life: Life) {
        for waiter in std::mem::take(&mut self.record(key).queue) {
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
                    Due::Backoff => self.record(key).backoff = None,
                    // The lease ends at the same time: this waiter may get it.
                    Due::Waiter(_)
                        if self.records[key].lease.as_ref().is_some_and(|lease| lease.until <= self.mono) =>
                    {
                        self.end_lease(key, "leases_expired");
                        self.wake_waiters(key);
                    }
                    Due::Waiter(at) => {
                        let waiter = self.record(key).queue.remove(at);
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
        self.node.advance(ms);
        self.mono += ms;
        self.wall += ms;
    }

    fn next_due(&self) -> Option<(u64, u64, &'static str, Due)> {
        let mut due = Vec::new();
        for (key, record) in &self.records {
            due.extend(record.lease.iter().map(|lease| (lease.until, lease.nth, *key, Due::Lease)));
            due.extend(record.backoff.iter().map(|(until, nth)| (*until, *nth, *key, Due::Backoff)));
            let waiters = record.queue.iter().enumerate();
            due.extend(waiters.map(|(at, waiter)| (waiter.until, waiter.nth, *key, Due::Waiter(at))));
        }
        due.into_iter().min_by_key(|(until, nth, ..)| (*until, *nth))
    }

    /// Active expiry of the server.
    fn expire(&mut self) {
        for record in self.records.values_mut() {
            let gone_at = match &record.held {
                Held::Nothing | Held::Text(None) => continue,
                Held::Text(Some(until)) => *until,
                Held::Entry(entry) => entry.expire_at,
            };
            if gone_at <= self.wall {
                record.held = Held::Nothing;
            }
        }
    }

    // ------------------------------------------------------------------ comparing

    fn compare(&mut self) {
        self.compare_deferred_answers();
        self.expire();
        for key in KEYS {
            let answer = self.call(&format!("GET {key} STATE STALE"));
            self.requests += 1;
            let decision = match &self.records[key].held {
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

    fn compare_deferred_answers(&mut self) {
        let mut expected = std::mem::take(&mut self.deferred);
        for (client, answer) in self.node.late_answers() {
            let decision = expected.remove(&client).unwrap_or_else(|| panic!("{client} got {answer}, but should wait"));
            let key = decision.token.map_or("", |load| self.loads[load].key);
            self.match_answer(key, &answer, &decision);
        }
        assert!(expected.is_empty(), "still waiting: {expected:?}");
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
            None => assert!(given.lease_ms > 0, "{answer}: a retry delay is missing"),
        }
        match (given.token, decision.token) {
            (None, None) => {}
            (Some(token), Some(load)) if self.loads[load].token.is_empty() => {
                assert!(self.loads.iter().all(|other| other.token != token), "a token is granted twice");
                self.loads[load].token = token;
            }
            (Some(token), Some(load)) => assert_eq!(token, self.loads[load].token, "an owner gets its token again"),
            (given, expected) => panic!("{answer}: token {given:?}, expected {expected:?}"),
        }
        if let Some(value) = &given.value {
            let key = self.values.get(value).map_or(key, |value| value.key);
            self.may_be_served(key, given.state, Some(value));
        }
    }

    /// Checks against the history of the key alone that this value may be served now.
    fn may_be_served(&self, key: &str, state: &str, text: Option<&str>) {
        let Some(value) = text.and_then(|text| self.values.get(text)) else { return };
        assert_eq!(value.key, key);
        let record = &self.records[key];
        assert!(record.written.iter().all(|at| *at <= value.began), "{text:?} is served, but a later value was stored");
        let older =
            |tombstone: &Tombstone| tombstone.at > value.began || value.loaded.is_some_and(|at| at < tombstone.guard);
        assert!(!record.deleted.iter().any(older), "{text:?} is served, but was deleted");
        assert!(self.flushed.iter().all(|at| *at < value.began), "{text:?} is served, but was flushed");
        if state == "HIT" {
            let reached = |tombstone: &Tombstone| older(tombstone) && tombstone.spared.as_deref() != text;
            assert!(!record.staled.iter().any(reached), "{text:?} is fresh, but was made stale");
        }
    }

    fn compare_lease(&self, key: &'static str) {
        let (record, leases) = (&self.records[key], &self.node.state.leases);
        let until = |lease: Option<(u64, u64)>| lease.filter(|(until, _)| *until > self.mono);
        let lease = leases.lease(0, key.as_bytes()).map(|lease| (lease.until_ms, lease.client));
        assert_eq!(until(lease), record.lease.as_ref().map(|lease| (lease.until, lease.client)), "the lease of {key}");
        let backoff = leases.backoff_ms(0, key.as_bytes(), self.node.now());
        assert_eq!(backoff, record.backoff.map(|(until, _)| until - self.mono), "the back-off of {key}");
        assert_eq!(leases.waiters_of(0, key.as_bytes()), record.queue.len(), "the waiters of {key}");
        assert!(record.queue.is_empty() || record.lease.is_some(), "waiters without a lease");
    }

    fn compare_counters(&self) {
        let node = self.node.state.stats.all();
        let ends = [
            ("fills", node.fills),
            ("fills_stale", node.fills_stale),
            ("fills_lost", node.fills_lost),
            ("fills_failed", node.fills_failed),
            ("leases_released", node.leases_released),
            ("leases_voided", node.leases_voided),
            ("leases_expired", node.leases_expired),
        ];
        let waits = [
            ("waits_served", node.waits_served),
            ("waits_promoted", node.waits_promoted),
            ("waits_timed_out", node.waits_timed_out),
            ("waits_dropped", node.waits_dropped),
        ];
        let others = [
            ("leases_granted", node.leases_granted),
            ("leases_early", node.leases_early),
            ("fills_late", node.fills_late),
            ("fills_unknown", node.fills_unknown),
        ];
        for (name, count) in ends.iter().chain(&waits).chain(&others) {
            assert_eq!(*count, self.count.get(name).copied().unwrap_or(0), "{name}");
        }
        let sum = |counts: &[(&str, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(node.leases_granted, sum(&ends) + self.node.state.leases.live(), "each lease has one end");
        assert_eq!(node.waits, sum(&waits), "each wait has one end");
        let misses = node.misses_cold + node.misses_expired + node.misses_invalidated + node.misses_evicted;
        let requests = node.hits + node.stale_hits + node.absent_hits + misses + node.busy;
        assert_eq!(requests, self.requests, "each request counts once");
    }

    // ------------------------------------------------------------------ helpers

    fn record(&mut self, key: &'static str) -> &mut KeyRecord {
        self.records.get_mut(key).unwrap()
    }

    fn call(&mut self, line: &str) -> String {
        self.node.call_as(OPERATOR, line)
    }

    fn next_time(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// A recent load.
    fn recent(&self, nth: usize) -> Option<usize> {
        let least = self.loads.len().saturating_sub(5);
        (!self.loads.is_empty()).then(|| self.loads.len() - 1 - nth % (self.loads.len() - least))
    }

    fn holds(&self, load: usize) -> bool {
        let Load { key, role, .. } = self.loads[load];
        role == self.role && self.records[key].lease.as_ref().is_some_and(|lease| lease.load == load)
    }

    fn is_parked(&self, client: u64) -> bool {
        self.records.values().any(|record| record.queue.iter().any(|waiter| waiter.request.client == client))
    }

    fn tombstone(&mut self, guard: u64) -> Tombstone {
        let guard = if guard > 0 { self.mono + guard } else { 0 };
        Tombstone { at: self.next_time(), guard, wall: self.wall, spared: None }
    }

    /// A unique value, recorded with its key and load.
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

/// A parsed reply of `GETLOCK`, or of `GET` with `STATE`.
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
        let [state, value, token, fresh_ms, lease_ms] = parts[..] else { panic!("five fields expected: {text}") };
        let word = |part: &str| (part != "(nil)").then(|| part.trim_matches('"').to_owned());
        let (fresh_ms, lease_ms) = (fresh_ms.parse().unwrap(), lease_ms.parse().unwrap());
        Answer { state: state.trim_matches('"'), value: word(value), token: word(token), fresh_ms, lease_ms }
    }
}
