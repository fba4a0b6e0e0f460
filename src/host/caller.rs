//! Questions to the server about the caller and itself, asked only where they matter.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::{mem, ptr};

use redis_module::raw;

use super::ffi::{Ctx, OwnedStr, Str, is_valkey, server, server_may};
use super::log;
use super::main_thread::MainThread;
use super::replicate::STORE;
use super::state::with_state;
use crate::cache::error::Error;
use crate::cache::lease::users::UserName;
use crate::cache::ports::ServerInfo;
use crate::cache::{Key, Limits, Right, Server};

/// `maxmemory`: without a limit the server is not asked.
static MAX_MEMORY: AtomicU64 = AtomicU64::new(0);
/// Whether `maxmemory-policy` lets it evict.
static EVICTS: AtomicBool = AtomicBool::new(false);

/// Which connections may call `GET` and `MGET`, until permissions or users may have changed: twice the connection's
/// number, and one more for `MGET`.
static MAY_CALL: MainThread<[Cell<u64>; KNOWN]> = MainThread::new([const { Cell::new(0) }; KNOWN]);
/// In their upper bits: what was known in an earlier epoch counts no more.
static EPOCH: MainThread<Cell<u64>> = MainThread::new(Cell::new(1));
/// How many are known at most.
const KNOWN: usize = 16_384;

/// Permissions, or the users of connections, may have changed.
pub(super) fn forget_permissions() {
    EPOCH.get().set(EPOCH.get().get().wrapping_add(1) & 0xffff);
}

/// Everything that writing a key may be.
const WRITES: c_int =
    (raw::REDISMODULE_CMD_KEY_UPDATE | raw::REDISMODULE_CMD_KEY_INSERT | raw::REDISMODULE_CMD_KEY_DELETE) as c_int;

/// The right, in the server's flags.
fn access(right: Right) -> c_int {
    match right {
        Right::Read => raw::REDISMODULE_CMD_KEY_ACCESS as c_int,
        Right::Write => WRITES,
    }
}

/// The server's check of a user's rights on all keys of a prefix.
#[derive(Clone, Copy)]
enum PrefixCheck {
    Redis(OfRedis),
    Valkey(OfValkey),
}

type OfRedis = unsafe extern "C" fn(*mut raw::RedisModuleUser, *mut raw::RedisModuleString, c_int) -> c_int;
type OfValkey = unsafe extern "C" fn(*mut raw::RedisModuleUser, *const c_char, usize, c_uint) -> c_int;

/// The function has the same name on both, and other arguments.
fn prefix_check() -> Option<PrefixCheck> {
    let get = server_may!(RedisModule_GetApi)?;
    let find = |name: &CStr| {
        let mut function: *mut c_void = ptr::null_mut();
        // SAFETY: a C string, and room for one pointer.
        let found = unsafe { get(name.as_ptr(), ptr::from_mut(&mut function).cast()) };
        (found == raw::REDISMODULE_OK as c_int && !function.is_null()).then_some(function)
    };
    if is_valkey() {
        // SAFETY: the type is that of Valkey's header.
        find(c"ValkeyModule_ACLCheckKeyPrefixPermissions")
            .map(|f| PrefixCheck::Valkey(unsafe { mem::transmute::<*mut c_void, OfValkey>(f) }))
    } else {
        // SAFETY: the type is that of Redis' header.
        find(c"RedisModule_ACLCheckKeyPrefixPermissions")
            .map(|f| PrefixCheck::Redis(unsafe { mem::transmute::<*mut c_void, OfRedis>(f) }))
    }
}

/// The server, as a running command sees it.
pub(super) struct ServerCaller<'a> {
    ctx: Ctx<'a>,
    /// A client calls, who can be made to wait.
    called: bool,
}

impl<'a> ServerCaller<'a> {
    pub(super) fn new(ctx: Ctx<'a>) -> Self {
        ServerCaller { ctx, called: true }
    }

    /// For a command that another primary has passed on: to block where nobody calls would end the server.
    pub(super) fn nobody(ctx: Ctx<'a>) -> Self {
        ServerCaller { ctx, called: false }
    }

    /// Asks about the user who calls. Commands without a user (another module's) may do everything.
    fn with_user(&self, ask: impl FnOnce(*mut raw::RedisModuleUser, Str<'_>) -> bool) -> bool {
        let (Some(find), Some(free)) =
            (server_may!(RedisModule_GetModuleUserFromUserName), server_may!(RedisModule_FreeModuleUser))
        else {
            return false;
        };
        if !self.has_user() {
            return true;
        }
        let Some(name) = self.user_name() else { return false };
        // SAFETY: the string is valid; the user is freed.
        unsafe {
            let user = find(name.borrow().as_ptr());
            if user.is_null() {
                return false;
            }
            let may = ask(user, name.borrow());
            free(user);
            may
        }
    }

    /// Whether the user may run this command, with these keys: for one that has waited since the server checked that.
    /// The error is worded as the server's.
    pub(super) fn check_command(&self, words: &[Str<'_>]) -> Result<(), Error> {
        let Some(check) = server_may!(RedisModule_ACLCheckCommandPermissions) else { return Ok(()) };
        let argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        let allowed = self.with_user(|user, _| {
            // SAFETY: the user is valid, and the command has so many words, which the server only reads.
            unsafe { check(user, argv.as_ptr().cast_mut(), argv.len() as c_int) == raw::REDISMODULE_OK as c_int }
        });
        if allowed {
            return Ok(());
        }
        let name = words.first().map_or(&b""[..], |name| name.bytes()).to_ascii_lowercase();
        // Of the commands that wait, one has a key.
        let denied_key = name == b"smartcache.getlock"
            && words
                .get(1)
                .is_some_and(|key| !self.may(Right::Read, key.bytes()) || !self.may(Right::Write, key.bytes()));
        Err(Error::NoPermission(match denied_key {
            true => "permissions to access one of the keys used as arguments".into(),
            false => format!("permissions to run the '{}' command", name.escape_ascii()),
        }))
    }

    /// Whether a user calls, and not another module.
    fn has_user(&self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_LUA) || self.is_a_connection()
    }

    fn user_name(&self) -> Option<OwnedStr> {
        let current = server_may!(RedisModule_GetCurrentUserName).filter(|_| self.has_user())?;
        // SAFETY: the context is that of a running command of a client with a user; the name is ours.
        unsafe { OwnedStr::from_raw(current(self.ctx.as_ptr())) }
    }

    /// Where the caller's connection comes from, without the port.
    fn origin(&self) -> String {
        // SAFETY: plain C data: all zeroes are a valid value.
        let mut info: raw::RedisModuleClientInfo = unsafe { mem::zeroed() };
        info.version = 1;
        let known = server_may!(RedisModule_GetClientInfoById).is_some_and(|get| {
            // SAFETY: the structure is of the version that it names, and outlives the call.
            unsafe { get(ptr::from_mut(&mut info).cast(), self.client()) == raw::REDISMODULE_OK as c_int }
        });
        if !known {
            return "in scripts".into(); // which have no connection
        }
        if info.flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_UNIXSOCKET) != 0 {
            return "at the unix socket".into();
        }
        let address = info.addr.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
        format!("at {}", String::from_utf8_lossy(&address.collect::<Vec<u8>>()))
    }

    /// Asking for the user of a caller without a connection could end the server.
    fn is_a_connection(&self) -> bool {
        self.ctx.is_of_a_connection()
    }

    fn has(&self, flags: u32) -> bool {
        self.ctx.flags() & flags != 0
    }
}

impl Server for ServerCaller<'_> {
    fn client(&self) -> u64 {
        // SAFETY: the context is that of a running command.
        unsafe { server!(RedisModule_GetClientId)(self.ctx.as_ptr()) }
    }

    fn user(&self) -> UserName {
        let Some(name) = self.user_name() else { return "another module".into() };
        match name.borrow().bytes() {
            b"default" => format!("default {}", self.origin()).into(), // names in the ACL have no spaces
            name => name.escape_ascii().to_string().into(),
        }
    }

    fn may_wait(&self) -> bool {
        self.called
            && !self.has(
                raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
                    | raw::REDISMODULE_CTX_FLAGS_MULTI
                    | raw::REDISMODULE_CTX_FLAGS_LUA,
            )
    }

    fn is_connection(&self) -> bool {
        self.called && !self.has(raw::REDISMODULE_CTX_FLAGS_LUA) && self.is_a_connection()
    }

    fn is_replica(&self) -> bool {
        self.ctx.is_replica()
    }

    fn may(&self, right: Right, key: &[u8]) -> bool {
        let Some(check) = server_may!(RedisModule_ACLCheckKeyPermissions) else { return false };
        let name = OwnedStr::new(key);
        // SAFETY: user and string are valid.
        self.with_user(|user, _| unsafe {
            check(user, name.borrow().as_ptr(), access(right)) == raw::REDISMODULE_OK as c_int
        })
    }

    fn may_call(&self, command: &'static str, key: Key<'_>) -> bool {
        let cached = matches!(command, "GET" | "MGET") && !self.has(raw::REDISMODULE_CTX_FLAGS_LUA);
        let known = (EPOCH.get().get() << 48) + 2 * self.client() + u64::from(command == "MGET");
        let place = &MAY_CALL.get()[known as usize % KNOWN];
        if cached && place.get() == known {
            return true;
        }
        if !self.has(raw::REDISMODULE_CTX_FLAGS_LUA) && !self.is_a_connection() {
            return true; // no user calls
        }
        let Some(check) = server_may!(RedisModule_ACLCheckCommandPermissions) else { return true };
        let (name, key) = (OwnedStr::new(command.as_bytes()), OwnedStr::new(key.name));
        let mut words = [name.borrow().as_ptr(), key.borrow().as_ptr()];
        let mut simple = false;
        let may = self.with_user(|user, user_name| {
            // A user with selectors may call it on some keys only.
            simple = cached
                && self.ctx.call_named(c"ACL", c"GETUSER", user_name).is_some_and(|user| user.has_empty(b"selectors"));
            // SAFETY: user and words are valid.
            unsafe { check(user, words.as_mut_ptr(), words.len() as c_int) == raw::REDISMODULE_OK as c_int }
        });
        if may && simple {
            place.set(known);
        }
        may
    }

    /// The user is looked up once, however many keys there are.
    fn first_denied(&self, right: Right, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
        let Some(check) = server_may!(RedisModule_ACLCheckKeyPermissions) else { return keys.next() };
        let mut keys = keys.peekable();
        let (first, mut denied) = (keys.peek().cloned(), None);
        let asked = self.with_user(|user, _| {
            denied = keys.find(|key| {
                let name = OwnedStr::new(key);
                // SAFETY: user and string are valid.
                unsafe { check(user, name.borrow().as_ptr(), access(right)) != raw::REDISMODULE_OK as c_int }
            });
            true
        });
        if asked { denied } else { first }
    }

    /// Redis 8 and Valkey 9.1 have a check, each its own.
    fn may_prefix(&self, right: Right, prefix: &[u8]) -> Option<bool> {
        let check = prefix_check()?;
        let (ok, access) = (raw::REDISMODULE_OK as c_int, access(right));
        Some(self.with_user(|user, _| match check {
            // SAFETY: user and string are valid.
            PrefixCheck::Redis(check) => unsafe { check(user, OwnedStr::new(prefix).borrow().as_ptr(), access) == ok },
            // SAFETY: user, pointer and length are valid.
            PrefixCheck::Valkey(check) => unsafe {
                check(user, prefix.as_ptr().cast(), prefix.len(), access as c_uint) == ok
            },
        }))
    }

    /// No server before Redis 8 and Valkey 9.1 can be asked for all keys. So the user's own description is read; one
    /// that amounts to all keys in another way does not count.
    fn may_all(&self, right: Right) -> bool {
        let own: &[u8] = match right {
            Right::Read => b"%R~*",
            Right::Write => b"%W~*",
        };
        self.with_user(|_, name| {
            let Some(answer) = self.ctx.call_named(c"ACL", c"GETUSER", name) else { return false };
            answer.field(b"keys").is_some_and(|keys| {
                keys.split(|byte| *byte == b' ').any(|pattern| pattern == own || matches!(pattern, b"~*" | b"%RW~*"))
            })
        })
    }

    /// The server decides, by a dry run of `SET`: while it is still evicting, for example, it lets commands run.
    ///
    /// Redis 7.0 allows that whatever its memory. There the command is refused at once when the server may not evict,
    /// and else at a tenth over the limit: then evicting does not keep up, or finds nothing.
    fn out_of_memory(&self) -> bool {
        // SAFETY: takes nothing, returns a number.
        let ratio = || unsafe { server!(RedisModule_GetUsedMemoryRatio)() };
        if MAX_MEMORY.load(Relaxed) == 0 || ratio() <= 1.0 {
            return false;
        }
        if server_may!(RedisModule_CachedMicroseconds).is_none() {
            return !EVICTS.load(Relaxed) || ratio() > 1.1;
        }
        self.ctx.would_refuse(STORE)
    }

    fn server_info(&self) -> ServerInfo {
        let of = |section| Section::of(self.ctx, section);
        let (memory, clients, stats) = (of(c"memory"), of(c"clients"), of(c"stats"));
        ServerInfo {
            memory_used_bytes: memory.number(c"used_memory"),
            memory_uncounted_bytes: memory.number(c"mem_not_counted_for_evict"),
            memory_max_bytes: memory.number(c"maxmemory"),
            memory_policy: memory.text(c"maxmemory_policy").unwrap_or_default().to_string_lossy().into_owned(),
            connected_clients: clients.number(c"connected_clients"),
            ops_per_sec: stats.number(c"instantaneous_ops_per_sec"),
        }
    }
}

/// Warns of commands of the server that we cannot do without, should they be renamed (`rename-command`).
pub(super) fn warn_of_renamed_commands(ctx: Ctx<'_>) {
    if ctx.call_named(c"ACL", c"GETUSER", OwnedStr::new(b"default").borrow()).is_none() {
        log::warning(
            "ACL is renamed, so nobody can be shown to have permission on all keys: what needs that is refused, such as \
             SMARTCACHE.INVALIDATE ALL. Limit ACL by permissions instead of renaming it.",
        );
    }
}

/// Whether the server may evict keys to make room.
pub(super) fn may_evict() -> bool {
    EVICTS.load(Relaxed) && MAX_MEMORY.load(Relaxed) > 0
}

/// Asks the server for its limits: at load, and whenever its configuration has changed.
pub(super) fn read_limits(ctx: Ctx<'_>) {
    let (clients, memory) = (Section::of(ctx, c"clients"), Section::of(ctx, c"memory"));
    let limits = Limits { clients: clients.number(c"maxclients"), memory: memory.number(c"maxmemory") };
    MAX_MEMORY.store(limits.memory, Relaxed);
    EVICTS.store(memory.text(c"maxmemory_policy") != Some(c"noeviction"), Relaxed);
    with_state(|state| state.set_limits(limits));
}

/// A section of `INFO`.
struct Section<'a>(Ctx<'a>, *mut raw::RedisModuleServerInfoData);

impl<'a> Section<'a> {
    fn of(ctx: Ctx<'a>, name: &CStr) -> Self {
        let info = server_may!(RedisModule_GetServerInfo)
            // SAFETY: the context is valid; a C string. What comes back is freed when dropped.
            .map_or(ptr::null_mut(), |get| unsafe { get(ctx.as_ptr(), name.as_ptr()) });
        Section(ctx, info)
    }

    /// 0 when there is no such field.
    fn number(&self, field: &CStr) -> u64 {
        match server_may!(RedisModule_ServerInfoGetFieldUnsigned) {
            // SAFETY: the section is valid; a C string; null: errors are not of interest.
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

impl Drop for Section<'_> {
    fn drop(&mut self) {
        if let Some(free) = server_may!(RedisModule_FreeServerInfo).filter(|_| !self.1.is_null()) {
            // SAFETY: made by `of`, and not used any more.
            unsafe { free(self.0.as_ptr(), self.1) };
        }
    }
}
