//! The picture for the README: loads and waits over the number of callers of a cold key, drawn from the JSON.

use serde_json::Value;

use crate::{
    approaches::Approach,
    support::{
        server::Result,
        svg::{self, rule, text},
        text::thousands,
    },
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 438.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 368.0;
/// The names of the lines stand this far apart at least.
const NAME_HEIGHT: f64 = 16.0;

/// One of the two drawings.
struct Panel {
    title: &'static str,
    /// Which number of a row, and what to divide it by.
    number: (&'static str, f64),
    left: f64,
    right: f64,
    ticks: &'static [(f64, &'static str)],
}

const LOADS: Panel = Panel {
    title: "Loads of the origin",
    number: ("loads", 1.0),
    left: 64.0,
    right: 340.0,
    ticks: &[(1.0, "1"), (10.0, "10"), (100.0, "100"), (1_000.0, "1,000"), (5_000.0, "5,000")],
};

const WAITS: Panel = Panel {
    title: "Time until 99 % of the callers have the value",
    number: ("p99_ms", 1_000.0),
    left: 544.0,
    right: 812.0,
    ticks: &[
        (0.4, ""),
        (0.5, "0.5 s"),
        (1.0, "1 s"),
        (2.0, "2 s"),
        (5.0, "5 s"),
        (10.0, "10 s"),
        (20.0, "20 s"),
        (40.0, "40 s"),
    ],
};

const CALLERS: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 5_000.0];

/// Colour and stroke of a line. Ours is drawn last, over the others.
fn style(approach: Approach) -> (&'static str, &'static str) {
    match approach {
        Approach::Unprotected => ("#6b7280", "1.8"),
        Approach::Recipe => ("#a16207", "1.8"),
        Approach::PollingLock => ("#7c3aed", "1.8"),
        Approach::Dogpile => ("#2563eb", "1.8"),
        Approach::Cashews => ("#0e7490", "1.8"),
        Approach::Memcached => ("#15803d", "1.8"),
        _ => ("#dc2626", "3.5"),
    }
}

/// One approach in one panel.
struct Line {
    approach: Approach,
    name: String,
    /// Callers, the number, and whether all of them had an answer.
    points: Vec<(f64, f64, bool)>,
}

/// The SVG of what the bench wrote as JSON.
pub(crate) fn draw(results: &Value) -> Result<String> {
    let mut svg = svg::begin(
        (WIDTH, HEIGHT),
        "What many callers of one missing key cause, by approach",
        "Many callers ask for one missing key at once; a load takes 0.5 s",
    );
    let (mut all_answered, mut shortened) = (true, false);
    for mut panel in [LOADS, WAITS] {
        let lines = panel.lines(results)?;
        let highest = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
        let enough = panel.ticks.iter().position(|tick| tick.0 >= highest).unwrap_or(panel.ticks.len() - 1);
        panel.ticks = &panel.ticks[..=enough.max(2)];
        shortened |= lines.iter().any(|line| line.points.len() < lines[0].points.len());
        all_answered &= lines.iter().all(|line| line.points.iter().all(|point| point.2));
        panel.draw(&mut svg, &lines);
    }
    let fact = |name: &str| results["facts"][name].as_str().unwrap_or_default().to_owned();
    let server = fact("server");
    let mut note = format!(
        "make bench-stampede, {}; {}; memcached {}; medians of {} rounds",
        fact("date"),
        server.split(',').next().unwrap_or_default(),
        fact("memcached"),
        results["facts"]["rounds"],
    );
    if shortened {
        note += "; dotted: Python was the limit there";
    }
    if !all_answered {
        note += "; hollow: not all had an answer after 40 s";
    }
    text(&mut svg, 24.0, HEIGHT - 14.0, "font-size=\"11\" fill=\"#6b7280\"", &note);
    svg.push_str("</svg>\n");
    Ok(svg)
}

impl Panel {
    fn lines(&self, results: &Value) -> Result<Vec<Line>> {
        let rows = results["cold"].as_array().filter(|rows| !rows.is_empty());
        let rows = rows.ok_or("the JSON holds no callers of a cold key: run that part first")?;
        let limit = results["facts"]["limit_seconds"].as_f64().unwrap_or(40.0);
        let mut lines: Vec<Line> = Vec::new();
        for row in rows {
            let approach: Approach = serde_json::from_value(row["approach"].clone())?;
            if approach == Approach::CashewsTen {
                continue; // is for the tables: it answers another question
            }
            let callers = row["callers"].as_f64().ok_or("a row without callers")?;
            // A time that was too long to be seen is as long as we looked.
            let number = row[self.number.0]["median"].as_f64().map_or(limit, |number| number / self.number.1);
            let point = (callers, number, row["unanswered"]["q3"].as_f64() == Some(0.0));
            match lines.iter_mut().find(|line| line.approach == approach) {
                Some(line) => line.points.push(point),
                None => {
                    let name = row["name"].as_str().unwrap_or_default().to_owned();
                    lines.push(Line { approach, name, points: vec![point] });
                }
            }
        }
        lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        Ok(lines)
    }

    fn x(&self, callers: f64) -> f64 {
        self.left + (self.right - self.left) * callers.ln() / CALLERS[CALLERS.len() - 1].ln()
    }

    fn y(&self, number: f64) -> f64 {
        let (low, high) = (self.ticks[0].0.ln(), self.ticks[self.ticks.len() - 1].0.ln());
        BOTTOM - (BOTTOM - TOP) * ((number.ln() - low) / (high - low)).min(1.0)
    }

    fn draw(&self, svg: &mut String, lines: &[Line]) {
        text(svg, self.left - 40.0, TOP - 22.0, "font-size=\"13\" font-weight=\"600\"", self.title);
        for &(number, name) in self.ticks.iter().filter(|tick| !tick.1.is_empty()) {
            let y = self.y(number);
            rule(svg, (self.left, y), (self.right, y), "#e5e7eb", "1");
            text(svg, self.left - 8.0, y + 4.0, "text-anchor=\"end\" fill=\"#6b7280\"", name);
        }
        for callers in CALLERS {
            let name = thousands(callers as usize);
            rule(svg, (self.x(callers), BOTTOM), (self.x(callers), BOTTOM + 4.0), "#9ca3af", "1");
            // The last two stand too close for both names in full.
            let anchor = if callers == 1_000.0 {
                "end"
            } else if callers > 1_000.0 {
                "start"
            } else {
                "middle"
            };
            let x = self.x(callers)
                + if callers == 1_000.0 {
                    12.0
                } else if callers > 1_000.0 {
                    -12.0
                } else {
                    0.0
                };
            text(svg, x, BOTTOM + 18.0, &format!("text-anchor=\"{anchor}\" fill=\"#6b7280\""), &name);
        }
        rule(svg, (self.left, BOTTOM), (self.right, BOTTOM), "#9ca3af", "1");
        text(svg, (self.left + self.right) / 2.0, BOTTOM + 35.0, "text-anchor=\"middle\" fill=\"#6b7280\"", "callers");

        for line in lines {
            let (colour, stroke) = style(line.approach);
            let at = |&(x, y, _): &(f64, f64, bool)| (self.x(x), self.y(y));
            svg::line(svg, &line.points.iter().map(at).collect::<Vec<_>>(), colour, stroke);
            for point in &line.points {
                svg::dot(svg, at(point), colour, point.2);
            }
        }
        self.name(svg, lines);
    }

    /// Puts each line's name beside its end, pushed apart where ends lie together.
    fn name(&self, svg: &mut String, lines: &[Line]) {
        let mut names: Vec<(&Line, f64)> = Vec::new(); // the line, and its end's height
        for line in lines {
            if let Some(&(_, number, _)) = line.points.last() {
                names.push((line, self.y(number)));
            }
        }
        // Where ends are at one height, ours comes first.
        names.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.0.approach.is_ours().cmp(&a.0.approach.is_ours())));
        let ends: Vec<f64> = names.iter().map(|name| name.1).collect();
        let places = svg::pushed_apart(&ends, NAME_HEIGHT, BOTTOM + 2.0);
        for ((line, end), at) in names.into_iter().zip(places) {
            let (colour, _) = style(line.approach);
            let last = line.points.last().map_or(self.right, |point| self.x(point.0));
            if last < self.right {
                rule(svg, (last + 5.0, end), (self.right, end), colour, "0.8\" stroke-dasharray=\"1 4");
            }
            rule(svg, (self.right + 5.0, end), (self.right + 22.0, at), colour, "0.8");
            let weight = if line.approach.is_ours() { "font-weight=\"700\"" } else { "" };
            text(svg, self.right + 26.0, at + 4.0, &format!("fill=\"{colour}\" {weight}"), &line.name);
        }
    }
}
