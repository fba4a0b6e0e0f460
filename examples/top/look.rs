//! What one look at the server has found.

use serde_json::{Map, Value};

/// Over what the numbers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// The time between two looks.
    Now,
    /// What the server calls a window.
    Minute,
    FiveMinutes,
    Hour,
    /// Since start or reset.
    All,
}

impl Span {
    /// What `STATS` is told.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Span::Now | Span::All => &[],
            Span::Minute => &["WINDOW", "1m"],
            Span::FiveMinutes => &["WINDOW", "5m"],
            Span::Hour => &["WINDOW", "1h"],
        }
    }

    /// What a person is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Span::Now => "last second",
            Span::Minute => "last minute",
            Span::FiveMinutes => "last 5 minutes",
            Span::Hour => "last hour",
            Span::All => "since start or reset",
        }
    }

    /// The one that follows.
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
    /// A field; 0 where a later or earlier server does not have it.
    pub(crate) fn of(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }
}

/// What one look has found.
pub(crate) struct Look {
    /// Over what the numbers are.
    pub(crate) span: Span,
    /// Those of the node.
    pub(crate) whole: Numbers,
    /// Those of each rule, in the server's order.
    pub(crate) rules: Vec<(String, Numbers)>,
    /// The keys that are asked for most, or why they are not told.
    pub(crate) hot: Result<Vec<HotKey>, String>,
    /// What `SMARTCACHE.HEALTH` says; `None` where there is no such command.
    pub(crate) health: Option<Health>,
    /// What the server says about itself.
    pub(crate) server: ServerInfo,
}

/// A key that is asked for often.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HotKey {
    pub(crate) name: Vec<u8>,
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    /// Its part of all requests, from 0 to 1.
    pub(crate) share: f64,
}

/// What is wrong, in the server's own words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    pub(crate) status: String,
    /// Code and text of each.
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
