//! Patterns, against the server's own way of matching them, written down as it stands there.
//!
//! The input is a pattern and, behind a line end, a text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartcache::cache::glob::{Glob, Prefilter};

/// The server's `stringmatchlen`, step by step, with a range's bytes as unsigned. Bytes behind the end read as 0.
fn server_matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    fn at(bytes: &[u8], n: usize) -> u8 {
        bytes.get(n).copied().unwrap_or(0)
    }
    while !pattern.is_empty() && !text.is_empty() {
        match pattern[0] {
            b'*' => {
                while at(pattern, 1) == b'*' {
                    pattern = &pattern[1..];
                }
                if pattern.len() == 1 {
                    return true;
                }
                return (0..text.len()).any(|skipped| server_matches(&pattern[1..], &text[skipped..]));
            }
            b'?' => text = &text[1..],
            b'[' => {
                pattern = &pattern[1..];
                let not = at(pattern, 0) == b'^';
                if not {
                    pattern = &pattern[1..];
                }
                let mut found = false;
                let closed = loop {
                    if pattern.is_empty() {
                        break false;
                    } else if pattern.len() >= 2 && pattern[0] == b'\\' {
                        pattern = &pattern[1..];
                        found |= pattern[0] == text[0];
                    } else if pattern[0] == b']' {
                        break true;
                    } else if pattern.len() >= 3 && pattern[1] == b'-' {
                        let (start, end) = (pattern[0].min(pattern[2]), pattern[0].max(pattern[2]));
                        pattern = &pattern[2..];
                        found |= (start..=end).contains(&text[0]);
                    } else {
                        found |= pattern[0] == text[0];
                    }
                    pattern = &pattern[1..];
                };
                if found == not {
                    return false;
                }
                text = &text[1..];
                if !closed {
                    // The server steps back to have something to step over.
                    return text.is_empty();
                }
            }
            first => {
                if first == b'\\' && pattern.len() >= 2 {
                    pattern = &pattern[1..];
                }
                if pattern[0] != text[0] {
                    return false;
                }
                text = &text[1..];
            }
        }
        pattern = &pattern[1..];
        if text.is_empty() {
            while at(pattern, 0) == b'*' {
                pattern = &pattern[1..];
            }
        }
    }
    pattern.is_empty() && text.is_empty()
}

fuzz_target!(|input: &[u8]| {
    let (pattern, text) = match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &input[..0]),
    };
    let glob = Glob::new(pattern);
    let matched = glob.matches(text);
    // Its way is exponential in the stars.
    if pattern.iter().filter(|byte| **byte == b'*').count() <= 5 && text.len() <= 48 {
        // `KEYS` takes a bare star as everything, and asks no further.
        assert_eq!(matched, pattern == b"*" || server_matches(pattern, text), "{pattern:?} {text:?}");
    }
    assert!(!matched || Prefilter::of(text).has(glob.needs()), "the prefilter holds back {pattern:?} {text:?}");
    for star in 0..=glob.stars() + 1 {
        let captured = glob.captures(text, star);
        assert_eq!(captured.is_some(), matched && (1..=glob.stars()).contains(&star), "{pattern:?} {text:?} {star}");
    }
});
