"""The fixtures that the tests of cashews expect; its source archive leaves them out. Memory is there for comparison:
what it answers, Redis must."""

import os
from unittest.mock import Mock

import pytest
from cashews import Cache
from cashews.backends.memory import Memory
from cashews.backends.redis import Redis
from cashews.backends.redis.client_side import BcastClientSide
from cashews.backends.transaction import TransactionBackend


@pytest.fixture(scope="session")
def redis_dsn():
    return os.environ["REDIS_URL"]


@pytest.fixture(scope="session")
def backend_factory():
    return lambda backend, *words, **options: backend(*words, **options)


@pytest.fixture(name="raw_backend", params=["memory", "transactional", "redis", "redis_cs"])
async def _backend(request, redis_dsn):
    if request.param == "redis":
        backend = Redis(redis_dsn, max_connections=20, suppress=False, socket_timeout=5)
    elif request.param == "redis_cs":
        backend = BcastClientSide(redis_dsn, max_connections=5, suppress=False, socket_timeout=1)
        backend._expire_for_recently_update = 0.1
    elif request.param == "transactional":
        backend = TransactionBackend(Memory())
    else:
        backend = Memory(check_interval=0.01)
    try:
        await backend.init()
        await backend.clear()
        yield backend, request.param
    finally:
        await backend.close()


@pytest.fixture
def target(raw_backend):
    return Mock(wraps=raw_backend[0], is_full_disable=False)


@pytest.fixture
async def cache(target, raw_backend):
    await target.clear()
    target.reset_mock()
    cache = Cache(name=raw_backend[1])
    cache._add_backend(target)
    return cache
