//! What ends many entries at once, and what frees them.

pub mod chunked;
pub mod judge;
pub mod marks;
pub mod messages;
pub mod posting_list;
pub mod sweep;
pub mod tag_index;
pub mod tags;
