import os
import threading
import time

import redis

from copies import Copies

URL = os.environ.get("REDIS_URL", "redis://localhost:6379")


class LocalCache:
    """Local copies, and a connection on which the server reports changes of keys under a prefix and of tags."""

    def __init__(self, prefix):
        self.cache = redis.Redis.from_url(URL)
        self.copies = Copies()
        self.prefix = prefix
        self.connected = False
        threading.Thread(target=self.listen, daemon=True).start()

    def get(self, key, tags=()):
        """The value of key as bytes, or None. tags are the ones that it was stored with."""
        if not self.connected:
            return self.ask(key)[0]
        return self.copies.get(key, tags, lambda: self.ask(key))

    def ask(self, key):
        _state, value, _token, fresh_ms, _lease_ms = self.cache.execute_command("SMARTCACHE.GET", key, "STATE")
        return value, fresh_ms

    def listen(self):
        own = redis.ConnectionPool.from_url(URL, protocol=2, socket_timeout=2).make_connection()
        while True:
            try:
                self.track(own)
            except (redis.RedisError, OSError):
                self.connected = False
                self.copies.drop(None)  # changes are not reported meanwhile
                own.disconnect()
                time.sleep(0.1)

    def track(self, own):
        def call(*words):
            own.send_command(*words)
            return own.read_response()

        # Redirected to itself, as messages of a subscription: that is how RESP2 receives them.
        call("CLIENT", "TRACKING", "ON", "REDIRECT", call("CLIENT", "ID"), "BCAST",
             "PREFIX", "smartcache:tag:", "PREFIX", self.prefix)
        call("SUBSCRIBE", "__redis__:invalidate")
        self.copies.drop(None)
        self.connected = True
        while True:
            try:
                kind, *_, names = own.read_response(disconnect_on_error=False)
            except redis.TimeoutError:  # two seconds of silence: is it still there?
                kind, *_, names = call("PING")
            if kind == b"message":
                self.copies.drop(names)
