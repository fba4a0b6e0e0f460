//! `make top` in a pseudo-terminal: the screen, the keys, and the restored terminal at the end.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{Server, args, wait_until};

#[test]
fn rules_rates_and_hot_keys_appear_and_q_quits() {
    let s = server();
    let _traffic = Traffic::start(&s);
    let mut top = Top::start(&s, 80, 24, &[]);
    // Name, requests a second, hit rate, and the reasons of the misses: a third each is a hit, cold, and invalidated.
    top.wait_for("rates by rule", |text| {
        numbers(text, "user").is_some_and(|n| n[0] > 0.0 && (n[1] - 66.7).abs() < 20.0 && (n[2] - 33.3).abs() < 20.0)
    });
    top.wait_for("that `idle` has no requests", |text| {
        text.lines().any(|line| line.starts_with("idle ") && line.split_whitespace().nth(2) == Some("-"))
    });
    top.wait_for("the hot keys", |text| {
        text.contains("HOT KEY") && text.contains("user:\\xff\\u{1b}[2J") && text.contains("user:gone")
    });
    let text = top.text();
    let head: Vec<_> = text.lines().take(2).collect();
    assert!(head[0].starts_with(&format!("SmartCache  127.0.0.1:{}  ", s.port())), "{text}");
    assert!(head[0].contains("primary") && head[0].contains("span: last second"), "{text}");
    assert!(head[1].contains("server memory"), "{text}");
    // Without HEALTH the line is missing.
    assert_eq!(text.contains("health: "), !s.call("SMARTCACHE.HEALTH").is_error(), "{text}");
    assert!(text.lines().last().unwrap().starts_with("q quit"), "{text}");
    assert!(top.is_coloured());

    top.press(b"w");
    top.wait_for("the last minute", |text| text.contains("  span: last minute") && numbers(text, "user").is_some());
    top.press(b"s");
    top.wait_for("another order", |text| text.contains("order: misses"));

    top.resize(120, 40);
    top.wait_for("more columns", |text| text.contains("entries ratio") && text.lines().count() == 40);
    top.resize(30, 6);
    top.wait_for("less of everything", |text| text.contains("SmartCache") && !text.contains("entries ratio"));
    top.resize(80, 24);
    top.wait_for("all of it", |text| text.contains("HOT KEY") && numbers(text, "user").is_some());

    top.press(b"q");
    assert!(top.ended().success());
    top.assert_restored();
}

#[test]
fn ctrl_c_and_signals_restore_the_terminal_too() {
    let s = server();
    let mut top = Top::start(&s, 80, 24, &[]);
    top.press(b"\x03");
    assert!(top.ended().success());
    top.assert_restored();
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        let mut top = Top::start(&s, 80, 24, &[]);
        // SAFETY: it is our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(top.child.id() as i32, signal) }, 0);
        assert!(top.ended().success());
        top.assert_restored();
    }
}

#[test]
fn a_server_that_goes_away_is_reported_until_it_is_back() {
    let mut s = server();
    let mut top = Top::start(&s, 80, 24, &[]);
    top.wait_for("the rules", |text| text.contains("\nuser "));
    s.kill();
    top.wait_for("that it is gone", |text| text.contains("no answer for") && text.contains("\nuser "));
    s.restart();
    s.ok("SMARTCACHE.RULE SET recreated MATCH *");
    top.wait_for("that it is back", |text| text.contains("\nrecreated ") && !text.contains("no answer"));
    top.press(b"q");
    assert!(top.ended().success());
}

#[test]
fn no_color_turns_colours_off() {
    let s = server();
    let _traffic = Traffic::start(&s);
    for (value, coloured) in [("1", false), ("", true)] {
        let mut top = Top::start(&s, 80, 24, &[("NO_COLOR", value)]);
        top.wait_for("a rate", |text| numbers(text, "user").is_some());
        assert_eq!(top.is_coloured(), coloured, "NO_COLOR={value}");
        top.press(b"q");
        top.ended();
    }
}

#[test]
fn invalid_arguments_are_reported_at_once() {
    let s = server();
    let address = format!("127.0.0.1:{}", s.port());
    s.ok("ACL SETUSER viewer on >password +smartcache.stats +info");
    let run = |words: &[&str]| -> Output {
        let mut command = Command::new(program());
        command.args(words).env_remove("REDISCLI_AUTH").stdin(Stdio::null());
        command.output().expect("it runs")
    };
    let refused = |words: &[&str]| {
        let out = run(words);
        assert_eq!(out.status.code(), Some(1), "{words:?}");
        assert!(out.stdout.is_empty(), "{words:?}");
        String::from_utf8(out.stderr).expect("text")
    };
    assert_eq!(refused(&[&address]), "top: this is not a terminal: --once prints the screen as text\n");
    let why = refused(&[&format!("redis://viewer:wrong@{address}")]);
    assert!(why.starts_with(&format!("top: {address}: ")) && !why.contains("wrong@"), "{why}");
    assert!(refused(&[&format!("rediss://{address}")]).contains("TLS is not built in"));
    let bare = Server::setup().without_module().tcp().start();
    bare.ok("PING");
    let why = refused(&[&format!("127.0.0.1:{}", bare.port())]);
    assert_eq!(why, format!("top: 127.0.0.1:{}: this server has not loaded SmartCache\n", bare.port()));

    // For scripts: one screen as text, over the unix socket, as a user who may not run HOTKEYS.
    let socket = s.path("s");
    let out = run(&["--once", "--user", "viewer", "--password", "password", &socket.to_string_lossy()]);
    let text = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success() && text.contains("\nuser ") && text.contains("NOPERM"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    let help = String::from_utf8(run(&["--help"]).stdout).expect("text");
    assert!(help.contains("saved/s") && help.contains("Ctrl-C"), "{help}");
}

// ---- a busy server ----

fn server() -> Server {
    let s = Server::setup().tcp().start();
    s.ok("SMARTCACHE.RULE SET user MATCH user:*");
    s.ok("SMARTCACHE.RULE SET idle MATCH idle:*");
    s
}

/// The numbers in the row of a rule: requests per second, hit rate, and so on; `None` while there are none.
fn numbers(text: &str, rule: &str) -> Option<Vec<f64>> {
    let row = text.lines().find_map(|line| line.strip_prefix(rule)?.strip_prefix(' '))?;
    let numbers = row.split_whitespace().take(7).map(|word| {
        let (digits, scale) = word.strip_suffix('k').map_or((word, 1.0), |digits| (digits, 1_000.0));
        Some(digits.trim_start_matches(['<', '>']).parse::<f64>().ok()? * scale)
    });
    numbers.collect::<Option<Vec<_>>>().filter(|numbers| numbers.len() == 7)
}

/// Reads two existing keys, one of them with a binary name, and a missing one, until the test ends.
struct Traffic {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(s: &Server) -> Traffic {
        let (over, mut conn) = (Arc::new(AtomicBool::new(false)), s.connect());
        let strange = b"user:\xff\x1b[2J".as_slice();
        conn.call_args(args!["SMARTCACHE.SET", strange, "v"]);
        conn.call_args(args!["SMARTCACHE.SET", "user:1", "v"]);
        let ended = over.clone();
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                conn.call_args(args!["SMARTCACHE.MGET", strange, "user:1", "user:gone"]);
                thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        Traffic { over, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

// ---- a terminal ----

/// The program in its own pseudo-terminal, and its screen.
struct Top {
    child: Child,
    /// The keyboard.
    keyboard: File,
    /// Kept, so that its final modes can be read.
    terminal: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

/// `scripts/common.sh` builds it beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("this program");
    let path = tests.parent().and_then(|deps| deps.parent()).expect("target/debug").join("examples/top");
    assert!(path.exists(), "{} is missing: run `cargo build --example top` first", path.display());
    path
}

impl Top {
    /// Starts the program and waits for its first screen.
    #[track_caller]
    fn start(s: &Server, columns: u16, rows: u16, vars: &[(&str, &str)]) -> Top {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("ASCII");
        let terminal = File::options().read(true).write(true).open(name).expect("its other end");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(columns), 0)));
        let before = tcgetattr(&terminal).expect("its modes");

        let mut command = Command::new(program());
        command.arg(format!("127.0.0.1:{}", s.port())).env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command.envs(vars.iter().copied());
        let end = || Stdio::from(terminal.try_clone().expect("one more"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: setsid, ioctl and prctl are async-signal-safe and touch nothing of ours. The terminal becomes the one
        // that Ctrl-C and size changes come from, and the program ends with the test's thread.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(std::io::stdin())?;
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().expect("one more");
        let terminal = OwnedFd::from(terminal);
        resize(&terminal, columns, rows);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let shown = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("nobody panicked").process(&bytes[..read]);
            }
        });
        let mut top = Top { child, keyboard, terminal, before, screen };
        top.wait_for("the first screen", |text| text.contains("SmartCache"));
        assert!(top.screen.lock().expect("nobody panicked").screen().alternate_screen());
        top
    }

    fn text(&self) -> String {
        self.screen.lock().expect("nobody panicked").screen().contents()
    }

    /// Waits until the screen shows something.
    #[track_caller]
    fn wait_for(&mut self, what: &str, mut shown: impl FnMut(&str) -> bool) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, || shown(&self.text()));
        }));
        if outcome.is_err() {
            panic!("the screen never showed {what}; it shows\n{}", self.text());
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("it is typed");
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.screen.lock().expect("nobody panicked").screen_mut().set_size(some(rows), some(columns));
        resize(&self.terminal, columns, rows);
    }

    fn is_coloured(&self) -> bool {
        let parser = self.screen.lock().expect("nobody panicked");
        let (rows, columns) = parser.screen().size();
        let mut cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        cells.any(|(row, column)| {
            let cell = parser.screen().cell(row, column).expect("within the size");
            cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
        })
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().expect("our own child can be asked");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Main screen, visible cursor, original modes.
    #[track_caller]
    fn assert_restored(&mut self) {
        wait_until("the main screen with a cursor", || {
            let parser = self.screen.lock().expect("nobody panicked");
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        });
        let after = tcgetattr(&self.terminal).expect("its modes");
        assert_eq!(
            (after.input_modes, after.output_modes, after.control_modes, after.local_modes),
            (self.before.input_modes, self.before.output_modes, self.before.control_modes, self.before.local_modes),
        );
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some(lines: u16) -> NonZero<u16> {
    NonZero::new(lines).expect("a terminal has lines")
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a terminal has a size");
}
