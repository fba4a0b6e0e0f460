//! What is saved beside the keys, ahead of them: the clock, the rules made by command, and the invalidation marks.
//!
//! ```text
//! smartcache-aux-1  clock's last stamp  number of rules  { number of words  words of SMARTCACHE.RULE SET }…
//! smartcache-aux-2  the same            number of marks  { database  number of words  words of SMARTCACHE.MARK }…
//! ```
//!
//! Each item is a string, numbers are decimal text. Without marks `-1` is written; without rules and marks nothing is:
//! the stamps of the entries move the clock.

use crate::cache::State;
use crate::cache::clock::{Now, Stamp};
use crate::cache::invalidation::messages;
use crate::cache::rules::{Origin, RuleSpec};

/// The first string.
const MAGIC: &[u8] = b"smartcache-aux-1";
/// The first string when marks follow.
const MAGIC_WITH_MARKS: &[u8] = b"smartcache-aux-2";
/// The only string of an empty section: servers before 7.2 cannot leave the section out.
pub const NOTHING: &[u8] = b"-";
/// More words than any rule has.
const MOST_WORDS: u64 = 1_024;
/// The words of a mark before its names: stamp, time, guard, kind, ramp, selector.
const MARK_HEAD: usize = 6;
/// More marks than there can be.
const MOST_MARKS: u64 = 1 << 40;
/// More rules than there can be.
const MOST_RULES: u64 = 1 << 20;

/// Passes the strings to save to `put`, one by one. False, and none, when there is nothing to save.
pub fn save(state: &State, now: Now, put: &mut dyn FnMut(&[u8])) -> bool {
    let rules: Vec<_> = state.policies.persisted().map(RuleSpec::words).collect();
    let marks = state.count_marks();
    if rules.is_empty() && marks == 0 {
        return false;
    }
    put(if marks == 0 { MAGIC } else { MAGIC_WITH_MARKS });
    put_number(put, state.clock.last().0);
    put_number(put, rules.len() as u64);
    rules.iter().for_each(|rule| put_words(put, rule));
    if marks > 0 {
        put_number(put, marks);
        state.for_each_mark(now, &mut |db, mark| {
            put_number(put, db as u64);
            put_words(put, &mark);
        });
    }
    true
}

fn put_number(put: &mut dyn FnMut(&[u8]), number: u64) {
    put(number.to_string().as_bytes());
}

/// Their number, and each.
fn put_words(put: &mut dyn FnMut(&[u8]), words: &[Vec<u8>]) {
    put_number(put, words.len() as u64);
    words.iter().for_each(|word| put(word));
}

/// Reads and checks what was saved, string by string. An error describes what is wrong; the server then refuses the
/// file.
pub fn load(state: &mut State, now: Now, next: impl FnMut() -> Option<Vec<u8>>) -> Result<(), String> {
    let mut strings = Strings(next);
    let magic = strings.next("its name")?;
    if magic == NOTHING {
        return Ok(());
    }
    let with_marks = magic == MAGIC_WITH_MARKS;
    if magic != MAGIC && !with_marks {
        return Err("it is of a version that is not known".into());
    }
    let stamp = Stamp(strings.number("the clock", u64::MAX)?);
    let mut rules = Vec::new();
    for _ in 0..strings.number("the number of rules", MOST_RULES)? {
        let words = strings.words("a word of a rule")?;
        let (name, options) = words.split_first().ok_or("a rule has no name")?;
        rules.push(RuleSpec::parse(name, options.iter().map(Vec::as_slice)).map_err(|why| why.to_string())?);
    }
    state.clock.follow(stamp, now); // unless it is too far ahead to be believed
    state.policies.clear_commanded();
    rules.into_iter().try_for_each(|rule| state.policies.set(rule)).map_err(|why| why.to_string())?;
    state.rules_were_set(|rule| rule.origin() == Origin::Commanded, now);
    for _ in 0..if with_marks { strings.number("the number of marks", MOST_MARKS)? } else { 0 } {
        load_mark(state, now, &mut strings)?;
    }
    Ok(())
}

fn load_mark<F: FnMut() -> Option<Vec<u8>>>(
    state: &mut State,
    now: Now,
    strings: &mut Strings<F>,
) -> Result<(), String> {
    let db = strings.number("the database of a mark", i32::MAX as u64)? as i32;
    let words = strings.words("a word of a mark")?;
    if words.len() < MARK_HEAD {
        return Err("a mark is too short".into());
    }
    let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
    let mark = messages::decode(&words).map_err(|why| why.to_string())?;
    state.apply_mark(db, mark, now);
    Ok(())
}

/// The strings of the section. An error names the one that is missing or wrong.
struct Strings<F>(F);

impl<F: FnMut() -> Option<Vec<u8>>> Strings<F> {
    fn next(&mut self, what: &str) -> Result<Vec<u8>, String> {
        self.0().ok_or_else(|| format!("it ends before {what}"))
    }

    fn number(&mut self, what: &str, most: u64) -> Result<u64, String> {
        let text = self.next(what)?;
        let n = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<u64>().ok());
        n.filter(|n| *n <= most).ok_or_else(|| format!("{what} cannot be right"))
    }

    /// A number of words, then so many.
    fn words(&mut self, what: &str) -> Result<Vec<Vec<u8>>, String> {
        let count = self.number("the number of words", MOST_WORDS)?;
        (0..count).map(|_| self.next(what)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNode;

    fn saved() -> Vec<Vec<u8>> {
        let mut node = TestNode::at(5_000);
        node.call("SMARTCACHE.RULE SET profile MATCH *:profile MATCH *:profile:* SCALE 2 TAG p:{1}");
        node.call("SMARTCACHE.RULE SET any MATCH * PRIORITY -1 JITTER 10%");
        node.call("SMARTCACHE.SET k v");
        strings(&node)
    }

    fn strings(node: &TestNode) -> Vec<Vec<u8>> {
        let mut strings = Vec::new();
        assert_eq!(save(&node.state, node.now(), &mut |string| strings.push(string.to_vec())), !strings.is_empty());
        strings
    }

    fn loaded(strings: &[Vec<u8>]) -> Result<TestNode, String> {
        let mut node = TestNode::at(1_000);
        let now = node.now();
        let mut strings = strings.iter();
        load(&mut node.state, now, || strings.next().cloned()).map(|()| node)
    }

    #[test]
    fn rules_and_clock_come_back() {
        let mut node = loaded(&saved()).unwrap();
        assert!(node.state.clock.last().0 >= 5_000_000, "stamps continue after those of the saved node");
        assert!(node.call("SMARTCACHE.RULE GET profile").contains("\"scale\": 2"));
        assert!(node.call("SMARTCACHE.RULE EXPLAIN a:profile TTL 10").contains("\"p:a\""));
        assert_eq!(strings(&node)[2..], saved()[2..]);
    }

    #[test]
    fn the_guard_of_a_soft_invalidation_is_saved_although_a_hard_one_follows_it() {
        for what in ["TAGS 1 t", "PREFIXES 1 k", "PATTERNS 1 k*", "ALL"] {
            let mut node = TestNode::at(5_000);
            node.call(&format!("INVALIDATE {what} SOFT GUARD 100"));
            node.call(&format!("INVALIDATE {what}"));
            for mut node in [loaded(&strings(&node)).unwrap(), node] {
                let token = node.token("GETLOCK k");
                assert_eq!(node.call(&format!("SET k v TOKEN {token} TAGS 1 t")), r#""STALE""#, "{what}");
            }
        }
    }

    #[test]
    fn without_rules_and_marks_nothing_is_saved() {
        let node = TestNode::at(0);
        assert!(strings(&node).is_empty());
        assert!(loaded(&[NOTHING.to_vec()]).is_ok());
    }

    #[test]
    fn a_section_that_ends_early_or_has_a_damaged_string_is_refused() {
        let strings = saved();
        for len in 0..strings.len() {
            assert!(loaded(&strings[..len]).is_err(), "cut at {len}");
        }
        for at in 0..3 {
            let mut damaged = strings.clone();
            damaged[at] = b"\xff".to_vec();
            assert!(loaded(&damaged).is_err(), "string {at}");
        }
    }
}
