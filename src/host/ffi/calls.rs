//! The server's functions. A server older or newer than the header lacks some: each pointer is an `Option`. Those that
//! every supported server has (Redis 7.0, Valkey 7.2) are checked once, at load ([`missing`]); the others are checked
//! where they are used.

use std::ffi::c_int;
use std::ptr;

use redis_module::raw;

/// A function that every supported server has.
macro_rules! server {
    ($name:ident) => {{
        #[allow(unused_unsafe)] // where it is used inside a block that is unsafe anyway
        // SAFETY: the pointers are written once, at load, before any other use, and only read afterwards.
        let function = unsafe { redis_module::raw::$name };
        function.expect(concat!(stringify!($name), " was there when the module was loaded"))
    }};
}

/// A function that some servers lack.
macro_rules! server_may {
    ($name:ident) => {{
        #[allow(unused_unsafe)] // as above
        // SAFETY: the pointers are written once, at load, before any other use, and only read afterwards.
        let function = unsafe { redis_module::raw::$name };
        function
    }};
}

pub(in crate::host) use {server, server_may};

/// The names of the functions that we need and this server lacks.
pub(in crate::host) fn missing() -> Vec<&'static str> {
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
        RedisModule_SetExpire RedisModule_GetExpire RedisModule_GetLRU RedisModule_SetLRU RedisModule_GetLFU
        RedisModule_SetLFU RedisModule_ValueLength RedisModule_StringPtrLen RedisModule_Call
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

/// Bit and event numbers differ between Redis and Valkey above 7.2: only the flavour decides.
pub(in crate::host) fn is_valkey() -> bool {
    let Some(get) = server_may!(RedisModule_GetApi) else { return false };
    let mut function: *mut std::ffi::c_void = ptr::null_mut();
    // SAFETY: a C string, and room for one pointer; nothing is called through it.
    let found = unsafe { get(c"ValkeyModule_GetServerVersion".as_ptr(), ptr::from_mut(&mut function).cast()) };
    found == raw::REDISMODULE_OK as c_int
}

/// The server's version, 7.2.4 as 0x070204; 0 where it does not say. (Valkey 8 and later say the version of Redis that
/// they go with.)
pub(in crate::host) fn server_version() -> u32 {
    // SAFETY: takes nothing, returns a number.
    server_may!(RedisModule_GetServerVersion).map_or(0, |version| unsafe { version() } as u32)
}

/// Whether this process is a child that the server has forked to save.
pub(in crate::host) fn is_child() -> bool {
    // SAFETY: without a context the server returns what concerns the whole process.
    let flags = unsafe { server!(RedisModule_GetContextFlags)(ptr::null_mut()) };
    flags as u32 & raw::REDISMODULE_CTX_FLAGS_IS_CHILD != 0
}

/// Whether writing now would end the server: it is paused for a failover.
pub(in crate::host) fn must_not_write() -> bool {
    // SAFETY: takes nothing, returns a number.
    unsafe { server!(RedisModule_AvoidReplicaTraffic)() != 0 }
}
