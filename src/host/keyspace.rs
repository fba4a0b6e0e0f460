//! The server's keyspace behind the port that commands see. One key is open at a time: opening a second may
//! expire or free the first.

use std::ffi::CString;

use smallvec::SmallVec;

use super::ffi::{CallReply, Ctx, OwnedStr, Str};
use super::keys::{KeyKind, ReadKey, ReadMode, WriteKey, WriteMode};
use super::reply::Replied;
use super::state::{TOMBSTONES, invalidations};
use crate::cache::entry::{Entry, EntryMut};
use crate::cache::node::driver::Databases;
use crate::cache::ports::{Hidden, NativeReply};
use crate::cache::{Caller, Key, Keyspace, Slot};

/// The command's own words, as the server's strings.
#[derive(Clone, Copy)]
pub(super) struct Names<'a>(&'a [Str<'a>]);

impl<'a> Names<'a> {
    /// The command's own word, if it is one.
    fn word(self, key: Key<'_>) -> Option<Str<'a>> {
        self.0.get(usize::from(key.arg?)).copied()
    }

    /// Calls `f` with the server's string of the key's name: the command's own word, or a new one.
    pub(super) fn with_name<R>(self, key: Key<'_>, f: impl FnOnce(Str<'_>) -> R) -> R {
        match self.word(key) {
            Some(word) => f(word),
            None => f(OwnedStr::new(key.name).borrow()),
        }
    }
}

/// How a key is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read(ReadMode),
    Write(WriteMode),
}

/// The keys of the context's selected database.
pub(super) struct ServerKeys<'a> {
    ctx: Ctx<'a>,
    names: Names<'a>,
    /// How every key is opened; else as each call needs it, which never changes one.
    mode: Option<Mode>,
    open: Option<Opened<'a>>,
    text: Option<CallReply>,
    copied: Option<Vec<u8>>,
}

struct Opened<'a> {
    key: OpenKey<'a>,
    arg: Option<u16>,
    mode: Mode,
    /// Read once, and again after each change of ours.
    kind: KeyKind,
}

impl<'a> Opened<'a> {
    /// The key, if it holds something: Redis 8.2 crashes when it is asked for the expiry of one that does not.
    fn there(&self) -> Option<&ReadKey<'a>> {
        self.key.read().filter(|_| self.kind != KeyKind::Nothing)
    }
}

enum OpenKey<'a> {
    Missing,
    Read(ReadKey<'a>),
    Write(WriteKey<'a>),
}

impl<'a> OpenKey<'a> {
    /// The key, to ask; `None` when there is none.
    fn read(&self) -> Option<&ReadKey<'a>> {
        match self {
            OpenKey::Missing => None,
            OpenKey::Read(key) => Some(key),
            OpenKey::Write(key) => Some(key.read()),
        }
    }
}

impl<'a> ServerKeys<'a> {
    /// For a command with these words; `mode` when it is flagged `write` (else the server would let us change a
    /// replica).
    pub(super) fn new(ctx: Ctx<'a>, argv: &'a [Str<'a>], mode: Option<WriteMode>) -> Self {
        let mode = mode.map(Mode::Write);
        ServerKeys { ctx, names: Names(argv), mode, open: None, text: None, copied: None }
    }

    /// For the sweep: its accesses do not count.
    pub(super) fn to_sweep(ctx: Ctx<'a>, names: &'a [Str<'a>], frees: bool) -> Self {
        let mode = if frees { Mode::Write(WriteMode::QUIET) } else { Mode::Read(ReadMode::PEEK) };
        ServerKeys { ctx, names: Names(names), mode: Some(mode), open: None, text: None, copied: None }
    }

    /// The names of keys, which outlive the open key.
    pub(super) fn names(&self) -> Names<'a> {
        self.names
    }

    /// The key, open: the one that is, or another.
    fn opened(&mut self, key: Key<'_>, mode: Mode) -> &mut Opened<'a> {
        let mode = self.mode.unwrap_or(mode);
        let same = |open: &Opened<'_>| open.mode == mode && open.arg.is_some() && open.arg == key.arg;
        if !self.open.as_ref().is_some_and(same) {
            self.open = None; // close first
            let (ctx, arg) = (self.ctx, key.arg);
            let made;
            let name = match self.names.word(key) {
                Some(word) => word,
                None => {
                    made = OwnedStr::new(key.name);
                    made.borrow()
                }
            };
            self.open = Some(match mode {
                Mode::Read(how) => match ReadKey::open(ctx, name, how) {
                    None => Opened { key: OpenKey::Missing, arg, mode, kind: KeyKind::Nothing },
                    Some(key) => Opened { kind: key.kind(), key: OpenKey::Read(key), arg, mode },
                },
                Mode::Write(how) => {
                    let key = WriteKey::open(ctx, name, how);
                    Opened { kind: key.read().kind(), key: OpenKey::Write(key), arg, mode }
                }
            });
        }
        self.open.as_mut().expect("opened just above")
    }

    /// The key, open for writing.
    fn writable(&mut self, key: Key<'_>) -> &mut Opened<'a> {
        self.opened(key, Mode::Write(WriteMode::COMMAND))
    }

    /// The key, however it was opened: for questions that every mode answers.
    fn open_in_any_mode(&mut self, key: Key<'_>) -> &mut Opened<'a> {
        let open = self.open.as_ref().filter(|open| open.arg.is_some() && open.arg == key.arg);
        let mode = open.map_or(Mode::Read(ReadMode::PEEK), |open| open.mode);
        self.opened(key, mode)
    }

    fn slot(&mut self, key: Key<'_>, mode: ReadMode) -> Slot<'_> {
        let open = self.opened(key, Mode::Read(mode));
        match (open.kind, open.key.read()) {
            (KeyKind::Nothing, _) | (_, None) => Slot::Empty,
            (KeyKind::Text, Some(key)) => Slot::Text(key.len()),
            (KeyKind::Other, _) => Slot::Other,
            // SAFETY: the key holds one of ours; it stays open, and the value unchanged, as long as the slot borrows
            // `self`, since every method that could change either takes `&mut self`. Whoever else opens keys or calls
            // commands of the server (`workers.rs`, `caller.rs`) does so while no slot is borrowed, or calls what
            // touches no key.
            (KeyKind::Ours, Some(key)) => Slot::Entry(unsafe { key.entry() }),
        }
    }
}

impl Keyspace for ServerKeys<'_> {
    fn look(&mut self, key: Key<'_>) -> Slot<'_> {
        self.slot(key, ReadMode::READ)
    }

    fn peek(&mut self, key: Key<'_>) -> Slot<'_> {
        self.slot(key, ReadMode::PEEK)
    }

    fn text(&mut self, key: Key<'_>) -> Option<&[u8]> {
        let peeked = self.open.take().filter(|open| open.mode == Mode::Read(ReadMode::PEEK));
        let access = peeked.as_ref().and_then(|open| open.key.read()).map(ReadKey::access);
        drop(peeked); // one at a time: the server opens it
        self.text = self.names.with_name(key, |name| self.ctx.call_get(name));
        if let Some(access) = access {
            // The server's GET was an access, which a peek must not be.
            if let Some(key) = self.opened(key, Mode::Read(ReadMode::PEEK)).key.read() {
                key.set_access(access);
            }
            self.open = None;
        }
        if self.text.is_none() {
            // `GET` is renamed (`rename-command`).
            self.copied = match self.opened(key, Mode::Read(ReadMode::PEEK)) {
                Opened { kind: KeyKind::Text, key, .. } => key.read().and_then(ReadKey::text),
                _ => None,
            };
            return self.copied.as_deref();
        }
        self.text.as_ref().and_then(CallReply::text)
    }

    fn text_written(&mut self, key: Key<'_>) -> Option<Vec<u8>> {
        self.quietly(key, |open| open.text())
    }

    fn left_ms(&mut self, key: Key<'_>) -> Option<u64> {
        self.open_in_any_mode(key).there().and_then(ReadKey::left_ms)
    }

    fn memory_bytes(&mut self, key: Key<'_>) -> u64 {
        let open = self.opened(key, Mode::Read(ReadMode::PEEK));
        match (open.kind, open.key.read()) {
            (KeyKind::Ours, Some(key)) => key.memory() as u64,
            (KeyKind::Text, Some(key)) => key.len() as u64,
            _ => 0,
        }
    }

    fn set(&mut self, key: Key<'_>, mut entry: Entry, expire_at: Option<u64>) {
        let db = self.ctx.selected_db();
        let Opened { key: OpenKey::Write(open), kind, .. } = self.writable(key) else { return not_writable() };
        invalidations().index_entry(db, key.name, &mut entry.as_mut());
        let old = open.set(entry);
        open.set_expire_at(expire_at);
        *kind = open.read().kind();
        if let Some(old) = old {
            invalidations().unindex_entry(db, key.name, old.as_ref());
        }
        written();
    }

    fn edit(&mut self, key: Key<'_>) -> Option<EntryMut<'_>> {
        let open = self.writable(key);
        match &mut open.key {
            // SAFETY: as in `slot`; nobody else refers to the value, since the slot would borrow `self`.
            OpenKey::Write(key) if open.kind == KeyKind::Ours => Some(unsafe { key.entry_mut() }),
            OpenKey::Write(_) => None,
            _ => {
                not_writable();
                None
            }
        }
    }

    fn set_expire_at(&mut self, key: Key<'_>, at: Option<u64>) {
        let Opened { key: OpenKey::Write(open), .. } = self.writable(key) else { return not_writable() };
        open.set_expire_at(at);
        written();
    }

    fn remove(&mut self, key: Key<'_>) -> bool {
        let Opened { key: OpenKey::Write(open), kind, .. } = self.writable(key) else {
            not_writable();
            return false;
        };
        let removed = open.unlink();
        *kind = KeyKind::Nothing;
        written();
        removed
    }

    fn expire_at(&mut self, key: Key<'_>) -> Option<u64> {
        self.open_in_any_mode(key).key.read().and_then(ReadKey::expire_at)
    }

    fn stand_in(&mut self, key: Key<'_>, text: Option<(&[u8], Option<u64>)>) -> Option<Hidden> {
        self.quietly(key, |open| {
            let (expire_at, access) = (open.read().expire_at(), open.read().access());
            let entry = open.take()?;
            if let Some((text, until)) = text {
                open.put_text(text);
                open.set_expire_at(until);
            }
            Some(Hidden { entry, expire_at, access })
        })
    }

    fn put_back(&mut self, key: Key<'_>, hidden: Hidden) {
        self.quietly(key, |open| {
            open.put(hidden.entry);
            open.set_expire_at(hidden.expire_at);
            open.read().set_access(hidden.access);
        });
    }

    fn discard(&mut self, key: Key<'_>, hidden: Hidden) {
        let (db, entry) = (self.ctx.selected_db(), hidden.entry.as_ref());
        invalidations().unindex_entry(db, key.name, entry);
        TOMBSTONES.gone(key.name, entry.stamp());
    }

    fn native_keys(&mut self, words: &[&[u8]]) -> SmallVec<[usize; 8]> {
        self.open = None;
        let from = self.names.0.len() - words.len();
        self.ctx.keys_of(&self.names.0[from..]).into_iter().map(|(at, _)| at).collect()
    }

    fn run_native(&mut self, words: &[Key<'_>], caller: &Caller, replicate: bool) -> Option<Box<dyn NativeReply>> {
        self.open = None; // the command opens it
        let (name, args) = words.split_first()?;
        let made: Vec<_> = args.iter().filter(|word| word.arg.is_none()).map(|word| OwnedStr::new(word.name)).collect();
        let mut made = made.iter();
        let args: SmallVec<[Str<'_>; 8]> = args
            .iter()
            .filter_map(|word| self.names.word(*word).or_else(|| made.next().map(OwnedStr::borrow)))
            .collect();
        let name = CString::new(name.name).ok()?;
        let as_caller = !caller.trusted && self.ctx.has_user();
        let reply = self.ctx.call_words(&name, &args, replicate, as_caller)?;
        Some(Box::new(Replied { command: String::from_utf8_lossy(name.as_bytes()).into_owned(), reply }))
    }
}

impl<'a> ServerKeys<'a> {
    /// The key, open for writing on a replica and in a command that only reads, too: what changes is put back.
    fn quietly<R>(&mut self, key: Key<'_>, change: impl FnOnce(&mut WriteKey<'a>) -> R) -> R {
        self.open = None;
        let ctx = self.ctx;
        self.names.with_name(key, |name| change(&mut WriteKey::open(ctx, name, WriteMode::QUIET)))
    }
}

/// Only commands flagged `write` write: a bug elsewhere, which must not change a replica.
fn not_writable() {
    debug_assert!(false, "a command that is not flagged `write` writes a key");
}

/// A place where tests make a command panic: the key has changed, and no effect reports it yet.
fn written() {
    #[cfg(feature = "test-commands")]
    crate::commands::panic::point("a write to the keyspace");
}

/// The databases of the server, of which one is selected at a time.
pub(super) struct ServerDatabases<'a> {
    ctx: Ctx<'a>,
    selected: Option<ServerKeys<'a>>,
}

impl<'a> ServerDatabases<'a> {
    /// Selects in this context, for work that changes no key.
    pub(super) fn new(ctx: Ctx<'a>) -> Self {
        ServerDatabases { ctx, selected: None }
    }
}

impl Databases for ServerDatabases<'_> {
    fn select(&mut self, db: i32) -> Option<&mut dyn Keyspace> {
        self.selected = None; // closes the open key first
        if !self.ctx.select_db(db) {
            return None;
        }
        Some(self.selected.insert(ServerKeys::new(self.ctx, &[], None)))
    }
}
