//! `make top`: what the cache does now, by rule, with the hottest keys; redrawn each second.
//!
//! ```text
//! make top                                             the server at 127.0.0.1:6379
//! make top ARGS="redis://viewer@cache-3:6379"          another one
//! cargo run --example top -- --help                    the options, and what the columns mean
//! ```
//!
//! Three threads and one channel: one reads the keyboard, one polls the server (`watch.rs`), and the main thread draws
//! (`screen.rs`) after each event of the others. The rates follow from two polls (`numbers.rs`).

mod numbers;
mod screen;
mod snapshot;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use screen::{Paint, View};
use snapshot::{Snapshot, Span};
use watch::Source;

/// Time between two polls.
const TICK: Duration = Duration::from_secs(1);

/// Shows what SmartCache does now, for each rule, and the hottest keys.
#[derive(Parser)]
#[command(after_long_help = HELP)]
struct Args {
    /// The server: HOST, HOST:PORT, redis://[USER[:PASSWORD]@]HOST[:PORT], or the path of its unix socket.
    #[arg(default_value = "127.0.0.1:6379")]
    server: String,
    /// The user, where the address has none.
    #[arg(long)]
    user: Option<String>,
    /// The password, where the address has none. Other users can read it in the process list: prefer the variable.
    #[arg(long, env = "REDISCLI_AUTH", hide_env_values = true)]
    password: Option<String>,
    /// Polls for one second, prints the screen as text, and exits.
    #[arg(long)]
    once: bool,
}

const HELP: &str = "\
Columns:
  req/s     reads by GET, MGET and GETLOCK, one a key
  hit%      of these answered without a load; hit% and the next five sum to 100
  cold%     missed: never stored, deleted, or removed long ago
  expir%    missed: expired
  inval%    missed: invalidated by command
  evict%    missed: evicted by the server
  busy%     answered BUSY: the caller must retry
  saved/s   load time that hits avoided per second (hits are concurrent, so it may exceed a second)
  memory    of the entries: stored bytes and overhead
  entries   number of entries, and ratio: raw bytes per stored byte (on wide screens)

Keys:
  w         the time span: last second, minute, five minutes, hour, since start or reset
  s         the order of the rules: requests, misses, load time saved, memory, name
  up, down  scroll the rules
  q, Esc    quit, as does Ctrl-C

It polls one server once a second with STATS, HOTKEYS, HEALTH and INFO. A user needs +smartcache.stats, and sees more
with +smartcache.hotkeys, +smartcache.health and +info.
NO_COLOR=1 turns colours off. TLS is not built in: use a tunnel
(ssh -L 6379:localhost:6379 host).";

/// What the other threads send to the main thread.
enum Message {
    /// A poll of the server succeeded.
    Polled(Box<Snapshot>),
    /// A poll failed, and why.
    Failed(String),
    /// A key, or a new size.
    Terminal(Event),
    /// A signal, or the end of the terminal.
    End,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("top: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    // Before anything is drawn: a wrong address does not become right.
    let mut source = Source::open(&args.server, args.user.as_deref(), args.password.as_deref())?;
    let mut view = View::new(source.name(), Paint::from_env());
    view.update(source.poll(Span::Now)?);
    if args.once {
        thread::sleep(TICK);
        view.update(source.poll(Span::Now)?);
        print!("{}", screen::as_text(&mut view));
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err("this is not a terminal: --once prints the screen as text".into());
    }

    let (sender, messages) = mpsc::channel();
    let on_signal = sender.clone();
    ctrlc::set_handler(move || drop(on_signal.send(Message::End)))
        .map_err(|e| format!("cannot handle signals: {e}"))?;
    let mut terminal = ratatui::try_init().map_err(|e| format!("no terminal: {e}"))?;
    let spans = watch(source, sender.clone());
    listen(sender);
    let outcome = draw(&mut terminal, &mut view, &messages, &spans);
    drop(terminal); // which shows the cursor again
    ratatui::restore();
    outcome.map_err(|e| format!("the terminal is gone: {e}"))
}

/// Polls the server each second, and at once when another span is requested.
fn watch(mut source: Source, sender: Sender<Message>) -> Sender<Span> {
    let (spans, requested) = mpsc::channel();
    thread::spawn(move || {
        let (mut span, mut next) = (Span::Now, Instant::now() + TICK);
        loop {
            match requested.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(other) => span = other,
                Err(mpsc::RecvTimeoutError::Timeout) => next = Instant::now() + TICK,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let message =
                source.poll(span).map_or_else(Message::Failed, |snapshot| Message::Polled(Box::new(snapshot)));
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    spans
}

fn listen(sender: Sender<Message>) {
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(Message::Terminal(event)).is_err() {
                return;
            }
        }
        drop(sender.send(Message::End));
    });
}

fn draw(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    messages: &Receiver<Message>,
    spans: &Sender<Span>,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| screen::draw(frame, view))?;
        match messages.recv() {
            Ok(Message::Polled(snapshot)) => view.update(*snapshot),
            Ok(Message::Failed(why)) => view.fail(why),
            Ok(Message::Terminal(Event::Key(key))) if key.kind != KeyEventKind::Release => match action_of(key) {
                Some(Action::Quit) => return Ok(()),
                Some(Action::Span) => drop(spans.send(view.next_span())),
                Some(Action::Order) => view.next_order(),
                Some(Action::Scroll(by)) => view.scroll(by),
                None => {}
            },
            Ok(Message::Terminal(_)) => {}
            Ok(Message::End) | Err(_) => return Ok(()),
        }
    }
}

/// What a key does.
enum Action {
    Quit,
    Span,
    Order,
    Scroll(isize),
}

fn action_of(key: KeyEvent) -> Option<Action> {
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('w') => Some(Action::Span),
        KeyCode::Char('s') => Some(Action::Order),
        KeyCode::Down | KeyCode::Char('j') => Some(Action::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Action::Scroll(-1)),
        KeyCode::PageDown => Some(Action::Scroll(10)),
        KeyCode::PageUp => Some(Action::Scroll(-10)),
        _ => None,
    }
}
