"""No interrupt and no cancellation, at whatever instant, hands one caller another's reply."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_chaos import Proxy, jitter
from redis_groups import ClusterServers
from redis_servers import Server, require, running, until

from llmcache.backends.redis import RedisStore

from .redis_interrupted import CONNECTIONS, KEYS, PATIENCE, data_of

PROGRAM = Path(__file__).with_name("redis_interrupted.py")


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout=PATIENCE, max_connections=CONNECTIONS)
    for key in KEYS:
        store.set(key, data_of(key), 1e6)
    store.close()
    yield store
    store.close()


def interrupted(who: str, server: Server, times: int) -> dict[str, int]:
    command = [sys.executable, str(PROGRAM), who, str(server.port), str(times)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    count: dict[str, int] = json.loads(done.stdout)
    return count


@pytest.fixture(params=["ours", "ours in a cluster"])
def ours(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    """Who asks, and the server."""
    if request.param == "ours":
        with running(Server(require("valkey"))) as server:
            yield request.param, server
    else:
        with running(ClusterServers(primaries=1)) as servers:
            yield request.param, servers.nodes[0]


@pytest.mark.parametrize(
    "times", [3000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_an_interrupt_hands_over_nothing_and_loses_no_connection(
    ours: tuple[str, Server], times: int
) -> None:
    who, server = ours
    with server.client as client:
        for key in KEYS:
            client.set(f"llm_cache:{key}", data_of(key))
    count = interrupted(who, server, times)
    assert count.keys() <= {"right", "interrupted", "together", "open", "left open"}
    assert count["interrupted"] > times / 10
    assert count["together"] == CONNECTIONS * len(KEYS)
    assert 0 < count["open"] <= CONNECTIONS
    assert count["left open"] == 0


@pytest.mark.usefixtures("store")
def test_the_plain_client_fails_the_same_test(server: Server) -> None:
    count = interrupted("plain", server, 3000)
    assert count.get("wrong", 0) + count.get("MaxConnectionsError", 0) > 0


async def cancelled(store: RedisStore, times: int, seed: int) -> Counter[str]:
    """Look up and cancel at random, and count what was found."""
    chance = random.Random(seed)
    count: Counter[str] = Counter()
    turns = itertools.count()

    async def work() -> None:
        for turn in turns:
            if turn >= times:
                return
            key = chance.choice(KEYS)
            if chance.random() < 0.1:
                task = asyncio.ensure_future(store.aset(key, data_of(key), 1e6))
            else:
                task = asyncio.ensure_future(store.aget(key))
            if chance.random() < 0.5:
                steps = chance.randrange(12)
                if steps < 6:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                else:
                    await asyncio.sleep(chance.uniform(0, 0.002))
                task.cancel()
            try:
                found = await task
            except asyncio.CancelledError:
                count["cancelled"] += 1
            else:
                count["right" if found in (True, data_of(key)) else "wrong"] += 1

    await asyncio.gather(*(work() for _ in range(20)))
    return count


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "times", [5000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_cancellation_hands_over_nothing(server: Server, times: int) -> None:
    with Proxy(server.port) as proxy:
        proxy.delay, proxy.chop = jitter(0.001, seed=3), 100
        slow = RedisStore(proxy.url, timeout=PATIENCE, max_connections=CONNECTIONS)
        count = asyncio.run(cancelled(slow, times, seed=5))
        assert count["wrong"] == 0
        assert count["right"] > times / 4
        assert count["cancelled"] > times / 10
        assert proxy.connections <= CONNECTIONS
        slow.close()


def test_a_cancellation_in_a_cluster_hands_over_nothing(shared_cluster: ClusterServers) -> None:
    store = RedisStore(shared_cluster.url, timeout=PATIENCE, max_connections=CONNECTIONS)
    for key in KEYS:
        store.set(key, data_of(key), 1e6)
    count = asyncio.run(cancelled(store, 5000, seed=5))
    assert count["wrong"] == 0
    assert count["right"] > 1000
    assert count["cancelled"] > 500
    store.close()


@pytest.mark.usefixtures("store")
def test_a_thousand_cancellations_break_no_connection(server: Server) -> None:
    async def main(port: str) -> None:
        slow = RedisStore(port, timeout=PATIENCE, max_connections=CONNECTIONS)
        for _ in range(3):
            tasks = [asyncio.ensure_future(slow.aget(KEYS[n % 16])) for n in range(1000)]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for key in KEYS:
            assert await slow.aget(key) == data_of(key)
        await slow.aclose()

    with Proxy(server.port) as proxy:
        proxy.delay = jitter(0.001, seed=3)
        asyncio.run(main(proxy.url))
        assert proxy.connections <= CONNECTIONS
    assert until(lambda: server.clients() == 0)


def test_a_call_may_be_cancelled_at_every_step(server: Server, store: RedisStore) -> None:
    async def main() -> None:
        for steps in itertools.count():
            task = asyncio.ensure_future(store.aget(KEYS[steps % 16]))
            for _ in range(steps):
                await asyncio.sleep(0)
            if not task.cancel():
                assert await task == data_of(KEYS[steps % 16])
                return
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await store.aget("g:1") == data_of("g:1")

    asyncio.run(main())
    store.close()
    assert until(lambda: server.clients() == 0)
