//! How the server does it: the module's entry points, and the only place with `unsafe`.
//!
//! Loading goes in order: the server's functions, the type, the settings, the commands, events and INFO. What
//! can fail comes first; threads start at their first job. The node's [`State`] lives here, in one cell that
//! only the main thread touches (see `try_state`).

mod alloc;
mod blocked;
mod bus;
mod caller;
mod cluster;
mod datatype;
mod deliver;
mod dispatch;
mod events;
mod ffi;
mod filter;
mod info;
mod keyspace;
mod log;
mod register;
mod reply;
mod settings;
mod sweep;
mod sweep_waiters;
mod workers;

use std::cell::{RefCell, RefMut};
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use lazy_static::lazy_static;
use redis_module::raw;

use crate::cache::State;
use crate::cache::clock::Now;
use ffi::{Ctx, Str, server_may};

/// The module's name: the first part of its settings, its section in INFO.
const NAME: &std::ffi::CStr = c"smartcache";
/// Its version as the server shows it: 1.2.3 is 10203.
const VERSION: c_int = 100;

/// The state, for the main thread.
struct MainThread(RefCell<State>);

// SAFETY: commands, timers, events, settings, INFO and the type's callbacks all run on the server's main thread
// (or, after a fork, on the child's only one). What runs elsewhere, `free` and the workers, never comes here.
unsafe impl Sync for MainThread {}

lazy_static! {
    static ref STATE: MainThread = {
        MainThread(RefCell::new(State::new(
            clock_now(),
            random_bytes(),
            datatype::LIVE.clone(),
            datatype::TOMBSTONES.clone(),
            datatype::MISS_REASONS.clone(),
            datatype::invalidations().clone(),
        )))
    };
}

/// A context for timers that no command is around for.
static CONTEXT: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(ptr::null_mut());

/// A context that lives as long as the module.
fn context() -> *mut raw::RedisModuleCtx {
    CONTEXT.load(Relaxed)
}

/// Bytes that nobody can guess: secrets of this life.
fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    if let Err(why) = getrandom::fill(&mut bytes) {
        log::warning(&format!("the system gives no random bytes, tokens are made from the clock: {why}"));
        bytes = (u128::from(clock_now().us()) << 64 | u128::from(std::process::id())).to_le_bytes();
    }
    bytes
}

/// Panics caught outside commands, where the state may be out of reach.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// Entries that active defragmentation has moved.
static DEFRAGMENTED: AtomicU64 = AtomicU64::new(0);

/// The state, unless somebody further down this very call stack holds it.
fn try_state() -> Option<RefMut<'static, State>> {
    STATE.0.try_borrow_mut().ok()
}

/// The state, where nobody can hold it: callbacks that the server makes between commands.
fn with_state<R>(f: impl FnOnce(&mut State) -> R) -> R {
    f(&mut STATE.0.borrow_mut())
}

/// Whether this process is a child that the server has forked to save.
fn is_child() -> bool {
    // SAFETY: without a context the server tells what concerns the whole process.
    let flags = unsafe { ffi::server!(RedisModule_GetContextFlags)(std::ptr::null_mut()) };
    flags as u32 & raw::REDISMODULE_CTX_FLAGS_IS_CHILD != 0
}

/// Runs the body of a callback; a panic is counted and logged and answered with `otherwise`.
fn catch_panic<R>(what: &str, otherwise: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        count_panic();
        log::warning(&format!("a panic was caught in {what}"));
        otherwise
    })
}

fn count_panic() {
    match try_state() {
        Some(mut state) => state.stats.at(clock_now()).node().panics += 1,
        None => {
            PANICS.fetch_add(1, Relaxed);
        }
    }
}

/// Counts the panics that were caught while the state was out of reach.
fn take_panics(state: &mut State, now: Now) {
    state.stats.at(now).node().panics += PANICS.swap(0, Relaxed);
}

fn count_defragmented() {
    DEFRAGMENTED.fetch_add(1, Relaxed);
}

/// What the wall clock showed when it was last read exactly, in microseconds.
static LAST_EXACT: AtomicU64 = AtomicU64::new(0);
/// The most that a cached clock lags behind an exact one: two ticks of a slow kernel.
const LAG_US: u64 = 20_000;

/// The wall clock, exact.
fn clock_now() -> Now {
    let us = read_clock(libc::CLOCK_REALTIME);
    LAST_EXACT.store(us, Relaxed);
    Now::new(us, mono_ms())
}

/// The clock that is never set, as the kernel's last tick left it: leases are not measured in microseconds.
fn mono_ms() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC_COARSE) / 1_000
}

/// The wall clock in milliseconds.
fn clock_ms() -> u64 {
    clock_now().ms()
}

/// The wall clock as the server last looked at it, or before 7.2 as the kernel's last tick left it (4 ms). Never behind
/// what a write has just seen: else what has ended would be fresh for a few milliseconds more. (A clock that is set back is
/// followed: then the difference is no lag.)
fn cached_now() -> Now {
    let cached = match server_may!(RedisModule_CachedMicroseconds) {
        // SAFETY: takes nothing, returns a number.
        Some(cached) => unsafe { cached() as u64 },
        None => read_clock(libc::CLOCK_REALTIME_COARSE),
    };
    let exact = LAST_EXACT.load(Relaxed);
    Now::new(if exact.saturating_sub(cached) < LAG_US { exact.max(cached) } else { cached }, mono_ms())
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid to write to; all three clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Called by the server when it loads the module.
///
/// # Safety
/// Only the server calls it, with a valid context and `argc` valid strings.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server's context; the name is a C string. Fills in the function pointers: nothing of ours has
    // allocated before.
    let status =
        unsafe { raw::Export_RedisModule_Init(ctx, NAME.as_ptr(), VERSION, raw::REDISMODULE_APIVER_1 as c_int) };
    if status != raw::REDISMODULE_OK as c_int {
        return status;
    }
    std::panic::set_hook(Box::new(|panic| log::warning(&format!("{panic}"))));
    let args = match usize::try_from(argc) {
        // SAFETY: the server gives `argc` valid strings, which live until we return; a `Str` is a non-null pointer to
        // one, and so is each element.
        Ok(count) if count > 0 => unsafe { slice::from_raw_parts(argv.cast::<Str<'_>>(), count) },
        _ => &[],
    };
    // SAFETY: the server's context lives until we return.
    let loaded = unsafe { Ctx::from_raw(ctx) }
        .ok_or_else(|| "no context".to_owned())
        .and_then(|ctx| catch_unwind(AssertUnwindSafe(|| load(ctx, args))).unwrap_or_else(|_| Err("a panic".into())));
    match loaded {
        Ok(()) => raw::REDISMODULE_OK as c_int,
        Err(why) => {
            log::warning(&format!("not loaded: {why}"));
            raw::REDISMODULE_ERR as c_int
        }
    }
}

fn load(ctx: Ctx, args: &[Str<'_>]) -> Result<(), String> {
    let missing = ffi::missing();
    if !missing.is_empty() {
        return Err(format!("Redis 7.0 or later, or Valkey 7.2.6 or later, is needed: {}", missing.join(", ")));
    }
    if !datatype::register(ctx) {
        return Err("the server refused the type smrtcache: is another module's of that name loaded?".into());
    }
    register::commands(ctx)?;
    settings::register(ctx, args)?;
    events::subscribe(ctx)?;
    info::register(ctx)?;
    register::options(ctx);
    bus::register(ctx);
    workers::remember();
    // SAFETY: the context is that of the load; what comes back lives as long as the module.
    CONTEXT.store(unsafe { ffi::server!(RedisModule_GetDetachedThreadSafeContext)(ctx.as_ptr()) }, Relaxed);
    caller::read_limits(ctx);
    Ok(())
}
