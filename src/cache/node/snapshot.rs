//! Reads the numbers of the node, or of one rule, at one moment.

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::ids::RuleId;
use crate::cache::stats::live::Live;
use crate::cache::stats::window::Window;
use crate::cache::stats::{IndexTotals, Scope, Snapshot};

impl State {
    /// Counts an eviction: the server evicted a key, with a fresh entry of this rule or with something else.
    pub fn evicted(&mut self, fresh: Option<RuleId>, now: Now) {
        let mut tally = self.stats.at(now);
        tally.node().keys_evicted += 1;
        if let Some(rule) = fresh {
            tally.of(rule).entries_evicted += 1;
        }
    }

    /// The numbers at `now`, since start or `RESETSTAT` or over a window.
    pub fn snapshot(&mut self, scope: Scope, window: Option<Window>, now: Now) -> Snapshot {
        let (sweep_backlog, index) = (self.sweep_backlog(), self.index_totals());
        self.stats.absorb_removed_rules(&self.policies, now);
        let counted = self.stats.counted(scope, window, now);
        let State { stats, policies, leases, .. } = &*self;
        let of_node = (self.served(Live::totals), leases.live());
        let of_rule = |rule: RuleId| (self.served(|live| live.of_rule(rule)), leases.of_rule(rule));
        let (totals, held) = match scope {
            Scope::Node => of_node,
            // All but those of the rules there are: so removed rules count here too.
            Scope::Rule(RuleId::NONE) => {
                let rules = policies.iter().map(|rule| of_rule(rule.id()));
                rules.fold(of_node, |rest, rule| (rest.0.without(rule.0), rest.1 - rule.1))
            }
            Scope::Rule(rule) => of_rule(rule),
        };
        Snapshot {
            count: counted.count,
            waits: counted.waits,
            totals,
            leases: held,
            waiters: leases.waiting() as u64,
            sweep_backlog,
            index,
            uptime_ms: stats.uptime_ms(now),
            counting_ms: stats.counting_ms(window, now),
        }
    }

    fn index_totals(&self) -> IndexTotals {
        let totals = self.invalidations.totals();
        IndexTotals {
            tags: self.tags.len() as u64,
            members: totals.postings,
            prefixes: totals.prefixes,
            patterns: totals.patterns,
            bytes: totals.bytes + self.tags.bytes() as u64,
            mark_bytes: self.invalidations.mark_bytes(),
            mark_limit_bytes: self.marks_limit().unwrap_or(0),
        }
    }
}
