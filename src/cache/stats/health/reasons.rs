//! What may be wrong: the table that the documentation is made from.

/// What may be wrong, in the order in which it is told: code, when it is said, what to do.
pub const REASONS: &[(&str, &str, &str)] = &[
    (
        "panics",
        "A panic was caught since start or RESETSTAT.",
        "A bug of ours. The server's log has file and line, beside <smartcache>; please report it. The command was answered with an error, the server goes on. RESETSTAT ends the warning.",
    ),
    (
        "memory",
        "used_memory, without what maxmemory does not count, is at 90% of maxmemory or more; with a policy that evicts only as long as nothing has been evicted in the last five minutes.",
        "Raise maxmemory, or store less: shorter lifetimes, fewer windows. With noeviction stores will answer OOM: for a cache choose allkeys-lfu. With volatile-* only keys with an expiry can go.",
    ),
    (
        "evictions",
        "10 entries or more were evicted while they were fresh.",
        "What is to be kept does not fit. Raise maxmemory, or give the rule that is named a shorter TTL. misses_evicted says how many of them were wanted again: where that is small, memory is well used, and the warning may be lived with.",
    ),
    (
        "hit_rate",
        "Of 100 requests or more fewer than smartcache.health-hit-rate were answered without a load.",
        "The sentence names the commonest reason, and the rule with most misses. Cold: what is asked for was never stored, or is deleted. Expired: longer TTL, or SWR. Invalidated: SOFT and SWR, or narrower tags. Evicted: more memory. Busy: WAIT, or more FILLS. After a start it is normal for a while.",
    ),
    (
        "leases_expired",
        "1% of a rule's leases or more ran out, and a load came home after that, or 3 or more did.",
        "Loads take longer than LOCK, and each lease that runs out sends one more caller to the origin. Set LOCK above the load time that is named, or let loaders call EXTEND. Where nothing came home, look for loaders that die.",
    ),
    (
        "leases_refused",
        "5 times or more a lease was wanted, and FILLS of the rule or smartcache.max-leases was reached.",
        "The origin is slower than what is asked of it. Raise FILLS if it can take more; else give SWR or SIE, so that callers get a stale copy instead of BUSY.",
    ),
    (
        "fills_refused",
        "5 loads or more, and a tenth of all that came home, were not stored as fresh: STALE, LOST or an error.",
        "STALE: keys are deleted or invalidated while they are loaded. LOST: something newer was written, or the token is not this server's (a client that writes to another server than it reads from, a failover). Errors: over smartcache.max-value, or out of memory; the client has the text.",
    ),
    (
        "sweep_backlog",
        "For five minutes the sweep had always keys to look at, and never fewer than in the minute before, but in the end 1000 more. What is put off by OVER does not count.",
        "What is dead is not served, but takes memory until the sweep comes by. Raise smartcache.sweep-effort, or invalidate by tag: a prefix, a pattern and ALL each take a walk over all keys.",
    ),
    (
        "rule_unmatched",
        "A rule has matched none of 1000 keys or more that were asked for or stored since it was made (or since start, or RESETSTAT), and no entry is kept under it.",
        "A pattern with a slip, or another rule comes first: RULE EXPLAIN with a key that it is meant for. If it is of no use any more, RULE DEL.",
    ),
    (
        "rule_incompressible",
        "A rule's values were tried 32 times in a row and never became smaller by smartcache.min-savings, and it has stored values in the last hour.",
        "They are compressed or encrypted already. CODEC none for the rule saves the tries that are still made (3 of 100 stores).",
    ),
];

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What, as one of [`REASONS`].
    pub code: &'static str,
    /// The sentence.
    pub text: String,
}
