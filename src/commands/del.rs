//! `SMARTCACHE.DEL`: deletes entries.

use super::args::{self, Args};
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::Freshness;
use crate::cache::error::Error;
use crate::cache::lease::tombstones::TombstoneKind;
use crate::cache::{Cx, Judge, Slot};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.DEL",
    summary: "Deletes entries",
    since: "0.1.0",
    complexity: "O(k) for k keys; large values are freed in the background",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::All(Access::Delete),
    args: &[Arg::key().repeated()],
    details: "\
Deletes entries and plain strings. When one of the keys holds another type, the reply is WRONGTYPE and nothing is deleted.
Dead entries are deleted too, but not counted.
Loads of these keys that began before are no longer trusted, whether or not the keys exist: their fills reply STALE. The lease of such a load ends, and the first waiter gets a new one. A back-off ends.",
    replies: "The number of keys that held a fresh, stale or absent entry or a plain string.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut count = 0;
    for key in args::checked_keys(cx, args)? {
        count += i64::from(match cx.keys.peek(key) {
            Slot::Entry(entry) => {
                Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now).freshness(entry) != Freshness::Dead
            }
            Slot::Text(_) => true,
            Slot::Empty | Slot::Other => false, // also the second time of a key named twice
        });
        if cx.keys.remove(key) {
            cx.effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
        }
        cx.node().void_loads(key, TombstoneKind::Deleted);
    }
    cx.reply.int(count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> TestNode {
        let mut node = TestNode::at(1_000_000);
        node.call("SET fresh v TAGS 1 t");
        node.call("SET stale v EX 5 SWR 60");
        node.call("SET dead v EX 5");
        node.pexpireat("dead", 9_000_000);
        node.call("ABSENT none");
        node.plain_set("text", "t", None);
        node.advance(5_000);
        node
    }

    #[test]
    fn fresh_stale_and_absent_entries_and_plain_strings_count() {
        for (key, count) in
            [("fresh", "1"), ("stale", "1"), ("none", "1"), ("text", "1"), ("dead", "0"), ("nothing", "0")]
        {
            let mut node = node();
            assert_eq!(node.call(&format!("SMARTCACHE.DEL {key}")), count, "{key}");
            if key == "nothing" {
                assert!(node.effects.is_empty());
            } else {
                let effects = [format!("replicate unlink {key}"), format!("signal {key}"), format!("notify del {key}")];
                assert_eq!(node.effects, effects);
                assert_eq!(node.replicated, [[b"UNLINK".to_vec(), key.into()]]);
            }
            assert_eq!(node.inspect(key, "kind"), "");
        }
    }

    #[test]
    fn many_keys_are_deleted_at_once_and_one_named_twice_counts_once() {
        let mut node = node();
        assert_eq!(node.call("SMARTCACHE.DEL fresh dead fresh stale nothing none text"), "4");
        assert_eq!(node.effects.len(), 15);
        assert_eq!((node.dbsize(), node.stat("entries"), node.stat("raw_bytes")), (0, "0".into(), "0".into()));
    }

    #[test]
    fn a_tag_without_entries_is_dropped() {
        let mut node = node();
        node.state.tags.reap(9, |_, _| true);
        assert_eq!(node.state.tags.len(), 1);
        node.call("SMARTCACHE.DEL fresh");
        node.state.tags.reap(9, |_, _| true);
        assert!(node.state.tags.is_empty());
    }

    #[test]
    fn with_a_key_of_another_type_nothing_is_deleted() {
        let mut node = node();
        node.plain_list("list");
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        for line in ["DEL list", "DEL fresh list", "DEL fresh stale none text list nothing"] {
            assert_eq!(node.refusal(line), wrong);
        }
        assert_eq!(node.refusal("DEL"), "ERR wrong number of arguments for 'smartcache.del' command");
    }

    #[test]
    fn the_lease_of_a_distrusted_load_goes_to_the_first_waiter() {
        for line in ["SMARTCACHE.DEL k", "DEL other k k"] {
            let mut node = node();
            let token = node.token("GETLOCK k");
            for client in 2..4 {
                assert_eq!(node.getlock(client, "k WAIT 9"), "(waiting)");
            }
            node.call(line);
            assert_eq!(node.late()[0], (2, r#"["MISS", (nil), "T", 0, 10000]"#.into()), "{line}");
            assert_eq!(node.call(&format!("SET k v SWR 60 TOKEN {token}")), r#""STALE""#);
            assert_eq!((node.call("GET k STALE"), node.inspect("k", "lease")), ("(nil)".into(), "\"held\"".into()));
        }
    }

    #[test]
    fn loads_of_a_missing_key_are_distrusted_too_with_a_late_token_or_a_stamp() {
        let mut node = node();
        let late = node.token("GETLOCK k LOCK 1");
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        node.advance(1_000);
        assert_eq!(node.call("SMARTCACHE.DEL k"), "0");
        for provenance in [format!("TOKEN {late}"), format!("SINCE {stamp}")] {
            assert_eq!(node.call(&format!("SET k v SWR 60 {provenance}")), r#""STALE""#);
        }
        let token = node.token("GETLOCK k");
        assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK", "a load that begins later is trusted");
        assert_eq!(node.call(&format!("SET other v SINCE {stamp}")), "OK", "other keys are not affected");
    }

    #[test]
    fn an_early_refresh_is_distrusted_like_any_other_load() {
        let mut node = node();
        let token = node.token("GETLOCK k");
        node.advance(1_000);
        node.call(&format!("SET k v EX 1 TOKEN {token}"));
        node.advance(999);
        let early = node.token("GETLOCK k BETA 1000000");
        node.call("SMARTCACHE.DEL k");
        assert_eq!(node.call(&format!("SET k w TOKEN {early}")), r#""STALE""#);
        assert_eq!((node.call("GET k STALE"), node.stat("leases_voided")), ("(nil)".into(), "1".into()));
    }

    #[test]
    fn a_refused_del_distrusts_nothing() {
        let mut node = node();
        let token = node.token("GETLOCK k");
        node.plain_list("list");
        node.refusal("DEL k list");
        assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK");
    }
}
