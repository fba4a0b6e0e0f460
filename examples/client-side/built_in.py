import os

import redis
from redis.cache import CacheConfig


class WithSmartCache(CacheConfig):
    """redis-py's own cache keeps replies to commands on a list: this adds one."""

    def is_allowed_to_cache(self, command):
        return command == "SMARTCACHE.GET" or super().is_allowed_to_cache(command)


cache = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://localhost:6379"), protocol=3, cache_config=WithSmartCache(max_size=10_000),
)


def get(key):
    """The value of key, or None. Without keys= this cache cannot know which push is about it."""
    return cache.execute_command("SMARTCACHE.GET", key, keys=[key])
