//! Helpers for tests of leases: parsed answers of `GETLOCK`, parked clients, and checks that none is left.

use super::{Conn, Reply, Server, wait_until};

/// The five fields of an answer of `GETLOCK`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) state: String,
    pub(crate) value: Reply,
    pub(crate) token: Option<String>,
    pub(crate) fresh_ms: i64,
    pub(crate) lease_ms: i64,
}

impl Got {
    #[track_caller]
    pub(crate) fn of(reply: &Reply) -> Got {
        let [state, value, token, fresh_ms, lease_ms] = reply.array() else {
            panic!("an array of five was expected, not {reply}");
        };
        Got {
            state: state.text(),
            value: value.clone(),
            token: (!token.is_nil()).then(|| token.text()),
            fresh_ms: fresh_ms.int(),
            lease_ms: lease_ms.int(),
        }
    }

    /// The token; panics without one.
    #[track_caller]
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_else(|| panic!("a token was expected: {self:?}"))
    }

    /// State, value as text, and whether there is a token: `HIT v`, `MISS +`, `STALE v +`, `BUSY`.
    pub(crate) fn brief(&self) -> String {
        let mut text = self.state.clone();
        if !self.value.is_nil() {
            text += &format!(" {}", self.value.text());
        }
        if self.token.is_some() {
            text += " +";
        }
        text
    }
}

impl Conn {
    /// `SMARTCACHE.GETLOCK` with these arguments.
    #[track_caller]
    pub(crate) fn getlock(&mut self, words: &str) -> Got {
        Got::of(&self.call(&format!("SMARTCACHE.GETLOCK {words}")))
    }

    /// Sends `SMARTCACHE.GETLOCK` with these arguments without waiting for the answer.
    #[track_caller]
    pub(crate) fn send_getlock(&mut self, words: &str) {
        let line = super::resp::split(&format!("SMARTCACHE.GETLOCK {words}"));
        let line: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
        self.send(&line).expect("it is sent");
    }

    /// The answer to a `GETLOCK` that was sent before.
    #[track_caller]
    pub(crate) fn got(&mut self) -> Got {
        Got::of(&self.receive().expect("an answer"))
    }

    /// The server's id of this connection.
    #[track_caller]
    pub(crate) fn id(&mut self) -> i64 {
        self.call("CLIENT ID").int()
    }
}

impl Server {
    #[track_caller]
    pub(crate) fn getlock(&self, words: &str) -> Got {
        Got::of(&self.call(&format!("SMARTCACHE.GETLOCK {words}")))
    }

    /// `SMARTCACHE.SET key value TOKEN token`
    #[track_caller]
    pub(crate) fn fill(&self, key: &str, value: &str, token: &str) -> String {
        self.call_args(super::args!["SMARTCACHE.SET", key, value, "TOKEN", token]).text()
    }

    /// Parks `count` connections with `GETLOCK` and the arguments for each number; in this order in the queue.
    #[track_caller]
    pub(crate) fn park(&self, count: usize, words: impl Fn(usize) -> String) -> Vec<Conn> {
        let before = self.stat("waiters");
        let mut conns: Vec<Conn> = (0..count).map(|_| self.connect()).collect();
        for (i, conn) in conns.iter_mut().enumerate() {
            conn.send_getlock(&words(i));
            // The order of waiters matters to most tests: each is parked before the next.
            if i < 8 {
                self.wait_for_waiters(before + i as i64 + 1);
            }
        }
        self.wait_for_waiters(before + count as i64);
        conns
    }

    #[track_caller]
    pub(crate) fn wait_for_waiters(&self, count: i64) {
        wait_until(&format!("{count} are parked"), || self.stat("waiters") == count);
    }

    /// No waiters, no leases, and no blocked clients.
    #[track_caller]
    pub(crate) fn assert_quiet(&self) {
        wait_until("nobody waits", || self.stat("waiters") == 0);
        wait_until("nobody loads", || self.stat("leases") == 0);
        wait_until("the server has blocked nobody", || self.info("blocked_clients") == "0");
        self.assert_counts_add_up();
    }

    /// The equations between counters that must always hold.
    #[track_caller]
    pub(crate) fn assert_counts_add_up(&self) {
        let stats = self.ok("SMARTCACHE.STATS");
        let sum = |names: &[&str]| names.iter().map(|name| stats.field(name).int()).sum::<i64>();
        let ends = ["fills", "fills_stale", "fills_lost", "fills_failed", "leases_released", "leases_voided"];
        for (whole, parts) in [
            ("requests", &["hits", "stale_hits", "absent_hits", "misses", "busy"][..]),
            ("misses", &["misses_cold", "misses_expired", "misses_invalidated", "misses_evicted"]),
            ("leases_granted", &[&ends[..], &["leases_expired", "leases"]].concat()),
            ("waits", &["waits_served", "waits_promoted", "waits_timed_out", "waits_dropped"]),
        ] {
            assert_eq!(stats.field(whole).int(), sum(parts), "{whole} is not the sum of its parts\n{stats}");
        }
    }
}

/// The number of connections a test may open, at most `wanted`; raises the limit of open files to the maximum.
pub(crate) fn crowd(wanted: usize) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to and to read from.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
    }
    // Other tests run in parallel; each connection takes one file in this process and one in the server.
    wanted.min((limit.rlim_cur as usize).saturating_sub(400) / 2)
}
