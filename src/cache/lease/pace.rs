//! How many answers to waiters are sent at a moment.
//!
//! Answers are sent in slices, since a server writes them after it is told to go on with a client, and that cannot be
//! timed: 5,000 at once stopped a server for 92 ms. A slice belongs to a stretch of time and not to a command, of which
//! a pipeline holds any number.

use crate::cache::clock::Now;

/// Whether answers may be sent while commands are run, and not only by a timer. `version` is that of the server as it
/// tells modules: 7.2.4 is 0x070204.
///
/// Until the server goes on with a client that it was told to go on with, other commands may come in between: between
/// a timer and going on nothing comes. Before 7.2, `CLIENT UNBLOCK` then leaves that client without any answer; Redis
/// 7.2 and Valkey 7.2, all versions, end with a failed assertion (redis/redis#13015). Redis 7.4 and Valkey 8 are right.
pub fn may_send_between_commands(is_valkey_8: bool, version: u32) -> bool {
    is_valkey_8 || version >= 0x07_04_00
}

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
    fn servers_that_client_unblock_ends_get_their_answers_from_a_timer() {
        let redis = [0x07_00_0f, 0x07_02_00, 0x07_02_04, 0x07_02_0b, 0x07_04_00, 0x08_00_06, 0x08_02_03];
        let may = redis.map(|version| may_send_between_commands(false, version));
        assert_eq!(may, [false, false, false, false, true, true, true]);
        assert!(may_send_between_commands(true, 0x07_02_04), "what Valkey 8 and later tell modules");
        assert!(!may_send_between_commands(false, 0), "a server that does not say");
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
