//! Entries that were not stored on this node: loaded from files, replicated, restored, or moved here with their slot.

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::codec::{self, CodecId};
use crate::cache::entry::format::{Header, Malformed};
use crate::cache::entry::{Entry, Freshness, MAX_LEN};
use crate::cache::ids::RuleId;
use crate::cache::invalidation::sweep::Walk;
use crate::cache::invalidation::tags::Tags;

/// Where an entry comes from that was not stored here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Our primary, or our own files: its stamp counts as it is.
    Home,
    /// `RESTORE`, or a slot that moves: its stamp is of another node's clock.
    Elsewhere,
    /// The same, replicated by our primary, which has accepted it: our own limits do not apply.
    Relayed,
}

impl State {
    /// Makes an entry of what was not stored here. A stamp from our own files or our primary moves our clock; one from
    /// elsewhere is cut down to our clock, and its value is checked.
    pub fn import_entry(
        &mut self,
        header: &Header<'_>,
        (db, key): (i32, Option<&[u8]>),
        stored: &[u8],
        source: Source,
        now: Now,
    ) -> Result<Entry, Malformed> {
        if source == Source::Elsewhere {
            self.check_foreign(header, stored)?;
        }
        let rule = key.map_or(RuleId::NONE, |key| self.policies.id(key));
        let tag = if source == Source::Elsewhere { Tags::intern } else { Tags::intern_unlimited };
        let mut entry = header.to_entry(|name| tag(&mut self.tags, name), rule, stored)?;
        match source {
            Source::Home => {
                if !self.clock.follow(header.stamp, now) {
                    entry.as_mut().kill();
                }
            }
            Source::Elsewhere | Source::Relayed => self.restamp(&mut entry, header, (db, key), now),
        }
        Ok(entry)
    }

    /// Refuses a value that is too large, or whose compressed bytes cannot be a value of its length.
    fn check_foreign(&self, header: &Header<'_>, stored: &[u8]) -> Result<(), Malformed> {
        let limit = self.settings.max_value.min(MAX_LEN as u64);
        let raw_len = header.raw_len(stored);
        if raw_len as u64 > limit {
            return Err(Malformed::Field("length of the value (see smartcache.max-value)"));
        }
        if let Some(codec) = CodecId::from_id(header.codec_number()) {
            codec::check(codec, stored, raw_len).map_err(|_| Malformed::Field("compressed value"))?;
        }
        Ok(())
    }

    /// Gives an entry with a stamp of another node's clock a stamp of ours, and judges it by our invalidations.
    fn restamp(&mut self, entry: &mut Entry, header: &Header<'_>, (db, key): (i32, Option<&[u8]>), now: Now) {
        let stamp = self.clock.arrival(header.stamp, now, self.settings.skew_ms);
        entry.as_mut().set_header(stamp, header.fresh_until, header.stale());
        let tags = entry.as_ref().tags().map(|id| self.tags.name(id));
        // It may have been invalidated here by a mark that is forgotten.
        let of_forgotten = self.invalidations.forgotten_verdict(db, key.unwrap_or_default(), stamp, tags);
        of_forgotten.apply_to(&mut entry.as_mut());
        if let Some(key) = key {
            // A mark that is still kept may be forgotten before a sweep reaches the entry.
            self.invalidations.apply_verdict(db, key, &mut entry.as_mut(), now);
        }
        if entry.as_ref().freshness(now) == Freshness::Dead {
            self.sweep.request(db, Walk::Keys, 0);
        }
    }
}
