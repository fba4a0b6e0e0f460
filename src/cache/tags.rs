//! Tags: names shared by entries that are invalidated together, and the ids that entries hold.
//!
//! An entry holds four bytes a tag, whatever the name's length. Ids are server-wide, since entries move between
//! databases; on the wire and on disk tags travel by name. An id is given to another name only when an exact
//! count says that no entry holds it any more (`live.rs`), lowered when an entry is really freed: else, after
//! `FLUSHALL ASYNC`, it would mean one tag here and another there.

use std::collections::HashMap;
use std::sync::Arc;

use super::live::{Live, MAX_TAG_IDS};

/// The longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 255;

/// A tag, as entries hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub u32);

/// Names and ids.
#[derive(Debug)]
pub struct Tags {
    ids: HashMap<Arc<[u8]>, TagId>,
    names: Vec<Option<Arc<[u8]>>>,
    vacant: Vec<TagId>,
    reaped_up_to: usize,
    live: Arc<Live>,
}

impl Tags {
    /// None yet; `live` counts the entries that hold each.
    pub fn new(live: Arc<Live>) -> Self {
        Tags { ids: HashMap::new(), names: Vec::new(), vacant: Vec::new(), reaped_up_to: 0, live }
    }

    /// The id of a name, made if there is none; `None` when 16.7 million names are alive.
    pub fn id(&mut self, name: &[u8]) -> Option<TagId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let name: Arc<[u8]> = name.into();
        let id = match self.vacant.pop() {
            Some(id) => {
                self.names[id.0 as usize] = Some(name.clone());
                id
            }
            None if self.names.len() < MAX_TAG_IDS => {
                self.names.push(Some(name.clone()));
                TagId(self.names.len() as u32 - 1)
            }
            None => return None,
        };
        self.ids.insert(name, id);
        Some(id)
    }

    /// The name of an id that an entry holds.
    pub fn name(&self, id: TagId) -> &[u8] {
        self.names.get(id.0 as usize).and_then(|name| name.as_deref()).unwrap_or_default()
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Forgets names that no entry holds, looking at no more than `effort` of them; goes on where it stopped.
    pub fn reap(&mut self, effort: usize) {
        for _ in 0..effort.min(self.names.len()) {
            let at = self.reaped_up_to;
            self.reaped_up_to = if at + 1 < self.names.len() { at + 1 } else { 0 };
            let id = TagId(at as u32);
            if self.names[at].is_some() && self.live.holders(id) == 0 {
                let name = self.names[at].take().expect("looked at just above");
                self.ids.remove(&name);
                self.vacant.push(id);
            }
        }
    }

    /// Checks the table against itself; for tests.
    pub fn validate(&self) {
        let named = self.names.iter().flatten().count();
        assert_eq!(named, self.ids.len(), "each name has one id");
        assert_eq!(named + self.vacant.len(), self.names.len(), "an id is named or vacant");
        for (name, id) in &self.ids {
            assert_eq!(self.name(*id), &name[..], "id and name agree");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Stamp;
    use super::super::entry::{Entry, Parts};
    use super::super::rules::RuleId;
    use super::*;

    fn holding(tags: &[TagId]) -> Entry {
        Entry::new(Parts {
            stamp: Stamp(1),
            fresh_until: None,
            absent: false,
            stale: false,
            swr: 0,
            sie: 0,
            load_ms: None,
            codec: 0,
            raw_len: 0,
            rule: RuleId(0),
            tags,
            stored: b"",
        })
    }

    #[test]
    fn a_name_keeps_its_id_while_an_entry_holds_it_and_loses_it_afterwards() {
        let live = Arc::new(Live::default());
        let mut tags = Tags::new(live.clone());
        let user = tags.id(b"user:42").unwrap();
        let entry = holding(&[user]);
        live.born(entry.as_ref());
        tags.reap(10);
        assert_eq!(tags.name(user), b"user:42");
        assert_eq!(tags.id(b"user:42"), Some(user));

        live.died(entry.as_ref());
        tags.reap(10);
        assert!(tags.is_empty());
        assert_eq!(tags.id(b"another"), Some(user), "a vacant id is used again");
        tags.validate();
    }

    #[test]
    fn a_million_one_off_tags_leave_nothing_behind() {
        let live = Arc::new(Live::default());
        let mut tags = Tags::new(live.clone());
        for n in 0..1_000_000u32 {
            let id = tags.id(&n.to_be_bytes()).unwrap();
            let entry = holding(&[id]);
            live.born(entry.as_ref());
            live.died(entry.as_ref());
            tags.reap(2);
        }
        assert!(tags.names.len() < 10, "{} ids", tags.names.len());
        tags.validate();
    }
}
