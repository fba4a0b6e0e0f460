//! From a value and a policy to an entry in the keyspace: what every storing command does.
//!
//! ```text
//! condition ─▶ trust in the load ─▶ policy of the key ─▶ lifespan ─▶ codec ─▶ keyspace ─▶ effects ─▶ waiters
//!     │no           │no               (rule, settings)     │over       │large: stored raw, a worker compresses a copy
//!     ▼             ▼                                      ▼
//!  Refused     Stale, Lost                               Over: the key is deleted
//! ```
//!
//! Without `TOKEN` or `SINCE` a value counts as loaded now.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::cache::clock::{Now, Stamp};
use crate::cache::codec::Choice;
use crate::cache::codec::offload::Job;
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::{Entry, Freshness, MAX_LEN, MAX_TAGS, Parts};
use crate::cache::error::Error;
use crate::cache::ids::{RuleId, TagId};
use crate::cache::invalidation::mark::Verdict;
use crate::cache::invalidation::tags::Tags;
use crate::cache::lease::fill::{FillVerdict, Filled, Provenance};
use crate::cache::lease::token::{Of, Token};
use crate::cache::lease::tombstones::LoadConflict;
use crate::cache::node::compression;
use crate::cache::node::context::Node;
use crate::cache::node::read;
use crate::cache::rules::{Lifetime, Policy, Rule};
use crate::cache::stats::health::Guarded;
use crate::cache::{Cx, Judge, Key, Slot, State};
use crate::config::Settings;

/// The options of a storing command.
#[derive(Clone, Debug)]
pub struct Options<'w> {
    /// How long the entry is to live.
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
    /// Which load it comes from; else it counts as loaded now.
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

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, and fresh.
    Fresh,
    /// Its lifetime was over already: the key is deleted.
    Over,
    /// The condition did not hold: nothing has changed.
    Refused,
    /// The key was deleted or made stale during the load: the value is kept as a stale copy, or dropped.
    Stale,
    /// Something newer was stored during the load, or the token is unknown: nothing has changed.
    Lost,
}

/// Refuses a value that is too large for any key. Nothing has changed yet.
pub fn check_size(settings: &Settings, value: &[u8]) -> Result<(), Error> {
    let limit = settings.max_value.min(MAX_LEN as u64);
    if value.len() as u64 > limit {
        return Err(Error::TooLarge { bytes: value.len(), limit });
    }
    Ok(())
}

/// Refuses more tags than an entry can have: its own and those of the key's rule. (An invalidation would miss the entry
/// by a tag that was left out.) Nothing has changed yet.
pub fn check_tags(state: &State, key: &[u8], own: &[&[u8]]) -> Result<(), Error> {
    if own.len() + state.policies.most_tags() <= MAX_TAGS {
        return Ok(()); // the usual case: saves a second search for the rule
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

/// Whether this may be stored at all. Nothing has changed yet. Where only memory is lacking, waiters for a trusted load
/// are served all the same.
pub fn check(cx: &mut Cx<'_, '_>, key: Key<'_>, content: Content<'_>, options: &Options<'_>) -> Result<(), Error> {
    if let Content::Value(value) = content {
        check_size(&cx.state.settings, value)?;
    }
    check_tags(cx.state, key.name, &options.tags)?;
    if !cx.caller.trusted && cx.server.out_of_memory() {
        let is_trusted = |provenance, mut node: Node<'_>| {
            node.holds(key, provenance) && matches!(node.check_fill(key, provenance), FillVerdict::Trusted(_))
        };
        if options.provenance.is_some_and(|provenance| is_trusted(provenance, cx.node())) {
            cx.node().serve_waiters(key, if let Content::Value(value) = content { Some(value) } else { None });
        }
        return Err(Error::OutOfMemory);
    }
    Ok(())
}

/// Stores `content` under `key`. [`check`] has passed.
pub fn store<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'_>,
    options: &Options<'w>,
) -> Result<Outcome, Error> {
    if options.condition.is_some_and(|condition| !condition.holds(cx, key)) {
        count_refused(cx, key);
        return Ok(Outcome::Refused);
    }
    match options.provenance {
        None => store_now(cx, key, content, options),
        Some(provenance) => store_load(cx, key, content, options, provenance),
    }
}

/// Counts a value that is not stored.
pub fn count_refused(cx: &mut Cx<'_, '_>, key: Key<'_>) {
    let rule = cx.state.policies.id(key.name);
    cx.state.stats.at(cx.now).of(rule).sets_refused += 1;
}

/// Stores what counts as loaded now.
fn store_now<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'_>,
    options: &Options<'w>,
) -> Result<Outcome, Error> {
    let stamp = cx.state.clock.stamp(cx.now);
    let outcome = put(cx, key, content, options, Loaded { stamp, load_ms: None, stale_since: None, by_server: false })?;
    cx.node().stored(key, stamp);
    Ok(outcome)
}

/// Makes the plain string that an unmodified client has stored under a NATIVE key an entry: with `fill` it is what a
/// load has brought, and fresh only if the load is trusted. The server has sent the events and signals of it. False
/// when it cannot be an entry.
pub fn adopt<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    value: &[u8],
    lifetime: Lifetime,
    codec: Option<Choice>,
    fill: Option<(Token, FillVerdict)>,
) -> bool {
    let options =
        Options { lifetime, swr: None, sie: None, condition: None, tags: SmallVec::new(), codec, provenance: None };
    let verdict = fill.map(|(_, verdict)| check_tag_conflicts(cx, key, &options, verdict));
    let (token, stale_since) = match verdict {
        Some(FillVerdict::Trusted(token)) => (Some(token), None),
        Some(FillVerdict::Stale(token, at)) => (Some(token), Some(at.ms().min(cx.now.ms()))),
        Some(FillVerdict::Dead(token)) => {
            drop_fill(cx, key, token);
            return true;
        }
        Some(FillVerdict::Lost(_) | FillVerdict::Again(_)) | None => (None, None),
    };
    let stamp = token.map_or_else(|| cx.state.clock.stamp(cx.now), |token| token.stamp);
    let load_ms = token.and_then(|token| cx.node().load_ms(key, token));
    let loaded = Loaded { stamp, load_ms, stale_since, by_server: true };
    match (put(cx, key, Content::Value(value), &options, loaded), token) {
        (Err(_), _) => return false,
        (Ok(Outcome::Refused), Some(token)) => drop_fill(cx, key, token),
        (Ok(outcome), Some(token)) => {
            let filled = if outcome == Outcome::Stale { Filled::Stale } else { Filled::Ok };
            end_fill(cx, key, token, filled);
        }
        (Ok(_), None) => {}
    }
    cx.node().stored(key, stamp);
    true
}

/// Drops what a load has brought: its key holds nothing afterwards.
fn drop_fill<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, token: Token) {
    cx.keys.remove(key);
    cx.effects.push(Effect::ReplicateUnlink(key));
    end_fill(cx, key, token, Filled::Stale);
    cx.node().wake_waiters(key);
}

fn end_fill(cx: &mut Cx<'_, '_>, key: Key<'_>, token: Token, filled: Filled) {
    let text = cx.state.secret.seal(Of::Key(cx.caller.db, key.name), token);
    cx.node().filled(key, Provenance::Token(&text), Some(token), filled);
}

/// Stores what a load has brought, as far as the load is trusted.
fn store_load<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'_>,
    options: &Options<'w>,
    provenance: Provenance<'w>,
) -> Result<Outcome, Error> {
    let verdict = cx.node().check_fill(key, provenance);
    let verdict = check_tag_conflicts(cx, key, options, verdict);
    if let FillVerdict::Stale(token, _) | FillVerdict::Dead(token) = verdict {
        count_guarded(cx, key, options, token);
    }
    let (token, stale_since) = match verdict {
        FillVerdict::Trusted(token) => (token, None),
        // A stale copy is better than nothing, but not than something fresh, such as a write-through inside a guard.
        FillVerdict::Stale(token, _) if has_fresh(cx, key) => {
            return Ok(reject(cx, key, provenance, Some(token), Filled::Stale));
        }
        FillVerdict::Stale(token, at) => (token, Some(at.ms().min(cx.now.ms()))),
        FillVerdict::Again(filled) => return Ok(filled.into()),
        FillVerdict::Dead(token) => return Ok(reject(cx, key, provenance, Some(token), Filled::Stale)),
        FillVerdict::Lost(token) => return Ok(reject(cx, key, provenance, token, Filled::Lost)),
    };
    let load_ms = cx.node().load_ms(key, token);
    let loaded = Loaded { stamp: token.stamp, load_ms, stale_since, by_server: false };
    let outcome = put(cx, key, content, options, loaded)?;
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

/// Worsens the verdict if a tag of the fill was invalidated since the load began: one of its own or one of its rule's,
/// which need not have been known when the load began.
fn check_tag_conflicts(cx: &Cx<'_, '_>, key: Key<'_>, options: &Options<'_>, verdict: FillVerdict) -> FillVerdict {
    let (token, stale) = match verdict {
        FillVerdict::Trusted(token) => (token, None),
        FillVerdict::Stale(token, at) => (token, Some(at)),
        _ => return verdict,
    };
    let state = &*cx.state;
    let rule = state.policies.find(key.name);
    let of_rule = rule.map(|rule| rule.tags(key.name)).into_iter().flatten();
    let own = options.tags.iter().map(|name| Cow::Borrowed(*name));
    let tags = own.chain(of_rule.map(Cow::Owned)).map(|name| {
        let id = state.tags.known(&name);
        (name, id)
    });
    match state.invalidations.conflict(cx.caller.db, key.name, tags, token, cx.now) {
        None => verdict,
        Some(LoadConflict::Dead) => FillVerdict::Dead(token),
        Some(LoadConflict::Stale(at)) => FillVerdict::Stale(token, stale.map_or(at, |other| other.min(at))),
    }
}

/// Counts a fill that is not trusted because of a guard, and remembers of which.
fn count_guarded(cx: &mut Cx<'_, '_>, key: Key<'_>, options: &Options<'_>, token: Token) {
    let state = &mut *cx.state;
    let rule = state.policies.find(key.name);
    let of_rule: Vec<_> = rule.map(|rule| rule.tags(key.name)).into_iter().flatten().collect();
    let tags = options.tags.iter().copied().chain(of_rule.iter().map(Vec::as_slice));
    let tags = tags.map(|name| (name, state.tags.known(name)));
    let Some((what, until_ms)) = state.invalidations.guard_over(cx.caller.db, key.name, tags, token) else { return };
    let rule = state.policies.id(key.name);
    state.stats.at(cx.now).of(rule).refused_guarded += 1;
    state.guarded = Some(Guarded { what, db: cx.caller.db, until_ms });
}

/// Whether something fresh is under the key.
fn has_fresh(cx: &mut Cx<'_, '_>, key: Key<'_>) -> bool {
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
    read::is_fresh(cx.keys.peek(key), judge)
}

/// Does not store what was loaded; the first of its waiters loads next.
fn reject(
    cx: &mut Cx<'_, '_>,
    key: Key<'_>,
    provenance: Provenance<'_>,
    token: Option<Token>,
    filled: Filled,
) -> Outcome {
    count_refused(cx, key);
    let mut node = cx.node();
    node.filled(key, provenance, token, filled);
    node.wake_waiters(key);
    filled.into()
}

impl From<Filled> for Outcome {
    fn from(filled: Filled) -> Self {
        match filled {
            Filled::Ok => Outcome::Fresh,
            Filled::Stale => Outcome::Stale,
            Filled::Lost => Outcome::Lost,
        }
    }
}

impl Condition {
    /// Whether it holds for what is under the key.
    fn holds(self, cx: &mut Cx<'_, '_>, key: Key<'_>) -> bool {
        let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
        match (self, cx.keys.peek(key)) {
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

/// How the entry is stamped.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    /// When the load began.
    stamp: Stamp,
    /// How long it took, if that was measured.
    load_ms: Option<u32>,
    /// When it turned stale, in milliseconds of Unix time, before it was stored.
    stale_since: Option<u64>,
    /// The server's own command has stored it: the key is signalled, and its events are sent.
    by_server: bool,
}

/// Puts `content` under `key`, in steps. [`Outcome::Refused`] is a stale copy of whose windows nothing is left.
fn put<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    content: Content<'_>,
    options: &Options<'w>,
    loaded: Loaded,
) -> Result<Outcome, Error> {
    let State { settings, policies, tags, random, adaptive, .. } = &mut *cx.state;
    let rule = policies.find(key.name);
    let policy = policies.policy(rule);
    let mut lifespan = Lifespan::new(policy, content, options, cx.now, random.unit());
    if let Some(since) = loaded.stale_since {
        let Some(stale) = lifespan.stale_since(since, cx.now) else { return Ok(Outcome::Refused) };
        lifespan = stale;
    } else if lifespan.is_over(cx.now) {
        return Ok(remove(cx, key, loaded.stamp));
    }
    let tags = tag_ids(tags, &options.tags, rule.map(|rule| rule.tags(key.name)).into_iter().flatten())?;
    let rule = rule.map_or(RuleId::NONE, Rule::id);
    let raw = if let Content::Value(raw) = content { raw } else { b"" };
    let plan = compression::plan(options.codec, policy, settings, raw, rule, adaptive);
    let event = count(cx, content, rule);
    let (codec, stored, job) = cx.state.pack(plan, raw, rule, (cx.caller.db, key.name, loaded.stamp));
    let entry = Entry::new(Parts {
        stamp: loaded.stamp,
        fresh_until: lifespan.fresh_until,
        absent: matches!(content, Content::Absent),
        stale: loaded.stale_since.is_some(),
        swr: lifespan.swr,
        sie: lifespan.sie,
        load_ms: loaded.load_ms,
        codec: codec as u8,
        raw_len: raw.len() as u32,
        rule,
        tags: &tags,
        stored,
    });
    insert(cx, key, entry, (!loaded.by_server).then_some(event), job);
    Ok(if loaded.stale_since.is_some() { Outcome::Stale } else { Outcome::Fresh })
}

/// Until when an entry is fresh, and for how long after that it may be served.
#[derive(Clone, Copy, Debug)]
struct Lifespan {
    fresh_until: Option<u64>,
    swr: u64,
    sie: u64,
}

impl Lifespan {
    /// What options and policy give; `random`, from 0 to 1, makes the jitter.
    fn new(policy: &Policy, content: Content<'_>, options: &Options<'_>, now: Now, random: f64) -> Self {
        match content {
            Content::Value(_) => Self {
                fresh_until: policy.deadline(options.lifetime, now.ms(), random),
                swr: options.swr.unwrap_or(policy.swr_ms),
                sie: options.sie.unwrap_or(policy.sie_ms),
            },
            Content::Absent => {
                Self { fresh_until: policy.absent_deadline(options.lifetime, now.ms(), random), swr: 0, sie: 0 }
            }
        }
    }

    /// The same for what turned stale at `since`; `None` when nothing is left of its windows.
    fn stale_since(self, since: u64, now: Now) -> Option<Self> {
        let end = self.fresh_until.map_or(since, |at| at.min(since));
        let left = end.saturating_add(self.swr.max(self.sie)) > now.ms();
        left.then_some(Self { fresh_until: Some(end), ..self })
    }

    fn is_over(self, now: Now) -> bool {
        self.fresh_until.is_some_and(|at| at <= now.ms())
    }
}

/// Deletes the key instead of storing what is not fresh any more.
fn remove<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, stamp: Stamp) -> Outcome {
    cx.state.tombstones.gone(key.name, stamp);
    if cx.keys.remove(key) {
        cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
    }
    Outcome::Over
}

/// The ids of the entry's own tags, then of its rule's.
fn tag_ids(
    tags: &mut Tags,
    own: &[&[u8]],
    of_rule: impl Iterator<Item = Vec<u8>>,
) -> Result<SmallVec<[TagId; 8]>, Error> {
    let mut ids: SmallVec<[TagId; 8]> = SmallVec::new();
    let mut add = |name: &[u8]| {
        let id = tags.intern(name).ok_or_else(|| {
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

/// Counts the store, and names its keyspace event.
fn count(cx: &mut Cx<'_, '_>, content: Content<'_>, rule: RuleId) -> Event {
    let mut tally = cx.state.stats.at(cx.now);
    match content {
        Content::Value(_) => {
            tally.of(rule).sets += 1;
            Event::Set
        }
        Content::Absent => {
            tally.of(rule).absents += 1;
            Event::Absent
        }
    }
}

/// Puts the finished entry into the keyspace, and pushes the effects.
fn insert<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, mut entry: Entry, event: Option<Event>, job: Option<Job>) {
    // Loaded before a ramp (`OVER`), it ends at its offset, also once the mark is forgotten.
    if let Verdict::Later(at) = cx.state.invalidations.verdict(cx.caller.db, key.name, entry.as_ref(), cx.now) {
        entry.as_mut().end_by(at);
    }
    let gone_at = entry.as_ref().gone_at();
    cx.keys.set(key, entry, gone_at);
    let pack = job.map(Box::new);
    let replicate = Effect::ReplicateEntry { key, expire_at: gone_at, pack };
    match event {
        Some(event) => cx.effects.changed(key, replicate, event),
        None => {
            cx.effects.push(replicate);
            cx.effects.push(Effect::Signal(key)); // the server's own signal was in no caller's name
        }
    }
}
