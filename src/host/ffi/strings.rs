//! The server's strings.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use redis_module::raw;

use super::calls::{server, server_may};

/// A string of the server: borrowed from `argv`, or from an [`OwnedStr`]. The same bits as the server's own pointer, so
/// that `argv` is a slice of them.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(in crate::host) struct Str<'a>(NonNull<raw::RedisModuleString>, PhantomData<&'a ()>);

/// A string of the server that is ours to free.
#[derive(Debug)]
pub(in crate::host) struct OwnedStr(NonNull<raw::RedisModuleString>);

impl<'a> Str<'a> {
    /// # Safety
    /// `ptr` is null or a string of the server that lives for `'a`.
    pub(in crate::host) unsafe fn from_raw(ptr: *const raw::RedisModuleString) -> Option<Self> {
        NonNull::new(ptr.cast_mut()).map(|ptr| Str(ptr, PhantomData))
    }

    /// The words of a command or the arguments of the module.
    ///
    /// # Safety
    /// `argv` points to `argc` strings of the server that live for `'a`.
    pub(in crate::host) unsafe fn slice(
        argv: *mut *mut raw::RedisModuleString,
        argc: std::ffi::c_int,
    ) -> &'a [Str<'a>] {
        match usize::try_from(argc) {
            // SAFETY: the caller's duty; a `Str` is a non-null pointer to a string, and so is each element.
            Ok(count) if count > 0 => unsafe { slice::from_raw_parts(argv.cast::<Str<'a>>(), count) },
            _ => &[],
        }
    }

    pub(in crate::host) fn as_ptr(self) -> *mut raw::RedisModuleString {
        self.0.as_ptr()
    }

    pub(in crate::host) fn bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string lives for 'a (`from_raw`), and nobody changes a string that a module holds.
        unsafe {
            let bytes = server!(RedisModule_StringPtrLen)(self.0.as_ptr(), &mut len);
            slice::from_raw_parts(bytes.cast(), len)
        }
    }
}

impl OwnedStr {
    /// A string that the server has made for us.
    ///
    /// # Safety
    /// `ptr` is null or a string that is ours to free, not freed automatically.
    pub(in crate::host) unsafe fn from_raw(ptr: *mut raw::RedisModuleString) -> Option<Self> {
        NonNull::new(ptr).map(OwnedStr)
    }

    /// A copy of `bytes`. Made without a context: nothing is freed automatically.
    pub(in crate::host) fn new(bytes: &[u8]) -> Self {
        // SAFETY: the bytes are copied; a null context is allowed and means that we free the string ourselves.
        let ptr = unsafe { server!(RedisModule_CreateString)(ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) };
        OwnedStr(NonNull::new(ptr).expect("the server ends itself rather than give no string"))
    }

    /// The same string, held: not a copy.
    pub(in crate::host) fn hold(string: Str<'_>) -> Self {
        // SAFETY: the string is valid; a null context is allowed and means that we free it ourselves.
        let held = server_may!(RedisModule_HoldString).map(|hold| unsafe { hold(ptr::null_mut(), string.as_ptr()) });
        held.and_then(NonNull::new).map_or_else(|| OwnedStr::new(string.bytes()), OwnedStr)
    }

    pub(in crate::host) fn borrow(&self) -> Str<'_> {
        Str(self.0, PhantomData)
    }

    /// Gives the string away: the server frees it.
    pub(in crate::host) fn into_raw(self) -> *mut raw::RedisModuleString {
        let ptr = self.0.as_ptr();
        std::mem::forget(self);
        ptr
    }
}

impl Drop for OwnedStr {
    fn drop(&mut self) {
        // SAFETY: owned by us, and not used any more.
        unsafe { server!(RedisModule_FreeString)(ptr::null_mut(), self.0.as_ptr()) }
    }
}
