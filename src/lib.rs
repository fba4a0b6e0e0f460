//! SmartCache: a cache module for Redis and Valkey, in three folders.
//!
//! - [`commands`]: the words of the protocol. One command, one file, with its grammar, its documentation and its `run`.
//! - [`cache`]: what they do. Entries, rules, codecs, stamps, leases, invalidation, statistics. It knows no server, no
//!   clock, no threads and no `unsafe`; time comes in as an argument, and what is to happen goes out as [effects].
//! - `host`: the server's module API, and the only place with `unsafe`.
//!
//! Dependencies point one way: `host → commands → cache`. A command's way through all three:
//!
//! ```text
//! client ─ argv ─▶ host/dispatch.rs ─ words, now ─▶ commands/set.rs ─▶ cache/node/store.rs, rules/, codec/, entry/
//!                     │   ▲                          │  Keyspace, Reply, Server: the ports, which host/
//!                     │   │                          │  implements for a server and testing/ for tests
//!                     │   └──── effects, in order ───┘
//!                     ▼
//!                host/deliver.rs: replicate · notify · signal · compress
//! ```
//!
//! To try a command without a server, open `testing::TestNode` (feature `testing`).
//!
//! [effects]: cache::effects

pub mod cache;
pub mod commands;
pub mod config;
#[cfg(feature = "server")]
pub mod host;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
