//! The results as tables and as JSON.

use serde_json::{Map, Value, json};

use crate::{
    approaches::Approach,
    args::{LOAD, READERS},
    caller::{Answer, Outcome},
    results::{All, Facts, Measured, Row, WATCHED_CALLERS, Watched},
    support::{
        budgets::{self, Budget},
        numbers::{Quartiles, short, spread, table, whole},
        text::thousands,
        watch::Stalls,
    },
};

/// A number of each round.
type Number = fn(&Measured) -> f64;

impl Row {
    fn of(&self, number: Number) -> Quartiles {
        Quartiles::of(self.rounds.iter().map(number))
    }

    fn worst(&self, number: Number) -> f64 {
        self.rounds.iter().map(number).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Server CPU divided by that of `other` in the same round.
    fn times(&self, other: Option<&Row>) -> Quartiles {
        let others = other.map_or(&[][..], |row| &row.rounds);
        Quartiles::of(self.rounds.iter().zip(others).map(|(a, b)| a.server_ms / b.server_ms))
    }

    fn error(&self) -> Option<&str> {
        self.rounds.iter().find_map(|round| round.run.error.as_deref())
    }
}

/// A caller whose answer took longer than this has waited.
const AT_ONCE_MICROS: u64 = 20_000;

impl Measured {
    fn loads(&self) -> f64 {
        self.run.loads.len() as f64
    }

    fn commands(&self) -> f64 {
        self.commands.values().sum::<u64>() as f64
    }

    fn answers(&self) -> f64 {
        self.run.answers.len() as f64
    }

    fn unanswered(&self) -> f64 {
        self.run.unanswered as f64
    }

    /// Milliseconds within which this share of the callers was answered; NaN if it was not.
    fn within(&self, share: f64) -> f64 {
        let mut micros: Vec<u64> = self.run.answers.iter().map(|answer| answer.micros).collect();
        micros.sort_unstable();
        let rank = (share * (micros.len() + self.run.unanswered) as f64).ceil() as usize;
        micros.get(rank.max(1) - 1).map_or(f64::NAN, |&micros| micros as f64 / 1e3)
    }

    fn at_once(&self, what: Outcome) -> f64 {
        let matches = |answer: &&Answer| answer.outcome == what && answer.micros <= AT_ONCE_MICROS;
        self.run.answers.iter().filter(matches).count() as f64
    }

    fn waited(&self) -> f64 {
        let matches = |answer: &&Answer| answer.outcome != Outcome::Loaded && answer.micros > AT_ONCE_MICROS;
        self.run.answers.iter().filter(matches).count() as f64
    }

    fn loaded(&self) -> f64 {
        self.run.answers.iter().filter(|answer| answer.outcome == Outcome::Loaded).count() as f64
    }

    /// Loads of each cycle: a load, and those that began before it ended. A cycle that the end of the run cuts off is
    /// left out.
    fn cycles(&self) -> Vec<usize> {
        let mut loads = self.run.loads.clone();
        loads.sort_by(f64::total_cmp);
        let mut cycles: Vec<(f64, usize)> = Vec::new();
        for load in loads {
            match cycles.last_mut() {
                Some((first, count)) if load < *first + LOAD.as_secs_f64() => *count += 1,
                _ => cycles.push((load, 1)),
            }
        }
        let whole = |&(first, _): &(f64, usize)| first + 2.0 * LOAD.as_secs_f64() < self.window;
        cycles.into_iter().filter(whole).map(|(_, count)| count).collect()
    }

    fn loads_a_cycle(&self) -> f64 {
        Quartiles::of(self.cycles().into_iter().map(|count| count as f64)).median
    }

    fn most_loads_a_cycle(&self) -> f64 {
        self.cycles().into_iter().max().unwrap_or_default() as f64
    }

    fn loads_a_minute(&self) -> f64 {
        60.0 * self.loads() / self.seconds
    }

    fn client_percent(&self) -> f64 {
        self.client_ms / 10.0 / self.seconds
    }

    fn server_ms_a_second(&self) -> f64 {
        self.server_ms / self.seconds
    }
}

/// The JSON fields of a cold key.
const COLD: [(&str, Number); 9] = [
    ("loads", Measured::loads),
    ("commands", Measured::commands),
    ("p50_ms", |m| m.within(0.5)),
    ("p99_ms", |m| m.within(0.99)),
    ("max_ms", |m| m.within(1.0)),
    ("server_cpu_ms", |m| m.server_ms),
    ("client_busy_percent", Measured::client_percent),
    ("unanswered", Measured::unanswered),
    ("seconds", |m| m.seconds),
];

/// The JSON fields at expiry.
const EXPIRY: [(&str, Number); 18] = [
    ("reads", Measured::answers),
    ("fresh", |m| m.at_once(Outcome::Fresh)),
    ("stale", |m| m.at_once(Outcome::Stale)),
    ("waited", Measured::waited),
    ("loaded", Measured::loaded),
    ("unanswered", Measured::unanswered),
    ("cycles", |m| m.cycles().len() as f64),
    ("loads", Measured::loads),
    ("loads_a_cycle", Measured::loads_a_cycle),
    ("most_loads_a_cycle", Measured::most_loads_a_cycle),
    ("loads_a_minute", Measured::loads_a_minute),
    ("commands", Measured::commands),
    ("p50_ms", |m| m.within(0.5)),
    ("p99_ms", |m| m.within(0.99)),
    ("max_ms", |m| m.within(1.0)),
    ("server_cpu_ms_a_second", Measured::server_ms_a_second),
    ("client_busy_percent", Measured::client_percent),
    ("seconds", |m| m.seconds),
];

// ---- tables ---------------------------------------------------------------------------------------------------------

pub(crate) fn print(facts: &Facts, all: &All) {
    let more = [("memcached", &*facts.memcached), ("libraries", &*facts.python)];
    facts.common.print("stampede bench", &more, "a load takes 0.5 s");
    print_cold(&all.cold);
    print_expiry(&all.expiry, facts);
    budgets::print(&budgets(all), facts.common.quick);
    if !all.not_run.is_empty() {
        println!("\nNot run:");
        all.not_run.iter().for_each(|what| println!("  {what}"));
    }
    let failed = all.cold.iter().chain(&all.expiry).filter_map(|row| Some((row, row.error()?)));
    for (row, error) in failed {
        println!("\nSome callers of {}, {} callers, failed: {error}", row.approach.name(), thousands(row.callers));
    }
}

fn print_cold(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!("\nA cold key: all callers request it at once\n");
    let mut table = table(
        2,
        &["callers", "approach", "loads", "commands", "p50 ms", "p99 ms", "max ms", "server ms", "× GETLOCK", "client"],
    );
    let mut callers: Vec<usize> = rows.iter().map(|row| row.callers).collect();
    callers.sort_unstable();
    callers.dedup();
    for callers in callers {
        let of_these = || rows.iter().filter(move |row| row.callers == callers);
        let ours = of_these().find(|row| row.approach == Approach::Getlock);
        for (n, row) in of_these().enumerate() {
            table.add_row([
                if n == 0 { thousands(callers) } else { String::new() },
                row.approach.name().to_owned(),
                whole(row.of(Measured::loads).median),
                whole(row.of(Measured::commands).median),
                short(row.of(|m| m.within(0.5)).median),
                short(row.of(|m| m.within(0.99)).median),
                short(row.of(|m| m.within(1.0)).median) + &unanswered(row),
                spread(row.of(|m| m.server_ms)),
                times(row.times(ours)),
                format!("{:.0} %", row.of(Measured::client_percent).median),
            ]);
        }
    }
    println!("{table}");
    println!(
        "server ms: CPU of the whole server process, median and quartiles. × GETLOCK: relative to GETLOCK in the same round.\n\
         client: how busy the callers' core was. *n: n callers had no answer when the run ended."
    );
}

fn print_expiry(rows: &[Row], facts: &Facts) {
    if rows.is_empty() {
        return;
    }
    println!("\nAt expiry: {} reads a second, a TTL of {} s\n", thousands(READERS), facts.ttl);
    let mut table = table(
        1,
        &[
            "approach",
            "reads",
            "fresh",
            "stale",
            "waited",
            "loaded",
            "loads per cycle",
            "per minute",
            "commands",
            "p50 ms",
            "p99 ms",
            "max ms",
            "server ms/s",
            "× GETLOCK",
            "client",
        ],
    );
    let ours = rows.iter().find(|row| row.approach == Approach::Getlock);
    for row in rows {
        let (median, most) = (row.of(Measured::loads_a_cycle).median, row.worst(Measured::most_loads_a_cycle));
        table.add_row([
            row.approach.name().to_owned(),
            whole(row.of(Measured::answers).median),
            whole(row.of(|m| m.at_once(Outcome::Fresh)).median),
            whole(row.of(|m| m.at_once(Outcome::Stale)).median),
            whole(row.of(Measured::waited).median),
            whole(row.of(Measured::loaded).median),
            if median == most { whole(median) } else { format!("{} (most {})", whole(median), whole(most)) },
            whole(row.of(Measured::loads_a_minute).median),
            whole(row.of(Measured::commands).median),
            short(row.of(|m| m.within(0.5)).median),
            short(row.of(|m| m.within(0.99)).median),
            short(row.of(|m| m.within(1.0)).median) + &unanswered(row),
            spread(row.of(Measured::server_ms_a_second)),
            times(row.times(ours)),
            format!("{:.0} %", row.of(Measured::client_percent).median),
        ]);
    }
    println!("{table}");
    println!(
        "fresh, stale: answered within 20 ms with such a value. waited: answered later. loaded: had to load first.\n\
         loads per cycle: a load and those that began before it ended; median, and the most. per minute: loads."
    );
}

fn times(n: Quartiles) -> String {
    if n.median.is_finite() { format!("{:.2}", n.median) } else { String::new() }
}

fn unanswered(row: &Row) -> String {
    match row.worst(Measured::unanswered) {
        n if n > 0.0 => format!(" *{}", whole(n)),
        _ => String::new(),
    }
}

// ---- budgets -------------------------------------------------------------------------------------------------------

fn budgets(all: &All) -> Vec<Budget> {
    let mut budgets = Vec::new();
    let rounds = &all.watched;
    if !rounds.is_empty() {
        let mut count = |what, number: fn(&Watched) -> f64, limit: usize| {
            let measured = rounds.iter().map(number).collect();
            budgets.push(Budget {
                what: String::from(what),
                unit: "",
                measured,
                at_rest: None,
                limit: Some(limit as f64),
                exact: true,
            });
        };
        count("1,000 callers of a cold key: loads", |w| w.loads as f64, 1);
        count("GETLOCK commands", |w| w.getlocks as f64, WATCHED_CALLERS);
        count("SET commands", |w| w.sets as f64, 1);
        count("callers without an answer", |w| w.unanswered as f64, 0);
        budgets.push(Budget {
            what: "the last waiter's answer, after the store".into(),
            unit: "ms",
            measured: rounds.iter().map(|w| w.last_after_store_ms).collect(),
            at_rest: None,
            limit: Some(25.0),
            exact: false,
        });
        let mut stalls = |what, number: fn(&Stalls) -> Option<f64>, of: fn(&Watched) -> &Stalls, limit| {
            let measured: Vec<f64> = rounds.iter().filter_map(|w| number(of(w))).collect();
            let at_rest = Some(rounds.iter().filter_map(|w| number(&w.rest)).collect());
            if !measured.is_empty() {
                budgets.push(Budget { what: String::from(what), unit: "ms", measured, at_rest, limit, exact: false });
            }
        };
        let own: fn(&Stalls) -> Option<f64> = |s| s.event_loop_ms;
        stalls("longest event loop (server's count): while all are answered", own, |w| &w.answered, Some(2.0));
        stalls("    while all requests arrive", own, |w| &w.asked, None);
        stalls("    while as many GET arrive", own, |w| &w.gets, None);
        let ping: fn(&Stalls) -> Option<f64> = |s| Some(s.ping_ms);
        stalls("longest wait of a client that pings: while all are answered", ping, |w| &w.answered, None);
        stalls("    while all requests arrive", ping, |w| &w.asked, None);
        stalls("    while as many GET arrive", ping, |w| &w.gets, None);
        let burst: fn(&Stalls) -> Option<f64> = |s| Some(s.burst_ms);
        stalls("longest CPU burst of its main thread, at most: while all are answered", burst, |w| &w.answered, None);
        stalls("    while all requests arrive", burst, |w| &w.asked, None);
        stalls("    while as many GET arrive", burst, |w| &w.gets, None);
    }
    for approach in [Approach::GetlockSwr, Approach::GetlockEarly] {
        let Some(row) = all.expiry.iter().find(|row| row.approach == approach) else { continue };
        let swr = approach == Approach::GetlockSwr;
        let mut count = |what, number: Number, limit| {
            let measured = row.rounds.iter().map(number).collect();
            budgets.push(Budget {
                what: String::from(what),
                unit: "",
                measured,
                at_rest: None,
                limit: Some(limit),
                exact: true,
            });
        };
        let what =
            if swr { "at expiry with SWR: most loads per cycle" } else { "with early refresh: most loads per cycle" };
        count(what, Measured::most_loads_a_cycle, 1.0);
        let what = if swr { "readers that waited or loaded" } else { "readers that waited or loaded, early refresh" };
        count(what, |m| m.waited() + m.loaded(), 0.0);
    }
    budgets
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

pub(crate) fn json(facts: &Facts, all: &All) -> Value {
    let rows = |rows: &[Row], numbers: &[(&str, Number)]| -> Vec<Value> {
        rows.iter().map(|row| row_json(row, rows, numbers)).collect()
    };
    let not_run: Vec<Value> = all
        .not_run
        .iter()
        .map(|what| json!({ "approach": what.approach, "callers": what.callers, "why": what.why }))
        .collect();
    json!({
        "facts": facts.common.json(json!({
            "memcached": facts.memcached,
            "libraries": facts.python,
            "limit_seconds": facts.limit,
            "load_seconds": LOAD.as_secs_f64(),
            "ttl_seconds": facts.ttl,
            "reads_a_second": READERS,
        })),
        "budgets": budgets::json(&budgets(all), facts.common.quick),
        "cold": rows(&all.cold, &COLD),
        "expiry": rows(&all.expiry, &EXPIRY),
        "not_run": not_run,
    })
}

fn row_json(row: &Row, rows: &[Row], numbers: &[(&str, Number)]) -> Value {
    let mut fields = Map::new();
    fields.insert("approach".into(), json!(row.approach));
    fields.insert("name".into(), json!(row.approach.name()));
    fields.insert("callers".into(), json!(row.callers));
    for &(name, number) in numbers {
        fields.insert(name.into(), row.of(number).json());
    }
    let ours = rows.iter().find(|other| other.approach == Approach::Getlock && other.callers == row.callers);
    fields.insert("server_cpu_times_getlock".into(), row.times(ours).json());
    let commands: Vec<Value> = row.rounds.iter().map(|round| json!(round.commands)).collect();
    fields.insert("commands_by_name".into(), json!(commands));
    fields.insert("error".into(), json!(row.error()));
    Value::Object(fields)
}
