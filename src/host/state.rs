//! The node's [`State`], in one cell of the main thread, and what it shares with callbacks that may run while it is
//! borrowed, or on another thread.

use std::cell::{LazyCell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, LazyLock};

use super::clock::clock_now;
use super::log;
use super::main_thread::MainThread;
use crate::cache::State;
use crate::cache::invalidation::marks::Invalidations;
use crate::cache::lease::tombstones::Tombstones;
use crate::cache::stats::live::Live;
use crate::cache::stats::miss_reasons::{self, MissReasons};

static STATE: MainThread<LazyCell<RefCell<State>>> = MainThread::new(LazyCell::new(|| {
    RefCell::new(State::new(
        clock_now(),
        random_bytes(),
        LIVE.clone(),
        TOMBSTONES.clone(),
        MISS_REASONS.clone(),
        invalidations().clone(),
    ))
}));

/// Memory of [`MISS_REASONS`]: pages that cost nothing until they are used, and that the server does not count.
static MISS_SLOTS: [AtomicU32; miss_reasons::SLOTS] = [const { AtomicU32::new(0) }; miss_reasons::SLOTS];

/// Counts of live entries: shared with the thread that frees in the background.
pub(super) static LIVE: LazyLock<Arc<Live>> = LazyLock::new(Arc::default);
/// Which loads in flight are not trusted: written by the server's own removals, too.
pub(super) static TOMBSTONES: LazyLock<Arc<Tombstones>> = LazyLock::new(|| Arc::new(Tombstones::new(random_bytes())));
/// Which keys the server has evicted or let expire.
pub(super) static MISS_REASONS: LazyLock<Arc<MissReasons>> =
    LazyLock::new(|| Arc::new(MissReasons::within(&MISS_SLOTS, random_bytes())));

static INVALIDATIONS: MainThread<LazyCell<Rc<Invalidations>>> =
    MainThread::new(LazyCell::new(|| Rc::new(Invalidations::new(random_bytes()))));

/// Invalidation marks and the tag index: read by callbacks that the server makes while a command borrows the state.
pub(super) fn invalidations() -> &'static Rc<Invalidations> {
    INVALIDATIONS.get()
}

/// The state, unless a caller up this very call stack borrows it.
pub(super) fn try_state() -> Option<RefMut<'static, State>> {
    STATE.get().try_borrow_mut().ok()
}

/// The state, in callbacks that the server makes between commands, when nobody borrows it.
pub(super) fn with_state<R>(f: impl FnOnce(&mut State) -> R) -> R {
    f(&mut STATE.get().borrow_mut())
}

/// Bytes that nobody can guess: secrets of this life.
pub(super) fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    if let Err(why) = getrandom::fill(&mut bytes) {
        log::warning(&format!("the system gives no random bytes, tokens are made from the clock: {why}"));
        bytes = (u128::from(clock_now().us()) << 64 | u128::from(std::process::id())).to_le_bytes();
    }
    bytes
}
