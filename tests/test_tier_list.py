"""``backend=[…]``: which stores a list means, whose they are, and what is wrong with a bad one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_ins import FakeClock
from twins import World, worlds

import llmcache
from llmcache import (
    CacheBackend,
    CacheConfig,
    CacheManager,
    ConfigurationError,
    MemoryCacheBackend,
    TieredCacheBackend,
    configure,
    llm_cached,
    register_backend,
)
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore
from llmcache.backends.sqlite import SQLiteStore
from llmcache.policy import DEFAULT_TIER_TTL
from llmcache.process import Process
from llmcache.tiers import TieredStore


class Dict(CacheBackend):
    """A cache of somebody's own."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any, ttl: Any = None) -> None:
        self.values[key] = value

    def delete(self, key: str) -> bool:
        return self.values.pop(key, None) is not None

    def clear(self) -> None:
        self.values.clear()

    def get_stats(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield f"sqlite:///{tmp_path}/answers.db"
    llmcache.close()


def store_of(function: Any) -> TieredStore:
    function("hi")
    place = function._self_engine.place()
    assert isinstance(place[0], TieredStore)
    return place[0]


def decorated(backend: Any, **options: Any) -> Any:
    def ask(text: str) -> str:
        return text.upper()

    return llm_cached(backend=backend, name=options.pop("name", "ask"), **options)(ask)


@worlds
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_is_one_store(world: World, url: str, kind: type) -> None:
    calls: list[str] = []
    ask = world.cached(lambda text: calls.append(text), backend=kind(["memory", url]), name="ask")
    for _ in range(2):
        assert world.run(ask("hi")) is None
    assert calls == ["hi"]
    assert ask.cache.stats().size == 1


def test_stores_and_backends_can_be_tiers() -> None:
    theirs, memory = Dict(), MemoryCacheBackend()
    store = store_of(decorated([MemoryStore(), memory, theirs]))
    assert store.copies[1].memory is memory.store
    assert len(theirs.values) == 1


def test_what_is_far_away_is_shared_and_memory_is_not(url: str, process: Process) -> None:
    backend = ["memory", url]
    one, other = decorated(backend, name="one"), decorated(backend, name="other")
    alone = decorated(url, name="alone")
    stores = [store_of(one), store_of(other)]
    assert stores[0] is not stores[1]
    assert stores[0].copies[0].memory is not stores[1].copies[0].memory
    alone("hi")
    assert {id(store._last) for store in stores} == {id(alone._self_engine.place()[0])}
    again = decorated(list(backend), name="one")
    assert store_of(again) is stores[0]


def test_a_list_that_names_no_private_memory_is_shared(url: str) -> None:
    one = store_of(decorated(["memory://", url], name="one"))
    assert store_of(decorated(["memory://", url], name="other")) is one
    assert store_of(decorated(["memory://?ttl=9", url], name="third")) is not one
    alone = decorated("memory://", name="alone")
    alone("hi")
    assert alone._self_engine.place()[0] is not one.copies[0].memory


def test_functions_of_one_name_must_agree_in_tiers_too(url: str) -> None:
    def other(prompt: str) -> str:
        return prompt

    first = decorated(["memory", url])
    with pytest.raises(ConfigurationError, match="name='ask' is another function's"):
        llm_cached(backend=["memory", url], name="ask")(other)
    llm_cached(backend=["memory://", url], name="ask")(other)
    assert first("hi") == "HI"


def test_urls_say_what_each_tier_is(url: str) -> None:
    ask = decorated(["memory://?ttl=2&max_size=7&max_bytes=500", f"{url}?max_size=9&ttl=1h"])
    store = store_of(ask)
    [copies] = store.copies
    assert (copies.ttl, copies.memory.max_size, copies.memory.max_bytes) == (2.0, 7, 500)
    assert store.max_size == 9
    assert ask.cache_info().maxsize == 9
    assert ask._self_engine._runtime.policy.ttl == 3600
    assert store_of(decorated(["memory", url])).copies[0].ttl == DEFAULT_TIER_TTL


def test_the_last_tier_says_what_holds_for_entries(url: str) -> None:
    ask = decorated(["memory", f"{url}?ttl=none&max_value_bytes=77"])
    store_of(ask)
    assert ask._self_engine._runtime.policy.ttl == float("inf")
    assert ask._self_engine._runtime.policy.max_value_bytes == 77


def test_bounds_are_those_of_the_first_tier(url: str) -> None:
    store = store_of(decorated(["memory", url], max_size=5, max_bytes=None))
    assert store.copies[0].memory.max_size == 5
    assert store.max_size == llmcache.policy.DEFAULT_FILE_SIZE
    below = store_of(decorated([f"{url}?prefix=p", "memory"], max_size=6))
    assert (below._stores[0].max_size, below.max_size) == (6, 1000)  # type: ignore[attr-defined]


def test_configuring_a_list(url: str) -> None:
    ask = llm_cached(name="ask")(lambda text: text)
    with configure(backend=["memory", url]):
        assert isinstance(store_of(ask), TieredStore)
    ask("hi")
    assert isinstance(ask._self_engine.place()[0], MemoryStore)


def test_what_cannot_be_told_apart_stays_in_memory(url: str) -> None:
    ask = llm_cached(backend=["memory", url])(eval("lambda text: text"))
    ask("hi")
    assert isinstance(ask._self_engine.place()[0], MemoryStore)


def test_the_clock_is_that_of_all(url: str, clock: FakeClock) -> None:
    with configure(clock=clock.clock):
        ask = decorated(["memory://?ttl=60", url], ttl=10)
        store = store_of(ask)
        assert store.usage(ask._self_engine.place()[1]).entries == 1
        clock.advance(10)
        assert store.usage(ask._self_engine.place()[1]).entries == 0
        assert not ask.cache.contains("hi")


TWICE = MemoryStore()


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ([], "a list has two stores or more, the fastest first; this one has 0"),
        (["memory"], "a list has two stores or more, the fastest first; this one has 1"),
        (["memory", 7], r"backend\[1\]: a int is no store"),
        (["memory", None], r"backend\[1\]: a NoneType is no store"),
        (["memory", MemoryStore], r"backend\[1\]: a \w+ is no store"),
        (["memory", ["memory://", "sqlite"]], r"backend\[1\]: a list in a list"),
        (["nowhere://", "memory"], r"backend\[0\]: 'nowhere' is no store"),
        (["memory", "no store"], r"backend\[1\]: 'no store' is no store"),
        (["memory", "memory"], r"backend\[1\]: it is there twice"),
        ([TWICE, "sqlite", TWICE], r"backend\[2\]: it is there twice"),
        (["memory://?max_size=x", "sqlite"], r"backend\[0\]: max_size of memory://…"),
        (["memory://?size=7", "sqlite"], r"backend\[0\]: memory://… has no option 'size'"),
        (["memory://?ttl=soon", "sqlite"], r"backend\[0\]: ttl of the URL cannot be meant"),
        (["memory://?ttl=0", "sqlite"], r"backend\[0\]: the ttl of a tier cannot be 0"),
        (["memory", "sqlite://?ttl=soon"], "ttl of the URL cannot be meant"),
        (["memory://?compress=zlib", "sqlite"], r"backend\[0\]: compress is for the last tier"),
        (["memory://?max_value_bytes=9", "sqlite"], r"max_value_bytes is for the last tier"),
        (["memory", "redis://u:hunter2@h:port"], r"backend\[1\]: redis://… takes"),
        (
            ["memory", TieredStore(MemoryStore(), MemoryStore())],
            r"backend\[1\]: it has tiers of its own",
        ),
    ],
)
def test_a_bad_list_is_refused_and_says_where(backend: Any, says: str) -> None:
    for refuse in (
        lambda: llm_cached(backend=backend),
        lambda: configure(backend=backend),
        lambda: CacheConfig(enabled=True, backend=backend).settings(),
        lambda: CacheManager(CacheConfig(enabled=True, backend=backend)),
    ):
        with pytest.raises(ConfigurationError, match=says) as refusal:
            refuse()
        assert "hunter2" not in str(refusal.value)


def test_a_tier_may_be_somebody_elses_store(clock: FakeClock) -> None:
    made: list[Store] = []

    def factory(address: str, *, clock: Any) -> Store:
        made.append(MemoryStore(clock=clock))
        return made[-1]

    register_backend("theirs", factory)
    store = store_of(decorated(["memory", "theirs://place"]))
    assert store._last is made[-1]


@worlds
def test_values_by_hand(world: World, url: str) -> None:
    def run(result: Any) -> Any:
        return world.run(result)

    with TieredCacheBackend("memory", url, default_ttl="1h") as cache:
        prefix = "a" if world.is_async else ""
        keep, find, forget = (getattr(cache, prefix + name) for name in ("set", "get", "delete"))
        assert run(keep("greeting", ["hello"])) is True
        assert run(find("greeting")) == ["hello"]
        [copies] = cache.store.copies  # type: ignore[attr-defined]
        copies.memory.empty()
        for _ in range(2):
            assert run(find("greeting")) == ["hello"]
        assert copies.memory.usage("values").entries == 1
        assert cache.get_stats() == {
            "backend": "tiered",
            "size": 1,
            "hits": 3,
            "misses": 0,
            "hit_rate": 1.0,
        }
        assert run(forget("greeting")) is True
        assert run(find("greeting")) is None


def test_what_a_backend_names_is_its_own(url: str) -> None:
    one, other = TieredCacheBackend("memory", url), TieredCacheBackend("memory", url)
    one.set("a", 1)
    assert other.get("a") == 1
    assert one.store._last is not other.store._last  # type: ignore[attr-defined]
    one.close()
    asyncio.run(other.aclose())


def test_a_backend_is_a_backend(clock: FakeClock) -> None:
    lower = MemoryCacheBackend(clock=clock.clock)
    cache = TieredCacheBackend("memory", lower, clock=clock.clock)
    ask = decorated(cache)
    ask("hi")
    cache.set("a", 1, ttl=60)
    clock.advance(59)
    assert (cache.get("a"), lower.get("a"), ask("hi")) == (1, 1, "HI")
    clock.advance(1)
    assert cache.get("a") is None
    assert lower.get("a") is None


@pytest.mark.parametrize("backends", [(), ("memory",), ("memory", 7)])
def test_a_bad_backend_is_refused(backends: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="backend"):
        TieredCacheBackend(*backends)


def test_a_manager_of_tiers(url: str) -> None:
    with CacheManager(CacheConfig(enabled=True, backend=["memory", url])) as cache:
        assert cache.set("a", 1)
        assert cache.get("a") == 1
        assert cache.get_stats()["backend"] == "tiered"


def test_a_config_says_where_redis_is() -> None:
    config = CacheConfig(
        enabled=True, backend=["memory", "redis"], redis_url="redis://here:1", redis_prefix="p:"
    )
    backend = config.settings().backend
    assert backend == ("memory", "redis://here:1?prefix=p%3A")
    with pytest.raises(ConfigurationError, match="needs redis_url="):
        CacheConfig(enabled=True, backend=["memory", "redis"]).settings()


def test_decorating_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    decorated(["memory", f"sqlite:///{path}", "redis://127.0.0.1:1"])
    TieredCacheBackend("memory", f"sqlite:///{path}", "redis://127.0.0.1:1")
    assert not path.exists()


def test_a_server_that_is_not_there_stops_no_other_tier(url: str) -> None:
    """Memory over a file over a server that refuses: only the last of them fails."""
    calls = []

    def ask(text: str) -> str:
        calls.append(text)
        return text

    cached = llm_cached(backend=["memory", url, "redis://127.0.0.1:1?timeout=1"], name="ask")(ask)
    started = time.monotonic()
    for _ in range(5):
        for text in ("one", "two"):
            cached(text)
    assert calls == ["one", "two"]
    assert time.monotonic() - started < 60
    assert cached.cache.stats().hits == 8
    store = cached._self_engine.place()[0]
    assert isinstance(store._stores[1], SQLiteStore)
    assert isinstance(store._last, RedisStore)
