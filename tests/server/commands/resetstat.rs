//! `SMARTCACHE.RESETSTAT`

use super::stats::six_requests;
use crate::support::Server;

#[test]
fn resetstat_zeroes_counters_and_leaves_entries() {
    let s = Server::start();
    six_requests(&s);
    s.play(
        r#"
        > SMARTCACHE.RESETSTAT
        OK
        "#,
    );
    let stats = s.ok("SMARTCACHE.STATS");
    for field in ["requests", "hits", "stale_hits", "absent_hits", "misses", "sets", "absents", "misses_cold"] {
        assert_eq!(stats.field(field).int(), 0, "{field}");
    }
    assert_eq!(stats.field("entries").int(), 3);
}
