//! Who loads what: leases, tokens, fills, and which loads are not trusted.

pub mod acquire;
pub mod fill;
mod flights;
pub mod native_commands;
pub mod outcomes;
pub mod pace;
pub mod slots;
pub mod table;
pub mod token;
pub mod tombstones;
pub mod users;
