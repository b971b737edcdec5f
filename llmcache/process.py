"""What all decorated functions of a process have in common."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet, WeakValueDictionary, finalize

from llmcache.backends.base import Store, Usage
from llmcache.backends.registry import open_store
from llmcache.codec.compression import Compression
from llmcache.errors import ConfigurationError
from llmcache.events import Callback, Listeners, Subscription
from llmcache.policy import TTL, UNSET, Clock, Unset
from llmcache.settings import (
    BUILT_IN,
    Settings,
    from_backend,
    from_environment,
    parse_settings,
)
from llmcache.stats import Counters, Stats
from llmcache.tier_list import is_memory, is_private, open_tiers, place_of


class Counted(Protocol):
    """A function whose numbers are part of the process's."""

    @property
    def counters(self) -> Counters:
        """The numbers."""
        ...

    def place(self) -> tuple[Store, str] | None:
        """Return the store and the group of its entries, ``None`` before the first call."""
        ...

    def __hash__(self) -> int: ...


class Sharing(NamedTuple):
    """What functions of one ``name=`` must agree in, lest they answer for each other."""

    parameters: frozenset[str]
    ignore: frozenset[str]
    key: Any


class Agreement:
    """What one function of a ``name=`` keeps to.

    Args:
        sharing: what all of that name must agree in.
        function: what was decorated.
        place: where a module holds it, ``None`` for a function inside another.

    Attributes:
        is_over: whether a new definition that differs took its place.
    """

    def __init__(self, sharing: Sharing, function: Any, place: str | None) -> None:
        self.sharing = sharing
        self.is_over = False
        self._function = function
        self._place = place

    def replaces(self, other: Agreement) -> bool:
        """Say whether this is a new definition at the place of the other, as after a reload."""
        return (
            self._place is not None
            and self._place == other._place
            and self._function is not other._function
        )


class Process:
    """The defaults, the shared stores and the numbers of one process.

    Attributes:
        settings: what `configure` said; a new object after each change.
        listeners: those who are told of each call.
    """

    def __init__(self) -> None:
        self.settings = Settings()
        self.listeners = Listeners()
        self._lock = threading.RLock()
        self._functions: WeakSet[Any] = WeakSet()
        # A finalizer runs wherever the collector does, in the middle of
        # anything: it may take no lock.
        self._departed: deque[Counters] = deque()
        # Stores go on reporting to them what they drop of the entries.
        self._retired: WeakSet[Counters] = WeakSet()
        self._gone = Counters()
        self._opened: WeakSet[Any] = WeakSet()
        self._shared: dict[Any, Store] = {}
        self._named: WeakValueDictionary[tuple[Any, ...], Store] = WeakValueDictionary()
        self._agreements: dict[tuple[str, Any], WeakSet[Agreement]] = {}

    def resolve(self, declared: Settings) -> Settings:
        """Return what holds for a function that declared these options.

        Raises:
            ConfigurationError: if the environment has an option that cannot
                be meant.
        """
        rest = self.settings.over(from_environment()).over(BUILT_IN)
        backend = declared.over(rest).backend
        return declared.over(from_backend(backend)).over(rest)

    def store(self, options: Settings, name: str | None) -> Store:
        """Return the store of these resolved options: a new one, or one that is shared.

        What is shared has the bounds of the function that was called first.
        """
        backend = options.backend
        if not isinstance(backend, str | tuple):
            return backend  # type: ignore[no-any-return]
        place = place_of(backend)
        with self._lock:
            if not is_private(backend):
                if place not in self._shared:
                    self._shared[place] = self._open(options)
                return self._shared[place]
            if name is None:
                return self._open(options)
            named = name, options.clock, place
            store = self._named.get(named)
            if store is None:
                self._named[named] = store = self._open(options)
            return store

    def _open(self, options: Any) -> Store:
        if isinstance(options.backend, tuple):
            return open_tiers(options.backend, partial(self._open_tier, options), options.clock)
        given = {"max_size": options.max_size, "max_bytes": options.max_bytes}
        given = {name: value for name, value in given.items() if value is not UNSET}
        store = open_store(options.backend, {**given, "clock": options.clock})
        with suppress(TypeError):
            # A store of somebody else's may take no weak references.
            self._opened.add(store)
        return store

    def _open_tier(self, options: Settings, backend: str, bounded: bool) -> Store:  # noqa: FBT001
        """Return the store of one tier: memory is of no others, and bounds are the first tier's."""
        alone = replace(options, backend=backend)
        if not bounded:
            alone = replace(alone, max_size=UNSET, max_bytes=UNSET)
        return self._open(alone) if is_memory(backend) else self.store(alone, None)

    def stores(self) -> list[Store]:
        """Return the stores that were opened by their names and are still in use."""
        with self._lock:
            return list(self._opened)

    def agree(self, name: str, backend: Any, agreement: Agreement) -> None:
        """Let a function share the answers of all those called *name* in its store.

        Args:
            name: the ``name=``.
            backend: the store, or what names it.
            agreement: holds as long as the function keeps it.

        Raises:
            ConfigurationError: if a living function of that name differs.
        """
        place = (name, place_of(backend))
        with self._lock:
            living = self._agreements.setdefault(place, WeakSet())
            differing = [other for other in living if other.sharing != agreement.sharing]
            if agreement.is_over or not all(agreement.replaces(other) for other in differing):
                raise ConfigurationError(
                    f"name={name!r} is another function's, which differs in its parameters, "
                    "its ignore list or its key function: they would answer for each other"
                )
            for other in differing:
                other.is_over = True
                living.discard(other)
            living.add(agreement)
            if differing:
                # Who still has the old definition finds out at its next call.
                self.settings = replace(self.settings)

    def join(self, function: Counted) -> None:
        """Count *function* in, for good: its numbers stay when it goes."""
        with self._lock:
            self._functions.add(function)
        finalize(function, self._departed.append, function.counters).atexit = False

    def stats(self) -> Stats:
        """Return the sum over all functions, those included that are gone."""
        functions = self._living()
        total = Counters()
        total.add(self._gone.snapshot())
        places = {}
        for function in functions:
            if place := function.place():
                store, group = place
                places[id(store), group] = usage_of(store, group)
            total.add(function.counters.snapshot())
        usages = places.values()
        return total.snapshot(
            Usage(_sum(u.entries for u in usages), _sum(u.bytes for u in usages)),
        )

    def reset_stats(self) -> None:
        """Set every function's numbers to zero."""
        functions = self._living()
        self._gone.reset()
        for function in functions:
            function.counters.reset()

    def _living(self) -> Iterable[Counted]:
        with self._lock:
            functions = list(self._functions)
            while self._departed:
                counters = self._departed.popleft()
                self._gone.add(counters.take())
                self._retired.add(counters)
            for counters in self._retired:
                self._gone.add(counters.take())
        return functions


def usage_of(store: Store, group: str) -> Usage:
    """Return how much a group of entries takes, unknown if the store cannot say."""
    try:
        return store.usage(group)
    except Exception:  # noqa: BLE001
        return Usage(None, None)


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum of *numbers*, ``None`` if one of them is unknown."""
    known = list(numbers)
    return None if None in known else sum(number for number in known if number)


current = Process()


class Configuration:
    """What `configure` changed; leaving its ``with`` block changes it back."""

    def __init__(self, before: Settings) -> None:
        self._before = before

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current.settings = self._before


def configure(
    *,
    enabled: bool | Unset = UNSET,
    ttl: TTL | Unset = UNSET,
    backend: Any | Unset = UNSET,
    max_size: int | Unset = UNSET,
    max_bytes: int | Unset | None = UNSET,
    max_value_bytes: int | Unset = UNSET,
    strict: bool | Unset = UNSET,
    compress: Compression | Unset | None = UNSET,
    encrypt: bytes | str | Collection[bytes | str] | Unset | None = UNSET,
    secret: bytes | str | Unset | None = UNSET,
    clock: Clock | Unset = UNSET,
) -> Configuration:
    """Set this process's defaults, for all that a decorator does not say itself.

    It takes effect at once, for functions that are decorated already, too.
    As a context manager it restores what was before. Options that are left
    out stay as they are.

    Args:
        enabled: ``False`` switches the cache off, at no cost per call.
        ttl: seconds, a `timedelta`, a text such as ``"15m"``, or ``None``.
        backend: ``"memory"``, a URL, a store, or a list of them, the fastest first.
        max_size: the most entries of a store.
        max_bytes: the most bytes of a store, ``None`` for no bound.
        max_value_bytes: larger results are returned uncached.
        strict: raise what is otherwise logged and called through.
        compress: ``"zstd"``, ``"zlib"`` or ``"auto"`` for results of 16 KiB
            and more, or ``None``.
        encrypt: a key of 16, 24 or 32 bytes or its base64 text, or several:
            the first encrypts results, all decrypt them. ``None`` for none.
        secret: at least 16 bytes that make keys of their own: who steals the
            store cannot find out what was asked by asking it.
        clock: where the time comes from.

    Raises:
        ConfigurationError: for an option that cannot be meant; nothing
            changes then.

    Example:
        >>> import llmcache
        >>> with llmcache.configure(ttl="5m", max_size=100):
        ...     pass
    """
    before = current.settings
    current.settings = parse_settings(
        enabled=enabled,
        ttl=ttl,
        backend=backend,
        max_size=max_size,
        max_bytes=max_bytes,
        max_value_bytes=max_value_bytes,
        strict=strict,
        compress=compress,
        encrypt=encrypt,
        secret=secret,
        clock=clock,
    ).over(before)
    return Configuration(before)


def stats() -> Stats:
    """Return the numbers of all decorated functions of this process together.

    Example:
        >>> import llmcache
        >>> llmcache.reset_stats()
        >>> llmcache.stats().hits
        0
    """
    return current.stats()


def reset_stats() -> None:
    """Set all numbers to zero, each function's and the process's; no entry goes."""
    current.reset_stats()


def on_event(callback: Callback) -> Subscription:
    """Tell *callback* the outcome of every call of a decorated function, in this process.

    It gets one `Event` a call, in the thread of the call and before the caller
    has its answer: whatever takes long belongs elsewhere. One that raises is
    told nothing more, and one log line says so. Calls while the cache is
    switched off have no outcome.

    Returns:
        What ends it: ``close()``, or a ``with`` block.

    Raises:
        ConfigurationError: if *callback* is not callable.

    Example:
        >>> import llmcache
        >>> @llmcache.llm_cached
        ... def shout(text: str) -> str:
        ...     return text.upper()
        >>> outcomes = []
        >>> with llmcache.on_event(lambda event: outcomes.append(event.outcome)):
        ...     shout("hi"), shout("hi")
        ('HI', 'HI')
        >>> outcomes
        ['miss', 'hit']
    """
    if not callable(callback):
        raise ConfigurationError(f"on_event: a {type(callback).__qualname__} cannot be called")
    current.listeners.add(callback)
    return Subscription(current.listeners, callback)


def close() -> None:
    """Close what the stores of this process hold open; the next use opens it again.

    Stores and backends that were given as objects are their owner's to close.
    `contextlib.closing` takes the module for a ``with`` block.

    Example:
        >>> import contextlib
        >>> import llmcache
        >>> with contextlib.closing(llmcache):
        ...     pass
    """
    for store in current.stores():
        store.close()


async def aclose() -> None:
    """Do as `close`, without blocking the event loop."""
    for store in current.stores():
        await store.aclose()
