//! A data set that is loaded beside the one that is served, and takes its place when it is complete.
//!
//! A replica does so with `repl-diskless-load swapdb`. Until then clients read the old data set, which goes on when the
//! load breaks off. So rules, marks, tag index and counts of what is loaded are apart ([`Beside`]). Names of tags are
//! shared: their ids are those of the node, and an id stays while an entry of either data set holds it. Stamps are
//! shared, too: the clock only goes forward.

use std::rc::Rc;
use std::sync::Arc;

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::entry::EntryRef;
use crate::cache::invalidation::marks::Invalidations;
use crate::cache::state::Beside;
use crate::cache::stats::live::{Live, Totals};

impl State {
    /// A data set is about to be loaded beside this one.
    pub fn begin_load_beside(&mut self) {
        let mut policies = self.policies.clone();
        policies.clear_commanded();
        let invalidations = Rc::new(self.invalidations.empty());
        self.beside = Some(Box::new(Beside { policies, invalidations, live: Arc::default() }));
    }

    /// The load has broken off: what was loaded is dropped.
    pub fn abort_load_beside(&mut self) {
        if let Some(beside) = self.beside.take() {
            self.invalidations.free_later(&beside.invalidations);
        }
    }

    /// The load is complete, and has taken the place of what was served.
    pub fn complete_load_beside(&mut self, now: Now) {
        let Some(beside) = self.beside.take() else { return };
        let before = std::mem::replace(&mut self.policies, beside.policies);
        self.policies.follow(&before);
        self.policies.apply(self.settings.policy(), &self.settings.rules);
        self.invalidations.replace_by(&beside.invalidations);
        self.sweep.flushed(None);
        self.sweep_all(now);
        self.void_all_loads(None, now);
    }

    /// Calls `load` with the state that what is loaded belongs to: with rules and marks of the data set that is loaded
    /// beside this one, if there is one.
    pub fn loading<R>(&mut self, load: impl FnOnce(&mut State) -> R) -> R {
        if self.beside.is_none() {
            return load(self);
        }
        load(Exchanged::of(self).0)
    }

    /// Counts an entry that was just loaded, if it was loaded beside those that are served: then where it is counted
    /// and indexed.
    pub fn loaded_beside(&mut self, entry: EntryRef<'_>) -> Option<(Rc<Invalidations>, Arc<Live>)> {
        let beside = self.beside.as_ref()?;
        beside.live.on_alloc(entry);
        Some((beside.invalidations.clone(), beside.live.clone()))
    }

    /// Counts of the entries that are served: those of a load beside them come later.
    pub fn served(&self, counts: impl Fn(&Live) -> Totals) -> Totals {
        let all = counts(&self.live);
        self.beside.as_ref().map_or(all, |beside| all.without(counts(&beside.live)))
    }
}

/// The state with rules and marks exchanged for those that are loaded, until it is dropped.
struct Exchanged<'a>(&'a mut State);

impl<'a> Exchanged<'a> {
    fn of(state: &'a mut State) -> Self {
        exchange(state);
        Exchanged(state)
    }
}

impl Drop for Exchanged<'_> {
    fn drop(&mut self) {
        exchange(self.0);
    }
}

fn exchange(state: &mut State) {
    if let Some(beside) = &mut state.beside {
        std::mem::swap(&mut state.policies, &mut beside.policies);
        std::mem::swap(&mut state.invalidations, &mut beside.invalidations);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    /// A replica with a data set, and another one whose data set it is to load.
    fn nodes() -> (TestNode, TestNode) {
        let mut replica = TestNode::replica_at(1_000_000);
        let mut primary = TestNode::replica_at(1_000_000);
        for (node, value) in [(&mut replica, &b"old"[..]), (&mut primary, b"new")] {
            node.obey(&[b"SMARTCACHE.RULE", b"SET", value, b"MATCH", b"k*", b"SWR", b"60"]);
            for key in [&b"k"[..], b"k:2", b"dead"] {
                node.obey(&[b"SMARTCACHE.SET", key, value, b"TAGS", b"2", b"shared", value]);
            }
            node.obey(&[b"SMARTCACHE.MARK", b"1000000999000", b"1000000", b"0", b"HARD", b"0", b"PREFIXES", b"dead"]);
            node.obey(&[b"SMARTCACHE.MARK", b"1000000999000", b"1000000", b"0", b"SOFT", b"0", b"TAGS", value]);
            node.advance(1_000);
            node.obey(&[b"SMARTCACHE.SET", b"later", value, b"TAGS", b"1", value]);
        }
        primary.obey(&[b"SMARTCACHE.SET", b"only", b"new", b"TAGS", b"1", b"shared"]);
        (replica, primary)
    }

    fn seen(node: &mut TestNode) -> String {
        let mut seen = String::new();
        for line in ["MGET k k:2 dead later only", "GET k STALE STATE", "RULE LIST", "PREVIEW TAGS 1 shared"] {
            seen += &node.call(line);
        }
        node.sweep();
        seen += &format!("{:?}", std::mem::take(&mut node.answers));
        for field in ["entries", "raw_bytes", "tag_members", "prefixes_invalidated"] {
            seen += &format!(" {field}:{}", node.stat(field));
        }
        seen
    }

    #[test]
    fn the_old_data_set_is_served_until_the_new_one_takes_its_place() {
        let (mut replica, mut primary) = nodes();
        let (old, new) = (seen(&mut replica), seen(&mut primary));
        assert_ne!(old, new);
        let loaded = replica.load_beside(&primary.saved());
        assert_eq!(seen(&mut replica), old);
        replica.state.invalidations.validate();
        replica.take_loaded(loaded);
        assert_eq!(seen(&mut replica), new);
        replica.state.invalidations.validate();
        replica.state.tags.validate();
    }

    #[test]
    fn a_load_that_breaks_off_leaves_nothing_behind() {
        let (mut replica, mut primary) = nodes();
        let old = seen(&mut replica);
        for _ in 0..2 {
            let loaded = replica.load_beside(&primary.saved());
            replica.drop_loaded(loaded);
            assert_eq!(seen(&mut replica), old);
        }
        replica.state.reap_tags(usize::MAX, replica.now());
        assert!(replica.state.tags.known(b"old").is_some() && replica.state.tags.known(b"new").is_none());
        replica.state.invalidations.validate();
        replica.state.tags.validate();
        let loaded = replica.load_beside(&primary.saved());
        replica.take_loaded(loaded);
        assert_eq!(seen(&mut replica), seen(&mut primary));
    }

    #[test]
    fn after_the_exchange_marks_reach_what_was_loaded() {
        let (mut replica, mut primary) = nodes();
        let loaded = replica.load_beside(&primary.saved());
        replica.take_loaded(loaded);
        let mark = b"SMARTCACHE.MARK 1001000999000 1001000 0 HARD 0 TAGS shared";
        for node in [&mut replica, &mut primary] {
            assert_eq!(node.obey(&mark.split(|byte| *byte == b' ').collect::<Vec<_>>()), "OK");
        }
        assert_eq!(seen(&mut replica), seen(&mut primary));
        assert_eq!(replica.call("GET only"), "(nil)");
    }
}
