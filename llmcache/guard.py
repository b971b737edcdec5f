"""How a call uses a store: directly, or with one deadline and two breakers before it."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from llmcache.backends.base import (
    DEFAULT_TIMEOUT,
    LONG,
    Blameless,
    PartUnavailable,
    Store,
    WouldWait,
    whose,
)
from llmcache.breaker import Breaker
from llmcache.errors import StoreUnavailable
from llmcache.ports import AsyncPort, Port

T = TypeVar("T")

_ASYNC: Final = AsyncPort()
PROBE: Final = "probe:probe"
_PROBE_LIFE: Final = 1.0


class Visit(Protocol):
    """One call's use of a store. What the store raises is raised."""

    @property
    def takes(self) -> bool:
        """Whether it is worth preparing something to store."""
        ...

    async def get(self, port: Port, key: str) -> bytes | None:
        """Look *key* up."""
        ...

    def get_now(self, key: str) -> bytes | None:
        """Do as `get` does for who blocks, in a straight line: it is done a million times."""
        ...

    async def aget_now(self, key: str) -> bytes | None:
        """Do as `get_now` for who awaits."""
        ...

    def get_at_once(self, key: str) -> bytes | None:
        """Do as `get_now` for who must not wait.

        Raises:
            WouldWait: if it takes any time.
        """
        ...

    async def set(self, port: Port, key: str, data: bytes, ttl: float) -> bool:
        """Store *data*; say whether it was stored."""
        ...

    async def discard(self, port: Port, key: str) -> None:
        """Forget *key*, which the call found to be of no use."""
        ...

    async def delete(self, port: Port, key: str) -> bool:
        """Forget *key*; say whether there was something to forget."""
        ...

    async def clear(self, port: Port, group: str) -> None:
        """Forget *group*."""
        ...


class DirectVisit:
    """The use of a store that never waits, the same for all calls."""

    takes = True

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, port: Port, key: str) -> bytes | None:
        return await port.get(self._store, key)

    def get_now(self, key: str) -> bytes | None:
        return self._store.get(key)

    async def aget_now(self, key: str) -> bytes | None:
        return await _ASYNC.get(self._store, key)

    def get_at_once(self, key: str) -> bytes | None:
        return self._store.get(key)

    async def set(self, port: Port, key: str, data: bytes, ttl: float) -> bool:
        return await port.set(self._store, key, data, ttl)

    async def discard(self, port: Port, key: str) -> None:
        await port.delete(self._store, key)

    async def delete(self, port: Port, key: str) -> bool:
        return await port.delete(self._store, key)

    async def clear(self, port: Port, group: str) -> None:
        await port.clear(self._store, group)


class Trial:
    """Stores as much as could not be stored last: there may be room for less.

    Args:
        store: is tried.
        timeout: seconds that it may take.

    Attributes:
        size: in bytes.
    """

    def __init__(self, store: Store, timeout: float) -> None:
        self.size = 0
        self._store = store
        self._timeout = timeout

    def __call__(self) -> None:
        self._store.set(PROBE, bytes(self.size), _PROBE_LIFE, self._timeout)


class Guard:
    """What stands before a store that may make its callers wait.

    Args:
        store: what is guarded; its ``timeout`` bounds what it adds to a call.
        monotonic: the clock, in seconds.

    Attributes:
        name: the store's, for people.
        store: what is guarded.
        get_at_once: looks up there what can be said at once.
        timeout: seconds that the store may add to one call.
        least: seconds without which it is not asked to store.
        long: seconds after which it has failed who stops waiting for it.
        reads: the breaker before look-ups.
        writes: the breaker before storing, which may fail alone: a disk that
            is full can still be read.
        trial: finds out whether storing works again.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        timeout = DEFAULT_TIMEOUT if store.timeout is None else store.timeout
        name = type(store).__qualname__
        self.name = name
        self.store = store
        self.get_at_once = _at_once(store)
        self.timeout = timeout
        self.least = timeout / 20
        self.long = timeout * LONG
        self.monotonic = monotonic
        self.trial = Trial(store, timeout)
        self.reads = Breaker(
            f"reading from the {name}",
            limit=timeout,
            monotonic=monotonic,
            probe=lambda: store.get(PROBE, timeout),
        )
        self.writes = Breaker(
            f"storing in the {name}",
            limit=timeout,
            monotonic=monotonic,
            probe=self.trial,
        )


class GuardedVisit:
    """One call's use of a guarded store: all that it asks for within one deadline.

    A look-up that a breaker turns away finds nothing. Storing that is turned
    away raises `StoreUnavailable`, and `TimeoutError` where no time is left.
    What would be discarded stays only if that takes too long: a store without
    room can still forget. Deleting and clearing are not turned away: they are
    no part of a call.

    Args:
        guard: of the store.
        within: seconds that there are, if these are fewer than the store's.
    """

    __slots__ = ("_excused", "_guard", "_left")

    def __init__(self, guard: Guard, within: float = inf) -> None:
        self._guard = guard
        self._left = within if within < guard.timeout else guard.timeout
        # Whoever came without time says nothing of the store.
        self._excused = self._left < guard.least

    @property
    def takes(self) -> bool:
        return self._left >= self._guard.least and not self._guard.writes.turns_away()

    async def get(self, port: Port, key: str) -> bytes | None:
        guard = self._guard
        if guard.reads.turns_away():
            return None
        return await self._timed(guard.reads, port.get(guard.store, key, self._left))

    def get_now(self, key: str) -> bytes | None:
        return self._look_up(self._guard.store.get, key)

    def get_at_once(self, key: str) -> bytes | None:
        return self._look_up(self._guard.get_at_once, key)

    def _look_up(self, get: Callable[[str, float], bytes | None], key: str) -> bytes | None:
        guard = self._guard
        breaker, monotonic = guard.reads, guard.monotonic
        if breaker.is_open and breaker.turns_away():
            return None
        started = monotonic()
        try:
            data = get(key, self._left)
        except WouldWait:
            raise
        except Exception as error:
            self._failed(breaker, error, self._spend(monotonic() - started))
            raise
        self._worked(breaker, monotonic() - started)
        return data

    async def aget_now(self, key: str) -> bytes | None:
        guard = self._guard
        breaker, monotonic = guard.reads, guard.monotonic
        if breaker.is_open and breaker.turns_away():
            return None
        started = monotonic()
        try:
            data = await guard.store.aget(key, self._left)
        except Exception as error:
            self._failed(breaker, error, self._spend(monotonic() - started))
            raise
        except CancelledError as error:
            raised, seconds = whose(error), self._spend(monotonic() - started)
            if isinstance(raised, Exception):
                self._failed(breaker, raised, seconds)
            else:
                self._given_up(breaker, seconds)
            raise raised from None
        self._worked(breaker, monotonic() - started)
        return data

    async def set(self, port: Port, key: str, data: bytes, ttl: float) -> bool:
        guard = self._guard
        if self._left < guard.least:
            if not self._excused:
                # The next call would find out how slow storing is.
                guard.writes.failed(TimeoutError(), guard.timeout)
            raise TimeoutError(f"no time is left for the {guard.name} to store")
        if guard.writes.turns_away():
            raise StoreUnavailable(f"the {guard.name} is not asked to store until it is back")
        try:
            return await self._timed(
                guard.writes, port.set(guard.store, key, data, ttl, self._left)
            )
        except Exception:
            guard.trial.size = len(data)
            raise

    async def discard(self, port: Port, key: str) -> None:
        guard = self._guard
        if self._left >= guard.least and not guard.writes.is_slow:
            work = port.delete(guard.store, key, self._left)
            await self._timed(guard.writes, work, proves=False)

    async def delete(self, port: Port, key: str) -> bool:
        return await port.delete(self._guard.store, key, self._guard.timeout)

    async def clear(self, port: Port, group: str) -> None:
        await port.clear(self._guard.store, group)

    async def _timed(self, breaker: Breaker, work: Awaitable[T], *, proves: bool = True) -> T:
        """Do *work*, and let the breaker and the deadline know how long it took.

        Args:
            breaker: before such work.
            work: what to do.
            proves: whether it shows that the store can do what it is mostly asked for.
        """
        monotonic = self._guard.monotonic
        started = monotonic()
        try:
            done = await work
        except CancelledError:
            self._given_up(breaker, self._spend(monotonic() - started))
            raise
        except Exception as error:
            self._failed(breaker, error, self._spend(monotonic() - started))
            raise
        self._worked(breaker, monotonic() - started, proves=proves)
        return done

    def _failed(self, breaker: Breaker, error: Exception, seconds: float) -> None:
        # The next value may be a small one, or in another part of the store.
        if isinstance(error, Blameless | PartUnavailable):
            self._excused = True
        else:
            breaker.failed(error, seconds)

    def _given_up(self, breaker: Breaker, seconds: float) -> None:
        if seconds >= self._guard.long and self._guard.store.silence() >= seconds:
            # Who is less patient than the store may be must not wait for it again and again.
            breaker.failed(TimeoutError(), seconds)

    def _worked(self, breaker: Breaker, seconds: float, *, proves: bool = True) -> None:
        left = self._left - seconds
        self._left = left if left > 0.0 else 0.0
        late = seconds > self._guard.timeout
        if left < self._guard.least and self._guard.store.silence() < seconds:
            # The store has answered meanwhile: the time went elsewhere.
            self._excused, late = True, False
        if late:
            breaker.failed(TimeoutError(), seconds)
        elif proves:
            breaker.worked()

    def _spend(self, seconds: float) -> float:
        self._left = max(self._left - seconds, 0.0)
        return seconds


def _at_once(store: Store) -> Callable[[str, float], bytes | None]:
    """Return how *store* looks up at once: not at all, if it then looks up in another way."""
    ways = ({"get", "aget", "get_at_once"} & vars(kind).keys() for kind in type(store).__mro__)
    own = next(filter(None, ways), set())
    return store.get_at_once if "get_at_once" in own else _never


def _never(key: str, within: float = inf) -> bytes | None:
    raise WouldWait


_guards: Final[WeakValueDictionary[int, Guard]] = WeakValueDictionary()
_guarding: Final = threading.Lock()


def visits(store: Store, monotonic: Callable[[], float]) -> Callable[..., Visit]:
    """Return what makes the use of *store* by one call, within so many seconds if that is said.

    Whoever uses a store in this process shares the breakers before it.
    """
    if store.timeout is None:
        direct = DirectVisit(store)
        return lambda within=inf: direct
    with _guarding:
        guard = _guards.get(id(store))
        if guard is None or guard.store is not store:
            _guards[id(store)] = guard = Guard(store, monotonic)
    return partial(GuardedVisit, guard)
