"""What keeps the contract of a store passes its suite, and what breaks it fails the test for it."""

from __future__ import annotations

import asyncio
import fnmatch
import math
import os
import re
import sys
import textwrap
import threading
import time
from collections import Counter
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from llmcache import Clock, MissingExtra
from llmcache.backends.base import Removal, Store, Usage
from llmcache.backends.memory import MemoryStore
from llmcache.testing import FakeClock, StoreSuite, assert_stores_agree, machine, suite

pytest_plugins = ["pytester"]


class TestMemoryStore(StoreSuite):
    def make_store(self, clock: Clock) -> MemoryStore:
        return MemoryStore(clock=clock)


class PlainStore(Store):
    """Has no more than it must, and does not count."""

    def __init__(self, clock: Clock) -> None:
        self.store = MemoryStore(clock=clock)

    def get(self, key: str, within: float = inf) -> bytes | None:
        return self.store.get(key)

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return self.store.set(key, data, ttl)

    def delete(self, key: str, within: float = inf) -> bool:
        return self.store.delete(key)

    def clear(self, group: str) -> None:
        self.store.clear(group)


class TestPlainStore(StoreSuite):
    test_it_agrees_with_a_dict = None

    def make_store(self, clock: Clock) -> Store:
        return PlainStore(clock)


class HurriedStore(PlainStore):
    """Has never time enough to do nothing in no time."""

    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key, _some(within))

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, ttl, _some(within))

    def delete(self, key: str, within: float = inf) -> bool:
        return super().delete(key, _some(within))


def _some(within: float) -> float:
    if within == 0:
        raise TimeoutError
    return within


class TestHurriedStore(StoreSuite):
    persistent = True
    test_it_agrees_with_a_dict = None

    def make_store(self, clock: Clock) -> Store:
        return HurriedStore(clock)


class TestStoreWithItsOwnTime(StoreSuite):
    takes_clock = False
    test_it_agrees_with_a_dict = None

    def make_store(self, clock: Clock) -> MemoryStore:
        return MemoryStore()


class ForgetfulStore(MemoryStore):
    """Drops every other entry at once, and sometimes says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.count = 0

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self.count += 1
        stored = super().set(key, data, ttl)
        if self.count % 2:
            self.delete(key)
        return stored and self.count % 4 != 1


class TestForgetfulStore(StoreSuite):
    keeps = False

    def make_store(self, clock: Clock) -> ForgetfulStore:
        return ForgetfulStore(clock)


def test_all_these_stores_agree() -> None:
    assert_stores_agree(
        lambda clock: MemoryStore(clock=clock, max_size=6),
        lambda clock: MemoryStore(clock=clock, max_bytes=6 * 16),
        PlainStore,
        HurriedStore,
    )


def test_stores_may_have_things_left_from_before() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock.clock)
    assert_stores_agree(lambda _clock: store, expiry=False)


class HaltingStore(MemoryStore):
    timeout = 0


class StillStore(MemoryStore):
    """Stores nothing, and says that it did."""

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return True


class OneShelf(MemoryStore):
    """Returns another key's value."""

    def get(self, key: str, within: float = inf) -> bytes | None:
        return next((super(OneShelf, self).get(known) for known in list(self._entries)), None)


class TextStore(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data.decode(errors="replace").encode(), ttl)


class EmptyIsNothing(MemoryStore):
    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key) or None


class MutableBytes(MemoryStore):
    def get(self, key: str, within: float = inf) -> Any:
        found = super().get(key)
        return found if found is None else bytearray(found)


class SmallValuesOnly(MemoryStore):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock, max_bytes=1_000_000)


class FirstWins(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return self.get(key) is not None or super().set(key, data, ttl)


class AnyCase(MemoryStore):
    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key.lower())

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key.lower(), data, ttl)


class TrimsNames(MemoryStore):
    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key.strip())

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key.strip(), data, ttl)


class DeletesByPattern(MemoryStore):
    def delete(self, key: str, within: float = inf) -> bool:
        found = fnmatch.filter(list(self._entries), key)
        return sum(super(DeletesByPattern, self).delete(known) for known in found) > 0


class DeletesNothing(MemoryStore):
    def delete(self, key: str, within: float = inf) -> bool:
        return self.get(key) is not None


class DeletesAnything(MemoryStore):
    """Says that it forgot what it did not know."""

    def delete(self, key: str, within: float = inf) -> bool:
        super().delete(key)
        return True


class ClearsByPrefix(MemoryStore):
    def clear(self, group: str) -> None:
        for key in [key for key in self._entries if key.startswith(group)]:
            self.delete(key)


class ClearsByPattern(MemoryStore):
    def clear(self, group: str) -> None:
        for key in fnmatch.filter(list(self._entries), f"{group}:*"):
            self.delete(key)


class ClearsNothing(MemoryStore):
    def clear(self, group: str) -> None:
        pass


class CountsAll(MemoryStore):
    def usage(self, group: str) -> Usage:
        return Usage(len(self._entries), None)


class CountsSets(MemoryStore):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.count = Counter[str]()

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self.count[key.partition(":")[0]] += 1
        return super().set(key, data, ttl)

    def usage(self, group: str) -> Usage:
        return Usage(self.count[group], None)


class CountsBytesForEver(CountsSets):
    def usage(self, group: str) -> Usage:
        return Usage(None, self.count[group])


class RoundsDown(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, ttl if ttl == inf else math.floor(ttl))


class RoundsUp(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, ttl if ttl in (inf, -inf) else math.ceil(ttl))


class NeverExpires(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, inf if ttl > 0 else ttl)


class LooksAtTheTimeInGet(MemoryStore):
    """Keeps what expired until it is asked for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=Clock(wall=clock.wall, monotonic=lambda: 0.0))
        self.now = clock.monotonic
        self.expires: dict[str, float] = {}

    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key) if self.now() < self.expires.get(key, 0) else None

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self.expires[key] = self.now() + ttl
        return super().set(key, data, ttl)


class FirstLifeCounts(LooksAtTheTimeInGet):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        first = self.expires.get(key)
        stored = super().set(key, data, ttl)
        self.expires[key] = first or self.expires[key]
        return stored


class ReadsLengthen(LooksAtTheTimeInGet):
    def get(self, key: str, within: float = inf) -> bytes | None:
        found = super().get(key)
        if found is not None:
            self.expires[key] += 10
        return found


class CountsMilliseconds(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, int(ttl * 1000) / 1000)


class ThirtyDaysAtMost(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, min(ttl, 30 * 86400))


class ZeroIsForEver(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return super().set(key, data, ttl or inf)


class RefusesAndKeeps(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return ttl > 0 and super().set(key, data, ttl)


class RefusesTheShortAndKeeps(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return (ttl <= 0 or ttl > 1e-6) and super().set(key, data, ttl)


class TellsDeletes(MemoryStore):
    def delete(self, key: str, within: float = inf) -> bool:
        if watcher := self._watchers.get(key.partition(":")[0]):
            watcher("evicted")
        return super().delete(key)


class TellsEverybody(MemoryStore):
    def watch(self, group: str, removal: Removal) -> None:
        for known in ("g", "gg", "h"):
            super().watch(known, removal)


class TellsNews(MemoryStore):
    def watch(self, group: str, removal: Removal) -> None:
        super().watch(group, lambda why: removal(f"it {why}"))


class TwoShelves(MemoryStore):
    """Its awaitable methods are about other entries."""

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        return self.get(f"a{key}")

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return self.set(f"a{key}", data, ttl)


class ClosesForEver(MemoryStore):
    closed = False

    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key)

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        if self.closed:
            raise ValueError("closed")
        return super().set(key, data, ttl)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class RemembersPerThread(MemoryStore):
    """Finds in each thread what it found there first."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.local = threading.local()

    def get(self, key: str, within: float = inf) -> bytes | None:
        found = super().get(key)
        return found if found is None else vars(self.local).setdefault(key, found)


class LosesAmongThreads(MemoryStore):
    def get(self, key: str, within: float = inf) -> bytes | None:
        return super().get(key) if threading.current_thread() is threading.main_thread() else None


class DeletesBeforeItSets(MemoryStore):
    """Has nothing to find for a moment, while it is overwritten."""

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self.delete(key)
        time.sleep(0)
        return super().set(key, data, ttl)


class WritesInHalves(MemoryStore):
    """Lets another thread run in the middle of a set."""

    def get(self, key: str, within: float = inf) -> bytes | None:
        first, second = (MemoryStore.get(self, key + half) for half in "12")
        return None if first is None or second is None else first + second

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        middle = len(data) // 2
        MemoryStore.set(self, key + "1", data[:middle], ttl)
        time.sleep(0)
        return MemoryStore.set(self, key + "2", data[middle:], ttl)


class ClearsACopy(MemoryStore):
    """Brings back, when it clears one group, what was deleted meanwhile from another."""

    def clear(self, group: str) -> None:
        others = {k: d for k in list(self._entries) if k[0] != group and (d := self.get(k))}
        time.sleep(0)
        super().clear(group)
        for key, data in others.items():
            self.set(key, data, inf)


class SharesItsKey(MemoryStore):
    """Keeps in itself what belongs to one call."""

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        self.key = key
        await asyncio.sleep(0)
        return self.get(self.key)


class RepliesInOrder(MemoryStore):
    """Is one reply behind after a call that did not wait for its own."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.asked: list[str] = []

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        self.asked.append(key)
        await asyncio.sleep(0)
        return self.get(self.asked.pop(0))


class LovesOneLoop(MemoryStore):
    loop: asyncio.AbstractEventLoop | None = None

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        return self.get(key)


class RunsALoop(MemoryStore):
    """Does as `asyncio.run` does where a loop runs already."""

    def get(self, key: str, within: float = inf) -> bytes | None:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("asyncio.run() cannot be called from a running event loop")
        return super().get(key)


class StaysInItsProcess(MemoryStore):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.process = os.getpid()

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        if os.getpid() != self.process:
            raise OSError("not this process's")
        return super().set(key, data, ttl)


class ZeroIsInvalid(MemoryStore):
    def get(self, key: str, within: float = inf) -> bytes | None:
        if not within:
            raise ValueError("within")
        return super().get(key)


class NoTimeIsAMiss(MemoryStore):
    def delete(self, key: str, within: float = inf) -> bool:
        return within > 0 and super().delete(key)


class TakesItsTime(MemoryStore):
    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        if within == 0:
            time.sleep(2 * suite.TOLERANCE)
        return super().set(key, data, ttl)


class AlwaysLate(MemoryStore):
    def get(self, key: str, within: float = inf) -> bytes | None:
        if within < inf:
            raise TimeoutError
        return super().get(key)


class OutOfDate(MemoryStore):
    """Says at once what it had first."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock=clock)
        self._first: dict[str, bytes | None] = {}

    def get_at_once(self, key: str, within: float = inf) -> bytes | None:
        return self._first.setdefault(key, self.get(key))


CONTROLS: list[tuple[str, type[MemoryStore]]] = [
    ("test_it_is_a_store", HaltingStore),
    ("test_what_is_set_is_found", StillStore),
    ("test_what_is_set_is_found", OneShelf),
    ("test_any_bytes_come_back", TextStore),
    ("test_any_bytes_come_back", EmptyIsNothing),
    ("test_any_bytes_come_back", MutableBytes),
    ("test_any_bytes_come_back", SmallValuesOnly),
    ("test_the_last_set_counts", FirstWins),
    ("test_names_are_told_apart", AnyCase),
    ("test_names_are_told_apart", TrimsNames),
    ("test_a_key_is_deleted_alone", DeletesByPattern),
    ("test_what_is_deleted_is_gone", DeletesNothing),
    ("test_what_is_deleted_is_gone", DeletesAnything),
    ("test_a_group_is_cleared_alone", ClearsByPrefix),
    ("test_a_group_is_cleared_alone", ClearsByPattern),
    ("test_a_group_is_cleared_alone", ClearsNothing),
    ("test_a_group_is_counted_alone", CountsAll),
    ("test_a_group_is_counted_alone", CountsSets),
    ("test_a_group_is_counted_alone", CountsBytesForEver),
    ("test_an_entry_lives_as_long_as_it_may", RoundsDown),
    ("test_an_entry_lives_as_long_as_it_may", RoundsUp),
    ("test_nothing_outlives_its_ttl", RoundsUp),
    ("test_nothing_outlives_its_ttl", NeverExpires),
    ("test_what_expired_is_nothing_to_forget", LooksAtTheTimeInGet),
    ("test_a_new_set_is_a_new_life", FirstLifeCounts),
    ("test_a_read_is_no_new_life", ReadsLengthen),
    ("test_an_entry_may_live_for_ever", CountsMilliseconds),
    ("test_an_entry_may_live_for_ever", ThirtyDaysAtMost),
    ("test_without_time_to_live_nothing_is_stored", ZeroIsForEver),
    ("test_without_time_to_live_nothing_is_stored", RefusesAndKeeps),
    ("test_hardly_any_time_to_live_replaces_what_was_there", RefusesTheShortAndKeeps),
    ("test_what_is_dropped_is_told_to_its_group_alone", TellsDeletes),
    ("test_what_is_dropped_is_told_to_its_group_alone", TellsEverybody),
    ("test_what_is_dropped_is_told_to_its_group_alone", TellsNews),
    ("test_both_ways_lead_to_the_same_entries", TwoShelves),
    ("test_what_is_said_at_once_is_the_same", OutOfDate),
    ("test_a_closed_store_opens_again", ClosesForEver),
    ("test_threads_see_the_last_set", RemembersPerThread),
    ("test_threads_see_the_last_set", LosesAmongThreads),
    ("test_threads_see_the_last_set", DeletesBeforeItSets),
    ("test_threads_find_nothing_torn", WritesInHalves),
    ("test_threads_delete_and_clear", ClearsACopy),
    ("test_tasks_see_their_last_set", SharesItsKey),
    ("test_a_cancelled_task_garbles_nothing", RepliesInOrder),
    ("test_event_loops_come_and_go", LovesOneLoop),
    ("test_blocking_calls_work_inside_an_event_loop", RunsALoop),
    ("test_a_fork_and_its_parent_do_not_mix", StaysInItsProcess),
    ("test_without_time_a_method_says_so_at_once", ZeroIsInvalid),
    ("test_without_time_a_method_says_so_at_once", NoTimeIsAMiss),
    ("test_without_time_a_method_says_so_at_once", TakesItsTime),
    ("test_with_time_enough_a_method_does_its_work", AlwaysLate),
    ("test_it_agrees_with_a_dict", NeverExpires),
    ("test_it_agrees_with_a_dict", LooksAtTheTimeInGet),
]


@pytest.mark.parametrize(
    ("test", "kind"), CONTROLS, ids=[f"{kind.__name__}-{test}" for test, kind in CONTROLS]
)
def test_a_broken_store_fails(
    test: str, kind: type[MemoryStore], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "TOLERANCE", 0.05)
    monkeypatch.setattr(machine, "run_state_machine_as_test", run_once)
    assert failures(kind.__name__, test, pytester) == {test}


def run_once(kind: type[RuleBasedStateMachine], *, examples: int = 100) -> None:
    """Run a machine without looking for a shorter sequence than the first that fails."""
    once = settings(max_examples=examples, phases=[Phase.generate], derandomize=True, deadline=None)
    run_state_machine_as_test(kind, settings=once)


@pytest.mark.parametrize("test", sorted({test for test, _ in CONTROLS}))
def test_each_of_these_tests_is_in_the_suite(test: str) -> None:
    assert callable(getattr(StoreSuite, test))


@pytest.mark.parametrize("test", [name for name in vars(StoreSuite) if name.startswith("test_")])
def test_there_is_a_store_that_fails(test: str) -> None:
    assert test in {test for test, _ in CONTROLS}


def failures(store: str, test: str, pytester: pytest.Pytester) -> set[str]:
    """Return the names of the suite's tests that *store* fails."""
    path = pytester.makepyfile(
        f"""
        from test_testing import {store}
        from llmcache.testing import StoreSuite

        class TestBrokenStore(StoreSuite):
            def make_store(self, clock):
                return {store}(clock=clock)
        """
    )
    run = pytester.inline_run("-p", "no:cacheprovider", f"{path}::TestBrokenStore::{test}")
    _, _, failed = run.listoutcomes()
    return {report.nodeid.rpartition("::")[2].partition("[")[0] for report in failed}


def test_a_suite_without_a_store_says_what_it_lacks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from llmcache.testing import StoreSuite

        class TestNothing(StoreSuite):
            pass
        """
    )
    result = pytester.runpytest_inprocess("-k", "test_it_is_a_store")
    result.stdout.fnmatch_lines(["*NotImplementedError: a StoreSuite needs make_store(clock)"])


def test_without_fork_there_is_nothing_to_check(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(pytest.skip.Exception, match="fork"):
        TestMemoryStore().test_a_fork_and_its_parent_do_not_mix(None)  # type: ignore[arg-type]


def test_without_hypothesis_all_but_agreement_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llmcache.testing.machine", raising=False)
    monkeypatch.delattr("llmcache.testing.machine", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(pytest.skip.Exception, match="hypothesis"):
        TestMemoryStore().test_it_agrees_with_a_dict()
    with pytest.raises(MissingExtra, match=r'pip install "llmcache\[testing\]"'):
        assert_stores_agree(PlainStore)


def test_the_clock_stands_still() -> None:
    clock = FakeClock()
    before = clock.now
    assert clock.clock.wall() == clock.clock.monotonic() == before
    clock.advance(0.5)
    assert clock.clock.wall() == clock.clock.monotonic() == before + 0.5


def test_the_documentation_s_stores_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        machine, "run_state_machine_as_test", lambda kind: run_once(kind, examples=10)
    )
    text = (Path(__file__).parents[1] / "docs" / "stores.rst").read_text(encoding="utf-8")
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:(?: .*)?\n)+)", text, re.MULTILINE)
    path = pytester.makepyfile("\n".join(map(textwrap.dedent, blocks)))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-q", path)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed", "skipped"}
    assert outcomes["passed"] > 250
