//! `SMARTCACHE.INVALIDATE`: invalidates entries by tag, prefix or pattern, or a whole database.

use smallvec::SmallVec;

use super::args::{Args, Zero, is, once};
use super::options;
use super::spec::{Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::clock::Stamp;
use crate::cache::cluster::bus::PassOn;
use crate::cache::effects::Effect;
use crate::cache::error::{Error, Word};
use crate::cache::invalidation::mark::Hardness;
use crate::cache::invalidation::messages::{Invalidation, MarkMessage, encode};
use crate::cache::invalidation::selector::Selector;
use crate::cache::node::invalidate::TAG_KEY;
use crate::cache::units::Limit;
use crate::cache::{Cx, Right, Server};

/// The most names in one command.
const MAX_NAMES: u64 = 10_000;

/// The selector, for this command and `SMARTCACHE.PREVIEW`.
pub(super) const SELECTOR: Arg = Arg::one_of(
    "selector",
    &[
        Arg {
            token: Some("TAGS"),
            ..Arg::block("tags", &[Arg::new("numtags", Kind::Integer), Arg::new("tag", Kind::Text).repeated()])
        },
        Arg {
            token: Some("PREFIXES"),
            ..Arg::block(
                "prefixes",
                &[Arg::new("numprefixes", Kind::Integer), Arg::new("prefix", Kind::Text).repeated()],
            )
        },
        Arg {
            token: Some("PATTERNS"),
            ..Arg::block(
                "patterns",
                &[Arg::new("numpatterns", Kind::Integer), Arg::new("pattern", Kind::Pattern).repeated()],
            )
        },
        Arg::flag("all", "ALL").required(),
    ],
)
.required();

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.INVALIDATE",
    summary: "Invalidates entries by tag, prefix or pattern, or a whole database",
    since: "0.1.0",
    complexity: "O(n) for n names, however many entries they select; memory is freed in the background",
    arity: -2,
    flags: &[Flag::Write, Flag::Blocking, Flag::AllShards, Flag::PassedOn],
    keys: Keys::None,
    args: &[
        SELECTOR,
        Arg::flag("soft", "SOFT"),
        Arg::option("over", "OVER", Kind::Duration),
        Arg::option("guard", "GUARD", Kind::Duration),
        Arg::option("wait", "WAIT", Kind::Duration),
    ],
    details: "\
From the moment it runs, no selected entry is fresh for anybody, and no load that began before is trusted: its fill replies STALE, even when only the fill names the tag. It acts on the selected database.
Without SOFT the entries are dead at once. With SOFT they are stale and served within their windows, which count from now. Neither undoes the other. OVER, with SOFT, spreads the invalidation over that time (at most smartcache.max-over): each key stays fresh until its own offset, so that the origin sees a ramp of loads and not a peak.
GUARD also distrusts loads that begin within that time after it, for origins that are read through lagging replicas (default: smartcache.guard; at most smartcache.max-guard). GUARD 0 takes back guards that stand for the same selector, for prefixes that begin with a named one, and with ALL for everything in the database; so does a flush. A SET without TOKEN or SINCE counts as loaded now and is stored all the same.
PREFIXES are literal, PATTERNS are globs as in KEYS. WAIT makes the caller wait until the sweep has freed the selected entries, but no longer than that time; MULTI, scripts and functions never wait.
Plain strings carry no stamp and are not invalidated. Memory is freed in the background, with a keyspace event del and a tracking message for each key. Clients that track with BCAST are notified of smartcache:tag:TAG at once.
TAGS needs write permission on the pseudo-key smartcache:tag:TAG for each tag, PREFIXES on all keys with that prefix where the server can check that. PATTERNS, ALL, and PREFIXES on other servers need it on all keys. Without it the reply is NOPERM.",
    replies: "The number of entries invalidated. For TAGS and ALL it is known at once: an entry counts once for each tag named, and not at all if it was invalidated before. (For a tag with more than 1,000 members, an entry that another tag or a pattern has invalidated counts until its memory is freed, and an entry that RENAME or MOVE brought is invalidated but counts only after a walk over all keys has found it.) For PREFIXES and PATTERNS it is 0, or with WAIT the number that the sweep has found.",
    run: Some(Run::Plain(run)),
};

/// `INVALIDATE selector [SOFT] [OVER d] [GUARD d] [WAIT d]`
struct Invalidate<'w> {
    selector: Selector<'w>,
    hardness: Hardness,
    guard_ms: Option<u64>,
    wait_ms: Option<u64>,
    pass_on: PassOn,
}

impl<'w> Invalidate<'w> {
    fn parse(args: &mut Args<'w>, [guard_limit, over_limit]: [Limit; 2]) -> Result<Self, Error> {
        let (mut selector, mut soft, mut over, mut guard, mut wait) = (None, None, None, None, None);
        let mut over_word: &[u8] = b"OVER";
        let mut pass_on = PassOn::default();
        while let Some(word) = args.option() {
            let after = args.position();
            if let Some(parsed) = parse_selector(args, word)? {
                once(&mut selector, parsed, word)?;
                if args.position() > after {
                    pass_on.counted = after + 1..args.position();
                }
            } else if is(word, "SOFT") {
                once(&mut soft, (), word)?;
            } else if is(word, "OVER") {
                once(&mut over, args.duration_within("OVER", word, Zero::Allowed, over_limit)?, word)?;
                over_word = word;
            } else if is(word, "GUARD") {
                once(&mut guard, args.duration_within("GUARD", word, Zero::Allowed, guard_limit)?, word)?;
            } else if is(word, "WAIT") {
                once(&mut wait, args.duration("WAIT", word, Zero::Allowed)?, word)?;
                pass_on.without = after - 1..args.position(); // only this node's caller waits
            } else {
                return Err(Error::syntax(word));
            }
        }
        let hardness = match (soft, over) {
            (None, None) => Hardness::Hard,
            (None, Some(_)) => return Err(Error::syntax(over_word)),
            (Some(()), over) => Hardness::Soft { over_ms: over.unwrap_or(0) },
        };
        let missing = || Error::Refused("syntax error: say what: TAGS, PREFIXES, PATTERNS or ALL".into());
        let selector = selector.ok_or_else(missing)?;
        Ok(Invalidate { selector, hardness, guard_ms: guard, wait_ms: wait, pass_on })
    }
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let settings = &cx.state.settings;
    let limits = match cx.caller.is_authorized() {
        true => [Limit::NONE; 2], // bounded, but obeyed
        false => [settings.guard_limit(), settings.over_limit()],
    };
    let Invalidate { selector, hardness, guard_ms, wait_ms, pass_on } = Invalidate::parse(args, limits)?;
    cx.check_passed_on(&pass_on)?;
    if !cx.caller.is_authorized() {
        check_permission(cx.server, Right::Write, &selector)?;
    }
    let takes_back = guard_ms == Some(0);
    let guard_ms = guard_ms.unwrap_or(cx.state.settings.guard_ms());
    let mut invalidation = Invalidation { selector, stamp: Stamp::default(), at_ms: cx.now.ms(), hardness, guard_ms };
    invalidation.bound_guard(&cx.state.settings);
    invalidation.bound_ramp(&cx.state.settings);
    let folds = match cx.caller.is_authorized() {
        true => Vec::new(),
        false => invalidation.make_room(cx, |prefix| may_invalidate(cx, prefix))?,
    };
    invalidation.stamp = cx.state.clock.stamp(cx.now);
    if takes_back && cx.state.take_back_guards(cx.caller.db, &invalidation.selector) {
        let (selector, stamp) = (invalidation.selector.clone(), invalidation.stamp);
        cx.effects.push(Effect::ReplicateMark(encode(&MarkMessage::TakeBackGuards { selector, stamp })));
    }
    let done = invalidation.clone().run_folded(cx, &folds);
    cx.pass_on(pass_on);
    let mut tally = cx.state.stats.at(cx.now);
    let count = tally.node();
    count.invalidations += 1;
    count.entries_invalidated += done.hits;
    match wait_ms {
        Some(wait_ms) if wait_ms > 0 && !done.walks.is_empty() && cx.server.may_wait() => {
            let known = matches!(invalidation.selector, Selector::Tags(_) | Selector::All).then_some(done.hits);
            let scope = cx.state.scope(&invalidation.selector);
            let until_ms = cx.now.mono_ms().saturating_add(wait_ms);
            let id = cx.state.sweep.wait(cx.caller.db, scope, done.walks, until_ms, known, invalidation.stamp);
            cx.effects.push(Effect::Wait(id));
        }
        _ => cx.reply.int(done.hits as i64),
    }
    Ok(())
}

/// The selector that begins with `word`; `None` when `word` begins none.
pub(super) fn parse_selector<'w>(args: &mut Args<'w>, word: &[u8]) -> Result<Option<Selector<'w>>, Error> {
    Ok(Some(if is(word, "TAGS") {
        let tags = names(args, "TAGS", word)?;
        tags.iter().try_for_each(|tag| options::check_tag(tag))?;
        Selector::Tags(tags)
    } else if is(word, "PREFIXES") {
        let prefixes = names(args, "PREFIXES", word)?;
        if prefixes.iter().any(|prefix| prefix.is_empty()) {
            return Err(Error::invalid("prefix", b"", "the empty prefix matches every key: use ALL"));
        }
        Selector::Prefixes(prefixes)
    } else if is(word, "PATTERNS") {
        Selector::Patterns(names(args, "PATTERNS", word)?)
    } else if is(word, "ALL") {
        Selector::All
    } else {
        return Ok(None);
    }))
}

/// `NOPERM` unless the user has this right on all that the selector names.
pub(super) fn check_permission(server: &dyn Server, right: Right, selector: &Selector<'_>) -> Result<(), Error> {
    let all = || match server.may_all(right) {
        true => None,
        false => Some(format!("{right} permission on all keys")),
    };
    let lacking = match selector {
        Selector::All | Selector::Patterns(_) => all(),
        Selector::Prefixes(prefixes) => {
            let lacks = |prefix: &&&[u8]| server.may_prefix(right, prefix) == Some(false);
            if prefixes.first().is_some_and(|prefix| server.may_prefix(right, prefix).is_none()) {
                all()
            } else {
                let lacking = prefixes.iter().find(lacks);
                lacking
                    .map(|prefix| format!("{right} permission on all keys that begin with {}", Word::from(&prefix[..])))
            }
        }
        Selector::Tags(tags) => server
            .first_denied(right, &mut tags.iter().map(|tag| [TAG_KEY, tag].concat()))
            .map(|key| format!("{right} permission on the key {}", Word::from(&key[..]))),
    };
    lacking.map_or(Ok(()), |what| Err(Error::NoPermission(what)))
}

/// Whether the user may write every key with the prefix, as far as the server can tell.
fn may_invalidate(cx: &Cx<'_, '_>, prefix: &[u8]) -> bool {
    let all = || cx.server.may_all(Right::Write);
    if prefix.is_empty() { all() } else { cx.server.may_prefix(Right::Write, prefix).unwrap_or_else(all) }
}

/// Whether the user of a caller that has waited, for the sweep or a preview, still has the right to what its command
/// (`words`) names. The server checks the command itself.
#[cfg(feature = "server")]
pub(crate) fn check_waiter(server: &dyn Server, words: &[&[u8]]) -> Result<(), Error> {
    let is_preview = words.first().is_some_and(|name| name.eq_ignore_ascii_case(b"SMARTCACHE.PREVIEW"));
    let mut args = Args::new(COMMAND.name, words, 1);
    while let Some(word) = args.option() {
        if let Some(selector) = parse_selector(&mut args, word)? {
            return check_permission(server, if is_preview { Right::Read } else { Right::Write }, &selector);
        }
    }
    Ok(())
}

/// The names, without duplicates.
fn names<'w>(args: &mut Args<'w>, what: &'static str, word: &[u8]) -> Result<SmallVec<[&'w [u8]; 8]>, Error> {
    let mut names: SmallVec<[&[u8]; 8]> = SmallVec::new();
    let mut named = std::collections::HashSet::new();
    for name in args.counted(what, word, MAX_NAMES)? {
        if named.insert(name) {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
