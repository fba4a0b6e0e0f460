//! The sweep: the background walks that free what was invalidated, and that `PREVIEW` counts with.
//!
//! Dead entries are dead from the moment of the invalidation (`marks.rs`); the sweep frees their memory, informs
//! client-side caches, and lets marks of prefixes and patterns be forgotten. It is to marks what Varnish's *ban lurker*
//! is to bans. The lurker tests objects against one ban after another; here a walk judges each entry once, by all marks
//! that were made before it began. The host gives the sweep time in slices; `node/sweep.rs` deals with the keys.
//!
//! ```text
//!  INVALIDATE TAGS ───────────────▶ posting list of the tag ──┐         dead             deleted, as UNLINK does
//!  ALL, PREFIXES, PATTERNS ───────▶ all keys of the database ─┼─▶ key   stale by name    written into the entry
//!  entries that are not listed ───▶ all keys of the database ─┘         stale            client-side caches informed
//! ```
//!
//! A walk does not return to keys that it has passed, so every invalidation requests walks that begin after it; those
//! that have not begun are shared. Callers of `PREVIEW` and `INVALIDATE … WAIT` wait for jobs: the reply comes when all
//! of theirs have ended, or at their time limit.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::EntryRef;
use crate::cache::ids::TagId;
use crate::cache::invalidation::selector::Scope;

/// The most keys in the sample of a preview.
const MAX_SAMPLE: usize = 10;

/// What is walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// The posting list of a tag.
    Tag(TagId),
    /// All keys of the database.
    Keys,
}

/// One walk, requested or begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number. Later jobs have larger ones.
    pub id: u64,
    /// The database.
    pub db: i32,
    /// What is walked over.
    pub walk: Walk,
    /// It frees dead entries; else it only counts for a preview.
    pub frees: bool,
    /// When it may begin, in milliseconds of the monotonic clock; 0: at once.
    pub due_ms: u64,
    /// The stamp at which it began; `None` before.
    pub began: Option<Stamp>,
    /// How many slots or keys it has passed.
    pub passed: u64,
    /// How many there were when it began.
    extent: u64,
}

/// The number of a caller who waits for jobs.
pub type SweepWaiterId = u64;

/// The reply to a waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepReply {
    /// How many entries the invalidation has hit.
    Hits(u64),
    /// What the invalidation would hit.
    Preview(Preview),
}

/// What an invalidation would hit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Entries that are fresh or stale.
    pub entries: u64,
    /// The memory of their values.
    pub bytes: u64,
    /// Some of their keys.
    pub sample: Vec<Box<[u8]>>,
    /// The sum of the measured load times, in milliseconds.
    pub origin_ms: u64,
}

#[derive(Debug)]
struct SweepWaiter {
    id: SweepWaiterId,
    db: i32,
    scope: Scope,
    jobs: BTreeSet<u64>,
    until_ms: u64,
    awaits: Awaited,
}

#[derive(Debug)]
enum Awaited {
    /// How many entries the invalidation with this stamp has hit: known from the start, or counted by the walk.
    Hits {
        known: Option<u64>,
        counted: u64,
        stamp: Stamp,
    },
    Preview(Preview),
}

/// Jobs, and who waits for them.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Jobs that may run now: previews first, then posting lists, which are short, then all keys.
    lanes: [BTreeMap<u64, Job>; 3],
    /// Jobs that are due later, by time.
    scheduled: BTreeMap<(u64, u64), Job>,
    /// Jobs that free and have not begun, to be shared: by database, walk, and whether they are due later.
    requested: HashMap<(i32, Walk, bool), (u64, u64)>,
    last_id: u64,
    waiters: Vec<SweepWaiter>,
    replies: VecDeque<(SweepWaiterId, SweepReply)>,
}

impl Job {
    fn lane(&self) -> usize {
        match (self.frees, self.walk) {
            (false, _) => 0,
            (true, Walk::Tag(_)) => 1,
            (true, Walk::Keys) => 2,
        }
    }
}

impl Sweep {
    /// Requests a walk that frees, at once or not before `due_ms`, and returns its job. A job for the same walk that
    /// has not begun is shared.
    pub fn request(&mut self, db: i32, walk: Walk, due_ms: u64) -> u64 {
        let requested = (db, walk, due_ms > 0);
        if let Some((was_due, id)) = self.requested.get(&requested).copied() {
            if due_ms > was_due
                && let Some(mut job) = self.scheduled.remove(&(was_due, id))
            {
                job.due_ms = due_ms;
                self.insert(job);
            }
            return id;
        }
        self.add(db, walk, true, due_ms)
    }

    fn add(&mut self, db: i32, walk: Walk, frees: bool, due_ms: u64) -> u64 {
        self.last_id += 1;
        self.insert(Job { id: self.last_id, db, walk, frees, due_ms, began: None, passed: 0, extent: 0 });
        self.last_id
    }

    fn insert(&mut self, job: Job) {
        if job.frees && job.began.is_none() {
            self.requested.insert((job.db, job.walk, job.due_ms > 0), (job.due_ms, job.id));
        }
        if job.due_ms > 0 {
            self.scheduled.insert((job.due_ms, job.id), job);
        } else {
            self.lanes[job.lane()].insert(job.id, job);
        }
    }

    fn forget_request(&mut self, job: &Job) {
        let requested = (job.db, job.walk, job.due_ms > 0);
        if self.requested.get(&requested).is_some_and(|(_, id)| *id == job.id) {
            self.requested.remove(&requested);
        }
    }

    fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.lanes.iter().flat_map(BTreeMap::values).chain(self.scheduled.values())
    }

    fn take_jobs(&mut self) -> Vec<Job> {
        let jobs = self.jobs().copied().collect();
        (self.lanes, self.scheduled, self.requested) = Default::default();
        jobs
    }

    /// Makes a caller wait for these jobs. `known` is the number of hits, where it is known from the start.
    pub fn wait(
        &mut self,
        db: i32,
        scope: Scope,
        jobs: Vec<u64>,
        until_ms: u64,
        known: Option<u64>,
        stamp: Stamp,
    ) -> SweepWaiterId {
        self.add_waiter(db, scope, jobs, until_ms, Awaited::Hits { known, counted: 0, stamp })
    }

    /// Makes a caller wait for a preview of a scope, over these walks.
    pub fn preview(&mut self, db: i32, scope: Scope, walks: &[Walk]) -> SweepWaiterId {
        let jobs = walks.iter().map(|walk| self.add(db, *walk, false, 0)).collect();
        self.add_waiter(db, scope, jobs, u64::MAX, Awaited::Preview(Preview::default()))
    }

    fn add_waiter(&mut self, db: i32, scope: Scope, jobs: Vec<u64>, until_ms: u64, awaits: Awaited) -> SweepWaiterId {
        self.last_id += 1;
        let jobs = jobs.into_iter().collect();
        self.waiters.push(SweepWaiter { id: self.last_id, db, scope, jobs, until_ms, awaits });
        self.reply_to_finished();
        self.last_id
    }

    /// The job to go on with; only previews while `freeing` is not allowed.
    pub fn next_job(&mut self, freeing: bool, now: Now) -> Option<Job> {
        while let Some(first) = self.scheduled.first_entry().filter(|first| first.key().0 <= now.mono_ms()) {
            let mut job = first.remove();
            self.forget_request(&job);
            job.due_ms = 0;
            self.insert(job);
        }
        let lanes = if freeing { &self.lanes[..] } else { &self.lanes[..1] };
        lanes.iter().find_map(|lane| lane.values().next().copied())
    }

    /// When the next job is due, in milliseconds of the monotonic clock; 0: at once.
    pub fn next_due(&self) -> Option<u64> {
        let now = self.lanes.iter().any(|lane| !lane.is_empty()).then_some(0);
        now.or_else(|| self.scheduled.first_key_value().map(|((due, _), _)| *due))
    }

    /// Records how many slots or keys a job has passed.
    pub fn advance(&mut self, job: Job, passed: u64) {
        if let Some(job) = self.lanes[job.lane()].get_mut(&job.id) {
            job.passed = passed;
        }
    }

    /// Removes a job that has ended, and replies to the waiters that wait for no other.
    pub fn finish(&mut self, job: &Job) {
        self.forget_request(job);
        self.lanes[job.lane()].remove(&job.id);
        self.scheduled.remove(&(job.due_ms, job.id));
        self.waiters.iter_mut().for_each(|waiter| _ = waiter.jobs.remove(&job.id));
        self.reply_to_finished();
    }

    /// Ends the jobs of a database, or all, after a flush.
    pub fn flushed(&mut self, db: Option<i32>) {
        let gone: Vec<_> = self.jobs().filter(|job| db.is_none_or(|db| job.db == db)).copied().collect();
        gone.iter().for_each(|job| self.finish(job));
    }

    /// Ends the jobs that free: on a replica the primary does that.
    pub fn cancel_freeing(&mut self) {
        let gone: Vec<_> = self.jobs().filter(|job| job.frees).copied().collect();
        gone.iter().for_each(|job| self.finish(job));
    }

    /// Exchanges two databases (`SWAPDB`): their walks start over.
    pub fn swapped(&mut self, a: i32, b: i32) {
        let other = |db: &mut i32| {
            if *db == a || *db == b {
                *db = if *db == a { b } else { a };
            }
        };
        for mut job in self.take_jobs() {
            if job.db == a || job.db == b {
                (job.began, job.passed, job.extent) = (None, 0, 0);
            }
            other(&mut job.db);
            self.insert(job);
        }
        self.waiters.iter_mut().for_each(|waiter| other(&mut waiter.db));
    }

    /// The walks start over: what they have passed must be seen again.
    pub fn start_over(&mut self) {
        for mut job in self.take_jobs() {
            (job.began, job.passed, job.extent) = (None, 0, 0);
            self.insert(job);
        }
    }

    /// Replies to waiters whose time limit has passed with what is known.
    pub fn time_out_waiters(&mut self, now: Now) {
        let (timed_out, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.until_ms <= now.mono_ms());
        self.waiters = rest;
        timed_out.into_iter().for_each(|waiter| self.reply(waiter));
    }

    /// Ends the wait of one waiter and returns its reply, unless that was sent already.
    pub fn cancel_wait(&mut self, id: SweepWaiterId) -> Option<SweepReply> {
        if let Some(at) = self.waiters.iter().position(|waiter| waiter.id == id) {
            let waiter = self.waiters.remove(at);
            self.reply(waiter);
        }
        let at = self.replies.iter().position(|(of, _)| *of == id)?;
        self.replies.remove(at).map(|(_, reply)| reply)
    }

    /// The next reply to send.
    pub fn next_reply(&mut self) -> Option<(SweepWaiterId, SweepReply)> {
        self.replies.pop_front()
    }

    /// Whether there are replies to send.
    pub fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether anyone waits: then the sweep gets more time.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Whether a job may run now.
    pub fn contains(&self, id: u64) -> bool {
        self.lanes.iter().any(|lane| lane.contains_key(&id))
    }

    /// How many slots and keys the jobs that free have left; `extent` is the size of a walk that has not begun.
    pub fn backlog(&self, extent: impl Fn(&Job) -> u64) -> u64 {
        let left = |job: &Job| match job.began {
            None => extent(job).max(1),
            Some(_) => job.extent.saturating_sub(job.passed).max(1),
        };
        // Of very many posting lists the first thousand are counted and scaled up.
        let [_, posting_lists, all_keys] = &self.lanes;
        let some: u64 = posting_lists.values().take(1_000).map(left).sum();
        let scale = posting_lists.len().max(1_000) as f64 / 1_000.0;
        let keys: u64 = all_keys.values().map(left).sum();
        keys + (some as f64 * scale) as u64
    }

    /// Counts an entry that is freed, or made stale in its header, for the waiters whose invalidation hit it.
    pub fn count_hit(&mut self, db: i32, name: &[u8], entry: EntryRef<'_>) {
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.db == db) {
            if let Awaited::Hits { known: None, counted, stamp } = &mut waiter.awaits
                && entry.stamp() <= *stamp
                && waiter.scope.matches(name, entry)
            {
                *counted += 1;
            }
        }
    }

    fn reply_to_finished(&mut self) {
        if self.waiters.iter().any(|waiter| waiter.jobs.is_empty()) {
            let (done, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.jobs.is_empty());
            self.waiters = rest;
            done.into_iter().for_each(|waiter| self.reply(waiter));
        }
    }

    fn reply(&mut self, waiter: SweepWaiter) {
        // Its previews have no purpose any more.
        self.lanes[0].retain(|id, _| !waiter.jobs.contains(id));
        let reply = match waiter.awaits {
            Awaited::Hits { known, counted, .. } => SweepReply::Hits(known.unwrap_or(counted)),
            Awaited::Preview(found) => SweepReply::Preview(found),
        };
        self.replies.push_back((waiter.id, reply));
    }

    /// Whether a preview is about the entry under `name`.
    pub fn is_in_a_preview(&self, job: Job, name: &[u8], entry: EntryRef<'_>) -> bool {
        self.waiters.iter().any(|waiter| waiter.jobs.contains(&job.id) && waiter.scope.matches(name, entry))
    }

    /// Whether a preview counts the entry under `name` in this walk: once, however many of its tags are named.
    pub fn is_counted_by_preview(&self, job: Job, name: &[u8], entry: EntryRef<'_>) -> bool {
        let Some(waiter) = self.waiters.iter().find(|waiter| waiter.jobs.contains(&job.id)) else { return false };
        match (&waiter.scope, job.walk) {
            // Counted in the posting list of one of its tags that are named.
            (Scope::Tags(tags), Walk::Tag(tag)) => entry.tags().filter(|own| tags.contains(own)).min() == Some(tag),
            (scope, _) => scope.matches(name, entry),
        }
    }

    /// Adds an entry to a preview.
    pub fn add_to_preview(&mut self, job: Job, name: &[u8], bytes: u64, load_ms: u64) {
        let waiter = self.waiters.iter_mut().find(|waiter| waiter.jobs.contains(&job.id));
        let Some(Awaited::Preview(found)) = waiter.map(|waiter| &mut waiter.awaits) else { return };
        found.entries += 1;
        found.bytes += bytes;
        found.origin_ms += load_ms;
        if found.sample.len() < MAX_SAMPLE {
            found.sample.push(name.into());
        }
    }

    /// Starts a job at this stamp, over so many slots or keys, and returns it.
    pub fn start(&mut self, mut job: Job, began: Stamp, extent: u64) -> Job {
        self.forget_request(&job); // later requests need a walk that begins after them
        (job.began, job.extent) = (Some(began), extent);
        self.lanes[job.lane()].insert(job.id, job);
        job
    }
}
