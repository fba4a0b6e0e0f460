//! Replication of entries and invalidations, in the words of our internal commands: one command for all that one
//! callback of the server replicates (`cache/outbox.rs`).

use std::ffi::{CStr, CString};

use smallvec::{SmallVec, smallvec};

use super::ffi::{Ctx, OwnedStr, Str, server_may};
use super::keyspace::ServerKeys;
use super::panic::try_run;
use crate::cache::codec::CodecId;
use crate::cache::entry::format::{self, Expiry};
use crate::cache::outbox::{Message, Outbox};
use crate::cache::{Key, Keyspace, Slot, State};
use crate::commands::spec::Command;

/// The internal command that carries entries (`commands/store.rs`).
pub(super) const STORE: &CStr = c"SMARTCACHE.STORE";
/// The internal command that carries invalidations (`commands/mark.rs`).
const MARK: &CStr = c"SMARTCACHE.MARK";
const UNLINK: &CStr = c"UNLINK";
const SET: &CStr = c"SET";

/// How much of an entry is replicated.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// Header and bytes, and what to compress the bytes with.
    Entry(Option<CodecId>),
    /// The header alone.
    Header,
}

/// What one callback replicates, for one database. It is sent when dropped.
pub(super) struct Outgoing<'a> {
    ctx: Ctx<'a>,
    db: i32,
    messages: Outbox<OwnedStr>,
    /// Marks may be forgotten by it.
    forgets: bool,
}

impl<'a> Outgoing<'a> {
    /// For the context of a callback.
    pub(super) fn new(ctx: Ctx<'a>) -> Self {
        Outgoing { ctx, db: ctx.selected_db(), messages: Outbox::default(), forgets: false }
    }

    pub(super) fn ctx(&self) -> Ctx<'a> {
        self.ctx
    }

    /// Whether there is nothing to replicate so far.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether a message for this database can join those that there are.
    pub(super) fn is_for(&self, db: i32) -> bool {
        self.messages.is_empty() || self.db == db
    }

    fn push(&mut self, message: Message<OwnedStr>) {
        let db = self.ctx.selected_db();
        if !self.is_for(db) {
            self.send();
        }
        self.db = db;
        self.messages.push(message);
    }

    /// The entry under `key` as it is now; nothing when there is none.
    pub(super) fn entry(
        &mut self,
        keys: &mut ServerKeys<'_>,
        state: &mut State,
        key: Key<'_>,
        expire_at: Option<u64>,
        part: Part,
    ) {
        let names = keys.names();
        let Slot::Entry(entry) = keys.peek(key) else { return };
        state.header.clear();
        format::encode(entry, &state.tags, expire_at.map_or(Expiry::None, Expiry::At), &mut state.header);
        let mut words: SmallVec<[_; 4]> = smallvec![names.with_name(key, OwnedStr::hold), OwnedStr::new(&state.header)];
        if let Part::Entry(codec) = part {
            words.push(OwnedStr::new(entry.stored()));
            words.extend(codec.map(|codec| OwnedStr::new(codec.name().as_bytes())));
        }
        self.push(Message::Command(text(STORE), words));
    }

    /// The key is gone.
    pub(super) fn gone(&mut self, name: Str<'_>) {
        self.push(Message::Gone(OwnedStr::hold(name)));
    }

    /// A command with these words, of which the first is its name, or that of its container.
    pub(super) fn command(&mut self, command: &'static Command, words: &[Str<'_>]) {
        let name = command.parent().map_or(command.name, |(container, _)| container);
        self.push(Message::Command(name, words[1..].iter().map(|word| OwnedStr::hold(*word)).collect()));
    }

    /// An invalidation of the selected database.
    pub(super) fn mark(&mut self, words: &[Vec<u8>]) {
        self.forgets |= matches!(words.get(3).map(Vec::as_slice), Some(b"SWEPT" | b"FORGET"));
        self.push(Message::Command(text(MARK), words.iter().map(|word| OwnedStr::new(word)).collect()));
    }

    /// `SMARTCACHE.RULE` with these words.
    pub(super) fn rule(&mut self, words: impl Iterator<Item = OwnedStr>) {
        self.push(Message::Command("SMARTCACHE.RULE", words.collect()));
    }

    /// The value under `key` as it is now, after a panic that may have left replicas without it; and signals the key.
    ///
    /// What the server itself can hold there (a string, a list) was not changed by us. An entry that cannot be encoded
    /// is removed here and there: a cache may lose an entry, but replicas may not differ.
    pub(super) fn resync(&mut self, keys: &mut ServerKeys<'_>, state: &mut State, key: Key<'_>) {
        let expire_at = keys.expire_at(key);
        let exists = match keys.peek(key) {
            Slot::Text(_) | Slot::Other => return,
            Slot::Entry(_) => {
                let replicated = try_run("the replication of a key after a panic", || {
                    self.entry(keys, state, key, expire_at, Part::Entry(None));
                });
                if replicated.is_none() {
                    keys.remove(key);
                }
                replicated.is_some()
            }
            Slot::Empty => false,
        };
        let ctx = self.ctx;
        keys.names().with_name(key, |name| {
            if !exists {
                self.gone(name);
            }
            ctx.signal(name);
        });
    }

    fn send(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let selected = self.ctx.selected_db();
        if selected != self.db {
            self.ctx.select_db(self.db);
        }
        // Where `UNLINK` is renamed (`rename-command`), only our own command says it.
        let unlinked = self.messages.gone().is_some_and(|keys| self.ctx.replicate(UNLINK, keys.map(OwnedStr::borrow)));
        if unlinked {
            self.messages = Outbox::default();
        } else if let Some((name, words)) = self.messages.take(|text| OwnedStr::new(text.as_bytes())) {
            let name = CString::new(name).expect("our names hold no zero byte");
            self.ctx.replicate(&name, words.iter().map(OwnedStr::borrow));
        }
        if std::mem::take(&mut self.forgets) && server_may!(RedisModule_GetOpenKeyModesAll).is_none() {
            self.follow_the_keys();
        }
        if selected != self.db {
            self.ctx.select_db(selected);
        }
    }

    /// On servers before 7.2 a look at an expired key deletes it, so that what the sweep replicates may come to stand
    /// in `MULTI` and `EXEC`, which some servers refuse while they load an AOF (`cache/outbox.rs`). Then marks must not
    /// be forgotten either: a second message, which says nothing, puts the first between `MULTI` and `EXEC`, too.
    fn follow_the_keys(&self) {
        let nothing: Vec<_> = ["0", "0", "0", "SWEPT", "0", "ALL"].map(|word| OwnedStr::new(word.as_bytes())).into();
        self.ctx.replicate(MARK, nothing.iter().map(OwnedStr::borrow));
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        self.send();
    }
}

/// The plain string under `key` as it is now: a command of its own.
pub(super) fn plain_string(ctx: Ctx<'_>, keys: &mut ServerKeys<'_>, key: Key<'_>) {
    let (names, expire_at) = (keys.names(), keys.expire_at(key));
    let Some(text) = keys.text(key).map(OwnedStr::new) else { return };
    let (pxat, at) = (OwnedStr::new(b"PXAT"), OwnedStr::new(expire_at.unwrap_or(0).to_string().as_bytes()));
    names.with_name(key, |name| {
        let words = [name, text.borrow(), pxat.borrow(), at.borrow()];
        let count = if expire_at.is_some() { 4 } else { 2 };
        ctx.replicate(SET, words.into_iter().take(count));
    });
}

fn text(name: &'static CStr) -> &'static str {
    name.to_str().expect("our names are text")
}
