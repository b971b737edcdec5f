"""A server that fails in part: it greets and says no more, reads but does not write, ..."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis_chaos import FakeServer, Proxy
from redis_servers import HANG, Server, require, running, until
from twins import World

from backends.redis_people import LATE, QUICK, Person, recover, suffer, warm
from llmcache.backends.redis import RedisStore

pytestmark = pytest.mark.usefixtures("said")

MANY = [str(number) for number in range(60)]


@contextmanager
def others_read(store: RedisStore) -> Iterator[None]:
    """Have somebody else look up all the time, who is answered."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(0.002):
            store.get("group:name", HANG)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield
    finally:
        over.set()
        reading.join(HANG)


@pytest.mark.parametrize("farewell", [b"", b"+more\r\n"], ids=["hangs up", "talks on"])
def test_a_server_that_spoils_each_new_connection(
    person: Callable[..., Person], farewell: bytes
) -> None:
    with FakeServer() as server:
        server.farewell = farewell
        someone = person(server.url)
        suffer(someone, QUICK * 2)
        assert server.connections < 20


def test_a_server_that_greets_and_says_no_more(
    person: Callable[..., Person], said: Callable[[], list[str]]
) -> None:
    with FakeServer() as server:
        someone = person(server.url)
        someone.ask_at_once(MANY, every=0.01)
        assert "reading from the RedisStore failed" in said()[0]
        assert len(server.commands) < len(MANY) / 2
        suffer(someone, LATE)


def test_a_server_that_reads_and_does_not_write(
    server: Server, person: Callable[..., Person], said: Callable[[], list[str]]
) -> None:
    someone = person(server.url)
    warm(someone)
    with others_read(someone.store):
        server.say("CLIENT", "PAUSE", 600_000, "WRITE")
        suffer(someone, LATE)
        assert someone.hits("known")
        server.say("CLIENT", "UNPAUSE")
        until(lambda: someone.hits("another"))
    (failed, back) = said()
    assert failed.startswith("storing in the RedisStore failed")
    assert back == "storing in the RedisStore is back"


def test_a_program_that_keeps_its_own_threads_busy(
    server: Server, said: Callable[[], list[str]]
) -> None:
    over = threading.Event()
    someone = Person(World("async"), RedisStore(server.url.replace("127.0.0.1", "localhost")))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, over.wait, HANG)
        while not (await someone.call("known") and someone.numbers.hits):
            pass
        await someone.store.aclose()
        over.set()
        await busy

    asyncio.run(main())
    someone.close()
    assert said() == []


@pytest.mark.parametrize("kind", ["redis", "rediss"])
def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(HANG) and [])
    someone = Person(World("async"), RedisStore(f"{kind}://redis.invalid"))
    started = time.monotonic()

    async def main() -> None:
        await someone.call("known")
        await someone.store.aclose()

    asyncio.run(main())
    over.set()
    assert time.monotonic() - started < HANG / 2
    someone.close()


def test_a_server_that_lets_us_have_a_few_connections(
    person: Callable[..., Person], said: Callable[[], list[str]]
) -> None:
    with running(Server(require("valkey"), "--maxclients", "4")) as server:
        someone = person(server.url)
        warm(someone)
        for _ in range(5):
            someone.ask_at_once(MANY)
    assert said() == []


def test_connections_that_all_died_unseen_are_no_failure(
    server: Server, person: Callable[..., Person]
) -> None:
    with Proxy(server.port) as proxy:
        someone = person(proxy.url, timeout=HANG)
        someone.ask_at_once(MANY)
        warm(someone)
        for _ in range(3):
            proxy.forget()
            assert someone.hits("known")
        assert someone.numbers.errors == 0


def test_connections_that_all_died_silently_cost_one_call(
    server: Server, person: Callable[..., Person], said: Callable[[], list[str]]
) -> None:
    with Proxy(server.port) as proxy:
        someone = person(proxy.url)
        until(lambda: someone.ask_at_once(MANY[:10]) or proxy.connections > 4)
        # None is being made any more.
        for _ in range(50):
            warm(someone)
        proxy.lose()
        assert not someone.hits("known")
        recover(someone)
        late = [someone.ask("known") for _ in range(40)]
        assert sum(seconds > LATE / 2 for seconds in late) <= 1
    assert len(said()) <= 6


def test_a_connection_that_is_never_made_does_not_keep_others_from_being_made(
    server: Server, person: Callable[..., Person]
) -> None:
    with Proxy(server.port) as proxy:
        someone = person(proxy.url)
        warm(someone)
        proxy.swallows = True
        proxy.forget()
        suffer(someone, LATE)
        assert proxy.swallowed
        proxy.swallows = False
        recover(someone)
