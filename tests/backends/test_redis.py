"""The Redis store: what is particular to it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import pytest
import redis
from redis_chaos import Proxy
from redis_servers import HANG, Server, free_port, until
from stand_ins import FakeClock
from twins import World, worlds

import llmcache
from llmcache import (
    CacheConfig,
    CacheManager,
    Clock,
    ConfigurationError,
    MissingExtra,
    RedisCacheBackend,
    TieredCacheBackend,
    llm_cached,
)
from llmcache.backends.base import Count, SlowTransfer
from llmcache.backends.redis import RedisStore
from llmcache.guard import Guard, GuardedVisit
from llmcache.ports import SyncPort, drive

NOW = {"clock": Clock()}


@pytest.fixture
def url(shared_server: Server) -> str:
    with shared_server.client as client:
        client.flushall()
    return shared_server.url


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    store = RedisStore(url, timeout=HANG)
    yield store
    store.close()


@pytest.fixture
def client(shared_server: Server) -> Iterator[redis.Redis]:
    with shared_server.client as client:
        yield client


def test_without_redis_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(llmcache.backends.registry.sys.modules, "llmcache.backends.redis", None)
    uses = (
        lambda: llm_cached(backend="redis://host"),
        lambda: RedisCacheBackend("redis://host"),
        lambda: CacheManager(CacheConfig(True, "redis", redis_url="redis://host")),
    )
    for use in uses:
        with pytest.raises(MissingExtra, match=r'needs: pip install "llmcache\[redis\]"$'):
            use()


def test_a_key_is_the_prefix_and_the_key(store: RedisStore, client: redis.Redis) -> None:
    store.set("g:a", b"data", 60)
    assert client.get("llm_cache:g:a") == b"data"


@pytest.mark.parametrize(
    ("ttl", "life"), [(60, 60_000), (60.25, 60_250), (61.5, 61_500), (1e300, 10**15)]
)
def test_the_server_lets_entries_expire(
    store: RedisStore, client: redis.Redis, ttl: float, life: int
) -> None:
    before = _milliseconds(client)
    assert store.set("g:a", b"data", ttl)
    expires = client.pexpiretime("llm_cache:g:a")
    assert before <= expires - life <= _milliseconds(client)


def _milliseconds(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds * 1000 + microseconds // 1000)


def test_hardly_any_life_is_a_millisecond_and_forever_is_no_end(
    store: RedisStore, client: redis.Redis
) -> None:
    assert store.set("g:a", b"data", inf)
    assert client.pttl("llm_cache:g:a") == -1
    assert store.set("g:a", b"data", 1e-3)
    assert client.pttl("llm_cache:g:a") in (-2, 0, 1)


def test_a_foreign_type_is_nothing_and_is_left_alone(
    store: RedisStore, client: redis.Redis
) -> None:
    client.rpush("llm_cache:g:a", "one", "two")
    assert store.get("g:a") is None
    assert asyncio.run(store.aget("g:a")) is None
    assert client.lrange("llm_cache:g:a", 0, -1) == [b"one", b"two"]
    assert store.set("g:a", b"data", 60)
    assert store.get("g:a") == b"data"
    client.rpush("llm_cache:g:b", "one")
    assert store.delete("g:b")


@worlds
def test_foreign_values_are_misses_and_are_replaced(
    world: World, store: RedisStore, client: redis.Redis
) -> None:
    calls = []

    def answer(text: str) -> str:
        calls.append(text)
        return f"the answer to {text}"

    ask = world.cached(answer, backend=store, name="ask")
    world.run(ask("one"))
    (one,) = client.keys()
    theirs = client.get(one)
    world.run(ask("two"))
    (two,) = set(client.keys()) - {one}
    ours = client.get(two)
    assert ours
    assert theirs
    foreign = [b"", b"null", b'{"text": "hi"}', theirs, ours + b"x", b"\x80\x04K\x01."]
    foreign += [ours[:size] for size in range(0, len(ours), 5)]
    foreign += [_flipped(ours, bit) for bit in range(0, len(ours) * 8, 29)]
    for data in foreign:
        client.set(two, data)
        calls.clear()
        assert world.run(ask("two")) == "the answer to two"
        assert calls == ["two"]
        assert world.run(ask("two")) == "the answer to two"
        assert calls == ["two"]
    client.delete(two)
    client.rpush(two, "list")
    calls.clear()
    assert [world.run(ask("two")) for _ in range(2)] == ["the answer to two"] * 2
    assert calls == ["two"]


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_many_entries_are_cleared_and_counted(store: RedisStore, client: redis.Redis) -> None:
    pipeline = client.pipeline()
    for number in range(2500):
        pipeline.set(f"llm_cache:g:{number}", b"data")
        pipeline.set(f"llm_cache:gg:{number}", b"data")
    pipeline.execute()
    assert store.usage("g") == (None, None)
    assert store.count("g") == Count(2500, is_estimate=False)
    store.clear("g")
    assert store.count("g") == Count(0, is_estimate=False)
    asyncio.run(store.aclear("gg"))
    assert client.dbsize() == 0


def test_a_count_without_time_is_an_estimate(server: Server) -> None:
    with Proxy(server.port) as proxy, server.client as client:
        store = RedisStore(proxy.url, timeout=0.5)
        pipeline = client.pipeline()
        for number in range(20_000):
            pipeline.set(f"llm_cache:{'gh'[number % 2]}:{number}", b"")
        pipeline.execute()
        store.get("g:1")
        proxy.delay = lambda: 0.05
        entries, is_estimate = store.count("g")
        assert is_estimate
        assert 8000 < entries < 12_000
        proxy.calm()
        store.get("g:1")
        for quick in (1, 0):
            replies = itertools.count()
            proxy.delay = lambda replies=replies, quick=quick: 0.0 if next(replies) < quick else 1.0
            with pytest.raises(TimeoutError):
                store.count("g")
            proxy.calm()
        store.close()


def test_nothing_is_open_before_the_first_use_and_after_close(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)
    assert server.clients() == 0

    async def main() -> None:
        await store.aget("g:a")
        store.get("g:a")
        assert server.clients() == 2
        await store.aclose()
        assert until(lambda: server.clients() == 0)
        await store.aget("g:a")
        store.close()
        await asyncio.sleep(0.01)
        assert until(lambda: server.clients() == 0)

    asyncio.run(main())
    store.get("g:a")
    store.close()
    assert until(lambda: server.clients() == 0)


def test_a_store_that_nobody_has_any_more_is_closed(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)
    store.get("g:a")
    assert server.clients() == 1
    del store
    gc.collect()
    assert until(lambda: server.clients() == 0)


def test_event_loops_have_connections_of_their_own(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)
    store.set("g:a", b"data", 60)

    async def main() -> None:
        for _ in range(20):
            assert await store.aget("g:a") == b"data"

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    asyncio.run(main())
    asyncio.run(main())
    assert until(lambda: server.clients() == 1)
    store.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_event_loop_that_just_closes_breaks_nothing(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(store.aset("g:a", b"data", 60))
        loop.close()
    store.close()
    del loop
    gc.collect()
    assert until(lambda: server.clients() == 0)


def test_another_thread_may_close_what_a_running_loop_uses(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)

    async def main() -> None:
        await store.aset("g:a", b"data", 60)
        for _ in range(20):
            calls = [store.aget("g:a") for _ in range(20)]
            found = asyncio.gather(*calls)
            await asyncio.to_thread(store.close)
            assert await found == [b"data"] * 20
        store.close()

    asyncio.run(main())
    assert until(lambda: server.clients() == 0)


def test_no_more_connections_than_there_may_be(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG, max_connections=3)
    store.set("g:a", b"data", 60)
    most = []

    def work() -> None:
        for _ in range(30):
            assert store.get("g:a") == b"data"

    async def main() -> None:
        found = await asyncio.gather(*(store.aget("g:a") for _ in range(200)))
        assert found == [b"data"] * 200
        most.append(server.clients())

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert server.clients() <= 3
    asyncio.run(main())
    assert most[0] <= 6
    store.close()


def test_connections_that_the_server_closed_are_replaced(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)
    store.set("g:a", b"data", 60)

    async def main() -> None:
        with server.client as client:
            for _ in range(5):
                assert await store.aget("g:a") == b"data"
                assert store.get("g:a") == b"data"
                client.client_kill_filter(_type="normal", skipme=True)

    asyncio.run(main())
    store.close()


def test_a_fork_opens_its_own_connections(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)
    store.set("g:a", b"data", 60)

    async def main() -> None:
        await store.aget("g:a")
        child = os.fork()
        if child == 0:  # pragma: no cover - where nobody measures
            os._exit(0 if store.get("g:a") == b"data" else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        assert await store.aget("g:a") == b"data"
        assert store.get("g:a") == b"data"

    asyncio.run(main())
    store.close()
    assert until(lambda: server.clients() == 0)


def test_a_fork_forgets_the_connections_of_its_parent(url: str) -> None:
    store = RedisStore(url, timeout=HANG)

    async def main() -> None:
        await store.aset("g:a", b"data", 60)
        server: Any = store._servers
        before = server._links, server._loops._links
        store.forget()
        assert server._links is not before[0]
        assert await store.aget("g:a") == b"data"
        await store.aclose()
        server._loops._links = before[1]
        await store.aclose()
        before[0].close()

    asyncio.run(main())


def test_a_connection_is_made_while_callers_pass_through() -> None:
    with Proxy(free_port()) as nowhere:
        store = RedisStore(nowhere.url, timeout=0.05, connect_timeout=0.2)
        for within in (-1, 0):
            with pytest.raises(TimeoutError):
                store.get("g:a", within)
            with pytest.raises(TimeoutError):
                asyncio.run(store.aget("g:a", within))
        with pytest.raises((OSError, redis.RedisError)):
            store.get("g:a")


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_a_slow_handshake_is_there_for_who_comes_later(server: Server, awaited: bool) -> None:
    async def main(store: RedisStore) -> None:
        with pytest.raises(TimeoutError):
            await store.aget("g:a")
        await asyncio.to_thread(until, server.clients)
        proxy.calm()
        started = time.monotonic()
        while time.monotonic() < started + HANG:
            with suppress(TimeoutError):
                assert await store.aget("g:a") is None
                break
        assert proxy.connections == 1
        await store.aclose()

    with Proxy(server.port) as proxy:
        proxy.delay = lambda: 0.7
        store = RedisStore(proxy.url, timeout=0.5)
        if awaited:
            asyncio.run(main(store))
            return
        with pytest.raises(TimeoutError):
            store.get("g:a")
        until(server.clients)
        proxy.calm()
        assert until(lambda: store.get("g:a") is None)
        assert proxy.connections == 1
        store.close()


def test_a_blocking_call_works_inside_an_event_loop_that_is_silent(server: Server) -> None:
    store = RedisStore(server.url)

    async def main() -> None:
        await store.aget("g:a")
        server.pause()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            store.get("g:a")
        with pytest.raises(TimeoutError):
            await store.aget("g:a")
        assert time.monotonic() - started < 1
        server.go_on()

    asyncio.run(main())
    store.close()


def test_who_cancels_everything_breaks_no_call(server: Server) -> None:
    store = RedisStore(server.url, timeout=HANG)

    async def main() -> None:
        await store.aget("g:a")
        server.pause()
        asking = asyncio.ensure_future(store.aget("g:a"))
        await asyncio.sleep(0.01)
        for task in asyncio.all_tasks() - {asyncio.current_task(), asking}:
            task.cancel()
        with pytest.raises(llmcache.StoreUnavailable):
            await asking
        server.go_on()
        await store.aclose()

    asyncio.run(main())


def test_a_unix_socket(server: Server) -> None:
    store = RedisStore(f"unix://{server.socket}?db=1", timeout=HANG)
    assert store.set("g:a", b"data", 60)
    assert asyncio.run(store.aget("g:a")) == b"data"
    with server.client as client:
        assert client.dbsize() == 0
        client.select(1)
        assert client.dbsize() == 1
    store.close()


def test_tls(server: Server, tls: ssl.SSLContext, trusted: str) -> None:
    with Proxy(server.port, tls) as proxy:
        place = f"rediss://127.0.0.1:{proxy.port}"
        store = RedisStore(f"{place}?ssl_ca_certs={trusted}", timeout=HANG)
        assert store.set("g:a", bytes(1 << 20), 60)
        for _ in range(3):
            assert store.get("g:a") == bytes(1 << 20)
            assert asyncio.run(store.aget("g:a")) == bytes(1 << 20)
        store.close()
        stranger = RedisStore(place, timeout=HANG)
        with pytest.raises(llmcache.StoreUnavailable):
            stranger.get("g:a")
        with pytest.raises(llmcache.StoreUnavailable):
            asyncio.run(stranger.aget("g:a"))
        trusting = RedisStore(f"{place}?ssl_cert_reqs=none", timeout=HANG)
        assert trusting.get("g:b") is None
        trusting.close()
        assert until(lambda: server.clients() == 0)


def test_tls_does_not_wait_for_a_farewell(server: Server, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    whom = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    whom.load_cert_chain(cert, key)
    with Proxy(server.port, whom) as proxy, proxy.kept_busy() as busy:
        store = RedisStore(f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={cert}", timeout=HANG)

        async def main() -> None:
            assert await store.aget("g:a") is None
            busy()

        asyncio.run(main())
        # Whatever is still open says so when it is found dead.
        gc.collect()


def test_what_could_not_be_sent_does_not_stay_open(server: Server) -> None:
    store = RedisStore(server.url, timeout=1)

    async def main() -> None:
        assert await store.aget("g:a") is None
        server.pause()
        with pytest.raises(TimeoutError):
            await store.aset("g:a", bytes(1 << 25), 60, 0.2)

    asyncio.run(main())
    server.go_on()
    gc.collect()


def test_a_slow_transfer_is_no_failure_to_the_breaker(clock: FakeClock) -> None:
    class Slow(RedisStore):
        def get(self, key: str, within: float = inf) -> bytes | None:
            clock.advance(within)
            raise SlowTransfer

    guard = Guard(Slow("redis://host"), clock.clock.monotonic)
    for _ in range(5):
        visit = GuardedVisit(guard)
        with pytest.raises(SlowTransfer):
            drive(visit.get(SyncPort(), "g:a"))
        assert not guard.reads.is_open
        assert not visit.takes


@worlds
def test_by_name(world: World, url: str, client: redis.Redis) -> None:
    cache = RedisCacheBackend(url, "p:", 60, timeout=HANG)
    value = {"text": "hello", "score": 0.5}
    if world.is_async:
        assert world.run(cache.aset("k", value))
        assert world.run(cache.aget("k")) == value
    else:
        assert cache.set("k", value)
        assert cache.get("k") == value
    assert cache.get("other", "default") == "default"
    assert cache.get_stats() == {
        "backend": "redis",
        "size": 1,
        "size_is_estimate": False,
        "hits": 1,
        "misses": 1,
        "hit_rate": 0.5,
    }
    (key,) = client.keys()
    assert key.startswith(b"p:values:")
    assert 50_000 < client.pttl(key) <= 60_000
    ask = world.cached(lambda text: text, backend=cache, name="ask")
    assert world.run(ask("hi")) == "hi"
    cache.clear()
    assert cache.get_stats()["size"] == 0
    assert ask.cache.stats().stored == 1
    cache.close()


def test_the_size_of_tiers_is_counted_in_the_last(server: Server) -> None:
    with TieredCacheBackend("memory", f"{server.url}?timeout={HANG}") as cache:
        for number in range(3):
            cache.set(str(number), number)
        stats = cache.get_stats()
        assert (stats["backend"], stats["size"], stats["size_is_estimate"]) == ("tiered", 3, False)
    with TieredCacheBackend("memory", f"redis://127.0.0.1:{free_port()}") as cache:
        cache.set("k", "v")
        stats = cache.get_stats()
        assert (stats["hits"], stats["size"], stats["size_is_estimate"]) == (0, None, True)


def test_its_numbers_are_there_after_a_failure(server: Server) -> None:
    cache = RedisCacheBackend(server.url)
    cache.set("k", "v")
    until(lambda: cache.get("k"))
    server.kill()
    assert cache.get("k") is None
    stats = cache.get_stats()
    assert (stats["backend"], stats["size"], stats["size_is_estimate"]) == ("redis", None, True)
    assert stats["hits"] >= 1
    assert stats["misses"] >= 1
    cache.close()


def test_what_is_not_said_may_be_said_by_the_url() -> None:
    cache = RedisCacheBackend("redis://host?prefix=theirs:&timeout=2")
    assert isinstance(cache.store, RedisStore)
    assert (cache.store.prefix, cache.store.timeout) == ("theirs:", 2)
    cache = RedisCacheBackend("redis://host?prefix=theirs:", "ours:", max_connections=2)
    assert isinstance(cache.store, RedisStore)
    assert (cache.store.prefix, cache.store.max_connections) == ("ours:", 2)
    with pytest.raises(ConfigurationError, match=r"redis_url: memory://… is no URL of a Redis"):
        RedisCacheBackend("memory://host")


@worlds
def test_a_config_builds_it(world: World, url: str, client: redis.Redis) -> None:
    config = CacheConfig(
        enabled=True,
        backend="redis",
        ttl=60,
        redis_url=f"{url}?timeout={HANG:.0f}",
        redis_prefix="mine:",
    )
    with CacheManager(config) as manager:
        assert manager.set("k", [1, 2])
        assert manager.get("k") == [1, 2]
        stats = manager.get_stats()
        assert stats == stats | {"backend": "redis", "size": 1, "hits": 1, "enabled": True}
    calls: list[str] = []
    ask = world.cached(lambda text: calls.append(text) or text, config=config)
    assert [world.run(ask("hi")) for _ in range(2)] == ["hi", "hi"]
    assert calls == ["hi"]
    assert {key.partition(b":")[0] for key in client.scan_iter()} == {b"mine"}
    asyncio.run(llmcache.aclose())
