"""What is in the file of a SQLite store, and every statement that touches it.

An entry's row has a number that follows from its key, so that a look-up is one
walk down one tree. Two keys with the same number, which 64 bits make rarer
than a broken disk, drive each other out; the key beside it tells them apart.

A row's ``used`` counts writes, not seconds: the larger, the later it was used.
The sums are kept by triggers, so that nobody has to count.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

APPLICATION_ID: Final = int.from_bytes(b"llmc")
VERSION: Final = 1

STEP: Final = 200
"""The most rows that one transaction drops, and the most whose use it writes down."""

SCHEMA: Final = """
CREATE TABLE totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TABLE families (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  entries INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  family INTEGER NOT NULL,
  size INTEGER NOT NULL,
  expires REAL NOT NULL,
  used INTEGER NOT NULL,
  data BLOB NOT NULL
);
CREATE INDEX entries_family ON entries (family);
CREATE INDEX entries_expires ON entries (expires);
CREATE INDEX entries_used ON entries (used);
CREATE TRIGGER entries_added AFTER INSERT ON entries BEGIN
  UPDATE totals SET entries = entries + 1, bytes = bytes + new.size;
  UPDATE families SET entries = entries + 1, bytes = bytes + new.size WHERE id = new.family;
END;
CREATE TRIGGER entries_removed AFTER DELETE ON entries BEGIN
  UPDATE totals SET entries = entries - 1, bytes = bytes - old.size;
  UPDATE families SET entries = entries - 1, bytes = bytes - old.size WHERE id = old.family;
  DELETE FROM families WHERE id = old.family AND entries = 0;
END;
"""

MARKS: Final = (f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION}")

LOOK_UP: Final = (
    "SELECT data, used < ? FROM entries"
    " WHERE id = ? AND key = ? AND expires > ? AND typeof(data) = 'blob'"
)
_FIRST: Final = Struct(">q24x").unpack
_TOTALS: Final = "SELECT entries, bytes FROM totals"
_NAMED: Final = "SELECT e.id, e.size, f.name FROM entries e LEFT JOIN families f ON f.id = e.family"
_EXPIRED: Final = f"{_NAMED} WHERE e.expires <= ? LIMIT {STEP}"
_OLDEST: Final = f"{_NAMED} ORDER BY e.used LIMIT {STEP}"


class Dropped(NamedTuple):
    """A row that is gone: its family, and ``"evicted"`` or ``"expired"``."""

    family: str
    why: str


class Room(NamedTuple):
    """What a write left behind.

    Args:
        dropped: the rows that had to go.
        full: more has to go than one transaction drops.
        stale: a row whose ``used`` is below it is worth a note when it is used.
    """

    dropped: list[Dropped]
    full: bool
    stale: int


def broken(what: str) -> sqlite3.DatabaseError:
    """Return the error that SQLite has for a file that does not hold what it should."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def number(key: str) -> int:
    """Return the number of the row of *key*."""
    return _FIRST(sha256(key.encode()).digest())[0]  # type: ignore[no-any-return]


class Entries:
    """The rows, as one connection sees them; whoever writes has begun a transaction.

    Args:
        connection: to a file with `SCHEMA` in it.
    """

    __slots__ = ("_connection", "_cursor", "_execute", "look_up")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._cursor = connection.cursor()
        self.look_up = self._cursor.execute

    def prove(self) -> None:
        """Fail unless the tables are there.

        Raises:
            sqlite3.Error: something is missing.
        """
        self.look_up(LOOK_UP, (0, 0, "", 0)).fetchone()
        self._execute(f"{_EXPIRED[:-3]}0", (0,)).fetchone()
        self._totals()

    def close(self) -> None:
        """Close the connection."""
        # After an error the cursor keeps its statement, and that would keep the file open.
        with suppress(sqlite3.Error):
            self._cursor.close()
        self._connection.close()

    def put(self, key: str, family: str, data: bytes, expires: float) -> None:
        """Write the row of *key*, which must not be there."""
        self._execute("INSERT OR IGNORE INTO families (name) VALUES (?)", (family,))
        self._execute(
            "INSERT INTO entries (id, key, family, size, expires, used, data) VALUES"
            " (?, ?, (SELECT id FROM families WHERE name = ?), ?, ?, ?, ?)",
            (number(key), key, family, len(data), expires, self._last_used() + 1, data),
        )

    def drop(self, key: str, now: float) -> str | None:
        """Drop the row of *key*; say whether it was ``"live"`` or ``"expired"``, if it was there.

        A row of another key with the same number goes as well.
        """
        row = self._execute(
            "SELECT key = ? AND expires > ?, key = ? FROM entries WHERE id = ?",
            (key, now, key, number(key)),
        ).fetchone()
        if row is None:
            return None
        self._delete([number(key)])
        live, same = row
        return "live" if live else "expired" if same else None

    def note(self, used: Iterable[int]) -> None:
        """Write down that the rows of these numbers were used, the last one last."""
        last = self._last_used()
        self._connection.executemany(
            "UPDATE entries SET used = ? WHERE id = ?",
            [(last + place, row) for place, row in enumerate(used, 1)],
        )

    def make_room(self, now: float, max_size: int | None, max_bytes: int | None) -> Room:
        """Drop what expired, and what was not used for longest if that is not enough."""
        rows = self._execute(_EXPIRED, (now,)).fetchall()
        self._delete(row for row, _, _ in rows)
        dropped = [Dropped(family, "expired") for _, _, family in rows]
        entries, size = self._totals()
        surplus = entries - max_size if max_size is not None else 0
        excess = size - max_bytes if max_bytes is not None else 0
        if (surplus > 0 or excess > 0) and len(rows) < STEP:
            doomed = []
            for row, taken, family in self._execute(_OLDEST).fetchall():
                if surplus <= 0 and excess <= 0:
                    break
                doomed.append(row)
                dropped.append(Dropped(family, "evicted"))
                surplus -= 1
                excess -= taken
                entries -= 1
            self._delete(doomed)
        return Room(dropped, surplus > 0 or excess > 0, self._last_used() - entries // 8)

    def clear(self, family: str, now: float) -> tuple[int, list[Dropped]]:
        """Drop up to `STEP` rows of *family*; return how many, and those that had expired."""
        rows = self._execute(
            "SELECT id, expires <= ? FROM entries"
            " WHERE family = (SELECT id FROM families WHERE name = ?) LIMIT ?",
            (now, family, STEP),
        ).fetchall()
        self._delete(row for row, _ in rows)
        return len(rows), [Dropped(family, "expired") for _, expired in rows if expired]

    def usage(self, family: str) -> tuple[int, int]:
        """Return how many rows *family* has, and how many bytes they hold."""
        found: tuple[int, int] | None = self._execute(
            "SELECT entries, bytes FROM families WHERE name = ?", (family,)
        ).fetchone()
        return found or (0, 0)

    def _totals(self) -> tuple[int, int]:
        found: tuple[int, int] | None = self._execute(_TOTALS).fetchone()
        if found is None:
            raise broken("no row in totals")
        return found

    def _last_used(self) -> int:
        return self._execute("SELECT max(used) FROM entries").fetchone()[0] or 0

    def _delete(self, rows: Iterable[int]) -> None:
        self._connection.executemany("DELETE FROM entries WHERE id = ?", [(row,) for row in rows])
