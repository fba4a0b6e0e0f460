//! A wall clock that is set: nothing waits for it, and nothing dead comes back with it.
//!
//! The server runs with a small library that adds an offset to the wall clock (`clock.c`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::{Server, skip, wait_until};

/// The library, if it can be built here.
static LIBRARY: LazyLock<Result<(tempfile::TempDir, PathBuf), String>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let library = dir.path().join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/clock.c");
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).output();
    match built {
        Ok(built) if built.status.success() => Ok((dir, library)),
        Ok(built) => Err(String::from_utf8_lossy(&built.stderr).into_owned()),
        Err(why) => Err(format!("cc: {why}")),
    }
});

/// A server whose wall clock a test can set.
struct Clocked {
    server: Server,
    offset: tempfile::NamedTempFile,
}

impl Clocked {
    fn start(conf: &str) -> Result<Clocked, String> {
        let (_, library) = LIBRARY.as_ref().map_err(Clone::clone)?;
        let offset = tempfile::NamedTempFile::new().expect("a file");
        fs::write(offset.path(), 0_i64.to_ne_bytes()).expect("it is written");
        let setup = Server::setup().conf(conf).env("LD_PRELOAD", library).env("CLOCK_OFFSET", offset.path());
        Ok(Clocked { server: setup.start(), offset })
    }

    /// The wall clock is ahead by so many seconds from now on, or behind.
    fn set(&self, seconds: i64) {
        // In place: the server has mapped the file.
        let file = fs::OpenOptions::new().write(true).open(self.offset.path()).expect("the file");
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).expect("it is written");
    }
}

/// Starts a server with such a clock, or skips the test.
macro_rules! clocked {
    ($conf:expr) => {
        match Clocked::start($conf) {
            Ok(clocked) => clocked,
            Err(why) => skip!(Server::start(), "there is no C compiler for a clock that can be set: {why}"),
        }
    };
}

const HOUR: i64 = 3_600;

#[test]
fn a_wall_clock_that_is_set_back_holds_up_neither_leases_nor_the_sweep_nor_who_waits() {
    let clocked = clocked!("smartcache.sweep-effort 1%");
    let s = &clocked.server;
    let keys: Vec<String> = (0..2_000).map(|i| format!("SMARTCACHE.SET go:{i} v")).collect();
    keys.iter().for_each(|line| drop(s.ok(line)));
    s.ok("SMARTCACHE.SET stay v");
    assert_eq!(s.getlock("k LOCK 2").brief(), "MISS +");
    let mut waiters = s.park(2, |i| format!("k WAIT {} LOCK 300", if i == 0 { 60 } else { 4 }));
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 go:"); // the timer of the sweep is set now
    clocked.set(-HOUR);
    let mut conn = s.connect();
    assert_eq!(conn.call("SMARTCACHE.PREVIEW ALL").field("entries").int(), 1);
    assert_eq!(waiters[0].got().brief(), "MISS +", "the lease has run out");
    assert_eq!(waiters[1].got().brief(), "BUSY", "its wait was over");
    wait_until("the sweep has come by", || s.call("DBSIZE").int() == 1);
    s.ok("CONFIG SET smartcache.sweep-effort 0");
    s.ok("SMARTCACHE.INVALIDATE PREFIXES 1 stay");
    clocked.set(-2 * HOUR);
    assert_eq!(conn.call("SMARTCACHE.INVALIDATE PREFIXES 1 stay WAIT 1").int(), 0, "it does not wait for an hour");
    s.ok("FLUSHALL");
    s.assert_quiet();
}

#[test]
fn what_was_invalidated_while_the_wall_clock_was_days_ahead_stays_so_when_it_is_ahead_again() {
    let clocked = clocked!("smartcache.sweep-effort 0");
    let s = &clocked.server;
    clocked.set(72 * HOUR);
    s.ok("SMARTCACHE.SET k v PERSIST TAGS 1 t");
    assert_eq!(s.call("SMARTCACHE.INVALIDATE TAGS 1 t").int(), 1);
    let stamp = || s.call("SMARTCACHE.STAMP").text();
    let token = stamp();
    clocked.set(0);
    // With a new epoch, which begins at the next turn of the cron, no token from before is known any more.
    wait_until("a new epoch has begun", || {
        s.call_args(&[b"SMARTCACHE.SET", b"other", b"v", b"SINCE", token.as_bytes()]).text() == "LOST"
    });
    assert!(s.call("SMARTCACHE.GET k").is_nil());
    clocked.set(72 * HOUR);
    assert!(s.call("SMARTCACHE.GET k").is_nil());
    s.ok("SMARTCACHE.SET k w TAGS 1 t");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "w");
    s.assert_quiet();
}
