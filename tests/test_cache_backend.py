"""Values by hand: kept like answers, and in whatever place somebody writes."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from stand_ins import FakeClock, in_threads
from twins import World, worlds

from llmcache import (
    FOREVER,
    CacheBackend,
    ConfigurationError,
    MemoryCacheBackend,
    SQLiteCacheBackend,
    generate_cache_key,
    llm_cached,
)
from llmcache.backends.memory import MemoryStore
from llmcache.cache_backend import BackendStore, StoreBackend
from llmcache.errors import InvalidKey, LLMCacheError


class Hand:
    """A backend, reached through its blocking or its awaitable methods."""

    def __init__(self, backend: CacheBackend, world: World) -> None:
        self.backend = backend
        self.prefix = "a" if world.is_async else ""
        self.run = world.run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.backend, self.prefix + name)
        return lambda *args, **kwargs: self.run(method(*args, **kwargs))


class Answer(BaseModel):
    text: str
    tokens: int = 0


@dataclass
class Point:
    x: int
    y: Any = None


class Shelf(CacheBackend):
    """What somebody would write: JSON texts in a dict."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.ttls: list[Any] = []
        self.closed = 0

    def __llmcache_key__(self) -> str:
        return "shelf"

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.held[key]) if key in self.held else default

    def set(self, key: str, value: Any, ttl: Any = None) -> None:
        self.ttls.append(ttl)
        self.held[key] = json.dumps(value)

    def delete(self, key: str) -> bool:
        return self.held.pop(key, None) is not None

    def clear(self) -> None:
        self.held.clear()

    def get_stats(self) -> dict[str, Any]:
        return {"size": len(self.held)}

    def close(self) -> None:
        self.closed += 1


@worlds
def test_what_is_set_comes_back(world: World) -> None:
    hand = Hand(MemoryCacheBackend(), world)
    assert hand.get("k") is None
    assert hand.set("k", {"a": [1]}) is True
    assert hand.get("k") == {"a": [1]}
    assert hand.delete("k") is True
    assert hand.delete("k") is False
    assert hand.get("k") is None


@worlds
@pytest.mark.parametrize(
    "value",
    [None, False, 0, "", [], Answer(text="hi"), Point(1, (2, {3})), math.nan, b"\0", 10**30],
    ids=repr,
)
def test_values_of_every_kind_come_back(world: World, value: Any) -> None:
    hand = Hand(MemoryCacheBackend(), world)
    missing = object()
    assert hand.get("k", default=missing) is missing
    hand.set("k", value)
    found = hand.get("k", default=missing)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@worlds
def test_each_get_is_a_copy(world: World) -> None:
    hand = Hand(MemoryCacheBackend(), world)
    value = {"a": [1]}
    hand.set("k", value)
    value["a"].append(2)
    hand.get("k")["a"].append(3)
    assert hand.get("k") == {"a": [1]}


@worlds
@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [(None, 60), (5, 5), ("2m", 120), (timedelta(hours=1), 3600), (0.5, 0.5)],
    ids=str,
)
def test_a_value_lives_as_long_as_it_is_told(
    world: World, clock: FakeClock, ttl: Any, seconds: float
) -> None:
    hand = Hand(MemoryCacheBackend(default_ttl=60, clock=clock.clock), world)
    hand.set("k", "v", ttl=ttl)
    clock.advance(seconds - 0.25)
    assert hand.get("k") == "v"
    clock.advance(0.25)
    assert hand.get("k") is None


@worlds
def test_forever_is_for_ever(world: World, clock: FakeClock) -> None:
    hand = Hand(MemoryCacheBackend(clock=clock.clock), world)
    hand.set("k", "v", FOREVER)
    clock.advance(1e12)
    assert hand.get("k") == "v"
    always = Hand(MemoryCacheBackend(default_ttl=None, clock=clock.clock), world)
    always.set("k", "v")
    clock.advance(1e12)
    assert always.get("k") == "v"


@worlds
def test_no_time_at_all_forgets(world: World) -> None:
    hand = Hand(MemoryCacheBackend(), world)
    hand.set("k", "old")
    assert hand.set("k", "new", 0) is False
    assert hand.get("k") is None


@worlds
def test_what_is_no_time_to_live_is_an_error(world: World) -> None:
    hand = Hand(MemoryCacheBackend(), world)
    with pytest.raises(ConfigurationError, match="ttl='soon'"):
        hand.set("k", "v", "soon")
    with pytest.raises(ConfigurationError):
        MemoryCacheBackend(default_ttl=-1)
    with pytest.raises(ConfigurationError):
        MemoryCacheBackend(max_size=0)


@worlds
def test_clear_forgets_everything_set_by_hand(world: World) -> None:
    backend = MemoryCacheBackend()
    hand = Hand(backend, world)
    ask = llm_cached(backend=backend)(lambda text: text)
    ask("hi")
    for key in "abc":
        hand.set(key, key)
    hand.clear()
    assert [hand.get(key) for key in "abc"] == [None] * 3
    assert ask.cache.contains("hi")


@worlds
def test_the_numbers_of_a_memory_backend(world: World) -> None:
    hand = Hand(MemoryCacheBackend(max_size=2), world)
    assert hand.backend.get_stats() == {
        "backend": "memory",
        "size": 0,
        "max_size": 2,
        "hits": 0,
        "misses": 0,
        "hit_rate": 0.0,
    }
    for key in "abc":
        hand.set(key, key)
    found = [hand.get(key) for key in "abc"] + [hand.get("c")]
    assert found == [None, "b", "c", "c"]
    stats = hand.backend.get_stats()
    assert stats == stats | {"size": 2, "hits": 3, "misses": 1, "hit_rate": 0.75}


@worlds
@pytest.mark.parametrize("key", [5, None, b"key", ["a"]], ids=repr)
def test_a_key_is_a_text(world: World, key: Any) -> None:
    hand = Hand(MemoryCacheBackend(), world)
    for use in (lambda: hand.get(key), lambda: hand.set(key, 1), lambda: hand.delete(key)):
        with pytest.raises(InvalidKey, match="a key is a text") as refusal:
            use()
        assert isinstance(refusal.value, TypeError)
        assert isinstance(refusal.value, LLMCacheError)


@given(st.lists(st.text(st.characters(exclude_categories=[])), unique=True, max_size=20))
def test_any_texts_are_keys_of_their_own(keys: list[str]) -> None:
    backend = MemoryCacheBackend()
    for place, key in enumerate(keys):
        assert backend.set(key, place)
    assert [backend.get(key) for key in keys] == list(range(len(keys)))


@worlds
def test_what_would_not_come_back_is_not_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hand = Hand(MemoryCacheBackend(max_value_bytes=100), world)
    hand.set("k", "old")
    assert hand.set("k", object()) is False
    assert hand.get("k") is None
    hand.set("k", "old")
    assert hand.set("k", "x" * 1000) is False
    assert hand.get("k") is None
    hand.set("k", object())
    assert len(caplog.records) == 2


@worlds
def test_a_spoilt_entry_is_a_miss(world: World) -> None:
    backend = MemoryCacheBackend()
    hand = Hand(backend, world)
    hand.set("k", "v")
    [key] = backend.store._entries  # type: ignore[attr-defined]
    backend.store.set(key, b"spoilt", 60.0)
    assert hand.get("k", "default") == "default"
    assert backend.get_stats()["misses"] == 1


class BrokenStore(MemoryStore):
    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError("hunter2")

    get = set = delete = clear = usage = close = _fail

    async def _afail(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()

    aget = aset = adelete = aclear = _afail


@worlds
def test_a_store_that_fails_raises_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    backend = StoreBackend(BrokenStore())
    hand = Hand(backend, world)
    assert hand.set("k", "v") is False
    assert hand.get("k", "default") == "default"
    assert hand.delete("k") is False
    hand.clear()
    assert backend.get_stats()["size"] is None
    assert len(caplog.records) == 1
    assert "hunter2" not in caplog.text


@worlds
def test_decorated_functions_use_its_store(world: World) -> None:
    backend = MemoryCacheBackend()
    calls: list[str] = []

    def ask(text: str) -> str:
        calls.append(text)
        return text

    ask = world.cached(ask, backend=backend, name="ask")
    assert [world.run(ask("hi")) for _ in range(2)] == ["hi", "hi"]
    assert (len(calls), ask.cache.stats().size) == (1, 1)
    assert backend.get_stats()["size"] == 0


@worlds
def test_a_backend_of_ones_own_keeps_answers(world: World) -> None:
    shelf = Shelf()
    calls: list[str] = []

    def ask(text: str) -> Answer:
        calls.append(text)
        return Answer(text=text)

    ask = world.cached(ask, backend=shelf, name="ask", ttl=None)
    assert [world.run(ask("hi")) for _ in range(3)] == [Answer(text="hi")] * 3
    assert len(calls) == 1
    assert shelf.ttls == [FOREVER]
    assert world.run(ask.cache.contains("hi"))
    assert world.run(ask.cache.invalidate("hi"))
    world.run(ask("hi"))
    world.run(ask.cache.clear())
    assert shelf.held == {}
    short = world.cached(lambda text: text, backend=shelf, name="short", ttl=5)
    world.run(short("hi"))
    assert shelf.ttls[-1] == 5.0


@worlds
@pytest.mark.parametrize("junk", ["no base64!", 5, None, ["a"], "aGk="], ids=repr)
def test_what_a_backend_of_ones_own_makes_up_is_no_answer(world: World, junk: Any) -> None:
    shelf = Shelf()
    ask = world.cached(lambda text: text, backend=shelf, name="ask")
    world.run(ask("hi"))
    for key in shelf.held:
        shelf.held[key] = json.dumps(junk)
    assert world.run(ask("hi")) == "hi"
    assert ask.cache.stats().misses == 2


def test_a_subclass_that_steps_in_between_is_asked() -> None:
    class Loud(MemoryCacheBackend):
        asked: list[str] = []

        def get(self, key: str, default: Any = None) -> Any:
            self.asked.append(key)
            return super().get(key, default)

    class Quiet(MemoryCacheBackend):
        """Changes nothing."""

    loud = Loud()
    ask = llm_cached(backend=loud, name="ask")(lambda text: text)
    assert (ask("hi"), ask("hi")) == ("hi", "hi")
    assert len(loud.asked) == 2
    assert isinstance(loud.store, BackendStore)
    assert isinstance(Quiet().store, MemoryStore)


def test_one_backend_is_one_store() -> None:
    shelf = Shelf()
    assert shelf.store is shelf.store


def test_every_backend_closes() -> None:
    shelf = Shelf()
    with shelf as entered:
        assert entered is shelf
    shelf.store.close()

    async def scenario() -> None:
        async with shelf:
            pass
        await shelf.store.aclose()

    asyncio.run(scenario())
    assert shelf.closed == 4
    with MemoryCacheBackend() as memory:
        memory.set("k", "v")
    assert memory.get("k") == "v"
    asyncio.run(memory.aclose())


def test_awaitable_methods_need_not_be_written() -> None:
    shelf = Hand(Shelf(), World("async"))
    shelf.set("k", [1])
    assert shelf.get("k") == [1]
    assert shelf.get("other", "default") == "default"
    assert shelf.delete("k") is True
    shelf.clear()


def test_many_threads_get_what_was_set() -> None:
    backend = MemoryCacheBackend(max_size=100)

    def work(thread: int) -> None:
        for turn in range(200):
            key = f"{thread} {turn % 7}"
            backend.set(key, [key, turn])
            found = backend.get(key, [key])
            assert found[0] == key

    in_threads(work)
    stats = backend.get_stats()
    assert stats["hits"] + stats["misses"] == 8 * 200
    assert stats["size"] == 56


def test_generated_keys_are_keys() -> None:
    backend = MemoryCacheBackend()
    key = generate_cache_key({"model": "m", "messages": []})
    backend.set(key, "answer")
    assert backend.get(generate_cache_key({"messages": [], "model": "m"})) == "answer"


@worlds
def test_values_in_a_file_outlive_their_backend(world: World, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "answers.db"
    with SQLiteCacheBackend(path, 100, 10**6, 60, timeout=30.0) as first:
        assert Hand(first, world).set("k", Answer(text="hi")) is True
        assert first.get_stats() == {
            "backend": "sqlite",
            "size": 1,
            "max_size": 100,
            "hits": 0,
            "misses": 0,
            "hit_rate": 0.0,
        }
    with SQLiteCacheBackend(path, timeout=30.0) as second:
        assert Hand(second, world).get("k") == Answer(text="hi")
        ask = world.cached(lambda text: text, backend=second, name="ask")
        assert [world.run(ask("hi")) for _ in range(2)] == ["hi", "hi"]
        assert ask.cache.stats().hits == 1


def test_making_a_backend_of_a_file_makes_no_file(tmp_path: Path) -> None:
    SQLiteCacheBackend(tmp_path / "answers.db")
    assert list(tmp_path.iterdir()) == []
