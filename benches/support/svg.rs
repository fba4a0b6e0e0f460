//! Pictures for the README: plain SVG, written by hand. Panels of lines, each with its name at its end, do not need a
//! library. The ground is a fixed light one, because GitHub shows a picture on its own theme's ground and says nothing
//! about it to the picture.

use std::fmt::Write;

/// The ground, and the headline on it.
pub(crate) fn begin((width, height): (f64, f64), title: &str, headline: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#1f2937\">\n\
         <title>{title}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#fcfcfd\" stroke=\"#d1d5db\"/>\n"
    );
    text(&mut svg, 24.0, 34.0, "font-size=\"17\" font-weight=\"600\"", headline);
    svg
}

pub(crate) fn text(svg: &mut String, x: f64, y: f64, how: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{what}</text>");
}

pub(crate) fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, stroke: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{stroke}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A line through some points.
pub(crate) fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, stroke: &str) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{stroke}\" stroke-linejoin=\"round\"/>",
        points.join(" ")
    );
}

/// A point, filled or hollow.
pub(crate) fn dot(svg: &mut String, (x, y): (f64, f64), colour: &str, filled: bool) {
    let fill = if filled { colour } else { "#fcfcfd" };
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
    );
}

/// Heights for names beside `ends`, which come in order: `apart` at least, and none below `lowest`.
pub(crate) fn pushed_apart(ends: &[f64], apart: f64, lowest: f64) -> Vec<f64> {
    let mut places = ends.to_vec();
    for n in 1..places.len() {
        places[n] = places[n].max(places[n - 1] + apart);
    }
    // What was pushed below the ground moves up again, with those above it.
    let mut lowest = lowest;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - apart;
    }
    places
}
