//! What was measured, as tables for people and as JSON for programs.

use serde_json::{Map, Value, json};

use crate::{
    approaches::Approach,
    results::{All, Facts, Measured, Reads, Row, Tags},
    support::{
        numbers::{Quartiles, rounded, short, spread, table, whole},
        promises::{self, Promise},
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

    /// Bytes a key of the group that the same keys and values do not take without tags or tag sets.
    fn to_be_able(&self, rows: &[Row], share: f64) -> f64 {
        let plain = rows.iter().find(|row| row.keys == self.keys && row.approach == self.approach.plain());
        let without = plain.map_or(f64::NAN, |row| row.of(|m| m.memory_per_key).median);
        (self.of(|m| m.memory_per_key).median - without) / share
    }
}

impl Measured {
    fn back_ms(&self) -> f64 {
        self.back_ms.unwrap_or(f64::NAN)
    }
}

const NUMBERS: [(&str, Number); 14] = [
    ("gone_ms", |m| m.gone_ms),
    ("reply_ms", |m| m.reply_ms),
    ("late_looks", |m| m.late as f64),
    ("memory_back_ms", Measured::back_ms),
    ("given_back_share", |m| m.given_back),
    ("longest_ping_ms", |m| m.stops.ping_ms),
    ("p999_ping_ms", |m| m.stops.ping_p999_ms),
    ("longest_ping_before_ms", |m| m.rest.ping_ms),
    ("longest_turn_ms", |m| m.stops.turn_ms),
    ("longest_turn_before_ms", |m| m.rest.turn_ms),
    ("longest_event_loop_ms", |m| m.stops.event_loop_ms.unwrap_or(f64::NAN)),
    ("commands", |m| m.commands as f64),
    ("bytes_sent", |m| m.sent as f64),
    ("used_memory_per_key", |m| m.memory_per_key),
];

// ---- for people -----------------------------------------------------------------------------------------------------

pub(crate) fn print(facts: &Facts, all: &All) {
    let data = format!("values of {} bytes, {} of the keys in the group", facts.value, percent(facts.share));
    let settings = if facts.settings.is_empty() { "as they come".to_owned() } else { facts.settings.join(", ") };
    facts.common.print("invalidation bench", &[("data", &data), ("settings", &settings)], "a fresh server each");
    print_rows(&all.rows, facts.share);
    print_reads(&all.reads);
    print_tags(&all.tags);
    promises::print(&promises(all), facts.common.quick);
    if !all.not_run.is_empty() {
        println!("\nNOT RUN:");
        all.not_run.iter().for_each(|what| println!("  {}", what.text()));
    }
}

fn print_rows(rows: &[Row], share: f64) {
    if rows.is_empty() {
        return;
    }
    println!("\nUntil a group of keys is served no more, and its memory is back\n");
    let header = [
        "keys",
        "approach",
        "gone ms",
        "reply ms",
        "late",
        "memory back ms",
        "given back",
        "ping max ms",
        "p99.9 ms",
        "turn ms",
        "loop ms",
        "commands",
        "sent",
        "a key",
        "to be able",
    ];
    let mut table = table(2, &header);
    for of_these in by_keys(rows) {
        for (n, row) in of_these.iter().enumerate() {
            table.add_row([
                if n == 0 { thousands(row.keys) } else { String::new() },
                row.approach.name().to_owned(),
                spread(row.of(|m| m.gone_ms)),
                short(row.of(|m| m.reply_ms).median),
                whole(row.of(|m| m.late as f64).q3),
                short(row.of(Measured::back_ms).median),
                percent(row.of(|m| m.given_back).median),
                spread(row.of(|m| m.stops.ping_ms)),
                short(row.of(|m| m.stops.ping_p999_ms).median),
                short(row.of(|m| m.stops.turn_ms).median),
                short(row.of(|m| m.stops.event_loop_ms.unwrap_or(f64::NAN)).median),
                whole(row.of(|m| m.commands as f64).median),
                size(row.of(|m| m.sent as f64).median),
                format!("{} B", short(row.of(|m| m.memory_per_key).median)),
                match row.to_be_able(rows, share) {
                    more if more.is_finite() => format!("{more:+.1} B"),
                    _ => "–".to_owned(),
                },
            ]);
        }
    }
    println!("{table}");
    let before = |number: Number| short(rows.iter().flat_map(|row| row.each(number)).fold(0.0, f64::max));
    println!(
        "gone: none of 128 keys of the group is served as fresh any more; late: looks after the reply that found one.\n\
         memory back: used_memory within 1 % of where it rests; given back: of what the group had taken.\n\
         ping, p99.9, turn, loop: how long others wait, from the first command until the memory rests (before it: ping at\n\
         most {} ms, turn {} ms). sent: bytes of the client that invalidates.\n\
         a key: used_memory, name and tables included; to be able: more than without tags or tag sets, a key\n\
         of the group.",
        before(|m| m.rest.ping_ms),
        before(|m| m.rest.turn_ms)
    );
}

/// Rows of the same number of keys together, fewest first.
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
        "\nSMARTCACHE.GET of entries with four tags beside entries without: CPU of the server's main thread a command\n"
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
        "\nINVALIDATE TAGS of one tag, nobody else asking; and what a tag of an entry takes beyond the key's length\n"
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

// ---- promises -------------------------------------------------------------------------------------------------------

/// The number of keys that the design promises something for.
const MILLION: usize = 1_000_000;

fn promises(all: &All) -> Vec<Promise> {
    let mut promises = Vec::new();
    let mut promise = |what: &str, unit, measured: Vec<f64>, limit, exact| {
        promises.push(Promise { what: what.to_owned(), unit, measured, at_rest: None, limit, exact });
    };
    let ours = [Approach::Tags, Approach::Prefixes, Approach::Patterns, Approach::All];
    let row = |approach| all.rows.iter().find(|row| row.approach == approach && row.keys == MILLION);
    let native = row(Approach::ScanUnlink).map(|row| row.of(|m| m.stops.turn_ms).median);
    for row in ours.into_iter().filter_map(row) {
        let name = row.approach.name();
        let what = format!("{name}, a million keys: looks after the reply that found something fresh");
        promise(&what, "", row.each(|m| m.late as f64), Some(0.0), true);
        promise("    reply, while others ask", "ms", row.each(|m| m.reply_ms), None, false);
        let promised = (row.approach == Approach::Tags).then_some(30_000.0);
        promise("    memory back", "ms", row.each(Measured::back_ms), promised, false);
        let what = "    longest turn of the main thread (limit: SCAN, UNLINK and 1 ms)";
        promise(what, "ms", row.each(|m| m.stops.turn_ms), native.map(|native| native + 1.0), false);
    }
    if let Some(tags) = all.tags.iter().find(|tags| tags.keys == MILLION) {
        promise(
            "INVALIDATE TAGS: reply with a million members, nobody else asking",
            "ms",
            tags.reply_ms.clone(),
            Some(1.0),
            false,
        );
    }
    if let (Some(few), Some(many)) = (all.tags.first(), all.tags.last().filter(|_| all.tags.len() > 1)) {
        let base = Quartiles::of(few.reply_ms.iter().copied()).median;
        let what =
            format!("INVALIDATE TAGS: reply with {} members beside {}", thousands(many.keys), thousands(few.keys));
        // "The same", as far as single round trips are.
        promise(&what, "×", many.reply_ms.iter().map(|ms| ms / base).collect(), Some(1.5), false);
    }
    for tags in &all.tags {
        for (count, bytes) in &tags.memory {
            let entries = thousands(tags.keys);
            let what = format!("memory a tag of an entry beyond the key's length: {count} each, {entries} entries");
            promise(&what, "B", vec![*bytes], Some(48.0), false);
        }
    }
    for read in &all.reads {
        let when = if read.after { "after another tag's invalidation" } else { "nothing invalidated" };
        let what = format!("GET with four tags beside none, {} a pipeline, {when}", read.pipeline);
        promise(&what, "×", read.ratios.clone(), Some(1.05), false);
    }
    promises
}

// ---- for programs ---------------------------------------------------------------------------------------------------

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
        "promises": promises::json(&promises(all), facts.common.quick),
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
    fields.insert("used_memory_per_member_to_be_able".into(), json!(rounded(row.to_be_able(rows, share))));
    Value::Object(fields)
}
