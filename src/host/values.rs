//! Entries as the server keeps them: one thin pointer each.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use redis_module::raw;

use super::ffi::server;
use super::state::LIVE;
use crate::cache::entry::{self, Entry, EntryMut, EntryRef, HEADER};

/// The server's `moduleValue`: type and pointer.
const SERVER_BOX: usize = 16;

static TYPE: AtomicPtr<raw::RedisModuleType> = AtomicPtr::new(ptr::null_mut());

/// The type, as the server knows it; null until it is registered.
pub(super) fn type_ptr() -> *mut raw::RedisModuleType {
    TYPE.load(Relaxed)
}

/// Keeps the handle of our type.
///
/// # Safety
/// `made` is null or the type that the server has made for our entries.
pub(super) unsafe fn set_type(made: *mut raw::RedisModuleType) {
    TYPE.store(made, Relaxed);
}

/// Turns an entry into the pointer that the server keeps.
pub(super) fn into_raw(entry: Entry) -> NonNull<c_void> {
    LIVE.on_alloc(entry.as_ref());
    NonNull::from(Box::leak(entry.into_bytes())).cast()
}

/// Takes the entry behind a pointer of [`into_raw`] back.
///
/// # Safety
/// `value` came from `into_raw`, and nobody refers to it any more.
pub(super) unsafe fn from_raw(value: NonNull<c_void>) -> Entry {
    // SAFETY: the box of `into_raw`, rebuilt with the length it was made with (it follows from the header, and no
    // change of a header changes it).
    let entry = Entry::from_bytes(unsafe {
        let len = entry::allocation_len(value.cast::<[u8; HEADER]>().as_ref());
        Box::from_raw(ptr::slice_from_raw_parts_mut(value.cast().as_ptr(), len))
    });
    LIVE.on_free(entry.as_ref());
    entry
}

/// The entry behind a pointer of [`into_raw`].
///
/// # Safety
/// `value` came from `into_raw`, is not freed, and stays unchanged for `'a`.
pub(super) unsafe fn entry<'a>(value: *const c_void) -> EntryRef<'a> {
    // SAFETY: every entry has at least `HEADER` bytes, which hold its length.
    unsafe {
        let header = &*value.cast::<[u8; HEADER]>();
        EntryRef::from_bytes(slice::from_raw_parts(value.cast(), entry::allocation_len(header)))
    }
}

/// The same, to change.
///
/// # Safety
/// As [`entry()`], and nobody else refers to the entry for `'a`.
pub(super) unsafe fn entry_mut<'a>(value: *mut c_void) -> EntryMut<'a> {
    // SAFETY: as in `entry`.
    unsafe {
        let len = entry::allocation_len(&*value.cast::<[u8; HEADER]>());
        EntryMut::from_bytes(slice::from_raw_parts_mut(value.cast(), len))
    }
}

/// The memory of an entry in the keyspace: its allocation as the allocator rounds it, and the server's box for it.
///
/// # Safety
/// `value` came from `into_raw` and is not freed.
pub(super) unsafe fn memory(value: *const c_void) -> usize {
    // SAFETY: an allocation of ours is one of the server's allocator.
    let size = unsafe {
        match cfg!(feature = "system-alloc") {
            true => libc::malloc_usable_size(value.cast_mut()),
            false => server!(RedisModule_MallocSize)(value.cast_mut()),
        }
    };
    size + SERVER_BOX
}
