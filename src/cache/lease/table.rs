//! The lease table: one lease a key, many waiters. Pure bookkeeping.
//!
//! ```text
//!                 grant                              fill, UNLOCK, DEL, deadline …
//!   ┌────────┐ ───────────────────▶ ┌────────────┐ ──────────────────────────────▶ ┌────────┐
//!   │ nobody │                      │ one loads  │                                  │ nobody │
//!   │ loads  │ ◀─────────────────── │ 0..n wait  │ ── UNLOCK … BACKOFF ──┐          │ loads  │
//!   └────────┘                      └────────────┘                       ▼          └────────┘
//!        ▲                             ▲      │ park           ┌──────────────────┐
//!        │                             └──────┘                │ nobody may load, │
//!        └──── store, DEL, its time is over ────────────────── │ nobody waits     │
//!                                                              └──────────────────┘
//! ```
//!
//! A lease lives until its deadline or until something ends it, in exactly one of the ways of [`LeaseEnd`]. A key
//! without a lease has no waiters: code that ends a lease calls `Node::wake_waiters` at once, so that a store answers
//! all waiters and anything else grants the next lease to the first of them. A waiter is answered exactly once:
//! [`Leases::answer`] takes it out of the queue and puts its answer into the outbox, which the host empties in slices.
//!
//! Nothing here outlives the process: after a failover the next reader gets a new lease. Late fills do not need this
//! table either: their token proves itself (`token.rs`).

use crate::cache::lease::outcomes::ReplyState;
use crate::cache::lease::pace::Pace;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::cache::clock::{Now, Stamp};
use crate::cache::ids::RuleId;
use crate::cache::lease::outcomes::{LeaseEnd, WaitOutcome};
use crate::cache::lease::token::Token;
use crate::cache::lease::users::{Place, UserName, Users};
use crate::cache::stats::Tally;

/// How many expired leases are remembered.
const REMEMBERED: usize = 1_024;

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

/// The options of a caller that was parked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitOptions {
    /// `LOCK`, in milliseconds.
    pub lock_ms: Option<u64>,
    /// `OWNER`.
    pub owner: Option<Box<[u8]>>,
    /// `ACCEPT`.
    pub accept: Option<crate::cache::codec::accept::Accept>,
}

/// A parked caller.
#[derive(Debug)]
pub struct Waiter {
    /// The database.
    pub db: i32,
    /// The key.
    pub key: Arc<[u8]>,
    /// The connection.
    pub client: u64,
    /// The user whose share its place counts for.
    pub user: UserName,
    /// Its options.
    pub options: Arc<WaitOptions>,
    /// The rule of the key.
    pub rule: RuleId,
    since_ms: u64,
    until_ms: u64,
    due: u64,
}

impl Waiter {
    /// Whether its time was over before now.
    pub fn is_overdue(&self, now: Now) -> bool {
        self.until_ms < now.mono_ms()
    }
}

/// The lease, the back-off and the waiters of one key.
#[derive(Debug, Default)]
struct Flight {
    lease: Option<(Lease, u64)>,
    /// Until when no lease is granted, since a load failed.
    backoff: Option<(u64, u64)>,
    waiters: VecDeque<WaiterId>,
}

/// What has a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// A lease or a back-off of this key.
    Key(i32, Arc<[u8]>),
    /// The wait of this waiter.
    Waiter(WaiterId),
}

/// The reply to a `GETLOCK` that waited, for the host to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the caller gets.
    pub state: ReplyState,
    /// The value and its encoding, shared by all waiters that get it.
    pub value: Option<(&'static str, Arc<[u8]>)>,
    /// Whether the reply shows the encoding (`ACCEPT`).
    pub with_encoding: bool,
    /// The token, when the caller is to load.
    pub token: Option<[u8; crate::cache::lease::token::LEN]>,
    /// What is left of the value's freshness; −1 without end.
    pub fresh_ms: i64,
    /// What is left of the lease, or when to ask again.
    pub lease_ms: u64,
    /// The lease that belongs to the token: ended when the answer cannot be delivered.
    pub lease: Option<(i32, Arc<[u8]>, Token)>,
}

impl Answer {
    /// `BUSY`, to ask again at once.
    pub fn ask_again() -> Self {
        Answer {
            state: ReplyState::Busy,
            value: None,
            with_encoding: false,
            token: None,
            fresh_ms: 0,
            lease_ms: 1,
            lease: None,
        }
    }
}

/// The leases of one node, and their waiters.
#[derive(Debug, Default)]
pub struct Leases {
    flights: BTreeMap<i32, HashMap<Arc<[u8]>, Flight>>,
    waiters: HashMap<WaiterId, Waiter>,
    /// The one waiter of each parked connection.
    parked: HashMap<u64, WaiterId>,
    by_rule: HashMap<RuleId, u64>,
    /// What each user holds.
    pub users: Users,
    live: u64,
    /// By deadline; the second number separates those of the same millisecond.
    due: BTreeMap<(u64, u64), Deadline>,
    outbox: VecDeque<(WaiterId, Answer)>,
    pace: Pace,
    /// The latest leases that expired, by the stamps of their tokens.
    ran_out: VecDeque<Stamp>,
    last: u64,
    dirty: bool,
}

impl Leases {
    /// Whether there are no leases, back-offs and waiters.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// How many leases are out.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// How many callers are parked.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// How many leases are out for the keys of a rule.
    pub fn of_rule(&self, rule: RuleId) -> u64 {
        self.by_rule.get(&rule).copied().unwrap_or(0)
    }

    /// The lease of a key. It may be past its deadline and not ended yet.
    pub fn lease(&self, db: i32, key: &[u8]) -> Option<&Lease> {
        self.flight(db, key)?.lease.as_ref().map(|(lease, _)| lease)
    }

    /// The lease of a key, when its holder has this name.
    pub fn held_by(&mut self, db: i32, key: &[u8], owner: &[u8]) -> Option<&mut Lease> {
        let (lease, _) = self.flight_mut(db, key)?.lease.as_mut()?;
        (lease.owner.as_deref() == Some(owner)).then_some(lease)
    }

    /// How much of the back-off of a key is left, in milliseconds.
    pub fn backoff_ms(&self, db: i32, key: &[u8], now: Now) -> Option<u64> {
        let (until_ms, _) = self.flight(db, key)?.backoff?;
        until_ms.checked_sub(now.mono_ms()).filter(|ms| *ms > 0)
    }

    /// How many callers wait for a key.
    pub fn waiters_of(&self, db: i32, key: &[u8]) -> usize {
        self.flight(db, key).map_or(0, |flight| flight.waiters.len())
    }

    /// Grants a lease on a key that has none.
    pub fn grant(&mut self, db: i32, key: &[u8], lease: Lease, tally: &mut Tally<'_>) {
        let count = tally.of(lease.rule);
        count.leases_granted += 1;
        count.leases_early += u64::from(lease.early);
        self.live += 1;
        *self.by_rule.entry(lease.rule).or_default() += 1;
        self.users.add(&lease.user, Place::Lease);
        let name = self.name_of(db, key);
        let due = self.schedule(lease.until_ms, Deadline::Key(db, name.clone()));
        let flight = self.flights.entry(db).or_default().entry(name).or_default();
        debug_assert!(flight.lease.is_none(), "one live lease a key");
        flight.lease = Some((lease, due));
    }

    /// Ends the lease of a key, if there is one. The caller then wakes the waiters of the key.
    pub fn end(&mut self, db: i32, key: &[u8], how: LeaseEnd, tally: &mut Tally<'_>) -> bool {
        let Some((lease, due)) = self.flight_mut(db, key).and_then(|flight| flight.lease.take()) else { return false };
        self.due.remove(&(lease.until_ms, due));
        self.live -= 1;
        self.users.remove(&lease.user, Place::Lease);
        if let Some(n) = self.by_rule.get_mut(&lease.rule) {
            *n -= 1;
            if *n == 0 {
                self.by_rule.remove(&lease.rule);
            }
        }
        if how == LeaseEnd::Expired {
            self.ran_out.truncate(REMEMBERED - 1);
            self.ran_out.push_front(lease.token.stamp);
        }
        let count = tally.of(lease.rule);
        *match how {
            LeaseEnd::Filled => &mut count.fills,
            LeaseEnd::FilledStale => &mut count.fills_stale,
            LeaseEnd::FilledLost => &mut count.fills_lost,
            LeaseEnd::Failed => &mut count.fills_failed,
            LeaseEnd::Released => &mut count.leases_released,
            LeaseEnd::Voided => &mut count.leases_voided,
            LeaseEnd::Expired => &mut count.leases_expired,
        } += 1;
        self.remove_if_idle(db, key);
        true
    }

    /// Whether the lease of this token is among the latest that expired.
    pub fn ran_out(&self, token: Token) -> bool {
        self.ran_out.contains(&token.stamp)
    }

    /// Moves the end of a lease.
    pub fn extend(&mut self, db: i32, key: &[u8], until_ms: u64) {
        let Some((lease, due)) = self.flight_mut(db, key).and_then(|flight| flight.lease.as_mut()) else { return };
        let old = (lease.until_ms, *due);
        lease.until_ms = until_ms;
        self.dirty = true;
        if let Some(reminder) = self.due.remove(&old) {
            self.due.insert((until_ms, old.1), reminder);
        }
    }

    /// Starts a back-off: no lease of the key is granted until then. The caller then wakes the waiters of the key.
    pub fn back_off(&mut self, db: i32, key: &[u8], until_ms: u64) {
        self.end_backoff(db, key);
        let name = self.name_of(db, key);
        let due = self.schedule(until_ms, Deadline::Key(db, name.clone()));
        self.flights.entry(db).or_default().entry(name).or_default().backoff = Some((until_ms, due));
    }

    /// Ends a back-off, if there is one.
    pub fn end_backoff(&mut self, db: i32, key: &[u8]) {
        if let Some(due) = self.flight_mut(db, key).and_then(|flight| flight.backoff.take()) {
            self.due.remove(&due);
            self.remove_if_idle(db, key);
        }
    }

    /// Whether this connection would wait for itself: it holds the lease of the key, or the holder waits, over any
    /// number of others, for a lease that this connection holds.
    pub fn would_deadlock(&self, db: i32, key: &[u8], client: u64) -> bool {
        let (mut at_db, mut at_key) = (db, key);
        // Each step leads to another parked connection: a chain cannot be longer than their number.
        for _ in 0..=self.parked.len() {
            let Some(lease) = self.lease(at_db, at_key) else { return false };
            if lease.client == client {
                return true;
            }
            let Some(waiter) = self.parked.get(&lease.client).and_then(|id| self.waiters.get(id)) else { return false };
            (at_db, at_key) = (waiter.db, &waiter.key);
        }
        true // a cycle without this connection cannot be, but is no place to wait either
    }

    /// Parks a caller behind the lease of a key.
    pub fn park(
        &mut self,
        (db, key): (i32, &[u8]),
        (client, user): (u64, UserName),
        wait_ms: u64,
        options: WaitOptions,
        now: Now,
    ) -> WaiterId {
        let until_ms = now.mono_ms().saturating_add(wait_ms);
        self.users.add(&user, Place::Waiter);
        let name = self.name_of(db, key);
        let due = self.last + 1; // the number that `schedule` takes next
        let id = WaiterId(due);
        self.schedule(until_ms, Deadline::Waiter(id));
        let flight = self.flights.entry(db).or_default().entry(name.clone()).or_default();
        debug_assert!(flight.lease.is_some(), "nobody waits where nobody loads");
        let rule = flight.lease.as_ref().map(|(lease, _)| lease.rule).unwrap_or_default();
        flight.waiters.push_back(id);
        let (options, since_ms) = (Arc::new(options), now.mono_ms());
        let waiter = Waiter { db, key: name, client, user, since_ms, until_ms, due, options, rule };
        self.waiters.insert(id, waiter);
        let before = self.parked.insert(client, id);
        debug_assert!(before.is_none(), "a connection waits for one thing at a time");
        id
    }

    /// The first waiter of a key.
    pub fn first_waiter(&self, db: i32, key: &[u8]) -> Option<WaiterId> {
        self.flight(db, key)?.waiters.front().copied()
    }

    /// A waiter.
    pub fn waiter(&self, id: WaiterId) -> Option<&Waiter> {
        self.waiters.get(&id)
    }

    /// Answers a waiter: takes it out of the queue and puts its answer into the outbox.
    pub fn answer(&mut self, id: WaiterId, how: WaitOutcome, answer: Answer, tally: &mut Tally<'_>) {
        if self.leave(id, how, tally) {
            self.outbox.push_back((id, answer));
        }
    }

    /// Answers a waiter `BUSY`, to ask again at once.
    pub fn reject_waiter(&mut self, id: WaiterId, tally: &mut Tally<'_>) {
        let Some(waiter) = self.waiters.get(&id) else { return };
        tally.of(waiter.rule).busy += 1;
        tally.record_request(&waiter.key, false);
        self.answer(id, WaitOutcome::Dropped, Answer::ask_again(), tally);
    }

    /// Removes a waiter that is disconnected, killed or unblocked. False when it has been answered before.
    pub fn leave(&mut self, id: WaiterId, how: WaitOutcome, tally: &mut Tally<'_>) -> bool {
        let Some(waiter) = self.waiters.remove(&id) else { return false };
        self.due.remove(&(waiter.until_ms, waiter.due));
        self.parked.remove(&waiter.client);
        self.users.remove(&waiter.user, Place::Waiter);
        if let Some(flight) = self.flight_mut(waiter.db, &waiter.key) {
            // It is nearly always the first.
            if let Some(at) = flight.waiters.iter().position(|other| *other == id) {
                flight.waiters.remove(at);
            }
        }
        self.remove_if_idle(waiter.db, &waiter.key);
        tally.record_wait(waiter.rule, how, waiter.since_ms);
        true
    }

    /// The next answer to be sent.
    pub fn next_answer(&mut self) -> Option<(WaiterId, Answer)> {
        self.outbox.pop_front()
    }

    /// A timer begins a slice of answers of its own.
    pub fn begin_answers(&mut self, now: Now) {
        self.pace.begin(now);
    }

    /// The next answer to send, as long as the slice of this moment has room.
    pub fn poll_answer(&mut self, now: Now) -> Option<(WaiterId, Answer)> {
        if self.outbox.is_empty() || !self.pace.has_room(now) {
            return None;
        }
        let next = self.outbox.pop_front()?;
        self.pace.count(next.1.value.as_ref().map_or(0, |(_, value)| value.len()));
        Some(next)
    }

    /// The answer of this waiter, out of turn.
    pub fn take_answer(&mut self, id: WaiterId) -> Option<Answer> {
        let at = self.outbox.iter().rposition(|(other, _)| *other == id)?;
        self.outbox.remove(at).map(|(_, answer)| answer)
    }

    /// An answer did not reach its waiter. If it came with a lease, the lease ends, and the waiters of the key are
    /// woken with the next deadline.
    pub fn undelivered(&mut self, answer: Answer, tally: &mut Tally<'_>) {
        let Some((db, key, token)) = answer.lease else { return };
        if self.lease(db, &key).is_some_and(|lease| lease.token == token) {
            self.end(db, &key, LeaseEnd::Voided, tally);
            self.schedule(0, Deadline::Key(db, key));
        }
    }

    /// Whether deadlines were added since the last call.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty) || !self.outbox.is_empty()
    }

    /// Whether the outbox holds answers.
    pub fn has_answers(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The earliest deadline, if it has passed. It stays the earliest until it is handled.
    pub fn due_now(&mut self, now: Now) -> Option<Deadline> {
        let (&(at, nth), due) = self.due.first_key_value()?;
        let due = (at <= now.mono_ms()).then(|| due.clone());
        if at == 0 {
            self.due.remove(&(at, nth)); // to wake waiters, once
        }
        due
    }

    /// Drops the earliest deadline.
    pub fn pass_over(&mut self) {
        self.due.pop_first();
    }

    /// The earliest deadline, in milliseconds of the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The token of the oldest lease.
    pub fn oldest(&self) -> Option<Token> {
        let flights = self.flights.values().flat_map(HashMap::values);
        flights.filter_map(|flight| flight.lease.as_ref().map(|(lease, _)| lease.token)).min_by_key(|token| token.stamp)
    }

    /// Ends all leases and back-offs of a database (of all without one). Gives the keys that have waiters, which the
    /// caller wakes.
    pub fn void(&mut self, db: Option<i32>, tally: &mut Tally<'_>) -> Vec<(i32, Arc<[u8]>)> {
        let keys: Vec<(i32, Arc<[u8]>)> = self.keys().filter(|(at, _)| db.is_none_or(|db| db == *at)).collect();
        for (db, key) in &keys {
            self.end_backoff(*db, key);
            self.end(*db, key, LeaseEnd::Voided, tally);
        }
        keys.into_iter().filter(|(db, key)| self.waiters_of(*db, key) > 0).collect()
    }

    /// Every key that has a lease, a back-off or waiters.
    pub fn keys(&self) -> impl Iterator<Item = (i32, Arc<[u8]>)> + '_ {
        self.flights.iter().flat_map(|(db, flights)| flights.keys().map(|key| (*db, key.clone())))
    }

    /// Ends the leases of a key in every database; its waiters are woken with the next deadline.
    pub fn void_key(&mut self, key: &[u8], tally: &mut Tally<'_>) {
        let dbs: Vec<i32> = self.flights.iter().filter(|(_, keys)| keys.contains_key(key)).map(|(db, _)| *db).collect();
        for db in dbs {
            self.end_backoff(db, key);
            if self.end(db, key, LeaseEnd::Voided, tally) && self.waiters_of(db, key) > 0 {
                self.schedule(0, Deadline::Key(db, self.name_of(db, key)));
            }
        }
    }

    /// Every waiter, the one that waits longest first.
    pub fn all_waiters(&self) -> Vec<WaiterId> {
        let mut ids: Vec<_> = self.waiters.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    fn flight(&self, db: i32, key: &[u8]) -> Option<&Flight> {
        self.flights.get(&db)?.get(key)
    }

    fn flight_mut(&mut self, db: i32, key: &[u8]) -> Option<&mut Flight> {
        self.flights.get_mut(&db)?.get_mut(key)
    }

    /// The key's name, shared with the flight that has it already.
    fn name_of(&self, db: i32, key: &[u8]) -> Arc<[u8]> {
        let known = self.flights.get(&db).and_then(|flights| flights.get_key_value(key));
        known.map_or_else(|| key.into(), |(name, _)| name.clone())
    }

    fn schedule(&mut self, at: u64, what: Deadline) -> u64 {
        self.dirty = true;
        self.last += 1;
        self.due.insert((at, self.last), what);
        self.last
    }

    /// Removes a key without lease, back-off and waiters.
    fn remove_if_idle(&mut self, db: i32, key: &[u8]) {
        let Some(flights) = self.flights.get_mut(&db) else { return };
        let over = |f: &Flight| f.lease.is_none() && f.backoff.is_none() && f.waiters.is_empty();
        if flights.get(key).is_some_and(over) {
            flights.remove(key);
            // Memory is given back after a burst.
            if flights.capacity() > 64 && flights.len() < flights.capacity() / 8 {
                flights.shrink_to(flights.len() * 2);
            }
            if flights.is_empty() {
                self.flights.remove(&db);
            }
        }
    }

    /// Checks what must hold between two commands.
    ///
    /// # Panics
    /// When it does not.
    pub fn validate(&self) {
        let (mut live, mut queued, mut reminders) = (0, 0, 0);
        let mut by_rule: HashMap<RuleId, u64> = HashMap::new();
        for (db, flights) in &self.flights {
            assert!(!flights.is_empty(), "an empty database is kept");
            for (key, flight) in flights {
                let going_on = flight.lease.is_some() || flight.backoff.is_some();
                assert!(going_on, "nothing is going on around a key that is kept, or they wait and nobody loads");
                assert!(flight.lease.is_some() || flight.waiters.is_empty(), "nobody waits where nobody loads");
                assert!(flight.backoff.is_none() || flight.waiters.is_empty(), "nobody waits during a back-off");
                if let Some((lease, due)) = &flight.lease {
                    live += 1;
                    *by_rule.entry(lease.rule).or_default() += 1;
                    assert_eq!(self.due.get(&(lease.until_ms, *due)), Some(&Deadline::Key(*db, key.clone())));
                }
                if let Some(due) = &flight.backoff {
                    assert_eq!(self.due.get(due), Some(&Deadline::Key(*db, key.clone())));
                }
                reminders += usize::from(flight.lease.is_some()) + usize::from(flight.backoff.is_some());
                for id in &flight.waiters {
                    let waiter = &self.waiters[id];
                    assert_eq!((waiter.db, &waiter.key), (*db, key), "a waiter stands in the queue of its key");
                    assert_eq!(self.parked.get(&waiter.client), Some(id));
                    assert_eq!(self.due.get(&(waiter.until_ms, waiter.due)), Some(&Deadline::Waiter(*id)));
                }
                queued += flight.waiters.len();
            }
        }
        assert_eq!((live, queued), (self.live, self.waiters.len()), "each waiter stands in one queue, once");
        assert_eq!((by_rule, queued), (self.by_rule.clone(), self.parked.len()));
        assert_eq!(reminders + queued, self.due.len(), "nothing is reminded of that is over");
        let leases = self.flights.values().flat_map(HashMap::values).filter_map(|flight| flight.lease.as_ref());
        let leases = leases.map(|(lease, _)| (&lease.user, Place::Lease));
        self.users.validate(leases.chain(self.waiters.values().map(|waiter| (&waiter.user, Place::Waiter))));
    }
}

#[cfg(test)]
mod tests;
