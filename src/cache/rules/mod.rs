//! From a key to its policy: which rule it matches, and what that rule and the settings decide.
//!
//! - [`spec`]: rules as they are written, in words or in JSON.
//! - [`policy`]: what follows from a rule and the settings, and how long an entry lives.
//! - [`template`]: the tags that a rule gives its keys.
//! - [`Policies`] keeps the rules in matching order and finds the first that matches.
//!
//! Rules have two origins. Those made by *command* are data, replicated and persisted. *Configured* ones are in the
//! setting `smartcache.rules` of this node. A configured rule hides a commanded one of the same name until it is
//! removed.
//!
//! The first match wins: a higher `PRIORITY` first, then configured rules in their order, then commanded ones, the
//! oldest first. A rule that is set again keeps its age, so that changing its TTL does not change which keys it
//! matches; to move it to the end, delete it first.

pub mod policy;
pub mod spec;
pub mod template;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use crate::cache::glob::{Glob, Prefilter};
use crate::cache::ids::RuleId;

pub use policy::{Lifetime, Policy};
use spec::MAX_RULES;
pub use spec::{OptionValue, RuleError, RuleList, RuleSpec};

/// Where a rule comes from. Configured rules come first in matching order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The setting `smartcache.rules`.
    Configured,
    /// `SMARTCACHE.RULE SET`.
    Commanded,
}

/// A rule in force, with what follows from it and the settings.
#[derive(Clone, Debug)]
pub struct Rule {
    id: RuleId,
    origin: Origin,
    /// Smaller is older, among those of the same origin.
    age: u64,
    spec: RuleSpec,
    policy: Policy,
}

impl Rule {
    /// Its number on this node.
    pub fn id(&self) -> RuleId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.spec.name()
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The rule as it was written.
    pub fn spec(&self) -> &RuleSpec {
        &self.spec
    }

    /// Its priority; 0 when none was given.
    pub fn priority(&self) -> i64 {
        self.spec.priority.unwrap_or(0)
    }

    /// Its patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &[u8]> {
        self.spec.matches.iter().map(Glob::pattern)
    }

    /// The policy of its keys.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether its keys are served to unmodified clients.
    pub fn is_native(&self) -> bool {
        self.spec.native
    }

    /// Whether it says how to hold off a herd of unmodified clients: `SWR`, `WAIT` or `BETA`.
    pub fn holds_herds_off(&self) -> bool {
        let RuleSpec { swr_ms, wait_ms, beta, .. } = &self.spec;
        swr_ms.is_some_and(|ms| ms > 0) || wait_ms.is_some() || beta.is_some_and(|beta| beta > 0.0)
    }

    /// Whether it names a lifetime.
    pub fn has_ttl(&self) -> bool {
        self.spec.ttl_ms.is_some()
    }

    /// Its `BETA`, if it names one.
    pub fn own_beta(&self) -> Option<f64> {
        self.spec.beta
    }

    /// `CAP`, and whether it keeps the lowest.
    pub fn cap(&self) -> Option<(u32, bool)> {
        self.spec.cap.map(|cap| (cap, self.spec.lowest))
    }

    /// Whether a lifetime starts anew at each write.
    pub fn is_sliding(&self) -> bool {
        self.spec.sliding
    }

    /// How long an unmodified client's read of a key waits that somebody loads, in milliseconds.
    pub fn wait_ms(&self) -> u64 {
        self.spec.wait_ms.unwrap_or(0)
    }

    /// The tags it gives to `key`, by the first of its patterns that matches. Tags that would be empty or too long are
    /// omitted.
    pub fn tags<'r>(&'r self, key: &'r [u8]) -> impl Iterator<Item = Vec<u8>> + 'r {
        let wanted = !self.spec.tags.is_empty();
        let glob = self.spec.matches.iter().find(|glob| wanted && glob.matches(key));
        glob.into_iter().flat_map(move |glob| self.spec.tags.iter().filter_map(move |made| made.tag(glob, key)))
    }
}

/// Why a key is treated as it is: what `RULE EXPLAIN` replies.
#[derive(Clone, Debug)]
pub struct Explanation<'p> {
    /// The rule, if one matches.
    pub rule: Option<&'p Rule>,
    /// The policy of the key.
    pub policy: &'p Policy,
    /// The shortest and longest lifetime of a value that jitter may draw; `None` for no end.
    pub ttl_ms: Option<(u64, u64)>,
    /// The same for an absent entry.
    pub negative_ms: (u64, u64),
    /// The tags the rule gives to the key.
    pub tags: Vec<Vec<u8>>,
}

/// The rules of this node, and the policies that follow from rules and settings.
#[derive(Clone, Debug)]
pub struct Policies {
    /// For keys without a rule.
    base: Policy,
    /// All rules, hidden ones too, in no particular order.
    rules: Vec<Rule>,
    /// What is left of NATIVE rules: their keys are served until no entry is left under them.
    retired: Vec<RuleSpec>,
    next_age: u64,
    last_id: u16,

    // Derived from `rules`, rebuilt by `index` after every change:
    /// The rules in force, in matching order.
    order: Vec<usize>,
    /// Their patterns, in the same order.
    probes: Vec<Probe>,
    /// The rule in force for each id; `NOWHERE` for ids without.
    by_id: Vec<u16>,
    /// The most tags that any of them gives to a key.
    most_tags: usize,
    /// Whether any of them is NATIVE.
    has_native: bool,
    /// How often they have changed.
    changes: u64,
}

/// One pattern of one rule. Small and contiguous, because `needs` alone rules out most patterns for most keys.
#[derive(Clone, Copy, Debug)]
struct Probe {
    needs: Prefilter,
    /// The index in `rules`, and that in the rule's patterns.
    rule: u16,
    glob: u16,
}

/// Not an index in `rules`, which has at most twice `MAX_RULES`.
const NOWHERE: u16 = u16::MAX;

impl Policies {
    /// The policies that follow from the settings: `base` for keys without a rule, and the configured rules. There are
    /// no commanded rules yet.
    pub fn new(base: Policy, configured: &RuleList) -> Self {
        let mut policies = Self {
            base,
            rules: Vec::new(),
            retired: Vec::new(),
            next_age: 0,
            last_id: 0,
            order: Vec::new(),
            probes: Vec::new(),
            by_id: Vec::new(),
            most_tags: 0,
            has_native: false,
            changes: 0,
        };
        policies.configure(configured);
        policies
    }

    /// Applies changed settings: the base policy and the configured rules. To be called after every change.
    pub fn apply(&mut self, base: Policy, configured: &RuleList) {
        self.base = base;
        self.configure(configured);
        for rule in &mut self.rules {
            rule.policy = self.base.with(&rule.spec);
        }
    }

    /// Replaces all configured rules.
    fn configure(&mut self, list: &RuleList) {
        // A name that stays keeps its id.
        let ids: HashMap<String, RuleId> = self.rules.iter().map(|rule| (rule.name().to_owned(), rule.id)).collect();
        let mut configured = Vec::new();
        for spec in list.iter() {
            let id = ids.get(spec.name()).copied().unwrap_or_else(|| self.next_id());
            let policy = self.base.with(spec);
            let age = configured.len() as u64;
            configured.push(Rule { id, origin: Origin::Configured, age, spec: spec.clone(), policy });
        }
        let was: Vec<RuleSpec> =
            self.rules.iter().filter(|rule| rule.spec.native).map(|rule| rule.spec.clone()).collect();
        self.rules.retain(|rule| rule.origin == Origin::Commanded);
        self.rules.append(&mut configured);
        was.into_iter().for_each(|spec| self.retire(&spec));
        self.index();
    }

    /// The keys of a NATIVE rule that is gone, or was replaced, are served until no entry is left under them.
    fn retire(&mut self, was: &RuleSpec) {
        let still = |glob: &&Glob| !self.rules.iter().any(|rule| rule.spec.native && rule.spec.matches.contains(glob));
        let gone: Vec<Glob> = was.matches.iter().filter(|glob| was.native && still(glob)).cloned().collect();
        if !gone.is_empty() {
            self.add_retired(RuleSpec::retired(gone));
        }
    }

    fn add_retired(&mut self, spec: RuleSpec) {
        if !self.retired.iter().any(|other| other.name() == spec.name()) {
            self.retired.push(spec);
        }
    }

    /// What is left of NATIVE rules.
    pub fn retired(&self) -> &[RuleSpec] {
        &self.retired
    }

    /// Whether the key is one of a NATIVE rule that is gone, and of none that is in force.
    pub fn is_retired(&self, key: &[u8]) -> bool {
        self.retired.iter().any(|spec| spec.matches.iter().any(|glob| glob.matches(key)))
            && self.native_rule(key).is_none()
    }

    /// Whether unmodified clients' commands on this key are served: its rule is NATIVE, or was.
    pub fn serves_native(&self, key: &[u8]) -> bool {
        self.native_rule(key).is_some() || !self.retired.is_empty() && self.is_retired(key)
    }

    /// Adds a commanded rule, or replaces the one of that name whole.
    pub fn set(&mut self, spec: RuleSpec) -> Result<(), RuleError> {
        if spec.retired {
            self.add_retired(spec);
            self.index();
            return Ok(());
        }
        let policy = self.base.with(&spec);
        let same = |rule: &Rule| rule.origin == Origin::Commanded && rule.name() == spec.name();
        if let Some(at) = self.rules.iter().position(same) {
            self.rules[at].policy = policy;
            let was = std::mem::replace(&mut self.rules[at].spec, spec);
            self.retire(&was);
        } else {
            if self.commanded_mut().count() >= MAX_RULES {
                return Err(RuleError::TooMany);
            }
            let known = self.rules.iter().find(|rule| rule.name() == spec.name()).map(|rule| rule.id);
            let id = known.unwrap_or_else(|| self.next_id());
            self.rules.push(Rule { id, origin: Origin::Commanded, age: self.next_age, spec, policy });
            self.next_age += 1;
        }
        self.index();
        Ok(())
    }

    /// Deletes a commanded rule; whether there was one. The name of a configured rule is refused, unless the command
    /// comes from our primary or our AOF (`obey`): what is replicated must not depend on this node's configuration, so
    /// the hidden commanded rule is deleted.
    pub fn del(&mut self, name: &[u8], obey: bool) -> Result<bool, RuleError> {
        let named = |rule: &Rule| rule.name().as_bytes() == name;
        let configured = self.rules.iter().find(|rule| rule.origin == Origin::Configured && named(rule));
        if let Some(rule) = configured.filter(|_| !obey) {
            return Err(RuleError::Configured { rule: rule.name().to_owned() });
        }
        if obey && let Some(at) = self.retired.iter().position(|spec| spec.name().as_bytes() == name) {
            self.retired.remove(at);
            self.index();
            return Ok(true);
        }
        let at = self.rules.iter().position(|rule| rule.origin == Origin::Commanded && named(rule));
        if let Some(at) = at {
            let was = self.rules.remove(at);
            self.retire(&was.spec);
            self.index();
        }
        Ok(at.is_some())
    }

    /// Deletes all commanded rules, before others are loaded.
    pub fn clear_commanded(&mut self) {
        self.rules.retain(|rule| rule.origin == Origin::Configured);
        self.retired.clear();
        self.index();
    }

    /// The rule in force of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Rule> {
        self.iter().find(|rule| rule.name().as_bytes() == name)
    }

    /// The rules in force, in matching order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.order.iter().map(|&at| &self.rules[at])
    }

    /// The commanded rules, hidden ones too, oldest first: what is persisted. [`set`](Self::set) in this order restores
    /// them.
    pub fn commanded(&self) -> impl Iterator<Item = &Rule> {
        let mut rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.origin == Origin::Commanded).collect();
        rules.sort_by_key(|rule| rule.age);
        rules.into_iter()
    }

    /// The same as they were written, and what is left of NATIVE rules.
    pub fn persisted(&self) -> impl Iterator<Item = &RuleSpec> {
        self.commanded().map(Rule::spec).chain(&self.retired)
    }

    /// The rule for `key`: the first in matching order with a pattern that matches.
    pub fn find(&self, key: &[u8]) -> Option<&Rule> {
        if self.probes.is_empty() {
            return None;
        }
        let prefilter = Prefilter::of(key);
        let matches = |probe: &&Probe| {
            let rule = || &self.rules[usize::from(probe.rule)];
            prefilter.has(probe.needs) && rule().spec.matches[usize::from(probe.glob)].matches(key)
        };
        let probe = self.probes.iter().find(matches)?;
        Some(&self.rules[usize::from(probe.rule)])
    }

    /// The patterns of NATIVE rules, and of those that were.
    pub fn native_patterns(&self) -> impl Iterator<Item = &[u8]> {
        let specs = self.iter().map(Rule::spec).filter(|spec| spec.native).chain(&self.retired);
        specs.flat_map(|spec| spec.matches.iter().map(Glob::pattern))
    }

    /// These rules take the place of others: that is a change, too.
    pub fn follow(&mut self, before: &Policies) {
        self.changes = self.changes.max(before.changes) + 1;
    }

    /// How often rules have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The rule for `key`, if it is NATIVE.
    pub fn native_rule(&self, key: &[u8]) -> Option<&Rule> {
        if !self.has_native {
            return None;
        }
        self.find(key).filter(|rule| rule.is_native())
    }

    /// Whether any rule is NATIVE, or was, and entries may be left under its keys.
    pub fn has_native(&self) -> bool {
        self.has_native
    }

    /// The id of the rule for `key`.
    pub fn id(&self, key: &[u8]) -> RuleId {
        self.find(key).map_or(RuleId::NONE, Rule::id)
    }

    /// The rule in force with that id; `None` when it is gone.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        let at = *self.by_id.get(usize::from(id.0))?;
        self.rules.get(usize::from(at))
    }

    /// The most tags that any rule gives to a key.
    pub fn most_tags(&self) -> usize {
        self.most_tags
    }

    /// The policy of a rule, or that of keys without one.
    pub fn policy<'p>(&'p self, rule: Option<&'p Rule>) -> &'p Policy {
        rule.map_or(&self.base, Rule::policy)
    }

    /// How `key` would be treated if it were stored, with a `TTL` in milliseconds or without.
    pub fn explain(&self, key: &[u8], ttl_ms: Option<u64>) -> Explanation<'_> {
        let rule = self.find(key);
        let policy = self.policy(rule);
        let lifetime = ttl_ms.map_or(Lifetime::Default, Lifetime::Base);
        let value = [0.0, 1.0].map(|random| policy.deadline(lifetime, 0, random));
        let absent = [0.0, 1.0].map(|random| policy.absent_deadline(Lifetime::Default, 0, random));
        Explanation {
            rule,
            policy,
            ttl_ms: value[0].zip(value[1]),
            negative_ms: absent.map(|at| at.expect("an absent entry's default has an end")).into(),
            tags: rule.map_or_else(Vec::new, |rule| rule.tags(key).collect()),
        }
    }

    fn commanded_mut(&mut self) -> impl Iterator<Item = &mut Rule> {
        self.rules.iter_mut().filter(|rule| rule.origin == Origin::Commanded)
    }

    /// The next free id. Ids that it gave since the last `index` are not in `by_id` yet, but it reaches them only after
    /// all 65,535.
    fn next_id(&mut self) -> RuleId {
        // It ends, because at most twice MAX_RULES ids are taken.
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.rule(RuleId(self.last_id)).is_none() {
                return RuleId(self.last_id);
            }
        }
    }

    /// Rebuilds what is derived from `rules`.
    fn index(&mut self) {
        let configured = self.rules.iter().filter(|rule| rule.origin == Origin::Configured);
        let hiding: HashSet<RuleId> = configured.map(|rule| rule.id).collect();
        let shown = |rule: &Rule| rule.origin == Origin::Configured || !hiding.contains(&rule.id);
        self.order = (0..self.rules.len()).filter(|&at| shown(&self.rules[at])).collect();
        self.order.sort_by_key(|&at| {
            let rule = &self.rules[at];
            (Reverse(rule.priority()), rule.origin, rule.age)
        });

        let has_native = self.iter().any(Rule::is_native);
        self.has_native = has_native || !self.retired.is_empty();
        self.changes += 1;
        self.most_tags = self.iter().map(|rule| rule.spec.tags.len()).max().unwrap_or(0);
        self.probes.clear();
        self.by_id.clear();
        for &at in &self.order {
            let Rule { id, spec, .. } = &self.rules[at];
            let at = u16::try_from(at).expect("there are at most twice MAX_RULES rules");
            let probe = |(glob, needs)| Probe { needs, rule: at, glob };
            self.probes.extend((0..).zip(spec.matches.iter().map(|glob| glob.needs())).map(probe));
            let id = usize::from(id.0);
            if self.by_id.len() <= id {
                self.by_id.resize(id + 1, NOWHERE);
            }
            self.by_id[id] = at;
        }
    }
}

#[cfg(test)]
mod tests;
