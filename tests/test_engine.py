from __future__ import annotations

import gc
import logging
from unittest.mock import Mock

import pytest
from twins import worlds

import llmcache
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore
from llmcache.engine import Engine
from llmcache.policy import Clock


class Broken(MemoryStore):
    """A store of which some methods fail."""

    def __init__(self, *methods):
        super().__init__()
        for method in methods:
            setattr(self, method, self.fail)
            setattr(self, f"a{method}", self.afail)

    def __llmcache_key__(self):
        return "broken"

    def fail(self, *args):
        raise ConnectionError("redis://:hunter2@host")

    async def afail(self, *args):
        self.fail()


@worlds
@pytest.mark.parametrize("method", ["get", "set"])
def test_a_store_that_fails_breaks_no_call(world, method, caplog):
    calls = []

    def ask(text):
        calls.append(text)
        return text

    ask = world.cached(ask, backend=Broken(method))
    assert [world.run(ask("hi")) for _ in range(3)] == ["hi"] * 3
    assert len(calls) == 3
    assert ask.cache.stats().errors == 3
    assert len(caplog.records) == 1
    assert "ConnectionError" in caplog.text
    assert "hunter2" not in caplog.text


@worlds
@pytest.mark.parametrize("method", ["get", "set"])
def test_a_store_that_fails_is_seen_when_strict(world, method):
    ask = world.cached(lambda text: text, backend=Broken(method), strict=True)
    with pytest.raises(ConnectionError):
        world.run(ask("hi"))


@worlds
@pytest.mark.parametrize(
    ("method", "of_store", "work"),
    [
        ("contains", "get", "look anything up"),
        ("invalidate", "delete", "forget an answer"),
        ("clear", "clear", "forget all answers"),
    ],
)
def test_who_asks_by_hand_is_told_what_the_store_cannot_do(world, method, of_store, work):
    ask = world.cached(lambda text: text, backend=Broken(of_store))
    arguments = () if method == "clear" else ("hi",)
    with pytest.raises(llmcache.StoreUnavailable, match=f"the Broken could not {work}") as told:
        world.run(getattr(ask.cache, method)(*arguments))
    assert "ConnectionError" in str(told.value)
    assert "hunter2" not in str(told.value)


@worlds
def test_what_a_store_says_itself_is_told_as_it_is(world):
    error = llmcache.StoreUnavailable("the node is away")
    store = Broken("delete")
    store.fail = Mock(side_effect=error)
    store.delete = store.fail
    ask = world.cached(lambda text: text, backend=store)
    with pytest.raises(llmcache.StoreUnavailable) as told:
        world.run(ask.cache.invalidate("hi"))
    assert told.value is error


@worlds
def test_an_entry_that_is_spoilt_is_a_miss_and_is_removed(world):
    store = MemoryStore()
    calls = []

    def ask(text):
        calls.append(text)
        return object if text == "odd" else text

    ask = world.cached(ask, backend=store, name="ask")
    world.run(ask("hi"))
    key = next(iter(store._entries))
    store.set(key, b"spoilt" * 50, 60.0)
    assert world.run(ask.cache.contains("hi")) is False
    assert world.run(ask("hi")) == "hi"
    assert (len(calls), ask.cache.stats().corrupt) == (2, 1)
    assert world.run(ask("hi")) == "hi"
    assert len(calls) == 2
    odd = f"{key.rpartition(':')[0]}:{ask.cache.key('odd')}"
    store.set(odd, b"spoilt" * 50, 60.0)
    world.run(ask("odd"))
    assert store.get(odd) is None


@worlds
def test_a_spoilt_entry_that_cannot_be_removed_breaks_no_call(world):
    store = Broken("delete")
    ask = world.cached(lambda text: text, backend=store)
    world.run(ask("hi"))
    store._entries[next(iter(store._entries))] = b"spoilt"
    assert world.run(ask("hi")) == "hi"
    assert ask.cache.stats().errors == 1


@worlds
def test_what_grows_while_it_is_written_is_too_large_after_all(world):
    ask = world.cached(lambda n: ['"' * n], max_value_bytes=1000)
    assert world.run(ask(900)) == ['"' * 900]
    assert ask.cache.stats().too_large == 1


@worlds
def test_a_fault_of_the_codec_breaks_no_call(world, caplog, monkeypatch):
    def fault(value):
        raise ZeroDivisionError(value)

    monkeypatch.setattr("llmcache.entries.encode", fault)
    ask = world.cached(lambda text: text)
    assert [world.run(ask("hunter2")) for _ in range(3)] == ["hunter2"] * 3
    assert ask.cache.stats().errors == 3
    assert len(caplog.records) == 1
    assert "the codec failed (ZeroDivisionError)" in caplog.text
    assert "hunter2" not in caplog.text
    strict = world.cached(lambda text: text, strict=True)
    with pytest.raises(ZeroDivisionError):
        world.run(strict("hi"))


def test_a_generator_function_is_not_counted_while_the_cache_is_off():
    @llm_cached
    def tokens(text):
        yield from text

    with llmcache.configure(enabled=False):
        assert list(tokens("ab")) == ["a", "b"]
    assert tokens.cache.stats().calls == 0


def test_the_key_of_an_argument_without_one_names_the_function():
    @llm_cached
    def ask(text):
        return text

    with pytest.raises(llmcache.UncacheableArgument, match=r"ask: text\[0\] "):
        ask.cache.key([object()])


def test_a_store_that_cannot_count_makes_the_numbers_unknown():
    ask = llm_cached(backend=Broken("usage"))(lambda text: text)
    ask("hi")
    assert ask.cache.stats().size is None
    assert llmcache.stats().size is None
    assert ask.cache_info().currsize is None


def test_functions_that_configure_brings_together_must_agree():
    store = MemoryStore()
    first = llm_cached(name="ask", key=lambda text: text[0])(lambda text: "first")
    second = llm_cached(name="ask", key=lambda text: text[:1], backend=store)(lambda text: "second")
    with llmcache.configure(backend=store):
        assert (second("hi"), first("hi"), first("hi")) == ("second", "first", "first")
    assert first.cache.stats().uncacheable >= 1 or second.cache.stats().uncacheable >= 1


def test_ignoring_self_leaves_the_object_out():
    class Bot:
        def __init__(self):
            self.lock = object()

        @llm_cached(ignore=("self",), strict=True)
        def ask(self, text):
            return text

    assert (Bot().ask("hi"), Bot().ask("hi")) == ("hi", "hi")
    assert Bot.ask.cache.stats().hits == 1


def test_a_function_that_is_gone_leaves_no_engine_behind():
    def make():
        return llm_cached(lambda text: text)

    make()("hi")
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Engine and thing.name == "x"]
    assert llmcache.stats().misses == 1


def test_only_warnings_are_logged(caplog):
    caplog.set_level(logging.DEBUG)
    ask = llm_cached(lambda text: {"answer": text})
    ask("a secret"), ask("a secret")
    assert caplog.text == ""


def test_a_builtin_function_can_be_decorated():
    length = llm_cached(ignore=())(len)
    assert (length("abc"), length("abc")) == (3, 3)
    assert length.cache.stats().hits == 1


def test_the_clock_is_a_value():
    assert Clock() == Clock()
