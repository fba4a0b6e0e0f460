//! One file a command, named as its file in `src/commands`.

mod absent;
mod del;
mod get;
pub(crate) mod help;
mod inspect;
mod mget;
mod missing;
mod mset;
mod resetstat;
mod rule;
mod set;
mod stale;
mod stats;
mod touch;

pub(crate) use help::COMMANDS;
