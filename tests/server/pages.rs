//! Runs the sessions in the docs: the server must answer what the page shows.
//!
//! A session is a block that begins with the prompt of `redis-cli`, which also shows the database. All sessions of a
//! page run on one server with the settings of `scripts/redis.conf` and a replica, each on its own connection. Values
//! that vary may differ: a number of three or more digits is a time or a size, and may be between half and twice as
//! large; a stamp or a token stands for the actual one.

use std::fs;
use std::path::Path;

use crate::support::resp::split;
use crate::support::{Server, wait_until};

/// The start of the prompt of `redis-cli`.
const PROMPT: &str = "127.0.0.1:6379";

#[test]
fn what_the_readme_shows_is_what_happens() {
    assert!(play("README.md") >= 12);
}

#[test]
fn what_the_page_about_storing_shows_is_what_happens() {
    assert!(play("docs/storing.md") >= 8);
}

#[test]
fn what_the_page_about_invalidation_shows_is_what_happens() {
    assert!(play("docs/invalidation.md") >= 40);
}

#[test]
fn what_the_page_about_unmodified_clients_shows_is_what_happens() {
    assert!(play("docs/unmodified-clients.md") >= 25);
}

/// Runs the sessions of a page; returns the number of commands.
fn play(page: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let conf = fs::read_to_string(root.join("scripts/redis.conf")).expect("the settings");
    let ours: Vec<&str> = conf.lines().filter(|line| line.starts_with("smartcache.")).collect();
    let s = Server::setup().tcp().conf(&ours.join("\n")).start();
    let _replica = Server::replica_of(&s, "");
    let text = fs::read_to_string(root.join(page)).expect("the page");
    let mut opaque: Vec<(String, String)> = Vec::new(); // shown and actual
    let mut played = 0;
    for block in text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("text\n")) {
        let mut conn = s.connect();
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next_if(|line| line.starts_with(PROMPT)) {
            let (_, command) = line.split_once("> ").expect("the end of the prompt");
            let command = opaque.iter().fold(command.to_owned(), |line, (shown, got)| line.replace(shown, got));
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with(PROMPT)) {
                expected.push(line);
            }
            let words = split(&command);
            let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
            let mut got = conn.call_args(&words).to_string();
            if words[0] == b"WAIT" {
                // On a busy machine a replica may take longer than the page waits.
                wait_until("the replica has answered", || {
                    got = conn.call_args(&words).to_string();
                    got == expected.join("\n")
                });
            }
            assert!(
                alike(&expected.join("\n"), &got, &mut opaque),
                "\n{page}\n> {command}\nthe page shows:\n{}\nthe server answers:\n{got}\n",
                expected.join("\n")
            );
            if command.contains("appendonly") {
                wait_until("it is written", || s.info("aof_rewrite_in_progress") == "0");
            }
            played += 1;
        }
    }
    played
}

/// Whether the answer matches the shown one; records opaque values.
fn alike(shown: &str, got: &str, opaque: &mut Vec<(String, String)>) -> bool {
    let (shown, got): (Vec<&str>, Vec<&str>) = (shown.split_whitespace().collect(), got.split_whitespace().collect());
    shown.len() == got.len()
        && shown.iter().zip(got).all(|(shown, got)| {
            let numbers = shown.parse::<u64>().ok().filter(|n| *n >= 100).zip(got.parse::<u64>().ok());
            if let Some((shown, got)) = numbers {
                return got >= shown / 2 && got <= shown * 2;
            }
            if is_opaque(shown) && is_opaque(got) {
                opaque.push((shown.trim_matches('"').to_owned(), got.trim_matches('"').to_owned()));
                return true;
            }
            *shown == got
        })
}

/// A stamp or a token.
fn is_opaque(word: &str) -> bool {
    let word = word.trim_matches('"');
    word.len() >= 20 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
