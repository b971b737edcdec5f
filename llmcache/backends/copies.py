"""A memory tier: copies of what another store has, and when they may still answer."""

from __future__ import annotations

import threading
from typing import Final

from llmcache.backends.forks import forget_after_fork
from llmcache.backends.marks import Mark, Marks
from llmcache.backends.memory import MemoryStore


class Copies:
    """What a memory store has of another store, which others use, too.

    - While the other store tells every change, a copy lives as long as its
      entry. Otherwise it lives for *ttl* at most.
    - It is emptied when that changes, and in a process that is forked.
    - What was asked for before a change never becomes a copy after it.

    Args:
        memory: where the copies are.
        ttl: seconds.

    Attributes:
        memory: where the copies are.
        ttl: seconds that one may live after its entry was deleted or replaced.
        tracked: whether every change is told.
    """

    def __init__(self, memory: MemoryStore, ttl: float) -> None:
        self.memory: Final = memory
        self.ttl = ttl
        self.tracked = False
        self._lock = threading.RLock()
        self._marks = Marks()
        forget_after_fork(self)

    def mark(self, key: str) -> Mark:
        """Return what `keep` and `replace` want, before the other store is asked."""
        with self._lock:
            return self._marks.mark(key)

    def keep(self, mark: Mark, key: str, data: bytes, ttl: float) -> bool:
        """Keep a copy of what the other store had, if it has not changed since the *mark*.

        Args:
            mark: from before it was asked for.
            key: what it is under.
            data: what it is.
            ttl: seconds that the entry lives.
        """
        with self._lock:
            return mark.holds and self._set(key, data, ttl)

    def replace(self, mark: Mark, key: str, data: bytes, ttl: float) -> bool:
        """Keep a copy of what the other store was given, unless that has changed since, too."""
        with self._lock:
            holds = mark.holds
            self._marks.spoil(key)
            if holds:
                return self._set(key, data, ttl)
            self.memory.delete(key)
            return False

    def drop(self, key: str) -> bool:
        """Forget *key*; say whether there was a copy."""
        with self._lock:
            self._marks.spoil(key)
            return self.memory.delete(key)

    def drop_group(self, group: str) -> None:
        """Forget all keys of *group*."""
        with self._lock:
            self._marks.spoil_group(group)
            self.memory.clear(group)

    def began(self) -> None:
        """Let copies live as long as their entries."""
        self._start_anew(tracked=True)

    def changed(self, key: str) -> None:
        """Forget *key*."""
        self.drop(key)

    def lost(self) -> None:
        """Forget everything, and let copies live for `ttl`."""
        self._start_anew(tracked=False)

    def _start_anew(self, *, tracked: bool) -> None:
        with self._lock:
            self.tracked = tracked
            self._marks.spoil_all()
            self.memory.empty()

    def _set(self, key: str, data: bytes, ttl: float) -> bool:
        return self.memory.set(key, data, ttl if self.tracked else min(ttl, self.ttl))

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        self.tracked = False
        self._lock = threading.RLock()
        self._marks = Marks()
        self.memory.forget()
