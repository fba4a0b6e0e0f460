//! The type `smrtcache`: how the server saves, loads, copies, measures and frees entries.
//!
//! Every callback body runs behind the panic guard. `free` may run on a background thread (`FLUSHALL ASYNC`,
//! lazy freeing): it touches atomics and the allocator and nothing else. `rdb_save` and `aof_rewrite` run in a
//! forked child, where no other thread exists: they take no lock. Whatever is loaded is hostile until checked.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use lazy_static::lazy_static;
use redis_module::raw;

use super::ffi::{Ctx, Str, malloc_size, server, server_may};
use super::{cached_now, caller, catch_panic, clock_now, log, with_state};
use crate::cache::State;
use crate::cache::codec::CodecId;
use crate::cache::entry::format::{self, Expiry};
use crate::cache::entry::{self, Entry, EntryMut, EntryRef, Freshness, HEADER};
use crate::cache::ids::RuleId;
use crate::cache::invalidation::marks::{Invalidations, Verdict};
use crate::cache::lease::tombstones::Tombstones;
use crate::cache::node::aux;
use crate::cache::node::store::Source;
use crate::cache::stats::live::Live;
use crate::cache::stats::miss_reasons::{self, MissReasons};

/// The type's name in `TYPE`, RDB and `DUMP`: nine characters, for ever.
const NAME: &CStr = c"smrtcache";
/// The version of what `rdb_save` writes: two strings, header and stored bytes (`format.rs`).
const ENCODING: c_int = 1;
/// One unit of effort: the server frees in the background what takes more than 64 of them (256 KB), since giving pages back
/// takes the kernel time.
const FREE_EFFORT_BYTES: usize = 4096;

static TYPE: AtomicPtr<raw::RedisModuleType> = AtomicPtr::new(ptr::null_mut());

/// Room for [`MISS_REASONS`]: pages that cost nothing until they are used, and that the server does not count.
static ROOM: [AtomicU32; miss_reasons::SLOTS] = [const { AtomicU32::new(0) }; miss_reasons::SLOTS];

lazy_static! {
    /// Counts of what is alive in this process: shared with the thread that frees in the background.
    pub(super) static ref LIVE: Arc<Live> = Arc::new(Live::default());
    /// Which loads in flight are not to be trusted: told by the server's own removals, too.
    pub(super) static ref TOMBSTONES: Arc<Tombstones> = Arc::new(Tombstones::new(super::random_bytes()));
    /// Which keys the server has evicted or let expire.
    pub(super) static ref MISS_REASONS: Arc<MissReasons> = Arc::new(MissReasons::within(&ROOM, super::random_bytes()));
}

lazy_static! {
    static ref INVALIDATIONS: MainThread = MainThread(Rc::new(Invalidations::default()));
}

/// What has been invalidated, and which keys carry which tag: asked by callbacks that come while a command holds the state.
struct MainThread(Rc<Invalidations>);

// SAFETY: commands, timers, events and the type's callbacks but `free` run on the server's main thread (or, after a fork, on
// the child's only one), and `free` does not come here.
unsafe impl Sync for MainThread {}

/// What has been invalidated, for the main thread.
pub(super) fn invalidations() -> &'static Rc<Invalidations> {
    &INVALIDATIONS.0
}

/// The type, as the server knows it.
pub(super) fn type_ptr() -> *mut raw::RedisModuleType {
    TYPE.load(Relaxed)
}

/// Turns an entry into the thin pointer that the server keeps.
pub(super) fn into_raw(entry: Entry) -> *mut c_void {
    LIVE.on_alloc(entry.as_ref());
    Box::into_raw(entry.into_bytes()).cast()
}

/// The bytes behind a pointer of [`into_raw`].
///
/// # Safety
/// `value` came from `into_raw`, is not freed, and stays unchanged for `'a`.
pub(super) unsafe fn bytes<'a>(value: *const c_void) -> &'a [u8] {
    // SAFETY: every entry has at least `HEADER` bytes, which say how long it is.
    unsafe {
        let header = &*value.cast::<[u8; HEADER]>();
        slice::from_raw_parts(value.cast(), entry::allocation_len(header))
    }
}

/// The same, to change.
///
/// # Safety
/// As [`bytes`], and nobody else refers to the entry.
pub(super) unsafe fn bytes_mut<'a>(value: *mut c_void) -> &'a mut [u8] {
    // SAFETY: as in `bytes`.
    unsafe {
        let len = entry::allocation_len(&*value.cast::<[u8; HEADER]>());
        slice::from_raw_parts_mut(value.cast(), len)
    }
}

/// Frees the entry behind a pointer of [`into_raw`]; null is nothing to do.
///
/// # Safety
/// `value` came from `into_raw`, and nobody refers to it any more.
pub(super) unsafe fn free(value: *mut c_void) {
    if value.is_null() {
        return;
    }
    // SAFETY: the box of `into_raw`, rebuilt with the length it was made with (it follows from the header, and no
    // change of a header changes it).
    let entry = Entry::from_bytes(unsafe { Box::from_raw(ptr::from_mut(bytes_mut(value))) });
    LIVE.on_free(entry.as_ref());
}

/// What an entry in the keyspace costs: its allocation as the allocator rounds it, and the server's box for it.
pub(super) fn memory_of(entry: EntryRef<'_>) -> u64 {
    let start = entry.allocation().as_ptr().cast_mut().cast();
    // SAFETY: an entry of the keyspace is an allocation of `into_raw`, that is, of the server's allocator.
    (unsafe { malloc_size(start) } + SERVER_BOX) as u64
}

/// The server's `moduleValue`: type and pointer.
const SERVER_BOX: usize = 16;

/// Registers the type; false when the server refuses.
pub(super) fn register(ctx: Ctx) -> bool {
    let mut methods = raw::RedisModuleTypeMethods {
        version: 5, // older servers ignore the fields they do not know
        rdb_load: Some(rdb_load),
        rdb_save: Some(rdb_save),
        aof_rewrite: Some(aof_rewrite),
        mem_usage: Some(mem_usage),
        digest: Some(digest),
        free: Some(free_callback),
        aux_load: Some(aux_load),
        aux_save: Some(aux_save),
        aux_save_triggers: raw::REDISMODULE_AUX_BEFORE_RDB as c_int,
        free_effort: Some(free_effort),
        unlink: None,
        copy: Some(copy),
        defrag: Some(defrag),
        mem_usage2: None,
        free_effort2: None,
        unlink2: Some(unlink2),
        copy2: Some(copy2),
        aux_save2: Some(aux_save),
    };
    let Some(create) = server_may!(RedisModule_CreateDataType) else { return false };
    // SAFETY: the context is that of the load; the server copies the methods.
    let made = unsafe { create(ctx.as_ptr(), NAME.as_ptr(), ENCODING, &mut methods) };
    TYPE.store(made, Relaxed);
    !made.is_null()
}

/// A string that the server loaded for us; freed when dropped.
struct Loaded(*mut u8, usize);

impl Loaded {
    /// `None` when the file ends or the server cannot read it.
    fn next(io: *mut raw::RedisModuleIO) -> Option<Self> {
        let mut len = 0;
        let load = server_may!(RedisModule_LoadStringBuffer)?;
        let failed = server_may!(RedisModule_IsIOError)?;
        // SAFETY: `io` is valid during the callback that got it.
        let bytes = unsafe { load(io, &mut len) };
        // SAFETY: as above.
        if bytes.is_null() || unsafe { failed(io) } != 0 {
            return None;
        }
        Some(Loaded(bytes.cast(), len))
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the server gave pointer and length together, and the buffer is ours until dropped.
        unsafe { slice::from_raw_parts(self.0, self.1) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: allocated by the server for us to free.
        unsafe { server!(RedisModule_Free)(self.0.cast()) }
    }
}

fn save(io: *mut raw::RedisModuleIO, bytes: &[u8]) {
    if let Some(save) = server_may!(RedisModule_SaveStringBuffer) {
        // SAFETY: `io` is valid during the callback that got it; the bytes are copied or written.
        unsafe { save(io, bytes.as_ptr().cast(), bytes.len()) }
    }
}

/// As `guarded`; but a child that could not save all must not end as if it had: its file would replace a good one.
fn saving(what: &str, body: impl FnOnce()) {
    if !catch_panic(what, false, || {
        body();
        true
    }) && super::is_child()
    {
        // SAFETY: ends the forked child at once, as the server itself does when a save fails.
        unsafe { libc::_exit(1) }
    }
}

unsafe extern "C" fn rdb_save(io: *mut raw::RedisModuleIO, value: *mut c_void) {
    saving("rdb_save", || {
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = EntryRef::from_bytes(unsafe { bytes(value) });
        let mut header = Vec::new();
        let told = with_verdict(entry, db_of(io), key_name(io));
        let said = told.as_ref().map_or(entry, Entry::as_ref);
        with_state(|state| format::encode(said, &state.tags, Expiry::AsItIs, &mut header));
        save(io, &header);
        save(io, entry.stored());
    });
}

/// The database that is saved or loaded.
fn db_of(io: *mut raw::RedisModuleIO) -> Option<i32> {
    // SAFETY: `io` is valid during the callback that got it.
    server_may!(RedisModule_GetDbIdFromIO).map(|get| unsafe { get(io) }).filter(|db| *db >= 0)
}

/// The entry with what marks make of it written into it, where they make anything: what leaves says what it is, since the
/// marks may not be where it arrives.
fn with_verdict(entry: EntryRef<'_>, db: Option<i32>, name: Option<Str<'_>>) -> Option<Entry> {
    let verdict = invalidations().verdict(db?, name?.bytes(), entry, clock_now());
    if verdict == Verdict::Untouched {
        return None;
    }
    let mut told = entry.to_entry();
    verdict.write(&mut told.as_mut());
    Some(told)
}

unsafe extern "C" fn rdb_load(io: *mut raw::RedisModuleIO, version: c_int) -> *mut c_void {
    catch_panic("rdb_load", ptr::null_mut(), || load_entry(io, version).unwrap_or(ptr::null_mut()))
}

fn load_entry(io: *mut raw::RedisModuleIO, version: c_int) -> Option<*mut c_void> {
    if version != ENCODING {
        log::warning(&format!("an entry of encoding {version} cannot be read: it comes from a later SmartCache"));
        return None;
    }
    let header_bytes = Loaded::next(io)?;
    let stored = Loaded::next(io)?;
    let now = clock_now();
    let source = origin(io);
    with_state(|state| {
        let key = key_name(io);
        let place = (db_of(io).unwrap_or(-1), key.map(|name| name.bytes()));
        let entry = format::decode(header_bytes.bytes())
            .and_then(|header| state.import_entry(&header, place, stored.bytes(), source, now));
        match entry {
            Ok(mut entry) => {
                // What is over is not kept by the server, which says nothing more of it.
                if let (Some(db), Some(name)) = (db_of(io), key)
                    && entry.as_ref().freshness(now) != Freshness::Dead
                {
                    invalidations().joined(db, name.bytes(), &mut entry.as_mut());
                }
                Some(into_raw(entry))
            }
            Err(why) => {
                log::warning(&format!("an entry was refused: {why}"));
                None
            }
        }
    })
}

/// Our own file or our primary, when the server is loading; else `RESTORE`, or a slot that moves.
fn origin(io: *mut raw::RedisModuleIO) -> Source {
    // SAFETY: `io` is valid during the callback that got it, and so is its context.
    let ctx = server_may!(RedisModule_GetContextFromIO).and_then(|get| unsafe { Ctx::from_raw(get(io)) });
    let loading = raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    match ctx {
        Some(ctx) if ctx.flags() & loading != 0 => Source::Home,
        Some(ctx) if ctx.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE != 0 => Source::Relayed,
        _ => Source::Elsewhere,
    }
}

/// The key that is being loaded, where the server tells.
fn key_name<'a>(io: *mut raw::RedisModuleIO) -> Option<Str<'a>> {
    let get = server_may!(RedisModule_GetKeyNameFromIO)?;
    // SAFETY: `io` is valid during the callback that got it, and so is the name: callers do not keep it.
    unsafe { Str::from_raw(get(io).cast_mut()) }
}

unsafe extern "C" fn aof_rewrite(io: *mut raw::RedisModuleIO, key: *mut raw::RedisModuleString, value: *mut c_void) {
    saving("aof_rewrite", || {
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = EntryRef::from_bytes(unsafe { bytes(value) });
        // SAFETY: the server's own string, valid during the callback.
        let told = with_verdict(entry, db_of(io), unsafe { Str::from_raw(key) });
        // What is dead is written as dead, and not left out: it may yet be renamed, over something that is alive.
        let said = told.as_ref().map_or(entry, Entry::as_ref);
        let mut header = Vec::new();
        with_state(|state| format::encode(said, &state.tags, Expiry::AsItIs, &mut header));
        let Some(emit) = server_may!(RedisModule_EmitAOF) else { return };
        // SAFETY: `io` and `key` are valid during the callback; the format names what follows.
        unsafe {
            emit(
                io,
                super::deliver::STORE.as_ptr(),
                c"sbb".as_ptr(),
                key,
                header.as_ptr(),
                header.len(),
                entry.stored().as_ptr(),
                entry.stored().len(),
            );
        }
    });
}

unsafe extern "C" fn aux_save(io: *mut raw::RedisModuleIO, _when: c_int) {
    saving("aux_save", || {
        let said = with_state(|state| aux::save(state, clock_now(), &mut |word| save(io, word)));
        // With nothing to say no section is written (by `aux_save2`), and the file stays loadable without us.
        if !said && server_may!(RedisModule_GetModuleOptionsAll).is_none() {
            save(io, aux::NOTHING); // 7.0 has no `aux_save2`: the section is there, so it must say something
        }
    });
}

unsafe extern "C" fn aux_load(io: *mut raw::RedisModuleIO, version: c_int, _when: c_int) -> c_int {
    let failed = raw::REDISMODULE_ERR as c_int;
    catch_panic("aux_load", failed, || {
        if version != ENCODING {
            log::warning(&format!("aux data of encoding {version} cannot be read: it comes from a later SmartCache"));
            return failed;
        }
        let now = clock_now();
        let loaded = with_state(|state| aux::load(state, now, || Loaded::next(io).map(|word| word.bytes().to_vec())));
        match loaded {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(why) => {
                log::warning(&format!("aux data was refused: {why}"));
                failed
            }
        }
    })
}

unsafe extern "C" fn mem_usage(value: *const c_void) -> usize {
    catch_panic("mem_usage", 0, || {
        // SAFETY: the server hands over a value of ours that it holds.
        memory_of(EntryRef::from_bytes(unsafe { bytes(value) })) as usize
    })
}

/// The digest is of what the entry means, not of how it is stored: a replica may hold it uncompressed.
unsafe extern "C" fn digest(md: *mut raw::RedisModuleDigest, value: *mut c_void) {
    catch_panic("digest", (), || {
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = EntryRef::from_bytes(unsafe { bytes(value) });
        let add = |bytes: &[u8]| {
            if let Some(add) = server_may!(RedisModule_DigestAddStringBuffer) {
                // SAFETY: `md` is valid during the callback; the bytes are read before it returns.
                unsafe { add(md, bytes.as_ptr().cast_mut().cast(), bytes.len()) }
            }
        };
        let (swr, sie) = entry.windows();
        let facts = (entry.stamp().0, entry.fresh_until(), entry.absent(), entry.stale(), swr, sie);
        add(format!("{facts:?}").as_bytes());
        with_state(|state| {
            for tag in entry.tags() {
                add(state.tags.name(tag));
            }
            let codec = entry.codec().unwrap_or(CodecId::None);
            match state.codecs.decompress(codec, entry.stored(), entry.raw_len()) {
                Ok(raw) => add(raw),
                Err(_) => add(entry.stored()),
            }
        });
        if let Some(end) = server_may!(RedisModule_DigestEndSequence) {
            // SAFETY: `md` is valid during the callback.
            unsafe { end(md) }
        }
    });
}

unsafe extern "C" fn free_callback(value: *mut c_void) {
    // SAFETY: the server gives up the value. No guard, no state: this may be another thread, and does not panic.
    unsafe { free(value) }
}

/// An entry leaves its key: deleted, expired, evicted, overwritten by another type, renamed, moved. (A flush does not come
/// by here.) Whatever was loaded before it must not come back. Called on the main thread, now and then while a command of
/// ours holds the state.
unsafe extern "C" fn unlink2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    catch_panic("unlink", (), || {
        let (Some(db), Some(name)) =
            (server_may!(RedisModule_GetDbIdFromOptCtx), server_may!(RedisModule_GetKeyNameFromOptCtx))
        else {
            return;
        };
        // SAFETY: `ctx` is valid during the callback, and so is the name it gives.
        let (db, name) = unsafe { (db(ctx), Str::from_raw(name(ctx).cast_mut())) };
        let Some(name) = name.map(|name| name.bytes()) else { return };
        // SAFETY: the value is one of ours that the server still holds; this is the main thread, and nobody refers to it.
        let mut entry = EntryMut::from_bytes(unsafe { bytes_mut(value.cast_mut()) });
        let now = cached_now();
        invalidations().left(db, name, entry.as_ref());
        let verdict = invalidations().verdict(db, name, entry.as_ref(), now);
        verdict.write(&mut entry);
        let invalidated = entry.as_ref().stale() || matches!(verdict, Verdict::Stale(_) | Verdict::Dead);
        entry.unlist(); // it may live on, under another name or in another database
        let may_evict = caller::may_evict();
        if TOMBSTONES.matter() || !MISS_REASONS.is_empty() || may_evict || invalidated {
            let entry = entry.as_ref();
            let fresh = may_evict && matches!(entry.freshness(now), Freshness::Fresh { .. });
            TOMBSTONES.gone(name, entry.stamp());
            MISS_REASONS.left(name, entry.rule(), fresh);
            if invalidated {
                MISS_REASONS.invalidated(name);
            }
        }
    });
}

unsafe extern "C" fn free_effort(_key: *mut raw::RedisModuleString, value: *const c_void) -> usize {
    // SAFETY: the server hands over a value of ours that it holds.
    1 + unsafe { bytes(value) }.len() / FREE_EFFORT_BYTES
}

unsafe extern "C" fn copy(
    _from: *mut raw::RedisModuleString,
    to: *mut raw::RedisModuleString,
    value: *const c_void,
) -> *mut c_void {
    catch_panic("copy", ptr::null_mut(), || {
        // SAFETY: the server hands over its own string, and a value of ours that it holds.
        let (to, entry) = unsafe { (Str::from_raw(to), EntryRef::from_bytes(bytes(value))) };
        copied(entry, None, to, None)
    })
}

unsafe extern "C" fn copy2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> *mut c_void {
    catch_panic("copy", ptr::null_mut(), || {
        // SAFETY: `ctx` is valid during the callback, and so is the name it gives.
        let to = server_may!(RedisModule_GetToKeyNameFromOptCtx)
            .and_then(|name| unsafe { Str::from_raw(name(ctx).cast_mut()) });
        // SAFETY: as above.
        let source = server_may!(RedisModule_GetKeyNameFromOptCtx)
            .and_then(|name| unsafe { Str::from_raw(name(ctx).cast_mut()) });
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = EntryRef::from_bytes(unsafe { bytes(value) });
        let dbs = match (server_may!(RedisModule_GetDbIdFromOptCtx), server_may!(RedisModule_GetToDbIdFromOptCtx)) {
            // SAFETY: `ctx` is valid during the callback.
            (Some(from), Some(to)) => Some(unsafe { (from(ctx), to(ctx)) }),
            _ => None,
        };
        copied(entry, source, to, dbs)
    })
}

fn rule_of(state: &State, key: &[u8]) -> RuleId {
    state.policies.find(key).map_or(RuleId::NONE, |rule| rule.id())
}

/// A second entry like this one, under the rule of its new name.
fn copied(entry: EntryRef<'_>, source: Option<Str<'_>>, to: Option<Str<'_>>, dbs: Option<(i32, i32)>) -> *mut c_void {
    let mut copy = with_verdict(entry, dbs.map(|(source, _)| source), source).unwrap_or_else(|| entry.to_entry());
    let rule = to.map_or(RuleId::default(), |name| with_state(|state| rule_of(state, name.bytes())));
    copy.as_mut().set_rule(rule);
    if let (Some((_, db)), Some(name)) = (dbs, to) {
        invalidations().copied(db, name.bytes(), &mut copy.as_mut(), clock_now());
    }
    into_raw(copy)
}

unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut raw::RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    if let Some(alloc) = server_may!(RedisModule_DefragAlloc) {
        // SAFETY: `ctx` and `value` are valid during the callback; the entry is one allocation and its pointer
        // the allocation's start, so what the server moves it to is the entry.
        unsafe {
            let moved = alloc(ctx, *value);
            if !moved.is_null() {
                *value = moved;
                super::count_defragmented();
            }
        }
    }
    0 // done
}
