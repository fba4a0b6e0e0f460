//! Entries that were not stored on this node: loaded, replicated, restored, or moved here with their slot.

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
    /// `RESTORE`, or a slot that moves: another node's clock.
    Elsewhere,
    /// The same, told by our primary, which has taken it: our own limits are not asked.
    Relayed,
}

impl State {
    /// Makes an entry of what was not stored here. From our own files and our primary its stamp moves our clock; from
    /// elsewhere the stamp is cut down to our clock, and the value must be what it says it is.
    pub fn import_entry(
        &mut self,
        header: &Header<'_>,
        (db, key): (i32, Option<&[u8]>),
        stored: &[u8],
        source: Source,
        now: Now,
    ) -> Result<Entry, Malformed> {
        if source == Source::Elsewhere {
            let limit = self.settings.max_value.min(MAX_LEN as u64);
            if header.raw_len(stored) as u64 > limit {
                return Err(Malformed::Field("length of the value (see smartcache.max-value)"));
            }
            if let Some(codec) = CodecId::from_id(header.codec_number()) {
                codec::check(codec, stored, header.raw_len(stored))
                    .map_err(|_| Malformed::Field("compressed value"))?;
            }
        }
        let rule = key.and_then(|key| self.policies.find(key)).map_or(RuleId::NONE, |rule| rule.id());
        let tag = if source == Source::Elsewhere { Tags::id } else { Tags::intern_unlimited };
        let mut entry = header.to_entry(|name| tag(&mut self.tags, name), rule, stored)?;
        match source {
            Source::Home => {
                if !self.clock.follow(header.stamp, now) {
                    entry.as_mut().kill();
                }
            }
            Source::Elsewhere | Source::Relayed => {
                let stamp = self.clock.arrival(header.stamp, now, self.settings.skew_ms);
                entry.as_mut().set_header(stamp, header.fresh_until, header.stale());
                let tags = entry.as_ref().tags().map(|id| self.tags.name(id));
                if self.invalidations.forgot(db, stamp, tags) {
                    entry.as_mut().kill(); // perhaps it was invalidated here, which nobody remembers
                } else if let Some(key) = key {
                    // What is still remembered may be forgotten before a sweep comes by.
                    self.invalidations.write_verdict(db, key, &mut entry.as_mut(), now);
                }
                if entry.as_ref().freshness(now) == Freshness::Dead {
                    self.sweep.ask(db, Walk::Keys, 0);
                }
            }
        }
        Ok(entry)
    }
}
