//! A look at the server's own commands, before they run, while loads may be in flight (`guard-native`).
//!
//! Registered with the first lease or stamp, and taken back when the last of them is older than `max-load`: by then no load
//! is trusted any more. What it costs is paid by every command of the server: for most of them, a look at the length and
//! the first letters of the name.

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;

use redis_module::raw;
use smallvec::SmallVec;

use super::ffi::{Str, server_may};
use super::{blocked, catch_panic, clock_now, context, try_state};
use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::native_commands::{self, Sender};

struct MainThread(Cell<*mut raw::RedisModuleCommandFilter>);
// SAFETY: only used on the main thread, by commands, their filter and the cron event.
unsafe impl Sync for MainThread {}

static FILTER: MainThread = MainThread(Cell::new(ptr::null_mut()));

/// Whether a load has begun, and no filter is registered: cheap, for every command of ours.
pub(super) fn is_missing(state: &State) -> bool {
    FILTER.0.get().is_null() && state.settings.guard_native && state.tombstones.has_news()
}

/// Registers the filter, or takes it back, as the leases of this moment need it.
pub(super) fn refresh(state: &State, now: Now) {
    state.tombstones.no_news();
    let wanted = state.settings.guard_native && state.tombstones.awaits_any(now, state.settings.max_load_ms);
    if wanted != FILTER.0.get().is_null() {
        return;
    }
    if wanted && let Some(register) = server_may!(RedisModule_RegisterCommandFilter) {
        // SAFETY: a context that lives as long as the module; our own calls need not be looked at.
        let filter = unsafe { register(context(), Some(look), raw::REDISMODULE_CMDFILTER_NOSELF as c_int) };
        FILTER.0.set(filter);
    } else if !wanted && let Some(unregister) = server_may!(RedisModule_UnregisterCommandFilter) {
        // SAFETY: the filter is registered, and not being called: we are in a command or an event.
        unsafe { unregister(context(), FILTER.0.replace(ptr::null_mut())) };
    }
}

/// For every command of the server: so what is nearly never done stands elsewhere.
unsafe extern "C" fn look(filtered: *mut raw::RedisModuleCommandFilterCtx) {
    let Some(get) = server_may!(RedisModule_CommandFilterArgGet) else { return };
    // SAFETY: the filter's context is valid until we return, and so is the command's name: it is not kept.
    let name = unsafe { Str::from_raw(get(filtered, 0)) };
    if name.is_some_and(|name| native_commands::is_watched(name.bytes())) {
        look_closer(filtered);
    }
}

#[cold]
#[inline(never)]
fn look_closer(filtered: *mut raw::RedisModuleCommandFilterCtx) {
    catch_panic("the command filter", (), || {
        let (Some(count), Some(get)) =
            (server_may!(RedisModule_CommandFilterArgsCount), server_may!(RedisModule_CommandFilterArgGet))
        else {
            return;
        };
        // SAFETY: as in `look`; each place below the count holds a word.
        let word = |at| unsafe { Str::from_raw(get(filtered, at)) }.map_or(&b""[..], Str::bytes);
        // SAFETY: as in `look`.
        let words: SmallVec<[&[u8]; 8]> = (0..unsafe { count(filtered) }).map(word).collect();
        let Some(mut state) = try_state() else { return };
        let now = clock_now();
        state.observe_native(&words, sender(filtered), now);
        if state.leases.take_dirty() {
            blocked::refresh_answers(&mut state, now);
        }
    });
}

/// Who sends the command, where the server tells (7.2 and later).
fn sender(filtered: *mut raw::RedisModuleCommandFilterCtx) -> Sender {
    let (Some(id), Some(info)) =
        (server_may!(RedisModule_CommandFilterGetClientId), server_may!(RedisModule_GetClientInfoById))
    else {
        return Sender::Unknown;
    };
    // SAFETY: the filter's context is valid until we return.
    let id = unsafe { id(filtered) };
    // SAFETY: plain C data, for which all zeroes are valid but for the version that the server checks.
    let mut client: raw::RedisModuleClientInfo = unsafe { std::mem::zeroed() };
    client.version = u64::from(raw::REDISMODULE_CLIENTINFO_VERSION);
    // SAFETY: room for what the server fills in, in the version that it is told.
    let known = unsafe { info(ptr::from_mut(&mut client).cast(), id) } == raw::REDISMODULE_OK as c_int;
    // A script's client is none that the server knows by its number: what scripts do is done when it is seen.
    Sender::Client(id, known && client.flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_MULTI) != 0)
}
