//! What the callbacks that save and load values work with.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use redis_module::raw;

use super::calls::{server, server_may};
use super::ctx::Ctx;
use super::strings::Str;

/// The file or stream of one callback that saves or loads.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Io<'a>(NonNull<raw::RedisModuleIO>, PhantomData<&'a ()>);

impl<'a> Io<'a> {
    /// # Safety
    /// `io` is null or what the server handed to a callback that runs for `'a`.
    pub(in crate::host) unsafe fn from_raw(io: *mut raw::RedisModuleIO) -> Option<Self> {
        NonNull::new(io).map(|io| Io(io, PhantomData))
    }

    /// Writes a string.
    pub(in crate::host) fn save(self, bytes: &[u8]) {
        if let Some(save) = server_may!(RedisModule_SaveStringBuffer) {
            // SAFETY: `io` is valid (`from_raw`); the bytes are copied or written.
            unsafe { save(self.0.as_ptr(), bytes.as_ptr().cast(), bytes.len()) }
        }
    }

    /// Reads a string; `None` when the file ends or the server cannot read it.
    pub(in crate::host) fn load(self) -> Option<Loaded> {
        let mut len = 0;
        let load = server_may!(RedisModule_LoadStringBuffer)?;
        let failed = server_may!(RedisModule_IsIOError)?;
        // SAFETY: `io` is valid (`from_raw`).
        let bytes = NonNull::new(unsafe { load(self.0.as_ptr(), &mut len) })?;
        let loaded = Loaded(bytes.cast(), len);
        // SAFETY: as above.
        (unsafe { failed(self.0.as_ptr()) } == 0).then_some(loaded)
    }

    /// Writes a command to the AOF: its key, and two more words.
    pub(in crate::host) fn emit(self, command: &CStr, key: Str<'_>, first: &[u8], second: &[u8]) {
        let Some(emit) = server_may!(RedisModule_EmitAOF) else { return };
        // SAFETY: `io` and `key` are valid; the format names what follows: a string, twice pointer and length.
        unsafe {
            emit(
                self.0.as_ptr(),
                command.as_ptr(),
                c"sbb".as_ptr(),
                key.as_ptr(),
                first.as_ptr(),
                first.len(),
                second.as_ptr(),
                second.len(),
            );
        }
    }

    /// The database that is saved or loaded, where the server names it.
    pub(in crate::host) fn db(self) -> Option<i32> {
        // SAFETY: `io` is valid (`from_raw`).
        server_may!(RedisModule_GetDbIdFromIO).map(|get| unsafe { get(self.0.as_ptr()) }).filter(|db| *db >= 0)
    }

    /// The key that is saved or loaded, where the server names it.
    pub(in crate::host) fn key(self) -> Option<Str<'a>> {
        let get = server_may!(RedisModule_GetKeyNameFromIO)?;
        // SAFETY: `io` is valid, and its key's name lives as long as the callback.
        unsafe { Str::from_raw(get(self.0.as_ptr())) }
    }

    pub(in crate::host) fn ctx(self) -> Option<Ctx<'a>> {
        let get = server_may!(RedisModule_GetContextFromIO)?;
        // SAFETY: `io` is valid, and its context lives as long as the callback.
        unsafe { Ctx::from_raw(get(self.0.as_ptr())) }
    }
}

/// A string that the server has read for us; freed when dropped.
#[derive(Debug)]
pub(in crate::host) struct Loaded(NonNull<u8>, usize);

impl Loaded {
    pub(in crate::host) fn bytes(&self) -> &[u8] {
        // SAFETY: the server gave pointer and length together, and the buffer is ours until dropped.
        unsafe { slice::from_raw_parts(self.0.as_ptr(), self.1) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: allocated by the server for us to free.
        unsafe { server!(RedisModule_Free)(self.0.as_ptr().cast()) }
    }
}
