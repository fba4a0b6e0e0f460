//! `SMARTCACHE.RESETSTAT`: counts from zero again.

use super::args::Args;
use super::spec::{Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.RESETSTAT",
    summary: "Sets the counters to zero",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "What is counted starts from zero, windows and hot keys too. What is measured, such as entries and bytes, stays. A lease or a wait that began before counts by its end only.",
    replies: "OK",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    cx.state.stats.reset(cx.now);
    cx.reply.simple("OK");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, field_of};

    #[test]
    fn counters_start_from_zero_and_what_is_measured_stays() {
        let mut bench = Bench::at(1_000);
        bench.call("SET k v");
        bench.call("MGET k x");
        bench.call("GET");
        bench.advance(1_000);
        assert_eq!(bench.call("SMARTCACHE.RESETSTAT"), "OK");
        assert!(bench.effects.is_empty(), "nobody is told: each node counts for itself");
        for name in ["requests", "hits", "misses", "sets", "errors", "error_rate", "requests_per_sec"] {
            assert_eq!(bench.stat(name), "0", "{name}");
        }
        assert_eq!((bench.stat("entries"), bench.stat("uptime_ms")), ("1".into(), "1000".into()));
        bench.advance(2_000);
        bench.call("GET k");
        assert_eq!(bench.stat("requests_per_sec"), "0.5");
    }

    #[test]
    fn during_a_load_what_ends_later_counts_by_its_end() {
        let mut bench = Bench::at(1_000);
        bench.call("RULE SET r MATCH k*");
        let token = bench.token("GETLOCK k");
        bench.call_as(2, "GETLOCK k WAIT 9");
        bench.advance(400);
        bench.call("RESETSTAT");
        for of in ["STATS", "STATS RULE r", "STATS WINDOW 1m", "STATS RULES WINDOW 1h"] {
            let map = bench.call(of);
            let numbers = ["requests", "leases_granted", "fills", "waits", "leases"].map(|name| field_of(&map, name));
            assert_eq!(numbers, ["0", "0", "0", "0", "1"], "{of}");
        }
        bench.advance(100);
        bench.call(&format!("SET k v TOKEN {token}"));
        let map = bench.call("STATS RULE r WINDOW 5m");
        let numbers = ["hits", "leases_granted", "fills", "origin_ms", "waits_served", "wait_ms_p50", "leases"];
        assert_eq!(numbers.map(|name| field_of(&map, name)), ["1", "0", "1", "500", "1", "496", "0"]);
    }

    #[test]
    fn it_takes_no_words() {
        let mut bench = Bench::at(1_000);
        bench.call("GET k");
        assert_eq!(bench.refusal("RESETSTAT x"), "ERR wrong number of arguments for 'smartcache.resetstat' command");
        assert_eq!(bench.stat("requests"), "1");
    }
}
