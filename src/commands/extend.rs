//! `SMARTCACHE.EXTEND`: moves the end of a lease.

use super::args::{Args, Zero};
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::lease::fill::Provenance;

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.EXTEND",
    summary: "Moves the end of a lease",
    since: "0.1.0",
    complexity: "O(1)",
    arity: 4,
    flags: &[Flag::Fast],
    keys: Keys::One(Access::ReadUpdate),
    args: &[Arg::key(), Arg::new("token", Kind::Text), Arg::new("duration", Kind::Duration)],
    details: "\
The lease ends this long from now, later or sooner than before; at most smartcache.max-lock. A lease that has ended is not revived, but a fill with its token may still be stored.
A token that is unknown, of another key, or from before a restart or role change is no error: the reply is 0.",
    replies: "1, or 0 when the lease has ended.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let key = args.key()?;
    let provenance = Provenance::Token(args.word()?);
    let ms = args.duration_within("duration", b"duration", Zero::Refused, cx.state.settings.lock_limit())?;
    args.finish()?;
    let (db, until_ms) = (cx.caller.db, cx.now.mono_ms().saturating_add(ms));
    let mut node = cx.node();
    node.expire_lease(key);
    let held = node.holds(key, provenance);
    if held {
        node.state.leases.extend(db, key.name, until_ms);
    }
    cx.reply.int(held.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    fn loading() -> (TestNode, String) {
        let mut node = TestNode::at(1_000_000);
        let token = node.token("GETLOCK k LOCK 3");
        (node, token)
    }

    #[test]
    fn a_lease_ends_later_or_sooner_than_it_would_have() {
        for (ms, ends) in [(5_000, 7_000), (500, 2_500)] {
            let (mut node, token) = loading();
            node.advance(2_000);
            assert_eq!(node.getlock(2, "k WAIT 60"), "(waiting)");
            assert_eq!(node.call(&format!("SMARTCACHE.EXTEND k {token} {ms}ms")), "1");
            node.advance(ends - 2_000 - 1);
            assert!(node.late().is_empty());
            node.advance(1);
            assert_eq!(node.late(), [(2, r#"["MISS", (nil), "T", 0, 10000]"#.into())]);
            assert_eq!(node.call(&format!("SET k v TOKEN {token}")), "OK", "a late fill is stored");
        }
    }

    #[test]
    fn an_expired_lease_is_not_revived() {
        let (mut node, token) = loading();
        node.advance_clocks(3_000); // the timer is late
        assert_eq!(node.call(&format!("SMARTCACHE.EXTEND k {token} 5")), "0");
        assert_eq!(node.getlock(2, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
        assert_eq!(
            node.call(&format!("SMARTCACHE.EXTEND k {token} 5")),
            "0",
            "nor does it take the place of the next lease"
        );
        assert_eq!((node.stat("leases"), node.stat("leases_expired")), ("1".into(), "1".into()));
    }

    #[test]
    fn a_lease_that_ended_otherwise_is_not_revived() {
        for line in ["UNLOCK k {}", "SET k v TOKEN {}", "SET k v", "DEL k", "STALE k"] {
            let (mut node, token) = loading();
            node.call(&line.replace("{}", &token));
            assert_eq!(node.call(&format!("SMARTCACHE.EXTEND k {token} 5")), "0", "{line}");
            assert_eq!(node.stat("leases"), "0");
        }
    }

    #[test]
    fn a_token_that_is_unknown_or_of_another_key_is_no_error() {
        let (mut node, token) = loading();
        let other = node.token("GETLOCK other");
        for word in ["x", "", &other, &"A".repeat(32), &token[1..]] {
            assert_eq!(node.call(&format!("SMARTCACHE.EXTEND k {word} 60")), "0", "{word}");
        }
        node.advance(3_000);
        assert_eq!(node.getlock(2, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
    }

    #[test]
    fn a_load_that_was_extended_for_longer_than_max_load_is_not_trusted() {
        let (mut node, token) = loading();
        node.config("max-load", "60").unwrap();
        assert_eq!(node.call(&format!("SMARTCACHE.EXTEND k {token} 10m")), "1");
        node.advance(60_001);
        assert_eq!(node.call(&format!("SET k v TOKEN {token}")), r#""STALE""#);
        assert_eq!(node.getlock(2, "k"), r#"["MISS", (nil), "T", 0, 10000]"#);
    }

    #[test]
    fn an_error_names_the_word_and_keeps_the_lease() {
        let (mut node, token) = loading();
        let duration = "is not a duration: say seconds (30, 0.5) or a unit (250ms, 30s, 5m, 2h, 7d)";
        for (words, error) in [
            ("0", "invalid duration '0': must be more than 0".to_owned()),
            ("-5", format!("invalid duration '-5': {duration}")),
            ("600.001", "invalid duration '600.001': is too long: at most 10m (smartcache.max-lock)".into()),
            ("36501d", "invalid duration '36501d': is too long: a duration is at most 36500d".into()),
        ] {
            assert_eq!(node.refusal(&format!("EXTEND k {token} {words}")), format!("ERR {error}"));
        }
        for line in ["EXTEND k t", "EXTEND k t 5 5"] {
            assert_eq!(node.refusal(line), "ERR wrong number of arguments for 'smartcache.extend' command");
        }
    }
}
