import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

threads = threading.local()
background = ThreadPoolExecutor(8)


def connection():
    """The connection of this thread: a read that waits or loads needs one of its own."""
    if not hasattr(threads, "own"):
        threads.own = redis.Redis.from_url(
            os.environ.get("REDIS_URL", "redis://localhost:6379"),
            socket_timeout=3,  # longer than WAIT
            socket_connect_timeout=1, retry=Retry(NoBackoff(), 0), single_connection_client=True,
        )
    return threads.own


def cached(key, load):
    """The value of key as bytes, or None. load() asks the origin, and returns None when it has nothing."""
    end = time.monotonic() + 2
    while (left := end - time.monotonic()) > 0:
        try:
            reply = connection().execute_command("SMARTCACHE.GETLOCK", key, "WAIT", f"{left:.3f}")
        except redis.RedisError:
            break  # the cache is unreachable: go on without it
        state, value, token, _, lease_ms = reply
        if state == b"MISS":
            return fill(key, token, load)
        if state != b"BUSY":  # HIT, STALE or ABSENT
            if token:
                background.submit(fill, key, token, load)
            return value
        time.sleep(max(0, min(lease_ms / 1000, end - time.monotonic())))
    return load()  # and do not store


def fill(key, token, load):
    try:
        value = load()
    except Exception:
        send("SMARTCACHE.UNLOCK", key, token, "BACKOFF", "1s")
        raise
    if value is None:
        send("SMARTCACHE.ABSENT", key, "TTL", "30s", "TOKEN", token)
    else:
        send("SMARTCACHE.SET", key, value, "TTL", "5m", "SWR", "1m", "TOKEN", token)
    return value


def send(*words):
    try:
        connection().execute_command(*words)
    except redis.RedisError:
        pass  # the caller has its value; the lease ends by itself
