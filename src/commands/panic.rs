//! `SMARTCACHE.PANIC`: panics, so that tests can check that no panic kills the server. Not in releases.

use super::args::Args;
use super::spec::{Command, Flag, Keys, Run};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.PANIC",
    summary: "Panics, for tests",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 1,
    flags: &[Flag::Internal],
    keys: Keys::None,
    args: &[],
    details: "Only in builds with the feature test-commands.",
    replies: "An error.",
    run: Some(Run::Plain(run)),
};

#[allow(clippy::panic)] // its purpose
fn run<'w>(_: &mut Cx<'_, 'w>, _: &mut Args<'w>) -> Result<(), Error> {
    panic!("SMARTCACHE.PANIC was called")
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    #[test]
    #[should_panic]
    fn it_panics() {
        TestNode::at(0).call("SMARTCACHE.PANIC");
    }
}
