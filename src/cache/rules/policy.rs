//! What follows from a rule and the settings, computed once, so that a `SET` only computes the end of freshness.
//!
//! ```text
//! given          a value lives                                            an absent entry lives
//! nothing        default × SCALE × jitter, inside MIN … MAX and max-ttl    NEGATIVE × jitter, at most max-ttl
//! TTL d          d × SCALE × jitter, inside MIN … MAX and max-ttl          d × jitter, at most max-ttl
//! EX PX          as given, at most MAX and max-ttl                        as given, at most max-ttl
//! EXAT PXAT      until then, at most MAX and max-ttl from now              until then, at most max-ttl from now
//! PERSIST        for ever, or MAX or max-ttl where they are set           for ever, or max-ttl where it is set
//! ```
//!
//! The default is the rule's `TTL`, then `default-ttl`; jitter is a number drawn from `[1 − JITTER, 1 + JITTER]`.
//! Without end counts as the longest lifetime, by `PERSIST` as by `default-ttl 0`, so that `MAX` and `max-ttl` have no
//! exception. Where `MIN` and `max-ttl` disagree, `max-ttl` wins.

use super::spec::RuleSpec;
use crate::cache::{codec::Choice, entry::LAST_MOMENT, units::MAX_DURATION_MS};

/// How long a command wants an entry to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// None was given.
    Default,
    /// `TTL`, in milliseconds: a base, to be scaled, jittered and bounded.
    Base(u64),
    /// `EX`, `PX`, in milliseconds: only bounded above.
    In(u64),
    /// `EXAT`, `PXAT`, in milliseconds of Unix time: only bounded above. May be past.
    At(u64),
    /// `PERSIST`.
    Forever,
}

/// The values that apply to a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The base of a value's lifetime; `None` for no end.
    pub ttl_ms: Option<u64>,
    /// What a base is multiplied by.
    pub scale: f64,
    /// The shortest lifetime that may come out of a base.
    pub min_ms: Option<u64>,
    /// The rule's bound on every lifetime of a value.
    pub max_ms: Option<u64>,
    /// The server's bound on every lifetime.
    pub max_ttl_ms: Option<u64>,
    /// How far a lifetime may be from its base, as a fraction of it.
    pub jitter: f64,
    /// For how long after freshness a stale value is served while one caller reloads it.
    pub swr_ms: u64,
    /// For how long after freshness a stale value is served while loading fails.
    pub sie_ms: u64,
    /// The base of an absent entry's lifetime.
    pub negative_ms: u64,
    /// The length of a lease.
    pub lock_ms: u64,
    /// The server's bound on it.
    pub max_lock_ms: u64,
    /// The eagerness of early refresh; 0 turns it off.
    pub beta: f64,
    /// How values are stored.
    pub codec: Choice,
    /// Smaller values, in bytes, are stored as they are.
    pub min_size: u64,
    /// How many leases may be out at once for the rule's keys.
    pub fills: Option<u32>,
}

impl Policy {
    /// The same, overridden by what a rule gives.
    pub fn with(&self, rule: &RuleSpec) -> Self {
        Self {
            ttl_ms: rule.ttl_ms.or(self.ttl_ms),
            scale: rule.scale.unwrap_or(self.scale),
            min_ms: rule.min_ms.or(self.min_ms),
            max_ms: rule.max_ms.or(self.max_ms),
            max_ttl_ms: self.max_ttl_ms,
            jitter: rule.jitter.unwrap_or(self.jitter),
            swr_ms: rule.swr_ms.unwrap_or(self.swr_ms),
            sie_ms: rule.sie_ms.unwrap_or(self.sie_ms),
            negative_ms: rule.negative_ms.unwrap_or(self.negative_ms),
            lock_ms: rule.lock_ms.unwrap_or(self.lock_ms).min(self.max_lock_ms),
            max_lock_ms: self.max_lock_ms,
            beta: rule.beta.unwrap_or(self.beta),
            codec: rule.codec.unwrap_or(self.codec),
            min_size: rule.min_size.unwrap_or(self.min_size),
            fills: rule.fills.or(self.fills),
        }
    }

    /// Until when a value stored at `now_ms` is fresh, in milliseconds of Unix time; `None` for no end.
    ///
    /// `random` is from 0 to 1 and makes the jitter. The result grows with it, so 0 and 1 give the range. Only a moment
    /// given as such can be past already.
    pub fn deadline(&self, wanted: Lifetime, now_ms: u64, random: f64) -> Option<u64> {
        let most = [self.max_ms, self.max_ttl_ms].into_iter().flatten().min();
        let from_base = |base| self.jittered(base, self.scale, random).max(self.min_ms.unwrap_or(0));
        let lifetime = match wanted {
            Lifetime::Default => self.ttl_ms.map(from_base),
            Lifetime::Base(ms) => Some(from_base(ms)),
            Lifetime::In(ms) => Some(ms),
            Lifetime::At(at) => return Some(until(at, most, now_ms)),
            Lifetime::Forever => None,
        };
        after(lifetime, most, now_ms)
    }

    /// The same for an absent entry, to which `SCALE`, `MIN` and `MAX` do not apply.
    pub fn absent_deadline(&self, wanted: Lifetime, now_ms: u64, random: f64) -> Option<u64> {
        let lifetime = match wanted {
            Lifetime::Default => Some(self.jittered(self.negative_ms, 1.0, random)),
            Lifetime::Base(ms) => Some(self.jittered(ms, 1.0, random)),
            Lifetime::In(ms) => Some(ms),
            Lifetime::At(at) => return Some(until(at, self.max_ttl_ms, now_ms)),
            Lifetime::Forever => None,
        };
        after(lifetime, self.max_ttl_ms, now_ms)
    }

    /// The lifetime from a base: at least a millisecond, because a base never means "delete", and at most the longest
    /// duration.
    fn jittered(&self, base_ms: u64, scale: f64, random: f64) -> u64 {
        let jitter = 1.0 - self.jitter + 2.0 * self.jitter * random;
        let ms = base_ms as f64 * scale * jitter;
        // The cast saturates, and makes 0 of NaN.
        (ms.round() as u64).clamp(1, MAX_DURATION_MS)
    }
}

/// The moment after `lifetime` (`None`: no end) or after `most`, whichever is earlier.
fn after(lifetime: Option<u64>, most: Option<u64>, now_ms: u64) -> Option<u64> {
    let lifetime = lifetime.into_iter().chain(most).min();
    lifetime.map(|ms| moment(now_ms.saturating_add(ms)))
}

/// The moment `at`, or that after `most`, whichever is earlier.
fn until(at: u64, most: Option<u64>, now_ms: u64) -> u64 {
    let latest = most.map_or(u64::MAX, |most| now_ms.saturating_add(most));
    moment(at.min(latest))
}

/// The latest moment that an entry holds, for what is later.
fn moment(ms: u64) -> u64 {
    ms.min(LAST_MOMENT)
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::{
        super::spec::tests::{any_rule, rule},
        *,
    };
    use crate::config::Settings;

    const NOW: u64 = 1_000_000;

    fn policy(line: &str) -> Policy {
        Settings::default().policy().with(&rule(line).unwrap())
    }

    /// How long a value lives with jitter at its middle.
    fn lives(policy: &Policy, wanted: Lifetime) -> Option<u64> {
        policy.deadline(wanted, NOW, 0.5).map(|at| at - NOW)
    }

    fn absent_lives(policy: &Policy, wanted: Lifetime) -> Option<u64> {
        policy.absent_deadline(wanted, NOW, 0.5).map(|at| at - NOW)
    }

    #[test]
    fn the_base_is_the_commands_then_the_rules_then_the_default() {
        let settings = Settings::default();
        assert_eq!(lives(&settings.policy(), Lifetime::Default), Some(3_600_000));
        assert_eq!(lives(&policy("r MATCH *"), Lifetime::Default), Some(3_600_000));
        assert_eq!(lives(&policy("r MATCH * TTL 5"), Lifetime::Default), Some(5_000));
        assert_eq!(lives(&policy("r MATCH * TTL 5"), Lifetime::Base(7_000)), Some(7_000));
        let endless = Settings { default_ttl_ms: 0, ..settings }.policy();
        assert_eq!(lives(&endless, Lifetime::Default), None);
        assert_eq!(lives(&endless, Lifetime::Base(7_000)), Some(7_000));
    }

    #[test]
    fn a_base_is_scaled_then_jittered_then_bounded() {
        let scaled = policy("r MATCH * SCALE 2 JITTER 0.5");
        for (random, ms) in [(0.0, 10_000), (0.25, 15_000), (0.5, 20_000), (1.0, 30_000)] {
            assert_eq!(scaled.deadline(Lifetime::Base(10_000), NOW, random), Some(NOW + ms));
        }
        let bounded = policy("r MATCH * SCALE 2 JITTER 0.5 MIN 12 MAX 18");
        for (random, ms) in [(0.0, 12_000), (0.25, 15_000), (0.5, 18_000), (1.0, 18_000)] {
            assert_eq!(bounded.deadline(Lifetime::Base(10_000), NOW, random), Some(NOW + ms));
        }
    }

    #[test]
    fn an_exact_lifetime_is_only_bounded_above() {
        let policy = policy("r MATCH * TTL 3 SCALE 2 JITTER 1 MIN 50 MAX 100");
        for random in [0.0, 1.0] {
            assert_eq!(policy.deadline(Lifetime::In(10_000), NOW, random), Some(NOW + 10_000));
            assert_eq!(policy.deadline(Lifetime::In(200_000), NOW, random), Some(NOW + 100_000));
            assert_eq!(policy.deadline(Lifetime::At(NOW + 10_000), NOW, random), Some(NOW + 10_000));
            assert_eq!(policy.deadline(Lifetime::At(NOW + 200_000), NOW, random), Some(NOW + 100_000));
            assert_eq!(policy.deadline(Lifetime::At(5), NOW, random), Some(5), "past");
        }
    }

    #[test]
    fn no_end_is_the_longest_lifetime_and_bounded_like_any() {
        let settings = Settings::default();
        assert_eq!(lives(&settings.policy(), Lifetime::Forever), None);
        assert_eq!(lives(&policy("r MATCH * MAX 9"), Lifetime::Forever), Some(9_000));
        let operated = Settings { default_ttl_ms: 0, max_ttl_ms: 8_000, ..settings }.policy();
        for lifetime in [Lifetime::Forever, Lifetime::Default, Lifetime::In(9_000), Lifetime::Base(9_000)] {
            assert_eq!(lives(&operated, lifetime), Some(8_000));
            assert_eq!(lives(&operated.with(&rule("r MATCH * MIN 10 MAX 20").unwrap()), lifetime), Some(8_000));
        }
    }

    #[test]
    fn an_absent_entry_is_jittered_but_neither_scaled_nor_bounded_by_the_rule() {
        let policy = policy("r MATCH * NEGATIVE 10 SCALE 3 MIN 4 MAX 5 JITTER 0.5");
        assert_eq!(absent_lives(&policy, Lifetime::Default), Some(10_000));
        assert_eq!(policy.absent_deadline(Lifetime::Default, NOW, 0.0), Some(NOW + 5_000));
        assert_eq!(absent_lives(&policy, Lifetime::Base(7_000)), Some(7_000));
        assert_eq!(absent_lives(&policy, Lifetime::In(99_000)), Some(99_000));
        assert_eq!(absent_lives(&policy, Lifetime::Forever), None);
        assert_eq!(policy.absent_deadline(Lifetime::At(5), NOW, 0.5), Some(5));
        let operated = Policy { max_ttl_ms: Some(2_000), ..policy };
        for lifetime in [Lifetime::Default, Lifetime::Base(7_000), Lifetime::In(9_000), Lifetime::Forever] {
            assert_eq!(absent_lives(&operated, lifetime), Some(2_000));
        }
    }

    #[test]
    fn a_base_never_becomes_nothing_or_more_than_a_hundred_years() {
        assert_eq!(policy("r MATCH * JITTER 1").deadline(Lifetime::Base(5), NOW, 0.0), Some(NOW + 1));
        assert_eq!(lives(&policy("r MATCH * SCALE 0.0001"), Lifetime::Base(1)), Some(1));
        assert_eq!(lives(&policy("r MATCH * SCALE 1000000"), Lifetime::Base(u64::MAX)), Some(MAX_DURATION_MS));
    }

    proptest! {
        #[test]
        fn every_lifetime_is_within_its_bounds(
            rule in any_rule(), max_ttl_ms in option::of(1..=MAX_DURATION_MS), now: u64, random in 0.0..1.0_f64, ms: u64,
        ) {
            let policy = Policy { max_ttl_ms, ..Settings::default().policy() }.with(&rule);
            let most = |limits: &[Option<u64>]| limits.iter().flatten().min().copied();
            for lifetime in [Lifetime::Default, Lifetime::Base(ms), Lifetime::In(ms), Lifetime::At(ms), Lifetime::Forever] {
                let absent = policy.absent_deadline(lifetime, now, random);
                for (at, most) in [
                    (policy.deadline(lifetime, now, random), most(&[policy.max_ms, max_ttl_ms])),
                    (absent, most(&[max_ttl_ms])),
                ] {
                    prop_assert!(at.is_some() || most.is_none());
                    let at = at.unwrap_or(0);
                    prop_assert!(at <= LAST_MOMENT);
                    prop_assert!(at <= now.saturating_add(most.unwrap_or(u64::MAX)));
                }
                if let (Lifetime::Default | Lifetime::Base(_), Some(min), Some(at)) =
                    (lifetime, policy.min_ms, policy.deadline(lifetime, now, random))
                {
                    prop_assert!(at >= moment(now.saturating_add(min.min(max_ttl_ms.unwrap_or(min)))));
                }
                let bounds = [0.0, 1.0].map(|end| policy.deadline(lifetime, now, end));
                let at = policy.deadline(lifetime, now, random);
                prop_assert!(bounds[0] <= at && at <= bounds[1]);
            }
        }
    }
}
