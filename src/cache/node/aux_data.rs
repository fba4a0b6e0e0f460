//! What is saved beside the keys, before them: the clock, and the rules made by command.
//!
//! A list of strings: `smartcache-aux-1` (`-2` when marks follow), the clock's last stamp, the number of rules, and for each rule the
//! number of its words and the words of the `SMARTCACHE.RULE SET` that makes it. Numbers are decimal text.
//! After the rules of a `-2`: the number of marks, and for each its database, the number of its words, and the words of the
//! `SMARTCACHE.MARK` that makes it.
//! The section is written only when there is a rule or a mark to keep: what moves the clock otherwise, entries carry
//! themselves.

use crate::cache::State;
use crate::cache::clock::{Now, Stamp};
use crate::cache::invalidation::messages;
use crate::cache::rules::{Origin, RuleSpec};

/// What the first string says.
const MAGIC: &[u8] = b"smartcache-aux-1";
/// The same, when marks follow.
const MAGIC_WITH_MARKS: &[u8] = b"smartcache-aux-2";
/// The only string of a section with nothing in it: servers before 7.2 cannot leave a section out.
pub const NOTHING: &[u8] = b"-";
/// More words than any rule has.
const MOST_WORDS: u64 = 1_024;
/// Stamp, time, guard, kind, ramp, selector: what is said of a mark before its names.
const SAID_OF_A_MARK: usize = 6;
/// More marks than there can be.
const MOST_MARKS: u64 = 1 << 40;
/// More rules than there can be.
const MOST_RULES: u64 = 1_024;

/// Gives the strings to save, one by one; false, and none, when there is nothing to say.
pub fn save(state: &State, now: Now, put: &mut dyn FnMut(&[u8])) -> bool {
    let rules: Vec<_> = state.policies.commanded().map(|rule| rule.spec().words()).collect();
    let marks = state.count_marks();
    if rules.is_empty() && marks == 0 {
        return false;
    }
    put(if marks == 0 { MAGIC } else { MAGIC_WITH_MARKS });
    let mut put = |said: MarkMessage<'_>| match said {
        MarkMessage::Number(n) => put(n.to_string().as_bytes()),
        MarkMessage::Words(words) => {
            put(words.len().to_string().as_bytes());
            words.iter().for_each(|word| put(word));
        }
    };
    put(MarkMessage::Number(state.clock.last().0));
    put(MarkMessage::Number(rules.len() as u64));
    rules.iter().for_each(|rule| put(MarkMessage::Words(rule)));
    if marks > 0 {
        put(MarkMessage::Number(marks));
        state.for_each_mark(now, &mut |db, mark| {
            put(MarkMessage::Number(db as u64));
            put(MarkMessage::Words(&mark));
        });
    }
    true
}

enum MarkMessage<'w> {
    Number(u64),
    /// How many, and each.
    Words(&'w [Vec<u8>]),
}

/// Takes in what was saved, string by string; every one is checked. What is wrong, when something is: then the server
/// refuses all that it has loaded.
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
    let mut specs = Vec::new();
    for _ in 0..strings.number("the number of rules", MOST_RULES)? {
        let count = strings.number("the number of words", MOST_WORDS)?;
        let words = (0..count).map(|_| strings.next("a word of a rule")).collect::<Result<Vec<_>, _>>()?;
        let (name, said) = words.split_first().ok_or("a rule has no name")?;
        specs.push(RuleSpec::parse(name, said.iter().map(Vec::as_slice)).map_err(|why| why.to_string())?);
    }
    state.clock.follow(stamp, now); // one beyond belief is not followed
    state.policies.clear_commanded();
    specs.into_iter().try_for_each(|spec| state.policies.set(spec)).map_err(|why| why.to_string())?;
    state.rules_were_set(|rule| rule.origin() == Origin::Commanded, now);
    for _ in 0..if with_marks { strings.number("the number of marks", MOST_MARKS)? } else { 0 } {
        let db = strings.number("the database of a mark", i32::MAX as u64)? as i32;
        let count = strings.number("the number of words", MOST_WORDS)?;
        let words = (0..count).map(|_| strings.next("a word of a mark")).collect::<Result<Vec<_>, _>>()?;
        if words.len() < SAID_OF_A_MARK {
            return Err("a mark is too short".into());
        }
        let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
        let said = messages::decode(&words).map_err(|why| why.to_string())?;
        state.apply_mark(db, said, now);
    }
    Ok(())
}

/// The strings that come, with what is missing or wrong said by name.
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
        assert!(node.state.clock.last().0 >= 5_000_000, "stamps go on where the saved node's ended");
        assert!(node.call("SMARTCACHE.RULE GET profile").contains("\"scale\": 2"));
        assert!(node.call("SMARTCACHE.RULE EXPLAIN a:profile TTL 10").contains("\"p:a\""));
        assert_eq!(strings(&node)[2..], saved()[2..]);
    }

    #[test]
    fn the_guard_of_a_soft_invalidation_is_saved_also_when_a_hard_one_came_after_it() {
        for what in ["TAGS 1 t", "PREFIXES 1 k", "PATTERNS 1 k*", "ALL"] {
            let mut node = TestNode::at(5_000);
            node.call(&format!("INVALIDATE {what} SOFT GUARD 100"));
            node.call(&format!("INVALIDATE {what}"));
            for mut node in [loaded(&strings(&node)).unwrap(), node] {
                let token = node.token("GETLOCK k");
                assert_eq!(node.call(&format!("SET k v TOKEN {token} TAGS 1 t")), "STALE", "{what}");
            }
        }
    }

    #[test]
    fn with_nothing_to_say_nothing_is_saved() {
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
