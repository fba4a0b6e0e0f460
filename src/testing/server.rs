//! A server that answers as the test sets it.

use crate::cache::lease::users::UserName;
use crate::cache::ports::ServerInfo;
use crate::cache::{Key, Right, Server};

/// The answers of a server.
#[derive(Clone, Debug)]
pub struct ScriptedServer {
    /// The connection that calls.
    pub client: u64,
    /// The user who calls.
    pub user: &'static str,
    /// Whether callers may be parked.
    pub may_wait: bool,
    /// Whether the server is out of memory.
    pub out_of_memory: bool,
    /// The caller's user may not write keys that begin so; empty: it may write all.
    pub may_not_write: &'static str,
    /// The caller's user may not read keys that begin so; empty: it may read all.
    pub may_not_read: &'static str,
    /// Whether the server can check permissions on prefixes.
    pub tells_prefixes: bool,
    /// Its `INFO`.
    pub server_info: ServerInfo,
    pub(super) replica: bool,
}

impl ScriptedServer {
    fn may_not(&self, right: Right) -> &'static str {
        match right {
            Right::Read => self.may_not_read,
            Right::Write => self.may_not_write,
        }
    }
}

impl Server for ScriptedServer {
    fn client(&self) -> u64 {
        self.client
    }
    fn user(&self) -> UserName {
        self.user.into()
    }
    fn may_wait(&self) -> bool {
        self.may_wait
    }
    fn is_connection(&self) -> bool {
        true
    }
    fn is_replica(&self) -> bool {
        self.replica
    }
    fn out_of_memory(&self) -> bool {
        self.out_of_memory
    }
    fn may(&self, right: Right, key: &[u8]) -> bool {
        self.may_all(right) || !key.starts_with(self.may_not(right).as_bytes())
    }
    fn may_call(&self, _: &'static str, _: Key<'_>) -> bool {
        true
    }
    fn may_prefix(&self, right: Right, prefix: &[u8]) -> Option<bool> {
        let own = self.may_not(right).as_bytes();
        self.tells_prefixes.then(|| own.is_empty() || !own.starts_with(prefix) && !prefix.starts_with(own))
    }
    fn may_all(&self, right: Right) -> bool {
        self.may_not(right).is_empty()
    }
    fn server_info(&self) -> ServerInfo {
        self.server_info.clone()
    }
}
