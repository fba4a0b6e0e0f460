//! What the server tells us between commands: its cron, forks, and going down.

use std::ffi::{c_int, c_void};
use std::ptr;

use redis_module::raw;

use super::ffi::{Ctx, OwnedStr, server};
use super::{guarded, try_state, with_state, workers};

/// Tag names looked at in each turn of the server's cron.
const TAGS_A_TURN: usize = 10_000;
/// How long to wait when the server must not be disturbed (paused, or failing over).
const LATER_MS: i64 = 20;

/// Subscribes.
pub(super) fn subscribe(ctx: Ctx) -> Result<(), String> {
    let wanted: [(u64, raw::RedisModuleEventCallback); 4] = [
        (raw::REDISMODULE_EVENT_LOADING, Some(on_loading)),
        (raw::REDISMODULE_EVENT_CRON_LOOP, Some(on_cron)),
        (raw::REDISMODULE_EVENT_FORK_CHILD, Some(on_fork)),
        (raw::REDISMODULE_EVENT_SHUTDOWN, Some(on_shutdown)),
    ];
    for (id, callback) in wanted {
        let event = raw::RedisModuleEvent { id, dataver: 1 };
        // SAFETY: the context is that of the load.
        let status = unsafe { server!(RedisModule_SubscribeToServerEvent)(ctx.as_ptr(), event, callback) };
        if status != raw::REDISMODULE_OK as c_int {
            return Err(format!("the server refused event {id}"));
        }
    }
    Ok(())
}

unsafe extern "C" fn on_cron(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    guarded("the cron event", (), || {
        if let Some(mut state) = try_state() {
            state.tags.reap(TAGS_A_TURN);
            state.codecs.trim();
        }
    });
}

unsafe extern "C" fn on_shutdown(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    guarded("the shutdown event", (), workers::stop);
}

/// What is loaded replaces what is here, the rules made by command too: a replica that comes back must not keep those of
/// its past.
unsafe extern "C" fn on_loading(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, sub: u64, _: *mut c_void) {
    guarded("the loading event", (), || {
        let starts = [
            raw::REDISMODULE_SUBEVENT_LOADING_RDB_START,
            raw::REDISMODULE_SUBEVENT_LOADING_AOF_START,
            raw::REDISMODULE_SUBEVENT_LOADING_REPL_START,
        ];
        if starts.contains(&sub) {
            with_state(|state| state.policies.clear_commanded());
        }
    });
}

/// A rewritten AOF without RDB preamble is made of keys alone. The rules made by command are said once more
/// behind it: the server has opened the next part of the AOF before it forks.
unsafe extern "C" fn on_fork(ctx: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, sub: u64, _: *mut c_void) {
    guarded("the fork event", (), || {
        // SAFETY: the event's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let born = sub == raw::REDISMODULE_SUBEVENT_FORK_CHILD_BORN;
        let to_say = || try_state().is_some_and(|state| state.policies.commanded().next().is_some());
        if born && to_say() && ctx.rewrites_aof() {
            say_rules_after(ctx.as_ptr(), 1);
        }
    });
}

fn say_rules_after(ctx: *mut raw::RedisModuleCtx, ms: i64) {
    // SAFETY: a context of the server's; the callback takes no data.
    unsafe { server!(RedisModule_CreateTimer)(ctx, ms, Some(say_rules), ptr::null_mut()) };
}

unsafe extern "C" fn say_rules(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    guarded("the rules' timer", (), || {
        // SAFETY: takes nothing, returns a number: whether replicating now would end the server (it is paused).
        if unsafe { server!(RedisModule_AvoidReplicaTraffic)() } != 0 {
            return say_rules_after(ctx, LATER_MS);
        }
        // SAFETY: the timer's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let rules: Vec<_> = with_state(|state| state.policies.commanded().map(|rule| rule.spec().words()).collect());
        for rule in rules {
            let mut words = vec![OwnedStr::new(b"SET")];
            words.extend(rule.iter().map(|word| OwnedStr::new(word)));
            ctx.replicate_words(c"SMARTCACHE.RULE", &words);
        }
    });
}
