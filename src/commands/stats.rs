//! `SMARTCACHE.STATS`: what the cache has done.

use super::args::{Args, is, once};
use super::spec::{Arg, Command, Flag, Keys, Kind};
use crate::cache::error::Error;
use crate::cache::report::{self, Told};
use crate::cache::rules::{Policies, Rule, RuleId};
use crate::cache::stats::{Number, Snapshot, Whose};
use crate::cache::window::{WINDOWS, Window};
use crate::cache::{Cx, Reply, units};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.STATS",
    summary: "Returns what the cache has done since start or reset, or lately",
    since: "0.1.0",
    complexity: "O(1); O(r) for r rules, and with PROMETHEUS what SMARTCACHE.HEALTH takes",
    arity: -1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[
        Arg::one_of("whose", &[Arg::option("name", "RULE", Kind::Text).required(), Arg::flag("rules", "RULES")]),
        Arg::option("window", "WINDOW", Kind::Text),
        Arg::one_of("format", &[Arg::flag("json", "JSON"), Arg::flag("prometheus", "PROMETHEUS")]),
    ],
    details: "\
Only reads by SMARTCACHE commands count: GET, MGET and GETLOCK, one request a key. The same numbers are in INFO smartcache, with smartcache_ before the name.
RULE tells those of one rule, RULES those of every rule, by name; (none) is for keys without a rule. They sum to the whole. What concerns no key (waiters, errors, error_rate, panics, uptime_ms, counting_ms) is told of the whole only. A hit counts for the rule that its entry was stored under, a miss for the one that its key matches; what a rule has counted that is gone is added to (none).
WINDOW 1m, 5m or 1h tells what was counted lately: in the last minute and up to a second more, in the last five minutes or hour and up to a minute more. What is measured, such as entries, is as of now.
JSON and PROMETHEUS answer with one text. In JSON the fields are called as in the map. Prometheus gets seconds for milliseconds and _total behind counters; with RULES the rule is a label, and what concerns no key is there too, without label: one scrape has everything. Without RULE and WINDOW it also has smartcache_health with each code of SMARTCACHE.HEALTH as the label reason: 1 where that reason is given, else 0.",
    replies: "A map from name to number; with RULES a map from rule to such a map. With JSON or PROMETHEUS: a text.",
    run: Some(run),
};

/// The name of the row for keys without a rule: no rule can be called so.
pub const NO_RULE: &str = "(none)";

/// `STATS [RULE name | RULES] [WINDOW 1m | 5m | 1h] [JSON | PROMETHEUS]`
struct Stats<'w> {
    rules: Option<Rules<'w>>,
    window: Option<(&'static str, Window)>,
    format: Option<Format>,
}

/// Which rules to tell of.
enum Rules<'w> {
    One(&'w [u8]),
    All,
}

/// How to tell.
#[derive(Clone, Copy, PartialEq)]
enum Format {
    Json,
    Prometheus,
}

impl<'w> Stats<'w> {
    fn parse(args: &mut Args<'w>) -> Result<Self, Error> {
        let (mut rules, mut window, mut format) = (None, None, None);
        while let Some(word) = args.option() {
            if is(word, "RULE") {
                once(&mut rules, Rules::One(args.value_of(word)?), word)?;
            } else if is(word, "RULES") {
                once(&mut rules, Rules::All, word)?;
            } else if is(word, "WINDOW") {
                let said = args.value_of(word)?;
                let known = WINDOWS.iter().find(|(name, _)| is(said, name)).copied();
                once(&mut window, known.ok_or_else(|| Error::invalid("WINDOW", said, "say 1m, 5m or 1h"))?, word)?;
            } else if is(word, "JSON") {
                once(&mut format, Format::Json, word)?;
            } else if is(word, "PROMETHEUS") {
                once(&mut format, Format::Prometheus, word)?;
            } else {
                return Err(Error::syntax(word));
            }
        }
        Ok(Stats { rules, window, format })
    }
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let Stats { rules, window, format } = Stats::parse(args)?;
    let (now, over) = (cx.now, window.map(|(_, window)| window));
    let without = || (RuleId::NONE, NO_RULE.to_owned());
    let of_rules: Vec<(RuleId, String)> = match rules {
        None => Vec::new(),
        Some(Rules::One(name)) if name == NO_RULE.as_bytes() => vec![without()],
        Some(Rules::One(name)) => vec![known(&cx.state.policies, name)?],
        Some(Rules::All) => cx.state.policies.iter().map(identity).chain([without()]).collect(),
    };
    let by_rule = matches!(rules, Some(Rules::All));
    let mut told: Vec<Told<'_>> = Vec::with_capacity(of_rules.len() + 1);
    for (id, name) in &of_rules {
        told.push(Told { rule: Some(name), numbers: cx.state.snapshot(Whose::Rule(*id), over, now) });
    }
    let scraped = format == Some(Format::Prometheus);
    let of_node = of_rules.is_empty() || by_rule && scraped;
    if of_node {
        told.push(Told { rule: None, numbers: cx.state.snapshot(Whose::Node, over, now) });
    }
    match format {
        Some(Format::Json) => cx.reply.bulk(report::json(&told, by_rule).as_bytes()),
        Some(Format::Prometheus) => {
            let health = (of_node && window.is_none()).then(|| cx.state.health(cx.server, now));
            let window = window.map(|(name, _)| name);
            cx.reply.bulk(report::prometheus(&told, window, health.as_ref()).as_bytes());
        }
        None => {
            if by_rule {
                cx.reply.map(told.len());
            }
            for Told { rule, numbers } in &told {
                if let Some(rule) = rule.filter(|_| by_rule) {
                    cx.reply.bulk(rule.as_bytes());
                }
                tell(cx.reply, numbers, rule.is_some());
            }
        }
    }
    Ok(())
}

fn identity(rule: &Rule) -> (RuleId, String) {
    (rule.id(), rule.name().to_owned())
}

/// The rule of that name, if there is one.
fn known(policies: &Policies, name: &[u8]) -> Result<(RuleId, String), Error> {
    policies.get(name).map(identity).ok_or_else(|| {
        Error::Refused(format!("there is no rule {}: SMARTCACHE.RULE LIST names those there are", units::quote(name)))
    })
}

/// Writes the numbers as a map.
fn tell(reply: &mut dyn Reply, numbers: &Snapshot, of_rule: bool) {
    reply.map(report::fields(of_rule).count());
    for field in report::fields(of_rule) {
        reply.bulk(field.name.as_bytes());
        match (field.read)(numbers) {
            Number::Whole(n) => reply.int(n as i64),
            Number::Fraction(x) => reply.double(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::health::REASONS;
    use crate::cache::stats::FIELDS;
    use crate::testing::{Bench, field_of};

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
        assert_eq!(are("SET k 123 SWR 5 TAGS 2 a b"), ["1", "3", "3", "52", "1"]);
        assert_eq!(are("ABSENT none"), ["2", "3", "3", "76", "1"]);
        let long = format!("SET long {}", "x".repeat(1_000));
        let [entries, raw, stored, _, ratio] = are(&long);
        assert_eq!((&entries[..], &raw[..]), ("3", "1003"));
        let ratio_of = 1_003.0 / stored.parse::<f64>().unwrap();
        assert!((ratio.parse::<f64>().unwrap() - ratio_of).abs() < 0.006, "{ratio} {ratio_of}");
        assert_eq!(are("DEL k none long"), ["0", "0", "0", "0", "1"]);
        bench.call(&long);
        let saved = bench.stat("saved_bytes").parse::<u64>().unwrap();
        assert_eq!(saved, 1_003 - stored.parse::<u64>().unwrap(), "what did not shrink saves nothing");
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
        for day in [0, 200_000_000] {
            bench.set_clock(day); // set back, and far ahead: it is not asked
            assert_eq!((bench.stat("requests_per_sec"), bench.stat("uptime_ms")), ("2.5".into(), "4000".into()));
        }
    }

    #[test]
    fn it_reads_and_leaves_nothing_behind() {
        let mut bench = Bench::at(1_000);
        bench.call("STATS RULES WINDOW 5m JSON");
        assert!(bench.effects.is_empty());
        assert_eq!(bench.stat("requests"), "0");
    }

    #[test]
    fn each_key_counts_for_its_rule_and_the_rows_sum_to_the_whole() {
        let mut bench = Bench::at(1_000);
        bench.call("RULE SET user MATCH user:*");
        bench.call("RULE SET idle MATCH idle:*");
        bench.call("MSET 2 user:1 v other v");
        bench.call("MGET user:1 user:1 user:2 other");
        bench.call("GETLOCK user:3 LOCK 5");
        bench.call("GETLOCK user:3");
        let told = |bench: &mut Bench, of: &str| {
            let map = bench.call(&format!("STATS{of}"));
            ["requests", "hits", "misses", "busy", "sets", "leases", "entries"].map(|name| field_of(&map, name))
        };
        assert_eq!(told(&mut bench, " RULE user"), ["5", "2", "2", "1", "1", "1", "1"]);
        assert_eq!(told(&mut bench, " RULE idle"), ["0"; 7]);
        assert_eq!(told(&mut bench, " RULE (none)"), ["1", "1", "0", "0", "1", "0", "1"]);
        assert_eq!(told(&mut bench, ""), ["6", "3", "2", "1", "2", "1", "2"]);
        let rules = bench.call("STATS RULES");
        assert!(rules.starts_with("{\"user\": {\"requests\": 5, \"hits\": 2,"), "{rules}");
        assert_eq!(rules.matches("\"requests\": ").count(), 3);
        assert!(rules.find("\"idle\"").unwrap() < rules.find("\"(none)\"").unwrap());
        for name in ["errors", "panics", "uptime_ms", "counting_ms", "waiters"] {
            assert!(!rules.contains(&format!("\"{name}\"")), "{name} is of no rule");
        }
    }

    #[test]
    fn what_a_rule_has_counted_that_is_gone_is_added_to_the_keys_without() {
        let mut bench = Bench::at(1_000);
        bench.call("RULE SET r MATCH *");
        bench.call("SET k v");
        bench.call("GET k");
        bench.advance(30_000);
        bench.call("GET k");
        bench.call("RULE DEL r");
        bench.call("GET k");
        let of = |bench: &mut Bench, words: &str| field_of(&bench.call(&format!("STATS {words}")), "requests");
        assert_eq!(of(&mut bench, "RULE (none)"), "3");
        bench.advance(40_000);
        assert_eq!((of(&mut bench, "WINDOW 1m"), of(&mut bench, "RULE (none) WINDOW 1m")), ("2".into(), "2".into()));
        bench.call("RULE SET r MATCH *");
        bench.call("GET k"); // its entry was stored under the rule that is gone
        assert_eq!((of(&mut bench, "RULE r"), of(&mut bench, "RULE (none)")), ("0".into(), "4".into()));
    }

    #[test]
    fn a_window_tells_what_was_counted_lately_whatever_the_wall_clock_does() {
        const DAY: u64 = 86_400_000;
        for moved in [0, DAY, 3 * DAY] {
            let mut bench = Bench::at(2 * DAY);
            bench.call("GET k");
            bench.set_clock(moved);
            bench.advance(50_000);
            bench.call("MGET k k");
            let requests = |bench: &mut Bench| {
                ["1m", "5M", "1h"].map(|w| field_of(&bench.call(&format!("STATS WINDOW {w}")), "requests"))
            };
            assert_eq!(requests(&mut bench), ["3", "3", "3"]);
            bench.advance(20_000);
            assert_eq!(requests(&mut bench), ["2", "3", "3"]);
            bench.advance(400_000);
            assert_eq!(requests(&mut bench), ["0", "0", "3"]);
            bench.advance(3_700_000);
            assert_eq!(requests(&mut bench), ["0", "0", "0"]);
            assert_eq!((bench.stat("requests"), bench.stat("uptime_ms")), ("3".into(), "4170000".into()));
        }
    }

    #[test]
    fn counters_say_over_how_long_they_count() {
        let mut bench = Bench::at(1_000);
        let told = |bench: &mut Bench| {
            ["", " WINDOW 1m", " WINDOW 1h"]
                .map(|words| bench.call(&format!("STATS{words}")))
                .map(|map| (field_of(&map, "counting_ms"), field_of(&map, "uptime_ms")))
                .map(|(counting, uptime)| (counting.parse::<u64>().unwrap(), uptime.parse::<u64>().unwrap()))
        };
        bench.advance(7_200_000);
        let [whole, minute, hour] = told(&mut bench);
        assert_eq!(whole, (7_200_000, 7_200_000));
        assert!(
            (60_000..61_000).contains(&minute.0) && (3_600_000..3_660_000).contains(&hour.0),
            "{minute:?} {hour:?}"
        );
        bench.call("RESETSTAT");
        bench.advance(90_000);
        let [whole, minute, hour] = told(&mut bench);
        assert_eq!((whole, hour), ((90_000, 7_290_000), (90_000, 7_290_000)));
        assert!((60_000..61_000).contains(&minute.0), "{minute:?}");
    }

    #[test]
    fn a_wall_clock_that_jumps_a_day_either_way_changes_no_number() {
        const DAY: u64 = 86_400_000;
        let told = |by_ms: fn(u64) -> u64| {
            let mut bench = Bench::at(3 * DAY);
            let jump = |bench: &mut Bench| bench.set_clock(by_ms(bench.now().us() / 1_000));
            bench.call("RULE SET r MATCH r* LOCK 2");
            bench.call("SET kept v PERSIST");
            let token = bench.token("GETLOCK r1");
            bench.call_as(2, "GETLOCK r1 WAIT 9");
            bench.call("GETLOCK r2 LOCK 1");
            bench.advance(300);
            jump(&mut bench);
            bench.call("MGET kept kept nothing");
            bench.advance(400);
            bench.call(&format!("SET r1 v PERSIST TOKEN {token}"));
            bench.call("GET r1");
            let late = bench.token("GETLOCK r3");
            bench.advance(1_000);
            jump(&mut bench);
            bench.advance(5_000);
            bench.call(&format!("SET r3 v PERSIST TOKEN {late}"));
            bench.call("GET r3");
            let mut all = vec![bench.call("HOTKEYS"), bench.call("HEALTH")];
            for words in ["", "RULES", "WINDOW 1m", "RULES WINDOW 5m", "WINDOW 1h"] {
                all.push(bench.call(format!("STATS {words}").trim_end()));
            }
            bench.advance(70_000);
            jump(&mut bench);
            all.push(bench.call("STATS WINDOW 1m"));
            all
        };
        let still = told(|ms| ms);
        let names = ["hits", "misses", "leases_expired", "fills", "origin_ms", "waits_served", "wait_ms_p50"];
        assert_eq!(names.map(|name| field_of(&still[2], name)), ["5", "4", "2", "1", "700", "1", "672"]);
        assert_eq!(told(|ms| ms + DAY), still);
        assert_eq!(told(|ms| ms - DAY), still);
    }

    #[test]
    fn hits_are_worth_what_their_load_took() {
        let mut bench = Bench::at(1_000);
        bench.call("RULE SET r MATCH k*");
        let token = bench.token("GETLOCK k BETA 0");
        bench.advance(700);
        bench.call(&format!("SET k v EX 5 SWR 5 TOKEN {token}"));
        for line in ["GET k", "MGET k k", "GETLOCK k BETA 0"] {
            bench.call(line);
        }
        bench.call("STALE k");
        bench.call("GET k STALE");
        bench.call("GET k"); // a miss avoids nothing
        bench.call("SET k2 v");
        bench.call("GET k2"); // nobody knows how long that took
        let worth = |map: &str| ["origin_ms", "origin_ms_saved", "hits", "stale_hits"].map(|name| field_of(map, name));
        assert_eq!(worth(&bench.call("STATS RULE r")), ["700", "3500", "5", "1"]);
        assert_eq!(worth(&bench.call("STATS")), ["700", "3500", "5", "1"]);
    }

    #[test]
    fn a_miss_has_the_reason_for_which_the_key_is_not_there() {
        let mut bench = Bench::at(1_000);
        let why = |bench: &mut Bench| {
            ["misses_cold", "misses_expired", "misses_invalidated", "misses_evicted"].map(|name| bench.stat(name))
        };
        bench.call("MSET 4 a v b v c v d v EX 5");
        bench.evict("a");
        bench.call("MGET a a never");
        assert_eq!(why(&mut bench), ["1", "0", "0", "2"]);
        bench.call("DEL b");
        bench.call("STALE c");
        bench.call("MGET b c");
        assert_eq!(why(&mut bench), ["2", "0", "1", "2"]);
        bench.advance(5_000);
        bench.call("GET d");
        assert_eq!(why(&mut bench), ["2", "1", "1", "2"], "the server has let it expire");
        bench.call("SET a v");
        bench.call("DEL a");
        bench.call("GET a");
        assert_eq!(why(&mut bench), ["3", "1", "1", "2"], "evicted once, but then stored and deleted");
        bench.evict("b");
        bench.call("GETLOCK b");
        assert_eq!(why(&mut bench), ["3", "1", "1", "3"]);
        bench.plain_del("c");
        bench.state.stats.ghosts.invalidated(b"c"); // as the host says of what the sweep has freed
        bench.call("MGET c never");
        assert_eq!(why(&mut bench), ["4", "1", "2", "3"]);
    }

    #[test]
    fn waits_have_percentiles() {
        let mut bench = Bench::at(1_000);
        let waits = |bench: &mut Bench, of: &str| {
            let map = bench.call(&format!("STATS {of}"));
            ["waits", "wait_ms_p50", "wait_ms_p99"].map(|name| field_of(&map, name))
        };
        assert_eq!(waits(&mut bench, "RULES"), ["0", "0", "0"]);
        let token = bench.token("GETLOCK k");
        for client in 10..20 {
            bench.call_as(client, "GETLOCK k WAIT 9");
            bench.advance(if client == 10 { 600 } else { 1 });
        }
        bench.call(&format!("SET k v TOKEN {token}"));
        assert_eq!(waits(&mut bench, "RULE (none)"), ["10", "5", "608"], "to a sixteenth");
        bench.advance(100_000);
        assert_eq!(waits(&mut bench, "WINDOW 1m"), ["0", "0", "0"]);
        assert_eq!(waits(&mut bench, "WINDOW 5m"), ["10", "5", "608"]);
    }

    #[test]
    fn what_is_not_known_is_refused_and_says_what_is() {
        let mut bench = Bench::at(1_000);
        for (line, wanted) in [
            ("STATS x", "ERR syntax error near 'x'"),
            ("STATS RULE", "ERR syntax error near 'RULE'"),
            ("STATS RULE a RULES", "ERR syntax error near 'RULES'"),
            ("STATS JSON PROMETHEUS", "ERR syntax error near 'PROMETHEUS'"),
            ("STATS WINDOW", "ERR syntax error near 'WINDOW'"),
            ("STATS WINDOW 2m", "ERR invalid WINDOW '2m': say 1m, 5m or 1h"),
            ("STATS WINDOW 1m WINDOW 1m", "ERR syntax error near 'WINDOW'"),
            ("STATS RULE nosuch", "ERR there is no rule 'nosuch': SMARTCACHE.RULE LIST names those there are"),
            (
                "STATS RULE a\"\r\n\u{1}",
                "ERR there is no rule 'a\\\"\\r\\n\\x01': SMARTCACHE.RULE LIST names those there are",
            ),
        ] {
            assert_eq!(bench.refusal(line), wanted, "{line}");
        }
    }

    #[test]
    fn texts_have_what_the_map_has() {
        let mut bench = Bench::at(1_000);
        bench.call("RULE SET a.b:c_d-e MATCH k*");
        bench.call("MGET k k2 other");
        let text = |bench: &mut Bench, line: &str| {
            let answer = bench.call(line);
            answer.trim_matches('"').replace("\\\"", "\"").replace("\\n", "\n")
        };
        let json: serde_json::Value = serde_json::from_str(&text(&mut bench, "STATS JSON")).unwrap();
        assert_eq!(json["requests"], 3);
        let json: serde_json::Value = serde_json::from_str(&text(&mut bench, "stats rules json window 1H")).unwrap();
        assert_eq!((&json["a.b:c_d-e"]["misses"], &json["(none)"]["misses"]), (&2.into(), &1.into()));
        let json: serde_json::Value = serde_json::from_str(&text(&mut bench, "STATS RULE (none) JSON")).unwrap();
        assert_eq!(json["misses_cold"], 1);
        let scrape = text(&mut bench, "STATS RULES PROMETHEUS");
        for line in [
            "smartcache_misses_total{rule=\"a.b:c_d-e\"} 2",
            "smartcache_misses_total{rule=\"(none)\"} 1",
            "smartcache_errors_total 0",
            "# TYPE smartcache_hit_rate gauge",
        ] {
            assert!(scrape.lines().any(|other| other == line), "{line}\n{scrape}");
        }
        assert!(
            !scrape.lines().any(|line| line.starts_with("smartcache_misses_total ")),
            "or a sum would be twice too much"
        );
        assert!(text(&mut bench, "STATS PROMETHEUS WINDOW 1m").contains("\nsmartcache_misses{window=\"1m\"} 3\n"));
    }

    #[test]
    fn what_health_warns_of_is_in_every_scrape_of_the_node() {
        let mut bench = Bench::at(1_000);
        bench.call("RULE SET r MATCH r*");
        // How many reasons are told, and those that are given.
        let told = |bench: &mut Bench, words: &str| {
            let text =
                bench.call(format!("STATS PROMETHEUS {words}").trim_end()).replace("\\\"", "'").replace("\\n", "\n");
            let lines: Vec<_> =
                text.lines().filter_map(|line| line.strip_prefix("smartcache_health{reason='")).collect();
            let given = lines.iter().filter_map(|line| line.strip_suffix("'} 1")).map(str::to_owned);
            (lines.len(), given.collect::<Vec<_>>())
        };
        for words in ["", "RULES"] {
            assert_eq!(told(&mut bench, words), (REASONS.len(), vec![]));
        }
        (0..5).for_each(|i| drop(bench.call(&format!("SET k{i} v TOKEN bogus"))));
        for words in ["", "RULES"] {
            assert_eq!(told(&mut bench, words), (REASONS.len(), vec!["fills_refused".to_owned()]));
        }
        bench.advance(400_000);
        assert_eq!(told(&mut bench, "RULES"), (REASONS.len(), vec![]), "it is seen to end");
        for words in ["RULE r", "RULE (none)", "WINDOW 5m", "RULES WINDOW 1m"] {
            assert_eq!(told(&mut bench, words), (0, vec![]), "{words}");
        }
    }
}
