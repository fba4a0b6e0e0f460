//! `SMARTCACHE.GETLOCK key [LOCK d] [WAIT d] [OWNER id] [BETA f] [ACCEPT encodings]`

use crate::support::{Server, args, wait_until};

#[test]
fn one_caller_loads_and_the_others_wait_in_the_server() {
    let s = Server::start();
    let first = s.call("SMARTCACHE.GETLOCK k");
    assert_eq!(first.array()[0].text(), "MISS");
    let token = first.array()[2].text();
    let mut waiter = s.connect();
    waiter.send(args!["SMARTCACHE.GETLOCK", "k", "WAIT", "20"]).expect("sent");
    wait_until("the caller is parked", || s.inspect("k", "waiters").int() == 1);
    assert_eq!(s.call_args(args!["SMARTCACHE.SET", "k", "v", "TOKEN", token]).text(), "OK");
    let answer = waiter.receive().expect("an answer");
    assert_eq!((answer.array()[0].text(), answer.array()[1].text()), ("HIT".into(), "v".into()));
}
