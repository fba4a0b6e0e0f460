//! Collects the facts that health is diagnosed from.

use crate::cache::clock::Now;
use crate::cache::codec::{Choice, CodecId};
use crate::cache::ids::RuleId;
use crate::cache::rules::Rule;
use crate::cache::stats::health::{Facts, HEALTH_WINDOW, Health, RuleFacts, diagnose};
use crate::cache::stats::window::Window;
use crate::cache::stats::{Counters, percent, round};
use crate::cache::{Server, State};

impl State {
    /// Looks at what is judged by its course. To be called at least once a minute.
    pub fn watch(&mut self, now: Now) {
        if self.backlog.is_due(now) {
            let waiting = self.sweep_backlog();
            self.backlog.record(waiting, now);
        }
    }

    /// How things are at `now`. O(r) for r rules; nothing of the keyspace is looked at.
    pub fn health(&mut self, server: &dyn Server, now: Now) -> Health {
        self.stats.absorb_removed_rules(&self.policies, now);
        let server_info = server.server_info();
        let State { stats, policies, settings, live, adaptive, backlog, .. } = &*self;
        let all = stats.all();
        let eligible = all.eligible();
        let of = |rule: Option<&'_ Rule>| -> (Counters, Option<(u64, u64)>, bool) {
            let id = rule.map_or(RuleId::NONE, Rule::id);
            let kept = || live.of_rule(id).entries > 0;
            let compresses = rule.is_some_and(|rule| rule.policy().codec != Choice::Only(CodecId::None));
            let incompressible = compresses
                && adaptive.get(usize::from(id.0)).is_some_and(|adaptive| adaptive.gave_up())
                && stats.recent_of(id, Window::Hour, now).sets > 0;
            (
                stats.recent_of(id, HEALTH_WINDOW, now),
                stats.unmatched(id, eligible, now).filter(|_| rule.is_some() && !kept()),
                incompressible,
            )
        };
        let rules: Vec<_> = policies
            .iter()
            .map(Some)
            .chain([None])
            .map(|rule| {
                let (recent, unmatched, incompressible) = of(rule);
                RuleFacts { rule, policy: policies.policy(rule), recent, unmatched, incompressible }
            })
            .collect();
        let recent = stats.recent(HEALTH_WINDOW, now);
        let facts = Facts {
            server_info: &server_info,
            replica: server.is_replica(),
            settings,
            recent,
            rules,
            panics: all.panics,
            backlog: backlog.growth(now),
            uptime_ms: stats.uptime_ms(now),
        };
        let minute_ms = stats.counting_ms(Some(Window::Minute), now).max(1_000);
        Health {
            reasons: diagnose(&facts),
            hit_rate: percent(recent.served(), recent.requests()),
            error_rate: percent(recent.errors, recent.calls),
            evicted_per_sec: round(
                stats.recent(Window::Minute, now).keys_evicted as f64 / (minute_ms as f64 / 1_000.0),
            ),
            uptime_ms: facts.uptime_ms,
            server_info,
        }
    }

    /// Rules were made, or made anew: from here on they may match.
    pub fn meet_rules(&mut self, wanted: impl Fn(&Rule) -> bool, now: Now) {
        let eligible = self.stats.all().eligible();
        for rule in self.policies.iter().filter(|rule| wanted(rule)) {
            self.stats.meet(rule.id(), eligible, now);
        }
    }
}
