//! Transcripts: commands after `>`, and below each the expected answer as `redis-cli` prints it.
//!
//! `…` in an expected line matches anything, so `(integer) …` is any integer.

use super::resp::{Reply, split};

#[track_caller]
pub(crate) fn play(transcript: &str, mut call: impl FnMut(&[&[u8]]) -> Reply) {
    for scene in scenes(transcript) {
        let words = split(&scene.line);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let got = call(&words).to_string();
        let same = {
            let got: Vec<&str> = got.lines().collect();
            got.len() == scene.answer.len() && got.iter().zip(&scene.answer).all(|(g, e)| matches(e, g))
        };
        assert!(same, "\n> {}\nexpected:\n{}\ngot:\n{got}\n", scene.line, scene.answer.join("\n"));
    }
}

struct Scene {
    line: String,
    answer: Vec<String>,
}

/// All lines have the same indentation; deeper indentation belongs to the answer (a nested array).
fn scenes(transcript: &str) -> Vec<Scene> {
    let lines: Vec<&str> = transcript.lines().filter(|l| !l.trim().is_empty()).collect();
    let margin = lines.iter().map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
    let mut scenes: Vec<Scene> = Vec::new();
    for line in lines {
        let line = &line[margin..];
        match (line.strip_prefix("> "), scenes.last_mut()) {
            (Some(line), _) => scenes.push(Scene { line: line.to_owned(), answer: Vec::new() }),
            (None, Some(scene)) => scene.answer.push(line.trim_end().to_owned()),
            (None, None) => panic!("a transcript begins with '> ': {line}"),
        }
    }
    scenes
}

/// `…` matches any text, everything else only itself.
pub(crate) fn matches(expected: &str, got: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = got.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn dots_match_anything() {
    assert!(matches("(integer) …", "(integer) 12"));
    assert!(matches("(error) ERR … 'x' …", "(error) ERR what is 'x' for?"));
    assert!(!matches("OK", "OK "));
    assert!(!matches("…b", "abc"));
}
