"""The memory store keeps what was used last, until it expires, and says what it drops."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from stand_ins import FakeClock, in_threads

from llmcache import Clock
from llmcache.backends.memory import MemoryStore


class Twin:
    """A memory store, reached through its blocking or its awaitable methods."""

    def __init__(self, store: MemoryStore, *, awaited: bool) -> None:
        self.store = store
        self.awaited = awaited

    def get(self, key: str) -> bytes | None:
        return self._call("get", key)

    def set(self, key: str, data: bytes = b"data", ttl: float = inf) -> bool:
        return self._call("set", key, data, ttl)

    def delete(self, key: str) -> bool:
        return self._call("delete", key)

    def clear(self, group: str) -> None:
        self._call("clear", group)

    def size(self, group: str = "g") -> int:
        return self.store.usage(group).entries

    def watch(self, group: str = "g") -> Counter[str]:
        dropped: Counter[str] = Counter()

        def count(why: str) -> None:
            dropped[why] += 1

        self.store.watch(group, count)
        return dropped

    def _call(self, method: str, *args: Any) -> Any:
        if self.awaited:
            return asyncio.run(getattr(self.store, f"a{method}")(*args))
        return getattr(self.store, method)(*args)


Open = Callable[..., Twin]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def open_store(request: pytest.FixtureRequest, clock: FakeClock) -> Open:
    def open_store(**options: Any) -> Twin:
        return Twin(MemoryStore(clock=clock.clock, **options), awaited=request.param)

    return open_store


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
    assert store.size() == 1


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


def test_a_refused_value_does_not_leave_the_old_one(open_store: Open) -> None:
    store = open_store(max_bytes=10)
    store.set("g:a", b"1")
    assert store.set("g:a", b"12345678901") is False
    assert store.get("g:a") is None
    assert store.size() == 0


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


def test_bounds_can_be_read() -> None:
    store = MemoryStore(max_size=7, max_bytes=70)
    assert (store.max_size, store.max_bytes) == (7, 70)


def test_time_is_the_system_s_unless_told_otherwise() -> None:
    store = MemoryStore()
    assert store.set("g:a", b"data", inf) is True
    assert store.get("g:a") == b"data"
    assert (store.max_size, store.max_bytes) == (1000, None)


OPERATIONS: dict[str, Callable[[MemoryStore], object]] = {
    "get": lambda store: store.get("g:a"),
    "set": lambda store: store.set("g:a", b"new", inf),
    "set another": lambda store: store.set("g:b", b"new", inf),
    "delete": lambda store: store.delete("g:a"),
    "clear": lambda store: store.clear("g"),
    "size": lambda store: store.usage("g").entries,
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("ttl", range(1, 10))
def test_an_entry_may_expire_in_the_middle_of_anything(name: str, ttl: int) -> None:
    ticks = itertools.count()
    store = MemoryStore(max_size=1, clock=Clock(monotonic=lambda: float(next(ticks))))
    store.set("g:a", b"old", ttl)
    OPERATIONS[name](store)
    for _ in range(10):
        store.get("g:a")
    live = [key for key in ("g:a", "g:b") if store.get(key) is not None]
    assert len(live) == (1 if name.startswith("set") else 0)
    assert store.usage("g").entries == len(live)


class Interrupted(BaseException):
    """What a signal handler raises."""


def interrupted(work: Callable[[], object], step: int) -> bool:
    """Raise in the middle of *work*, before its line number *step*; say whether it has as many."""
    steps = itertools.count()

    def trace(frame: Any, event: str, argument: object) -> Any:
        inside = frame.f_code.co_filename.endswith(("memory.py", "cachetools/__init__.py"))
        if inside and event == "line" and next(steps) == step:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("bound", [{"max_size": 2}, {"max_bytes": 8}], ids=str)
def test_a_signal_handler_may_raise_in_the_middle_of_anything(
    name: str, bound: dict[str, int], clock: FakeClock
) -> None:
    for step in itertools.count():
        store = MemoryStore(clock=clock.clock, **bound)
        store.set("g:over", b"1", 1)
        store.set("g:a", b"old", 100)
        clock.advance(1)
        if not interrupted(lambda store=store: OPERATIONS[name](store), step):
            break
        # What is left is what is counted, it is bounded, and it expires.
        live = [key for key in ("g:over", "g:a", "g:b") if store.get(key) is not None]
        assert store.usage("g").entries == len(live)
        for key in ("g:a", "g:b", "g:c", "g:d"):
            assert store.set(key, b"next", 10)
            assert store.get(key) == b"next"
        assert store.usage("g") == (2, 8)
        clock.advance(10)
        assert [store.get(key) for key in ("g:a", "g:b", "g:c", "g:d")] == [None] * 4
        assert store.usage("g") == (0, 0)
    assert step >= 3


def test_a_clock_that_fails_in_a_look_up_leaves_nothing_half_done(clock: FakeClock) -> None:
    fails = False

    def now() -> float:
        if fails:
            raise Interrupted
        return clock.now

    store = MemoryStore(clock=Clock(monotonic=now))
    for operation in OPERATIONS.values():
        store.set("g:a", b"old", 100)
        fails = True
        with pytest.raises(Interrupted):
            operation(store)
        fails = False
        assert store.get("g:a") is None
        assert store.usage("g") == (0, 0)


def test_many_threads_lose_nothing(clock: FakeClock) -> None:
    store = MemoryStore(max_size=40, max_bytes=400, clock=clock.clock)
    groups = ["g", "h"]
    dropped = [Counter[str]() for _ in groups]
    for group, count in zip(groups, dropped, strict=True):
        store.watch(group, lambda why, count=count: count.update([why]))

    def work(thread: int) -> tuple[int, int]:
        chance = random.Random(thread)
        stored = deleted = 0
        mine: list[str] = []
        for turn in range(400):
            key = f"{chance.choice(groups)}:{thread} {turn}"
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
            assert store.usage(chance.choice(groups)).entries <= 40
        return stored, deleted

    done = in_threads(work, threads=8)
    live = sum(store.usage(group).entries for group in groups)
    told = sum(dropped, Counter())
    stored, deleted = map(sum, zip(*done, strict=True))
    assert stored == live + deleted + told["evicted"] + told["expired"]
    assert 0 < live <= 40
    assert told["evicted"] > 0
    assert told["expired"] > 0


def test_one_thread_at_a_time_looks_at_the_entries() -> None:
    alone = threading.Lock()
    large = bytes(20_000)

    def tick() -> float:
        assert alone.acquire(blocking=False)
        zlib.crc32(large)  # lets another thread run
        alone.release()
        return 0.0

    store = MemoryStore(max_size=4, clock=Clock(monotonic=tick))

    def work(thread: int) -> None:
        for _ in range(300):
            for operation in OPERATIONS.values():
                store.set(f"g:{thread}", b"data", inf)
                store.get(f"g:{thread}")
                operation(store)

    in_threads(work, threads=8)
    assert store.usage("g").entries <= 4


def test_threads_and_groups_are_cleared_together() -> None:
    store = MemoryStore(max_size=100)

    def work(thread: int) -> None:
        for turn in range(300):
            store.set(f"g:{turn % 20}", b"data", inf)
            store.set(f"h:{thread} {turn}", b"data", inf)
            if turn % 10 == 0:
                store.clear("g")

    in_threads(work, threads=8)
    assert store.usage("h").entries + store.usage("g").entries <= 100
    store.clear("g")
    store.clear("h")
    assert (store.usage("g").entries, store.usage("h").entries) == (0, 0)
    assert [key for key in range(20) if store.get(f"g:{key}")] == []


GROUPS = ("g", "h")
keys = st.builds("{}:{}".format, st.sampled_from(GROUPS), st.sampled_from("abcd"))


class Agreement(RuleBasedStateMachine):
    """Does everything to a store and to a plain dict, and lets them not disagree."""

    @initialize(max_size=st.integers(1, 6), max_bytes=st.none() | st.integers(1, 20))
    def open(self, max_size: int, max_bytes: int | None) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(max_size=max_size, max_bytes=max_bytes, clock=self.clock.clock)
        self.max_size = max_size
        self.max_bytes = inf if max_bytes is None else max_bytes
        self.entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.expected = {group: Counter[str]() for group in GROUPS}
        self.told = {group: Counter[str]() for group in GROUPS}
        self.added = self.forgotten = 0
        for group in GROUPS:
            self.store.watch(group, lambda why, group=group: self.told[group].update([why]))

    @rule(key=keys, data=st.binary(max_size=10), ttl=st.sampled_from([-1, 0, 1, 5, 20, inf]))
    def set(self, key: str, data: bytes, ttl: float) -> None:
        self.expire()
        known = self.entries.pop(key, None) is not None
        fits = ttl > 0 and len(data) <= self.max_bytes
        assert self.store.set(key, data, ttl) is fits
        if not fits:
            self.forgotten += known
            return
        self.added += not known
        while len(self.entries) >= self.max_size or self.bytes() + len(data) > self.max_bytes:
            self.drop(next(iter(self.entries)), "evicted")
        self.entries[key] = data, self.clock.now + ttl

    @rule(key=keys)
    def get(self, key: str) -> None:
        self.expire()
        data = None
        if key in self.entries:
            self.entries.move_to_end(key)
            data, _ = self.entries[key]
        assert self.store.get(key) == data

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.expire()
        known = self.entries.pop(key, None) is not None
        assert self.store.delete(key) is known
        self.forgotten += known

    @rule(group=st.sampled_from(GROUPS))
    def clear(self, group: str) -> None:
        self.expire()
        for key in self.keys(group):
            del self.entries[key]
            self.forgotten += 1
        self.store.clear(group)

    @rule(seconds=st.integers(1, 10))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def audit(self) -> None:
        self.expire()
        for group in GROUPS:
            sizes = [len(self.entries[key][0]) for key in self.keys(group)]
            assert self.store.usage(group) == (len(sizes), sum(sizes))
        assert self.told == self.expected
        told = sum(self.told.values(), Counter())
        live = len(self.entries)
        assert self.added == live + self.forgotten + told["evicted"] + told["expired"]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.audit()

    def expire(self) -> None:
        for key in [k for k, (_, expires) in self.entries.items() if expires <= self.clock.now]:
            self.drop(key, "expired")

    def drop(self, key: str, why: str) -> None:
        del self.entries[key]
        self.expected[key[0]][why] += 1

    def keys(self, group: str) -> list[str]:
        return [key for key in self.entries if key[0] == group]

    def bytes(self) -> int:
        return sum(len(data) for data, _ in self.entries.values())


TestAgreement = Agreement.TestCase


@pytest.mark.parametrize("method", ["empty", "forget"])
def test_everything_may_be_forgotten_at_once(clock: FakeClock, method: str) -> None:
    store = MemoryStore(max_size=2, clock=clock.clock)
    twin = Twin(store, awaited=False)
    dropped = twin.watch()
    for name in "abc":
        twin.set(f"g:{name}")
    getattr(store, method)()
    assert (twin.get("g:c"), twin.size(), dropped) == (None, 0, {"evicted": 1})
    for name in "abc":
        twin.set(f"g:{name}")
    assert (twin.size(), dropped) == (2, {"evicted": 2})
