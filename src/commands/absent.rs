//! `SMARTCACHE.ABSENT`: records that the origin has nothing under a key.

use super::args::Args;
use super::options::{self, LIFETIME, PROVENANCE, TAGS, Takes};
use super::set;
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::error::Error;
use crate::cache::node::store::Content;
use crate::cache::{Cx, Slot};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.ABSENT",
    summary: "Records that the origin has nothing under a key",
    since: "0.1.0",
    complexity: "O(r) for r rules",
    arity: -2,
    flags: &[Flag::Write, Flag::Fast],
    keys: Keys::One(Access::Overwrite),
    args: &[Arg::key(), LIFETIME, TAGS, PROVENANCE],
    details: "\
The default lifetime is the rule's NEGATIVE, then smartcache.negative-ttl. The rule's JITTER applies; its SCALE, MIN and MAX do not.
An absent entry has no windows: when its lifetime is over, the key is a miss.
TOKEN and SINCE as in SET.
Replaces entries and plain strings. For a key of another type the reply is WRONGTYPE; with TOKEN or SINCE it is LOST.",
    replies: "OK. With TOKEN or SINCE: OK, STALE or LOST, as for SET.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let words = args.rest();
    let options = options::parse(args, Takes::Absence).inspect_err(|_| set::malformed(cx, key, words))?;
    if options.provenance.is_none()
        && let Slot::Other = cx.keys.peek(key)
    {
        return Err(Error::WrongType);
    }
    set::fill(cx, key, Content::Absent, &options)
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> TestNode {
        TestNode::at(1_000_000)
    }

    #[test]
    fn an_absent_entry_is_served_until_its_lifetime_ends() {
        let mut node = node();
        assert_eq!(node.call("SMARTCACHE.ABSENT k"), "OK");
        assert_eq!(node.effects, ["replicate entry k", "signal k", "notify smartcache.absent k"]);
        assert_eq!(node.call("GET k STATE"), r#"["ABSENT", (nil), (nil), 60000, 0]"#);
        assert_eq!(node.call("MISSING k"), "[]", "an absent entry is fresh");
        assert_eq!(node.expire_at("k"), Some(1_060_000));
        node.advance(60_000);
        assert_eq!(node.call("GET k STATE"), r#"["MISS", (nil), (nil), 0, 0]"#);
        assert_eq!((node.stat("absents"), node.stat("sets")), ("1".into(), "0".into()));
    }

    #[test]
    fn of_the_rule_only_negative_and_jitter_apply() {
        let mut node = node();
        node.call("RULE SET r MATCH r* TTL 1 SCALE 9 MIN 50 MAX 55 NEGATIVE 10 SWR 5 SIE 5 CODEC gzip TAG t");
        node.config("negative-ttl", "7").unwrap();
        for (line, ms) in [
            ("ABSENT k", "7000"),
            ("ABSENT r", "10000"),
            ("ABSENT r TTL 70", "70000"),
            ("ABSENT r EX 80", "80000"),
            ("ABSENT r PX 1", "1"),
            ("ABSENT r EXAT 1090", "90000"),
            ("ABSENT r PXAT 1000002", "2"),
            ("ABSENT r PERSIST", "-1"),
        ] {
            assert_eq!(node.call(line), "OK");
            assert_eq!(node.inspect(line.split(' ').nth(1).unwrap(), "fresh_ms"), ms, "{line}");
        }
        assert_eq!((node.inspect("r", "swr_ms"), node.inspect("r", "sie_ms")), ("0".into(), "0".into()));
        assert_eq!(node.inspect("r", "tags"), "[\"t\"]");
        node.config("max-ttl", "3").unwrap();
        for line in ["ABSENT k", "ABSENT r", "ABSENT r TTL 9", "ABSENT r EX 9", "ABSENT r PERSIST"] {
            node.call(line);
            assert_eq!(node.inspect(line.split(' ').nth(1).unwrap(), "fresh_ms"), "3000", "{line}");
        }
        node.config("max-ttl", "0").unwrap();
        node.call("RULE SET r MATCH r* NEGATIVE 10 JITTER 50%");
        let drawn: Vec<u64> = (0..100)
            .map(|_| {
                node.call("ABSENT r");
                node.inspect("r", "fresh_ms").parse().unwrap()
            })
            .collect();
        assert!(drawn.iter().all(|ms| (5_000..=15_000).contains(ms)));
        assert!(drawn.iter().any(|ms| *ms < 6_000) && drawn.iter().any(|ms| *ms > 14_000));
    }

    #[test]
    fn it_replaces_entries_and_strings_and_leaves_other_types_alone() {
        let mut node = node();
        node.call("SET v value SWR 60 TAGS 1 old");
        node.plain_set("text", "t", None);
        node.plain_list("list");
        let error = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(node.refusal("ABSENT list"), error);
        for key in ["v", "text"] {
            assert_eq!(node.call(&format!("SMARTCACHE.ABSENT {key} TAGS 2 a b")), "OK");
            assert_eq!(
                (node.inspect(key, "kind"), node.inspect(key, "tags")),
                ("\"absent\"".into(), r#"["a", "b"]"#.into())
            );
        }
        assert_eq!(node.call("GET v STALE"), "(nil)");
    }

    #[test]
    fn a_lifetime_that_ends_in_the_past_deletes_the_key() {
        let mut node = node();
        node.call("SET k old");
        assert_eq!(node.call("SMARTCACHE.ABSENT k EXAT 5"), "OK");
        assert_eq!(node.effects, ["replicate unlink k", "signal k", "notify del k"]);
        assert_eq!((node.dbsize(), node.stat("absents")), (0, "0".into()));
    }

    #[test]
    fn it_takes_only_lifetime_tags_and_provenance() {
        let mut node = node();
        node.call("SET k old");
        for word in ["NX", "XX", "SWR", "SIE", "CODEC", "value"] {
            assert_eq!(node.refusal(&format!("ABSENT k {word} 5")), format!("ERR syntax error near '{word}'"));
        }
        assert_eq!(node.refusal("ABSENT k TTL 5 EX 5"), "ERR syntax error near 'EX'");
        assert_eq!(node.refusal("ABSENT k TTL 0"), "ERR invalid TTL '0': must be more than 0");
        let error = "ERR TAGS says 2, but 1 follow: give the count of what follows";
        assert_eq!(node.refusal("ABSENT k TAGS 2 a"), error);
        assert_eq!(node.refusal("ABSENT"), "ERR wrong number of arguments for 'smartcache.absent' command");
    }
}
