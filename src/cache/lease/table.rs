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
//! all waiters and anything else grants the next lease to the first of them. (After a flush, which ends any number,
//! they are woken with the next deadlines, or by whoever asks for the key before.) A waiter is answered exactly once:
//! [`Leases::answer`] takes it out of the queue and puts its answer into the outbox, which the host empties in slices.
//!
//! Nothing here outlives the process: after a failover the next reader gets a new lease. Late fills do not need this
//! table either: their token proves itself (`token.rs`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::flights::{Due, Flight, Flights, Remains};
use crate::cache::clock::{Now, Stamp};
use crate::cache::ids::RuleId;
use crate::cache::lease::outcomes::{LeaseEnd, ReplyState, WaitOutcome};
use crate::cache::lease::pace::Pace;
use crate::cache::lease::token::Token;
use crate::cache::lease::users::{UserName, Users};
use crate::cache::stats::Tally;

pub use super::flights::{Lease, WaiterId};

/// How many expired leases are remembered.
const REMEMBERED: usize = 1_024;

/// The options of a caller that was parked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitOptions {
    /// `LOCK`, in milliseconds.
    pub lock_ms: Option<u64>,
    /// `OWNER`.
    pub owner: Option<Box<[u8]>>,
    /// `ACCEPT`.
    pub accept: Option<crate::cache::codec::accept::Accept>,
    /// It is an unmodified client's `GET`: whoever is to load is told nil.
    pub native: bool,
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
    nth: u64,
}

impl Waiter {
    /// Whether its time was over before now.
    pub fn is_overdue(&self, now: Now) -> bool {
        self.until_ms < now.mono_ms()
    }
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
    /// The leases of each database that has any.
    databases: BTreeMap<i32, Flights>,
    /// Of databases whose leases have all been ended at once.
    remains: Vec<Remains>,
    waiters: HashMap<WaiterId, Waiter>,
    /// The one waiter of each parked connection.
    parked: HashMap<u64, WaiterId>,
    /// How many waiters each user has.
    waiting_users: Users,
    /// The last user to whom something was refused because of its share.
    pub refused_user: Option<UserName>,
    /// The waiters by the ends of their waits.
    waits: BTreeMap<Due, WaiterId>,
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
        self.databases.is_empty()
    }

    /// How many leases are out.
    pub fn live(&self) -> u64 {
        self.databases.values().map(Flights::live).sum()
    }

    /// How many callers are parked.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// How many leases are out for the keys of a rule.
    pub fn of_rule(&self, rule: RuleId) -> u64 {
        self.databases.values().map(|flights| flights.of_rule(rule)).sum()
    }

    /// How many leases a user holds.
    pub fn of_user(&self, user: &str) -> u64 {
        self.databases.values().map(|flights| flights.of_user(user)).sum()
    }

    /// How many waiters a user has.
    pub fn waiting_of_user(&self, user: &str) -> u64 {
        self.waiting_users.count(user)
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
        let (name, nth) = (self.name_of(db, key), self.next());
        self.databases.entry(db).or_default().grant(name, lease, nth);
    }

    /// Ends the lease of a key, if there is one. The caller then wakes the waiters of the key.
    pub fn end(&mut self, db: i32, key: &[u8], how: LeaseEnd, tally: &mut Tally<'_>) -> bool {
        let Some(lease) = self.databases.get_mut(&db).and_then(|flights| flights.end(key)) else { return false };
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
        self.remove_if_empty(db);
        true
    }

    /// Whether the lease of this token is among the latest that expired.
    pub fn ran_out(&self, token: Token) -> bool {
        self.ran_out.contains(&token.stamp)
    }

    /// Moves the end of a lease.
    pub fn extend(&mut self, db: i32, key: &[u8], until_ms: u64) {
        if let Some(flights) = self.databases.get_mut(&db) {
            flights.extend(key, until_ms);
            self.dirty = true;
        }
    }

    /// Starts a back-off: no lease of the key is granted until then. The caller then wakes the waiters of the key.
    pub fn back_off(&mut self, db: i32, key: &[u8], until_ms: u64) {
        self.end_backoff(db, key);
        let (name, nth) = (self.name_of(db, key), self.next());
        self.databases.entry(db).or_default().back_off(name, (until_ms, nth));
    }

    /// Ends a back-off, if there is one.
    pub fn end_backoff(&mut self, db: i32, key: &[u8]) {
        if let Some(flights) = self.databases.get_mut(&db) {
            flights.end_backoff(key);
            self.remove_if_empty(db);
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
        self.waiting_users.add(&user);
        let (name, nth) = (self.name_of(db, key), self.next());
        let id = WaiterId(nth);
        self.waits.insert((until_ms, nth), id);
        let flight = self.databases.entry(db).or_default().get_or_create(name.clone());
        debug_assert!(flight.lease.is_some(), "nobody waits where nobody loads");
        let rule = flight.lease.as_ref().map(|(lease, _)| lease.rule).unwrap_or_default();
        flight.waiters.push_back(id);
        let (options, since_ms) = (Arc::new(options), now.mono_ms());
        let waiter = Waiter { db, key: name, client, user, since_ms, until_ms, nth, options, rule };
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
        self.waits.remove(&(waiter.until_ms, waiter.nth));
        self.parked.remove(&waiter.client);
        self.waiting_users.remove(&waiter.user);
        if let Some(flights) = self.databases.get_mut(&waiter.db)
            && let Some(flight) = flights.get_mut(&waiter.key)
        {
            // It is nearly always the first.
            if let Some(at) = flight.waiters.iter().position(|other| *other == id) {
                flight.waiters.remove(at);
            }
            flights.remove_if_idle(&waiter.key);
            self.remove_if_empty(waiter.db);
        }
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
            if self.waiters_of(db, &key) > 0 {
                self.wake_soon(db, key);
            }
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
        let (first, db) = self.first_due()?;
        if first.0 > now.mono_ms() {
            return None;
        }
        let Some(db) = db else { return self.waits.get(&first).map(|id| Deadline::Waiter(*id)) };
        let flights = self.databases.get_mut(&db)?;
        let name = flights.first_due().map(|(_, name)| name.clone())?;
        if first.0 == 0 {
            flights.drop_due(first); // to wake waiters, once
        }
        Some(Deadline::Key(db, name))
    }

    /// Drops the earliest deadline.
    pub fn pass_over(&mut self) {
        match self.first_due() {
            Some((first, Some(db))) => _ = self.databases.get_mut(&db).map(|flights| flights.drop_due(first)),
            Some((first, None)) => _ = self.waits.remove(&first),
            None => {}
        }
    }

    /// The earliest deadline, in milliseconds of the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        self.first_due().map(|((at, _), _)| at)
    }

    /// The earliest deadline, and of which database it is; `None` for a waiter's.
    fn first_due(&self) -> Option<(Due, Option<i32>)> {
        let of_keys = self.databases.iter().filter_map(|(db, flights)| Some((flights.first_due()?.0, Some(*db))));
        of_keys.chain(self.waits.first_key_value().map(|(due, _)| (*due, None))).min_by_key(|(due, _)| *due)
    }

    /// The token of the oldest lease.
    pub fn oldest(&self) -> Option<Token> {
        self.databases.values().filter_map(Flights::oldest).min_by_key(|token| token.stamp)
    }

    /// Ends all leases and back-offs of a database (of all without one), in a time that depends on the number of
    /// waiters alone; these are woken with the next deadlines. Memory is freed later ([`free_some`](Self::free_some)).
    pub fn void(&mut self, db: Option<i32>, tally: &mut Tally<'_>) {
        let ended = match db {
            None => std::mem::take(&mut self.databases),
            Some(db) => self.databases.remove(&db).map(|flights| (db, flights)).into_iter().collect(),
        };
        if ended.is_empty() {
            return;
        }
        let mut waiters: Vec<_> = self.waiters.iter().filter(|(_, waiter)| ended.contains_key(&waiter.db)).collect();
        waiters.sort_unstable_by_key(|(id, _)| **id); // as they came
        let mut woken = Vec::new();
        for (id, waiter) in waiters {
            let queue = &mut self.databases.entry(waiter.db).or_default().get_or_create(waiter.key.clone()).waiters;
            if queue.is_empty() {
                woken.push((waiter.db, waiter.key.clone()));
            }
            queue.push_back(*id);
        }
        woken.into_iter().for_each(|(db, key)| self.wake_soon(db, key));
        for flights in ended.into_values() {
            flights.rules().for_each(|(rule, count)| tally.of(rule).leases_voided += count);
            self.remains.push(flights.into_remains());
        }
    }

    /// Whether [`void`](Self::void) has left anything to be freed.
    pub fn has_remains(&self) -> bool {
        !self.remains.is_empty()
    }

    /// Frees some of what [`void`](Self::void) has left; whether there is more.
    pub fn free_some(&mut self) -> bool {
        if self.remains.last_mut().is_some_and(|remains| !remains.free_some()) {
            self.remains.pop();
        }
        self.has_remains()
    }

    /// Every key that has a lease, a back-off or waiters.
    pub fn keys(&self) -> impl Iterator<Item = (i32, Arc<[u8]>)> + '_ {
        self.databases.iter().flat_map(|(db, flights)| flights.keys().map(|key| (*db, key.clone())))
    }

    /// Ends the leases of a key in every database; its waiters are woken with the next deadline.
    pub fn void_key(&mut self, key: &[u8], tally: &mut Tally<'_>) {
        let concerned = self.databases.iter().filter(|(_, flights)| flights.get(key).is_some());
        let dbs: Vec<i32> = concerned.map(|(db, _)| *db).collect();
        for db in dbs {
            self.end_backoff(db, key);
            if self.end(db, key, LeaseEnd::Voided, tally) && self.waiters_of(db, key) > 0 {
                self.wake_soon(db, self.name_of(db, key));
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
        self.databases.get(&db)?.get(key)
    }

    fn flight_mut(&mut self, db: i32, key: &[u8]) -> Option<&mut Flight> {
        self.databases.get_mut(&db)?.get_mut(key)
    }

    /// The key's name, shared with the flight that has it already.
    fn name_of(&self, db: i32, key: &[u8]) -> Arc<[u8]> {
        let known = self.databases.get(&db).and_then(|flights| flights.name_of(key));
        known.map_or_else(|| key.into(), Arc::clone)
    }

    /// Has the waiters of a key woken with the next deadline.
    fn wake_soon(&mut self, db: i32, key: Arc<[u8]>) {
        let nth = self.next();
        self.databases.entry(db).or_default().wake_soon(key, nth);
    }

    /// The number of the next deadline.
    fn next(&mut self) -> u64 {
        self.dirty = true;
        self.last += 1;
        self.last
    }

    fn remove_if_empty(&mut self, db: i32) {
        if self.databases.get(&db).is_some_and(Flights::is_empty) {
            self.databases.remove(&db);
        }
    }

    /// Checks what must hold between two commands.
    ///
    /// # Panics
    /// When it does not.
    pub fn validate(&self) {
        for (db, flights) in &self.databases {
            flights.validate(|id, name| {
                self.waiters.get(&id).is_some_and(|waiter| {
                    assert_eq!(self.parked.get(&waiter.client), Some(&id));
                    assert_eq!(self.waits.get(&(waiter.until_ms, waiter.nth)), Some(&id));
                    (waiter.db, &waiter.key) == (*db, name)
                })
            });
        }
        let queued: usize = self.databases.values().map(Flights::waiters).sum();
        assert_eq!(queued, self.waiters.len(), "each waiter stands in one queue, once");
        assert_eq!((queued, queued), (self.parked.len(), self.waits.len()));
        self.waiting_users.validate(self.waiters.values().map(|waiter| &waiter.user));
    }
}

#[cfg(test)]
mod tests;
