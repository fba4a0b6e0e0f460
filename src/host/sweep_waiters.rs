//! Callers who wait for walks of the sweep (`cache/sweep.rs`): parked by the server, answered by us.
//!
//! The server calls exactly one of `reply`, `timed_out` and `gone` for each, and `UnblockClient` is called exactly once
//! for each, else it would leak: as in `blocked.rs`, whose waiters have more to do with each other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr;

use lazy_static::lazy_static;
use redis_module::raw;

use super::ffi::{Ctx, server};
use super::reply::ServerReply;
use super::{catch_panic, try_state};
use crate::cache::invalidation::sweep::{SweepReply, SweepWaiterId};
use crate::cache::{Reply, State};
use crate::commands::preview;

/// A client that the server has blocked for us.
struct Blocked {
    id: SweepWaiterId,
    /// Its answer, once the server has been told to go on with it.
    sent: Option<SweepReply>,
}

#[derive(Default)]
struct BlockedClients {
    by_handle: HashMap<usize, Blocked>,
    handles: HashMap<SweepWaiterId, usize>,
}

struct MainThread(RefCell<BlockedClients>);
// SAFETY: commands, timers, events and the callbacks of blocked clients all run on the server's main thread.
unsafe impl Sync for MainThread {}

lazy_static! {
    static ref BLOCKED: MainThread = MainThread(RefCell::default());
}

/// Has the server block the caller of the running command. One that it will not block is told what is known now.
pub(super) fn wait(ctx: Ctx, state: &mut State, id: SweepWaiterId) {
    // SAFETY: the context is that of a running command which may block (`Server::may_wait`) and has answered nothing; the
    // callbacks have the types that the server calls; 0 is no time-out.
    let handle = unsafe { server!(RedisModule_BlockClient)(ctx.as_ptr(), Some(reply), Some(timed_out), None, 0) };
    if handle.is_null() {
        return write_answer(ctx, state.sweep.dismiss(id));
    }
    // SAFETY: the handle is the one just made.
    unsafe { server!(RedisModule_SetDisconnectCallback)(handle, Some(gone)) };
    let mut blocked = BLOCKED.0.borrow_mut();
    blocked.by_handle.insert(handle as usize, Blocked { id, sent: None });
    blocked.handles.insert(id, handle as usize);
}

/// Sends the answers that have come. Between two commands only: see `blocked::may_send_between_commands`.
pub(super) fn send(state: &mut State) {
    while let Some((id, answer)) = state.sweep.next_answer() {
        let mut blocked = BLOCKED.0.borrow_mut();
        let Some(handle) = blocked.handles.remove(&id) else { continue };
        if let Some(one) = blocked.by_handle.get_mut(&handle) {
            one.sent = Some(answer);
            unblock(handle);
        }
    }
}

fn unblock(handle: usize) {
    // SAFETY: a handle of `wait`, which is unblocked only once: `handles` has given it up.
    unsafe { server!(RedisModule_UnblockClient)(handle as *mut raw::RedisModuleBlockedClient, ptr::null_mut()) };
}

fn write_answer(ctx: Ctx, answer: Option<SweepReply>) {
    let mut reply = ServerReply::new(ctx);
    match answer {
        Some(answer) => preview::write_deferred_reply(&mut reply, &answer),
        None => reply.int(0),
    }
}

/// The server goes on with a client that we have unblocked.
unsafe extern "C" fn reply(ctx: *mut raw::RedisModuleCtx, _: *mut *mut raw::RedisModuleString, _: c_int) -> c_int {
    catch_panic("the reply to who waited for the sweep", (), || {
        // SAFETY: the callback's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let answer = BLOCKED.0.borrow_mut().by_handle.remove(&handle_of(ctx)).and_then(|one| one.sent);
        write_answer(ctx, answer);
    });
    raw::REDISMODULE_OK as c_int
}

/// Somebody said `CLIENT UNBLOCK`: the same as if its time were over.
unsafe extern "C" fn timed_out(ctx: *mut raw::RedisModuleCtx, _: *mut *mut raw::RedisModuleString, _: c_int) -> c_int {
    catch_panic("the time-out of who waits for the sweep", (), || {
        // SAFETY: the callback's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let handle = handle_of(ctx);
        let Some(one) = BLOCKED.0.borrow_mut().by_handle.remove(&handle) else { return };
        let answer = one.sent.or_else(|| {
            give_up(one.id, handle);
            try_state().and_then(|mut state| state.sweep.dismiss(one.id))
        });
        write_answer(ctx, answer);
    });
    raw::REDISMODULE_OK as c_int
}

/// A blocked client is gone: disconnected, killed, unblocked with an error, or the node became a replica.
unsafe extern "C" fn gone(_: *mut raw::RedisModuleCtx, handle: *mut raw::RedisModuleBlockedClient) {
    catch_panic("the end of who waits for the sweep", (), || {
        let handle = handle as usize;
        let Some(one) = BLOCKED.0.borrow_mut().by_handle.remove(&handle) else { return };
        if one.sent.is_none() {
            give_up(one.id, handle);
            // Out of reach, its answer finds nobody when it comes.
            if let Some(mut state) = try_state() {
                state.sweep.dismiss(one.id);
            }
        }
    });
}

fn give_up(id: SweepWaiterId, handle: usize) {
    BLOCKED.0.borrow_mut().handles.remove(&id);
    unblock(handle);
}

fn handle_of(ctx: Ctx) -> usize {
    // SAFETY: the context is that of a callback for a blocked client.
    unsafe { server!(RedisModule_GetBlockedClientHandle)(ctx.as_ptr()) as usize }
}
