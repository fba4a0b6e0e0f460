//! The numbers of the node, or of a rule, at one moment.

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::ids::RuleId;
use crate::cache::stats::snapshot::IndexTotals;
use crate::cache::stats::window::Window;
use crate::cache::stats::*;

impl State {
    /// The server has evicted a key; it held a fresh entry of that rule, or none.
    pub fn evicted(&mut self, fresh: Option<RuleId>, now: Now) {
        let mut tally = self.stats.at(now);
        tally.node().keys_evicted += 1;
        if let Some(rule) = fresh {
            tally.of(rule).entries_evicted += 1;
        }
    }

    fn index(&self) -> IndexTotals {
        let totals = self.invalidations.totals();
        IndexTotals {
            tags: self.tags.len() as u64,
            members: totals.members,
            prefixes: totals.prefixes,
            patterns: totals.patterns,
            bytes: totals.bytes + self.tags.bytes() as u64,
        }
    }

    /// The numbers at `now`, since start or reset or over a window.
    pub fn snapshot(&mut self, whose: Whose, window: Option<Window>, now: Now) -> Snapshot {
        let (sweep_backlog, index) = (self.sweep_backlog(), self.index());
        let State { stats, policies, live, leases, .. } = self;
        stats.absorb_removed_rules(policies, now);
        let counted = stats.counted(whose, window, now);
        let all = (live.totals(), leases.live());
        let of = |rule: RuleId| (live.of_rule(rule), leases.of_rule(rule));
        let (totals, out) = match whose {
            Whose::Node => all,
            // Also those of rules that are gone.
            Whose::Rule(RuleId::NONE) => {
                policies.iter().map(|rule| of(rule.id())).fold(all, |all, one| (all.0.without(one.0), all.1 - one.1))
            }
            Whose::Rule(rule) => of(rule),
        };
        Snapshot {
            count: counted.count,
            waits: counted.waits,
            totals,
            leases: out,
            waiters: leases.waiting() as u64,
            sweep_backlog,
            index,
            uptime_ms: stats.uptime_ms(now),
            counting_ms: stats.counting_ms(window, now),
        }
    }
}
