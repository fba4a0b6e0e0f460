//! What the server itself does to keys and databases.

use super::TestNode;
use super::keyspace::{Keys, Value};
use crate::cache::entry::Entry;
use crate::cache::lease::native_commands::Sender;
use crate::cache::unmodified::commands::Way;
use crate::cache::{Key, Keyspace, Slot};

impl TestNode {
    /// `RENAME`.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.memory.expire();
        if from != to {
            self.relocate(from, to, self.memory.db, true);
        }
    }

    /// `MOVE`.
    pub fn move_to(&mut self, key: &str, db: i32) {
        self.memory.expire();
        let taken = self.memory.others.get(&db).is_some_and(|keys| keys.contains_key(key.as_bytes()));
        if db != self.memory.db && !taken {
            self.relocate(key, key, db, true);
        }
    }

    /// `COPY … REPLACE`.
    pub fn copy(&mut self, from: &str, to: &str, db: i32) {
        self.memory.expire();
        if (from, self.memory.db) != (to, db) {
            self.relocate(from, to, db, false);
        }
    }

    pub(super) fn relocate(&mut self, from: &str, to: &str, db: i32, leaves: bool) {
        let Some(mut entry) = self.judged_entry(from.as_bytes()) else { return };
        let (expire_at, home) = (self.memory.expire_at(Key::named(from.as_bytes())), self.memory.db);
        if leaves {
            self.memory.forget(from.as_bytes());
        }
        self.memory.select(db);
        self.memory.forget(to.as_bytes());
        self.memory.live.on_alloc(entry.as_ref());
        if !leaves {
            self.state.invalidations.index_copy(db, to.as_bytes(), &mut entry.as_mut(), self.now);
        }
        self.memory.keys.insert(to.into(), (Value::Entry(entry), expire_at));
        self.memory.select(home);
    }

    /// `FLUSHDB`, or `FLUSHALL`.
    pub fn flush(&mut self, all: bool) {
        let mut dbs = vec![std::mem::take(&mut self.memory.keys)];
        if all {
            dbs.extend(std::mem::take(&mut self.memory.others).into_values());
        }
        for (value, _) in dbs.iter().flat_map(Keys::values) {
            if let Value::Entry(entry) = value {
                self.memory.live.on_free(entry.as_ref()); // and no other callback is made
            }
        }
        self.state.flushed((!all).then_some(self.memory.db), self.now);
        self.tick();
    }

    /// `SWAPDB`.
    pub fn swap(&mut self, a: i32, b: i32) {
        let selected = self.memory.db;
        self.memory.select(a);
        let of_b = self.memory.others.remove(&b).unwrap_or_default();
        let of_a = std::mem::replace(&mut self.memory.keys, of_b);
        self.memory.others.insert(b, of_a);
        self.memory.select(selected);
        self.state.swapped(a, b);
        for db in [a, b] {
            self.state.void_all_loads(Some(db), self.now);
        }
        self.tick();
    }

    /// A replica becomes a primary.
    pub fn promote(&mut self, secret: [u8; 16]) {
        (self.replica, self.memory.obeying, self.server.replica) = (false, false, false);
        self.state.reset_leases(secret, self.now);
        self.state.sweep_all(self.now);
        self.tick();
    }

    /// The entry under a key, with the verdict of its marks written into it.
    pub(super) fn judged_entry(&mut self, key: &[u8]) -> Option<Entry> {
        let db = self.memory.db;
        let Slot::Entry(entry) = self.memory.peek(Key::named(key)) else { return None };
        let mut judged = entry.to_entry();
        self.state.invalidations.verdict(db, key, entry, self.now).apply_to(&mut judged.as_mut());
        Some(judged)
    }

    /// Removes a key as the server does on expiry or a command of its own.
    pub fn plain_del(&mut self, key: &str) {
        self.memory.forget(key.as_bytes());
    }

    /// Evicts a key.
    pub fn evict(&mut self, key: &str) {
        self.memory.forget(key.as_bytes());
        let fresh = self.memory.miss_reasons.evicted(key.as_bytes());
        self.state.evicted(fresh, self.now);
    }

    /// Puts a plain string under a key.
    pub fn plain_set(&mut self, key: &str, value: &str, expire_at: Option<u64>) {
        self.memory.put(key.as_bytes(), Value::Text(value.into()), expire_at);
    }

    /// Puts a list under a key.
    pub fn plain_list(&mut self, key: &str) {
        self.memory.put(key.as_bytes(), Value::List, None);
    }

    /// When the server deletes a key.
    pub fn expire_at(&mut self, key: &str) -> Option<u64> {
        self.memory.expire_at(Key::named(key.as_bytes()))
    }

    /// Sets when the server deletes a key, as `PEXPIREAT` does.
    pub fn pexpireat(&mut self, key: &str, at: u64) {
        self.memory.set_expire_at(Key::named(key.as_bytes()), Some(at));
    }

    /// An unmodified client sends one of the server's commands, for keys of NATIVE rules.
    pub fn native(&mut self, line: &str) -> String {
        let (client, name) = (self.server.client, line.split(' ').next().unwrap_or_default());
        let way = self.state.commands.get(name.as_bytes()).expect("it is served").way;
        let line = match way {
            Way::Get => format!("NATIVE-{line}"),
            Way::Mget => format!("NATIVE-{line}"),
            Way::Read | Way::Scan => format!("NATIVE-READ {line}"),
            Way::Write | Way::Flush => format!("NATIVE-WRITE {line}"),
            Way::Store => format!("NATIVE-STORE {line}"),
        };
        self.call_as(client, &line)
    }

    /// The same over this connection.
    pub fn native_as(&mut self, client: u64, line: &str) -> String {
        let before = std::mem::replace(&mut self.server.client, client);
        let answer = self.native(line);
        self.server.client = before;
        answer
    }

    /// The server is about to run one of its own commands.
    pub fn observe_native(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.state.observe_native(&words, Sender::Unknown, self.now);
        self.tick();
    }
}
