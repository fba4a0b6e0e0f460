//! One run: a new server, its callers, and the CPU time of both.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use redis::cmd;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    approaches::{Approach, KEY},
    args::{self, Args},
    caller::{Run, Workload},
    callers::{PreparedRun, Scenario},
    results::{Facts, Measured},
    support::{
        self,
        lab::{self, commands, connect, info},
        machine,
        server::{self, Result, Server, in_target},
        text::thousands,
    },
};

/// Starts the servers and runs the scenarios.
pub(crate) struct Lab {
    program: String,
    module: Option<PathBuf>,
    memcached: String,
    python: Option<PathBuf>,
    pinned: bool,
    names: BTreeMap<&'static str, String>,
    /// Nanoseconds that the servers' main threads have run, and have waited for a core.
    pub(crate) ran: u64,
    pub(crate) waited: u64,
}

impl Lab {
    pub(crate) fn open(args: &Args) -> Result<Lab> {
        let program = args.common.server();
        let ours = args.approach.is_empty() || args.approach.iter().any(|approach| approach.is_ours());
        let module = if ours { Some(args.common.module()?) } else { args.common.module.clone() };
        let python = args.python.clone().or_else(|| in_target("stampede-venv/bin/python"));
        let mut names = BTreeMap::new();
        if let Some(version) = output_of(&args.memcached, &["-V"]) {
            names.insert("memcached", version.replace("memcached ", ""));
        }
        if let Some(versions) = python.as_ref().and_then(|python| output_of(python, &["-c", CALLERS, "--versions"])) {
            names.insert("python", versions);
        }
        let memcached = args.memcached.clone();
        let mut lab = Lab { program, module, memcached, python, pinned: false, names, ran: 0, waited: 0 };
        let server = lab.start(None, 0)?;
        let mut con = connect(&server)?;
        lab.names.insert("server", support::report::server(&mut con));
        Ok(lab)
    }

    pub(crate) fn measure(
        &mut self,
        approach: Approach,
        scenario: Scenario,
        workload: &Workload,
        files: u64,
    ) -> Result<Measured> {
        const OTHERS: u64 = 600;
        let needed = scenario.callers() as u64 + OTHERS;
        if files < needed {
            let why = format!("needs {needed} open files, but only {files} are allowed (ulimit -Hn)");
            return Err(why.into());
        }
        if approach.is_memcached() {
            self.measure_memcached(approach, scenario, workload)
        } else {
            self.measure_redis(approach, scenario, workload)
        }
    }

    fn measure_redis(&mut self, approach: Approach, scenario: Scenario, workload: &Workload) -> Result<Measured> {
        let module = self.module.clone().filter(|_| approach.is_ours());
        let server = self.start(module.as_deref(), scenario.callers())?;
        let mut con = connect(&server)?;
        let pid = info(&mut con, "server", "process_id").parse()?;
        if let Some(words) = approach.rule() {
            let rule = ["SET", "unmodified", "MATCH", "*", "NATIVE"];
            cmd("SMARTCACHE.RULE").arg(&rule).arg(&words).exec(&mut con)?;
        }
        let socket = server.socket();
        let (run, clock) = match approach.library() {
            None => {
                let mut prepared = PreparedRun::new(scenario, &socket)?;
                if matches!(scenario, Scenario::Expiry { .. }) {
                    prepared.fill(approach, workload)?;
                }
                cmd("CONFIG").arg("RESETSTAT").exec(&mut con)?;
                self.clocked(pid, || prepared.run(approach, scenario, workload))?
            }
            Some(_) => {
                if approach == Approach::Dogpile && scenario.callers() > MOST_THREADS {
                    return Err(TOO_MANY_THREADS.into());
                }
                let window = if let Scenario::Expiry { seconds, .. } = scenario { seconds } else { 0.0 };
                let time_limit = Duration::from_secs_f64(window) + workload.limit + Duration::from_secs(20);
                let python = self.python.as_ref().ok_or(
                    "no Python with dogpile.cache and cashews; `make bench-stampede` sets one up, --python names one",
                )?;
                let mut fleet = Fleet::start(python, approach, &socket, scenario, workload)?;
                cmd("CONFIG").arg("RESETSTAT").exec(&mut con)?;
                self.clocked(pid, || fleet.run(time_limit))?
            }
        };
        let commands = commands(&mut con)?;
        let measured = clock.with(scenario, run, commands);
        match measured.limited_by_python(workload.load.as_secs_f64()) {
            Some(why) if approach.library().is_some() => Err(why.into()),
            _ => Ok(measured),
        }
    }

    fn measure_memcached(&mut self, approach: Approach, scenario: Scenario, workload: &Workload) -> Result<Measured> {
        let server = self.start_memcached(scenario.callers())?;
        let mut prepared = PreparedRun::new(scenario, &server.socket())?;
        let pid = stats(&server)?.get("pid").copied().unwrap_or_default() as u32;
        if matches!(scenario, Scenario::Expiry { .. }) {
            prepared.fill(approach, workload)?;
        }
        let before = stats(&server)?;
        let (run, clock) = self.clocked(pid, || prepared.run(approach, scenario, workload))?;
        let after = stats(&server)?;
        let grown = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        // 1.6 counts `mg` as a get and `ms` as a set.
        let commands = [("mg", "cmd_get"), ("ms", "cmd_set")].map(|(name, stat)| (name.to_owned(), grown(stat)));
        Ok(clock.with(scenario, run, commands.into()))
    }

    fn clocked(&mut self, pid: u32, run: impl FnOnce() -> Result<Run>) -> Result<(Run, Clock)> {
        let before = machine::cpu_at_rest(pid)?;
        let started = Instant::now();
        let run = run()?;
        let seconds = started.elapsed().as_secs_f64();
        let used = machine::cpu_at_rest(pid)?.since(before);
        (self.ran, self.waited) = (self.ran + used.main, self.waited + used.waited);
        let client_ms = run.client_seconds.map_or(used.client as f64 / 1e6, |seconds| seconds * 1e3);
        Ok((run, Clock { server_ms: used.process as f64 / 1e6, client_ms, seconds }))
    }

    /// Starts Redis or Valkey on the first core and pins this thread to the second.
    pub(crate) fn start(&mut self, module: Option<&Path>, callers: usize) -> Result<Server> {
        let mut settings =
            vec![format!("maxclients {}", callers + 500), "maxmemory 0".into(), "tcp-backlog 4096".into()];
        if module.is_some() {
            settings.push(format!("smartcache.max-waiters {}", callers + 100));
            settings.push("smartcache.user-share 100%".into()); // all callers are one user
        }
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.pinned_start(|lab| Server::start(&lab.program, module, &settings))
    }

    fn start_memcached(&mut self, callers: usize) -> Result<Server> {
        if !self.names.contains_key("memcached") {
            let why = format!("{} cannot be started (Debian: apt-get install memcached)", self.memcached);
            return Err(why.into());
        }
        let dir = tempfile::Builder::new().prefix("memcached-").tempdir()?;
        let mut command = Command::new(&self.memcached);
        command.args(["-s", "./sock", "-a", "700", "-c", &(callers + 100).to_string()]);
        if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            command.args(["-u", "root"]); // it refuses to run as root without this
        }
        self.pinned_start(|lab| Server::launch(command, &lab.memcached, dir))
    }

    fn pinned_start(&mut self, start: impl FnOnce(&Lab) -> Result<Server>) -> Result<Server> {
        let pinned = lab::pin(0);
        let server = start(self);
        self.pinned = pinned && lab::pin(1);
        server
    }

    pub(crate) fn module(&self) -> Option<PathBuf> {
        self.module.clone()
    }

    pub(crate) fn facts(&self, args: &Args) -> Facts {
        let name = |of| self.names.get(of).cloned();
        let (server, waited) = (name("server").unwrap_or_default(), (self.ran, self.waited));
        Facts {
            common: support::report::Facts::new(&args.common, server, self.module.as_deref(), self.pinned, waited),
            memcached: name("memcached").unwrap_or("none".into()),
            python: name("python").unwrap_or("none".into()),
            ttl: if args.common.quick { 2 } else { args.ttl },
            limit: args::limit(args).as_secs(),
        }
    }
}

/// CPU and wall time from before the first request until the server is idle.
struct Clock {
    server_ms: f64,
    client_ms: f64,
    seconds: f64,
}

impl Clock {
    fn with(self, scenario: Scenario, run: Run, commands: BTreeMap<String, u64>) -> Measured {
        let Clock { server_ms, client_ms, seconds } = self;
        let window = if let Scenario::Expiry { seconds, .. } = scenario { seconds } else { 0.0 };
        Measured { run, commands, server_ms, client_ms, seconds, window }
    }
}

impl Measured {
    /// Why the run measured Python and not the server: its core was busy and callers are unanswered, or it sent
    /// requests too late.
    fn limited_by_python(&self, load: f64) -> Option<String> {
        let (left, busy) = (self.run.unanswered, self.client_ms / 10.0 / self.seconds);
        if left > 0 && busy > 50.0 {
            let (seconds, commands) = (self.seconds, thousands(self.commands.values().sum::<u64>() as usize));
            return Some(format!(
                "Python was the limit: its core was {busy:.0} % busy, and after {seconds:.0} s {} callers still waited \
                 (the server had {commands} commands)",
                thousands(left)
            ));
        }
        let loaded = self.run.loads.iter().copied().fold(f64::INFINITY, f64::min) + load;
        let asked = self.run.answers.iter().map(|answer| answer.at - answer.micros as f64 / 1e6);
        let late = asked.filter(|&at| at > loaded).count();
        (self.window == 0.0 && late > self.run.answers.len() / 100).then(|| {
            format!(
                "Python was the limit: {} callers sent their request only after the first load had ended",
                thousands(late)
            )
        })
    }
}

/// The numeric fields of memcached's `stats`.
fn stats(server: &Server) -> Result<BTreeMap<String, u64>> {
    let mut stream = UnixStream::connect(server.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"stats\r\n")?;
    let mut numbers = BTreeMap::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let mut words = line.split(' ').skip(1);
        match (words.next(), words.next().and_then(|word| word.parse().ok())) {
            _ if line == "END" => break,
            (Some(name), Some(number)) => numbers.insert(name.to_owned(), number),
            _ => None,
        };
    }
    Ok(numbers)
}

/// What a program prints; `None` when it cannot be run.
fn output_of(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

// ---- callers in Python ----------------------------------------------------------------------------------------------

const CALLERS: &str = include_str!("callers.py");

/// Maximum number of threads of one Python process.
const MOST_THREADS: usize = 1_000;
const TOO_MANY_THREADS: &str = "Python is the limit: with 5,000 threads it was busy with scheduling, and most had not sent \
                                their request when the load had ended";

/// Processes of Python callers; dropping it kills them.
struct Fleet {
    children: Vec<Child>,
}

impl Fleet {
    /// Starts the processes and waits until all callers are connected and the key is stored or missing, as required.
    fn start(
        python: &Path,
        approach: Approach,
        socket: &Path,
        scenario: Scenario,
        workload: &Workload,
    ) -> Result<Fleet> {
        let library = approach.library().ok_or("no library")?;
        let all = scenario.callers();
        let processes = approach.processes().min(all);
        let mut fleet = Fleet { children: Vec::new() };
        for process in 0..processes {
            let task = serde_json::json!({
                "library": library,
                "protected": approach == Approach::CashewsTen,
                "socket": socket,
                "key": String::from_utf8_lossy(KEY),
                // The numbers of this process's callers among all callers.
                "indexes": (process..all).step_by(processes).collect::<Vec<_>>(),
                "all": all,
                "seconds": match scenario {
                    Scenario::Cold { .. } => None,
                    Scenario::Expiry { seconds, .. } => Some(seconds),
                },
                "load": workload.load.as_secs_f64(),
                "ttl": workload.ttl,
                "limit": workload.limit.as_secs_f64(),
                "record": String::from_utf8_lossy(&workload.record),
            });
            let mut child = Command::new(python)
                .args(["-c", CALLERS])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .map_err(|e| format!("cannot start {}: {e}", python.display()))?;
            let sent = writeln!(child.stdin.as_mut().ok_or("no input")?, "{task}");
            fleet.children.push(child);
            sent?;
        }
        for child in &mut fleet.children {
            let out = child.stdout.as_mut().ok_or("no output")?;
            // Byte by byte, so that nothing after the line is consumed.
            let (mut line, mut byte) = (String::new(), [0]);
            while !line.ends_with('\n') && out.read(&mut byte)? > 0 {
                line.push(char::from(byte[0]));
            }
            if line.trim() != "ready" {
                return Err(format!("{library} did not get ready (its error is above)").into());
            }
        }
        Ok(fleet)
    }

    /// Starts all callers and gathers the record. Kills processes that are long overdue, or when this run is
    /// interrupted.
    fn run(&mut self, time_limit: Duration) -> Result<Run> {
        let pids: Vec<Pid> = self.children.iter().map(Pid::from_child).collect();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let began = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    if began.elapsed() > time_limit || server::interrupted() {
                        for &pid in &pids {
                            let _ = kill_process(pid, Signal::KILL);
                        }
                        break;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let run = self.gather();
            over.store(true, Ordering::Relaxed);
            run
        })
    }

    fn gather(&mut self) -> Result<Run> {
        for child in &mut self.children {
            child.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
        }
        let mut all = Run::default();
        for child in &mut self.children {
            let mut output = String::new();
            child.stdout.as_mut().ok_or("no output")?.read_to_string(&mut output)?;
            all.add(
                serde_json::from_str(&output)
                    .map_err(|e| format!("Python was the limit, and was killed when it was long overdue ({e})"))?,
            );
        }
        Ok(all)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
