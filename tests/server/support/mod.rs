//! Real servers, one or more per test: started with the module, and killed by the test that started them.
//!
//! ```text
//! let s = Server::start();
//! s.play(r#"
//!     > SMARTCACHE.SET k v TTL 10
//!     OK
//!     > SMARTCACHE.GET k
//!     "v"
//! "#);
//! ```
//!
//! Which server and which module: `SMARTCACHE_SERVERS` (executables, the first of a comma-separated list; else
//! `redis-server` or `valkey-server` from PATH), `SMARTCACHE_MODULE` (else `target/release/libsmartcache.so`), and
//! `SMARTCACHE_TEST_MODULE`, a module built with the feature `test-commands`.

pub(crate) mod cluster;
pub(crate) mod lease;
pub(crate) mod play;
pub(crate) mod resp;
pub(crate) mod skip;

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub(crate) use cluster::Cluster;
pub(crate) use lease::Got;
pub(crate) use resp::{Conn, Reply};
pub(crate) use skip::skip;

/// Arguments of any bytes: `s.call_args(args!["SMARTCACHE.SET", key, &value])`.
macro_rules! args {
    ($($word:expr),* $(,)?) => { &[$(AsRef::<[u8]>::as_ref(&$word)),*] };
}
pub(crate) use args;

/// `assert_within!(ttl, 9_000..=10_000)`: asserts that a number is in a range; the message shows both.
macro_rules! assert_within {
    ($value:expr, $range:expr) => {{
        let (value, range) = ($value, $range);
        assert!(range.contains(&value), "{} = {value} is not within {range:?}", stringify!($value));
    }};
}
pub(crate) use assert_within;

/// Time limit for what must happen. Generous: it is reached only when something is broken.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Waits for a condition, checked every few milliseconds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "this did not happen within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How to start a server: lines of the configuration file, arguments of the module, existing files.
#[derive(Clone)]
pub(crate) struct Setup {
    conf: Vec<String>,
    module: Option<PathBuf>,
    module_args: String,
    files: Vec<(String, Vec<u8>)>,
    env: Vec<(String, PathBuf)>,
    tcp: bool,
    cluster: bool,
}

impl Setup {
    /// Lines of the configuration file.
    pub(crate) fn conf(mut self, lines: &str) -> Setup {
        self.conf.extend(lines.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned));
        self
    }

    /// Arguments of the module in the `loadmodule` line.
    pub(crate) fn module_args(mut self, args: &str) -> Setup {
        self.module_args = args.to_owned();
        self
    }

    /// A variable of the server's environment.
    pub(crate) fn env(mut self, name: &str, value: &Path) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn module(mut self, path: PathBuf) -> Setup {
        self.module = Some(path);
        self
    }

    pub(crate) fn without_module(mut self) -> Setup {
        self.module = None;
        self
    }

    /// A file in the server's directory before it starts.
    pub(crate) fn file(mut self, name: &str, bytes: &[u8]) -> Setup {
        self.files.push((name.to_owned(), bytes.to_owned()));
        self
    }

    /// Listens on a loopback port too, so that a replica can reach it.
    pub(crate) fn tcp(mut self) -> Setup {
        self.tcp = true;
        self
    }

    /// A node of a cluster, without slots.
    pub(crate) fn cluster(mut self) -> Setup {
        (self.tcp, self.cluster) = (true, true);
        self
    }

    #[track_caller]
    pub(crate) fn start(self) -> Server {
        self.try_start().unwrap_or_else(|gone| panic!("the server did not start: {}\n{}", gone.status, gone.log))
    }

    /// Starts the server, or returns how it ended.
    #[track_caller]
    pub(crate) fn try_start(self) -> Result<Server, Gone> {
        // The free port may be taken meanwhile: then try another.
        for _ in 0..4 {
            match self.clone().try_once() {
                Err(gone) if self.tcp && gone.log.contains("Failed listening on port") => continue,
                outcome => return outcome,
            }
        }
        panic!("no free port was found")
    }

    #[track_caller]
    fn try_once(self) -> Result<Server, Gone> {
        let dir = tempfile::Builder::new().prefix("smartcache-").tempdir().expect("a directory for the server");
        for (name, bytes) in &self.files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it lies in the directory")).expect("a directory");
            fs::write(path, bytes).expect("a file is written");
        }
        let port = if self.tcp { free_port() } else { 0 };
        let mut conf = vec![
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            "protected-mode no".to_owned(),
            format!("unixsocket {}", dir.path().join("s").display()),
            format!("dir {}", dir.path().display()),
            "save \"\"".to_owned(),
            "enable-debug-command yes".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        if self.cluster {
            // A primary that gives its last slot away would become a replica of the node that takes it.
            let stays = "cluster-allow-replica-migration no".to_owned();
            conf.extend(["cluster-enabled yes".to_owned(), format!("cluster-port {}", free_port()), stays]);
        }
        if let Some(module) = &self.module {
            assert!(module.exists(), "the module {} is missing: run `cargo build --release` first", module.display());
            conf.push(format!("loadmodule {} {}", module.display(), self.module_args));
        }
        conf.extend(self.conf);
        fs::write(dir.path().join("server.conf"), conf.join("\n") + "\n").expect("the configuration is written");

        let mut server = Server {
            dir,
            port,
            child: None,
            conn: RefCell::new(None),
            flavour: Flavour::Redis,
            version: (0, 0, 0),
            has_module: self.module.is_some(),
            env: self.env,
            panics_expected: Cell::new(false),
        };
        server.try_launch()?;
        Ok(server)
    }
}

/// A server that exited, or gave up and was killed.
pub(crate) struct Gone {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
    gave_up: bool,
}

impl Gone {
    /// Asserts that it refused to start, and did not crash.
    #[track_caller]
    pub(crate) fn assert_refused(&self) {
        assert!(
            (self.gave_up || self.status.signal().is_none()) && !crashed(&self.log),
            "the server crashed ({}):\n{}",
            self.status,
            tail(&self.log)
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flavour {
    Redis,
    Valkey,
}

/// A running server and one connection to it. Dropping it kills the server, and fails the test if it had exited
/// already.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    conn: RefCell<Option<Conn>>,
    pub(crate) flavour: Flavour,
    pub(crate) version: (u32, u32, u32),
    has_module: bool,
    env: Vec<(String, PathBuf)>,
    panics_expected: Cell<bool>,
}

impl Server {
    pub(crate) fn setup() -> Setup {
        Setup {
            conf: Vec::new(),
            module: Some(module()),
            module_args: String::new(),
            files: Vec::new(),
            env: Vec::new(),
            tcp: false,
            cluster: false,
        }
    }

    #[track_caller]
    pub(crate) fn start() -> Server {
        Server::setup().start()
    }

    #[track_caller]
    pub(crate) fn with(conf: &str) -> Server {
        Server::setup().conf(conf).start()
    }

    /// A replica of `primary`, in step with it.
    #[track_caller]
    pub(crate) fn replica_of(primary: &Server, conf: &str) -> Server {
        let replica = Server::setup().tcp().conf(&format!("replicaof 127.0.0.1 {}", primary.port)).conf(conf).start();
        wait_until("the replica is in step", || replica.info("master_link_status") == "up");
        replica
    }

    // ---- commands ----

    #[track_caller]
    pub(crate) fn call(&self, line: &str) -> Reply {
        self.conn().call(line)
    }

    #[track_caller]
    pub(crate) fn call_args(&self, words: &[&[u8]]) -> Reply {
        self.conn().call_args(words)
    }

    /// Calls, and asserts that the reply is no error.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> Reply {
        let reply = self.call(line);
        assert!(!reply.is_error(), "{line}\n{reply}");
        reply
    }

    /// Plays a transcript: see [`play`].
    #[track_caller]
    pub(crate) fn play(&self, transcript: &str) {
        play::play(transcript, |words| self.call_args(words));
    }

    /// A new connection.
    #[track_caller]
    pub(crate) fn connect(&self) -> Conn {
        Conn::open(&self.dir.path().join("s")).expect("a connection")
    }

    /// A connection to the port of a server that listens on one.
    pub(crate) fn connect_tcp(&self) -> Conn {
        Conn::open_tcp(self.port).expect("a connection")
    }

    /// A connection that speaks RESP3.
    #[track_caller]
    pub(crate) fn connect3(&self) -> Conn {
        let mut conn = self.connect();
        assert!(!conn.call("HELLO 3").is_error());
        conn
    }

    #[track_caller]
    fn conn(&self) -> std::cell::RefMut<'_, Conn> {
        let mut conn = self.conn.borrow_mut();
        if conn.is_none() {
            *conn = Some(self.connect());
        }
        std::cell::RefMut::map(conn, |c| c.as_mut().expect("it is opened above"))
    }

    // ---- state ----

    /// One field of `INFO everything`, or "" when there is none.
    #[track_caller]
    pub(crate) fn info(&self, field: &str) -> String {
        let info = self.call("INFO everything").text();
        let line = info.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn info_number(&self, field: &str) -> u64 {
        let text = self.info(field);
        text.parse().unwrap_or_else(|_| panic!("INFO has {field}:{text}"))
    }

    /// One field of `SMARTCACHE.INSPECT key`.
    #[track_caller]
    pub(crate) fn inspect(&self, key: &str, field: &str) -> Reply {
        self.call_args(args!["SMARTCACHE.INSPECT", key]).field(field)
    }

    #[track_caller]
    pub(crate) fn fresh_ms(&self, key: &str) -> i64 {
        self.inspect(key, "fresh_ms").int()
    }

    #[track_caller]
    pub(crate) fn state(&self, key: &str) -> String {
        let map = self.call_args(args!["SMARTCACHE.INSPECT", key]);
        if map.is_nil() { "nothing".to_owned() } else { map.field("state").text() }
    }

    #[track_caller]
    pub(crate) fn pttl(&self, key: &str) -> i64 {
        self.call_args(args!["PTTL", key]).int()
    }

    #[track_caller]
    pub(crate) fn stat(&self, field: &str) -> i64 {
        self.call("SMARTCACHE.STATS").field(field).int()
    }

    /// The digest of all data. Equal digests: nothing changed.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        self.ok("DEBUG DIGEST").text()
    }

    /// All fields of `INSPECT` except those that change with time.
    #[track_caller]
    pub(crate) fn portrait(&self, key: &str) -> String {
        let map = self.call_args(args!["SMARTCACHE.INSPECT", key]);
        if map.is_nil() {
            return "(nil)".to_owned();
        }
        let still = map.pairs().into_iter().filter(|(name, _)| !matches!(name.as_str(), "age_ms" | "fresh_ms"));
        still.map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    /// True from these versions on, by flavour. Prefer to try the feature where possible.
    pub(crate) fn since(&self, redis: (u32, u32), valkey: (u32, u32)) -> bool {
        let (major, minor, _) = self.version;
        (major, minor) >= if self.flavour == Flavour::Valkey { valkey } else { redis }
    }

    /// False on Valkey 8.1: with a module that subscribes to expired keys, `MOVE` onto an expired key leaves the client
    /// in the other database, and its replica fails (docs/operations.md).
    pub(crate) fn moves_onto_expired_keys(&self) -> bool {
        !(self.flavour == Flavour::Valkey && (self.version.0, self.version.1) == (8, 1))
    }

    pub(crate) fn name(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{:?} {major}.{minor}.{patch}", self.flavour)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    #[track_caller]
    pub(crate) fn read_file(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// The port of a server that listens on one.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> String {
        fs::read(self.path("log")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// From now on panics in the module are expected.
    pub(crate) fn expect_panics(&self) {
        self.panics_expected.set(true);
    }

    // ---- life cycle ----

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
        *self.conn.borrow_mut() = None;
    }

    /// Waits until the server exits by itself.
    pub(crate) fn wait_for_end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let ended = || child.try_wait().expect("our own child can be asked").is_some();
            wait_until("the server exits by itself", ended);
        }
        *self.conn.borrow_mut() = None;
    }

    /// Stops the process until `resume`; its connections stay open.
    pub(crate) fn pause(&self) {
        self.send_signal(libc::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.send_signal(libc::SIGCONT);
    }

    fn send_signal(&self, signal: libc::c_int) {
        let child = self.child.as_ref().expect("it runs");
        // SAFETY: our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
    }

    /// `kill -9` and a restart from disk, with the current configuration file.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
            panic!("the server had exited before it was killed: {status}\n{}", tail(&self.log()));
        }
        self.kill();
        self.try_launch().unwrap_or_else(|gone| panic!("no restart: {}\n{}", gone.status, tail(&gone.log)));
    }

    #[track_caller]
    fn try_launch(&mut self) -> Result<(), Gone> {
        let log = || -> File {
            OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).expect("a log file")
        };
        let mut command = Command::new(executable());
        command.arg(self.path("server.conf")).current_dir(self.dir.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log()).stderr(log());
        // SAFETY: prctl is async-signal-safe and touches nothing of ours. It ends the server with the test's thread,
        // so that a suite which is interrupted leaves nothing running.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", executable().display()));
        self.child = Some(child);

        let launched = Instant::now();
        let socket = self.dir.path().join("s");
        loop {
            let child = self.child.as_mut().expect("it is started above");
            if let Some(status) = child.try_wait().expect("our own child can be asked") {
                self.child = None;
                return Err(Gone { status, log: self.log(), gave_up: false });
            }
            // After refusing a file that is cut inside a module's data, Redis 7.0 scans it again for diagnostics and
            // never ends.
            if launched.elapsed() > Duration::from_millis(500) && self.log().contains("error, aborting now") {
                let mut child = self.child.take().expect("it is started above");
                child.kill().expect("our own child can be killed");
                let status = child.wait().expect("our own child can be waited for");
                return Err(Gone { status, log: self.log(), gave_up: true });
            }
            // During loading it answers LOADING.
            let ping = Conn::open_for(&socket, Duration::from_secs(1)).and_then(|mut conn| conn.try_call(&[b"PING"]));
            if ping.is_ok_and(|reply| reply == Reply::Simple("PONG".into())) {
                break;
            }
            assert!(launched.elapsed() < SOON, "the server is not ready after {SOON:?}:\n{}", tail(&self.log()));
            std::thread::sleep(Duration::from_millis(2));
        }

        let valkey = self.info("valkey_version");
        self.flavour = if valkey.is_empty() { Flavour::Redis } else { Flavour::Valkey };
        let text = if valkey.is_empty() { self.info("redis_version") } else { valkey };
        let mut numbers = text.split('.').map(|n| n.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        self.version = (next(), next(), next());
        Ok(())
    }

    /// Checks at the end of every test: the server still runs, and the module has not panicked.
    fn autopsy(&mut self) -> Result<(), String> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the server ended by itself: {status}"));
        }
        if self.has_module && !self.panics_expected.get() {
            let mut conn = Conn::open(&self.dir.path().join("s")).map_err(|e| e.to_string())?;
            let stats = conn.try_call(&[b"SMARTCACHE.STATS"]).map_err(|e| e.to_string())?;
            // A user without permission, or a loading server, gives no answer.
            if !stats.is_error() && stats.field("panics") != Reply::Int(0) {
                return Err("the module panicked".to_owned());
            }
        }
        if crashed(&self.log()) { Err("the server wrote a bug report".to_owned()) } else { Ok(()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let verdict = self.autopsy();
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {}, the end of its log ({verdict:?}):\n{}", self.name(), tail(&self.log()));
        } else if let Err(why) = verdict {
            panic!("{why}\n{}", tail(&self.log()));
        }
    }
}

/// The module under test.
pub(crate) fn module() -> PathBuf {
    match std::env::var_os("SMARTCACHE_MODULE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/libsmartcache.so"),
    }
}

fn executable() -> PathBuf {
    if let Ok(servers) = std::env::var("SMARTCACHE_SERVERS") {
        let first = servers.split(',').map(str::trim).find(|s| !s.is_empty());
        return PathBuf::from(first.expect("SMARTCACHE_SERVERS names no server"));
    }
    let on_path = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.exists())
    };
    on_path("redis-server")
        .or_else(|| on_path("valkey-server"))
        .expect("neither redis-server nor valkey-server is on PATH: install one, or set SMARTCACHE_SERVERS")
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn crashed(log: &str) -> bool {
    log.contains("BUG REPORT START") || log.contains("ASSERTION FAILED")
}

/// The end of a log, or its bug report.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    if let Some(at) = lines.iter().position(|line| crashed(line)) {
        return lines[at.saturating_sub(20)..lines.len().min(at + 100)].join("\n");
    }
    lines[lines.len().saturating_sub(40)..].join("\n")
}
