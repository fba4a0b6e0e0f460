//! From C to Rust: one generic trampoline for each row of the command table.
//!
//! A trampoline turns `argv` into words, takes the time, runs the command behind the panic guard, answers an
//! error if there is one, and hands the effects to `deliver.rs`.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use redis_module::raw;
use seq_macro::seq;
use smallvec::SmallVec;

use super::caller::ServerCaller;
use super::deliver::{By, deliver};
use super::ffi::{Ctx, Str};
use super::keyspace::ServerKeys;
use super::register::{access_flags, is_valkey};
use super::reply::{ServerReply, Unanswered};
use super::{blocked, cached_now, clock_now, try_state};
use crate::cache::effects::Effects;
use crate::cache::error::Error;
use crate::cache::{Caller, Cx, units};
use crate::commands::COMMANDS;
use crate::commands::args::Args;
use crate::commands::spec::{Command, Flag, Keys};

/// A command as the server calls it.
pub(super) type Trampoline =
    unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// One trampoline for each command, and a few to spare.
const SPARE: usize = 48;
seq!(N in 0..48 {
    static TRAMPOLINES: [Trampoline; SPARE] = [ #( dispatch::<N>, )* ];
});
const _: () = assert!(COMMANDS.len() <= SPARE, "more commands than trampolines: raise SPARE");

/// On Valkey 9: the caller brings a slot from another node. (The same bit means something else on Redis.)
const SLOT_IMPORT_CLIENT: u32 = 1 << 25;

/// The trampoline of `COMMANDS[index]`.
pub(super) fn trampoline(index: usize) -> Trampoline {
    TRAMPOLINES[index]
}

unsafe extern "C" fn dispatch<const INDEX: usize>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server calls a command with a valid context and `argc` valid strings, all of which live until
    // we return.
    let (ctx, argv) = unsafe {
        match Ctx::from_raw(ctx) {
            // `Str` is a non-null pointer to a server string, and so is each element of `argv`.
            Some(ctx) => (ctx, slice::from_raw_parts(argv.cast::<Str<'_>>(), argc as usize)),
            None => return raw::REDISMODULE_ERR as c_int,
        }
    };
    // Only rows of the table are registered: spare trampolines are never called.
    let Some(row) = (const { Row::at(INDEX) }) else { return raw::REDISMODULE_ERR as c_int };
    if catch_unwind(AssertUnwindSafe(|| call(row, ctx, argv))).is_err() {
        super::count_panic();
        ServerReply::new(ctx).error(&Error::Internal);
    }
    raw::REDISMODULE_OK as c_int
}

/// What is asked of a row of the table at every call, answered when it is compiled.
#[derive(Clone, Copy)]
struct Row {
    command: &'static Command,
    name_words: usize,
    writes: bool,
    /// It obeys our primary and our AOF where it would judge a client.
    obeys: bool,
}

impl Row {
    const fn at(index: usize) -> Option<Self> {
        if index >= COMMANDS.len() {
            return None;
        }
        let command = COMMANDS[index];
        Some(Row {
            command,
            name_words: command.name_words(),
            writes: command.has(Flag::Write),
            obeys: command.has(Flag::Internal) || matches!(command.keys, Keys::None),
        })
    }
}

fn call(row: Row, ctx: Ctx, argv: &[Str<'_>]) {
    let Row { command, writes, .. } = row;
    if let Keys::CountedPairs(access) = command.keys
        && ctx.wants_key_positions()
    {
        let counted = argv.get(1).and_then(|count| units::parse_int(count.bytes()).ok()).unwrap_or(0);
        let positions = (2..argv.len()).step_by(2).take(usize::try_from(counted).unwrap_or(0));
        return positions.for_each(|at| ctx.key_at(at, access_flags(access)));
    }
    let mut words: SmallVec<[&[u8]; 8]> = SmallVec::with_capacity(argv.len());
    argv.iter().for_each(|word| words.push(word.bytes()));
    let mut reply = ServerReply::new(ctx);
    let Some(mut state) = try_state() else {
        // Another module called us from inside a keyspace event of our own.
        return reply.error(&Error::Refused("SmartCache is in the middle of a command".into()));
    };
    let mut effects = Effects::new();
    let mut keys = ServerKeys::new(ctx, argv, writes);
    let server = ServerCaller::new(ctx);
    // Stamps need the real clock; a read is content with the server's, which is 24 ns cheaper.
    let now = if writes { clock_now() } else { cached_now() };
    state.stats.calls += 1;
    let run = command.run.filter(|_| command.accepts(words.len()));
    let outcome = match run {
        None => Err(Error::Arity(command.name)),
        Some(run) => {
            let mut cx = Cx {
                now,
                caller: caller(row, ctx),
                state: &mut state,
                keys: &mut keys,
                reply: &mut reply,
                server: &server,
                effects: &mut effects,
            };
            run.call(&mut cx, &mut Args::new(command.name, &words, row.name_words), COMMANDS)
        }
    };
    if let Err(error) = outcome {
        state.stats.at(now).node().errors += 1;
        reply.error(&error);
    }
    // Also after an error: what has been done must be told, or a replica would differ.
    if effects.is_empty() {
        return blocked::after_command(state);
    }
    deliver(ctx, By::Command(command), effects, keys, state);
}

/// Runs a command that another primary of the cluster passed on: nobody waits for an answer. `bus.rs` guards it.
pub(super) fn run_passed_on(command: &'static Command, ctx: Ctx, argv: &[Str<'_>]) -> Result<(), Error> {
    let words: Vec<&[u8]> = argv.iter().map(|word| word.bytes()).collect();
    let run = command.run.filter(|_| command.accepts(words.len())).ok_or(Error::Arity(command.name))?;
    let mut state = try_state().ok_or(Error::Internal)?;
    let mut effects = Effects::new();
    let mut keys = ServerKeys::new(ctx, argv, command.has(Flag::Write));
    let mut cx = Cx {
        now: clock_now(),
        caller: Caller { db: ctx.selected_db(), passed_on: true, ..Caller::default() },
        state: &mut state,
        keys: &mut keys,
        reply: &mut Unanswered,
        server: &ServerCaller::new(ctx),
        effects: &mut effects,
    };
    let outcome = run.call(&mut cx, &mut Args::new(command.name, &words, command.name_words()), COMMANDS);
    deliver(ctx, By::PassedOn(command), effects, keys, state);
    outcome
}

fn caller(row: Row, ctx: Ctx) -> Caller {
    if !row.writes {
        return Caller { db: ctx.selected_db(), ..Caller::default() };
    }
    let flags = if row.obeys { ctx.flags() } else { 0 };
    let obey = raw::REDISMODULE_CTX_FLAGS_REPLICATED
        | raw::REDISMODULE_CTX_FLAGS_LOADING
        | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    Caller {
        db: ctx.selected_db(),
        trusted: flags & obey != 0,
        importing: flags & SLOT_IMPORT_CLIENT != 0 && is_valkey(),
        passed_on: false,
    }
}
