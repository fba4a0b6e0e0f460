use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    let matched = Glob::new(pattern.as_bytes()).matches(text.as_bytes());
    assert_eq!(matched, oracle::matches(pattern.as_bytes(), text.as_bytes()), "{pattern} against {text}");
    matched
}

#[test]
fn patterns_read_as_in_keys() {
    for (pattern, yes, no) in [
        ("user:*", "user:42", "users:42"),
        ("*:profile", "u:1:profile", "u:1:profiles"),
        ("*:profile:*", "u:profile:1", "u:profile"),
        ("h?llo", "hallo", "hllo"),
        ("h[ae]llo", "hello", "hillo"),
        ("h[^e]llo", "hallo", "hello"),
        ("h[a-b]llo", "hbllo", "hcllo"),
        ("h[b-a]llo", "hallo", "hcllo"),
        (r"a\*", "a*", "ab"),
        (r"a\b", "ab", r"a\b"),
        ("exact", "exact", "exactly"),
        ("a*a", "aa", "a"),
        ("", "", "a"),
        ("*", "", "\0never"),
        ("a**b", "ab", "a"),
    ] {
        assert!(matches(pattern, yes), "{pattern} should match {yes}");
        if pattern != "*" {
            assert!(!matches(pattern, no), "{pattern} should not match {no}");
        }
    }
}

#[test]
fn the_servers_quirks_are_kept() {
    for (pattern, yes, no) in [
        ("[ab", "b", "c"),     // not closed
        ("[", "\0x", "["),     // nothing to match
        ("[^", "x", "xx"),     // anything
        ("[]x", "]x", "x"),    // closed at once, so nothing
        ("[^]x", "ax", "x"),   // closed at once, so anything
        ("[a-]x", "_", "ax"),  // a range from a to ], and still open
        (r"[\]a]", "]", r"\"), // escaped
        (r"[a\", r"\", "b"),   // the pattern's last byte
        (r"a\", r"a\", "a"),   // likewise
        ("[a-z-9]", "-", "8"), // a minus after a range is a minus
        ("[!a]", "!", "b"),    // no other sign of negation than ^
    ] {
        let never = pattern == "[" || pattern == "[]x";
        assert_eq!(matches(pattern, yes), !never, "{pattern} against {yes}");
        assert!(!matches(pattern, no), "{pattern} against {no}");
    }
    assert!(!matches("**", "") && !matches("?", "") && !matches("a", ""));
}

#[test]
fn a_range_may_span_all_bytes() {
    let any = Glob::new(b"[\x00-\xff]");
    assert!((0..=255).all(|byte| any.matches(&[byte])));
}

#[test]
fn each_star_takes_as_little_as_it_can_and_the_last_one_the_rest() {
    let captured = |pattern: &str, text: &'static str| -> Vec<&'static str> {
        let glob = Glob::new(pattern.as_bytes());
        let stars = (1..=glob.stars()).filter_map(|star| glob.captures(text.as_bytes(), star));
        stars.map(|bytes| str::from_utf8(bytes).unwrap()).collect()
    };
    assert_eq!(captured("user:*:profile", "user:42:profile"), ["42"]);
    assert_eq!(captured("*:profile:*", "a:profile:b:profile:c"), ["a", "b:profile:c"]);
    assert_eq!(captured("*:*:*", "a:b:c:d"), ["a", "b", "c:d"]);
    assert_eq!(captured("a**b", "aXb"), ["X"]);
    assert_eq!(captured(r"\**[*]", "*x*"), ["x"]);
    assert_eq!(captured("*", ""), [""]);
    assert!(captured("a*c", "abd").is_empty());
    assert_eq!(Glob::new(b"a*").captures(b"ab", 0), None);
    assert_eq!(Glob::new(b"a*").captures(b"ab", 2), None);
}

#[test]
fn hostile_patterns_cost_at_most_pattern_times_text() {
    let text = [b'a'; 10_000];
    for pattern in ["*a*a*a*a*b", "*a*a*a*a*a*a*a*a*[b]*", "*aaaaaaaaaaaaaaab*", "*?????????a?????b", "*[a-z]*[a-z]b*"]
    {
        steps::STEPS.set(0);
        assert!(!Glob::new(pattern.as_bytes()).matches(&text));
        let bound = 2 * (pattern.len() + 1) * (text.len() + 1);
        assert!(steps::STEPS.get() <= bound, "{pattern}: {} steps, bound {bound}", steps::STEPS.get());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn matching_agrees_with_the_oracle(pattern in r"[\[\]^\\*?ab-]{0,12}", text in r"[\[\]^\\ab-]{0,10}") {
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        let glob = Glob::new(pattern);
        let matched = glob.matches(text);
        prop_assert_eq!(matched, oracle::matches(pattern, text));
        prop_assert!(!matched || Prefilter::of(text).has(glob.needs()));
    }

    #[test]
    fn matching_texts_are_found(pattern in r"[*?ab]{0,10}", fill in r"[ab]{10}", longer in 0..3_usize) {
        // Random pairs seldom match, so the text is made from the pattern.
        let fill = fill.as_bytes();
        let mut text = Vec::new();
        for (i, &byte) in pattern.as_bytes().iter().enumerate() {
            match byte {
                b'*' => text.extend_from_slice(&fill[..longer]),
                b'?' => text.push(fill[i]),
                byte => text.push(byte),
            }
        }
        let glob = Glob::new(pattern.as_bytes());
        // Only the empty text may not match its own pattern, see the quirks.
        prop_assert!(oracle::matches(pattern.as_bytes(), &text) || text.is_empty());
        prop_assert_eq!(glob.matches(&text), oracle::matches(pattern.as_bytes(), &text));
        prop_assert!(Prefilter::of(&text).has(glob.needs()));
    }

    #[test]
    fn any_bytes_are_a_pattern(pattern: Vec<u8>, text: Vec<u8>) {
        let glob = Glob::new(&pattern);
        prop_assert_eq!(glob.matches(&text), oracle::matches(&pattern, &text));
        prop_assert_eq!(glob.pattern(), &pattern[..]);
    }

    #[test]
    fn literals_and_captures_add_up_to_the_text(pattern in r"[*?:a]{0,8}", text in r"[:ab]{0,12}") {
        let glob = Glob::new(pattern.as_bytes());
        let captures: Vec<_> = (1..=glob.stars()).map(|star| glob.captures(text.as_bytes(), star)).collect();
        if !glob.matches(text.as_bytes()) {
            prop_assert!(captures.iter().all(Option::is_none));
            return Ok(());
        }
        let literal = glob.segments.iter().map(Segment::len).sum::<usize>();
        let captured = captures.iter().map(|capture| capture.expect("matched").len()).sum::<usize>();
        prop_assert_eq!(literal + captured, text.len());
    }
}
