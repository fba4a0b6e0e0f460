import asyncio
import os
import time

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# As many connections as callers at a time: a read that waits occupies one. A caller too many waits for its turn; the
# usual pool of 100 would send it past the cache to the origin.
cache = redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(
    os.environ.get("REDIS_URL", "redis://localhost:6379"), max_connections=1000, timeout=2,
    socket_timeout=3,  # longer than WAIT
    socket_connect_timeout=1, retry=Retry(NoBackoff(), 0),
))
background = set()


async def cached(key, load):
    """The value of key as bytes, or None. load() asks the origin, and returns None when it has nothing."""
    try:
        own = await cache.client()  # a connection, kept until what was loaded is stored
    except redis.RedisError:
        return await load()  # the cache is unreachable: go on without it
    async with own:
        return await through(own, key, load)


async def through(own, key, load):
    end = time.monotonic() + 2
    while (left := end - time.monotonic()) > 0:
        try:
            reply = await own.execute_command("SMARTCACHE.GETLOCK", key, "WAIT", f"{left:.3f}")
        except redis.RedisError:
            break
        state, value, token, _, lease_ms = reply
        if state == b"MISS":
            return await fill(own, key, token, load)
        if state != b"BUSY":  # HIT, STALE or ABSENT
            if token:
                task = asyncio.create_task(refresh(key, token, load))
                background.add(task)  # the event loop alone would forget it
                task.add_done_callback(background.discard)
            return value
        await asyncio.sleep(max(0, min(lease_ms / 1000, end - time.monotonic())))
    return await load()  # and do not store


async def fill(own, key, token, load):
    try:
        value = await load()
    except asyncio.CancelledError:  # the caller gave up; the origin is fine
        await send(own, "SMARTCACHE.UNLOCK", key, token)
        raise
    except Exception:
        await send(own, "SMARTCACHE.UNLOCK", key, token, "BACKOFF", "1s")
        raise
    if value is None:
        await send(own, "SMARTCACHE.ABSENT", key, "TTL", "30s", "TOKEN", token)
    else:
        await send(own, "SMARTCACHE.SET", key, value, "TTL", "5m", "SWR", "1m", "TOKEN", token)
    return value


async def refresh(key, token, load):
    try:
        async with cache.client() as own:
            await fill(own, key, token, load)
    except Exception:
        pass  # the caller has the old value


async def send(own, *words):
    try:
        await own.execute_command(*words)
    except redis.RedisError:
        pass  # the caller has its value; the lease ends by itself
