//! CPU time of the server and the client from the kernel, and the description of the machine.
//!
//! Two clocks measure the CPU time of the server:
//!
//! - `/proc/PID/schedstat`: nanoseconds on a CPU, user and system, of the **main thread**, where commands run. The
//!   kernel updates it when the thread sleeps, so it is read when the server is idle. Its second number, the time the
//!   thread was runnable but waited for a CPU, shows how disturbed the measurement was.
//! - `/proc/PID/stat`, `utime + stime`: the **whole process** with worker threads, but in ticks of 10 ms. For short
//!   samples the same sum is taken from `/proc/PID/task/*/schedstat` in nanoseconds; the ticks are reported only over
//!   the whole run, to check one clock against the other.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::server::Result;

/// Linux counts `utime` and `stime` in hundredths of a second, whatever its own tick is.
const USER_HZ: u64 = 100;

/// CPU time used so far, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// By the server's main thread.
    pub(crate) main: u64,
    /// By all threads of the server.
    pub(crate) process: u64,
    /// By this thread, which is the client.
    pub(crate) client: u64,
    /// How long the server's main thread was runnable but waited for a CPU.
    pub(crate) waited: u64,
}

impl Cpu {
    /// The time used since `earlier`.
    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            main: self.main - earlier.main,
            process: self.process.saturating_sub(earlier.process), // the time of an ended thread is lost
            client: self.client - earlier.client,
            waited: self.waited - earlier.waited,
        }
    }
}

/// Reads the clocks once the server is idle: after the last reply worker threads may still compress.
pub(crate) fn cpu_at_rest(pid: u32) -> Result<Cpu> {
    const REST: u64 = 100_000; // ns per millisecond: timers may run
    const LIMIT: usize = 500;
    let mut last = 0;
    for _ in 0..LIMIT {
        thread::sleep(Duration::from_millis(1)); // also makes the kernel update this thread's time
        let now = process_time(pid)?;
        if now - last.min(now) < REST {
            break;
        }
        last = now;
    }
    let [main, waited, _] = schedstat(&format!("/proc/{pid}/schedstat"))?;
    let [client, ..] = schedstat("/proc/thread-self/schedstat")?;
    Ok(Cpu { main, process: process_time(pid)?, client, waited })
}

/// `utime + stime` of the whole process in nanoseconds, rounded down to ticks.
pub(crate) fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, and may hold anything; utime is the 14th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |n: usize| -> Result<u64> { Ok(fields.get(n - 3).ok_or("a short /proc/PID/stat")?.parse()?) };
    Ok((field(14)? + field(15)?) * (1_000_000_000 / USER_HZ))
}

fn process_time(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        sum += schedstat(&format!("{}/schedstat", task?.path().display())).map_or(0, |[ran, ..]| ran);
    }
    Ok(sum)
}

/// Nanoseconds that a thread ran, nanoseconds that it waited to run, and the number of its timeslices.
pub(crate) fn schedstat(path: &str) -> Result<[u64; 3]> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e} (the kernel needs CONFIG_SCHED_INFO)"))?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| format!("{path} reads {text:?}").into())
}

/// The processor's name.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
    name.unwrap_or("unknown processor").trim().to_owned()
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The commit that is measured, with `-dirty` when the files differ from it; empty outside a repository.
pub(crate) fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    git.ok().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

/// Today, as `2026-02-28` (UTC).
pub(crate) fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
    // Days since 0000-03-01, so that the leap day is a year's last (Howard Hinnant's `civil_from_days`).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}
