//! The picture of `docs/numbers.md`: time until nothing is served, and longest wait of others, over the number of keys.

use serde_json::Value;

use crate::{
    approaches::Approach,
    support::{
        server::Result,
        svg::{self, Line, Panel, XTick, text},
        text::thousands,
    },
};

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 438.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 368.0;

const MS: [(f64, &str); 7] = [
    (0.1, "0.1 ms"),
    (1.0, "1 ms"),
    (10.0, "10 ms"),
    (100.0, "0.1 s"),
    (1_000.0, "1 s"),
    (10_000.0, "10 s"),
    (100_000.0, "100 s"),
];

/// Field of a row, title, left and right edge.
const PANELS: [(&str, &str, f64, f64); 2] = [
    ("effective_ms", "Until nothing of the group is served as fresh", 72.0, 310.0),
    ("longest_ping_ms", "Longest wait of another client, until the memory is freed", 572.0, 810.0),
];

fn colour(approach: Approach) -> &'static str {
    match approach {
        Approach::KeysDel => "#6b7280",
        Approach::LuaKeysDel => "#a16207",
        Approach::ScanUnlink => "#7c3aed",
        Approach::TagSets => "#2563eb",
        Approach::Flushdb => "#0e7490",
        Approach::Tags => "#dc2626",
        Approach::Prefixes => "#ea580c",
        Approach::Patterns => "#db2777",
        Approach::All => "#f59e0b",
    }
}

/// Draws the JSON results as SVG.
pub(crate) fn draw(results: &Value) -> Result<String> {
    let rows = results["compare"].as_array().filter(|rows| !rows.is_empty());
    let rows = rows.ok_or("the JSON holds no comparison: run that part first")?;
    let mut keys: Vec<u64> = rows.iter().filter_map(|row| row["keys"].as_u64()).collect();
    keys.dedup();
    if keys.len() < 2 {
        return Err("a line needs at least two numbers of keys".into());
    }
    let tick = |&n: &u64| XTick { at: n as f64, name: thousands(n as usize), anchor: "middle", shift: 0.0 };
    let xs: Vec<XTick> = keys.iter().map(tick).collect();

    let share = results["facts"]["share"].as_f64().unwrap_or(1.0);
    let all = if share < 1.0 { format!("{:.0} % of the keys", 100.0 * share) } else { "all keys".to_owned() };
    let mut svg = svg::begin(
        (WIDTH, HEIGHT),
        "What it takes to invalidate many keys, by approach",
        &format!("One invalidation of {all}"),
    );
    for (number, title, left, right) in PANELS {
        let mut lines: Vec<Line> = Vec::new();
        for row in rows {
            let approach: Approach = serde_json::from_value(row["approach"].clone())?;
            let Some(median) = row[number]["median"].as_f64() else { continue };
            let point = (row["keys"].as_f64().ok_or("a row without keys")?, median, true);
            let name = row["name"].as_str().unwrap_or_default();
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => {
                    let (name, colour, ours) = (name.to_owned(), colour(approach), approach.is_ours());
                    lines.push(Line { name, colour, ours, points: vec![point] });
                }
            }
        }
        lines.sort_by_key(|line| line.ours);
        let all = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        let last = MS.iter().position(|tick| tick.0 >= most).unwrap_or(MS.len() - 1);
        let first = MS.iter().rposition(|tick| tick.0 <= least).unwrap_or(0).min(last.saturating_sub(1));
        let ys = &MS[first..=last];
        Panel { title, left, right, top: TOP, bottom: BOTTOM, along: "keys", xs: &xs, ys }.draw(&mut svg, &lines);
    }
    let server = results["facts"]["server"].as_str().unwrap_or_default();
    let note = format!(
        "make bench-invalidation, {}; {}; values of {} bytes; medians of {} rounds",
        results["facts"]["date"].as_str().unwrap_or_default(),
        server.split(',').next().unwrap_or_default(),
        results["facts"]["value_bytes"],
        results["facts"]["rounds"],
    );
    text(&mut svg, 24.0, HEIGHT - 14.0, "font-size=\"11\" fill=\"#6b7280\"", &note);
    svg.push_str("</svg>\n");
    Ok(svg)
}
