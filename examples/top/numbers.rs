//! Computes rows (rates, percentages, bytes) from two snapshots, and formats numbers.

use crate::snapshot::{Numbers, Snapshot, Span};

impl Numbers {
    fn counts(&self) -> Counts {
        Counts(COUNTED.map(|name| self.of(name)))
    }
}

/// The counters of `STATS` that rows use.
const COUNTED: [&str; 10] = [
    "requests",
    "hits",
    "stale_hits",
    "absent_hits",
    "misses_cold",
    "misses_expired",
    "misses_invalidated",
    "misses_evicted",
    "busy",
    "origin_ms_saved",
];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts([f64; COUNTED.len()]);

impl Counts {
    fn of(&self, name: &str) -> f64 {
        COUNTED.iter().position(|counted| *counted == name).map_or(0.0, |at| self.0[at])
    }

    fn and(mut self, other: &Counts) -> Counts {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
        self
    }

    /// The increase since `before`; the whole count if a counter has decreased, that is, was reset meanwhile.
    fn since(mut self, before: &Counts) -> Counts {
        if !self.is_before(before) {
            self.0.iter_mut().zip(before.0).for_each(|(a, b)| *a -= b);
        }
        self
    }

    fn is_before(&self, other: &Counts) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| *a < b)
    }
}

/// The row of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// `None` before the second poll.
    pub(crate) traffic: Option<Traffic>,
    pub(crate) entries: f64,
    pub(crate) memory_bytes: f64,
    pub(crate) ratio: f64,
}

/// The requests of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) per_second: f64,
    /// Milliseconds of load time avoided per second.
    pub(crate) saved_per_second: f64,
    /// In percent of the requests: hit, cold, expired, invalidated, evicted, busy. `None` without requests.
    pub(crate) shares: Option<[f64; 6]>,
}

impl Traffic {
    /// Misses per second.
    pub(crate) fn misses(&self) -> f64 {
        self.shares.map_or(0.0, |[_, cold, expired, invalidated, evicted, _]| {
            self.per_second * (cold + expired + invalidated + evicted) / 100.0
        })
    }

    fn of(counts: Counts, per_second: f64) -> Self {
        let requests = counts.of("requests");
        let percent = |names: &[&str]| 100.0 * names.iter().map(|name| counts.of(name)).sum::<f64>() / requests;
        Traffic {
            per_second,
            saved_per_second: if requests == 0.0 { 0.0 } else { counts.of("origin_ms_saved") * per_second / requests },
            shares: (requests > 0.0).then(|| {
                [
                    percent(&["hits", "stale_hits", "absent_hits"]),
                    percent(&["misses_cold"]),
                    percent(&["misses_expired"]),
                    percent(&["misses_invalidated"]),
                    percent(&["misses_evicted"]),
                    percent(&["busy"]),
                ]
            }),
        }
    }
}

/// The row of the node and the rows of its rules.
pub(crate) fn rows(before: Option<&Snapshot>, snapshot: &Snapshot) -> (Row, Vec<Row>) {
    let row = |name: &str, numbers: &Numbers, traffic: Option<Traffic>| Row {
        name: name.to_owned(),
        traffic,
        entries: numbers.of("entries"),
        memory_bytes: numbers.of("stored_bytes") + numbers.of("overhead_bytes"),
        ratio: numbers.of("compression_ratio"),
    };
    if snapshot.span != Span::Now {
        let of_window = |name: &str, numbers: &Numbers| {
            row(name, numbers, Some(Traffic::of(numbers.counts(), numbers.of("requests_per_sec"))))
        };
        return (
            of_window(ALL, &snapshot.whole),
            snapshot.rules.iter().map(|(name, numbers)| of_window(name, numbers)).collect(),
        );
    }
    let Some(before) = before else {
        let without_rates = |name: &str, numbers: &Numbers| row(name, numbers, None);
        return (
            without_rates(ALL, &snapshot.whole),
            snapshot.rules.iter().map(|(name, numbers)| without_rates(name, numbers)).collect(),
        );
    };
    let seconds = seconds(before, snapshot);
    let per_second = |counts: Counts| Some(Traffic::of(counts, counts.of("requests") / seconds));
    let now = |name: &str| snapshot.rules.iter().find(|(other, _)| other == name).map(|(_, numbers)| numbers.counts());
    // The server adds the counters of a deleted rule to those of the keys without a rule.
    let gone = before
        .rules
        .iter()
        .filter(|(name, numbers)| name != NO_RULE && now(name).is_none_or(|now| now.is_before(&numbers.counts())))
        .fold(Counts::default(), |gone, (_, numbers)| gone.and(&numbers.counts()));
    let of_rule = |(name, numbers): &(String, Numbers)| {
        let then = before.rules.iter().find(|(other, _)| other == name).map(|(_, numbers)| numbers.counts());
        let then = if name == NO_RULE { then.map(|then| then.and(&gone)) } else { then };
        row(name, numbers, per_second(numbers.counts().since(&then.unwrap_or_default())))
    };
    let whole = per_second(snapshot.whole.counts().since(&before.whole.counts()));
    (row(ALL, &snapshot.whole, whole), snapshot.rules.iter().map(of_rule).collect())
}

/// The name of the first row, and the server's name for the keys without a rule. No rule can have them.
pub(crate) const ALL: &str = "(all)";
const NO_RULE: &str = "(none)";

/// Seconds between two snapshots by the server's clock; after a restart, since then.
fn seconds(before: &Snapshot, snapshot: &Snapshot) -> f64 {
    let [then, now] = [before, snapshot].map(|snapshot| snapshot.whole.of("uptime_ms"));
    (if now < then { now } else { now - then }).max(1.0) / 1_000.0
}

/// A number in at most five characters: `0 0.4 7.5 123 12.3k 4.5M`.
pub(crate) fn short(x: f64) -> String {
    scaled(x, 1_000.0, &["", "k", "M", "G", "T", "P"])
}

/// Bytes likewise: `512 1.5K 64M`.
pub(crate) fn bytes(x: f64) -> String {
    scaled(x, 1_024.0, &["", "K", "M", "G", "T", "P"])
}

fn scaled(x: f64, step: f64, units: &[&str]) -> String {
    let (mut x, mut unit) = (x, 0);
    // A number that rounds up to the next unit is shown in it.
    while x >= step - 0.5 && unit + 1 < units.len() {
        (x, unit) = (x / step, unit + 1);
    }
    let digits = if x >= 99.95 || x == 0.0 || unit == 0 && x == x.trunc() { 0 } else { 1 };
    format!("{x:.digits$}{}", units[unit])
}

/// Milliseconds: `0 340ms 3.4s 5.0m 2.5h 3.1d`.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        0.0 => "0".to_owned(),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        ms if ms < 59_950.0 => format!("{:.1}s", ms / 1_000.0),
        ms if ms < 3_597_000.0 => format!("{:.1}m", ms / 60_000.0),
        ms if ms < 86_328_000.0 => format!("{:.1}h", ms / 3_600_000.0),
        ms => format!("{:.1}d", ms / 86_400_000.0),
    }
}

/// A percentage in at most five characters. Only exact 0 and 100 are shown as such.
pub(crate) fn percent(x: f64) -> String {
    match x {
        0.0 => "0".to_owned(),
        x if x < 0.05 => "<0.1".to_owned(),
        x if x < 99.95 => format!("{x:.1}"),
        x if x < 100.0 => ">99.9".to_owned(),
        _ => "100".to_owned(),
    }
}

/// The name of a key for a line of a terminal: escapes bytes that are not UTF-8, control characters, and characters
/// that change the writing direction.
pub(crate) fn printable(name: &[u8]) -> String {
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\'' => out.push(c),
                c => out.extend(c.escape_debug()),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::snapshot::ServerInfo;

    /// The numbers of a node or rule: counters by name, the rest 0.
    pub(crate) fn numbers(fields: Value) -> Numbers {
        let Value::Object(map) = fields else { panic!("an object was expected") };
        Numbers(map)
    }

    /// A snapshot at `uptime_ms`; the node's numbers are the sum of the rules.
    pub(crate) fn snapshot(span: Span, uptime_ms: u64, rules: &[(&str, Value)]) -> Snapshot {
        let mut whole = Map::new();
        for (_, fields) in rules {
            for (name, n) in fields.as_object().unwrap() {
                let sum = whole.get(name).and_then(Value::as_f64).unwrap_or(0.0) + n.as_f64().unwrap();
                whole.insert(name.clone(), sum.into());
            }
        }
        whole.insert("uptime_ms".into(), uptime_ms.into());
        Snapshot {
            span,
            whole: Numbers(whole),
            rules: rules.iter().map(|(name, fields)| ((*name).to_owned(), numbers(fields.clone()))).collect(),
            hot: Ok(Vec::new()),
            health: None,
            server: ServerInfo::default(),
        }
    }

    fn rates(rows: &[Row]) -> Vec<(&str, f64)> {
        rows.iter().map(|row| (&row.name[..], row.traffic.as_ref().unwrap().per_second)).collect()
    }

    #[test]
    fn the_increase_between_two_polls_is_shown_per_second() {
        let then = json!({"requests": 100, "hits": 90, "misses_cold": 10, "origin_ms_saved": 5000});
        let now = json!({"requests": 500, "hits": 390, "misses_cold": 20, "misses_evicted": 80, "busy": 10, "origin_ms_saved": 9000, "stored_bytes": 1000, "overhead_bytes": 24});
        let (all, rows) = rows(
            Some(&snapshot(Span::Now, 10_000, &[("r", then)])),
            &snapshot(Span::Now, 12_000, &[("r", now), ("(none)", json!({}))]),
        );
        let traffic = rows[0].traffic.as_ref().unwrap();
        assert_eq!((traffic.per_second, traffic.saved_per_second), (200.0, 2_000.0));
        assert_eq!(traffic.shares, Some([75.0, 2.5, 0.0, 0.0, 20.0, 2.5]));
        assert_eq!(traffic.misses(), 45.0);
        assert_eq!(rows[0].memory_bytes, 1_024.0);
        assert_eq!(all.traffic, rows[0].traffic);
        assert_eq!(rows[1].traffic, Some(Traffic::default()), "no requests");
    }

    #[test]
    fn the_first_poll_has_no_rates() {
        let (all, rows) = rows(None, &snapshot(Span::Now, 10_000, &[("r", json!({"requests": 5, "entries": 3}))]));
        assert_eq!((&all.traffic, &rows[0].traffic, rows[0].entries), (&None, &None, 3.0));
    }

    #[test]
    fn the_numbers_of_a_window_are_the_servers() {
        let fields =
            json!({"requests": 60, "hits": 30, "misses_expired": 30, "requests_per_sec": 2.0, "origin_ms_saved": 600});
        let (all, rows) = rows(None, &snapshot(Span::Minute, 10_000, &[("r", fields)]));
        let traffic = all.traffic.unwrap();
        assert_eq!((traffic.per_second, traffic.saved_per_second), (2.0, 20.0));
        assert_eq!(rows[0].traffic.as_ref().unwrap().shares, Some([50.0, 0.0, 50.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn a_reset_and_a_restart_never_give_negative_rates() {
        let then = snapshot(Span::Now, 100_000, &[("r", json!({"requests": 1000, "hits": 1000}))]);
        let reset = snapshot(Span::Now, 101_000, &[("r", json!({"requests": 30, "hits": 30}))]);
        assert_eq!(rates(&rows(Some(&then), &reset).1), [("r", 30.0)]);
        let restarted = snapshot(Span::Now, 500, &[("r", json!({"requests": 30, "hits": 30}))]);
        assert_eq!(rates(&rows(Some(&then), &restarted).1), [("r", 60.0)]);
    }

    #[test]
    fn deleting_a_rule_does_not_raise_the_rate_of_the_keys_without_a_rule() {
        let then = snapshot(Span::Now, 1_000, &[("r", json!({"requests": 1000})), ("(none)", json!({"requests": 10}))]);
        let gone = snapshot(Span::Now, 2_000, &[("(none)", json!({"requests": 1015}))]);
        assert_eq!(rates(&rows(Some(&then), &gone).1), [("(none)", 5.0)]);
        let recreated =
            snapshot(Span::Now, 2_000, &[("r", json!({"requests": 4})), ("(none)", json!({"requests": 1015}))]);
        assert_eq!(rates(&rows(Some(&then), &recreated).1), [("r", 4.0), ("(none)", 5.0)]);
    }

    #[test]
    fn numbers_are_short_and_keep_their_leading_digits() {
        let shorts = [0.0, 0.25, 7.0, 7.5, 123.4, 999.4, 999.6, 12_345.0, 999_960.0, 4_500_000.0].map(short);
        assert_eq!(shorts, ["0", "0.2", "7", "7.5", "123", "999", "1.0k", "12.3k", "1.0M", "4.5M"]);
        assert_eq!([0.0, 512.0, 1_536.0, 64.0 * 1_048_576.0].map(bytes), ["0", "512", "1.5K", "64.0M"]);
        let durations = [0.0, 340.0, 3_400.0, 59_980.0, 300_000.0, 9_000_000.0, 267_840_000.0].map(duration);
        assert_eq!(durations, ["0", "340ms", "3.4s", "1.0m", "5.0m", "2.5h", "3.1d"]);
        assert_eq!([0.0, 0.01, 97.34, 99.96, 100.0].map(percent), ["0", "<0.1", "97.3", ">99.9", "100"]);
    }

    #[test]
    fn names_of_any_bytes_stay_on_one_line() {
        assert_eq!(printable("user:42 é 日 \"x'".as_bytes()), "user:42 é 日 \"x'");
        assert_eq!(printable(b"a\xff\x00b\r\n\x1b[31m\\"), "a\\xff\\0b\\r\\n\\u{1b}[31m\\\\");
        assert_eq!(printable("x\u{202e}y".as_bytes()), "x\\u{202e}y", "it would reverse the writing direction");
    }
}
