//! The type `smrtcache`: how the server saves, loads, copies, measures and frees entries.
//!
//! Every callback body runs behind the panic guard. `free` may run on a background thread (`FLUSHALL ASYNC`, lazy
//! freeing): it touches atomics and the allocator and nothing else. `rdb_save` and `aof_rewrite` run in a forked child,
//! where no other thread exists. Whatever is loaded is hostile until checked.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redis_module::raw;

use super::clock::{cached_now, clock_now};
use super::ffi::{Ctx, Io, Str, is_child, server_may};
use super::just_loaded::JUST_LOADED;
use super::panic::{catch_panic, try_run};
use super::replicate::STORE;
use super::state::{MISS_REASONS, TOMBSTONES, invalidations, with_state};
use super::{caller, log, main_thread, values};
use crate::cache::State;
use crate::cache::codec::CodecId;
use crate::cache::entry::format::{self, Expiry, Malformed};
use crate::cache::entry::{Entry, EntryRef, Freshness};
use crate::cache::ids::RuleId;
use crate::cache::invalidation::mark::Verdict;
use crate::cache::node::aux_data;
use crate::cache::node::import::Source;

/// The type's name in `TYPE`, RDB and `DUMP`: nine characters, for ever.
const NAME: &CStr = c"smrtcache";
/// The version of what `rdb_save` writes: two strings, header and stored bytes (`entry/format.rs`).
const ENCODING: c_int = 1;
/// One unit of effort: the server frees in the background what takes more than 64 of them (256 KB), since giving pages
/// back takes the kernel time.
const FREE_EFFORT_BYTES: usize = 4096;

/// Entries that active defragmentation has moved.
static DEFRAGMENTED: AtomicU64 = AtomicU64::new(0);

/// Entries that active defragmentation has moved.
pub(super) fn defragmented() -> u64 {
    DEFRAGMENTED.load(Relaxed)
}

/// Registers the type; false when the server refuses.
pub(super) fn register(ctx: Ctx<'_>) -> bool {
    let mut methods = raw::RedisModuleTypeMethods {
        version: 5, // older servers ignore the fields they do not know
        rdb_load: Some(rdb_load),
        rdb_save: Some(rdb_save),
        aof_rewrite: Some(aof_rewrite),
        mem_usage: Some(mem_usage),
        digest: Some(digest),
        free: Some(free),
        aux_load: Some(aux_load),
        aux_save: Some(aux_save),
        aux_save_triggers: raw::REDISMODULE_AUX_BEFORE_RDB as c_int,
        free_effort: Some(free_effort),
        unlink: None,
        copy: Some(copy),
        // The server can move only what its own allocator gave.
        defrag: if cfg!(feature = "system-alloc") { None } else { Some(defrag) },
        mem_usage2: None,
        free_effort2: None,
        unlink2: Some(unlink2),
        copy2: Some(copy2),
        aux_save2: Some(aux_save),
    };
    let Some(create) = server_may!(RedisModule_CreateDataType) else { return false };
    // SAFETY: the context is that of the load; the server copies the methods.
    let made = unsafe { create(ctx.as_ptr(), NAME.as_ptr(), ENCODING, &mut methods) };
    // SAFETY: the server has just made it, with these methods.
    unsafe { values::set_type(made) };
    !made.is_null()
}

/// Runs a callback that saves. A forked child that could not save everything must not end as if it had: its file would
/// replace a good one.
fn save<'a>(what: &str, io: Option<Io<'a>>, body: impl FnOnce(Io<'a>)) {
    let saved = try_run(what, || io.map(body));
    if saved.flatten().is_none() && is_child() {
        // SAFETY: ends the forked child at once, as the server itself does when a save fails.
        unsafe { libc::_exit(1) }
    }
}

unsafe extern "C" fn rdb_save(io: *mut raw::RedisModuleIO, value: *mut c_void) {
    // SAFETY: `io` is the callback's, valid until we return.
    save("rdb_save", unsafe { Io::from_raw(io) }, |io| {
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = unsafe { values::entry(value) };
        io.save(&header(entry, io.db(), io.key()));
        io.save(entry.stored());
    });
}

/// The header of an entry, with the verdict of the marks written into it: the marks may not exist where it arrives.
fn header(entry: EntryRef<'_>, db: Option<i32>, key: Option<Str<'_>>) -> Vec<u8> {
    let judged = with_verdict(entry, db, key);
    let mut header = Vec::new();
    with_state(|state| {
        format::encode(judged.as_ref().map_or(entry, Entry::as_ref), &state.tags, Expiry::AsItIs, &mut header);
    });
    header
}

/// A copy of the entry with the verdict of the marks written into it; `None` where no mark concerns it.
fn with_verdict(entry: EntryRef<'_>, db: Option<i32>, key: Option<Str<'_>>) -> Option<Entry> {
    let verdict = invalidations().verdict(db?, key?.bytes(), entry, clock_now());
    if verdict == Verdict::Untouched {
        return None;
    }
    let mut judged = entry.to_entry();
    verdict.apply_to(&mut judged.as_mut());
    Some(judged)
}

unsafe extern "C" fn rdb_load(io: *mut raw::RedisModuleIO, version: c_int) -> *mut c_void {
    catch_panic("rdb_load", ptr::null_mut(), || {
        // SAFETY: `io` is the callback's, valid until it returns.
        let Some(io) = (unsafe { Io::from_raw(io) }) else { return ptr::null_mut() };
        let Some(entry) = load_entry(io, version) else { return ptr::null_mut() };
        let value = values::into_raw(entry);
        // SAFETY: the pointer of just above, which the server does not have yet.
        let entry = unsafe { values::entry(value.as_ptr()) };
        let beside = with_state(|state| state.loaded_beside(entry));
        JUST_LOADED.get().loaded(value.as_ptr(), io, beside);
        value.as_ptr()
    })
}

fn load_entry(io: Io<'_>, version: c_int) -> Option<Entry> {
    if version != ENCODING {
        log::warning(&format!("an entry of encoding {version} cannot be read: it comes from a later SmartCache"));
        return None;
    }
    let header_bytes = io.load()?;
    let stored = io.load()?;
    let now = clock_now();
    let source = source(io);
    let key = io.key().map(Str::bytes);
    let db = io.db();
    let import = |state: &mut State| {
        let header = format::decode(header_bytes.bytes())?;
        let mut entry = state.import_entry(&header, (db.unwrap_or(-1), key), stored.bytes(), source, now)?;
        // Of many dead entries the key has expired, too, and the server drops them: they are not worth indexing.
        if let (Some(db), Some(name)) = (db, key)
            && entry.as_ref().freshness(now) != Freshness::Dead
        {
            state.invalidations.index_entry(db, name, &mut entry.as_mut());
        }
        Ok::<_, Malformed>(entry)
    };
    let imported = with_state(|state| if source == Source::Home { state.loading(import) } else { import(state) });
    imported.map_err(|why| log::warning(&format!("an entry was refused: {why}"))).ok()
}

/// Our own file or our primary, when the server is loading; else `RESTORE`, or a slot that moves.
fn source(io: Io<'_>) -> Source {
    match io.ctx() {
        Some(ctx) if ctx.is_loading() => Source::Home,
        Some(ctx) if ctx.is_replica() => Source::Relayed,
        _ => Source::Elsewhere,
    }
}

unsafe extern "C" fn aof_rewrite(io: *mut raw::RedisModuleIO, key: *mut raw::RedisModuleString, value: *mut c_void) {
    // SAFETY: `io` is the callback's, valid until we return.
    save("aof_rewrite", unsafe { Io::from_raw(io) }, |io| {
        // SAFETY: the server hands over a value of ours that it holds, and its own string, valid during the callback.
        let (entry, key) = unsafe { (values::entry(value), Str::from_raw(key)) };
        // A dead entry is written as dead, and not left out: it may yet be renamed, over something that is alive.
        let header = header(entry, io.db(), key);
        if let Some(key) = key {
            io.emit(STORE, key, &header, entry.stored());
        }
    });
}

unsafe extern "C" fn aux_save(io: *mut raw::RedisModuleIO, _when: c_int) {
    // SAFETY: `io` is the callback's, valid until we return.
    save("aux_save", unsafe { Io::from_raw(io) }, |io| {
        let written = with_state(|state| aux_data::save(state, clock_now(), &mut |word| io.save(word)));
        // With nothing written there is no section (`aux_save2`), and the file stays loadable without us.
        if !written && server_may!(RedisModule_GetModuleOptionsAll).is_none() {
            io.save(aux_data::NOTHING); // 7.0 has no `aux_save2`: the section is there, so it must hold something
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
        // SAFETY: `io` is the callback's, valid until it returns.
        let Some(io) = (unsafe { Io::from_raw(io) }) else { return failed };
        let now = clock_now();
        let load = |state: &mut State| aux_data::load(state, now, || io.load().map(|word| word.bytes().to_vec()));
        let loaded = with_state(|state| state.loading(load));
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
    // SAFETY: the server hands over a value of ours that it holds.
    catch_panic("mem_usage", 0, || unsafe { values::memory(value) })
}

/// The digest of a value.
#[derive(Clone, Copy)]
struct Digest<'a>(NonNull<raw::RedisModuleDigest>, PhantomData<&'a ()>);

impl<'a> Digest<'a> {
    fn db(self) -> Option<i32> {
        // SAFETY: the digest is valid during the callback.
        server_may!(RedisModule_GetDbIdFromDigest).map(|get| unsafe { get(self.0.as_ptr()) }).filter(|db| *db >= 0)
    }

    fn key(self) -> Option<Str<'a>> {
        // SAFETY: the digest is valid during the callback, and the key's name with it.
        server_may!(RedisModule_GetKeyNameFromDigest).and_then(|get| unsafe { Str::from_raw(get(self.0.as_ptr())) })
    }

    fn add(self, bytes: &[u8]) {
        if let Some(add) = server_may!(RedisModule_DigestAddStringBuffer) {
            // SAFETY: the digest is valid during the callback; the bytes are read before it returns.
            unsafe { add(self.0.as_ptr(), bytes.as_ptr().cast_mut().cast(), bytes.len()) }
        }
    }

    fn end(self) {
        if let Some(end) = server_may!(RedisModule_DigestEndSequence) {
            // SAFETY: the digest is valid during the callback.
            unsafe { end(self.0.as_ptr()) }
        }
    }
}

/// The digest is of what the entry means, not of how it is stored: a replica may hold it uncompressed, and with the
/// verdict of the marks written into it.
unsafe extern "C" fn digest(md: *mut raw::RedisModuleDigest, value: *mut c_void) {
    catch_panic("digest", (), || {
        let Some(digest) = NonNull::new(md).map(|md| Digest(md, PhantomData)) else { return };
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = unsafe { values::entry(value) };
        let judged = with_verdict(entry, digest.db(), digest.key());
        let entry = judged.as_ref().map_or(entry, Entry::as_ref);
        let (swr, sie) = entry.windows();
        let facts = (entry.stamp().0, entry.fresh_until(), entry.absent(), entry.stale(), swr, sie);
        digest.add(format!("{facts:?}").as_bytes());
        with_state(|state| {
            for tag in entry.tags() {
                digest.add(state.tags.name(tag));
            }
            let codec = entry.codec().unwrap_or(CodecId::None);
            match state.codecs.decompress(codec, entry.stored(), entry.raw_len()) {
                Ok(raw) => digest.add(raw),
                Err(_) => digest.add(entry.stored()),
            }
        });
        digest.end();
    });
}

/// May run on a background thread: no state. On the main thread it may be the server dropping what it has just loaded.
unsafe extern "C" fn free(value: *mut c_void) {
    catch_panic("free", (), || {
        if let Some(value) = NonNull::new(value) {
            if main_thread::is_this() {
                // SAFETY: a value of ours that the server gives up, and that nobody else refers to.
                JUST_LOADED.get().freed(value.as_ptr(), unsafe { values::entry(value.as_ptr()) });
            }
            // SAFETY: a value of ours that the server gives up.
            drop(unsafe { values::from_raw(value) });
        }
    });
}

/// An entry leaves its key: deleted, expired, evicted, overwritten by another type, renamed, moved. (A flush does not
/// call this.) A load that began before must not bring it back. Called on the main thread, sometimes while a command
/// of ours borrows the state.
unsafe extern "C" fn unlink2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    catch_panic("unlink", (), || {
        let (Some(db), Some(name)) =
            (server_may!(RedisModule_GetDbIdFromOptCtx), server_may!(RedisModule_GetKeyNameFromOptCtx))
        else {
            return;
        };
        // SAFETY: `ctx` is valid during the callback, and so is the name it gives.
        let (db, name) = unsafe { (db(ctx), Str::from_raw(name(ctx))) };
        let Some(name) = name.map(Str::bytes) else { return };
        // SAFETY: the value is one of ours that the server still holds; this is the main thread, and nobody refers to
        // it.
        let mut entry = unsafe { values::entry_mut(value.cast_mut()) };
        let now = cached_now();
        invalidations().unindex_entry(db, name, entry.as_ref());
        let verdict = invalidations().verdict(db, name, entry.as_ref(), now);
        verdict.apply_to(&mut entry);
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
    catch_panic("free_effort", 1, || {
        // SAFETY: the server hands over a value of ours that it holds.
        1 + unsafe { values::entry(value) }.allocation().len() / FREE_EFFORT_BYTES
    })
}

unsafe extern "C" fn copy(
    _from: *mut raw::RedisModuleString,
    to: *mut raw::RedisModuleString,
    value: *const c_void,
) -> *mut c_void {
    catch_panic("copy", ptr::null_mut(), || {
        // SAFETY: the server hands over its own string, and a value of ours that it holds.
        let (to, entry) = unsafe { (Str::from_raw(to), values::entry(value)) };
        copied(entry, None, to, None)
    })
}

unsafe extern "C" fn copy2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> *mut c_void {
    catch_panic("copy", ptr::null_mut(), || {
        // SAFETY: `ctx` is valid during the callback, and so is the name it gives.
        let to = server_may!(RedisModule_GetToKeyNameFromOptCtx).and_then(|name| unsafe { Str::from_raw(name(ctx)) });
        // SAFETY: as above.
        let source = server_may!(RedisModule_GetKeyNameFromOptCtx).and_then(|name| unsafe { Str::from_raw(name(ctx)) });
        // SAFETY: the server hands over a value of ours that it holds.
        let entry = unsafe { values::entry(value) };
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
        invalidations().index_copy(db, name.bytes(), &mut copy.as_mut(), clock_now());
    }
    values::into_raw(copy).as_ptr()
}

unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut raw::RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    catch_panic("defrag", (), || {
        let Some(alloc) = server_may!(RedisModule_DefragAlloc) else { return };
        // SAFETY: `ctx` and `value` are valid during the callback; the entry is one allocation and its pointer the
        // allocation's start, so what the server moves it to is the entry.
        unsafe {
            let moved = alloc(ctx, *value);
            if !moved.is_null() {
                *value = moved;
                DEFRAGMENTED.fetch_add(1, Relaxed);
            }
        }
    });
    0 // done
}
