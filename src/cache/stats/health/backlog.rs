//! The sweep's backlog over the last minutes: does it only grow?

use std::collections::VecDeque;

use crate::cache::clock::Now;

/// The growth of a backlog that only grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// How many keys were added in five minutes.
    pub by: u64,
    /// How many keys wait now.
    pub to: u64,
}

/// How many keys waited for the sweep, minute by minute.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// The last six minutes of the monotonic clock that were sampled, each with its smallest sample.
    lows: VecDeque<(u64, u64)>,
    /// When the next sample is due, in milliseconds of the monotonic clock.
    next_ms: u64,
}

impl Backlog {
    /// Minutes kept: five have passed between the first and the last.
    const MINUTES: usize = 6;

    /// Milliseconds between samples: computing a large backlog takes time.
    const SAMPLE_MS: u64 = 5_000;

    /// Whether the next sample is due.
    pub fn is_due(&self, now: Now) -> bool {
        now.mono_ms() >= self.next_ms
    }

    /// Records a sample: `waiting` keys wait at `now`.
    pub fn record(&mut self, waiting: u64, now: Now) {
        self.next_ms = now.mono_ms() + Self::SAMPLE_MS;
        let minute = now.mono_ms() / 60_000;
        match self.lows.back_mut() {
            Some((at, low)) if *at == minute => *low = waiting.min(*low),
            _ => {
                self.lows.push_back((minute, waiting));
                self.lows.drain(..self.lows.len().saturating_sub(Self::MINUTES));
            }
        }
    }

    /// The growth over five minutes in which the backlog was never empty and never smaller than in the minute before.
    pub fn growth(&self, now: Now) -> Option<Growth> {
        let ((first, from), (last, to)) = (*self.lows.front()?, *self.lows.back()?);
        let whole = last == now.mono_ms() / 60_000 && last - first == Self::MINUTES as u64 - 1;
        let grows = self.lows.iter().is_sorted_by_key(|(_, low)| low);
        (whole && grows && from > 0 && to > from).then(|| Growth { by: to - from, to })
    }
}
