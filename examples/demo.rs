//! Cache-aside reads of real records, first with the server's own commands, then with SmartCache.
//!
//! ```text
//! make demo                                            against the server at 127.0.0.1:6379, or one of its own
//! cargo run --release --example demo -- --help         the options
//! ```
//!
//! A made-up service reads airports and browser features, some far more often than others. It reads the cache first;
//! on a miss it loads the record (from `tests/data`, its "database") and stores it. The same reads are done twice,
//! under the same keys: with the server's own `GET` and `SET … EX`, then with `SMARTCACHE.GET` and `SMARTCACHE.SET`.
//! The demo prints what differs.
//!
//! A running server may belong to somebody else: the demo writes only keys that begin with `demo:`, each by its full
//! name, and removes exactly those at the end.

#[path = "../tests/data/mod.rs"]
mod data;
#[path = "../benches/support/server.rs"]
mod server;
#[path = "../benches/support/text.rs"]
mod text;

use std::{
    collections::{BTreeMap, HashMap},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use comfy_table::{Attribute, Cell, CellAlignment, Table, TableComponent, presets};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use rand_distr::{Distribution, Zipf};
use redis::{Client, Connection, Value, cmd, pipe};
use server::{Result, Server};
use text::thousands;

/// The TTL that the service stores with; rules scale it.
const TTL_SECONDS: u64 = 600;
/// One read in this many asks for something that does not exist.
const UNKNOWN_EVERY: usize = 25;
/// How many different names of things that do not exist are asked for.
const UNKNOWN_NAMES: usize = 200;
/// Keys in one pipeline, where many are read or removed.
const CHUNK: usize = 500;
/// This key marks the `demo:` keys as the demo's own, in case it is killed before it can remove them.
const MARKER: &str = "demo:smartcache";

/// Read real records through the cache, with and without SmartCache, and print what differs.
#[derive(Parser)]
struct Args {
    /// How many different records there are (at most 6,000).
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(10..=6_000))]
    records: u32,
    /// How many reads each of the two runs does.
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    reads: u32,
    /// The seed of the random order of the reads: the same seed gives the same reads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server to use, such as redis://127.0.0.1:6379 or unix:///run/redis.sock. Without it: the one at
    /// 127.0.0.1:6379 if it has the module, else one that the demo starts itself (SERVER names the program).
    #[arg(long)]
    address: Option<String>,
    /// Leave the entries in the server for inspection; a server that the demo started then runs until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match demo(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if server::interrupted() => {
            eprintln!("demo: interrupted; its keys and rules are removed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> Result<()> {
    server::catch_interrupts()?;
    let source = Source::new(args.records as usize, args.seed);
    let reads = source.reads(args.reads as usize, args.seed);

    let (mut con, place) = connect(args.address.as_deref())?;
    say(&format!(
        "SmartCache demo: {} real records ({} airports, {} browser features), {} reads, some records far more \
         popular than others (Zipf, seed {}), one read in {UNKNOWN_EVERY} for something that does not exist.",
        thousands(source.records.len()),
        thousands(source.count("airports")),
        thousands(source.count("features")),
        thousands(reads.len()),
        args.seed,
    ));
    say(&place.describe(&mut con)?);

    let mut guest = Guest::arrive(con, place.address(), &source)?;
    let result = show(&mut guest, &source, &reads);
    match (&result, args.keep, &place) {
        (Ok(()), true, place) => {
            guest.stay();
            say(&format!(
                "The entries stay (--keep) until their TTLs end. To inspect them:\n\n    {}\n    > \
                 SMARTCACHE.INSPECT {}\n    > SMARTCACHE.RULE EXPLAIN {}\n    > SMARTCACHE.STATS",
                place.cli(),
                source.records[0].key,
                source.records[1].key,
            ));
            if matches!(place, Place::Own(_)) {
                say("Ctrl-C stops this server and the demo.");
                while !server::interrupted() {
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
        (_, _, Place::Running(_)) => match guest.leave() {
            Ok((keys, rules)) => {
                let rules = if rules == 0 { String::new() } else { format!(" and {rules} demo rules") };
                say(&format!("Cleaned up: {} demo keys{rules} removed, nothing else touched.", thousands(keys)));
            }
            Err(error) if result.is_ok() => return Err(error),
            Err(_) => {} // the first error says more
        },
        (_, _, Place::Own(_)) => {} // the server stops, and its data is gone
    }
    result
}

/// Both runs, and the tables.
fn show(guest: &mut Guest, source: &Source, reads: &[Read]) -> Result<()> {
    let plain = guest.read_the_usual_way(source, reads)?;
    let plain_memory = guest.memory()?;
    guest.remove_entries()?;

    let before = guest.stats()?;
    let smart = guest.read_with_smartcache(source, reads)?;
    let after = guest.stats()?;
    let smart_memory = guest.memory()?;
    let entries = guest.inspect(source)?;

    table_of_reads(&plain, &smart, &before, &after);
    table_of_memory(source, &plain_memory, &smart_memory);
    table_of_codecs(&entries);
    table_of_lifetimes(source, &entries);
    table_of_one_entry(source, &entries);
    Ok(())
}

// ---- the service and its database ---------------------------------------------------------------------------------

/// What one read asks for.
#[derive(Clone, Copy)]
enum Read {
    /// The record of this index.
    Record(usize),
    /// The name of this index, which does not exist.
    Unknown(usize),
}

/// One record of the service's database, with the key and tags it is cached under.
struct Item {
    kind: &'static str,
    key: String,
    tags: Vec<String>,
    json: Vec<u8>,
}

/// The service's database: records, most popular first, and names that do not exist.
struct Source {
    records: Vec<Item>,
    unknown: Vec<String>,
}

impl Source {
    fn new(count: usize, seed: u64) -> Source {
        let mut records: Vec<Item> = data::records().into_iter().map(Item::from_record).collect();
        records.shuffle(&mut StdRng::seed_from_u64(seed));
        records.truncate(count);
        let unknown = (0..UNKNOWN_NAMES).map(|n| format!("demo:airport:ZZ-{n:04}:profile")).collect();
        Source { records, unknown }
    }

    /// A skewed order of reads: the record of rank *r* is read in proportion to 1/*r*.
    fn reads(&self, count: usize, seed: u64) -> Vec<Read> {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(1));
        let zipf = |n: usize| Zipf::new(n as f64, 1.0).expect("there is at least one to choose from");
        let (known, unknown) = (zipf(self.records.len()), zipf(self.unknown.len()));
        (1..=count)
            .map(|n| match n % UNKNOWN_EVERY {
                0 => Read::Unknown(unknown.sample(&mut random) as usize - 1),
                _ => Read::Record(known.sample(&mut random) as usize - 1),
            })
            .collect()
    }

    fn key(&self, read: Read) -> &str {
        match read {
            Read::Record(n) => &self.records[n].key,
            Read::Unknown(n) => &self.unknown[n],
        }
    }

    /// The load that a cache avoids: `None` when the database has nothing.
    fn load(&self, read: Read) -> Option<&Item> {
        match read {
            Read::Record(n) => Some(&self.records[n]),
            Read::Unknown(_) => None,
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|item| item.key.as_str()).chain(self.unknown.iter().map(String::as_str))
    }

    fn count(&self, kind: &str) -> usize {
        self.records.iter().filter(|item| item.kind == kind).count()
    }
}

impl Item {
    /// Hierarchical keys, as services use them. Large airports are `hot`, the others have a `profile`: two of the
    /// segments that the rules of `scripts/redis.conf` match. Of the browser features only the few that end in
    /// `session` match one.
    fn from_record(record: data::Record) -> Item {
        let json = record.json();
        let text = |member: &str| record.value[member].as_str().unwrap_or_default();
        match record.key.strip_prefix("airport:") {
            Some(code) => {
                let key = match text("type") {
                    "large_airport" => format!("demo:airport:hot:{code}"),
                    _ => format!("demo:airport:{code}:profile"),
                };
                let tags = vec!["demo:airports".to_owned(), format!("demo:country:{}", text("iso_country"))];
                Item { kind: "airports", key, tags, json }
            }
            None => {
                let file = record.key.split(':').take(3).collect::<Vec<_>>().join(":");
                let tags = vec!["demo:features".to_owned(), format!("demo:{file}")];
                Item { kind: "features", key: format!("demo:{}", record.key), tags, json }
            }
        }
    }
}

// ---- the server ---------------------------------------------------------------------------------------------------

/// Which server the demo talks to.
enum Place {
    /// A running one, at this address.
    Running(String),
    /// One that the demo started.
    Own(Server),
}

/// The server at `address`, else the running one if it has the module, else one that the demo starts.
fn connect(address: Option<&str>) -> Result<(Connection, Place)> {
    const USUAL: &str = "redis://127.0.0.1:6379";
    match (address, open(address.unwrap_or(USUAL))) {
        (_, Ok(con)) => Ok((con, Place::Running(address.unwrap_or(USUAL).to_owned()))),
        (Some(address), Err(error)) => Err(format!("{address}: {error}").into()),
        (None, Err(why)) => {
            say(&format!("No SmartCache at {USUAL} ({why}), so the demo starts a server of its own."));
            let own = Server::start(
                &server::program(),
                Some(&server::built_module()?),
                &[include_str!("../scripts/redis.conf")], // what `make run` serves with
            )?;
            let own = Place::Own(own);
            Ok((open(&own.address())?, own))
        }
    }
}

fn open(address: &str) -> Result<Connection> {
    let mut con = Client::open(address)?.get_connection_with_timeout(Duration::from_secs(2))?;
    con.set_read_timeout(Some(Duration::from_secs(30)))?;
    let known: Vec<Value> = cmd("COMMAND").arg("INFO").arg("SMARTCACHE.GET").query(&mut con)?;
    match known.first() {
        Some(Value::Nil) | None => Err("this server does not have the SmartCache module".into()),
        Some(_) => Ok(con),
    }
}

impl Place {
    fn describe(&self, con: &mut Connection) -> Result<String> {
        let info: String = cmd("INFO").arg("server").query(con)?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let version = match (field("valkey_version:"), field("redis_version:")) {
            (Some(version), _) => format!("Valkey {version}"),
            (_, version) => format!("Redis {}", version.unwrap_or("?")),
        };
        Ok(match self {
            Place::Running(address) => format!(
                "Server: the {version} at {address}. The demo writes only keys that begin with demo:, and removes them \
                 at the end (with --keep they stay).",
            ),
            Place::Own(_) => format!("Server: a {version} that the demo starts, and stops at the end."),
        })
    }

    fn address(&self) -> String {
        match self {
            Place::Running(address) => address.clone(),
            Place::Own(own) => format!("unix://{}", own.socket().display()),
        }
    }

    fn cli(&self) -> String {
        match self {
            Place::Running(address) => format!("redis-cli -u {address}"),
            Place::Own(own) => format!("redis-cli -s {}", own.socket().display()),
        }
    }
}

/// The demo as a guest on a server: the keys and rules it has put there, and how it removes them.
struct Guest {
    con: Connection,
    address: String,
    keys: Vec<String>,
    rules: Vec<&'static str>,
}

impl Guest {
    /// Checks that none of the demo's keys exists yet, and that rules apply to them.
    fn arrive(con: Connection, address: String, source: &Source) -> Result<Guest> {
        let keys: Vec<String> = source.keys().map(str::to_owned).collect();
        // `keys` stays empty until it is known that none belongs to somebody else: `drop` removes what is in it.
        let mut guest = Guest { con, address, keys: Vec::new(), rules: Vec::new() };
        let left_by_us: bool = cmd("EXISTS").arg(MARKER).query(&mut guest.con)?;
        for keys in keys.chunks(CHUNK).filter(|_| !left_by_us) {
            let mut ask = pipe();
            keys.iter().for_each(|key| {
                ask.exists(key);
            });
            let there: Vec<bool> = ask.query(&mut guest.con)?;
            if let Some((key, _)) = keys.iter().zip(there).find(|(_, there)| *there) {
                return Err(format!("{key} exists already and is not the demo's: the demo overwrites nothing").into());
            }
        }
        guest.keys = keys;
        guest.remove_entries()?; // an earlier --keep may have left some
        cmd("SET").arg(MARKER).arg("removed with the demo's keys").arg("EX").arg(86_400).exec(&mut guest.con)?;
        guest.add_missing_rules()?;
        Ok(guest)
    }

    /// The rules of `scripts/redis.conf` are the ones to show. Where a server has none, the demo adds its own, which
    /// match only its own keys.
    fn add_missing_rules(&mut self) -> Result<()> {
        let wanted = [
            ("demo-profile", "2", "demo:airport:ZZ-0000:profile", ["demo:*:profile", "demo:*:profile:*"]),
            ("demo-hot", "4", "demo:airport:hot:ZZZZ", ["demo:*:hot", "demo:*:hot:*"]),
        ];
        for (name, scale, key, patterns) in wanted {
            let policy: HashMap<String, Value> = cmd("SMARTCACHE.RULE").arg("EXPLAIN").arg(key).query(&mut self.con)?;
            if !matches!(policy.get("rule"), None | Some(Value::Nil)) {
                continue;
            }
            let mut set = cmd("SMARTCACHE.RULE");
            set.arg("SET").arg(name);
            for pattern in patterns {
                set.arg("MATCH").arg(pattern);
            }
            set.arg("SCALE").arg(scale).exec(&mut self.con)?;
            self.rules.push(name);
        }
        Ok(())
    }

    /// `UNLINK`s exactly the demo's keys; returns how many existed.
    fn remove_entries(&mut self) -> Result<usize> {
        let mut removed = 0;
        for keys in self.keys.chunks(CHUNK) {
            removed += cmd("UNLINK").arg(keys).query::<usize>(&mut self.con)?;
        }
        Ok(removed)
    }

    /// Removes everything of the demo; returns how many keys and rules that was.
    fn leave(mut self) -> Result<(usize, usize)> {
        self.clean_up()
    }

    /// Uses a new connection: a signal or an error may have cut the old one off in the middle of a reply.
    fn clean_up(&mut self) -> Result<(usize, usize)> {
        self.con = open(&self.address)?;
        let keys = self.remove_entries()?;
        self.keys.clear();
        let rules = std::mem::take(&mut self.rules);
        for name in &rules {
            cmd("SMARTCACHE.RULE").arg("DEL").arg(name).exec(&mut self.con)?;
        }
        cmd("UNLINK").arg(MARKER).exec(&mut self.con)?;
        Ok((keys, rules.len()))
    }

    /// Leaves all keys and rules on the server.
    fn stay(&mut self) {
        self.keys.clear();
    }

    /// As most services do: `GET`, and on a miss load and `SET … EX`.
    fn read_the_usual_way(&mut self, source: &Source, reads: &[Read]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for &read in reads {
            stop_if_interrupted()?;
            let key = source.key(read);
            let found: Option<Vec<u8>> = cmd("GET").arg(key).query(&mut self.con)?;
            if found.is_some() {
                outcome.hits += 1;
                continue;
            }
            outcome.loads += 1;
            if let Some(item) = source.load(read) {
                cmd("SET").arg(key).arg(&item.json).arg("EX").arg(TTL_SECONDS).exec(&mut self.con)?;
            }
        }
        Ok(outcome)
    }

    /// The same with SmartCache: the reply says whether there is a value, or an absence is recorded.
    fn read_with_smartcache(&mut self, source: &Source, reads: &[Read]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for &read in reads {
            stop_if_interrupted()?;
            let key = source.key(read);
            let (state, value, ..): (String, Option<Vec<u8>>, Value, u64, u64) =
                cmd("SMARTCACHE.GET").arg(key).arg("STATE").query(&mut self.con)?;
            match (state.as_str(), value, source.load(read)) {
                ("HIT", Some(value), Some(item)) if value == item.json => outcome.hits += 1,
                ("ABSENT", None, None) => outcome.absent += 1,
                ("MISS", None, Some(item)) => {
                    outcome.loads += 1;
                    let mut set = cmd("SMARTCACHE.SET");
                    set.arg(key).arg(&item.json).arg("TTL").arg(TTL_SECONDS);
                    set.arg("TAGS").arg(item.tags.len()).arg(&item.tags).exec(&mut self.con)?;
                }
                ("MISS", None, None) => {
                    outcome.loads += 1;
                    cmd("SMARTCACHE.ABSENT").arg(key).exec(&mut self.con)?;
                }
                (state, ..) => return Err(format!("{key}: the cache answered {state}, which is wrong here").into()),
            }
        }
        Ok(outcome)
    }

    /// `MEMORY USAGE` of every key in the order of [`Source::keys`]: all that the server holds for it, name included.
    fn memory(&mut self) -> Result<Vec<Option<u64>>> {
        let mut all = Vec::new();
        for keys in self.keys.chunks(CHUNK) {
            let mut ask = pipe();
            keys.iter().for_each(|key| {
                ask.cmd("MEMORY").arg("USAGE").arg(key);
            });
            all.extend(ask.query::<Vec<Option<u64>>>(&mut self.con)?);
        }
        Ok(all)
    }

    /// `SMARTCACHE.INSPECT` of each record's entry; `None` for records that were never read.
    fn inspect(&mut self, source: &Source) -> Result<Vec<Option<Entry>>> {
        let mut all = Vec::new();
        for items in source.records.chunks(CHUNK) {
            let mut ask = pipe();
            items.iter().for_each(|item| {
                ask.cmd("SMARTCACHE.INSPECT").arg(&item.key);
            });
            all.extend(ask.query::<Vec<Option<Entry>>>(&mut self.con)?);
        }
        Ok(all)
    }

    fn stats(&mut self) -> Result<HashMap<String, Value>> {
        Ok(cmd("SMARTCACHE.STATS").query(&mut self.con)?)
    }
}

impl Drop for Guest {
    /// Cleans up after an error; without one, [`Guest::leave`] does, and reports what it removed.
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let _ = self.clean_up();
        }
    }
}

fn stop_if_interrupted() -> Result<()> {
    if server::interrupted() { Err("interrupted".into()) } else { Ok(()) }
}

// ---- the tables ---------------------------------------------------------------------------------------------------

/// How the reads of one run ended.
#[derive(Default)]
struct Outcome {
    hits: usize,
    absent: usize,
    loads: usize,
}

impl Outcome {
    fn hit_rate(&self) -> String {
        let answered = self.hits + self.absent;
        percent(answered, answered + self.loads)
    }
}

/// The map that `SMARTCACHE.INSPECT` answers.
type Entry = HashMap<String, Value>;

fn table_of_reads(plain: &Outcome, smart: &Outcome, before: &Entry, after: &Entry) {
    heading("1. How the reads were answered");
    let mut table = table(&["", "GET, SET … EX", "SmartCache"]);
    row(&mut table, ["from the cache".into(), thousands(plain.hits), thousands(smart.hits)]);
    row(&mut table, ["known to be absent, no load".into(), "–".into(), thousands(smart.absent)]);
    row(&mut table, ["loaded from the database".into(), thousands(plain.loads), thousands(smart.loads)]);
    row(&mut table, ["hit rate".into(), plain.hit_rate(), smart.hit_rate()]);
    println!("{table}\n");

    let counted = |name: &str| number(after, name).saturating_sub(number(before, name));
    say(&format!(
        "A read for something that does not exist costs a load every time, unless the cache remembers that there is \
         nothing (SMARTCACHE.ABSENT). SMARTCACHE.STATS counted {} requests, {} hits, {} absent hits, {} misses.",
        thousands(counted("requests")),
        thousands(counted("hits")),
        thousands(counted("absent_hits")),
        thousands(counted("misses")),
    ));
}

fn table_of_memory(source: &Source, plain: &[Option<u64>], smart: &[Option<u64>]) {
    /// Sums over the keys of one kind.
    #[derive(Default)]
    struct Sums {
        entries: usize,
        json: usize,
        plain: usize,
        smart: usize,
    }
    heading("2. Memory for the same records");
    let kinds = source.records.iter().map(|item| (item.kind, item.json.len()));
    let kinds = kinds.chain(source.unknown.iter().map(|_| ("absent", 0)));
    let mut table = table(&["", "entries", "JSON", "GET, SET … EX", "SmartCache", "saved"]);
    for kind in ["airports", "features", "absent", "all"] {
        let mut sums = Sums::default();
        for (((of, json), plain), smart) in kinds.clone().zip(plain).zip(smart) {
            if let (true, Some(smart)) = (of == kind || kind == "all", smart) {
                sums.entries += 1;
                sums.json += json;
                sums.plain += plain.unwrap_or(0) as usize;
                sums.smart += *smart as usize;
            }
        }
        let saved = match sums.plain {
            0 => "–".to_owned(),
            plain => format!("{:.1} %", 100.0 * (1.0 - sums.smart as f64 / plain as f64)),
        };
        let columns = [sums.json, sums.plain, sums.smart].map(|n| if n == 0 { "–".to_owned() } else { bytes(n) });
        let [json, plain, smart] = columns;
        row(&mut table, [kind.into(), thousands(sums.entries), json, plain, smart, saved]);
    }
    println!("{table}\n");
    say("As MEMORY USAGE counts it: the value, the key's name and the server's own overhead. The server compresses: \
         clients send and receive the values as they are.");
}

fn table_of_codecs(entries: &[Option<Entry>]) {
    heading("3. What was compressed");
    let mut codecs: BTreeMap<String, (usize, usize, usize)> = BTreeMap::new();
    for entry in entries.iter().flatten() {
        let (count, raw, stored) = codecs.entry(text(entry, "codec")).or_default();
        *count += 1;
        *raw += number(entry, "raw_bytes");
        *stored += number(entry, "stored_bytes");
    }
    let mut table = table(&["codec", "entries", "bytes given", "bytes stored", "factor"]);
    for (codec, (count, raw, stored)) in codecs {
        let factor = format!("{:.2}", raw as f64 / (stored as f64).max(1.0));
        row(&mut table, [codec, thousands(count), bytes(raw), bytes(stored), factor]);
    }
    println!("{table}\n");
    say("Each value is compressed by itself, and stored compressed only where that saves enough \
         (smartcache.min-savings); other values are stored as they are (codec none) and cost nothing extra to read.");
}

fn table_of_lifetimes(source: &Source, entries: &[Option<Entry>]) {
    struct Lives<'a> {
        example: &'a str,
        count: usize,
        shortest: usize,
        longest: usize,
    }
    heading("4. Lifetimes by rule");
    let mut rules: BTreeMap<String, Lives> = BTreeMap::new();
    for (item, entry) in source.records.iter().zip(entries) {
        let Some(entry) = entry else { continue };
        let life = number(entry, "age_ms") + number(entry, "fresh_ms");
        let rule = Some(text(entry, "rule")).filter(|rule| !rule.is_empty()).unwrap_or("(no rule)".into());
        let lives = rules.entry(rule).or_insert(Lives { example: &item.key, count: 0, shortest: life, longest: life });
        lives.count += 1;
        lives.example = if item.key.len() < lives.example.len() { &item.key } else { lives.example };
        lives.shortest = lives.shortest.min(life);
        lives.longest = lives.longest.max(life);
    }
    let mut table = table(&["rule", "such as", "entries", "TTL asked", "TTL given"]);
    for (rule, lives) in &rules {
        let given = match (seconds(lives.shortest), seconds(lives.longest)) {
            (shortest, longest) if shortest == longest => shortest,
            (shortest, longest) => format!("{shortest} – {longest}"),
        };
        let asked = seconds(TTL_SECONDS as usize * 1000);
        row(&mut table, [rule.clone(), lives.example.to_owned(), thousands(lives.count), asked, given]);
    }
    println!("{table}\n");
    say("The service asked for the same TTL every time. Rules in the server (SMARTCACHE.RULE, or smartcache.rules in \
         its configuration) turn it into the lifetime of each kind of key, so clients need not. These rules match a \
         segment at the end of a key and inside it.");
}

fn table_of_one_entry(source: &Source, entries: &[Option<Entry>]) {
    let found = source.records.iter().zip(entries).find(|(item, entry)| item.kind == "airports" && entry.is_some());
    let Some((item, Some(entry))) = found else { return };
    heading(&format!("5. One entry, as SMARTCACHE.INSPECT {} shows it", item.key));
    let mut table = table(&[]);
    for name in ["kind", "state", "codec", "raw_bytes", "stored_bytes", "memory_bytes", "fresh_ms", "rule", "tags"] {
        if entry.contains_key(name) {
            table.add_row([name.to_owned(), text(entry, name)]);
        }
    }
    println!("{table}\n");
    let tag = item.tags.last().map_or("", String::as_str);
    say(&format!(
        "Tags group entries across keys, such as everything about one country. SMARTCACHE.INVALIDATE TAGS 1 {tag} ends \
         the freshness of all entries with that tag; SMARTCACHE.PREVIEW TAGS 1 {tag} shows what that would hit.",
    ));
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if !header.is_empty() {
        table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
        table.set_header(header.iter().enumerate().map(|(n, name)| cell(n, name).add_attribute(Attribute::Bold)));
    }
    table
}

fn row<const N: usize>(table: &mut Table, cells: [String; N]) {
    table.add_row(cells.iter().enumerate().map(|(n, text)| cell(n, text)));
}

/// Words are aligned left, numbers right.
fn cell(column: usize, text: &str) -> Cell {
    let is_word = column == 0 || text.contains("demo:") || text == "such as";
    Cell::new(text).set_alignment(if is_word { CellAlignment::Left } else { CellAlignment::Right })
}

fn heading(text: &str) {
    println!("{text}\n");
}

/// Prints a paragraph and an empty line: broken at spaces into lines of at most 96; lines that begin with a space stay
/// as they are.
fn say(paragraph: &str) {
    for line in paragraph.lines() {
        let mut out = String::new();
        let mut width = 0;
        let words = if line.starts_with(' ') { vec![line] } else { line.split(' ').collect() };
        for word in words {
            let len = word.chars().count();
            if width > 0 {
                let fits = width + 1 + len <= 96;
                out.push(if fits { ' ' } else { '\n' });
                width = if fits { width + 1 } else { 0 };
            }
            out.push_str(word);
            width += len;
        }
        println!("{out}");
    }
    println!();
}

// ---- words and numbers --------------------------------------------------------------------------------------------

/// A member of a reply map as text: lists joined, nil empty.
fn text(map: &Entry, name: &str) -> String {
    fn show(value: &Value) -> String {
        match value {
            Value::Nil => String::new(),
            Value::Int(n) => n.to_string(),
            Value::Double(n) => n.to_string(),
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::SimpleString(text) => text.clone(),
            Value::Array(values) | Value::Set(values) => values.iter().map(show).collect::<Vec<_>>().join(", "),
            other => format!("{other:?}"),
        }
    }
    map.get(name).map(show).unwrap_or_default()
}

/// A member of a reply map as a number; what is missing or not a number counts as 0.
fn number(map: &Entry, name: &str) -> usize {
    text(map, name).parse().unwrap_or(0)
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / (whole as f64).max(1.0))
}

fn bytes(n: usize) -> String {
    match n {
        0..10_000 => format!("{} B", thousands(n)),
        10_000..1_000_000 => format!("{:.0} KB", n as f64 / 1e3),
        _ => format!("{:.2} MB", n as f64 / 1e6),
    }
}

fn seconds(ms: usize) -> String {
    let s = (ms + 500) / 1000;
    if s >= 60 && s.is_multiple_of(60) { format!("{} min", s / 60) } else { format!("{s} s") }
}
