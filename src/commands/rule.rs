//! `SMARTCACHE.RULE`: named policies for keys that match a pattern.

use super::args::{Args, Zero, is};
use super::spec::{Arg, Command, Flag, Keys, Kind, Run, Table};
use crate::cache::cluster::bus::PassOn;
use crate::cache::effects::Effect;
use crate::cache::error::{Error, Word};
use crate::cache::rules::{OptionValue, Origin, Rule, RuleError, RuleSpec};
use crate::cache::{Cx, Reply};

/// The container of the subcommands.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.RULE",
    summary: "A container for the commands about rules",
    since: "0.1.0",
    complexity: "Depends on the subcommand",
    arity: -2,
    flags: &[],
    keys: Keys::None,
    args: &[],
    details: "A rule is a named policy for the keys that match its patterns. The first match wins: higher PRIORITY first, then the older rule.",
    replies: "Depends on the subcommand.",
    run: None,
};

/// `RULE SET`
pub(super) const SET: Command = Command {
    name: "SMARTCACHE.RULE SET",
    summary: "Creates a rule, or replaces the rule of that name",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: -5,
    // No `DenyOom`: when memory is short, an operator may want a rule with shorter lifetimes.
    flags: &[Flag::Write, Flag::PassedOn],
    keys: Keys::None,
    args: &[
        Arg::new("name", Kind::Text),
        Arg::option("pattern", "MATCH", Kind::Pattern).required().repeated(),
        Arg::option("n", "PRIORITY", Kind::Integer),
        Arg::option("ttl", "TTL", Kind::Duration),
        Arg::option("factor", "SCALE", Kind::Double),
        Arg::option("min", "MIN", Kind::Duration),
        Arg::option("max", "MAX", Kind::Duration),
        Arg::option("fraction", "JITTER", Kind::Double),
        Arg::option("swr", "SWR", Kind::Duration),
        Arg::option("sie", "SIE", Kind::Duration),
        Arg::option("negative", "NEGATIVE", Kind::Duration),
        Arg::option("lock", "LOCK", Kind::Duration),
        Arg::option("beta", "BETA", Kind::Double),
        Arg::option("codec", "CODEC", Kind::Text),
        Arg::option("bytes", "MINSIZE", Kind::Integer),
        Arg::option("fills", "FILLS", Kind::Integer),
        Arg::option("template", "TAG", Kind::Text).repeated(),
        Arg::flag("native", "NATIVE"),
        Arg::option("wait", "WAIT", Kind::Duration),
        Arg::option("n", "CAP", Kind::Integer),
        Arg::flag("lowest", "LOWEST"),
        Arg::flag("sliding", "SLIDING"),
    ],
    details: "\
A lifetime is its base (the command's TTL, else the rule's, else smartcache.default-ttl) times SCALE, times a number drawn once from 1-JITTER to 1+JITTER, held inside MIN and MAX.
NATIVE has the server's own commands (GET, SET, INCR and so on) on matching keys served as entries: for clients that do not know of SmartCache a key stays the plain string that it was, under this rule. A rule that loses NATIVE is served until a sweep has turned its entries into plain strings.
These words are for NATIVE rules alone: WAIT lets a GET of a missing key that another connection is loading wait for it so long (default 0). CAP keeps that many elements, the highest of a sorted set or the last pushed to a list; with LOWEST the lowest of a sorted set. SLIDING starts the rule's TTL anew at each write in place.
TAG gives every matching entry a tag made from its key: {1} is what the first star of the pattern matched, {{ is a brace.
A name has 1 to 64 letters, digits and any of _ . : - and there are at most 1024 rules. A rule has 1 to 64 patterns of up to 1024 bytes and at most 64 templates. SCALE is more than 0 and at most 1000000, JITTER 0 to 1, BETA 0 to 1000000, FILLS 1 to 1000000, MINSIZE up to 2gb, PRIORITY any 64-bit integer (default 0).
Rules made by command are data: replicated, saved, and kept by FLUSHALL. Rules can also be configured, as JSON in smartcache.rules; a configured rule wins over a rule of the same name made by command.",
    replies: "OK",
    run: Some(Run::Plain(set)),
};

/// `RULE DEL`
pub(super) const DEL: Command = Command {
    name: "SMARTCACHE.RULE DEL",
    summary: "Deletes a rule made by command",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: 3,
    flags: &[Flag::Write, Flag::PassedOn],
    keys: Keys::None,
    args: &[Arg::new("name", Kind::Text)],
    details: "Entries stay as they are. Rules from the setting smartcache.rules cannot be deleted: change the setting.",
    replies: "1, or 0 when there is no such rule.",
    run: Some(Run::Plain(del)),
};

/// `RULE GET`
pub(super) const GET: Command = Command {
    name: "SMARTCACHE.RULE GET",
    summary: "Returns a rule",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: 3,
    flags: &[Flag::ReadOnly],
    keys: Keys::None,
    args: &[Arg::new("name", Kind::Text)],
    details: "Fields: name, source (command or config), match, and the options that were given, durations in milliseconds.",
    replies: "A map, or nil when there is no such rule.",
    run: Some(Run::Plain(get)),
};

/// `RULE LIST`
pub(super) const LIST: Command = Command {
    name: "SMARTCACHE.RULE LIST",
    summary: "Returns all rules in matching order",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: 2,
    flags: &[Flag::ReadOnly],
    keys: Keys::None,
    args: &[],
    details: "Each rule is as RULE GET returns it.",
    replies: "An array of maps.",
    run: Some(Run::Plain(list)),
};

/// `RULE EXPLAIN`
pub(super) const EXPLAIN: Command = Command {
    name: "SMARTCACHE.RULE EXPLAIN",
    summary: "Returns the policy of a key, and the rule it comes from",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: -3,
    flags: &[Flag::ReadOnly],
    keys: Keys::None,
    args: &[Arg::new("key", Kind::Text), Arg::option("ttl", "TTL", Kind::Duration)],
    details: "\
Fields: rule (nil: none), ttl_min_ms and ttl_max_ms (the range of jitter; nil: no end), swr_ms, sie_ms, negative_min_ms, negative_max_ms, lock_ms, beta, codec, minsize, fills (nil: unlimited), tags.
The key need not exist and is not read.",
    replies: "A map.",
    run: Some(Run::Plain(explain)),
};

/// `RULE HELP`
pub(super) const HELP: Command = Command {
    name: "SMARTCACHE.RULE HELP",
    summary: "Returns help for the commands about rules",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 2,
    flags: &[Flag::ReadOnly],
    keys: Keys::None,
    args: &[],
    details: "The same as SMARTCACHE.HELP RULE.",
    replies: "An array of lines.",
    run: Some(Run::WithTable(help)),
};

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Syntax { word, .. } => {
                let inner = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\''));
                Error::Syntax { word: Word::escaped(inner.unwrap_or(&word)), grammar: None }
            }
            other => Error::Refused(other.to_string()),
        }
    }
}

fn help<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>, table: Table) -> Result<(), Error> {
    args.finish()?;
    super::help::answer(cx, table, b"RULE", None)
}

fn set<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let name = args.word()?;
    let words = std::iter::from_fn(|| args.option());
    let spec = RuleSpec::parse(name, words)?;
    if spec.is_retired() && !cx.caller.trusted {
        return Err(Error::syntax(b"RETIRED"));
    }
    if !cx.caller.is_authorized() {
        spec.check_lock(cx.state.settings.lock_limit())?;
    }
    cx.state.policies.set(spec)?;
    cx.state.rules_were_set(|rule| rule.name().as_bytes() == name, cx.now);
    cx.effects.push(Effect::ReplicateVerbatim);
    cx.pass_on(PassOn::default());
    cx.reply.simple("OK");
    Ok(())
}

fn del<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let name = args.word()?;
    args.finish()?;
    let existed = cx.state.policies.del(name, cx.caller.is_authorized())?;
    if existed {
        cx.effects.push(Effect::ReplicateVerbatim);
    }
    cx.pass_on(PassOn::default()); // other primaries may have the rule even if this one has not
    cx.reply.int(existed.into());
    Ok(())
}

fn get<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let name = args.word()?;
    args.finish()?;
    match cx.state.policies.get(name) {
        Some(rule) => show(cx.reply, rule),
        None => cx.reply.nil(),
    }
    Ok(())
}

fn list<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    let rules = cx.state.policies.iter();
    cx.reply.array(rules.len());
    rules.for_each(|rule| show(cx.reply, rule));
    Ok(())
}

fn explain<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.word()?;
    let ttl = match args.option() {
        None => None,
        Some(word) if is(word, "TTL") => Some(args.duration("TTL", word, Zero::Refused)?),
        Some(word) => return Err(Error::syntax(word)),
    };
    args.finish()?;
    let explanation = cx.state.policies.explain(key, ttl);
    let (policy, reply) = (explanation.policy, &mut *cx.reply);
    let number = |reply: &mut dyn Reply, name: &str, n: Option<u64>| {
        reply.bulk(name.as_bytes());
        match n {
            Some(n) => reply.int(n as i64),
            None => reply.nil(),
        }
    };
    reply.map(13);
    reply.bulk(b"rule");
    match explanation.rule {
        Some(rule) => reply.bulk(rule.name().as_bytes()),
        None => reply.nil(),
    }
    number(reply, "ttl_min_ms", explanation.ttl_ms.map(|(least, _)| least));
    number(reply, "ttl_max_ms", explanation.ttl_ms.map(|(_, most)| most));
    number(reply, "swr_ms", Some(policy.swr_ms));
    number(reply, "sie_ms", Some(policy.sie_ms));
    number(reply, "negative_min_ms", Some(explanation.negative_ms.0));
    number(reply, "negative_max_ms", Some(explanation.negative_ms.1));
    number(reply, "lock_ms", Some(policy.lock_ms));
    reply.bulk(b"beta");
    reply.double(policy.beta);
    reply.bulk(b"codec");
    reply.bulk(policy.codec.name().as_bytes());
    number(reply, "minsize", Some(policy.min_size));
    number(reply, "fills", policy.fills.map(u64::from));
    reply.bulk(b"tags");
    reply.array(explanation.tags.len());
    explanation.tags.iter().for_each(|tag| reply.bulk(tag));
    Ok(())
}

/// Writes a rule as a map of the options that were given.
fn show(reply: &mut dyn Reply, rule: &Rule) {
    let options = rule.spec().options();
    reply.map(2 + options.len());
    reply.bulk(b"name");
    reply.bulk(rule.name().as_bytes());
    reply.bulk(b"source");
    reply.bulk(match rule.origin() {
        Origin::Commanded => b"command",
        Origin::Configured => b"config",
    });
    for (word, value) in options {
        reply.bulk(word.as_bytes());
        match value {
            OptionValue::Texts(texts) => {
                reply.array(texts.len());
                texts.iter().for_each(|text| reply.bulk(text));
            }
            OptionValue::Integer(n) => reply.int(n),
            OptionValue::Millis(n) | OptionValue::Bytes(n) => reply.int(n as i64),
            OptionValue::Number(x) => reply.double(x),
            OptionValue::Codec(codec) => reply.bulk(codec.name().as_bytes()),
            OptionValue::Flag => reply.int(1),
        }
    }
}

#[cfg(test)]
mod tests;
