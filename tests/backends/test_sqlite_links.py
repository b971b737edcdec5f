"""Each thread has a connection of its own to the file of a SQLite store, and no fork has one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest
from stand_ins import in_threads

from llmcache.backends import sqlite_link, sqlite_links
from llmcache.backends.sqlite import SQLiteStore

from .sqlite_harm import (
    rows,
)

Make = Callable[..., SQLiteStore]


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
