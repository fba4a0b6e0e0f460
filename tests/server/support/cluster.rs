//! A cluster of six nodes: three primaries with a third of the slots each, and a replica of each.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::{SOON, Server, wait_until};

/// First slot of each primary.
const STARTS: [u32; 4] = [0, 5_461, 10_923, 16_384];

/// Six nodes; `replicas[n]` follows `primaries[n]`.
pub(crate) struct Cluster {
    pub(crate) primaries: Vec<Server>,
    pub(crate) replicas: Vec<Server>,
}

impl Cluster {
    /// Starts a cluster whose nodes are connected and in sync. `conf` is for every node.
    #[track_caller]
    pub(crate) fn start(conf: &str) -> Cluster {
        let start = || Server::setup().cluster().conf(conf).start();
        let primaries: Vec<_> = (0..3).map(|_| start()).collect();
        let replicas: Vec<_> = (0..3).map(|_| start()).collect();
        for (n, node) in primaries.iter().enumerate() {
            node.ok(&format!("CLUSTER ADDSLOTSRANGE {} {}", STARTS[n], STARTS[n + 1] - 1));
            // Equal epochs would have to be resolved first.
            node.ok(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
        }
        let all: Vec<&Server> = primaries.iter().chain(&replicas).collect();
        for node in &all[1..] {
            all[0].ok(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port(), node.bus_port()));
        }
        for node in &all {
            wait_until("the nodes know each other", || node.known(|line| !line.contains("handshake")) == 6);
        }
        for (replica, primary) in replicas.iter().zip(&primaries) {
            let id = primary.ok("CLUSTER MYID").text();
            wait_until("the replica follows", || !replica.call(&format!("CLUSTER REPLICATE {id}")).is_error());
        }
        let cluster = Cluster { primaries, replicas };
        cluster.wait_until_whole();
        cluster.wait_for_bus_links();
        cluster.nodes().for_each(|node| drop(node.ok("SMARTCACHE.RESETSTAT")));
        cluster
    }

    /// All nodes, primaries first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Server> {
        self.primaries.iter().chain(&self.replicas)
    }

    #[track_caller]
    pub(crate) fn wait_until_whole(&self) {
        for replica in &self.replicas {
            wait_until("the replica is in step", || replica.info("master_link_status") == "up");
        }
        for node in self.nodes() {
            wait_until("the cluster is up", || node.ok("CLUSTER INFO").text().contains("cluster_state:ok"));
            wait_until("the nodes know each other's roles", || node.known(|line| line.contains("slave")) == 3);
            wait_until("all links are up", || node.known(|line| !line.contains(" disconnected")) == 6);
            wait_until("the node could be restarted", || shards_agree(&node.path("nodes.conf")));
        }
    }

    /// See [`wait_for_bus_links`].
    #[track_caller]
    pub(crate) fn wait_for_bus_links(&self) {
        wait_for_bus_links(&self.primaries.iter().collect::<Vec<_>>());
    }

    /// The primary of a key.
    #[track_caller]
    pub(crate) fn of(&self, key: &str) -> &Server {
        let slot = self.primaries[0].ok(&format!("CLUSTER KEYSLOT {key}")).int() as u32;
        let at = STARTS[1..].iter().position(|end| slot < *end).expect("a slot");
        &self.primaries[at]
    }
}

/// Whether the file lists replicas in the shards of their primaries, if it lists shards. Otherwise Valkey 8.0 considers
/// the file corrupt and exits (valkey #2171, #774).
fn shards_agree(file: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let shard = |words: &[&str]| words[1].split(',').find_map(|part| part.strip_prefix("shard-id=")).map(str::to_owned);
    let nodes: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let of = |id: &str| nodes.iter().find(|words| words[0] == id).and_then(|words| shard(words));
    nodes.iter().filter(|words| words.len() > 3 && words[3] != "-").all(|words| shard(words) == of(words[3]))
}

/// Waits until messages of each of these primaries reach the others: a link that is being established loses messages,
/// and Valkey 9 closes a link whose first message is a module's.
#[track_caller]
pub(crate) fn wait_for_bus_links(primaries: &[&Server]) {
    for (n, node) in primaries.iter().enumerate() {
        let others = primaries.iter().enumerate().filter(|(at, _)| *at != n);
        let before: Vec<_> = others.map(|(_, other)| (other, other.stat("bus_received"))).collect();
        wait_until("the other primaries receive messages of this one", || {
            node.ok("SMARTCACHE.RULE DEL nosuch");
            std::thread::sleep(Duration::from_millis(50));
            before.iter().all(|(other, before)| other.stat("bus_received") > *before)
        });
    }
    // Repeated messages may still be on their way.
    std::thread::sleep(Duration::from_millis(100));
}

impl Server {
    /// The port of the cluster's bus.
    #[track_caller]
    pub(crate) fn bus_port(&self) -> String {
        self.ok("CONFIG GET cluster-port").texts()[1].clone()
    }

    /// The number of matching lines of `CLUSTER NODES`.
    #[track_caller]
    fn known(&self, matches: impl Fn(&str) -> bool) -> usize {
        self.ok("CLUSTER NODES").text().lines().filter(|line| matches(line)).count()
    }

    /// Sends bytes as a module message of another node, as anyone who reaches the bus port can.
    #[track_caller]
    pub(crate) fn forge(&self, sender: &str, kind: u8, payload: &[u8]) {
        let mut packet = b"RCmb\0\0\0\0".to_vec();
        packet.extend([0, 1]); // the bus's version
        packet.extend([0, 0, 0, 9, 0, 0]); // port, type (a module's message), count
        packet.extend([0; 24]); // epochs and offset
        packet.extend(sender.as_bytes());
        packet.extend([0; 2_048 + 40 + 46 + 2 + 30 + 2 + 2]); // slots, primary, addresses
        packet.extend([0, 1, 0, 0, 0, 0]); // flags (a primary), state
        assert_eq!((sender.len(), packet.len()), (40, 2_256));
        packet.extend([0; 8]); // the module id is 0 because its name has not nine letters
        packet.extend((payload.len() as u32).to_be_bytes());
        packet.push(kind);
        packet.extend(payload);
        let len = packet.len() as u32;
        packet[4..8].copy_from_slice(&len.to_be_bytes());
        let mut bus = TcpStream::connect(format!("127.0.0.1:{}", self.bus_port())).expect("the bus listens");
        bus.set_write_timeout(Some(SOON)).expect("more than nothing");
        bus.write_all(&packet).expect("it is read");
    }
}
