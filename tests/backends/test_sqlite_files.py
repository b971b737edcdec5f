"""What a SQLite store does with a file that is not its own, broken, or not to be written."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import sys
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from stand_ins import in_threads

from llmcache.backends import sqlite_entries, sqlite_file, sqlite_links
from llmcache.backends.sqlite import SQLiteStore
from llmcache.errors import LLMCacheError, StoreUnusable

from .asker import Asker
from .sqlite_harm import (
    HARMS,
    change,
    empty,
    remove_all_files,
    rows,
)

Make = Callable[..., SQLiteStore]
Open = Callable[..., Asker]


def test_a_database_of_a_later_version_is_refused_and_left_alone(
    open_store: Open, path: Path
) -> None:
    store = open_store()
    store.set("g:a")
    store.store.close()
    change(path, "PRAGMA user_version = 2")
    before = path.read_bytes()
    for use in (lambda: store.get("g:a"), lambda: store.set("g:a")):
        with pytest.raises(StoreUnusable, match="version 2 of llmcache's schema"):
            use()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert issubclass(StoreUnusable, LLMCacheError) and issubclass(StoreUnusable, OSError)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE mine (a)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"]
)
def test_a_database_of_somebody_else_is_refused_and_left_alone(
    make: Make, path: Path, statement: str
) -> None:
    path.parent.mkdir()
    change(path, statement)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="not made by llmcache"):
        make().set("g:a", b"1", inf)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [0, 100, 5000, 100_000])
def test_a_file_of_garbage_is_set_aside(
    open_store: Open, path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    path.parent.mkdir()
    garbage = random.Random(1).randbytes(size)
    path.write_bytes(garbage)
    store = open_store()
    assert store.get("g:a") is None
    assert store.set("g:a", b"secret") is True
    assert store.get("g:a") == b"secret"
    aside = [file for file in path.parent.iterdir() if ".corrupt-" in file.name]
    if size:
        assert [file.read_bytes() for file in aside] == [garbage]
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("llmcache", logging.WARNING)
        assert path.name in record.getMessage()
        assert str(path) not in record.getMessage()
    else:
        assert not aside
        assert not caplog.records


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE entries", "DROP TABLE families", "DELETE FROM totals", "DROP TABLE totals"],
)
def test_a_database_of_ours_that_lacks_something_is_set_aside(
    make: Make, path: Path, statement: str
) -> None:
    store = make()
    store.set("g:a", b"1", inf)
    change(path, statement)
    assert store.set("g:b", b"1", inf) is True
    assert store.get("g:b") == b"1"
    assert len([file for file in path.parent.iterdir() if ".corrupt-" in file.name]) == 1


def test_a_broken_file_that_cannot_be_set_aside_is_an_error(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "simulated: the directory may not be written")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        make().get("g:a")


def test_a_file_that_somebody_else_has_replaced_is_not_set_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"new")
    assert sqlite_file.set_aside(path, (1, 2), ValueError(), inf) is True
    assert path.read_bytes() == b"new"
    path.unlink()
    assert sqlite_file.set_aside(path, (1, 2), ValueError(), inf) is True


def test_files_that_keep_breaking_are_an_error(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise sqlite_entries.broken("simulated")

    monkeypatch.setattr(sqlite_entries.Entries, "prove", fail)
    with pytest.raises(sqlite3.DatabaseError, match="simulated"):
        make().get("g:a")


@pytest.mark.parametrize("harm", HARMS)
def test_it_heals_when_the_file_is_harmed_under_it(
    open_store: Open, make: Make, path: Path, harm: Callable[[Path], None]
) -> None:
    store = open_store()
    for name in range(200):
        assert store.set(f"g:{name}", b"1" * 500) is True
    assert store.get("g:0") == b"1" * 500
    rows(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    harm(path)
    fresh = make()
    for name in range(200):
        assert store.get(f"g:{name}") in (None, b"1" * 500)
    assert store.set("g:new", b"new") is True
    assert store.get("g:new") == b"new"
    fresh.close()
    assert fresh.get("g:new") == b"new"
    assert rows(path, "PRAGMA quick_check") == ["ok"]


def test_a_reader_notices_within_a_second_that_its_file_has_gone(
    open_store: Open, make: Make, path: Path
) -> None:
    store = open_store()
    store.set("g:a", b"old")
    assert store.get("g:a") == b"old"
    remove_all_files(path)
    make().set("g:a", b"new", inf)
    link = store.store._links.mine.link
    assert link.trusted_until <= sqlite_links.monotonic() + 1
    link.trusted_until = -inf
    assert store.get("g:a") == b"new"


def test_an_error_that_another_connection_may_not_have_is_tried_once_more(make: Make) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    link = store._links.mine.link

    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("simulated: disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    link.look_up = fail  # type: ignore[assignment]
    assert store.get("g:a") == b"data"
    assert not link.alive


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_connection_that_failed_is_closed_like_any_other(make: Make, path: Path) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    rows(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    empty(path)
    link = store._links.mine.link
    with pytest.raises(sqlite3.DatabaseError):
        store._look_up(link, "g:a")
    store.close()
    assert not any(path.name in str(file.resolve()) for file in Path("/proc/self/fd").iterdir())


def test_what_is_broken_twice_is_set_aside(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    tried: list[int] = []
    usage = sqlite_entries.Entries.usage

    def fail(entries: sqlite_entries.Entries, family: str) -> tuple[int, int]:
        if len(tried) < 2:
            tried.append(1)
            raise sqlite_entries.broken("simulated")
        return usage(entries, family)

    monkeypatch.setattr(sqlite_entries.Entries, "usage", fail)
    assert store.usage("g").entries == 0
    assert len(tried) == 2
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1


def test_an_error_that_stays_is_raised(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    tried: list[int] = []

    def fail(*_: object) -> None:
        tried.append(1)
        error = sqlite3.OperationalError("simulated")
        error.sqlite_errorcode = codes[0]
        raise error

    monkeypatch.setattr(sqlite_entries.Entries, "put", fail)
    codes = [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL]
    for times in (2, 1):
        tried.clear()
        with pytest.raises(sqlite3.OperationalError, match="simulated"):
            store.set("g:a", b"new", inf)
        assert len(tried) == times
        del codes[0]
        assert store.get("g:a") == b"data"


def test_threads_that_see_the_same_harm_reopen_once(make: Make) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    link = store._links.mine.link
    store._links._replace(link, None, inf)
    again = store._links._current(inf)
    store._links._replace(link, None, inf)
    assert again.alive


def test_without_shared_memory_it_keeps_a_rollback_journal(open_store: Open, path: Path) -> None:
    """A directory in the place of the shared memory stops SQLite as a file system would."""
    path.parent.mkdir()
    Path(f"{path}-shm").mkdir()
    store = open_store()
    assert store.set("g:a") is True
    assert store.get("g:a") == b"data"
    assert store.set("g:b", b"more") is True
    store.store.close()
    assert store.get("g:b") == b"more"
    assert rows(path, "PRAGMA journal_mode") == ["delete"]


def test_a_file_that_cannot_be_made_is_an_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        make(tmp_path / "file" / "answers.db").set("g:a", b"1", inf)
    (tmp_path / "directory").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        make(tmp_path / "directory").get("g:a")


def test_a_failed_beginning_leaves_nothing_half_made(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "MARKS", ("SELECT * FROM nothing",))
        with pytest.raises(sqlite3.OperationalError, match="nothing"):
            make().get("g:a")
    assert rows(path, "SELECT name FROM sqlite_master") == []
    assert make().set("g:a", b"1", inf) is True


def test_who_comes_second_to_a_new_file_takes_what_is_there(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pragma = sqlite_file._pragma
    pending = [make()]

    def pragma_after_another(connection: sqlite3.Connection, name: str) -> Any:
        if name == "journal_mode = WAL" and pending:
            monkeypatch.setattr(sqlite_links, "_opening", threading.Lock())
            assert pending.pop().set("g:a", b"1", inf) is True
        return pragma(connection, name)

    monkeypatch.setattr(sqlite_file, "_pragma", pragma_after_another)
    assert make().get("g:a") == b"1"


def test_what_cannot_be_written_is_read(
    open_store: Open, make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated here, so that it runs for everybody; done for real in ``test_sqlite_faults``."""
    make().set("g:a", b"data", inf)
    make().set("g:b", b"data", 1)
    for store in list(sqlite_links._known):
        store.close()

    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("simulated: unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    store = open_store()
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "_shared", fail)
        patched.setattr(sqlite_file, "_unshared", fail)
        assert store.get("g:a") == b"data"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            store.set("g:a", b"new")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            store.delete("g:a")
        assert store.size() == 2
        link = store.store._links.mine.link
        os.utime(path)
        assert store.get("g:a") == b"data"
        link.trusted_until = -inf
        assert store.get("g:a") == b"data"
        assert store.store._links.mine.link is not link
        store.store._links.mine.link.trusted_until = -inf
        Path(f"{path}-wal").write_bytes(b"something was deleted")
        with pytest.raises(sqlite3.OperationalError, match="simulated"):
            store.get("g:a")
    Path(f"{path}-wal").unlink()
    assert store.set("g:a", b"new") is True
    assert store.get("g:a") == b"new"


def test_two_that_begin_at_once_agree(make: Make) -> None:
    stores = [make() for _ in range(4)]

    def work(thread: int) -> bool:
        return stores[thread].set(f"g:{thread}", b"1", inf)

    assert in_threads(work, threads=4) == [True] * 4
    assert stores[0].usage("g").entries == 4
