//! `SMARTCACHE.STAMP`: a stamp for `SINCE`, taken before a load.

use super::args::Args;
use super::spec::{Command, Flag, Keys, Run};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::lease::token::{Of, Token};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.STAMP",
    summary: "Returns the current stamp, to be sent with SINCE after a load without a lease",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "\
Take it before a load, of a batch for example, and send it with SINCE: a delete, invalidation or store since then is noticed. It is valid for any number of keys, in any database, on this node, until the node restarts or its role changes.
On a replica the reply is READONLY, since only the primary stores.",
    replies: "An opaque string.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    if cx.server.is_replica() {
        return Err(Error::ReadOnly);
    }
    let state = &mut *cx.state;
    let token = Token::begun(state.clock.stamp(cx.now), cx.now);
    state.tombstones.load_begins(None, cx.now);
    cx.reply.bulk(&state.secret.seal(Of::Anything, token));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> (TestNode, String) {
        let mut node = TestNode::at(1_000_000);
        let stamp = node.call("SMARTCACHE.STAMP").trim_matches('"').to_owned();
        node.advance(1_000);
        (node, stamp)
    }

    #[test]
    fn a_stamp_is_valid_for_any_number_of_keys_and_more_than_once() {
        let (mut node, stamp) = node();
        assert_eq!(node.call(&format!("SET a 1 SINCE {stamp}")), "OK");
        assert_eq!(node.call(&format!("ABSENT b SINCE {stamp}")), "OK");
        assert_eq!(node.call(&format!("MSET 2 c 3 d 4 SINCE {stamp}")), "2");
        assert_eq!(node.call(&format!("SET a 5 SINCE {stamp}")), "OK", "of two loads with one stamp the last stays");
        assert_eq!(node.call("MGET a c d"), r#"["5", "3", "4"]"#);
        assert_eq!(node.stat("fills_late"), "0", "no lease is involved");
    }

    #[test]
    fn changes_since_the_stamp_are_detected_key_by_key() {
        let (mut node, stamp) = node();
        node.call("SET written newer");
        node.call("DEL deleted");
        node.call("STALE staled");
        node.plain_set("text", "t", None);
        node.call("SET over newer EX 1");
        node.advance(1_000);
        let keys = "written 1 deleted 2 staled 3 text 4 over 5 other 6";
        assert_eq!(node.call(&format!("MSET 6 {keys} SWR 60 SINCE {stamp}")), "1");
        assert_eq!(
            node.call("MGET written deleted staled text over other"),
            r#"["newer", (nil), (nil), "t", (nil), "6"]"#
        );
        assert_eq!(node.call("GET staled STALE STATE"), r#"["STALE", "3", (nil), 0, 0]"#);
        for (key, answer) in [
            ("written", r#""LOST""#),
            ("deleted", r#""STALE""#),
            ("staled", r#""STALE""#),
            ("text", r#""LOST""#),
            ("over", r#""LOST""#),
        ] {
            assert_eq!(node.call(&format!("SET {key} v SINCE {stamp}")), answer, "{key}");
        }
    }

    #[test]
    fn a_load_without_a_lease_serves_the_waiters_and_keeps_a_newer_lease() {
        let (mut node, stamp) = node();
        let token = node.token("GETLOCK k");
        assert_eq!(node.getlock(2, "k WAIT 9"), "(waiting)");
        assert_eq!(node.call(&format!("SET k old EX 60 SINCE {stamp}")), "OK");
        assert_eq!(node.late(), [(2, r#"["HIT", "old", (nil), 60000, 0]"#.into())]);
        assert_eq!(node.call(&format!("SET k new TOKEN {token}")), "OK", "its lease is newer than the stamp");
        assert_eq!(node.call(&format!("SET k old SINCE {stamp}")), r#""LOST""#);
        assert_eq!(node.call("GET k"), "\"new\"");
    }

    #[test]
    fn a_load_without_a_lease_that_began_after_the_lease_ends_it() {
        let mut node = TestNode::at(1_000_000);
        let token = node.token("GETLOCK k");
        let stamp = node.call("STAMP").trim_matches('"').to_owned();
        assert_eq!(node.call(&format!("SET k newer SINCE {stamp}")), "OK");
        assert_eq!((node.stat("leases"), node.stat("leases_voided")), ("0".into(), "1".into()));
        assert_eq!(node.call(&format!("SET k older TOKEN {token}")), r#""LOST""#);
    }

    #[test]
    fn a_stamp_is_no_token_and_a_token_no_stamp() {
        let (mut node, stamp) = node();
        let token = node.token("GETLOCK k");
        assert_eq!(node.call(&format!("SET k v TOKEN {stamp}")), r#""LOST""#);
        assert_eq!(node.call(&format!("SET k v SINCE {token}")), r#""LOST""#);
        assert_eq!(node.call("SET k v SINCE 1700000000"), r#""LOST""#);
        assert_eq!(node.call(&format!("MSET 1 k v SINCE {token}")), "0");
        assert_eq!((node.dbsize(), node.inspect("k", "lease")), (0, "\"held\"".into()));
    }

    #[test]
    fn with_nx_and_xx_the_condition_comes_first() {
        let (mut node, stamp) = node();
        assert_eq!(node.call(&format!("SET k v XX SINCE {stamp}")), "(nil)");
        assert_eq!(node.call(&format!("SET k v NX SINCE {stamp}")), "OK");
        assert_eq!(node.call(&format!("SET k w NX SINCE {stamp}")), "(nil)");
        assert_eq!(node.call(&format!("SET k w XX SINCE {stamp}")), "OK");
    }

    #[test]
    fn a_replica_replies_readonly_and_arguments_are_an_error() {
        assert_eq!(TestNode::replica_at(1).refusal("STAMP"), "READONLY You can't write against a read only replica.");
        let error = "ERR wrong number of arguments for 'smartcache.stamp' command";
        assert_eq!(TestNode::at(1).refusal("STAMP now"), error);
    }
}
