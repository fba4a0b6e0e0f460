//! The command line, and what all runs have in common.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::{approaches::Approach, support::options::Common};

pub(crate) const READERS: usize = 1_000;
/// Duration of a load.
pub(crate) const LOAD: Duration = Duration::from_millis(500);

/// Measures what many callers of one missing or expiring key cause.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The memcached program.
    #[arg(long, default_value = "memcached")]
    pub(crate) memcached: String,
    /// A Python with dogpile.cache and cashews [default: stampede-venv/bin/python in the target folder].
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// TTL in whole seconds at expiry.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub(crate) ttl: u64,
    /// Number of expiries per run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) cycles: u32,
    /// Only this number of callers of a cold key (may be repeated).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) callers: Vec<u32>,
    /// Only this approach (may be repeated).
    #[arg(long)]
    pub(crate) approach: Vec<Approach>,
    /// Also draw the results as an SVG picture.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
    /// Measure nothing: draw the results of the JSON file.
    #[arg(long, requires = "svg")]
    pub(crate) redraw: bool,
    /// Only this part (may be repeated).
    #[arg(long)]
    pub(crate) only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// Callers of a missing key.
    Cold,
    /// Readers of a key that expires.
    Expiry,
    /// The budgets of the design, each with its measurement.
    Budgets,
}

/// How long after the last request a run waits for answers.
pub(crate) fn limit(args: &Args) -> Duration {
    Duration::from_secs(if args.common.quick { 20 } else { 40 })
}
