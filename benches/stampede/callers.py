"""Callers that use dogpile.cache (a thread for each) or cashews (a task for each). The bench starts this: it gets its
order as a line of JSON, prints "ready", waits for a line, and prints what came of the run in the shape of `Run`
(callers.rs)."""

import asyncio
import importlib.metadata
import json
import logging
import os
import platform
import sys
import threading
import time

STALE_AFTER = 0.01  # seconds past its end until we call a value stale: clocks are read twice

if "--versions" in sys.argv:
    names = ("dogpile.cache", "cashews", "redis")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    sys.exit()

order = json.loads(sys.stdin.readline())
key, ttl, load_seconds = order["key"], order["ttl"], order["load"]
places, seconds, limit = order["places"], order["seconds"], order["limit"]
callers = len(places)
url = "unix://" + order["socket"]
logging.disable()  # a client that gives up waiting says so; we count what comes of it

began = time.monotonic()
loads, answers, errors = [], [], []


def loaded():
    """What the origin answers: the record, and when."""
    return [time.monotonic(), order["record"]]


def note(asked, value, has_loaded):
    now = time.monotonic()
    if value[1] != order["record"]:
        raise ValueError("a value does not read back as it was stored")
    stale = asked - value[0] > ttl + STALE_AFTER
    got = "loaded" if has_loaded else "stale" if stale else "fresh"
    answers.append({"at": now - began, "micros": int((now - asked) * 1e6), "got": got})


def slots(place):
    """When the reader at this place asks: once a second; one caller of a cold key asks once."""
    if seconds is None:
        yield None
        return
    at = place / order["all"]
    while at < seconds:
        yield began + at
        at += 1


def ready():
    print("ready", flush=True)
    sys.stdin.readline()


def report(unanswered, cpu):
    result = {"loads": loads, "answers": answers, "unanswered": unanswered, "client_seconds": cpu}
    result["error"] = errors[0] if errors else None
    sys.stdout.write(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # threads that still wait would keep us


def end():
    return began + (seconds or 0) + limit


def dogpile():
    from dogpile.cache import make_region

    global began
    arguments = {"url": url, "distributed_lock": True, "thread_local_lock": False, "lock_timeout": 10}
    arguments["connection_kwargs"] = {"max_connections": callers + 10}
    region = make_region().configure("dogpile.cache.redis", expiration_time=ttl, arguments=arguments)
    mine = threading.local()

    def load():
        loads.append(time.monotonic() - began)
        mine.loaded = True
        time.sleep(load_seconds)
        return loaded()

    start, left = threading.Event(), [callers]

    def caller(place):
        start.wait()
        try:
            for due in slots(place):
                asked = time.monotonic()
                if due is not None and asked < due:
                    time.sleep(due - asked)
                    asked = time.monotonic()
                elif due is not None:
                    asked = due
                mine.loaded = False
                value = region.get_or_create(key, load)
                note(asked, value, mine.loaded)
            left[0] -= 1
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    # A connection for each, before the clock starts.
    pool = region.backend.writer_client.connection_pool
    for con in [pool.get_connection() for _ in range(callers)]:
        pool.release(con)
    if seconds is not None:
        region.set(key, loaded())
    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=caller, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    ready()
    began, cpu = time.monotonic(), time.process_time()
    start.set()
    for thread in threads:
        thread.join(max(0, end() - time.monotonic()))
    report(left[0], time.process_time() - cpu)


async def cashews():
    from cashews import Cache
    from cashews.wrapper.backend_settings import _BACKENDS

    global began
    _BACKENDS["unix"] = _BACKENDS["redis"]  # its client can, only the address is refused
    cache = Cache()
    cache.setup(url, max_connections=callers + 10)
    has_loaded = set()

    # As it ships, one caller of a process goes for all of them (protected=True). Where each caller stands
    # for a process that is off: the lock is what is to be seen.
    @cache(ttl=ttl, key=key, lock=True, protected=order["protected"])
    async def read():
        loads.append(time.monotonic() - began)
        has_loaded.add(asyncio.current_task())
        await asyncio.sleep(load_seconds)
        return loaded()

    left = [callers]

    async def caller(place):
        try:
            for due in slots(place):
                asked = time.monotonic()
                if due is not None and asked < due:
                    await asyncio.sleep(due - asked)
                    asked = time.monotonic()
                elif due is not None:
                    asked = due
                value = await read()
                note(asked, value, asyncio.current_task() in has_loaded)
                has_loaded.discard(asyncio.current_task())
            left[0] -= 1
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    # A connection for each, before the clock starts. Its second of patience may be short while so many begin.
    for tries_left in reversed(range(5)):
        try:
            await cache.init()
            await asyncio.gather(*(cache.ping() for _ in range(callers)))
            break
        except Exception:
            if not tries_left:
                raise
            await asyncio.sleep(0.5)
    if seconds is not None:
        await read()
        loads.clear()
        has_loaded.clear()
    ready()
    began, cpu = time.monotonic(), time.process_time()
    tasks = [asyncio.ensure_future(caller(place)) for place in places]
    await asyncio.wait(tasks, timeout=end() - time.monotonic())
    report(left[0], time.process_time() - cpu)


if order["library"] == "dogpile":
    dogpile()
else:
    asyncio.run(cashews())
