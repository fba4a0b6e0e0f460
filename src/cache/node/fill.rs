//! Fills: checked against what happened since the load began, counted, and their leases ended.

use crate::cache::clock::Stamp;
use crate::cache::lease::fill::{FillVerdict, Filled, Provenance};
use crate::cache::lease::outcomes::LeaseEnd;
use crate::cache::lease::token::{Of, Token};
use crate::cache::lease::tombstones::LoadConflict;
use crate::cache::node::context::Node;
use crate::cache::{Key, Slot};

impl Node<'_> {
    /// Checks a fill of `key`, by the list in `lease/fill.rs`.
    pub fn check_fill(&mut self, key: Key<'_>, provenance: Provenance<'_>) -> FillVerdict {
        let opened = match provenance {
            Provenance::Token(text) => self.state.secret.open(Of::Key(self.db, key.name), text),
            Provenance::Since(text) => self.state.secret.open(Of::Anything, text),
        };
        let Some(token) = opened else { return FillVerdict::Lost(None) };
        // A stamp (`SINCE`) serves any number of loads, so it has no answer of its own.
        let own = matches!(provenance, Provenance::Token(_));
        if own && let Some(filled) = self.state.answered.of(token.stamp) {
            return FillVerdict::Again(filled);
        }
        let there = match self.keys.peek(key) {
            Slot::Empty => Stamp::default(),
            Slot::Entry(entry) => entry.stamp(),
            Slot::Text(_) | Slot::Other => return FillVerdict::Lost(Some(token)),
        };
        let leased = own && self.state.leases.lease(self.db, key.name).is_some_and(|lease| lease.token == token);
        let gone = if leased { Stamp::default() } else { self.state.tombstones.newest_gone(key.name) };
        let newest = there.max(gone);
        if newest > token.stamp {
            return FillVerdict::Lost(Some(token));
        }
        if own && newest == token.stamp {
            return FillVerdict::Again(Filled::Ok); // its own value, stored long ago
        }
        let arrived = self.state.slots.as_ref().map_or(Stamp::default(), |slots| slots.arrived(key.name));
        if token.stamp <= arrived
            || self.state.flush_epochs.has(self.db, token)
            || token.age_ms(self.now) > self.state.settings.max_load_ms
            || token.mono_ms < self.state.began_ms.saturating_add(self.state.settings.guard_ms())
        {
            return FillVerdict::Dead(token);
        }
        let of_key = self.state.tombstones.of(token, key.name, leased);
        let no_tags = std::iter::empty::<(&[u8], _)>();
        let of_marks = self.state.invalidations.conflict(self.db, key.name, no_tags, token, self.now);
        match LoadConflict::stricter(of_key, of_marks) {
            None => FillVerdict::Trusted(token),
            Some(LoadConflict::Dead) => FillVerdict::Dead(token),
            Some(LoadConflict::Stale(at)) => FillVerdict::Stale(token, at),
        }
    }

    /// How long a load took, in milliseconds; `None` when its lease was over: a late fill may have been held up
    /// elsewhere.
    pub fn load_ms(&self, key: Key<'_>, token: Token) -> Option<u32> {
        let lease = self.state.leases.lease(self.db, key.name)?;
        let in_time = lease.token == token && self.now.mono_ms() < lease.until_ms;
        in_time.then(|| u32::try_from(token.age_ms(self.now)).unwrap_or(u32::MAX))
    }

    /// Counts and remembers the answer to a fill, and ends its lease. The caller wakes the waiters once the key has
    /// changed.
    pub fn filled(&mut self, key: Key<'_>, provenance: Provenance<'_>, token: Option<Token>, filled: Filled) {
        if filled != Filled::Ok {
            let rule = self.state.policies.id(key.name);
            let mut tally = self.state.stats.at(self.now);
            let count = tally.of(rule);
            *if filled == Filled::Stale { &mut count.refused_stale } else { &mut count.refused_lost } += 1;
        }
        let Provenance::Token(_) = provenance else { return };
        let Some(token) = token else {
            let rule = self.state.policies.id(key.name);
            self.state.stats.at(self.now).of(rule).fills_unknown += 1;
            return;
        };
        self.state.answered.remember(token.stamp, filled);
        if filled == Filled::Lost {
            // What it was lost to may be gone when it is sent again. No other load has this stamp (`Node::grant`).
            self.state.tombstones.gone(key.name, Stamp(token.stamp.0 + 1));
        }
        let mut tally = self.state.stats.at(self.now);
        let lease = self.state.leases.lease(self.db, key.name).filter(|lease| lease.token == token);
        if let Some(lease) = lease {
            tally.of(lease.rule).origin_ms += token.age_ms(self.now);
            let how = match filled {
                Filled::Ok => LeaseEnd::Filled,
                Filled::Stale => LeaseEnd::FilledStale,
                Filled::Lost => LeaseEnd::FilledLost,
            };
            self.state.leases.end(self.db, key.name, how, &mut tally);
        } else {
            let count = tally.of(self.state.policies.id(key.name));
            count.fills_late += 1;
            if self.state.leases.ran_out(token) {
                count.overdue += 1;
                count.overdue_ms += token.age_ms(self.now);
            }
        }
    }

    /// Whether this fill holds the lease of the key.
    pub fn holds(&self, key: Key<'_>, provenance: Provenance<'_>) -> bool {
        let Provenance::Token(text) = provenance else { return false };
        let token = self.state.secret.open(Of::Key(self.db, key.name), text);
        token.is_some() && self.state.leases.lease(self.db, key.name).map(|lease| lease.token) == token
    }

    /// A fill failed with an error: its lease ends.
    pub fn failed(&mut self, key: Key<'_>, provenance: Option<Provenance<'_>>) {
        if provenance.is_some() {
            self.state.stats.at(self.now).of(self.state.policies.id(key.name)).refused_error += 1;
        }
        if provenance.is_some_and(|provenance| self.holds(key, provenance)) {
            self.state.leases.end(self.db, key.name, LeaseEnd::Failed, &mut self.state.stats.at(self.now));
            self.wake_waiters(key);
        }
    }

    /// A value without `TOKEN` or `SINCE` was written just now: loads in flight are older.
    pub fn overwritten(&mut self, key: Key<'_>) {
        if self.state.tombstones.matter() {
            // With a stamp of its own: the last token's fill must not pass for what was written.
            let stamp = self.state.clock.stamp(self.now);
            self.state.tombstones.gone(key.name, stamp);
        }
        if !self.state.leases.is_idle() {
            self.state.leases.end(self.db, key.name, LeaseEnd::Voided, &mut self.state.stats.at(self.now));
            self.state.leases.end_backoff(self.db, key.name);
            self.wake_waiters(key);
        }
    }

    /// Something was stored under the key with this stamp: an earlier lease ends, since its fill could only be LOST,
    /// and so does a back-off. Answers all waiters.
    pub fn stored(&mut self, key: Key<'_>, stamp: Stamp) {
        if self.state.leases.is_idle() {
            return;
        }
        self.state.leases.end_backoff(self.db, key.name);
        if self.state.leases.lease(self.db, key.name).is_some_and(|lease| lease.token.stamp < stamp) {
            self.state.leases.end(self.db, key.name, LeaseEnd::Voided, &mut self.state.stats.at(self.now));
        }
        self.wake_waiters(key);
    }
}
