//! Runs the commands that other primaries of the cluster pass on (`cache/cluster/bus.rs`).
//!
//! Messages come whenever the server looks at its sockets: also while it loads, while a script runs, or while writes
//! are paused for a failover. Then they are kept, and a timer runs them as soon as that is over. A replica ignores
//! them: it gets everything from its primary.

use std::ffi::c_char;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redis_module::raw;

use super::clock::clock_now;
use super::dispatch;
use super::ffi::{Ctx, OwnedStr, must_not_write, server};
use super::log;
use super::panic::{catch_panic, try_run};
use super::pass_on::{KIND, complain, enable};
use super::replicate::Outgoing;
use super::state::try_state;
use super::timer::{self, Timer};
use crate::cache::cluster::bus::{DecodeError, Message, NodeId};
use crate::commands;
use crate::commands::spec::Flag;

/// For how long kept messages are run at a stretch.
const SLICE: Duration = Duration::from_micros(500);
/// When to look again whether the server may write.
const LATER_MS: i64 = 20;

/// Whether the timer is set.
static TIMER_SET: AtomicBool = AtomicBool::new(false);
/// Whether the log has a line about messages of a later version.
static WARNED_OF_LATER: AtomicBool = AtomicBool::new(false);

/// Registers, in a cluster.
pub(super) fn register(ctx: Ctx<'_>) {
    if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_CLUSTER == 0 {
        return;
    }
    enable();
    // SAFETY: the context is that of the load; the callback has the type that the server calls.
    unsafe { server!(RedisModule_RegisterClusterMessageReceiver)(ctx.as_ptr(), KIND, Some(receive)) };
}

unsafe extern "C" fn receive(
    ctx: *mut raw::RedisModuleCtx,
    sender: *const c_char,
    _: u8,
    payload: *const u8,
    len: u32,
) {
    catch_panic("a message of the cluster", (), || {
        // SAFETY: the server calls with a valid context, the 40 bytes of a node's name and `len` bytes, all of which
        // live until we return.
        let (ctx, sender, bytes) = unsafe {
            let Some(ctx) = Ctx::from_raw(ctx) else { return };
            let bytes = if payload.is_null() { &[] } else { slice::from_raw_parts(payload, len as usize) };
            (ctx, &*sender.cast::<NodeId>(), bytes)
        };
        if ctx.is_replica() {
            return;
        }
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(DecodeError::Foreign) => return,
            Err(why) => return lose(sender, &why.to_string(), matches!(why, DecodeError::Newer(_))),
        };
        let kept = match try_state() {
            Some(mut state) => {
                if !state.bus.is_new(sender, message.incarnation, message.number) {
                    return;
                }
                state.bus.enqueue(bytes)
            }
            None => false, // between commands nobody borrows the state
        };
        if !kept {
            lose(sender, "too many wait until this node may write", false);
        }
        run_waiting(ctx);
    });
}

/// Whether a command that no client sent may run and replicate now: a script or a load of the data must not be
/// disturbed, and a paused server would end itself.
fn may_run(ctx: Ctx<'_>) -> bool {
    ctx.flags() & raw::REDISMODULE_CTX_FLAGS_LUA == 0 && !ctx.is_loading() && !must_not_write()
}

/// Runs kept messages in the order in which they came; those left after a while, or that cannot run now, later. What
/// they replicate is one command.
fn run_waiting(ctx: Ctx<'_>) {
    let began = Instant::now();
    let mut outgoing = Outgoing::new(ctx);
    loop {
        let Some(mut state) = try_state() else { return set_timer(LATER_MS) };
        if !state.bus.has_queued() {
            return;
        }
        if ctx.is_replica() {
            // Its new primary has got the messages itself; unless it was none yet when they came.
            let lost = state.bus.drop_queued();
            state.stats.at(clock_now()).node().bus_lost += lost as u64;
            return;
        }
        if !may_run(ctx) {
            return set_timer(LATER_MS);
        }
        if began.elapsed() > SLICE {
            return set_timer(1);
        }
        let next = state.bus.dequeue();
        drop(state);
        if let Some(bytes) = next {
            run(ctx, &bytes, &mut outgoing);
        }
    }
}

struct BusTimer;

impl Timer for BusTimer {
    const NAME: &'static str = "the timer of the bus";

    fn fire(ctx: Ctx<'_>, _: usize) {
        TIMER_SET.store(false, Relaxed);
        run_waiting(ctx);
    }

    fn recover(_: usize) {
        TIMER_SET.store(false, Relaxed);
        set_timer(LATER_MS);
    }
}

fn set_timer(ms: i64) {
    if !TIMER_SET.swap(true, Relaxed) {
        TIMER_SET.store(timer::start::<BusTimer>(ms, 0).is_some(), Relaxed);
    }
}

/// Runs a message that was kept. Only commands that are passed on are run.
fn run(ctx: Ctx<'_>, bytes: &[u8], outgoing: &mut Outgoing<'_>) {
    let decode_and_run = || {
        let message = Message::decode(bytes).map_err(|why| why.to_string())?;
        let command = commands::find(message.words[0], message.words.get(1).copied())
            .filter(|command| command.has(Flag::PassedOn))
            .ok_or("it is no command that is passed on")?;
        if !ctx.select_db(message.db) {
            return Err(format!("there is no database {} here", message.db));
        }
        let words: Vec<_> = message.words.iter().map(|word| OwnedStr::new(word)).collect();
        let argv: Vec<_> = words.iter().map(OwnedStr::borrow).collect();
        dispatch::run_passed_on(command, ctx, &argv, outgoing).map_err(|why| why.to_string())
    };
    let outcome = try_run("a command that was passed on", decode_and_run).unwrap_or_else(|| Err("a panic".into()));
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

/// A message that will not be run. Those of a later version are logged once: their sender is newer, and that is all.
fn lose(sender: &NodeId, why: &str, later: bool) {
    if let Some(mut state) = try_state() {
        state.stats.at(clock_now()).node().bus_lost += 1;
    }
    let what = format!("a message from node {} is ignored: {why}", sender.escape_ascii());
    if !later {
        complain(&what);
    } else if !WARNED_OF_LATER.swap(true, Relaxed) {
        log::warning(&format!("{what}; further messages of this kind are not logged"));
    }
}
