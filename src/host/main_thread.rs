//! State of the server's main thread, in statics.
//!
//! Commands, timers, events, settings, INFO, blocked clients and the callbacks of the type run on the main thread, or
//! after a fork on the child's only one. Two things run elsewhere: the type's `free`, on the server's thread for
//! lazy freeing, and the compression worker (`workers.rs`). Neither may reach a [`MainThread`].

use std::cell::Cell;

thread_local! {
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as the main one: called once, at load.
pub(super) fn enter() {
    IS_MAIN.set(true);
}

/// Whether this is the main thread (or the only thread of a fork).
pub(super) fn is_this() -> bool {
    IS_MAIN.get()
}

/// A value that only the main thread uses.
pub(super) struct MainThread<T>(T);

// SAFETY: `get` is called by the main thread alone (see above), which builds with debug assertions check.
unsafe impl<T> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    pub(super) const fn new(value: T) -> Self {
        MainThread(value)
    }

    pub(super) fn get(&self) -> &T {
        debug_assert!(is_this(), "state of the main thread is used on another thread");
        &self.0
    }
}
