"""The store in a SQLite file: answers that outlive the process, and that processes share."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from llmcache.backends.base import DEFAULT_TIMEOUT, Removal, Store, Usage, WouldWait
from llmcache.backends.lone_thread import LoneThread
from llmcache.backends.sqlite_entries import LOOK_UP, STEP, Dropped, Entries, Room, number
from llmcache.backends.sqlite_link import Link, patiently
from llmcache.backends.sqlite_links import Links, taking
from llmcache.policy import DEFAULT_FILE_BYTES, DEFAULT_FILE_SIZE, Clock

T = TypeVar("T")

_NOTES: Final = 1000
_ALL_STALE: Final = 2**62


class SQLiteStore(Store):
    """Keeps the entries that were used last in a file, each until it expires.

    - Many threads, tasks and processes may use one file at once. A reader
      waits for nobody; writers wait for each other.
    - What `set` said was stored is there after the process was killed. After a
      power failure the last entries may be missing, and the file is whole.
    - Expired entries go first, then those that were not used for longest,
      approximately: a read is remembered in memory and written down with the
      next write of the same process. One transaction drops a few hundred rows
      at most, and `set` begins another one until the bounds hold or its time
      is over.
    - The file is readable by its owner alone, in a directory that is too if it
      had to be made. It is larger than *max_bytes* by what SQLite needs, and
      it does not shrink.
    - A file that is no database, or is broken, is set aside as
      ``<name>.corrupt-<time>``. A database that is not llmcache's, or of
      another version, is refused and left as it is.
    - Where the file cannot be written, what is in it still answers.
    - Nothing is open before the first use, after `close` or over a fork.

    Awaitable reads are done at once, on the event loop's own thread, unless the
    database is locked or not open yet; awaitable writes on another thread.

    Args:
        path: of the file.
        prefix: of every key, for those who share a file and no entries.
        max_size: the most entries, ``None`` for no such bound.
        max_bytes: the most bytes of all values, ``None`` for no such bound.
        timeout: seconds that it may add to one call altogether.
        clock: its ``wall`` says when an entry expires, since other processes
            read it too.

    Raises:
        sqlite3.Error, OSError, TimeoutError: from every method that cannot do
            its work.

    Example:
        >>> store = SQLiteStore("answers.db")  # doctest: +SKIP
        >>> store.set("group:name", b"answer", 60.0)  # doctest: +SKIP
        True
        >>> store.get("group:name")  # doctest: +SKIP
        b'answer'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        prefix: str = "",
        max_size: int | None = DEFAULT_FILE_SIZE,
        max_bytes: int | None = DEFAULT_FILE_BYTES,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.prefix = prefix
        self.max_size = max_size
        self.max_bytes = max_bytes
        self.timeout = timeout
        self._timeout = timeout
        self._wall = (clock or Clock()).wall
        self._links = Links(self.path)
        self._thread = LoneThread(f"llmcache {self.path.name}")
        self._watchers: dict[str, Removal] = {}
        self._stale = _ALL_STALE
        self._noted: dict[int, None] = {}

    def get(self, key: str, within: float = inf) -> bytes | None:
        """Return what is stored under *key*, ``None`` for nothing."""
        link = self._links.mine.link
        if monotonic() < link.trusted_until:
            try:
                return self._look_up(link, key)
            except sqlite3.Error:
                pass
        return self._get(key, self._deadline(within))

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Store *data* for *ttl* seconds, unless it alone is larger than ``max_bytes``."""
        return self._set(key, data, ttl, self._deadline(within))

    def delete(self, key: str, within: float = inf) -> bool:
        """Forget *key*; say whether there was something to forget."""
        return self._delete(key, self._deadline(within))

    def clear(self, group: str) -> None:
        """Forget all keys of *group*, some at a time, so that others can write in between."""
        family = self.prefix + group
        while self._write(lambda rows, now: rows.clear(family, now), self._deadline(inf)) == STEP:
            pass

    def usage(self, group: str) -> Usage:
        """Return the number of live entries in *group*, and their bytes.

        Expired ones are dropped first. Those that could not be, for want of
        time or because the file cannot be written, are counted.
        """
        deadline = self._deadline(inf)
        with suppress(sqlite3.OperationalError, TimeoutError):
            while self._write(_expire, deadline) == STEP and monotonic() < deadline:
                pass
        family = self.prefix + group
        return Usage(*self._read(lambda link: link.entries.usage(family), self._deadline(inf)))

    def watch(self, group: str, removal: Removal) -> None:
        """Report to *removal* what this process drops from *group*, to it alone."""
        self._watchers[self.prefix + group] = removal

    def close(self) -> None:
        """Finish what is being written, and close all connections of this process."""
        self._thread.stop(self._timeout)
        self._links.close()

    def get_at_once(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, unless that would mean to wait.

        Raises:
            WouldWait: if it would.
        """
        link = self._links.mine.link
        if monotonic() < link.trusted_until or self._links.renew():
            try:
                return self._look_up(link, key)
            except sqlite3.Error:
                pass
        raise WouldWait

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, at once unless that would mean to wait."""
        with suppress(WouldWait):
            return self.get_at_once(key)
        deadline = self._deadline(within)
        data = await self._elsewhere(lambda: self._get(key, deadline), deadline)
        with suppress(sqlite3.Error, OSError):
            self._links.open()
        return data

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Do as `set`, on another thread."""
        deadline = self._deadline(within)
        return await self._elsewhere(lambda: self._set(key, data, ttl, deadline), deadline)

    async def adelete(self, key: str, within: float = inf) -> bool:
        """Do as `delete`, on another thread."""
        deadline = self._deadline(within)
        return await self._elsewhere(lambda: self._delete(key, deadline), deadline)

    async def aclear(self, group: str) -> None:
        """Do as `clear`, on another thread."""
        await self._elsewhere(lambda: self.clear(group), inf)

    def _deadline(self, within: float) -> float:
        return monotonic() + min(within, self._timeout)

    async def _elsewhere(self, work: Callable[[], T], deadline: float) -> T:
        def in_time() -> T:
            if monotonic() > deadline:
                raise TimeoutError("the database is in use by other tasks")
            return work()

        return await asyncio.wrap_future(self._thread.submit(in_time))

    def _look_up(self, link: Link, key: str) -> bytes | None:
        key = self.prefix + key
        row = number(key)
        with link.lock:
            found = link.look_up(LOOK_UP, (self._stale, row, key, self._wall())).fetchone()
        if found is None:
            return None
        data: bytes
        data, stale = found
        if stale and len(self._noted) < _NOTES:
            self._noted[row] = None
        return data

    def _get(self, key: str, deadline: float) -> bytes | None:
        return self._read(lambda link: self._look_up(link, key), deadline)

    def _set(self, key: str, data: bytes, ttl: float, deadline: float) -> bool:
        key = self.prefix + key
        family = key.rpartition(":")[0]
        fits = self.max_bytes is None or len(data) <= self.max_bytes
        used = list(self._noted)[:STEP]

        def put(rows: Entries, now: float) -> tuple[Room | None, list[Dropped]]:
            dropped = [Dropped(family, "expired")] if rows.drop(key, now) == "expired" else []
            if now + ttl <= now or not fits:
                return None, dropped
            rows.note(used)
            rows.put(key, family, data, now + ttl)
            return make_room(rows, now, dropped)

        def make_room(
            rows: Entries, now: float, dropped: list[Dropped] | None = None
        ) -> tuple[Room, list[Dropped]]:
            room = rows.make_room(now, self.max_size, self.max_bytes)
            return room, (dropped or []) + room.dropped

        room = self._write(put, deadline)
        if room is None:
            return False
        for row in used:
            self._noted.pop(row, None)
        with suppress(TimeoutError):
            while room.full and monotonic() < deadline:
                room = self._write(make_room, deadline)
        self._stale = room.stale
        return True

    def _delete(self, key: str, deadline: float) -> bool:
        key = self.prefix + key
        family = key.rpartition(":")[0]

        def drop(rows: Entries, now: float) -> tuple[bool, list[Dropped]]:
            was = rows.drop(key, now)
            return was == "live", [Dropped(family, "expired")] if was == "expired" else []

        return self._write(drop, deadline)

    def _read(self, work: Callable[[Link], T], deadline: float) -> T:
        return self._links.use(lambda link: patiently(lambda: work(link), deadline), deadline)

    def _write(
        self, work: Callable[[Entries, float], tuple[T, list[Dropped]]], deadline: float
    ) -> T:
        """Return what *work* returns in a transaction, and tell the watchers what it dropped."""

        def attempt(link: Link) -> tuple[T, list[Dropped]]:
            with taking(self._links.writing, deadline):
                return patiently(
                    lambda: link.transact(lambda: work(link.entries, self._wall())), deadline
                )

        result, dropped = self._links.use(attempt, deadline)
        for family, why in dropped:
            if watcher := self._watchers.get(family):
                watcher(why)
        return result


def _expire(rows: Entries, now: float) -> tuple[int, list[Dropped]]:
    dropped = rows.make_room(now, None, None).dropped
    return len(dropped), dropped
