//! What can be wrong: the table from which the documentation is generated.

/// What can be wrong, in the order of the report: code, condition, what to do.
pub const REASONS: &[(&str, &str, &str)] = &[
    (
        "panics",
        "A panic was caught since start or RESETSTAT.",
        "A bug in SmartCache. The command was answered with an error, and the server goes on. Please report the bug, with the file and line that the server's log shows at <smartcache>. RESETSTAT ends the warning.",
    ),
    (
        "memory",
        "used_memory, without what maxmemory does not count, is 90% of maxmemory or more. With a policy that evicts: only if nothing was evicted in the last five minutes.",
        "Raise maxmemory, or store less: shorter TTLs and windows. With noeviction, stores answer OOM at the limit: for a cache choose allkeys-lfu. With volatile-*, only keys with an expiry are evicted.",
    ),
    (
        "evictions",
        "10 or more entries were evicted while they were fresh.",
        "The data does not fit into memory. Raise maxmemory, or give the rule that the text names a shorter TTL. misses_evicted counts the requests for evicted keys: if it is small, memory is used well and you can ignore the warning.",
    ),
    (
        "hit_rate",
        "There were 100 or more requests, and the share answered without a load is below smartcache.health-hit-rate.",
        "The text names the most frequent cause, and the rule with the most misses. Cold: the keys were never stored, or were deleted. Expired: raise TTL, or add SWR. Invalidated: use SOFT and SWR, or narrower tags. Evicted: raise maxmemory. Busy: add WAIT, or raise FILLS. Normal for a while after a start.",
    ),
    (
        "leases_expired",
        "1% or more of a rule's leases ran out, and a fill arrived after that or 3 or more ran out.",
        "Loads take longer than LOCK, and each lease that runs out sends one more caller to the origin. Set LOCK above the load time that the text names, or let loaders call EXTEND. If no late fill arrived, look for loaders that die.",
    ),
    (
        "leases_refused",
        "5 or more leases were refused because FILLS of the rule or smartcache.max-leases was reached.",
        "The origin is slower than the demand. Raise FILLS if the origin can take more; otherwise add SWR or SIE, so that callers get a stale copy instead of BUSY.",
    ),
    (
        "user_share",
        "A lease or a wait was refused because a user held its share of them (smartcache.user-share).",
        "Find out what the user that the text names does with so many leases or waiting callers. Where one host makes all the calls as the default user there is nobody to share with: CONFIG SET smartcache.user-share 100%. Hosts that are users of their own (ACL SETUSER) have a share each.",
    ),
    (
        "fills_refused",
        "5 or more fills, and 10% or more of all, were not stored as fresh: answered STALE, LOST or an error.",
        "STALE: keys are deleted or invalidated while they are loaded. LOST: something newer was written, or the token is not valid on this server (a client writes to another server than it reads from, or there was a failover). Errors: over smartcache.max-value, or out of memory; the client received the text.",
    ),
    (
        "guarded",
        "5 or more fills were refused because they began within the GUARD of an invalidation, and the guard still stands.",
        "The text names what is guarded, and for how long yet. If that is longer than the origin's replicas lag, somebody said too much: INVALIDATE of the same selector with GUARD 0, or a flush, takes it back.",
    ),
    (
        "index_memory",
        "Invalidation marks that no entry accounts for take 90% of smartcache.index-memory or more.",
        "Beyond it INVALIDATE is refused where it needs room: prefixes that cannot be merged within what the user may write, patterns, and a long GUARD of tags that no entry carries. Let the sweep catch up (smartcache.sweep-effort), use tags instead of prefixes and patterns, shorter guards, or raise the setting.",
    ),
    (
        "sweep_backlog",
        "For five minutes the sweep always had keys to check, never fewer than in the minute before, and 1000 or more were added. Walks deferred by OVER do not count.",
        "Dead entries are never served, but take memory until the sweep frees them. Raise smartcache.sweep-effort, or invalidate by tag: each prefix, pattern or ALL takes a walk over all keys of the database.",
    ),
    (
        "rule_unmatched",
        "A rule made by command matched none of 1000 or more keys that were requested or stored since the rule was set (or since start or RESETSTAT), and no entry in memory was stored under it. Configured rules are not reported: their file may be for many servers.",
        "The pattern has a mistake, or another rule comes first: run RULE EXPLAIN with a key that should match. If the rule is no longer needed, RULE DEL.",
    ),
    (
        "rule_incompressible",
        "32 values of a rule in a row did not shrink by smartcache.min-savings, and the rule has stored values in the last hour.",
        "The values are compressed or encrypted already. CODEC none for the rule saves the attempts that are still made (3 of 100 stores).",
    ),
];

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// One of the codes in [`REASONS`].
    pub code: &'static str,
    /// What is wrong, how much, and what to do.
    pub text: String,
}
