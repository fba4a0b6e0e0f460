//! The picture of `docs/numbers.md`: loads and waits over the number of callers of a cold key, drawn from the JSON.

use serde_json::Value;

use crate::{
    approaches::Approach,
    support::{
        server::Result,
        svg::{self, Line, Panel, XTick, text},
        text::thousands,
    },
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 438.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 368.0;

/// One of the two drawings.
struct Drawing {
    title: &'static str,
    /// Field of a row, and its divisor.
    number: (&'static str, f64),
    left: f64,
    right: f64,
    ticks: &'static [(f64, &'static str)],
}

const LOADS: Drawing = Drawing {
    title: "Loads of the origin",
    number: ("loads", 1.0),
    left: 64.0,
    right: 340.0,
    ticks: &[(1.0, "1"), (10.0, "10"), (100.0, "100"), (1_000.0, "1,000"), (5_000.0, "5,000")],
};

const WAITS: Drawing = Drawing {
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

fn colour(approach: Approach) -> &'static str {
    match approach {
        Approach::Unprotected => "#6b7280",
        Approach::Recipe => "#a16207",
        Approach::PollingLock => "#7c3aed",
        Approach::Dogpile => "#2563eb",
        Approach::Cashews => "#0e7490",
        Approach::Memcached => "#15803d",
        _ => "#dc2626",
    }
}

/// Draws the JSON results as SVG.
pub(crate) fn draw(results: &Value) -> Result<String> {
    let mut svg = svg::begin(
        (WIDTH, HEIGHT),
        "What many callers of one missing key cause, by approach",
        "Many callers request one missing key at once; a load takes 0.5 s",
    );
    let (mut all_answered, mut shortened) = (true, false);
    let xs = CALLERS.map(|callers| {
        let (anchor, shift) = match callers {
            // The last two labels would overlap if centred.
            1_000.0 => ("end", 12.0),
            5_000.0 => ("start", -12.0),
            _ => ("middle", 0.0),
        };
        XTick { at: callers, name: thousands(callers as usize), anchor, shift }
    });
    for drawing in [LOADS, WAITS] {
        let lines = drawing.lines(results)?;
        let highest = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
        let enough = drawing.ticks.iter().position(|tick| tick.0 >= highest).unwrap_or(drawing.ticks.len() - 1);
        shortened |= lines.iter().any(|line| line.points.len() < lines[0].points.len());
        all_answered &= lines.iter().all(|line| line.points.iter().all(|point| point.2));
        let (title, left, right, ys) = (drawing.title, drawing.left, drawing.right, &drawing.ticks[..=enough.max(2)]);
        Panel { title, left, right, top: TOP, bottom: BOTTOM, along: "callers", xs: &xs, ys }.draw(&mut svg, &lines);
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

impl Drawing {
    fn lines(&self, results: &Value) -> Result<Vec<Line>> {
        let rows = results["cold"].as_array().filter(|rows| !rows.is_empty());
        let rows = rows.ok_or("the JSON holds no callers of a cold key: run that part first")?;
        let limit = results["facts"]["limit_seconds"].as_f64().unwrap_or(40.0);
        let mut lines: Vec<Line> = Vec::new();
        for row in rows {
            let approach: Approach = serde_json::from_value(row["approach"].clone())?;
            if matches!(approach, Approach::CashewsTen | Approach::NativeWait) {
                continue; // only in the tables: its setup differs
            }
            let callers = row["callers"].as_f64().ok_or("a row without callers")?;
            // A time beyond the limit is drawn at the limit.
            let number = row[self.number.0]["median"].as_f64().map_or(limit, |number| number / self.number.1);
            let point = (callers, number, row["unanswered"]["q3"].as_f64() == Some(0.0));
            let name = row["name"].as_str().unwrap_or_default();
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => {
                    let (name, colour, ours) = (name.to_owned(), colour(approach), approach.is_ours());
                    lines.push(Line { name, colour, ours, points: vec![point] });
                }
            }
        }
        lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        Ok(lines)
    }
}
