//! Bad input: each case is an error that names the argument and changes nothing.

use crate::support::{Server, args};

/// A server with the entry `k`, a plain string and a list, which must not change.
fn prepared() -> Server {
    let s = Server::start();
    s.ok("SMARTCACHE.SET k v PERSIST SWR 5 TAGS 1 t");
    s.ok("SET plain v");
    s.ok("LPUSH list a");
    s.ok("SMARTCACHE.RULE SET r MATCH k* TTL 100");
    s
}

fn everything(s: &Server) -> String {
    format!("{}\n{}\n{}", s.digest(), s.portrait("k"), s.ok("SMARTCACHE.RULE LIST"))
}

/// The error of each line must start with `ERR`, contain the word, and change nothing.
#[track_caller]
fn assert_refused(s: &Server, lines: &[(&str, &str)]) {
    let before = everything(s);
    for (line, word) in lines {
        let reply = s.call(&format!("SMARTCACHE.{line}"));
        assert!(reply.is_error(), "{line} should be refused\n{reply}");
        let error = reply.error();
        assert!(error.starts_with("ERR "), "{line}: an error starts with its code\n{reply}");
        assert!(error.contains(word), "{line}: the error should name {word:?}\n{reply}");
        assert_eq!(everything(s), before, "{line} changed something");
    }
}

#[test]
fn unknown_options_are_syntax_errors_near_the_word() {
    let s = prepared();
    for line in [
        "GET k BOGUS",
        "GET k TTL 5",
        "GET k STALE BOGUS",
        "SET k w BOGUS",
        "SET k w TTL 5 BOGUS",
        "SET k w KEEPTTL",
        "SET k w GET",
        "SET k w TAGS 1 a BOGUS",
        "SET k w 5",
        "MSET 1 k w BOGUS",
        "ABSENT k BOGUS",
        "ABSENT k SWR",
        "ABSENT k NX",
        "TOUCH k BOGUS",
        "TOUCH k SWR",
        "TOUCH k NX",
        "RULE SET x MATCH * BOGUS",
        "RULE SET x BOGUS *",
        "RULE EXPLAIN k BOGUS",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let word = match line {
            "GET k TTL 5" => "TTL",
            "RULE SET x BOGUS *" => "BOGUS",
            _ => words[words.len() - 1],
        };
        assert_refused(&s, &[(line, &format!("syntax error near '{word}'"))]);
    }
}

#[test]
fn repeated_options_are_syntax_errors_near_the_word() {
    let s = prepared();
    for line in [
        "GET k STALE STALE",
        "GET k STATE STATE",
        "GET k ACCEPT gzip ACCEPT zstd",
        "SET k w TTL 5 TTL 6",
        "SET k w SWR 5 SWR 5",
        "SET k w SIE 5 SIE 5",
        "SET k w NX NX",
        "SET k w XX XX",
        "SET k w TAGS 1 a TAGS 1 b",
        "SET k w CODEC gzip CODEC gzip",
        "SET k w PERSIST PERSIST",
        "MSET 1 k w TTL 5 TTL 5",
        "TOUCH k TTL 5 TTL 5",
        "RULE SET x MATCH * TTL 5 TTL 5",
        "RULE SET x MATCH * SCALE 2 SCALE 2",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let word = words.iter().skip(1).find(|w| words.iter().filter(|x| x == w).count() == 2);
        let word = if line.contains("TTL") { "TTL" } else { word.expect("an option is repeated") };
        let word = ["ACCEPT", "SWR", "SIE", "TAGS", "CODEC", "SCALE"]
            .into_iter()
            .find(|w| line.matches(w).count() == 2)
            .unwrap_or(word);
        assert_refused(&s, &[(line, &format!("syntax error near '{word}'"))]);
    }
}

#[test]
fn conflicting_options_are_syntax_errors_near_the_second() {
    let s = prepared();
    for (line, word) in [
        ("SET k w NX XX", "XX"),
        ("SET k w XX NX", "NX"),
        ("SET k w TTL 5 EX 5", "EX"),
        ("SET k w EX 5 PX 5", "PX"),
        ("SET k w PX 5 EXAT 5000000000", "EXAT"),
        ("SET k w EXAT 5000000000 PXAT 5000000000000", "PXAT"),
        ("SET k w PERSIST TTL 5", "TTL"),
        ("SET k w EX 5 PERSIST", "PERSIST"),
        ("MSET 1 k w NX XX", "XX"),
        ("MSET 1 k w TTL 5 PERSIST", "PERSIST"),
        ("ABSENT k TTL 5 EX 5", "EX"),
        ("TOUCH k TTL 5 PERSIST", "PERSIST"),
    ] {
        assert_refused(&s, &[(line, &format!("syntax error near '{word}'"))]);
    }
}

#[test]
fn an_option_without_its_value_is_named() {
    let s = prepared();
    for line in [
        "GET k ACCEPT",
        "SET k w TTL",
        "SET k w EX",
        "SET k w PX",
        "SET k w EXAT",
        "SET k w PXAT",
        "SET k w SWR",
        "SET k w SIE",
        "SET k w TAGS",
        "SET k w CODEC",
        "MSET 1 k w TTL",
        "ABSENT k TTL",
        "ABSENT k TAGS",
        "TOUCH k TTL",
        "RULE SET x MATCH",
        "RULE SET x MATCH * TTL",
        "RULE SET x MATCH * TAG",
        "RULE EXPLAIN k TTL",
    ] {
        let word = line.rsplit(' ').next().unwrap_or_default();
        let before = everything(&s);
        let reply = s.call(&format!("SMARTCACHE.{line}"));
        // Some have too few arguments, which the server itself refuses.
        let fits = reply.error().contains(word) || reply.error().starts_with("ERR wrong number of arguments");
        assert!(fits, "{line}\n{reply}");
        assert_eq!(everything(&s), before);
    }
}

/// Neither durations nor numbers.
const NO_NUMBERS: [&str; 16] = [
    "-1",
    "0",
    "abc",
    "1x",
    "",
    "nan",
    "inf",
    "-0.5",
    "99999999999999999999",
    "9223372036854775808",
    "1e400",
    "1.2.3",
    "0x10",
    " 5",
    "5 ",
    "1,5",
];

#[test]
fn an_invalid_duration_is_named() {
    let s = prepared();
    for word in NO_NUMBERS.iter().chain(&["ms", "-5s", "0ms", "0.0", "5mm", "9999999999999d"]) {
        for line in [
            &["SET", "k", "w", "TTL"][..],
            &["MSET", "1", "k", "w", "TTL"],
            &["ABSENT", "k", "TTL"],
            &["TOUCH", "k", "TTL"],
            &["RULE", "SET", "x", "MATCH", "*", "TTL"],
            &["RULE", "SET", "x", "MATCH", "*", "NEGATIVE"],
            &["RULE", "EXPLAIN", "k", "TTL"],
        ] {
            refused_word(&s, line, word);
        }
    }
}

#[test]
fn an_invalid_window_is_named() {
    let s = prepared();
    for word in NO_NUMBERS.iter().filter(|w| **w != "0") {
        for line in [
            &["SET", "k", "w", "SWR"][..],
            &["SET", "k", "w", "SIE"],
            &["MSET", "1", "k", "w", "SWR"],
            &["RULE", "SET", "x", "MATCH", "*", "SWR"],
        ] {
            refused_word(&s, line, word);
        }
    }
}

#[test]
fn an_invalid_time_in_seconds_or_milliseconds_is_named() {
    let s = prepared();
    for word in NO_NUMBERS.iter().chain(&["5h", "9223372036854775807"]) {
        for option in ["EX", "PX", "EXAT", "PXAT"] {
            // The largest number of milliseconds is a valid time.
            if *word == "9223372036854775807" && (option == "PXAT" || option == "PX") {
                continue;
            }
            refused_word(&s, &["SET", "k", "w", option], word);
            refused_word(&s, &["TOUCH", "k", option], word);
        }
    }
}

#[test]
fn an_invalid_fraction_or_factor_is_named() {
    let s = prepared();
    for word in ["-0.1", "1.5", "101%", "abc", "", "nan", "inf", "%", "1e400"] {
        refused_word(&s, &["RULE", "SET", "x", "MATCH", "*", "JITTER"], word);
    }
    for word in ["-1", "0", "abc", "", "nan", "inf", "1e400"] {
        refused_word(&s, &["RULE", "SET", "x", "MATCH", "*", "SCALE"], word);
    }
    for word in ["-1", "abc", "", "nan", "inf"] {
        refused_word(&s, &["RULE", "SET", "x", "MATCH", "*", "BETA"], word);
    }
}

#[test]
fn an_invalid_count_is_named() {
    let s = prepared();
    for word in ["-1", "0", "abc", "", "1.5", "99999999999999999999", "9223372036854775807", "3", " 2", "+2"] {
        let before = everything(&s);
        for line in [
            args!["SMARTCACHE.MSET", word, "k", "w", "x", "y"] as &[&[u8]],
            args!["SMARTCACHE.SET", "k", "w", "TAGS", word, "a", "b"],
            args!["SMARTCACHE.ABSENT", "k", "TAGS", word, "a", "b"],
        ] {
            let reply = s.call_args(line);
            assert!(reply.is_error() && reply.error().starts_with("ERR "), "{word}\n{reply}");
            assert!(reply.error().contains(word), "the error should name {word:?}\n{reply}");
            assert_eq!(everything(&s), before, "{word}");
        }
    }
    for word in ["abc", "", "1.5", "99999999999999999999"] {
        refused_word(&s, &["RULE", "SET", "x", "MATCH", "*", "PRIORITY"], word);
    }
    for word in ["-1", "abc", "", "1.5", "99999999999999999999"] {
        refused_word(&s, &["RULE", "SET", "x", "MATCH", "*", "MINSIZE"], word);
        refused_word(&s, &["RULE", "SET", "x", "MATCH", "*", "FILLS"], word);
    }
}

#[track_caller]
fn refused_word(s: &Server, line: &[&str], word: &str) {
    let before = everything(s);
    let name = format!("SMARTCACHE.{}", line[0]);
    let mut words: Vec<&[u8]> = vec![name.as_bytes()];
    words.extend(line[1..].iter().map(|w| w.as_bytes()));
    words.push(word.as_bytes());
    let reply = s.call_args(&words);
    let shown = format!("{} '{word}'", line.join(" "));
    assert!(reply.is_error(), "{shown} should be refused\n{reply}");
    assert!(reply.error().starts_with("ERR "), "{shown}\n{reply}");
    assert!(reply.error().contains(word), "{shown}: the error should name the word\n{reply}");
    assert_eq!(everything(s), before, "{shown} changed something");
}

#[test]
fn a_wrong_count_of_tags_is_refused() {
    let s = prepared();
    assert_refused(
        &s,
        &[
            ("SET k w TAGS 3 a b", "3"),
            ("SET k w TAGS 2 a", "2"),
            ("SET k w TAGS 1", "1"),
            // The count is one too low: the rest is no option.
            ("SET k w TAGS 1 a b", "b"),
            ("ABSENT k TAGS 2 a", "2"),
            ("MSET 1 k w TAGS 2 a", "2"),
        ],
    );
}

#[test]
fn tags_are_1_to_255_bytes_and_at_most_64() {
    let s = prepared();
    let before = everything(&s);
    let long = "t".repeat(256);
    for (tag, word) in [("", "tag"), (long.as_str(), "255")] {
        let reply = s.call_args(args!["SMARTCACHE.SET", "k", "w", "TAGS", "1", tag]);
        assert!(reply.is_error() && reply.error().starts_with("ERR "), "{reply}");
        assert!(reply.error().contains(word), "{reply}");
        // A long argument is shortened in the error.
        assert!(reply.error().len() < 400, "{reply}");
        assert_eq!(everything(&s), before);
    }
    let many: Vec<String> = (0..65).map(|i| format!("t{i}")).collect();
    for command in [&["SMARTCACHE.SET", "k", "w"][..], &["SMARTCACHE.ABSENT", "k"], &["SMARTCACHE.MSET", "1", "k", "w"]]
    {
        let mut words: Vec<&[u8]> = command.iter().map(|w| w.as_bytes()).collect();
        words.extend([&b"TAGS"[..], b"65"]);
        words.extend(many.iter().map(String::as_bytes));
        let reply = s.call_args(&words);
        assert!(reply.is_error() && reply.error().contains("64"), "{reply}");
        assert_eq!(everything(&s), before);
    }
}

#[test]
fn tags_of_templates_obey_the_same_limits() {
    let s = prepared();
    // 64 from the command and one from the rule: either way there are never more than 64.
    s.ok("SMARTCACHE.RULE SET r MATCH * TAG extra");
    let many: Vec<String> = (0..64).map(|i| format!("t{i}")).collect();
    let mut words: Vec<&[u8]> = vec![b"SMARTCACHE.SET", b"new", b"w", b"TAGS", b"64"];
    words.extend(many.iter().map(String::as_bytes));
    let reply = s.call_args(&words);
    if reply.is_error() {
        assert!(reply.error().contains("64"), "{reply}");
        assert_eq!(s.call("EXISTS new").int(), 0);
    } else {
        assert_eq!(s.inspect("new", "tags").array().len(), 64);
    }
    // A key so long that the tag of its template is too long.
    s.ok("SMARTCACHE.RULE SET r MATCH long:* TAG t:{1}");
    let key = format!("long:{}", "x".repeat(1_000));
    let reply = s.call_args(args!["SMARTCACHE.SET", key, "w"]);
    if !reply.is_error() {
        let tags = s.inspect(&key, "tags");
        assert!(tags.array().iter().all(|t| t.bytes().len() <= 255), "{tags}");
    }
}

#[test]
fn an_unknown_codec_is_named() {
    let s = prepared();
    assert_refused(
        &s,
        &[
            ("SET k w CODEC brotli", "brotli"),
            ("MSET 1 k w CODEC brotli", "brotli"),
            ("SET k w CODEC \"\"", "''"),
            ("RULE SET x MATCH * CODEC brotli", "brotli"),
        ],
    );
}

#[test]
fn a_value_over_max_value_is_refused() {
    let s = prepared();
    s.ok("CONFIG SET smartcache.max-value 100");
    let before = everything(&s);
    let large = "x".repeat(101);
    for line in [
        args!["SMARTCACHE.SET", "k", large] as &[&[u8]],
        args!["SMARTCACHE.SET", "new", large, "CODEC", "zstd"],
        args!["SMARTCACHE.MSET", "2", "new", "small", "k", large],
    ] {
        let reply = s.call_args(line);
        assert!(reply.error().starts_with("ERR value "), "{reply}");
        // the error names the remedy
        assert!(reply.error().contains("max-value"), "{reply}");
        assert_eq!(everything(&s), before);
    }
}

#[test]
fn a_malformed_rule_is_refused() {
    let s = prepared();
    assert_refused(
        &s,
        &[
            ("RULE SET \"\" MATCH *", "name"),
            ("RULE SET x TTL 5", "MATCH"),
            ("RULE SET x MATCH * MIN 10 MAX 5", "MIN"),
            ("RULE SET x MATCH * TAG \"\"", "TAG"),
            ("RULE SET x MATCH * TAG a:{2}", "{2}"),
            ("RULE SET x MATCH exact TAG a:{1}", "{1}"),
            ("RULE SET x MATCH * TAG a:{1", "{1"),
        ],
    );
}

#[test]
fn a_malformed_configured_rule_is_refused() {
    let s = prepared();
    let before = everything(&s);
    for (json, word) in [
        ("[", ""),
        ("nonsense", ""),
        ("{}", ""),
        ("[1]", ""),
        (r#"[{"match":["*"]}]"#, "name"),
        (r#"[{"name":"x"}]"#, "match"),
        (r#"[{"name":"x","match":[]}]"#, "match"),
        (r#"[{"name":"x","match":["*"],"bogus":1}]"#, "bogus"),
        (r#"[{"name":"x","match":["*"],"ttl":"soon"}]"#, "soon"),
        (r#"[{"name":"x","match":["*"],"jitter":2}]"#, "jitter"),
        (r#"[{"name":"x","match":["*"],"codec":"brotli"}]"#, "brotli"),
    ] {
        let reply = s.call_args(args!["CONFIG", "SET", "smartcache.rules", json]);
        assert!(reply.is_error(), "{json} should be refused");
        assert!(reply.error().to_lowercase().contains(&word.to_lowercase()), "{json}: it should name {word}\n{reply}");
        assert_eq!(everything(&s), before);
    }
}

#[test]
fn a_key_of_another_type_answers_wrongtype_and_stays() {
    let s = prepared();
    let before = everything(&s);
    for line in [
        "GET list",
        "GET list STATE STALE",
        "TOUCH list TTL 5",
        "DEL list",
        "DEL k list",
        "STALE list",
        "STALE k list",
        "INSPECT list",
        "MISSING list",
        "MISSING k list",
    ] {
        let reply = s.call(&format!("SMARTCACHE.{line}"));
        assert!(reply.is_error() && reply.error().starts_with("WRONGTYPE"), "{line}\n{reply}");
        assert_eq!(everything(&s), before, "{line}");
        assert_eq!(s.ok("LRANGE list 0 -1").texts(), ["a"]);
    }
}

#[test]
fn arguments_in_errors_are_escaped() {
    // A reply is one line: an argument must not break the protocol or be used as a format string.
    let s = prepared();
    for word in ["bo\r\ngus", "%s%n%s", "\0\x01", "'quoted'"] {
        let reply = s.call_args(args!["SMARTCACHE.SET", "k", "w", word]);
        assert!(reply.error().starts_with("ERR syntax error near '"), "{reply}");
        assert_eq!(s.call("PING").text(), "PONG");
    }
    let long = "x".repeat(100_000);
    let reply = s.call_args(args!["SMARTCACHE.SET", "k", "w", long]);
    assert!(reply.is_error() && reply.error().len() < 1_000);
}

#[test]
fn empty_arguments_everywhere_are_answered() {
    let s = Server::start();
    for line in [
        "GET \"\"",
        "MGET \"\" \"\"",
        "SET \"\" \"\"",
        "SET \"\" \"\" \"\"",
        "MSET \"\" \"\" \"\"",
        "MSET 1 \"\" \"\"",
        "ABSENT \"\"",
        "TOUCH \"\"",
        "DEL \"\"",
        "STALE \"\"",
        "MISSING \"\"",
        "INSPECT \"\"",
        "RULE SET \"\" MATCH \"\"",
        "RULE GET \"\"",
        "RULE DEL \"\"",
        "RULE EXPLAIN \"\"",
        "HELP \"\"",
        "GET k \"\"",
        "SET k v TAGS \"\"",
    ] {
        s.call(&format!("SMARTCACHE.{line}"));
        assert_eq!(s.call("PING").text(), "PONG", "{line}");
    }
}

#[test]
fn random_arguments_never_break_anything() {
    use rand::{Rng, SeedableRng};
    let s = Server::start();
    let words = [
        "GET",
        "MGET",
        "SET",
        "MSET",
        "ABSENT",
        "TOUCH",
        "DEL",
        "STALE",
        "MISSING",
        "INSPECT",
        "RULE",
        "STATS",
        "HELP",
        "STORE",
        "k",
        "k2",
        "",
        "v",
        "TTL",
        "EX",
        "PX",
        "EXAT",
        "PXAT",
        "PERSIST",
        "SWR",
        "SIE",
        "NX",
        "XX",
        "TAGS",
        "CODEC",
        "gzip",
        "STATE",
        "ACCEPT",
        "MATCH",
        "*",
        "PRIORITY",
        "SCALE",
        "JITTER",
        "TAG",
        "{1}",
        "LIST",
        "EXPLAIN",
        "0",
        "1",
        "2",
        "-1",
        "0.5",
        "10%",
        "5ms",
        "\0\u{ff}",
        "9223372036854775807",
    ];
    for seed in 0..4_000 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut line = vec![format!("SMARTCACHE.{}", words[rng.random_range(0..14)]).into_bytes()];
        for _ in 0..rng.random_range(0..9) {
            line.push(words[rng.random_range(0..words.len())].as_bytes().to_vec());
        }
        let line: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
        s.call_args(&line);
    }
    assert_eq!(s.stat("panics"), 0);
    s.ok("FLUSHALL");
    s.ok("SMARTCACHE.SET k v");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}

#[test]
fn wrong_arguments_of_getlock_unlock_and_extend_are_named_and_grant_nothing() {
    let s = prepared();
    assert_refused(
        &s,
        &[
            ("GETLOCK new BOGUS", "syntax error near 'BOGUS'"),
            ("GETLOCK new STATE", "syntax error near 'STATE'"),
            ("GETLOCK new LOCK 5 LOCK 5", "syntax error near 'LOCK'"),
            ("GETLOCK new WAIT 5 WAIT 5", "syntax error near 'WAIT'"),
            ("GETLOCK new OWNER a OWNER a", "syntax error near 'OWNER'"),
            ("GETLOCK new BETA 1 BETA 1", "syntax error near 'BETA'"),
            ("GETLOCK new ACCEPT gzip ACCEPT gzip", "syntax error near 'ACCEPT'"),
            ("GETLOCK new LOCK", "LOCK"),
            ("GETLOCK new WAIT", "WAIT"),
            ("GETLOCK new OWNER", "OWNER"),
            ("GETLOCK new BETA", "BETA"),
            ("GETLOCK new OWNER \"\"", "OWNER"),
            ("GETLOCK new BETA -1", "BETA"),
            ("GETLOCK new BETA nan", "BETA"),
            ("UNLOCK new x BOGUS", "syntax error near 'BOGUS'"),
            ("UNLOCK new x BACKOFF 5 BACKOFF 5", "syntax error near 'BACKOFF'"),
            ("UNLOCK new x BACKOFF", "BACKOFF"),
            ("UNLOCK new x BACKOFF 0", "0"),
            ("EXTEND new x 0", "0"),
            ("SET new v NX TOKEN x", "TOKEN"),
            ("SET new v TOKEN x XX", "XX"),
            ("SET new v TOKEN x TOKEN x", "TOKEN"),
            ("SET new v TOKEN x SINCE x", "SINCE"),
            ("SET new v TOKEN", "TOKEN"),
            ("ABSENT new SINCE x TOKEN x", "TOKEN"),
            ("ABSENT new SINCE", "SINCE"),
            ("MSET 1 new v TOKEN x", "TOKEN"),
            ("MSET 1 new v SINCE x SINCE x", "SINCE"),
        ],
    );
    for word in NO_NUMBERS.iter().chain(&["9223372036854775807", "9999999999999d", "-5s", "5mm"]) {
        refused_word(&s, &["GETLOCK", "new", "LOCK"], word);
        refused_word(&s, &["EXTEND", "new", "x"], word);
        refused_word(&s, &["UNLOCK", "new", "x", "BACKOFF"], word);
        if *word != "0" {
            refused_word(&s, &["GETLOCK", "new", "WAIT"], word);
        }
    }
    let long = "o".repeat(256);
    assert!(s.call_args(args!["SMARTCACHE.GETLOCK", "new", "OWNER", long]).error().contains("255"));
    assert!(s.call("SMARTCACHE.STAMP x").is_error());
    assert_eq!((s.stat("leases_granted"), s.stat("requests")), (0, 0));
}

#[test]
fn the_longest_lock_and_wait_are_accepted() {
    let s = Server::start();
    for words in ["k LOCK 601", "k WAIT 61"] {
        assert!(s.call(&format!("SMARTCACHE.GETLOCK {words}")).error().contains("smartcache.max-"), "{words}");
    }
    s.ok("CONFIG SET smartcache.max-lock 36500d smartcache.max-wait 36500d");
    let first = s.getlock("k LOCK 36500d WAIT 36500d BETA 0");
    assert_eq!(first.brief(), "MISS +");
    let mut waiter = s.park(1, |_| "k LOCK 36500d WAIT 36500d".to_owned());
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", first.token(), "36500d"]).int(), 1);
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", first.token(), "BACKOFF", "36500d"]).int(), 1);
    assert_eq!(waiter[0].got().brief(), "BUSY");
    // Distant timers must not delay near ones.
    s.getlock("far LOCK 36500d");
    let mut soon = s.park(1, |_| "far WAIT 50ms".to_owned());
    assert_eq!(soon[0].got().brief(), "BUSY");
}

#[test]
fn a_token_that_is_not_one_is_lost_and_never_an_error() {
    let s = prepared();
    let token = s.getlock("new LOCK 100").token().to_owned();
    let mut three = s.connect();
    three.call("SELECT 3");
    let elsewhere = three.getlock("new").token().to_owned();
    let other = s.getlock("other").token().to_owned();
    let stamp = s.call("SMARTCACHE.STAMP").text();
    let mut flipped = token.clone().into_bytes();
    flipped[3] ^= 1;
    let padded = format!("{token}=");
    let (long, cut) = (token.repeat(3_000), &token[..31]);
    let tokens: [&[u8]; 12] = [
        b"",
        b"x",
        b"0",
        b"nil",
        b"\0\xff",
        cut.as_bytes(),
        padded.as_bytes(),
        &flipped,
        long.as_bytes(),
        elsewhere.as_bytes(),
        other.as_bytes(),
        stamp.as_bytes(),
    ];
    let before = everything(&s);
    for word in tokens {
        let shown = word[..word.len().min(40)].escape_ascii();
        assert_eq!(s.call_args(args!["SMARTCACHE.SET", "new", "w", "TOKEN", word]).text(), "LOST", "{shown}");
        assert_eq!(s.call_args(args!["SMARTCACHE.ABSENT", "new", "TOKEN", word]).text(), "LOST", "{shown}");
        for words in [
            args!["SMARTCACHE.UNLOCK", "new", word] as &[&[u8]],
            args!["SMARTCACHE.UNLOCK", "new", word, "BACKOFF", "100"],
            args!["SMARTCACHE.EXTEND", "new", word, "100"],
        ] {
            assert_eq!(s.call_args(words).int(), 0, "{shown}");
        }
        if word != stamp.as_bytes() {
            assert_eq!(s.call_args(args!["SMARTCACHE.SET", "new", "w", "SINCE", word]).text(), "LOST", "{shown}");
            assert_eq!(s.call_args(args!["SMARTCACHE.MSET", "1", "new", "w", "SINCE", word]).int(), 0, "{shown}");
        }
    }
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "new", "w", "SINCE", token]).text(), "LOST", "a token is no stamp");
    assert_eq!(everything(&s), before);
    assert_eq!(s.inspect("new", "lease").text(), "held", "the lease is still held");
    assert_eq!(s.fill("new", "v", &token), "OK");
    assert_eq!(three.call_args(args!["SMARTCACHE.SET", "new", "v", "TOKEN", elsewhere]).text(), "OK");
}

#[test]
fn leases_of_a_key_that_holds_something_else() {
    let s = prepared();
    assert!(s.call("SMARTCACHE.GETLOCK list").error().starts_with("WRONGTYPE"));
    assert!(s.call("SMARTCACHE.GETLOCK list WAIT 60").error().starts_with("WRONGTYPE"));
    assert_eq!(s.getlock("plain WAIT 60").brief(), "HIT v", "a plain string is read as a fresh entry");
    let token = s.getlock("later LOCK 100").token().to_owned();
    s.ok("CONFIG SET smartcache.guard-native no"); // else the native write would void the lease
    s.ok("LPUSH later a");
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "later", token, "5"]).int(), 1);
    assert_eq!(s.fill("later", "v", &token), "LOST");
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "later", token]).int(), 0);
    assert_eq!(s.ok("LRANGE later 0 -1").texts(), ["a"]);
    assert_eq!(s.stat("leases"), 0);
}
