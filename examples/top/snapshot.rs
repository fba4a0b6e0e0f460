//! What one poll of the server returns.

use serde_json::{Map, Value};

/// The time span that the numbers cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// The time between two polls.
    Now,
    /// A window of `STATS`.
    Minute,
    FiveMinutes,
    Hour,
    /// Since start or reset.
    All,
}

impl Span {
    /// The option of `STATS`.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Span::Now | Span::All => &[],
            Span::Minute => &["WINDOW", "1m"],
            Span::FiveMinutes => &["WINDOW", "5m"],
            Span::Hour => &["WINDOW", "1h"],
        }
    }

    /// The name on the screen.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Span::Now => "last second",
            Span::Minute => "last minute",
            Span::FiveMinutes => "last 5 minutes",
            Span::Hour => "last hour",
            Span::All => "since start or reset",
        }
    }

    /// The next one in the cycle of the key `w`.
    pub(crate) fn next(self) -> Span {
        match self {
            Span::Now => Span::Minute,
            Span::Minute => Span::FiveMinutes,
            Span::FiveMinutes => Span::Hour,
            Span::Hour => Span::All,
            Span::All => Span::Now,
        }
    }
}

/// The fields of `STATS`, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(pub(crate) Map<String, Value>);

impl Numbers {
    /// A field; 0 where this version of the module does not have it.
    pub(crate) fn of(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }
}

/// What one poll returns.
pub(crate) struct Snapshot {
    /// The span that the numbers cover.
    pub(crate) span: Span,
    /// The numbers of the node.
    pub(crate) whole: Numbers,
    /// The numbers of each rule, in the server's order.
    pub(crate) rules: Vec<(String, Numbers)>,
    /// The hottest keys, or why they are not available.
    pub(crate) hot: Result<Vec<HotKey>, String>,
    /// The reply of `SMARTCACHE.HEALTH`; `None` where the module lacks the command.
    pub(crate) health: Option<Health>,
    /// Fields of `INFO`.
    pub(crate) server: ServerInfo,
}

/// A hot key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HotKey {
    pub(crate) name: Vec<u8>,
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    /// Its share of all requests, from 0 to 1.
    pub(crate) share: f64,
}

/// The findings of `SMARTCACHE.HEALTH`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    pub(crate) status: String,
    /// Code and text of each reason.
    pub(crate) reasons: Vec<(String, String)>,
}

/// From `INFO`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerInfo {
    /// Its kind and version.
    pub(crate) version: String,
    pub(crate) role: String,
    pub(crate) used_bytes: u64,
    /// 0: no limit.
    pub(crate) max_bytes: u64,
}
