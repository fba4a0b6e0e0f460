//! The module inside real servers. Every expectation comes from the command reference; where that is silent a test
//! says what a Redis user would expect, and why.
//!
//! Run it with `make test`, or `cargo test --test server` once the module is built (`cargo build --release`).
//! Which test belongs where: `tests/README.md`.

mod support;

use support::{Server, args, assert_within, skip, wait_until};

#[test]
fn smoke() {
    let s = Server::setup().without_module().start();
    s.play(
        r#"
        > SET k v PX 100000
        OK
        > GET k
        "v"
        > LPUSH l "a\x00" b
        (integer) 2
        > LRANGE l 0 -1
        1) "b"
        2) "a\x00"
        > LPOP k
        (error) WRONGTYPE …
        "#,
    );
    assert_within!(s.pttl("k"), 1..=100_000);
    s.call_args(args!["SET", b"\xff\x00", "x"]);
    wait_until("gone", || s.call("EXISTS k").int() == 1);
    skip!(s, "nothing");
}
