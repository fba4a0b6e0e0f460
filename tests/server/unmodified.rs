//! Unmodified clients: the server's own commands on keys of NATIVE rules. Whatever such a client sends, it gets the
//! answer of a server that does not have the module.
//!
//! ```text
//!  the same commands ─┬─▶ with the module, RULE SET all MATCH * NATIVE ─┬─▶ the same answers, in RESP2 and RESP3
//!                     └─▶ without the module                           ─┘
//! ```

mod herds;
mod leaving;
mod locks;
mod places;
mod strings;
mod structures;

use crate::support::resp::split;
use crate::support::{Conn, Reply, Server};

/// A server with the module and NATIVE keys, and one without the module.
pub(crate) struct Twins {
    pub(crate) native: Server,
    pub(crate) plain: Server,
    protocol: u8,
    conns: Vec<[Conn; 2]>,
}

impl Twins {
    /// All keys are NATIVE.
    #[track_caller]
    pub(crate) fn start() -> Twins {
        Twins::with("", "MATCH *")
    }

    /// Keys are NATIVE by the words of a rule; `conf` is for both servers.
    #[track_caller]
    pub(crate) fn with(conf: &str, rule: &str) -> Twins {
        let native = Server::with(&format!("smartcache.sweep-effort 0\n{conf}"));
        native.ok(&format!("SMARTCACHE.RULE SET all {rule} NATIVE"));
        let plain = Server::setup().without_module().conf(conf).start();
        let mut twins = Twins { native, plain, protocol: 2, conns: Vec::new() };
        twins.reconnect(2);
        twins
    }

    /// New connections that speak this protocol.
    #[track_caller]
    fn reconnect(&mut self, protocol: u8) {
        self.protocol = protocol;
        self.conns.clear();
        self.connection(0);
    }

    /// The connections of this number to both servers.
    #[track_caller]
    fn connection(&mut self, number: usize) -> &mut [Conn; 2] {
        while self.conns.len() <= number {
            let pair = [&self.native, &self.plain].map(|s| if self.protocol == 3 { s.connect3() } else { s.connect() });
            self.conns.push(pair);
        }
        &mut self.conns[number]
    }

    /// What both servers answer. `2> GET k` is sent over the connection with the number 2.
    #[track_caller]
    pub(crate) fn answers(&mut self, line: &str) -> [Reply; 2] {
        let (number, line) = match line.split_once("> ") {
            Some((number, line)) if number.len() == 1 => (number.parse().expect("a number"), line),
            _ => (0, line),
        };
        let words = split(line);
        let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
        self.connection(number).each_mut().map(|conn| conn.call_args(&words))
    }

    /// Plays a script on both, in RESP2 and in RESP3, and compares all answers.
    #[track_caller]
    pub(crate) fn same(&mut self, script: &str) {
        let mut differ = Vec::new();
        for protocol in [2, 3] {
            self.reconnect(protocol);
            self.answers("FLUSHALL");
            for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let [native, plain] = self.answers(line);
                if !alike(line, &native, &plain) {
                    differ.push(format!("RESP{protocol} > {line}\nplain:  {plain}\nnative: {native}"));
                }
            }
        }
        assert!(differ.is_empty(), "on {} the answers differ:\n{}", self.native.name(), differ.join("\n"));
    }
}

/// Equal; but times that are left may differ by what a busy machine takes.
pub(crate) fn alike(line: &str, native: &Reply, plain: &Reply) -> bool {
    let line = line.split_once("> ").map_or(line, |(_, line)| line).to_ascii_uppercase();
    let within = match line.split(' ').next().unwrap_or_default() {
        "TTL" | "EXPIRETIME" => 30,
        "PTTL" | "PEXPIRETIME" => 30_000,
        _ => 0,
    };
    match (native, plain) {
        (Reply::Int(native), Reply::Int(plain)) => {
            native.abs_diff(*plain) <= within && native.signum() == plain.signum()
        }
        _ => native == plain,
    }
}
