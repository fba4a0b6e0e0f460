//! Callers who are kept waiting: parked by the server, answered by us.
//!
//! ```text
//!  GETLOCK … WAIT ─ park ─▶ blocked client ◀─ handle ─▶ WaiterId ─ queue of its key (cache/lease.rs)
//!                                │                                     │ store, UNLOCK, deadline …
//!        disconnected, killed ───┤                                     ▼
//!        CLIENT UNBLOCK ─────────┤                               outbox of answers
//!                                ▼                                     │ some at each tick
//!                          reply callback ◀──────── UnblockClient ◀────┘
//! ```
//!
//! Clients are blocked as such and not on their key (before 7.2 the server never wakes one for a key that is not there),
//! and without a time-out of the server's, which come up to 100 ms late: our own timer is set for whatever comes due next
//! in the table of leases. The reply callback runs later than the command that woke the waiter, and other commands come in
//! between: so the answer, with the value shared by all who get it, is made at once and carried along.
//!
//! Answers are sent in slices, since the work of writing them happens after `UnblockClient` returns and cannot be timed:
//! 5,000 at once stood the server still for 92 ms. A slice is for a stretch of time and not for a command, of which a
//! pipeline holds any number.
//!
//! The server calls exactly one of `reply`, `timed_out` and `gone` for each blocked client, and `UnblockClient` is called
//! exactly once for each, else it would leak.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;

use lazy_static::lazy_static;
use redis_module::raw;

use super::ffi::{Ctx, server, server_may};
use super::keyspace::ServerKeys;
use super::reply::ServerReply;
use super::{catch_panic, clock_now, context, filter, try_state};
use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::lease::table::{Answer, Deadline, WaiterId};
use crate::cache::node::acquire::Values;
use crate::cache::node::context::Node;
use crate::commands::getlock;

/// Answers sent at each tick; and by the commands of a few milliseconds together.
const ANSWERS_A_SLICE: usize = 100;
/// The bytes of their values.
const BYTES_A_SLICE: usize = 1 << 20;
/// Leases and waiters whose time has come, dealt with at each tick.
const DUE_A_TICK: usize = 1_000;

/// How late a timer may be before it is taken for one that will not come.
const OVERDUE_MS: u64 = 100;
/// When to try again where something went wrong.
const LATER_MS: u64 = 20;

/// A client that the server has blocked for us.
struct Blocked {
    id: WaiterId,
    /// Its answer, once the server has been told to go on with it.
    sent: Option<Answer>,
}

#[derive(Default)]
struct BlockedClients {
    by_handle: HashMap<usize, Blocked>,
    handles: HashMap<WaiterId, usize>,
    /// Those who left while the state was out of reach.
    left: Vec<WaiterId>,
    /// The timer that is set, and for when.
    timer: Option<(raw::RedisModuleTimerID, u64)>,
    /// What has been sent lately.
    slice: Slice,
}

/// Answers sent since some moment.
#[derive(Default)]
struct Slice {
    since_ms: u64,
    answers: usize,
    bytes: usize,
}

impl Slice {
    fn is_full(&self) -> bool {
        self.answers >= ANSWERS_A_SLICE || self.bytes >= BYTES_A_SLICE
    }
}

struct MainThread(RefCell<BlockedClients>);
// SAFETY: commands, timers, events and the callbacks of blocked clients all run on the server's main thread.
unsafe impl Sync for MainThread {}

lazy_static! {
    static ref BLOCKED: MainThread = MainThread(RefCell::default());
}

/// Has the server block the caller of the running command. One that it will not block is told to ask again.
pub(super) fn park(ctx: Ctx, state: &mut State, id: WaiterId) {
    // SAFETY: the context is that of a running command which may block (`Server::may_wait`) and has answered nothing; the
    // callbacks have the types that the server calls; 0 is no time-out.
    let handle = unsafe { server!(RedisModule_BlockClient)(ctx.as_ptr(), Some(reply), Some(timed_out), None, 0) };
    if handle.is_null() {
        leave(state, id, clock_now());
        return getlock::write_deferred_reply(&mut ServerReply::new(ctx), &Answer::ask_again());
    }
    // SAFETY: the handle is the one just made.
    unsafe { server!(RedisModule_SetDisconnectCallback)(handle, Some(gone)) };
    let mut blocked = BLOCKED.0.borrow_mut();
    blocked.by_handle.insert(handle as usize, Blocked { id, sent: None });
    blocked.handles.insert(id, handle as usize);
}

/// To be called when leases may have changed: sends answers, sees to the timer, and to the filter.
pub(super) fn after_command(mut state: RefMut<'_, State>) {
    if state.leases.take_dirty() || filter::is_missing(&state) {
        let now = clock_now();
        refresh_answers(&mut state, now);
        filter::refresh(&state, now);
    }
}

/// At each turn of the server's cron: a timer that does not come is set anew.
pub(super) fn rearm_timer(state: &State, now: Now) {
    if !state.leases.is_idle() || state.leases.has_answers() {
        set_timer(state, now);
    }
}

/// The same from inside the filter, which is not to be touched then.
pub(super) fn refresh_answers(state: &mut State, now: Now) {
    if may_send_between_commands() {
        send(state, now, false);
    }
    set_timer(state, now);
}

/// Until the server goes on with a client that we have unblocked, other commands may come in between, and before 7.2 one
/// of them leaves that client without any answer: `CLIENT UNBLOCK`. Between a timer and going on nothing comes.
fn may_send_between_commands() -> bool {
    server_may!(RedisModule_CachedMicroseconds).is_some() // 7.2 and later
}

/// Sends what the slice of this moment has room for; a new one begins with each tick, and else every few milliseconds.
fn send(state: &mut State, now: Now, tick: bool) {
    if tick || BLOCKED.0.borrow().slice.since_ms != now.mono_ms() {
        BLOCKED.0.borrow_mut().slice = Slice { since_ms: now.mono_ms(), ..Slice::default() };
    }
    while !BLOCKED.0.borrow().slice.is_full() {
        let Some((id, answer)) = state.leases.next_answer() else { break };
        let mut blocked = BLOCKED.0.borrow_mut();
        let Some(handle) = blocked.handles.remove(&id) else { continue };
        blocked.slice.answers += 1;
        blocked.slice.bytes += answer.value.as_ref().map_or(0, |(_, value)| value.len());
        if let Some(one) = blocked.by_handle.get_mut(&handle) {
            one.sent = Some(answer);
            unblock(handle);
        }
    }
}

fn unblock(handle: usize) {
    // SAFETY: a handle of `park`, which is unblocked only here and only once: `handles` has given it up.
    unsafe { server!(RedisModule_UnblockClient)(handle as *mut raw::RedisModuleBlockedClient, ptr::null_mut()) };
}

/// Sets the timer for what comes next, unless one is set that comes no later.
fn set_timer(state: &State, now: Now) {
    let soon = state.leases.has_answers() || !BLOCKED.0.borrow().left.is_empty();
    let next = if soon { Some(now.mono_ms() + 1) } else { state.leases.next_due() };
    let Some(at) = next else { return };
    let timer = BLOCKED.0.borrow().timer;
    match timer {
        Some((_, set_for)) if set_for <= at && now.mono_ms() <= set_for + OVERDUE_MS => return,
        Some((timer, _)) => {
            // Set for later than what comes next; or overdue: the server's timers go by the wall clock, which may have been
            // set back.
            // SAFETY: the timer is one of ours that has not run; its data, null, is not asked for.
            unsafe { server!(RedisModule_StopTimer)(context(), timer, ptr::null_mut()) };
        }
        None => {}
    }
    start_timer(at, now);
}

fn start_timer(at: u64, now: Now) {
    let after_ms = at.saturating_sub(now.mono_ms()).clamp(1, i64::MAX as u64 / 1_000_000);
    // SAFETY: the context lives as long as the module; the callback takes no data.
    let timer = unsafe { server!(RedisModule_CreateTimer)(context(), after_ms as i64, Some(tick), ptr::null_mut()) };
    BLOCKED.0.borrow_mut().timer = Some((timer, at));
}

unsafe extern "C" fn tick(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    BLOCKED.0.borrow_mut().timer = None;
    let now = clock_now();
    let done = catch_panic("the leases' timer", false, || {
        // SAFETY: the timer's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return false };
        let Some(mut state) = try_state() else { return false };
        let left = std::mem::take(&mut BLOCKED.0.borrow_mut().left);
        for id in left {
            leave(&mut state, id, now);
        }
        let mut values = Values::default();
        for _ in 0..DUE_A_TICK {
            let Some(due) = state.leases.due_now(now) else { break };
            let db = match &due {
                Deadline::Key(db, _) => Some(*db),
                Deadline::Waiter(id) => state.leases.waiter(*id).map(|waiter| waiter.db),
            };
            let Some(db) = db.filter(|db| ctx.select_db(*db)) else {
                state.leases.pass_over(); // cannot be, but must not hold up the others
                continue;
            };
            let mut keys = ServerKeys::new(ctx, &[], false);
            Node { state: &mut state, keys: &mut keys, db, now }.handle_deadline(&due, &mut values);
        }
        send(&mut state, now, true);
        set_timer(&state, now);
        true
    });
    if !done {
        start_timer(now.mono_ms() + LATER_MS, now); // nobody is to wait for ever
    }
}

/// Settles keys after an event, each in its own database.
pub(super) fn wake_waiters(ctx: Ctx, state: &mut State, keys: Vec<(i32, std::sync::Arc<[u8]>)>) {
    for (db, name) in keys {
        if ctx.select_db(db) {
            let mut port = ServerKeys::new(ctx, &[], false);
            Node { state, keys: &mut port, db, now: clock_now() }.wake_waiters(crate::cache::Key::named(&name));
        }
    }
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

/// The server goes on with a client that we have unblocked.
unsafe extern "C" fn reply(ctx: *mut raw::RedisModuleCtx, _: *mut *mut raw::RedisModuleString, _: c_int) -> c_int {
    catch_panic("the reply to a waiter", (), || {
        // SAFETY: the callback's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let answer = BLOCKED.0.borrow_mut().by_handle.remove(&handle_of(ctx)).and_then(|one| one.sent);
        getlock::write_deferred_reply(&mut ServerReply::new(ctx), &answer.unwrap_or_else(Answer::ask_again));
    });
    raw::REDISMODULE_OK as c_int
}

/// Somebody said `CLIENT UNBLOCK`: the same as if its time were over.
unsafe extern "C" fn timed_out(ctx: *mut raw::RedisModuleCtx, _: *mut *mut raw::RedisModuleString, _: c_int) -> c_int {
    catch_panic("the time-out of a waiter", (), || {
        // SAFETY: the callback's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let handle = handle_of(ctx);
        let Some(one) = BLOCKED.0.borrow_mut().by_handle.remove(&handle) else { return };
        let answer = one.sent.or_else(|| {
            BLOCKED.0.borrow_mut().handles.remove(&one.id);
            unblock(handle);
            give_up(ctx, one.id)
        });
        getlock::write_deferred_reply(&mut ServerReply::new(ctx), &answer.unwrap_or_else(Answer::ask_again));
    });
    raw::REDISMODULE_OK as c_int
}

/// What a waiter is told whose time is over.
fn give_up(ctx: Ctx, id: WaiterId) -> Option<Answer> {
    let Some(mut state) = try_state() else {
        BLOCKED.0.borrow_mut().left.push(id);
        return None;
    };
    if let Some(db) = state.leases.waiter(id).map(|waiter| waiter.db) {
        let mut keys = ServerKeys::new(ctx, &[], false);
        Node { state: &mut state, keys: &mut keys, db, now: clock_now() }.give_up(id, &mut Values::default());
    }
    let answer = state.leases.take_answer(id);
    after_command(state);
    answer
}

/// A blocked client is gone: disconnected, killed, unblocked with an error, or the node became a replica.
unsafe extern "C" fn gone(_: *mut raw::RedisModuleCtx, handle: *mut raw::RedisModuleBlockedClient) {
    catch_panic("the end of a waiter", (), || {
        let handle = handle as usize;
        let Some(one) = BLOCKED.0.borrow_mut().by_handle.remove(&handle) else { return };
        let mut state = try_state();
        if let Some(answer) = one.sent {
            // It was on its way, and the client is unblocked already.
            if let Some(state) = &mut state {
                let State { leases, stats, .. } = &mut **state;
                leases.undelivered(answer, &mut stats.at(clock_now()));
            }
        } else {
            BLOCKED.0.borrow_mut().handles.remove(&one.id);
            unblock(handle);
            match &mut state {
                Some(state) => leave(state, one.id, clock_now()),
                None => BLOCKED.0.borrow_mut().left.push(one.id),
            }
        }
        if let Some(state) = state {
            set_timer(&state, clock_now());
        }
    });
}

fn handle_of(ctx: Ctx) -> usize {
    // SAFETY: the context is that of a callback for a blocked client.
    unsafe { server!(RedisModule_GetBlockedClientHandle)(ctx.as_ptr()) as usize }
}
