//! The sessions that pages show, played: what a page says that a server answers, it answers.
//!
//! A session is a block of a page that begins with the prompt of `redis-cli`, which names the database as well. All
//! sessions of a page are played on one server, with the settings of `scripts/redis.conf` and a replica, each on a
//! connection of its own. What differs from run to run may differ: a number of three digits and more is a time or a
//! size, and may be half as much or twice as much; a stamp or a token stands for the one that was answered here.

use std::fs;
use std::path::Path;

use crate::support::resp::split;
use crate::support::{Server, wait_until};

/// What the prompt of `redis-cli` begins with.
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

/// How many commands of a page were played.
fn play(page: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let conf = fs::read_to_string(root.join("scripts/redis.conf")).expect("the settings");
    let ours: Vec<&str> = conf.lines().filter(|line| line.starts_with("smartcache.")).collect();
    let s = Server::setup().tcp().conf(&ours.join("\n")).start();
    let _replica = Server::replica_of(&s, "");
    let text = fs::read_to_string(root.join(page)).expect("the page");
    let mut opaque: Vec<(String, String)> = Vec::new(); // as it is shown, and as it is
    let mut played = 0;
    for block in text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("text\n")) {
        let mut conn = s.connect();
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next_if(|line| line.starts_with(PROMPT)) {
            let (_, command) = line.split_once("> ").expect("a prompt ends so");
            let command = opaque.iter().fold(command.to_owned(), |line, (shown, got)| line.replace(shown, got));
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with(PROMPT)) {
                expected.push(line);
            }
            let words = split(&command);
            let got = conn.call_args(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()).to_string();
            assert!(
                alike(&expected.join("\n"), &got, &mut opaque),
                "\n{page}\n> {command}\nit says:\n{}\nthe server says:\n{got}\n",
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

/// Whether an answer is the one that is shown; what is opaque in it is remembered.
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
