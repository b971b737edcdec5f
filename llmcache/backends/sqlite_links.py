"""The connections of one process to one SQLite store: one for each thread, none over a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar, cast

from llmcache.backends.sqlite_file import is_emptied, open_link, set_aside
from llmcache.backends.sqlite_link import Identity, Link, inode, is_broken, kind

T = TypeVar("T")

TRUST: Final = 1.0
"""Seconds that a connection is read from before somebody looks whether its file is still there."""

_REOPENED: Final = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_MISUSE,
)
"""What another connection may help against, where waiting, room or a smaller value would not."""

_opening = threading.Lock()
"""Held while files are opened: to close a file drops every lock that the process has on it."""

_known: weakref.WeakSet[Links] = weakref.WeakSet()


class Unopened:
    """Stands where a thread has no connection yet."""

    alive = False
    trusted_until = -inf


class Mine(threading.local):
    """The connection of the thread that asks."""

    link: Link = cast("Link", Unopened)


class Links:
    """Gives each thread a connection of its own.

    - A connection closes with its thread, on `close`, and before a fork.
    - One that fails in a way that another may not is replaced once, and so are
      those of the other threads. A file that is broken twice is set aside.
    - A file that was replaced, moved or removed is noticed at the next write,
      and at a read within `TRUST` seconds.

    Args:
        path: of the file.

    Attributes:
        mine: the thread's connection; usable until ``trusted_until``.
        writing: held by the thread that writes, so that those of one process
            queue here instead of competing for the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.forget()
        _known.add(self)

    def use(self, work: Callable[[Link], T], deadline: float) -> T:
        """Return what *work* does with this thread's connection, or with a new one if it must be.

        Args:
            work: is called up to three times.
            deadline: in seconds of `time.monotonic`.
        """
        for again in (False, True):
            link = self._current(deadline)
            try:
                return work(link)
            except sqlite3.Error as error:
                broken = is_broken(error)
                if not broken and (again or not _may_pass(error)):
                    raise
                self._replace(link, error if broken and again else None, deadline)
        return work(self._current(deadline))

    def renew(self) -> bool:
        """Say whether this thread's connection may be used for another while."""
        link = self.mine.link
        if link.alive and link.is_current():
            link.trusted_until = monotonic() + TRUST
            return True
        return False

    def open(self) -> None:
        """Give this thread a connection, if that takes no waiting."""
        self._current(monotonic())

    def close(self) -> None:
        """Close all connections of this process; who uses one afterwards opens another."""
        for link in _all(self._open):
            link.close()

    def _current(self, deadline: float) -> Link:
        if self.renew():
            return self.mine.link
        with taking(_opening, deadline):
            # A thread that opened the file before it was emptied keeps it from being made anew.
            emptied = is_emptied(self._path)
            for known in list(self._open):
                if emptied or not known.is_current():
                    known.close()
            self.mine.link = link = open_link(self._path, deadline)
            self._open.add(link)
        link.trusted_until = monotonic() + TRUST
        return link

    def _replace(self, link: Link, broken: sqlite3.Error | None, deadline: float) -> None:
        with taking(_opening, deadline):
            if not link.alive:
                return
            found: Identity = inode(self._path) if link.is_current() else None
            self.close()
            if broken and found and not link.changing:
                set_aside(self._path, found, broken, deadline)

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        self.mine = Mine()
        self.writing = threading.Lock()
        self._open: weakref.WeakSet[Link] = weakref.WeakSet()


def _all(these: weakref.WeakSet[T]) -> list[T]:
    while True:
        try:
            return list(these)
        except RuntimeError:
            # Another thread has added to it meanwhile.
            continue


def _may_pass(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.ProgrammingError) or kind(error) in _REOPENED


@contextmanager
def taking(lock: threading.Lock, deadline: float) -> Iterator[None]:
    """Hold *lock*, or raise `TimeoutError` at *deadline*."""
    left = min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX)
    if not lock.acquire(timeout=left):
        raise TimeoutError("the database is in use by other threads")
    try:
        yield
    finally:
        lock.release()


def _before_fork() -> None:
    """Close everything: SQLite would take an inherited lock for the child's own."""
    _opening.acquire()
    for links in _all(_known):
        links.close()


def _after_fork_in_child() -> None:  # pragma: no cover - where nobody measures
    for links in _all(_known):
        links.forget()
    _opening.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_opening.release,
        after_in_child=_after_fork_in_child,
    )
