//! What SmartCache costs a server, beside the server's own commands and beside the recipe people use today.
//!
//! ```text
//! make bench                                           all of it, about five minutes
//! cargo bench --bench server -- --only budgets         the promises alone
//! cargo bench --bench server -- --quick                does it run? (figures mean nothing)
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
//! Values are real records (`tests/data`), put one behind the other and cut to exactly 100 B, 1 KB, 10 KB and 100 KB;
//! every key has its own. Writes overwrite existing keys. What is too small or too dense to save
//! `smartcache.min-savings` is stored as it is: the tables say what share of the values a codec really holds.
//!
//! # How
//!
//! - **Server CPU per command** is the measure: user and system time of the server over the number of commands (see
//!   `support/machine.rs` for the two clocks). It does not depend on how busy the client or the machine is, as
//!   throughput and p99, which stand beside it, do.
//! - **Pinned:** the server to the first core, the client to the second.
//! - **Paired and interleaved:** machines drift, by more than what we want to see. So each sample of ours stands between
//!   two samples of the native command, its ratio is taken to their mean, and all this is done in rounds, through all
//!   rows. Printed are the median of the rounds and their quartiles.
//! - **Which keys:** the tables read and write 1,024 keys of each kind (128 of 100 KB) in a random order. The budgets
//!   are measured twice: with one key over and over, where nothing but the command's own path counts (the harder test
//!   of a *ratio*, since the native command is at its fastest), and with 10,240 keys at random, which is what servers do.
//! - **p99** is the round trip of a whole pipeline, first byte sent to last byte read.
//! - **Memory** is what `used_memory` grows by for a fresh key, over the number of keys: allocator rounding, hash table,
//!   the key's name and its TTL included.

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
