//! Replies of the server's commands to our own calls.

use std::ffi::c_int;
use std::marker::PhantomData;
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

    pub(in crate::host) fn as_ptr(&self) -> *mut raw::RedisModuleCallReply {
        self.0.as_ptr()
    }

    /// How many elements an array has; 0 for anything else.
    pub(in crate::host) fn len(&self) -> usize {
        // SAFETY: the reply lives as long as `self`.
        let length = server_may!(RedisModule_CallReplyLength).map_or(0, |length| unsafe { length(self.0.as_ptr()) });
        if self.text().is_some() { 0 } else { length }
    }

    /// An element of an array.
    pub(in crate::host) fn element(&self, at: usize) -> Option<Element<'_>> {
        Element(self.0, PhantomData).element(at)
    }

    /// The text of an error, its code included.
    pub(in crate::host) fn error(&self) -> Option<&[u8]> {
        let mut len = 0;
        // SAFETY: the reply lives as long as `self`, and its bytes with it; null for another type.
        unsafe {
            let bytes = server!(RedisModule_CallReplyStringPtr)(self.0.as_ptr(), &mut len);
            (self.is_error() && !bytes.is_null()).then(|| slice::from_raw_parts(bytes.cast(), len))
        }
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

    /// Whether the element that follows `name` in a flat array is an empty array, or is not there.
    pub(in crate::host) fn has_empty(&self, name: &[u8]) -> bool {
        let at = (0..self.len()).step_by(2).find(|at| self.element(*at).and_then(Element::text) == Some(name));
        at.and_then(|at| self.element(at + 1)).is_none_or(|of| of.len() == 0)
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

/// An element of a reply.
#[derive(Clone, Copy)]
pub(in crate::host) struct Element<'a>(NonNull<raw::RedisModuleCallReply>, PhantomData<&'a CallReply>);

impl<'a> Element<'a> {
    pub(in crate::host) fn element(self, at: usize) -> Option<Element<'a>> {
        let element = server_may!(RedisModule_CallReplyArrayElement)?;
        // SAFETY: the reply lives for 'a, and its elements with it; null for one that does not exist.
        let (kind, set) = (self.kind(), raw::REDISMODULE_REPLY_SET as c_int);
        if kind == set {
            let element = server_may!(RedisModule_CallReplySetElement)?;
            // SAFETY: as above.
            return NonNull::new(unsafe { element(self.0.as_ptr(), at) }).map(|reply| Element(reply, PhantomData));
        }
        // SAFETY: as above.
        NonNull::new(unsafe { element(self.0.as_ptr(), at) }).map(|reply| Element(reply, PhantomData))
    }

    fn kind(self) -> c_int {
        // SAFETY: the reply lives for 'a.
        unsafe { server!(RedisModule_CallReplyType)(self.0.as_ptr()) }
    }

    pub(in crate::host) fn len(self) -> usize {
        // SAFETY: the reply lives for 'a.
        server_may!(RedisModule_CallReplyLength).map_or(0, |length| unsafe { length(self.0.as_ptr()) })
    }

    pub(in crate::host) fn text(self) -> Option<&'a [u8]> {
        // SAFETY: the reply lives for 'a.
        unsafe { CallReply::text_of(self.0.as_ptr()) }
    }

    pub(in crate::host) fn int(self) -> i64 {
        // SAFETY: the reply lives for 'a; the server answers for any type.
        unsafe { server!(RedisModule_CallReplyInteger)(self.0.as_ptr()) }
    }

    /// The texts of an array or set.
    pub(in crate::host) fn texts(self) -> Vec<Vec<u8>> {
        (0..self.len()).filter_map(|at| self.element(at)?.text().map(<[u8]>::to_vec)).collect()
    }
}

impl Drop for CallReply {
    fn drop(&mut self) {
        // SAFETY: ours since `from_raw`, and not used any more.
        unsafe { server!(RedisModule_FreeCallReply)(self.0.as_ptr()) }
    }
}
