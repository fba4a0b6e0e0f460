//! The common parts of all reports: machine, server and method at the start, the JSON file at the end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use redis::Connection;
use serde_json::{Map, Value, json};

use super::{
    lab::{self, info},
    machine,
    numbers::rounded,
    options::Common,
    server::Result,
};

/// Where and how it was measured.
pub(crate) struct Facts {
    date: String,
    processor: String,
    kernel: String,
    server: String,
    module: String,
    pinned: bool,
    rounds: u32,
    pub(crate) quick: bool,
    /// How long servers were runnable but had no CPU, in percent of their runnable time.
    waited_percent: f64,
}

impl Facts {
    /// `server` is what [`server`] returns; `ran` and `waited` are nanoseconds of the servers' main threads.
    pub(crate) fn new(
        options: &Common,
        server: String,
        module: Option<&Path>,
        pinned: bool,
        (ran, waited): (u64, u64),
    ) -> Facts {
        Facts {
            date: machine::today(),
            processor: format!("{}, {} cores", machine::processor(), lab::cores()),
            kernel: machine::kernel(),
            server,
            module: match module {
                None => "none".into(),
                // Its origin is unknown.
                Some(_) if options.module.is_some() => "given with --module".into(),
                Some(built) => lab::module_name(built),
            },
            pinned,
            rounds: options.rounds(),
            quick: options.quick,
            waited_percent: 100.0 * waited as f64 / (ran + waited).max(1) as f64,
        }
    }

    /// Prints the first lines. `more` are additional lines; `method` follows the number of rounds.
    pub(crate) fn print(&self, title: &str, more: &[(&str, &str)], method: &str) {
        println!("\nSmartCache {title}, {}", self.date);
        let line = |name: &str, text: &str| println!("  {name:<10} {text}");
        line("machine", &format!("{}; Linux {}", self.processor, self.kernel));
        line("server", &self.server);
        line("module", &self.module);
        let pinned = if self.pinned { "each on its own core" } else { "NOT pinned: fewer than two cores" };
        more.iter().for_each(|(name, text)| line(name, text));
        line("method", &format!("{} rounds, {method}, server and client {pinned}", self.rounds));
        line(
            "noise",
            &format!(
                "servers waited {:.1} % of the time for their core (much above 1 %: do not trust the times)",
                self.waited_percent
            ),
        );
    }

    /// The same as JSON, with the fields of `more`.
    pub(crate) fn json(&self, more: Value) -> Value {
        let facts = json!({
            "date": self.date,
            "processor": self.processor,
            "kernel": self.kernel,
            "server": self.server,
            "module": self.module,
            "pinned": self.pinned,
            "waited_for_core_percent": rounded(self.waited_percent),
            "rounds": self.rounds,
            "quick": self.quick,
        });
        let both =
            [facts, more].into_iter().filter_map(|one| if let Value::Object(map) = one { Some(map) } else { None });
        Value::Object(both.flatten().collect::<Map<_, _>>())
    }
}

/// The server's name, version and allocator.
pub(crate) fn server(con: &mut Connection) -> String {
    format!("{}, {}", lab::server_name(con), info(con, "memory", "mem_allocator"))
}

/// Writes the results to the JSON file, and prints its path.
pub(crate) fn save(options: &Common, figures: &Value) -> Result<()> {
    if let Some(folder) = options.json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&options.json, format!("{figures:#}\n"))?;
    if options.quick {
        println!("\nThis was a smoke run (--quick): the figures mean nothing.");
    }
    println!("\nWritten to {}.", options.json.display());
    Ok(())
}

/// Draws the saved results.
pub(crate) fn redraw(options: &Common, svg: &PathBuf, draw: impl Fn(&Value) -> Result<String>) -> Result<()> {
    let text = fs::read_to_string(&options.json).map_err(|e| format!("{}: {e}", options.json.display()))?;
    fs::write(svg, draw(&serde_json::from_str(&text)?)?)?;
    println!("Drawn in {}.", svg.display());
    Ok(())
}
