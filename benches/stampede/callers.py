"""Callers that use dogpile.cache (a thread per caller) or cashews (a task per caller). The bench starts this program,
sends its task as a line of JSON, waits for "ready", sends a line, and reads the record of the run in the shape of `Run`
(caller.rs)."""

import asyncio
import importlib.metadata
import json
import logging
import os
import platform
import sys
import threading
import time

STALE_AFTER = 0.01  # seconds past its TTL until a value counts as stale: the clock is read twice

if "--versions" in sys.argv:
    names = ("dogpile.cache", "cashews", "redis")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    sys.exit()

task = json.loads(sys.stdin.readline())
key, ttl, load_seconds = task["key"], task["ttl"], task["load"]
indexes, seconds, limit = task["indexes"], task["seconds"], task["limit"]
callers = len(indexes)
url = "unix://" + task["socket"]
logging.disable()  # clients log time-outs; the record counts their effects

began = time.monotonic()
loads, answers, errors = [], [], []


def loaded():
    """The origin's answer: the time and the record."""
    return [time.monotonic(), task["record"]]


def record_answer(asked, value, has_loaded):
    now = time.monotonic()
    if value[1] != task["record"]:
        raise ValueError("a value does not read back as it was stored")
    stale = asked - value[0] > ttl + STALE_AFTER
    outcome = "loaded" if has_loaded else "stale" if stale else "fresh"
    answers.append({"at": now - began, "micros": int((now - asked) * 1e6), "outcome": outcome})


def slots(index):
    """When the reader with this index reads: once a second; a caller of a cold key reads once."""
    if seconds is None:
        yield None
        return
    at = index / task["all"]
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
    os._exit(0)  # do not wait for threads that still wait


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

    def caller(index):
        start.wait()
        try:
            for due in slots(index):
                asked = time.monotonic()
                if due is not None and asked < due:
                    time.sleep(due - asked)
                    asked = time.monotonic()
                elif due is not None:
                    asked = due
                mine.loaded = False
                value = region.get_or_create(key, load)
                record_answer(asked, value, mine.loaded)
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
    threads = [threading.Thread(target=caller, args=(index,), daemon=True) for index in indexes]
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
    _BACKENDS["unix"] = _BACKENDS["redis"]  # its client supports unix sockets, only the URL scheme is refused
    cache = Cache()
    cache.setup(url, max_connections=callers + 10)
    has_loaded = set()

    # By default one caller of a process reads for all of them (protected=True). Where each caller stands for
    # a process that is off, so that the lock is measured.
    @cache(ttl=ttl, key=key, lock=True, protected=task["protected"])
    async def read():
        loads.append(time.monotonic() - began)
        has_loaded.add(asyncio.current_task())
        await asyncio.sleep(load_seconds)
        return loaded()

    left = [callers]

    async def caller(index):
        try:
            for due in slots(index):
                asked = time.monotonic()
                if due is not None and asked < due:
                    await asyncio.sleep(due - asked)
                    asked = time.monotonic()
                elif due is not None:
                    asked = due
                value = await read()
                record_answer(asked, value, asyncio.current_task() in has_loaded)
                has_loaded.discard(asyncio.current_task())
            left[0] -= 1
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    # A connection for each, before the clock starts. Its time-out of a second may be too short for so many.
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
    tasks = [asyncio.ensure_future(caller(index)) for index in indexes]
    await asyncio.wait(tasks, timeout=end() - time.monotonic())
    report(left[0], time.process_time() - cpu)


if task["library"] == "dogpile":
    dogpile()
else:
    asyncio.run(cashews())
