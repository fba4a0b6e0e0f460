//! The guard of every callback: a panic that reached the server's C code would end the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::clock::clock_now;
use super::state::try_state;
use super::{log, main_thread};
use crate::cache::State;
use crate::cache::clock::Now;

/// Panics that are not in the statistics yet: the state was borrowed, or this was another thread.
static UNCOUNTED: AtomicU64 = AtomicU64::new(0);
/// Panics caught since the start.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// Runs the body of a callback. A panic is counted and logged, and `otherwise` is returned. What the body has borrowed
/// is released, and what it has changed stays: each callback must cope with work that is half done.
pub(super) fn catch_panic<R>(what: &str, otherwise: R, body: impl FnOnce() -> R) -> R {
    try_run(what, body).unwrap_or(otherwise)
}

/// As [`catch_panic`]; `None` after a panic.
pub(super) fn try_run<R>(what: &str, body: impl FnOnce() -> R) -> Option<R> {
    let body = || {
        #[cfg(feature = "test-commands")]
        crate::commands::panic::point(what);
        body()
    };
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(_) => {
            caught(what);
            None
        }
    }
}

/// Counts and logs a panic that was caught in `what`. (The panic hook has logged its place.)
#[cold]
pub(super) fn caught(what: &str) {
    CAUGHT.fetch_add(1, Relaxed);
    UNCOUNTED.fetch_add(1, Relaxed);
    log::warning(&format!("a panic was caught in {what}"));
    if main_thread::is_this() {
        // A second panic, in the counting, is one too many to count.
        let _ = catch_unwind(|| try_state().map(|mut state| count(&mut state, clock_now())));
    }
}

/// Moves the panics that are not counted yet into the statistics.
pub(super) fn count(state: &mut State, now: Now) {
    state.stats.at(now).node().panics += UNCOUNTED.swap(0, Relaxed);
}

/// Panics caught so far.
pub(super) fn so_far() -> u64 {
    CAUGHT.load(Relaxed)
}
