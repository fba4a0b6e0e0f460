//! `SMARTCACHE.EFFECTS`: how several changes of one command reach replicas and come back from an AOF. Internal.

use super::args::{Args, is};
use super::spec::{Arg, Command, Flag, Keys, Kind, Run};
use super::{mark, rule, store};
use crate::cache::effects::{Effect, Event};
use crate::cache::error::Error;
use crate::cache::outbox::GONE;
use crate::cache::ports::Unanswered;
use crate::cache::{Cx, units};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.EFFECTS",
    summary: "Applies several changes of another node (internal)",
    since: "0.1.0",
    complexity: "O(n) for n changes",
    arity: -3,
    flags: &[Flag::Write, Flag::Internal],
    keys: Keys::None,
    args: &[Arg::block("change", &[Arg::new("count", Kind::Integer), Arg::new("word", Kind::Text).repeated()]).repeated()],
    details: "\
SmartCache writes it into the replication stream and the AOF; each change is the number of its words and these: STORE, MARK or RULE with what follows the name of that command, or GONE with the keys that are gone.
Refused from clients.",
    replies: "OK",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut changes = Vec::new();
    while args.left() > 0 {
        changes.push(change(args)?);
    }
    if !cx.caller.trusted {
        return Err(Error::Refused("SMARTCACHE.EFFECTS is for replicas and AOF".into()));
    }
    let mut refused = None;
    for (change, words) in changes {
        // One that cannot be applied does not hold up the others.
        if let Err(why) = apply(cx, change, words) {
            refused.get_or_insert(why);
        }
    }
    if let Some(why) = refused {
        if cx.effects.is_empty() {
            return Err(why);
        }
        cx.state.stats.at(cx.now).node().errors += 1;
    }
    if !cx.caller.importing {
        cx.effects.replicate_verbatim();
    }
    cx.reply.simple("OK");
    Ok(())
}

enum Change {
    Command(&'static Command),
    Gone,
}

/// The next change, and its words behind the first.
fn change<'w>(args: &mut Args<'w>) -> Result<(Change, Args<'w>), Error> {
    let count = args.word()?;
    let words = units::parse_int(count).ok().and_then(|n| usize::try_from(n).ok()).filter(|n| *n >= 2);
    let mut words = words.and_then(|n| args.part(n)).ok_or_else(|| Error::syntax(count))?;
    let name = words.word()?;
    let change = if is(name, GONE) {
        Change::Gone
    } else if is(name, "STORE") {
        Change::Command(&store::COMMAND)
    } else if is(name, "MARK") {
        Change::Command(&mark::COMMAND)
    } else if is(name, "RULE") {
        let sub = words.word()?;
        let of_rules = [&rule::SET, &rule::DEL];
        let named = |command: &&&Command| command.parent().is_some_and(|(_, name)| is(sub, name));
        Change::Command(of_rules.iter().find(named).ok_or_else(|| Error::syntax(sub))?)
    } else {
        return Err(Error::syntax(name));
    };
    if let Change::Command(command) = change
        && !command.accepts(command.name_words() + words.left())
    {
        return Err(Error::Arity(command.name));
    }
    Ok((change, words))
}

fn apply<'w>(cx: &mut Cx<'_, 'w>, change: Change, mut words: Args<'w>) -> Result<(), Error> {
    match change {
        Change::Command(command) => {
            let mut cx = Cx {
                now: cx.now,
                caller: cx.caller,
                state: cx.state,
                keys: cx.keys,
                reply: &mut Unanswered,
                server: cx.server,
                effects: cx.effects,
            };
            command.run.map_or(Ok(()), |run| run.call(&mut cx, &mut words, &[]))
        }
        Change::Gone => {
            while words.left() > 0 {
                let key = words.key()?;
                if cx.keys.remove(key) {
                    cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn what_one_command_changes_is_one_command_to_replicas_whose_replicas_get_the_same() {
        let mut primary = TestNode::at(1_000_000);
        let mut replica = TestNode::replica_at(1_000_000);
        for line in [
            "MSET 3 a 1 b 2 c 3 SWR 60 TAGS 1 t",
            "STALE a b",
            "DEL a b nothing",
            "MSET 2 a 1 b 2",
            "RULE SET r MATCH *",
            "INVALIDATE TAGS 2 t u",
            "MSET 2 a 1 c 3 PXAT 5",
        ] {
            primary.call(line);
            assert_eq!(primary.replicated.len(), 1, "{line}: {:?}", primary.replicated);
            let sent = primary.replicated.clone();
            let sent: Vec<_> = sent[0].iter().map(Vec::as_slice).collect();
            replica.obey(&sent);
            if sent[0] != b"UNLINK" {
                assert_eq!(replica.replicated, primary.replicated, "{line}");
            }
            for key in [&b"a"[..], b"b", b"c"] {
                assert_eq!(primary.written(key), replica.written(key), "{line}");
            }
        }
        assert!(replica.call("RULE GET r").contains("\"*\""));
    }

    #[test]
    fn a_turn_of_the_sweep_is_one_command() {
        let mut primary = TestNode::at(1_000_000);
        let mut replica = TestNode::replica_at(1_000_000);
        for line in [
            "MSET 2 a:1 1 a:2 2",
            "MSET 2 b:1 1 b:2 2 SWR 60",
            "INVALIDATE PREFIXES 1 a",
            "INVALIDATE PREFIXES 1 b SOFT",
        ] {
            primary.call(line);
            replica.obey(&primary.replicated[0].iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        primary.sweep();
        assert_eq!(primary.replicated.len(), 1);
        replica.obey(&primary.replicated[0].iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(replica.dbsize(), 2);
        assert_eq!(primary.written(b"b:1"), replica.written(b"b:1"));
    }

    #[test]
    fn words_that_are_wrong_change_nothing_and_clients_are_refused() {
        let mut node = TestNode::at(1_000_000);
        node.call("SET k v");
        for (line, error) in [
            ("2 GONE k 3 STORE k", "ERR syntax error near '3'"),
            ("2 GONE k 0", "ERR syntax error near '0'"),
            ("2 GONE k 1 GONE", "ERR syntax error near '1'"),
            ("2 GONE k 2 FLUSH ALL", "ERR syntax error near 'FLUSH'"),
            ("2 GONE k 3 RULE LIST x", "ERR syntax error near 'LIST'"),
            ("2 GONE k 2 STORE k", "ERR wrong number of arguments for 'smartcache.store' command"),
            ("2 STORE k", "ERR wrong number of arguments for 'smartcache.store' command"),
        ] {
            let line = format!("SMARTCACHE.EFFECTS {line}");
            assert!(node.refusal(&line).starts_with(error), "{line}");
            assert!(node.obey(&words(&line)).starts_with(&format!("(error) {error}")), "{line}");
            assert_eq!(node.call("GET k"), "\"v\"");
        }
        assert_eq!(node.refusal("EFFECTS 2 GONE k"), "ERR SMARTCACHE.EFFECTS is for replicas and AOF");
    }

    #[test]
    fn a_change_that_cannot_be_applied_does_not_hold_up_the_others() {
        let mut node = TestNode::at(1_000_000);
        node.call("SET k v");
        assert_eq!(node.obey(&words("SMARTCACHE.EFFECTS 4 STORE x header y 2 GONE k")), "OK");
        assert_eq!((node.call("GET k"), node.stat("errors")), ("(nil)".into(), "1".into()));
        assert!(node.obey(&words("SMARTCACHE.EFFECTS 4 STORE x header y")).starts_with("(error) ERR not an entry"));
    }
}
