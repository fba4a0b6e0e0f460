//! The types of a command's declaration.
//!
//! A [`Command`] holds everything there is to know about a command. Registration, ACL categories,
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
    /// Runs the command; `table` is [`COMMANDS`](super::COMMANDS). A syntax error says what the syntax is.
    pub fn call<'w>(self, cx: &mut Cx<'_, 'w>, args: &mut Args<'w>, table: Table) -> Result<(), Error> {
        let outcome = match self {
            Run::Plain(run) => run(cx, args),
            Run::WithTable(run) => run(cx, args, table),
        };
        outcome.map_err(|error| {
            error.with_grammar(|| {
                table.iter().find(|command| command.name == args.command()).map(|command| command.grammar())
            })
        })
    }
}

/// The declaration of a command or subcommand.
#[derive(Debug)]
pub struct Command {
    /// `SMARTCACHE.GET`; for a subcommand `SMARTCACHE.RULE SET`.
    pub name: &'static str,
    /// One line without a full stop.
    pub summary: &'static str,
    /// The first version of SmartCache that has it.
    pub since: &'static str,
    /// Its cost in the form of the server's documentation, such as `O(k) for k keys`.
    pub complexity: &'static str,
    /// The number of words, the name's included; negative: at least that many.
    pub arity: i32,
    /// What the server must know to run it.
    pub flags: &'static [Flag],
    /// Which of its words are keys.
    pub keys: Keys,
    /// The words after its name.
    pub args: &'static [Arg],
    /// What it does: a paragraph a line, each of whole sentences.
    pub details: &'static str,
    /// What it replies.
    pub replies: &'static str,
    /// Its code; `None` for a command that only has subcommands.
    pub run: Option<Run>,
}

/// What the server must know to run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Changes data: replicated, and refused on replicas.
    Write,
    /// Changes no data: allowed on replicas, and seen by `CLIENT TRACKING`.
    ReadOnly,
    /// Needs memory: refused with `OOM` over `maxmemory`.
    DenyOom,
    /// Never takes long.
    Fast,
    /// May block its caller.
    Blocking,
    /// In the ACL category `@dangerous`.
    Dangerous,
    /// Cluster clients send it to every primary and add up the replies.
    AllShards,
    /// For replication, AOF and tests only: left out of help and docs.
    Internal,
    /// For all primaries of a cluster: the node that gets it passes it on to the others.
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
    /// The first word is the number of pairs of key and value that follow.
    CountedPairs(Access),
    /// Those of the server's own command that follows the first word: the server is asked.
    OfNative(Access),
}

/// What is done to the keys, and so which permission on them the user needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Their values are read: `%R`.
    Read,
    /// They are overwritten, whatever their type: `%W`.
    Overwrite,
    /// Their entries are changed: `%W`.
    Update,
    /// They are deleted: `%W`.
    Delete,
    /// They are read, and leases on them granted: `%RW`.
    ReadUpdate,
}

/// An argument: a word, or a group of words, after the command's name.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its name in grammar and docs, in lower case.
    pub name: &'static str,
    /// What its words are.
    pub kind: Kind,
    /// The word in front of it, such as `TTL`; of a flag the word itself.
    pub token: Option<&'static str>,
    /// It may be left out.
    pub optional: bool,
    /// It may be repeated.
    pub multiple: bool,
    /// The arguments of a group ([`Kind::OneOf`], [`Kind::Block`]).
    pub parts: &'static [Arg],
}

/// What the words of an [`Arg`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key.
    Key,
    /// Any bytes.
    Text,
    /// An integer.
    Integer,
    /// A number with a fraction.
    Double,
    /// A duration, in seconds or with a unit (`250ms`, `7d`).
    Duration,
    /// Its token alone.
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

    /// A key.
    pub const fn key() -> Self {
        Arg::new("key", Kind::Key)
    }

    /// An optional token.
    pub const fn flag(name: &'static str, token: &'static str) -> Self {
        Arg { token: Some(token), optional: true, ..Arg::new(name, Kind::Flag) }
    }

    /// An optional token followed by a value.
    pub const fn option(name: &'static str, token: &'static str, kind: Kind) -> Self {
        Arg { token: Some(token), optional: true, ..Arg::new(name, kind) }
    }

    /// At most one of several.
    pub const fn one_of(name: &'static str, parts: &'static [Arg]) -> Self {
        Arg { parts, optional: true, ..Arg::new(name, Kind::OneOf) }
    }

    /// Several, in order.
    pub const fn block(name: &'static str, parts: &'static [Arg]) -> Self {
        Arg { parts, ..Arg::new(name, Kind::Block) }
    }

    /// Makes it required.
    pub const fn required(self) -> Self {
        Arg { optional: false, ..self }
    }

    /// Makes it optional.
    pub const fn or_none(self) -> Self {
        Arg { optional: true, ..self }
    }

    /// Allows it once or more.
    pub const fn repeated(self) -> Self {
        Arg { multiple: true, ..self }
    }

    /// Its part of the grammar line, with brackets.
    fn grammar(&self) -> String {
        let inner = match self.kind {
            Kind::OneOf => {
                let parts = self.parts.iter().map(Arg::bare).collect::<Vec<_>>().join(" | ");
                if self.optional { parts } else { format!("<{parts}>") }
            }
            _ => self.bare(),
        };
        let repeats = if self.multiple { format!(" [{inner} …]") } else { String::new() };
        if self.optional { format!("[{inner}{repeats}]") } else { format!("{inner}{repeats}") }
    }

    /// Its part of the grammar line, without brackets.
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
    /// The grammar as one line: `SMARTCACHE.GET key [STALE] [STATE] [PEEK] [ACCEPT encodings]`.
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

    /// Its ACL categories, for servers that let modules set them (7.2 and later).
    pub fn categories(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        // Whoever takes a lease decides who may load and store: that is no reading.
        let leases = matches!(self.keys, Keys::One(Access::ReadUpdate));
        if self.has(Flag::Write) || leases {
            names.push("write");
        }
        if self.has(Flag::ReadOnly) {
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

    /// Of a subcommand: the name of its container, and its own.
    pub fn parent(&self) -> Option<(&'static str, &'static str)> {
        self.name.split_once(' ')
    }

    /// The number of words in its name.
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

    /// Whether a call of so many words, the name's included, fits its arity.
    pub fn accepts(&self, words: usize) -> bool {
        if self.arity >= 0 { words == self.arity as usize } else { words >= self.arity.unsigned_abs() as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{get, mset, preview, rule, set};

    #[test]
    fn the_grammar_is_one_line() {
        assert_eq!(get::COMMAND.grammar(), "SMARTCACHE.GET key [STALE] [STATE] [PEEK] [ACCEPT encodings]");
        assert_eq!(
            set::COMMAND.grammar(),
            "SMARTCACHE.SET key value [TTL duration | EX seconds | PX milliseconds | EXAT unix-time-seconds | \
             PXAT unix-time-milliseconds | PERSIST] [SWR swr] [SIE sie] [NX | XX] [TAGS numtags tag [tag …]] [CODEC codec] \
             [TOKEN token | SINCE stamp]"
        );
        assert_eq!(
            preview::COMMAND.grammar(),
            "SMARTCACHE.PREVIEW <TAGS numtags tag [tag …] | PREFIXES numprefixes prefix [prefix …] | \
             PATTERNS numpatterns pattern [pattern …] | ALL>"
        );
    }

    #[test]
    fn an_arity_is_exact_or_a_minimum_and_counts_the_name() {
        assert!(rule::DEL.accepts(3) && !rule::DEL.accepts(2) && !rule::DEL.accepts(4));
        assert!(!mset::COMMAND.accepts(3) && mset::COMMAND.accepts(4) && mset::COMMAND.accepts(400));
    }

    #[test]
    fn a_subcommand_is_named_by_two_words() {
        assert_eq!((rule::SET.parent(), rule::SET.name_words()), (Some(("SMARTCACHE.RULE", "SET")), 2));
        assert_eq!((get::COMMAND.parent(), get::COMMAND.name_words()), (None, 1));
    }
}
