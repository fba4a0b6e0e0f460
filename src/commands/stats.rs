//! `SMARTCACHE.STATS`: what the cache has done.

use super::args::Args;
use super::spec::{Command, Flag, Keys};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::stats::{FIELDS, Number};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.STATS",
    summary: "Returns what the cache has done since start or reset",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[],
    details: "\
Only reads by SMARTCACHE commands count: GET and MGET, one request a key. The same numbers are in INFO smartcache, with smartcache_ before the name.",
    replies: "A map from name to number.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    let snapshot = cx.state.stats.snapshot(&cx.state.live, &cx.state.leases, cx.now);
    cx.reply.map(FIELDS.len());
    for field in FIELDS {
        cx.reply.bulk(field.name.as_bytes());
        match (field.read)(&snapshot) {
            Number::Whole(n) => cx.reply.int(n as i64),
            Number::Fraction(x) => cx.reply.double(x),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cache::stats::FIELDS;
    use crate::testing::Bench;

    #[test]
    fn every_number_is_told_in_the_order_of_the_table() {
        let map = Bench::at(1_000).call("SMARTCACHE.STATS");
        let mut rest = &map[..];
        for field in FIELDS {
            let at = rest.find(&format!("\"{}\": ", field.name)).unwrap_or_else(|| panic!("{} in {map}", field.name));
            rest = &rest[at..];
        }
        assert_eq!(map.matches(": ").count(), FIELDS.len());
    }

    #[test]
    fn sizes_follow_what_is_alive() {
        let mut bench = Bench::at(1_000);
        let mut are = |line: &str| {
            bench.call(line);
            ["entries", "raw_bytes", "stored_bytes", "overhead_bytes", "compression_ratio"].map(|name| bench.stat(name))
        };
        assert_eq!(are("GET k"), ["0", "0", "0", "0", "1"]);
        assert_eq!(are("SET k 12345"), ["1", "5", "5", "24", "1"]);
        assert_eq!(are("SET k 123 SWR 5 TAGS 2 a b"), ["1", "3", "3", "44", "1"]);
        assert_eq!(are("ABSENT none"), ["2", "3", "3", "68", "1"]);
        let long = format!("SET long {}", "x".repeat(1_000));
        let [entries, raw, stored, _, ratio] = are(&long);
        assert_eq!((&entries[..], &raw[..]), ("3", "1003"));
        let ratio_of = 1_003.0 / stored.parse::<f64>().unwrap();
        assert!((ratio.parse::<f64>().unwrap() - ratio_of).abs() < 0.006, "{ratio} {ratio_of}");
        assert_eq!(are("DEL k none long"), ["0", "0", "0", "0", "1"]);
    }

    #[test]
    fn rates_are_over_the_time_since_the_reset() {
        let mut bench = Bench::at(1_000);
        bench.call("SET k v");
        bench.advance(4_000);
        (0..10).for_each(|_| drop(bench.call("GET k")));
        assert_eq!((bench.stat("requests_per_sec"), bench.stat("uptime_ms")), ("2.5".into(), "4000".into()));
        bench.call("GET");
        assert_eq!(bench.stat("errors"), "1");
        let rate: f64 = bench.stat("error_rate").parse().unwrap();
        assert!((5.0..8.0).contains(&rate), "one of about 16 calls: {rate}");
        bench.set_clock(500);
        assert_eq!((bench.stat("requests_per_sec"), bench.stat("uptime_ms")), ("0".into(), "0".into()));
    }

    #[test]
    fn it_takes_no_words_and_has_no_effects() {
        let mut bench = Bench::at(1_000);
        bench.call("STATS");
        assert!(bench.effects.is_empty());
        assert_eq!(bench.refusal("STATS x"), "ERR wrong number of arguments for 'smartcache.stats' command");
    }
}
