"""The memory store keeps what was used last, until it expires, and says what it drops."""

from __future__ import annotations

import itertools
import sys
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from backends.asker import Asker
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from stand_ins import FakeClock, in_threads

from llmcache import Clock
from llmcache.backends.memory import MemoryStore


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


def survives(operation: Callable[[MemoryStore], object], step: int, bound: dict[str, int]) -> bool:
    """Interrupt *operation* and see what is left; say whether it has as many steps."""
    clock = FakeClock()
    store = MemoryStore(clock=clock.clock, **bound)
    store.set("g:over", b"1", 1)
    store.set("g:a", b"old", 100)
    clock.advance(1)
    if not interrupted(lambda: operation(store), step):
        return False
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
    return True


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("bound", [{"max_size": 2}, {"max_bytes": 8}], ids=str)
def test_a_signal_handler_may_raise_in_the_middle_of_anything(
    name: str, bound: dict[str, int]
) -> None:
    def work(thread: int) -> int:
        steps = itertools.count()
        return next(step for step in steps if not survives(OPERATIONS[name], step, bound))

    # Python 3.13 may handle an exception for ever where a trace function has raised another.
    [found] = in_threads(work, threads=1)
    assert found >= 3


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
    asker = Asker(store, None)
    dropped = asker.watch()
    for name in "abc":
        asker.set(f"g:{name}")
    getattr(store, method)()
    assert (asker.get("g:c"), asker.size(), dropped) == (None, 0, {"evicted": 1})
    for name in "abc":
        asker.set(f"g:{name}")
    assert (asker.size(), dropped) == (2, {"evicted": 2})
