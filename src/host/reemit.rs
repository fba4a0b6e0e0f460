//! Replicates the rules made by command and the marks of invalidations once more: after the AOF was rewritten, and
//! after a panic that may have left one out.

use super::clock::clock_now;
use super::ffi::{Ctx, OwnedStr, must_not_write};
use super::replicate::Outgoing;
use super::state::with_state;
use super::timer::{self, Timer};

/// Tags looked at in one go; a mark that is written counts as sixteen.
const TAGS_AT_ONCE: usize = 8_192;
/// How long to wait when the server must not be disturbed (paused, or failing over).
const LATER_MS: i64 = 20;

/// Replicates all of them, soon.
pub(super) fn start() {
    set_timer(1, 0);
}

/// `from` is the id of the tag to continue with; 0 begins with everything else.
fn set_timer(after_ms: i64, from: usize) {
    timer::start::<Reemit>(after_ms, from);
}

struct Reemit;

impl Timer for Reemit {
    const NAME: &'static str = "the timer that replicates rules and marks once more";

    fn fire(ctx: Ctx<'_>, from: usize) {
        if must_not_write() {
            return set_timer(LATER_MS, from);
        }
        let mut outgoing = Outgoing::new(ctx);
        let mut marks = Vec::new();
        let mut collect = |db, words| marks.push((db, words));
        if from == 0 {
            with_state(|state| state.for_each_mark_but_tags(clock_now(), &mut collect));
            let rules: Vec<_> =
                with_state(|state| state.policies.commanded().map(|rule| rule.spec().words()).collect());
            for rule in rules {
                let words = rule.iter().map(|word| OwnedStr::new(word));
                outgoing.rule([OwnedStr::new(b"SET")].into_iter().chain(words));
            }
        }
        // There may be millions of tags. Invalidations that come meanwhile are replicated as such.
        let next = with_state(|state| state.for_each_mark_of_tags(from, TAGS_AT_ONCE, clock_now(), &mut collect));
        for (db, words) in marks {
            if ctx.select_db(db) {
                outgoing.mark(&words);
            }
        }
        if let Some(next) = next {
            set_timer(1, next);
        }
    }
}
