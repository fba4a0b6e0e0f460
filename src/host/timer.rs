//! The server's timers, each a type: its callback runs behind the guard.
//!
//! Servers count timers by the wall clock. When that is set back, by an hour say, all timers come an hour late, and so
//! does the server's own alarm for the first of them. So the timers that are set are remembered with the time of the
//! monotonic clock at which they are due, and the server's cron, which goes by that clock, sets those anew that do not
//! come ([`set_lost_ones_again`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;

use redis_module::raw;

use super::clock::mono_ms;
use super::ffi::{Ctx, server};
use super::log;
use super::main_thread::MainThread;
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

/// How late a timer may be, in milliseconds, before it is taken for one that does not come.
const OVERDUE_MS: u64 = 100;

/// A timer that is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerId(u64);

/// The timers that are set, by our own numbers.
#[derive(Default)]
struct Timers {
    last: u64,
    set: BTreeMap<u64, Set>,
}

#[derive(Clone, Copy)]
struct Set {
    /// The server's number.
    id: raw::RedisModuleTimerID,
    data: usize,
    /// In milliseconds of the monotonic clock.
    due_ms: u64,
    callback: raw::RedisModuleTimerProc,
}

static TIMERS: MainThread<RefCell<Timers>> = MainThread::new(RefCell::new(Timers { last: 0, set: BTreeMap::new() }));

/// Sets a timer, which fires once.
pub(super) fn start<T: Timer>(after_ms: i64, data: usize) -> Option<TimerId> {
    let Some(ctx) = Ctx::of_module() else {
        log::warning(&format!("{} is not set: the module is not loaded", T::NAME));
        return None;
    };
    let mut timers = TIMERS.get().borrow_mut();
    timers.last += 1;
    let (number, callback) = (timers.last, Some(fire::<T> as Callback));
    let id = create(ctx, after_ms, callback, number);
    let due_ms = mono_ms().saturating_add(after_ms.max(0) as u64);
    timers.set.insert(number, Set { id, data, due_ms, callback });
    Some(TimerId(number))
}

type Callback = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut c_void);

fn create(ctx: Ctx<'_>, after_ms: i64, callback: raw::RedisModuleTimerProc, number: u64) -> raw::RedisModuleTimerID {
    let number = ptr::without_provenance_mut(number as usize);
    // SAFETY: the context lives as long as the module; the callback reads the data as a number.
    unsafe { server!(RedisModule_CreateTimer)(ctx.as_ptr(), after_ms, callback, number) }
}

/// Stops a timer; one that has fired is ignored.
pub(super) fn stop(timer: TimerId) {
    if let Some(set) = TIMERS.get().borrow_mut().set.remove(&timer.0) {
        forget(set);
    }
}

fn forget(set: Set) {
    if let Some(ctx) = Ctx::of_module() {
        // SAFETY: the context lives as long as the module; the server knows its timers, and the data is not asked for.
        unsafe { server!(RedisModule_StopTimer)(ctx.as_ptr(), set.id, ptr::null_mut()) };
    }
}

/// Sets timers anew that should have come: called by the server's cron.
pub(super) fn set_lost_ones_again() {
    let Some(ctx) = Ctx::of_module() else { return };
    let now_ms = mono_ms();
    for (number, set) in &mut TIMERS.get().borrow_mut().set {
        if set.due_ms.saturating_add(OVERDUE_MS) < now_ms {
            forget(*set);
            (set.id, set.due_ms) = (create(ctx, 1, set.callback, *number), now_ms + 1);
        }
    }
}

unsafe extern "C" fn fire<T: Timer>(ctx: *mut raw::RedisModuleCtx, number: *mut c_void) {
    let set =
        try_run("the table of timers", || TIMERS.get().borrow_mut().set.remove(&(number.addr() as u64))).flatten();
    let Some(Set { data, .. }) = set else { return };
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
