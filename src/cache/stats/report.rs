//! The numbers of `SMARTCACHE.STATS` as text: JSON, and the format that Prometheus scrapes.
//!
//! A metric has the name of its field, after `smartcache_`; Prometheus expects seconds instead of milliseconds, and
//! `_total` behind counters. Over a window nothing only grows: there all metrics are gauges, with the window as a
//! label.
//!
//! Each reason that `SMARTCACHE.HEALTH` can report is a gauge, 0 or 1. So the series exists before a warning begins,
//! and shows when it ends. (The sentences contain numbers: each would be a series of its own.)

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::cache::stats::health::{Health, REASONS};
use crate::cache::stats::{FIELDS, Field, Number, Snapshot};

/// The numbers of the node, or of one rule.
#[derive(Debug)]
pub struct Section<'r> {
    /// The rule's name; `None` for the node.
    pub rule: Option<&'r str>,
    /// The numbers.
    pub numbers: Snapshot,
}

/// The fields of a section; that of a rule has no fields of the node.
pub fn fields(of_rule: bool) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |field| !of_rule || !field.kind.is_of_node())
}

/// One object; with `by_rule` an object of such objects by rule name.
pub fn json(sections: &[Section<'_>], by_rule: bool) -> String {
    let object = |section: &Section<'_>| {
        let number = |field: &Field| match (field.read)(&section.numbers) {
            Number::Whole(n) => Value::from(n),
            Number::Fraction(x) => Value::from(x),
        };
        Value::from_iter(fields(section.rule.is_some()).map(|field| (field.name, number(field))))
    };
    let value = match sections {
        [one] if !by_rule => object(one),
        rules => Value::Object(Map::from_iter(
            rules.iter().filter_map(|section| Some((section.rule?.to_owned(), object(section)))),
        )),
    };
    value.to_string()
}

/// The text format of Prometheus, version 0.0.4: for each metric its help, its type, and a line for each section.
/// Fields of the node have no rule. Health has no window label: it has a window of its own.
pub fn prometheus(sections: &[Section<'_>], window: Option<&str>, health: Option<&Health>) -> String {
    let mut text = String::new();
    let by_rule = sections.iter().any(|section| section.rule.is_some());
    for field in FIELDS {
        // The node's number beside those of its rules would double every sum.
        let of_node = field.kind.is_of_node() || !by_rule;
        let mut lines = sections.iter().filter(|section| section.rule.is_none() == of_node).peekable();
        if lines.peek().is_none() {
            continue;
        }
        let grows = field.kind.grows() && window.is_none();
        let (name, scale) = metric(field.name, grows);
        write_line(&mut text, format_args!("# HELP {name} {}", escaped(&help(field.means, scale), false)));
        write_line(&mut text, format_args!("# TYPE {name} {}", if grows { "counter" } else { "gauge" }));
        for section in lines {
            let rule = section.rule.map(|rule| format!("rule=\"{}\"", escaped(rule, true)));
            let window = window.map(|window| format!("window=\"{window}\""));
            let labels: Vec<_> = rule.into_iter().chain(window).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            match (field.read)(&section.numbers) {
                Number::Whole(n) if scale == 1.0 => write_line(&mut text, format_args!("{name}{labels} {n}")),
                Number::Whole(n) => write_line(&mut text, format_args!("{name}{labels} {}", n as f64 / scale)),
                Number::Fraction(x) => write_line(&mut text, format_args!("{name}{labels} {x}")),
            }
        }
    }
    if let Some(health) = health {
        write_line(&mut text, format_args!("# HELP {HEALTH} 1 while SMARTCACHE.HEALTH gives this reason, else 0."));
        write_line(&mut text, format_args!("# TYPE {HEALTH} gauge"));
        for (code, ..) in REASONS {
            let given = u8::from(health.has_reason(code));
            write_line(&mut text, format_args!("{HEALTH}{{reason=\"{code}\"}} {given}"));
        }
    }
    text
}

/// The metric of health, with the reason as a label.
const HEALTH: &str = "smartcache_health";

/// The name of a field's metric, and the divisor of its number.
fn metric(field: &str, grows: bool) -> (String, f64) {
    let name = field.replace("_ms", "_seconds").replace("_per_sec", "_per_second");
    let scale = if field.contains("_ms") { 1_000.0 } else { 1.0 };
    (format!("smartcache_{name}{}", if grows { "_total" } else { "" }), scale)
}

/// A definition, in the unit that is shown.
fn help(means: &str, scale: f64) -> String {
    if scale == 1.0 { means.to_owned() } else { means.replacen("Milliseconds", "Seconds", 1) }
}

/// Text escaped for HELP, or for a quoted label.
fn escaped(text: &str, quoted: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::stats::Scope;
    use crate::testing::TestNode;

    /// A name that no rule can have; labels must escape it all the same.
    const STRANGE: &str = "a\"b\\c\nd\re\u{1}é{}#";

    fn sections(rules: &[Option<&'static str>]) -> Vec<Section<'static>> {
        let mut node = TestNode::at(1_000);
        node.call("GET k");
        let now = node.now();
        let one =
            |rule: &Option<&'static str>| Section { rule: *rule, numbers: node.state.snapshot(Scope::Node, None, now) };
        rules.iter().map(one).collect()
    }

    /// The name, labels and number of a line, parsed by the grammar of the format.
    fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let (mut labels, mut rest) = (Vec::new(), rest);
        while let Some(label) = rest.strip_prefix(['{', ',']) {
            let (key, quoted) = label.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), quoted.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c => c,
                    }),
                    (_, c) => value.push(c),
                }
            };
            labels.push((key.to_owned(), value));
            rest = &quoted[end + 1..];
        }
        (name.to_owned(), labels, rest.trim_start_matches('}').strip_prefix(' ').unwrap().parse().unwrap())
    }

    #[test]
    fn strange_names_survive_both_formats() {
        let rules = sections(&[Some(STRANGE), Some("plain")]);
        let parsed: Value = serde_json::from_str(&json(&rules, true)).unwrap();
        assert_eq!(parsed.as_object().unwrap().keys().collect::<Vec<_>>(), [STRANGE, "plain"]);
        let text = prometheus(&rules, Some("5m"), None);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        assert_eq!(samples.len(), 2 * fields(true).count());
        for (at, (name, labels, number)) in samples.iter().enumerate() {
            let rule = if at % 2 == 0 { STRANGE } else { "plain" };
            assert_eq!(labels[..], [("rule".into(), rule.into()), ("window".into(), "5m".into())]);
            assert!(name.starts_with("smartcache_") && !name.ends_with("_total") && number.is_finite());
        }
    }

    #[test]
    fn each_metric_has_its_help_type_and_lines_together() {
        let text = prometheus(&sections(&[None, Some("r")]), None, None);
        let mut lines = text.lines().peekable();
        for field in FIELDS {
            let (name, _) = metric(field.name, field.kind.grows());
            assert!(lines.next().unwrap().starts_with(&format!("# HELP {name} ")));
            let kind = lines.next().unwrap().rsplit(' ').next().unwrap();
            assert_eq!((kind == "counter", name.ends_with("_total")), (field.kind.grows(), field.kind.grows()));
            let line = lines.next().unwrap();
            assert!(line.starts_with(&name) && line.contains("rule=") != field.kind.is_of_node(), "{line}");
        }
        assert!(lines.next().is_none() && text.ends_with('\n'));
        for line in ["smartcache_requests_total{rule=\"r\"} 1", "smartcache_uptime_seconds 0"] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains("Milliseconds") && !text.contains("_ms"), "{text}");
    }

    #[test]
    fn each_possible_reason_is_a_gauge_of_0_or_1() {
        let mut node = TestNode::at(1_000);
        let now = node.now();
        for panics in [0, 2] {
            node.state.stats.at(now).node().panics += panics;
            let health = node.state.health(&node.server, now);
            let text = prometheus(&[], None, Some(&health));
            assert!(
                text.starts_with("# HELP smartcache_health ") && text.contains("\n# TYPE smartcache_health gauge\n")
            );
            let samples: Vec<_> = text.lines().skip(2).map(sample).collect();
            let given = |code| if code == "panics" && panics > 0 { 1.0 } else { 0.0 };
            let wanted = REASONS
                .iter()
                .map(|(code, ..)| (HEALTH.to_owned(), vec![("reason".to_owned(), (*code).to_owned())], given(*code)));
            assert_eq!(samples, wanted.collect::<Vec<_>>());
        }
    }

    #[test]
    fn json_has_the_numbers_of_the_map() {
        let one = &sections(&[None]);
        let parsed: Map<String, Value> = serde_json::from_str(&json(one, false)).unwrap();
        assert!(parsed.keys().eq(FIELDS.iter().map(|field| field.name)));
        assert_eq!((parsed["requests"].as_u64(), parsed["hit_rate"].as_f64()), (Some(1), Some(0.0)));
    }
}
