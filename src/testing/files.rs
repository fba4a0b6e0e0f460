//! Saving to files and loading from them.

use super::TestNode;
use super::keyspace::{Keys, Value};
use crate::cache::entry::format::{self, Expiry};
use crate::cache::invalidation::marks::MarkCursor;
use crate::cache::node::aux_data;
use crate::cache::node::import::Source;
use crate::cache::{Key, Keyspace, State};
use std::collections::BTreeMap;

/// Databases that were loaded beside those that are served.
#[derive(Debug)]
pub struct Loaded(BTreeMap<i32, Keys>);

/// An entry as files have it: header and stored bytes.
pub type Dump = (Vec<u8>, Vec<u8>);

/// The files of a node.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The aux data, if there is any.
    pub aux: Option<Vec<Vec<u8>>>,
    /// The invalidation marks, with their databases, as an AOF without preamble has them behind the keys.
    pub marks: Vec<(i32, Vec<Vec<u8>>)>,
    /// Databases, keys and entries.
    pub entries: Vec<(i32, Vec<u8>, Dump)>,
}

impl TestNode {
    /// Saves the node.
    pub fn saved(&mut self) -> Saved {
        let mut strings = Vec::new();
        let aux = aux_data::save(&self.state, self.now, &mut |string| strings.push(string.to_vec())).then_some(strings);
        let marks = self.marks_as_words();
        let selected = self.memory.db;
        let mut entries = Vec::new();
        for db in [selected].into_iter().chain(self.memory.others.keys().copied()).collect::<Vec<_>>() {
            self.memory.select(db);
            let names: Vec<_> = self.memory.keys.keys().cloned().collect();
            for name in names {
                entries.extend(self.dump(&name).map(|dump| (db, name, dump)));
            }
        }
        self.memory.select(selected);
        Saved { aux, marks, entries }
    }

    /// The marks that are written after an AOF rewrite, with their databases: in parts, as on a server.
    pub fn marks_as_words(&self) -> Vec<(i32, Vec<Vec<u8>>)> {
        let mut marks = Vec::new();
        let mut cursor = MarkCursor::default();
        while self.state.for_some_marks_but_tags(&mut cursor, 2, self.now, &mut |db, words| marks.push((db, words))) {}
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.state.for_each_mark_of_tags(from, 2, self.now, &mut |db, words| marks.push((db, words)));
        }
        marks
    }

    /// Loads an RDB: aux data comes before the keys.
    pub fn load_rdb(&mut self, saved: &Saved, secret: [u8; 16]) {
        self.state.invalidations.clear();
        let mut strings = saved.aux.iter().flatten().cloned();
        if saved.aux.is_some() {
            aux_data::load(&mut self.state, self.now, || strings.next()).expect("what was saved can be loaded");
        }
        self.load_entries(saved);
        self.state.reset_leases(secret, self.now);
    }

    /// Loads an RDB beside the data set that is served, as a replica does with `repl-diskless-load swapdb`.
    pub fn load_beside(&mut self, saved: &Saved) -> Loaded {
        let now = self.now;
        self.state.begin_load_beside();
        let mut strings = saved.aux.iter().flatten().cloned();
        if saved.aux.is_some() {
            let load = |state: &mut State| aux_data::load(state, now, || strings.next());
            self.state.loading(load).expect("what was saved can be loaded");
        }
        let mut loaded: BTreeMap<i32, Keys> = BTreeMap::new();
        for (db, name, (header, stored)) in &saved.entries {
            let header = format::decode(header).expect("what was saved can be loaded");
            let load = |state: &mut State| {
                let place = (*db, Some(&name[..]));
                let entry = state.import_entry(&header, place, stored, Source::Home, now);
                let mut entry = entry.expect("what was saved can be loaded");
                state.invalidations.index_entry(*db, name, &mut entry.as_mut());
                entry
            };
            let entry = self.state.loading(load);
            self.memory.live.on_alloc(entry.as_ref());
            self.state.loaded_beside(entry.as_ref());
            let expire_at = match header.expiry {
                Expiry::At(at) => Some(at),
                Expiry::None | Expiry::AsItIs => None,
            };
            loaded.entry(*db).or_default().insert(name.clone(), (Value::Entry(entry), expire_at));
        }
        Loaded(loaded)
    }

    /// What was loaded takes the place of what was served.
    pub fn take_loaded(&mut self, mut loaded: Loaded) {
        let served = loaded.0.remove(&self.memory.db).unwrap_or_default();
        let mut old = std::mem::replace(&mut self.memory.others, loaded.0);
        old.insert(self.memory.db, std::mem::replace(&mut self.memory.keys, served));
        self.state.complete_load_beside(self.now);
        self.free_loaded(Loaded(old));
        self.tick();
    }

    /// The load has broken off.
    pub fn drop_loaded(&mut self, loaded: Loaded) {
        self.state.abort_load_beside();
        self.free_loaded(loaded);
    }

    fn free_loaded(&mut self, loaded: Loaded) {
        for (value, _) in loaded.0.values().flat_map(Keys::values) {
            if let Value::Entry(entry) = value {
                self.memory.live.on_free(entry.as_ref()); // and no other callback is made
            }
        }
    }

    /// Loads a rewritten AOF without preamble: marks come behind the keys, rules not at all.
    pub fn load_aof(&mut self, saved: &Saved, secret: [u8; 16]) {
        self.state.invalidations.clear();
        self.load_entries(saved);
        let selected = self.memory.db;
        for (db, words) in &saved.marks {
            self.memory.select(*db);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            assert_eq!(self.obey(&[&[&b"SMARTCACHE.MARK"[..]], &words[..]].concat()), "OK");
        }
        self.memory.select(selected);
        self.state.reset_leases(secret, self.now);
    }

    pub(super) fn load_entries(&mut self, saved: &Saved) {
        let selected = self.memory.db;
        for (db, name, (header, stored)) in &saved.entries {
            self.memory.select(*db);
            assert_eq!(self.obey(&[b"SMARTCACHE.STORE", name, header, stored]), "OK");
        }
        self.memory.select(selected);
    }

    /// The entry under a key as `DUMP` and files have it: the verdict of its marks is written into it.
    pub fn dump(&mut self, key: &[u8]) -> Option<Dump> {
        let expiry = self.memory.expire_at(Key::named(key)).map_or(Expiry::None, Expiry::At);
        let entry = self.judged_entry(key)?;
        let mut header = Vec::new();
        format::encode(entry.as_ref(), &self.state.tags, expiry, &mut header);
        Some((header, entry.as_ref().stored().to_vec()))
    }
}
