//! A panic never kills the server: proved with a command that exists only in test builds, and panics.

use std::path::PathBuf;

use crate::support::{Server, skip};

/// A server with the module built with the feature `test-commands`; when there is none, the test is skipped.
macro_rules! server_that_can_panic {
    () => {{
        let Some(path) = std::env::var_os("SMARTCACHE_TEST_MODULE") else {
            skip!(Server::start(), "SMARTCACHE_TEST_MODULE names no module built with `--features test-commands`");
        };
        let s = Server::setup().module(PathBuf::from(path)).start();
        s.expect_panics();
        s
    }};
}

#[test]
fn a_panic_is_an_error_to_the_caller_and_counted() {
    let s = server_that_can_panic!();
    s.ok("SMARTCACHE.SET k v");
    for count in 1..=3 {
        assert!(s.call("SMARTCACHE.PANIC").error().starts_with("ERR"));
        assert_eq!(s.stat("panics"), count);
        assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
    }
    s.ok("SMARTCACHE.SET k w");
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "w");
}

#[test]
fn a_panic_in_a_transaction_or_script_is_an_error_there() {
    let s = server_that_can_panic!();
    s.play(
        r#"
        > MULTI
        OK
        > SMARTCACHE.SET k v
        QUEUED
        > SMARTCACHE.PANIC
        QUEUED
        > SMARTCACHE.GET k
        QUEUED
        > EXEC
        1) OK
        2) (error) ERR …
        3) "v"
        "#,
    );
    assert!(s.call("EVAL \"return redis.call('SMARTCACHE.PANIC')\" 0").is_error());
    assert_eq!(s.stat("panics"), 2);
    assert_eq!(s.call("SMARTCACHE.GET k").text(), "v");
}

#[test]
fn the_log_says_where_it_panicked() {
    let s = server_that_can_panic!();
    assert!(s.call("SMARTCACHE.PANIC").is_error());
    let log = s.log();
    assert!(log.contains("panic") && log.contains(".rs:"), "{log}");
}
