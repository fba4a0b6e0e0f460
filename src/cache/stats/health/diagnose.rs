//! The diagnosis: which facts make a reason, and its sentence.

use super::backlog::Growth;
use super::facts::{Facts, Guarded, RuleFacts};
use super::phrases::{counted, plural, size, span};
use super::reasons::{REASONS, Reason};
use crate::cache::ports::ServerInfo;
use crate::cache::rules::Rule;
use crate::cache::stats::{Counters, percent};
use crate::cache::units::{format_duration, format_fraction, format_share, quote};

/// A hit rate counts only with this many requests.
const MIN_REQUESTS: u64 = 100;
/// Fewer refused leases or fills are no reason.
const MIN_REFUSALS: u64 = 5;
/// Fewer evicted fresh entries are no reason.
const MIN_EVICTIONS: u64 = 10;
/// This many expired leases are a reason even without a late fill.
const MIN_EXPIRED_LEASES: u64 = 3;
/// A smaller share of expired leases is no reason: loaders die now and then.
const EXPIRED_LEASES_PERCENT: u64 = 1;
/// A smaller share of refused fills is no reason.
const REFUSED_FILLS_PERCENT: u64 = 10;
/// From this share of `maxmemory` on, memory is close to its limit.
const MEMORY_PERCENT: u64 = 90;
/// A rule that matches none of this many keys is a reason.
const MIN_UNMATCHED_KEYS: u64 = 1_000;
/// A backlog that grows by fewer keys in five minutes is no reason.
const MIN_BACKLOG_GROWTH: u64 = 1_000;
/// How many rules each code names; the others are only counted.
pub(super) const RULES_NAMED: usize = 5;
/// A younger server may still be filling.
const WARM_UP_MS: u64 = 300_000;

/// What is wrong, the most urgent first.
pub fn diagnose(facts: &Facts<'_>) -> Vec<Reason> {
    let mut findings = Findings::default();
    panics(facts, &mut findings);
    memory(facts, &mut findings);
    evictions(facts, &mut findings);
    hit_rate(facts, &mut findings);
    leases_expired(facts, &mut findings);
    leases_refused(facts, &mut findings);
    user_share(facts, &mut findings);
    fills_refused(facts, &mut findings);
    guarded(facts, &mut findings);
    index_memory(facts, &mut findings);
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

    /// Reports the rules with the largest weights, and how many more there are. A rule whose weight is `None` is well.
    fn report_by_rule(
        &mut self,
        code: &'static str,
        facts: &Facts<'_>,
        weight: impl Fn(&RuleFacts<'_>) -> Option<u64>,
        text: impl Fn(&RuleFacts<'_>) -> String,
        where_to_look: &str,
    ) {
        let mut found: Vec<_> = facts.rules.iter().filter_map(|of| Some((weight(of)?, of))).collect();
        found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight)); // stable: equal weights stay in matching order
        found.iter().take(RULES_NAMED).for_each(|(_, of)| self.report(code, text(of)));
        let more = found.len().saturating_sub(RULES_NAMED) as u64;
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
                "{} caught since start or RESETSTAT: {} in SmartCache. The server goes on. Please report it, with the \
                 file and line that the server's log shows at <smartcache>. SMARTCACHE.RESETSTAT ends this warning.",
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
    // A cache that evicts normally runs at its limit; what that costs is the reason `evictions`.
    if evicts && facts.recent.keys_evicted > 0 {
        return;
    }
    let then = match policy.as_str() {
        "noeviction" => {
            "At the limit stores answer OOM. Raise maxmemory, or CONFIG SET maxmemory-policy allkeys-lfu".into()
        }
        policy if policy.starts_with("volatile") => format!(
            "At the limit keys with an expiry are evicted; when none are left, stores answer OOM (maxmemory-policy \
             {policy}). Raise maxmemory, or shorten lifetimes (TTL, SWR, SIE)"
        ),
        policy => format!(
            "At the limit keys are evicted, fresh ones too (maxmemory-policy {policy}). Raise maxmemory, or shorten \
             lifetimes (TTL, SWR, SIE)"
        ),
    };
    let replica = if facts.replica { " (This is a replica: the limit applies once it is promoted.)" } else { "" };
    findings.report(
        "memory",
        format!(
            "Memory is at {}% of maxmemory: {} of {}. {then}.{replica}",
            percent(counted, *max),
            size(counted),
            size(*max),
        ),
    );
}

fn evictions(facts: &Facts<'_>, findings: &mut Findings) {
    let fresh = facts.recent.entries_evicted;
    if fresh < MIN_EVICTIONS {
        return;
    }
    let worst = worst(facts, |recent| recent.entries_evicted)
        .map_or_else(String::new, |(of, count)| format!(", {count} of them of {}", of.name()));
    let max = facts.server_info.memory_max_bytes;
    let now = if max > 0 { format!(" (now {})", size(max)) } else { String::new() };
    findings.report(
        "evictions",
        format!(
            "The server evicted {fresh} fresh entries in the last 5 minutes{worst}; {} missed because of evictions. \
             The data does not fit into memory: raise maxmemory{now}, or shorten the lifetimes (TTL, SWR, SIE) of what \
             is requested least.",
            counted(facts.recent.misses_evicted, "request"),
        ),
    );
}

fn hit_rate(facts: &Facts<'_>, findings: &mut Findings) {
    let (recent, wanted) = (&facts.recent, facts.settings.health_hit_rate);
    let requests = recent.requests();
    if requests < MIN_REQUESTS || recent.served() as f64 >= wanted * requests as f64 {
        return;
    }
    let causes = [
        (
            recent.misses_cold,
            "cold misses: keys that were never stored, or were deleted. Store popular keys in advance, and find out \
             what deletes them",
        ),
        (recent.misses_expired, "misses of expired entries: raise their TTL (or smartcache.default-ttl), or add SWR"),
        (
            recent.misses_invalidated,
            "misses of invalidated entries: invalidate SOFT and add SWR, or invalidate only what has changed",
        ),
        (recent.misses_evicted, "misses of evicted keys: raise maxmemory"),
        (
            recent.busy,
            "answered BUSY: give GETLOCK a WAIT as long as loads take, and check FILLS, smartcache.max-leases and \
             smartcache.max-waiters",
        ),
    ];
    // Of equal counts, the first cause.
    let (count, cause) = causes.into_iter().rev().max_by_key(|(count, _)| *count).expect("there are five");
    let not_served = requests - recent.served();
    let worst = worst(facts, |recent| recent.misses() + recent.busy).map_or_else(String::new, |(of, count)| {
        let rate = percent(of.recent.served(), of.recent.requests());
        format!(" {count} of the {not_served} concern {}, with a hit rate of {rate}%.", of.name())
    });
    let young = if facts.uptime_ms < WARM_UP_MS {
        format!(" (The server started {} ago: the cache may still be filling.)", span(facts.uptime_ms))
    } else {
        String::new()
    };
    findings.report(
        "hit_rate",
        format!(
            "The hit rate over the last 5 minutes is {}% of {requests} requests, below smartcache.health-hit-rate \
             ({}). Of the {not_served} others, {count} were {cause}.{worst} SMARTCACHE.STATS RULES WINDOW 5m shows \
             the numbers.{young}",
            percent(recent.served(), requests),
            format_fraction(wanted),
        ),
    );
}

fn leases_expired(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| {
        let (expired, ended) = (of.recent.leases_expired, of.recent.leases_ended());
        let proven = expired > 0 && of.recent.overdue > 0 || expired >= MIN_EXPIRED_LEASES;
        (proven && expired * 100 >= ended * EXPIRED_LEASES_PERCENT).then_some(expired)
    };
    let text = |of: &RuleFacts<'_>| {
        let RuleFacts { recent, policy, .. } = of;
        let lock_ms = policy.lock_ms;
        let lock = format_duration(lock_ms);
        let why = match recent.overdue_ms.checked_div(recent.overdue) {
            Some(took_ms) => {
                let enough = format_duration(suggested_lock_ms(took_ms));
                let advice = if took_ms < lock_ms {
                    format!(", so callers of GETLOCK set a shorter one: use LOCK {enough} there, or leave it out")
                } else {
                    let remedy = of.remedy("LOCK", &enough, "lock");
                    format!(". Raise LOCK: {remedy}; or let loaders call SMARTCACHE.EXTEND")
                };
                let fills = counted(recent.overdue, "fill");
                format!("{fills} arrived late, after {} on average; LOCK is {lock}{advice}", span(took_ms))
            }
            None => {
                let others = of.load_ms().map_or_else(String::new, |took_ms| {
                    format!(" (loads that ended in time took {} on average)", span(took_ms))
                });
                let remedy = of.remedy("LOCK", &format_duration(lock_ms.saturating_mul(2)), "lock");
                format!(
                    "No fill arrived late{others}. Look for loaders that die; if loads only take longer than LOCK \
                     ({lock}), raise it: {remedy}"
                )
            }
        };
        let (title, leases) = (of.title(), counted(recent.leases_ended(), "lease"));
        let expired = recent.leases_expired;
        format!("{title}: {expired} of {leases} ran out in the last 5 minutes; each lets one more caller load. {why}.")
    };
    let where_to_look = "SMARTCACHE.STATS RULES WINDOW 5m shows their leases_expired";
    findings.report_by_rule("leases_expired", facts, weight, text, where_to_look);
}

fn leases_refused(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| Some(of.recent.leases_refused).filter(|refused| *refused >= MIN_REFUSALS);
    let text = |of: &RuleFacts<'_>| {
        let limit = format!("smartcache.max-leases ({})", facts.settings.max_leases);
        let (reached, raise) = match of.policy.fills {
            Some(fills) => (
                format!("FILLS ({fills}) or {limit}"),
                format!("raise it: {}", of.remedy("FILLS", &(u64::from(fills) * 2).to_string(), "max-leases")),
            ),
            None => (limit, "raise it with CONFIG SET".into()),
        };
        let took =
            of.load_ms().map_or_else(String::new, |took_ms| format!(" Loads take {} on average.", span(took_ms)));
        let (title, refused) = (of.title(), of.recent.leases_refused);
        format!(
            "{title}: {refused} leases were refused in the last 5 minutes, because {reached} was reached; callers got \
             a stale copy or BUSY.{took} If the origin can take more, {raise}; otherwise add SWR or SIE, so that \
             callers get a stale copy instead of BUSY."
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES WINDOW 5m shows their leases_refused";
    findings.report_by_rule("leases_refused", facts, weight, text, where_to_look);
}

fn user_share(facts: &Facts<'_>, findings: &mut Findings) {
    let refused = facts.recent.user_share_refused;
    if refused == 0 {
        return;
    }
    let times = if refused == 1 { "once".into() } else { format!("{refused} times") };
    let (share, user) = (format_fraction(facts.settings.user_share), facts.refused_user.unwrap_or_default());
    findings.report(
        "user_share",
        format!(
            "A lease or a wait was refused {times} in the last 5 minutes, because a user held its share \
             (smartcache.user-share, {share}) of smartcache.max-leases or smartcache.max-waiters; the last one was \
             '{user}'. If nobody else uses this server: CONFIG SET smartcache.user-share 100%. Otherwise find out what \
             that user does with them, or raise those limits.",
        ),
    );
}

fn fills_refused(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| {
        let refused = of.recent.fills_refused();
        // A late fill that was refused counts twice: the share is rather too small than too large.
        let all = refused + of.recent.fills + of.recent.fills_late;
        (refused >= MIN_REFUSALS && refused * 100 >= all * REFUSED_FILLS_PERCENT).then_some(refused)
    };
    let text = |of: &RuleFacts<'_>| {
        let recent = &of.recent;
        let kinds = [
            (recent.refused_stale, "STALE (the key was deleted, invalidated or flushed during the load)"),
            (recent.refused_lost, "LOST (something newer was written, or the token is not valid here)"),
            (recent.refused_error, "an error (over smartcache.max-value, or out of memory)"),
        ];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} got {kind}"));
        let unknown = match recent.fills_unknown {
            0 => String::new(),
            count => format!(
                " {} not issued by this server for that key since its last start or change of role: does a client \
                 write to another server than it reads from?",
                if count == 1 { "1 token was".into() } else { format!("{count} tokens were") },
            ),
        };
        format!(
            "{}: {} fills were not stored as fresh in the last 5 minutes: {}.{unknown}",
            of.title(),
            recent.fills_refused(),
            kinds.collect::<Vec<_>>().join("; "),
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES WINDOW 5m shows their fills_refused";
    findings.report_by_rule("fills_refused", facts, weight, text, where_to_look);
}

fn guarded(facts: &Facts<'_>, findings: &mut Findings) {
    let refused = facts.recent.refused_guarded;
    let Some(Guarded { what, db, until_ms }) = facts.guarded.filter(|_| refused >= MIN_REFUSALS) else { return };
    findings.report(
        "guarded",
        format!(
            "{refused} fills were refused in the last 5 minutes because their loads began within a guard. The last one \
             is that of INVALIDATE {what} in database {db}; it stands for another {}. If the origin's replicas do not \
             lag that long, take it back: SMARTCACHE.INVALIDATE {what} GUARD 0 (it invalidates once more).",
            span(until_ms.saturating_sub(facts.mono_ms)),
        ),
    );
}

fn index_memory(facts: &Facts<'_>, findings: &mut Findings) {
    let (bytes, limit) = facts.mark_bytes;
    if limit == 0 || u128::from(bytes) * 100 < u128::from(limit) * u128::from(MEMORY_PERCENT) {
        return;
    }
    findings.report(
        "index_memory",
        format!(
            "Invalidation marks that no entry accounts for take {} of {} (smartcache.index-memory {}). Beyond that, \
             INVALIDATE is refused where it needs room. They go when the sweep has applied them and their guards are \
             over: raise smartcache.sweep-effort, say shorter guards, invalidate by tags, or raise the setting.",
            size(bytes),
            size(limit),
            format_share(facts.settings.index_memory),
        ),
    );
}

fn sweep_backlog(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(Growth { by, to }) = facts.backlog.filter(|growth| growth.by >= MIN_BACKLOG_GROWTH) else { return };
    findings.report(
        "sweep_backlog",
        format!(
            "The sweep does not keep up with invalidations: {to} keys wait to be checked, {by} more than 5 minutes ago. \
             Dead entries among them are not served, but take memory. Raise smartcache.sweep-effort ({}), or invalidate \
             by tag: each prefix, pattern or ALL takes a walk over all keys of the database.",
            format_fraction(facts.settings.sweep_effort),
        ),
    );
}

fn rules_unmatched(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| of.unmatched.filter(|(keys, _)| *keys >= MIN_UNMATCHED_KEYS).map(|_| 0);
    let text = |of: &RuleFacts<'_>| {
        let (keys, in_ms) = of.unmatched.unwrap_or_default();
        let mut patterns = of.rule.into_iter().flat_map(Rule::patterns);
        let first = patterns.next().map_or_else(String::new, quote);
        let more = match patterns.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let name = of.rule.map_or("", Rule::name);
        format!(
            "{} (MATCH {first}{more}) has matched none of {keys} keys that were requested or stored in {}. The pattern \
             has a mistake, or another rule comes first: run SMARTCACHE.RULE EXPLAIN with a key that should match. If \
             the rule is no longer needed, SMARTCACHE.RULE DEL {name}.",
            of.title(),
            span(in_ms),
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES shows their counters at 0";
    findings.report_by_rule("rule_unmatched", facts, weight, text, where_to_look);
}

fn rules_incompressible(facts: &Facts<'_>, findings: &mut Findings) {
    let weight = |of: &RuleFacts<'_>| of.incompressible.then_some(of.recent.sets);
    let text = |of: &RuleFacts<'_>| {
        format!(
            "{}: compression does not shrink its values by smartcache.min-savings ({}), so most are stored without an \
             attempt. If they are compressed or encrypted already, turn compression off: {}.",
            of.title(),
            format_fraction(facts.settings.min_savings),
            of.remedy("CODEC", "none", "codec"),
        )
    };
    let where_to_look = "SMARTCACHE.STATS RULES shows their compression_ratio of 1";
    findings.report_by_rule("rule_incompressible", facts, weight, text, where_to_look);
}

/// The rule (or the keys without one) with the largest count; `None` when there are no rules to compare.
fn worst<'f>(facts: &'f Facts<'_>, of: impl Fn(&Counters) -> u64) -> Option<(&'f RuleFacts<'f>, u64)> {
    let rules = facts.rules.iter().map(|rule| (rule, of(&rule.recent)));
    rules.max_by_key(|(_, count)| *count).filter(|_| facts.rules.len() > 1)
}

/// A LOCK of twice the load time, rounded up.
pub(super) fn suggested_lock_ms(took_ms: u64) -> u64 {
    let step = if took_ms < 500 { 100 } else { 1_000 };
    took_ms.saturating_mul(2).max(1).div_ceil(step) * step
}
