//! `SMARTCACHE.STATS`: the counters of the cache.

use super::args::{Args, is, once};
use super::spec::{Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::error::Error;
use crate::cache::ids::RuleId;
use crate::cache::rules::{Policies, Rule};
use crate::cache::stats::report::{self, Section};
use crate::cache::stats::window::{WINDOWS, Window};
use crate::cache::stats::{Number, Scope, Snapshot};
use crate::cache::{Cx, Reply, units};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.STATS",
    summary: "Returns the counters of the cache since start or reset, or over a window",
    since: "0.1.0",
    complexity: "O(1); O(r) for r rules; with PROMETHEUS plus the cost of SMARTCACHE.HEALTH",
    arity: -1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[
        Arg::one_of("scope", &[Arg::option("name", "RULE", Kind::Text).required(), Arg::flag("rules", "RULES")]),
        Arg::option("window", "WINDOW", Kind::Text),
        Arg::one_of("format", &[Arg::flag("json", "JSON"), Arg::flag("prometheus", "PROMETHEUS")]),
    ],
    details: "\
Only reads by SMARTCACHE commands count: GET, MGET and GETLOCK, one request a key. The same numbers are in INFO smartcache, with smartcache_ before the name.
RULE returns the numbers of one rule, RULES those of every rule by name; (none) is for keys without a rule. They sum to the whole. Numbers that concern no key (waiters, errors, error_rate, panics, uptime_ms, counting_ms) are part of the whole only. A hit counts for the rule that its entry was stored under, a miss for the rule that its key matches; the counts of a deleted rule are added to (none).
WINDOW 1m, 5m or 1h returns what was counted lately: in the last minute and up to a second more, or in the last five minutes or hour and up to a minute more. Measurements of the present, such as entries, are as of now.
JSON and PROMETHEUS reply with one text. In JSON the fields have the names of the map. For Prometheus, milliseconds become seconds and counters end in _total; with RULES the rule is a label, and numbers that concern no key are included without that label, so that one scrape has everything. Without RULE and WINDOW it also has smartcache_health, with each code of SMARTCACHE.HEALTH as the label reason: 1 when that reason is given, else 0.",
    replies: "A map from name to number; with RULES a map from rule to such a map. With JSON or PROMETHEUS: a text.",
    run: Some(Run::Plain(run)),
};

/// The name of the row for keys without a rule; not a valid name of a rule.
pub(super) const NO_RULE: &str = "(none)";

/// `STATS [RULE name | RULES] [WINDOW 1m | 5m | 1h] [JSON | PROMETHEUS]`
struct Stats<'w> {
    rules: Option<Rules<'w>>,
    window: Option<(&'static str, Window)>,
    format: Option<Format>,
}

/// Which rules to report.
enum Rules<'w> {
    One(&'w [u8]),
    All,
}

/// The format of the reply.
#[derive(Clone, Copy, PartialEq)]
enum Format {
    Json,
    Prometheus,
}

impl<'w> Stats<'w> {
    fn parse(args: &mut Args<'w>) -> Result<Self, Error> {
        let (mut rules, mut window, mut format) = (None, None, None);
        while let Some(word) = args.option() {
            if is(word, "RULE") {
                once(&mut rules, Rules::One(args.value_of(word)?), word)?;
            } else if is(word, "RULES") {
                once(&mut rules, Rules::All, word)?;
            } else if is(word, "WINDOW") {
                let name = args.value_of(word)?;
                let known = WINDOWS.iter().find(|(known, _)| is(name, known)).copied();
                once(&mut window, known.ok_or_else(|| Error::invalid("WINDOW", name, "say 1m, 5m or 1h"))?, word)?;
            } else if is(word, "JSON") {
                once(&mut format, Format::Json, word)?;
            } else if is(word, "PROMETHEUS") {
                once(&mut format, Format::Prometheus, word)?;
            } else {
                return Err(Error::syntax(word));
            }
        }
        Ok(Stats { rules, window, format })
    }
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let Stats { rules, window, format } = Stats::parse(args)?;
    let (now, over) = (cx.now, window.map(|(_, window)| window));
    let without = || (RuleId::NONE, NO_RULE.to_owned());
    let of_rules: Vec<(RuleId, String)> = match rules {
        None => Vec::new(),
        Some(Rules::One(name)) if name == NO_RULE.as_bytes() => vec![without()],
        Some(Rules::One(name)) => vec![known(&cx.state.policies, name)?],
        Some(Rules::All) => cx.state.policies.iter().map(identity).chain([without()]).collect(),
    };
    let by_rule = matches!(rules, Some(Rules::All));
    let mut sections: Vec<Section<'_>> = Vec::with_capacity(of_rules.len() + 1);
    for (id, name) in &of_rules {
        sections.push(Section { rule: Some(name), numbers: cx.state.snapshot(Scope::Rule(*id), over, now) });
    }
    let scraped = format == Some(Format::Prometheus);
    let of_node = of_rules.is_empty() || by_rule && scraped;
    if of_node {
        sections.push(Section { rule: None, numbers: cx.state.snapshot(Scope::Node, over, now) });
    }
    match format {
        Some(Format::Json) => cx.reply.bulk(report::json(&sections, by_rule).as_bytes()),
        Some(Format::Prometheus) => {
            let health = (of_node && window.is_none()).then(|| cx.state.health(cx.server, now));
            let window = window.map(|(name, _)| name);
            cx.reply.bulk(report::prometheus(&sections, window, health.as_ref()).as_bytes());
        }
        None => {
            if by_rule {
                cx.reply.map(sections.len());
            }
            for Section { rule, numbers } in &sections {
                if let Some(rule) = rule.filter(|_| by_rule) {
                    cx.reply.bulk(rule.as_bytes());
                }
                tell(cx.reply, numbers, rule.is_some());
            }
        }
    }
    Ok(())
}

fn identity(rule: &Rule) -> (RuleId, String) {
    (rule.id(), rule.name().to_owned())
}

/// The rule of that name, if there is one.
fn known(policies: &Policies, name: &[u8]) -> Result<(RuleId, String), Error> {
    policies.get(name).map(identity).ok_or_else(|| {
        Error::Refused(format!("there is no rule {}: SMARTCACHE.RULE LIST names those there are", units::quote(name)))
    })
}

/// Writes the numbers as a map.
fn tell(reply: &mut dyn Reply, numbers: &Snapshot, of_rule: bool) {
    reply.map(report::fields(of_rule).count());
    for field in report::fields(of_rule) {
        reply.bulk(field.name.as_bytes());
        match (field.read)(numbers) {
            Number::Whole(n) => reply.int(n as i64),
            Number::Fraction(x) => reply.double(x),
        }
    }
}

#[cfg(test)]
mod tests;
