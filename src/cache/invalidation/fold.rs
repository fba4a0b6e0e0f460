//! Folding: many marks of prefixes become one mark of a shorter prefix, when there are too many.
//!
//! ```text
//!  app:a:1  app:a:2  app:a:3  app:b:1   +  app:a:4   ─▶   app:a:  app:b:1
//! ```
//!
//! More is invalidated, never less: the mark of the shorter prefix is as late as the newest, hard if one of them was,
//! and has their longest guards. But never more than the caller may invalidate: the prefix is one on which the caller
//! has permission. Otherwise one user's marks would end the entries of others. Where that does not make room, the
//! invalidation is refused.
//!
//! Marks are folded once there are half as many as there may be. So one user's marks leave room for those of others.

use std::ops::Bound;

use super::database::Database;
use super::mark::{Hardness, InvalidationMark};
use super::record::{Record, bytes_of_prefix};

/// How many marks are folded at once at most: removing them takes a millisecond or two.
const FOLDED_AT_ONCE: usize = 20_000;
/// How many names of one invalidation are tried.
const NAMES_TRIED: usize = 100;
/// Marks beneath a new one that are looked at, whether it covers them.
const ABSORBED_AT_ONCE: usize = 100;

/// How many marks of prefixes there may be, and their bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Marks.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
}

/// What is lacking when an invalidation by prefix is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The number of marks is at its limit.
    Count,
    /// Their bytes are.
    Bytes,
}

/// A mark in the place of many.
#[derive(Clone, Debug)]
pub struct Fold {
    /// What they have in common.
    pub prefix: Box<[u8]>,
    /// What is to be added there.
    pub marks: Vec<InvalidationMark>,
}

impl Room {
    fn has(self, count: usize, bytes: usize) -> bool {
        count <= self.count && bytes <= self.bytes
    }

    fn half(self) -> Self {
        Room { count: self.count / 2, bytes: self.bytes / 2 }
    }

    /// What one fold frees beyond what is needed, so that not every invalidation folds.
    fn step(self) -> Self {
        Room { count: self.count / 100, bytes: self.bytes / 100 }
    }
}

impl Database {
    /// The folds that make room for marks of these prefixes; empty when there is room. `may` says whether the caller
    /// may invalidate a prefix. An error when there is no room, with what is lacking.
    pub(super) fn plan_folds(
        &self,
        names: &[&[u8]],
        mark: InvalidationMark,
        room: Room,
        may: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Fold>, Lack> {
        let new: Vec<&[u8]> = names.iter().copied().filter(|name| !self.prefixes.contains_key(*name)).collect();
        let mut count = self.prefixes.len() + new.len();
        let mut bytes = self.prefix_bytes + new.iter().map(|name| bytes_of_prefix(name)).sum::<usize>();
        let mut folded: Vec<&[u8]> = Vec::new();
        for name in new.iter().take(NAMES_TRIED) {
            if room.half().has(count, bytes) {
                break;
            }
            if folded.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let wanted = Room {
                count: (count + room.step().count).saturating_sub(room.half().count),
                bytes: (bytes + room.step().bytes).saturating_sub(room.half().bytes),
            };
            let Some((prefix, freed)) = self.common_prefix(name, wanted, &may) else { continue };
            let not_added = new.iter().filter(|name| name.starts_with(prefix));
            let (mut gone, mut gone_bytes) = (freed.count, freed.bytes);
            not_added.for_each(|name| (gone, gone_bytes) = (gone + 1, gone_bytes + bytes_of_prefix(name)));
            (count, bytes) = (count + 1 - gone, bytes + bytes_of_prefix(prefix) - gone_bytes.min(bytes));
            folded.push(prefix);
        }
        if !room.has(count, bytes) && may(b"") {
            return Ok(vec![self.fold(b"", mark)]); // a caller with permission on all keys is never refused
        }
        match () {
            () if count > room.count => Err(Lack::Count),
            () if bytes > room.bytes => Err(Lack::Bytes),
            () => Ok(folded.into_iter().map(|prefix| self.fold(prefix, mark)).collect()),
        }
    }

    /// The longest prefix of a new mark's name, beneath which so many marks stand, or the shortest that the caller may
    /// invalidate; with what stands there. `None` when that is nothing.
    fn common_prefix<'n>(&self, name: &'n [u8], wanted: Room, may: impl Fn(&[u8]) -> bool) -> Option<(&'n [u8], Room)> {
        let common = |other: &[u8]| name.iter().zip(other).take_while(|(a, b)| a == b).count();
        // From the name outwards: the nearer a neighbour, the more the two have in common.
        let mut before = self.prefixes.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(name))).rev().peekable();
        let mut after = self.prefixes.range::<[u8], _>((Bound::Included(name), Bound::Unbounded)).peekable();
        let (mut len, mut found) = (name.len(), Room { count: 0, bytes: 0 });
        while found.count < FOLDED_AT_ONCE {
            let (left, right) = (before.peek().map(|next| common(next.0)), after.peek().map(|next| common(next.0)));
            let Some(shared) = left.max(right) else { break };
            if shared < len {
                let enough = found.count > 0 && found.count >= wanted.count && found.bytes >= wanted.bytes;
                if enough || !may(&name[..shared]) {
                    break;
                }
                len = shared;
            }
            let neighbour = if left == Some(shared) { before.next() } else { after.next() };
            if let Some((prefix, _)) = neighbour {
                (found.count, found.bytes) = (found.count + 1, found.bytes + bytes_of_prefix(prefix));
            }
        }
        (found.count > 0).then_some((&name[..len], found))
    }

    /// The marks in the place of all beneath a prefix, and of a new one.
    fn fold(&self, prefix: &[u8], mark: InvalidationMark) -> Fold {
        let (mut hard, mut at_ms) = (mark.hardness == Hardness::Hard, mark.at_ms);
        let mut guards = if hard { (mark.guard_ms, 0) } else { (0, mark.guard_ms) };
        for (_, record) in self.beneath(prefix).take(FOLDED_AT_ONCE) {
            hard |= record.hardest().0 > 0;
            at_ms = record.marks().filter(|mark| mark.at_ms > 0).map(|mark| mark.at_ms).fold(at_ms, u64::min);
            guards = (guards.0.max(record.hardest().1), guards.1.max(record.softest().1));
        }
        let soft = InvalidationMark { at_ms, hardness: Hardness::Soft { over_ms: 0 }, guard_ms: guards.1, ..mark };
        let mut marks = Vec::new();
        if hard || guards.0 > 0 {
            marks.push(InvalidationMark { hardness: Hardness::Hard, guard_ms: guards.0, ..mark });
        }
        if marks.is_empty() || guards.1 > 0 {
            marks.push(soft);
        }
        Fold { prefix: prefix.into(), marks }
    }

    fn beneath(&self, prefix: &[u8]) -> impl Iterator<Item = (&[u8], &Record)> {
        let range = self.prefixes.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        range.map(|(other, record)| (&**other, record)).take_while(move |(other, _)| other.starts_with(prefix))
    }

    /// Removes marks beneath a prefix that the one of the prefix itself covers.
    pub(super) fn absorb(&mut self, prefix: &[u8], most: usize) {
        let Some(own) = self.prefixes.get(prefix) else { return };
        let covered: Vec<Box<[u8]>> = self
            .beneath(prefix)
            .take(most)
            .filter(|(other, record)| other.len() > prefix.len() && own.covers(record))
            .map(|(other, _)| other.into())
            .collect();
        for other in covered {
            self.prefixes.remove(&other);
            self.prefix_bytes -= bytes_of_prefix(&other);
        }
    }

    /// The same for a few, after each new mark.
    pub(super) fn absorb_some(&mut self, prefix: &[u8]) {
        self.absorb(prefix, ABSORBED_AT_ONCE);
    }

    /// The same for all that a fold has counted.
    pub(super) fn absorb_folded(&mut self, prefix: &[u8]) {
        self.absorb(prefix, FOLDED_AT_ONCE + 1);
    }
}
