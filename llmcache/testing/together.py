"""The tests that many threads, tasks, event loops and processes may use one store."""

from __future__ import annotations

import asyncio
import multiprocessing
import warnings
from collections import Counter
from math import inf

import pytest

from llmcache.backends.base import Store
from llmcache.testing.caller import Caller
from llmcache.testing.harness import StoreHarness
from llmcache.testing.threads import in_threads

HANG = 60.0
"""Seconds after which a process is taken to hang."""


class TogetherTests(StoreHarness):
    """Many use one store."""

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

    def live_on(self, store: Caller, number: int) -> None:
        """Use *store* in a process that may be a fork, under names that are its *number*'s."""
        with Caller(store.store, awaited=store.awaited) as mine:
            assert mine.get("g:before") in self.answers(_generation("g:before", 0))
            for turn in range(20):
                key = f"g:{number} {turn}"
                mine.set(key, _generation(key, turn))
                assert mine.get(key) in self.answers(_generation(key, turn))


def _generation(key: str, number: int) -> bytes:
    """Return data of *key* that shows whether it is whole, and which it is."""
    return f"{key} {number}\n".encode() * (100 + number % 7 * 100)


def _number(key: str, data: bytes) -> int:
    """Return which *data* of *key* this is."""
    number = int(data.partition(b"\n")[0].rpartition(b" ")[2])
    assert data == _generation(key, number), f"another's or torn data under {key}"
    return number
