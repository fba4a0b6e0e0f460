//! Budgets and their measurements.

use serde_json::{Value, json};

use super::numbers::{Quartiles, rounded, short, table, whole};

pub(crate) struct Budget {
    pub(crate) what: String,
    /// Empty: a count.
    pub(crate) unit: &'static str,
    /// One value per round.
    pub(crate) measured: Vec<f64>,
    /// The same of the idle server.
    pub(crate) at_rest: Option<Vec<f64>>,
    /// `None`: measured for information only.
    pub(crate) limit: Option<f64>,
    /// The limit must be met exactly in every round; else the median of the rounds must not exceed it.
    pub(crate) exact: bool,
}

impl Budget {
    fn worst(&self) -> f64 {
        let Some(limit) = self.limit.filter(|_| self.exact) else { return worst(&self.measured) };
        let distance = |n: &&f64| (**n - limit).abs();
        self.measured.iter().max_by(|a, b| distance(a).total_cmp(&distance(b))).copied().unwrap_or(f64::NAN)
    }

    fn ok(&self) -> Option<bool> {
        let limit = self.limit?;
        Some(match self.exact {
            true => self.measured.iter().all(|&n| n == limit),
            false => Quartiles::of(self.measured.iter().copied()).median <= limit,
        })
    }

    fn verdict(&self) -> &'static str {
        match self.ok() {
            None => "",
            Some(true) => "ok",
            Some(false) => "MISSED",
        }
    }

    fn json(&self, quick: bool) -> Value {
        let each = |numbers: &[f64]| numbers.iter().copied().map(rounded).collect::<Vec<_>>();
        json!({
            "what": self.what,
            "unit": if self.unit.is_empty() { "count" } else { self.unit },
            "rounds": each(&self.measured),
            "at_rest": self.at_rest.as_deref().map(each),
            "limit": self.limit,
            "exactly": self.exact,
            "ok": self.ok().filter(|_| !quick),
        })
    }
}

fn worst(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::NAN, f64::max)
}

pub(crate) fn print(budgets: &[Budget], quick: bool) {
    if budgets.is_empty() {
        return;
    }
    println!("\nBudgets\n");
    let mut table = table(1, &["what", "measured", "quartiles", "worst", "at rest", "budget", ""]);
    for budget in budgets {
        let Quartiles { q1, median, q3 } = Quartiles::of(budget.measured.iter().copied());
        let show = |n: f64| match budget.unit {
            "" => whole(n),
            "×" => format!("×{}", short(n)),
            unit => format!("{} {unit}", short(n)),
        };
        table.add_row([
            budget.what.clone(),
            show(median),
            if budget.unit.is_empty() { String::new() } else { format!("{} – {}", short(q1), short(q3)) },
            show(budget.worst()),
            budget.at_rest.as_ref().map(|at_rest| show(worst(at_rest))).unwrap_or_default(),
            budget
                .limit
                .map(|limit| format!("{} {}", if budget.exact { "=" } else { "≤" }, show(limit)))
                .unwrap_or_default(),
            if quick { "?" } else { budget.verdict() }.to_owned(),
        ]);
    }
    println!("{table}");
    if budgets.iter().any(|budget| budget.at_rest.is_some()) {
        println!("at rest: the worst value of the same server while idle, in the same rounds.");
    }
}

pub(crate) fn json(budgets: &[Budget], quick: bool) -> Vec<Value> {
    budgets.iter().map(|budget| budget.json(quick)).collect()
}
