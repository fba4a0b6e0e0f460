//! The command line, and what is the same in all runs.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::{approaches::Approach, support::options::Common};

pub(crate) const READERS: usize = 1_000;
/// What the origin takes to answer.
pub(crate) const LOAD: Duration = Duration::from_millis(500);

/// What many callers of one missing or expiring key cause.
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
    /// Lifetime in whole seconds at expiry.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub(crate) ttl: u64,
    /// Lifetimes that are watched at expiry.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) cycles: u32,
    /// Only so many callers of a cold key (may be repeated).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) callers: Vec<u32>,
    /// Only this approach (may be repeated).
    #[arg(long)]
    pub(crate) approach: Vec<Approach>,
    /// Also draw them, as a picture for the README.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
    /// Measure nothing: draw what the JSON file holds.
    #[arg(long, requires = "svg")]
    pub(crate) redraw: bool,
    /// Only this part (may be repeated).
    #[arg(long)]
    pub(crate) only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// Callers of a key that is not there.
    Cold,
    /// Readers of a key that runs out.
    Expiry,
    /// The promises of the design, each with what was measured.
    Promises,
}

/// How long after the last question whoever waits is waited for.
pub(crate) fn limit(args: &Args) -> Duration {
    Duration::from_secs(if args.common.quick { 20 } else { 40 })
}
