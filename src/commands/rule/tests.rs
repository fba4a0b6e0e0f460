use crate::testing::TestNode;

const FULL: &str = "RULE SET full MATCH a:*:* MATCH b:*:* PRIORITY -3 TTL 5m SCALE 0.5 MIN 250ms MAX 7d JITTER 10% SWR 0 SIE 1h \
                    NEGATIVE 1.5 LOCK 2s BETA 0.5 CODEC LZ4 MINSIZE 1kb FILLS 4 TAG u:{1} TAG all";

#[test]
fn a_rule_is_shown_as_it_was_given_with_durations_in_milliseconds() {
    let mut node = TestNode::at(1_000);
    assert_eq!(node.call(&format!("SMARTCACHE.{FULL}")), "OK");
    assert_eq!(node.effects, ["replicate verbatim"]);
    assert_eq!(node.passed_on, [format!("SMARTCACHE.{FULL}")]);
    assert_eq!(
        node.call("SMARTCACHE.RULE GET full"),
        "{\"name\": \"full\", \"source\": \"command\", \"match\": [\"a:*:*\", \"b:*:*\"], \"priority\": -3, \
         \"ttl\": 300000, \"scale\": 0.5, \"min\": 250, \"max\": 604800000, \"jitter\": 0.1, \"swr\": 0, \
         \"sie\": 3600000, \"negative\": 1500, \"lock\": 2000, \"beta\": 0.5, \"codec\": \"lz4\", \"minsize\": 1024, \
         \"fills\": 4, \"tag\": [\"u:{1}\", \"all\"]}"
    );
    node.call("RULE SET full MATCH x");
    let short = r#"{"name": "full", "source": "command", "match": ["x"]}"#;
    assert_eq!(node.call("RULE GET full"), short, "replaced as a whole");
    assert_eq!(node.call("RULE GET nosuch"), "(nil)");
    assert!(node.effects.is_empty());
}

#[test]
fn a_replica_makes_the_same_rule_from_the_same_command() {
    let mut node = TestNode::at(1_000);
    node.call(FULL);
    let sent = node.replicated[0].clone();
    let mut replica = TestNode::at(1_000);
    assert_eq!(replica.obey(&sent.iter().map(Vec::as_slice).collect::<Vec<_>>()), "OK");
    assert_eq!(replica.call("RULE LIST"), node.call("RULE LIST"));
}

#[test]
fn rules_are_listed_in_matching_order() {
    let mut node = TestNode::at(1_000);
    assert_eq!(node.call("RULE LIST"), "[]");
    node.call("RULE SET old MATCH *");
    node.call("RULE SET young MATCH *");
    node.call("RULE SET high MATCH * PRIORITY 5");
    node.config("rules", r#"[{"name":"here","match":"z"}]"#).unwrap();
    let list = node.call("SMARTCACHE.RULE LIST");
    let at = |name: &str| list.find(&format!("\"name\": \"{name}\"")).unwrap();
    assert!(at("high") < at("here") && at("here") < at("old") && at("old") < at("young"), "{list}");
    assert!(list.contains(r#"{"name": "here", "source": "config", "match": ["z"]}"#));
}

#[test]
fn a_deleted_rule_no_longer_applies_and_its_entries_stay() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET r MATCH * TTL 5");
    node.call("SET k v");
    assert_eq!(node.call("SMARTCACHE.RULE DEL r"), "1");
    assert_eq!(node.effects, ["replicate verbatim"]);
    assert_eq!((node.inspect("k", "fresh_ms"), node.call("RULE LIST")), ("5000".into(), "[]".into()));
    node.call("SET k v");
    assert_eq!(node.inspect("k", "fresh_ms"), "3600000");
    assert_eq!(node.call("SMARTCACHE.RULE DEL r"), "0");
    assert!(node.effects.is_empty(), "nothing changed, so nothing is replicated");
    assert_eq!(node.passed_on, ["SMARTCACHE.RULE DEL r"], "but another primary may have it");
}

#[test]
fn a_rule_passed_on_is_set_and_replicated_and_not_passed_on_again() {
    let mut node = TestNode::at(1_000);
    for (line, answer) in [("SMARTCACHE.RULE SET r MATCH * TTL 5", "OK"), ("SMARTCACHE.RULE DEL r", "1")] {
        assert_eq!(node.receive(line), answer);
        assert_eq!((&node.effects[..], &node.passed_on[..]), (&["replicate verbatim".to_owned()][..], &[][..]));
    }
    node.obey(&[b"SMARTCACHE.RULE", b"SET", b"r", b"MATCH", b"*"]);
    assert!(node.passed_on.is_empty(), "what comes from our primary or an AOF is not passed on either");
    node.config("rules", r#"[{"name":"r","match":"*","ttl":7}]"#).unwrap();
    assert_eq!(node.receive("RULE DEL r"), "1", "the commanded rule is deleted: other nodes may not configure it");
}

#[test]
fn the_longest_rule_fits_into_a_message() {
    let mut node = TestNode::at(1_000);
    let mut words = vec![b"SMARTCACHE.RULE".to_vec(), b"SET".to_vec(), vec![b'n'; 64]];
    for n in 0..64 {
        words.extend([b"MATCH".to_vec(), format!("{n:*>1024}").into_bytes()]);
    }
    for n in 0..64 {
        words.extend([b"TAG".to_vec(), format!("{n:t>255}").into_bytes()]);
    }
    assert_eq!(node.call_words(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()), "OK");
    assert_eq!(node.passed_on.len(), 1);
}

#[test]
fn a_configured_rule_wins_and_is_not_deleted_by_command() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET r MATCH * TTL 5");
    node.config("rules", r#"[{"name":"r","match":"*","ttl":7},{"name":"only","match":"x"}]"#).unwrap();
    assert_eq!(node.call("RULE EXPLAIN k").split(", ").nth(1), Some("\"ttl_min_ms\": 7000"));
    let error = "ERR rule 'only' comes from the setting smartcache.rules: change it there, with CONFIG SET or in the configuration file";
    assert_eq!(node.refusal("RULE DEL only"), error);
    assert!(node.refusal("RULE DEL r").contains("smartcache.rules"), "even when a commanded rule has the same name");
    let obeyed = node.obey(&[b"SMARTCACHE.RULE", b"DEL", b"r"]);
    assert_eq!(obeyed, "1", "for our primary the commanded rule is deleted: a replica may configure other rules");
    assert!(node.call("RULE GET r").contains("\"source\": \"config\""));
    node.config("rules", "").unwrap();
    assert_eq!(node.call("RULE GET r"), "(nil)");
}

#[test]
fn explain_shows_the_policy_of_a_key() {
    let mut node = TestNode::at(1_000);
    node.call(FULL);
    assert_eq!(
        node.call("SMARTCACHE.RULE EXPLAIN a:1:2"),
        "{\"rule\": \"full\", \"ttl_min_ms\": 135000, \"ttl_max_ms\": 165000, \"swr_ms\": 0, \"sie_ms\": 3600000, \
         \"negative_min_ms\": 1350, \"negative_max_ms\": 1650, \"lock_ms\": 2000, \"beta\": 0.5, \"codec\": \"lz4\", \
         \"minsize\": 1024, \"fills\": 4, \"tags\": [\"u:1\", \"all\"]}"
    );
    assert!(node.call("RULE EXPLAIN a:1:2 ttl 10").contains("\"ttl_min_ms\": 4500, \"ttl_max_ms\": 5500"));
    let unruled = node.call("RULE EXPLAIN nosuch");
    assert!(
        unruled.starts_with("{\"rule\": (nil), \"ttl_min_ms\": 3600000") && unruled.ends_with("\"tags\": []}"),
        "{unruled}"
    );
    node.config("default-ttl", "0").unwrap();
    assert!(node.call("RULE EXPLAIN nosuch").contains("\"ttl_min_ms\": (nil), \"ttl_max_ms\": (nil)"));
    assert!(node.effects.is_empty());
}

#[test]
fn an_explained_policy_is_the_one_that_applies() {
    let mut node = TestNode::at(1_000);
    node.call(FULL);
    for _ in 0..50 {
        node.call("SET a:1:2 v");
        let ms: u64 = node.inspect("a:1:2", "fresh_ms").parse().unwrap();
        assert!((135_000..=165_000).contains(&ms), "{ms}");
    }
    assert_eq!(
        (node.inspect("a:1:2", "tags"), node.inspect("a:1:2", "rule")),
        (r#"["u:1", "all"]"#.into(), "\"full\"".into())
    );
}

#[test]
fn a_wrong_rule_is_an_error_that_names_it_and_the_old_one_stays() {
    let mut node = TestNode::at(1_000);
    node.call("RULE SET r MATCH * TTL 5");
    for (words, error) in [
        ("r MATCH * SPEED 5", "syntax error near 'SPEED'"),
        ("r MATCH * TTL 5 ttl 6", "syntax error near 'ttl'"),
        ("r MATCH * TTL", "syntax error near 'TTL'"),
        ("r TTL 5", "rule 'r' needs at least one MATCH"),
        ("r MATCH * TTL 0", "rule 'r': TTL '0' must not be 0"),
        ("r MATCH * SCALE 0", "rule 'r': SCALE '0' must not be 0"),
        ("r MATCH * SCALE -1", "rule 'r': SCALE '-1' is not a number: say 2 or 0.75"),
        ("r MATCH * JITTER 2", "rule 'r': JITTER '2' is too large: a fraction is from 0 to 1, or 0% to 100%"),
        ("r MATCH * PRIORITY x", "rule 'r': PRIORITY 'x' is not an integer or out of range"),
        ("r MATCH * FILLS 0", "rule 'r': FILLS '0' is out of range: from 1 to 1000000"),
        ("r MATCH * CODEC best", "rule 'r': CODEC 'best' is not a codec: say auto, none, gzip, zstd or lz4"),
        ("r MATCH * MINSIZE 3gb", "rule 'r': MINSIZE '3gb' is too large: a size is at most 2gb"),
        ("r MATCH * MIN 2s MAX 1s", "rule 'r' has a MIN (2s) above its MAX (1s)"),
        ("r MATCH a:* TAG {2}", "rule 'r': TAG"),
        ("r/x MATCH *", "'r/x' is not a name for a rule: 1 to 64 letters, digits and any of _ . : -"),
    ] {
        let refusal = node.refusal(&format!("SMARTCACHE.RULE SET {words}"));
        if error == "rule 'r': TAG" {
            assert!(refusal.contains("{2}"), "{refusal}");
        } else {
            assert_eq!(refusal, format!("ERR {error}"), "{words}");
        }
    }
    let odd: [&[u8]; 7] = [b"RULE", b"SET", b"r", b"MATCH", b"*", b"a\0'b", b"x"];
    assert_eq!(node.refusal_words(&odd), r"ERR syntax error near 'a\x00\'b'");
}

#[test]
fn each_subcommand_checks_its_arguments() {
    let mut node = TestNode::at(1_000);
    for (line, sub) in [
        ("RULE SET r MATCH", "set"),
        ("RULE DEL", "del"),
        ("RULE DEL a b", "del"),
        ("RULE GET", "get"),
        ("RULE LIST x", "list"),
        ("RULE EXPLAIN", "explain"),
    ] {
        assert_eq!(node.refusal(line), format!("ERR wrong number of arguments for 'smartcache.rule|{sub}' command"));
    }
    for (line, error) in [
        ("RULE EXPLAIN k SWR 5", "ERR syntax error near 'SWR'"),
        ("RULE EXPLAIN k TTL", "ERR syntax error near 'TTL'"),
        ("RULE EXPLAIN k TTL 5 x", "ERR syntax error near 'x'"),
        ("RULE EXPLAIN k TTL 0", "ERR invalid TTL '0': must be more than 0"),
    ] {
        assert_eq!(node.refusal(line), error);
    }
}
