//! What follows a command or an event that may have changed leases.

use std::cell::RefMut;

use super::clock::clock_now;
use super::{blocked, filter};
use crate::cache::State;

/// Sends answers, sets the timer of leases, and registers the filter or takes it back. Gives the state back.
#[inline]
pub(super) fn after_command(mut state: RefMut<'_, State>) {
    if state.leases.take_dirty() || filter::is_missing(&state) {
        refresh(&mut state);
    }
}

#[inline(never)]
fn refresh(state: &mut State) {
    let now = clock_now();
    blocked::refresh_answers(state, now);
    filter::refresh(state, now);
}
