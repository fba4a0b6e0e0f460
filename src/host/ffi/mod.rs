//! The server's calls: raw pointers in, safe types out. What `redis-module` itself wraps is avoided where it panics,
//! formats or copies.
//!
//! A pointer that the server hands to a callback is valid until the callback returns. So each type here carries a
//! lifetime that its one unsafe constructor ties to the callback, and nothing of them can be kept beyond it.

mod call_reply;
mod calls;
mod ctx;
mod io;
mod strings;

pub(super) use call_reply::{CallReply, Element};
pub(super) use calls::{is_child, is_valkey, missing, must_not_write, server, server_may, server_version};
pub(super) use ctx::{ClientCtx, Ctx};
pub(super) use io::Io;
pub(super) use strings::{OwnedStr, Str};
