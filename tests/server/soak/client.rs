//! The clients of the soak: readers that load, writers, operators, and a ticker.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::history::Step;
use super::origin::{Key, World, is_absent};
use crate::support::{Conn, Reply, resp};

/// Longer than any answer may take; the checker reports who got none.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client with a connection, which may be lost, and a record of its commands and answers.
pub(crate) struct Client {
    pub(super) world: Arc<World>,
    pub(super) rng: StdRng,
    conn: Option<Conn>,
    id: u64,
    db: u8,
    /// Whether its connections may be killed.
    mortal: bool,
    /// Whether it is connected to the replica.
    pub(super) at_the_replica: bool,
    pub(super) steps: Vec<Step>,
}

/// `words!["SET", key, 5]`: the words of a command.
macro_rules! words {
    ($($word:expr),* $(,)?) => { vec![$($word.to_string()),*] };
}
pub(super) use words;

impl Client {
    pub(crate) fn new(world: Arc<World>, seed: u64, mortal: bool) -> Client {
        let rng = StdRng::seed_from_u64(seed);
        Client { world, rng, conn: None, id: 0, db: 0, mortal, at_the_replica: false, steps: Vec::new() }
    }

    // ---- roles ----

    /// Reads, loads and writes until the end, in every way that a client may.
    pub(crate) fn live(mut self) -> Vec<Step> {
        while !self.world.is_over() {
            let world = self.world.clone();
            let key = world.any_key(&mut self.rng);
            let db = *key.dbs.choose(&mut self.rng).expect("a key has a database");
            match self.rng.random_range(0..100) {
                0..70 => self.read_aside(key, db),
                70..84 => self.read(key, db),
                84..88 => self.load_since(key, db),
                88..90 => self.load_batch(db),
                90..97 => self.write(key),
                97 => drop(self.call(db, words!["SMARTCACHE.DEL", key.name])),
                98 => drop(self.call(db, words!["SMARTCACHE.STALE", key.name])),
                _ => self.disconnect(),
            }
            let pause = self.rng.random_range(0..8);
            self.pause(pause);
        }
        self.call_with_echo(0, None); // answers still on their way arrive before this one
        self.disconnect();
        self.steps
    }

    /// Disturbs the others from time to time.
    pub(crate) fn operate(mut self) -> Vec<Step> {
        while !self.world.is_over() {
            let pause = self.rng.random_range(5..60);
            self.pause(pause);
            let world = self.world.clone();
            let victim = world.conns.lock().unwrap_or_else(PoisonError::into_inner).choose(&mut self.rng).copied();
            let victim = victim.unwrap_or_default();
            let key = world.any_key(&mut self.rng);
            let db = *key.dbs.choose(&mut self.rng).expect("a key has a database");
            match self.rng.random_range(0..100) {
                0..30 => drop(self.call(0, words!["CLIENT", "KILL", "ID", victim])),
                30..45 => drop(self.call(0, words!["CLIENT", "UNBLOCK", victim])),
                45..50 => drop(self.call(0, words!["CLIENT", "UNBLOCK", victim, "ERROR"])),
                50..58 => {
                    let how = ["SYNC", "ASYNC"].choose(&mut self.rng).expect("two ways");
                    drop(self.call(db, words!["FLUSHDB", how]));
                }
                58..68 => {
                    let _alone = world.swap.write().unwrap_or_else(PoisonError::into_inner);
                    drop(self.call(0, words!["SWAPDB", 2, 3]));
                }
                68..76 => drop(self.call(db, words!["RENAME", key.name, "aside"])),
                76..86 => {
                    let ms = self.rng.random_range(1..200);
                    drop(self.call(db, words!["PEXPIRE", key.name, ms]));
                }
                86..90 => self.set_for_a_while("max-leases", "4", "100000"),
                90..94 => self.set_for_a_while("max-waiters", "3", "0"),
                94..97 => self.set_for_a_while("lock", "50ms", "300ms"),
                97 => drop(self.call(0, words!["BGSAVE"])),
                98 => drop(self.call(0, words!["DEBUG", "RELOAD"])),
                _ => drop(self.call(0, words!["FLUSHALL"])),
            }
        }
        self.steps
    }

    /// Sends `PING` every few milliseconds: proof that server and test were running.
    pub(crate) fn tick(mut self) -> Vec<Step> {
        while !self.world.is_over() {
            self.call(0, words!["PING"]);
            self.pause(3);
        }
        self.steps
    }

    // ---- operations ----

    /// The cache-aside read.
    fn read_aside(&mut self, key: &Key, db: u8) {
        let mut ask = words!["SMARTCACHE.GETLOCK", key.name];
        if self.once_in(10) {
            // The default.
        } else {
            ask.extend(words!["LOCK", format!("{}ms", self.rng.random_range(20..300))]);
        }
        let mut wait = 0;
        if self.once_in(2) {
            wait = self.rng.random_range(0..500);
            ask.extend(words!["WAIT", format!("{wait}ms")]);
        }
        if self.once_in(10) {
            ask.extend(words!["OWNER", format!("o{}", self.rng.random_range(0..3))]);
        }
        if self.once_in(3) {
            ask.extend(words!["BETA", self.rng.random_range(0..20)]);
        }
        if self.once_in(20) {
            let within = self.rng.random_range(0..wait + 20);
            return self.call_and_disconnect(db, ask, within);
        }
        let answer = if self.once_in(8) { self.call_with_echo(db, Some(ask)) } else { self.call(db, ask) };
        match answer.split(' ').nth(2) {
            Some(token) if token != "nil" && !answer.starts_with("error") => self.load(key, db, token),
            _ if answer.starts_with("BUSY") => {
                let pause = self.rng.random_range(0..20);
                self.pause(pause);
            }
            _ => {}
        }
    }

    /// Loads, and then stores, unlocks, extends or abandons.
    fn load(&mut self, key: &Key, db: u8, token: &str) {
        let takes = if self.once_in(10) { self.rng.random_range(100..450) } else { self.rng.random_range(0..60) };
        let at = self.rng.random_range(0..=takes);
        self.pause(at);
        let version = key.load();
        self.pause(takes - at);
        match self.rng.random_range(0..100) {
            0..8 => drop(self.call(db, words!["SMARTCACHE.UNLOCK", key.name, token])),
            8..14 => {
                let ms = self.rng.random_range(10..200);
                drop(self.call(db, words!["SMARTCACHE.UNLOCK", key.name, token, "BACKOFF", format!("{ms}ms")]));
                if self.once_in(4) {
                    self.store(key, db, version, &["TOKEN", token], 1);
                }
            }
            14..20 => self.disconnect(),
            20..24 => {}
            24..28 => {
                let other = self.world.clone();
                let other = other.any_key(&mut self.rng);
                let other_db = other.dbs[0];
                if (&other.name, other_db) != (&key.name, db) {
                    self.store(other, other_db, other.load(), &["TOKEN", token], 1);
                }
                self.store(key, db, version, &["TOKEN", "forged"], 1);
                self.store(key, db, version, &["TOKEN", token], 1);
            }
            28..34 => {
                let ms = self.rng.random_range(5..200);
                drop(self.call(db, words!["SMARTCACHE.EXTEND", key.name, token, format!("{ms}ms")]));
                self.pause(ms / 3);
                self.store(key, db, version, &["TOKEN", token], 1);
            }
            34..48 => drop(self.store(key, db, version, &["TOKEN", token], 2)),
            _ => drop(self.store(key, db, version, &["TOKEN", token], 1)),
        }
    }

    /// Stores this version `times` times.
    fn store(&mut self, key: &Key, db: u8, version: u64, claim: &[&str], times: usize) -> bool {
        let mut set = match is_absent(version) {
            true => words!["SMARTCACHE.ABSENT", key.name],
            false => words!["SMARTCACHE.SET", key.name, self.value(key, version)],
        };
        set.extend(words!["PX", self.lifetime()]);
        if !is_absent(version) {
            self.add_windows(&mut set);
        }
        set.extend(claim.iter().map(|word| word.to_string()));
        let mut acknowledged = false;
        for _ in 0..times {
            acknowledged |= &*self.call(db, set.clone()) == "OK";
        }
        acknowledged
    }

    /// In milliseconds: short, so that there are many loads, or long enough for others to interfere.
    fn lifetime(&mut self) -> u64 {
        let most = if self.once_in(3) { 1_000 } else { 100 };
        self.rng.random_range(5..most)
    }

    fn add_windows(&mut self, set: &mut Vec<String>) {
        for window in ["SWR", "SIE"] {
            if self.once_in(3) {
                set.extend(words![window, format!("{}ms", self.rng.random_range(20..500))]);
            }
        }
    }

    fn value(&mut self, key: &Key, version: u64) -> String {
        let len = match self.rng.random_range(0..200) {
            0 => 100_000, // compressed by a worker
            1..50 => 2_000,
            _ => 10,
        };
        format!("{} {}", self.world.name(key, version), "0123456789".repeat(len / 10))
    }

    fn read(&mut self, key: &Key, db: u8) {
        let mut get = words!["SMARTCACHE.GET", key.name];
        get.extend(
            [&[][..], &["STALE"], &["STATE"], &["STATE", "STALE"]]
                .choose(&mut self.rng)
                .expect("four ways")
                .iter()
                .map(|word| word.to_string()),
        );
        self.call(db, get);
    }

    /// A load without a lease.
    fn load_since(&mut self, key: &Key, db: u8) {
        let stamp = self.call(db, words!["SMARTCACHE.STAMP"]);
        if stamp.len() < 20 {
            return; // no answer
        }
        let version = key.load();
        let takes = self.rng.random_range(0..60);
        self.pause(takes);
        self.store(key, db, version, &["SINCE", &stamp], 1);
    }

    /// Loads several keys at once.
    fn load_batch(&mut self, db: u8) {
        let stamp = self.call(db, words!["SMARTCACHE.STAMP"]);
        if stamp.len() < 20 {
            return;
        }
        let world = self.world.clone();
        let loaded: Vec<(&Key, u64)> = world
            .keys
            .iter()
            .filter(|key| key.dbs.contains(&db))
            .map(|key| (key, key.load()))
            .filter(|(_, version)| !is_absent(*version))
            .take(3)
            .collect();
        let takes = self.rng.random_range(0..60);
        self.pause(takes);
        let mut set = words!["SMARTCACHE.MSET", loaded.len()];
        for (key, version) in &loaded {
            let value = self.value(key, *version);
            set.extend(words![key.name, value]);
        }
        set.extend(words!["PX", self.lifetime(), "SINCE", stamp]);
        if !loaded.is_empty() {
            self.call(db, set);
        }
    }

    /// Writes the origin, and then invalidates the key in all its databases until each has acknowledged it.
    fn write(&mut self, key: &Key) {
        let world = self.world.clone();
        let _one = key.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _still = (key.dbs.len() > 1).then(|| world.swap.read().unwrap_or_else(PoisonError::into_inner));
        let before = world.now();
        let version = key.write();
        self.steps.push(Step {
            sent: before,
            ended: world.now(),
            conn: 0,
            db: key.dbs[0],
            words: format!("WRITE {} {version}", key.name).into(),
            answer: "done".into(),
        });
        let how = self.rng.random_range(0..if world.guards_native { 12 } else { 8 });
        for db in key.dbs {
            loop {
                let answer = match how {
                    0..3 => self.call(*db, words!["SMARTCACHE.DEL", key.name]),
                    3..6 => self.call(*db, words!["SMARTCACHE.STALE", key.name]),
                    6..8 => match self.store(key, *db, version, &[], 1) {
                        true => "OK".into(),
                        false => "gone".into(),
                    },
                    8..10 => self.call(*db, words!["DEL", key.name]),
                    10 => self.call(*db, words!["UNLINK", key.name]),
                    _ => {
                        let set = words!["SET", key.name, self.value(key, version), "PX", self.lifetime()];
                        self.call(*db, set)
                    }
                };
                if &*answer != "gone" && !answer.starts_with("error") {
                    break;
                }
            }
        }
    }

    /// Changes a setting for a while.
    fn set_for_a_while(&mut self, name: &str, odd: &str, usual: &str) {
        self.call(0, words!["CONFIG", "SET", format!("smartcache.{name}"), odd]);
        let ms = self.rng.random_range(20..200);
        self.pause(ms);
        self.call(0, words!["CONFIG", "SET", format!("smartcache.{name}"), usual]);
    }

    // ---- connection ----

    /// Sends a command and records the answer.
    pub(super) fn call(&mut self, db: u8, words: Vec<String>) -> Box<str> {
        let bytes: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        self.call_bytes(db, &bytes, &words).0
    }

    /// Sends any bytes, recorded as these words. Also returns the raw reply.
    pub(super) fn call_bytes(&mut self, db: u8, bytes: &[&[u8]], words: &[String]) -> (Box<str>, Option<Reply>) {
        self.connect_and_select(db);
        let sent = self.world.now();
        let reply = self.conn.as_mut().map(|conn| conn.try_call(bytes));
        let bulk = reply.as_ref().and_then(|reply| reply.as_ref().ok()).cloned();
        let answer = self.text_of(reply);
        self.record(sent, words, answer.clone());
        (answer, bulk)
    }

    /// Sends a command and `ECHO` in one pipeline, so that a missing or superfluous answer is noticed.
    fn call_with_echo(&mut self, db: u8, words: Option<Vec<String>>) -> Box<str> {
        self.connect_and_select(db);
        let echo = words!["ECHO", format!("e{}", self.rng.random::<u32>())];
        let sent = self.world.now();
        let mut both = Vec::new();
        for words in words.iter().chain([&echo]) {
            both.extend(resp::encode(&words.iter().map(String::as_bytes).collect::<Vec<_>>()));
        }
        let Some(conn) = &mut self.conn else { return "gone".into() };
        let was_sent = conn.send_raw(&both);
        let mut answer = "gone".into();
        if let Some(words) = words {
            let reply = was_sent.is_ok().then(|| self.conn.as_mut().map(Conn::receive)).flatten();
            answer = self.text_of(reply);
            self.record(sent, &words, answer.clone());
        }
        if let Some(conn) = &mut self.conn {
            let reply = conn.receive();
            let echoed = self.text_of(Some(reply));
            self.record(sent, &echo, echoed);
        }
        answer
    }

    /// Sends a command and closes the connection, after the answer or before it.
    pub(super) fn call_and_disconnect(&mut self, db: u8, words: Vec<String>, within_ms: u64) {
        self.connect_and_select(db);
        let sent = self.world.now();
        let Some(conn) = &mut self.conn else { return };
        let was_sent = conn.send(&words.iter().map(String::as_bytes).collect::<Vec<_>>());
        let reply = was_sent.and_then(|()| conn.receive_within(Duration::from_millis(within_ms)));
        let answer = match self.text_of(Some(reply)) {
            nothing if &*nothing == "silence" => "left".into(),
            answer => answer,
        };
        self.record(sent, &words, answer);
        self.disconnect();
    }

    fn record(&mut self, sent: u64, words: &[String], answer: Box<str>) {
        // Only the name of a value.
        let shown: Vec<&str> = words.iter().map(|word| word.split(' ').next().unwrap_or_default()).collect();
        let mut shown = shown.join(" ");
        if self.at_the_replica {
            shown.insert_str(0, "REPLICA ");
        }
        let ended = self.world.now();
        let (conn, db) = (self.id, self.db);
        self.steps.push(Step { sent, ended, conn, db, words: shown.into(), answer });
    }

    fn text_of(&mut self, reply: Option<std::io::Result<Reply>>) -> Box<str> {
        match reply {
            Some(Ok(reply)) => text(&reply).into(),
            Some(Err(e)) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.disconnect();
                "silence".into()
            }
            Some(Err(_)) | None => {
                self.disconnect();
                "gone".into()
            }
        }
    }

    /// Connects if needed, and selects the database.
    fn connect_and_select(&mut self, db: u8) {
        let since = Instant::now();
        while self.conn.is_none() {
            let opened = Conn::open_for(&self.world.socket(self.at_the_replica), PATIENCE);
            let mut conn = match opened {
                Ok(conn) => conn,
                // The server is being restarted.
                Err(e) if since.elapsed() > PATIENCE => panic!("no connection: {e}"),
                Err(_) => {
                    self.pause(2);
                    continue;
                }
            };
            if let Ok(Reply::Int(id)) = conn.try_call(&[b"CLIENT", b"ID"]) {
                (self.conn, self.id, self.db) = (Some(conn), id as u64, 0);
                if self.mortal {
                    self.world.conns.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
                }
            }
        }
        if self.db != db {
            self.db = db; // counts from the next step
            self.select_db(db);
        }
    }

    fn select_db(&mut self, db: u8) {
        let words = words!["SELECT", db];
        let sent = self.world.now();
        let reply = self.conn.as_mut().map(|conn| conn.try_call(&[b"SELECT", words[1].as_bytes()]));
        let answer = self.text_of(reply);
        let lost = !answer.starts_with("OK");
        self.record(sent, &words, answer);
        if lost {
            self.connect_and_select(db);
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.conn = None;
        self.world.conns.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != self.id);
    }

    pub(super) fn pause(&self, ms: u64) {
        if ms > 0 {
            thread::sleep(Duration::from_millis(ms));
        }
    }

    pub(super) fn once_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }
}

/// A reply in one line; values are shortened to their names.
pub(crate) fn text(reply: &Reply) -> String {
    match reply {
        Reply::Nil => "nil".to_owned(),
        Reply::Int(n) => n.to_string(),
        Reply::Simple(text) => text.clone(),
        Reply::Error(text) => format!("error {text}"),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).split(' ').next().unwrap_or_default().to_owned(),
        Reply::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string().replace('\n', " "),
    }
}
