"""The file of a SQLite store: made, opened in the way that works, set aside when broken."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, Final
from urllib.parse import quote

from llmcache.backends.sqlite_entries import APPLICATION_ID, MARKS, SCHEMA, VERSION, Entries, broken
from llmcache.backends.sqlite_link import (
    Connection,
    Identity,
    Link,
    has_journal,
    inode,
    is_broken,
    kind,
    patiently,
)
from llmcache.errors import StoreUnusable

if sys.platform != "win32":  # pragma: no branch
    import fcntl

logger: Final = logging.getLogger("llmcache")

_PAUSE: Final = 0.001
_ATTEMPTS: Final = 3
_MAKING: Final = 1.0
_UNSHARED: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)

_PRAGMAS: Final = """
PRAGMA synchronous = {synchronous};
PRAGMA cache_size = -8000;
PRAGMA journal_size_limit = 16777216;
PRAGMA secure_delete = FAST;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
"""


def open_link(path: Path, deadline: float) -> Link:
    """Return a new connection to the database at *path*, made if it is not there.

    A file that is no database, twice, is set aside. So is one that was emptied
    and that somebody who does not know of it keeps from being made anew.

    Args:
        path: absolute.
        deadline: in seconds of `time.monotonic`.

    Raises:
        StoreUnusable: it is a database, and not one of this version of llmcache.
        OSError: the file can be neither made nor opened.
        sqlite3.Error: the same, as SQLite says it.
        TimeoutError: it was locked for too long, or replaced again and again.
    """
    for attempt in range(_ATTEMPTS):
        _make(path, deadline)
        found = inode(path)
        try:
            link = _in_some_way(path, deadline)
        except TimeoutError as error:
            if is_emptied(path, _MAKING):
                set_aside(path, found, error, deadline)
            raise
        except sqlite3.DatabaseError as error:
            # SQLite also calls a file malformed that could not be read just now.
            if not is_broken(error) or (
                attempt > 0
                and (attempt == _ATTEMPTS - 1 or not set_aside(path, found, error, deadline))
            ):
                raise
        else:
            if inode(path) == found:
                return link
            link.close()
    raise TimeoutError("the file was replaced while it was opened")


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


def is_emptied(path: Path, seconds: float = 0.0) -> bool:
    """Say whether there has been nothing in the file at *path* for so long."""
    try:
        found = path.stat()
    except OSError:
        return False
    return not found.st_size and time() - found.st_mtime >= seconds


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
    if has_journal(path):
        return None
    with _connected(path, "mode=ro&immutable=1") as connection:
        return _ready(path, connection, deadline, changing=True)


@contextmanager
def _connected(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}",
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
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
