//! The module inside the server, and the only place with `unsafe`. This file holds its entry point.
//!
//! Files here depend on each other in layers, without circles:
//!
//! ```text
//! the server's calls      ffi/  alloc  log
//! our ground              main_thread  clock  state  panic (the guard of every callback)  timer
//! values and replies      values  keys  keyspace  reply  replicate  blocked_clients  caller
//! what runs by itself     blocked  filter  after_command  sweep_timer  sweep_waiters  workers  reemit  pass_on
//! callbacks               dispatch (commands)  bus  sweep  datatype  cluster  events  settings  info
//! ```
//!
//! Loading goes in order: the server's functions, the type, the commands, the settings, events and INFO. What can fail
//! comes first; threads start at their first job.

mod after_command;
#[cfg(not(feature = "system-alloc"))]
mod alloc;
mod blocked;
mod blocked_clients;
mod bus;
mod caller;
mod clock;
mod cluster;
mod datatype;
mod deliver;
mod dispatch;
mod events;
mod ffi;
mod filter;
mod info;
mod just_loaded;
mod keys;
mod keyspace;
mod log;
mod main_thread;
mod panic;
mod pass_on;
mod reemit;
mod register;
mod replicate;
mod reply;
mod settings;
mod state;
mod sweep;
mod sweep_timer;
mod sweep_waiters;
mod timer;
mod unmodified;
mod values;
mod workers;

use std::ffi::c_int;

use redis_module::raw;

use ffi::{Ctx, Str};

/// The module's name: the first part of its settings, its section in INFO.
const NAME: &std::ffi::CStr = c"smartcache";
/// Its version as `MODULE LIST` shows it: 1.2.3 is 10203, 0.1.0 is 100.
const VERSION: c_int = 10_000 * part(env!("CARGO_PKG_VERSION_MAJOR"))
    + 100 * part(env!("CARGO_PKG_VERSION_MINOR"))
    + part(env!("CARGO_PKG_VERSION_PATCH"));

/// A part of the version, as a number.
const fn part(text: &str) -> c_int {
    let (text, mut number, mut at) = (text.as_bytes(), 0, 0);
    while at < text.len() {
        number = 10 * number + (text[at] - b'0') as c_int;
        at += 1;
    }
    assert!(number < 100);
    number
}

/// Called by the server when it loads the module.
///
/// # Safety
/// Only the server calls it, with a valid context and `argc` valid strings.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server's context; the name is a C string. Fills in the function pointers: nothing of ours has
    // allocated before.
    let status =
        unsafe { raw::Export_RedisModule_Init(ctx, NAME.as_ptr(), VERSION, raw::REDISMODULE_APIVER_1 as c_int) };
    if status != raw::REDISMODULE_OK as c_int {
        // The functions are filled in; only the name was refused.
        log::warning(
            "not loaded: a module called smartcache is loaded already. Is it in the configuration file, as a line \
             loadmodule (CONFIG REWRITE writes one), and on the command line, too? Leave out --loadmodule there",
        );
        return status;
    }
    main_thread::enter();
    std::panic::set_hook(Box::new(|panic| log::warning(&format!("{panic}"))));
    // SAFETY: the server's context and its `argc` strings live until we return.
    let (ctx, args) = unsafe { (Ctx::from_raw(ctx), Str::slice(argv, argc)) };
    let loaded = ctx
        .ok_or_else(|| "no context".to_owned())
        .and_then(|ctx| panic::try_run("the load", || load(ctx, args)).unwrap_or_else(|| Err("a panic".into())));
    match loaded {
        Ok(()) => raw::REDISMODULE_OK as c_int,
        Err(why) => {
            log::warning(&format!("not loaded: {why}"));
            raw::REDISMODULE_ERR as c_int
        }
    }
}

fn load(ctx: Ctx<'_>, args: &[Str<'_>]) -> Result<(), String> {
    let missing = ffi::missing();
    if !missing.is_empty() {
        return Err(format!("Redis 7.0 or later, or Valkey 7.2.6 or later, is needed: {}", missing.join(", ")));
    }
    ctx.detach();
    if !datatype::register(ctx) {
        return Err("the server refused the type smrtcache: is another module's of that name loaded?".into());
    }
    register::commands(ctx)?;
    settings::register(ctx, args)?;
    events::subscribe(ctx)?;
    info::register(ctx)?;
    register::options(ctx);
    bus::register(ctx);
    workers::remember();
    caller::read_limits(ctx);
    state::with_state(|state| filter::refresh(state, clock::clock_now()));
    caller::warn_of_renamed_commands(ctx);
    Ok(())
}
