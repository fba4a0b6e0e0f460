//! Settings by `CONFIG GET/SET/REWRITE`, in the server's file, and as `loadmodule` arguments.
//!
//! Every setting is registered as a string: durations carry units, and `config.rs` alone decides what is allowed. A
//! module argument becomes the setting's *default*: so a line in the file wins over it, and `CONFIG REWRITE` does not
//! write it a second time.

use std::cell::{Cell, LazyCell, RefCell};
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use redis_module::raw;

use super::ffi::{Ctx, OwnedStr, Str, server};
use super::main_thread::MainThread;
use super::panic::catch_panic;
use super::state::with_state;
use crate::config::{self, SETTINGS, Settings};

/// The last replies to `CONFIG GET`, one for each setting: the server does not free them.
static SHOWN: MainThread<LazyCell<RefCell<Vec<Option<OwnedStr>>>>> =
    MainThread::new(LazyCell::new(|| RefCell::new(SETTINGS.iter().map(|_| None).collect())));

/// Whether the settings of file and arguments are set: from then on `CONFIG SET` sets them.
static LOADED: MainThread<Cell<bool>> = MainThread::new(Cell::new(false));

/// Registers all settings, with the module's arguments as their defaults, and loads the values of the file.
pub(super) fn register(ctx: Ctx<'_>, args: &[Str<'_>]) -> Result<(), String> {
    let defaults = from_arguments(args)?;
    for (index, setting) in SETTINGS.iter().enumerate() {
        let name = CString::new(setting.name).map_err(|e| e.to_string())?;
        let default = CString::new(defaults[index].as_str()).map_err(|e| e.to_string())?;
        // SAFETY: the context is that of the load; the server copies name and default.
        let status = unsafe {
            server!(RedisModule_RegisterStringConfig)(
                ctx.as_ptr(),
                name.as_ptr(),
                default.as_ptr(),
                raw::REDISMODULE_CONFIG_DEFAULT,
                Some(get),
                Some(set),
                None,
                index as *mut c_void,
            )
        };
        if status != raw::REDISMODULE_OK as c_int {
            return Err(format!("the server refused the setting {}", setting.name));
        }
    }
    // SAFETY: the context is that of the load.
    if unsafe { server!(RedisModule_LoadConfigs)(ctx.as_ptr()) } != raw::REDISMODULE_OK as c_int {
        return Err("a setting in the server's configuration is wrong, see the line above".into());
    }
    LOADED.get().set(true);
    Ok(())
}

/// The defaults of all settings, after `NAME value …` have changed some of them.
fn from_arguments(args: &[Str<'_>]) -> Result<Vec<String>, String> {
    let mut settings = Settings::default();
    for pair in args.chunks(2) {
        let name = String::from_utf8_lossy(pair[0].bytes());
        let bare = name.strip_prefix("smartcache.").unwrap_or(&name);
        let setting = config::setting(bare.as_bytes());
        let setting = setting.ok_or_else(|| format!("module argument '{name}': there is no such setting"))?;
        let value = pair.get(1).ok_or_else(|| format!("module argument '{name}' lacks its value"))?;
        setting.set(&mut settings, value.bytes()).map_err(|why| format!("module argument '{name}': {why}"))?;
    }
    Ok(SETTINGS.iter().map(|setting| setting.get(&settings)).collect())
}

unsafe extern "C" fn get(_name: *const c_char, index: *mut c_void) -> *mut raw::RedisModuleString {
    catch_panic("CONFIG GET", ptr::null_mut(), || {
        let index = index as usize;
        let text = with_state(|state| SETTINGS[index].get(&state.settings));
        let shown = OwnedStr::new(text.as_bytes());
        let ptr = shown.borrow().as_ptr();
        SHOWN.get().borrow_mut()[index] = Some(shown);
        ptr
    })
}

unsafe extern "C" fn set(
    _name: *const c_char,
    value: *mut raw::RedisModuleString,
    index: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    let failed = raw::REDISMODULE_ERR as c_int;
    catch_panic("CONFIG SET", failed, || {
        // SAFETY: the server's string lives until we return.
        let Some(value) = (unsafe { Str::from_raw(value) }) else { return failed };
        let name = SETTINGS[index as usize].name.as_bytes();
        let outcome = with_state(|state| match LOADED.get().get() {
            true => state.set_setting(name, value.bytes()),
            false => state.load_setting(name, value.bytes()),
        });
        match outcome {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(why) => {
                if !error.is_null() {
                    // SAFETY: the server gives room for one string, and frees it.
                    unsafe { *error = OwnedStr::new(why.as_bytes()).into_raw() };
                }
                failed
            }
        }
    })
}
