//! A key, as a command names it.

/// A key, and its place in the command: the host then uses the server's own string instead of making one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'w> {
    /// The key's bytes.
    pub name: &'w [u8],
    /// Its index among the command's words (0 is the command's name), or `None` when it is not one of them.
    pub arg: Option<u16>,
}

impl<'w> Key<'w> {
    /// A key that is not a word of the command.
    pub fn named(name: &'w [u8]) -> Self {
        Key { name, arg: None }
    }
}
