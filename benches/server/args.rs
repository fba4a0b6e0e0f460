//! The command line.

use clap::{Parser, ValueEnum};

use crate::support::options::Common;

/// Measures the cost of SmartCache on a server, compared with the server's own commands.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Measure only the server's own commands, without the module: shows how noisy this machine is.
    #[arg(long, conflicts_with = "module")]
    pub(crate) native: bool,
    /// Only this part (may be repeated).
    #[arg(long)]
    pub(crate) only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// The budgets of the design, each with its measurement.
    Budgets,
    /// CPU, throughput and p99 of reads and writes.
    Commands,
    /// `used_memory` per entry.
    Memory,
}
