"""The SQLite store keeps what it said it stored, in bounds, for every thread and process."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from stand_ins import FakeClock, in_threads

from llmcache.backends import sqlite_entries, sqlite_file, sqlite_link, sqlite_links
from llmcache.backends.lone_thread import LoneThread
from llmcache.backends.sqlite import SQLiteStore
from llmcache.errors import LLMCacheError, StoreUnusable

from .asker import Asker, watch
from .sqlite_harm import (
    EVERYBODY,
    WRITERS,
    change,
    empty,
    locked,
    overwrite_all,
    overwrite_pages,
    remove_all_files,
    remove_directory,
    remove_file,
    remove_journal,
    replace,
    rows,
    truncate,
)

Make = Callable[..., SQLiteStore]
Open = Callable[..., Asker]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "answers.db"


@pytest.fixture
def make(path: Path, clock: FakeClock) -> Iterator[Make]:
    """Makes stores that wait for long, since the machine may be busy."""
    stores: list[SQLiteStore] = []

    def make(where: Path = path, **options: Any) -> SQLiteStore:
        store = SQLiteStore(where, **{"clock": clock.clock, "timeout": 30.0, **options})
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def open_store(request: pytest.FixtureRequest, make: Make) -> Iterator[Open]:
    with asyncio.Runner() as runner:
        yield lambda **options: Asker(make(**options), runner if request.param else None)


def test_making_a_store_opens_nothing(make: Make, path: Path) -> None:
    threads = threading.active_count()
    store = make()
    store.close()
    assert not path.parent.exists()
    assert threading.active_count() == threads
    assert (store.path, store.prefix, store.timeout) == (path, "", 30.0)


def test_a_store_has_bounds_and_a_timeout_of_its_own(path: Path) -> None:
    store = SQLiteStore(str(path))
    assert (store.max_size, store.max_bytes) == (100_000, 1 << 30)
    assert store.timeout == 0.1


def test_without_bounds_nothing_is_evicted(make: Make) -> None:
    store = make(max_size=None, max_bytes=None)
    for name in range(50):
        store.set(f"g:{name}", b"data", inf)
    assert store.usage("g") == (50, 200)


def test_time_is_the_system_s_unless_told_otherwise(make: Make) -> None:
    store = make(clock=None)
    assert store.set("g:a", b"data", 600) is True
    assert store.get("g:a") == b"data"


def test_entries_outlive_the_store(make: Make) -> None:
    make().set("g:a", b"data", inf)
    assert make().get("g:a") == b"data"


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    monkeypatch.chdir(tmp_path)
    store = make(Path("a b?c%20.db"))
    monkeypatch.chdir("/")
    store.set("g:a", b"data", inf)
    assert rows(tmp_path / "a b?c%20.db") == ["g:a"]


def test_prefixes_share_a_file_and_no_entries(make: Make, path: Path) -> None:
    one, two = make(prefix="one:"), make(prefix="two:")
    told = watch(two)
    one.set("g:a", b"1", inf)
    two.set("g:a", b"2", inf)
    assert rows(path) == ["one:g:a", "two:g:a"]
    assert one.get("g:a") == b"1"
    one.clear("g")
    assert (one.usage("g").entries, two.usage("g").entries) == (0, 1)
    make(prefix="two:", max_size=1).set("g:b", b"3", inf)
    assert two.get("g:a") is None
    assert not told


def test_what_is_closed_opens_again(open_store: Open) -> None:
    store = open_store()
    store.set("g:a")
    for _ in range(2):
        store.store.close()
        assert store.get("g:a") == b"data"
        store.store.close()
        store.store.close()
        assert store.set("g:b") is True


def test_the_awaitable_close_closes(make: Make, path: Path) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    assert Path(f"{path}-wal").exists()
    asyncio.run(store.aclose())
    assert not Path(f"{path}-wal").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_nobody_else_can_read_the_file(make: Make, path: Path) -> None:
    before = os.umask(0)
    try:
        make().set("g:a", b"data", inf)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_journal_that_outlived_its_database_is_not_played_back(make: Make, path: Path) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    journal = Path(f"{path}-wal").read_bytes()
    store.close()
    path.unlink()
    Path(f"{path}-wal").write_bytes(journal)
    assert make().get("g:a") is None


def test_rows_with_the_same_number_do_not_answer_for_each_other(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "sqlite_entries"):
        monkeypatch.setattr(f"llmcache.backends.{module}.number", lambda key: 7)
    store = make()
    store.set("g:a", b"a", inf)
    assert store.get("h:b") is None
    assert store.delete("h:b") is False
    assert store.set("g:a", b"a", inf) is True
    assert store.set("h:b", b"b", inf) is True
    assert store.get("g:a") is None
    assert store.get("h:b") == b"b"
    assert (store.usage("g"), store.usage("h")) == ((0, 0), (1, 1))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET data = 'text'",
        "UPDATE entries SET data = CAST(x'ff80' AS TEXT)",
        "UPDATE entries SET data = 5",
        "UPDATE entries SET key = x'ff'",
        "UPDATE entries SET expires = 0",
    ],
)
def test_columns_of_other_types_are_no_answers(
    open_store: Open, path: Path, statement: str
) -> None:
    store = open_store()
    store.set("g:a")
    change(path, statement)
    assert store.get("g:a") is None
    assert store.set("g:a", b"new") is True
    assert store.get("g:a") == b"new"


def test_the_sums_are_right_whatever_is_done(make: Make, path: Path) -> None:
    store = make(max_size=20, max_bytes=300)
    chance = random.Random(5)
    for _ in range(500):
        key = f"{chance.choice('gh')}:{chance.randrange(40)}"
        store.set(key, bytes(chance.randrange(60)), inf)
        if chance.random() < 0.2:
            store.delete(key)
        if chance.random() < 0.02:
            store.clear("g")
    assert rows(path, "SELECT entries, bytes FROM totals") == rows(
        path, "SELECT count(*), sum(size) FROM entries"
    )
    assert rows(path, "SELECT name, entries, bytes FROM families ORDER BY name") == rows(
        path,
        "SELECT substr(key, 1, 1), count(*), sum(length(data)) FROM entries GROUP BY 1 ORDER BY 1",
    )
    assert rows(path, "SELECT count(*) <= 20 AND sum(size) <= 300 FROM entries") == [1]


def test_one_large_value_may_drive_out_more_than_one_step(make: Make, clock: FakeClock) -> None:
    store = make(max_bytes=10_000)
    told = watch(store)
    for name in range(1000):
        store.set(f"g:{name}", b"1234567890", 10 if name < 300 else inf)
    assert store.usage("g") == (1000, 10_000)
    clock.advance(10)
    assert store.set("g:large", bytes(10_000), inf) is True
    assert store.usage("g") == (1, 10_000)
    assert told == {"expired": 300, "evicted": 700}


def test_what_there_was_no_time_to_drop_goes_with_the_next_writes(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(max_bytes=10_000)
    for name in range(1000):
        store.set(f"g:{name}", b"1234567890", inf)
    monkeypatch.setattr("llmcache.backends.sqlite.monotonic", lambda: inf)
    assert store.set("g:large", bytes(10_000), inf) is True
    assert store.usage("g").entries == 801
    for _ in range(4):
        store.set("g:large", bytes(10_000), inf)
    assert store.usage("g").entries == 1


def test_many_expired_entries_are_not_counted(make: Make, clock: FakeClock) -> None:
    store = make()
    told = watch(store)
    for name in range(450):
        store.set(f"g:{name}", b"1", 10)
    store.set("g:live", b"1", inf)
    clock.advance(10)
    assert store.usage("g") == (1, 1)
    assert told == {"expired": 450}


def test_a_large_group_is_cleared_in_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    for name in range(450):
        store.set(f"g:{name}", b"1", inf)
    steps: list[int] = []
    clear = sqlite_entries.Entries.clear

    def counted(*args: Any) -> Any:
        found, dropped = clear(*args)
        steps.append(found)
        return found, dropped

    monkeypatch.setattr(sqlite_entries.Entries, "clear", counted)
    store.clear("g")
    assert steps == [200, 200, 50]
    assert store.usage("g") == (0, 0)


def test_a_use_is_noted_when_it_matters_and_not_at_every_read(make: Make, path: Path) -> None:
    store = make(max_size=100)
    for name in range(100):
        store.set(f"g:{name}", b"1", inf)
    used = "SELECT used FROM entries ORDER BY id"
    before = rows(path, used)
    for _ in range(3):
        store.get("g:95")
    store.set("g:99", b"1", inf)
    assert rows(path, used) == before
    store.get("g:0")
    store.set("g:99", b"1", inf)
    assert sum(new != old for new, old in zip(rows(path, used), before, strict=True)) == 2
    for name in range(100, 150):
        store.set(f"g:{name}", b"1", inf)
    assert store.get("g:0") == b"1"
    assert store.get("g:1") is None


def test_notes_are_bounded_and_written_in_steps(make: Make) -> None:
    store = make()
    for name in range(1200):
        store.set(f"g:{name}", b"1", inf)
    reader = make()
    for name in range(1200):
        reader.get(f"g:{name}")
    assert len(reader._noted) == 1000
    reader.set("g:new", b"1", inf)
    assert len(reader._noted) == 800


def test_a_failing_watcher_does_not_undo_the_write(make: Make) -> None:
    store = make(max_size=1)

    def fail(why: str) -> None:
        raise ValueError(why)

    store.watch("g", fail)
    store.set("g:a", b"1", inf)
    with pytest.raises(ValueError, match="evicted"):
        store.set("g:b", b"1", inf)
    assert store.get("g:b") == b"1"


def test_a_value_that_sqlite_refuses_raises_and_leaves_the_old_one(make: Make) -> None:
    store = make()
    store.set("g:a", b"1", inf)
    with pytest.raises((sqlite3.Error, TypeError)):
        store.set("g:a", ["no", "bytes"], inf)  # type: ignore[arg-type]
    assert store.get("g:a") == b"1"
    assert store.usage("g") == (1, 1)


# Threads, tasks, forks.


def test_the_connection_of_a_dead_thread_is_closed(make: Make) -> None:
    store = make()
    store.get("g:a")
    in_threads(lambda _: store.get("g:a"), threads=4)
    assert len(store._links._open) == 1


def test_closing_under_running_threads_breaks_nothing(make: Make) -> None:
    store = make()
    store.set("g:a", b"data", inf)

    def work(thread: int) -> None:
        for turn in range(100):
            if thread == 0:
                store._links.close()
            elif thread == 1:
                assert store.set("g:b", b"%d" % turn, inf) is True
            else:
                assert store.get("g:a") == b"data"

    in_threads(work, threads=4)


def test_a_connection_that_is_opened_during_a_close_breaks_nothing(make: Make) -> None:
    class Changing(weakref.WeakSet[sqlite_links.Link]):
        changes = 2

        def __iter__(self) -> Iterator[sqlite_links.Link]:
            if self.changes:
                self.changes -= 1
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    store = make()
    store.set("g:a", b"data", inf)
    link = store._links.mine.link
    store._links._open = Changing([link])
    store.close()
    assert not link.alive


def test_tasks_read_and_write_at_once(make: Make) -> None:
    store = make()

    async def one(number: int) -> None:
        for turn in range(5):
            key = f"g:{number} {turn}"
            assert await store.aget(key) is None
            assert await store.aset(key, key.encode(), inf) is True
            assert await store.aget(key) == key.encode()
        assert await store.adelete(f"g:{number} 0") is True

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(50)))

    asyncio.run(all_of_them())
    assert store.usage("g").entries == 200


def test_an_awaited_hit_needs_no_other_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()

    async def use() -> None:
        await store.aset("g:a", b"data", inf)
        await store.aget("g:a")
        monkeypatch.setattr(store._thread, "submit", None)
        for _ in range(3):
            assert await store.aget("g:a") == b"data"
            store._links.mine.link.trusted_until = -inf

    asyncio.run(use())


def test_a_fork_inherits_no_connection(make: Make) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    asyncio.run(store.aset("g:b", b"data", inf))
    links = list(store._links._open)
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            assert not list(store._links._open)
            assert store.get("g:a") == b"data"
            assert store.set("g:child", b"1", inf)
            assert asyncio.run(store.aset("g:child 2", b"2", inf))
            code = 0
        finally:
            os._exit(code)
    assert all(not link.alive for link in links)
    assert store.set("g:parent", b"3", inf) is True
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert store.get("g:child") == b"1"
    assert store.get("g:child 2") == b"2"


def test_an_inherited_connection_is_left_to_the_process_that_opened_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inherited: list[sqlite3.Connection] = []
    monkeypatch.setattr(sqlite_link, "_inherited", inherited)
    connection = sqlite_link.Connection(":memory:")
    connection._process = 0
    connection.__del__()
    assert inherited == [connection]
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection._process = os.getpid()
    connection.__del__()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


def test_nothing_is_done_when_the_interpreter_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    link = store._links.mine.link
    with monkeypatch.context() as gone:
        for name in ("os", "sqlite3", "suppress"):
            gone.setattr(sqlite_link, name, None)
        link.__del__(lambda: True)
        link._connection.__del__(lambda: True)
    assert store.get("g:a") == b"data"


def test_a_connection_that_was_in_use_at_a_fork_is_left_to_its_process(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited: list[sqlite3.Connection] = []
    monkeypatch.setattr(sqlite_link, "_inherited", inherited)
    store = make()
    store.set("g:a", b"data", inf)
    link = store._links.mine.link
    link._pid = 1
    store._links.forget()
    del link
    assert store.get("g:a") == b"data"
    assert [row[0] for row in inherited.pop().execute("SELECT data FROM entries")] == [b"data"]


def test_a_connection_that_somebody_keeps_using_is_left_to_him(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_link, "_CLOSING", 0.0)
    store = make()
    store.set("g:a", b"data", inf)
    link = store._links.mine.link
    with link.lock:
        store.close()
    assert store.get("g:a") == b"data"
    assert store._links.mine.link is not link


def test_the_process_ends_at_once(path: Path) -> None:
    code = f"""
import asyncio, time
from llmcache.backends.sqlite import SQLiteStore
store = SQLiteStore({str(path)!r}, timeout=30)
async def main():
    await store.aset("g:a", b"data", 60)
    asyncio.ensure_future(store.aset("g:b", b"data", 60))
    await asyncio.sleep(0)
asyncio.run(main())
print(time.monotonic())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import time

    assert time.monotonic() - float(done.stdout) < 1.5
    assert done.stderr == ""
    assert "g:a" in rows(path)


# One thread for the writes of tasks.


def test_a_lone_thread_works_in_order_and_ends() -> None:
    thread = LoneThread("test")
    done: list[int] = []
    for number in range(20):
        last = thread.submit(lambda number=number: done.append(number))
    last.result()
    assert done == list(range(20))
    worker = thread._thread
    assert worker is not None
    assert not worker.daemon
    thread.stop(10)
    assert not worker.is_alive()
    thread.stop(10)
    assert thread.submit(lambda: 5).result() == 5
    thread.stop(10)


def test_an_idle_lone_thread_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcache.backends.lone_thread.LINGER", 0.0)
    thread = LoneThread("test")
    assert thread.submit(lambda: 5).result() == 5
    if worker := thread._thread:
        worker.join(10)
    assert thread._thread is None


def test_a_lone_thread_hands_errors_over_and_goes_on() -> None:
    thread = LoneThread("test")
    with pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 // 0).result()
    held, entered = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        held.wait()

    thread.submit(wait)
    entered.wait()
    unwanted = thread.submit(lambda: pytest.fail("was cancelled"))
    assert unwanted.cancel()
    held.set()
    assert thread.submit(lambda: thread.stop(10)).result() is None


def test_where_no_thread_can_start_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LoneThread("test")

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            thread.submit(lambda: 5)
    assert thread.submit(lambda: 5).result() == 5
    thread.stop(10)


def test_a_forked_lone_thread_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LoneThread("test")
    thread.submit(lambda: 5).result()
    worker = thread._thread
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: 1)
        thread.stop(10)
        assert thread._thread is worker
        assert thread.submit(lambda: 5).result() == 5
        assert thread._thread is not worker
        thread.stop(10)


# Files that are not ours, or broken.


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


# Under a running process.


@pytest.mark.parametrize(
    "harm",
    [
        remove_file,
        remove_journal,
        remove_all_files,
        remove_directory,
        truncate,
        empty,
        overwrite_all,
        overwrite_pages,
        replace,
    ],
)
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


# Locked.


@pytest.fixture
def lock(path: Path) -> Iterator[Callable[..., Callable[[], None]]]:
    """Another process that locks the database, for writers or for everybody."""
    with ExitStack() as stack:
        yield lambda *statements: stack.enter_context(locked(path, *statements))


def test_who_locks_the_database_stops_writers_for_their_time_and_no_reader(
    open_store: Open, lock: Callable[..., Callable[[], None]]
) -> None:
    store = open_store(timeout=0.05)
    while not _eventually_set(store):
        pass
    unlock = lock(*WRITERS)
    before = sqlite_links.monotonic()
    for use in (
        lambda: store.set("g:a", b"new"),
        lambda: store.delete("g:a"),
        lambda: store.clear("g"),
    ):
        with pytest.raises(TimeoutError):
            use()
    assert sqlite_links.monotonic() - before < 3
    assert store.get("g:a") == b"data"
    assert store.size() == 1
    unlock()
    store.store._timeout = 30.0
    assert store.set("g:a", b"new") is True
    assert store.get("g:a") == b"new"


def _eventually_set(store: Asker) -> bool:
    try:
        return store.set("g:a")
    except TimeoutError:
        return False


def test_a_writer_waits_for_as_long_as_it_may(
    open_store: Open, lock: Callable[..., Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.set("g:a")
    unlock = lock(*WRITERS)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            unlock()

    monkeypatch.setattr(sqlite_link, "sleep", pause)
    assert store.set("g:a", b"new") is True
    assert len(pauses) >= 3
    assert store.get("g:a") == b"new"


def test_a_reader_that_is_locked_out_waits_on_another_thread(
    open_store: Open, lock: Callable[..., Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_store()
    first.set("g:a")
    first.store.close()
    unlock = lock(*EVERYBODY)
    waited: list[threading.Thread] = []

    def pause(seconds: float) -> None:
        waited.append(threading.current_thread())
        if len(waited) == 3:
            unlock()

    monkeypatch.setattr(sqlite_link, "sleep", pause)
    assert first.get("g:a") == b"data"
    assert len(waited) >= 3
    if first.runner is not None:
        assert threading.current_thread() not in waited


def test_a_reader_that_stays_locked_out_is_told_in_time(
    open_store: Open, lock: Callable[..., Callable[[], None]]
) -> None:
    store = open_store()
    store.set("g:a")
    store.store.close()
    unlock = lock(*EVERYBODY)
    store.store._timeout = 0.05
    with pytest.raises(TimeoutError):
        store.get("g:a")
    unlock()


def test_within_is_less_than_the_timeout_or_counts_for_nothing(
    make: Make, lock: Callable[..., Callable[[], None]]
) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    unlock = lock(*WRITERS)
    with pytest.raises(TimeoutError):
        store.set("g:a", b"new", inf, within=0.0)
    with pytest.raises(TimeoutError):
        store.delete("g:a", within=-1.0)
    assert store.get("g:a", within=0.0) == b"data"
    unlock()


def test_a_thread_waits_for_another_one_no_longer_than_it_may(make: Make) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    with store._links.writing, pytest.raises(TimeoutError):
        store.set("g:a", b"new", inf, within=0.01)


def test_a_task_whose_time_is_over_before_its_turn_is_told(make: Make) -> None:
    store = make()

    async def use() -> None:
        held = threading.Event()
        store._thread.submit(held.wait)
        late = asyncio.ensure_future(store.aset("g:a", b"1", inf, within=-1.0))
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(TimeoutError):
            await late

    asyncio.run(use())


def test_making_the_file_waits_for_others_who_do(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    path.parent.mkdir()
    held = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(TimeoutError, match="directory"):
        make().get("g:a", within=0.0)

    def finish(_: float) -> None:
        path.write_bytes(b"")
        fcntl.flock(held, fcntl.LOCK_UN)

    monkeypatch.setattr(sqlite_file, "sleep", finish)
    assert make().get("g:a") is None
    os.close(held)


def test_where_directories_cannot_be_locked_it_goes_without(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: int) -> None:
        raise OSError(38, "simulated: no such lock here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert make().set("g:a", b"1", inf) is True


# Where not everything can be done.


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


# Everything at once.


class Agreement(RuleBasedStateMachine):
    """Whatever is done, a store without bounds says what a dictionary says."""

    keys = st.sampled_from(["g:a", "g:b", "h:a"])

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.path = Path(self.directory.name, "answers.db")
        self.store = SQLiteStore(self.path, clock=self.clock.clock, timeout=30.0)
        self.runner = asyncio.Runner()
        self.model: dict[str, tuple[bytes, float]] = {}

    def teardown(self) -> None:
        self.store.close()
        self.runner.close()
        self.directory.cleanup()

    def live(self, key: str) -> bytes | None:
        data, expires = self.model.get(key, (b"", -inf))
        return data if self.clock.now < expires else None

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.store.get(key) == self.live(key)
        assert self.runner.run(self.store.aget(key)) == self.live(key)

    @rule(
        key=keys, data=st.binary(max_size=5), ttl=st.sampled_from([1, 5, inf]), later=st.booleans()
    )
    def set(self, key: str, data: bytes, ttl: float, later: bool) -> None:
        if later:
            assert self.runner.run(self.store.aset(key, data, ttl)) is True
        else:
            assert self.store.set(key, data, ttl) is True
        self.model[key] = data, self.clock.now + ttl

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (self.live(key) is not None)
        self.model.pop(key, None)

    @rule(group=st.sampled_from("gh"))
    def clear(self, group: str) -> None:
        self.store.clear(group)
        self.model = {key: value for key, value in self.model.items() if key[0] != group}

    @rule(group=st.sampled_from("gh"))
    def usage(self, group: str) -> None:
        live = [self.live(key) for key in self.model if key[0] == group]
        found = [data for data in live if data is not None]
        assert self.store.usage(group) == (len(found), sum(map(len, found)))

    @rule(seconds=st.sampled_from([1, 4]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reopen(self) -> None:
        self.store.close()


TestAgreement = Agreement.TestCase


def test_the_loop_reads_and_leaves_the_writing_to_another_thread(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is never stalled, however slow the disk is."""
    store = make()
    readers: Counter[int] = Counter()
    writers: Counter[int] = Counter()
    look_up, write = store._look_up, store._write

    def looked_up(*args: Any) -> Any:
        readers[threading.get_ident()] += 1
        return look_up(*args)

    def written(*args: Any) -> Any:
        writers[threading.get_ident()] += 1
        return write(*args)

    async def work(number: int) -> None:
        for turn in range(4):
            assert await store.aset(f"g:{number} {turn}", b"data", inf)
            assert await store.aget("g:hit") == b"data"
            await asyncio.sleep(0)

    async def main() -> None:
        await store.aset("g:hit", b"data", inf)
        await store.aget("g:hit")
        readers.clear()
        await asyncio.gather(*map(work, range(50)))

    monkeypatch.setattr(store, "_look_up", looked_up)
    monkeypatch.setattr(store, "_write", written)
    asyncio.run(main())
    here = threading.get_ident()
    assert readers == {here: 200}
    assert len(writers) == 1
    assert here not in writers
    assert writers.total() >= 201
