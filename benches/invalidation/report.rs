//! The results as tables and as JSON.

use serde_json::{Map, Value, json};

use crate::{
    approaches::Approach,
    results::{All, Facts, Measured, Reads, Row, Tags},
    support::{
        budgets::{self, Budget},
        numbers::{Quartiles, rounded, short, spread, table, whole},
        text::thousands,
    },
};

/// A number of each round.
type Number = fn(&Measured) -> f64;

impl Row {
    fn of(&self, number: Number) -> Quartiles {
        Quartiles::of(self.rounds.iter().map(number))
    }

    fn each(&self, number: Number) -> Vec<f64> {
        self.rounds.iter().map(number).collect()
    }

    /// Bytes per key of the group beyond the same keys and values without tags or tag sets.
    fn tag_overhead(&self, rows: &[Row], share: f64) -> f64 {
        let plain = rows.iter().find(|row| row.keys == self.keys && row.approach == self.approach.plain());
        let without = plain.map_or(f64::NAN, |row| row.of(|m| m.memory_per_key).median);
        (self.of(|m| m.memory_per_key).median - without) / share
    }
}

impl Measured {
    fn freed_ms(&self) -> f64 {
        self.freed_ms.unwrap_or(f64::NAN)
    }
}

const NUMBERS: [(&str, Number); 14] = [
    ("effective_ms", |m| m.effective_ms),
    ("reply_ms", |m| m.reply_ms),
    ("late_probes", |m| m.late as f64),
    ("memory_freed_ms", Measured::freed_ms),
    ("freed_share", |m| m.freed_share),
    ("longest_ping_ms", |m| m.stalls.ping_ms),
    ("p999_ping_ms", |m| m.stalls.ping_p999_ms),
    ("longest_ping_before_ms", |m| m.rest.ping_ms),
    ("longest_burst_ms", |m| m.stalls.burst_ms),
    ("longest_burst_before_ms", |m| m.rest.burst_ms),
    ("longest_event_loop_ms", |m| m.stalls.event_loop_ms.unwrap_or(f64::NAN)),
    ("commands", |m| m.commands as f64),
    ("bytes_sent", |m| m.sent as f64),
    ("used_memory_per_key", |m| m.memory_per_key),
];

// ---- tables ---------------------------------------------------------------------------------------------------------

pub(crate) fn print(facts: &Facts, all: &All) {
    let data = format!("values of {} bytes, {} of the keys in the group", facts.value, percent(facts.share));
    let settings = if facts.settings.is_empty() { "defaults".to_owned() } else { facts.settings.join(", ") };
    facts.common.print("invalidation bench", &[("data", &data), ("settings", &settings)], "a new server each");
    print_rows(&all.rows, facts.share);
    print_reads(&all.reads);
    print_tags(&all.tags);
    budgets::print(&budgets(all), facts.common.quick);
    if !all.not_run.is_empty() {
        println!("\nNOT RUN:");
        all.not_run.iter().for_each(|what| println!("  {}", what.text()));
    }
}

fn print_rows(rows: &[Row], share: f64) {
    if rows.is_empty() {
        return;
    }
    println!("\nTime until a group of keys is no longer served, and until its memory is freed\n");
    let header = [
        "keys",
        "approach",
        "effective ms",
        "reply ms",
        "late",
        "memory freed ms",
        "freed",
        "ping max ms",
        "p99.9 ms",
        "burst ms",
        "loop ms",
        "commands",
        "bytes sent",
        "per key",
        "tag overhead",
    ];
    let mut table = table(2, &header);
    for of_these in by_keys(rows) {
        for (n, row) in of_these.iter().enumerate() {
            table.add_row([
                if n == 0 { thousands(row.keys) } else { String::new() },
                row.approach.name().to_owned(),
                spread(row.of(|m| m.effective_ms)),
                short(row.of(|m| m.reply_ms).median),
                whole(row.of(|m| m.late as f64).q3),
                short(row.of(Measured::freed_ms).median),
                percent(row.of(|m| m.freed_share).median),
                spread(row.of(|m| m.stalls.ping_ms)),
                short(row.of(|m| m.stalls.ping_p999_ms).median),
                short(row.of(|m| m.stalls.burst_ms).median),
                short(row.of(|m| m.stalls.event_loop_ms.unwrap_or(f64::NAN)).median),
                whole(row.of(|m| m.commands as f64).median),
                size(row.of(|m| m.sent as f64).median),
                format!("{} B", short(row.of(|m| m.memory_per_key).median)),
                match row.tag_overhead(rows, share) {
                    more if more.is_finite() => format!("{more:+.1} B"),
                    _ => "–".to_owned(),
                },
            ]);
        }
    }
    println!("{table}");
    let before = |number: Number| short(rows.iter().flat_map(|row| row.each(number)).fold(0.0, f64::max));
    println!(
        "effective: none of 128 keys of the group is served as fresh any more; late: probes after the reply that found one.\n\
         memory freed: used_memory within 1 % of its final value; freed: share of what the group had occupied.\n\
         ping, p99.9, burst, loop: waits of other clients, from the first command until the memory is freed (before it: ping\n\
         at most {} ms, burst {} ms). bytes sent: by the client that invalidates.\n\
         per key: used_memory, with name and tables; tag overhead: beyond the same keys without tags or tag sets, per key\n\
         of the group.",
        before(|m| m.rest.ping_ms),
        before(|m| m.rest.burst_ms)
    );
}

/// Rows grouped by number of keys, ascending.
fn by_keys(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut keys: Vec<usize> = rows.iter().map(|row| row.keys).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|keys| rows.iter().filter(|row| row.keys == keys).collect()).collect()
}

fn print_reads(reads: &[Reads]) {
    if reads.is_empty() {
        return;
    }
    println!(
        "\nSMARTCACHE.GET of entries with four tags, compared with entries without: CPU of the server's main thread per command\n"
    );
    let mut table = table(1, &["invalidated before", "pipeline", "without µs", "four tags µs", "×", "quartiles"]);
    for (n, read) in reads.iter().enumerate() {
        let of = |numbers: &[f64]| Quartiles::of(numbers.iter().copied());
        let ratio = of(&read.ratios);
        table.add_row([
            match (n % 3, read.after) {
                (0, true) => "another tag".to_owned(),
                (0, false) => "nothing".to_owned(),
                _ => String::new(),
            },
            read.pipeline.to_string(),
            format!("{:.2}", of(&read.without).median),
            format!("{:.2}", of(&read.with).median),
            format!("{:.2}", ratio.median),
            format!("{:.2}–{:.2}", ratio.q1, ratio.q3),
        ]);
    }
    println!("{table}");
}

fn print_tags(tags: &[Tags]) {
    if tags.is_empty() {
        return;
    }
    println!(
        "\nINVALIDATE TAGS of one tag on an otherwise idle server; memory of an entry's tag beyond the key's length\n"
    );
    let mut table = table(0, &["members", "reply ms", "one tag", "each of four"]);
    for tags in tags {
        let memory = |of: usize| {
            let bytes = tags.memory.iter().find(|memory| memory.0 == of);
            bytes.map_or("–".to_owned(), |(_, bytes)| format!("{bytes:+.1} B"))
        };
        let reply = spread(Quartiles::of(tags.reply_ms.iter().copied()));
        table.add_row([thousands(tags.keys), reply, memory(1), memory(4)]);
    }
    println!("{table}");
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", 100.0 * share) } else { "–".to_owned() }
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1e4 => format!("{} B", whole(bytes)),
        bytes if bytes < 1e7 => format!("{} KB", whole(bytes / 1e3)),
        bytes => format!("{} MB", whole(bytes / 1e6)),
    }
}

// ---- budgets -------------------------------------------------------------------------------------------------------

/// The number of keys that the design budgets something for.
const MILLION: usize = 1_000_000;

fn budgets(all: &All) -> Vec<Budget> {
    let mut budgets = Vec::new();
    let mut budget = |what: &str, unit, measured: Vec<f64>, limit, exact| {
        budgets.push(Budget { what: what.to_owned(), unit, measured, at_rest: None, limit, exact });
    };
    let ours = [Approach::Tags, Approach::Prefixes, Approach::Patterns, Approach::All];
    let row = |approach| all.rows.iter().find(|row| row.approach == approach && row.keys == MILLION);
    let native = row(Approach::ScanUnlink).map(|row| row.of(|m| m.stalls.burst_ms).median);
    for row in ours.into_iter().filter_map(row) {
        let name = row.approach.name();
        let what = format!("{name}, a million keys: probes after the reply that found a fresh key");
        budget(&what, "", row.each(|m| m.late as f64), Some(0.0), true);
        budget("    reply, with other clients active", "ms", row.each(|m| m.reply_ms), None, false);
        let budget_ms = (row.approach == Approach::Tags).then_some(30_000.0);
        budget("    memory freed", "ms", row.each(Measured::freed_ms), budget_ms, false);
        let what = "    longest CPU burst of the main thread (limit: SCAN, UNLINK + 1 ms)";
        budget(what, "ms", row.each(|m| m.stalls.burst_ms), native.map(|native| native + 1.0), false);
    }
    if let Some(tags) = all.tags.iter().find(|tags| tags.keys == MILLION) {
        budget(
            "INVALIDATE TAGS: reply with a million members, otherwise idle",
            "ms",
            tags.reply_ms.clone(),
            Some(1.0),
            false,
        );
    }
    if let (Some(few), Some(many)) = (all.tags.first(), all.tags.last().filter(|_| all.tags.len() > 1)) {
        let base = Quartiles::of(few.reply_ms.iter().copied()).median;
        let what = format!(
            "INVALIDATE TAGS: reply with {} members, relative to {}",
            thousands(many.keys),
            thousands(few.keys)
        );
        // The budget is "the same"; single round trips vary this much.
        budget(&what, "×", many.reply_ms.iter().map(|ms| ms / base).collect(), Some(1.5), false);
    }
    for tags in &all.tags {
        for (count, bytes) in &tags.memory {
            let entries = thousands(tags.keys);
            let what =
                format!("memory of an entry's tag beyond the key's length: {count} per entry, {entries} entries");
            budget(&what, "B", vec![*bytes], Some(48.0), false);
        }
    }
    for read in &all.reads {
        let when = if read.after { "after another tag's invalidation" } else { "nothing invalidated" };
        let what = format!("GET with four tags, relative to none, pipeline {}, {when}", read.pipeline);
        budget(&what, "×", read.ratios.clone(), Some(1.05), false);
    }
    budgets
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

pub(crate) fn json(facts: &Facts, all: &All) -> Value {
    let of = |numbers: &[f64]| Quartiles::of(numbers.iter().copied()).json();
    let rows: Vec<Value> =
        by_keys(&all.rows).into_iter().flatten().map(|row| row_json(row, &all.rows, facts.share)).collect();
    let reads: Vec<Value> = all
        .reads
        .iter()
        .map(|read| {
            json!({
                "pipeline": read.pipeline,
                "after_invalidation": read.after,
                "without_tags_us": of(&read.without),
                "four_tags_us": of(&read.with),
                "times_without": of(&read.ratios),
            })
        })
        .collect();
    let tags: Vec<Value> = all
        .tags
        .iter()
        .map(|tags| {
            let memory = tags.memory.iter().map(|&(count, bytes)| (count.to_string(), json!(rounded(bytes))));
            json!({
                "members": tags.keys,
                "reply_ms": of(&tags.reply_ms),
                "bytes_beyond_key_by_tags_of_an_entry": memory.collect::<Map<_, _>>(),
            })
        })
        .collect();
    let not_run: Vec<Value> = all
        .not_run
        .iter()
        .map(|what| json!({ "approach": what.approach, "keys": (!what.always).then_some(what.keys), "why": what.why }))
        .collect();
    json!({
        "facts": facts.common.json(json!({
            "share": facts.share,
            "value_bytes": facts.value,
            "settings": facts.settings,
        })),
        "budgets": budgets::json(&budgets(all), facts.common.quick),
        "compare": rows,
        "reads": reads,
        "tags": tags,
        "not_run": not_run,
    })
}

fn row_json(row: &Row, rows: &[Row], share: f64) -> Value {
    let mut fields = Map::new();
    fields.insert("approach".into(), json!(row.approach));
    fields.insert("name".into(), json!(row.approach.name()));
    fields.insert("keys".into(), json!(row.keys));
    for (name, number) in NUMBERS {
        fields.insert(name.into(), row.of(number).json());
    }
    fields.insert("tag_overhead_per_member".into(), json!(rounded(row.tag_overhead(rows, share))));
    Value::Object(fields)
}
