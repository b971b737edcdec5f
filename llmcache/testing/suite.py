"""The tests that every store passes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import inf

import pytest

from llmcache.backends.base import WouldWait
from llmcache.backends.registry import check_backend
from llmcache.testing.agreement import assert_stores_agree
from llmcache.testing.caller import Caller
from llmcache.testing.clock import FakeClock
from llmcache.testing.harness import BRIEF
from llmcache.testing.together import HANG, TogetherTests

TOLERANCE = 1.0
"""Seconds that an operation which was given no time may take."""

PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace(":", "")

AWKWARD = (
    *("g", "gg", "G", "g ", "*", "g*", "g?", "[g]", "{g}", "%", "g%", "_", "'", '"', "\\"),
    *("/", "..", "-1"),
)
"""Names that mean something else to a pattern, a query or a file system."""

DATA = {
    "none": b"",
    "every byte": bytes(range(256)),
    "a number": b"007",
    "zeros": bytes(1000),
    "no text": b"\xff\xfe\x80",
    "lines": b"a\r\nb\n\nc\r",
    "1 MB": bytes(range(256)) * 4096,
}


class StoreSuite(TogetherTests):
    """The contract of `llmcache.backends.base.Store`, as pytest tests.

    Derive a class whose name starts with ``Test`` and write `make_store`.
    Each test runs twice: over the blocking methods, and over the awaitable
    ones. Fixtures of the class may prepare what `make_store` needs.

    Attributes:
        takes_clock: whether the store's time is the clock that `make_store`
            is handed. Without, expiry is waited for, for a fraction of a
            second, and what only a moved clock can show is skipped.
        keeps: whether a store with room keeps what was set, and has something
            to find at any moment while it is overwritten. Without, an entry
            may be gone at any time, and never wrong.
        persistent: whether entries outlive `close`.

    Example:
        >>> from llmcache.backends.memory import MemoryStore
        >>> class TestMemoryStore(StoreSuite):
        ...     def make_store(self, clock):
        ...         return MemoryStore(clock=clock)
    """

    def test_it_is_a_store(self, store: Caller) -> None:
        assert check_backend(store.store) is store.store
        assert store.store.timeout is None or store.store.timeout > 0

    def test_what_is_set_is_found(self, store: Caller) -> None:
        assert store.get("g:a") is None
        assert store.set("g:a", b"one") or not self.keeps
        assert store.get("g:a") in self.answers(b"one")
        assert store.get("g:b") is None
        assert store.get("h:a") is None

    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    def test_any_bytes_come_back(self, store: Caller, data: bytes) -> None:
        store.set("g:a", data)
        found = store.get("g:a")
        assert found in self.answers(data)
        assert isinstance(found, bytes | None)

    def test_the_last_set_counts(self, store: Caller) -> None:
        for data in (b"one", b"another", b"", b"1", b"1"):
            assert store.set("g:a", data) or not self.keeps
            assert store.get("g:a") in self.answers(data)

    def test_names_are_told_apart(self, store: Caller) -> None:
        keys = [f"g:{name}" for name in (*AWKWARD, *PRINTABLE, PRINTABLE, "f" * 64)]
        for key in keys:
            store.set(key, key.encode())
        for key in keys:
            assert store.get(key) in self.answers(key.encode())

    @pytest.mark.parametrize("name", AWKWARD)
    def test_a_key_is_deleted_alone(self, store: Caller, name: str) -> None:
        for other in AWKWARD:
            store.set(f"g:{other}", other.encode())
        assert store.delete(f"g:{name}") or not self.keeps
        assert store.get(f"g:{name}") is None
        for other in set(AWKWARD) - {name}:
            assert store.get(f"g:{other}") in self.answers(other.encode())

    def test_what_is_deleted_is_gone(self, store: Caller) -> None:
        assert store.delete("g:a") is False
        store.set("g:a", b"one")
        assert store.delete("g:a") or not self.keeps
        assert store.delete("g:a") is False
        assert store.get("g:a") is None
        store.set("g:a", b"two")
        assert store.get("g:a") in self.answers(b"two")

    @pytest.mark.parametrize("group", AWKWARD)
    def test_a_group_is_cleared_alone(self, store: Caller, group: str) -> None:
        for other in AWKWARD:
            store.set(f"{other}:a", other.encode())
            store.set(f"{other}:b", other.encode())
        store.clear(group)
        for name in "ab":
            assert store.get(f"{group}:{name}") is None
            for other in set(AWKWARD) - {group}:
                assert store.get(f"{other}:{name}") in self.answers(other.encode())
        store.set(f"{group}:a", b"new")
        assert store.get(f"{group}:a") in self.answers(b"new")

    def test_a_group_is_counted_alone(self, store: Caller) -> None:
        for number, group in enumerate(AWKWARD):
            assert self.counted(store, group, 0)
            for name in range(number + 1):
                store.set(f"{group}:{name}", b"data")
                store.set(f"{group}:{name}", b"more data")
        for number, group in enumerate(AWKWARD):
            assert self.counted(store, group, number + 1)
            store.delete(f"{group}:0")
            assert self.counted(store, group, number)
            store.clear(group)
            assert self.counted(store, group, 0)

    @pytest.mark.parametrize("ttl", [0.25, 1.5, 60, 1e6])
    def test_an_entry_lives_as_long_as_it_may(
        self, store: Caller, clock: FakeClock, ttl: float
    ) -> None:
        self.needs_clock()
        store.set("g:a", b"data", ttl)
        clock.advance(ttl - 1 / 64)
        assert store.get("g:a") in self.answers(b"data")
        clock.advance(1 / 64)
        assert store.get("g:a") is None

    def test_nothing_outlives_its_ttl(self, store: Caller, wait: Callable[[float], None]) -> None:
        store.set("g:a", b"short", BRIEF)
        store.set("g:b", b"long", 1000 * BRIEF)
        wait(BRIEF)
        assert store.get("g:a") is None
        assert self.counted(store, "g", 1)
        assert store.get("g:b") in self.answers(b"long")

    def test_what_expired_is_nothing_to_forget(
        self, store: Caller, wait: Callable[[float], None]
    ) -> None:
        store.set("g:a", b"data", BRIEF)
        wait(BRIEF)
        assert store.delete("g:a") is False
        assert self.counted(store, "g", 0)
        store.set("g:a", b"new")
        assert store.get("g:a") in self.answers(b"new")

    def test_a_new_set_is_a_new_life(self, store: Caller, wait: Callable[[float], None]) -> None:
        store.set("g:a", b"short", BRIEF)
        store.set("g:a", b"long", 1000 * BRIEF)
        store.set("g:b", b"long", 1000 * BRIEF)
        store.set("g:b", b"short", BRIEF)
        wait(BRIEF)
        assert store.get("g:a") in self.answers(b"long")
        assert store.get("g:b") is None

    def test_a_read_is_no_new_life(self, store: Caller, clock: FakeClock) -> None:
        self.needs_clock()
        store.set("g:a", b"data", 10)
        clock.advance(9)
        store.get("g:a")
        clock.advance(1)
        assert store.get("g:a") is None

    @pytest.mark.parametrize("ttl", [1e12, 1e300, inf])
    def test_an_entry_may_live_for_ever(
        self, store: Caller, wait: Callable[[float], None], ttl: float
    ) -> None:
        assert store.set("g:a", b"data", ttl) or not self.keeps
        wait(1e9 if self.takes_clock else BRIEF)
        assert store.get("g:a") in self.answers(b"data")

    @pytest.mark.parametrize("ttl", [0, 0.0, -1, -inf])
    def test_without_time_to_live_nothing_is_stored(self, store: Caller, ttl: float) -> None:
        store.set("g:a", b"old")
        assert store.set("g:a", b"new", ttl) is False
        assert store.get("g:a") is None
        assert self.counted(store, "g", 0)

    @pytest.mark.parametrize("ttl", [1e-3, 1e-9, 5e-324])
    def test_hardly_any_time_to_live_replaces_what_was_there(
        self, store: Caller, ttl: float
    ) -> None:
        store.set("g:a", b"old")
        stored = store.set("g:a", b"new", ttl)
        assert store.get("g:a") in ((b"new", None) if stored else (None,))

    def test_what_is_dropped_is_told_to_its_group_alone(
        self, store: Caller, wait: Callable[[float], None]
    ) -> None:
        told = {group: Counter[str]() for group in ("g", "gg", "h")}
        for group, count in told.items():
            store.store.watch(group, lambda why, count=count: count.update([why]))  # type: ignore[misc]
        for key in ("g:a", "g:b", "gg:a", "gg:b", "h:a"):
            store.set(key, b"one")
            store.set(key, b"two")
        store.set("g:a", b"three", BRIEF)
        store.set("gg:a", b"three", 0)
        store.delete("gg:b")
        store.clear("h")
        wait(BRIEF)
        for _ in range(2):
            store.get("g:a")
            store.delete("g:a")
            store.store.usage("g")
        if self.keeps:
            assert (told["gg"], told["h"]) == ({}, {})
            assert told["g"] in ({}, {"expired": 1})
        assert {why for count in told.values() for why in count} <= {"evicted", "expired"}

    def test_both_ways_lead_to_the_same_entries(self, store: Caller) -> None:
        with Caller(store.store, awaited=not store.awaited) as other:
            store.set("g:a", b"one")
            assert other.get("g:a") in self.answers(b"one")
            other.set("g:a", b"two")
            assert store.get("g:a") in self.answers(b"two")
            other.delete("g:a")
            assert store.get("g:a") is None
            store.set("g:a", b"three")
            other.clear("g")
            assert store.get("g:a") is None

    def test_what_is_said_at_once_is_the_same(self, store: Caller) -> None:
        for data in (b"one", None):
            if data is None:
                store.delete("g:a")
            else:
                store.set("g:a", data)
            with suppress(WouldWait):
                assert store.store.get_at_once("g:a") in self.answers(data)

    def test_a_closed_store_opens_again(self, store: Caller) -> None:
        store.close()
        store.set("g:a", b"one")
        store.close()
        store.close()
        found = store.get("g:a")
        assert found in (self.answers(b"one") if self.persistent else (b"one", None))
        store.set("g:a", b"two")
        assert store.get("g:a") in self.answers(b"two")

    @pytest.mark.parametrize("method", ["get", "set", "delete"])
    def test_without_time_a_method_says_so_at_once(self, store: Caller, method: str) -> None:
        store.set("g:a", b"old")
        calls: dict[str, tuple[Callable[[], object], object, object]] = {
            "get": (lambda: store.get("g:a", within=0), b"old", b"old"),
            "set": (lambda: store.set("g:a", b"new", within=0), True, b"new"),
            "delete": (lambda: store.delete("g:a", within=0), True, None),
        }
        call, result, after = calls[method]
        start = time.monotonic()
        with suppress(TimeoutError):
            assert call() == result or not self.keeps
            assert store.get("g:a") in self.answers(after)
        assert time.monotonic() - start < TOLERANCE
        # What is not replaced in time may be forgotten: it must not answer any more.
        rest = (None,) if method == "set" else ()
        assert store.get("g:a") in (*self.answers(b"old"), after, *rest)

    def test_with_time_enough_a_method_does_its_work(self, store: Caller) -> None:
        assert store.set("g:a", b"data", within=HANG) or not self.keeps
        assert store.get("g:a", within=HANG) in self.answers(b"data")
        assert store.delete("g:a", within=HANG) or not self.keeps

    def test_it_agrees_with_a_dict(self) -> None:
        if not self.keeps:
            pytest.skip("this store may drop what was set")
        pytest.importorskip("hypothesis")
        assert_stores_agree(self.make_store, expiry=self.takes_clock)
