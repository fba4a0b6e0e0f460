import threading
import time
from collections import OrderedDict

TAG = b"smartcache:tag:"


class Copies:
    """Local copies of values, by key and by tag, each until its time ends or the server reports a change."""

    def __init__(self, most=10_000, longest=60):
        self.most, self.longest = most, longest  # copies, seconds
        self.copies = OrderedDict()  # by key, the least recently used first
        self.keys = {}  # by tag
        self.lock = threading.Lock()

    def get(self, key, tags, ask):
        """The copy of key, or else what ask() returns: a value or None, and for how many milliseconds it is fresh."""
        key, tags = as_bytes(key), [as_bytes(tag) for tag in tags]
        with self.lock:
            copy = self.copies.get(key)
            if copy and copy.until > time.monotonic():
                self.copies.move_to_end(key)
                return copy.value
            # Registered before the server is asked: if the key changes meanwhile, the copy is dropped like any other.
            copy = Copy(tags)
            self.keep(key, copy)
        asked = time.monotonic()
        value, fresh_ms = ask()
        with self.lock:
            if value is not None:
                left = self.longest if fresh_ms < 0 else min(fresh_ms / 1000, self.longest)
                copy.value, copy.until = value, asked + left
        return value

    def drop(self, names):
        """Drops what the server reports as changed: keys, and pseudo-keys of tags. None means everything."""
        with self.lock:
            if names is None:
                self.copies.clear()
                self.keys.clear()
            for name in names or ():
                if name.startswith(TAG):
                    for key in list(self.keys.get(name[len(TAG):], ())):
                        self.drop_key(key)
                else:
                    self.drop_key(name)

    def keep(self, key, copy):
        self.drop_key(key)
        if len(self.copies) >= self.most:
            self.drop_key(next(iter(self.copies)))
        self.copies[key] = copy
        for tag in copy.tags:
            self.keys.setdefault(tag, set()).add(key)

    def drop_key(self, key):
        copy = self.copies.pop(key, None)
        for tag in copy.tags if copy else ():
            self.keys[tag].discard(key)
            if not self.keys[tag]:
                del self.keys[tag]


class Copy:
    def __init__(self, tags):
        self.tags, self.value, self.until = set(tags), None, 0


def as_bytes(word):
    return word if isinstance(word, bytes) else word.encode()
