//! `SMARTCACHE.STAMP`

use crate::support::{Server, args};

#[test]
fn what_was_loaded_before_a_delete_is_not_stored_after_it() {
    let s = Server::start();
    let stamp = s.call("SMARTCACHE.STAMP").text();
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "a", "v", "SINCE", stamp]).text(), "OK");
    s.ok("SMARTCACHE.DEL b");
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "b", "v", "SINCE", stamp]).text(), "STALE");
    assert_eq!(s.call_args(args!["SMARTCACHE.MSET", "2", "b", "v", "c", "v", "SINCE", stamp]).int(), 1);
    assert_eq!(s.call("SMARTCACHE.MISSING a b c").texts(), ["b"]);
}
