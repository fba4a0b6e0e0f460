//! Events of the whole node: flushes, swapped databases, changes of role, a corrected clock.

use crate::cache::State;
use crate::cache::clock::{self, Now};
use crate::cache::invalidation::sweep::Walk;
use crate::cache::lease::fill::Answered;
use crate::cache::lease::token::Secret;
use crate::cache::state::Limits;
use crate::cache::tables::slots_for;

/// The server's memory per parked client, at most: 35 KB of `used_memory` were measured.
const WAITER_BYTES: u64 = 36 * 1024;

impl State {
    /// Takes over the limits from the server's settings. Tables that exist keep their size.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let slots = slots_for(limits.memory);
        self.tombstones.set_slots(slots);
        self.invalidations.set_table_slots(slots);
    }

    /// How many callers may be parked: `max-waiters`, or what connections and memory allow.
    pub fn max_waiters(&self) -> u64 {
        if self.settings.max_waiters > 0 {
            return self.settings.max_waiters as u64;
        }
        let by_clients = if self.limits.clients == 0 { u64::MAX } else { self.limits.clients / 10 };
        let by_memory = if self.limits.memory == 0 { u64::MAX } else { self.limits.memory / 20 / WAITER_BYTES };
        by_clients.min(by_memory).min(1_000)
    }

    /// A database was flushed, or without `db` all of them: its leases end, loads in flight are not trusted, and guards
    /// are taken back.
    pub fn flushed(&mut self, db: Option<i32>, now: Now) {
        self.invalidations.flushed(db);
        self.flush_epochs.take_back_guards(db);
        self.guarded = None;
        if db.is_none() {
            self.tombstones.take_back_guards();
        }
        self.sweep.flushed(db);
        self.void_all_loads(db, now);
    }

    /// The content of a database (or of all) was replaced: its leases end, and loads in flight are not trusted.
    pub fn void_all_loads(&mut self, db: Option<i32>, now: Now) {
        let stamp = self.clock.stamp(now);
        self.flush_epochs.raise(db, stamp);
        self.stats.miss_reasons.flushed();
        self.leases.void(db, &mut self.stats.at(now));
    }

    /// Two databases exchanged their keys, and with them their invalidation marks and pending sweeps.
    pub fn swapped(&mut self, a: i32, b: i32) {
        self.invalidations.swap(a, b);
        self.sweep.swapped(a, b);
    }

    /// Ends all leases, answers all waiters with `BUSY`, and makes all tokens issued so far invalid: the role
    /// changed, or no load in flight can be trusted for another reason.
    pub fn reset_leases(&mut self, secret: [u8; 16], now: Now) {
        self.secret = Secret::new(secret);
        self.began_ms = now.mono_ms();
        self.answered = Answered::default();
        let mut tally = self.stats.at(now);
        self.leases.void(None, &mut tally);
        for id in self.leases.all_waiters() {
            self.leases.reject_waiter(id, &mut tally);
        }
    }

    /// Restarts the stamps after the wall clock was more than a day ahead and has been corrected. Entries stored
    /// meanwhile become dead, because no later invalidation could reach them; invalidated entries stay invalidated;
    /// loads in flight are not trusted.
    pub fn start_epoch(&mut self, secret: [u8; 16], now: Now) {
        let last = self.clock.last();
        self.clock.start_epoch(now);
        let stamp = self.clock.stamp(now);
        self.reset_leases(secret, now);
        self.flush_epochs.reset(stamp);
        self.tombstones.reset();
        if let Some(slots) = &mut self.slots {
            slots.reset(stamp);
        }
        self.sweep.start_over();
        for db in self.invalidations.start_epoch(stamp, clock::last_believable(now), last) {
            self.sweep.request(db, Walk::Keys, 0);
        }
    }
}
