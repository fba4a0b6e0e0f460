//! The server's events: its cron, keys that go, flushes, changes of role and settings, loading, forks, shutdown.

use std::ffi::{c_char, c_int, c_void};

use redis_module::raw;

use super::after_command::after_command;
use super::clock::clock_now;
use super::ffi::{Ctx, Str, server};
use super::just_loaded::JUST_LOADED;
use super::panic::{self, catch_panic};
use super::state::{MISS_REASONS, random_bytes, try_state, with_state};
use super::{blocked, caller, cluster, filter, reemit, register, sweep_timer, timer, workers};
use crate::cache::State;
use crate::cache::clock::Now;

/// Tag names looked at in each turn of the server's cron.
const TAGS_PER_TURN: usize = 10_000;
/// Subscribes.
pub(super) fn subscribe(ctx: Ctx<'_>) -> Result<(), String> {
    let wanted: [(u64, raw::RedisModuleEventCallback); 9] = [
        (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, Some(on_role)),
        (raw::REDISMODULE_EVENT_FLUSHDB, Some(on_flush)),
        (raw::REDISMODULE_EVENT_SWAPDB, Some(on_swap)),
        (raw::REDISMODULE_EVENT_CONFIG, Some(on_config)),
        (raw::REDISMODULE_EVENT_LOADING, Some(on_loading)),
        (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, Some(on_load_beside)),
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
    let kinds = (raw::REDISMODULE_NOTIFY_EXPIRED | raw::REDISMODULE_NOTIFY_EVICTED) as c_int;
    // SAFETY: the context is that of the load.
    let status = unsafe { server!(RedisModule_SubscribeToKeyspaceEvents)(ctx.as_ptr(), kinds, Some(on_key_gone)) };
    if status == raw::REDISMODULE_OK as c_int { Ok(()) } else { Err("the server refused events of keys".into()) }
}

/// The server has let a key expire, or has evicted it. Called on the main thread, sometimes while a command of ours
/// borrows the state: the lookup of an expired key is what expires it.
unsafe extern "C" fn on_key_gone(
    _: *mut raw::RedisModuleCtx,
    kind: c_int,
    _: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    catch_panic("the event of a key", (), || {
        // SAFETY: the key's name, valid until we return.
        let Some(name) = (unsafe { Str::from_raw(key) }) else { return };
        if kind == raw::REDISMODULE_NOTIFY_EVICTED as c_int {
            let fresh = MISS_REASONS.evicted(name.bytes());
            // The server evicts before it calls a command, not while one borrows the state.
            if let Some(mut state) = try_state() {
                state.evicted(fresh, clock_now());
            }
        } else {
            MISS_REASONS.expired(name.bytes());
        }
    });
    raw::REDISMODULE_OK as c_int
}

unsafe extern "C" fn on_cron(ctx: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    catch_panic("the cron event", (), || {
        timer::set_lost_ones_again();
        // SAFETY: the event's context, valid until we return.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            cluster::refresh(ctx);
        }
        if let Some(mut state) = try_state() {
            if state.clock.is_astray(clock_now()) {
                state.start_epoch(random_bytes(), clock_now());
            }
            // SAFETY: the event's context, valid until we return.
            match unsafe { Ctx::from_raw(ctx) } {
                Some(ctx) if !ctx.is_replica() => {
                    sweep_timer::replicate_marks(state.reap(TAGS_PER_TURN, clock_now()));
                    sweep_timer::replicate_retired(state.retire());
                }
                _ => state.reap_tags(TAGS_PER_TURN, clock_now()),
            }
            sweep_timer::refresh(&mut state);
            state.codecs.trim();
            let now = clock_now();
            panic::count(&mut state, now);
            state.sample_backlog(now);
            let State { stats, policies, .. } = &mut *state;
            stats.bound_rows(policies, now);
            filter::refresh(&mut state, now);
            blocked::rearm_timer(&mut state, now);
        }
    });
}

/// Loads that began for a primary that is none any more, or before this node was one, are not stored.
unsafe extern "C" fn on_role(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    catch_panic("the role event", (), || {
        let Some(mut state) = try_state() else { return };
        state.reset_leases(random_bytes(), clock_now());
        state.sweep_all(clock_now());
        after_command(state);
    });
}

/// Loads in flight began before the flush: they are not trusted.
unsafe extern "C" fn on_flush(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, sub: u64, data: *mut c_void) {
    catch_panic("the flush event", (), || {
        JUST_LOADED.get().forget(); // the values that go now leave the index all at once
        if sub != raw::REDISMODULE_SUBEVENT_FLUSHDB_END || data.is_null() {
            return;
        }
        // SAFETY: of this event the data is a `RedisModuleFlushInfo`, valid until we return.
        let db = unsafe { (*data.cast::<raw::RedisModuleFlushInfo>()).dbnum };
        let db = (db >= 0).then_some(db);
        void_loads(&[db], State::flushed);
        sweep_timer::wake();
    });
}

/// The databases have exchanged their keys: loads in flight are for the other one.
unsafe extern "C" fn on_swap(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, data: *mut c_void) {
    catch_panic("the swapdb event", (), || {
        if data.is_null() {
            return;
        }
        // SAFETY: of this event the data is a `RedisModuleSwapDbInfo`, valid until we return.
        let swap = unsafe { &*data.cast::<raw::RedisModuleSwapDbInfo>() };
        let (a, b) = (swap.dbnum_first, swap.dbnum_second);
        if let Some(mut state) = try_state() {
            state.swapped(a, b);
        }
        void_loads(&[Some(a), Some(b)], State::void_all_loads);
    });
}

/// Voids the loads in flight of these databases (of all, for `None`).
fn void_loads(dbs: &[Option<i32>], void: impl Fn(&mut State, Option<i32>, Now)) {
    let Some(mut state) = try_state() else { return };
    dbs.iter().for_each(|db| void(&mut state, *db, clock_now()));
    sweep_timer::refresh(&mut state);
    after_command(state);
}

unsafe extern "C" fn on_config(ctx: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    catch_panic("the config event", (), || {
        // SAFETY: the event's context, valid until we return.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            caller::read_limits(ctx);
            register::options(ctx);
        }
    });
}

unsafe extern "C" fn on_shutdown(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    catch_panic("the shutdown event", (), workers::stop);
}

/// A load replaces everything, the rules made by command too: a replica that comes back must not keep those of its
/// past.
unsafe extern "C" fn on_loading(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, sub: u64, _: *mut c_void) {
    catch_panic("the loading event", (), || {
        let starts = [
            raw::REDISMODULE_SUBEVENT_LOADING_RDB_START,
            raw::REDISMODULE_SUBEVENT_LOADING_AOF_START,
            raw::REDISMODULE_SUBEVENT_LOADING_REPL_START,
        ];
        if starts.contains(&sub) {
            JUST_LOADED.get().forget();
            with_state(|state| {
                if state.beside.is_none() {
                    state.policies.clear_commanded();
                    state.invalidations.clear();
                }
            });
        } else if sub == raw::REDISMODULE_SUBEVENT_LOADING_ENDED
            && let Some(mut state) = try_state()
        {
            // The next command may be for an entry of a NATIVE rule that came with the file.
            filter::refresh(&mut state, clock_now());
        }
    });
}

/// A load beside the data set that is served (`repl-diskless-load swapdb`): it starts, breaks off, or has taken the
/// place of the other.
unsafe extern "C" fn on_load_beside(_: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, sub: u64, _: *mut c_void) {
    catch_panic("the event of a load beside", (), || {
        JUST_LOADED.get().forget();
        match sub {
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_STARTED => with_state(State::begin_load_beside),
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_ABORTED => with_state(State::abort_load_beside),
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_COMPLETED => {
                void_loads(&[None], |state, _, now| state.complete_load_beside(now));
            }
            _ => {}
        }
        sweep_timer::wake();
    });
}

/// A rewritten AOF without RDB preamble holds keys alone. The rules made by command and the marks of invalidations are
/// written once more behind it: the server has opened the next part of the AOF before it forks. (With the preamble they
/// are in that.)
unsafe extern "C" fn on_fork(ctx: *mut raw::RedisModuleCtx, _: raw::RedisModuleEvent, sub: u64, _: *mut c_void) {
    catch_panic("the fork event", (), || {
        // SAFETY: the event's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let forked = sub == raw::REDISMODULE_SUBEVENT_FORK_CHILD_BORN;
        let any = || {
            try_state()
                .is_some_and(|state| state.policies.persisted().next().is_some() || !state.invalidations.is_empty())
        };
        if forked && any() && ctx.rewrites_aof() && !ctx.is_set(b"aof-use-rdb-preamble") {
            reemit::start();
        }
    });
}
