"""The Redis store at the primary that sentinels name, and what happens when they name another."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

import pytest
import redis
from redis_chaos import FakeServer, Proxy
from redis_groups import SERVICE, WatchedServers, is_primary
from redis_servers import HANG, Server, free_port, running, until
from twins import World, worlds

from llmcache import RedisCacheBackend, StoreUnavailable
from llmcache.backends.base import Count
from llmcache.backends.redis import RedisStore
from llmcache.backends.redis_address import parse_service
from llmcache.backends.redis_link import Progress
from llmcache.backends.redis_sentinel import Search

from .redis_load import Load

LATE = 0.2
"""Seconds that a failure may cost one call: the deadline, and what a busy machine adds."""

BACK = 4.0
"""Seconds until a primary that is well is used, on a busy machine."""


@worlds
def test_answers_are_at_the_primary(world: World, shared_watched: WatchedServers) -> None:
    primary, _ = shared_watched.servers
    primary.say("FLUSHALL")
    url = f"{shared_watched.url}/3?timeout={HANG:.0f}"
    cache = RedisCacheBackend(url)
    calls: list[str] = []
    ask = world.cached(lambda text: calls.append(text) or text, backend=cache, name="ask")
    assert [world.run(ask("hi")) for _ in range(3)] == ["hi"] * 3
    assert calls == ["hi"]
    assert primary.say("INFO", "keyspace").count(b"db3:keys=1") == 1
    cache.set("k", "v")
    assert cache.get_stats()["size"] == 1
    assert ask.cache.stats().hits == 2
    world.run(ask.cache.clear())
    cache.clear()
    assert primary.say("DBSIZE") == 0
    cache.close()


def test_nothing_is_open_before_the_first_use_and_after_close(watched: WatchedServers) -> None:
    primary = watched.servers[0]

    def clients() -> list[int]:
        return [
            server.say("CLIENT", "LIST", "TYPE", "NORMAL").count(b"\n") - 1
            for server in (primary, watched.sentinel)
        ]

    before = clients()
    store = RedisStore(watched.url, timeout=HANG)

    async def main() -> None:
        await store.aget("g:a")
        store.get("g:a")
        assert until(lambda: clients() == [before[0] + 2, before[1]])
        await store.aclose()
        assert until(lambda: clients() == before)

    asyncio.run(main())
    assert store.count("g") == Count(0, is_estimate=False)
    store.close()
    assert until(lambda: clients() == before)


@worlds
def test_a_primary_that_is_replaced_in_mid_load(world: World, watched: WatchedServers) -> None:
    one, other = watched.servers
    with Load(world, RedisStore(watched.url)) as load:
        load.hit()
        watched.sentinel.say("SENTINEL", "FAILOVER", SERVICE)
        until(lambda: watched.is_led(by=other))
        load.hit(BACK)
        until(watched.is_ready)
        other.kill()
        until(lambda: watched.is_led(by=one))
        load.hit(BACK)
    assert load.late(than=LATE) < 0.01


@pytest.mark.slow
@worlds
def test_a_primary_that_falls_silent_in_mid_load(world: World, watched: WatchedServers) -> None:
    one, other = watched.servers
    with Load(world, RedisStore(watched.url)) as load:
        load.hit()
        one.pause()
        until(lambda: watched.is_led(by=other))
        load.hit(BACK)
        one.go_on()
        until(watched.is_ready)
        load.hit(BACK)
    assert load.late(than=LATE) < 0.01


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def finds(request: pytest.FixtureRequest) -> Callable[[Search], None]:
    """Find the primary, and close the connection."""

    def sync(search: Search) -> None:
        search.connect().close()

    async def find(search: Search) -> None:
        (await search.aconnect(Progress())).close()
        await asyncio.sleep(0)

    return (lambda search: asyncio.run(find(search))) if request.param else sync


def bulk(*parts: str) -> bytes:
    lines = [f"${len(part)}\r\n{part}\r\n" for part in parts]
    return f"*{len(parts)}\r\n{''.join(lines)}".encode()


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_a_primary_that_became_a_replica_is_left(
    server: Server, shared_server: Server, awaited: bool
) -> None:
    with FakeServer(bulk("127.0.0.1", str(server.port))) as sentinel, asyncio.Runner() as runner:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"
        store = RedisStore(url, timeout=HANG)

        def stores(data: bytes) -> bool:
            if awaited:
                return runner.run(store.aset("g:a", data, 60))
            return store.set("g:a", data, 60)

        assert stores(b"data")
        server.say("REPLICAOF", "127.0.0.1", shared_server.port)
        with pytest.raises(redis.exceptions.ReadOnlyError):
            stores(b"new")
        with pytest.raises(StoreUnavailable, match="no sentinel leads"):
            stores(b"new")
        sentinel.replies = (bulk("127.0.0.1", str(shared_server.port)),)
        assert stores(b"newer")
        assert shared_server.say("GET", "llm_cache:g:a") == b"newer"
        runner.run(store.aclose())


def test_passwords() -> None:
    with running(WatchedServers(password="hunter2", sentinel_password="hunter3")) as watched:
        right = watched.url.replace("//", "//:hunter2@")
        options = "?sentinel_password=hunter3"
        store = RedisStore(right + options, timeout=HANG)
        assert store.set("g:a", b"data", 60)
        assert asyncio.run(store.aget("g:a")) == b"data"
        store.close()
        for url in (
            right,
            watched.url + options,
            watched.url,
            right + "?sentinel_password=hunter2",
        ):
            store = RedisStore(url, timeout=HANG)
            for call in (lambda: store.get("g:a"), lambda: asyncio.run(store.aget("g:a"))):
                with pytest.raises(StoreUnavailable, match="no sentinel leads") as refusal:
                    call()
                assert "hunter" not in str(refusal.value)
            store.close()


def test_who_may_not_ask_for_the_role_asks_for_answers(
    watched: WatchedServers, finds: Callable[[Search], None]
) -> None:
    commands = ("+get", "+set", "+select", "+client|setinfo")
    watched.servers[0].say("ACL", "SETUSER", "ours", "on", ">pw", "~*", *commands)
    url = watched.url.replace("//", "//ours:pw@")
    finds(Search(parse_service(url), HANG))
    store = RedisStore(url, timeout=HANG)
    assert store.set("g:a", b"data", 60)
    assert asyncio.run(store.aget("g:a")) == b"data"
    store.close()


def test_tls(server: Server, tls: ssl.SSLContext, trusted: str) -> None:
    with Proxy(server.port, tls) as proxy:
        sentinel = FakeServer(bulk("127.0.0.1", str(proxy.port)))
        sentinel.tls = tls
        with sentinel:
            url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"
            store = RedisStore(f"{url}?ssl_ca_certs={trusted}", timeout=HANG)
            assert store.set("g:a", b"data", 60)
            assert asyncio.run(store.aget("g:a")) == b"data"
            store.close()
            with pytest.raises(StoreUnavailable, match="no sentinel leads"):
                RedisStore(url, timeout=HANG).get("g:a")
            assert until(lambda: server.clients() == 0)


def search_of(*ports: int, patience: float = HANG) -> Search:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Search(parse_service(f"redis+sentinel://{hosts}/{SERVICE}"), patience)


@pytest.mark.parametrize(
    "reply",
    [
        b"*-1\r\n",
        b"$-1\r\n",
        b"-IDONTKNOW\r\n",
        b"*1\r\n:1\r\n",
        bulk("127.0.0.1", "port"),
        bulk("127.0.0.1", "1"),
        bulk("127.0.0.1", "99999999999"),
        b"*2\r\n$1\r\n\xff\r\n$1\r\n1\r\n",
    ],
)
def test_a_sentinel_that_knows_nothing(reply: bytes, finds: Callable[[Search], None]) -> None:
    with FakeServer(reply) as sentinel:
        with pytest.raises(StoreUnavailable, match="no sentinel leads to a primary"):
            finds(search_of(sentinel.port))
        assert b"GET-MASTER-ADDR-BY-NAME" in sentinel.commands[0]


def test_a_replica_is_no_primary(
    shared_watched: WatchedServers, finds: Callable[[Search], None]
) -> None:
    _, replica = shared_watched.servers
    assert not is_primary(replica)
    with FakeServer(bulk("127.0.0.1", str(replica.port))) as outdated:
        with pytest.raises(StoreUnavailable, match="no sentinel leads"):
            finds(search_of(outdated.port))
        search = search_of(outdated.port, shared_watched.sentinel.port)
        for _ in range(2):
            finds(search)
        assert len(outdated.commands) == 2


def test_a_sentinel_that_is_silent_is_not_all_that_is_asked(
    shared_watched: WatchedServers, finds: Callable[[Search], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = (free_port(), silent.getsockname()[1], shared_watched.sentinel.port)
        search = search_of(*ports, patience=10.0)
        started = time.monotonic()
        finds(search)
        found = time.monotonic()
        finds(search)
        assert found - started >= 2.0
        # Who answered last is asked first.
        assert time.monotonic() - found < 2.0


def test_a_search_ends_when_its_time_is_over(finds: Callable[[Search], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = [silent.getsockname()[1]] * 20
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no sentinel leads"):
            finds(search_of(*ports, patience=0.25))
        assert time.monotonic() - started < 1.0
