"""The tests that every store passes."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf

import pytest

from llmcache.backends.base import Store
from llmcache.backends.registry import check_backend
from llmcache.policy import Clock
from llmcache.testing.agreement import assert_stores_agree
from llmcache.testing.caller import Caller
from llmcache.testing.clock import FakeClock
from llmcache.testing.threads import in_threads

BRIEF = 1 / 16
"""A time to live that a test can wait for."""

TOLERANCE = 1.0
"""Seconds that an operation which was given no time may take."""

HANG = 60.0
"""Seconds after which a process is taken to hang."""

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


class StoreSuite:
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

    takes_clock = True
    keeps = True
    persistent = False

    def make_store(self, clock: Clock) -> Store:
        """Return a new store with nothing in it, and with room for 200 entries and 2 MB.

        If it has a ``timeout``, give it one that is long enough for many
        threads and processes on a busy machine, such as a minute: a store that
        has no more time raises, and fails the test.

        Args:
            clock: the time, unless ``takes_clock`` is false.
        """
        raise NotImplementedError("a StoreSuite needs make_store(clock)")

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock that the store of this test was handed."""
        return FakeClock()

    @pytest.fixture
    def wait(self, clock: FakeClock) -> Callable[[float], None]:
        """Let some seconds pass for the store."""
        return clock.advance if self.takes_clock else _sleep

    @pytest.fixture
    def bare(self, clock: FakeClock) -> Iterator[Store]:
        """A new store, which is closed after the test."""
        store = self.make_store(clock.clock)
        yield store
        store.close()

    @pytest.fixture(params=[False, True], ids=["sync", "async"])
    def store(self, request: pytest.FixtureRequest, bare: Store) -> Iterator[Caller]:
        """A new store, called by its blocking or its awaitable methods."""
        with Caller(bare, awaited=request.param) as caller:
            yield caller
            caller.close()

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

    def test_a_closed_store_opens_again(self, store: Caller) -> None:
        store.close()
        store.set("g:a", b"one")
        store.close()
        store.close()
        found = store.get("g:a")
        assert found in (self.answers(b"one") if self.persistent else (b"one", None))
        store.set("g:a", b"two")
        assert store.get("g:a") in self.answers(b"two")

    def test_threads_see_the_last_set(self, store: Caller) -> None:
        threads, turns = 8, 30
        begun, done = Counter[str](), Counter[str]()

        def work(number: int) -> None:
            with Caller(store.store, awaited=store.awaited) as mine:
                for turn in range(1, turns + 1):
                    own, other = f"g:{number}", f"g:{(number + turn) % threads}"
                    begun[own] = turn
                    assert mine.set(own, _generation(own, turn)) or not self.keeps
                    done[own] = turn
                    oldest = done[other]
                    found = mine.get(other)
                    newest = begun[other]
                    if found is None:
                        assert oldest == 0 or not self.keeps
                    else:
                        assert oldest <= _number(other, found) <= newest

        in_threads(work, threads=threads)

    def test_threads_find_nothing_torn(self, store: Caller) -> None:
        threads, turns = 8, 30
        key = "g:shared"

        def work(number: int) -> None:
            with Caller(store.store, awaited=store.awaited) as mine:
                for turn in range(1, turns + 1):
                    mine.set(key, _generation(key, number * turns + turn))
                    if (found := mine.get(key)) is not None:
                        _number(key, found)

        in_threads(work, threads=threads)
        last = [_generation(key, number * turns + turns) for number in range(threads)]
        assert store.get(key) in [found for data in last for found in self.answers(data)]

    def test_threads_delete_and_clear(self, store: Caller) -> None:
        def work(number: int) -> None:
            key = f"g:{number}"
            with Caller(store.store, awaited=store.awaited) as mine:
                for turn in range(20):
                    mine.set(key, _generation(key, turn))
                    mine.set(f"h:{number}", b"data")
                    mine.clear("h")
                    assert mine.get(f"h:{number}") is None
                    mine.store.usage("g")
                    assert mine.get(key) in self.answers(_generation(key, turn))
                    assert mine.delete(key) or not self.keeps
                    assert mine.get(key) is None

        in_threads(work)
        assert self.counted(store, "g", 0)
        assert self.counted(store, "h", 0)

    def test_tasks_see_their_last_set(self, bare: Store) -> None:
        async def work(number: int) -> None:
            key = f"g:{number}"
            for turn in range(5):
                await bare.aset(key, _generation(key, turn), inf)
                assert await bare.aget(key) in self.answers(_generation(key, turn))
            assert await bare.adelete(key) or not self.keeps
            assert await bare.aget(key) is None

        async def main() -> None:
            await asyncio.gather(*map(work, range(50)))

        asyncio.run(main())

    def test_a_cancelled_task_garbles_nothing(self, bare: Store) -> None:
        keys = [f"g:{number}" for number in range(20)]

        async def main() -> None:
            for key in keys:
                await bare.aset(key, _generation(key, 0), inf)
            for turn in range(1, 4):
                calls = [bare.aget(key) for key in keys]
                calls += [bare.aset(key, _generation(key, turn), inf) for key in keys]  # type: ignore[misc]
                tasks = [asyncio.ensure_future(call) for call in calls]
                for _ in range(turn):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for key in reversed(keys):
                    if (found := await bare.aget(key)) is not None:
                        assert _number(key, found) <= turn

        asyncio.run(main())

    def test_event_loops_come_and_go(self, bare: Store) -> None:
        async def main(before: bytes | None, after: bytes) -> None:
            assert await bare.aget("g:a") in self.answers(before)
            await bare.aset("g:a", after, inf)
            assert await bare.aget("g:a") in self.answers(after)

        asyncio.run(main(None, b"one"))
        asyncio.run(main(b"one", b"two"))
        asyncio.run(main(b"two", b"three"))

    def test_blocking_calls_work_inside_an_event_loop(self, bare: Store) -> None:
        async def main() -> None:
            bare.set("g:a", b"one", inf)
            assert await bare.aget("g:a") in self.answers(b"one")
            await bare.aset("g:a", b"two", inf)
            assert bare.get("g:a") in self.answers(b"two")
            assert bare.delete("g:a") or not self.keeps
            assert await bare.aget("g:a") is None
            bare.set("g:a", b"three", inf)
            bare.clear("g")
            assert bare.get("g:a") is None

        asyncio.run(main())

    def test_a_fork_and_its_parent_do_not_mix(self, store: Caller) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            pytest.skip("this platform does not fork")
        store.set("g:before", _generation("g:before", 0))
        context = multiprocessing.get_context("fork")
        children = [
            context.Process(target=self.live_on, args=(store, number)) for number in (1, 2, 3)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for child in children:
                child.start()
        try:
            self.live_on(store, 0)
            for child in children:
                child.join(HANG)
            assert [child.exitcode for child in children] == [0, 0, 0]
        finally:
            for child in children:
                child.kill()
                child.join()
        self.live_on(store, 0)

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
        assert store.get("g:a") in (*self.answers(b"old"), after)

    def test_with_time_enough_a_method_does_its_work(self, store: Caller) -> None:
        assert store.set("g:a", b"data", within=HANG) or not self.keeps
        assert store.get("g:a", within=HANG) in self.answers(b"data")
        assert store.delete("g:a", within=HANG) or not self.keeps

    def test_it_agrees_with_a_dict(self) -> None:
        if not self.keeps:
            pytest.skip("this store may drop what was set")
        pytest.importorskip("hypothesis")
        assert_stores_agree(self.make_store, expiry=self.takes_clock)

    def answers(self, data: object) -> tuple[object, ...]:
        """Return what may be found where *data* was set last."""
        return (data,) if self.keeps else (data, None)

    def counted(self, store: Caller, group: str, live: int) -> bool:
        """Say whether the store's usage of *group* may be that of *live* entries."""
        entries, size = store.store.usage(group)
        right = entries is None or entries == live or (not self.keeps and 0 <= entries <= live)
        return right and (size is None or size >= 0) and (live > 0 or not size)

    def live_on(self, store: Caller, number: int) -> None:
        """Use *store* in a process that may be a fork, under names that are its *number*'s."""
        with Caller(store.store, awaited=store.awaited) as mine:
            assert mine.get("g:before") in self.answers(_generation("g:before", 0))
            for turn in range(20):
                key = f"g:{number} {turn}"
                mine.set(key, _generation(key, turn))
                assert mine.get(key) in self.answers(_generation(key, turn))

    def needs_clock(self) -> None:
        """Skip the test if time cannot be moved."""
        if not self.takes_clock:
            pytest.skip("this store's time cannot be moved")


def _sleep(seconds: float) -> None:
    time.sleep(seconds + BRIEF / 2)


def _generation(key: str, number: int) -> bytes:
    """Return data of *key* that shows whether it is whole, and which it is."""
    return f"{key} {number}\n".encode() * (100 + number % 7 * 100)


def _number(key: str, data: bytes) -> int:
    """Return which *data* of *key* this is."""
    number = int(data.partition(b"\n")[0].rpartition(b" ")[2])
    assert data == _generation(key, number), f"another's or torn data under {key}"
    return number
