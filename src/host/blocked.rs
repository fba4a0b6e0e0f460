//! Callers who wait for a lease (`GETLOCK … WAIT`): parked by the server, answered by us.
//!
//! Our own timer is set for the next deadline in the table of leases. The reply callback runs later than the command
//! that woke the waiter, and other commands come in between: so the answer, with the value shared by all who get it,
//! is made at once and carried along.
//!
//! Answers are sent in slices, since the work of writing them happens after `UnblockClient` returns and cannot be
//! timed: 5,000 at once stopped the server for 92 ms. A slice is for a stretch of time and not for a command, of
//! which a pipeline holds any number.

use std::cell::{Cell, LazyCell, RefCell};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::blocked_clients::{self, BlockedClients, Waiters};
use super::clock::clock_now;
use super::ffi::{Ctx, is_valkey, server_version};
use super::keyspace::{ServerDatabases, ServerKeys};
use super::main_thread::MainThread;
use super::panic;
use super::reply::ServerReply;
use super::state::try_state;
use super::timer::{self, Timer, TimerId};
use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::lease::pace;
use crate::cache::lease::table::{Answer, WaiterId};
use crate::cache::node::acquire::Values;
use crate::cache::node::context::Node;
use crate::cache::node::driver;
use crate::commands::getlock;

/// How long a tick deals with leases and waiters that are due; the next one goes on.
const TICK: Duration = Duration::from_millis(1);
/// How many of them are dealt with between two looks at the clock.
const AT_ONCE: usize = 32;

/// When to try again after a failure.
const LATER_MS: u64 = 20;

#[derive(Default)]
struct Host {
    /// Waiters who left while the state was borrowed.
    left: RefCell<Vec<WaiterId>>,
    /// The timer of leases: when it is set for, and the server's number of it.
    timer: RefCell<driver::Timer>,
    timer_id: Cell<Option<TimerId>>,
}

type Clients = RefCell<BlockedClients<WaiterId, Answer>>;

static HOST: MainThread<LazyCell<Host>> = MainThread::new(LazyCell::new(Host::default));
static CLIENTS: MainThread<LazyCell<Clients>> = MainThread::new(LazyCell::new(Clients::default));
/// How many panics there were when the waiters were last compared with the table of leases.
static CHECKED_PANICS: AtomicU64 = AtomicU64::new(0);

/// Those who wait for a lease.
struct LeaseWaiters;

impl Waiters for LeaseWaiters {
    type Id = WaiterId;
    type Answer = Answer;
    const NAME: &'static str = "a waiter for a lease";

    fn clients() -> &'static Clients {
        CLIENTS.get()
    }

    fn write(reply: &mut ServerReply<'_>, command: &[u8], answer: Option<&Answer>) {
        let native = getlock::is_native(command);
        match answer {
            Some(answer) => getlock::write_deferred_reply(reply, answer, native),
            None => getlock::write_deferred_reply(reply, &Answer::ask_again(), native),
        }
    }

    fn time_out(ctx: Ctx<'_>, id: WaiterId) -> Option<Answer> {
        give_up(ctx, id)
    }

    fn gone(id: WaiterId, sent: Option<Answer>) {
        let state = try_state();
        match (sent, state) {
            (Some(answer), Some(mut state)) => {
                let now = clock_now();
                let State { leases, stats, .. } = &mut *state;
                leases.undelivered(answer, &mut stats.at(now));
                set_timer(&state, now);
            }
            (Some(_), None) => {} // its lease ends by its own deadline
            (None, Some(mut state)) => {
                let now = clock_now();
                leave(&mut state, id, now);
                set_timer(&state, now);
            }
            (None, None) => HOST.get().left.borrow_mut().push(id),
        }
    }
}

/// Has the server block the caller of the running command. A caller whom the server does not block is asked to retry.
pub(super) fn park(reply: &mut ServerReply<'_>, state: &mut State, command: &[u8], id: WaiterId) {
    if !blocked_clients::block::<LeaseWaiters>(reply, id) {
        leave(state, id, clock_now());
        getlock::write_deferred_reply(reply, &Answer::ask_again(), getlock::is_native(command));
    }
}

/// The command has failed that parked this waiter: its caller gets an error and does not wait.
pub(super) fn unpark(state: &mut State, id: WaiterId) {
    leave(state, id, clock_now());
}

/// At each turn of the server's cron: sets a lost timer again.
pub(super) fn rearm_timer(state: &mut State, now: Now) {
    release_lost(state);
    if !state.leases.is_idle() || state.leases.has_answers() {
        set_timer(state, now);
    }
}

/// After a panic, a waiter may have dropped out of the table of leases: a blocked client that is unknown there would
/// hang.
fn release_lost(state: &mut State) {
    let panics = panic::so_far();
    if CHECKED_PANICS.swap(panics, Relaxed) == panics {
        return;
    }
    let waiting = CLIENTS.get().borrow().waiting();
    for id in waiting {
        if state.leases.waiter(id).is_none() {
            let answer = state.leases.take_answer(id).unwrap_or_else(Answer::ask_again);
            CLIENTS.get().borrow_mut().send(id, answer);
        }
    }
}

/// Sends answers and sets the timer, after leases may have changed.
pub(super) fn refresh_answers(state: &mut State, now: Now) {
    if may_send_between_commands() {
        send(state, now);
    }
    set_timer(state, now);
}

/// See [`pace::may_send_between_commands`]: asked of the server once.
fn may_send_between_commands() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| pace::may_send_between_commands(is_valkey(), server_version()))
}

/// Sends the answers that the core hands out now.
fn send(state: &mut State, now: Now) {
    while let Some((id, answer)) = state.poll_answer(now) {
        CLIENTS.get().borrow_mut().send(id, answer);
    }
}

/// Sets the timer for what comes next, unless one is set that comes no later.
fn set_timer(state: &State, now: Now) {
    let next = match HOST.get().left.borrow().is_empty() {
        true => state.next_lease_timer(now),
        false => Some(now.mono_ms() + 1),
    };
    if let Some(at_ms) = next {
        start_timer(at_ms, now);
    }
}

fn start_timer(at_ms: u64, now: Now) {
    let Some(after_ms) = HOST.get().timer.borrow_mut().set_for(at_ms, now) else { return };
    if let Some(timer) = HOST.get().timer_id.take() {
        timer::stop(timer); // set for later than what comes next, or lost
    }
    let after_ms = after_ms.min(i64::MAX as u64 / 1_000_000) as i64;
    HOST.get().timer_id.set(timer::start::<LeaseTimer>(after_ms, 0));
}

/// Fires when a lease or a waiter is due, or answers wait to be sent.
struct LeaseTimer;

impl Timer for LeaseTimer {
    const NAME: &'static str = "the timer of leases";

    fn fire(ctx: Ctx<'_>, _: usize) {
        HOST.get().timer.borrow_mut().fired();
        HOST.get().timer_id.set(None);
        tick(ctx);
    }

    fn recover(_: usize) {
        retry_later();
    }
}

/// Nobody may wait for ever.
fn retry_later() {
    let now = clock_now();
    start_timer(now.mono_ms() + LATER_MS, now);
}

fn tick(ctx: Ctx<'_>) {
    let now = clock_now();
    let Some(mut state) = try_state() else { return retry_later() };
    let left = HOST.get().left.take();
    for id in left {
        leave(&mut state, id, now);
    }
    let began = Instant::now();
    let mut databases = ServerDatabases::new(ctx);
    while state.handle_deadlines(&mut databases, now, AT_ONCE) && began.elapsed() < TICK {}
    state.leases.begin_answers(now);
    send(&mut state, now);
    set_timer(&state, now);
}

fn leave(state: &mut State, id: WaiterId, now: Now) {
    let State { leases, stats, .. } = state;
    let mut tally = stats.at(now);
    if !leases.leave(id, WaitOutcome::Dropped, &mut tally)
        && let Some(answer) = leases.take_answer(id)
    {
        leases.undelivered(answer, &mut tally); // it left just before its answer was sent
    }
}

/// The answer to a waiter whose time is over.
fn give_up(ctx: Ctx<'_>, id: WaiterId) -> Option<Answer> {
    let Some(mut state) = try_state() else {
        HOST.get().left.borrow_mut().push(id);
        return None;
    };
    let now = clock_now();
    if let Some(db) = state.leases.waiter(id).map(|waiter| waiter.db) {
        let mut keys = ServerKeys::new(ctx, &[], None);
        Node { state: &mut state, keys: &mut keys, db, now }.give_up(id, &mut Values::default());
    }
    let answer = state.leases.take_answer(id);
    if state.leases.take_dirty() {
        refresh_answers(&mut state, now);
    }
    answer
}
