//! Which users hold the leases and the places of waiters: none of them more than its share (`user-share`), so that one
//! that takes all it can get leaves the others as much.

use std::collections::HashMap;
use std::sync::Arc;

/// A user as operators know it: the name in the ACL, or `default` and the address.
pub type UserName = Arc<str>;

/// How much each user holds of one thing. Users that hold nothing are not listed.
#[derive(Debug, Default)]
pub struct Users(HashMap<UserName, u64>);

impl Users {
    /// How many a user holds.
    pub fn count(&self, user: &str) -> u64 {
        self.0.get(user).copied().unwrap_or(0)
    }

    /// A user holds one more.
    pub fn add(&mut self, user: &UserName) {
        match self.0.get_mut(user) {
            Some(count) => *count += 1,
            None => _ = self.0.insert(user.clone(), 1),
        }
    }

    /// A user holds one less.
    pub fn remove(&mut self, user: &UserName) {
        let Some(count) = self.0.get_mut(user) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(user);
            // Memory is given back after a burst.
            if self.0.capacity() > 64 && self.0.len() < self.0.capacity() / 8 {
                self.0.shrink_to(self.0.len() * 2);
            }
        }
    }

    /// Checks the counts against the users of all that is held.
    ///
    /// # Panics
    /// When they differ.
    pub fn validate<'a>(&self, all: impl Iterator<Item = &'a UserName>) {
        let mut counted: HashMap<UserName, u64> = HashMap::new();
        all.for_each(|user| *counted.entry(user.clone()).or_default() += 1);
        assert_eq!(counted, self.0, "each user holds what it was given and has not given back");
    }
}

/// How many of `most` one user may hold, when that is its share. Everybody may hold one.
pub fn share_of(most: u64, share: f64) -> u64 {
    (most as f64 * share).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_never_nothing() {
        let shares = [(9, 0.0), (1, 0.5), (3, 0.5), (4, 0.5), (100_000, 0.5), (2, 1.0)]
            .map(|(most, share)| share_of(most, share));
        assert_eq!(shares, [1, 1, 1, 2, 50_000, 2]);
    }

    #[test]
    fn who_holds_nothing_is_not_listed() {
        let (mut users, ada) = (Users::default(), UserName::from("ada"));
        users.add(&ada);
        users.add(&ada);
        assert_eq!((users.count("ada"), users.count("bob")), (2, 0));
        users.remove(&ada);
        users.remove(&ada);
        users.remove(&ada);
        assert!(users.0.is_empty());
    }
}
