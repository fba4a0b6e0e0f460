//! One server and all measurements on it.

use std::{
    collections::HashMap,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use hdrhistogram::Histogram;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use redis::{Connection, Value, cmd, pipe};

use crate::{
    args::Args,
    forms::{Form, Op, Work, gzip},
    report,
    results::{Budget, Cell, Facts, Limit, MemoryRow, Sample},
    support::{
        self,
        corpus::Corpus,
        lab::{self, connect, info, progress},
        machine::{self, Cpu},
        numbers::Quartiles,
        server::{self, Result, Server},
        wire::{OK_REPLY, Script, Wire, bulk_reply, push_command},
    },
};

/// Value sizes in bytes.
const SIZES: [usize; 4] = [100, 1_024, 10_240, 102_400];
/// Commands per pipeline.
const PIPELINES: [usize; 3] = [1, 16, 64];
/// Keys of each kind in the tables (those of 100 KB: an eighth). A multiple of the longest pipeline.
const KEYS: usize = 1_024;
/// Keys of each kind in the second half of the budgets.
const MANY_KEYS: usize = 10_240;

/// The server, the connections to it, and the values to store.
pub(crate) struct Lab {
    // Fields are dropped in order: the connections before the server.
    wire: Wire,
    con: Connection,
    server: Server,
    pub(crate) pid: u32,
    pinned: bool,
    module: Option<PathBuf>,
    corpus: Corpus,
    rounds: u32,
    span: Duration,
}

impl Lab {
    pub(crate) fn open(args: &Args) -> Result<Lab> {
        let module = if args.native { None } else { Some(args.common.module()?) };
        // A child process inherits the CPU affinity: pin to the server's core first, then to the client's.
        let server_pinned = lab::pin(0);
        let server = Server::start(&args.common.server(), module.as_deref(), &["maxmemory 0", "hz 10"])?;
        let pinned = server_pinned && lab::pin(1);

        let mut con = connect(&server)?;
        let wire = Wire::connect(&server.socket())?;
        let pid = info(&mut con, "server", "process_id").parse()?;
        let corpus = Corpus::new();
        let (rounds, span) = (args.common.rounds(), if args.common.quick { 5 } else { 120 });
        Ok(Lab { wire, con, server, pid, pinned, module, corpus, rounds, span: Duration::from_millis(span) })
    }

    fn forms(&self) -> Vec<Form> {
        let available = |form: &Form| self.module.is_some() || !matches!(form, Form::Entry(_));
        Form::ALL.into_iter().filter(available).collect()
    }

    /// Repeats `work` for `self.span`.
    fn sample(&mut self, work: &Work, pipeline: usize, latency: &mut Histogram<u64>) -> Result<Sample> {
        if server::interrupted() {
            return Err("interrupted".into());
        }
        let before = machine::cpu_at_rest(self.pid)?;
        let mut requests = Vec::new();
        let (mut commands, mut at) = (0, 0);
        let started = Instant::now();
        let mut batch_began = started;
        loop {
            match work {
                Work::Script(script) => {
                    at = if at + pipeline > script.len() { 0 } else { at };
                    let (requests, replies) = script.batch(at, at + pipeline);
                    self.wire.exchange(requests, replies)?;
                }
                Work::Gunzip(script) => {
                    at = if at + pipeline > script.len() { 0 } else { at };
                    let (requests, _) = script.batch(at, at + pipeline);
                    self.wire.exchange_bulks(requests, pipeline, |stored| {
                        let mut value = Vec::new();
                        std::io::Read::read_to_end(&mut GzDecoder::new(stored), &mut value)?;
                        std::hint::black_box(value);
                        Ok(())
                    })?;
                }
                Work::Gzip(entries) => {
                    at = if at + pipeline > entries.len() { 0 } else { at };
                    requests.clear();
                    for (key, value) in &entries[at..at + pipeline] {
                        push_command(&mut requests, &Form::GzipInClient.set(key, &gzip(value)?));
                    }
                    self.wire.exchange(&requests, pipeline * OK_REPLY)?;
                }
            }
            at += pipeline;
            commands += pipeline as u64;
            let now = Instant::now();
            latency.saturating_record((now - batch_began).as_nanos() as u64);
            batch_began = now;
            if now - started >= self.span {
                break;
            }
        }
        let wall = started.elapsed();
        Ok(Sample { commands, wall, cpu: machine::cpu_at_rest(self.pid)?.since(before) })
    }

    /// One round: native, the first form, native, the second form, native, … `works[0]` is native.
    fn round(&mut self, works: &[&Work], cells: &mut [Cell]) -> Result<()> {
        let (native, ours) = cells.split_first_mut().ok_or("nothing to compare")?;
        native.samples.push(self.sample(works[0], native.pipeline, &mut native.latency)?);
        for (cell, work) in ours.iter_mut().zip(&works[1..]) {
            let sample = self.sample(work, cell.pipeline, &mut cell.latency)?;
            let after = self.sample(works[0], native.pipeline, &mut native.latency)?;
            let before = native.samples.last().map_or(0.0, Sample::micros);
            let base = (before + after.micros()) / 2.0;
            cell.ratios.push(sample.micros() / base);
            cell.extra_micros.push(sample.micros() - base);
            cell.samples.push(sample);
            native.samples.push(after);
        }
        Ok(())
    }

    // ---- storing values --------------------------------------------------------------------------------------------

    /// Stores `count` values under `form`'s keys and checks that each reads back unchanged. Returns the share that the
    /// codec compressed.
    fn fill(&mut self, form: Form, op: Op, size: usize, count: usize) -> Result<f64> {
        let mut compressed = 0;
        let numbers: Vec<usize> = (0..count).collect();
        // At most as much at once as the compression queue accepts.
        for numbers in numbers.chunks((2_000_000 / size).clamp(1, 1_024)) {
            let mut raw = numbers.to_vec();
            for _ in 0..5 {
                self.store(form, op, size, &raw)?;
                raw = self.not_compressed(form, op, size, &raw)?;
                if raw.is_empty() || size < OFFLOADED {
                    break; // compressed synchronously: a second attempt changes nothing
                }
            }
            compressed += numbers.len() - raw.len();
            self.check(form, op, size, numbers)?;
        }
        Ok(compressed as f64 / count as f64)
    }

    fn store(&mut self, form: Form, op: Op, size: usize, numbers: &[usize]) -> Result<()> {
        let mut requests = Vec::new();
        for &n in numbers {
            let sent = form.sent(self.corpus.value(n, size))?;
            push_command(&mut requests, &form.set(&form.key(op, n), &sent));
        }
        self.wire.exchange(&requests, numbers.len() * OK_REPLY)
    }

    /// The numbers whose entry is not compressed by `form`'s codec, after waiting for the worker threads.
    fn not_compressed(&mut self, form: Form, op: Op, size: usize, numbers: &[usize]) -> Result<Vec<usize>> {
        let Form::Entry(codec) = form else { return Ok(Vec::new()) };
        let mut raw = numbers.to_vec();
        let started = Instant::now();
        loop {
            let mut ask = pipe();
            raw.iter().for_each(|&n| {
                ask.cmd("SMARTCACHE.INSPECT").arg(form.key(op, n));
            });
            let entries: Vec<HashMap<String, Value>> = ask.query(&mut self.con)?;
            let has_codec = |entry: &HashMap<String, Value>| match entry.get("codec") {
                Some(Value::BulkString(name)) => name == codec.as_bytes(),
                Some(Value::SimpleString(name)) => name == codec,
                _ => false,
            };
            raw = raw.into_iter().zip(&entries).filter(|(_, entry)| !has_codec(entry)).map(|(n, _)| n).collect();
            if raw.is_empty() || size < OFFLOADED || started.elapsed() > Duration::from_secs(1) {
                return Ok(raw);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn check(&mut self, form: Form, op: Op, size: usize, numbers: &[usize]) -> Result<()> {
        let mut ask = pipe();
        for &n in numbers {
            let key = form.key(op, n);
            let [name, key] = form.get(&key);
            ask.cmd(&String::from_utf8_lossy(name)).arg(key);
        }
        let found: Vec<Option<Vec<u8>>> = ask.query(&mut self.con)?;
        for (&n, found) in numbers.iter().zip(found) {
            if found != Some(form.sent(self.corpus.value(n, size))?) {
                let key = String::from_utf8_lossy(&form.key(op, n)).into_owned();
                return Err(format!("{key} does not read back as it was stored").into());
            }
        }
        Ok(())
    }

    /// The requests for the first `count` keys, in a random order; a single key as often as a pipeline is long.
    fn work(&self, form: Form, op: Op, size: usize, count: usize) -> Result<Work> {
        let mut numbers: Vec<usize> = (0..count).collect();
        numbers.shuffle(&mut StdRng::seed_from_u64(1));
        if count == 1 {
            numbers = vec![0; PIPELINES[2]];
        }
        if (form, op) == (Form::GzipInClient, Op::Set) {
            return Ok(Work::Gzip(numbers.iter().map(|&n| (form.key(op, n), self.corpus.value(n, size))).collect()));
        }
        let mut script = Script::default();
        for n in numbers {
            let key = form.key(op, n);
            match op {
                Op::Get => script.push(&form.get(&key), bulk_reply(size)),
                Op::Set => script.push(&form.set(&key, &self.corpus.value(n, size)), OK_REPLY),
            }
        }
        Ok(if form == Form::GzipInClient { Work::Gunzip(script) } else { Work::Script(script) })
    }

    fn empty(&mut self) -> Result<()> {
        cmd("FLUSHALL").arg("SYNC").exec(&mut self.con)?;
        Ok(())
    }

    // ---- the parts ------------------------------------------------------------------------------------------------

    /// CPU, throughput and p99 of every form, size and pipeline.
    pub(crate) fn commands(&mut self) -> Result<Vec<Cell>> {
        let mut done = Vec::new();
        for size in SIZES {
            progress(&format!("commands: values of {}", report::bytes(size)));
            self.empty()?;
            let count = if size > 50_000 { KEYS / 8 } else { KEYS };
            let mut contests: Vec<Vec<Cell>> = Vec::new();
            let mut works: Vec<Vec<Work>> = Vec::new();
            for op in [Op::Get, Op::Set] {
                let mut compressed = Vec::new();
                let mut of_op = Vec::new();
                for form in self.forms() {
                    compressed.push((form, self.fill(form, op, size, count)?));
                    of_op.push(self.work(form, op, size, count)?);
                }
                works.push(of_op);
                for pipeline in PIPELINES {
                    let cells =
                        compressed.iter().map(|&(form, compressed)| Cell::new(op, size, pipeline, form, compressed));
                    contests.push(cells.collect::<Result<_>>()?);
                }
            }
            for _ in 0..self.rounds {
                for cells in &mut contests {
                    let works = &works[usize::from(cells[0].op == Op::Set)];
                    self.round(&works.iter().collect::<Vec<_>>(), cells)?;
                }
            }
            done.extend(contests.into_iter().flatten());
        }
        Ok(done)
    }

    /// `used_memory` per entry of every form and size.
    pub(crate) fn memory(&mut self) -> Result<Vec<MemoryRow>> {
        let mut rows = Vec::new();
        for size in SIZES {
            progress(&format!("memory: values of {}", report::bytes(size)));
            let count = (16_000_000 / size).clamp(256, 8_192).next_power_of_two();
            for form in self.forms() {
                let mut compressed = 0.0;
                let grown = self.grown(|lab| {
                    compressed = lab.fill(form, Op::Get, size, count)?;
                    Ok(())
                })?;
                rows.push(MemoryRow { size, form, compressed, bytes: grown / count as f64 });
            }
        }
        Ok(rows)
    }

    /// The growth of `used_memory` when `put` fills the empty server. `put` runs twice and only the second run counts:
    /// the first use of a codec allocates its working memory, which belongs to no entry.
    fn grown(&mut self, mut put: impl FnMut(&mut Lab) -> Result<()>) -> Result<f64> {
        self.empty()?;
        put(self)?;
        self.empty()?;
        let before = self.used_memory()?;
        put(self)?;
        Ok(self.used_memory()? - before)
    }

    /// `used_memory` once it no longer changes: connection buffers and old hash tables are freed with a delay.
    fn used_memory(&mut self) -> Result<f64> {
        // New connections, which have no grown buffers.
        self.wire = Wire::connect(&self.server.socket())?;
        self.con = connect(&self.server)?;
        lab::used_memory_at_rest(&mut self.con)
    }

    // ---- the budgets ----------------------------------------------------------------------------------------------

    /// The budgets for commands, each with one and with many keys.
    pub(crate) fn budgets(&mut self) -> Result<Vec<Budget>> {
        const PLAIN: Form = Form::Entry("none");
        let mut done = Vec::new();
        for count in [1, MANY_KEYS] {
            progress(&format!("budgets: {}", report::keys(count)));
            self.empty()?;
            for (form, op, size) in [
                (Form::Native, Op::Get, 100),
                (PLAIN, Op::Get, 100),
                (Form::Native, Op::Set, 100),
                (PLAIN, Op::Set, 100),
            ] {
                self.fill(form, op, size, count)?;
            }
            let native = self.work(Form::Native, Op::Get, 100, count)?;
            let ours = self.work(PLAIN, Op::Get, 100, count)?;
            for (pipeline, limit) in [(1, 1.05), (16, 1.20), (64, 1.30)] {
                let limit = Some(Limit::Times(limit));
                done.push(self.compare("GET, 100 B stored plain", count, pipeline, limit, &native, &ours)?);
            }

            self.add_rules()?;
            let native = self.work(Form::Native, Op::Set, 100, count)?;
            let plain = self.ruled_sets("plain", count);
            let auto = self.ruled_sets("auto", count);
            let limit = Some(Limit::Times(1.4));
            done.push(self.compare("SET, 100 B, one of 20 rules matches", count, 16, limit, &native, &plain)?);
            done.push(self.compare("the same with CODEC auto", count, 16, None, &native, &auto)?);
            self.remove_rules()?;

            // 1 KB values replace those of 100 B under the same keys.
            self.fill(Form::Native, Op::Get, 1_024, count)?;
            let zstd = Form::Entry("zstd");
            if self.fill(zstd, Op::Get, 1_024, count)? < 0.99 {
                return Err("the values of 1 KB are not stored with zstd; the measurement would be meaningless".into());
            }
            let native = self.work(Form::Native, Op::Get, 1_024, count)?;
            let ours = self.work(zstd, Op::Get, 1_024, count)?;
            for pipeline in PIPELINES {
                let limit = Some(Limit::MoreMicros(2.0));
                done.push(self.compare("GET, 1 KB JSON stored with zstd", count, pipeline, limit, &native, &ours)?);
            }
        }
        Ok(done)
    }

    /// One budget, measured in twice as many rounds as the tables because it ends in a verdict.
    fn compare(
        &mut self,
        what: &'static str,
        keys: usize,
        pipeline: usize,
        limit: Option<Limit>,
        native: &Work,
        ours: &Work,
    ) -> Result<Budget> {
        let mut cells = vec![
            Cell::new(Op::Get, 0, pipeline, Form::Native, 1.0)?,
            Cell::new(Op::Get, 0, pipeline, Form::Entry("none"), 1.0)?,
        ];
        for _ in 0..2 * self.rounds {
            self.round(&[native, ours], &mut cells)?;
        }
        let [native, ours] = [&cells[0], &cells[1]];
        Ok(Budget {
            what,
            keys,
            pipeline: Some(pipeline),
            native: native.server_micros().median,
            ours: ours.server_micros().median,
            difference: match limit {
                Some(Limit::MoreMicros(_)) => Quartiles::of(ours.extra_micros.iter().copied()),
                _ => Quartiles::of(ours.ratios.iter().copied()),
            },
            limit,
        })
    }

    /// Twenty rules, of which only the last matches. It doubles the TTL and, unless the command names a codec, stores
    /// plain.
    fn add_rules(&mut self) -> Result<()> {
        for n in 0..20 {
            let mut set = cmd("SMARTCACHE.RULE");
            set.arg("SET").arg(format!("bench-{n:02}")).arg("MATCH");
            match n {
                19 => set.arg("bench:*:set:*").arg("SCALE").arg("2").arg("CODEC").arg("none"),
                _ => set.arg(format!("bench:*:other{n:02}:*")).arg("SCALE").arg("3"),
            };
            set.exec(&mut self.con)?;
        }
        Ok(())
    }

    fn remove_rules(&mut self) -> Result<()> {
        for n in 0..20 {
            cmd("SMARTCACHE.RULE").arg("DEL").arg(format!("bench-{n:02}")).exec(&mut self.con)?;
        }
        Ok(())
    }

    /// Writes with half the TTL, which the rule doubles, so that both sides end with the same TTL.
    fn ruled_sets(&self, codec: &str, count: usize) -> Work {
        let form = Form::Entry("none");
        let mut script = Script::default();
        for n in 0..count.max(PIPELINES[2]) {
            let n = if count == 1 { 0 } else { n * 4_099 % count }; // a prime step visits each key once, scattered
            let (key, value) = (form.key(Op::Set, n), self.corpus.value(n, 100));
            let mut words: Vec<&[u8]> = vec![b"SMARTCACHE.SET", &key, &value, b"TTL", b"1800"];
            if codec == "auto" {
                words.extend([b"CODEC".as_slice(), b"auto"]);
            }
            script.push(&words, OK_REPLY);
        }
        Work::Script(script)
    }

    /// The memory of an entry beyond that of a native string of the same bytes, averaged over all lengths from 0 to
    /// 2,000.
    pub(crate) fn memory_budget(&mut self) -> Result<Budget> {
        const LENGTHS: usize = 2_001;
        const EACH: usize = 16;
        progress("budgets: memory");
        let (mut native, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            for (form, into) in [(Form::Native, &mut native), (Form::Entry("none"), &mut ours)] {
                let grown = self.grown(|lab| {
                    let mut requests = Vec::new();
                    for n in 0..LENGTHS * EACH {
                        let value = lab.corpus.value(n, n % LENGTHS);
                        push_command(&mut requests, &form.set(&form.key(Op::Get, n), &value));
                    }
                    lab.wire.exchange(&requests, LENGTHS * EACH * OK_REPLY)
                })?;
                into.push(grown / (LENGTHS * EACH) as f64);
            }
        }
        Ok(Budget {
            what: "memory per entry, 0 to 2,000 B",
            keys: LENGTHS * EACH,
            pipeline: None,
            native: Quartiles::of(native.iter().copied()).median,
            ours: Quartiles::of(ours.iter().copied()).median,
            difference: Quartiles::of(ours.iter().zip(&native).map(|(ours, native)| ours - native)),
            limit: Some(Limit::MoreBytes(48.0)),
        })
    }

    // ---- environment ----------------------------------------------------------------------------------------------

    pub(crate) fn facts(&mut self, args: &Args, used: Cpu, ticks: u64) -> Result<Facts> {
        let name = support::report::server(&mut self.con);
        let waited = (used.main, used.waited);
        Ok(Facts {
            common: support::report::Facts::new(&args.common, name, self.module.as_deref(), self.pinned, waited),
            sample_ms: self.span.as_millis() as u64,
            main_seconds: used.main as f64 / 1e9,
            process_seconds: used.process as f64 / 1e9,
            tick_seconds: ticks as f64 / 1e9,
        })
    }
}

/// From this size on worker threads compress values in the background (`smartcache.offload-size`).
const OFFLOADED: usize = 65_536;
