//! Replies, written straight into the client's buffer.
//!
//! A reply is a tree in prefix order: each container announces its length, then its elements follow. So one number
//! says how much of it is missing: every element takes one away, and a container of n elements adds n. A command that
//! fails in the midst of its reply, by an error or a panic, has the missing elements filled: else the client would take
//! the next reply for one of them.

use std::any::Any;
use std::ffi::c_long;

use redis_module::raw;
use smallvec::SmallVec;

use super::ffi::{CallReply, ClientCtx, Element, server};
use super::panic::{catch_panic, try_run};
use crate::cache::Reply;
use crate::cache::error::Error;
use crate::cache::ports::NativeReply;

/// The reply to one command.
pub(super) struct ServerReply<'a> {
    ctx: ClientCtx<'a>,
    /// Elements that are to follow.
    missing: isize,
}

impl<'a> ServerReply<'a> {
    pub(super) fn new(ctx: ClientCtx<'a>) -> Self {
        ServerReply { ctx, missing: 1 }
    }

    pub(super) fn ctx(&self) -> ClientCtx<'a> {
        self.ctx
    }

    /// The client is blocked: its reply is another's to write.
    pub(super) fn is_deferred(&mut self) {
        self.missing = 0;
    }

    /// Ends the reply with an error: the whole of it, or the last element of what is written. (The last element of a
    /// map is a value.) A reply that is complete stays as it is.
    pub(super) fn fail(&mut self, error: &Error) {
        let text = terminated(&error.to_string());
        while self.missing > 1 {
            self.nil();
        }
        if self.missing == 1 {
            self.missing = 0;
            // SAFETY: the context is valid; the text ends with a zero byte.
            unsafe { server!(RedisModule_ReplyWithError)(self.ctx.as_ptr(), text.as_ptr().cast()) };
        }
    }

    /// One more element is about to be written.
    #[inline]
    fn element(&mut self) {
        debug_assert!(self.missing > 0, "a reply has more elements than it announced");
        #[cfg(feature = "test-commands")]
        crate::commands::panic::point("an element of a reply");
        self.missing -= 1;
    }
}

/// What one of the server's own commands has replied.
pub(super) struct Replied {
    pub(super) command: String,
    pub(super) reply: CallReply,
}

impl NativeReply for Replied {
    fn is_error(&self) -> bool {
        self.reply.is_error()
    }

    fn text(&self) -> Option<&[u8]> {
        self.reply.text()
    }

    fn texts(&self) -> Vec<Vec<u8>> {
        let element = |at| self.reply.element(at).and_then(Element::text).map(<[u8]>::to_vec);
        (0..self.reply.len()).filter_map(element).collect()
    }

    fn scanned(&self) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        Some((self.reply.element(0)?.text()?.to_vec(), self.reply.element(1)?.texts()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Writes a reply behind the guard; false after a panic.
pub(super) fn write_guarded(what: &str, ctx: ClientCtx<'_>, write: impl FnOnce(&mut ServerReply<'_>)) -> bool {
    let mut reply = ServerReply::new(ctx);
    let written = try_run(what, || write(&mut reply)).is_some();
    if !written {
        catch_panic("the rest of a reply", (), || reply.fail(&Error::Internal));
    }
    written
}

fn terminated(text: &str) -> SmallVec<[u8; 128]> {
    let mut bytes = SmallVec::from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

impl Reply for ServerReply<'_> {
    fn simple(&mut self, text: &str) {
        self.element();
        let text = terminated(text);
        // SAFETY: the context is valid; the text ends with a zero byte.
        unsafe { server!(RedisModule_ReplyWithSimpleString)(self.ctx.as_ptr(), text.as_ptr().cast()) };
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.element();
        // SAFETY: the context is valid; the server copies the bytes before it returns.
        unsafe {
            server!(RedisModule_ReplyWithStringBuffer)(self.ctx.as_ptr(), bytes.as_ptr().cast(), bytes.len());
        }
    }

    fn nil(&mut self) {
        self.element();
        // SAFETY: the context is valid.
        unsafe { server!(RedisModule_ReplyWithNull)(self.ctx.as_ptr()) };
    }

    fn int(&mut self, n: i64) {
        self.element();
        // SAFETY: the context is valid.
        unsafe { server!(RedisModule_ReplyWithLongLong)(self.ctx.as_ptr(), n) };
    }

    fn double(&mut self, x: f64) {
        if self.ctx.flags() & raw::REDISMODULE_CTX_FLAGS_RESP3 != 0 {
            self.element();
            // SAFETY: the context is valid.
            unsafe { server!(RedisModule_ReplyWithDouble)(self.ctx.as_ptr(), x) };
        } else {
            // The server would write 0.1 as 0.10000000000000001 before 7.2.
            self.bulk(x.to_string().as_bytes());
        }
    }

    fn array(&mut self, len: usize) {
        self.element();
        self.missing += len as isize;
        // SAFETY: the context is valid; `len` elements follow, by `fail` if not by the command.
        unsafe { server!(RedisModule_ReplyWithArray)(self.ctx.as_ptr(), len as c_long) };
    }

    fn map(&mut self, len: usize) {
        self.element();
        self.missing += 2 * len as isize;
        // SAFETY: as above, `len` pairs.
        unsafe { server!(RedisModule_ReplyWithMap)(self.ctx.as_ptr(), len as c_long) };
    }

    fn native(&mut self, reply: &dyn NativeReply) {
        let Some(Replied { command, reply }) = reply.as_any().downcast_ref() else {
            return self.fail(&Error::Internal);
        };
        // Redis 7.0 words it differently for commands that modules call.
        if reply.error().is_some_and(|text| text.starts_with(b"ERR acl verification failed")) {
            let command = command.to_ascii_lowercase();
            return self.fail(&Error::NoPermission(format!("permissions to run the '{command}' command")));
        }
        self.element();
        // SAFETY: the context is valid, and so is the reply.
        unsafe { server!(RedisModule_ReplyWithCallReply)(self.ctx.as_ptr(), reply.as_ptr()) };
    }
}
