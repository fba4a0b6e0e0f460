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
    details: "What is counted starts from zero. What is measured, such as entries and bytes, stays.",
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
    use crate::testing::Bench;

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
    fn it_takes_no_words() {
        let mut bench = Bench::at(1_000);
        bench.call("GET k");
        assert_eq!(bench.refusal("RESETSTAT x"), "ERR wrong number of arguments for 'smartcache.resetstat' command");
        assert_eq!(bench.stat("requests"), "1");
    }
}
