//! One file per command, named like its file in `src/commands`.

mod absent;
mod del;
mod extend;
mod get;
mod getlock;
mod health;
pub(crate) mod help;
mod hotkeys;
mod inspect;
mod invalidate;
mod mget;
mod missing;
mod mset;
mod plain;
mod preview;
mod resetstat;
mod rule;
mod set;
mod stale;
mod stamp;
mod stats;
mod touch;
mod unlock;

pub(crate) use help::COMMANDS;
