//! The ports: what the core asks of its host. A real server is behind them in `host/`, memory in the test node.

use super::entry::{Entry, EntryMut, EntryRef};
use super::key::Key;

/// What stands under a key.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'k> {
    /// Nothing, or something the server has let expire.
    Empty,
    /// One of our entries, whatever its state.
    Entry(EntryRef<'k>),
    /// A plain string of the server's own, of so many bytes: read as a fresh entry without windows.
    Text(usize),
    /// Anything else, such as a list: `WRONGTYPE`.
    Other,
}

/// The keyspace of one database, as a command sees it.
///
/// Methods take `&mut self` because the server's lookup may expire a key, and because at most one key is
/// held open at a time: what `look` returns lives until the next call.
pub trait Keyspace {
    /// What stands under `key`, for serving it: counts as an access (LRU, `keyspace_hits`).
    fn look(&mut self, key: Key<'_>) -> Slot<'_>;

    /// What stands under `key`, for looking at it: counts as no access where the server allows that.
    fn peek(&mut self, key: Key<'_>) -> Slot<'_>;

    /// The bytes of the plain string under `key`, without changing how the server keeps it; `None` when there is none.
    fn text(&mut self, key: Key<'_>) -> Option<&[u8]>;

    /// How many milliseconds are left until the server deletes `key`; `None` without expiry or key.
    fn left_ms(&mut self, key: Key<'_>) -> Option<u64>;

    /// The bytes of memory that the server counts for the key's value; 0 when it cannot tell.
    fn memory_bytes(&mut self, key: Key<'_>) -> u64;

    /// Puts `entry` under `key`, whatever was there, to be deleted by the server at `expire_at`.
    fn set(&mut self, key: Key<'_>, entry: Entry, expire_at: Option<u64>);

    /// The entry under `key`, to change its header in place; `None` when there is none.
    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>>;

    /// Sets when the server deletes `key` (`None`: never).
    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>);

    /// Removes `key`, whatever it holds; whether there was something.
    fn remove(&mut self, key: Key<'_>) -> bool;
}

/// Where a command's answer goes. Each call writes one element; containers announce their length first.
pub trait Reply {
    /// A simple string, such as `OK`.
    fn simple(&mut self, text: &str);
    /// A bulk string.
    fn bulk(&mut self, bytes: &[u8]);
    /// Nothing: `nil`.
    fn nil(&mut self);
    /// A whole number.
    fn int(&mut self, n: i64);
    /// A number with a fraction: a double in RESP3, a bulk string in RESP2.
    fn double(&mut self, x: f64);
    /// The head of an array of `len` elements.
    fn array(&mut self, len: usize);
    /// The head of a map of `len` pairs (a flat array in RESP2).
    fn map(&mut self, len: usize);
}

/// Who is calling, as far as a command may have to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The selected database.
    pub db: i32,
    /// The command comes from our primary, from an AOF or from another trusted source: obey, do not judge.
    pub trusted: bool,
    /// The command brings a slot from another node: obey, but its clock is another's.
    pub importing: bool,
    /// Another primary of the cluster passes on what its caller was allowed to say: do not ask for permission, but run it
    /// as a command of this node's own, with a stamp of its own, replicated.
    pub passed_on: bool,
}

impl Caller {
    /// Whether it may say whatever it says: it has been asked elsewhere.
    pub fn has_leave(&self) -> bool {
        self.trusted || self.passed_on
    }
}

/// What a user may do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See what it holds: `%R`.
    Read,
    /// Change or remove it: `%W`.
    Write,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Right::Read => "read",
            Right::Write => "write",
        })
    }
}

/// What is asked of the server only where it matters, since asking costs.
pub trait Server {
    /// The number of the caller's connection.
    fn client(&self) -> u64;
    /// Whether the caller may be kept waiting: not in `MULTI`, scripts and functions.
    fn may_wait(&self) -> bool;
    /// Whether this node is a replica: it grants no leases.
    fn is_replica(&self) -> bool;
    /// Whether a command that needs memory is to be refused.
    fn out_of_memory(&self) -> bool;
    /// Whether the caller's user may do this with the key, which its command does not name as one.
    fn may(&self, right: Right, key: &[u8]) -> bool;
    /// Whether the caller's user may do this with every key that begins so; `None` where the server cannot tell.
    fn may_prefix(&self, right: Right, prefix: &[u8]) -> Option<bool>;
    /// Whether the caller's user may do this with every key.
    fn may_all(&self, right: Right) -> bool;
    /// The server by its own account.
    fn server_info(&self) -> ServerInfo;
}

/// The server by its own account. Asking costs it some 100 µs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// `used_memory`
    pub memory_used_bytes: u64,
    /// What of it does not count towards the limit: buffers of replicas and of the AOF.
    pub memory_uncounted_bytes: u64,
    /// `maxmemory`; 0 without limit.
    pub memory_max_bytes: u64,
    /// `maxmemory-policy`
    pub memory_policy: String,
    /// `connected_clients`
    pub connected_clients: u64,
    /// `instantaneous_ops_per_sec`
    pub ops_per_sec: u64,
}
