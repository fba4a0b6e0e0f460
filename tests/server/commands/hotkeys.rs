//! `SMARTCACHE.HOTKEYS`

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_distr::Zipf;

use crate::support::{Server, assert_within, resp, skip};

#[test]
fn the_hottest_key_comes_first_with_its_share() {
    let s = Server::start();
    s.ok("SMARTCACHE.SET warm v");
    for _ in 0..3 {
        s.ok("SMARTCACHE.MGET hot warm hot");
    }
    let reply = s.ok("SMARTCACHE.HOTKEYS");
    let [hot, warm] = reply.array() else { panic!("{reply}") };
    assert_eq!((hot.field("key").text(), hot.field("requests").int(), hot.field("hits").int()), ("hot".into(), 6, 0));
    assert_eq!(
        (warm.field("key").text(), warm.field("requests").int(), warm.field("hits").int()),
        ("warm".into(), 3, 3)
    );
    assert!((hot.field("share").float() - 2.0 / 3.0).abs() < 0.001);
    assert_eq!(s.ok("SMARTCACHE.HOTKEYS COUNT 5 MATCH w*").array().len(), 1);
    assert!(s.call("SMARTCACHE.HOTKEYS COUNT 101").error().starts_with("ERR invalid COUNT"));
    s.ok("SMARTCACHE.RESETSTAT");
    assert!(s.ok("SMARTCACHE.HOTKEYS").array().is_empty());
}

#[test]
fn of_the_true_top_20_of_a_zipf_stream_18_are_named_with_shares_within_a_tenth() {
    let s = Server::start();
    let mut conn = s.connect();
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    let zipf = Zipf::new(10_000.0, 1.0).unwrap();
    let mut exact = HashMap::<u64, u64>::new();
    for _ in 0..400 {
        let keys: Vec<u64> = (0..1_000).map(|_| random.sample(zipf) as u64).collect();
        keys.iter().for_each(|key| *exact.entry(*key).or_default() += 1);
        let pipeline: Vec<u8> =
            keys.iter().flat_map(|key| resp::encode(&[b"SMARTCACHE.GET", format!("k{key}").as_bytes()])).collect();
        conn.send_raw(&pipeline).unwrap();
        keys.iter().for_each(|_| drop(conn.receive().unwrap()));
    }
    let reported: HashMap<String, f64> = s
        .ok("SMARTCACHE.HOTKEYS COUNT 20")
        .array()
        .iter()
        .map(|key| (key.field("key").text(), key.field("share").float()))
        .collect();
    let mut truth: Vec<_> = exact.iter().map(|(key, count)| (*count, *key)).collect();
    truth.sort_unstable_by(|a, b| b.cmp(a));
    let mut named = 0;
    for (count, key) in &truth[..20] {
        let Some(share) = reported.get(&format!("k{key}")) else { continue };
        named += 1;
        let exact = *count as f64 / 400_000.0;
        assert!((share - exact).abs() <= exact / 10.0, "k{key}: {share} for {exact}");
    }
    assert_within!(named, 18..=20);
}

#[test]
fn it_is_dangerous() {
    let s = Server::start();
    if !s.since((7, 2), (7, 2)) {
        skip!(s, "modules have no ACL categories there");
    }
    let info = s.ok("COMMAND INFO smartcache.hotkeys").to_string();
    assert!(info.contains("@dangerous"), "{info}");
    s.ok("ACL SETUSER ada reset on nopass ~* +@all -@dangerous");
    let mut ada = s.connect();
    ada.call("AUTH ada x");
    assert!(ada.call("SMARTCACHE.HOTKEYS").error().starts_with("NOPERM"));
    assert!(!ada.call("SMARTCACHE.STATS").is_error());
}
