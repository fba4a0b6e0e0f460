//! `SMARTCACHE.HEALTH`: what is wrong with the cache, and how to put it right.

use super::args::Args;
use super::spec::{Command, Flag, Keys, Run};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.HEALTH",
    summary: "Reports what is wrong with the cache, and how to put it right",
    since: "0.1.0",
    complexity: "O(r) for r rules, plus three sections of the server's INFO",
    arity: 1,
    flags: &[Flag::ReadOnly],
    keys: Keys::None,
    args: &[],
    details: "\
status is ok when there are no reasons, else warn. A reason has a code, which stays the same from version to version, and a text of one or more sentences: the numbers, the rule, and what to change. When more than five rules have the same problem, the text names the worst five and how many more there are.
Events are judged over the last five minutes and up to a minute more; with too few of them no reason is given. RESETSTAT starts anew.
hit_rate and error_rate are percentages over the same time, as defined for STATS; 0 when there were no requests. evicted_per_sec counts keys of any type that the server evicted, averaged over the last minute, or since start or RESETSTAT if that was later. memory_used_bytes, memory_max_bytes (0: no limit), connected_clients and ops_per_sec are the server's used_memory, maxmemory, connected_clients and instantaneous_ops_per_sec. uptime_ms counts from the loading of the module.
Everything is about this node: a replica counts the requests that it gets itself.",
    replies: "A map: status (ok or warn), reasons (an array of maps of code and text, the most urgent first), hit_rate, error_rate, memory_used_bytes, memory_max_bytes, connected_clients, ops_per_sec, evicted_per_sec, uptime_ms.",
    run: Some(Run::Plain(run)),
};

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    args.finish()?;
    let health = cx.state.health(cx.server, cx.now);
    let reply = &mut *cx.reply;
    reply.map(10);
    reply.bulk(b"status");
    reply.bulk(health.status().as_bytes());
    reply.bulk(b"reasons");
    reply.array(health.reasons.len());
    for reason in &health.reasons {
        reply.map(2);
        reply.bulk(b"code");
        reply.bulk(reason.code.as_bytes());
        reply.bulk(b"text");
        reply.bulk(reason.text.as_bytes());
    }
    let server_info = &health.server_info;
    reply.bulk(b"hit_rate");
    reply.double(health.hit_rate);
    reply.bulk(b"error_rate");
    reply.double(health.error_rate);
    reply.bulk(b"memory_used_bytes");
    reply.int(server_info.memory_used_bytes as i64);
    reply.bulk(b"memory_max_bytes");
    reply.int(server_info.memory_max_bytes as i64);
    reply.bulk(b"connected_clients");
    reply.int(server_info.connected_clients as i64);
    reply.bulk(b"ops_per_sec");
    reply.double(server_info.ops_per_sec as f64);
    reply.bulk(b"evicted_per_sec");
    reply.double(health.evicted_per_sec);
    reply.bulk(b"uptime_ms");
    reply.int(health.uptime_ms as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cache::ports::ServerInfo;
    use crate::testing::TestNode;

    #[test]
    fn a_node_without_requests_is_ok() {
        let mut node = TestNode::at(1_000);
        node.advance(250);
        node.server.server_info = ServerInfo {
            memory_used_bytes: 1_000,
            memory_max_bytes: 4_000,
            connected_clients: 3,
            ops_per_sec: 7,
            ..ServerInfo::default()
        };
        assert_eq!(
            node.call("SMARTCACHE.HEALTH"),
            "{\"status\": \"ok\", \"reasons\": [], \"hit_rate\": 0, \"error_rate\": 0, \"memory_used_bytes\": 1000, \
             \"memory_max_bytes\": 4000, \"connected_clients\": 3, \"ops_per_sec\": 7, \"evicted_per_sec\": 0, \
             \"uptime_ms\": 250}"
        );
        assert!(node.effects.is_empty());
    }

    #[test]
    fn a_reason_has_a_code_and_a_text() {
        let mut node = TestNode::at(1_000);
        node.call("SET k v");
        node.call("GET k");
        (0..99).for_each(|i| drop(node.call(&format!("GET k{i}"))));
        node.call("GET");
        let answer = node.call("health");
        assert!(
            answer.starts_with(
                "{\"status\": \"warn\", \"reasons\": [{\"code\": \"hit_rate\", \"text\": \"The hit rate over"
            ),
            "{answer}"
        );
        assert!(answer.contains(", \"hit_rate\": 1, \"error_rate\": 0.97, "), "{answer}");
        node.call("RESETSTAT");
        assert!(node.call("HEALTH").starts_with("{\"status\": \"ok\", \"reasons\": [], \"hit_rate\": 0, "));
    }

    #[test]
    fn it_takes_no_arguments() {
        let mut node = TestNode::at(1_000);
        assert_eq!(node.refusal("HEALTH x"), "ERR wrong number of arguments for 'smartcache.health' command");
    }
}
