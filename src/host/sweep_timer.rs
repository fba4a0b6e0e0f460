//! When the sweep runs, and what it has to replicate: the part of it that commands reach. Its work is in `sweep.rs`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::clock::{clock_now, mono_ms};
use super::main_thread::MainThread;
use super::timer;
use crate::cache::State;

/// The longest rest after a slice.
const MOST_REST_MS: u64 = 1_000;

/// The words of `SMARTCACHE.MARK`, and the database they are for.
pub(super) type Mark = (i32, Vec<Vec<u8>>);

struct Host {
    timer_set: Cell<bool>,
    /// No slice begins before, in milliseconds of the monotonic clock.
    rests_until: Cell<u64>,
    /// Marks that are yet to be replicated.
    marks: RefCell<VecDeque<Mark>>,
    /// Names of retired rules that replicas are yet to forget.
    retired: RefCell<Vec<String>>,
}

static SWEEP: MainThread<Host> = MainThread::new(Host {
    timer_set: Cell::new(false),
    rests_until: Cell::new(0),
    marks: RefCell::new(VecDeque::new()),
    retired: RefCell::new(Vec::new()),
});

/// Gives the sweep its time. `sweep.rs` makes it a timer.
pub(super) struct SweepTimer;

/// Arms the timer if work is pending.
pub(super) fn refresh(state: &mut State) {
    state.sweep_arrivals();
    if state.has_sweep_work(clock_now) {
        wake();
    }
}

/// Has the sweep replicate these marks.
pub(super) fn replicate_marks(marks: impl IntoIterator<Item = Mark>) {
    SWEEP.get().marks.borrow_mut().extend(marks);
    if has_marks() {
        wake();
    }
}

/// Has the sweep replicate that these retired rules are done with.
pub(super) fn replicate_retired(names: Vec<String>) {
    if !names.is_empty() {
        SWEEP.get().retired.borrow_mut().extend(names);
        wake();
    }
}

/// The names of retired rules that replicas are to forget.
pub(super) fn take_retired() -> Vec<String> {
    SWEEP.get().retired.take()
}

/// The next mark to replicate, if `is_for` accepts its database.
pub(super) fn next_mark(is_for: impl FnOnce(i32) -> bool) -> Option<Mark> {
    let mut marks = SWEEP.get().marks.borrow_mut();
    if marks.front().is_some_and(|(db, _)| is_for(*db)) { marks.pop_front() } else { None }
}

/// Nothing of it is to be replicated.
pub(super) fn drop_marks() {
    SWEEP.get().marks.borrow_mut().clear();
}

pub(super) fn has_marks() -> bool {
    !SWEEP.get().marks.borrow().is_empty() || !SWEEP.get().retired.borrow().is_empty()
}

/// Arms the timer: for as soon as the last slice has been rested from.
pub(super) fn wake() {
    if !SWEEP.get().timer_set.get() {
        let rest = SWEEP.get().rests_until.get().saturating_sub(mono_ms());
        set(Some(rest.clamp(1, MOST_REST_MS) as i64));
    }
}

/// A slice has ended, and the next one begins no sooner than in so many milliseconds.
pub(super) fn rest(ms: u64) {
    SWEEP.get().rests_until.set(mono_ms() + ms);
}

/// Sets the timer, or lets it rest. While the timer runs it counts as set, so that nobody else sets it.
pub(super) fn set(after_ms: Option<i64>) {
    let set = after_ms.and_then(|after_ms| timer::start::<SweepTimer>(after_ms, 0)).is_some();
    SWEEP.get().timer_set.set(set);
}
