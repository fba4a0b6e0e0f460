//! The worker thread that compresses large values, and the way its results come back.
//!
//! ```text
//! SET ─ submit ─▶ channel ─▶ worker: compress ─▶ channel ─▶ notice (event loop, once) ─▶ timer: swap in
//! ```
//!
//! The worker calls two functions of the server: the allocator, and `EventLoopAddOneShot`, which is made for other
//! threads. A one-shot runs outside any unit of execution, where not even a lazy expiry may happen: so it only
//! sets a timer, and the timer does the work, at most [`SLICE`] at a time. The swap changes how a value is stored,
//! not what it is: nothing is replicated or signalled. Policy and bounds are in `cache/codec/offload.rs`.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clock::clock_now;
use super::ffi::{Ctx, OwnedStr, must_not_write, server};
use super::keys::{KeyKind, WriteKey, WriteMode};
use super::log;
use super::main_thread::MainThread;
use super::panic::catch_panic;
use super::state::{invalidations, try_state, with_state};
use super::timer::{self, Timer};
use crate::cache::State;
use crate::cache::codec::Codecs;
use crate::cache::codec::offload::{self, Done, Job};

/// How long one timer may swap.
const SLICE: Duration = Duration::from_millis(1);
/// How long to wait when the server must not be disturbed (paused, or failing over).
const LATER_MS: i64 = 20;

/// What a worker sends back: a result, or after a panic the queued bytes of the job.
type Outcome = Result<Done, usize>;

struct Worker {
    jobs: Option<Sender<Job>>,
    results: Option<Receiver<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

static WORKER: MainThread<RefCell<Worker>> =
    MainThread::new(RefCell::new(Worker { jobs: None, results: None, thread: None }));

/// The cores that the process had when the module was loaded: later the server may pin its main thread
/// (`server_cpulist`), and threads inherit that.
static CORES: LazyLock<libc::cpu_set_t> = LazyLock::new(|| {
    // SAFETY: plain C data, filled in by the call.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cores);
        cores
    }
});

/// The main thread was notified and its timer has not run yet.
static NOTIFIED: AtomicBool = AtomicBool::new(false);
/// The server is going down: jobs are left undone.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Keeps for later which cores the process may use at the load.
pub(super) fn remember() {
    LazyLock::force(&CORES);
}

/// Hands a job to the worker, which starts at the first.
pub(super) fn submit(state: &mut State, job: Job) {
    let mut worker = WORKER.get().borrow_mut();
    let room = job.queued_bytes();
    if worker.jobs.is_none() && !STOPPING.load(Relaxed) {
        let (jobs, inbox) = channel();
        let (outbox, results) = channel();
        match std::thread::Builder::new().name("smartcache".into()).spawn(move || work(&inbox, &outbox)) {
            Ok(thread) => {
                worker.jobs = Some(jobs);
                worker.results = Some(results);
                worker.thread = Some(thread);
            }
            Err(why) => log::warning(&format!("no thread for compression, large values stay as they are: {why}")),
        }
    }
    if worker.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
        state.offload.lost(room);
    }
}

/// Waits for the worker, so that it does not run while the process is being taken down.
pub(super) fn stop() {
    STOPPING.store(true, SeqCst);
    let mut worker = WORKER.get().borrow_mut();
    worker.jobs = None;
    if let Some(thread) = worker.thread.take()
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
    catch_panic("the notice of a worker", (), || set_timer(0));
}

fn set_timer(after_ms: i64) {
    timer::start::<WorkerTimer>(after_ms, 0);
}

struct WorkerTimer;

impl Timer for WorkerTimer {
    const NAME: &'static str = "the timer of the workers";

    fn fire(ctx: Ctx<'_>, _: usize) {
        if must_not_write() || try_state().is_none() {
            return set_timer(LATER_MS);
        }
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            let Some(outcome) = next_outcome() else {
                NOTIFIED.store(false, SeqCst); // results from here on notify again
                match next_outcome() {
                    None => return,
                    Some(outcome) => take(ctx, outcome), // sent just before
                }
                continue;
            };
            take(ctx, outcome);
        }
        // One timer at a time: a worker that notifies meanwhile finds this one set.
        NOTIFIED.store(true, SeqCst);
        set_timer(0);
    }

    fn recover(_: usize) {
        NOTIFIED.store(true, SeqCst);
        set_timer(LATER_MS);
    }
}

/// The next result, if one has come. The worker is not borrowed while the server is called: it may call us back.
fn next_outcome() -> Option<Outcome> {
    WORKER.get().borrow().results.as_ref().and_then(|results| results.try_recv().ok())
}

fn take(ctx: Ctx<'_>, outcome: Outcome) {
    match outcome {
        Ok(done) => {
            let swapped = catch_panic("the swap of a value", false, || swap(ctx, &done));
            with_state(|state| state.offloaded(&done, swapped));
        }
        Err(room) => with_state(|state| {
            state.stats.at(clock_now()).node().panics += 1;
            state.offload.lost(room);
        }),
    }
}

/// Puts the compressed form in, if the entry still holds the bytes that were copied.
fn swap(ctx: Ctx<'_>, done: &Done) -> bool {
    let job = &done.job;
    if done.stored.is_none() || !ctx.select_db(job.db) {
        return false;
    }
    let name = OwnedStr::new(&job.key);
    let mut key = WriteKey::open(ctx, name.borrow(), WriteMode::QUIET);
    if key.read().kind() != KeyKind::Ours {
        return false;
    }
    // SAFETY: the key holds one of ours; until the entry was used for the last time nothing else is opened or called.
    let entry = unsafe { key.read().entry() };
    let Some(mut packed) = done.repack(entry) else { return false };
    invalidations().index_entry(job.db, &job.key, &mut packed.as_mut());
    let (swapped, unused) = match key.replace(packed) {
        Ok(old) => (true, old),
        Err(new) => (false, new),
    };
    invalidations().unindex_entry(job.db, &job.key, unused.as_ref());
    swapped
}
