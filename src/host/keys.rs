//! Opened keys of the server.
//!
//! The value of a key may be freed by the next call to the server: opening another key or calling a command may expire
//! or evict it. So reading an entry in place is `unsafe` here, and `keyspace.rs` makes it safe.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use redis_module::raw;

use super::clock::clock_ms;
use super::ffi::{Ctx, OwnedStr, Str, server, server_may};
use super::values;
use crate::cache::entry::{Entry, EntryMut, EntryRef};
use crate::cache::ports::Access;

/// What a key holds, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Nothing,
    Text,
    Ours,
    Other,
}

/// How to open a key for reading, in the server's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadMode(c_int);

impl ReadMode {
    /// To serve it: an access, counted as hit or miss.
    pub(super) const READ: Self = ReadMode(raw::REDISMODULE_READ as c_int);
    /// To look at it: no access where the server can tell. NOTOUCH keeps LRU and LFU as they are; NOSTATS (7.2) keeps
    /// hits and misses; the server ignores unknown bits.
    pub(super) const PEEK: Self = ReadMode(
        (raw::REDISMODULE_READ
            | raw::REDISMODULE_OPEN_KEY_NOTOUCH
            | raw::REDISMODULE_OPEN_KEY_NOSTATS
            | raw::REDISMODULE_OPEN_KEY_NONOTIFY) as c_int,
    );
}

/// How to open a key for writing, in the server's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteMode(c_int);

impl WriteMode {
    /// For a command: an access. An expired key is deleted, and a tombstone of it made, before a fill is judged.
    pub(super) const COMMAND: Self = WriteMode((raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int);
    /// For a command that ends entries and distrusts loads by itself. NOEXPIRE (7.2) leaves an expired key, which is
    /// not there all the same: its deletion would be replicated beside the command's own effects (`cache/outbox.rs`).
    pub(super) const END: Self =
        WriteMode((raw::REDISMODULE_READ | raw::REDISMODULE_WRITE | raw::REDISMODULE_OPEN_KEY_NOEXPIRE) as c_int);
    /// To remove it or to change how it is stored: no access, no event, and no expiry, as above.
    pub(super) const QUIET: Self = WriteMode(
        (raw::REDISMODULE_READ
            | raw::REDISMODULE_WRITE
            | raw::REDISMODULE_OPEN_KEY_NOTOUCH
            | raw::REDISMODULE_OPEN_KEY_NOEXPIRE
            | raw::REDISMODULE_OPEN_KEY_NONOTIFY) as c_int,
    );
}

/// A key that holds something, open for reading; closed when dropped.
#[derive(Debug)]
pub(super) struct ReadKey<'a>(NonNull<raw::RedisModuleKey>, PhantomData<Ctx<'a>>);

/// A key that may hold nothing, open for writing; closed when dropped.
#[derive(Debug)]
pub(super) struct WriteKey<'a>(ReadKey<'a>);

fn open(ctx: Ctx<'_>, name: Str<'_>, bits: c_int) -> Option<NonNull<raw::RedisModuleKey>> {
    // SAFETY: context and string are valid; the key is closed when `ReadKey` is dropped.
    NonNull::new(unsafe { server!(RedisModule_OpenKey)(ctx.as_ptr(), name.as_ptr(), bits) })
}

impl<'a> ReadKey<'a> {
    /// `None` when there is no such key.
    pub(super) fn open(ctx: Ctx<'a>, name: Str<'_>, mode: ReadMode) -> Option<Self> {
        open(ctx, name, mode.0).map(|key| ReadKey(key, PhantomData))
    }

    fn as_ptr(&self) -> *mut raw::RedisModuleKey {
        self.0.as_ptr()
    }

    pub(super) fn kind(&self) -> KeyKind {
        // SAFETY: the key is open.
        unsafe {
            if server!(RedisModule_ModuleTypeGetType)(self.as_ptr()) == values::type_ptr() {
                return KeyKind::Ours;
            }
            match server!(RedisModule_KeyType)(self.as_ptr()) as isize {
                raw::REDISMODULE_KEYTYPE_EMPTY => KeyKind::Nothing,
                raw::REDISMODULE_KEYTYPE_STRING => KeyKind::Text,
                _ => KeyKind::Other,
            }
        }
    }

    fn value(&self) -> *mut c_void {
        // SAFETY: the key is open; the server returns null for a value of another type.
        unsafe { server!(RedisModule_ModuleTypeGetValue)(self.as_ptr()) }
    }

    /// The entry, in place.
    ///
    /// # Safety
    /// The key [holds](Self::kind) one of ours, and while the result is in use this key is neither changed nor
    /// closed, no other key is opened, and no command of the server is called.
    pub(super) unsafe fn entry<'e>(&self) -> EntryRef<'e> {
        // SAFETY: the caller's duty.
        unsafe { values::entry(self.value()) }
    }

    /// The memory of one of ours; 0 when it holds something else.
    pub(super) fn memory(&self) -> usize {
        match self.kind() {
            // SAFETY: the key is open and holds one of ours.
            KeyKind::Ours => unsafe { values::memory(self.value()) },
            _ => 0,
        }
    }

    /// The length of the value, in bytes for a string.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the key is open.
        unsafe { server!(RedisModule_ValueLength)(self.as_ptr()) }
    }

    /// When the server deletes the key, in milliseconds of Unix time.
    pub(super) fn expire_at(&self) -> Option<u64> {
        if self.kind() == KeyKind::Nothing {
            return None; // open for writing: Redis 8 reads the expiry of the value that is not there
        }
        let at = match server_may!(RedisModule_GetAbsExpire) {
            // SAFETY: the key is open.
            Some(get) => unsafe { get(self.as_ptr()) },
            // Before 7.0.5 the server returns only the time that is left.
            None => return self.left_ms().map(|left| left + clock_ms()),
        };
        u64::try_from(at).ok()
    }

    /// The bytes of a string, in place. Where the server keeps a number or short text otherwise, it turns it into bytes
    /// for this, in place, too.
    pub(super) fn text(&self) -> Option<Vec<u8>> {
        let read = server_may!(RedisModule_StringDMA)?;
        let mut len = 0;
        // SAFETY: the key is open and holds a string (else null comes back); the bytes are copied before anything else
        // is called.
        unsafe {
            let bytes = read(self.as_ptr(), &mut len, raw::REDISMODULE_READ as c_int);
            (!bytes.is_null()).then(|| std::slice::from_raw_parts(bytes.cast::<u8>(), len).to_vec())
        }
    }

    /// How many milliseconds are left until the server deletes the key.
    pub(super) fn left_ms(&self) -> Option<u64> {
        if self.kind() == KeyKind::Nothing {
            return None; // as above
        }
        // SAFETY: the key is open.
        u64::try_from(unsafe { server!(RedisModule_GetExpire)(self.as_ptr()) }).ok()
    }

    /// When and how often the key was accessed.
    pub(super) fn access(&self) -> Access {
        let mut access = Access { idle_ms: -1, frequency: -1 };
        // SAFETY: the key is open; there is room for the two numbers.
        unsafe {
            server!(RedisModule_GetLRU)(self.as_ptr(), &raw mut access.idle_ms);
            server!(RedisModule_GetLFU)(self.as_ptr(), &raw mut access.frequency);
        }
        access
    }

    /// Takes back the accesses since [`ReadKey::access`]. This changes nothing that is replicated or saved as data.
    pub(super) fn set_access(&self, access: Access) {
        // SAFETY: the key is open.
        unsafe {
            if access.idle_ms >= 0 {
                server!(RedisModule_SetLRU)(self.as_ptr(), access.idle_ms);
            }
            if access.frequency >= 0 {
                server!(RedisModule_SetLFU)(self.as_ptr(), access.frequency);
            }
        }
    }
}

impl Drop for ReadKey<'_> {
    fn drop(&mut self) {
        // SAFETY: opened by `open` and not closed since.
        unsafe { server!(RedisModule_CloseKey)(self.as_ptr()) };
    }
}

impl<'a> WriteKey<'a> {
    pub(super) fn open(ctx: Ctx<'a>, name: Str<'_>, mode: WriteMode) -> Self {
        let key = open(ctx, name, mode.0).expect("the server opens every key for writing");
        WriteKey(ReadKey(key, PhantomData))
    }

    /// The key, to ask.
    pub(super) fn read(&self) -> &ReadKey<'a> {
        &self.0
    }

    /// The entry, in place, to change its header.
    ///
    /// # Safety
    /// As [`ReadKey::entry`], and nobody else refers to the entry.
    pub(super) unsafe fn entry_mut<'e>(&mut self) -> EntryMut<'e> {
        // SAFETY: the caller's duty.
        unsafe { values::entry_mut(self.0.value()) }
    }

    /// Stores an entry, and returns the one that it has replaced.
    pub(super) fn set(&mut self, entry: Entry) -> Option<Entry> {
        let value = values::into_raw(entry);
        self.swap(value).or_else(|| {
            // SAFETY: the key is open for writing, `value` was made for our type; the server frees what was there.
            unsafe { server!(RedisModule_ModuleTypeSetValue)(self.0.as_ptr(), values::type_ptr(), value.as_ptr()) };
            None
        })
    }

    /// Stores an entry in the place of one of ours: both are returned as they leave, the old one or the new one that
    /// found none.
    pub(super) fn replace(&mut self, entry: Entry) -> Result<Entry, Entry> {
        let value = values::into_raw(entry);
        // SAFETY: the pointer of just above, which the server has not taken.
        self.swap(value).ok_or_else(|| unsafe { values::from_raw(value) })
    }

    /// Puts a pointer of [`values::into_raw`] in the place of another; `None` when there is none, and nothing has
    /// changed. Replacing (instead of setting) keeps the key's place in the dictionary, its expiry and its LFU
    /// counter.
    fn swap(&mut self, value: NonNull<c_void>) -> Option<Entry> {
        let mut old = ptr::null_mut();
        let replace = server!(RedisModule_ModuleTypeReplaceValue);
        // SAFETY: the key is open for writing, `value` was made for our type.
        let replaced = unsafe { replace(self.0.as_ptr(), values::type_ptr(), value.as_ptr(), &mut old) };
        if replaced != raw::REDISMODULE_OK as c_int {
            return None;
        }
        let old = NonNull::new(old).expect("each value of our type is an entry");
        // SAFETY: the server replaces only values of our type, and has let go of this one.
        Some(unsafe { values::from_raw(old) })
    }

    /// Takes one of ours out, without telling anyone: `unlink` of the type finds a dead one that is nowhere indexed.
    pub(super) fn take(&mut self) -> Option<Entry> {
        if self.0.kind() != KeyKind::Ours {
            return None;
        }
        let taken = self.replace(Entry::nothing()).ok()?;
        // SAFETY: the key is open for writing.
        unsafe { server!(RedisModule_DeleteKey)(self.0.as_ptr()) };
        Some(taken)
    }

    /// Puts an entry in place of anything there, without replacing: nothing of ours is there.
    pub(super) fn put(&mut self, entry: Entry) {
        let value = values::into_raw(entry);
        // SAFETY: the key is open for writing, `value` was made for our type; the server frees what was there.
        unsafe { server!(RedisModule_ModuleTypeSetValue)(self.0.as_ptr(), values::type_ptr(), value.as_ptr()) };
    }

    /// The plain string that is there.
    pub(super) fn text(&mut self) -> Option<Vec<u8>> {
        let mut len = 0;
        // SAFETY: the key is open for writing, and nothing changes it while its bytes are copied; null where it holds
        // no string.
        unsafe {
            let bytes = server_may!(RedisModule_StringDMA)?(self.0.as_ptr(), &mut len, raw::REDISMODULE_READ as c_int);
            (!bytes.is_null() && self.read().kind() == KeyKind::Text)
                .then(|| slice::from_raw_parts(bytes.cast::<u8>(), len).to_vec())
        }
    }

    /// Puts a plain string in place of anything there.
    pub(super) fn put_text(&mut self, text: &[u8]) {
        let text = OwnedStr::new(text);
        // SAFETY: the key is open for writing; the server keeps its own reference to the string.
        unsafe { server!(RedisModule_StringSet)(self.0.as_ptr(), text.borrow().as_ptr()) };
    }

    /// Sets when the server deletes the key.
    pub(super) fn set_expire_at(&mut self, at: Option<u64>) {
        let no_expire = i64::from(raw::REDISMODULE_NO_EXPIRE);
        match server_may!(RedisModule_SetAbsExpire) {
            // SAFETY: the key is open for writing; the server refuses what it cannot do.
            Some(set) => unsafe { set(self.0.as_ptr(), at.map_or(no_expire, |at| at as i64)) },
            None => {
                let left = at.map_or(no_expire, |at| at.saturating_sub(clock_ms()) as i64);
                // SAFETY: as above.
                unsafe { server!(RedisModule_SetExpire)(self.0.as_ptr(), left) }
            }
        };
    }

    /// Removes the key, large values in the background; whether there was one.
    pub(super) fn unlink(&mut self) -> bool {
        let existed = self.0.kind() != KeyKind::Nothing;
        // SAFETY: the key is open for writing.
        unsafe { server!(RedisModule_UnlinkKey)(self.0.as_ptr()) };
        existed
    }
}
