//! `SMARTCACHE.RESETSTAT`: sets the counters to zero.

use super::args::Args;
use super::spec::{Command, Flag, Keys, Run};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.RESETSTAT",
    summary: "Sets the counters to zero",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "Counters, windows and hot keys start from zero. Measurements of the present, such as entries and bytes, stay. Of a lease or a wait that began before, only the end counts.",
    replies: "OK",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    cx.state.stats.reset(cx.now);
    cx.reply.simple("OK");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{TestNode, field_of};

    #[test]
    fn counters_start_from_zero_and_gauges_stay() {
        let mut node = TestNode::at(1_000);
        node.call("SET k v");
        node.call("MGET k x");
        node.call("GET");
        node.advance(1_000);
        assert_eq!(node.call("SMARTCACHE.RESETSTAT"), "OK");
        assert!(node.effects.is_empty(), "not replicated: each node counts for itself");
        for name in ["requests", "hits", "misses", "sets", "errors", "error_rate", "requests_per_sec"] {
            assert_eq!(node.stat(name), "0", "{name}");
        }
        assert_eq!((node.stat("entries"), node.stat("uptime_ms")), ("1".into(), "1000".into()));
        node.advance(2_000);
        node.call("GET k");
        assert_eq!(node.stat("requests_per_sec"), "0.5");
    }

    #[test]
    fn a_lease_or_wait_that_began_before_counts_only_its_end() {
        let mut node = TestNode::at(1_000);
        node.call("RULE SET r MATCH k*");
        let token = node.token("GETLOCK k");
        node.call_as(2, "GETLOCK k WAIT 9");
        node.advance(400);
        node.call("RESETSTAT");
        for of in ["STATS", "STATS RULE r", "STATS WINDOW 1m", "STATS RULES WINDOW 1h"] {
            let map = node.call(of);
            let numbers = ["requests", "leases_granted", "fills", "waits", "leases"].map(|name| field_of(&map, name));
            assert_eq!(numbers, ["0", "0", "0", "0", "1"], "{of}");
        }
        node.advance(100);
        node.call(&format!("SET k v TOKEN {token}"));
        let map = node.call("STATS RULE r WINDOW 5m");
        let numbers = ["hits", "leases_granted", "fills", "origin_ms", "waits_served", "wait_ms_p50", "leases"];
        assert_eq!(numbers.map(|name| field_of(&map, name)), ["1", "0", "1", "500", "1", "496", "0"]);
    }

    #[test]
    fn it_takes_no_arguments() {
        let mut node = TestNode::at(1_000);
        node.call("GET k");
        assert_eq!(node.refusal("RESETSTAT x"), "ERR wrong number of arguments for 'smartcache.resetstat' command");
        assert_eq!(node.stat("requests"), "1");
    }
}
