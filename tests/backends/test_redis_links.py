"""The connections of the Redis store, one by one."""

from __future__ import annotations

import asyncio
import socket
import time
from queue import SimpleQueue
from typing import Any

import pytest
import redis
from redis_servers import HANG, Server

from llmcache.backends.redis_address import parse_address
from llmcache.backends.redis_link import Link, Wire
from llmcache.backends.redis_links import Failure, Links
from llmcache.backends.redis_task_link import TaskLink
from llmcache.backends.redis_tasks import TaskLinks


def soon() -> float:
    return time.monotonic() + HANG


def test_a_link_asks_one_thing_after_the_other(server: Server) -> None:
    link = Link(parse_address(server.url), HANG)
    assert link.is_usable()
    assert link.ask(("SET", "käse", b"data", "PX", 60_000), soon()) == b"OK"
    assert link.ask(("GET", "käse"), soon()) == b"data"
    with pytest.raises(redis.ResponseError):
        link.ask(("GET",), soon())
    assert link.is_usable()
    with server.client as client:
        client.client_kill_filter(_type="normal", skipme=True)
    while link.is_usable():
        pass
    link.close()
    assert link.closed


def test_a_wire_ends_all_at_one_deadline() -> None:
    here, there = socket.socketpair()
    with here, there:
        wire = Wire(here, soon())
        there.sendall(b"abc")
        buffer = bytearray(10)
        assert wire.recv_into(buffer) == 3
        assert (bytes(buffer[:3]), wire.progress.received) == (b"abc", 3)
        wire.settimeout(0)
        with pytest.raises(BlockingIOError):
            wire.recv(1)
        wire.settimeout(5)
        wire.begin(time.monotonic() + 0.02)
        with pytest.raises(TimeoutError):
            wire.recv(1)
        with pytest.raises(TimeoutError):
            wire.sendall(b"late")


def test_what_is_used_while_the_links_are_closed_is_closed_afterwards(server: Server) -> None:
    address = parse_address(server.url)
    links = Links(lambda: Link(address, HANG), 2)
    assert links.ask(("PING",), lambda reply: reply == b"PONG", soon()) == b"PONG"
    link = links._take(soon())
    links._ready.put(Failure(OSError(), 0.0))
    links.close()
    assert not link.closed
    links._put(link)
    assert link.closed


def test_an_old_failure_is_not_the_next_callers(server: Server) -> None:
    address = parse_address(server.url)
    links = Links(lambda: Link(address, HANG), 2)
    links._ready.put(Failure(OSError(), 0.0))
    assert links.ask(("PING",), lambda reply: reply == b"PONG", soon()) == b"PONG"
    links.close()


def test_who_waits_gets_a_connection_for_one_that_is_dropped() -> None:
    made: SimpleQueue[None] = SimpleQueue()

    def connect() -> Link:
        made.put(None)
        raise OSError

    links = Links(connect, 2)
    links._waiting.add(0)
    links._drop(Failure(OSError(), 0.0))
    made.get(timeout=HANG)


class Idle:
    """A connection that is never used."""

    closed = False

    async def is_usable(self) -> bool:
        return True

    async def close(self) -> None:
        self.closed = True


def test_a_task_that_gives_up_gives_back_what_it_was_handed() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def connect() -> Any:
            await go_on.wait()
            raise OSError

        links = TaskLinks(connect, 4)
        await links.begin()
        link: Any = Idle()
        waiting = asyncio.ensure_future(links._wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await links._put(link)
        assert await links._take() is link
        waiting = asyncio.ensure_future(links._wait())
        await asyncio.sleep(0)
        await links._put(link)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await links._take() is link
        waiting = asyncio.ensure_future(links._wait())
        await asyncio.sleep(0)
        go_on.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await links.close()
        await links._put(link)
        assert link.closed

    asyncio.run(main())


def test_an_attempt_that_never_began_is_no_attempt() -> None:
    async def main() -> None:
        async def connect() -> Any:
            return Idle()

        links = TaskLinks(connect, 1)
        await links.begin()
        waiting = asyncio.ensure_future(links._wait())
        await asyncio.sleep(0)
        (attempt,) = links._attempts
        attempt.cancel()
        await asyncio.sleep(0.01)
        assert not links._attempts
        waiting.cancel()
        assert await links._take()
        await links.close()

    asyncio.run(main())


def test_nobody_goes_on_connecting_for_links_that_are_closed() -> None:
    async def main() -> None:
        async def connect() -> Any:
            await asyncio.sleep(HANG)

        links = TaskLinks(connect, 4)
        await links.begin()
        waiting = asyncio.ensure_future(links._wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        (attempt,) = links._attempts
        await links.close()
        await asyncio.sleep(0)
        assert attempt.cancelled()

    asyncio.run(main())


def test_a_connection_that_cannot_be_looked_at_is_not_usable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> bool:
        raise redis.ConnectionError

    async def main() -> None:
        link = await TaskLink.connect(parse_address(server.url), HANG)
        assert await link.is_usable()
        monkeypatch.setattr(link._connection, "can_read", broken, raising=False)
        assert not await link.is_usable()
        await link.close()
        await asyncio.sleep(0)

    asyncio.run(main())
