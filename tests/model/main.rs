//! Random histories under a simulated clock. After every step the module's core is compared with an obviously right
//! cache (`naive.rs`) by all commands that read. A replica with a skewed clock and different settings must hold the
//! same data.
//!
//! A failure prints the shortest history that shows it, and its seed is appended to `tests/model/regressions.txt`:
//! commit it. `PROPTEST_CASES=100000` tests more histories.

mod history;
mod invalidation;
mod leases;
mod naive;

use std::collections::BTreeSet;

use history::{Bytes, KEYS, Kind, Step, history};
use naive::{Condition, Content, Entry, Held, Lifetime, NEVER, Naive, Read, State, StoreOptions, WrongType};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use smartcache::cache::entry::format;
use smartcache::cache::invalidation::sweep::Walk;
use smartcache::testing::{TestNode, field_of};

const START: u64 = 1_000_000_000;
const WRONG_TYPE: &str = "(error) WRONGTYPE Operation against a key holding the wrong kind of value";

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model/regressions.txt"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn freshness_follows_rules_and_options(steps in history(Kind::Plain), skew in -5_000..5_000_i64) {
        let mut pair = Pair::new(skew);
        pair.configure("codec", "none");
        steps.0.iter().for_each(|step| pair.apply(step));
        pair.compare_stored_bytes();
    }

    #[test]
    fn compression_does_not_change_what_is_read(steps in history(Kind::Packed), skew in -5_000..5_000_i64) {
        let mut pair = Pair::new(skew);
        steps.0.iter().for_each(|step| pair.apply(step));
        pair.compare_stored_bytes();
    }
}

/// The real node with a replica, and the naive cache.
struct Pair {
    node: TestNode,
    replica: TestNode,
    naive: Naive,
    /// How far the replica's clock is ahead.
    skew: i64,
    /// Something was restored: the stamps of the nodes, which follow their own clocks, may differ.
    restored: bool,
    /// Something was invalidated: a restored entry may be older, and then be dead.
    invalidated: bool,
    softened: bool,
}

impl Pair {
    fn new(skew: i64) -> Self {
        let mut pair = Pair {
            node: TestNode::at(START),
            replica: TestNode::replica_at(START),
            naive: Naive { now: START, ..Naive::default() },
            skew,
            restored: false,
            invalidated: false,
            softened: false,
        };
        for (name, value) in
            [("jitter", "90%"), ("default-ttl", "1"), ("swr", "77"), ("max-ttl", "2"), ("codec", "gzip")]
        {
            pair.replica.config(name, value).unwrap(); // none of these may have an effect on a replica
        }
        pair.set_clock(START);
        pair
    }

    /// Applies one step to both sides, then compares them.
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Set(key, Bytes(value), options) => {
                let answer = self.call(
                    &[&[b"SET", key.as_bytes(), value], &*slices(&option_words(options, self.naive.now))].concat(),
                );
                let expected = if value.len() > self.naive.settings.max_value {
                    self.naive.count.refused += 1;
                    self.too_large(value)
                } else {
                    let outcome = self
                        .naive
                        .store(key, Some(value), options, &mut |key, from, to| drawn(&mut self.node, key, from, to));
                    if outcome.is_some() { "OK".into() } else { "(nil)".into() }
                };
                assert_eq!(answer, expected);
            }
            Step::Absent(key, lifetime, tags) => {
                let options = StoreOptions {
                    lifetime: *lifetime,
                    swr: None,
                    sie: None,
                    condition: None,
                    tags: tags.clone(),
                    codec: None,
                };
                let answer = self
                    .call(&[&[b"ABSENT", key.as_bytes()], &*slices(&option_words(&options, self.naive.now))].concat());
                if self.naive.is_list(key) {
                    assert_eq!(answer, WRONG_TYPE);
                } else {
                    self.naive.store(key, None, &options, &mut |key, from, to| drawn(&mut self.node, key, from, to));
                    assert_eq!(answer, "OK");
                }
            }
            Step::Mset(pairs, options) => {
                let mut words = vec!["MSET".into(), pairs.len().to_string().into_bytes()];
                pairs.iter().for_each(|(key, Bytes(value))| words.extend([key.as_bytes().to_vec(), value.clone()]));
                words.extend(option_words(options, self.naive.now));
                let answer = self.call(&slices(&words));
                let over = pairs.iter().find(|(_, value)| value.0.len() > self.naive.settings.max_value);
                let expected = if let Some((_, Bytes(value))) = over {
                    self.naive.count.refused += pairs.len() as u64;
                    self.too_large(value)
                } else {
                    let real = &mut self.node;
                    let store = |(key, Bytes(value)): &(&'static str, Bytes)| {
                        self.naive.store(key, Some(value), options, &mut |key, from, to| drawn(real, key, from, to))
                            == Some(true)
                    };
                    pairs.iter().map(store).filter(|fresh| *fresh).count().to_string()
                };
                assert_eq!(answer, expected);
            }
            Step::Touch(key, lifetime) => {
                let words = lifetime_words(*lifetime, self.naive.now);
                let answer = self.call(&[&[b"TOUCH", key.as_bytes()], &*slices(&words)].concat());
                let touched =
                    self.naive.touch(key, *lifetime, &mut |key, from, to| drawn(&mut self.node, key, from, to));
                assert_eq!(answer, number(touched.map(usize::from)));
            }
            Step::Del(keys) => {
                let answer = self.call(&named("DEL", keys));
                assert_eq!(answer, number(self.naive.del(keys)));
            }
            Step::Stale(keys) => {
                let answer = self.call(&named("STALE", keys));
                assert_eq!(answer, number(self.naive.stale(keys)));
            }
            Step::PlainSet(key, px) => {
                let at = px.map(|ms| self.naive.now + ms);
                self.node.plain_set(key, "plain", at);
                self.replica.plain_set(key, "plain", at);
                let held = Held { content: Content::Text(b"plain".to_vec()), expire_at: at.unwrap_or(NEVER) };
                self.naive.keys.insert(key, held);
            }
            Step::PlainList(key) => {
                self.node.plain_list(key);
                self.replica.plain_list(key);
                self.naive.keys.insert(key, Held { content: Content::List, expire_at: NEVER });
            }
            Step::Pexpire(key, ms) => {
                let at = self.naive.now + ms;
                self.node.pexpireat(key, at);
                self.replica.pexpireat(key, at);
                self.naive.keys.entry(key).and_modify(|held| held.expire_at = at);
            }
            Step::Restore(from, to) => {
                if self.invalidated {
                    return;
                }
                let small = |(header, stored): &(Vec<u8>, Vec<u8>)| {
                    format::decode(header).is_ok_and(|header| header.raw_len(stored) <= 250)
                };
                let written = self.node.written(from.as_bytes());
                if written.as_ref().is_some_and(|written| !small(written)) {
                    return; // may exceed max-value, and then be refused
                }
                if let Some((mut header, stored)) = written {
                    let stamp = u64::from_le_bytes(header[5..13].try_into().unwrap());
                    // The clock of the other node is ahead.
                    header[5..13].copy_from_slice(&(stamp + 10_000_000).to_le_bytes());
                    let words: [&[u8]; 4] = [b"STORE", to.as_bytes(), &header, &stored];
                    // The server replicates RESTORE verbatim.
                    assert_eq!(
                        (self.node.call_words(&words), self.replica.call_words(&words)),
                        ("OK".into(), "OK".into())
                    );
                    self.restored = true;
                }
                self.naive.restore(from, to);
            }
            Step::RuleSet(rule) => {
                let words = rule_words(rule);
                assert_eq!(self.call(&slices(&words)), "OK");
                self.naive.set_rule(rule.clone());
            }
            Step::RuleDel(name) => {
                let answer = self.call(&[b"RULE", b"DEL", name.as_bytes()]);
                assert_eq!(answer, usize::from(self.naive.del_rule(name)).to_string());
            }
            Step::Config(name, value) => self.configure(name, value),
            Step::Advance(ms) => self.set_clock(self.naive.now + ms),
            Step::SetClockBack(ms) => self.set_clock(self.naive.now - ms),
            Step::RunWorkers => self.node.run_workers(),
            Step::ReapTags => {
                let now = self.node.now();
                self.node.state.reap(usize::MAX, now);
            }
            Step::Invalidate(tag, soft) => {
                if *soft && std::mem::replace(&mut self.softened, true) {
                    return;
                }
                self.invalidated = true;
                let mut words: Vec<&[u8]> = vec![b"INVALIDATE"];
                match tag {
                    Some(tag) => words.extend([b"TAGS", &b"1"[..], tag.as_bytes()]),
                    None => words.push(b"ALL"),
                }
                words.extend(soft.then_some(&b"SOFT"[..]));
                assert_eq!(self.call(&words), self.naive.invalidate(*tag, *soft).to_string());
            }
            Step::Sweep => {
                self.node.state.sweep.request(0, Walk::Keys, 0);
                self.node.sweep();
                self.replicate();
                self.naive.sweep();
            }
            Step::ResetStat => {
                assert_eq!(self.call(&[b"RESETSTAT"]), "OK");
                self.naive.count = Default::default();
            }
        }
        self.naive.expire();
        self.compare_reads();
        self.compare_entries();
        self.compare_counters();
        self.compare_replica();
        self.node.state.tags.validate();
    }

    /// Runs a command on the node, and replicates its effects.
    fn call(&mut self, words: &[&[u8]]) -> String {
        let answer = self.node.call_words(words);
        self.replicate();
        answer
    }

    fn replicate(&mut self) {
        for words in std::mem::take(&mut self.node.replicated) {
            let reply = self.replica.obey(&slices(&words));
            assert!(!reply.starts_with("(error)"), "the replica replied {reply}");
        }
    }

    fn set_clock(&mut self, ms: u64) {
        self.naive.now = ms;
        self.node.set_clock(ms);
        self.replica.set_clock(ms.saturating_add_signed(self.skew));
    }

    fn configure(&mut self, name: &str, value: &str) {
        self.node.config(name, value).unwrap();
        let ms = || (value.parse::<f64>().unwrap() * 1_000.0) as u64;
        let settings = &mut self.naive.settings;
        match name {
            "default-ttl" => settings.default_ttl = ms(),
            "max-ttl" => settings.max_ttl = ms(),
            "negative-ttl" => settings.negative_ttl = ms(),
            "swr" => settings.swr = ms(),
            "sie" => settings.sie = ms(),
            "jitter" => settings.jitter = value != "0",
            "max-value" => settings.max_value = if value == "250" { 250 } else { 512 << 20 },
            _ => {} // settings of how values are stored
        }
    }

    fn too_large(&self, value: &[u8]) -> String {
        let (bytes, limit) = (value.len(), self.naive.settings.max_value);
        format!(
            "(error) ERR value of {bytes} bytes is over the limit of {limit}: store less, or raise smartcache.max-value"
        )
    }

    fn compare_reads(&mut self) {
        for key in KEYS {
            for stale in [false, true] {
                let expected = self.naive.get(key, stale);
                let words: &[&[u8]] = &[b"GET", key.as_bytes(), b"STATE", b"STALE"];
                let answer = self.call(&words[..if stale { 4 } else { 3 }]);
                assert_eq!(answer, read_reply(expected), "GET {key} STATE, STALE: {stale}");

                let expected = self.naive.get(key, stale).map_or(WRONG_TYPE.into(), |read| bulk(read.value));
                let words: &[&[u8]] = &[b"GET", key.as_bytes(), b"STALE"];
                assert_eq!(self.call(&words[..if stale { 3 } else { 2 }]), expected, "GET {key}, STALE: {stale}");
            }
        }
        let values: Vec<_> = KEYS.iter().map(|key| bulk(self.naive.mget(key))).collect();
        assert_eq!(self.call(&named("MGET", &KEYS)), format!("[{}]", values.join(", ")));
        let readable: Vec<_> = KEYS.into_iter().filter(|key| !self.naive.is_list(key)).collect();
        if readable.len() < KEYS.len() {
            assert_eq!(self.call(&named("MISSING", &KEYS)), WRONG_TYPE);
        }
        if !readable.is_empty() {
            let missing = readable.iter().filter(|key| self.naive.is_missing(key));
            let missing: Vec<_> = missing.map(|key| format!("\"{key}\"")).collect();
            assert_eq!(self.call(&named("MISSING", &readable)), format!("[{}]", missing.join(", ")));
        }
    }

    /// Compares `INSPECT` of each key, and the totals over all entries.
    fn compare_entries(&mut self) {
        let (mut entries, mut raw, mut stored, mut overhead) = (0, 0, 0, 0);
        let mut tags = BTreeSet::new();
        for key in KEYS {
            let map = self.call(&[b"INSPECT", key.as_bytes()]);
            let number = |name: &str| field_of(&map, name).parse::<usize>().unwrap();
            let Some(Held { content, expire_at }) = self.naive.keys.get(key) else {
                assert_eq!(map, "(nil)");
                continue;
            };
            assert_eq!(self.node.expire_at(key).unwrap_or(NEVER), *expire_at, "{key}");
            let entry = match content {
                Content::List => {
                    assert_eq!(map, WRONG_TYPE);
                    continue;
                }
                Content::Text(_) => {
                    assert_eq!(
                        (field_of(&map, "kind"), field_of(&map, "state")),
                        ("\"string\"".into(), "\"fresh\"".into())
                    );
                    continue;
                }
                Content::Entry(entry) => entry,
            };
            for (name, expected) in self.naive.inspect(entry) {
                assert_eq!(field_of(&map, name), expected, "INSPECT {key}: {name}");
            }
            let packed = field_of(&map, "codec") != "\"none\"";
            assert!(!packed || number("stored_bytes") < number("raw_bytes"));
            entries += 1;
            raw += number("raw_bytes");
            stored += number("stored_bytes");
            overhead += 24 + 8 * entry.tags.len() + if packed { 4 } else { 0 };
            overhead += if entry.swr > 0 || entry.sie > 0 { 12 } else { 0 };
            tags.extend(entry.tags.iter().map(|tag| tag.as_bytes().to_vec()));
        }
        let totals = self.node.state.live.totals();
        assert_eq!((totals.entries, totals.raw_bytes), (entries as u64, raw as u64));
        assert_eq!((totals.stored_bytes, totals.allocated_bytes), (stored as u64, (stored + overhead) as u64));
        let known = self.node.state.tags.len();
        assert!(known >= tags.len(), "no tag in use is removed");
        self.node.state.tags.reap(usize::MAX, |_, _| true);
        assert_eq!(self.node.state.tags.len(), tags.len(), "unused tags are removed");
    }

    fn compare_counters(&mut self) {
        let map = self.call(&[b"STATS"]);
        let count = &self.naive.count;
        let misses = count.cold + count.expired + count.invalidated;
        for (name, expected) in [
            ("requests", count.hits + count.stale_hits + count.absent_hits + misses),
            ("hits", count.hits),
            ("stale_hits", count.stale_hits),
            ("absent_hits", count.absent_hits),
            ("misses", misses),
            ("misses_cold", count.cold),
            ("misses_expired", count.expired),
            ("misses_invalidated", count.invalidated),
            ("sets", count.sets),
            ("absents", count.absents),
            ("sets_refused", count.refused),
            ("panics", 0),
        ] {
            assert_eq!(field_of(&map, name), expected.to_string(), "{name}");
        }
    }

    /// With the same clock the replica gives the same replies, except how values are stored: its workers run
    /// independently.
    fn compare_replica(&mut self) {
        self.replica.set_clock(self.naive.now);
        for key in KEYS {
            for words in [&[b"GET", key.as_bytes(), b"STATE"][..], &[b"GET", key.as_bytes(), b"STALE"]] {
                assert_eq!(self.replica.call_words(words), self.node.call_words(words));
                let _ = self.naive.get(key, words.ends_with(&[b"STALE"])); // keeps the counters equal
            }
            let (on_replica, on_primary) =
                (self.replica.call_words(&[b"INSPECT", key.as_bytes()]), self.call(&[b"INSPECT", key.as_bytes()]));
            for name in ["kind", "state", "raw_bytes", "age_ms", "fresh_ms", "swr_ms", "sie_ms", "rule", "tags"] {
                if name != "age_ms" || !self.restored {
                    assert_eq!(
                        field_of(&on_replica, name),
                        field_of(&on_primary, name),
                        "{key}: {name} on the replica"
                    );
                }
            }
            assert_eq!(self.replica.expire_at(key), self.node.expire_at(key), "{key}");
        }
        self.replica.set_clock(self.naive.now.saturating_add_signed(self.skew));
        self.replica.state.tags.validate();
    }

    /// Once all workers are done, primary and replica store the same bytes.
    fn compare_stored_bytes(&mut self) {
        self.replica.set_clock(self.naive.now);
        self.node.run_workers();
        self.replica.run_workers();
        for key in KEYS {
            let [mut on_replica, mut on_primary] =
                [&mut self.replica, &mut self.node].map(|node| node.written(key.as_bytes()));
            if self.restored {
                for (header, _) in [&mut on_replica, &mut on_primary].into_iter().flatten() {
                    header[5..13].fill(0); // the stamp
                }
            }
            assert_eq!(on_replica, on_primary, "{key}");
        }
        for offload in [&self.node.state.offload, &self.replica.state.offload] {
            let ends = offload.counters;
            assert_eq!(ends.admitted, ends.swapped + ends.not_worth + ends.dropped + ends.lost);
            assert_eq!(offload.queued_bytes(), 0);
        }
    }
}

impl Naive {
    /// The fields of `INSPECT` that the naive cache knows, as text.
    fn inspect(&self, entry: &Entry) -> [(&'static str, String); 7] {
        let quoted = |text: &str| format!("\"{text}\"");
        let state = match entry.state(self.now) {
            State::Fresh => "fresh",
            State::Stale => "stale",
            State::Dead => "dead",
        };
        let rule = self.rules.iter().find(|rule| Some(rule.number) == entry.rule);
        let tags: Vec<_> = entry.tags.iter().map(|tag| quoted(tag)).collect();
        [
            ("kind", quoted(if entry.value.is_some() { "value" } else { "absent" })),
            ("state", quoted(state)),
            ("raw_bytes", entry.value.as_ref().map_or(0, Vec::len).to_string()),
            ("swr_ms", entry.swr.to_string()),
            ("sie_ms", entry.sie.to_string()),
            ("rule", rule.map_or("(nil)".into(), |rule| quoted(rule.name))),
            ("tags", format!("[{}]", tags.join(", "))),
        ]
    }
}

/// The end of freshness that the real node drew for a key, checked against the range that jitter allows.
fn drawn(node: &mut TestNode, key: &str, earliest: u64, latest: u64) -> u64 {
    let fresh_until = node.now().ms() + node.inspect(key, "fresh_ms").parse::<u64>().unwrap();
    assert!((earliest..=latest).contains(&fresh_until), "{fresh_until} is not from {earliest} to {latest}");
    fresh_until
}

fn slices(words: &[Vec<u8>]) -> Vec<&[u8]> {
    words.iter().map(Vec::as_slice).collect()
}

fn named<'k>(command: &'k str, keys: &[&'k str]) -> Vec<&'k [u8]> {
    [&[command], keys].concat().iter().map(|word| word.as_bytes()).collect()
}

fn number(n: Result<usize, WrongType>) -> String {
    n.map_or(WRONG_TYPE.into(), |n| n.to_string())
}

fn bulk(value: Option<Vec<u8>>) -> String {
    value.map_or("(nil)".into(), |value| format!("\"{}\"", value.escape_ascii()))
}

fn read_reply(read: Result<Read, WrongType>) -> String {
    match read {
        Err(WrongType) => WRONG_TYPE.into(),
        Ok(Read { state, value, fresh_ms }) => format!(r#"["{state}", {}, (nil), {fresh_ms}, 0]"#, bulk(value)),
    }
}

fn lifetime_words(lifetime: Lifetime, now: u64) -> Vec<Vec<u8>> {
    let line = match lifetime {
        Lifetime::Default => return Vec::new(),
        Lifetime::Base(ms) => format!("TTL {ms}ms"),
        Lifetime::In(ms) => format!("PX {ms}"),
        Lifetime::At(offset) => format!("PXAT {}", now.saturating_add_signed(offset)),
        Lifetime::Persist => "PERSIST".into(),
    };
    line.split(' ').map(Into::into).collect()
}

fn option_words(options: &StoreOptions, now: u64) -> Vec<Vec<u8>> {
    let mut words = lifetime_words(options.lifetime, now);
    let mut add = |line: String| words.extend(line.split(' ').map(|word| word.as_bytes().to_vec()));
    if let Some(ms) = options.swr {
        add(format!("SWR {ms}ms"));
    }
    if let Some(ms) = options.sie {
        add(format!("SIE {ms}ms"));
    }
    match options.condition {
        Some(Condition::Nx) => add("NX".into()),
        Some(Condition::Xx) => add("XX".into()),
        None => {}
    }
    if !options.tags.is_empty() {
        add(format!("TAGS {} {}", options.tags.len(), options.tags.join(" ")));
    }
    if let Some(codec) = options.codec {
        add(format!("CODEC {codec}"));
    }
    words
}

fn rule_words(rule: &naive::Rule) -> Vec<Vec<u8>> {
    let mut line = format!("RULE SET {} MATCH {}*", rule.name, rule.prefix);
    let times = [("TTL", rule.ttl), ("MIN", rule.min), ("MAX", rule.max), ("SWR", rule.swr), ("SIE", rule.sie)];
    for (word, ms) in times.into_iter().chain([("NEGATIVE", rule.negative)]) {
        line += &ms.map_or(String::new(), |ms| format!(" {word} {ms}ms"));
    }
    line += &rule
        .scale_in_halves
        .map_or(String::new(), |scale_in_halves| format!(" SCALE {}", scale_in_halves as f64 / 2.0));
    line += rule.jitter.map_or("", |jitter| if jitter { " JITTER 0.5" } else { " JITTER 0" });
    line += if rule.tags { " TAG t:{1}" } else { "" };
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
