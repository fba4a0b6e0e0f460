//! `make top`: what the cache does at this moment, by rule, with the keys that are asked for most; redrawn each second.
//!
//! ```text
//! make top                                             the server at 127.0.0.1:6379
//! make top ARGS="redis://viewer@cache-3:6379"          another one
//! cargo run --example top -- --help                    the options, and what the columns mean
//! ```
//!
//! Three threads and one channel: one reads the keyboard, one asks the server (`watch.rs`), and this one draws
//! (`screen.rs`) whenever either has news. What is drawn follows from two looks at the server (`numbers.rs`).

mod look;
mod numbers;
mod screen;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use look::{Look, Span};
use screen::{Paint, View};
use watch::Source;

/// Time between two looks.
const TICK: Duration = Duration::from_secs(1);

/// Shows what SmartCache does at this moment, for each rule, and which keys are asked for most.
#[derive(Parser)]
#[command(after_long_help = HELP)]
struct Args {
    /// The server: HOST, HOST:PORT, redis://[USER[:PASSWORD]@]HOST[:PORT], or the path of its unix socket.
    #[arg(default_value = "127.0.0.1:6379")]
    server: String,
    /// The user, where the address has none.
    #[arg(long)]
    user: Option<String>,
    /// The password, where the address has none. Others on this machine can read it here: the variable is better.
    #[arg(long, env = "REDISCLI_AUTH", hide_env_values = true)]
    password: Option<String>,
    /// Looks for one second, prints the screen as text, and ends.
    #[arg(long)]
    once: bool,
}

const HELP: &str = "\
Columns:
  req/s     reads by GET, MGET and GETLOCK, one a key
  hit%      of these answered without a load; hit% and the next five sum to 100
  cold%     found nothing: never stored, deleted, or gone long ago
  expir%    found nothing: the time was over
  inval%    found nothing: freshness was ended by command
  evict%    found nothing: the server made room
  busy%     were told to ask again
  saved/s   load time that hits avoided in a second (more than a second: hits come side by side)
  memory    of the entries: stored bytes and SmartCache's own beside them
  entries   how many there are, and ratio: raw bytes for each stored one (where there is room)

Keys:
  w         over what: the last second, the last minute, five minutes, hour, since start or reset
  s         the order of the rules: by requests, by misses, by load time saved, by memory, by name
  up, down  other rules, where there are more than fit
  q, Esc    ends it, as does Ctrl-C

It asks one server, once a second: STATS, HOTKEYS, HEALTH where the server has it, and INFO. A user needs
+smartcache.stats, and sees more with +smartcache.hotkeys, +smartcache.health and +info.
NO_COLOR=1 leaves out the colours. TLS is not built in: take a tunnel
(ssh -L 6379:localhost:6379 host).";

/// What there is to react to.
enum News {
    /// The server was looked at.
    Seen(Box<Look>),
    /// The server could not be looked at, and why.
    Gone(String),
    /// A key, or another size.
    Terminal(Event),
    /// A signal, or a terminal that is no more.
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
    // Before anything is drawn: an address that is wrong stays wrong.
    let mut source = Source::open(&args.server, args.user.as_deref(), args.password.as_deref())?;
    let mut view = View::new(source.name(), Paint::from_env());
    view.see(source.look(Span::Now)?);
    if args.once {
        thread::sleep(TICK);
        view.see(source.look(Span::Now)?);
        print!("{}", screen::as_text(&mut view));
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err("this is not a terminal: --once prints the screen as text".into());
    }

    let (tell, news) = mpsc::channel();
    let told = tell.clone();
    ctrlc::set_handler(move || drop(told.send(News::End))).map_err(|e| format!("no signals: {e}"))?;
    let mut terminal = ratatui::try_init().map_err(|e| format!("no terminal: {e}"))?;
    let spans = watch(source, tell.clone());
    listen(tell);
    let outcome = draw(&mut terminal, &mut view, &news, &spans);
    drop(terminal); // which shows the cursor again
    ratatui::restore();
    outcome.map_err(|e| format!("the terminal is gone: {e}"))
}

/// Looks at the server each second, and at once when told to look over another span.
fn watch(mut source: Source, tell: Sender<News>) -> Sender<Span> {
    let (ask, asked) = mpsc::channel();
    thread::spawn(move || {
        let (mut span, mut next) = (Span::Now, Instant::now() + TICK);
        loop {
            match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(other) => span = other,
                Err(mpsc::RecvTimeoutError::Timeout) => next = Instant::now() + TICK,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let news = source.look(span).map_or_else(News::Gone, |look| News::Seen(Box::new(look)));
            if tell.send(news).is_err() {
                return;
            }
        }
    });
    ask
}

fn listen(tell: Sender<News>) {
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.send(News::Terminal(event)).is_err() {
                return;
            }
        }
        drop(tell.send(News::End));
    });
}

fn draw(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    news: &Receiver<News>,
    spans: &Sender<Span>,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| screen::draw(frame, view))?;
        match news.recv() {
            Ok(News::Seen(look)) => view.see(*look),
            Ok(News::Gone(why)) => view.miss(why),
            Ok(News::Terminal(Event::Key(key))) if key.kind != KeyEventKind::Release => match meant(key) {
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Span) => drop(spans.send(view.next_span())),
                Some(Wish::Order) => view.next_order(),
                Some(Wish::Scroll(by)) => view.scroll(by),
                None => {}
            },
            Ok(News::Terminal(_)) => {}
            Ok(News::End) | Err(_) => return Ok(()),
        }
    }
}

/// What a key asks for.
enum Wish {
    Quit,
    Span,
    Order,
    Scroll(isize),
}

fn meant(key: KeyEvent) -> Option<Wish> {
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Char('w') => Some(Wish::Span),
        KeyCode::Char('s') => Some(Wish::Order),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Scroll(-1)),
        KeyCode::PageDown => Some(Wish::Scroll(10)),
        KeyCode::PageUp => Some(Wish::Scroll(-10)),
        _ => None,
    }
}
