//! Tests that a server cannot pass are skipped with a reason, and counted.

use std::io::Write;
use std::sync::Mutex;

use super::Server;

/// `skip!(s, "it was built without active defragmentation")`: ends the test, and records server and reason.
macro_rules! skip {
    ($server:expr, $($why:tt)*) => {{
        $crate::support::skip::note(&$server, &format!($($why)*));
        return;
    }};
}
pub(crate) use skip;

static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(crate) fn note(server: &Server, why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let mut skipped = SKIPPED.lock().unwrap_or_else(|e| e.into_inner());
    if skipped.is_empty() {
        // SAFETY: `report` is a plain function that lives as long as the program, and does not unwind.
        unsafe { libc::atexit(report) };
    }
    skipped.push(format!("{test}: {}: {why}", server.name()));
}

/// Prints after the last line of the test harness, which hides the output of passing tests.
extern "C" fn report() {
    let skipped = SKIPPED.lock().unwrap_or_else(|e| e.into_inner());
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "skipped on this server: {}", skipped.len());
    for line in skipped.iter() {
        let _ = writeln!(err, "  {line}");
    }
}
