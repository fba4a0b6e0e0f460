//! A cluster of one: what keys of different slots may do together.

use crate::support::{Server, free_port, wait_until};

fn cluster_of_one() -> Server {
    let s = Server::setup().tcp().conf(&format!("cluster-enabled yes\ncluster-port {}", free_port())).start();
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
