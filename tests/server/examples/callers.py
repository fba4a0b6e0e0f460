"""Calls examples/leases/cache_aside.py as tests/server/examples.rs describes."""

import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from cache_aside import cached

loads = 0
counting = threading.Lock()


def load(ms, what):
    global loads
    with counting:
        loads += 1
    time.sleep(ms / 1000)
    if what == "fail":
        raise OSError("the origin is down")
    return None if what == "nothing" else bytes.fromhex(what)


def call(key, ms, what):
    try:
        value = cached(key, lambda: load(ms, what))
    except OSError:
        return "failed"
    return "nothing" if value is None else value.hex()


def read(key, callers, ms, what):
    with ThreadPoolExecutor(int(callers)) as threads:
        calls = []
        for _ in range(int(callers)):
            calls.append(threads.submit(call, key, int(ms), what))
            if int(callers) <= 100:
                time.sleep(0.005)
        answers = Counter(each.result() for each in calls)
    return " ".join(f"{answer}*{n}" for answer, n in sorted(answers.items()))


for line in sys.stdin:
    word, *words = line.split()
    print(read(*words) if word == "read" else loads, flush=True)
