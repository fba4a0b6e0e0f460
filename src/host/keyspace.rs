//! The server's keyspace behind the port that commands see. One key is open at a time: opening a second may
//! expire or free the first.

use std::ffi::c_void;

use super::datatype;
use super::ffi::{CallReply, Ctx, KeyKind, Mode, OpenKey, OwnedStr, Str};
use crate::cache::entry::{Entry, EntryMut, EntryRef};
use crate::cache::{Key, Keyspace, Slot};

/// The command's own words, as the server's strings.
#[derive(Clone, Copy)]
pub(super) struct Names<'a>(&'a [Str<'a>]);

impl<'a> Names<'a> {
    /// All of them.
    pub(super) fn words(self) -> &'a [Str<'a>] {
        self.0
    }

    /// Calls `f` with the server's string of the key's name: the command's own word, or a new one.
    pub(super) fn with_name<R>(self, key: Key<'_>, f: impl FnOnce(Str<'_>) -> R) -> R {
        match key.arg.and_then(|arg| self.0.get(usize::from(arg))) {
            Some(word) => f(*word),
            None => f(OwnedStr::new(key.name).borrow()),
        }
    }
}

/// The keys of the context's selected database.
pub(super) struct ServerKeys<'a> {
    ctx: Ctx,
    names: Names<'a>,
    /// How every key is opened; else as each call needs it, which never changes one.
    mode: Option<Mode>,
    open: Option<Opened>,
    text: Option<CallReply>,
}

struct Opened {
    key: OpenKey,
    arg: Option<u16>,
    mode: Mode,
    /// What it holds: asked once, until we change it.
    kind: KeyKind,
}

impl<'a> ServerKeys<'a> {
    /// For a command with these words; `may_write` when it is flagged `write` (else the server would let us
    /// change a replica).
    pub(super) fn new(ctx: Ctx, argv: &'a [Str<'a>], may_write: bool) -> Self {
        ServerKeys { ctx, names: Names(argv), mode: may_write.then_some(Mode::Write), open: None, text: None }
    }

    /// For the sweep: what it comes to counts as no access.
    pub(super) fn to_sweep(ctx: Ctx, names: &'a [Str<'a>], frees: bool) -> Self {
        let mode = if frees { Mode::Sweep } else { Mode::Peek };
        ServerKeys { ctx, names: Names(names), mode: Some(mode), open: None, text: None }
    }

    /// The names of keys, which outlive the open key.
    pub(super) fn names(&self) -> Names<'a> {
        self.names
    }

    /// The key, open: again the one that is, or another.
    fn opened(&mut self, key: Key<'_>, mode: Mode) -> &Opened {
        let mode = self.mode.unwrap_or(mode);
        let same = |open: &Opened| open.mode == mode && open.arg.is_some() && open.arg == key.arg;
        if !self.open.as_ref().is_some_and(same) {
            self.open = None; // close first
            let opened = self.names.with_name(key, |name| self.ctx.open(name, mode));
            let kind = opened.kind();
            self.open = Some(Opened { key: opened, arg: key.arg, mode, kind });
        }
        self.open.as_ref().expect("opened just above")
    }

    /// When the server deletes `key`, in milliseconds of Unix time.
    pub(super) fn expire_at(&mut self, key: Key<'_>) -> Option<u64> {
        self.held_open(key).key.expire_at()
    }

    /// The key, however it was opened, to ask of it what any mode tells.
    fn held_open(&mut self, key: Key<'_>) -> &Opened {
        let open = self.open.as_ref().filter(|open| open.arg.is_some() && open.arg == key.arg);
        let mode = open.map_or(Mode::Peek, |open| open.mode);
        self.opened(key, mode)
    }

    /// The open key was changed: what it holds is to be asked again.
    fn ask_again(&mut self) {
        if let Some(open) = &mut self.open {
            open.kind = open.key.kind();
        }
    }

    fn slot(&mut self, key: Key<'_>, mode: Mode) -> Slot<'_> {
        let open = self.opened(key, mode);
        match open.kind {
            KeyKind::Nothing => Slot::Empty,
            KeyKind::Text => Slot::Text(open.key.len()),
            KeyKind::Other => Slot::Other,
            // SAFETY: the key is open and holds a value of our type; it stays open, and the value unchanged, as
            // long as the slot borrows `self`, since every method that could change either takes `&mut self`.
            KeyKind::Ours => Slot::Entry(EntryRef::from_bytes(unsafe { datatype::bytes(open.key.value()) })),
        }
    }
}

impl Keyspace for ServerKeys<'_> {
    fn look(&mut self, key: Key<'_>) -> Slot<'_> {
        self.slot(key, Mode::Read)
    }

    fn peek(&mut self, key: Key<'_>) -> Slot<'_> {
        self.slot(key, Mode::Peek)
    }

    fn text(&mut self, key: Key<'_>) -> Option<&[u8]> {
        self.open = None; // one at a time: the server opens it
        self.text = self.names.with_name(key, |name| self.ctx.call_get(name));
        self.text.as_ref().and_then(CallReply::text)
    }

    fn left_ms(&mut self, key: Key<'_>) -> Option<u64> {
        self.held_open(key).key.left_ms()
    }

    fn memory_bytes(&mut self, key: Key<'_>) -> u64 {
        match self.slot(key, Mode::Peek) {
            Slot::Entry(entry) => datatype::memory_of(entry),
            Slot::Text(len) => len as u64,
            Slot::Empty | Slot::Other => 0,
        }
    }

    fn set(&mut self, key: Key<'_>, mut entry: Entry, expire_at: Option<u64>) {
        debug_assert!(self.mode.is_some_and(|mode| mode != Mode::Peek));
        let db = self.ctx.selected_db();
        let open = &self.opened(key, Mode::Write).key;
        datatype::invalidations().joined(db, key.name, &mut entry.as_mut());
        let old: *mut c_void = open.set(datatype::into_raw(entry));
        open.set_expire_at(expire_at);
        self.ask_again();
        // SAFETY: the server has let go of the value that was replaced, and it was one of ours.
        unsafe {
            if !old.is_null() {
                datatype::invalidations().left(db, key.name, EntryRef::from_bytes(datatype::bytes(old)));
            }
            datatype::free(old);
        }
    }

    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>> {
        debug_assert!(self.mode.is_some_and(|mode| mode != Mode::Peek));
        let open = self.opened(key, Mode::Write);
        // SAFETY: as in `slot`; opened for writing, on the main thread, and nobody else refers to the value.
        (open.kind == KeyKind::Ours).then(|| EntryMut::from_bytes(unsafe { datatype::bytes_mut(open.key.value()) }))
    }

    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>) {
        self.opened(key, Mode::Write).key.set_expire_at(at);
    }

    fn remove(&mut self, key: Key<'_>) -> bool {
        let removed = self.opened(key, Mode::Write).key.unlink();
        self.ask_again();
        removed
    }
}
