//! Line charts as plain SVG for the docs, without a library. The background is always light, because an SVG on GitHub
//! does not know the theme of the page.

use std::fmt::Write;

/// Minimum distance between the names of lines.
const NAME_HEIGHT: f64 = 16.0;

/// A chart of lines; both axes are logarithmic, and begin and end with a tick.
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
    /// Label of the horizontal axis.
    pub(crate) along: &'a str,
    pub(crate) xs: &'a [XTick],
    /// Ticks of the vertical axis; those without a name have no grid line.
    pub(crate) ys: &'a [(f64, &'a str)],
}

/// A tick of the horizontal axis, and the alignment of its name.
pub(crate) struct XTick {
    pub(crate) at: f64,
    pub(crate) name: String,
    pub(crate) anchor: &'static str,
    pub(crate) shift: f64,
}

/// A line with its name and style.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    /// Drawn in bold, with its name.
    pub(crate) ours: bool,
    /// x, y, and whether the point is filled.
    pub(crate) points: Vec<(f64, f64, bool)>,
}

impl Panel<'_> {
    fn x(&self, at: f64) -> f64 {
        let (low, high) = (self.xs[0].at.ln(), self.xs[self.xs.len() - 1].at.ln());
        self.left + (self.right - self.left) * (at.ln() - low) / (high - low)
    }

    fn y(&self, at: f64) -> f64 {
        let (low, high) = (self.ys[0].0.ln(), self.ys[self.ys.len() - 1].0.ln());
        self.bottom - (self.bottom - self.top) * ((at.ln() - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// Draws the chart; later lines are drawn over earlier ones.
    pub(crate) fn draw(&self, svg: &mut String, lines: &[Line]) {
        text(svg, self.left - 40.0, self.top - 22.0, "font-size=\"13\" font-weight=\"600\"", self.title);
        for &(number, name) in self.ys.iter().filter(|tick| !tick.1.is_empty()) {
            let y = self.y(number);
            rule(svg, (self.left, y), (self.right, y), "#e5e7eb", "1");
            text(svg, self.left - 8.0, y + 4.0, "text-anchor=\"end\" fill=\"#6b7280\"", name);
        }
        for XTick { at, name, anchor, shift } in self.xs {
            let x = self.x(*at);
            rule(svg, (x, self.bottom), (x, self.bottom + 4.0), "#9ca3af", "1");
            let how = format!("text-anchor=\"{anchor}\" fill=\"#6b7280\"");
            text(svg, x + shift, self.bottom + 18.0, &how, name);
        }
        rule(svg, (self.left, self.bottom), (self.right, self.bottom), "#9ca3af", "1");
        let middle = (self.left + self.right) / 2.0;
        text(svg, middle, self.bottom + 35.0, "text-anchor=\"middle\" fill=\"#6b7280\"", self.along);
        for line in lines {
            let at = |&(x, y, _): &(f64, f64, bool)| (self.x(x), self.y(y));
            let stroke = if line.ours { "3.5" } else { "1.8" };
            polyline(svg, &line.points.iter().map(at).collect::<Vec<_>>(), line.colour, stroke);
            for point in &line.points {
                dot(svg, at(point), line.colour, point.2);
            }
        }
        self.name(svg, lines);
    }

    /// Puts each line's name beside its end, and moves names apart that would overlap.
    fn name(&self, svg: &mut String, lines: &[Line]) {
        let mut names: Vec<(&Line, f64, f64)> = Vec::new(); // the line, y of its end, y of its name
        for line in lines {
            if let Some(&(_, number, _)) = line.points.last() {
                names.push((line, self.y(number), self.y(number)));
            }
        }
        // Of ends at the same height, ours comes first.
        names.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.0.ours.cmp(&a.0.ours)));
        for n in 1..names.len() {
            names[n].2 = names[n].2.max(names[n - 1].2 + NAME_HEIGHT);
        }
        // Names below the chart move up, with those above them.
        let mut lowest = self.bottom + 2.0;
        for name in names.iter_mut().rev() {
            name.2 = name.2.min(lowest);
            lowest = name.2 - NAME_HEIGHT;
        }
        for (line, end, at) in names {
            let last = line.points.last().map_or(self.right, |point| self.x(point.0));
            if last < self.right {
                rule(svg, (last + 5.0, end), (self.right, end), line.colour, "0.8\" stroke-dasharray=\"1 4");
            }
            rule(svg, (self.right + 5.0, end), (self.right + 22.0, at), line.colour, "0.8");
            let weight = if line.ours { "font-weight=\"700\"" } else { "" };
            text(svg, self.right + 26.0, at + 4.0, &format!("fill=\"{}\" {weight}", line.colour), &line.name);
        }
    }
}

/// Background, title and headline.
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

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, stroke: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{stroke}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A line through some points.
fn polyline(svg: &mut String, points: &[(f64, f64)], colour: &str, stroke: &str) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{stroke}\" stroke-linejoin=\"round\"/>",
        points.join(" ")
    );
}

/// A point, filled or hollow.
fn dot(svg: &mut String, (x, y): (f64, f64), colour: &str, filled: bool) {
    let fill = if filled { colour } else { "#fcfcfd" };
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
    );
}
