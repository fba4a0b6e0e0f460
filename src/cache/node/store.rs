//! From a value and a policy to an entry in the keyspace: what every storing command does.
//!
//! ```text
//! condition? ─▶ claim? ─▶ policy of the key ─▶ end of freshness ─▶ codec ─▶ keyspace ─▶ effects ─▶ those who wait
//!     │no         │not trusted  (rule, settings)   │past             │large: as it is, a worker compresses a copy
//!     ▼           ▼                                ▼
//!  Refused   Stale, Lost                    Over: the key is deleted
//! ```
//!
//! Without a claim (`TOKEN`, `SINCE`) a value counts as loaded now.

use smallvec::SmallVec;

use crate::cache::clock::Stamp;
use crate::cache::codec::{Choice, CodecId};
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::{Entry, Freshness, MAX_LEN, MAX_TAGS, Parts};
use crate::cache::error::Error;
use crate::cache::ids::RuleId;
use crate::cache::ids::TagId;
use crate::cache::invalidation::mark::Verdict;
use crate::cache::invalidation::tags::Tags;
use crate::cache::lease::fill::{FillVerdict, Filled, Provenance};
use crate::cache::lease::token::Token;
use crate::cache::lease::tombstones::LoadConflict;
use crate::cache::node::compression::{Packing, adaptive_of, pack, packing};
use crate::cache::node::context::Node;
use crate::cache::node::read;
use crate::cache::rules::Lifetime;
use crate::cache::{Cx, Judge, Key, Slot, State};
use crate::config::Settings;

/// What a storing command said.
#[derive(Clone, Debug)]
pub struct Options<'w> {
    /// How long it is to live.
    pub lifetime: Lifetime,
    /// Stale-while-revalidate, in milliseconds; else the policy's.
    pub swr: Option<u64>,
    /// Stale-if-error, in milliseconds; else the policy's.
    pub sie: Option<u64>,
    /// When to store at all.
    pub condition: Option<Condition>,
    /// Its own tags; the rule's are added.
    pub tags: SmallVec<[&'w [u8]; 8]>,
    /// How to store it; else the policy's.
    pub codec: Option<Choice>,
    /// Where it comes from; else from now.
    pub provenance: Option<Provenance<'w>>,
}

/// `NX` and `XX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `NX`: only where nothing fresh is; an absent entry counts as nothing.
    NothingFresh,
    /// `XX`: only where something fresh or stale is.
    SomethingThere,
}

/// What is stored.
#[derive(Clone, Copy, Debug)]
pub enum Content<'v> {
    /// A value.
    Value(&'v [u8]),
    /// The knowledge that the origin has nothing.
    Absent,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, and fresh.
    Fresh,
    /// Its lifetime was over already: the key is deleted.
    Over,
    /// The condition did not hold: nothing has changed.
    Refused,
    /// The key was deleted or made stale while this was loaded: it is kept as a stale copy, or dropped.
    Stale,
    /// It was overtaken, or is nobody's: nothing has changed.
    Lost,
}

/// A value that may not be stored, whatever its key; to be asked before anything is changed.
pub fn check_size(settings: &Settings, value: &[u8]) -> Result<(), Error> {
    let limit = settings.max_value.min(MAX_LEN as u64);
    if value.len() as u64 > limit {
        return Err(Error::TooLarge { bytes: value.len(), limit });
    }
    Ok(())
}

/// Tags that may not be stored: those of the key's rule come on top of its own, and a tag that is not kept is one whose
/// invalidation would miss the entry. To be asked before anything is changed.
pub fn check_tags(state: &State, key: &[u8], own: &[&[u8]]) -> Result<(), Error> {
    if own.len() + state.policies.most_tags() <= MAX_TAGS {
        return Ok(()); // nearly always: no need to look for the rule twice
    }
    let Some(rule) = state.policies.find(key) else { return Ok(()) };
    if own.len() + rule.tags(key).filter(|tag| !own.contains(&tag.as_slice())).count() > MAX_TAGS {
        return Err(Error::Refused(format!(
            "too many tags: {} of its own and those of rule '{}' are over {MAX_TAGS}",
            own.len(),
            rule.name()
        )));
    }
    Ok(())
}

/// Whether this may be stored at all; to be asked before anything is changed. Where only memory is lacking, whoever waits
/// for the load is handed it all the same.
pub fn check(cx: &mut Cx<'_, '_>, key: Key<'_>, content: Content<'_>, options: &Options<'_>) -> Result<(), Error> {
    if let Content::Value(value) = content {
        check_size(&cx.state.settings, value)?;
    }
    check_tags(cx.state, key.name, &options.tags)?;
    if !cx.caller.trusted && cx.server.out_of_memory() {
        let trusted = |provenance, mut node: Node<'_>| {
            node.holds(key, provenance) && matches!(node.check_fill(key, provenance), FillVerdict::Trusted(_))
        };
        if options.provenance.is_some_and(|provenance| trusted(provenance, cx.node())) {
            cx.node().serve_waiters(key, if let Content::Value(value) = content { Some(value) } else { None });
        }
        return Err(Error::OutOfMemory);
    }
    Ok(())
}

/// What a claimed value is stored as.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    stamp: Stamp,
    load_ms: Option<u32>,
    /// Its freshness ended then, in milliseconds of Unix time, before it came.
    stale_since: Option<u64>,
}

/// Stores `content` under `key`. Size and tags have been checked.
pub fn store<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'_>,
    options: &Options<'w>,
) -> Result<Outcome, Error> {
    if let Some(condition) = options.condition
        && !condition.holds(cx.keys.peek(key), Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now))
    {
        refused(cx, key);
        return Ok(Outcome::Refused);
    }
    let Some(provenance) = options.provenance else {
        let stamp = cx.state.clock.stamp(cx.now);
        let outcome = put(cx, key, content, options, Loaded { stamp, load_ms: None, stale_since: None })?;
        cx.node().stored(key, stamp);
        return Ok(outcome);
    };
    let verdict = cx.node().check_fill(key, provenance);
    let (token, stale_since) = match among_tags(cx, key, options, verdict) {
        FillVerdict::Trusted(token) => (token, None),
        // A stale copy is better than nothing, but not than what is fresh: a write-through inside a guard, say.
        FillVerdict::Stale(token, _)
            if read::is_fresh(
                cx.keys.peek(key),
                Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now),
            ) =>
        {
            return Ok(reject(cx, key, provenance, Some(token), Filled::Stale));
        }
        FillVerdict::Stale(token, at) => (token, Some(at.ms().min(cx.now.ms()))),
        FillVerdict::Again(filled) => return Ok(filled.into()),
        FillVerdict::Dead(token) => return Ok(reject(cx, key, provenance, Some(token), Filled::Stale)),
        FillVerdict::Lost(token) => return Ok(reject(cx, key, provenance, token, Filled::Lost)),
    };
    let load_ms = cx.node().load_ms(key, token);
    let outcome = put(cx, key, content, options, Loaded { stamp: token.stamp, load_ms, stale_since })?;
    let filled = match outcome {
        Outcome::Refused => return Ok(reject(cx, key, provenance, Some(token), Filled::Stale)),
        Outcome::Stale => Filled::Stale,
        Outcome::Fresh | Outcome::Over | Outcome::Lost => Filled::Ok,
    };
    let mut node = cx.node();
    node.filled(key, provenance, Some(token), filled);
    node.stored(key, token.stamp);
    Ok(outcome)
}

/// Counts a value that is not stored.
pub fn refused(cx: &mut Cx<'_, '_>, key: Key<'_>) {
    let rule = cx.state.policies.id(key.name);
    cx.state.stats.at(cx.now).of(rule).sets_refused += 1;
}

/// The same verdict, unless something that the fill names a tag of was invalidated since: its own tags or its rule's,
/// which need not have been known when the load began.
fn among_tags(cx: &Cx<'_, '_>, key: Key<'_>, options: &Options<'_>, verdict: FillVerdict) -> FillVerdict {
    let (token, stale) = match verdict {
        FillVerdict::Trusted(token) => (token, None),
        FillVerdict::Stale(token, at) => (token, Some(at)),
        _ => return verdict,
    };
    let state = &*cx.state;
    let rule = state.policies.find(key.name);
    let of_rule = rule.map(|rule| rule.tags(key.name)).into_iter().flatten();
    let known = options.tags.iter().filter_map(|name| state.tags.known(name));
    let tags = known.chain(of_rule.filter_map(|name| state.tags.known(&name)));
    match state.invalidations.conflict(cx.caller.db, key.name, tags, token, cx.now) {
        None => verdict,
        Some(LoadConflict::Dead) => FillVerdict::Dead(token),
        Some(LoadConflict::Stale(at)) => FillVerdict::Stale(token, stale.map_or(at, |other| other.min(at))),
    }
}

/// Does not store what was loaded; whoever waits for it is the next to load.
fn reject(
    cx: &mut Cx<'_, '_>,
    key: Key<'_>,
    provenance: Provenance<'_>,
    token: Option<Token>,
    filled: Filled,
) -> Outcome {
    refused(cx, key);
    let mut node = cx.node();
    node.filled(key, provenance, token, filled);
    node.wake_waiters(key);
    filled.into()
}

impl std::convert::From<Filled> for Outcome {
    fn from(filled: Filled) -> Self {
        match filled {
            Filled::Ok => Outcome::Fresh,
            Filled::Stale => Outcome::Stale,
            Filled::Lost => Outcome::Lost,
        }
    }
}

/// Puts `content` under `key`, unless it is a stale copy that nobody may be served.
fn put<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'_>,
    options: &Options<'w>,
    loaded: Loaded,
) -> Result<Outcome, Error> {
    let State { settings, policies, tags, stats, codecs, offload, random, adaptive, tombstones, .. } = &mut *cx.state;
    let rule = policies.find(key.name);
    let policy = policies.policy(rule);
    let rule_id = rule.map_or(RuleId::NONE, |rule| rule.id());
    let windows = match content {
        Content::Value(_) => (options.swr.unwrap_or(policy.swr_ms), options.sie.unwrap_or(policy.sie_ms)),
        Content::Absent => (0, 0),
    };
    let mut fresh_until = match content {
        Content::Value(_) => policy.deadline(options.lifetime, cx.now.ms(), random.unit()),
        Content::Absent => policy.absent_deadline(options.lifetime, cx.now.ms(), random.unit()),
    };
    if let Some(since) = loaded.stale_since {
        let end = fresh_until.map_or(since, |at| at.min(since));
        if end.saturating_add(windows.0.max(windows.1)) <= cx.now.ms() {
            return Ok(Outcome::Refused); // nothing of its windows is left
        }
        fresh_until = Some(end);
    } else if fresh_until.is_some_and(|at| at <= cx.now.ms()) {
        tombstones.gone(key.name, loaded.stamp);
        if cx.keys.remove(key) {
            cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
        }
        return Ok(Outcome::Over);
    }
    let tag_ids = tag_ids(tags, &options.tags, rule.map(|rule| rule.tags(key.name)).into_iter().flatten())?;
    let event = match content {
        Content::Value(_) => {
            stats.at(cx.now).of(rule_id).sets += 1;
            Event::Set
        }
        Content::Absent => {
            stats.at(cx.now).of(rule_id).absents += 1;
            Event::Absent
        }
    };

    let raw = if let Content::Value(raw) = content { raw } else { b"" };
    let packing = packing(options.codec, policy, settings, raw, rule_id, adaptive);
    let (codec, stored) = match packing {
        Packing::Now(codec) => pack(codecs, codec, raw, settings, adaptive_of(adaptive, rule_id)),
        Packing::Never | Packing::Later(_) => (CodecId::None, raw),
    };
    let job = match packing {
        Packing::Later(codec) => offload.admit(
            cx.caller.db,
            key.name,
            loaded.stamp.0,
            codec,
            settings.compression_level as i32,
            raw,
            settings.min_savings,
        ),
        Packing::Never | Packing::Now(_) => None,
    };
    let mut entry = Entry::new(Parts {
        stamp: loaded.stamp,
        fresh_until,
        absent: matches!(content, Content::Absent),
        stale: loaded.stale_since.is_some(),
        swr: windows.0,
        sie: windows.1,
        load_ms: loaded.load_ms,
        codec: codec as u8,
        raw_len: raw.len() as u32,
        rule: rule_id,
        tags: &tag_ids,
        stored,
    });
    // Loaded before a ramp (`OVER`), it ends at its offset, also when the mark is forgotten.
    if let Verdict::Later(at) = cx.state.invalidations.verdict(cx.caller.db, key.name, entry.as_ref(), cx.now) {
        entry.as_mut().end_by(at);
    }
    let gone_at = entry.as_ref().gone_at();
    cx.keys.set(key, entry, gone_at);
    let pack = job.as_ref().map(|job| job.codec);
    cx.effects.changed(key, Effect::ReplicateEntry { key, expire_at: gone_at, pack }, event);
    if let Some(job) = job {
        cx.effects.push(Effect::Compress(Box::new(job)));
    }
    Ok(if loaded.stale_since.is_some() { Outcome::Stale } else { Outcome::Fresh })
}

impl Condition {
    fn holds(self, slot: Slot<'_>, judge: Judge<'_>) -> bool {
        match (self, slot) {
            // What is neither an entry nor a string is not overwritten by accident: only a plain SET does that.
            (_, Slot::Other) => false,
            (Condition::NothingFresh, Slot::Text(_)) => false,
            (Condition::SomethingThere, Slot::Text(_)) => true,
            (Condition::NothingFresh, Slot::Empty) => true,
            (Condition::SomethingThere, Slot::Empty) => false,
            (Condition::NothingFresh, Slot::Entry(entry)) => entry.absent() || !judge.is_fresh(entry),
            (Condition::SomethingThere, Slot::Entry(entry)) => {
                !entry.absent() && judge.freshness(entry) != Freshness::Dead
            }
        }
    }
}

/// The ids of the entry's own tags, then of its rule's.
fn tag_ids(
    tags: &mut Tags,
    own: &[&[u8]],
    of_rule: impl Iterator<Item = Vec<u8>>,
) -> Result<SmallVec<[TagId; 8]>, Error> {
    let mut ids: SmallVec<[TagId; 8]> = SmallVec::new();
    let mut add = |name: &[u8]| {
        let id = tags.id(name).ok_or_else(|| {
            Error::Refused("too many tags are alive: use fewer names, or raise smartcache.max-tags".into())
        })?;
        if !ids.contains(&id) {
            ids.push(id);
        }
        Ok::<(), Error>(())
    };
    own.iter().try_for_each(|name| add(name))?;
    of_rule.into_iter().try_for_each(|name| add(&name))?;
    Ok(ids)
}
