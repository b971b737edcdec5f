"""The classes of old: a manager that does what its config says, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from stand_ins import FakeClock
from test_cache_backend import Shelf
from twins import World, worlds

import llmcache
from llmcache import (
    FOREVER,
    CacheConfig,
    CacheManager,
    ConfigurationError,
    MemoryCacheBackend,
    MissingExtra,
    llm_cached,
)
from llmcache.backends.memory import MemoryStore
from llmcache.process import Process


def call(world: World, manager: CacheManager, name: str, *args: Any, **kwargs: Any) -> Any:
    method = getattr(manager, ("a" if world.is_async else "") + name)
    return world.run(method(*args, **kwargs))


def test_the_parameters_have_their_old_order() -> None:
    config = CacheConfig(True, "memory", 60, 5, "redis://:hunter2@host", "p:")
    assert config == CacheConfig(
        enabled=True,
        backend="memory",
        ttl=60,
        max_size=5,
        redis_url="redis://:hunter2@host",
        redis_prefix="p:",
    )
    assert "hunter2" not in repr(config)
    defaults = CacheConfig()
    assert (defaults.enabled, defaults.backend, defaults.ttl) == (False, "memory", 3600)
    assert (defaults.max_size, defaults.redis_url, defaults.redis_prefix) == (
        1000,
        None,
        "llm_cache:",
    )
    with pytest.raises(FrozenInstanceError):
        defaults.enabled = True  # type: ignore[misc]
    parameters = list(inspect.signature(MemoryCacheBackend).parameters.values())
    assert [(p.name, p.default) for p in parameters[:2]] == [
        ("max_size", 1000),
        ("default_ttl", 3600),
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])


@worlds
@pytest.mark.parametrize("config", [None, CacheConfig(), CacheConfig(backend="nowhere")], ids=repr)
def test_what_is_not_enabled_keeps_nothing(world: World, config: CacheConfig | None) -> None:
    manager = CacheManager(config)
    assert manager.enabled is False
    assert call(world, manager, "set", "k", "v") is False
    assert call(world, manager, "get", "k") is None
    assert call(world, manager, "get", "k", "default") == "default"
    assert call(world, manager, "delete", "k") is False
    call(world, manager, "clear")
    call(world, manager, "close")
    assert manager.get_stats() == {"enabled": False}


@worlds
def test_what_is_enabled_keeps_values(world: World) -> None:
    manager = CacheManager(CacheConfig(enabled=True, ttl=60, max_size=2))
    assert manager.enabled is True
    assert call(world, manager, "set", "k", None) is True
    missing = object()
    assert call(world, manager, "get", "k", missing) is None
    assert call(world, manager, "get", "other", missing) is missing
    assert call(world, manager, "delete", "k") is True
    for key in "abc":
        call(world, manager, "set", key, key)
    assert manager.get_stats() == {
        "backend": "memory",
        "size": 2,
        "max_size": 2,
        "hits": 1,
        "misses": 1,
        "hit_rate": 0.5,
        "enabled": True,
        "ttl": 60,
    }
    call(world, manager, "clear")
    assert manager.get_stats()["size"] == 0


@worlds
@pytest.mark.parametrize(
    ("config_ttl", "ttl", "seen"),
    [(60, None, 60), (60, 5, 5), (60, FOREVER, FOREVER), (None, None, FOREVER), ("1m", None, "1m")],
)
def test_the_config_says_how_long(world: World, config_ttl: Any, ttl: Any, seen: Any) -> None:
    shelf = Shelf()
    manager = CacheManager(CacheConfig(enabled=True, backend=shelf, ttl=config_ttl))
    call(world, manager, "set", "k", "v", ttl)
    assert shelf.ttls == [seen]
    assert call(world, manager, "get", "k") == "v"
    assert manager.get_stats() == {"size": 1, "enabled": True, "ttl": config_ttl}


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"backend": "nowhere"}, ConfigurationError, "'nowhere' is no store"),
        ({"backend": "redis"}, ConfigurationError, "needs redis_url="),
        ({"backend": "redis", "redis_url": "http://:hunter2@h"}, ConfigurationError, "no URL of"),
        ({"backend": "redis", "redis_url": "redis://h/hunter2"}, ConfigurationError, "takes redis"),
        ({"backend": 5}, ConfigurationError, "a int is no store"),
        ({"ttl": "soon"}, ConfigurationError, "ttl='soon'"),
        ({"max_size": 0}, ConfigurationError, "max_size=0"),
    ],
)
def test_what_cannot_be_meant_is_an_error(
    options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    config = CacheConfig(enabled=True, **options)
    for use in (lambda: CacheManager(config), lambda: llm_cached(config=config)):
        with pytest.raises(error, match=reason) as refusal:
            use()
        assert "hunter2" not in str(refusal.value)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(MissingExtra, ImportError)


def test_a_store_that_is_named_is_shared_with_decorated_functions(process: Process) -> None:
    manager = CacheManager(CacheConfig(enabled=True, backend="memory://shared"))
    manager.set("k", "v")
    ask = llm_cached(backend="memory://shared", name="ask")(lambda text: text)
    ask("hi")
    [store] = process.stores()
    assert isinstance(store, MemoryStore)
    assert len(store._entries) == 2
    assert manager.get("k") == "v"
    assert manager.get_stats()["backend"] == "memory"


def test_a_manager_closes_its_backend() -> None:
    shelf = Shelf()
    with CacheManager(CacheConfig(enabled=True, backend=shelf)) as manager:
        manager.set("k", "v")

    async def scenario() -> None:
        async with manager:
            pass

    asyncio.run(scenario())
    assert shelf.closed == 2


class Closed(MemoryStore):
    closed = 0

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.close()


def test_the_module_closes_the_stores_that_it_opened(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmcache.process.open_store", lambda backend, given: Closed())
    given = Closed()
    functions = [
        llm_cached(lambda text: text),
        llm_cached(name="named")(lambda text: text),
        llm_cached(backend="memory://")(lambda text: text),
        llm_cached(backend=given)(lambda text: text),
    ]
    for function in functions:
        function("hi")
    with contextlib.closing(llmcache):
        pass
    asyncio.run(llmcache.aclose())
    assert [store.closed for store in process.stores()] == [2, 2, 2]  # type: ignore[attr-defined]
    assert given.closed == 0


@worlds
def test_a_decorator_takes_a_config(world: World, clock: FakeClock) -> None:
    config = CacheConfig(enabled=True, ttl=5, max_size=2)
    calls: list[str] = []

    def ask(text: str) -> str:
        calls.append(text)
        return text

    with llmcache.configure(clock=clock.clock, ttl=1000, max_size=50):
        ask = world.cached(ask, config=config, name="ask")
        world.run(ask("hi"))
        clock.advance(4)
        world.run(ask("hi"))
        clock.advance(1)
        world.run(ask("hi"))
        assert len(calls) == 2
        for text in "abc":
            world.run(ask(text))
        assert ask.cache.stats().size == 2
        longer = world.cached(lambda text: text, config=config, ttl=50, name="longer")
        world.run(longer("hi"))
        clock.advance(40)
        assert world.run(longer.cache.contains("hi"))


@worlds
def test_a_config_that_is_not_enabled_warns_once_and_caches_nothing(world: World) -> None:
    calls: list[str] = []

    def ask(text: str) -> str:
        calls.append(text)
        return text

    with pytest.warns(UserWarning, match="config= is not enabled") as warned:
        ask = world.cached(ask, config=CacheConfig(), name="ask")
    assert [world.run(ask("hi")) for _ in range(2)] == ["hi", "hi"]
    assert len(calls) == 2
    assert len(warned) == 1
    assert warned[0].filename.endswith("twins.py")
    assert ask.cache.stats().calls == 0


def test_a_config_is_a_config() -> None:
    with pytest.raises(ConfigurationError, match="config: a dict is no CacheConfig"):
        llm_cached(config={"enabled": True})  # type: ignore[call-overload]
