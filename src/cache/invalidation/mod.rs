//! Invalidation: ends the freshness of many entries at once, and frees them later.
//!
//! ```text
//!  selector ─▶ messages ─▶ marks: one stamp each ─▶ judge: compares entries with them when they are read
//!                      └─▶ sweep: walks over posting lists (tag_index) or keys, and frees
//! ```

mod chunked;
pub mod database;
pub mod fold;
mod forgotten;
mod hash;
pub mod judge;
pub mod mark;
pub mod marks;
pub mod messages;
mod posting_list;
mod record;
pub mod selector;
mod summary;
pub mod sweep;
pub mod tag_index;
pub mod tags;
