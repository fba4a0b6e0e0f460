//! The server's context: what a callback may ask for.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use redis_module::raw;
use smallvec::SmallVec;

use super::call_reply::CallReply;
use super::calls::{server, server_may};
use super::strings::{OwnedStr, Str};

/// The context of one callback.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Ctx<'a>(NonNull<raw::RedisModuleCtx>, PhantomData<&'a ()>);

/// The context of a callback that a client waits for: a command, or the late reply to one.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct ClientCtx<'a>(Ctx<'a>);

impl<'a> Deref for ClientCtx<'a> {
    type Target = Ctx<'a>;

    fn deref(&self) -> &Ctx<'a> {
        &self.0
    }
}

/// A context that lives as long as the module, for timers and filters.
static OF_MODULE: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(ptr::null_mut());

impl Ctx<'static> {
    /// The context that lives as long as the module; `None` until [`Ctx::detach`].
    pub(in crate::host) fn of_module() -> Option<Self> {
        NonNull::new(OF_MODULE.load(Relaxed)).map(|ctx| Ctx(ctx, PhantomData))
    }
}

impl<'a> Ctx<'a> {
    /// # Safety
    /// `ptr` is null or a context of the server that is valid for `'a`.
    pub(in crate::host) unsafe fn from_raw(ptr: *mut raw::RedisModuleCtx) -> Option<Self> {
        NonNull::new(ptr).map(|ctx| Ctx(ctx, PhantomData))
    }

    /// Makes the context of the module ([`Ctx::of_module`]).
    pub(in crate::host) fn detach(self) {
        // SAFETY: the context is valid (`from_raw`); the new one is never freed.
        let ctx = unsafe { server!(RedisModule_GetDetachedThreadSafeContext)(self.as_ptr()) };
        OF_MODULE.store(ctx, Relaxed);
    }

    pub(in crate::host) fn as_ptr(self) -> *mut raw::RedisModuleCtx {
        self.0.as_ptr()
    }

    pub(in crate::host) fn selected_db(self) -> i32 {
        // SAFETY: the context is valid (`from_raw`).
        unsafe { server!(RedisModule_GetSelectedDb)(self.as_ptr()) }
    }

    /// False when there is no such database.
    pub(in crate::host) fn select_db(self, db: i32) -> bool {
        // SAFETY: the context is valid (`from_raw`); any number is allowed.
        unsafe { server!(RedisModule_SelectDb)(self.as_ptr(), db) == raw::REDISMODULE_OK as c_int }
    }

    pub(in crate::host) fn flags(self) -> u32 {
        // SAFETY: the context is valid (`from_raw`).
        unsafe { server!(RedisModule_GetContextFlags)(self.as_ptr()) as u32 }
    }

    pub(in crate::host) fn is_replica(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE != 0
    }

    /// Whether a client calls over a connection of its own.
    pub(in crate::host) fn is_of_a_connection(self) -> bool {
        // SAFETY: the context is valid.
        let client = unsafe { server!(RedisModule_GetClientId)(self.as_ptr()) };
        server_may!(RedisModule_GetClientInfoById)
            // SAFETY: null for "only whether there is one".
            .is_some_and(|info| unsafe { info(ptr::null_mut(), client) == raw::REDISMODULE_OK as c_int })
    }

    /// Whether a user calls, whose permissions can be checked: over a connection, or in a script.
    pub(in crate::host) fn has_user(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_LUA != 0 || self.is_of_a_connection()
    }

    /// Whether the server loads its data.
    pub(in crate::host) fn is_loading(self) -> bool {
        let loading = raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
        self.flags() & loading != 0
    }

    /// Whether a setting of the server is `yes`.
    pub(in crate::host) fn is_set(self, setting: &[u8]) -> bool {
        let reply = self.call_named(c"CONFIG", c"GET", OwnedStr::new(setting).borrow());
        reply.is_some_and(|reply| reply.field(setting) == Some(b"yes"))
    }

    /// Whether a child is rewriting the AOF.
    pub(in crate::host) fn rewrites_aof(self) -> bool {
        let (Some(get), Some(field), Some(free)) = (
            server_may!(RedisModule_GetServerInfo),
            server_may!(RedisModule_ServerInfoGetFieldUnsigned),
            server_may!(RedisModule_FreeServerInfo),
        ) else {
            return true; // unknown: rather write rules and marks once too often
        };
        // SAFETY: the context is valid; C strings; the section is freed, and not used afterwards.
        unsafe {
            let info = get(self.as_ptr(), c"persistence".as_ptr());
            let mut error = 0;
            let running = field(info, c"aof_rewrite_in_progress".as_ptr(), &mut error);
            free(self.as_ptr(), info);
            running != 0 || error != 0
        }
    }

    pub(in crate::host) fn signal(self, name: Str<'_>) {
        // SAFETY: context and string are valid.
        unsafe { server!(RedisModule_SignalModifiedKey)(self.as_ptr(), name.as_ptr()) };
    }

    pub(in crate::host) fn notify(self, class: c_int, event: &CStr, name: Str<'_>) {
        // SAFETY: context, C string and string are valid.
        unsafe { server!(RedisModule_NotifyKeyspaceEvent)(self.as_ptr(), class, event.as_ptr(), name.as_ptr()) };
    }

    /// The server's own `GET`. Reading a string through an open key would decode it in place: a counter would no
    /// longer be kept as a number, for a mere read.
    pub(in crate::host) fn call_get(self, name: Str<'_>) -> Option<CallReply> {
        // SAFETY: the context is valid; the format names the one string that follows; the reply is ours.
        unsafe {
            let reply = server!(RedisModule_Call)(self.as_ptr(), c"GET".as_ptr(), c"s".as_ptr(), name.as_ptr());
            CallReply::from_raw(reply)
        }
    }

    /// A command of the server with one word.
    pub(in crate::host) fn call(self, command: &CStr, word: &CStr) -> Option<CallReply> {
        // SAFETY: the context is valid; the format names the one C string that follows; the reply is ours.
        unsafe {
            let reply = server!(RedisModule_Call)(self.as_ptr(), command.as_ptr(), c"c".as_ptr(), word.as_ptr());
            CallReply::from_raw(reply)
        }
    }

    /// A command of the server with two words, the second of them a name.
    pub(in crate::host) fn call_named(self, command: &CStr, word: &CStr, name: Str<'_>) -> Option<CallReply> {
        // SAFETY: the context is valid; the format names the C string and the string that follow; the reply is ours.
        unsafe {
            let (command, format) = (command.as_ptr(), c"cs".as_ptr());
            let reply = server!(RedisModule_Call)(self.as_ptr(), command, format, word.as_ptr(), name.as_ptr());
            CallReply::from_raw(reply)
        }
    }

    /// One of the server's own commands, errors as replies, in the protocol of the caller. `replicate`: its effects are
    /// replicated; `as_caller`: the server checks the permissions of the caller's user.
    pub(in crate::host) fn call_words(
        self,
        command: &CStr,
        words: &[Str<'_>],
        replicate: bool,
        as_caller: bool,
    ) -> Option<CallReply> {
        let format = match (replicate, as_caller) {
            (false, false) => c"E0v",
            (true, false) => c"!E0v",
            (false, true) => c"CE0v",
            (true, true) => c"!CE0v",
        };
        let pointers: SmallVec<[_; 8]> = words.iter().map(|word| word.as_ptr()).collect();
        // SAFETY: the context is valid; `v` takes an array of server strings and its length; the reply is ours.
        unsafe {
            let (command, format) = (command.as_ptr(), format.as_ptr());
            let call = server!(RedisModule_Call);
            CallReply::from_raw(call(self.as_ptr(), command, format, pointers.as_ptr(), pointers.len()))
        }
    }

    /// Which words of one of the server's own commands, its name the first, are keys: their indexes, and what is done
    /// to them in the server's flags.
    pub(in crate::host) fn keys_of(self, words: &[Str<'_>]) -> SmallVec<[(usize, u32); 8]> {
        let mut pointers: SmallVec<[_; 8]> = words.iter().map(|word| word.as_ptr()).collect();
        let Some(get) = server_may!(RedisModule_GetCommandKeysWithFlags) else { return SmallVec::new() };
        let (mut count, mut flags) = (0, ptr::null_mut());
        // SAFETY: the context and the words are valid; the server gives two arrays of `count` numbers, which are ours.
        unsafe {
            let places = get(self.as_ptr(), pointers.as_mut_ptr(), pointers.len() as c_int, &mut count, &mut flags);
            if places.is_null() {
                return SmallVec::new();
            }
            let keys = (0..count as usize).map(|at| (*places.add(at) as usize, *flags.add(at) as u32)).collect();
            server!(RedisModule_Free)(places.cast());
            server!(RedisModule_Free)(flags.cast());
            keys
        }
    }

    /// Whether the server would refuse `command`, of two words, for want of memory: a dry run (`D`) that minds memory
    /// (`M`).
    pub(in crate::host) fn would_refuse(self, command: &CStr) -> bool {
        // SAFETY: the context is valid; the format names the two C strings that follow; the reply is ours.
        let reply = unsafe {
            let (command, format) = (command.as_ptr(), c"MDcc".as_ptr());
            let (key, value) = (c"k".as_ptr(), c"v".as_ptr());
            CallReply::from_raw(server!(RedisModule_Call)(self.as_ptr(), command, format, key, value))
        };
        reply.is_some_and(|reply| reply.is_error()) // no reply: it would have run
    }

    /// Replicates a command; false when the server has none of that name.
    pub(in crate::host) fn replicate<'s>(self, command: &CStr, words: impl Iterator<Item = Str<'s>>) -> bool {
        let pointers: SmallVec<[_; 8]> = words.map(Str::as_ptr).collect();
        let (command, format) = (command.as_ptr(), c"v".as_ptr());
        // SAFETY: `v` takes an array of server strings and its length; the server keeps its own references.
        let status = unsafe {
            server!(RedisModule_Replicate)(self.as_ptr(), command, format, pointers.as_ptr(), pointers.len())
        };
        status == raw::REDISMODULE_OK as c_int
    }

    /// Sends bytes over the cluster bus to all nodes that the server has a link to; false when there is none.
    pub(in crate::host) fn broadcast(self, kind: u8, bytes: &[u8]) -> bool {
        let send = server!(RedisModule_SendClusterMessage);
        // SAFETY: the context is valid; no target means all nodes; the server copies the bytes.
        let sent = unsafe { send(self.as_ptr(), ptr::null(), kind, bytes.as_ptr().cast(), bytes.len() as u32) };
        sent == raw::REDISMODULE_OK as c_int
    }
}

impl<'a> ClientCtx<'a> {
    /// # Safety
    /// `ptr` is null or the context of a command, or of the reply to a blocked client, that is valid for `'a`.
    pub(in crate::host) unsafe fn from_raw(ptr: *mut raw::RedisModuleCtx) -> Option<Self> {
        // SAFETY: the caller's duty.
        unsafe { Ctx::from_raw(ptr) }.map(ClientCtx)
    }

    /// Whether the command is called only to name which of its words are keys.
    pub(in crate::host) fn wants_key_positions(self) -> bool {
        // SAFETY: the context is valid.
        server_may!(RedisModule_IsKeysPositionRequest).is_some_and(|asks| unsafe { asks(self.as_ptr()) != 0 })
    }

    /// Names one of the command's words as a key, and what is done to it.
    pub(in crate::host) fn key_at(self, words: &[Str<'_>], at: usize, flags: u32) {
        if let Some(declare_key) = server_may!(RedisModule_KeyAtPosWithFlags).filter(|_| at < words.len()) {
            // SAFETY: the context is valid, and the command has so many words; outside such a request the server
            // ignores it.
            unsafe { declare_key(self.as_ptr(), at as c_int, flags as c_int) }
        }
    }

    /// The blocked client that this callback is for; null in a command.
    pub(in crate::host) fn blocked_handle(self) -> *mut c_void {
        // SAFETY: the context is valid.
        unsafe { server!(RedisModule_GetBlockedClientHandle)(self.as_ptr()).cast() }
    }
}
