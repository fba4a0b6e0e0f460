//! Clients that the server blocks for us, of any kind.
//!
//! ```text
//! command that waits ─ block ─▶ blocked client ◀─ handle ─▶ id of the waiter
//!                                     │                         │ its wait ends
//!           disconnected, killed ─────┤ on_gone                 ▼
//!           CLIENT UNBLOCK ───────────┤ on_time_out            send
//!                                     ▼                         │
//!                                  on_reply ◀─ UnblockClient ◀──┘
//! ```
//!
//! Clients are blocked as such and not on their key (before 7.2 the server never wakes one for a key that does not
//! exist), and without a time-out of the server's, which comes up to 100 ms late.
//!
//! The server calls exactly one of `on_reply`, `on_time_out` and `on_gone` for each blocked client. `UnblockClient`
//! is called exactly once for each, else it would leak: with the [`Handle`], which is used up by it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::hash::Hash;
use std::ptr::{self, NonNull};

use redis_module::raw;
use smallvec::SmallVec;

use super::caller::ServerCaller;
use super::ffi::{ClientCtx, Ctx, Str, server};
use super::panic::catch_panic;
use super::reply::{ServerReply, write_guarded};
use crate::cache::error::Error;

/// A kind of waiters.
pub(super) trait Waiters: Sized + 'static {
    /// Which waiter.
    type Id: Copy + Eq + Hash;
    /// What ends its wait.
    type Answer;
    /// In the log, after a panic.
    const NAME: &'static str;

    /// The blocked clients of this kind.
    fn clients() -> &'static RefCell<BlockedClients<Self::Id, Self::Answer>>;

    /// Writes the reply to the command of this name; without an answer, for a wait that has ended without one.
    fn write(reply: &mut ServerReply<'_>, command: &[u8], answer: Option<&Self::Answer>);

    /// Whether its user still has the right to what its command names, beyond the keys that the server checks.
    fn check(_server: &ServerCaller<'_>, _words: &[&[u8]]) -> Result<(), Error> {
        Ok(())
    }

    /// `CLIENT UNBLOCK`: the same as if its time were over.
    fn time_out(ctx: Ctx<'_>, id: Self::Id) -> Option<Self::Answer>;

    /// It is gone, before its answer was sent (`None`) or afterwards.
    fn gone(id: Self::Id, sent: Option<Self::Answer>);
}

/// The clients that the server has blocked for waiters of one kind.
pub(super) struct BlockedClients<Id, Answer> {
    clients: HashMap<usize, Blocked<Id, Answer>>,
    /// Of those that are not unblocked yet.
    handles: HashMap<Id, Handle>,
}

struct Blocked<Id, Answer> {
    id: Id,
    /// Its answer, once the server has been asked to go on with it.
    sent: Option<Answer>,
}

/// The right and the duty to unblock a client.
struct Handle(NonNull<raw::RedisModuleBlockedClient>);

impl Handle {
    /// The number by which the callbacks know the client.
    fn number(&self) -> usize {
        self.0.as_ptr().addr()
    }

    fn unblock(self) {
        // SAFETY: made by `block`, and used up here: the server keeps a blocked client until it is unblocked.
        unsafe { server!(RedisModule_UnblockClient)(self.0.as_ptr(), ptr::null_mut()) };
    }
}

impl<Id, Answer> Default for BlockedClients<Id, Answer> {
    fn default() -> Self {
        BlockedClients { clients: HashMap::new(), handles: HashMap::new() }
    }
}

impl<Id: Copy + Eq + Hash, Answer> BlockedClients<Id, Answer> {
    /// Has the server go on with a waiter. False when it is not blocked (any more).
    pub(super) fn send(&mut self, id: Id, answer: Answer) -> bool {
        let Some(handle) = self.handles.remove(&id) else { return false };
        let client = self.clients.get_mut(&handle.number());
        let blocked = client.is_some();
        if let Some(client) = client {
            client.sent = Some(answer);
        }
        handle.unblock();
        blocked
    }

    /// Those who wait and have not been sent an answer.
    pub(super) fn waiting(&self) -> Vec<Id> {
        self.handles.keys().copied().collect()
    }

    /// Takes a client out whose callback runs.
    fn take(&mut self, client: usize) -> Option<Blocked<Id, Answer>> {
        let taken = self.clients.remove(&client)?;
        if taken.sent.is_none()
            && let Some(handle) = self.handles.remove(&taken.id)
        {
            handle.unblock();
        }
        Some(taken)
    }
}

/// Has the server block the caller of the running command, which may block (`Server::may_wait`) and has no reply yet.
/// False when the server refuses.
pub(super) fn block<W: Waiters>(reply: &mut ServerReply<'_>, id: W::Id) -> bool {
    let block = server!(RedisModule_BlockClient);
    // SAFETY: the context is that of a client's command; the callbacks have the types that the server calls; 0 is no
    // time-out.
    let handle = unsafe { block(reply.ctx().as_ptr(), Some(on_reply::<W>), Some(on_time_out::<W>), None, 0) };
    let Some(handle) = NonNull::new(handle) else { return false };
    reply.is_deferred();
    // SAFETY: the handle is the one just made.
    unsafe { server!(RedisModule_SetDisconnectCallback)(handle.as_ptr(), Some(on_gone::<W>)) };
    let mut blocked = W::clients().borrow_mut();
    blocked.clients.insert(handle.as_ptr().addr(), Blocked { id, sent: None });
    blocked.handles.insert(id, Handle(handle));
    true
}

/// The server goes on with a client that we have unblocked.
unsafe extern "C" fn on_reply<W: Waiters>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the callback's context and the words of the command that waited, valid until we return.
    let (ctx, words) = unsafe { (ClientCtx::from_raw(ctx), Str::slice(argv, argc)) };
    if let Some(ctx) = ctx {
        let client = take::<W>(ctx.blocked_handle());
        let (id, sent) = client.map_or((None, None), |client| (Some(client.id), client.sent));
        write::<W>(ctx, words, id, sent);
    }
    raw::REDISMODULE_OK as c_int
}

unsafe extern "C" fn on_time_out<W: Waiters>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the callback's context and the words of the command that waited, valid until we return.
    let (ctx, words) = unsafe { (ClientCtx::from_raw(ctx), Str::slice(argv, argc)) };
    if let Some(ctx) = ctx {
        let client = take::<W>(ctx.blocked_handle());
        let (id, sent) = client.map_or((None, None), |client| (Some(client.id), client.sent));
        let answer = sent.or_else(|| catch_panic(W::NAME, None, || W::time_out(*ctx, id?)));
        write::<W>(ctx, words, id, answer);
    }
    raw::REDISMODULE_OK as c_int
}

/// A blocked client is gone: disconnected, killed, unblocked with an error, or the node became a replica.
unsafe extern "C" fn on_gone<W: Waiters>(_: *mut raw::RedisModuleCtx, handle: *mut raw::RedisModuleBlockedClient) {
    if let Some(client) = take::<W>(handle.cast()) {
        catch_panic(W::NAME, (), || W::gone(client.id, client.sent));
    }
}

/// Takes out the client whose callback runs: on its own, so that a panic in what follows leaves nothing behind.
fn take<W: Waiters>(handle: *mut c_void) -> Option<Blocked<W::Id, W::Answer>> {
    catch_panic("the table of blocked clients", None, || W::clients().borrow_mut().take(handle.addr()))
}

/// Writes the reply. After a panic, and when the user has lost the permission meanwhile, the answer counts as one that
/// did not arrive.
fn write<W: Waiters>(ctx: ClientCtx<'_>, words: &[Str<'_>], id: Option<W::Id>, answer: Option<W::Answer>) {
    let refusal = catch_panic(W::NAME, Some(Error::Internal), || refusal::<W>(ctx, words));
    let written = match &refusal {
        Some(error) => {
            write_guarded(W::NAME, ctx, |reply| reply.fail(error));
            false
        }
        None => {
            let command = words.first().map_or(&b""[..], |name| name.bytes());
            write_guarded(W::NAME, ctx, |reply| W::write(reply, command, answer.as_ref()))
        }
    };
    if let (false, Some(id), Some(answer)) = (written, id, answer) {
        catch_panic(W::NAME, (), || W::gone(id, Some(answer)));
    }
}

/// Why the user of a client that has waited gets no answer: it may not run the command any more.
fn refusal<W: Waiters>(ctx: ClientCtx<'_>, words: &[Str<'_>]) -> Option<Error> {
    let server = ServerCaller::new(*ctx);
    let words_of: SmallVec<[&[u8]; 8]> = words.iter().map(|word| word.bytes()).collect();
    server.check_command(words).and_then(|()| W::check(&server, &words_of)).err()
}
