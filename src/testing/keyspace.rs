//! An in-memory keyspace.

use super::server_commands;
pub(super) use super::values::{Keys, Value};
use crate::cache::clock::Now;
use crate::cache::entry::{Entry, EntryMut};
use crate::cache::invalidation::marks::Invalidations;
use crate::cache::lease::tombstones::Tombstones;
use crate::cache::node::driver::Databases;
use crate::cache::ports::{Access, Hidden, NativeReply};
use crate::cache::stats::live::Live;
use crate::cache::stats::miss_reasons::MissReasons;
use crate::cache::{Caller, Judge, Key, Keyspace, Slot};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

/// An in-memory keyspace that expires the keys of the selected database as the server does.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) db: i32,
    pub(super) keys: Keys,
    pub(super) others: BTreeMap<i32, Keys>,
    pub(super) now: Now,
    pub(super) live: Arc<Live>,
    pub(super) tombstones: Arc<Tombstones>,
    pub(super) miss_reasons: Arc<MissReasons>,
    pub(super) invalidations: Rc<Invalidations>,
    /// This node is a replica, or obeys a primary: keys expire when the primary deletes them.
    pub(super) obeying: bool,
    /// Expired keys whose deletion is still to be replicated.
    pub(super) expired: Vec<Vec<u8>>,
}

impl Memory {
    pub(super) fn select(&mut self, db: i32) {
        if db != self.db {
            let keys = self.others.remove(&db).unwrap_or_default();
            self.others.insert(self.db, std::mem::replace(&mut self.keys, keys));
            self.db = db;
        }
    }

    pub(super) fn expire(&mut self) {
        if self.obeying {
            return;
        }
        let now = self.now.ms();
        let gone: Vec<_> = self
            .keys
            .iter()
            .filter(|(_, (_, at))| at.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.forget(key);
            self.miss_reasons.expired(key);
        }
        self.expired.extend(gone);
    }

    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some((Value::Entry(entry), _)) = self.keys.remove(key) {
            self.tombstones.gone(key, entry.as_ref().stamp()); // the server calls `unlink` then
            let fresh = Judge::new(&self.invalidations, self.db, key, self.now).is_fresh(entry.as_ref());
            self.miss_reasons.left(key, entry.as_ref().rule(), fresh);
            self.invalidations.unindex_entry(self.db, key, entry.as_ref());
            self.live.on_free(entry.as_ref());
        }
    }

    pub(super) fn put(&mut self, key: &[u8], mut value: Value, expire_at: Option<u64>) {
        match &value {
            // An entry is replaced in place.
            Value::Entry(_) => {
                if let Some((Value::Entry(old), _)) = self.keys.remove(key) {
                    self.invalidations.unindex_entry(self.db, key, old.as_ref());
                    self.live.on_free(old.as_ref());
                }
            }
            Value::Text(_) | Value::List => self.forget(key),
        }
        if let Value::Entry(entry) = &mut value {
            self.live.on_alloc(entry.as_ref());
            self.invalidations.index_entry(self.db, key, &mut entry.as_mut());
        }
        self.keys.insert(key.to_vec(), (value, expire_at));
    }
}

impl Keyspace for Memory {
    fn expire_at(&mut self, key: Key<'_>) -> Option<u64> {
        self.expire();
        self.keys.get(key.name).and_then(|(_, at)| *at)
    }

    fn stand_in(&mut self, key: Key<'_>, text: Option<(&[u8], Option<u64>)>) -> Option<Hidden> {
        if !matches!(self.keys.get(key.name), Some((Value::Entry(_), _))) {
            return None;
        }
        let (Value::Entry(entry), expire_at) = self.keys.remove(key.name)? else { return None };
        if let Some((text, until)) = text {
            self.keys.insert(key.name.to_vec(), (Value::Text(text.to_vec()), until));
        }
        Some(Hidden { entry, expire_at, access: Access { idle_ms: -1, frequency: -1 } })
    }

    fn put_back(&mut self, key: Key<'_>, hidden: Hidden) {
        self.keys.insert(key.name.to_vec(), (Value::Entry(hidden.entry), hidden.expire_at));
    }

    fn discard(&mut self, key: Key<'_>, hidden: Hidden) {
        let entry = hidden.entry.as_ref();
        self.invalidations.unindex_entry(self.db, key.name, entry);
        self.tombstones.gone(key.name, entry.stamp());
        self.live.on_free(entry);
    }

    fn native_keys(&mut self, words: &[&[u8]]) -> SmallVec<[usize; 8]> {
        server_commands::keys_of(words)
    }

    fn run_native(&mut self, words: &[Key<'_>], _: &Caller, _: bool) -> Option<Box<dyn NativeReply>> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.name).collect();
        Some(Box::new(server_commands::run(&mut self.keys, self.now.ms(), &words)))
    }

    fn look(&mut self, key: Key<'_>) -> Slot<'_> {
        self.peek(key)
    }

    fn peek(&mut self, key: Key<'_>) -> Slot<'_> {
        self.expire();
        match self.keys.get(key.name) {
            None => Slot::Empty,
            Some((Value::Entry(entry), _)) => Slot::Entry(entry.as_ref()),
            Some((Value::Text(bytes), _)) => Slot::Text(bytes.len()),
            Some((Value::List, _)) => Slot::Other,
        }
    }

    fn text(&mut self, key: Key<'_>) -> Option<&[u8]> {
        self.expire();
        match self.keys.get(key.name) {
            Some((Value::Text(bytes), _)) => Some(bytes),
            _ => None,
        }
    }

    fn text_written(&mut self, key: Key<'_>) -> Option<Vec<u8>> {
        self.text(key).map(<[u8]>::to_vec)
    }

    fn left_ms(&mut self, key: Key<'_>) -> Option<u64> {
        self.expire_at(key).map(|at| at.saturating_sub(self.now.ms()))
    }

    fn memory_bytes(&mut self, key: Key<'_>) -> u64 {
        match self.peek(key) {
            Slot::Entry(entry) => entry.allocation().len() as u64,
            Slot::Text(len) => len as u64,
            Slot::Empty | Slot::Other => 0,
        }
    }

    fn set(&mut self, key: Key<'_>, entry: Entry, expire_at: Option<u64>) {
        self.put(key.name, Value::Entry(entry), expire_at);
    }

    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>> {
        self.expire();
        match self.keys.get_mut(key.name) {
            Some((Value::Entry(entry), _)) => Some(entry.as_mut()),
            _ => None,
        }
    }

    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>) {
        if let Some((_, expiry)) = self.keys.get_mut(key.name) {
            *expiry = at;
        }
    }

    fn remove(&mut self, key: Key<'_>) -> bool {
        self.expire();
        let there = self.keys.contains_key(key.name);
        self.forget(key.name);
        there
    }
}

impl Databases for Memory {
    fn select(&mut self, db: i32) -> Option<&mut dyn Keyspace> {
        Memory::select(self, db);
        Some(self)
    }
}
