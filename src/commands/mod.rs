//! The commands: one file and one row of [`COMMANDS`] for each.
//!
//! To add a command, write its file (declaration, grammar, `run`, tests), add its row, and its server test in
//! `tests/server/commands/`. Everything else follows from the declaration.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub(crate) mod args;
pub mod spec;

mod absent;
mod del;
mod effects;
mod extend;
mod get;
pub(crate) mod getlock;
mod health;
mod help;
mod hotkeys;
mod inspect;
pub(crate) mod invalidate;
mod mark;
mod mget;
mod missing;
mod mset;
mod native;
mod options;
#[cfg(feature = "test-commands")]
pub(crate) mod panic;
mod plain;
pub(crate) mod preview;
mod resetstat;
mod rule;
mod set;
mod stale;
mod stamp;
mod stats;
mod store;
mod touch;
mod unlock;

use spec::{Command, Table};

/// Every command, containers before their subcommands. A constant, so that what the host reads of a row at every
/// call is known at compile time.
pub const COMMANDS: Table = &[
    &get::COMMAND,
    &mget::COMMAND,
    &getlock::COMMAND,
    &missing::COMMAND,
    &inspect::COMMAND,
    &set::COMMAND,
    &mset::COMMAND,
    &absent::COMMAND,
    &stamp::COMMAND,
    &touch::COMMAND,
    &unlock::COMMAND,
    &extend::COMMAND,
    &del::COMMAND,
    &plain::COMMAND,
    &stale::COMMAND,
    &invalidate::COMMAND,
    &preview::COMMAND,
    &rule::COMMAND,
    &rule::SET,
    &rule::DEL,
    &rule::GET,
    &rule::LIST,
    &rule::EXPLAIN,
    &rule::HELP,
    &stats::COMMAND,
    &hotkeys::COMMAND,
    &health::COMMAND,
    &resetstat::COMMAND,
    &help::COMMAND,
    &store::COMMAND,
    &mark::COMMAND,
    &native::GET,
    &native::MGET,
    &native::READ,
    &native::WRITE,
    &native::STORE,
    &effects::COMMAND,
    #[cfg(feature = "test-commands")]
    &panic::COMMAND,
];

/// The command with this name; see [`spec::find`].
pub fn find(name: &[u8], sub: Option<&[u8]>) -> Option<&'static Command> {
    spec::find(COMMANDS, name, sub)
}

#[cfg(test)]
mod tests {
    use super::spec::{Access, Flag, Keys};
    use super::*;

    #[test]
    fn names_are_unique_and_in_capitals() {
        let mut names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        assert!(names.iter().all(|name| name.starts_with("SMARTCACHE.") && name.to_ascii_uppercase() == **name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
    }

    #[test]
    fn a_command_writes_exactly_when_its_keys_are_written() {
        for command in COMMANDS {
            let access = match command.keys {
                Keys::None => continue,
                Keys::One(access) | Keys::All(access) | Keys::CountedPairs(access) | Keys::OfNative(access) => access,
            };
            let (writes, reads) = (command.has(Flag::Write), command.has(Flag::ReadOnly));
            match access {
                Access::Read => assert!(reads && !writes, "{}", command.name),
                Access::Overwrite | Access::Update | Access::Delete => assert!(writes && !reads, "{}", command.name),
                // Leases change no data: they must go on when the server may not write.
                Access::ReadUpdate => assert!(!reads && !writes, "{}", command.name),
            }
        }
    }

    #[test]
    fn summaries_are_one_line_and_details_are_sentences() {
        for command in COMMANDS {
            assert!(!command.summary.contains('\n') && !command.summary.ends_with('.'), "{}", command.name);
            assert!(command.details.lines().all(|line| line.ends_with('.')), "{}", command.name);
        }
    }

    #[test]
    fn a_subcommand_follows_its_container() {
        for (at, command) in COMMANDS.iter().enumerate() {
            if let Some((parent, _)) = command.parent() {
                assert!(COMMANDS[..at].iter().any(|earlier| earlier.name == parent), "{}", command.name);
            }
        }
    }

    #[test]
    fn every_command_has_its_server_test_file() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/commands");
        for command in COMMANDS.iter().filter(|command| !command.has(Flag::Internal)) {
            let name = command.name.trim_start_matches("SMARTCACHE.").split(' ').next().unwrap_or_default();
            let file = folder.join(format!("{}.rs", name.to_ascii_lowercase()));
            assert!(file.exists(), "{} lacks {}", command.name, file.display());
        }
    }

    #[test]
    fn commands_are_found_with_and_without_the_prefix() {
        assert_eq!(find(b"get", None).map(|c| c.name), Some("SMARTCACHE.GET"));
        assert_eq!(find(b"smartcache.rule", Some(b"set")).map(|c| c.name), Some("SMARTCACHE.RULE SET"));
        assert!(find(b"rule", Some(b"nosuch")).is_none());
        assert!(find(b"nosuch", None).is_none());
    }
}
