//! Which hash slots of a cluster this node serves, and what it means for loads in flight when that changes.
//!
//! While another node serves a slot, its keys may be deleted there without a trace here. So when a slot leaves, its
//! leases end and its waiters are answered `BUSY` (the server then redirects them); when a slot arrives, loads that
//! began before are not trusted.

use crate::cache::clock::Stamp;

/// The slots of a cluster.
const SLOTS: usize = 16_384;

/// CRC-16/XMODEM, as the cluster specification says.
const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// A set of slots.
pub type Served = [u64; SLOTS / 64];

/// The slots of this node.
#[derive(Debug)]
pub struct Slots {
    served: Box<Served>,
    /// The stamp at which each arrived.
    arrived: Box<[Stamp]>,
}

/// The slot of a key: that of its hash tag, the text between the first braces, if there is one.
pub fn slot_of(key: &[u8]) -> usize {
    let braced = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inside = &key[open + 1..];
        inside.iter().position(|byte| *byte == b'}').filter(|len| *len > 0).map(|len| &inside[..len])
    });
    usize::from(CRC.checksum(braced.unwrap_or(key))) % SLOTS
}

/// The slots that this node serves, from the text of `CLUSTER NODES`.
pub fn served(nodes: &str) -> Served {
    let mut served = [0; SLOTS / 64];
    let own = nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")));
    // Ranges follow the eight fields of a node; slots that are being moved are in brackets.
    for range in own.into_iter().flat_map(|line| line.split(' ').skip(8)) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            (first..=last.min(SLOTS - 1)).for_each(|slot| served[slot / 64] |= 1 << (slot % 64));
        }
    }
    served
}

impl Slots {
    /// The slots served at start: none of them has arrived.
    pub fn new(served: Served) -> Self {
        Slots { served: Box::new(served), arrived: vec![Stamp::default(); SLOTS].into_boxed_slice() }
    }

    /// Takes over the slots served now; new ones arrive at the stamp that `now` makes. Whether anything changed.
    pub fn update(&mut self, served: Served, now: impl FnOnce() -> Stamp) -> bool {
        let before = std::mem::replace(&mut *self.served, served);
        if before == served {
            return false;
        }
        let stamp = now();
        for slot in (0..SLOTS).filter(|slot| has(&served, *slot) && !has(&before, *slot)) {
            self.arrived[slot] = stamp;
        }
        true
    }

    /// Whether the slot of a key is served.
    pub fn serves(&self, key: &[u8]) -> bool {
        has(&self.served, slot_of(key))
    }

    /// Earlier stamps have lost their meaning: as if every slot had arrived now.
    pub fn reset(&mut self, stamp: Stamp) {
        self.arrived.fill(stamp);
    }

    /// The stamp at which the slot of a key arrived.
    pub fn arrived(&self, key: &[u8]) -> Stamp {
        self.arrived[slot_of(key)]
    }
}

fn has(served: &Served, slot: usize) -> bool {
    served[slot / 64] & 1 << (slot % 64) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNode;

    fn nodes(ranges: &str) -> Served {
        served(&format!(
            "07c3 127.0.0.1:7000@17000,host master - 0 1426238316232 2 connected 5461-16383\n\
             6ec2 127.0.0.1:7001@17001 myself,master - 0 0 1 connected {ranges}\n"
        ))
    }

    #[test]
    fn keys_go_to_the_slots_that_the_servers_say() {
        for (key, slot) in [("foo", 12_182), ("{user}.a", 5_474), ("{user}.b", 5_474), ("", 0), ("123456789", 12_739)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}"); // as CLUSTER KEYSLOT answers
        }
        assert_ne!(slot_of(b"{}a"), slot_of(b"{}b"), "nothing in the braces: the whole key counts");
        assert_ne!(slot_of(b"{a"), slot_of(b"{b"));
    }

    #[test]
    fn the_slots_served_are_read_from_the_nodes_own_line() {
        let slots = nodes("0-2 7 16383 [93-<-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]");
        let listed: Vec<usize> = (0..SLOTS).filter(|slot| has(&slots, *slot)).collect();
        assert_eq!(listed, [0, 1, 2, 7, 16_383]);
        assert_eq!(nodes("0-99999999999999999999 x-y 5-99999"), nodes("5-16383"), "what makes no sense is passed over");
        assert_eq!(served(""), [0; SLOTS / 64]);
    }

    #[test]
    fn whoever_waits_for_a_key_whose_slot_leaves_is_told_to_ask_again() {
        let mut node = TestNode::at(1_000_000);
        node.state.serves(nodes("0-16383"), node.now());
        node.call("GETLOCK foo");
        node.call("GETLOCK {user}.a");
        assert_eq!(node.call_as(2, "GETLOCK foo WAIT 5"), "(waiting)");
        assert_eq!(node.call_as(3, "GETLOCK {user}.a WAIT 5"), "(waiting)");
        node.state.serves(nodes("0-12181 12183-16383"), node.now());
        node.tick();
        assert_eq!(node.late_answers(), [(2, r#"["BUSY", (nil), (nil), 0, 1]"#.into())]);
        assert_eq!(
            (node.stat("leases"), node.stat("leases_voided"), node.stat("waiters")),
            ("1".into(), "1".into(), "1".into())
        );
    }

    #[test]
    fn a_load_that_began_before_its_slot_went_away_and_came_back_is_not_trusted() {
        let mut node = TestNode::at(1_000_000);
        node.state.serves(nodes("0-16383"), node.now());
        let (moved, stayed) = (node.token("GETLOCK foo"), node.token("GETLOCK {user}.a"));
        node.state.serves(nodes("0-12181 12183-16383"), node.now());
        node.state.serves(nodes("0-16383"), node.now());
        assert_eq!(node.call(&format!("SET foo v TOKEN {moved}")), r#""STALE""#);
        assert_eq!(node.call(&format!("SET {{user}}.a v TOKEN {stayed}")), "OK");
        let token = node.token("GETLOCK foo");
        assert_eq!(node.call(&format!("SET foo v TOKEN {token}")), "OK");
    }
}
