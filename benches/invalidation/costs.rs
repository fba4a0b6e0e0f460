//! Further costs of tags: CPU on reads, memory, and the reply time of `INVALIDATE TAGS` on an otherwise idle server.

use std::{
    thread,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use redis::{Connection, cmd};

use crate::{
    results::Reads,
    runs::Lab,
    support::{
        lab::{connect, info, used_memory_at_rest},
        machine,
        server::{self, Result, Server},
        wire::{Script, Wire, bulk_reply},
    },
};

/// Number of keys that are read, with and without tags.
const KEYS: usize = 10_240;
const PIPELINES: [usize; 3] = [1, 16, 64];
/// Duration of one sample.
const SPAN: Duration = Duration::from_millis(120);

impl Lab {
    pub(crate) fn reads(&mut self, rounds: u32, quick: bool) -> Result<Vec<Reads>> {
        let server = self.start(true)?;
        let mut con = connect(&server)?;
        let mut wire = Wire::connect(&server.socket())?;
        let pid = info(&mut con, "server", "process_id").parse()?;
        let span = if quick { SPAN / 20 } else { SPAN };
        let mut numbers: Vec<usize> = (0..KEYS).collect();
        numbers.shuffle(&mut StdRng::seed_from_u64(1));
        let mut scripts = Vec::new();
        // Interleaved: what is stored first lies together in memory and is read a few percent faster.
        self.fill_tagged(&server, KEYS, &[0, 4], |_| self.value)?;
        for tags in [0, 4] {
            let mut script = Script::default();
            numbers
                .iter()
                .for_each(|&n| script.push(&[b"SMARTCACHE.GET", &tagged_key(n, tags)], bulk_reply(self.value)));
            scripts.push(script);
        }
        let mut done = Vec::new();
        for after in [false, true] {
            for pipeline in PIPELINES {
                let mut reads = Reads { pipeline, after, without: Vec::new(), with: Vec::new(), ratios: Vec::new() };
                for _ in 0..2 * rounds {
                    if after {
                        invalidate_another(&mut con)?;
                    }
                    let mut sample = |script: &Script| micros(&mut wire, pid, script, pipeline, span);
                    let (before, with, after) = (sample(&scripts[0])?, sample(&scripts[1])?, sample(&scripts[0])?);
                    reads.without.extend([before, after]);
                    reads.with.push(with);
                    reads.ratios.push(with / ((before + after) / 2.0));
                }
                done.push(reads);
            }
        }
        Ok(done)
    }

    /// Milliseconds until the reply, on an otherwise idle server.
    pub(crate) fn reply_of_tags(&mut self, keys: usize) -> Result<f64> {
        let server = self.start(true)?;
        self.fill_tagged(&server, keys, &[1], |_| self.value)?;
        let mut con = connect(&server)?;
        let pid = info(&mut con, "server", "process_id").parse()?;
        machine::cpu_at_rest(pid)?;
        let started = Instant::now();
        let hit: usize = cmd("SMARTCACHE.INVALIDATE").arg(&["TAGS", "1", "all"]).query(&mut con)?;
        let took = started.elapsed();
        if hit != keys {
            return Err(format!("INVALIDATE TAGS hit {hit} entries of {keys}").into());
        }
        Ok(took.as_secs_f64() * 1e3)
    }

    /// Bytes per (entry, tag) of entries with one and with four tags, beyond entries without; keys are equally long.
    /// Values have all lengths up to the usual one, so that the allocator's rounding is averaged.
    pub(crate) fn memory_of_tags(&mut self, keys: usize) -> Result<Vec<(usize, f64)>> {
        let mut taken = Vec::new();
        for tags in [0, 1, 4] {
            let server = self.start(true)?;
            let mut con = connect(&server)?;
            let before = used_memory_at_rest(&mut con)?;
            let most = self.value;
            self.fill_tagged(&server, keys, &[tags], |n| n % (most + 1))?;
            taken.push((tags, used_memory_at_rest(&mut con)? - before));
        }
        let (key, none) = (tagged_key(0, 0).len() as f64, taken[0].1);
        let each = |&(tags, taken): &(usize, f64)| (tags, (taken - none) / (tags * keys) as f64 - key);
        Ok(taken[1..].iter().map(each).collect())
    }

    /// Stores entries with the first `tags` of these: one tag of all, of every tenth, of every thousandth, its own.
    /// The numbers of `tags` alternate.
    fn fill_tagged(&self, server: &Server, keys: usize, tags: &[usize], length: impl Fn(usize) -> usize) -> Result<()> {
        const OK: usize = b"+OK\r\n".len();
        self.store(server, keys * tags.len(), |nth, value, put| {
            let (n, tags) = (nth / tags.len(), tags[nth % tags.len()]);
            let key = tagged_key(n, tags);
            let names = ["all".into(), format!("shop:{}", n % 10), format!("user:{}", n % 1_000), format!("item:{n}")];
            let count = tags.to_string();
            let value = &value[..length(n)];
            let mut words: Vec<&[u8]> = vec![b"SMARTCACHE.SET", &key, value, b"TTL", b"3600", b"CODEC", b"none"];
            if tags > 0 {
                words.extend([b"TAGS", count.as_bytes()]);
                words.extend(names[..tags].iter().map(String::as_bytes));
            }
            put(&words, OK);
        })
    }
}

fn tagged_key(n: usize, tags: usize) -> Vec<u8> {
    format!("tags:{tags}:{n:010}").into_bytes()
}

/// Invalidates a tag that only one entry has, and waits for the sweep.
fn invalidate_another(con: &mut Connection) -> Result<()> {
    cmd("SMARTCACHE.SET").arg(&["another", "value", "TAGS", "1", "another"]).exec(con)?;
    let hit: u64 = cmd("SMARTCACHE.INVALIDATE").arg(&["TAGS", "1", "another"]).query(con)?;
    thread::sleep(Duration::from_millis(250));
    if hit == 1 { Ok(()) } else { Err(format!("INVALIDATE TAGS hit {hit} entries instead of one").into()) }
}

/// Repeats `script` for `span`: CPU microseconds of the server's main thread per command.
fn micros(wire: &mut Wire, pid: u32, script: &Script, pipeline: usize, span: Duration) -> Result<f64> {
    if server::interrupted() {
        return Err("interrupted".into());
    }
    let before = machine::cpu_at_rest(pid)?;
    let (mut at, mut commands) = (0, 0);
    let started = Instant::now();
    while started.elapsed() < span {
        at = if at + pipeline > script.len() { 0 } else { at };
        let (requests, replies) = script.batch(at, at + pipeline);
        wire.exchange(requests, replies)?;
        at += pipeline;
        commands += pipeline;
    }
    Ok(machine::cpu_at_rest(pid)?.since(before).main as f64 / 1e3 / commands as f64)
}
