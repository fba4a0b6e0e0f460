//! The ports: what the core asks of its host, which is a server in `host/` and memory in the test node.

use std::any::Any;

use smallvec::SmallVec;

use super::entry::{Entry, EntryMut, EntryRef};
use super::key::Key;
use super::lease::users::UserName;

/// What is under a key.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'k> {
    /// Nothing, or something the server has let expire.
    Empty,
    /// One of our entries, whatever its state.
    Entry(EntryRef<'k>),
    /// A plain string of the server, of so many bytes: read as a fresh entry without windows.
    Text(usize),
    /// Anything else, such as a list: `WRONGTYPE`.
    Other,
}

/// The keyspace of one database, as a command sees it.
///
/// Methods take `&mut self` because the server's lookup may expire a key, and because at most one key is open at a
/// time: what `look` returns lives until the next call.
pub trait Keyspace {
    /// What is under `key`, to serve it: counts as an access (LRU, `keyspace_hits`).
    fn look(&mut self, key: Key<'_>) -> Slot<'_>;

    /// What is under `key`, to inspect it: counts as no access where the server allows that.
    fn peek(&mut self, key: Key<'_>) -> Slot<'_>;

    /// The bytes of the plain string under `key`, without changing its encoding; `None` when there is none.
    fn text(&mut self, key: Key<'_>) -> Option<&[u8]>;

    /// The plain string that a command has just left under `key`, for a command that writes: no read of the client's,
    /// who may be tracking what it reads.
    fn text_written(&mut self, key: Key<'_>) -> Option<Vec<u8>>;

    /// How many milliseconds are left until the server deletes `key`; `None` without expiry or key.
    fn left_ms(&mut self, key: Key<'_>) -> Option<u64>;

    /// The bytes of memory that the server counts for the key's value; 0 when it cannot tell.
    fn memory_bytes(&mut self, key: Key<'_>) -> u64;

    /// Puts `entry` under `key` in place of anything there. The server deletes it at `expire_at`.
    fn set(&mut self, key: Key<'_>, entry: Entry, expire_at: Option<u64>);

    /// The entry under `key`, to change its header in place; `None` when there is none.
    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>>;

    /// Sets when the server deletes `key` (`None`: never).
    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>);

    /// Removes `key`, whatever it holds; whether it existed.
    fn remove(&mut self, key: Key<'_>) -> bool;

    /// When the server deletes `key`, in milliseconds of Unix time; `None` without expiry or key.
    fn expire_at(&mut self, key: Key<'_>) -> Option<u64>;

    /// Takes the entry under `key` out, and puts a plain string with its expiry in its place, or nothing. Nobody
    /// notices: neither the index nor watchers, replicas or events. `None` when there is no entry.
    fn stand_in(&mut self, key: Key<'_>, text: Option<(&[u8], Option<u64>)>) -> Option<Hidden>;

    /// Puts back what [`stand_in`](Self::stand_in) took out, in place of anything there. Nobody notices: its `access`
    /// is that of the key again.
    fn put_back(&mut self, key: Key<'_>, hidden: Hidden);

    /// Lets go of what [`stand_in`](Self::stand_in) took out: it is not under its key any more.
    fn discard(&mut self, key: Key<'_>, hidden: Hidden);

    /// Which of these words of one of the server's own commands, its name the first, are keys: by their index.
    fn native_keys(&mut self, words: &[&[u8]]) -> SmallVec<[usize; 8]>;

    /// Runs one of the server's own commands as the caller, whose permissions the server checks. `replicate`: its
    /// effects are replicated as the server does. `None` when it did not run.
    fn run_native(&mut self, words: &[Key<'_>], caller: &Caller, replicate: bool) -> Option<Box<dyn NativeReply>>;
}

/// An entry that is not under its key for a while.
#[derive(Debug)]
pub struct Hidden {
    /// The entry.
    pub entry: Entry,
    /// When the server deletes the key, in milliseconds of Unix time.
    pub expire_at: Option<u64>,
    /// What the server's eviction knows of the key.
    pub access: Access,
}

/// What the server's eviction knows of a key.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Milliseconds without access; −1 when the server keeps frequencies instead.
    pub idle_ms: i64,
    /// How often it is accessed; −1 when the server keeps times instead.
    pub frequency: i64,
}

/// What one of the server's own commands has replied.
pub trait NativeReply {
    /// Whether it was refused.
    fn is_error(&self) -> bool;
    /// The string that it replied.
    fn text(&self) -> Option<&[u8]>;
    /// The strings of the array or set that it replied.
    fn texts(&self) -> Vec<Vec<u8>>;
    /// The cursor and the keys that `SCAN` replied.
    fn scanned(&self) -> Option<(Vec<u8>, Vec<Vec<u8>>)>;
    /// For the host, which knows the type.
    fn as_any(&self) -> &dyn Any;
}

/// Where a command's reply goes. Each call writes one element; containers begin with their length.
pub trait Reply {
    /// A simple string: only `OK` and lines of help. Some clients turn them into `true`, and Lua into tables.
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
    /// What one of the server's own commands has replied.
    fn native(&mut self, reply: &dyn NativeReply);
}

/// For a command that nobody waits for.
pub struct Unanswered;

impl Reply for Unanswered {
    fn simple(&mut self, _: &str) {}
    fn bulk(&mut self, _: &[u8]) {}
    fn nil(&mut self) {}
    fn int(&mut self, _: i64) {}
    fn double(&mut self, _: f64) {}
    fn array(&mut self, _: usize) {}
    fn map(&mut self, _: usize) {}
    fn native(&mut self, _: &dyn NativeReply) {}
}

/// The caller of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The selected database.
    pub db: i32,
    /// The command comes from our primary, an AOF or another trusted source: it is obeyed without checks.
    pub trusted: bool,
    /// The command brings a slot from another node: it is obeyed, but its stamp is of another clock.
    pub importing: bool,
    /// The command is passed on by another primary of the cluster, which has checked its caller's permissions: it runs
    /// without a check, but as a command of this node, with its own stamp, replicated.
    pub passed_on: bool,
}

impl Caller {
    /// Whether its permissions have been checked elsewhere.
    pub fn is_authorized(&self) -> bool {
        self.trusted || self.passed_on
    }
}

/// What a user may do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Read its value: `%R`.
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

/// What a command asks of the server on demand, because each call costs.
pub trait Server {
    /// The id of the caller's connection.
    fn client(&self) -> u64;
    /// The caller's user: its name in the ACL; for the default user, whom many share, with the address it calls from.
    fn user(&self) -> UserName;
    /// Whether the caller may be parked: not in `MULTI`, scripts and functions.
    fn may_wait(&self) -> bool;
    /// Whether the caller has a connection of its own: scripts and other modules have none.
    fn is_connection(&self) -> bool;
    /// Whether this node is a replica: it grants no leases.
    fn is_replica(&self) -> bool;
    /// Whether commands that need memory are refused.
    fn out_of_memory(&self) -> bool;
    /// Whether the caller's user has this right to the key, which the server does not check because it is not among the
    /// command's declared keys.
    fn may(&self, right: Right, key: &[u8]) -> bool;
    /// Whether the caller's user may call one of the server's own commands on this key, to which the server has
    /// checked the right. Cheap when asked again for the same connection.
    fn may_call(&self, command: &'static str, key: Key<'_>) -> bool;
    /// The first of these keys to which the caller's user does not have this right.
    fn first_denied(&self, right: Right, mut keys: &mut dyn Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
        Iterator::find(&mut keys, |key| !self.may(right, key))
    }
    /// Whether the caller's user has this right to every key with the prefix; `None` where the server cannot tell.
    fn may_prefix(&self, right: Right, prefix: &[u8]) -> Option<bool>;
    /// Whether the caller's user has this right to every key.
    fn may_all(&self, right: Right) -> bool;
    /// What the server reports about itself.
    fn server_info(&self) -> ServerInfo;
}

/// What the server reports about itself. The query costs some 100 µs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// `used_memory`
    pub memory_used_bytes: u64,
    /// The part that does not count towards the limit: buffers of replicas and of the AOF.
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
