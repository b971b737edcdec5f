"""No interrupt and no cancellation, at whatever instant, hands one caller another's reply."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import pytest
import redis
from redis_chaos import Proxy, jitter
from redis_servers import Server, until

from llmcache.backends.redis import RedisStore

# An interrupt may as well strike while an object is being finalised, which Python can only report.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

KEYS = [f"g:{number}" for number in range(16)]
PATIENCE = 30.0


class Interrupt(BaseException):
    """What a signal handler raises: a soft limit, or Ctrl-C."""


def data_of(key: str) -> bytes:
    return f"{key} ".encode() * (20 + int(key[2:]))


@pytest.fixture
def store(server: Server) -> RedisStore:
    store = RedisStore(server.url, timeout=PATIENCE, max_connections=4)
    for key in KEYS:
        store.set(key, data_of(key), 1e6)
    return store


def interrupted(get: Callable[[str], bytes | None], times: int, seed: int) -> Counter[str]:
    """Call *get* and interrupt it, at an instant that nobody foresees, and count what it did."""

    def strike(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    chance = random.Random(seed)
    count: Counter[str] = Counter()
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for turn in range(times):
            key = KEYS[turn % len(KEYS)]
            with suppress(Interrupt):
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 400e-6))
                    found = get(key)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    count["interrupted"] += 1
                except Exception as error:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    count[type(error).__name__] += 1
                else:
                    count["right" if found == data_of(key) else "wrong"] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return count


@pytest.mark.parametrize(
    "times", [3000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_an_interrupt_hands_over_nothing_and_loses_no_connection(
    server: Server, store: RedisStore, times: int
) -> None:
    count = interrupted(store.get, times, seed=7)
    assert count["wrong"] == 0
    assert count["interrupted"] > times / 10
    assert count.keys() <= {"right", "interrupted", "wrong"}
    together = threading.Barrier(store.max_connections)

    def work() -> None:
        together.wait(PATIENCE)
        for key in KEYS:
            assert store.get(key) == data_of(key)

    threads = [threading.Thread(target=work) for _ in range(store.max_connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert 0 < server.clients() <= store.max_connections
    store.close()
    assert until(lambda: server.clients() == 0)


def test_the_plain_client_fails_the_same_test(server: Server, store: RedisStore) -> None:
    client = redis.Redis(port=server.port, max_connections=4)
    count = interrupted(lambda key: client.get(f"llm_cache:{key}"), 3000, seed=7)
    assert count["wrong"] + count["MaxConnectionsError"] > 0
    client.close()
    store.close()


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


@pytest.mark.parametrize(
    "times", [5000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_cancellation_hands_over_nothing(server: Server, store: RedisStore, times: int) -> None:
    with Proxy(server.port) as proxy:
        proxy.delay, proxy.chop = jitter(0.001, seed=3), 100
        slow = RedisStore(proxy.url, timeout=PATIENCE, max_connections=4)
        count = asyncio.run(cancelled(slow, times, seed=5))
        assert count["wrong"] == 0
        assert count["right"] > times / 4
        assert count["cancelled"] > times / 10
        assert proxy.connections <= 4
        slow.close()
    store.close()


def test_a_thousand_cancellations_break_no_connection(server: Server, store: RedisStore) -> None:
    async def main(port: str) -> None:
        slow = RedisStore(port, timeout=PATIENCE, max_connections=4)
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
        assert proxy.connections <= 4
    store.close()
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
