//! What is saved beside the keys, before them: the clock, and the rules made by command.
//!
//! A list of strings: `smartcache-aux-1`, the clock's last stamp, the number of rules, and for each rule the
//! number of its words and the words of the `SMARTCACHE.RULE SET` that makes it. Numbers are decimal text.
//! The section is written only when there is a rule to keep: what moves the clock otherwise, entries carry
//! themselves.

use super::State;
use super::clock::{Now, Stamp};
use super::rules::RuleSpec;

/// What the first string says.
const MAGIC: &[u8] = b"smartcache-aux-1";
/// The only string of a section with nothing in it: servers before 7.2 cannot leave a section out.
pub const NOTHING: &[u8] = b"-";
/// More words than any rule has.
const MOST_WORDS: u64 = 1_024;
/// More rules than there can be.
const MOST_RULES: u64 = 65_535;

/// The strings to save, or `None` when there is nothing to say.
pub fn save(state: &State) -> Option<Vec<Vec<u8>>> {
    let rules: Vec<_> = state.policies.commanded().map(RuleSpec::to_words).collect();
    if rules.is_empty() {
        return None;
    }
    let number = |n: u64| n.to_string().into_bytes();
    let mut words = vec![MAGIC.to_vec(), number(state.clock.last().0), number(rules.len() as u64)];
    for rule in rules {
        words.push(number(rule.len() as u64));
        words.extend(rule);
    }
    Some(words)
}

/// Takes in what was saved, string by string; every one is checked. What is wrong, when something is.
pub fn load(state: &mut State, now: Now, mut next: impl FnMut() -> Option<Vec<u8>>) -> Result<(), String> {
    let mut string = |what: &str| next().ok_or_else(|| format!("it ends before {what}"));
    let magic = string("its name")?;
    if magic == NOTHING {
        return Ok(());
    }
    if magic != MAGIC {
        return Err("it is of a version that is not known".into());
    }
    let mut number = |what: &str, most: u64| {
        let text = string(what)?;
        let n = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<u64>().ok());
        n.filter(|n| *n <= most).ok_or_else(|| format!("{what} cannot be right"))
    };
    let stamp = Stamp(number("the clock", u64::MAX)?);
    let rules = number("the number of rules", MOST_RULES)?;
    let mut specs = Vec::new();
    for _ in 0..rules {
        let count = number("the number of words", MOST_WORDS)?;
        let words = (0..count).map(|_| string("a word of a rule")).collect::<Result<Vec<_>, _>>()?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        specs.push(RuleSpec::from_words(&words).map_err(|why| why.to_string())?);
    }
    state.clock.follow(stamp, now); // one beyond belief is not followed
    for spec in specs {
        state.policies.set(spec, &state.settings).map_err(|why| why.to_string())?;
    }
    Ok(())
}
