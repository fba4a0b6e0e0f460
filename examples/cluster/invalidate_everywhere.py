"""REDIS_NODES=10.0.0.1:6379,10.0.0.2:6379 python invalidate_everywhere.py SMARTCACHE.INVALIDATE TAGS 1 user:42"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import redis
from redis.cluster import ClusterNode, RedisCluster


class NotEverywhere(Exception):
    """Some primaries did not run it: .failed has their errors, .replies the answers of the others, by host:port."""

    def __init__(self, replies, failed):
        super().__init__(", ".join(f"{node}: {error}" for node, error in failed.items()))
        self.replies, self.failed = replies, failed


def connect(nodes):
    return RedisCluster(
        startup_nodes=[ClusterNode(*node.rsplit(":", 1)) for node in nodes],
        socket_connect_timeout=1, socket_timeout=2,
    )


def everywhere(cluster, *words):
    """The answer of each primary, by host:port. All are asked at once: one that hangs delays no other."""
    cluster.nodes_manager.initialize()  # which nodes are primaries now
    primaries = {node.name: cluster.get_redis_connection(node) for node in cluster.get_primaries()}
    replies, failed = {}, {}
    with ThreadPoolExecutor(len(primaries)) as threads:
        asked = {name: threads.submit(node.execute_command, *words) for name, node in primaries.items()}
    for name, answer in asked.items():
        try:
            replies[name] = answer.result()
        except redis.RedisError as error:
            failed[name] = error
    if failed:
        raise NotEverywhere(replies, failed)
    return replies


if __name__ == "__main__":
    try:
        replies, failed = everywhere(connect(os.environ["REDIS_NODES"].split(",")), *sys.argv[1:]), {}
    except NotEverywhere as error:
        replies, failed = error.replies, error.failed
    for node, reply in replies.items():
        print(node, reply.decode() if isinstance(reply, bytes) else reply)
    for node, error in failed.items():
        print(node, "FAILED:", error, file=sys.stderr)
    sys.exit(1 if failed else 0)
