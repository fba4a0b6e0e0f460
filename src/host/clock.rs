//! The clocks: exact for what writes, cheap for what reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ffi::server_may;
use crate::cache::clock::Now;

/// The result of the last exact reading of the wall clock, in microseconds.
static LAST_EXACT: AtomicU64 = AtomicU64::new(0);
/// The most that a cached clock lags behind an exact one: two ticks of a slow kernel.
const LAG_US: u64 = 20_000;

/// The wall clock, exact.
pub(super) fn clock_now() -> Now {
    let us = read(libc::CLOCK_REALTIME);
    LAST_EXACT.store(us, Relaxed);
    Now::new(us, mono_ms())
}

/// The wall clock in milliseconds.
pub(super) fn clock_ms() -> u64 {
    clock_now().ms()
}

/// The monotonic clock as of the kernel's last tick: leases are not measured in microseconds.
pub(super) fn mono_ms() -> u64 {
    let time = timespec(libc::CLOCK_MONOTONIC_COARSE);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// The wall clock as the server last read it, or before 7.2 as of the kernel's last tick (4 ms). Never behind the last
/// exact reading: else an entry that a write has just ended would be fresh for a few milliseconds more. (A clock that
/// is set back is followed: then the difference is no lag.)
pub(super) fn cached_now() -> Now {
    let cached = match server_may!(RedisModule_CachedMicroseconds) {
        // SAFETY: takes nothing, returns a number.
        Some(cached) => unsafe { cached() as u64 },
        None => read(libc::CLOCK_REALTIME_COARSE),
    };
    let exact = LAST_EXACT.load(Relaxed);
    Now::new(if exact.saturating_sub(cached) < LAG_US { exact.max(cached) } else { cached }, mono_ms())
}

fn read(clock: libc::clockid_t) -> u64 {
    let time = timespec(clock);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

fn timespec(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid to write to; all these clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}
