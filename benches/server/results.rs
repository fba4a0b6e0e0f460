//! What was measured.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{
    forms::{Form, Op},
    support::{machine::Cpu, numbers::Quartiles, report, server::Result},
};

/// Where and how it was measured.
pub(crate) struct Facts {
    pub(crate) common: report::Facts,
    pub(crate) sample_ms: u64,
    /// CPU of the whole run by the three clocks of `machine.rs`.
    pub(crate) main_seconds: f64,
    pub(crate) process_seconds: f64,
    pub(crate) tick_seconds: f64,
}

/// `used_memory` per entry.
pub(crate) struct MemoryRow {
    pub(crate) size: usize,
    pub(crate) form: Form,
    pub(crate) held: f64,
    pub(crate) bytes: f64,
}

/// A promise, and what was measured.
pub(crate) struct Budget {
    pub(crate) what: &'static str,
    pub(crate) keys: usize,
    pub(crate) pipeline: Option<usize>,
    /// Microseconds of the server's main thread a command, or bytes an entry.
    pub(crate) native: f64,
    pub(crate) ours: f64,
    /// In the limit's own terms: a factor, or microseconds or bytes more.
    pub(crate) difference: Quartiles,
    /// `None`: nothing was promised, it is good to know.
    pub(crate) limit: Option<Limit>,
}

/// What a budget allows beside the native command.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Times(f64),
    MoreMicros(f64),
    MoreBytes(f64),
}

/// The longest round trip that is told apart from a longer one: ten seconds, where reading gives up too.
const LONGEST_NS: u64 = 10_000_000_000;

/// One contender at one pipeline length: its samples, and how each compares with the native ones around it.
pub(crate) struct Cell {
    pub(crate) op: Op,
    pub(crate) size: usize,
    pub(crate) pipeline: usize,
    pub(crate) form: Form,
    /// Share of the values that the codec really holds (the rest did not shrink enough).
    pub(crate) held: f64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) ratios: Vec<f64>,
    pub(crate) extra_micros: Vec<f64>,
    pub(crate) latency: Histogram<u64>,
}

/// One stretch of commands, of about a tenth of a second.
pub(crate) struct Sample {
    pub(crate) commands: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Cpu,
}

impl Sample {
    /// Microseconds of the server's main thread a command.
    pub(crate) fn micros(&self) -> f64 {
        self.cpu.main as f64 / 1e3 / self.commands as f64
    }
}

impl Cell {
    pub(crate) fn new(op: Op, size: usize, pipeline: usize, form: Form, held: f64) -> Result<Cell> {
        let (samples, ratios, extra_micros) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Cell {
            op,
            size,
            pipeline,
            form,
            held,
            samples,
            ratios,
            extra_micros,
            latency: Histogram::new_with_max(LONGEST_NS, 3)?,
        })
    }

    pub(crate) fn server_micros(&self) -> Quartiles {
        Quartiles::of(self.samples.iter().map(Sample::micros))
    }

    pub(crate) fn process_micros(&self) -> Quartiles {
        Quartiles::of(self.samples.iter().map(|s| s.cpu.process as f64 / 1e3 / s.commands as f64))
    }

    pub(crate) fn client_micros(&self) -> Quartiles {
        Quartiles::of(self.samples.iter().map(|s| s.cpu.client as f64 / 1e3 / s.commands as f64))
    }

    pub(crate) fn per_second(&self) -> Quartiles {
        Quartiles::of(self.samples.iter().map(|s| s.commands as f64 / s.wall.as_secs_f64()))
    }
}
