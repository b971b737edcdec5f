"""A store through which bytes go as the entries of a function do: they say how long they live."""

from __future__ import annotations

import hashlib
from math import inf

from llmcache import Clock
from llmcache.backends.base import Changes, Removal, Store, Usage
from llmcache.codec.frame import Entry, Frame

_FRAME = Frame(max_plain=1 << 30)


def framed(key: str, data: bytes, ttl: float, now: float) -> bytes:
    entry = Entry(now, now + ttl, ttl, 0.0, 0, 1, b"")
    return bytes(_FRAME.seal(entry, data, _digest(key)))


def unframed(key: str, data: bytes | None) -> bytes | None:
    return None if data is None else _FRAME.unseal(data, _digest(key))[1]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class Framed(Store):
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self.inner = store
        self.timeout = store.timeout
        self._wall = (clock or Clock()).wall

    def get(self, key: str, within: float = inf) -> bytes | None:
        return unframed(key, self.inner.get(key, within))

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return self.inner.set(key, framed(key, data, ttl, self._wall()), ttl, within)

    def delete(self, key: str, within: float = inf) -> bool:
        return self.inner.delete(key, within)

    def clear(self, group: str) -> None:
        self.inner.clear(group)

    def usage(self, group: str) -> Usage:
        return self.inner.usage(group)

    def watch(self, group: str, removal: Removal) -> None:
        self.inner.watch(group, removal)

    def follow(self, changes: Changes) -> None:
        self.inner.follow(changes)

    def close(self) -> None:
        self.inner.close()

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        return unframed(key, await self.inner.aget(key, within))

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return await self.inner.aset(key, framed(key, data, ttl, self._wall()), ttl, within)

    async def adelete(self, key: str, within: float = inf) -> bool:
        return await self.inner.adelete(key, within)

    async def aclear(self, group: str) -> None:
        await self.inner.aclear(group)

    async def aclose(self) -> None:
        await self.inner.aclose()
