//! The second soak: invalidations of every kind, while keys are read, loaded, moved, evicted and saved, and while
//! servers crash, restart and fail over.
//!
//! ```text
//!  families   u:1 … u:6   tagged by a rule (of:1 …), too      databases 0 and 1, which are swapped
//!             v:1 … v:6   renamed, copied, moved, restored, as the first
//!             w:1 … w:4   never moved: the only ones that may be absent in the origin
//!  names      TAGS t0 … t4 of:n    PREFIXES, PATTERNS that match some of these    ALL
//! ```
//!
//! Two servers: a primary with `appendfsync always`, and its replica. From time to time the primary is killed and
//! restarts from its AOF; or hands over (`FAILOVER`); or is killed for good, and the replica takes over. Asynchronous
//! replication may then lose invalidations: half of them are followed by `WAIT`, and only those that it confirmed must
//! survive.

use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;
use rand::{SeedableRng, rngs::StdRng};

use super::client::{Client, words};
use super::history::Step;
use super::origin::World;
use crate::support::{SOON, Server, wait_until};

/// The configuration of every server, which may be restarted at any time.
const CONF: &str = "appendonly yes
    appendfsync always
    repl-timeout 10
    smartcache.lock 300ms
    smartcache.sweep-effort 20%";
pub(super) const PREFIXES: [&str; 5] = ["u:", "v:", "w:", "u:1", "v:6"];
pub(super) const PATTERNS: [&str; 6] = ["?:2", "u:*", "*:[13]", "*4", "[vw]:*", "*:?"];

/// A random key that may be moved.
fn movable_key(rng: &mut StdRng) -> String {
    format!("{}:{}", ["u", "v"].choose(rng).expect("two"), rng.random_range(1..=6))
}

fn any_key(rng: &mut StdRng) -> String {
    if rng.random_range(0..5) == 0 { format!("w:{}", rng.random_range(1..=4)) } else { movable_key(rng) }
}

fn any_tag(rng: &mut StdRng) -> String {
    if rng.random_range(0..4) == 0 {
        format!("of:{}", rng.random_range(1..=6))
    } else {
        format!("t{}", rng.random_range(0..5))
    }
}

/// The two servers, and which of them is the primary.
pub(super) struct Pair {
    pub(super) primary: Server,
    pub(super) replica: Server,
}

impl Pair {
    pub(super) fn start() -> Pair {
        let primary = Server::setup().tcp().conf(CONF).start();
        primary.ok("SMARTCACHE.RULE SET tagged MATCH u:* TAG of:{1}");
        let pair = Pair { replica: Pair::replica_of(&primary), primary };
        pair.settle();
        pair
    }

    /// A replica without `replicaof` in its configuration file: after a restart it is a primary.
    fn replica_of(primary: &Server) -> Server {
        let replica = Server::setup().tcp().conf(CONF).start();
        replica.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
        replica
    }

    /// Waits until both have their roles, and each could be restarted from its AOF.
    fn settle(&self) {
        wait_until("the replica is in step", || {
            self.replica.info("master_link_status") == "up" && self.primary.info("connected_slaves") == "1"
        });
        for s in [&self.primary, &self.replica] {
            wait_until("the AOF is complete", || {
                s.info("aof_enabled") == "1"
                    && s.info("aof_rewrite_in_progress") == "0"
                    && s.info("aof_rewrite_scheduled") == "0"
            });
        }
    }

    /// Checks that every command that was replicated or replayed succeeded.
    fn examine(&self) {
        for s in [&self.primary, &self.replica] {
            let log = s.log();
            assert!(!log.contains("== CRITICAL =="), "{log}");
        }
    }

    /// Kills the primary at any time and restarts it, with everything that was answered.
    fn crash(&mut self, world: &World) -> Step {
        let sent = world.now();
        self.primary.restart();
        event(world, sent, "CRASH")
    }

    /// The primary hands over to its replica; nothing is lost.
    fn hand_over(&mut self, world: &World) -> Step {
        self.settle();
        let sent = world.now();
        self.primary.ok(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", self.replica.port()));
        wait_until("the replica has taken over", || self.replica.info("role") == "master");
        wait_until("the primary has stepped down", || self.primary.info("role") == "slave");
        std::mem::swap(&mut self.primary, &mut self.replica);
        self.publish(world);
        self.settle();
        event(world, sent, "HANDOVER")
    }

    /// Kills the primary for good; what was not replicated is lost.
    fn fail_over(&mut self, world: &World) -> Step {
        self.settle();
        let sent = world.now();
        self.primary.kill();
        self.replica.ok("REPLICAOF NO ONE");
        std::mem::swap(&mut self.primary, &mut self.replica);
        self.publish(world);
        let step = event(world, sent, "FAILOVER");
        self.replica = Pair::replica_of(&self.primary);
        self.publish(world);
        self.settle();
        step
    }

    /// Publishes the current sockets.
    pub(super) fn publish(&self, world: &World) {
        *world.socket.lock().unwrap_or_else(PoisonError::into_inner) = self.primary.path("s");
        *world.replica.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.replica.path("s"));
    }

    /// Crashes, handovers and failovers until the end.
    pub(super) fn live(&mut self, world: &World, seed: u64, lasts: Duration) -> Vec<Step> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut steps = Vec::new();
        let began = Instant::now();
        let mut turn = rng.random_range(0..3);
        while began.elapsed() < lasts {
            thread::sleep(Duration::from_millis(rng.random_range(500..2_000)));
            let _alone = world.swap.write().unwrap_or_else(PoisonError::into_inner);
            self.examine();
            turn += 1;
            steps.push(match turn % 3 {
                0 => self.crash(world),
                1 => self.hand_over(world),
                _ => self.fail_over(world),
            });
        }
        self.examine();
        steps
    }
}

fn event(world: &World, sent: u64, what: &str) -> Step {
    // Their ids belong to other connections by now.
    world.conns.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Step { sent, ended: world.now(), conn: 0, db: 0, words: what.into(), answer: "done".into() }
}

impl Client {
    /// Sends a command; reconnects if the server is no longer the primary.
    fn call_primary(&mut self, db: u8, words: Vec<String>) -> Box<str> {
        let answer = self.call(db, words);
        if answer.starts_with("error READONLY") || answer.starts_with("error UNBLOCKED") {
            self.disconnect();
        }
        if answer.starts_with("error") || &*answer == "gone" {
            self.pause(5);
        }
        answer
    }

    fn any_db(&mut self) -> u8 {
        self.rng.random_range(0..2)
    }

    /// Reads and loads.
    pub(super) fn run_loader(mut self) -> Vec<Step> {
        while !self.world.is_over() {
            let (key, db) = (any_key(&mut self.rng), self.any_db());
            match self.rng.random_range(0..100) {
                0..45 => {
                    let mut ask = words!["SMARTCACHE.GETLOCK", key];
                    if self.once_in(4) {
                        ask.extend(words!["WAIT", format!("{}ms", self.rng.random_range(1..100))]);
                    }
                    if self.once_in(4) {
                        ask.extend(words!["BETA", self.rng.random_range(0..20)]);
                    }
                    let answer = self.call_primary(db, ask);
                    if let Some(token) =
                        answer.split(' ').nth(2).filter(|t| *t != "nil" && !answer.starts_with("error"))
                    {
                        self.store_loaded(db, &key, &["TOKEN", token]);
                    }
                }
                45..60 => {
                    let ways: [&[&str]; 4] = [&[], &["STALE"], &["STATE"], &["STATE", "STALE"]];
                    let mut get = words!["SMARTCACHE.GET", key];
                    get.extend(ways.choose(&mut self.rng).expect("four").iter().map(|word| word.to_string()));
                    self.call_primary(db, get);
                }
                60..72 => {
                    let mut get = words!["SMARTCACHE.MGET"];
                    get.extend((0..self.rng.random_range(2..8)).map(|_| any_key(&mut self.rng)).collect::<Vec<_>>());
                    self.call_primary(db, get);
                }
                72..82 => {
                    let stamp = self.call_primary(db, words!["SMARTCACHE.STAMP"]);
                    if stamp.len() >= 20 && !stamp.starts_with("error") {
                        self.store_loaded(db, &key, &["SINCE", &stamp]);
                    }
                }
                82..90 => self.store_loaded(db, &key, &[]),
                90..93 => self.store_several(db),
                93..95 => {
                    let touch = words!["SMARTCACHE.TOUCH", key, "PX", self.rng.random_range(100..3_000)];
                    self.call_primary(db, touch);
                }
                95..97 => drop(self.call_primary(db, words!["EXPIRE", key, 3])),
                _ => self.disconnect(),
            }
            let pause = self.rng.random_range(0..6);
            self.pause(pause);
        }
        self.disconnect();
        self.steps
    }

    /// Stores the result of a load, after a while, once or twice.
    fn store_loaded(&mut self, db: u8, key: &str, claim: &[&str]) {
        if !claim.is_empty() {
            let takes = if self.once_in(8) { self.rng.random_range(50..300) } else { self.rng.random_range(0..40) };
            self.pause(takes);
        }
        if self.once_in(15) && claim.first() == Some(&"TOKEN") {
            self.call_primary(db, words!["SMARTCACHE.UNLOCK", key, claim[1]]);
            return;
        }
        let absent = key.starts_with('w') && self.once_in(3);
        let mut set = match absent {
            true => words!["SMARTCACHE.ABSENT", key],
            false => words!["SMARTCACHE.SET", key, self.named(key)],
        };
        set.extend(self.life(absent));
        set.extend(claim.iter().map(|word| word.to_string()));
        for _ in 0..if self.once_in(6) { 2 } else { 1 } {
            self.call_primary(db, set.clone());
        }
    }

    fn store_several(&mut self, db: u8) {
        let stamp = self.call_primary(db, words!["SMARTCACHE.STAMP"]);
        if stamp.len() < 20 || stamp.starts_with("error") {
            return;
        }
        let takes = self.rng.random_range(0..40);
        self.pause(takes);
        let mut keys: Vec<String> = (0..3).map(|_| any_key(&mut self.rng)).collect();
        keys.sort();
        keys.dedup();
        let mut set = words!["SMARTCACHE.MSET", keys.len()];
        for key in keys {
            let value = self.named(&key);
            set.extend([key, value]);
        }
        set.extend(self.life(false));
        set.extend(words!["SINCE", stamp]);
        self.call_primary(db, set);
    }

    /// Options of a store: lifetime, windows and tags.
    fn life(&mut self, absent: bool) -> Vec<String> {
        let mut words = words!["PX", self.rng.random_range(50..3_000)];
        for window in ["SWR", "SIE"] {
            if !absent && self.once_in(2) {
                words.extend(words![window, format!("{}ms", self.rng.random_range(20..2_000))]);
            }
        }
        let tags: std::collections::BTreeSet<String> =
            (0..self.rng.random_range(0..4)).map(|_| any_tag(&mut self.rng)).collect();
        if !tags.is_empty() {
            words.extend(words!["TAGS", tags.len()]);
            words.extend(tags);
        }
        words
    }

    /// A value that contains its identity: `u:1#482`.
    fn named(&mut self, key: &str) -> String {
        let len = match self.rng.random_range(0..200) {
            0 => 100_000, // compressed by a worker
            1..50 => 2_000,
            _ => 10,
        };
        format!("{key}#{} {}", self.world.next_number(), "0123456789".repeat(len / 10))
    }

    /// Invalidates in every way.
    pub(super) fn run_invalidator(mut self) -> Vec<Step> {
        while !self.world.is_over() {
            let pause = self.rng.random_range(0..100);
            self.pause(pause);
            let db = self.any_db();
            if self.once_in(10) {
                let key = format!("w:{}", self.rng.random_range(1..=4));
                let how = ["SMARTCACHE.DEL", "SMARTCACHE.STALE"].choose(&mut self.rng).expect("two");
                self.call_primary(db, words![how, key]);
                continue;
            }
            let mut words = words!["SMARTCACHE.INVALIDATE"];
            let count = self.rng.random_range(1..=2);
            let names: Vec<String> = match self.rng.random_range(0..100) {
                0..55 => {
                    words.push("TAGS".to_owned());
                    (0..count).map(|_| any_tag(&mut self.rng)).collect()
                }
                55..73 => {
                    words.push("PREFIXES".to_owned());
                    PREFIXES.choose_multiple(&mut self.rng, count).map(|name| name.to_string()).collect()
                }
                73..92 => {
                    words.push("PATTERNS".to_owned());
                    PATTERNS.choose_multiple(&mut self.rng, count).map(|name| name.to_string()).collect()
                }
                _ => {
                    words.push("ALL".to_owned());
                    Vec::new()
                }
            };
            if !names.is_empty() {
                words.extend(words![names.len()]);
                words.extend(names);
            }
            if self.once_in(2) {
                words.push("SOFT".to_owned());
                if self.once_in(3) {
                    words.extend(words!["OVER", format!("{}ms", self.rng.random_range(20..400))]);
                }
            }
            if self.once_in(5) {
                words.extend(words!["GUARD", format!("{}ms", self.rng.random_range(20..300))]);
            }
            if self.once_in(6) {
                words.extend(words!["WAIT", format!("{}ms", self.rng.random_range(20..300))]);
            }
            if self.once_in(25) {
                let within = self.rng.random_range(0..20);
                self.call_and_disconnect(db, words, within);
                continue;
            }
            let done = self.call_primary(db, words);
            if !done.starts_with("error") && &*done != "gone" && self.once_in(2) {
                self.call_primary(db, words!["WAIT", 1, 500]);
            }
        }
        self.disconnect();
        self.steps
    }

    /// Moves entries with native commands.
    pub(super) fn run_mover(mut self) -> Vec<Step> {
        let mut dumps: Vec<(String, Vec<u8>, u64)> = Vec::new();
        while !self.world.is_over() {
            let pause = self.rng.random_range(0..12);
            self.pause(pause);
            let (from, to) = (movable_key(&mut self.rng), movable_key(&mut self.rng));
            let db = self.any_db();
            match self.rng.random_range(0..100) {
                0..20 => drop(self.call_primary(db, words!["RENAME", from, to])),
                20..45 => {
                    let copy = words!["COPY", from, to, "DB", self.any_db(), "REPLACE"];
                    self.call_primary(db, copy);
                }
                45..60 if self.world.moves => drop(self.call_primary(db, words!["MOVE", from, 1 - db])),
                60..80 => {
                    let words = words!["DUMP", from];
                    let bytes: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
                    if let (_, Some(crate::support::Reply::Bulk(dump))) = self.call_bytes(db, &bytes, &words) {
                        let number = self.world.next_number();
                        if let Some(step) = self.steps.last_mut() {
                            step.answer = format!("dump{number}").into();
                        }
                        dumps.push((from, dump, number));
                    }
                }
                _ => {
                    let Some((_, dump, number)) = dumps.choose(&mut self.rng).cloned() else { continue };
                    let words = words!["RESTORE", to, 0, format!("dump{number}"), "REPLACE"];
                    let mut bytes: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
                    bytes[3] = &dump;
                    self.call_bytes(db, &bytes, &words);
                    if dumps.len() > 20 {
                        dumps.remove(0);
                    }
                }
            }
        }
        self.disconnect();
        self.steps
    }

    /// Reads from the replica.
    pub(super) fn run_replica_reader(mut self) -> Vec<Step> {
        self.at_the_replica = true;
        while !self.world.is_over() {
            let (key, db) = (any_key(&mut self.rng), self.any_db());
            match self.rng.random_range(0..3) {
                0 => drop(self.call_primary(db, words!["SMARTCACHE.GET", key, "STATE", "STALE"])),
                1 => drop(self.call_primary(db, words!["SMARTCACHE.GET", key])),
                _ => {
                    let get = words!["SMARTCACHE.MGET", key, any_key(&mut self.rng), any_key(&mut self.rng)];
                    self.call_primary(db, get);
                }
            }
            let pause = self.rng.random_range(0..6);
            self.pause(pause);
            if self.once_in(100) {
                self.disconnect(); // another server may be the replica by now
            }
        }
        self.disconnect();
        self.steps
    }

    /// Disturbs all clients.
    pub(super) fn run_operator(mut self) -> Vec<Step> {
        while !self.world.is_over() {
            let pause = self.rng.random_range(20..120);
            self.pause(pause);
            let db = self.any_db();
            let world = self.world.clone();
            if self.once_in(8) {
                self.swap_databases();
                continue;
            }
            let _same_servers = world.swap.read().unwrap_or_else(PoisonError::into_inner);
            let victim = world.conns.lock().unwrap_or_else(PoisonError::into_inner).choose(&mut self.rng).copied();
            let Some(victim) = victim else { continue };
            match self.rng.random_range(0..100) {
                0..25 => drop(self.call_primary(0, words!["CLIENT", "KILL", "ID", victim])),
                25..35 => drop(self.call_primary(0, words!["CLIENT", "UNBLOCK", victim])),
                35..40 => {
                    let how = ["SYNC", "ASYNC"].choose(&mut self.rng).expect("two ways");
                    self.call_primary(db, words!["FLUSHDB", how]);
                }
                40..62 => drop(self.call_primary(0, words!["BGSAVE"])),
                62..69 => {
                    let preamble = ["yes", "no"].choose(&mut self.rng).expect("two ways");
                    self.call_primary(0, words!["CONFIG", "SET", "aof-use-rdb-preamble", preamble]);
                    self.call_primary(0, words!["BGREWRITEAOF"]);
                }
                69..73 => drop(self.call_primary(0, words!["DEBUG", "RELOAD"])),
                73..78 => drop(self.call_primary(db, words!["SMARTCACHE.PREVIEW", "ALL"])),
                78..84 => self.evict_some(),
                84..90 => {
                    let effort = ["0", "1%", "20%", "100%"].choose(&mut self.rng).expect("four");
                    self.call_primary(0, words!["CONFIG", "SET", "smartcache.sweep-effort", effort]);
                }
                90..94 => {
                    // Unblocking a paused client crashes Redis 7.0: so the pause ends before the next step.
                    let ms = self.rng.random_range(5..60);
                    self.call_primary(0, words!["CLIENT", "PAUSE", ms, "WRITE"]);
                    self.pause(ms);
                    self.call_primary(0, words!["CLIENT", "UNPAUSE"]);
                }
                _ => drop(self.call_primary(db, words!["SMARTCACHE.PREVIEW", "TAGS", 2, "t1", "of:2"])),
            }
        }
        self.steps
    }

    /// Swaps the databases; no failover until both servers have done so.
    fn swap_databases(&mut self) {
        let world = self.world.clone();
        let _alone = world.swap.write().unwrap_or_else(PoisonError::into_inner);
        self.disconnect(); // reconnect to the primary
        let sent = world.now();
        let deadline = Instant::now() + SOON;
        let answer = self.call(0, words!["SWAPDB", 0, 1]);
        self.steps.pop();
        assert_eq!(&*answer, "OK", "nothing disturbs this");
        while &*self.call(0, words!["WAIT", 1, 100]) != "1" {
            assert!(Instant::now() < deadline, "the replica is not in step");
        }
        let words = "SWAPDB 0 1".into();
        self.steps.push(Step { sent, ended: world.now(), conn: 0, db: 0, words, answer });
    }

    /// Limits memory for a short time.
    fn evict_some(&mut self) {
        let (_, info) = self.call_bytes(0, &[b"INFO", b"memory"], &["INFO".to_owned()]);
        if let Some(step) = self.steps.last_mut() {
            step.answer = "…".into();
        }
        let Some(crate::support::Reply::Bulk(info)) = info else { return };
        let info = String::from_utf8_lossy(&info).into_owned();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).and_then(|n| n.parse::<u64>().ok());
        let Some(used) = used else { return };
        self.call_primary(0, words!["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
        self.call_primary(0, words!["CONFIG", "SET", "maxmemory", used - 10_000]);
        let pause = self.rng.random_range(1..10);
        self.pause(pause);
        // Undo it, wherever the primary is by now.
        while &*self.call_primary(0, words!["CONFIG", "SET", "maxmemory", 0]) != "OK" {}
    }
}
