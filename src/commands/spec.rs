//! What a command's declaration is made of.
//!
//! One [`Command`] item holds everything that is to be known about a command. Registration, ACL categories,
//! `COMMAND DOCS`, `SMARTCACHE.HELP` and `docs/commands.md` all come from it.

use super::args::{self, Args};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The code of a command: parse first, then act; an error means that nothing has happened.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// It needs its arguments.
    Plain(for<'w> fn(&mut Cx<'_, 'w>, &mut Args<'w>) -> Result<(), Error>),
    /// It also reads the table of all commands, as help does. The table names every command's file, so a command's
    /// file cannot import it.
    WithTable(for<'w> fn(&mut Cx<'_, 'w>, &mut Args<'w>, Table) -> Result<(), Error>),
}

/// All commands, containers before their subcommands.
pub type Table = &'static [&'static Command];

impl Run {
    /// Runs the command; `table` is [`COMMANDS`](super::COMMANDS).
    pub fn call<'w>(self, cx: &mut Cx<'_, 'w>, args: &mut Args<'w>, table: Table) -> Result<(), Error> {
        match self {
            Run::Plain(run) => run(cx, args),
            Run::WithTable(run) => run(cx, args, table),
        }
    }
}

/// A command, or a subcommand of one.
#[derive(Debug)]
pub struct Command {
    /// Its name: `SMARTCACHE.GET`, or for a subcommand `SMARTCACHE.RULE SET`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The version of SmartCache that brought it.
    pub since: &'static str,
    /// Cost, as in the server's documentation.
    pub complexity: &'static str,
    /// Number of words, the name's included; negative: at least that many.
    pub arity: i32,
    /// What the server must know before it runs it.
    pub flags: &'static [Flag],
    /// Which of its words are keys.
    pub keys: Keys,
    /// Its words after the name.
    pub args: &'static [Arg],
    /// What it does, in sentences; each paragraph is one line.
    pub details: &'static str,
    /// What it answers.
    pub replies: &'static str,
    /// Its code; `None` for a command that only has subcommands.
    pub run: Option<Run>,
}

/// What the server must know of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Changes data: refused on replicas, replicated.
    Write,
    /// Changes nothing: allowed on replicas, remembered by `CLIENT TRACKING`.
    ReadOnly,
    /// Needs memory: refused with `OOM` over `maxmemory`.
    DenyOom,
    /// Never long.
    Fast,
    /// Its caller may be kept waiting.
    Blocking,
    /// Not for everyone: `@dangerous`.
    Dangerous,
    /// In a cluster it is for every primary, and the answers are added up.
    AllShards,
    /// Not for people: the server's own use, left out of help and docs.
    Internal,
    /// Concerns all primaries of a cluster: whoever gets it passes it on to them.
    PassedOn,
}

/// Which words of a command are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None.
    None,
    /// The first word.
    One(Access),
    /// All words to the last.
    All(Access),
    /// The first word says how many pairs of key and value follow.
    CountedPairs(Access),
}

/// What is done to the keys: what an ACL user must be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Their values are read: `%R`.
    Read,
    /// They are overwritten, whatever they held: `%W`.
    Overwrite,
    /// They are changed: `%W`.
    Update,
    /// They are removed: `%W`.
    Delete,
    /// They are read, and leases on them are granted: `%RW`.
    ReadUpdate,
}

/// One word, or group of words, of a command.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The word that announces it.
    pub token: Option<&'static str>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// The parts of a group.
    pub parts: &'static [Arg],
}

/// What an [`Arg`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key.
    Key,
    /// Any bytes.
    Text,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Double,
    /// A duration: seconds, or with a unit.
    Duration,
    /// Just its token.
    Flag,
    /// A glob pattern.
    Pattern,
    /// One of its parts.
    OneOf,
    /// All of its parts, in order.
    Block,
}

impl Arg {
    /// An argument without a token.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Arg { name, kind, token: None, optional: false, multiple: false, parts: &[] }
    }

    /// The key.
    pub const fn key() -> Self {
        Arg::new("key", Kind::Key)
    }

    /// An optional word that is said or not.
    pub const fn flag(name: &'static str, token: &'static str) -> Self {
        Arg { token: Some(token), optional: true, ..Arg::new(name, Kind::Flag) }
    }

    /// An optional value behind its token.
    pub const fn option(name: &'static str, token: &'static str, kind: Kind) -> Self {
        Arg { token: Some(token), optional: true, ..Arg::new(name, kind) }
    }

    /// One of several, optional.
    pub const fn one_of(name: &'static str, parts: &'static [Arg]) -> Self {
        Arg { parts, optional: true, ..Arg::new(name, Kind::OneOf) }
    }

    /// Several in order.
    pub const fn block(name: &'static str, parts: &'static [Arg]) -> Self {
        Arg { parts, ..Arg::new(name, Kind::Block) }
    }

    /// The same, but it must be there.
    pub const fn required(self) -> Self {
        Arg { optional: false, ..self }
    }

    /// The same, but it may be left out.
    pub const fn or_none(self) -> Self {
        Arg { optional: true, ..self }
    }

    /// The same, once or more.
    pub const fn repeated(self) -> Self {
        Arg { multiple: true, ..self }
    }

    /// It as the grammar shows it.
    fn grammar(&self) -> String {
        let inner = match self.kind {
            Kind::Flag => self.token.unwrap_or(self.name).to_string(),
            Kind::OneOf => self.parts.iter().map(|part| part.bare()).collect::<Vec<_>>().join(" | "),
            _ => self.bare(),
        };
        let repeats = if self.multiple { format!(" [{inner} …]") } else { String::new() };
        if self.optional { format!("[{inner}{repeats}]") } else { format!("{inner}{repeats}") }
    }

    /// It without brackets.
    fn bare(&self) -> String {
        let name = match self.kind {
            Kind::Flag => return self.token.unwrap_or(self.name).to_string(),
            Kind::Block => self.parts.iter().map(Arg::grammar).collect::<Vec<_>>().join(" "),
            _ => self.name.to_string(),
        };
        match self.token {
            Some(token) => format!("{token} {name}"),
            None => name,
        }
    }
}

/// The command of `table` with this name, in any case, with or without `SMARTCACHE.`; its subcommand when `sub` names
/// one. A container with an unknown subcommand is not found.
pub fn find(table: Table, name: &[u8], sub: Option<&[u8]>) -> Option<&'static Command> {
    let named = |command: &Command, wanted: &str| {
        name.eq_ignore_ascii_case(wanted.as_bytes())
            || wanted.strip_prefix("SMARTCACHE.").is_some_and(|bare| args::is(name, bare) && !command.name.is_empty())
    };
    let subcommand = table.iter().find(|command| {
        command
            .parent()
            .is_some_and(|(parent, own)| named(command, parent) && sub.is_some_and(|sub| args::is(sub, own)))
    });
    let plain = || table.iter().find(|command| command.parent().is_none() && named(command, command.name));
    if sub.is_some() && subcommand.is_none() && plain().is_some_and(|command| command.run.is_none()) {
        return None;
    }
    subcommand.or_else(plain).copied()
}

impl Command {
    /// Its grammar in one line: `SMARTCACHE.GET key [STALE] [STATE] [ACCEPT encodings]`.
    pub fn grammar(&self) -> String {
        std::iter::once(self.name.to_string()).chain(self.args.iter().map(Arg::grammar)).collect::<Vec<_>>().join(" ")
    }

    /// Whether it has this flag.
    pub const fn has(&self, flag: Flag) -> bool {
        let mut at = 0;
        while at < self.flags.len() {
            if self.flags[at] as u8 == flag as u8 {
                return true;
            }
            at += 1;
        }
        false
    }

    /// The ACL categories it is in, where the server lets modules say so (7.2).
    pub fn categories(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let leases = matches!(self.keys, Keys::One(Access::ReadUpdate));
        if self.has(Flag::Write) || leases {
            names.push("write");
        }
        if self.has(Flag::ReadOnly) || leases {
            names.push("read");
        }
        if self.has(Flag::Blocking) {
            names.push("blocking");
        }
        names.push(if self.has(Flag::Fast) { "fast" } else { "slow" });
        if self.has(Flag::Dangerous) || self.has(Flag::Internal) {
            names.push("dangerous");
        }
        names
    }

    /// The name of the command it is a subcommand of, and its own.
    pub fn parent(&self) -> Option<(&'static str, &'static str)> {
        self.name.split_once(' ')
    }

    /// How many words name it.
    pub const fn name_words(&self) -> usize {
        let (bytes, mut at) = (self.name.as_bytes(), 0);
        while at < bytes.len() {
            if bytes[at] == b' ' {
                return 2;
            }
            at += 1;
        }
        1
    }

    /// Whether `words` many words fit its arity.
    pub fn accepts(&self, words: usize) -> bool {
        if self.arity >= 0 { words == self.arity as usize } else { words >= self.arity.unsigned_abs() as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{get, mset, rule, set};

    #[test]
    fn the_grammar_is_one_line_as_people_write_it() {
        assert_eq!(get::COMMAND.grammar(), "SMARTCACHE.GET key [STALE] [STATE] [ACCEPT encodings]");
        assert_eq!(
            set::COMMAND.grammar(),
            "SMARTCACHE.SET key value [TTL duration | EX seconds | PX milliseconds | EXAT unix-time-seconds | \
             PXAT unix-time-milliseconds | PERSIST] [SWR swr] [SIE sie] [NX | XX] [TAGS numtags tag [tag …]] [CODEC codec] \
             [TOKEN token | SINCE stamp]"
        );
    }

    #[test]
    fn an_arity_is_exact_or_a_least_and_counts_the_name() {
        assert!(rule::DEL.accepts(3) && !rule::DEL.accepts(2) && !rule::DEL.accepts(4));
        assert!(!mset::COMMAND.accepts(3) && mset::COMMAND.accepts(4) && mset::COMMAND.accepts(400));
    }

    #[test]
    fn a_subcommand_is_named_by_two_words() {
        assert_eq!((rule::SET.parent(), rule::SET.name_words()), (Some(("SMARTCACHE.RULE", "SET")), 2));
        assert_eq!((get::COMMAND.parent(), get::COMMAND.name_words()), (None, 1));
    }
}
