//! Random histories: commands of clients and operators, and the passing of time.
//!
//! Few keys, short times and small numbers make steps interact.

use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::naive::{Condition, Lifetime, Rule, StoreOptions};

pub(super) const KEYS: [&str; 6] = ["a:1", "a:2", "b:1", "b:2", "c", ""];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Set(&'static str, Bytes, StoreOptions),
    Absent(&'static str, Lifetime, Vec<&'static str>),
    Mset(Vec<(&'static str, Bytes)>, StoreOptions),
    Touch(&'static str, Lifetime),
    Del(Vec<&'static str>),
    Stale(Vec<&'static str>),
    /// The server's own `SET`, with a `PX` or without.
    PlainSet(&'static str, Option<u64>),
    /// The server's own `RPUSH`.
    PlainList(&'static str),
    /// The server's own `PEXPIRE`.
    Pexpire(&'static str, u64),
    /// `DUMP` of one key and `RESTORE` to another, as if from another node.
    Restore(&'static str, &'static str),
    RuleSet(Rule),
    RuleDel(&'static str),
    Config(&'static str, &'static str),
    Advance(u64),
    SetClockBack(u64),
    RunWorkers,
    ReapTags,
    /// `INVALIDATE` of a tag or `ALL`; soft at most once per history, since a second one would restart the windows.
    Invalidate(Option<&'static str>, bool),
    Sweep,
    ResetStat,
}

/// A value with a short debug format.
#[derive(Clone)]
pub(super) struct Bytes(pub(super) Vec<u8>);

/// Steps, printed one per line.
pub(super) struct History(pub(super) Vec<Step>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [first, rest @ ..] if rest.len() > 20 && rest.iter().all(|byte| byte == first) => {
                write!(f, "{} × \"{}\"", self.0.len(), [*first].escape_ascii())
            }
            bytes => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "\n  {step:?}"))
    }
}

/// The steps of a history.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Values are stored plain: the history is about time.
    Plain,
    /// Values are compressed, synchronously and by workers.
    Packed,
}

pub(super) fn history(kind: Kind) -> impl Strategy<Value = History> {
    vec(step(kind), 1..40).prop_map(History)
}

fn step(kind: Kind) -> impl Strategy<Value = Step> {
    let config = match kind {
        Kind::Plain => config().boxed(),
        Kind::Packed => prop_oneof![config(), codec_config()].boxed(),
    };
    prop_oneof![
        8 => (key(), value(), options(kind)).prop_map(|(key, value, options)| Step::Set(key, value, options)),
        2 => (key(), lifetime(), tags()).prop_map(|(key, lifetime, tags)| Step::Absent(key, lifetime, tags)),
        2 => (vec((key(), value()), 1..4), options(kind)).prop_map(|(pairs, options)| Step::Mset(pairs, options)),
        2 => (key(), lifetime()).prop_map(|(key, lifetime)| Step::Touch(key, lifetime)),
        2 => vec(key(), 1..4).prop_map(Step::Del),
        3 => vec(key(), 1..4).prop_map(Step::Stale),
        1 => (key(), option::of(ms())).prop_map(|(key, ms)| Step::PlainSet(key, ms)),
        1 => key().prop_map(Step::PlainList),
        2 => (key(), ms()).prop_map(|(key, ms)| Step::Pexpire(key, ms)),
        2 => (key(), key()).prop_map(|(from, to)| Step::Restore(from, to)),
        2 => rule().prop_map(Step::RuleSet),
        1 => select(vec!["r1", "r2", "r3"]).prop_map(Step::RuleDel),
        2 => config,
        6 => (0..8_000_u64).prop_map(Step::Advance),
        1 => (1..20_000_u64).prop_map(Step::SetClockBack),
        2 => Just(Step::RunWorkers),
        1 => Just(Step::ReapTags),
        2 => (option::weighted(0.8, select(vec!["x", "y", "t:1", "unused"])), any::<bool>())
            .prop_map(|(tag, soft)| Step::Invalidate(tag, soft)),
        1 => Just(Step::Sweep),
        1 => Just(Step::ResetStat),
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    select(&KEYS[..])
}

fn ms() -> impl Strategy<Value = u64> {
    prop_oneof![1..10_000_u64, Just(1)]
}

/// Empty, short, compressible and incompressible values.
fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        (any::<u8>(), 20..2_000_usize).prop_map(|(byte, len)| vec![byte; len]),
        vec(any::<u8>(), 60..300),
    ]
    .prop_map(Bytes)
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        Just(Lifetime::Default),
        ms().prop_map(Lifetime::Base),
        ms().prop_map(Lifetime::In),
        (-2_000..6_000_i64).prop_map(Lifetime::At),
        Just(Lifetime::Persist),
    ]
}

fn tags() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(vec!["x", "y", "t:1"]), 0..3)
}

fn options(kind: Kind) -> impl Strategy<Value = StoreOptions> {
    let codecs = match kind {
        Kind::Plain => vec![None],
        Kind::Packed => vec![None, Some("none"), Some("gzip"), Some("zstd"), Some("lz4"), Some("auto")],
    };
    let condition = option::weighted(0.3, select(vec![Condition::Nx, Condition::Xx]));
    (lifetime(), option::of(0..5_000_u64), option::of(0..5_000_u64), condition, tags(), select(codecs)).prop_map(
        |(lifetime, swr, sie, condition, tags, codec)| StoreOptions { lifetime, swr, sie, condition, tags, codec },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let times = vec(option::of(ms()), 6);
    let of = (select(vec!["r1", "r2", "r3"]), select(vec!["a:", "b:", ""]));
    let more = (option::of(1..6_u64), option::of(any::<bool>()), any::<bool>());
    (of, times, more).prop_map(|((name, prefix), times, (scale_in_halves, jitter, tags))| {
        let (min, max) = match (times[0], times[1]) {
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
            other => other,
        };
        let (ttl, swr, sie, negative) = (times[2], times[3], times[4], times[5]);
        Rule { number: 0, name, prefix, ttl, scale_in_halves, min, max, jitter, swr, sie, negative, tags }
    })
}

fn config() -> impl Strategy<Value = Step> {
    select(vec![
        ("default-ttl", "3600"),
        ("default-ttl", "2"),
        ("default-ttl", "0"),
        ("max-ttl", "0"),
        ("max-ttl", "4"),
        ("negative-ttl", "60"),
        ("negative-ttl", "1.5"),
        ("swr", "0"),
        ("swr", "3"),
        ("sie", "0"),
        ("sie", "2.5"),
        ("jitter", "0"),
        ("jitter", "50%"),
        ("max-value", "512mb"),
        ("max-value", "250"),
    ])
    .prop_map(|(name, value)| Step::Config(name, value))
}

/// Settings of how values are stored, which readers do not notice.
fn codec_config() -> impl Strategy<Value = Step> {
    select(vec![
        ("codec", "auto"),
        ("codec", "none"),
        ("codec", "gzip"),
        ("codec", "lz4"),
        ("min-size", "64"),
        ("min-size", "0"),
        ("offload-size", "100"),
        ("offload-size", "1kb"),
        ("offload-size", "64kb"),
    ])
    .prop_map(|(name, value)| Step::Config(name, value))
}
