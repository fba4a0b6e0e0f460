//! Clusters: what keys of different slots may do together, and what happens to leases when a slot moves.

use crate::support::{Server, args, wait_until};

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

/// Two nodes that know each other; the first has all slots.
fn cluster_of_two() -> (Server, Server) {
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
    (a, b)
}

/// Gives a slot to another node, as resharding does in its last step.
fn move_slot(slot: i64, from: &Server, to: &Server) {
    let id = to.ok("CLUSTER MYID").text();
    to.ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.ok("CLUSTER MYID").text()));
    for node in [to, from] {
        node.ok(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
    }
}

#[test]
fn a_slot_that_leaves_leaves_nobody_waiting_and_what_was_loaded_before_is_not_trusted_when_it_comes_back() {
    let (a, b) = cluster_of_two();
    let slot = a.ok("CLUSTER KEYSLOT moving").int();
    let token = a.call("SMARTCACHE.GETLOCK moving LOCK 100").array()[2].text();
    let staying = a.call("SMARTCACHE.GETLOCK staying LOCK 100").array()[2].text();
    let stamp = a.call("SMARTCACHE.STAMP").text();
    let mut waiter = a.connect();
    waiter.send(args!["SMARTCACHE.GETLOCK", "moving", "WAIT", "100"]).expect("sent");
    wait_until("the caller is parked", || a.stat("waiters") == 1);

    move_slot(slot, &a, &b);
    let answer = waiter.receive().expect("an answer");
    assert!(answer.is_error() || answer.array()[0].text() == "BUSY", "{answer}");
    wait_until("its lease has ended", || (a.stat("waiters"), a.stat("leases")) == (0, 1));
    assert!(a.call("SMARTCACHE.GETLOCK moving").error().starts_with("MOVED"));
    b.ok("SMARTCACHE.DEL moving");

    move_slot(slot, &b, &a);
    wait_until("the first node distrusts what was loaded before", || {
        let answer = a.call_args(args!["SMARTCACHE.SET", "{moving}other", "v", "SINCE", stamp]);
        !answer.is_error() && answer.text() == "STALE"
    });
    assert_eq!(a.call_args(args!["SMARTCACHE.SET", "moving", "v", "TOKEN", token]).text(), "STALE");
    assert_eq!(a.call_args(args!["SMARTCACHE.SET", "staying", "v", "TOKEN", staying]).text(), "OK");
    let token = a.call("SMARTCACHE.GETLOCK moving").array()[2].text();
    assert_eq!(a.call_args(args!["SMARTCACHE.SET", "moving", "v", "TOKEN", token]).text(), "OK");
}
