//! `SMARTCACHE.TOUCH`: restarts a lifetime.

use super::args::Args;
use super::options::{self, LIFETIME, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::effects::{Effect, Event};
use crate::cache::error::Error;
use crate::cache::invalidation::mark::Verdict;
use crate::cache::lease::tombstones::TombstoneKind;
use crate::cache::{Cx, Judge, Slot};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.TOUCH",
    summary: "Restarts the lifetime of a fresh entry",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::One(Access::Update),
    args: &[Arg::key(), LIFETIME],
    details: "\
For sliding expiry. The lifetime is computed as SET would compute it now, or ABSENT for an absent entry. Windows and tags stay.
The entry does not become younger: what is invalidated stays invalidated. Entries that are not fresh, and plain strings, are left alone.",
    replies: "1, or 0 when there is no fresh entry. For a key of another type: WRONGTYPE.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let options = options::parse(args, Takes::Lifetime)?;
    let absent = match cx.keys.peek(key) {
        Slot::Other => return Err(Error::WrongType),
        Slot::Entry(entry) if Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now).is_fresh(entry) => {
            entry.absent()
        }
        Slot::Entry(_) | Slot::Text(_) | Slot::Empty => {
            cx.reply.int(0);
            return Ok(());
        }
    };
    let random = cx.state.random.unit();
    let policy = cx.state.policies.policy(cx.state.policies.find(key.name));
    let fresh_until = if absent {
        policy.absent_deadline(options.lifetime, cx.now.ms(), random)
    } else {
        policy.deadline(options.lifetime, cx.now.ms(), random)
    };
    // Inside a ramp (`OVER`) freshness still ends at the key's offset.
    let end = |entry| match cx.state.invalidations.verdict(cx.caller.db, key.name, entry, cx.now) {
        Verdict::Later(at) => Some(fresh_until.map_or(at, |end| end.min(at))),
        _ => fresh_until,
    };
    let fresh_until = if let Slot::Entry(entry) = cx.keys.peek(key) { end(entry) } else { fresh_until };
    if fresh_until.is_some_and(|at| at <= cx.now.ms()) {
        cx.keys.remove(key);
        cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
        cx.node().void_loads(key, TombstoneKind::Deleted);
    } else if let Some(mut entry) = cx.keys.edit(key) {
        entry.set_fresh_until(fresh_until);
        let gone_at = entry.as_ref().gone_at();
        cx.keys.set_expire_at(key, gone_at);
        cx.effects.changed(key, Effect::ReplicateHeader(key), Event::Expire);
    }
    cx.reply.int(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> TestNode {
        let mut node = TestNode::at(1_000_000);
        node.call("SET k v EX 10 SWR 5 TAGS 1 t");
        node.advance(4_000);
        node
    }

    #[test]
    fn a_lifetime_restarts_and_is_replicated_signalled_and_notified() {
        let mut node = node();
        assert_eq!(node.call("SMARTCACHE.TOUCH k EX 10"), "1");
        assert_eq!(node.effects, ["replicate header k", "signal k", "notify expire k"]);
        assert_eq!((node.replicated.len(), node.replicated[0].len()), (1, 3), "the header alone, without the value");
        assert_eq!((node.inspect("k", "fresh_ms"), node.expire_at("k")), ("10000".into(), Some(1_019_000)));
        assert_eq!((node.inspect("k", "swr_ms"), node.inspect("k", "tags")), ("5000".into(), "[\"t\"]".into()));
    }

    #[test]
    fn the_entry_becomes_no_younger() {
        let mut node = node();
        let (stamp, _) = node.written(b"k").unwrap();
        node.call("SMARTCACHE.TOUCH k");
        let (touched, _) = node.written(b"k").unwrap();
        assert_eq!(stamp[5..13], touched[5..13], "the stamp");
        assert_eq!(node.inspect("k", "age_ms"), "4000");
        assert_eq!(node.stat("sets"), "1");
    }

    #[test]
    fn lifetimes_are_computed_as_by_set_and_absent() {
        let mut node = node();
        node.call("SET r v");
        node.call("ABSENT n");
        node.call("RULE SET rule MATCH r MATCH n TTL 20 SCALE 2 MAX 100 NEGATIVE 7");
        for (line, ms) in [
            ("TOUCH k", "3600000"),
            ("TOUCH k TTL 5", "5000"),
            ("TOUCH k PX 5", "5"),
            ("TOUCH k EXAT 1010", "6000"),
            ("TOUCH k PXAT 1004001", "1"),
            ("TOUCH k PERSIST", "-1"),
            ("TOUCH r", "40000"),
            ("TOUCH r TTL 5", "10000"),
            ("TOUCH r EX 5", "5000"),
            ("TOUCH r PERSIST", "100000"),
            ("TOUCH n", "7000"),
            ("TOUCH n TTL 9", "9000"),
            ("TOUCH n PERSIST", "-1"),
        ] {
            assert_eq!(node.call(line), "1", "{line}");
            assert_eq!(node.inspect(line.split(' ').nth(1).unwrap(), "fresh_ms"), ms, "{line}");
        }
        assert_eq!(node.expire_at("n"), None);
    }

    #[test]
    fn an_entry_that_is_not_fresh_stays_as_it_is() {
        let mut node = node();
        node.call("SET stale v SWR 60");
        node.call("STALE stale");
        node.call("SET dead v EX 1");
        node.pexpireat("dead", 9_000_000);
        node.call("ABSENT over EX 1");
        node.pexpireat("over", 9_000_000);
        node.plain_set("text", "t", Some(2_000_000));
        node.advance(6_000);
        let before = node.picture();
        for key in ["k", "stale", "dead", "over", "text", "nothing"] {
            assert_eq!(node.call(&format!("SMARTCACHE.TOUCH {key} EX 100")), "0", "{key}");
            assert!(node.effects.is_empty());
        }
        assert_eq!(node.picture(), before);
    }

    #[test]
    fn a_lifetime_that_ends_in_the_past_deletes_the_key() {
        let mut node = node();
        assert_eq!(node.call("SMARTCACHE.TOUCH k EXAT 1004"), "1");
        assert_eq!(node.effects, ["replicate unlink k", "signal k", "notify del k"]);
        assert_eq!(node.dbsize(), 0);
    }

    #[test]
    fn a_clock_that_steps_back_shortens_what_is_touched() {
        let mut node = node();
        node.set_clock(900_000);
        assert_eq!(node.call("SMARTCACHE.TOUCH k EX 10"), "1");
        assert_eq!((node.inspect("k", "fresh_ms"), node.expire_at("k")), ("10000".into(), Some(915_000)));
    }

    #[test]
    fn an_error_names_the_word_and_changes_nothing() {
        let mut node = node();
        node.plain_list("list");
        for (line, error) in [
            ("TOUCH list", "WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("TOUCH k NX", "ERR syntax error near 'NX'"),
            ("TOUCH k TAGS 1 t", "ERR syntax error near 'TAGS'"),
            ("TOUCH k SWR 5", "ERR syntax error near 'SWR'"),
            ("TOUCH k EX", "ERR syntax error near 'EX'"),
            ("TOUCH k EX 5 EX 5", "ERR syntax error near 'EX'"),
            ("TOUCH k TTL 0", "ERR invalid TTL '0': must be more than 0"),
            ("TOUCH k PX 1.5", "ERR invalid PX '1.5': a whole number from 1 to 9223372036854775807 is wanted"),
            ("TOUCH", "ERR wrong number of arguments for 'smartcache.touch' command"),
        ] {
            assert_eq!(node.refusal(line), error);
        }
    }

    #[test]
    fn a_lifetime_that_ends_in_the_past_distrusts_loads_as_del_does() {
        let mut node = node();
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        node.call("TOUCH k EXAT 1004");
        assert_eq!(node.call(&format!("SET k v SWR 60 SINCE {stamp}")), r#""STALE""#);
        assert_eq!(node.dbsize(), 0);
    }

    #[test]
    fn it_makes_no_entry_newer_than_a_load_in_flight() {
        let mut node = node();
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        node.call("TOUCH k EX 60");
        assert_eq!(node.call(&format!("SET k loaded SINCE {stamp}")), "OK");
        assert_eq!(node.call("GET k"), "\"loaded\"");
    }
}
