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
    pub(crate) compressed: f64,
    pub(crate) bytes: f64,
}

/// A budget and its measurement.
pub(crate) struct Budget {
    pub(crate) what: &'static str,
    pub(crate) keys: usize,
    pub(crate) pipeline: Option<usize>,
    /// CPU microseconds of the server's main thread per command, or bytes per entry.
    pub(crate) native: f64,
    pub(crate) ours: f64,
    /// In the unit of the limit: a factor, or additional microseconds or bytes.
    pub(crate) difference: Quartiles,
    /// `None`: measured for information only.
    pub(crate) limit: Option<Limit>,
}

/// What a budget allows relative to the native command.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Times(f64),
    MoreMicros(f64),
    MoreBytes(f64),
}

/// The upper end of the latency histogram; also the client's read time-out (10 s).
const LONGEST_NS: u64 = 10_000_000_000;

/// One form at one pipeline length: its samples, and how each compares with the native samples around it.
pub(crate) struct Cell {
    pub(crate) op: Op,
    pub(crate) size: usize,
    pub(crate) pipeline: usize,
    pub(crate) form: Form,
    /// Share of the values that the codec compressed; the others did not shrink enough.
    pub(crate) compressed: f64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) ratios: Vec<f64>,
    pub(crate) extra_micros: Vec<f64>,
    pub(crate) latency: Histogram<u64>,
}

/// Commands over about a tenth of a second.
pub(crate) struct Sample {
    pub(crate) commands: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Cpu,
}

impl Sample {
    /// CPU microseconds of the server's main thread per command.
    pub(crate) fn micros(&self) -> f64 {
        self.cpu.main as f64 / 1e3 / self.commands as f64
    }
}

impl Cell {
    pub(crate) fn new(op: Op, size: usize, pipeline: usize, form: Form, compressed: f64) -> Result<Cell> {
        let (samples, ratios, extra_micros) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Cell {
            op,
            size,
            pipeline,
            form,
            compressed,
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
