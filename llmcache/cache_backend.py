"""Caches of values under keys of the user's own, over the same stores as decorated functions."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from functools import cached_property
from math import inf
from typing import Any, Final

import orjson

from llmcache.backends.base import DEFAULT_TIMEOUT, Countable, Store, in_thread
from llmcache.closing import Closing
from llmcache.codec.frame import CorruptEntry, Frame
from llmcache.entries import EntryFormat, TooLarge
from llmcache.errors import InvalidKey, UncacheableValue
from llmcache.failures import Complaints
from llmcache.policy import (
    DEFAULT_MAX_VALUE_BYTES,
    DEFAULT_TTL,
    FOREVER,
    TTL,
    Clock,
    Policy,
    parse_bound,
    parse_ttl,
)
from llmcache.ports import AsyncPort, Port, SyncPort, drive
from llmcache.stats import Counters
from llmcache.tiers import visits

_SYNC: Final = SyncPort()
_ASYNC: Final = AsyncPort()
GROUP: Final = "values"
"""Of the values in a store, beside the answers of decorated functions."""

_KEY: Final = b"llmcache/1 value\n"
_METADATA: Final = orjson.dumps({"function": "CacheBackend"})


class CacheBackend(Closing, ABC):
    """Values under keys, for a while.

    Derive from it to keep values in a place of your own: `get`, `set`,
    `delete`, `clear` and `get_stats` are to be written, and the awaitable
    methods run them in a thread unless they are written, too. What decorated
    functions give it are texts. To write a store for bytes, which is less
    work, see `llmcache.backends.base.Store`.

    - `get` returns what was `set`, until its time to live is over.
    - Every method may be called by many threads and tasks at once.

    Attributes:
        timeout: seconds that it may add to a call of a decorated function; one
            that takes longer is not asked for a while.
    """

    timeout: float = DEFAULT_TIMEOUT

    @abstractmethod
    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, *default* if there is none."""

    @abstractmethod
    def set(self, key: str, value: Any, ttl: TTL = None) -> Any:
        """Keep *value* under *key*.

        Args:
            key: any text.
            value: what `get` shall return.
            ttl: seconds, a `timedelta`, or a text such as ``"15m"``; ``None``
                for the default, `FOREVER` for ever.
        """

    @abstractmethod
    def delete(self, key: str) -> Any:
        """Forget *key*."""

    @abstractmethod
    def clear(self) -> Any:
        """Forget all keys."""

    @abstractmethod
    def get_stats(self) -> dict[str, Any]:
        """Return numbers by name."""

    async def aget(self, key: str, default: Any = None) -> Any:
        """Do as `get`, without blocking the event loop."""
        return await in_thread(self.get, key, default)

    async def aset(self, key: str, value: Any, ttl: TTL = None) -> Any:
        """Do as `set`, without blocking the event loop."""
        return await in_thread(self.set, key, value, ttl)

    async def adelete(self, key: str) -> Any:
        """Do as `delete`, without blocking the event loop."""
        return await in_thread(self.delete, key)

    async def aclear(self) -> Any:
        """Do as `clear`, without blocking the event loop."""
        return await in_thread(self.clear)

    @cached_property
    def store(self) -> Store:
        """What decorated functions use: a store for bytes."""
        return BackendStore(self)


class StoreBackend(CacheBackend):
    """Values of every kind that llmcache can bring back as they were, in a store.

    - Each `get` returns a copy of its own.
    - What goes wrong in the store is a miss, or is not kept: nothing is raised.
    - What would not come back as it is, or is too large, is not kept: `set`
      returns ``False``, and one log line says why.
    - `clear` forgets what was `set` by hand; the answers of decorated functions
      in the same store stay.

    Args:
        store: where the values are kept.
        default_ttl: how long, unless `set` says otherwise.
        name: what `get_stats` calls it.
        max_value_bytes: values that take more are not kept.
        clock: where the time comes from.
    """

    def __init__(
        self,
        store: Store,
        default_ttl: TTL = DEFAULT_TTL,
        *,
        name: str = "store",
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or Clock()
        most = parse_bound("max_value_bytes", max_value_bytes)
        policy = Policy(ttl=parse_ttl(default_ttl), max_value_bytes=most, clock=clock)
        self._store = store
        self._name = name
        self._policy = policy
        self._entries = EntryFormat(policy=policy, frame=Frame(max_plain=most), metadata=_METADATA)
        self._visit = visits(store, clock.monotonic)
        self._counters = Counters()
        self._complaints = Complaints(type(self).__qualname__)

    @cached_property
    def store(self) -> Store:
        """What decorated functions use: the store itself, unless a subclass steps in between."""
        kind = type(self)
        ours = all(getattr(kind, m) is getattr(StoreBackend, m) for m in _WATCHED)
        return self._store if ours else BackendStore(self)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, *default* if there is none."""
        return drive(self._get(_SYNC, key, default))

    def set(self, key: str, value: Any, ttl: TTL = None) -> bool:
        """Keep *value* under *key*; say whether it is kept.

        Raises:
            ConfigurationError: if *ttl* is no time to live.
        """
        return drive(self._set(_SYNC, key, value, ttl))

    def delete(self, key: str) -> bool:
        """Forget *key*; say whether there was something to forget."""
        return drive(self._delete(_SYNC, key))

    def clear(self) -> None:
        """Forget all keys that were set by hand."""
        drive(self._clear(_SYNC))

    def get_stats(self) -> dict[str, Any]:
        """Return ``backend``, ``size``, ``hits``, ``misses`` and ``hit_rate``."""
        try:
            size = self._store.usage(GROUP).entries
        except Exception as error:  # noqa: BLE001
            self._broken(error)
            size = None
        numbers = self._counters.snapshot()
        return {
            "backend": self._name,
            "size": size,
            "hits": numbers.hits,
            "misses": numbers.misses,
            "hit_rate": numbers.hit_rate,
        }

    def close(self) -> None:
        """Close what the store holds open; the next use opens it again."""
        self._store.close()

    async def aget(self, key: str, default: Any = None) -> Any:
        """Do as `get`, without blocking the event loop."""
        return await self._get(_ASYNC, key, default)

    async def aset(self, key: str, value: Any, ttl: TTL = None) -> bool:
        """Do as `set`, without blocking the event loop."""
        return await self._set(_ASYNC, key, value, ttl)

    async def adelete(self, key: str) -> bool:
        """Do as `delete`, without blocking the event loop."""
        return await self._delete(_ASYNC, key)

    async def aclear(self) -> None:
        """Do as `clear`, without blocking the event loop."""
        await self._clear(_ASYNC)

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        await self._store.aclose()

    async def _get(self, port: Port, key: str, default: Any) -> Any:
        digest, path = _place(key)
        visit = self._visit()
        try:
            data = await visit.get(port, path)
        except Exception as error:  # noqa: BLE001
            self._broken(error)
            data = None
        found = None
        if data is not None:
            try:
                found = self._entries.read(data, digest, inf)
            except CorruptEntry:
                self._counters.count("corrupt")
        if found is None:
            self._counters.count("misses")
            return default
        self._counters.hit(0.0)
        return found[1]

    async def _set(self, port: Port, key: str, value: Any, ttl: TTL) -> bool:
        seconds = self._policy.ttl if ttl is None else parse_ttl(ttl)
        digest, path = _place(key)
        visit = self._visit()
        try:
            if seconds and visit.takes:
                data = self._entries.write(value, digest, ttl=seconds, duration=0.0)
                return await visit.set(port, path, data, seconds)
        except TooLarge:
            self._complaints.log("large", "a value is too large to be kept")
        except UncacheableValue as error:
            self._complaints.log(str(error), "a value is not kept: %s", error)
        except Exception as error:  # noqa: BLE001
            self._broken(error)
        try:
            await visit.discard(port, path)
        except Exception as error:  # noqa: BLE001
            self._broken(error)
        return False

    async def _delete(self, port: Port, key: str) -> bool:
        _, path = _place(key)
        try:
            return await self._visit().delete(port, path)
        except Exception as error:  # noqa: BLE001
            self._broken(error)
            return False

    async def _clear(self, port: Port) -> None:
        try:
            await self._visit().clear(port, GROUP)
        except Exception as error:  # noqa: BLE001
            self._broken(error)

    def _counted(self, store: Countable) -> dict[str, Any]:
        """Return how many values there are by looking through them, while there is time."""
        try:
            size, is_estimate = store.count(GROUP)
        except Exception as error:  # noqa: BLE001
            self._broken(error)
            return {"size": None, "size_is_estimate": True}
        return {"size": size, "size_is_estimate": is_estimate}

    def _broken(self, error: Exception) -> None:
        kind = type(error).__qualname__
        self._complaints.log(kind, "the store failed (%s)", kind)


_WATCHED: Final = ("get", "set", "delete", "aget", "aset", "adelete")


class BackendStore(Store):
    """A store over a `CacheBackend` of somebody's own: its entries are texts there.

    A backend knows no groups: to clear one is to clear all.

    Args:
        backend: keeps the entries.
    """

    def __init__(self, backend: CacheBackend) -> None:
        self._backend = backend
        self.timeout = backend.timeout

    def get(self, key: str, within: float = inf) -> bytes | None:
        return _bytes(self._backend.get(key))

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self._backend.set(key, b64encode(data).decode(), _time_to_live(ttl))
        return True

    def delete(self, key: str, within: float = inf) -> bool:
        return bool(self._backend.delete(key))

    def clear(self, group: str) -> None:
        self._backend.clear()

    def close(self) -> None:
        self._backend.close()

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        return _bytes(await self._backend.aget(key))

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        await self._backend.aset(key, b64encode(data).decode(), _time_to_live(ttl))
        return True

    async def adelete(self, key: str, within: float = inf) -> bool:
        return bool(await self._backend.adelete(key))

    async def aclear(self, group: str) -> None:
        await self._backend.aclear()

    async def aclose(self) -> None:
        await self._backend.aclose()


def _bytes(text: Any) -> bytes | None:
    """Return the entry that a backend gave back; what is no text of ours is none."""
    try:
        return b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


def _time_to_live(seconds: float) -> TTL:
    return FOREVER if seconds == inf else seconds


def _place(key: str) -> tuple[bytes, str]:
    """Return the digest of a key, and where a store keeps it.

    Raises:
        InvalidKey: if it is no text.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"a key is a text: this is a {type(key).__qualname__}")
    digest = hashlib.sha256(_KEY + key.encode("utf-8", "surrogatepass")).digest()
    return digest, f"{GROUP}:{digest.hex()}"
