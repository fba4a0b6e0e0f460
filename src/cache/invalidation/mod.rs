//! What ends many entries at once, and what frees them.

pub mod chunked;
pub mod database;
mod forgotten;
mod hash;
pub mod judge;
pub mod mark;
pub mod marks;
pub mod messages;
pub mod posting_list;
mod record;
pub mod selector;
mod summary;
pub mod sweep;
pub mod tag_index;
pub mod tags;
