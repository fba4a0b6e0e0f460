//! SmartCache: a cache module for Redis and Valkey, in three folders.
//!
//! - [`commands`] is what people *say*: one command, one file, with its grammar, its documentation and its `run`.
//! - [`cache`] is what it *means*: entries, rules, codecs, stamps, statistics. It knows no server, no clock, no
//!   threads and no `unsafe`; time comes in as an argument, and what should happen goes out as [effects].
//! - `host` is how the server *does* it, and the only place with `unsafe`.
//!
//! Dependencies point one way: `host → commands → cache`. A journey through all three:
//!
//! ```text
//! client ─ argv ─▶ host/enter.rs ─ words, now ─▶ commands/set.rs ─▶ cache/entry.rs, rules.rs, codec/ …
//!                     │   ▲                          │  asks:  Keyspace (host/keyspace.rs │ testing.rs)
//!                     │   │                          │  says:  Reply    (host/reply.rs    │ testing.rs)
//!                     │   └──── effects, in order ───┘  wants: Effects
//!                     ▼
//!                host/deliver.rs: replicate · notify · signal · compress
//! ```
//!
//! To try a command without a server, open [`testing::TestNode`].
//!
//! [effects]: cache::effects

pub mod cache;
pub mod commands;
pub mod config;
#[cfg(feature = "server")]
pub mod host;
#[doc(hidden)]
pub mod testing;
