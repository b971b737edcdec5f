"""One way of calling a store for both of its kinds of methods."""

from __future__ import annotations

import asyncio
from math import inf
from types import TracebackType
from typing import Any

from llmcache.backends.base import Store


class Caller:
    """Calls a store's blocking methods, or their awaitable twins on an event loop of its own.

    It belongs to the thread that made it, and ends with its ``with`` block,
    which leaves the store open.

    Args:
        store: what to call.
        awaited: whether to call ``aget`` for ``get``, and so on.

    Example:
        >>> from llmcache.backends.memory import MemoryStore
        >>> with Caller(MemoryStore(), awaited=True) as caller:
        ...     caller.set("group:name", b"answer")
        ...     caller.get("group:name")
        True
        b'answer'
    """

    def __init__(self, store: Store, *, awaited: bool) -> None:
        self.store = store
        self.awaited = awaited
        self._runner = asyncio.Runner()

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.close()

    def get(self, key: str, within: float = inf) -> bytes | None:
        """Call ``get`` or ``aget``."""
        found: bytes | None = self._call("get", key, within)
        return found

    def set(self, key: str, data: bytes, ttl: float = inf, within: float = inf) -> bool:
        """Call ``set`` or ``aset``."""
        stored: bool = self._call("set", key, data, ttl, within)
        return stored

    def delete(self, key: str, within: float = inf) -> bool:
        """Call ``delete`` or ``adelete``."""
        forgotten: bool = self._call("delete", key, within)
        return forgotten

    def clear(self, group: str) -> None:
        """Call ``clear`` or ``aclear``."""
        self._call("clear", group)

    def close(self) -> None:
        """Call ``close`` or ``aclose`` of the store."""
        self._call("close")

    def _call(self, method: str, *arguments: Any) -> Any:
        if self.awaited:
            return self._runner.run(getattr(self.store, f"a{method}")(*arguments))
        return getattr(self.store, method)(*arguments)
