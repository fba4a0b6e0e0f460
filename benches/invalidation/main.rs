//! Invalidation: the time until a group of keys is no longer served, and until its memory is freed.
//!
//! ```text
//! make bench-invalidation                              10,000 to 1,000,000 keys, about a quarter of an hour
//! BIG=1 make bench-invalidation                        10,000,000 as well (takes 8 GB)
//! make bench-invalidation ARGS="--quick"               a smoke run: the figures mean nothing
//! make bench-invalidation ARGS="--keys 10000 --share 0.1"          10,000 keys, a tenth of them in the group
//! make bench-invalidation ARGS="--redraw --svg docs/invalidation.svg"      the picture of docs/numbers.md, last run
//! ```
//!
//! # What is compared
//!
//! | approach | values | invalidates with |
//! |---|---|---|
//! | KEYS, DEL | `SET` | `KEYS pattern`, then one `DEL` of all keys that it returned |
//! | Lua: KEYS, DEL | `SET` | a script that does the same, 5,000 keys per `DEL` |
//! | SCAN, UNLINK | `SET` | `SCAN … MATCH pattern COUNT 1000` over the keyspace, one `UNLINK` per page |
//! | tag sets | `SET` and `SADD tag key` | `SMEMBERS tag`, `UNLINK` of 1,000 members at a time, `UNLINK tag` |
//! | FLUSHDB ASYNC | `SET` | the same: the whole database, whatever the group is |
//! | TAGS | `SMARTCACHE.SET … TAGS 1 tag` | `SMARTCACHE.INVALIDATE TAGS 1 tag` |
//! | PREFIXES | `SMARTCACHE.SET` | `SMARTCACHE.INVALIDATE PREFIXES 1 prefix` |
//! | PATTERNS | `SMARTCACHE.SET` | `SMARTCACHE.INVALIDATE PATTERNS 1 pattern` |
//! | ALL | `SMARTCACHE.SET` | `SMARTCACHE.INVALIDATE ALL`: the whole database, whatever the group is |
//!
//! Keys and values are the same for all: 100 bytes of real records (`tests/data`), stored plain, with a TTL of an hour.
//! The server's own commands use native strings, the module's commands use entries; the module is loaded only for the
//! latter. With `--share` only a part of the keys is in the group, spread evenly among the others. A tagged entry has
//! one tag.
//!
//! # Method
//!
//! - **Each run on a new server process** with default settings and a unix socket; the server runs on the first core,
//!   everything else on the second. Rounds go through all rows. The tables show medians over the rounds, and quartiles
//!   where they matter.
//! - **effective:** from sending the first command until a second client finds that none of 128 keys, spread over the
//!   group in the order of storing, is served as fresh. It probes every 0.2 ms or so, which bounds the precision.
//! - **reply:** until the reply to the last command. `late` counts probes sent after it that still found a fresh key.
//! - **memory freed:** until `used_memory` is within 1 % (of the memory that is freed) of its final value. The value is
//!   final when it has not changed for a second and `sweep_backlog` is 0. `freed` is the freed memory as a share of
//!   what the group had occupied. The server's own tables shrink only when they are nearly empty, so less than 100 % is
//!   usual for a small group.
//! - **Waits of other clients:** a third client sends `PING` until `used_memory` is final: its longest wait, and the
//!   99.9th percentile of the waits of a client that asks at random moments (`support/watch.rs`). `burst` is the
//!   longest time the main thread ran on a CPU without a break; its resolution is the kernel's tick, often 4 ms, and
//!   other threads that preempt it shorten it. `loop` is the server's own longest event loop, where it reports one.
//! - **commands, bytes sent:** by the client that invalidates, without the replies it reads.
//! - **per key:** `used_memory` over the number of keys, with names, values and tables. **tag overhead:** the memory of
//!   tags or tag sets, over the number of keys in the group.
//!
//! # Further parts
//!
//! - `--only reads`: `SMARTCACHE.GET` of entries with four tags, compared with entries without tags: CPU of the
//!   server's main thread per command, paired as in `make bench`; once with nothing invalidated, and once right after
//!   another tag was invalidated, when every read compares stamps.
//! - `--only tags`: the reply time of `INVALIDATE TAGS` on an otherwise idle server, by number of members; and the
//!   memory of an entry's tag beyond the key's length, averaged over values of 0 to 100 bytes because the allocator
//!   rounds up.

mod approaches;
mod args;
mod costs;
#[path = "../../tests/data/mod.rs"]
mod data;
mod picture;
mod report;
mod results;
mod runs;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use approaches::{Approach, Group};
use args::{Args, Part};
use results::{All, NotRun, Row, Tags};
use runs::Lab;
use support::{
    lab::progress,
    options,
    report::{redraw, save},
    server::{self, Result},
    text::thousands,
};

const KEYS: [u64; 3] = [10_000, 100_000, 1_000_000];
const BIG: u64 = 10_000_000;

fn main() -> ExitCode {
    let args: Args = options::parse("3", "bench-results/invalidation.json");
    match if args.redraw { draw(&args) } else { bench(&args) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<()> {
    server::catch_interrupts()?;
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let rounds = args.common.rounds();
    let mut lab = Lab::open(args)?;
    let mut all = All::default();

    for round in 1..=rounds {
        for keys in counts(args) {
            if wanted(Part::Compare) {
                let group = Group { keys, share: args.share };
                progress(&format!("round {round} of {rounds}: {} keys", thousands(keys)));
                for approach in chosen(args) {
                    all.measure(&mut lab, approach, group)?;
                }
            }
            if wanted(Part::Tags) {
                progress(&format!("round {round} of {rounds}: a tag with {} members", thousands(keys)));
                all.tags(&mut lab, keys)?;
            }
        }
    }
    if wanted(Part::Reads) {
        progress("reads of entries with tags");
        all.reads = lab.reads(rounds, args.common.quick)?;
    }

    let facts = lab.facts(args);
    report::print(&facts, &all);
    save(&args.common, &report::json(&facts, &all))?;
    if args.svg.is_some() { draw(args) } else { Ok(()) }
}

impl All {
    /// Measures one more round, unless an earlier one failed.
    fn measure(&mut self, lab: &mut Lab, approach: Approach, group: Group) -> Result<()> {
        if self.not_run.iter().any(|what| what.approach == approach && (what.always || what.keys == group.keys)) {
            return Ok(());
        }
        let tried = self.rows.iter().any(|row| row.approach == approach);
        if !tried && let Some(why) = lab.unsupported_reason(approach, group)? {
            self.not_run.push(NotRun::report(approach, group.keys, true, why));
            return Ok(());
        }
        let measured = lab.measure(approach, group);
        if server::interrupted() {
            return Err("interrupted".into());
        }
        match measured {
            Ok(measured) => {
                let is_it = |row: &&mut Row| row.approach == approach && row.keys == group.keys;
                match self.rows.iter_mut().find(is_it) {
                    Some(row) => row.rounds.push(measured),
                    None => self.rows.push(Row { approach, keys: group.keys, rounds: vec![measured] }),
                }
            }
            Err(why) => self.not_run.push(NotRun::report(approach, group.keys, false, why.to_string())),
        }
        Ok(())
    }

    fn tags(&mut self, lab: &mut Lab, keys: usize) -> Result<()> {
        let first = !self.tags.iter().any(|tags| tags.keys == keys);
        let reply_ms = lab.reply_of_tags(keys)?;
        match self.tags.iter_mut().find(|tags| tags.keys == keys) {
            Some(tags) => tags.reply_ms.push(reply_ms),
            None => self.tags.push(Tags { keys, reply_ms: vec![reply_ms], memory: Vec::new() }),
        }
        // Memory does not vary between rounds.
        if first && let Some(tags) = self.tags.last_mut() {
            tags.memory = lab.memory_of_tags(keys)?;
        }
        Ok(())
    }
}

fn counts(args: &Args) -> Vec<usize> {
    let mut counts = match (args.keys.is_empty(), args.common.quick) {
        (false, _) => args.keys.clone(),
        (true, true) => vec![KEYS[0]],
        (true, false) => KEYS.to_vec(),
    };
    if args.keys.is_empty() && !args.common.quick && std::env::var("BIG").is_ok_and(|big| !matches!(&*big, "" | "0")) {
        counts.push(BIG);
    }
    counts.into_iter().map(|count| count as usize).collect()
}

fn chosen(args: &Args) -> Vec<Approach> {
    Approach::ALL.into_iter().filter(|one| args.approach.is_empty() || args.approach.contains(one)).collect()
}

fn draw(args: &Args) -> Result<()> {
    args.svg.as_ref().map_or(Ok(()), |svg| redraw(&args.common, svg, picture::draw))
}
