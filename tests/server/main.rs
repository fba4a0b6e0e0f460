//! The module inside real servers. Every expectation comes from the command reference; where that is silent a test
//! states what a Redis user would expect, and why.
//!
//! Run it with `make test`, or `cargo test --test server` once the module is built (`cargo build --release`).
//! Which test belongs where: `tests/README.md`.

mod support;

mod commands;

mod acl;
mod acl_recipes;
mod aof;
mod bad_input;
mod clock;
mod cluster;
mod command_info;
mod config;
mod crash;
mod everywhere;
mod examples;
mod hostile;
mod invalidation;
mod keyspace;
mod marks;
mod memory;
mod monitoring;
mod pages;
mod panic;
mod rdb;
mod replication;
mod resp;
mod soak;
mod top;
mod tracking;
mod transactions;
mod unmodified;
mod unmodified_differential;
mod waiting;
