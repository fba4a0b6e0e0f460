//! The third soak: a user with narrow rights does its worst, and nobody else may notice.
//!
//! ```text
//!  evil          ~evil:*, and tags evil:*    floods of invalidations, guards, leases and waits, wrong words
//!  reader        app:0 … app:199             entries that nobody may end: each read is a hit, with the right value
//!  loaders       app:load:N                  each new key: one loads, the other waits, and the fill is `OK`
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use smartcache::commands::COMMANDS;

use crate::acl_recipes;
use crate::support::{Conn, Got, Reply, SOON, Server, resp, wait_until};

/// Entries of the application.
const KEYS: u64 = 200;
/// Connections of the hostile user that attack, and that only wait.
const ATTACKERS: u64 = 4;
const PARKED: usize = 80;
/// Small limits, so that the attacks reach them.
const CONF: &str = "maxmemory 256mb
    maxmemory-policy allkeys-lru
    smartcache.max-leases 2000
    smartcache.max-waiters 100
    smartcache.max-prefixes 5000
    smartcache.max-patterns 100";

/// What all threads share.
struct Shared {
    socket: PathBuf,
    over: AtomicBool,
    /// Commands of the hostile user that were answered, and those of them that were refused.
    attacks: AtomicU64,
    refused: AtomicU64,
}

impl Shared {
    fn login(&self, user: &str) -> Conn {
        let mut conn = Conn::open(&self.socket).expect("a connection");
        assert_eq!(conn.call(&format!("AUTH {user} password")).text(), "OK");
        conn
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Relaxed)
    }
}

/// `n word …`, with words that begin as the hostile user may say.
fn counted(rng: &mut StdRng, n: u64) -> String {
    let words: Vec<String> = (0..n).map(|_| format!("evil:{}", rng.random_range(0..1_000_000_000_u64))).collect();
    format!("{n} {}", words.join(" "))
}

/// One attack: commands that are sent together.
fn attack(rng: &mut StdRng) -> Vec<String> {
    let key = format!("evil:{}", rng.random_range(0..50));
    let how = ["", " GUARD 1d", " GUARD 36500d", " SOFT OVER 1d", " SOFT GUARD 1d", " WAIT 20ms"];
    let how = how[rng.random_range(0..how.len())];
    match rng.random_range(0..11) {
        0 => (0..50).map(|_| format!("SMARTCACHE.INVALIDATE TAGS {}{how}", counted(rng, 100))).collect(),
        1 => (0..50).map(|_| format!("SMARTCACHE.INVALIDATE PREFIXES {}{how}", counted(rng, 100))).collect(),
        2 => vec![format!("SMARTCACHE.INVALIDATE TAGS {}{how}", counted(rng, 5_000))],
        3 => {
            let long = "x".repeat(20_000);
            (0..20).map(|n| format!("SMARTCACHE.INVALIDATE PREFIXES 1 {key}{long}{n}")).collect()
        }
        4 => (0..500)
            .map(|_| format!("SMARTCACHE.GETLOCK evil:{} LOCK 10m", rng.random_range(0..1_000_000_u64)))
            .collect(),
        5 => vec![format!("SMARTCACHE.MGET {}", counted(rng, 10_000).split_once(' ').expect("a count").1)],
        6 => {
            let one = |_| format!("SMARTCACHE.PREVIEW PREFIXES 1 {key}");
            (0..20).map(one).chain((0..20).map(|_| "SMARTCACHE.PREVIEW TAGS 1 evil:1".into())).collect()
        }
        7 => (0..100)
            .map(|_| {
                let tags: Vec<String> = (0..64).map(|_| format!("evil:{}", rng.random_range(0..20_000))).collect();
                format!("SMARTCACHE.SET {key} {} TAGS 64 {}", "v".repeat(100), tags.join(" "))
            })
            .collect(),
        8 => ["LOCK 36500d", "WAIT 36500d", "LOCK -1", "BETA 1e99", "LOCK", "OWNER"]
            .map(|words| format!("SMARTCACHE.GETLOCK {key} {words}"))
            .into(),
        9 => [
            "SMARTCACHE.INVALIDATE ALL",
            "SMARTCACHE.INVALIDATE PATTERNS 1 app:*",
            "SMARTCACHE.INVALIDATE PREFIXES 1 app:",
            "SMARTCACHE.INVALIDATE PREFIXES 1 e",
            "SMARTCACHE.INVALIDATE PREFIXES 2 evil: app:",
            "SMARTCACHE.INVALIDATE TAGS 2 evil:1 app:t:1",
            "SMARTCACHE.PREVIEW ALL",
            "SMARTCACHE.GET app:1",
            "SMARTCACHE.MGET evil:1 app:1",
            "SMARTCACHE.GETLOCK app:1",
            "SMARTCACHE.DEL app:1",
            "SMARTCACHE.STALE app:1",
            "SMARTCACHE.SET app:1 bad",
            "SMARTCACHE.STORE app:1 bad",
            "SMARTCACHE.MARK 5 5 0 HARD 0 ALL",
            "SMARTCACHE.RULE SET all MATCH * TTL 1ms MAX 1ms",
            "SMARTCACHE.RULE DEL all",
            "SMARTCACHE.RESETSTAT",
            "CONFIG SET smartcache.max-ttl 1ms",
            "FLUSHALL",
        ]
        .map(str::to_owned)
        .into(),
        _ => {
            let token = "A".repeat(32);
            [
                format!("SMARTCACHE.SET {key} v TOKEN {token}"),
                format!("SMARTCACHE.SET {key} v SINCE {token}"),
                format!("SMARTCACHE.UNLOCK {key} {token} BACKOFF 36500d"),
                format!("SMARTCACHE.EXTEND {key} {token} 10m"),
                format!("SMARTCACHE.STALE {key}"),
                format!("SMARTCACHE.DEL {key}"),
                "SMARTCACHE.HOTKEYS COUNT 100".into(),
            ]
            .into()
        }
    }
}

/// What the hostile user is refused must be what is not its own.
fn attacker(shared: &Shared, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut conn = shared.login("evil");
    while shared.goes_on() {
        let lines = attack(&mut rng);
        let pipeline: Vec<u8> = lines
            .iter()
            .flat_map(|line| resp::encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
            .collect();
        conn.send_raw(&pipeline).expect("sent");
        for line in &lines {
            let reply = conn.receive().expect("an answer");
            shared.attacks.fetch_add(1, Relaxed);
            shared.refused.fetch_add(u64::from(reply.is_error()), Relaxed);
            let names_the_application = line.contains("app:") || line.ends_with(" ALL");
            assert!(reply.is_error() || !names_the_application, "{line}\n{reply}");
            assert!(!reply.to_string().contains("\"app:"), "{line}\n{reply}");
        }
    }
}

/// Fills the places of waiters, and comes back as soon as it is sent away.
fn parker(shared: &Shared) {
    let mut holder = shared.login("evil");
    let mut parked: Vec<Conn> = (0..PARKED).map(|_| shared.login("evil")).collect();
    while shared.goes_on() {
        holder.call("SMARTCACHE.GETLOCK evil:held LOCK 10m");
        for conn in &mut parked {
            conn.send(&[b"SMARTCACHE.GETLOCK", b"evil:held", b"WAIT", b"500ms"]).expect("sent");
        }
        for conn in &mut parked {
            conn.receive().expect("an answer");
        }
    }
}

/// Reads what nobody may end.
fn reader(shared: &Shared, seed: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut conn = shared.login("application");
    let mut reads = 0;
    while shared.goes_on() {
        let n = rng.random_range(0..KEYS);
        let reply = conn.call(&format!("SMARTCACHE.GETLOCK app:{n}"));
        assert_eq!(Got::of(&reply).brief(), format!("HIT value {n}"), "after {reads} reads");
        reads += 1;
    }
    reads
}

/// Loads one new key after the other: the first caller gets the lease, the second waits for it, both get the value.
fn loader(shared: &Shared, name: &str) -> u64 {
    let (mut one, mut two) = (shared.login("application"), shared.login("application"));
    let (mut loads, mut collisions) = (0, 0);
    while shared.goes_on() {
        let key = format!("app:load:{name}:{loads}");
        let got = one.getlock(&format!("{key} WAIT 30s LOCK 5m"));
        assert_eq!(got.brief(), "MISS +", "{key}");
        two.send_getlock(&format!("{key} WAIT 30s LOCK 5m"));
        thread::sleep(Duration::from_millis(2)); // the load
        let set = format!("SMARTCACHE.SET {key} loaded TAGS 1 app:loaded TOKEN {}", got.token());
        let filled = one.call(&set);
        let got = Got::of(&two.receive().expect("an answer"));
        loads += 1;
        if filled == Reply::Bulk(b"STALE".to_vec()) {
            // A tag of its own and one of thousands that the user has just named share a slot of a table.
            collisions += 1;
            assert_eq!(got.brief(), "MISS +", "{key}");
            two.call(&format!("SMARTCACHE.UNLOCK {key} {}", got.token()));
            continue;
        }
        assert_eq!(filled, Reply::Simple("OK".into()), "{key}");
        assert_eq!(got.brief(), "HIT loaded", "{key}");
    }
    assert!(collisions <= 1 + loads / 50, "{collisions} of {loads} loads were distrusted");
    loads
}

fn start() -> Server {
    let s = Server::with(CONF);
    s.ok(&acl_recipes::line(&s, "application"));
    s.ok("ACL SETUSER evil on >password ~evil:* %RW~smartcache:tag:evil:* &* +ping");
    for command in COMMANDS.iter().filter(|command| command.parent().is_none()) {
        // One is unknown where the module is not a test build.
        s.call(&format!("ACL SETUSER evil +{}", command.name.to_lowercase()));
    }
    s.ok("ACL SETUSER evil -smartcache.rule -smartcache.resetstat");
    for n in 0..KEYS {
        let value = format!("value {n}");
        let key = format!("app:{n}");
        s.call_args(&[
            b"SMARTCACHE.SET",
            key.as_bytes(),
            value.as_bytes(),
            b"PERSIST",
            b"TAGS",
            b"1",
            format!("app:t:{}", n % 10).as_bytes(),
        ]);
    }
    s
}

#[test]
fn what_a_user_with_narrow_rights_does_harms_nobody_else() {
    if std::env::var_os("SMARTCACHE_SOAK_HISTORY").is_some() {
        return;
    }
    let (lasts, seed) = super::length_and_seed();
    let s = start();
    let shared = Shared {
        socket: s.path("s"),
        over: AtomicBool::new(false),
        attacks: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    let shared = &shared;
    let (reads, loads) = thread::scope(|scope| {
        let mut hostile: Vec<_> = (0..ATTACKERS)
            .map(|n| scope.spawn(move || attacker(shared, seed.wrapping_mul(100).wrapping_add(n))))
            .collect();
        hostile.push(scope.spawn(|| parker(shared)));
        let readers: Vec<_> = (0..2).map(|n| scope.spawn(move || reader(shared, seed.wrapping_add(n)))).collect();
        let loaders: Vec<_> = ["a", "b"].map(|name| scope.spawn(move || loader(shared, name))).into();
        let ends = Instant::now() + lasts;
        // A thread that has failed ends the others.
        let failed = || {
            hostile.iter().any(|one| one.is_finished()) || readers.iter().chain(&loaders).any(|one| one.is_finished())
        };
        while Instant::now() < ends && !failed() {
            thread::sleep(Duration::from_millis(20));
        }
        shared.over.store(true, Relaxed);
        let sum = |threads: Vec<thread::ScopedJoinHandle<'_, u64>>| -> u64 {
            threads.into_iter().map(|one| one.join().expect("nothing was harmed")).sum()
        };
        let counts = (sum(readers), sum(loaders));
        hostile.into_iter().for_each(|one| one.join().expect("every attack was answered as it should be"));
        counts
    });
    let attacks = (shared.attacks.load(Relaxed), shared.refused.load(Relaxed));
    println!("soak: {}: {} attacks, {} refused; {reads} reads, {loads} loads", s.name(), attacks.0, attacks.1);
    assert!(reads > 0 && loads > 0 && s.stat("invalidations") > 0);
    afterwards(&s, &shared.socket);
}

/// What is left of it: the entries of the application, no panic, no memory, and a flush takes all of it back.
fn afterwards(s: &Server, socket: &Path) {
    for n in 0..KEYS {
        assert_eq!(s.ok(&format!("SMARTCACHE.GET app:{n}")).text(), format!("value {n}"));
    }
    assert_eq!((s.stat("panics"), s.info_number("evicted_keys")), (0, 0));
    assert!(s.info_number("used_memory") < 200 << 20, "{}", s.info("used_memory_human"));
    s.ok("FLUSHALL");
    wait_until("the sweep has passed", || s.stat("sweep_backlog") == 0);
    let mut conn = Conn::open_for(socket, SOON).expect("a connection");
    let got = conn.getlock("evil:after WAIT 10s");
    let set = format!("SMARTCACHE.SET evil:after v TAGS 1 evil:1 TOKEN {}", got.token());
    assert_eq!(conn.call(&set), Reply::Simple("OK".into()), "a flush takes guards back");
}
