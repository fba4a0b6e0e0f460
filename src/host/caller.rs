//! What is asked of the server about the caller and itself, where it matters.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use redis_module::raw;

use super::ffi::{Ctx, server, server_may};
use super::with_state;
use crate::cache::{Limits, Server};

/// `maxmemory`, so that nothing is asked where there is no limit.
static MAX_MEMORY: AtomicU64 = AtomicU64::new(0);
/// Whether `maxmemory-policy` lets it evict.
static EVICTS: AtomicBool = AtomicBool::new(false);

/// The server, as a running command sees it.
pub(super) struct ServerCaller(Ctx);

impl ServerCaller {
    pub(super) fn new(ctx: Ctx) -> Self {
        ServerCaller(ctx)
    }

    fn has(&self, flags: u32) -> bool {
        self.0.flags() & flags != 0
    }
}

impl Server for ServerCaller {
    fn client(&self) -> u64 {
        // SAFETY: the context is that of a running command.
        unsafe { server!(RedisModule_GetClientId)(self.0.as_ptr()) }
    }

    fn may_wait(&self) -> bool {
        !self.has(
            raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
                | raw::REDISMODULE_CTX_FLAGS_MULTI
                | raw::REDISMODULE_CTX_FLAGS_LUA,
        )
    }

    fn is_replica(&self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_SLAVE)
    }

    /// What the server itself says: while it is still evicting, for example, it lets commands go on. So it is asked as if
    /// to run a `SET`, which it does not (`D`, a dry run), minding memory (`M`).
    ///
    /// Redis 7.0 says yes to that whatever its memory. There, what it cannot evict is refused at once, and else what is a
    /// tenth over the limit: then evicting does not keep up, or finds nothing.
    fn out_of_memory(&self) -> bool {
        // SAFETY: takes nothing, returns a number.
        let ratio = || unsafe { server!(RedisModule_GetUsedMemoryRatio)() };
        if MAX_MEMORY.load(Relaxed) == 0 || ratio() <= 1.0 {
            return false;
        }
        if server_may!(RedisModule_CachedMicroseconds).is_none() {
            return !EVICTS.load(Relaxed) || ratio() > 1.1;
        }
        // SAFETY: the context is that of a running command; the format names the two C strings that follow.
        unsafe {
            let answer = server!(RedisModule_Call)(
                self.0.as_ptr(),
                c"SET".as_ptr(),
                c"MDcc".as_ptr(),
                c"k".as_ptr(),
                c"v".as_ptr(),
            );
            if answer.is_null() {
                return false; // it would have run
            }
            let refused = server!(RedisModule_CallReplyType)(answer) == raw::REDISMODULE_REPLY_ERROR as c_int;
            server!(RedisModule_FreeCallReply)(answer);
            refused
        }
    }
}

/// Asks the server for its limits: at load, and whenever its configuration has changed.
pub(super) fn read_limits(ctx: Ctx) {
    let (clients, memory) = (Section::of(ctx, c"clients"), Section::of(ctx, c"memory"));
    let limits = Limits { clients: clients.number(c"maxclients"), memory: memory.number(c"maxmemory") };
    MAX_MEMORY.store(limits.memory, Relaxed);
    EVICTS.store(memory.text(c"maxmemory_policy") != Some(c"noeviction"), Relaxed);
    with_state(|state| state.limits = limits);
}

/// A section of `INFO`.
struct Section(Ctx, *mut raw::RedisModuleServerInfoData);

impl Section {
    fn of(ctx: Ctx, name: &CStr) -> Self {
        let info = server_may!(RedisModule_GetServerInfo)
            // SAFETY: the context is valid; a C string. What comes back is freed when dropped.
            .map_or(ptr::null_mut(), |get| unsafe { get(ctx.as_ptr(), name.as_ptr()) });
        Section(ctx, info)
    }

    /// 0 when there is no such field.
    fn number(&self, field: &CStr) -> u64 {
        match server_may!(RedisModule_ServerInfoGetFieldUnsigned) {
            // SAFETY: the section is valid; a C string; null for "do not tell me of errors".
            Some(read) if !self.1.is_null() => unsafe { read(self.1, field.as_ptr(), ptr::null_mut()) },
            _ => 0,
        }
    }

    fn text(&self, field: &CStr) -> Option<&CStr> {
        let read = server_may!(RedisModule_ServerInfoGetFieldC).filter(|_| !self.1.is_null())?;
        // SAFETY: the section is valid, and its text lives as long as it does.
        unsafe {
            let text = read(self.1, field.as_ptr());
            (!text.is_null()).then(|| CStr::from_ptr(text))
        }
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        if let Some(free) = server_may!(RedisModule_FreeServerInfo).filter(|_| !self.1.is_null()) {
            // SAFETY: made by `of`, and not used any more.
            unsafe { free(self.0.as_ptr(), self.1) };
        }
    }
}
