//! Time: the host's timers and its cron.

use super::transcript::Transcript;
use super::{MARK, TestNode};
use crate::cache::clock::Now;
use crate::cache::codec::offload::{self};
use crate::cache::effects::Effects;
use crate::cache::invalidation::sweep::Walk;
use crate::cache::invalidation::tag_index::TagIndex;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::outbox::{Message, Outbox};
use crate::cache::{Key, Keyspace, Slot, State};
use crate::commands::{getlock, preview};
use crate::testing::masked;
use std::ops::Bound;
use std::time::Duration;

impl TestNode {
    /// Advances the clocks; timers fire when they are due.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.mono_ms() + ms;
        while let Some(at) = self.state.next_lease_timer(self.now).filter(|at| *at <= end) {
            self.advance_clocks(at.saturating_sub(self.now.mono_ms()));
            self.tick();
        }
        self.advance_clocks(end - self.now.mono_ms());
        self.tick();
    }

    /// Advances the clocks, and no timer fires: a timer may be late.
    pub fn advance_clocks(&mut self, ms: u64) {
        self.now = Now::new(self.now.us() + ms * 1_000, self.now.mono_ms() + ms);
        self.memory.now = self.now;
    }

    /// Sets the wall clock, also back; the monotonic clock goes on.
    pub fn set_clock(&mut self, ms: u64) {
        self.now = Now::new(ms * 1_000, self.now.mono_ms());
        self.memory.now = self.now;
    }

    /// Fires the timer of leases: handles deadlines, then sends answers.
    pub fn tick(&mut self) {
        let selected = self.memory.db;
        self.state.handle_deadlines(&mut self.memory, self.now, usize::MAX);
        self.memory.select(selected);
        while self.state.leases.has_answers() {
            self.state.leases.begin_answers(self.now);
            while let Some((id, answer)) = self.state.poll_answer(self.now) {
                let (client, native) = self.parked.remove(&id).expect("nobody is answered twice");
                let mut reply = Transcript::default();
                getlock::write_deferred_reply(&mut reply, &answer, native);
                self.answers.push((client, reply.text()));
            }
        }
        self.state.leases.validate();
    }

    /// The answers that have come since the last look, in order.
    pub fn late_answers(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.answers)
    }

    /// The answers that have come since the last look, with [`T`](masked) for tokens.
    pub fn late(&mut self) -> Vec<(u64, String)> {
        self.late_answers().into_iter().map(|(client, answer)| (client, masked(&answer))).collect()
    }

    /// A parked connection disconnects.
    pub fn disconnect(&mut self, client: u64) {
        let ids: Vec<_> = self.parked.iter().filter(|(_, parked)| parked.0 == client).map(|(id, _)| *id).collect();
        for id in ids {
            self.parked.remove(&id);
            let State { leases, stats, .. } = &mut self.state;
            let mut tally = stats.at(self.now);
            if !leases.leave(id, WaitOutcome::Dropped, &mut tally)
                && let Some(answer) = leases.take_answer(id)
            {
                leases.undelivered(answer, &mut tally);
            }
        }
        self.tick();
    }

    /// Whether a connection is parked.
    pub fn is_waiting(&self, client: u64) -> bool {
        self.parked.values().any(|other| other.0 == client)
    }

    /// Sweeps to the end. Deletions are in `replicated`, effects in `effects`.
    pub fn sweep(&mut self) {
        self.sweep_some(usize::MAX);
    }

    /// Sweeps so many slots and keys; the walks go on from there the next time.
    pub fn sweep_some(&mut self, mut most: usize) {
        (self.effects, self.replicated) = Default::default();
        let selected = self.memory.db;
        let mut outbox = Outbox::default();
        self.state.sweep_arrivals();
        while most > 0
            && let Some(job) = self.state.poll_sweep(Duration::ZERO, !self.replica, self.now)
        {
            if job.db != self.memory.db {
                self.send(std::mem::take(&mut outbox));
            }
            self.select_for_sweep(job.db);
            if job.began.is_none() {
                self.cursors.remove(&job.id);
            }
            let job = self.state.start_walk(job, self.now);
            let name = match job.walk {
                Walk::Keys => self.next_key(job.id),
                Walk::Tag(tag) => {
                    let at = job.passed as usize;
                    let next = |index: &TagIndex| {
                        (at < index.slot_count(tag)).then(|| index.key_at(tag, at).map_or_else(Vec::new, Vec::from))
                    };
                    self.state.invalidations.with_tag_index(job.db, next).flatten()
                }
            };
            let Some(name) = name else {
                if let Some(words) = self.state.finish_walk(job) {
                    outbox.push(Message::Command(MARK, words.into()));
                }
                continue;
            };
            most -= 1;
            self.state.sweep.advance(job, job.passed + 1);
            let Slot::Entry(entry) = self.memory.peek(Key::named(&name)) else { continue };
            if self.state.is_for_sweep(job, &name, entry, self.now) {
                let mut effects = Effects::new();
                self.state.sweep_key(&mut self.memory, job, Key::named(&name), &mut effects, self.now);
                self.deliver_into(&mut outbox, &mut effects, &[]);
            }
        }
        self.send(outbox);
        self.replicate_expired();
        self.select_for_sweep(selected);
        self.answer_sweep_waiters();
    }

    /// Runs the cron's turn. What is replicated is in `replicated`.
    pub fn cron(&mut self) {
        (self.effects, self.replicated) = Default::default();
        if self.replica {
            return self.state.reap_tags(usize::MAX, self.now);
        }
        let selected = self.memory.db;
        for name in self.state.retire() {
            self.replicated.push(vec![b"SMARTCACHE.RULE".to_vec(), b"DEL".to_vec(), name.into_bytes()]);
        }
        for (db, words) in self.state.reap(usize::MAX, self.now) {
            self.select_for_sweep(db);
            self.replicated.push([vec![b"SMARTCACHE.MARK".to_vec()], words].concat());
        }
        self.select_for_sweep(selected);
    }

    pub(super) fn next_key(&mut self, job: u64) -> Option<Vec<u8>> {
        let from = self.cursors.get(&job).map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        let name = self.memory.keys.range((from, Bound::Unbounded)).next()?.0.clone();
        self.cursors.insert(job, name.clone());
        Some(name)
    }

    /// Selects a database, which is replicated.
    pub(super) fn select_for_sweep(&mut self, db: i32) {
        if self.memory.db != db {
            self.memory.select(db);
            self.replicated.push(vec![b"SELECT".to_vec(), db.to_string().into_bytes()]);
        }
    }

    /// Answers callers that waited for the sweep, in `answers`.
    pub fn answer_sweep_waiters(&mut self) {
        self.state.sweep.time_out_waiters(self.now);
        while let Some((id, late)) = self.state.sweep.next_reply() {
            let Some(client) = self.sweep_waiters.remove(&id) else { continue };
            let mut reply = Transcript::default();
            preview::write_deferred_reply(&mut reply, &self.server, &late);
            self.answers.push((client, reply.text()));
        }
    }

    /// Runs the worker's jobs, and swaps in the results that are still wanted, as `host/workers.rs` does.
    pub fn run_workers(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            let done = offload::run(job, &mut crate::cache::codec::Codecs::new());
            let key = Key::named(&done.job.key);
            let packed = match self.memory.peek(key) {
                Slot::Entry(entry) => done.repack(entry),
                _ => None,
            };
            let swapped = packed.is_some();
            if let Some(packed) = packed {
                let at = self.memory.expire_at(key);
                self.memory.set(key, packed, at);
            }
            self.state.offloaded(&done, swapped);
        }
    }
}
