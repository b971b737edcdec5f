"""A connection to the file of a SQLite store, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, TypeAlias, TypeVar

from llmcache.backends.sqlite_entries import Entries

T = TypeVar("T")
Identity: TypeAlias = "tuple[object, ...] | None"

_PAUSE: Final = 0.001
_CLOSING: Final = 0.5
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def kind(error: BaseException) -> int | None:
    """Return SQLite's primary code of *error*, ``None`` for one that is not from SQLite."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code if code is None else code & 0xFF


def is_broken(error: BaseException) -> bool:
    """Say whether *error* means that the file does not hold what it should."""
    return kind(error) in _BROKEN


def patiently(work: Callable[[], T], deadline: float) -> T:
    """Return what *work* returns, once the database is not locked.

    Args:
        work: fails with SQLite's "busy" while it is; is called once at least.
        deadline: in seconds of `time.monotonic`.

    Raises:
        TimeoutError: it was still locked.
    """
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if kind(error) not in _BUSY:
                raise
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError(str(error)) from error
        sleep(min(left, _PAUSE))


class Connection(sqlite3.Connection):
    """Closes when nobody has it any more, whatever of a cycle with it goes first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._process = os.getpid()
        super().__init__(*args, **kwargs)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():
            # Modules may be gone already, and the operating system closes all.
            return
        if self._process == os.getpid():
            with suppress(sqlite3.Error):
                self.close()
        else:
            _inherited.append(self)


class Link:
    """A connection, and what must be known to use it.

    Args:
        path: of its file.
        connection: to it.
        changing: the file is read without its journal and without locks, so
            that whatever another process does to either ends the connection.

    Attributes:
        lock: held by whoever uses or closes the connection.
        entries: what it is used for.
        look_up: executes `LOOK_UP`.
        alive: it was not closed.
        trusted_until: in seconds of `time.monotonic`.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_identity",
        "_path",
        "_pid",
        "alive",
        "changing",
        "entries",
        "lock",
        "look_up",
        "trusted_until",
    )

    def __init__(self, path: Path, connection: sqlite3.Connection, *, changing: bool) -> None:
        self._path = path
        self._connection = connection
        self.changing = changing
        self._pid = os.getpid()
        self._identity = self._look()
        self.lock = threading.Lock()
        self.entries = Entries(connection)
        self.look_up = self.entries.look_up
        self.alive = True
        self.trusted_until = -inf

    def is_current(self) -> bool:
        """Say whether the file is still there, and the same one."""
        return self._identity is not None and self._look() == self._identity

    def transact(self, work: Callable[[], T]) -> T:
        """Return what *work* returns, done as a whole or not at all.

        Raises:
            sqlite3.Error: among others, that the database is locked.
        """
        with self.lock:
            # In WAL mode this keeps writers out; elsewhere it leaves no lock to wait for.
            self._connection.execute("BEGIN EXCLUSIVE")
            try:
                result = work()
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            return result

    def close(self) -> None:
        """Close the connection, unless somebody does not stop using it."""
        self.alive = False
        self.trusted_until = -inf
        if self.lock.acquire(timeout=_CLOSING):
            try:
                self.entries.close()
            finally:
                self.lock.release()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close the connection with its thread, unless another process opened it."""
        if is_finalizing():
            return
        if self._pid == os.getpid():
            with suppress(sqlite3.Error):
                self.entries.close()
        else:
            _inherited.append(self._connection)

    def _look(self) -> Identity:
        try:
            found = self._path.stat()
        except OSError:
            return None
        if self.changing:
            if has_journal(self._path):
                return None
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        try:
            journal = os.stat(f"{self._path}-wal").st_ino  # noqa: PTH116
        except OSError:
            journal = None
        return found.st_dev, found.st_ino, journal


_inherited: list[sqlite3.Connection] = []


def inode(path: Path) -> Identity:
    """Return what tells the file at *path* from another one there, ``None`` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def has_journal(path: Path) -> bool:
    """Say whether a journal knows better than the file at *path*."""
    for suffix in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            if os.stat(f"{path}{suffix}").st_size:  # noqa: PTH116
                return True
    return False
