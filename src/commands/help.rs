//! `SMARTCACHE.HELP`: help generated from the command table.

use super::args::Args;
use super::spec::{Arg, Command, Flag, Keys, Kind, Run, Table, find};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.HELP",
    summary: "Returns help for one command, or a line for each",
    since: "0.1.0",
    complexity: "O(1)",
    arity: -1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[Arg::new("command", Kind::Text).or_none()],
    details: "The prefix SMARTCACHE. may be left out. A subcommand is written as two words or with a bar: HELP RULE SET, HELP RULE|SET.",
    replies: "An array of lines.",
    run: Some(Run::WithTable(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>, table: Table) -> Result<(), Error> {
    let (name, sub) = (args.option(), args.option());
    args.finish()?;
    let Some(name) = name else {
        lines(cx, &overview(table));
        return Ok(());
    };
    // `RULE|SET`, as the server writes subcommands.
    match name.iter().position(|byte| *byte == b'|') {
        Some(at) if sub.is_none() => answer(cx, table, &name[..at], Some(&name[at + 1..])),
        _ => answer(cx, table, name, sub),
    }
}

/// Replies with the help for a command or subcommand.
pub(super) fn answer(cx: &mut Cx<'_, '_>, table: Table, name: &[u8], sub: Option<&[u8]>) -> Result<(), Error> {
    let help = of(table, name, sub);
    let help = help.ok_or_else(|| Error::invalid("command", sub.unwrap_or(name), "SMARTCACHE.HELP lists them"))?;
    lines(cx, &help);
    Ok(())
}

fn lines(cx: &mut Cx<'_, '_>, lines: &[String]) {
    cx.reply.array(lines.len());
    lines.iter().for_each(|line| cx.reply.simple(line));
}

fn public(table: Table) -> impl Iterator<Item = &'static Command> {
    table.iter().copied().filter(|command| !command.has(Flag::Internal) && command.run.is_some())
}

fn overview(table: Table) -> Vec<String> {
    public(table).flat_map(|command| [command.grammar(), format!("    {}.", command.summary)]).collect()
}

fn of(table: Table, name: &[u8], sub: Option<&[u8]>) -> Option<Vec<String>> {
    let command = find(table, name, sub).filter(|command| !command.has(Flag::Internal))?;
    if sub.is_some() && command.parent().is_none() {
        return None; // GET has no subcommands
    }
    if command.run.is_none() {
        let subcommands = public(table).filter(|sub| sub.parent().is_some_and(|(parent, _)| parent == command.name));
        return Some(subcommands.flat_map(|sub| [sub.grammar(), format!("    {}.", sub.summary)]).collect());
    }
    let mut lines = vec![command.grammar(), format!("{}.", command.summary)];
    lines.extend(command.details.lines().map(str::to_owned));
    lines.push(format!("Replies: {}", command.replies));
    lines.push(format!("Cost: {}.", command.complexity));
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::public;
    use crate::commands::COMMANDS;
    use crate::testing::TestNode;

    #[test]
    fn every_public_command_has_its_lines() {
        let help = TestNode::at(0).call("SMARTCACHE.HELP");
        for command in public(COMMANDS) {
            assert!(
                help.contains(&command.grammar().escape_default().to_string().replace("\\u{2026}", "…")),
                "{}",
                command.name
            );
            assert!(help.contains(command.summary), "{}", command.name);
        }
        assert!(!help.contains("SMARTCACHE.STORE"), "it is internal");
    }

    #[test]
    fn one_command_is_explained_with_or_without_the_prefix() {
        let mut node = TestNode::at(0);
        let help = node.call("SMARTCACHE.HELP get");
        assert!(help.starts_with("[SMARTCACHE.GET key [STALE] [STATE] [PEEK] [ACCEPT encodings], "), "{help}");
        assert!(help.contains("Replies: The value, or nil.") && help.contains("Cost: O(1)"));
        assert_eq!(node.call("help SmartCache.Get"), help);
        assert!(node.effects.is_empty());
    }

    #[test]
    fn a_subcommand_is_two_words_and_its_container_lists_all() {
        let mut node = TestNode::at(0);
        assert!(node.call("HELP RULE SET").starts_with("[SMARTCACHE.RULE SET name MATCH pattern [MATCH pattern …] "));
        let all = node.call("HELP RULE");
        for sub in ["SET", "DEL", "GET", "LIST", "EXPLAIN"] {
            assert!(all.contains(&format!("SMARTCACHE.RULE {sub}")), "{sub}");
        }
    }

    #[test]
    fn help_for_an_unknown_command_is_an_error_that_names_it() {
        let mut node = TestNode::at(0);
        for (line, word) in [
            ("HELP nosuch", "nosuch"),
            ("HELP STORE", "STORE"),
            ("HELP RULE nosuch", "nosuch"),
            ("HELP GET k", "k"),
            ("HELP ", ""),
        ] {
            assert_eq!(node.refusal(line), format!("ERR invalid command '{word}': SMARTCACHE.HELP lists them"));
        }
        assert_eq!(node.refusal("HELP RULE SET x"), "ERR syntax error near 'x'");
    }
}
