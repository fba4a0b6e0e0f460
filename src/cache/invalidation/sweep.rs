//! The sweep: frees what was invalidated, key by key, and tells client-side caches of each.
//!
//! What is dead is so from the moment of its invalidation (`marks.rs`); this is about memory, and about marks of prefixes
//! and patterns, which are forgotten when a walk that began after them has been everywhere. The host gives it time in
//! slices; here is what is to be walked, and what becomes of a key.
//!
//! ```text
//!  INVALIDATE TAGS ──────────────▶ the tag's members (tag_index.rs) ─┐       dead           deleted, as UNLINK does
//!  ALL, PREFIXES, PATTERNS ──────▶ all keys of the database ─────────┼─▶ key  stale by name  written into the entry
//!  members that are not listed ──▶ all keys of the database ─────────┘       stale          client-side caches are told
//! ```
//!
//! A walk that has begun does not see what was hit behind it: an invalidation asks for another one. `PREVIEW` walks
//! likewise and changes nothing. Whoever waits for a walk is a *waiter*: answered when all walks that concern it are
//! done, or when its time is over.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::cache::clock::{Now, Stamp};
use crate::cache::entry::EntryRef;
use crate::cache::ids::TagId;
use crate::cache::invalidation::selector::Scope;

/// Keys in the sample of a preview.
const SAMPLE: usize = 10;

/// What is walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// The listed members of a tag.
    Tag(TagId),
    /// All keys of the database.
    Keys,
}

/// A walk that was requested for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// The database.
    pub db: i32,
    /// What is walked over.
    pub walk: Walk,
    /// It frees; else it only looks.
    pub frees: bool,
    /// Not before then, in milliseconds of the monotonic clock; 0: at once.
    pub due_ms: u64,
    /// When it began; `None` before.
    pub began: Option<Stamp>,
    /// How many places or keys it has passed.
    pub passed: u64,
    /// How many there were when it began.
    extent: u64,
}

/// Somebody who waits for walks.
pub type SweepWaiterId = u64;

/// What a waiter is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepReply {
    /// How many entries an invalidation has hit.
    Hits(u64),
    /// What an invalidation would hit.
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
    /// The load times of those of which it was measured, in milliseconds.
    pub origin_ms: u64,
}

#[derive(Debug)]
struct SweepWaiter {
    id: SweepWaiterId,
    db: i32,
    scope: Scope,
    jobs: Vec<u64>,
    until_ms: u64,
    awaits: Awaited,
}

#[derive(Debug)]
enum Awaited {
    /// The answer to an invalidation with this stamp, whose reply is known from the start or is counted.
    Hits {
        known: Option<u64>,
        counted: u64,
        stamp: Stamp,
    },
    Preview(Preview),
}

/// What is to be walked, and who waits for it.
#[derive(Debug, Default)]
pub struct Sweep {
    /// What can be walked now: previews first, then lists, which are short, then all keys.
    lanes: [BTreeMap<u64, Job>; 3],
    /// What is to be walked later, by when.
    later: BTreeMap<(u64, u64), Job>,
    /// Walks that free and have not begun: at once, and later.
    requested: HashMap<(i32, Walk, bool), (u64, u64)>,
    last_id: u64,
    sweep_waiters: Vec<SweepWaiter>,
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
    /// Asks for a walk that frees, at once or not before `due_ms`. One that is requested for already and has not begun will do.
    pub fn request(&mut self, db: i32, walk: Walk, due_ms: u64) -> u64 {
        let requested = (db, walk, due_ms > 0);
        if let Some((was_due, id)) = self.requested.get(&requested).copied() {
            if due_ms > was_due
                && let Some(mut job) = self.later.remove(&(was_due, id))
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
            self.later.insert((job.due_ms, job.id), job);
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
        self.lanes.iter().flat_map(BTreeMap::values).chain(self.later.values())
    }

    fn take_jobs(&mut self) -> Vec<Job> {
        let jobs = self.jobs().copied().collect();
        (self.lanes, self.later, self.requested) = Default::default();
        jobs
    }

    /// Keeps somebody waiting for these walks; `known` is the answer where it is known already.
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

    /// Looks at what is meant, over these walks.
    pub fn preview(&mut self, db: i32, scope: Scope, walks: &[Walk]) -> SweepWaiterId {
        let jobs = walks.iter().map(|walk| self.add(db, *walk, false, 0)).collect();
        self.add_waiter(db, scope, jobs, u64::MAX, Awaited::Preview(Preview::default()))
    }

    fn add_waiter(&mut self, db: i32, scope: Scope, jobs: Vec<u64>, until_ms: u64, awaits: Awaited) -> SweepWaiterId {
        self.last_id += 1;
        self.sweep_waiters.push(SweepWaiter { id: self.last_id, db, scope, jobs, until_ms, awaits });
        self.reply_to_finished();
        self.last_id
    }

    /// The walk to go on with, if there is one; only previews unless it is `freeing` that is allowed now.
    pub fn next_job(&mut self, freeing: bool, now: Now) -> Option<Job> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now.mono_ms()) {
            let mut job = first.remove();
            self.forget_request(&job);
            job.due_ms = 0;
            self.insert(job);
        }
        let lanes = if freeing { &self.lanes[..] } else { &self.lanes[..1] };
        lanes.iter().find_map(|lane| lane.values().next().copied())
    }

    /// When the next walk is due, in milliseconds of the monotonic clock; 0: at once.
    pub fn next_due(&self) -> Option<u64> {
        let now = self.lanes.iter().any(|lane| !lane.is_empty()).then_some(0);
        now.or_else(|| self.later.first_key_value().map(|((due, _), _)| *due))
    }

    /// A walk has come so far.
    pub fn advance(&mut self, job: Job, passed: u64) {
        if let Some(job) = self.lanes[job.lane()].get_mut(&job.id) {
            job.passed = passed;
        }
    }

    /// A walk has been everywhere.
    pub fn finish(&mut self, job: &Job) {
        self.forget_request(job);
        self.lanes[job.lane()].remove(&job.id);
        self.later.remove(&(job.due_ms, job.id));
        self.sweep_waiters.iter_mut().for_each(|waiter| waiter.jobs.retain(|id| *id != job.id));
        self.reply_to_finished();
    }

    /// A database, or all, was flushed: there is nothing to walk over.
    pub fn flushed(&mut self, db: Option<i32>) {
        let gone: Vec<_> = self.jobs().filter(|job| db.is_none_or(|db| job.db == db)).copied().collect();
        gone.iter().for_each(|job| self.finish(job));
    }

    /// This node frees nothing any more: its primary does.
    pub fn cancel_freeing(&mut self) {
        let gone: Vec<_> = self.jobs().filter(|job| job.frees).copied().collect();
        gone.iter().for_each(|job| self.finish(job));
    }

    /// Two databases have exchanged their keys: their walks begin anew.
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
        self.sweep_waiters.iter_mut().for_each(|one| other(&mut one.db));
    }

    /// Answers those whose time is over with what is known.
    pub fn time_out_waiters(&mut self, now: Now) {
        let (over, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sweep_waiters).into_iter().partition(|waiter| waiter.until_ms <= now.mono_ms());
        self.sweep_waiters = rest;
        over.into_iter().for_each(|waiter| self.reply(waiter));
    }

    /// A waiter is to wait no longer: what it is told, if it was still waiting.
    pub fn cancel_wait(&mut self, id: SweepWaiterId) -> Option<SweepReply> {
        if let Some(at) = self.sweep_waiters.iter().position(|waiter| waiter.id == id) {
            let waiter = self.sweep_waiters.remove(at);
            self.reply(waiter);
        }
        let at = self.replies.iter().position(|(of, _)| *of == id)?;
        self.replies.remove(at).map(|(_, late)| late)
    }

    /// The next answer to send.
    pub fn next_reply(&mut self) -> Option<(SweepWaiterId, SweepReply)> {
        self.replies.pop_front()
    }

    /// Whether there are answers to send.
    pub fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether somebody waits: then it is to be fast.
    pub fn has_waiters(&self) -> bool {
        !self.sweep_waiters.is_empty()
    }

    /// Whether there is such a walk.
    pub fn contains(&self, id: u64) -> bool {
        self.lanes.iter().any(|lane| lane.contains_key(&id))
    }

    /// How many places and keys are still to be walked over to free; `extent` tells how many there are.
    pub fn backlog(&self, extent: impl Fn(&Job) -> u64) -> u64 {
        let left = |job: &Job| match job.began {
            None => extent(job).max(1),
            Some(_) => job.extent.saturating_sub(job.passed).max(1),
        };
        // Of a great many lists the first thousand speak for all.
        let [_, lists_lane, keys_lane] = &self.lanes;
        let some: u64 = lists_lane.values().take(1_000).map(left).sum();
        let scale = lists_lane.len().max(1_000) as f64 / 1_000.0;
        let keys: u64 = keys_lane.values().map(left).sum();
        keys + (some as f64 * scale) as u64
    }

    /// An entry is freed, or made stale in place: who waits for that counts it.
    pub fn count_hit(&mut self, db: i32, name: &[u8], entry: EntryRef<'_>) {
        for waiter in self.sweep_waiters.iter_mut().filter(|waiter| waiter.db == db) {
            if let Awaited::Hits { known: None, counted, stamp } = &mut waiter.awaits
                && entry.stamp() <= *stamp
                && waiter.scope.matches(name, entry)
            {
                *counted += 1;
            }
        }
    }

    fn reply_to_finished(&mut self) {
        if self.sweep_waiters.iter().any(|waiter| waiter.jobs.is_empty()) {
            let (done, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.sweep_waiters).into_iter().partition(|waiter| waiter.jobs.is_empty());
            self.sweep_waiters = rest;
            done.into_iter().for_each(|waiter| self.reply(waiter));
        }
    }

    fn reply(&mut self, waiter: SweepWaiter) {
        // Walks for it alone have no purpose any more.
        self.lanes[0].retain(|id, _| !waiter.jobs.contains(id));
        let late = match waiter.awaits {
            Awaited::Hits { known, counted, .. } => SweepReply::Hits(known.unwrap_or(counted)),
            Awaited::Preview(found) => SweepReply::Preview(found),
        };
        self.replies.push_back((waiter.id, late));
    }

    /// Whether a walk that only looks is for somebody who asks about the entry under `name`.
    pub fn is_in_a_preview(&self, job: Job, name: &[u8], entry: EntryRef<'_>) -> bool {
        self.sweep_waiters.iter().any(|one| one.jobs.contains(&job.id) && one.scope.matches(name, entry))
    }

    /// Whether a preview counts the entry under `name` at this place of its walk.
    pub fn is_counted_by_preview(&self, job: Job, name: &[u8], entry: EntryRef<'_>) -> bool {
        let Some(waiter) = self.sweep_waiters.iter().find(|one| one.jobs.contains(&job.id)) else { return false };
        match (&waiter.scope, job.walk) {
            // An entry with several of the tags is in several lists.
            (Scope::Tags(tags), Walk::Tag(tag)) => {
                tags.iter().find(|named| entry.tags().any(|own| own == **named)) == Some(&tag)
            }
            (scope, _) => scope.matches(name, entry),
        }
    }

    /// Adds an entry to a preview.
    pub fn add_to_preview(&mut self, job: Job, name: &[u8], bytes: u64, load_ms: u64) {
        let waiter = self.sweep_waiters.iter_mut().find(|one| one.jobs.contains(&job.id));
        let Some(Awaited::Preview(found)) = waiter.map(|waiter| &mut waiter.awaits) else { return };
        found.entries += 1;
        found.bytes += bytes;
        found.origin_ms += load_ms;
        if found.sample.len() < SAMPLE {
            found.sample.push(name.into());
        }
    }

    /// A walk begins at this stamp, over so many slots or keys: the same, begun.
    pub fn start(&mut self, mut job: Job, began: Stamp, extent: u64) -> Job {
        self.forget_request(&job); // who asks from now on needs another one
        (job.began, job.extent) = (Some(began), extent);
        self.lanes[job.lane()].insert(job.id, job);
        job
    }
}
