//! Lines in the server's log. The message is never the format: a `%s` in a key would be undefined behaviour.

use std::ffi::{CStr, CString};
use std::ptr;

use redis_module::raw;

/// Writes a warning.
pub(super) fn warning(message: &str) {
    write(c"warning", message);
}

fn write(level: &CStr, message: &str) {
    let text = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // SAFETY: a null context is allowed; level, format and text are C strings, and the format takes one `%s`.
    unsafe {
        if let Some(log) = raw::RedisModule_Log {
            log(ptr::null_mut(), level.as_ptr(), c"<smartcache> %s".as_ptr(), text.as_ptr());
        }
    }
}
