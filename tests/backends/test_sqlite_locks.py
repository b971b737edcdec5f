"""Whoever finds a SQLite file locked waits for as long as it may, and is told."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path

import pytest

from llmcache.backends import sqlite_file, sqlite_link, sqlite_links
from llmcache.backends.sqlite import SQLiteStore

from .asker import Asker
from .sqlite_harm import (
    EVERYBODY,
    WRITERS,
    locked,
)

Make = Callable[..., SQLiteStore]
Open = Callable[..., Asker]


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
