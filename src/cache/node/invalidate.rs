//! Runs an invalidation: counts its hits, adds its marks, replicates, signals, ends leases, requests walks of the
//! sweep.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::cache::clock::Now;
use crate::cache::effects::Effect;
use crate::cache::entry::Freshness;
use crate::cache::glob::Glob;
use crate::cache::ids::TagId;
use crate::cache::invalidation::mark::{Hardness, InvalidationMark, MarkTarget, Verdict};
use crate::cache::invalidation::messages::{Invalidation, InvalidationOutcome, MarkMessage, encode};
use crate::cache::invalidation::selector::{Scope, Selector};
use crate::cache::invalidation::sweep::Walk;
use crate::cache::{Cx, Judge, Key, Slot, State};
use crate::config::Settings;

/// The pseudo-key of a tag is this and the tag. Write permission on it is permission to invalidate the tag, and clients
/// that track it are informed.
pub const TAG_KEY: &[u8] = b"smartcache:tag:";
/// The most slots of posting lists that are looked at one by one to count hits, and to signal what is hit to `WATCH`
/// and `CLIENT TRACKING`. Above it the counts of the tag index are taken, which include entries that other tags have
/// hit, and the sweep signals.
const MAX_COUNTED_ONE_BY_ONE: usize = 1_000;

impl Invalidation<'_> {
    /// Runs the invalidation in the selected database.
    pub fn run(&self, cx: &mut Cx<'_, '_>) -> InvalidationOutcome {
        let db = cx.caller.db;
        let hits = self.count_hits(cx);
        cx.effects.push(Effect::ReplicateMark(encode(&MarkMessage::Invalidation(self.clone()))));
        self.add_marks(cx.state, db, cx.now);
        if let Selector::Tags(tags) = &self.selector {
            for tag in tags {
                cx.effects.push(Effect::SignalName([TAG_KEY, tag].concat().into()));
            }
        }
        if matches!(self.selector, Selector::All) {
            cx.state.leases.void(Some(db), &mut cx.state.stats.at(cx.now));
        }
        let walks = if cx.server.is_replica() { Vec::new() } else { self.request_walks(cx.state, db, cx.now) };
        InvalidationOutcome { hits, walks }
    }

    /// Bounds the guard by this node's setting: what a file or another node says is obeyed, but not for ever.
    pub fn bound_guard(&mut self, settings: &Settings) {
        self.guard_ms = self.guard_ms.min(settings.max_guard_ms);
    }

    /// Bounds the ramp likewise. A replica does not, so that it judges entries as its primary does.
    pub fn bound_ramp(&mut self, settings: &Settings) {
        if let Hardness::Soft { over_ms } = &mut self.hardness {
            *over_ms = (*over_ms).min(settings.max_over_ms);
        }
    }

    /// Adds the marks, without anything else that an invalidation does.
    pub(super) fn add_marks(&self, state: &mut State, db: i32, now: Now) {
        let guard_ms = if self.guard_ms == 0 { 0 } else { now.mono_ms().saturating_add(self.guard_ms) };
        let mark = InvalidationMark { stamp: self.stamp, at_ms: self.at_ms, hardness: self.hardness, guard_ms };
        match &self.selector {
            Selector::All => state.invalidations.add(db, MarkTarget::All, mark),
            Selector::Prefixes(names) => {
                names.iter().for_each(|name| state.invalidations.add(db, MarkTarget::Prefix(name), mark))
            }
            Selector::Patterns(names) => {
                names.iter().for_each(|name| state.invalidations.add(db, MarkTarget::Pattern(name), mark))
            }
            Selector::Tags(names) => {
                for name in names {
                    match self.tag_to_mark(state, name) {
                        Some(id) => state.invalidations.add(db, MarkTarget::Tag(id), mark),
                        None => state.invalidations.add_forgotten_tag(db, name, mark),
                    }
                }
            }
        }
    }

    /// The id of a tag that is to have a mark. A tag without an id is on no entry, and gets one only for what a table
    /// cannot keep: a ramp, and a guard that this node would not know after a restart. (It then trusts no load that
    /// begins within `smartcache.guard`.)
    fn tag_to_mark(&self, state: &mut State, name: &[u8]) -> Option<TagId> {
        let has_ramp = matches!(self.hardness, Hardness::Soft { over_ms } if over_ms > 0);
        match state.tags.known(name) {
            None if has_ramp || self.guard_ms > state.settings.guard_ms() => state.tags.intern_unlimited(name),
            known => known,
        }
    }

    /// Requests the walks that free what it hits, and returns the jobs that are due at once.
    fn request_walks(&self, state: &mut State, db: i32, now: Now) -> Vec<u64> {
        let ramp_ends = self.hardness.ramp_ends(self.at_ms, now);
        let walks: Vec<Walk> = match &self.selector {
            Selector::Tags(tags) => {
                let held = |id: &TagId| state.live.holders(*id) > 0;
                tags.iter().filter_map(|tag| state.tags.known(tag)).filter(held).map(Walk::Tag).collect()
            }
            _ => vec![Walk::Keys],
        };
        let mut jobs = Vec::new();
        for walk in walks {
            jobs.push(state.sweep.request(db, walk, 0));
            if let Some(due_ms) = ramp_ends {
                state.sweep.request(db, walk, due_ms);
            }
        }
        jobs
    }

    /// How many entries it will hit that no mark has hit yet.
    fn count_hits(&self, cx: &mut Cx<'_, '_>) -> u64 {
        let db = cx.caller.db;
        if !cx.state.invalidations.is_latest(db, self.stamp) {
            return 0; // replayed: entries have been stored after it
        }
        let tags = match &self.selector {
            Selector::All => return cx.state.invalidations.count_hits_of_all(db),
            Selector::Prefixes(_) | Selector::Patterns(_) => return 0,
            Selector::Tags(tags) => tags,
        };
        let ids: SmallVec<[TagId; 8]> = tags.iter().filter_map(|tag| cx.state.tags.known(tag)).collect();
        let marks = &cx.state.invalidations;
        let slots = |id: TagId| marks.with_tag_index(db, |index| index.slot_count(id)).unwrap_or(0);
        let all_listed = |id: &TagId| marks.with_tag_index(db, |index| index.lists_every_entry(*id)) != Some(false);
        let few =
            ids.iter().map(|id| slots(*id)).sum::<usize>() <= MAX_COUNTED_ONE_BY_ONE && ids.iter().all(all_listed);
        let (hits, entries) = if !few {
            let hits = ids.iter().map(|id| cx.state.invalidations.count_hits_of_tag(db, *id)).sum();
            (hits, hits)
        } else {
            self.count_one_by_one(cx, &ids)
        };
        cx.state.invalidations.add_hits(db, entries);
        hits
    }

    /// The same with a look at each entry: once for each tag that hits it, and once for each entry.
    fn count_one_by_one(&self, cx: &mut Cx<'_, '_>, tags: &[TagId]) -> (u64, u64) {
        let (db, marks) = (cx.caller.db, cx.state.invalidations.clone());
        // There may be thousands of tags.
        let places: HashMap<TagId, usize> = tags.iter().enumerate().map(|(at, tag)| (*tag, at)).collect();
        let (mut hits, mut entries) = (0, 0);
        for (at, tag) in tags.iter().enumerate() {
            for slot in 0..marks.with_tag_index(db, |index| index.slot_count(*tag)).unwrap_or(0) {
                let name: Option<Box<[u8]>> =
                    marks.with_tag_index(db, |index| index.key_at(*tag, slot).map(Into::into)).flatten();
                let Some(name) = name else { continue };
                let Slot::Entry(entry) = cx.keys.peek(Key::named(&name)) else { continue };
                let changes = match (self.hardness, Judge::new(&marks, db, &name, cx.now).freshness(entry)) {
                    (Hardness::Hard, freshness) => freshness != Freshness::Dead,
                    (Hardness::Soft { .. }, freshness) => matches!(freshness, Freshness::Fresh { .. }),
                };
                if !entry.tags().any(|own| own == *tag) {
                    continue;
                }
                let untouched = marks.verdict(db, &name, entry, cx.now) == Verdict::Untouched;
                hits += u64::from(changes && untouched);
                // Once, in the posting list of the first tag that is named.
                let first = entry.tags().filter_map(|own| places.get(&own)).min() == Some(&at);
                entries += u64::from(first && marks.is_counted(db, entry));
                if first && changes {
                    cx.effects.push(Effect::SignalName(name));
                }
            }
        }
        (hits, entries)
    }
}

impl State {
    /// The scope of a selector.
    pub fn scope(&self, selector: &Selector<'_>) -> Scope {
        match selector {
            Selector::All => Scope::All,
            Selector::Tags(tags) => Scope::Tags(tags.iter().filter_map(|tag| self.tags.known(tag)).collect()),
            Selector::Prefixes(prefixes) => Scope::Prefixes(prefixes.iter().map(|prefix| (*prefix).into()).collect()),
            Selector::Patterns(patterns) => {
                Scope::Patterns(patterns.iter().map(|pattern| Glob::new(pattern)).collect())
            }
        }
    }

    /// The walks that come to every entry of a selector.
    pub fn walks(&self, selector: &Selector<'_>) -> Vec<Walk> {
        let Selector::Tags(tags) = selector else { return vec![Walk::Keys] };
        let ids: Vec<_> = tags.iter().filter_map(|tag| self.tags.known(tag)).collect();
        if ids.iter().any(|id| u64::from(self.live.holders(*id)) > self.invalidations.count_listed(*id)) {
            return vec![Walk::Keys]; // not all entries with the tag are listed
        }
        ids.into_iter().map(Walk::Tag).collect()
    }
}
