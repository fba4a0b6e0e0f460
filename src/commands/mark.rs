//! `SMARTCACHE.MARK`: how invalidations reach replicas and come back from an AOF. Internal.

use super::args::Args;
use super::spec::{Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::Cx;
use crate::cache::error::Error;
use crate::cache::invalidation::messages::{self, MarkMessage};

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.MARK",
    summary: "Applies an invalidation of another node (internal)",
    since: "0.1.0",
    complexity: "O(n) for n names",
    arity: -7,
    flags: &[Flag::Write, Flag::Fast, Flag::Internal],
    keys: Keys::None,
    args: &[
        Arg::new("stamp", Kind::Integer),
        Arg::new("unix-time-milliseconds", Kind::Integer),
        Arg::new("guard-milliseconds", Kind::Integer),
        Arg::new("kind", Kind::Text),
        Arg::new("over-milliseconds", Kind::Integer),
        Arg::new("selector", Kind::Text),
        Arg::new("name", Kind::Text).or_none().repeated(),
    ],
    details: "\
SmartCache writes it into the replication stream and the AOF: stamp, time, what is left of the guard, HARD or SOFT, OVER, and a selector: TAGS, PREFIXES, PATTERNS or ALL. Or UNGUARD and a selector: guards are taken back; SWEPT: a sweep that began at the stamp has visited every key. Or DROP: marks of prefixes or of patterns up to the stamp are dropped now; FORGET ALL: everything, as there are no entries; FORGOT: they were dropped before.
Refused from clients, which use SMARTCACHE.INVALIDATE.",
    replies: "OK",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let mut words: smallvec::SmallVec<[&[u8]; 8]> = smallvec::SmallVec::new();
    while let Some(word) = args.option() {
        words.push(word);
    }
    let message = messages::decode(&words)?;
    if !cx.caller.trusted {
        return Err(Error::Refused("SMARTCACHE.MARK is for replicas and AOF: use SMARTCACHE.INVALIDATE".into()));
    }
    match message {
        MarkMessage::Invalidation(mut invalidation) => {
            // A stamp too far ahead is replaced by one of now: that invalidates more, never less.
            if !cx.state.clock.follow(invalidation.stamp, cx.now) {
                invalidation.stamp = cx.state.clock.stamp(cx.now);
            }
            invalidation.bound_guard(&cx.state.settings);
            if !cx.server.is_replica() {
                invalidation.bound_ramp(&cx.state.settings); // of an AOF
            }
            invalidation.run(cx);
        }
        message => {
            cx.effects.push(crate::cache::effects::Effect::ReplicateVerbatim);
            cx.state.apply_mark(cx.caller.db, message, cx.now);
        }
    }
    cx.reply.simple("OK");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    #[test]
    fn a_client_cannot_send_it() {
        let mut node = TestNode::at(1_000_000);
        let error = "ERR SMARTCACHE.MARK is for replicas and AOF: use SMARTCACHE.INVALIDATE";
        assert_eq!(node.refusal("MARK 5 5 0 HARD 0 ALL"), error);
        assert_eq!(node.refusal("MARK 5 5 0 HARDLY 0 TAGS t"), "ERR syntax error near 'HARDLY'");
        assert_eq!(node.refusal("MARK -5 5 0 HARD 0 ALL"), "ERR invalid stamp '-5': a whole number is wanted");
    }

    #[test]
    fn a_stamp_too_far_ahead_does_not_move_the_clock_and_still_invalidates() {
        let mut node = TestNode::replica_at(1_000_000);
        node.obey(&[b"SET", b"k", b"v", b"TAGS", b"1", b"t"]);
        let far = u64::MAX / 4;
        node.obey(&[b"SMARTCACHE.MARK", far.to_string().as_bytes(), b"5", b"0", b"HARD", b"0", b"TAGS", b"t"]);
        assert_eq!(node.inspect("k", "state"), "\"dead\"");
        assert!(node.state.clock.last().0 < far);
    }
}
