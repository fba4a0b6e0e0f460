//! Registers our commands: name, flags, keys, documentation, ACL categories.
//!
//! Everything comes from the [`COMMANDS`] table. Key specifications are a must and not decoration: without them
//! the server takes every key for written, and a user with `%R~app:*` could not even read.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use redis_module::raw;

use super::dispatch::{access_flags, trampoline};
use super::ffi::{Ctx, is_valkey, server, server_may};
use crate::commands::COMMANDS;
use crate::commands::spec::{Arg, Command, Flag, Keys, Kind};

/// The category of our own, where the server lets modules add one (Redis 7.4, Valkey 8.0).
const CATEGORY: &CStr = c"smartcache";

/// Valkey 9 moves no slots while a module is loaded that has not declared its support for that.
const HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;
/// Not in the header of our bindings.
const NO_IMPLICIT_SIGNAL_MODIFIED: u32 = 1 << 1;

/// Text that the server keeps a pointer to, or copies: either way it may stay for the life of the process.
fn text(text: &str) -> *const c_char {
    CString::new(text).map_or(ptr::null(), |text| text.into_raw().cast_const())
}

/// A command's name as the server keeps its own: `COMMAND LIST`, ACLs and errors show it in lower case.
fn lower(name: &str) -> *const c_char {
    text(&name.to_ascii_lowercase())
}

/// Declares what the module supports, by the present configuration.
pub(super) fn options(ctx: Ctx<'_>) {
    // Errors while loading are checked (else diskless replication is off), changes are signalled by hand.
    let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | NO_IMPLICIT_SIGNAL_MODIFIED;
    // A replica that may be written could get a `RESTORE` while it loads beside what it serves
    // (`cache/node/load_beside.rs`), and the server does not tell us which of the two a value is for.
    if ctx.is_set(b"replica-read-only") {
        options |= raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD;
    }
    if is_valkey() {
        options |= HANDLE_ATOMIC_SLOT_MIGRATION;
    }
    if let Some(all) = server_may!(RedisModule_GetModuleOptionsAll) {
        // SAFETY: takes nothing, returns a number.
        options &= unsafe { all() as u32 };
    }
    if let Some(set) = server_may!(RedisModule_SetModuleOptions) {
        // SAFETY: the context is that of the load.
        unsafe { set(ctx.as_ptr(), options as c_int) };
    }
}

/// Registers all commands.
pub(super) fn commands(ctx: Ctx<'_>) -> Result<(), String> {
    let own_category = server_may!(RedisModule_AddACLCategory).is_some_and(|add| {
        // SAFETY: the context is that of the load; a C string.
        unsafe { add(ctx.as_ptr(), CATEGORY.as_ptr()) == raw::REDISMODULE_OK as c_int }
    });
    for (index, command) in COMMANDS.iter().enumerate() {
        let refused = |what: &str| format!("the server refused {what} of {}", command.name);
        let handle = create(ctx, index, command).ok_or_else(|| refused("the creation"))?;
        let mut info = describe(command);
        // SAFETY: the handle is the server's; the description is complete, and all that it points to stays.
        if unsafe { server!(RedisModule_SetCommandInfo)(handle, &mut info) } != raw::REDISMODULE_OK as c_int {
            return Err(refused("the description"));
        }
        if let Some(set) = server_may!(RedisModule_SetCommandACLCategories) {
            let mut names = command.categories();
            if own_category {
                names.push("smartcache");
            }
            // SAFETY: the handle is the server's; a C string.
            if unsafe { set(handle, text(&names.join(" "))) } != raw::REDISMODULE_OK as c_int {
                return Err(refused("the categories"));
            }
        }
    }
    Ok(())
}

fn create(ctx: Ctx<'_>, index: usize, command: &Command) -> Option<*mut raw::RedisModuleCommand> {
    let ok = raw::REDISMODULE_OK as c_int;
    let run = command.run.map(|_| trampoline(index));
    let flags = text(&flags(command));
    // The first/last/step of old are for servers before 7.0; key specifications replace them there.
    if let Some((parent, name)) = command.parent() {
        // SAFETY: the context is that of the load; C strings; the parent stands before its subcommands.
        unsafe {
            let parent = server!(RedisModule_GetCommand)(ctx.as_ptr(), lower(parent));
            if parent.is_null() || server!(RedisModule_CreateSubcommand)(parent, lower(name), run, flags, 0, 0, 0) != ok
            {
                return None;
            }
        }
        // Asked for by its full name: `container|sub`.
        let full = lower(&format!("{parent}|{name}"));
        // SAFETY: as above.
        return Some(unsafe { server!(RedisModule_GetCommand)(ctx.as_ptr(), full) }).filter(|p| !p.is_null());
    }
    // SAFETY: as above.
    unsafe {
        if server!(RedisModule_CreateCommand)(ctx.as_ptr(), lower(command.name), run, flags, 0, 0, 0) != ok {
            return None;
        }
        Some(server!(RedisModule_GetCommand)(ctx.as_ptr(), lower(command.name))).filter(|p| !p.is_null())
    }
}

fn flags(command: &Command) -> String {
    let mut names = Vec::new();
    for flag in command.flags {
        names.push(match flag {
            Flag::Write => "write",
            Flag::ReadOnly => "readonly",
            Flag::DenyOom => "deny-oom",
            Flag::Fast => "fast",
            Flag::Blocking => "blocking",
            Flag::Dangerous => "admin",
            Flag::AllShards | Flag::Internal | Flag::PassedOn => continue,
        });
    }
    if let Keys::CountedPairs(_) | Keys::OfNative(_) = command.keys {
        names.push("getkeys-api"); // see `key_specs`
    }
    names.join(" ")
}

/// A structure of the header whose zeroed value ends a list.
///
/// # Safety
/// It is plain C data: all zeroes are a valid value.
unsafe trait ListItem {}
// SAFETY: numbers, and pointers that may be null.
unsafe impl ListItem for raw::RedisModuleCommandKeySpec {}
// SAFETY: as above.
unsafe impl ListItem for raw::RedisModuleCommandArg {}

/// A list that ends with a zeroed element, and stays for the life of the process.
fn ended<T: ListItem>(mut items: Vec<T>) -> *mut T {
    // SAFETY: all zeroes are a valid value (`ListItem`).
    items.push(unsafe { std::mem::zeroed() });
    Box::leak(items.into_boxed_slice()).as_mut_ptr()
}

fn describe(command: &Command) -> raw::RedisModuleCommandInfo {
    // SAFETY: plain C data; zeroes mean "not given".
    let mut info: raw::RedisModuleCommandInfo = unsafe { std::mem::zeroed() };
    info.version = ptr::from_ref(Box::leak(Box::new(raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
    })));
    info.summary = text(command.summary);
    info.complexity = text(command.complexity);
    info.since = text(command.since);
    info.arity = command.arity;
    if command.has(Flag::AllShards) {
        info.tips = text("request_policy:all_shards response_policy:agg_sum");
    }
    info.key_specs = ended(key_specs(command.keys));
    info.args = ended(command.args.iter().map(argument).collect());
    info
}

fn key_specs(keys: Keys) -> Vec<raw::RedisModuleCommandKeySpec> {
    let (access, find) = match keys {
        Keys::None => return Vec::new(),
        Keys::One(access) => (access, (0, 1)),
        Keys::All(access) => (access, (-1, 1)),
        Keys::CountedPairs(access) => (access, (0, 2)),
        Keys::OfNative(access) => (access, (0, 1)),
    };

    // SAFETY: plain C data; zeroes mean "not given".
    let mut spec: raw::RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
    spec.flags = u64::from(access_flags(access));
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    spec.bs.index.pos = 1;
    if let Keys::CountedPairs(_) = keys {
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM;
        // Redis 7.0 finds only half of the keys of such a specification (it counts steps as keys), and would not
        // ask for permission on the rest. These flags make every server ask us: `dispatch.rs` answers.
        spec.flags |= u64::from(raw::REDISMODULE_CMD_KEY_VARIABLE_FLAGS);
        spec.fk.keynum.keynumidx = 0;
        spec.fk.keynum.firstkey = 1;
        spec.fk.keynum.keystep = 2;
    } else if let Keys::OfNative(_) = keys {
        // The server asks us, and we the server (`dispatch.rs`).
        spec.flags |= u64::from(raw::REDISMODULE_CMD_KEY_VARIABLE_FLAGS | raw::REDISMODULE_CMD_KEY_INCOMPLETE);
        spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_UNKNOWN;
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_OMITTED;
    } else {
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
        spec.fk.range.lastkey = find.0;
        spec.fk.range.keystep = find.1;
        spec.fk.range.limit = 0;
    }
    vec![spec]
}

fn argument(arg: &Arg) -> raw::RedisModuleCommandArg {
    // SAFETY: plain C data; zeroes mean "not given".
    let mut made: raw::RedisModuleCommandArg = unsafe { std::mem::zeroed() };
    made.name = text(arg.name);
    made.type_ = match arg.kind {
        Kind::Key => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY,
        Kind::Text | Kind::Duration => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
        Kind::Integer => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
        Kind::Double => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_DOUBLE,
        Kind::Flag => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN,
        Kind::Pattern => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PATTERN,
        Kind::OneOf => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF,
        Kind::Block => raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK,
    };
    // Our only key specification is the first; other arguments have none.
    made.key_spec_index = if arg.kind == Kind::Key { 0 } else { -1 };
    made.token = arg.token.map_or(ptr::null(), text);
    let mut flags = 0;
    if arg.optional {
        flags |= raw::REDISMODULE_CMD_ARG_OPTIONAL;
    }
    if arg.multiple {
        flags |= raw::REDISMODULE_CMD_ARG_MULTIPLE;
        if arg.token.is_some() {
            flags |= raw::REDISMODULE_CMD_ARG_MULTIPLE_TOKEN;
        }
    }
    made.flags = flags as c_int;
    if !arg.parts.is_empty() {
        made.subargs = ended(arg.parts.iter().map(argument).collect());
    }
    made
}
