//! The cluster bus: hands over what is to be passed on, and runs what other primaries pass on (`cache/bus.rs`).
//!
//! Messages come whenever the server looks at its sockets: also while it loads, while a script runs, or while writes are
//! paused for a failover. Then they are kept, and a timer runs them as soon as that is over. A replica ignores them: it has
//! all from its primary.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redis_module::raw;

use super::ffi::{Ctx, OwnedStr, server};
use super::{catch_panic, clock_now, context, dispatch, log, mono_ms, try_state};
use crate::cache::State;
use crate::cache::cluster::bus::{Message, NodeId, PassOn, Unread};
use crate::commands;
use crate::commands::spec::{Command, Flag};

/// The server's number for our messages, any up to 254. Modules whose names have not nine letters share these numbers, so
/// it is one that another would hardly take.
const KIND: u8 = 203;
/// How long what is kept is run at a stretch.
const SLICE: Duration = Duration::from_micros(500);
/// When to look again whether the server may write.
const LATER_MS: i64 = 20;
/// One complaint in so many milliseconds: the log is not for whoever sends us nonsense to fill.
const QUIET_MS: u64 = 1_000;

/// Whether this server is a node of a cluster, which it is from its start or never.
static CLUSTERED: AtomicBool = AtomicBool::new(false);
/// Whether the timer is set.
static SET: AtomicBool = AtomicBool::new(false);
/// Whether a message of a later version has been complained of.
static MET_LATER: AtomicBool = AtomicBool::new(false);
/// Until when we do not complain.
static QUIET_UNTIL: AtomicU64 = AtomicU64::new(0);

/// Registers, in a cluster.
pub(super) fn register(ctx: Ctx) {
    if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_CLUSTER == 0 {
        return;
    }
    CLUSTERED.store(true, Relaxed);
    // SAFETY: the context is that of the load; the callback has the type that the server calls.
    unsafe { server!(RedisModule_RegisterClusterMessageReceiver)(ctx.as_ptr(), KIND, Some(receive)) };
}

/// Passes on the running command, of which `words` are the words, to all that the server has a link to.
pub(super) fn pass_on(ctx: Ctx, state: &mut State, command: &Command, words: &[&[u8]], how: &PassOn) {
    if !CLUSTERED.load(Relaxed) {
        return;
    }
    let Ok(parts) = how.commands(command.name, words) else {
        state.stats.at(clock_now()).node().bus_lost += 1;
        return complain(&format!("{} is too long to be passed on to the other primaries", command.name));
    };
    for part in parts {
        let message = state.bus.message(ctx.selected_db(), &part);
        // SAFETY: the context is that of a running command; no target means all nodes; the server copies the bytes.
        let sent = unsafe {
            server!(RedisModule_SendClusterMessage)(
                ctx.as_ptr(),
                ptr::null(),
                KIND,
                message.as_ptr().cast(),
                message.len() as u32,
            )
        } == raw::REDISMODULE_OK as c_int;
        let tally = &mut state.stats.at(clock_now());
        if sent {
            tally.node().bus_sent += 1;
        } else {
            tally.node().bus_lost += 1;
        }
    }
}

unsafe extern "C" fn receive(
    ctx: *mut raw::RedisModuleCtx,
    sender: *const c_char,
    _: u8,
    payload: *const u8,
    len: u32,
) {
    catch_panic("a message of the cluster", (), || {
        // SAFETY: the server calls with a valid context, the 40 bytes of a node's name and `len` bytes, all of which live
        // until we return.
        let (ctx, sender, bytes) = unsafe {
            let Some(ctx) = Ctx::from_raw(ctx) else { return };
            let bytes = if payload.is_null() { &[] } else { slice::from_raw_parts(payload, len as usize) };
            (ctx, &*sender.cast::<NodeId>(), bytes)
        };
        if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE != 0 {
            return;
        }
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(Unread::Foreign) => return,
            Err(why) => return lose(sender, &why.to_string(), matches!(why, Unread::Later(_))),
        };
        let kept = match try_state() {
            Some(mut state) => {
                if !state.bus.is_new(sender, message.life, message.number) {
                    return;
                }
                state.bus.keep(bytes)
            }
            None => false, // between commands nobody holds it
        };
        if !kept {
            lose(sender, "too many wait until this node may write", false);
        }
        run_waiting(ctx);
    });
}

/// Whether what comes by itself may run and replicate now: while the server is paused that would end it, and a script or a
/// load of the data must not be disturbed.
fn may_run(ctx: Ctx) -> bool {
    let busy =
        raw::REDISMODULE_CTX_FLAGS_LUA | raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    // SAFETY: takes nothing, returns a number.
    ctx.flags() & busy == 0 && unsafe { server!(RedisModule_AvoidReplicaTraffic)() } == 0
}

/// Runs what is kept, in the order in which it came; what is left after a while, or cannot run now, later.
fn run_waiting(ctx: Ctx) {
    let began = Instant::now();
    loop {
        let Some(mut state) = try_state() else { return set_timer(LATER_MS) };
        if !state.bus.has_waiting() {
            return;
        }
        if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE != 0 {
            // Its new primary has got the messages itself; unless it was none yet when they came.
            let lost = state.bus.forget_waiting();
            state.stats.at(clock_now()).node().bus_lost += lost as u64;
            return;
        }
        if !may_run(ctx) {
            return set_timer(LATER_MS);
        }
        if began.elapsed() > SLICE {
            return set_timer(1);
        }
        let next = state.bus.take();
        drop(state);
        if let Some(bytes) = next {
            run(ctx, &bytes);
        }
    }
}

fn set_timer(ms: i64) {
    if !SET.swap(true, Relaxed) {
        // SAFETY: a context that lives as long as the module; the callback takes no data.
        unsafe { server!(RedisModule_CreateTimer)(context(), ms, Some(on_timer), ptr::null_mut()) };
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    SET.store(false, Relaxed);
    catch_panic("the bus's timer", (), || {
        // SAFETY: the timer's context, valid until we return.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            run_waiting(ctx);
        }
    });
}

/// Runs a message that was kept. Only what is meant to go round is run.
fn run(ctx: Ctx, bytes: &[u8]) {
    let outcome = Message::decode(bytes).map_err(|why| why.to_string()).and_then(|message| {
        let command = commands::find(message.words[0], message.words.get(1).copied())
            .filter(|command| command.has(Flag::PassedOn))
            .ok_or("it is no command that is passed on")?;
        if !ctx.select_db(message.db) {
            return Err(format!("there is no database {} here", message.db));
        }
        let words: Vec<_> = message.words.iter().map(|word| OwnedStr::new(word)).collect();
        let argv: Vec<_> = words.iter().map(OwnedStr::borrow).collect();
        dispatch::run_passed_on(command, ctx, &argv).map_err(|why| why.to_string())
    });
    if let Some(mut state) = try_state() {
        let now = clock_now();
        match outcome {
            Ok(()) => state.stats.at(now).node().bus_received += 1,
            Err(_) => state.stats.at(now).node().bus_lost += 1,
        }
    }
    if let Err(why) = outcome {
        complain(&format!("a command that another primary passed on was refused: {why}"));
    }
}

/// A message that will not be run. Those of a later version are told of once: their sender is newer, and that is all.
fn lose(sender: &NodeId, why: &str, later: bool) {
    if let Some(mut state) = try_state() {
        state.stats.at(clock_now()).node().bus_lost += 1;
    }
    let what = format!("a message from node {} is ignored: {why}", sender.escape_ascii());
    if !later {
        complain(&what);
    } else if !MET_LATER.swap(true, Relaxed) {
        log::warning(&format!("{what}; there will be no more word of such messages"));
    }
}

fn complain(what: &str) {
    let now = mono_ms();
    if now >= QUIET_UNTIL.load(Relaxed) {
        QUIET_UNTIL.store(now + QUIET_MS, Relaxed);
        log::warning(what);
    }
}
