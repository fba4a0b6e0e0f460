//! Large values are compressed on a worker: which ones, how many, and what the worker does.
//!
//! ```text
//!   main thread   SET: store raw, reply ── admit ──▶ Job        Done ──▶ does the entry still hold these bytes?
//!                                            │ full    │          ▲      swap it in, else drop it; then finished
//!                                            ▼         ▼          │
//!   worker                                stay raw    run(job, its own Codecs)
//! ```
//!
//! The swap changes how a value is stored, not what it is, so it is neither replicated nor notified. A result replaces
//! only the bytes it was made from. The stamp does not show that: two fills of one load (`SINCE`) have the same stamp,
//! and so have two copies of an entry that a replica receives.
//!
//! **A full queue means "stay raw"**, because waiting makes it worse. An unbounded queue that is fed faster than it
//! drains works on ever older jobs: measured with one worker, 340 of 64,700 values still existed when their compressed
//! form was ready. The bound is in bytes, which is what a job costs. They count from the copy until
//! [`Offload::finished`], so it includes results that wait to be swapped in.
//!
//! The threads, and the channels between them, are the host's.

use crate::cache::codec::{CodecId, Codecs, worth_keeping};
use crate::cache::entry::{Entry, EntryRef};

/// The queue as the main thread sees it: how full it is, and what became of each value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    limit_bytes: usize,
    queued_bytes: usize,
    /// Counts since the start.
    pub counters: Counters,
}

/// What became of the values that were large enough to offload. `admitted` is the sum of the four ends and of the jobs
/// under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Admitted to the queue.
    pub admitted: u64,
    /// Not admitted, the queue was full: they stay raw.
    pub refused: u64,
    /// End: the compressed form took the value's place.
    pub swapped: u64,
    /// End: it did not save enough.
    pub not_worth: u64,
    /// End: the entry had been replaced or deleted.
    pub dropped: u64,
    /// End: the worker did not return it.
    pub lost: u64,
}

/// One value to compress. It owns all its data, so that it can go to another thread.
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
    /// The compression level.
    pub level: i32,
    /// A copy of the value.
    pub raw: Vec<u8>,
    /// The fraction that it must save to be kept.
    pub min_savings: f64,
}

/// The result of a [`Job`].
#[derive(Clone, PartialEq, Debug)]
pub struct Done {
    /// What was to be done. It has kept its bytes, and its room in the queue.
    pub job: Job,
    /// The compressed form; `None` if it is not worth keeping.
    pub stored: Option<Vec<u8>>,
}

impl Offload {
    /// The default bound: what one worker compresses with zstd in about half a second.
    const LIMIT_BYTES: usize = 64 << 20;

    /// An empty queue that holds at most so many bytes. A larger value is never admitted.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, queued_bytes: 0, counters: Counters::default() }
    }

    /// Admits a value and copies it; `None` if the queue is full: the value stays raw.
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

    /// Releases a job's room, and counts its end: whether its result was swapped in. (If not, it was not worth keeping,
    /// or its entry has changed.)
    pub fn finished(&mut self, done: &Done, swapped: bool) {
        let end = match (swapped, &done.stored) {
            (true, _) => &mut self.counters.swapped,
            (false, None) => &mut self.counters.not_worth,
            (false, Some(_)) => &mut self.counters.dropped,
        };
        *end += 1;
        self.release(done.job.queued_bytes());
    }

    /// Releases the room ([`Job::queued_bytes`]) of a job that will never be done, because its worker panicked or
    /// ended.
    pub fn lost(&mut self, queued_bytes: usize) {
        self.counters.lost += 1;
        self.release(queued_bytes);
    }

    /// The bytes of all jobs and results under way.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    fn release(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.queued_bytes, "room is released once");
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
    }
}

impl Default for Offload {
    fn default() -> Self {
        Self::new(Self::LIMIT_BYTES)
    }
}

impl Job {
    /// The room that this job takes in the queue.
    pub fn queued_bytes(&self) -> usize {
        queued_bytes(&self.key, &self.raw)
    }

    /// Whether this is the entry that the job was made for, and still stored as the bytes that the job holds.
    pub fn is_of(&self, entry: EntryRef<'_>) -> bool {
        entry.stamp().0 == self.stamp && entry.codec() == Some(CodecId::None) && entry.stored() == self.raw
    }
}

impl Done {
    /// The entry in its compressed form; `None` if that is not worth keeping, or the entry is no longer
    /// [the job's](Job::is_of).
    pub fn repack(&self, entry: EntryRef<'_>) -> Option<Entry> {
        let stored = self.stored.as_deref().filter(|_| self.job.is_of(entry))?;
        Some(entry.repacked(self.job.codec, self.job.raw.len(), stored))
    }
}

fn queued_bytes(key: &[u8], raw: &[u8]) -> usize {
    size_of::<Job>() + key.len() + raw.len()
}

/// What a worker does with a job. Afterwards it frees unusual memory, as the next job may be long in coming.
pub fn run(job: Job, codecs: &mut Codecs) -> Done {
    // A value that cannot be compressed stays raw, like one that does not shrink.
    let stored = match codecs.compress(job.codec, job.level, &job.raw) {
        Ok(stored) if worth_keeping(job.raw.len(), stored.len(), job.min_savings) => Some(stored.to_vec()),
        Ok(_) | Err(_) => None,
    };
    codecs.trim();
    Done { job, stored }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: u64 = 1_700_000_000_000_000;

    fn admit(offload: &mut Offload, raw: &[u8]) -> Option<Job> {
        offload.admit(2, b"key", STAMP, CodecId::Zstd, 3, raw, 0.2)
    }

    /// Bytes that no codec makes shorter (xorshift).
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
        assert_eq!((done.job.db, &done.job.key[..], done.job.stamp), (2, &b"key"[..], STAMP));
        assert_eq!(done.job.raw, raw);
        let stored = done.stored.as_deref().unwrap();
        assert!(stored.len() < raw.len() / 100);
        assert_eq!(codecs.decompress(done.job.codec, stored, raw.len()).unwrap(), raw);

        offload.finished(&done, true);
        assert_eq!(offload.queued_bytes(), 0);
        assert_eq!(offload.counters, Counters { admitted: 1, swapped: 1, ..Default::default() });
    }

    #[test]
    fn a_full_queue_admits_nothing() {
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
    fn a_value_larger_than_the_queue_is_never_admitted() {
        let mut offload = Offload::new(1_000);
        assert_eq!(admit(&mut offload, &[0; 1_000]), None);
        assert_eq!(offload.queued_bytes(), 0);
        assert_eq!(Offload::new(0).admit(0, b"", 0, CodecId::Gzip, 1, b"", 0.0), None);
    }

    #[test]
    fn room_is_released_however_a_job_ends() {
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
    fn a_waiting_worker_keeps_no_large_buffer() {
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
