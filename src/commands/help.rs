//! `SMARTCACHE.HELP`: help made from the command table.

use super::args::Args;
use super::spec::{Arg, Command, Flag, Keys, Kind};
use super::{COMMANDS, find};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.HELP",
    summary: "Returns help for one command, or a line for each",
    since: "0.1.0",
    complexity: "O(1)",
    arity: -1,
    flags: &[Flag::ReadOnly, Flag::Fast],
    keys: Keys::None,
    args: &[Arg::new("command", Kind::Text).or_none()],
    details: "The command may be named with or without SMARTCACHE, a subcommand by two words: HELP RULE SET.",
    replies: "An array of lines.",
    run: Some(run),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let lines = match args.option() {
        None => overview(),
        Some(name) => {
            let sub = args.option();
            args.finish()?;
            of(name, sub).ok_or_else(|| Error::invalid("command", sub.unwrap_or(name), "SMARTCACHE.HELP lists them"))?
        }
    };
    cx.reply.array(lines.len());
    lines.iter().for_each(|line| cx.reply.simple(line));
    Ok(())
}

fn public() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().copied().filter(|command| !command.has(Flag::Internal) && command.run.is_some())
}

fn overview() -> Vec<String> {
    public().flat_map(|command| [command.grammar(), format!("    {}.", command.summary)]).collect()
}

fn of(name: &[u8], sub: Option<&[u8]>) -> Option<Vec<String>> {
    let command = find(name, sub).filter(|command| !command.has(Flag::Internal))?;
    if command.run.is_none() {
        let subcommands = public().filter(|sub| sub.parent().is_some_and(|(parent, _)| parent == command.name));
        return Some(subcommands.flat_map(|sub| [sub.grammar(), format!("    {}.", sub.summary)]).collect());
    }
    let mut lines = vec![command.grammar(), format!("{}.", command.summary)];
    lines.extend(command.details.lines().map(str::to_owned));
    lines.push(format!("Replies: {}", command.replies));
    lines.push(format!("Cost: {}.", command.complexity));
    Some(lines)
}
