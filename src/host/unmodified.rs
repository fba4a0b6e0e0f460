//! Unmodified clients: puts an internal command in front of what they send for keys of NATIVE rules.
//!
//! The table of the server's commands is read when the first NATIVE rule appears: other modules may come later, but
//! their commands are never served.

use std::ffi::CStr;

use super::ffi::{Ctx, Element};
use crate::cache::State;
use crate::cache::unmodified::commands::{Commands, KeyWords, Row, Way};

/// Reads the server's table of commands, unless that was done.
pub(super) fn learn_commands(ctx: Ctx<'_>, state: &mut State) {
    if state.commands.is_empty()
        && let Some(reply) = ctx.call_words(c"COMMAND", &[], false, false)
    {
        state.commands = Commands::of((0..reply.len()).filter_map(|at| row(reply.element(at)?)));
    }
}

/// One element of the reply to `COMMAND`: name, arity, flags, first key, last key, step, categories, tips, key
/// specifications, subcommands.
fn row(of: Element<'_>) -> Option<Row> {
    let texts = |at| of.element(at).map(Element::texts).unwrap_or_default();
    let int = |at| of.element(at).map_or(0, Element::int);
    Some(Row {
        name: of.element(0)?.text()?.to_vec(),
        arity: int(1),
        flags: texts(2),
        first: int(3),
        last: int(4),
        step: int(5),
        categories: texts(6),
        has_subcommands: of.element(9).is_some_and(|subcommands| subcommands.len() > 0),
    })
}

/// The internal command that serves this one, and whether it takes its place instead of standing in front of it.
pub(super) fn internal<'w>(
    ctx: Ctx<'_>,
    state: &State,
    name: &[u8],
    words: usize,
    word: impl Fn(usize) -> Option<&'w [u8]>,
    keys_of: impl FnOnce(Ctx<'_>) -> Vec<usize>,
) -> Option<(&'static CStr, bool)> {
    let served = state.commands.get(name)?;
    if !served.accepts(words) {
        return None; // the server's own error
    }
    let is_native = |at: usize| word(at).is_some_and(|key| state.policies.serves_native(key));
    let reads_patterns = || {
        let sorts = name.eq_ignore_ascii_case(b"SORT") || name.eq_ignore_ascii_case(b"SORT_RO");
        sorts && (2..words).any(|at| word(at).is_some_and(|pattern| pattern.contains(&b'*')))
    };
    let concerns = reads_patterns()
        || match (served.way, served.keys) {
            (Way::Flush, _) => true,
            (Way::Scan, _) => (2..words).any(|at| word(at).is_some_and(|word| word.eq_ignore_ascii_case(b"TYPE"))),
            (_, keys @ KeyWords::Range { .. }) => keys.places(words)?.any(is_native),
            (_, KeyWords::Movable) => keys_of(ctx).into_iter().any(is_native),
        };
    concerns.then_some(match served.way {
        Way::Get => (c"SMARTCACHE.NATIVE-GET", true),
        Way::Mget => (c"SMARTCACHE.NATIVE-MGET", true),
        Way::Read | Way::Scan => (c"SMARTCACHE.NATIVE-READ", false),
        Way::Write | Way::Flush => (c"SMARTCACHE.NATIVE-WRITE", false),
        Way::Store => (c"SMARTCACHE.NATIVE-STORE", false),
    })
}
