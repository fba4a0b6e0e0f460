//! The options that every bench has.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};

use super::server::{self, Result};

#[derive(clap::Args)]
pub(crate) struct Common {
    /// The number of measurements of everything.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One short and small round, as a smoke run: the figures mean nothing.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The server program [default: $SERVER, else redis-server or valkey-server].
    #[arg(long)]
    server: Option<String>,
    /// The module [default: release/libsmartcache.so in the target folder].
    #[arg(long)]
    pub(crate) module: Option<PathBuf>,
    /// The JSON file for the results.
    #[arg(long)]
    pub(crate) json: PathBuf,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    pub(crate) fn server(&self) -> String {
        self.server.clone().unwrap_or_else(server::program)
    }

    pub(crate) fn module(&self) -> Result<PathBuf> {
        self.module.clone().map_or_else(server::built_module, Ok)
    }
}

/// Parses the command line of a bench whose defaults are `rounds` and `json`.
pub(crate) fn parse<A: CommandFactory + FromArgMatches>(rounds: &'static str, json: &'static str) -> A {
    let command = A::command()
        .mut_arg("rounds", |arg| arg.required(false).default_value(rounds))
        .mut_arg("json", |arg| arg.required(false).default_value(json));
    A::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}
