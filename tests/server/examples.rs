//! The programs that the pages show, run against a real server.
//!
//! The cache-aside programs of `docs/leases.md`, in `examples/leases/`, must all behave the same. A small program in
//! each language (`examples/callers*`) calls the example, which is included unchanged. It reads commands line by line:
//!
//! ```text
//! read KEY CALLERS MS WHAT     CALLERS callers, one every 5 milliseconds, or all at once if more than 100; a load
//!                              takes MS milliseconds and returns WHAT: bytes in hex, `nothing`, or `fail`. Answer:
//!                              each result with the number of callers
//! loads                        the number of loads since the start
//! ```
//!
//! The local caches of `docs/client-side-caching.md`, in `examples/client-side/`, are called by `examples/local.py`:
//!
//! ```text
//! get KEY TAG…                 the value, or `nothing`, or an error
//! has KEY                      whether a copy is cached
//! meanwhile KEY TAG NAME       a read during which the server reports that NAME has changed
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::acl_recipes;
use crate::support::{Conn, Flavour, Reply, SOON, Server, args, skip, wait_until};

#[path = "../../examples/leases/cache_aside.rs"]
#[allow(unreachable_pub, missing_docs)]
mod cache_aside;

/// Bytes that are not UTF-8.
const OLD: &str = "00ff0d0a2a31";
const NEW: &str = "c328";

// ---- what every example does ----

fn a_cold_key_is_loaded_once_for_all_callers(s: &mut Server, callers: &mut dyn Callers) {
    assert_eq!(callers.read("k", 20, 300, OLD), format!("{OLD}*20"));
    assert_eq!((s.stat("leases_granted"), s.stat("fills"), s.stat("busy")), (1, 1, 0));
    assert_eq!(callers.read("k", 20, 0, NEW), format!("{OLD}*20"), "a hit");
    assert_eq!(callers.loads(), 1);
}

fn three_hundred_callers_at_once_cause_one_load(s: &mut Server, callers: &mut dyn Callers) {
    s.ok("CONFIG SET smartcache.max-waiters 1000");
    assert_eq!(callers.read("k", 300, 500, OLD), format!("{OLD}*300"));
    assert_eq!((callers.loads(), s.stat("leases_granted"), s.stat("busy")), (1, 1, 0));
}

fn an_absence_is_cached(s: &mut Server, callers: &mut dyn Callers) {
    assert_eq!(callers.read("k", 3, 100, "nothing"), "nothing*3");
    assert_eq!(callers.read("k", 1, 0, NEW), "nothing*1");
    assert_eq!((callers.loads(), s.stat("absents")), (1, 1));
}

fn a_stale_value_is_used_and_refreshed_in_the_background(s: &mut Server, callers: &mut dyn Callers) {
    callers.read("k", 1, 0, OLD);
    s.ok("SMARTCACHE.STALE k");
    assert_eq!(callers.read("k", 1, 100, NEW), format!("{OLD}*1"), "the caller does not wait");
    wait_until("it is fresh again", || s.state("k") == "fresh");
    assert_eq!(callers.read("k", 1, 0, OLD), format!("{NEW}*1"));
    assert_eq!(callers.loads(), 2);
    s.ok("SMARTCACHE.STALE k");
    assert_eq!(callers.read("k", 1, 0, "fail"), format!("{NEW}*1"), "a failing refresh affects no caller");
    wait_until("it has failed", || s.stat("fills_failed") == 1);
}

fn a_load_that_fails_backs_off_and_the_caller_gets_the_error(s: &mut Server, callers: &mut dyn Callers) {
    assert_eq!(callers.read("k", 1, 0, "fail"), "failed*1");
    assert_eq!((s.stat("fills_failed"), s.stat("leases_granted")), (1, 1));
    assert_eq!(callers.read("k", 1, 0, NEW), format!("{NEW}*1"), "after the back-off");
    assert_eq!((s.stat("fills"), callers.loads()), (1, 2));
}

fn a_caller_whose_wait_times_out_loads_without_storing(s: &mut Server, callers: &mut dyn Callers) {
    s.ok("SMARTCACHE.GETLOCK k LOCK 10m");
    assert_eq!(callers.read("k", 2, 0, NEW), format!("{NEW}*2"));
    assert_eq!((callers.loads(), s.stat("sets"), s.stat("leases_granted")), (2, 0, 1));
    assert!(s.stat("busy") >= 2);
}

fn a_caller_that_gets_busy_retries(s: &mut Server, callers: &mut dyn Callers) {
    let token = s.ok("SMARTCACHE.GETLOCK k").array()[2].text();
    s.call_args(args!["SMARTCACHE.UNLOCK", "k", token, "BACKOFF", "500ms"]);
    assert_eq!(callers.read("k", 1, 0, NEW), format!("{NEW}*1"));
    assert_eq!((s.stat("fills"), s.state("k")), (1, "fresh".into()));
}

fn the_rights_of_the_applications_user_suffice(s: &mut Server, callers: &mut dyn Callers) {
    let mut admin = as_application(s, "~k");
    assert_eq!(callers.read("k", 3, 50, OLD), format!("{OLD}*3"));
    admin.call("SMARTCACHE.STALE k");
    callers.read("k", 1, 0, NEW);
    wait_until("it is refreshed", || callers.read("k", 1, 0, OLD) == format!("{NEW}*1"));
    admin.call("SMARTCACHE.DEL k");
    assert_eq!(callers.read("k", 1, 0, "fail"), "failed*1");
    assert_eq!(callers.read("k", 1, 0, "nothing"), "nothing*1");
    let refused = admin.call("ACL LOG");
    assert!(refused.array().is_empty(), "{refused}");
}

fn an_unreachable_cache_is_bypassed(s: &mut Server, callers: &mut dyn Callers) {
    assert_eq!(callers.read("k", 5, 0, OLD), format!("{OLD}*5"));
    s.kill();
    let began = Instant::now();
    assert_eq!(callers.read("k", 1, 0, NEW), format!("{NEW}*1"));
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    s.restart();
    wait_until("the cache is used again", || {
        callers.read("k", 1, 0, OLD) == format!("{OLD}*1") && s.state("k") == "fresh"
    });
    // A pool has several connections, and one that is not back yet goes past the cache.
    wait_until("a read is a hit", || callers.read("k", 1, 0, NEW) == format!("{OLD}*1"));
}

fn an_unresponsive_cache_is_bypassed(s: &mut Server, callers: &mut dyn Callers) {
    callers.read("k", 1, 0, OLD);
    let mut other = s.connect();
    let began = Instant::now();
    other.send(args!["DEBUG", "SLEEP", "5"]).expect("sent");
    let ping =
        || Conn::open_for(&s.path("s"), Duration::from_millis(50)).and_then(|mut conn| conn.try_call(&[b"PING"]));
    wait_until("the server sleeps", || ping().is_err());
    let got = callers.read("k", 1, 0, NEW);
    // Unless this machine stalled as long itself.
    assert!(got == format!("{NEW}*1") || began.elapsed() > Duration::from_secs(5), "{got}");
    other.receive().expect("the server is awake");
}

// ---- in each language ----

/// Passes the names of the tests above to a macro.
macro_rules! with_all {
    ($to:ident $($words:tt)*) => {
        $to! { $($words)*
            a_cold_key_is_loaded_once_for_all_callers
            three_hundred_callers_at_once_cause_one_load
            an_absence_is_cached
            a_stale_value_is_used_and_refreshed_in_the_background
            a_load_that_fails_backs_off_and_the_caller_gets_the_error
            a_caller_whose_wait_times_out_loads_without_storing
            a_caller_that_gets_busy_retries
            the_rights_of_the_applications_user_suffice
            an_unreachable_cache_is_bypassed
            an_unresponsive_cache_is_bypassed
        }
    };
}

/// Each as its own test.
macro_rules! in_language {
    ($language:ident $($test:ident)*) => {
        mod $language {
            $(
                #[test]
                fn $test() {
                    super::in_time(|| {
                        let mut s = super::Server::setup().tcp().start();
                        let mut callers = super::$language(&s);
                        super::$test(&mut s, &mut callers);
                    });
                }
            )*
        }
    };
}

with_all!(in_language python);
with_all!(in_language asyncio);
with_all!(in_language node);
with_all!(in_language ioredis);
with_all!(in_language rust);

/// The pool of node-redis sends a `PING` every second on every connection.
#[test]
fn the_pings_of_node_are_within_the_rights_of_the_applications_user() {
    let s = Server::setup().tcp().start();
    let mut callers = node(&s);
    let mut admin = as_application(&s, "~k");
    assert_eq!(callers.read("k", 1, 0, OLD), format!("{OLD}*1"));
    wait_until("it has sent a PING", || admin.call("INFO commandstats").text().contains("cmdstat_ping:"));
    let refused = admin.call("ACL LOG");
    assert!(refused.array().is_empty(), "{refused}");
}

/// Gives all callers the rights of the page's application, for these keys; returns a connection with all rights.
fn as_application(s: &Server, keys: &str) -> Conn {
    s.ok("ACL SETUSER admin on nopass ~* &* +@all");
    let mut admin = s.connect();
    assert_eq!(admin.call("AUTH admin x").text(), "OK");
    let line = acl_recipes::line(s, "application");
    let line = line.replace("application on >password ~app:*", &format!("default reset on nopass {keys}"));
    assert_eq!(admin.call(&line).text(), "OK", "{line}");
    assert_eq!(admin.call("CONFIG RESETSTAT").text(), "OK");
    admin
}

/// All in one test, since all are skipped without Go.
macro_rules! in_go {
    ($($test:ident)*) => {
        #[test]
        fn go_does_the_same() {
            // `scripts/setup` builds it.
            let program = root().join(".clients/go/callers");
            if !program.exists() {
                skip!(Server::start(), "Go or its packages are missing (see `scripts/setup clients`)");
            }
            $(in_time(|| {
                let mut s = Server::setup().tcp().start();
                let mut callers = Program::start(&s, Command::new(&program), None);
                $test(&mut s, &mut callers);
            });)*
        }
    };
}

with_all!(in_go);

/// All in one test, since all are skipped without PHP. Each caller is a process, so there are no 300 of them.
macro_rules! in_php {
    ($a_cold_key:ident $three_hundred:ident $($test:ident)*) => {
        #[test]
        fn php_does_the_same() {
            let extension = Command::new("php").args(["-r", "exit(extension_loaded('redis') ? 0 : 1);"]).status();
            if !extension.is_ok_and(|status| status.success()) {
                skip!(Server::start(), "PHP or its extension redis is missing (Debian: php-cli, php-redis)");
            }
            let tests: [fn(&mut Server, &mut dyn Callers); _] = [$a_cold_key, $($test),*];
            for test in tests {
                in_time(|| {
                    let mut s = Server::setup().tcp().start();
                    let mut command = Command::new("php");
                    command.arg(here("callers.php"));
                    let mut callers = Program::start(&s, command, None);
                    test(&mut s, &mut callers);
                });
            }
        }
    };
}

with_all!(in_php);

// ---- local caches ----

/// Time limit of a push, which takes about a millisecond on an idle machine.
const AT_ONCE: Duration = Duration::from_millis(200);

fn a_copy_is_dropped_at_once_with_its_tag_and_not_with_another(s: &Server, cache: &mut Program) {
    s.ok("CONFIG SET smartcache.sweep-effort 0"); // so that the sweep does not drop it
    for how in ["", " SOFT", " SOFT OVER 1h"] {
        s.ok("SMARTCACHE.SET app:1 v SWR 100 TAGS 2 t u");
        kept(cache, "app:1 t u");
        s.ok("SMARTCACHE.INVALIDATE TAGS 1 other");
        assert_eq!(cache.ask("has app:1"), "yes");
        dropped(cache, "app:1", AT_ONCE, || s.ok(&format!("SMARTCACHE.INVALIDATE TAGS 1 u{how}")));
    }
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    assert_eq!(cache.ask("get app:1 t u"), "nothing");
}

fn a_copy_is_dropped_when_its_key_is_swept(s: &Server, cache: &mut Program) {
    for what in
        ["PREFIXES 1 app:", "PREFIXES 1 app: SOFT OVER 1h", "PATTERNS 1 *:1", "PATTERNS 1 a* SOFT", "ALL", "ALL SOFT"]
    {
        s.ok("CONFIG SET smartcache.sweep-effort 0");
        s.ok("SMARTCACHE.SET app:1 v SWR 2h");
        kept(cache, "app:1");
        s.ok(&format!("SMARTCACHE.INVALIDATE {what}"));
        assert_eq!(cache.ask("has app:1"), "yes", "{what}");
        dropped(cache, "app:1", SOON, || s.ok("CONFIG SET smartcache.sweep-effort 5%"));
    }
}

fn a_copy_is_dropped_when_its_key_changes(s: &Server, cache: &mut Program) {
    for what in
        ["SMARTCACHE.SET app:1 w", "SMARTCACHE.STALE app:1", "SMARTCACHE.DEL app:1", "RENAME app:1 b", "FLUSHDB"]
    {
        s.ok("SMARTCACHE.SET app:1 v SWR 1h");
        kept(cache, "app:1");
        dropped(cache, "app:1", AT_ONCE, || s.ok(what));
    }
}

fn a_copy_lives_no_longer_than_its_freshness(s: &Server, cache: &mut Program) {
    s.ok("SMARTCACHE.SET app:1 v TTL 6s SWR 1h");
    kept(cache, "app:1");
    wait_until("it is not used any more", || cache.ask("get app:1") == "nothing");
    assert_eq!(s.state("app:1"), "stale", "the server sends nothing then");
}

fn a_value_that_changes_on_its_way_is_not_kept(_: &Server, cache: &mut Program) {
    for (named, stays) in [
        ("smartcache:tag:t", "no"),
        ("app:1", "no"),
        ("everything", "no"),
        ("smartcache:tag:u", "yes"),
        ("app:2", "yes"),
    ] {
        assert_eq!(cache.ask(&format!("meanwhile app:1 t {named}")), "old");
        assert_eq!(cache.ask("has app:1"), stays, "{named}");
    }
}

fn without_invalidation_messages_nothing_is_kept(s: &Server, cache: &mut Program) {
    s.ok("SMARTCACHE.SET app:1 v TAGS 1 t");
    kept(cache, "app:1 t");
    dropped(cache, "app:1", AT_ONCE, || {
        s.ok("CLIENT KILL TYPE pubsub");
        s.ok("CLIENT KILL TYPE normal")
    });
}

#[track_caller]
fn kept(cache: &mut Program, key_and_tags: &str) {
    let key = key_and_tags.split(' ').next().expect("a key");
    // A message of an earlier change may arrive in between.
    wait_until("a copy is kept", || {
        assert_eq!(cache.ask(&format!("get {key_and_tags}")), "v");
        thread::sleep(Duration::from_millis(20));
        cache.ask(&format!("has {key}")) == "yes"
    });
}

#[track_caller]
fn dropped(cache: &mut Program, key: &str, within: Duration, when: impl FnOnce() -> Reply) {
    when();
    let began = Instant::now();
    while cache.ask(&format!("has {key}")) == "yes" {
        assert!(began.elapsed() < within, "the copy of {key} is still cached after {within:?}");
    }
}

/// Each test with each program.
macro_rules! local_caches {
    ($($cache:ident: $($test:ident)*;)*) => {
        $(mod $cache {
            $(
                #[test]
                fn $test() {
                    super::in_time(|| {
                        let s = super::Server::setup().tcp().start();
                        super::$test(&s, &mut super::local_cache(&s, stringify!($cache)));
                    });
                }
            )*
        })*
    };
}

local_caches! {
    with_redis_py:
        a_copy_is_dropped_at_once_with_its_tag_and_not_with_another
        a_copy_is_dropped_when_its_key_is_swept
        a_copy_is_dropped_when_its_key_changes
        a_copy_lives_no_longer_than_its_freshness
        a_value_that_changes_on_its_way_is_not_kept
        without_invalidation_messages_nothing_is_kept;
    raw:
        a_copy_is_dropped_at_once_with_its_tag_and_not_with_another
        a_copy_is_dropped_when_its_key_is_swept
        a_copy_is_dropped_when_its_key_changes
        a_copy_lives_no_longer_than_its_freshness
        without_invalidation_messages_nothing_is_kept;
}

#[test]
fn the_cache_of_redis_py_keeps_replies_when_enabled_and_drops_swept_keys() {
    let s = Server::setup().tcp().conf("smartcache.sweep-effort 0").start();
    s.ok("SMARTCACHE.SET k v TAGS 1 t");
    let mut cache = local_cache(&s, "built_in");
    if s.flavour == Flavour::Valkey || s.version < (7, 4, 0) {
        let why = cache.ask("get k");
        assert!(why.contains("supported by Redis 7.4 or later"), "{why}");
        return;
    }
    assert_eq!((cache.ask("get k"), cache.ask("has k")), ("v".into(), "yes".into()));
    s.ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    assert_eq!(cache.ask("get k"), "v", "it does not track tags");
    s.ok("CONFIG SET smartcache.sweep-effort 5%");
    wait_until("the key is swept", || cache.ask("get k") == "nothing");
}

fn local_cache(s: &Server, name: &str) -> Program {
    let mut command = Command::new("python3");
    let path = std::env::join_paths([installed("python", "redis"), root().join("examples/client-side")]);
    let path = path.expect("paths without colons");
    command.arg(here("local.py")).arg(name).env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    Program::start(s, command, None)
}

/// The programs have time-outs of a second and more. A failure on a machine that stalled meanwhile proves nothing: then
/// the test runs once more.
fn in_time(test: impl Fn()) {
    for last in [false, false, false, true] {
        let over = AtomicBool::new(false);
        let (outcome, stood_still) = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    thread::sleep(Duration::from_millis(10));
                    longest = longest.max(began.elapsed());
                }
                longest
            });
            let outcome = catch_unwind(AssertUnwindSafe(&test));
            over.store(true, Ordering::Relaxed);
            (outcome, watch.join().expect("it only sleeps"))
        });
        let Err(why) = outcome else { return };
        if last || stood_still < Duration::from_millis(200) {
            resume_unwind(why);
        }
        eprintln!("once more, since this machine stalled for {stood_still:?}");
    }
}

trait Callers {
    fn read(&mut self, key: &str, callers: usize, ms: u64, what: &str) -> String;
    fn loads(&mut self) -> usize;
}

fn python(s: &Server) -> Program {
    python_program(s, "callers.py")
}

fn asyncio(s: &Server) -> Program {
    python_program(s, "callers_asyncio.py")
}

fn python_program(s: &Server, callers: &str) -> Program {
    let packages = installed("python", "redis");
    let mut command = Command::new("python3");
    let path = std::env::join_paths([packages, root().join("examples/leases")]).expect("paths without colons");
    command.arg(here(callers)).env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    Program::start(s, command, None)
}

fn node(s: &Server) -> Program {
    node_program(s, "redis", "cache_aside.mjs")
}

fn ioredis(s: &Server) -> Program {
    node_program(s, "ioredis", "cache_aside_ioredis.mjs")
}

/// Modules are resolved relative to the importing file.
fn node_program(s: &Server, package: &str, example: &str) -> Program {
    let dir = tempfile::tempdir().expect("a directory");
    let modules = installed("node", &format!("node_modules/{package}")).join("node_modules");
    symlink(modules, dir.path().join("node_modules")).expect("a link");
    for file in [here("callers.mjs"), root().join("examples/leases").join(example)] {
        fs::copy(&file, dir.path().join(file.file_name().expect("a file"))).expect("copied");
    }
    let mut command = Command::new("node");
    command.arg(dir.path().join("callers.mjs")).arg(format!("./{example}"));
    Program::start(s, command, Some(dir))
}

fn rust(s: &Server) -> Threads {
    let cache = cache_aside::Cache::new(&format!("redis://127.0.0.1:{}", s.port())).expect("an address");
    Threads { cache, loads: Arc::default() }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn here(file: &str) -> PathBuf {
    root().join("tests/server/examples").join(file)
}

#[track_caller]
pub(crate) fn installed(language: &str, package: &str) -> PathBuf {
    let folder = root().join(".clients").join(language);
    let package = folder.join(package);
    assert!(package.exists(), "{} is missing: `scripts/setup clients` fetches it", package.display());
    folder
}

/// A program that reads commands line by line.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    _dir: Option<tempfile::TempDir>,
}

impl Program {
    #[track_caller]
    fn start(s: &Server, mut command: Command, dir: Option<tempfile::TempDir>) -> Program {
        let address = format!("127.0.0.1:{}", s.port());
        command.env("REDIS_URL", format!("redis://{address}")).env("REDIS_ADDR", address);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: prctl is async-signal-safe and touches nothing of ours. It ends the program with the test's thread.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; `scripts/setup clients` installs it"));
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Program { child, stdout, _dir: dir }
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        let mut answer = String::new();
        let asked = writeln!(stdin, "{line}").and_then(|()| self.stdout.read_line(&mut answer));
        assert!(asked.is_ok() && answer.ends_with('\n'), "{line}: the program has ended: {asked:?} {answer:?}");
        answer.trim_end().to_owned()
    }
}

impl Callers for Program {
    #[track_caller]
    fn read(&mut self, key: &str, callers: usize, ms: u64, what: &str) -> String {
        self.ask(&format!("read {key} {callers} {ms} {what}"))
    }

    #[track_caller]
    fn loads(&mut self) -> usize {
        self.ask("loads").parse().expect("a number")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example in Rust needs no separate program.
struct Threads {
    cache: Arc<cache_aside::Cache>,
    loads: Arc<AtomicUsize>,
}

impl Callers for Threads {
    fn read(&mut self, key: &str, callers: usize, ms: u64, what: &str) -> String {
        let one = || {
            let (cache, key, what, loads) = (self.cache.clone(), key.to_owned(), what.to_owned(), self.loads.clone());
            let load = move || {
                loads.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(ms));
                match what.as_str() {
                    "fail" => Err("the origin is down"),
                    "nothing" => Ok(None),
                    hex => Ok(Some(hex.as_bytes().to_vec())),
                }
            };
            thread::spawn(move || match cache.cached(&key, load) {
                Ok(Some(value)) => String::from_utf8(value).expect("what was loaded"),
                Ok(None) => "nothing".to_owned(),
                Err(_) => "failed".to_owned(),
            })
        };
        let mut threads = Vec::new();
        for _ in 0..callers {
            threads.push(one());
            if callers <= 100 {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for thread in threads {
            *answers.entry(thread.join().expect("it does not panic")).or_default() += 1;
        }
        answers.iter().map(|(answer, n)| format!("{answer}*{n}")).collect::<Vec<_>>().join(" ")
    }

    fn loads(&mut self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }
}
