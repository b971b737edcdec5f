"""What is on its way from one store to another, and whether it may still arrive."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from llmcache.backends.forks import forget_after_fork


class Mark:
    """Says whether what is on its way from or to another store may still become a copy."""

    __slots__ = ("__weakref__", "holds")

    def __init__(self) -> None:
        self.holds = True


class Marks:
    """The marks of all keys: one holds until its key is spoilt.

    Whoever has a lock that is held meanwhile may use it from many threads.
    """

    def __init__(self) -> None:
        self._marks: WeakValueDictionary[str, Mark] = WeakValueDictionary()

    def mark(self, key: str) -> Mark:
        """Return the mark of *key*, before the other store is asked."""
        mark = self._marks.get(key)
        if mark is None:
            self._marks[key] = mark = Mark()
        return mark

    def spoil(self, key: str) -> None:
        """Let no mark of *key* hold any more."""
        mark = self._marks.pop(key, None)
        if mark is not None:
            mark.holds = False

    def spoil_group(self, group: str) -> None:
        """Do so for all keys of *group*."""
        for key in [key for key in self._marks if key.rpartition(":")[0] == group]:
            self.spoil(key)

    def spoil_all(self) -> None:
        """Do so for all keys."""
        for key in list(self._marks):
            self.spoil(key)


class Fills:
    """What readers put into a store that others of this process write and delete in as well.

    Nobody can hold a lock while a store works. So a reader notes what it puts
    there; if its key is spoilt meanwhile, it takes that out again, and until
    then nobody takes what the store has for sure.
    """

    def __init__(self) -> None:
        self._begin_anew()
        forget_after_fork(self)

    def mark(self, key: str) -> Mark:
        """Return what the others want, before any store is asked."""
        with self._lock:
            return self._marks.mark(key)

    def spoil(self, key: str) -> None:
        """Take note that *key* is written or deleted."""
        with self._lock:
            self._marks.spoil(key)

    def spoil_group(self, group: str) -> None:
        """Take note that *group* is cleared."""
        with self._lock:
            self._marks.spoil_group(group)

    def begin(self, mark: Mark, key: str) -> bool:
        """Note that something is put there under *key*; say whether it still may be."""
        with self._lock:
            if mark.holds:
                self._going.setdefault(key, []).append(mark)
            return mark.holds

    def end(self, mark: Mark, key: str) -> None:
        """Note that it is there, or taken out again."""
        with self._lock:
            going = self._going.get(key, [])
            # What was begun before a fork is not known in it. Others may have the same mark.
            if mark in going:
                going.remove(mark)
            if not going:
                self._going.pop(key, None)
            if not mark.holds:
                # Who looked meanwhile may have seen it.
                self._marks.spoil(key)

    def is_sure(self, mark: Mark, key: str) -> bool:
        """Say whether what the store had under *key* since the *mark* was not put there late."""
        with self._lock:
            return mark.holds and all(going.holds for going in self._going.get(key, ()))

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._marks = Marks()
        self._going: dict[str, list[Mark]] = {}
