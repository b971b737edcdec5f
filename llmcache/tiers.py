"""Several stores as one: the fastest that has an answer gives it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Final, NamedTuple

from llmcache import guard
from llmcache.backends.base import Changes, Removal, Store, Usage, WouldWait
from llmcache.backends.copies import Copies
from llmcache.backends.marks import Fills, Mark
from llmcache.backends.memory import MemoryStore
from llmcache.codec.frame import Sealed, expires_of
from llmcache.errors import ConfigurationError
from llmcache.guard import Visit
from llmcache.policy import DEFAULT_TIER_TTL, Clock
from llmcache.ports import AsyncPort, Port, SyncPort, drive

_SYNC: Final = SyncPort()
_ASYNC: Final = AsyncPort()


class Tier(NamedTuple):
    """One store of several.

    Args:
        store: the store.
        ttl: seconds that it may go on answering after an entry was deleted or
            replaced elsewhere; the last tier is asked for what is right, and
            has no such bound.
    """

    store: Store
    ttl: float = DEFAULT_TIER_TTL


class TieredStore(Store):
    """Asks its stores one after the other, the fastest first, of which the last has everything.

    - What the last one has is copied to those above it, for as long as it
      still lives. An entry says that itself; other bytes are not copied.
    - What is stored goes to all. What is deleted goes from all.
    - Each store has its own deadline and breakers. One that fails is left
      out; a failure is raised if no other could do the work, and if something
      could not be deleted everywhere.
    - A copy lives for its tier's ``ttl`` at most, unless it is in memory and
      the last store tells of every change, as a Redis server does. Then it
      goes when its entry changes; when the server is silent for that long or
      its connection is lost, all copies go.

    Args:
        tiers: two or more, the fastest first. A store that is no `Tier` has
            the ``ttl`` of five seconds. Memory is asked before all others.
        clock: where the time comes from.

    Raises:
        ConfigurationError: if there are fewer than two.

    Example:
        >>> store = TieredStore(MemoryStore(), MemoryStore())
        >>> store.set("group:name", b"answer", 60.0), store.get("group:name")
        (True, b'answer')
    """

    def __init__(self, *tiers: Store | Tier, clock: Clock | None = None) -> None:
        if len(tiers) < 2:
            raise ConfigurationError(f"tiers are two stores or more, and not {len(tiers)}")
        self._clock = clock or Clock()
        *upper, last = [tier if isinstance(tier, Tier) else Tier(tier) for tier in tiers]
        fast = [tier for tier in upper if _is_memory(tier.store)]
        slow = [tier for tier in upper if not _is_memory(tier.store)]
        self._last = last.store
        self._stores = [tier.store for tier in (*fast, *slow, last)]
        self.copies: Final = tuple(Copies(tier.store, tier.ttl) for tier in fast)  # type: ignore[arg-type]
        self.fills: Final = Fills()
        monotonic = self._clock.monotonic
        self._visits = [
            (guard.visits(tier.store, monotonic), ttl)
            for tier, ttl in [*((tier, tier.ttl) for tier in slow), (last, inf)]
        ]
        timeouts = [store.timeout for store in self._stores if store.timeout is not None]
        self.timeout = sum(timeouts) if timeouts else None

    @property
    def last(self) -> Store:
        """The store that has everything."""
        return self._last

    @property
    def max_size(self) -> int | None:
        """The most entries of the last store, ``None`` if it does not say."""
        return getattr(self._last, "max_size", None)

    def front(self, key: str) -> bytes | None:
        """Return the copy in memory, ``None`` if there is none."""
        for copies in self.copies:
            data = copies.memory.get(key)
            if data is not None:
                return data
        return None

    def open(self, within: float) -> list[tuple[Visit, float]]:
        """Return the use of the stores below the memory tiers, and the ttl of each.

        Args:
            within: seconds that each of them has.
        """
        for copies in self.copies:
            if not copies.tracked:
                self._last.follow(copies)
        return [(visit(within), ttl) for visit, ttl in self._visits]

    def life_of(self, data: bytes) -> float:
        """Return how many seconds an entry still lives by its own account, 0 if it is none."""
        expires = expires_of(data)
        return 0.0 if expires is None else expires - self._clock.wall()

    def get(self, key: str, within: float = inf) -> bytes | None:
        """Return what the first store that has something has under *key*."""
        return TieredVisit(self, within).get_now(key)

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Store *data* in all; say whether it was stored anywhere."""
        return drive(TieredVisit(self, within).set(_SYNC, key, data, ttl))

    def delete(self, key: str, within: float = inf) -> bool:
        """Forget *key* in all; say whether there was something to forget."""
        return drive(TieredVisit(self, within).delete(_SYNC, key))

    def clear(self, group: str) -> None:
        """Forget all keys of *group* in all."""
        drive(TieredVisit(self).clear(_SYNC, group))

    def usage(self, group: str) -> Usage:
        """Return how much the last store has: it has everything."""
        return self._last.usage(group)

    def watch(self, group: str, removal: Removal) -> None:
        """Report what the last store drops: what the others drop is not lost."""
        self._last.watch(group, removal)

    def follow(self, changes: Changes) -> None:
        """Let the last store tell *changes*."""
        self._last.follow(changes)

    def close(self) -> None:
        """Close all."""
        for store in self._stores:
            store.close()

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, without blocking the event loop."""
        return await TieredVisit(self, within).get(_ASYNC, key)

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Do as `set`, without blocking the event loop."""
        return await TieredVisit(self, within).set(_ASYNC, key, data, ttl)

    async def adelete(self, key: str, within: float = inf) -> bool:
        """Do as `delete`, without blocking the event loop."""
        return await TieredVisit(self, within).delete(_ASYNC, key)

    async def aclear(self, group: str) -> None:
        """Do as `clear`, without blocking the event loop."""
        await TieredVisit(self).clear(_ASYNC, group)

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        for store in self._stores:
            await store.aclose()


class TieredVisit:
    """One call's use of a tiered store: of each of its stores within a deadline of its own.

    Args:
        store: the tiered store.
        within: seconds that each store has, if these are fewer than its own.
    """

    __slots__ = ("_opened", "_store", "_within")

    def __init__(self, store: TieredStore, within: float = inf) -> None:
        self._store = store
        self._within = within
        self._opened: list[tuple[Visit, float]] | None = None

    @property
    def takes(self) -> bool:
        return bool(self._store.copies) or any(visit.takes for visit, _ in self._visits())

    async def get(self, port: Port, key: str) -> bytes | None:
        data = self._store.front(key)
        return await self._get_below(port, key) if data is None else data

    def get_now(self, key: str) -> bytes | None:
        data = self._store.front(key)
        return drive(self._get_below(_SYNC, key)) if data is None else data

    async def aget_now(self, key: str) -> bytes | None:
        return await self.get(_ASYNC, key)

    def get_at_once(self, key: str) -> bytes | None:
        data = self._store.front(key)
        if data is None:
            raise WouldWait
        return data

    async def set(self, port: Port, key: str, data: bytes, ttl: float) -> bool:
        marks = self._marks(key)
        failures: list[Exception] = []
        stored = done = False
        try:
            # The last store comes first: a copy of what it does not have is worth less.
            for visit, longest in reversed(self._visits()):
                try:
                    stored |= await visit.set(port, key, data, min(ttl, longest))
                except Exception as error:  # noqa: BLE001
                    failures.append(error)
                    # It must not answer with what is replaced.
                    with suppress(Exception):
                        await visit.discard(port, key)
                finally:
                    self._store.fills.spoil(key)
            done = True
        finally:
            for copies, mark in marks:
                if done:
                    stored |= copies.replace(mark, key, data, ttl)
                else:
                    copies.drop(key)
        if failures and not stored:
            raise failures[0]
        return stored

    async def discard(self, port: Port, key: str) -> None:
        failures: list[Exception] = []
        for copies in self._store.copies:
            copies.drop(key)
        for visit, _ in self._visits():
            try:
                await visit.discard(port, key)
            except Exception as error:  # noqa: BLE001
                failures.append(error)
            finally:
                self._store.fills.spoil(key)
        if failures:
            raise failures[0]

    async def delete(self, port: Port, key: str) -> bool:
        failures: list[Exception] = []
        found = False
        try:
            for visit, _ in reversed(self._visits()):
                try:
                    found |= await visit.delete(port, key)
                except Exception as error:  # noqa: BLE001
                    failures.append(error)
                finally:
                    self._store.fills.spoil(key)
        finally:
            for copies in self._store.copies:
                found |= copies.drop(key)
        if failures:
            raise failures[0]
        return found

    async def clear(self, port: Port, group: str) -> None:
        failures: list[Exception] = []
        try:
            for visit, _ in reversed(self._visits()):
                try:
                    await visit.clear(port, group)
                except Exception as error:  # noqa: BLE001
                    failures.append(error)
                finally:
                    self._store.fills.spoil_group(group)
        finally:
            for copies in self._store.copies:
                copies.drop_group(group)
        if failures:
            raise failures[0]

    async def _get_below(self, port: Port, key: str) -> bytes | None:
        *slow, (last, _) = self._visits()
        marks = self._marks(key)
        fills = self._store.fills
        between = fills.mark(key)
        failures: list[Exception] = []
        for visit, _ in slow:
            try:
                data = await visit.get(port, key)
            except Exception as error:  # noqa: BLE001
                failures.append(error)
            else:
                if data is not None and fills.is_sure(between, key):
                    # It may be out of date itself, and must not become a copy that lives longer.
                    return data
        try:
            data = await last.get(port, key)
        except Exception as error:  # noqa: BLE001
            failures.append(error)
            data = None
        if data is not None:
            life = self._store.life_of(data)
            if life > 0:
                for copies, mark in marks:
                    copies.keep(mark, key, Sealed(data), life)
                await self._fill(port, key, data, life, between)
        elif failures:
            raise failures[0]
        return data

    async def _fill(self, port: Port, key: str, data: bytes, life: float, mark: Mark) -> None:
        """Put what the last store had into those between, unless it has changed since the *mark*.

        Whatever fails has a breaker that says so.
        """
        *slow, _ = self._visits()
        fills = self._store.fills
        if not slow or not fills.begin(mark, key):
            return
        try:
            for visit, longest in slow:
                with suppress(Exception):
                    await visit.set(port, key, data, min(life, longest))
                if not mark.holds:
                    with suppress(Exception):
                        await visit.discard(port, key)
        finally:
            fills.end(mark, key)

    def _marks(self, key: str) -> list[tuple[Copies, Mark]]:
        return [(copies, copies.mark(key)) for copies in self._store.copies]

    def _visits(self) -> list[tuple[Visit, float]]:
        if self._opened is None:
            self._opened = self._store.open(self._within)
        return self._opened


def _is_memory(store: Store) -> bool:
    return isinstance(store, MemoryStore) and store.timeout is None


def visits(store: Store, monotonic: Callable[[], float]) -> Callable[[], Visit]:
    """Return what makes the use of *store* by one call, whether it is one or several."""
    if isinstance(store, TieredStore):
        return partial(TieredVisit, store)
    return guard.visits(store, monotonic)
