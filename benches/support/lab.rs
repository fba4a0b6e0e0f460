//! What every bench needs around its measurement: CPU pinning, a control connection, names for the report.

use std::{collections::BTreeMap, path::Path, sync::OnceLock, thread, time::Duration};

use core_affinity::CoreId;
use redis::{Client, Connection, cmd};

use super::{
    machine,
    server::{Result, Server},
};

/// The number of cores this process may use.
pub(crate) fn cores() -> usize {
    all_cores().len()
}

/// Runs this thread, and the processes it starts from now on, on core `n` alone; false where there is but one core.
pub(crate) fn pin(n: usize) -> bool {
    all_cores().len() > 1 && core_affinity::set_for_current(all_cores()[n])
}

/// Determined once: a pinned thread sees only its own core.
fn all_cores() -> &'static [CoreId] {
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Reports on standard error what is measured now.
pub(crate) fn progress(text: &str) {
    eprintln!("bench: {text} …");
}

/// A connection for commands that are not measured.
pub(crate) fn connect(server: &Server) -> Result<Connection> {
    Ok(Client::open(format!("unix://{}", server.socket().display()))?.get_connection()?)
}

/// One field of `INFO section`, empty where the server does not have it.
pub(crate) fn info(con: &mut Connection, section: &str, name: &str) -> String {
    let text: String = cmd("INFO").arg(section).query(con).unwrap_or_default();
    let field = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    field.unwrap_or_default().trim().to_owned()
}

/// The calls of each command since `CONFIG RESETSTAT`, without those of the bench itself.
pub(crate) fn commands(con: &mut Connection) -> Result<BTreeMap<String, u64>> {
    const IGNORED: [&str; 8] = ["info", "config", "client", "hello", "select", "command", "auth", "latency"];
    let text: String = cmd("INFO").arg("commandstats").query(con)?;
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let Some((name, rest)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls=")) else {
            continue;
        };
        if !IGNORED.contains(&name.split('|').next().unwrap_or_default()) {
            calls.insert(name.to_uppercase(), rest.split(',').next().unwrap_or_default().parse()?);
        }
    }
    Ok(calls)
}

pub(crate) fn used_memory(con: &mut Connection) -> Result<f64> {
    Ok(info(con, "memory", "used_memory").parse()?)
}

/// `used_memory` once it no longer changes: connection buffers and old hash tables are freed with a delay.
pub(crate) fn used_memory_at_rest(con: &mut Connection) -> Result<f64> {
    let mut last = 0.0;
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(60));
        let now = used_memory(con)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// The server's name and version.
pub(crate) fn server_name(con: &mut Connection) -> String {
    match info(con, "server", "valkey_version") {
        version if version.is_empty() => format!("Redis {}", info(con, "server", "redis_version")),
        version => format!("Valkey {version}"),
    }
}

/// How the module was built, and from which commit.
pub(crate) fn module_name(path: &Path) -> String {
    let built = if path.components().any(|part| part.as_os_str() == "release") { "release" } else { "unknown" };
    let commit = machine::commit();
    format!("{built} build{}{commit}", if commit.is_empty() { "" } else { ", commit " })
}
