//! Large values are compressed on a worker: this decides which, keeps count, and says what a worker does.
//!
//! ```text
//!   main thread   SET: store raw, reply ── admit ──▶ Job          Done ──▶ entry still has the stamp? swap it in : drop it
//!                                            │ full    │            ▲                      then finished
//!                                            ▼         ▼            │
//!   worker                                stay raw    run(job, its own Codecs)
//! ```
//!
//! The swap changes how a value is stored and not what it is, so nobody is told of it: no replication, no event. Whether the
//! entry is still the one that was copied is one comparison: no two stores have the same stamp.
//!
//! **A full queue means "stay raw"**, because waiting makes it worse. An unbounded queue fed faster than it drains works on
//! ever older jobs: measured with one worker, 340 of 64,700 values were still there when their compressed form was. What is
//! bounded is bytes, since that is what a job costs; they count from the copy until [`Offload::finished`], so results that
//! wait to be swapped in are inside the bound too.
//!
//! The threads, and the channels between them, are the host's.

use crate::cache::codec::{CodecId, Codecs, worth_keeping};

/// The queue as the main thread sees it: how full it is, and what became of everything that wanted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    limit_bytes: usize,
    queued_bytes: usize,
    /// What has happened since the start.
    pub counters: Counters,
}

/// What became of the values that were large enough to be offloaded. `admitted` is the sum of the four ends and of those
/// still under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Taken into the queue.
    pub admitted: u64,
    /// Not taken, the queue was full: they stay as they are.
    pub refused: u64,
    /// End: the compressed form took the value's place.
    pub swapped: u64,
    /// End: it did not save enough.
    pub not_worth: u64,
    /// End: the entry had been replaced or deleted.
    pub dropped: u64,
    /// End: the worker did not bring it back.
    pub lost: u64,
}

/// One value to be compressed. It owns all it needs, so that it can go to another thread.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// The entry's database.
    pub db: i32,
    /// The entry's key.
    pub key: Vec<u8>,
    /// The entry's stamp when its value was copied.
    pub stamp: u64,
    /// How to compress it.
    pub codec: CodecId,
    /// How hard.
    pub level: i32,
    /// A copy of the value.
    pub raw: Vec<u8>,
    /// What it has to save, as a fraction, to be kept.
    pub min_savings: f64,
}

/// What came of a [`Job`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The entry's database.
    pub db: i32,
    /// The entry's key.
    pub key: Vec<u8>,
    /// The stamp it must still have for a swap.
    pub stamp: u64,
    /// How `stored` is compressed.
    pub codec: CodecId,
    /// The value's length.
    pub raw_len: usize,
    /// The compressed form; none if it is not worth keeping.
    pub stored: Option<Vec<u8>>,
    /// What the queue gets back.
    pub queued_bytes: usize,
}

impl Offload {
    /// The bound that goes with the default settings: what one worker compresses with zstd in about half a second.
    pub const LIMIT_BYTES: usize = 64 << 20;

    /// An empty queue that holds at most so many bytes. A single value larger than that is never taken.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, queued_bytes: 0, counters: Counters::default() }
    }

    /// Takes a value in, or none if the queue is full: then the value stays as it is. Nothing is copied before it is sure
    /// that there is room.
    #[allow(clippy::too_many_arguments)] // a Job's parts, borrowed
    pub fn admit(
        &mut self,
        db: i32,
        key: &[u8],
        stamp: u64,
        codec: CodecId,
        level: i32,
        raw: &[u8],
        min_savings: f64,
    ) -> Option<Job> {
        let bytes = queued_bytes(key, raw);
        if bytes > self.limit_bytes.saturating_sub(self.queued_bytes) {
            self.counters.refused += 1;
            return None;
        }
        self.queued_bytes += bytes;
        self.counters.admitted += 1;
        Some(Job { db, key: key.to_vec(), stamp, codec, level, raw: raw.to_vec(), min_savings })
    }

    /// Gives a job's room back, and counts its end: whether its result was swapped in. (If not, it was not worth keeping,
    /// or its entry was no longer the same.)
    pub fn finished(&mut self, done: &Done, swapped: bool) {
        let end = match (swapped, &done.stored) {
            (true, _) => &mut self.counters.swapped,
            (false, None) => &mut self.counters.not_worth,
            (false, Some(_)) => &mut self.counters.dropped,
        };
        *end += 1;
        self.release(done.queued_bytes);
    }

    /// Gives back the room of a job that will never be done, because its worker panicked or ended.
    /// ([`Job::queued_bytes`], asked before the job was run.)
    pub fn lost(&mut self, queued_bytes: usize) {
        self.counters.lost += 1;
        self.release(queued_bytes);
    }

    /// The bytes of all jobs and results under way.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    fn release(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.queued_bytes, "room is given back once");
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
    }
}

impl Default for Offload {
    fn default() -> Self {
        Self::new(Self::LIMIT_BYTES)
    }
}

impl Job {
    /// What this job takes of the queue's bound.
    pub fn queued_bytes(&self) -> usize {
        queued_bytes(&self.key, &self.raw)
    }
}

fn queued_bytes(key: &[u8], raw: &[u8]) -> usize {
    size_of::<Job>() + key.len() + raw.len()
}

/// What a worker does with a job. Between two jobs it keeps only what is usual, as the next one may be long in coming.
pub fn run(job: Job, codecs: &mut Codecs) -> Done {
    let queued_bytes = job.queued_bytes();
    let raw_len = job.raw.len();
    // A value that can not be compressed is as good as one that is not worth it: it stays as it is.
    let stored = match codecs.compress(job.codec, job.level, &job.raw) {
        Ok(stored) if worth_keeping(raw_len, stored.len(), job.min_savings) => Some(stored.to_vec()),
        Ok(_) | Err(_) => None,
    };
    codecs.trim();
    Done { db: job.db, key: job.key, stamp: job.stamp, codec: job.codec, raw_len, stored, queued_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: u64 = 1_700_000_000_000_000;

    fn admit(offload: &mut Offload, raw: &[u8]) -> Option<Job> {
        offload.admit(2, b"key", STAMP, CodecId::Zstd, 3, raw, 0.2)
    }

    /// Bytes that nothing can make shorter (xorshift).
    fn random(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_value_goes_through_the_queue_and_comes_back_smaller() {
        let mut offload = Offload::default();
        let mut codecs = Codecs::new();
        let raw = b"large ".repeat(20_000);

        let job = admit(&mut offload, &raw).unwrap();
        assert!(offload.queued_bytes() > raw.len());
        let done = run(job, &mut codecs);
        assert_eq!((done.db, &done.key[..], done.stamp, done.codec), (2, &b"key"[..], STAMP, CodecId::Zstd));
        assert_eq!(done.raw_len, raw.len());
        let stored = done.stored.as_deref().unwrap();
        assert!(stored.len() < raw.len() / 100);
        assert_eq!(codecs.decompress(done.codec, stored, done.raw_len).unwrap(), raw);

        offload.finished(&done, true);
        assert_eq!(offload.queued_bytes(), 0);
        assert_eq!(offload.counters, Counters { admitted: 1, swapped: 1, ..Default::default() });
    }

    #[test]
    fn a_full_queue_means_stay_raw() {
        let raw = vec![b'x'; 100_000];
        let mut offload = Offload::new(250_000);
        let first = admit(&mut offload, &raw).unwrap();
        let _second = admit(&mut offload, &raw).unwrap();
        assert_eq!(admit(&mut offload, &raw), None);
        assert!(admit(&mut offload, &raw[..10_000]).is_some(), "a smaller one still fits");

        let done = run(first, &mut Codecs::new());
        assert_eq!(admit(&mut offload, &raw), None, "a result takes room until it is swapped in");
        offload.finished(&done, true);
        assert!(admit(&mut offload, &raw).is_some());
        assert_eq!(offload.counters, Counters { admitted: 4, refused: 2, swapped: 1, ..Default::default() });
    }

    #[test]
    fn a_value_larger_than_the_queue_is_never_taken() {
        let mut offload = Offload::new(1_000);
        assert_eq!(admit(&mut offload, &[0; 1_000]), None);
        assert_eq!(offload.queued_bytes(), 0);
        assert_eq!(Offload::new(0).admit(0, b"", 0, CodecId::Gzip, 1, b"", 0.0), None);
    }

    #[test]
    fn room_comes_back_however_a_job_ends() {
        let mut offload = Offload::default();
        let mut codecs = Codecs::new();
        let replaced = run(admit(&mut offload, &[0; 100_000]).unwrap(), &mut codecs);
        let not_worth = run(admit(&mut offload, &random(100_000)).unwrap(), &mut codecs);
        let lost = admit(&mut offload, &[0; 70_000]).unwrap().queued_bytes();
        assert!(not_worth.stored.is_none());

        offload.finished(&replaced, false);
        offload.finished(&not_worth, false);
        offload.lost(lost);
        assert_eq!(offload.queued_bytes(), 0);
        assert_eq!(offload.counters, Counters { admitted: 3, dropped: 1, not_worth: 1, lost: 1, ..Default::default() });
    }

    #[test]
    fn a_worker_keeps_no_big_buffer_while_it_waits() {
        let mut offload = Offload::default();
        let mut codecs = Codecs::new();
        run(admit(&mut offload, &vec![7; 10 << 20]).unwrap(), &mut codecs);
        assert!(codecs.buffer_bytes() <= 1 << 20);
    }

    #[test]
    fn jobs_and_results_can_change_threads() {
        fn sendable<T: Send>() {}
        sendable::<Job>();
        sendable::<Done>();
        sendable::<Codecs>();
    }
}
