//! Whether all is well, and if not, what is wrong and what to do about it: sentences for an operator at three in the morning.
//!
//! ```text
//!  counters of the last five minutes ─┐
//!  what is out, kept, given up        ├─▶ Facts ─▶ judge ─▶ reasons: a code, and a sentence
//!  the server's account of itself     ┘
//! ```
//!
//! [`judge`] is told facts and looks nothing up, so that every sentence can be tried. A fact makes a reason only where it is
//! more than a slip: the thresholds stand below. Times are those of the monotonic clock. What is told of rules is told of the
//! worst of each code, and the others are counted: a thousand rules do not make a thousand sentences.
//!
//! To add a reason: a row in [`REASONS`], from which the documentation is made, and a function in [`judge`].

use crate::cache::ServerInfo;
use std::collections::VecDeque;

use crate::cache::clock::Now;
use crate::cache::rules::{Origin, Policy, Rule};
use crate::cache::stats::window::Window;
use crate::cache::stats::{Counters, percent};
use crate::cache::units::{format_duration, format_fraction, quote};
use crate::config::Settings;

/// Fewer requests say nothing about a hit rate.
const ENOUGH_REQUESTS: u64 = 100;
/// Fewer refusals are slips.
const FEW: u64 = 5;
/// As few evictions of fresh entries in five minutes are none.
const FEW_EVICTIONS: u64 = 10;
/// So many leases that run out are no accident, even when nobody comes home later to prove it.
const LOST_LOADS: u64 = 3;
/// Of a hundred leases so many may run out: loaders die now and then.
const LEASES_PERCENT: u64 = 1;
/// Of a hundred loads that come home so many may be refused.
const FILLS_PERCENT: u64 = 10;
/// From here on memory is close to its limit.
const MEMORY_PERCENT: u64 = 90;
/// A rule that has not matched one of so many keys does not match by chance.
const UNMATCHED_KEYS: u64 = 1_000;
/// A backlog that grows by less in five minutes is not worth a sentence.
const BACKLOG_GROWTH: u64 = 1_000;
/// Rules that are told for each code.
const TOLD: usize = 5;
/// A server that started less long ago may still be filling.
const FILLING_MS: u64 = 300_000;
/// Over which everything is judged that happens.
pub const LATELY: Window = Window::FiveMinutes;

/// What may be wrong, in the order in which it is told: code, when it is said, what to do.
pub const REASONS: &[(&str, &str, &str)] = &[
    (
        "panics",
        "A panic was caught since start or RESETSTAT.",
        "A bug of ours. The server's log has file and line, beside <smartcache>; please report it. The command was answered with an error, the server goes on. RESETSTAT ends the warning.",
    ),
    (
        "memory",
        "used_memory, without what maxmemory does not count, is at 90% of maxmemory or more; with a policy that evicts only as long as nothing has been evicted in the last five minutes.",
        "Raise maxmemory, or store less: shorter lifetimes, fewer windows. With noeviction stores will answer OOM: for a cache choose allkeys-lfu. With volatile-* only keys with an expiry can go.",
    ),
    (
        "evictions",
        "10 entries or more were evicted while they were fresh.",
        "What is to be kept does not fit. Raise maxmemory, or give the rule that is named a shorter TTL. misses_evicted says how many of them were wanted again: where that is small, memory is well used, and the warning may be lived with.",
    ),
    (
        "hit_rate",
        "Of 100 requests or more fewer than smartcache.health-hit-rate were answered without a load.",
        "The sentence names the commonest reason, and the rule with most misses. Cold: what is asked for was never stored, or is deleted. Expired: longer TTL, or SWR. Invalidated: SOFT and SWR, or narrower tags. Evicted: more memory. Busy: WAIT, or more FILLS. After a start it is normal for a while.",
    ),
    (
        "leases_expired",
        "1% of a rule's leases or more ran out, and a load came home after that, or 3 or more did.",
        "Loads take longer than LOCK, and each lease that runs out sends one more caller to the origin. Set LOCK above the load time that is named, or let loaders call EXTEND. Where nothing came home, look for loaders that die.",
    ),
    (
        "leases_refused",
        "5 times or more a lease was wanted, and FILLS of the rule or smartcache.max-leases was reached.",
        "The origin is slower than what is asked of it. Raise FILLS if it can take more; else give SWR or SIE, so that callers get a stale copy instead of BUSY.",
    ),
    (
        "fills_refused",
        "5 loads or more, and a tenth of all that came home, were not stored as fresh: STALE, LOST or an error.",
        "STALE: keys are deleted or invalidated while they are loaded. LOST: something newer was written, or the token is not this server's (a client that writes to another server than it reads from, a failover). Errors: over smartcache.max-value, or out of memory; the client has the text.",
    ),
    (
        "sweep_backlog",
        "For five minutes the sweep had always keys to look at, and never fewer than in the minute before, but in the end 1000 more. What is put off by OVER does not count.",
        "What is dead is not served, but takes memory until the sweep comes by. Raise smartcache.sweep-effort, or invalidate by tag: a prefix, a pattern and ALL each take a walk over all keys.",
    ),
    (
        "rule_unmatched",
        "A rule has matched none of 1000 keys or more that were asked for or stored since it was made (or since start, or RESETSTAT), and no entry is kept under it.",
        "A pattern with a slip, or another rule comes first: RULE EXPLAIN with a key that it is meant for. If it is of no use any more, RULE DEL.",
    ),
    (
        "rule_incompressible",
        "A rule's values were tried 32 times in a row and never became smaller by smartcache.min-savings, and it has stored values in the last hour.",
        "They are compressed or encrypted already. CODEC none for the rule saves the tries that are still made (3 of 100 stores).",
    ),
];

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What, as one of [`REASONS`].
    pub code: &'static str,
    /// The sentence.
    pub text: String,
}

/// How things are.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is wrong; nothing when all is well.
    pub reasons: Vec<Reason>,
    /// Percent of requests answered without a load, over five minutes; 0 for no requests.
    pub hit_rate: f64,
    /// Percent of our commands answered with an error, over five minutes.
    pub error_rate: f64,
    /// Keys evicted a second, over the last minute.
    pub evicted_per_sec: f64,
    /// Since the module was loaded.
    pub uptime_ms: u64,
    /// The server.
    pub server_info: ServerInfo,
}

impl Health {
    /// In one word.
    pub fn status(&self) -> &'static str {
        if self.reasons.is_empty() { "ok" } else { "warn" }
    }

    /// Whether this reason is among those that are given.
    pub fn gives(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

/// What a judgement rests on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The server.
    pub server_info: &'a ServerInfo,
    /// This node is a replica.
    pub replica: bool,
    /// The settings.
    pub settings: &'a Settings,
    /// What the node has counted over five minutes.
    pub lately: Counters,
    /// The same rule by rule.
    pub rules: Vec<RuleFacts<'a>>,
    /// Panics since start or reset.
    pub panics: u64,
    /// How the backlog of the sweep grows, when it only grows.
    pub backlog: Option<Growth>,
    /// Since the module was loaded.
    pub uptime_ms: u64,
}

/// What is known of a rule, or of the keys without one.
#[derive(Debug)]
pub struct RuleFacts<'a> {
    /// Which; `None` for the keys without.
    pub rule: Option<&'a Rule>,
    /// What it decides.
    pub policy: &'a Policy,
    /// What it has counted over five minutes.
    pub lately: Counters,
    /// How many keys it could have matched of which it matched none, and in how many milliseconds.
    pub unmatched: Option<(u64, u64)>,
    /// Its values never shrink, and it has stored some lately.
    pub gave_up: bool,
}

/// A backlog that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// By how much in five minutes.
    pub by: u64,
    /// What it is.
    pub to: u64,
}

/// How many keys waited to be swept, minute by minute.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// A minute of the monotonic clock, and the least that waited in it: the last six.
    lows: VecDeque<(u64, u64)>,
    /// When it is to be told again, in milliseconds of the monotonic clock.
    next_ms: u64,
}

impl Backlog {
    /// Minutes that are kept: five have passed between the first and the last.
    const MINUTES: usize = 6;

    /// Milliseconds between two looks: counting is not for nothing where much waits.
    const EVERY_MS: u64 = 5_000;

    /// Whether it is time to look again.
    pub fn wants(&self, now: Now) -> bool {
        now.mono_ms() >= self.next_ms
    }

    /// So many keys wait.
    pub fn see(&mut self, waiting: u64, now: Now) {
        self.next_ms = now.mono_ms() + Self::EVERY_MS;
        let minute = now.mono_ms() / 60_000;
        match self.lows.back_mut() {
            Some((at, low)) if *at == minute => *low = waiting.min(*low),
            _ => {
                self.lows.push_back((minute, waiting));
                self.lows.drain(..self.lows.len().saturating_sub(Self::MINUTES));
            }
        }
    }

    /// Whether for five minutes there was always something left, and never less than in the minute before.
    pub fn growth(&self, now: Now) -> Option<Growth> {
        let ((first, from), (last, to)) = (*self.lows.front()?, *self.lows.back()?);
        let whole = last == now.mono_ms() / 60_000 && last - first == Self::MINUTES as u64 - 1;
        let grows = self.lows.iter().is_sorted_by_key(|(_, low)| low);
        (whole && grows && from > 0 && to > from).then(|| Growth { by: to - from, to })
    }
}

/// What is wrong, the worst first.
pub fn diagnose(facts: &Facts<'_>) -> Vec<Reason> {
    let mut findings = Findings::default();
    panics(facts, &mut findings);
    memory(facts, &mut findings);
    evictions(facts, &mut findings);
    hit_rate(facts, &mut findings);
    leases_expired(facts, &mut findings);
    leases_refused(facts, &mut findings);
    fills_refused(facts, &mut findings);
    sweep_backlog(facts, &mut findings);
    rules_unmatched(facts, &mut findings);
    rules_incompressible(facts, &mut findings);
    findings.0
}

/// The reasons so far.
#[derive(Default)]
struct Findings(Vec<Reason>);

impl Findings {
    fn report(&mut self, code: &'static str, text: String) {
        debug_assert!(REASONS.iter().any(|(known, ..)| *known == code), "{code}");
        self.0.push(Reason { code, text });
    }

    /// What is wrong with the worst rules, by their weight, and how many others there are. `None` weighs nothing.
    fn report_by_rule(
        &mut self,
        code: &'static str,
        facts: &Facts<'_>,
        weight: impl Fn(&RuleFacts<'_>) -> Option<u64>,
        text: impl Fn(&RuleFacts<'_>) -> String,
        where_to_look: &str,
    ) {
        let mut found: Vec<_> = facts.rules.iter().filter_map(|of| Some((weight(of)?, of))).collect();
        found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight)); // of equal ones in matching order
        found.iter().take(TOLD).for_each(|(_, of)| self.report(code, text(of)));
        let more = found.len().saturating_sub(TOLD) as u64;
        if more > 0 {
            self.report(code, format!("The same holds for {more} more {}: {where_to_look}.", plural(more, "rule")));
        }
    }
}

fn panics(facts: &Facts<'_>, findings: &mut Findings) {
    if facts.panics > 0 {
        findings.report(
            "panics",
            format!(
                "{} caught since start or RESETSTAT: {} of SmartCache. The server goes on; its log has file and \
                 line, beside <smartcache>: please report it. SMARTCACHE.RESETSTAT ends this warning.",
                if facts.panics == 1 { "A panic was".into() } else { format!("{} panics were", facts.panics) },
                if facts.panics == 1 { "a bug" } else { "bugs" },
            ),
        );
    }
}

fn memory(facts: &Facts<'_>, findings: &mut Findings) {
    let ServerInfo { memory_used_bytes: used, memory_max_bytes: max, memory_policy: policy, .. } = facts.server_info;
    let counted = used.saturating_sub(facts.server_info.memory_uncounted_bytes);
    let evicts = policy != "noeviction";
    if *max == 0 || u128::from(counted) * 100 < u128::from(*max) * u128::from(MEMORY_PERCENT) {
        return;
    }
    // At its limit is where a cache that evicts lives; what that costs is another reason.
    if evicts && facts.lately.keys_evicted > 0 {
        return;
    }
    let then = match policy.as_str() {
        "noeviction" => {
            "at the limit stores answer OOM. Raise maxmemory, or CONFIG SET maxmemory-policy allkeys-lfu".into()
        }
        policy if policy.starts_with("volatile") => format!(
            "at the limit keys with an expiry are evicted, and when there are none left stores answer OOM \
             (maxmemory-policy {policy}). Raise maxmemory, or shorten lifetimes (TTL, SWR, SIE)"
        ),
        policy => format!(
            "at the limit keys are evicted (maxmemory-policy {policy}), fresh ones too. Raise maxmemory, or \
             shorten lifetimes (TTL, SWR, SIE)"
        ),
    };
    let replica = if facts.replica { " (This is a replica: that counts once it is promoted.)" } else { "" };
    findings.report(
        "memory",
        format!(
            "Memory is at {}% of maxmemory, {} of {}: {then}.{replica}",
            percent(counted, *max),
            size(counted),
            size(*max),
        ),
    );
}

fn evictions(facts: &Facts<'_>, findings: &mut Findings) {
    let fresh = facts.lately.entries_evicted;
    if fresh < FEW_EVICTIONS {
        return;
    }
    let worst = worst(facts, |lately| lately.entries_evicted)
        .map_or_else(String::new, |(of, count)| format!(", {count} of them of {}", of.name()));
    let max = facts.server_info.memory_max_bytes;
    let now = if max > 0 { format!(" (now {})", size(max)) } else { String::new() };
    findings.report(
        "evictions",
        format!(
            "The server evicted {fresh} fresh entries in the last 5 minutes{worst}; {} missed because of evictions. \
             MarkTarget is to be kept does not fit: raise maxmemory{now}, or shorten lifetimes (TTL, SWR, SIE) of what is \
             asked for least.",
            counted(facts.lately.misses_evicted, "request"),
        ),
    );
}

fn hit_rate(facts: &Facts<'_>, findings: &mut Findings) {
    let (lately, wanted) = (&facts.lately, facts.settings.health_hit_rate);
    let requests = lately.requests();
    if requests < ENOUGH_REQUESTS || lately.served() as f64 >= wanted * requests as f64 {
        return;
    }
    let causes = [
        (
            lately.misses_cold,
            "cold: keys that were never stored, or were deleted. Load what is known to be asked for, and see \
             what deletes it",
        ),
        (
            lately.misses_expired,
            "of keys whose time was over: raise their TTL (or smartcache.default-ttl), or give SWR",
        ),
        (
            lately.misses_invalidated,
            "of entries that were invalidated: do it SOFT and give them SWR, or invalidate what has changed and no more",
        ),
        (lately.misses_evicted, "of keys that were evicted: raise maxmemory"),
        (
            lately.busy,
            "told to ask again (BUSY): give GETLOCK a WAIT as long as loads take, and see FILLS, \
             smartcache.max-leases and smartcache.max-waiters",
        ),
    ];
    // Of equal causes the first.
    let (count, cause) = causes.into_iter().rev().max_by_key(|(count, _)| *count).expect("there are five");
    let lost = |lately: &Counters| lately.misses() + lately.busy;
    let worst = worst(facts, lost).map_or_else(String::new, |(of, count)| {
        let rate = percent(of.lately.served(), of.lately.requests());
        format!(" Most are of {}: {count}, with a hit rate of {rate}%.", of.name())
    });
    let young = if facts.uptime_ms < FILLING_MS {
        format!(" (The server started {} ago: the cache may still be filling.)", span(facts.uptime_ms))
    } else {
        String::new()
    };
    findings.report(
        "hit_rate",
        format!(
            "The hit rate over the last 5 minutes is {}% of {requests} requests, below smartcache.health-hit-rate \
             ({}). Of the {} others {count} were {cause}.{worst} SMARTCACHE.STATS RULES WINDOW 5m has the \
             numbers.{young}",
            percent(lately.served(), requests),
            format_fraction(wanted),
            requests - lately.served(),
        ),
    );
}

fn leases_expired(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| {
        let (expired, ended) = (of.lately.leases_expired, of.lately.leases_ended());
        let proven = expired > 0 && of.lately.overdue > 0 || expired >= LOST_LOADS;
        (proven && expired * 100 >= ended * LEASES_PERCENT).then_some(expired)
    };
    let text = |of: &RuleFacts<'_>| {
        let RuleFacts { lately, policy, .. } = of;
        let lock_ms = policy.lock_ms;
        let lock = format_duration(lock_ms);
        let why = match lately.overdue_ms.checked_div(lately.overdue) {
            Some(took_ms) => {
                let enough = format_duration(comfortable(took_ms));
                let advice = if took_ms < lock_ms {
                    format!(", so the callers of GETLOCK give a shorter one: let them say LOCK {enough}, or none")
                } else {
                    let remedy = of.remedy("LOCK", &enough, "lock");
                    format!(". Set it above that: {remedy}; or let loaders call SMARTCACHE.EXTEND")
                };
                let loads = counted(lately.overdue, "load");
                format!("{loads} came home later, after {} on average; LOCK is {lock}{advice}", span(took_ms))
            }
            None => {
                let others = of.load_ms().map_or_else(String::new, |took_ms| {
                    format!(" (those that came in time took {} on average)", span(took_ms))
                });
                let remedy = of.remedy("LOCK", &format_duration(lock_ms.saturating_mul(2)), "lock");
                format!(
                    "none of their loads came home later{others}. Look for loaders that die; if they only take longer \
                     than LOCK, which is {lock}, raise it: {remedy}"
                )
            }
        };
        let (title, leases) = (of.title(), counted(lately.leases_ended(), "lease"));
        let expired = lately.leases_expired;
        format!("{title}: {expired} of {leases} ran out in the last 5 minutes, each lets one more caller load; {why}.")
    };
    let where_to_look = "SMARTCACHE.STATS RULES WINDOW 5m has their leases_expired";
    findings.report_by_rule("leases_expired", facts, weight, text, where_to_look);
}

fn leases_refused(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| Some(of.lately.leases_refused).filter(|refused| *refused >= FEW);
    let text = |of: &RuleFacts<'_>| {
        let limit = format!("smartcache.max-leases ({})", facts.settings.max_leases);
        let (reached, raise) = match of.policy.fills {
            Some(fills) => (
                format!("FILLS ({fills}) or {limit}"),
                of.remedy("FILLS", &(u64::from(fills) * 2).to_string(), "max-leases"),
            ),
            None => (limit, "raise that by CONFIG SET".into()),
        };
        let took =
            of.load_ms().map_or_else(String::new, |took_ms| format!(" Loads take {} on average.", span(took_ms)));
        let (title, refused) = (of.title(), of.lately.leases_refused);
        format!(
            "{title}: {refused} requests for a lease were refused in the last 5 minutes, because {reached} was reached; \
             callers got a stale copy or BUSY.{took} If the origin can take more, {raise}; else give SWR or SIE, \
             so that there is a stale copy."
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES WINDOW 5m has their leases_refused";
    findings.report_by_rule("leases_refused", facts, weight, text, where_to_look);
}

fn fills_refused(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| {
        let refused = of.lately.fills_refused();
        // A late one that was refused counts twice: the share is rather told too small.
        let home = refused + of.lately.fills + of.lately.fills_late;
        (refused >= FEW && refused * 100 >= home * FILLS_PERCENT).then_some(refused)
    };
    let text = |of: &RuleFacts<'_>| {
        let lately = &of.lately;
        let kinds = [
            (lately.refused_stale, "STALE, because the key was deleted, invalidated or flushed while it was loaded"),
            (lately.refused_lost, "LOST, because something newer was written or the token was not this server's"),
            (lately.refused_error, "an error, over smartcache.max-value or out of memory"),
        ];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
        let unknown = match lately.fills_unknown {
            0 => String::new(),
            count => format!(
                " {count} of the tokens were never given by this server in this life: does a client write elsewhere \
                 than it reads?"
            ),
        };
        format!(
            "{}: {} loads that came home in the last 5 minutes were not stored as fresh: {}.{unknown}",
            of.title(),
            lately.fills_refused(),
            kinds.collect::<Vec<_>>().join("; "),
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES WINDOW 5m has their fills_refused";
    findings.report_by_rule("fills_refused", facts, weight, text, where_to_look);
}

fn sweep_backlog(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(Growth { by, to }) = facts.backlog.filter(|growth| growth.by >= BACKLOG_GROWTH) else { return };
    findings.report(
        "sweep_backlog",
        format!(
            "The sweep does not keep up with invalidations: {to} keys wait to be looked at, {by} more than 5 minutes ago. \
             MarkTarget is dead among them is not served, but takes memory. Raise smartcache.sweep-effort ({}), or invalidate \
             by tag: a prefix, a pattern and ALL each take a walk over all keys of their database.",
            format_fraction(facts.settings.sweep_effort),
        ),
    );
}

fn rules_unmatched(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| of.unmatched.filter(|(keys, _)| *keys >= UNMATCHED_KEYS).map(|_| 0);
    let text = |of: &RuleFacts<'_>| {
        let (keys, in_ms) = of.unmatched.unwrap_or_default();
        let mut patterns = of.rule.into_iter().flat_map(Rule::patterns);
        let first = patterns.next().map_or_else(String::new, quote);
        let more = match patterns.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let out = match of.rule {
            Some(rule) if rule.origin() == Origin::Commanded => format!("SMARTCACHE.RULE DEL {}", rule.name()),
            _ => "take it out of smartcache.rules".into(),
        };
        format!(
            "{} (MATCH {first}{more}) has matched none of {keys} keys that were asked for or stored in {}. A slip in \
             the pattern, or another rule comes first: SMARTCACHE.RULE EXPLAIN with a key that it is meant for. If it \
             is of no use, {out}.",
            of.title(),
            span(in_ms),
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES shows them with zeros only";
    findings.report_by_rule("rule_unmatched", facts, weight, text, where_to_look);
}

fn rules_incompressible(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| of.gave_up.then_some(of.lately.sets);
    let text = |of: &RuleFacts<'_>| {
        format!(
            "{}: its values do not become smaller by smartcache.min-savings ({}) when they are compressed, so most are \
             not even tried any more. If they are compressed or encrypted already, say so: {}.",
            of.title(),
            format_fraction(facts.settings.min_savings),
            of.remedy("CODEC", "none", "codec"),
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES shows them with a compression_ratio of 1";
    findings.report_by_rule("rule_incompressible", facts, weight, text, where_to_look);
}

/// Who has most of something; nobody where there are no rules.
fn worst<'f>(facts: &'f Facts<'_>, of: impl Fn(&Counters) -> u64) -> Option<(&'f RuleFacts<'f>, u64)> {
    let rules = facts.rules.iter().map(|rule| (rule, of(&rule.lately)));
    rules.max_by_key(|(_, count)| *count).filter(|_| facts.rules.len() > 1)
}

impl RuleFacts<'_> {
    /// At the head of a sentence.
    fn title(&self) -> String {
        self.rule.map_or_else(|| "Keys without a rule".into(), |rule| format!("Rule '{}'", rule.name()))
    }

    /// Inside of one.
    fn name(&self) -> String {
        self.rule.map_or_else(|| "keys without a rule".into(), |rule| format!("rule '{}'", rule.name()))
    }

    /// How long the loads took that came home in time, on average.
    fn load_ms(&self) -> Option<u64> {
        self.lately.origin_ms.checked_div(self.lately.fills + self.lately.fills_stale + self.lately.fills_lost)
    }

    /// How to have it otherwise. RULE SET replaces the rule whole: the dots stand for its other words.
    fn remedy(&self, word: &str, value: &str, setting: &str) -> String {
        match self.rule.map(|rule| (rule, rule.origin())) {
            Some((rule, Origin::Commanded)) => format!("SMARTCACHE.RULE SET {} ... {word} {value}", rule.name()),
            Some((_, Origin::Configured)) => format!("{word} {value} for it in smartcache.rules"),
            None => format!("CONFIG SET smartcache.{setting} {value}"),
        }
    }
}

/// A number with its noun.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { noun.into() } else { format!("{noun}s") }
}

/// A duration to two or three digits, as a person says it.
fn span(ms: u64) -> String {
    const SECOND: u64 = 1_000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..120_000 => format!("{} s", (ms as f64 / 100.0).round() / 10.0),
        120_000..7_200_000 => format!("{} min", ms / MINUTE),
        7_200_000..172_800_000 => format!("{} h", ms / HOUR),
        _ => format!("{} d", ms / DAY),
    }
}

/// A size to one digit after the point, in powers of 1024 as in the server's own settings.
fn size(bytes: u64) -> String {
    let units = [("GB", 1_u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{} {name}", (bytes as f64 / unit as f64 * 10.0).round() / 10.0),
        None => format!("{bytes} bytes"),
    }
}

/// A LOCK that loads of such a length fit into twice, in round numbers.
fn comfortable(took_ms: u64) -> u64 {
    let step = if took_ms < 500 { 100 } else { 1_000 };
    took_ms.saturating_mul(2).max(1).div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::Policies;
    use crate::testing::TestNode;

    const MB: u64 = 1 << 20;

    /// A node that has run for an hour.
    fn node() -> TestNode {
        let mut node = TestNode::at(1_000_000);
        node.advance(3_600_000);
        node
    }

    fn reasons(node: &mut TestNode) -> Vec<(&'static str, String)> {
        let now = node.now();
        let health = node.state.health(&node.server, now);
        assert_eq!(health.status(), if health.reasons.is_empty() { "ok" } else { "warn" });
        assert!(health.reasons.iter().all(|reason| reason.text.is_ascii()), "or redis-cli would show it in numbers");
        health.reasons.into_iter().map(|reason| (reason.code, reason.text)).collect()
    }

    fn codes(node: &mut TestNode) -> Vec<&'static str> {
        reasons(node).into_iter().map(|(code, _)| code).collect()
    }

    /// The only reason there is.
    fn reason(node: &mut TestNode) -> (&'static str, String) {
        let mut all = reasons(node);
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    fn times(node: &mut TestNode, count: usize, line: &str) {
        (0..count).for_each(|i| drop(node.call(&line.replace('#', &i.to_string()))));
    }

    /// Loads that take so long under a LOCK.
    fn loads(node: &mut TestNode, count: usize, words: &str, took_ms: u64) {
        for i in 0..count {
            let key = format!("a:{}:{i}", node.now().mono_ms());
            let token = node.token(format!("GETLOCK {key} {words}").trim_end());
            node.advance(took_ms);
            node.call(&format!("SET {key} v TOKEN {token}"));
        }
    }

    #[test]
    fn codes_are_unique_and_what_is_said_of_them_are_sentences() {
        let mut codes: Vec<_> = REASONS.iter().map(|(code, ..)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), REASONS.len());
        for (code, when, what) in REASONS {
            assert!(when.ends_with('.') && what.ends_with('.'), "{code}");
        }
    }

    #[test]
    fn an_idle_server_is_well() {
        for mut node in [TestNode::at(0), node(), TestNode::replica_at(5)] {
            let now = node.now();
            let health = node.state.health(&node.server, now);
            assert_eq!((health.status(), health.reasons), ("ok", vec![]));
            assert_eq!((health.hit_rate, health.error_rate, health.evicted_per_sec), (0.0, 0.0, 0.0));
        }
    }

    #[test]
    fn a_hit_rate_is_judged_by_the_last_five_minutes_and_by_enough_requests() {
        let mut node = node();
        node.call("SET k v EX 9999");
        times(&mut node, 49, "GET k");
        times(&mut node, 50, "GET cold#");
        assert!(codes(&mut node).is_empty(), "99 are too few");
        node.call("GET k");
        assert!(codes(&mut node).is_empty(), "half of them is not below half");
        node.call("GET cold");
        let (code, text) = reason(&mut node);
        assert_eq!(code, "hit_rate");
        assert_eq!(
            text,
            "The hit rate over the last 5 minutes is 49.5% of 101 requests, below smartcache.health-hit-rate \
             (50%). Of the 51 others 51 were cold: keys that were never stored, or were deleted. Load what is \
             known to be asked for, and see what deletes it. SMARTCACHE.STATS RULES WINDOW 5m has the numbers."
        );
        node.config("health-hit-rate", "45%").unwrap();
        assert!(codes(&mut node).is_empty());
        node.config("health-hit-rate", "100%").unwrap();
        assert_eq!(codes(&mut node), ["hit_rate"]);
        node.config("health-hit-rate", "0").unwrap();
        assert!(codes(&mut node).is_empty());
        node.config("health-hit-rate", "50%").unwrap();
        node.set_clock(0); // which is not asked
        assert_eq!(codes(&mut node), ["hit_rate"]);
        node.advance(360_000);
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn of_a_low_hit_rate_the_commonest_cause_and_the_worst_rule_are_named() {
        let mut node = node();
        node.call("RULE SET user MATCH u* TTL 1");
        times(&mut node, 80, "SET u# v");
        node.advance(2_000);
        times(&mut node, 80, "GET u#");
        times(&mut node, 30, "GET other#");
        let (_, text) = reason(&mut node);
        assert!(text.contains("Of the 110 others 80 were of keys whose time was over: raise their TTL"), "{text}");
        assert!(text.contains(" Most are of rule 'user': 80, with a hit rate of 0%."), "{text}");
    }

    #[test]
    fn a_server_that_has_just_started_says_that_it_may_be_filling() {
        let mut node = TestNode::at(1_000_000);
        node.advance(14_200);
        times(&mut node, 100, "GET cold#");
        let (_, text) = reason(&mut node);
        assert!(text.ends_with("(The server started 14.2 s ago: the cache may still be filling.)"), "{text}");
    }

    #[test]
    fn fresh_entries_that_are_evicted_are_told_with_their_rule_and_what_they_cost() {
        let mut node = node();
        node.server.server_info.memory_max_bytes = 100 * MB;
        node.call("RULE SET page MATCH p*");
        times(&mut node, 20, "SET p# v");
        times(&mut node, 20, "SET s# v EX 1 SWR 9999");
        node.advance(2_000);
        (0..20).for_each(|i| node.evict(&format!("s{i}")));
        (0..9).for_each(|i| node.evict(&format!("p{i}")));
        node.plain_set("string", "v", None);
        node.evict("string");
        assert!(codes(&mut node).is_empty(), "what is stale may go");
        node.evict("p9");
        node.call("GET p9");
        let (code, text) = reason(&mut node);
        assert_eq!(code, "evictions");
        assert_eq!(
            text,
            "The server evicted 10 fresh entries in the last 5 minutes, 10 of them of rule 'page'; 1 request \
             missed because of evictions. MarkTarget is to be kept does not fit: raise maxmemory (now 100 MB), or \
             shorten lifetimes (TTL, SWR, SIE) of what is asked for least."
        );
        assert_eq!((node.stat("entries_evicted"), node.stat("keys_evicted")), ("10".into(), "31".into()));
        node.call("RESETSTAT");
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn evictions_a_second_are_of_the_last_minute_or_since_the_start() {
        let mut node = TestNode::at(1_000_000);
        let rate = |node: &mut TestNode| {
            let now = node.now();
            node.state.health(&node.server, now).evicted_per_sec
        };
        (0..30).for_each(|_| node.evict("k"));
        assert_eq!(rate(&mut node), 30.0, "at the least of a second");
        node.advance(20_000);
        assert_eq!(rate(&mut node), 1.5);
        node.advance(40_000);
        assert_eq!(rate(&mut node), 0.5);
        node.advance(1_000_000);
        assert_eq!(rate(&mut node), 0.0);
    }

    #[test]
    fn memory_close_to_its_limit_is_told_with_what_happens_there() {
        let mut node = node();
        let mut said = |used, uncounted, policy: &str| {
            node.server.server_info = ServerInfo {
                memory_used_bytes: used,
                memory_uncounted_bytes: uncounted,
                memory_max_bytes: 1_000 * MB,
                memory_policy: policy.into(),
                ..ServerInfo::default()
            };
            reasons(&mut node).pop().map(|(code, text)| {
                assert_eq!(code, "memory");
                text
            })
        };
        assert_eq!(said(900 * MB - 1, 0, "noeviction"), None);
        assert_eq!(said(1_000 * MB, 101 * MB, "noeviction"), None);
        assert_eq!(
            said(900 * MB, 0, "noeviction").unwrap(),
            "Memory is at 90% of maxmemory, 900 MB of 1000 MB: at the limit stores answer OOM. Raise maxmemory, \
             or CONFIG SET maxmemory-policy allkeys-lfu."
        );
        assert!(
            said(1_024 * MB, 0, "volatile-ttl").unwrap().contains("1 GB of 1000 MB: at the limit keys with an expiry")
        );
        assert!(said(999 * MB, 0, "allkeys-lru").unwrap().contains("keys are evicted (maxmemory-policy allkeys-lru)"));
        node.evict("k");
        assert!(codes(&mut node).is_empty(), "where it evicts, that is how it lives");
        node.server.server_info.memory_policy = "noeviction".into();
        assert_eq!(codes(&mut node), ["memory"]);
        node.server.server_info.memory_max_bytes = 0;
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn leases_that_run_out_are_told_with_the_rule_and_the_measured_load_time() {
        let mut node = node();
        node.call("RULE SET slow MATCH a:* LOCK 2");
        loads(&mut node, 3, "", 1_900);
        assert!(codes(&mut node).is_empty());
        loads(&mut node, 2, "", 14_200);
        let (code, text) = reason(&mut node);
        assert_eq!(code, "leases_expired");
        assert_eq!(
            text,
            "Rule 'slow': 2 of 5 leases ran out in the last 5 minutes, each lets one more caller load; 2 loads \
             came home later, after 14.2 s on average; LOCK is 2s. Set it above that: SMARTCACHE.RULE SET slow \
             ... LOCK 29s; or let loaders call SMARTCACHE.EXTEND."
        );
        node.advance(400_000);
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn a_lease_that_runs_out_is_told_where_its_length_comes_from() {
        let mut node = node();
        loads(&mut node, 1, "LOCK 100ms", 300);
        let (_, text) = reason(&mut node);
        assert!(text.starts_with("Keys without a rule: 1 of 1 lease ran out"), "{text}");
        assert!(
            text.contains("LOCK is 10s, so the callers of GETLOCK give a shorter one: let them say LOCK 600ms"),
            "{text}"
        );
        let mut node = self::node();
        loads(&mut node, 1, "", 20_000);
        assert!(reason(&mut node).1.contains("CONFIG SET smartcache.lock 40s"));
        let mut node = self::node();
        node.config("rules", r#"[{"name":"c","match":"a:*","lock":1}]"#).unwrap();
        loads(&mut node, 1, "", 5_000);
        assert!(reason(&mut node).1.contains("LOCK 10s for it in smartcache.rules"));
    }

    #[test]
    fn loads_that_never_come_home_are_told_after_three() {
        let mut node = node();
        loads(&mut node, 1, "", 500);
        times(&mut node, 2, "GETLOCK dead#");
        node.advance(11_000);
        assert!(codes(&mut node).is_empty());
        node.call("GETLOCK dead");
        node.advance(11_000);
        let (code, text) = reason(&mut node);
        assert_eq!(code, "leases_expired");
        assert!(text.contains("3 of 4 leases ran out"), "{text}");
        assert!(
            text.contains("none of their loads came home later (those that came in time took 500 ms on average)"),
            "{text}"
        );
    }

    #[test]
    fn a_load_that_is_late_because_its_lease_was_ended_is_not_one_that_ran_out() {
        let mut node = node();
        let token = node.token("GETLOCK k");
        node.call("STALE k");
        node.advance(20_000);
        node.call(&format!("SET k v TOKEN {token}"));
        assert_eq!(node.stat("fills_late"), "1");
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn leases_that_are_refused_are_told_with_the_limit() {
        let mut node = node();
        node.call("RULE SET tight MATCH t* FILLS 1");
        node.call("GETLOCK t");
        times(&mut node, 4, "GETLOCK t#");
        assert!(codes(&mut node).is_empty());
        node.call("GETLOCK t4");
        let (code, text) = reason(&mut node);
        assert_eq!(code, "leases_refused");
        assert!(text.starts_with(
            "Rule 'tight': 5 requests for a lease were refused in the last 5 minutes, because FILLS (1) or"
        ));
        assert!(text.contains("SMARTCACHE.RULE SET tight ... FILLS 2"), "{text}");
        assert_eq!(node.stat("leases_refused"), "5");
        let mut node = self::node();
        node.config("max-leases", "0").unwrap();
        times(&mut node, 5, "GETLOCK t#");
        assert!(reason(&mut node).1.contains("because smartcache.max-leases (0) was reached"));
    }

    #[test]
    fn fills_that_are_refused_are_told_with_what_they_were_answered() {
        let mut node = node();
        node.config("max-value", "5").unwrap();
        times(&mut node, 2, "SET k v TOKEN bogus#");
        for i in 0..3 {
            let token = node.token(&format!("GETLOCK s{i}"));
            node.call(&format!("DEL s{i}"));
            node.call(&format!("SET s{i} v TOKEN {token}"));
        }
        let token = node.token("GETLOCK large");
        node.call(&format!("SET large 123456 TOKEN {token}"));
        let (code, text) = reason(&mut node);
        assert_eq!(code, "fills_refused");
        assert_eq!(
            text,
            "Keys without a rule: 6 loads that came home in the last 5 minutes were not stored as fresh: 3 \
             STALE, because the key was deleted, invalidated or flushed while it was loaded; 2 LOST, because \
             something newer was written or the token was not this server's; 1 an error, over \
             smartcache.max-value or out of memory. 2 of the tokens were never given by this server in this \
             life: does a client write elsewhere than it reads?"
        );
        assert_eq!(node.stat("fills_refused"), "6");
        loads(&mut node, 60, "", 1);
        assert!(codes(&mut node).is_empty(), "less than a tenth");
    }

    #[test]
    fn a_rule_that_never_matches_is_told_once_there_was_enough_to_match() {
        let mut node = node();
        times(&mut node, 1_000, "SET k v");
        node.call("RULE SET dead MATCH nosuch:* MATCH other");
        node.call("RULE SET kept MATCH keep");
        node.call("SET keep v EX 99999");
        node.call("RULE SET late MATCH x*");
        assert!(codes(&mut node).is_empty(), "what came before it was made does not count");
        times(&mut node, 499, "SET k v");
        times(&mut node, 499, "GET k");
        assert!(codes(&mut node).is_empty());
        node.call("RULE SET late MATCH y*");
        node.advance(180_000);
        node.call("GET k");
        let (code, text) = reason(&mut node);
        assert_eq!(code, "rule_unmatched");
        assert_eq!(
            text,
            "Rule 'dead' (MATCH 'nosuch:*' and 1 more) has matched none of 1000 keys that were asked for or \
             stored in 3 min. A slip in the pattern, or another rule comes first: SMARTCACHE.RULE EXPLAIN with \
             a key that it is meant for. If it is of no use, SMARTCACHE.RULE DEL dead."
        );
        node.call("RESETSTAT");
        assert!(codes(&mut node).is_empty());
        times(&mut node, 1_000, "GET k");
        let unmatched: Vec<_> = reasons(&mut node).into_iter().map(|(_, text)| text).collect();
        assert_eq!(unmatched.len(), 2, "one has an entry: {unmatched:#?}");
        node.call("GET nosuch:1");
        node.call("RULE DEL late");
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn rules_of_the_configuration_are_met_when_they_are_configured() {
        let mut node = node();
        node.call("SET k v");
        times(&mut node, 1_000, "GET k");
        node.config("rules", r#"[{"name":"c","match":"\u0001\"\n*"}]"#).unwrap();
        assert!(codes(&mut node).is_empty());
        node.config("jitter", "1%").unwrap();
        times(&mut node, 1_000, "GET k");
        let (_, text) = reason(&mut node);
        assert!(text.starts_with(r#"Rule 'c' (MATCH '\x01\"\n*') has"#), "{text}");
        assert!(text.ends_with("If it is of no use, take it out of smartcache.rules."));
    }

    #[test]
    fn of_many_rules_the_worst_are_told_and_the_others_counted() {
        let mut node = node();
        (0..9).for_each(|i| drop(node.call(&format!("RULE SET r{i} MATCH nosuch{i}"))));
        node.call("SET k v");
        times(&mut node, 1_000, "GET k");
        let all = reasons(&mut node);
        assert_eq!(all.len(), TOLD + 1);
        assert!(all.iter().all(|(code, _)| *code == "rule_unmatched"));
        assert!(all[0].1.starts_with("Rule 'r0'"));
        assert_eq!(all[TOLD].1, "The same holds for 4 more rules: SMARTCACHE.STATS RULES shows them with zeros only.");
    }

    #[test]
    fn a_rule_whose_values_never_shrink_is_told_while_it_stores() {
        let mut node = node();
        let noise: Vec<u8> = (0..200_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let store = |node: &mut TestNode, count| {
            (0..count).for_each(|_| drop(node.call_words(&[b"SET", b"img:1", &noise, b"EX", b"99999"])));
        };
        node.call("RULE SET img MATCH img:*");
        store(&mut node, 31);
        assert!(codes(&mut node).is_empty());
        store(&mut node, 300);
        let (code, text) = reason(&mut node);
        assert_eq!(code, "rule_incompressible");
        assert!(text.contains("smartcache.min-savings (20%)"), "{text}");
        assert!(text.ends_with("say so: SMARTCACHE.RULE SET img ... CODEC none."), "{text}");
        node.call("RULE SET img MATCH img:* CODEC none");
        assert!(codes(&mut node).is_empty());
        node.call("RULE SET img MATCH img:* CODEC zstd");
        assert_eq!(codes(&mut node), ["rule_incompressible"]);
        node.advance(3_700_000);
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn panics_are_told_until_the_counters_are_reset() {
        let mut node = node();
        let now = node.now();
        node.state.stats.at(now).node().panics += 1;
        node.advance(100_000_000);
        let (code, text) = reason(&mut node);
        assert_eq!(code, "panics");
        assert!(text.starts_with("A panic was caught since start or RESETSTAT: a bug of SmartCache."), "{text}");
        node.call("RESETSTAT");
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn a_backlog_that_only_grows_for_five_minutes_is_told() {
        let mut node = node();
        let see = |node: &mut TestNode, waiting: &[u64]| {
            for waiting in waiting {
                node.advance(30_000);
                let now = node.now();
                node.state.backlog.see(*waiting, now);
            }
            codes(node)
        };
        assert!(see(&mut node, &[0; 20]).is_empty());
        assert!(see(&mut node, &[9_000; 4]).is_empty(), "it has just begun");
        assert!(
            see(&mut node, &[9_000, 9_000, 9_000, 9_900, 9_900, 9_900, 9_950, 9_950]).is_empty(),
            "that is nothing"
        );
        assert_eq!(see(&mut node, &[12_000, 12_000, 12_000]), ["sweep_backlog"]);
        let (_, text) = reason(&mut node);
        assert!(text.contains("12000 keys wait to be looked at, 3000 more than 5 minutes ago"), "{text}");
        assert!(see(&mut node, &[11_000, 13_000, 14_000, 15_000]).is_empty(), "it was less for a moment");
        assert!(see(&mut node, &[20_000; 20]).is_empty(), "it does not grow");
        node.state.backlog = Backlog::default();
        assert!(see(&mut node, &[1, 1, 2_000, 2_000]).is_empty());
        node.advance(3_600_000);
        assert!(see(&mut node, &[9_000]).is_empty(), "nobody has looked");
    }

    #[test]
    fn a_sweep_that_gets_no_time_is_told_and_one_that_is_put_off_is_not() {
        let mut node = node();
        let minute = |node: &mut TestNode, from: usize| {
            (from..from + 500).for_each(|i| drop(node.call(&format!("SET k{i} v EX 99999"))));
            node.advance(60_000);
            let now = node.now();
            node.state.watch(now);
        };
        node.call("INVALIDATE PREFIXES 1 x SOFT OVER 1h");
        node.sweep(); // it looks once at once, and again in an hour
        (0..7).for_each(|i| minute(&mut node, i * 500));
        assert_eq!(reasons(&mut node), []);
        node.call("INVALIDATE PREFIXES 1 y");
        (7..14).for_each(|i| minute(&mut node, i * 500));
        assert_eq!(codes(&mut node), ["sweep_backlog"]);
        node.sweep();
        node.advance(5_000);
        let now = node.now();
        node.state.watch(now);
        assert!(codes(&mut node).is_empty());
    }

    #[test]
    fn spans_and_sizes_are_said_as_people_say_them() {
        let spans = [0, 999, 1_000, 14_249, 119_000, 120_000, 7_200_000, 86_400_000 * 3].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "1 s", "14.2 s", "119 s", "2 min", "2 h", "3 d"]);
        assert_eq!(
            [0, 1_023, 1_024, MB * 3 / 2, 5 << 30].map(size),
            ["0 bytes", "1023 bytes", "1 KB", "1.5 MB", "5 GB"]
        );
        assert_eq!([0, 30, 250, 600, 14_200].map(comfortable), [100, 100, 500, 2_000, 29_000]);
    }

    #[test]
    fn nothing_overflows() {
        let settings = Settings::default();
        let policies = Policies::new(&settings);
        let most = Counters::default().with(&Counters::default(), |_, _| u64::from(u32::MAX));
        let server_info =
            ServerInfo { memory_used_bytes: u64::MAX, memory_max_bytes: u64::MAX, ..ServerInfo::default() };
        let of_rule = RuleFacts {
            rule: None,
            policy: policies.policy(None),
            lately: most,
            unmatched: Some((u64::MAX, u64::MAX)),
            gave_up: true,
        };
        let reasons = diagnose(&Facts {
            server_info: &server_info,
            replica: true,
            settings: &settings,
            lately: most,
            rules: vec![of_rule],
            panics: u64::MAX,
            backlog: Some(Growth { by: u64::MAX, to: u64::MAX }),
            uptime_ms: u64::MAX,
        });
        assert!(reasons.len() >= 5, "{reasons:#?}");
    }
}
