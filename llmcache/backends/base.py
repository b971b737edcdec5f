"""What a store does."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from asyncio import CancelledError
from collections.abc import Callable
from math import inf
from typing import NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

from llmcache.errors import LLMCacheError, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

Removal: TypeAlias = "Callable[[str], None]"
"""Told ``"evicted"`` or ``"expired"`` for each entry that a store drops of its own accord."""

DEFAULT_TIMEOUT = 0.1
"""Seconds that a store may add to a call, for its look-up and its storing together."""


LONG = 1 / 4
"""Of the time that a store has, after which it says something that somebody stops waiting."""


class WouldWait(LLMCacheError, BlockingIOError):
    """The store cannot say anything at once."""


class Blameless(TimeoutError):
    """The time was over, and that says nothing against the store."""


class SlowTransfer(Blameless):
    """The time was over while a large value was on its way: the store itself is well."""


class Crowded(Blameless):
    """The time was over before the store had had half of it to answer: so many ask at once."""


class PartUnavailable(StoreUnavailable):
    """A part of the store fails, which the store looks after itself: the rest is well.

    A method that raises it gives nobody a reason to leave the store alone. Who
    does so asks that part no more until it answers.
    """


class Usage(NamedTuple):
    """How much a store holds, ``None`` where only a scan could tell.

    Args:
        entries: live entries.
        bytes: what they take.
    """

    entries: int | None
    bytes: int | None


class Count(NamedTuple):
    """How many entries there are.

    Args:
        entries: their number.
        is_estimate: whether there was no time to count them all.
    """

    entries: int
    is_estimate: bool


@runtime_checkable
class Countable(Protocol):
    """A store that must look through its entries to know how many there are."""

    def count(self, group: str, within: float = inf) -> Count:
        """Return the number of entries in *group*, an estimate if time is short."""
        ...


class Changes(Protocol):
    """Who is told what becomes of the entries of a store, whoever does it."""

    ttl: float
    """Seconds that may pass before it knows that it is told nothing any more."""

    def began(self) -> None:
        """Take note that every change is told from now on."""
        ...

    def changed(self, key: str) -> None:
        """Take note that what is under *key* was stored, deleted or is over."""
        ...

    def lost(self) -> None:
        """Take note that nothing is told any more, and something may have been missed."""
        ...


class Store(Protocol):
    """Bytes under keys, for a while.

    An author writes `get`, `set`, `delete` and `clear`, and derives from this
    class for the rest. All else is done once, above every store: the deadline,
    the breakers, the checks of what comes back, the numbers.

    - A key is a group, a colon and a name; the groups can be counted and
      cleared alone. Neither has a colon, and both are printable ASCII.
    - `get` returns the bytes of the last `set` of that key, or ``None``.
    - Nothing is returned after its time to live.
    - An entry may go at any time. None comes back after it was deleted.
    - Every method may be called by many threads and tasks at once.
    - A method that cannot do its work raises: a failure is a miss to the
      caller of a decorated function, and never an answer.
    - A method that is told to be done *within* some seconds returns or raises
      by then, or a little later; `TimeoutError` says that it had no more time.
    - Making a store opens nothing. Its first use does, and so does the first
      after `close`.

    Attributes:
        timeout: seconds that it may add to one call altogether, ``None`` for a
            store that never waits, which needs neither deadline nor breaker.
    """

    timeout: float | None = DEFAULT_TIMEOUT

    @abstractmethod
    def get(self, key: str, within: float = inf) -> bytes | None:
        """Return what is stored under *key*, ``None`` for nothing."""
        ...

    @abstractmethod
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Store *data* for *ttl* seconds, ``inf`` for ever; say whether it was stored.

        What does not fit is not stored, and what was there before is gone.
        """
        ...

    @abstractmethod
    def delete(self, key: str, within: float = inf) -> bool:
        """Forget *key*; say whether there was something to forget."""
        ...

    @abstractmethod
    def clear(self, group: str) -> None:
        """Forget all keys of *group*."""
        ...

    def get_at_once(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, where that takes no more time than an event loop can spare.

        A class that has another `get` or `aget` than the one above it needs
        another one of these as well, if any.

        Raises:
            WouldWait: if it does, as it does for most stores.
        """
        raise WouldWait

    def silence(self) -> float:
        """Return for how many seconds it has owed somebody an answer, ``inf`` if it cannot say.

        Whoever stops waiting for it, or finds its answer late, blames it only if
        that is as long as it took: else the time may have gone elsewhere.
        """
        return inf

    def usage(self, group: str) -> Usage:
        """Return how much of *group* is live."""
        return Usage(None, None)

    def watch(self, group: str, removal: Removal) -> None:
        """Report to *removal* what is dropped from *group*, to it alone."""
        return

    def follow(self, changes: Changes) -> None:
        """Tell *changes* what others do, as long as it lives; do nothing if the store cannot.

        It may be called again and again, and is called by who must not wait.
        """
        return

    def close(self) -> None:
        """Close what is open; the entries of a store outside of this process stay."""
        return

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, without blocking the event loop."""
        return await in_thread(self.get, key, within)

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Do as `set`, without blocking the event loop."""
        return await in_thread(self.set, key, data, ttl, within)

    async def adelete(self, key: str, within: float = inf) -> bool:
        """Do as `delete`, without blocking the event loop."""
        return await in_thread(self.delete, key, within)

    async def aclear(self, group: str) -> None:
        """Do as `clear`, without blocking the event loop."""
        await in_thread(self.clear, group)

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        await in_thread(self.close)


async def in_thread(method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what *method* returns, without blocking the event loop."""

    def work() -> T:
        try:
            return method(*args, **kwargs)
        except StopIteration as error:
            # A future does not take it: whoever awaits would wait for ever.
            raise RuntimeError("a store raised StopIteration") from error

    return await asyncio.to_thread(work)


def whose(error: CancelledError) -> BaseException:
    """Return *error* if it is this task that was cancelled, and no work of the store's own."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return error
    return StoreUnavailable("the store cancelled what it did")
