//! Passes commands on to the other primaries of a cluster (`cache/cluster/bus.rs`). What they pass on to us comes in
//! by `bus.rs`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::clock::{clock_now, mono_ms};
use super::ffi::Ctx;
use super::log;
use crate::cache::State;
use crate::cache::cluster::bus::PassOn;
use crate::commands::spec::Command;

/// The server's number for our messages, any up to 254. Modules whose names have not nine letters share these
/// numbers, so it is one that another would hardly take.
pub(super) const KIND: u8 = 203;
/// At most one complaint in so many milliseconds: a sender of nonsense must not fill the log.
const QUIET_MS: u64 = 1_000;

/// Whether this server is a node of a cluster, which it is from its start or never.
static CLUSTERED: AtomicBool = AtomicBool::new(false);
/// Until when we do not complain.
static QUIET_UNTIL: AtomicU64 = AtomicU64::new(0);

/// This server is a node of a cluster.
pub(super) fn enable() {
    CLUSTERED.store(true, Relaxed);
}

/// Passes on the running command, of which `words` are the words, to all nodes that the server has a link to.
pub(super) fn pass_on(ctx: Ctx<'_>, state: &mut State, command: &Command, words: &[&[u8]], how: &PassOn) {
    if !CLUSTERED.load(Relaxed) {
        return;
    }
    let Ok(parts) = how.commands(command.name, words) else {
        state.stats.at(clock_now()).node().bus_lost += 1;
        return complain(&format!("{} is too long to be passed on to the other primaries", command.name));
    };
    for part in parts {
        let message = state.bus.message(ctx.selected_db(), &part);
        let sent = ctx.broadcast(KIND, &message);
        let tally = &mut state.stats.at(clock_now());
        if sent {
            tally.node().bus_sent += 1;
        } else {
            tally.node().bus_lost += 1;
        }
    }
}

/// A warning in the log, unless there was one just now.
pub(super) fn complain(what: &str) {
    let now = mono_ms();
    if now >= QUIET_UNTIL.load(Relaxed) {
        QUIET_UNTIL.store(now + QUIET_MS, Relaxed);
        log::warning(what);
    }
}
