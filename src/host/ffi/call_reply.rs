//! Replies of the server's commands to our own calls.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::slice;

use redis_module::raw;

use super::calls::{server, server_may};

/// The reply of a command of the server that we called; freed when dropped.
#[derive(Debug)]
pub(in crate::host) struct CallReply(NonNull<raw::RedisModuleCallReply>);

impl CallReply {
    /// # Safety
    /// `reply` is null or a reply of `RedisModule_Call` that is ours to free.
    pub(super) unsafe fn from_raw(reply: *mut raw::RedisModuleCallReply) -> Option<Self> {
        NonNull::new(reply).map(CallReply)
    }

    /// Whether the command was refused.
    pub(in crate::host) fn is_error(&self) -> bool {
        // SAFETY: the reply lives as long as `self`.
        unsafe { server!(RedisModule_CallReplyType)(self.0.as_ptr()) == raw::REDISMODULE_REPLY_ERROR as c_int }
    }

    /// The reply, when it is a string.
    pub(in crate::host) fn text(&self) -> Option<&[u8]> {
        // SAFETY: the reply lives as long as `self`, and its bytes with it.
        unsafe { Self::text_of(self.0.as_ptr()) }
    }

    /// The element that follows `name` in a flat array, when it is a string.
    pub(in crate::host) fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let element = server_may!(RedisModule_CallReplyArrayElement)?;
        let length = server_may!(RedisModule_CallReplyLength)?;
        // SAFETY: the reply lives as long as `self`, and its elements with it; null for one that does not exist.
        unsafe {
            let reply = self.0.as_ptr();
            (0..length(reply)).step_by(2).find_map(|at| {
                let field = element(reply, at);
                let value = element(reply, at + 1);
                (!field.is_null() && !value.is_null() && Self::text_of(field) == Some(name))
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
        // SAFETY: ours since `from_raw`, and not used any more.
        unsafe { server!(RedisModule_FreeCallReply)(self.0.as_ptr()) }
    }
}
