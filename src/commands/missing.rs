//! `SMARTCACHE.MISSING`: which keys have nothing fresh.

use smallvec::SmallVec;

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys};
use crate::cache::error::Error;
use crate::cache::{Cx, read};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.MISSING",
    summary: "Returns those of the keys that have no fresh entry",
    since: "0.1.0",
    complexity: "O(k) for k keys",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::All(Access::Read),
    args: &[Arg::key().repeated()],
    details: "\
For warming a cache without loading what is there. An absent entry is an entry, and so is a plain string; a key of another type is missing, as it is nil in MGET.
Counts no requests.",
    replies: "An array of keys, in the order given.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut missing: SmallVec<[&[u8]; 16]> = SmallVec::new();
    while args.left() > 0 {
        let key = args.key()?;
        if !read::is_fresh(cx.keys.peek(key), cx.now) {
            missing.push(key.name);
        }
    }
    cx.reply.array(missing.len());
    missing.iter().for_each(|name| cx.reply.bulk(name));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn what_is_not_fresh_is_missing_in_order() {
        let mut bench = Bench::at(1_000_000);
        bench.call("SMARTCACHE.SET fresh 1");
        bench.call("SMARTCACHE.SET stale 1 EX 5 SWR 50");
        bench.call("SMARTCACHE.SET dead 1 EX 5");
        bench.pexpireat("dead", 2_000_000);
        bench.call("SMARTCACHE.ABSENT none");
        bench.call("SMARTCACHE.ABSENT over EX 5");
        bench.plain_set("text", "t", None);
        bench.plain_list("list");
        bench.advance(5_000);
        let missing = r#"["stale", "nothing", "dead", "over", "list", "nothing"]"#;
        assert_eq!(bench.call("SMARTCACHE.MISSING stale fresh nothing dead none over text list nothing"), missing);
        assert_eq!(bench.call("SMARTCACHE.MISSING fresh"), "[]");
        assert!(bench.effects.is_empty());
        assert_eq!(bench.stat("requests"), "0", "it counts no requests");
    }

    #[test]
    fn without_keys_it_is_refused() {
        let mut bench = Bench::at(0);
        assert_eq!(bench.refusal("MISSING"), "ERR wrong number of arguments for 'smartcache.missing' command");
    }
}
