//! A look at the server's own commands, before they run, while loads may be in flight (`guard-native`).
//!
//! Registered with the first lease or stamp, and taken back when the last of them is older than `max-load`: by then
//! no load is trusted any more. Every command of the server pays for it: most of them the reading of the length and
//! the first letters of the name.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use redis_module::raw;
use smallvec::SmallVec;

use super::clock::clock_now;
use super::ffi::{Ctx, OwnedStr, Str, server_may};
use super::main_thread::MainThread;
use super::panic::catch_panic;
use super::state::try_state;
use super::unmodified;
use super::{blocked, caller};
use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::native_commands::{self, Sender};
use crate::cache::unmodified::recognizer::{Recognized, Recognizer};

/// The filter, while it is registered.
/// Whether loads may be in flight, so that commands on their keys are observed.
static OBSERVES: MainThread<Cell<bool>> = MainThread::new(Cell::new(false));
/// Recognizes the commands that may concern keys of NATIVE rules, while there are such rules.
static RECOGNIZER: MainThread<RefCell<Option<Recognizer>>> = MainThread::new(RefCell::new(None));
/// The state of the rules that it is made from.
static RECOGNIZES: MainThread<Cell<u64>> = MainThread::new(Cell::new(0));
static FILTER: MainThread<Cell<Option<NonNull<raw::RedisModuleCommandFilter>>>> = MainThread::new(Cell::new(None));

/// Whether a load has begun, and no filter is registered: cheap, for every command of ours.
pub(super) fn is_missing(state: &State) -> bool {
    !OBSERVES.get().get() && state.settings.guard_native && state.tombstones.has_news()
        || state.policies.changes() != RECOGNIZES.get().get()
}

/// Registers the filter, or takes it back, as the leases of this moment need it.
pub(super) fn refresh(state: &mut State, now: Now) {
    state.tombstones.no_news();
    let serves = state.policies.has_native();
    let observes = state.watches_native_commands(now);
    OBSERVES.get().set(observes);
    let wanted = observes || serves;
    let Some(ctx) = Ctx::of_module() else { return };
    let changes = state.policies.changes();
    if RECOGNIZES.get().replace(changes) != changes {
        if serves {
            unmodified::learn_commands(ctx, state);
        }
        let made = serves.then(|| Recognizer::new(&state.commands, state.policies.native_patterns()));
        *RECOGNIZER.get().borrow_mut() = made;
    }
    match FILTER.get().get() {
        None if wanted => {
            if let Some(register) = server_may!(RedisModule_RegisterCommandFilter) {
                // SAFETY: the context lives as long as the module; our own calls need not be looked at.
                let filter =
                    unsafe { register(ctx.as_ptr(), Some(on_command), raw::REDISMODULE_CMDFILTER_NOSELF as c_int) };
                FILTER.get().set(NonNull::new(filter));
            }
        }
        Some(filter) if !wanted => {
            if let Some(unregister) = server_may!(RedisModule_UnregisterCommandFilter) {
                FILTER.get().set(None);
                // SAFETY: the filter is registered, and not being called: we are in a command or an event.
                unsafe { unregister(ctx.as_ptr(), filter.as_ptr()) };
            }
        }
        _ => {}
    }
}

/// One command of the server, before it runs.
#[derive(Clone, Copy)]
struct Filtered<'a>(NonNull<raw::RedisModuleCommandFilterCtx>, PhantomData<&'a ()>);

impl<'a> Filtered<'a> {
    /// Its word at this place.
    #[inline]
    fn word(self, at: c_int) -> Option<Str<'a>> {
        let get = server_may!(RedisModule_CommandFilterArgGet)?;
        // SAFETY: the filter's context and its words are valid for 'a; null for a place without a word.
        unsafe { Str::from_raw(get(self.0.as_ptr(), at)) }
    }

    /// How many words it has.
    fn count(self) -> c_int {
        // SAFETY: the filter's context is valid.
        server_may!(RedisModule_CommandFilterArgsCount).map_or(0, |count| unsafe { count(self.0.as_ptr()) })
    }

    /// Puts a word in front, or in place of the first.
    fn put_in_front(self, word: &CStr, replace: bool) {
        let (Some(insert), Some(replace_arg)) =
            (server_may!(RedisModule_CommandFilterArgInsert), server_may!(RedisModule_CommandFilterArgReplace))
        else {
            return;
        };
        // The server takes the string over.
        let word = OwnedStr::new(word.to_bytes()).into_raw();
        // SAFETY: the filter's context is valid; the string is the server's from now on.
        unsafe {
            match replace {
                true => replace_arg(self.0.as_ptr(), 0, word),
                false => insert(self.0.as_ptr(), 0, word),
            }
        };
    }

    fn words(self) -> SmallVec<[&'a [u8]; 8]> {
        (0..self.count()).map(|at| self.word(at).map_or(&b""[..], Str::bytes)).collect()
    }

    /// Who sends it (7.2 and later).
    fn sender(self) -> Sender {
        let (Some(id), Some(info)) =
            (server_may!(RedisModule_CommandFilterGetClientId), server_may!(RedisModule_GetClientInfoById))
        else {
            return Sender::Unknown;
        };
        // SAFETY: the filter's context is valid.
        let id = unsafe { id(self.0.as_ptr()) };
        // SAFETY: plain C data, for which all zeroes are valid but for the version that the server checks.
        let mut client: raw::RedisModuleClientInfo = unsafe { std::mem::zeroed() };
        client.version = u64::from(raw::REDISMODULE_CLIENTINFO_VERSION);
        // SAFETY: room for what the server fills in, in this version.
        let known = unsafe { info(ptr::from_mut(&mut client).cast(), id) } == raw::REDISMODULE_OK as c_int;
        // The client of a script has no number that the server knows: its commands are seen when they run.
        Sender::Client(id, known && client.flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_MULTI) != 0)
    }
}

/// Called for every command of the server, so the first look is outside the guard. It cannot panic: it reads two of the
/// server's strings, and tables by `get`, masked, or modulo their size.
unsafe extern "C" fn on_command(filtered: *mut raw::RedisModuleCommandFilterCtx) {
    let Some(filtered) = NonNull::new(filtered).map(|filtered| Filtered(filtered, PhantomData)) else { return };
    let Some(name) = filtered.word(0).map(Str::bytes) else { return };
    if let Ok(recognizer) = RECOGNIZER.get().try_borrow()
        && let Some(recognizer) = &*recognizer
    {
        let word = |at: usize| filtered.word(at as c_int).map(Str::bytes);
        match recognizer.recognize(name, || filtered.count() as usize, word) {
            Recognized::Perhaps if serve(filtered) => return,
            Recognized::Users => caller::forget_permissions(),
            Recognized::Perhaps | Recognized::No => {}
        }
    }
    if OBSERVES.get().get() && native_commands::is_watched(name) {
        observe(filtered);
    }
}

/// Has an internal command serve it, if it concerns a key of a NATIVE rule.
fn serve(filtered: Filtered<'_>) -> bool {
    catch_panic("the command filter", false, || {
        let (Some(name), Some(state), Some(ctx)) = (filtered.word(0), try_state(), Ctx::of_module()) else {
            return false;
        };
        let word = |at| filtered.word(c_int::try_from(at).ok()?).map(Str::bytes);
        let keys_of = |ctx: Ctx<'_>| {
            let words: SmallVec<[Str<'_>; 8]> = (0..filtered.count()).filter_map(|at| filtered.word(at)).collect();
            ctx.keys_of(&words).into_iter().map(|(at, _)| at).collect()
        };
        let count = filtered.count() as usize;
        let Some((command, replaces)) = unmodified::internal(ctx, &state, name.bytes(), count, word, keys_of) else {
            return false;
        };
        filtered.put_in_front(command, replaces);
        true
    })
}

#[cold]
#[inline(never)]
fn observe(filtered: Filtered<'_>) {
    catch_panic("the command filter", (), || {
        let words = filtered.words();
        let Some(mut state) = try_state() else { return };
        let now = clock_now();
        state.observe_native(&words, filtered.sender(), now);
        if state.leases.take_dirty() {
            blocked::refresh_answers(&mut state, now);
        }
    });
}
