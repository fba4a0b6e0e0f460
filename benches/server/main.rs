//! The cost of SmartCache on a server, compared with the server's own commands and with compression in the client.
//!
//! ```text
//! make bench                                           everything, about five minutes
//! cargo bench --bench server -- --only budgets         the budgets only
//! cargo bench --bench server -- --quick                a smoke run: the figures mean nothing
//! ```
//!
//! # What is compared
//!
//! On one server, in one run, with the same values and the same client:
//!
//! | row | reads with | writes with |
//! |---|---|---|
//! | native | `GET` | `SET key value EX 3600` |
//! | plain, gzip, zstd, lz4 | `SMARTCACHE.GET` | `SMARTCACHE.SET key value TTL 3600 CODEC …` |
//! | gzip in client | `GET`, then gunzip | gzip (level 6, the usual default), then `SET … EX 3600` |
//!
//! Values are real records (`tests/data`), concatenated and cut to exactly 100 B, 1 KB, 10 KB and 100 KB; every key has
//! its own. Writes overwrite existing keys. A value that is too small, or that compression does not shrink by
//! `smartcache.min-savings`, is stored plain: the tables show the share of the values that a codec really compressed.
//!
//! # Method
//!
//! - **Server CPU per command** is the measure: user and system time of the server over the number of commands
//!   (`support/machine.rs` describes the two clocks). Unlike throughput and p99, which the tables also show, it does
//!   not depend on how busy the client or the machine is.
//! - **Pinned:** the server to the first core, the client to the second.
//! - **Paired and interleaved:** machines drift by more than the differences of interest. So each sample of ours lies
//!   between two samples of the native command and is divided by their mean, and rounds go through all rows. The tables
//!   show the median over the rounds and the quartiles.
//! - **Keys:** the tables read and write 1,024 keys of each kind (128 of 100 KB) in a random order. The budgets are
//!   measured twice: with a single key, where only the command's own path counts (the harder test of a *ratio*, since
//!   the native command is at its fastest), and with 10,240 keys at random, as servers are used.
//! - **p99** is the round trip of a whole pipeline, from the first byte sent to the last byte read.
//! - **Memory** is the growth of `used_memory` for new keys, over their number: allocator rounding, hash table, key
//!   name and TTL included.

mod args;
#[path = "../../tests/data/mod.rs"]
mod data;
mod forms;
mod report;
mod results;
mod runs;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use args::{Args, Part};
use runs::Lab;
use support::{
    machine, options,
    report::save,
    server::{self, Result},
};

fn main() -> ExitCode {
    match bench(&options::parse("5", "bench-results/server.json")) {
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
    let mut lab = Lab::open(args)?;
    let ticks_before = machine::ticks(lab.pid)?;
    let nanos_before = machine::cpu_at_rest(lab.pid)?;

    let mut budgets = if wanted(Part::Budgets) && !args.native { lab.budgets()? } else { Vec::new() };
    let cells = if wanted(Part::Commands) { lab.commands()? } else { Vec::new() };
    let memory = if wanted(Part::Memory) { lab.memory()? } else { Vec::new() };
    if wanted(Part::Budgets) && !args.native {
        budgets.push(lab.memory_budget()?);
    }

    let used = machine::cpu_at_rest(lab.pid)?.since(nanos_before);
    let facts = lab.facts(args, used, machine::ticks(lab.pid)? - ticks_before)?;
    report::print(&facts, &cells, &memory, &budgets);
    save(&args.common, &report::json(&facts, &cells, &memory, &budgets))
}
