//! Takes what the server loads and drops at once out of the tag index again.
//!
//! An entry is indexed as it is loaded, since the server does not report when it has put it under its key. But it may
//! drop it: the key has expired (`RESTORE` with a time that is over, a file), or the payload ends wrongly behind it.
//! Then it calls the type's `free` at once, on the main thread and without `unlink`. An entry that got under a key
//! leaves it by `unlink`, or by a flush, which empties the index first.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use super::ffi::{Io, Str};
use super::main_thread::MainThread;
use super::state::invalidations;
use crate::cache::entry::EntryRef;
use crate::cache::invalidation::marks::Invalidations;
use crate::cache::stats::live::Live;

/// The entry loaded last.
pub(super) static JUST_LOADED: MainThread<JustLoaded> = MainThread::new(JustLoaded::new());

/// An entry that the server may yet drop.
pub(super) struct JustLoaded(RefCell<Loaded>);

struct Loaded {
    /// Where it is, only to be compared; null for none.
    value: *const c_void,
    db: i32,
    name: Vec<u8>,
    /// Where it is indexed and counted, if it is loaded beside the data set that is served.
    beside: Option<(Rc<Invalidations>, Arc<Live>)>,
}

impl JustLoaded {
    const fn new() -> Self {
        JustLoaded(RefCell::new(Loaded { value: ptr::null(), db: 0, name: Vec::new(), beside: None }))
    }

    /// The server has got this value.
    pub(super) fn loaded(&self, value: *const c_void, io: Io<'_>, beside: Option<(Rc<Invalidations>, Arc<Live>)>) {
        let mut loaded = self.0.borrow_mut();
        (loaded.value, loaded.beside) = (ptr::null(), beside);
        if let (Some(db), Some(name)) = (io.db(), io.key().map(Str::bytes)) {
            loaded.name.clear();
            loaded.name.extend_from_slice(name);
            (loaded.value, loaded.db) = (value, db);
        }
    }

    /// The server gives up this value.
    pub(super) fn freed(&self, value: *const c_void, entry: EntryRef<'_>) {
        let mut loaded = self.0.borrow_mut();
        if ptr::eq(loaded.value, value) {
            loaded.value = ptr::null();
            match &loaded.beside {
                None => invalidations().unindex_entry(loaded.db, &loaded.name, entry),
                Some((invalidations, live)) => {
                    invalidations.unindex_entry(loaded.db, &loaded.name, entry);
                    live.on_free(entry);
                }
            }
        }
    }

    /// What was loaded is not in the index any more.
    pub(super) fn forget(&self) {
        let mut loaded = self.0.borrow_mut();
        (loaded.value, loaded.beside) = (ptr::null(), None);
    }
}
