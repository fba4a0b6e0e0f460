//! The counters of a node and its rules, and the tally that counts at one moment.

use crate::cache::clock::Now;
use crate::cache::entry::EntryRef;
use crate::cache::ids::RuleId;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::rules::Policies;
use crate::cache::stats::Counters;
use crate::cache::stats::Whose;
use crate::cache::stats::hot_keys::HotKeys;
use crate::cache::stats::miss_reasons::MissReason;
use crate::cache::stats::miss_reasons::MissReasons;
use crate::cache::stats::window::{Counted, Row, Window};
use std::sync::Arc;

/// The counters of this node, and since when they count.
#[derive(Debug)]
pub struct Stats {
    /// The first is for keys without a rule, and for what concerns no key.
    rows: Vec<Row>,
    /// The rule of each row.
    rules: Vec<RuleId>,
    /// The row of each rule, by id.
    row_of: Vec<u16>,
    /// The keys that are asked for most.
    pub hot: HotKeys,
    /// Why keys are not there.
    pub miss_reasons: Arc<MissReasons>,
    /// Commands of ours that ran and are still to be counted: cheaper than to do so at each.
    pub calls: u64,
    since_ms: u64,
    started_ms: u64,
}

/// No row yet.
const NOWHERE: u16 = u16::MAX;

/// The counters at one moment: what is counted now.
#[derive(Debug)]
pub struct Tally<'a> {
    stats: &'a mut Stats,
    now: Now,
}

impl Stats {
    /// Zero, as of `now`. The seed keeps clients from choosing which keys share a cell.
    pub fn new(now: Now, seed: u64, miss_reasons: Arc<MissReasons>) -> Self {
        Stats {
            rows: vec![Row::new(now)],
            rules: vec![RuleId::NONE],
            row_of: vec![0],
            hot: HotKeys::new(seed, now),
            miss_reasons,
            calls: 0,
            since_ms: now.mono_ms(),
            started_ms: now.mono_ms(),
        }
    }

    /// What all rows together have counted since start or reset.
    pub fn all(&self) -> Counters {
        self.rows.iter().fold(Counters::default(), |all, row| all.with(&row.current.count, u64::wrapping_add))
    }

    /// To count what happens at `now`.
    #[inline(always)]
    pub fn at(&mut self, now: Now) -> Tally<'_> {
        Tally { stats: self, now }
    }

    /// What all rows together have counted in a window.
    pub fn recent(&self, window: Window, now: Now) -> Counters {
        self.rows.iter().fold(Counters::default(), |all, row| all.with(&row.count_over(window, now), u64::wrapping_add))
    }

    /// What a rule has counted in a window, or with [`RuleId::NONE`] the keys without.
    pub fn recent_of(&self, rule: RuleId, window: Window, now: Now) -> Counters {
        self.row(rule).map(|row| row.count_over(window, now)).unwrap_or_default()
    }

    /// Milliseconds since the module was loaded.
    pub fn uptime_ms(&self, now: Now) -> u64 {
        now.mono_ms().saturating_sub(self.started_ms)
    }

    /// A rule was made, or made anew, when the node had [eligible](Counters::eligible) so many keys: from here on it may match.
    pub fn meet(&mut self, rule: RuleId, eligible: u64, now: Now) {
        let known = self.row_of.get(usize::from(rule.0)).filter(|at| **at != NOWHERE).map(|at| usize::from(*at));
        let at = known.unwrap_or_else(|| self.admit(rule, now));
        self.rows[at].rule_changed = Some((eligible, now.mono_ms()));
    }

    /// How many keys a rule could have matched of which it matched none, and in how many milliseconds, when the node has
    /// [eligible](Counters::eligible) so many; `None` when the rule has counted anything.
    pub fn unmatched(&self, rule: RuleId, eligible: u64, now: Now) -> Option<(u64, u64)> {
        let row = self.row(rule);
        if row.is_some_and(|row| row.current.count != Counters::default()) {
            return None;
        }
        let (before, since_ms) = row.and_then(|row| row.rule_changed).unwrap_or((0, self.since_ms));
        Some((eligible.saturating_sub(before), now.mono_ms().saturating_sub(since_ms)))
    }

    /// `RESETSTAT`.
    pub fn reset(&mut self, now: Now) {
        self.rows = vec![Row::new(now)];
        self.rules.truncate(1);
        self.row_of.truncate(1);
        self.hot.reset(now);
        self.calls = 0;
        self.since_ms = now.mono_ms();
    }

    /// Adds what was counted for rules that are gone to the keys without a rule, and the commands that ran to what they are
    /// counted in. To be called now and then, so that there are never many more rows than rules.
    pub fn remove_if_idle(&mut self, policies: &Policies, now: Now) {
        self.at(now).node();
        if self.rows.len() > policies.iter().len() + 1 {
            self.absorb_rows(policies);
        }
    }

    /// Adds the rows of rules that are gone to the row of no rule, whatever their number: before numbers are read.
    pub fn absorb_removed_rules(&mut self, policies: &Policies, now: Now) {
        self.at(now).node();
        self.absorb_rows(policies);
    }

    fn absorb_rows(&mut self, policies: &Policies) {
        let mut at = 1;
        while at < self.rows.len() {
            if policies.rule(self.rules[at]).is_some() {
                at += 1;
                continue;
            }
            let gone = self.rows.swap_remove(at);
            self.row_of[usize::from(self.rules.swap_remove(at).0)] = NOWHERE;
            if let Some(moved) = self.rules.get(at) {
                self.row_of[usize::from(moved.0)] = at as u16;
            }
            self.rows[0].absorb(gone);
        }
    }

    /// A row for a rule that has none.
    #[cold]
    fn admit(&mut self, rule: RuleId, now: Now) -> usize {
        let id = usize::from(rule.0);
        if self.row_of.len() <= id {
            self.row_of.resize(id + 1, NOWHERE);
        }
        let at = self.rows.len();
        self.row_of[id] = at as u16; // at most one for each of the 65,535 ids
        self.rows.push(Row::new(now));
        self.rules.push(rule);
        at
    }

    /// What was counted for the node, or for one rule, since start or reset or over a window.
    pub fn counted(&self, whose: Whose, window: Option<Window>, now: Now) -> Counted {
        let rows = match whose {
            Whose::Node => self.rows.iter(),
            Whose::Rule(rule) => self.row(rule).map_or(&[][..], std::slice::from_ref).iter(),
        };
        rows.fold(Counted::default(), |all, row| all.plus(&row.over(window, now)))
    }

    /// For how long has been counted, over a window or since the counters were zero, in milliseconds.
    pub fn counting_ms(&self, window: Option<Window>, now: Now) -> u64 {
        let begins_ms = window.map_or(0, |window| window.begins_ms(now)).max(self.since_ms);
        now.mono_ms().saturating_sub(begins_ms)
    }

    fn row(&self, rule: RuleId) -> Option<&Row> {
        let at = *self.row_of.get(usize::from(rule.0))?;
        self.rows.get(usize::from(at))
    }
}

impl Tally<'_> {
    /// The counters of a rule.
    #[inline(always)]
    pub fn of(&mut self, rule: RuleId) -> &mut Counters {
        &mut self.current(rule).count
    }

    /// The counters for what concerns no key.
    pub fn node(&mut self) -> &mut Counters {
        let calls = std::mem::take(&mut self.stats.calls);
        let count = self.of(RuleId::NONE);
        count.calls += calls;
        count
    }

    #[inline(always)]
    fn current(&mut self, rule: RuleId) -> &mut Counted {
        let stats = &mut *self.stats;
        let at = match stats.row_of.get(usize::from(rule.0)) {
            Some(at) if *at != NOWHERE => usize::from(*at),
            _ => stats.admit(rule, self.now),
        };
        let row = &mut stats.rows[at];
        if self.now.mono_ms() >= row.ends_ms {
            row.rotate(self.now);
        }
        &mut row.current
    }

    /// The counters for an entry that is served: it spares a load.
    #[inline(always)] // with what follows: part of what a hit costs
    pub fn served(&mut self, entry: EntryRef<'_>) -> &mut Counters {
        let count = self.of(entry.rule());
        if let Some(load_ms) = entry.load_ms() {
            count.origin_ms_saved += u64::from(load_ms);
        }
        count
    }

    /// A request for `key` is answered; `served` when with something to use.
    #[inline(always)]
    pub fn asked(&mut self, key: &[u8], served: bool) {
        self.stats.hot.record(key, served, self.now);
    }

    /// A wait has ended.
    pub fn waited(&mut self, rule: RuleId, how: WaitOutcome, since_ms: u64) {
        let waited_ms = self.now.mono_ms().saturating_sub(since_ms);
        let current = self.current(rule);
        Arc::make_mut(&mut current.waits).record(waited_ms);
        let count = &mut current.count;
        count.waits += 1;
        *match how {
            WaitOutcome::Served => &mut count.waits_served,
            WaitOutcome::Promoted => &mut count.waits_promoted,
            WaitOutcome::TimedOut => &mut count.waits_timed_out,
            WaitOutcome::Dropped => &mut count.waits_dropped,
        } += 1;
    }

    /// Why `name` is not there.
    pub fn miss_reason(&self, reason: MissReason, name: &[u8]) -> MissReason {
        if reason == MissReason::Gone { self.stats.miss_reasons.reason(name) } else { reason }
    }
}
