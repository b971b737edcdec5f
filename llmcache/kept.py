"""Entries of a store outside of this process that were read before."""

from __future__ import annotations

from typing import Final

from llmcache.codec.frame import Sealed

_MOST_BYTES: Final = 1 << 20
_LARGEST: Final = 1 << 16
# A digest, what is known of the entry, and the place of both in a dictionary.
_OVERHEAD: Final = 500


class Kept:
    """Keeps entries, so that what comes from a store once more need not be proven again.

    An entry that is the same, byte for byte, says the same. Only whole entries
    in clear are worth it; all are forgotten when they are more than a megabyte.
    """

    __slots__ = ("_room", "entries")

    def __init__(self) -> None:
        self.entries: Final[dict[bytes, Sealed]] = {}
        self._room = _MOST_BYTES

    def keep(self, digest: bytes, data: bytes) -> Sealed | None:
        """Keep the entry for the key of *digest*; return what is kept, ``None`` if it is large."""
        size = len(data) + _OVERHEAD
        if size > _LARGEST:
            return None
        if size > self._room:
            self.entries.clear()
            self._room = _MOST_BYTES
        self._room -= size
        self.entries[digest] = copy = Sealed(data)
        return copy
