//! `INFO smartcache`: the version, and the numbers of `SMARTCACHE.STATS`.

use std::ffi::{CString, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

use redis_module::raw;

use super::caller::ServerCaller;
use super::clock::clock_now;
use super::datatype;
use super::ffi::{Ctx, server, server_may};
use super::panic::{self, catch_panic};
use super::state::try_state;
use crate::cache::stats::{FIELDS, Number, Scope};

/// Registers the section.
pub(super) fn register(ctx: Ctx<'_>) -> Result<(), String> {
    // SAFETY: the context is that of the load.
    let status = unsafe { server!(RedisModule_RegisterInfoFunc)(ctx.as_ptr(), Some(report)) };
    if status == raw::REDISMODULE_OK as c_int { Ok(()) } else { Err("the server refused the INFO section".into()) }
}

unsafe extern "C" fn report(info: *mut raw::RedisModuleInfoCtx, for_crash_report: c_int) {
    if for_crash_report != 0 {
        return; // in a signal handler nothing may be allocated or locked
    }
    catch_panic("INFO", (), || {
        let Some(info) = NonNull::new(info).map(|info| Info(info, PhantomData)) else { return };
        let Some(mut state) = try_state() else { return };
        let now = clock_now();
        panic::count(&mut state, now);
        let snapshot = state.snapshot(Scope::Node, None, now);
        info.begin();
        info.add_text("version", env!("CARGO_PKG_VERSION"));
        for field in FIELDS {
            info.add(field.name, (field.read)(&snapshot));
        }
        if let Some(ctx) = Ctx::of_module() {
            let health = state.health(&ServerCaller::new(ctx), now);
            info.add_text("health", health.status());
            info.add("health_reasons", Number::Whole(health.reasons.len() as u64));
        }
        info.add("offload_queued_bytes", Number::Whole(state.offload.queued_bytes() as u64));
        info.add("defragmented_entries", Number::Whole(datatype::defragmented()));
    });
}

/// One reply to `INFO`.
#[derive(Clone, Copy)]
struct Info<'a>(NonNull<raw::RedisModuleInfoCtx>, PhantomData<&'a ()>);

impl Info<'_> {
    /// Begins the module's own section.
    fn begin(self) {
        if let Some(section) = server_may!(RedisModule_InfoAddSection) {
            // SAFETY: valid during the callback; an empty name makes the module's own section.
            unsafe { section(self.0.as_ptr(), c"".as_ptr()) };
        }
    }

    fn add(self, field: &str, number: Number) {
        let Ok(name) = CString::new(field) else { return };
        match number {
            Number::Whole(n) => {
                if let Some(add) = server_may!(RedisModule_InfoAddFieldULongLong) {
                    // SAFETY: valid during the callback; a C string.
                    unsafe { add(self.0.as_ptr(), name.as_ptr(), n) };
                }
            }
            Number::Fraction(x) => {
                // The server's own doubles would be written with seventeen digits.
                self.add_text(field, &x.to_string());
            }
        }
    }

    fn add_text(self, field: &str, text: &str) {
        let (Ok(name), Ok(text)) = (CString::new(field), CString::new(text)) else { return };
        if let Some(add) = server_may!(RedisModule_InfoAddFieldCString) {
            // SAFETY: valid during the callback; two C strings.
            unsafe { add(self.0.as_ptr(), name.as_ptr(), text.as_ptr()) };
        }
    }
}
