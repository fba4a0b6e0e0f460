//! Runs an invalidation: counts its hits, adds its marks, replicates, signals, ends leases, requests walks of the
//! sweep.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::cache::clock::Now;
use crate::cache::effects::Effect;
use crate::cache::entry::Freshness;
use crate::cache::error::{Error, Word};
use crate::cache::glob::Glob;
use crate::cache::ids::TagId;
use crate::cache::invalidation::fold::{Fold, Lack};
use crate::cache::invalidation::mark::{Hardness, InvalidationMark, MarkTarget, Verdict};
use crate::cache::invalidation::marks::Invalidations;
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

    fn mark(&self, now: Now) -> InvalidationMark {
        let guard_ms = if self.guard_ms == 0 { 0 } else { now.mono_ms().saturating_add(self.guard_ms) };
        InvalidationMark { stamp: self.stamp, at_ms: self.at_ms, hardness: self.hardness, guard_ms }
    }

    /// Adds the marks, without anything else that an invalidation does.
    pub(super) fn add_marks(&self, state: &mut State, db: i32, now: Now) {
        let mark = self.mark(now);
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
    /// cannot keep: a guard that this node would not know after a restart, and a ramp if there is room.
    fn tag_to_mark(&self, state: &mut State, name: &[u8]) -> Option<TagId> {
        let known = state.tags.known(name);
        let ramp = matches!(self.hardness, Hardness::Soft { over_ms } if over_ms > 0);
        if known.is_some() || !(self.has_long_guard(state) || ramp && state.has_room_for_marks(0)) {
            return known;
        }
        let id = state.tags.intern_unlimited(name)?;
        state.invalidations.add_tag_without_entry(id, name);
        Some(id)
    }

    /// Whether its guard is longer than `smartcache.guard`: within that, no load is trusted that begins after a start.
    fn has_long_guard(&self, state: &State) -> bool {
        self.guard_ms > state.settings.guard_ms()
    }

    /// Refuses an invalidation, before it has a stamp, whose marks would find no room: nothing has changed then. Else
    /// gives the prefixes, if any, that take the place of longer ones, with the marks they get: those are to be run
    /// first. `may` says whether the caller may invalidate a prefix.
    pub fn make_room(&self, cx: &Cx<'_, '_>, may: impl Fn(&[u8]) -> bool) -> Result<Vec<Fold>, Error> {
        let state = &*cx.state;
        let lacks_bytes = |what: &str| {
            Error::Refused(format!("no room for {what}: let the sweep catch up, or raise smartcache.index-memory"))
        };
        match &self.selector {
            Selector::All => Ok(Vec::new()),
            Selector::Tags(names) => {
                let new = names.iter().filter(|name| state.tags.known(name).is_none());
                let bytes: usize = new.map(|name| Invalidations::bytes_without_entry(name)).sum();
                match self.has_long_guard(state) && bytes > 0 && !state.has_room_for_marks(bytes as u64) {
                    true => Err(Error::Refused(
                        "no room for the GUARD of tags that no entry carries: say a shorter GUARD, or raise \
                         smartcache.index-memory"
                            .into(),
                    )),
                    false => Ok(Vec::new()),
                }
            }
            Selector::Patterns(names) => {
                let bytes: usize = names.iter().map(|name| Glob::new(name).bytes()).sum();
                match state.has_room_for_marks(bytes as u64) {
                    true => Ok(Vec::new()),
                    false => Err(lacks_bytes("more patterns")),
                }
            }
            Selector::Prefixes(names) => {
                let limits = (state.settings.max_prefixes as usize, state.marks_limit());
                let planned = state.invalidations.plan_folds(cx.caller.db, names, self.mark(cx.now), limits, may);
                planned.map_err(|lack| {
                    let first = Word::from(names.first().copied().unwrap_or_default());
                    let what = format!(
                        "more prefixes, and this user may invalidate none that is shorter than '{first}' and would take \
                         the place of many"
                    );
                    match lack {
                        Lack::Bytes => lacks_bytes(&what),
                        Lack::Count => Error::Refused(format!(
                            "no room for {what}: let the sweep catch up, or raise smartcache.max-prefixes"
                        )),
                    }
                })
            }
        }
    }

    /// Runs it with a fold before it, and leaves out the names that the folds cover.
    pub fn run_folded(mut self, cx: &mut Cx<'_, '_>, folds: &[Fold]) -> InvalidationOutcome {
        for Fold { prefix, marks } in folds {
            for InvalidationMark { at_ms, hardness, guard_ms, .. } in marks.iter().copied() {
                let (stamp, selector) = (self.stamp, Selector::Prefixes(SmallVec::from_slice(&[&**prefix])));
                let guard_ms = guard_ms.saturating_sub(cx.now.mono_ms());
                Invalidation { selector, stamp, at_ms, hardness, guard_ms }.run(cx);
            }
            cx.state.invalidations.absorb(cx.caller.db, prefix);
        }
        if let Selector::Prefixes(names) = &mut self.selector {
            names.retain(|name| !folds.iter().any(|fold| name.starts_with(&fold.prefix)));
            if names.is_empty() {
                let walks = self.request_walks(cx.state, cx.caller.db, cx.now);
                return InvalidationOutcome { hits: 0, walks };
            }
        }
        self.run(cx)
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
    /// The most bytes of marks that no entry accounts for; `None` without a limit.
    pub fn marks_limit(&self) -> Option<u64> {
        self.settings.index_memory.of(self.limits.memory)
    }

    /// Whether so many bytes of them find room.
    fn has_room_for_marks(&self, bytes: u64) -> bool {
        self.marks_limit().is_none_or(|limit| self.invalidations.mark_bytes() + bytes <= limit)
    }

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
