//! Clusters: commands with keys of several slots, leases of slots that move, and messages between primaries.

use std::thread::sleep;
use std::time::Duration;

use crate::support::cluster::wait_for_bus_links;
use crate::support::{Cluster, Server, args, wait_until};

fn cluster_of_one() -> Server {
    let s = Server::setup().cluster().start();
    s.ok("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until("the cluster is up", || s.ok("CLUSTER INFO").text().contains("cluster_state:ok"));
    s
}

#[test]
fn one_key_and_keys_of_one_slot_work() {
    cluster_of_one().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.GET k
        "v"
        > SMARTCACHE.MSET 2 {u}1 a {u}2 b TAGS 2 tag other
        (integer) 2
        > SMARTCACHE.MGET {u}1 {u}2
        1) "a"
        2) "b"
        > SMARTCACHE.DEL {u}1 {u}2
        (integer) 2
        > SMARTCACHE.RULE SET r MATCH *
        OK
        "#,
    );
}

#[test]
fn keys_of_different_slots_are_refused_as_always() {
    let s = cluster_of_one();
    for line in ["MSET 2 a v b v", "MGET a b", "DEL a b", "STALE a b", "MISSING a b"] {
        let reply = s.call(&format!("SMARTCACHE.{line}"));
        assert!(reply.error().starts_with("CROSSSLOT"), "{line}\n{reply}");
    }
}

/// Two connected nodes; the first has all slots.
pub(crate) fn cluster_of_two() -> (Server, Server) {
    let (a, b) = (Server::setup().cluster().start(), Server::setup().cluster().start());
    a.ok("CLUSTER ADDSLOTSRANGE 0 16383");
    let bus = b.ok("CONFIG GET cluster-port").texts()[1].clone();
    a.ok(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", b.port()));
    for node in [&a, &b] {
        wait_until("the cluster is up", || node.ok("CLUSTER INFO").text().contains("cluster_state:ok"));
        wait_until("the nodes know each other as primaries", || {
            let nodes = node.ok("CLUSTER NODES").text();
            nodes.lines().filter(|line| line.contains("master") && !line.contains("handshake")).count() == 2
        });
    }
    wait_for_bus_links(&[&a, &b]);
    [&a, &b].into_iter().for_each(|node| drop(node.ok("SMARTCACHE.RESETSTAT")));
    (a, b)
}

/// Assigns a slot to another node, like the last step of resharding.
fn move_slot(slot: i64, from: &Server, to: &Server) {
    let id = to.ok("CLUSTER MYID").text();
    to.ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.ok("CLUSTER MYID").text()));
    for node in [to, from] {
        // Refused until the node knows that the other is a primary.
        wait_until("the slot is moved", || !node.call(&format!("CLUSTER SETSLOT {slot} NODE {id}")).is_error());
    }
}

#[test]
fn when_a_slot_leaves_waiters_are_answered_and_earlier_loads_are_not_trusted() {
    let (a, b) = cluster_of_two();
    let slot = a.ok("CLUSTER KEYSLOT moving").int();
    let token = a.call("SMARTCACHE.GETLOCK moving LOCK 100").array()[2].text();
    let staying = a.call("SMARTCACHE.GETLOCK staying LOCK 100").array()[2].text();
    let stamp = a.call("SMARTCACHE.STAMP").text();
    let mut waiter = a.connect();
    waiter.send(args!["SMARTCACHE.GETLOCK", "moving", "WAIT", "60"]).expect("sent");
    wait_until("the caller is parked", || a.stat("waiters") == 1);

    move_slot(slot, &a, &b);
    let answer = waiter.receive().expect("an answer");
    assert!(answer.is_error() || answer.array()[0].text() == "BUSY", "{answer}");
    wait_until("its lease has ended", || (a.stat("waiters"), a.stat("leases")) == (0, 1));
    assert!(a.call("SMARTCACHE.GETLOCK moving").error().starts_with("MOVED"));
    b.ok("SMARTCACHE.DEL moving");

    move_slot(slot, &b, &a);
    wait_until("the first node does not trust earlier loads", || {
        let answer = a.call_args(args!["SMARTCACHE.SET", "{moving}other", "v", "SINCE", stamp]);
        !answer.is_error() && answer.text() == "STALE"
    });
    assert_eq!(a.call_args(args!["SMARTCACHE.SET", "moving", "v", "TOKEN", token]).text(), "STALE");
    assert_eq!(a.call_args(args!["SMARTCACHE.SET", "staying", "v", "TOKEN", staying]).text(), "OK");
    let token = a.call("SMARTCACHE.GETLOCK moving").array()[2].text();
    assert_eq!(a.call_args(args!["SMARTCACHE.SET", "moving", "v", "TOKEN", token]).text(), "OK");
}

// ---- messages between primaries ----

/// The message type of `src/host/bus.rs`.
const KIND: u8 = 203;

/// A message in the format of `src/cache/cluster/bus.rs`.
fn message(life: u64, number: u64, db: i32, words: &[&str]) -> Vec<u8> {
    let mut bytes = b"SmCa\x01".to_vec();
    bytes.extend(life.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(db.to_le_bytes());
    bytes.extend((words.len() as u32).to_le_bytes());
    for word in words {
        bytes.extend((word.len() as u32).to_le_bytes());
        bytes.extend(word.as_bytes());
    }
    bytes
}

/// The names of a node's rules.
fn rules(node: &Server) -> Vec<String> {
    let mut names: Vec<_> = node.ok("SMARTCACHE.RULE LIST").array().iter().map(|r| r.field("name").text()).collect();
    names.sort();
    names
}

fn bus(node: &Server) -> (i64, i64, i64) {
    (node.stat("bus_sent"), node.stat("bus_received"), node.stat("bus_lost"))
}

#[track_caller]
fn wait_for_rules(cluster: &Cluster, wanted: &[&str]) {
    for node in cluster.nodes() {
        wait_until("every node has exactly these rules", || rules(node) == wanted);
    }
}

#[test]
fn a_rule_is_passed_on_to_all_primaries_once_and_replicated_by_each() {
    let mut cluster = Cluster::start("appendonly yes");
    cluster.primaries[0].ok("SMARTCACHE.RULE SET a MATCH a:* TTL 10m TAG all");
    wait_for_rules(&cluster, &["a"]);
    let rule = cluster.primaries[0].ok("SMARTCACHE.RULE GET a");
    assert!(cluster.nodes().all(|node| node.ok("SMARTCACHE.RULE GET a") == rule));
    cluster.primaries[1].ok("SMARTCACHE.RULE SET b MATCH b:*");
    wait_for_rules(&cluster, &["a", "b"]);
    assert_eq!(cluster.primaries[2].ok("SMARTCACHE.RULE DEL a").int(), 1);
    wait_for_rules(&cluster, &["b"]);
    assert_eq!(cluster.primaries[2].ok("SMARTCACHE.RULE DEL nosuch").int(), 0);
    assert!(cluster.primaries[2].call("SMARTCACHE.RULE SET c").is_error());
    assert!(cluster.replicas[0].call("SMARTCACHE.RULE SET c MATCH c").error().starts_with("READONLY"));
    sleep(Duration::from_millis(300)); // time for messages that must not arrive

    // Sent: one by the first, one by the second, two by the third; receivers send nothing.
    let counters: Vec<_> = cluster.nodes().map(bus).collect();
    assert_eq!(counters, [(1, 3, 0), (1, 3, 0), (2, 2, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)]);

    // Commands replayed from an AOF are not passed on: the other nodes have them.
    cluster.primaries[1].ok("SMARTCACHE.RULE SET late MATCH x");
    wait_for_rules(&cluster, &["b", "late"]);
    cluster.primaries[0].restart();
    cluster.wait_until_whole();
    wait_for_rules(&cluster, &["b", "late"]);
    assert_eq!(bus(&cluster.primaries[0]), (0, 0, 0));
    cluster.wait_for_bus_links();
    // Its numbering restarts after a restart.
    cluster.primaries[0].ok("SMARTCACHE.RULE DEL late");
    wait_for_rules(&cluster, &["b"]);
}

#[test]
fn in_transactions_and_scripts_each_command_is_passed_on_once() {
    let cluster = Cluster::start("");
    let node = &cluster.primaries[1];
    let mut conn = node.connect();
    for line in ["MULTI", "SMARTCACHE.RULE SET a MATCH a", "SMARTCACHE.RULE SET b MATCH b"] {
        assert!(!conn.call(line).is_error());
    }
    sleep(Duration::from_millis(100));
    assert_eq!(bus(node), (0, 0, 0), "nothing has been executed");
    assert_eq!(conn.call("EXEC").array().len(), 2);
    node.call_args(args!["EVAL", "return redis.call('SMARTCACHE.RULE', 'SET', 'c', 'MATCH', 'c')", "0"]);
    for line in ["MULTI", "SMARTCACHE.RULE SET d MATCH d", "DISCARD"] {
        assert!(!conn.call(line).is_error());
    }
    wait_for_rules(&cluster, &["a", "b", "c"]);
    sleep(Duration::from_millis(100));
    assert_eq!(cluster.nodes().map(bus).collect::<Vec<_>>()[..3], [(0, 3, 0), (3, 0, 0), (0, 3, 0)]);
}

#[test]
fn a_replica_that_is_promoted_has_what_was_passed_on() {
    let cluster = Cluster::start("");
    cluster.primaries[0].ok("SMARTCACHE.RULE SET r MATCH *");
    wait_for_rules(&cluster, &["r"]);
    let (old, new) = (&cluster.primaries[1], &cluster.replicas[1]);
    new.ok("CLUSTER FAILOVER");
    wait_until("the replica is a primary", || new.ok("ROLE").array()[0].text() == "master");
    wait_until("the primary is its replica", || old.info("master_link_status") == "up");
    assert_eq!(rules(new), ["r"]);
    cluster.primaries[0].ok("SMARTCACHE.RULE SET s MATCH *");
    wait_for_rules(&cluster, &["r", "s"]);
    assert_eq!((bus(new).1, bus(old).1), (1, 1), "each received one as a primary");
    new.ok("SMARTCACHE.RULE DEL r");
    wait_for_rules(&cluster, &["s"]);
}

#[test]
fn messages_received_while_writes_are_paused_run_afterwards_in_order() {
    let cluster = Cluster::start("");
    let (from, to) = (&cluster.primaries[0], &cluster.primaries[1]);
    to.ok("CLIENT PAUSE 60000 WRITE");
    for n in 0..300 {
        from.ok(&format!("SMARTCACHE.RULE SET r{} MATCH * TTL {}", n % 3, n + 1));
    }
    wait_for_rules_of(&cluster.primaries[2], &["r0", "r1", "r2"]);
    sleep(Duration::from_millis(100));
    assert_eq!((rules(to).len(), bus(to)), (0, (0, 0, 0)));
    to.ok("CLIENT UNPAUSE");
    wait_for_rules(&cluster, &["r0", "r1", "r2"]);
    wait_until("all have run", || bus(to) == (0, 300, 0));
    for node in cluster.nodes() {
        wait_until("the last wins", || node.ok("SMARTCACHE.RULE GET r2").field("ttl").int() == 300_000);
    }

    // While a script runs the server still reads messages.
    let busy = "local t = redis.call('TIME') while true do local n = redis.call('TIME') \
                if (n[1] - t[1]) * 1000 + (n[2] - t[2]) / 1000 > 1500 then break end end \
                return #redis.call('SMARTCACHE.RULE', 'LIST')";
    to.ok("CONFIG SET busy-reply-threshold 50");
    let mut conn = to.connect();
    conn.send(args!["EVAL", busy, "0"]).expect("sent");
    sleep(Duration::from_millis(300));
    from.ok("SMARTCACHE.RULE DEL r0");
    assert_eq!(conn.receive().expect("an answer").int(), 3, "nothing changes under a script");
    wait_for_rules(&cluster, &["r1", "r2"]);
}

#[track_caller]
fn wait_for_rules_of(node: &Server, wanted: &[&str]) {
    wait_until("the node has exactly these rules", || rules(node) == wanted);
}

#[test]
fn a_restarted_primary_lacks_missed_messages_and_receives_the_next() {
    let mut cluster = Cluster::start("cluster-node-timeout 60000");
    cluster.primaries[1].kill();
    cluster.primaries[0].ok("SMARTCACHE.RULE SET missed MATCH *");
    wait_for_rules_of(&cluster.primaries[2], &["missed"]);
    cluster.primaries[1].restart();
    cluster.wait_until_whole();
    assert_eq!(rules(&cluster.primaries[1]), [""; 0], "the bus is best effort");
    cluster.wait_for_bus_links();
    assert_eq!(rules(&cluster.primaries[1]), [""; 0], "nothing is sent again");
    cluster.primaries[0].ok("SMARTCACHE.RULE SET missed MATCH *");
    wait_for_rules(&cluster, &["missed"]);
}

/// Keys of all three primaries.
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Stores all of them on their primaries, with a tag.
fn store_all(cluster: &Cluster) {
    for key in KEYS {
        cluster.of(key).ok(&format!("SMARTCACHE.SET {key} v SWR 10m TAGS 1 t"));
    }
    let own = |node: &Server| KEYS.iter().filter(|key| std::ptr::eq(cluster.of(key), node)).count();
    assert!(cluster.primaries.iter().all(|node| own(node) > 0), "each primary has some of the keys");
}

fn states(cluster: &Cluster) -> Vec<String> {
    KEYS.map(|key| cluster.of(key).state(key)).to_vec()
}

#[test]
fn an_invalidation_on_one_primary_applies_on_all_and_is_passed_on_once() {
    let cluster = Cluster::start("");
    for node in &cluster.primaries {
        node.ok("CONFIG SET smartcache.sweep-effort 0");
    }
    for (n, (what, state)) in [
        ("TAGS 2 t unknown", "dead"),
        ("TAGS 1 t SOFT", "stale"),
        ("PREFIXES 6 a b c d e f", "dead"),
        ("PATTERNS 1 ? SOFT", "stale"),
        ("ALL WAIT 10ms", "dead"),
        ("ALL SOFT GUARD 10m", "stale"),
    ]
    .into_iter()
    .enumerate()
    {
        store_all(&cluster);
        let elsewhere = cluster.of("a");
        let key = format!("{{a}}loading{n}");
        let token = elsewhere.call_args(args!["SMARTCACHE.GETLOCK", key]).array()[2].text();
        let target = &cluster.primaries[n % 3];
        let hit = target.ok(&format!("SMARTCACHE.INVALIDATE {what}")).int();
        assert!(hit == 0 || KEYS.len() as i64 > hit, "only local entries are counted: {hit}");
        for key in KEYS {
            wait_until(&format!("{key} is {state} after {what}"), || cluster.of(key).state(key) == state);
        }
        let replicas_too = || {
            cluster.replicas.iter().zip(&cluster.primaries).all(|(r, p)| {
                let mut conn = r.connect();
                conn.call("READONLY");
                KEYS.iter()
                    .filter(|key| std::ptr::eq(cluster.of(key), p))
                    .all(|key| conn.call(&format!("SMARTCACHE.GET {key}")).is_nil())
            })
        };
        wait_until("also on the replicas", replicas_too);
        let fill = elsewhere.call_args(args!["SMARTCACHE.SET", key, "v", "TOKEN", token, "TAGS", "1", "t"]);
        let concerned = what.starts_with("TAGS") || what.starts_with("ALL");
        assert_eq!(fill.text(), if concerned { "STALE" } else { "OK" }, "{what}: a load that began before it");
    }
    sleep(Duration::from_millis(300)); // time for messages that must not arrive
    let counters: Vec<_> = cluster.nodes().map(bus).collect();
    assert_eq!(counters, [(2, 4, 0), (2, 4, 0), (2, 4, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)]);
    assert!(cluster.nodes().all(|node| node.log().matches("<smartcache>").count() == 0));
}

#[test]
fn in_a_transaction_an_invalidation_is_passed_on_once_and_only_if_permitted() {
    let cluster = Cluster::start("");
    store_all(&cluster);
    let node = &cluster.primaries[0];
    for other in cluster.primaries.iter() {
        // On the other nodes the user has no permission: it is checked on the node that gets the command.
        let may = if std::ptr::eq(other, node) { "%W~smartcache:tag:t" } else { "" };
        other.ok(&format!("ACL SETUSER shop on nopass +@all resetkeys ~other {may}"));
    }
    let mut conn = node.connect();
    assert!(!conn.call("AUTH shop x").is_error());
    for refused in ["TAGS 2 t u", "ALL", "PREFIXES 1 a", "PATTERNS 1 a*"] {
        assert!(conn.call(&format!("SMARTCACHE.INVALIDATE {refused}")).error().starts_with("NOPERM"));
    }
    for line in ["MULTI", "SMARTCACHE.INVALIDATE TAGS 1 t", "EXEC"] {
        assert!(!conn.call(line).is_error());
    }
    wait_until("all are invalidated", || states(&cluster).iter().all(|state| state == "dead" || state == "nothing"));
    sleep(Duration::from_millis(100));
    let counters: Vec<_> = cluster.primaries.iter().map(|node| (bus(node), node.stat("invalidations"))).collect();
    assert_eq!(counters, [((1, 0, 0), 1), ((0, 1, 0), 1), ((0, 1, 0), 1)]);
}

#[test]
fn more_tags_than_a_message_holds_go_in_several() {
    let cluster = Cluster::start("");
    let tags: Vec<_> = (0..2_500).map(|n| format!("{n:0>250}")).collect();
    for (key, tag) in KEYS.iter().zip([0, 1, 900, 1_800, 2_400, 2_499]) {
        let node = cluster.of(key);
        node.call_args(args!["SMARTCACHE.SET", key, "v", "TAGS", "1", tags[tag]]);
    }
    let mut words = vec!["SMARTCACHE.INVALIDATE", "TAGS", "2500"];
    words.extend(tags.iter().map(String::as_str));
    let node = &cluster.primaries[2];
    assert!(!node.call_args(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).is_error());
    wait_until("all are invalidated", || states(&cluster).iter().all(|state| state == "dead" || state == "nothing"));
    let counters_match = || cluster.primaries.iter().map(bus).collect::<Vec<_>>() == [(0, 3, 0), (0, 3, 0), (3, 0, 0)];
    wait_until("all three messages have arrived", counters_match);
}

#[test]
fn a_promoted_replica_has_earlier_invalidations() {
    let mut cluster = Cluster::start("cluster-node-timeout 1500");
    for node in cluster.nodes() {
        node.ok("CONFIG SET smartcache.sweep-effort 0");
    }
    store_all(&cluster);
    let at = cluster.primaries.iter().position(|node| std::ptr::eq(node, cluster.of("a"))).expect("a primary");
    cluster.primaries[(at + 1) % 3].ok("SMARTCACHE.INVALIDATE TAGS 1 t SOFT");
    wait_until("the message has arrived", || cluster.of("a").state("a") == "stale");
    assert_eq!(cluster.primaries[at].ok("WAIT 1 10000").int(), 1);
    cluster.primaries[at].kill();
    let new = &cluster.replicas[at];
    wait_until("the replica is a primary", || new.ok("ROLE").array()[0].text() == "master");
    wait_until("it serves", || !new.call("SMARTCACHE.GET a").is_error());
    assert_eq!(new.state("a"), "stale");
    cluster.primaries[(at + 1) % 3].ok("SMARTCACHE.INVALIDATE TAGS 1 t");
    wait_until("it receives the next message itself", || new.state("a") == "dead");
    assert_eq!(bus(new), (0, 1, 0));
}

#[test]
fn a_slot_that_moves_brings_nothing_back() {
    let (a, b) = cluster_of_two();
    for node in [&a, &b] {
        node.ok("CONFIG SET smartcache.sweep-effort 0");
    }
    let keys = ["{m}hard", "{m}soft", "{m}late", "{m}fresh"];
    for key in keys {
        a.ok(&format!("SMARTCACHE.SET {key} v SWR 10m TAGS 1 {key}"));
    }
    let slot = a.ok("CLUSTER KEYSLOT {m}").int();
    a.ok("SMARTCACHE.INVALIDATE TAGS 1 {m}hard");
    a.ok("SMARTCACHE.INVALIDATE TAGS 1 {m}soft SOFT");
    wait_until("the other node has received both messages", || bus(&b).1 == 2);

    // The entry leaves before its node has run the message that was sent.
    a.ok("CLIENT PAUSE 60000 WRITE");
    b.ok("SMARTCACHE.INVALIDATE TAGS 1 {m}late");
    sleep(Duration::from_millis(200));
    assert_eq!(a.state("{m}late"), "fresh");
    let dumped: Vec<_> = keys.map(|key| a.call_args(args!["DUMP", key])).to_vec();
    b.ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", a.ok("CLUSTER MYID").text()));
    let mut conn = b.connect();
    for (key, dumped) in keys.iter().zip(&dumped).filter(|(_, dumped)| !dumped.is_nil()) {
        assert!(!conn.call("ASKING").is_error());
        let reply = conn.call_args(args!["RESTORE", key, "0", dumped.bytes()]);
        assert!(!reply.is_error(), "{reply}");
    }
    a.ok("CLIENT UNPAUSE");
    wait_until("the message has run", || bus(&a).1 == 1);

    // The same with MIGRATE, for the keys that are left.
    for key in keys {
        a.call_args(args!["DEL", key]);
    }
    move_slot(slot, &a, &b);
    for (key, state) in keys.iter().zip(["dead", "stale", "dead", "fresh"]) {
        let found = b.state(key);
        assert!(found == state || (state == "dead" && found == "nothing"), "{key}: {found}");
    }
}

#[test]
fn what_migrates_after_it_was_invalidated_is_not_fresh_where_it_arrives() {
    let (a, b) = cluster_of_two();
    a.ok("CONFIG SET smartcache.sweep-effort 0");
    b.ok("CONFIG SET smartcache.sweep-effort 0");
    let keys = ["{m}hard", "{m}soft", "{m}fresh"];
    for key in keys {
        a.ok(&format!("SMARTCACHE.SET {key} v SWR 10m TAGS 1 {key}"));
    }
    let slot = a.ok("CLUSTER KEYSLOT {m}").int();
    a.ok("SMARTCACHE.INVALIDATE TAGS 1 {m}hard");
    a.ok("SMARTCACHE.INVALIDATE PREFIXES 1 {m}soft SOFT");
    b.ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", a.ok("CLUSTER MYID").text()));
    a.ok(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", b.ok("CLUSTER MYID").text()));
    let moved = a.call(&format!("MIGRATE 127.0.0.1 {} \"\" 0 10000 KEYS {}", b.port(), keys.join(" ")));
    assert!(!moved.is_error(), "{moved}");
    for node in [&b, &a] {
        node.ok(&format!("CLUSTER SETSLOT {slot} NODE {}", b.ok("CLUSTER MYID").text()));
    }
    for (key, state) in keys.iter().zip(["dead", "stale", "fresh"]) {
        let found = b.state(key);
        assert!(found == state || (state == "dead" && found == "nothing"), "{key}: {found}");
    }
}

#[test]
fn forged_messages_have_no_effect_on_data() {
    let (a, b) = cluster_of_two();
    let id = b.ok("CLUSTER MYID").text();
    let lost = |n: i64| wait_until("it is counted", || bus(&a).2 == n);
    let good = message(1, 1, 0, &["SMARTCACHE.RULE", "SET", "r", "MATCH", "r", "TTL", "5"]);
    for _ in 0..2 {
        a.forge(&id, KIND, &good);
    }
    wait_for_rules_of(&a, &["r"]);
    a.ok("SMARTCACHE.RULE DEL r");
    a.forge(&id, KIND, &good);
    a.forge(&id, KIND, &message(1, 2, 0, &["smartcache.rule", "set", "two", "match", "2"]));
    wait_for_rules_of(&a, &["two"]);
    assert_eq!(bus(&a), (1, 2, 0), "a repeated message runs once");
    wait_for_rules_of(&b, &[""; 0]);

    a.forge(&"0".repeat(40), KIND, &message(1, 3, 0, &["SMARTCACHE.RULE", "SET", "stranger", "MATCH", "r"]));
    a.forge(&id, KIND + 1, &message(1, 3, 0, &["SMARTCACHE.RULE", "SET", "kind", "MATCH", "r"]));
    for foreign in [&b""[..], b"S", b"another module's bytes"] {
        a.forge(&id, KIND, foreign);
    }
    let mut later = good.clone();
    later[4] = 2;
    for n in 0..3 {
        a.forge(&id, KIND, &later);
        lost(n + 1);
    }
    assert_eq!(a.log().matches("its version is 2").count(), 1, "{}", a.log());

    let mut n = 3;
    for (number, words) in [
        (10, &["FLUSHALL"][..]),
        (11, &["SMARTCACHE.SET", "k", "v"]),
        (12, &["SMARTCACHE.DEL", "k"]),
        (13, &["SMARTCACHE.STORE", "k", "x"]),
        (14, &["SMARTCACHE.RULE", "LIST"]),
        (15, &["SMARTCACHE.RULE"]),
        (16, &["SMARTCACHE.RULE", "SET"]),
        (17, &["SMARTCACHE.RULE", "SET", "bad", "MATCH", "*", "SPEED", "%s%n"]),
        (18, &[""]),
        (21, &["SMARTCACHE.INVALIDATE", "PREFIXES", "1", "q", "WAIT", "5"]),
        (22, &["SMARTCACHE.INVALIDATE", "WAIT", "0", "ALL"]),
        (23, &["SMARTCACHE.PREVIEW", "PREFIXES", "1", "q"]),
        (24, &["SMARTCACHE.GETLOCK", "q", "WAIT", "5"]),
    ] {
        a.forge(&id, KIND, &message(1, number, 0, words));
        n += 1;
        lost(n);
    }
    a.forge(&id, KIND, &message(1, 20, 99, &["SMARTCACHE.RULE", "SET", "db", "MATCH", "*"]));
    lost(n + 1);
    for cut in 4..good.len() {
        a.forge(&id, KIND, &good[..cut]);
    }
    lost(n + 1 + (good.len() - 4) as i64);
    let mut many = good.clone();
    many[25..29].copy_from_slice(&u32::MAX.to_le_bytes());
    a.forge(&id, KIND, &many);
    lost(n + 2 + (good.len() - 4) as i64);
    assert_eq!((rules(&a), a.ok("DBSIZE").int()), (vec!["two".to_owned()], 0));
    assert!(a.log().matches("<smartcache>").count() < 30, "the log is not filled");

    // The server took the forged connection for the other node's and closed the real one, which is re-established.
    wait_until("messages of the other node arrive again", || {
        b.ok("SMARTCACHE.RULE SET after MATCH *");
        rules(&a) == ["after", "two"]
    });
}

#[test]
fn without_a_cluster_nothing_is_passed_on() {
    let s = Server::start();
    s.ok("SMARTCACHE.RULE SET r MATCH *");
    assert_eq!(bus(&s), (0, 0, 0));
}
