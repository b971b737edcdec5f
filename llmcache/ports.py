"""How one flow runs in both worlds: what it awaits, and who drives it.

The flow of a call is written once, as a coroutine. For a coroutine function
the event loop drives it. For any other function nothing that it awaits ever
suspends, so that one `drive` runs it to its end on the caller's own stack.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Protocol, TypeVar

from llmcache.backends.base import Store, whose

T = TypeVar("T")


class Port(Protocol):
    """What a call does to the world outside of llmcache."""

    async def invoke(self, call: Callable[[], Any]) -> Any:
        """Call the user's function."""
        ...

    async def get(self, store: Store, key: str, within: float = inf) -> bytes | None:
        """Look an entry up, within so many seconds."""
        ...

    async def set(
        self, store: Store, key: str, data: bytes, ttl: float, within: float = inf
    ) -> bool:
        """Store an entry, within so many seconds."""
        ...

    async def delete(self, store: Store, key: str, within: float = inf) -> bool:
        """Forget an entry, within so many seconds."""
        ...

    async def clear(self, store: Store, group: str) -> None:
        """Forget a group of entries."""
        ...


class _Stopped(Exception):
    """Carries a `StopIteration` out of a coroutine, where it may not be raised."""

    def __init__(self, stop: StopIteration) -> None:
        super().__init__()
        self.stop = stop


class SyncPort:
    """Blocks, and never suspends."""

    async def invoke(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except StopIteration as stop:
            raise _Stopped(stop) from None

    async def get(self, store: Store, key: str, within: float = inf) -> bytes | None:
        return store.get(key, within)

    async def set(
        self, store: Store, key: str, data: bytes, ttl: float, within: float = inf
    ) -> bool:
        return store.set(key, data, ttl, within)

    async def delete(self, store: Store, key: str, within: float = inf) -> bool:
        return store.delete(key, within)

    async def clear(self, store: Store, group: str) -> None:
        store.clear(group)


class AsyncPort:
    """Suspends, and never blocks."""

    async def invoke(self, call: Callable[[], Any]) -> Any:
        result = call()
        return await result if is_awaitable(result) else result

    async def get(self, store: Store, key: str, within: float = inf) -> bytes | None:
        try:
            return await store.aget(key, within)
        except CancelledError as error:
            raise whose(error) from None

    async def set(
        self, store: Store, key: str, data: bytes, ttl: float, within: float = inf
    ) -> bool:
        try:
            return await store.aset(key, data, ttl, within)
        except CancelledError as error:
            raise whose(error) from None

    async def delete(self, store: Store, key: str, within: float = inf) -> bool:
        try:
            return await store.adelete(key, within)
        except CancelledError as error:
            raise whose(error) from None

    async def clear(self, store: Store, group: str) -> None:
        await store.aclear(group)


def is_awaitable(result: Any) -> bool:
    """Say whether *result* must be awaited for its value."""
    return hasattr(type(result), "__await__")


def drive(flow: Coroutine[Any, Any, T]) -> T:
    """Run a flow over a `SyncPort` to its end, and return what it returns."""
    try:
        flow.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    except _Stopped as stopped:
        stop = stopped.stop
    else:
        flow.close()
        raise RuntimeError("a flow over a synchronous port was suspended")
    raise stop
