//! Gives the sweep (`cache/invalidation/sweep.rs`) its time: a timer, a slice of about a millisecond, a rest.
//!
//! What is walked, for how long, and when the next slice begins is decided in `cache/node/driver.rs`. Only a primary
//! frees anything, and not while the server must not be disturbed (paused, failing over, loading); previews only look,
//! and go on everywhere.
//!
//! All that a slice changes is replicated as one command, at its end. Keys are deleted as a client's `UNLINK` would:
//! replicated, with a tracking signal and the event `del`. A walk over all keys uses the server's own scan, which
//! reaches each key that exists from begin to end, whatever else changes.

use std::cell::{LazyCell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::time::Instant;

use redis_module::raw;

use super::after_command::after_command;
use super::clock::{cached_now, clock_now};
use super::deliver::{deliver, notify};
use super::ffi::{Ctx, OwnedStr, Str, must_not_write, server, server_may};
use super::keyspace::ServerKeys;
use super::main_thread::MainThread;
use super::panic::{catch_panic, try_run};
use super::replicate::Outgoing;
use super::state::try_state;
use super::sweep_timer::{self, SweepTimer};
use super::timer::Timer;
use super::{sweep_waiters, values};
use crate::cache::effects::{Effects, Event};
use crate::cache::ids::TagId;
use crate::cache::invalidation::sweep::{Job, Walk};
use crate::cache::{Key, State};

/// When to try again when the state is out of reach, or after a panic, in milliseconds.
const LATER_MS: i64 = 20;
/// Keys that are dealt with between two looks at the clock.
const BATCH: usize = 16;

/// How far walks over all keys have come, by the numbers of the walks.
type Cursors = RefCell<HashMap<u64, Cursor>>;

static CURSORS: MainThread<LazyCell<Cursors>> = MainThread::new(LazyCell::new(Cursors::default));

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

impl Timer for SweepTimer {
    const NAME: &'static str = "the sweep";

    fn fire(ctx: Ctx<'_>, _: usize) {
        sweep_timer::set(work(ctx));
    }

    fn recover(_: usize) {
        sweep_timer::set(Some(LATER_MS));
    }
}

/// Whether the server may be disturbed now, by deletions and what they replicate.
fn may_free(ctx: Ctx<'_>) -> bool {
    !ctx.is_loading() && !must_not_write()
}

/// What one slice leaves for its end.
struct Slice<'a> {
    outgoing: Outgoing<'a>,
    events: Vec<(i32, Event, OwnedStr)>,
}

/// One slice; when the next one begins, in milliseconds, if there is more to do.
fn work(ctx: Ctx<'_>) -> Option<i64> {
    let began = Instant::now();
    let Some(mut state) = try_state() else { return Some(LATER_MS) };
    let more_to_free = free_deferred(&mut state, began);
    if ctx.is_replica() {
        state.sweep.cancel_freeing(); // its primary frees dead entries, and replicates which marks may go
        sweep_timer::drop_marks();
        sweep_timer::take_retired();
    }
    let may_free = may_free(ctx);
    let mut slice = Slice { outgoing: Outgoing::new(ctx), events: Vec::new() };
    if may_free {
        while let Some((_, words)) = sweep_timer::next_mark(|db| slice.outgoing.is_for(db) && ctx.select_db(db)) {
            slice.outgoing.mark(&words);
        }
        for name in sweep_timer::take_retired() {
            slice.outgoing.rule([OwnedStr::new(b"DEL"), OwnedStr::new(name.as_bytes())].into_iter());
        }
    }
    let marks_alone = !slice.outgoing.is_empty(); // see `Outgoing::follow_the_keys`
    while !marks_alone && let Some(job) = state.poll_sweep(began.elapsed(), may_free, clock_now()) {
        if job.frees && !slice.outgoing.is_for(job.db) {
            break; // what a slice replicates is of one database
        }
        go_on(ctx, &mut state, job, &mut slice);
    }
    state.sweep.time_out_waiters(clock_now());
    sweep_waiters::send(&mut state);
    CURSORS.get().borrow_mut().retain(|id, _| state.sweep.contains(*id));
    state.sweep_arrivals();
    let marks_wait = sweep_timer::has_marks();
    let elapsed = began.elapsed();
    sweep_timer::rest(state.sweep_rest(elapsed));
    let after_ms = state.next_sweep_timer(elapsed, may_free, more_to_free, marks_wait, clock_now());
    after_command(state);
    slice.end(ctx);
    after_ms.map(|ms| ms as i64)
}

impl Slice<'_> {
    /// Replicates, then sends the events: a subscriber (another module) may call us or the server, so by then nothing
    /// of ours is open or borrowed, and what we did is replicated before what it does.
    fn end(self, ctx: Ctx<'_>) {
        drop(self.outgoing);
        for (db, event, name) in self.events {
            if ctx.select_db(db) {
                notify(ctx, event, name.borrow());
            }
        }
    }
}

/// Frees some of what flushes have left; whether there is more.
fn free_deferred(state: &mut State, began: Instant) -> bool {
    while state.free_some() {
        if !State::frees_on(began.elapsed()) {
            return true;
        }
    }
    false
}

/// Continues a walk, for a few keys.
fn go_on(ctx: Ctx<'_>, state: &mut State, job: Job, slice: &mut Slice<'_>) {
    if job.began.is_none() {
        CURSORS.get().borrow_mut().remove(&job.id); // of a database that was exchanged
    }
    let job = state.start_walk(job, clock_now());
    let (names, passed, more) = match job.walk {
        _ if !ctx.select_db(job.db) => (Vec::new(), 0, false),
        Walk::Tag(tag) => members(state, job, tag),
        Walk::Keys => scan(ctx, state, job),
    };
    state.sweep.advance(job, job.passed + passed);
    if !names.is_empty() {
        deal_with(ctx, state, job, names, slice);
    }
    if !more && let Some(words) = state.finish_walk(job) {
        sweep_timer::replicate_marks([(job.db, words)]);
    }
}

/// The next members of a tag; how many slots were passed, and whether there are more.
fn members(state: &State, job: Job, tag: TagId) -> (Vec<OwnedStr>, u64, bool) {
    let from = job.passed as usize;
    let found = state.invalidations.with_tag_index(job.db, |index| {
        let to = index.slot_count(tag).min(from + BATCH);
        let names = (from..to).filter_map(|slot| index.key_at(tag, slot)).map(OwnedStr::new).collect();
        (names, to.saturating_sub(from) as u64, to < index.slot_count(tag))
    });
    found.unwrap_or_default()
}

/// What the callback of the scan works with.
struct Seen<'a> {
    state: &'a State,
    job: Job,
    names: Vec<OwnedStr>,
    passed: u64,
}

/// The next keys of the database that concern the walk; how many were passed, and whether there are more.
fn scan(ctx: Ctx<'_>, state: &State, job: Job) -> (Vec<OwnedStr>, u64, bool) {
    let (Some(scan), Some(create)) = (server_may!(RedisModule_Scan), server_may!(RedisModule_ScanCursorCreate)) else {
        return (Vec::new(), 0, false);
    };
    // SAFETY: takes nothing; the cursor is destroyed when `Cursor` is dropped.
    let cursor = CURSORS.get().borrow_mut().entry(job.id).or_insert_with(|| Cursor(unsafe { create() })).0;
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
            if key.is_null() || server!(RedisModule_ModuleTypeGetType)(key) != values::type_ptr() {
                return;
            }
            let Some(name) = Str::from_raw(name) else { return };
            let entry = values::entry(server!(RedisModule_ModuleTypeGetValue)(key));
            if seen.state.is_for_sweep(seen.job, name.bytes(), entry, cached_now()) {
                seen.names.push(OwnedStr::new(name.bytes()));
            }
        }
    });
}

/// Has the walk deal with these keys, and delivers the effects: also those of keys before one that panicked.
fn deal_with(ctx: Ctx<'_>, state: &mut State, job: Job, names: Vec<OwnedStr>, slice: &mut Slice<'_>) {
    let words: Vec<Str<'_>> = names.iter().map(OwnedStr::borrow).collect();
    let mut keys = ServerKeys::to_sweep(ctx, &words, job.frees);
    let mut effects = Effects::new();
    let key_at = |at: usize| Key { name: words[at].bytes(), arg: Some(at as u16) };
    let mut panicked = false;
    for at in 0..words.len() {
        let swept = try_run("the sweep of a key", || {
            state.sweep_key(&mut keys, job, key_at(at), &mut effects, cached_now());
        });
        panicked |= swept.is_none();
    }
    let (events, delivered) = deliver(ctx, &mut effects, &mut keys, state, &mut slice.outgoing, |_, _, _| {});
    if job.frees && (panicked || delivered.is_err()) {
        for at in 0..words.len() {
            slice.outgoing.resync(&mut keys, state, key_at(at));
        }
    }
    slice.events.extend(events.owned(keys.names()).map(|(event, name)| (job.db, event, name)));
}
