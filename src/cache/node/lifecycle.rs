//! What happens to the whole node: flushes, swapped databases, changes of role, a clock that is put right.

use std::sync::Arc;

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::invalidation::sweep::Walk;
use crate::cache::lease::fill::Answered;
use crate::cache::lease::token::Secret;

/// What a parked client costs the server, at most: measured as 35 KB of `used_memory`.
const WAITER_BYTES: u64 = 36 * 1024;

impl State {
    /// How many callers may be parked: `max-waiters`, or what connections and memory allow.
    pub fn max_waiters(&self) -> u64 {
        if self.settings.max_waiters > 0 {
            return self.settings.max_waiters as u64;
        }
        let of_clients = if self.limits.clients == 0 { u64::MAX } else { self.limits.clients / 10 };
        let of_memory = if self.limits.memory == 0 { u64::MAX } else { self.limits.memory / 20 / WAITER_BYTES };
        of_clients.min(of_memory).min(1_000)
    }

    /// A database (or all, without one) was flushed: all leases of it end, and loads in flight are not trusted. Gives the
    /// keys that somebody waits for: they are to be settled.
    pub fn flushed(&mut self, db: Option<i32>, now: Now) -> Vec<(i32, Arc<[u8]>)> {
        self.invalidations.flushed(db);
        self.sweep.flushed(db);
        self.void_all_loads(db, now)
    }

    /// The keys of a database (or of all) are not those that loads in flight were begun for: all leases of it end, and
    /// those loads are not trusted. Gives the keys that somebody waits for: they are to be settled.
    pub fn void_all_loads(&mut self, db: Option<i32>, now: Now) -> Vec<(i32, Arc<[u8]>)> {
        let stamp = self.clock.stamp(now);
        self.flush_epochs.raise(db, stamp);
        self.stats.miss_reasons.flushed();
        self.leases.void(db, &mut self.stats.at(now))
    }

    /// Two databases have exchanged their keys, and with them what is to be swept.
    pub fn swapped(&mut self, a: i32, b: i32) {
        self.invalidations.swap(a, b);
        self.sweep.swapped(a, b);
    }

    /// The role has changed, or another reason why nothing that is in flight may be trusted: all leases end, whoever waits
    /// is told to ask again, and tokens given so far are worth nothing.
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
}

impl State {
    /// The wall clock was more than a day ahead for a while and has been put right: stamps begin anew. What was stored
    /// meanwhile is dead, since no invalidation to come could reach it; what had been invalidated stays so; loads in flight
    /// are not trusted.
    pub fn start_epoch(&mut self, secret: [u8; 16], now: Now) {
        self.clock.start_epoch(now);
        let stamp = self.clock.stamp(now);
        self.reset_leases(secret, now);
        self.flush_epochs.reset(stamp);
        self.tombstones.reset();
        if let Some(slots) = &mut self.slots {
            slots.reset(stamp);
        }
        for db in self.invalidations.start_epoch(stamp) {
            self.sweep.ask(db, Walk::Keys, 0);
        }
    }
}
