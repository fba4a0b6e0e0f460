//! The context of a command, and of work without a caller.

use crate::cache::clock::Now;
use crate::cache::cluster::bus::PassOn;
use crate::cache::effects::{Effect, Effects};
use crate::cache::error::Error;
use crate::cache::ports::{Caller, Keyspace, Reply, Server};
use crate::cache::state::State;

/// The context of a command.
pub struct Cx<'a, 'w> {
    /// The time of the command.
    pub now: Now,
    /// The caller.
    pub caller: Caller,
    /// The state of the node.
    pub state: &'a mut State,
    /// The keys of the selected database.
    pub keys: &'a mut dyn Keyspace,
    /// Where the reply is written.
    pub reply: &'a mut dyn Reply,
    /// The server.
    pub server: &'a dyn Server,
    /// What the host does afterwards.
    pub effects: &'a mut Effects<'w>,
}

impl Cx<'_, '_> {
    /// The selected database, for work that does not depend on the caller.
    pub fn node(&mut self) -> Node<'_> {
        Node { state: self.state, keys: self.keys, db: self.caller.db, now: self.now }
    }

    /// An error if another primary has passed the command on with words that concern only a caller. An honest one
    /// leaves them out: here nobody calls, and nobody may be made to wait.
    pub fn check_passed_on(&self, how: &PassOn) -> Result<(), Error> {
        if self.caller.passed_on && !how.without.is_empty() {
            return Err(Error::Refused("it says how long to wait, and no primary passes that on".into()));
        }
        Ok(())
    }

    /// In a cluster, passes the command on to the other primaries. Only commands of clients are passed on: not those
    /// from a primary or an AOF, and not those that another primary passed on.
    pub fn pass_on(&mut self, how: PassOn) {
        let Caller { trusted, importing, passed_on, .. } = self.caller;
        if !(trusted || importing || passed_on) {
            self.effects.push(Effect::PassOn(how));
        }
    }
}

/// One database of the node, at one moment.
pub struct Node<'a> {
    /// The state of the node.
    pub state: &'a mut State,
    /// The keys of the database.
    pub keys: &'a mut dyn Keyspace,
    /// The database.
    pub db: i32,
    /// The moment.
    pub now: Now,
}
