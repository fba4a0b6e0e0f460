//! The driver: what a host's timers do, decided here, so that a server and the test node run the same loop.
//!
//! As in quinn-proto, the host owns the clock and the timers. It calls `handle_…` when a timer fires, then `poll_…`
//! until there is nothing more, and sets its timer by what `next_…` answers:
//!
//! ```text
//!  timer of leases ─▶ handle_deadlines ─▶ poll_answer … ─▶ next_lease_timer
//!  timer of the sweep ─▶ poll_sweep … ─▶ next_sweep_timer
//! ```

use std::time::Duration;

use super::acquire::Values;
use super::context::Node;
use crate::cache::clock::Now;
use crate::cache::invalidation::sweep::Job;
use crate::cache::lease::table::{Answer, Deadline, WaiterId};
use crate::cache::ports::Keyspace;
use crate::cache::state::State;

/// How late a timer may be, in milliseconds, before it is taken for one that does not come: servers' timers go by the
/// wall clock, which may have been set back.
const OVERDUE_MS: u64 = 100;
/// How long one slice of the sweep works.
const SWEEP_SLICE: Duration = Duration::from_millis(1);
/// How long one slice frees what a flush has left, which nobody waits for.
const FREE_SLICE: Duration = Duration::from_micros(500);
/// The share of the main thread's time that freeing what a flush has left takes.
const FREE_EFFORT: f64 = 0.05;
/// A backlog of so many keys doubles the sweep's effort.
const LARGE_BACKLOG: u64 = 100_000;
/// The sweep's least effort while a caller waits for it. All callers share it with what is freed: one that asks in a
/// loop must not take the time of others.
const EFFORT_WHEN_AWAITED: f64 = 0.05;
/// When to try again what the server does not allow at the moment, in milliseconds.
const RETRY_MS: u64 = 20;

/// The databases of a node, of which one is selected at a time.
pub trait Databases {
    /// Selects a database and gives its keys; `None` when there is no such database.
    fn select(&mut self, db: i32) -> Option<&mut dyn Keyspace>;
}

/// A timer of the host's, of which one is set at a time: set anew only when it would come too late.
#[derive(Debug, Default)]
pub struct Timer {
    set_for_ms: Option<u64>,
}

impl Timer {
    /// After how many milliseconds the timer is to fire so that it is there at `at_ms` of the monotonic clock; `None`
    /// when the one that is set will do. One that is set and not due is to be stopped first ([`is_set`](Self::is_set)).
    pub fn set_for(&mut self, at_ms: u64, now: Now) -> Option<u64> {
        if self.set_for_ms.is_some_and(|set_for| set_for <= at_ms && now.mono_ms() <= set_for + OVERDUE_MS) {
            return None;
        }
        self.set_for_ms = Some(at_ms);
        Some(at_ms.saturating_sub(now.mono_ms()).max(1))
    }

    /// Whether one is set.
    pub fn is_set(&self) -> bool {
        self.set_for_ms.is_some()
    }

    /// It has fired.
    pub fn fired(&mut self) {
        self.set_for_ms = None;
    }
}

/// How long to rest after working for `elapsed`, so that work takes this share of the time.
fn rest_ms(elapsed: Duration, effort: f64) -> u64 {
    let rest = elapsed.as_secs_f64() * 1_000.0 * (1.0 / effort.max(0.001) - 1.0);
    (rest as u64).clamp(1, 1_000)
}

impl State {
    /// Handles leases, back-offs and waits whose deadline has passed, at most `most` of them; whether there may be
    /// more.
    pub fn handle_deadlines(&mut self, databases: &mut dyn Databases, now: Now, most: usize) -> bool {
        let mut values = Values::default();
        for _ in 0..most {
            let Some(due) = self.leases.due_now(now) else { return false };
            let db = match &due {
                Deadline::Key(db, _) => Some(*db),
                Deadline::Waiter(id) => self.leases.waiter(*id).map(|waiter| waiter.db),
            };
            match db.and_then(|db| databases.select(db).map(|keys| (db, keys))) {
                Some((db, keys)) => Node { state: self, keys, db, now }.handle_deadline(&due, &mut values),
                None => self.leases.pass_over(), // cannot be, but must not hold up the others
            }
        }
        true
    }

    /// The next answer to a waiter, as long as this moment's share of answers is not used up.
    pub fn poll_answer(&mut self, now: Now) -> Option<(WaiterId, Answer)> {
        self.leases.poll_answer(now)
    }

    /// When the timer of leases is to fire, in milliseconds of the monotonic clock.
    pub fn next_lease_timer(&self, now: Now) -> Option<u64> {
        if self.leases.has_answers() { Some(now.mono_ms() + 1) } else { self.leases.next_due() }
    }

    /// Whether loads may be in flight that the server's own commands make untrusted: then the host watches those.
    pub fn watches_native_commands(&self, now: Now) -> bool {
        self.settings.guard_native && self.tombstones.awaits_any(now, self.settings.max_load_ms)
    }

    /// Whether the sweep has work now. Called after every command, so the clock is read only if it matters.
    pub fn has_sweep_work(&self, now: impl FnOnce() -> Now) -> bool {
        self.invalidations.has_deferred_frees()
            || self.leases.has_remains()
            || self.sweep.has_replies()
            || self.sweep.next_due().is_some_and(|due| due == 0 || due <= now().mono_ms())
    }

    /// Frees some of what a flush has left; whether there is more.
    pub fn free_some(&mut self) -> bool {
        self.invalidations.free_some() || self.leases.free_some()
    }

    /// Whether a slice of the sweep that has worked for so long goes on freeing what a flush has left.
    pub fn frees_on(elapsed: Duration) -> bool {
        elapsed <= FREE_SLICE
    }

    /// The walk that a slice of the sweep which has worked for `elapsed` goes on with; `None` at its end. `may_free`:
    /// this node is a primary that may delete keys now.
    pub fn poll_sweep(&mut self, elapsed: Duration, may_free: bool, now: Now) -> Option<Job> {
        if elapsed >= SWEEP_SLICE {
            return None;
        }
        let frees = may_free && self.settings.sweep_effort > 0.0;
        self.sweep.next_job(frees, now)
    }

    /// After how many milliseconds the next slice begins, when this one has worked for `elapsed`; `None` when there is
    /// nothing to do. `more_to_free`: a flush has left more. `marks_wait`: marks wait to be replicated.
    ///
    /// Slices come so often that all of them together stay at `sweep-effort` of the main thread's time: at twice that
    /// with a large backlog, at no less than a twentieth while a caller waits.
    pub fn next_sweep_timer(
        &mut self,
        elapsed: Duration,
        may_free: bool,
        more_to_free: bool,
        marks_wait: bool,
        now: Now,
    ) -> Option<u64> {
        if self.poll_sweep(Duration::ZERO, may_free, now).is_some() {
            return Some(rest_ms(elapsed, self.sweep_effort()));
        }
        if self.sweep.next_due() == Some(0) || marks_wait {
            return Some(RETRY_MS); // when keys may be deleted again
        }
        more_to_free.then(|| rest_ms(elapsed, FREE_EFFORT)) // the cron comes by for what is due later
    }

    /// How many milliseconds a slice that has worked for `elapsed` is followed by none, also when work that comes
    /// meanwhile could begin at once.
    pub fn sweep_rest(&self, elapsed: Duration) -> u64 {
        rest_ms(elapsed, self.sweep_effort().max(EFFORT_WHEN_AWAITED))
    }

    fn sweep_effort(&self) -> f64 {
        let effort = self.settings.sweep_effort;
        let effort = if self.sweep_backlog() > LARGE_BACKLOG { (effort * 2.0).min(1.0) } else { effort };
        if self.sweep.has_waiters() { effort.max(EFFORT_WHEN_AWAITED) } else { effort }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNode;

    const SLICE: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Now {
        Now::new(0, ms)
    }

    fn with_dead_entry() -> TestNode {
        let mut node = TestNode::at(1_000_000);
        node.call("SET k v TAGS 1 t");
        node.call("INVALIDATE TAGS 1 t");
        node
    }

    #[test]
    fn a_timer_is_set_again_only_when_it_would_come_too_late() {
        let mut timer = Timer::default();
        assert_eq!((timer.set_for(50, at(10)), timer.is_set()), (Some(40), true));
        assert_eq!(timer.set_for(60, at(10)), None, "the one that is set comes earlier");
        assert_eq!(timer.set_for(20, at(10)), Some(10));
        assert_eq!(timer.set_for(5, at(10)), Some(1), "never at once: the server's timers take at least a millisecond");
        timer.fired();
        assert_eq!((timer.is_set(), timer.set_for(60, at(10))), (false, Some(50)));
    }

    #[test]
    fn a_timer_that_is_overdue_is_taken_for_lost() {
        let mut timer = Timer::default();
        timer.set_for(50, at(10));
        assert_eq!(timer.set_for(60, at(50 + OVERDUE_MS)), None);
        assert_eq!(timer.set_for(60, at(51 + OVERDUE_MS)), Some(1));
    }

    #[test]
    fn a_slice_ends_with_its_time_and_not_with_its_work() {
        let mut node = with_dead_entry();
        let now = node.now();
        assert!(node.state.poll_sweep(Duration::ZERO, true, now).is_some());
        assert!(node.state.poll_sweep(SLICE, true, now).is_none());
        assert!(node.state.poll_sweep(Duration::ZERO, false, now).is_none(), "nothing is deleted now");
    }

    #[test]
    fn slices_rest_so_long_that_the_sweep_keeps_to_its_effort() {
        let mut node = with_dead_entry();
        let now = node.now();
        for (effort, rest) in [("5%", 19), ("50%", 1), ("100%", 1), ("0.1%", 999), ("0.01%", 999)] {
            node.config("sweep-effort", effort).unwrap();
            let next = node.state.next_sweep_timer(SLICE, true, false, false, now);
            assert_eq!(next, Some(rest), "{effort}");
        }
    }

    #[test]
    fn callers_that_wait_share_the_effort_and_get_no_less_than_a_twentieth() {
        let mut node = with_dead_entry();
        node.call("SET p v");
        assert_eq!(node.call_as(2, "PREVIEW ALL"), "(waiting)");
        assert_eq!(node.call_as(3, "PREVIEW ALL"), "(waiting)");
        let now = node.now();
        for (effort, rest) in [("0", 19), ("1%", 19), ("5%", 19), ("50%", 1)] {
            node.config("sweep-effort", effort).unwrap();
            assert_eq!(node.state.next_sweep_timer(SLICE, true, false, false, now), Some(rest), "{effort}");
            assert_eq!(node.state.sweep_rest(SLICE), rest, "also when all are answered, and one asks again");
        }
    }

    #[test]
    fn what_may_not_be_deleted_now_is_tried_again_soon() {
        let mut node = with_dead_entry();
        let now = node.now();
        assert_eq!(node.state.next_sweep_timer(SLICE, false, false, false, now), Some(RETRY_MS));
        node.sweep();
        let now = node.now();
        assert_eq!(node.state.next_sweep_timer(SLICE, true, false, true, now), Some(RETRY_MS), "marks wait");
        assert_eq!(node.state.next_sweep_timer(SLICE, true, true, false, now), Some(19), "a flush has left more");
        assert_eq!(node.state.next_sweep_timer(SLICE, true, false, false, now), None);
    }
}
