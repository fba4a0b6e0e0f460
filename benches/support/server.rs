//! Starts a server for a measurement or a demo, in a temporary directory.
//!
//! It listens on a unix socket only, saves nothing, and is killed when the [`Server`] is dropped: at the end, on an
//! error, in a panic. Ctrl-C does not reach it, since it has its own process group; it sets a flag ([`interrupted`]),
//! on which the owner returns early and drops the server.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::ErrorKind,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The error is any failure, described in a sentence.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a server may take from its start to its first accepted connection.
const START_LIMIT: Duration = Duration::from_secs(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A running server process; dropping it kills the process and removes its directory.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    /// Starts `program` with `module` (or as it is) and `settings`, lines as in `redis.conf`.
    pub(crate) fn start(program: &str, module: Option<&Path>, settings: &[&str]) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("smartcache-").tempdir()?;
        let mut conf = settings.join("\n");
        // After the settings, so that it overrides them.
        conf.push_str("\nport 0\nunixsocket sock\nsave \"\"\nappendonly no\ndaemonize no\n");
        if let Some(module) = module {
            let module = fs::canonicalize(module).map_err(|e| format!("module {}: {e}", module.display()))?;
            conf.push_str(&format!("loadmodule {}\n", module.display()));
        }
        fs::write(dir.path().join("redis.conf"), conf)?;

        let mut command = Command::new(program);
        command.arg("redis.conf");
        Server::launch(command, program, dir)
    }

    /// Starts `command` in `dir`, where it must listen on the unix socket `sock`. `name` is for messages.
    pub(crate) fn launch(mut command: Command, name: &str, dir: TempDir) -> Result<Server> {
        let log = File::create(dir.path().join("log"))?;
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot start {name}: {e}"))?;
        let mut server = Server { child, dir };
        server.wait_until_it_listens(name)?;
        Ok(server)
    }

    /// Its only address.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn wait_until_it_listens(&mut self, program: &str) -> Result<()> {
        let started = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            if interrupted() {
                return Err("interrupted".into());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_LIMIT {
                let what = ended.map_or("does not listen".to_owned(), |status| format!("ended ({status})"));
                return Err(format!("{program} {what}; the end of its log:\n{}", self.log_tail()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing on disk needs an orderly shutdown, and `kill` needs no connection that might hang.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server program: `SERVER` of the environment, else the installed one.
pub(crate) fn program() -> String {
    if let Ok(program) = env::var("SERVER") {
        return program;
    }
    let installed = |name: &&str| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        !matches!(version, Err(e) if e.kind() == ErrorKind::NotFound)
    };
    ["redis-server", "valkey-server"].into_iter().find(installed).unwrap_or("redis-server").to_owned()
}

/// The module built by `cargo build --release`: `release/libsmartcache.so` in the target folder of this program.
pub(crate) fn built_module() -> Result<PathBuf> {
    in_target("release/libsmartcache.so").ok_or_else(|| {
        "the module is not built yet (no release/libsmartcache.so in the target folder): run `cargo build --release`"
            .into()
    })
}

/// The path of a file in the target folder of this program, if it exists.
pub(crate) fn in_target(path: &str) -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program.ancestors().map(|dir| dir.join(path)).find(|path| path.is_file())
}

/// From now on Ctrl-C, SIGTERM and SIGHUP only make [`interrupted`] true.
pub(crate) fn catch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    Ok(())
}

/// Whether the program was asked to stop; long loops check it and return an error.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
