//! `SMARTCACHE.PREVIEW TAGS n tag … | PREFIXES n prefix … | PATTERNS n pattern … | ALL`

use crate::support::Server;

fn filled() -> Server {
    let s = Server::setup().tcp().start();
    for n in 0..30 {
        s.ok(&format!("SMARTCACHE.SET user:{n} value TAGS 2 all n:{}", n % 3));
    }
    s.ok("SET text t");
    s
}

#[test]
fn it_reports_what_would_be_hit_and_changes_nothing() {
    let s = filled();
    for (what, entries) in [
        ("TAGS 1 all", 30),
        ("TAGS 2 all n:1", 30),
        ("TAGS 2 n:0 n:1", 20),
        ("PREFIXES 2 user:1 user:2", 22),
        ("PATTERNS 1 *:?", 10),
        ("ALL", 30),
        ("TAGS 1 nobodys", 0),
    ] {
        let preview = s.call(&format!("SMARTCACHE.PREVIEW {what}"));
        assert_eq!(preview.field("entries").int(), entries, "{what}");
        assert_eq!(preview.field("sample").array().len() as i64, entries.min(10), "{what}");
        assert!(preview.field("bytes").int() >= entries * 40, "{what}");
        assert_eq!(preview.field("origin_ms").int(), 0, "{what}");
    }
    assert_eq!(s.call("SMARTCACHE.INVALIDATE ALL").int(), 30, "nothing was hit");
    assert_eq!(s.call("SMARTCACHE.PREVIEW ALL").field("entries").int(), 0, "dead entries are not counted");
}

#[test]
fn origin_ms_is_known_of_entries_loaded_under_a_lease() {
    let s = Server::start();
    let lease = s.getlock("k");
    std::thread::sleep(std::time::Duration::from_millis(30)); // the load
    assert_eq!(s.call(&format!("SMARTCACHE.SET k v TAGS 1 t TOKEN {}", lease.token())).text(), "OK");
    assert!(s.call("SMARTCACHE.PREVIEW TAGS 1 t").field("origin_ms").int() >= 25);
}

#[test]
fn it_is_refused_in_transactions_and_scripts() {
    let s = filled();
    s.ok("MULTI");
    s.ok("SMARTCACHE.PREVIEW ALL");
    let answers = s.call("EXEC");
    assert!(answers.array()[0].error().contains("cannot wait"), "{answers:?}");
}

#[test]
fn a_replica_previews_too() {
    let s = filled();
    let replica = Server::replica_of(&s, "");
    assert_eq!(replica.call("SMARTCACHE.PREVIEW TAGS 1 n:1").field("entries").int(), 10);
}
