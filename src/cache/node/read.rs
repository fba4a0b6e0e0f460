//! What a read finds and may serve: decided once for every command that reads.

use crate::cache::codec::accept::Accept;
use crate::cache::codec::{CodecId, Codecs};
use crate::cache::entry::{EntryRef, Freshness};
use crate::cache::error::Error;
use crate::cache::rules::Policies;
use crate::cache::stats::Tally;
use crate::cache::stats::miss_reasons::MissReason;
use crate::cache::{Judge, Key, Keyspace, Slot};

/// A value to reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'v> {
    /// The encoding of the bytes: `identity`, or one that the caller accepts.
    pub encoding: &'static str,
    /// The bytes.
    pub bytes: &'v [u8],
}

/// What a read may serve. `left_ms` is how long it stays fresh; `None`: without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'v> {
    /// A fresh value.
    Hit {
        /// The value.
        value: Value<'v>,
        /// How long it stays fresh.
        left_ms: Option<u64>,
    },
    /// A plain string, fresh until it expires: [`Keyspace::text`] has its bytes.
    Plain,
    /// A value inside a window.
    Stale {
        /// The value.
        value: Value<'v>,
    },
    /// A fresh absent entry.
    Absent {
        /// How long it stays fresh.
        left_ms: Option<u64>,
    },
    /// Nothing to serve.
    Miss(MissReason),
}

/// What a read of `slot` may serve. `stale` allows values inside a window, `accept` compressed ones.
///
/// # Errors
/// `WRONGTYPE` for what is neither an entry nor a plain string.
pub fn find<'v>(
    slot: Slot<'v>,
    codecs: &'v mut Codecs,
    judge: Judge<'_>,
    stale: bool,
    accept: Option<Accept>,
) -> Result<Found<'v>, Error> {
    let entry = match slot {
        Slot::Entry(entry) => entry,
        Slot::Empty => return Ok(Found::Miss(MissReason::Gone)),
        Slot::Text(_) => return Ok(Found::Plain),
        Slot::Other => return Err(Error::WrongType),
    };
    let freshness = judge.freshness(entry);
    Ok(match freshness {
        Freshness::Fresh { left_ms } if entry.absent() => Found::Absent { left_ms },
        Freshness::Fresh { left_ms } => match value(entry, codecs, accept) {
            Some(value) => Found::Hit { value, left_ms },
            None => Found::Miss(MissReason::Expired),
        },
        Freshness::Stale { .. } if stale => match value(entry, codecs, accept) {
            Some(value) => Found::Stale { value },
            None => Found::Miss(MissReason::Expired),
        },
        Freshness::Stale { .. } | Freshness::Dead => Found::Miss(miss_reason(slot, judge)),
    })
}

/// Why there is nothing to serve.
pub fn miss_reason(slot: Slot<'_>, judge: Judge<'_>) -> MissReason {
    match slot {
        Slot::Entry(entry) if judge.was_invalidated(entry) => MissReason::Invalidated,
        Slot::Entry(_) => MissReason::Expired,
        Slot::Empty | Slot::Text(_) | Slot::Other => MissReason::Gone,
    }
}

impl<'v> Value<'v> {
    /// Bytes that are not compressed.
    pub fn plain(bytes: &'v [u8]) -> Self {
        Value { encoding: "identity", bytes }
    }
}

/// The entry's value; `None` when it cannot be read because of an unknown codec or damaged bytes.
pub fn value<'v>(entry: EntryRef<'v>, codecs: &'v mut Codecs, accept: Option<Accept>) -> Option<Value<'v>> {
    let codec = entry.codec()?;
    if codec == CodecId::None {
        return Some(Value::plain(entry.stored()));
    }
    if accept.is_some_and(|accept| accept.has(codec)) {
        return Some(Value { encoding: codec.encoding(), bytes: entry.stored() });
    }
    let bytes = codecs.decompress(codec, entry.stored(), entry.raw_len()).ok()?;
    Some(Value::plain(bytes))
}

impl Found<'_> {
    /// Counts one request for `key`, for which this was found in `slot`.
    #[inline(always)]
    pub fn count(&self, key: &[u8], slot: Slot<'_>, policies: &Policies, tally: &mut Tally<'_>) {
        // The hot path; the rest is outlined.
        if let (Found::Hit { .. }, Slot::Entry(entry)) = (self, slot) {
            tally.record_request(key, true);
            tally.of_hit(entry).hits += 1;
        } else {
            self.count_other(key, slot, policies, tally);
        }
    }

    #[inline(never)]
    fn count_other(&self, key: &[u8], slot: Slot<'_>, policies: &Policies, tally: &mut Tally<'_>) {
        tally.record_request(key, !matches!(self, Found::Miss(_)));
        match (self, slot) {
            (Found::Stale { .. }, Slot::Entry(entry)) => tally.of_hit(entry).stale_hits += 1,
            (Found::Absent { .. }, Slot::Entry(entry)) => tally.of_hit(entry).absent_hits += 1,
            (Found::Miss(reason), _) => {
                let reason = tally.miss_reason(*reason, key);
                *tally.of(policies.id(key)).miss(reason) += 1;
            }
            _ => tally.of(policies.id(key)).hits += 1, // a plain string
        }
    }
}

/// Whether something fresh is there: an entry, absent or not, or a plain string.
pub fn is_fresh(slot: Slot<'_>, judge: Judge<'_>) -> bool {
    match slot {
        Slot::Entry(entry) => judge.is_fresh(entry),
        Slot::Text(_) => true,
        Slot::Empty | Slot::Other => false,
    }
}

/// How long what was just read stays fresh, in milliseconds, for a reply: until the end of its freshness or of the key,
/// whichever comes first (`EXPIRE` can shorten, never lengthen); −1 without end.
pub fn fresh_ms(keys: &mut dyn Keyspace, key: Key<'_>, left_ms: Option<u64>) -> i64 {
    match (left_ms, keys.left_ms(key)) {
        (Some(a), Some(b)) => a.min(b) as i64,
        (Some(a), None) | (None, Some(a)) => a as i64,
        (None, None) => -1,
    }
}
