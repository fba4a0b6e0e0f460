//! Whether, when and how a value is compressed.

use crate::cache::State;
use crate::cache::clock::Stamp;
use crate::cache::codec::offload::{Done, Job};
use crate::cache::codec::{Adaptive, Choice, CodecId, worth_keeping};
use crate::cache::ids::RuleId;
use crate::cache::rules::Policy;
use crate::config::Settings;

/// When a value is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Never,
    /// Before the reply.
    Now(CodecId),
    /// On a worker: the value is large.
    Later(CodecId),
}

/// When to compress `raw`; `choice` is the command's own.
pub(super) fn plan(
    choice: Option<Choice>,
    policy: &Policy,
    settings: &Settings,
    raw: &[u8],
    rule: RuleId,
    adaptive: &mut Vec<Adaptive>,
) -> Plan {
    let codec = choice.unwrap_or(policy.codec).codec();
    if codec == CodecId::None || raw.is_empty() || (raw.len() as u64) < policy.min_size {
        return Plan::Never;
    }
    // A codec that the command names is always tried.
    if !matches!(choice, Some(Choice::Only(_))) && !adaptive_of(adaptive, rule).should_try() {
        return Plan::Never;
    }
    if raw.len() as u64 > settings.offload_size { Plan::Later(codec) } else { Plan::Now(codec) }
}

/// How well a rule's values have compressed so far.
fn adaptive_of(adaptive: &mut Vec<Adaptive>, rule: RuleId) -> &mut Adaptive {
    let at = usize::from(rule.0);
    if at >= adaptive.len() {
        adaptive.resize_with(at + 1, Adaptive::default);
    }
    &mut adaptive[at]
}

impl State {
    /// Carries out the plan: how the value is stored for now, and the job of a worker, unless the queue is full. The
    /// entry is named by database, key and stamp.
    pub(super) fn pack<'v>(
        &'v mut self,
        plan: Plan,
        raw: &'v [u8],
        rule: RuleId,
        (db, key, stamp): (i32, &[u8], Stamp),
    ) -> (CodecId, &'v [u8], Option<Job>) {
        match plan {
            Plan::Never => (CodecId::None, raw, None),
            Plan::Now(codec) => {
                let (codec, stored) = self.compress(codec, raw, rule);
                (codec, stored, None)
            }
            Plan::Later(codec) => {
                let Settings { compression_level, min_savings, .. } = self.settings;
                let level = compression_level as i32;
                let job = self.offload.admit(db, key, stamp.0, codec, level, raw, min_savings);
                (CodecId::None, raw, job)
            }
        }
    }

    /// The value compressed, if that saves enough, else as it is.
    fn compress<'v>(&'v mut self, codec: CodecId, raw: &'v [u8], rule: RuleId) -> (CodecId, &'v [u8]) {
        let adaptive = adaptive_of(&mut self.adaptive, rule);
        match self.codecs.compress(codec, self.settings.compression_level as i32, raw) {
            Ok(stored) if worth_keeping(raw.len(), stored.len(), self.settings.min_savings) => {
                adaptive.record(true);
                (codec, stored)
            }
            Ok(_) | Err(_) => {
                adaptive.record(false);
                (CodecId::None, raw)
            }
        }
    }

    /// Counts the end of a job, whose result was swapped in or not.
    pub fn offloaded(&mut self, done: &Done, swapped: bool) {
        let rule = self.policies.id(&done.job.key);
        adaptive_of(&mut self.adaptive, rule).record(done.stored.is_some());
        self.offload.finished(done, swapped);
    }
}
