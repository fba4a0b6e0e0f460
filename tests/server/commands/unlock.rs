//! `SMARTCACHE.UNLOCK key token [BACKOFF d]`

use crate::support::{Server, args};

#[test]
fn a_lease_given_back_is_free_and_a_second_time_it_is_no_lease() {
    let s = Server::start();
    let token = s.call("SMARTCACHE.GETLOCK k").array()[2].text();
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 1);
    assert_eq!(s.call_args(args!["SMARTCACHE.UNLOCK", "k", token]).int(), 0);
    assert_eq!(s.call("SMARTCACHE.GETLOCK k").array()[0].text(), "MISS");
}
