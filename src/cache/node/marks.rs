//! What happens to marks after an invalidation: they are applied on replicas, saved, loaded and forgotten.

use std::cell::OnceCell;

use smallvec::SmallVec;

use crate::cache::State;
use crate::cache::clock::{Now, Stamp};
use crate::cache::ids::TagId;
use crate::cache::invalidation::mark::{InvalidationMark, MarkTarget};
use crate::cache::invalidation::marks::MarkCursor;
use crate::cache::invalidation::messages::{Forget, Invalidation, MarkMessage, encode};
use crate::cache::invalidation::selector::Selector;
use crate::cache::invalidation::sweep::Walk;
use crate::cache::unmodified::Retiring;

/// The effort of encoding a mark; that of a look at a tag without marks is 1.
const EFFORT_PER_MARK: usize = 16;

impl State {
    /// Applies a `SMARTCACHE.MARK`, which is an invalidation only in a file. A stamp that is not believable is replaced
    /// by that of now: more is invalidated, never less.
    pub fn apply_mark(&mut self, db: i32, message: MarkMessage<'_>, now: Now) {
        // The clock follows the sweep's stamp: when this node is a primary, its invalidations must be later.
        if matches!(message, MarkMessage::Swept(began) if !self.clock.follow(began, now)) {
            return;
        }
        let mut believable = |stamp: Stamp| if self.clock.follow(stamp, now) { stamp } else { self.clock.stamp(now) };
        match message {
            MarkMessage::Invalidation(mut invalidation) => {
                invalidation.stamp = believable(invalidation.stamp);
                invalidation.bound_guard(&self.settings);
                invalidation.bound_ramp(&self.settings);
                if let Selector::Tags(names) = &invalidation.selector {
                    // Their entries follow in the file.
                    names.iter().for_each(|name| _ = self.tags.intern_unlimited(name));
                }
                invalidation.add_marks(self, db, now);
                self.request_walks_for(db, invalidation.hardness.ramp_ends(invalidation.at_ms, now));
            }
            MarkMessage::TakeBackGuards { selector, stamp } => {
                believable(stamp);
                self.take_back_guards(db, &selector);
            }
            MarkMessage::Swept(began) => self.invalidations.finish_sweep(db, began),
            MarkMessage::Forget { stamp, of } => {
                let stamp = believable(stamp);
                if of != Forget::Patterns {
                    self.invalidations.forget_prefixes_until(db, stamp, now);
                }
                if of != Forget::Prefixes
                    && let Some((stamp, guard_ms)) = self.invalidations.forget_patterns_until(db, stamp, now)
                {
                    self.flush_epochs.pass(db, stamp, guard_ms);
                }
            }
            // With entries it is not what the primary has: more is invalidated here, never less.
            MarkMessage::ForgetAll(stamp) if self.live.totals().entries == 0 => {
                let stamp = believable(stamp);
                let State { invalidations, tags, flush_epochs, .. } = self;
                let names = |id| tags.name(id).to_vec();
                invalidations.forget_all_until(stamp, names, |db, stamp, guard_ms| {
                    flush_epochs.pass(db, stamp, guard_ms);
                });
            }
            MarkMessage::ForgetAll(_) => {}
            MarkMessage::Forgotten { stamp, of_tags: true } => {
                self.invalidations.add_forgotten(db, Stamp::default(), believable(stamp))
            }
            MarkMessage::Forgotten { stamp, of_tags: false } => {
                self.invalidations.add_forgotten(db, believable(stamp), Stamp::default())
            }
        }
    }

    /// Takes the guards of a selector back, and of all that it covers; false when there were none. (Guards of forgotten
    /// tags are no longer than `smartcache.guard`, and end with a flush or by `ALL`.)
    pub fn take_back_guards(&mut self, db: i32, selector: &Selector<'_>) -> bool {
        let marks = &self.invalidations;
        let each = |had: bool, target: MarkTarget<'_>| marks.take_back_guards(db, target) || had;
        let had = match selector {
            Selector::All => {
                self.flush_epochs.take_back_guards(Some(db));
                each(false, MarkTarget::All)
            }
            Selector::Tags(names) => {
                names.iter().filter_map(|name| self.tags.known(name)).map(MarkTarget::Tag).fold(false, each)
            }
            Selector::Prefixes(names) => names.iter().map(|name| MarkTarget::Prefix(name)).fold(false, each),
            Selector::Patterns(names) => names.iter().map(|name| MarkTarget::Pattern(name)).fold(false, each),
        };
        if had {
            self.guarded = None; // the next fill that is refused says which guard is left
        }
        had
    }

    /// Restarts the sweep after a change of role: the former primary may not have finished its walks.
    pub fn sweep_all(&mut self, now: Now) {
        self.sweep.cancel_freeing();
        self.retiring = Retiring::default();
        let marks = self.invalidations.clone();
        marks.for_each_mark(|db, _, mark| self.request_walks_for(db, mark.hardness.ramp_ends(mark.at_ms, now)));
    }

    /// Requests the walks for a mark that was made on another node, or in an earlier life.
    fn request_walks_for(&mut self, db: i32, ramp_ends: Option<u64>) {
        self.sweep.request(db, Walk::Keys, 0);
        if let Some(due_ms) = ramp_ends {
            self.sweep.request(db, Walk::Keys, due_ms);
        }
    }

    /// How many times [`for_each_mark`](Self::for_each_mark) calls its visitor.
    pub fn count_marks(&self) -> u64 {
        let mut marks = 0;
        self.invalidations.for_each_mark(|_, _, _| marks += 1);
        marks + self.forgotten_marks().count() as u64
    }

    /// Visits the database and the arguments of each `SMARTCACHE.MARK` that makes the marks of this node, and of those
    /// that record forgotten marks. One by one, since there may be millions.
    pub fn for_each_mark(&self, now: Now, visit: &mut dyn FnMut(i32, Vec<Vec<u8>>)) {
        self.for_each_mark_but_tags(now, visit);
        self.for_each_mark_of_tags(0, usize::MAX, now, visit);
    }

    /// The same without tags: a limited number of marks.
    pub fn for_each_mark_but_tags(&self, now: Now, visit: &mut dyn FnMut(i32, Vec<Vec<u8>>)) {
        self.invalidations.for_each_mark_but_tags(|db, target, mark| visit(db, self.encode_mark(target, mark, now)));
        self.forgotten_marks().for_each(|(db, forgotten)| visit(db, encode(&forgotten)));
    }

    /// The same, no more than about `most`; the others when it is called again. False at the end.
    pub fn for_some_marks_but_tags(
        &self,
        cursor: &mut MarkCursor,
        most: usize,
        now: Now,
        visit: &mut dyn FnMut(i32, Vec<Vec<u8>>),
    ) -> bool {
        let encoded = |db, target: MarkTarget<'_>, mark| visit(db, self.encode_mark(target, mark, now));
        let more = self.invalidations.for_some_marks_but_tags(cursor, most, encoded);
        if !more {
            self.forgotten_marks().for_each(|(db, forgotten)| visit(db, encode(&forgotten)));
        }
        more
    }

    /// The same for tags from the id `from` on, until `effort` is used up. Returns the id to go on with, if there are
    /// more.
    pub fn for_each_mark_of_tags(
        &self,
        from: usize,
        mut effort: usize,
        now: Now,
        visit: &mut dyn FnMut(i32, Vec<Vec<u8>>),
    ) -> Option<usize> {
        for id in from..self.tags.id_bound() {
            if effort == 0 {
                return Some(id);
            }
            effort -= 1;
            self.invalidations.for_each_mark_of_tag(TagId(id as u32), |db, target, mark| {
                visit(db, self.encode_mark(target, mark, now));
                effort = effort.saturating_sub(EFFORT_PER_MARK);
            });
        }
        None
    }

    fn encode_mark(&self, target: MarkTarget<'_>, mark: InvalidationMark, now: Now) -> Vec<Vec<u8>> {
        let selector = match target {
            MarkTarget::All => Selector::All,
            MarkTarget::Tag(id) => Selector::Tags(SmallVec::from_slice(&[self.tags.name(id)])),
            MarkTarget::Prefix(prefix) => Selector::Prefixes(SmallVec::from_slice(&[prefix])),
            MarkTarget::Pattern(pattern) => Selector::Patterns(SmallVec::from_slice(&[pattern])),
        };
        let InvalidationMark { stamp, at_ms, hardness, guard_ms } = mark;
        let guard_ms = guard_ms.saturating_sub(now.mono_ms());
        encode(&MarkMessage::Invalidation(Invalidation { selector, stamp, at_ms, hardness, guard_ms }))
    }

    fn forgotten_marks(&self) -> impl Iterator<Item = (i32, MarkMessage<'static>)> {
        let forgotten = self.invalidations.forgotten_stamps().into_iter();
        let each = forgotten.flat_map(|(db, by_name, of_tags)| [(db, by_name, false), (db, of_tags, true)]);
        each.filter(|(_, stamp, _)| stamp.0 > 0)
            .map(|(db, stamp, of_tags)| (db, MarkMessage::Forgotten { stamp, of_tags }))
    }

    /// Forgets tags that no entry holds, and prefixes and patterns that were swept, when no load can need their marks
    /// any more; and when there are no entries, everything. Looks at no more than `effort` tags and prefixes. Returns
    /// database and arguments of each `SMARTCACHE.MARK` by which replicas forget the same.
    pub fn reap(&mut self, effort: usize, now: Now) -> Vec<(i32, Vec<Vec<u8>>)> {
        self.reap_tags(effort, now);
        let State { invalidations, leases, flush_epochs, live, settings, .. } = self;
        let mut messages = Vec::new();
        let oldest = OnceCell::new();
        let oldest = || *oldest.get_or_init(|| leases.oldest());
        invalidations.forget_prefixes(effort, now, |db, stamp| {
            messages.push((db, encode(&MarkMessage::Forget { stamp, of: Forget::Prefixes })));
        });
        invalidations.forget_patterns(now, oldest, |db, stamp, guard_ms| {
            flush_epochs.pass(db, stamp, guard_ms);
            messages.push((db, encode(&MarkMessage::Forget { stamp, of: Forget::Patterns })));
        });
        if !invalidations.is_empty() && live.totals().entries == 0 {
            // An entry from elsewhere may be older than its stamp, by the skew of its node's clock.
            let newest = invalidations.forget_all(settings.skew_ms, now, oldest, |db, stamp, guard_ms| {
                flush_epochs.pass(db, stamp, guard_ms);
            });
            messages.extend(newest.map(|stamp| (0, encode(&MarkMessage::ForgetAll(stamp)))));
        }
        messages
    }

    /// The same for tags alone, on a replica. It forgets prefixes and patterns when its primary does, so that both
    /// judge what `RENAME` brings alike.
    pub fn reap_tags(&mut self, effort: usize, now: Now) {
        if self.beside.is_some() {
            return; // a data set that is loaded may have marks of tags before it has entries
        }
        let State { tags, invalidations, .. } = self;
        tags.reap(effort, |id, name| invalidations.forget_tag(id, name, now));
        invalidations.trim(tags.id_bound());
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::node::aux_data;
    use crate::testing::TestNode;

    const MINUTE: u64 = 60_000;

    fn saves_nothing(node: &TestNode) -> bool {
        !aux_data::save(&node.state, node.now(), &mut |_| {})
    }

    /// A primary and a replica that gets all it replicates.
    struct Pair(TestNode, TestNode);

    impl Pair {
        fn new() -> Self {
            Pair(TestNode::at(1_000_000), TestNode::replica_at(1_000_000))
        }

        fn call(&mut self, line: &str) -> String {
            let answer = self.0.call(line);
            self.replicate();
            answer
        }

        fn replicate(&mut self) {
            for words in &self.0.replicated {
                self.1.obey(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
        }

        /// Sweep and cron, on both.
        fn advance(&mut self, ms: u64) {
            let Pair(node, replica) = self;
            node.advance(ms);
            replica.advance(ms);
            node.sweep();
            self.replicate();
            self.0.cron();
            self.replicate();
            self.1.cron();
        }

        fn save_nothing(&self) -> (bool, bool) {
            (saves_nothing(&self.0), saves_nothing(&self.1))
        }
    }

    #[test]
    fn a_minute_after_the_last_invalidation_an_empty_cache_has_nothing_to_save() {
        for what in ["TAGS 1 t", "PREFIXES 1 k", "PATTERNS 1 k*", "ALL", "ALL SOFT", "TAGS 2 t u SOFT OVER 10"] {
            let mut pair = Pair::new();
            pair.call("SET k v TAGS 1 t");
            pair.call(&format!("INVALIDATE {what}"));
            pair.call("DEL k");
            assert_eq!(pair.save_nothing(), (false, false), "{what}");
            pair.advance(MINUTE - 1);
            assert_eq!(pair.save_nothing(), (false, false), "{what}");
            pair.advance(MINUTE);
            pair.advance(1); // tags first
            assert_eq!(pair.save_nothing(), (true, true), "{what}");
            assert!(pair.0.state.invalidations.is_empty() && pair.1.state.invalidations.is_empty(), "{what}");
            pair.0.cron();
            assert!(pair.0.replicated.is_empty(), "it is said once");
        }
    }

    #[test]
    fn with_an_entry_a_guard_or_an_older_lease_marks_are_kept() {
        for (before, what, after) in [
            ("SET other v PERSIST", "TAGS 1 t", "DEL other"),
            ("INVALIDATE TAGS 1 x GUARD 300", "TAGS 1 t", "ECHO"),
            ("GETLOCK k LOCK 500", "PATTERNS 1 k*", "ECHO"),
        ] {
            let mut pair = Pair::new();
            pair.call(before);
            pair.call(&format!("INVALIDATE {what}"));
            pair.advance(2 * MINUTE);
            pair.advance(1);
            assert_eq!(pair.save_nothing(), (false, false), "{before}");
            pair.call(after);
            pair.advance(17 * MINUTE);
            pair.advance(1);
            assert_eq!(pair.save_nothing(), (true, true), "{before}");
        }
    }

    #[test]
    fn a_load_older_than_what_was_forgotten_is_still_not_trusted() {
        for what in ["TAGS 1 t", "PREFIXES 1 k", "ALL"] {
            let mut pair = Pair::new();
            let token = pair.0.token("GETLOCK k LOCK 1");
            let since = pair.call("STAMP").trim_matches('"').to_owned();
            pair.call(&format!("INVALIDATE {what}"));
            pair.advance(2 * MINUTE);
            pair.advance(1);
            assert_eq!(pair.save_nothing(), (true, true), "{what}");
            assert_eq!(pair.call(&format!("SET k v TOKEN {token} TAGS 1 t")), "\"STALE\"", "{what}");
            assert_eq!(pair.call(&format!("SET k v SINCE {since} TAGS 1 t")), "\"STALE\"", "{what}");
            assert_eq!(pair.call("GET k"), "(nil)");
            let token = pair.0.token("GETLOCK k");
            assert_eq!(pair.call(&format!("SET k v TOKEN {token} TAGS 1 t")), "OK", "{what}");
        }
    }

    #[test]
    fn a_node_with_entries_or_later_marks_forgets_nothing() {
        let mut node = TestNode::at(1_000_000);
        node.call("INVALIDATE ALL");
        let early = node.state.clock.last().0;
        node.call("INVALIDATE TAGS 1 t");
        let late = node.state.clock.last().0;
        let forget_all = |node: &mut TestNode, stamp: u64| {
            let stamp = stamp.to_string();
            node.obey(&[b"SMARTCACHE.MARK", stamp.as_bytes(), b"0", b"0", b"FORGET", b"0", b"ALL"]);
            saves_nothing(node)
        };
        assert!(!forget_all(&mut node, early), "a later mark");
        node.call("SET k v");
        assert!(!forget_all(&mut node, late), "an entry");
        node.call("DEL k");
        assert!(forget_all(&mut node, late));
    }
}
