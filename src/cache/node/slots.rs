//! Handles hash slots that leave this node or arrive.

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::outcomes::LeaseEnd;
use crate::cache::lease::slots::{Served, Slots};
use std::sync::Arc;

impl State {
    /// This node serves these slots now. The first call only records them.
    pub fn serves(&mut self, served: Served, now: Now) {
        let State { slots, clock, leases, .. } = self;
        let Some(slots) = slots else {
            *slots = Some(Slots::new(served));
            return;
        };
        if !slots.update(served, || clock.stamp(now)) {
            return;
        }
        let gone: Vec<(i32, Arc<[u8]>)> = leases.keys().filter(|(_, key)| !slots.serves(key)).collect();
        for (db, key) in gone {
            self.leases.end_backoff(db, &key);
            let mut tally = self.stats.at(now);
            self.leases.end(db, &key, LeaseEnd::Voided, &mut tally);
            while let Some(id) = self.leases.first_waiter(db, &key) {
                self.leases.reject_waiter(id, &mut tally);
            }
        }
    }
}
