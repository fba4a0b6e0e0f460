//! Notices when hash slots come or go, by the epochs of the cluster: at each turn of the server's cron.
//!
//! A slot that changes hands raises an epoch, which `CLUSTER INFO` returns cheaply; then the slots are read, and for
//! a while at every turn, since the epoch may come before the slot. No event reports it on all servers. (So for a
//! tenth of a second a load may still be stored that began before its slot went away and came back.)

use std::cell::Cell;
use std::ffi::CStr;

use redis_module::raw;

use super::after_command::after_command;
use super::clock::clock_now;
use super::ffi::Ctx;
use super::main_thread::MainThread;
use super::state::try_state;
use crate::cache::lease::slots;

/// For how long slots are read at every turn after an epoch has changed, in milliseconds.
const RESTLESS_MS: u64 = 60_000;

/// Hash of the epochs and slots that `CLUSTER INFO` last returned (0 at first), and until when slots are read at
/// every turn.
static LAST: MainThread<Cell<(u64, u64)>> = MainThread::new(Cell::new((0, 0)));

/// Looks whether anything has changed.
pub(super) fn refresh(ctx: Ctx<'_>) {
    if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_CLUSTER == 0 {
        return;
    }
    let (before, restless_until) = LAST.get().get();
    let (now, epochs) = (clock_now(), epochs(ctx).unwrap_or(before));
    if epochs == before && now.mono_ms() >= restless_until {
        return;
    }
    let Some(served) = ask(ctx, c"NODES").map(|nodes| slots::served(&nodes)) else { return };
    let Some(mut state) = try_state() else { return };
    if epochs != before {
        LAST.get().set((epochs, now.mono_ms() + RESTLESS_MS));
    }
    state.serves(served, now);
    after_command(state);
}

/// The epochs, and how many slots are served: changes when slots change hands.
fn epochs(ctx: Ctx<'_>) -> Option<u64> {
    let info = ask(ctx, c"INFO")?;
    let lines = info.lines().filter(|line| line.contains("epoch") || line.starts_with("cluster_slots"));
    Some(lines.flat_map(str::bytes).fold(1, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)))
}

fn ask(ctx: Ctx<'_>, what: &CStr) -> Option<String> {
    let called = ctx.call(c"CLUSTER", what)?;
    called.text().map(|text| String::from_utf8_lossy(text).into_owned())
}
