use proptest::{option, prelude::*};

use super::*;

/// A rule from one line, as after `RULE SET`.
pub(in crate::cache::rules) fn rule(line: &str) -> Result<RuleSpec, RuleError> {
    let mut words = line.split(' ').map(str::as_bytes);
    RuleSpec::parse(words.next().unwrap(), words)
}

fn refused(line: &str) -> String {
    rule(line).expect_err(line).to_string()
}

fn refused_json(json: &str) -> String {
    RuleList::parse(json.as_bytes()).expect_err(json).to_string()
}

const FULL: &str = "full MATCH user:*:* MATCH u:*:* PRIORITY -3 TTL 5m SCALE 0.5 MIN 250ms MAX 7d JITTER 10% SWR 0 \
                    SIE 1h NEGATIVE 1.5 LOCK 2s BETA 0 CODEC LZ4 MINSIZE 1kb FILLS 4 TAG user:{1} TAG all \
                    NATIVE WAIT 3s CAP 100 LOWEST SLIDING";

#[test]
fn every_word_is_read_and_reported_in_milliseconds_and_bytes() {
    let rule = rule(FULL).unwrap();
    assert_eq!(rule.name(), "full");
    assert_eq!(
        rule.options(),
        [
            ("match", OptionValue::Texts(vec![b"user:*:*", b"u:*:*"])),
            ("priority", OptionValue::Integer(-3)),
            ("ttl", OptionValue::Millis(300_000)),
            ("scale", OptionValue::Number(0.5)),
            ("min", OptionValue::Millis(250)),
            ("max", OptionValue::Millis(604_800_000)),
            ("jitter", OptionValue::Number(0.1)),
            ("swr", OptionValue::Millis(0)),
            ("sie", OptionValue::Millis(3_600_000)),
            ("negative", OptionValue::Millis(1_500)),
            ("lock", OptionValue::Millis(2_000)),
            ("beta", OptionValue::Number(0.0)),
            ("codec", OptionValue::Codec(Choice::parse(b"lz4").unwrap())),
            ("minsize", OptionValue::Bytes(1_024)),
            ("fills", OptionValue::Integer(4)),
            ("tag", OptionValue::Texts(vec![b"user:{1}", b"all"])),
            ("native", OptionValue::Flag),
            ("wait", OptionValue::Millis(3_000)),
            ("cap", OptionValue::Integer(100)),
            ("lowest", OptionValue::Flag),
            ("sliding", OptionValue::Flag),
        ]
    );
}

#[test]
fn words_are_read_in_any_case_and_order() {
    assert_eq!(rule("r ttl 5 match * Scale 2").unwrap(), rule("r MATCH * SCALE 2 TTL 5000ms").unwrap());
}

#[test]
fn each_refusal_names_the_word_and_the_rule() {
    for (line, text) in [
        ("r", "rule 'r' needs at least one MATCH"),
        ("r TTL 5", "rule 'r' needs at least one MATCH"),
        ("r MATCH", "rule 'r': 'MATCH' is unknown, said twice or without a value"),
        ("r MATCH * SPEED 5", "rule 'r': 'SPEED' is unknown, said twice or without a value"),
        ("r MATCH * TTL 5 ttl 6", "rule 'r': 'ttl' is unknown, said twice or without a value"),
        ("r MATCH * TTL 0", "rule 'r': TTL '0' must not be 0"),
        ("r MATCH * SCALE 0", "rule 'r': SCALE '0' must not be 0"),
        ("r MATCH * SCALE 1000001", "rule 'r': SCALE '1000001' is too large: a number is at most 1000000"),
        ("r MATCH * JITTER 101%", "rule 'r': JITTER '101%' is too large: a fraction is from 0 to 1, or 0% to 100%"),
        ("r MATCH * FILLS 0", "rule 'r': FILLS '0' is out of range: from 1 to 1000000"),
        ("r MATCH * CODEC brotli", "rule 'r': CODEC 'brotli' is not a codec: say auto, none, gzip, zstd or lz4"),
        ("r MATCH * NATIVE native", "rule 'r': 'native' is unknown, said twice or without a value"),
        ("r MATCH * WAIT 1", "rule 'r' has WAIT, which needs NATIVE"),
        ("r MATCH * CAP 5", "rule 'r' has CAP, which needs NATIVE"),
        ("r MATCH * NATIVE CAP 0", "rule 'r': CAP '0' is out of range: from 1 to 1000000000"),
        ("r MATCH * NATIVE LOWEST", "rule 'r' has LOWEST, which needs CAP"),
        ("r MATCH * SLIDING", "rule 'r' has SLIDING, which needs NATIVE"),
        ("r MATCH * MIN 2s MAX 1s", "rule 'r' has a MIN (2s) above its MAX (1s)"),
        ("r MATCH * TAG {x}", "rule 'r': TAG '{x}' has a brace that is neither {1}, {2} and so on nor {{"),
        (
            "r MATCH a:*:* MATCH b:* TAG t:{2}",
            "rule 'r' has the TAG 't:{2}' with {2}, but its pattern 'b:*' has only 1 *",
        ),
        ("r/x MATCH *", "'r/x' is not a name for a rule: 1 to 64 letters, digits and any of _ . : -"),
    ] {
        assert_eq!(refused(line), text);
    }
    for line in ["r MATCH * PRIORITY 1.5", "r MATCH * TTL -1", "r MATCH * MINSIZE 3gb", "r MATCH * BETA x", " MATCH *"]
    {
        refused(line);
    }
}

#[test]
fn limits_are_inclusive() {
    for (count, good) in [(MAX_MATCHES, true), (MAX_MATCHES + 1, false)] {
        assert_eq!(rule(&format!("r{}", " MATCH *".repeat(count))).is_ok(), good);
        assert_eq!(rule(&format!("r MATCH *{}", " TAG t".repeat(count))).is_ok(), good);
    }
    for (extra, good) in [(0, true), (1, false)] {
        assert_eq!(rule(&format!("{} MATCH *", "n".repeat(MAX_NAME_LEN + extra))).is_ok(), good);
        assert_eq!(rule(&format!("r MATCH {}", "p".repeat(MAX_PATTERN_LEN + extra))).is_ok(), good);
        let rules: Vec<_> = (0..MAX_RULES + extra).map(|i| format!(r#"{{"name":"r{i}","match":"*"}}"#)).collect();
        assert_eq!(RuleList::parse(format!("[{}]", rules.join(",")).as_bytes()).is_ok(), good);
    }
}

#[test]
fn json_has_the_same_words_with_the_same_meaning() {
    let json = r#"[{"name":"full","match":["user:*:*","u:*:*"],"priority":-3,"ttl":"5m","scale":0.5,"min":0.25,
        "max":"7d","jitter":"10%","swr":0,"sie":3600,"negative":1.5,"lock":2e0,"beta":0,"codec":"lz4","minsize":"1kb",
        "fills":4,"tag":["user:{1}","all"],"native":true,"wait":3,"cap":100,"lowest":true,"sliding":true}, {"name":"short","match":"*"}]"#;
    let rules = RuleList::parse(json.as_bytes()).unwrap();
    assert_eq!(rules.iter().cloned().collect::<Vec<_>>(), [rule(FULL).unwrap(), rule("short MATCH *").unwrap()]);
}

#[test]
fn json_reads_back_as_the_user_would_write_it() {
    let json = r#"[{"name":"profile","match":["*:profile","*:profile:*"],"ttl":0.25,"scale":2,"jitter":0.1}]"#;
    assert_eq!(RuleList::parse(json.as_bytes()).unwrap().to_json(), json);
    for nothing in ["", " \n", "[]"] {
        assert_eq!(RuleList::parse(nothing.as_bytes()).unwrap().to_json(), "");
    }
}

#[test]
fn json_that_is_wrong_is_refused_by_name() {
    for (json, text) in [
        (r#"[{"match":"*"}]"#, "rule number 1 has no name"),
        (r#"[{"name":5,"match":"*"}]"#, "5 is not a name for a rule: 1 to 64 letters, digits and any of _ . : -"),
        (r#"[{"name":"r"}]"#, "rule 'r' needs at least one MATCH"),
        (r#"[{"name":"r","match":[]}]"#, "rule 'r' needs at least one MATCH"),
        (r#"[{"name":"r","match":"*","sale":2}]"#, "rule 'r': 'sale' is unknown, said twice or without a value"),
        (r#"[{"name":"r","match":"*","sale":{}}]"#, "rule 'r': 'sale' is unknown, said twice or without a value"),
        (r#"[{"name":"r","match":"*","TTL":2}]"#, "rule 'r': 'TTL' is unknown, said twice or without a value"),
        (r#"[{"ttl":1,"name":"r","match":"*","ttl":2}]"#, "rule 'r': 'ttl' is unknown, said twice or without a value"),
        (r#"[{"name":"r","name":"s","match":"*"}]"#, "rule 'r': 'name' is unknown, said twice or without a value"),
        (r#"[{"name":"r","match":"*","match":"?"}]"#, "rule 'r': 'match' is unknown, said twice or without a value"),
        (r#"[{"name":"r","match":3}]"#, "rule 'r': match '3' is neither a text nor an array of texts"),
        (r#"[{"name":"r","match":["*",3]}]"#, r#"rule 'r': match '[\"*\",3]' has something that is no text"#),
        (r#"[{"name":"r","match":"*","ttl":true}]"#, "rule 'r': ttl 'true' is neither a number nor a text"),
        (r#"[{"name":"r","match":"*","ttl":[1]}]"#, "rule 'r': ttl '[1]' is neither a number nor a text"),
        (r#"[{"name":"r","match":"*","scale":-1}]"#, "rule 'r': scale '-1' is not a number: say 2 or 0.75"),
        (r#"[{"name":"r","match":"*"},{"name":"r","match":"?"}]"#, "rule 'r' is there twice"),
    ] {
        assert_eq!(refused_json(json), text);
    }
    for json in ["{", "{}", "[1]", r#""x""#, "[{}] x", "null", "[null]", &"[".repeat(100_000)] {
        assert!(refused_json(json).starts_with("the rules are not a JSON array of objects: "), "{json:.20}");
    }
}

prop_compose! {
    /// Any rule that can be written.
    pub(in crate::cache::rules) fn any_rule()(
        name in "[a-zA-Z0-9_.:-]{1,8}",
        matches in prop::collection::vec(r"[*?:a-c]{0,6}", 1..4),
        priority in option::of(-2..3_i64),
        times in prop::collection::vec(option::of(1..units::MAX_DURATION_MS), 7),
        (scale, jitter, beta) in (option::of(0.001..1e6_f64), option::of(0.0..=1.0_f64), option::of(0.0..1e6_f64)),
        codec in option::of(prop::sample::select(vec!["auto", "none", "gzip", "zstd", "lz4"])),
        (min_size, fills) in (option::of(0..=MAX_SIZE), option::of(1..=MAX_FILLS)),
        tags in prop::collection::vec(r"[a-c:]{1,4}", 0..3),
        (native, sliding, lowest) in (any::<bool>(), any::<bool>(), any::<bool>()),
        (wait_ms, cap) in (option::of(1..units::MAX_DURATION_MS), option::of(1..=MAX_CAP)),
    ) -> RuleSpec {
        let (min_ms, max_ms) = match (times[1], times[2]) {
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
            other => other,
        };
        RuleSpec {
            matches: matches.iter().map(|pattern| Glob::new(pattern.as_bytes())).collect(),
            priority, ttl_ms: times[0], scale, min_ms, max_ms, jitter, swr_ms: times[3], sie_ms: times[4],
            negative_ms: times[5], lock_ms: times[6], beta, min_size, fills,
            codec: codec.and_then(|name| Choice::parse(name.as_bytes())),
            tags: tags.iter().map(|text| Template::parse(text.as_bytes()).unwrap()).collect(),
            native,
            sliding: sliding && native,
            wait_ms: wait_ms.filter(|_| native),
            cap: cap.filter(|_| native),
            lowest: lowest && native && cap.is_some(),
            ..RuleSpec::named(name.as_bytes()).unwrap()
        }
    }
}

proptest! {
    #[test]
    fn every_rule_reads_back_from_its_words_and_its_json(rule in any_rule()) {
        let words = rule.words();
        let again = RuleSpec::parse(&words[0], words[1..].iter().map(Vec::as_slice)).unwrap();
        prop_assert_eq!(&again, &rule);
        let list = RuleList(vec![rule]);
        prop_assert_eq!(RuleList::parse(list.to_json().as_bytes()).unwrap(), list);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(words: Vec<Vec<u8>>, json: Vec<u8>, jsony in r#"[\[\]{}":,a-z0-9]{0,30}"#) {
        let _ = RuleSpec::parse(b"r", words.iter().map(Vec::as_slice));
        let _ = (RuleList::parse(&json), RuleList::parse(jsony.as_bytes()));
    }
}
