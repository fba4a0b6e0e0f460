//! `SMARTCACHE.DEL key [key …]`

use crate::support::Server;

#[test]
fn it_counts_existing_keys() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET fresh v
        OK
        > SMARTCACHE.SET stale v SWR 100
        OK
        > SMARTCACHE.STALE stale
        (integer) 1
        > SMARTCACHE.ABSENT absent
        OK
        > SET plain v
        OK
        > SMARTCACHE.DEL fresh stale absent plain nothing
        (integer) 4
        > EXISTS fresh stale absent plain
        (integer) 0
        > SMARTCACHE.DEL fresh
        (integer) 0
        "#,
    );
}

#[test]
fn a_repeated_key_counts_once() {
    Server::start().play(
        r#"
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.DEL k k
        (integer) 1
        "#,
    );
}

#[test]
fn a_key_of_another_type_is_refused_and_nothing_is_deleted() {
    Server::start().play(
        r#"
        > LPUSH list a
        (integer) 1
        > SMARTCACHE.SET k v
        OK
        > SMARTCACHE.DEL k list
        (error) WRONGTYPE …
        > EXISTS k list
        (integer) 2
        "#,
    );
}

#[test]
fn the_servers_del_and_unlink_work_too() {
    Server::start().play(
        r#"
        > SMARTCACHE.MSET 2 a 1 b 2
        (integer) 2
        > DEL a
        (integer) 1
        > UNLINK b
        (integer) 1
        > SMARTCACHE.MGET a b
        1) (nil)
        2) (nil)
        "#,
    );
}
