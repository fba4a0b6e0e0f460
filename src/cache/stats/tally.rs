//! The counters of a node and its rules, and the tally that counts at one moment.

use std::sync::Arc;

use super::counters::Counters;
use super::hot_keys::HotKeys;
use super::miss_reasons::{MissReason, MissReasons};
use super::snapshot::Scope;
use super::window::{Counted, Row, Window};
use crate::cache::clock::Now;
use crate::cache::entry::EntryRef;
use crate::cache::ids::RuleId;
use crate::cache::lease::outcomes::WaitOutcome;
use crate::cache::rules::Policies;

/// The counters of this node and its rules.
#[derive(Debug)]
pub struct Stats {
    /// The first row is for keys without a rule, and for what concerns no key.
    rows: Vec<Row>,
    /// The rule of each row.
    rules: Vec<RuleId>,
    /// The index of each rule's row, by rule id.
    row_of: Vec<u16>,
    /// The keys that are requested most.
    pub hot: HotKeys,
    /// Why keys are gone.
    pub miss_reasons: Arc<MissReasons>,
    /// Commands that ran and are not yet in the counters: cheaper than a row per command.
    pub calls: u64,
    /// When the counters were zero, in milliseconds of the monotonic clock.
    since_ms: u64,
    /// When the module was loaded, likewise.
    started_ms: u64,
}

/// The index of a rule that has no row.
const NOWHERE: u16 = u16::MAX;

/// Counts what happens at one moment.
#[derive(Debug)]
pub struct Tally<'a> {
    stats: &'a mut Stats,
    now: Now,
}

impl Stats {
    /// All counters at zero. The seed keeps clients from choosing which hot keys share a set.
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

    /// The sum of all rows since start or `RESETSTAT`.
    pub fn all(&self) -> Counters {
        self.rows.iter().fold(Counters::default(), |all, row| all.with(&row.current.count, u64::wrapping_add))
    }

    /// The tally for what happens at `now`.
    #[inline(always)]
    pub fn at(&mut self, now: Now) -> Tally<'_> {
        Tally { stats: self, now }
    }

    /// The sum of all rows over a window.
    pub fn recent(&self, window: Window, now: Now) -> Counters {
        self.rows.iter().fold(Counters::default(), |all, row| all.with(&row.count_over(window, now), u64::wrapping_add))
    }

    /// The counters of a rule over a window; with [`RuleId::NONE`] of the keys without a rule.
    pub fn recent_of(&self, rule: RuleId, window: Window, now: Now) -> Counters {
        self.row(rule).map(|row| row.count_over(window, now)).unwrap_or_default()
    }

    /// Milliseconds since the module was loaded.
    pub fn uptime_ms(&self, now: Now) -> u64 {
        now.mono_ms().saturating_sub(self.started_ms)
    }

    /// A rule was set when the node's counters had this many [eligible](Counters::eligible) keys: it can match those
    /// after.
    pub fn rule_was_set(&mut self, rule: RuleId, eligible: u64, now: Now) {
        let known = self.row_of.get(usize::from(rule.0)).filter(|at| **at != NOWHERE).map(|at| usize::from(*at));
        let at = known.unwrap_or_else(|| self.admit(rule, now));
        self.rows[at].rule_set_at = Some((eligible, now.mono_ms()));
    }

    /// How many keys a rule could have matched but did not, and in how many milliseconds, when the node's counters have
    /// this many [eligible](Counters::eligible) keys; `None` if the rule has counted anything.
    pub fn unmatched(&self, rule: RuleId, eligible: u64, now: Now) -> Option<(u64, u64)> {
        let row = self.row(rule);
        if row.is_some_and(|row| row.current.count != Counters::default()) {
            return None;
        }
        let (before, since_ms) = row.and_then(|row| row.rule_set_at).unwrap_or((0, self.since_ms));
        Some((eligible.saturating_sub(before), now.mono_ms().saturating_sub(since_ms)))
    }

    /// Sets all counters to zero (`RESETSTAT`).
    pub fn reset(&mut self, now: Now) {
        self.rows = vec![Row::new(now)];
        self.rules.truncate(1);
        self.row_of.truncate(1);
        self.hot.reset(now);
        self.calls = 0;
        self.since_ms = now.mono_ms();
    }

    /// Moves `calls` into the counters and, if there are more rows than rules, adds the rows of removed rules to that
    /// of the keys without a rule. Call it regularly: it bounds the number of rows.
    pub fn bound_rows(&mut self, policies: &Policies, now: Now) {
        self.at(now).node();
        if self.rows.len() > policies.iter().len() + 1 {
            self.absorb_rows(policies);
        }
    }

    /// Moves `calls` into the counters, and adds the rows of all removed rules to that of the keys without a rule.
    /// Call it before numbers are read.
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

    /// Adds a row for a rule that has none.
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

    /// The counters of the node or of one rule, since start or `RESETSTAT` or over a window.
    pub(in crate::cache) fn counted(&self, scope: Scope, window: Option<Window>, now: Now) -> Counted {
        let rows = match scope {
            Scope::Node => self.rows.iter(),
            Scope::Rule(rule) => self.row(rule).map_or(&[][..], std::slice::from_ref).iter(),
        };
        rows.fold(Counted::default(), |all, row| all.plus(&row.over(window, now)))
    }

    /// How many milliseconds the counters cover: back to the start of the window, or since start or `RESETSTAT`.
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

    /// The counters for a hit on an entry, which saves a load.
    #[inline(always)] // part of the cost of a hit
    pub fn of_hit(&mut self, entry: EntryRef<'_>) -> &mut Counters {
        let count = self.of(entry.rule());
        if let Some(load_ms) = entry.load_ms() {
            count.origin_ms_saved += u64::from(load_ms);
        }
        count
    }

    /// A request for `key` was answered; `served` if with a value or an absent entry.
    #[inline(always)]
    pub fn record_request(&mut self, key: &[u8], served: bool) {
        self.stats.hot.record(key, served, self.now);
    }

    /// A wait has ended.
    pub fn record_wait(&mut self, rule: RuleId, how: WaitOutcome, since_ms: u64) {
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

    /// The reason of a miss of the key `name`, looked up if the key is gone.
    pub fn miss_reason(&self, reason: MissReason, name: &[u8]) -> MissReason {
        if reason == MissReason::Gone { self.stats.miss_reasons.reason(name) } else { reason }
    }
}
