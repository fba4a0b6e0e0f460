//! Which users hold the leases and the places of waiters: none of them more than its share (`user-share`), so that one
//! that takes all it can get leaves the others as much.

use std::collections::HashMap;
use std::sync::Arc;

/// A user as operators know it: the name in the ACL, or `default` and the address.
pub type UserName = Arc<str>;

/// What is shared among users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A lease.
    Lease,
    /// The place of a waiter.
    Waiter,
}

/// How much a user holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    leases: u64,
    waiters: u64,
}

/// How much each user holds. Users that hold nothing are not listed.
#[derive(Debug, Default)]
pub struct Users {
    held: HashMap<UserName, Held>,
    /// The last one to whom something was refused.
    refused: Option<UserName>,
}

impl Held {
    fn count(&mut self, place: Place) -> &mut u64 {
        match place {
            Place::Lease => &mut self.leases,
            Place::Waiter => &mut self.waiters,
        }
    }
}

impl Users {
    /// Whether a user may hold one more of `most`, when its share of them is `share`. Everybody may hold one.
    pub fn has_room(&self, user: &str, place: Place, share: f64, most: u64) -> bool {
        let holds = self.held.get(user).copied().unwrap_or_default().count(place).to_owned();
        holds < (most as f64 * share).max(1.0) as u64
    }

    /// A user holds one more.
    pub fn add(&mut self, user: &UserName, place: Place) {
        match self.held.get_mut(user) {
            Some(held) => *held.count(place) += 1,
            None => *self.held.entry(user.clone()).or_default().count(place) += 1,
        }
    }

    /// A user holds one less.
    pub fn remove(&mut self, user: &UserName, place: Place) {
        let Some(held) = self.held.get_mut(user) else { return };
        *held.count(place) -= 1;
        if *held == Held::default() {
            self.held.remove(user);
            // Memory is given back after a burst.
            if self.held.capacity() > 64 && self.held.len() < self.held.capacity() / 8 {
                self.held.shrink_to(self.held.len() * 2);
            }
        }
    }

    /// Something was refused to a user because of its share.
    pub fn refuse(&mut self, user: UserName) {
        self.refused = Some(user);
    }

    /// The last user to whom something was refused.
    pub fn refused(&self) -> Option<&UserName> {
        self.refused.as_ref()
    }

    /// Checks the counts against those of all leases and waiters there are.
    ///
    /// # Panics
    /// When they differ.
    pub fn validate<'a>(&self, all: impl Iterator<Item = (&'a UserName, Place)>) {
        let mut counted: HashMap<UserName, Held> = HashMap::new();
        all.for_each(|(user, place)| *counted.entry(user.clone()).or_default().count(place) += 1);
        assert_eq!(counted, self.held, "each user holds what it was given and has not given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_never_nothing() {
        let mut users = Users::default();
        let ada: UserName = "ada".into();
        let room = |users: &Users, share, most| users.has_room("ada", Place::Lease, share, most);
        assert!(room(&users, 0.0, 9) && room(&users, 0.5, 1), "everybody may hold one");
        users.add(&ada, Place::Lease);
        assert!(!room(&users, 0.5, 3) && room(&users, 0.5, 4) && room(&users, 1.0, 2));
        assert!(users.has_room("ada", Place::Waiter, 0.0, 9) && users.has_room("bob", Place::Lease, 0.0, 9));
        users.remove(&ada, Place::Lease);
        assert!(room(&users, 0.0, 9));
        users.validate(std::iter::empty());
    }
}
