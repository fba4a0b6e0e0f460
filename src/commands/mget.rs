//! `SMARTCACHE.MGET`: the fresh values of several keys.

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::error::Error;
use crate::cache::node::read::{self, Found};
use crate::cache::stats::miss_reasons::MissReason;
use crate::cache::{Cx, Judge};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.MGET",
    summary: "Returns the fresh values of several keys",
    since: "0.1.0",
    complexity: "O(k) for k keys, plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::All(Access::Read),
    args: &[Arg::key().repeated()],
    details: "Each key counts as one request. A key of another type is nil, as in MGET. Grants no leases.",
    replies: "An array: for each key, in order, its value if fresh, else nil.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    cx.reply.array(args.left());
    while args.left() > 0 {
        let key = args.key()?;
        let slot = cx.keys.look(key);
        let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
        let found = read::find(slot, &mut cx.state.codecs, judge, false, None).unwrap_or(Found::Miss(MissReason::Cold));
        found.count(key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
        match found {
            Found::Hit { value, .. } => cx.reply.bulk(value.bytes),
            Found::Plain => cx.reply.bulk(cx.keys.text(key).unwrap_or_default()),
            _ => cx.reply.nil(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> TestNode {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.SET a 1 EX 5 SWR 5");
        node.call("SMARTCACHE.SET b 2");
        node.call("SMARTCACHE.ABSENT none");
        node.plain_set("text", "t", None);
        node.plain_list("list");
        node
    }

    #[test]
    fn values_are_in_order_and_nil_where_not_fresh() {
        let mut node = node();
        let answer = r#"["1", (nil), (nil), "t", (nil), "2", "1"]"#;
        assert_eq!(node.call("SMARTCACHE.MGET a nothing none text list b a"), answer);
        node.advance(5_000);
        assert_eq!(node.call("SMARTCACHE.MGET a b"), r#"[(nil), "2"]"#, "not even inside a window");
    }

    #[test]
    fn each_key_is_a_request() {
        let mut node = node();
        node.call("SMARTCACHE.STALE a");
        node.call("SMARTCACHE.MGET a nothing none text list b b");
        for (name, count) in [
            ("requests", "7"),
            ("hits", "3"),
            ("absent_hits", "1"),
            ("stale_hits", "0"),
            ("misses_cold", "2"),
            ("misses_invalidated", "1"),
            ("misses_expired", "0"),
        ] {
            assert_eq!(node.stat(name), count, "{name}");
        }
        assert!(node.effects.is_empty());
    }

    #[test]
    fn compressed_values_of_one_reply_do_not_overwrite_each_other() {
        let mut node = node();
        let (x, y) = ("x".repeat(500), "y".repeat(400));
        node.call(&format!("SMARTCACHE.MSET 2 x {x} y {y} CODEC zstd"));
        assert_eq!(node.call("SMARTCACHE.MGET x y x"), format!("[\"{x}\", \"{y}\", \"{x}\"]"));
    }

    #[test]
    fn without_keys_it_is_an_error() {
        assert_eq!(node().refusal("MGET"), "ERR wrong number of arguments for 'smartcache.mget' command");
    }
}
