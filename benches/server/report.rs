//! The results as tables and as JSON.

use serde_json::{Value, json};

use crate::{
    forms::{Form, Op},
    results::{Budget, Cell, Facts, Limit, MemoryRow},
    support::{
        numbers::{Quartiles, rounded, table},
        text::thousands,
    },
};

impl Limit {
    fn number(self) -> f64 {
        match self {
            Limit::Times(n) | Limit::MoreMicros(n) | Limit::MoreBytes(n) => n,
        }
    }
}

impl Budget {
    fn verdict(&self) -> &'static str {
        match self.limit {
            None => "",
            Some(limit) if self.difference.median <= limit.number() => "ok",
            Some(_) => "MISSED",
        }
    }

    fn show_spread(&self) -> String {
        let Quartiles { q1, q3, .. } = self.difference;
        match self.limit {
            Some(Limit::MoreMicros(_)) => format!("{q1:+.2} – {q3:+.2}"),
            Some(Limit::MoreBytes(_)) => format!("{q1:+.1} – {q3:+.1}"),
            _ => format!("{q1:.2} – {q3:.2}"),
        }
    }

    /// A number in the unit of this budget.
    fn show(&self, n: f64) -> String {
        match self.limit {
            Some(Limit::MoreMicros(_)) => format!("{n:+.2} µs"),
            Some(Limit::MoreBytes(_)) => format!("{n:+.1} B"),
            _ => format!("×{n:.2}"),
        }
    }

    fn show_absolute(&self, n: f64) -> String {
        match self.limit {
            Some(Limit::MoreBytes(_)) => format!("{n:.1} B"),
            _ => format!("{n:.2} µs"),
        }
    }
}

/// Prints everything as tables.
pub(crate) fn print(facts: &Facts, cells: &[Cell], memory: &[MemoryRow], budgets: &[Budget]) {
    facts.common.print("bench", &[], &format!("{} ms a sample", facts.sample_ms));
    println!(
        "  {:<10} main thread {:.2} s, whole process {:.2} s, by ticks {:.2} s",
        "clocks", facts.main_seconds, facts.process_seconds, facts.tick_seconds
    );
    print_commands(cells);
    print_memory(memory);
    print_budgets(budgets, facts.common.quick);
}

fn print_commands(cells: &[Cell]) {
    for contest in cells.chunk_by(|a, b| (a.size, a.op == Op::Get) == (b.size, b.op == Op::Get)) {
        let op = if contest[0].op == Op::Get { "Reading" } else { "Writing" };
        println!("\n{op} values of {}\n", bytes(contest[0].size));
        let mut table = table(
            2,
            &[
                "pipeline",
                "stored",
                "compressed",
                "server µs",
                "× native",
                "quartiles",
                "process µs",
                "client µs",
                "commands/s",
                "p99 µs",
            ],
        );
        for (n, cell) in contest.iter().enumerate() {
            let first = n == 0 || contest[n - 1].pipeline != cell.pipeline;
            let ratio = Quartiles::of(cell.ratios.iter().copied());
            let spread = cell.server_micros();
            let (times, quartiles) = match cell.form {
                Form::Native => (String::new(), format!("{:.2}–{:.2} µs", spread.q1, spread.q3)),
                _ => (format!("{:.2}", ratio.median), format!("{:.2}–{:.2}", ratio.q1, ratio.q3)),
            };
            table.add_row([
                if first { cell.pipeline.to_string() } else { String::new() },
                cell.form.name().to_owned(),
                compressed(cell.form, cell.compressed),
                format!("{:.2}", spread.median),
                times,
                quartiles,
                format!("{:.2}", cell.process_micros().median),
                format!("{:.2}", cell.client_micros().median),
                thousands(cell.per_second().median.round() as usize),
                format!("{:.0}", cell.latency.value_at_quantile(0.99) as f64 / 1e3),
            ]);
        }
        println!("{table}");
    }
    if !cells.is_empty() {
        println!(
            "server µs: CPU of the server's main thread per command, median. × native: the paired ratio, median and quartiles.\n\
             process µs: all threads of the server. client µs: CPU of the client per command, with compression.\n\
             compressed: share of the values that the codec compressed; the others are stored plain.\n\
             p99: round trip of the whole pipeline."
        );
    }
}

fn print_memory(rows: &[MemoryRow]) {
    if rows.is_empty() {
        return;
    }
    println!("\nMemory: bytes of used_memory per entry (key name, TTL and hash table included)\n");
    let sizes: Vec<&[MemoryRow]> = rows.chunk_by(|a, b| a.size == b.size).collect();
    let mut header = vec!["stored".to_owned()];
    for rows in &sizes {
        header.extend([bytes(rows[0].size), "× native".to_owned(), "compressed".to_owned()]);
    }
    let mut table = table(1, &header.iter().map(String::as_str).collect::<Vec<_>>());
    for n in 0..sizes[0].len() {
        let mut fields = vec![sizes[0][n].form.name().to_owned()];
        for rows in &sizes {
            let times = format!("{:.2}", rows[n].bytes / rows[0].bytes);
            fields.extend([
                thousands(rows[n].bytes.round() as usize),
                times,
                compressed(rows[n].form, rows[n].compressed),
            ]);
        }
        table.add_row(fields);
    }
    println!("{table}");
}

fn print_budgets(budgets: &[Budget], quick: bool) {
    if budgets.is_empty() {
        return;
    }
    println!(
        "\nBudgets: CPU of the server's main thread per command, compared with the native command in the same rounds\n"
    );
    let mut table = table(1, &["what", "keys", "pipeline", "native", "ours", "measured", "quartiles", "budget", ""]);
    for budget in budgets {
        table.add_row([
            budget.what.to_owned(),
            if budget.keys == 1 { "one".to_owned() } else { thousands(budget.keys) },
            budget.pipeline.map(|n| n.to_string()).unwrap_or_default(),
            budget.show_absolute(budget.native),
            budget.show_absolute(budget.ours),
            budget.show(budget.difference.median),
            budget.show_spread(),
            budget.limit.map(|limit| budget.show(limit.number())).unwrap_or_default(),
            if quick { "?" } else { budget.verdict() }.to_owned(),
        ]);
    }
    println!("{table}");
}

/// Everything as JSON.
pub(crate) fn json(facts: &Facts, cells: &[Cell], memory: &[MemoryRow], budgets: &[Budget]) -> Value {
    let cells: Vec<Value> = cells
        .iter()
        .map(|cell| {
            json!({
                "command": if cell.op == Op::Get { "get" } else { "set" },
                "value_bytes": cell.size,
                "pipeline": cell.pipeline,
                "stored": cell.form.name(),
                "compressed_share": rounded(cell.compressed),
                "server_us": cell.server_micros().json(),
                "times_native": Quartiles::of(cell.ratios.iter().copied()).json(),
                "process_us": cell.process_micros().json(),
                "client_us": cell.client_micros().json(),
                "commands_per_second": cell.per_second().json(),
                "pipeline_p50_us": cell.latency.value_at_quantile(0.5) as f64 / 1e3,
                "pipeline_p99_us": cell.latency.value_at_quantile(0.99) as f64 / 1e3,
                "samples": cell.samples.len(),
                "commands": cell.samples.iter().map(|sample| sample.commands).sum::<u64>(),
            })
        })
        .collect();
    let memory: Vec<Value> = memory
        .iter()
        .map(|row| {
            json!({
                "value_bytes": row.size,
                "stored": row.form.name(),
                "compressed_share": rounded(row.compressed),
                "used_memory_per_entry": rounded(row.bytes),
            })
        })
        .collect();
    let budgets: Vec<Value> = budgets
        .iter()
        .map(|budget| {
            let (kind, limit) = match budget.limit {
                Some(Limit::Times(n)) => ("times_native", Some(n)),
                Some(Limit::MoreMicros(n)) => ("us_more_than_native", Some(n)),
                Some(Limit::MoreBytes(n)) => ("bytes_more_than_native", Some(n)),
                None => ("times_native", None),
            };
            json!({
                "what": budget.what,
                "keys": budget.keys,
                "pipeline": budget.pipeline,
                "unit": if budget.pipeline.is_some() { "us" } else { "bytes" },
                "native": rounded(budget.native),
                "ours": rounded(budget.ours),
                "kind": kind,
                "measured": budget.difference.json(),
                "limit": limit,
                "ok": limit.filter(|_| !facts.common.quick).map(|limit| budget.difference.median <= limit),
            })
        })
        .collect();
    json!({
        "facts": facts.common.json(json!({
            "sample_ms": facts.sample_ms,
            "main_thread_cpu_seconds": rounded(facts.main_seconds),
            "process_cpu_seconds": rounded(facts.process_seconds),
            "process_cpu_seconds_by_ticks": rounded(facts.tick_seconds),
        })),
        "budgets": budgets,
        "commands": cells,
        "memory": memory,
    })
}

fn compressed(form: Form, share: f64) -> String {
    match form {
        Form::Entry(codec) if codec != "none" => format!("{:.0} %", 100.0 * share),
        _ => String::new(),
    }
}

/// `1 key`, `10,240 keys`.
pub(crate) fn keys(count: usize) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{} keys", thousands(count)) }
}

/// `100 B`, `10 KB`.
pub(crate) fn bytes(n: usize) -> String {
    if n < 1_024 { format!("{n} B") } else { format!("{} KB", n / 1_024) }
}
