"""The file of a SQLite store: made, opened in the way that works, set aside when broken."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

from llmcache.backends.sqlite_entries import APPLICATION_ID, MARKS, SCHEMA, VERSION, Entries, broken
from llmcache.errors import StoreUnusable

if sys.platform != "win32":  # pragma: no branch
    import fcntl

T = TypeVar("T")
Identity: TypeAlias = "tuple[object, ...] | None"

logger: Final = logging.getLogger("llmcache")

TRUST: Final = 1.0
"""Seconds that a connection is read from before somebody looks whether its file is still there."""

_PAUSE: Final = 0.001
_ATTEMPTS: Final = 3
_CLOSING: Final = 0.5
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNSHARED: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)

_PRAGMAS: Final = """
PRAGMA synchronous = {synchronous};
PRAGMA cache_size = -8000;
PRAGMA journal_size_limit = 16777216;
PRAGMA secure_delete = FAST;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
"""


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

    def __del__(self) -> None:
        """Close the connection with its thread, unless another process opened it."""
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
            if _has_journal(self._path):
                return None
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        try:
            journal = os.stat(f"{self._path}-wal").st_ino  # noqa: PTH116
        except OSError:
            journal = None
        return found.st_dev, found.st_ino, journal


_inherited: list[sqlite3.Connection] = []


def open_link(path: Path, deadline: float) -> Link:
    """Return a new connection to the database at *path*, made if it is not there.

    A file that is no database, twice, is set aside.

    Args:
        path: absolute.
        deadline: in seconds of `time.monotonic`.

    Raises:
        StoreUnusable: it is a database, and not one of this version of llmcache.
        OSError: the file can be neither made nor opened.
        sqlite3.Error: the same, as SQLite says it.
        TimeoutError: it was locked for too long.
    """
    for attempt in range(_ATTEMPTS):
        _make(path, deadline)
        found = inode(path)
        try:
            return _in_some_way(path, deadline)
        except sqlite3.DatabaseError as error:
            # SQLite also calls a file malformed that could not be read just now.
            if not is_broken(error) or (
                attempt > 0
                and (attempt == _ATTEMPTS - 1 or not set_aside(path, found, error, deadline))
            ):
                raise
    raise AssertionError  # pragma: no cover


def set_aside(path: Path, found: Identity, why: BaseException, deadline: float) -> bool:
    """Give the file at *path* another name, if it is still the one that was *found* to be broken.

    No process may have it open for writing through this module's eyes: close
    the connections first. Other processes notice that their file has moved.

    Returns:
        whether a new file may be made or was made by somebody else.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    name = f"{path.name}.corrupt-{now}"
    with _alone(path.parent, deadline):
        if found != inode(path):
            return True
        try:
            path.rename(path.with_name(name))
        except OSError:
            return False
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(path.with_name(name + suffix))
    logger.warning("%s is broken (%s): set aside as %s", path.name, type(why).__name__, name)
    return True


def inode(path: Path) -> Identity:
    """Return what tells the file at *path* from another one there, ``None`` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make(path: Path, deadline: float) -> None:
    """Make an empty file that nobody else can read, unless there is one."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path.parent, deadline):
        if path.exists():
            return
        # A journal that outlived its database would be played into the new one.
        for suffix in ("-wal", "-shm", "-journal"):
            with suppress(OSError):
                Path(f"{path}{suffix}").unlink()
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


@contextmanager
def _alone(directory: Path, deadline: float) -> Iterator[None]:
    """Keep other processes from making or renaming the file meanwhile."""
    if sys.platform == "win32":  # pragma: no cover
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() >= deadline:
                    raise TimeoutError("the directory is locked") from None
                sleep(_PAUSE)
            except OSError:  # a file system without such locks
                break
        yield
    finally:
        os.close(descriptor)


def _in_some_way(path: Path, deadline: float) -> Link:
    """Open for writing; else without shared memory; else for reading what does not change."""
    try:
        return _shared(path, deadline)
    except sqlite3.OperationalError as error:
        if kind(error) not in _UNSHARED:
            raise
        link = _otherwise(path, deadline)
        if link is None:
            raise
        return link


def _otherwise(path: Path, deadline: float) -> Link | None:
    # What only these find wrong is no reason to set the file aside: hence all errors of SQLite.
    with suppress(sqlite3.DatabaseError):
        return _unshared(path, deadline)
    with suppress(sqlite3.DatabaseError):
        return _fixed(path, deadline)
    return None


def _shared(path: Path, deadline: float) -> Link:
    with _connected(path, "mode=rw") as connection:
        return _ready(path, connection, deadline)


def _unshared(path: Path, deadline: float) -> Link:
    """Take the database out of WAL mode, which needs memory that processes share."""
    with _connected(path, "mode=rw") as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        patiently(lambda: connection.execute("PRAGMA journal_mode = DELETE").fetchall(), deadline)
        connection.execute("PRAGMA locking_mode = NORMAL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        return _ready(path, connection, deadline, wal=False)


def _fixed(path: Path, deadline: float) -> Link | None:
    """Read the file alone, unless a journal says something else."""
    if _has_journal(path):
        return None
    with _connected(path, "mode=ro&immutable=1") as connection:
        return _ready(path, connection, deadline, changing=True)


def _has_journal(path: Path) -> bool:
    for suffix in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            if os.stat(f"{path}{suffix}").st_size:  # noqa: PTH116
                return True
    return False


@contextmanager
def _connected(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}",
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    connection.text_factory = _text
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _ready(
    path: Path,
    connection: sqlite3.Connection,
    deadline: float,
    *,
    wal: bool = True,
    changing: bool = False,
) -> Link:
    def prepare() -> None:
        if _is_empty(connection):
            _create(connection, wal=wal)
        mode = _pragma(connection, "journal_mode")
        # Only a write-ahead log is safe from a killed process without a sync for each write.
        synchronous = "NORMAL" if mode == "wal" else "FULL"
        connection.executescript(_PRAGMAS.format(synchronous=synchronous))
        try:
            Entries(connection).prove()
        except sqlite3.OperationalError as error:
            raise (broken(str(error)) if kind(error) == sqlite3.SQLITE_ERROR else error) from None

    patiently(prepare, deadline)
    return Link(path, connection, changing=changing)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Say whether nothing has been stored yet.

    Raises:
        StoreUnusable: something was, but not by this version of llmcache.
    """
    marks = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if marks == (APPLICATION_ID, VERSION):
        return False
    if marks == (0, 0) and not _pragma(connection, "schema_version"):
        return True
    if marks[0] == APPLICATION_ID:
        raise StoreUnusable(
            f"the database has version {marks[1]} of llmcache's schema and this is version "
            f"{VERSION}: it is left as it is; give another path, or move the file away"
        )
    raise StoreUnusable(
        "the database was not made by llmcache: it is left as it is; give another path"
    )


def _create(connection: sqlite3.Connection, *, wal: bool) -> None:
    if wal:
        _pragma(connection, "journal_mode = WAL")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if _is_empty(connection):
            for statement in (*_statements(SCHEMA), *MARKS):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split *script*, since ``executescript`` would commit what was begun."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, pragma: str) -> Any:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
