//! What was promised, and what was measured of it.

use serde_json::{Value, json};

use super::numbers::{Quartiles, rounded, short, table, whole};

pub(crate) struct Promise {
    pub(crate) what: String,
    /// Empty: a number of things.
    pub(crate) unit: &'static str,
    /// Of each round.
    pub(crate) measured: Vec<f64>,
    /// What the same server showed with nothing going on.
    pub(crate) at_rest: Option<Vec<f64>>,
    /// `None`: nothing was promised, it is good to know.
    pub(crate) limit: Option<f64>,
    /// Exactly so many, in every round; else the median of the rounds is at most so much.
    pub(crate) exact: bool,
}

impl Promise {
    fn worst(&self) -> f64 {
        let Some(limit) = self.limit.filter(|_| self.exact) else { return worst(&self.measured) };
        let far = |n: &&f64| (**n - limit).abs();
        self.measured.iter().max_by(|a, b| far(a).total_cmp(&far(b))).copied().unwrap_or(f64::NAN)
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

pub(crate) fn print(promises: &[Promise], quick: bool) {
    if promises.is_empty() {
        return;
    }
    println!("\nPromises\n");
    let mut table = table(1, &["what", "measured", "quartiles", "worst", "at rest", "promised", ""]);
    for promise in promises {
        let Quartiles { q1, median, q3 } = Quartiles::of(promise.measured.iter().copied());
        let show = |n: f64| match promise.unit {
            "" => whole(n),
            "×" => format!("×{}", short(n)),
            unit => format!("{} {unit}", short(n)),
        };
        table.add_row([
            promise.what.clone(),
            show(median),
            if promise.unit.is_empty() { String::new() } else { format!("{} – {}", short(q1), short(q3)) },
            show(promise.worst()),
            promise.at_rest.as_ref().map(|at_rest| show(worst(at_rest))).unwrap_or_default(),
            promise
                .limit
                .map(|limit| format!("{} {}", if promise.exact { "=" } else { "≤" }, show(limit)))
                .unwrap_or_default(),
            if quick { "?" } else { promise.verdict() }.to_owned(),
        ]);
    }
    println!("{table}");
    if promises.iter().any(|promise| promise.at_rest.is_some()) {
        println!("at rest: the worst that the same server showed with nothing going on, in the same rounds.");
    }
}

pub(crate) fn json(promises: &[Promise], quick: bool) -> Vec<Value> {
    promises.iter().map(|promise| promise.json(quick)).collect()
}
