//! Callers who wait for walks of the sweep (`cache/invalidation/sweep.rs`): parked by the server, answered by us.

use std::cell::{LazyCell, RefCell};

use super::blocked_clients::{self, BlockedClients, Waiters};
use super::caller::ServerCaller;
use super::ffi::Ctx;
use super::main_thread::MainThread;
use super::reply::ServerReply;
use super::state::try_state;
use crate::cache::error::Error;
use crate::cache::invalidation::sweep::{SweepReply, SweepWaiterId};
use crate::cache::{Reply, State};
use crate::commands::{invalidate, preview};

type Clients = RefCell<BlockedClients<SweepWaiterId, SweepReply>>;

static CLIENTS: MainThread<LazyCell<Clients>> = MainThread::new(LazyCell::new(Clients::default));

/// Those who wait for the sweep.
struct SweepWaiters;

impl Waiters for SweepWaiters {
    type Id = SweepWaiterId;
    type Answer = SweepReply;
    const NAME: &'static str = "a waiter for the sweep";

    fn clients() -> &'static Clients {
        CLIENTS.get()
    }

    fn check(server: &ServerCaller<'_>, words: &[&[u8]]) -> Result<(), Error> {
        invalidate::check_waiter(server, words)
    }

    fn write(reply: &mut ServerReply<'_>, _: &[u8], answer: Option<&SweepReply>) {
        match answer {
            Some(answer) => {
                let server = ServerCaller::new(*reply.ctx());
                preview::write_deferred_reply(reply, &server, answer)
            }
            None => reply.int(0),
        }
    }

    fn time_out(_: Ctx<'_>, id: SweepWaiterId) -> Option<SweepReply> {
        try_state().and_then(|mut state| state.sweep.cancel_wait(id))
    }

    fn gone(id: SweepWaiterId, sent: Option<SweepReply>) {
        // While the state is borrowed the waiter stays: its answer then finds nobody.
        if sent.is_none()
            && let Some(mut state) = try_state()
        {
            state.sweep.cancel_wait(id);
        }
    }
}

/// Has the server block the caller of the running command. A caller whom the server does not block gets what is known
/// now.
pub(super) fn wait(reply: &mut ServerReply<'_>, state: &mut State, id: SweepWaiterId) {
    if !blocked_clients::block::<SweepWaiters>(reply, id) {
        let answer = state.sweep.cancel_wait(id);
        SweepWaiters::write(reply, b"", answer.as_ref());
    }
}

/// Sends the answers that have come. Between two commands only: see `blocked::may_send_between_commands`.
pub(super) fn send(state: &mut State) {
    while let Some((id, answer)) = state.sweep.next_reply() {
        CLIENTS.get().borrow_mut().send(id, answer);
    }
}
