//! Who was told nil, and so loads now: the `SET` that follows over the same connection is that load's fill.

use std::collections::{BTreeMap, HashMap};

use crate::cache::clock::Stamp;
use crate::cache::lease::token::Token;

/// The most loads that are remembered; beyond it the oldest is forgotten, and its `SET` counts as loaded when it comes.
const MOST: usize = 100_000;

/// A connection, a database, and a hash of a key's name.
type Place = (u64, i32, u64);

/// The loads of unmodified clients.
#[derive(Debug, Default)]
pub struct NilLoads {
    begun: HashMap<Place, Token>,
    order: BTreeMap<Stamp, Place>,
}

impl NilLoads {
    /// A connection was told nil: its load begins.
    pub fn begin(&mut self, client: u64, db: i32, key: u64, token: Token) {
        let place = (client, db, key);
        self.end(client, db, key);
        if self.begun.len() == MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.begun.remove(&oldest);
        }
        self.begun.insert(place, token);
        self.order.insert(token.stamp, place);
    }

    /// The load of this connection.
    pub fn of(&self, client: u64, db: i32, key: u64) -> Option<Token> {
        self.begun.get(&(client, db, key)).copied()
    }

    /// Its load is over, or what comes is not its fill.
    pub fn end(&mut self, client: u64, db: i32, key: u64) {
        if let Some(token) = self.begun.remove(&(client, db, key)) {
            self.order.remove(&token.stamp);
        }
    }

    /// A connection has flushed: nothing that it stores from now on was loaded before.
    pub fn end_all(&mut self, client: u64) {
        self.begun.retain(|place, token| {
            let other = place.0 != client;
            if !other {
                self.order.remove(&token.stamp);
            }
            other
        });
    }

    /// Forgets loads that began before this stamp.
    pub fn forget_before(&mut self, stamp: Stamp) {
        while let Some(first) = self.order.first_entry().filter(|first| *first.key() < stamp) {
            let place = first.remove();
            self.begun.remove(&place);
        }
    }
}
