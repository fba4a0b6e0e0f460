//! `SMARTCACHE.EXTEND key token d`

use crate::support::{Server, args, assert_within};

#[test]
fn a_lease_that_is_out_ends_when_it_is_told_to() {
    let s = Server::start();
    let token = s.call("SMARTCACHE.GETLOCK k LOCK 5 OWNER me").array()[2].text();
    assert_eq!(s.call_args(args!["SMARTCACHE.EXTEND", "k", token, "100"]).int(), 1);
    assert_within!(s.call("SMARTCACHE.GETLOCK k OWNER me").array()[4].int(), 60_000..=100_000);
    assert_eq!(s.call("SMARTCACHE.EXTEND k nonsense 100").int(), 0);
}
