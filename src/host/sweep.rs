//! Gives the sweep (`cache/sweep.rs`) its time: a timer, a slice of about a millisecond, a rest.
//!
//! A slice comes so often that all of them together stay at `sweep-effort` of the main thread's time: twice that while much
//! is to be done, half of the time while somebody waits. Only a primary frees anything, and not while the server must not
//! be disturbed (paused, failing over, loading); previews only look, and go on everywhere.
//!
//! Keys are deleted as a client's `UNLINK` would: replicated, with a tracking signal and the event `del`. All keys are
//! walked over with the server's own scan, which sees each that is there from begin to end, whatever else changes.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use lazy_static::lazy_static;
use redis_module::raw;

use super::datatype;
use super::deliver::{By, deliver, replicate_mark};
use super::ffi::{Ctx, OwnedStr, Str, server, server_may};
use super::keyspace::ServerKeys;
use super::{cached_now, catch_panic, clock_now, context, sweep_waiters, try_state};
use crate::cache::effects::Effects;
use crate::cache::entry::EntryRef;
use crate::cache::ids::TagId;
use crate::cache::invalidation::sweep::{Job, Walk};
use crate::cache::{Key, State};

/// How long one timer may work.
const SLICE: Duration = Duration::from_millis(1);
/// The same while nobody needs it to be quick: freeing what a flush has left.
const FREEING: Duration = Duration::from_micros(500);
/// Keys to look at that make the effort double.
const MUCH: u64 = 100_000;
/// The effort while somebody waits.
const WAITED_FOR: f64 = 0.5;
/// How long to wait when the server must not be disturbed.
const LATER_MS: i64 = 20;
/// Keys that are dealt with between two looks at the clock.
const BATCH: usize = 16;

#[derive(Default)]
struct Host {
    /// Where walks over all keys are, by their numbers.
    cursors: HashMap<u64, Cursor>,
    /// What replicas are to be told of marks, and of which database.
    to_say: Vec<(i32, Vec<Vec<u8>>)>,
    timer: bool,
}

/// A place in the server's scan; freed when dropped.
struct Cursor(*mut raw::RedisModuleScanCursor);

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(destroy) = server_may!(RedisModule_ScanCursorDestroy) {
            // SAFETY: made by `ScanCursorCreate`, and not used any more.
            unsafe { destroy(self.0) }
        }
    }
}

struct MainThread(RefCell<Host>);
// SAFETY: commands, timers and events run on the server's main thread only.
unsafe impl Sync for MainThread {}

lazy_static! {
    static ref SWEEP: MainThread = MainThread(RefCell::default());
}

/// To be called when something may be to be done: sees to the timer.
pub(super) fn refresh(state: &mut State) {
    state.sweep_arrivals();
    let due = |due| due == 0 || due <= clock_now().mono_ms();
    if state.invalidations.has_deferred_frees() || state.sweep.has_answers() || state.sweep.next_due().is_some_and(due)
    {
        wake();
    }
}

/// Replicas are to be told this.
pub(super) fn replicate_marks(words: Vec<(i32, Vec<Vec<u8>>)>) {
    if !words.is_empty() {
        SWEEP.0.borrow_mut().to_say.extend(words);
        wake();
    }
}

/// There is something to do.
pub(super) fn wake() {
    if !SWEEP.0.borrow().timer {
        set_timer(1);
    }
}

fn set_timer(after_ms: i64) {
    SWEEP.0.borrow_mut().timer = true;
    // SAFETY: the context lives as long as the module; the callback takes no data.
    unsafe { server!(RedisModule_CreateTimer)(context(), after_ms, Some(tick), ptr::null_mut()) };
}

unsafe extern "C" fn tick(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    // Until the end of this slice nobody need set a timer: it says when the next one comes.
    let next = catch_panic("the sweep", Some(LATER_MS), || {
        // SAFETY: the timer's context, valid until we return.
        work(unsafe { Ctx::from_raw(ctx) }?)
    });
    match next {
        Some(after_ms) => set_timer(after_ms),
        None => SWEEP.0.borrow_mut().timer = false,
    }
}

/// Whether keys may be deleted now: by a primary that is not to be left alone.
fn may_free(ctx: Ctx) -> bool {
    let loading = raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    // SAFETY: takes nothing, returns a number: whether writing now would end the server (it is paused).
    let paused = unsafe { server!(RedisModule_AvoidReplicaTraffic)() } != 0;
    ctx.flags() & loading == 0 && !paused
}

/// One slice; when to come again, in milliseconds, if there is more to do.
fn work(ctx: Ctx) -> Option<i64> {
    let began = Instant::now();
    let more_to_free = free_deferred(began);
    let Some(mut state) = try_state() else { return Some(LATER_MS) };
    if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE != 0 {
        state.sweep.clear(); // its primary frees what is to be freed, and says what is to be forgotten
        SWEEP.0.borrow_mut().to_say.clear();
    }
    let may_free = may_free(ctx);
    if may_free {
        let to_say = std::mem::take(&mut SWEEP.0.borrow_mut().to_say);
        for (db, words) in to_say {
            if ctx.select_db(db) {
                replicate_mark(ctx, &words);
            }
        }
    }
    let effort = effort(&state);
    let frees = state.settings.sweep_effort > 0.0 && may_free;
    while began.elapsed() < SLICE {
        let Some(job) = state.sweep.next(frees, clock_now()) else { break };
        go_on(ctx, state, job);
        state = try_state()?; // given back by then
    }
    state.sweep.give_up(clock_now());
    sweep_waiters::send(&mut state);
    SWEEP.0.borrow_mut().cursors.retain(|id, _| state.sweep.has(*id));
    let rest = |effort: f64| ((began.elapsed().as_secs_f64() * 1_000.0 * (1.0 / effort - 1.0)) as i64).clamp(1, 1_000);
    match state.sweep.next(frees, clock_now()) {
        Some(_) => Some(rest(effort.max(0.001))),
        None if state.sweep.next_due() == Some(0) => Some(LATER_MS), // when it may free again
        None if !SWEEP.0.borrow().to_say.is_empty() => Some(LATER_MS),
        None => more_to_free.then(|| rest(0.05)), // the cron comes by for what is due later
    }
}

/// Frees a little of what flushes have left; whether there is more.
fn free_deferred(began: Instant) -> bool {
    while datatype::invalidations().free_some() {
        if began.elapsed() > FREEING {
            return true;
        }
    }
    false
}

fn effort(state: &State) -> f64 {
    let effort = state.settings.sweep_effort;
    if state.sweep.is_waited_for() {
        return effort.max(WAITED_FOR);
    }
    if state.sweep_backlog() > MUCH { (effort * 2.0).min(1.0) } else { effort }
}

/// Goes on with a walk, for a few keys.
fn go_on(ctx: Ctx, mut state: RefMut<'static, State>, job: Job) {
    if job.began.is_none() {
        SWEEP.0.borrow_mut().cursors.remove(&job.id); // of a database that was exchanged
    }
    let job = state.begin(job, clock_now());
    let (names, passed, more) = match job.walk {
        _ if !ctx.select_db(job.db) => (Vec::new(), 0, false),
        Walk::Members(tag) => members(&state, job, tag),
        Walk::Keys => scan(ctx, &state, job),
    };
    state.sweep.passed(job, job.passed + passed);
    if names.is_empty() {
        drop(state);
    } else {
        deal_with(ctx, state, job, &names);
    }
    if !more
        && let Some(words) = try_state().and_then(|mut state| state.swept(job))
        && ctx.select_db(job.db)
    {
        replicate_mark(ctx, &words);
    }
}

/// The next members of a tag; how many places were passed, and whether there are more.
fn members(state: &State, job: Job, tag: TagId) -> (Vec<OwnedStr>, u64, bool) {
    let from = job.passed as usize;
    let found = state.invalidations.tag_index(job.db, |index| {
        let to = index.slots(tag).min(from + BATCH);
        let names = (from..to).filter_map(|place| index.at(tag, place)).map(OwnedStr::new).collect();
        (names, to.saturating_sub(from) as u64, to < index.slots(tag))
    });
    found.unwrap_or_default()
}

/// What one call of the scan hands over.
struct Seen<'a> {
    state: &'a State,
    job: Job,
    names: Vec<OwnedStr>,
    passed: u64,
}

/// The next keys of the database that the walk has to do with; how many were passed, and whether there are more.
fn scan(ctx: Ctx, state: &State, job: Job) -> (Vec<OwnedStr>, u64, bool) {
    let (Some(scan), Some(create)) = (server_may!(RedisModule_Scan), server_may!(RedisModule_ScanCursorCreate)) else {
        return (Vec::new(), 0, false);
    };
    let mut host = SWEEP.0.borrow_mut();
    // SAFETY: takes nothing; what comes back is destroyed with `Cursor`.
    let cursor = host.cursors.entry(job.id).or_insert_with(|| Cursor(unsafe { create() })).0;
    drop(host);
    let mut seen = Seen { state, job, names: Vec::new(), passed: 0 };
    let mut more = true;
    for _ in 0..BATCH {
        // SAFETY: context and cursor are valid; the callback gets `seen`, which outlives the call.
        more = unsafe { scan(ctx.as_ptr(), cursor, Some(look), ptr::from_mut(&mut seen).cast()) } != 0;
        if !more || seen.names.len() >= BATCH {
            break;
        }
    }
    (seen.names, seen.passed, more)
}

unsafe extern "C" fn look(
    _ctx: *mut raw::RedisModuleCtx,
    name: *mut raw::RedisModuleString,
    key: *mut raw::RedisModuleKey,
    seen: *mut c_void,
) {
    catch_panic("the sweep's look", (), || {
        // SAFETY: `seen` is what `scan` handed over; name and key are the server's, valid until we return. The key is
        // asked for its value only when that is one of ours.
        unsafe {
            let seen = &mut *seen.cast::<Seen<'_>>();
            seen.passed += 1;
            if key.is_null() || server!(RedisModule_ModuleTypeGetType)(key) != datatype::type_ptr() {
                return;
            }
            let Some(name) = Str::from_raw(name) else { return };
            let entry = EntryRef::from_bytes(datatype::bytes(server!(RedisModule_ModuleTypeGetValue)(key)));
            if seen.state.is_for_sweep(seen.job, name.bytes(), entry, cached_now()) {
                seen.names.push(OwnedStr::new(name.bytes()));
            }
        }
    });
}

/// Has the walk deal with these keys, and delivers what follows.
fn deal_with(ctx: Ctx, mut state: RefMut<'_, State>, job: Job, names: &[OwnedStr]) {
    let words: Vec<Str<'_>> = names.iter().map(OwnedStr::borrow).collect();
    let mut keys = ServerKeys::to_sweep(ctx, &words, job.frees);
    let mut effects = Effects::new();
    for (at, word) in words.iter().enumerate() {
        let key = Key { name: word.bytes(), arg: Some(at as u16) };
        state.sweep_key(&mut keys, job, key, &mut effects, cached_now());
    }
    deliver(ctx, By::Ourselves, effects, keys, state);
}
