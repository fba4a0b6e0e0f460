//! How many answers to waiters are sent at a moment.
//!
//! Answers are sent in slices, since a server writes them after it is told to go on with a client, and that cannot be
//! timed: 5,000 at once stopped a server for 92 ms. A slice belongs to a stretch of time and not to a command, of which
//! a pipeline holds any number.

use crate::cache::clock::Now;

/// Answers of one slice.
const ANSWERS: usize = 100;
/// The bytes of their values.
const BYTES: usize = 1 << 20;

/// What has been sent in the slice of this moment: a new one begins with each millisecond, and with each timer.
#[derive(Debug, Default)]
pub struct Pace {
    since_ms: u64,
    answers: usize,
    bytes: usize,
}

impl Pace {
    /// A new slice begins.
    pub fn begin(&mut self, now: Now) {
        *self = Pace { since_ms: now.mono_ms(), ..Pace::default() };
    }

    /// Whether the slice of this moment has room for another answer.
    pub fn has_room(&mut self, now: Now) -> bool {
        if self.since_ms != now.mono_ms() {
            self.begin(now);
        }
        self.answers < ANSWERS && self.bytes < BYTES
    }

    /// An answer with so many bytes is sent.
    pub fn count(&mut self, bytes: usize) {
        self.answers += 1;
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now::new(0, ms)
    }

    #[test]
    fn a_slice_holds_so_many_answers_and_so_many_bytes() {
        for (bytes, most) in [(0, ANSWERS), (BYTES / 4, 4), (BYTES * 2, 1)] {
            let mut pace = Pace::default();
            let mut sent = 0;
            while pace.has_room(at(7)) {
                pace.count(bytes);
                sent += 1;
            }
            assert_eq!(sent, most, "of {bytes} bytes");
            assert!(pace.has_room(at(8)), "the next millisecond has a slice of its own");
        }
    }

    #[test]
    fn a_timer_begins_a_slice_of_its_own() {
        let mut pace = Pace::default();
        (0..ANSWERS).for_each(|_| pace.count(0));
        assert!(pace.has_room(at(1)));
        (0..ANSWERS).for_each(|_| pace.count(0));
        assert!(!pace.has_room(at(1)));
        pace.begin(at(1));
        assert!(pace.has_room(at(1)));
    }
}
