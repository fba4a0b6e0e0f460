//! The worker thread that compresses large values, and the way its results come back.
//!
//! ```text
//! SET ─ submit ─▶ channel ─▶ worker: compress ─▶ channel ─▶ bell (event loop, once) ─▶ timer: swap in
//! ```
//!
//! The worker calls two functions of the server: the allocator, and `EventLoopAddOneShot`, which is made for other
//! threads. A one-shot runs outside any unit of execution, where not even a lazy expiry may happen: so it only
//! sets a timer, and the timer does the work, at most [`SLICE`] at a time. The swap changes how a value is stored,
//! not what it is: nobody is told. Policy and bounds are in `cache/offload.rs`.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lazy_static::lazy_static;
use redis_module::raw;

use super::ffi::{Ctx, KeyKind, Mode, OwnedStr, server};
use super::{catch_panic, context, datatype, log, try_state, with_state};
use crate::cache::State;
use crate::cache::codec::Codecs;
use crate::cache::codec::offload::{self, Done, Job};
use crate::cache::entry::EntryRef;

/// How long one timer may swap.
const SLICE: Duration = Duration::from_millis(1);
/// How long to wait when the server must not be disturbed (paused, or failing over).
const LATER_MS: i64 = 20;

/// What a worker brings back: a result, or the room that a job took when the worker panicked over it.
type Outcome = Result<Done, usize>;

struct Worker {
    jobs: Option<Sender<Job>>,
    results: Option<Receiver<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

struct MainThread(RefCell<Worker>);
// SAFETY: only used on the main thread: `submit` by commands, `swap_in` by timers, `stop` by the shutdown event.
unsafe impl Sync for MainThread {}

lazy_static! {
    static ref WORKER: MainThread = MainThread(RefCell::new(Worker { jobs: None, results: None, thread: None }));
}

lazy_static! {
    /// The cores that the process had when the module was loaded: later the server may pin its main thread
    /// (`server_cpulist`), and threads inherit that.
    static ref CORES: libc::cpu_set_t = {
        // SAFETY: plain C data, filled in by the call.
        unsafe {
            let mut cores: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cores);
            cores
        }
    };
}

/// A bell has been rung and its timer has not run yet.
static NOTIFIED: AtomicBool = AtomicBool::new(false);
/// The server is going down: leave the jobs.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Keeps for later which cores the process may use at the load.
pub(super) fn remember() {
    lazy_static::initialize(&CORES);
}

/// Hands a job to the worker, which starts at the first.
pub(super) fn submit(state: &mut State, job: Job) {
    let mut crew = WORKER.0.borrow_mut();
    let room = job.queued_bytes();
    if crew.jobs.is_none() && !STOPPING.load(Relaxed) {
        let (jobs, inbox) = channel();
        let (outbox, results) = channel();
        match std::thread::Builder::new().name("smartcache".into()).spawn(move || work(&inbox, &outbox)) {
            Ok(thread) => {
                crew.jobs = Some(jobs);
                crew.results = Some(results);
                crew.thread = Some(thread);
            }
            Err(why) => log::warning(&format!("no thread for compression, large values stay as they are: {why}")),
        }
    }
    if crew.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
        state.offload.lost(room);
    }
}

/// Waits for the worker, so that it does not run while the process is being taken down.
pub(super) fn stop() {
    STOPPING.store(true, SeqCst);
    let mut crew = WORKER.0.borrow_mut();
    crew.jobs = None;
    if let Some(thread) = crew.thread.take()
        && thread.join().is_err()
    {
        log::warning("the compression thread had panicked");
    }
}

fn work(jobs: &Receiver<Job>, results: &Sender<Outcome>) {
    configure_thread();
    let mut codecs = Codecs::new();
    while let Ok(job) = jobs.recv() {
        let room = job.queued_bytes();
        if STOPPING.load(Relaxed) {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| offload::run(job, &mut codecs))).map_err(|_| {
            codecs = Codecs::new();
            room
        });
        if results.send(outcome).is_err() {
            return;
        }
        notify();
    }
}

/// Signals are the main thread's, and so may be the core that it is pinned to.
fn configure_thread() {
    // SAFETY: plain C data, filled in by the calls before it is used; both calls concern this thread alone.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &*CORES);
    }
}

/// Asks the main thread to come by, once for any number of results.
fn notify() {
    if !NOTIFIED.swap(true, SeqCst) {
        // SAFETY: this call may be made from any thread; the callback takes no data.
        unsafe { server!(RedisModule_EventLoopAddOneShot)(Some(on_notified), ptr::null_mut()) };
    }
}

unsafe extern "C" fn on_notified(_data: *mut c_void) {
    catch_panic("the workers' bell", (), || set_timer(0));
}

fn set_timer(after_ms: i64) {
    // SAFETY: the context lives as long as the module; the callback takes no data.
    unsafe { server!(RedisModule_CreateTimer)(context(), after_ms, Some(swap_in), ptr::null_mut()) };
}

unsafe extern "C" fn swap_in(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    catch_panic("the workers' timer", (), || {
        // SAFETY: takes nothing, returns a number: whether writing now would end the server (it is paused).
        if unsafe { server!(RedisModule_AvoidReplicaTraffic)() } != 0 || try_state().is_none() {
            return set_timer(LATER_MS);
        }
        // SAFETY: the timer's context, valid until we return.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            let Some(outcome) = next_outcome() else {
                NOTIFIED.store(false, SeqCst); // what is sent from here on rings again
                match next_outcome() {
                    None => return,
                    Some(outcome) => take(ctx, outcome), // sent just before
                }
                continue;
            };
            take(ctx, outcome);
        }
        // One timer at a time: a bell that rings meanwhile finds this one set.
        NOTIFIED.store(true, SeqCst);
        set_timer(0);
    });
}

/// The next result, if one has come. The crew is not held while the server is called: it may call us back.
fn next_outcome() -> Option<Outcome> {
    WORKER.0.borrow().results.as_ref().and_then(|results| results.try_recv().ok())
}

fn take(ctx: Ctx, outcome: Outcome) {
    match outcome {
        Ok(done) => {
            let swapped = swap(ctx, &done);
            with_state(|state| state.offloaded(&done, swapped));
        }
        Err(room) => with_state(|state| {
            state.stats.at(super::clock_now()).node().panics += 1;
            state.offload.lost(room);
        }),
    }
}

/// Puts the compressed form in, if the entry is still the one that was copied.
fn swap(ctx: Ctx, done: &Done) -> bool {
    let Some(stored) = &done.stored else { return false };
    if !ctx.select_db(done.db) {
        return false;
    }
    let name = OwnedStr::new(&done.key);
    let key = ctx.open(name.borrow(), Mode::Swap);
    if key.kind() != KeyKind::Ours {
        return false;
    }
    // SAFETY: the key is open and holds a value of our type; the entry is used only while it is.
    let entry = EntryRef::from_bytes(unsafe { datatype::bytes(key.value()) });
    if entry.stamp().0 != done.stamp || entry.raw_len() != done.raw_len {
        return false;
    }
    let mut packed = entry.repacked(done.codec, done.raw_len, stored);
    datatype::invalidations().joined(done.db, &done.key, &mut packed.as_mut());
    let (swapped, unused) = match key.replace(datatype::into_raw(packed)) {
        Ok(old) => (true, old),
        Err(new) => (false, new),
    };
    // SAFETY: one of ours, which the server has let go of or never taken; `entry` is not used any more.
    unsafe {
        datatype::invalidations().left(done.db, &done.key, EntryRef::from_bytes(datatype::bytes(unused)));
        datatype::free(unused);
    }
    swapped
}
