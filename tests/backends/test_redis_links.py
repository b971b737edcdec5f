"""The connections of the Redis store, one by one."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest
import redis
from redis_chaos import hog
from redis_servers import HANG, Server, until

from llmcache import StoreUnavailable
from llmcache.backends.base import Blameless, Crowded
from llmcache.backends.redis_address import parse_address
from llmcache.backends.redis_link import Command, Link, Progress, Pulse, Wire
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


def test_a_link_that_is_forgotten_is_closed_in_silence(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def age(*arguments: Any) -> Any:
        """Let all there is be older than the socket: the collector takes younger ones first."""
        gc.collect(0)
        return look_up(*arguments)

    monkeypatch.setattr(socket, "getaddrinfo", age)
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with server.client as client:
        before = len(client.client_list())
        cycle: list[Any] = [Link(parse_address(server.url), HANG)]
        cycle.append(cycle)
        assert len(client.client_list()) == before + 1
        del cycle
        gc.collect()
        until(lambda: len(client.client_list()) == before)
    assert not complaints


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


def test_what_came_in_time_is_read_once_after_it() -> None:
    here, there = socket.socketpair()
    with here, there:
        wire = Wire(here, time.monotonic())
        there.sendall(b"abc")
        assert wire.recv(1) == b"a"
        with pytest.raises(TimeoutError):
            wire.recv(1)
        wire.begin(time.monotonic())
        assert wire.recv(5) == b"bc"
        wire.begin(time.monotonic())
        with pytest.raises(TimeoutError):
            wire.recv(1)


def test_nobody_asks_for_notifications_of_maintenance(server: Server) -> None:
    link = Link(parse_address(server.url), HANG)
    assert not getattr(link._connection, "maint_notifications_config", None)
    assert link._connection.protocol == 2
    link.close()


def test_what_is_used_while_the_links_are_closed_is_closed_afterwards(server: Server) -> None:
    address = parse_address(server.url)
    links = Links(lambda: Link(address, HANG), 2, Pulse())
    assert links.ask(("PING",), lambda reply: reply == b"PONG", soon()) == b"PONG"
    link = links._take(soon(), time.monotonic())
    links._ready.put(Failure(OSError(), 0.0))
    links.close()
    assert not link.closed
    links._put(link)
    assert link.closed


def test_an_old_failure_is_not_the_next_callers(server: Server) -> None:
    address = parse_address(server.url)
    links = Links(lambda: Link(address, HANG), 2, Pulse())
    links._ready.put(Failure(OSError(), 0.0))
    assert links.ask(("PING",), lambda reply: reply == b"PONG", soon()) == b"PONG"
    links.close()


def test_what_nobody_uses_is_closed_when_a_server_owes_an_answer(server: Server) -> None:
    address = parse_address(server.url)
    links = Links(lambda: Link(address, HANG), 8, Pulse())
    ready = [Link(address, HANG) for _ in range(4)]
    for link in ready:
        links._put(link)
    server.pause()
    with pytest.raises(TimeoutError):
        links.ask(("PING",), bool, time.monotonic() + 0.1)
    assert all(link.closed for link in ready)
    server.go_on()
    assert links.ask(("PING",), lambda reply: reply == b"PONG", soon()) == b"PONG"
    links.close()


def test_an_attempt_serves_who_waits(server: Server) -> None:
    """It runs here what a thread of its own does otherwise, where nobody sees what it covers."""
    outcomes: SimpleQueue[Link | None] = SimpleQueue()
    address = parse_address(server.url)

    def connect() -> Link:
        if outcomes.get_nowait() is None:
            raise ConnectionRefusedError
        return Link(address, HANG)

    links = Links(connect, 8, Pulse())
    links._attempt()
    assert links._ready.empty()
    links._waiting.add(0)
    outcomes.put(None)
    links._attempt()
    assert isinstance(links._ready.get_nowait(), Failure)
    outcomes.put(Link(address, HANG))
    links._attempt()
    link = links._ready.get_nowait()
    assert isinstance(link, Link)
    # A refusal is nobody's failure where there is a connection, and is not asked for again soon.
    outcomes.put(None)
    links._attempt()
    links._attempt()
    assert links._ready.empty()
    # Where there is none any more, it is.
    link.close()
    outcomes.put(None)
    links._attempt()
    assert isinstance(links._ready.get_nowait(), Failure)
    assert not links._attempts


def test_who_waits_gets_a_connection_for_one_that_is_dropped() -> None:
    made: SimpleQueue[None] = SimpleQueue()

    def connect() -> Link:
        made.put(None)
        raise OSError

    links = Links(connect, 2, Pulse())
    links._waiting.add(0)
    links._drop(Failure(OSError(), 0.0))
    made.get(timeout=HANG)


def test_where_threads_wait_for_one_another_nobody_is_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def connect() -> Link:
        over.wait(HANG)
        raise OSError

    def ask() -> type[BaseException]:
        links = Links(connect, 2, Pulse())
        with pytest.raises(TimeoutError) as refusal:
            links.ask(("PING",), bool, time.monotonic() + 0.1)
        return refusal.type

    # Whoever is woken has always waited for the others longer than that.
    monkeypatch.setattr("llmcache.backends.redis_links.getswitchinterval", lambda: -1.0)
    assert ask() is Crowded
    # It does not take a second to be given a turn.
    monkeypatch.setattr("llmcache.backends.redis_links.STUCK", 0.05)
    assert ask() is TimeoutError
    over.set()


def test_a_host_with_two_addresses_is_there_if_one_is(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def look_up(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port)) for host in found]

    async def main() -> None:
        address = parse_address(server.url.replace("127.0.0.1", "redis.invalid"))
        with pytest.raises(redis.ConnectionError, match="no address"):
            await TaskLink.connect(address, HANG, Progress())
        found.append("127.0.0.2")
        with pytest.raises(redis.ConnectionError):
            await TaskLink.connect(address, HANG, Progress())
        found.append("127.0.0.1")
        link = await TaskLink.connect(address, HANG, Progress())
        assert await link.ask(("PING",), soon()) == b"PONG"
        link.close()
        await turns()

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        asyncio.run(main())


class Fake:
    """A connection on which a test answers, or does not."""

    def __init__(self) -> None:
        self.made = time.monotonic()
        self.progress = Progress()
        self.answer = asyncio.Event()
        self.closed = False

    async def is_usable(self) -> bool:
        return not self.closed

    def is_stale(self, error: Exception, since: float) -> bool:
        return False

    async def ask(self, command: Command, deadline: float) -> bytes:
        self.progress.begin(deadline)
        self.progress.step()
        await self.answer.wait()
        # What came is read in the next turn only.
        await turns(2)
        return b"PONG"

    def close(self) -> None:
        self.closed = True


class Fakes:
    """Connections that are made when the test lets them be.

    Attributes:
        made: all of them.
        may: set while they are made.
        refuses: whether they cannot be made.
    """

    def __init__(self, limit: int) -> None:
        self.made: list[Fake] = []
        self.attempts = 0
        self.refuses = False
        self.may = asyncio.Event()
        self.pulse = Pulse()
        self.links = TaskLinks(self._connect, limit, self.pulse)

    async def _connect(self, progress: Progress) -> Any:
        self.attempts += 1
        await self.may.wait()
        if self.refuses:
            raise ConnectionRefusedError
        self.made.append(Fake())
        return self.made[-1]

    def ask(self, within: float = HANG) -> asyncio.Task[Any]:
        asking = self.links.ask(("PING",), lambda reply: reply == b"PONG", within)
        return asyncio.ensure_future(asking)


async def opened(limit: int = 4) -> Fakes:
    fakes = Fakes(limit)
    await fakes.links.begin()
    return fakes


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_a_loop
async def test_connections_are_made_as_many_as_there_are_and_one_more() -> None:
    fakes = await opened(limit=8)
    asking = [fakes.ask() for _ in range(20)]
    for expected in (1, 3, 7, 8):
        await turns()
        assert fakes.attempts == expected
        fakes.may.set()
        await asyncio.sleep(0)
        fakes.may.clear()
    for fake in fakes.made:
        fake.answer.set()
    assert await asyncio.gather(*asking) == [b"PONG"] * 20
    await fakes.links.close()


@on_a_loop
async def test_who_is_cancelled_before_it_is_asked_is_not_asked() -> None:
    fakes = await opened()
    asking = [fakes.ask() for _ in range(3)]
    await turns()
    asking[0].cancel()
    asking[1].cancel()
    fakes.may.set()
    await turns()
    (fake,) = fakes.made
    fake.answer.set()
    assert await asking[2] == b"PONG"
    assert fakes.attempts == 1
    await fakes.links.close()
    assert fake.closed


@on_a_loop
async def test_an_exchange_that_has_begun_runs_to_its_end() -> None:
    fakes = await opened(limit=1)
    fakes.may.set()
    asking = fakes.ask()
    await turns()
    asking.cancel()
    await turns()
    (fake,) = fakes.made
    assert not fake.closed
    fake.answer.set()
    assert await fakes.ask() == b"PONG"
    assert fakes.made == [fake]
    await fakes.links.close()


@pytest.mark.parametrize("begun", [False, True])
def test_who_waits_for_a_task_that_is_stopped_is_told(begun: bool) -> None:
    async def main() -> None:
        fakes = await opened()
        fakes.may.set()
        first = fakes.ask()
        await turns()
        fakes.made[0].answer.set()
        await first
        fakes.made[0].answer.clear()
        asking = fakes.ask()
        await asyncio.sleep(0)
        if begun:
            await turns()
        for task in asyncio.all_tasks() - {asyncio.current_task(), asking}:
            task.cancel()
        with pytest.raises(StoreUnavailable, match="cancelled what it did"):
            await asking
        assert fakes.made[0].closed
        await fakes.links.close()

    asyncio.run(main())


@on_a_loop
async def test_an_attempt_that_is_stopped_is_no_attempt() -> None:
    fakes = await opened(limit=1)
    asking = [fakes.ask()]
    await asyncio.sleep(0)
    (attempt,) = fakes.links._attempts
    attempt.cancel()
    await turns()
    assert not fakes.links._attempts
    asking.append(fakes.ask())
    fakes.may.set()
    await turns()
    fakes.made[0].answer.set()
    assert await asyncio.gather(*asking) == [b"PONG"] * 2
    await fakes.links.close()


@on_a_loop
async def test_nobody_goes_on_connecting_for_links_that_are_closed() -> None:
    fakes = await opened()
    asking = fakes.ask()
    await turns()
    asking.cancel()
    await turns()
    (attempt,) = fakes.links._attempts
    await fakes.links.close()
    await turns()
    assert attempt.cancelled()


@on_a_loop
async def test_nobody_goes_on_connecting_for_who_waited_in_vain() -> None:
    fakes = await opened()
    asking = fakes.ask(within=0.02)
    await turns()
    (attempt,) = fakes.links._attempts
    await fakes.links.close()
    await turns()
    assert not attempt.done()
    with pytest.raises(TimeoutError):
        await asking
    await turns()
    assert attempt.cancelled()


@on_a_loop
async def test_what_tasks_use_while_the_links_are_closed_is_closed_afterwards() -> None:
    fakes = await opened()
    asking = fakes.ask()
    await turns()
    await fakes.links.close()
    fakes.may.set()
    await turns()
    (fake,) = fakes.made
    assert not fake.closed
    fake.answer.set()
    assert await asking == b"PONG"
    await turns()
    assert fake.closed


@on_a_loop
async def test_a_server_that_owes_an_answer_is_to_blame() -> None:
    fakes = await opened(limit=1)
    fakes.may.set()
    asking = [fakes.ask(within=0.3) for _ in range(60)]
    await turns()
    # A server that lets somebody connect has answered.
    fakes.may.clear()
    for error in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(error, TimeoutError)
        assert not isinstance(error, Blameless)
    assert fakes.made[0].closed
    await fakes.links.close()


@on_a_loop
async def test_a_server_that_does_not_let_anybody_connect_is_to_blame() -> None:
    fakes = await opened()
    for _ in range(2):
        with pytest.raises(TimeoutError) as refusal:
            await fakes.ask(within=0.3)
        assert not isinstance(refusal.value, Blameless)
    await fakes.links.close()


@on_a_loop
async def test_an_event_loop_that_is_late_blames_nobody() -> None:
    fakes = await opened()
    fakes.may.set()
    asking = [fakes.ask(within=0.02) for _ in range(60)]
    await asyncio.sleep(0)
    # Somebody else computes something, before anything is sent.
    hog(0.03)
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(error) for error in errors} == {Crowded}
    await fakes.links.close()


@on_a_loop
async def test_a_server_that_answers_others_is_not_to_blame() -> None:
    fakes = await opened(limit=2)
    fakes.may.set()
    busy = [fakes.ask() for _ in range(2)]
    await turns()
    asyncio.get_running_loop().call_later(0.45, fakes.pulse.heard)
    with pytest.raises(Crowded):
        await fakes.ask(within=0.5)
    for fake in fakes.made:
        fake.answer.set()
    await asyncio.gather(*busy)
    await fakes.links.close()


@on_a_loop
async def test_an_answer_that_is_there_in_time_is_taken_however_late_the_loop_is() -> None:
    fakes = await opened()
    fakes.may.set()
    asking = fakes.ask(within=0.02)
    await turns()
    fakes.made[0].answer.set()
    hog(0.03)
    assert await asking == b"PONG"
    await fakes.links.close()


@on_a_loop
async def test_who_is_late_is_told_even_if_all_tasks_are_stopped() -> None:
    fakes = await opened()
    asking = fakes.ask(within=0.01)
    await asyncio.sleep(0)
    hog(0.01)
    await turns(2)
    assert fakes.links._sweeper
    for task in asyncio.all_tasks() - {asyncio.current_task(), asking}:
        task.cancel()
    with pytest.raises(TimeoutError):
        await asking
    await fakes.links.close()


@on_a_loop
async def test_what_is_over_is_not_sent_after_all() -> None:
    fakes = await opened(limit=1)
    asking = [fakes.ask(within=0.02) for _ in range(500)]
    await asyncio.sleep(0)
    # All are late in one turn, and there is a connection while they are told.
    hog(0.03)
    await turns(10)
    fakes.may.set()
    await asyncio.gather(*asking, return_exceptions=True)
    await turns(100)
    assert fakes.made
    assert not fakes.links._serving
    await fakes.links.close()


class EarlyLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers are a little early, as those of others may be."""

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_later(max(delay - 0.005, 0), callback, *args, context=context)


def test_a_timer_that_is_early_lets_nobody_wait_for_ever() -> None:
    async def main() -> None:
        fakes = await opened()
        waiting = fakes.ask(within=0.02)
        done, _ = await asyncio.wait([waiting], timeout=HANG)
        assert done
        with pytest.raises(TimeoutError):
            await waiting
        await fakes.links.close()

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        runner.run(main())


def test_bytes_may_come_before_anything_was_asked() -> None:
    progress = Progress()
    progress.got(5)
    assert progress.received == 5
    assert not progress.is_large


def test_a_program_may_end_while_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        fakes = await opened()
        # They are still here, and thus cancelled, when the event loop ends.
        waiting = [fakes.ask() for _ in range(300)]
        await turns()
        for request in fakes.links._waiting:
            request.began -= HANG / 2
        assert not any(task.done() for task in waiting)

    asyncio.run(main())
    gc.collect()
    assert not caplog.messages


def test_tasks_may_be_eager() -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("this Python has no eager tasks")

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        fakes = await opened()
        fakes.may.set()
        asking = fakes.ask()
        await turns()
        fakes.made[0].answer.set()
        assert await asking == b"PONG"
        # This one is given up at once, and another connection is made.
        fakes.made[0].closed = True
        fakes.made[0].made = 0.0
        asking = fakes.ask()
        await turns()
        fakes.made[1].answer.set()
        assert await asking == b"PONG"
        await fakes.links.close()

    asyncio.run(main())


def test_what_interrupts_the_telling_keeps_it_from_nobody() -> None:
    loop = asyncio.new_event_loop()
    fakes = loop.run_until_complete(opened())
    told = fakes.links._end

    def interrupted(request: Any) -> None:
        fakes.links._end = told  # type: ignore[method-assign]
        raise KeyboardInterrupt

    async def main() -> None:
        asking = [fakes.ask(within=0.01) for _ in range(3)]
        fakes.links._end = interrupted  # type: ignore[method-assign]
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert {isinstance(error, TimeoutError) for error in errors} == {True}
        await fakes.links.close()

    running = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(running)
    loop.run_until_complete(asyncio.wait_for(running, HANG))
    loop.close()


@on_a_loop
async def test_what_a_caller_has_set_for_itself_is_not_held() -> None:
    class Own:
        pass

    async def ask() -> None:
        own.set(Own())
        seen.append(weakref.ref(own.get()))
        with suppress(TimeoutError):
            await fakes.ask(within=0.01)

    own, seen = ContextVar[Own]("own"), list[weakref.ref[Own]]()
    fakes = await opened()
    await asyncio.create_task(ask())
    assert len(fakes.links._attempts) == 1
    await turns()
    gc.collect()
    assert seen[0]() is None
    await fakes.links.close()


@on_a_loop
async def test_a_refused_connection_is_no_failure_where_there_are_others() -> None:
    fakes = await opened(limit=4)
    fakes.may.set()
    asking = [fakes.ask()]
    await turns()
    fakes.refuses = True
    asking.append(fakes.ask())
    await turns()
    # Nobody knocks again and again.
    asking.append(fakes.ask())
    await turns()
    assert fakes.attempts == 2
    fakes.made[0].answer.set()
    assert await asyncio.gather(*asking) == [b"PONG"] * 3
    # Where there are none, it is.
    fakes.made[0].closed = True
    fakes.made[0].made = 0.0
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await fakes.ask()
    await fakes.links.close()


def test_a_server_to_blame_remains_so_until_it_answers() -> None:
    pulse = Pulse()
    now = time.monotonic() + 100
    assert pulse.silence([], now) == 0
    assert pulse.silence([now - 3, now - 5], now) == 5
    assert isinstance(pulse.why(5, 11, now), Crowded)
    assert pulse.silence([], now) == 0
    assert not isinstance(pulse.why(5, 10, now), Crowded)
    assert pulse.silence([now - 1], now) == 5
    pulse.heard()
    assert pulse.silence([], now) == 0


def test_a_connection_that_cannot_be_looked_at_is_not_usable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> bool:
        raise redis.ConnectionError

    async def main() -> None:
        link = await TaskLink.connect(parse_address(server.url), HANG, Progress())
        assert await link.is_usable()
        monkeypatch.setattr(link._connection, "can_read", broken, raising=False)
        assert not await link.is_usable()
        link.close()
        await asyncio.sleep(0)

    asyncio.run(main())
