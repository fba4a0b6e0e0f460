//! From C to Rust: one generic trampoline for each row of the command table.
//!
//! A trampoline turns `argv` into words, takes the time, runs the command behind the panic guard, replies with the
//! error if there is one, and has the effects delivered (`deliver.rs`).
//!
//! A command that panics leaves the connection and the replicas in step: the effects that it had left are delivered,
//! the keys that it may have changed without an effect are replicated as they are now, and its reply is completed.

use std::cell::RefMut;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redis_module::raw;
use seq_macro::seq;
use smallvec::SmallVec;

use super::after_command::after_command;
use super::caller::ServerCaller;
use super::clock::{cached_now, clock_now};
use super::deliver::deliver;
use super::ffi::{ClientCtx, Ctx, OwnedStr, Str, is_valkey};
use super::keys::WriteMode;
use super::keyspace::ServerKeys;
use super::panic::{catch_panic, caught, try_run};
use super::pass_on::pass_on;
use super::replicate::Outgoing;
use super::reply::ServerReply;
use super::state::try_state;
use super::{blocked, reemit, sweep_timer, sweep_waiters, workers};
use crate::cache::effects::{Effect, Effects};
use crate::cache::error::Error;
use crate::cache::ports::Unanswered;
use crate::cache::{Caller, Cx, Key, State, units};
use crate::commands::COMMANDS;
use crate::commands::args::Args;
use crate::commands::spec::{Access, Command, Flag, Keys};

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
    let (ctx, argv) = unsafe { (ClientCtx::from_raw(ctx), Str::slice(argv, argc)) };
    let Some(ctx) = ctx else { return raw::REDISMODULE_ERR as c_int };
    // Only rows of the table are registered: spare trampolines are never called.
    let Some(row) = (const { Row::at(INDEX) }) else { return raw::REDISMODULE_ERR as c_int };
    let words: Words<'_> = argv.iter().map(|word| word.bytes()).collect();
    // Outside the guard, so that they survive a panic.
    let mut reply = ServerReply::new(ctx);
    let mut effects = Effects::new();
    let run = AssertUnwindSafe(|| call(row, argv, &words, &mut reply, &mut effects));
    if catch_unwind(run).is_err() {
        after_panic(row, argv, &words, &mut reply, &mut effects);
    }
    raw::REDISMODULE_OK as c_int
}

type Words<'a> = SmallVec<[&'a [u8]; 8]>;

/// The facts of a row of the table that every call needs, computed at compile time.
#[derive(Clone, Copy)]
struct Row {
    command: &'static Command,
    name_words: usize,
    writes: bool,
    mode: Option<WriteMode>,
    /// It obeys our primary and our AOF where it would check a client.
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
            mode: write_mode(command),
            obeys: command.has(Flag::Internal) || matches!(command.keys, Keys::None),
        })
    }
}

fn call<'w>(row: Row, argv: &[Str<'_>], words: &'w [&'w [u8]], reply: &mut ServerReply<'_>, effects: &mut Effects<'w>) {
    let Row { command, writes, .. } = row;
    let ctx = reply.ctx();
    if let Keys::CountedPairs(access) = command.keys
        && ctx.wants_key_positions()
    {
        return key_places(*ctx, command.keys, argv).for_each(|at| ctx.key_at(argv, at, access_flags(access)));
    }
    if let Keys::OfNative(_) = command.keys
        && ctx.wants_key_positions()
    {
        let keys = ctx.keys_of(argv.get(1..).unwrap_or_default());
        return keys.into_iter().for_each(|(at, flags)| ctx.key_at(argv, at + 1, flags));
    }
    let Some(mut state) = try_state() else {
        // Another module called us from inside a keyspace event of our own.
        return reply.fail(&Error::Refused("SmartCache is in the middle of a command".into()));
    };
    let mut keys = ServerKeys::new(*ctx, argv, row.mode);
    let server = ServerCaller::new(*ctx);
    // Stamps need the real clock; a read is content with the server's, which is 24 ns cheaper.
    let now = if writes { clock_now() } else { cached_now() };
    state.stats.calls += 1;
    let run = command.run.filter(|_| command.accepts(words.len()));
    let outcome = match run {
        None => Err(Error::Arity(command.name)),
        Some(run) => {
            let mut cx = Cx {
                now,
                caller: caller(row, *ctx),
                state: &mut state,
                keys: &mut keys,
                reply,
                server: &server,
                effects,
            };
            run.call(&mut cx, &mut Args::new(command.name, words, row.name_words), COMMANDS)
        }
    };
    if let Err(error) = outcome {
        state.stats.at(now).node().errors += 1;
        reply.fail(&error);
    }
    // Also after an error: changes must be replicated.
    if effects.is_empty() {
        return after_command(state);
    }
    finish(command, argv, words, reply, effects, keys, state);
}

/// Delivers the effects of a command that has returned.
#[inline(never)]
fn finish<'w>(
    command: &'static Command,
    argv: &[Str<'_>],
    words: &'w [&'w [u8]],
    reply: &mut ServerReply<'_>,
    effects: &mut Effects<'w>,
    mut keys: ServerKeys<'_>,
    mut state: RefMut<'_, State>,
) {
    let ctx = reply.ctx();
    let names = keys.names();
    let mut outgoing = Outgoing::new(*ctx);
    let for_caller = |state: &mut State, outgoing: &mut Outgoing<'_>, effect| match effect {
        Effect::ReplicateVerbatim => outgoing.command(command, argv),
        Effect::PassOn(how) => pass_on(*ctx, state, command, words, &how),
        Effect::Park(id) => blocked::park(reply, state, command.name.as_bytes(), id),
        Effect::Wait(id) => sweep_waiters::wait(reply, state, id),
        Effect::Compress(job) => workers::submit(state, *job),
        _ => {}
    };
    let (events, delivered) = deliver(*ctx, effects, &mut keys, &mut state, &mut outgoing, for_caller);
    if delivered.is_err() {
        resync(&mut outgoing, command, argv, &mut keys, &mut state);
        reply.fail(&Error::Internal);
    }
    drop(outgoing); // sent before anything that a subscriber to the events replicates
    // A subscriber to these events (another module) may call us: by then nothing of ours is open or borrowed.
    drop(keys);
    catch_panic("what follows a command", (), || {
        sweep_timer::refresh(&mut state);
        after_command(state);
    });
    events.send(*ctx, names);
}

/// The command has panicked: delivers the effects that it has left, replicates its other possible changes, and
/// completes its reply. The state is released, and as the panic left it.
#[cold]
#[inline(never)]
fn after_panic<'w>(
    row: Row,
    argv: &[Str<'_>],
    words: &'w [&'w [u8]],
    reply: &mut ServerReply<'_>,
    effects: &mut Effects<'w>,
) {
    let (ctx, command) = (reply.ctx(), row.command);
    caught(command.name);
    catch_panic("what follows a panic", (), || {
        let Some(mut state) = try_state() else { return };
        let mut keys = ServerKeys::new(*ctx, argv, row.mode);
        let names = keys.names();
        let mut outgoing = Outgoing::new(*ctx);
        let for_caller = |state: &mut State, outgoing: &mut Outgoing<'_>, effect| match effect {
            Effect::ReplicateVerbatim => outgoing.command(command, argv),
            Effect::PassOn(how) => pass_on(*ctx, state, command, words, &how),
            Effect::Compress(job) => workers::submit(state, *job),
            other => give_up_waiting(state, &other),
        };
        let (events, _) = deliver(*ctx, effects, &mut keys, &mut state, &mut outgoing, for_caller);
        if row.writes {
            resync(&mut outgoing, command, argv, &mut keys, &mut state);
        }
        drop(outgoing);
        drop(keys);
        sweep_timer::refresh(&mut state);
        after_command(state);
        events.send(*ctx, names);
    });
    catch_panic("the rest of a reply", (), || reply.fail(&Error::Internal));
}

/// A caller who was to wait gets an error instead.
fn give_up_waiting(state: &mut State, effect: &Effect<'_>) {
    match effect {
        Effect::Park(id) => blocked::unpark(state, *id),
        Effect::Wait(id) => drop(state.sweep.cancel_wait(*id)),
        _ => {}
    }
}

/// Replicates what the command may have changed without leaving an effect: its keys; or for a command without keys
/// all marks and rules, and that the rule which it names is gone, if it is.
#[cold]
fn resync(
    outgoing: &mut Outgoing<'_>,
    command: &Command,
    argv: &[Str<'_>],
    keys: &mut ServerKeys<'_>,
    state: &mut State,
) {
    if matches!(command.keys, Keys::None) {
        if let (Some(("SMARTCACHE.RULE", _)), Some(name)) = (command.parent(), argv.get(2))
            && !state.policies.commanded().any(|rule| rule.name().as_bytes() == name.bytes())
        {
            outgoing.rule([OwnedStr::new(b"DEL"), OwnedStr::hold(*name)].into_iter());
        }
        return reemit::start();
    }
    for at in key_places(outgoing.ctx(), command.keys, argv) {
        let Some(name) = argv.get(at) else { continue };
        let key = Key { name: name.bytes(), arg: u16::try_from(at).ok() };
        catch_panic("the replication of a key after a panic", (), || outgoing.resync(keys, state, key));
    }
}

/// How a command opens its keys, if it may change them. Of the commands that write, those that take any number of keys
/// are the ones that end entries.
const fn write_mode(command: &Command) -> Option<WriteMode> {
    match command.keys {
        _ if !command.has(Flag::Write) => None,
        Keys::All(_) => Some(WriteMode::END),
        _ => Some(WriteMode::COMMAND),
    }
}

/// Which words of a command are its keys.
fn key_places(ctx: Ctx<'_>, keys: Keys, argv: &[Str<'_>]) -> impl Iterator<Item = usize> {
    let words = argv.len();
    let range = |first: usize, step: usize, count: usize| (first..words).step_by(step).take(count).collect();
    let places: SmallVec<[usize; 8]> = match keys {
        Keys::None => SmallVec::new(),
        Keys::One(_) => range(1, 1, 1),
        Keys::All(_) => range(1, 1, words),
        Keys::CountedPairs(_) => {
            let counted = argv.get(1).and_then(|count| units::parse_int(count.bytes()).ok()).unwrap_or(0);
            range(2, 2, usize::try_from(counted).unwrap_or(0))
        }
        Keys::OfNative(_) => ctx.keys_of(argv.get(1..).unwrap_or_default()).into_iter().map(|(at, _)| at + 1).collect(),
    };
    places.into_iter()
}

/// What is done to a key, in the server's flags.
pub(super) fn access_flags(access: Access) -> u32 {
    match access {
        Access::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
        Access::Overwrite => raw::REDISMODULE_CMD_KEY_OW | raw::REDISMODULE_CMD_KEY_UPDATE,
        Access::Update => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE,
        Access::Delete => raw::REDISMODULE_CMD_KEY_RM | raw::REDISMODULE_CMD_KEY_DELETE,
        Access::ReadUpdate => {
            raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE
        }
    }
}

/// Runs a command that another primary of the cluster has passed on: it has no caller here. What it replicates waits in
/// `outgoing`.
pub(super) fn run_passed_on(
    command: &'static Command,
    ctx: Ctx<'_>,
    argv: &[Str<'_>],
    outgoing: &mut Outgoing<'_>,
) -> Result<(), Error> {
    let words: Vec<&[u8]> = argv.iter().map(|word| word.bytes()).collect();
    let run = command.run.filter(|_| command.accepts(words.len())).ok_or(Error::Arity(command.name))?;
    let mut state = try_state().ok_or(Error::Internal)?;
    let mut effects = Effects::new();
    let mut keys = ServerKeys::new(ctx, argv, write_mode(command));
    let outcome = try_run(command.name, || {
        let mut cx = Cx {
            now: clock_now(),
            caller: Caller { db: ctx.selected_db(), passed_on: true, ..Caller::default() },
            state: &mut state,
            keys: &mut keys,
            reply: &mut Unanswered,
            server: &ServerCaller::nobody(ctx),
            effects: &mut effects,
        };
        run.call(&mut cx, &mut Args::new(command.name, &words, command.name_words()), COMMANDS)
    });
    let names = keys.names();
    let for_caller = |state: &mut State, outgoing: &mut Outgoing<'_>, effect| match effect {
        Effect::ReplicateVerbatim => outgoing.command(command, argv),
        Effect::Compress(job) => workers::submit(state, *job),
        other => give_up_waiting(state, &other), // and nothing is passed on twice
    };
    let (events, delivered) = deliver(ctx, &mut effects, &mut keys, &mut state, outgoing, for_caller);
    if outcome.is_none() || delivered.is_err() {
        resync(outgoing, command, argv, &mut keys, &mut state);
    }
    drop(keys);
    sweep_timer::refresh(&mut state);
    after_command(state);
    events.send(ctx, names);
    outcome.unwrap_or(Err(Error::Internal))
}

fn caller(row: Row, ctx: Ctx<'_>) -> Caller {
    if !row.writes {
        return Caller { db: ctx.selected_db(), ..Caller::default() };
    }
    let flags = if row.obeys { ctx.flags() } else { 0 };
    // During a load beside what is served (`ASYNC_LOADING`) commands are those of clients.
    let obey = raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING;
    Caller {
        db: ctx.selected_db(),
        trusted: flags & obey != 0,
        importing: flags & SLOT_IMPORT_CLIENT != 0 && is_valkey(),
        passed_on: false,
    }
}
