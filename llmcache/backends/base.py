"""What a store does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Removal: TypeAlias = "Callable[[str], None]"
"""Told ``"evicted"`` or ``"expired"`` for each entry that a store drops of its own accord."""


class Store(Protocol):
    """Bytes under keys, for a while.

    - A key is a group, a colon and a name; the groups can be counted and
      cleared alone.
    - `get` returns the bytes of the last `set` of that key, or ``None``.
    - Nothing is returned after its time to live.
    - Every method may be called by many threads and tasks at once.
    """

    def get(self, key: str) -> bytes | None:
        """Return what is stored under *key*, ``None`` for nothing."""
        ...

    def set(self, key: str, data: bytes, ttl: float) -> bool:
        """Store *data* for *ttl* seconds, ``inf`` for ever; say whether it was stored."""
        ...

    def delete(self, key: str) -> bool:
        """Forget *key*; say whether there was something to forget."""
        ...

    def clear(self, group: str) -> None:
        """Forget all keys of *group*."""
        ...

    def size(self, group: str) -> int | None:
        """Return the number of live entries in *group*, ``None`` if only a scan could tell."""
        ...

    def watch(self, group: str, removal: Removal) -> None:
        """Report to *removal* what is dropped from *group*, to it alone."""
        ...

    async def aget(self, key: str) -> bytes | None:
        """Do as `get`, without blocking the event loop."""
        ...

    async def aset(self, key: str, data: bytes, ttl: float) -> bool:
        """Do as `set`, without blocking the event loop."""
        ...

    async def adelete(self, key: str) -> bool:
        """Do as `delete`, without blocking the event loop."""
        ...

    async def aclear(self, group: str) -> None:
        """Do as `clear`, without blocking the event loop."""
        ...
