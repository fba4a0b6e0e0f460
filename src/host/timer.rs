//! The server's timers, each a type: its callback runs behind the guard.

use std::ffi::c_void;
use std::ptr;

use redis_module::raw;

use super::ffi::{Ctx, server};
use super::log;
use super::panic::{catch_panic, try_run};

/// What a timer does.
pub(super) trait Timer: 'static {
    /// In the log, after a panic.
    const NAME: &'static str;

    /// Called on the main thread, with what [`start`] got.
    fn fire(ctx: Ctx<'_>, data: usize);

    /// Called after `fire` has panicked: a timer that must not be lost is set again here.
    fn recover(_data: usize) {}
}

/// A timer that is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerId(raw::RedisModuleTimerID);

/// Sets a timer, which fires once.
pub(super) fn start<T: Timer>(after_ms: i64, data: usize) -> Option<TimerId> {
    let Some(ctx) = Ctx::of_module() else {
        log::warning(&format!("{} is not set: the module is not loaded", T::NAME));
        return None;
    };
    let data = ptr::without_provenance_mut(data);
    // SAFETY: the context lives as long as the module; the callback reads the data as a number.
    Some(TimerId(unsafe { server!(RedisModule_CreateTimer)(ctx.as_ptr(), after_ms, Some(fire::<T>), data) }))
}

/// Stops a timer; one that has fired is ignored.
pub(super) fn stop(timer: TimerId) {
    if let Some(ctx) = Ctx::of_module() {
        // SAFETY: the context lives as long as the module; the server knows its timers, and the data is not asked for.
        unsafe { server!(RedisModule_StopTimer)(ctx.as_ptr(), timer.0, ptr::null_mut()) };
    }
}

unsafe extern "C" fn fire<T: Timer>(ctx: *mut raw::RedisModuleCtx, data: *mut c_void) {
    let data = data.addr();
    let fired = try_run(T::NAME, || {
        // SAFETY: the timer's context, valid until we return.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            T::fire(ctx, data);
        }
    });
    if fired.is_none() {
        catch_panic("the restart of a timer", (), || T::recover(data));
    }
}
