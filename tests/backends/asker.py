"""One test for both worlds: a store's blocking methods and its awaitable ones, called alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from math import inf
from typing import Any

from llmcache.backends.base import Store


class Asker:
    """Calls the blocking methods of a store, or its awaitable ones.

    Args:
        store: itself.
        runner: has the event loop of the awaitable ones, ``None`` for the blocking ones.
    """

    def __init__(self, store: Any, runner: asyncio.Runner | None) -> None:
        self.store = store
        self.runner = runner

    def get(self, key: str, within: float = inf) -> bytes | None:
        return self._call("get", key, within)

    def set(self, key: str, data: bytes = b"data", ttl: float = inf) -> bool:
        return self._call("set", key, data, ttl)

    def delete(self, key: str) -> bool:
        return self._call("delete", key)

    def clear(self, group: str) -> None:
        self._call("clear", group)

    def close(self) -> None:
        self._call("close")

    def size(self, group: str = "g") -> int:
        entries = self.store.usage(group).entries
        assert entries is not None
        return entries

    def watch(self, group: str = "g") -> Counter[str]:
        return watch(self.store, group)

    def _call(self, method: str, *args: Any) -> Any:
        if self.runner is None:
            return getattr(self.store, method)(*args)
        return self.runner.run(getattr(self.store, f"a{method}")(*args))


def watch(store: Store, group: str = "g") -> Counter[str]:
    """Return how often entries are dropped from now on, by why."""
    dropped: Counter[str] = Counter()

    def count(why: str) -> None:
        dropped[why] += 1

    store.watch(group, count)
    return dropped
