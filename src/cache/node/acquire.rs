//! Decides for callers of `GETLOCK` by the table in `lease/acquire.rs`: grants leases, ends them, wakes waiters.

use crate::cache::Node;
use crate::cache::lease::acquire::Decision;
use crate::cache::lease::acquire::Grant;
use crate::cache::lease::acquire::KeyState;
use crate::cache::lease::acquire::LeaseRequest;
use crate::cache::lease::acquire::User;
use crate::cache::lease::outcomes::ReplyState;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::cache::codec::accept::Accept;
use crate::cache::lease::outcomes::LeaseEnd;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::lease::table::{Answer, Deadline, Lease, WaiterId};
use crate::cache::lease::token::{self, Of, Token};
use crate::cache::lease::tombstones::TombstoneKind;
use crate::cache::lease::users::{UserName, share_of};
use crate::cache::node::read::{self, Found, Value};
use crate::cache::{Judge, Key, Slot, State};

/// The shortest time after which to ask again, in milliseconds.
const RETRY_MS: u64 = 20;
/// The shortest load time that early refresh reckons with: below that, clocks are too coarse.
const LEAST_LOAD_MS: u64 = 10;
/// The shortest early lease.
const LEAST_EARLY_MS: u64 = 1_000;

/// Longer names get no lease: the table keeps names, and nothing else bounds their memory.
const LONGEST_NAME: usize = 64 * 1024;

impl Node<'_> {
    /// Decides for a caller whose key is not fresh, or who names an owner; grants the lease that comes with the
    /// decision.
    pub fn decide(&mut self, key: Key<'_>, key_state: KeyState, request: LeaseRequest<'_>) -> Decision {
        if matches!(key_state, KeyState::Plain) {
            return Decision::Fresh(None);
        }
        if let KeyState::Fresh { .. } = key_state {
            return Decision::Fresh(self.resume_lease(key, request));
        }
        let stale = |otherwise: Decision, retry_ms| match key_state {
            KeyState::Swr | KeyState::Sie => Decision::Stale(Err(retry_ms)),
            _ => otherwise,
        };
        let granted =
            |grant| if key_state == KeyState::Swr { Decision::Stale(Ok(grant)) } else { Decision::Load(grant) };
        if let Some(again) = self.resume_lease(key, request) {
            return granted(again);
        }
        if let Some(left_ms) = self.state.leases.backoff_ms(self.db, key.name, self.now) {
            return stale(Decision::Busy(left_ms), left_ms);
        }
        if let Some(lease) = self.state.leases.lease(self.db, key.name) {
            // As long as the load has lasted already: callers that poll back off exponentially.
            let left_ms = lease.until_ms.saturating_sub(self.now.mono_ms());
            let retry_ms = lease.token.age_ms(self.now).max(RETRY_MS).min(left_ms.max(1));
            if key_state == KeyState::Swr {
                return Decision::Stale(Err(retry_ms));
            }
            if request.waits
                && !self.state.leases.would_deadlock(self.db, key.name, request.client)
                && self.has_place(key, request.user)
            {
                return Decision::Wait;
            }
            return stale(Decision::Busy(retry_ms), retry_ms);
        }
        match request.loads.then(|| self.grant(key, request, None)).flatten() {
            Some(grant) => granted(grant),
            None => stale(Decision::Busy(RETRY_MS), RETRY_MS),
        }
    }

    /// Whether the user of a caller may have one more of its callers wait.
    fn has_place(&mut self, key: Key<'_>, user: User<'_>) -> bool {
        match user {
            User::Calls(server) => {
                let (user, most) = (server.user(), self.state.max_waiters());
                let holds = self.state.leases.waiting_of_user(&user);
                let has_place = holds < share_of(most, self.state.settings.user_share);
                if !has_place {
                    self.refuse_share(key, user);
                }
                has_place
            }
            User::Waits(_) => true,
        }
    }

    /// A user gets no lease, or no place of a waiter, because it holds its share.
    fn refuse_share(&mut self, key: Key<'_>, user: UserName) {
        let rule = self.state.policies.id(key.name);
        self.state.stats.at(self.now).of(rule).user_share_refused += 1;
        self.state.leases.refused_user = Some(user);
    }

    /// Decides again when the value turns out to be unreadable: a lease that was granted stands, and else it is as if
    /// the key held nothing.
    pub fn decide_without_value(&mut self, key: Key<'_>, decision: Decision, request: LeaseRequest<'_>) -> Decision {
        decision.grant().map_or_else(|| self.decide(key, KeyState::Nothing, request), Decision::Load)
    }

    /// The lease that the caller holds already, by its owner's name; from now on over this connection.
    fn resume_lease(&mut self, key: Key<'_>, request: LeaseRequest<'_>) -> Option<Grant> {
        let owner = request.owner?;
        let lease = self.state.leases.held_by(self.db, key.name, owner)?;
        lease.client = request.client;
        Some(Grant { token: lease.token, left_ms: lease.until_ms.saturating_sub(self.now.mono_ms()) })
    }

    /// Draws whether the reader of a fresh entry is to refresh it early: with the probability `exp(−r / (β·Δ))` for *r*
    /// left and a load of Δ (Vattani, Chierichetti, Lowenstein: "Optimal probabilistic cache stampede prevention", VLDB
    /// 2015), but never in the first half of its life. `beta` is the caller's β; without it the policy's counts.
    pub fn should_refresh_early(&mut self, key: Key<'_>, key_state: KeyState, beta: Option<f64>) -> bool {
        let KeyState::Fresh { left_ms: Some(left_ms), load_ms: Some(load_ms), life_ms: Some(life_ms) } = key_state
        else {
            return false;
        };
        if left_ms > life_ms / 2 {
            return false;
        }
        let beta = beta.unwrap_or_else(|| {
            let policies = &self.state.policies;
            policies.policy(policies.find(key.name)).beta
        });
        let load_ms = u64::from(load_ms).max(LEAST_LOAD_MS) as f64;
        beta > 0.0 && self.state.random.unit() < (-(left_ms as f64) / (beta * load_ms)).exp()
    }

    /// Decides for the reader of a fresh entry that is to refresh it (`early`) or that names an owner: only one at a
    /// time refreshes. An early lease is short, so that a client that ignores its token delays nobody when the entry
    /// ends.
    pub fn grant_early(
        &mut self,
        key: Key<'_>,
        key_state: KeyState,
        early: bool,
        request: LeaseRequest<'_>,
    ) -> Decision {
        self.expire_lease(key);
        let leases = &self.state.leases;
        let taken =
            || leases.lease(self.db, key.name).is_some() || leases.backoff_ms(self.db, key.name, self.now).is_some();
        match key_state {
            KeyState::Fresh { load_ms: Some(load_ms), .. } if early && !taken() => {
                Decision::Fresh(self.grant(key, request, Some(u64::from(load_ms))))
            }
            KeyState::Plain => Decision::Fresh(None),
            _ => Decision::Fresh(self.resume_lease(key, request)),
        }
    }

    /// Grants a lease, unless `FILLS`, `max-leases` or `user-share` forbids it; `early_for` is the measured load time
    /// of an early refresh.
    fn grant(&mut self, key: Key<'_>, request: LeaseRequest<'_>, early_for: Option<u64>) -> Option<Grant> {
        let State { policies, leases, settings, clock, tombstones, stats, .. } = &mut *self.state;
        let rule = policies.find(key.name);
        let policy = policies.policy(rule);
        let rule = rule.map(crate::cache::rules::Rule::id).unwrap_or_default();
        if key.name.len() > LONGEST_NAME
            || leases.live() >= settings.max_leases as u64
            || policy.fills.is_some_and(|fills| leases.of_rule(rule) >= u64::from(fills))
        {
            // An early refresh that is not granted is no refusal.
            stats.at(self.now).of(rule).leases_refused += u64::from(early_for.is_none());
            return None;
        }
        let lock_ms = request.lock_ms.unwrap_or(policy.lock_ms);
        let left_ms = match early_for {
            Some(load_ms) => lock_ms.min(load_ms.saturating_mul(3).max(LEAST_EARLY_MS)),
            None => lock_ms,
        };
        let user = request.user.name();
        if leases.of_user(&user) >= share_of(settings.max_leases as u64, settings.user_share) {
            if early_for.is_none() {
                self.refuse_share(key, user);
            }
            return None;
        }
        let token = Token::begun(clock.stamp(self.now), self.now);
        clock.leave_one(); // the stamp of a tombstone, should the fill be LOST
        tombstones.load_begins(Some(key.name), self.now);
        let lease = Lease {
            token,
            until_ms: self.now.mono_ms().saturating_add(left_ms),
            client: request.client,
            user,
            owner: request.owner.map(Into::into),
            rule,
            early: early_for.is_some(),
        };
        leases.grant(self.db, key.name, lease, &mut stats.at(self.now));
        Some(Grant { token, left_ms })
    }

    /// Ends the lease of a key if its deadline has passed; the first waiter then gets the next one, before any new
    /// reader.
    pub fn expire_lease(&mut self, key: Key<'_>) {
        if self.state.leases.is_idle() {
            return;
        }
        match self.state.leases.lease(self.db, key.name) {
            Some(lease) if lease.until_ms > self.now.mono_ms() => {}
            Some(_) => {
                self.state.leases.end(self.db, key.name, LeaseEnd::Expired, &mut self.state.stats.at(self.now));
                self.wake_waiters(key);
            }
            None => self.wake_waiters(key), // ended by one of the server's own commands
        }
    }

    /// Answers the waiters of a key as a `GETLOCK` of this moment would be answered, until one of them would wait.
    /// Called whenever the key's lease has ended or the key has changed. After the server was held up, waiters whose
    /// time is over are among them: they get what is there, but no lease.
    pub fn wake_waiters(&mut self, key: Key<'_>) {
        if self.state.leases.waiting() == 0 {
            return;
        }
        let mut values = Values::default();
        while let Some(id) = self.state.leases.first_waiter(self.db, key.name) {
            if !self.wake(key, id, true, &mut values) {
                break;
            }
        }
    }

    /// Answers a waiter that may wait no longer. Waiters of one key that time out together share the value.
    pub fn give_up(&mut self, id: WaiterId, values: &mut Values) {
        let Some(name) = self.state.leases.waiter(id).map(|waiter| waiter.key.clone()) else { return };
        let key = Key::named(&name);
        self.expire_lease(key); // the first waiter gets the next lease; it may be this one
        if values.of.as_ref() != Some(&(self.db, name.clone())) {
            *values = Values { of: Some((self.db, name.clone())), ..Values::default() };
        }
        self.wake(key, id, false, values);
    }

    /// Handles a deadline that has passed.
    pub fn handle_deadline(&mut self, due: &Deadline, values: &mut Values) {
        match due {
            Deadline::Waiter(id) => self.give_up(*id, values),
            Deadline::Key(_, name) => {
                let key = Key::named(name);
                if self.state.leases.backoff_ms(self.db, name, self.now).is_none() {
                    self.state.leases.end_backoff(self.db, name);
                }
                self.expire_lease(key);
            }
        }
    }

    /// Answers one waiter; false when it is to wait on.
    fn wake(&mut self, key: Key<'_>, id: WaiterId, waits: bool, values: &mut Values) -> bool {
        let Some(waiter) = self.state.leases.waiter(id) else { return false };
        let (client, user) = (waiter.client, waiter.user.clone());
        let (options, rule) = (waiter.options.clone(), waiter.rule);
        let overdue = waiter.is_overdue(self.now);
        let waits = waits && !overdue;
        let slot = self.keys.peek(key);
        let wrong_type = matches!(slot, Slot::Other);
        let key_state = KeyState::of(slot, Judge::new(&self.state.invalidations, self.db, key.name, self.now));
        // A parked connection closes no cycle: that was checked when it was parked.
        let owner = options.owner.as_deref();
        let user = User::Waits(&user);
        let request = LeaseRequest { client, user, lock_ms: options.lock_ms, owner, waits, loads: !overdue };
        let mut decision = match wrong_type {
            true => Decision::Busy(RETRY_MS), // it gets WRONGTYPE when it asks again
            false => self.decide(key, key_state, request),
        };
        let mut shared = None;
        if decision.serves() {
            shared = values.get(self, key, options.accept);
            if shared.is_none() {
                decision = self.decide_without_value(key, decision, request);
            }
        }
        if decision == Decision::Wait {
            return false;
        }
        let (value, absent, fresh_ms) = match shared.filter(|_| decision.serves()) {
            Some(Shared::Value(value, fresh_ms)) => (Some(value), false, fresh_ms),
            Some(Shared::Absent(fresh_ms)) => (None, true, fresh_ms),
            None => (None, false, 0),
        };
        let told_nil = options.native && decision.grant().is_some();
        if options.native && (told_nil || !decision.serves()) {
            let (now, grant) = (self.now, decision.grant());
            let token = grant.map_or_else(|| Token::begun(self.state.clock.stamp(now), now), |grant| grant.token);
            self.begin_nil_load(key, client, token);
        }
        let value = value.filter(|_| !told_nil);
        let state = decision.reply_state(absent);
        let fresh_ms = if state == ReplyState::Stale { 0 } else { fresh_ms };
        let how = decision.wait_outcome(waits);
        let answer = Answer {
            state,
            value,
            with_encoding: options.accept.is_some(),
            token: decision.grant().map(|grant| self.text(key, grant.token)),
            fresh_ms,
            lease_ms: decision.lease_ms(),
            lease: decision.grant().map(|grant| (self.db, key.name.into(), grant.token)),
        };
        let slot = self.keys.peek(key);
        let judge = Judge::new(&self.state.invalidations, self.db, key.name, self.now);
        let mut tally = self.state.stats.at(self.now);
        let reason = tally.miss_reason(read::miss_reason(slot, judge), key.name);
        let count = match slot {
            Slot::Entry(entry) if state.is_served() => tally.of_hit(entry),
            _ => tally.of(rule),
        };
        *count.read(state, reason) += 1;
        tally.record_request(key.name, state.is_served());
        self.state.leases.answer(id, how, answer, &mut tally);
        true
    }

    /// A token, sealed for clients.
    pub fn text(&self, key: Key<'_>, token: Token) -> [u8; token::LEN] {
        self.state.secret.seal(Of::Key(self.db, key.name), token)
    }

    /// Answers all waiters with a value that could not be stored.
    pub fn serve_waiters(&mut self, key: Key<'_>, value: Option<&[u8]>) {
        if self.state.leases.waiters_of(self.db, key.name) == 0 {
            return;
        }
        let value: Option<Arc<[u8]>> = value.map(Into::into);
        while let Some(id) = self.state.leases.first_waiter(self.db, key.name) {
            let Some(waiter) = self.state.leases.waiter(id) else { break };
            let (accepts, rule) = (waiter.options.accept.is_some(), waiter.rule);
            let answer = Answer {
                state: if value.is_some() { ReplyState::Hit } else { ReplyState::Absent },
                value: value.clone().map(|bytes| ("identity", bytes)),
                with_encoding: accepts,
                token: None,
                fresh_ms: 0,
                lease_ms: 0,
                lease: None,
            };
            let mut tally = self.state.stats.at(self.now);
            let count = tally.of(rule);
            *(if value.is_some() { &mut count.hits } else { &mut count.absent_hits }) += 1;
            tally.record_request(key.name, true);
            self.state.leases.answer(id, WaitOutcome::Served, answer, &mut tally);
        }
    }

    /// No load of this key that began before now is trusted any more; its lease ends. Called after the key has changed.
    pub fn void_loads(&mut self, key: Key<'_>, kind: TombstoneKind) {
        let State { clock, tombstones, settings, leases, stats, .. } = &mut *self.state;
        if tombstones.matter() || settings.guard_ms() > 0 {
            tombstones.record(kind, key.name, clock.stamp(self.now), settings.guard_ms(), self.now);
        }
        if leases.is_idle() {
            return;
        }
        if kind == TombstoneKind::Deleted {
            leases.end_backoff(self.db, key.name);
        }
        leases.end(self.db, key.name, LeaseEnd::Voided, &mut stats.at(self.now));
        self.wake_waiters(key);
    }
}

/// What a key holds, read once for all waiters that want it in the same encoding.
#[derive(Default)]
pub struct Values {
    /// The key, where values of several are asked for.
    of: Option<(i32, Arc<[u8]>)>,
    made: SmallVec<[(Option<Accept>, Option<Shared>); 1]>,
}

#[derive(Clone)]
enum Shared {
    Value((&'static str, Arc<[u8]>), i64),
    Absent(i64),
}

impl Values {
    fn get(&mut self, node: &mut Node<'_>, key: Key<'_>, accept: Option<Accept>) -> Option<Shared> {
        if let Some((_, shared)) = self.made.iter().find(|(made_for, _)| *made_for == accept) {
            return shared.clone();
        }
        let share = |value: Value<'_>| (value.encoding, Arc::from(value.bytes));
        let judge = Judge::new(&node.state.invalidations, node.db, key.name, node.now);
        let found = read::find(node.keys.peek(key), &mut node.state.codecs, judge, true, accept);
        let (shared, left_ms) = match found {
            Ok(Found::Hit { value, left_ms }) => (Some(Shared::Value(share(value), 0)), left_ms),
            Ok(Found::Stale { value }) => (Some(Shared::Value(share(value), 0)), None),
            Ok(Found::Absent { left_ms }) => (Some(Shared::Absent(0)), left_ms),
            Ok(Found::Plain) => (node.keys.text(key).map(|text| Shared::Value(share(Value::plain(text)), 0)), None),
            Ok(Found::Miss(_)) | Err(_) => (None, None),
        };
        let shared = shared.map(|shared| {
            let fresh_ms = read::fresh_ms(node.keys, key, left_ms);
            match shared {
                Shared::Value(value, _) => Shared::Value(value, fresh_ms),
                Shared::Absent(_) => Shared::Absent(fresh_ms),
            }
        });
        self.made.push((accept, shared.clone()));
        shared
    }
}
