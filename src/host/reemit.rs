//! Replicates the rules made by command and the marks of invalidations once more: after the AOF was rewritten, and
//! after a panic that may have left one out.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::clock::clock_now;
use super::ffi::{Ctx, OwnedStr, must_not_write};
use super::main_thread::MainThread;
use super::replicate::Outgoing;
use super::state::with_state;
use super::timer::{self, Timer};
use crate::cache::invalidation::marks::MarkCursor;
use crate::cache::rules::RuleSpec;

/// Marks that one turn replicates, about: some 2.5 µs each.
const MARKS_AT_ONCE: usize = 256;
/// Tags looked at in one turn; a mark that is written counts as sixteen.
const TAGS_AT_ONCE: usize = 16 * MARKS_AT_ONCE;
/// How long to wait when the server must not be disturbed (paused, or failing over).
const LATER_MS: i64 = 20;

/// How far they are replicated; `None` when all are.
static PROGRESS: MainThread<RefCell<Option<Progress>>> = MainThread::new(RefCell::new(None));

#[derive(Default)]
struct Progress {
    rules_done: bool,
    /// The marks of databases, prefixes and patterns; `None` when they are done.
    names: Option<MarkCursor>,
    /// The id of the tag to go on with.
    tags: Option<usize>,
    /// Marks that are encoded and wait for a turn of their database.
    encoded: VecDeque<(i32, Vec<Vec<u8>>)>,
}

/// Replicates all of them, from now on, a part at a time. What is set or invalidated meanwhile is replicated as such.
pub(super) fn start() {
    let all = Progress { names: Some(MarkCursor::default()), tags: Some(0), ..Progress::default() };
    if PROGRESS.get().replace(Some(all)).is_none() {
        set_timer(1);
    }
}

fn set_timer(after_ms: i64) {
    timer::start::<Reemit>(after_ms, 0);
}

struct Reemit;

impl Timer for Reemit {
    const NAME: &'static str = "the timer that replicates rules and marks once more";

    fn fire(ctx: Ctx<'_>, _: usize) {
        if must_not_write() {
            return set_timer(LATER_MS);
        }
        let Some(mut progress) = PROGRESS.get().take() else { return };
        if progress.turn(&mut Outgoing::new(ctx), ctx) {
            PROGRESS.get().replace(Some(progress));
            set_timer(1);
        }
    }
}

impl Progress {
    /// Replicates some, all of one database; false when all are done.
    fn turn(&mut self, outgoing: &mut Outgoing<'_>, ctx: Ctx<'_>) -> bool {
        if !std::mem::replace(&mut self.rules_done, true) {
            let rules: Vec<_> = with_state(|state| state.policies.persisted().map(RuleSpec::words).collect());
            for rule in rules {
                let words = rule.iter().map(|word| OwnedStr::new(word));
                outgoing.rule([OwnedStr::new(b"SET")].into_iter().chain(words));
            }
            return true;
        }
        if self.encoded.is_empty() {
            self.encode_some();
        }
        let Some(db) = self.encoded.front().map(|(db, _)| *db) else {
            return self.names.is_some() || self.tags.is_some();
        };
        let exists = ctx.select_db(db);
        self.encoded.retain(|(of, words)| {
            if *of == db && exists {
                outgoing.mark(words);
            }
            *of != db
        });
        true
    }

    fn encode_some(&mut self) {
        let encoded = &mut self.encoded;
        let mut collect = |db, words| encoded.push_back((db, words));
        let now = clock_now();
        if let Some(cursor) = &mut self.names {
            if !with_state(|state| state.for_some_marks_but_tags(cursor, MARKS_AT_ONCE, now, &mut collect)) {
                self.names = None;
            }
        } else if let Some(from) = self.tags {
            self.tags = with_state(|state| state.for_each_mark_of_tags(from, TAGS_AT_ONCE, now, &mut collect));
        }
    }
}
