"""A store of this machine keeps what was used last, until it expires, and says what it drops."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

import pytest
from stand_ins import FakeClock, in_threads

from llmcache.backends.memory import MemoryStore
from llmcache.backends.sqlite import SQLiteStore

from .asker import Asker, watch

Open = Callable[..., Asker]


@pytest.fixture(params=["memory", "SQLite"])
def make(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Callable[..., Any]:
    paths = (tmp_path / f"{number}.db" for number in itertools.count())

    def make(**options: Any) -> Any:
        if request.param == "memory":
            return MemoryStore(clock=clock.clock, **options)
        return SQLiteStore(next(paths), clock=clock.clock, timeout=30.0, **options)

    return make


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def open_store(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Iterator[Open]:
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if request.param else None

        def open_store(**options: Any) -> Asker:
            store = make(**options)
            stack.callback(store.close)
            return Asker(store, runner)

        yield open_store


def test_what_is_set_is_there(open_store: Open) -> None:
    store = open_store()
    assert store.get("g:a") is None
    assert store.set("g:a", b"one") is True
    assert store.get("g:a") == b"one"
    assert store.set("g:a", b"") is True
    assert store.get("g:a") == b""
    assert store.get("g:b") is None
    assert store.get("h:a") is None


def test_what_is_deleted_is_gone(open_store: Open) -> None:
    store = open_store()
    dropped = store.watch()
    store.set("g:a")
    store.set("g:b")
    assert store.delete("g:a") is True
    assert store.delete("g:a") is False
    assert store.get("g:a") is None
    assert store.size() == 1
    assert not dropped


def test_the_one_unused_for_longest_goes(open_store: Open) -> None:
    store = open_store(max_size=3)
    dropped = store.watch()
    for key in ("g:a", "g:b", "g:c", "g:d", "g:e"):
        store.set(key)
    assert [key for key in "abcde" if store.get(f"g:{key}")] == ["c", "d", "e"]
    assert dropped == {"evicted": 2}


def test_a_read_is_a_use(open_store: Open) -> None:
    store = open_store(max_size=2)
    store.set("g:a")
    store.set("g:b")
    store.get("g:a")
    store.set("g:c")
    assert store.get("g:b") is None
    assert store.get("g:a") == b"data"


def test_a_write_is_a_use(open_store: Open) -> None:
    store = open_store(max_size=2)
    dropped = store.watch()
    store.set("g:a")
    store.set("g:b")
    store.set("g:a", b"new")
    assert not dropped
    store.set("g:c")
    assert store.get("g:b") is None
    assert store.get("g:a") == b"new"
    assert dropped == {"evicted": 1}


def test_asking_for_the_size_is_no_use(open_store: Open) -> None:
    store = open_store(max_size=2)
    store.set("g:a")
    store.set("g:b")
    store.size()
    store.set("g:c")
    assert store.get("g:a") is None


def test_nothing_outlives_its_ttl(open_store: Open, clock: FakeClock) -> None:
    store = open_store()
    dropped = store.watch()
    store.set("g:a", ttl=10)
    store.set("g:b", ttl=20)
    clock.advance(9.5)
    assert store.get("g:a") == b"data"
    clock.advance(0.5)
    assert store.get("g:a") is None
    assert store.delete("g:a") is False
    assert store.size() == 1
    assert dropped == {"expired": 1}
    clock.advance(10)
    assert store.size() == 0
    assert dropped == {"expired": 2}


def test_a_new_write_is_a_new_life(open_store: Open, clock: FakeClock) -> None:
    store = open_store()
    store.set("g:a", ttl=10)
    clock.advance(9)
    store.set("g:a", ttl=10)
    clock.advance(9)
    assert store.get("g:a") == b"data"
    store.set("g:a", ttl=1)
    clock.advance(1)
    assert store.get("g:a") is None


def test_an_expired_entry_may_be_set_again(open_store: Open, clock: FakeClock) -> None:
    store = open_store()
    dropped = store.watch()
    store.set("g:a", ttl=10)
    clock.advance(10)
    assert store.set("g:a", b"new", 10) is True
    assert store.get("g:a") == b"new"
    assert store.size() == 1
    assert dropped == {"expired": 1}


def test_some_entries_never_expire(open_store: Open, clock: FakeClock) -> None:
    store = open_store()
    store.set("g:a", ttl=inf)
    clock.advance(1e12)
    assert store.get("g:a") == b"data"


@pytest.mark.parametrize("bound", [{"max_size": 2}, {"max_bytes": 8}], ids=str)
def test_an_expired_entry_goes_before_a_live_one(
    open_store: Open, clock: FakeClock, bound: dict[str, int]
) -> None:
    store = open_store(**bound)
    dropped = store.watch()
    store.set("g:live", b"data", 100)
    store.set("g:dead", b"data", 10)
    clock.advance(10)
    store.set("g:new", b"data", 100)
    assert store.get("g:live") == b"data"
    assert dropped == {"expired": 1}


def test_bytes_are_bounded(open_store: Open) -> None:
    store = open_store(max_bytes=10)
    dropped = store.watch()
    store.set("g:a", b"1234")
    store.set("g:b", b"1234")
    store.set("g:c", b"12")
    assert store.size() == 3
    store.set("g:d", b"12345")
    assert [key for key in "abcd" if store.get(f"g:{key}")] == ["c", "d"]
    assert dropped == {"evicted": 2}
    assert store.set("g:e", b"1234567890") is True
    assert store.store.usage("g") == (1, 10)


def test_a_larger_value_takes_only_the_room_it_adds(open_store: Open) -> None:
    store = open_store(max_bytes=10)
    dropped = store.watch()
    store.set("g:a", b"12345")
    store.set("g:b", b"12345")
    store.set("g:b", b"54321")
    assert store.size() == 2
    assert not dropped


def test_both_bounds_hold(open_store: Open) -> None:
    store = open_store(max_size=2, max_bytes=10)
    store.set("g:a", b"1")
    store.set("g:b", b"1")
    store.set("g:c", b"1")
    assert store.size() == 2
    store.set("g:d", b"1234567890")
    assert store.size() == 1


def test_a_value_larger_than_all_room_is_not_stored(open_store: Open) -> None:
    store = open_store(max_bytes=10)
    dropped = store.watch()
    store.set("g:a", b"1")
    assert store.set("g:b", b"12345678901") is False
    assert store.get("g:b") is None
    assert store.get("g:a") == b"1"
    assert store.size() == 1
    assert not dropped


@pytest.mark.parametrize(
    ("data", "ttl"), [(b"12345678901", inf), (b"1234", 0)], ids=["too large", "no time to live"]
)
def test_a_refused_value_does_not_leave_the_old_one(
    open_store: Open, data: bytes, ttl: float
) -> None:
    store = open_store(max_bytes=10)
    dropped = store.watch()
    store.set("g:a", b"1")
    store.set("g:b", b"1")
    assert store.set("g:a", data, ttl) is False
    assert store.get("g:a") is None
    assert store.get("g:b") == b"1"
    assert store.size() == 1
    assert not dropped


@pytest.mark.parametrize("ttl", [0, 0.0, -1])
def test_without_time_to_live_nothing_is_stored(open_store: Open, ttl: float) -> None:
    store = open_store()
    assert store.set("g:a", ttl=ttl) is False
    assert store.get("g:a") is None
    assert store.size() == 0


@pytest.mark.parametrize(
    ("data", "ttl"), [(b"data", 0), (b"data", -1), (b"data", 1e-12), (b"12345678901", inf)], ids=str
)
def test_what_is_not_stored_takes_no_room(open_store: Open, data: bytes, ttl: float) -> None:
    store = open_store(max_size=1, max_bytes=10)
    dropped = store.watch()
    store.set("g:a")
    if not store.set("g:b", data, ttl):
        assert store.get("g:a") == b"data"
        assert not dropped


def test_what_is_said_to_be_stored_is_there(open_store: Open) -> None:
    store = open_store()
    stored = store.set("g:a", ttl=1e-12)
    assert stored == (store.get("g:a") is not None)
    assert store.size() == int(stored)


def test_a_group_is_counted_and_cleared_alone(open_store: Open, clock: FakeClock) -> None:
    store = open_store()
    for key in ("g:a", "g:b", "h:a", "gg:a"):
        store.set(key, ttl=10)
    dropped = store.watch("g"), store.watch("h")
    assert (store.size("g"), store.size("h"), store.size("gg"), store.size("i")) == (2, 1, 1, 0)
    store.clear("g")
    assert (store.size("g"), store.size("h"), store.size("gg")) == (0, 1, 1)
    assert store.get("g:a") is None
    assert store.get("h:a") == b"data"
    store.clear("nothing")
    clock.advance(10)
    store.clear("h")
    assert store.size("h") == 0
    assert dropped == ({}, {"expired": 1})


def test_each_group_has_a_watcher_of_its_own(open_store: Open, clock: FakeClock) -> None:
    store = open_store(max_size=3)
    g, h = store.watch("g"), store.watch("h")
    store.set("g:a", ttl=10)
    store.set("h:a", ttl=10)
    store.set("h:b", ttl=inf)
    store.set("unwatched:a", ttl=10)
    assert (g, h) == ({"evicted": 1}, {})
    clock.advance(10)
    store.size("g")
    assert (g, h) == ({"evicted": 1}, {"expired": 1})


def test_the_last_watcher_is_told_alone(open_store: Open) -> None:
    store = open_store(max_size=1)
    first = store.watch()
    last = store.watch()
    store.set("g:a")
    store.set("g:b")
    assert (first, last) == ({}, {"evicted": 1})


def test_each_removal_is_told_once(open_store: Open, clock: FakeClock) -> None:
    store = open_store()
    dropped = store.watch()
    store.set("g:a", ttl=10)
    clock.advance(10)
    for _ in range(2):
        store.get("g:a")
        store.delete("g:a")
        store.size()
        store.clear("g")
    assert dropped == {"expired": 1}


def test_many_threads_lose_nothing(make: Callable[..., Any], clock: FakeClock) -> None:
    store = make(max_size=40, max_bytes=400)
    turns = 400 if isinstance(store, MemoryStore) else 60
    dropped = {group: watch(store, group) for group in "gh"}

    def work(thread: int) -> tuple[int, int]:
        chance = random.Random(thread)
        stored = deleted = 0
        mine: list[str] = []
        for turn in range(turns):
            key = f"{chance.choice('gh')}:{thread} {turn}"
            data = key.encode() * chance.randrange(1, 5)
            stored += store.set(key, data, chance.choice([1, 5, inf]))
            mine.append(key)
            known = chance.choice(mine)
            if chance.random() < 0.3:
                deleted += store.delete(known)
            elif (found := store.get(known)) is not None:
                assert found.startswith(known.encode())
            if chance.random() < 0.1:
                clock.advance(1)
            assert store.usage(chance.choice("gh")).entries in range(41)
        return stored, deleted

    done = in_threads(work, threads=8)
    live = sum(store.usage(group).entries for group in "gh")
    told = sum(dropped.values(), Counter[str]())
    stored, deleted = map(sum, zip(*done, strict=True))
    assert stored == live + deleted + told["evicted"] + told["expired"]
    assert 0 < live <= 40
    assert told["evicted"] > 0
    assert told["expired"] > 0
    store.close()
