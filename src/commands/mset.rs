//! `SMARTCACHE.MSET`: stores several values at once.

use smallvec::SmallVec;

use super::args::Args;
use super::options::{self, CODEC, CONDITION, LIFETIME, SIE, SINCE, SWR, TAGS, Takes};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::error::Error;
use crate::cache::node::store::{self, Content, Outcome};
use crate::cache::{Cx, Key};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.MSET",
    summary: "Stores several values, each under the policy of its key",
    since: "0.1.0",
    complexity: "O(k) for k keys, each as SET",
    arity: -4,
    flags: &[Flag::Write, Flag::DenyOom],
    keys: Keys::CountedPairs(Access::Overwrite),
    args: &[
        Arg::new("numkeys", Kind::Integer),
        Arg::block("data", &[Arg::key(), Arg::new("value", Kind::Text)]).repeated(),
        LIFETIME,
        SWR,
        SIE,
        CONDITION,
        TAGS,
        CODEC,
        SINCE,
    ],
    details: "\
The options are those of SET and apply to every key; each key gets its own rule and its own jitter.
After an error nothing is stored.",
    replies: "The number of values stored fresh.",
    run: Some(Run::Plain(run)),
};

/// More keys than a command can hold.
const MAX_KEYS: u64 = 1 << 30;

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let count = args.positive("numkeys", b"numkeys", MAX_KEYS)?;
    if count * 2 > args.left() as u64 {
        return Err(Error::Count { what: "numkeys", count, found: args.left() / 2 });
    }
    let mut pairs: SmallVec<[(Key<'w>, &'w [u8]); 8]> = SmallVec::new();
    for _ in 0..count {
        pairs.push((args.key()?, args.word()?));
    }
    let options = options::parse(args, Takes::Values)?;
    for (key, value) in &pairs {
        store::check_tags(cx.state, key.name, &options.tags)?;
        if let Err(why) = store::check_size(&cx.state.settings, value) {
            pairs.iter().for_each(|(key, _)| store::count_refused(cx, *key));
            return Err(why);
        }
    }
    let mut fresh = 0;
    for (key, value) in pairs {
        fresh += i64::from(store::store(cx, key, Content::Value(value), &options)? == Outcome::Fresh);
    }
    cx.reply.int(fresh);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn node() -> TestNode {
        TestNode::at(1_000_000)
    }

    #[test]
    fn each_key_gets_its_own_rule_and_its_own_jitter() {
        let mut node = node();
        node.call("RULE SET hot MATCH *:hot SCALE 4");
        node.call("RULE SET jittery MATCH j* JITTER 50%");
        assert_eq!(node.call("SMARTCACHE.MSET 4 a 1 b:hot 2 j1 3 j2 4 TTL 10 SWR 5 TAGS 1 t"), "4");
        assert_eq!(
            (node.inspect("a", "fresh_ms"), node.inspect("b:hot", "fresh_ms")),
            ("10000".into(), "40000".into())
        );
        assert_ne!(node.inspect("j1", "fresh_ms"), node.inspect("j2", "fresh_ms"));
        for key in ["a", "b:hot", "j1"] {
            assert_eq!((node.inspect(key, "swr_ms"), node.inspect(key, "tags")), ("5000".into(), "[\"t\"]".into()));
        }
        assert_eq!(node.call("MGET a b:hot j1 j2"), r#"["1", "2", "3", "4"]"#);
        assert_eq!(node.stat("sets"), "4");
    }

    #[test]
    fn each_key_is_replicated_signalled_and_notified() {
        let mut node = node();
        node.call("SMARTCACHE.MSET 2 a 1 b 2");
        let one = |key: &str| {
            [format!("replicate entry {key}"), format!("signal {key}"), format!("notify smartcache.set {key}")]
        };
        assert_eq!(node.effects, [one("a"), one("b")].concat());
        assert_eq!(node.replicated.len(), 1, "together: {:?}", node.replicated);
    }

    #[test]
    fn conditions_are_checked_key_by_key() {
        let mut node = node();
        node.call("SET a old");
        assert_eq!(node.call("SMARTCACHE.MSET 3 a 1 b 2 b 3 NX"), "1", "the second b finds the first");
        assert_eq!(node.call("MGET a b"), r#"["old", "2"]"#);
        assert_eq!(node.call("SMARTCACHE.MSET 2 a 1 c 2 XX"), "1");
        assert_eq!((node.call("MGET a c"), node.stat("sets_refused")), (r#"["1", (nil)]"#.into(), "3".into()));
    }

    #[test]
    fn the_last_of_two_values_for_one_key_stays() {
        let mut node = node();
        assert_eq!(node.call("SMARTCACHE.MSET 2 a 1 a 2"), "2");
        assert_eq!((node.call("GET a"), node.stat("entries")), ("\"2\"".into(), "1".into()));
    }

    #[test]
    fn a_lifetime_that_ends_in_the_past_stores_nothing_and_deletes() {
        let mut node = node();
        node.call("SET a old");
        assert_eq!(node.call("SMARTCACHE.MSET 2 a 1 b 2 EXAT 5"), "0");
        assert_eq!(node.effects, ["replicate unlink a", "signal a", "notify del a"]);
        assert_eq!(node.dbsize(), 0);
    }

    #[test]
    fn with_one_value_over_the_limit_nothing_is_stored() {
        let mut node = node();
        node.config("max-value", "3").unwrap();
        node.call("SET a old");
        let error = node.refusal("SMARTCACHE.MSET 3 a 1 b 2 c four");
        assert_eq!(error, "ERR value of 4 bytes is over the limit of 3: store less, or raise smartcache.max-value");
        assert_eq!((node.stat("sets"), node.stat("sets_refused")), ("1".into(), "3".into()));
    }

    #[test]
    fn an_error_names_the_word_and_stores_nothing() {
        let mut node = node();
        node.call("SET a old");
        for (line, error) in [
            ("MSET 0 a 1", "invalid numkeys '0': a whole number from 1 to 1073741824 is wanted"),
            ("MSET -1 a 1", "invalid numkeys '-1': a whole number from 1 to 1073741824 is wanted"),
            ("MSET x a 1", "invalid numkeys 'x': a whole number from 1 to 1073741824 is wanted"),
            ("MSET 9999999999 a 1", "invalid numkeys '9999999999': a whole number from 1 to 1073741824 is wanted"),
            ("MSET 2 a 1", "numkeys says 2, but 1 follow: give the count of what follows"),
            ("MSET 2 a 1 b", "numkeys says 2, but 1 follow: give the count of what follows"),
            ("MSET 1 a 1 b 2", "syntax error near 'b'"),
            ("MSET 2 a 1 TTL 5 EX", "syntax error near 'EX'"),
            ("MSET 1 a 1 TTL 5 EX 5", "syntax error near 'EX'"),
            ("MSET 1 a 1 TAGS 2 t", "TAGS says 2, but 1 follow: give the count of what follows"),
            ("MSET 1 a 1 CODEC best", "invalid CODEC 'best': one of auto none gzip zstd lz4 is wanted"),
        ] {
            assert_eq!(node.refusal(line), format!("ERR {error}"), "{line}");
        }
        assert_eq!(node.refusal("MSET 1 a"), "ERR wrong number of arguments for 'smartcache.mset' command");
    }
}
