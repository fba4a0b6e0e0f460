//! What the commands mean. No server, no clock, no randomness, no threads and no `unsafe` in here.
//!
//! A command receives a [`Cx`]: the time, the [`State`] of this node, and two ports to the outside, the
//! [`Keyspace`] it asks and the [`Reply`] it answers through. What should happen afterwards (replication,
//! keyspace events, compression on a worker) it leaves in the [`effects`] for the host to carry out.
//! The host has one implementation of the ports (`host/keyspace.rs`, `host/reply.rs`), the tests another
//! (`testing.rs`).
#![forbid(unsafe_code)]

pub mod clock;
pub mod cluster;
pub mod codec;
pub mod effects;
pub mod entry;
pub mod error;
pub mod glob;
pub mod ids;
pub mod invalidation;
pub mod key;
pub mod lease;
pub mod node;
pub mod outbox;
pub mod ports;
pub mod random;
pub mod rules;
pub mod state;
pub mod stats;
pub mod tables;
pub mod units;
pub mod unmodified;

pub use invalidation::judge::Judge;
pub use key::Key;
pub use node::context::{Cx, Node};
pub use ports::{Caller, Keyspace, Reply, Right, Server, ServerInfo, Slot};
pub use state::{Limits, State};
