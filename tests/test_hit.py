"""A hit in memory goes a straight line, and whatever is out of the ordinary goes another way."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from codec import samples
from codec.samples import Point, Usage
from stand_ins import FakeClock
from twins import World, worlds

import llmcache
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.codec.frame import Entry, Frame
from llmcache.codec.tree import PLAIN
from llmcache.hit import UNASKED, Unanswered, ask_nobody
from llmcache.kept import Kept
from llmcache.keys.request import Keyer
from llmcache.policy import MAX_CLOCK_SKEW, judge


def hit_of(ask: Any) -> Any:
    return ask._self_engine.hit


def answer(text: str) -> dict[str, str]:
    return {"answer": text}


@worlds
def test_a_hit_is_answered_in_a_straight_line(world: World) -> None:
    ask = world.cached(answer)
    assert hit_of(ask)(("a",), {}) is UNASKED
    world.run(ask("a"))
    first, second = hit_of(ask)(("a",), {}), hit_of(ask)((), {"text": "a"})
    assert first == second == {"answer": "a"}
    assert first is not second
    assert ask.cache.stats().hits == 2


class Outside(Store):
    """A store outside of this process: what it returns is new bytes each time."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.fails = False

    def __llmcache_key__(self) -> str:
        return "outside"

    def get(self, key: str, within: float = math.inf) -> bytes | None:
        if self.fails:
            raise OSError
        data = self.entries.get(key)
        return None if data is None else bytes(bytearray(data))

    def set(self, key: str, data: bytes, ttl: float, within: float = math.inf) -> bool:
        self.entries[key] = bytes(data)
        return True

    def delete(self, key: str, within: float = math.inf) -> bool:
        return self.entries.pop(key, None) is not None

    def clear(self, group: str) -> None:
        raise NotImplementedError

    async def aget(self, key: str, within: float = math.inf) -> bytes | None:
        await asyncio.sleep(0)
        return self.get(key)


class Ready(Outside):
    """One that answers at once."""

    def get_at_once(self, key: str, within: float = math.inf) -> bytes | None:
        return self.get(key)


outside = pytest.mark.parametrize("kind", [Outside, Ready])


@worlds
@outside
def test_what_comes_from_outside_is_proven_once(
    world: World, kind: type[Outside], monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = []
    prove = Frame._prove
    monkeypatch.setattr(Frame, "_prove", lambda *args: proofs.append(args) or prove(*args))
    ask = world.cached(answer, backend=kind())
    values = [world.run(ask("a")) for _ in range(5)]
    assert values == [{"answer": "a"}] * 5
    assert len({*map(id, values)}) == 5
    assert ask.cache.stats().hits == 4
    assert len(proofs) == 1


@pytest.mark.parametrize(("kind", "is_answered"), [(Outside, False), (Ready, True)])
def test_who_awaits_does_not_wait_for_what_is_said_at_once(
    kind: type[Outside], is_answered: bool
) -> None:
    ask = World("async").cached(answer, backend=kind())
    for _ in range(2):
        asyncio.run(ask("a"))
    found = hit_of(ask)(("a",), {})
    if is_answered:
        assert found == {"answer": "a"}
    else:
        assert found.read is not None
        assert found.data is None


@worlds
@outside
def test_what_has_changed_outside_is_proven_again(world: World, kind: type[Outside]) -> None:
    store = kind()
    ask = world.cached(answer, backend=store)
    for _ in range(3):
        world.run(ask("a"))
    [(key, data)] = store.entries.items()
    for place in (-1, 0, len(data) // 2):
        spoilt = bytearray(data)
        spoilt[place] ^= 1
        store.entries[key] = bytes(spoilt)
        assert world.run(ask("a")) == {"answer": "a"}
        assert store.entries[key] != spoilt
    stats = ask.cache.stats()
    assert (stats.hits, stats.misses, stats.corrupt) == (2, 4, 3)


@worlds
@outside
def test_a_large_entry_from_outside_is_proven_each_time(
    world: World, kind: type[Outside], monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = []
    prove = Frame._prove
    monkeypatch.setattr(Frame, "_prove", lambda *args: proofs.append(args) or prove(*args))
    ask = world.cached(lambda text: text * 100_000, name="large", backend=kind())
    for _ in range(4):
        assert world.run(ask("a")) == "a" * 100_000
    assert ask.cache.stats().hits == len(proofs) == 3


@worlds
@outside
def test_what_is_gone_outside_is_a_miss(world: World, kind: type[Outside]) -> None:
    store = kind()
    ask = world.cached(answer, backend=store)
    for _ in range(3):
        world.run(ask("a"))
    store.entries.clear()
    assert world.run(ask("a")) == {"answer": "a"}
    store.fails = True
    assert world.run(ask("a")) == {"answer": "a"}
    stats = ask.cache.stats()
    assert (stats.hits, stats.misses, stats.errors) == (2, 3, 1)


@worlds
@outside
def test_what_is_kept_is_as_old_as_it_is(
    world: World, kind: type[Outside], clock: FakeClock
) -> None:
    ask = world.cached(answer, backend=kind(), ttl=10)
    with llmcache.configure(clock=clock.clock):
        for _ in range(3):
            world.run(ask("a"))
        clock.advance(10)
        world.run(ask("a"))
    stats = ask.cache.stats()
    assert (stats.hits, stats.misses) == (2, 2)


@worlds
@outside
@pytest.mark.parametrize("options", [{"encrypt": bytes(32)}, {"compress": "zlib"}], ids=str)
def test_what_is_not_in_clear_is_not_kept(
    world: World,
    kind: type[Outside],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Kept, "keep", lambda *_: pytest.fail("kept"))
    ask = world.cached(lambda text: text, name="long", backend=kind(), **options)
    for _ in range(3):
        assert world.run(ask("a" * 20_000)) == "a" * 20_000
    assert ask.cache.stats().hits == 2


@worlds
def test_a_request_that_grows_is_another_one(world: World) -> None:
    messages = ["hello"]

    def count(messages: list[str], tools: list[str] = messages) -> int:
        return len(messages) + len(tools)

    ask = world.cached(count)
    for number in (1, 2, 3):
        for _ in range(4):
            assert world.run(ask(messages)) == 2 * number
        messages.append("and")
    assert world.run(ask(messages[:1])) == 5


@worlds
def test_who_encrypts_has_no_request_kept_in_clear(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    remembering = Keyer.remembering
    monkeypatch.setattr(Keyer, "remembering", lambda keyer: kept.append(1) or remembering(keyer))
    for encrypt, expected in ((bytes(32), 0), (None, 1)):
        ask = world.cached(answer, encrypt=encrypt)
        for _ in range(3):
            assert world.run(ask("a")) == {"answer": "a"}
        assert ask.cache.stats().hits == 2
        assert len(kept) == expected


def test_a_static_coroutine_method_goes_a_straight_line_too() -> None:
    class Bot:
        @llmcache.llm_cached
        @staticmethod
        async def ask(text: str) -> dict[str, str]:
            return answer(text)

    for bot in (Bot, Bot(), Bot):
        assert asyncio.run(bot.ask("a")) == {"answer": "a"}
    assert hit_of(vars(Bot)["ask"])(("a",), {}) == {"answer": "a"}
    stats = Bot.ask.cache.stats()
    assert (stats.hits, stats.misses) == (3, 1)


@worlds
@pytest.mark.parametrize("answer", [Usage(tokens=1), Usage(details=Point(1))], ids=str)
def test_a_hit_is_of_the_class_that_is_there_now(
    world: World, answer: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def body(text: str) -> Usage:
        asked.append(text)
        return answer

    ask = world.cached(body)
    for _ in range(3):
        assert world.run(ask("a")) == answer
    other = type("Usage", (Usage,), {"__module__": Usage.__module__})
    with monkeypatch.context() as patch:
        patch.setattr(samples, "Usage", other)
        assert type(hit_of(ask)(("a",), {})) is Unanswered
        assert type(world.run(ask("a"))) is other
        assert type(hit_of(ask)(("a",), {})) is other
        assert asked == ["a"]
        patch.delattr(samples, "Usage")
        assert world.run(ask("a")) is answer
        assert asked == ["a", "a"]


@worlds
def test_an_entry_answers_each_function_by_its_own_measure(world: World, clock: FakeClock) -> None:
    store = MemoryStore()
    with llmcache.configure(clock=clock.clock):
        asks = [world.cached(answer, backend=store, name="n", ttl=ttl) for ttl in (100, 10)]
        for ask in (*asks, *asks):
            assert world.run(ask("a")) == {"answer": "a"}
        clock.advance(10)
        lines = [hit_of(ask)(("a",), {}) for ask in asks]
    assert lines[0] == {"answer": "a"}
    assert type(lines[1]) is Unanswered


@worlds
def test_an_entry_of_another_key_is_no_hit_however_well_it_is_known(world: World) -> None:
    store = MemoryStore()
    ask = world.cached(answer, backend=store)
    for text in ("a", "b", "a", "b", "a", "b"):
        assert world.run(ask(text)) == {"answer": text}
    prefix = ask._self_engine._resolved().prefix
    here, there = (prefix + ask.cache.key(text) for text in ("a", "b"))
    store.set(here, store._entries[there], 60)
    assert type(hit_of(ask)(("a",), {})) is Unanswered
    assert world.run(ask("a")) == {"answer": "a"}
    stats = ask.cache.stats()
    assert (stats.hits, stats.misses, stats.corrupt) == (4, 3, 1)


@worlds
def test_what_is_not_there_has_been_looked_up(world: World) -> None:
    ask = world.cached(answer)
    world.run(ask("a"))
    found = hit_of(ask)(("b",), {})
    assert type(found) is Unanswered
    assert found.digest.hex() == ask.cache.key("b")
    assert ask.cache.stats().calls == 1


@worlds
def test_hits_are_counted_however_many_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmcache.hit.FEW_HITS", 5)
    ask = world.cached(answer)
    for _ in range(12):
        world.run(ask("a"))
    assert len(ask._self_engine.counters.saved) <= 6
    assert ask.cache.stats().hits == 11


class Failing(MemoryStore):
    """Fails when it is asked, and knows how often that was."""

    fails = False
    asked = 0

    def get(self, key: str, within: float = 0.0) -> bytes | None:
        self.asked += 1
        if self.fails:
            raise OSError
        return super().get(key)


class Waiting(Failing):
    """May make its callers wait."""

    timeout = 5.0


@worlds
@pytest.mark.parametrize("kind", [Failing, Waiting])
def test_a_store_that_fails_is_asked_once_in_a_call(world: World, kind: type[Failing]) -> None:
    store = kind()
    ask = world.cached(answer, backend=store)
    world.run(ask("a"))
    assert world.run(ask("a")) == {"answer": "a"}
    store.fails, before = True, store.asked
    assert world.run(ask("a")) == {"answer": "a"}
    assert store.asked == before + 1
    assert (ask.cache.stats().errors, ask.cache.stats().misses) == (1, 2)


def test_a_store_that_may_wait_is_used_within_one_deadline() -> None:
    store = Waiting()
    ask = World("sync").cached(answer, backend=store)
    ask("a")
    found = hit_of(ask)(("b",), {})
    assert type(found) is Unanswered
    assert found.visit is not None
    assert hit_of(ask)(("a",), {}) == {"answer": "a"}


@worlds
def test_who_must_go_another_way(world: World, clock: FakeClock) -> None:
    store = MemoryStore()
    with llmcache.configure(clock=clock.clock):
        ask = world.cached(answer, backend=store, ttl=10)
        world.run(ask("a"))
        line = hit_of(ask)
        assert line(("a",), {}) == {"answer": "a"}
        assert line(("a", "b"), {}) is UNASKED
        assert line((object(),), {}) is UNASKED
        with llmcache.on_event(lambda event: None):
            assert line(("a",), {}) is UNASKED
        clock.advance(10)
        stale = line(("a",), {})
        assert type(stale) is Unanswered
        assert stale.data is not None
        clock.advance(-10 - MAX_CLOCK_SKEW)
        assert line(("a",), {}) == {"answer": "a"}
        clock.advance(-1)
        assert type(line(("a",), {})) is Unanswered
    assert line(("a",), {}) is UNASKED
    assert ask.cache.stats().hits == 2


@pytest.mark.parametrize("created", [-100.0, -10.0, -9.9, 0.0, 60.0, 60.1, 1e9])
@pytest.mark.parametrize("expires", [-math.inf, -1.0, 0.0, 0.1, 30.0, math.inf, math.nan])
@pytest.mark.parametrize("ttl", [0, 10, 1000, None])
def test_an_entry_is_judged_as_everywhere(
    clock: FakeClock, created: float, expires: float, ttl: float | None
) -> None:
    store = MemoryStore()
    with llmcache.configure(clock=clock.clock):
        ask = World("sync").cached(answer, backend=store, ttl=ttl)
        ask("a")
        now = clock.clock.wall()
        runtime, digest = ask._self_engine._resolved(), bytes.fromhex(ask.cache.key("a"))
        entry = Entry(now + created, now + expires, 1.0, 0.0, 0, PLAIN, b"")
        data = runtime.entries.frame.seal(entry, b"1", digest)
        store.set(runtime.prefix + digest.hex(), data, 1.0)
        is_hit = hit_of(ask)(("a",), {}) == 1
        verdict = judge(now + created, now + expires, now, runtime.policy.ttl)
        assert is_hit is (verdict == "fresh")
        assert is_hit is runtime.entries.answers(data, digest, runtime.policy.ttl)


@worlds
@pytest.mark.parametrize(
    "options",
    [{"key": lambda text: text}, {"secret": b"s" * 16}],
    ids=["key", "secret"],
)
def test_whose_calls_never_go_straight(world: World, options: dict[str, Any]) -> None:
    ask = world.cached(answer, **options)
    assert world.run(ask("a")) == world.run(ask("a"))
    assert hit_of(ask) is ask_nobody
    assert ask.cache.stats().hits == 1


@worlds
def test_calls_that_stream_or_leave_something_out_do_not_go_straight(world: World) -> None:
    def body(**request: Any) -> str:
        return str(request["text"])

    ask = world.cached(body)
    assert world.run(ask(text="a", request_id=1)) == "a"
    line = hit_of(ask)
    assert line((), {"text": "a"}) == line((), {"text": "a"}) == "a"
    assert line((), {"text": "a", "request_id": 2}) is UNASKED
    assert line((), {"text": "a", "stream": True}) is UNASKED
    assert world.run(ask(text="a", request_id=3)) == "a"
    assert ask.cache.stats().hits == 3


@worlds
def test_nothing_goes_straight_while_the_cache_is_off(world: World) -> None:
    ask = world.cached(answer)
    world.run(ask("a"))
    with llmcache.configure(enabled=False):
        world.run(ask("a"))
        assert hit_of(ask) is ask_nobody
    assert world.run(ask("a")) == {"answer": "a"}
    assert ask.cache.stats().calls == 2
