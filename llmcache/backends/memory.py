"""The store in this process's memory: a cachetools map with an expiry per entry, under a lock."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

from cachetools import TLRUCache

from llmcache.backends.base import P, Removal, Store, T, Usage
from llmcache.policy import DEFAULT_MAX_SIZE, Clock


class MemoryStore(Store):
    """Keeps the entries that were used last, each until it expires.

    An expired entry goes before a live one, and of the live ones the one that
    was not used for longest. What is stored are bytes, so that no caller can
    spoil what the next one gets.

    Args:
        max_size: the most entries.
        max_bytes: the most bytes of them all, ``None`` for no such bound.
        clock: its ``monotonic`` says when an entry expires.

    Example:
        >>> store = MemoryStore(max_size=100)
        >>> store.set("group:name", b"answer", 60.0)
        True
        >>> store.get("group:name")
        b'answer'
    """

    timeout = None

    def __init__(
        self,
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.max_size = max_size
        self.max_bytes = max_bytes
        self._monotonic = (clock or Clock()).monotonic
        self._watchers: dict[str, Removal] = {}
        self._lock = threading.RLock()
        self._begin()

    def get(self, key: str, within: float = inf) -> bytes | None:
        """Return what is stored under *key*, ``None`` for nothing."""
        with self._lock:
            try:
                return self._entries[key]
            except KeyError:
                return None
            except BaseException:
                self._begin()
                raise

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Store *data* for *ttl* seconds, unless it alone is larger than ``max_bytes``."""
        return self._whole(self._set, key, data, ttl)

    def delete(self, key: str, within: float = inf) -> bool:
        """Forget *key*; say whether there was something to forget."""
        return self._whole(self._delete, key)

    def clear(self, group: str) -> None:
        """Forget all keys of *group*."""
        self._whole(self._clear, group)

    def empty(self) -> None:
        """Forget all keys."""
        with self._lock:
            self._begin()

    def forget(self) -> None:
        """Forget all keys, in a process that was forked while anybody did anything."""
        self._lock = threading.RLock()
        self._begin()

    def usage(self, group: str) -> Usage:
        """Return the number of live entries in *group*, and their bytes."""
        return self._whole(self._usage, group)

    def watch(self, group: str, removal: Removal) -> None:
        """Report to *removal* what is evicted or expires from *group*, to it alone."""
        with self._lock:
            self._watchers[group] = removal

    def close(self) -> None:
        """Do nothing: there is nothing open."""

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, which never waits for anything but its lock."""
        return self.get(key)

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Do as `set`."""
        return self.set(key, data, ttl)

    async def adelete(self, key: str, within: float = inf) -> bool:
        """Do as `delete`."""
        return self.delete(key)

    async def aclear(self, group: str) -> None:
        """Do as `clear`."""
        self.clear(group)

    async def aclose(self) -> None:
        """Do as `close`."""

    def _begin(self) -> None:
        self._ttl = 0.0
        entries = _Entries(
            self.max_size if self.max_bytes is None else self.max_bytes,
            lambda _key, _data, now: now + self._ttl,
            self._monotonic,
            None if self.max_bytes is None else len,
            self._removed,
        )
        # No signal handler runs in between.
        self._entries, self._sizes, self._bytes = entries, Counter[str](), Counter[str]()

    def _whole(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what *work* returns; forget all keys if something ends it in the middle.

        What a signal handler raises may come at any instant, and what is half
        done cannot be relied on. No entry is ever wrong for being missed.
        """
        with self._lock:
            try:
                return work(*args, **kwargs)
            except BaseException:
                self._begin()
                raise

    def _set(self, key: str, data: bytes, ttl: float) -> bool:
        entries = self._entries
        with entries.timer:
            self._discard(key)
            now = entries.timer()
            if now + ttl <= now or (self.max_bytes is not None and len(data) > self.max_bytes):
                return False
            while len(entries) >= self.max_size:
                entries.popitem()
            self._ttl = ttl
            entries[key] = data
            group = _group(key)
            self._sizes[group] += 1
            self._bytes[group] += len(data)
            return True

    def _delete(self, key: str) -> bool:
        with self._entries.timer:
            return self._discard(key)

    def _clear(self, group: str) -> None:
        with self._entries.timer:
            for key in [key for key in self._entries if _group(key) == group]:
                self._discard(key)

    def _usage(self, group: str) -> Usage:
        self._entries.expire()
        return Usage(self._sizes[group], self._bytes[group])

    def _discard(self, key: str) -> bool:
        """Forget *key* while the time is held still: an entry may expire between two readings."""
        self._entries.expire()
        if key not in self._entries:
            return False
        self._uncount(key, self._entries.pop(key))
        return True

    def _uncount(self, key: str, data: bytes) -> str:
        group = _group(key)
        self._sizes[group] -= 1
        self._bytes[group] -= len(data)
        return group

    def _removed(self, key: str, data: bytes, why: str) -> None:
        group = self._uncount(key, data)
        if watcher := self._watchers.get(group):
            watcher(why)


def _group(key: str) -> str:
    return key.rpartition(":")[0]


class _Entries(TLRUCache[str, bytes]):
    """A `TLRUCache` that says what it drops."""

    # A property of the class above, which each look-up would have to call.
    timer: Any = None

    def __init__(
        self,
        maxsize: int,
        ttu: Callable[[Any, Any, float], float],
        timer: Callable[[], float],
        getsizeof: Callable[[bytes], int] | None,
        removed: Callable[[str, bytes, str], None],
    ) -> None:
        super().__init__(maxsize, ttu, timer, getsizeof)
        self.timer = super().timer
        self._removed = removed

    def popitem(self) -> tuple[str, bytes]:
        key, data = super().popitem()
        self._removed(key, data, "evicted")
        return key, data

    def expire(self, time: float | None = None) -> list[tuple[str, bytes]]:
        expired = list(super().expire(time))
        for key, data in expired:
            self._removed(key, data, "expired")
        return expired
