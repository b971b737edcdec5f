"""What a store that may wait adds to a call has one deadline, and two breakers before it."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

import pytest
from stand_ins import FakeClock
from twins import World, worlds

from llmcache import StoreUnavailable, configure
from llmcache.backends.base import Crowded, PartUnavailable, SlowTransfer, Store, WouldWait
from llmcache.backends.memory import MemoryStore
from llmcache.breaker import FIRST_PAUSE
from llmcache.cache_backend import StoreBackend
from llmcache.guard import PROBE, Guard, GuardedVisit, Visit, visits
from llmcache.ports import AsyncPort, Port, SyncPort, drive


class Slow(MemoryStore):
    """A store on a fake clock whose methods take time, fail, and note what they may take."""

    timeout = 0.1

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock.clock)
        self.clock = clock
        self.takes = {"get": 0.0, "set": 0.0, "delete": 0.0}
        self.fails: set[str] = set()
        self.asked: list[tuple[str, float]] = []

    def __llmcache_key__(self) -> str:
        return "slow"

    def _work(self, method: str, within: float) -> None:
        self.asked.append((method, within))
        self.clock.advance(min(self.takes[method], within))
        if method in self.fails or self.takes[method] > within:
            raise TimeoutError("hunter2")

    def get(self, key: str, within: float = inf) -> bytes | None:
        self._work("get", within)
        return super().get(key)

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self._work("set", within)
        return super().set(key, data, ttl)

    def delete(self, key: str, within: float = inf) -> bool:
        self._work("delete", within)
        return super().delete(key)

    def get_at_once(self, key: str, within: float = inf) -> bytes | None:
        return self.get(key, within)

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        return self.get(key, within)

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return self.set(key, data, ttl, within)

    async def adelete(self, key: str, within: float = inf) -> bool:
        return self.delete(key, within)


@pytest.fixture
def store(clock: FakeClock) -> Slow:
    return Slow(clock)


def run_sync(flow: Any) -> Any:
    return drive(flow)


class StraightPort(SyncPort):
    """Blocks, and looks up in a straight line."""


class AtOncePort(SyncPort):
    """Blocks, and does not wait for a look-up."""


def get(visit: Visit, port: Port, key: str) -> Any:
    if isinstance(port, StraightPort | AtOncePort):
        way = visit.get_now if isinstance(port, StraightPort) else visit.get_at_once

        async def look_up() -> bytes | None:
            return way(key)

        return look_up()
    return visit.get(port, key)


@pytest.fixture(
    params=[
        (SyncPort(), run_sync),
        (StraightPort(), run_sync),
        (AtOncePort(), run_sync),
        (AsyncPort(), asyncio.run),
    ],
    ids=["sync", "straight", "at once", "async"],
)
def way(request: pytest.FixtureRequest) -> tuple[Port, Callable[[Any], Any]]:
    return request.param  # type: ignore[no-any-return]


def guard_of(store: Slow) -> Guard:
    return Guard(store, store.clock.clock.monotonic)


def test_a_look_up_and_storing_share_one_deadline(store: Slow, way: Any) -> None:
    port, run = way
    visit = GuardedVisit(guard_of(store))
    store.takes = {"get": 0.06, "set": 0.01}
    assert run(get(visit, port, "g:a")) is None
    assert run(visit.set(port, "g:a", b"data", 60.0)) is True
    assert store.asked == [("get", 0.1), ("set", pytest.approx(0.04))]


def test_each_visit_has_a_deadline_of_its_own(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    store.takes["get"] = 0.06
    for _ in range(5):
        run(get(GuardedVisit(guard), port, "g:a"))
    assert {within for _, within in store.asked} == {0.1}
    assert not guard.reads.is_open


def test_what_is_out_of_time_is_not_asked_to_store(store: Slow, way: Any) -> None:
    port, run = way
    visit = GuardedVisit(guard_of(store))
    store.takes["get"] = 5.0
    with pytest.raises(TimeoutError):
        run(get(visit, port, "g:a"))
    assert not visit.takes
    with pytest.raises(TimeoutError, match="no time is left for the Slow to store"):
        run(visit.set(port, "g:a", b"data", 60.0))
    assert [method for method, _ in store.asked] == ["get"]


def test_who_comes_without_time_says_nothing_of_the_store(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    for _ in range(5):
        visit = GuardedVisit(guard, 0.0)
        assert not visit.takes
        with pytest.raises(TimeoutError):
            run(visit.set(port, "g:a", b"data", 60.0))
    assert not guard.writes.is_open
    assert store.asked == []


@pytest.mark.parametrize("kind", [SlowTransfer, Crowded, PartUnavailable])
def test_a_look_up_of_one_large_value_does_not_keep_others_from_storing(
    store: Slow, way: Any, kind: type[Exception]
) -> None:
    port, run = way
    guard = guard_of(store)

    def slow(key: str, within: float = inf) -> bytes | None:
        store.clock.advance(within)
        raise kind("later")

    store.get = slow  # type: ignore[method-assign]
    for _ in range(5):
        visit = GuardedVisit(guard)
        with pytest.raises(kind):
            run(get(visit, port, "g:large"))
        with pytest.raises(TimeoutError):
            run(visit.set(port, "g:large", b"data", 60.0))
    assert not guard.reads.is_open
    assert not guard.writes.is_open


def test_reads_and_writes_fail_apart(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    run(GuardedVisit(guard).set(port, "g:a", b"data", 60.0))
    store.fails = {"set"}
    for _ in range(3):
        with pytest.raises(TimeoutError):
            run(GuardedVisit(guard).set(port, "g:b", b"data", 60.0))
    visit = GuardedVisit(guard)
    assert not visit.takes
    assert run(get(visit, port, "g:a")) == b"data"
    with pytest.raises(StoreUnavailable):
        run(visit.set(port, "g:b", b"data", 60.0))


def test_a_look_up_that_is_turned_away_finds_nothing(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    run(GuardedVisit(guard).set(port, "g:a", b"data", 60.0))
    store.fails = {"get"}
    for _ in range(3):
        with pytest.raises(TimeoutError):
            run(get(GuardedVisit(guard), port, "g:a"))
    store.asked.clear()
    visit = GuardedVisit(guard)
    assert run(get(visit, port, "g:a")) is None
    assert visit.takes
    assert not store.asked


def test_an_answer_that_is_late_counts_as_a_failure(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)

    class Late(GuardedVisit):
        pass

    visit = Late(guard)
    original = store.get

    def late(key: str, within: float = inf) -> bytes | None:
        store.clock.advance(0.2)
        return original(key, inf)

    store.get = late  # type: ignore[method-assign]
    assert run(get(visit, port, "g:a")) is None
    assert guard.reads.is_open


def test_discarding_is_a_part_of_the_call(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    run(GuardedVisit(guard).set(port, "g:a", b"data", 60.0))
    visit = GuardedVisit(guard)
    run(visit.discard(port, "g:a"))
    assert store.usage("g").entries == 0
    run(visit.set(port, "g:a", b"data", 60.0))
    store.takes["delete"] = 0.3
    visit = GuardedVisit(guard)
    started = store.clock.now
    with pytest.raises(TimeoutError):
        run(visit.discard(port, "g:a"))
    run(visit.discard(port, "g:a"))
    assert store.clock.now - started <= 0.11
    guard.writes.failed(TimeoutError(), 0.1)
    run(GuardedVisit(guard).discard(port, "g:a"))
    assert store.clock.now - started <= 0.11
    assert store.usage("g").entries == 1


def test_a_store_without_room_still_forgets_what_is_of_no_use(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    run(GuardedVisit(guard).set(port, "g:a", b"data", 60.0))
    store.fails = {"set"}
    for _ in range(3):
        with pytest.raises(TimeoutError):
            run(GuardedVisit(guard).set(port, "g:b", b"data", 60.0))
    run(GuardedVisit(guard).discard(port, "g:a"))
    assert guard.writes.is_open
    assert store.usage("g").entries == 0
    store.takes["delete"] = 0.25
    started = store.clock.now
    for _ in range(10):
        with suppress(TimeoutError):
            run(GuardedVisit(guard).discard(port, "g:a"))
    assert store.clock.now - started <= 0.21


def stop_waiting(guard: Guard, store: Slow, seconds: float) -> None:
    """Look something up again and again, and stop waiting after so many seconds."""

    async def silent(key: str, within: float = inf) -> bytes | None:
        store.clock.advance(seconds)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    store.aget = silent  # type: ignore[method-assign]

    async def impatient() -> None:
        for _ in range(10):
            look_up = asyncio.create_task(GuardedVisit(guard).get(AsyncPort(), "g:a"))
            await asyncio.sleep(0)
            look_up.cancel()
            await asyncio.wait([look_up])

    asyncio.run(impatient())


@pytest.mark.parametrize(("waits", "is_open"), [(0.03, True), (0.02, False)])
def test_who_stops_waiting_for_a_silent_store_says_so(
    store: Slow, waits: float, is_open: bool
) -> None:
    guard = guard_of(store)

    stop_waiting(guard, store, waits)
    assert guard.reads.is_open is is_open


class Telling(Slow):
    """A store that says for how long it has owed an answer."""

    owes = 0.0

    def silence(self) -> float:
        return self.owes


@pytest.mark.parametrize(("owes", "is_open"), [(0.0, False), (0.025, False), (0.03125, True)])
def test_who_stops_waiting_blames_a_store_only_for_its_silence(
    clock: FakeClock, owes: float, is_open: bool
) -> None:
    store = Telling(clock)
    store.owes = owes
    guard = guard_of(store)

    stop_waiting(guard, store, 0.03125)
    assert guard.reads.is_open is is_open


def test_an_answer_that_is_late_for_other_reasons_is_no_failure(clock: FakeClock, way: Any) -> None:
    port, run = way
    store = Telling(clock)
    guard = guard_of(store)
    original = store.get

    def late(key: str, within: float = inf) -> bytes | None:
        store.clock.advance(0.2)
        return original(key, inf)

    store.get = late  # type: ignore[method-assign]
    for _ in range(5):
        visit = GuardedVisit(guard)
        assert run(get(visit, port, "g:a")) is None
        with pytest.raises(TimeoutError):
            run(visit.set(port, "g:a", b"data", 60.0))
    assert not guard.reads.is_open
    assert not guard.writes.is_open


def test_forgetting_is_not_turned_away(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    run(GuardedVisit(guard).set(port, "g:a", b"data", 60.0))
    run(GuardedVisit(guard).set(port, "g:b", b"data", 60.0))
    store.fails = {"get", "set"}
    for _ in range(3):
        with pytest.raises(TimeoutError):
            run(GuardedVisit(guard).set(port, "g:c", b"data", 60.0))
    assert run(GuardedVisit(guard).delete(port, "g:a")) is True
    run(GuardedVisit(guard).clear(port, "g"))
    assert store.usage("g").entries == 0


def test_values_by_hand_wait_for_a_silent_store_once(store: Slow, clock: FakeClock) -> None:
    store.timeout = 0.125
    backend = StoreBackend(store, clock=clock.clock)
    store.takes = dict.fromkeys(store.takes, 0.25)
    started = clock.now
    assert backend.set("k", "v") is False
    assert clock.now - started == store.timeout
    assert backend.get("k") is None
    spent = clock.now
    for _ in range(10):
        assert backend.set("k", "v") is False
        assert backend.get("k") is None
    assert clock.now == spent


def test_probes_ask_the_store(store: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guard_of(store)
    for breaker in (guard.reads, guard.writes):
        breaker.failed(OSError(), 1.0)
        store.clock.advance(FIRST_PAUSE)
        breaker._run_probe()
        assert not breaker.is_open
    assert store.asked == [("get", 0.1), ("set", 0.1)]
    assert store.usage(PROBE.partition(":")[0]).entries == 1


def test_storing_is_tried_with_as_much_as_could_not_be_stored(store: Slow, way: Any) -> None:
    port, run = way
    guard = guard_of(store)
    store.fails = {"set"}
    for data in (b"much", b"more data"):
        with pytest.raises(TimeoutError):
            run(GuardedVisit(guard).set(port, "g:a", data, 60.0))
    store.fails = set()
    guard.writes._run_probe()
    assert store.usage(PROBE.partition(":")[0]).bytes == len(b"more data")


def test_all_who_use_a_store_share_its_breakers(store: Slow) -> None:
    one, two = (visits(store, store.clock.clock.monotonic) for _ in range(2))
    assert one()._guard is two()._guard  # type: ignore[attr-defined]
    other = visits(Slow(store.clock), store.clock.clock.monotonic)
    assert other()._guard is not one()._guard  # type: ignore[attr-defined]


def test_a_guard_goes_with_its_users(store: Slow) -> None:
    made = visits(store, store.clock.clock.monotonic)
    guard = weakref.ref(made()._guard)  # type: ignore[attr-defined]
    del made
    gc.collect()
    assert guard() is None


def test_a_store_that_never_waits_is_used_as_it_is(way: Any) -> None:
    port, run = way
    store = MemoryStore()
    visit = visits(store, time.monotonic)()
    assert visit.takes
    assert run(visit.set(port, "g:a", b"data", 60.0)) is True
    assert run(get(visit, port, "g:a")) == b"data"
    run(visit.discard(port, "g:a"))
    assert run(visit.set(port, "g:a", b"data", 60.0)) is True
    assert run(visit.delete(port, "g:a")) is True
    run(visit.clear(port, "g"))
    assert store.usage("g").entries == 0


class Elsewhere(Store):
    """A store of somebody's own, who wrote no awaitable methods."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def __llmcache_key__(self) -> str:
        return "elsewhere"

    def get(self, key: str, within: float = inf) -> bytes | None:
        return self.held.get(key)

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self.held[key] = data
        return True

    def delete(self, key: str, within: float = inf) -> bool:
        return self.held.pop(key, None) is not None

    def clear(self, group: str) -> None:
        for key in [key for key in self.held if key.startswith(f"{group}:")]:
            del self.held[key]


@worlds
def test_a_store_of_four_methods_is_enough(world: World) -> None:
    store = Elsewhere()
    ask = world.cached(lambda text: text, backend=store)
    assert [world.run(ask("hi")) for _ in range(2)] == ["hi"] * 2
    stats = ask.cache.stats()
    assert (stats.hits, stats.size, stats.bytes) == (1, None, None)
    assert world.run(ask.cache.contains("hi")) is True
    assert world.run(ask.cache.invalidate("hi")) is True
    world.run(ask("hi"))
    world.run(ask.cache.clear())
    assert not store.held
    store.close()
    asyncio.run(store.aclose())


@worlds
@pytest.mark.parametrize("timeout", [None, 0.1])
def test_a_store_that_raises_what_ends_an_iteration_fails(
    world: World, timeout: float | None
) -> None:
    class Iterated(MemoryStore):
        aget, aset = Store.aget, Store.aset

        def get(self, key: str, within: float = inf) -> bytes | None:
            return next(iter(()))

        def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
            return next(iter(()))

    store = Iterated()
    store.timeout = timeout
    ask = world.cached(lambda text: text, backend=store, name="ask")
    assert world.run(ask("hi")) == "hi"
    assert ask.cache.stats().errors == 2


@worlds
def test_a_store_that_fails_breaks_no_call_and_is_left_alone(
    world: World, store: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    store.takes = {"get": 9.0, "set": 9.0}
    ask = world.cached(lambda text: text, backend=store, name="ask")
    with configure(clock=store.clock.clock):
        started = store.clock.now
        assert world.run(ask("hi")) == "hi"
        assert store.clock.now - started <= 0.11
        started = store.clock.now
        assert [world.run(ask("hi")) for _ in range(50)] == ["hi"] * 50
        assert store.clock.now - started <= 0.11
    stats = ask.cache.stats()
    assert (stats.calls, stats.misses, stats.stored) == (51, 51, 0)
    assert stats.errors >= 51
    assert len(caplog.records) == 2
    assert "hunter2" not in caplog.text


@worlds
def test_a_store_that_fails_is_seen_when_strict(world: World, store: Slow) -> None:
    store.fails = {"get"}
    ask = world.cached(lambda text: text, backend=store, strict=True)
    with pytest.raises(TimeoutError):
        world.run(ask("hi"))


class Unready(Slow):
    """A store that never says anything at once."""

    def get_at_once(self, key: str, within: float = inf) -> bytes | None:
        raise WouldWait


class Other(Slow):
    """A store that looks up in another way than the one that says something at once."""

    def get(self, key: str, within: float = inf) -> bytes | None:
        return b"another way"


class Awaited(Slow):
    """A store that is awaited in another way than the one that says something at once."""

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        return b"another way"


class Minimal(Store):
    """A store as authors write it."""

    def get(self, key: str, within: float = inf) -> bytes | None:
        return b"data"

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        raise NotImplementedError

    def delete(self, key: str, within: float = inf) -> bool:
        raise NotImplementedError

    def clear(self, group: str) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("kind", [Unready, Other, Awaited])
def test_what_would_have_to_be_waited_for_is_no_failure(kind: type[Slow], clock: FakeClock) -> None:
    guard = Guard(kind(clock), clock.clock.monotonic)
    for _ in range(100):
        with pytest.raises(WouldWait):
            GuardedVisit(guard).get_at_once("g:a")
    assert not guard.reads.is_open


def test_most_stores_say_nothing_at_once(clock: FakeClock) -> None:
    with pytest.raises(WouldWait):
        GuardedVisit(Guard(Minimal(), clock.clock.monotonic)).get_at_once("g:a")
    with pytest.raises(WouldWait):
        Minimal().get_at_once("g:a")


def test_a_store_that_never_waits_says_everything_at_once(clock: FakeClock) -> None:
    store = MemoryStore(clock=clock.clock)
    store.set("g:a", b"data", 60)
    assert visits(store, clock.clock.monotonic)().get_at_once("g:a") == b"data"


def test_who_awaits_is_turned_away_while_the_store_fails(store: Slow) -> None:
    guard = Guard(store, store.clock.clock.monotonic)
    store.fails.add("get")
    for _ in range(3):
        with suppress(TimeoutError):
            asyncio.run(GuardedVisit(guard).aget_now("g:a"))
    store.asked.clear()
    assert asyncio.run(GuardedVisit(guard).aget_now("g:a")) is None
    assert store.asked == []
