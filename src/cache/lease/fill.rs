//! How a fill is checked: stored as fresh, kept as a stale copy, or dropped.
//!
//! ```text
//!  is the token one of this node's, for this key?              no ─▶ LOST
//!  was it answered lately?                                    yes ─▶ the same answer
//!  does the key hold something else than an entry?            yes ─▶ LOST
//!  does it hold, or did it hold, something loaded later?      yes ─▶ LOST
//!  was it deleted or flushed since, or its slot elsewhere?    yes ─▶ STALE, dropped
//!  was it made stale since?                                   yes ─▶ STALE, kept for what is left of its windows
//!  else                                                           ─▶ OK
//! ```
//!
//! After a start or a change of role no load is trusted that begins within `guard`: earlier guards are forgotten.
//!
//! One comparison settles every race, because an entry carries the stamp at which its load *began*. Whether the lease
//! is still out does not matter: else a load that takes longer than its lease could never be stored.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::cache::clock::Stamp;
use crate::cache::lease::token::Token;

/// How many answers to fills are remembered, so that a `SET` that is sent again gets the same answer.
const REMEMBERED: usize = 4_096;

/// Where the value of a storing command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance<'w> {
    /// `TOKEN t`: loaded under a lease of this key.
    Token(&'w [u8]),
    /// `SINCE stamp`: loaded since then.
    Since(&'w [u8]),
}

/// What is to be done with a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillVerdict {
    /// Store it: nothing later is known.
    Trusted(Token),
    /// Keep it as a stale copy: the key was made stale at this stamp.
    Stale(Token, Stamp),
    /// Drop it: the key was deleted since the load began.
    Dead(Token),
    /// Drop it: something later was stored, or the token is not one of this node's.
    Lost(Option<Token>),
    /// It was answered before: give the same answer.
    Again(Filled),
}

/// The answer to a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// `OK`
    Ok,
    /// `STALE`
    Stale,
    /// `LOST`
    Lost,
}

/// The stamps of the last flushes: a load of a database that began before its epoch is not trusted.
#[derive(Debug, Default)]
pub struct FlushEpochs {
    all: Stamp,
    by_db: BTreeMap<i32, Stamp>,
    /// The ends of guards whose marks are forgotten, in milliseconds of the monotonic clock.
    guards: BTreeMap<i32, u64>,
}

impl FlushEpochs {
    /// Moves the epoch of a database, or of all, forward.
    pub fn raise(&mut self, db: Option<i32>, stamp: Stamp) {
        let floor = match db {
            Some(db) => self.by_db.entry(db).or_default(),
            None => &mut self.all,
        };
        *floor = stamp.max(*floor);
    }

    /// A mark of a whole database is forgotten: loads that began before its stamp, or before its guard ended, in
    /// milliseconds of the monotonic clock, are not trusted.
    pub fn pass(&mut self, db: i32, stamp: Stamp, guard_ms: u64) {
        self.raise(Some(db), stamp);
        if guard_ms > 0 {
            let guard = self.guards.entry(db).or_default();
            *guard = guard_ms.max(*guard);
        }
    }

    /// Guards of a database, or of all, are taken back.
    pub fn take_back_guards(&mut self, db: Option<i32>) {
        self.guards.retain(|of, _| db.is_some_and(|db| db != *of));
    }

    /// Earlier stamps have lost their meaning: one epoch for all databases.
    pub fn reset(&mut self, stamp: Stamp) {
        (self.all, self.by_db) = (stamp, BTreeMap::new());
    }

    /// The epoch of a database.
    pub fn of(&self, db: i32) -> Stamp {
        self.by_db.get(&db).map_or(self.all, |floor| self.all.max(*floor))
    }

    /// Whether a load began before the epoch of its database, or within a guard.
    pub fn has(&self, db: i32, token: Token) -> bool {
        token.stamp <= self.of(db) || self.guards.get(&db).is_some_and(|until| token.mono_ms < *until)
    }
}

/// The latest answers to fills, by the stamps of their tokens, which are unique.
#[derive(Debug, Default)]
pub struct Answered {
    by_stamp: HashMap<Stamp, Filled>,
    order: VecDeque<Stamp>,
}

impl Answered {
    /// The answer to the fill with a token of this stamp.
    pub fn of(&self, stamp: Stamp) -> Option<Filled> {
        self.by_stamp.get(&stamp).copied()
    }

    /// Remembers an answer, and forgets the oldest beyond a few thousand.
    pub fn remember(&mut self, stamp: Stamp, filled: Filled) {
        if self.by_stamp.insert(stamp, filled).is_none() {
            self.order.push_back(stamp);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_stamp.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNode;

    #[test]
    fn the_latest_answers_are_remembered_and_the_oldest_is_forgotten() {
        let mut answered = Answered::default();
        for n in 0..=REMEMBERED as u64 {
            answered.remember(Stamp(n), Filled::Stale);
            answered.remember(Stamp(n), Filled::Stale); // counts once
        }
        assert_eq!((answered.by_stamp.len(), answered.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!answered.by_stamp.contains_key(&Stamp(0)) && answered.by_stamp.contains_key(&Stamp(1)));
    }

    #[test]
    fn a_fill_that_is_sent_again_long_after_is_known_by_the_value_that_it_left() {
        let mut node = TestNode::at(1_000_000);
        let token = node.token("GETLOCK k");
        let fill = format!("SET k v EX 1000 TOKEN {token}");
        assert_eq!(node.call(&fill), "OK");
        node.state.answered = Answered::default();
        node.advance(500_000);
        assert_eq!(node.call(&fill), "OK");
        assert_eq!((node.inspect("k", "fresh_ms"), node.effects.len()), ("500000".into(), 0), "not stored once more");
        node.advance(500_000);
        node.state.answered = Answered::default();
        assert_eq!(node.call(&fill), "OK", "nor when it is gone");
        assert_eq!(node.dbsize(), 0);
    }

    #[test]
    fn a_load_that_was_lost_does_not_pass_for_its_successor() {
        let mut node = TestNode::at(1_000_000);
        let first = node.token("GETLOCK k LOCK 1");
        node.set_clock(500_000); // stamps follow each other closely now
        node.advance(1_000);
        let second = node.token("GETLOCK k LOCK 1");
        node.advance(1_000);
        node.plain_set("k", "t", None);
        assert_eq!(node.call(&format!("SET k first TOKEN {first}")), r#""LOST""#);
        node.plain_del("k");
        assert_eq!(node.call(&format!("SET k second TOKEN {second}")), "OK");
        assert_eq!(node.call("GET k"), "\"second\"");
    }

    #[test]
    fn a_floor_never_sinks_and_counts_for_its_own_database() {
        let mut flush_epochs = FlushEpochs::default();
        flush_epochs.raise(Some(1), Stamp(5));
        flush_epochs.raise(Some(1), Stamp(3));
        assert_eq!((flush_epochs.of(0), flush_epochs.of(1)), (Stamp(0), Stamp(5)));
        flush_epochs.raise(None, Stamp(4));
        assert_eq!((flush_epochs.of(0), flush_epochs.of(1)), (Stamp(4), Stamp(5)));
    }

    /// The answers to fills of `k`, late and in time, after something happened to another key that shares its slot.
    fn beside(lock: &str, line: &str) -> String {
        let mut node = TestNode::colliding_at(1_000_000);
        let token = node.token(&format!("GETLOCK k LOCK {lock}"));
        node.advance(1_000);
        node.call(line);
        node.plain_del("other");
        node.call(&format!("SET k v SWR 60 TOKEN {token}"))
    }

    #[test]
    fn keys_that_are_mistaken_for_each_other_distrust_a_late_load_too_many_and_none_too_few() {
        for line in ["DEL other", "STALE other"] {
            assert_eq!((beside("1", line), beside("9", line)), (r#""STALE""#.into(), "OK".into()), "{line}");
        }
        assert_eq!((beside("1", "SET other x"), beside("9", "SET other x")), (r#""LOST""#.into(), "OK".into()));
        for (line, answer) in [("DEL k", r#""STALE""#), ("STALE k", r#""STALE""#), ("SET k x", r#""LOST""#)] {
            assert_eq!((beside("1", line), beside("9", line)), (answer.into(), answer.into()), "{line}");
        }
    }

    #[test]
    fn a_tombstone_of_another_key_does_not_make_a_fresh_value_stale() {
        let mut node = TestNode::colliding_at(1_000_000);
        node.call("SET k v EX 60");
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        node.call("STALE other");
        assert_eq!(node.call(&format!("SET k w SWR 60 SINCE {stamp}")), r#""STALE""#);
        assert_eq!(node.call("GET k"), "\"v\"");
    }
}
