//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::{approaches::Approach, support::options::Common};

/// Measures the time until a group of keys is no longer served, and until its memory is freed.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this number of keys (may be repeated) [default: 10000, 100000, 1000000; with BIG=1 10000000 too].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub(crate) keys: Vec<u64>,
    /// Share of the keys that is in the group.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    pub(crate) share: f64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) value: u32,
    /// Only this approach (may be repeated).
    #[arg(long)]
    pub(crate) approach: Vec<Approach>,
    /// A setting of the module for its approaches, such as `sweep-effort=20%` (may be repeated).
    #[arg(long)]
    pub(crate) setting: Vec<String>,
    /// Longest time in seconds to wait until the memory is freed.
    #[arg(long, default_value_t = 300)]
    pub(crate) patience: u64,
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
    /// All approaches, from the first command until the memory is freed.
    Compare,
    /// The cost of tags on reads.
    Reads,
    /// Reply time and memory of tags, by number of members.
    Tags,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("a share is above 0 and at most 1, such as 0.1".into()),
    }
}
