//! `SMARTCACHE.PREVIEW`: what an invalidation would affect.

use super::args::Args;
use super::invalidate::{SELECTOR, check_permission, parse_selector};
use super::spec::{Command, Flag, Keys, Run};
use crate::cache::effects::Effect;
use crate::cache::error::Error;
use crate::cache::invalidation::sweep::{Preview, SweepReply};
use crate::cache::{Cx, Reply, Right, Server};

/// The declaration.
pub(crate) const COMMAND: Command = Command {
    name: "SMARTCACHE.PREVIEW",
    summary: "Returns what an invalidation would affect, and changes nothing",
    since: "0.1.0",
    complexity: "O(n) for n members of the tags, else for n keys of the database; in slices: only the caller waits",
    arity: -2,
    flags: &[Flag::ReadOnly, Flag::Blocking],
    keys: Keys::None,
    args: &[SELECTOR],
    details: "\
Takes a selector as SMARTCACHE.INVALIDATE does, for the selected database. The caller waits while keys are walked over in slices, so it is refused in MULTI, scripts and functions. Entries stored or deleted meanwhile may be missed.
The sample leaves out keys that the caller may not read. TAGS needs read permission on the pseudo-key smartcache:tag:TAG for each tag, PREFIXES on all keys with that prefix where the server can check that. PATTERNS, ALL, and PREFIXES on other servers need it on all keys. Without it the reply is NOPERM.",
    replies: "A map: entries (fresh and stale ones that would be invalidated), bytes (memory of their values), sample (up to 10 of their keys, of those that the caller may read), origin_ms (time to load them again: the sum of the load times that were measured under leases).",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let word = args.word()?;
    let selector = parse_selector(args, word)?.ok_or_else(|| Error::syntax(word))?;
    args.finish()?;
    if !cx.caller.is_authorized() {
        check_permission(cx.server, Right::Read, &selector)?;
    }
    if !cx.server.may_wait() {
        return Err(Error::Refused(
            "SMARTCACHE.PREVIEW walks over keys, which MULTI, scripts and functions cannot wait for".into(),
        ));
    }
    let (scope, walks) = (cx.state.scope(&selector), cx.state.walks(&selector));
    let id = cx.state.sweep.preview(cx.caller.db, scope, &walks);
    cx.effects.push(Effect::Wait(id));
    Ok(())
}

/// Writes the reply to a caller that waited for a sweep or a preview. It names no key that the caller may not read.
pub(crate) fn write_deferred_reply(reply: &mut dyn Reply, server: &dyn Server, answer: &SweepReply) {
    let Preview { entries, bytes, sample, origin_ms } = match answer {
        SweepReply::Hits(hits) => return reply.int(*hits as i64),
        SweepReply::Preview(preview) => preview,
    };
    let sample: Vec<_> = sample.iter().filter(|key| server.may(Right::Read, key)).collect();
    reply.map(4);
    reply.bulk(b"entries");
    reply.int(*entries as i64);
    reply.bulk(b"bytes");
    reply.int(*bytes as i64);
    reply.bulk(b"sample");
    reply.array(sample.len());
    sample.iter().for_each(|key| reply.bulk(key));
    reply.bulk(b"origin_ms");
    reply.int(*origin_ms as i64);
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    #[test]
    fn without_read_permission_the_error_names_what_is_missing() {
        let mut node = TestNode::at(1_000_000);
        node.server.may_not_read = "smartcache:tag:b";
        node.server.tells_prefixes = false;
        for (what, missing) in [
            ("TAGS 2 a bad", "the key smartcache:tag:bad"),
            ("PATTERNS 1 x*", "all keys"),
            ("PREFIXES 1 x", "all keys"),
            ("ALL", "all keys"),
        ] {
            let error = format!("NOPERM this user has no read permission on {missing}");
            assert_eq!(node.refusal(&format!("PREVIEW {what}")), error);
        }
        node.server.tells_prefixes = true;
        assert_eq!(
            node.refusal("PREVIEW PREFIXES 2 x smart"),
            "NOPERM this user has no read permission on all keys that begin with smart"
        );
        for what in ["TAGS 1 a", "PREFIXES 1 x"] {
            assert!(!node.call(&format!("PREVIEW {what}")).contains("NOPERM"), "{what}");
        }
        node.server.may_not_read = "";
        node.server.may_not_write = "smart";
        assert!(!node.call("PREVIEW ALL").contains("NOPERM"), "it changes nothing");
    }
}
