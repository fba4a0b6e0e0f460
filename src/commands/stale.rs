//! `SMARTCACHE.STALE`: makes entries stale, and keeps their windows.

use super::args::{self, Args};
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::effects::{Effect, Event};
use crate::cache::entry::EntryMut;
use crate::cache::error::Error;
use crate::cache::lease::tombstones::TombstoneKind;
use crate::cache::{Cx, Judge};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.STALE",
    summary: "Makes entries stale, and keeps their windows",
    since: "0.1.0",
    complexity: "O(k) for k keys",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::All(Access::Update),
    args: &[Arg::key().repeated()],
    details: "\
From now on the entries are served only inside SWR and SIE, which count from now. An entry without windows, or an absent one, is a miss.
Loads of these keys that began before are no longer trusted, whether or not the keys exist: their fills reply STALE and are kept as stale copies. The lease of such a load ends, and the first waiter gets a new one.
Plain strings are left alone. When one of the keys holds another type, the reply is WRONGTYPE and nothing is changed.",
    replies: "The number of entries that were fresh.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut were_fresh = 0;
    for key in args::checked_keys(cx, args)? {
        let now = cx.now;
        let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, now);
        let fresh = |entry: &EntryMut<'_>| judge.is_fresh(entry.as_ref());
        if let Some(mut entry) = cx.keys.edit(key).filter(fresh) {
            entry.make_stale(now);
            were_fresh += 1;
            cx.effects.changed(key, Effect::ReplicateHeader(key), Event::Stale);
        }
        cx.node().void_loads(key, TombstoneKind::Staled);
    }
    cx.reply.int(were_fresh);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> TestNode {
        let mut node = TestNode::at(1_000_000);
        node.call("SET k v EX 100 SWR 5 SIE 8 TAGS 1 t");
        node.advance(1_000);
        node
    }

    #[test]
    fn freshness_ends_and_the_windows_count_from_now() {
        let mut node = node();
        assert_eq!(node.call("SMARTCACHE.STALE k"), "1");
        assert_eq!(node.effects, ["replicate header k", "signal k", "notify smartcache.stale k"]);
        assert_eq!((node.replicated.len(), node.replicated[0].len()), (1, 3), "the header alone, without the value");
        assert_eq!(node.call("GET k"), "(nil)");
        node.advance(7_999);
        assert_eq!(node.call("GET k STALE STATE"), r#"["STALE", "v", (nil), 0, 0]"#);
        node.advance(1);
        assert_eq!(node.call("GET k STALE"), "(nil)");
        assert_eq!(node.expire_at("k"), Some(1_108_000), "an upper bound");
        assert_eq!((node.inspect("k", "state"), node.inspect("k", "tags")), ("\"dead\"".into(), "[\"t\"]".into()));
    }

    #[test]
    fn a_second_time_it_counts_nothing_and_moves_no_window() {
        let mut node = node();
        node.call("SMARTCACHE.STALE k");
        node.advance(5_000);
        let before = node.picture();
        assert_eq!(node.call("SMARTCACHE.STALE k k"), "0");
        assert!(node.effects.is_empty());
        assert_eq!(node.picture(), before);
    }

    #[test]
    fn an_entry_that_is_stale_already_stays_as_it_is() {
        let mut node = node();
        node.advance(100_000);
        assert_eq!(node.inspect("k", "state"), "\"stale\"");
        assert_eq!(node.call("SMARTCACHE.STALE k"), "0");
        node.set_clock(1_001_000);
        assert_eq!(node.call("GET k"), "\"v\"", "it was not made stale, so the clock decides");
    }

    #[test]
    fn a_clock_that_steps_back_makes_nothing_fresh_again() {
        let mut node = node();
        node.call("SMARTCACHE.STALE k");
        node.set_clock(500_000);
        assert_eq!(node.inspect("k", "state"), "\"stale\"");
        assert_eq!(node.call("TOUCH k EX 100"), "0");
        assert_eq!(node.call("SMARTCACHE.STALE k"), "0");
    }

    #[test]
    fn an_entry_without_windows_or_value_becomes_a_miss() {
        let mut node = node();
        node.call("SET bare v");
        node.call("ABSENT none");
        node.call("SET endless v PERSIST SWR 5");
        assert_eq!(node.call("SMARTCACHE.STALE bare none endless"), "3");
        assert_eq!(node.call("MISSING bare none endless"), r#"["bare", "none", "endless"]"#);
        assert_eq!(node.call("GET bare STALE STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
        assert_eq!(node.call("GET none STALE STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
        assert_eq!(node.call("GET endless STALE STATE"), r#"["STALE", "v", (nil), 0, 0]"#);
        assert_eq!(node.stat("misses_invalidated"), "2");
        node.advance(5_000);
        assert_eq!(node.call("GET endless STALE"), "(nil)");
    }

    #[test]
    fn only_fresh_entries_count_and_are_replicated() {
        let mut node = node();
        node.call("SET dead v EX 1");
        node.pexpireat("dead", 9_000_000);
        node.plain_set("text", "t", None);
        node.advance(1_000);
        assert_eq!(node.call("SMARTCACHE.STALE nothing dead text k k"), "1");
        assert_eq!(node.effects, ["replicate header k", "signal k", "notify smartcache.stale k"]);
        assert_eq!(node.call("GET text"), "\"t\"");
    }

    #[test]
    fn storing_it_again_makes_it_fresh() {
        let mut node = node();
        node.call("SMARTCACHE.STALE k");
        node.call("SET k w");
        assert_eq!(node.call("GET k"), "\"w\"");
    }

    #[test]
    fn with_a_key_of_another_type_nothing_is_changed() {
        let mut node = node();
        node.plain_list("list");
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(node.refusal("STALE k list"), wrong);
        assert_eq!(node.refusal("STALE"), "ERR wrong number of arguments for 'smartcache.stale' command");
    }

    #[test]
    fn the_lease_of_a_distrusted_load_goes_to_the_first_waiter() {
        let mut node = node();
        let token = node.token("GETLOCK nothing");
        assert_eq!(node.getlock(2, "nothing WAIT 9"), "(waiting)");
        assert_eq!(node.call("SMARTCACHE.STALE nothing"), "0");
        assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
        assert_eq!(node.call(&format!("SET nothing v SWR 60 TOKEN {token}")), r#""STALE""#);
        assert_eq!(node.call("GET nothing STALE STATE"), r#"["STALE", "v", (nil), 0, 0]"#);
        assert_eq!(node.inspect("nothing", "lease"), "\"held\"", "the first waiter holds the new lease");
    }

    #[test]
    fn loads_begun_before_become_stale_copies_and_loads_begun_after_are_fresh() {
        let mut node = node();
        node.advance(99_000);
        let before = node.token("GETLOCK k");
        node.call("STALE k");
        let after = node.token("GETLOCK k");
        assert_eq!(node.call(&format!("SET k before SWR 60 TOKEN {before}")), r#""STALE""#);
        assert_eq!(node.call("GET k STALE STATE"), r#"["STALE", "before", (nil), 0, 0]"#);
        assert_eq!(node.call(&format!("SET k after TOKEN {after}")), "OK");
        assert_eq!(node.call("GET k"), "\"after\"");
    }

    #[test]
    fn a_fill_after_del_and_stale_is_dropped_in_either_order() {
        for lines in [["DEL k", "STALE k"], ["STALE k", "DEL k"]] {
            let mut node = node();
            let stamp = node.call("STAMP").trim_matches('"').to_owned();
            lines.iter().for_each(|line| drop(node.call(line)));
            assert_eq!(node.call(&format!("SET k v SWR 600 SINCE {stamp}")), r#""STALE""#);
            assert_eq!(node.call("GET k STALE"), "(nil)", "{lines:?}: STALE does not replace the tombstone of DEL");
        }
    }
}
