//! `SMARTCACHE.MISSING`: which keys have nothing fresh.

use smallvec::SmallVec;

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::error::Error;
use crate::cache::node::read;
use crate::cache::{Cx, Judge, Slot};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.MISSING",
    summary: "Returns those of the keys that have no fresh entry",
    since: "0.1.0",
    complexity: "O(k) for k keys",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::All(Access::Read),
    args: &[Arg::key().repeated()],
    details: "\
For warming a cache without loading what it already holds. Absent entries and plain strings count as fresh entries. For a key of another type the reply is WRONGTYPE.
Counts no requests.",
    replies: "An array of keys, in the order given.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut missing: SmallVec<[&[u8]; 16]> = SmallVec::new();
    while args.left() > 0 {
        let key = args.key()?;
        match cx.keys.peek(key) {
            Slot::Other => return Err(Error::WrongType),
            slot if read::is_fresh(slot, Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now)) => {}
            _ => missing.push(key.name),
        }
    }
    cx.reply.array(missing.len());
    missing.iter().for_each(|name| cx.reply.bulk(name));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    #[test]
    fn keys_that_are_not_fresh_are_missing_in_order() {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.SET fresh 1");
        node.call("SMARTCACHE.SET stale 1 EX 5 SWR 50");
        node.call("SMARTCACHE.SET dead 1 EX 5");
        node.pexpireat("dead", 2_000_000);
        node.call("SMARTCACHE.ABSENT none");
        node.call("SMARTCACHE.ABSENT over EX 5");
        node.plain_set("text", "t", None);
        node.advance(5_000);
        let missing = r#"["stale", "nothing", "dead", "over", "nothing"]"#;
        assert_eq!(node.call("SMARTCACHE.MISSING stale fresh nothing dead none over text nothing"), missing);
        assert_eq!(node.call("SMARTCACHE.MISSING fresh"), "[]");
        assert!(node.effects.is_empty());
        assert_eq!(node.stat("requests"), "0", "it counts no requests");
    }

    #[test]
    fn a_key_of_another_type_is_an_error_and_not_missing() {
        let mut node = TestNode::at(0);
        node.plain_list("list");
        let error = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(node.refusal("MISSING k list"), error);
    }

    #[test]
    fn without_keys_it_is_an_error() {
        let mut node = TestNode::at(0);
        assert_eq!(node.refusal("MISSING"), "ERR wrong number of arguments for 'smartcache.missing' command");
    }
}
