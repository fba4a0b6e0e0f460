//! `SMARTCACHE.HOTKEYS`: the most requested keys of the last minutes.

use super::args::{Args, is, once};
use super::spec::{Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::error::Error;
use crate::cache::glob::Glob;
use crate::cache::{Cx, Right};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.HOTKEYS",
    summary: "Returns the most requested keys of the last minutes",
    since: "0.1.0",
    complexity: "O(1): a scan of a table of 1,024 keys",
    arity: -1,
    flags: &[Flag::ReadOnly, Flag::Dangerous],
    keys: Keys::None,
    args: &[Arg::option("count", "COUNT", Kind::Integer), Arg::option("pattern", "MATCH", Kind::Pattern)],
    details: "\
The most requested first, counting GET, MGET and GETLOCK on this node, in all databases together. COUNT is from 1 to 100 (default 10). MATCH keeps only the keys that match a pattern, as in KEYS.
The numbers are estimates from a sketch of constant size (about 120 KB): it samples requests, and counts halve every two and a half minutes, so that they follow the traffic. Keys with a large share are exact but for the sampling: in a Zipf stream of a million requests for 100,000 keys, all but two of the true top 20 are listed, with shares within a tenth. Keys of more than 1,024 bytes are not listed.
requests is how often the key was requested lately, hits how many of these requests were served, share the key's part of all requests, from 0 to 1. RESETSTAT clears them.
Keys that the caller may not read are left out, and do not count towards COUNT; share is still of all requests. As what is popular is nobody's business who only stores and reads, the command is in @dangerous.",
    replies: "An array of maps: key, requests, hits, share.",
    run: Some(Run::Plain(run)),
};

/// The largest `COUNT`.
const MAX_COUNT: u64 = 100;

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let (mut count, mut pattern) = (None, None);
    while let Some(word) = args.option() {
        if is(word, "COUNT") {
            once(&mut count, args.positive("COUNT", word, MAX_COUNT)?, word)?;
        } else if is(word, "MATCH") {
            once(&mut pattern, Glob::new(args.value_of(word)?), word)?;
        } else {
            return Err(Error::syntax(word));
        }
    }
    let server = cx.server;
    let wanted = |name: &[u8]| pattern.as_ref().is_none_or(|glob| glob.matches(name)) && server.may(Right::Read, name);
    let keys = cx.state.stats.hot.top(count.unwrap_or(10) as usize, wanted, cx.now);
    cx.reply.array(keys.len());
    for key in keys {
        cx.reply.map(4);
        cx.reply.bulk(b"key");
        cx.reply.bulk(key.name);
        cx.reply.bulk(b"requests");
        cx.reply.int(key.requests as i64);
        cx.reply.bulk(b"hits");
        cx.reply.int(key.hits as i64);
        cx.reply.bulk(b"share");
        cx.reply.double((key.share * 1e6).round() / 1e6);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    /// Three reads of `a:1`, two of `b`, of which one finds it, and one of `a:2`.
    fn node() -> TestNode {
        let mut node = TestNode::at(1_000);
        node.call("SET a:1 v");
        node.call("MGET a:1 a:1 b");
        node.call("GETLOCK a:1");
        node.call("ABSENT b");
        node.call("MGET b a:2");
        node
    }

    #[test]
    fn the_most_requested_come_first() {
        let mut node = node();
        let all = "[{\"key\": \"a:1\", \"requests\": 3, \"hits\": 3, \"share\": 0.5}, \
                   {\"key\": \"b\", \"requests\": 2, \"hits\": 1, \"share\": 0.333333}, \
                   {\"key\": \"a:2\", \"requests\": 1, \"hits\": 0, \"share\": 0.166667}]";
        assert_eq!(node.call("HOTKEYS"), all);
        assert_eq!(node.call("hotkeys match * count 100"), all);
        assert!(node.effects.is_empty());
        node.call("RESETSTAT");
        assert_eq!(node.call("HOTKEYS"), "[]");
    }

    #[test]
    fn count_and_match_limit_the_reply() {
        let mut node = node();
        let mut keys = |words: &str| {
            let answer = node.call(&format!("HOTKEYS {words}"));
            answer
                .split("\"key\": \"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("COUNT 1"), ["a:1"]);
        assert_eq!(keys("MATCH a:*"), ["a:1", "a:2"]);
        assert_eq!(keys("MATCH a:* COUNT 1"), ["a:1"]);
        assert!(keys("MATCH nothing*").is_empty());
    }

    #[test]
    fn keys_that_the_caller_may_not_read_are_left_out_before_the_count() {
        let mut node = node();
        node.server.may_not_read = "a:1";
        let answer = node.call("HOTKEYS COUNT 2");
        assert!(!answer.contains("a:1") && answer.contains("\"b\"") && answer.contains("\"a:2\""), "{answer}");
        assert!(answer.contains("\"share\": 0.333333"), "of all requests: {answer}");
        node.server.may_not_read = "a";
        assert_eq!(node.call("HOTKEYS MATCH a*"), "[]");
    }

    #[test]
    fn a_waiter_is_one_request_when_it_is_answered() {
        let mut node = TestNode::at(1_000);
        let token = node.token("GETLOCK k");
        node.call_as(2, "GETLOCK k WAIT 5");
        assert!(node.call("HOTKEYS").contains("\"requests\": 1, \"hits\": 0"));
        node.call(&format!("SET k v TOKEN {token}"));
        assert!(node.call("HOTKEYS").contains("\"requests\": 2, \"hits\": 1"));
        assert_eq!(node.stat("requests"), "2");
    }

    #[test]
    fn old_requests_are_forgotten() {
        let mut node = node();
        node.advance(60_000);
        assert!(
            node.call("HOTKEYS").starts_with("[{\"key\": \"a:1\", \"requests\": 3, \"hits\": 3, "),
            "little is forgotten after a minute"
        );
        node.set_clock(0); // the wall clock does not matter
        node.advance(600_000);
        assert_eq!(node.call("HOTKEYS"), "[]");
    }

    #[test]
    fn unknown_options_and_values_are_errors() {
        let mut node = TestNode::at(1_000);
        for (line, wanted) in [
            ("HOTKEYS x", "ERR syntax error near 'x'"),
            ("HOTKEYS COUNT", "ERR syntax error near 'COUNT'"),
            ("HOTKEYS COUNT 0", "ERR invalid COUNT '0': a whole number from 1 to 100 is wanted"),
            ("HOTKEYS COUNT 101", "ERR invalid COUNT '101': a whole number from 1 to 100 is wanted"),
            ("HOTKEYS COUNT 1 COUNT 1", "ERR syntax error near 'COUNT'"),
            ("HOTKEYS MATCH", "ERR syntax error near 'MATCH'"),
            ("HOTKEYS MATCH a MATCH b", "ERR syntax error near 'MATCH'"),
        ] {
            assert_eq!(node.refusal(line), wanted, "{line}");
        }
    }
}
