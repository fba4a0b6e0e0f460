//! How the backlog of the sweep grows.

use std::collections::VecDeque;

use crate::cache::clock::Now;

/// A backlog that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// By how much in five minutes.
    pub by: u64,
    /// What it is.
    pub to: u64,
}

/// How many keys waited to be swept, minute by minute.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// A minute of the monotonic clock, and the least that waited in it: the last six.
    lows: VecDeque<(u64, u64)>,
    /// When it is to be told again, in milliseconds of the monotonic clock.
    next_ms: u64,
}

impl Backlog {
    /// Minutes that are kept: five have passed between the first and the last.
    const MINUTES: usize = 6;

    /// Milliseconds between two looks: counting is not for nothing where much waits.
    const SAMPLE_MS: u64 = 5_000;

    /// Whether it is time to look again.
    pub fn is_due(&self, now: Now) -> bool {
        now.mono_ms() >= self.next_ms
    }

    /// So many keys wait.
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

    /// Whether for five minutes there was always something left, and never less than in the minute before.
    pub fn growth(&self, now: Now) -> Option<Growth> {
        let ((first, from), (last, to)) = (*self.lows.front()?, *self.lows.back()?);
        let whole = last == now.mono_ms() / 60_000 && last - first == Self::MINUTES as u64 - 1;
        let grows = self.lows.iter().is_sorted_by_key(|(_, low)| low);
        (whole && grows && from > 0 && to > from).then(|| Growth { by: to - from, to })
    }
}
