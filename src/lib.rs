//! SmartCache: a cache module for Redis and Valkey.

pub mod cache;
pub mod config;
