//! The leases and back-offs of one database, and who waits for them: one part of the lease table (`table.rs`).
//!
//! A flush ends all leases of a database at once, however many there are: they are counted by rule and by user, so the
//! whole table is taken out, and its memory is freed a little at a time ([`Remains`]).

use std::collections::{BTreeMap, HashMap, VecDeque, btree_map, hash_map};
use std::sync::Arc;

use super::token::Token;
use super::users::{UserName, Users};
use crate::cache::clock::Stamp;
use crate::cache::ids::RuleId;

/// The number of a parked caller; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// The right to load a key, while it lasts.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its token, which holds the moment of the grant.
    pub token: Token,
    /// When it ends, in milliseconds of the monotonic clock.
    pub until_ms: u64,
    /// The connection that holds it.
    pub client: u64,
    /// The user whose share it counts for.
    pub user: UserName,
    /// The holder's name (`OWNER`).
    pub owner: Option<Box<[u8]>>,
    /// The rule whose `FILLS` it counts for.
    pub rule: RuleId,
    /// An early refresh: granted while the value was fresh.
    pub early: bool,
}

/// A moment in milliseconds of the monotonic clock, and a number of its own among those of the same millisecond.
pub(super) type Due = (u64, u64);

/// The lease, the back-off and the waiters of one key.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) lease: Option<(Lease, u64)>,
    /// Until when no lease is granted, since a load failed.
    pub(super) backoff: Option<Due>,
    pub(super) waiters: VecDeque<WaiterId>,
}

/// The flights of one database.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// Boxed: a table that grows moves its elements, all at once.
    by_key: HashMap<Arc<[u8]>, Box<Flight>>,
    /// Ends of leases and back-offs, and keys whose waiters are to be woken.
    due: BTreeMap<Due, Arc<[u8]>>,
    /// The leases by the stamps of their grants.
    granted: BTreeMap<(Stamp, u64), Token>,
    by_rule: HashMap<RuleId, u64>,
    users: Users,
}

/// What is left of the flights of a database that have all ended.
#[derive(Debug)]
pub(super) struct Remains {
    by_key: hash_map::IntoIter<Arc<[u8]>, Box<Flight>>,
    due: btree_map::IntoIter<Due, Arc<[u8]>>,
    granted: btree_map::IntoIter<(Stamp, u64), Token>,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Flight> {
        self.by_key.get(key).map(|flight| &**flight)
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Flight> {
        self.by_key.get_mut(key).map(|flight| &mut **flight)
    }

    pub(super) fn get_or_create(&mut self, key: Arc<[u8]>) -> &mut Flight {
        self.by_key.entry(key).or_default()
    }

    /// The key's name, if anything is going on around it.
    pub(super) fn name_of(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.by_key.get_key_value(key).map(|(name, _)| name)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.by_key.keys()
    }

    /// How many leases are out.
    pub(super) fn live(&self) -> u64 {
        self.granted.len() as u64
    }

    pub(super) fn of_rule(&self, rule: RuleId) -> u64 {
        self.by_rule.get(&rule).copied().unwrap_or(0)
    }

    pub(super) fn of_user(&self, user: &str) -> u64 {
        self.users.count(user)
    }

    /// The token of the oldest lease.
    pub(super) fn oldest(&self) -> Option<Token> {
        self.granted.first_key_value().map(|(_, token)| *token)
    }

    /// How many leases are out, by their rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = (RuleId, u64)> {
        self.by_rule.iter().map(|(rule, count)| (*rule, *count))
    }

    /// Adds a lease to a key that has none.
    pub(super) fn grant(&mut self, name: Arc<[u8]>, lease: Lease, nth: u64) {
        self.granted.insert((lease.token.stamp, nth), lease.token);
        *self.by_rule.entry(lease.rule).or_default() += 1;
        self.users.add(&lease.user);
        self.due.insert((lease.until_ms, nth), name.clone());
        let flight = self.get_or_create(name);
        debug_assert!(flight.lease.is_none(), "one live lease a key");
        flight.lease = Some((lease, nth));
    }

    /// Takes the lease of a key out, if there is one.
    pub(super) fn end(&mut self, key: &[u8]) -> Option<Lease> {
        let (lease, nth) = self.get_mut(key)?.lease.take()?;
        self.granted.remove(&(lease.token.stamp, nth));
        self.due.remove(&(lease.until_ms, nth));
        self.users.remove(&lease.user);
        if let Some(n) = self.by_rule.get_mut(&lease.rule) {
            *n -= 1;
            if *n == 0 {
                self.by_rule.remove(&lease.rule);
            }
        }
        self.remove_if_idle(key);
        Some(lease)
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, key: &[u8], until_ms: u64) {
        let Some((lease, nth)) = self.get_mut(key).and_then(|flight| flight.lease.as_mut()) else { return };
        let (old, nth) = ((lease.until_ms, *nth), *nth);
        lease.until_ms = until_ms;
        if let Some(name) = self.due.remove(&old) {
            self.due.insert((until_ms, nth), name);
        }
    }

    /// Starts a back-off of a key that has none.
    pub(super) fn back_off(&mut self, name: Arc<[u8]>, due: Due) {
        self.due.insert(due, name.clone());
        self.get_or_create(name).backoff = Some(due);
    }

    /// Ends the back-off of a key, if there is one.
    pub(super) fn end_backoff(&mut self, key: &[u8]) {
        if let Some(due) = self.get_mut(key).and_then(|flight| flight.backoff.take()) {
            self.due.remove(&due);
            self.remove_if_idle(key);
        }
    }

    /// Has the waiters of a key woken with the next deadline.
    pub(super) fn wake_soon(&mut self, name: Arc<[u8]>, nth: u64) {
        self.due.insert((0, nth), name);
    }

    /// The earliest deadline.
    pub(super) fn first_due(&self) -> Option<(Due, &Arc<[u8]>)> {
        self.due.first_key_value().map(|(due, name)| (*due, name))
    }

    pub(super) fn drop_due(&mut self, due: Due) {
        self.due.remove(&due);
    }

    /// Removes a key without lease, back-off and waiters.
    pub(super) fn remove_if_idle(&mut self, key: &[u8]) {
        let over = |flight: &Flight| flight.lease.is_none() && flight.backoff.is_none() && flight.waiters.is_empty();
        if self.get(key).is_some_and(over) {
            self.by_key.remove(key);
            // Memory is given back after a burst.
            if self.by_key.capacity() > 64 && self.by_key.len() < self.by_key.capacity() / 8 {
                self.by_key.shrink_to(self.by_key.len() * 2);
            }
        }
    }

    /// All have ended: what is left, to be freed.
    pub(super) fn into_remains(self) -> Remains {
        Remains { by_key: self.by_key.into_iter(), due: self.due.into_iter(), granted: self.granted.into_iter() }
    }
}

impl Remains {
    /// Frees some; false when nothing is left.
    pub(super) fn free_some(&mut self) -> bool {
        const SOME: usize = 64;
        let freed = [
            self.by_key.by_ref().take(SOME).count(),
            self.due.by_ref().take(SOME).count(),
            self.granted.by_ref().take(SOME).count(),
        ];
        freed.contains(&SOME)
    }
}

impl Flights {
    /// Checks what must hold between two commands, with what each waiter is said to wait for.
    pub(super) fn validate(&self, waits_for: impl Fn(WaiterId, &Arc<[u8]>) -> bool) {
        assert!(!self.is_empty(), "an empty database is kept");
        let (mut reminders, mut by_rule) = (0, HashMap::<RuleId, u64>::new());
        for (name, flight) in &self.by_key {
            let going_on = flight.lease.is_some() || flight.backoff.is_some();
            assert!(going_on, "nothing is going on around a key that is kept, or they wait and nobody loads");
            assert!(flight.lease.is_some() || flight.waiters.is_empty(), "nobody waits where nobody loads");
            assert!(flight.backoff.is_none() || flight.waiters.is_empty(), "nobody waits during a back-off");
            if let Some((lease, nth)) = &flight.lease {
                *by_rule.entry(lease.rule).or_default() += 1;
                assert_eq!(self.due.get(&(lease.until_ms, *nth)), Some(name));
                assert_eq!(self.granted.get(&(lease.token.stamp, *nth)), Some(&lease.token));
            }
            if let Some(due) = &flight.backoff {
                assert_eq!(self.due.get(due), Some(name));
            }
            reminders += usize::from(flight.lease.is_some()) + usize::from(flight.backoff.is_some());
            assert!(flight.waiters.iter().all(|id| waits_for(*id, name)), "a waiter stands in the queue of its key");
        }
        assert_eq!(by_rule, self.by_rule);
        assert_eq!(by_rule.values().sum::<u64>(), self.live());
        assert_eq!(reminders, self.due.len(), "nothing is reminded of that is over");
        let leases = self.by_key.values().filter_map(|flight| flight.lease.as_ref());
        self.users.validate(leases.map(|(lease, _)| &lease.user));
    }

    /// How many waiters stand in queues.
    pub(super) fn waiters(&self) -> usize {
        self.by_key.values().map(|flight| flight.waiters.len()).sum()
    }
}
