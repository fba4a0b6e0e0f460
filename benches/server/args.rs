//! The command line.

use clap::{Parser, ValueEnum};

use crate::support::options::Common;

/// What SmartCache costs a server, beside the server's own commands.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Measure the server's own commands alone, without the module: how quiet is this machine?
    #[arg(long, conflicts_with = "module")]
    pub(crate) native: bool,
    /// Only this part (may be repeated).
    #[arg(long)]
    pub(crate) only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// The promises of the design, each with what was measured.
    Budgets,
    /// CPU, throughput and p99 of reads and writes.
    Commands,
    /// `used_memory` per entry.
    Memory,
}
