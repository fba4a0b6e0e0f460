//! Answers through the server's reply calls: bytes are copied once, into the client's buffer.

use std::ffi::c_long;

use redis_module::raw;
use smallvec::SmallVec;

use super::ffi::{Ctx, server};
use crate::cache::Reply;
use crate::cache::error::Error;

/// The answer to one command.
pub(super) struct ServerReply {
    ctx: Ctx,
}

impl ServerReply {
    pub(super) fn new(ctx: Ctx) -> Self {
        ServerReply { ctx }
    }

    /// Answers with an error.
    pub(super) fn error(&mut self, error: &Error) {
        let text = terminated(&error.to_string());
        // SAFETY: the context is valid; the text ends with a zero byte.
        unsafe { server!(RedisModule_ReplyWithError)(self.ctx.as_ptr(), text.as_ptr().cast()) };
    }
}

fn terminated(text: &str) -> SmallVec<[u8; 128]> {
    let mut bytes = SmallVec::from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// For a command that nobody waits for.
pub(super) struct Unanswered;

impl Reply for Unanswered {
    fn simple(&mut self, _: &str) {}
    fn bulk(&mut self, _: &[u8]) {}
    fn nil(&mut self) {}
    fn int(&mut self, _: i64) {}
    fn double(&mut self, _: f64) {}
    fn array(&mut self, _: usize) {}
    fn map(&mut self, _: usize) {}
}

impl Reply for ServerReply {
    fn simple(&mut self, text: &str) {
        let text = terminated(text);
        // SAFETY: the context is valid; the text ends with a zero byte.
        unsafe { server!(RedisModule_ReplyWithSimpleString)(self.ctx.as_ptr(), text.as_ptr().cast()) };
    }

    fn bulk(&mut self, bytes: &[u8]) {
        // SAFETY: the context is valid; the server copies the bytes before it returns.
        unsafe {
            server!(RedisModule_ReplyWithStringBuffer)(self.ctx.as_ptr(), bytes.as_ptr().cast(), bytes.len());
        }
    }

    fn nil(&mut self) {
        // SAFETY: the context is valid.
        unsafe { server!(RedisModule_ReplyWithNull)(self.ctx.as_ptr()) };
    }

    fn int(&mut self, n: i64) {
        // SAFETY: the context is valid.
        unsafe { server!(RedisModule_ReplyWithLongLong)(self.ctx.as_ptr(), n) };
    }

    fn double(&mut self, x: f64) {
        if self.ctx.flags() & raw::REDISMODULE_CTX_FLAGS_RESP3 != 0 {
            // SAFETY: the context is valid.
            unsafe { server!(RedisModule_ReplyWithDouble)(self.ctx.as_ptr(), x) };
        } else {
            // The server would write 0.1 as 0.10000000000000001 before 7.2.
            self.bulk(x.to_string().as_bytes());
        }
    }

    fn array(&mut self, len: usize) {
        // SAFETY: the context is valid; exactly `len` elements follow (the callers' duty towards the client).
        unsafe { server!(RedisModule_ReplyWithArray)(self.ctx.as_ptr(), len as c_long) };
    }

    fn map(&mut self, len: usize) {
        // SAFETY: as above, `len` pairs.
        unsafe { server!(RedisModule_ReplyWithMap)(self.ctx.as_ptr(), len as c_long) };
    }
}
