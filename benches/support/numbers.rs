//! Quartiles, number formats and tables.

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use serde_json::{Value, json};

use super::text::thousands;

/// Median and quartiles.
#[derive(Clone, Copy)]
pub(crate) struct Quartiles {
    pub(crate) q1: f64,
    pub(crate) median: f64,
    pub(crate) q3: f64,
}

impl Quartiles {
    pub(crate) fn of(numbers: impl Iterator<Item = f64>) -> Quartiles {
        let mut sorted: Vec<f64> = numbers.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let rank = part * sorted.len().saturating_sub(1) as f64;
            let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
            match (sorted.get(below), sorted.get(above)) {
                (Some(a), Some(b)) => a + (b - a) * rank.fract(),
                _ => f64::NAN,
            }
        };
        Quartiles { q1: at(0.25), median: at(0.5), q3: at(0.75) }
    }

    pub(crate) fn json(self) -> Value {
        json!({ "q1": rounded(self.q1), "median": rounded(self.median), "q3": rounded(self.q3) })
    }
}

/// Rounded to four decimals, which is below the precision of any measurement.
pub(crate) fn rounded(n: f64) -> f64 {
    (n * 1e4).round() / 1e4
}

/// A table whose first `words` columns are left-aligned; the others hold numbers.
pub(crate) fn table(words: usize, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(header);
    table.column_iter_mut().skip(words).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// A count; `–` for NaN.
pub(crate) fn whole(n: f64) -> String {
    if n.is_finite() { thousands(n.round() as usize) } else { "–".to_owned() }
}

/// Three significant digits, or all before the point; `–` for NaN.
pub(crate) fn short(n: f64) -> String {
    match n {
        n if !n.is_finite() => "–".to_owned(),
        n if n < 10.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n => whole(n),
    }
}

/// The median, and the quartiles in parentheses.
pub(crate) fn spread(n: Quartiles) -> String {
    format!("{} ({}–{})", short(n.median), short(n.q1), short(n.q3))
}
