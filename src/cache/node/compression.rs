//! Whether, when and how a value is compressed.

use crate::cache::State;
use crate::cache::codec::offload::Done;
use crate::cache::codec::{Adaptive, Choice, CodecId, Codecs, worth_keeping};
use crate::cache::ids::RuleId;
use crate::cache::rules::Policy;
use crate::config::Settings;

/// When a value is compressed, if at all.
pub(super) enum Packing {
    Never,
    Now(CodecId),
    /// On a worker: the value is large.
    Later(CodecId),
}

pub(super) fn packing(
    said: Option<Choice>,
    policy: &Policy,
    settings: &Settings,
    raw: &[u8],
    rule: RuleId,
    adaptive: &mut Vec<Adaptive>,
) -> Packing {
    let codec = said.unwrap_or(policy.codec).codec();
    if codec == CodecId::None || raw.is_empty() || (raw.len() as u64) < policy.min_size {
        return Packing::Never;
    }
    // Whoever names one codec with the value wants it tried.
    if !matches!(said, Some(Choice::Only(_))) && !adaptive_of(adaptive, rule).should_try() {
        return Packing::Never;
    }
    if raw.len() as u64 > settings.offload_size { Packing::Later(codec) } else { Packing::Now(codec) }
}

/// The memory of how well a rule's values compress.
pub(super) fn adaptive_of(adaptive: &mut Vec<Adaptive>, rule: RuleId) -> &mut Adaptive {
    let at = usize::from(rule.0);
    if at >= adaptive.len() {
        adaptive.resize_with(at + 1, Adaptive::default);
    }
    &mut adaptive[at]
}

/// The value compressed, when that saves enough, else as it is.
pub(super) fn pack<'v>(
    codecs: &'v mut Codecs,
    codec: CodecId,
    raw: &'v [u8],
    settings: &Settings,
    adaptive: &mut Adaptive,
) -> (CodecId, &'v [u8]) {
    match codecs.compress(codec, settings.compression_level as i32, raw) {
        Ok(stored) if worth_keeping(raw.len(), stored.len(), settings.min_savings) => {
            adaptive.record(true);
            (codec, stored)
        }
        Ok(_) | Err(_) => {
            adaptive.record(false);
            (CodecId::None, raw)
        }
    }
}

impl State {
    /// Counts what came of a job, whose result was swapped in or not.
    pub fn offloaded(&mut self, done: &Done, swapped: bool) {
        let rule = self.policies.find(&done.key).map_or(RuleId::NONE, |rule| rule.id());
        adaptive_of(&mut self.adaptive, rule).record(done.stored.is_some());
        self.offload.finished(done, swapped);
    }
}
