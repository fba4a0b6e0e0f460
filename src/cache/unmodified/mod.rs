//! Unmodified clients: the server's own commands on keys whose rule says `NATIVE`.
//!
//! ```text
//!  client ─ GET k ─▶ command filter: is the key of a NATIVE rule?  ─▶ SMARTCACHE.NATIVE-GET k
//!          INCR k ─▶                                               ─▶ SMARTCACHE.NATIVE-STORE INCR k
//! ```
//!
//! For such a client a key behaves as the plain string it believes it to be. `commands` knows which of the server's
//! commands are served and how; `loads` remembers who was told nil and loads now.

pub mod commands;
pub mod loads;
pub mod recognizer;

/// The walks that turn the entries of former NATIVE rules into plain strings.
#[derive(Debug, Default)]
pub struct Retiring {
    /// The names of what is left of the rules.
    pub names: Vec<String>,
    /// The walks that have not ended.
    pub jobs: Vec<u64>,
}
