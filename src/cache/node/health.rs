//! Collects the facts from which health is diagnosed.

use crate::cache::clock::Now;
use crate::cache::codec::{Choice, CodecId};
use crate::cache::ids::RuleId;
use crate::cache::rules::{Origin, Rule};
use crate::cache::stats::health::{Facts, HEALTH_WINDOW, Health, RuleFacts, diagnose};
use crate::cache::stats::window::Window;
use crate::cache::stats::{percent, round};
use crate::cache::{Server, State};

impl State {
    /// Samples the sweep's backlog, whose course is part of health. Call it at least once a minute.
    pub fn sample_backlog(&mut self, now: Now) {
        if self.backlog.is_due(now) {
            let waiting = self.sweep_backlog();
            self.backlog.record(waiting, now);
        }
    }

    /// The health of the node at `now`. O(r) for r rules; looks at no key.
    pub fn health(&mut self, server: &dyn Server, now: Now) -> Health {
        self.stats.absorb_removed_rules(&self.policies, now);
        let server_info = server.server_info();
        let (stats, policies) = (&self.stats, &self.policies);
        let (all, recent) = (stats.all(), stats.recent(HEALTH_WINDOW, now));
        let rules = policies.iter().map(Some).chain([None]);
        let facts = Facts {
            server_info: &server_info,
            replica: server.is_replica(),
            settings: &self.settings,
            recent,
            rules: rules.map(|rule| self.rule_facts(rule, all.eligible(), now)).collect(),
            refused_user: self.leases.refused_user.as_deref(),
            panics: all.panics,
            backlog: self.backlog.growth(now),
            guarded: self.guarded.as_ref().filter(|guarded| guarded.until_ms > now.mono_ms()),
            mark_bytes: (self.invalidations.mark_bytes(), self.marks_limit().unwrap_or(0)),
            mono_ms: now.mono_ms(),
            uptime_ms: stats.uptime_ms(now),
        };
        let evicted = stats.recent(Window::Minute, now).keys_evicted;
        let over_ms = stats.counting_ms(Some(Window::Minute), now).max(1_000);
        Health {
            reasons: diagnose(&facts),
            hit_rate: percent(recent.served(), recent.requests()),
            error_rate: percent(recent.errors, recent.calls),
            evicted_per_sec: round(evicted as f64 / (over_ms as f64 / 1_000.0)),
            uptime_ms: facts.uptime_ms,
            server_info,
        }
    }

    /// The facts of a rule, or of the keys without one, when the node's counters have this many eligible keys.
    fn rule_facts<'a>(&'a self, rule: Option<&'a Rule>, eligible: u64, now: Now) -> RuleFacts<'a> {
        let id = rule.map_or(RuleId::NONE, Rule::id);
        // A configured rule may stand in the file of many servers, not all of which have such keys.
        let has_entries = || self.served(|live| live.of_rule(id)).entries > 0;
        let should_match = |rule: &Rule| rule.origin() == Origin::Commanded && !has_entries();
        let compresses = rule.is_some_and(|rule| rule.policy().codec != Choice::Only(CodecId::None));
        RuleFacts {
            rule,
            policy: self.policies.policy(rule),
            recent: self.stats.recent_of(id, HEALTH_WINDOW, now),
            unmatched: self.stats.unmatched(id, eligible, now).filter(|_| rule.is_some_and(should_match)),
            incompressible: compresses
                && self.adaptive.get(usize::from(id.0)).is_some_and(|adaptive| adaptive.gave_up())
                && self.stats.recent_of(id, Window::Hour, now).sets > 0,
        }
    }

    /// Some rules were set: they can match the keys from now on.
    pub fn rules_were_set(&mut self, wanted: impl Fn(&Rule) -> bool, now: Now) {
        let eligible = self.stats.all().eligible();
        for rule in self.policies.iter().filter(|rule| wanted(rule)) {
            self.stats.rule_was_set(rule.id(), eligible, now);
        }
    }
}
