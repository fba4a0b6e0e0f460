//! What the sweep does with each key that a walk comes to, and when walks start and end (`invalidation/sweep.rs`).

use crate::cache::clock::Now;
use crate::cache::effects::{Effect, Effects, Event};
use crate::cache::entry::{EntryRef, Freshness};
use crate::cache::invalidation::mark::Verdict;
use crate::cache::invalidation::messages::{MarkMessage, encode};
use crate::cache::invalidation::sweep::{Job, Walk};
use crate::cache::stats::live::Live;
use crate::cache::{Judge, Key, Keyspace, Node, Slot, State};

impl State {
    /// Whether a walk may change or count the entry under `name`, so that its key must be opened.
    pub fn is_for_sweep(&self, job: Job, name: &[u8], entry: EntryRef<'_>, now: Now) -> bool {
        if !job.frees {
            return self.sweep.is_in_a_preview(job, name, entry);
        }
        !entry.is_indexed()
            || self.policies.is_retired(name)
            || Judge::new(&self.invalidations, job.db, name, now).freshness(entry) == Freshness::Dead
            || self.invalidations.verdict(job.db, name, entry, now) != Verdict::Untouched
    }

    /// Deals with a key that a walk has come to.
    pub fn sweep_key<'w>(
        &mut self,
        keys: &mut dyn Keyspace,
        job: Job,
        key: Key<'w>,
        effects: &mut Effects<'w>,
        now: Now,
    ) {
        if !job.frees {
            return self.preview_key(keys, job, key, now);
        }
        if self.policies.is_retired(key.name) {
            Node { state: self, keys, db: job.db, now }.make_plain(key, effects);
            return;
        }
        let State { invalidations, sweep, stats, .. } = self;
        let Slot::Entry(entry) = keys.peek(key) else { return };
        if Judge::new(invalidations, job.db, key.name, now).freshness(entry) == Freshness::Dead {
            sweep.count_hit(job.db, key.name, entry);
            if keys.remove(key) {
                stats.at(now).node().entries_reclaimed += 1;
                effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
            }
            return;
        }
        let unindexed = !entry.is_indexed();
        let by_name = invalidations.verdict_by_name(job.db, key.name, entry, now);
        let changes = match by_name {
            Verdict::Stale(since) => !entry.stale() || entry.fresh_until().is_none_or(|end| end > since),
            Verdict::Later(at) => entry.fresh_until().is_none_or(|end| end > at),
            Verdict::Untouched | Verdict::Dead => false,
        };
        if changes {
            sweep.count_hit(job.db, key.name, entry);
            if let Some(mut entry) = keys.edit(key) {
                by_name.apply_to(&mut entry);
                effects.changed(key, Effect::ReplicateHeader(key), Event::Stale);
            }
        } else if !entry.stale() && matches!(invalidations.verdict(job.db, key.name, entry, now), Verdict::Stale(_)) {
            effects.push(Effect::Signal(key)); // the mark stays; client-side caches are informed
        }
        if unindexed && let Some(mut entry) = keys.edit(key) {
            // `RENAME` or `MOVE` brought it, which servers do not report. Replicas do not walk: they learn it from the
            // header.
            invalidations.index_entry(job.db, key.name, &mut entry);
            if !changes {
                effects.push(Effect::ReplicateHeader(key));
            }
        }
    }

    /// The same for a preview, which changes nothing.
    fn preview_key(&mut self, keys: &mut dyn Keyspace, job: Job, key: Key<'_>, now: Now) {
        let Slot::Entry(entry) = keys.peek(key) else { return };
        let load_ms = u64::from(entry.load_ms().unwrap_or(0));
        let alive = Judge::new(&self.invalidations, job.db, key.name, now).freshness(entry) != Freshness::Dead;
        if alive && self.sweep.is_counted_by_preview(job, key.name, entry) {
            self.sweep.add_to_preview(job, key.name, keys.memory_bytes(key), load_ms);
        }
    }

    /// Ends a walk. Returns the arguments of the `SMARTCACHE.MARK` that informs replicas, after a walk over all keys.
    pub fn finish_walk(&mut self, job: Job) -> Option<Vec<Vec<u8>>> {
        self.sweep.finish(&job);
        let began = job.began.filter(|_| job.frees)?;
        match job.walk {
            Walk::Tag(tag) => {
                // Not all entries with the tag are listed.
                if u64::from(self.live.holders(tag)) > self.invalidations.count_listed(tag) {
                    self.sweep.request(job.db, Walk::Keys, 0);
                }
                None
            }
            Walk::Keys => {
                self.invalidations.finish_sweep(job.db, began);
                Some(encode(&MarkMessage::Swept(began)))
            }
        }
    }

    /// Requests walks over the databases in which entries have arrived dead.
    pub fn sweep_arrivals(&mut self) {
        for db in self.invalidations.take_dead_on_arrival() {
            self.sweep.request(db, Walk::Keys, 0);
        }
    }

    /// Starts a walk, unless it has begun, and returns its job.
    pub fn start_walk(&mut self, job: Job, now: Now) -> Job {
        if job.began.is_some() {
            return job;
        }
        let (began, extent) = (self.clock.stamp(now), self.extent(&job));
        self.sweep.start(job, began, extent)
    }

    fn extent(&self, job: &Job) -> u64 {
        match job.walk {
            Walk::Tag(tag) => {
                self.invalidations.with_tag_index(job.db, |index| index.slot_count(tag) as u64).unwrap_or(0)
            }
            Walk::Keys => self.served(Live::totals).entries,
        }
    }

    /// How many slots and keys the sweep has left.
    pub fn sweep_backlog(&self) -> u64 {
        self.sweep.backlog(|job| self.extent(job))
    }
}
