//! What is compared: how each approach stores an entry, invalidates the group, and reads entries.

use clap::ValueEnum;
use redis::{Cmd, Connection, ConnectionLike, FromRedisValue, Value, cmd};
use serde::{Deserialize, Serialize};

use crate::support::server::Result;

/// One way to invalidate many keys at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Approach {
    /// `KEYS`, then `DEL`.
    KeysDel,
    /// The same in a script.
    LuaKeysDel,
    /// `SCAN`, and `UNLINK` of each page.
    ScanUnlink,
    /// A set of keys for each tag, kept by the client.
    TagSets,
    /// The whole database.
    Flushdb,
    /// `SMARTCACHE.INVALIDATE TAGS`.
    Tags,
    /// `SMARTCACHE.INVALIDATE PREFIXES`.
    Prefixes,
    /// `SMARTCACHE.INVALIDATE PATTERNS`.
    Patterns,
    /// `SMARTCACHE.INVALIDATE ALL`.
    All,
}

/// The keys and the share of them that is invalidated.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) keys: usize,
    pub(crate) share: f64,
}

pub(crate) const TAG: &str = "shop:42";
const PREFIX: &str = "shop:42:";
/// Not a prefix, so that it is matched as a pattern.
const PATTERN: &str = "*:42:product:*";

impl Group {
    /// Whether key `n` is in the group. Members are spread evenly.
    pub(crate) fn has(self, n: usize) -> bool {
        ((n + 1) as f64 * self.share).floor() > (n as f64 * self.share).floor()
    }

    pub(crate) fn members(self) -> impl Iterator<Item = usize> {
        (0..self.keys).filter(move |&n| self.has(n))
    }

    pub(crate) fn key(self, n: usize) -> Vec<u8> {
        format!("shop:{}:product:{n:08}", if self.has(n) { 42 } else { 43 }).into_bytes()
    }
}

impl Approach {
    pub(crate) const ALL: [Approach; 9] = [
        Approach::KeysDel,
        Approach::LuaKeysDel,
        Approach::ScanUnlink,
        Approach::TagSets,
        Approach::Flushdb,
        Approach::Tags,
        Approach::Prefixes,
        Approach::Patterns,
        Approach::All,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Approach::KeysDel => "KEYS, DEL",
            Approach::LuaKeysDel => "Lua: KEYS, DEL",
            Approach::ScanUnlink => "SCAN, UNLINK",
            Approach::TagSets => "tag sets",
            Approach::Flushdb => "FLUSHDB ASYNC",
            Approach::Tags => "INVALIDATE TAGS",
            Approach::Prefixes => "INVALIDATE PREFIXES",
            Approach::Patterns => "INVALIDATE PATTERNS",
            Approach::All => "INVALIDATE ALL",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Approach::Tags | Approach::Prefixes | Approach::Patterns | Approach::All)
    }

    /// Whether it invalidates all keys, also those outside the group.
    pub(crate) fn invalidates_all(self) -> bool {
        matches!(self, Approach::Flushdb | Approach::All)
    }

    /// The approach that stores the same values without tags or tag sets.
    pub(crate) fn plain(self) -> Approach {
        if self.is_ours() { Approach::All } else { Approach::KeysDel }
    }

    /// Passes `put` each command that stores `value`, with the length of its reply.
    pub(crate) fn store(self, key: &[u8], value: &[u8], in_group: bool, put: &mut dyn FnMut(&[&[u8]], usize)) {
        const OK: usize = b"+OK\r\n".len();
        const ONE: usize = b":1\r\n".len();
        let plain: [&[u8]; 7] = [b"SMARTCACHE.SET", key, value, b"TTL", b"3600", b"CODEC", b"none"];
        match self {
            Approach::Tags if in_group => {
                put(&[&plain[..], &[b"TAGS", b"1", TAG.as_bytes()]].concat(), OK);
            }
            _ if self.is_ours() => put(&plain, OK),
            _ => put(&[b"SET", key, value, b"EX", b"3600"], OK),
        }
        if self == Approach::TagSets && in_group {
            put(&[b"SADD", &tag_set(), key], ONE);
        }
    }

    /// Invalidates the group.
    pub(crate) fn invalidate(self, client: &mut Client) -> Result<()> {
        match self {
            Approach::KeysDel => {
                let keys: Vec<Value> = client.call(cmd("KEYS").arg(PATTERN))?;
                for keys in keys.chunks(MAX_ARGUMENTS) {
                    let _: u64 = client.call(&mut with_keys("DEL", keys))?;
                }
            }
            Approach::LuaKeysDel => {
                let _: u64 = client.call(cmd("EVAL").arg(SCRIPT).arg(0).arg(PATTERN))?;
            }
            Approach::ScanUnlink => {
                let mut cursor = Vec::from(*b"0");
                loop {
                    let mut scan = cmd("SCAN");
                    scan.arg(&cursor).arg("MATCH").arg(PATTERN).arg("COUNT").arg(PAGE);
                    let (next, keys): (Vec<u8>, Vec<Value>) = client.call(&mut scan)?;
                    if !keys.is_empty() {
                        let _: u64 = client.call(&mut with_keys("UNLINK", &keys))?;
                    }
                    if next == b"0" {
                        break;
                    }
                    cursor = next;
                }
            }
            Approach::TagSets => {
                let keys: Vec<Value> = client.call(cmd("SMEMBERS").arg(tag_set()))?;
                for keys in keys.chunks(PAGE) {
                    let _: u64 = client.call(&mut with_keys("UNLINK", keys))?;
                }
                let _: u64 = client.call(cmd("UNLINK").arg(tag_set()))?;
            }
            Approach::Flushdb => {
                let _: String = client.call(cmd("FLUSHDB").arg("ASYNC"))?;
            }
            Approach::Tags => client.smartcache_invalidate(&["TAGS", "1", TAG])?,
            Approach::Prefixes => client.smartcache_invalidate(&["PREFIXES", "1", PREFIX])?,
            Approach::Patterns => client.smartcache_invalidate(&["PATTERNS", "1", PATTERN])?,
            Approach::All => client.smartcache_invalidate(&["ALL"])?,
        }
        Ok(())
    }

    /// For each of these keys, whether it is served as fresh.
    pub(crate) fn fresh(self, con: &mut Connection, keys: &[Vec<u8>]) -> Result<Vec<bool>> {
        let mut mget = cmd(if self.is_ours() { "SMARTCACHE.MGET" } else { "MGET" });
        let found: Vec<Value> = mget.arg(keys).query(con)?;
        Ok(found.into_iter().map(|value| value != Value::Nil).collect())
    }
}

/// Keys per page of `SCAN` and `UNLINK`.
const PAGE: usize = 1_000;
/// About the number of arguments that a server accepts in one command.
const MAX_ARGUMENTS: usize = 1_000_000;

/// The usual script that deletes keys by pattern; `unpack` cannot return all keys at once.
const SCRIPT: &str = "local keys = redis.call('KEYS', ARGV[1]) \
                      for i = 1, #keys, 5000 do redis.call('DEL', unpack(keys, i, math.min(i + 4999, #keys))) end \
                      return #keys";

fn tag_set() -> Vec<u8> {
    format!("tag:{TAG}").into_bytes()
}

fn with_keys(name: &str, keys: &[Value]) -> Cmd {
    let mut command = cmd(name);
    for key in keys {
        if let Value::BulkString(key) = key {
            command.arg(key);
        }
    }
    command
}

/// The client that invalidates; it counts commands and bytes sent.
pub(crate) struct Client {
    pub(crate) con: Connection,
    pub(crate) commands: u64,
    pub(crate) sent: u64,
}

impl Client {
    pub(crate) fn new(con: Connection) -> Client {
        Client { con, commands: 0, sent: 0 }
    }

    fn call<T: FromRedisValue>(&mut self, command: &mut Cmd) -> Result<T> {
        let packed = command.get_packed_command();
        self.commands += 1;
        self.sent += packed.len() as u64;
        let reply = self.con.req_packed_command(&packed)?.extract_error()?;
        Ok(redis::from_redis_value(reply)?)
    }

    fn smartcache_invalidate(&mut self, words: &[&str]) -> Result<()> {
        let _: u64 = self.call(cmd("SMARTCACHE.INVALIDATE").arg(words))?;
        Ok(())
    }
}
