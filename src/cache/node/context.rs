//! What a command works with, and one database of the node without a caller.

use crate::cache::clock::Now;
use crate::cache::cluster::bus::PassOn;
use crate::cache::effects::{Effect, Effects};
use crate::cache::ports::{Caller, Keyspace, Reply, Server};
use crate::cache::state::State;

/// Everything a command works with.
pub struct Cx<'a, 'w> {
    /// The time of this command.
    pub now: Now,
    /// Who calls.
    pub caller: Caller,
    /// What this node knows.
    pub state: &'a mut State,
    /// The keys of the selected database.
    pub keys: &'a mut dyn Keyspace,
    /// Where the answer goes.
    pub reply: &'a mut dyn Reply,
    /// Who serves.
    pub server: &'a dyn Server,
    /// What the host is to do afterwards.
    pub effects: &'a mut Effects<'w>,
}

impl Cx<'_, '_> {
    /// The selected database, without the caller.
    pub fn node(&mut self) -> Node<'_> {
        Node { state: self.state, keys: self.keys, db: self.caller.db, now: self.now }
    }

    /// In a cluster, has the other primaries run this command as well. Only what a client says goes round: not what comes
    /// from a primary or an AOF, and not what was passed on already.
    pub fn pass_on(&mut self, how: PassOn) {
        let Caller { trusted, importing, passed_on, .. } = self.caller;
        if !(trusted || importing || passed_on) {
            self.effects.push(Effect::PassOn(how));
        }
    }
}

/// One database of this node, at one moment.
pub struct Node<'a> {
    /// What the node knows.
    pub state: &'a mut State,
    /// The keys of the database.
    pub keys: &'a mut dyn Keyspace,
    /// The database.
    pub db: i32,
    /// The moment.
    pub now: Now,
}
