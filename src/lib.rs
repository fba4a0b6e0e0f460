//! SmartCache: a cache module for Redis and Valkey.
