//! The server's calls: raw pointers in, safe types out.
//!
//! A server older or newer than the header lacks some functions: each pointer is an `Option`. Those that every
//! supported server has (Redis 7.0, Valkey 7.2) are checked once, at load ([`missing`]); the others are asked
//! for where they are used. What `redis-module` itself wraps is avoided where it panics, formats or copies.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use redis_module::raw;

/// A function that every supported server has.
macro_rules! server {
    ($name:ident) => {{
        #[allow(unused_unsafe)] // where it is used inside a block that is unsafe anyway
        // SAFETY: the pointers are written once, at load, before any other use, and only read afterwards.
        let function = unsafe { raw::$name };
        function.expect(concat!(stringify!($name), " was there when the module was loaded"))
    }};
}

/// A function that some servers lack.
macro_rules! server_may {
    ($name:ident) => {{
        #[allow(unused_unsafe)] // as above
        // SAFETY: the pointers are written once, at load, before any other use, and only read afterwards.
        let function = unsafe { raw::$name };
        function
    }};
}

pub(super) use {server, server_may};

/// The names of the functions that we need and this server lacks.
pub(super) fn missing() -> Vec<&'static str> {
    macro_rules! absent {
        ($($name:ident)*) => {
            [$((stringify!($name), server_may!($name).is_none())),*]
        };
    }
    let needed = absent!(
        RedisModule_Alloc RedisModule_Free RedisModule_Calloc RedisModule_Realloc RedisModule_CreateCommand
        RedisModule_GetCommand RedisModule_CreateSubcommand RedisModule_SetCommandInfo RedisModule_OpenKey
        RedisModule_CloseKey RedisModule_KeyType RedisModule_ModuleTypeGetType RedisModule_ModuleTypeGetValue
        RedisModule_ModuleTypeSetValue RedisModule_ModuleTypeReplaceValue RedisModule_UnlinkKey
        RedisModule_SetExpire RedisModule_GetExpire RedisModule_ValueLength RedisModule_StringPtrLen RedisModule_Call
        RedisModule_CallReplyType RedisModule_CallReplyStringPtr RedisModule_FreeCallReply
        RedisModule_CreateString RedisModule_FreeString RedisModule_ReplyWithError RedisModule_ReplyWithSimpleString
        RedisModule_ReplyWithStringBuffer RedisModule_ReplyWithNull RedisModule_ReplyWithLongLong
        RedisModule_ReplyWithDouble RedisModule_ReplyWithArray RedisModule_ReplyWithMap RedisModule_Replicate
        RedisModule_ReplicateVerbatim RedisModule_NotifyKeyspaceEvent RedisModule_SignalModifiedKey
        RedisModule_RegisterStringConfig RedisModule_LoadConfigs RedisModule_CreateTimer RedisModule_SelectDb
        RedisModule_GetSelectedDb RedisModule_GetContextFlags RedisModule_EventLoopAddOneShot
        RedisModule_GetDetachedThreadSafeContext RedisModule_AvoidReplicaTraffic RedisModule_MallocSize
        RedisModule_RegisterInfoFunc RedisModule_SubscribeToServerEvent RedisModule_Log RedisModule_BlockClient
        RedisModule_UnblockClient RedisModule_SetDisconnectCallback RedisModule_GetBlockedClientHandle
        RedisModule_GetClientId RedisModule_StopTimer RedisModule_GetUsedMemoryRatio
        RedisModule_RegisterClusterMessageReceiver RedisModule_SendClusterMessage
    );
    needed.iter().filter(|(_, absent)| *absent).map(|(name, _)| *name).collect()
}

/// The server's context of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ctx(NonNull<raw::RedisModuleCtx>);

/// A string of the server's: borrowed from `argv`, or owned and freed by [`OwnedStr`]. The same bits as the
/// server's own pointer, so that `argv` is a slice of them.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Str<'a>(NonNull<raw::RedisModuleString>, PhantomData<&'a ()>);

/// A string of the server's that we made.
#[derive(Debug)]
pub(super) struct OwnedStr(NonNull<raw::RedisModuleString>);

/// What a key holds, as far as we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Nothing,
    Text,
    Ours,
    Other,
}

/// An opened key; closed when dropped.
#[derive(Debug)]
pub(super) struct OpenKey(*mut raw::RedisModuleKey);

/// How to open a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// To serve it: an access, counted as hit or miss.
    Read,
    /// To look at it: no access where the server can tell.
    Peek,
    /// To look and to change.
    Write,
    /// To remove it, unless it is still wanted: no access, and no event.
    Sweep,
    /// To change how it is stored, which nobody is to notice.
    Swap,
}

impl Mode {
    fn bits(self) -> c_int {
        let bits = match self {
            Mode::Read => raw::REDISMODULE_READ,
            // NOTOUCH keeps LRU and LFU as they are; NOSTATS (7.2) keeps hits and misses; unknown bits are ignored.
            Mode::Peek => {
                raw::REDISMODULE_READ
                    | raw::REDISMODULE_OPEN_KEY_NOTOUCH
                    | raw::REDISMODULE_OPEN_KEY_NOSTATS
                    | raw::REDISMODULE_OPEN_KEY_NONOTIFY
            }
            Mode::Write => raw::REDISMODULE_READ | raw::REDISMODULE_WRITE,
            Mode::Sweep | Mode::Swap => {
                raw::REDISMODULE_READ
                    | raw::REDISMODULE_WRITE
                    | raw::REDISMODULE_OPEN_KEY_NOTOUCH
                    | raw::REDISMODULE_OPEN_KEY_NONOTIFY
            }
        };
        bits as c_int
    }
}

impl<'a> Str<'a> {
    /// # Safety
    /// `ptr` is a string of the server's that lives for `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut raw::RedisModuleString) -> Option<Self> {
        NonNull::new(ptr).map(|ptr| Str(ptr, PhantomData))
    }

    pub(super) fn as_ptr(self) -> *mut raw::RedisModuleString {
        self.0.as_ptr()
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string lives for 'a (`from_raw`), and nobody changes a string that a module holds.
        unsafe {
            let bytes = server!(RedisModule_StringPtrLen)(self.0.as_ptr(), &mut len);
            slice::from_raw_parts(bytes.cast(), len)
        }
    }
}

impl OwnedStr {
    /// One that the server has made for us.
    ///
    /// # Safety
    /// `ptr` is null or a string that is ours to free, not freed automatically.
    pub(super) unsafe fn from_raw(ptr: *mut raw::RedisModuleString) -> Option<Self> {
        NonNull::new(ptr).map(OwnedStr)
    }

    /// Without a context: nothing is auto-freed.
    pub(super) fn new(bytes: &[u8]) -> Self {
        // SAFETY: the bytes are copied; a null context is allowed and means that we free it ourselves.
        let ptr = unsafe { server!(RedisModule_CreateString)(ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) };
        OwnedStr(NonNull::new(ptr).expect("the server ends itself rather than give no string"))
    }

    pub(super) fn borrow(&self) -> Str<'_> {
        Str(self.0, PhantomData)
    }

    /// Gives it away, to be freed by the server.
    pub(super) fn into_raw(self) -> *mut raw::RedisModuleString {
        let ptr = self.0.as_ptr();
        std::mem::forget(self);
        ptr
    }
}

impl Drop for OwnedStr {
    fn drop(&mut self) {
        // SAFETY: made by `new` and owned by us.
        unsafe { server!(RedisModule_FreeString)(ptr::null_mut(), self.0.as_ptr()) }
    }
}

impl Ctx {
    /// # Safety
    /// `ptr` is a context of the server's that is valid as long as this value is used.
    pub(super) unsafe fn from_raw(ptr: *mut raw::RedisModuleCtx) -> Option<Self> {
        NonNull::new(ptr).map(Ctx)
    }

    pub(super) fn as_ptr(self) -> *mut raw::RedisModuleCtx {
        self.0.as_ptr()
    }

    pub(super) fn selected_db(self) -> i32 {
        // SAFETY: the context is valid (`from_raw`).
        unsafe { server!(RedisModule_GetSelectedDb)(self.as_ptr()) }
    }

    /// False when there is no such database.
    pub(super) fn select_db(self, db: i32) -> bool {
        // SAFETY: the context is valid (`from_raw`); any number is allowed.
        unsafe { server!(RedisModule_SelectDb)(self.as_ptr(), db) == raw::REDISMODULE_OK as c_int }
    }

    pub(super) fn flags(self) -> u32 {
        // SAFETY: the context is valid (`from_raw`).
        unsafe { server!(RedisModule_GetContextFlags)(self.as_ptr()) as u32 }
    }

    /// Whether the command is called only to say which of its words are keys.
    pub(super) fn wants_key_positions(self) -> bool {
        // SAFETY: the context is that of a running command.
        server_may!(RedisModule_IsKeysPositionRequest).is_some_and(|asks| unsafe { asks(self.as_ptr()) != 0 })
    }

    /// Says that a word is a key, and what is done to it.
    pub(super) fn key_at(self, at: usize, flags: u32) {
        if let Some(declare_key) = server_may!(RedisModule_KeyAtPosWithFlags) {
            // SAFETY: the context is that of such a call; the server checks the position.
            unsafe { declare_key(self.as_ptr(), at as c_int, flags as c_int) }
        }
    }

    /// Whether a setting of the server's is `yes`.
    pub(super) fn is_set(self, setting: &[u8]) -> bool {
        let answer = self.call_named(c"CONFIG", c"GET", OwnedStr::new(setting).borrow());
        answer.is_some_and(|answer| answer.field(setting) == Some(b"yes"))
    }

    /// Whether a child is rewriting the AOF.
    pub(super) fn rewrites_aof(self) -> bool {
        let (Some(get), Some(field), Some(free)) = (
            server_may!(RedisModule_GetServerInfo),
            server_may!(RedisModule_ServerInfoGetFieldUnsigned),
            server_may!(RedisModule_FreeServerInfo),
        ) else {
            return true; // not to be told: then rules are rather said once too often
        };
        // SAFETY: the context is valid; C strings; what is got is freed, and not used afterwards.
        unsafe {
            let info = get(self.as_ptr(), c"persistence".as_ptr());
            let mut error = 0;
            let running = field(info, c"aof_rewrite_in_progress".as_ptr(), &mut error);
            free(self.as_ptr(), info);
            running != 0 || error != 0
        }
    }

    pub(super) fn open(self, name: Str<'_>, mode: Mode) -> OpenKey {
        // SAFETY: context and string are valid; the key is closed by `OpenKey`.
        OpenKey(unsafe { server!(RedisModule_OpenKey)(self.as_ptr(), name.as_ptr(), mode.bits()) })
    }

    pub(super) fn signal(self, name: Str<'_>) {
        // SAFETY: context and string are valid.
        unsafe { server!(RedisModule_SignalModifiedKey)(self.as_ptr(), name.as_ptr()) };
    }

    pub(super) fn notify(self, class: c_int, event: &CStr, name: Str<'_>) {
        // SAFETY: context, C string and string are valid.
        unsafe { server!(RedisModule_NotifyKeyspaceEvent)(self.as_ptr(), class, event.as_ptr(), name.as_ptr()) };
    }

    pub(super) fn replicate_verbatim(self) {
        // SAFETY: the context is that of a running command.
        unsafe { server!(RedisModule_ReplicateVerbatim)(self.as_ptr()) };
    }

    /// The server's own `GET`. Reading a string through an open key would decode it in place: a counter would no
    /// longer be kept as a number, for a mere read.
    pub(super) fn call_get(self, name: Str<'_>) -> Option<CallReply> {
        // SAFETY: the context is that of a running command; the format names the one string that follows.
        let reply = unsafe { server!(RedisModule_Call)(self.as_ptr(), c"GET".as_ptr(), c"s".as_ptr(), name.as_ptr()) };
        NonNull::new(reply).map(CallReply)
    }

    /// A command of the server's with one word.
    pub(super) fn call(self, command: &CStr, word: &CStr) -> Option<CallReply> {
        // SAFETY: the context is valid; the format names the one C string that follows.
        let reply = unsafe { server!(RedisModule_Call)(self.as_ptr(), command.as_ptr(), c"c".as_ptr(), word.as_ptr()) };
        NonNull::new(reply).map(CallReply)
    }

    /// A command of the server's with two words, the second of them a name.
    pub(super) fn call_named(self, command: &CStr, word: &CStr, name: Str<'_>) -> Option<CallReply> {
        // SAFETY: the context is valid; the format names the C string and the string that follow.
        let reply = unsafe {
            server!(RedisModule_Call)(self.as_ptr(), command.as_ptr(), c"cs".as_ptr(), word.as_ptr(), name.as_ptr())
        };
        NonNull::new(reply).map(CallReply)
    }

    /// Tells replicas and AOF to run `command` with these words (at most three).
    pub(super) fn replicate(self, command: &CStr, key: Str<'_>, words: &[&[u8]]) {
        let replicate = server!(RedisModule_Replicate);
        let (ctx, name) = (self.as_ptr(), command.as_ptr());
        let at = |n: usize| (words[n].as_ptr().cast::<c_char>(), words[n].len());
        // SAFETY: each format names exactly the arguments that follow: `s` a server string, `b` pointer and length.
        unsafe {
            match words.len() {
                0 => replicate(ctx, name, c"s".as_ptr(), key.as_ptr()),
                1 => replicate(ctx, name, c"sb".as_ptr(), key.as_ptr(), at(0).0, at(0).1),
                2 => replicate(ctx, name, c"sbb".as_ptr(), key.as_ptr(), at(0).0, at(0).1, at(1).0, at(1).1),
                _ => {
                    let (a, b, c) = (at(0), at(1), at(2));
                    replicate(ctx, name, c"sbbb".as_ptr(), key.as_ptr(), a.0, a.1, b.0, b.1, c.0, c.1)
                }
            }
        };
    }

    /// Tells replicas and AOF to run a command with any number of words.
    pub(super) fn replicate_words(self, command: &CStr, words: &[Str<'_>]) {
        let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        // SAFETY: `v` takes an array of server strings and its length; the server keeps its own references.
        unsafe {
            server!(RedisModule_Replicate)(
                self.as_ptr(),
                command.as_ptr(),
                c"v".as_ptr(),
                pointers.as_ptr(),
                pointers.len(),
            )
        };
    }
}

/// What a command of the server's answered; freed when dropped.
#[derive(Debug)]
pub(super) struct CallReply(NonNull<raw::RedisModuleCallReply>);

impl CallReply {
    /// The answer, when it is a string.
    pub(super) fn text(&self) -> Option<&[u8]> {
        // SAFETY: the reply lives as long as `self`, and its bytes with it.
        unsafe { Self::text_of(self.0.as_ptr()) }
    }

    /// What stands behind a name in a flat array, when it is a string.
    pub(super) fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let element = server_may!(RedisModule_CallReplyArrayElement)?;
        let length = server_may!(RedisModule_CallReplyLength)?;
        // SAFETY: the reply lives as long as `self`, and its elements with it; null for one that is not there.
        unsafe {
            let reply = self.0.as_ptr();
            (0..length(reply)).step_by(2).find_map(|at| {
                let said = element(reply, at);
                let value = element(reply, at + 1);
                (!said.is_null() && !value.is_null() && Self::text_of(said) == Some(name))
                    .then(|| Self::text_of(value))?
            })
        }
    }

    /// # Safety
    /// `reply` lives for `'a`.
    unsafe fn text_of<'a>(reply: *mut raw::RedisModuleCallReply) -> Option<&'a [u8]> {
        let mut len = 0;
        // SAFETY: the caller's duty.
        unsafe {
            if server!(RedisModule_CallReplyType)(reply) != raw::REDISMODULE_REPLY_STRING as c_int {
                return None;
            }
            let bytes = server!(RedisModule_CallReplyStringPtr)(reply, &mut len);
            Some(slice::from_raw_parts(bytes.cast(), len))
        }
    }
}

impl Drop for CallReply {
    fn drop(&mut self) {
        // SAFETY: ours since `call_get`.
        unsafe { server!(RedisModule_FreeCallReply)(self.0.as_ptr()) }
    }
}

impl OpenKey {
    /// The type of ours, as the server knows it.
    fn our_type() -> *mut raw::RedisModuleType {
        super::datatype::type_ptr()
    }

    pub(super) fn kind(&self) -> KeyKind {
        if self.0.is_null() {
            return KeyKind::Nothing;
        }
        // SAFETY: the key is open (and not null).
        unsafe {
            if server!(RedisModule_ModuleTypeGetType)(self.0) == Self::our_type() {
                return KeyKind::Ours;
            }
            match server!(RedisModule_KeyType)(self.0) as isize {
                raw::REDISMODULE_KEYTYPE_EMPTY => KeyKind::Nothing,
                raw::REDISMODULE_KEYTYPE_STRING => KeyKind::Text,
                _ => KeyKind::Other,
            }
        }
    }

    /// The value, which is one of ours: ask [`held`](Self::held) first.
    pub(super) fn value(&self) -> *mut c_void {
        // SAFETY: the key is open; the server gives null for what is not a module's.
        unsafe { server!(RedisModule_ModuleTypeGetValue)(self.0) }
    }

    /// The length of what it holds, in bytes for a string.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the key is open.
        unsafe { server!(RedisModule_ValueLength)(self.0) }
    }

    /// When the server deletes it, in milliseconds of Unix time.
    pub(super) fn expire_at(&self) -> Option<u64> {
        if self.0.is_null() {
            return None;
        }
        let at = match server_may!(RedisModule_GetAbsExpire) {
            // SAFETY: the key is open.
            Some(get) => unsafe { get(self.0) },
            // SAFETY: as above. Before 7.0.5 only the time that is left can be had.
            None => match unsafe { server!(RedisModule_GetExpire)(self.0) } {
                left if left < 0 => left,
                left => left + super::clock_ms() as i64,
            },
        };
        u64::try_from(at).ok()
    }

    /// How many milliseconds are left until the server deletes it.
    pub(super) fn left_ms(&self) -> Option<u64> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the key is open.
        u64::try_from(unsafe { server!(RedisModule_GetExpire)(self.0) }).ok()
    }

    /// Sets when the server deletes it.
    pub(super) fn set_expire_at(&self, at: Option<u64>) {
        let no_expire = i64::from(raw::REDISMODULE_NO_EXPIRE);
        match server_may!(RedisModule_SetAbsExpire) {
            // SAFETY: the key is open for writing; the server refuses what it cannot do.
            Some(set) => unsafe { set(self.0, at.map_or(no_expire, |at| at as i64)) },
            None => {
                let left = at.map_or(no_expire, |at| at.saturating_sub(super::clock_ms()) as i64);
                // SAFETY: as above.
                unsafe { server!(RedisModule_SetExpire)(self.0, left) }
            }
        };
    }

    /// Puts a value of ours in, and gives back the one of ours that it replaced (null when there was none).
    pub(super) fn set(&self, value: *mut c_void) -> *mut c_void {
        self.replace(value).unwrap_or_else(|value| {
            // SAFETY: the key is open for writing, `value` was made for our type; the server frees what was there.
            unsafe { server!(RedisModule_ModuleTypeSetValue)(self.0, Self::our_type(), value) };
            ptr::null_mut()
        })
    }

    /// Puts a value of ours in the place of one of ours and gives that back; gives back the new one when there is none.
    /// Replacing (instead of setting) keeps the key's place in the dictionary, its expiry and its LFU counter.
    pub(super) fn replace(&self, value: *mut c_void) -> Result<*mut c_void, *mut c_void> {
        let mut old = ptr::null_mut();
        // SAFETY: the key is open for writing, `value` was made for our type.
        let replaced =
            unsafe { server!(RedisModule_ModuleTypeReplaceValue)(self.0, Self::our_type(), value, &mut old) };
        if replaced == raw::REDISMODULE_OK as c_int { Ok(old) } else { Err(value) }
    }

    /// Removes the key, large values in the background; whether there was one.
    pub(super) fn unlink(&self) -> bool {
        let there = self.kind() != KeyKind::Nothing;
        // SAFETY: the key is open for writing.
        unsafe { server!(RedisModule_UnlinkKey)(self.0) };
        there
    }
}

impl Drop for OpenKey {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: opened by `Ctx::open` and not closed since.
            unsafe { server!(RedisModule_CloseKey)(self.0) };
        }
    }
}

/// What the allocation behind `ptr` costs.
///
/// # Safety
/// `ptr` is a live allocation of the server's allocator.
pub(super) unsafe fn malloc_size(ptr: *mut c_void) -> usize {
    if cfg!(feature = "system-alloc") {
        // SAFETY: the caller's duty; the system's allocator has given it then.
        return unsafe { libc::malloc_usable_size(ptr) };
    }
    // SAFETY: the caller's duty.
    unsafe { server!(RedisModule_MallocSize)(ptr) }
}
