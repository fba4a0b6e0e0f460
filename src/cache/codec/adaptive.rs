//! A rule whose values never shrink stops trying to compress them for a while.
//!
//! Pictures, encrypted tokens, values that the client has compressed: each try costs as much as a useful one and is
//! thrown away. Whether a rule's values are like that is learnt from their results:
//!
//! ```text
//!                 32 refused in a row                    256 skipped
//!      trying ──────────────────────────▶ skipping ──────────────────────▶ probing
//!        ▲                                    ▲                              │  │
//!        │            one was kept            │       8 refused in a row     │  │
//!        └────────────────────────────────────┼──────────────────────────────┘  │
//!                                             └─────────────────────────────────┘
//! ```
//!
//! So values that never shrink cost 8 tries in 264 writes (3 %), and a rule whose values change is soon tried again.

/// What has been learnt about one rule's values. It counts and never draws, so equal writes have equal results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Adaptive {
    /// Refusals in a row; after a pause it starts high enough to leave only [`Adaptive::PROBES`].
    refusals: u32,
    /// Writes still to skip.
    skips: u32,
    /// There was a pause, and nothing has shrunk since.
    gave_up: bool,
}

impl Adaptive {
    /// Refusals in a row after which a rule pauses. (If every tenth value shrinks, chance does that once in 30 times.)
    const REFUSALS: u32 = 32;
    /// Writes that a pause skips.
    const SKIPS: u32 = 256;
    /// Refusals in a row after a pause that make it pause again.
    const PROBES: u32 = 8;

    /// A rule that has learnt nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to compress the next value. To be called once for each value: a pause is counted in values.
    pub fn should_try(&mut self) -> bool {
        if self.skips == 0 {
            return true;
        }
        self.skips -= 1;
        false
    }

    /// Whether nothing has shrunk for so long that most writes are skipped.
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Records whether the compressed form was kept. A worker's result may come late, even during a pause.
    pub fn record(&mut self, kept: bool) {
        if kept {
            *self = Self::default();
            return;
        }
        self.refusals += 1;
        if self.refusals >= Self::REFUSALS {
            self.refusals = Self::REFUSALS - Self::PROBES;
            self.skips = Self::SKIPS;
            self.gave_up = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes values that never shrink, and counts the tries.
    fn tries(adaptive: &mut Adaptive, writes: u32) -> u32 {
        let mut tries = 0;
        for _ in 0..writes {
            if adaptive.should_try() {
                tries += 1;
                adaptive.record(false);
            }
        }
        tries
    }

    #[test]
    fn a_rule_pauses_when_nothing_shrinks() {
        let mut adaptive = Adaptive::new();
        assert_eq!(tries(&mut adaptive, Adaptive::REFUSALS - 1), Adaptive::REFUSALS - 1);
        assert!(!adaptive.gave_up());
        assert_eq!(tries(&mut adaptive, 1), 1);
        assert_eq!(tries(&mut adaptive, Adaptive::SKIPS), 0);
        assert!(adaptive.should_try() && adaptive.gave_up());
    }

    #[test]
    fn a_few_probes_after_a_pause_are_enough_to_pause_again() {
        let mut adaptive = Adaptive::new();
        tries(&mut adaptive, Adaptive::REFUSALS + Adaptive::SKIPS);
        assert_eq!(tries(&mut adaptive, Adaptive::PROBES + Adaptive::SKIPS), Adaptive::PROBES);
        assert_eq!(tries(&mut adaptive, 264_000), 8_000);
    }

    #[test]
    fn one_kept_value_makes_it_try_again_as_before() {
        let mut adaptive = Adaptive::new();
        tries(&mut adaptive, Adaptive::REFUSALS + Adaptive::SKIPS);
        adaptive.record(true);
        assert_eq!(adaptive, Adaptive::new());
    }

    #[test]
    fn a_rule_whose_values_sometimes_shrink_never_pauses() {
        let mut adaptive = Adaptive::new();
        for write in 0..10_000 {
            assert!(adaptive.should_try());
            adaptive.record(write % Adaptive::REFUSALS == 0);
        }
    }

    #[test]
    fn a_late_result_from_a_worker_ends_a_pause() {
        let mut adaptive = Adaptive::new();
        tries(&mut adaptive, Adaptive::REFUSALS);
        assert!(!adaptive.should_try());
        adaptive.record(true);
        assert!(adaptive.should_try());
    }
}
