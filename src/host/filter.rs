//! A look at the server's own commands, before they run, while loads may be in flight (`guard-native`).
//!
//! Registered with the first lease or stamp, and taken back when the last of them is older than `max-load`: by then
//! no load is trusted any more. Every command of the server pays for it: most of them the reading of the length and
//! the first letters of the name.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use redis_module::raw;
use smallvec::SmallVec;

use super::blocked;
use super::clock::clock_now;
use super::ffi::{Ctx, Str, server_may};
use super::main_thread::MainThread;
use super::panic::catch_panic;
use super::state::try_state;
use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::native_commands::{self, Sender};

/// The filter, while it is registered.
static FILTER: MainThread<Cell<Option<NonNull<raw::RedisModuleCommandFilter>>>> = MainThread::new(Cell::new(None));

/// Whether a load has begun, and no filter is registered: cheap, for every command of ours.
pub(super) fn is_missing(state: &State) -> bool {
    FILTER.get().get().is_none() && state.settings.guard_native && state.tombstones.has_news()
}

/// Registers the filter, or takes it back, as the leases of this moment need it.
pub(super) fn refresh(state: &State, now: Now) {
    state.tombstones.no_news();
    let wanted = state.watches_native_commands(now);
    let Some(ctx) = Ctx::of_module() else { return };
    match FILTER.get().get() {
        None if wanted => {
            if let Some(register) = server_may!(RedisModule_RegisterCommandFilter) {
                // SAFETY: the context lives as long as the module; our own calls need not be looked at.
                let filter =
                    unsafe { register(ctx.as_ptr(), Some(on_command), raw::REDISMODULE_CMDFILTER_NOSELF as c_int) };
                FILTER.get().set(NonNull::new(filter));
            }
        }
        Some(filter) if !wanted => {
            if let Some(unregister) = server_may!(RedisModule_UnregisterCommandFilter) {
                FILTER.get().set(None);
                // SAFETY: the filter is registered, and not being called: we are in a command or an event.
                unsafe { unregister(ctx.as_ptr(), filter.as_ptr()) };
            }
        }
        _ => {}
    }
}

/// One command of the server, before it runs.
#[derive(Clone, Copy)]
struct Filtered<'a>(NonNull<raw::RedisModuleCommandFilterCtx>, PhantomData<&'a ()>);

impl<'a> Filtered<'a> {
    /// Its word at this place.
    #[inline]
    fn word(self, at: c_int) -> Option<Str<'a>> {
        let get = server_may!(RedisModule_CommandFilterArgGet)?;
        // SAFETY: the filter's context and its words are valid for 'a; null for a place without a word.
        unsafe { Str::from_raw(get(self.0.as_ptr(), at)) }
    }

    fn words(self) -> SmallVec<[&'a [u8]; 8]> {
        let Some(count) = server_may!(RedisModule_CommandFilterArgsCount) else { return SmallVec::new() };
        // SAFETY: the filter's context is valid.
        let count = unsafe { count(self.0.as_ptr()) };
        (0..count).map(|at| self.word(at).map_or(&b""[..], Str::bytes)).collect()
    }

    /// Who sends it (7.2 and later).
    fn sender(self) -> Sender {
        let (Some(id), Some(info)) =
            (server_may!(RedisModule_CommandFilterGetClientId), server_may!(RedisModule_GetClientInfoById))
        else {
            return Sender::Unknown;
        };
        // SAFETY: the filter's context is valid.
        let id = unsafe { id(self.0.as_ptr()) };
        // SAFETY: plain C data, for which all zeroes are valid but for the version that the server checks.
        let mut client: raw::RedisModuleClientInfo = unsafe { std::mem::zeroed() };
        client.version = u64::from(raw::REDISMODULE_CLIENTINFO_VERSION);
        // SAFETY: room for what the server fills in, in this version.
        let known = unsafe { info(ptr::from_mut(&mut client).cast(), id) } == raw::REDISMODULE_OK as c_int;
        // The client of a script has no number that the server knows: its commands are seen when they run.
        Sender::Client(id, known && client.flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_MULTI) != 0)
    }
}

/// Called for every command of the server, so the first look is outside the guard. It cannot panic: it reads one of the
/// server's strings and two numbers of a table, by `get` and masked.
unsafe extern "C" fn on_command(filtered: *mut raw::RedisModuleCommandFilterCtx) {
    let Some(filtered) = NonNull::new(filtered).map(|filtered| Filtered(filtered, PhantomData)) else { return };
    if filtered.word(0).is_some_and(|name| native_commands::is_watched(name.bytes())) {
        observe(filtered);
    }
}

#[cold]
#[inline(never)]
fn observe(filtered: Filtered<'_>) {
    catch_panic("the command filter", (), || {
        let words = filtered.words();
        let Some(mut state) = try_state() else { return };
        let now = clock_now();
        state.observe_native(&words, filtered.sender(), now);
        if state.leases.take_dirty() {
            blocked::refresh_answers(&mut state, now);
        }
    });
}
