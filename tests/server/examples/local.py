"""Calls the programs of examples/client-side as tests/server/examples.rs describes."""

import os
import sys
from urllib.parse import urlsplit

if sys.argv[1] == "built_in":
    import built_in

    def get(key, *tags):
        try:
            return built_in.get(key)
        except Exception as why:
            return str(why).encode()

    def has(key):
        return built_in.cache.get_cache().size > 0
else:
    from copies import TAG

    if sys.argv[1] == "raw":
        import raw

        url = urlsplit(os.environ["REDIS_URL"])
        cache = raw.LocalCache(url.hostname, url.port)
    else:
        import with_redis_py

        cache = with_redis_py.LocalCache("app:")
    copies = cache.copies

    def get(key, *tags):
        try:
            return cache.get(key, tags)
        except Exception as why:
            return str(why).encode()

    def has(key):
        copy = copies.copies.get(key.encode())
        return copy is not None and copy.value is not None

    def meanwhile(key, tag, named):
        """Reads while the server reports that this has changed."""

        def ask():
            copies.drop([named.encode()] if named != "everything" else None)
            return b"old", 60_000

        return copies.get(key, [tag], ask)


for line in sys.stdin:
    word, *words = line.split()
    if word == "get":
        value = get(*words)
        print("nothing" if value is None else value.decode(), flush=True)
    elif word == "has":
        print("yes" if has(*words) else "no", flush=True)
    else:
        print(meanwhile(*words).decode(), flush=True)
