"""One flow runs in both worlds, and comes to the same end."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Generator
from math import inf
from typing import Any
from unittest.mock import MagicMock, call

import pytest

from llmcache import StoreUnavailable, llm_cached
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.guard import Guard, GuardedVisit
from llmcache.ports import AsyncPort, Port, SyncPort, drive, is_awaitable

World = tuple[Port, Callable[[Coroutine[Any, Any, Any]], Any]]


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> World:
    return (SyncPort(), drive) if request.param == "sync" else (AsyncPort(), asyncio.run)


def answering(port: Port, answer: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that answers as the callers of *port* expect."""
    if isinstance(port, SyncPort):
        return answer

    async def later() -> Any:
        await asyncio.sleep(0)
        return answer()

    return later


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


class Later:
    def __await__(self) -> Generator[None, None, str]:
        yield from ()
        return "later"


@pytest.mark.parametrize("value", ["text", None, 0, "", [], False], ids=repr)
def test_a_flow_returns_what_the_function_does(world: World, value: Any) -> None:
    port, run = world
    assert run(port.invoke(answering(port, lambda: value))) is value


def test_a_flow_goes_through_all_its_steps(world: World) -> None:
    port, run = world
    store = MemoryStore()

    async def flow() -> list[Any]:
        return [
            await port.get(store, "g:a"),
            await port.set(store, "g:a", b"one", 60.0),
            await port.invoke(answering(port, lambda: "answer")),
            await port.get(store, "g:a"),
            await port.delete(store, "g:a"),
            await port.delete(store, "g:a"),
            await port.set(store, "g:b", b"two", 0.0),
            await port.set(store, "g:c", b"three", 60.0),
            await port.clear(store, "g"),
            await port.get(store, "g:c"),
        ]

    assert run(flow()) == [None, True, "answer", b"one", True, False, False, True, None, None]


def test_each_world_uses_its_own_half_of_a_store(world: World) -> None:
    port, run = world
    store = MagicMock(spec=Store)

    async def flow() -> None:
        await port.get(store, "g:a", 0.1)
        await port.set(store, "g:a", b"one", 60.0, 0.2)
        await port.delete(store, "g:a", 0.3)
        await port.clear(store, "g")

    run(flow())
    half = "" if isinstance(port, SyncPort) else "a"
    assert store.method_calls == [
        getattr(call, f"{half}get")("g:a", 0.1),
        getattr(call, f"{half}set")("g:a", b"one", 60.0, 0.2),
        getattr(call, f"{half}delete")("g:a", 0.3),
        getattr(call, f"{half}clear")("g"),
    ]


@pytest.mark.parametrize(
    "kind", [ValueError, KeyError, StopAsyncIteration, KeyboardInterrupt, SystemExit]
)
def test_an_exception_of_the_function_comes_out(world: World, kind: type[BaseException]) -> None:
    port, run = world
    error = kind("reason")
    with pytest.raises(kind) as caught:
        run(port.invoke(answering(port, raising(error))))
    assert caught.value is error


def test_a_cancellation_comes_out(world: World) -> None:
    port, run = world
    with pytest.raises(asyncio.CancelledError):
        run(port.invoke(answering(port, raising(asyncio.CancelledError()))))


def test_an_exception_of_the_flow_comes_out(world: World) -> None:
    _, run = world

    async def flow() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        run(flow())


def test_an_exception_of_a_store_comes_out(world: World) -> None:
    port, run = world
    store = MagicMock(spec=Store)
    store.get.side_effect = store.aget.side_effect = ConnectionError("refused")
    with pytest.raises(ConnectionError, match="refused"):
        run(port.get(store, "g:a"))


def test_a_flow_may_catch_what_the_function_raises(world: World) -> None:
    port, run = world

    async def flow() -> str:
        try:
            return await port.invoke(answering(port, raising(ValueError("reason"))))
        except ValueError as error:
            return f"caught {error}"

    assert run(flow()) == "caught reason"


def test_a_stop_of_the_function_comes_out() -> None:
    stop = StopIteration("value")
    with pytest.raises(StopIteration) as caught:
        drive(SyncPort().invoke(raising(stop)))
    assert caught.value is stop
    assert caught.value.value == "value"


def test_a_stop_of_the_function_keeps_its_cause() -> None:
    cause = KeyError("why")

    def fail() -> None:
        raise StopIteration from cause

    with pytest.raises(StopIteration) as caught:
        drive(SyncPort().invoke(fail))
    assert caught.value.__cause__ is cause


def test_a_blocking_call_does_not_await_what_it_gets() -> None:
    later = Later()
    assert drive(SyncPort().invoke(lambda: later)) is later


def test_an_awaitable_call_may_answer_at_once() -> None:
    assert asyncio.run(AsyncPort().invoke(lambda: "now")) == "now"
    assert asyncio.run(AsyncPort().invoke(Later)) == "later"


def test_a_flow_that_waits_cannot_be_driven() -> None:
    steps = []

    async def flow() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            steps.append("left")

    waiting = flow()
    with pytest.raises(RuntimeError, match="suspended"):
        drive(waiting)
    assert steps == ["left"]
    assert inspect.getcoroutinestate(waiting) == inspect.CORO_CLOSED


def test_what_must_be_awaited_is_told_from_what_must_not() -> None:
    async def coroutine() -> None: ...

    async def generator() -> Any:
        yield

    waiting = coroutine()
    assert is_awaitable(waiting)
    waiting.close()
    assert is_awaitable(Later())
    for value in (None, 1, "text", Later, coroutine, generator()):
        assert not is_awaitable(value)


class Cancelling(MemoryStore):
    """Cancels its own work."""

    timeout = 60.0

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        raise asyncio.CancelledError

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        raise asyncio.CancelledError

    async def adelete(self, key: str, within: float = inf) -> bool:
        raise asyncio.CancelledError


class Waiting(MemoryStore):
    """Never comes to an end."""

    timeout = 60.0

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        await asyncio.Event().wait()
        return None

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        await asyncio.Event().wait()
        return False

    async def adelete(self, key: str, within: float = inf) -> bool:
        await asyncio.Event().wait()
        return False


USES: list[Callable[[Store], Coroutine[Any, Any, Any]]] = [
    lambda store: AsyncPort().get(store, "g:a"),
    lambda store: AsyncPort().set(store, "g:a", b"", 1.0),
    lambda store: AsyncPort().delete(store, "g:a"),
    lambda store: GuardedVisit(Guard(store, time.monotonic)).aget_now("g:a"),
]


@pytest.mark.parametrize("use", USES, ids=["get", "set", "delete", "guarded"])
def test_what_a_store_cancels_is_a_failure_of_the_store(
    use: Callable[[Store], Coroutine[Any, Any, Any]],
) -> None:
    with pytest.raises(StoreUnavailable):
        asyncio.run(use(Cancelling()))


@pytest.mark.parametrize("use", USES, ids=["get", "set", "delete", "guarded"])
def test_who_is_cancelled_himself_is_cancelled(
    use: Callable[[Store], Coroutine[Any, Any, Any]],
) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(use(Waiting()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_store_that_cancels_its_work_breaks_no_call() -> None:
    @llm_cached(backend=Cancelling(), name="cancelling")
    async def ask(text: str) -> str:
        return text

    assert asyncio.run(ask("a")) == "a"
    assert ask.cache.stats().errors == 2
