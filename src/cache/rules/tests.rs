use proptest::{collection::vec, prelude::*};

use super::{
    spec::tests::{any_rule, rule},
    *,
};
use crate::cache::glob::oracle;
use crate::config::Settings;

fn configured(json: &str) -> Settings {
    Settings { rules: RuleList::parse(json.as_bytes()).unwrap(), ..Settings::default() }
}

/// The policies that follow from the settings.
fn configured_by(settings: &Settings) -> Policies {
    Policies::new(settings.policy(), &settings.rules)
}

fn reconfigure(policies: &mut Policies, settings: &Settings) {
    policies.apply(settings.policy(), &settings.rules);
}

fn policies(lines: &[&str]) -> Policies {
    let mut policies = configured_by(&Settings::default());
    lines.iter().for_each(|line| policies.set(rule(line).unwrap()).unwrap());
    policies
}

fn found<'p>(policies: &'p Policies, key: &str) -> &'p str {
    policies.find(key.as_bytes()).map_or("none", Rule::name)
}

fn names(policies: &Policies) -> Vec<&str> {
    policies.iter().map(Rule::name).collect()
}

#[test]
fn the_first_match_wins_by_priority_and_then_by_age() {
    let mut policies = policies(&["a MATCH user:*", "b MATCH * PRIORITY -1", "c MATCH user:1* MATCH x PRIORITY 5"]);
    assert_eq!(names(&policies), ["c", "a", "b"]);
    assert_eq!(["user:12", "user:2", "x", "y"].map(|key| found(&policies, key)), ["c", "a", "c", "b"]);
    policies.set(rule("d MATCH user:*").unwrap()).unwrap();
    assert_eq!(names(&policies), ["c", "a", "d", "b"]);
}

#[test]
fn a_rule_set_again_is_replaced_whole_and_keeps_its_age_and_id() {
    let mut policies = policies(&["a MATCH * TTL 5 SWR 9", "b MATCH *"]);
    let id = policies.get(b"a").unwrap().id();
    policies.set(rule("a MATCH * SIE 3").unwrap()).unwrap();
    let again = policies.get(b"a").unwrap();
    assert_eq!((again.id(), again.spec()), (id, &rule("a MATCH * SIE 3").unwrap()));
    assert_eq!(found(&policies, "k"), "a");
    assert_eq!(policies.del(b"a", false), Ok(true));
    policies.set(rule("a MATCH *").unwrap()).unwrap();
    assert_eq!(found(&policies, "k"), "b", "deleted and made again, it is the youngest");
}

#[test]
fn a_configured_rule_hides_the_commanded_one_of_its_name_until_it_is_removed() {
    let mut policies = policies(&["a MATCH * TTL 1", "b MATCH * TTL 2"]);
    let id = policies.get(b"b").unwrap().id();
    reconfigure(&mut policies, &configured(r#"[{"name":"z","match":"z*"},{"name":"b","match":"*","ttl":3}]"#));
    assert_eq!(names(&policies), ["z", "b", "a"], "configured ones first");
    let rule = policies.get(b"b").unwrap();
    assert_eq!((rule.id(), rule.origin(), rule.policy().ttl_ms), (id, Origin::Configured, Some(3_000)));
    assert_eq!(policies.commanded().map(Rule::name).collect::<Vec<_>>(), ["a", "b"]);

    reconfigure(&mut policies, &Settings::default());
    assert_eq!(names(&policies), ["a", "b"]);
    assert_eq!(policies.rule(id).unwrap().policy().ttl_ms, Some(2_000));
}

#[test]
fn a_configured_rule_is_not_deleted_by_command_and_the_error_names_the_setting() {
    let mut policies = configured_by(&configured(r#"[{"name":"a","match":"*"}]"#));
    let text = policies.del(b"a", false).unwrap_err().to_string();
    assert!(text.contains("'a'") && text.contains("smartcache.rules"), "{text}");
    assert_eq!(policies.del(b"b", false), Ok(false));
    policies.set(rule("a MATCH x").unwrap()).unwrap();
    assert_eq!(policies.del(b"a", true), Ok(true), "the commanded one that was hidden");
    assert_eq!(found(&policies, "k"), "a");
}

#[test]
fn policies_follow_the_settings() {
    let mut policies = policies(&["a MATCH a* TTL 5"]);
    reconfigure(&mut policies, &Settings { swr_ms: 7, default_ttl_ms: 9, ..Settings::default() });
    let policy = |key: &[u8]| policies.policy(policies.find(key));
    assert_eq!((policy(b"a").ttl_ms, policy(b"a").swr_ms), (Some(5_000), 7));
    assert_eq!((policy(b"k").ttl_ms, policy(b"k").swr_ms), (Some(9), 7));
}

#[test]
fn an_id_is_used_again_as_late_as_possible() {
    let mut policies = policies(&["a MATCH *", "b MATCH *"]);
    let (a, b) = (policies.get(b"a").unwrap().id(), policies.get(b"b").unwrap().id());
    policies.del(b"a", false).unwrap();
    assert!(policies.rule(a).is_none() && policies.rule(RuleId::NONE).is_none());
    policies.set(rule("c MATCH *").unwrap()).unwrap();
    assert_ne!(policies.get(b"c").unwrap().id(), a);

    policies.last_id = u16::MAX - 1;
    for name in ["d", "e", "f"] {
        policies.set(rule(&format!("{name} MATCH *")).unwrap()).unwrap();
    }
    let ids: Vec<u16> = policies.iter().map(|rule| rule.id().0).collect();
    assert_eq!(ids, [b.0, 3, u16::MAX, 1, 4], "past 0, and past those in use");
    assert!(policies.iter().all(|rule| policies.rule(rule.id()).unwrap().name() == rule.name()));
}

#[test]
fn each_origin_of_rules_has_its_own_limit() {
    let mut policies = configured_by(&configured(r#"[{"name":"a","match":"*"}]"#));
    for i in 0..MAX_RULES {
        policies.set(rule(&format!("r{i} MATCH *")).unwrap()).unwrap();
    }
    assert_eq!(policies.set(rule("more MATCH *").unwrap()), Err(RuleError::TooMany));
    policies.set(rule("r5 MATCH x").unwrap()).unwrap();
    assert_eq!(policies.iter().len(), MAX_RULES + 1);
}

#[test]
fn commanded_rules_are_saved_and_loaded() {
    let mut saved = policies(&["a MATCH *", "b MATCH * PRIORITY 3", "c MATCH *"]);
    saved.set(rule("a MATCH x").unwrap()).unwrap();
    let mut loaded = policies(&["other MATCH *"]);
    loaded.clear_commanded();
    saved.commanded().for_each(|rule| loaded.set(rule.spec().clone()).unwrap());
    assert!(saved.iter().map(Rule::spec).eq(loaded.iter().map(Rule::spec)));
}

#[test]
fn tags_are_made_by_the_first_pattern_that_matches() {
    let policies = policies(&["r MATCH a:* MATCH *:*:* TAG one:{1} TAG {1} TAG all"]);
    let rule = policies.get(b"r").unwrap();
    let tags = |key: &[u8]| rule.tags(key).map(|tag| String::from_utf8(tag).unwrap()).collect::<Vec<_>>();
    assert_eq!(tags(b"a:b:c"), ["one:b:c", "b:c", "all"], "by the first pattern that matches");
    assert_eq!(tags(b":b:c"), ["one:", "all"], "without the one that would be empty");
    assert!(tags(b"b").is_empty());
}

#[test]
fn an_explanation_has_the_rule_the_range_and_the_tags() {
    let policies = policies(&["r MATCH user:* TTL 10 SCALE 2 JITTER 10% MAX 21 NEGATIVE 1 TAG u:{1}"]);
    let explained = policies.explain(b"user:1", None);
    assert_eq!(explained.rule.map(Rule::name), Some("r"));
    assert_eq!((explained.ttl_ms, explained.negative_ms), (Some((18_000, 21_000)), (900, 1_100)));
    assert_eq!((explained.policy.lock_ms, explained.tags), (10_000, vec![b"u:1".to_vec()]));
    assert_eq!(policies.explain(b"user:1", Some(1_000)).ttl_ms, Some((1_800, 2_200)));

    let explained = policies.explain(b"k", None);
    assert!(explained.rule.is_none() && explained.tags.is_empty());
    assert_eq!(explained.ttl_ms, Some((3_600_000, 3_600_000)));
    let endless = configured_by(&Settings { default_ttl_ms: 0, ..Settings::default() });
    assert_eq!(endless.explain(b"k", None).ttl_ms, None);
}

proptest! {
    #[test]
    fn find_agrees_with_sorting_and_testing_each_pattern(rules in vec(any_rule(), 0..8), key in "[:a-c]{0,8}") {
        let mut policies = configured_by(&Settings::default());
        let mut naive: Vec<RuleSpec> = Vec::new();
        for spec in rules {
            policies.set(spec.clone()).unwrap();
            match naive.iter_mut().find(|other| other.name == spec.name) {
                Some(other) => *other = spec,
                None => naive.push(spec),
            }
        }
        naive.sort_by_key(|spec| -spec.priority.unwrap_or(0));
        let key = key.as_bytes();
        let wanted = naive.iter().find(|spec| spec.matches.iter().any(|glob| oracle::matches(glob.pattern(), key)));
        prop_assert_eq!(policies.find(key).map(Rule::spec), wanted);
    }
}
