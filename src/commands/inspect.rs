//! `SMARTCACHE.INSPECT`: everything about one key, without counting a request.

use super::args::Args;
use super::spec::{Access, Arg, Command, Flag, Keys, Run};
use crate::cache::entry::{EntryRef, Freshness};
use crate::cache::error::Error;
use crate::cache::node::read;
use crate::cache::{Cx, Judge, Key, Slot};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.INSPECT",
    summary: "Returns everything that is known about a key",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 2,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::One(Access::Read),
    args: &[Arg::key()],
    details: "\
kind (value, absent, string, none), state (fresh, stale, dead, none), codec (none, gzip, zstd, lz4, unknown), dictionary (nil), raw_bytes, stored_bytes, memory_bytes, age_ms (since the store), fresh_ms (freshness left; -1: no end), swr_ms and sie_ms (lengths of the windows), load_ms (nil: no load was measured), rule (nil: none), tags, lease (none, held, early, backoff), waiters.
It tells why SMARTCACHE.GET answers nil for a key that EXISTS: its state is stale or dead, or its kind absent.
Counts no request and changes neither LRU nor LFU data.",
    replies: "A map, or nil when there is neither entry nor lease. For a key of another type: WRONGTYPE.",
    run: Some(Run::Plain(run)),
};

/// What the reply reports, read before the reply begins.
struct Facts {
    kind: &'static str,
    state: &'static str,
    codec: &'static str,
    raw: usize,
    stored: usize,
    age_ms: u64,
    left_ms: Option<u64>,
    windows: (u64, u64),
    load_ms: Option<u32>,
    rule: Option<String>,
    tags: Vec<Vec<u8>>,
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    args.finish()?;
    let facts = facts(cx, key)?;
    let leases = &cx.state.leases;
    let waiters = leases.waiters_of(cx.caller.db, key.name);
    let lease = match leases.lease(cx.caller.db, key.name).filter(|lease| lease.until_ms > cx.now.mono_ms()) {
        Some(lease) if lease.early => "early",
        Some(_) => "held",
        None if leases.backoff_ms(cx.caller.db, key.name, cx.now).is_some() => "backoff",
        None => "none",
    };
    let Some(facts) = facts.or_else(|| (lease != "none").then(Facts::default)) else {
        cx.reply.nil();
        return Ok(());
    };
    let memory = cx.keys.memory_bytes(key);
    let fresh_ms = if facts.state == "fresh" { read::fresh_ms(cx.keys, key, facts.left_ms) } else { 0 };
    let reply = &mut *cx.reply;
    reply.map(16);
    for (name, word) in [("kind", facts.kind), ("state", facts.state), ("codec", facts.codec)] {
        reply.bulk(name.as_bytes());
        reply.bulk(word.as_bytes());
    }
    reply.bulk(b"dictionary");
    reply.nil();
    for (name, n) in [
        ("raw_bytes", facts.raw as i64),
        ("stored_bytes", facts.stored as i64),
        ("memory_bytes", memory as i64),
        ("age_ms", facts.age_ms as i64),
        ("fresh_ms", fresh_ms),
        ("swr_ms", facts.windows.0 as i64),
        ("sie_ms", facts.windows.1 as i64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(n);
    }
    reply.bulk(b"load_ms");
    match facts.load_ms {
        Some(ms) => reply.int(ms.into()),
        None => reply.nil(),
    }
    reply.bulk(b"rule");
    match &facts.rule {
        Some(name) => reply.bulk(name.as_bytes()),
        None => reply.nil(),
    }
    reply.bulk(b"tags");
    reply.array(facts.tags.len());
    facts.tags.iter().for_each(|tag| reply.bulk(tag));
    reply.bulk(b"lease");
    reply.bulk(lease.as_bytes());
    reply.bulk(b"waiters");
    reply.int(waiters as i64);
    Ok(())
}

impl Default for Facts {
    /// For a key that does not exist but is being loaded.
    fn default() -> Self {
        Facts {
            kind: "none",
            state: "none",
            codec: "none",
            raw: 0,
            stored: 0,
            age_ms: 0,
            left_ms: None,
            windows: (0, 0),
            load_ms: None,
            rule: None,
            tags: Vec::new(),
        }
    }
}

fn facts(cx: &mut Cx<'_, '_>, key: Key<'_>) -> Result<Option<Facts>, Error> {
    Ok(Some(match cx.keys.peek(key) {
        Slot::Empty => return Ok(None),
        Slot::Other => return Err(Error::WrongType),
        Slot::Text(len) => Facts { kind: "string", state: "fresh", raw: len, stored: len, ..Facts::default() },
        Slot::Entry(entry) => Facts {
            kind: if entry.absent() { "absent" } else { "value" },
            state: state(entry, Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now)),
            codec: entry.codec().map_or("unknown", |codec| codec.name()),
            raw: entry.raw_len(),
            stored: entry.stored().len(),
            age_ms: entry.age_ms(cx.now),
            left_ms: match Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now).freshness(entry) {
                Freshness::Fresh { left_ms } => left_ms,
                Freshness::Stale { .. } | Freshness::Dead => None,
            },
            windows: entry.windows(),
            load_ms: entry.load_ms(),
            rule: cx.state.policies.rule(entry.rule()).map(|rule| rule.name().to_owned()),
            tags: entry.tags().map(|tag| cx.state.tags.name(tag).to_vec()).collect(),
        },
    }))
}

fn state(entry: EntryRef<'_>, judge: Judge<'_>) -> &'static str {
    match judge.freshness(entry) {
        Freshness::Fresh { .. } => "fresh",
        Freshness::Stale { .. } => "stale",
        Freshness::Dead => "dead",
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    #[test]
    fn a_value_has_every_field() {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.RULE SET letters MATCH k* TAG all");
        node.call("SMARTCACHE.SET k v EX 5 SWR 2 SIE 7 TAGS 1 t");
        node.advance(1_500);
        assert_eq!(
            node.call("SMARTCACHE.INSPECT k"),
            "{\"kind\": \"value\", \"state\": \"fresh\", \"codec\": \"none\", \"dictionary\": (nil), \"raw_bytes\": 1, \
             \"stored_bytes\": 1, \"memory_bytes\": 53, \"age_ms\": 1500, \"fresh_ms\": 3500, \"swr_ms\": 2000, \
             \"sie_ms\": 7000, \"load_ms\": (nil), \"rule\": \"letters\", \"tags\": [\"t\", \"all\"], \
             \"lease\": \"none\", \"waiters\": 0}"
        );
    }

    #[test]
    fn an_entry_goes_from_fresh_to_stale_to_dead() {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.SET k v EX 5 SWR 2 SIE 7");
        node.pexpireat("k", 2_000_000);
        for (ms, state, fresh_ms) in
            [(0, "fresh", "5000"), (4_999, "fresh", "1"), (1, "stale", "0"), (7_000, "dead", "0")]
        {
            node.advance(ms);
            assert_eq!(node.inspect("k", "state"), format!("\"{state}\""));
            assert_eq!(node.inspect("k", "fresh_ms"), fresh_ms);
        }
        assert_eq!(node.inspect("k", "swr_ms"), "2000", "the windows' lengths stay");
    }

    #[test]
    fn an_absent_entry_has_no_windows_and_no_bytes() {
        let mut node = TestNode::at(1_000_000);
        node.config("swr", "30").unwrap();
        node.call("SMARTCACHE.ABSENT k TAGS 1 t");
        for (field, shown) in [
            ("kind", "\"absent\""),
            ("state", "\"fresh\""),
            ("raw_bytes", "0"),
            ("fresh_ms", "60000"),
            ("swr_ms", "0"),
            ("tags", "[\"t\"]"),
        ] {
            assert_eq!(node.inspect("k", field), shown, "{field}");
        }
    }

    #[test]
    fn a_plain_string_is_shown_as_a_fresh_value() {
        let mut node = TestNode::at(1_000_000);
        node.plain_set("k", "text", Some(1_002_000));
        node.plain_set("endless", "", None);
        for (field, shown) in [
            ("kind", "\"string\""),
            ("state", "\"fresh\""),
            ("raw_bytes", "4"),
            ("fresh_ms", "2000"),
            ("rule", "(nil)"),
        ] {
            assert_eq!(node.inspect("k", field), shown, "{field}");
        }
        assert_eq!(node.inspect("endless", "fresh_ms"), "-1");
    }

    #[test]
    fn compression_shows_in_codec_raw_bytes_and_stored_bytes() {
        let mut node = TestNode::at(1_000_000);
        node.call(&format!("SMARTCACHE.SET k {} CODEC gzip", "ab".repeat(500)));
        assert_eq!((node.inspect("k", "codec"), node.inspect("k", "raw_bytes")), ("\"gzip\"".into(), "1000".into()));
        let stored = node.stored("k").unwrap().len().to_string();
        assert_eq!(node.inspect("k", "stored_bytes"), stored);
    }

    #[test]
    fn an_entry_without_end_has_fresh_ms_minus_one_unless_the_key_expires() {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.SET k v PERSIST");
        assert_eq!(node.inspect("k", "fresh_ms"), "-1");
        node.pexpireat("k", 1_004_000);
        assert_eq!(node.inspect("k", "fresh_ms"), "4000");
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_negative_age() {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.SET k v EX 5");
        node.set_clock(999_000);
        assert_eq!((node.inspect("k", "age_ms"), node.inspect("k", "fresh_ms")), ("0".into(), "6000".into()));
    }

    #[test]
    fn a_deleted_rule_is_not_shown() {
        let mut node = TestNode::at(1_000_000);
        node.call("SMARTCACHE.RULE SET r MATCH *");
        node.call("SMARTCACHE.SET k v");
        assert_eq!(node.inspect("k", "rule"), "\"r\"");
        node.call("SMARTCACHE.RULE DEL r");
        assert_eq!(node.inspect("k", "rule"), "(nil)");
        node.call("SMARTCACHE.RULE SET other MATCH *");
        assert_eq!(node.inspect("k", "rule"), "(nil)", "the new rule has another id");
    }

    #[test]
    fn a_missing_key_is_nil_and_another_type_an_error_and_neither_counts() {
        let mut node = TestNode::at(1_000_000);
        node.plain_list("list");
        assert_eq!(node.call("SMARTCACHE.INSPECT k"), "(nil)");
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(node.refusal("SMARTCACHE.INSPECT list"), wrong);
        for line in ["SMARTCACHE.INSPECT", "SMARTCACHE.INSPECT a b"] {
            assert_eq!(node.refusal(line), "ERR wrong number of arguments for 'smartcache.inspect' command");
        }
        assert_eq!(node.stat("requests"), "0");
    }
}
