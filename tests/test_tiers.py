"""Several stores as one: who is asked, what becomes a copy and for how long, and who may fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest
from framed import Framed, framed, unframed
from stand_ins import FakeClock, in_threads
from twins import World, worlds

from llmcache import ConfigurationError
from llmcache.backends.base import Changes, Store, WouldWait
from llmcache.backends.memory import MemoryStore
from llmcache.guard import GuardedVisit
from llmcache.policy import DEFAULT_TIER_TTL, Clock
from llmcache.ports import SyncPort, drive
from llmcache.testing.caller import Caller
from llmcache.tiers import Tier, TieredStore, TieredVisit, visits


class Server(MemoryStore):
    """A store that may wait, fail, stop in the middle of a look-up, and tell of changes.

    Attributes:
        asked: what it was asked, in order.
        fails: methods that raise.
        within: what it was told it may take.
    """

    timeout = 10.0

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock.clock)
        self.asked: list[str] = []
        self.within: list[float] = []
        self.fails: set[str] = set()
        self.followers: list[Changes] = []
        self.tells = False
        self.meanwhile: Callable[[], object] = lambda: None

    def _work(self, method: str, within: float = inf) -> None:
        self.asked.append(method)
        self.within.append(within)
        if method in self.fails:
            raise OSError("hunter2")

    def get(self, key: str, within: float = inf) -> bytes | None:
        self._work("get", within)
        data = super().get(key)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return data

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        self._work("set", within)
        stored = super().set(key, data, ttl)
        self.tell(key)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return stored

    def delete(self, key: str, within: float = inf) -> bool:
        self._work("delete", within)
        found = super().delete(key)
        self.tell(key)
        return found

    def clear(self, group: str) -> None:
        self._work("clear")
        super().clear(group)

    def follow(self, changes: Changes) -> None:
        if self.tells and changes not in self.followers:
            self.followers.append(changes)
            changes.began()

    def close(self) -> None:
        self.asked.append("close")

    def tell(self, key: str) -> None:
        for changes in self.followers:
            changes.changed(key)

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        return self.get(key, within)

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        return self.set(key, data, ttl, within)

    async def adelete(self, key: str, within: float = inf) -> bool:
        return self.delete(key, within)

    async def aclear(self, group: str) -> None:
        self.clear(group)

    async def aclose(self) -> None:
        self.close()


class Tiers:
    """Memory over a server, called in one of both ways; entries say how long they live."""

    def __init__(self, clock: FakeClock, *, awaited: bool) -> None:
        self.clock = clock
        self.memory = MemoryStore(clock=clock.clock)
        self.server = Server(clock)
        self.store = TieredStore(self.memory, self.server, clock=clock.clock)
        self.caller = Caller(Framed(self.store, clock.clock), awaited=awaited)
        self.awaited = awaited

    def elsewhere(self, key: str, data: bytes, ttl: float = inf) -> None:
        """Have another process store something."""
        MemoryStore.set(self.server, key, framed(key, data, ttl, self.clock.now), ttl)
        self.server.tell(key)

    def copy(self, key: str = "g:a") -> bytes | None:
        return unframed(key, self.memory.get(key))

    def get(self, key: str = "g:a") -> bytes | None:
        return self.caller.get(key)

    def set(self, data: bytes, ttl: float = inf, key: str = "g:a") -> bool:
        return self.caller.set(key, data, ttl)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def tiers(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Tiers]:
    tiers = Tiers(clock, awaited=request.param)
    with tiers.caller:
        yield tiers


def test_what_is_in_memory_is_not_looked_up(tiers: Tiers) -> None:
    tiers.set(b"one")
    tiers.server.asked.clear()
    assert tiers.get() == b"one"
    assert tiers.server.asked == []


def test_what_is_stored_goes_to_all(tiers: Tiers) -> None:
    assert tiers.set(b"one")
    assert tiers.copy() == unframed("g:a", MemoryStore.get(tiers.server, "g:a")) == b"one"


def test_what_the_last_has_becomes_a_copy(tiers: Tiers) -> None:
    tiers.elsewhere("g:a", b"one", 60)
    assert tiers.get() == b"one"
    assert tiers.server.asked == ["get"]
    assert tiers.get() == b"one"
    assert tiers.server.asked == ["get"]


def test_a_copy_lives_for_what_its_entry_still_has(tiers: Tiers) -> None:
    tiers.server.tells = True
    tiers.elsewhere("g:a", b"one", 60)
    tiers.clock.advance(50)
    assert tiers.get() == b"one"
    tiers.clock.advance(9.75)
    assert tiers.copy() == b"one"
    tiers.clock.advance(0.25)
    assert tiers.copy() is None
    assert tiers.get() is None


@pytest.mark.parametrize("stored", [False, True])
def test_a_copy_lives_for_its_tiers_ttl_while_nobody_tells(tiers: Tiers, stored: bool) -> None:
    if stored:
        tiers.set(b"one")
    else:
        tiers.elsewhere("g:a", b"one")
        tiers.get()
    tiers.elsewhere("g:a", b"two")
    tiers.clock.advance(DEFAULT_TIER_TTL - 0.25)
    assert tiers.get() == b"one"
    tiers.clock.advance(0.25)
    assert tiers.get() == b"two"


def test_a_tier_may_have_a_ttl_of_its_own(clock: FakeClock) -> None:
    server = Server(clock)
    store = TieredStore(Tier(MemoryStore(clock=clock.clock), 60.0), server, clock=clock.clock)
    store.set("g:a", b"one", inf)
    server.asked.clear()
    clock.advance(59)
    assert store.get("g:a") == b"one"
    assert server.asked == []


def test_what_changes_elsewhere_goes_at_once_if_that_is_told(tiers: Tiers) -> None:
    tiers.server.tells = True
    tiers.elsewhere("g:a", b"one")
    tiers.get()
    tiers.clock.advance(1000)
    assert tiers.copy() == b"one"
    tiers.elsewhere("g:a", b"two")
    assert tiers.get() == b"two"


@pytest.mark.parametrize("end", ["began", "lost"])
def test_whoever_may_have_missed_something_forgets_everything(tiers: Tiers, end: str) -> None:
    tiers.server.tells = True
    tiers.elsewhere("g:a", b"one")
    tiers.get()
    getattr(tiers.store.copies[0], end)()
    assert tiers.copy() is None
    assert tiers.store.copies[0].tracked is (end == "began")


@pytest.mark.parametrize("what", ["changed", "lost", "clear", "set"])
def test_what_changes_while_it_is_looked_up_is_no_copy(tiers: Tiers, what: str) -> None:
    tiers.server.tells = True
    tiers.elsewhere("g:a", b"old")
    changes: dict[str, Callable[[], object]] = {
        "changed": lambda: tiers.elsewhere("g:a", b"new"),
        "lost": lambda: tiers.store.copies[0].lost(),
        "clear": lambda: tiers.store.clear("g"),
        "set": lambda: tiers.store.set("g:a", framed("g:a", b"new", inf, tiers.clock.now), inf),
    }
    tiers.server.meanwhile = changes[what]
    assert tiers.get() == b"old"
    assert tiers.copy() in {"set": (b"new", None)}.get(what, (None,))


def test_a_change_of_another_key_in_between_does_no_harm(tiers: Tiers) -> None:
    tiers.server.tells = True
    tiers.elsewhere("g:a", b"one")
    tiers.server.meanwhile = lambda: (tiers.elsewhere("g:b", b"two"), tiers.store.clear("h"))
    assert tiers.get() == b"one"
    assert tiers.copy() == b"one"


def test_what_is_replaced_elsewhere_while_it_is_stored_is_no_copy(tiers: Tiers) -> None:
    tiers.server.meanwhile = lambda: tiers.store.copies[0].changed("g:a")
    assert tiers.set(b"one")
    assert tiers.copy() is None
    assert tiers.get() == b"one"


def test_of_two_who_store_the_last_server_decides(tiers: Tiers) -> None:
    tiers.server.meanwhile = lambda: tiers.store.set("g:a", b"inner", inf)
    tiers.set(b"outer")
    assert tiers.memory.get("g:a") is None
    assert tiers.store.get("g:a") == b"inner"


def test_what_does_not_say_how_long_it_lives_is_not_copied(tiers: Tiers) -> None:
    for data in (b"", b"short", bytes(1000)):
        MemoryStore.set(tiers.server, "g:a", data, inf)
        assert tiers.store.get("g:a") == data
        assert tiers.memory.get("g:a") is None


def test_what_is_over_is_not_copied(tiers: Tiers) -> None:
    MemoryStore.set(tiers.server, "g:a", framed("g:a", b"one", 10, tiers.clock.now - 10), inf)
    tiers.get()
    assert tiers.copy() is None


def test_deleting_and_clearing_reach_all(tiers: Tiers) -> None:
    for key in ("g:a", "g:b", "h:a"):
        tiers.set(b"one", key=key)
    assert tiers.caller.delete("g:a")
    assert not tiers.caller.delete("g:a")
    tiers.caller.clear("g")
    for key in ("g:a", "g:b"):
        assert tiers.copy(key) is None
        assert MemoryStore.get(tiers.server, key) is None
    assert tiers.copy("h:a") == b"one"


def test_a_server_that_fails_is_left_out(tiers: Tiers) -> None:
    tiers.server.fails = {"get", "set"}
    assert tiers.set(b"one")
    assert tiers.get() == b"one"
    with pytest.raises(OSError, match="hunter2"):
        tiers.get("g:b")


def test_a_server_without_room_forgets_what_is_replaced(tiers: Tiers) -> None:
    tiers.set(b"old")
    tiers.server.fails = {"set"}
    for number in range(5):
        tiers.elsewhere("g:a", b"old")
        assert tiers.set(b"new %d" % number) is True
        assert tiers.get() == b"new %d" % number
        assert tiers.server.usage("g").entries == 0


def test_what_cannot_be_deleted_everywhere_is_said(tiers: Tiers) -> None:
    tiers.set(b"one")
    tiers.server.fails = {"delete", "clear"}
    with pytest.raises(OSError, match="hunter2"):
        tiers.caller.delete("g:a")
    assert tiers.copy() is None
    tiers.get()
    with pytest.raises(OSError, match="hunter2"):
        tiers.caller.clear("g")
    assert tiers.copy() is None


def test_each_store_has_its_own_deadline_or_less(tiers: Tiers) -> None:
    tiers.caller.get("g:a")
    tiers.caller.get("g:a", within=2.0)
    assert tiers.server.within == [10.0, 2.0]
    assert tiers.store.timeout == 10.0


def test_closing_closes_all(tiers: Tiers) -> None:
    tiers.caller.close()
    assert tiers.server.asked == ["close"]


class Between:
    """Memory over two servers."""

    def __init__(self, clock: FakeClock, *, awaited: bool) -> None:
        self.clock = clock
        self.memory = MemoryStore(clock=clock.clock)
        self.between, self.last = Server(clock), Server(clock)
        # Whatever the order, memory is asked first.
        self.store = TieredStore(
            Tier(self.between, 7.0), Tier(self.memory, 3.0), self.last, clock=clock.clock
        )
        self.caller = Caller(Framed(self.store, clock.clock), awaited=awaited)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def three(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Between]:
    three = Between(clock, awaited=request.param)
    with three.caller:
        yield three


def test_the_last_of_three_fills_both_others(three: Between) -> None:
    data = framed("g:a", b"one", inf, three.clock.now)
    MemoryStore.set(three.last, "g:a", data, inf)
    assert three.caller.get("g:a") == b"one"
    assert three.memory.get("g:a") == MemoryStore.get(three.between, "g:a") == data
    three.clock.advance(3)
    assert three.caller.get("g:a") == b"one"
    assert (three.between.asked, three.last.asked) == (["get", "set", "get"], ["get"])
    # A copy of a copy would be out of date for longer than either may.
    assert three.memory.get("g:a") is None
    three.clock.advance(4)
    assert MemoryStore.get(three.between, "g:a") is None


def test_who_is_in_between_is_told_less(three: Between) -> None:
    assert three.caller.set("g:a", b"one", 5.0)
    three.clock.advance(4.75)
    assert three.caller.get("g:a") == b"one"
    assert three.last.asked == ["set"]


def test_a_failure_in_between_is_left_out(three: Between) -> None:
    MemoryStore.set(three.last, "g:a", framed("g:a", b"one", inf, three.clock.now), inf)
    three.between.fails = {"get", "set"}
    assert three.caller.get("g:a") == b"one"
    assert three.memory.get("g:a") is not None
    with pytest.raises(OSError, match="hunter2"):
        three.caller.get("g:b")
    assert three.caller.set("g:b", b"two")
    assert three.caller.get("g:b") == b"two"
    three.clock.advance(3)
    assert three.caller.get("g:b") == b"two"


def test_what_nobody_stores_is_said(clock: FakeClock) -> None:
    stores = [Server(clock), Server(clock)]
    for store in stores:
        store.fails = {"set"}
    tiered = TieredStore(*stores, clock=clock.clock)
    with pytest.raises(OSError, match="hunter2"):
        tiered.set("g:a", b"one", 60)
    assert TieredVisit(tiered).takes
    for _ in range(2):
        with pytest.raises(OSError, match="hunter2"):
            tiered.set("g:a", b"one", 60)
    assert not TieredVisit(tiered).takes


def test_one_call_asks_no_server_longer_than_it_may(clock: FakeClock) -> None:
    server = Server(clock)
    tiered = TieredStore(MemoryStore(clock=clock.clock), server, clock=clock.clock)
    visit = visits(tiered, clock.clock.monotonic)()
    server.meanwhile = lambda: clock.advance(4)
    assert visit.get_now("g:a") is None
    assert drive(visit.set(SyncPort(), "g:a", b"one", 60))
    assert server.within == [10.0, 6.0]


def test_what_is_of_no_use_is_discarded_everywhere(clock: FakeClock) -> None:
    memory, server = MemoryStore(clock=clock.clock), Server(clock)
    tiered = TieredStore(memory, server, clock=clock.clock)
    for fails in (set(), {"delete"}):
        tiered.set("g:a", b"one", 60)
        server.fails = fails
        discarding = visits(tiered, clock.clock.monotonic)().discard(SyncPort(), "g:a")
        if fails:
            with pytest.raises(OSError, match="hunter2"):
                drive(discarding)
        else:
            drive(discarding)
            assert MemoryStore.get(server, "g:a") is None
        assert memory.get("g:a") is None


@pytest.mark.parametrize("method", ["set", "delete", "clear"])
def test_whoever_is_interrupted_leaves_no_copy_behind(clock: FakeClock, method: str) -> None:
    memory, server = MemoryStore(clock=clock.clock), Server(clock)
    tiered = TieredStore(memory, server, clock=clock.clock)
    tiered.set("g:a", b"old", 60)

    class Interrupted(BaseException):
        pass

    def interrupt(name: str, within: float = inf) -> None:
        raise Interrupted

    server._work = interrupt  # type: ignore[method-assign]
    arguments = {"set": ("g:a", b"new", 60), "delete": ("g:a",), "clear": ("g",)}[method]
    with pytest.raises(Interrupted):
        getattr(tiered, method)(*arguments)
    assert memory.get("g:a") is None


def test_a_cancelled_task_leaves_no_copy_behind(clock: FakeClock) -> None:
    class Waiting(Server):
        async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    memory = MemoryStore(clock=clock.clock)
    tiered = TieredStore(memory, Waiting(clock), clock=clock.clock)
    memory.set("g:a", b"old", inf)
    begun = asyncio.Event()

    async def main() -> None:
        task = asyncio.create_task(tiered.aset("g:a", b"new", inf))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert memory.get("g:a") is None


def test_the_last_store_says_how_much_there_is(clock: FakeClock) -> None:
    last = MemoryStore(max_size=3, clock=clock.clock)
    tiered = TieredStore(MemoryStore(max_size=1, clock=clock.clock), last, clock=clock.clock)
    dropped: list[str] = []
    tiered.watch("g", dropped.append)
    for name in "abcd":
        tiered.set(f"g:{name}", b"data", 60)
    assert tiered.usage("g") == (3, 12)
    assert tiered.max_size == 3
    assert dropped == ["evicted"]
    assert TieredStore(last, Server(clock)).usage("g") == (0, 0)


def test_tiers_of_tiers_tell_of_changes(clock: FakeClock) -> None:
    server = Server(clock)
    server.tells = True
    inner = TieredStore(MemoryStore(clock=clock.clock), server, clock=clock.clock)
    outer = TieredStore(MemoryStore(clock=clock.clock), inner, clock=clock.clock)
    outer.get("g:a")
    assert outer.copies[0].tracked
    assert inner.copies[0].tracked


def test_memory_alone_never_waits(clock: FakeClock) -> None:
    assert TieredStore(MemoryStore(), MemoryStore()).timeout is None
    assert not isinstance(
        visits(MemoryStore(), clock.clock.monotonic)(), GuardedVisit | TieredVisit
    )


@pytest.mark.parametrize("stores", [(), (MemoryStore(),)])
def test_one_store_is_no_tiers(stores: tuple[Store, ...]) -> None:
    with pytest.raises(ConfigurationError, match=f"two stores or more, and not {len(stores)}"):
        TieredStore(*stores)


def test_threads_never_find_what_was_replaced_before_they_asked() -> None:
    """Nobody tells of changes here: it is for those who share a process to see to it."""
    memory = MemoryStore()
    tiered = Framed(TieredStore(memory, MemoryStore()))
    newest = 0
    over = threading.Event()

    def work(number: int) -> None:
        nonlocal newest
        try:
            for turn in range(1, 1500) if number == 0 else iter(over.is_set, True):
                if number == 0:
                    tiered.set("g:a", b"%d" % turn, inf)
                    newest = turn
                    memory.empty()
                else:
                    least = newest
                    found = tiered.get("g:a")
                    assert found is None or int(found) >= least
        finally:
            over.set()

    in_threads(work, threads=4)


def test_a_process_that_is_forked_has_no_copies(tiers: Tiers) -> None:
    tiers.server.tells = True
    tiers.elsewhere("g:a", b"one")
    tiers.get()
    copies = tiers.store.copies[0]
    mark = copies.mark("g:a")
    copies.forget()
    assert not copies.tracked
    assert tiers.copy() is None
    assert copies.mark("g:a") is not mark


@worlds
def test_functions_use_tiers(world: World, clock: FakeClock) -> None:
    calls = []

    def ask(text: str) -> str:
        calls.append(text)
        return text.upper()

    now = Clock(wall=clock.clock.wall, monotonic=clock.clock.monotonic)
    memory, server = MemoryStore(clock=now), Server(clock)
    tiered = TieredStore(memory, server, clock=now)
    cached = world.cached(ask, backend=tiered, name="ask")
    for _ in range(3):
        assert world.run(cached("hi")) == "HI"
    assert server.asked == ["get", "set"]
    memory.empty()
    for _ in range(3):
        assert world.run(cached("hi")) == "HI"
    assert server.asked == ["get", "set", "get"]
    assert calls == ["hi"]
    assert world.run(cached.cache.invalidate("hi"))
    assert not world.run(cached.cache.contains("hi"))
    server.fails = {"get", "set"}
    for _ in range(2):
        assert world.run(cached("hi")) == "HI"
    assert calls == ["hi", "hi"]
    numbers: Any = cached.cache.stats()
    assert (numbers.hits, numbers.misses, numbers.stored, numbers.errors) == (6, 2, 2, 1)


class Slow(Server):
    """A store between two others, in which something happens just before an entry is there."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        before, self.before = self.before, lambda: None
        before()
        return super().set(key, data, ttl, within)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def around(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Any]:
    """A store between, the last one, and what calls both as one."""
    between, last = Slow(clock), Server(clock)
    store = Framed(TieredStore(between, last, clock=clock.clock), clock.clock)
    with Caller(store, awaited=request.param) as caller:
        caller.set("g:a", b"old", inf)
        between.delete("g:a")
        yield between, last, caller


def meanwhile(caller: Caller, how: str) -> Callable[[], object]:
    """Return what another thread does to the entry that is read."""

    def work(_: int) -> None:
        with Caller(caller.store, awaited=caller.awaited) as mine:
            if how == "set":
                mine.set("g:a", b"new", inf)
            elif how == "delete":
                mine.delete("g:a")
            else:
                mine.clear("g")

    return lambda: in_threads(work, threads=1)


@pytest.mark.parametrize("how", ["set", "delete", "clear"])
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_what_is_read_late_replaces_nothing_between(around: Any, how: str, when: str) -> None:
    between, last, caller = around
    happens = meanwhile(caller, how)
    seen: list[bytes | None] = []

    def look(_: int) -> None:
        with Caller(caller.store, awaited=caller.awaited) as mine:
            seen.append(mine.get("g:a"))

    def when_it_is_put_there() -> None:
        if when == "during":
            happens()
            between.meanwhile = lambda: in_threads(look, threads=1)
        else:
            between.meanwhile = lambda: (happens(), in_threads(look, threads=1))

    if when == "before":
        last.meanwhile = happens
    else:
        between.before = when_it_is_put_there
    expected = b"new" if how == "set" else None
    assert caller.get("g:a") == b"old"
    assert caller.get("g:a") == expected
    assert seen == ([] if when == "before" else [expected])


def test_only_what_is_in_memory_is_said_at_once(clock: FakeClock) -> None:
    tiered = TieredStore(MemoryStore(clock=clock.clock), Server(clock), clock=clock.clock)
    visit = visits(tiered, clock.clock.monotonic)()
    with pytest.raises(WouldWait):
        visit.get_at_once("g:a")
    tiered.set("g:a", b"one", 60)
    assert visit.get_at_once("g:a") == b"one"
