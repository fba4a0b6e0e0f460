"""Calls examples/leases/cache_aside_asyncio.py as tests/server/examples.rs describes."""

import asyncio
import sys
from collections import Counter

from cache_aside_asyncio import cached

loads = 0


async def load(ms, what):
    global loads
    loads += 1
    await asyncio.sleep(ms / 1000)
    if what == "fail":
        raise OSError("the origin is down")
    return None if what == "nothing" else bytes.fromhex(what)


async def call(key, ms, what):
    try:
        value = await cached(key, lambda: load(ms, what))
    except OSError:
        return "failed"
    return "nothing" if value is None else value.hex()


async def read(key, callers, ms, what):
    calls = []
    for _ in range(int(callers)):
        calls.append(asyncio.create_task(call(key, int(ms), what)))
        if int(callers) <= 100:
            await asyncio.sleep(0.005)
    answers = Counter(await asyncio.gather(*calls))
    return " ".join(f"{answer}*{n}" for answer, n in sorted(answers.items()))


async def main():
    # Refreshes go on while the next line is awaited.
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *words = line.split()
        print(await read(*words) if word == "read" else loads, flush=True)


asyncio.run(main())
